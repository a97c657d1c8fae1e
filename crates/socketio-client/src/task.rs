//! The one task of a Manager: it owns the connection, keeps the time, and polls the handlers.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use engineio::{
    CloseReason, HEADROOM, Transport,
    client::{Client, ClientEvent, ClientOptions, ClientSendError, ConnectError as EngineError, OpenPacket},
};
use socketio_core::{AckError, BoxedHandler, ConnectError, HandlerFuture, ReplySink};
use socketio_proto::{ClientDecision, Decoder, Message, OwnedArgs, Revision, Value, Violation, namespace_with_query};
use tokio::time::{Instant, Sleep};
use tracing::Instrument;

use crate::{
    ConnectFailure, DisconnectReason, ManagerEvent, ReceivedEvent, Socket, State,
    builder::ManagerOptions,
    handlers::{AckSink, EventContext, LifeFuture, Listener},
    shared::{AuthFuture, Mail, Shared, SocketInner, frames, size},
};

pub(crate) struct Task {
    shared: Arc<Shared>,
    engine_options: ClientOptions,
    options: ManagerOptions,
    engine: Engine,
    decoder: Decoder,
    /// Since when a packet lacks attachments.
    incomplete: Option<Instant>,
    lanes: Vec<Lane>,
    auths: Vec<Asking>,
    /// Attempts since a namespace was joined last.
    attempts: u32,
    /// By when handlers must be done, once the connection is closed for good.
    stop_by: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<(Client, OpenPacket), EngineError>> + Send>>;

enum Engine {
    Idle,
    Waiting(Instant),
    Connecting(Connecting),
    Open(Box<Client>),
    /// Closed by us; what was queued is leaving.
    Closing(Box<Client>),
}

/// The application is asked for the auth of a namespace.
struct Asking {
    socket: Arc<SocketInner>,
    answer: AuthFuture,
    by: Instant,
}

impl Task {
    pub(crate) fn new(shared: Arc<Shared>, engine_options: ClientOptions, options: ManagerOptions) -> Self {
        Self {
            decoder: options.parser.decoder(&options.limits),
            shared,
            engine_options,
            options,
            engine: Engine::Idle,
            incomplete: None,
            lanes: Vec::new(),
            auths: Vec::new(),
            attempts: 0,
            stop_by: None,
            timer: None,
        }
    }

    /// Does what the application has asked for since. Returns whether all is over.
    fn obey(&mut self, cx: &Context<'_>) -> bool {
        let (stop, active, joining) = {
            let mut core = self.shared.core.lock();
            if core.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                core.waker = Some(cx.waker().clone());
            }
            for socket in core.sockets.values() {
                if !self.lanes.iter().any(|lane| Arc::ptr_eq(&lane.socket, socket)) {
                    self.lanes.push(Lane::new(Arc::clone(socket)));
                }
            }
            let open = matches!(self.engine, Engine::Open(_)) && !core.stop;
            let joining = if open { core.connection.opened() } else { Vec::new() };
            (core.stop, core.connection.is_any_active(), joining)
        };
        for namespace in joining {
            self.ask(&namespace);
        }
        match &mut self.engine {
            Engine::Open(_) if stop || !active => {
                self.send();
                if let Engine::Open(mut client) = std::mem::replace(&mut self.engine, Engine::Idle) {
                    client.close();
                    self.engine = Engine::Closing(client);
                }
            }
            Engine::Connecting(_) | Engine::Waiting(_) if stop || !active => {
                self.engine = Engine::Idle;
                self.attempts = 0;
                self.shared.status.send_replace(State::Disconnected(DisconnectReason::ClientDisconnect));
            }
            Engine::Idle if active && !stop => self.dial(),
            _ => {}
        }
        if !stop || !matches!(self.engine, Engine::Idle) {
            return false;
        }
        let by = *self.stop_by.get_or_insert_with(|| Instant::now() + LAST_HANDLERS);
        self.lanes.iter().all(Lane::is_idle) || by <= Instant::now()
    }

    fn dial(&mut self) {
        let options = self.engine_options.clone();
        let span = tracing::debug_span!("connect", server = options.authority(), attempt = self.attempts);
        self.engine = Engine::Connecting(Box::pin(async move { Client::connect(&options).await }.instrument(span)));
        if self.attempts > 0 {
            self.tell(ManagerEvent::ReconnectAttempt(self.attempts));
        } else {
            self.shared.status.send_replace(State::Connecting);
        }
    }

