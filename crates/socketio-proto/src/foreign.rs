//! Values that stand inside messages of other protocols: what servers tell each other, checked as strictly as what
//! clients send.
//!
//! A message is checked as a whole by [`Payload::from_json`] or [`Payload::from_msgpack`]; [`Payload::entries`] and
//! [`Payload::items`] take it apart without decoding what is inside, and [`Payload::event`] makes the arguments of an
//! event of a part. The other way, [`Args`] serialize as the list that they are, and [`AnyParser::encode_args`] sends on
//! what was received.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::args::{Repr, is_reserved_event};
use crate::json::{self, check};
use crate::msgpack::{self, first_token};
use crate::{AnyParser, Args, DataError, EncodeError, Encoded, PacketKind, Payload, Spread, Value, Violation};

impl<'a> Payload<'a> {
    /// Takes one JSON value from outside. It is checked, not decoded.
    ///
    /// # Errors
    /// [`Violation::Malformed`] when it is none, or nests deeper than 127.
    pub fn from_json(text: &'a str) -> Result<Self, Violation> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let shape = check(text).ok_or(Violation::Malformed)?;
        Ok(Self::new(Repr::Json { text: Cow::Borrowed(text), long: shape.long, attached: None }))
    }

    /// Takes one MessagePack value from outside. It is checked, not decoded.
    ///
    /// # Errors
    /// [`Violation::Malformed`] when it is none, or nests deeper than 127; [`Violation::TrailingBytes`] when more follows.
    pub fn from_msgpack(data: &'a [u8]) -> Result<Self, Violation> {
        msgpack::check(data)?;
        Ok(Self::new(Repr::Msgpack(Cow::Borrowed(data))))
    }

    /// The entries of an object, each value undecoded. Keys may repeat; the last one counts.
    ///
    /// # Errors
    /// [`DataError::Invalid`] when this is no object, or has more than `max` entries.
    pub fn entries(&self, max: usize) -> Result<Vec<(Cow<'_, str>, Payload<'_>)>, DataError> {
        match self.repr() {
            Repr::Json { text, .. } => {
                let mut reader = serde_json::Deserializer::from_str(text);
                let raw = reader.deserialize_map(RawMap { max }).map_err(invalid)?;
                raw.into_iter().map(|(key, value)| Ok((key.into(), part(value)?))).collect()
            }
            Repr::Msgpack(data) => msgpack::entries(data, max).map_err(invalid)?.collect_parts(),
            Repr::Values(values) => match values.first() {
                Some(Value::Map(map)) if map.len() <= max => {
                    Ok(map.iter().map(|(key, value)| (Cow::Borrowed(key), one(value))).collect())
                }
                _ => Err(invalid("expected an object")),
            },
        }
    }

    /// The items of a list, each undecoded.
    ///
    /// # Errors
    /// [`DataError::Invalid`] when this is no list, or has more than `max` items.
    pub fn items(&self, max: usize) -> Result<Vec<Payload<'_>>, DataError> {
        match self.repr() {
            Repr::Json { text, .. } => {
                let mut reader = serde_json::Deserializer::from_str(text);
                let raw = reader.deserialize_seq(RawList { max }).map_err(invalid)?;
                raw.into_iter().map(part).collect()
            }
            Repr::Msgpack(data) => {
                let items = msgpack::items(data, max).map_err(invalid)?;
                Ok(items.into_iter().map(bytes).collect())
            }
            Repr::Values(values) => match values.first() {
                Some(Value::Array(items)) if items.len() <= max => Ok(items.iter().map(one).collect()),
                _ => Err(invalid("expected a list")),
            },
        }
    }

    /// Whether this is `null`, or JavaScript's `undefined`.
    pub fn is_null(&self) -> bool {
        match self.repr() {
            Repr::Json { text, .. } => &**text == "null",
            Repr::Msgpack(data) => msgpack::is_nil(first_token(data)),
            Repr::Values(values) => values.first().is_none_or(Value::is_null),
        }
    }

    /// The arguments of an event, if this is a list with a name in front.
    ///
    /// # Errors
    /// [`Violation::Payload`] when it is no list, [`Violation::EventName`] and [`Violation::ReservedEvent`] as for clients.
    pub fn event(&self, max_event_name: usize) -> Result<Args<'_>, Violation> {
        match self.repr() {
            Repr::Json { text, .. } => json::event(text, max_event_name),
            Repr::Msgpack(data) => msgpack::event(data, max_event_name),
            Repr::Values(values) => match values.first() {
                Some(Value::Array(list)) => match list.first() {
                    Some(Value::String(name)) if name.len() > max_event_name => Err(Violation::EventName),
                    Some(Value::String(name)) if is_reserved_event(name) => Err(Violation::ReservedEvent),
                    Some(Value::String(name)) => Ok(Args::from_list(Some(name.clone()), list.clone())),
                    Some(_) => Err(Violation::EventName),
                    None => Err(Violation::Payload),
                },
                _ => Err(Violation::Payload),
            },
        }
    }
}

