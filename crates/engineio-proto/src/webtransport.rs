//! Packets on a WebTransport stream: a small header with the length in front of each.
//!
//! Bit 7 of the first byte tells a binary message from a text packet. The other seven are the length up to 125, 126 with
//! two bytes behind, or 127 with eight. The first packet of a client is an open packet: [`Hello`]. There is no I/O here;
//! which stream is read and how long it may take is the server's business.

use std::{borrow::Cow, mem};

use serde::Deserialize;

use crate::{
    Revision,
    open::is_sid,
    packet::{Malformed, Packet, PacketKind},
};

/// The longest header of a packet.
pub const MAX_HEADER: usize = 9;

/// The header in front of `len` bytes: the bytes and how many of them count.
///
/// A length of 0 cannot be sent: peers take it for an error. A text packet is never empty.
pub fn encode_header(len: usize, binary: bool) -> ([u8; MAX_HEADER], usize) {
    let flag = if binary { 0x80 } else { 0 };
    let mut header = [0; MAX_HEADER];
    if len < 126 {
        header[0] = flag | len as u8;
        (header, 1)
    } else if let Ok(short) = u16::try_from(len) {
        header[0] = flag | 126;
        header[1..3].copy_from_slice(&short.to_be_bytes());
        (header, 3)
    } else {
        header[0] = flag | 127;
        header[1..9].copy_from_slice(&(len as u64).to_be_bytes());
        (header, 9)
    }
}

/// One packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPacket<'a> {
    /// The bytes behind the header, borrowed when they came in one piece.
    pub bytes: Cow<'a, [u8]>,
    /// Whether it is a binary message.
    pub binary: bool,
}

impl StreamPacket<'_> {
    /// Decodes the packet. WebTransport speaks revision 4 alone.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a packet.
    pub fn decode(&self) -> Result<Packet<'_>, Malformed> {
        if self.binary {
            return Packet::decode_binary(Revision::V4, &self.bytes);
        }
        let text = simdutf8::basic::from_utf8(&self.bytes).map_err(|_| Malformed::Utf8)?;
        Packet::decode_text(Revision::V4, text)
    }
}

/// Why a stream is over, with the reason "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A length of 0.
    #[error("empty packet")]
    Empty,
    /// A length that a shorter header could have told.
    #[error("packet length is not in its shortest form")]
    NotMinimal,
    /// More bytes than allowed.
    #[error("packet is over the limit")]
    TooLarge,
}

/// Takes a stream apart into packets, in whatever pieces it comes.
///
/// A packet that comes in one piece is borrowed. Memory grows with the bytes that came, never with the announced length.
#[derive(Debug)]
pub struct StreamDecoder {
    max_payload: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; MAX_HEADER], filled: usize },
    Body { binary: bool, len: usize, bytes: Vec<u8> },
    Failed(StreamError),
}

impl State {
    const START: Self = Self::Header { bytes: [0; MAX_HEADER], filled: 0 };
}

impl StreamDecoder {
    /// A decoder at the start of a stream, for packets of at most `max_payload` bytes.
    pub fn new(max_payload: usize) -> Self {
        Self { max_payload, state: State::START }
    }

    /// Decodes the next packet and moves `input` behind what was read. `None` when more bytes are needed; `input` is then
    /// empty.
    ///
    /// # Errors
    /// [`StreamError`], as soon as the header tells it. Each later call returns the same.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<StreamPacket<'a>>, StreamError> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Header { bytes, filled } => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    if let Some(slot) = bytes.get_mut(*filled) {
                        *slot = byte;
                        *filled += 1;
                    }
                    match read_header(bytes, *filled, self.max_payload) {
                        Ok(None) => {}
                        Ok(Some((binary, len))) => self.state = State::Body { binary, len, bytes: Vec::new() },
                        Err(error) => self.state = State::Failed(error),
                    }
                }
                State::Body { binary, len, bytes } => {
                    let binary = *binary;
                    let missing = len.saturating_sub(bytes.len());
                    let Some((head, rest)) = input.split_at_checked(missing) else {
                        bytes.extend_from_slice(input);
                        *input = &[];
                        return Ok(None);
                    };
                    *input = rest;
                    let bytes = if bytes.is_empty() {
                        Cow::Borrowed(head)
                    } else {
                        bytes.extend_from_slice(head);
                        Cow::Owned(mem::take(bytes))
                    };
                    self.state = State::START;
                    return Ok(Some(StreamPacket { bytes, binary }));
                }
            }
        }
    }
}

