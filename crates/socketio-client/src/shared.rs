//! What the handles of an application and the task of a Manager share.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use engineio::{Frame, HEADROOM};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use smallvec::SmallVec;
use socketio_core::{AckError, StateMap};
use socketio_proto::{AnyParser, ClientConnection, EncodeError, Encoded, OwnedArgs, Value};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    BufferedEvent, ConnectFailure, DisconnectReason, EmitError, State,
    acks::Acks,
    handlers::{AckSink, Handlers},
    observe::Observers,
};

pub(crate) type Frames = SmallVec<[Frame; 1]>;
pub(crate) type AuthFuture = std::pin::Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>;
pub(crate) type Auth = Arc<dyn Fn() -> AuthFuture + Send + Sync>;

/// One Manager.
pub(crate) struct Shared {
    pub(crate) parser: AnyParser,
    /// Guards which sockets there are, which namespaces are joined, and what is to be sent. Taken before that of a socket.
    pub(crate) core: Mutex<Core>,
    /// Handles of the application that keep the connection.
    pub(crate) keepers: AtomicUsize,
    /// Becomes true when the task has ended.
    pub(crate) done: watch::Sender<bool>,
    /// Where the connection stands.
    pub(crate) status: watch::Sender<State>,
    pub(crate) observers: Observers,
}

pub(crate) struct Core {
    pub(crate) connection: ClientConnection,
    pub(crate) sockets: HashMap<String, Arc<SocketInner>>,
    pub(crate) out: VecDeque<Out>,
    pub(crate) out_bytes: usize,
    /// What the task has given to the transport and is not written.
    pub(crate) queued: usize,
    pub(crate) send_limit: usize,
    pub(crate) max_payload: Option<u64>,
    /// Bytes travel as base64 now.
    pub(crate) polling: bool,
    /// The application has let go.
    pub(crate) stop: bool,
    pub(crate) waker: Option<Waker>,
}

/// Messages on their way to the transport.
pub(crate) struct Out {
    pub(crate) frames: Frames,
    /// The socket and the id of an answer that will never come when these are refused.
    pub(crate) ack: Option<(Arc<SocketInner>, u64)>,
}

pub(crate) struct SocketOptions {
    pub(crate) auth: Option<Auth>,
    pub(crate) states: StateMap,
    pub(crate) ack_timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) buffer_events: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) mailbox_events: usize,
    pub(crate) mailbox_bytes: usize,
    /// Without a handler, events are kept from the first one on for who asks for them.
    pub(crate) keep_unhandled: bool,
}

/// One socket: a namespace of a Manager.
pub(crate) struct SocketInner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: String,
    pub(crate) options: SocketOptions,
    pub(crate) handlers: RwLock<Arc<Handlers>>,
    /// Guards the socket's queues. No code of the application runs under it.
    pub(crate) state: Mutex<SocketState>,
    pub(crate) status: watch::Sender<State>,
}

#[derive(Default)]
pub(crate) struct SocketState {
    pub(crate) acks: Acks,
    pub(crate) buffer: VecDeque<Buffered>,
    pub(crate) buffer_bytes: usize,
    pub(crate) retrying: VecDeque<Retrying>,
    pub(crate) mailbox: VecDeque<Mail>,
    pub(crate) mailbox_bytes: usize,
    /// Events that no handler took.
    pub(crate) unhandled: VecDeque<crate::ReceivedEvent>,
    pub(crate) unhandled_bytes: usize,
    pub(crate) readers: usize,
    /// There was a stream, and it is gone: nothing is kept for the next one.
    pub(crate) was_read: bool,
    pub(crate) reader: Option<Waker>,
    /// Counts connections.
    pub(crate) epoch: u64,
    pub(crate) last_error: Option<ConnectFailure>,
    /// Closed for good.
    pub(crate) closed: bool,
}

/// An event that waits for a connection.
pub(crate) struct Buffered {
    pub(crate) event: String,
    pub(crate) frames: Frames,
    pub(crate) ack: Option<u64>,
}

/// An event that is sent until it is answered. Only the first of them is on its way.
pub(crate) struct Retrying {
    pub(crate) event: String,
    pub(crate) id: u64,
    pub(crate) frames: Frames,
    pub(crate) tries: u32,
    /// By when the try that is on its way counts as failed.
    pub(crate) by: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
}

/// What the handlers of a socket are told, in order.
pub(crate) enum Mail {
    Event { args: OwnedArgs, id: Option<u64>, epoch: u64 },
    Connected,
    Disconnected(DisconnectReason),
    Failed(ConnectFailure),
}

impl Mail {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event { args, .. } => args.encoded_len(),
            Self::Connected | Self::Disconnected(_) | Self::Failed(_) => 0,
        }
    }
}

/// How one event is to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) volatile: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) compress: Option<bool>,
}

