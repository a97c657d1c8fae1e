//! The features, in the order of the table.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use socketio::{OwnedArgs, Spread, Value};
use socketio_client::{
    AckError, Bytes, ConnectFailure, DisconnectReason, EmitError, SimpleClient, State, extract::Data,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::world::{
    LIMIT, Peer, Way, World, args, ask, binary, call, connect, every_byte, fnv, gift, next, spread, text_gift, up_to,
};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Feature = Box<dyn FnOnce(Arc<World>) -> Running + Send>;

pub(crate) fn all(world: &World) -> Vec<(&'static str, Feature)> {
    macro_rules! features {
        ($($name:literal: $feature:path),* $(,)?) => {
            vec![$(($name, Box::new(|world| Box::pin($feature(world)) as Running) as Feature)),*]
        };
    }
    let mut all = features! {
        "heartbeat": heartbeat,
        "restart": restart,
        "emit": emit,
        "names": names,
        "order": order,
        "ack-client": ack_client,
        "ack-server": ack_server,
        "acks-shuffled": acks_shuffled,
        "binary": binary_anywhere,
        "several-buffers": several_buffers,
        "ten-namespaces": ten_namespaces,
        "auth": auth,
        "rooms": rooms,
        "volatile": volatile,
        "kicked": kicked,
        "disconnect": disconnect,
        "big-payload": big_payload,
        "beyond-limit": beyond_limit,
        "recovery": recovery,
        "transport": transport,
    };
    if world.plan.way == Way::WebSocketFirst {
        all.extend(features! { "fallback": fallback });
    }
    all
}

/// Some pings go by, and it is still the same connection.
async fn heartbeat(world: Arc<World>) {
    let server = world.another(&["--ping-interval", "1000", "--ping-timeout", "3000"]).await;
    let lost = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lost);
    let builder = world.of(&server, "/").on_disconnect(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    });
    let client = connect(builder).await;
    // Longer than the server waits for a client that says nothing.
    tokio::time::sleep(Duration::from_millis(5_000)).await;
    assert_eq!(call(&client, "echo-ack", "still here").await, args!["still here"]);
    assert_eq!(lost.load(Ordering::SeqCst), 0);
    client.close().await;
}

/// The server is killed and another one takes its place: the client comes back, and what was emitted meanwhile arrives.
async fn restart(world: Arc<World>) {
    let server = world.another(&[]).await;
    let port = Arc::new(AtomicU16::new(server.port));
    let mut client = connect(world.following(&port, "/").query("who", "root")).await;
    let chat = client.socket().namespace("/chat").connect().await.expect("joined");
    // The server asks back, and is never answered.
    let asker = client.socket().clone();
    let asking = tokio::spawn(async move { ask(&asker, "ask", "will you answer?").await });
    assert_eq!(next(&mut client, "question").await, args!["will you answer?"]);
    let mut state = client.socket().state();
    drop(server);
    assert_eq!(asking.await.expect("no panic").err(), Some(AckError::Disconnected));
    state.wait_for(|state| matches!(state, State::Reconnecting(_))).await.expect("the client is open");
    assert!(!client.socket().connected() && !chat.connected() && client.socket().active());
    for n in 0..5 {
        client.emit("echo", (n, Bytes::from(gift(n)))).expect("kept");
    }
    let dropped = client.socket().volatile().emit("echo", "volatile").result();
    assert_eq!(dropped, Err(EmitError::Dropped));
    let waiting = {
        let chat = chat.clone();
        tokio::spawn(async move { ask(&chat, "echo-ack", "asked while away").await })
    };
    let kept: Vec<_> = client.socket().buffered().into_iter().map(|kept| kept.event).collect();
    assert_eq!(kept, ["echo"; 5]);
    // It has tried in vain a few times.
    state.wait_for(|state| matches!(state, State::Reconnecting(3..))).await.expect("the client is open");
    let server = world.another(&[]).await;
    port.store(server.port, Ordering::SeqCst);
    assert_eq!(waiting.await.expect("no panic"), Ok(args!["asked while away"]));
    for n in 0..5 {
        assert_eq!(next(&mut client, "echo").await, vec![Value::from(n as i64), binary(gift(n))]);
    }
    client.emit("echo", "last").expect("taken");
    assert_eq!(next(&mut client, "echo").await, args!["last"], "each of them once, and nothing volatile");
    assert!(client.socket().buffered().is_empty());
    client.close().await;
}