/// The flag and the length, once all bytes of the header are there.
fn read_header(
    bytes: &[u8; MAX_HEADER],
    filled: usize,
    max_payload: usize,
) -> Result<Option<(bool, usize)>, StreamError> {
    let [first, a, b, c, d, e, f, g, h] = *bytes;
    let (len, needed, least) = match first & 0x7f {
        126 => (u64::from(u16::from_be_bytes([a, b])), 3, 126),
        127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 9, 65_536),
        len => (u64::from(len), 1, 1),
    };
    if filled < needed {
        return Ok(None);
    }
    if len == 0 {
        return Err(StreamError::Empty);
    }
    if len < least {
        return Err(StreamError::NotMinimal);
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= max_payload).ok_or(StreamError::TooLarge)?;
    Ok(Some((first & 0x80 != 0, len)))
}

/// The first packet of a client: what it wants of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// A new session.
    New,
    /// To carry the session with this id.
    Upgrade {
        /// The session id, not yet looked up.
        sid: String,
    },
}

impl Hello {
    /// Understands the first packet.
    ///
    /// # Errors
    /// [`NoHello`] when it is another packet, or its data is neither empty nor an object with a session id.
    pub fn from_packet(packet: &Packet<'_>) -> Result<Self, NoHello> {
        #[derive(Deserialize)]
        struct Data {
            sid: String,
        }

        let (PacketKind::Open, Some(data)) = (packet.kind, packet.data.as_text()) else { return Err(NoHello) };
        if data.is_empty() {
            return Ok(Self::New);
        }
        // serde would take an array for a struct.
        if !data.trim_start().starts_with('{') {
            return Err(NoHello);
        }
        let Data { sid } = serde_json::from_str(data).map_err(|_| NoHello)?;
        if is_sid(&sid) { Ok(Self::Upgrade { sid }) } else { Err(NoHello) }
    }
}

