//! Our client against our server, over each transport.

mod client_common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client_common::{BOUND, Wire, bytes, client, each_way, over, recovering_server, server};
use serde_json::json;
use socketio_client::{
    AckError, ConnectFailure, DisconnectReason, EmitError, SimpleClient, State, Transport, Value,
    extract::{Data, EventName, State as Kept},
};
use socketio_testkit::{eventually, within};
use tokio::sync::{Notify, mpsc};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn events_go_both_ways_with_any_arguments() {
    let server = server().await;
    each_way(async |way| {
        let mut client = SimpleClient::from_builder(over(client(&server, "/chat"), way)).await.unwrap();
        // Not even the first event is lost.
        let first = client.receive().await.unwrap();
        assert_eq!((first.name(), first.data::<String>().unwrap().as_str()), ("first", "hello"));
        client.emit("echo", (1, "two", json!({"three": [4, null]}))).unwrap();
        let echo = client.receive().await.unwrap();
        assert_eq!(echo.data::<(i32, String, Value)>().unwrap().1, "two");
        assert_eq!(echo.args().len(), 3);
        // Binary anywhere, with the separator of payloads inside, and of no length.
        client.emit("echo", (bytes(b"a\x1eb\x00\xff"), "between", vec![bytes(b""), bytes(b"\x1e")])).unwrap();
        let echo = client.receive().await.unwrap();
        let (a, text, rest): (Bytes, String, Vec<Bytes>) = echo.data().unwrap();
        assert_eq!((&a[..], text.as_str(), rest.len()), (&b"a\x1eb\x00\xff"[..], "between", 2));
        assert_eq!((rest[0].len(), &rest[1][..]), (0, &b"\x1e"[..]));
        client.close().await;
    })
    .await;
    assert!(eventually(5 * SECOND, || server.sessions() == 0).await);
}

#[tokio::test]
async fn acknowledgements_go_both_ways() {
    let server = server().await;
    each_way(async |way| {
        let socket = over(client(&server, "/"), way)
            .state(7_i64)
            .on("question", async |Data(n): Data<i64>, Kept(seven): Kept<i64>| n * seven)
            .connect()
            .await
            .unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        assert_eq!(socket.emit_with_ack::<i64>("ask me", 6).await, Ok(42));
        let blob: (Bytes, u8) = socket.emit_with_ack("give back", (bytes(b"\x1e\x1e"), 9)).await.unwrap();
        assert_eq!((&blob.0[..], blob.1), (&b"\x1e\x1e"[..], 9));
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_failure_of_an_answer_has_its_own_error() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").connect().await.unwrap();
        let timed_out = socket.timeout(Duration::from_millis(20)).emit_with_ack::<()>("silence", ()).await;
        assert_eq!(timed_out, Err(AckError::Timeout));
        let Err(AckError::Refused(error)) = socket.emit_with_ack::<()>("fail", ()).await else { panic!() };
        assert_eq!((error.code(), error.message()), ("no", "not today"));
        assert!(matches!(socket.emit_with_ack::<String>("add", (1, 2)).await, Err(AckError::Decode(_))));
        assert!(matches!(socket.emit_with_ack::<()>("connect", ()).await, Err(AckError::NotSent(_))));
        let (lost, ()) = tokio::join!(socket.emit_with_ack::<()>("silence", ()), async {
            socket.emit("hang up", ());
        });
        assert_eq!(lost, Err(AckError::Disconnected));
    })
    .await;
}

