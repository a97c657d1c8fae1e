//! The session machine (being written).

use std::fmt;

/// Why a session ended, in Node's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer did not answer (or did not send) a ping in time.
    PingTimeout,
    /// The transport was closed by the peer.
    TransportClose,
    /// The transport failed or the peer broke its rules; the text says which one.
    TransportError(&'static str),
    /// The peer sent what is not a packet.
    ParseError(&'static str),
    /// This side closed the session.
    ForcedClose,
}

impl CloseReason {
    /// The reason as Node spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError(_) => "transport error",
            Self::ParseError(_) => "parse error",
            Self::ForcedClose => "forced close",
        }
    }

    /// What happened in more detail, where there is more to say.
    pub const fn description(self) -> Option<&'static str> {
        match self {
            Self::TransportError(text) | Self::ParseError(text) => Some(text),
            Self::PingTimeout | Self::TransportClose | Self::ForcedClose => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
