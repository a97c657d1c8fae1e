//! Redis streams, as `@socket.io/redis-streams-adapter` 0.3 speaks them: broadcasts are entries that stay for a while, questions
//! and answers are published.

pub(crate) mod entry;
pub(crate) mod reader;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, Value as Reply, cmd};
use socketio_adapter::RoomName;
use socketio_adapter::cluster::wire::{self, Form, WireLimits};
use socketio_adapter::cluster::{
    BoxFuture, Bus, BusError, Direct, Emitter, Envelope, Health, Inbox, Membership, Message, MissedEvent, Published,
    Replay, ServerId, Sessions, StoredSession, Target,
};
use socketio_adapter::recovery::Place;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::entry::Entry;
use crate::address::Address;
use crate::link::{Channel, Handler, Kind, LinkOptions};
use crate::links::Links;
use crate::writer::{OnLost, Writer, answered};
use crate::{AddressError, DIRECT, Dialect, SubscriptionMode, Words, emitter};

/// What the keys of sessions begin with.
const SESSIONS: &str = "sio:session:";
/// The most entries that are looked through for one client that comes back.
const REPLAY_ENTRIES: usize = 50_000;
/// How many of them at once.
const REPLAY_COUNT: usize = 500;
/// The most events that one client may have missed.
const REPLAY_EVENTS: usize = 10_000;
/// The longest secret that is looked up.
const PID_BYTES: usize = 64;
/// The column of an entry that tells this server which of its messages it is. Node passes over it.
const NUMBER: &str = "n";

/// A [`Bus`] over a Redis stream. Redis (or Valkey) from 6.2 on.
///
/// Broadcasts, and moves of sockets between rooms, are entries of a stream that every server reads from where it is: what is
/// published while a server has no connection to Redis reaches it afterwards, as long as the stream still has it. An entry that Redis has
/// acknowledged is never lost to a server that runs, if Redis itself keeps it (`appendonly yes`), and none is read twice.
/// Questions to other servers, and their answers, go over pub/sub.
///
/// Servers with version 0.2 of Node's adapter understand the broadcasts, but not the questions.
pub struct RedisStreamsBus {
    address: Address,
    link: LinkOptions,
    words: Words,
    stream: Stream,
    running: RwLock<Option<Arc<Running>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    name: String,
    /// How many streams share the namespaces.
    streams: usize,
    pub(crate) most: usize,
    count: usize,
    session_prefix: String,
}

impl Stream {
    /// The stream of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> Cow<'_, str> {
        entry::stream_of(&self.name, self.streams, namespace)
    }

    /// Whether there are several, which in a cluster are on several nodes.
    pub(crate) fn is_spread(&self) -> bool {
        self.streams > 1
    }
}

/// What there is after the start.
struct Running {
    link: Links,
    writers: Writers,
    address: Address,
    hub: Arc<Hub>,
    readers: Mutex<Vec<AbortHandle>>,
    stream: Stream,
    words: Words,
    /// How many entries were published.
    published: AtomicU64,
}

/// Who writes to which stream: one for all, unless they are on several nodes of a cluster.
pub(crate) struct Writers {
    address: Address,
    options: LinkOptions,
    on_lost: Arc<dyn Fn(u64) + Send + Sync>,
    /// At the address, for all that is of no stream of several.
    pub(crate) main: Arc<Writer>,
    /// By stream.
    more: Option<Mutex<HashMap<String, Arc<Writer>>>>,
}

/// What is known of a stream that is read.
struct Log {
    name: String,
    reading: AtomicBool,
    /// Up to where.
    position: Mutex<Option<Arc<str>>>,
}

/// Where all connections that listen meet.
struct Hub {
    id: ServerId,
    limits: WireLimits,
    inbox: Arc<dyn Inbox>,
    namespaces: RwLock<HashMap<String, Arc<Log>>>,
    logs: RwLock<Vec<Arc<Log>>>,
    listening: AtomicBool,
    /// Guards the order of the news, and what the inbox was told last.
    told: Mutex<Health>,
    health: watch::Sender<Health>,
    /// Entries that were read.
    seen: AtomicUsize,
}