    fn tell(&self, event: ManagerEvent) {
        self.shared.observers.tell(&event);
    }

    /// Asks for the auth of a namespace, unless that is on already.
    fn ask(&mut self, namespace: &str) {
        let socket = self.shared.core.lock().sockets.get(namespace).cloned();
        let Some(socket) = socket else { return };
        if self.auths.iter().any(|asking| Arc::ptr_eq(&asking.socket, &socket)) {
            return;
        }
        match &socket.options.auth {
            None => self.join(&socket, None),
            Some(auth) => match catch_unwind(AssertUnwindSafe(|| auth())) {
                Ok(answer) => {
                    self.auths.push(Asking { socket, answer, by: Instant::now() + self.options.timeout });
                }
                Err(panic) => self.fail_auth(&socket, panicked(&*panic)),
            },
        }
    }

    fn poll_auths(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some(asking) = self.auths.get_mut(at) {
            let polled = catch_unwind(AssertUnwindSafe(|| asking.answer.as_mut().poll(cx)));
            let answer = match polled {
                Ok(Poll::Pending) => {
                    at += 1;
                    continue;
                }
                Ok(Poll::Ready(answer)) => answer,
                Err(panic) => Err(panicked(&*panic)),
            };
            moved = true;
            let socket = self.auths.swap_remove(at).socket;
            match answer {
                Ok(Value::Null) => self.join(&socket, None),
                Ok(value @ Value::Map(_)) => self.join(&socket, Some(value)),
                Ok(_) => self.fail_auth(&socket, "auth must be an object".to_owned()),
                Err(error) => self.fail_auth(&socket, error),
            }
        }
        moved
    }

    /// Sends CONNECT.
    fn join(&mut self, socket: &Arc<SocketInner>, auth: Option<Value>) {
        let mut core = self.shared.core.lock();
        if !core.is_registered(socket) {
            return;
        }
        let Some(data) = core.connection.connecting(Instant::now().into_std(), &socket.namespace, auth) else { return };
        let revision = self.options.revision;
        let mut name = std::borrow::Cow::Borrowed(&*socket.namespace);
        if revision == Revision::V4 {
            name = namespace_with_query(&name, data.as_ref()).into();
        }
        match self.options.parser.encode_connect(revision, &name, data.as_ref(), HEADROOM) {
            Ok(encoded) => core.push(frames(encoded, true), None),
            Err(error) => {
                drop(core);
                self.fail_auth(socket, error.to_string());
            }
        }
    }

    /// Without credentials there is no namespace: the connection is made again later, and they are asked for again.
    fn fail_auth(&mut self, socket: &Arc<SocketInner>, error: String) {
        self.fail(socket, ConnectFailure::Auth(error));
        self.lose(CloseReason::ForcedClose);
    }

    fn fail(&self, socket: &Arc<SocketInner>, failure: ConnectFailure) {
        let mut state = socket.state.lock();
        state.last_error = Some(failure.clone());
        state.mailbox.push_back(Mail::Failed(failure));
    }

    /// Gives what is queued to the connection.
    fn send(&mut self) {
        let Engine::Open(client) = &mut self.engine else { return };
        // Dropped after the lock: with them goes, perhaps, the last of a socket and of its handlers.
        let mut sent = Vec::new();
        let mut core = self.shared.core.lock();
        while let Some(mut out) = core.out.pop_front() {
            match client.send(out.frames.iter().cloned()) {
                Ok(()) => {
                    core.out_bytes -= size(&out.frames);
                    sent.extend(out.ack.take());
                }
                Err(ClientSendError::Full) => {
                    core.out.push_front(out);
                    break;
                }
                Err(ClientSendError::Closed) => {
                    core.out_bytes -= size(&out.frames);
                    sent.extend(out.ack.take());
                }
                Err(error @ ClientSendError::TooLarge { .. }) => {
                    core.out_bytes -= size(&out.frames);
                    tracing::warn!(%error, "an event was not sent");
                    if let Some((socket, id)) = out.ack.take() {
                        let mut state = socket.state.lock();
                        state.acks.finish(id, Err(AckError::NotSent(error.to_string())));
                        if state.retrying.front().is_some_and(|head| head.id == id) {
                            socket.retried(&mut core, &mut state);
                        }
                        drop(state);
                        sent.push((socket, id));
                    }
                }
            }
        }
        core.queued = client.queued_bytes();
        core.polling = client.transport() == Transport::Polling;
    }

