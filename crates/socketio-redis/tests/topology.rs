//! Redis that is more than one server, or behind TLS: a cluster whose slots move and whose masters die, sentinels, certificates.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use socketio::testing::{self, TestClient, TestServer};
use socketio::{Bus, Health, Namespace, Socket, SocketIo};
use socketio_redis::{RedisBus, RedisStreamsBus};
use socketio_testkit::contract::Broker;
use socketio_testkit::{eventually, within};
use support::Redis;
use support::many::{Cluster, Folder, Guarded, ask};

const PATIENCE: Duration = Duration::from_secs(90);
const BOUND: Duration = Duration::from_secs(240);

/// Two servers that know each other, with a client in the room `lobby` on each.
struct Pair {
    servers: [TestServer; 2],
    clients: [TestClient; 2],
}

fn server(bus: impl Bus) -> TestServer {
    let root = Namespace::new("/").on_connect(async |socket: Socket| {
        socket.join("lobby").await.expect("there is room");
    });
    testing::serve(SocketIo::builder().adapter(bus).namespace(root).build().expect("it fits together"))
}

async fn known(server: &TestServer, count: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let known = server.io().of("/").server_count().await;
        if known == Ok(count) {
            return;
        }
        assert!(Instant::now() < until, "{known:?} servers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Pair {
    async fn on<B: Bus>(bus: impl Fn() -> B) -> Self {
        let servers = [server(bus()), server(bus())];
        for server in &servers {
            known(server, 2).await;
        }
        let clients = [servers[0].connect("/").await, servers[1].connect("/").await];
        for server in &servers {
            assert!(eventually(PATIENCE, || server.io().of("/").room_size("lobby") == 1).await);
        }
        Self { servers, clients }
    }

    fn io(&self, no: usize) -> &SocketIo {
        self.servers[no].io()
    }

    /// What each server sends reaches the client of the other, to everybody and to a room: again, after some time.
    async fn resumes(&self, word: &str) -> Duration {
        let begin = Instant::now();
        for no in 0..2 {
            let client = &self.clients[1 - no];
            for to_room in [false, true] {
                let name = format!("{word}-{to_room}");
                let arrives = || {
                    let group = if to_room { self.io(no).to("lobby") } else { self.io(no).broadcast() };
                    let _ = group.emit(&name, no);
                    client.waiting().contains(&name)
                };
                assert!(eventually(PATIENCE, arrives).await, "{name} arrives from server {no}");
                while client.waiting().contains(&name) {
                    client.next(&name).await;
                }
            }
        }
        begin.elapsed()
    }

    /// Everything is as before, questions too.
    async fn all_is_well(&self) {
        for server in &self.servers {
            known(server, 2).await;
            let until = Instant::now() + PATIENCE;
            while server.io().broadcast().fetch().await.sockets.len() != 2 {
                assert!(Instant::now() < until, "the sockets of both servers are found");
            }
        }
    }

    async fn health(&self, health: Health) {
        for server in &self.servers {
            let is_so = || server.io().adapter_health() == Some(health);
            assert!(eventually(PATIENCE, is_so).await, "it becomes {health:?}");
        }
    }
}

fn sharded(cluster: &Cluster) -> RedisBus {
    let urls = cluster.urls();
    // One of those that are named is not there.
    RedisBus::sharded("redis://127.0.0.1:1/").and_then(|bus| bus.cluster(&[&urls[0], &urls[1]])).expect("URLs")
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_shards_follow_their_slots_and_a_failover() {
    within(BOUND, async {
        let mut cluster = Cluster::start().await;
        let pair = Pair::on(|| sharded(&cluster)).await;
        pair.resumes("before").await;
        // Rooms in all shards.
        let rooms: Vec<String> = (0..12).map(|no| format!("room-{no}")).collect();
        let mut masters = std::collections::BTreeSet::new();
        for room in &rooms {
            masters.insert(cluster.master(&format!("socket.io#/#{room}#")).await);
            pair.io(1).of("/").sockets_join(room.as_str()).await.expect("there is room");
            pair.io(0).to(room.as_str()).emit("hi", room);
            assert_eq!(pair.clients[1].next("hi").await.args::<String>(), *room);
        }
        assert_eq!(masters.len(), 3, "another room would be needed");

        for channel in ["socket.io#/#", "socket.io#/#lobby#"] {
            cluster.migrate(channel).await;
        }
        println!("resumed {:?} after slots were moved", pair.resumes("moved").await);
        pair.all_is_well().await;

        let master = cluster.master("socket.io#/#room-0#").await;
        cluster.replicate(master).await;
        cluster.nodes[master].kill();
        pair.health(Health::Down).await;
        pair.health(Health::Up).await;
        println!("resumed {:?} after the failover", pair.resumes("after").await);
        let begin = Instant::now();
        for room in &rooms {
            let arrives = || {
                pair.io(0).to(room.as_str()).emit(room, ());
                pair.clients[1].waiting().contains(room)
            };
            assert!(eventually(PATIENCE, arrives).await, "{room} is heard again");
        }
        println!("all rooms {:?} after that", begin.elapsed());
        pair.all_is_well().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_written_and_read_where_its_slot_is() {
    within(BOUND, async {
        let mut cluster = Cluster::start().await;
        let master = cluster.master("socket.io").await;
        cluster.replicate(master).await;
        let urls = cluster.urls();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let bus = || RedisStreamsBus::new(urls[0]).and_then(|bus| bus.cluster(&urls[1..])).expect("URLs");
        let pair = Pair::on(bus).await;
        pair.resumes("before").await;
        pair.all_is_well().await;
        cluster.nodes[master].kill();
        println!("resumed {:?} after the failover", pair.resumes("after").await);
        pair.all_is_well().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_streams_are_on_several_nodes() {
    const STREAMS: [(&str, &str); 4] =
        [("/", "socket.io-3"), ("/a", "socket.io-2"), ("/b", "socket.io-1"), ("/my-namespace", "socket.io--3")];
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let urls = cluster.urls();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let bus = || {
            let bus = RedisStreamsBus::new(urls[0]).and_then(|bus| bus.cluster(&urls[1..]));
            bus.expect("URLs").stream_count(4)
        };
        let mut masters = std::collections::BTreeSet::new();
        let [a, b] = [(), ()].map(|()| {
            let mut builder = SocketIo::builder().adapter(bus());
            for (name, _) in STREAMS {
                builder = builder.namespace(Namespace::new(name));
            }
            testing::serve(builder.build().expect("it fits together"))
        });
        for server in [&a, &b] {
            assert!(eventually(PATIENCE, || server.io().adapter_health() == Some(Health::Up)).await);
        }
        let emitter = bus().emitter();
        for (name, stream) in STREAMS {
            masters.insert(cluster.master(stream).await);
            let client = b.connect(name).await;
            a.io().of(name).emit("hi", stream);
            assert_eq!(client.next("hi").await.args::<String>(), stream);
            emitter.of(name).emit("outside", stream).await.expect("the node of the stream takes it");
            assert_eq!(client.next("outside").await.args::<String>(), stream);
        }
        assert!(masters.len() > 1, "another name would be needed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classic_protocol_counts_the_listeners_of_all_nodes() {
    within(BOUND, async {
        let mut cluster = Cluster::start().await;
        let urls = cluster.urls();
        // Each server on any node: of three, two are on different ones.
        let bus = || RedisBus::classic(&urls[0]).and_then(|bus| bus.cluster(&[&urls[1], &urls[2]])).expect("URLs");
        let pair = Pair::on(bus).await;
        let more: Vec<TestServer> = (0..4).map(|_| server(bus())).collect();
        for server in pair.servers.iter().chain(&more) {
            known(server, 6).await;
        }
        drop(more);
        pair.all_is_well().await;
        pair.resumes("before").await;
        cluster.replicate(0).await;
        cluster.nodes[0].kill();
        println!("resumed {:?} after the failover", pair.resumes("after").await);
        pair.all_is_well().await;
    })
    .await;
}

/// Some clauses of the contract with three masters.
mod sharded_over_three {
    use super::*;

    struct Three(Cluster);

    impl Broker for Three {
        type Bus = RedisBus;

        fn bus(&self) -> RedisBus {
            sharded(&self.0)
        }

        async fn junk(&self, namespace: &str, bytes: &[u8]) {
            let channel = format!("socket.io#{namespace}#");
            let node = &self.0.nodes[self.0.master(&channel).await];
            let mut connection = redis::Client::open(node.url())
                .expect("a URL")
                .get_multiplexed_async_connection()
                .await
                .expect("it is there");
            redis::cmd("SPUBLISH").arg(channel).arg(bytes).exec_async(&mut connection).await.expect("it takes it");
        }
    }

    async fn broker() -> Three {
        Three(Cluster::start().await)
    }

    socketio_testkit::adapter_contract! { broker =>
        rooms_and_exceptions_hold_on_every_server
        answers_of_all_servers_come_together
        rooms_are_heard_from_join_to_leave
        a_server_that_closes_is_not_waited_for
    }
}

async fn after_a_failover<B: Bus>(bus: impl Fn(&Guarded) -> B) {
    let mut guarded = Guarded::start().await;
    let pair = Pair::on(|| bus(&guarded)).await;
    pair.resumes("before").await;
    guarded.master.kill();
    pair.health(Health::Down).await;
    println!("resumed {:?} after the master was killed", pair.resumes("after").await);
    pair.all_is_well().await;
    let role: Vec<redis::Value> = ask(&guarded.replica.url(), &["ROLE"]).await.expect("it is there");
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_say_who_the_new_master_is() {
    within(BOUND, async {
        after_a_failover(|guarded| {
            let sentinel = guarded.sentinel.url();
            let bus = RedisBus::classic("redis://localhost/").expect("a URL");
            bus.sentinels(&["redis://127.0.0.1:1/", &sentinel], "chat").expect("URLs")
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_say_where_the_stream_is() {
    within(BOUND, async {
        after_a_failover(|guarded| {
            let bus = RedisStreamsBus::new("redis://localhost/").expect("a URL");
            bus.sentinels(&[&guarded.sentinel.url()], "chat").expect("URLs")
        })
        .await;
    })
    .await;
}

/// An authority, and what it has issued for Redis and for clients.
struct Certificates {
    root: String,
    server: (String, String),
    client: (String, String),
}

fn certificates(name: &str) -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let issue = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        // A subject of the same name as the issuer's would look as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
    };
    Certificates { root: issuer.pem(), server: issue(name), client: issue("client") }
}

fn behind_tls(folder: &Folder, own: &Certificates, clients: &str) -> Redis {
    let files = [
        folder.file("root.pem", &own.root),
        folder.file("server.pem", &own.server.0),
        folder.file("server.key", &own.server.1),
    ];
    Redis::start_with(|port| {
        let port = port.to_string();
        let words = ["--port", "0", "--tls-port", &port, "--tls-ca-cert-file", &files[0], "--tls-cert-file", &files[1]];
        let more = ["--tls-key-file", &files[2], "--tls-auth-clients", clients];
        (words.into_iter().chain(more).map(str::to_owned).collect(), 0)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_tls_is_trusted_for_its_certificate_only() {
    within(BOUND, async {
        let folder = Folder::new();
        let own = certificates("localhost");
        let redis = behind_tls(&folder, &own, "no");
        let url = format!("rediss://localhost:{}/", redis.port);
        let trusting = || RedisBus::classic(&url).and_then(|bus| bus.root_certificates(own.root.as_bytes()));
        let pair = Pair::on(|| trusting().expect("a certificate")).await;
        pair.resumes("encrypted").await;
        pair.all_is_well().await;
        let stream = || RedisStreamsBus::new(&url).and_then(|bus| bus.root_certificates(own.root.as_bytes()));
        Pair::on(|| stream().expect("a certificate").prefix("other")).await.resumes("stream").await;

        // An authority that nobody knows, another one, another name, and no TLS: none of them is connected. That a bus
        // which is comes up takes less time is shown by one that is made last.
        let other = certificates("localhost");
        let by_address = format!("rediss://127.0.0.1:{}/", redis.port);
        let refused = [
            RedisBus::classic(&url).expect("a URL"),
            RedisBus::classic(&url)
                .and_then(|bus| bus.root_certificates(other.root.as_bytes()))
                .expect("a certificate"),
            RedisBus::classic(&by_address).and_then(|bus| bus.root_certificates(own.root.as_bytes())).expect("it can"),
            RedisBus::classic(&format!("redis://localhost:{}/", redis.port)).expect("a URL"),
        ];
        let refused = refused.map(server);
        let last = server(trusting().expect("a certificate"));
        known(&last, 3).await;
        for server in &refused {
            assert_eq!(server.io().adapter_health(), Some(Health::Down));
        }
        assert!(
            RedisBus::classic("redis://localhost/").and_then(|bus| bus.root_certificates(own.root.as_bytes())).is_err()
        );
        assert!(
            RedisBus::classic(&url).and_then(|bus| bus.root_certificates(b"-----BEGIN CERTIFICATE-----\nx")).is_err()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_to_a_redis_that_wants_one() {
    within(BOUND, async {
        let folder = Folder::new();
        let own = certificates("localhost");
        let redis = behind_tls(&folder, &own, "yes");
        let url = format!("rediss://localhost:{}/", redis.port);
        let anonymous = || RedisBus::classic(&url).and_then(|bus| bus.root_certificates(own.root.as_bytes()));
        let named = || {
            let (chain, key) = &own.client;
            anonymous().and_then(|bus| bus.client_certificate(chain.as_bytes(), key.as_bytes())).expect("a certificate")
        };
        let refused = server(anonymous().expect("a certificate"));
        let pair = Pair::on(named).await;
        pair.resumes("encrypted").await;
        assert_eq!(refused.io().adapter_health(), Some(Health::Down));
    })
    .await;
}
