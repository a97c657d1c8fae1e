//! Requests that reach another server of a cluster than the one that has their session: passed on to it, answered there.
//!
//! The rules are those of [`engineio_proto::forward`]; this file has the table of exchanges, the clock, and the tasks. Whoever
//! gets the request checks what depends on the peer; the owner answers it as if it had come to itself. A WebSocket is tunnelled
//! byte by byte: its frames, compression and closing handshake are the owner's business.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use engineio_proto::{
    Limits,
    forward::{Answer, Flow, FlowError, Heard, Members, Message, Request, Side, Verb, decode, encode},
    request::Refusal,
};
use hashbrown::HashMap;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, ORIGIN,
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    runtime::Handle,
    sync::mpsc,
    time::{Instant, Sleep, sleep_until, timeout},
};

pub use engineio_proto::forward::ServerTag;

use crate::{
    Application, PeerCertificate, Server,
    body::{BodyError, read_body},
    link::with_scratch,
    server::Engine,
    service::{authority, close_after, limited, text, with_headers},
    session::std_now,
    sid::Sid,
    upgrade,
};

/// The most servers that are known.
const MOST_MEMBERS: usize = 4_096;
/// What may wait in an exchange: more than a window of [`Flow`] can hold.
const EVENTS: usize = 8_192;
/// The most bytes of a WebSocket in one message.
const CHUNK: usize = 32 << 10;
/// The buffer between the session and its tunnel.
const TUNNEL: usize = 64 << 10;
/// How much an answer may have: what waits for one client, and then some for its encoding.
const ANSWER_ROOM: usize = 64 << 10;
/// How long [`Engine::leave_forwarding`] waits for answers that are being given.
const FAREWELL: Duration = Duration::from_secs(1);

/// Carries bytes between the servers of a cluster. What it brings is given to [`Forwarding::received`].
///
/// Bytes from one server to one other have to arrive in order. They may be lost while the carrier is down, and
/// [`Forwarding::health`] has to say so then.
pub trait Carrier: Send + Sync + 'static {
    /// Sends bytes to the server with this tag, or to all that there are. Must not block. Returns whether they are on their way.
    fn send(&self, to: Option<ServerTag>, bytes: Vec<u8>) -> bool;
}

/// How requests are forwarded. Given to [`Builder::forward_over`](crate::Builder::forward_over).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// How often a server says that it is there. Default: 5 s.
    pub heartbeat_interval: Duration,
    /// After which silence a server counts as gone: requests for its sessions are answered with `Session ID unknown` then.
    /// Default: 10 s.
    pub heartbeat_timeout: Duration,
    /// The most requests and tunnels at once, those for other servers and those from other servers each. Further ones get
    /// status 503. Default: 100,000.
    pub max_exchanges: usize,
    /// The same for one session of another server. Default: 4: a poll, a POST, a WebSocket, and one that is just ending.
    pub max_exchanges_per_session: usize,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(10),
            max_exchanges: 100_000,
            max_exchanges_per_session: 4,
        }
    }
}

/// Where what the [`Carrier`] brings goes. Does not keep the server alive.
pub struct Forwarding<A: Application>(Weak<Engine<A>>);

impl<A: Application> Clone for Forwarding<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Application> fmt::Debug for Forwarding<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding").finish_non_exhaustive()
    }
}

impl<A: Application> Server<A> {
    /// The forwarding of requests between servers, if the server was built with it.
    pub fn forwarding(&self) -> Option<Forwarding<A>> {
        self.engine.forwarder.as_ref().map(|_| Forwarding(Arc::downgrade(&self.engine)))
    }
}

impl<A: Application> Forwarding<A> {
    /// Begins: from now on this server says regularly that it is there. To be called once, on a runtime.
    pub fn start(&self) {
        let Some(engine) = self.0.upgrade() else { return };
        let Some(forwarder) = &engine.forwarder else { return };
        if forwarder.runtime.set(Handle::current()).is_ok() {
            tokio::spawn(keep_time(Arc::downgrade(forwarder)));
        }
    }

