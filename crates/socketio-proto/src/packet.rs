//! A decoded packet, its arguments still in their encoded form.

use std::borrow::Cow;

use crate::{Args, Payload};

/// The five kinds of packets. Binary events and acks are not kinds of their own here: a parser decides how binary travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Asks for a namespace, or says that it is joined. Wire: 0.
    Connect,
    /// Leaves a namespace. Wire: 1.
    Disconnect,
    /// An event. Wire: 2, or 5 with attachments.
    Event,
    /// The answer to an event. Wire: 3, or 6 with attachments.
    Ack,
    /// The refusal of a namespace. Wire: 4.
    ConnectError,
}

impl PacketKind {
    /// The number on the wire, without attachments.
    pub const fn number(self) -> u8 {
        match self {
            Self::Connect => 0,
            Self::Disconnect => 1,
            Self::Event => 2,
            Self::Ack => 3,
            Self::ConnectError => 4,
        }
    }

    /// The kind with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Connect),
            1 => Some(Self::Disconnect),
            2 => Some(Self::Event),
            3 => Some(Self::Ack),
            4 => Some(Self::ConnectError),
            _ => None,
        }
    }
}

/// One decoded packet. It borrows from the message unless it was put together from several.
///
/// The namespace is as the peer sent it, of any length and with any characters (2.x clients: with their query); the
/// [`Connection`](crate::Connection) judges it.
#[derive(Debug, Clone)]
pub enum Packet<'a> {
    /// Asks for a namespace, or says that it is joined.
    Connect {
        /// The namespace, `/` when the packet names none.
        namespace: Cow<'a, str>,
        /// The client's `auth`, or the server's `{"sid": …}`: an object when present.
        data: Option<Payload<'a>>,
    },
    /// Leaves a namespace.
    Disconnect {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// An event.
    Event {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The id under which the sender awaits an answer.
        id: Option<u64>,
        /// The event's name and arguments.
        args: Args<'a>,
    },
    /// The answer to an event.
    Ack {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The id of the event. An ack without one is legal and answers nothing.
        id: Option<u64>,
        /// The answer.
        args: Args<'a>,
    },
    /// The refusal of a namespace.
    ConnectError {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// An object with `message` and perhaps `data`, or a string.
        data: Option<Payload<'a>>,
    },
}

impl Packet<'_> {
    /// The kind of this packet.
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Connect { .. } => PacketKind::Connect,
            Self::Disconnect { .. } => PacketKind::Disconnect,
            Self::Event { .. } => PacketKind::Event,
            Self::Ack { .. } => PacketKind::Ack,
            Self::ConnectError { .. } => PacketKind::ConnectError,
        }
    }

    /// The namespace this packet is for.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Connect { namespace, .. }
            | Self::Disconnect { namespace }
            | Self::Event { namespace, .. }
            | Self::Ack { namespace, .. }
            | Self::ConnectError { namespace, .. } => namespace,
        }
    }
}
