//! Arguments read as Rust types: a type gets the same whichever parser brought the value. The input is a MessagePack packet
//! if its first byte says so (a map), else messages as in `sequence`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use socketio_proto::{AnyParser, Limits, Message, OwnedArgs, Packet, Spread, Value};

use crate::sequence::messages;
use crate::values::{all_same, decode, generous, looks_like_placeholder};

/// Typed arguments, binary ones among them.
pub fn sio_types(data: &[u8]) {
    let msgpack = matches!(data.first(), Some(0x80..=0x8f | 0xde | 0xdf));
    let parser = if msgpack { AnyParser::msgpack() } else { AnyParser::json() };
    let mut decoder = parser.decoder(&Limits::default());
    let mut input: Box<dyn Iterator<Item = Message<'_>>> =
        if msgpack { Box::new([Message::Binary(data)].into_iter()) } else { Box::new(messages(data)) };
    let packet = loop {
        match input.next().map(|message| decoder.decode(message)) {
            Some(Ok(None)) => continue,
            Some(Ok(Some(packet))) => break packet,
            Some(Err(_)) | None => return,
        }
    };
    let (Packet::Event { args, .. } | Packet::Ack { args, .. }) = &packet else { return };
    // As it came: whatever happens, it is no panic. Borrowing types are possible only here.
    let _ = args.deserialize::<&str>();
    let _ = args.deserialize::<(&str, &str)>();
    let _ = args.deserialize::<Borrowed<'_>>();
    let _ = args.deserialize::<&[u8]>();
    read_all(&args.to_owned());
    let Ok(values) = args.values() else { return };
    let values: Vec<_> = values.into_iter().map(plain).collect();
    if values.iter().any(looks_like_placeholder) {
        return;
    }
    // As everybody would send it, once with a superfluous binary argument behind the others.
    compare(&values);
    let mut longer = values;
    longer.push(Value::Binary(Bytes::from_static(b"\x00end")));
    compare(&longer);
}

fn compare(values: &[Value]) {
    let own = OwnedArgs::from_values(Some("e"), values.to_vec());
    let [json, msgpack] = [AnyParser::json(), AnyParser::msgpack()].map(|parser| {
        let encoded = parser.encode_event("/", None, "e", &Spread(values), None, 0).expect("plain values");
        let mut decoder = parser.decoder(&generous());
        let Packet::Event { args, .. } = decode(&mut decoder, &encoded) else { panic!("another kind of packet") };
        assert!(args.values().is_ok_and(|again| all_same(&again, values)));
        args.to_owned()
    });
    let wanted = read_all(&json);
    for (other, args) in [("dynamic values", own), ("MessagePack", msgpack)] {
        for ((want, got), kind) in wanted.iter().zip(read_all(&args)).zip(KINDS) {
            // Other forms may be read more generously than JSON without attachments is, but not otherwise.
            let generous = want.is_none() || (got.is_none() && values.iter().any(Value::has_binary));
            let fits = *want == got || (generous && LENIENT.contains(kind));
            assert!(fits, "{kind}: {want:?}, from {other} {got:?}: {values:?}");
        }
    }
}

/// The value with numbers that every reader reads alike, and with keys that are the same number for everybody.
fn plain(value: Value) -> Value {
    match value {
        Value::Float(number) if number.is_finite() => Value::Float((number.clamp(-1e6, 1e6) * 8.0).round() / 8.0),
        Value::Float(_) => Value::Null,
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Map(map) => Value::Map(map.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        other => other,
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Borrowed<'a> {
    #[serde(borrow)]
    name: &'a str,
    #[serde(borrow, default)]
    data: Option<&'a [u8]>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Record {
    name: String,
    #[serde(default)]
    size: u32,
    data: Option<Bytes>,
    #[serde(rename = "ratio")]
    share: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Open {
    name: Option<Cow<'static, str>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Strict {
    name: String,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Shape {
    Unit,
    One(u32),
    Bytes(Bytes),
    Two(u8, String),
    Named { name: bool },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
#[allow(dead_code)]
enum Tagged {
    Unit,
    Named { name: Value },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data")]
#[allow(dead_code)]
enum Adjacent {
    Unit,
    One(Bytes),
    Two(u8, String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Loose {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    Bytes(Bytes),
    List(Vec<Loose>),
    Object(BTreeMap<String, Loose>),
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Tree {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    data: Vec<Tree>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Wrapped(Bytes);

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Pair(u8, String);

#[derive(Debug, Deserialize)]
struct Nothing;

macro_rules! kinds {
    ($($type:ty;)*) => {
        const KINDS: &[&str] = &[$(stringify!($type)),*];

        /// The arguments as every type of the list: what it is, or that it does not fit.
        fn read_all(args: &OwnedArgs) -> Vec<Option<String>> {
            vec![$(read::<$type>(args)),*]
        }
    };
}

kinds! {
    (); Value; (Value,); (Value, Value); (Value, Option<Value>, Option<String>); Vec<Value>; Vec<String>; Vec<Vec<u8>>;
    Option<Value>; Option<Option<bool>>; bool; u8; i8; u32; i64; u64; i128; u128; f32; f64; char; String;
    Cow<'static, str>; Bytes; Vec<u8>; [u8; 3]; (u8, u8); ((u8, u8), u8); (String, Bytes); BTreeMap<String, Value>;
    BTreeMap<bool, Value>; BTreeMap<u32, Value>; BTreeMap<char, Value>; IpAddr; Record; Open; Strict; Shape; (Shape, Shape); Tagged; Adjacent;
    Loose; Vec<Loose>; Tree; Wrapped; Pair; Nothing; Box<[Shape]>; BTreeMap<Shape2, u8>; (Record, Bytes);
    Result<Value, String>;
}

/// MessagePack has a form for large integers, and variants and keys may be told as numbers where JSON wants text.
const LENIENT: &[&str] = &[
    "i128",
    "u128",
    "Tagged",
    "Adjacent",
    "Shape",
    "Box<[Shape]>",
    "(Shape, Shape)",
    "BTreeMap<Shape2, u8>",
    "BTreeMap<bool, Value>",
    "BTreeMap<u32, Value>",
];

/// Keys of an object that are variants.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Shape2 {
    #[serde(rename = "a")]
    A,
    #[serde(rename = "name")]
    Name,
}

fn read<T: DeserializeOwned + Debug>(args: &OwnedArgs) -> Option<String> {
    args.deserialize::<T>().ok().map(|value| format!("{value:?}"))
}
