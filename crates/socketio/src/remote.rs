//! A socket as the cluster sees it: perhaps on another server.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socketio_adapter::{IntoRooms, RoomName, RoomNames};
use socketio_proto::{DataError, Value};

use crate::{AckFuture, Emitted, Joined, Socket, SocketEmitter};

/// A socket as the cluster sees it, made by `fetch_sockets`. Node: `RemoteSocket`.
///
/// Rooms and data are those of the moment when it was fetched. With the in-memory adapter it is always a socket of this
/// server.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    socket: Socket,
    rooms: RoomNames,
    data: Value,
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
        Self { socket, rooms, data }
    }

    /// The id of the socket.
    pub fn id(&self) -> &RoomName {
        self.socket.id()
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
        RemoteHandshake::of(&self.socket)
    }

    /// The socket itself, if it is one of this server.
    pub fn as_local(&self) -> Option<&Socket> {
        Some(&self.socket)
    }

    /// Sends an event to the socket.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Emitted {
        self.socket.emit(event, args)
    }

    /// Sends an event to the socket and awaits the answer; see [`Socket::emit_with_ack`].
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckFuture<R> {
        self.socket.emit_with_ack(event, args)
    }

    /// How long [`emit_with_ack`](SocketEmitter::emit_with_ack) waits. Node: `timeout`.
    pub fn timeout(&self, timeout: Duration) -> SocketEmitter {
        self.socket.timeout(timeout)
    }

    /// Puts the socket into rooms.
    pub fn join(&self, rooms: impl IntoRooms) -> Joined {
        self.socket.join(rooms)
    }

    /// Takes the socket out of rooms.
    pub fn leave(&self, rooms: impl IntoRooms) -> Joined {
        self.socket.leave(rooms)
    }

    /// Disconnects the socket; with `close` its whole connection.
    pub fn disconnect(&self, close: bool) {
        self.socket.disconnect(close);
    }
}

impl RemoteHandshake {
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
