//! What servers of a cluster tell each other: `server_side_emit`, and the handlers on the other side.
//!
//! A server alone has nobody to tell. How events travel is `cluster`'s business.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_adapter::cluster::{BusError, Message, News, Target};
use socketio_core::{
    AckError, DynamicState, FromEvent, HandlerContext, HandlerError, Rejection, ReplySink, StateMap, decode_ack,
};
use socketio_proto::{Args, EncodeError, OwnedArgs};
use tokio::sync::mpsc;

use crate::nsp::Nsp;
use crate::{EmitError, NamespaceHandle, SocketIo, lane};

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
    /// Returns how many of them are known; none when alone, and where only the broker knows. Node: `serverSideEmit`.
    ///
    /// # Errors
    /// When the event could not be encoded, or could not be sent. `connect`, `connection` and `new_namespace` are reserved.
    pub fn server_side_emit(&self, event: &str, args: impl Serialize) -> Result<usize, EmitError> {
        let event = Self::server_event(event, &args)?;
        let Some(part) = self.nsp().part.get() else { return Ok(0) };
        part.publish(Message::ServerEvent { event, request: None }, Target::Everybody)?;
        Ok(part.others().unwrap_or(0))
    }

    /// Sends an event to the other servers of the cluster and awaits their answers, for 5 seconds. An answer is one value:
    /// several become a list. Node:
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
        let event = Self::server_event(event, &args)?;
        drop(args);
        let mut result = ServerAnswers { answers: Vec::new(), errors: Vec::new(), missing: 0 };
        let Some(part) = self.nsp().part.get() else { return Ok(result) };
        let mut asked = part.ask_servers(event, time)?;
        while let Some(news) = asked.next().await {
            let News::Answer(answer) = news else { continue };
            match decode_ack(&OwnedArgs::from_values(None, vec![answer])) {
                Ok(answer) => result.answers.push(answer),
                Err(error) => result.errors.push(error),
            }
        }
        result.missing = asked.missing_servers;
        Ok(result)
    }

    /// How many servers take part in this namespace, this one among them; 1 without an adapter. Node: `serverCount`.
    ///
    /// # Errors
    /// When only the broker knows, and it cannot be asked.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn server_count(&self) -> Result<usize, BusError> {
        match self.nsp().part.get() {
            Some(part) => part.servers().await,
            None => Ok(1),
        }
    }

    fn server_event(event: &str, args: &impl Serialize) -> Result<OwnedArgs, EmitError> {
        if matches!(event, "connect" | "connection" | "new_namespace") {
            return Err(EncodeError::ReservedEvent(event.to_owned()).into());
        }
        Ok(OwnedArgs::event(event, args)?)
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

    /// Calls the handlers of an event that came from another server. `None` when no handler has answered.
    pub(crate) async fn take_server_event(&self, namespace: NamespaceHandle, event: OwnedArgs) -> Option<OwnedArgs> {
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