impl RedisStreamsBus {
    /// A bus over the Redis at a URL such as `redis://user:password@host:6379/`. Node: `createAdapter` of
    /// `@socket.io/redis-streams-adapter`.
    ///
    /// # Errors
    /// When the URL cannot be read. Whether Redis is there shows later, in the bus' health.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        let words = Words {
            dialect: Dialect::Classic,
            prefix: "socket.io".to_owned(),
            mode: SubscriptionMode::Static,
            specific_responses: true,
            limits: WireLimits::default(),
            id: ServerId::from(""),
        };
        let stream = Stream {
            name: "socket.io".to_owned(),
            streams: 1,
            most: 10_000,
            count: 100,
            session_prefix: SESSIONS.to_owned(),
        };
        let running = RwLock::new(None);
        Ok(Self { address: Address::single(url)?, link: LinkOptions::default(), words, stream, running })
    }

    /// The URL is that of a node of a Redis Cluster, and these are further ones. As [`RedisBus::cluster`](crate::RedisBus::cluster);
    /// the keys of sessions then begin with `sio:session:{socket.io}:`, where `socket.io` is the stream, so that they are on the
    /// same node: give Node's servers the same `sessionKeyPrefix`.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn cluster(mut self, urls: &[&str]) -> Result<Self, AddressError> {
        self.address = self.address.with_nodes(urls)?;
        Ok(self)
    }

    /// As [`RedisBus::sentinels`](crate::RedisBus::sentinels).
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn sentinels(mut self, urls: &[&str], service: &str) -> Result<Self, AddressError> {
        self.address = self.address.behind(urls, service)?;
        Ok(self)
    }

    /// As [`RedisBus::root_certificates`](crate::RedisBus::root_certificates).
    ///
    /// # Errors
    /// When they cannot be read, or no URL begins with `rediss://`.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, AddressError> {
        self.address = self.address.trusting(Some(pem))?;
        Ok(self)
    }

    /// As [`RedisBus::client_certificate`](crate::RedisBus::client_certificate).
    ///
    /// # Errors
    /// When they cannot be read, or no URL begins with `rediss://`.
    pub fn client_certificate(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, AddressError> {
        self.address = self.address.showing(chain_pem, key_pem)?;
        Ok(self)
    }

    /// The key of the stream, or what the keys of several begin with. Default: `socket.io`. Node: `streamName`.
    #[must_use]
    pub fn stream_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.stream.name);
        self
    }

    /// How many streams share the namespaces, so that in a Redis Cluster they are on several nodes: a namespace has one of
    /// them, by a hash of its name, and each has a connection of its own that reads it. Default: 1. Node: `streamCount`; all servers and
    /// emitters need the same.
    ///
    /// Node's hash may be negative, and then its servers write to a stream that they do not read. Such a namespace (`/my-namespace` of
    /// four streams is one) works between our servers, and Node's are heard; Node's hear nobody, not each other either.
    #[must_use]
    pub fn stream_count(mut self, streams: usize) -> Self {
        self.stream.streams = streams.max(1);
        self
    }

    /// About how many entries the stream keeps. Default: 10,000. Node: `maxLen`.
    #[must_use]
    pub fn max_len(mut self, entries: usize) -> Self {
        self.stream.most = entries.max(1);
        self
    }

    /// How many entries are read at once. Default: 100. Node: `readCount`.
    #[must_use]
    pub fn read_count(mut self, entries: usize) -> Self {
        self.stream.count = entries.max(1);
        self
    }

    /// What the names of channels begin with. Default: `socket.io`. Node: `channelPrefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.words.prefix);
        self
    }

    /// What the keys of sessions begin with. Default: `sio:session:`. Node: `sessionKeyPrefix`.
    #[must_use]
    pub fn session_key_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.stream.session_prefix);
        self
    }

    /// How many bytes may wait for Redis while it is away or too slow; what exceeds that is refused, and the emit that it
    /// came from returns the error. Default: 16 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.link.buffer_bytes = bytes;
        self
    }

    /// How long Redis may take to answer before a connection is given up and made again. Default: 2 s.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.link.response_timeout = timeout;
        self
    }

    /// An emitter with this address, stream and bound instead of a bus. It connects in the background and reconnects. Node:
    /// `Emitter` of `@socket.io/redis-streams-emitter`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn emitter(self) -> Emitter {
        let address = self.address.of_key(&self.stream.name);
        emitter::start(address, self.link, emitter::Wording::Stream(self.stream))
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.running.read().clone()
    }
}

