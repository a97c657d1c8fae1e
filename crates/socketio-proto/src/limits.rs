//! Every bound of the Socket.IO layer, in one struct.

use std::time::Duration;

/// The bounds that protect one side from the other. All of them are on by default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most binary attachments of one packet. Default: 10. Node: `maxAttachments` of the parser.
    ///
    /// The wire format allows at most 9,999 here, whatever is set.
    pub max_attachments: usize,
    /// The most bytes of all attachments of one packet together. Default: 1,000,000, as one Engine.IO message.
    pub max_packet_bytes: usize,
    /// How long the attachments of a packet may take to arrive. Default: 30 s.
    pub attachment_timeout: Duration,
    /// The longest event name, in bytes. Default: 256.
    pub max_event_name: usize,
    /// The longest namespace name, in bytes. Default: 256. A longer one is refused as an invalid namespace.
    pub max_namespace_name: usize,
    /// The most namespaces that one connection may join or ask for at the same time. Default: 32.
    pub max_namespaces: usize,
    /// How long a connection may exist without having joined a namespace, and how long one join may take.
    ///
    /// Default: 45 s. Node: `connectTimeout`.
    pub connect_timeout: Duration,
    /// How long packets for a namespace that the server has just disconnected are ignored instead of closing the
    /// connection: they were on their way. Default: 20 s.
    pub disconnect_grace: Duration,
    /// The most acknowledgements that one socket may owe us. Default: 8,192.
    pub max_pending_acks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attachments: 10,
            max_packet_bytes: 1_000_000,
            attachment_timeout: Duration::from_secs(30),
            max_event_name: 256,
            max_namespace_name: 256,
            max_namespaces: 32,
            connect_timeout: Duration::from_secs(45),
            disconnect_grace: Duration::from_secs(20),
            max_pending_acks: 8_192,
        }
    }
}

/// How deep arrays and objects of a packet may nest. The same number protects both parsers and the readers of their output.
pub(crate) const MAX_DEPTH: usize = 127;

/// The largest ack id, the largest integer that JavaScript counts exactly.
pub(crate) const MAX_ID: u64 = (1 << 53) - 1;
