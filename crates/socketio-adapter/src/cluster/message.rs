//! What the servers of a cluster tell each other, whatever the encoding.

use std::fmt;
use std::sync::Arc;

use socketio_proto::{OwnedArgs, Value};

use crate::{BroadcastOptions, RoomName, RoomNames, Selection};

/// The name of a server in the cluster: text without meaning. Cheap to clone. Node: `uid`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// A name of our own: 32 hexadecimal digits.
    pub fn random(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }

    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServerId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What ties answers to a question: text without meaning, chosen by whoever asks. Node: `requestId`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// An id of our own: 16 hexadecimal digits.
    pub fn random(number: u64) -> Self {
        Self(format!("{number:016x}").into())
    }

    /// The id as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A message with its sender and the namespace that it is about.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Who sent it. `None` for a program that is no server (Node: the uid `emitter`), and for answers of protocols that do
    /// not name their sender.
    pub sender: Option<ServerId>,
    /// The namespace, `/chat` for example.
    pub namespace: Arc<str>,
    /// What it says.
    pub message: Message,
}

/// What one server tells others. The comment names Node's number and word.
#[derive(Debug, Clone)]
pub enum Message {
    /// 1, `INITIAL_HEARTBEAT`: a server is new and wants to hear who is there.
    Hello,
    /// 2, `HEARTBEAT`: a server is still there.
    Heartbeat,
    /// 3, `BROADCAST`: an event for sockets of all servers.
    Broadcast {
        /// Name and arguments of the event.
        event: OwnedArgs,
        /// Whom it is addressed to, and how it is sent.
        options: BroadcastOptions,
        /// Under which id the answers of the clients are wanted, if they are.
        request: Option<RequestId>,
    },
    /// 4, `SOCKETS_JOIN`: sockets join rooms.
    Join {
        /// Which sockets.
        selection: Selection,
        /// Which rooms.
        rooms: RoomNames,
    },
    /// 5, `SOCKETS_LEAVE`: sockets leave rooms.
    Leave {
        /// Which sockets.
        selection: Selection,
        /// Which rooms.
        rooms: RoomNames,
    },
    /// 6, `DISCONNECT_SOCKETS`: sockets are disconnected.
    Disconnect {
        /// Which sockets.
        selection: Selection,
        /// Their whole connections are closed.
        close: bool,
    },
    /// 7, `FETCH_SOCKETS`: which sockets are there?
    Fetch {
        /// Which sockets.
        selection: Selection,
        /// Under which id the answer is wanted.
        request: RequestId,
    },
    /// 8, `FETCH_SOCKETS_RESPONSE`: these are.
    Fetched {
        /// The question.
        request: RequestId,
        /// The sockets of one server.
        sockets: Vec<SocketDetails>,
    },
    /// 9, `SERVER_SIDE_EMIT`: an event for handlers of the other servers.
    ServerEvent {
        /// Name and arguments.
        event: OwnedArgs,
        /// Under which id an answer is wanted, if one is.
        request: Option<RequestId>,
    },
    /// 10, `SERVER_SIDE_EMIT_RESPONSE`: what a handler has answered.
    ServerAnswer {
        /// The question.
        request: RequestId,
        /// The answer; one argument.
        answer: Value,
    },
    /// 11, `BROADCAST_CLIENT_COUNT`: so many clients of one server were asked.
    ClientCount {
        /// The question.
        request: RequestId,
        /// How many.
        clients: u64,
    },
    /// 12, `BROADCAST_ACK`: what a client has answered.
    ClientAnswer {
        /// The question.
        request: RequestId,
        /// The answer; one argument.
        answer: Value,
        /// Which socket gave it. Servers of ours say so, Node's do not.
        socket: Option<RoomName>,
    },
    /// 13, `ADAPTER_CLOSE`: the server leaves.
    Goodbye,
    /// Which sockets are there, as old versions of the classic Redis protocol ask (type 0, `SOCKETS`).
    ListSockets {
        /// Which sockets.
        selection: Selection,
        /// Under which id the answer is wanted.
        request: RequestId,
    },
    /// The answer to [`ListSockets`](Self::ListSockets).
    SocketIds {
        /// The question.
        request: RequestId,
        /// The ids.
        sockets: Vec<RoomName>,
    },
    /// Which rooms there are (classic Redis protocol, type 1, `ALL_ROOMS`).
    ListRooms {
        /// Under which id the answer is wanted.
        request: RequestId,
    },
    /// The answer to [`ListRooms`](Self::ListRooms).
    RoomNames {
        /// The question.
        request: RequestId,
        /// The names.
        rooms: Vec<RoomName>,
    },
}

impl Message {
    /// Node's number of it; `None` for what only the classic Redis protocol has.
    pub fn kind(&self) -> Option<u8> {
        Some(match self {
            Self::Hello => 1,
            Self::Heartbeat => 2,
            Self::Broadcast { .. } => 3,
            Self::Join { .. } => 4,
            Self::Leave { .. } => 5,
            Self::Disconnect { .. } => 6,
            Self::Fetch { .. } => 7,
            Self::Fetched { .. } => 8,
            Self::ServerEvent { .. } => 9,
            Self::ServerAnswer { .. } => 10,
            Self::ClientCount { .. } => 11,
            Self::ClientAnswer { .. } => 12,
            Self::Goodbye => 13,
            Self::ListSockets { .. } | Self::SocketIds { .. } | Self::ListRooms { .. } | Self::RoomNames { .. } => {
                return None;
            }
        })
    }

    /// Whether binary data is inside.
    pub fn has_binary(&self) -> bool {
        match self {
            Self::Broadcast { event, .. } | Self::ServerEvent { event, .. } => event.has_binary(),
            Self::Fetched { sockets, .. } => {
                sockets.iter().any(|socket| socket.data.has_binary() || socket.handshake.has_binary())
            }
            Self::ServerAnswer { answer, .. } | Self::ClientAnswer { answer, .. } => answer.has_binary(),
            _ => false,
        }
    }

    /// The one room that it is for, if there is exactly one: a bus with a channel per room uses that. Only broadcasts
    /// without answers have one, because everybody has to answer, also servers on which the room is empty.
    pub fn only_room(&self) -> Option<&RoomName> {
        match self {
            Self::Broadcast { options, request: None, .. } => match &*options.selection.rooms {
                [room] => Some(room),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is an answer, which only the server that has asked wants to hear.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Fetched { .. }
                | Self::ServerAnswer { .. }
                | Self::ClientCount { .. }
                | Self::ClientAnswer { .. }
                | Self::SocketIds { .. }
                | Self::RoomNames { .. }
        )
    }
}

/// A socket as servers describe it to each other.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketDetails {
    /// Its id.
    pub id: RoomName,
    /// What its client brought along, an object.
    pub handshake: Value,
    /// The rooms it is in.
    pub rooms: RoomNames,
    /// What the application keeps with it, an object.
    pub data: Value,
}