async fn emit(world: Arc<World>) {
    let mut client = world.connect("/").await;
    let hello = next(&mut client, "hello").await;
    assert_eq!(hello, args![client.socket().id().expect("connected")], "the server's word for this socket");
    let values = json!([
        null, true, false, 0, -1, 1.5, -2.25e-7, 2_147_483_648_u64, -2_147_483_649_i64, 9_007_199_254_740_991_u64, "",
        "text", "\"quoted\\\"\n\t", "ünï 漢字 😀 \u{2028}\u{0}\u{1e}", [], {}, [1, [2, [3, [null]]]],
        { "a": { "b": [false, { "": 0 }] }, "ключ": "значение" }, "451-[\"x\"]", "x".repeat(2000),
    ]);
    for value in values.as_array().expect("a list") {
        client.emit("echo", (value,)).expect("taken");
        assert_eq!(next(&mut client, "echo").await, args![value.clone()]);
    }
    client.emit("echo", ()).expect("taken");
    assert_eq!(next(&mut client, "echo").await, args![]);
    client.emit("echo", (1, "two", json!({ "three": 3 }), [4], None::<()>)).expect("taken");
    assert_eq!(next(&mut client, "echo").await, args![1, "two", json!({ "three": 3 }), json!([4]), Value::Null],);
    let kinds = call(&client, "kinds", (None::<()>, true, 1, "s", [0; 0], json!({}))).await;
    assert_eq!(kinds, args![json!(["null", "bool", "number", "string", "array", "object"])]);
    client.close().await;
}

/// Events without arguments, and with names that a library might take for its own.
async fn names(world: Arc<World>) {
    const NAMES: [&str; 8] = ["close", "open", "message", "Close", "ping", "upgrade", "1", "foo bar"];
    let (sender, mut called) = mpsc::unbounded_channel();
    let mut builder = world.builder("/");
    for name in NAMES {
        let sender = sender.clone();
        builder = builder.on(name, move |args: OwnedArgs| {
            let _ = sender.send((name, args.len()));
            std::future::ready(())
        });
    }
    let client = connect(builder).await;
    let room = format!("names of {}", unique());
    call(&client, "join", &room).await;
    for name in NAMES {
        let target = json!({ "from": "server", "to": [room], "except": [] });
        client.emit("send-to", (&target, name)).expect("taken");
        assert_eq!(called.recv().await, Some((name, 0)));
        client.emit("send-to", (&target, name, 1, "two")).expect("taken");
        assert_eq!(called.recv().await, Some((name, 2)));
    }
    assert!(client.socket().connected());
    client.close().await;
}

async fn order(world: Arc<World>) {
    let mut client = world.connect("/").await;
    for i in 0..500 {
        client.emit("seq", i).expect("taken");
    }
    assert_eq!(call(&client, "seq-report", ()).await, args![500, 0]);
    client.emit("count", 500).expect("taken");
    let numbers = up_to(&mut client, "number", "number-end").await;
    assert_eq!(numbers, (0..500).map(|i| args![i]).collect::<Vec<_>>());
    // Both directions at once.
    for i in 0..200 {
        client.emit("echo", i).expect("taken");
    }
    for i in 0..200 {
        assert_eq!(next(&mut client, "echo").await, args![i]);
    }
    client.close().await;
}

