//! The connection of our client, watched from outside: its events and its states.

mod client_common;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client_common::{BOUND, Wire, client};
use socketio_client::{Client, DisconnectReason, ManagerEvent, ManagerEvents, State};
use socketio_testkit::within;
use tokio::io::DuplexStream;

/// An event in a word, so that they can be compared.
fn word(event: &ManagerEvent) -> String {
    match event {
        ManagerEvent::Open(transport) => format!("open {}", transport.name()),
        ManagerEvent::Upgrade => "upgrade".to_owned(),
        ManagerEvent::Ping => "ping".to_owned(),
        ManagerEvent::Close(reason) => format!("close {reason}"),
        ManagerEvent::Error(_) => "error".to_owned(),
        ManagerEvent::ReconnectAttempt(n) => format!("reconnect_attempt {n}"),
        ManagerEvent::Reconnect(n) => format!("reconnect {n}"),
        ManagerEvent::ReconnectError(_) => "reconnect_error".to_owned(),
        ManagerEvent::ReconnectFailed => "reconnect_failed".to_owned(),
        _ => "something new".to_owned(),
    }
}

async fn words(events: &mut ManagerEvents, want: &[&str]) {
    for want in want {
        let event = events.next().await.expect("the connection is kept");
        assert_eq!(word(&event), *want);
    }
}

#[tokio::test]
async fn a_manager_tells_what_happens_to_its_connection() {
    let builder = client_common::builder().ping_interval(Duration::from_millis(200));
    let server = socketio_testkit::serve(builder).await.unwrap();
    within(BOUND, async {
        let wire = Wire::default();
        let manager = wire.through(client(&server, "/")).manager().unwrap();
        let mut states = manager.state();
        assert!(matches!(*states.borrow(), State::Idle));
        let mut events = manager.events();
        let socket = manager.socket("/").connect().await.unwrap();
        words(&mut events, &["open polling", "upgrade", "ping"]).await;
        assert!(matches!(*states.borrow_and_update(), State::Connected));
        wire.cut();
        // More pings may have come before.
        let closed = loop {
            match events.next().await.unwrap() {
                ManagerEvent::Ping => {}
                other => break word(&other),
            }
        };
        assert!(closed.starts_with("close transport "), "{closed}");
        words(&mut events, &["reconnect_attempt 1", "open polling", "reconnect 1", "upgrade"]).await;
        states.wait_for(|state| matches!(state, State::Connected)).await.unwrap();
        // Another handle of the same connection.
        assert!(matches!(*socket.manager().state().borrow(), State::Connected));
        drop(manager);
        socket.close().await;
        while let Some(event) = events.next().await {
            assert!(["ping", "close forced close"].contains(&word(&event).as_str()), "{event:?}");
        }
        assert!(matches!(*states.borrow(), State::Disconnected(DisconnectReason::ClientDisconnect)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_and_their_end_is_told() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    let manager = Client::builder("http://localhost")
        .connector(move |_, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()) }
        })
        .reconnection_attempts(2)
        .manager()
        .unwrap();
    let (mut events, mut states) = (manager.events(), manager.state());
    let socket = manager.socket("/").connect_lazy().unwrap();
    let state = states.wait_for(|state| matches!(state, State::Reconnecting(_))).await.unwrap().clone();
    assert!(matches!(state, State::Reconnecting(1)), "{state:?}");
    words(
        &mut events,
        &[
            "error",
            "reconnect_attempt 1",
            "error",
            "reconnect_error",
            "reconnect_attempt 2",
            "error",
            "reconnect_error",
            "reconnect_failed",
        ],
    )
    .await;
    assert!(matches!(*states.borrow_and_update(), State::Failed(_)));
    // Asked for again, it counts anew.
    socket.connect();
    words(&mut events, &["error", "reconnect_attempt 1"]).await;
    assert!(tries.load(Ordering::SeqCst) >= 4);
    socket.disconnect();
    let left = states.wait_for(|state| matches!(state, State::Disconnected(_))).await.unwrap().clone();
    assert!(matches!(left, State::Disconnected(DisconnectReason::ClientDisconnect)));
}
