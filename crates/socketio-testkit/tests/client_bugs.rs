//! Sixteen faults that clients of this kind have had, each as a test that our client does not have it.

mod client_common;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client_common::{BOUND, bytes, client, server};
use socketio_client::{
    AckError, Client, ClientBuilder, ConnectFailure, SimpleClient, Socket, State, Transport, extract::Data,
};
use socketio_testkit::{eventually, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    sync::mpsc,
};

const OPEN: &str = r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;

/// A client whose server is never there, and how often it has tried.
fn in_vain() -> (ClientBuilder, Arc<AtomicUsize>) {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    let builder = Client::builder("http://localhost").connector(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()) }
    });
    (builder, tries)
}

#[tokio::test(start_paused = true)]
async fn b01_attempts_go_on_for_hours_and_keep_their_distance() {
    let (builder, tries) = in_vain();
    let _socket = builder.connect_lazy().unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    let tries = tries.load(Ordering::SeqCst);
    assert!((2_100..4_400).contains(&tries), "{tries} attempts in three hours, five seconds apart at most");
}

#[tokio::test(start_paused = true)]
async fn b02_the_limit_of_attempts_ends_them() {
    let (builder, tries) = in_vain();
    let socket = builder.reconnection_attempts(4).connect_lazy().unwrap();
    // An hour of this test's own time.
    let joined = within(Duration::from_secs(3600), socket.joined()).await;
    assert!(matches!(joined, Err(ConnectFailure::GaveUp)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(tries.load(Ordering::SeqCst), 5, "the first one and four more");
}

#[tokio::test(start_paused = true)]
async fn b03_a_client_that_has_given_up_does_nothing() {
    let (builder, tries) = in_vain();
    let socket = builder.reconnection(false).connect_lazy().unwrap();
    assert!(matches!(socket.joined().await, Err(ConnectFailure::Transport(_))));
    // The clock of this test moves only while nothing runs: a task that spins would hold it for ever.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn b04_a_thousand_answers_find_their_questions_and_late_ones_nobody() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").connect().await.unwrap();
        for _ in 0..50 {
            let silent = socket.timeout(Duration::from_millis(1)).emit_with_ack::<()>("silence", ());
            assert_eq!(silent.await, Err(AckError::Timeout));
        }
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..1_000_i64 {
            let socket = socket.clone();
            asked.spawn(async move { assert_eq!(socket.emit_with_ack::<i64>("add", (n, 1)).await, Ok(n + 1)) });
        }
        while let Some(answered) = asked.join_next().await {
            answered.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn b05_a_handler_may_ask_the_server_and_wait() {
    let server = server().await;
    within(BOUND, async {
        let (sender, mut sums) = mpsc::unbounded_channel();
        let socket = client(&server, "/")
            .on("echo", move |socket: Socket, Data(n): Data<i64>| {
                let sender = sender.clone();
                async move { sender.send(socket.emit_with_ack::<i64>("add", (n, 1)).await).unwrap() }
            })
            .connect()
            .await
            .unwrap();
        socket.emit("echo", 1);
        socket.emit("echo", 2);
        assert_eq!([sums.recv().await, sums.recv().await], [Some(Ok(2)), Some(Ok(3))]);
    })
    .await;
}

#[tokio::test]
async fn b06_b07_b08_binary_travels_anywhere_in_any_number() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").transports([Transport::WebSocket]).connect().await.unwrap();
        let args = (1, bytes(b"\x1e"), "text", vec![bytes(b"a\x1eb"), bytes(b"")], bytes(b"\x00"));
        let back: (i32, Bytes, String, Vec<Bytes>, Bytes) =
            socket.emit_with_ack("give back", args.clone()).await.unwrap();
        assert_eq!((back.0, &back.1, back.2.as_str(), &back.3, &back.4), (1, &args.1, "text", &args.3, &args.4));
    })
    .await;
}

/// A server of one session over polling that answers each poll with the next of these, piece by piece. Then it hangs up.
async fn scripted(polls: Vec<Vec<&'static str>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let posted = Arc::new(Mutex::new(Vec::new()));
    let (log, polls) = (Arc::clone(&posted), Arc::new(Mutex::new(polls.into_iter())));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (log, polls) = (Arc::clone(&log), Arc::clone(&polls));
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    if request.starts_with("POST") {
                        let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
                        log.lock().unwrap().push(body.to_owned());
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                        continue;
                    }
                    if request.contains("sid=") {
                        // After what was posted.
                        while log.lock().unwrap().is_empty() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                    let Some(pieces) = polls.lock().unwrap().next() else { return };
                    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                    for piece in pieces {
                        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                        stream.write_all(chunk.as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    stream.write_all(b"0\r\n\r\n").await.unwrap();
                }
            });
        }
    });
    (url, posted)
}

