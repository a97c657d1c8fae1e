//! From arguments to types: the same types from JSON, JSON with attachments, MessagePack and dynamic values.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use socketio_proto::{
    AnyParser, Args, DataError, EncodeError, Encoded, Limits, Map, Message, OwnedArgs, Packet, Value,
};

/// The arguments after a way over the wire.
#[track_caller]
fn received(parser: &AnyParser, encoded: Result<Encoded, EncodeError>) -> OwnedArgs {
    let mut decoder = parser.decoder(&Limits::default());
    let mut last = None;
    for chunk in encoded.expect("it encodes") {
        let message = match chunk.binary {
            true => Message::Binary(chunk.data()),
            false => Message::Text(std::str::from_utf8(chunk.data()).expect("text is UTF-8")),
        };
        last = decoder.decode(message).expect("our own packets are legal").map(|packet| match packet {
            Packet::Event { args, .. } | Packet::Ack { args, .. } => args.to_owned(),
            other => panic!("{other:?}"),
        });
    }
    last.expect("a whole packet")
}

/// The arguments of an event in each form in which they can arrive.
#[track_caller]
fn all_forms<T: Serialize + ?Sized>(data: &T) -> Vec<(&'static str, OwnedArgs)> {
    let json = AnyParser::json();
    let msgpack = AnyParser::msgpack();
    vec![
        ("json", received(&json, json.encode_event("/", None, "e", data, None, 0))),
        ("msgpack", received(&msgpack, msgpack.encode_event("/", None, "e", data, None, 0))),
        ("values", OwnedArgs::event("e", data).expect("it serializes")),
    ]
}

