//! What an application keeps with a socket and lets other servers see. Node: `socket.data`.
//!
//! Values are serialized when they are stored, so that they can travel; what stays on this server, connections and
//! channels for example, belongs into [`Extensions`](crate::Extensions).

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{DataError, EncodeError, Map, Value, to_value};

use crate::Socket;

/// The data of one socket: an object whose fields the application sets. Made by [`Socket::data`]. Node: `socket.data`.
///
/// It is what [`RemoteSocket::data`](crate::RemoteSocket::data) shows of this socket. It stays until the disconnect handlers
/// have run; a socket without data pays nothing.
#[derive(Debug, Clone, Copy)]
pub struct SocketData<'a>(pub(crate) &'a Socket);

impl SocketData<'_> {
    /// Sets one field. Node: `socket.data.key = value`.
    ///
    /// # Errors
    /// When `value` cannot be serialized; nothing has changed then.
    pub fn insert(&self, key: &str, value: impl Serialize) -> Result<(), EncodeError> {
        let value = to_value(&value)?;
        drop(self.0.0.data_mut(|data| data.insert(key, value)));
        Ok(())
    }

    /// One field as a `T`; `None` when it is not there or of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        // Cloned, because deserializing runs code of the application.
        let value = self.0.0.look_at_data(|data| data.get(key).cloned())??;
        value.deserialize_into().ok()
    }

    /// Takes one field out. Returns whether it was there.
    pub fn remove(&self, key: &str) -> bool {
        self.0.0.data_mut(|data| data.remove(key)).flatten().is_some()
    }

    /// Replaces all fields by those of a struct or map. Node: `socket.data = value`.
    ///
    /// # Errors
    /// When `value` cannot be serialized, or is no object; nothing has changed then.
    pub fn replace(&self, value: impl Serialize) -> Result<(), EncodeError> {
        let fields = match to_value(&value)? {
            Value::Map(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(serde::ser::Error::custom("the data of a socket is a struct or a map")),
        };
        drop(self.0.0.data_mut(|data| std::mem::replace(data, fields)));
        Ok(())
    }

    /// All fields as a `T`.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        self.value().deserialize_into()
    }

    /// A copy of all fields.
    pub fn value(&self) -> Value {
        Value::Map(self.0.0.look_at_data(Map::clone).unwrap_or_default())
    }
}
