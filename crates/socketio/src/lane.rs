//! The order in which one socket's handlers run.
//!
//! A handler is polled where its event was read. While one is pending, later events wait in the mailbox; a full mailbox
//! makes the connection stop reading. Connecting and leaving are *barriers*: nothing overtakes them. What has finished
//! leaves nothing behind: an idle socket's lane is one null pointer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use socketio_core::{BoxedHandler, HandlerError, HandlerFuture, Rejection};
use socketio_proto::{Args, OwnedArgs};

use crate::context::{AckSink, ConnectContext, DisconnectContext, EventContext};
use crate::event_middleware::{self, AckSlot};
use crate::listeners::OwnHandlers;
use crate::namespace::Table;
use crate::rates::Admission;
use crate::socket::Phase;
use crate::{DisconnectReason, Fault, Socket};

/// The pending handlers of one socket and what waits for them.
#[derive(Default)]
pub(crate) struct Lane {
    busy: Option<Box<Busy>>,
}

#[derive(Default)]
struct Busy {
    running: SmallVec<[Running; 1]>,
    mailbox: VecDeque<Job>,
    /// What the arguments in the mailbox take.
    bytes: usize,
}

struct Running {
    future: HandlerFuture,
    job: Job,
}

/// One thing to be done: the handlers of an event, of a connect, of a disconnect, one after the other.
pub(crate) struct Job {
    kind: Kind,
    /// The handler to be called next.
    next: usize,
}

enum Kind {
    Connect { futures: std::vec::IntoIter<HandlerFuture> },
    Event(EventJob),
    Disconnecting(Why),
    Disconnect(Why),
}

struct EventJob {
    /// The event's entry in the namespace's table.
    entry: Option<usize>,
    own: OwnHandlers,
    /// The acknowledgement, until the handler that answers is called.
    id: Option<u64>,
    /// Which handler answers.
    answering: usize,
    /// Rates and the policy have let it through.
    admitted: bool,
    /// Middleware has the event: it calls the handlers.
    wrapped: bool,
    /// A copy of the arguments; `None` while they are borrowed from the read buffer.
    args: Option<OwnedArgs>,
    bytes: usize,
}

type Why = (DisconnectReason, Option<&'static str>);

/// A handler panicked. Its socket is in no known state.
#[derive(Debug)]
pub(crate) struct Panicked {
    /// What the panic says.
    pub(crate) message: Box<str>,
}

/// Which jobs exclude each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Runs alone, and in its place.
    Barrier,
    /// One after the other.
    Ordered,
    /// Up to this many at once, among all of the namespace.
    Shared(usize),
    /// Up to this many at once, among those of one event.
    Event(usize, usize),
}

/// How many waiting events of a socket are started before others get their turn.
const STARTS_PER_TURN: usize = 64;

/// The arguments of what has none.
static NO_ARGS: LazyLock<OwnedArgs> = LazyLock::new(|| OwnedArgs::from_values(None, Vec::new()));

pub(crate) fn no_args() -> &'static OwnedArgs {
    &NO_ARGS
}

impl Lane {
    /// Whether an event may be taken.
    pub(crate) fn has_room(&self, events: usize, bytes: usize) -> bool {
        self.busy.as_ref().is_none_or(|busy| busy.mailbox.len() < events && busy.bytes < bytes)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_none()
    }

    /// Takes an event: calls its handlers at once if nothing is in the way, else keeps a copy.
    pub(crate) fn event(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        id: Option<u64>,
        args: &Args<'_>,
    ) -> Result<(), Panicked> {
        let mut job = Job { kind: Kind::Event(EventJob::new(socket, id, args)), next: 0 };
        let key = job.key(&socket.0.nsp.table);
        if self.busy.as_ref().is_none_or(|busy| busy.mailbox.is_empty() && busy.is_free(key, socket)) {
            let Some(future) = job.advance(cx, socket, Some(args))? else { return Ok(()) };
            job.keep(socket, args);
            self.busy.get_or_insert_default().running.push(Running { future, job });
        } else {
            job.keep_all(args);
            let busy = self.busy.get_or_insert_default();
            busy.bytes += job.bytes();
            busy.mailbox.push_back(job);
        }
        Ok(())
    }

