//! Polling payloads: several packets in one HTTP body.
//!
//! Revision 4 joins packets with the record separator. Revision 3 writes the length in front of each, as decimal digits
//! and a colon in text, or as bytes in a body that is binary as a whole. [`PayloadCursor`] takes a body apart lazily, so
//! that its owner can stop between two packets; [`encode_payload`] puts one together; [`encode_websocket`] is the form of
//! one packet on a WebSocket.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::{
    Frame, Limits, Revision,
    packet::{Malformed, Packet, PacketKind, base64_len, push_base64},
};

/// The byte between two packets of a payload of revision 4.
pub const SEPARATOR: u8 = 0x1e;

/// The most digits of a length in a payload of revision 3. Ten digits count more bytes than anybody accepts.
const MAX_LENGTH_DIGITS: usize = 10;

/// Takes a polling body apart, one packet per call.
///
/// The position lives here and the body with the caller, so decoding can stop after any packet and go on later. All calls
/// together look at each byte a constant number of times. After an error there is no further packet; the packets before
/// it were handed out and count.
#[derive(Debug, Clone)]
pub struct PayloadCursor {
    form: Form,
    /// Where the next packet begins; `None` when there is none.
    position: Option<usize>,
    /// How many more packets may come.
    left: usize,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// Revision 4: separated packets.
    Separated,
    /// Revision 3, text: a length in UTF-16 code units, a colon, the packet.
    Counted,
    /// Revision 3, binary: a flag, a length in bytes, 255, the packet.
    Binary,
    /// A binary body in revision 4, which has none.
    Refused,
}

impl PayloadCursor {
    /// A cursor at the start of a body. `binary_body` tells whether its content type is `application/octet-stream`.
    ///
    /// It allows as many packets as [`Limits::max_payload_packets`] does by default.
    pub fn new(revision: Revision, binary_body: bool) -> Self {
        let form = match (revision, binary_body) {
            (Revision::V4, false) => Form::Separated,
            (Revision::V4, true) => Form::Refused,
            (Revision::V3, false) => Form::Counted,
            (Revision::V3, true) => Form::Binary,
        };
        Self { form, position: Some(0), left: Limits::DEFAULT_MAX_PAYLOAD_PACKETS }
    }

    /// The same cursor, which allows this many packets.
    #[must_use]
    pub fn max_packets(mut self, max_packets: usize) -> Self {
        self.left = max_packets;
        self
    }

    /// Decodes the next packet. `body` must be the same at each call.
    ///
    /// `None` after the last packet and after an error.
    pub fn next<'a>(&mut self, body: &'a [u8]) -> Option<Result<Packet<'a>, Malformed>> {
        // Taken out, so that the cursor is at its end unless decoding puts a position back.
        let start = self.position.take()?;
        Some(match self.form {
            Form::Separated => self.next_separated(body, start),
            Form::Counted => return self.next_counted(body, start).transpose(),
            Form::Binary => self.next_binary(body, start),
            Form::Refused => Err(Malformed::BinaryBody),
        })
    }

    /// Whether it is known that [`PayloadCursor::next`] returns `None` from here on.
    pub fn is_done(&self) -> bool {
        self.position.is_none()
    }

    fn next_separated<'a>(&mut self, body: &'a [u8], start: usize) -> Result<Packet<'a>, Malformed> {
        self.count()?;
        let rest = body.get(start..).ok_or(Malformed::Empty)?;
        let (item, next) = match memchr::memchr(SEPARATOR, rest) {
            Some(at) => (rest.get(..at).unwrap_or_default(), Some(start + at + 1)),
            None => (rest, None),
        };
        let packet = Packet::decode_text(Revision::V4, utf8(item)?)?;
        self.position = next;
        Ok(packet)
    }

    fn next_counted<'a>(&mut self, body: &'a [u8], start: usize) -> Result<Option<Packet<'a>>, Malformed> {
        let mut rest = body.get(start..).unwrap_or_default();
        if rest.is_empty() {
            return Err(Malformed::Empty);
        }
        loop {
            let (units, after) = read_length(rest, b':', |byte| byte.is_ascii_digit().then(|| byte - b'0'))?;
            self.count()?;
            let (item, after) = after.split_at_checked(utf16_prefix(after, units)?).ok_or(Malformed::Truncated)?;
            if units > 0 {
                let packet = Packet::decode_text(Revision::V3, utf8(item)?)?;
                self.position = (!after.is_empty()).then(|| body.len() - after.len());
                return Ok(Some(packet));
            }
            // `0:` is the empty payload and carries nothing.
            if after.is_empty() {
                return Ok(None);
            }
            rest = after;
        }
    }

    fn next_binary<'a>(&mut self, body: &'a [u8], start: usize) -> Result<Packet<'a>, Malformed> {
        let (&flag, rest) = body.get(start..).and_then(<[u8]>::split_first).ok_or(Malformed::Empty)?;
        if flag > 1 {
            return Err(Malformed::Length);
        }
        let (len, rest) = read_length(rest, 0xff, |byte| (byte <= 9).then_some(byte))?;
        self.count()?;
        let (item, after) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        let packet = match flag {
            0 => Packet::decode_text(Revision::V3, utf8(item)?)?,
            _ => Packet::decode_binary(Revision::V3, item)?,
        };
        self.position = (!after.is_empty()).then(|| body.len() - after.len());
        Ok(packet)
    }

    fn count(&mut self) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(1).ok_or(Malformed::TooManyPackets)?;
        Ok(())
    }
}

