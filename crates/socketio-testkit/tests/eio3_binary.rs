//! Clients of Engine.IO 3 exchange binary data over polling, in both forms of the protocol, byte by byte.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use socketio::Bytes;
use socketio_testkit::{Endpoint, Http, Kind, RawClient, Running, promises, serve, within};

const BOUND: Duration = Duration::from_secs(30);
const EVENT: &str = r#"451-["echo",{"_placeholder":true,"num":0}]"#;

async fn server() -> Running {
    serve(promises::builder(&Arc::default()).allow_eio3(true).http_compression(None)).await.unwrap()
}

/// Opens a polling session of revision 3 whose `/` is joined.
async fn open(endpoint: &Endpoint) -> String {
    let mut client = RawClient::polling(endpoint).await.unwrap();
    client.connect("/", None).await.unwrap();
    client.sid().to_owned()
}

/// One packet of a binary payload.
fn part(flag: u8, data: &[u8]) -> Vec<u8> {
    let digits = data.len().to_string().bytes().map(|digit| digit - b'0').collect::<Vec<_>>();
    [&[flag], &digits[..], &[0xff], data].concat()
}

#[tokio::test]
async fn binary_over_polling_is_base64_text_for_clients_that_asked_for_it() {
    within(BOUND, async {
        let running = server().await;
        let endpoint = running.endpoint().eio3().b64();
        let target = endpoint.target("polling", Some(&open(&endpoint).await));
        let mut http = Http::connect(endpoint.addr, None).await.unwrap();
        for (data, base64) in
            [(&[1_u8, 2, 3][..], "AQID"), (&[0, 255, 30, 4], "AP8eBA=="), (&[], ""), (&[0xfb, 0xff], "+/8=")]
        {
            let want = format!("{}:{EVENT}{}:b4{base64}", EVENT.len(), 2 + base64.len());
            running.io.broadcast().emit("echo", Bytes::copy_from_slice(data));
            let answer = http.get(&target).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, want.as_str()));
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
            // The same bytes from the client come back as they went.
            let posted = http.post(&target, &want).await.unwrap();
            assert_eq!((posted.status, posted.text()), (200, "ok"));
            assert_eq!(http.get(&target).await.unwrap().text(), want);
        }
    })
    .await;
}

#[tokio::test]
async fn binary_over_polling_is_binary_for_all_other_clients() {
    within(BOUND, async {
        let running = server().await;
        let endpoint = running.endpoint().eio3();
        let target = endpoint.target("polling", Some(&open(&endpoint).await));
        let mut http = Http::connect(endpoint.addr, None).await.unwrap();
        for data in [&[1_u8, 2, 3][..], &[0, 255, 30, 4], &[], &[7; 1000]] {
            let want = [part(0, EVENT.as_bytes()), part(1, &[&[4], data].concat())].concat();
            running.io.broadcast().emit("echo", Bytes::copy_from_slice(data));
            let answer = http.get(&target).await.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, want.as_slice()));
            assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
            http.queue_post(&target, "application/octet-stream", &want);
            let posted = http.answer().await.unwrap();
            assert_eq!((posted.status, posted.text()), (200, "ok"));
            assert_eq!(http.get(&target).await.unwrap().body, want);
        }
        // Text alone stays text, counted in UTF-16 units.
        let text = r#"42["echo","é😀"]"#;
        let want = format!("{}:{text}", text.encode_utf16().count());
        running.io.broadcast().emit("echo", "é😀");
        let answer = http.get(&target).await.unwrap();
        assert_eq!(answer.text(), want);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
    })
    .await;
}

#[tokio::test]
async fn binary_of_both_forms_and_of_websocket_is_the_same_to_the_application() {
    within(BOUND, async {
        let running = server().await;
        let data: Vec<u8> = (0..=255).collect();
        let endpoint = running.endpoint().eio3();
        for mut client in [
            RawClient::polling(&endpoint.clone().b64()).await.unwrap(),
            RawClient::polling(&endpoint).await.unwrap(),
            RawClient::websocket(&endpoint).await.unwrap(),
        ] {
            client.connect("/", None).await.unwrap();
            client.queue_packet(EVENT);
            client.queue_binary(&data);
            let echo = client.next().await.unwrap();
            assert_eq!((echo.kind, echo.attachments), (Kind::Event, vec![data.clone()]));
            assert_eq!(echo.data, json!(["echo", {"_placeholder": true, "num": 0}]));
        }
    })
    .await;
}
