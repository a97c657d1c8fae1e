//! Random packets survive the way over the wire, random messages harm nobody.

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use socketio_proto::{
    Acks, AnyParser, Connection, Decision, Limits, Map, Message, Packet, Revision, Slot, Spread, Value,
};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has finite numbers only", |number| number.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::from(Bytes::from(bytes))),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            // A plain object that looks like a placeholder is one; nothing escapes it in this protocol.
            prop::collection::btree_map(text().prop_filter("", |key| key != "_placeholder"), inner, 0..6)
                .prop_map(|map| Value::from(Map::from_iter(map))),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter),
        prop::sample::select(vec!["num", "\\", "\"", "\u{0}", "\u{2028}", "😀", "{}", "[", ","])
            .prop_map(str::to_owned),
    ]
}

fn round_trip(
    parser: &AnyParser,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    values: &[Value],
) -> Result<(), TestCaseError> {
    let mut limits = Limits::default();
    limits.max_attachments = 9_999;
    let mut decoder = parser.decoder(&limits);
    let encoded = parser.encode_event(namespace, id, name, &Spread(values), None, 3).expect("it encodes");
    let (last, before) = encoded.split_last().expect("a message");
    let message = |chunk: &socketio_proto::Chunk| -> bool { chunk.binary };
    for chunk in before {
        let message = if message(chunk) {
            Message::Binary(chunk.data())
        } else {
            Message::Text(std::str::from_utf8(chunk.data()).expect("text is UTF-8"))
        };
        prop_assert!(decoder.decode(message).expect("a part").is_none());
    }
    let message = if message(last) {
        Message::Binary(last.data())
    } else {
        Message::Text(std::str::from_utf8(last.data()).expect("text is UTF-8"))
    };
    let packet = decoder.decode(message).expect("a packet").expect("a whole packet");
    let Packet::Event { namespace: got_namespace, id: got_id, args } = packet else { panic!("an event") };
    prop_assert_eq!(&*got_namespace, namespace);
    prop_assert_eq!(got_id, id);
    prop_assert_eq!(args.name(), name);
    prop_assert_eq!(args.len(), values.len());
    prop_assert_eq!(args.values().expect("values"), values);
    prop_assert_eq!(args.to_owned().borrow().values().expect("values"), values);
    Ok(())
}

/// Bytes that are nearly packets.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "1-",
        "2-",
        "10-",
        "/",
        "/a,",
        "/a?x=1&y=%20,",
        ",",
        "7",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\"a\"",
        "\"connect\"",
        ":",
        "null",
        "true",
        "-",
        "1e9",
        "1e999",
        ".5",
        "\\",
        "\\u00",
        "\\ud800",
        " ",
        "é",
        "😀",
        "\0",
        "{\"_placeholder\":true,\"num\":0}",
        "\"_placeholder\":true",
        "\"num\":1",
        "[\"a\"",
        "[\"a\",",
        "51-[\"a\",",
        "2[\"a\"]",
    ]);
    prop_oneof![prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()), any::<String>()]
}

fn nearly_msgpack() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\x82",
        b"\x83",
        b"\x84",
        b"\xa4type",
        b"\xa3nsp",
        b"\xa4data",
        b"\xa2id",
        b"\xa1/",
        b"\x02",
        b"\x00",
        b"\x91",
        b"\x92",
        b"\xa1a",
        b"\xc0",
        b"\xc1",
        b"\xc4\x01",
        b"\xd4\x00\x00",
        b"\xd7\x00",
        b"\xd6\xff",
        b"\xc7\x0c\xff",
        b"\xdf\x00\x00\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a",
        b"\xff",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

/// Whatever was decoded can be looked at in every way.
fn look(packet: &Packet<'_>) {
    match packet {
        Packet::Event { args, .. } | Packet::Ack { args, .. } => {
            let values = args.values();
            assert!(values.is_err() || values.is_ok_and(|values| values.len() == args.len()));
            let _ = args.deserialize::<(String, Option<i64>, Vec<u8>)>();
            let _ = args.deserialize::<(Bytes, f64)>();
            let _ = args.deserialize::<std::collections::HashMap<String, Result<i32, Bytes>>>();
            let _ = args.to_owned().encoded_len();
        }
        Packet::Connect { data, .. } | Packet::ConnectError { data, .. } => {
            let _ = data.as_ref().map(|data| data.value());
        }
        Packet::Disconnect { .. } => {}
    }
}

