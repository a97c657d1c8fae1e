//! The bus over a Redis stream against a real Redis that keeps what it acknowledges: outages, hostile entries, sessions,
//! emitters.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use socketio_adapter::cluster::wire::Foreign;
use socketio_adapter::cluster::{
    Bus, BusError, Envelope, Health, Inbox, Message, Published, Sessions, StoredSession, Target,
};
use socketio_adapter::{BroadcastOptions, RoomName, Selection};
use socketio_proto::{OwnedArgs, Value};
use socketio_redis::{RedisStreamsBus, emitter, streams_emitter};
use socketio_testkit::{Proxy, Upstream};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

const PATIENCE: Duration = Duration::from_secs(120);

/// A redis-server that writes everything to a file before it answers.
struct Redis {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Redis {
    fn start() -> Self {
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            let dir = std::env::temp_dir().join(format!("sio-streams-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a folder");
            if let Some(child) = Self::spawn(port, &dir) {
                return Self { child, port, dir };
            }
        }
        panic!("redis-server does not start");
    }

    fn spawn(port: u16, dir: &PathBuf) -> Option<Child> {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(dir);
        support::started(&mut command, "Ready to accept connections")
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn resume(&mut self) {
        let mut tries = (0..200).map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            Self::spawn(self.port, &self.dir)
        });
        self.child = tries.find_map(|child| child).expect("it starts again");
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "a signal can be sent to a child");
    }

    async fn command(&self, words: &[&[u8]]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is there");
        let mut command = redis::cmd(std::str::from_utf8(words[0]).expect("a word"));
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.expect("Redis takes it")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What an inbox got.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, dead_code, reason = "a handful per test, and what failing ones print")]
enum Got {
    Message(Envelope, Option<Arc<str>>),
    Foreign,
    Placed(u64, String),
    Lost(u64),
    Health(Health),
}

struct Letters {
    got: UnboundedSender<Got>,
    /// The first values of all events `n`, whether the test waited for them or not.
    numbers: Arc<std::sync::Mutex<Vec<i64>>>,
}

impl Letters {
    fn put(&self, got: Got) {
        // The test may be over.
        drop(self.got.send(got));
    }
}

impl Inbox for Letters {
    fn received(&self, envelope: Envelope, offset: Option<Arc<str>>) {
        if let Message::Broadcast { event, .. } = &envelope.message
            && event.name() == "n"
            && let Some(number) = event.values().expect("values").first().and_then(Value::as_i64)
        {
            self.numbers.lock().unwrap().push(number);
        }
        self.put(Got::Message(envelope, offset));
    }

    fn placed(&self, _: &str, number: u64, offset: &str) {
        self.put(Got::Placed(number, offset.to_owned()));
    }

    fn foreign(&self, _: &Foreign) {
        self.put(Got::Foreign);
    }

    fn lost(&self, messages: u64) {
        self.put(Got::Lost(messages));
    }

    fn health(&self, health: Health) {
        self.put(Got::Health(health));
    }

    fn has_room(&self, _: &str, _: &str) -> bool {
        true
    }
}

struct Node {
    bus: RedisStreamsBus,
    id: &'static str,
    got: Mutex<UnboundedReceiver<Got>>,
    numbers: Arc<std::sync::Mutex<Vec<i64>>>,
}

impl Node {
    async fn new(bus: RedisStreamsBus, id: &'static str) -> Self {
        let (sender, got) = mpsc::unbounded_channel();
        let numbers = Arc::default();
        bus.start(id.into(), Arc::new(Letters { got: sender, numbers: Arc::clone(&numbers) }));
        bus.open("/");
        let node = Self { bus, id, got: Mutex::new(got), numbers };
        node.is(Health::Up).await;
        node.bus.settled().await;
        node
    }

    async fn on(redis: &Redis, id: &'static str) -> Self {
        Self::new(RedisStreamsBus::new(&redis.url()).expect("a URL"), id).await
    }

    async fn is(&self, health: Health) {
        self.until(|got| matches!(got, Got::Health(now) if *now == health).then_some(())).await;
    }

