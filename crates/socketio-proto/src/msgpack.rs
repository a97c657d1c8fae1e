//! The MessagePack parser: one binary message per packet, the map `{type, nsp, data?, id?}` with binary inside.
//!
//! Encoding leaves absent keys out, because JavaScript tells `nil` from absent. Decoding takes the keys in any order,
//! ignores those it does not know, lets the last of several win, and takes `nil` and JavaScript's `undefined` for absent.
//!
//! What JavaScript's encoders put into extension types reads as follows:
//!
//! | on the wire | dynamic value, text | numbers | bytes |
//! |---|---|---|---|
//! | `d4 00 00` (`undefined`) | null; an entry of an object is left out | - | - |
//! | `d7 00` + i64, timestamp (-1) | ISO 8601 text, as JSON carries a `Date` | milliseconds since 1970 | - |
//! | any other extension (ArrayBuffer, typed arrays: type 0) | binary | - | the bytes |

use std::borrow::Cow;

use rmp::{Marker, encode};
use serde::Serialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::args::{Repr, event_name};
use crate::de::{Key, Variant, used_up, visit_byte_list};
use crate::json::number_text;
use crate::limits::{MAX_DEPTH, MAX_ID};
use crate::ser::Sink;
use crate::{Args, Chunk, DataError, EncodeError, Encoded, Message, Packet, PacketKind, Payload, Violation};

/// Decodes one message.
pub(crate) fn decode<'a>(message: Message<'a>, max_event_name: usize) -> Result<Packet<'a>, Violation> {
    let Message::Binary(data) = message else { return Err(Violation::UnexpectedText) };
    let mut reader = MsgpackReader::new(data);
    let Token::Map(len) = reader.token()? else { return Err(Violation::UnknownType) };
    let (mut kind, mut namespace, mut payload, mut id) = (None, None, None, None);
    for _ in 0..len {
        let key = match reader.token()? {
            Token::Str(key) => key,
            Token::Array(_) | Token::Map(_) => return Err(Violation::Malformed),
            _ => "",
        };
        let value = reader.skip(MAX_DEPTH - 1)?;
        match key {
            "type" => kind = Some(value),
            "nsp" => namespace = Some(value),
            "data" => payload = Some(value),
            "id" => id = Some(value),
            _ => {}
        }
    }
    let count = data.len() - reader.at;
    if count > 0 {
        return Err(Violation::TrailingBytes { count });
    }
    let kind = match kind.map(first_token) {
        Some(Token::Unsigned(number)) => PacketKind::from_number(number).ok_or(Violation::UnknownType)?,
        _ => return Err(Violation::UnknownType),
    };
    let namespace = match namespace.map(first_token) {
        Some(Token::Str(namespace)) => Cow::Borrowed(namespace),
        _ => return Err(Violation::Payload),
    };
    let id = match id.map(first_token) {
        None | Some(Token::Nil | Token::Undefined) => None,
        Some(Token::Unsigned(id)) if id <= MAX_ID => Some(id),
        Some(_) => return Err(Violation::AckId),
    };
    let payload = payload.map(|data| (data, first_token(data)));
    let payload = payload.filter(|(_, token)| !matches!(token, Token::Nil | Token::Undefined));
    let one = |data: &'a [u8]| Some(Payload::new(Repr::Msgpack(Cow::Borrowed(data))));
    let list = |data: &'a [u8]| Repr::Msgpack(Cow::Borrowed(data));
    match (kind, payload) {
        (PacketKind::Connect, None) => Ok(Packet::Connect { namespace, data: None }),
        (PacketKind::Connect, Some((data, Token::Map(_)))) => Ok(Packet::Connect { namespace, data: one(data) }),
        (PacketKind::ConnectError, None) => Ok(Packet::ConnectError { namespace, data: None }),
        (PacketKind::ConnectError, Some((data, Token::Map(_) | Token::Str(_)))) => {
            Ok(Packet::ConnectError { namespace, data: one(data) })
        }
        (PacketKind::Disconnect, None) => Ok(Packet::Disconnect { namespace }),
        (PacketKind::Event, Some((data, Token::Array(len)))) if len > 0 => {
            Ok(Packet::Event { namespace, id, args: event(data, max_event_name)? })
        }
        (PacketKind::Ack, Some((data, Token::Array(len)))) => {
            Ok(Packet::Ack { namespace, id, args: Args::new(None, len, list(data)) })
        }
        _ => Err(Violation::Payload),
    }
}

