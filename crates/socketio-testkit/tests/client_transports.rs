//! What the options of our client make of its requests, seen on the wire.

mod client_common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use client_common::{BOUND, Wire, client, each_way, server};
use socketio::{Cookie, DeflateOptions};
use socketio_client::{
    ClientBuilder, ConnectFailure, ManagerEvent, ManagerEvents, SimpleClient, Transport, TransportError,
};
use socketio_testkit::{eventually, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use Transport::{Polling, WebSocket};

/// Everything that goes over the connections of a client; one entry each, sent and received.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Vec<[Vec<u8>; 2]>>>);

impl Tap {
    fn on(&self, builder: ClientBuilder) -> ClientBuilder {
        let tap = self.clone();
        builder.connector(move |host, port| {
            let tap = tap.clone();
            async move {
                let (theirs, to_server) = TcpStream::connect((host.as_str(), port)).await?.into_split();
                let (ours, inner) = tokio::io::duplex(64 << 10);
                let (from_client, to_client) = tokio::io::split(inner);
                let nth = {
                    let mut all = tap.0.lock().unwrap();
                    all.push([Vec::new(), Vec::new()]);
                    all.len() - 1
                };
                tokio::spawn(copy(from_client, to_server, tap.clone(), nth, 0));
                tokio::spawn(copy(theirs, to_client, tap, nth, 1));
                Ok(ours)
            }
        })
    }

    /// How many bytes have gone that way on all connections.
    fn bytes(&self, direction: usize) -> usize {
        self.0.lock().unwrap().iter().map(|connection| connection[direction].len()).sum()
    }

    /// The heads of all requests.
    fn requests(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let mut heads = Vec::new();
        for [sent, _] in all.iter() {
            let text = String::from_utf8_lossy(sent).into_owned();
            for (at, _) in text.match_indices(" HTTP/1.1\r\n") {
                let from = ["GET /", "POST /"].iter().filter_map(|method| text[..at].rfind(method)).max().unwrap();
                let end = text[from..].find("\r\n\r\n").map_or(text.len(), |end| from + end);
                heads.push(text[from..end].to_owned());
            }
        }
        heads
    }

    /// Which transports were asked for, in words.
    fn asked(&self) -> [usize; 2] {
        let requests = self.requests();
        ["polling", "websocket"].map(|transport| {
            let asks = |head: &&String| head.lines().next().unwrap().contains(&format!("transport={transport}"));
            requests.iter().filter(asks).count()
        })
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    tap: Tap,
    nth: usize,
    direction: usize,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        tap.0.lock().unwrap()[nth][direction].extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Waits for the connection to open, and tells on what.
async fn opened(events: &mut ManagerEvents) -> Transport {
    loop {
        if let ManagerEvent::Open(transport) = events.next().await.expect("the connection is kept") {
            return transport;
        }
    }
}

#[tokio::test]
async fn the_transports_of_the_options_are_used_and_no_others() {
    let server = server().await;
    each_way(async |(name, transports, upgrade)| {
        let tap = Tap::default();
        let builder = tap.on(client(&server, "/")).transports(transports.iter().copied()).upgrade(upgrade);
        let manager = builder.manager().unwrap();
        let mut events = manager.events();
        let socket = manager.socket("/").connect().await.unwrap();
        assert_eq!(opened(&mut events).await, transports[0]);
        if upgrade {
            while !matches!(events.next().await.unwrap(), ManagerEvent::Upgrade) {}
        }
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        let [polling, websocket] = tap.asked();
        match name {
            "polling" => assert!(polling >= 2 && websocket == 0, "{:?}", tap.requests()),
            "websocket" => assert!(polling == 0 && websocket == 1, "{:?}", tap.requests()),
            _ => assert!(polling >= 1 && websocket == 1, "{:?}", tap.requests()),
        }
        drop(manager);
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn websocket_first_falls_back_to_polling_only_when_all_may_be_tried() {
    let only_polling = client_common::builder().transports([Polling]);
    let server = socketio_testkit::serve(only_polling).await.unwrap();
    within(BOUND, async {
        let first = |builder: ClientBuilder| builder.transports([WebSocket, Polling]);
        let failure = first(client(&server, "/")).connect().await.unwrap_err();
        let ConnectFailure::Transport(error) = &failure else { panic!("{failure}") };
        assert!(matches!(**error, TransportError::WebSocket(_)), "{failure}");
        let tap = Tap::default();
        let socket = tap.on(first(client(&server, "/"))).try_all_transports(true).connect().await.unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        let requests = tap.requests();
        assert!(requests[0].contains("transport=websocket") && requests[1].contains("transport=polling"));
    })
    .await;
    // Where WebSocket works nothing else is asked for.
    let server = client_common::server().await;
    within(BOUND, async {
        let tap = Tap::default();
        let builder = tap.on(client(&server, "/")).transports([WebSocket, Polling]).try_all_transports(true);
        let _socket = builder.connect().await.unwrap();
        assert_eq!(tap.asked(), [0, 1]);
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_is_remembered_when_asked_for() {
    let server = server().await;
    for (remember, want) in [(false, Polling), (true, WebSocket)] {
        within(BOUND, async {
            let wire = Wire::default();
            let manager = wire.through(client(&server, "/")).remember_upgrade(remember).manager().unwrap();
            let mut events = manager.events();
            let _socket = manager.socket("/").connect().await.unwrap();
            assert_eq!(opened(&mut events).await, Polling);
            while !matches!(events.next().await.unwrap(), ManagerEvent::Upgrade) {}
            wire.cut();
            assert_eq!(opened(&mut events).await, want);
        })
        .await;
    }
}

#[tokio::test]
async fn short_polling_asks_again_and_again() {
    let server = server().await;
    within(BOUND, async {
        let tap = Tap::default();
        let builder = tap.on(client(&server, "/")).transports([Polling]).upgrade(false);
        let builder = builder.poll_interval(Duration::from_millis(1));
        let mut client = SimpleClient::from_builder(builder).await.unwrap();
        assert_eq!(client.receive().await.unwrap().name(), "first");
        let before = tap.asked()[0];
        // Nothing happens, and the server would hold a poll for 25 seconds.
        assert!(eventually(BOUND, || tap.asked()[0] >= before + 5).await);
        assert!(tap.requests().iter().all(|head| head.contains("&hold=0")), "{:?}", tap.requests());
        client.emit("echo", "still there").unwrap();
        assert_eq!(client.receive().await.unwrap().data::<String>().unwrap(), "still there");
        assert_eq!(client.call::<i64>("add", (2, 3)).await, Ok(5));
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn long_messages_are_compressed_both_ways_when_both_sides_agree() {
    let compresses = client_common::builder().per_message_deflate(DeflateOptions::default());
    let compresses = socketio_testkit::serve(compresses).await.unwrap();
    let does_not = server().await;
    check(&compresses, |builder| builder, true, true).await;
    check(&compresses, |builder| builder.per_message_deflate(None), true, false).await;
    check(&does_not, |builder| builder, true, false).await;
    // Asked not to, it sends this one as it is; the server's answer is the server's choice.
    check(&compresses, |builder| builder, false, true).await;

    async fn check(
        server: &socketio_testkit::Running,
        options: impl Fn(ClientBuilder) -> ClientBuilder,
        compress: bool,
        agreed: bool,
    ) {
        within(BOUND, async {
            let tap = Tap::default();
            let builder = options(tap.on(client(server, "/")).transports([WebSocket]));
            let socket = builder.connect().await.unwrap();
            let text = "all work and no play makes jack a dull boy ".repeat(1_000);
            let (sent, received) = (tap.bytes(0), tap.bytes(1));
            let back: String = socket.compress(compress).emit_with_ack("give back", &text).await.unwrap();
            assert_eq!(back, text);
            let (sent, received) = (tap.bytes(0) - sent, tap.bytes(1) - received);
            let is_small = |bytes: usize| bytes < text.len() / 10;
            assert_eq!((is_small(sent), is_small(received)), (agreed && compress, agreed), "{sent} {received}");
        })
        .await;
    }
}

#[tokio::test]
async fn cookies_of_the_server_go_with_every_later_request_and_the_websocket() {
    let with_cookies = client_common::builder().cookie(Cookie::default()).headers(|headers, _| {
        headers.append("set-cookie", "sticky=node-3; Path=/; HttpOnly".parse().unwrap());
    });
    let server = socketio_testkit::serve(with_cookies).await.unwrap();
    for with in [true, false] {
        within(BOUND, async {
            let tap = Tap::default();
            let builder = tap.on(client(&server, "/")).with_credentials(with).header("Cookie", "mine=1");
            let manager = builder.manager().unwrap();
            let mut events = manager.events();
            let _socket = manager.socket("/").connect().await.unwrap();
            while !matches!(events.next().await.unwrap(), ManagerEvent::Upgrade) {}
            let requests = tap.requests();
            assert_eq!(header(&requests[0], "cookie").as_deref(), Some("mine=1"), "nothing is known yet");
            let (mut posts, mut websockets) = (0, 0);
            for head in &requests[1..] {
                posts += usize::from(head.starts_with("POST"));
                websockets += usize::from(head.contains("transport=websocket"));
                let cookie = header(head, "cookie").unwrap();
                if with {
                    assert!(cookie.starts_with("mine=1; "), "{head}");
                    assert!(cookie.contains("io=") && cookie.contains("sticky=node-3"), "{head}");
                } else {
                    assert_eq!(cookie, "mine=1");
                }
            }
            assert!(posts > 0 && websockets == 1, "{requests:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_transport_may_have_options_of_its_own() {
    let server = server().await;
    within(BOUND, async {
        let tap = Tap::default();
        let builder = tap
            .on(client(&server, "/"))
            .query("who", "all")
            .transport_options(Polling, |options| options.query("only", "polling"))
            .transport_options(WebSocket, |options| {
                options.query("only", "websocket").timestamp_requests(true).header("X-Only", "1").unwrap()
            });
        let manager = builder.manager().unwrap();
        let mut events = manager.events();
        let _socket = manager.socket("/").connect().await.unwrap();
        while !matches!(events.next().await.unwrap(), ManagerEvent::Upgrade) {}
        for head in tap.requests() {
            let transport = if head.contains("transport=websocket") { "websocket" } else { "polling" };
            assert!(head.contains(&format!("?who=all&only={transport}&EIO=4")), "{head}");
            assert_eq!(header(&head, "x-only").is_some(), transport == "websocket", "{head}");
            assert!(head.contains("&t="), "{head}");
        }
        assert_eq!(tap.asked()[1], 1);
    })
    .await;
}

#[tokio::test]
async fn path_query_and_headers_go_with_every_request() {
    let server = socketio_testkit::serve(client_common::builder().path("/live/io")).await.unwrap();
    each_way(async |(_, transports, upgrade)| {
        let tap = Tap::default();
        let builder = tap.on(client(&server, "/?token=a%20b")).path("/live/io").query("lang", "é");
        let builder = builder.header("X-Trace", "7").transports(transports.iter().copied()).upgrade(upgrade);
        let socket = builder.connect().await.unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        let requests = tap.requests();
        for head in &requests {
            let target = head.split(' ').nth(1).unwrap();
            assert!(target.starts_with("/live/io/?token=a%20b&lang=%C3%A9&EIO=4&transport="), "{target}");
            assert_eq!(header(head, "x-trace").as_deref(), Some("7"));
        }
        assert!(!requests.is_empty());
        socket.close().await;
    })
    .await;
}
