//! Every refusal, violation and limit is told of once, by its right name, and without secrets.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use socketio::{
    ConnectError, Data, HandlerError, Limits, Namespace, SecurityEvent, SecurityEvents, SecurityKind as Kind, Socket,
    SocketIo,
};
use support::{Client, PATIENCE, Server, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn server() -> Server {
    let mut limits = Limits::default();
    limits.rooms_per_socket = 2;
    limits.max_payload = 10_000;
    limits.max_namespaces = 3;
    let root = Namespace::new("/")
        .use_event(async |Data(word): Data<serde_json::Value>| match word.as_str() {
            Some("forbidden") => Err(HandlerError::new("forbidden", "no").reason("not an admin")),
            Some("odd") => Err(HandlerError::new("odd", "no")),
            Some("broken") => Err(HandlerError::internal(std::fmt::Error)),
            _ => Ok(()),
        })
        .on("number", async |Data(_): Data<i64>| ())
        .on("text", async |Data(_): Data<String>| ())
        .on("rooms", async |socket: Socket, Data(_): Data<i64>| socket.join(["a", "b", "c"]).is_ok());
    let private = Namespace::new("/private").use_(async || {
        let refusal = ConnectError::new("not authorized").code("unauthorized").reason("no token");
        Err::<(), _>(refusal)
    });
    let plain = Namespace::new("/plain").use_(async || Err::<(), _>("no"));
    serve(SocketIo::builder().limits(limits).namespace(root).namespace(private).namespace(plain)).await
}

/// Sends a request that ends its connection, and reads the answer.
async fn request(addr: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let text = head.replacen("HTTP/1.1", &format!("HTTP/1.1\r\nHost: {addr}"), 1);
    let close = if head.contains("Connection:") { "" } else { "Connection: close\r\n" };
    let text = format!("{text}\r\n{length}{close}\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer comes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The one event that came since the last call. What comes behind it is made to come by an event that is known.
#[track_caller]
fn only(events: &mut SecurityEvents, io: &SocketIo, what: &str, kind: Kind, reason: &str) -> SecurityEvent {
    io.security().report(Kind::RateLimited, "the end", |event| event);
    let mut seen = Vec::new();
    while let Some(event) = events.try_next() {
        seen.push(event);
    }
    assert_eq!(seen.pop().expect("it was reported").reason, "the end");
    let [event] = &seen[..] else { panic!("{what}: one event was expected, but there were {seen:?}") };
    assert_eq!((event.kind, &*event.reason), (kind, reason), "{what}");
    assert_eq!(event.address, "127.0.0.1".parse().ok(), "{what}");
    event.clone()
}

#[tokio::test]
async fn a_refused_request_is_told_of_once() {
    let server = server().await;
    let (addr, io) = (server.addr, &server.io);
    let mut events = io.security_events();
    let open = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1";
    for (head, kind, reason) in [
        ("GET /socket.io/?EIO=4&transport=pigeon HTTP/1.1", Kind::RequestRefused, "unknown_transport"),
        (
            "GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA HTTP/1.1",
            Kind::RequestRefused,
            "unknown_sid",
        ),
        ("PUT /socket.io/?EIO=4&transport=polling HTTP/1.1", Kind::RequestRefused, "bad_handshake_method"),
        ("GET /socket.io/?EIO=3&transport=polling HTTP/1.1", Kind::RequestRefused, "unsupported_protocol_version"),
        (&format!("{open}\r\nOrigin: https://evil.example"), Kind::OriginRefused, "origin"),
        (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 7",
            Kind::RequestRefused,
            "websocket_handshake",
        ),
    ] {
        let answer = request(addr, head, "").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{head}: {answer}");
        only(&mut events, io, head, kind, reason);
    }
    let answer = request(addr, open, "").await;
    let sid = answer.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let post = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1");
    request(addr, &post.replace("POST", "DELETE"), "").await;
    only(&mut events, io, "a method of no session", Kind::RequestRefused, "method");
    request(addr, &format!("{post}\r\nContent-Encoding: gzip"), "40").await;
    only(&mut events, io, "a compressed body", Kind::RequestRefused, "compressed_body");
    request(addr, &post, &"4".repeat(20_000)).await;
    only(&mut events, io, "a large body", Kind::LimitReached, "max_payload");
}

#[tokio::test]
async fn a_session_that_breaks_the_rules_is_told_of_once_and_not_by_its_whole_id() {
    let server = server().await;
    let (addr, io) = (server.addr, &server.io);
    let mut events = io.security_events();
    for (joined, message, kind, reason) in [
        (false, "4z", Kind::Violation, "unknown_type"),
        (false, "42/nowhere,[\"x\"]", Kind::Violation, "not_connected"),
        (true, "42[\"connect\"]", Kind::Violation, "reserved_event"),
        (true, "451e9-[\"x\"]", Kind::Violation, "attachment_count"),
        (true, "4511-[\"x\"]", Kind::LimitReached, "too_many_attachments"),
        (true, "x", Kind::Violation, "unknown packet kind"),
    ] {
        let mut client = Client::open(addr).await;
        if joined {
            client.connect("/", "").await;
        }
        let sid = client.sid.clone();
        client.send_raw(message).await;
        client.expect_closed().await;
        // The session's own task tells of its end.
        while io.engine_stats().sessions > 0 {
            tokio::task::yield_now().await;
        }
        let event = only(&mut events, io, message, kind, reason);
        assert_eq!(event.session.as_deref(), Some(&sid[..6]));
        assert!(!event.to_string().contains(&sid) && !event.to_json().contains(&sid), "{event}");
    }
    // A client that goes away, and one that is sent away, are nobody's fault.
    drop(Client::join(addr).await);
    let (mut client, _) = Client::join(addr).await;
    io.disconnect_sockets(true);
    client.expect("1").await;
    client.expect_closed().await;
    while io.engine_stats().sessions > 0 {
        tokio::task::yield_now().await;
    }
    io.security().report(Kind::Invalid, "the end", |event| event);
    assert_eq!(events.next().await.unwrap().reason, "the end");
}

#[tokio::test]
async fn a_refused_client_or_event_is_told_of_once_with_namespace_and_name() {
    let server = server().await;
    let (addr, io) = (server.addr, &server.io);
    let mut events = io.security_events();
    let mut client = Client::open(addr).await;
    for (packet, kind, reason, namespace) in [
        ("0/nowhere,", Kind::ConnectRefused, "invalid_namespace", "/nowhere"),
        ("0/private,{\"token\":\"a secret\"}", Kind::AuthRefused, "no token", "/private"),
        ("0/plain,", Kind::ConnectRefused, "middleware", "/plain"),
    ] {
        client.send(packet).await;
        assert!(client.text().await.starts_with('4'), "{packet}");
        let event = only(&mut events, io, packet, kind, reason);
        assert_eq!(event.namespace.as_deref(), Some(namespace));
        assert!(!format!("{event:?} {}", event.to_json()).contains("secret"));
    }
    client.connect("/", "").await;
    for (packet, kind, reason, subject) in [
        ("21[\"number\",\"seven\"]", Kind::EventRefused, "bad_request", Some("number")),
        ("21[\"text\",\"forbidden\"]", Kind::PolicyDenied, "not an admin", Some("text")),
        ("21[\"text\",\"odd\"]", Kind::EventRefused, "odd", Some("text")),
        ("21[\"rooms\",1]", Kind::LimitReached, "rooms_per_socket", None),
    ] {
        client.send(packet).await;
        assert!(client.text().await.starts_with("31"), "{packet}");
        let event = only(&mut events, io, packet, kind, reason);
        assert_eq!((event.namespace.as_deref(), event.subject.as_deref()), (Some("/"), subject), "{packet}");
    }
    // What fails on the server's side is not the client's doing.
    client.send("21[\"text\",\"broken\"]").await;
    assert!(client.text().await.contains("internal"));
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn a_hook_hears_what_the_stream_hears() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = heard.clone();
    let builder = SocketIo::builder()
        .namespace(Namespace::new("/"))
        .on_security_event(move |event| sink.lock().unwrap().push(event.to_string()));
    let server = serve(builder).await;
    request(server.addr, "GET /socket.io/?EIO=4&transport=pigeon HTTP/1.1", "").await;
    let line = "request_refused address=127.0.0.1 reason=\"unknown_transport\"";
    assert_eq!(*heard.lock().unwrap(), [line]);
    assert_eq!(server.io.security().count(Kind::RequestRefused), 1);
}