async fn ack_client(world: Arc<World>) {
    let client = world.connect("/").await;
    assert_eq!(call(&client, "echo-ack", ()).await, args![]);
    assert_eq!(call(&client, "echo-ack", (None::<()>, 1)).await, args![Value::Null, 1]);
    assert_eq!(
        call(&client, "echo-ack", (1, "two", json!({ "three": [3] }))).await,
        args![1, "two", json!({ "three": [3] })]
    );
    let mut asking = JoinSet::new();
    for i in 0..100_i64 {
        let socket = client.socket().clone();
        asking.spawn(async move { assert_eq!(socket.emit_with_ack::<i64>("echo-ack", i).await, Ok(i)) });
    }
    finish(asking).await;
    client.close().await;
}

async fn ack_server(world: Arc<World>) {
    let builder = world.builder("/").on("question", async |args: OwnedArgs, ack: socketio_client::Ack| {
        let mut values = args.values().unwrap_or_default();
        values.reverse();
        ack.send(Spread(&values));
    });
    let client = connect(builder).await;
    assert_eq!(call(&client, "ask", ()).await, args![]);
    assert_eq!(call(&client, "ask", "one").await, args!["one"]);
    assert_eq!(call(&client, "ask", (1, "two", json!({ "three": 3 }))).await, args![json!({ "three": 3 }), "two", 1]);
    let mut asking = JoinSet::new();
    for i in 0..50_i64 {
        let socket = client.socket().clone();
        asking.spawn(async move {
            assert_eq!(ask(&socket, "ask", (i, "x")).await, Ok(args!["x", i]));
        });
    }
    finish(asking).await;
    client.close().await;
    // A handler's return value is the answer, too; and one that asks the server itself stops nothing.
    let builder = world.builder("/").on("question", async |socket: socketio_client::Socket, Data(n): Data<i64>| {
        socket.emit_with_ack::<i64>("echo-ack", n * 7).await.unwrap_or(-1)
    });
    let client = connect(builder).await;
    assert_eq!(call(&client, "ask", 6).await, args![42]);
    client.close().await;
}

/// 64 questions, which the server answers in the reverse order once it has them all.
async fn acks_shuffled(world: Arc<World>) {
    let client = world.connect("/").await;
    let mut asking = JoinSet::new();
    for i in 0..64_i64 {
        let socket = client.socket().clone();
        asking.spawn(async move { assert_eq!(socket.emit_with_ack::<i64>("later", (i, 64)).await, Ok(i)) });
    }
    finish(asking).await;
    client.close().await;
}

async fn binary_anywhere(world: Arc<World>) {
    let builder = world.builder("/").on("question", async |Data(bytes): Data<Bytes>| {
        (bytes.iter().rev().copied().collect::<Bytes>(), "and text", Bytes::new())
    });
    let mut client = connect(builder).await;
    // Events of a socket with handlers that no handler takes come on the stream that is there already.
    let tricky = || binary([0x1e, 0x00, 0xff, 0x62, 0x34, 0x1e]);
    let map = |pairs: Vec<(&str, Value)>| Value::Map(pairs.into_iter().collect());
    let all = vec![
        map(vec![
            ("list", Value::from(vec![binary(every_byte()), map(vec![("deep", tricky())])])),
            ("n", Value::from(1)),
            ("none", Value::Null),
        ]),
        Value::from("between"),
        tricky(),
        binary([]),
        Value::from(vec![Value::from(vec![binary(every_byte())]), binary([0x1e])]),
        binary([]),
    ];
    client.emit("echo", spread(&all)).expect("taken");
    assert_eq!(next(&mut client, "echo").await, all);
    assert_eq!(call(&client, "echo-ack", spread(&all)).await, all);
    let bytes = Bytes::from(every_byte());
    let kinds = call(&client, "kinds", (&bytes, "s", BTreeMap::from([("a", &bytes)]), [&bytes])).await;
    assert_eq!(kinds, args![json!(["binary", "string", "object", "array"])]);
    assert_eq!(call(&client, "measure", &bytes).await, args!["binary", 256, i64::from(fnv(&bytes))]);
    assert_eq!(call(&client, "measure", Bytes::new()).await, args!["binary", 0, i64::from(fnv(b""))]);
    let reversed: Vec<u8> = every_byte().into_iter().rev().collect();
    // An answer of several arguments is a tuple inside a handler's return value: one list.
    let answer = call(&client, "ask", &bytes).await;
    assert_eq!(answer, vec![binary(reversed), Value::from("and text"), binary([])]);
    client.close().await;
}

