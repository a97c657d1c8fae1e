//! The default parser: a short text header, then JSON; attachments follow as binary messages.
//!
//! `<type>[<attachments>-][<namespace>,][<ack id>][JSON]`. The header is scanned without copying, the JSON is checked as a
//! whole but not turned into values: that happens when a handler says what it wants.
//!
//! Stricter than JavaScript's parser on purpose: numbers in the header are digits and nothing else, an event always has
//! a payload, a packet with attachments has at least one.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use crate::args::{Name, Repr, event_name};
use crate::limits::{MAX_DEPTH, MAX_ID};
use crate::read::{Cursor, Long, unescape};
use crate::scan::plain_len;
use crate::scratch::Buffer;
use crate::ser::Sink;
use crate::write::JsonWriter;
use crate::{Args, Chunk, EncodeError, Encoded, Limits, Message, Packet, PacketKind, Payload, Violation};

/// Decodes the messages of one connection.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    max_attachments: usize,
    max_packet_bytes: usize,
    max_event_name: usize,
    /// A packet that waits for attachments.
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Pending {
    /// Without its attachments.
    packet: Packet<'static>,
    expected: usize,
    bytes: usize,
    attachments: SmallVec<[Bytes; 1]>,
}

impl JsonDecoder {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max_attachments: limits.max_attachments,
            max_packet_bytes: limits.max_packet_bytes,
            max_event_name: limits.max_event_name,
            pending: None,
        }
    }

    pub(crate) fn is_reconstructing(&self) -> bool {
        self.pending.is_some()
    }

    pub(crate) fn decode<'a>(&mut self, message: Message<'a>) -> Result<Option<Packet<'a>>, Violation> {
        match (message, self.pending.take()) {
            (Message::Text(text), None) => self.text(text),
            (Message::Text(_), Some(_)) => Err(Violation::TextWhileReconstructing),
            (Message::Binary(_), None) => Err(Violation::UnexpectedBinary),
            (Message::Binary(data), Some(mut pending)) => {
                pending.bytes = pending.bytes.saturating_add(data.len());
                if pending.bytes > self.max_packet_bytes {
                    return Err(Violation::AttachmentsTooLarge { limit: self.max_packet_bytes });
                }
                pending.attachments.push(Bytes::copy_from_slice(data));
                if pending.attachments.len() < pending.expected {
                    self.pending = Some(pending);
                    return Ok(None);
                }
                Self::complete(*pending).map(Some)
            }
        }
    }

    fn text<'a>(&mut self, text: &'a str) -> Result<Option<Packet<'a>>, Violation> {
        let header = scan(text)?;
        if header.attachments > self.max_attachments {
            return Err(Violation::TooManyAttachments { limit: self.max_attachments });
        }
        let packet = self.packet(&header)?;
        if header.attachments == 0 {
            return Ok(Some(packet));
        }
        let packet = match packet {
            Packet::Event { namespace, id, args } => {
                Packet::Event { namespace: owned(namespace), id, args: args.into_owned() }
            }
            Packet::Ack { namespace, id, args } => {
                Packet::Ack { namespace: owned(namespace), id, args: args.into_owned() }
            }
            // `scan` gives attachments to events and acks only.
            _ => return Err(Violation::Payload),
        };
        let attachments = SmallVec::new();
        self.pending = Some(Box::new(Pending { packet, expected: header.attachments, bytes: 0, attachments }));
        Ok(None)
    }

    fn complete(pending: Pending) -> Result<Packet<'static>, Violation> {
        let Pending { mut packet, attachments, .. } = pending;
        if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &mut packet {
            args.attach(attachments)?;
        }
        Ok(packet)
    }

    fn packet<'a>(&self, header: &Header<'a>) -> Result<Packet<'a>, Violation> {
        let namespace = Cow::Borrowed(header.namespace);
        let shape = header.data.map(|data| check(data).ok_or(Violation::Malformed)).transpose()?;
        let payload = |data: &'a str| {
            Payload::new(Repr::Json { text: Cow::Borrowed(data), long: Long::default(), attached: None })
        };
        let begins =
            |with: &[u8]| header.data.is_none_or(|data| data.bytes().next().is_some_and(|b| with.contains(&b)));
        match header.kind {
            PacketKind::Connect if begins(b"{") => Ok(Packet::Connect { namespace, data: header.data.map(payload) }),
            PacketKind::ConnectError if begins(b"{\"") => {
                Ok(Packet::ConnectError { namespace, data: header.data.map(payload) })
            }
            PacketKind::Disconnect if header.data.is_none() => Ok(Packet::Disconnect { namespace }),
            PacketKind::Event => {
                let (Some(data), Some(shape)) = (header.data, shape) else { return Err(Violation::Payload) };
                let args = event_of(data, shape, self.max_event_name)?;
                Ok(Packet::Event { namespace, id: header.id, args })
            }
            PacketKind::Ack if begins(b"[") => {
                let (len, long) = shape.map_or((0, Long::default()), |shape| (shape.elements, shape.long));
                let repr = Repr::Json { text: Cow::Borrowed(header.data.unwrap_or("[]")), long, attached: None };
                Ok(Packet::Ack { namespace, id: header.id, args: Args::new(None, len, repr) })
            }
            PacketKind::Connect | PacketKind::ConnectError | PacketKind::Disconnect | PacketKind::Ack => {
                Err(Violation::Payload)
            }
        }
    }
}

