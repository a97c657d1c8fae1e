//! The contract of every adapter: one set of tests, for any broker.
//!
//! A backend implements [`Broker`] and writes `adapter_contract!(its_broker);` in a test file: each clause becomes a test
//! with three servers on a broker of its own, and clients in memory on each. What a client must *not* get is checked by a
//! last event that everybody gets behind it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use socketio::testing::{self, TestClient, TestServer};
use socketio::{AckError, Bus, Bytes, Data, Health, Namespace, NamespaceHandle, RoomName, Socket, SocketIo, State};

use crate::{Endpoint, Http, Message, WebSocket, eventually};

/// A broker that the tests start.
pub trait Broker: Send + Sync {
    /// What it gives a server.
    type Bus: Bus;

    /// A bus for one more server.
    fn bus(&self) -> Self::Bus;

    /// Publishes bytes that are no message, wherever the servers listen for messages of a namespace.
    fn junk(&self, namespace: &str, bytes: &[u8]) -> impl Future<Output = ()> + Send;
}

/// How long anything may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three servers that know each other.
pub struct Nodes {
    servers: Vec<TestServer>,
}

impl Nodes {
    /// Three servers on this broker.
    pub async fn on<B: Broker>(broker: &B) -> Self {
        let servers = (0..3).map(|no| testing::serve(server(no, broker.bus()))).collect();
        let nodes = Self { servers };
        nodes.know(3).await;
        nodes
    }