async fn several_buffers(world: Arc<World>) {
    let mut client = world.connect("/").await;
    let buffers: Vec<Value> =
        [0, 1, 2, 124, 125, 126, 127, 128, 255, 8000].into_iter().map(|n| binary(gift(n))).collect();
    assert_eq!(call(&client, "echo-ack", spread(&buffers)).await, buffers);
    client.emit("echo", spread(&buffers)).expect("taken");
    assert_eq!(next(&mut client, "echo").await, buffers);
    // Text and attachments keep their order, also of several events in flight.
    let mut events = Vec::new();
    for i in 0..30_i64 {
        events.push(vec![Value::from(i), binary(gift(i as usize)), Value::from("text")]);
        events.push(args![format!("plain {i}")]);
        events.push(vec![binary(gift(3)), Value::from(i), binary(gift(130))]);
    }
    for event in &events {
        client.emit("echo", spread(event)).expect("taken");
    }
    for event in &events {
        assert_eq!(&next(&mut client, "echo").await, event);
    }
    client.close().await;
}

async fn ten_namespaces(world: Arc<World>) {
    let mut root = world.connect("/").await;
    let mut joining = JoinSet::new();
    for n in 0..10 {
        let socket = root.socket().clone();
        joining.spawn(async move {
            let socket = socket.namespace(&format!("/n{n}")).connect().await.expect("joined");
            let mut events = socket.events();
            let hello = events.next().await.expect("open");
            assert_eq!((hello.name(), hello.data::<String>().ok()), ("hello", socket.id()));
            for i in 0..20 {
                assert!(socket.emit("echo", (n, i)).is_ok());
            }
            for i in 0..20 {
                let event = events.next().await.expect("open");
                assert_eq!((event.name(), event.data::<(i32, i32)>()), ("echo", Ok((n, i))));
            }
            let who: Value = socket.emit_with_ack("whoami", ()).await.expect("answered");
            assert_eq!(who.get("namespace").and_then(Value::as_str), Some(&*format!("/n{n}")));
            socket
        });
    }
    let mut sockets = Vec::new();
    while let Some(joined) = joining.join_next().await {
        sockets.push(joined.unwrap_or_else(|error| panic!("{error}")));
    }
    let ids: std::collections::BTreeSet<_> = sockets.iter().map(|socket| socket.id()).collect();
    // That server takes the id of the connection for that of each of its sockets.
    assert_eq!(ids.len(), if world.peer() == Peer::Socketioxide { 1 } else { 10 });
    root.emit("echo", "in root").expect("taken");
    assert_eq!(next(&mut root, "echo").await, args!["in root"]);
    // Leaving one leaves the connection, and one can come back.
    let one = sockets.pop().expect("ten of them");
    one.disconnect();
    assert!(!one.connected() && root.socket().connected());
    assert!(sockets.iter().all(|socket| socket.connected()));
    one.connect();
    one.joined().await.expect("back");
    assert_eq!(one.emit_with_ack::<String>("echo-ack", "back").await.as_deref(), Ok("back"));
    root.close().await;
}

