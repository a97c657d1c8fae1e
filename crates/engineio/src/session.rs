//! The handle of one session: what the application holds, clones and sends through, and the state behind it.
//!
//! [`Shared`] is held by the handle, by the session's task and by the HTTP requests of the moment. Its one lock guards a
//! few field writes at a time and no user code runs under it.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use engineio_proto::{
    Frame, Revision, Transport,
    gate::Place,
    payload::EncodedPayload,
    session::{self as machine, Block, CloseReason, Ticket},
};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::{net::tcp::OwnedWriteHalf, time::Instant};

use crate::{
    Handshake,
    link::{SocketLink, message_frame, try_write},
    sid::Sid,
};

/// How many messages another task writes for a session at most before the session's own task goes on.
const BURST: usize = 64;

/// A handle to one session. Cloning it is cheap; it keeps no connection open by itself.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

/// Why messages were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session has ended or is ending.
    #[error("the session is closed")]
    Closed,
    /// The client reads too slowly: its queue was over `send_queue_bytes` or `send_queue_packets`.
    #[error("the send queue is full")]
    Full,
}

pub(crate) struct Shared {
    pub(crate) sid: Sid,
    pub(crate) revision: Revision,
    pub(crate) handshake: Handshake,
    /// The place that it takes among the sessions of its client's address.
    pub(crate) place: Place,
    send_queue_bytes: usize,
    /// Guards the machine and the hand-over slots between HTTP requests and the session's task.
    core: Mutex<Core>,
}

pub(crate) struct Core {
    pub(crate) machine: machine::Session,
    /// Wakes the session's task; `None` until it has run once.
    pub(crate) task: Option<Waker>,
    /// The session's task is running and will look at everything again before it sleeps.
    pub(crate) in_turn: bool,
    /// Something happened that the session's task has not seen.
    pub(crate) dirty: bool,
    /// Something was queued that the session's task has not handed out.
    pub(crate) output: bool,
    /// The WebSocket took everything that it was given.
    pub(crate) socket_writable: bool,
    /// Bytes that have left the machine's queue and not yet the process.
    pub(crate) in_flight: usize,
    /// The WebSocket, for tasks that write what is queued without waking the session's task: see [`Core::write_queued`].
    pub(crate) direct: Option<OwnedWriteHalf>,
    /// What such a task could not write.
    pub(crate) rest: Vec<Bytes>,
    /// Hand-over between requests and the session's task; allocated when first needed.
    pub(crate) requests: Option<Box<Requests>>,
    /// The session's task has ended and will answer nobody.
    pub(crate) task_gone: bool,
    /// The application has ended the session and knows why.
    pub(crate) ended_by_application: bool,
    /// Tasks that wait for the queue to shrink.
    drained: Vec<Waker>,
}

/// What requests and the session's task hand to each other.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) answer: Option<(Ticket, PollAnswer)>,
    pub(crate) poll_waker: Option<(Ticket, Waker)>,
    pub(crate) post: Option<PostedBody>,
    /// The POST whose sender still waits for its answer.
    pub(crate) awaited: Option<Ticket>,
    pub(crate) post_result: Option<(Ticket, PostResult)>,
    pub(crate) post_waker: Option<(Ticket, Waker)>,
    pub(crate) candidate: Option<Box<SocketLink>>,
}

impl Requests {
    fn is_idle(&self) -> bool {
        self.answer.is_none()
            && self.poll_waker.is_none()
            && self.post.is_none()
            && self.awaited.is_none()
            && self.post_result.is_none()
            && self.post_waker.is_none()
            && self.candidate.is_none()
    }
}

pub(crate) struct PollAnswer {
    pub(crate) payload: EncodedPayload,
    pub(crate) compress: bool,
}

pub(crate) struct PostedBody {
    pub(crate) ticket: Ticket,
    pub(crate) body: Bytes,
    pub(crate) binary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostResult {
    Taken,
    Refused,
}

impl Session {
    /// The session id. It is a bearer token for the polling transport: never show it to other clients or logs.
    pub fn sid(&self) -> &str {
        self.0.sid.as_str()
    }

    /// The first characters of the session id: enough to find it in a log, too few to use it.
    pub fn short_id(&self) -> &str {
        self.sid().get(..6).unwrap_or_default()
    }