    /// Puts the connect handlers in front of everything.
    pub(crate) fn connect(&mut self, futures: Vec<HandlerFuture>) {
        if !futures.is_empty() {
            self.push(Job { kind: Kind::Connect { futures: futures.into_iter() }, next: 0 });
        }
    }

    /// Puts the disconnecting handlers behind everything.
    pub(crate) fn disconnecting(&mut self, why: Why) {
        self.push(Job { kind: Kind::Disconnecting(why), next: 0 });
    }

    /// Puts the disconnect handlers behind everything.
    pub(crate) fn disconnect(&mut self, why: Why) {
        self.push(Job { kind: Kind::Disconnect(why), next: 0 });
    }

    /// Drops the events that wait; what runs goes on.
    pub(crate) fn clear_events(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.mailbox.retain(|job| !matches!(job.kind, Kind::Event(_)));
            busy.bytes = 0;
        }
    }

    /// Takes everything out, so that what is put in next waits for none of it.
    pub(crate) fn detach(&mut self) -> Self {
        std::mem::take(self)
    }

    fn push(&mut self, job: Job) {
        self.busy.get_or_insert_default().mailbox.push_back(job);
    }

    /// Polls what runs and starts what may be started. Ready when nothing is left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Result<Poll<()>, Panicked> {
        let Some(busy) = &mut self.busy else { return Ok(Poll::Ready(())) };
        let mut at = 0;
        while let Some(running) = busy.running.get_mut(at) {
            let next = match poll(&mut running.future, cx) {
                Ok(Poll::Pending) => {
                    at += 1;
                    continue;
                }
                Ok(Poll::Ready(())) => running.job.advance(cx, socket, None),
                Err(panicked) => Err(panicked),
            };
            match next {
                Ok(Some(future)) => {
                    running.future = future;
                    at += 1;
                }
                Ok(None) => drop(busy.running.remove(at)),
                Err(panicked) => {
                    // A future that has panicked must not be polled again.
                    drop(busy.running.remove(at));
                    return Err(panicked);
                }
            }
        }
        let mut budget = STARTS_PER_TURN;
        while let Some(index) = busy.startable(socket) {
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            budget -= 1;
            let Some(mut job) = busy.mailbox.remove(index) else { break };
            busy.bytes -= job.bytes();
            // A handler before it has taken the socket out: what the client sent then is not for it any more.
            if matches!(job.kind, Kind::Event(_)) && socket.0.phase() == Phase::Dismissed {
                continue;
            }
            if let Some(future) = job.advance(cx, socket, None)? {
                busy.running.push(Running { future, job });
            }
        }
        if busy.running.is_empty() && busy.mailbox.is_empty() {
            self.busy = None;
            return Ok(Poll::Ready(()));
        }
        Ok(Poll::Pending)
    }
}

impl Busy {
    /// Whether a job of this kind may run beside those that do.
    fn is_free(&self, key: Key, socket: &Socket) -> bool {
        let table = &socket.0.nsp.table;
        let keys = || self.running.iter().map(|running| running.job.key(table));
        match key {
            _ if self.running.is_empty() => true,
            Key::Barrier => false,
            _ if keys().any(|running| running == Key::Barrier) => false,
            Key::Ordered => !keys().any(|running| running == Key::Ordered),
            Key::Shared(most) | Key::Event(_, most) => keys().filter(|running| *running == key).count() < most,
        }
    }

