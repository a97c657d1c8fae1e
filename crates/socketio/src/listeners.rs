//! Handlers that belong to one socket: `socket.on(…)` inside a connect handler.

use std::sync::Arc;

use smallvec::SmallVec;
use socketio_core::{BoxedHandler, Event, EventHandler, Handler};
use socketio_proto::OwnedArgs;

use crate::Socket;
use crate::context::{DisconnectContext, EventContext};
use crate::event_middleware::{BoxedEventMiddleware, EventMiddleware, OwnMiddleware};
use crate::outgoing::OutgoingListener;
use crate::socket::{OWN_HANDLERS, OWN_MIDDLEWARE, OWN_OUTGOING};

/// Handlers called for one event, in order.
pub(crate) type Handlers = SmallVec<[BoxedHandler<EventContext>; 1]>;

/// Names a handler that was registered on a socket, to take it off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

/// The handlers of one socket, in the order in which they were registered.
#[derive(Default)]
pub(crate) struct OwnListeners {
    last: u64,
    events: Vec<Own>,
    pub(crate) middleware: OwnMiddleware,
    outgoing: Vec<(ListenerId, OutgoingListener)>,
    pub(crate) disconnecting: Vec<BoxedHandler<DisconnectContext>>,
    pub(crate) disconnect: Vec<BoxedHandler<DisconnectContext>>,
}

struct Own {
    id: ListenerId,
    /// `None` for every event.
    event: Option<Box<str>>,
    once: bool,
    handler: BoxedHandler<EventContext>,
}

/// What one socket's own handlers do with one event.
#[derive(Default)]
pub(crate) struct OwnHandlers {
    /// Those for every event first.
    pub(crate) handlers: Handlers,
    /// How many of them are for every event.
    pub(crate) any: usize,
}

impl OwnListeners {
    /// The handlers of this event. Those that are called once are gone then.
    pub(crate) fn take(&mut self, event: &str) -> OwnHandlers {
        let any: Handlers =
            self.events.iter().filter(|own| own.event.is_none()).map(|own| own.handler.clone()).collect();
        let count = any.len();
        let mut handlers = any;
        let is_named = |own: &Own| own.event.as_deref() == Some(event);
        handlers.extend(self.events.iter().filter(|own| is_named(own)).map(|own| own.handler.clone()));
        self.events.retain(|own| !(own.once && (own.event.is_none() || is_named(own))));
        OwnHandlers { handlers, any: count }
    }

    /// The listeners to what is sent, in order.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = &OutgoingListener> {
        self.outgoing.iter().map(|(_, listener)| listener)
    }

    fn id(&mut self) -> ListenerId {
        self.last += 1;
        ListenerId(self.last)
    }

    fn add(&mut self, event: Option<&str>, once: bool, handler: BoxedHandler<EventContext>) -> ListenerId {
        let id = self.id();
        self.events.push(Own { id, event: event.map(Box::from), once, handler });
        id
    }
}