impl Args<'_> {
    /// Whether binary data is among the arguments.
    pub fn has_binary(&self) -> bool {
        match self.repr() {
            Repr::Json { attached, .. } => attached.is_some(),
            Repr::Msgpack(data) => msgpack::has_binary(data),
            Repr::Values(values) => values.iter().any(Value::has_binary),
        }
    }
}

/// The list: the event's name, if there is one, then the arguments.
impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Repr::Values(values) = self.repr() {
            return values.serialize(serializer);
        }
        let values = self.values().map_err(serde::ser::Error::custom)?;
        let named = self.is_event();
        let mut list = serializer.serialize_seq(Some(values.len() + usize::from(named)))?;
        if named {
            serde::ser::SerializeSeq::serialize_element(&mut list, self.name())?;
        }
        for value in &values {
            serde::ser::SerializeSeq::serialize_element(&mut list, value)?;
        }
        serde::ser::SerializeSeq::end(list)
    }
}

impl AnyParser {
    /// Encodes an event whose arguments were received from elsewhere. Where both sides speak JSON, the text is passed on as
    /// it is.
    ///
    /// # Errors
    /// As [`encode_event`](Self::encode_event), and [`EncodeError::Serialize`] when the arguments have no Rust form.
    pub fn encode_args(
        &self,
        namespace: &str,
        id: Option<u64>,
        args: &Args<'_>,
        extra_last_arg: Option<&str>,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        if is_reserved_event(args.name()) {
            return Err(EncodeError::ReservedEvent(args.name().to_owned()));
        }
        if self.is_json()
            && extra_last_arg.is_none()
            && let Some(text) = args.as_json()
        {
            return Ok(json::encode_text(PacketKind::Event, namespace, id, headroom, text));
        }
        let values = args.values().map_err(|error| EncodeError::Serialize(error.to_string()))?;
        self.encode_event(namespace, id, args.name(), &Spread(&values), extra_last_arg, headroom)
    }
}

/// Writes a value as JSON text, as JavaScript would. Binary data becomes a list of numbers.
///
/// # Errors
/// [`EncodeError::Serialize`] when `value` cannot be serialized.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, EncodeError> {
    serde_json::to_string(value).map_err(|error| EncodeError::Serialize(error.to_string()))
}

/// Writes a value as MessagePack, as JavaScript would: objects with names, readable dates.
///
/// # Errors
/// [`EncodeError::Serialize`] when `value` cannot be serialized.
pub fn to_msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(256);
    msgpack::write(&mut bytes, value)?;
    Ok(bytes)
}

fn invalid(error: impl fmt::Display) -> DataError {
    DataError::Invalid { message: error.to_string() }
}

/// A part of text that was checked as a whole.
fn part(value: &RawValue) -> Result<Payload<'_>, DataError> {
    Payload::from_json(value.get()).map_err(invalid)
}

fn bytes(data: &[u8]) -> Payload<'_> {
    Payload::new(Repr::Msgpack(Cow::Borrowed(data)))
}

fn one(value: &Value) -> Payload<'_> {
    Payload::new(Repr::Values(Cow::Borrowed(std::slice::from_ref(value))))
}

trait CollectParts<'a> {
    fn collect_parts(self) -> Result<Vec<(Cow<'a, str>, Payload<'a>)>, DataError>;
}

impl<'a> CollectParts<'a> for Vec<(&'a str, &'a [u8])> {
    fn collect_parts(self) -> Result<Vec<(Cow<'a, str>, Payload<'a>)>, DataError> {
        Ok(self.into_iter().map(|(key, data)| (Cow::Borrowed(key), bytes(data))).collect())
    }
}