/// Refused without a token, with one that has expired, and at last let in: all over one connection.
async fn auth(world: Arc<World>) {
    let mut root = world.connect("/").await;
    let refusal = async |namespace: &str, auth: serde_json::Value| match root
        .socket()
        .namespace(namespace)
        .auth(auth)
        .connect()
        .await
    {
        Err(ConnectFailure::Refused(error)) => (error.message().to_owned(), error.data_ref().cloned()),
        other => panic!("not refused: {other:?}"),
    };
    let data = || Some(Value::from(json!({ "code": 4001, "hint": "log in again" })));
    let (none, expired, unknown) = (
        refusal("/admin", json!({})).await,
        refusal("/admin", json!({ "token": "expired" })).await,
        refusal("/nope", json!({})).await,
    );
    assert_eq!(none, ("not authorized".to_owned(), None));
    assert_eq!(
        expired,
        match world.peer() {
            // Its refusals carry no data.
            Peer::Socketioxide => ("token expired".to_owned(), None),
            // In that protocol a refusal is its data, or else its message.
            _ if world.plan.eio3 => (String::new(), data()),
            _ => ("token expired".to_owned(), data()),
        }
    );
    assert_eq!(
        unknown.0,
        match world.peer() {
            Peer::Python => "Unable to connect",
            _ => "Invalid namespace",
        }
    );
    // The same socket with other credentials, which are asked for at every attempt.
    let token = Arc::new(Mutex::new("wrong"));
    let asked = Arc::new(AtomicUsize::new(0));
    let (current, counter) = (Arc::clone(&token), Arc::clone(&asked));
    let admin = root
        .socket()
        .namespace("/admin")
        .auth(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            let token = *current.lock().expect("no panic");
            async move { json!({ "token": token, "n": "5" }) }
        })
        .connect_lazy()
        .expect("the namespace is free");
    assert!(matches!(admin.joined().await, Err(ConnectFailure::Refused(_))));
    assert!(!admin.active());
    *token.lock().expect("no panic") = "secret";
    admin.connect();
    admin.joined().await.expect("let in");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let who: Value = admin.emit_with_ack("whoami", ()).await.expect("answered");
    let seen = who.get("auth").expect("auth");
    assert_eq!(seen.get("token").and_then(Value::as_str), Some("secret"));
    assert_eq!(seen.get("n").and_then(Value::as_str), Some("5"));
    root.emit("echo", "the connection stays").expect("taken");
    assert_eq!(next(&mut root, "echo").await, args!["the connection stays"]);
    root.close().await;
}

async fn rooms(world: Arc<World>) {
    let mut clients = [world.connect("/").await, world.connect("/").await, world.connect("/").await];
    let (one, two) = (format!("one {}", unique()), format!("two {}", unique()));
    for (at, room) in [(0, &one), (1, &one), (1, &two), (2, &two)] {
        let joined = call(&clients[at], "join", room).await;
        assert!(joined[0].as_array().is_some_and(|rooms| rooms.iter().any(|name| name.as_str() == Some(room))));
    }
    assert_eq!(call(&clients[0], "members", &one).await, args![2]);
    let bytes = binary(every_byte());
    // From whom, to which rooms, and who gets it.
    let cases = [
        ("socket", vec![&one], vec![1]),
        ("socket", vec![&one, &two], vec![1, 2]),
        ("server", vec![&one], vec![0, 1]),
        ("server", vec![&one, &two], vec![0, 1, 2]),
        ("server", vec![&two], vec![1, 2]),
    ];
    for (number, (from, to, reached)) in cases.into_iter().enumerate() {
        let target = Value::from(json!({ "from": from, "to": to, "except": [] }));
        let news = vec![target, Value::from("news"), Value::from(number as i64), bytes.clone()];
        clients[0].emit("send-to", spread(&news)).expect("taken");
        call(&clients[0], "echo-ack", ()).await;
        for (at, client) in clients.iter_mut().enumerate() {
            // Whatever was sent to it before is behind it when this comes.
            client.emit("echo", "end").expect("taken");
            let got = up_to(client, "news", "echo").await;
            let want = if reached.contains(&at) { vec![news[2..].to_vec()] } else { Vec::new() };
            assert_eq!(got, want, "client {at}, case {number}");
        }
    }
    assert_eq!(call(&clients[1], "leave", &one).await, args![json!([two])]);
    assert_eq!(call(&clients[0], "members", &one).await, args![1]);
    // Who leaves the server leaves the rooms.
    let [a, b, c] = clients;
    c.close().await;
    eventually(&b, "members", json!([two]), |members| members == [Value::from(1)]).await;
    a.close().await;
    b.close().await;
}

