//! Events of one client are handled in the order in which it sent them, and answered in it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Kind, RawClient, promises, serve, within};

const CONNECTIONS: u64 = 4;
const EVENTS: u64 = 250_000;
/// Every so many events want an answer.
const ANSWERED: u64 = 16;
/// How many bytes a client writes ahead.
const AHEAD: usize = 32 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_come_without_one_inversion_and_are_answered_in_order() {
    within(Duration::from_secs(300), async {
        let ledger = Arc::new(promises::Ledger::default());
        let running = serve(promises::builder(&ledger)).await.unwrap();
        let endpoint = running.endpoint();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let endpoint = endpoint.clone();
                tokio::spawn(async move {
                    let mut client = RawClient::websocket(&endpoint).await.unwrap();
                    client.connect("/", None).await.unwrap();
                    send_all(client, number).await
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(promises::Ledger::read(&ledger.got), CONNECTIONS * EVENTS);
        assert_eq!(promises::Ledger::read(&ledger.faults), 0);
    })
    .await;
}

/// Sends events, with and without waiting handlers, and checks the answers as they come.
async fn send_all(mut client: RawClient, number: u64) {
    let wants_answer = |i: u64| i.is_multiple_of(ANSWERED) || i == EVENTS - 1;
    let mut unanswered = (0..EVENTS).filter(|i| wants_answer(*i));
    let mut next = unanswered.next();
    let mut sent = 0;
    let mut text = String::new();
    while let Some(want) = next {
        while sent < EVENTS && client.socket().is_some_and(|socket| socket.queued() < AHEAD) {
            text.clear();
            // On each connection other events wait.
            let name = if (sent + number).is_multiple_of(5) { "seq-wait" } else { "seq" };
            let id = if wants_answer(sent) { sent.to_string() } else { String::new() };
            write!(text, "42{id}[\"{name}\",{sent}]").unwrap();
            client.queue_packet(&text);
            sent += 1;
        }
        match client.ready().unwrap() {
            Some(answer) => {
                assert_eq!((answer.kind, answer.id, answer.data), (Kind::Ack, Some(want), json!([want])));
                next = unanswered.next();
            }
            None => client.drive().await.unwrap(),
        }
    }
}
