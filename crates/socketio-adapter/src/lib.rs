//! Rooms and the cluster protocol of Socket.IO.
//!
//! A server keeps the sockets of one namespace in a [`Rooms`]: who is there, who is in which room. It is plain data
//! without locks, clock or I/O; whoever shares it between threads puts it behind a lock of its own. What a broadcast is
//! addressed to is a [`Selection`]; [`Rooms::snapshot`] turns it into a [`Snapshot`] of handles that no longer touches
//! the rooms, so nothing is locked while sending.
//!
//! Where to look next: [`rooms`](Rooms) for membership, [`snapshot`](Snapshot) for delivery, [`RoomName`] for names,
//! [`recovery`] for clients that come back, [`cluster`] for many servers.

pub mod cluster;
mod dense;
mod name;
pub mod recovery;
mod rooms;
mod selection;
mod snapshot;

pub use name::{IntoRooms, RoomName, RoomNames};
pub use rooms::{AddError, JoinError, Limits, Removed, RoomEvent, RoomEvents, Rooms};
pub use selection::{BroadcastFlags, BroadcastOptions, Selection};
pub use snapshot::{Recipients, Snapshot};
