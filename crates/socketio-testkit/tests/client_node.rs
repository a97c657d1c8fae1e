//! Our client against the npm server. It needs `node` and what `npm ci` puts into `interop/node`:
//! `cargo test -p socketio-testkit --test client_node -- --ignored`.

mod client_common;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use client_common::{BOUND, bytes, each_way, over};
use serde_json::json;
use socketio_client::{Client, ClientBuilder, ConnectFailure, SimpleClient, State, Value, extract::Data};
use socketio_testkit::Child;

/// The server, and clients of it.
struct Node(Child, u16);

impl Node {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/node");
        let folder = std::env::var_os("INTEROP_NODE").map_or(folder, Into::into);
        let mut child = Child::start("node", [folder.join("serve.mjs")]).expect("node is installed");
        let port = child.line(Duration::from_secs(20)).expect("the server starts").parse().expect("a port");
        Self(child, port)
    }

    fn client(&self, namespace: &str) -> ClientBuilder {
        Client::builder(&format!("http://127.0.0.1:{}{namespace}", self.1))
            .reconnection_delay(Duration::from_millis(10))
    }
}

#[tokio::test]
#[ignore = "needs node and the modules of interop/node"]
async fn events_and_answers_go_both_ways() {
    let node = Node::start();
    each_way(async |way| {
        for eio3 in [false, true] {
            let socket = over(node.client("/"), way)
                .eio3(eio3)
                .on("question", async |Data(n): Data<i64>| n * 7)
                .connect()
                .await
                .unwrap();
            assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
            assert_eq!(socket.emit_with_ack::<i64>("ask me", 6).await, Ok(42));
            let sent = (bytes(b"a\x1eb"), "text", bytes(b""));
            let back: (Bytes, String, Bytes) = socket.emit_with_ack("give back", sent.clone()).await.unwrap();
            assert_eq!((&back.0, back.1.as_str(), &back.2), (&sent.0, sent.1, &sent.2));
            let long = "x".repeat(900_000);
            assert_eq!(socket.emit_with_ack::<String>("give back", &long).await.unwrap().len(), long.len());
            socket.close().await;
        }
    })
    .await;
    drop(node.0);
}

#[tokio::test]
#[ignore = "needs node and the modules of interop/node"]
async fn refusals_and_namespaces() {
    let node = Node::start();
    each_way(async |way| {
        let wrong = over(node.client("/admin"), way).auth(json!({"token": "wrong"})).connect().await;
        let Err(ConnectFailure::Refused(error)) = wrong else { panic!("it is let in") };
        assert_eq!(error.message(), "not authorized");
        assert_eq!(error.data_ref().and_then(|data| data.get("code")).and_then(Value::as_i64), Some(4001));
        let root = over(node.client("/"), way).connect().await.unwrap();
        let admin = root.namespace("/admin").auth(async || json!({"token": "secret"})).connect().await.unwrap();
        assert_eq!(admin.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        let nowhere = root.namespace("/nowhere").connect().await;
        assert!(matches!(nowhere, Err(ConnectFailure::Refused(error)) if error.message() == "Invalid namespace"));
        root.emit("put me out", ());
        root.closed().await;
        assert!(admin.connected());
    })
    .await;
}

#[tokio::test]
#[ignore = "needs node and the modules of interop/node"]
async fn heartbeats_and_recovery() {
    let node = Node::start();
    each_way(async |way| {
        let mut client = SimpleClient::from_builder(over(node.client("/"), way)).await.unwrap();
        // More than a ping and its timeout.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(client.socket().connected());
        client.emit("tell all", 0).unwrap();
        let mut state = client.socket().state();
        state.borrow_and_update();
        let mut want = 0;
        while want < 4 {
            let event = client.receive().await.unwrap();
            if event.name() != "n" {
                continue;
            }
            assert_eq!(event.data::<i32>().unwrap(), want);
            want += 1;
            if want == 1 {
                client.emit("cut", ([1, 2, 3],)).unwrap();
            }
        }
        tokio::time::timeout(BOUND, state.wait_for(|state| matches!(state, State::Connected))).await.unwrap().unwrap();
        assert!(client.socket().recovered());
        client.close().await;
    })
    .await;
}
