//! From options to sockets.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engineio::{
    DeflateOptions, Transport,
    client::{ClientOptions, InvalidClientOption, Proxy},
};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use socketio_core::{BoxedHandler, EventHandler, Handler, StateMap};
use socketio_proto::{AnyParser, Args, Backoff, ClientConnection, Limits, Revision, Value, to_value};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{
    ConnectFailure, DisconnectReason, EventContext, ManagerEvents, Socket, State,
    handlers::Handlers,
    observe::Observers,
    shared::{Auth, Core, Shared, SocketInner, SocketOptions, SocketState},
    task::Task,
};

/// The way in: [`Client::builder`].
#[derive(Debug, Clone, Copy)]
pub struct Client;

impl Client {
    /// A client of the server at this URL (`http`, `https`, `ws` or `wss`). Its path is the namespace, its query goes with
    /// every request. What is wrong with it is said by `connect`.
    pub fn builder(url: &str) -> ClientBuilder {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let namespace = path.find('/').and_then(|at| path.get(at..)).unwrap_or("/").to_owned();
        ClientBuilder {
            engine: ClientOptions::new(url).map(|options| options.path("/socket.io")),
            manager: ManagerOptions::default(),
            namespace,
            socket: SocketSpec::default(),
        }
    }
}

/// What a Manager does by itself.
#[derive(Debug, Clone)]
pub(crate) struct ManagerOptions {
    pub(crate) reconnection: bool,
    pub(crate) reconnection_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Duration,
    pub(crate) parser: AnyParser,
    pub(crate) limits: Limits,
    pub(crate) revision: Revision,
    pub(crate) send_limit: usize,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        let mut limits = Limits::default();
        limits.max_packet_bytes = 16 << 20;
        Self {
            reconnection: true,
            reconnection_attempts: u32::MAX,
            backoff: Backoff::default(),
            timeout: Duration::from_secs(20),
            parser: AnyParser::json(),
            limits,
            revision: Revision::V5,
            send_limit: 16 << 20,
        }
    }
}

/// Builds a connection and its first socket. Shown with `{:#?}` it tells its options, but no secrets.
#[must_use = "nothing happens until `connect`"]
pub struct ClientBuilder {
    engine: Result<ClientOptions, InvalidClientOption>,
    manager: ManagerOptions,
    namespace: String,
    socket: SocketSpec,
}

impl ClientBuilder {
    /// The path of the server. Default: `/socket.io`. Node: `path`.
    pub fn path(self, path: &str) -> Self {
        self.engine(|engine| engine.path(path))
    }

    /// Whether the path ends in a slash. Default: true. Node: `addTrailingSlash`.
    pub fn add_trailing_slash(self, add: bool) -> Self {
        self.engine(|engine| engine.add_trailing_slash(add))
    }

