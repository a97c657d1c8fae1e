//! Many servers, one system: what the servers of a cluster tell each other.
//!
//! [`Message`] is what is said, [`Machine`] one server's view of one namespace (who else is there, which questions are
//! open), [`wire`] Node's encodings, [`Bus`] what carries messages. All but the bus is plain data without a clock, randomness
//! or I/O; `socketio` puts the parts together.
//!
//! There is one machine for two families of protocols. Sharded Redis, Redis streams and PostgreSQL speak Node's
//! `ClusterMessage`, classic Redis has requests of its own; but both say the same things, so a backend translates to and
//! from [`Message`]. What really differs is how the others are known: by heartbeats, or by a number that the broker tells,
//! with answers that may not name their sender. That is [`Membership`], and the machine holds both.
//!
//! # How a backend is made
//! Implement [`Bus`]:
//! 1. [`Bus::start`] spawns a task that connects, and connects again with back-off whenever the connection is lost. It
//!    tells [`Inbox::health`] each time: after `Up` the server asks again who is there.
//! 2. [`Bus::open`] and [`Bus::shut`] keep the list of namespaces, [`Bus::room_opened`] and [`Bus::room_closed`] that of rooms;
//!    the task subscribes to what they stand for, and to all of it after a reconnection.
//! 3. [`Bus::publish`] encodes, puts the bytes into a queue that is bounded in bytes, and returns; the task writes them.
//!    Messages with [`Message::only_room`] may go to a channel of that room, answers ([`Target::Asker`]) to a channel of one server.
//! 4. What comes in is decoded and handed to [`Inbox::received`], in order; what is not understood goes to
//!    [`Inbox::foreign`]. Nothing that comes in may stop the task.
//! 5. A bus that can address one server implements [`Direct`]: then clients need not come back to the server that they began with.
//! 6. A bus that keeps what was published in one order for all implements [`Sessions`] too, returns [`Published::At`] and hands
//!    offsets to the inbox, those of this server's own messages as well ([`Inbox::placed`]).
//!
//! Then instantiate the contract suite of the testkit for it. [`MemoryBroker`] is the smallest example.

mod bus;
mod emitter;
mod machine;
mod memory;
mod message;
pub mod wire;

pub use bus::{
    BoxFuture, Bus, BusError, Direct, Health, Inbox, Membership, MissedEvent, Published, Replay, Sessions,
    StoredSession, Target,
};
pub use emitter::{Emitter, Publisher};
pub use machine::{ClusterCounts, ClusterOptions, Machine, News, Output, Question, ReplyTo, Task, TooManyRequests};
pub use memory::{MemoryBroker, MemoryBus};
pub use message::{Envelope, Message, RequestId, ServerId, SocketDetails};

#[cfg(test)]
mod tests;