/// A stream did not start with an open packet as clients send it. The stream is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream does not start with an open packet")]
pub struct NoHello;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100_000;

    /// Decodes `wire` in pieces of `piece` bytes: the packets, and the error at the end if there is one.
    fn decode(wire: &[u8], piece: usize) -> (Vec<(bool, Vec<u8>)>, Option<StreamError>) {
        let mut decoder = StreamDecoder::new(MAX);
        let mut packets = Vec::new();
        for mut input in wire.chunks(piece) {
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(packet)) => packets.push((packet.binary, packet.bytes.into_owned())),
                    Ok(None) => break,
                    Err(error) => return (packets, Some(error)),
                }
            }
            assert!(input.is_empty());
        }
        (packets, None)
    }

    #[track_caller]
    fn check(wire: &[u8], packets: &[(bool, &[u8])], error: Option<StreamError>) {
        for piece in [1, 2, 3, 7, usize::MAX] {
            let (got, got_error) = decode(wire, piece);
            assert!(got.iter().map(|(binary, bytes)| (*binary, bytes.as_slice())).eq(packets.iter().copied()));
            assert_eq!(got_error, error, "pieces of {piece}, wire: {:x?}", &wire[..wire.len().min(16)]);
        }
    }

    #[test]
    fn packets_have_a_length_in_front() {
        check(b"", &[], None);
        check(b"\x010", &[(false, b"0")], None);
        check(b"\x062probe\x83\x01\x02\x03\x015", &[(false, b"2probe"), (true, b"\x01\x02\x03"), (false, b"5")], None);
        for (len, header) in [
            (125, &[125][..]),
            (126, &[126, 0, 126]),
            (65_535, &[126, 0xff, 0xff]),
            (65_536, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (MAX, &[127, 0, 0, 0, 0, 0, 1, 0x86, 0xa0]),
        ] {
            for binary in [false, true] {
                let (bytes, used) = encode_header(len, binary);
                let mut flagged = header.to_vec();
                flagged[0] |= if binary { 0x80 } else { 0 };
                assert_eq!(&bytes[..used], flagged);
                let body = vec![b'x'; len];
                check(&[&flagged, body.as_slice()].concat(), &[(binary, &body)], None);
            }
        }
    }

    #[test]
    fn lengths_that_nobody_needs_are_refused_at_the_header() {
        check(b"\x00", &[], Some(StreamError::Empty)); // T04
        check(b"\x80", &[], Some(StreamError::Empty));
        check(b"\x014\x00", &[(false, b"4")], Some(StreamError::Empty));
        check(b"\x7e\x00\x00", &[], Some(StreamError::Empty));
        check(b"\x7e\x00\x05", &[], Some(StreamError::NotMinimal)); // T07
        check(b"\x7e\x00\x7d", &[], Some(StreamError::NotMinimal));
        check(b"\xff\x00\x00\x00\x00\x00\x00\xff\xff", &[], Some(StreamError::NotMinimal));
        check(b"\x7f\x00\x20\x00\x00\x00\x00\x00\x00", &[], Some(StreamError::TooLarge)); // T05: 2^53
        check(b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff", &[], Some(StreamError::TooLarge));
        check(b"\x7f\x00\x00\x00\x00\x00\x01\x86\xa1", &[], Some(StreamError::TooLarge)); // T06: the limit and 1
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        // T06
        let mut decoder = StreamDecoder::new(usize::MAX);
        let mut input: &[u8] = b"\x7f\x00\x00\x00\x00\xff\xff\xff\xffab";
        assert_eq!(decoder.decode(&mut input), Ok(None));
        let State::Body { len, bytes, .. } = &decoder.state else { panic!("not in a body") };
        assert_eq!(*len, 0xffff_ffff);
        assert!(bytes.capacity() < 100);
    }

    #[test]
    fn after_an_error_there_is_nothing() {
        let mut decoder = StreamDecoder::new(MAX);
        let mut input: &[u8] = b"\x00\x014";
        assert_eq!(decoder.decode(&mut input), Err(StreamError::Empty));
        assert_eq!(decoder.decode(&mut input), Err(StreamError::Empty));
    }

    #[test]
    fn a_packet_in_one_piece_is_borrowed() {
        let mut input: &[u8] = b"\x024a\x024b\x02";
        let mut decoder = StreamDecoder::new(MAX);
        for _ in 0..2 {
            let packet = decoder.decode(&mut input).expect("valid").expect("complete");
            assert!(matches!(packet.bytes, Cow::Borrowed(_)));
        }
        assert_eq!(decoder.decode(&mut input), Ok(None));
    }

    #[test]
    fn the_flag_decides_what_the_bytes_are() {
        // T08
        let bytes: &[u8] = b"4hi";
        let packet = |binary| StreamPacket { bytes: Cow::Borrowed(bytes), binary };
        assert_eq!(packet(false).decode(), Packet::decode_text(Revision::V4, "4hi"));
        assert_eq!(packet(true).decode(), Packet::decode_binary(Revision::V4, b"4hi"));
        let packet = StreamPacket { bytes: Cow::Borrowed(b"4\xff"), binary: false };
        assert_eq!(packet.decode(), Err(Malformed::Utf8));
    }

    #[test]
    fn the_first_packet_opens_or_upgrades() {
        check("0", Ok(Hello::New));
        check(r#"0{"sid":"lv_VI97HAXpY6yYWAAAC"}"#, Ok(Hello::Upgrade { sid: "lv_VI97HAXpY6yYWAAAC".to_owned() }));
        check(r#"0 {"x":1, "sid":"a"}"#, Ok(Hello::Upgrade { sid: "a".to_owned() }));
        // T02
        for wire in ["1", "2probe", "4", "40", "5", "6", "b"] {
            check(wire, Err(NoHello));
        }
        // T03; ids of the right form are for the table of sessions to refuse.
        check(r#"0{"sid":"__proto__"}"#, Ok(Hello::Upgrade { sid: "__proto__".to_owned() }));
        for data in ["{}", "{", "null", "1", r#"["a"]"#, r#"{"sid":1}"#, r#"{"sid":""}"#, r#"{"sid":"a b"}"#] {
            check(&format!("0{data}"), Err(NoHello));
        }
        check(&format!("0{}", r#"{"sid":"#.repeat(10_000)), Err(NoHello));

        #[track_caller]
        fn check(wire: &str, want: Result<Hello, NoHello>) {
            let packet = Packet::decode_text(Revision::V4, wire).expect("a packet");
            assert_eq!(Hello::from_packet(&packet), want, "wire: {}", &wire[..wire.len().min(80)]);
        }
    }
}