/// The arguments of an event whose list is `text`, of which nothing is known yet.
pub(crate) fn event(text: &str, max_event_name: usize) -> Result<Args<'_>, Violation> {
    event_of(text, check(text).ok_or(Violation::Malformed)?, max_event_name)
}

fn event_of(data: &str, shape: Shape, max_event_name: usize) -> Result<Args<'_>, Violation> {
    if !data.starts_with('[') || shape.elements == 0 {
        return Err(Violation::Payload);
    }
    let name = name(data, max_event_name)?;
    let repr = Repr::Json { text: Cow::Borrowed(data), long: shape.long, attached: None };
    Ok(Args::new(Some(name), shape.elements - 1, repr))
}

/// The name of an event, the first element of the list that `data` is.
fn name(data: &str, max_event_name: usize) -> Result<Name<'_>, Violation> {
    let mut cursor = Cursor::new(data);
    cursor.take(b'[');
    let name = match cursor.peek() {
        b'"' => match cursor.raw_string() {
            (raw, false) => Cow::Borrowed(raw),
            // An escape takes at most six bytes for one of the name.
            (raw, true) if raw.len() / 6 <= max_event_name => unescape(raw).ok_or(Violation::EventName)?,
            _ => return Err(Violation::EventName),
        },
        b'-' | b'0'..=b'9' => {
            let literal = cursor.scalar();
            if literal.len() > max_event_name {
                return Err(Violation::EventName);
            }
            match literal.parse::<u64>() {
                Ok(_) => Cow::Borrowed(literal),
                Err(_) => Cow::Owned(number_text(literal.parse().map_err(|_| Violation::EventName)?)),
            }
        }
        _ => return Err(Violation::EventName),
    };
    event_name(name, max_event_name)
}

/// A number as the name of an event, the way JavaScript prints it.
pub(crate) fn number_text(number: f64) -> String {
    // Adding zero turns -0 into 0.
    (number + 0.0).to_string()
}

fn owned(namespace: Cow<'_, str>) -> Cow<'static, str> {
    if namespace == "/" { Cow::Borrowed("/") } else { Cow::Owned(namespace.into_owned()) }
}

#[derive(Debug)]
struct Header<'a> {
    kind: PacketKind,
    /// Zero for a packet without attachments.
    attachments: usize,
    namespace: &'a str,
    id: Option<u64>,
    data: Option<&'a str>,
}