async fn volatile(world: Arc<World>) {
    let mut client = world.connect("/").await;
    client.emit("volatile", 2_000).expect("taken");
    let numbers: Vec<_> =
        up_to(&mut client, "volatile", "volatile-end").await.iter().filter_map(|args| args[0].as_i64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "no copy, no inversion: {numbers:?}");
    // With nothing on its way, ours leave; in a burst some do, in order, and what is not volatile arrives behind them.
    call(&client, "echo-ack", ()).await;
    let sent = (0..2_000).filter(|n| client.socket().volatile().emit("echo", n).is_ok()).count();
    assert!(sent >= 1);
    client.emit("echo", "end").expect("taken");
    let mut got = Vec::new();
    loop {
        let args = next(&mut client, "echo").await;
        match args[0].as_i64() {
            Some(n) => got.push(n),
            None => break,
        }
    }
    assert_eq!(got.len(), sent, "what was taken arrives");
    assert!(got.is_sorted_by(|a, b| a < b), "in order");
    client.close().await;
}

/// The server closes the connection beneath: the client comes back by itself, with all its namespaces.
async fn kicked(world: Arc<World>) {
    let watcher = world.connect("/").await;
    let (sender, mut reasons) = mpsc::unbounded_channel();
    let builder = world.builder("/").on_disconnect(move |socket, reason| {
        let _ = sender.send(reason);
        let _ = socket.emit("echo", ("buffered while away", Bytes::from(every_byte())));
        std::future::ready(())
    });
    let mut client = connect(builder).await;
    let chat = client.socket().namespace("/chat").connect().await.expect("joined");
    next(&mut client, "hello").await;
    let (first, key) = (client.socket().id(), format!("kicked {}", unique()));
    call(&client, "remember", &key).await;
    client.emit("kick", ()).expect("taken");
    let reason = reasons.recv().await.expect("a reason");
    if world.peer() == Peer::Socketioxide {
        // It cannot close a connection, and puts the socket out of its namespace instead: there is no way back by itself.
        assert_eq!(reason, DisconnectReason::ServerDisconnect);
        assert!(chat.connected() && !client.socket().active());
        client.socket().connect();
    } else {
        assert!(matches!(reason, DisconnectReason::Connection(_)), "{reason}");
        assert_eq!(reason.as_str(), "transport close");
    }
    // The second hello, and with it the second connection.
    next(&mut client, "hello").await;
    assert_eq!(next(&mut client, "echo").await, vec![Value::from("buffered while away"), binary(every_byte())]);
    client.emit("echo", "end").expect("taken");
    assert_eq!(next(&mut client, "echo").await, args!["end"], "exactly once");
    // The same connection, and so the same id.
    assert_eq!(client.socket().id() == first, world.peer() == Peer::Socketioxide);
    assert_eq!(chat.emit_with_ack::<i64>("echo-ack", 1).await, Ok(1));
    let server_says = reason_of(&watcher, &key).await;
    let want = match world.peer() {
        Peer::Python => "server disconnect",
        Peer::Socketioxide => "socket was forcefully disconnected from the namespace",
        _ => "forced close",
    };
    assert_eq!(server_says, want);
    client.close().await;
    watcher.close().await;
}

