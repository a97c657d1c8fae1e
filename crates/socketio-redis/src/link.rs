//! One connection to Redis: what is to be subscribed on it, what waits to be published, and making it again.
//!
//! Subscriptions and publications leave in one order, in pipelines of bounded size; what comes in is handed over where it
//! is read, so nothing queues on this side and a server that is too slow slows the connection down. The channels that are
//! wanted are remembered, and subscribed to anew whenever the connection is.
//!
//! One task owns the connection. It ends when the link is closed or dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use socketio_adapter::cluster::{BusError, Health};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::address::{self, Address, CONNECT_TIMEOUT, Complaint};

#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) buffer_bytes: usize,
    pub(crate) response_timeout: Duration,
    pub(crate) regather: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { buffer_bytes: 16 << 20, response_timeout: Duration::from_secs(2), regather: Duration::from_millis(750) }
    }
}

/// Something to listen to.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) namespace: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Pattern,
    Sharded,
}

/// Takes what comes in, where it is read: it must not block.
pub(crate) trait Handler: Send + Sync {
    fn message(&self, namespace: &Arc<str>, channel: &[u8], bytes: &[u8]);
    fn health(&self, health: Health);
    fn lost(&self, messages: u64);
    /// Something that this connection was for is on another node now.
    fn moved(&self) {}
}

/// A connection that is made again whenever it breaks.
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    options: LinkOptions,
    handler: Arc<dyn Handler>,
    /// Guards what is wanted and what waits, so that both have one order.
    state: Mutex<State>,
    /// The names that messages come with, and what they are about.
    about: RwLock<HashMap<String, Arc<str>>>,
    connection: Mutex<Option<MultiplexedConnection>>,
    up: AtomicBool,
    closing: AtomicBool,
    /// Counts attempts to connect, from 1 on.
    attempts: AtomicU64,
    /// The one that the connection came from: what others still deliver is ignored.
    generation: AtomicU64,
    /// The connection that was made last, as Redis knows it.
    known: Mutex<Option<Known>>,
    /// There is something to do.
    work: Notify,
    /// The connection has broken.
    broken: Notify,
}

/// A connection. Numbers begin anew with the server, so the address is a part of it.
#[derive(Clone)]
struct Known {
    id: String,
    address: String,
}

#[derive(Default)]
struct State {
    wanted: HashMap<String, Kind>,
    /// Channels of shards that were given up: so many confirmations of it are still to come.
    leaving: HashMap<String, usize>,
    queue: VecDeque<Item>,
    bytes: usize,
}

enum Item {
    Subscribe(Kind, String),
    Unsubscribe(Kind, String),
    Publish {
        sharded: bool,
        channel: String,
        bytes: Vec<u8>,
    },
    /// Everything before has been answered.
    Settled(oneshot::Sender<()>),
}

/// What a message costs in the buffer besides its bytes.
const ITEM_BYTES: usize = 128;
/// How much goes into one pipeline.
const BATCH_ITEMS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Between attempts; the longest one, an attempt that the network swallows and the time to gather again are two seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A connection on which nothing happens is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(1);
/// How long [`Link::close`] waits for what is queued.
const FLUSH: Duration = Duration::from_secs(1);

