//! The programs in `examples/`: each at most sixty lines, each run against scripted clients that check what it is for.
#![cfg(feature = "testing")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use socketio::testing::{TestClient, TestServer, serve};
use socketio::{AckError, Bytes, SocketIo};
use tokio::net::TcpListener;

macro_rules! programs {
    ($($name:ident $path:literal)*) => {
        /// What is not here is no program for users to read.
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[allow(dead_code)]
            #[path = $path]
            mod $name;
        )*
    };
}

programs! {
    admin_namespace "../examples/admin_namespace.rs"
    axum "../examples/axum.rs"
    chat "../examples/chat.rs"
    dynamic_namespaces "../examples/dynamic_namespaces.rs"
    file_upload "../examples/file_upload.rs"
    graceful_shutdown "../examples/graceful_shutdown.rs"
    live_poll "../examples/live_poll.rs"
    notifications "../examples/notifications.rs"
    presence "../examples/presence.rs"
    private_messaging "../examples/private_messaging.rs"
    rate_limited_chat "../examples/rate_limited_chat.rs"
    recovery "../examples/recovery.rs"
    rooms "../examples/rooms.rs"
    session_auth "../examples/session_auth.rs"
    tested "../examples/tested.rs"
    tic_tac_toe "../examples/tic_tac_toe.rs"
    token_auth "../examples/token_auth.rs"
    tweet_stream "../examples/tweet_stream.rs"
    typed_acks "../examples/typed_acks.rs"
    whiteboard "../examples/whiteboard.rs"
    with_hyper "../examples/with_hyper.rs"
    with_warp "../examples/with_warp.rs"
}

/// Not counted: a protocol of every form of type, and the server of the interoperability suites.
const LONGER: [&str; 2] = ["protocol", "interop_server"];

#[test]
fn every_program_has_at_most_sixty_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| !LONGER.contains(&name.as_str()))
        .collect();
    found.sort();
    assert_eq!(found, PROGRAMS, "every program is in the list above, and has a test below");
    let own = include_str!("programs.rs");
    for name in PROGRAMS {
        let text = std::fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap();
        let lines = text.lines().count();
        println!("{lines:3} {name}");
        assert!(lines <= 60, "{name} has {lines} lines");
        let tested = own.contains(&format!("{name}::")) || ["chat", "tested"].contains(name);
        assert!(tested, "nothing here runs {name}");
    }
    println!("{} programs", PROGRAMS.len());
    assert!(PROGRAMS.len() >= 20);
}

async fn as_user(server: &TestServer, user: &str) -> TestClient {
    server.client().auth(json!({ "user": user })).connect("/").await.unwrap()
}