impl Bus for RedisStreamsBus {
    fn membership(&self) -> Membership {
        Membership::Counted
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        let words = Words { id: id.clone(), ..self.words.clone() };
        let mut stream = self.stream.clone();
        if self.address.is_cluster() && stream.session_prefix == SESSIONS {
            // What is in braces says which node has a key: that of the stream.
            stream.session_prefix = format!("{SESSIONS}{{{}}}:", stream.name);
        }
        let hub = Arc::new(Hub {
            id,
            limits: words.limits.clone(),
            inbox: Arc::clone(&inbox),
            namespaces: RwLock::default(),
            logs: RwLock::default(),
            listening: AtomicBool::new(false),
            told: Mutex::new(Health::Down),
            health: watch::Sender::new(Health::Down),
            seen: AtomicUsize::new(0),
        });
        let handler = Arc::new(Listener(Arc::clone(&hub)));
        let link = Links::start(self.address.clone(), self.link.clone(), false, handler);
        let address = self.address.clone();
        let keyed = address.of_key(&stream.name);
        let spread = stream.is_spread();
        // A stream keeps what is written while nobody reads.
        let at_once = LinkOptions { regather: Duration::ZERO, ..self.link.clone() };
        let writers = Writers::start(keyed, at_once, spread, Arc::new(move |lost| inbox.lost(lost)));
        let (readers, published) = (Mutex::default(), AtomicU64::new(0));
        let running = Running { link, writers, address, hub, readers, stream, words, published };
        if running.stream.streams == 1 {
            running.read(&running.stream.name);
        }
        *self.running.write() = Some(Arc::new(running));
    }

    fn open(&self, namespace: &str) {
        if let Some(running) = self.running() {
            let log = running.read(&running.stream.of(namespace));
            running.hub.namespaces.write().insert(namespace.to_owned(), log);
            running.link.subscribe(running.channels(namespace));
        }
    }

    fn shut(&self, namespace: &str) {
        if let Some(running) = self.running() {
            running.hub.namespaces.write().remove(namespace);
            running.link.unsubscribe_namespace(namespace, running.channels(namespace));
        }
    }

    fn publish(&self, envelope: Envelope, to: Target) -> Result<Published, BusError> {
        let Some(running) = self.running() else { return Err(BusError::Closed) };
        if entry::is_kept(&envelope.message) {
            let stream = running.stream.of(&envelope.namespace);
            let (mut command, bytes) = add(&stream, running.stream.most, &envelope)?;
            let number = running.published.fetch_add(1, Ordering::Relaxed) + 1;
            command.arg(NUMBER).arg(number);
            let answer = running.writers.of(&stream).send(command, bytes, true)?;
            return Ok(Published::At { number, offset: Box::pin(async move { id_of(answered(answer).await?) }) });
        }
        let mut channel = running.words.main_channel(&envelope.namespace);
        if let Target::Asker(Some(server)) = to {
            channel = format!("{channel}{}#", server.as_str());
        }
        let bytes = wire::encode_as(&envelope, Form::Msgpack)?;
        running.link.publish(false, channel, bytes)?;
        Ok(Published::Queued)
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }

