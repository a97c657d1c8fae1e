//! Clients that come back to another server than the one they left, over a Redis stream.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use socketio::testing::{self, Sent, TestClient, TestServer};
use socketio::{Action, Bytes, ConnectError, Namespace, RecoveryOptions, SecurityKind, Socket, SocketIo};
use socketio_redis::RedisStreamsBus;
use support::Redis;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(2);

/// What happened in a namespace.
type Notes = Arc<Mutex<Vec<String>>>;

fn namespace(notes: &Notes) -> Namespace {
    let (connected, expired) = (Arc::clone(notes), Arc::clone(notes));
    Namespace::new("/")
        .on_connect(move |socket: Socket| {
            connected.lock().unwrap().push(format!("connected {}", socket.recovered()));
            async {}
        })
        .on_session_expired(move |session| expired.lock().unwrap().push(format!("{:?}", session.why())))
}

async fn start(redis: &Redis, namespace: Namespace, options: RecoveryOptions) -> TestServer {
    let bus = RedisStreamsBus::new(&redis.url()).expect("a URL");
    let builder = SocketIo::builder().adapter(bus).connection_state_recovery(options).namespace(namespace);
    let server = testing::serve(builder);
    eventually("Redis is there", async || server.io().adapter_health() == Some(socketio::Health::Up)).await;
    server
}

/// However busy the machine is, every event gets its place.
fn patient() -> RecoveryOptions {
    let mut options = RecoveryOptions::default();
    options.log_timeout = PATIENCE;
    options
}

async fn plain(redis: &Redis) -> TestServer {
    start(redis, namespace(&Notes::default()), patient()).await
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("timeout: {what}"));
}

/// What a client remembers from connection to connection.
#[derive(Default)]
struct Memory {
    sid: String,
    pid: String,
    offset: Option<String>,
    /// Events without their offsets.
    heard: Vec<Json>,
    offsets: Vec<String>,
}

/// A client as the official library is: it takes the last string of an event for an offset.
struct Guest {
    client: TestClient,
    read: usize,
}

impl Memory {
    fn auth(&self) -> Json {
        match &self.offset {
            Some(offset) => json!({"pid": self.pid, "offset": offset}),
            None => json!({"pid": self.pid}),
        }
    }

    /// Connects. Returns whether it got its socket back.
    async fn connect(&mut self, server: &TestServer) -> (Guest, bool) {
        self.join(server, "/").await
    }

    /// Connects to a namespace.
    async fn join(&mut self, server: &TestServer, namespace: &str) -> (Guest, bool) {
        let client = server.client().auth(self.auth()).connect(namespace).await.expect("it is let in");
        let answer = text(&client.sent()[0])[1..].trim_start_matches(|c| c != '{').to_owned();
        let answer: Json = serde_json::from_str(&answer).expect("JSON");
        let field = |name: &str| answer[name].as_str().expect("text").to_owned();
        let recovered = field("pid") == self.pid;
        assert_eq!(recovered, field("sid") == self.sid);
        (self.sid, self.pid) = (field("sid"), field("pid"));
        (Guest { client, read: 1 }, recovered)
    }

    /// Reads what has come.
    fn read(&mut self, guest: &mut Guest) {
        let sent = guest.client.sent();
        for packet in &sent[guest.read..] {
            let Some((head, event)) = text(packet).split_once('[') else { continue };
            // A question has an id there.
            if head != "2" && !(head.starts_with("2/") && head.ends_with(',')) {
                continue;
            }
            let mut event: Vec<Json> = serde_json::from_str(&format!("[{event}")).expect("JSON");
            let offset = event.pop().and_then(|offset| offset.as_str().map(str::to_owned)).expect("an offset");
            self.heard.push(event.into());
            self.offsets.push(offset.clone());
            self.offset = Some(offset);
        }
        guest.read = sent.len();
    }

