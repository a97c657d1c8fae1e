//! The one hook that sees everything that goes wrong.

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Serialize, Serializer};
use socketio::{Data, Fault, HandlerError, Limits, Namespace, Socket, SocketIo};
use support::{Client, eventually, http, serve};

/// Nothing can be made of it.
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("as it should"))
    }
}

#[tokio::test]
async fn one_hook_sees_everything_that_goes_wrong() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&seen);
    let mut limits = Limits::default();
    limits.handler_stall = Duration::from_millis(50);
    limits.disconnect_wait = Duration::from_millis(10);
    let namespace = Namespace::new("/")
        .on("barrier", async || ())
        .on("number", async |Data(number): Data<u8>| number)
        .on("sold out", async || Err::<u8, _>(HandlerError::new("sold_out", "no tea")))
        .on("fine", async || Ok::<_, HandlerError>("error"))
        .on("bug", async || -> Result<u8, HandlerError> { Ok("x".parse::<u8>()?) })
        .on("reply", async || Unserializable)
        .on("emit", async |socket: Socket| {
            assert!(!socket.emit("x", Unserializable).is_ok());
        })
        .on("panic", async || -> () { panic!("a test wants this") })
        .on("forever", async || std::future::pending::<()>().await);
    let closed = Namespace::new("/closed").use_(async || Err("closed on mondays"));
    let builder = SocketIo::builder().namespace(namespace).namespace(closed).limits(limits);
    let server = serve(builder.ping_interval(Duration::from_secs(3600)).on_fault(move |fault: &Fault<'_>| {
        hook.lock().unwrap().push((fault.kind(), fault.to_string()));
        // A hook that panics costs nobody anything.
        assert!(fault.kind() != "connect_refused", "a test wants this");
    }))
    .await;
    let kinds = || seen.lock().unwrap().iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>();

    assert_eq!(http(server.addr, "GET", "/socket.io/?EIO=4&transport=pigeon", "", b"").await.0, 400);
    let (mut client, _) = Client::join(server.addr).await;
    for name in ["/closed", "/nowhere"] {
        client.send(&format!("0{name},")).await;
        client.text().await;
    }
    for event in [r#"21["number","x"]"#, r#"21["sold out"]"#, r#"21["bug"]"#, r#"21["reply"]"#, r#"21["emit"]"#] {
        client.send(event).await;
        client.text().await;
    }
    // No fault, though it says so.
    client.send(r#"21["fine"]"#).await;
    client.expect(r#"31["error"]"#).await;
    client.send(r#"2["sold out"]"#).await;
    client.barrier().await;
    client.send(r#"2["panic"]"#).await;
    client.expect_closed().await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send("9").await;
    client.expect_closed().await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_raw("x").await;
    client.expect_closed().await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"2["forever"]"#).await;
    client.close().await;
    eventually("the handler is given up", || kinds().contains("handler_abandoned")).await;
    eventually("all is seen", || kinds().len() == 10).await;

    let seen = seen.lock().unwrap();
    let of = |kind| seen.iter().filter(|(other, _)| *other == kind).map(|(_, line)| line.as_str()).collect::<Vec<_>>();
    assert_eq!(of("request_refused"), ["a request was refused: Transport unknown"]);
    assert_eq!(
        of("connect_refused"),
        [
            r#"a client was refused the namespace "/closed": closed on mondays"#,
            r#"a client was refused the namespace "/nowhere": Invalid namespace"#
        ]
    );
    let refused = of("event_refused");
    assert!(
        refused.len() == 1 && refused[0].starts_with(r#"the event "number" was refused: bad_request"#),
        "{refused:?}"
    );
    let answered =
        ["sold_out: no tea", "internal: internal error"].map(|e| format!("a handler answered with an error: {e}"));
    assert_eq!(of("error_answered"), answered);
    let internal = of("internal");
    assert!(internal[0].starts_with("a handler failed: invalid digit"), "{internal:?}");
    assert!(internal[0].contains("faults.rs:"), "{internal:?}");
    assert_eq!(of("not_encodable").len(), 2);
    assert_eq!(of("handler_panicked"), ["a handler panicked: a test wants this"]);
    assert_eq!(of("violation").len(), 1);
    assert_eq!(of("connection_failed").len(), 1);
    assert!(of("connection_failed")[0].starts_with("a connection failed: parse error, "));
    assert_eq!(of("handler_abandoned").len(), 1);
}

#[tokio::test]
async fn refused_requests_reach_their_own_hook_too() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&seen), Arc::clone(&seen));
    let builder = SocketIo::builder()
        .on_refused(move |refused| {
            first.lock().unwrap().push(format!("{} {:?} {}", refused.status, refused.code, refused.message))
        })
        .on_fault(move |fault| match fault {
            // Of the other test: these know no server.
            Fault::Internal { .. } => {}
            fault => second.lock().unwrap().push(fault.kind().to_owned()),
        });
    let server = serve(builder).await;
    let target = "/socket.io/?EIO=4&transport=polling";
    assert_eq!(http(server.addr, "GET", &format!("{target}&sid=x"), "", b"").await.0, 400);
    assert_eq!(*seen.lock().unwrap(), ["400 Some(1) Session ID unknown", "request_refused"]);
    // Those that are none of the protocol's own errors too.
    seen.lock().unwrap().clear();
    let (status, _) = http(server.addr, "PUT", target, "", b"").await;
    let (_, body) = http(server.addr, "GET", target, "", b"").await;
    let body = String::from_utf8(body).unwrap();
    let sid = body.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let target = format!("{target}&sid={sid}");
    assert_eq!(http(server.addr, "POST", &target, "Content-Encoding: gzip\r\n", b"4x").await.0, 415);
    server.io.close_within(Duration::from_millis(50)).await;
    assert_eq!(http(server.addr, "GET", "/socket.io/?EIO=4&transport=polling", "", b"").await.0, 503);
    let lines: Vec<String> =
        seen.lock().unwrap().iter().filter(|line| !line.contains("request_refused")).cloned().collect();
    assert_eq!(
        lines,
        [
            format!("{status} Some(2) Bad handshake method"),
            "415 None Unsupported Media Type".into(),
            "503 None Service Unavailable".into()
        ]
    );
}
