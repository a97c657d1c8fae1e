//! What an application wants to be told, and what its handlers are called with.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use socketio_core::{
    BoxedHandler, DynamicState, FromEvent, HandlerContext, HandlerError, Rejection, ReplySink, StateMap,
};
use socketio_proto::Args;

use crate::{ConnectFailure, DisconnectReason, Socket, shared::SocketInner};

/// What a handler of an event is called with.
#[derive(Debug)]
pub struct EventContext {
    pub(crate) socket: Arc<SocketInner>,
    pub(crate) sink: Option<AckSink>,
}

/// Takes the acknowledgement of an event over: it is sent when the handler says so, and what the handler returns is not.
pub type Ack = socketio_core::Ack<AckSink>;

/// Where the reply to one event goes. A reply to an event of a connection that is gone goes nowhere.
pub struct AckSink {
    pub(crate) socket: Arc<SocketInner>,
    pub(crate) id: u64,
    /// The connection that the event came on.
    pub(crate) epoch: u64,
}

impl fmt::Debug for AckSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckSink").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ReplySink for AckSink {
    fn reply<T: Serialize + ?Sized>(self, value: &T) {
        if self.socket.answer(self.id, self.epoch, value).is_err() {
            tracing::error!(namespace = %self.socket.namespace, "the reply of a handler could not be encoded");
            let internal = HandlerError::new(HandlerError::INTERNAL, "internal error");
            let _ = self.socket.answer(self.id, self.epoch, &internal);
        }
    }
}

impl HandlerContext for EventContext {
    type Sink = AckSink;

    fn take_sink(&mut self) -> Option<AckSink> {
        self.sink.take()
    }

    fn states(&self) -> &StateMap {
        &self.socket.options.states
    }
}

impl DynamicState for EventContext {}

/// The socket that the event came on. This handle does not keep the connection: it ends with the application's own.
impl FromEvent<EventContext> for Socket {
    fn from_event(cx: &mut EventContext, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self::borrowed(&cx.socket))
    }
}

pub(crate) type LifeFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(crate) type OnConnect = Arc<dyn Fn(Socket) -> LifeFuture + Send + Sync>;
pub(crate) type OnDisconnect = Arc<dyn Fn(Socket, DisconnectReason) -> LifeFuture + Send + Sync>;
pub(crate) type OnError = Arc<dyn Fn(Socket, ConnectFailure) -> LifeFuture + Send + Sync>;
pub(crate) type CatchAll = Arc<dyn Fn(&str, &Args<'_>) + Send + Sync>;

/// A handler of an event.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) handler: BoxedHandler<EventContext>,
    /// It is called once. Compared by address: each has its own.
    pub(crate) once: Option<Arc<()>>,
}

/// The handlers of one socket.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) events: HashMap<String, Vec<Listener>>,
    pub(crate) any: Vec<CatchAll>,
    pub(crate) any_outgoing: Vec<CatchAll>,
    pub(crate) connect: Vec<OnConnect>,
    pub(crate) disconnect: Vec<OnDisconnect>,
    pub(crate) error: Vec<OnError>,
}

impl Handlers {
    pub(crate) fn add(&mut self, event: &str, handler: BoxedHandler<EventContext>, once: bool) {
        let listener = Listener { handler, once: once.then(Arc::default) };
        self.events.entry(event.to_owned()).or_default().push(listener);
    }

    /// Removes those that are called once, of which these have been.
    pub(crate) fn forget(&mut self, event: &str, called: &[Listener]) {
        let Some(listeners) = self.events.get_mut(event) else { return };
        listeners.retain(|listener| {
            let Some(once) = &listener.once else { return true };
            !called.iter().any(|called| called.once.as_ref().is_some_and(|other| Arc::ptr_eq(once, other)))
        });
        if listeners.is_empty() {
            self.events.remove(event);
        }
    }
}
