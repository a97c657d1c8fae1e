//! `socket.id` is shown to everybody; the session id is a key. One must not be the other, nor open what the other opens.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use socketio_testkit::{Endpoint, Http, RawClient, WebSocket, promises, serve, within};

const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn knowing_a_sockets_id_gives_no_access_to_its_session() {
    within(BOUND, async {
        let ledger = Arc::new(promises::Ledger::default());
        let running = serve(promises::builder(&ledger)).await.unwrap();
        let endpoint = running.endpoint();
        for mut victim in [RawClient::polling(&endpoint).await.unwrap(), RawClient::websocket(&endpoint).await.unwrap()]
        {
            let ids = [victim.connect("/", None).await.unwrap(), victim.connect("/chat", None).await.unwrap()];
            for id in &ids {
                // Something waits in the victim's queue, for a thief to read.
                running.io.to(id.as_str()).emit("secret", "for you");
                check_refused(&endpoint, id).await;
            }
            assert_eq!(victim.ask(1, "first", &[json!(1)]).await.unwrap(), json!([1]));
            let secret = victim.next().await.unwrap();
            assert_eq!(secret.args_of("secret"), Some(&[json!("for you")][..]));
        }
        // Only what the victims sent themselves.
        assert_eq!(promises::Ledger::read(&ledger.first), 2);
    })
    .await;

    async fn check_refused(endpoint: &Endpoint, id: &str) {
        let target = endpoint.target("polling", Some(id));
        let mut thief = Http::connect(endpoint.addr, None).await.unwrap();
        let answers = [
            thief.get(&target).await.unwrap(),
            thief.post(&target, r#"42["first",2]"#).await.unwrap(),
            // To end the victim's session.
            thief.post(&target, "1").await.unwrap(),
            WebSocket::try_open(endpoint, Some(id)).await.unwrap().expect_err("a WebSocket for a socket's id"),
        ];
        for answer in &answers {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        for answer in &answers[..3] {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body, json!({"code": 1, "message": "Session ID unknown"}));
        }
    }
}

#[tokio::test]
async fn a_sockets_id_is_another_one_in_each_namespace_and_never_the_sessions() {
    within(BOUND, async {
        let running = serve(promises::builder(&Arc::default())).await.unwrap();
        let endpoint = running.endpoint();
        for mut client in [RawClient::polling(&endpoint).await.unwrap(), RawClient::websocket(&endpoint).await.unwrap()]
        {
            let root = client.connect("/", None).await.unwrap();
            let chat = client.connect("/chat", None).await.unwrap();
            let sid = client.sid().to_owned();
            assert_eq!([root.len(), chat.len()], [20, 20], "Node's adapters tell ids from rooms by that");
            assert!(root != chat && root != sid && chat != sid, "{root} {chat} {sid}");
            // Nor is one a part of the other, in whatever order.
            assert!(!sid.contains(&root[..8]) && !chat.contains(&root[..8]));
        }
    })
    .await;
}