/// Takes the header apart. Every boundary is an ASCII byte, so the slices are text.
fn scan(text: &str) -> Result<Header<'_>, Violation> {
    let (&first, mut rest) = text.as_bytes().split_first().ok_or(Violation::UnknownType)?;
    let (kind, binary) = match first {
        b'0'..=b'4' => (PacketKind::from_number(u64::from(first - b'0')).ok_or(Violation::UnknownType)?, false),
        b'5' => (PacketKind::Event, true),
        b'6' => (PacketKind::Ack, true),
        _ => return Err(Violation::UnknownType),
    };
    let mut attachments = 0;
    if binary {
        let digits = digits(rest);
        match rest.get(digits) {
            Some(b'-') if (1..=MAX_ATTACHMENT_DIGITS).contains(&digits) => {}
            _ if digits > MAX_ATTACHMENT_DIGITS => return Err(Violation::TooManyAttachments { limit: 9_999 }),
            _ => return Err(Violation::AttachmentCount),
        }
        attachments = number(rest.get(..digits).unwrap_or_default()) as usize;
        if attachments == 0 {
            return Err(Violation::AttachmentCount);
        }
        rest = rest.get(digits + 1..).unwrap_or_default();
    }
    let mut namespace = "/";
    if rest.first() == Some(&b'/') {
        let end = memchr::memchr(b',', rest);
        let start = text.len() - rest.len();
        namespace = text.get(start..end.map_or(text.len(), |end| start + end)).unwrap_or_default();
        rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    }
    let digits = digits(rest);
    let mut id = None;
    if digits > 0 {
        let value = number(rest.get(..digits.min(MAX_ID_DIGITS)).unwrap_or_default());
        if digits > MAX_ID_DIGITS || value > MAX_ID {
            return Err(Violation::AckId);
        }
        id = Some(value);
        rest = rest.get(digits..).unwrap_or_default();
    }
    let data = match rest.first() {
        None => None,
        Some(b'[' | b'{' | b'"') => text.get(text.len() - rest.len()..),
        Some(_) => return Err(Violation::Malformed),
    };
    Ok(Header { kind, attachments, namespace, id, data })
}

fn digits(bytes: &[u8]) -> usize {
    // One more than any limit is enough to know that there are too many.
    bytes.iter().take(MAX_ID_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count()
}

/// The value of at most 16 digits.
fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

const MAX_ATTACHMENT_DIGITS: usize = 4;
const MAX_ID_DIGITS: usize = 16;

/// What a pass over a payload learned.
#[derive(Debug, PartialEq, Eq, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// How many elements the array or object has.
    pub(crate) elements: usize,
    pub(crate) long: Long,
}

/// Checks that `text` is one JSON value that nests at most [`MAX_DEPTH`] deep and whose numbers are finite.
///
/// It accepts what serde_json accepts, and lone surrogates (`"\ud800"`) as JavaScript does; those have no Rust text, so a
/// handler that wants the string gets an error. No recursion, no allocation.
pub(crate) fn check(text: &str) -> Option<Shape> {
    let bytes = text.as_bytes();
    // The lowest bit says whether the container around the current one is an object, the next one of the one around that.
    let (mut around, mut depth) = (0_u128, 0_usize);
    let (mut in_object, mut at, mut elements) = (false, 0_usize, 0_usize);
    let mut long = Long::default();
    'value: loop {
        let mut byte = token(bytes, &mut at)?;
        elements += usize::from(depth == 1);
        if in_object {
            if byte != b'"' {
                return None;
            }
            at = string_end(bytes, at + 1, &mut long)?;
            if token(bytes, &mut at)? != b':' {
                return None;
            }
            at += 1;
            byte = token(bytes, &mut at)?;
        }
        match byte {
            b'"' => at = string_end(bytes, at + 1, &mut long)?,
            b'{' | b'[' => {
                if depth == MAX_DEPTH {
                    return None;
                }
                at += 1;
                // `]` and `}` differ from their opening by two.
                if token(bytes, &mut at)? != byte + 2 {
                    around = around << 1 | u128::from(in_object);
                    depth += 1;
                    in_object = byte == b'{';
                    continue 'value;
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => at = number_end(text, at)?,
            b't' => at = literal(bytes, at, b"true")?,
            b'f' => at = literal(bytes, at, b"false")?,
            b'n' => at = literal(bytes, at, b"null")?,
            _ => return None,
        }
        while depth > 0 {
            let next = token(bytes, &mut at)?;
            at += 1;
            if next == b',' {
                continue 'value;
            }
            if next != if in_object { b'}' } else { b']' } {
                return None;
            }
            depth -= 1;
            in_object = around & 1 == 1;
            around >>= 1;
        }
        if token(bytes, &mut at).is_some() {
            return None;
        }
        return Some(Shape { elements, long });
    }
}

/// The first byte that is no whitespace; moves `at` to it.
#[inline]
fn token(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        match *bytes.get(*at)? {
            b' ' | b'\t' | b'\n' | b'\r' => *at += 1,
            byte => return Some(byte),
        }
    }
}