    /// Adds a parameter to the query of every request. Node: `query`.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.engine(|engine| engine.query(name, value))
    }

    /// Adds a header to every request, also to that of a WebSocket. Node: `extraHeaders`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.engine = self.engine.and_then(|engine| engine.header(name, value));
        self
    }

    /// The transports to use, the first one first. Default: polling, then WebSocket. Node: `transports`.
    pub fn transports(self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.engine(|engine| engine.transports(transports))
    }

    /// Whether to move from polling to WebSocket. Default: true. Node: `upgrade`.
    pub fn upgrade(self, upgrade: bool) -> Self {
        self.engine(|engine| engine.upgrade(upgrade))
    }

    /// Whether to begin on WebSocket when the last connection got there. Default: false. Node: `rememberUpgrade`.
    pub fn remember_upgrade(self, remember: bool) -> Self {
        self.engine(|engine| engine.remember_upgrade(remember))
    }

    /// Whether to try the next transport when one fails to open. Default: false. Node: `tryAllTransports`.
    pub fn try_all_transports(self, try_all: bool) -> Self {
        self.engine(|engine| engine.try_all_transports(try_all))
    }

    /// Short polling: how long to wait after a poll that brought nothing. Default: long-polling. See
    /// [`ClientOptions::poll_interval`].
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.engine(|engine| engine.poll_interval(Some(interval)))
    }

    /// The parameter that keeps caches from answering. Default: `t`. Node: `timestampParam`.
    pub fn timestamp_param(self, name: &str) -> Self {
        self.engine(|engine| engine.timestamp_param(name))
    }

    /// Whether requests carry that parameter. Default: those of polling do. Node: `timestampRequests`.
    pub fn timestamp_requests(self, stamp: bool) -> Self {
        self.engine(|engine| engine.timestamp_requests(stamp))
    }

    /// Whether bytes travel as base64, also over WebSocket. Default: false. Node: `forceBase64`.
    pub fn force_base64(self, force: bool) -> Self {
        self.engine(|engine| engine.force_base64(force))
    }

    /// How long one request of polling may take; it must be longer than the server's `pingInterval`. Default: for ever; a
    /// POST has 30 s in any case. Node: `requestTimeout`.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.engine(|engine| engine.request_timeout(Some(timeout)))
    }

    /// The WebSocket subprotocols to offer. Default: none. Node: `protocols`.
    pub fn protocols<S: Into<String>>(self, protocols: impl IntoIterator<Item = S>) -> Self {
        self.engine(|engine| engine.protocols(protocols))
    }

    /// Other options for the requests of one transport. Node: `transportOptions`. See
    /// [`ClientOptions::transport_options`].
    pub fn transport_options(
        self,
        transport: Transport,
        change: impl Fn(ClientOptions) -> ClientOptions + Send + Sync + 'static,
    ) -> Self {
        self.engine(|engine| engine.transport_options(transport, change))
    }

    /// The largest WebSocket message and the largest answer to a poll that are taken, in bytes. Default: 16 MiB. Node:
    /// `maxPayload` of `ws`.
    pub fn max_inbound_payload(self, bytes: usize) -> Self {
        self.engine(|engine| engine.max_inbound_payload(bytes))
    }

    /// Whether cookies that the server sets are sent back. Default: false. Node: `withCredentials`.
    pub fn with_credentials(self, with: bool) -> Self {
        self.engine(|engine| engine.with_credentials(with))
    }

    /// Compression of WebSocket messages. Default: on, from 1,024 bytes. Node: `perMessageDeflate`.
    pub fn per_message_deflate(self, options: Option<DeflateOptions>) -> Self {
        self.engine(|engine| engine.per_message_deflate(options))
    }

    /// How to make a connection to a host and a port; TLS comes on top of it. Default: TCP. Node: `agent`.
    pub fn connector<F, Fut, S>(self, connect: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.engine(|engine| engine.connector(connect))
    }

    /// The proxy to go through, with polling and WebSocket alike. Default: none; no variable of the environment is read.
    /// Node: `agent`.
    pub fn proxy(self, proxy: Proxy) -> Self {
        self.engine(|engine| engine.proxy(Some(proxy)))
    }

    /// The TLS of `https` and `wss`. Default: the roots of the platform.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: engineio::client::ClientTls) -> Self {
        self.engine(|engine| engine.tls(tls))
    }

    /// All other options of the transports.
    pub fn engine(mut self, change: impl FnOnce(ClientOptions) -> ClientOptions) -> Self {
        self.engine = self.engine.map(change);
        self
    }

    /// For servers of Socket.IO 2.x. Default: false.
    pub fn eio3(mut self, eio3: bool) -> Self {
        self.manager.revision = if eio3 { Revision::V4 } else { Revision::V5 };
        let revision = if eio3 { engineio::Revision::V3 } else { engineio::Revision::V4 };
        self.engine(|engine| engine.revision(revision))
    }

    /// How packets are encoded; the server must use the same. Default: JSON. Node: `parser`.
    pub fn parser(mut self, parser: AnyParser) -> Self {
        self.manager.parser = parser;
        self
    }

    /// How long opening the connection may take, the answer of a namespace, and the application's `auth`. Default: 20 s.
    /// Node: `timeout`, for the first of these.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.manager.timeout = timeout.min(LONGEST);
        self.engine(|engine| engine.timeout(timeout))
    }

    /// Whether a connection that is lost, or cannot be made, is tried again. Default: true. Node: `reconnection`.
    pub fn reconnection(mut self, reconnection: bool) -> Self {
        self.manager.reconnection = reconnection;
        self
    }

    /// How often. Default: for ever. Node: `reconnectionAttempts`.
    pub fn reconnection_attempts(mut self, attempts: u32) -> Self {
        self.manager.reconnection_attempts = attempts;
        self
    }

    /// The first delay. Default: 1 s. Node: `reconnectionDelay`.
    pub fn reconnection_delay(mut self, delay: Duration) -> Self {
        self.manager.backoff.delay = delay;
        self
    }

    /// The longest delay. Default: 5 s. Node: `reconnectionDelayMax`.
    pub fn reconnection_delay_max(mut self, delay: Duration) -> Self {
        self.manager.backoff.delay_max = delay.min(LONGEST);
        self
    }

    /// How far a delay may deviate, 0 to 1. Default: 0.5. Node: `randomizationFactor`.
    pub fn randomization_factor(mut self, factor: f64) -> Self {
        self.manager.backoff.randomization_factor = factor;
        self
    }

    /// Another namespace than the path of the URL.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// Connects, and waits for the answer of the namespace.
    ///
    /// # Errors
    /// Why the first attempt failed; it is not tried again. [`connect_lazy`](Self::connect_lazy) goes on.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the attempt off.
    pub async fn connect(self) -> Result<Socket, ConnectFailure> {
        let (manager, socket) = self.split()?;
        let connected = socket.connect().await;
        drop(manager);
        connected
    }

    /// Returns at once and connects in the background, trying again as long as it takes: Node's behaviour.
    ///
    /// # Errors
    /// When an option makes no sense.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Socket, ConnectFailure> {
        let (manager, socket) = self.split()?;
        let socket = socket.connect_lazy();
        drop(manager);
        socket
    }

    /// A connection without a socket yet. It is made when the first socket wants it.
    ///
    /// # Errors
    /// When an option makes no sense.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn manager(self) -> Result<Manager, ConnectFailure> {
        self.split().map(|(manager, _)| manager)
    }

    pub(crate) fn split(self) -> Result<(Manager, SocketBuilder), ConnectFailure> {
        let manager = Manager::start(self.engine?, self.manager);
        let socket = SocketBuilder { shared: Arc::clone(&manager.0.0), namespace: self.namespace, spec: self.socket };
        Ok((manager, socket))
    }
}

