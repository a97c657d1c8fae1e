//! One Engine.IO packet: its kind, its data, and the bytes of both revisions.
//!
//! A packet is what one WebSocket frame or one item of a polling [`payload`](crate::payload) carries. Decoding borrows
//! from the input; only base64 needs memory of its own, and never more than the input is long.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{Message, Revision};

/// A server's answer to [`PROBE`] on the transport that is being tried: a pong packet with the data `probe`.
pub const PROBE_ANSWER: &str = "3probe";

/// What a client sends first on the transport that it wants to upgrade to: a ping packet with the data `probe`.
pub const PROBE: &str = "2probe";

/// What a packet is for. The digit on the wire is the position in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// The handshake, from server to client. From a client only as the first packet of a WebTransport stream.
    Open,
    /// The end of a polling session.
    Close,
    /// A heartbeat, from the server in revision 4, from the client in revision 3. A probe during an upgrade.
    Ping,
    /// The answer to a ping.
    Pong,
    /// A message of the application.
    Message,
    /// The end of an upgrade, from the client.
    Upgrade,
    /// Nothing; it releases a waiting poll.
    Noop,
}

impl PacketKind {
    /// The kind of a packet that starts with this ASCII digit, `0` to `6`.
    pub const fn from_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Open,
            b'1' => Self::Close,
            b'2' => Self::Ping,
            b'3' => Self::Pong,
            b'4' => Self::Message,
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return None,
        })
    }

    /// The packet of this kind without data, as text transports carry it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Open => "0",
            Self::Close => "1",
            Self::Ping => "2",
            Self::Pong => "3",
            Self::Message => "4",
            Self::Upgrade => "5",
            Self::Noop => "6",
        }
    }

    /// The byte that stands for this kind in a binary packet of revision 3: `0x00` to `0x06`.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Close => 1,
            Self::Ping => 2,
            Self::Pong => 3,
            Self::Message => 4,
            Self::Upgrade => 5,
            Self::Noop => 6,
        }
    }

    /// The kind of a binary packet of revision 3 that starts with this byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0..=6 => Self::from_digit(b'0' + byte),
            _ => None,
        }
    }
}

/// The data of a packet, borrowed from the input where the wire form allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

impl Data<'_> {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The data as a message.
    pub fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// How many bytes the data has.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One decoded packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the packet is for.
    pub kind: PacketKind,
    /// What it carries.
    pub data: Data<'a>,
}

impl<'a> Packet<'a> {
    /// Decodes a WebSocket text frame or one item of a text payload.
    ///
    /// `b` and base64 is a binary message in revision 4; in revision 3 a digit stands between the two. The alphabet of
    /// base64 is strict, padding may be absent.
    ///
    /// # Errors
    /// [`Malformed`] when these are not the bytes of a packet.
    pub fn decode_text(revision: Revision, text: &'a str) -> Result<Self, Malformed> {
        let Some(&first) = text.as_bytes().first() else { return Err(Malformed::Empty) };
        if first == b'b' {
            return decode_base64(revision, text.get(1..).unwrap_or_default());
        }
        let kind = PacketKind::from_digit(first).ok_or(Malformed::UnknownKind)?;
        // The first byte is an ASCII digit, so the rest begins at a character.
        let data = text.get(1..).unwrap_or_default();
        Ok(Self { kind, data: Data::Text(Cow::Borrowed(data)) })
    }

    /// Decodes a WebSocket binary frame or one binary item of a payload of revision 3.
    ///
    /// In revision 4 the bytes are a message; in revision 3 the first byte is the kind.
    ///
    /// # Errors
    /// [`Malformed`] when these are not the bytes of a packet. Revision 4 knows no such bytes.
    pub fn decode_binary(revision: Revision, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, data) = match revision {
            Revision::V4 => (PacketKind::Message, bytes),
            Revision::V3 => {
                let (&first, data) = bytes.split_first().ok_or(Malformed::Empty)?;
                (PacketKind::from_byte(first).ok_or(Malformed::UnknownKind)?, data)
            }
        };
        Ok(Self { kind, data: Data::Binary(Cow::Borrowed(data)) })
    }

    /// The message that this packet carries, if it is a message packet.
    pub fn message(&self) -> Option<Message<'_>> {
        (self.kind == PacketKind::Message).then(|| self.data.as_message())
    }

    /// Whether this is the ping with the data `probe` that starts an upgrade.
    pub fn is_probe(&self) -> bool {
        self.kind == PacketKind::Ping && self.data.as_text() == Some("probe")
    }
}

