//! Redis (or Valkey) between Socket.IO servers, in the words of Node's adapters: Rust and Node servers serve one application.
//!
//! * [`RedisBus::classic`] speaks as `createAdapter` of `@socket.io/redis-adapter` 8: `PUBLISH` and `SUBSCRIBE`, any Redis from 6 on.
//! * [`RedisBus::sharded`] speaks as `createShardedAdapter` of the same package: `SPUBLISH` and `SSUBSCRIBE`, Redis from 7 on.
//! * [`RedisStreamsBus`] speaks as `@socket.io/redis-streams-adapter` 0.3: entries of a stream, Redis from 6.2 on.
//! * [`emitter()`] and [`streams_emitter`] speak to the clients of a cluster from a program that is no server.
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
//! Delivery between servers is at most once, as with Node's adapters. While Redis is away messages wait in a buffer of
//! [`buffer_bytes`](RedisBus::buffer_bytes); the connection is made again with back-off and everything is subscribed to
//! again. What was on the way when a connection broke may be lost, and is counted.
//!
//! Inside: `link` is one connection and what is to be subscribed on it, `classic` and `sharded` are the two protocols.

mod classic;
mod emitter;
mod link;
mod sharded;
mod streams;
mod writer;

pub use emitter::{emitter, streams_emitter};
pub use streams::RedisStreamsBus;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use redis::{IntoConnectionInfo, ProtocolVersion};
use socketio_adapter::RoomName;
use socketio_adapter::cluster::wire::{Foreign, WireLimits};
use socketio_adapter::cluster::{
    BoxFuture, Bus, BusError, Envelope, Health, Inbox, Membership, Published, ServerId, Target,
};

use crate::link::{Address, Channel, Handler, Kind, Link, LinkOptions};

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
    running: RwLock<Option<Arc<Link>>>,
}

/// What both protocols need to know.
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
}

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

    /// Asks sentinels, at these URLs, which Redis is the master of `service`, each time a connection is made. User, password
    /// and database are those of the URL that the bus was made with.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn sentinels(mut self, urls: &[&str], service: &str) -> Result<Self, AddressError> {
        self.address = self.address.behind(urls, service)?;
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
        Self { address, link: LinkOptions::default(), words, running: RwLock::new(None) }
    }

    /// What the names of all channels begin with. Default: `socket.io`. Node: `key`, sharded `channelPrefix`.
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

    fn link(&self) -> Option<Arc<Link>> {
        self.running.read().clone()
    }

    fn with<R>(&self, f: impl FnOnce(&Link, &Words) -> R) -> Option<R> {
        let link = self.link()?;
        Some(f(&link, link.words()))
    }
}

impl Bus for RedisBus {
    fn membership(&self) -> Membership {
        Membership::Counted
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        let words = Words { id, ..self.words.clone() };
        let post = Post { words: words.clone(), inbox };
        *self.running.write() = Some(Link::start(self.address.clone(), self.link.clone(), words, Arc::new(post)));
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
        let Some(link) = self.link() else { return Err(BusError::Closed) };
        let words = link.words();
        let (channel, bytes) = match words.dialect {
            Dialect::Classic => classic::encode(words, &envelope, &to)?,
            Dialect::Sharded => sharded::encode(words, &envelope, &to)?,
        };
        link.publish(words.dialect == Dialect::Sharded, channel, bytes)?;
        Ok(Published::Queued)
    }

    fn server_count(&self, namespace: &str) -> BoxFuture<'static, Result<usize, BusError>> {
        let Some(link) = self.link() else { return Box::pin(async { Err(BusError::Closed) }) };
        let words = link.words();
        let mut command = redis::cmd("PUBSUB");
        match words.dialect {
            Dialect::Classic => command.arg("NUMSUB").arg(words.request_channel(namespace)),
            Dialect::Sharded => command.arg("SHARDNUMSUB").arg(words.main_channel(namespace)),
        };
        Box::pin(async move {
            // Behind everything that was to be subscribed before, so that this server counts itself.
            link.settled().await;
            let (_, count): (String, usize) = link.query(command).await?;
            Ok(count)
        })
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        match self.link() {
            Some(link) => Box::pin(async move { link.settled().await }),
            None => Box::pin(async {}),
        }
    }

    fn health(&self) -> Health {
        self.link().map_or(Health::Down, |link| link.health())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        match self.running.write().take() {
            Some(link) => Box::pin(async move { link.close().await }),
            None => Box::pin(async {}),
        }
    }
}

impl Words {
    /// Where broadcasts for a namespace go.
    pub(crate) fn main_channel(&self, namespace: &str) -> String {
        format!("{}#{namespace}#", self.prefix)
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
        }
    }

    /// The channel of a room, if it has one.
    fn room_channel(&self, namespace: &str, room: &str, own: bool) -> Option<Channel> {
        let kind = match (self.dialect, self.mode) {
            (_, SubscriptionMode::Static) => return None,
            (Dialect::Sharded, SubscriptionMode::Dynamic) if own => return None,
            (Dialect::Classic, _) => Kind::Plain,
            (Dialect::Sharded, _) => Kind::Sharded,
        };
        let name = format!("{}{room}#", self.main_channel(namespace));
        Some(Channel { kind, name, namespace: namespace.into() })
    }
}

/// What Redis hands over goes through here to the server.
struct Post {
    words: Words,
    inbox: Arc<dyn Inbox>,
}

impl Handler for Post {
    fn message(&self, namespace: &Arc<str>, channel: &[u8], bytes: &[u8]) {
        let decoded = match self.words.dialect {
            Dialect::Classic => classic::decode(&self.words, &*self.inbox, namespace, channel, bytes),
            Dialect::Sharded => sharded::decode(&self.words, namespace, bytes),
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

impl Address {
    fn single(url: &str) -> Result<Self, AddressError> {
        let info = url.into_connection_info().map_err(|error| AddressError(error.to_string()))?;
        // Pushes beside answers: one connection subscribes and publishes, in one order.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { master: info.set_redis_settings(settings), sentinels: None })
    }

    fn behind(mut self, urls: &[&str], service: &str) -> Result<Self, AddressError> {
        let infos = urls.iter().map(|url| url.into_connection_info());
        let infos = infos.collect::<Result<Vec<_>, _>>().map_err(|error| AddressError(error.to_string()))?;
        self.sentinels = Some((infos, service.to_owned()));
        Ok(self)
    }
}
