//! Handlers that belong to one socket: `socket.on(…)` inside a connect handler.

use smallvec::SmallVec;
use socketio_core::{BoxedHandler, Event, EventHandler, Handler};

use crate::Socket;
use crate::context::{DisconnectContext, EventContext};
use crate::event_middleware::{BoxedEventMiddleware, EventMiddleware, OwnMiddleware};
use crate::socket::{OWN_HANDLERS, OWN_MIDDLEWARE};

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

    fn add(&mut self, event: Option<&str>, once: bool, handler: BoxedHandler<EventContext>) -> ListenerId {
        self.last += 1;
        let id = ListenerId(self.last);
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

    /// Takes one handler off. Returns whether it was still there. Node: `off(event, handler)`, `offAny`.
    pub fn remove(&self, listener: ListenerId) -> bool {
        let removed: Option<Vec<Own>> =
            self.0.own_mut(OWN_HANDLERS, |own| own.events.extract_if(.., |own| own.id == listener).collect());
        removed.is_some_and(|removed| !removed.is_empty())
    }

    fn listen(&self, event: Option<&str>, once: bool, handler: BoxedHandler<EventContext>) -> ListenerId {
        self.0.own_mut(OWN_HANDLERS, |own| own.add(event, once, handler)).unwrap_or(ListenerId(0))
    }
}
