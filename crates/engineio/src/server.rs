//! A server: its options, its sessions, and the ways to run it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use engineio_proto::{
    Frame, Limits, Transport,
    cors::Cors,
    gate::{AddressLimits, Gate, Place},
    origin::{Hosts, Origins},
    proxies::TrustedProxies,
    rate::TrafficLimits,
    request::{Rules, ServerPath, Transports},
    session,
    session::CloseReason,
    ws::deflate,
};
use hashbrown::HashMap;
use http::{Extensions, HeaderMap, Response};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Application, Carrier, Cookie, EngineLayer, EngineService, ForwardOptions, Handshake, HookFuture, Hsts,
    InvalidOption, NotFound, Options, RefusedConnection, RefusedRequest, RequireTls, SecurityKind, SecurityLog,
    Session, SessionBinding, Stats, door::Door, forward::Forwarder, security, session::Shared, sid::Sid,
    stats::Counters,
};

/// Sessions are spread over this many tables, so that connects of many threads seldom meet.
const SHARDS: usize = 16;

/// An Engine.IO server. Cloning it is cheap.
///
/// Run it under axum or anything tower with [`Server::layer`] or [`Server::service`], or by itself with
/// [`Server::listen`].
pub struct Server<A: Application> {
    pub(crate) engine: Arc<Engine<A>>,
}

impl<A: Application> Clone for Server<A> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

pub(crate) struct Engine<A> {
    pub(crate) app: A,
    pub(crate) options: Options,
    pub(crate) machine: Arc<session::Config>,
    pub(crate) rules: Rules,
    pub(crate) path: ServerPath,
    pub(crate) hosts: Hosts,
    pub(crate) origins: Origins,
    /// Guard the table of sessions; never held while a session is locked.
    sessions: [Mutex<HashMap<Sid, Arc<Shared>>>; SHARDS],
    count: AtomicUsize,
    /// Tasks of sessions, those included that only say goodbye.
    tasks: AtomicUsize,
    /// Polling sessions in the order in which they came, to give up those whose clients never returned.
    pending: Mutex<Pending>,
    closing: AtomicBool,
    /// Places and counters, shared with connections that know nothing of applications.
    pub(crate) door: Arc<Door>,
    /// What connects it with the other servers of a cluster.
    pub(crate) forwarder: Option<Arc<Forwarder>>,
}

/// Sessions that began on polling, the oldest first.
#[derive(Default)]
struct Pending {
    sessions: std::collections::VecDeque<(Sid, std::sync::Weak<Shared>)>,
    /// How many sessions have ended since the list was swept.
    ended: usize,
}

impl<A: Application> Server<A> {
    /// Starts to build a server.
    pub fn builder() -> Builder {
        Builder { options: Options::default() }
    }

    /// How many sessions exist. Node: `engine.clientsCount`.
    pub fn sessions(&self) -> usize {
        self.engine.count.load(Ordering::Relaxed)
    }

    /// What happened since the server was built.
    pub fn stats(&self) -> Stats {
        let (connections, handshakes, addresses) = self.engine.door.now();
        let forwarder = self.engine.forwarder.as_ref();
        let (forward_servers, forwarding, answering) = forwarder.map(|forwarder| forwarder.now()).unwrap_or_default();
        Stats {
            sessions: self.sessions(),
            pending: self.engine.pending.lock().sessions.len(),
            connections,
            handshakes,
            addresses,
            forward_servers,
            forwarding,
            answering,
            ..self.engine.counters().read()
        }
    }

    /// The application.
    pub fn app(&self) -> &A {
        &self.engine.app
    }

    /// What clients were refused, which rules they broke and which limits they reached.
    pub fn security(&self) -> &SecurityLog {
        &self.engine.options.security
    }

    /// The path of requests on the wire.
    pub fn path(&self) -> String {
        self.engine.path.canonical()
    }

    /// The options that the server was built with.
    pub fn options(&self) -> &Options {
        &self.engine.options
    }

    /// A tower service that answers Engine.IO requests, and everything else with 404.
    pub fn service(&self) -> EngineService<NotFound, A> {
        self.service_with(NotFound)
    }

    /// A tower service that answers Engine.IO requests and passes everything else on.
    pub fn service_with<S>(&self, inner: S) -> EngineService<S, A> {
        EngineService { engine: self.engine.clone(), inner }
    }

