//! The handle of an application to one namespace.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use socketio_core::{AckError, BoxedHandler, Handler, decode_ack, event::Event as TypedEvent};
use socketio_proto::Args;
use tokio::sync::{oneshot, watch};

use crate::{
    ConnectFailure, DisconnectReason, EmitError, EventContext, Events, Manager, SocketBuilder,
    builder::LONGEST,
    handlers::Handlers,
    shared::{Flags, SocketInner},
};

/// One namespace of a connection. Cheap to clone.
///
/// Dropping the last handle leaves the namespace, and with the last namespace the connection is closed. Handles that are
/// given to handlers do not count.
#[derive(Clone)]
pub struct Socket {
    pub(crate) inner: Arc<SocketInner>,
    _keeper: Option<Arc<Keeper>>,
}

/// Where a socket stands, or a [`Manager`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum State {
    /// Of a Manager: no socket has wanted the connection yet.
    Idle,
    /// A first answer is awaited.
    Connecting,
    /// The namespace is joined; of a Manager: the connection is open.
    Connected,
    /// The connection is gone and is made again; the number counts the attempts that have failed, or are on, since.
    Reconnecting(u32),
    /// Left for good, until [`Socket::connect`].
    Disconnected(DisconnectReason),
    /// Refused or given up, until [`Socket::connect`].
    Failed(ConnectFailure),
}

/// An event that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferedEvent {
    /// Its name.
    pub event: String,
    /// How large it is, encoded.
    pub bytes: usize,
}

/// The last handle's drop leaves the namespace.
struct Keeper(Arc<SocketInner>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.leave(DisconnectReason::ClientDisconnect, true);
        self.0.shared.release();
    }
}

impl Socket {
    /// `inner` counts as a keeper of its Manager already.
    pub(crate) fn owned(inner: Arc<SocketInner>) -> Self {
        Self { _keeper: Some(Arc::new(Keeper(Arc::clone(&inner)))), inner }
    }

    pub(crate) fn borrowed(inner: &Arc<SocketInner>) -> Self {
        Self { inner: Arc::clone(inner), _keeper: None }
    }

    /// The id that the server has given this socket, while it is connected. Node: `socket.id`.
    pub fn id(&self) -> Option<String> {
        self.inner.shared.core.lock().connection.id(&self.inner.namespace).map(str::to_owned)
    }

    /// The namespace.
    pub fn name(&self) -> &str {
        &self.inner.namespace
    }

    /// Whether the namespace is joined. Node: `socket.connected`.
    pub fn connected(&self) -> bool {
        self.inner.shared.core.lock().connection.is_connected(&self.inner.namespace)
    }

    /// Whether the namespace is joined or will be by itself. Node: `socket.active`.
    pub fn active(&self) -> bool {
        self.inner.shared.core.lock().connection.is_active(&self.inner.namespace)
    }

    /// Whether the last connection took up where the one before had ended: nothing was missed. Node: `socket.recovered`.
    pub fn recovered(&self) -> bool {
        self.inner.shared.core.lock().connection.recovered(&self.inner.namespace)
    }