/// Strings below this length are found again as fast as they are remembered.
const LONG: usize = 256;

/// Behind the closing quote of the string whose first character is at `at`.
#[inline]
fn string_end(bytes: &[u8], at: usize, long: &mut Long) -> Option<usize> {
    let len = plain_len(bytes.get(at..)?);
    let end = at + len;
    if *bytes.get(end)? != b'"' {
        return escaped_string_end(bytes, end);
    }
    if len >= LONG {
        long.remember(at, end);
    }
    Some(end + 1)
}

/// The same from the first byte of the string that is not plain.
#[inline(never)]
fn escaped_string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            _ => return None,
        }
        at += plain_len(bytes.get(at..)?);
    }
}

fn number_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let run = |at: usize| bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = start + usize::from(*bytes.get(start)? == b'-');
    let whole = run(at);
    if whole == 0 || whole > 1 && bytes.get(at) == Some(&b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = run(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    // Only a long number or an exponent can leave the range of a double.
    let mut huge = whole > 300;
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = run(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
        huge = true;
    }
    if huge && !text.get(start..at)?.parse::<f64>().ok()?.is_finite() {
        return None;
    }
    Some(at)
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// Encodes a packet that carries arguments; `write` writes them.
pub(crate) fn encode_list(
    kind: PacketKind,
    namespace: &str,
    id: Option<u64>,
    headroom: usize,
    write: impl FnOnce(&mut JsonSink<'_>) -> Result<(), EncodeError>,
) -> Result<Encoded, EncodeError> {
    let mut out = head(kind, namespace, id, headroom);
    let mut attachments = Vec::new();
    out.push(b'[');
    let writer = JsonWriter { out: &mut out, attachments: &mut attachments, headroom };
    write(&mut JsonSink { writer, written: 0 })?;
    out.push(b']');
    if !attachments.is_empty() {
        // How many there are is known only now. Text in front of attachments is short, moving it is cheap.
        let mut digits = itoa::Buffer::new();
        // BINARY_EVENT is 5 to EVENT's 2, BINARY_ACK 6 to ACK's 3.
        let prefix =
            std::iter::once(b'0' + kind.number() + 3).chain(digits.format(attachments.len()).bytes()).chain([b'-']);
        out.splice(headroom..=headroom, prefix);
    }
    let mut encoded = Encoded::new();
    encoded.push(Chunk { bytes: out.finish(), start: headroom, binary: false });
    encoded.extend(attachments);
    Ok(encoded)
}

/// Encodes a packet whose payload is already text.
pub(crate) fn encode_text(kind: PacketKind, namespace: &str, id: Option<u64>, headroom: usize, text: &str) -> Encoded {
    let mut out = head(kind, namespace, id, headroom);
    out.extend_from_slice(text.as_bytes());
    smallvec::smallvec![Chunk { bytes: out.finish(), start: headroom, binary: false }]
}

/// Encodes a packet with one value as its payload, or none.
pub(crate) fn encode_one<T: Serialize + ?Sized>(
    kind: PacketKind,
    namespace: &str,
    data: Option<&T>,
    headroom: usize,
) -> Result<Encoded, EncodeError> {
    let mut out = head(kind, namespace, None, headroom);
    if let Some(data) = data {
        let mut attachments = Vec::new();
        data.serialize(&mut JsonWriter { out: &mut out, attachments: &mut attachments, headroom })?;
        if !attachments.is_empty() {
            return Err(EncodeError::Binary);
        }
    }
    Ok(smallvec::smallvec![Chunk { bytes: out.finish(), start: headroom, binary: false }])
}

fn head(kind: PacketKind, namespace: &str, id: Option<u64>, headroom: usize) -> Buffer {
    let mut out = Buffer::new();
    out.reserve(headroom + namespace.len() + 256);
    out.resize(headroom, 0);
    out.push(b'0' + kind.number());
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
    out
}

/// Arguments as JSON, binary data as attachments.
pub(crate) struct JsonSink<'a> {
    writer: JsonWriter<'a>,
    written: usize,
}

impl Sink for JsonSink<'_> {
    fn begin(&mut self, _: usize) -> Result<(), EncodeError> {
        Ok(())
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if self.written > 0 {
            self.writer.out.push(b',');
        }
        self.written += 1;
        value.serialize(&mut self.writer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What serde_json thinks when it reads everything. Its opinion on lone surrogates is not ours.
    fn serde_json_accepts(text: &str) -> bool {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(_) => true,
            Err(error) => error.to_string().contains("surrogate") || error.to_string().contains("hex escape"),
        }
    }

    #[test]
    fn the_check_is_json() {
        for legal in ["0", "-0", "[]", "[1,2]", " { } ", "\"\"", "\"\\u12aF\"", "-1.5e+3", "1E400000000000e0"] {
            assert_eq!(check(legal).is_some(), serde_json_accepts(legal), "{legal}");
        }
        for illegal in
            ["", " ", "01", "-", "1.", ".1", "1e", "1e+", "+1", "[1,]", "{,}", "{\"a\"}", "{a:1}", "[1 2]", "tru"]
        {
            assert!(check(illegal).is_none(), "{illegal}");
            assert!(!serde_json_accepts(illegal), "{illegal}");
        }
        for illegal in
            ["[", "{", "]", "}", "[}", "{]", "\"", "\"\\", "\"\\u12", "\"\n\"", "[[]", "[]]", "nul", "truefalse"]
        {
            assert!(check(illegal).is_none(), "{illegal}");
            assert!(!serde_json_accepts(illegal), "{illegal}");
        }
    }

    #[test]
    fn the_check_counts_elements() {
        for (text, elements) in [
            ("[]", 0),
            ("[ ]", 0),
            ("{}", 0),
            ("{\"a\":[1,2],\"b\":3}", 2),
            ("[\"a\"]", 1),
            ("[ \"a\\\"\" , [1,2,[3]], {\"k\":[4,5]} , 6 ]", 4),
            ("[[1,2],3]", 2),
            ("[{},[],[]]", 3),
            (" \n[ -1.5e3 , 2 ] ", 2),
            ("\"[1,2]\"", 0),
        ] {
            assert_eq!(check(text).map(|shape| shape.elements), Some(elements), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_check_agrees_with_serde_json(pieces in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", "\"a\"", "\"a\":", "\"", "\\", "\\n", "\\u00e9", "\\q", "1", "0", "-", ".", "e", "E+", "400",
            "true", "false", "null", " ", "\n", "\u{1}", "é", "[1]", "{\"k\":1}", ",1", ",\"b\":2",
        ]), 0..14)) {
            let text = pieces.concat();
            prop_assert_eq!(check(&text).is_some(), serde_json_accepts(&text), "{}", text);
        }

        #[test]
        fn the_check_accepts_what_is_printed(text in "\\PC{0,20}", number in any::<f64>(), deep in 1..200_usize) {
            let value = serde_json::json!([{ text.as_str(): [text.as_str(), number, deep] }]);
            prop_assert!(check(&value.to_string()).is_some());
            let nested = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
            prop_assert_eq!(check(&nested).is_some(), serde_json_accepts(&nested));
        }
    }
}
