//! What a backend is: a way to carry messages between servers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socketio_proto::{EncodeError, OwnedArgs, Value};

use super::wire::Foreign;
use super::{Envelope, RequestId, ServerId};
use crate::{BroadcastOptions, RoomName, RoomNames};

/// A future in a box, so that the traits here are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries messages between the servers of a cluster: a broker, seen from one server.
///
/// The server calls [`start`](Self::start) once, on its runtime, and [`open`](Self::open) for each namespace. What others
/// publish is given to the [`Inbox`] in the order in which one sender published it for one room. See the
/// [module](super) for how a backend is made.
///
/// Nothing here blocks or waits for the broker but the futures. A broker that goes away is reconnected, and everything is
/// subscribed to again, without anybody's help.
pub trait Bus: Send + Sync + fmt::Debug + 'static {
    /// How this bus knows the other servers.
    fn membership(&self) -> Membership;

    /// Begins: `id` is the name of this server, `inbox` takes what comes in until [`close`](Self::close).
    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>);

    /// Hears what is published for a namespace from now on. Must not call the [`Inbox`]: it waits for whoever calls this.
    fn open(&self, namespace: &str);

    /// Hears nothing more of a namespace.
    fn shut(&self, namespace: &str);

    /// A room of this server has its first member. `own` is a room that is named by a socket's id. For a bus with a
    /// channel per room; called at the moment it happens, so it must not do more than take note.
    fn room_opened(&self, namespace: &str, room: &RoomName, own: bool) {
        let _ = (namespace, room, own);
    }

    /// A room of this server has lost its last member.
    fn room_closed(&self, namespace: &str, room: &RoomName, own: bool) {
        let _ = (namespace, room, own);
    }

    /// Hands a message to the broker, or keeps it in a bounded buffer until the broker takes it. Messages leave in the
    /// order of these calls. Must not block: it is called where an application emits.
    ///
    /// # Errors
    /// [`BusError::Full`] when the buffer is full, [`BusError::Encode`] when the message cannot be written,
    /// [`BusError::Closed`]. The message is not sent then.
    fn publish(&self, envelope: Envelope, to: Target) -> Result<Published, BusError>;

    /// How many servers take part in a namespace, this one among them. Asked with [`Membership::Counted`] only.
    fn server_count(&self, namespace: &str) -> BoxFuture<'static, Result<usize, BusError>> {
        let _ = namespace;
        Box::pin(async { Ok(1) })
    }

    /// How many of the servers that [`server_count`](Self::server_count) counts answer no questions, as was known when they were
    /// last counted: servers of another kind. They count as missing at once, but for what clients are asked: those of such a
    /// server may answer until the time is up.
    fn silent_servers(&self) -> usize {
        0
    }

    /// Whether the answer of a client to this question goes out as the list of all its arguments, and not as one value.
    fn whole_answers(&self, request: &RequestId) -> bool {
        let _ = request;
        false
    }

    /// Resolves when the broker knows of everything that was opened or shut before, or at once when it is away.
    fn settled(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    /// Whether the broker is there.
    fn health(&self) -> Health;

    /// Writes what is buffered, as far as the broker takes it within a second, and ends.
    fn close(&self) -> BoxFuture<'static, ()>;

    /// Straight ways from one server to another, if this bus has them. Requests that have reached the wrong server take them.
    fn direct(&self) -> Option<&dyn Direct> {
        None
    }

    /// Where sessions are kept that can be taken up on any server, if this bus can replay.
    fn sessions(&self) -> Option<&dyn Sessions> {
        None
    }
}

/// How a bus knows the other servers of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Servers say regularly that they are there. Node: `ClusterAdapterWithHeartbeat`.
    Heartbeat,
    /// The broker counts them. Node: `ClusterAdapter`, and the classic Redis adapter.
    Counted,
}

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All other servers, of which those do not matter that have nobody in the only room that the message is for
    /// ([`Message::only_room`](super::Message::only_room)).
    Everybody,
    /// The server that has asked; `None` when the protocol did not tell which.
    Asker(Option<ServerId>),
}

/// What became of a message that was published.
pub enum Published {
    /// It is on its way.
    Queued,
    /// It is on its way into a log that all servers read. [`Inbox::placed`] is told under this number when it has been read
    /// there.
    At {
        /// Numbers grow in the order of the calls.
        number: u64,
        /// Resolves to its offset when the broker has it.
        offset: BoxFuture<'static, Result<Arc<str>, BusError>>,
    },
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "Queued",
            Self::At { .. } => "At",
        })
    }
}

