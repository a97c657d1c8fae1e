//! Joining a namespace: the order of things, refusals, limits, and what closes the whole connection.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socketio::{
    AnyParser, Auth, BuildError, ConnectError, Data, DisconnectReason, DynChunk, DynDecoder, DynPacket, EncodeError,
    HandlerError, Limits, Namespace, PacketKind, Parser, Socket, SocketIo, State, Value,
};
use support::{Client, Msg, eventually, serve};
use tokio::sync::{Notify, mpsc};

fn io(namespace: Namespace) -> socketio::Builder {
    SocketIo::builder().namespace(namespace)
}

#[derive(serde::Deserialize)]
struct Token {
    token: String,
}

fn guarded(name: &str) -> Namespace {
    Namespace::new(name)
        .use_(async |Auth(auth): Auth<Token>| match auth.token.as_str() {
            "secret" => Ok(()),
            "expired" => {
                Err(ConnectError::new("token expired").data(serde_json::json!({"code": 4001, "hint": "log in again"})))
            }
            _ => Err(ConnectError::new("not authorized")),
        })
        .use_(async |socket: Socket| -> Result<(), HandlerError> {
            tokio::task::yield_now().await;
            socket.join(["vip", "left"]);
            socket.leave("left");
            Ok(())
        })
        .on_connect(async |socket: Socket| {
            let mut rooms: Vec<String> = socket.rooms().iter().map(ToString::to_string).collect();
            rooms.retain(|room| room != socket.id().as_str());
            socket.emit("hello", (socket.id(), rooms, socket.is_in(socket.id())));
        })
}