    /// The first waiting job that may run now. Jobs that may run beside others overtake those that may not; nothing
    /// overtakes a barrier.
    fn startable(&self, socket: &Socket) -> Option<usize> {
        let table = &socket.0.nsp.table;
        let first = self.mailbox.front()?.key(table);
        if self.is_free(first, socket) {
            return Some(0);
        }
        if first == Key::Barrier || (table.concurrent.is_none() && !table.mixed) {
            return None;
        }
        let mut blocked: SmallVec<[Key; 4]> = SmallVec::from_elem(first, 1);
        for (index, job) in self.mailbox.iter().enumerate().skip(1) {
            let key = job.key(table);
            if key == Key::Barrier {
                return None;
            }
            if blocked.contains(&key) {
                continue;
            }
            if self.is_free(key, socket) {
                return Some(index);
            }
            blocked.push(key);
        }
        None
    }
}

impl Job {
    /// Calls handlers until one is pending; `None` when all have finished. `borrowed` are the arguments of an event that
    /// has just been read.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        borrowed: Option<&Args<'_>>,
    ) -> Result<Option<HandlerFuture>, Panicked> {
        loop {
            let mut future = match guard(|| self.call_next(socket, borrowed))? {
                Called::Future(future) => future,
                Called::Rejected => continue,
                Called::NoMore => return Ok(None),
            };
            if poll(&mut future, cx)?.is_pending() {
                return Ok(Some(future));
            }
        }
    }

    fn call_next(&mut self, socket: &Socket, borrowed: Option<&Args<'_>>) -> Called {
        let nsp = &socket.0.nsp;
        let index = self.next;
        self.next += 1;
        match &mut self.kind {
            Kind::Connect { futures } => futures.next().map_or(Called::NoMore, Called::Future),
            Kind::Event(job) => {
                let kept = job.args.take();
                let lent = kept.as_ref().map(OwnedArgs::borrow);
                let called = {
                    let args = borrowed.or(lent.as_ref()).unwrap_or_else(|| no_args());
                    let admission = match index == 0 && !job.admitted && nsp.table.is_guarded() {
                        true => socket.admits(args.name()),
                        false => Admission::Pass,
                    };
                    job.admitted = true;
                    match admission {
                        Admission::Pass => {}
                        Admission::Wait(future) => {
                            // It is called once more when its time has come.
                            self.next = 0;
                            drop(lent);
                            job.args = kept;
                            return Called::Future(future);
                        }
                        Admission::Refused(error) => {
                            nsp.env.counters.events_refused.add();
                            let sink = job.id.take().map(|id| AckSink { socket: socket.clone(), id });
                            socket.refuse(args.name(), &error.into(), sink);
                            return Called::NoMore;
                        }
                        Admission::Gone => return Called::NoMore,
                    }
                    if index == 0 {
                        // It has waited, and its socket was taken out meanwhile.
                        if socket.0.phase() == Phase::Dismissed {
                            return Called::NoMore;
                        }
                        if let Some(future) = event_middleware::wrap(socket, &mut job.id, args) {
                            job.wrapped = true;
                            return Called::Future(future);
                        }
                        job.resolve(socket, args.name());
                    }
                    let id = if index == job.answering { job.id.take() } else { None };
                    match job.handler(&nsp.table, index) {
                        None => Called::NoMore,
                        Some(handler) => {
                            let sink = id.map(|id| AckSink { socket: socket.clone(), id });
                            let mut context = EventContext { socket: socket.clone(), sink };
                            match handler.call(&mut context, args) {
                                Ok(future) => Called::Future(future),
                                Err(rejection) => {
                                    socket.reject(args.name(), &rejection, context.sink);
                                    Called::Rejected
                                }
                            }
                        }
                    }
                };
                drop(lent);
                job.args = kept;
                called
            }
            Kind::Disconnecting(why) => {
                let why = *why;
                let own = || socket.0.own(|own| own.disconnecting.get(index - nsp.table.disconnecting.len()).cloned());
                let handler = nsp.table.disconnecting.get(index).cloned().or_else(|| own().flatten());
                call_disconnect(socket, handler, why, "disconnecting")
            }
            Kind::Disconnect(why) => {
                let why = *why;
                let own = || socket.0.own(|own| own.disconnect.get(index - nsp.table.disconnect.len()).cloned());
                let handler = nsp.table.disconnect.get(index).cloned().or_else(|| own().flatten());
                call_disconnect(socket, handler, why, "disconnect")
            }
        }
    }

    /// Copies the arguments if another handler will want them.
    fn keep(&mut self, socket: &Socket, args: &Args<'_>) {
        if let Kind::Event(job) = &mut self.kind
            && (self.next == 0 || job.handler(&socket.0.nsp.table, self.next).is_some())
        {
            job.args = Some(args.to_owned());
        }
    }

    /// Copies the arguments, for the mailbox.
    fn keep_all(&mut self, args: &Args<'_>) {
        if let Kind::Event(job) = &mut self.kind {
            job.args = Some(args.to_owned());
            job.bytes = args.encoded_len() + size_of::<Self>();
        }
    }

    fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Event(job) => job.bytes,
            Kind::Connect { .. } | Kind::Disconnecting(_) | Kind::Disconnect(_) => 0,
        }
    }

    fn key(&self, table: &Table) -> Key {
        let Kind::Event(job) = &self.kind else { return Key::Barrier };
        let own = job.entry.and_then(|entry| Some((entry, table.entries.get(entry)?.concurrent?)));
        match (own, table.concurrent) {
            (Some((_, 1)), _) | (None, None) => Key::Ordered,
            (Some((entry, most)), _) => Key::Event(entry, most),
            (None, Some(most)) => Key::Shared(most),
        }
    }
}

