//! Our client against servers that mean it no good. The ids are rows of the catalogue of hostile inputs.

mod client_common;

use std::{sync::Arc, time::Duration};

use client_common::BOUND;
use socketio_client::{Client, ConnectFailure, DisconnectReason, State, Transport};
use socketio_testkit::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const OPEN: &str = r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// A server that gives this to every connection, whatever it is asked, and then does nothing.
async fn serves(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { drop(serve(stream, &answer).await) });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    // Until the client hangs up.
    while stream.read(&mut buffer).await? > 0 {
        stream.write_all(answer).await?;
    }
    Ok(())
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What a first attempt over polling comes to.
async fn failure(answer: Vec<u8>) -> String {
    let url = serves(answer).await;
    let client = Client::builder(&url).transports([Transport::Polling]).timeout(Duration::from_millis(700));
    match within(BOUND, client.connect()).await {
        Ok(_) => panic!("it connected"),
        Err(ConnectFailure::Transport(error)) => format!("transport: {error}"),
        Err(failure) => failure.to_string(),
    }
}

#[tokio::test]
async fn what_is_no_engine_io_is_a_typed_error() {
    // L01
    check(http("200 OK", "<html>"), "transport: unknown packet kind").await;
    check(http("200 OK", ""), "transport: empty packet").await;
    check(http("500 Internal Server Error", "oh"), "transport: unexpected server response: 500: oh").await;
    check(http("200 OK", &"x".repeat(1 << 20)), "transport: unknown packet kind").await;
    // L02
    check(http("200 OK", "40"), "transport: a packet before the open packet").await;
    // L03, L04, L05
    for open in ["0", "0{", "0null", "0[]", r#"0{"sid":"a","upgrades":null,"pingInterval":1,"pingTimeout":1}"#] {
        check(http("200 OK", open), "transport: invalid open packet").await;
    }
    for sid in ["{}", "\"a\\r\\nb\"", "5"] {
        let open = format!(r#"0{{"sid":{sid},"upgrades":[],"pingInterval":25000,"pingTimeout":20000}}"#);
        check(http("200 OK", &open), "transport: invalid open packet").await;
    }
    for time in ["0", "-1", "1e12"] {
        let open = format!(r#"0{{"sid":"a","upgrades":[],"pingInterval":{time},"pingTimeout":20000}}"#);
        check(http("200 OK", &open), "transport: invalid open packet").await;
    }
    // L14: never followed.
    let redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    check(redirect, "transport: unexpected server response: 302").await;

    async fn check(answer: Vec<u8>, want: &str) {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(120)]).into_owned();
        assert_eq!(failure(answer).await, want, "answer: {shown}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_has_a_deadline() {
    // L19, and slow-loris: a head, a body, that never end.
    check(b"").await;
    check(b"HTTP/1.1 200 OK\r\nX: ").await;
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0{").await;
    check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n0{\r\n").await;

    async fn check(answer: &[u8]) {
        assert_eq!(failure(answer.to_vec()).await, "transport: timeout");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    // L13
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = [b"10000\r\n".as_slice(), &[b'4'; 1 << 16], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {}
        }
    });
    let client = Client::builder(&url).transports([Transport::Polling]);
    let Err(ConnectFailure::Transport(error)) = within(BOUND, client.connect()).await else { panic!("it connected") };
    assert_eq!(error.to_string(), "the answer is too large");
}

/// A server that opens a session over polling, and answers CONNECT with this.
async fn answers_connect(packets: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (open, packets) = (http("200 OK", OPEN), http("200 OK", packets));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (open, packets) = (open.clone(), packets.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let mut polled = false;
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    let answer = if request.starts_with("POST") {
                        http("200 OK", "ok")
                    } else if !request.contains("sid=") {
                        open.clone()
                    } else if !std::mem::replace(&mut polled, true) {
                        // The CONNECT comes on another connection meanwhile.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        packets.clone()
                    } else {
                        continue;
                    };
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn what_follows_the_open_packet_may_be_hostile_too() {
    check("40", "the server refuses the connection: the server speaks the protocol of Socket.IO 2.x").await; // L09
    check(r#"40{"sid":{}}"#, "the connection was lost: parse error").await; // L10
    check("44", "the server refuses the connection: ").await; // L11
    check(r#"42["connect"]"#, "the connection was lost: parse error").await; // L12
    check("bAAEC", "the connection was lost: parse error").await;
    check("4", "the connection was lost: parse error").await;
    check("9", "the connection was lost: parse error").await;
    check(OPEN, "the connection was lost: parse error").await; // L08
    check("451-[\"e\",{\"_placeholder\":true,\"num\":7}]\u{1e}bAA==", "the connection was lost: parse error").await;
    check(&format!("42{}", "[".repeat(100_000)), "the connection was lost: parse error").await;

    async fn check(packets: &str, want: &str) {
        let url = answers_connect(packets).await;
        let client = Client::builder(&url).transports([Transport::Polling]);
        match within(BOUND, client.connect()).await {
            Ok(_) => panic!("it connected: {packets}"),
            Err(failure) => assert!(failure.to_string().starts_with(want), "{failure} for {packets:.60}"),
        }
    }
}

#[tokio::test]
async fn a_namespace_that_is_never_answered_has_a_deadline() {
    let url = answers_connect("6").await;
    let client = Client::builder(&url).transports([Transport::Polling]).timeout(Duration::from_millis(500));
    let failure = within(BOUND, client.connect()).await.err();
    assert!(matches!(failure, Some(ConnectFailure::Timeout)), "{failure:?}");
}

#[tokio::test]
async fn a_websocket_that_is_none_is_refused() {
    // L16
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "Unexpected server response: 200").await;
    let accept = "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    check(&format!("{upgrade}{accept}\r\n\r\n"), "Invalid Sec-WebSocket-Accept header").await;
    check("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "Invalid Upgrade header")
        .await;

    async fn check(answer: &str, want: &str) {
        let url = serves(answer.as_bytes().to_vec()).await;
        let client = Client::builder(&url).transports([Transport::WebSocket]);
        let Err(ConnectFailure::Transport(error)) = within(BOUND, client.connect()).await else { panic!("connected") };
        assert_eq!(error.to_string(), want, "answer: {answer}");
    }
}

#[tokio::test]
async fn a_storm_of_disconnections_is_met_with_pauses() {
    // L18: accepted, and hung up on at once.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        for _ in 0..6 {
            drop(listener.accept().await.unwrap());
        }
    });
    let client = Client::builder(&url).transports([Transport::Polling]);
    let socket = client
        .reconnection_delay(Duration::from_millis(1))
        .reconnection_delay_max(Duration::from_millis(2))
        .reconnection_attempts(5)
        .connect_lazy()
        .unwrap();
    let mut state = socket.state();
    within(BOUND, async {
        state.wait_for(|state| matches!(state, State::Reconnecting(5))).await.unwrap();
        assert!(matches!(socket.joined().await, Err(ConnectFailure::GaveUp)));
    })
    .await;
    accepting.await.unwrap();
}

#[tokio::test]
async fn events_that_nobody_takes_do_not_pile_up() {
    let server = client_common::server().await;
    within(BOUND, async {
        let socket = client_common::client(&server, "/")
            .mailbox(4, 1 << 20)
            .on("stuck", async || std::future::pending::<()>().await)
            .connect()
            .await
            .unwrap();
        for _ in 0..20 {
            socket.emit("emit", "stuck");
        }
        socket.closed().await;
        let state = socket.state().borrow().clone();
        assert!(matches!(state, State::Disconnected(DisconnectReason::Overflow)), "{state:?}");
    })
    .await;
}
