//! Reading JSON that [`check`](crate::json::check) has accepted: well-formed and not too deep, so nothing is judged here.
//!
//! The same values as serde_json gives, which the tests hold it to; faster, because the text is known to be right.
//! Placeholders of [`attached`](crate::attached) are bytes wherever a type asks for bytes.

use std::borrow::Cow;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::DataError;
use crate::attached::Attached;
use crate::de::{Key, Variant, used_up, visit_byte_list};
use crate::scan::plain_len;

/// Turns the inside of a string literal into text. `None` when it has a lone surrogate, which Rust's text cannot hold.
pub(crate) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'\\', raw.as_bytes()) else { return Some(Cow::Borrowed(raw)) };
    let mut text = String::with_capacity(raw.len());
    let (mut rest, mut next) = (raw, first);
    loop {
        text.push_str(rest.get(..next)?);
        let escape = *rest.as_bytes().get(next + 1)?;
        let mut used = next + 2;
        match escape {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let unit = |at: usize| u16::from_str_radix(rest.get(at..at + 4)?, 16).ok();
                let first = unit(used)?;
                used += 4;
                let mut units = [first, 0];
                let mut count = 1;
                if (0xd800..0xdc00).contains(&first) {
                    if rest.get(used..used + 2)? != "\\u" {
                        return None;
                    }
                    units[1] = unit(used + 2)?;
                    used += 6;
                    count = 2;
                }
                for character in char::decode_utf16(units.into_iter().take(count)) {
                    text.push(character.ok()?);
                }
            }
            other => text.push(char::from(other)),
        }
        rest = rest.get(used..)?;
        match memchr::memchr(b'\\', rest.as_bytes()) {
            Some(at) => next = at,
            None => {
                text.push_str(rest);
                return Some(Cow::Owned(text));
            }
        }
    }
}

/// Where the longest string of a text is, if it has a long one without escapes: it was looked through once already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Long {
    /// Behind its opening quote; 0 when there is none.
    pub(crate) start: usize,
    /// Before its closing quote.
    pub(crate) end: usize,
}

impl Long {
    /// Keeps the longer one.
    #[inline(never)]
    pub(crate) fn remember(&mut self, start: usize, end: usize) {
        if end - start > self.end - self.start {
            *self = Self { start, end };
        }
    }
}

/// Reads well-formed JSON token by token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'de> {
    pub(crate) text: &'de str,
    pub(crate) at: usize,
    long: Long,
}

impl<'de> Cursor<'de> {
    pub(crate) fn new(text: &'de str) -> Self {
        Self { text, at: 0, long: Long::default() }
    }

    /// The first byte of the next token, without whitespace; 0 at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Takes the next token if it is this punctuation.
    #[inline]
    pub(crate) fn take(&mut self, punctuation: u8) -> bool {
        let there = self.peek() == punctuation;
        self.at += usize::from(there);
        there
    }

    /// Takes a string literal and returns its inside, and whether that has escapes.
    #[inline]
    pub(crate) fn raw_string(&mut self) -> (&'de str, bool) {
        match self.plain_string() {
            Some(text) => (text, false),
            None => self.escaped_string(),
        }
    }

    /// Takes a string literal if it has no escapes.
    #[inline]
    fn plain_string(&mut self) -> Option<&'de str> {
        if self.peek() != b'"' {
            return None;
        }
        let (bytes, start) = (self.text.as_bytes(), self.at + 1);
        if start == self.long.start {
            self.at = self.long.end + 1;
            return self.text.get(start..self.long.end);
        }
        let end = start + plain_len(bytes.get(start..)?);
        if bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    #[inline(never)]
    fn escaped_string(&mut self) -> (&'de str, bool) {
        if !self.take(b'"') {
            return ("", false);
        }
        let (bytes, start) = (self.text.as_bytes(), self.at);
        while let Some(rest) = bytes.get(self.at..) {
            self.at += plain_len(rest);
            if bytes.get(self.at) == Some(&b'"') {
                let raw = self.text.get(start..self.at).unwrap_or_default();
                self.at += 1;
                return (raw, true);
            }
            self.at += 2;
        }
        self.at = self.text.len();
        ("", false)
    }

