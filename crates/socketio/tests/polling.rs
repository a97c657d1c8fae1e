//! The same server over long-polling, under axum, and against what goes wrong on networks.

mod support;

use std::time::Duration;

use socketio::{Bytes, Data, DisconnectReason, Limits, Namespace, Socket, SocketIo, State};
use support::{Client, Polling, eventually, http, serve};
use tokio::sync::mpsc;

fn echo() -> Namespace {
    Namespace::new("/")
        .on_connect(async |socket: Socket| {
            socket.emit("hello", socket.id());
        })
        .on("echo", async |socket: Socket, Data(data): Data<Bytes>| {
            socket.emit("echo", data);
        })
        .on("ack", async || "yes")
}

#[tokio::test]
async fn connect_and_the_first_emit_share_a_payload() {
    let server = serve(SocketIo::builder().namespace(echo())).await;
    let client = Polling::open(server.addr, 4).await;
    client.send("40").await;
    let payload = client.text().await;
    let id = server.io.sockets()[0].id().clone();
    assert_eq!(payload, format!("40{{\"sid\":\"{id}\"}}\u{1e}42[\"hello\",\"{id}\"]"));
    client.send("420[\"ack\"]\u{1e}451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID").await;
    let want = "430[\"yes\"]\u{1e}451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID";
    assert_eq!(client.text().await, want);
}

#[tokio::test]
async fn the_id_of_a_socket_is_no_key_to_its_session() {
    let server = serve(SocketIo::builder().namespace(echo())).await;
    let client = Polling::open(server.addr, 4).await;
    client.send("40").await;
    client.text().await;
    let id = server.io.sockets()[0].id().clone();
    assert_ne!(id.as_str(), client.sid);
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={id}");
    for method in ["GET", "POST"] {
        let (status, body) = http(server.addr, method, &target, "", b"").await;
        assert_eq!(status, 400);
        assert_eq!(body, br#"{"code":1,"message":"Session ID unknown"}"#);
    }
    client.send("420[\"ack\"]").await;
    assert_eq!(client.text().await, "430[\"yes\"]");
}

#[tokio::test]
async fn binary_of_2x_clients_arrives_over_polling() {
    let server = serve(SocketIo::builder().namespace(echo()).allow_eio3(true)).await;
    // With `b64` in text, without in the binary form of payloads.
    for (b64, want) in [
        ("&b64=1", b"42:451-[\"echo\",{\"_placeholder\":true,\"num\":0}]6:b4AQID".to_vec()),
        (
            "",
            [&b"\x00\x04\x02\xff451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"[..], b"\x01\x04\xff\x04\x01\x02\x03"]
                .concat(),
        ),
    ] {
        let open = format!("/socket.io/?EIO=3&transport=polling{b64}");
        let (_, body) = http(server.addr, "GET", &open, "", b"").await;
        let body = String::from_utf8_lossy(&body).into_owned();
        let sid = body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let target = format!("{open}&sid={sid}");
        let mut seen = Vec::new();
        while !seen.windows(5).any(|window| window == b"hello") {
            seen.extend(http(server.addr, "GET", &target, "", b"").await.1);
        }
        let event = b"42:451-[\"echo\",{\"_placeholder\":true,\"num\":0}]6:b4AQID";
        assert_eq!(http(server.addr, "POST", &target, "Content-Type: text/plain\r\n", event).await.0, 200);
        let (_, echo) = http(server.addr, "GET", &target, "", b"").await;
        assert_eq!(echo, want, "{}", String::from_utf8_lossy(&echo));
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go_and_holds_nobody_up() {
    let (sender, mut gone) = mpsc::unbounded_channel::<DisconnectReason>();
    let namespace = Namespace::new("/").state(sender).on_disconnect(
        async |State(sender): State<mpsc::UnboundedSender<DisconnectReason>>, reason: DisconnectReason| {
            sender.send(reason).unwrap();
        },
    );
    let mut limits = Limits::default();
    limits.send_queue_bytes = 1 << 20;
    let server = serve(SocketIo::builder().limits(limits).namespace(namespace)).await;
    let (stuck, _) = Client::join(server.addr).await;
    let (mut reader, _) = Client::join(server.addr).await;
    let text = "x".repeat(100_000);
    let mut refused = 0;
    for _ in 0..200 {
        refused += server.io.emit("x", &text).refused();
        reader.text().await;
    }
    assert!(refused > 0);
    assert_eq!(gone.recv().await.unwrap(), DisconnectReason::TransportError);
    eventually("only the reader is left", || server.io.stats().connections_open == 1).await;
    drop(reader);
    tokio::time::timeout(Duration::from_secs(10), server.io.close()).await.expect("nobody is waited for");
    drop(stuck);
}

#[tokio::test]
async fn the_server_is_a_layer_of_an_axum_application() {
    use axum::Router;
    use axum::routing::get;

    let io = SocketIo::builder().namespace(echo()).build().unwrap();
    let app = Router::new().route("/", get(async || "the application")).layer(io.layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    assert_eq!(http(addr, "GET", "/", "", b"").await, (200, b"the application".to_vec()));
    assert_eq!(http(addr, "GET", "/nothing", "", b"").await.0, 404);
    let (mut client, id) = Client::join(addr).await;
    client.expect(&format!(r#"2["hello","{id}"]"#)).await;
    client.send(r#"21["ack"]"#).await;
    client.expect(r#"31["yes"]"#).await;
    // A handle that a handler got reaches the same server.
    assert_eq!(io.of("/").socket(&id).unwrap().io().emit("x", ()).recipients(), 1);
    client.expect(r#"2["x"]"#).await;
    let closed = async {
        client.expect_closed().await;
        drop(client);
    };
    tokio::join!(io.close(), closed);
    serving.abort();
}

#[tokio::test]
async fn what_is_not_to_be_compressed_is_not() {
    let namespace = Namespace::new("/").on("give", async |socket: Socket, Data(compress): Data<bool>| {
        socket.compress(compress).emit("gift", "x".repeat(5_000));
    });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    for compress in [true, false] {
        let client = Polling::open(server.addr, 4).await;
        client.send("40").await;
        client.text().await;
        client.send(&format!("42[\"give\",{compress}]")).await;
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
        let (_, body) = http(server.addr, "GET", &target, "Accept-Encoding: gzip\r\n", b"").await;
        assert_eq!(body.starts_with(&[0x1f, 0x8b]), compress);
    }
}