/// The arguments of an event whose list is `data`, which has been checked.
pub(crate) fn event(data: &[u8], max_event_name: usize) -> Result<Args<'_>, Violation> {
    let mut reader = MsgpackReader::new(data);
    let Token::Array(len) = reader.token()? else { return Err(Violation::Payload) };
    let len = len.checked_sub(1).ok_or(Violation::Payload)?;
    let name = match reader.token()? {
        Token::Str(name) => Cow::Borrowed(name),
        Token::Unsigned(number) => Cow::Owned(number.to_string()),
        Token::Signed(number) => Cow::Owned(number.to_string()),
        Token::Float(number) if number.is_finite() => Cow::Owned(number_text(number)),
        _ => return Err(Violation::EventName),
    };
    let name = event_name(name, max_event_name)?;
    Ok(Args::new(Some(name), len, Repr::Msgpack(Cow::Borrowed(data))))
}

/// Checks one value with nothing behind it.
pub(crate) fn check(data: &[u8]) -> Result<(), Violation> {
    let mut reader = MsgpackReader::new(data);
    reader.skip(MAX_DEPTH)?;
    match data.len() - reader.at {
        0 => Ok(()),
        count => Err(Violation::TrailingBytes { count }),
    }
}

/// The entries of a map that has been checked.
pub(crate) fn entries(data: &[u8], max: usize) -> Result<Vec<(&str, &[u8])>, Violation> {
    let mut reader = MsgpackReader::new(data);
    let Token::Map(len) = reader.token()? else { return Err(Violation::Payload) };
    if len > max {
        return Err(Violation::Payload);
    }
    let mut entries = Vec::with_capacity(len);
    for _ in 0..len {
        let Token::Str(key) = reader.token()? else { return Err(Violation::Payload) };
        entries.push((key, reader.skip(MAX_DEPTH)?));
    }
    Ok(entries)
}

/// The items of a list that has been checked.
pub(crate) fn items(data: &[u8], max: usize) -> Result<Vec<&[u8]>, Violation> {
    let mut reader = MsgpackReader::new(data);
    let Token::Array(len) = reader.token()? else { return Err(Violation::Payload) };
    if len > max {
        return Err(Violation::Payload);
    }
    (0..len).map(|_| reader.skip(MAX_DEPTH)).collect()
}

