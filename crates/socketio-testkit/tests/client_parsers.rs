//! Our client with each parser, binary wherever it may stand, and what the server's `maxPayload` lets through.

mod client_common;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use client_common::{BOUND, bytes, client, each_way, over};
use serde::{Deserialize, Serialize};
use serde_json::json;
use socketio_client::{
    AckError, AnyParser, DynChunk, DynDecoder, DynPacket, EmitError, EncodeError, Message, PacketKind, Parser,
    SimpleClient, Transport, Value, Violation, extract::Data,
};
use socketio_testkit::{Running, serve, within};

/// Bytes at every depth, beside everything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Upload {
    name: String,
    parts: Vec<Part>,
    by_name: BTreeMap<String, Bytes>,
    none: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Part {
    Empty,
    Inline(Bytes),
    Named { label: String, data: (u8, Bytes) },
}

fn upload() -> Upload {
    Upload {
        name: "a\u{1e}b".to_owned(),
        parts: vec![
            Part::Inline(bytes(b"\x1e\x1e")),
            Part::Empty,
            Part::Named { label: "{\"_placeholder\":true,\"num\":0}".to_owned(), data: (7, bytes(b"")) },
        ],
        by_name: [("x".to_owned(), bytes(b"\x00\xff")), ("y".to_owned(), bytes(b"4"))].into(),
        none: None,
    }
}

async fn server_with(parser: AnyParser) -> Running {
    serve(client_common::builder().parser(parser)).await.unwrap()
}

#[tokio::test]
async fn binary_goes_anywhere_in_the_arguments_with_json_and_messagepack() {
    for parser in [AnyParser::json(), AnyParser::msgpack()] {
        let server = server_with(parser.clone()).await;
        each_way(async |way| {
            let mut client =
                SimpleClient::from_builder(over(client(&server, "/chat"), way).parser(parser.clone())).await.unwrap();
            assert_eq!(client.receive().await.unwrap().data::<String>().unwrap(), "hello");
            let sent = (bytes(b"first"), upload(), 5, vec![bytes(b""), bytes(b"2probe")], bytes(b"last"));
            let back: (Bytes, Upload, u8, Vec<Bytes>, Bytes) = client.call("give back", &sent).await.unwrap();
            assert_eq!(back, sent);
            client.emit("echo", &sent).unwrap();
            let echo = client.receive().await.unwrap();
            assert_eq!(echo.data::<(Bytes, Upload, u8, Vec<Bytes>, Bytes)>().unwrap(), sent);
            client.close().await;
        })
        .await;
    }
}

#[tokio::test]
async fn handlers_answer_with_bytes_in_messagepack() {
    let server = server_with(AnyParser::msgpack()).await;
    each_way(async |way| {
        let socket = over(client(&server, "/"), way)
            .parser(AnyParser::msgpack())
            .on("question", async |Data(data): Data<Bytes>| vec![data, bytes(b"more")])
            .connect()
            .await
            .unwrap();
        let back: Vec<Bytes> = socket.emit_with_ack("ask me", bytes(b"\xc1\x00")).await.unwrap();
        assert_eq!(back, [bytes(b"\xc1\x00"), bytes(b"more")]);
        socket.close().await;
    })
    .await;
}

/// Every packet as one JSON text.
struct Stringify;

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: u64,
    nsp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

impl Parser for Stringify {
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError> {
        if packet.data.as_ref().is_some_and(Value::has_binary) {
            return Err(EncodeError::Binary);
        }
        let DynPacket { kind, namespace, id, data } = packet.clone();
        let wire = Wire { kind: kind.number().into(), nsp: namespace, data, id };
        let text = serde_json::to_string(&wire).map_err(|error| EncodeError::Serialize(error.to_string()))?;
        Ok(vec![DynChunk::Text(text)])
    }

    fn decoder(&self) -> Box<dyn DynDecoder> {
        Box::new(StringifyDecoder)
    }
}

#[derive(Debug)]
struct StringifyDecoder;