impl Link {
    pub(crate) fn start(address: Address, options: LinkOptions, handler: Arc<dyn Handler>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            options,
            handler,
            state: Mutex::default(),
            about: RwLock::default(),
            connection: Mutex::new(None),
            up: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            known: Mutex::new(None),
            work: Notify::new(),
            broken: Notify::new(),
        });
        tokio::spawn(run(Arc::clone(&shared), address));
        Arc::new(Self { shared })
    }

    pub(crate) fn health(&self) -> Health {
        if self.shared.up.load(Ordering::Acquire) { Health::Up } else { Health::Down }
    }

    /// Listens to these, in this order.
    pub(crate) fn subscribe(&self, channels: Vec<Channel>) {
        let mut state = self.shared.state.lock();
        for Channel { kind, name, namespace } in channels {
            self.shared.about.write().insert(name.clone(), namespace);
            if state.wanted.insert(name.clone(), kind).is_none() {
                state.queue.push_back(Item::Subscribe(kind, name));
            }
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Listens to these no longer.
    pub(crate) fn unsubscribe(&self, names: &[String]) {
        let mut state = self.shared.state.lock();
        for name in names {
            self.shared.about.write().remove(name);
            if let Some(kind) = state.wanted.remove(name) {
                if kind == Kind::Sharded {
                    *state.leaving.entry(name.clone()).or_default() += 1;
                }
                state.queue.push_back(Item::Unsubscribe(kind, name.clone()));
            }
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Listens to nothing of a namespace: these, and the rooms that it has left.
    pub(crate) fn unsubscribe_namespace(&self, namespace: &str, channels: Vec<Channel>) {
        let of_it = |(name, about): (&String, &Arc<str>)| (**about == *namespace).then(|| name.clone());
        let mut names: Vec<String> = channels.into_iter().map(|channel| channel.name).collect();
        names.extend(self.shared.about.read().iter().filter_map(of_it));
        self.unsubscribe(&names);
    }

    pub(crate) fn publish(&self, sharded: bool, channel: String, bytes: Vec<u8>) -> Result<(), BusError> {
        let mut state = self.shared.state.lock();
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        let size = bytes.len() + channel.len() + ITEM_BYTES;
        let limit = self.shared.options.buffer_bytes;
        let up = self.shared.up.load(Ordering::Acquire);
        // A single message may be larger than the buffer, as long as it goes out at once.
        if (state.bytes + size > limit && (state.bytes > 0 || !up)) || (limit == 0 && !up) {
            return Err(BusError::Full { bytes: state.bytes });
        }
        state.bytes += size;
        state.queue.push_back(Item::Publish { sharded, channel, bytes });
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Resolves when Redis has answered everything before, or is away.
    pub(crate) async fn settled(&self) {
        let (sender, settled) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if !self.shared.up.load(Ordering::Acquire) {
                return;
            }
            state.queue.push_back(Item::Settled(sender));
        }
        self.shared.work.notify_one();
        // Dropped with the queue when the connection breaks.
        let _ = settled.await;
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, command: Cmd) -> Result<T, BusError> {
        let connection = self.shared.connection.lock().clone();
        let Some(mut connection) = connection else { return Err(BusError::Broker("not connected".to_owned())) };
        command.query_async(&mut connection).await.map_err(|error| BusError::Broker(error.to_string()))
    }

    pub(crate) async fn close(&self) {
        let _ = timeout(FLUSH, self.settled()).await;
        self.shared.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.work.notify_one();
        self.broken.notify_one();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// A push: a message, or the news that the connection has broken.
    fn push(&self, generation: u64, push: PushInfo) {
        if generation != self.generation.load(Ordering::Acquire) {
            return;
        }
        // A message is `[channel, bytes]`; one that came through a pattern has it in front.
        let (subscribed, channel, bytes) = match (&push.kind, &push.data[..]) {
            (PushKind::Message | PushKind::SMessage, [Value::BulkString(channel), Value::BulkString(bytes)]) => {
                (channel, channel, bytes)
            }
            (
                PushKind::PMessage,
                [Value::BulkString(pattern), Value::BulkString(channel), Value::BulkString(bytes)],
            ) => (pattern, channel, bytes),
            (PushKind::Disconnection, _) => return self.broken.notify_one(),
            (PushKind::SUnsubscribe, [Value::BulkString(channel), ..]) => return self.gone(channel),
            _ => return,
        };
        let Ok(subscribed) = std::str::from_utf8(subscribed) else { return };
        let about = self.about.read().get(subscribed).cloned();
        if let Some(namespace) = about {
            self.handler.message(&namespace, channel, bytes);
        }
    }

    /// A channel of a shard is subscribed to no longer. Where nobody wanted that, its slot is on another node now, and the answers
    /// on this connection are out of step.
    fn gone(&self, channel: &[u8]) {
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        let mut state = self.state.lock();
        if let Some(left) = state.leaving.get_mut(channel) {
            *left -= 1;
            if *left == 0 {
                state.leaving.remove(channel);
            }
            return;
        }
        drop(state);
        self.handler.moved();
        self.broken.notify_one();
    }

    /// An error that says that a slot is elsewhere.
    fn note(&self, error: &RedisError) {
        if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask)) {
            self.handler.moved();
        }
    }

    /// What goes into the next pipeline.
    fn batch(&self) -> Vec<Item> {
        let mut state = self.state.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(item) = state.queue.pop_front() else { break };
            bytes += item.size();
            batch.push(item);
        }
        batch
    }

    /// The broker has (not) taken these.
    fn finish(&self, batch: Vec<Item>, taken: bool) {
        let bytes: usize = batch.iter().map(Item::size).sum();
        self.state.lock().bytes -= bytes;
        if !taken {
            let lost = batch.iter().filter(|item| matches!(item, Item::Publish { .. })).count();
            if lost > 0 {
                self.handler.lost(lost as u64);
            }
            return;
        }
        for item in batch {
            if let Item::Settled(settled) = item {
                // Nobody may wait any more.
                let _ = settled.send(());
            }
        }
    }

    /// Waits for [`Link::close`]. To be dropped before anybody else waits for a connection to break: it would hear of it instead.
    async fn closed(&self) {
        while !self.is_closing() {
            self.broken.notified().await;
        }
    }

    /// The connection is gone: what concerned it goes too, what is to be published stays.
    fn down(&self) {
        self.generation.store(0, Ordering::Release);
        *self.connection.lock() = None;
        {
            let mut state = self.state.lock();
            state.queue.retain(|item| matches!(item, Item::Publish { .. }));
            state.leaving.clear();
            if !self.up.swap(false, Ordering::AcqRel) {
                return;
            }
        }
        self.handler.health(Health::Down);
    }
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Publish { channel, bytes, .. } => bytes.len() + channel.len() + ITEM_BYTES,
            Self::Subscribe(..) | Self::Unsubscribe(..) | Self::Settled(_) => 0,
        }
    }
}