impl Core {
    pub(crate) fn push(&mut self, frames: Frames, ack: Option<(Arc<SocketInner>, u64)>) {
        self.out_bytes += size(&frames);
        self.out.push_back(Out { frames, ack });
    }

    pub(crate) fn is_registered(&self, socket: &Arc<SocketInner>) -> bool {
        self.sockets.get(&socket.namespace).is_some_and(|known| Arc::ptr_eq(known, socket))
    }

    /// How long a message is for the server's limit.
    fn wire_len(&self, frame: &Frame) -> usize {
        match frame.is_binary() && self.polling {
            true => 1 + frame.data().len().div_ceil(3) * 4,
            false => frame.packet().len(),
        }
    }

    fn waiting(&self) -> usize {
        self.out_bytes + self.queued
    }
}

impl Shared {
    /// Wakes the task.
    pub(crate) fn wake(&self) {
        let waker = self.core.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn release(&self) {
        if self.keepers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stop();
        }
    }

    pub(crate) fn stop(&self) {
        self.core.lock().stop = true;
        self.wake();
    }

    /// Waits until the task has ended.
    pub(crate) async fn joined(&self) {
        // The sender lives as long as this.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}

impl SocketInner {
    /// Sends an event, keeps it for later, or refuses it.
    pub(crate) fn emit<T: Serialize + ?Sized>(
        self: &Arc<Self>,
        event: &str,
        data: &T,
        flags: Flags,
        answer: Option<oneshot::Sender<Result<OwnedArgs, AckError>>>,
    ) -> Result<Option<u64>, EmitError> {
        let handlers = self.handlers.read().clone();
        if !handlers.any_outgoing.is_empty() {
            let args = OwnedArgs::event(event, data)?;
            for listener in &handlers.any_outgoing {
                listener(event, &args);
            }
        }
        let retries = self.options.retries.filter(|_| !flags.volatile);
        let timeout = flags.timeout.or(self.options.ack_timeout);
        let wants_answer = answer.is_some() || retries.is_some();
        // The id has to be known before the event is encoded, and encoding runs code of the application.
        let id = if wants_answer {
            let deadline = timeout.filter(|_| retries.is_none()).map(|timeout| Instant::now() + timeout);
            let mut state = self.state.lock();
            if state.closed {
                return Err(EmitError::Closed);
            }
            Some(state.acks.register(answer, deadline, true).ok_or(EmitError::TooManyAcks)?)
        } else {
            None
        };
        let encoded = self.shared.parser.encode_event(&self.namespace, id, event, data, None, HEADROOM);
        let outcome = encoded.map_err(EmitError::from).and_then(|encoded| {
            let frames = frames(encoded, flags.compress.unwrap_or(true));
            self.take(event, frames, id, flags, retries.map(|_| timeout))
        });
        if outcome.is_err()
            && let Some(id) = id
        {
            let error = outcome.as_ref().err().map_or_else(String::new, ToString::to_string);
            self.state.lock().acks.finish(id, Err(AckError::NotSent(error)));
        }
        self.shared.wake();
        outcome.map(|()| id)
    }

    fn take(
        self: &Arc<Self>,
        event: &str,
        frames: Frames,
        id: Option<u64>,
        flags: Flags,
        retrying: Option<Option<Duration>>,
    ) -> Result<(), EmitError> {
        let bytes = size(&frames);
        let mut core = self.shared.core.lock();
        let connected = core.connection.is_connected(&self.namespace) && core.is_registered(self);
        let waiting = core.waiting();
        if connected && let Some(limit) = core.max_payload {
            let len = frames.iter().map(|frame| core.wire_len(frame)).max().unwrap_or(0);
            if len as u64 > limit {
                return Err(EmitError::TooLarge { len, limit });
            }
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err(EmitError::Closed);
        }
        if flags.volatile && (!connected || waiting > 0) {
            return Err(EmitError::Dropped);
        }
        if let (Some(timeout), Some(id)) = (retrying, id) {
            if state.retrying.len() >= self.options.buffer_events
                || (state.buffer_bytes + bytes > self.options.buffer_bytes && !state.retrying.is_empty())
            {
                return Err(EmitError::Full);
            }
            state.buffer_bytes += bytes;
            state.retrying.push_back(Retrying { event: event.to_owned(), id, frames, tries: 0, by: None, timeout });
            if connected {
                self.send_next(&mut core, &mut state, false);
            }
            return Ok(());
        }
        if connected {
            if waiting > 0 && waiting + bytes > core.send_limit {
                return Err(EmitError::Full);
            }
            if let Some(id) = id {
                state.acks.sent(id);
            }
            core.push(frames, id.map(|id| (Arc::clone(self), id)));
            return Ok(());
        }
        if state.buffer.len() >= self.options.buffer_events
            || (state.buffer_bytes + bytes > self.options.buffer_bytes && !state.buffer.is_empty())
        {
            return Err(EmitError::Full);
        }
        state.buffer_bytes += bytes;
        state.buffer.push_back(Buffered { event: event.to_owned(), frames, ack: id });
        Ok(())
    }

    /// Sends the first of the events that are sent until they are answered, if it is not on its way. `again`: the connection
    /// is a new one.
    pub(crate) fn send_next(self: &Arc<Self>, core: &mut Core, state: &mut SocketState, again: bool) {
        let Some(head) = state.retrying.front_mut() else { return };
        if head.tries > 0 && !again {
            return;
        }
        head.tries += 1;
        head.by = head.timeout.map(|timeout| Instant::now() + timeout);
        core.push(head.frames.clone(), Some((Arc::clone(self), head.id)));
    }

    /// The first of them was answered, or is given up.
    pub(crate) fn retried(self: &Arc<Self>, core: &mut Core, state: &mut SocketState) {
        if let Some(done) = state.retrying.pop_front() {
            state.buffer_bytes = state.buffer_bytes.saturating_sub(size(&done.frames));
        }
        if core.connection.is_connected(&self.namespace) {
            self.send_next(core, state, false);
        }
    }

    /// Sends what has waited for a connection.
    pub(crate) fn flush(self: &Arc<Self>, core: &mut Core, state: &mut SocketState) {
        for buffered in std::mem::take(&mut state.buffer) {
            state.buffer_bytes = state.buffer_bytes.saturating_sub(size(&buffered.frames));
            match buffered.ack {
                // Whoever asked has given up meanwhile.
                Some(id) if !state.acks.is_awaited(id) => {}
                Some(id) => {
                    state.acks.sent(id);
                    core.push(buffered.frames, Some((Arc::clone(self), id)));
                }
                None => core.push(buffered.frames, None),
            }
        }
        self.send_next(core, state, true);
    }

    /// Answers an event.
    pub(crate) fn answer<T: Serialize + ?Sized>(
        self: &Arc<Self>,
        id: u64,
        epoch: u64,
        value: &T,
    ) -> Result<(), EncodeError> {
        let encoded = self.shared.parser.encode_ack(&self.namespace, id, value, HEADROOM)?;
        {
            let mut core = self.shared.core.lock();
            if !core.connection.is_connected(&self.namespace) || self.state.lock().epoch != epoch {
                return Ok(());
            }
            core.push(frames(encoded, true), None);
        }
        self.shared.wake();
        Ok(())
    }

    pub(crate) fn sink(self: &Arc<Self>, id: Option<u64>, epoch: u64) -> Option<AckSink> {
        id.map(|id| AckSink { socket: Arc::clone(self), id, epoch })
    }

    /// Leaves the namespace. `forever`: its handle is gone.
    pub(crate) fn leave(self: &Arc<Self>, reason: DisconnectReason, forever: bool) {
        let disconnect = self.shared.parser.encode_disconnect(&self.namespace, HEADROOM);
        {
            let mut core = self.shared.core.lock();
            if !core.is_registered(self) {
                return;
            }
            let was_connected = core.connection.is_connected(&self.namespace);
            if core.connection.leave(&self.namespace)
                && let Ok(encoded) = disconnect
            {
                core.push(frames(encoded, true), None);
            }
            if forever {
                core.sockets.remove(&self.namespace);
            }
            let mut state = self.state.lock();
            state.closed |= forever;
            state.acks.lost(forever);
            if was_connected {
                state.mailbox.push_back(Mail::Disconnected(reason));
            }
            if forever {
                state.buffer = VecDeque::new();
                state.retrying = VecDeque::new();
            }
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
        self.status.send_replace(State::Disconnected(reason));
        self.shared.wake();
    }

    pub(crate) fn buffered(&self) -> Vec<BufferedEvent> {
        let state = self.state.lock();
        let retrying = state.retrying.iter().map(|retrying| (&retrying.event, &retrying.frames));
        let buffered = state.buffer.iter().map(|buffered| (&buffered.event, &buffered.frames));
        let all = retrying.chain(buffered);
        all.map(|(event, frames)| BufferedEvent { event: event.clone(), bytes: size(frames) }).collect()
    }
}

impl fmt::Debug for SocketInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

pub(crate) fn frames(encoded: Encoded, compress: bool) -> Frames {
    encoded
        .into_iter()
        .map(|chunk| {
            let make = if chunk.binary { Frame::binary } else { Frame::text };
            let mut frame = make(chunk.bytes, chunk.start);
            frame.compress = compress;
            frame
        })
        .collect()
}

pub(crate) fn size(frames: &Frames) -> usize {
    frames.iter().map(Frame::queued_len).sum()
}