/// Handlers of this socket alone, behind those of its namespace. A socket that registers none pays nothing for them.
///
/// Inside middleware or a connect handler no event can be missed: what the client sends waits until that has finished.
/// State that a handler asks for and the namespace does not have rejects the event.
impl Socket {
    /// Adds middleware around the events of this socket, behind that of its namespace. Node: `use`.
    ///
    /// See [`Namespace::use_event`](crate::Namespace::use_event).
    pub fn use_event<A: 'static>(&self, middleware: impl EventMiddleware<A>) {
        let middleware = BoxedEventMiddleware::new(middleware);
        self.0.own_mut(OWN_MIDDLEWARE, |own| {
            let all = own.middleware.iter().flat_map(|before| before.iter().cloned()).chain([middleware]);
            own.middleware = Some(all.collect());
        });
    }

    /// Calls `handler` for every event of this name. Node: `on`.
    ///
    /// Several handlers of one event run in the order of registration; the first that returns something answers.
    pub fn on<A: 'static>(&self, event: &str, handler: impl Handler<EventContext, A>) -> ListenerId {
        self.listen(Some(event), false, BoxedHandler::new(handler))
    }

    /// Calls `handler` for the next event of this name only. Node: `once`.
    pub fn once<A: 'static>(&self, event: &str, handler: impl Handler<EventContext, A>) -> ListenerId {
        self.listen(Some(event), true, BoxedHandler::new(handler))
    }

    /// Calls `handler` for every event of the typed event among its arguments.
    pub fn on_event<A: 'static, P, H: EventHandler<EventContext, A, P>>(&self, handler: H) -> ListenerId {
        self.listen(Some(<H::Event as Event>::NAME), false, BoxedHandler::new(handler))
    }

    /// Calls `handler` for every event, before those that are registered by name. Node: `onAny`.
    pub fn on_any<A: 'static>(&self, handler: impl Handler<EventContext, A>) -> ListenerId {
        self.listen(None, false, BoxedHandler::new(handler))
    }

    /// The same as [`on_any`](Self::on_any), before the other handlers of this socket for every event. Node: `prependAny`.
    pub fn prepend_any<A: 'static>(&self, handler: impl Handler<EventContext, A>) -> ListenerId {
        let handler = BoxedHandler::new(handler);
        let added = self.0.own_mut(OWN_HANDLERS, |own| {
            let id = own.id();
            own.events.insert(0, Own { id, event: None, once: false, handler });
            id
        });
        added.unwrap_or(ListenerId(0))
    }

    /// Takes all handlers of this socket for every event off; [`remove`](Self::remove) takes one. Node: `offAny()`.
    pub fn off_any(&self) {
        let removed: Option<Vec<Own>> =
            self.0.own_if(OWN_HANDLERS, |own| own.events.extract_if(.., |own| own.event.is_none()).collect());
        drop(removed);
    }

    /// The handlers of this socket for every event, in the order in which they are called. Node: `listenersAny`.
    pub fn listeners_any(&self) -> Vec<ListenerId> {
        let any =
            |own: &mut OwnListeners| own.events.iter().filter(|own| own.event.is_none()).map(|own| own.id).collect();
        self.0.own(any).unwrap_or_default()
    }

    /// Calls `listener` for every event that was queued for this socket, by an emit or a broadcast; not for
    /// acknowledgements, and not for what the listener itself sends. Node: `onAnyOutgoing`.
    ///
    /// It runs where the event is sent: be short.
    pub fn on_any_outgoing(&self, listener: impl Fn(&Socket, &OwnedArgs) + Send + Sync + 'static) -> ListenerId {
        self.overhear(Arc::new(listener), false)
    }

    /// The same as [`on_any_outgoing`](Self::on_any_outgoing), before the others of this socket. Node:
    /// `prependAnyOutgoing`.
    pub fn prepend_any_outgoing(&self, listener: impl Fn(&Socket, &OwnedArgs) + Send + Sync + 'static) -> ListenerId {
        self.overhear(Arc::new(listener), true)
    }

    /// Takes all listeners of this socket to what is sent off; [`remove`](Self::remove) takes one. Node:
    /// `offAnyOutgoing()`.
    pub fn off_any_outgoing(&self) {
        // What a listener captured is dropped behind the lock.
        let removed = self.0.own_if(OWN_OUTGOING, |own| std::mem::take(&mut own.outgoing));
        drop(removed);
    }

    /// The listeners of this socket to what is sent, in the order in which they are called. Node: `listenersAnyOutgoing`.
    pub fn listeners_any_outgoing(&self) -> Vec<ListenerId> {
        self.0.own_if(OWN_OUTGOING, |own| own.outgoing.iter().map(|(id, _)| *id).collect()).unwrap_or_default()
    }

    /// The names of the events that this socket has handlers of its own for, each once. Node: `eventNames`.
    pub fn event_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .own(|own| own.events.iter().filter_map(|own| own.event.as_deref().map(str::to_owned)).collect())
            .unwrap_or_default();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Calls `handler` when the socket is about to leave; its rooms are still set. Node: `disconnecting`.
    pub fn on_disconnecting<A: 'static>(&self, handler: impl Handler<DisconnectContext, A>) {
        let handler = BoxedHandler::new(handler);
        self.0.own_mut(OWN_HANDLERS, |own| own.disconnecting.push(handler));
    }

    /// Calls `handler` when the socket has left. Node: `disconnect`.
    pub fn on_disconnect<A: 'static>(&self, handler: impl Handler<DisconnectContext, A>) {
        let handler = BoxedHandler::new(handler);
        self.0.own_mut(OWN_HANDLERS, |own| own.disconnect.push(handler));
    }

    /// Takes all handlers of this socket for events of this name off. Node: `removeAllListeners(event)`.
    pub fn off(&self, event: &str) {
        // What a handler captured is dropped behind the lock.
        let removed: Option<Vec<Own>> = self.0.own_mut(OWN_HANDLERS, |own| {
            own.events.extract_if(.., |own| own.event.as_deref() == Some(event)).collect()
        });
        drop(removed);
    }

    /// Takes all handlers of this socket for events off, those for every event included. Those for the end of the socket
    /// stay. Node: `removeAllListeners()`.
    pub fn remove_all_listeners(&self) {
        let removed = self.0.own_if(OWN_HANDLERS, |own| std::mem::take(&mut own.events));
        drop(removed);
    }

    /// Takes one handler or listener off. Returns whether it was still there. Node: `off(event, handler)`,
    /// `offAny(handler)`, `offAnyOutgoing(handler)`.
    pub fn remove(&self, listener: ListenerId) -> bool {
        let removed: Option<Vec<Own>> =
            self.0.own_if(OWN_HANDLERS, |own| own.events.extract_if(.., |own| own.id == listener).collect());
        let overheard: Option<Vec<_>> =
            self.0.own_if(OWN_OUTGOING, |own| own.outgoing.extract_if(.., |(id, _)| *id == listener).collect());
        removed.is_some_and(|removed| !removed.is_empty()) || overheard.is_some_and(|removed| !removed.is_empty())
    }

    fn overhear(&self, listener: OutgoingListener, first: bool) -> ListenerId {
        let added = self.0.own_mut(OWN_OUTGOING, |own| {
            let id = own.id();
            let at = if first { 0 } else { own.outgoing.len() };
            own.outgoing.insert(at, (id, listener));
            id
        });
        self.0.nsp.bursts.interrupt();
        added.unwrap_or(ListenerId(0))
    }

    fn listen(&self, event: Option<&str>, once: bool, handler: BoxedHandler<EventContext>) -> ListenerId {
        self.0.own_mut(OWN_HANDLERS, |own| own.add(event, once, handler)).unwrap_or(ListenerId(0))
    }
}