enum Called {
    Future(HandlerFuture),
    /// An argument did not fit; said so.
    Rejected,
    NoMore,
}

fn call_disconnect(
    socket: &Socket,
    handler: Option<BoxedHandler<DisconnectContext>>,
    (reason, description): Why,
    name: &str,
) -> Called {
    let Some(handler) = handler else { return Called::NoMore };
    let mut context = DisconnectContext { socket: socket.clone(), reason, description };
    match handler.call(&mut context, no_args()) {
        Ok(future) => Called::Future(future),
        Err(rejection) => {
            socket.reject(name, &rejection, None);
            Called::Rejected
        }
    }
}

impl EventJob {
    fn new(socket: &Socket, id: Option<u64>, args: &Args<'_>) -> Self {
        let table = &socket.0.nsp.table;
        let entry = table.find(args.name());
        Self {
            entry,
            own: OwnHandlers::default(),
            id,
            answering: usize::MAX,
            admitted: false,
            wrapped: false,
            args: None,
            bytes: 0,
        }
    }

    /// Looks for the handlers of the socket itself, when the event's turn has come: a connect handler that was waited for
    /// may have registered them meanwhile.
    fn resolve(&mut self, socket: &Socket, name: &str) {
        let table = &socket.0.nsp.table;
        self.own = socket.0.own(|own| own.take(name)).unwrap_or_default();
        if self.id.is_some() {
            self.answering = self.find_answering(table);
        }
        if self.named(table) == 0 && table.fallback.is_empty() {
            socket.0.nsp.env.counters.events_unhandled.add();
            tracing::debug!(namespace = %socket.0.nsp.name, "an event that no handler is registered for");
        }
    }

    /// The first handler that returns something answers; if none does, the last that was registered for the event. One
    /// that is called for every event does not answer for those that nobody handles.
    fn find_answering(&self, table: &Table) -> usize {
        let handlers = (0..).map_while(|index| self.handler(table, index));
        let (mut count, mut first) = (0, None);
        for (index, handler) in handlers.enumerate() {
            count += 1;
            if first.is_none() && handler.answers() {
                first = Some(index);
            }
        }
        let named = self.named(table) > 0 || !table.fallback.is_empty();
        match first {
            Some(index) => index,
            None if named && count > 0 => count - 1,
            None => usize::MAX,
        }
    }