/// One connection, for sockets of any number of namespaces. Dropping it leaves them alone; with the last socket and the
/// last handle the connection is closed. Node: `Manager`.
#[derive(Clone)]
pub struct Manager(Arc<ManagerKeeper>);

struct ManagerKeeper(Arc<Shared>);

impl Drop for ManagerKeeper {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Manager {
    fn start(engine: ClientOptions, options: ManagerOptions) -> Self {
        let mut limits = options.limits.clone();
        limits.connect_timeout = options.timeout;
        let core = Core {
            connection: ClientConnection::new(options.revision, limits),
            sockets: HashMap::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            queued: 0,
            send_limit: options.send_limit,
            max_payload: None,
            polling: false,
            stop: false,
            waker: None,
        };
        let shared = Arc::new(Shared {
            parser: options.parser.clone(),
            core: Mutex::new(core),
            keepers: AtomicUsize::new(1),
            done: watch::Sender::new(false),
            status: watch::Sender::new(State::Idle),
            observers: Observers::default(),
        });
        tokio::spawn(Task::new(Arc::clone(&shared), engine, options));
        Self(Arc::new(ManagerKeeper(shared)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// A socket for a namespace. Node: `manager.socket`.
    pub fn socket(&self, namespace: &str) -> SocketBuilder {
        SocketBuilder::new(Arc::clone(&self.0.0), namespace)
    }

    /// Takes part in a connection that others keep.
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        shared.keepers.fetch_add(1, Ordering::AcqRel);
        Self(Arc::new(ManagerKeeper(Arc::clone(shared))))
    }

    /// Where the connection stands, and every change of it: [`State::Idle`] until the first socket wants it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.0.status.subscribe()
    }

    /// What happens to the connection from now on. Node: the events of `Manager`.
    pub fn events(&self) -> ManagerEvents {
        self.0.0.observers.subscribe()
    }

    /// Closes the connection with all its sockets and waits until its task has ended; at most some seconds.
    pub async fn close(self) {
        let shared = Arc::clone(&self.0.0);
        drop(self);
        let sockets: Vec<_> = shared.core.lock().sockets.values().cloned().collect();
        for socket in sockets {
            socket.leave(DisconnectReason::ClientDisconnect, true);
        }
        shared.stop();
        shared.joined().await;
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manager")
    }
}

/// Builds a socket on a connection.
#[must_use = "nothing happens until `connect`"]
pub struct SocketBuilder {
    shared: Arc<Shared>,
    namespace: String,
    spec: SocketSpec,
}

impl SocketBuilder {
    pub(crate) fn new(shared: Arc<Shared>, namespace: &str) -> Self {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        Self { shared, namespace: format!("{slash}{namespace}"), spec: SocketSpec::default() }
    }

