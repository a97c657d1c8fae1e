//! Redis (or Valkey) between Socket.IO servers, in the words of Node's adapters: Rust and Node servers serve one application.
//!
//! * [`RedisBus::classic`] speaks as `createAdapter` of `@socket.io/redis-adapter` 8: `PUBLISH` and `SUBSCRIBE`, any Redis from 6 on.
//! * [`RedisBus::sharded`] speaks as `createShardedAdapter` of the same package: `SPUBLISH` and `SSUBSCRIBE`, Redis from 7 on.
//! * [`RedisBus::python`] speaks as the Redis managers of python-socketio from 5.14 on: `PUBLISH` and `SUBSCRIBE`, one channel.
//! * [`RedisStreamsBus`] speaks as `@socket.io/redis-streams-adapter` 0.3: entries of a stream, Redis from 6.2 on.
//! * [`emitter()`], [`streams_emitter`] and [`python_emitter`], or a bus' own `emitter`, speak to the clients of a cluster from a program that is no server.
//!
//! A bus is given to the server's builder:
//!
//! ```no_run
//! use socketio::{Namespace, SocketIo};
//! use socketio_redis::RedisBus;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = RedisBus::classic("redis://127.0.0.1/")?;
//! SocketIo::builder().adapter(bus).namespace(Namespace::new("/")).listen("127.0.0.1:3000").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Delivery between servers is at most once over `PUBLISH`, as with Node's adapters; over streams, what Redis has acknowledged reaches
//! every server that runs, once. While Redis is away messages wait in a buffer of
//! [`buffer_bytes`](RedisBus::buffer_bytes); the connection is made again with back-off and everything is subscribed to
//! again. What was on the way when a connection broke may be lost, and is counted.
//!
//! Inside: `link` is one connection and what is to be subscribed on it; `classic`, `sharded`, `python` and `streams` are the protocols.

mod address;
mod classic;
mod emitter;
#[cfg(doctest)]
mod guide;
mod link;
mod links;
mod python;
mod sharded;
#[cfg(test)]
mod simulated;
mod streams;
mod writer;

pub use emitter::{emitter, python_emitter, streams_emitter};
pub use streams::RedisStreamsBus;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use socketio_adapter::RoomName;
use socketio_adapter::cluster::wire::{self, Foreign, WireLimits};
use socketio_adapter::cluster::{
    BoxFuture, Bus, BusError, Direct, Emitter, Envelope, Health, Inbox, Membership, Published, RequestId, ServerId,
    Target,
};

use crate::address::Address;
use crate::link::{Channel, Handler, Kind, LinkOptions};
use crate::links::Links;

/// The address of Redis cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an address of Redis: {}", self.0)
    }
}

impl std::error::Error for AddressError {}

/// Which channels of rooms a server listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionMode {
    /// A server hears everything that is for its namespaces. Classic: one pattern. Sharded: no channels of rooms at all.
    Static,
    /// A server hears what is for rooms that it has members of. Sharded: but for the rooms of sockets' own ids.
    Dynamic,
    /// Sharded: the same for the rooms of sockets' own ids. Classic: the same as [`Dynamic`](Self::Dynamic).
    DynamicPrivate,
}

/// A [`Bus`] over Redis' pub/sub.
pub struct RedisBus {
    address: Address,
    link: LinkOptions,
    words: Words,
    running: RwLock<Option<Arc<Running>>>,
    /// Servers in Python, as they were last counted.
    silent: Arc<AtomicUsize>,
}

/// What channels are about that are about no namespace, but lead from one server to another.
pub(crate) const DIRECT: &str = "direct";

/// What there is after the start.
struct Running {
    links: Links,
    words: Words,
}

/// What all protocols need to know.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    pub(crate) dialect: Dialect,
    pub(crate) prefix: String,
    pub(crate) mode: SubscriptionMode,
    pub(crate) specific_responses: bool,
    pub(crate) limits: WireLimits,
    pub(crate) id: ServerId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Classic,
    Sharded,
    Python,
}

/// How often servers in Python are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

