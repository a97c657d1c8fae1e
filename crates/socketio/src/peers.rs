//! What servers of a cluster tell each other: `server_side_emit`, and the handlers on the other side.
//!
//! A server alone has nobody to tell. [`Peers`] is what an adapter implements; this file does the rest.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_core::{
    AckError, DynamicState, FromEvent, HandlerContext, HandlerError, Rejection, ReplySink, StateMap, decode_ack,
};
use socketio_proto::{Args, EncodeError, OwnedArgs};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::nsp::Nsp;
use crate::{EmitError, NamespaceHandle, SocketIo, lane};

/// The other servers of a cluster, as `server_side_emit` needs them. Given to [`Builder::peers`](crate::Builder::peers).
///
/// An implementation carries a [`ServerEvent`] to every other server, calls [`SocketIo::take_server_event`] there, and brings
/// the answer back if one is wanted. Node: `Adapter.serverSideEmit` and `serverCount`.
pub trait Peers: Send + Sync + 'static {
    /// How many other servers there are at the moment.
    fn count(&self) -> usize;

    /// Hands an event to all other servers. Must not block. With `answers`, each server's answer is given to it, once.
    fn send(&self, event: ServerEvent, answers: Option<ServerAnswerSink>);
}

/// An event from one server to the others.
#[derive(Debug, Clone)]
pub struct ServerEvent {
    /// The namespace whose handlers it is for.
    pub namespace: String,
    /// Name and arguments.
    pub event: OwnedArgs,
}

/// Takes the answers of other servers. Clones belong to the same question.
#[derive(Debug, Clone)]
pub struct ServerAnswerSink(mpsc::UnboundedSender<OwnedArgs>);

impl ServerAnswerSink {
    /// The answer of one server, as [`SocketIo::take_server_event`] gave it.
    pub fn answer(&self, answer: OwnedArgs) {
        // Whoever asked may have given up.
        drop(self.0.send(answer));
    }
}

/// What other servers have answered. Made by `server_side_emit_with_ack`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerAnswers<R> {
    /// The answers that fit, in the order in which they came.
    pub answers: Vec<R>,
    /// The answers that are errors or do not fit.
    pub errors: Vec<AckError>,
    /// How many servers have not answered in time.
    pub missing: usize,
}

impl NamespaceHandle {
    /// Sends an event to the other servers of the cluster, to handlers of [`on_server_event`](crate::Namespace::on_server_event).
    /// Returns how many servers there are; alone, none. Node: `serverSideEmit`.
    ///
    /// # Errors
    /// When the event could not be encoded. `connect`, `connection` and `new_namespace` are reserved.
    pub fn server_side_emit(&self, event: &str, args: impl Serialize) -> Result<usize, EmitError> {
        let event = self.server_event(event, &args)?;
        let Some(peers) = &self.nsp().env.peers else { return Ok(0) };
        let count = peers.count();
        peers.send(event, None);
        Ok(count)
    }

    /// Sends an event to the other servers of the cluster and awaits their answers, for 5 seconds. Node:
    /// `serverSideEmitWithAck`, which rejects when one is missing; here the partial result is the result.
    ///
    /// # Errors
    /// As [`server_side_emit`](Self::server_side_emit).
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answers. The event itself may still be delivered.
    pub async fn server_side_emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        args: impl Serialize,
    ) -> Result<ServerAnswers<R>, EmitError> {
        self.server_side_emit_with_ack_within(Duration::from_secs(5), event, args).await
    }

    /// [`server_side_emit_with_ack`](Self::server_side_emit_with_ack) with a time of your own. Node has none.
    ///
    /// # Errors
    /// As [`server_side_emit`](Self::server_side_emit).
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answers. The event itself may still be delivered.
    pub async fn server_side_emit_with_ack_within<R: DeserializeOwned>(
        &self,
        time: Duration,
        event: &str,
        args: impl Serialize,
    ) -> Result<ServerAnswers<R>, EmitError> {
        let event = self.server_event(event, &args)?;
        drop(args);
        let mut result = ServerAnswers { answers: Vec::new(), errors: Vec::new(), missing: 0 };
        let Some(peers) = &self.nsp().env.peers else { return Ok(result) };
        result.missing = peers.count();
        let (sink, mut answers) = mpsc::unbounded_channel();
        peers.send(event, Some(ServerAnswerSink(sink)));
        let now = Instant::now();
        let until = now.checked_add(time).unwrap_or(now + Duration::from_secs(365 * 24 * 3_600));
        // The channel ends early when nobody is left who could answer.
        while result.missing > 0
            && let Ok(Some(answer)) = timeout_at(until, answers.recv()).await
        {
            result.missing -= 1;
            match decode_ack(&answer) {
                Ok(answer) => result.answers.push(answer),
                Err(error) => result.errors.push(error),
            }
        }
        Ok(result)
    }

    fn server_event(&self, event: &str, args: &impl Serialize) -> Result<ServerEvent, EmitError> {
        if matches!(event, "connect" | "connection" | "new_namespace") {
            return Err(EncodeError::ReservedEvent(event.to_owned()).into());
        }
        let event = OwnedArgs::event(event, args)?;
        Ok(ServerEvent { namespace: self.name().to_owned(), event })
    }
}