/// Reads digits up to `end`: the number and what follows.
fn read_length(bytes: &[u8], end: u8, digit: impl Fn(u8) -> Option<u8>) -> Result<(usize, &[u8]), Malformed> {
    let head = bytes.get(..=MAX_LENGTH_DIGITS).unwrap_or(bytes);
    let mut value = 0u64;
    for (at, &byte) in head.iter().enumerate() {
        if byte == end {
            let leading_zero = at > 1 && head.first().is_some_and(|&first| digit(first) == Some(0));
            if at == 0 || leading_zero {
                return Err(Malformed::Length);
            }
            let value = usize::try_from(value).map_err(|_| Malformed::Truncated)?;
            return Ok((value, bytes.get(at + 1..).unwrap_or_default()));
        }
        // At most 11 digits are read, so this cannot overflow.
        value = value * 10 + u64::from(digit(byte).ok_or(Malformed::Length)?);
    }
    Err(Malformed::Length)
}

/// How many bytes at the start of `bytes` are `units` UTF-16 code units. Validates only as much as it needs to count.
fn utf16_prefix(bytes: &[u8], units: usize) -> Result<usize, Malformed> {
    let mut left = units;
    let mut at = 0;
    while left > 0 {
        let (len, cost) = match bytes.get(at).ok_or(Malformed::Truncated)? {
            0x00..=0x7f => (1, 1),
            0xc2..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            0xf0..=0xf4 => (4, 2),
            _ => return Err(Malformed::Utf8),
        };
        left = left.checked_sub(cost).ok_or(Malformed::Truncated)?;
        at += len;
    }
    Ok(at)
}

/// How many UTF-16 code units a text has. `bytes` should be UTF-8.
fn utf16_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed::Utf8)
}

/// A packet that waits to be sent.
#[derive(Debug, Clone)]
pub enum OutPacket {
    /// A packet of the protocol itself: its kind and its text.
    Control(PacketKind, Cow<'static, str>),
    /// A message of the application.
    Message(Frame),
}

impl OutPacket {
    /// A control packet with this data, which is empty for most kinds.
    pub fn control(kind: PacketKind, data: impl Into<Cow<'static, str>>) -> Self {
        Self::Control(kind, data.into())
    }

    /// What the packet is for.
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Control(kind, _) => *kind,
            Self::Message(_) => PacketKind::Message,
        }
    }

    /// Whether this is a binary message.
    pub fn is_binary(&self) -> bool {
        match self {
            Self::Control(..) => false,
            Self::Message(frame) => frame.is_binary(),
        }
    }

    /// Whether this is a message that a transport may compress.
    pub fn wants_compression(&self) -> bool {
        match self {
            Self::Control(..) => false,
            Self::Message(frame) => frame.compress,
        }
    }

    /// The most bytes that this packet takes in a payload of either revision.
    pub fn encoded_len(&self) -> usize {
        // Revision 3 puts up to 12 bytes of length in front.
        const OVERHEAD: usize = MAX_LENGTH_DIGITS + 2;
        OVERHEAD
            + match self {
                Self::Control(_, data) => 1 + data.len(),
                Self::Message(frame) if frame.is_binary() => 2 + base64_len(frame.data().len()),
                Self::Message(frame) => frame.packet().len(),
            }
    }

    /// Appends the packet as text: kind and data, base64 for a binary message.
    fn push_text(&self, revision: Revision, out: &mut Vec<u8>) {
        match self {
            Self::Control(kind, data) => {
                out.extend_from_slice(kind.text().as_bytes());
                out.extend_from_slice(data.as_bytes());
            }
            Self::Message(frame) if frame.is_binary() => push_base64(revision, frame.data(), out),
            Self::Message(frame) => out.extend_from_slice(frame.packet()),
        }
    }

    /// How many UTF-16 code units [`OutPacket::push_text`] appends in revision 3.
    fn text_units(&self) -> usize {
        match self {
            Self::Control(_, data) => 1 + utf16_len(data.as_bytes()),
            Self::Message(frame) if frame.is_binary() => 2 + base64_len(frame.data().len()),
            Self::Message(frame) => utf16_len(frame.packet()),
        }
    }
}