    /// Joins the namespace, and waits for its answer.
    ///
    /// # Errors
    /// Why the first attempt failed; it is not tried again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the namespace.
    pub async fn connect(self) -> Result<Socket, ConnectFailure> {
        let socket = self.connect_lazy()?;
        let mut state = socket.state();
        loop {
            match state.borrow_and_update().clone() {
                State::Connected => return Ok(socket),
                State::Failed(failure) => return Err(failure),
                State::Disconnected(reason) => return Err(ConnectFailure::Lost(reason)),
                State::Reconnecting(_) => {
                    let last = socket.inner.state.lock().last_error.clone();
                    return Err(last.unwrap_or(ConnectFailure::GaveUp));
                }
                State::Idle | State::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Err(ConnectFailure::Lost(DisconnectReason::ClientDisconnect));
            }
        }
    }

    /// Returns at once and joins in the background, trying again as long as it takes.
    ///
    /// # Errors
    /// When the namespace is in use on this connection, or a handler asks for state that is not there.
    pub fn connect_lazy(self) -> Result<Socket, ConnectFailure> {
        let SocketSpec { handlers, states, auth, ack_timeout, retries, buffer, mailbox } = self.spec;
        for listener in handlers.events.values().flatten() {
            listener.handler.check(&states)?;
        }
        let options = SocketOptions {
            auth,
            states,
            ack_timeout,
            retries,
            buffer_events: buffer.0,
            buffer_bytes: buffer.1,
            mailbox_events: mailbox.0,
            mailbox_bytes: mailbox.1,
            keep_unhandled: handlers.events.is_empty(),
        };
        let inner = Arc::new(SocketInner {
            shared: Arc::clone(&self.shared),
            namespace: self.namespace,
            options,
            handlers: RwLock::new(Arc::new(handlers)),
            state: Mutex::new(SocketState::default()),
            status: watch::Sender::new(State::Connecting),
        });
        {
            let mut core = self.shared.core.lock();
            if core.stop {
                return Err(ConnectFailure::Lost(DisconnectReason::ClientDisconnect));
            }
            if core.sockets.contains_key(&inner.namespace) {
                return Err(ConnectFailure::InUse);
            }
            core.sockets.insert(inner.namespace.clone(), Arc::clone(&inner));
            core.connection.join(&inner.namespace);
            self.shared.keepers.fetch_add(1, Ordering::AcqRel);
        }
        self.shared.wake();
        Ok(Socket::owned(inner))
    }
}

impl fmt::Debug for SocketBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketBuilder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What a socket is made of.
struct SocketSpec {
    handlers: Handlers,
    states: StateMap,
    auth: Option<Auth>,
    ack_timeout: Option<Duration>,
    retries: Option<u32>,
    /// Events and bytes.
    buffer: (usize, usize),
    mailbox: (usize, usize),
}

impl Default for SocketSpec {
    fn default() -> Self {
        Self {
            handlers: Handlers::default(),
            states: StateMap::new(),
            auth: None,
            ack_timeout: None,
            retries: None,
            buffer: (8_192, 4 << 20),
            mailbox: (65_536, 32 << 20),
        }
    }
}

impl fmt::Debug for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketSpec")
            .field("auth", &self.auth.as_ref().map(|_| ..))
            .field("ack_timeout", &self.ack_timeout)
            .field("retries", &self.retries)
            .field("buffer", &self.buffer)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manager = &self.manager;
        f.debug_struct("ClientBuilder")
            .field("namespace", &self.namespace)
            .field("reconnection", &manager.reconnection)
            .field(
                "reconnection_attempts",
                &(manager.reconnection_attempts < u32::MAX).then_some(manager.reconnection_attempts),
            )
            .field("reconnection_delay", &manager.backoff.delay)
            .field("reconnection_delay_max", &manager.backoff.delay_max)
            .field("randomization_factor", &manager.backoff.randomization_factor)
            .field("eio3", &(manager.revision == Revision::V4))
            .field("parser", &manager.parser)
            .field("engine", &self.engine)
            .field("socket", &self.socket)
            .finish()
    }
}

