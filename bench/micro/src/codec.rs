//! Socket.IO packets: the JSON and the MessagePack parser.

use std::hint::black_box;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socketio_proto::{AnyParser, Limits, Message, Packet};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("json-decode-16", 20_000, |n| decode(AnyParser::json(), &text(16), n)),
    Case::new("json-decode-1k", 10_000, |n| decode(AnyParser::json(), &text(1 << 10), n)),
    Case::new("json-decode-64k", 500, |n| decode(AnyParser::json(), &text(64 << 10), n)),
    Case::new("json-decode-escapes-64k", 100, |n| decode(AnyParser::json(), &escapes(64 << 10), n)),
    Case::new("json-decode-unicode-64k", 100, |n| decode(AnyParser::json(), &unicode(64 << 10), n)),
    Case::new("json-decode-object", 5_000, |n| decode(AnyParser::json(), &order(), n)),
    Case::new("json-ignore-object", 5_000, |n| ignore(AnyParser::json(), &order(), n)),
    Case::new("json-encode-16", 20_000, |n| encode(AnyParser::json(), &text(16), n)),
    Case::new("json-encode-1k", 10_000, |n| encode(AnyParser::json(), &text(1 << 10), n)),
    Case::new("json-encode-64k", 500, |n| encode(AnyParser::json(), &text(64 << 10), n)),
    Case::new("json-encode-escapes-64k", 100, |n| encode(AnyParser::json(), &escapes(64 << 10), n)),
    Case::new("json-encode-unicode-64k", 100, |n| encode(AnyParser::json(), &unicode(64 << 10), n)),
    Case::new("json-encode-object", 5_000, |n| encode(AnyParser::json(), &order(), n)),
    Case::new("msgpack-decode-16", 20_000, |n| decode(AnyParser::msgpack(), &text(16), n)),
    Case::new("msgpack-decode-64k", 500, |n| decode(AnyParser::msgpack(), &text(64 << 10), n)),
    Case::new("msgpack-decode-object", 5_000, |n| decode(AnyParser::msgpack(), &order(), n)),
    Case::new("msgpack-encode-16", 20_000, |n| encode(AnyParser::msgpack(), &text(16), n)),
    Case::new("msgpack-encode-64k", 500, |n| encode(AnyParser::msgpack(), &text(64 << 10), n)),
    Case::new("msgpack-encode-object", 5_000, |n| encode(AnyParser::msgpack(), &order(), n)),
];

/// About 512 bytes of JSON, as in `bench/peers/ours`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    id: u64,
    customer: Customer,
    lines: Vec<Line>,
    paid: bool,
    note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    name: String,
    email: String,
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    sku: String,
    title: String,
    quantity: u32,
    price: f64,
}

pub(crate) fn text(len: usize) -> String {
    "abcdefghijklmnopqrstuvwxyz 0123456789, ".chars().cycle().take(len).collect()
}

fn escapes(len: usize) -> String {
    "a line of text that is about as long as lines are in most files\n".chars().cycle().take(len).collect()
}

fn unicode(len: usize) -> String {
    "né le 29 février à Nîmes, où il ".chars().cycle().take(len).collect()
}

pub(crate) fn order() -> Order {
    let line = |index: u32| Line {
        sku: format!("SKU-{index:05}"),
        title: "A box of something useful".to_owned(),
        quantity: index * 7 % 11 + 1,
        price: f64::from(index) * 3.25 + 0.99,
    };
    Order {
        id: 4_611_686_018,
        customer: Customer {
            name: "Ada Lovelace".to_owned(),
            email: "ada@example.org".to_owned(),
            tags: vec!["early".to_owned(), "engine".to_owned(), "notes".to_owned()],
        },
        lines: (1..=4).map(line).collect(),
        paid: true,
        note: Some("leave it at the door".to_owned()),
    }
}

/// The message of an event with an ack id.
fn message<T: Serialize>(parser: &AnyParser, value: &T) -> Vec<u8> {
    parser.encode_event("/", Some(4711), "echo", value, None, 0).expect("it can be encoded")[0].data().to_vec()
}

/// An event in, its argument made.
fn decode<T: Serialize + DeserializeOwned>(parser: AnyParser, value: &T, n: u64) {
    each(parser, value, n, |packet| {
        let Packet::Event { args, .. } = packet else { panic!("it is an event") };
        black_box(args.deserialize::<T>().expect("it fits"));
    });
}

/// An event in that nobody wants the argument of.
fn ignore<T: Serialize>(parser: AnyParser, value: &T, n: u64) {
    each(parser, value, n, |packet| {
        black_box(packet);
    });
}

fn each<T: Serialize>(parser: AnyParser, value: &T, n: u64, mut then: impl FnMut(Packet<'_>)) {
    let bytes = message(&parser, value);
    let mut decoder = parser.decoder(&Limits::default());
    // UTF-8 is the WebSocket decoder's business.
    let text = std::str::from_utf8(&bytes).ok().filter(|_| format!("{parser:?}").contains("json"));
    for _ in 0..n {
        let message = match text {
            Some(text) => Message::Text(black_box(text)),
            None => Message::Binary(black_box(&bytes)),
        };
        then(decoder.decode(message).expect("it is legal").expect("it is whole"));
    }
}

/// The answer to an event.
fn encode<T: Serialize>(parser: AnyParser, value: &T, n: u64) {
    for _ in 0..n {
        black_box(parser.encode_ack("/", 4711, black_box(value), 11).expect("it can be encoded"));
    }
}
