//! A socket as the cluster sees it: perhaps on another server.

use serde::Serialize;
use socketio_adapter::{IntoRooms, RoomName, RoomNames};

use crate::{Emitted, Joined, Socket};

/// A socket as the cluster sees it, made by `fetch_sockets`. With the in-memory adapter it is always one of this server.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    socket: Socket,
    rooms: RoomNames,
}

impl RemoteSocket {
    pub(crate) fn local(socket: Socket) -> Self {
        let rooms = socket.rooms();
        Self { socket, rooms }
    }

    /// The id of the socket.
    pub fn id(&self) -> &RoomName {
        self.socket.id()
    }

    /// The rooms it was in when it was fetched, its own id among them.
    pub fn rooms(&self) -> &[RoomName] {
        &self.rooms
    }

    /// The socket itself, if it is one of this server.
    pub fn as_local(&self) -> Option<&Socket> {
        Some(&self.socket)
    }

    /// Sends an event to the socket.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Emitted {
        self.socket.emit(event, args)
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