    /// Waits until every server counts so many.
    pub async fn know(&self, count: usize) {
        for namespace in ["/", "/other"] {
            for server in &self.servers {
                let until = tokio::time::Instant::now() + PATIENCE;
                loop {
                    let known = server.io().of(namespace).server_count().await;
                    if known == Ok(count) && server.io().adapter_health() == Some(Health::Up) {
                        break;
                    }
                    assert!(tokio::time::Instant::now() < until, "{known:?} servers instead of {count} in {namespace}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    fn io(&self, no: usize) -> &SocketIo {
        self.servers[no].io()
    }

    async fn client(&self, no: usize) -> TestClient {
        self.servers[no].connect("/").await
    }

    /// A client on each server.
    async fn clients(&self) -> [TestClient; 3] {
        [self.client(0).await, self.client(1).await, self.client(2).await]
    }

    /// The server's side of a client.
    fn socket(&self, client: &TestClient) -> Socket {
        let id = client.id();
        self.servers.iter().find_map(|server| server.io().of("/").socket(&id)).expect("the client is connected")
    }

    async fn join(&self, client: &TestClient, rooms: &[&str]) {
        self.socket(client).join(rooms.to_vec()).await.expect("there is room");
    }

    /// Everything that each client has got, after a last event from one server to all of them.
    async fn heard<const N: usize>(&self, from: usize, clients: [&TestClient; N]) -> [String; N] {
        let end = self.io(from).of("/").broadcast();
        assert!(end.emit("end", ()).is_ok());
        let mut all = [const { String::new() }; N];
        for (client, heard) in clients.iter().zip(&mut all) {
            client.next("end").await;
            *heard = taken(client).await.join(" ");
        }
        all
    }
}

async fn taken(client: &TestClient) -> Vec<String> {
    let mut taken = Vec::new();
    for name in client.waiting() {
        let event = client.next(&name).await;
        let args: Option<Value> = event.args();
        taken.push(match args {
            Some(args) => format!("{name}:{args}"),
            None => name,
        });
    }
    taken
}

fn server(no: usize, bus: impl Bus) -> SocketIo {
    let root = Namespace::new("/")
        .state(no)
        .on_connect(async |socket: Socket, State(no): State<usize>| {
            // Everything that travels is there.
            socket.data().insert("server", no).expect("a number");
        })
        .on_server_event("number", async |State(no): State<usize>| no)
        .on_server_event("relay", async |namespace: NamespaceHandle, Data(text): Data<Value>| {
            namespace.broadcast().local().emit("relayed", text);
        })
        .on_server_event("silent", async |State(no): State<usize>| {
            if no == 2 {
                std::future::pending::<()>().await;
            }
            no
        });
    let builder = SocketIo::builder().namespace(root).namespace(Namespace::new("/other"));
    builder.adapter(bus).ack_timeout(PATIENCE).build().expect("the options make sense")
}

/// One clause of the contract, as a function that the macro calls.
pub mod clauses {
    use super::*;

    /// A broadcast reaches everybody on every server, once.
    pub async fn a_broadcast_reaches_everybody_once(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        let elsewhere = nodes.servers[1].connect("/other").await;
        for no in 0..3 {
            assert!(nodes.io(no).emit("hi", no).is_ok());
            assert!(nodes.io(no).of("/other").emit("there", no).is_ok());
            assert_eq!(nodes.heard(no, [&a, &b, &c]).await, [const { "hi:" }; 3].map(|hi| format!("{hi}{no}")));
            assert_eq!(elsewhere.next("there").await.args::<usize>(), no);
        }
        assert!(taken(&elsewhere).await.is_empty());
    }

    /// Rooms of all servers are united, exceptions hold everywhere, and nobody gets anything twice.
    pub async fn rooms_and_exceptions_hold_on_every_server(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        nodes.join(&a, &["red"]).await;
        nodes.join(&b, &["red", "blue"]).await;
        nodes.join(&c, &["blue"]).await;
        let io = nodes.io(0);
        io.to("red").emit("red", ());
        io.to("blue").emit("blue", ());
        io.to(["red", "blue"]).emit("both", ());
        io.to("red").except("blue").emit("only-red", ());
        io.except("red").emit("not-red", ());
        io.to(["red", "blue"]).except(["red", "blue"]).emit("nobody", ());
        io.to("nobody").emit("nobody", ());
        io.to(c.id()).emit("you", ());
        io.except(c.id()).emit("not-you", ());
        // Channels of rooms and of everybody are not ordered against each other, and may be on brokers of their own: what
        // came over the channel of a room is there when the end of that room is.
        io.to("red").emit("end-red", ());
        io.to("blue").emit("end-blue", ());
        io.to(c.id()).emit("end-you", ());
        for (client, end) in [(&a, "end-red"), (&b, "end-red"), (&b, "end-blue"), (&c, "end-blue"), (&c, "end-you")] {
            client.next(end).await;
        }
        let heard = nodes.heard(0, [&a, &b, &c]).await.map(|heard| sorted(&heard));
        assert_eq!(heard[0], "both not-you only-red red");
        assert_eq!(heard[1], "blue both not-you red");
        assert_eq!(heard[2], "blue both not-red you");
    }

    /// What a socket sends to others does not come back to it.
    pub async fn a_socket_does_not_hear_itself(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        for client in [&a, &b, &c] {
            nodes.join(client, &["room"]).await;
        }
        nodes.socket(&b).broadcast().emit("all", ());
        nodes.socket(&b).to("room").emit("room", ());
        let heard = nodes.heard(1, [&a, &b, &c]).await.map(|heard| sorted(&heard));
        assert_eq!(heard, ["all room", "", "all room"]);
    }

    /// `local` stays on its server; volatile and uncompressed events travel.
    pub async fn flags_hold_on_every_server(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        let io = nodes.io(1);
        io.local().emit("local", ());
        io.compress(false).emit("plain", ());
        let heard = nodes.heard(1, [&a, &b, &c]).await.map(|heard| sorted(&heard));
        assert_eq!(heard, ["plain", "local plain", "plain"]);
        // A volatile event may be dropped at any time, but not always.
        for client in [&a, &b, &c] {
            let came = || {
                io.volatile().emit("volatile", ());
                client.waiting().iter().any(|name| name == "volatile")
            };
            assert!(eventually(PATIENCE, came).await, "volatile events arrive");
        }
        // A client that does not read gets no volatile event, whichever server it came from.
        c.stall();
        let socket = nodes.socket(&c);
        let dropped = || nodes.io(2).stats().volatile_dropped;
        let mut before = u64::MAX;
        // What was on its way to the pipe makes room once more, so it may take a few.
        let elsewhere = || {
            let more = dropped() > before;
            while socket.volatile().emit("fill", "x".repeat(60_000)).is_ok() {}
            before = dropped();
            nodes.io(0).volatile().emit("dropped", ());
            more
        };
        assert!(eventually(PATIENCE, elsewhere).await, "it was dropped there");
        c.resume();
    }

    /// Values arrive as they were sent: text, numbers, objects, and binary data at any depth.
    pub async fn arguments_arrive_as_they_were_sent(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, _, c] = nodes.clients().await;
        let value = json!({"a": [1, -2, 2.5, 9_007_199_254_740_991_u64, true, null, "é\u{1f600}\"\n"], "": {}});
        nodes.io(1).emit("json", (&value, "second", 3));
        let big = Bytes::from(vec![7_u8; 100_000]);
        nodes.io(1).emit("binary", (&big, vec![("k", Bytes::from_static(b"\x00\xff"))], Bytes::new()));
        for client in [&a, &c] {
            assert_eq!(client.next("json").await.args::<(Value, String, u8)>(), (value.clone(), "second".into(), 3));
            let (got, nested, empty) = client.next("binary").await.args::<(Bytes, Vec<(String, Bytes)>, Bytes)>();
            assert_eq!((got, empty), (big.clone(), Bytes::new()));
            assert_eq!(nested, [("k".to_owned(), Bytes::from_static(b"\x00\xff"))]);
        }
    }

    /// A broadcast collects the answers of the clients of all servers.
    pub async fn answers_of_all_servers_come_together(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        let second = nodes.client(2).await;
        let question = nodes.io(0).emit_with_ack::<Value>("who", ());
        let replies = async {
            for (client, answer) in [(&a, json!("a")), (&b, json!({"b": [1]})), (&c, Value::Null), (&second, json!(4))]
            {
                client.next("who").await.answer(answer);
            }
        };
        let (answers, ()) = tokio::join!(question.all(), replies);
        assert!(answers.missing.is_empty(), "{answers:?}");
        let mut got: Vec<_> = answers.answers.iter().map(|(_, answer)| answer.to_string()).collect();
        got.sort();
        assert_eq!(got, ["\"a\"", "4", "null", "{\"b\":[1]}"]);
        let ids: std::collections::BTreeSet<_> = answers.answers.into_iter().map(|(id, _)| id).collect();
        let all = [&a, &b, &c, &second].map(|client| RoomName::from(client.id()));
        assert_eq!(ids, all.into_iter().collect());
        // Binary answers, rooms, and a client that does not answer.
        nodes.join(&b, &["two"]).await;
        nodes.join(&c, &["two"]).await;
        let question = nodes.io(1).to("two").timeout(Duration::from_secs(2)).emit_with_ack::<Bytes>("bytes", ());
        let replies = async { c.next("bytes").await.answer(Bytes::from_static(b"\x01\x02")) };
        let (answers, ()) = tokio::join!(question.all(), replies);
        let got: Vec<_> = answers.answers.iter().map(|(id, bytes)| (id.to_string(), bytes.clone())).collect();
        assert_eq!(got, [(c.id(), Bytes::from_static(b"\x01\x02"))]);
        assert!(matches!(&answers.missing[..], [(_, AckError::Timeout)]), "{answers:?}");
        // Nobody at all is an answer too.
        let answers = nodes.io(0).to("nobody").emit_with_ack::<Value>("who", ()).all().await;
        assert!(answers.answers.is_empty() && answers.missing.is_empty());
    }

    /// Sockets of all servers are found, with their handshake, rooms and data.
    pub async fn sockets_of_all_servers_are_found(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let a = nodes.client(0).await;
        let b = nodes.servers[1].client().query("from", "b").header("x-test", "1").auth(json!({"token": "t"}));
        let b = b.connect("/").await.expect("it may come in");
        let c = nodes.client(2).await;
        nodes.join(&b, &["room"]).await;
        nodes.join(&c, &["room"]).await;
        let data = nodes.socket(&b);
        data.data().insert("bytes", Bytes::from_static(b"\x05")).expect("bytes");
        assert!(eventually(PATIENCE, || nodes.socket(&c).data().get::<u8>("server") == Some(2)).await);
        let found = nodes.io(0).broadcast().timeout(PATIENCE).fetch_sockets().await;
        let mut ids: Vec<_> = found.iter().map(|socket| socket.id().to_string()).collect();
        let mut want = vec![a.id(), b.id(), c.id()];
        ids.sort();
        want.sort();
        assert_eq!(ids, want);
        let remote = found.iter().find(|socket| **socket.id() == *b.id()).expect("it is among them");
        assert!(remote.as_local().is_none());
        let handshake = remote.handshake();
        assert_eq!(handshake.query.get("from").map(String::as_str), Some("b"));
        assert_eq!(handshake.headers.get("x-test").map(String::as_str), Some("1"));
        assert_eq!(handshake.auth.get("token").and_then(|token| token.as_str()), Some("t"));
        assert!(handshake.issued > 1_600_000_000_000 && handshake.url.starts_with("/socket.io/"));
        assert_eq!(remote.rooms().len(), 2);
        assert!(remote.rooms().iter().any(|room| *room == "room"));
        assert_eq!(remote.data().get("server").and_then(|server| server.as_i64()), Some(1));
        let bytes = remote.data().get("bytes").and_then(|bytes| bytes.as_bytes().cloned());
        assert_eq!(bytes, Some(Bytes::from_static(b"\x05")));
        let found = nodes.io(0).in_("room").except(b.id()).timeout(PATIENCE).fetch().await;
        assert_eq!((found.missing, found.sockets.len(), found.sockets[0].id().to_string()), (0, 1, c.id()));
        assert_eq!(nodes.io(2).local().fetch_sockets().await.len(), 1);
    }

    /// A socket of another server can be used like one of this server.
    pub async fn a_socket_of_another_server_can_be_used(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        let mut found = nodes.io(0).in_(c.id()).timeout(PATIENCE).fetch().await;
        assert_eq!((found.sockets.len(), found.missing), (1, 0));
        let remote = found.sockets.remove(0);
        assert!(remote.emit("hi", 1).is_ok());
        assert_eq!(c.next("hi").await.args::<u8>(), 1);
        let question = remote.emit_with_ack::<String>("who", ());
        let (answer, ()) = tokio::join!(question, async { c.next("who").await.answer("me") });
        assert_eq!(answer, Ok("me".to_owned()));
        let late = remote.timeout(Duration::from_millis(300)).emit_with_ack::<String>("who", ());
        assert_eq!(late.await, Err(AckError::Timeout));
        remote.join("room").await.expect("there is room");
        let socket = nodes.socket(&c);
        assert!(eventually(PATIENCE, || socket.is_in("room")).await);
        remote.leave("room").await.expect("it can always leave");
        assert!(eventually(PATIENCE, || !socket.is_in("room")).await);
        remote.disconnect(false);
        c.disconnected().await;
        assert!(a.connected() && b.connected());
    }

    /// Sockets of all servers join and leave rooms, and are disconnected.
    pub async fn sockets_of_all_servers_move_and_go(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        nodes.io(0).except(b.id()).sockets_join(["x", "y"]).await.expect("there is room");
        let (in_a, in_b, in_c) = (nodes.socket(&a), nodes.socket(&b), nodes.socket(&c));
        assert!(eventually(PATIENCE, || in_c.is_in("x") && in_c.is_in("y")).await);
        assert!(in_a.is_in("x") && in_a.is_in("y") && !in_b.is_in("x"));
        nodes.io(1).in_("x").sockets_leave("y").await.expect("they can always leave");
        assert!(eventually(PATIENCE, || !in_a.is_in("y") && !in_c.is_in("y")).await);
        assert!(in_a.is_in("x"));
        nodes.io(1).in_("x").disconnect_sockets(false);
        a.disconnected().await;
        c.disconnected().await;
        assert!(b.connected());
    }

    /// Events for servers reach all others, and their answers come back.
    pub async fn servers_tell_and_ask_each_other(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        assert!(nodes.io(1).server_side_emit("relay", json!({"n": 1})).is_ok());
        assert_eq!(a.next("relayed").await.args::<Value>(), json!({"n": 1}));
        assert_eq!(c.next("relayed").await.args::<Value>(), json!({"n": 1}));
        assert_eq!(nodes.heard(1, [&b]).await, [""]);
        let mut answers = nodes.io(2).server_side_emit_with_ack::<usize>("number", ()).await.expect("it was sent");
        answers.answers.sort_unstable();
        assert_eq!((answers.answers, answers.errors.len(), answers.missing), (vec![0, 1], 0, 0));
        let asked = nodes.io(0).of("/");
        let time = Duration::from_secs(2);
        let partial = asked.server_side_emit_with_ack_within::<usize>(time, "silent", ()).await.expect("it was sent");
        assert_eq!((partial.answers, partial.missing), (vec![1], 1));
    }

    /// The order of one sender and one room is kept, and nothing is doubled.
    pub async fn the_order_of_a_sender_and_a_room_is_kept(broker: impl Broker) {
        const COUNT: usize = 400;
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        for client in [&a, &b, &c] {
            nodes.join(client, &["red", "blue"]).await;
        }
        for n in 0..COUNT {
            nodes.io(1).to("red").emit("red", n);
            nodes.io(1).to("blue").emit("blue", n);
            nodes.io(1).emit("all", n);
            nodes.io(1).to(["red", "blue"]).emit("both", n);
            tokio::task::yield_now().await;
        }
        for client in [&a, &b, &c] {
            for name in ["red", "blue", "all", "both"] {
                for n in 0..COUNT {
                    assert_eq!(client.next(name).await.args::<usize>(), n, "{name}");
                }
            }
        }
        let heard = nodes.heard(1, [&a, &b, &c]).await;
        assert_eq!(heard, ["", "", ""]);
    }

    /// Who has joined a room hears it, who has left does not, again and again.
    pub async fn rooms_are_heard_from_join_to_leave(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, _, c] = nodes.clients().await;
        for round in 0..10 {
            nodes.join(&c, &["room"]).await;
            nodes.io(0).to("room").emit("in", round);
            assert_eq!(c.next("in").await.args::<usize>(), round);
            nodes.socket(&c).leave("room").await.expect("it can always leave");
            nodes.io(0).to("room").emit("out", round);
            assert_eq!(nodes.heard(0, [&a, &c]).await, ["", ""]);
        }
        // A second socket does not take the room away when it leaves.
        let second = nodes.client(2).await;
        nodes.join(&c, &["room"]).await;
        nodes.join(&second, &["room"]).await;
        nodes.socket(&second).leave("room").await.expect("it can always leave");
        nodes.io(0).to("room").emit("still", ());
        c.next("still").await;
    }

    /// A server that is closed is missed by nobody.
    pub async fn a_server_that_closes_is_not_waited_for(broker: impl Broker) {
        let mut nodes = Nodes::on(&broker).await;
        let gone = nodes.servers.remove(1);
        gone.io().close().await;
        drop(gone);
        nodes.know(2).await;
        let a = nodes.client(0).await;
        let c = nodes.client(1).await;
        let found = nodes.io(0).broadcast().fetch().await;
        assert_eq!((found.sockets.len(), found.missing), (2, 0));
        let answers = nodes.io(1).server_side_emit_with_ack::<usize>("number", ()).await.expect("it was sent");
        assert_eq!((answers.answers, answers.missing), (vec![0], 0));
        // And one that comes is one of them.
        nodes.servers.push(testing::serve(server(7, broker.bus())));
        nodes.know(3).await;
        let new = nodes.client(2).await;
        nodes.io(0).emit("hi", ());
        assert_eq!(nodes.heard(0, [&a, &c, &new]).await, ["hi", "hi", "hi"]);
    }

    /// What is no message kills and blocks nobody.
    pub async fn junk_is_ignored(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let [a, b, c] = nodes.clients().await;
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let packed = vec![0x91; 100_000];
        let junk: [&[u8]; 12] = [
            b"",
            b"{",
            b"{}",
            b"null",
            b"\x81",
            b"\xc0",
            b"\x92\xa1x\x81\xa3nsp\xa1/",
            b"\xdd\xff\xff\xff\xff",
            br#"{"type":5,"requestId":"1"}"#,
            br#"{"type":3,"uid":"x","nsp":"/","data":{"packet":{"type":2,"data":["e"]}}}"#,
            &deep,
            &packed,
        ];
        let before: Vec<_> = (0..3).map(|no| nodes.io(no).stats().cluster_foreign).collect();
        for _ in 0..3 {
            for bytes in junk {
                broker.junk("/", bytes).await;
            }
        }
        for (no, before) in before.into_iter().enumerate() {
            let counted = || nodes.io(no).stats().cluster_foreign >= before + 30;
            assert!(eventually(PATIENCE, counted).await, "{} of server {no}", nodes.io(no).stats().cluster_foreign);
        }
        nodes.io(0).emit("hi", 1);
        assert_eq!(nodes.heard(0, [&a, &b, &c]).await, ["hi:1", "hi:1", "hi:1"]);
        assert_eq!(nodes.io(1).broadcast().timeout(PATIENCE).fetch().await.sockets.len(), 3);
    }

    /// Many questions at once are answered, each with its own answers.
    pub async fn many_questions_at_once_are_kept_apart(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let _clients = nodes.clients().await;
        let nodes = Arc::new(nodes);
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..60 {
            let nodes = Arc::clone(&nodes);
            asking.spawn(async move {
                let io = nodes.io(n % 3);
                let found = io.broadcast().timeout(PATIENCE).fetch().await;
                assert_eq!((found.sockets.len(), found.missing), (3, 0));
                let answers = io.of("/").server_side_emit_with_ack_within::<usize>(PATIENCE, "number", ()).await;
                let answers = answers.expect("it was sent");
                let mut want: Vec<_> = (0..3).filter(|no| *no != n % 3).collect();
                let mut got = answers.answers;
                got.sort_unstable();
                want.sort_unstable();
                assert_eq!(got, want);
            });
        }
        while let Some(done) = asking.join_next().await {
            done.expect("every question was answered");
        }
    }

    /// Requests of a session reach it on any server, whole, and so does its WebSocket.
    pub async fn requests_reach_their_session_on_any_server(broker: impl Broker) {
        let nodes = Nodes::on(&broker).await;
        let mut listening = tokio::task::JoinSet::new();
        let mut endpoints = Vec::new();
        for server in &nodes.servers {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            endpoints.push(Endpoint::new(listener.local_addr().expect("it is bound")));
            let io = server.io().clone();
            listening.spawn(async move { io.serve(listener).await });
        }
        let http = async |no: usize| Http::connect(endpoints[no].addr, None).await.expect("the server accepts");
        let open = http(0).await.get(&endpoints[0].target("polling", None)).await.expect("an answer");
        let sid = open.text().split('"').nth(3).expect("a session id").to_owned();
        // The servers may have yet to hear of each other's forwarding.
        for no in [1, 2] {
            let target = endpoints[no].target("polling", Some(&sid));
            let until = tokio::time::Instant::now() + PATIENCE;
            let body = if no == 1 { "40" } else { "40/other," };
            loop {
                let answer = http(no).await.post(&target, body).await.expect("an answer");
                if answer.status == 200 {
                    break;
                }
                assert!(tokio::time::Instant::now() < until, "{answer:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let poll = async |no: usize| {
            let answer = http(no).await.get(&endpoints[no].target("polling", Some(&sid))).await.expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.text().to_owned()
        };
        let mut joined = String::new();
        while !(joined.contains("40{") && joined.contains("40/other,{")) {
            joined.push_str(&poll(2).await);
        }
        let sockets = nodes.io(0).of("/").local().sockets();
        let [socket] = &sockets[..] else { panic!("{} sockets", sockets.len()) };
        // More than fits into a notification of any database, and more than any window.
        for size in [0, 5_000, 300_000] {
            let text = "ä".repeat(size);
            let answer = socket.emit_with_ack::<String>("ask", &text);
            let asked = poll(1).await;
            let id: String = asked.chars().skip(2).take_while(char::is_ascii_digit).collect();
            assert!(asked == format!("42{id}[\"ask\",\"{text}\"]"), "{size}");
            let body = format!("43{id}[\"{text}\"]");
            let posted = http(2).await.post(&endpoints[2].target("polling", Some(&sid)), &body).await;
            assert_eq!(posted.expect("an answer").status, 200);
            assert!(answer.await.expect("it was answered") == text, "{size}");
        }
        let mut candidate = WebSocket::open(&endpoints[1], Some(&sid)).await.expect("a WebSocket");
        candidate.queue_text("2probe");
        assert_eq!(candidate.next().await.expect("it is open"), Some(Message::Text("3probe".to_owned())));
        candidate.queue_text("5");
        candidate.flush().await.expect("written");
        for size in [0, 5_000, 300_000] {
            let text = "ä".repeat(size);
            let answer = socket.emit_with_ack::<String>("ask", &text);
            let asked = candidate.next().await.expect("it is open");
            let Some(Message::Text(asked)) = asked else { panic!("no question") };
            let id: String = asked.chars().skip(2).take_while(char::is_ascii_digit).collect();
            assert!(asked == format!("42{id}[\"ask\",\"{text}\"]"), "{size}");
            candidate.queue_text(&format!("43{id}[\"{text}\"]"));
            candidate.flush().await.expect("written");
            assert!(answer.await.expect("it was answered") == text, "{size}");
        }
        assert_eq!(nodes.io(1).engine_stats().tunnels, 1);
    }

    fn sorted(words: &str) -> String {
        let mut words: Vec<_> = words.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    }
}

/// Makes a test of every clause. `$broker` is an async function without arguments that starts a [`Broker`]; attributes of the
/// tests may stand in front.
#[macro_export]
macro_rules! adapter_contract {
    ($broker:path) => {
        $crate::adapter_contract! { $broker =>
            a_broadcast_reaches_everybody_once
            rooms_and_exceptions_hold_on_every_server
            a_socket_does_not_hear_itself
            flags_hold_on_every_server
            arguments_arrive_as_they_were_sent
            answers_of_all_servers_come_together
            sockets_of_all_servers_are_found
            a_socket_of_another_server_can_be_used
            sockets_of_all_servers_move_and_go
            servers_tell_and_ask_each_other
            the_order_of_a_sender_and_a_room_is_kept
            rooms_are_heard_from_join_to_leave
            a_server_that_closes_is_not_waited_for
            junk_is_ignored
            many_questions_at_once_are_kept_apart
            requests_reach_their_session_on_any_server
        }
    };
    ($broker:path => $($clause:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $clause() {
            let broker = $broker().await;
            $crate::within(::std::time::Duration::from_secs(150), $crate::contract::clauses::$clause(broker)).await;
        }
    )*};
}