/// Why bytes are not a packet or not a payload. The session that sent them is over, with the reason "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A packet without even a kind, such as what follows a trailing separator, or a payload without a packet.
    #[error("empty packet")]
    Empty,
    /// The first character is not the kind of any packet.
    #[error("unknown packet kind")]
    UnknownKind,
    /// What follows `b` is not base64.
    #[error("invalid base64")]
    Base64,
    /// A text packet is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// The length in front of a packet is not a number as the protocol writes it, or longer than 10 digits.
    #[error("invalid packet length")]
    Length,
    /// The payload ends before the packet does, or the length cuts a character in two.
    #[error("packet length does not fit the payload")]
    Truncated,
    /// The payload holds more packets than allowed.
    #[error("too many packets in one payload")]
    TooManyPackets,
    /// A binary body in a revision that has none.
    #[error("invalid content")]
    BinaryBody,
    /// A JSONP body is not a form with exactly one field `d`.
    #[error("invalid form")]
    Form,
}

impl Malformed {
    /// The same text as `Display`, for a close reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty packet",
            Self::UnknownKind => "unknown packet kind",
            Self::Base64 => "invalid base64",
            Self::Utf8 => "invalid UTF-8",
            Self::Length => "invalid packet length",
            Self::Truncated => "packet length does not fit the payload",
            Self::TooManyPackets => "too many packets in one payload",
            Self::BinaryBody => "invalid content",
            Self::Form => "invalid form",
        }
    }
}

/// Decodes what follows the `b` of a base64 packet.
fn decode_base64(revision: Revision, text: &str) -> Result<Packet<'static>, Malformed> {
    let (kind, text) = match revision {
        Revision::V4 => (PacketKind::Message, text.as_bytes()),
        Revision::V3 => {
            let (&digit, rest) = text.as_bytes().split_first().ok_or(Malformed::Empty)?;
            (PacketKind::from_digit(digit).ok_or(Malformed::UnknownKind)?, rest)
        }
    };
    let bytes = BASE64.decode(text).map_err(|_| Malformed::Base64)?;
    Ok(Packet { kind, data: Data::Binary(Cow::Owned(bytes)) })
}

/// Appends the text form of a binary message: `b<base64>`, in revision 3 `b4<base64>`.
pub(crate) fn push_base64(revision: Revision, bytes: &[u8], out: &mut Vec<u8>) {
    match revision {
        Revision::V4 => out.push(b'b'),
        Revision::V3 => out.extend_from_slice(b"b4"),
    }
    let start = out.len();
    out.resize(start + base64_len(bytes.len()), 0);
    let written = out.get_mut(start..).map_or(Ok(0), |room| BASE64.encode_slice(bytes, room));
    debug_assert!(written.is_ok_and(|n| start + n == out.len()), "the room is what padded base64 takes");
}

