//! Whom a broadcast is addressed to, and how it is sent.

use std::time::Duration;

use crate::{IntoRooms, RoomNames};

/// Whom a broadcast is addressed to.
///
/// The members of all `rooms` together, each once; everybody when `rooms` is empty. Members of an `except` room are left
/// out, whichever room selected them. A socket's id is a room name, so both lists address single sockets too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The rooms whose members are addressed. Default: none, which means everybody.
    pub rooms: RoomNames,
    /// The rooms whose members are left out. Default: none.
    pub except: RoomNames,
}

impl Selection {
    /// Everybody.
    pub fn everybody() -> Self {
        Self::default()
    }

    /// Addresses the members of `rooms` too. Node: `to`, `in`.
    #[must_use]
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        self.rooms.extend(rooms.into_rooms());
        self
    }

    /// Whether somebody who is in these rooms is addressed.
    pub fn selects(&self, rooms: &[crate::RoomName]) -> bool {
        let included = self.rooms.is_empty() || rooms.iter().any(|room| self.rooms.contains(room));
        included && !rooms.iter().any(|room| self.except.contains(room))
    }

    /// Leaves the members of `rooms` out. Node: `except`.
    #[must_use]
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        self.except.extend(rooms.into_rooms());
        self
    }
}

/// How a broadcast is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastFlags {
    /// May be dropped for a recipient that cannot take it at once. Default: `false`. Node: `volatile`.
    pub volatile: bool,
    /// Stays on this server instead of going to the whole cluster. Default: `false`. Node: `local`.
    pub local: bool,
    /// May be compressed where the transport can. Default: `true`. Node: `compress`.
    pub compress: bool,
    /// How long to wait for acknowledgements. Default: none given, the server's own default holds. Node: `timeout`.
    pub timeout: Option<Duration>,
}

impl Default for BroadcastFlags {
    fn default() -> Self {
        Self { volatile: false, local: false, compress: true, timeout: None }
    }
}

/// A broadcast without its packet: whom it is addressed to and how it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BroadcastOptions {
    /// Whom it is addressed to.
    pub selection: Selection,
    /// How it is sent.
    pub flags: BroadcastFlags,
}