    async fn until<R>(&self, mut wanted: impl FnMut(&Got) -> Option<R>) -> R {
        let mut got = self.got.lock().await;
        let search = async {
            loop {
                let next = got.recv().await.expect("the bus runs");
                if let Some(found) = wanted(&next) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it arrives")
    }

    fn publish(&self, message: Message) -> Result<Published, BusError> {
        let envelope = Envelope { sender: Some(self.id.into()), namespace: "/".into(), message };
        self.bus.publish(envelope, Target::Everybody)
    }

    /// Emits, and waits until Redis has it.
    async fn say(&self, to: Selection, event: &str, values: Vec<Value>) -> Result<Arc<str>, BusError> {
        match self.publish(broadcast(to, event, values))? {
            Published::At { offset, .. } => offset.await,
            Published::Queued => panic!("a broadcast has an offset"),
        }
    }

    /// The values and the offset of the next event of this name; others are passed over.
    async fn hears(&self, event: &str) -> (Vec<Value>, Option<Arc<str>>) {
        self.until(|got| match got {
            Got::Message(Envelope { message: Message::Broadcast { event: said, .. }, .. }, offset)
                if said.name() == event =>
            {
                Some((said.values().expect("values"), offset.clone()))
            }
            _ => None,
        })
        .await
    }
}

fn broadcast(selection: Selection, event: &str, values: Vec<Value>) -> Message {
    let options = BroadcastOptions { selection, ..BroadcastOptions::default() };
    Message::Broadcast { event: OwnedArgs::from_values(Some(event), values), options, request: None }
}

fn all() -> Selection {
    Selection::everybody()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_has_the_same_offset_everywhere() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    let binary = vec![Value::Binary(vec![0, 1, 255].into()), "x".into()];
    let offset = a.say(all(), "hi", binary.clone()).await.expect("Redis takes it");
    assert_eq!(b.hears("hi").await, (binary, Some(offset)));
}

/// What Redis has acknowledged reaches every server that runs, once and in order, however often Redis is killed.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_entry_is_lost_when_redis_is_killed() {
    let mut redis = Redis::start();
    let (a, b) = (Arc::new(Node::on(&redis, "a").await), Node::on(&redis, "b").await);
    let mut acknowledged = Vec::new();
    for round in 0..3_i64 {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (sender, stopped) = (Arc::clone(&a), Arc::clone(&stop));
        let sending = tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut n = round * 1_000_000;
            while !stopped.load(std::sync::atomic::Ordering::Acquire) {
                n += 1;
                if sender.say(all(), "n", vec![n.into()]).await.is_ok() {
                    taken.push(n);
                }
            }
            taken
        });
        // Some have come before it is killed in the middle of the others.
        for _ in 0..20 {
            b.hears("n").await;
        }
        redis.kill();
        b.is(Health::Down).await;
        redis.resume();
        let back = std::time::Instant::now();
        b.is(Health::Up).await;
        println!("round {round}: the stream was read again {:?} after Redis was back", back.elapsed());
        stop.store(true, std::sync::atomic::Ordering::Release);
        acknowledged.extend(tokio::time::timeout(PATIENCE, sending).await.expect("it stops").expect("it runs"));
    }
    a.say(all(), "end", vec![]).await.expect("Redis takes it");
    b.hears("end").await;
    let heard = b.numbers.lock().unwrap().clone();
    println!("{} entries were acknowledged, {} were heard", acknowledged.len(), heard.len());
    assert!(heard.is_sorted_by(|one, next| one < next), "once, and in order: {heard:?}");
    let missing: Vec<_> = acknowledged.iter().filter(|n| heard.binary_search(n).is_err()).collect();
    assert!(missing.is_empty(), "{missing:?} of {} were not heard", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_a_server_is_cut_off_reaches_it_afterwards() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    a.say(all(), "n", vec![0.into()]).await.expect("Redis takes it");
    b.hears("n").await;
    for round in 0..5_i64 {
        // All connections are cut; what is written meanwhile by somebody else is read later.
        redis.command(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]).await;
        redis.command(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await;
        let io = streams_emitter(&redis.url()).expect("a URL");
        for n in 1..=100 {
            io.emit("n", round * 100 + n).await.expect("Redis takes it");
        }
        for n in 1..=100 {
            assert_eq!(b.hears("n").await.0, [Value::from(round * 100 + n)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_given_up_and_found_again() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    redis.signal("STOP");
    let waiting = a.say(all(), "hanging", vec![]);
    for node in [&a, &b] {
        node.is(Health::Down).await;
    }
    redis.signal("CONT");
    let back = std::time::Instant::now();
    for node in [&a, &b] {
        node.is(Health::Up).await;
    }
    println!("both servers were connected {:?} after Redis went on", back.elapsed());
    // Taken or not: it is known.
    drop(tokio::time::timeout(PATIENCE, waiting).await.expect("it is known"));
    tokio::time::timeout(PATIENCE, async { while a.say(all(), "after", vec![]).await.is_err() {} })
        .await
        .expect("it works again");
    b.hears("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_for_a_redis_that_is_away_is_bounded() {
    let mut redis = Redis::start();
    let bus = RedisStreamsBus::new(&redis.url()).expect("a URL").buffer_bytes(50_000);
    let a = Node::new(bus, "a").await;
    let b = Node::on(&redis, "b").await;
    redis.kill();
    a.is(Health::Down).await;
    let mut kept = Vec::new();
    let full = loop {
        match a.publish(broadcast(all(), "kept", vec!["x".repeat(1_000).into()])) {
            Ok(Published::At { offset, .. }) => kept.push(offset),
            Ok(Published::Queued) => panic!("a broadcast has an offset"),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, BusError::Full { bytes } if bytes > 40_000), "{full:?}");
    redis.resume();
    for offset in kept {
        if let Ok(offset) = tokio::time::timeout(PATIENCE, offset).await.expect("it is known") {
            assert_eq!(b.hears("kept").await.1, Some(offset));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_entries_kill_and_block_nobody() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    let deep = [vec![b'{', b'"', b'a', b'"', b':'], vec![b'['; 100_000]].concat();
    let junk: [&[&[u8]]; 9] = [
        &[b"x", b"y"],
        &[b"\xff\xfe", b"\xff"],
        &[b"nsp", b"/"],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"x"],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"3"],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"3", b"data", b"{"],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"3", b"data", b"%"],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"3", b"data", b"wMDAwA=="],
        &[b"uid", b"x", b"nsp", b"/", b"type", b"3", b"data", &deep],
    ];
    for columns in junk {
        redis.command(&[&[&b"XADD"[..], b"socket.io", b"*"], columns].concat()).await;
    }
    let mut foreign = 0;
    b.until(|got| {
        foreign += usize::from(matches!(got, Got::Foreign));
        assert!(!matches!(got, Got::Message(..) | Got::Health(_) | Got::Lost(_)), "{got:?}");
        (foreign == junk.len()).then_some(())
    })
    .await;
    // A key of another type is an outage, not an endless loop; it ends when the key is gone.
    redis.command(&[b"DEL", b"socket.io"]).await;
    redis.command(&[b"SET", b"socket.io", b"text"]).await;
    b.is(Health::Down).await;
    assert!(a.say(all(), "refused", vec![]).await.is_err());
    redis.command(&[b"DEL", b"socket.io"]).await;
    b.is(Health::Up).await;
    a.say(all(), "after", vec![]).await.expect("Redis takes it");
    b.hears("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_where_its_own_events_stand() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    let mut want = Vec::new();
    for _ in 0..100 {
        b.say(all(), "b", vec![]).await.expect("Redis takes it");
        let Published::At { number, offset } = a.publish(broadcast(all(), "a", vec![])).expect("there is room") else {
            panic!("a broadcast has an offset")
        };
        want.push((number, offset.await.expect("Redis takes it").to_string()));
    }
    assert!(want.is_sorted());
    let (mut heard, mut placed) = (0, Vec::new());
    a.until(|got| {
        match got {
            Got::Message(..) => heard += 1,
            // In between, as they stand in the stream.
            Got::Placed(number, offset) if heard == placed.len() + 1 => placed.push((*number, offset.clone())),
            got => panic!("{got:?} is out of order"),
        }
        (placed.len() == want.len()).then_some(())
    })
    .await;
    assert_eq!(placed, want);
}

fn session(pid: &str, data: Value) -> StoredSession {
    let rooms = ["s", "red"].into_iter().map(RoomName::from).collect();
    StoredSession { id: "s".into(), pid: pid.into(), rooms, data, since: None, by: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_taken_once_by_one_of_all_that_ask() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    let data = Value::Map([("n", Value::from(1))].into_iter().collect());
    for _ in 0..20 {
        a.bus.persist("/", session("secret", data.clone()), Duration::from_secs(60));
        // Behind it on the same connection: it is there.
        a.say(all(), "behind", vec![]).await.expect("Redis takes it");
        let (one, other) = tokio::join!(a.bus.take("/", "secret"), b.bus.take("/", "secret"));
        let mut taken: Vec<_> = [one, other].into_iter().filter_map(|taken| taken.expect("Redis answers")).collect();
        assert_eq!((taken.len(), taken.pop()), (1, Some(session("secret", data.clone()))));
    }
    for pid in ["secret", "", "other", &"x".repeat(100)] {
        assert_eq!(b.bus.take("/", pid).await, Ok(None), "{pid}");
    }
    // One of another namespace, and somebody else's value under the key.
    a.bus.persist("/other", session("secret", data), Duration::from_secs(60));
    assert_eq!(a.bus.take("/", "secret").await, Ok(None));
    for junk in [&b"%"[..], b"wA==", b""] {
        redis.command(&[b"SET", b"sio:session:junk", junk]).await;
        assert_eq!(b.bus.take("/", "junk").await, Ok(None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_read_from_the_stream() {
    let redis = Redis::start();
    let (a, b) = (Node::on(&redis, "a").await, Node::on(&redis, "b").await);
    let first = a.say(all(), "seen", vec![]).await.expect("Redis takes it");
    let rooms = session("", Value::Null).rooms;
    let mut want = Vec::new();
    for n in 0..1_200_i64 {
        let (to, missed) = match n % 4 {
            0 => (all().to("red"), true),
            1 => (all().to("blue"), false),
            2 => (all().to("red").except("s"), false),
            _ => (all(), true),
        };
        let Published::At { offset, .. } = a.publish(broadcast(to, "n", vec![n.into()])).expect("there is room") else {
            panic!("a broadcast has an offset")
        };
        if missed {
            want.push((n, offset));
        }
    }
    let mut expected = Vec::new();
    for (n, offset) in want {
        expected.push((vec![Value::from(n)], offset.await.expect("Redis takes it")));
    }
    // A volatile one is not for those who were away.
    let Message::Broadcast { event, mut options, request } = broadcast(all(), "volatile", vec![]) else { panic!() };
    options.flags.volatile = true;
    let Ok(Published::At { offset: end, .. }) = a.publish(Message::Broadcast { event, options, request }) else {
        panic!()
    };
    let end = end.await.expect("Redis takes it");
    let replay = b.bus.replay("/", &first, &rooms).await.expect("Redis answers").expect("it is there");
    let missed: Vec<_> = replay.missed.iter().map(|it| (it.event.values().unwrap(), it.offset.clone())).collect();
    assert_eq!((missed, replay.until), (expected, end.clone()));
    let replay = b.bus.replay("/other", &end, &rooms).await.expect("Redis answers").expect("it is there");
    assert_eq!((replay.missed.len(), replay.until), (0, end.clone()));
    for offset in ["", "$", "+", "1", "0-0-0", "0-1"] {
        assert!(b.bus.replay("/", offset, &rooms).await.expect("Redis answers").is_none(), "{offset}");
    }
    // What is trimmed away is not known any more.
    a.say(all(), "newer", vec![]).await.expect("Redis takes it");
    redis.command(&[b"XTRIM", b"socket.io", b"MAXLEN", b"1"]).await;
    assert!(b.bus.replay("/", &end, &rooms).await.expect("Redis answers").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn emitters_reach_servers_and_hear_of_refusals() {
    let redis = Redis::start();
    let node = Node::on(&redis, "a").await;
    let io = streams_emitter(&redis.url()).expect("a URL");
    io.to("red").emit("hi", (1, "x")).await.expect("Redis takes it");
    assert_eq!(node.hears("hi").await.0, [Value::from(1), "x".into()]);
    io.server_side_emit("tick", 1).await.expect("Redis takes it");
    node.until(|got| match got {
        Got::Message(Envelope { message: Message::ServerEvent { event, .. }, sender: None, .. }, _) => {
            assert_eq!(event.name(), "tick");
            Some(())
        }
        _ => None,
    })
    .await;
    assert!(matches!(io.emit("disconnect", ()).await, Err(BusError::Encode(_))));
    let classic = emitter(&redis.url()).expect("a URL");
    classic.emit("nobody listens", ()).await.expect("Redis takes it");
    redis.command(&[b"DEL", b"socket.io"]).await;
    redis.command(&[b"SET", b"socket.io", b"text"]).await;
    assert!(matches!(io.emit("hi", ()).await, Err(BusError::Broker(_))));
}

/// C11, C12: a stream is read from where it was, also when it was empty; what was trimmed away meanwhile is counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_without_a_word_reads_on_and_counts_what_is_gone() {
    let redis = Redis::start();
    let upstream = Upstream::Tcp(([127, 0, 0, 1], redis.port).into());
    let proxy = Proxy::start(upstream).await.expect("a free port");
    let bus = RedisStreamsBus::new(&format!("redis://{}/", proxy.address())).expect("a URL");
    let node = Node::new(bus, "a").await;
    let io = streams_emitter(&redis.url()).expect("a URL");
    proxy.partition();
    node.is(Health::Down).await;
    for n in 1..=20 {
        io.emit("n", n).await.expect("Redis takes it");
    }
    proxy.heal();
    for n in 1..=20 {
        assert_eq!(node.hears("n").await.0, [Value::from(n)]);
    }
    node.say(all(), "mine", vec![]).await.expect("Redis takes it");
    proxy.partition();
    node.is(Health::Down).await;
    for n in 21..=120 {
        io.emit("n", n).await.expect("Redis takes it");
    }
    redis.command(&[b"XTRIM", b"socket.io", b"MAXLEN", b"10"]).await;
    proxy.heal();
    node.until(|got| matches!(got, Got::Lost(90)).then_some(())).await;
    for n in 111..=120 {
        assert_eq!(node.hears("n").await.0, [Value::from(n)]);
    }
}