/// Whether a value that has been checked contains binary data.
pub(crate) fn has_binary(data: &[u8]) -> bool {
    let mut reader = MsgpackReader::new(data);
    while reader.at < data.len() {
        match reader.token() {
            Ok(Token::Bin(_)) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

pub(crate) fn is_nil(token: Token<'_>) -> bool {
    matches!(token, Token::Nil | Token::Undefined)
}

/// Writes one value as JavaScript's encoders would: objects with names and readable dates and ids.
pub(crate) fn write<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), EncodeError> {
    let mut serializer = rmp_serde::Serializer::new(bytes).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|error| EncodeError::Serialize(error.to_string()))
}

/// Encodes a packet; `write` writes its data, if it has any.
pub(crate) fn encode_packet(
    kind: PacketKind,
    namespace: &str,
    id: Option<u64>,
    headroom: usize,
    write: Option<impl FnOnce(&mut MsgpackSink<'_>) -> Result<(), EncodeError>>,
) -> Result<Encoded, EncodeError> {
    let mut bytes = Vec::with_capacity(headroom + namespace.len() + 96);
    bytes.resize(headroom, 0);
    let entries = 2 + u32::from(write.is_some()) + u32::from(id.is_some());
    infallible(encode::write_map_len(&mut bytes, entries).err())?;
    put_str(&mut bytes, "type")?;
    infallible(encode::write_uint(&mut bytes, kind.number().into()).err())?;
    put_str(&mut bytes, "nsp")?;
    put_str(&mut bytes, namespace)?;
    if let Some(write) = write {
        put_str(&mut bytes, "data")?;
        write(&mut MsgpackSink { out: &mut bytes })?;
    }
    if let Some(id) = id {
        put_str(&mut bytes, "id")?;
        infallible(encode::write_uint(&mut bytes, id).err())?;
    }
    Ok(smallvec::smallvec![Chunk { bytes, start: headroom, binary: true }])
}

fn put_str(bytes: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    infallible(encode::write_str(bytes, text).err())
}

/// Writing to a `Vec` does not fail; should that change, it is an error and no panic.
fn infallible<E: std::fmt::Display>(error: Option<E>) -> Result<(), EncodeError> {
    error.map_or(Ok(()), |error| Err(EncodeError::Serialize(error.to_string())))
}

/// Arguments as MessagePack.
pub(crate) struct MsgpackSink<'a> {
    out: &'a mut Vec<u8>,
}

impl Sink for MsgpackSink<'_> {
    fn begin(&mut self, count: usize) -> Result<(), EncodeError> {
        let count = u32::try_from(count).map_err(|error| EncodeError::Serialize(error.to_string()))?;
        infallible(encode::write_array_len(&mut *self.out, count).err())
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        // What the JSON parser would send.
        write(self.out, value)
    }
}

/// One step through MessagePack: a scalar with its content, or the head of a list or map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'de> {
    Nil,
    Undefined,
    Bool(bool),
    /// Not negative.
    Unsigned(u64),
    /// Negative.
    Signed(i64),
    Float(f64),
    Str(&'de str),
    Bin(&'de [u8]),
    /// Milliseconds since 1970.
    Date(i64),
    Array(usize),
    Map(usize),
}

/// The first token of a value that has been checked.
pub(crate) fn first_token(data: &[u8]) -> Token<'_> {
    MsgpackReader::new(data).token().unwrap_or(Token::Nil)
}

/// Reads MessagePack; also a serde deserializer. Nothing is allocated for what the data merely claims to hold.
pub(crate) struct MsgpackReader<'de> {
    data: &'de [u8],
    at: usize,
}

impl<'de> MsgpackReader<'de> {
    pub(crate) fn new(data: &'de [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn take(&mut self, len: usize) -> Result<&'de [u8], Violation> {
        let end = self.at.checked_add(len).ok_or(Violation::Malformed)?;
        let taken = self.data.get(self.at..end).ok_or(Violation::Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        self.take(N)?.try_into().map_err(|_| Violation::Malformed)
    }

    fn len8(&mut self) -> Result<usize, Violation> {
        Ok(usize::from(u8::from_be_bytes(self.array()?)))
    }

    fn len16(&mut self) -> Result<usize, Violation> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn len32(&mut self) -> Result<usize, Violation> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Violation::Malformed)
    }