    /// The tag of this server: what is sent to it goes there.
    pub fn tag(&self) -> Option<ServerTag> {
        self.0.upgrade()?.forwarder.as_ref().map(|forwarder| forwarder.tag)
    }

    /// Something has come from another server. Never blocks; what makes no sense is counted.
    pub fn received(&self, bytes: &[u8]) {
        if let Some(engine) = self.0.upgrade() {
            engine.received(bytes);
        }
    }

    /// The carrier has come (`true`) or gone: everything that is going on with other servers is given up then.
    pub fn health(&self, up: bool) {
        let Some(engine) = self.0.upgrade() else { return };
        let Some(forwarder) = &engine.forwarder else { return };
        if up {
            forwarder.state.lock().members.excuse(std_now());
            // Whoever hears it knows that nothing from before goes on.
            forwarder.send(None, &Message::Hello);
            forwarder.up.store(true, Ordering::Release);
        } else {
            forwarder.up.store(false, Ordering::Release);
            forwarder.end_all(|_| true, Over::Unreachable);
        }
    }
}

/// Says that this server is there, and finds out who is not any more.
async fn keep_time(forwarder: Weak<Forwarder>) {
    let mut planned = std_now();
    loop {
        planned = {
            let Some(forwarder) = forwarder.upgrade() else { return };
            if forwarder.state.lock().closing {
                return;
            }
            let now = std_now();
            let up = forwarder.up.load(Ordering::Acquire);
            if now.saturating_duration_since(planned) > forwarder.options.heartbeat_timeout / 4 {
                // This server was stopped for a while: it could hear nobody.
                forwarder.state.lock().members.excuse(now);
            }
            if up {
                for tag in forwarder.expired(now) {
                    tracing::debug!(?tag, "a server is silent; its sessions are unknown from now on");
                    forwarder.end_all(|peer| peer == tag, Over::Left);
                }
                forwarder.send(None, &Message::Here);
            }
            let due = forwarder.state.lock().members.deadline().filter(|_| up);
            let beat = now + forwarder.options.heartbeat_interval;
            // At least ten milliseconds, whatever the options say.
            due.map_or(beat, |due| due.min(beat)).max(now + Duration::from_millis(10))
        };
        sleep_until(planned.into()).await;
    }
}

/// What a server knows of the others, and what goes on with them.
pub(crate) struct Forwarder {
    tag: ServerTag,
    carrier: Arc<dyn Carrier>,
    options: ForwardOptions,
    runtime: OnceLock<Handle>,
    up: AtomicBool,
    next: AtomicU64,
    /// Guards who is there and the tables of exchanges. Nothing is sent and nobody is called under it.
    state: Mutex<State>,
}

struct State {
    members: Members,
    asked: HashMap<u64, Entry>,
    answering: HashMap<(ServerTag, u64), Entry>,
    /// How many exchanges each session of other servers has.
    sessions: HashMap<Sid, usize>,
    closing: bool,
}

struct Entry {
    peer: ServerTag,
    /// The session of another server.
    sid: Option<Sid>,
    events: mpsc::Sender<Event>,
}

/// What happens in an exchange.
enum Event {
    /// In a box, because channels have room for many events.
    Answer(Box<Response<Bytes>>),
    Data(u64, Bytes),
    Allow(u64),
    End(u64),
    Over(Over),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The other side says so.
    Reset,
    /// The other server has gone.
    Left,
    /// The carrier is away, or this server closes.
    Unreachable,
}

/// Why a request cannot be forwarded.
enum Denied {
    Unreachable,
    TooMany,
}

