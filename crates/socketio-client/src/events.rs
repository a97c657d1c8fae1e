//! Events as a stream.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use serde::{Serialize, de::DeserializeOwned};
use socketio_core::{ReplySink, event::Event as TypedEvent};
use socketio_proto::{DataError, OwnedArgs};

use crate::{Socket, handlers::AckSink};

/// An event of the server.
#[derive(Debug)]
pub struct ReceivedEvent {
    pub(crate) args: OwnedArgs,
    pub(crate) sink: Option<AckSink>,
}

impl ReceivedEvent {
    /// Its name.
    pub fn name(&self) -> &str {
        self.args.name()
    }

    /// Its arguments, undecoded.
    pub fn args(&self) -> &OwnedArgs {
        &self.args
    }

    /// Its arguments as a `T`: all of them if `T` is a tuple, else the first.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        self.args.deserialize()
    }

    /// The event as a typed one; `None` when it is another.
    ///
    /// # Errors
    /// When its arguments do not fit.
    pub fn typed<E: TypedEvent<Args: DeserializeOwned>>(&self) -> Option<Result<E, DataError>> {
        (self.name() == E::NAME).then(|| self.data().map(E::from_args))
    }

    /// Whether the server awaits an answer.
    pub fn wants_answer(&self) -> bool {
        self.sink.is_some()
    }

    /// Answers it; only the first answer counts. Does nothing when none is awaited.
    pub fn answer(&mut self, value: impl Serialize) {
        if let Some(sink) = self.sink.take() {
            sink.reply(&value);
        }
    }
}

/// The events of a socket that no handler takes. Made by [`Socket::events`]; it ends when the socket is closed for good.
///
/// It keeps the socket like any handle.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    pub(crate) fn new(socket: Socket) -> Self {
        socket.inner.state.lock().readers += 1;
        Self(socket)
    }

    /// The next event; `None` when there will be none.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<ReceivedEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.0
    }
}

impl Stream for Events {
    type Item = ReceivedEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ReceivedEvent>> {
        let mut state = self.0.inner.state.lock();
        if let Some(event) = state.unhandled.pop_front() {
            state.unhandled_bytes = state.unhandled_bytes.saturating_sub(event.args.encoded_len());
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        if state.reader.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker()))
            && let Some(other) = state.reader.replace(cx.waker().clone())
        {
            other.wake();
        }
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.0.inner.state.lock();
        state.readers -= 1;
        if state.readers == 0 {
            state.was_read = true;
            state.unhandled.clear();
            state.unhandled_bytes = 0;
        }
    }
}