impl RedisBus {
    /// The classic protocol at a URL such as `redis://user:password@host:6379/`. Node: `createAdapter`.
    ///
    /// # Errors
    /// When the URL cannot be read. Whether Redis is there shows later, in the bus' health.
    pub fn classic(url: &str) -> Result<Self, AddressError> {
        Ok(Self::new(Address::single(url)?, Dialect::Classic))
    }

    /// The sharded protocol at a URL. Node: `createShardedAdapter`.
    ///
    /// # Errors
    /// As [`classic`](Self::classic).
    pub fn sharded(url: &str) -> Result<Self, AddressError> {
        Ok(Self::new(Address::single(url)?, Dialect::Sharded))
    }

    /// The protocol of python-socketio, from 5.14 on, at a URL: servers in Python with `AsyncRedisManager` or `RedisManager` and
    /// servers in Rust serve one application, and both hear Python's write-only managers. The channel is the
    /// [`prefix`](Self::prefix), by default `socketio`.
    ///
    /// What both kinds do for each other: events with rooms, skipped sockets, binary data and answers; single sockets, by
    /// their ids, join and leave rooms and are disconnected; a room is closed, which is `in_(room).sockets_leave(room)` here.
    ///
    /// Servers in Rust do everything for each other. Servers in Python cannot be told more, and this shows:
    /// * `fetch_sockets`, `sockets` and events for servers get no answers of them, and their number is among the `missing`;
    /// * events with rooms as exceptions are not sent to them at all: [`BusError::Partly`] while there are servers in Python.
    ///   Their sockets that are selected by a room do not join, leave or go: the same, as a warning, because those calls return
    ///   no errors of the cluster. Both are counted in `stats().cluster_refused`;
    /// * they do not say how many clients they ask, so a question to clients waits until its time is up: take the answers as
    ///   they come. Binary answers do not travel.
    ///
    /// # Errors
    /// As [`classic`](Self::classic).
    pub fn python(url: &str) -> Result<Self, AddressError> {
        Ok(Self::new(Address::single(url)?, Dialect::Python).prefix("socketio"))
    }