/// A polling body that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPayload {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the content type is `application/octet-stream`; else it is `text/plain; charset=UTF-8`.
    pub binary: bool,
}

/// Puts packets together into one polling body.
///
/// `peer_takes_binary` is `false` for a client that asked for base64 (`b64` in the query) and for JSONP. It matters in
/// revision 3 alone, whose payloads are binary as a whole when one packet is. No packets give an empty body in revision 4,
/// which is no valid payload, and `0:` in revision 3.
pub fn encode_payload<'p>(
    revision: Revision,
    peer_takes_binary: bool,
    packets: impl IntoIterator<Item = &'p OutPacket>,
) -> EncodedPayload {
    let packets: SmallVec<[&OutPacket; 16]> = packets.into_iter().collect();
    let binary = revision == Revision::V3 && peer_takes_binary && packets.iter().any(|packet| packet.is_binary());
    let mut body = Vec::with_capacity(packets.iter().map(|packet| packet.encoded_len()).sum());
    match (revision, binary) {
        (Revision::V4, _) => {
            for (at, packet) in packets.iter().enumerate() {
                if at > 0 {
                    body.push(SEPARATOR);
                }
                packet.push_text(revision, &mut body);
            }
        }
        (Revision::V3, false) => {
            if packets.is_empty() {
                body.extend_from_slice(b"0:");
            }
            for packet in packets {
                body.extend_from_slice(itoa::Buffer::new().format(packet.text_units()).as_bytes());
                body.push(b':');
                packet.push_text(revision, &mut body);
            }
        }
        (Revision::V3, true) => packets.into_iter().for_each(|packet| push_binary(packet, &mut body)),
    }
    EncodedPayload { body, binary }
}

/// Appends one packet of a binary payload of revision 3.
fn push_binary(packet: &OutPacket, out: &mut Vec<u8>) {
    let (flag, kind, data) = match packet {
        OutPacket::Control(kind, data) => (0, kind.text().as_bytes(), data.as_bytes()),
        OutPacket::Message(frame) if frame.is_binary() => (1, &[4][..], frame.data()),
        OutPacket::Message(frame) => (0, &[][..], frame.packet()),
    };
    out.push(flag);
    let mut digits = itoa::Buffer::new();
    out.extend(digits.format(kind.len() + data.len()).bytes().map(|digit| digit - b'0'));
    out.push(0xff);
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
}

/// The payload of one WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPacket<'p> {
    /// The bytes behind the frame header.
    pub bytes: Cow<'p, [u8]>,
    /// Whether it goes out as a text message.
    pub text: bool,
}

/// The form of one packet on a WebSocket (or, with [`crate::webtransport`]'s header, on a WebTransport stream).
///
/// A client that does not take binary gets base64 text. For messages of revision 4 to everybody else,
/// [`Frame::websocket`] is the same with its header, ready to be written.
pub fn encode_websocket(revision: Revision, peer_takes_binary: bool, packet: &OutPacket) -> EncodedPacket<'_> {
    match packet {
        OutPacket::Control(kind, data) if data.is_empty() => {
            EncodedPacket { bytes: Cow::Borrowed(kind.text().as_bytes()), text: true }
        }
        OutPacket::Message(frame) if !frame.is_binary() => {
            EncodedPacket { bytes: Cow::Borrowed(frame.packet()), text: true }
        }
        OutPacket::Message(frame) if peer_takes_binary => {
            let bytes = match revision {
                Revision::V4 => Cow::Borrowed(frame.data()),
                Revision::V3 => Cow::Owned([&[PacketKind::Message.byte()], frame.data()].concat()),
            };
            EncodedPacket { bytes, text: false }
        }
        _ => {
            let mut bytes = Vec::with_capacity(packet.encoded_len());
            packet.push_text(revision, &mut bytes);
            EncodedPacket { bytes: Cow::Owned(bytes), text: true }
        }
    }
}

#[cfg(test)]
mod tests;