/// No deadline is so far away that no clock reaches it.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What may be given as `auth`: a value, or an async function that is asked at every attempt.
///
/// The function returns the value, or a `Result` of it whose error is shown as text.
pub trait IntoAuth<Marker> {
    #[doc(hidden)]
    fn into_auth(self) -> Auth_;
}

/// What [`IntoAuth`] makes.
#[doc(hidden)]
pub struct Auth_(pub(crate) Auth);

impl fmt::Debug for Auth_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

/// Marks a value.
#[derive(Debug)]
pub enum ByValue {}
/// Marks a function.
#[derive(Debug)]
pub enum ByFunction {}

impl<T: Serialize> IntoAuth<ByValue> for T {
    fn into_auth(self) -> Auth_ {
        let value = to_value(&self).map_err(|error| error.to_string());
        Auth_(Arc::new(move || Box::pin(std::future::ready(value.clone()))))
    }
}

impl<F, Fut> IntoAuth<(ByFunction, Fut)> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Serialize> + Send + 'static,
{
    fn into_auth(self) -> Auth_ {
        Auth_(Arc::new(move || {
            let asked = self();
            Box::pin(async move { read(to_value(&asked.await).map_err(|error| error.to_string())?) })
        }))
    }
}

/// serde shows a `Result` as an enum, `{"Ok": …}` or `{"Err": …}`.
fn read(value: Value) -> Result<Value, String> {
    match value {
        Value::Map(mut map) if map.len() == 1 => {
            if let Some(value) = map.remove("Ok") {
                return Ok(value);
            }
            match map.remove("Err") {
                Some(Value::String(error)) => Err(error),
                Some(error) => Err(serde_json::to_string(&error).unwrap_or_default()),
                None => Ok(Value::Map(map)),
            }
        }
        other => Ok(other),
    }
}