    /// A tower layer that answers Engine.IO requests in front of another service.
    pub fn layer(&self) -> EngineLayer<A> {
        EngineLayer { engine: self.engine.clone() }
    }

    /// Closes the server: new sessions are refused, every session is closed after what is queued for it, and what is left
    /// after `deadline` is cut off. Before that it returns as soon as every application has said goodbye.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server refusing new sessions; the sessions go on closing by themselves.
    pub async fn close(&self, deadline: Duration) {
        self.engine.closing.store(true, Ordering::SeqCst);
        self.engine.stop_forwarding();
        let until = Instant::now() + deadline;
        for session in self.engine.all() {
            Session(session).close(CloseReason::ForcedClose);
        }
        while self.engine.tasks.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for session in self.engine.all() {
            Session(session).abort(CloseReason::ForcedClose);
        }
        self.engine.leave_forwarding().await;
    }
}

impl<A: Application> Engine<A> {
    /// A session's task begins (`true`) or ends.
    pub(crate) fn count_task(&self, begins: bool) {
        if begins {
            self.tasks.fetch_add(1, Ordering::SeqCst);
        } else {
            self.tasks.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.door.counters
    }

    pub(crate) fn find(&self, sid: &str) -> Option<Arc<Shared>> {
        let sid = Sid::parse(sid)?;
        self.shard(&sid).lock().get(&sid).cloned()
    }

    /// Whether a session may be opened now; if so, its place is taken.
    pub(crate) fn reserve(&self) -> bool {
        let taken = self.count.fetch_add(1, Ordering::Relaxed);
        let free = taken < self.options.limits().max_sessions && !self.closing.load(Ordering::SeqCst);
        if !free {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        free
    }

    /// Gives back a place that no session came to use.
    pub(crate) fn release(&self, place: Place) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.door.close(place);
    }

    /// Puts a session into its reserved place.
    pub(crate) fn insert(&self, shared: &Arc<Shared>, polling: bool) {
        self.shard(&shared.sid).lock().insert(shared.sid, shared.clone());
        self.counters().opened.add();
        if !polling {
            return;
        }
        let oldest = {
            let sessions = &mut self.pending.lock().sessions;
            sessions.push_back((shared.sid, Arc::downgrade(shared)));
            (sessions.len() > self.options.limits().max_pending_sessions).then(|| sessions.pop_front()).flatten()
        };
        if let Some(session) = oldest.and_then(|(_, weak)| weak.upgrade())
            && session.lock().machine.awaits_first_activity()
        {
            self.counters().evicted.add();
            let mut core = session.lock();
            core.machine.on_violation(CloseReason::TransportError("too many sessions without a second request"));
            core.wake();
        }
    }

    pub(crate) fn remove(&self, sid: &Sid) {
        let removed = {
            let mut sessions = self.shard(sid).lock();
            let removed = sessions.remove(sid);
            // A crowd that has left leaves no empty tables behind.
            if sessions.capacity() > 64 && sessions.len() < sessions.capacity() / 8 {
                let len = sessions.len();
                sessions.shrink_to(len * 2);
            }
            removed
        };
        if let Some(shared) = removed {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.door.close(shared.place);
            // A weak reference keeps the session's memory. Sweeping when half of the list may be gone costs each session
            // that ends a look at two others, and leaves nothing when all have ended.
            let mut pending = self.pending.lock();
            pending.ended += 1;
            if pending.ended * 2 >= pending.sessions.len() {
                pending.ended = 0;
                pending.sessions.retain(|(sid, _)| self.shard(sid).lock().contains_key(sid));
                if pending.sessions.capacity() > 64 && pending.sessions.len() * 4 < pending.sessions.capacity() {
                    pending.sessions.shrink_to_fit();
                }
            }
        }
    }

    /// Counts the end of a session.
    pub(crate) fn closed(&self, session: &Session, reason: CloseReason) {
        let counters = self.counters();
        counters.closed.add();
        match reason {
            CloseReason::PingTimeout => counters.ping_timeouts.add(),
            CloseReason::ParseError(_) => counters.parse_errors.add(),
            CloseReason::TransportError(what) => {
                counters.transport_errors.add();
                match what {
                    "slow consumer" => counters.slow_consumers.add(),
                    "rate limit" => counters.rate_closed.add(),
                    "handler stall" => counters.handler_stalls.add(),
                    "no request after the handshake" => counters.never_returned.add(),
                    "write timeout" => counters.stalled_writes.add(),
                    "the body came too slowly" => counters.slow_bodies.add(),
                    _ => {}
                }
            }
            _ => {}
        }
        if !session.0.lock().ended_by_application {
            self.tell_of(session, security::of_close(reason));
        }
        tracing::debug!(session = ?session.0.sid, %reason, description = reason.description(), "session closed");
    }

    /// Tells of something that a session has done, if there is something to tell.
    pub(crate) fn tell_of(&self, session: &Session, what: Option<(SecurityKind, &'static str)>) {
        if let Some((kind, reason)) = what {
            self.options.security.report(kind, reason, |event| event.session(session));
        }
    }

    fn all(&self) -> Vec<Arc<Shared>> {
        self.sessions.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, sid: &Sid) -> &Mutex<HashMap<Sid, Arc<Shared>>> {
        &self.sessions[sid.shard() % SHARDS]
    }
}

/// Builds a [`Server`]. The methods carry Node's option names.
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    options: Options,
}

impl Builder {
    /// How long a client may be silent before it counts as gone, as the options stand: ping interval and timeout together.
    pub fn longest_silence(&self) -> Duration {
        let session = &self.options.session;
        session.ping_interval.saturating_add(session.ping_timeout)
    }

