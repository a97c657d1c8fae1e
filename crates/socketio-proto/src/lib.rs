//! Socket.IO on paper: packets, the JSON and MessagePack parsers and the connection machine, without I/O.
//!
//! This crate does not know Engine.IO. It is fed [`Message`]s, text or binary, and produces [`Chunk`]s of bytes. Nothing
//! here reads a clock, draws a random number, blocks or awaits; time is a parameter, so a table test reaches every rule.
//!
//! Where to look:
//! * [`AnyParser`] encodes packets, [`Decoder`] decodes them; [`Parser`] is the trait for other encodings.
//! * [`Packet`] and [`Args`] are what a decoder yields: arguments stay undecoded until somebody asks for a type.
//! * [`Value`] is the dynamic form of any argument, with binary as a case of its own.
//! * [`Connection`] is the server's side of one client: which namespaces are joined, what closes the connection.
//! * [`ClientConnection`] is the client's side of one server, [`Backoff`] how long to wait before the next attempt.
//! * [`Acks`] remembers which answers are awaited, [`Limits`] holds every bound.

// What the network sends must not be able to panic us.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

mod acks;
mod args;
mod attached;
mod client;
mod connection;
mod de;
mod error;
mod foreign;
mod json;
mod limits;
mod msgpack;
mod packet;
mod parser;
mod read;
mod scan;
mod scratch;
mod ser;
mod value;
mod write;

use smallvec::SmallVec;

pub use acks::{Acks, TooManyAcks};
pub use args::{Args, OwnedArgs, Payload, is_reserved_event};
pub use client::{Backoff, ClientConnection, ClientDecision, namespace_with_query};
pub use connection::{
    Connection, Decision, INVALID_NAMESPACE, JOIN_TIMEOUT, Slot, TOO_MANY_NAMESPACES, TimedOut, is_valid_namespace,
};
pub use error::{CloseKind, DataError, EncodeError, Violation};
pub use foreign::{to_json, to_msgpack};
pub use limits::Limits;
pub use packet::{Packet, PacketKind};
pub use parser::{AnyParser, Decoder, DynChunk, DynDecoder, DynPacket, Parser};
pub use ser::{Spread, spreads};
pub use value::{MAX_VALUE_NODES, Map, Value, to_value};

/// The revision of the Socket.IO protocol that a connection speaks. It follows from the revision of the Engine.IO session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revision {
    /// Socket.IO protocol 4, spoken by 2.x clients over Engine.IO 3: `/` is joined without being asked for, `auth` is a
    /// query behind the name of a namespace, a refusal carries bare data.
    V4,
    /// Socket.IO protocol 5, spoken by 3.x and 4.x clients over Engine.IO 4.
    V5,
}

/// One incoming message, borrowed from the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// One outgoing message: `bytes[start..]`, behind `start` bytes of free space for the layer below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The free space and the message.
    pub bytes: Vec<u8>,
    /// Where the message begins: the headroom that the caller asked for.
    pub start: usize,
    /// Whether this is a binary message; a text message is always UTF-8.
    pub binary: bool,
}

impl Chunk {
    /// The message without the free space.
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// A message of `data` behind `headroom` bytes of free space.
    pub(crate) fn copied(data: &[u8], headroom: usize, binary: bool) -> Self {
        let mut bytes = Vec::with_capacity(headroom + data.len());
        bytes.resize(headroom, 0);
        bytes.extend_from_slice(data);
        Self { bytes, start: headroom, binary }
    }
}

/// One encoded packet: the packet itself, then its attachments in order.
pub type Encoded = SmallVec<[Chunk; 1]>;
