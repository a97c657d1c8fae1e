//! Our client against servers that mean it no good. The ids are rows of the catalogue of hostile inputs.

mod client_common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use client_common::BOUND;
use engineio_proto::ws::{self, handshake};
use socketio_client::{Client, ConnectFailure, DisconnectReason, EmitError, SimpleClient, State, Transport};
use socketio_testkit::{eventually, within};
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
async fn l01_l02_l03_l04_l05_l14_what_is_no_engine_io_is_a_typed_error() {
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
async fn l19_a_server_that_never_answers_has_a_deadline() {
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
async fn l13_an_answer_without_end_is_cut_off() {
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
async fn l08_l09_l10_l11_l12_what_follows_the_open_packet_may_be_hostile_too() {
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
async fn l19_a_namespace_that_is_never_answered_has_a_deadline() {
    let url = answers_connect("6").await;
    let client = Client::builder(&url).transports([Transport::Polling]).timeout(Duration::from_millis(500));
    let failure = within(BOUND, client.connect()).await.err();
    assert!(matches!(failure, Some(ConnectFailure::Timeout)), "{failure:?}");
}

#[tokio::test]
async fn l16_a_websocket_that_is_none_is_refused() {
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
async fn l18_a_storm_of_disconnections_is_met_with_pauses() {
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
async fn l13_events_that_nobody_takes_do_not_pile_up() {
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

/// One answer to a GET: when so many POSTs have come, with these headers and this body.
struct Turn {
    posts: usize,
    headers: String,
    body: String,
}

fn turn(posts: usize, body: impl Into<String>) -> Turn {
    Turn { posts, headers: String::new(), body: body.into() }
}

fn open_packet(rest: &str) -> String {
    format!(r#"0{{"sid":"abc","pingInterval":25000,"pingTimeout":20000,{rest}}}"#)
}

/// A server that answers GETs in turn, each on its own, POSTs with `ok` and WebSockets with an error, and writes down every
/// request. When the turns are used up, a poll is never answered.
async fn plays(turns: Vec<Turn>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (requests, turns) = (Arc::clone(&log), Arc::new(Mutex::new(turns.into_iter())));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (requests, turns) = (Arc::clone(&requests), Arc::clone(&turns));
            tokio::spawn(async move {
                while let Some(request) = read_request(&mut stream).await {
                    let (post, upgrade) = (request.starts_with("POST"), request.contains("transport=websocket"));
                    requests.lock().unwrap().push(request);
                    let answer = if post {
                        http("200 OK", "ok")
                    } else if upgrade {
                        http("400 Bad Request", "no")
                    } else {
                        let Some(turn) = turns.lock().unwrap().next() else { std::future::pending().await };
                        let came = || requests.lock().unwrap().iter().filter(|seen| seen.starts_with("POST")).count();
                        while came() < turn.posts {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        let Turn { headers, body, .. } = turn;
                        let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                        [head.into_bytes(), body.into_bytes()].concat()
                    };
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, log)
}

/// One request with its body; `None` at the end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn l06_a_limit_that_makes_no_sense_limits_nothing() {
    for limit in ["", r#","maxPayload":0"#, r#","maxPayload":-1"#, r#","maxPayload":null"#, r#","maxPayload":1e18"#] {
        let open = open_packet(&format!(r#""upgrades":[]{limit}"#));
        let (url, log) = plays(vec![turn(0, open), turn(1, r#"40{"sid":"s"}"#)]).await;
        within(BOUND, async {
            let socket = Client::builder(&url).transports([Transport::Polling]).connect().await.unwrap();
            assert_eq!(socket.emit("big", "x".repeat(300_000)).result(), Ok(()), "{limit}");
            assert!(eventually(BOUND, || log.lock().unwrap().iter().any(|request| request.len() > 300_000)).await);
            assert!(socket.connected());
        })
        .await;
    }
    // And one that leaves room for nothing refuses everything that is larger, without a fault.
    let (url, _) =
        plays(vec![turn(0, open_packet(r#""upgrades":[],"maxPayload":9"#)), turn(1, r#"40{"sid":"s"}"#)]).await;
    within(BOUND, async {
        let socket = Client::builder(&url).transports([Transport::Polling]).connect().await.unwrap();
        let refused = socket.emit("larger", ()).result();
        assert!(matches!(refused, Err(EmitError::TooLarge { limit: 9, .. })), "{refused:?}");
        assert!(socket.connected());
    })
    .await;
}

#[tokio::test]
async fn l07_upgrades_to_what_we_do_not_know_are_left_alone() {
    let websocket = |log: &Mutex<Vec<String>>| {
        log.lock().unwrap().iter().filter(|request| request.contains("transport=websocket")).count()
    };
    for (upgrades, want) in
        [(r#"["__proto__","constructor","webtransport",""]"#, 0), (r#"["websocket","websocket","websocket"]"#, 1)]
    {
        let script = vec![
            turn(0, open_packet(&format!(r#""upgrades":{upgrades}"#))),
            turn(1, r#"40{"sid":"s"}"#),
            turn(2, r#"42["e"]"#),
        ];
        let (url, log) = plays(script).await;
        within(BOUND, async {
            let mut client = SimpleClient::connect(&url).await.unwrap();
            assert!(eventually(BOUND, || websocket(&log) >= want).await);
            // Behind this, nobody dials any more.
            client.emit("hello", ()).unwrap();
            assert_eq!(client.receive().await.unwrap().name(), "e");
            assert_eq!(websocket(&log), want, "{upgrades}");
            let foreign = log.lock().unwrap().iter().any(|request| request.contains("proto") && request.contains("__"));
            assert!(!foreign, "no transport of that name is asked for");
        })
        .await;
    }
}

#[tokio::test]
async fn l15_cookies_are_few_and_short_and_off_by_default() {
    let mut headers: String = (0..60).map(|n| format!("Set-Cookie: c{n}=v; Path=/; Expires=never, ever\r\n")).collect();
    headers += &format!("Set-Cookie: huge={}\r\n", "x".repeat(5_000));
    headers +=
        "Set-Cookie: gone=1; Max-Age=0\r\nSet-Cookie: other=1; Domain=example.org\r\nSet-Cookie: \r\nSet-Cookie: =\r\n";
    for with in [false, true] {
        let script = vec![
            Turn { posts: 0, headers: headers.clone(), body: open_packet(r#""upgrades":[]"#) },
            Turn { posts: 1, headers: headers.clone(), body: r#"40{"sid":"s"}"#.to_owned() },
        ];
        let (url, log) = plays(script).await;
        within(BOUND, async {
            let builder = Client::builder(&url).transports([Transport::Polling]).with_credentials(with);
            let socket = builder.connect().await.unwrap();
            assert!(eventually(BOUND, || log.lock().unwrap().len() >= 4).await, "another poll");
            let requests = log.lock().unwrap().clone();
            for request in &requests[1..] {
                let cookies = request.lines().find_map(|line| line.strip_prefix("cookie: "));
                let pairs: Vec<_> = cookies.unwrap_or_default().split("; ").filter(|pair| !pair.is_empty()).collect();
                assert_eq!(pairs.len(), if with { 50 } else { 0 }, "{request:.300}");
                assert!(!pairs.iter().any(|pair| pair.starts_with("huge") || pair.starts_with("gone")));
                assert!(request.len() < 4_096);
            }
            drop(socket);
        })
        .await;
    }
}

#[tokio::test]
async fn l17_a_flood_of_pings_is_answered_in_few_words() {
    const PINGS: usize = 100_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let said = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await.unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap().to_owned();
        let accept = handshake::accept_key(key.as_bytes());
        let mut out = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let open = open_packet(r#""upgrades":[]"#);
        for text in [&*open, r#"40{"sid":"s"}"#] {
            ws::encode_message(ws::Opcode::Text, false, text.as_bytes(), None, &mut out);
        }
        stream.write_all(&out).await.unwrap();
        // The CONNECT, and nothing else is read until all pings have been taken.
        let mut heard = vec![0; 4096];
        let mut len = stream.read(&mut heard).await.unwrap();
        let mut flood = Vec::new();
        for n in 0..PINGS {
            ws::encode_message(ws::Opcode::Text, false, b"2", None, &mut flood);
            flood.extend_from_slice(&ws::encode_control(ws::Opcode::Ping, b"who is there, and where, and why?", None));
            // Answers to nothing.
            flood.extend_from_slice(&ws::encode_control(ws::Opcode::Pong, &n.to_be_bytes(), None));
        }
        ws::encode_message(ws::Opcode::Text, false, b"3", None, &mut flood);
        ws::encode_message(ws::Opcode::Text, false, br#"42["e","still here"]"#, None, &mut flood);
        stream.write_all(&flood).await.unwrap();
        // Until the client has gone.
        while let Ok(more @ 1..) = stream.read(&mut heard).await {
            len += more;
        }
        len
    });
    within(BOUND, async {
        let mut client =
            SimpleClient::from_builder(Client::builder(&url).transports([Transport::WebSocket])).await.unwrap();
        assert_eq!(client.receive().await.unwrap().data::<String>().unwrap(), "still here");
        client.close().await;
        // A pong and a frame's pong per read of 64 KiB at most, of which the flood is some hundred.
        let said = said.await.unwrap();
        assert!(said < 100_000, "{said} bytes in answer to {PINGS} pings");
    })
    .await;
}

#[tokio::test]
async fn l21_what_a_server_gives_for_a_recovery_is_bounded() {
    // A session's name of a megabyte is no answer.
    let long = "p".repeat(1 << 20);
    let script = vec![turn(0, open_packet(r#""upgrades":[]"#)), turn(1, format!(r#"40{{"sid":"s","pid":"{long}"}}"#))];
    let (url, _) = plays(script).await;
    let failure = within(BOUND, Client::builder(&url).transports([Transport::Polling]).connect()).await.err();
    assert!(failure.as_ref().is_some_and(|failure| failure.to_string().contains("parse error")), "{failure:?}");

    // An offset of a megabyte is none; the one before it is given back. What comes twice is told twice: an offset cannot say
    // that it is the same event, because volatile events carry that of the one before.
    let joined = r#"40{"sid":"s","pid":"p"}"#;
    let script = vec![
        turn(0, open_packet(r#""upgrades":[]"#)),
        turn(1, format!("{joined}\u{1e}42[\"e\",\"off-1\"]\u{1e}42[\"e\",\"{long}\"]\u{1e}1")),
        turn(1, open_packet(r#""upgrades":[]"#)),
        turn(2, format!("{joined}\u{1e}42[\"e\",\"off-1\"]\u{1e}42[\"e\",\"off-1\"]\u{1e}42[\"e\",\"off-2\"]")),
    ];
    let (url, log) = plays(script).await;
    within(BOUND, async {
        let builder =
            Client::builder(&url).transports([Transport::Polling]).reconnection_delay(Duration::from_millis(1));
        let socket = builder.connect_lazy().unwrap();
        let mut events = socket.events();
        let mut got = Vec::new();
        while got.last().is_none_or(|last| last != "off-2") {
            got.push(events.next().await.unwrap().data::<String>().unwrap());
        }
        assert_eq!(got, ["off-1", &*long, "off-1", "off-1", "off-2"]);
        assert!(socket.recovered());
        let posts =
            log.lock().unwrap().iter().filter(|request| request.starts_with("POST")).cloned().collect::<Vec<_>>();
        assert!(posts[1].ends_with(r#"40{"pid":"p","offset":"off-1"}"#), "{}", posts[1]);
    })
    .await;
}
