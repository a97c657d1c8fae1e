//! Handlers that come and go, and credentials that are asked for again.

mod client_common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use client_common::{BOUND, Wire, client};
use serde_json::json;
use socketio::{Auth, ConnectError, Namespace, SocketIo};
use socketio_client::{State, Transport, extract::Data};
use socketio_testkit::{serve, within};
use tokio::sync::mpsc;

#[tokio::test]
async fn handlers_are_added_and_removed_as_in_node() {
    let server = client_common::server().await;
    within(BOUND, async {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let say = move |what: &'static str| {
            let sender = sender.clone();
            move |Data(n): Data<i32>| {
                sender.send(format!("{what} {n}")).unwrap();
                async {}
            }
        };
        let socket = client(&server, "/").once("echo", say("first")).on("echo", say("every")).connect().await.unwrap();
        socket.emit("echo", 1);
        socket.emit("echo", 2);
        for want in ["first 1", "every 1", "every 2"] {
            assert_eq!(heard.recv().await.as_deref(), Some(want));
        }
        socket.once("echo", say("second")).unwrap();
        socket.on("message", say("message")).unwrap();
        assert_eq!(socket.event_names(), ["echo", "message"]);
        socket.emit("echo", 3);
        socket.emit("echo", 4);
        for want in ["every 3", "second 3", "every 4"] {
            assert_eq!(heard.recv().await.as_deref(), Some(want));
        }
        socket.off("echo");
        assert_eq!(socket.event_names(), ["message"]);

        let overheard = Arc::new(Mutex::new(Vec::new()));
        let (came, left) = (Arc::clone(&overheard), Arc::clone(&overheard));
        socket.on_any(move |event, _| came.lock().unwrap().push(format!("in {event}")));
        socket.on_any_outgoing(move |event, _| left.lock().unwrap().push(format!("out {event}")));
        socket.emit("emit", ("message", 5));
        assert_eq!(heard.recv().await.as_deref(), Some("message 5"));
        socket.off_any();
        socket.off_any_outgoing();
        socket.send(6);
        socket.emit("emit", ("message", 7));
        assert_eq!(heard.recv().await.as_deref(), Some("message 7"), "what was off is not called");
        assert_eq!(*overheard.lock().unwrap(), ["out emit", "in message"]);
    })
    .await;
}

#[derive(serde::Deserialize)]
struct Token {
    token: usize,
}

/// A token serves once: a client that says an old one again is refused.
#[tokio::test]
async fn a_token_is_asked_for_at_every_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let takes = Arc::clone(&seen);
    let namespace = Namespace::new("/").use_(move |Auth(auth): Auth<Token>| {
        let mut seen = takes.lock().unwrap();
        let fresh = !seen.contains(&auth.token);
        seen.push(auth.token);
        async move { if fresh { Ok(()) } else { Err(ConnectError::new("an old token")) } }
    });
    let server = serve(SocketIo::builder().namespace(namespace)).await.unwrap();
    within(BOUND, async {
        let (wire, issued) = (Wire::default(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&issued);
        let socket = wire
            .through(client(&server, "/").transports([Transport::WebSocket]))
            .auth(move || {
                let counter = Arc::clone(&counter);
                async move {
                    // As if somebody far away had to be asked.
                    tokio::task::yield_now().await;
                    match counter.fetch_add(1, Ordering::SeqCst) {
                        // Once there is none to be had: the connection is tried again later.
                        2 => Err("no token now"),
                        token => Ok(json!({"token": token})),
                    }
                }
            })
            .connect()
            .await
            .unwrap();
        let mut state = socket.state();
        for _ in 0..3 {
            wire.cut();
            state.wait_for(|state| matches!(state, State::Reconnecting(_))).await.unwrap();
            state.wait_for(|state| matches!(state, State::Connected)).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [0, 1, 3, 4]);
        assert_eq!(issued.load(Ordering::SeqCst), 5);
    })
    .await;
}