    fn poll_engine(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.engine {
            Engine::Idle | Engine::Waiting(_) => false,
            Engine::Connecting(connecting) => {
                let Poll::Ready(outcome) = connecting.as_mut().poll(cx) else { return false };
                match outcome {
                    Ok((client, open)) => {
                        {
                            let mut core = self.shared.core.lock();
                            core.max_payload = open.max_payload;
                            core.connection.set_session(&open.sid);
                        }
                        self.tell(ManagerEvent::Open(client.transport()));
                        if self.attempts > 0 {
                            self.tell(ManagerEvent::Reconnect(self.attempts));
                        }
                        self.shared.status.send_replace(State::Connected);
                        self.engine = Engine::Open(Box::new(client));
                        self.decoder = self.options.parser.decoder(&self.options.limits);
                        self.incomplete = None;
                    }
                    Err(error) => {
                        let failure = ConnectFailure::Transport(Arc::new(error));
                        tracing::debug!(%failure, "an attempt to connect failed");
                        self.tell(ManagerEvent::Error(failure.clone()));
                        if self.attempts > 0 {
                            self.tell(ManagerEvent::ReconnectError(failure.clone()));
                        }
                        for socket in self.active() {
                            self.fail(&socket, failure.clone());
                        }
                        self.schedule();
                    }
                }
                true
            }
            Engine::Open(_) => {
                self.send();
                let Engine::Open(client) = &mut self.engine else { return false };
                let Poll::Ready(event) = client.poll_next(cx) else {
                    self.shared.core.lock().queued = client.queued_bytes();
                    return false;
                };
                match event {
                    ClientEvent::Text(text) => self.hear(Message::Text(&text)),
                    ClientEvent::Binary(bytes) => self.hear(Message::Binary(&bytes)),
                    ClientEvent::Closed(reason, error) => {
                        tracing::debug!(%reason, error = ?error.map(|error| error.to_string()), "disconnected");
                        self.lose(reason);
                    }
                    ClientEvent::Pinged => self.tell(ManagerEvent::Ping),
                    ClientEvent::Upgraded => self.tell(ManagerEvent::Upgrade),
                    ClientEvent::Opened(_) => {}
                }
                true
            }
            Engine::Closing(client) => match client.poll_next(cx) {
                Poll::Pending => false,
                Poll::Ready(ClientEvent::Closed(..)) => {
                    self.forget(CloseReason::ForcedClose);
                    self.shared.status.send_replace(State::Disconnected(DisconnectReason::ClientDisconnect));
                    true
                }
                // What comes now is for nobody.
                Poll::Ready(_) => true,
            },
        }
    }

    fn hear(&mut self, message: Message<'_>) {
        let heard = self.take(message);
        if let Err(violation) = heard {
            tracing::debug!(%violation, "the server left the protocol");
            self.lose(CloseReason::ParseError(violation.code()));
        } else if self.decoder.is_reconstructing() {
            self.incomplete.get_or_insert_with(Instant::now);
        } else {
            self.incomplete = None;
        }
    }

