//! Clients in memory: everything that `socketio::testing` promises, under a paused clock.
#![cfg(feature = "testing")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use socketio::testing::{Sent, serve};
use socketio::{
    AckError, Auth, Bytes, ConnectError, Data, DisconnectReason, Event, Limits, Namespace, Socket, SocketIo, State,
};

const SECOND: Duration = Duration::from_secs(1);

fn chat() -> Namespace {
    Namespace::new("/chat")
        .on_connect(async |socket: Socket| {
            socket.join("lobby");
        })
        .on("message", async |socket: Socket, Data(text): Data<String>| {
            socket.to("lobby").emit("message", (socket.id(), text));
        })
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on("bytes", async |Data(bytes): Data<Bytes>| bytes)
}

#[tokio::test(start_paused = true)]
async fn clients_talk_to_each_other_through_the_server() {
    let server = serve(chat());
    let (ann, bob) = (server.connect("/chat").await, server.connect("/chat").await);
    assert_ne!(ann.id(), bob.id());
    ann.emit("message", "hi");
    let (from, text): (String, String) = bob.next("message").await.args();
    assert_eq!((from, text.as_str()), (ann.id(), "hi"));
    assert_eq!(ann.waiting(), [""; 0], "the sender hears nothing");
    assert_eq!(bob.sent().last(), Some(&Sent::Text(format!(r#"2/chat,["message","{}","hi"]"#, ann.id()))));
    assert_eq!(ann.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
    let bytes = Bytes::from_static(&[0, 1, 255]);
    assert_eq!(ann.emit_with_ack::<Bytes>("bytes", bytes.clone()).await, Ok(bytes));
    let refused = ann.emit_with_ack::<i64>("add", "two").await;
    assert!(matches!(&refused, Err(AckError::Refused(error)) if error.code() == "bad_request"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_is_noticed_at_once_and_a_silent_one_by_the_heartbeat() {
    let (seen, mut reasons) = tokio::sync::mpsc::unbounded_channel::<String>();
    let chat = chat().state(seen).on_disconnect(
        async |reason: DisconnectReason, State(seen): State<tokio::sync::mpsc::UnboundedSender<String>>| {
            let _ = seen.send(reason.to_string());
        },
    );
    let server = serve(chat);
    let (ann, bob) = (server.connect("/chat").await, server.connect("/chat").await);
    assert_eq!(server.sockets("/chat"), 2);
    ann.cut();
    ann.disconnected().await;
    server.settle().await;
    assert_eq!(reasons.recv().await.as_deref(), Some("transport close"));
    bob.stall();
    server.advance(44 * SECOND).await;
    assert_eq!(server.sockets("/chat"), 1, "25 s to the ping and 20 s for the pong");
    server.advance(2 * SECOND).await;
    assert_eq!(server.sockets("/chat"), 0);
    assert_eq!(reasons.recv().await.as_deref(), Some("ping timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays_for_a_day() {
    let server = serve(chat());
    let ann = server.connect("/chat").await;
    server.advance(24 * 60 * 60 * SECOND).await;
    assert!(ann.connected());
    assert_eq!(server.sockets("/chat"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_client_fills_its_queue_and_is_given_up() {
    let mut limits = Limits::default();
    limits.send_queue_bytes = 10_000;
    let server = serve(SocketIo::builder().limits(limits).namespace(chat()));
    let (slow, fast) = (server.connect("/chat").await, server.connect("/chat").await);
    let io = server.io().of("/chat");
    slow.stall();
    io.emit("note", "small");
    server.settle().await;
    assert_eq!((slow.waiting().len(), fast.waiting().len()), (0, 1));
    slow.resume();
    assert_eq!(slow.next("note").await.args::<String>(), "small", "what was sent meanwhile comes then");

    slow.stall();
    for _ in 0..40 {
        io.emit("note", "x".repeat(9_000));
        server.settle().await;
    }
    assert_eq!(server.sockets("/chat"), 1, "the pipe and the queue are full");
    assert_eq!(fast.waiting().len(), 41);
}

#[tokio::test(start_paused = true)]
async fn the_door_is_tested_with_auth_query_and_headers() {
    #[derive(Deserialize)]
    struct Login {
        token: String,
    }
    let guarded = Namespace::new("/").use_(async |Auth(login): Auth<Login>| match login.token.as_str() {
        "good" => Ok(()),
        _ => Err(ConnectError::new("not you").data(7)),
    });
    let server = serve(SocketIo::builder().namespace(guarded).allow_request(|handshake| {
        let open = handshake.query().contains("door=open") && handshake.header("x-door") == Some("open");
        async move { if open { Ok(()) } else { Err("closed".to_owned()) } }
    }));
    let client = || server.client().query("door", "open").header("x-door", "open");
    assert!(
        client()
            .auth([("token", "good")].into_iter().collect::<std::collections::BTreeMap<_, _>>())
            .connect("/")
            .await
            .is_ok()
    );
    let bad = client().auth(Login2 { token: "bad" }).connect("/").await.expect_err("refused");
    assert_eq!((bad.message(), bad.data_ref().and_then(socketio::Value::as_i64)), ("not you", Some(7)));
    let refused = server.client().connect("/").await.expect_err("refused");
    assert!(refused.message().starts_with("403 Forbidden: ") && refused.message().contains("closed"), "{refused}");
    assert!(client().connect("/nowhere").await.expect_err("refused").message().contains("Invalid namespace"));

    #[derive(Serialize)]
    struct Login2 {
        token: &'static str,
    }
}

#[tokio::test(start_paused = true)]
async fn questions_of_the_server_are_answered_or_run_out_of_time() {
    let server = serve(chat());
    let ann = server.connect("/chat").await;
    let io = server.io().clone();
    let asking = tokio::spawn(async move {
        let socket = io.of("/chat").sockets().remove(0);
        let first = socket.emit_with_ack::<(u8, String)>("name", ()).await;
        let second = socket.timeout(5 * SECOND).emit_with_ack::<u8>("age", ()).await;
        (first, second)
    });
    let question = ann.next("name").await;
    assert!(question.is_question());
    question.answer((1, "ann"));
    let (first, second) = asking.await.expect("no panic");
    assert_eq!(first, Ok((1, "ann".to_owned())));
    assert_eq!(second, Err(AckError::Timeout));
    assert_eq!(ann.waiting(), ["age"]);
}

#[tokio::test(start_paused = true)]
async fn packets_are_scripted_right_or_wrong() {
    let server = serve(chat());
    let ann = server.connect("/chat").await;
    ann.send_packet(r#"2/chat,7["add",1,2]"#);
    server.settle().await;
    assert_eq!(ann.sent().last(), Some(&Sent::Text("3/chat,7[3]".to_owned())));
    ann.send_packet("nonsense");
    ann.disconnected().await;
    server.settle().await;
    assert_eq!(server.sockets("/chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_connection_joins_several_namespaces_and_leaves_one() {
    let server = serve(SocketIo::builder().namespace(chat()).namespace(Namespace::new("/news")));
    let chat = server.connect("/chat").await;
    let news = chat.also("/news", ()).await.expect("everybody may join");
    assert_eq!(server.io().engine().sessions(), 1);
    news.disconnect();
    server.settle().await;
    assert_eq!((server.sockets("/chat"), server.sockets("/news")), (1, 0));
    assert_eq!(chat.emit_with_ack::<i64>("add", (1, 1)).await, Ok(2));
    assert_eq!(news.emit_with_ack::<i64>("add", (1, 1)).await, Err(AckError::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn typed_events_go_both_ways() {
    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event(name = "double", ack = u32)]
    struct Double(u32);

    let namespace = Namespace::new("/").on_event(async |socket: Socket, Double(n): Double| {
        socket.emit_event(&Double(n + 1));
        2 * n
    });
    let server = serve(namespace);
    let ann = server.connect("/").await;
    assert_eq!(ann.call(&Double(21)).await, Ok(42));
    assert_eq!(ann.next_event::<Double>().await, Double(22));
    ann.emit_event(&Double(1));
    assert_eq!(ann.next_event::<Double>().await, Double(2));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no event `never`; not taken: [\"other\"]")]
async fn what_does_not_come_is_an_error_that_says_what_came() {
    let server = serve(Namespace::new("/").on_connect(async |socket: Socket| {
        socket.emit("other", 1);
    }));
    server.connect("/").await.next("never").await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_client_cuts_the_link() {
    let server = serve(chat());
    drop(server.connect("/chat").await);
    server.settle().await;
    assert_eq!(server.sockets("/chat"), 0);
}
