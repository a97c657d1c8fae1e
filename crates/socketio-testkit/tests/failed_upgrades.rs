//! Whatever becomes of an upgrade, the polling session below it goes on, and its polls do not spin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use socketio_testkit::{Message, RawClient, Running, WebSocket, promises, serve, within};

const BOUND: Duration = Duration::from_secs(60);
const NOOP_GAP: Duration = Duration::from_millis(100);

async fn server(upgrade_timeout: Duration) -> Running {
    serve(promises::builder(&Arc::default()).upgrade_timeout(upgrade_timeout)).await.unwrap()
}

/// What a client does in place of a proper upgrade.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// It closes the TCP connection.
    Cut,
    /// It resets the TCP connection.
    Reset,
    /// It sends a close frame.
    CloseFrame,
    /// It sends a text that is not the one that is expected.
    Text(&'static str),
    /// It sends a binary message.
    Binary,
    /// It sends bytes that are no frame.
    Garbage(&'static [u8]),
    /// It does nothing until the server gives up.
    Silence,
}

#[tokio::test]
async fn a_failed_upgrade_leaves_the_polling_session_alone() {
    within(BOUND, async {
        let patient = server(Duration::from_secs(30)).await;
        let hasty = server(Duration::from_millis(300)).await;
        use Failure::*;
        let failures = [
            Cut,
            Reset,
            CloseFrame,
            Text("hello"),
            Text(""),
            Text("2"),
            Text("3probe"),
            Text(r#"42["first",1]"#),
            Text("1"),
            Binary,
            Garbage(b"GET / HTTP/1.1\r\n\r\n"),
            Garbage(&[0x81, 0x06, b'2', b'p', b'r', b'o', b'b', b'e']), // not masked
            Garbage(&[0xff; 64]),
        ];
        for probed in [false, true] {
            for failure in failures {
                check(&patient, probed, failure).await;
            }
            check(&hasty, probed, Silence).await;
        }
        // The upgrade packet without a probe before it.
        check(&patient, false, Text("5")).await;
    })
    .await;

    async fn check(running: &Running, probed: bool, failure: Failure) {
        let context = format!("probed {probed}, {failure:?}");
        let endpoint = running.endpoint();
        let mut client = RawClient::polling(&endpoint).await.unwrap();
        let id = client.connect("/", None).await.unwrap();
        let mut candidate = match probed {
            true => client.probe().await.unwrap(),
            false => WebSocket::open(&endpoint, Some(client.sid())).await.unwrap(),
        };
        match failure {
            Failure::Cut => drop(candidate),
            Failure::Reset => candidate.reset(),
            failure => {
                match failure {
                    Failure::CloseFrame => candidate.queue_close(),
                    Failure::Text(text) => candidate.queue_text(text),
                    Failure::Binary => candidate.queue_binary(b"2probe"),
                    Failure::Garbage(bytes) => candidate.queue_raw(bytes),
                    Failure::Silence | Failure::Cut | Failure::Reset => {}
                }
                // The server lets the candidate go, and sends nothing of the session on it.
                loop {
                    tokio::select! {
                        end = candidate.next() => match end {
                            Ok(Some(Message::Close(_)) | None) | Err(_) => break,
                            Ok(Some(other)) => panic!("{context}: {other:?}"),
                        },
                        driven = client.drive() => driven.expect(&context),
                    }
                }
            }
        }
        // Both directions, as if nothing had been.
        assert_eq!(client.ask(1, "first", &[json!(1)]).await.expect(&context), json!([1]));
        running.io.to(id).emit("told", 7);
        assert_eq!(client.next().await.expect(&context).args_of("told"), Some(&[json!(7)][..]), "{context}");
        assert!(!client.is_websocket());
        // The place of the candidate is free again, as soon as the server has noticed.
        let upgraded = loop {
            match WebSocket::try_open(&endpoint, Some(client.sid())).await.expect(&context) {
                Ok(candidate) => break candidate,
                Err(refused) => assert_eq!(refused.status, 400, "{context}"),
            }
        };
        finish(&mut client, upgraded).await;
        assert_eq!(client.ask(2, "first", &[json!(2)]).await.expect(&context), json!([2]));
        assert!(client.is_websocket());
        assert_eq!(client.too_soon(NOOP_GAP), 0, "{context}");
        client.reset();
    }
}

/// Probes and switches.
async fn finish(client: &mut RawClient, mut candidate: WebSocket) {
    candidate.queue_text("2probe");
    loop {
        tokio::select! {
            answer = candidate.next() => {
                assert_eq!(answer.unwrap(), Some(Message::Text("3probe".to_owned())));
                break;
            }
            driven = client.drive() => driven.unwrap(),
        }
    }
    client.pause();
    while !client.is_idle() {
        client.drive().await.unwrap();
    }
    client.switch(candidate).await.unwrap();
}

#[tokio::test]
async fn polls_do_not_spin_while_an_upgrade_hangs_and_events_are_not_held_back() {
    within(BOUND, async {
        let running = server(Duration::from_secs(30)).await;
        let mut client = RawClient::polling(&running.endpoint()).await.unwrap();
        let id = client.connect("/", None).await.unwrap();
        let candidate = client.probe().await.unwrap();
        // The client never finishes, and polls as fast as it is answered.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            client.drive().await.unwrap();
        }
        let empty = client.empty_polls().len();
        assert!(empty > 1, "polls are released so that the client can pause");
        assert_eq!(client.too_soon(NOOP_GAP), 0, "{empty} empty polls");
        for i in 0..50 {
            running.io.to(id.as_str()).emit("told", i);
            assert_eq!(client.next().await.unwrap().number(), Some(i));
            assert_eq!(client.ask(i, "first", &[json!(i)]).await.unwrap(), json!([i]));
        }
        assert_eq!(client.too_soon(NOOP_GAP), 0);
        // It could have been finished all the time.
        client.pause();
        while !client.is_idle() {
            client.drive().await.unwrap();
        }
        client.switch(candidate).await.unwrap();
        assert_eq!(client.ask(99, "first", &[json!(99)]).await.unwrap(), json!([99]));
    })
    .await;
}

#[tokio::test]
async fn a_second_candidate_is_refused_and_the_first_goes_on() {
    within(BOUND, async {
        let running = server(Duration::from_secs(30)).await;
        let endpoint = running.endpoint();
        let mut client = RawClient::polling(&endpoint).await.unwrap();
        client.connect("/", None).await.unwrap();
        let first = WebSocket::open(&endpoint, Some(client.sid())).await.unwrap();
        let second = WebSocket::try_open(&endpoint, Some(client.sid())).await.unwrap();
        assert_eq!(second.expect_err("a second candidate").status, 400);
        finish(&mut client, first).await;
        let third = WebSocket::try_open(&endpoint, Some(client.sid())).await.unwrap();
        assert_eq!(third.expect_err("a candidate for a session on WebSocket").status, 400);
        assert_eq!(client.ask(1, "first", &[json!(1)]).await.unwrap(), json!([1]));
    })
    .await;
}