    fn take(&mut self, message: Message<'_>) -> Result<(), Violation> {
        let Some(packet) = self.decoder.decode(message)? else { return Ok(()) };
        let decision = self.shared.core.lock().connection.handle(packet)?;
        match decision {
            ClientDecision::Ignored => {}
            ClientDecision::Connected { namespace } => {
                self.attempts = 0;
                let mut core = self.shared.core.lock();
                let Some(socket) = core.sockets.get(&*namespace).cloned() else { return Ok(()) };
                let held = core.connection.take_held(&namespace);
                let mut state = socket.state.lock();
                state.last_error = None;
                let epoch = state.epoch;
                state.mailbox.push_back(Mail::Connected);
                socket.flush(&mut core, &mut state);
                drop((state, core));
                socket.status.send_replace(State::Connected);
                for (id, args) in held {
                    deliver(&socket, Mail::Event { args, id, epoch });
                }
            }
            ClientDecision::Refused { namespace, error } => {
                let payload = error.and_then(|error| error.value().ok());
                let refusal = ConnectError::from_payload(payload.unwrap_or(Value::Null));
                self.refused(&namespace, refusal);
            }
            ClientDecision::OldServer { namespace } => {
                self.refused(&namespace, ConnectError::new(OLD_SERVER));
            }
            ClientDecision::Event { namespace, id, args } => {
                if let Some(socket) = self.socket(&namespace) {
                    let epoch = socket.state.lock().epoch;
                    deliver(&socket, Mail::Event { args: args.into_owned(), id, epoch });
                }
            }
            ClientDecision::Ack { namespace, id, args } => {
                let mut core = self.shared.core.lock();
                if let Some(socket) = core.sockets.get(&*namespace).cloned() {
                    let mut state = socket.state.lock();
                    state.acks.finish(id, Ok(args.into_owned()));
                    if state.retrying.front().is_some_and(|head| head.id == id) {
                        socket.retried(&mut core, &mut state);
                    }
                }
            }
            ClientDecision::Disconnected { namespace } => {
                if let Some(socket) = self.socket(&namespace) {
                    let reason = DisconnectReason::ServerDisconnect;
                    {
                        let mut state = socket.state.lock();
                        state.epoch += 1;
                        state.acks.lost(false);
                        state.mailbox.push_back(Mail::Disconnected(reason));
                    }
                    socket.status.send_replace(State::Disconnected(reason));
                }
            }
        }
        Ok(())
    }

    fn refused(&self, namespace: &str, refusal: ConnectError) {
        if let Some(socket) = self.socket(namespace) {
            let failure = ConnectFailure::Refused(refusal);
            self.fail(&socket, failure.clone());
            socket.status.send_replace(State::Failed(failure));
        }
    }

    fn socket(&self, namespace: &str) -> Option<Arc<SocketInner>> {
        self.shared.core.lock().sockets.get(namespace).cloned()
    }

    fn active(&self) -> Vec<Arc<SocketInner>> {
        let core = self.shared.core.lock();
        core.sockets.values().filter(|socket| core.connection.is_active(&socket.namespace)).cloned().collect()
    }

    /// The connection is gone, and not because we wanted it.
    fn lose(&mut self, reason: CloseReason) {
        self.forget(reason);
        let stop = self.shared.core.lock().stop;
        if !stop {
            for socket in self.active() {
                let mut state = socket.state.lock();
                state.last_error.get_or_insert(ConnectFailure::Lost(DisconnectReason::Connection(reason)));
            }
            self.schedule();
        }
    }

    /// Lets go of the connection, and tells the sockets that were connected.
    fn forget(&mut self, reason: CloseReason) {
        if matches!(std::mem::replace(&mut self.engine, Engine::Idle), Engine::Open(_) | Engine::Closing(_)) {
            self.tell(ManagerEvent::Close(reason));
        }
        self.auths.clear();
        self.incomplete = None;
        let unsent;
        {
            let mut core = self.shared.core.lock();
            let lost = core.connection.closed();
            unsent = std::mem::take(&mut core.out);
            (core.out_bytes, core.queued, core.max_payload) = (0, 0, None);
            for socket in core.sockets.values() {
                let mut state = socket.state.lock();
                state.epoch += 1;
                state.acks.lost(false);
                if lost.contains(&socket.namespace) {
                    state.mailbox.push_back(Mail::Disconnected(DisconnectReason::Connection(reason)));
                }
            }
        }
        // Not under the lock: with it goes, perhaps, the last of a socket and of its handlers.
        drop(unsent);
    }