    /// Asks sentinels, at these URLs, which Redis is the master of `service`, each time a connection is made. User, password,
    /// database and whether there is TLS are those of the URL that the bus was made with; its host does not matter.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn sentinels(mut self, urls: &[&str], service: &str) -> Result<Self, AddressError> {
        self.address = self.address.behind(urls, service)?;
        Ok(self)
    }

    /// The URL is that of a node of a Redis Cluster, and these are further ones; one of them that is there is enough. User,
    /// password and TLS of the first URL hold for all nodes.
    ///
    /// What is published in the classic protocol, and Python's, goes to every node of the cluster; only the sharded protocol
    /// has its channels on the node that has their slot, follows slots that are moved, and spreads the load. Each is
    /// subscribed to anew after a failover. An [`emitter`](Self::emitter) for the sharded protocol reaches the channels of one
    /// node only: use the classic one there.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn cluster(mut self, urls: &[&str]) -> Result<Self, AddressError> {
        self.address = self.address.with_nodes(urls)?;
        Ok(self)
    }

    /// Trusts these certificates for `rediss://`, in PEM, instead of those that the system trusts. To be called behind
    /// [`cluster`](Self::cluster) and [`sentinels`](Self::sentinels).
    ///
    /// # Errors
    /// When they cannot be read, or no URL begins with `rediss://`.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, AddressError> {
        self.address = self.address.trusting(Some(pem))?;
        Ok(self)
    }

    /// Shows Redis a certificate with its chain, and proves it with the key, both in PEM. To be called behind
    /// [`cluster`](Self::cluster) and [`sentinels`](Self::sentinels).
    ///
    /// # Errors
    /// When they cannot be read, or no URL begins with `rediss://`.
    pub fn client_certificate(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, AddressError> {
        self.address = self.address.showing(chain_pem, key_pem)?;
        Ok(self)
    }

    fn new(address: Address, dialect: Dialect) -> Self {
        let words = Words {
            dialect,
            prefix: "socket.io".to_owned(),
            mode: SubscriptionMode::Dynamic,
            specific_responses: false,
            limits: WireLimits::default(),
            id: ServerId::from(""),
        };
        Self { address, link: LinkOptions::default(), words, running: RwLock::new(None), silent: Arc::default() }
    }

    /// What the names of all channels begin with. Default: `socket.io`. Node: `key`, sharded `channelPrefix`. For Python it is the
    /// channel; default: `socketio`. Python: `channel`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.words.prefix);
        self
    }

    /// Which channels of rooms this server listens to. Default: [`SubscriptionMode::Dynamic`]. Node: `subscriptionMode`, for
    /// the sharded adapter only. All servers of a sharded cluster have to have the same.
    ///
    /// Where rooms have channels, what is sent right after a socket has joined its first room may be missed, until Redis
    /// knows of it: await [`join`](https://docs.rs/socketio), or choose `Static`.
    #[must_use]
    pub fn subscription_mode(mut self, mode: SubscriptionMode) -> Self {
        self.words.mode = mode;
        self
    }

    /// Classic: whether answers go to the server that has asked only, and not to all of them. Default: `false`. Node:
    /// `publishOnSpecificResponseChannel`. Servers before version 7 of the adapter do not listen there.
    #[must_use]
    pub fn publish_on_specific_response_channel(mut self, specific: bool) -> Self {
        self.words.specific_responses = specific;
        self
    }

    /// How many bytes may wait for Redis while it is away or too slow; what exceeds that is refused, and the emit that it
    /// came from returns the error. 0 refuses everything while Redis is away. Default: 16 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.link.buffer_bytes = bytes;
        self
    }

    /// How long Redis may take to answer before the connection is given up and made again. Default: 2 s.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.link.response_timeout = timeout;
        self
    }

    /// How long after an outage nothing is published yet, so that the other servers are subscribed again, too: what nobody
    /// is subscribed to is lost. Default: 750 ms.
    #[must_use]
    pub fn regather(mut self, time: Duration) -> Self {
        self.link.regather = time;
        self
    }

    /// The bounds of what is taken from other servers.
    #[must_use]
    pub fn limits(mut self, limits: WireLimits) -> Self {
        self.words.limits = limits;
        self
    }

    /// An emitter with this address and these options instead of a bus: it speaks to the clients of servers that have the same.
    /// It connects in the background and reconnects. Node: `@socket.io/redis-emitter`, whose `key` is the
    /// [`prefix`](Self::prefix); it has none for the sharded protocol.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn emitter(self) -> Emitter {
        let words = Words { id: ServerId::from(wire::EMITTER), ..self.words };
        emitter::start(self.address, self.link, emitter::Wording::Channels(words))
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.running.read().clone()
    }

    fn with<R>(&self, f: impl FnOnce(&Links, &Words) -> R) -> Option<R> {
        let running = self.running()?;
        Some(f(&running.links, &running.words))
    }
}

impl Bus for RedisBus {
    fn membership(&self) -> Membership {
        Membership::Counted
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        let words = Words { id, ..self.words.clone() };
        let python = words.dialect == Dialect::Python;
        let post = Post { words: words.clone(), inbox };
        let sharded = words.dialect == Dialect::Sharded;
        let links = Links::start(self.address.clone(), self.link.clone(), sharded, Arc::new(post));
        let running = Arc::new(Running { links, words });
        if python {
            running.links.subscribe(running.words.common_channels());
            tokio::spawn(keep_counting(Arc::downgrade(&running), Arc::clone(&self.silent)));
        }
        *self.running.write() = Some(running);
    }

    fn open(&self, namespace: &str) {
        self.with(|link, words| link.subscribe(words.channels(namespace)));
    }

    fn shut(&self, namespace: &str) {
        self.with(|link, words| link.unsubscribe_namespace(namespace, words.channels(namespace)));
    }

    fn room_opened(&self, namespace: &str, room: &RoomName, own: bool) {
        self.with(|link, words| {
            if let Some(channel) = words.room_channel(namespace, room, own) {
                link.subscribe(vec![channel]);
            }
        });
    }

    fn room_closed(&self, namespace: &str, room: &RoomName, _: bool) {
        // Whether it was the room of an id is not known any more, so whatever is there goes.
        self.with(|link, words| {
            if let Some(channel) = words.room_channel(namespace, room, false) {
                link.unsubscribe(&[channel.name]);
            }
        });
    }

