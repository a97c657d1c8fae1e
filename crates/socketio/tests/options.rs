//! Options of the builder as a client meets them, with Node's names and defaults.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{Builder, Cookie, Data, Namespace, Socket, SocketIo, Transport};
use support::{Client, eventually, http, serve};

const TARGET: &str = "/socket.io/?EIO=4&transport=polling";

/// The open packet of a polling client, without its session id.
async fn open(addr: SocketAddr, target: &str) -> (u16, String) {
    let (status, body) = http(addr, "GET", target, "", b"").await;
    let body = String::from_utf8(body).unwrap();
    let rest = body.split_once("\",").map_or("", |(_, rest)| rest).to_owned();
    (status, if rest.is_empty() { body } else { rest })
}

#[tokio::test]
async fn the_open_packet_tells_nodes_defaults_or_what_was_set() {
    let usual = r#""upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    check(|builder| builder, usual).await;
    check(
        |builder| {
            builder
                .ping_interval(Duration::from_millis(1_234))
                .ping_timeout(Duration::from_millis(567))
                .max_http_buffer_size(89)
                .allow_upgrades(false)
        },
        r#""upgrades":[],"pingInterval":1234,"pingTimeout":567,"maxPayload":89}"#,
    )
    .await;
    let polling = r#""upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    check(|builder| builder.transports([Transport::Polling]), polling).await;

    async fn check(change: impl FnOnce(Builder) -> Builder, want: &str) {
        let server = serve(change(SocketIo::builder())).await;
        assert_eq!(open(server.addr, TARGET).await, (200, want.to_owned()));
    }
}

#[tokio::test]
async fn the_path_is_compared_with_and_without_its_slash() {
    check(|builder| builder, &["/socket.io/"], &["/socket.io", "/engine.io/", "/"]).await;
    check(|builder| builder.path("/ws/"), &["/ws/"], &["/ws", "/socket.io/", "/ws/x/"]).await;
    check(|builder| builder.path("/ws").add_trailing_slash(false), &["/ws"], &["/socket.io/", "/wsx"]).await;

    async fn check(change: impl FnOnce(Builder) -> Builder, found: &[&str], missing: &[&str]) {
        let server = serve(change(SocketIo::builder())).await;
        for (paths, status) in [(found, 200), (missing, 404)] {
            for path in paths {
                let got = open(server.addr, &format!("{path}?EIO=4&transport=polling")).await;
                assert_eq!(got.0, status, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_over_max_http_buffer_size_is_refused() {
    let server = serve(SocketIo::builder().max_http_buffer_size(100)).await;
    let (_, body) = http(server.addr, "GET", TARGET, "", b"").await;
    let body = String::from_utf8(body).unwrap();
    let sid = body.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let target = format!("{TARGET}&sid={sid}");
    assert_eq!(http(server.addr, "POST", &target, "", &[b'4'; 101]).await.0, 413);
    assert_eq!(http(server.addr, "POST", &target, "", b"40").await.0, 200);
}

#[tokio::test]
async fn an_initial_packet_follows_the_open_packet() {
    let frame = engineio::Frame::text(b"hello".to_vec(), 0);
    let server = serve(SocketIo::builder().engine(|engine| engine.initial_packet(frame))).await;
    let (status, body) = open(server.addr, TARGET).await;
    assert!(status == 200 && body.ends_with("}\u{1e}4hello"), "{body}");
}

#[tokio::test]
async fn headers_and_cookies_reach_the_client_and_refusals_the_hook() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&refused);
    let builder = SocketIo::builder()
        .cookie(Cookie::default())
        .initial_headers(|headers, _| drop(headers.insert("x-first", "1".parse().unwrap())))
        .headers(|headers, _| drop(headers.insert("x-each", "2".parse().unwrap())))
        .allow_request(|request| {
            let allowed = request.header("x-key") == Some("k");
            async move { if allowed { Ok(()) } else { Err("no key".to_owned()) } }
        })
        .on_refused(move |request| hook.lock().unwrap().push((request.code, request.message.to_owned())));
    let server = serve(builder).await;
    let (status, body) = http(server.addr, "GET", TARGET, "", b"").await;
    assert_eq!((status, &*body), (403, &br#"{"code":4,"message":"no key"}"#[..]));
    assert_eq!(*refused.lock().unwrap(), [(Some(4), "no key".to_owned())]);
    let head = support::head(server.addr, TARGET, "X-Key: k\r\n").await;
    for line in ["x-first: 1", "x-each: 2", "set-cookie: io="] {
        assert!(head.to_lowercase().contains(line), "{line} in {head}");
    }
}

#[tokio::test]
async fn closing_the_server_writes_what_is_queued_and_refuses_newcomers() {
    let left = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&left);
    let namespace =
        Namespace::new("/").on("barrier", async || ()).on_disconnect(move |reason: socketio::DisconnectReason| {
            log.lock().unwrap().push(reason.as_str());
            std::future::ready(())
        });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut reader, _) = Client::join(server.addr).await;
    // This one never reads: only the deadline ends it.
    let (_sleeper, id) = Client::join(server.addr).await;
    let blob = "x".repeat(1 << 20);
    for _ in 0..3 {
        server.io.to(&*id).emit("blob", &blob);
    }
    for n in 0..100 {
        server.io.except(&*id).emit("last words", n);
    }
    let io = server.io.clone();
    let closing = tokio::spawn(async move { io.close_within(Duration::from_millis(300)).await });
    for n in 0..100 {
        reader.expect(&format!(r#"2["last words",{n}]"#)).await;
    }
    reader.expect_closed().await;
    drop(reader);
    closing.await.unwrap();
    eventually("both have left", || left.lock().unwrap().len() == 2).await;
    assert_eq!(*left.lock().unwrap(), ["server shutting down", "server shutting down"]);
    assert_eq!(open(server.addr, TARGET).await.0, 503);
}

#[tokio::test]
async fn sockets_are_found_counted_and_known_by_their_handshake() {
    let namespace =
        Namespace::new("/").on("barrier", async || ()).on("me", async |socket: Socket, Data(id): Data<String>| {
            let handshake = socket.handshake();
            assert_eq!(socket.id().as_str(), id);
            assert!(socket.connected() && socket.namespace().name() == "/" && socket.is_in(&id));
            assert_eq!(socket.io().engine().sessions(), 1);
            assert_eq!(socket.conn().sid().len(), 20);
            assert_eq!(handshake.query("EIO").as_deref(), Some("4"));
            assert_eq!(handshake.auth::<std::collections::HashMap<String, u8>>().unwrap()["a"], 1);
            assert!(handshake.url().starts_with("/socket.io/?") && !handshake.secure() && !handshake.xdomain());
            assert!(handshake.header("HOST").is_some() && handshake.address().unwrap().ip().is_loopback());
            assert_eq!(socket.request().url(), handshake.url());
        });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut client, id) = Client::join_in(server.addr, "/", r#"{"a":1}"#).await;
    client.send(&format!(r#"21["me","{id}"]"#)).await;
    client.expect("31[]").await;
    let root = server.io.of("/");
    assert_eq!((root.len(), root.sockets().len(), server.io.stats().sockets_open), (1, 1, 1));
    assert!(root.socket(&id).is_some() && root.socket("nobody").is_none());
    assert_eq!(root.rooms().len(), 1);
    let socket = root.socket(&id).unwrap();
    client.close().await;
    eventually("it has left", || root.is_empty()).await;
    assert!(!socket.connected() && socket.rooms().is_empty());
    assert!(!socket.emit("late", ()).is_ok() && socket.join("late").is_ok() && socket.rooms().is_empty());
}