    /// Decides when the next attempt is made, if there is one.
    fn schedule(&mut self) {
        self.engine = Engine::Idle;
        let active = self.active();
        if active.is_empty() {
            self.shared.status.send_replace(State::Disconnected(DisconnectReason::ClientDisconnect));
            return;
        }
        if !self.options.reconnection || self.attempts >= self.options.reconnection_attempts {
            let mut failure = None;
            for socket in active {
                self.shared.core.lock().connection.give_up(&socket.namespace);
                let last = socket.state.lock().last_error.clone().filter(|_| !self.options.reconnection);
                let given_up = last.unwrap_or(ConnectFailure::GaveUp);
                self.fail(&socket, given_up.clone());
                socket.status.send_replace(State::Failed(given_up.clone()));
                failure = Some(given_up);
            }
            self.attempts = 0;
            if self.options.reconnection {
                self.tell(ManagerEvent::ReconnectFailed);
            }
            if let Some(failure) = failure {
                self.shared.status.send_replace(State::Failed(failure));
            }
            return;
        }
        let delay = self.options.backoff.duration(self.attempts, rand::random());
        self.attempts = self.attempts.saturating_add(1);
        tracing::debug!(attempt = self.attempts, ?delay, "the next attempt to connect");
        self.shared.status.send_replace(State::Reconnecting(self.attempts));
        for socket in active {
            socket.status.send_replace(State::Reconnecting(self.attempts));
        }
        self.engine = Engine::Waiting(Instant::now() + delay);
    }

    /// When something is due, wherever.
    fn deadline(&self) -> Option<Instant> {
        let core = self.shared.core.lock();
        let mut due: Vec<Instant> = core.connection.deadline().map(Instant::from_std).into_iter().collect();
        for socket in core.sockets.values() {
            let state = socket.state.lock();
            due.extend(state.acks.next_deadline());
            due.extend(state.retrying.front().and_then(|head| head.by));
        }
        if let Engine::Waiting(until) = self.engine {
            due.push(until);
        }
        due.extend(self.incomplete.map(|since| since + self.options.limits.attachment_timeout));
        due.extend(self.auths.iter().map(|asking| asking.by));
        due.extend(self.stop_by);
        due.into_iter().min()
    }

