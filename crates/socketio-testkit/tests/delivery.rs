//! What one handler emits arrives complete and in order, and where it was sent to.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Packet, RawClient, Running, promises, serve, within};

const BOUND: Duration = Duration::from_secs(60);

async fn clients(running: &Running) -> Vec<RawClient> {
    let endpoint = running.endpoint();
    let mut upgraded = RawClient::polling(&endpoint).await.unwrap();
    upgraded.connect("/", None).await.unwrap();
    upgraded.upgrade().await.unwrap();
    let mut others = [RawClient::polling(&endpoint).await.unwrap(), RawClient::websocket(&endpoint).await.unwrap()];
    for client in &mut others {
        client.connect("/", None).await.unwrap();
    }
    let [polling, websocket] = others;
    vec![polling, websocket, upgraded]
}

#[tokio::test]
async fn a_burst_of_emits_in_one_handler_arrives_complete_and_in_order() {
    within(BOUND, async {
        let running = serve(promises::builder(&Arc::default())).await.unwrap();
        for mut client in clients(&running).await {
            for burst in [500, 1, 5_000] {
                client.emit("burst", &[json!(burst)]).await.unwrap();
                for i in 0..burst {
                    assert_eq!(client.next().await.unwrap().args_of("number"), Some(&[json!(i)][..]));
                }
            }
            // And nothing behind it.
            assert_eq!(client.ask(1, "first", &[json!(1)]).await.unwrap(), json!([1]));
            assert_eq!(client.ready().unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn bursts_of_many_clients_at_once_do_not_mix() {
    within(BOUND, async {
        let running = serve(promises::builder(&Arc::default())).await.unwrap();
        let mut tasks = Vec::new();
        for i in 0..20 {
            let endpoint = running.endpoint();
            tasks.push(tokio::spawn(async move {
                let mut client = match i % 2 {
                    0 => RawClient::polling(&endpoint).await.unwrap(),
                    _ => RawClient::websocket(&endpoint).await.unwrap(),
                };
                client.connect("/", None).await.unwrap();
                client.emit("burst", &[json!(500)]).await.unwrap();
                for want in 0..500 {
                    assert_eq!(client.next().await.unwrap().number(), Some(want));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_emit_to_a_sockets_id_reaches_exactly_that_socket() {
    within(BOUND, async {
        let running = serve(promises::builder(&Arc::default())).await.unwrap();
        let endpoint = running.endpoint();
        let mut crowd = Vec::new();
        for i in 0..12 {
            let mut client = match i % 2 {
                0 => RawClient::polling(&endpoint).await.unwrap(),
                _ => RawClient::websocket(&endpoint).await.unwrap(),
            };
            let root = client.connect("/", None).await.unwrap();
            let chat = client.connect("/chat", None).await.unwrap();
            crowd.push((client, root, chat));
        }
        for (i, (_, root, chat)) in crowd.iter().enumerate() {
            running.io.to(root.as_str()).emit("told", i);
            running.io.of("/chat").to(chat.as_str()).emit("told", i);
            // The id of a socket of another namespace is nobody's here.
            running.io.to(chat.as_str()).emit("told", "wrong");
            running.io.of("/chat").to(root.as_str()).emit("told", "wrong");
        }
        // From one client to another, by the id it was told.
        let last = crowd.len() - 1;
        let id = crowd[last].1.clone();
        crowd[0].0.emit("to", &[json!(id), json!("hello")]).await.unwrap();
        let hello = crowd[last].0.wait_for(|packet| packet.args_of("told") == Some(&[json!("hello")])).await.unwrap();
        assert_eq!(hello.namespace, "/");
        for (i, (client, ..)) in crowd.iter_mut().enumerate() {
            // What was emitted before this answer has come before it.
            assert_eq!(client.ask(1, "first", &[json!(1)]).await.unwrap(), json!([1]));
            let mut told = Vec::new();
            while let Some(Packet { namespace, data, .. }) = client.ready().unwrap() {
                told.push((namespace, data));
            }
            assert_eq!(told, [("/".to_owned(), json!(["told", i])), ("/chat".to_owned(), json!(["told", i]))]);
        }
    })
    .await;
}
