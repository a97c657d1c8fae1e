//! Every bound of an Engine.IO session, in one struct that holds for all transports.

use std::time::Duration;

/// The bounds that protect one side from the other. Every byte, count and deadline limit is on by default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest incoming message or polling body, in bytes. Announced to clients as `maxPayload`.
    ///
    /// Default: 1,000,000. Node: `maxHttpBufferSize`.
    pub max_payload: usize,
    /// The most fragments of one WebSocket message. Default: 1,024.
    pub max_fragments: usize,
    /// How long a fragmented WebSocket message may take to arrive. Default: 30 s.
    pub message_timeout: Duration,
    /// The most packets in one polling payload. Default: 524,288, so that a body of
    /// `max_payload` bytes passes whatever it is made of; packets are parsed one by one and other sessions get their turn.
    pub max_payload_packets: usize,
    /// How many bytes may wait for one client. Beyond it the client counts as a slow consumer. Default: 4 MiB.
    pub send_queue_bytes: usize,
    /// How many messages may wait for one client. Default: 8,192.
    pub send_queue_packets: usize,
    /// How long a write may make no progress at all. Default: 30 s.
    pub write_timeout: Duration,
    /// How long a polling session may exist before its client's first own request. Default: 20 s.
    pub first_activity_timeout: Duration,
    /// How long a new session may take from the first byte of a request to the end of its head. Default: 10 s.
    pub header_timeout: Duration,
    /// How long the body of a polling request may take. Default: 30 s.
    pub body_timeout: Duration,
    /// How long the application's handshake hook may take. Default: 10 s.
    pub hook_timeout: Duration,
    /// How long to wait for the peer's half of a WebSocket closing handshake. Default: 5 s.
    pub close_timeout: Duration,
    /// How long a handler may stop a session from reading before the session is closed. Default: 30 s.
    pub handler_stall: Duration,
    /// The most bytes of a request head. Default: 16 KiB.
    pub max_header_bytes: usize,
    /// The most headers of a request. Default: 100.
    pub max_headers: usize,
    /// The most handshakes at once: of TLS at the stand-alone listener, and of sessions whose hook is asked. Default: 1,024.
    pub max_handshakes: usize,
    /// The most polling sessions whose clients have not come back yet. Default: 10,000; the oldest gives way.
    pub max_pending_sessions: usize,
    /// The most sessions of one server. Default: 1,000,000.
    pub max_sessions: usize,
}

impl Limits {
    /// The default of [`Limits::max_payload_packets`].
    pub const DEFAULT_MAX_PAYLOAD_PACKETS: usize = 524_288;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 1_000_000,
            max_fragments: 1_024,
            message_timeout: Duration::from_secs(30),
            max_payload_packets: Self::DEFAULT_MAX_PAYLOAD_PACKETS,
            send_queue_bytes: 4 << 20,
            send_queue_packets: 8_192,
            write_timeout: Duration::from_secs(30),
            first_activity_timeout: Duration::from_secs(20),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            hook_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            handler_stall: Duration::from_secs(30),
            max_header_bytes: 16 << 10,
            max_headers: 100,
            max_handshakes: 1_024,
            max_pending_sessions: 10_000,
            max_sessions: 1_000_000,
        }
    }
}