    /// The protocol revision of this session.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The transport that carries the session now.
    pub fn transport(&self) -> Transport {
        self.0.lock().machine.transport()
    }

    /// The request that opened the session.
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// Queues messages, all or none, in order and with nothing in between. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Closed`] after the end; [`SendError::Full`] when the queue is over its limit: the session is then
    /// being closed as a slow consumer.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SendError> {
        self.send_then(frames, || ())
    }

    /// [`Session::send`], and `then` before any of it can leave: whoever has seen these messages finds it done.
    ///
    /// `then` runs under the session's lock, whatever becomes of the messages: it must be short and must not use the
    /// session.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_then(&self, frames: impl IntoIterator<Item = Frame>, then: impl FnOnce()) -> Result<(), SendError> {
        let mut core = self.0.lock();
        let result = core.machine.send(frames);
        then();
        if !matches!(result, Err(machine::SendError::Closed)) {
            core.wake_to_write();
        }
        result.map_err(|error| match error {
            machine::SendError::Closed => SendError::Closed,
            machine::SendError::Full => SendError::Full,
        })
    }

    /// Queues messages only if the transport could take them now. Returns whether it did. Node: `volatile`.
    pub fn send_volatile(&self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut core = self.0.lock();
        let queued = core.queue_volatile(frames);
        if queued {
            core.wake_to_write();
        }
        queued
    }

    /// How many bytes wait to be written.
    pub fn queued_bytes(&self) -> usize {
        let core = self.0.lock();
        core.machine.queued_bytes() + core.in_flight
    }

    /// Ready when the queue is below half of its limit, or the session has ended. The task is woken once.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = self.0.lock();
        if core.machine.queued_bytes() + core.in_flight <= self.0.send_queue_bytes / 2 || !core.machine.is_open() {
            return Poll::Ready(());
        }
        if !core.drained.iter().any(|waker| waker.will_wake(cx.waker())) {
            core.drained.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ends the session: what is queued is still written, then the transport is closed. Node's reason for a close by the
    /// server is [`CloseReason::ForcedClose`].
    pub fn close(&self, reason: CloseReason) {
        let mut core = self.0.lock();
        core.ended_by_application |= core.machine.is_open();
        core.machine.close(std_now(), reason);
        core.wake();
    }

    /// Ends the session at once and drops what is queued.
    pub fn abort(&self, reason: CloseReason) {
        let mut core = self.0.lock();
        core.ended_by_application |= core.machine.is_open();
        core.machine.on_violation(reason);
        core.wake();
    }

    /// Whether the session has ended or is ending.
    pub fn is_closed(&self) -> bool {
        !self.0.lock().machine.is_open()
    }

    /// Makes the session's task call [`Connection::poll`](crate::Connection::poll) soon.
    pub fn wake(&self) {
        self.0.lock().wake();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("sid", &self.0.sid).field("revision", &self.0.revision).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        sid: Sid,
        handshake: Handshake,
        place: Place,
        machine: machine::Session,
        send_queue_bytes: usize,
    ) -> Arc<Self> {
        let revision = machine.revision();
        let core = Core {
            machine,
            task: None,
            in_turn: false,
            dirty: false,
            output: false,
            socket_writable: true,
            in_flight: 0,
            direct: None,
            rest: Vec::new(),
            requests: None,
            task_gone: false,
            ended_by_application: false,
            drained: Vec::new(),
        };
        Arc::new(Self { sid, revision, handshake, place, send_queue_bytes, core: Mutex::new(core) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }
}

impl Core {
    /// Makes sure that the session's task looks at the machine again.
    pub(crate) fn wake(&mut self) {
        if !self.dirty {
            self.dirty = true;
            if !self.in_turn
                && let Some(task) = &self.task
            {
                task.wake_by_ref();
            }
        }
    }

    /// Makes sure that the session's task hands out what is queued. Costs nothing while the task is running.
    pub(crate) fn wake_to_write(&mut self) {
        if !self.output && !self.dirty {
            self.output = true;
            if !self.in_turn
                && let Some(task) = &self.task
            {
                task.wake_by_ref();
            }
        }
    }

    /// Queues messages if the transport could take them now.
    pub(crate) fn queue_volatile(&mut self, frames: impl IntoIterator<Item = Frame>) -> bool {
        self.machine.is_writable(self.socket_writable) && self.machine.send(frames).is_ok()
    }

    /// After something was queued: whether [`Core::write_queued`] is to be called soon. Where it cannot be, the session's task
    /// is woken as always.
    pub(crate) fn defers_writing(&mut self) -> bool {
        if self.direct.is_none() || self.in_turn || self.output || self.dirty || !self.socket_writable {
            self.wake_to_write();
            return false;
        }
        self.output = true;
        true
    }

    /// Writes what is queued from any task, if nothing stands in the way; else the session's task does it. A session's task
    /// that is woken only to write costs more than all the rest of a broadcast.
    pub(crate) fn write_queued(&mut self) {
        if !self.output || self.in_turn || self.dirty {
            // It has gone out, or the session's task is about to see to it.
            return;
        }
        self.output = false;
        let Some(direct) = self.direct.as_ref().filter(|_| self.socket_writable) else { return self.wake_to_write() };
        let (revision, b64) = (self.machine.revision(), self.machine.base64_only());
        let mut frames = SmallVec::<[Bytes; BURST]>::new();
        while frames.len() < BURST
            && let Some(block) = self.machine.next_block()
        {
            frames.push(match block {
                Block::Message(frame) => message_frame(frame, revision, b64),
                Block::Frames(frames) => frames,
            });
        }
        if !frames.is_empty() {
            let mut written = try_write(direct.as_ref(), &frames).unwrap_or_default();
            frames.retain(|frame| {
                let gone = written.min(frame.len());
                frame.advance(gone);
                written -= gone;
                !frame.is_empty()
            });
        }
        if !frames.is_empty() {
            // The session's task waits for the socket, and learns what is wrong with it.
            self.in_flight = frames.iter().map(Bytes::len).sum();
            self.socket_writable = false;
            self.rest = frames.into_vec();
            self.wake_to_write();
        } else if self.machine.queued_packets() > 0 {
            self.wake_to_write();
        } else {
            self.wake_drained();
        }
    }

    /// Frees the hand-over slots once the session is on WebSocket and nobody waits for anything.
    pub(crate) fn tidy(&mut self) {
        let idle = self.requests.as_deref().is_some_and(Requests::is_idle);
        if idle && self.machine.transport() != Transport::Polling {
            self.requests = None;
        }
    }

    pub(crate) fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }

    /// Hands the answer of a poll to the request that waits for it.
    pub(crate) fn put_answer(&mut self, ticket: Ticket, answer: PollAnswer) {
        let requests = self.requests();
        requests.answer = Some((ticket, answer));
        if let Some((_, waker)) = requests.poll_waker.take() {
            waker.wake();
        }
        self.wake_drained();
    }

    /// Tells the request that waits what became of its body.
    pub(crate) fn put_post_result(&mut self, ticket: Ticket, result: PostResult) {
        let requests = self.requests();
        if requests.awaited != Some(ticket) {
            // Its sender has gone meanwhile.
            return;
        }
        requests.post_result = Some((ticket, result));
        if let Some((_, waker)) = requests.post_waker.take() {
            waker.wake();
        }
    }

    /// Whether polls are not answered now: a POST gets its answer before the poll gets what came of it. Some clients that are
    /// told to disconnect by an acknowledgement never write again while their last POST is open.
    pub(crate) fn holds_answers(&self) -> bool {
        self.requests.as_deref().is_some_and(|requests| requests.post_result.is_some())
            && self.machine.transport() == Transport::Polling
    }

    /// Wakes the requests that wait for something that will never come.
    pub(crate) fn wake_requests(&mut self) {
        if let Some(requests) = &mut self.requests {
            for waker in [requests.poll_waker.take(), requests.post_waker.take()].into_iter().flatten() {
                waker.1.wake();
            }
        }
        self.wake_drained();
    }

    pub(crate) fn wake_drained(&mut self) {
        for waker in self.drained.drain(..) {
            waker.wake();
        }
        if self.drained.capacity() > 4 {
            self.drained = Vec::new();
        }
    }
}

/// The present for the pure machine. Under a paused tokio clock this is the paused time.
pub(crate) fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}