/// The code of the standard error.
fn code<T: std::fmt::Debug>(answer: Result<T, AckError>) -> String {
    match answer {
        Err(AckError::Refused(error)) => error.code().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn rooms() {
    let server = serve(rooms::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    assert_eq!(ann.emit_with_ack::<usize>("join", "cats").await, Ok(1));
    assert_eq!(bob.emit_with_ack::<usize>("join", "cats").await, Ok(2));
    assert_eq!(ann.next("joined").await.args::<(String, String)>(), ("cats".to_owned(), bob.id()));
    ann.emit("say", ("cats", "miau"));
    assert_eq!(bob.next("said").await.args::<(String, String, String)>(), ("cats".into(), ann.id(), "miau".into()));
    assert_eq!(code(ann.emit_with_ack::<()>("say", ("dogs", "wau")).await), "not_in_room");
    let bobs = bob.id();
    bob.cut();
    assert_eq!(ann.next("left").await.args::<(String, String)>(), ("cats".to_owned(), bobs));
}

#[tokio::test(start_paused = true)]
async fn private_messaging() {
    let server = serve(private_messaging::app());
    let (ann, tab) = (as_user(&server, "ann").await, as_user(&server, "ann").await);
    let bob = as_user(&server, "bob").await;
    ann.emit("private message", ("bob", "psst"));
    let want = json!({ "from": "ann", "to": "bob", "text": "psst" });
    for client in [&bob, &tab] {
        assert_eq!(client.next("private message").await.args::<Value>(), want);
    }
    assert_eq!(ann.waiting(), ["messages"], "the sender knows what it sent");
    let later = as_user(&server, "bob").await;
    assert_eq!(later.next("messages").await.args::<Value>(), json!([want]));
    assert!(server.client().auth(json!({ "user": "" })).connect("/").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn presence() {
    let server = serve(presence::app());
    let ann = as_user(&server, "ann").await;
    let (bob, tab) = (as_user(&server, "bob").await, as_user(&server, "bob").await);
    assert_eq!(tab.next("online").await.args::<Value>(), json!(["ann", "bob"]));
    assert_eq!(ann.next("came").await.args::<String>(), "bob");
    bob.disconnect();
    server.settle().await;
    assert_eq!(ann.waiting(), ["online"], "the second tab is still there, and was no news");
    tab.cut();
    assert_eq!(ann.next("gone").await.args::<String>(), "bob");
}

#[tokio::test(start_paused = true)]
async fn typed_acks() {
    use typed_acks::{Agree, Order, Receipt};
    let order = |dish: &str, count| Order { dish: dish.to_owned(), count };
    let server = serve(typed_acks::app());
    let ann = server.connect("/").await;
    assert_eq!(ann.call(&order("soup", 2)).await, Ok(Receipt { cents: 900 }));
    assert_eq!(code(ann.call(&order("gold", 1)).await), "unknown_dish");
    for (agrees, want) in [(true, Ok(Receipt { cents: 1350 })), (false, Err("too_expensive"))] {
        let large = order("soup", 3);
        let (answer, ()) = tokio::join!(ann.call(&large), async {
            let question = ann.next("agree").await;
            assert_eq!(question.args::<Agree>().cents, 1350);
            question.answer(agrees);
        });
        match want {
            Ok(receipt) => assert_eq!(answer, Ok(receipt)),
            Err(error) => assert_eq!(code(answer), error),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tweet_stream() {
    let server = serve(tweet_stream::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    for word in ["rust", "BIKE"] {
        ann.emit_with_ack::<()>("track", word).await.unwrap();
    }
    assert_eq!(code(bob.emit_with_ack::<()>("track", "two words").await), "bad_word");
    assert_eq!(tweet_stream::publish(server.io(), "cid", "No rust on my bike!"), 1, "once, though two words match");
    assert_eq!(tweet_stream::publish(server.io(), "cid", "Hello"), 0);
    assert_eq!(ann.next("tweet").await.args::<Value>(), json!({ "author": "cid", "text": "No rust on my bike!" }));
    ann.emit_with_ack::<()>("untrack", "bike").await.unwrap();
    assert_eq!(tweet_stream::publish(server.io(), "cid", "my bike"), 0);
}

#[tokio::test(start_paused = true)]
async fn session_auth() {
    let sessions = session_auth::Sessions::default();
    sessions.lock().unwrap().insert("s1".to_owned(), "ann".to_owned());
    let server = serve(session_auth::app(sessions));
    let with = |cookie: &str| server.client().header("cookie", cookie).connect("/");
    assert_eq!(server.client().connect("/").await.unwrap_err().message(), "log in first");
    assert_eq!(with("session=s2").await.unwrap_err().message(), "log in again");
    let (ann, tab) = (with("a=b; session=s1").await.unwrap(), with("session=s1").await.unwrap());
    assert_eq!(ann.emit_with_ack::<String>("whoami", ()).await.as_deref(), Ok("ann"));
    ann.emit("logout", ());
    ann.disconnected().await;
    tab.disconnected().await;
    assert!(with("session=s1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn token_auth() {
    let key = token_auth::Key(7);
    let server = serve(token_auth::app(key.clone()));
    let with = |token: String| server.client().auth(json!({ "token": token })).connect("/");
    let in_seconds = |seconds: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        key.sign(&format!("ann.{}", now + seconds))
    };
    assert_eq!(with(format!("{}x", in_seconds(60))).await.unwrap_err().message(), "bad token");
    assert_eq!(with(key.sign("ann.1")).await.unwrap_err().message(), "token expired");
    let ann = with(in_seconds(600)).await.unwrap();
    assert_eq!(ann.emit_with_ack::<String>("whoami", ()).await.as_deref(), Ok("ann"));
    server.advance(Duration::from_secs(500)).await;
    assert!(ann.connected());
    server.advance(Duration::from_secs(101)).await;
    assert_eq!((ann.connected(), ann.waiting()), (false, vec!["expired".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn whiteboard() {
    let server = serve(whiteboard::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    let line = json!({ "from": [0.0, 0.0], "to": [1.0, 2.0], "color": "red" });
    ann.emit("draw", &line);
    assert_eq!(bob.next("draw").await.args::<Value>(), line);
    ann.emit("pointer", (0.5, 0.25));
    assert_eq!(bob.next("pointer").await.args::<(String, f32, f32)>(), (ann.id(), 0.5, 0.25));
    let late = server.connect("/").await;
    assert_eq!(late.next("board").await.args::<Value>(), json!([line]));
    bob.emit("clear", ());
    assert_eq!(late.next("board").await.args::<Value>(), json!([]));
}

#[tokio::test(start_paused = true)]
async fn notifications() {
    let server = serve(notifications::app());
    let tabs = [as_user(&server, "ann").await, as_user(&server, "ann").await, as_user(&server, "ann").await];
    let bob = as_user(&server, "bob").await;
    let (outcome, ()) = tokio::join!(notifications::notify(server.io(), "ann", "hi"), async {
        tabs[0].next("note").await.answer(true);
        tabs[1].next("note").await.answer(false);
    });
    assert_eq!(outcome, notifications::Outcome { seen: 1, closed: 1, no_answer: 1 });
    assert!(bob.waiting().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tic_tac_toe() {
    let server = serve(tic_tac_toe::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    assert_eq!(ann.next("start").await.args::<char>(), 'X');
    assert_eq!(bob.next("start").await.args::<char>(), 'O');
    let play = async |client: &TestClient, cell: usize| client.emit_with_ack::<()>("play", cell).await;
    assert_eq!(code(play(&bob, 0).await), "illegal", "X begins");
    for (client, cell) in [(&ann, 0), (&bob, 3), (&ann, 1), (&bob, 4)] {
        assert_eq!(play(client, cell).await, Ok(()));
    }
    assert_eq!(code(play(&ann, 4).await), "illegal", "taken");
    assert_eq!(code(play(&ann, 9).await), "illegal", "off the board");
    assert_eq!(play(&ann, 2).await, Ok(()));
    assert_eq!(bob.next("over").await.args::<char>(), 'X');
    assert_eq!(code(play(&bob, 5).await), "illegal", "it is over");
}

#[tokio::test(start_paused = true)]
async fn file_upload() {
    let server = serve(file_upload::app());
    let ann = server.connect("/").await;
    let begin = json!({ "name": "a.bin", "size": 5 });
    let (id, from) = ann.emit_with_ack::<(String, usize)>("begin", &begin).await.unwrap();
    assert_eq!(from, 0);
    let chunk = async |from: usize, bytes: &'static [u8]| {
        ann.emit_with_ack::<usize>("chunk", (&id, from, Bytes::from_static(bytes))).await
    };
    assert_eq!(chunk(0, &[1, 2, 255]).await, Ok(3));
    assert_eq!(code(chunk(0, &[1]).await), "wrong_place");
    assert_eq!(code(chunk(3, &[1, 2, 3]).await), "wrong_place", "more than was announced");
    let again = ann.emit_with_ack::<(String, usize)>("begin", &begin).await.unwrap();
    assert_eq!(again.1, 3, "after a break");
    assert_eq!(chunk(3, &[4, 5]).await, Ok(5));
    assert_eq!(ann.next("stored").await.args::<(String, usize)>(), (id.clone(), 5));
    let huge = json!({ "name": "b", "size": 1 << 30 });
    assert_eq!(code(ann.emit_with_ack::<Value>("begin", huge).await), "too_large");
}

#[tokio::test(start_paused = true)]
async fn live_poll() {
    let server = serve(live_poll::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    let result = async |client: &TestClient| client.next("result").await.args::<BTreeMap<String, usize>>();
    assert_eq!(result(&bob).await["tea"], 0);
    for choice in ["tea", "coffee", "tea"] {
        assert_eq!(ann.emit_with_ack::<()>("vote", choice).await, Ok(()));
    }
    assert_eq!(bob.emit_with_ack::<()>("vote", "water").await, Ok(()));
    assert_eq!(code(ann.emit_with_ack::<()>("vote", "gin").await), "no_such_choice");
    let told = result(&bob).await;
    assert_eq!((told["tea"], told["coffee"], told["water"]), (1, 0, 1), "one vote each, and told once for all of them");
    server.advance(Duration::from_secs(1)).await;
    assert!(bob.waiting().is_empty());
}

#[tokio::test(start_paused = true)]
async fn admin_namespace() {
    let server = serve(admin_namespace::app());
    let ann = server.connect("/").await;
    let refused = ann.also("/admin", json!({ "password": "please" })).await.unwrap_err();
    assert_eq!(refused.message(), "admins only");
    let admin = ann.also("/admin", json!({ "password": "let me in" })).await.unwrap();
    let bob = server.connect("/").await;
    assert_eq!(admin.next("came").await.args::<String>(), bob.id());
    let mut ids = admin.emit_with_ack::<(Vec<String>,)>("list", ()).await.unwrap().0;
    ids.sort();
    let mut want = [ann.id(), bob.id()];
    want.sort();
    assert_eq!(ids, want);
    assert_eq!(admin.emit_with_ack::<usize>("announce", "tea is ready").await, Ok(2));
    assert_eq!(bob.next("announcement").await.args::<String>(), "tea is ready");
    let bobs = bob.id();
    assert_eq!(admin.emit_with_ack::<()>("kick", &bobs).await, Ok(()));
    bob.disconnected().await;
    assert_eq!(admin.next("went").await.args::<String>(), bobs);
    assert_eq!(code(admin.emit_with_ack::<()>("kick", bobs).await), "gone");
}

#[tokio::test(start_paused = true)]
async fn dynamic_namespaces() {
    let server = serve(dynamic_namespaces::app());
    let (ann, bob) = (server.connect("/project/7").await, server.connect("/project/7").await);
    let other = server.connect("/project/8").await;
    assert_eq!(bob.next("welcome").await.args::<(u32, usize)>(), (7, 2));
    ann.emit("edit", "fn main() {}");
    assert_eq!(bob.next("edited").await.args::<String>(), "fn main() {}");
    assert_eq!(other.waiting(), ["welcome"]);
    assert!(server.client().connect("/project/101").await.is_err());
    assert!(server.client().connect("/project/x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn rate_limited_chat() {
    let server = serve(rate_limited_chat::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    for n in 0..5 {
        assert_eq!(ann.emit_with_ack::<()>("say", format!("{n}")).await, Ok(()));
    }
    assert_eq!(code(ann.emit_with_ack::<()>("say", "again").await), "rate_limited");
    assert_eq!(ann.waiting(), ["slow down"]);
    assert_eq!(bob.emit_with_ack::<()>("say", "I may").await, Ok(()));
    server.advance(Duration::from_secs(10)).await;
    assert_eq!(ann.emit_with_ack::<()>("say", "now").await, Ok(()));
    assert_eq!(bob.waiting().len(), 6);
    assert_eq!(bob.next("said").await.args::<Value>(), json!({ "from": ann.id(), "text": "0" }));
}

#[tokio::test(start_paused = true)]
async fn graceful_shutdown() {
    let server = serve(graceful_shutdown::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    let io = server.io().clone();
    ann.send_packet(r#"21["work",300]"#);
    server.settle().await;
    let start = tokio::time::Instant::now();
    graceful_shutdown::shut_down(&io).await;
    assert!(start.elapsed() < Duration::from_secs(10), "nothing had to be cut off");
    ann.disconnected().await;
    bob.disconnected().await;
    assert_eq!(bob.waiting(), ["maintenance"]);
    assert!(server.client().connect("/").await.is_err(), "nobody new comes in");
}

#[tokio::test(start_paused = true)]
async fn recovery() {
    let server = serve(recovery::app());
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    server.settle().await;
    ann.emit("write", "news");
    assert_eq!(bob.next("news").await.args::<String>(), "news");
    assert!(matches!(&bob.sent()[0], socketio::testing::Sent::Text(connect) if connect.contains("\"pid\"")));
    bob.cut();
    server.settle().await;
    assert_eq!(server.io().of("/").away(), 1, "the server waits for its return");
}

/// A program that listens by itself, on a free port; its answer to an event, and to an HTTP request.
async fn over_the_network<F>(io: SocketIo, run: impl FnOnce(SocketIo, TcpListener) -> F, request: &str) -> String
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let running = tokio::spawn(run(io, listener));
    let (mut client, _) = support::Client::join(addr).await;
    client.send(r#"21["echo","hi"]"#).await;
    client.expect(r#"31["hi"]"#).await;
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    running.abort();
    answer
}

#[tokio::test]
async fn with_hyper() {
    let io = with_hyper::app().build().unwrap();
    let answer = over_the_network(io, with_hyper::serve, "GET /page").await;
    assert!(answer.ends_with("there is nothing at /page but Socket.IO\n"), "{answer}");
}

#[tokio::test]
async fn with_warp() {
    let io = with_warp::app().build().unwrap();
    let answer = over_the_network(io.clone(), with_warp::serve, "POST /news/hello").await;
    assert!(answer.ends_with("told 1\n"), "{answer}");
}

#[tokio::test]
async fn axum() {
    let io = axum::app().build().unwrap();
    let run = async |io: SocketIo, listener: TcpListener| {
        let router = axum::router(&io).into_make_service_with_connect_info::<std::net::SocketAddr>();
        ::axum::serve(listener, router).await
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let running = tokio::spawn(run(io, listener));
    let (mut client, _) = support::Client::join(addr).await;
    client.send(r#"21["hit"]"#).await;
    client.expect("31[1]").await;
    client.send(r#"22["divide",1,0]"#).await;
    assert!(client.text().await.contains("1 / 0 has no result"));
    running.abort();
}