/// The members of a JSON object as text.
struct RawMap {
    max: usize,
}

impl<'de> Visitor<'de> for RawMap {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.len() == self.max {
                return Err(serde::de::Error::custom("too many entries"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}

/// The items of a JSON list as text.
struct RawList {
    max: usize,
}

impl<'de> Visitor<'de> for RawList {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == self.max {
                return Err(serde::de::Error::custom("too many items"));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same value in both encodings.
    fn both(json: &str, check: impl Fn(&Payload<'_>)) {
        let value: Value = serde_json::from_str(json).expect("JSON");
        let packed = to_msgpack(&value).expect("encodes");
        check(&Payload::from_json(json).expect("checked"));
        check(&Payload::from_msgpack(&packed).expect("checked"));
        check(&Payload::from(value));
    }

    #[test]
    fn a_message_is_taken_apart_without_decoding_what_is_inside() {
        both(r#"{"type":3,"data":{"list":[1,"a",null]},"uid":"x"}"#, |message| {
            let entries = message.entries(3).expect("an object");
            let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_ref()).collect();
            assert_eq!(keys, ["type", "data", "uid"]);
            assert_eq!(entries[0].1.deserialize::<u8>().expect("a number"), 3);
            let inner = entries[1].1.entries(1).expect("an object");
            let items = inner[0].1.items(3).expect("a list");
            assert_eq!(items[1].deserialize::<String>().expect("text"), "a");
            assert!(items[2].is_null() && !items[1].is_null());
            assert!(message.entries(2).is_err() && inner[0].1.items(2).is_err());
            assert!(message.items(9).is_err() && items[0].entries(9).is_err());
        });
    }

    #[test]
    fn an_event_from_outside_is_held_to_the_rules_for_clients() {
        check(r#"["hi",1,{"a":[true]}]"#, Ok(("hi", 2)));
        check(r#"["connect"]"#, Err(Violation::ReservedEvent));
        check(r#"["much too long"]"#, Err(Violation::EventName));
        check(r#"[[]]"#, Err(Violation::EventName));
        check("[]", Err(Violation::Payload));
        check(r#"{"0":"hi"}"#, Err(Violation::Payload));

        #[track_caller]
        fn check(json: &str, want: Result<(&str, usize), Violation>) {
            both(json, |payload| {
                let args = payload.event(9);
                let got = args.as_ref().map(|args| (args.name(), args.len())).map_err(Clone::clone);
                assert_eq!(got, want, "{json}");
                if let Ok(args) = &args {
                    assert_eq!(to_json(args).expect("encodes"), json);
                    let sent = AnyParser::json().encode_args("/a", None, args, None, 0).expect("encodes");
                    assert_eq!(sent[0].data(), format!("2/a,{json}").as_bytes());
                    let with_offset = AnyParser::json().encode_args("/a", None, args, Some("7-0"), 0).expect("encodes");
                    assert!(with_offset[0].data().ends_with(br#","7-0"]"#));
                }
            });
        }
    }

    #[test]
    fn what_is_no_value_is_refused_as_a_whole() {
        for text in ["", "{", "[1,]", "nul", "{\"a\":1}x"] {
            assert!(Payload::from_json(text).is_err(), "{text}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(Payload::from_json(&deep).is_err());
        for data in [&b""[..], b"\x81", b"\xc1", b"\x91\x91", b"\xdd\xff\xff\xff\xff", b"\xc0\xc0"] {
            assert!(Payload::from_msgpack(data).is_err(), "{data:x?}");
        }
        assert!(Payload::from_msgpack(&[0x91; 200]).is_err());
    }

    #[test]
    fn binary_data_is_noticed_at_any_depth() {
        let with =
            Value::Array(vec!["e".into(), Value::Map([("a", bytes::Bytes::from_static(b"1"))].into_iter().collect())]);
        let without = Value::Array(vec!["e".into(), 1.into()]);
        for (value, want) in [(with, true), (without, false)] {
            let packed = to_msgpack(&value).expect("encodes");
            let payload = Payload::from_msgpack(&packed).expect("checked");
            assert_eq!(payload.event(9).expect("an event").has_binary(), want);
            let payload = Payload::from(value);
            assert_eq!(payload.event(9).expect("an event").has_binary(), want);
        }
    }
}
