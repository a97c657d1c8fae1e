//! JSON with attachments: placeholders are found once when the last attachment has arrived, and read as bytes wherever a
//! type asks for bytes. The text has been checked before; what is read here is well-formed and not too deep.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::de::{Key, Variant, used_up, visit_byte_list};
use crate::{DataError, Violation};

/// The attachments of a packet and the places that point to them.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) bytes: Vec<Bytes>,
    /// In the order of the text.
    pub(crate) placeholders: Vec<Placeholder>,
}

/// An object `{"_placeholder":true,"num":i}` at `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placeholder {
    start: usize,
    end: usize,
    num: usize,
}

/// Finds the placeholders in `text`, which [`check`](crate::json::check) has accepted.
///
/// As in JavaScript, every object whose last `_placeholder` is `true` is one, whatever else it holds.
pub(crate) fn find_placeholders(text: &str, attachments: usize) -> Result<Vec<Placeholder>, Violation> {
    let mut found = Vec::new();
    Cursor { text, at: 0 }.walk(attachments, &mut found)?;
    Ok(found)
}

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

/// Reads well-formed JSON token by token.
#[derive(Debug, Clone, Copy)]
struct Cursor<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Cursor<'de> {
    /// The first byte of the next token, without whitespace; 0 at the end.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Takes the next token if it is this punctuation.
    fn take(&mut self, punctuation: u8) -> bool {
        let there = self.peek() == punctuation;
        self.at += usize::from(there);
        there
    }

    /// Takes a string literal and returns its inside.
    fn raw_string(&mut self) -> &'de str {
        if !self.take(b'"') {
            return "";
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        while let Some(offset) = bytes.get(self.at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            self.at += offset;
            if bytes.get(self.at) == Some(&b'"') {
                let raw = self.text.get(start..self.at).unwrap_or_default();
                self.at += 1;
                return raw;
            }
            self.at += 2;
        }
        self.at = self.text.len();
        ""
    }

    /// Takes a number or a word.
    fn scalar(&mut self) -> &'de str {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let len = rest.as_bytes().iter().position(is_end).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// Takes any value without looking at it.
    fn skip(&mut self) {
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

    fn walk(&mut self, attachments: usize, found: &mut Vec<Placeholder>) -> Result<(), Violation> {
        match self.peek() {
            b'[' => {
                self.at += 1;
                if self.take(b']') {
                    return Ok(());
                }
                loop {
                    self.walk(attachments, found)?;
                    if !self.take(b',') {
                        break;
                    }
                }
                self.take(b']');
                Ok(())
            }
            b'{' => {
                let (start, before) = (self.at, found.len());
                let (mut marked, mut num) = (false, None);
                self.at += 1;
                if self.take(b'}') {
                    return Ok(());
                }
                loop {
                    let key = unescape(self.raw_string());
                    self.take(b':');
                    let value = self.peek();
                    match key.as_deref() {
                        Some("_placeholder") => marked = value == b't',
                        Some("num") => num = self.text.get(self.at..).and_then(index),
                        _ => {}
                    }
                    self.walk(attachments, found)?;
                    if !self.take(b',') {
                        break;
                    }
                }
                self.take(b'}');
                if marked {
                    let num = num.filter(|num| *num < attachments).ok_or(Violation::IllegalPlaceholder)?;
                    found.truncate(before);
                    found.push(Placeholder { start, end: self.at, num });
                }
                Ok(())
            }
            _ => {
                self.skip();
                Ok(())
            }
        }
    }
}

/// The number at the beginning of `text` if it is a small integer, written `1` or `1.0`.
fn index(text: &str) -> Option<usize> {
    let number = Cursor { text, at: 0 }.scalar();
    if let Ok(integer) = number.parse() {
        return Some(integer);
    }
    let float: f64 = number.parse().ok()?;
    (float.fract() == 0.0 && (0.0..1e6).contains(&float)).then_some(float as usize)
}

/// A serde deserializer over checked JSON text in which placeholders are bytes.
pub(crate) struct JsonReader<'de> {
    cursor: Cursor<'de>,
    attached: &'de Attached,
}

impl<'de> JsonReader<'de> {
    pub(crate) fn new(text: &'de str, attached: &'de Attached) -> Self {
        Self { cursor: Cursor { text, at: 0 }, attached }
    }

    /// Takes a placeholder if one comes next.
    fn attachment(&mut self) -> Option<&'de [u8]> {
        if self.cursor.peek() != b'{' {
            return None;
        }
        let placeholders = &self.attached.placeholders;
        let at = placeholders.binary_search_by_key(&self.cursor.at, |placeholder| placeholder.start).ok()?;
        let placeholder = placeholders.get(at)?;
        self.cursor.at = placeholder.end;
        self.attached.bytes.get(placeholder.num).map(AsRef::as_ref)
    }

    fn string(&mut self) -> Result<Cow<'de, str>, DataError> {
        unescape(self.cursor.raw_string()).ok_or_else(|| de::Error::custom("a lone surrogate in a string"))
    }
}

impl<'de> Deserializer<'de> for &mut JsonReader<'de> {
    type Error = DataError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if let Some(bytes) = self.attachment() {
            return visitor.visit_borrowed_bytes(bytes);
        }
        match self.cursor.peek() {
            b'"' => match self.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            b'[' => {
                let mut elements = Members::new(self, b']');
                let value = visitor.visit_seq(&mut elements)?;
                elements.finish(value)
            }
            b'{' => {
                let mut members = Members::new(self, b'}');
                let value = visitor.visit_map(&mut members)?;
                members.finish(value)
            }
            _ => match self.cursor.scalar() {
                "null" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                number => visit_number(number, visitor),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        if self.cursor.peek() == b'n' {
            self.cursor.scalar();
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DataError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DataError> {
        match self.attachment() {
            Some(bytes) => visit_byte_list(bytes, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DataError> {
        self.deserialize_seq(visitor)
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
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple_struct map struct identifier
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &str, visitor: V) -> Result<V::Value, DataError> {
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
    fn more(&mut self) -> bool {
        let more = match self.progress {
            Progress::Closed => return false,
            _ if self.reader.cursor.take(self.close) => false,
            Progress::AtFirst => true,
            Progress::BetweenTwo => self.reader.cursor.take(b','),
        };
        self.progress = if more { Progress::BetweenTwo } else { Progress::Closed };
        more
    }

    fn finish<T>(mut self, value: T) -> Result<T, DataError> {
        used_up(value, !self.more())
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
    use super::*;

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

    #[test]
    fn placeholders_are_found_in_the_order_of_the_text() {
        let text = r#"["e",{"_placeholder":true,"num":1}, {"a":{"num":0,"_placeholder":true},"b":[]}]"#;
        let found = find_placeholders(text, 2).expect("they are legal");
        let shown: Vec<_> = found.iter().map(|found| (&text[found.start..found.end], found.num)).collect();
        assert_eq!(shown, [(r#"{"_placeholder":true,"num":1}"#, 1), (r#"{"num":0,"_placeholder":true}"#, 0)]);
        // What is inside a placeholder goes away with it.
        let text = r#"[{"x":{"_placeholder":true,"num":0},"_placeholder":true,"num":1}]"#;
        assert_eq!(find_placeholders(text, 2), Ok(vec![Placeholder { start: 1, end: text.len() - 1, num: 1 }]));
    }
}