#[track_caller]
fn same<T>(data: &T)
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    for (form, args) in all_forms(data) {
        assert_eq!(args.name(), "e", "{form}");
        assert_eq!(args.deserialize::<T>().as_ref(), Ok(data), "{form}");
        // The detour over the dynamic form changes nothing.
        let detour = OwnedArgs::from_values(Some("e"), args.values().expect("it is valid"));
        assert_eq!(detour.deserialize::<T>().as_ref(), Ok(data), "{form} as values");
        assert_eq!((detour.len(), args.borrow().len()), (args.len(), args.len()), "{form}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct File {
    name: String,
    data: Bytes,
    more: Option<Bytes>,
    tags: BTreeMap<u32, Tag>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Bytes);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tag {
    Plain,
    New(Newtype),
    Pair(Bytes, i8),
    Named { data: ByteBuf, flag: bool },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internal {
    Blob { data: Bytes },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Blob(ByteBuf),
    List(Vec<Untagged>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    a: i32,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

fn blob(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[test]
fn types_survive_every_parser() {
    same(&());
    same(&(1,));
    same(&(1, "two".to_owned(), [3, 4], (5, 6)));
    same(&"é\"\\\u{1}😀".to_owned());
    same(&vec![Some(1.5), None]);
    same(&(u64::MAX, i64::MIN, i8::MIN, u8::MAX, f32::MIN, f64::MAX));
    same(&(true, 'x', None::<i32>, Some(Some(1))));

    same(&BTreeMap::from([(true, 1), (false, 2)]));
    same(&Tag::Plain);
    same(&vec![Untagged::Number(-1), Untagged::Text("x".into()), Untagged::List(vec![Untagged::Text("y".into())])]);
    same(&Flat { a: 1, rest: BTreeMap::from([("b".into(), Value::from(vec![1, 2])), ("c".into(), Value::Null)]) });
}

#[test]
fn bytes_survive_every_parser_at_any_depth() {
    same(&blob(b"\0\xff"));
    same(&(blob(b""), 1, blob(b"2")));
    same(&vec![blob(b"1"), blob(b"2")]);
    same(&Some(Newtype(blob(b"1"))));
    let tags = BTreeMap::from([
        (1, Tag::Plain),
        (2, Tag::New(Newtype(blob(b"2")))),
        (3, Tag::Pair(blob(b"3"), -3)),
        (4, Tag::Named { data: ByteBuf::from(b"4"), flag: true }),
    ]);
    same(&(File { name: "n".into(), data: blob(b"d"), more: Some(blob(b"m")), tags }, "last".to_owned()));
    same(&Tag::New(Newtype(blob(b"x"))));
    same(&Tag::Pair(blob(b"x"), 1));
    same(&Tag::Named { data: ByteBuf::from(b"x"), flag: false });
    same(&Internal::Blob { data: blob(b"x") });
    // To serde, bytes that are UTF-8 are text where a type takes both.
    same(&vec![Untagged::Blob(ByteBuf::from(b"\xff")), Untagged::Number(1)]);
    same(&Flat { a: 1, rest: BTreeMap::from([("b".into(), Value::from(blob(b"x")))]) });
    same(&Value::from(Map::from_iter([("k", Value::from(vec![blob(b"x")])), ("f", Value::from(1.5))])));
}

#[test]
fn bytes_can_be_lists_of_numbers_and_borrowed() {
    for (form, args) in all_forms(&(blob(b"\x01\x02"), 3)) {
        assert_eq!(args.deserialize::<(Vec<u8>, i32)>(), Ok((vec![1, 2], 3)), "{form}");
        assert_eq!(args.deserialize::<([u8; 2], i32)>(), Ok(([1, 2], 3)), "{form}");
        assert_eq!(args.deserialize::<&serde_bytes::Bytes>(), Ok(serde_bytes::Bytes::new(&[1, 2])), "{form}");
        assert!(args.deserialize::<(i32, i32)>().is_err(), "{form}");
        assert!(args.deserialize::<([u8; 1], i32)>().is_err(), "{form}");
    }
    for (form, args) in all_forms("text") {
        assert_eq!(args.deserialize::<&str>(), Ok("text"), "{form}");
    }
}

#[test]
fn a_tuple_takes_all_arguments_and_anything_else_the_first() {
    for (form, args) in all_forms(&(1, "two", [3])) {
        assert_eq!(args.len(), 3, "{form}");
        assert_eq!(args.deserialize::<i32>(), Ok(1), "{form}");
        assert_eq!(args.deserialize::<(i32,)>(), Ok((1,)), "{form}");
        assert_eq!(args.deserialize::<(i32, String)>(), Ok((1, "two".to_owned())), "{form}");
        assert_eq!(args.deserialize::<()>(), Ok(()), "{form}");
        assert_eq!(args.deserialize::<Option<i32>>(), Ok(Some(1)), "{form}");
        assert_eq!(args.values(), Ok(vec![Value::from(1), Value::from("two"), Value::from(vec![3])]), "{form}");
        assert_eq!(args.deserialize::<(i32, String, [i32; 1], bool)>(), Err(DataError::Missing { index: 3 }), "{form}");
        assert_eq!(
            args.deserialize::<(i32, String, [i32; 1], Option<bool>, Option<i32>)>(),
            Ok((1, "two".to_owned(), [3], None, None)),
            "{form}"
        );
        let invalid = args.deserialize::<(i32, i32)>();
        assert!(
            matches!(invalid, Err(DataError::Invalid { ref message }) if message.contains("string")),
            "{invalid:?}"
        );
        assert!(matches!(args.deserialize::<(i32, i32, bool, bool)>(), Err(DataError::Invalid { .. })), "{form}");
    }
    for (form, args) in all_forms(&()) {
        assert!(args.is_empty(), "{form}");
        assert_eq!(args.deserialize::<()>(), Ok(()), "{form}");
        assert_eq!(args.deserialize::<i32>(), Err(DataError::Missing { index: 0 }), "{form}");
        assert_eq!(args.deserialize::<Value>(), Err(DataError::Missing { index: 0 }), "{form}");
        assert_eq!(args.deserialize::<(Vec<u8>, i32)>(), Err(DataError::Missing { index: 0 }), "{form}");
        assert_eq!(args.deserialize::<Option<i32>>(), Ok(None), "{form}");
        assert_eq!(args.deserialize::<(Option<i32>,)>(), Ok((None,)), "{form}");
    }
    assert_eq!(DataError::Missing { index: 3 }.to_string(), "argument 3 is missing");
}

#[test]
fn a_key_of_several_bytes_is_no_truth_value_and_an_error_in_every_form() {
    for key in ["\u{1f600}", "é", "t\u{1f600}", "\\", ""] {
        let map = BTreeMap::from([(key, 0)]);
        for (form, args) in all_forms(&map) {
            let read = args.deserialize::<BTreeMap<bool, u8>>();
            assert!(matches!(read, Err(DataError::Invalid { .. })), "{form}: {key:?}: {read:?}");
        }
        let connect = format!("0{}", serde_json::to_string(&map).expect("it is an object"));
        let mut decoder = AnyParser::json().decoder(&Limits::default());
        let Ok(Some(Packet::Connect { data: Some(auth), .. })) = decoder.decode(Message::Text(&connect)) else {
            panic!("{connect} is a CONNECT with credentials");
        };
        let read = auth.deserialize::<BTreeMap<bool, u8>>();
        assert!(matches!(read, Err(DataError::Invalid { .. })), "{key:?}: {read:?}");
    }
}

#[test]
fn a_list_that_is_too_long_for_its_type_is_an_error_and_not_a_shift() {
    for (form, args) in all_forms(&([1, 2, 3], blob(b"x"))) {
        assert!(args.deserialize::<((i32, i32), Bytes)>().is_err(), "{form}");
        assert_eq!(args.deserialize::<((i32, i32, i32), Bytes)>(), Ok(((1, 2, 3), blob(b"x"))), "{form}");
    }
    for (form, args) in all_forms(&(BTreeMap::from([("Plain", 1), ("Other", 2)]), blob(b"x"))) {
        assert!(args.deserialize::<(Tag, Bytes)>().is_err(), "{form}");
    }
}

#[test]
fn integers_of_128_bits_survive_both_parsers() {
    for parser in [AnyParser::json(), AnyParser::msgpack()] {
        let args = received(&parser, parser.encode_event("/", None, "e", &(i128::MIN, u128::MAX, 1), None, 0));
        assert_eq!(args.deserialize(), Ok((i128::MIN, u128::MAX, 1)), "{parser:?}");
        assert_eq!(args.deserialize().map(|(_, _, one): (i128, u128, i128)| one), Ok(1), "{parser:?}");
        let with = (blob(b"x"), i128::MIN, u128::MAX, -1);
        let args = received(&parser, parser.encode_event("/", None, "e", &with, None, 0));
        assert_eq!(args.deserialize(), Ok(with), "{parser:?}");
    }
}

#[test]
fn an_answer_has_no_name() {
    let json = AnyParser::json();
    for parser in [json, AnyParser::msgpack()] {
        let args = received(&parser, parser.encode_ack("/", 1, &("a", blob(b"b")), 0));
        assert_eq!((args.name(), args.len()), ("", 2));
        assert_eq!(args.deserialize(), Ok(("a".to_owned(), blob(b"b"))));
    }
    let args = OwnedArgs::ack(&Err::<(), _>("no")).expect("it serializes");
    let error: BTreeMap<String, BTreeMap<String, String>> = args.deserialize().expect("an object");
    assert_eq!(error["error"]["message"], "no");
}

#[test]
fn dates_of_javascript_are_text_or_milliseconds() {
    let packet = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e\xd7\x00\x00\x00\x01\x6f\x5e\x66\xe8\x7b";
    let mut decoder = AnyParser::msgpack().decoder(&Limits::default());
    let Ok(Some(Packet::Event { args, .. })) = decoder.decode(Message::Binary(packet)) else { panic!("an event") };
    assert_eq!(args.deserialize::<String>().as_deref(), Ok("2020-01-01T00:00:00.123Z"));
    assert_eq!(args.deserialize::<Value>(), Ok(Value::from("2020-01-01T00:00:00.123Z")));
    assert_eq!(args.deserialize::<i64>(), Ok(1_577_836_800_123));
    assert_eq!(args.deserialize::<f64>(), Ok(1_577_836_800_123.0));
    assert_eq!(args.deserialize::<Option<u64>>(), Ok(Some(1_577_836_800_123)));
}

#[test]
fn a_string_without_rust_form_is_the_handlers_error_only() {
    let mut decoder = AnyParser::json().decoder(&Limits::default());
    for (messages, plain) in [([r#"2["e","\ud800",1]"#, ""], true), ([r#"51-["e","\ud800",1]"#, "x"], false)] {
        let mut packet = decoder.decode(Message::Text(messages[0])).expect("JavaScript sends this");
        if !plain {
            packet = decoder.decode(Message::Binary(messages[1].as_bytes())).expect("an attachment");
        }
        let Some(Packet::Event { args, .. }) = packet else { panic!("an event") };
        assert!(matches!(args.deserialize::<String>(), Err(DataError::Invalid { .. })));
        assert_eq!(args.deserialize::<(serde::de::IgnoredAny, i32)>().map(|(_, one)| one), Ok(1));
    }
}

#[test]
fn arguments_travel_without_being_decoded() {
    let mut decoder = AnyParser::json().decoder(&Limits::default());
    let text = r#"2["e",{"a":1}]"#.to_owned();
    let Ok(Some(Packet::Event { args, .. })) = decoder.decode(Message::Text(&text)) else { panic!("an event") };
    assert_eq!(args.as_json(), Some(r#"["e",{"a":1}]"#));
    assert_eq!(args.encoded_len(), 13);
    let owned: OwnedArgs = args.to_owned();
    drop(text);
    let borrowed: Args<'_> = owned.borrow();
    assert_eq!(borrowed.deserialize::<BTreeMap<String, i32>>(), Ok(BTreeMap::from([("a".to_owned(), 1)])));
    fn send<T: Send + Sync + 'static>(_: T) {}
    send(owned);
}

#[test]
fn dynamic_values_convert() {
    let json = serde_json::json!({"n": null, "b": true, "i": -1, "u": u64::MAX, "f": 1.5, "s": "x", "a": [1], "o": {}});
    let value = Value::from(json.clone());
    assert_eq!(serde_json::Value::from(value.clone()), json);
    assert_eq!(socketio_proto::to_value(&json), Ok(value.clone()));
    assert_eq!(value.deserialize_into::<serde_json::Value>(), Ok(json));
    assert_eq!(serde_json::Value::from(Value::from(blob(b"\x01"))), serde_json::json!([1]));
    assert_eq!(serde_json::Value::from(Value::from(f64::NAN)), serde_json::Value::Null);
    assert_eq!(Value::from(u64::MAX).as_u64(), Some(u64::MAX));
    assert_eq!((Value::from(5_u64), Value::from(5_u64).as_i64()), (Value::Int(5), Some(5)));
    assert_eq!(Value::from(-1).as_u64(), None);
    assert_eq!(Value::from(2).as_f64(), Some(2.0));
    assert!(Value::from(None::<i32>).is_null());
    assert!(Value::from(vec![Value::from(Map::from_iter([("k", blob(b""))]))]).has_binary());

    let mut map = Map::from_iter([("b", 1), ("a", 2), ("b", 3)]);
    assert_eq!(
        map.iter().map(|(key, value)| (key, value.as_i64())).collect::<Vec<_>>(),
        [("a", Some(2)), ("b", Some(3))]
    );
    assert_eq!(map.insert("a", "x"), Some(Value::from(2)));
    assert_eq!(map.insert("c", ()), None);
    assert_eq!(map.remove("a"), Some(Value::from("x")));
    assert_eq!((map.len(), map.is_empty(), map.get("a")), (2, false, None));
}