    /// Reads until so many events have come altogether.
    async fn until(&mut self, guest: &mut Guest, events: usize) {
        let late = Instant::now() + PATIENCE;
        loop {
            self.read(guest);
            if self.heard.len() >= events {
                return;
            }
            assert!(Instant::now() < late, "timeout: {} of {events} events", self.heard.len());
            sleep(PAUSE).await;
        }
    }

    fn take(&mut self) -> Json {
        std::mem::take(&mut self.heard).into()
    }

    /// Breaks the link and waits until the session is there for everybody.
    async fn cut(&mut self, mut guest: Guest, redis: &Redis) {
        self.read(&mut guest);
        guest.client.cut();
        drop(guest);
        let (mut connection, late) = (connect(redis).await, Instant::now() + PATIENCE);
        while !is_kept(&mut connection, &self.pid).await {
            assert!(Instant::now() < late, "timeout: the session is not kept");
            sleep(PAUSE).await;
        }
    }
}

async fn connect(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("Redis is there")
}

async fn is_kept(connection: &mut redis::aio::MultiplexedConnection, pid: &str) -> bool {
    let mut command = redis::cmd("EXISTS");
    command.arg(format!("sio:session:{pid}"));
    command.query_async::<u8>(connection).await.expect("Redis answers") == 1
}

fn text(packet: &Sent) -> &str {
    match packet {
        Sent::Text(text) => text,
        Sent::Binary(_) => "",
    }
}