async fn run(shared: Arc<Shared>, address: Address) {
    let mut pause = FIRST_PAUSE;
    let mut again = false;
    let mut complaint = Complaint::default();
    while !shared.is_closing() {
        let connected = tokio::select! {
            connected = dial(&shared, &address) => connected,
            () = shared.closed() => break,
        };
        let connected = match connected {
            Ok(connection) => gather(&shared, connection, again).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(connection) => {
                (pause, again) = (FIRST_PAUSE, true);
                complaint.over();
                serve(&shared, connection).await;
                shared.down();
            }
            Err(error) => {
                complaint.about(&error);
                shared.generation.store(0, Ordering::Release);
                let jitter = rand::random_range(0.5..1.0);
                tokio::select! {
                    () = sleep(pause.mul_f64(jitter)) => {}
                    () = shared.closed() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    shared.down();
    // Whoever waits is told that nothing comes any more.
    shared.state.lock().queue.clear();
}

/// Connects. What this connection pushes is heard from now on.
async fn dial(shared: &Arc<Shared>, address: &Address) -> RedisResult<MultiplexedConnection> {
    let attempt = || {
        let (number, to) = (shared.attempts.fetch_add(1, Ordering::Relaxed) + 1, Arc::downgrade(shared));
        let push = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if let Some(shared) = Weak::upgrade(&to) {
                shared.push(number, push);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(shared.options.response_timeout))
            .set_push_sender(push);
        let address = address.clone();
        async move { Ok((number, address.connect(&config).await?)) }
    };
    let (number, connection) = address::first(attempt).await?;
    shared.generation.store(number, Ordering::Release);
    Ok(connection)
}

/// Ends the connection before this one. Until Redis notices that the network has lost it, which may take many minutes, its
/// subscriptions are counted, and whoever asks all servers waits for one that is not there. A user who may not do this is
/// no worse off than before.
async fn replace(shared: &Shared, connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = Pipeline::new();
    pipeline.ignore_errors();
    let before = shared.known.lock().clone();
    if let Some(Known { id, address }) = &before {
        pipeline.cmd("CLIENT").arg("KILL").arg("ID").arg(id).arg("ADDR").arg(address);
    }
    pipeline.cmd("CLIENT").arg("INFO");
    let mut answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    // Redis before 6.2 does not say.
    let info = answers.pop().and_then(|info| String::from_redis_value(info.ok()?).ok()).unwrap_or_default();
    *shared.known.lock() = Known::read(&info);
    Ok(())
}

impl Known {
    /// From what `CLIENT INFO` answers.
    fn read(info: &str) -> Option<Self> {
        let field = |name| info.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)).map(str::to_owned);
        Some(Self { id: field("id=")?, address: field("addr=")? })
    }
}

/// Subscribes to everything that is wanted; `again` after an outage.
async fn gather(
    shared: &Arc<Shared>,
    mut connection: MultiplexedConnection,
    again: bool,
) -> RedisResult<MultiplexedConnection> {
    replace(shared, &mut connection).await?;
    let wanted: Vec<(Kind, String)> = {
        let mut state = shared.state.lock();
        // What changes from now on is queued, and comes behind this.
        state.queue.retain(|item| matches!(item, Item::Publish { .. }));
        state.leaving.clear();
        state.wanted.iter().map(|(name, kind)| (*kind, name.clone())).collect()
    };
    for part in wanted.chunks(BATCH_ITEMS) {
        let mut pipeline = Pipeline::new();
        for (kind, name) in part {
            pipeline.add_command(kind.subscribe(name)).ignore();
        }
        pipeline.exec_async(&mut connection).await.inspect_err(|error| shared.note(error))?;
    }
    if again {
        tokio::select! {
            () = sleep(shared.options.regather) => {}
            () = shared.broken.notified() => {
                return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
            }
        }
    }
    {
        let _state = shared.state.lock();
        *shared.connection.lock() = Some(connection.clone());
        shared.up.store(true, Ordering::Release);
    }
    shared.handler.health(Health::Up);
    Ok(connection)
}

/// Writes what is queued until the connection breaks.
async fn serve(shared: &Arc<Shared>, mut connection: MultiplexedConnection) {
    let mut quiet = Instant::now() + IDLE;
    loop {
        let batch = shared.batch();
        if batch.is_empty() {
            if shared.is_closing() {
                return;
            }
            tokio::select! {
                () = shared.work.notified() => continue,
                () = shared.broken.notified() => return,
                () = tokio::time::sleep_until(quiet) => {}
            }
            quiet = Instant::now() + IDLE;
            // A broker that hangs is found out when nobody says anything, too.
            if let Err(error) = redis::cmd("PING").exec_async(&mut connection).await {
                tracing::warn!(%error, "Redis does not answer");
                return;
            }
            continue;
        }
        quiet = Instant::now() + IDLE;
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for item in &batch {
            let command = match item {
                Item::Subscribe(kind, name) => kind.subscribe(name),
                Item::Unsubscribe(kind, name) => kind.unsubscribe(name),
                Item::Publish { sharded, channel, bytes } => {
                    let mut command = redis::cmd(if *sharded { "SPUBLISH" } else { "PUBLISH" });
                    command.arg(channel).arg(&bytes[..]);
                    command
                }
                Item::Settled(_) => continue,
            };
            pipeline.add_command(command).ignore();
        }
        let written = match pipeline.is_empty() {
            true => Ok(()),
            false => tokio::select! {
                written = pipeline.exec_async(&mut connection) => written,
                () = shared.broken.notified() => Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()),
            },
        };
        shared.finish(batch, written.is_ok());
        if let Err(error) = written {
            shared.note(&error);
            if !shared.is_closing() {
                tracing::warn!(%error, "the connection to Redis has to be made again");
            }
            return;
        }
    }
}

impl Kind {
    fn subscribe(self, name: &str) -> Cmd {
        let mut command = redis::cmd(match self {
            Self::Plain => "SUBSCRIBE",
            Self::Pattern => "PSUBSCRIBE",
            Self::Sharded => "SSUBSCRIBE",
        });
        command.arg(name);
        command
    }

    fn unsubscribe(self, name: &str) -> Cmd {
        let mut command = redis::cmd(match self {
            Self::Plain => "UNSUBSCRIBE",
            Self::Pattern => "PUNSUBSCRIBE",
            Self::Sharded => "SUNSUBSCRIBE",
        });
        command.arg(name);
        command
    }
}

/// A name as a pattern that means just it.
pub(crate) fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_of_a_connection_is_read() {
        let known = |info| Known::read(info).map(|known| (known.id, known.address));
        let info = "id=7 addr=127.0.0.1:5 laddr=127.0.0.1:6379 fd=8 name= age=0 user=default lib-name= resp=3\n";
        assert_eq!(known(info), Some(("7".to_owned(), "127.0.0.1:5".to_owned())));
        assert_eq!(known("fid=7 laddr=127.0.0.1:6379"), None);
        assert_eq!(known(""), None);
    }

    #[test]
    fn a_pattern_means_the_name_and_nothing_else() {
        assert_eq!(escaped("socket.io#/dyn-*#"), "socket.io#/dyn-\\*#");
        assert_eq!(escaped("/[a]?\\^"), "/\\[a\\]\\?\\\\\\^");
    }
}