#[tokio::test]
async fn middleware_lets_in_or_refuses_with_message_and_data() {
    let server = serve(io(guarded("/admin"))).await;
    let mut client = Client::open(server.addr).await;
    client.send(r#"0/admin,{"token":"wrong"}"#).await;
    client.expect(r#"4/admin,{"message":"not authorized"}"#).await;
    client.send(r#"0/admin,{"token":"expired"}"#).await;
    client.expect(r#"4/admin,{"message":"token expired","data":{"code":4001,"hint":"log in again"}}"#).await;
    client.send("0/admin,").await;
    let refusal = client.text().await;
    assert!(refusal.starts_with(r#"4/admin,{"message":""#) && refusal.contains("bad_request"), "{refusal}");
    client.send("0/nope,").await;
    client.expect(r#"4/nope,{"message":"Invalid namespace"}"#).await;

    let id = client.connect("/admin", r#"{"token":"secret"}"#).await;
    client.expect(&format!(r#"2/admin,["hello","{id}",["vip"],true]"#)).await;
    assert_eq!(id.len(), 20);
    assert_ne!(id, client.sid);
    let stats = server.io.stats();
    assert_eq!((stats.connects_refused, stats.sockets, stats.sockets_open), (4, 1, 1));
}

#[tokio::test]
async fn ids_differ_between_namespaces_and_from_the_session() {
    let server = serve(SocketIo::builder().namespace(Namespace::new("/")).namespace(Namespace::new("b"))).await;
    let (mut client, first) = Client::join(server.addr).await;
    let second = client.connect("/b", "").await;
    assert!(first != second && first != client.sid && second != client.sid);
    assert!(server.io.of("/b").socket(&second).is_some() && server.io.of("/").socket(&second).is_none());
}

#[tokio::test]
async fn a_connect_handler_whose_arguments_do_not_fit_refuses_the_client() {
    let namespace = Namespace::new("/").on_connect(async |socket: Socket, Auth(auth): Auth<Token>| {
        socket.emit("hello", auth.token);
    });
    let server = serve(io(namespace)).await;
    let mut client = Client::open(server.addr).await;
    client.send("0{}").await;
    let refusal = client.text().await;
    assert!(refusal.starts_with(r#"4{"message":""#), "{refusal}");
    client.connect("/", r#"{"token":"t"}"#).await;
    client.expect(r#"2["hello","t"]"#).await;
}

#[tokio::test]
async fn the_first_event_always_finds_its_handler() {
    const CLIENTS: usize = 10_000;
    let namespace = Namespace::new("/").on_connect(async |socket: Socket| {
        tokio::task::yield_now().await;
        socket.on("first", async || "here");
    });
    let server = serve(io(namespace)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let addr = server.addr;
        tasks.spawn(async move {
            for _ in 0..CLIENTS / 8 {
                let mut client = Client::open(addr).await;
                client.connect("/", "").await;
                client.send(r#"20["first"]"#).await;
                client.expect(r#"30["here"]"#).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn an_event_that_was_read_before_its_handler_was_registered_finds_it() {
    let gate = Arc::new(Notify::new());
    let namespace = Namespace::new("/").state(Arc::clone(&gate)).on_connect(
        async |socket: Socket, State(gate): State<Arc<Notify>>| {
            gate.notified().await;
            socket.once("first", async || "here");
        },
    );
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"20["first"]"#).await;
    eventually("it has been read", || server.io.stats().events_in == 1).await;
    gate.notify_one();
    client.expect(r#"30["here"]"#).await;
    assert_eq!(server.io.stats().events_unhandled, 0);
}

#[tokio::test]
async fn a_connect_handler_may_await_an_answer_and_events_wait_behind_it() {
    let namespace = Namespace::new("/")
        .on_connect(async |socket: Socket| {
            let name: String = socket.emit_with_ack("who are you", ()).await.unwrap();
            socket.extensions().insert(name);
        })
        .on("name", async |name: socketio::Extension<String>| (*name).clone());
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["name"]"#).await;
    client.expect(r#"20["who are you"]"#).await;
    client.send(r#"30["ann"]"#).await;
    client.expect(r#"31["ann"]"#).await;
}

#[tokio::test]
async fn broadcasts_reach_nobody_before_connect() {
    let (sender, mut waiting) = mpsc::unbounded_channel::<()>();
    let gate = Arc::new(Notify::new());
    let namespace = Namespace::new("/").state((sender, Arc::clone(&gate))).use_(
        async |State((sender, gate)): State<(mpsc::UnboundedSender<()>, Arc<Notify>)>,
               socket: Socket|
               -> Result<(), ConnectError> {
            socket.join("room");
            assert!(!socket.emit("early", ()).is_ok() && !socket.connected());
            sender.send(()).unwrap();
            gate.notified().await;
            Ok(())
        },
    );
    let server = serve(io(namespace)).await;
    let mut client = Client::open(server.addr).await;
    client.send("0").await;
    waiting.recv().await.unwrap();
    assert_eq!(server.io.to("room").emit("early", ()).recipients(), 0);
    assert_eq!(server.io.emit("early", ()).recipients(), 0);
    gate.notify_one();
    let connected = client.text().await;
    assert!(connected.starts_with("0{\"sid\""), "{connected}");
    assert_eq!(server.io.to("room").emit("late", ()).recipients(), 1);
    client.expect(r#"2["late"]"#).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_middleware_never_was_here() {
    let (sender, mut waiting) = mpsc::unbounded_channel::<()>();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    };
    let namespace = Namespace::new("/")
        .state(sender)
        .use_(async |State(sender): State<mpsc::UnboundedSender<()>>| -> Result<(), ConnectError> {
            sender.send(()).unwrap();
            std::future::pending().await
        })
        .on_connect(count.clone())
        .on_disconnect(count);
    let server = serve(io(namespace)).await;
    let mut client = Client::open(server.addr).await;
    client.send("0").await;
    waiting.recv().await.unwrap();
    client.close().await;
    eventually("the connection is gone", || server.io.stats().connections_open == 0).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(server.io.stats().sockets, 0);
}

#[tokio::test]
async fn middleware_that_never_decides_is_given_up() {
    let namespace = Namespace::new("/slow").use_(async || -> Result<(), ConnectError> { std::future::pending().await });
    let builder = SocketIo::builder()
        .namespace(namespace)
        .namespace(Namespace::new("/"))
        .connect_timeout(Duration::from_millis(100));
    let server = serve(builder).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send("0/slow,").await;
    client.expect(r#"4/slow,{"message":"Timeout"}"#).await;
}

#[tokio::test]
async fn a_connection_that_joins_nothing_is_closed() {
    let server = serve(io(Namespace::new("/")).connect_timeout(Duration::from_millis(50))).await;
    let mut client = Client::open(server.addr).await;
    client.expect_closed().await;
    assert_eq!(server.io.stats().connect_timeouts, 1);
    // One that has joined is not, not even when it leaves again.
    let (mut client, _) = Client::join(server.addr).await;
    client.send("1").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    client.connect("/", "").await;
}

#[tokio::test]
async fn a_burst_of_connects_makes_one_socket() {
    let namespace = Namespace::new("/").use_(async || -> Result<(), ConnectError> {
        tokio::task::yield_now().await;
        Ok(())
    });
    let server = serve(io(namespace)).await;
    let mut client = Client::open(server.addr).await;
    client.send_all(&["0"; 1_000]).await;
    while client.next().await != Msg::Closed {}
    assert!(server.io.stats().sockets <= 1);
    eventually("it is gone", || server.io.stats().sockets_open == 0).await;
}

#[tokio::test]
async fn a_connection_may_join_so_many_namespaces() {
    let mut builder = SocketIo::builder();
    for n in 0..40 {
        builder = builder.namespace(Namespace::new(format!("/{n}")));
    }
    let server = serve(builder).await;
    let mut client = Client::open(server.addr).await;
    for n in 0..32 {
        client.connect(&format!("/{n}"), "").await;
    }
    client.send("0/32,").await;
    client.expect(r#"4/32,{"message":"Too many namespaces"}"#).await;
    client.send("1/7,").await;
    client.connect("/32", "").await;
}

/// What a client sends, connected to `/`, and the reason that the socket of `/` is told.
#[tokio::test]
async fn a_client_that_breaks_the_rules_loses_its_connection() {
    let (sender, mut reasons) = mpsc::unbounded_channel::<DisconnectReason>();
    let namespace = Namespace::new("/").state(sender).on("a", async || ()).on_disconnect(
        async |State(sender): State<mpsc::UnboundedSender<DisconnectReason>>, reason: DisconnectReason| {
            sender.send(reason).unwrap();
        },
    );
    let server = serve(io(namespace)).await;
    let forced = "forced close";
    let server_side = "forced server close";
    let cases = [
        // Out of order.
        ("0", server_side),
        ("0{}", server_side),
        (r#"0/,{"a":1}"#, server_side),
        ("1/nope", server_side),
        (r#"2/nope,["a"]"#, server_side),
        (r#"3/nope,1[]"#, server_side),
        ("4", server_side),
        (r#"4{"message":"x"}"#, server_side),
        // Undecodable.
        ("0[]", forced),
        ("0null", forced),
        ("2", forced),
        ("2[]", forced),
        ("2{}", forced),
        (r#"2["a""#, forced),
        (r#"2["a"]junk"#, forced),
        ("2[null]", forced),
        (r#"2["connect"]"#, forced),
        (r#"2["disconnecting"]"#, forced),
        ("7", forced),
        ("", forced),
        ("é", forced),
        (r#"299999999999999999999["a"]"#, forced),
        (r#"51-["a"]"#, "text while attachments are awaited"),
        (r#"50-["a"]"#, forced),
        (r#"511-["a"]"#, forced),
    ];
    for (packet, reason) in cases {
        let (mut client, _) = Client::join(server.addr).await;
        let want = if packet == r#"51-["a"]"# {
            client.send(packet).await;
            client.send(r#"2["a"]"#).await;
            forced
        } else {
            client.send(packet).await;
            reason
        };
        client.expect_closed().await;
        assert_eq!(reasons.recv().await.unwrap().as_str(), want, "{packet}");
    }
    let (mut client, _) = Client::join(server.addr).await;
    client.send_binary(b"nobody waits for it").await;
    client.expect_closed().await;
    assert_eq!(reasons.recv().await.unwrap().as_str(), forced);
    eventually("nothing is left", || server.io.stats().connections_open == 0).await;
    assert_eq!(server.io.stats().sockets_open, 0);
    assert_eq!(server.io.of("/").len(), 0);
}

#[tokio::test]
async fn what_is_unusual_but_legal_is_no_offence() {
    let namespace = Namespace::new("/").on("", async || "empty").on("1", async || "one").on("error", async || "error");
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    for (packet, answer) in [
        (r#"21["error"]  "#, r#"31["error"]"#),
        (r#"22[""]"#, r#"32["empty"]"#),
        ("23[1]", r#"33["one"]"#),
        (r#"24["error",1e308,"key"]"#, r#"34["error"]"#),
    ] {
        client.send(packet).await;
        client.expect(answer).await;
    }
    // Unknown and missing ids of answers are ignored.
    client.send_all(&["3[]", "30[]", r#"31["x"]"#, "3[1]", r#"2["__proto__"]"#, r#"25["error"]"#]).await;
    client.expect(r#"35["error"]"#).await;
}

#[tokio::test]
async fn an_event_sent_before_the_connect_is_answered_closes_the_connection() {
    let server = serve(io(Namespace::new("/"))).await;
    let mut client = Client::open(server.addr).await;
    client.send(r#"2["early"]"#).await;
    client.expect_closed().await;
    let mut client = Client::open(server.addr).await;
    client.send_all(&["0", r#"2["early"]"#]).await;
    while client.next().await != Msg::Closed {}
}

#[test]
fn a_server_says_what_does_not_fit_together() {
    let state = Namespace::new("/a").on("x", async |State(_): State<u8>, Data(_): Data<u8>| ());
    let BuildError::MissingState { namespace, missing } = SocketIo::builder().namespace(state).build().unwrap_err()
    else {
        panic!()
    };
    assert_eq!((namespace.as_str(), missing.type_name), ("/a", "u8"));
    let twice = SocketIo::builder().namespace(Namespace::new("a")).namespace(Namespace::new("/a"));
    assert_eq!(twice.build().unwrap_err(), BuildError::DuplicateNamespace("/a".into()));
    let control = SocketIo::builder().namespace(Namespace::new("/a\nb"));
    assert_eq!(control.build().unwrap_err(), BuildError::InvalidNamespace("/a\nb".into()));
    let path = SocketIo::builder().path("no slash");
    assert!(matches!(path.build().unwrap_err(), BuildError::Option(_)));
    let given = Namespace::new("/a").on("x", async |State(_): State<u8>| ());
    assert!(SocketIo::builder().namespace(given).state(1_u8).build().is_ok());
}

#[tokio::test]
async fn attachments_that_do_not_come_close_the_connection() {
    let mut limits = Limits::default();
    limits.attachment_timeout = Duration::from_millis(50);
    let server = serve(io(Namespace::new("/")).limits(limits)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"51-["a",{"_placeholder":true,"num":0}]"#).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn the_msgpack_parser_speaks_binary() {
    let namespace = Namespace::new("/").on("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
    let server = serve(io(namespace).parser(AnyParser::msgpack())).await;
    let mut client = Client::open(server.addr).await;
    // {"type": 0, "nsp": "/"}
    client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/").await;
    let Msg::Binary(connected) = client.next().await else { panic!() };
    assert!(connected.windows(4).any(|window| window == b"\xa3sid"));
    // {"type": 2, "nsp": "/", "id": 7, "data": ["add", 2, 40]}
    client.send_binary(b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x07\xa4data\x93\xa3add\x02\x28").await;
    let Msg::Binary(answer) = client.next().await else { panic!() };
    assert!(answer.windows(7).any(|window| window == b"\xa4data\x91\x2a"), "{answer:x?}");
    for hostile in [&b"\xc0"[..], b"\x01", b"", b"\x82\xa4type\x07\xa3nsp\xa1/", &[0x91; 30_000]] {
        let mut client = Client::open(server.addr).await;
        client.send_binary(hostile).await;
        client.expect_closed().await;
    }
    let mut client = Client::open(server.addr).await;
    client.send("0").await;
    client.expect_closed().await;
}

/// One letter for the kind, then the namespace, a space and the words of the event: `e/ add 1 2`.
#[derive(Debug)]
struct Words;

impl Parser for Words {
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError> {
        let words: Vec<String> = match &packet.data {
            Some(Value::Array(words)) => {
                words.iter().map(|word| word.as_str().map_or("?".into(), str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        let letter = ["c", "d", "e", "a", "x"][usize::from(packet.kind.number())];
        Ok(vec![DynChunk::Text(format!("{letter}{} {}", packet.namespace, words.join(" ")))])
    }

    fn decoder(&self) -> Box<dyn DynDecoder> {
        Box::new(Words)
    }
}

impl DynDecoder for Words {
    fn add(&mut self, message: socketio::Message<'_>) -> Result<Option<DynPacket>, socketio::Violation> {
        let socketio::Message::Text(text) = message else {
            return Err(socketio::Violation::Custom("only words".into()));
        };
        let mut words = text.split(' ');
        let head = words.next().unwrap_or_default();
        let kind = if head.starts_with('c') { PacketKind::Connect } else { PacketKind::Event };
        let words = Value::Array(words.map(Value::from).collect());
        let data = (kind == PacketKind::Event).then_some(words);
        let namespace = head.get(1..).unwrap_or_default().to_owned();
        Ok(Some(DynPacket { kind, namespace, id: None, data }))
    }
}

#[tokio::test]
async fn a_parser_of_ones_own_speaks_its_own_language() {
    let namespace = Namespace::new("/").on("shout", async |socket: Socket, Data((a, b)): Data<(String, String)>| {
        socket.emit("echo", (a.to_uppercase(), b.to_uppercase()));
    });
    let server = serve(io(namespace).parser(AnyParser::custom(Arc::new(Words)))).await;
    let mut client = Client::open(server.addr).await;
    client.send("c/").await;
    client.expect("c/ ").await;
    client.send("e/ shout oh no").await;
    client.expect("e/ echo OH NO").await;
    client.send_binary(b"x").await;
    client.expect_closed().await;
}