fn is_place(offset: &str) -> bool {
    offset.split('-').all(|number| number.parse::<u64>().is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_at_another_server_with_what_it_missed() {
    let redis = Redis::start();
    let (a, b) = (plain(&redis).await, plain(&redis).await);
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    let socket = a.io().of("/").socket(&memory.sid).expect("it is connected");
    socket.join(["red", "blue"]);
    socket.data().insert("name", "Ann").expect("text");
    // From here, from there, to it alone.
    a.io().emit("one", 1);
    memory.until(&mut guest, 1).await;
    b.io().to("red").emit("two", (2, "x"));
    memory.until(&mut guest, 2).await;
    assert!(socket.emit("three", ()).is_ok());
    memory.until(&mut guest, 3).await;
    assert_eq!(memory.take(), json!([["one", 1], ["two", 2, "x"], ["three"]]));
    assert!(memory.offsets.iter().all(|offset| is_place(offset)), "{:?}", memory.offsets);
    for (back, away) in [(&b, &a), (&a, &b), (&a, &b), (&b, &a)] {
        memory.cut(guest, &redis).await;
        away.io().to("red").emit("missed", 1);
        b.io().to("green").emit("not its room", 2);
        a.io().to("red").except("blue").emit("left out", 3);
        b.io().emit("missed", (json!({"a": ["é"]}), 4));
        away.io().to(memory.sid.clone()).emit("missed", 5);
        // The order between servers is that of the stream; both have it now.
        a.io().to(memory.sid.clone()).emit("end", ());
        let recovered;
        (guest, recovered) = memory.connect(back).await;
        assert!(recovered);
        memory.until(&mut guest, 4).await;
        let mut heard = std::mem::take(&mut memory.heard);
        heard.sort_by_key(ToString::to_string);
        assert_eq!(Json::from(heard), json!([["end"], ["missed", 1], ["missed", 5], ["missed", {"a": ["é"]}, 4]]));
        let socket = back.io().of("/").socket(&memory.sid).expect("it is connected");
        assert!(socket.recovered() && socket.is_in("red") && socket.is_in("blue"));
        assert_eq!(socket.data().get::<String>("name").as_deref(), Some("Ann"));
        // And it goes on.
        away.io().to("blue").emit("live", ());
        memory.until(&mut guest, 1).await;
        assert_eq!(memory.take(), json!([["live"]]));
    }
    assert!(
        memory
            .offsets
            .is_sorted_by_key(|offset| offset.split('-').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>())
    );
    assert!(!is_kept(&mut connect(&redis).await, &memory.pid).await, "it was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_events_and_other_namespaces_are_told_apart() {
    let redis = Redis::start();
    let two = async || {
        let bus = RedisStreamsBus::new(&redis.url()).expect("a URL");
        let builder = SocketIo::builder().adapter(bus).connection_state_recovery(patient());
        let server = testing::serve(builder.namespace(Namespace::new("/")).namespace(Namespace::new("/other")));
        eventually("Redis is there", async || server.io().adapter_health() == Some(socketio::Health::Up)).await;
        server
    };
    let (a, b) = (two().await, two().await);
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    a.io().emit("seen", ());
    memory.until(&mut guest, 1).await;
    memory.cut(guest, &redis).await;
    a.io().of("/other").emit("not here", ());
    a.io().emit("binary", Bytes::from_static(&[0, 255]));
    // The secret of one namespace is of no use in another.
    let thief = b.client().auth(memory.auth()).connect("/other").await.expect("it is let in");
    assert!(!text(&thief.sent()[0]).contains(&memory.pid));
    let (guest, recovered) = memory.connect(&b).await;
    assert!(!recovered, "who asks in the wrong place has used it up");
    memory.cut(guest, &redis).await;
    // What is binary comes whole.
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    a.io().emit("seen", ());
    memory.until(&mut guest, 1).await;
    memory.cut(guest, &redis).await;
    b.io().emit("binary", Bytes::from_static(&[0, 255]));
    let (guest, recovered) = memory.connect(&b).await;
    assert!(recovered);
    eventually("the attachment comes", async || guest.client.sent().len() >= 3).await;
    assert!(text(&guest.client.sent()[1]).starts_with(r#"51-["binary",{"_placeholder":true,"num":0},""#));
    assert_eq!(guest.client.sent()[2], Sent::Binary(Bytes::from_static(&[0, 255])));
}

/// Of four streams, as Node computes it: 3, 2, 3, 1 and -3, which only our servers read.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_share_several_streams_have_a_log_each() {
    const NAMESPACES: [(&str, &str); 5] = [
        ("/", "socket.io-3"),
        ("/a", "socket.io-2"),
        ("/chat", "socket.io-3"),
        ("/late", "socket.io-1"),
        ("/my-namespace", "socket.io--3"),
    ];
    let redis = Redis::start();
    let four = async || {
        let bus = RedisStreamsBus::new(&redis.url()).expect("a URL").stream_count(4);
        let mut builder = SocketIo::builder().adapter(bus).connection_state_recovery(patient());
        for (name, _) in NAMESPACES {
            if name != "/late" {
                builder = builder.namespace(Namespace::new(name));
            }
        }
        let server = testing::serve(builder);
        // The stream of one that comes while the server runs is read, too.
        server.io().add(Namespace::new("/late")).expect("it is new");
        eventually("Redis is there", async || server.io().adapter_health() == Some(socketio::Health::Up)).await;
        server
    };
    let (a, b) = (four().await, four().await);
    let mut connection = connect(&redis).await;
    for (name, stream) in NAMESPACES {
        let mut memory = Memory::default();
        let (mut guest, _) = memory.join(&a, name).await;
        b.io().of(name).emit("there", 1);
        memory.until(&mut guest, 1).await;
        a.io().of(name).emit("here", 2);
        memory.until(&mut guest, 2).await;
        assert_eq!(memory.take(), json!([["there", 1], ["here", 2]]), "{name}");
        memory.cut(guest, &redis).await;
        a.io().of(name).emit("missed", 3);
        // In the same stream, or in another one.
        a.io().of("/chat").emit("elsewhere", 4);
        a.io().of("/a").to("nobody").emit("elsewhere", 5);
        let (mut guest, recovered) = memory.join(&b, name).await;
        assert!(recovered, "{name}");
        b.io().of(name).emit("end", 6);
        memory.until(&mut guest, if name == "/chat" { 3 } else { 2 }).await;
        let mut heard = memory.take();
        heard.as_array_mut().expect("a list").retain(|event| event[0] != "elsewhere");
        assert_eq!(heard, json!([["missed", 3], ["end", 6]]), "{name}");
        let mut ask = redis::cmd("XRANGE");
        ask.arg(stream).arg(memory.offset.expect("it has one")).arg("+").arg("COUNT").arg(1);
        let entry: Vec<(String, Vec<String>)> = ask.query_async(&mut connection).await.expect("Redis answers");
        assert!(entry[0].1.contains(&name.to_owned()), "{name} is in {entry:?}");
    }
    let exists: u8 = redis::cmd("EXISTS").arg("socket.io").query_async(&mut connection).await.expect("Redis answers");
    assert_eq!(exists, 0, "nothing else is written");
}

/// Clients hop between servers while everybody emits: each gets every event once, and all in one order.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_on_the_way_between_servers() {
    const EVENTS: usize = 400;
    let redis = Arc::new(Redis::start());
    let servers = Arc::new([plain(&redis).await, plain(&redis).await, plain(&redis).await]);
    let mut guests = Vec::new();
    for number in 0..6 {
        let mut memory = Memory::default();
        let (guest, _) = memory.connect(&servers[number % 3]).await;
        guests.push((memory, guest, number));
    }
    let emitting = (0..3).map(|server| {
        let servers = Arc::clone(&servers);
        tokio::spawn(async move {
            for number in 0..EVENTS {
                servers[server].io().emit("n", (server, number));
                if number % 20 == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        })
    });
    let emitting: Vec<_> = emitting.collect();
    let hopping = guests.into_iter().map(|(mut memory, mut guest, mut at)| {
        let (servers, redis) = (Arc::clone(&servers), Arc::clone(&redis));
        tokio::spawn(async move {
            let mut hops = 0;
            while memory.heard.len() < 3 * EVENTS {
                let before = memory.heard.len();
                memory.until(&mut guest, (before + 100 + 20 * at).min(3 * EVENTS)).await;
                memory.cut(guest, &redis).await;
                at = (at + 1 + hops % 2) % 3;
                let recovered;
                (guest, recovered) = memory.connect(&servers[at]).await;
                assert!(recovered, "after {} events and {hops} hops", memory.heard.len());
                hops += 1;
            }
            // Nothing comes behind.
            servers[at].io().to(memory.sid.clone()).emit("end", ());
            memory.until(&mut guest, 3 * EVENTS + 1).await;
            println!("{} events in {hops} hops", memory.heard.len());
            memory
        })
    });
    let hopping: Vec<_> = hopping.collect();
    for task in emitting {
        task.await.expect("it emits");
    }
    let mut order: Option<Vec<Json>> = None;
    for task in hopping {
        let mut memory = task.await.expect("it hops");
        assert_eq!(memory.heard.pop(), Some(json!(["end"])));
        let mut next = BTreeMap::new();
        for event in &memory.heard {
            let next = next.entry(event[1].as_u64().expect("a server")).or_insert(0);
            assert_eq!(event[2].as_u64(), Some(*next), "of one server in its order, none twice");
            *next += 1;
        }
        assert_eq!(memory.heard.len(), 3 * EVENTS);
        let order = order.get_or_insert_with(|| memory.heard.clone());
        assert!(*order == memory.heard, "all hear the same order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_server_and_is_had_once() {
    let redis = Redis::start();
    let (a, b) = (plain(&redis).await, plain(&redis).await);
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    b.io().emit("seen", ());
    memory.until(&mut guest, 1).await;
    a.io().close().await;
    drop(guest);
    drop(a);
    b.io().emit("missed", ());
    b.io().close().await;
    drop(b);
    // Other servers, later.
    let (c, d) = (plain(&redis).await, plain(&redis).await);
    assert!(is_kept(&mut connect(&redis).await, &memory.pid).await);
    let (one, other) =
        tokio::join!(c.client().auth(memory.auth()).connect("/"), d.client().auth(memory.auth()).connect("/"),);
    let both = [one.expect("let in"), other.expect("let in")];
    let lucky: Vec<_> = both.iter().filter(|client| client.id() == memory.sid).collect();
    assert_eq!(lucky.len(), 1, "one of two gets it");
    lucky[0].next("missed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_got_an_event_comes_back_too() {
    let redis = Redis::start();
    let (a, b) = (plain(&redis).await, plain(&redis).await);
    let mut memory = Memory::default();
    let (guest, _) = memory.connect(&a).await;
    memory.cut(guest, &redis).await;
    b.io().emit("missed", ());
    let (mut guest, recovered) = memory.connect(&b).await;
    assert!(recovered, "it has no offset and needs none");
    memory.until(&mut guest, 1).await;
    assert_eq!(memory.take(), json!([["missed"]]));
    // What is no offset, or too old to be one, is a new client.
    for (offset, server) in [("x", &a), ("99999999999999-0", &b), ("AAAAAAAAAAAAAA", &a)] {
        memory.cut(guest, &redis).await;
        memory.offset = Some(offset.to_owned());
        let recovered;
        (guest, recovered) = memory.connect(server).await;
        assert!(!recovered, "{offset}");
        memory.offset = None;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_traffic_goes_on_while_redis_hangs() {
    let redis = Redis::start();
    let a = start(&redis, namespace(&Notes::default()), RecoveryOptions::default()).await;
    let b = plain(&redis).await;
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    a.io().emit("n", 0);
    memory.until(&mut guest, 1).await;
    redis.signal("STOP");
    for number in 1..10 {
        a.io().emit("n", number);
    }
    let asked = a.io().of("/").socket(&memory.sid).expect("it is connected").emit_with_ack::<u8>("question", ());
    memory.until(&mut guest, 10).await;
    // A question waits behind what was said before it, and has no offset.
    eventually("the question comes", async || {
        guest.client.sent().last().is_some_and(|packet| text(packet).contains(r#"["question"]"#))
    })
    .await;
    drop(asked);
    assert_eq!(memory.offsets.iter().filter(|offset| is_place(offset)).count(), 1, "{:?}", memory.offsets);
    // On this server it can even come back.
    guest.client.cut();
    drop(guest);
    eventually("the session is kept here", async || a.io().of("/").away() == 1).await;
    a.io().emit("n", 10);
    let mut recovered;
    (guest, recovered) = memory.connect(&a).await;
    assert!(recovered);
    memory.until(&mut guest, 11).await;
    redis.signal("CONT");
    for server in [&a, &b] {
        eventually("Redis is back", async || server.io().adapter_health() == Some(socketio::Health::Up)).await;
    }
    let mut number = 11;
    eventually("events have a place again", async || {
        a.io().emit("n", number);
        number += 1;
        memory.until(&mut guest, number).await;
        is_place(memory.offset.as_deref().expect("there is one"))
    })
    .await;
    memory.cut(guest, &redis).await;
    b.io().emit("n", number);
    number += 1;
    (guest, recovered) = memory.connect(&b).await;
    assert!(recovered);
    memory.until(&mut guest, number).await;
    let heard: Vec<_> = memory.heard.iter().map(|event| event[1].as_i64().expect("a number")).collect();
    assert_eq!(heard, (0..i64::try_from(number).expect("small")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_sessions_learns_where_they_ended() {
    let redis = Redis::start();
    let mut options = patient();
    options.max_disconnection_duration = Duration::from_secs(3);
    let notes = Notes::default();
    let a = start(&redis, namespace(&notes), options.clone()).await;
    let b = start(&redis, namespace(&Notes::default()), options).await;
    let (mut moved, mut lost) = (Memory::default(), Memory::default());
    let ((mut one, _), (other, _)) = (moved.connect(&a).await, lost.connect(&a).await);
    a.io().emit("seen", ());
    moved.until(&mut one, 1).await;
    moved.cut(one, &redis).await;
    let (_guest, recovered) = moved.connect(&b).await;
    assert!(recovered);
    lost.cut(other, &redis).await;
    eventually("both have ended", async || notes.lock().unwrap().len() == 4).await;
    let mut ends = notes.lock().unwrap()[2..].to_vec();
    ends.sort();
    assert_eq!(ends, ["Elsewhere", "Expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn middleware_runs_again_where_its_work_is_not_known() {
    struct Name(String);
    let redis = Redis::start();
    let guarded = |notes: &Notes| {
        let notes = Arc::clone(notes);
        namespace(&Notes::default()).use_(move |socket: Socket| {
            notes.lock().unwrap().push(format!("asked {}", socket.recovered()));
            socket.extensions().insert(Name("Ann".to_owned()));
            async { Ok::<_, ConnectError>(()) }
        })
    };
    let notes = Notes::default();
    let a = start(&redis, guarded(&notes), patient()).await;
    let b = start(&redis, guarded(&notes), patient()).await;
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    a.io().emit("seen", ());
    memory.until(&mut guest, 1).await;
    let mut want = vec!["asked false"];
    for (server, asked) in [(&a, false), (&b, true), (&b, false), (&a, true)] {
        memory.cut(guest, &redis).await;
        let recovered;
        (guest, recovered) = memory.connect(server).await;
        assert!(recovered);
        let socket = server.io().of("/").socket(&memory.sid).expect("it is connected");
        assert_eq!(socket.extensions().get::<Name>().expect("it is known").0, "Ann");
        want.extend(asked.then_some("asked true"));
        assert_eq!(*notes.lock().unwrap(), want);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_denied_there_are_left_out() {
    let redis = Redis::start();
    let a = plain(&redis).await;
    let strict = namespace(&Notes::default())
        .policy(|_: &socketio::Who<'_>, action: &Action<'_>| !matches!(action, Action::Join { room: "secret" }));
    let b = start(&redis, strict, patient()).await;
    let mut memory = Memory::default();
    let (mut guest, _) = memory.connect(&a).await;
    a.io().of("/").socket(&memory.sid).expect("it is connected").join(["secret", "public"]);
    a.io().emit("seen", ());
    memory.until(&mut guest, 1).await;
    memory.cut(guest, &redis).await;
    a.io().to("secret").emit("for members", ());
    a.io().to("public").emit("for all", ());
    let mut events = b.io().security_events();
    let (mut guest, recovered) = memory.connect(&b).await;
    assert!(recovered);
    memory.until(&mut guest, 2).await;
    assert_eq!(memory.take(), json!([["seen"], ["for all"]]));
    let socket = b.io().of("/").socket(&memory.sid).expect("it is connected");
    assert!(!socket.is_in("secret") && socket.is_in("public"));
    let event = events.try_next().expect("it was reported");
    assert_eq!((event.kind, event.subject.as_deref()), (SecurityKind::PolicyDenied, Some("secret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_goodbye_comes_before_it() {
    let redis = Redis::start();
    let a = plain(&redis).await;
    for _ in 0..20 {
        let client = a.connect("/").await;
        let socket = a.io().of("/").socket(&client.id()).expect("it is connected");
        assert!(socket.emit("bye", 1).is_ok());
        a.io().emit("all", 2);
        socket.disconnect(false);
        client.disconnected().await;
        let sent: Vec<_> = client.sent().iter().skip(1).map(|packet| text(packet).to_owned()).collect();
        let [bye, all, end] = &sent[..] else { panic!("{sent:?}") };
        assert!(bye.starts_with(r#"2["bye",1"#) && all.starts_with(r#"2["all",2"#) && end == "1", "{sent:?}");
    }
}
