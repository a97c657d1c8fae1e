//! The three families of errors: the peer's, the sender's, and data that does not fit a handler's type.

/// The peer left the protocol. The whole connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The message is empty or does not begin with a packet type.
    #[error("unknown packet type")]
    UnknownType,
    /// A text message where only binary ones are packets.
    #[error("a text message is no packet of this parser")]
    UnexpectedText,
    /// A binary message while no attachment was awaited.
    #[error("got binary data when not reconstructing a packet")]
    UnexpectedBinary,
    /// A text message while attachments were awaited.
    #[error("got plaintext data when reconstructing a packet")]
    TextWhileReconstructing,
    /// The number of attachments is missing, zero or not a number.
    #[error("illegal attachments")]
    AttachmentCount,
    /// More attachments than the limit.
    #[error("too many attachments, the limit is {limit}")]
    TooManyAttachments {
        /// [`Limits::max_attachments`](crate::Limits::max_attachments).
        limit: usize,
    },
    /// The attachments of one packet are larger than the limit.
    #[error("attachments are over the {limit}-byte limit of a packet")]
    AttachmentsTooLarge {
        /// [`Limits::max_packet_bytes`](crate::Limits::max_packet_bytes).
        limit: usize,
    },
    /// A placeholder points to no attachment.
    #[error("a placeholder points to no attachment")]
    IllegalPlaceholder,
    /// The attachments of a packet did not arrive in time.
    #[error("the attachments of a packet did not arrive in time")]
    AttachmentTimeout,
    /// The ack id is not an integer between 0 and 2^53 - 1.
    #[error("illegal ack id")]
    AckId,
    /// The payload is malformed or nests too deeply.
    #[error("malformed payload")]
    Malformed,
    /// The payload does not suit the type of the packet.
    #[error("invalid payload")]
    Payload,
    /// The name of an event is no string and no number, or too long.
    #[error("illegal event name")]
    EventName,
    /// The name of an event belongs to the library.
    #[error("reserved event name")]
    ReservedEvent,
    /// Bytes behind the end of a binary packet.
    #[error("{count} trailing bytes")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A parser from outside this crate refused the message.
    #[error("{0}")]
    Custom(String),
    /// A packet for a namespace that is not connected.
    #[error("a packet for a namespace that is not connected")]
    NotConnected,
    /// A second CONNECT for a namespace that is connected or being connected.
    #[error("the namespace is already connected")]
    AlreadyConnected,
    /// A packet that only servers send.
    #[error("a packet that only servers send")]
    WrongDirection,
    /// No namespace was joined in time.
    #[error("no namespace was joined in time")]
    ConnectTimeout,
}

/// How a connection ends after a [`Violation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseKind {
    /// The packet could not be decoded. Node: `forced close`.
    Forced,
    /// The packet did not suit the state of the connection. Node: `forced server close`.
    ForcedServer,
    /// The packet never became complete. Node has no such rule; `parse error`.
    ParseError,
}

impl CloseKind {
    /// The reason that the sockets of the connection are given, in Node's words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forced => "forced close",
            Self::ForcedServer => "forced server close",
            Self::ParseError => "parse error",
        }
    }
}

impl Violation {
    /// How the connection ends.
    pub const fn close_kind(&self) -> CloseKind {
        match self {
            Self::UnknownType
            | Self::UnexpectedText
            | Self::UnexpectedBinary
            | Self::TextWhileReconstructing
            | Self::AttachmentCount
            | Self::TooManyAttachments { .. }
            | Self::AttachmentsTooLarge { .. }
            | Self::IllegalPlaceholder
            | Self::AckId
            | Self::Malformed
            | Self::Payload
            | Self::EventName
            | Self::ReservedEvent
            | Self::TrailingBytes { .. }
            | Self::Custom(_) => CloseKind::Forced,
            Self::NotConnected | Self::AlreadyConnected | Self::WrongDirection | Self::ConnectTimeout => {
                CloseKind::ForcedServer
            }
            Self::AttachmentTimeout => CloseKind::ParseError,
        }
    }

    /// A short word for metrics and logs, never changed once published.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::UnexpectedText => "unexpected_text",
            Self::UnexpectedBinary => "unexpected_binary",
            Self::TextWhileReconstructing => "text_while_reconstructing",
            Self::AttachmentCount => "attachment_count",
            Self::TooManyAttachments { .. } => "too_many_attachments",
            Self::AttachmentsTooLarge { .. } => "attachments_too_large",
            Self::IllegalPlaceholder => "illegal_placeholder",
            Self::AttachmentTimeout => "attachment_timeout",
            Self::AckId => "ack_id",
            Self::Malformed => "malformed",
            Self::Payload => "payload",
            Self::EventName => "event_name",
            Self::ReservedEvent => "reserved_event",
            Self::TrailingBytes { .. } => "trailing_bytes",
            Self::Custom(_) => "custom_parser",
            Self::NotConnected => "not_connected",
            Self::AlreadyConnected => "already_connected",
            Self::WrongDirection => "wrong_direction",
            Self::ConnectTimeout => "connect_timeout",
        }
    }
}

/// Why a packet could not be encoded. The fault is the sender's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The name of the event belongs to the library.
    #[error("`{0}` is a reserved event name")]
    ReservedEvent(String),
    /// Binary data in a packet that cannot carry it (CONNECT and CONNECT_ERROR of the JSON parser).
    #[error("binary data is not possible in this packet")]
    Binary,
    /// The data could not be serialized.
    #[error("{0}")]
    Serialize(String),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Serialize(message.to_string())
    }
}

/// Why arguments do not fit the type that a handler wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// There are not enough arguments.
    #[error("argument {index} is missing")]
    Missing {
        /// The first argument that is missing, counted from 0 behind the event's name.
        index: usize,
    },
    /// An argument is of another type.
    #[error("{message}")]
    Invalid {
        /// What was expected and what was there.
        message: String,
    },
}

impl serde::de::Error for DataError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Invalid { message: message.to_string() }
    }
}
