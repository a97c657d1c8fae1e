//! What the options change on the wire: cookies, CORS, hooks, compression, JSONP, short polling, other HTTP stacks.

mod common;

use std::time::Duration;

use common::{Recorder, Seen, World, frame, sid_of};
use engineio::{Cookie, Cors, DeflateOptions, Origins, Server, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// The value of a header of an answer's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test(start_paused = true)]
async fn the_cookie_is_set_on_the_handshake_only() {
    let world = World::new(|builder| builder.cookie(Cookie::default()));
    let mut client = world.connect(1 << 16);
    let open = client.get("EIO=4&transport=polling").await;
    let sid = sid_of(&open.body);
    assert_eq!(header(&open.head, "set-cookie"), Some(&*format!("io={sid}; Path=/; HttpOnly; SameSite=Lax")));
    let post = client.post(&format!("EIO=4&transport=polling&sid={sid}"), "4echo:a").await;
    assert_eq!(header(&post.head, "set-cookie"), None);
}

#[tokio::test(start_paused = true)]
async fn header_hooks_see_the_first_answer_and_every_answer() {
    let world = World::new(|builder| {
        builder
            .initial_headers(|headers, handshake| {
                let host = handshake.header("host").unwrap_or_default().to_owned();
                headers.insert("x-first", host.parse().unwrap());
            })
            .headers(|headers, _| {
                headers.insert("x-each", "yes".parse().unwrap());
            })
    });
    let mut client = world.connect(1 << 16);
    let open = client.get("EIO=4&transport=polling").await;
    assert_eq!((header(&open.head, "x-first"), header(&open.head, "x-each")), (Some("h"), Some("yes")));
    let sid = sid_of(&open.body);
    let post = client.post(&format!("EIO=4&transport=polling&sid={sid}"), "4echo:a").await;
    assert_eq!((header(&post.head, "x-first"), header(&post.head, "x-each")), (None, Some("yes")));
    let socket = world.connect(1 << 16).try_upgrade("EIO=4&transport=websocket").await;
    assert_eq!((header(&socket.head, "x-first"), header(&socket.head, "x-each")), (Some("h"), Some("yes")));
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_origin_is_refused_on_every_transport_unless_it_is_listed() {
    const GET: &str = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n";
    const WS: &str = "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let default = World::new(|builder| builder);
    let listed = World::new(|builder| builder.origins(Origins::same_origin().allow("https://*.x.com")));
    check(&default, GET, "http://h", 200).await;
    check(&default, GET, "https://evil.example", 403).await;
    check(&default, GET, "null", 403).await;
    check(&default, WS, "http://h", 101).await;
    check(&default, WS, "https://evil.example", 403).await;
    check(&listed, WS, "https://a.x.com", 101).await;
    check(&listed, WS, "https://badx.com", 403).await;
    assert_eq!(default.server.stats().origin_refused, 3);

    async fn check(world: &World, request: &str, origin: &str, status: u16) {
        let mut client = world.connect(1 << 16);
        client.raw(format!("{request}Origin: {origin}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.status, status, "{origin}");
    }
}

#[tokio::test(start_paused = true)]
async fn cors_answers_preflights_and_marks_answers() {
    let world = World::new(|builder| builder.cors(Cors::allow("https://app.x.com").credentials(true)));
    let mut client = world.connect(1 << 16);
    client
        .raw(
            b"OPTIONS /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\nOrigin: https://app.x.com\r\n\
              Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-token\r\n\r\n",
        )
        .await;
    let preflight = client.answer().await;
    assert_eq!(preflight.status, 204);
    assert_eq!(header(&preflight.head, "access-control-allow-origin"), Some("https://app.x.com"));
    assert_eq!(header(&preflight.head, "access-control-allow-headers"), Some("x-token"));
    client
        .raw(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\nOrigin: https://app.x.com\r\n\r\n")
        .await;
    let open = client.answer().await;
    assert_eq!(open.status, 200);
    assert_eq!(header(&open.head, "access-control-allow-origin"), Some("https://app.x.com"));
    assert_eq!(header(&open.head, "access-control-allow-credentials"), Some("true"));
    client
        .raw(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\nOrigin: https://evil.example\r\n\r\n")
        .await;
    let evil = client.answer().await;
    assert_eq!((evil.status, header(&evil.head, "access-control-allow-origin")), (403, None));
}

#[tokio::test(start_paused = true)]
async fn large_polling_answers_are_compressed_for_clients_that_take_it() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let large = "x".repeat(5_000);
    world.seen.session().send([frame(&large)]).unwrap();
    let mut client = world.connect(1 << 16);
    let request = format!(
        "GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Connection: close\r\n\r\n"
    );
    client.raw(request.as_bytes()).await;
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).await.unwrap();
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    assert_eq!(header(&head, "content-encoding"), Some("gzip"), "{head}");
    assert!(header(&head, "vary").is_some_and(|vary| vary.contains("Accept-Encoding")));
    let mut body = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[at..]), &mut body).unwrap();
    assert_eq!(body, format!("4{large}"));

    // Short ones are not, and not those that ask to be left alone.
    let query = format!("EIO=4&transport=polling&sid={sid}");
    world.seen.session().send([frame("short")]).unwrap();
    let answer = world.connect(1 << 16).get(&query).await;
    assert_eq!(header(&answer.head, "content-encoding"), None);
    let mut plain = frame(&large);
    plain.compress = false;
    world.seen.session().send([plain]).unwrap();
    let mut client = world.connect(1 << 16);
    client
        .raw(format!("GET /engine.io/?{query} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n").as_bytes())
        .await;
    let answer = client.answer().await;
    assert_eq!((header(&answer.head, "content-encoding"), answer.body.len()), (None, 5_001));
}

#[tokio::test(start_paused = true)]
async fn jsonp_clients_get_scripts_and_post_forms() {
    let world = World::new(|builder| builder);
    let mut client = world.connect(1 << 16);
    let open = client.get("EIO=4&transport=polling&j=7").await;
    assert!(open.body.starts_with("/**/___eio[7](\"0{\\\"sid\\\":\\\""), "{}", open.body);
    assert_eq!(header(&open.head, "content-type"), Some("text/javascript; charset=UTF-8"));
    assert_eq!(header(&open.head, "x-content-type-options"), Some("nosniff"));
    let sid = sid_of(&open.body.replace('\\', ""));
    let query = format!("EIO=4&transport=polling&j=7&sid={sid}");
    let post = client.post(&query, "d=4echo%3Aa%5C%5Cnb").await;
    assert_eq!((post.status, post.body.as_str()), (200, "ok"));
    assert_eq!(client.get(&query).await.body, r#"/**/___eio[7]("4a\\nb");"#);
}

#[tokio::test(start_paused = true)]
async fn engine_io_3_is_served_when_it_is_asked_for() {
    let world = World::new(|builder| builder);
    assert_eq!(
        world.connect(1 << 16).get("EIO=3&transport=polling").await.body,
        r#"{"code":5,"message":"Unsupported protocol version"}"#
    );
    let world = World::new(|builder| builder.allow_eio3(true));
    let mut client = world.connect(1 << 16);
    let open = client.get("EIO=3&transport=polling&b64=1").await;
    let (length, packet) = open.body.split_once(':').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), packet.encode_utf16().count());
    let query = format!("EIO=3&transport=polling&b64=1&sid={}", sid_of(packet));
    assert_eq!(client.post(&query, "9:4echo:😀é1:2").await.body, "ok");
    assert_eq!(client.get(&query).await.body, "4:4😀é1:3");
}

#[tokio::test(start_paused = true)]
async fn a_short_poll_is_answered_at_once() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let start = Instant::now();
    let mut client = world.connect(1 << 16);
    let query = format!("EIO=4&transport=polling&sid={sid}&hold=0");
    assert_eq!(client.get(&query).await.body, "6");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(client.get(&query).await.body, "6");
    assert_eq!(start.elapsed().as_millis(), 100, "empty answers are at least 100 ms apart");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_short_polls_holds_stock_clients_for_a_second() {
    let world = World::new(|builder| builder.poll_hold(Some(Duration::ZERO)));
    let sid = world.open().await;
    let start = Instant::now();
    let answer = world.connect(1 << 16).get(&format!("EIO=4&transport=polling&sid={sid}")).await;
    assert_eq!((answer.body.as_str(), start.elapsed().as_millis()), ("6", 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_not_allowed_is_neither_served_nor_offered() {
    let polling = World::new(|builder| builder.transports([Transport::Polling]));
    let open = polling.connect(1 << 16).get("EIO=4&transport=polling").await;
    assert!(open.body.contains(r#""upgrades":[]"#), "{}", open.body);
    let refused = polling.connect(1 << 16).try_upgrade("EIO=4&transport=websocket").await;
    assert_eq!((refused.status, refused.body.as_str()), (400, "Transport unknown"));
    let without = World::new(|builder| builder.allow_upgrades(false));
    let open = without.connect(1 << 16).get("EIO=4&transport=polling").await;
    assert!(open.body.contains(r#""upgrades":[]"#), "{}", open.body);
}

#[tokio::test(start_paused = true)]
async fn a_loopback_server_answers_only_to_its_own_names() {
    let world = World::new(|builder| builder.loopback_hosts_only(true));
    for (host, status) in [("localhost:3000", 200), ("127.0.0.1", 200), ("attacker.test", 421)] {
        let mut client = world.connect(1 << 16);
        client
            .raw(format!("GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .await;
        assert_eq!(client.answer().await.status, status, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn long_websocket_messages_are_compressed_when_both_sides_agree() {
    let world = World::new(|builder| builder.per_message_deflate(DeflateOptions::default()));
    let mut client = world.connect(1 << 16);
    client
        .raw(
            b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert!(header(&answer.head, "sec-websocket-extensions").is_some_and(|value| value.contains("permessage-deflate")));
    assert!(client.text().await.starts_with("0{"));
    client.send(&format!("4echo:{}", "y".repeat(10_000))).await;
    let (opcode, payload) = client.frame().await.unwrap();
    assert_eq!(opcode, 1);
    assert!(payload.len() < 200, "{} bytes", payload.len());
    let mut out = Vec::new();
    let mut inflate = flate2::Decompress::new(false);
    let tail = [payload, vec![0, 0, 0xff, 0xff]].concat();
    out.reserve(20_000);
    inflate.decompress_vec(&tail, &mut out, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(out, format!("4{}", "y".repeat(10_000)).into_bytes());
    assert_eq!(world.seen.take_messages().len(), 1);
}

/// One handshake, one echo over WebSocket and one over polling, against a server on a real socket.
async fn exercise(address: std::net::SocketAddr) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket
        .write_all(
            b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    socket.write_all(&common::masked(1, b"4echo:over a real socket")).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("4over a real socket") {
        let read = socket.read_buf(&mut seen).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
    assert!(String::from_utf8_lossy(&seen).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455");
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hi") || answer.starts_with("HTTP/1.1 404"), "{answer}");
}

fn server() -> Server<Recorder> {
    Server::<Recorder>::builder().build(Recorder(std::sync::Arc::new(Seen::default()))).unwrap()
}

#[tokio::test]
async fn it_listens_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server();
    let serving = tokio::spawn(async move { server.serve(listener, engineio::NotFound).await });
    exercise(address).await;
    serving.abort();
}

#[tokio::test]
async fn it_is_a_layer_under_axum() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/hello", axum::routing::get(|| async { "hi" })).layer(server().layer());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    exercise(address).await;
    serving.abort();
}

#[tokio::test]
async fn it_is_a_service_under_axum() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app =
        axum::Router::new().route("/hello", axum::routing::get(|| async { "hi" })).fallback_service(server().service());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    exercise(address).await;
    serving.abort();
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_poll_answer_is_cut_off() {
    let seen = std::sync::Arc::new(Seen::default());
    let mut limits = engineio::Limits::default();
    limits.write_timeout = Duration::from_millis(200);
    let server = Server::<Recorder>::builder().limits(limits).build(Recorder(seen.clone())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listening = server.clone();
    let serving = tokio::spawn(async move { listening.serve(listener, engineio::NotFound).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut open = Vec::new();
    while !open.ends_with(b"}") {
        client.read_buf(&mut open).await.unwrap();
    }
    const SIZE: usize = 64 << 20;
    while seen.sessions.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    seen.session().send([frame(&"x".repeat(SIZE))]).unwrap();
    let sid = sid_of(&String::from_utf8_lossy(&open));
    let request = format!("GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let given_up = async {
        while server.stats().stalled_writes == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("the server gives up");
    let mut rest = Vec::new();
    let end = client.read_to_end(&mut rest).await;
    assert!(rest.len() < SIZE, "{} bytes and then {end:?}", rest.len());
    serving.abort();
}
