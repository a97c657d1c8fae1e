//! A socket as the cluster sees it: perhaps on another server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socketio_adapter::cluster::SocketDetails;
use socketio_adapter::{IntoRooms, RoomName, RoomNames};
use socketio_proto::{DataError, Map, Value};

use crate::nsp::Nsp;
use crate::{AckFuture, Emitted, Joined, Operators, Socket};

/// A socket as the cluster sees it, made by `fetch_sockets`. Node: `RemoteSocket`.
///
/// Rooms and data are those of the moment when it was fetched. Without an adapter it is always a socket of this server.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    place: Place,
    rooms: RoomNames,
    data: Value,
    timeout: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Place {
    Here(Socket),
    Elsewhere { namespace: Arc<Nsp>, id: RoomName, handshake: Value },
}

/// What [`Operators::fetch`] has found.
#[derive(Debug)]
#[non_exhaustive]
pub struct FetchedSockets {
    /// The sockets, those of this server first.
    pub sockets: Vec<RemoteSocket>,
    /// How many servers have not answered.
    pub missing: usize,
}

/// What a client brought along, in the form in which servers tell each other. Node: `RemoteSocket.handshake`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteHandshake {
    /// The headers, names in lower case; several of one name are joined with `, `.
    pub headers: BTreeMap<String, String>,
    /// The address of the TCP peer; empty where the listener does not tell it.
    pub address: String,
    /// Whether the request carried an `Origin` header.
    pub xdomain: bool,
    /// Whether the connection was opened over TLS.
    pub secure: bool,
    /// When the connection was opened, in milliseconds since 1970.
    pub issued: u64,
    /// The request target: path and query.
    pub url: String,
    /// The parameters of the query, decoded; the last of those that are given several times.
    pub query: BTreeMap<String, String>,
    /// The payload with which the client joined the namespace. No payload is an empty object.
    pub auth: Value,
}

impl RemoteSocket {
    pub(crate) fn local(socket: Socket) -> Self {
        let rooms = socket.rooms();
        let data = socket.data().value();
        Self { place: Place::Here(socket), rooms, data, timeout: None }
    }

    pub(crate) fn elsewhere(namespace: Arc<Nsp>, details: SocketDetails) -> Self {
        let SocketDetails { id, handshake, rooms, data } = details;
        let data = if data.is_null() { Value::Map(Map::new()) } else { data };
        Self { place: Place::Elsewhere { namespace, id, handshake }, rooms, data, timeout: None }
    }

    /// The id of the socket.
    pub fn id(&self) -> &RoomName {
        match &self.place {
            Place::Here(socket) => socket.id(),
            Place::Elsewhere { id, .. } => id,
        }
    }

    /// The rooms it was in when it was fetched, its own id among them.
    pub fn rooms(&self) -> &[RoomName] {
        &self.rooms
    }

    /// Its [`data`](Socket::data) when it was fetched, an object.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Its [`data`](Socket::data) when it was fetched, as a `T`.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn read_data<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        self.data.deserialize_into()
    }

    /// What the client brought along when it connected.
    pub fn handshake(&self) -> RemoteHandshake {
        match &self.place {
            Place::Here(socket) => RemoteHandshake::of(socket),
            Place::Elsewhere { handshake, .. } => RemoteHandshake::told(handshake),
        }
    }

    /// The socket itself, if it is one of this server.
    pub fn as_local(&self) -> Option<&Socket> {
        match &self.place {
            Place::Here(socket) => Some(socket),
            Place::Elsewhere { .. } => None,
        }
    }

    /// Sends an event to the socket. For a socket of another server the event is then on its way; whether the socket is
    /// still there is not known.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Emitted {
        match &self.place {
            Place::Here(socket) => socket.emit(event, args),
            Place::Elsewhere { namespace, id, .. } => {
                Emitted::elsewhere(Operators::new(Arc::clone(namespace)).to(id).emit(event, args).result)
            }
        }
    }

    /// Sends an event to the socket and awaits the answer; see [`Socket::emit_with_ack`].
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckFuture<R> {
        match (&self.place, self.timeout) {
            (Place::Here(socket), None) => socket.emit_with_ack(event, args),
            (Place::Here(socket), Some(timeout)) => socket.timeout(timeout).emit_with_ack(event, args),
            (Place::Elsewhere { namespace, id, .. }, timeout) => {
                let socket = Operators::new(Arc::clone(namespace)).to(id);
                let socket = timeout.into_iter().fold(socket, Operators::timeout);
                AckFuture::elsewhere(socket.emit_with_ack(event, args))
            }
        }
    }

    /// The same socket with another time for [`emit_with_ack`](Self::emit_with_ack) to wait. Node: `timeout`.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Puts the socket into rooms.
    pub fn join(&self, rooms: impl IntoRooms) -> Joined {
        match &self.place {
            Place::Here(socket) => socket.join(rooms),
            Place::Elsewhere { namespace, id, .. } => Operators::new(Arc::clone(namespace)).to(id).sockets_join(rooms),
        }
    }

    /// Takes the socket out of rooms.
    pub fn leave(&self, rooms: impl IntoRooms) -> Joined {
        match &self.place {
            Place::Here(socket) => socket.leave(rooms),
            Place::Elsewhere { namespace, id, .. } => Operators::new(Arc::clone(namespace)).to(id).sockets_leave(rooms),
        }
    }

    /// Disconnects the socket; with `close` its whole connection.
    pub fn disconnect(&self, close: bool) {
        match &self.place {
            Place::Here(socket) => socket.disconnect(close),
            Place::Elsewhere { namespace, id, .. } => {
                Operators::new(Arc::clone(namespace)).to(id).disconnect_sockets(close);
            }
        }
    }
}

impl RemoteHandshake {
    /// What another server tells. Node gives several values of one name as a list.
    fn told(handshake: &Value) -> Self {
        let text = |key: &str| handshake.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| handshake.get(key).and_then(Value::as_bool).unwrap_or_default();
        let joined = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        let pairs = |key: &str| {
            let entries = handshake.get(key).and_then(Value::as_map).map(Map::iter);
            entries.into_iter().flatten().map(|(name, value)| (name.to_owned(), joined(value))).collect()
        };
        Self {
            headers: pairs("headers"),
            address: text("address"),
            xdomain: flag("xdomain"),
            secure: flag("secure"),
            issued: handshake.get("issued").and_then(Value::as_u64).unwrap_or_default(),
            url: text("url"),
            query: pairs("query"),
            auth: handshake.get("auth").cloned().unwrap_or_default(),
        }
    }

    fn of(socket: &Socket) -> Self {
        let handshake = socket.handshake();
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in handshake.headers() {
            let value = String::from_utf8_lossy(value);
            match headers.get_mut(name) {
                Some(before) => {
                    before.push_str(", ");
                    before.push_str(&value);
                }
                None => drop(headers.insert(name.to_owned(), value.into_owned())),
            }
        }
        let issued = handshake.issued().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            headers,
            address: handshake.address().map(|address| address.ip().to_string()).unwrap_or_default(),
            xdomain: handshake.xdomain(),
            secure: handshake.secure(),
            issued: u64::try_from(issued.as_millis()).unwrap_or(u64::MAX),
            url: handshake.url().to_owned(),
            query: handshake.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            auth: handshake.auth().unwrap_or(Value::Null),
        }
    }
}
