//! Peers and tools for the tests of the Socket.IO workspace. Never published.
//!
//! * [`RawClient`] speaks Engine.IO over a TCP stream of its own, step by step, and can misbehave at every step.
//! * [`promises`] is a small application whose every event checks something, [`serve`] runs it inside a test, and the
//!   program `promise-server` in a process of its own.
//! * The program `storm` is a crowd of [`RawClient`]s in a process of their own; `soak` is one that stays for a while, with
//!   hostile clients and slow readers in it.
//! * [`broker_faults`] is what a crowd sees when the broker between its servers is hurt, [`Proxy`] a network that falls silent.
//! * [`cluster_world`] is a simulated cluster against a model.
//! * [`contract`] is what every adapter has to do, as tests for any broker.
//! * [`Postgres`] is a database of its own for a test, [`Network`] another machine, on a cable that can be cut.
//! * [`Child`] runs such a program and ends it, also when the test panics.
//!
//! The client builds on the WebSocket and payload codecs of `engineio-proto`, which have vectors and fuzzers of their own.
//! Socket.IO packets it writes and reads by hand, so that a fault of our parser does not hide itself.

pub mod broker_faults;
mod child;
mod client;
pub mod cluster_world;
pub mod contract;
mod endpoint;
#[cfg(doctest)]
mod guide;
mod http;
mod network;
mod packet;
mod postgres;
pub mod promises;
mod proxy;
mod rng;
mod serve;
mod websocket;

pub use child::Child;
pub use client::{Empty, Open, RawClient};
pub use endpoint::Endpoint;
pub use http::{Answer, Http};
pub use network::Network;
pub use packet::{Kind, Packet, event};
pub use postgres::{DatabaseTls, Postgres};
pub use proxy::{Proxy, Upstream};
pub use rng::Rng;
pub use serve::{Running, eventually, serve, within};
pub use websocket::{Message, WebSocket};

use std::io;

/// An error that says what the peer did.
pub(crate) fn unexpected(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}