/// Either side leaves the namespace. Nobody comes back by itself, and both may when asked.
async fn disconnect(world: Arc<World>) {
    let watcher = world.connect("/").await;
    let (client_left, server_left) = match world.peer() {
        Peer::Python => ("client disconnect", "server disconnect"),
        Peer::Socketioxide => (
            "client has manually disconnected the socket from the namespace",
            "socket was forcefully disconnected from the namespace",
        ),
        _ => ("client namespace disconnect", "server namespace disconnect"),
    };
    for (how, want, said) in [
        ("client", DisconnectReason::ClientDisconnect, client_left),
        ("server", DisconnectReason::ServerDisconnect, server_left),
        ("server, all of it", DisconnectReason::ServerDisconnect, server_left),
    ] {
        let client = world.connect("/").await;
        let key = format!("{how} {}", unique());
        call(&client, "remember", &key).await;
        let mut state = client.socket().state();
        if how == "client" {
            client.socket().disconnect();
        } else {
            client.emit("bye", how == "server, all of it").expect("taken");
        }
        let state = state.wait_for(|state| !matches!(state, State::Connected)).await.expect("open").clone();
        assert!(matches!(state, State::Disconnected(reason) if reason == want), "{how}: {state:?}");
        assert_eq!(reason_of(&watcher, &key).await, said, "{how}");
        assert!(!client.socket().connected() && !client.socket().active());
        client.socket().connect();
        client.socket().joined().await.expect("back");
        assert_eq!(call(&client, "echo-ack", "back").await, args!["back"]);
        client.close().await;
    }
    // A client that goes altogether says so.
    let client = world.connect("/").await;
    let key = format!("gone {}", unique());
    call(&client, "remember", &key).await;
    client.close().await;
    assert_eq!(reason_of(&watcher, &key).await, client_left);
    watcher.close().await;
}

async fn big_payload(world: Arc<World>) {
    let mut client = world.connect("/").await;
    // The packet around the value; and over polling base64 costs a third, for the MessagePack parser also of text.
    let based = (LIMIT - 200) * 74 / 100;
    let room = if world.plan.msgpack && world.plan.way != Way::WebSocket { based } else { LIMIT - 200 };
    for n in [1, 125, 126, 65_500, 65_536, room - 1, room] {
        let text = text_gift(n);
        let measured = call(&client, "measure", &text).await;
        assert_eq!(measured, args!["string", n as i64, i64::from(fnv(text.as_bytes()))]);
    }
    let bytes = gift(based);
    let measured = call(&client, "measure", Bytes::from(bytes.clone())).await;
    assert_eq!(measured, args!["binary", based as i64, i64::from(fnv(&bytes))]);
    // The limit is the server's own.
    client.emit("give", ("string", 3 * LIMIT)).expect("taken");
    assert_eq!(next(&mut client, "gift").await, args![text_gift(3 * LIMIT)]);
    client.emit("give", ("binary", 3 * LIMIT)).expect("taken");
    assert_eq!(next(&mut client, "gift").await, vec![binary(gift(3 * LIMIT))]);
    if !world.tells_limit() {
        return client.close().await;
    }
    // More than one body may hold.
    let part = Arc::new(text_gift(30_000));
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let (socket, part) = (client.socket().clone(), Arc::clone(&part));
        asking.spawn(async move {
            let measured = ask(&socket, "measure", &*part).await;
            assert_eq!(measured, Ok(args!["string", 30_000, i64::from(fnv(part.as_bytes()))]));
        });
    }
    finish(asking).await;
    client.close().await;
}

/// What the server does not take is refused here, and hurts nobody.
async fn beyond_limit(world: Arc<World>) {
    let mut client = world.connect("/").await;
    if !world.tells_limit() {
        // Then the server closes the connection on which it comes.
        let mut state = client.socket().state();
        let asked = ask(client.socket(), "measure", text_gift(LIMIT + 1)).await;
        assert_eq!(asked, Err(AckError::Disconnected));
        state.wait_for(|state| matches!(state, State::Connected)).await.expect("open");
        client.emit("echo", "small").expect("taken");
        assert_eq!(next(&mut client, "echo").await, args!["small"]);
        return client.close().await;
    }
    for n in [LIMIT + 1, 20 * LIMIT] {
        let refused = client.emit("measure", text_gift(n));
        assert!(matches!(refused, Err(EmitError::TooLarge { .. })), "{refused:?}");
        let refused = ask(client.socket(), "measure", Bytes::from(gift(n))).await;
        assert!(matches!(refused, Err(AckError::NotSent(_))), "{refused:?}");
    }
    client.emit("echo", "small").expect("taken");
    assert_eq!(next(&mut client, "echo").await, args!["small"]);
    client.close().await;
}