    /// Returns whether the time has come, and does what is due then.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.deadline() else {
            self.timer = None;
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = Instant::now();
        self.expire_acks(now);
        if matches!(self.engine, Engine::Waiting(until) if until <= now) {
            self.dial();
        }
        if self.incomplete.is_some_and(|since| since + self.options.limits.attachment_timeout <= now) {
            self.lose(CloseReason::ParseError(Violation::AttachmentTimeout.code()));
        }
        if let Some(asking) = self.auths.iter().find(|asking| asking.by <= now) {
            let socket = Arc::clone(&asking.socket);
            self.fail_auth(&socket, "it took too long".to_owned());
        }
        let unanswered = self.shared.core.lock().connection.deadline().is_some_and(|by| by <= now.into_std());
        if unanswered {
            for socket in self.active() {
                if !self.shared.core.lock().connection.is_connected(&socket.namespace) {
                    self.fail(&socket, ConnectFailure::Timeout);
                }
            }
            self.lose(CloseReason::TransportError("a namespace was not answered"));
        }
        true
    }

    fn expire_acks(&mut self, now: Instant) {
        let mut core = self.shared.core.lock();
        let sockets: Vec<_> = core.sockets.values().cloned().collect();
        for socket in sockets {
            let mut state = socket.state.lock();
            let expired = state.acks.expire(now);
            if !expired.is_empty() {
                // As in Node, an event whose answer came too late is not sent any more.
                let mut freed = 0;
                state.buffer.retain(|buffered| {
                    let stays = buffered.ack.is_none_or(|id| !expired.contains(&id));
                    freed += if stays { 0 } else { size(&buffered.frames) };
                    stays
                });
                state.buffer_bytes = state.buffer_bytes.saturating_sub(freed);
            }
            let connected = core.connection.is_connected(&socket.namespace);
            let Some(head) = state.retrying.front_mut().filter(|head| head.by.is_some_and(|by| by <= now)) else {
                continue;
            };
            head.by = None;
            // Without a connection nothing has been tried.
            if connected {
                if head.tries > socket.options.retries.unwrap_or(0) {
                    let (id, event) = (head.id, head.event.clone());
                    tracing::warn!(%event, "an event was given up after its last try");
                    state.acks.finish(id, Err(AckError::Timeout));
                    socket.retried(&mut core, &mut state);
                } else {
                    socket.send_next(&mut core, &mut state, true);
                }
            }
        }
    }

    /// Whether something waits that no waker stands for: it was left by code of the application that ran in this poll.
    fn has_work(&self) -> bool {
        let core = self.shared.core.lock();
        match &self.engine {
            Engine::Open(client) => core.stop || (!core.out.is_empty() && client.queued_bytes() == 0),
            Engine::Idle => core.connection.is_any_active() && !core.stop,
            _ => false,
        }
    }

    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for lane in &mut self.lanes {
            moved |= lane.poll(cx);
        }
        let gone: Vec<Lane> = {
            let core = self.shared.core.lock();
            let over = |lane: &mut Lane| lane.is_idle() && !core.is_registered(&lane.socket);
            self.lanes.extract_if(.., over).collect()
        };
        // Not under the lock: handlers may hold sockets.
        drop(gone);
        moved
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BUDGET {
            if self.obey(cx) {
                return Poll::Ready(());
            }
            let moved = self.poll_auths(cx) | self.poll_engine(cx) | self.poll_lanes(cx);
            if !moved && !self.poll_time(cx) {
                // A handler that was polled last may have left something to do.
                if self.obey(cx) {
                    return Poll::Ready(());
                }
                if !self.has_work() {
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // However it ended: nobody waits for it any more.
        let sockets: Vec<_> = {
            let mut core = self.shared.core.lock();
            core.stop = true;
            core.sockets.drain().map(|(_, socket)| socket).collect()
        };
        for socket in sockets {
            {
                let mut state = socket.state.lock();
                state.closed = true;
                state.acks.lost(true);
                if let Some(reader) = state.reader.take() {
                    reader.wake();
                }
            }
            socket.status.send_replace(State::Disconnected(DisconnectReason::ClientDisconnect));
        }
        self.shared.status.send_replace(State::Disconnected(DisconnectReason::ClientDisconnect));
        self.shared.observers.end();
        self.shared.done.send_replace(true);
    }
}

/// Puts mail into the box of a socket, or puts the socket out when it is full.
fn deliver(socket: &Arc<SocketInner>, mail: Mail) {
    let bytes = mail.bytes();
    let full = {
        let mut state = socket.state.lock();
        let full = state.mailbox.len() >= socket.options.mailbox_events
            || (state.mailbox_bytes + bytes > socket.options.mailbox_bytes && !state.mailbox.is_empty());
        if !full {
            state.mailbox_bytes += bytes;
            state.mailbox.push_back(mail);
        }
        full
    };
    if full {
        tracing::warn!(namespace = %socket.namespace, "too many events wait for their handlers; the socket leaves");
        socket.leave(DisconnectReason::Overflow, false);
    }
}

/// The handlers of one socket: one after the other, in the order of the events.
struct Lane {
    socket: Arc<SocketInner>,
    /// What the handlers log belongs to their socket.
    span: tracing::Span,
    running: Option<Running>,
    todo: VecDeque<Todo>,
}

enum Running {
    Handler(HandlerFuture),
    Life(LifeFuture),
}

enum Todo {
    Handler(BoxedHandler<EventContext>, Arc<OwnedArgs>, Option<AckSink>),
    Life(LifeFuture),
}

impl Lane {
    fn new(socket: Arc<SocketInner>) -> Self {
        let span = tracing::info_span!("socket", namespace = socket.namespace);
        Self { socket, span, running: None, todo: VecDeque::new() }
    }

    fn is_idle(&self) -> bool {
        self.running.is_none() && self.todo.is_empty() && self.socket.state.lock().mailbox.is_empty()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_idle() {
            return false;
        }
        let span = self.span.clone();
        let _entered = span.enter();
        let mut moved = false;
        for _ in 0..BUDGET {
            if let Some(running) = &mut self.running {
                let polled = catch_unwind(AssertUnwindSafe(|| match running {
                    Running::Handler(future) => Pin::new(future).poll(cx),
                    Running::Life(future) => future.as_mut().poll(cx),
                }));
                match polled {
                    Ok(Poll::Pending) => return moved,
                    Ok(Poll::Ready(())) => {}
                    Err(panic) => self.report(&*panic),
                }
                self.running = None;
                moved = true;
            } else if let Some(todo) = self.todo.pop_front() {
                moved = true;
                self.start(todo);
            } else {
                let mail = {
                    let mut state = self.socket.state.lock();
                    let Some(mail) = state.mailbox.pop_front() else { return moved };
                    state.mailbox_bytes = state.mailbox_bytes.saturating_sub(mail.bytes());
                    mail
                };
                moved = true;
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.open(mail))) {
                    self.report(&*panic);
                }
            }
        }
        true
    }

    fn report(&self, panic: &(dyn Any + Send)) {
        tracing::error!(namespace = %self.socket.namespace, panic = panicked(panic), "a handler has panicked");
    }

    fn start(&mut self, todo: Todo) {
        match todo {
            Todo::Life(future) => self.running = Some(Running::Life(future)),
            Todo::Handler(handler, args, sink) => {
                let mut context = EventContext { socket: Arc::clone(&self.socket), sink };
                match catch_unwind(AssertUnwindSafe(|| handler.call(&mut context, &args))) {
                    Ok(Ok(future)) => self.running = Some(Running::Handler(future)),
                    Ok(Err(rejection)) => {
                        tracing::debug!(event = args.name(), %rejection, "an event does not fit its handler");
                        if let Some(sink) = context.sink.take() {
                            sink.reply(rejection.error());
                        }
                    }
                    Err(panic) => self.report(&*panic),
                }
            }
        }
    }

    /// Finds out what is to be done about some mail.
    fn open(&mut self, mail: Mail) {
        let handlers = self.socket.handlers.read().clone();
        let socket = || Socket::borrowed(&self.socket);
        match mail {
            Mail::Connected => self.todo.extend(handlers.connect.iter().map(|call| Todo::Life(call(socket())))),
            Mail::Disconnected(reason) => {
                self.todo.extend(handlers.disconnect.iter().map(|call| Todo::Life(call(socket(), reason))));
            }
            Mail::Failed(failure) => {
                self.todo.extend(handlers.error.iter().map(|call| Todo::Life(call(socket(), failure.clone()))));
            }
            Mail::Event { args, id, epoch } => {
                for listener in &handlers.any {
                    listener(args.name(), &args);
                }
                let mut sink = self.socket.sink(id, epoch);
                match handlers.events.get(args.name()) {
                    Some(called) => {
                        if called.iter().any(|listener| listener.once.is_some()) {
                            Arc::make_mut(&mut *self.socket.handlers.write()).forget(args.name(), called);
                        }
                        let args = Arc::new(args);
                        for Listener { handler, .. } in called {
                            let sink = if handler.answers() { sink.take() } else { None };
                            self.todo.push_back(Todo::Handler(handler.clone(), Arc::clone(&args), sink));
                        }
                        // Nobody returns something: the end of the last handler is the answer.
                        if let (Some(sink), Some(Todo::Handler(.., last))) = (sink, self.todo.back_mut()) {
                            *last = Some(sink);
                        }
                    }
                    None => self.unhandled(ReceivedEvent { args, sink }),
                }
            }
        }
    }

    /// Keeps an event for a stream.
    fn unhandled(&self, event: ReceivedEvent) {
        let bytes = event.args.encoded_len();
        let (reader, full) = {
            let mut state = self.socket.state.lock();
            let kept = state.readers > 0 || (self.socket.options.keep_unhandled && !state.was_read);
            if !kept || state.closed {
                return;
            }
            let full = state.unhandled.len() >= self.socket.options.mailbox_events
                || (state.unhandled_bytes + bytes > self.socket.options.mailbox_bytes && !state.unhandled.is_empty());
            if full && state.readers > 0 {
                (None, true)
            } else {
                if full && let Some(oldest) = state.unhandled.pop_front() {
                    state.unhandled_bytes = state.unhandled_bytes.saturating_sub(oldest.args.encoded_len());
                }
                state.unhandled_bytes += bytes;
                state.unhandled.push_back(event);
                (state.reader.take(), false)
            }
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        if full {
            self.socket.leave(DisconnectReason::Overflow, false);
        }
    }
}

/// What a panic says.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// How much is done in one go, so that a busy server does not keep a worker thread to itself.
const BUDGET: usize = 128;
/// How long handlers may still run after the connection was closed for good.
const LAST_HANDLERS: Duration = Duration::from_secs(5);
const OLD_SERVER: &str = "the server speaks the protocol of Socket.IO 2.x: connect with `eio3(true)`";
