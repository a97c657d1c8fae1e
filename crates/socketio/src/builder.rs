//! How a server is put together: options, namespaces, then one check of everything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engineio::{
    AddressLimits, Cookie, Cors, DeflateOptions, Hosts, Hsts, InvalidOption, Origins, RefusedConnection,
    RefusedRequest, RequireTls, SecurityEvent, SecurityLog, SessionBinding, TrafficLimits, Transport, TrustedProxies,
};
use http::{HeaderMap, Response};
use socketio_adapter::cluster::{Bus, ClusterOptions};
use socketio_core::{MissingState, Rejection, StateMap};
use socketio_proto::AnyParser;
use tokio::net::ToSocketAddrs;

use crate::cluster::Cluster;
use crate::dynamic::ChildCount;
use crate::env::{Env, ErrorHook, NamespaceHook};
use crate::fault::{self, FaultHook};
use crate::hub::{App, Names};
use crate::recovery::{RecoveryConfig, RecoveryOptions};
use crate::stats::Counters;
use crate::{Fault, Limits, Namespace, NamespaceHandle, Socket, SocketIo};

type RefusalHook = Arc<dyn Fn(&RefusedRequest<'_>) + Send + Sync>;

/// Builds a [`SocketIo`]. The methods carry Node's option names, and Node's defaults unless their text says otherwise.
#[must_use = "a builder does nothing until `build` or `listen`"]
pub struct Builder {
    engine: engineio::Builder,
    limits: Limits,
    parser: AnyParser,
    ack_timeout: Duration,
    namespaces: Vec<Namespace>,
    states: StateMap,
    on_error: Option<ErrorHook>,
    on_fault: Option<FaultHook>,
    on_refused: Option<RefusalHook>,
    cleanup: bool,
    adapter: Option<Arc<dyn Bus>>,
    cluster_options: ClusterOptions,
    forward_requests: bool,
    trusted_proxies: TrustedProxies,
    on_new_namespace: Option<NamespaceHook>,
    recovery: Option<RecoveryOptions>,
    security: SecurityLog,
}

/// Why a server could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option of the transports makes no sense.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// A server with an [`adapter`](Builder::adapter) is built outside of a tokio runtime.
    #[error("a server with an adapter has to be built on a tokio runtime")]
    NoRuntime,
    /// Two namespaces have the same name.
    #[error("the namespace `{0}` was given twice")]
    DuplicateNamespace(String),
    /// A dynamic namespace has a pattern or regular expression that cannot be read.
    #[error("`{pattern}` is no pattern of names: {message}")]
    InvalidPattern {
        /// The pattern or regular expression.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// A namespace has a name that no client could ask for.
    #[error("`{0}` cannot be the name of a namespace: it is too long or has control characters")]
    InvalidNamespace(String),
    /// A handler takes `State<T>` and nobody has given a `T`.
    #[error("namespace `{namespace}`: {missing}")]
    MissingState {
        /// The namespace whose handler it is.
        namespace: String,
        /// What is missing.
        missing: MissingState,
    },
}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            engine: engineio::Server::<App>::builder().path("/socket.io"),
            limits: Limits::default(),
            parser: AnyParser::json(),
            ack_timeout: Duration::from_secs(30),
            namespaces: Vec::new(),
            states: StateMap::new(),
            on_error: None,
            on_fault: None,
            on_refused: None,
            cleanup: true,
            adapter: None,
            cluster_options: ClusterOptions::default(),
            forward_requests: true,
            trusted_proxies: TrustedProxies::default(),
            on_new_namespace: None,
            recovery: None,
            security: SecurityLog::new(),
        }
    }

    /// Adds a namespace.
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespaces.push(namespace);
        self
    }

    /// Stores a value for the handlers of all namespaces, who take it as [`State<T>`](crate::State).
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// The parser of packets. Clients must use the same. Default: [`AnyParser::json`]. Node: `parser`.
    pub fn parser(mut self, parser: AnyParser) -> Self {
        self.parser = parser;
        self
    }

    /// All bounds at once. Set it before single ones, such as [`max_payload`](Self::max_payload).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a client may be connected without having joined a namespace, and how long middleware may take.
    ///
    /// Default: 45 s. Node: `connectTimeout`.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// The largest message a client may send, in bytes. Default: 1,000,000. Node: `maxHttpBufferSize`.
    ///
    /// It also bounds the attachments of one packet together.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.limits.max_payload = bytes;
        self.limits.max_packet_bytes = bytes;
        self
    }

    /// [`max_payload`](Self::max_payload) by Node's name.
    pub fn max_http_buffer_size(self, bytes: usize) -> Self {
        self.max_payload(bytes)
    }

    /// How long `emit_with_ack` waits where the call says nothing else. Default: 30 s; Node waits for ever.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// Is told of every handler that could not be called because an argument did not fit, in namespaces without a hook of
    /// their own; see [`Namespace::on_error`].
    pub fn on_error(mut self, hook: impl Fn(&Socket, &str, &Rejection) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Whether a namespace that came from a [pattern](Namespace::pattern) is gone when nobody is in it and nobody holds a
    /// handle to it. Node: `cleanupEmptyChildNamespaces`.
    ///
    /// Default: `true`, unlike Node: clients choose the names, and what they leave behind must not fill the server.
    pub fn cleanup_empty_child_namespaces(mut self, cleanup: bool) -> Self {
        self.cleanup = cleanup;
        self
    }

    /// Is told of every namespace that is made while the server runs, before its first client is in. Runs on a connection's
    /// task: be short. Node: the event `new_namespace`.
    pub fn on_new_namespace(mut self, hook: impl Fn(&NamespaceHandle) + Send + Sync + 'static) -> Self {
        self.on_new_namespace = Some(Arc::new(hook));
        self
    }

    /// What connects this server with others, so that all of them serve one application: a bus of `socketio-redis` or
    /// `socketio-postgres`, or of a [`MemoryBroker`](crate::MemoryBroker) for tests. Default: none, the server is alone. Node: `adapter`.
    ///
    /// The server has to be built on a tokio runtime then.
    pub fn adapter(mut self, bus: impl Bus) -> Self {
        self.adapter = Some(Arc::new(bus));
        self
    }

    /// Heartbeats between servers and the bounds of what they ask each other. Node: `heartbeatInterval` and
    /// `heartbeatTimeout` of the adapters.
    pub fn cluster_options(mut self, options: ClusterOptions) -> Self {
        self.cluster_options = options;
        self
    }

    /// Whether requests that have reached another server of the cluster than the one that has their session are passed on to it,
    /// over the [`adapter`](Self::adapter): polls, POSTs and upgrades to WebSocket, which then goes through both servers. So no
    /// balancer needs to be sticky. Node has this in a package of its own, `@socket.io/cluster-engine`.
    ///
    /// Default: `true`; it does nothing without an adapter. All servers of a cluster should have the same.
    pub fn forward_requests(mut self, forward: bool) -> Self {
        self.forward_requests = forward;
        self
    }

    /// The proxies whose word about a client counts: its address, for [`Handshake::client_ip`](crate::Handshake::client_ip),
    /// [`ClientIp`](crate::ClientIp) and the [limits for addresses](Self::limit_addresses), and whether it used TLS. Default:
    /// none.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.trusted_proxies = proxies.clone();
        self.engine(|engine| engine.trusted_proxies(proxies))
    }

    /// Lets clients that lose their connection for a while come back to their socket: its id, rooms and data, and the events
    /// that were sent to it meanwhile. Default: off. Node: `connectionStateRecovery`.
    ///
    /// Every event to these clients then carries an offset as one more argument, as in Node.
    pub fn connection_state_recovery(mut self, options: RecoveryOptions) -> Self {
        self.recovery = Some(options);
        self
    }

    /// Is told of everything that goes wrong: refused requests, clients and events, errors that handlers answer with or keep
    /// for themselves, clients that leave the protocol, connections that fail, panics. Default: none.
    ///
    /// It runs where it happened, often on the task of a connection: be short. The other hooks are called beside it.
    ///
    /// ```
    /// use socketio::SocketIo;
    ///
    /// let server = SocketIo::builder().on_fault(|fault| eprintln!("{}: {fault}", fault.kind()));
    /// # let _ = server;
    /// ```
    pub fn on_fault(mut self, hook: impl Fn(&Fault<'_>) + Send + Sync + 'static) -> Self {
        self.on_fault = Some(Arc::new(hook));
        self
    }

    /// Is told of every security event: what clients are refused, which rules they break, which limits they reach. May be
    /// called several times. Default: none; [`SocketIo::security`] counts them in any case.
    ///
    /// It runs where it happened, often on the task of a connection: be short, or use
    /// [`SocketIo::security_events`]. There is no secret in an event.
    ///
    /// ```
    /// use socketio::SocketIo;
    ///
    /// let server = SocketIo::builder().on_security_event(|event| println!("{}", event.to_json()));
    /// # let _ = server;
    /// ```
    pub fn on_security_event(self, hook: impl Fn(&SecurityEvent) + Send + Sync + 'static) -> Self {
        self.security.on_event(hook);
        self
    }

    /// The path of the server. Default: `/socket.io`. Node: `path`.
    pub fn path(self, path: impl Into<String>) -> Self {
        self.engine(|engine| engine.path(path))
    }

    /// Whether the path ends with a slash on the wire. Default: `true`. Node: `addTrailingSlash`.
    pub fn add_trailing_slash(self, add: bool) -> Self {
        self.engine(|engine| engine.add_trailing_slash(add))
    }

    /// The transports that clients may use. Default: polling and WebSocket. Node: `transports`.
    pub fn transports(self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.engine(|engine| engine.transports(transports))
    }

    /// Whether a polling session may move to WebSocket. Default: `true`. Node: `allowUpgrades`.
    pub fn allow_upgrades(self, allow: bool) -> Self {
        self.engine(|engine| engine.allow_upgrades(allow))
    }

    /// Whether clients of Socket.IO 2.x (Engine.IO 3) are served. Default: `false`. Node: `allowEIO3`.
    pub fn allow_eio3(self, allow: bool) -> Self {
        self.engine(|engine| engine.allow_eio3(allow))
    }

    /// How long after a pong the next ping is sent. Default: 25 s. Node: `pingInterval`.
    pub fn ping_interval(self, interval: Duration) -> Self {
        self.engine(|engine| engine.ping_interval(interval))
    }

    /// How long a client may take to answer a ping. Default: 20 s. Node: `pingTimeout`.
    pub fn ping_timeout(self, timeout: Duration) -> Self {
        self.engine(|engine| engine.ping_timeout(timeout))
    }

    /// How long an upgrade may take. Default: 10 s. Node: `upgradeTimeout`.
    pub fn upgrade_timeout(self, timeout: Duration) -> Self {
        self.engine(|engine| engine.upgrade_timeout(timeout))
    }

    /// The longest time that a poll is held; zero answers at once. Default: as long as the ping interval lets it.
    pub fn poll_hold(self, longest: Option<Duration>) -> Self {
        self.engine(|engine| engine.poll_hold(longest))
    }

    /// After how long the system gives up a TCP connection of the stand-alone listener whose peer's machine no longer answers;
    /// `None` leaves it to the system. Default: 60 s. See [`engineio::Builder::tcp_timeout`].
    pub fn tcp_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.engine(|engine| engine.tcp_timeout(timeout))
    }

    /// The most TCP connections of the stand-alone listener, WebSockets included. Default: 1,000,000.
    pub fn max_connections(self, most: usize) -> Self {
        self.engine(|engine| engine.max_connections(most))
    }

    /// Which other sites' pages may use this server. Default: none. Node: `cors.origin`, which does not protect WebSocket;
    /// this does.
    pub fn origins(self, origins: Origins) -> Self {
        self.engine(|engine| engine.origins(origins))
    }

    /// The CORS headers that let pages of other origins read answers to polls. Default: none. Node: `cors`.
    ///
    /// Unless [`origins`](Self::origins) is called too, whoever may read answers may also use the server.
    pub fn cors(self, cors: Cors) -> Self {
        self.engine(|engine| engine.cors(cors))
    }

    /// Answers only requests for a loopback `Host`, for servers of the own machine. Default: `false`.
    pub fn loopback_hosts_only(self, only: bool) -> Self {
        self.engine(|engine| engine.loopback_hosts_only(only))
    }

    /// The names under which the server may be asked for; others get status 421. Default: all. Wins over
    /// [`loopback_hosts_only`](Self::loopback_hosts_only).
    pub fn hosts(self, hosts: Hosts) -> Self {
        self.engine(|engine| engine.hosts(hosts))
    }

    /// Serves clients over TLS only: requests without are refused or redirected. Behind a proxy that ends TLS, it has to be one
    /// of the [`trusted_proxies`](Self::trusted_proxies). Default: `None`, however a session that was opened over TLS never goes
    /// on without.
    pub fn require_tls(self, rule: impl Into<Option<RequireTls>>) -> Self {
        self.engine(|engine| engine.require_tls(rule))
    }

    /// The header `Strict-Transport-Security` on every answer over TLS. Default: none.
    pub fn hsts(self, hsts: impl Into<Option<Hsts>>) -> Self {
        self.engine(|engine| engine.hsts(hsts))
    }

    /// Whether every answer has the headers that keep it from being anything but what it is: `X-Content-Type-Options`,
    /// `X-Frame-Options`, `Referrer-Policy` and a `Content-Security-Policy` that allows nothing. Default: `false`.
    pub fn security_headers(self, add: bool) -> Self {
        self.engine(|engine| engine.security_headers(add))
    }

    /// What a session is bound to besides its id: the client's address, a cookie, its certificate. Default: nothing.
    pub fn session_binding(self, binding: impl Into<Option<SessionBinding>>) -> Self {
        self.engine(|engine| engine.session_binding(binding))
    }

    /// How many connections and sessions one address may have, and how fast it may open them. Default: no limit; a good one is
    /// `AddressLimits::default()`. Behind a proxy it takes [`trusted_proxies`](Self::trusted_proxies), too, or everybody is one.
    pub fn limit_addresses(self, limits: impl Into<Option<AddressLimits>>) -> Self {
        self.engine(|engine| engine.limit_addresses(limits))
    }

    /// How much one connection may send. Default: no limit; a good one is `TrafficLimits::default()`.
    pub fn limit_traffic(self, limits: impl Into<Option<TrafficLimits>>) -> Self {
        self.engine(|engine| engine.limit_traffic(limits))
    }

    /// The cookie for load balancers with sticky sessions. Default: none. Node: `cookie`.
    pub fn cookie(self, cookie: Cookie) -> Self {
        self.engine(|engine| engine.cookie(cookie))
    }

    /// Offers compression of WebSocket messages. Default: off. Node: `perMessageDeflate`.
    pub fn per_message_deflate(self, options: DeflateOptions) -> Self {
        self.engine(|engine| engine.per_message_deflate(options))
    }

    /// Compresses answers to polls from this many bytes on; `None` never does. Default: 1,024. Node: `httpCompression`.
    pub fn http_compression(self, threshold: Option<usize>) -> Self {
        self.engine(|engine| engine.http_compression(threshold))
    }

    /// Answers the request that would open a session with something else: a question that proves a person behind it (CAPTCHA),
    /// a proof of work. `Ok` lets it pass; an answer whose status is not 4xx is sent with 403. Asked before
    /// [`allow_request`](Self::allow_request).
    pub fn challenge<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(&engineio::Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Response<bytes::Bytes>>> + Send + 'static,
    {
        self.engine(|engine| engine.challenge(hook))
    }

    /// Decides, from the request that opens it, whether a session may be opened. Node: `allowRequest`.
    pub fn allow_request<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(&engineio::Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.engine(|engine| engine.allow_request(hook))
    }

    /// Changes the headers of the first answer of a session. Node: the `initial_headers` event.
    pub fn initial_headers(self, hook: impl Fn(&mut HeaderMap, &engineio::Handshake) + Send + Sync + 'static) -> Self {
        self.engine(|engine| engine.initial_headers(hook))
    }

    /// Changes the headers of every answer of a session. Node: the `headers` event.
    pub fn headers(self, hook: impl Fn(&mut HeaderMap, &engineio::Handshake) + Send + Sync + 'static) -> Self {
        self.engine(|engine| engine.headers(hook))
    }

    /// Sees every refused request. Node: the `connection_error` event.
    pub fn on_refused(mut self, hook: impl Fn(&RefusedRequest<'_>) + Send + Sync + 'static) -> Self {
        self.on_refused = Some(Arc::new(hook));
        self
    }

    /// Sees every connection of `listen` that ended before there was a request on it: limits, TLS, no HTTP. Be short: it runs
    /// on the task that accepts.
    pub fn on_connection_refused(self, hook: impl Fn(&RefusedConnection) + Send + Sync + 'static) -> Self {
        self.engine(|engine| engine.on_connection_refused(hook))
    }

    /// Where the peer's address is found when another HTTP server runs the service.
    pub fn peer_addr(self, hook: impl Fn(&http::Extensions) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        self.engine(|engine| engine.peer_addr(hook))
    }

    /// Reaches options of the engine that have no method here.
    pub fn engine(mut self, change: impl FnOnce(engineio::Builder) -> engineio::Builder) -> Self {
        self.engine = change(self.engine);
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// [`BuildError`] says what does not fit together.
    pub fn build(self) -> Result<SocketIo, BuildError> {
        let Self {
            engine,
            limits,
            parser,
            ack_timeout,
            namespaces,
            states,
            on_error,
            cleanup,
            adapter,
            cluster_options,
            forward_requests,
            on_fault,
            on_refused,
            trusted_proxies,
            on_new_namespace,
            recovery,
            security,
        } = self;
        // Only the first server of a process gets to set it; they would all set the same.
        socketio_core::set_internal_error_hook(fault::internal);
        let engine = match (on_fault.clone(), on_refused) {
            (None, None) => engine,
            (on_fault, on_refused) => engine.on_refused(move |refused| {
                if let Some(hook) = &on_refused {
                    hook(refused);
                }
                if let Some(hook) = &on_fault {
                    fault::tell(hook, &Fault::RequestRefused(refused));
                }
            }),
        };
        if let Some(hook) = &on_fault {
            fault::register(hook);
        }
        let engine = engine.limits(limits.engine()).security_log(security.clone());
        let cluster = match adapter {
            Some(_) if tokio::runtime::Handle::try_current().is_err() => return Err(BuildError::NoRuntime),
            Some(bus) => Some(Cluster::start(bus, cluster_options)),
            None => None,
        };
        let engine = match &cluster {
            Some(cluster) if forward_requests => cluster.carries(engine),
            _ => engine,
        };
        let env = Arc::new(Env {
            parser,
            proto_limits: limits.proto(),
            limits,
            ack_timeout,
            counters: Counters::default(),
            trusted_proxies,
            cluster: cluster.clone(),
            cleanup_empty_child_namespaces: cleanup,
            children: ChildCount::default(),
            on_new_namespace,
            on_error,
            recovery: recovery.map(|options| Arc::new(RecoveryConfig { options, silence: engine.longest_silence() })),
            on_fault,
            security,
            closing: AtomicBool::new(false),
        });
        if let Some(cluster) = &cluster {
            cluster.serves(&env);
        }
        let mut names = Names::default();
        for mut namespace in namespaces {
            namespace.finish(&states, &env.limits)?;
            names.add(namespace, &env)?;
        }
        Ok(SocketIo::start(env, names, states, engine)?)
    }

    /// Makes the server and serves on an address until the future is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound, and a [`BuildError`] as [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    pub async fn listen(self, addr: impl ToSocketAddrs) -> io::Result<()> {
        self.build()?.listen(addr).await
    }

    /// Makes the server and serves on an address over TLS until the future is dropped; see
    /// [`SocketIo::listen_tls`].
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    #[cfg(feature = "tls")]
    pub async fn listen_tls(self, addr: impl ToSocketAddrs, tls: crate::Tls) -> io::Result<()> {
        self.build()?.listen_tls(addr, tls).await
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("engine", &self.engine)
            .field("limits", &self.limits)
            .field("parser", &self.parser)
            .field("namespaces", &self.namespaces)
            .finish_non_exhaustive()
    }
}