    fn server_count(&self, namespace: &str) -> BoxFuture<'static, Result<usize, BusError>> {
        let Some(running) = self.running() else { return Box::pin(async { Err(BusError::Closed) }) };
        let channel = running.words.main_channel(namespace);
        Box::pin(async move {
            // Behind everything that was to be subscribed before, so that this server counts itself.
            running.link.settled().await;
            let [count] = running.link.listeners([channel]).await?;
            Ok(count)
        })
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        match self.running() {
            Some(running) => Box::pin(async move { running.link.settled().await }),
            None => Box::pin(async {}),
        }
    }

    fn health(&self) -> Health {
        self.running().map_or(Health::Down, |running| *running.hub.health.borrow())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        match self.running.write().take() {
            Some(running) => Box::pin(async move {
                tokio::join!(running.writers.close(), running.link.close());
            }),
            None => Box::pin(async {}),
        }
    }

    fn sessions(&self) -> Option<&dyn Sessions> {
        Some(self)
    }
}

impl Direct for RedisStreamsBus {
    fn listen(&self, address: &str) {
        if let Some(running) = self.running() {
            running.link.subscribe(running.words.direct_channels(address));
        }
    }

    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError> {
        let Some(running) = self.running() else { return Err(BusError::Closed) };
        running.link.publish(false, running.words.direct_channel(to), bytes)
    }
}

impl Sessions for RedisStreamsBus {
    fn persist(&self, namespace: &str, session: StoredSession, away: Duration) {
        let Some(running) = self.running() else { return };
        let Ok(text) = entry::write_session(namespace, &session) else { return };
        let (bytes, millis) = (text.len(), u64::try_from(away.as_millis()).unwrap_or(u64::MAX).max(1));
        let mut command = cmd("SET");
        command.arg(running.session_key(&session.pid)).arg(text).arg("PX").arg(millis);
        // A session that cannot be kept is one whose client connects anew.
        if let Err(error) = running.writers.main.send(command, bytes, false) {
            tracing::debug!(%error, "a session was not kept for other servers");
        }
    }

    fn position(&self, namespace: &str) -> Option<Arc<str>> {
        let running = self.running()?;
        let stream = running.stream.of(namespace);
        let logs = running.hub.logs.read();
        let log = logs.iter().find(|log| log.name == *stream)?;
        log.position.lock().clone()
    }

    fn take(&self, namespace: &str, pid: &str) -> BoxFuture<'static, Result<Option<StoredSession>, BusError>> {
        let Some(running) = self.running() else { return Box::pin(async { Err(BusError::Closed) }) };
        if pid.is_empty() || pid.len() > PID_BYTES {
            return Box::pin(async { Ok(None) });
        }
        let mut take = cmd("GETDEL");
        take.arg(running.session_key(pid));
        // At once, so that it is done also when nobody waits for it.
        let answer = running.writers.main.send(take, pid.len(), false);
        let (namespace, pid) = (namespace.to_owned(), pid.to_owned());
        Box::pin(async move {
            let kept = entry::bytes(answered(answer?).await?);
            let session = kept.and_then(|text| entry::read_session(&namespace, &text, &running.words.limits).ok());
            Ok(session.filter(|session| *session.pid == *pid))
        })
    }

    fn replay(
        &self,
        namespace: &str,
        offset: &str,
        rooms: &[RoomName],
    ) -> BoxFuture<'static, Result<Option<Replay>, BusError>> {
        let Some(running) = self.running() else { return Box::pin(async { Err(BusError::Closed) }) };
        if Place::parse(offset).is_none() {
            return Box::pin(async { Ok(None) });
        }
        let (namespace, offset, rooms) = (namespace.to_owned(), offset.to_owned(), rooms.to_vec());
        Box::pin(async move { running.replay(&namespace, offset, &rooms).await })
    }
}

impl Running {
    fn channels(&self, namespace: &str) -> Vec<Channel> {
        let main = self.words.main_channel(namespace);
        let own = format!("{main}{}#", self.words.id.as_str());
        // Who is counted by the second one hears the first one, too.
        [own, main].map(|name| Channel { kind: Kind::Plain, name, namespace: namespace.into() }).into()
    }

    fn session_key(&self, pid: &str) -> String {
        format!("{}{pid}", self.stream.session_prefix)
    }