    fn publish(&self, envelope: Envelope, to: Target) -> Result<Published, BusError> {
        let Some(running) = self.running() else { return Err(BusError::Closed) };
        let Running { links, words } = &*running;
        let (channel, bytes) = match words.dialect {
            Dialect::Classic => classic::encode(words, &envelope, &to)?,
            Dialect::Sharded => sharded::encode(words, &envelope, &to)?,
            Dialect::Python => {
                let python::Sent { parts, untold } = python::encode(words, &envelope, &to)?;
                for (channel, bytes) in parts {
                    links.publish(false, channel, bytes)?;
                }
                return match untold {
                    Some(why) if self.silent_servers() > 0 => Err(BusError::Partly(why)),
                    _ => Ok(Published::Queued),
                };
            }
        };
        links.publish(words.dialect == Dialect::Sharded, channel, bytes)?;
        Ok(Published::Queued)
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }

    fn server_count(&self, namespace: &str) -> BoxFuture<'static, Result<usize, BusError>> {
        let Some(running) = self.running() else { return Box::pin(async { Err(BusError::Closed) }) };
        let (namespace, silent) = (namespace.to_owned(), Arc::clone(&self.silent));
        Box::pin(async move {
            // Behind everything that was to be subscribed before, so that this server counts itself.
            running.links.settled().await;
            running.count(&namespace, &silent).await
        })
    }

    fn silent_servers(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }

    fn whole_answers(&self, request: &RequestId) -> bool {
        self.words.dialect == Dialect::Python && python::asked_by_python(request)
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        match self.running() {
            Some(running) => Box::pin(async move { running.links.settled().await }),
            None => Box::pin(async {}),
        }
    }

    fn health(&self) -> Health {
        self.running().map_or(Health::Down, |running| running.links.health())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        match self.running.write().take() {
            Some(running) => Box::pin(async move { running.links.close().await }),
            None => Box::pin(async {}),
        }
    }
}

impl Direct for RedisBus {
    fn listen(&self, address: &str) {
        self.with(|link, words| link.subscribe(words.direct_channels(address)));
    }

    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError> {
        let Some(running) = self.running() else { return Err(BusError::Closed) };
        let Running { links, words } = &*running;
        links.publish(words.dialect == Dialect::Sharded, words.direct_channel(to), bytes)
    }
}

impl Words {
    /// Where servers send each other what is no message, each at an address of its own or all.
    pub(crate) fn direct_channel(&self, address: Option<&str>) -> String {
        let all = format!("{}-direct#", self.prefix);
        address.map_or(all.clone(), |address| format!("{all}{address}#"))
    }

    /// What the server at an address listens to. These channels are about no namespace.
    pub(crate) fn direct_channels(&self, address: &str) -> Vec<Channel> {
        let kind = if self.dialect == Dialect::Sharded { Kind::Sharded } else { Kind::Plain };
        [Some(address), None]
            .map(|address| Channel { kind, name: self.direct_channel(address), namespace: DIRECT.into() })
            .into()
    }

    /// Where broadcasts for a namespace go, or what only ours tell each other.
    pub(crate) fn main_channel(&self, namespace: &str) -> String {
        match self.dialect {
            Dialect::Classic | Dialect::Sharded => format!("{}#{namespace}#", self.prefix),
            Dialect::Python => format!("{}-rust#{namespace}#", self.prefix),
        }
    }

    /// The one channel of python-socketio.
    pub(crate) fn python_channel(&self) -> &str {
        &self.prefix
    }

    /// Where every server in Rust is counted, whatever its namespaces.
    fn rust_channel(&self) -> String {
        format!("{}-rust", self.prefix)
    }

    /// What is listened to from the beginning. Who is on their channel has been counted as one of ours.
    fn common_channels(&self) -> Vec<Channel> {
        let channel = |name| Channel { kind: Kind::Plain, name, namespace: "".into() };
        vec![channel(self.rust_channel()), channel(self.python_channel().to_owned())]
    }

    fn request_channel(&self, namespace: &str) -> String {
        format!("{}-request#{namespace}#", self.prefix)
    }

    fn response_channel(&self, namespace: &str) -> String {
        format!("{}-response#{namespace}#", self.prefix)
    }

