//! What happens when Redis is killed, comes back, hangs, or is full of junk: local traffic goes on, traffic between servers
//! resumes by itself, and what does not fit into the buffer reaches the emitter as an error.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use std::time::{Duration, Instant};

use socketio::testing::{self, TestClient, TestServer};
use socketio::{BusError, EmitError, Health, Namespace, Socket, SocketIo};
use socketio_redis::{RedisBus, SubscriptionMode};
use socketio_testkit::contract::Broker;
use socketio_testkit::{Proxy, Upstream, eventually, within};
use support::RedisBroker;

const PATIENCE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(170);

/// Two servers that know each other, each with so many clients in the room `lobby`.
struct Pair {
    servers: [TestServer; 2],
    clients: [Vec<TestClient>; 2],
}

impl Pair {
    async fn on(broker: &RedisBroker, clients: usize) -> Self {
        Self::with(broker, clients, |bus| bus).await
    }

    async fn with(broker: &RedisBroker, clients: usize, change: impl Fn(RedisBus) -> RedisBus) -> Self {
        let server = || {
            let root = Namespace::new("/")
                .on_connect(async |socket: Socket| {
                    socket.join("lobby").await.expect("there is room");
                })
                .on_server_event("here", async || true);
            let builder = SocketIo::builder().adapter(change(broker.bus())).namespace(root);
            testing::serve(builder.build().expect("it fits together"))
        };
        let servers = [server(), server()];
        for server in &servers {
            known(server, 2).await;
        }
        let mut pair = Self { servers, clients: [Vec::new(), Vec::new()] };
        for no in 0..2 {
            for _ in 0..clients {
                pair.clients[no].push(pair.servers[no].connect("/").await);
            }
        }
        for server in &pair.servers {
            assert!(eventually(PATIENCE, || server.io().of("/").room_size("lobby") == clients).await);
            // Channels of rooms are in place.
            server.io().of("/").sockets_join("lobby").await.expect("they are in it already");
        }
        pair
    }

    fn io(&self, no: usize) -> &SocketIo {
        self.servers[no].io()
    }

    /// Both have noticed.
    async fn health(&self, health: Health) {
        for server in &self.servers {
            let is_so = || server.io().adapter_health() == Some(health);
            assert!(eventually(PATIENCE, is_so).await, "it becomes {health:?}");
        }
    }

    /// How long it takes from now until what each server sends reaches the clients of the other.
    async fn resumes(&self, word: &str) -> Duration {
        let begin = Instant::now();
        for no in 0..2 {
            let client = &self.clients[1 - no][0];
            let arrives = || {
                let _ = self.io(no).to("lobby").emit(word, no);
                client.waiting().iter().any(|name| name == word)
            };
            assert!(eventually(PATIENCE, arrives).await, "{word} arrives from server {no}");
        }
        begin.elapsed()
    }
}