    /// Reads a stream from now on, if nobody does.
    fn read(&self, stream: &str) -> Arc<Log> {
        let mut logs = self.hub.logs.write();
        if let Some(log) = logs.iter().find(|log| log.name == stream) {
            return Arc::clone(log);
        }
        let (name, reading) = (stream.to_owned(), AtomicBool::new(false));
        let log = Arc::new(Log { name, reading, position: Mutex::new(None) });
        logs.push(Arc::clone(&log));
        drop(logs);
        let address = self.address.of_key(stream);
        let reading = reader::run(Arc::clone(&self.hub), Arc::clone(&log), address, self.stream.clone());
        self.readers.lock().push(tokio::spawn(reading).abort_handle());
        log
    }

    async fn ask(&self, stream: &str, command: Cmd) -> Result<Reply, BusError> {
        answered(self.writers.of(stream).send(command, 0, false)?).await
    }

    async fn range(&self, stream: &str, from: &str, to: &str, count: usize) -> Result<Vec<Entry>, BusError> {
        let mut command = cmd("XRANGE");
        command.arg(stream).arg(from).arg(to).arg("COUNT").arg(count);
        Ok(entry::entries(self.ask(stream, command).await?))
    }

    /// Whether nothing behind this entry has been trimmed away.
    async fn is_known(&self, stream: &str, offset: &str) -> Result<bool, BusError> {
        if offset != reader::BEGINNING {
            return Ok(!self.range(stream, offset, offset, 1).await?.is_empty());
        }
        let mut command = cmd("XINFO");
        command.arg("STREAM").arg(stream);
        Ok(reader::is_whole(self.ask(stream, command).await?))
    }

    async fn replay(&self, namespace: &str, offset: String, rooms: &[RoomName]) -> Result<Option<Replay>, BusError> {
        let stream = &self.stream.of(namespace);
        if !self.is_known(stream, &offset).await? {
            return Ok(None);
        }
        let limits = &self.words.limits;
        let (mut missed, mut last) = (Vec::new(), offset);
        for _ in 0..REPLAY_ENTRIES / REPLAY_COUNT {
            let entries = self.range(stream, &format!("({last}"), "+", REPLAY_COUNT).await?;
            let all = entries.len() < REPLAY_COUNT;
            for entry in entries {
                last.clone_from(&entry.id);
                if entry.text("nsp", limits) != Some(namespace) || entry.text("type", limits) != Some("3") {
                    continue;
                }
                // One that nobody understood was delivered to nobody.
                let Ok(envelope) = entry.read(limits) else { continue };
                if let Message::Broadcast { event, options, request: None } = envelope.message
                    && !options.flags.volatile
                    && options.selection.selects(rooms)
                {
                    missed.push(MissedEvent { event, options, offset: entry.id.into() });
                }
            }
            if missed.len() > REPLAY_EVENTS {
                return Ok(None);
            }
            if all {
                return Ok(Some(Replay { missed, until: last.into() }));
            }
        }
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.readers.lock().iter().for_each(AbortHandle::abort);
    }
}