#[tokio::test]
async fn b09_a_connection_that_breaks_between_a_header_and_its_attachment_is_made_again() {
    let half = "40{\"sid\":\"s\"}\u{1e}451-[\"e\",{\"_placeholder\":true,\"num\":0}]";
    let again = "40{\"sid\":\"t\"}\u{1e}42[\"e\",1]";
    // The third answer never comes: the poll is broken off by the end of the script's second session.
    let (url, _) = scripted(vec![vec![OPEN], vec![half], vec!["1"], vec![OPEN], vec![again]]).await;
    within(BOUND, async {
        let builder =
            Client::builder(&url).transports([Transport::Polling]).reconnection_delay(Duration::from_millis(1));
        let mut client = SimpleClient::from_builder(builder).await.unwrap();
        let event = client.receive().await.unwrap();
        assert_eq!((event.name(), event.data::<i32>()), ("e", Ok(1)));
        assert_eq!(client.socket().id().as_deref().unwrap_or("t"), "t");
    })
    .await;
}

#[tokio::test]
async fn b10_b11_events_without_arguments_and_with_names_of_the_library_reach_their_handlers() {
    let server = server().await;
    within(BOUND, async {
        let (sender, mut called) = mpsc::unbounded_channel();
        let mut builder = client(&server, "/");
        for name in ["foo", "close", "error", "message", "open", "Close", "1"] {
            let sender = sender.clone();
            builder = builder.on(name, move || {
                sender.send(name).unwrap();
                async {}
            });
        }
        let socket = builder.connect().await.unwrap();
        for name in ["foo", "close", "error", "message", "open", "Close", "1"] {
            socket.emit("emit", name);
            assert_eq!(called.recv().await, Some(name));
        }
        assert!(socket.connected());
    })
    .await;
}

#[tokio::test]
async fn b12_text_stays_text() {
    let server = server().await;
    within(BOUND, async {
        let socket = client(&server, "/").connect().await.unwrap();
        for text in ["123", "{\"a\":1}", "true", "null", "\"", "a\",\"b"] {
            assert_eq!(socket.emit_with_ack::<String>("give back", text).await.as_deref(), Ok(text));
        }
    })
    .await;
}

#[tokio::test]
async fn b13_an_answer_in_pieces_is_one_payload() {
    let pieces = vec!["40{\"si", "d\":\"s\"}\u{1e}4", "2[\"e\",\"in pi", "eces\"]"];
    let (url, _) = scripted(vec![vec!["0{\"sid\":\"abc\",\"upgra", &OPEN[20..]], pieces]).await;
    within(BOUND, async {
        let builder = Client::builder(&url).transports([Transport::Polling]);
        let mut client = SimpleClient::from_builder(builder).await.unwrap();
        assert_eq!(client.receive().await.unwrap().data::<String>().unwrap(), "in pieces");
    })
    .await;
}

#[tokio::test]
async fn b14_a_handler_may_disconnect_its_socket() {
    let server = server().await;
    within(BOUND, async {
        let socket =
            client(&server, "/").on("echo", async |socket: Socket| socket.disconnect()).connect().await.unwrap();
        socket.emit("echo", ());
        socket.closed().await;
        assert!(eventually(BOUND, || server.sessions() == 0).await);
    })
    .await;
}

#[tokio::test]
async fn b15_a_client_that_is_dropped_is_gone() {
    let server = server().await;
    within(BOUND, async {
        drop(client(&server, "/").connect().await.unwrap());
        assert!(eventually(BOUND, || server.sessions() == 0).await);
        let (builder, tries) = in_vain();
        let socket = builder.reconnection_delay(Duration::from_millis(1)).connect_lazy().unwrap();
        let mut state = socket.state();
        state.wait_for(|state| matches!(state, State::Reconnecting(3..))).await.unwrap();
        socket.close().await;
        let then = tries.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(tries.load(Ordering::SeqCst), then);
    })
    .await;
}

#[tokio::test]
async fn b16_nothing_is_sent_that_nobody_asked_for() {
    let (url, posted) = scripted(vec![vec![OPEN], vec!["40{\"sid\":\"s\"}"], vec!["2"]]).await;
    within(BOUND, async {
        let builder = Client::builder(&url).transports([Transport::Polling]).reconnection(false);
        let socket = builder.connect().await.unwrap();
        assert!(eventually(BOUND, || posted.lock().unwrap().len() >= 2).await);
        assert_eq!(posted.lock().unwrap()[..2], ["40", "3"]);
        drop(socket);
    })
    .await;
}