/// The same for the builder of a connection and for that of a socket.
macro_rules! socket_methods {
    ($builder:ty, $($spec:tt)+) => {
        impl $builder {
            /// Adds a handler: an async function of extractors, whose return value answers the server. Several handlers of
            /// one event run in order; the first that returns something answers.
            pub fn on<A: 'static>(mut self, event: &str, handler: impl Handler<EventContext, A>) -> Self {
                self.$($spec)+.handlers.add(event, BoxedHandler::new(handler), false);
                self
            }

            /// Adds a handler of the next event of this name only. Node: `once`.
            pub fn once<A: 'static>(mut self, event: &str, handler: impl Handler<EventContext, A>) -> Self {
                self.$($spec)+.handlers.add(event, BoxedHandler::new(handler), true);
                self
            }

            /// Adds a handler of a typed event.
            pub fn on_event<A: 'static, P, H: EventHandler<EventContext, A, P>>(self, handler: H) -> Self {
                self.on(<H::Event as socketio_core::event::Event>::NAME, handler)
            }

            /// Calls this whenever the namespace is joined. Node: the event `connect`.
            pub fn on_connect<Fut>(mut self, handler: impl Fn(Socket) -> Fut + Send + Sync + 'static) -> Self
            where
                Fut: Future<Output = ()> + Send + 'static,
            {
                self.$($spec)+.handlers.connect.push(Arc::new(move |socket| Box::pin(handler(socket))));
                self
            }

            /// Calls this whenever the namespace is left, for whatever reason. Node: the event `disconnect`.
            pub fn on_disconnect<Fut>(
                mut self,
                handler: impl Fn(Socket, DisconnectReason) -> Fut + Send + Sync + 'static,
            ) -> Self
            where
                Fut: Future<Output = ()> + Send + 'static,
            {
                self.$($spec)+
                    .handlers
                    .disconnect
                    .push(Arc::new(move |socket, reason| Box::pin(handler(socket, reason))));
                self
            }

            /// Calls this whenever an attempt fails. Node: the event `connect_error`.
            pub fn on_connect_error<Fut>(
                mut self,
                handler: impl Fn(Socket, ConnectFailure) -> Fut + Send + Sync + 'static,
            ) -> Self
            where
                Fut: Future<Output = ()> + Send + 'static,
            {
                self.$($spec)+.handlers.error.push(Arc::new(move |socket, error| Box::pin(handler(socket, error))));
                self
            }

            /// Tells a listener of every event that comes, before its handlers. Node: `onAny`.
            pub fn on_any(mut self, listener: impl Fn(&str, &Args<'_>) + Send + Sync + 'static) -> Self {
                self.$($spec)+.handlers.any.push(Arc::new(listener));
                self
            }

            /// Tells a listener of every event that is sent. Node: `onAnyOutgoing`.
            pub fn on_any_outgoing(mut self, listener: impl Fn(&str, &Args<'_>) + Send + Sync + 'static) -> Self {
                self.$($spec)+.handlers.any_outgoing.push(Arc::new(listener));
                self
            }

            /// What handlers may take as [`State<T>`](crate::extract::State).
            pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
                self.$($spec)+.states.insert(value);
                self
            }

            /// What the server is told when the namespace is joined: a value, or an async function that is asked at every
            /// attempt. It must be an object. A 2.x server takes it as the query of the namespace, and none for `/`. Node: `auth`.
            pub fn auth<M>(mut self, auth: impl IntoAuth<M>) -> Self {
                self.$($spec)+.auth = Some(auth.into_auth().0);
                self
            }

            /// How long answers may take where nothing else is said. Default: until the connection is lost. Node:
            /// `ackTimeout`.
            pub fn ack_timeout(mut self, timeout: Duration) -> Self {
                self.$($spec)+.ack_timeout = Some(timeout.min(LONGEST));
                self
            }

            /// Sends every event that is not volatile until it is answered, one after the other: again after
            /// `ack_timeout`, at most so many times, and again on every new connection. Default: off. Node: `retries`.
            pub fn retries(mut self, retries: u32) -> Self {
                self.$($spec)+.retries = Some(retries);
                self
            }

            /// How many events and bytes wait for a connection at most. Default: 8,192 and 4 MiB.
            pub fn buffer(mut self, events: usize, bytes: usize) -> Self {
                self.$($spec)+.buffer = (events, bytes);
                self
            }

            /// How many events and bytes wait for the handlers at most; beyond it the socket leaves, so that the other
            /// sockets and the heartbeat go on. Default: 65,536 and 32 MiB.
            pub fn mailbox(mut self, events: usize, bytes: usize) -> Self {
                self.$($spec)+.mailbox = (events, bytes);
                self
            }
        }
    };
}

socket_methods!(ClientBuilder, socket);
socket_methods!(SocketBuilder, spec);