/// How many characters padded base64 takes for so many bytes.
pub(crate) const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// Standard alphabet, padding written but not required. Bits behind the last byte are ignored, as Node ignores them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: PacketKind, data: &str) -> Result<Packet<'_>, Malformed> {
        Ok(Packet { kind, data: Data::Text(Cow::Borrowed(data)) })
    }

    fn binary(kind: PacketKind, data: &[u8]) -> Result<Packet<'_>, Malformed> {
        Ok(Packet { kind, data: Data::Binary(Cow::Borrowed(data)) })
    }

    #[test]
    fn text_packets_of_both_revisions() {
        use PacketKind::*;
        for revision in [Revision::V3, Revision::V4] {
            check(revision, "0{}", text(Open, "{}"));
            check(revision, "1", text(Close, ""));
            check(revision, "2", text(Ping, ""));
            check(revision, "2probe", text(Ping, "probe"));
            check(revision, "3", text(Pong, ""));
            check(revision, "4", text(Message, ""));
            check(revision, "42[\"é😀\"]", text(Message, "2[\"é😀\"]"));
            check(revision, "5", text(Upgrade, ""));
            check(revision, "52", text(Upgrade, "2"));
            check(revision, "6abc", text(Noop, "abc"));
            check(revision, "4é", text(Message, "é"));
            // K06: the separator is data in a frame.
            check(revision, "42[\"a\"]\u{1e}42[\"b\"]", text(Message, "2[\"a\"]\u{1e}42[\"b\"]"));
            // K10: a pong may carry anything.
            check(revision, "3x", text(Pong, "x"));
        }
    }

    #[test]
    fn text_that_is_no_packet() {
        for revision in [Revision::V3, Revision::V4] {
            check(revision, "", Err(Malformed::Empty)); // K01
            // K02, P4-03
            for wire in ["7", "7abc", "9", "x", "abc", "\0", " 4", "-1", "+4"] {
                check(revision, wire, Err(Malformed::UnknownKind));
            }
            // K20, P4-03: the first character may have several bytes.
            for wire in ["é", "é4", "😀", "\u{b2}", "\u{1e}", "٤"] {
                check(revision, wire, Err(Malformed::UnknownKind));
            }
        }
    }

    #[test]
    fn base64_packets() {
        use PacketKind::*;
        let v4 = Revision::V4;
        check(v4, "b", binary(Message, b"")); // P4-10: empty, and for the application to refuse
        check(v4, "bAAEC", binary(Message, b"\0\x01\x02"));
        check(v4, "bAAE", binary(Message, b"\0\x01"));
        check(v4, "bAAE=", binary(Message, b"\0\x01"));
        check(v4, "bAAF", binary(Message, b"\0\x01"));
        check(v4, "bAQ==", binary(Message, b"\x01"));
        check(v4, "b+/8=", binary(Message, b"\xfb\xff"));
        for wire in ["b!!!!", "bA", "bAAE==", "bAA E", "bAA\nE", "b-_8=", "b=", "bé", "bAAEC="] {
            check(v4, wire, Err(Malformed::Base64));
        }
        let v3 = Revision::V3;
        check(v3, "b4AAEC", binary(Message, b"\0\x01\x02"));
        check(v3, "b4", binary(Message, b""));
        check(v3, "b2AAEC", binary(Ping, b"\0\x01\x02"));
        check(v3, "b", Err(Malformed::Empty));
        check(v3, "bxAA", Err(Malformed::UnknownKind)); // P3-08
        check(v3, "bé", Err(Malformed::UnknownKind));
        check(v3, "b4!!!!", Err(Malformed::Base64));
    }

    #[test]
    fn binary_packets() {
        use PacketKind::*;
        check_binary(Revision::V4, b"", binary(Message, b"")); // K07: empty, and for the application to refuse
        check_binary(Revision::V4, b"\x04ab", binary(Message, b"\x04ab"));
        check_binary(Revision::V3, b"\x04ab", binary(Message, b"ab"));
        check_binary(Revision::V3, b"\x04", binary(Message, b""));
        check_binary(Revision::V3, b"\x02probe", binary(Ping, b"probe"));
        check_binary(Revision::V3, b"", Err(Malformed::Empty));
        check_binary(Revision::V3, b"\x07", Err(Malformed::UnknownKind));
        check_binary(Revision::V3, b"4ab", Err(Malformed::UnknownKind));
        check_binary(Revision::V3, b"\xff", Err(Malformed::UnknownKind));

        #[track_caller]
        fn check_binary(revision: Revision, wire: &[u8], want: Result<Packet<'_>, Malformed>) {
            assert_eq!(Packet::decode_binary(revision, wire), want, "{revision:?} wire: {wire:?}");
        }
    }

    #[test]
    fn kinds_and_their_digits_agree() {
        for byte in 0..=6 {
            let kind = PacketKind::from_byte(byte).expect("0 to 6 are kinds");
            assert_eq!(kind.byte(), byte);
            assert_eq!(kind.text(), char::from(b'0' + byte).to_string());
            assert_eq!(PacketKind::from_digit(b'0' + byte), Some(kind));
        }
        assert_eq!(PacketKind::from_byte(7), None);
        assert_eq!(PacketKind::from_digit(7), None);
        assert_eq!(PacketKind::from_digit(b'7'), None);
    }

    #[test]
    fn only_a_text_ping_with_probe_is_a_probe() {
        for (wire, want) in [("2probe", true), ("2", false), ("2prob", false), ("3probe", false), ("2probe ", false)] {
            let packet = Packet::decode_text(Revision::V4, wire).expect("a packet");
            assert_eq!(packet.is_probe(), want, "wire: {wire}");
        }
        let packet = Packet::decode_binary(Revision::V3, b"\x02probe").expect("a packet");
        assert!(!packet.is_probe()); // U02
    }

    #[test]
    fn an_error_reads_the_same_both_ways() {
        use Malformed::*;
        for error in [Empty, UnknownKind, Base64, Utf8, Length, Truncated, TooManyPackets, BinaryBody, Form] {
            assert_eq!(error.to_string(), error.as_str());
        }
    }

    #[track_caller]
    fn check(revision: Revision, wire: &str, want: Result<Packet<'_>, Malformed>) {
        assert_eq!(Packet::decode_text(revision, wire), want, "{revision:?} wire: {wire:?}");
    }
}