    /// What a namespace listens to, rooms apart.
    fn channels(&self, namespace: &str) -> Vec<Channel> {
        let main = self.main_channel(namespace);
        let channel = |kind, name| Channel { kind, name, namespace: namespace.into() };
        let own = |channel: String| format!("{channel}{}#", self.id.as_str());
        match self.dialect {
            Dialect::Classic => {
                let responses = self.response_channel(namespace);
                let broadcasts = match self.mode {
                    SubscriptionMode::Static => channel(Kind::Pattern, format!("{}*", link::escaped(&main))),
                    SubscriptionMode::Dynamic | SubscriptionMode::DynamicPrivate => channel(Kind::Plain, main),
                };
                // The channel that servers are counted by comes last: who is counted hears everything.
                vec![
                    broadcasts,
                    channel(Kind::Plain, own(responses.clone())),
                    channel(Kind::Plain, responses),
                    channel(Kind::Plain, self.request_channel(namespace)),
                ]
            }
            Dialect::Sharded => {
                vec![channel(Kind::Sharded, own(main.clone())), channel(Kind::Sharded, main)]
            }
            Dialect::Python => vec![channel(Kind::Plain, own(main.clone())), channel(Kind::Plain, main)],
        }
    }

    /// The channel of a room, if it has one.
    fn room_channel(&self, namespace: &str, room: &str, own: bool) -> Option<Channel> {
        let kind = match (self.dialect, self.mode) {
            (_, SubscriptionMode::Static) | (Dialect::Python, _) => return None,
            (Dialect::Sharded, SubscriptionMode::Dynamic) if own && sharded::looks_like_an_id(room) => return None,
            (Dialect::Classic, _) => Kind::Plain,
            (Dialect::Sharded, _) => Kind::Sharded,
        };
        let name = format!("{}{room}#", self.main_channel(namespace));
        Some(Channel { kind, name, namespace: namespace.into() })
    }
}

impl Running {
    /// How many servers listen.
    async fn count(&self, namespace: &str, silent: &AtomicUsize) -> Result<usize, BusError> {
        let Self { links, words } = self;
        match words.dialect {
            Dialect::Classic => Ok(links.listeners([words.request_channel(namespace)]).await?[0]),
            Dialect::Sharded => links.shard_listeners(&words.main_channel(namespace)).await,
            Dialect::Python => {
                let channels = [words.main_channel(namespace), words.rust_channel(), words.python_channel().to_owned()];
                let [ours, rust, all] = links.listeners(channels).await?;
                let python = all.saturating_sub(rust);
                silent.store(python, Ordering::Relaxed);
                Ok(ours + python)
            }
        }
    }
}

/// Counts servers in Python, so that it is known whether something concerns them.
async fn keep_counting(running: Weak<Running>, silent: Arc<AtomicUsize>) {
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        let Some(running) = running.upgrade() else { return };
        // What was known last holds until the broker is back.
        drop(running.count("/", &silent).await);
    }
}

/// What Redis hands over goes through here to the server.
struct Post {
    words: Words,
    inbox: Arc<dyn Inbox>,
}

impl Handler for Post {
    fn message(&self, namespace: &Arc<str>, channel: &[u8], bytes: &[u8]) {
        if **namespace == *DIRECT {
            return self.inbox.direct(bytes);
        }
        let decoded = match self.words.dialect {
            Dialect::Classic => classic::decode(&self.words, &*self.inbox, namespace, channel, bytes),
            Dialect::Python if channel == self.words.python_channel().as_bytes() => python::decode(&self.words, bytes),
            // What only ours tell each other has the same words as there.
            Dialect::Sharded | Dialect::Python => sharded::decode(&self.words, namespace, bytes),
        };
        match decoded {
            Ok(Some(envelope)) => self.inbox.received(envelope, None),
            Ok(None) => {}
            Err(why) => self.inbox.foreign(&why),
        }
    }

    fn health(&self, health: Health) {
        self.inbox.health(health);
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }
}

/// What came in: a message, nothing that concerns us, or nothing that makes sense.
pub(crate) type Decoded = Result<Option<Envelope>, Foreign>;

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("RedisBus").field("words", &self.words).field("health", &self.health()).finish_non_exhaustive()
    }
}
