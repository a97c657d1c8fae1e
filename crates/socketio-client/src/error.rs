//! What can go wrong, by who has to act on it.

use std::{fmt, sync::Arc};

use engineio::CloseReason;
use socketio_core::{ConnectError, MissingState};
use socketio_proto::EncodeError;

/// Why a namespace is not joined.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The server refuses: its message, and its data. The socket stays out until [`Socket::connect`](crate::Socket::connect).
    #[error("the server refuses the connection: {0}")]
    Refused(ConnectError),
    /// There is no connection to the server.
    #[error("{0}")]
    Transport(Arc<engineio::client::ConnectError>),
    /// The connection broke before the server had answered.
    #[error("the connection was lost: {0}")]
    Lost(DisconnectReason),
    /// The server did not answer the request to join within the timeout.
    #[error("the server does not answer")]
    Timeout,
    /// The application's `auth` failed, or took too long.
    #[error("the credentials could not be had: {0}")]
    Auth(String),
    /// All attempts were used up. Node: `reconnect_failed`.
    #[error("all attempts to connect have failed")]
    GaveUp,
    /// A call of [`blocking`](crate::blocking) inside of an async runtime.
    #[error("{}", crate::blocking::InsideRuntime)]
    InsideRuntime,
    /// This connection has a socket for the namespace already.
    #[error("the namespace is in use on this connection")]
    InUse,
    /// The address or an option makes no sense.
    #[error("{0}")]
    Option(#[from] engineio::client::InvalidClientOption),
    /// A handler asks for state that was not given.
    #[error("{0}")]
    State(#[from] MissingState),
}

/// Why a socket is not connected any more, in Node's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server has put the socket out of the namespace. There is no way back by itself.
    ServerDisconnect,
    /// This side has left.
    ClientDisconnect,
    /// The connection is over. It is made again unless that is switched off.
    Connection(CloseReason),
    /// The application did not take what the server sent: too much was waiting. There is no way back by itself.
    Overflow,
}

impl DisconnectReason {
    /// The reason as Node spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerDisconnect => "io server disconnect",
            Self::ClientDisconnect => "io client disconnect",
            Self::Connection(reason) => reason.as_str(),
            Self::Overflow => "overflow",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The socket has been closed for good.
    #[error("the socket is closed")]
    Closed,
    /// A volatile event was dropped because there is no connection, or too much waits for it already.
    #[error("a volatile event was dropped")]
    Dropped,
    /// Too much waits to be sent, or for a connection.
    #[error("the buffer is full")]
    Full,
    /// The event is larger than what the server takes (`maxPayload`). Over long-polling bytes count as base64.
    #[error("an event of {len} bytes is over the server's limit of {limit}")]
    TooLarge {
        /// The largest of its messages.
        len: usize,
        /// What the server said.
        limit: u64,
    },
    /// The event or its arguments could not be encoded.
    #[error("the event could not be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// Too many answers are awaited already.
    #[error("too many acknowledgements are awaited")]
    TooManyAcks,
}