impl Writers {
    /// `spread`: there are several streams.
    pub(crate) fn start(
        address: Address,
        options: LinkOptions,
        spread: bool,
        on_lost: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Self {
        let more = (address.is_cluster() && spread).then(Mutex::default);
        let main = writer(address.clone(), &options, &on_lost);
        Self { address, options, on_lost, main, more }
    }

    /// Who writes to this stream.
    pub(crate) fn of(&self, stream: &str) -> Arc<Writer> {
        let Some(more) = &self.more else { return Arc::clone(&self.main) };
        let mut more = more.lock();
        let new = || writer(self.address.of_key(stream), &self.options, &self.on_lost);
        Arc::clone(more.entry_ref(stream).or_insert_with(new))
    }

    async fn close(&self) {
        let more = self.more.iter().flat_map(|more| more.lock().values().cloned().collect::<Vec<_>>());
        let all = more.chain([Arc::clone(&self.main)]);
        let closing: Vec<_> = all.map(|writer| tokio::spawn(async move { writer.close().await })).collect();
        for writer in closing {
            // It does not panic.
            drop(writer.await);
        }
    }
}

fn writer(address: Address, options: &LinkOptions, on_lost: &Arc<dyn Fn(u64) + Send + Sync>) -> Arc<Writer> {
    let on_lost = Arc::clone(on_lost);
    let on_lost: OnLost = Box::new(move |lost| on_lost(lost));
    Arc::new(Writer::start(address, options.clone(), on_lost))
}

/// The command that appends an entry, and about how many bytes it has.
pub(crate) fn add(stream: &str, most: usize, envelope: &Envelope) -> Result<(Cmd, usize), BusError> {
    let columns = entry::write(envelope)?;
    let bytes = columns.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut command = cmd("XADD");
    command.arg(stream).arg("MAXLEN").arg("~").arg(most).arg("*");
    for (name, value) in columns {
        command.arg(name).arg(value);
    }
    Ok((command, bytes))
}

fn id_of(reply: Reply) -> Result<Arc<str>, BusError> {
    let id = entry::bytes(reply).and_then(|id| String::from_utf8(id).ok());
    id.map(Arc::from).ok_or_else(|| BusError::Broker("an entry without an id".to_owned()))
}

impl Hub {
    /// The bus is up when all connections are.
    fn changed(&self) {
        let mut told = self.told.lock();
        let reading = self.logs.read().iter().all(|log| log.reading.load(Ordering::Acquire));
        let now = if reading && self.listening.load(Ordering::Acquire) { Health::Up } else { Health::Down };
        if *told != now {
            *told = now;
            self.health.send_replace(now);
            self.inbox.health(now);
        }
    }

    fn reading(&self, log: &Log, reading: bool) {
        log.reading.store(reading, Ordering::Release);
        self.changed();
    }

    /// Takes an entry. Whatever it is, the next one comes after it.
    fn entry(&self, log: &Arc<Log>, entry: &Entry) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.take(log, entry);
        log.read_up_to(&entry.id);
    }

    fn take(&self, log: &Arc<Log>, entry: &Entry) {
        let namespace = entry.text("nsp", &self.limits);
        let of_namespace = namespace.map(|namespace| self.namespaces.read().get(namespace).cloned());
        if matches!(of_namespace, Some(None)) {
            return;
        }
        // What stands in the stream of another namespace has no place in that of its own.
        let placed = of_namespace.flatten().is_some_and(|own| Arc::ptr_eq(&own, log));
        if entry.text("uid", &self.limits) == Some(self.id.as_str()) {
            let number = entry.text(NUMBER, &self.limits).and_then(|number| number.parse().ok());
            if let (Some(namespace), Some(number), true) = (namespace, number, placed) {
                self.inbox.placed(namespace, number, &entry.id);
            }
            return;
        }
        match entry.read(&self.limits) {
            Ok(envelope) => self.inbox.received(envelope, placed.then(|| entry.id.as_str().into())),
            Err(why) => self.inbox.foreign(&why),
        }
    }
}

impl Log {
    /// Everything up to here has been read, or never will.
    fn read_up_to(&self, id: &str) {
        *self.position.lock() = Some(id.into());
    }
}

/// Takes what is published.
struct Listener(Arc<Hub>);

impl Handler for Listener {
    fn message(&self, namespace: &Arc<str>, _: &[u8], bytes: &[u8]) {
        if **namespace == *DIRECT {
            return self.0.inbox.direct(bytes);
        }
        match wire::decode(bytes, &self.0.limits) {
            Ok(envelope) if envelope.namespace != *namespace => self.0.inbox.foreign(&wire::Foreign::Field("nsp")),
            Ok(envelope) => self.0.inbox.received(envelope, None),
            Err(why) => self.0.inbox.foreign(&why),
        }
    }

    fn health(&self, health: Health) {
        self.0.listening.store(health == Health::Up, Ordering::Release);
        self.0.changed();
    }

    fn lost(&self, messages: u64) {
        self.0.inbox.lost(messages);
    }
}

impl fmt::Debug for RedisStreamsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("RedisStreamsBus")
            .field("stream", &self.stream)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