/// Whether the broker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Connected and subscribed.
    Up,
    /// Not (yet, or no longer). Messages wait in the buffer; local traffic goes on.
    Down,
}

/// Why a bus did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The buffer for a broker that is away or too slow is full.
    #[error("the buffer of {bytes} bytes for the broker is full")]
    Full {
        /// How many bytes wait.
        bytes: usize,
    },
    /// The message could not be written.
    #[error("the message could not be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// Servers of another kind could not be told; those of ours were.
    #[error("servers of another kind cannot be told: {0}")]
    Partly(&'static str),
    /// The bus has been closed.
    #[error("the bus is closed")]
    Closed,
    /// The broker does not answer, or answered with an error.
    #[error("the broker: {0}")]
    Broker(String),
}

/// Bytes from one server to another, whatever they say. Part of a [`Bus`].
///
/// They come to [`Inbox::direct`] in the order in which one server has sent them to one other. Like messages they may be lost
/// when the broker goes away, and wait in the same bounded buffer before.
pub trait Direct: Send + Sync {
    /// Hears what is sent to this address (ASCII, at most 32 bytes), and what is sent to all, from now on. Called once, after
    /// [`Bus::start`].
    fn listen(&self, address: &str);

    /// Sends bytes to the server that listens at an address; `None`: to all that listen. Those may come back to the sender.
    /// Nobody may be there. Must not block.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError>;
}

/// Takes what comes in from the bus. Nothing here blocks.
pub trait Inbox: Send + Sync {
    /// A message of another server, or one of this server that came back. `offset` is its place in a replayable bus.
    fn received(&self, envelope: Envelope, offset: Option<Arc<str>>);

    /// Another server, or whoever can publish, has sent this straight to this server, or to all.
    fn direct(&self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// A message of this server, published under this number, has been read from the log: everything that stands before it has
    /// been given to [`received`](Self::received). Nothing is said of one that was lost.
    fn placed(&self, namespace: &str, number: u64, offset: &str) {
        let _ = (namespace, number, offset);
    }

    /// Something was published that is no message of this protocol. It is counted, nothing else.
    fn foreign(&self, why: &Foreign);

    /// Messages that others published never arrived, or ours could not be sent: at least so many.
    fn lost(&self, messages: u64);

    /// The broker has come or gone.
    fn health(&self, health: Health);

    /// Whether anybody here is in the room: what is for others need not even be decoded.
    fn has_room(&self, namespace: &str, room: &str) -> bool;
}

/// Sessions of clients that are away, kept where every server finds them, and what was published meanwhile. Part of a [`Bus`]
/// that can replay.
pub trait Sessions: Send + Sync {
    /// Keeps a session for so long.
    fn persist(&self, namespace: &str, session: StoredSession, away: Duration);

    /// Up to which offset this server has read the log that this namespace is in, of whichever namespace. `None` before it reads.
    fn position(&self, namespace: &str) -> Option<Arc<str>>;

    /// Takes a session out: of all servers that ask at the same time one gets it. `None` when it is not there, or belongs to
    /// another namespace.
    fn take(&self, namespace: &str, pid: &str) -> BoxFuture<'static, Result<Option<StoredSession>, BusError>>;

    /// What was published after `offset` for somebody in these rooms, in order and without volatile events. `None` when that is not
    /// known any more, or more than a client may have missed.
    fn replay(
        &self,
        namespace: &str,
        offset: &str,
        rooms: &[RoomName],
    ) -> BoxFuture<'static, Result<Option<Replay>, BusError>>;
}

/// A session as servers keep it for each other.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSession {
    /// The id of the socket.
    pub id: RoomName,
    /// The secret by which its client finds it again.
    pub pid: Arc<str>,
    /// The rooms it was in.
    pub rooms: RoomNames,
    /// What the application keeps with it, an object.
    pub data: Value,
    /// The offset of the newest event before the client joined. Servers of ours say so, Node's do not.
    pub since: Option<Arc<str>>,
    /// Which server keeps it. Servers of ours say so, Node's do not.
    pub by: Option<ServerId>,
}

/// What a client has missed.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The events in order.
    pub missed: Vec<MissedEvent>,
    /// Up to where that is everything.
    pub until: Arc<str>,
}

/// An event that a client has missed.
#[derive(Debug, Clone)]
pub struct MissedEvent {
    /// Name and arguments, without the offset.
    pub event: OwnedArgs,
    /// Whom it was addressed to.
    pub options: BroadcastOptions,
    /// Its place.
    pub offset: Arc<str>,
}