    /// Takes a number or a word.
    pub(crate) fn scalar(&mut self) -> &'de str {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let len = rest.as_bytes().iter().position(is_end).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// Takes a number without a fraction or an exponent that has at most 18 digits: its size, and whether a minus stands
    /// before it. Anything else stays.
    #[inline]
    fn integer(&mut self) -> Option<(u64, bool)> {
        let bytes = self.text.as_bytes();
        let is_negative = self.peek() == b'-';
        let start = self.at + usize::from(is_negative);
        let (mut at, mut size) = (start, 0_u64);
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            size = size.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        if !(1..=18).contains(&(at - start)) || matches!(bytes.get(at), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.at = at;
        Some((size, is_negative))
    }

    /// Takes any value without looking at it.
    pub(crate) fn skip(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => {
                    self.raw_string();
                }
                b'[' | b'{' => {
                    self.at += 1;
                    depth += 1;
                    continue;
                }
                b']' | b'}' => {
                    self.at += 1;
                    depth = depth.saturating_sub(1);
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                0 if self.at >= self.text.len() => return,
                _ => {
                    if self.scalar().is_empty() {
                        // Not well-formed; never stand still.
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// A serde deserializer over checked JSON text.
pub(crate) struct JsonReader<'de> {
    cursor: Cursor<'de>,
    attached: Option<&'de Attached>,
}

/// The name under which serde_json's `RawValue` asks for its text.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

impl<'de> JsonReader<'de> {
    pub(crate) fn new(text: &'de str, long: Long, attached: Option<&'de Attached>) -> Self {
        Self { cursor: Cursor { long, ..Cursor::new(text) }, attached }
    }

    /// Takes a placeholder if one comes next.
    #[inline]
    fn attachment(&mut self) -> Option<&'de [u8]> {
        let attached = self.attached?;
        if self.cursor.peek() != b'{' {
            return None;
        }
        let (placeholder, bytes) = attached.find(self.cursor.at)?;
        self.cursor.at = placeholder.end;
        Some(bytes)
    }

    fn string(&mut self) -> Result<Cow<'de, str>, DataError> {
        let (raw, escaped) = self.cursor.raw_string();
        if escaped {
            return unescape(raw).ok_or_else(|| de::Error::custom("a lone surrogate in a string"));
        }
        Ok(Cow::Borrowed(raw))
    }

    /// A number that is not a short integer, if it is one.
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DataError> {
        match self.cursor.peek() {
            b'-' | b'0'..=b'9' => visit_number(self.cursor.scalar(), visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DataError> {
        let mut elements = Members::new(self, b']');
        let value = visitor.visit_seq(&mut elements)?;
        elements.finish()?;
        Ok(value)
    }

    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DataError> {
        let mut members = Members::new(self, b'}');
        let value = visitor.visit_map(&mut members)?;
        members.finish()?;
        Ok(value)
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
            match self.cursor.integer() {
                Some((size, false)) => visitor.visit_u64(size),
                Some((size @ 1.., true)) => visitor.visit_i64((size as i64).wrapping_neg()),
                // Integers have no negative zero.
                Some((0, true)) => visitor.visit_f64(-0.0),
                None => self.number(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for &mut JsonReader<'de> {
    type Error = DataError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if let Some(bytes) = self.attachment() {
            return visitor.visit_borrowed_bytes(bytes);
        }
        match self.cursor.peek() {
            b'"' => self.deserialize_str(visitor),
            b'[' => self.list(visitor),
            b'{' => self.object(visitor),
            _ => match self.cursor.scalar() {
                "null" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                number => visit_number(number, visitor),
            },
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        let start = self.cursor;
        if self.cursor.integer().is_none() && matches!(self.cursor.peek(), b'-' | b'0'..=b'9') {
            // Rounded once, not by way of a double.
            return match self.cursor.scalar().parse::<f32>() {
                Ok(number) if number.is_finite() => visitor.visit_f64(f64::from(number)),
                _ => Err(de::Error::custom("number out of range")),
            };
        }
        self.cursor = start;
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if let Some(text) = self.cursor.plain_string() {
            return visitor.visit_borrowed_str(text);
        }
        if self.cursor.peek() != b'"' {
            return self.deserialize_any(visitor);
        }
        match self.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if self.cursor.peek() != b'"' {
            return self.deserialize_any(visitor);
        }
        match self.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if self.cursor.peek() == b'n' {
            self.cursor.scalar();
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DataError> {
        if name == RAW_VALUE && self.attached.is_none() {
            self.cursor.peek();
            let start = self.cursor.at;
            self.cursor.skip();
            let text = self.cursor.text.get(start..self.cursor.at).unwrap_or_default();
            return visitor.visit_map(RawText(Some(text)));
        }
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if self.cursor.peek() == b'[' {
            return self.list(visitor);
        }
        match self.attachment() {
            Some(bytes) => visit_byte_list(bytes, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DataError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DataError> {
        if self.attached.is_none() && self.cursor.peek() == b'{' {
            return self.object(visitor);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        let start = self.cursor;
        match self.cursor.scalar().parse() {
            Ok(number) => visitor.visit_i128(number),
            Err(_) => {
                self.cursor = start;
                self.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        let start = self.cursor;
        match self.cursor.scalar().parse() {
            Ok(number) => visitor.visit_u128(number),
            Err(_) => {
                self.cursor = start;
                self.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DataError> {
        match self.cursor.peek() {
            b'"' => {
                let name = self.string()?;
                visitor.visit_enum(de::value::CowStrDeserializer::new(name))
            }
            b'{' => {
                self.cursor.at += 1;
                let name = self.string()?;
                self.cursor.take(b':');
                let value = visitor.visit_enum(Variant { name, value: &mut *self })?;
                if !self.cursor.take(b'}') {
                    return Err(de::Error::custom("expected an object with one key, the variant"));
                }
                Ok(value)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        self.cursor.skip();
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool char unit unit_struct tuple_struct map identifier
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &str, visitor: V) -> Result<V::Value, DataError> {
    let is_float = number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    if is_float && let Ok(value) = number.parse::<f64>() {
        return visitor.visit_f64(value);
    }
    if let Ok(value) = number.parse::<u64>() {
        return visitor.visit_u64(value);
    }
    match number.parse::<i64>() {
        // "-0" is a float: integers have no negative zero.
        Ok(value) if value != 0 => visitor.visit_i64(value),
        _ => match number.parse::<f64>() {
            Ok(value) => visitor.visit_f64(value),
            Err(_) => Err(de::Error::custom("expected a value")),
        },
    }
}

/// A value as its text, the way `RawValue` takes it: an object with the one key that it knows.
struct RawText<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for RawText<'de> {
    type Error = DataError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        match self.0 {
            Some(_) => seed.deserialize(BorrowedStrDeserializer::new(RAW_VALUE)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DataError> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().unwrap_or_default()))
    }
}

/// The rest of a list or an object.
struct Members<'r, 'de> {
    reader: &'r mut JsonReader<'de>,
    close: u8,
    progress: Progress,
}

#[derive(PartialEq)]
enum Progress {
    AtFirst,
    BetweenTwo,
    Closed,
}

impl<'r, 'de> Members<'r, 'de> {
    fn new(reader: &'r mut JsonReader<'de>, close: u8) -> Self {
        reader.cursor.at += 1;
        Self { reader, close, progress: Progress::AtFirst }
    }

    /// Whether another element comes; takes the comma before it or the bracket at the end.
    #[inline]
    fn more(&mut self) -> bool {
        let next = self.reader.cursor.peek();
        match self.progress {
            Progress::Closed => return false,
            _ if next == self.close => self.progress = Progress::Closed,
            Progress::AtFirst => {
                self.progress = Progress::BetweenTwo;
                return true;
            }
            Progress::BetweenTwo if next == b',' => {}
            // Not well-formed.
            Progress::BetweenTwo => {
                self.progress = Progress::Closed;
                return false;
            }
        }
        self.reader.cursor.at += 1;
        self.progress == Progress::BetweenTwo
    }

    /// What a visitor left behind is an error. The value stays where it is meanwhile: it may be large.
    #[inline]
    fn finish(mut self) -> Result<(), DataError> {
        if self.progress == Progress::Closed || !self.more() { Ok(()) } else { used_up((), false) }
    }
}

impl<'de> SeqAccess<'de> for Members<'_, 'de> {
    type Error = DataError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        if !self.more() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = DataError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        if !self.more() {
            return Ok(None);
        }
        if let Some(key) = self.reader.cursor.plain_string() {
            return seed.deserialize(Key::new(Cow::Borrowed(key))).map(Some);
        }
        let key = self.reader.string()?;
        seed.deserialize(Key::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DataError> {
        self.reader.cursor.take(b':');
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::*;
    use crate::Value;

    #[test]
    fn escapes_become_text() {
        check("", Some(""));
        check("plain é", Some("plain é"));
        check(r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t"));
        check(r"a\u0041\u00e9\u20acb", Some("aAé€b"));
        check(r"\ud83d\ude00!", Some("😀!"));
        check(r"\u0000", Some("\0"));
        for lone in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\ud800\u0041", r"\ude00\ud83d"] {
            check(lone, None);
        }
        for broken in ["\\", "\\u", "\\u12", "\\u12é"] {
            check(broken, None);
        }

        #[track_caller]
        fn check(raw: &str, want: Option<&str>) {
            assert_eq!(unescape(raw).as_deref(), want, "{raw}");
            assert!(raw.contains('\\') || matches!(unescape(raw), Some(Cow::Borrowed(_))));
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Everything {
        #[serde(default)]
        a: Option<i64>,
        #[serde(default)]
        b: Vec<f64>,
        #[serde(default)]
        c: BTreeMap<String, Kind>,
        #[serde(default)]
        d: Option<Box<Everything>>,
        #[serde(default)]
        e: (u8, String),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        A,
        B(i32),
        C(u8, Option<bool>),
        D { x: f32 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u32),
        Text(String),
        Pair(char, bool),
        Rest(serde_json::Value),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        a: Option<serde_json::Value>,
        #[serde(flatten)]
        rest: BTreeMap<String, serde_json::Value>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Newtype(Unit);
    #[derive(Debug, PartialEq, Deserialize)]
    struct Unit;

    /// Both readers must think the same of `text`, as every type.
    #[track_caller]
    fn check(text: &str) {
        let Some(shape) = crate::json::check(text) else { return };
        macro_rules! same {
            ($($type:ty),* $(,)?) => {
                $(
                    let ours = <$type>::deserialize(&mut JsonReader::new(text, shape.long, None)).ok();
                    let theirs = serde_json::from_str::<$type>(text).ok();
                    // Not `==`, which does not tell -0 from 0.
                    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{} from {text}", stringify!($type));
                )*
            };
        }
        same!(
            serde_json::Value, Value, Box<RawValue>, IgnoredAny, (), bool, char, String, Option<String>,
            u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, Vec<f32>, Vec<u8>, (i64, String), [u16; 2],
            BTreeMap<String, f64>, BTreeMap<u8, IgnoredAny>, BTreeMap<i64, String>, BTreeMap<bool, u8>,
            BTreeMap<String, Box<RawValue>>, Everything, Kind, Vec<Kind>, Untagged, Vec<Untagged>, Flat, Newtype,
            Option<Option<u8>>,
        );
        if !text.contains("\\u") {
            // serde_json gives lone surrogates to those who ask for bytes.
            same!(serde_bytes::ByteBuf, Option<Bytes>);
        }
    }

    #[test]
    fn every_type_reads_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "false",
            " 0 ",
            "-0",
            "-0.0",
            "1",
            "-1",
            "255",
            "256",
            "65535",
            "-129",
            "4294967296",
            "999999999999999999",
            "1000000000000000000",
            "-999999999999999999",
            "-1000000000000000000",
            "9223372036854775807",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211456",
            "1e3",
            "1E-7",
            "0.1",
            "3.4028236e38",
            "1e39",
            "16777217",
            "16777217.0",
            "8388609.5000001",
            "1.5",
            "1.0",
            "100000000000000000000000000000000000001",
            "5e-324",
            "2.2250738585072011e-308",
            "123456789012345678901234567890",
            "\"\"",
            "\"a\"",
            "\"é\"",
            "\"A\"",
            "\"1\"",
            "\"\\\"\\u00e9\\n\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "[]",
            " [ ] ",
            "{}",
            "{ }",
            "[1,2]",
            "[ 1 , 2 ]",
            "[1,2,3]",
            "[1.5,\"x\"]",
            "[5,\"x\"]",
            "[\"x\",true]",
            "[\"xy\",true]",
            "[[1],[2]]",
            "[null]",
            "{\"A\":null}",
            "{\"A\":1}",
            "{\"B\":5}",
            "{\"B\":null}",
            "{\"C\":[1,null]}",
            "{\"C\":[1]}",
            "{\"C\":[1,true,2]}",
            "{\"D\":{\"x\":0.1}}",
            "{\"D\":{\"x\":1,\"y\":2}}",
            "{\"D\":[3.5]}",
            "{\"B\":5,\"A\":null}",
            "{ \"B\" : 5 }",
            "{\"\\u0042\":5}",
            "[\"A\",{\"B\":-1},{\"C\":[0,false]},{\"D\":{\"x\":1e39}}]",
            "{\"a\":1,\"b\":[1,2.5,-3],\"c\":{\"k\":\"A\",\"\\u006b\":{\"B\":1}},\"d\":{\"e\":[7,\"seven\"]},\"unknown\":[{\"a\":[1,{}]}]}",
            "{\"a\":null,\"d\":null}",
            "{\"a\":1,\"a\":2}",
            "[1,[2.5],{},null,[3,\"x\"]]",
            "[null,[],{},{},[1,\"\"]]",
            "{\"1\":\"x\",\"2\":\"y\"}",
            "{\"-1\":\"x\"}",
            "{\"+1\":\"x\"}",
            "{\"256\":1}",
            "{\"true\":1}",
            "{\"1.5\":1}",
            "{\"\":1}",
            "{\" 1\":1}",
            "{\"x\": {\"as\" : [ \"it is\" ] } , \"y\":  17 }",
        ] {
            check(text);
        }
    }

    #[test]
    fn strings_end_where_they_end() {
        for len in (0..80).chain([255, 256, 257, 1_100, 5_000]) {
            for piece in ["\\n", "\\\\", "\\\"", "\\u00e9", "é", "😀"] {
                for place in (0..=len).filter(|place| len < 80 || place % 97 == 0 || place + 2 > len) {
                    let text = format!("\"{}{piece}{}\"", "x".repeat(place), "y".repeat(len - place));
                    for text in [format!("[{text},{text}]"), format!("{{{text}:{text}}}")] {
                        let shape = crate::json::check(&text).expect("it is JSON");
                        let ours = serde_json::Value::deserialize(&mut JsonReader::new(&text, shape.long, None));
                        assert_eq!(ours.ok(), serde_json::from_str(&text).ok(), "{text}");
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_text_reads_the_same(pieces in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", "\"a\"", "\"a\":", "\"", "\\n", "\\u00e9", "1", "0", "-", ".", "e", "true", "null",
            " ", "é", "[1]", "{\"k\":1}", ",1", ",\"b\":2", "\"A\"", "\"B\":", "\"x\":0.1", "{\"d\":", "\"e\":[1,\"x\"]",
        ]), 0..9)) {
            check(&pieces.concat());
        }

        #[test]
        fn random_numbers_read_the_same(bits in any::<u64>(), digits in "-?[0-9]{1,40}", fraction in "-?[0-9]{1,30}\\.[0-9]{1,30}(e-?[0-9]{1,2})?") {
            for text in [f64::from_bits(bits).to_string(), f32::from_bits(bits as u32).to_string(), digits, fraction] {
                check(&text);
                check(&format!("[{text},{text}]"));
            }
        }

        #[test]
        fn random_values_read_the_same(
            text in "\\PC{0,20}", long in "[a-z]{200,400}", escaped in "[a-z\n\"]{0,300}", number in any::<f64>(), integer in any::<i64>(),
        ) {
            check(&serde_json::json!({ "a": integer, "b": [number], text.as_str(): long, "e": [1, escaped], "x": [text, long] }).to_string());
        }
    }
}