    /// Where the socket stands, and every change of it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.status.subscribe()
    }

    /// What waits to be sent: for a connection, or for an answer to what was sent before. Node: `socket.sendBuffer`.
    pub fn buffered(&self) -> Vec<BufferedEvent> {
        self.inner.buffered()
    }

    /// Sends an event. A tuple is several arguments, anything else one; bytes travel as binary.
    ///
    /// While there is no connection the event is kept and sent when there is one. What is returned may be dropped.
    pub fn emit<T: Serialize>(&self, event: &str, data: T) -> Emitted {
        self.flags().emit(event, data)
    }

    /// Sends the event `message`. Node: `socket.send`.
    pub fn send<T: Serialize>(&self, data: T) -> Emitted {
        self.emit("message", data)
    }

    /// Sends a typed event.
    pub fn emit_event<E: TypedEvent<Args: Serialize>>(&self, event: &E) -> Emitted {
        self.emit(E::NAME, event.args())
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Errors
    /// [`AckError::Timeout`] after [`Socket::timeout`] or the builder's `ack_timeout` (without either it waits until the
    /// connection is lost), [`AckError::Disconnected`], [`AckError::Refused`] when the server answers with an error,
    /// [`AckError::Decode`] when the answer is no `R`, [`AckError::NotSent`].
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answer. The event may still be delivered.
    pub async fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, data: impl Serialize) -> Result<R, AckError> {
        self.flags().emit_with_ack(event, data).await
    }

    /// Sends a typed event and waits for its answer; see [`Socket::emit_with_ack`].
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub async fn call<E>(&self, event: &E) -> Result<E::Ack, AckError>
    where
        E: TypedEvent<Args: Serialize, Ack: DeserializeOwned>,
    {
        self.emit_with_ack(E::NAME, event.args()).await
    }

    /// How long the next event's answer may take. Node: `socket.timeout`.
    pub fn timeout(&self, timeout: Duration) -> Emitter<'_> {
        let mut emitter = self.flags();
        emitter.flags.timeout = Some(timeout.min(LONGEST));
        emitter
    }

    /// The next event may be lost: it is dropped unless it can leave at once. Node: `socket.volatile`.
    pub fn volatile(&self) -> Emitter<'_> {
        let mut emitter = self.flags();
        emitter.flags.volatile = true;
        emitter
    }

    /// Whether the next event may be compressed. Default: true. Node: `socket.compress`.
    pub fn compress(&self, compress: bool) -> Emitter<'_> {
        let mut emitter = self.flags();
        emitter.flags.compress = Some(compress);
        emitter
    }

    fn flags(&self) -> Emitter<'_> {
        Emitter { socket: self, flags: Flags::default() }
    }

    /// Adds a handler. Events that came before are not given to it: what must miss nothing belongs on the builder.
    ///
    /// # Errors
    /// [`ConnectFailure::State`] when it asks for state that the builder was not given.
    pub fn on<A: 'static>(&self, event: &str, handler: impl Handler<EventContext, A>) -> Result<(), ConnectFailure> {
        self.listen(event, BoxedHandler::new(handler), false)
    }

    /// Adds a handler of the next event of this name only. Node: `socket.once`.
    ///
    /// # Errors
    /// As [`Socket::on`].
    pub fn once<A: 'static>(&self, event: &str, handler: impl Handler<EventContext, A>) -> Result<(), ConnectFailure> {
        self.listen(event, BoxedHandler::new(handler), true)
    }

    fn listen(&self, event: &str, handler: BoxedHandler<EventContext>, once: bool) -> Result<(), ConnectFailure> {
        handler.check(&self.inner.options.states)?;
        self.change(|handlers| handlers.add(event, handler, once));
        Ok(())
    }

    /// Removes all handlers of an event. Node: `socket.off(event)`.
    pub fn off(&self, event: &str) {
        self.change(|handlers| drop(handlers.events.remove(event)));
    }

    /// Adds a listener that is told of every event that comes. Node: `socket.onAny`.
    pub fn on_any(&self, listener: impl Fn(&str, &Args<'_>) + Send + Sync + 'static) {
        self.change(|handlers| handlers.any.push(Arc::new(listener)));
    }

    /// Removes all listeners of every event that comes. Node: `socket.offAny`.
    pub fn off_any(&self) {
        self.change(|handlers| handlers.any.clear());
    }

    /// Removes all listeners of every event that is sent. Node: `socket.offAnyOutgoing`.
    pub fn off_any_outgoing(&self) {
        self.change(|handlers| handlers.any_outgoing.clear());
    }

    /// The names of the events that have handlers. Node: `socket.listeners`, of one of them.
    pub fn event_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.inner.handlers.read().events.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Adds a listener that is told of every event that is sent. Node: `socket.onAnyOutgoing`.
    pub fn on_any_outgoing(&self, listener: impl Fn(&str, &Args<'_>) + Send + Sync + 'static) {
        self.change(|handlers| handlers.any_outgoing.push(Arc::new(listener)));
    }

    fn change(&self, change: impl FnOnce(&mut Handlers)) {
        change(Arc::make_mut(&mut *self.inner.handlers.write()));
    }

    /// The events that no handler takes, as a stream in the order of the handlers' own.
    ///
    /// Of a socket that was built without any handler it misses nothing, not even the first event. With several streams each
    /// event goes to one of them.
    pub fn events(&self) -> Events {
        Events::new(self.clone())
    }

    /// The connection, which this handle keeps as a socket does. Node: `socket.io`.
    pub fn manager(&self) -> Manager {
        Manager::of(&self.inner.shared)
    }

    /// Another namespace on the same connection.
    pub fn namespace(&self, namespace: &str) -> SocketBuilder {
        SocketBuilder::new(Arc::clone(&self.inner.shared), namespace)
    }

    /// Asks for the namespace again, after a refusal or a disconnection. Node: `socket.connect`.
    pub fn connect(&self) {
        {
            let mut core = self.inner.shared.core.lock();
            if !core.is_registered(&self.inner) || core.connection.is_active(&self.inner.namespace) {
                return;
            }
            core.connection.join(&self.inner.namespace);
        }
        self.inner.state.lock().last_error = None;
        self.inner.status.send_replace(State::Connecting);
        self.inner.shared.wake();
    }

    /// Waits until the namespace is joined, however long that takes.
    ///
    /// # Errors
    /// Why it will not be joined without [`Socket::connect`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn joined(&self) -> Result<(), ConnectFailure> {
        let mut state = self.state();
        loop {
            match state.borrow_and_update().clone() {
                State::Connected => return Ok(()),
                State::Failed(failure) => return Err(failure),
                State::Disconnected(reason) => return Err(ConnectFailure::Lost(reason)),
                State::Idle | State::Connecting | State::Reconnecting(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(ConnectFailure::Lost(DisconnectReason::ClientDisconnect));
            }
        }
    }

    /// Leaves the namespace. The handle can be used to [`connect`](Self::connect) again. Node: `socket.disconnect`.
    pub fn disconnect(&self) {
        self.inner.leave(DisconnectReason::ClientDisconnect, false);
    }

    /// Waits until the socket is disconnected and will not connect again by itself.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) {
        let over = |state: &State| matches!(state, State::Disconnected(_) | State::Failed(_));
        let _ = self.state().wait_for(over).await;
    }

    /// Leaves the namespace for good. If it was the last one of its connection, waits until that is closed and its task has
    /// ended; at most some seconds.
    ///
    /// # Cancel safety
    /// The socket is left all the same when the future is dropped.
    pub async fn close(self) {
        let shared = Arc::clone(&self.inner.shared);
        self.inner.leave(DisconnectReason::ClientDisconnect, true);
        drop(self);
        if shared.keepers.load(std::sync::atomic::Ordering::Acquire) == 0 {
            shared.joined().await;
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The next event of a socket, with what is special about it.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is sent until `emit` or `emit_with_ack`"]
pub struct Emitter<'a> {
    socket: &'a Socket,
    flags: Flags,
}

impl Emitter<'_> {
    /// See [`Socket::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout.min(LONGEST));
        self
    }

    /// See [`Socket::volatile`].
    pub fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// See [`Socket::compress`].
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = Some(compress);
        self
    }

    /// See [`Socket::emit`].
    pub fn emit<T: Serialize>(self, event: &str, data: T) -> Emitted {
        Emitted(self.socket.inner.emit(event, &data, self.flags, None).map(|_| ()))
    }

    /// See [`Socket::emit_with_ack`].
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub async fn emit_with_ack<R: DeserializeOwned>(self, event: &str, data: impl Serialize) -> Result<R, AckError> {
        let (sender, answer) = oneshot::channel();
        let emitted = self.socket.inner.emit(event, &data, self.flags, Some(sender));
        drop(data);
        match emitted {
            Ok(_) => decode_ack(&answer.await.map_err(|_| AckError::Disconnected)??),
            Err(EmitError::Closed) => Err(AckError::Disconnected),
            Err(error) => Err(AckError::NotSent(error.to_string())),
        }
    }
}

/// What became of an emit: it is on its way, or kept, or was refused. May be dropped.
#[derive(Debug)]
pub struct Emitted(Result<(), EmitError>);

impl Emitted {
    /// Whether the event was taken.
    pub fn is_ok(&self) -> bool {
        self.0.is_ok()
    }

    /// Why it was refused, if it was.
    pub fn error(&self) -> Option<&EmitError> {
        self.0.as_ref().err()
    }

    /// The same as a `Result`, for `?`.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn result(self) -> Result<(), EmitError> {
        self.0
    }
}