    fn token(&mut self) -> Result<Token<'de>, Violation> {
        let [marker] = self.array()?;
        match Marker::from_u8(marker) {
            Marker::FixPos(value) => Ok(Token::Unsigned(value.into())),
            Marker::FixNeg(value) => Ok(Token::Signed(value.into())),
            Marker::Null => Ok(Token::Nil),
            Marker::True => Ok(Token::Bool(true)),
            Marker::False => Ok(Token::Bool(false)),
            Marker::U8 => Ok(Token::Unsigned(u8::from_be_bytes(self.array()?).into())),
            Marker::U16 => Ok(Token::Unsigned(u16::from_be_bytes(self.array()?).into())),
            Marker::U32 => Ok(Token::Unsigned(u32::from_be_bytes(self.array()?).into())),
            Marker::U64 => Ok(Token::Unsigned(u64::from_be_bytes(self.array()?))),
            Marker::I8 => Ok(integer(i8::from_be_bytes(self.array()?).into())),
            Marker::I16 => Ok(integer(i16::from_be_bytes(self.array()?).into())),
            Marker::I32 => Ok(integer(i32::from_be_bytes(self.array()?).into())),
            Marker::I64 => Ok(integer(i64::from_be_bytes(self.array()?))),
            Marker::F32 => Ok(Token::Float(f32::from_be_bytes(self.array()?).into())),
            Marker::F64 => Ok(Token::Float(f64::from_be_bytes(self.array()?))),
            Marker::FixStr(len) => self.str(len.into()),
            Marker::Str8 => self.len8().and_then(|len| self.str(len)),
            Marker::Str16 => self.len16().and_then(|len| self.str(len)),
            Marker::Str32 => self.len32().and_then(|len| self.str(len)),
            Marker::Bin8 => self.len8().and_then(|len| self.take(len)).map(Token::Bin),
            Marker::Bin16 => self.len16().and_then(|len| self.take(len)).map(Token::Bin),
            Marker::Bin32 => self.len32().and_then(|len| self.take(len)).map(Token::Bin),
            Marker::FixArray(len) => self.list(len.into()),
            Marker::Array16 => self.len16().and_then(|len| self.list(len)),
            Marker::Array32 => self.len32().and_then(|len| self.list(len)),
            Marker::FixMap(len) => self.map(len.into()),
            Marker::Map16 => self.len16().and_then(|len| self.map(len)),
            Marker::Map32 => self.len32().and_then(|len| self.map(len)),
            Marker::FixExt1 => match self.array()? {
                [0, 0] => Ok(Token::Undefined),
                _ => Ok(Token::Bin(self.data.get(self.at - 1..self.at).unwrap_or_default())),
            },
            Marker::FixExt2 => self.ext(2),
            Marker::FixExt4 => self.ext(4),
            Marker::FixExt8 => match self.data.get(self.at) {
                // An ArrayBuffer of eight bytes arrives as ext8, so this is always a date.
                Some(0) => {
                    self.at += 1;
                    Ok(Token::Date(i64::from_be_bytes(self.array()?)))
                }
                _ => self.ext(8),
            },
            Marker::FixExt16 => self.ext(16),
            Marker::Ext8 => self.len8().and_then(|len| self.ext(len)),
            Marker::Ext16 => self.len16().and_then(|len| self.ext(len)),
            Marker::Ext32 => self.len32().and_then(|len| self.ext(len)),
            Marker::Reserved => Err(Violation::Malformed),
        }
    }

    fn str(&mut self, len: usize) -> Result<Token<'de>, Violation> {
        std::str::from_utf8(self.take(len)?).map(Token::Str).map_err(|_| Violation::Malformed)
    }

    /// The head of a list. Every element takes a byte at least.
    fn list(&mut self, len: usize) -> Result<Token<'de>, Violation> {
        if len > self.data.len() - self.at { Err(Violation::Malformed) } else { Ok(Token::Array(len)) }
    }

    fn map(&mut self, len: usize) -> Result<Token<'de>, Violation> {
        if len > (self.data.len() - self.at) / 2 { Err(Violation::Malformed) } else { Ok(Token::Map(len)) }
    }

    fn ext(&mut self, len: usize) -> Result<Token<'de>, Violation> {
        let [kind] = self.array()?;
        let bytes = self.take(len)?;
        if kind != TIMESTAMP {
            return Ok(Token::Bin(bytes));
        }
        let (seconds, nanos) = match *bytes {
            [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]).into(), 0),
            [a, b, c, d, e, f, g, h] => {
                let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                ((both & 0x3_ffff_ffff) as i64, both >> 34)
            }
            [n0, n1, n2, n3, a, b, c, d, e, f, g, h] => {
                (i64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([n0, n1, n2, n3]).into())
            }
            _ => return Ok(Token::Bin(bytes)),
        };
        Ok(Token::Date(seconds.saturating_mul(1_000).saturating_add((nanos / 1_000_000) as i64)))
    }

    /// Checks one value, nested at most `depth` deep, and returns its bytes.
    fn skip(&mut self, depth: usize) -> Result<&'de [u8], Violation> {
        let start = self.at;
        let inside = match self.token()? {
            Token::Array(len) => len,
            Token::Map(len) => 2 * len,
            _ => return Ok(self.data.get(start..self.at).unwrap_or_default()),
        };
        let depth = depth.checked_sub(1).ok_or(Violation::Malformed)?;
        for _ in 0..inside {
            self.skip(depth)?;
        }
        Ok(self.data.get(start..self.at).unwrap_or_default())
    }

    /// The next token without taking it.
    fn peek(&mut self) -> Result<Token<'de>, DataError> {
        let at = self.at;
        let token = self.token().map_err(de::Error::custom);
        self.at = at;
        token
    }

    fn sixteen_bytes(&mut self) -> Result<Option<[u8; 16]>, DataError> {
        let Token::Bin(bytes) = self.peek()? else { return Ok(None) };
        let Ok(bytes) = bytes.try_into() else { return Ok(None) };
        self.token().map_err(<DataError as de::Error>::custom)?;
        Ok(Some(bytes))
    }

    fn visit<V: Visitor<'de>>(&mut self, visitor: V, dates: Dates) -> Result<V::Value, DataError> {
        match self.token().map_err(<DataError as de::Error>::custom)? {
            Token::Nil | Token::Undefined => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Str(value) => visitor.visit_borrowed_str(value),
            Token::Bin(value) => visitor.visit_borrowed_bytes(value),
            Token::Date(millis) if dates == Dates::Number => visitor.visit_i64(millis),
            Token::Date(millis) => match iso_8601(millis) {
                Some(text) => visitor.visit_string(text),
                None => visitor.visit_unit(),
            },
            Token::Array(left) => {
                let mut members = Members { reader: self, left };
                let value = visitor.visit_seq(&mut members)?;
                members.finish(value)
            }
            Token::Map(left) => {
                let mut members = Members { reader: self, left };
                let value = visitor.visit_map(&mut members)?;
                members.finish(value)
            }
        }
    }
}

