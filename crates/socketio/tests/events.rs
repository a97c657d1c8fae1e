//! Events and acknowledgements: order, arguments, errors, backpressure.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{
    Ack, Auth, Bytes, Data, EventName, HandlerError, Limits, Namespace, OwnedArgs, Socket, SocketIo, State, TryData,
    Value,
};
use support::{Client, eventually, serve};
use tokio::sync::{Notify, mpsc, oneshot};

fn root() -> Namespace {
    Namespace::new("/").on("barrier", async || ())
}

fn io(namespace: Namespace) -> socketio::Builder {
    SocketIo::builder().namespace(namespace)
}

#[tokio::test]
async fn what_a_handler_returns_is_the_acknowledgement() {
    let namespace = root()
        .on("nothing", async || ())
        .on("one", async |Data(value): Data<i64>| value + 1)
        .on("two", async |Data((a, b)): Data<(String, i64)>| (b, a))
        .on("array", async || [1, 2])
        .on("ok", async || Ok::<_, HandlerError>("yes"))
        .on("error", async || Err::<(), _>(HandlerError::new("sold_out", "no tea")))
        .on("text error", async || Err::<(), _>("no"))
        .on("binary", async |Data(data): Data<Bytes>| (data.len(), data));
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;

    let cases = [
        (r#"21["nothing"]"#, "31[]"),
        (r#"22["one",41]"#, "32[42]"),
        (r#"23["two","a",1,"more"]"#, r#"33[1,"a"]"#),
        (r#"24["array"]"#, "34[[1,2]]"),
        (r#"25["ok"]"#, r#"35["yes"]"#),
        (r#"26["error"]"#, r#"36[{"error":{"code":"sold_out","message":"no tea"}}]"#),
        (r#"27["text error"]"#, r#"37[{"error":{"code":"error","message":"no"}}]"#),
        (r#"20["one",1]"#, "30[2]"),
    ];
    for (event, answer) in cases {
        client.send(event).await;
        client.expect(answer).await;
    }
    client.send(r#"51-8["binary",{"_placeholder":true,"num":0}]"#).await;
    client.send_binary(&[1, 2, 3]).await;
    client.expect(r#"61-8[3,{"_placeholder":true,"num":0}]"#).await;
    client.expect_binary(&[1, 2, 3]).await;
    // Without an id nothing is answered.
    client.send(r#"2["one",1]"#).await;
    client.barrier().await;
}

#[tokio::test]
async fn an_argument_that_does_not_fit_is_answered_and_reaches_the_hook() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&seen);
    let namespace = root()
        .on("number", async |Data(value): Data<i64>| value)
        .on("try", async |TryData(value): TryData<i64>| value.is_err())
        .on_error(move |_, event, error| hook.lock().unwrap().push(format!("{event} {}", error.error().code())));
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["number","x"]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"31[{"error":{"code":"bad_request","message":""#), "{answer}");
    client.send(r#"22["number"]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"32[{"error":{"code":"bad_request""#), "{answer}");
    client.send(r#"2["number",null]"#).await;
    client.send(r#"23["try","x"]"#).await;
    client.expect("33[true]").await;
    assert_eq!(*seen.lock().unwrap(), ["number bad_request", "number bad_request", "number bad_request"]);
    assert_eq!(server.io.stats().extraction_errors, 3);
}

#[tokio::test]
async fn the_first_handler_that_returns_something_answers() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = |by: usize| {
        let calls = Arc::clone(&calls);
        move || {
            calls.fetch_add(by, Ordering::SeqCst);
            std::future::ready(())
        }
    };
    let namespace = root()
        .on("silent", count(1))
        .on("silent", count(10))
        .on("event", count(100))
        .on("event", async || "first")
        .on("event", async || "second")
        .on_any(count(1_000))
        .fallback(async |EventName(name): EventName| name);
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["event"]"#).await;
    client.expect(r#"31["first"]"#).await;
    client.send(r#"22["silent"]"#).await;
    client.expect("32[]").await;
    client.send(r#"23["unknown"]"#).await;
    client.expect(r#"33["unknown"]"#).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3_111);
}

#[tokio::test]
async fn an_event_that_nobody_handles_is_counted_and_not_answered() {
    let server = serve(io(root().on_any(async || ()))).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["unknown"]"#).await;
    client.send(r#"2["unknown"]"#).await;
    client.barrier().await;
    assert_eq!(server.io.stats().events_unhandled, 2);
}

#[tokio::test]
async fn an_ack_argument_takes_the_acknowledgement_over() {
    let (sender, mut acks) = mpsc::unbounded_channel::<Ack>();
    let namespace =
        root().state(sender).on("later", async |State(sender): State<mpsc::UnboundedSender<Ack>>, ack: Ack| {
            sender.send(ack).unwrap();
            "not this"
        });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["later"]"#).await;
    client.barrier().await;
    acks.recv().await.unwrap().send(("this", 1));
    client.expect(r#"31["this",1]"#).await;
    client.send(r#"2["later"]"#).await;
    client.barrier().await;
    let ack = acks.recv().await.unwrap();
    assert!(!ack.is_awaited());
    ack.send("nobody hears it");
    client.barrier().await;
}

#[tokio::test]
async fn handlers_of_a_socket_can_be_added_and_removed() {
    let namespace = root().on_connect(async |socket: Socket| {
        socket.on("own", async || "own");
        socket.once("once", async || "once");
        let id = socket.on("removed", async || "never");
        assert!(socket.remove(id) && !socket.remove(id));
        socket.on("off", async |socket: Socket| {
            socket.off("own");
        });
        socket.on_any(async |EventName(name): EventName, socket: Socket| {
            socket.emit("any", name);
        });
    });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["own"]"#).await;
    client.expect(r#"2["any","own"]"#).await;
    client.expect(r#"31["own"]"#).await;
    client.send_all(&[r#"22["once"]"#, r#"23["once"]"#, r#"24["removed"]"#, r#"25["off"]"#, r#"26["own"]"#]).await;
    for want in [
        r#"2["any","once"]"#,
        r#"32["once"]"#,
        r#"2["any","once"]"#,
        r#"2["any","removed"]"#,
        r#"2["any","off"]"#,
        "35[]",
        r#"2["any","own"]"#,
    ] {
        client.expect(want).await;
    }
}

#[tokio::test]
async fn events_of_one_socket_stay_in_order_whether_handlers_wait_or_not() {
    const EVENTS: usize = 3_000;
    let namespace = root().on("n", async |socket: Socket, Data(n): Data<usize>| {
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        socket.emit("n", n);
    });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    let events: Vec<String> = (0..EVENTS).map(|n| format!(r#"2["n",{n}]"#)).collect();
    for chunk in events.chunks(500) {
        client.send_all(&chunk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    for n in 0..EVENTS {
        client.expect(&format!(r#"2["n",{n}]"#)).await;
    }
}

#[tokio::test]
async fn a_waiting_handler_pauses_reading_and_loses_nothing() {
    const EVENTS: usize = 5_000;
    let gate = Arc::new(Notify::new());
    let handled = Arc::new(AtomicUsize::new(0));
    let namespace = root()
        .state((Arc::clone(&gate), Arc::clone(&handled)))
        .on("first", async |State((gate, _)): State<(Arc<Notify>, Arc<AtomicUsize>)>| gate.notified().await)
        .on("more", async |State((_, handled)): State<(Arc<Notify>, Arc<AtomicUsize>)>| {
            handled.fetch_add(1, Ordering::SeqCst);
        });
    let mut limits = Limits::default();
    limits.mailbox_events = 16;
    let server = serve(SocketIo::builder().limits(limits).namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"2["first"]"#).await;
    let more = vec![r#"2["more","0123456789012345678901234567890123456789"]"#; EVENTS];
    client.send_all(&more).await;
    eventually("the mailbox is full", || server.io.stats().events_in >= 17).await;
    // What has been read is what fits into the mailbox, and no more is.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.io.stats().events_in, 17);
    assert_eq!(handled.load(Ordering::SeqCst), 0);
    gate.notify_one();
    eventually("all are handled", || handled.load(Ordering::SeqCst) == EVENTS).await;
}

#[tokio::test]
async fn a_handler_that_waits_for_an_answer_of_its_client_gets_it() {
    let namespace = root().on("ask", async |socket: Socket, Data(n): Data<i64>| -> Result<i64, HandlerError> {
        let answer: i64 = socket.emit_with_ack("question", n).await?;
        Ok(answer * 2)
    });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"27["ask",21]"#).await;
    client.send(r#"28["ask",1]"#).await;
    client.expect(r#"20["question",21]"#).await;
    client.send("30[4]").await;
    client.expect("37[8]").await;
    client.expect(r#"21["question",1]"#).await;
    client.send("31[1]").await;
    client.expect("38[2]").await;
}

#[tokio::test]
async fn concurrent_events_overtake_and_ordered_ones_do_not() {
    let gate = Arc::new(Notify::new());
    let namespace = root()
        .state(Arc::clone(&gate))
        .concurrent_event("free", 2)
        .on("free", async |State(gate): State<Arc<Notify>>, Data(wait): Data<bool>| {
            if wait {
                gate.notified().await;
            }
            wait
        })
        .on("ordered", async || "ordered");
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_all(&[r#"21["free",true]"#, r#"22["free",true]"#, r#"23["free",false]"#, r#"24["ordered"]"#]).await;
    // Both places for `free` are taken; another event has its own.
    client.expect(r#"34["ordered"]"#).await;
    gate.notify_one();
    client.expect("31[true]").await;
    client.expect("33[false]").await;
    gate.notify_one();
    client.expect("32[true]").await;
}

#[tokio::test]
async fn a_concurrent_namespace_handles_several_events_of_a_socket_at_once() {
    let gate = Arc::new(Notify::new());
    let namespace = Namespace::new("/").concurrent(3).state(Arc::clone(&gate)).on(
        "event",
        async |State(gate): State<Arc<Notify>>, Data(wait): Data<bool>| {
            if wait {
                gate.notified().await;
            }
        },
    );
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_all(&[r#"21["event",true]"#, r#"22["event",true]"#, r#"23["event",false]"#]).await;
    client.expect("33[]").await;
    gate.notify_waiters();
    client.expect("31[]").await;
    client.expect("32[]").await;
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_and_nothing_else() {
    let (sender, mut gone) = mpsc::unbounded_channel::<(String, String)>();
    let namespace = root()
        .state(sender)
        .on("panic", async |Data(when): Data<String>| -> () {
            if when == "later" {
                tokio::task::yield_now().await;
            }
            panic!("on purpose");
        })
        .on_disconnect(
            async |State(sender): State<mpsc::UnboundedSender<(String, String)>>,
                   socket: Socket,
                   reason: socketio::DisconnectReason| {
                sender.send((socket.id().to_string(), reason.to_string())).unwrap();
            },
        );
    let server = serve(io(namespace)).await;
    let (mut other, _) = Client::join(server.addr).await;
    for when in ["now", "later"] {
        let (mut client, id) = Client::join(server.addr).await;
        client.send_all(&[&format!(r#"2["panic","{when}"]"#), r#"21["barrier"]"#]).await;
        client.expect_closed().await;
        assert_eq!(gone.recv().await.unwrap(), (id, "transport error".to_owned()));
    }
    eventually("nothing is left", || server.io.stats().sockets_open == 1).await;
    assert_eq!(server.io.stats().handler_panics, 2);
    other.barrier().await;
}

#[tokio::test]
async fn answers_of_clients_are_awaited_until_the_timeout() {
    let server = serve(io(root())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();

    let (a, b) = (socket.emit_with_ack::<(i64, String)>("a", ()), socket.emit_with_ack::<Value>("b", ()));
    client.expect(r#"20["a"]"#).await;
    client.expect(r#"21["b"]"#).await;
    client.send_all(&["31[{}]", r#"30[1,"x"]"#, "30[2]", "377[]", "3[]"]).await;
    assert_eq!(a.await.unwrap(), (1, "x".to_owned()));
    assert!(b.await.unwrap().as_map().is_some());

    let refused = socket.emit_with_ack::<i64>("c", ());
    client.expect(r#"22["c"]"#).await;
    client.send(r#"32[{"error":{"code":"no","message":"never"}}]"#).await;
    let socketio::AckError::Refused(error) = refused.await.unwrap_err() else { panic!() };
    assert_eq!(error.code(), "no");

    let late = socket.timeout(Duration::from_millis(5)).emit_with_ack::<i64>("d", ());
    assert_eq!(late.await.unwrap_err(), socketio::AckError::Timeout);
    drop(socket.emit_with_ack::<i64>("e", ()));
    client.expect(r#"23["d"]"#).await;
    client.expect(r#"24["e"]"#).await;
    client.send_all(&["33[1]", "34[1]"]).await;
    client.barrier().await;
    let stats = server.io.stats();
    assert_eq!((stats.acks_timed_out, stats.acks_unknown), (1, 5));
}

#[tokio::test]
async fn an_answer_that_is_awaited_when_the_client_leaves_is_an_error() {
    let server = serve(io(root())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let answer = socket.emit_with_ack::<i64>("question", ());
    client.expect(r#"20["question"]"#).await;
    client.close().await;
    assert_eq!(answer.await.unwrap_err(), socketio::AckError::Disconnected);
    assert_eq!(socket.emit_with_ack::<i64>("more", ()).await.unwrap_err(), socketio::AckError::Disconnected);
    assert!(!socket.emit("more", ()).is_ok());
}

#[tokio::test]
async fn too_many_awaited_answers_are_refused() {
    let mut limits = Limits::default();
    limits.max_pending_acks = 2;
    let server = serve(SocketIo::builder().limits(limits).namespace(root())).await;
    let (_client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let kept = [socket.emit_with_ack::<()>("a", ()), socket.emit_with_ack::<()>("a", ())];
    assert!(!socket.emit_with_ack::<()>("a", ()).is_ok());
    drop(kept);
    assert!(socket.emit_with_ack::<()>("a", ()).is_ok());
}

#[tokio::test]
async fn all_kinds_of_extractors_reach_a_handler() {
    #[derive(serde::Deserialize)]
    struct Who {
        name: String,
    }
    let namespace = root()
        .use_(async |socket: Socket| {
            socket.extensions().insert(7_u8);
            Ok::<_, socketio::ConnectError>(())
        })
        .on(
            "all",
            async |socket: Socket,
                   io: SocketIo,
                   Auth(who): Auth<Who>,
                   seven: socketio::Extension<u8>,
                   args: OwnedArgs| {
                let handshake = socket.handshake();
                let query = handshake.query("who").map(|who| who.into_owned());
                let known = io.of("/").socket(socket.id()) == Some(socket.clone());
                (who.name, *seven, args.len(), query, handshake.address().is_some(), known)
            },
        );
    let server = serve(io(namespace)).await;
    let mut client = Client::open_with(server.addr, 4, "&who=a%20b").await;
    client.connect("/", r#"{"name":"ann"}"#).await;
    client.send(r#"21["all",1,2]"#).await;
    client.expect(r#"31["ann",7,2,"a b",true,true]"#).await;
}

#[derive(socketio::Event, serde::Serialize, serde::Deserialize)]
#[event(name = "say", ack = Said)]
struct Say {
    text: String,
}

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Said {
    id: u64,
}

#[derive(socketio::Event, serde::Serialize, serde::Deserialize)]
#[event(name = "heard")]
struct Heard((u64, String));

#[tokio::test]
async fn typed_events_work_in_both_directions() {
    let namespace = root().on_event(async |socket: Socket, say: Say| -> Result<Said, HandlerError> {
        socket.emit_event(&Heard((1, say.text)));
        Ok(Said { id: 7 })
    });
    let server = serve(io(namespace)).await;
    let (mut client, id) = Client::join(server.addr).await;
    client.send(r#"21["say",{"text":"hi"}]"#).await;
    client.expect(r#"2["heard",1,"hi"]"#).await;
    client.expect(r#"31[{"id":7}]"#).await;
    let said = server.io.of("/").socket(&id).unwrap().call(&Say { text: "you".into() });
    client.expect(r#"20["say",{"text":"you"}]"#).await;
    client.send(r#"30[{"id":9}]"#).await;
    assert_eq!(said.await.unwrap(), Said { id: 9 });
}

#[tokio::test]
async fn a_burst_of_emits_arrives_complete_and_in_order() {
    let namespace = root().on("burst", async |socket: Socket, Data(n): Data<usize>| {
        for i in 0..n {
            assert!(socket.emit("n", i).is_ok());
        }
    });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"2["burst",5000]"#).await;
    for n in 0..5_000 {
        client.expect(&format!(r#"2["n",{n}]"#)).await;
    }
}

#[tokio::test]
async fn reserved_names_are_refused_in_both_directions() {
    let server = serve(io(root())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(matches!(socket.emit("disconnect", ()).error(), Some(socketio::EmitError::Encode(_))));
    assert!(!server.io.emit("connect", ()).is_ok());
    client.send(r#"2["disconnect"]"#).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn an_awaited_emit_waits_while_the_client_does_not_read() {
    let mut limits = Limits::default();
    limits.send_queue_bytes = 1 << 20;
    let server = serve(SocketIo::builder().limits(limits).namespace(root())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let (sender, finished) = oneshot::channel();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    tokio::spawn(async move {
        let text = "x".repeat(64 << 10);
        for _ in 0..1_000 {
            socket.emit("part", &text).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        sender.send(()).unwrap();
    });
    let mut last = usize::MAX;
    while last != sent.load(Ordering::SeqCst) {
        last = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(last < 1_000, "64 MB do not fit into a socket and a queue of 1 MiB");
    for _ in 0..1_000 {
        assert!(client.text().await.starts_with(r#"2["part","xxx"#));
    }
    finished.await.unwrap();
}

/// What one socket has counted: the next number, and how often another one came.
#[derive(Default)]
struct Sequence {
    next: AtomicUsize,
    inversions: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_events_without_one_inversion() {
    const CLIENTS: usize = 4;
    const EVENTS: usize = 250_000;
    let namespace = Namespace::new("/")
        .on_connect(async |socket: Socket| {
            socket.extensions().insert(Sequence::default());
        })
        .on("n", async |sequence: socketio::Extension<Sequence>, Data(n): Data<usize>| {
            if n % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
            if sequence.next.swap(n + 1, Ordering::Relaxed) != n {
                sequence.inversions.fetch_add(1, Ordering::Relaxed);
            }
        })
        .on("report", async |sequence: socketio::Extension<Sequence>| {
            (sequence.next.load(Ordering::Relaxed), sequence.inversions.load(Ordering::Relaxed))
        });
    let server = serve(io(namespace)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let addr = server.addr;
        tasks.spawn(async move {
            let (mut client, _) = Client::join(addr).await;
            for start in (0..EVENTS).step_by(1_000) {
                let events: Vec<String> = (start..start + 1_000).map(|n| format!(r#"2["n",{n}]"#)).collect();
                client.send_all(&events.iter().map(String::as_str).collect::<Vec<_>>()).await;
            }
            client.send(r#"21["report"]"#).await;
            client.expect(&format!("31[{EVENTS},0]")).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
