//! What `emit`, `join` and `leave` return: a small value that may be dropped, asked or awaited.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use engineio::{SendError, Session};
use std::sync::Arc;

use socketio_adapter::JoinError;
use socketio_adapter::cluster::{Bus, BusError};
use socketio_proto::EncodeError;

use crate::Settling;
use crate::nsp::Nsp;

/// Why an emit did not reach the send queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The socket is not connected: not yet, or no longer.
    #[error("the socket is not connected")]
    NotConnected,
    /// The client reads too slowly: its queue is over the limit, and it is being disconnected.
    #[error("the send queue is full")]
    Full,
    /// A volatile event was dropped because the client could not take it at once.
    #[error("a volatile event was dropped")]
    Dropped,
    /// The event or its arguments could not be encoded.
    #[error("the event could not be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The event was delivered on this server and could not be sent to the others.
    #[error("the event was not sent to other servers: {0}")]
    Cluster(#[from] BusError),
    /// The policy of the namespace does not let this socket send there.
    #[error("the policy does not allow it")]
    Denied,
    /// Sockets send too often to this room: see [`RateLimit::room`](crate::RateLimit::room).
    #[error("too often; again in {retry_after:?}")]
    RateLimited {
        /// When it will be allowed again.
        retry_after: Duration,
    },
    /// The socket owes more answers than `max_pending_acks`.
    #[error("too many acknowledgements are awaited")]
    TooManyAcks,
}

impl From<SendError> for EmitError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed => Self::NotConnected,
            SendError::Full => Self::Full,
        }
    }
}

/// What became of an emit to one socket.
///
/// The event is already queued, or refused. Dropping this value does nothing; [`is_ok`](Self::is_ok) and
/// [`error`](Self::error) ask; awaiting it waits until the socket's queue is below its mark, which is how a producer keeps
/// pace with a slow client.
///
/// # Cancel safety
/// Dropping the future that awaits it changes nothing: the event stays queued.
#[derive(Debug)]
pub struct Emitted {
    result: Result<(), EmitError>,
    session: Option<Session>,
}

impl Emitted {
    pub(crate) fn queued(session: Session) -> Self {
        Self { result: Ok(()), session: Some(session) }
    }

    /// What became of an event for a socket of another server.
    pub(crate) fn elsewhere(result: Result<(), EmitError>) -> Self {
        Self { result, session: None }
    }

    pub(crate) fn refused(error: EmitError) -> Self {
        Self { result: Err(error), session: None }
    }

    /// Whether the event was queued.
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }

    /// Why the event was refused, if it was.
    pub fn error(&self) -> Option<&EmitError> {
        self.result.as_ref().err()
    }

    /// The same as a `Result`, for `?` without waiting.
    ///
    /// # Errors
    /// Why the event was refused.
    pub fn result(self) -> Result<(), EmitError> {
        self.result
    }
}

impl IntoFuture for Emitted {
    type Output = Result<(), EmitError>;
    type IntoFuture = Drained;

    fn into_future(self) -> Drained {
        Drained(self)
    }
}

/// Waits until the queue of a socket is below its mark. Made by awaiting [`Emitted`].
#[derive(Debug)]
pub struct Drained(Emitted);

impl Future for Drained {
    type Output = Result<(), EmitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(error) = &self.0.result {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(session) = &self.0.session else { return Poll::Ready(Ok(())) };
        session.poll_drained(cx).map(|()| if session.is_closed() { Err(EmitError::NotConnected) } else { Ok(()) })
    }
}

/// What became of an emit to many sockets.
///
/// Every connected recipient has the event in its queue, but for those that [`refused`](Self::refused) it. Awaiting this
/// value gives other tasks a turn, so that a loop of broadcasts does not keep a worker thread to itself.
#[derive(Debug)]
pub struct Broadcasted {
    pub(crate) result: Result<(), EmitError>,
    pub(crate) recipients: usize,
    pub(crate) refused: usize,
}

impl Broadcasted {
    /// Nobody has got anything yet.
    pub(crate) fn nobody() -> Self {
        Self { result: Ok(()), recipients: 0, refused: 0 }
    }

    /// Whether the event could be encoded and handed to the cluster, if there is one. A broadcast to nobody is ok.
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }

    /// Why nothing was sent, if the event could not be encoded; or why the other servers do not hear of it
    /// ([`EmitError::Cluster`]): the sockets of this server have it all the same.
    pub fn error(&self) -> Option<&EmitError> {
        self.result.as_ref().err()
    }

    /// How many sockets of this server have the event in their queue. With recovery across servers: how many are about to get it.
    pub fn recipients(&self) -> usize {
        self.recipients
    }

    /// How many sockets were addressed and did not get the event: too slow, or a volatile event at a bad moment.
    pub fn refused(&self) -> usize {
        self.refused
    }
}

impl IntoFuture for Broadcasted {
    type Output = Result<usize, EmitError>;
    type IntoFuture = Turn;

    fn into_future(self) -> Turn {
        Turn { result: Some(self.result.map(|()| self.recipients)), yielded: false }
    }
}

/// Lets other tasks run once. Made by awaiting [`Broadcasted`].
#[derive(Debug)]
pub struct Turn {
    result: Option<Result<usize, EmitError>>,
    yielded: bool,
}

impl Future for Turn {
    type Output = Result<usize, EmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.result.take().expect("a future is not polled after it was ready"))
    }
}

/// What became of a join or a leave: done at once on this server.
///
/// It may be dropped, asked, or awaited; with an adapter that reaches other servers, awaiting waits for it.
#[derive(Debug)]
pub struct Joined {
    result: Result<(), JoinError>,
    bus: Option<Arc<dyn Bus>>,
}

impl Joined {
    /// Done on this server; awaiting it waits for the bus, if there is one.
    pub(crate) fn new(result: Result<(), JoinError>, nsp: Option<&Nsp>) -> Self {
        let part = nsp.and_then(|nsp| nsp.part.get());
        Self { result, bus: part.map(|part| Arc::clone(part.bus())) }
    }

    /// Whether all rooms were joined or left.
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }

    /// Why no room was joined, if so.
    pub fn error(&self) -> Option<&JoinError> {
        self.result.as_ref().err()
    }

    /// The same as a `Result`, for `?` without waiting.
    ///
    /// # Errors
    /// Why no room was joined.
    pub fn result(self) -> Result<(), JoinError> {
        self.result
    }
}

impl IntoFuture for Joined {
    type Output = Result<(), JoinError>;
    type IntoFuture = Settling<JoinError>;

    fn into_future(self) -> Self::IntoFuture {
        Settling::new(self.result, self.bus)
    }
}