    /// The path that requests must have, without a query. Default: `/engine.io`. Node: `path`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.options.path = path.into();
        self
    }

    /// Whether the path ends with a slash on the wire. Default: `true`. Node: `addTrailingSlash`.
    pub fn add_trailing_slash(mut self, add: bool) -> Self {
        self.options.add_trailing_slash = add;
        self
    }

    /// The transports that clients may use. Default: polling and WebSocket. Node: `transports`.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.options.transports = transports.into_iter().collect();
        self
    }

    /// Whether a polling session may move to WebSocket. Default: `true`. Node: `allowUpgrades`.
    pub fn allow_upgrades(mut self, allow: bool) -> Self {
        self.options.allow_upgrades = allow;
        self
    }

    /// The most TCP connections of the stand-alone listener, WebSockets included; more are closed at once. Default: 1,000,000.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.options.max_connections = most;
        self
    }

    /// After how long the system gives up a connection of the stand-alone listener whose peer's machine no longer answers:
    /// bytes that it does not acknowledge (`TCP_USER_TIMEOUT`, on Linux), what a connection that is closed still has to send
    /// included, and silence, which is broken by probes (`SO_KEEPALIVE`) after half the time. At least a second; `None` leaves
    /// it to the system, where it takes a quarter of an hour and more. Default: 60 s.
    ///
    /// Sessions end by their own deadlines, and sooner; this is for what the system keeps of them, and for other services of
    /// the listener. The options are those of the listening socket: Linux, the BSDs and macOS hand them on to connections.
    pub fn tcp_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.tcp_timeout = timeout.into();
        self
    }

    /// Whether clients of Engine.IO 3 (Socket.IO 2.x) are served. Default: `false`. Node: `allowEIO3`.
    pub fn allow_eio3(mut self, allow: bool) -> Self {
        self.options.allow_eio3 = allow;
        self
    }

    /// How long after a pong the next ping is sent. Default: 25 s. Node: `pingInterval`.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.options.session.ping_interval = interval;
        self
    }

    /// How long a client may take to answer a ping. Default: 20 s. Node: `pingTimeout`.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.options.session.ping_timeout = timeout;
        self
    }

    /// How long an upgrade may take. Default: 10 s. Node: `upgradeTimeout`.
    pub fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.options.session.upgrade_timeout = timeout;
        self
    }

    /// The largest incoming message or body, in bytes. Default: 1,000,000. Node: `maxHttpBufferSize`.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.options.session.limits.max_payload = bytes;
        self
    }

    /// The longest time a poll is held: short polling. `None`, the default, holds it until there is something to send.
    ///
    /// Clients that did not ask for it with `hold` are held for at least a second, so stock clients do not spin; one that
    /// asks with `hold=0` is answered at once, empty at most every 100 ms.
    pub fn poll_hold(mut self, longest: Option<Duration>) -> Self {
        self.options.session.poll_hold = longest;
        self
    }

    /// All bounds at once. Sets `max_payload` too.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.session.limits = limits;
        self
    }

    /// Which `Origin`s may use the server, on every request of every transport. Default: the same origin, and clients
    /// that send none. Node has no such option: there a WebSocket from any page is accepted.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.options.origins = Some(origins);
        self
    }

    /// Accept only requests whose `Host` names this machine itself (`localhost`, a loopback address). Default: `false`.
    /// For servers on a loopback address: a web page cannot reach them by a name of its own (DNS rebinding).
    pub fn loopback_hosts_only(mut self, only: bool) -> Self {
        self.options.loopback_hosts_only = only;
        self
    }

    /// The names under which the server may be asked for; others get status 421. Default: all. Wins over
    /// [`loopback_hosts_only`](Self::loopback_hosts_only). A page whose name an attacker points at this server is turned away.
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.options.hosts = Some(hosts);
        self
    }

    /// The proxies whose word about the client counts: its address, and whether it used TLS. Default: none.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.options.trusted_proxies = proxies;
        self
    }

    /// Serves clients over TLS only. Default: `None`, however a session that was opened over TLS never goes on without.
    ///
    /// Over TLS means: through `listen_tls`, with [`Secure`](crate::Secure) among the extensions of the request, or through a
    /// [trusted proxy](Self::trusted_proxies) that says so in `X-Forwarded-Proto` or `Forwarded`. The stand-alone listener
    /// asks it of every request, those for the fallback included.
    pub fn require_tls(mut self, rule: impl Into<Option<RequireTls>>) -> Self {
        self.options.require_tls = rule.into();
        self
    }

    /// The header `Strict-Transport-Security` on every answer over TLS. Default: none.
    pub fn hsts(mut self, hsts: impl Into<Option<Hsts>>) -> Self {
        self.options.hsts = hsts.into();
        self
    }

    /// Whether every answer has `X-Content-Type-Options`, `X-Frame-Options`, `Referrer-Policy` and a `Content-Security-Policy`
    /// that allows nothing, unless it has them already. Default: `false`. The stand-alone listener adds them to the answers of
    /// the fallback, too.
    pub fn security_headers(mut self, add: bool) -> Self {
        self.options.security_headers = add;
        self
    }

    /// What a session is bound to besides its id. Default: nothing.
    pub fn session_binding(mut self, binding: impl Into<Option<SessionBinding>>) -> Self {
        self.options.binding = binding.into();
        self
    }

    /// How many connections and sessions one address may have, and how fast it may open them; and that no address holds more
    /// of all connections than what is still free. Default: no limit. Behind a proxy it takes
    /// [`trusted_proxies`](Self::trusted_proxies), too, or everybody is one.
    ///
    /// A handshake over the limit gets status 429 with `Retry-After`, a connection is closed before anything is read.
    pub fn limit_addresses(mut self, limits: impl Into<Option<AddressLimits>>) -> Self {
        self.options.addresses = limits.into();
        self
    }

    /// How much one client may send. Default: no limit; a client that sends faster than its handlers work is read more slowly
    /// anyway.
    pub fn limit_traffic(mut self, limits: impl Into<Option<TrafficLimits>>) -> Self {
        self.options.session.traffic = limits.into();
        self
    }

    /// The CORS headers for browsers. Default: none. Node: `cors`. Unless [`Builder::origins`] is called too, the origins
    /// that may read answers are also the ones that may use the server.
    pub fn cors(mut self, cors: Cors) -> Self {
        self.options.cors = Some(cors);
        self
    }

    /// The cookie for sticky sessions. Default: none. Node: `cookie`.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.options.cookie = Some(cookie);
        self
    }

    /// Compression of WebSocket messages. Default: off. Node: `perMessageDeflate`.
    pub fn per_message_deflate(mut self, options: deflate::Options) -> Self {
        self.options.per_message_deflate = Some(options);
        self
    }

    /// The smallest polling answer, in bytes, that is compressed; `None` never compresses. Default: 1,024. Node:
    /// `httpCompression.threshold`.
    pub fn http_compression(mut self, threshold: Option<usize>) -> Self {
        self.options.http_compression = threshold;
        self
    }

    /// A message that every client gets right behind the open packet. Node: `initialPacket`.
    pub fn initial_packet(mut self, frame: Frame) -> Self {
        self.options.initial_packet = Some(frame);
        self
    }

    /// Answers a handshake with something else than a session: a page or a question that proves a person behind it (CAPTCHA), a
    /// proof of work. `Ok` goes on to [`allow_request`](Self::allow_request); an answer whose status is not 4xx is sent with 403.
    /// Called on handshakes only, behind the limits for addresses. Takes at most `Limits::hook_timeout`.
    pub fn challenge<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(&Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Response<Bytes>>> + Send + 'static,
    {
        self.options.challenge =
            Some(Arc::new(move |handshake| -> HookFuture<Result<(), Response<Bytes>>> { Box::pin(hook(handshake)) }));
        self
    }

    /// Asks whether a session may be opened. The error text reaches the client; it must not hold anything internal. Called
    /// on handshakes only. Takes at most `Limits::hook_timeout`. Node: `allowRequest`.
    pub fn allow_request<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(&Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.options.allow_request =
            Some(Arc::new(move |handshake| -> HookFuture<Result<(), String>> { Box::pin(hook(handshake)) }));
        self
    }

    /// Changes the headers of the first answer of a session. Node: the `initial_headers` event.
    pub fn initial_headers(mut self, hook: impl Fn(&mut HeaderMap, &Handshake) + Send + Sync + 'static) -> Self {
        self.options.initial_headers = Some(Arc::new(hook));
        self
    }

    /// Changes the headers of every answer of a session. Node: the `headers` event.
    pub fn headers(mut self, hook: impl Fn(&mut HeaderMap, &Handshake) + Send + Sync + 'static) -> Self {
        self.options.headers = Some(Arc::new(hook));
        self
    }

    /// Sees every refused request. Node: the `connection_error` event.
    pub fn on_refused(mut self, hook: impl Fn(&RefusedRequest<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_refused = Some(Arc::new(hook));
        self
    }

    /// Sees every connection of the stand-alone listener that ended before there was a request on it: limits, TLS, no HTTP.
    /// Runs where it happened, for the limits on the task that accepts: be short.
    pub fn on_connection_refused(mut self, hook: impl Fn(&RefusedConnection) + Send + Sync + 'static) -> Self {
        self.options.on_connection_refused = Some(Arc::new(hook));
        self
    }

    /// The log that the server tells what clients were refused, which rules they broke and which limits they reached; see
    /// [`SecurityLog`]. Default: one of its own, [`Server::security`].
    pub fn security_log(mut self, log: SecurityLog) -> Self {
        self.options.security = log;
        self
    }

    /// Passes requests for sessions of other servers on to them: the servers of a cluster need no sticky sessions then. Ids of
    /// sessions get eight characters more, which name the server. [`Server::forwarding`] takes what the carrier brings. Default:
    /// none.
    pub fn forward_over(mut self, carrier: Arc<dyn Carrier>, options: ForwardOptions) -> Self {
        self.options.forward = Some((carrier, options));
        self
    }

    /// Where the peer's address is found when another HTTP server runs the service, for example
    /// `|extensions| extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| info.0)`.
    pub fn peer_addr(mut self, hook: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        self.options.peer_addr = Some(Arc::new(hook));
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// [`InvalidOption`] says which option makes no sense.
    pub fn build<A: Application>(self, app: A) -> Result<Server<A>, InvalidOption> {
        self.options.check()?;
        let machine = Arc::new(self.options.session.clone());
        let mut rules = Rules::default();
        rules.transports = Transports::new(self.options.transports.iter().copied());
        rules.allow_eio3 = self.options.allow_eio3;
        rules.allow_upgrades = self.options.allow_upgrades;
        let origins = self.options.origin_policy();
        let path = ServerPath::new(&self.options.path, self.options.add_trailing_slash);
        let hosts = self.options.host_policy();
        let most = self.options.limits().max_handshakes;
        let gate = Gate::new(self.options.max_connections, most, self.options.addresses.clone());
        let door = Door::new(gate, self.options.on_connection_refused.clone(), self.options.security.clone());
        let forward = self.options.forward.clone();
        let engine = Engine {
            app,
            options: self.options,
            machine,
            rules,
            path,
            hosts,
            origins,
            sessions: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            pending: Mutex::default(),
            closing: AtomicBool::new(false),
            door,
            forwarder: forward.map(|(carrier, options)| Forwarder::new(carrier, options)),
        };
        Ok(Server { engine: Arc::new(engine) })
    }
}