impl Forwarder {
    pub(crate) fn new(carrier: Arc<dyn Carrier>, options: ForwardOptions) -> Arc<Self> {
        let tag = ServerTag::random(rand::random());
        let members = Members::new(tag, options.heartbeat_timeout, MOST_MEMBERS);
        let state = State {
            members,
            asked: HashMap::new(),
            answering: HashMap::new(),
            sessions: HashMap::new(),
            closing: false,
        };
        Arc::new(Self {
            tag,
            carrier,
            options,
            runtime: OnceLock::new(),
            up: AtomicBool::new(false),
            // What still comes for a number of the server that ran before means nobody.
            next: AtomicU64::new(rand::random()),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn tag(&self) -> ServerTag {
        self.tag
    }

    /// The other server that has the session with this id, if there is one.
    pub(crate) fn owner_of(&self, sid: &str) -> Option<ServerTag> {
        let tag = ServerTag::of_sid(sid)?;
        (tag != self.tag && self.state.lock().members.knows(&tag)).then_some(tag)
    }

    fn send(&self, to: Option<ServerTag>, message: &Message<'_>) -> bool {
        self.carrier.send(to, encode(&self.tag, message))
    }

    fn ask(self: &Arc<Self>, owner: ServerTag, sid: Sid) -> Result<Exchange, Denied> {
        if !self.up.load(Ordering::Acquire) {
            return Err(Denied::Unreachable);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(EVENTS);
        let mut state = self.state.lock();
        if state.closing {
            return Err(Denied::Unreachable);
        }
        let of_session = state.sessions.get(&sid).copied().unwrap_or_default();
        if state.asked.len() >= self.options.max_exchanges || of_session >= self.options.max_exchanges_per_session {
            return Err(Denied::TooMany);
        }
        state.sessions.insert(sid, of_session + 1);
        state.asked.insert(id, Entry { peer: owner, sid: Some(sid), events: sender });
        Ok(Exchange { forwarder: Arc::clone(self), side: Side::Asker, peer: owner, id, events, over: false })
    }

    /// Another server asks. `None` when there is no room, or the number is in use.
    fn asked(self: &Arc<Self>, asker: ServerTag, id: u64) -> Option<Exchange> {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut state = self.state.lock();
        if state.answering.len() >= self.options.max_exchanges || state.answering.contains_key(&(asker, id)) {
            return None;
        }
        state.answering.insert((asker, id), Entry { peer: asker, sid: None, events: sender });
        Some(Exchange { forwarder: Arc::clone(self), side: Side::Owner, peer: asker, id, events, over: false })
    }

    fn expired(&self, now: std::time::Instant) -> Vec<ServerTag> {
        self.state.lock().members.expire(now)
    }

    /// Ends what goes on with some of the servers.
    fn end_all(&self, with: impl Fn(ServerTag) -> bool, why: Over) {
        let mut state = self.state.lock();
        let State { asked, answering, sessions, .. } = &mut *state;
        let ended: Vec<Entry> = asked
            .extract_if(|_, entry| with(entry.peer))
            .map(|(_, entry)| entry)
            .chain(answering.extract_if(|_, entry| with(entry.peer)).map(|(_, entry)| entry))
            .collect();
        for entry in &ended {
            forget(sessions, entry);
        }
        drop(state);
        for entry in ended {
            // One whose channel is full learns it from the channel's end.
            drop(entry.events.try_send(Event::Over(why)));
        }
    }

    /// Hands something to the exchange that it is about. An exchange that does not keep up is over.
    fn hand(&self, side: Side, peer: ServerTag, id: u64, event: Event) {
        let is_data = matches!(event, Event::Data(..));
        let mut state = self.state.lock();
        let entry = match side {
            Side::Owner => state.asked.get(&id).filter(|entry| entry.peer == peer),
            Side::Asker => state.answering.get(&(peer, id)),
        };
        let known = entry.is_some();
        let full = entry.is_some_and(|entry| entry.events.try_send(event).is_err());
        if full {
            // Its end of the channel sees the end.
            let State { asked, answering, sessions, .. } = &mut *state;
            let removed = match side {
                Side::Owner => asked.remove(&id),
                Side::Asker => answering.remove(&(peer, id)),
            };
            if let Some(entry) = removed {
                forget(sessions, &entry);
            }
        }
        drop(state);
        if !known && is_data {
            // The other side does not know yet, or has missed it.
            let side = if side == Side::Owner { Side::Asker } else { Side::Owner };
            self.send(Some(peer), &Message::Exchange { side, id, verb: Verb::Reset });
        }
    }

    /// How many other servers there are, and how many exchanges go on: asked for, and answered.
    pub(crate) fn now(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        (state.members.len(), state.asked.len(), state.answering.len())
    }
}

fn forget(sessions: &mut HashMap<Sid, usize>, entry: &Entry) {
    let Some(sid) = &entry.sid else { return };
    if let Some(count) = sessions.get_mut(sid) {
        *count -= 1;
        if *count == 0 {
            sessions.remove(sid);
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// One side of an exchange. Dropping it before it is over tells the other side.
struct Exchange {
    forwarder: Arc<Forwarder>,
    side: Side,
    peer: ServerTag,
    id: u64,
    events: mpsc::Receiver<Event>,
    over: bool,
}

impl Exchange {
    fn say(&self, verb: Verb<'_>) -> bool {
        let message = Message::Exchange { side: self.side, id: self.id, verb };
        self.forwarder.send(Some(self.peer), &message)
    }

    async fn next(&mut self) -> Event {
        let event = self.events.recv().await.unwrap_or(Event::Over(Over::Unreachable));
        self.over |= matches!(event, Event::Over(Over::Reset));
        event
    }

    /// It is over for both sides.
    fn finish(mut self) {
        self.over = true;
        drop(self);
    }

    /// Waits for the end of the exchange, where nothing else is expected.
    async fn gone(&mut self) {
        while !matches!(self.next().await, Event::Over(_)) {}
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        {
            let mut state = self.forwarder.state.lock();
            let State { asked, answering, sessions, .. } = &mut *state;
            let removed = match self.side {
                Side::Asker => asked.remove(&self.id),
                Side::Owner => answering.remove(&(self.peer, self.id)),
            };
            if let Some(entry) = removed {
                forget(sessions, &entry);
            }
        }
        // Whoever seems to be gone may only have been silent.
        if !self.over && self.forwarder.up.load(Ordering::Acquire) {
            self.say(Verb::Reset);
        }
    }
}

/// Where a request came from that another server has forwarded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) secure: bool,
}

/// What becomes the WebSocket of a forwarded upgrade.
#[derive(Clone)]
pub(crate) struct Tunnelled(Arc<Mutex<Option<DuplexStream>>>);

impl Tunnelled {
    pub(crate) fn take(&self) -> Option<DuplexStream> {
        self.0.lock().take()
    }
}

/// The headers that the server of a session looks at when a request names the session. Nothing else leaves this server.
static HEADERS: [HeaderName; 11] = [
    HOST,
    ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    ACCEPT_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
];

impl<A: Application> Engine<A> {
    /// What another server has said about where this request came from.
    pub(crate) fn forwarded<'a>(&self, parts: &'a Parts) -> Option<&'a Forwarded> {
        self.forwarder.as_ref().and_then(|_| parts.extensions.get())
    }

    /// Passes a request on to the server that has its session, and its answer back.
    pub(crate) async fn forward<B: Body + 'static>(
        self: Arc<Self>,
        owner: ServerTag,
        sid: Sid,
        mut parts: Parts,
        body: B,
        headers: HeaderMap,
    ) -> Response<Bytes> {
        let Some(forwarder) = &self.forwarder else { return self.out_of_reach() };
        let mut exchange = match forwarder.ask(owner, sid) {
            Ok(exchange) => exchange,
            Err(Denied::Unreachable) => return self.out_of_reach(),
            Err(Denied::TooMany) => {
                self.counters().forwards_failed.add();
                return self.unavailable("too many requests for other servers", "max_exchanges");
            }
        };
        let is_connect = upgrade::is_connect(&parts);
        let is_upgrade = is_connect || upgrade::is_upgrade(&parts.headers);
        let limits = self.options.limits();
        // A compressed body is refused by its name alone, so the owner does not need it.
        let has_body =
            !is_upgrade && parts.method == http::Method::POST && !parts.headers.contains_key(CONTENT_ENCODING);
        let body = if has_body {
            let declared = text(&parts.headers, CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok());
            let read = match declared.is_some_and(|len| len > limits.max_payload as u64) {
                true => Err(BodyError::TooLarge),
                false => read_body(body, limits.max_payload, limits.body_timeout).await,
            };
            match read {
                Ok(body) => body,
                Err(error) => {
                    exchange.over = true;
                    return self.refuse_body(error, headers);
                }
            }
        } else {
            Bytes::new()
        };
        let key;
        let request = {
            let wanted =
                HEADERS.iter().flat_map(|name| parts.headers.get_all(name).iter().map(move |value| (name, value)));
            let mut sent: Vec<(&str, &[u8])> = wanted.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            let binding = self.options.binding.as_ref();
            if binding.is_some_and(|binding| binding.cookie.is_some()) {
                sent.extend(parts.headers.get_all(COOKIE).iter().map(|value| (COOKIE.as_str(), value.as_bytes())));
            }
            if is_connect {
                // What a stream of HTTP/2 has instead of the headers of HTTP/1.1.
                key = STANDARD.encode(rand::random::<[u8; 16]>());
                sent.extend([
                    (CONNECTION.as_str(), &b"Upgrade"[..]),
                    (UPGRADE.as_str(), b"websocket"),
                    (SEC_WEBSOCKET_KEY.as_str(), key.as_bytes()),
                ]);
            } else {
                let keys = parts.headers.get_all(SEC_WEBSOCKET_KEY).iter();
                sent.extend(keys.map(|value| (SEC_WEBSOCKET_KEY.as_str(), value.as_bytes())));
            }
            if matches!(parts.version, Version::HTTP_2 | Version::HTTP_3)
                && let Some(authority) = authority(&parts)
            {
                sent.retain(|(name, _)| *name != HOST.as_str());
                sent.push((HOST.as_str(), authority.as_bytes()));
            }
            let certificate = parts.extensions.get::<PeerCertificate>();
            let request = Request {
                method: if is_connect { "GET" } else { parts.method.as_str() },
                target: parts.uri.path_and_query().map_or("/", |target| target.as_str()),
                headers: sent,
                secure: self.is_secure(&parts),
                peer: self.peer_of(&parts),
                client: self.client_ip(&parts),
                certificate: certificate
                    .filter(|_| binding.is_some_and(|binding| binding.certificate))
                    .map(|certificate| &*certificate.0),
                body: &body,
            };
            encode(&forwarder.tag, &Message::Request(exchange.id, request))
        };
        drop(body);
        if !forwarder.carrier.send(Some(owner), request) {
            exchange.over = true;
            return self.out_of_reach();
        }
        self.counters().forwarded.add();
        let patience = match is_upgrade {
            true => self.machine.upgrade_timeout,
            // Until then a session has something to say, or is over.
            false => self.machine.ping_interval.saturating_add(self.machine.ping_timeout),
        };
        let mut response = match timeout(patience, exchange.next()).await {
            Ok(Event::Answer(response)) => *response,
            Ok(Event::Over(Over::Left)) => {
                self.counters().forwards_failed.add();
                return self.refuse(&parts, is_upgrade, &Refusal::UnknownSid, headers);
            }
            Ok(_) | Err(_) => return self.out_of_reach(),
        };
        self.mark_told(&mut response);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            exchange.over = true;
            return response;
        }
        let Some(upgrading) = parts.extensions.remove::<OnUpgrade>().filter(|_| is_upgrade) else {
            tracing::warn!("the HTTP server in front does not support upgrades");
            return upgrade::refuse_with(StatusCode::NOT_IMPLEMENTED, "Upgrades are not supported here", headers);
        };
        if is_connect {
            *response.status_mut() = StatusCode::OK;
            for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
                response.headers_mut().remove(name);
            }
        }
        self.counters().tunnels.add();
        let limits = limits.clone();
        tokio::spawn(async move {
            // If it never comes, the exchange ends here, and the owner is told.
            if let Ok(Ok(upgraded)) = timeout(upgrade::HAND_OVER, upgrading).await {
                Pump::new(TokioIo::new(upgraded), exchange, &limits).await;
            }
        });
        response
    }

    fn refuse_body(&self, error: BodyError, headers: HeaderMap) -> Response<Bytes> {
        let (status, limit) = match error {
            BodyError::TooLarge => {
                self.counters().oversize.add();
                (StatusCode::PAYLOAD_TOO_LARGE, Some("max_payload"))
            }
            BodyError::TooSlow => {
                self.counters().slow_bodies.add();
                (StatusCode::REQUEST_TIMEOUT, Some("body_timeout"))
            }
            BodyError::Broken | BodyError::Malformed => (StatusCode::BAD_REQUEST, None),
        };
        let response = close_after(with_headers(crate::service::empty(status), headers));
        match limit {
            Some(limit) => limited(response, limit),
            None => response,
        }
    }

    fn out_of_reach(&self) -> Response<Bytes> {
        self.counters().forwards_failed.add();
        self.unavailable("the server of this session is out of reach", "forwarding")
    }

    /// Something has come from another server.
    fn received(self: &Arc<Self>, bytes: &[u8]) {
        let Some(forwarder) = &self.forwarder else { return };
        let limits = self.options.limits();
        let most = limits.max_payload.max(limits.send_queue_bytes).saturating_mul(2).saturating_add(ANSWER_ROOM);
        let (from, message) = match decode(bytes, most) {
            Ok(read) => read,
            Err(why) => {
                tracing::debug!(error = %why, "something came that is no message between servers");
                return self.counters().forward_foreign.add();
            }
        };
        if from == forwarder.tag {
            return;
        }
        match message {
            Message::Hello => {
                if self.hear(forwarder, from) != Heard::New {
                    // It has been away, and has given up what went on.
                    forwarder.end_all(|peer| peer == from, Over::Left);
                }
                forwarder.send(Some(from), &Message::Here);
            }
            Message::Here => {
                self.hear(forwarder, from);
            }
            Message::Goodbye => {
                if forwarder.state.lock().members.leave(&from) {
                    forwarder.end_all(|peer| peer == from, Over::Left);
                }
            }
            Message::Request(id, request) => self.answer_another(forwarder, from, id, &request),
            Message::Answer(id, answer) => match response_of(&answer) {
                Some(response) => forwarder.hand(Side::Owner, from, id, Event::Answer(Box::new(response))),
                None => self.counters().forward_foreign.add(),
            },
            Message::Exchange { side, id, verb } => {
                let event = match verb {
                    Verb::Data { place, bytes } => Event::Data(place, Bytes::copy_from_slice(bytes)),
                    Verb::Allow(place) => Event::Allow(place),
                    Verb::End(place) => Event::End(place),
                    Verb::Reset => Event::Over(Over::Reset),
                };
                forwarder.hand(side, from, id, event);
            }
        }
    }

    fn hear(&self, forwarder: &Forwarder, from: ServerTag) -> Heard {
        let heard = forwarder.state.lock().members.hear(std_now(), from);
        if heard == Heard::Refused {
            self.counters().forward_foreign.add();
        }
        heard
    }

    /// Answers a request that came to another server.
    fn answer_another(self: &Arc<Self>, forwarder: &Arc<Forwarder>, from: ServerTag, id: u64, request: &Request<'_>) {
        let refuse = |status: StatusCode| {
            let answer = Answer { status: status.as_u16(), headers: Vec::new(), body: b"" };
            forwarder.send(Some(from), &Message::Answer(id, answer));
        };
        let (mut parts, body) = match parts_of(request) {
            Some(parts) => (parts, Bytes::copy_from_slice(request.body)),
            None => {
                self.counters().forward_foreign.add();
                return refuse(StatusCode::BAD_REQUEST);
            }
        };
        let exchange = forwarder.runtime.get().zip(forwarder.asked(from, id));
        let Some((runtime, mut exchange)) = exchange else {
            self.counters().forward_foreign.add();
            return refuse(StatusCode::SERVICE_UNAVAILABLE);
        };
        self.counters().answered_for_others.add();
        let ours = upgrade::is_upgrade(&parts.headers).then(|| {
            let (ours, theirs) = tokio::io::duplex(TUNNEL);
            parts.extensions.insert(Tunnelled(Arc::new(Mutex::new(Some(theirs)))));
            ours
        });
        let engine = Arc::clone(self);
        runtime.spawn(async move {
            let limits = engine.options.limits().clone();
            let response = tokio::select! {
                response = engine.answer(parts, Full::<Bytes>::new(body)) => response,
                // Dropping the answer tells the session that its client has gone.
                () = exchange.gone() => return,
            };
            let headers = response.headers();
            let answer = Answer {
                status: response.status().as_u16(),
                headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
                body: response.body(),
            };
            let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let sent = exchange.forwarder.send(Some(from), &Message::Answer(id, answer));
            match ours.filter(|_| is_tunnel && sent) {
                Some(ours) => Pump::new(ours, exchange, &limits).await,
                None if sent => exchange.finish(),
                None => {}
            }
        });
    }

    /// Takes no more requests of other servers' sessions, and ends what goes on with them.
    pub(crate) fn stop_forwarding(&self) {
        let Some(forwarder) = &self.forwarder else { return };
        let asked: Vec<Entry> = {
            let mut state = forwarder.state.lock();
            state.closing = true;
            state.sessions.clear();
            state.asked.drain().map(|(_, entry)| entry).collect()
        };
        for entry in asked {
            drop(entry.events.try_send(Event::Over(Over::Unreachable)));
        }
    }

    /// Says goodbye, as soon as what other servers have asked for is answered.
    pub(crate) async fn leave_forwarding(&self) {
        let Some(forwarder) = &self.forwarder else { return };
        let until = Instant::now() + FAREWELL;
        while forwarder.now().2 > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        forwarder.send(None, &Message::Goodbye);
    }
}

/// The head of a request as the service gets it.
fn parts_of(request: &Request<'_>) -> Option<Parts> {
    let mut built = http::Request::builder().method(request.method).uri(request.target).version(Version::HTTP_11);
    for (name, value) in &request.headers {
        built = built.header(*name, *value);
    }
    let (mut parts, ()) = built.body(()).ok()?.into_parts();
    parts.extensions.insert(Forwarded { peer: request.peer, client: request.client, secure: request.secure });
    if let Some(certificate) = request.certificate {
        parts.extensions.insert(PeerCertificate(certificate.into()));
    }
    Some(parts)
}

fn response_of(answer: &Answer<'_>) -> Option<Response<Bytes>> {
    let mut response = Response::new(Bytes::copy_from_slice(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).ok()?;
    for (name, value) in &answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(response)
}

/// Carries the bytes of a WebSocket between a stream and the other server, until both directions have ended.
struct Pump<S> {
    stream: S,
    exchange: Exchange,
    flow: Flow,
    /// What the other server has sent, and how much of the first of it was written.
    out: VecDeque<Bytes>,
    written: usize,
    unflushed: bool,
    /// The stream has ended, and the other server knows.
    read_all: bool,
    /// The other server has sent everything.
    heard_all: bool,
    /// The stream was told.
    shut: bool,
    write_timeout: Duration,
    close_timeout: Duration,
    progress: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// The tunnel is over before its end.
struct Broken;

impl From<FlowError> for Broken {
    fn from(error: FlowError) -> Self {
        tracing::debug!(%error, "a tunnel between servers is broken");
        Self
    }
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    fn new(stream: S, exchange: Exchange, limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            stream,
            exchange,
            flow: Flow::default(),
            out: VecDeque::new(),
            written: 0,
            unflushed: false,
            read_all: false,
            heard_all: false,
            shut: false,
            write_timeout: limits.write_timeout,
            close_timeout: limits.close_timeout,
            progress: now,
            sleep: Box::pin(sleep_until(now)),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Data(place, bytes) => {
                self.flow.receive(place, bytes.len())?;
                self.out.push_back(bytes);
            }
            Event::Allow(upto) => self.flow.allow(upto)?,
            Event::End(place) => {
                self.flow.receive_end(place)?;
                self.heard_all = true;
            }
            Event::Over(_) | Event::Answer(_) => return Err(Broken),
        }
        Ok(())
    }

    /// One round. Whether something happened.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let mut busy = false;
        while let Poll::Ready(event) = self.exchange.events.poll_recv(cx) {
            let event = event.unwrap_or(Event::Over(Over::Unreachable));
            self.exchange.over |= matches!(event, Event::Over(Over::Reset));
            self.take(event)?;
            busy = true;
        }
        while let Some(front) = self.out.front() {
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, &front[self.written..]) else { break };
            let written = written?;
            if written == 0 {
                return Err(Broken);
            }
            self.written += written;
            if self.written == front.len() {
                self.flow.consume(front.len());
                self.out.pop_front();
                self.written = 0;
            }
            (busy, self.unflushed) = (true, true);
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        if self.heard_all
            && self.out.is_empty()
            && !self.shut
            && Pin::new(&mut self.stream).poll_shutdown(cx)?.is_ready()
        {
            (busy, self.shut) = (true, true);
        }
        if let Some(upto) = self.flow.grant()
            && !self.exchange.say(Verb::Allow(upto))
        {
            return Err(Broken);
        }
        let room = self.flow.room().min(CHUNK);
        if room > 0 && !self.read_all {
            busy |= self.read(cx, room)?;
        }
        Ok(busy)
    }

    fn read(&mut self, cx: &mut Context<'_>, room: usize) -> Result<bool, Broken> {
        with_scratch(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..room]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else { return Ok(false) };
            // However it ended: the other server sees the end of the stream.
            let bytes = if read.is_ok() { buffer.filled() } else { &[] };
            let sent = if bytes.is_empty() {
                self.read_all = true;
                self.exchange.say(Verb::End(self.flow.end()))
            } else {
                let place = self.flow.send(bytes.len());
                self.exchange.say(Verb::Data { place, bytes })
            };
            if sent { Ok(true) } else { Err(Broken) }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Pump<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match this.round(cx) {
                Err(Broken) => return Poll::Ready(()),
                Ok(true) => this.progress = Instant::now(),
                Ok(false) => break,
            }
            if this.read_all && this.shut {
                this.exchange.over = true;
                return Poll::Ready(());
            }
        }
        // Nothing happens: for how long is that all right?
        let patience = if this.read_all || this.heard_all {
            this.close_timeout
        } else if !this.out.is_empty() || this.unflushed {
            this.write_timeout
        } else {
            return Poll::Pending;
        };
        let due = this.progress + patience;
        if this.sleep.deadline() != due {
            this.sleep.as_mut().reset(due);
        }
        this.sleep.as_mut().poll(cx)
    }
}