fn integer(value: i64) -> Token<'static> {
    u64::try_from(value).map_or(Token::Signed(value), Token::Unsigned)
}

/// The extension type of timestamps, -1.
const TIMESTAMP: u8 = 0xff;

#[derive(PartialEq, Clone, Copy)]
enum Dates {
    Text,
    Number,
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
            self.visit(visitor, Dates::Number)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut MsgpackReader<'de> {
    type Error = DataError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        self.visit(visitor, Dates::Text)
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64
    }

    // MessagePack has no integers of 128 bits; the encoder writes them as sixteen bytes.
    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        match self.sixteen_bytes()? {
            Some(bytes) => visitor.visit_i128(i128::from_be_bytes(bytes)),
            None => self.visit(visitor, Dates::Number),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        match self.sixteen_bytes()? {
            Some(bytes) => visitor.visit_u128(u128::from_be_bytes(bytes)),
            None => self.visit(visitor, Dates::Number),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        match self.peek()? {
            Token::Nil | Token::Undefined => {
                self.token().map_err(<DataError as de::Error>::custom)?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DataError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        match self.peek()? {
            Token::Bin(bytes) => {
                self.token().map_err(<DataError as de::Error>::custom)?;
                visit_byte_list(bytes, visitor)
            }
            _ => self.visit(visitor, Dates::Text),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DataError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DataError> {
        match self.token().map_err(<DataError as de::Error>::custom)? {
            Token::Str(name) => visitor.visit_enum(de::value::BorrowedStrDeserializer::new(name)),
            Token::Map(1) => match self.token().map_err(<DataError as de::Error>::custom)? {
                Token::Str(name) => visitor.visit_enum(Variant { name: Cow::Borrowed(name), value: self }),
                _ => Err(de::Error::custom("expected the name of a variant")),
            },
            _ => Err(de::Error::custom("expected a variant: text, or an object with one key")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        self.skip(MAX_DEPTH).map_err(<DataError as de::Error>::custom)?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct tuple_struct map struct identifier
    }
}

/// The rest of a list or a map.
struct Members<'r, 'de> {
    reader: &'r mut MsgpackReader<'de>,
    left: usize,
}

impl<'de> Members<'_, 'de> {
    fn finish<T>(self, value: T) -> Result<T, DataError> {
        used_up(value, self.left == 0)
    }
}

impl<'de> SeqAccess<'de> for Members<'_, 'de> {
    type Error = DataError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = DataError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        let key = loop {
            let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
            self.left = left;
            let key = match self.reader.token().map_err(<DataError as de::Error>::custom)? {
                Token::Str(key) => Cow::Borrowed(key),
                // Keys of JavaScript's objects are text whatever an encoder makes of them.
                Token::Unsigned(key) => Cow::Owned(key.to_string()),
                Token::Signed(key) => Cow::Owned(key.to_string()),
                Token::Float(key) => Cow::Owned(number_text(key)),
                Token::Bool(key) => Cow::Owned(key.to_string()),
                _ => return Err(de::Error::custom("the key of an object must be text")),
            };
            if self.reader.peek()? != Token::Undefined {
                break key;
            }
            // JSON has no such entry at all.
            self.reader.token().map_err(<DataError as de::Error>::custom)?;
        };
        seed.deserialize(Key::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DataError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A moment as `Date.prototype.toISOString` prints it; `None` outside JavaScript's range of dates.
fn iso_8601(millis: i64) -> Option<String> {
    if millis.unsigned_abs() > 8_640_000_000_000_000 {
        return None;
    }
    let (days, in_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Years that begin in March put the leap day last, and 400 of them always take 146,097 days.
    let since_era_0 = days + 719_468;
    let (era, day) = (since_era_0.div_euclid(146_097), since_era_0.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1_000 % 60, in_day % 1_000);
    let year = match year {
        0..=9_999 => format!("{year:04}"),
        _ => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    Some(format!("{year}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_printed_as_javascript_prints_them() {
        check(0, Some("1970-01-01T00:00:00.000Z"));
        check(-1, Some("1969-12-31T23:59:59.999Z"));
        check(951_782_400_000, Some("2000-02-29T00:00:00.000Z"));
        check(4_107_542_400_000, Some("2100-03-01T00:00:00.000Z"));
        check(1_709_251_199_999, Some("2024-02-29T23:59:59.999Z"));
        check(-62_167_219_200_000, Some("0000-01-01T00:00:00.000Z"));
        check(-62_167_219_200_001, Some("-000001-12-31T23:59:59.999Z"));
        check(253_402_300_800_000, Some("+010000-01-01T00:00:00.000Z"));
        check(8_640_000_000_000_000, Some("+275760-09-13T00:00:00.000Z"));
        check(-8_640_000_000_000_000, Some("-271821-04-20T00:00:00.000Z"));
        check(8_640_000_000_000_001, None);
        check(i64::MIN, None);

        #[track_caller]
        fn check(millis: i64, want: Option<&str>) {
            assert_eq!(iso_8601(millis).as_deref(), want);
        }
    }
}