/// Servers that keep sockets for those who come back give them what they have missed; the others say that they do not.
async fn recovery(world: Arc<World>) {
    let keeps = matches!(world.peer(), Peer::Sio4 | Peer::Ours) && !world.plan.eio3;
    let options: &[&str] = if keeps { &["--recovery", "60000"] } else { &[] };
    let server = world.another(options).await;
    let other = connect(world.of(&server, "/")).await;
    let room = format!("recovery {}", unique());
    let (sender, mut lost) = mpsc::unbounded_channel();
    let news = json!({ "from": "server", "to": [&room], "except": [] });
    let builder = world.of(&server, "/").on_disconnect(move |_, _| {
        let _ = sender.send(());
        std::future::ready(())
    });
    let mut client = connect(builder).await;
    call(&client, "join", &room).await;
    other.emit("send-to", (&news, "news", 0)).expect("taken");
    assert_eq!(next(&mut client, "news").await[0], Value::from(0));
    let id = client.socket().id();
    let mut state = client.socket().state();
    state.borrow_and_update();
    client.emit("kick", ()).expect("taken");
    lost.recv().await.expect("it is lost");
    if world.peer() == Peer::Socketioxide {
        client.socket().connect();
    }
    for n in 1..4 {
        other.emit("send-to", (&news, "news", n)).expect("taken");
    }
    call(&other, "echo-ack", ()).await;
    client.socket().joined().await.expect("back");
    assert_eq!(client.socket().recovered(), keeps);
    assert_eq!(client.socket().id() == id, keeps);
    if keeps {
        for n in 1..4 {
            assert_eq!(next(&mut client, "news").await[0], Value::from(n));
        }
    } else {
        // The new socket is in no room.
        assert_eq!(call(&client, "members", &room).await, args![0]);
    }
    client.emit("echo", "end").expect("taken");
    assert!(up_to(&mut client, "news", "echo").await.is_empty(), "nothing twice");
    client.close().await;
    other.close().await;
}

/// Traffic both ways while the transport changes, up to the one where it ends.
async fn transport(world: Arc<World>) {
    let mut client = connect(world.builder("/").query("who", "me & you")).await;
    let (mut sent, mut echoed, mut now) = (0, 0, String::new());
    for _ in 0..5_000 {
        if now == world.end() && sent >= 300 {
            break;
        }
        for _ in 0..5 {
            client.emit("seq", sent).expect("taken");
            sent += 1;
        }
        client.emit("echo", echoed).expect("taken");
        echoed += 1;
        let who = call(&client, "whoami", ()).await.remove(0);
        now = who.get("transport").and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(who.get("who").and_then(Value::as_str), Some("me & you"));
        assert_eq!(who.get("revision").and_then(Value::as_i64), Some(if world.plan.eio3 { 3 } else { 4 }));
    }
    assert_eq!(now, world.end());
    assert_eq!(call(&client, "seq-report", ()).await, args![sent, 0]);
    for n in 0..echoed {
        assert_eq!(next(&mut client, "echo").await, args![n]);
    }
    client.close().await;
}

/// Where there is no WebSocket, polling is next.
async fn fallback(world: Arc<World>) {
    let server = world.another(&["--transports", "polling"]).await;
    let client = connect(world.of(&server, "/")).await;
    let who = call(&client, "whoami", ()).await.remove(0);
    assert_eq!(who.get("transport").and_then(Value::as_str), Some("polling"));
    client.close().await;
}

/// The server notices a disconnection a little later than the client.
async fn reason_of(watcher: &SimpleClient, key: &str) -> String {
    let reason = eventually(watcher, "reason-of", json!([key]), |reason| !reason.is_empty()).await;
    reason[0].as_str().expect("a reason").to_owned()
}

/// Asks until the answer is there.
async fn eventually(
    client: &SimpleClient,
    event: &str,
    args: serde_json::Value,
    wanted: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let args: Vec<Value> = args.as_array().expect("a list").iter().cloned().map(Value::from).collect();
    loop {
        let answer = call(client, event, spread(&args)).await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn finish(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done {
            panic!("{error}");
        }
    }
}

/// Different for every feature that shares a server.
fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