impl DynDecoder for StringifyDecoder {
    fn add(&mut self, message: Message<'_>) -> Result<Option<DynPacket>, Violation> {
        let Message::Text(text) = message else { return Err(Violation::UnexpectedBinary) };
        let wire: Wire = serde_json::from_str(text).map_err(|error| Violation::Custom(error.to_string()))?;
        let kind = PacketKind::from_number(wire.kind).ok_or(Violation::UnknownType)?;
        Ok(Some(DynPacket { kind, namespace: wire.nsp, id: wire.id, data: wire.data }))
    }
}

#[tokio::test]
async fn a_parser_of_your_own_serves_both_sides() {
    let parser = AnyParser::custom(Arc::new(Stringify));
    let server = server_with(parser.clone()).await;
    each_way(async |way| {
        let socket = over(client(&server, "/"), way)
            .parser(parser.clone())
            .on("question", async |Data(n): Data<i64>| n * 2)
            .connect()
            .await
            .unwrap();
        assert_eq!(socket.emit_with_ack::<i64>("ask me", 21).await, Ok(42));
        assert_eq!(
            socket.emit_with_ack::<serde_json::Value>("give back", json!({"a": [1]})).await,
            Ok(json!({"a": [1]}))
        );
        let refused = socket.emit("echo", bytes(b"no")).result();
        assert_eq!(refused, Err(EmitError::Encode(EncodeError::Binary)));
        let refused = socket.emit_with_ack::<()>("echo", bytes(b"no")).await;
        assert!(matches!(refused, Err(AckError::NotSent(_))), "{refused:?}");
        let chat = socket.namespace("/chat").connect().await.unwrap();
        assert_eq!(chat.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        drop(chat);
        socket.close().await;
    })
    .await;
}

const LIMIT: usize = 1_000;

async fn small_server() -> Running {
    serve(client_common::builder().max_payload(LIMIT)).await.unwrap()
}

#[tokio::test]
async fn polls_are_cut_where_the_server_takes_no_more_and_keep_the_order() {
    let server = small_server().await;
    within(BOUND, async {
        let builder = client(&server, "/").transports([Transport::Polling]).upgrade(false);
        let mut client = SimpleClient::from_builder(builder).await.unwrap();
        assert_eq!(client.receive().await.unwrap().name(), "first");
        let sent: Vec<(usize, String, Bytes)> =
            (0..40).map(|n| (n, "x".repeat(n * 17 % 800), Bytes::from(vec![n as u8; n * 31 % 700]))).collect();
        for event in &sent {
            client.emit("echo", event).unwrap();
        }
        for event in &sent {
            assert_eq!(client.receive().await.unwrap().data::<(usize, String, Bytes)>().unwrap(), *event);
        }
        assert_eq!(server.sessions(), 1);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_can_never_go_is_refused_at_once_and_what_just_fits_goes() {
    let server = small_server().await;
    // The longest that fits: over polling a `b` and base64 are in front, on WebSocket the bytes are as they are.
    check(&server, Transport::Polling, 747, 1_001).await;
    check(&server, Transport::WebSocket, 1_000, 1_001).await;

    async fn check(server: &Running, transport: Transport, fits: usize, len: usize) {
        within(BOUND, async {
            let socket = client(server, "/").transports([transport]).upgrade(false).connect().await.unwrap();
            let back: Bytes = socket.emit_with_ack("give back", Bytes::from(vec![1; fits])).await.unwrap();
            assert_eq!(back.len(), fits);
            let over = Bytes::from(vec![1; fits + 1]);
            let want = EmitError::TooLarge { len, limit: LIMIT as u64 };
            assert_eq!(socket.emit("echo", &over).error(), Some(&want));
            assert_eq!(socket.emit_with_ack::<()>("echo", &over).await, Err(AckError::NotSent(want.to_string())));
            // Text counts with its packet.
            let text = |len: usize| "x".repeat(len - r#"42["echo",""]"#.len());
            assert!(socket.emit("echo", text(LIMIT)).is_ok());
            assert_eq!(
                socket.emit("echo", text(LIMIT + 1)).error(),
                Some(&EmitError::TooLarge { len: LIMIT + 1, limit: LIMIT as u64 })
            );
            assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5), "the connection goes on");
            assert_eq!(server.sessions(), 1);
            socket.close().await;
        })
        .await;
        assert!(socketio_testkit::eventually(BOUND, || server.sessions() == 0).await);
    }
}