#[derive(Debug, Clone)]
enum Step {
    Text(String),
    Binary(Vec<u8>),
    Accept(usize),
    Refuse(usize),
    Disconnect(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => nearly_json().prop_map(Step::Text),
        2 => nearly_msgpack().prop_map(Step::Binary),
        2 => (0..40_usize).prop_map(Step::Accept),
        1 => (0..40_usize).prop_map(Step::Refuse),
        1 => (0..40_usize).prop_map(Step::Disconnect),
        1 => (0..30_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_survives_the_wire(
        namespace in "/[a-z?=&é ]{0,6}", id in prop::option::of(0..1_u64 << 53), name in text(),
        values in prop::collection::vec(value(), 0..5),
    ) {
        round_trip(&AnyParser::json(), &namespace, id, &name, &values)?;
    }

    #[test]
    fn messagepack_survives_the_wire(
        namespace in "/[a-z?=&é, ]{0,6}", id in prop::option::of(0..1_u64 << 53), name in text(),
        values in prop::collection::vec(value(), 0..5),
    ) {
        round_trip(&AnyParser::msgpack(), &namespace, id, &name, &values)?;
    }

    #[test]
    fn any_text_is_survived(text in nearly_json()) {
        for parser in [AnyParser::json(), AnyParser::msgpack()] {
            if let Ok(Some(packet)) = parser.decoder(&Limits::default()).decode(Message::Text(&text)) {
                look(&packet);
            }
        }
    }

    #[test]
    fn any_binary_is_survived(data in nearly_msgpack()) {
        for parser in [AnyParser::json(), AnyParser::msgpack()] {
            if let Ok(Some(packet)) = parser.decoder(&Limits::default()).decode(Message::Binary(&data)) {
                look(&packet);
            }
        }
    }

    #[test]
    fn any_sequence_is_survived(v4 in any::<bool>(), pack in any::<bool>(), steps in prop::collection::vec(step(), 0..60)) {
        let limits = Limits::default();
        let parser = if pack { AnyParser::msgpack() } else { AnyParser::json() };
        let mut now = Instant::now();
        let mut connection = Connection::new(if v4 { Revision::V4 } else { Revision::V5 }, &limits, now);
        let mut decoder = parser.decoder(&limits);
        let mut slots: Vec<Slot> = Vec::new();
        if let Some(Decision::ConnectRequest { slot, .. }) = connection.open(now) {
            slots.push(slot);
        }
        for step in &steps {
            let message = match step {
                Step::Text(text) => Some(Message::Text(text)),
                Step::Binary(data) => Some(Message::Binary(data)),
                _ => None,
            };
            if let Some(message) = message {
                let packet = decoder.decode(message);
                if let Ok(Some(packet)) = packet {
                    look(&packet);
                    match connection.on_packet(packet, now) {
                        Decision::ConnectRequest { slot, namespace, .. } => {
                            prop_assert!(slot.index() < limits.max_namespaces);
                            prop_assert_eq!(connection.namespace(slot), Some(&*namespace));
                            slots.push(slot);
                        }
                        Decision::Deliver { slot, .. } => prop_assert!(connection.namespace(slot).is_some()),
                        Decision::Disconnect { slot } => prop_assert!(connection.namespace(slot).is_none()),
                        Decision::Refuse { .. } | Decision::Ignore | Decision::Close(_) => {}
                    }
                }
                connection.reconstructing(decoder.is_reconstructing(), now);
            }
            let nth = |n: usize| slots.get(n % slots.len().max(1)).copied();
            match step {
                Step::Accept(n) => { nth(*n).map(|slot| connection.accept(slot)); }
                Step::Refuse(n) => { nth(*n).map(|slot| connection.refuse(slot)); }
                Step::Disconnect(n) => { nth(*n).map(|slot| connection.disconnect(slot, now)); }
                Step::Wait(seconds) => now += std::time::Duration::from_secs(*seconds),
                Step::Text(_) | Step::Binary(_) => {}
            }
            while connection.on_time(now).is_some() {}
            prop_assert!(connection.deadline().is_none_or(|deadline| deadline > now));
        }
        let count = connection.connected_count();
        prop_assert_eq!(connection.close().len(), count);
    }

    #[test]
    fn acks_agree_with_a_list(steps in prop::collection::vec((0..4_u8, 0..12_u64), 0..80)) {
        let start = Instant::now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let mut acks = Acks::new(8);
        let mut model: Vec<(u64, Option<u64>)> = Vec::new();
        let mut next = 0;
        for (what, n) in steps {
            match what {
                0 => {
                    let registered = acks.register(next, Some(at(n)));
                    prop_assert_eq!(registered.is_ok(), model.len() < 8);
                    if registered.is_ok() { model.push((next, Some(n))); next += 1; }
                }
                1 => if acks.register(next, None).is_ok() { model.push((next, None)); next += 1; },
                2 => {
                    let id = next.saturating_sub(n);
                    let there = model.iter().position(|(known, _)| *known == id);
                    prop_assert_eq!(acks.take(id), there.map(|at| model.remove(at).0));
                }
                _ => {
                    let mut gone: Vec<_> = acks.expire(at(n)).map(|(id, _)| id).collect();
                    gone.sort_unstable();
                    let late = |entry: &(u64, Option<u64>)| entry.1.is_some_and(|deadline| deadline <= n);
                    prop_assert_eq!(gone, model.iter().filter(|entry| late(entry)).map(|entry| entry.0).collect::<Vec<_>>());
                    model.retain(|entry| !late(entry));
                }
            }
            prop_assert_eq!(acks.len(), model.len());
            prop_assert_eq!(acks.next_deadline(), model.iter().filter_map(|entry| entry.1).min().map(at));
        }
        prop_assert_eq!(acks.drain().map(|(id, _)| id).collect::<Vec<_>>(), model.iter().map(|entry| entry.0).collect::<Vec<_>>());
    }
}
