//! Events that are sent until the client has confirmed them: `socket.retries(3).emit(…)`.
//!
//! The mirror of what clients of Socket.IO do with their option `retries`. A socket that uses it has a queue and, while
//! something is in it, a task that sends the first of it, waits for the answer, sends again, and goes on. With connection
//! state recovery the queue waits for the client like everything else that its socket had.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use socketio_core::Event;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::acks::Waiter;
use crate::broadcast::{Delivery as Sent, Frames, frames};
use crate::outgoing::Announcement;
use crate::{EmitError, Socket};

/// Sends events at least once: until the client has confirmed them. Made by [`Socket::retries`].
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct ReliableEmitter {
    socket: Socket,
    retries: usize,
    timeout: Option<Duration>,
}

/// Why it is not certain that a client has got an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// It was not queued.
    #[error(transparent)]
    NotSent(#[from] EmitError),
    /// As many events as `reliable_events` or `reliable_bytes` allow wait for this client.
    #[error("too many events wait for the client's confirmation")]
    QueueFull,
    /// It was sent as often as allowed and not confirmed.
    #[error("the client did not confirm the event")]
    TimedOut,
    /// The client has left, and with connection state recovery it did not come back in time.
    #[error("the client has left")]
    Disconnected,
    /// There is no tokio runtime here that could send it.
    #[error("not inside of a tokio runtime")]
    NoRuntime,
}

/// What becomes of an event that is sent at least once.
///
/// It may be dropped: the event is sent nevertheless. Awaiting it waits until the client has confirmed the event.
///
/// # Cancel safety
/// Dropping the future changes nothing.
#[derive(Debug)]
pub struct Delivery(Result<oneshot::Receiver<Result<(), DeliveryError>>, DeliveryError>);

impl ReliableEmitter {
    pub(crate) fn new(socket: Socket, retries: usize) -> Self {
        Self { socket, retries, timeout: None }
    }

    /// How long the client may take to confirm before the event is sent again. Default: the server's `ack_timeout`. Node:
    /// `ackTimeout` of the client.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Queues an event that is sent until the client has confirmed it.
    ///
    /// The client gets one argument more, a text that is the same for every repetition, and then the function to confirm:
    /// `socket.on("news", (story, id, done) => { … ; done(); })`. Whoever must not handle an event twice remembers the last
    /// id. These events keep their order among themselves; the next is sent when the one before is done.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Delivery {
        Delivery(self.queue(event, &args))
    }

    /// [`emit`](Self::emit) of a typed event.
    pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) -> Delivery {
        self.emit(E::NAME, event.args())
    }

    fn queue(
        &self,
        event: &str,
        args: &impl Serialize,
    ) -> Result<oneshot::Receiver<Result<(), DeliveryError>>, DeliveryError> {
        let runtime = Handle::try_current().map_err(|_| DeliveryError::NoRuntime)?;
        let inner = &self.socket.0;
        let (nsp, env) = (&inner.nsp, &inner.nsp.env);
        let queue = inner.reliable_queue(&self.socket).ok_or(EmitError::NotConnected)?;
        // Encoding runs code of the application: not under the lock. So two tasks may swap their numbers, not their order.
        let (number, answer) = (queue.number(), nsp.next_ack_id());
        let id = format!("{}-{number}", inner.id());
        let frames = frames(env.encode(&nsp.name, Some(answer), event, args, Some(&id))?, true);
        let bytes: usize = frames.iter().map(engineio::Frame::queued_len).sum();
        let (done, outcome) = oneshot::channel();
        let timeout = self.timeout.unwrap_or(env.ack_timeout);
        let item = Item { frames, bytes, answer, sends: self.retries.saturating_add(1), timeout, done };
        let mut state = queue.state.lock();
        if state.over {
            return Err(EmitError::NotConnected.into());
        }
        if state.items.len() >= env.limits.reliable_events || state.bytes + bytes > env.limits.reliable_bytes {
            return Err(DeliveryError::QueueFull);
        }
        state.bytes += bytes;
        state.items.push_back(item);
        if !std::mem::replace(&mut state.running, true) {
            runtime.spawn(send_all(Arc::clone(&queue)));
        }
        drop(state);
        Announcement::default().of(&self.socket, event, args);
        Ok(outcome)
    }
}

impl Delivery {
    /// Whether the event was queued.
    pub fn is_ok(&self) -> bool {
        self.0.is_ok()
    }

    /// Why the event was not queued, if so.
    pub fn error(&self) -> Option<&DeliveryError> {
        self.0.as_ref().err()
    }
}

