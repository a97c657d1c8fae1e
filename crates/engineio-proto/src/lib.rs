//! Engine.IO on paper: everything that the protocol says, and nothing that needs a socket.
//!
//! Packets, payloads, WebSocket frames, request verification and the session machine live here as plain functions and
//! structs. Nothing in this crate reads a clock, draws a random number, blocks or awaits: time and random bytes are
//! parameters, so a table test reaches every rule. The network half is the `engineio` crate.
//!
//! Where to look: [`Packet`](packet::Packet) and [`payload`] for the codecs, [`ws`] for WebSocket, [`request`] for what a
//! server accepts, [`gate`] for whom it lets in at all, [`Session`](session::Session) for the life of one client, [`client::Session`] for the same seen from
//! the other side, [`Limits`] for every bound.

pub mod batch;
pub mod client;
pub mod cors;
pub mod forward;
pub mod frame;
pub mod gate;
pub mod jsonp;
pub mod lengths;
pub mod limits;
pub mod open;
pub mod origin;
pub mod packet;
pub mod payload;
mod percent;
pub mod proxies;
pub mod rate;
pub mod request;
pub mod session;
pub mod webtransport;
pub mod ws;

pub use batch::{Batch, WeakBatch};
pub use frame::{Frame, HEADROOM};
pub use limits::Limits;

/// The revision of the Engine.IO protocol that a session speaks. It belongs to the session, never to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revision {
    /// Engine.IO 3, spoken by Socket.IO 2.x clients: the client pings.
    V3,
    /// Engine.IO 4, spoken by Socket.IO 3.x and 4.x clients: the server pings.
    V4,
}

/// A way to carry packets between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket (RFC 6455).
    WebSocket,
    /// A bidirectional WebTransport stream.
    WebTransport,
}

impl Transport {
    /// The name on the wire: `polling`, `websocket` or `webtransport`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
            Self::WebTransport => "webtransport",
        }
    }
}

/// One incoming message, borrowed from the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}
