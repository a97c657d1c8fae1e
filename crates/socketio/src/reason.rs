//! Why a socket left its namespace, in Node's words.

use std::fmt;

use engineio::CloseReason;

/// Why a socket was disconnected. What a disconnect handler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The connection failed, or the client broke the transport's rules.
    TransportError,
    /// The client closed the connection.
    TransportClose,
    /// The server closed the connection: [`Socket::disconnect`](crate::Socket::disconnect) of the whole connection in
    /// another namespace, or a packet that could not be decoded.
    ForcedClose,
    /// The client did not answer (or did not send) a ping in time.
    PingTimeout,
    /// The client sent what is not an Engine.IO packet.
    ParseError,
    /// The server is shutting down.
    ServerShuttingDown,
    /// The client broke the rules of Socket.IO or did not join a namespace in time.
    ForcedServerClose,
    /// The client left the namespace.
    ClientNamespaceDisconnect,
    /// The server took the socket out of the namespace.
    ServerNamespaceDisconnect,
}

impl DisconnectReason {
    /// The reason as Node spells it, `transport close` for example.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ServerShuttingDown => "server shutting down",
            Self::ForcedServerClose => "forced server close",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
        }
    }

    /// Whether the client may come back to its socket, where connection state recovery is on: not if it or the server meant
    /// it to leave, nor if it does not speak the protocol.
    pub const fn is_recoverable(self) -> bool {
        !matches!(self, Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect | Self::ParseError)
    }

    /// Whether the connection itself is gone, and not only this namespace.
    pub const fn connection_lost(self) -> bool {
        !matches!(self, Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect)
    }
}

impl From<CloseReason> for DisconnectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::ParseError(_) => Self::ParseError,
            CloseReason::ForcedClose => Self::ForcedClose,
            // A reason that Engine.IO may learn later is a failure of the transport as far as a handler can tell.
            CloseReason::TransportError(_) | _ => Self::TransportError,
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_engine_keep_their_words() {
        for reason in [
            CloseReason::PingTimeout,
            CloseReason::TransportClose,
            CloseReason::TransportError("overlap"),
            CloseReason::ParseError("unknown type"),
            CloseReason::ForcedClose,
        ] {
            assert_eq!(DisconnectReason::from(reason).as_str(), reason.as_str());
        }
    }
}