    /// How many handlers are registered for this event by name.
    fn named(&self, table: &Table) -> usize {
        let entry = self.entry.and_then(|entry| table.entries.get(entry)).map_or(0, |entry| entry.handlers.len());
        entry + self.own.handlers.len() - self.own.any
    }

    /// The handlers in their order: of the namespace for every event and by name, of the socket for every event and by
    /// name, and the fallback where nobody was registered by name.
    fn handler<'a>(&'a self, table: &'a Table, index: usize) -> Option<&'a BoxedHandler<EventContext>> {
        if self.wrapped {
            return None;
        }
        let mut index = index;
        let entry = self.entry.and_then(|entry| table.entries.get(entry)).map_or(&[][..], |entry| &entry.handlers);
        let fallback = if self.named(table) == 0 { &table.fallback[..] } else { &[] };
        for group in [&table.any[..], entry, &self.own.handlers[..], fallback] {
            match group.get(index) {
                Some(handler) => return Some(handler),
                None => index -= group.len(),
            }
        }
        None
    }
}

/// Calls the handlers of an event that has come through middleware, one after the other.
pub(crate) async fn run_handlers(socket: &Socket, args: &OwnedArgs, ack: &AckSlot) -> Result<(), HandlerError> {
    let table = &socket.0.nsp.table;
    let mut job = EventJob::new(socket, ack.take_id(), args);
    job.resolve(socket, args.name());
    let mut refused = None;
    for index in 0.. {
        let id = if index == job.answering { job.id.take() } else { None };
        let Some(handler) = job.handler(table, index) else { break };
        let sink = id.map(|id| AckSink { socket: socket.clone(), id });
        let mut context = EventContext { socket: socket.clone(), sink };
        match handler.call(&mut context, args) {
            Ok(future) => future.await,
            Err(rejection) => {
                socket.0.nsp.env.counters.extraction_errors.add();
                job.id = context.sink.map(|sink| sink.id).or(job.id);
                refused.get_or_insert(rejection);
            }
        }
    }
    if let Some(id) = job.id {
        ack.put_back(id);
    }
    refused.map_or(Ok(()), |rejection| Err(rejection.into_error()))
}

impl Socket {
    /// Tells everybody who wants to know that a handler could not be called.
    fn reject(&self, event: &str, rejection: &Rejection, sink: Option<AckSink>) {
        let nsp = &self.0.nsp;
        nsp.env.counters.extraction_errors.add();
        tracing::debug!(namespace = %nsp.name, error = %rejection.error(), "an argument of a handler does not fit");
        self.refuse(event, rejection, sink);
    }

    /// Answers an event with an error and tells the hook.
    pub(crate) fn refuse(&self, event: &str, rejection: &Rejection, sink: Option<AckSink>) {
        let nsp = &self.0.nsp;
        if let Some(sink) = sink {
            sink.send(rejection.error());
        }
        self.report_refused(event, rejection.error());
        nsp.env.fault(|| Fault::EventRefused { socket: self, event, error: rejection.error() });
        if let Some(hook) = nsp.on_error.as_ref().or(nsp.env.on_error.as_ref()) {
            hook(self, event, rejection);
        }
    }

    /// Calls the connect handlers as far as their arguments; nothing of their bodies runs before they are polled.
    pub(crate) fn connect_handlers(&self) -> Result<Result<Vec<HandlerFuture>, Rejection>, Panicked> {
        guard(|| {
            let mut context = ConnectContext { socket: self.clone() };
            let handlers = self.0.nsp.table.connect.iter();
            handlers.map(|handler| handler.call(&mut context, no_args())).collect()
        })
    }
}

/// Polls a future that belongs to the application.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, cx: &mut Context<'_>) -> Result<Poll<F::Output>, Panicked> {
    guard(|| Pin::new(future).poll(cx))
}

/// Calls code of the application.
pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Panicked {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(message, "a handler panicked; its connection is closed");
    Panicked { message: message.into() }
}
