//! Clients that lose their connection and come back: what they get, and when they do not.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{
    AnyParser, Builder, Bytes, ConnectError, DisconnectReason, DynChunk, DynDecoder, DynPacket, EncodeError, Limits,
    Message, Namespace, NotRecoverable, PacketKind, Parser, RecoveryOptions, SessionEnd, Socket, SocketIo, Violation,
};
use support::{Client, Msg, Server, eventually, serve};

/// What happened in the namespace, in the order in which it did.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().any(|entry| entry == line)
    }
}

/// Values of the application that stay on the server.
struct Tag(&'static str);

fn namespace(log: &Log) -> Namespace {
    let (connected, left, expired) = (log.clone(), log.clone(), log.clone());
    Namespace::new("/")
        .on_connect(move |socket: Socket| {
            let log = connected.clone();
            async move { log.note(if socket.recovered() { "recovered" } else { "connected" }) }
        })
        .on("join", async |socket: Socket, socketio::Data(room): socketio::Data<String>| {
            socket.join(room);
        })
        .on("barrier", async || {})
        .on_disconnect(move |reason: DisconnectReason| {
            let log = left.clone();
            async move { log.note(reason.as_str()) }
        })
        .on_session_expired(move |session| expired.note(format!("{:?} {}", session.why(), session.rooms().len())))
}

fn recoverable(options: RecoveryOptions) -> Builder {
    SocketIo::builder().connection_state_recovery(options)
}

async fn start(log: &Log) -> Server {
    serve(recoverable(RecoveryOptions::default()).namespace(namespace(log))).await
}

/// Joins `/` with this payload; returns the client, its id and its secret.
async fn join(server: &Server, auth: &str) -> (Client, String, String) {
    let mut client = Client::open(server.addr).await;
    client.send(&format!("0{auth}")).await;
    let answer = client.text().await;
    let field = |name: &str| {
        let rest = answer.split(&format!("\"{name}\":\"")).nth(1).unwrap_or_else(|| panic!("{name} in {answer}"));
        rest.split('"').next().unwrap().to_owned()
    };
    (client, field("sid"), field("pid"))
}

fn claim(pid: &str, offset: &str) -> String {
    format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#)
}

/// The last argument of an event.
fn offset(event: &str) -> String {
    event.rsplit('"').nth(1).unwrap().to_owned()
}

/// Breaks the connection and waits until the server has put the session aside.
async fn cut(client: Client, server: &Server) {
    let before = server.io.of("/").away();
    drop(client);
    eventually("the session is kept", || server.io.of("/").away() > before).await;
}

async fn settle(client: &mut Client) {
    client.barrier().await;
}

#[tokio::test]
async fn without_the_option_nothing_is_added() {
    let log = Log::default();
    let server = serve(SocketIo::builder().namespace(namespace(&log))).await;
    let mut client = Client::open(server.addr).await;
    client.send(r#"0{"pid":"AAAAAAAAAAAAAAAAAAAA","offset":"x"}"#).await;
    let answer = client.text().await;
    assert!(!answer.contains("pid"), "{answer}");
    server.io.emit("news", "text");
    client.expect(r#"2["news","text"]"#).await;
    assert_eq!(server.io.of("/").away(), 0);
}

#[tokio::test]
async fn what_was_missed_follows_the_answer_in_order_and_rooms_and_data_are_there() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut client, id, pid) = join(&server, "").await;
    let socket = server.io.of("/").socket(&id).unwrap();
    socket.join(["red", "blue"]);
    socket.data().insert("name", "Ann").unwrap();
    socket.extensions().insert(Tag("kept"));
    socket.emit("one", 1);
    let one = client.text().await;
    assert_eq!(one, format!(r#"2["one",1,"{}"]"#, offset(&one)));
    cut(client, &server).await;
    assert!(server.io.of("/").socket(&id).is_none());

    server.io.emit("to all", 2);
    server.io.to("red").to("blue").emit("to rooms", 3);
    server.io.to("green").emit("not to this one", 4);
    server.io.except("red").emit("nor this", 5);
    server.io.to(&id).emit("to its id", 6);
    server.io.volatile().emit("volatile", "gone");

    let (mut client, again, same) = join(&server, &claim(&pid, &offset(&one))).await;
    assert_eq!((&again, &same), (&id, &pid));
    for want in [r#"2["to all",2,"#, r#"2["to rooms",3,"#, r#"2["to its id",6,"#] {
        let event = client.text().await;
        assert!(event.starts_with(want), "{event} {want}");
    }
    settle(&mut client).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.recovered());
    let mut rooms = socket.rooms();
    rooms.sort();
    let mut want = ["blue", "red", id.as_str()];
    want.sort();
    assert_eq!(rooms.as_slice(), want);
    assert_eq!(socket.data().get::<String>("name").as_deref(), Some("Ann"));
    assert_eq!(socket.extensions().get::<Tag>().map(|tag| tag.0), Some("kept"));
    assert_eq!(log.take(), ["connected", "transport close", "recovered"]);
    let stats = server.io.stats();
    assert_eq!((stats.recovered, stats.not_recovered, stats.sessions_expired), (1, 0, 0));
}

#[tokio::test]
async fn a_client_that_never_got_an_event_comes_back_too() {
    let log = Log::default();
    let server = start(&log).await;
    let (client, id, pid) = join(&server, "").await;
    server.io.of("/").socket(&id).unwrap().join("room");
    cut(client, &server).await;
    server.io.to("room").emit("first", ());
    let (mut client, again, _) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
    assert_eq!(again, id);
    let first = client.text().await;
    assert!(first.starts_with(r#"2["first",""#), "{first}");
    settle(&mut client).await;
    // An offset of another server, from before this session, is as good as none.
    cut(client, &server).await;
    let (mut client, again, _) = join(&server, &claim(&pid, "AAAAAAAAAAAAAB")).await;
    assert_eq!(again, id);
    client.expect(&first).await;
    settle(&mut client).await;
}

#[tokio::test]
async fn recovery_works_again_and_again() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut client, id, pid) = join(&server, "").await;
    let mut last = None;
    for round in 0..10 {
        cut(client, &server).await;
        server.io.emit("round", round);
        let auth = last.map_or(format!(r#"{{"pid":"{pid}"}}"#), |last: String| claim(&pid, &last));
        let (next, again, _) = join(&server, &auth).await;
        client = next;
        assert_eq!(again, id);
        let event = client.text().await;
        assert!(event.starts_with(&format!(r#"2["round",{round},"#)), "{event}");
        // Every other round the client has lost what it got last.
        last = Some(offset(&event));
        settle(&mut client).await;
    }
    assert_eq!(server.io.stats().recovered, 10);
}

#[tokio::test]
async fn volatile_events_and_questions_do_not_confuse_offsets() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut client, id, _) = join(&server, "").await;
    let socket = server.io.of("/").socket(&id).unwrap();
    socket.emit("stored", "text");
    let stored = offset(&client.text().await);
    settle(&mut client).await;
    // Clients take the last string for an offset: a volatile event that ends in one repeats the last offset.
    socket.volatile().emit("status", "online");
    client.expect(&format!(r#"2["status","online","{stored}"]"#)).await;
    settle(&mut client).await;
    server.io.volatile().emit("tick", ());
    client.expect(&format!(r#"2["tick","{stored}"]"#)).await;
    settle(&mut client).await;
    // Others do not.
    socket.volatile().emit("price", ("text", 5));
    client.expect(r#"2["price","text",5]"#).await;
    // Nor what asks for an answer: its last argument is the function that answers.
    let asked = socket.emit_with_ack::<String>("question", "text");
    client.expect(r#"20["question","text"]"#).await;
    client.send(r#"30["answer"]"#).await;
    assert_eq!(asked.await.unwrap(), "answer");
    socket.emit("next", ());
    assert_ne!(offset(&client.text().await), stored);
}

#[tokio::test]
async fn a_broadcast_has_one_offset_for_everybody() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut ann, _, _) = join(&server, "").await;
    let (mut bob, _, _) = join(&server, "").await;
    server.io.emit("news", Bytes::from_static(b"\x01\x02"));
    let header = ann.text().await;
    assert_eq!(header, format!(r#"51-["news",{{"_placeholder":true,"num":0}},"{}"]"#, offset(&header)));
    ann.expect_binary(b"\x01\x02").await;
    bob.expect(&header).await;
    bob.expect_binary(b"\x01\x02").await;
}

#[tokio::test]
async fn binary_events_are_replayed_whole() {
    let log = Log::default();
    let server = start(&log).await;
    let (client, id, pid) = join(&server, "").await;
    cut(client, &server).await;
    server.io.to(&id).emit("bytes", (Bytes::from_static(b"one"), "between", Bytes::from_static(b"two")));
    server.io.emit("after", ());
    let (mut client, _, _) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
    assert!(client.text().await.starts_with(r#"52-["bytes","#));
    client.expect_binary(b"one").await;
    client.expect_binary(b"two").await;
    assert!(client.text().await.starts_with(r#"2["after","#));
}

#[tokio::test]
async fn a_socket_whose_end_was_not_noticed_is_replaced() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut old, id, pid) = join(&server, "").await;
    let former = server.io.of("/").socket(&id).unwrap();
    former.join("room");
    former.emit("seen", ());
    let seen = offset(&old.text().await);
    former.emit("lost on the way", ());
    // The old connection is still open.
    let (mut new, again, _) = join(&server, &claim(&pid, &seen)).await;
    assert_eq!(again, id);
    assert!(new.text().await.starts_with(r#"2["lost on the way","#));
    settle(&mut new).await;
    assert!(old.text().await.starts_with(r#"2["lost on the way","#));
    old.expect_closed().await;
    eventually("the old socket has left", || log.has("transport close")).await;
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["connected", "recovered", "transport close"]);
    // The goodbye of the old one takes nothing from the new one.
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.connected() && socket.recovered() && socket.is_in("room") && !former.connected());
    assert!(former.leave("room").is_ok() && socket.is_in("room"));
    server.io.to("room").emit("still", ());
    assert!(new.text().await.starts_with(r#"2["still","#));
    assert_eq!((server.io.of("/").len(), server.io.of("/").away()), (1, 0));
}

#[tokio::test]
async fn who_was_meant_to_leave_does_not_come_back() {
    for how in ["41", "server", "all", "parse error"] {
        let log = Log::default();
        let server = start(&log).await;
        let (mut client, id, pid) = join(&server, "").await;
        let socket = server.io.of("/").socket(&id).unwrap();
        match how {
            "server" => socket.disconnect(false),
            "all" => socket.disconnect(true),
            "parse error" => client.send_raw("x").await,
            packet => client.send_raw(packet).await,
        }
        eventually("it has left", || server.io.of("/").is_empty()).await;
        assert_eq!(server.io.of("/").away(), 0, "{how}");
        let (_client, again, other) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
        assert_ne!((again, other), (id, pid), "{how}");
        assert_eq!(server.io.stats().recovered, 0);
    }
}

#[tokio::test]
async fn secrets_are_used_once_and_nonsense_is_a_new_client() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut client, id, pid) = join(&server, "").await;
    server.io.emit("one", ());
    let one = offset(&client.text().await);
    for auth in [
        "".to_owned(),
        r#"{"pid":"AAAAAAAAAAAAAAAAAAAA","offset":"AAAAAAAAAAAAAA"}"#.to_owned(),
        r#"{"pid":5,"offset":{"a":[1]}}"#.to_owned(),
        r#"{"pid":null}"#.to_owned(),
        format!(r#"{{"pid":"{}"}}"#, "x".repeat(100_000)),
        format!(r#"{{"pid":"{id}","offset":"{one}"}}"#),
    ] {
        let (_client, other, other_pid) = join(&server, &auth).await;
        assert!(other != id && other_pid != pid, "{auth}");
    }
    drop(client);
    eventually("all are away", || server.io.of("/").away() == 7).await;
    let (_back, again, _) = join(&server, &claim(&pid, &one)).await;
    assert_eq!(again, id);
    assert_eq!(server.io.of("/").away(), 6);

    // An offset of ours that is not made yet.
    let (client, id, pid) = join(&server, "").await;
    server.io.of("/").socket(&id).unwrap().emit("one", ());
    cut(client, &server).await;
    for text in ["0-0", "$", "connected"] {
        let (_client, other, _) = join(&server, &claim(&pid, text)).await;
        assert_ne!(other, id);
    }
    assert!(log.has("NotRecoverable(UnknownOffset) 1"), "{:?}", log.take());
}

#[tokio::test]
async fn a_session_that_expires_is_told_of() {
    let log = Log::default();
    let mut options = RecoveryOptions::default();
    options.max_disconnection_duration = Duration::from_millis(20);
    let server = serve(recoverable(options).namespace(namespace(&log))).await;
    let (client, id, pid) = join(&server, "").await;
    server.io.of("/").socket(&id).unwrap().join("room");
    drop(client);
    eventually("the session has expired", || log.has("Expired 2")).await;
    let (_client, again, other) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
    assert_ne!((again, other), (id, pid));
    assert_eq!(server.io.stats().sessions_expired, 1);
}

#[tokio::test]
async fn sessions_and_packets_are_bounded() {
    let log = Log::default();
    let mut options = RecoveryOptions::default();
    options.max_sessions = 2;
    options.max_packets = 5;
    let server = serve(recoverable(options).namespace(namespace(&log))).await;
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let (client, _, pid) = join(&server, "").await;
        let before = server.io.of("/").len();
        drop(client);
        eventually("it is away", || server.io.of("/").len() < before).await;
        secrets.push(pid);
    }
    assert_eq!(server.io.of("/").away(), 2);
    assert!(log.has("Displaced 1"));
    // Packets to somebody else push out what the client may have missed.
    for _ in 0..6 {
        server.io.emit("news", ());
    }
    let (_client, _, other) = join(&server, &format!(r#"{{"pid":"{}"}}"#, secrets[2])).await;
    assert_ne!(other, secrets[2]);
    assert!(log.has(&format!("{:?} 1", SessionEnd::NotRecoverable(NotRecoverable::Trimmed))));
}

#[tokio::test]
async fn a_client_that_missed_more_than_its_queue_holds_starts_anew() {
    let log = Log::default();
    let mut limits = Limits::default();
    limits.send_queue_packets = 20;
    let server = serve(recoverable(RecoveryOptions::default()).limits(limits).namespace(namespace(&log))).await;
    let (client, id, pid) = join(&server, "").await;
    cut(client, &server).await;
    for number in 0..11 {
        server.io.emit("news", number);
    }
    let (mut client, again, _) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
    assert_ne!(again, id);
    settle(&mut client).await;
    assert!(log.has("NotRecoverable(TooMuch) 1"));
}

#[tokio::test]
async fn what_several_namespaces_missed_together_does_not_close_the_connection_for_ever() {
    const NAMES: [&str; 3] = ["/a", "/b", "/c"];
    let mut limits = Limits::default();
    limits.send_queue_bytes = 100_000;
    let builder = recoverable(RecoveryOptions::default()).limits(limits);
    let server = serve(NAMES.iter().fold(builder, |builder, name| builder.namespace(Namespace::new(*name)))).await;
    let mut client = Client::open(server.addr).await;
    let mut secrets = Vec::new();
    for name in NAMES {
        client.send(&format!("0{name},")).await;
        let answer = client.text().await;
        secrets.push(answer.split("\"pid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned());
    }
    drop(client);
    eventually("all are away", || NAMES.iter().all(|name| server.io.of(name).away() == 1)).await;
    for name in NAMES {
        server.io.of(name).emit("much", "x".repeat(45_000));
    }
    // It reads nothing while it asks: together they are more than the queue takes. After some attempts it is in.
    for attempt in 0..4 {
        let mut client = Client::open(server.addr).await;
        let asks: Vec<_> =
            NAMES.iter().zip(&secrets).map(|(name, pid)| format!("0{name},{{\"pid\":\"{pid}\"}}")).collect();
        client.send_all(&asks.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut answers = 0;
        loop {
            match client.next().await {
                Msg::Text(text) => answers += usize::from(text.starts_with('0')),
                _ => break,
            }
            if answers == NAMES.len() {
                return;
            }
        }
        println!("attempt {attempt}: {answers} answers");
    }
    panic!("the client never gets in");
}

#[tokio::test]
async fn middleware_is_passed_over_or_may_refuse() {
    for skip in [true, false] {
        let log = Log::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&calls);
        let mut options = RecoveryOptions::default();
        options.skip_middlewares = skip;
        let gate = namespace(&log).use_(move |socket: Socket| {
            let first = counting.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                socket.join("from middleware");
                if first || socket.recovered() && socket.handshake().auth::<Allowed>().is_ok_and(|auth| auth.allowed) {
                    return Ok(());
                }
                Err(ConnectError::new("no"))
            }
        });
        let server = serve(recoverable(options).namespace(gate)).await;
        let (client, id, pid) = join(&server, "").await;
        cut(client, &server).await;
        let (client, again, _) = join(&server, &format!(r#"{{"pid":"{pid}","allowed":true}}"#)).await;
        assert_eq!(again, id);
        assert!(server.io.of("/").socket(&id).unwrap().is_in("from middleware"));
        cut(client, &server).await;
        let mut client = Client::open(server.addr).await;
        client.send(&format!(r#"0{{"pid":"{pid}"}}"#)).await;
        let answer = client.text().await;
        if skip {
            assert!(answer.contains(&id), "{answer}");
            assert_eq!(calls.load(Ordering::SeqCst), 1);
        } else {
            assert_eq!(answer, r#"4{"message":"no"}"#);
            assert!(log.has("Refused 2"), "{:?}", log.take());
            assert_eq!(server.io.of("/").away(), 0);
        }
    }

    #[derive(serde::Deserialize)]
    struct Allowed {
        allowed: bool,
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_comes_back_has_not_lost_its_session() {
    let log = Log::default();
    let mut options = RecoveryOptions::default();
    options.skip_middlewares = false;
    let open = Arc::new(tokio::sync::Semaphore::new(1));
    let gate = Arc::clone(&open);
    let slow = namespace(&log).use_(move |_: Socket| {
        let gate = Arc::clone(&gate);
        async move { gate.acquire().await.map(|permit| permit.forget()).map_err(|_| ConnectError::new("closed")) }
    });
    let server = serve(recoverable(options).namespace(slow)).await;
    let (client, id, pid) = join(&server, "").await;
    cut(client, &server).await;
    let mut hasty = Client::open(server.addr).await;
    hasty.send(&format!(r#"0{{"pid":"{pid}"}}"#)).await;
    eventually("it is coming back", || server.io.of("/").away() == 0).await;
    // Nobody is here and nobody is away, and yet this has to be kept.
    server.io.emit("meanwhile", ());
    cut(hasty, &server).await;
    open.add_permits(1);
    let (mut client, again, _) = join(&server, &format!(r#"{{"pid":"{pid}"}}"#)).await;
    assert_eq!(again, id);
    assert!(client.text().await.starts_with(r#"2["meanwhile","#));
}

#[tokio::test]
async fn rooms_that_changed_while_events_were_on_their_way_are_those_of_the_event() {
    let log = Log::default();
    let server = start(&log).await;
    let (mut client, id, pid) = join(&server, "").await;
    let socket = server.io.of("/").socket(&id).unwrap();
    socket.emit("one", ());
    let one = offset(&client.text().await);
    socket.join("red");
    server.io.to("blue").emit("before blue", ());
    server.io.to("red").emit("while red", ());
    socket.leave("red");
    socket.join("blue");
    server.io.to("red").emit("after red", ());
    server.io.to("blue").emit("while blue", ());
    cut(client, &server).await;
    // The client has got nothing of this: its link was dead.
    let (mut client, _, _) = join(&server, &claim(&pid, &one)).await;
    for want in [r#"2["while red","#, r#"2["while blue","#] {
        let event = client.text().await;
        assert!(event.starts_with(want), "{event} {want}");
    }
    settle(&mut client).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.is_in("blue") && !socket.is_in("red"));
}

#[tokio::test]
async fn messagepack_and_parsers_of_ones_own_carry_offsets() {
    let log = Log::default();
    let msgpack = recoverable(RecoveryOptions::default()).parser(AnyParser::msgpack()).namespace(namespace(&log));
    let server = serve(msgpack).await;
    let mut client = Client::open(server.addr).await;
    client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/").await;
    let Msg::Binary(answer) = client.next().await else { panic!("no answer") };
    assert!(answer.windows(4).any(|window| window == b"\xa3pid"));
    server.io.emit("news", 1);
    server.io.emit("news", 1);
    let (Msg::Binary(one), Msg::Binary(two)) = (client.next().await, client.next().await) else { panic!("no events") };
    let at = one.windows(6).position(|window| window == b"\xa4news\x01").unwrap() + 6;
    assert_eq!((one[at], one.len(), one[at + 1..at + 15] == two[at + 1..at + 15]), (0xa0 | 14, two.len(), false));
    assert!(one[at + 1..at + 15].iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)));

    let backwards = recoverable(RecoveryOptions::default())
        .parser(AnyParser::custom(Arc::new(Backwards)))
        .namespace(namespace(&log));
    let server = serve(backwards).await;
    let mut client = Client::open(server.addr).await;
    client.send("connect").await;
    client.text().await;
    server.io.emit("news", 1);
    let event: String = client.text().await.chars().rev().collect();
    assert!(event.starts_with("Event:2:") && event.ends_with(":4"), "{event}");
}

/// Writes the kind, and of an event the number of arguments behind its name and a checksum of sorts; all of it backwards.
struct Backwards;

impl Parser for Backwards {
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError> {
        let arguments = match &packet.data {
            Some(socketio::Value::Array(values)) => values.len(),
            _ => 0,
        };
        let last = match &packet.data {
            Some(socketio::Value::Array(values)) => values.last().and_then(|value| value.as_str()).unwrap_or_default(),
            _ => "",
        };
        let dots = last.matches('.').count();
        let text = format!("{:?}:{}:{}", packet.kind, arguments.saturating_sub(1), 4 + dots);
        Ok(vec![DynChunk::Text(text.chars().rev().collect())])
    }

    fn decoder(&self) -> Box<dyn DynDecoder> {
        Box::new(Connects)
    }
}

#[derive(Debug)]
struct Connects;

impl DynDecoder for Connects {
    fn add(&mut self, _: Message<'_>) -> Result<Option<DynPacket>, Violation> {
        Ok(Some(DynPacket { kind: PacketKind::Connect, namespace: "/".to_owned(), id: None, data: None }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_many_tasks_reach_everybody_once_in_the_order_of_their_offsets() {
    const TASKS: usize = 4;
    const EVENTS: usize = 300;
    let log = Log::default();
    let server = start(&log).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        let (client, id, pid) = join(&server, "").await;
        server.io.of("/").socket(&id).unwrap().join("room");
        clients.push((client, id, pid, number));
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|(mut client, id, pid, number)| {
            let addr = server.addr;
            tokio::spawn(async move {
                let (mut events, mut last) = (vec![0; TASKS], None);
                let (mut seen, mut position) = (0, 0);
                while events.iter().any(|next| *next < EVENTS) {
                    let text = client.text().await;
                    let rest = text.strip_prefix(r#"2["event","#).unwrap_or_else(|| panic!("{text}"));
                    let mut numbers = rest.split(',').map(|number| number.parse::<usize>());
                    let (Some(Ok(task)), Some(Ok(index))) = (numbers.next(), numbers.next()) else { panic!("{text}") };
                    assert_eq!(index, events[task], "client {number}, task {task}");
                    events[task] += 1;
                    let own = offset(&text);
                    assert!(place(&own) > position, "{own} after {last:?}");
                    position = place(&own);
                    last = Some(own);
                    seen += 1;
                    // Some come back now and then, over a new connection, whatever the server knows of the old one.
                    if number % 2 == 1 && seen % 100 == 0 {
                        let auth = claim(&pid, last.as_deref().unwrap());
                        let mut next = Client::open(addr).await;
                        next.send(&format!("0{auth}")).await;
                        let answer = next.text().await;
                        assert!(answer.contains(&id), "client {number}: {answer}");
                        client = next;
                    }
                }
                client
            })
        })
        .collect();
    let emitters: Vec<_> = (0..TASKS)
        .map(|task| {
            let io = server.io.clone();
            tokio::spawn(async move {
                for index in 0..EVENTS {
                    let sent = match index % 2 {
                        0 => io.emit("event", (task, index)),
                        _ => io.to("room").emit("event", (task, index)),
                    };
                    assert!(sent.is_ok());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in emitters {
        task.await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }

    /// The number of an offset.
    fn place(offset: &str) -> u64 {
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        offset.bytes().skip(6).fold(0, |number, byte| number << 6 | u64::from(digit(byte)))
    }
}