async fn known(server: &TestServer, count: usize) {
    let until = Instant::now() + PATIENCE;
    while server.io().of("/").server_count().await != Ok(count) {
        assert!(Instant::now() < until, "the servers do not find each other");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every client of the server gets this event from its own server, whatever the broker does.
async fn local_goes_on(pair: &Pair, no: usize, word: &str) -> Duration {
    let begin = Instant::now();
    let sent = pair.io(no).to("lobby").emit(word, ());
    assert_eq!((sent.recipients(), sent.refused()), (pair.clients[no].len(), 0));
    for client in &pair.clients[no] {
        client.next(word).await;
    }
    begin.elapsed()
}

async fn a_kill_and_a_restart(sharded: bool) {
    let mut broker = RedisBroker::start(sharded, SubscriptionMode::Dynamic);
    let pair = Pair::on(&broker, 500).await;
    pair.resumes("before").await;
    broker.redis.kill();
    pair.health(Health::Down).await;
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        for no in 0..2 {
            slowest = slowest.max(local_goes_on(&pair, no, &format!("local-{round}-{no}")).await);
        }
    }
    // What is asked meanwhile ends, with what is known here.
    let fetched = pair.io(0).broadcast().timeout(Duration::from_secs(1)).fetch().await;
    assert_eq!((fetched.sockets.len(), fetched.missing), (500, 1));
    let answers = pair.io(1).of("/").server_side_emit_with_ack_within::<bool>(Duration::from_secs(1), "here", ()).await;
    assert_eq!(answers.map(|answers| (answers.answers.len(), answers.missing)), Ok((0, 1)));
    broker.redis.restart();
    let resumed = pair.resumes("after").await;
    println!(
        "sharded: {sharded}; 1,000 clients: slowest local broadcast {slowest:?}; resumed {resumed:?} after the restart"
    );
    known(&pair.servers[0], 2).await;
    assert_eq!(pair.io(0).broadcast().fetch().await.sockets.len(), 1_000);
    assert!(pair.io(0).stats().cluster_outages >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_survives_a_kill_and_a_restart() {
    within(BOUND, a_kill_and_a_restart(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_survives_a_kill_and_a_restart() {
    within(BOUND, a_kill_and_a_restart(true)).await;
}

async fn a_broker_that_hangs(sharded: bool) {
    let broker = RedisBroker::start(sharded, SubscriptionMode::Dynamic);
    let pair = Pair::on(&broker, 20).await;
    pair.resumes("before").await;
    broker.redis.signal("STOP");
    // Nobody says anything, and it is noticed all the same.
    pair.health(Health::Down).await;
    for no in 0..2 {
        local_goes_on(&pair, no, "local").await;
    }
    let fetched = pair.io(0).broadcast().timeout(Duration::from_secs(1)).fetch().await;
    assert_eq!((fetched.sockets.len(), fetched.missing), (20, 1));
    broker.redis.signal("CONT");
    let begin = Instant::now();
    pair.health(Health::Up).await;
    let resumed = begin.elapsed() + pair.resumes("after").await;
    println!("sharded: {sharded}; traffic between servers resumed {resumed:?} after the broker went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_survives_a_broker_that_hangs() {
    within(BOUND, a_broker_that_hangs(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_survives_a_broker_that_hangs() {
    within(BOUND, a_broker_that_hangs(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_buffer_reaches_the_emitter_as_an_error() {
    within(BOUND, async {
        let mut broker = RedisBroker::start(false, SubscriptionMode::Dynamic);
        let pair = Pair::with(&broker, 1, |bus| bus.buffer_bytes(10_000).regather(Duration::from_secs(8))).await;
        broker.redis.kill();
        pair.health(Health::Down).await;
        let text = "x".repeat(1_000);
        let mut kept = 0;
        let refused = loop {
            let sent = pair.io(0).emit("n", (kept, &text));
            // Here it has arrived either way.
            assert_eq!(sent.recipients(), 1);
            match sent.error() {
                None => kept += 1,
                Some(error) => break error.clone(),
            }
        };
        assert!(matches!(refused, EmitError::Cluster(BusError::Full { bytes }) if bytes <= 10_000), "{refused}");
        assert!((5..10).contains(&kept), "{kept} fit");
        assert_eq!(pair.io(0).stats().cluster_refused, 1);
        broker.redis.restart();
        // What fitted arrives in order, and nothing else.
        pair.health(Health::Up).await;
        // The buffer is full until Redis has taken what is in it.
        assert!(eventually(PATIENCE, || pair.io(0).emit("end", ()).is_ok()).await);
        let other = &pair.clients[1][0];
        other.next("end").await;
        for n in 0..kept {
            assert_eq!(other.next("n").await.args::<(usize, String)>().0, n);
        }
        assert!(other.waiting().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_killed_are_made_again() {
    within(BOUND, async {
        let broker = RedisBroker::start(false, SubscriptionMode::Static);
        let pair = Pair::on(&broker, 1).await;
        for round in 0..5 {
            let outages = || (0..2).map(|no| pair.io(no).stats().cluster_outages).sum::<u64>();
            let before = outages();
            broker.command(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await;
            assert!(eventually(PATIENCE, || outages() == before + 2).await, "both notice it");
            pair.health(Health::Up).await;
            pair.resumes(&format!("round-{round}")).await;
        }
    })
    .await;
}

/// A server that the network cuts off leaves a connection behind that Redis takes for alive. It ends that, and no other one.
async fn who_was_cut_off_is_counted_once(sharded: bool) {
    let mut broker = RedisBroker::start(sharded, SubscriptionMode::Dynamic);
    let upstream = Upstream::Tcp(([127, 0, 0, 1], broker.redis.port).into());
    let proxy = Proxy::start(upstream).await.expect("a free port");
    let url = format!("redis://{}/", proxy.address());
    let bus = if sharded { RedisBus::sharded(&url) } else { RedisBus::classic(&url) }.expect("a URL");
    let root = Namespace::new("/");
    let server = testing::serve(SocketIo::builder().adapter(bus).namespace(root).build().expect("it fits together"));
    let is = |health| {
        let io = server.io();
        eventually(PATIENCE, move || io.adapter_health() == Some(health))
    };
    known(&server, 1).await;
    let mut others = Vec::new();
    for restarted in [false, false, true] {
        proxy.partition();
        assert!(is(Health::Down).await);
        if restarted {
            broker.redis.restart();
            // One of them has the number that the connection before had.
            for _ in 0..100 {
                others.push(broker.connection().await);
            }
        }
        proxy.heal();
        assert!(is(Health::Up).await);
        known(&server, 1).await;
    }
    for other in &mut others {
        redis::cmd("PING").exec_async(other).await.expect("it is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_from_classic_is_counted_once() {
    within(BOUND, who_was_cut_off_is_counted_once(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_from_sharded_is_counted_once() {
    within(BOUND, who_was_cut_off_is_counted_once(true)).await;
}

/// Hostile messages on the channels of classic and sharded, none of which kills or blocks anybody.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_kill_and_block_nobody() {
    within(BOUND, async {
        for sharded in [false, true] {
            let broker = RedisBroker::start(sharded, SubscriptionMode::Static);
            let pair = Pair::on(&broker, 1).await;
            let deep = format!(
                r#"{{"type":3,"uid":"x","nsp":"/","data":{{"packet":{{"type":2,"data":["deep",{}{}]}},"opts":{{"rooms":[],"except":[]}}}}}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            );
            let large = vec![b' '; (16 << 20) + 1];
            let rooms = format!(
                r#"{{"type":4,"uid":"x","nsp":"/","data":{{"opts":{{"rooms":[],"except":[]}},"rooms":[{}"x"]}}}}"#,
                r#""x","#.repeat(20_000)
            );
            let rows: &[(&str, &[u8])] = &[
                ("C01", b"\x81"),
                ("C01", b"\xc0"),
                ("C01", b"\x92\xa1x\x81\xa3nsp\xa1/"),
                ("C02", b"\xc0"),
                ("C03", br#"{"type":5,"requestId":"1"}"#),
                ("C03", br#"{"type":7,"requestId":"1"}"#),
                ("C03", br#"{"type":6,"requestId":"1"}"#),
                ("C04", b"\xdf\xff\xff\xff\xff"),
                ("C05", b"{"),
                ("C05", br#"{"requestId":"nobody-asked","sockets":[{}]}"#),
                ("C05", br#"{"type":10,"uid":"x","nsp":"/","data":{"packet":1}}"#),
                ("C06", br#"{"type":1,"uid":7,"nsp":"/"}"#),
                ("C08", br#"{"type":3,"uid":"x","nsp":"/*","data":{}}"#),
                ("C09", deep.as_bytes()),
                ("C09", &large),
                ("C09", rooms.as_bytes()),
            ];
            for (row, bytes) in rows {
                let before = [0, 1].map(|no| pair.io(no).stats().cluster_foreign);
                broker.junk("/", bytes).await;
                for (no, before) in before.into_iter().enumerate() {
                    let counted = || pair.io(no).stats().cluster_foreign > before;
                    assert!(eventually(PATIENCE, counted).await, "{row} is counted by server {no}, sharded: {sharded}");
                }
            }
            pair.resumes("still").await;
            let answers = pair.io(0).server_side_emit_with_ack::<bool>("here", ()).await.expect("it was sent");
            assert_eq!((answers.answers, answers.missing), (vec![true], 0));
            assert!(pair.clients.iter().flatten().all(TestClient::connected));
            assert_eq!([0, 1].map(|no| pair.io(no).stats().cluster_outages), [0, 0]);
        }
    })
    .await;
}

/// C08: a namespace whose name looks like a pattern hears its own messages and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_looks_like_a_pattern_is_a_name() {
    within(BOUND, async {
        let broker = RedisBroker::start(false, SubscriptionMode::Static);
        let names = ["/a*", "/ab", "/[ab]", "/a", "/a?", r"/a\"];
        let server = || {
            let namespaces = names.map(Namespace::new);
            let builder = namespaces
                .into_iter()
                .fold(SocketIo::builder().adapter(broker.bus()), |builder, namespace| builder.namespace(namespace));
            testing::serve(builder.build().expect("the names are names"))
        };
        let servers = [server(), server()];
        for name in names {
            for server in &servers {
                let until = Instant::now() + PATIENCE;
                while server.io().of(name).server_count().await != Ok(2) {
                    assert!(Instant::now() < until, "the servers do not find each other in {name}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        let mut clients = Vec::new();
        for name in names {
            clients.push(servers[1].connect(name).await);
        }
        for name in names {
            assert!(servers[0].io().of(name).to("nowhere").emit("never", ()).is_ok());
            assert!(servers[0].io().of(name).emit("to", name).is_ok());
        }
        for (name, client) in names.iter().zip(&clients) {
            assert_eq!(client.next("to").await.args::<String>(), *name);
            assert!(client.waiting().is_empty(), "{name}");
        }
        assert_eq!(servers[1].io().stats().cluster_foreign, 0);
    })
    .await;
}