impl SocketIo {
    /// [`NamespaceHandle::server_side_emit`] of the namespace `/`.
    ///
    /// # Errors
    /// When the event could not be encoded.
    pub fn server_side_emit(&self, event: &str, args: impl Serialize) -> Result<usize, EmitError> {
        self.root().server_side_emit(event, args)
    }

    /// [`NamespaceHandle::server_side_emit_with_ack`] of the namespace `/`.
    ///
    /// # Errors
    /// When the event could not be encoded.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answers. The event itself may still be delivered.
    pub async fn server_side_emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        args: impl Serialize,
    ) -> Result<ServerAnswers<R>, EmitError> {
        self.root().server_side_emit_with_ack(event, args).await
    }

    /// Calls the handlers of an event that came from another server, for implementations of [`Peers`]. `None` when no
    /// handler has answered.
    ///
    /// # Cancel safety
    /// Dropping the future stops the handlers where they stand.
    pub async fn take_server_event(&self, event: ServerEvent) -> Option<OwnedArgs> {
        let ServerEvent { namespace, event } = event;
        let namespace = self.namespace(&namespace)?;
        let nsp = Arc::clone(namespace.nsp());
        let (sender, mut answers) = mpsc::unbounded_channel();
        let handlers = nsp.table.server_events.get(event.name())?;
        let answering = handlers.iter().position(|handler| handler.answers()).unwrap_or(handlers.len() - 1);
        for (index, handler) in handlers.iter().enumerate() {
            let sink = (index == answering).then(|| ServerSink(sender.clone()));
            let mut context = ServerEventContext { io: self.clone(), namespace: namespace.clone(), sink };
            match lane::guard(|| handler.call(&mut context, &event)) {
                Ok(Ok(mut future)) => {
                    let done = poll_fn(|cx| match lane::poll(&mut future, cx) {
                        Ok(done) => done.map(Ok),
                        Err(panicked) => Poll::Ready(Err(panicked)),
                    });
                    if let Err(panicked) = done.await {
                        nsp.env.hook_panicked(&panicked);
                    }
                }
                Ok(Err(rejection)) => {
                    nsp.env.counters.extraction_errors.add();
                    tracing::warn!(namespace = %nsp.name, error = %rejection, "an event of another server does not fit");
                    if let Some(sink) = context.sink {
                        sink.reply(rejection.error());
                    }
                }
                Err(panicked) => nsp.env.hook_panicked(&panicked),
            }
        }
        answers.try_recv().ok()
    }
}

/// What a handler of an event of another server is called with.
#[derive(Debug)]
pub struct ServerEventContext {
    io: SocketIo,
    namespace: NamespaceHandle,
    sink: Option<ServerSink>,
}

/// Where the reply to an event of another server goes.
#[derive(Debug)]
pub struct ServerSink(mpsc::UnboundedSender<OwnedArgs>);

impl ReplySink for ServerSink {
    fn reply<T: Serialize + ?Sized>(self, value: &T) {
        let answer = OwnedArgs::ack(value).or_else(|error| {
            tracing::error!(%error, "the reply of a handler could not be encoded");
            OwnedArgs::ack(&HandlerError::new(HandlerError::INTERNAL, "internal error"))
        });
        if let Ok(answer) = answer {
            drop(self.0.send(answer));
        }
    }
}

impl DynamicState for ServerEventContext {}

impl HandlerContext for ServerEventContext {
    type Sink = ServerSink;

    fn take_sink(&mut self) -> Option<ServerSink> {
        self.sink.take()
    }

    fn states(&self) -> &StateMap {
        let nsp: &Nsp = self.namespace.nsp();
        &nsp.states
    }
}

impl FromEvent<ServerEventContext> for SocketIo {
    fn from_event(cx: &mut ServerEventContext, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.io.clone())
    }
}

impl FromEvent<ServerEventContext> for NamespaceHandle {
    fn from_event(cx: &mut ServerEventContext, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.namespace.clone())
    }
}

impl fmt::Debug for dyn Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("count", &self.count()).finish_non_exhaustive()
    }
}