#[tokio::test]
async fn ten_namespaces_share_one_connection() {
    let server = server().await;
    within(BOUND, async {
        let root = client(&server, "/").connect().await.unwrap();
        let mut sockets = Vec::new();
        for n in 0..10 {
            sockets.push(root.namespace(&format!("/room-{n}")).connect().await.unwrap());
        }
        assert_eq!(server.sessions(), 1);
        let ids: std::collections::HashSet<_> = sockets.iter().map(|socket| socket.id().unwrap()).collect();
        assert_eq!(ids.len(), 10);
        for socket in &sockets {
            assert_eq!(socket.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        }
        assert!(matches!(root.namespace("/room-3").connect().await, Err(ConnectFailure::InUse)));
        drop(sockets.remove(3));
        root.namespace("/room-3").connect().await.unwrap();
        drop(sockets);
        assert_eq!(root.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2), "the others have left, the connection stays");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_a_typed_error_and_can_be_tried_again() {
    let server = server().await;
    within(BOUND, async {
        let builder = client(&server, "/admin").auth(json!({"token": "wrong"}));
        let Err(ConnectFailure::Refused(error)) = builder.connect().await else { panic!() };
        assert_eq!(error.message(), "not authorized");
        assert_eq!(error.data_ref().and_then(|data| data.get("code")).and_then(Value::as_i64), Some(4001));
        // The function is asked at every attempt.
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let socket = client(&server, "/admin")
            .auth(move || {
                let token = if counter.fetch_add(1, Ordering::SeqCst) == 0 { "wrong" } else { "secret" };
                async move { json!({"token": token}) }
            })
            .connect_lazy()
            .unwrap();
        assert!(matches!(socket.joined().await, Err(ConnectFailure::Refused(_))));
        assert!(!socket.active());
        socket.connect();
        socket.joined().await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(matches!(client(&server, "/nowhere").connect().await, Err(ConnectFailure::Refused(_))));
        let failing = client(&server, "/admin").auth(async || Err::<(), _>("no token today"));
        let Err(ConnectFailure::Auth(error)) = failing.connect().await else { panic!() };
        assert_eq!(error, "no token today");
    })
    .await;
}

#[tokio::test]
async fn sixty_four_answers_out_of_order_find_their_questions() {
    let server = server().await;
    each_way(async |way| {
        let socket = over(client(&server, "/later"), way).connect().await.unwrap();
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..64_i64 {
            let socket = socket.clone();
            asked.spawn(async move { (n, socket.emit_with_ack::<i64>("later", n).await.unwrap()) });
        }
        while let Some(answered) = asked.join_next().await {
            let (n, double) = answered.unwrap();
            assert_eq!(double, n * 2);
        }
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_handler_slows_only_its_own_socket() {
    let builder =
        client_common::builder().ping_interval(Duration::from_millis(50)).ping_timeout(Duration::from_millis(200));
    let server = socketio_testkit::serve(builder).await.unwrap();
    within(BOUND, async {
        let gate = Arc::new(Notify::new());
        let waits = Arc::clone(&gate);
        let (order, mut seen) = mpsc::unbounded_channel();
        let slow = client(&server, "/chat")
            .on("echo", move |Data(n): Data<i32>| {
                let (waits, order) = (Arc::clone(&waits), order.clone());
                async move {
                    if n == 0 {
                        waits.notified().await;
                    }
                    order.send(n).unwrap();
                }
            })
            .connect()
            .await
            .unwrap();
        let quick = slow.namespace("/").connect().await.unwrap();
        for n in 0..3 {
            slow.emit("echo", n);
        }
        // Many heartbeats long the handler waits; its own acks and the other socket go on.
        for _ in 0..10 {
            assert_eq!(quick.emit_with_ack::<i64>("add", (1, 2)).await, Ok(3));
            assert_eq!(slow.emit_with_ack::<i64>("add", (1, 2)).await, Ok(3));
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert!(slow.connected() && seen.try_recv().is_err());
        gate.notify_one();
        assert_eq!([seen.recv().await, seen.recv().await, seen.recv().await], [Some(0), Some(1), Some(2)]);
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_without_a_connection_is_kept_and_can_be_looked_at() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").buffer(3, 1 << 20).connect_lazy().unwrap();
        // Nothing has run yet: this test is one thread.
        socket.emit("echo", "kept");
        let dropped = socket.volatile().emit("echo", "dropped").result();
        assert_eq!(dropped, Err(EmitError::Dropped));
        let sum = socket.emit_with_ack::<i64>("add", (20, 22));
        let mut sum = std::pin::pin!(sum);
        std::future::poll_fn(|cx| {
            assert!(sum.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        socket.emit("echo", "too");
        assert_eq!(socket.emit("echo", "full").error(), Some(&EmitError::Full));
        let names: Vec<_> = socket.buffered().into_iter().map(|event| event.event).collect();
        assert_eq!(names, ["echo", "add", "echo"]);
        let mut events = socket.events();
        assert_eq!(sum.await, Ok(42));
        assert!(socket.buffered().is_empty());
        assert_eq!(events.next().await.unwrap().name(), "first");
        for want in ["kept", "too"] {
            assert_eq!(events.next().await.unwrap().data::<String>().unwrap(), want);
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let server = server().await;
    each_way(async |way| {
        let wire = Wire::default();
        let (sender, mut told) = mpsc::unbounded_channel();
        let (joins, leaves) = (sender.clone(), sender);
        let socket = wire
            .through(over(client(&server, "/"), way))
            .on_connect(move |_| {
                joins.send("connect".to_owned()).unwrap();
                async {}
            })
            .on_disconnect(move |_, reason| {
                leaves.send(reason.to_string()).unwrap();
                async {}
            })
            .connect()
            .await
            .unwrap();
        let first = socket.id();
        assert_eq!(socket.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        let mut state = socket.state();
        wire.cut();
        state.wait_for(|state| matches!(state, State::Reconnecting(_))).await.unwrap();
        state.wait_for(|state| matches!(state, State::Connected)).await.unwrap();
        assert_ne!(socket.id(), first);
        assert_eq!(socket.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        assert_eq!(told.recv().await.unwrap(), "connect");
        let reason = told.recv().await.unwrap();
        assert!(["transport close", "transport error"].contains(&reason.as_str()), "{reason}");
        assert_eq!(told.recv().await.unwrap(), "connect");
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_servers_disconnection_is_final_and_its_hanging_up_is_not() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").connect().await.unwrap();
        let mut state = socket.state();
        socket.emit("hang up", ());
        state.wait_for(|state| matches!(state, State::Reconnecting(_))).await.unwrap();
        socket.joined().await.unwrap();
        socket.emit("put me out", ());
        socket.closed().await;
        assert!(matches!(*socket.state().borrow(), State::Disconnected(DisconnectReason::ServerDisconnect)));
        assert!(!socket.active());
        socket.connect();
        socket.joined().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_missed_is_recovered_once_and_in_order() {
    let server = recovering_server().await;
    each_way(async |way| {
        let wire = Wire::default();
        let mut client = SimpleClient::from_builder(wire.through(over(client(&server, "/chat"), way))).await.unwrap();
        assert_eq!(client.receive().await.unwrap().name(), "first");
        let id = client.socket().id();
        let io = server.io.clone();
        for n in 0..3 {
            io.of("/chat").emit("n", n);
        }
        for n in 0..3 {
            assert_eq!(client.receive().await.unwrap().data::<i32>().unwrap(), n);
        }
        let mut state = client.socket().state();
        wire.cut();
        for n in 3..6 {
            io.of("/chat").emit("n", n);
        }
        state.wait_for(|state| matches!(state, State::Reconnecting(_))).await.unwrap();
        for n in 6..9 {
            io.of("/chat").emit("n", n);
        }
        let mut n = 3;
        while n < 9 {
            let event = client.receive().await.unwrap();
            // The connect handler says it again.
            if event.name() == "n" {
                assert_eq!(event.data::<i32>().unwrap(), n);
                n += 1;
            }
        }
        assert!(client.socket().recovered());
        assert_eq!(client.socket().id(), id);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn dropping_the_last_handle_disconnects() {
    let server = server().await;
    each_way(async |way| {
        let socket = over(client(&server, "/"), way).connect().await.unwrap();
        let other = socket.clone();
        drop(socket);
        assert_eq!(other.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        drop(other);
        assert!(eventually(5 * SECOND, || server.sessions() == 0).await);
    })
    .await;
}

#[tokio::test]
async fn close_returns_when_the_task_and_all_handlers_are_gone() {
    let server = server().await;
    within(BOUND, async {
        let held = Arc::new(());
        let in_handler = Arc::clone(&held);
        let socket = client(&server, "/")
            .on("echo", move || {
                let held = Arc::clone(&in_handler);
                async move {
                    drop(held);
                }
            })
            .connect()
            .await
            .unwrap();
        socket.emit("echo", ());
        assert_eq!(socket.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        socket.close().await;
        assert!(eventually(5 * SECOND, || Arc::strong_count(&held) == 1).await);
    })
    .await;
}

#[tokio::test]
async fn events_with_retries_arrive_at_least_once_and_in_order() {
    let server = server().await;
    within(BOUND, async {
        let wire = Wire::default();
        let builder = wire.through(client(&server, "/")).retries(50).ack_timeout(Duration::from_millis(500));
        let mut client = SimpleClient::from_builder(builder).await.unwrap();
        for n in 0..100 {
            client.emit("emit", ("n", n)).unwrap();
        }
        let mut next = 0;
        while next < 100 {
            let event = client.receive().await.unwrap();
            if event.name() == "n" {
                let n: i32 = event.data().unwrap();
                // What is sent back may be lost with a connection, what is sent may come twice; nothing overtakes.
                assert!(n >= next - 1, "{n} after {next}");
                if n >= next && n % 20 == 10 {
                    wire.cut();
                }
                next = n + 1;
            }
        }
        assert!(eventually(5 * SECOND, || client.socket().buffered().is_empty()).await);
    })
    .await;
}

#[tokio::test]
async fn listeners_hear_everything_both_ways() {
    let server = server().await;
    within(BOUND, async {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let out = sender.clone();
        let socket = client(&server, "/")
            .on_any(move |event, args| sender.send(format!("in {event} {}", args.len())).unwrap())
            .on_any_outgoing(move |event, args| out.send(format!("out {event} {}", args.len())).unwrap())
            .on("echo", async |_: EventName| {})
            .connect()
            .await
            .unwrap();
        assert_eq!(heard.recv().await.unwrap(), "in first 1");
        socket.emit("echo", (1, 2));
        assert_eq!([heard.recv().await.unwrap(), heard.recv().await.unwrap()], ["out echo 2", "in echo 2"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_the_server_would_not_take_is_refused() {
    let server = socketio_testkit::serve(client_common::builder().max_payload(1_000)).await.unwrap();
    each_way(async |way| {
        let socket = over(client(&server, "/"), way).connect().await.unwrap();
        let big = "x".repeat(2_000);
        assert!(matches!(socket.emit("echo", &big).error(), Some(EmitError::TooLarge { limit: 1_000, .. })));
        // Many small ones are cut into several requests.
        for _ in 0..20 {
            assert!(socket.emit("echo", "x".repeat(300)).is_ok());
        }
        assert_eq!(socket.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_first_attempt_that_fails_is_an_error_and_a_lazy_one_goes_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    drop(listener);
    within(BOUND, async {
        let nobody = socketio_client::Client::builder(&url).connect().await.unwrap_err();
        assert!(matches!(nobody, ConnectFailure::Transport(_)));
        // What is written by `println!` and what a `main` that fails writes.
        for words in [nobody.to_string(), format!("{nobody:?}")] {
            assert!(words.contains(&address), "{words}");
        }
        let quick = socketio_client::Client::builder(&url).reconnection_delay(Duration::from_millis(1));
        let socket = quick.reconnection_attempts(3).connect_lazy().unwrap();
        assert!(matches!(socket.joined().await, Err(ConnectFailure::GaveUp)));
        let once = socketio_client::Client::builder(&url).reconnection(false).connect_lazy().unwrap();
        assert!(matches!(once.joined().await, Err(ConnectFailure::Transport(_))));
        assert!(matches!(socketio_client::Client::builder("nonsense").connect().await, Err(ConnectFailure::Option(_))));
    })
    .await;
}

#[tokio::test]
async fn an_old_protocol_is_spoken_when_asked_for() {
    let server = server().await;
    each_way(async |way| {
        let socket = over(client(&server, "/"), way).eio3(true).connect().await.unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        let back: Bytes = socket.emit_with_ack("give back", bytes(b"\x00\x1e")).await.unwrap();
        assert_eq!(&back[..], b"\x00\x1e");
        let chat = socket.namespace("/chat").connect().await.unwrap();
        assert_eq!(chat.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        drop(chat);
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_next_transport_is_tried_when_one_fails() {
    let only_websocket = client_common::builder().transports([Transport::WebSocket]);
    let server = socketio_testkit::serve(only_websocket).await.unwrap();
    within(BOUND, async {
        let Err(ConnectFailure::Transport(error)) = client(&server, "/").connect().await else { panic!() };
        assert!(error.to_string().contains("Transport unknown"), "{error}");
        let socket = client(&server, "/").try_all_transports(true).connect().await.unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
    })
    .await;
}
