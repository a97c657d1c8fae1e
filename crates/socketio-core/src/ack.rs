//! Acknowledgements: sending one by hand, and what can go wrong for the side that waits.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{Args, DataError};

use crate::{FromEvent, HandlerContext, HandlerError, Rejection};

/// Where the reply to one event goes: encodes it and queues it.
pub trait ReplySink: Send + 'static {
    /// Sends `value` as the acknowledgement.
    ///
    /// A tuple is several arguments, `Ok(v)` is `v`, `Err(e)` the standard error shape. What cannot be encoded is
    /// reported by the implementation and answered with an internal error.
    fn reply<T: Serialize + ?Sized>(self, value: &T);
}

/// The sink of contexts whose events nobody can acknowledge, such as a disconnection. There is no value of it.
#[derive(Debug, Clone, Copy)]
pub enum NoReply {}

impl ReplySink for NoReply {
    fn reply<T: Serialize + ?Sized>(self, _: &T) {
        match self {}
    }
}

/// Takes the acknowledgement over: it is sent when the handler says so, and what the handler returns is not sent.
///
/// Dropped without [`send`](Self::send), the event is never acknowledged. When the peer awaits no acknowledgement,
/// sending one does nothing.
#[must_use = "an event whose `Ack` is dropped is never acknowledged"]
pub struct Ack<S> {
    sink: Option<S>,
}

impl<S: ReplySink> Ack<S> {
    /// An acknowledgement that goes through `sink`.
    pub fn new(sink: Option<S>) -> Self {
        Self { sink }
    }

    /// Whether the peer awaits an acknowledgement.
    pub fn is_awaited(&self) -> bool {
        self.sink.is_some()
    }

    /// Sends the acknowledgement. A tuple is several arguments, `Ok(v)` is `v`, `Err(e)` the standard error shape.
    pub fn send<T: Serialize>(self, value: T) {
        if let Some(sink) = self.sink {
            sink.reply(&value);
        }
    }
}

impl<S> fmt::Debug for Ack<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("is_awaited", &self.sink.is_some()).finish()
    }
}

impl<Cx: HandlerContext<Sink = S>, S: ReplySink> FromEvent<Cx> for Ack<S> {
    const TAKES_ACK: bool = true;

    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self::new(cx.take_sink()))
    }
}

/// Why there is no acknowledgement, or not the one that was expected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// Time ran out; an answer that comes later is dropped. Node: `operation has timed out`.
    #[error("the acknowledgement did not arrive in time")]
    Timeout,
    /// The socket was disconnected first. Node: `socket has been disconnected`.
    #[error("the socket was disconnected before the acknowledgement arrived")]
    Disconnected,
    /// The event could not be sent: too many acknowledgements are awaited, or its data cannot be encoded.
    #[error("the event was not sent: {0}")]
    NotSent(String),
    /// The peer answered with the standard error.
    #[error("the peer answered with an error: {0}")]
    Refused(HandlerError),
    /// The answer does not fit the expected type.
    #[error("the acknowledgement is not what was expected: {0}")]
    Decode(#[from] DataError),
}

/// Reads the answer to an event as a `T`: all arguments if `T` is a tuple, else the first.
///
/// # Errors
/// [`AckError::Refused`] when the answer is the standard error, whatever `T` is; [`AckError::Decode`] when it does not
/// fit `T`.
pub fn decode_ack<T: DeserializeOwned>(args: &Args<'_>) -> Result<T, AckError> {
    if args.len() == 1
        && let Ok(error) = args.deserialize::<HandlerError>()
    {
        return Err(AckError::Refused(error));
    }
    args.deserialize().map_err(AckError::Decode)
}