impl Future for Delivery {
    type Output = Result<(), DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(outcome) => {
                let outcome = ready!(Pin::new(outcome).poll(cx)).unwrap_or(Err(DeliveryError::Disconnected));
                Poll::Ready(outcome)
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

/// The events of one client that are not confirmed.
pub(crate) struct Reliable {
    // Guards the queue and who sends it.
    state: Mutex<State>,
    /// The socket has changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    numbers: u64,
    /// The socket that the client has at the moment.
    socket: Option<Socket>,
    /// A task sends what is in the queue.
    running: bool,
    /// The client is gone for good.
    over: bool,
}

struct Item {
    frames: Frames,
    bytes: usize,
    /// The id of the acknowledgement, the same for every repetition: a late answer counts.
    answer: u64,
    /// How often it may still be sent.
    sends: usize,
    timeout: Duration,
    done: oneshot::Sender<Result<(), DeliveryError>>,
}

/// The one owner of a queue: a socket, or what is kept of it. Dropping it ends the queue.
pub(crate) struct Owned(Arc<Reliable>);

impl Owned {
    pub(crate) fn new(socket: &Socket) -> Self {
        let state = State { socket: Some(socket.clone()), ..State::default() };
        Self(Arc::new(Reliable { state: Mutex::new(state), changed: Notify::new() }))
    }

    pub(crate) fn queue(&self) -> Arc<Reliable> {
        Arc::clone(&self.0)
    }

    /// The client has this socket now, or none.
    pub(crate) fn attach(&self, socket: Option<&Socket>) {
        let before = std::mem::replace(&mut self.0.state.lock().socket, socket.cloned());
        drop(before);
        self.0.changed.notify_one();
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.state.lock().bytes
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.over = true;
        state.bytes = 0;
        let (socket, items) = (state.socket.take(), std::mem::take(&mut state.items));
        drop(state);
        self.0.changed.notify_one();
        drop(socket);
        for item in items {
            // Nobody may be waiting.
            let _ = item.done.send(Err(DeliveryError::Disconnected));
        }
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reliable").field("len", &self.0.state.lock().items.len()).finish()
    }
}

impl Reliable {
    fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.numbers += 1;
        state.numbers
    }

    /// The first of the queue and whom to send it to; `None` when the queue is empty or over.
    fn first(&self) -> Option<(Option<Socket>, Frames, u64, Duration)> {
        let mut state = self.state.lock();
        let first = state.items.front().map(|item| (item.frames.clone(), item.answer, item.timeout));
        match first {
            Some((frames, answer, timeout)) => Some((state.socket.clone(), frames, answer, timeout)),
            None => {
                state.running = false;
                None
            }
        }
    }

    /// The first of the queue is done with.
    fn finish(&self, outcome: Result<(), DeliveryError>) {
        let mut state = self.state.lock();
        if let Some(item) = state.items.pop_front() {
            state.bytes -= item.bytes;
            drop(state);
            let _ = item.done.send(outcome);
        }
    }

    /// The first of the queue was sent once more and not confirmed. Returns whether it may be sent again.
    fn sent_in_vain(&self) -> bool {
        let mut state = self.state.lock();
        state.items.front_mut().is_none_or(|item| {
            item.sends = item.sends.saturating_sub(1);
            item.sends > 0
        })
    }
}

/// Sends a queue until it is empty. Ends with the queue's owner.
async fn send_all(queue: Arc<Reliable>) {
    while let Some((socket, frames, answer, timeout)) = queue.first() {
        let Some(socket) = socket else {
            // A socket that comes between is not missed: the notification is kept.
            queue.changed.notified().await;
            continue;
        };
        let (sender, receiver) = oneshot::channel();
        if socket.0.await_ack(answer, Waiter::One(sender)).is_err()
            || !matches!(socket.deliver(frames, false), Sent::Queued)
        {
            // It has left and will be replaced, or owes more answers than it may.
            socket.0.forget_ack(answer);
            drop(socket);
            let _ = tokio::time::timeout(timeout, queue.changed.notified()).await;
            continue;
        }
        let answered = tokio::time::timeout(timeout, receiver).await;
        match answered {
            Ok(Ok(Ok(_))) => queue.finish(Ok(())),
            // The socket has left. That does not count.
            Ok(_) => {
                drop(socket);
                let _ = tokio::time::timeout(timeout, queue.changed.notified()).await;
            }
            Err(_) => {
                socket.0.forget_ack(answer);
                if !queue.sent_in_vain() {
                    queue.finish(Err(DeliveryError::TimedOut));
                }
            }
        }
    }
}
