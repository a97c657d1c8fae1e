//! Redis streams, as `@socket.io/redis-streams-adapter` 0.3 speaks them: broadcasts are entries that stay for a while, questions
//! and answers are published.

pub(crate) mod entry;
pub(crate) mod reader;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashSet;
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
use crate::writer::{Writer, answered};
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
struct Stream {
    name: String,
    most: usize,
    count: usize,
    session_prefix: String,
}

/// What there is after the start.
struct Running {
    link: Links,
    writer: Writer,
    hub: Arc<Hub>,
    reader: AbortHandle,
    stream: Stream,
    words: Words,
    /// How many entries were published.
    published: AtomicU64,
}

/// Where both connections that listen meet.
struct Hub {
    id: ServerId,
    limits: WireLimits,
    inbox: Arc<dyn Inbox>,
    namespaces: RwLock<HashSet<String>>,
    listening: AtomicBool,
    reading: AtomicBool,
    /// Guards the order of the news, and what the inbox was told last.
    told: Mutex<Health>,
    health: watch::Sender<Health>,
    /// Entries that were read.
    seen: AtomicUsize,
    /// Up to where.
    position: Mutex<Option<Arc<str>>>,
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
        let stream =
            Stream { name: "socket.io".to_owned(), most: 10_000, count: 100, session_prefix: SESSIONS.to_owned() };
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

    /// The key of the stream. Default: `socket.io`. Node: `streamName`; `streamCount` has to be 1 there.
    #[must_use]
    pub fn stream_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.stream.name);
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
        let wording = emitter::Wording::Stream(self.stream.name, self.stream.most);
        emitter::start(self.address, self.link, wording)
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
            listening: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            told: Mutex::new(Health::Down),
            health: watch::Sender::new(Health::Down),
            seen: AtomicUsize::new(0),
            position: Mutex::new(None),
        });
        let handler = Arc::new(Listener(Arc::clone(&hub)));
        let link = Links::start(self.address.clone(), self.link.clone(), false, handler);
        let keyed = self.address.of_key(&self.stream.name);
        let writer = Writer::start(keyed.clone(), self.link.clone(), Box::new(move |lost| inbox.lost(lost)));
        let reading = reader::run(Arc::clone(&hub), keyed, stream.clone());
        let reader = tokio::spawn(reading).abort_handle();
        let published = AtomicU64::new(0);
        let running = Running { link, writer, hub, reader, stream, words, published };
        *self.running.write() = Some(Arc::new(running));
    }

    fn open(&self, namespace: &str) {
        if let Some(running) = self.running() {
            running.hub.namespaces.write().insert(namespace.to_owned());
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
            let (mut command, bytes) = add(&running.stream.name, running.stream.most, &envelope)?;
            let number = running.published.fetch_add(1, Ordering::Relaxed) + 1;
            command.arg(NUMBER).arg(number);
            let answer = running.writer.send(command, bytes, true)?;
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
                tokio::join!(running.writer.close(), running.link.close());
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
        if let Err(error) = running.writer.send(command, bytes, false) {
            tracing::debug!(%error, "a session was not kept for other servers");
        }
    }

    fn position(&self) -> Option<Arc<str>> {
        self.running()?.hub.position.lock().clone()
    }

    fn take(&self, namespace: &str, pid: &str) -> BoxFuture<'static, Result<Option<StoredSession>, BusError>> {
        let Some(running) = self.running() else { return Box::pin(async { Err(BusError::Closed) }) };
        if pid.is_empty() || pid.len() > PID_BYTES {
            return Box::pin(async { Ok(None) });
        }
        let mut take = cmd("GETDEL");
        take.arg(running.session_key(pid));
        // At once, so that it is done also when nobody waits for it.
        let answer = running.writer.send(take, pid.len(), false);
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

    async fn ask(&self, command: Cmd) -> Result<Reply, BusError> {
        answered(self.writer.send(command, 0, false)?).await
    }

    async fn range(&self, from: &str, to: &str, count: usize) -> Result<Vec<Entry>, BusError> {
        let mut command = cmd("XRANGE");
        command.arg(&self.stream.name).arg(from).arg(to).arg("COUNT").arg(count);
        Ok(entry::entries(self.ask(command).await?))
    }

    /// Whether nothing behind this entry has been trimmed away.
    async fn is_known(&self, offset: &str) -> Result<bool, BusError> {
        if offset != reader::BEGINNING {
            return Ok(!self.range(offset, offset, 1).await?.is_empty());
        }
        let mut command = cmd("XINFO");
        command.arg("STREAM").arg(&self.stream.name);
        Ok(reader::is_whole(self.ask(command).await?))
    }

    async fn replay(&self, namespace: &str, offset: String, rooms: &[RoomName]) -> Result<Option<Replay>, BusError> {
        if !self.is_known(&offset).await? {
            return Ok(None);
        }
        let limits = &self.words.limits;
        let (mut missed, mut last) = (Vec::new(), offset);
        for _ in 0..REPLAY_ENTRIES / REPLAY_COUNT {
            let entries = self.range(&format!("({last}"), "+", REPLAY_COUNT).await?;
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
        self.reader.abort();
    }
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
    /// The bus is up when both connections are.
    fn changed(&self) {
        let mut told = self.told.lock();
        let up = self.listening.load(Ordering::Acquire) && self.reading.load(Ordering::Acquire);
        let now = if up { Health::Up } else { Health::Down };
        if *told != now {
            *told = now;
            self.health.send_replace(now);
            self.inbox.health(now);
        }
    }

    fn reading(&self, reading: bool) {
        self.reading.store(reading, Ordering::Release);
        self.changed();
    }

    /// Everything up to here has been read, or never will.
    fn read_up_to(&self, id: &str) {
        *self.position.lock() = Some(id.into());
    }

    /// Takes an entry. Whatever it is, the next one comes after it.
    fn entry(&self, entry: &Entry) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.take(entry);
        self.read_up_to(&entry.id);
    }

    fn take(&self, entry: &Entry) {
        let namespace = entry.text("nsp", &self.limits);
        if namespace.is_some_and(|namespace| !self.namespaces.read().contains(namespace)) {
            return;
        }
        if entry.text("uid", &self.limits) == Some(self.id.as_str()) {
            let number = entry.text(NUMBER, &self.limits).and_then(|number| number.parse().ok());
            if let (Some(namespace), Some(number)) = (namespace, number) {
                self.inbox.placed(namespace, number, &entry.id);
            }
            return;
        }
        match entry.read(&self.limits) {
            Ok(envelope) => self.inbox.received(envelope, Some(entry.id.as_str().into())),
            Err(why) => self.inbox.foreign(&why),
        }
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
