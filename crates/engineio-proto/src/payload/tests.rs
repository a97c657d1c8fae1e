//! Tables of payload bytes. The ones of revision 3 and 4 that are encoded here were compared with the encoders of Node.

use super::*;
use crate::packet::Data;

use Malformed::*;
use Revision::{V3, V4};

/// A packet as a test writes it: the kind's digit and its text, or bytes.
#[derive(Debug, Clone, PartialEq)]
enum Item<'a> {
    Text(&'a str),
    Bytes(u8, &'a [u8]),
}

use Item::{Bytes, Text};

/// All packets in front of the first error, and the error.
fn decode(cursor: PayloadCursor, body: &[u8]) -> (Vec<Packet<'_>>, Option<Malformed>) {
    let mut cursor = cursor;
    let mut packets = Vec::new();
    while let Some(packet) = cursor.next(body) {
        match packet {
            Ok(packet) => packets.push(packet),
            Err(error) => {
                assert!(cursor.is_done());
                assert!(cursor.next(body).is_none(), "something comes after an error");
                return (packets, Some(error));
            }
        }
    }
    assert!(cursor.next(body).is_none(), "something comes after the end");
    (packets, None)
}

#[track_caller]
fn check(revision: Revision, binary_body: bool, body: &[u8], items: &[Item<'_>], error: Option<Malformed>) {
    let (packets, got) = decode(PayloadCursor::new(revision, binary_body), body);
    let shown = body.get(..80).unwrap_or(body).escape_ascii();
    assert_eq!(got, error, "{revision:?} body: {shown}");
    assert_eq!(packets.len(), items.len(), "{revision:?} body: {shown}");
    for (packet, item) in packets.iter().zip(items) {
        let (kind, data) = match item {
            Text(text) => (text.as_bytes()[0] - b'0', Data::Text(text[1..].into())),
            Bytes(kind, bytes) => (*kind, Data::Binary((*bytes).into())),
        };
        assert_eq!((packet.kind.byte(), &packet.data), (kind, &data), "{revision:?} body: {shown}");
    }
}

#[test]
fn separated_packets() {
    let v4 = |body: &[u8], items: &[Item<'_>], error| check(V4, false, body, items, error);
    v4(b"42[\"a\"]", &[Text("42[\"a\"]")], None);
    v4(b"40\x1e42[\"a\"]\x1e3", &[Text("40"), Text("42[\"a\"]"), Text("3")], None);
    v4("42[\"é😀\"]\u{1e}6".as_bytes(), &[Text("42[\"é😀\"]"), Text("6")], None);
    v4(b"", &[], Some(Empty)); // P4-01
    // P4-02: what stands before the error counts.
    v4(b"\x1e", &[], Some(Empty));
    v4(b"\x1e42[\"a\"]", &[], Some(Empty));
    v4(b"40/x,\x1e\x1e42[\"a\"]", &[Text("40/x,")], Some(Empty));
    v4(b"42[\"a\"]\x1e", &[Text("42[\"a\"]")], Some(Empty));
    v4(b"42[\"a\"]\x1e7", &[Text("42[\"a\"]")], Some(UnknownKind));
    v4(b"42[\"a\"]\x1e4", &[Text("42[\"a\"]"), Text("4")], None);
    // P4-03
    for body in ["7abc", "9", "x", "abc", "é", "😀"] {
        v4(body.as_bytes(), &[], Some(UnknownKind));
    }
    // P4-04: strict UTF-8, where the character begins as where it ends.
    for body in [b"4\xff\xfe".as_slice(), b"4\xed\xa0\x80", b"4\xc0\x80", b"4\xf4\x90\x80\x80", b"4\xc3", b"\xff"] {
        v4(body, &[], Some(Utf8));
    }
    v4(b"4a\x1e4\xc3\x1e4b", &[Text("4a")], Some(Utf8));
    // P4-05 to P4-08: decoded here, judged by the session.
    for body in ["0{}", "5", "6", "6abc", "1", "2", "2probe", "3", "4"] {
        v4(body.as_bytes(), &[Text(body)], None);
    }
    v4(b"1\x1e42[\"a\"]", &[Text("1"), Text("42[\"a\"]")], None);
    v4(&b"3\x1e".repeat(10)[..19], &vec![Text("3"); 10], None);
    // P4-10
    v4(b"bAAEC", &[Bytes(4, b"\0\x01\x02")], None);
    v4(b"b\x1ebAAE", &[Bytes(4, b""), Bytes(4, b"\0\x01")], None);
    v4(b"4a\x1eb!!!!", &[Text("4a")], Some(Base64));
    // P4-12
    v4(b"d=42%5B%22a%22%5D", &[], Some(UnknownKind));
    // H33: revision 4 has no binary bodies.
    check(V4, true, b"\x04abc", &[], Some(BinaryBody));
    check(V4, true, b"42[\"a\"]", &[], Some(BinaryBody));
    check(V4, true, b"", &[], Some(BinaryBody));
}

#[test]
fn counted_packets() {
    let v3 = |body: &[u8], items: &[Item<'_>], error| check(V3, false, body, items, error);
    v3(b"7:42[\"a\"]", &[Text("42[\"a\"]")], None);
    v3(b"2:407:42[\"a\"]1:2", &[Text("40"), Text("42[\"a\"]"), Text("2")], None);
    v3(b"10:42[\"abcd\"]", &[Text("42[\"abcd\"]")], None);
    v3(b"3:4:43:4::", &[Text("4:4"), Text("4::")], None);
    // P3-01
    v3(b"", &[], Some(Empty));
    v3(b":", &[], Some(Length));
    v3(b"99:42[\"a\"]", &[], Some(Truncated));
    v3(b"9999999999:a", &[], Some(Truncated));
    for body in
        ["-1:a", "NaN:a", "Infinity:x", "42[\"a\"]\u{1e}40", "12", "1", "0", "99999999999:a", "é:a", "0000000000:"]
    {
        v3(body.as_bytes(), &[], Some(Length));
    }
    v3(&b"1".repeat(100_000), &[], Some(Length));
    v3(&[b"9".repeat(400).as_slice(), b":a"].concat(), &[], Some(Length));
    // P3-02, and in front of, between and behind packets
    v3(b"0:", &[], None);
    v3(b"0:0:", &[], None);
    v3(b"0:1:20:1:30:", &[Text("2"), Text("3")], None);
    // P3-03
    v3(b"3:42[\"a\"]", &[Text("42[")], Some(Length));
    // P3-04
    for body in
        ["1e1:42[\"abcd\"]", "0x7:42[\"a\"]", " 7:42[\"a\"]", "07:42[\"a\"]", "00:", "7.0:42[\"a\"]", "+7:42[\"a\"]"]
    {
        v3(body.as_bytes(), &[], Some(Length));
    }
    // P3-05: UTF-16 code units.
    v3("8:42[\"😀\"]".as_bytes(), &[Text("42[\"😀\"]")], None);
    v3("10:42[\"😀\"]".as_bytes(), &[], Some(Truncated));
    v3("8:42[\"éß\"]1:2".as_bytes(), &[Text("42[\"éß\"]"), Text("2")], None);
    v3("8:42[\"€ࠀ\"]1:2".as_bytes(), &[Text("42[\"€ࠀ\"]"), Text("2")], None);
    v3("2:4😀".as_bytes(), &[], Some(Truncated)); // half a character
    // P3-06
    v3(b"1:9", &[], Some(UnknownKind));
    v3(b"1:3", &[Text("3")], None);
    v3(b"1:21:9", &[Text("2")], Some(UnknownKind));
    // P3-07: decoded here, answered once by the session.
    v3(&b"1:2".repeat(3_000), &vec![Text("2"); 3_000], None);
    // P3-08
    v3(b"6:b4AAEC", &[Bytes(4, b"\0\x01\x02")], None);
    v3(b"2:b4", &[Bytes(4, b"")], None);
    v3(b"4:bxAA", &[], Some(UnknownKind));
    v3(b"1:b", &[], Some(Empty));
    v3(b"5:b4!!!", &[], Some(Base64));
    // Strict UTF-8, also where only the count is looked at first.
    for body in
        [b"2:4\xff".as_slice(), b"2:4\xed\xa0\x80", b"2:4\xc3\x28", b"2:4\x80", b"3:4\xf5\x80\x80\x80", b"1:\xbc"]
    {
        v3(body, &[], Some(Utf8));
    }
    v3(b"2:4\xe2\x82", &[], Some(Truncated));
}

#[test]
fn binary_payloads_of_revision_3() {
    let v3 = |body: &[u8], items: &[Item<'_>], error| check(V3, true, body, items, error);
    v3(b"\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04", &[Text("4hello"), Bytes(4, b"\x01\x02\x03\x04")], None);
    // P3-10
    v3(b"\x00\x07\xff42[\"a\"]", &[Text("42[\"a\"]")], None);
    v3(b"\x00\x00\x07\xff42[\"a\"]", &[], Some(Length));
    v3(b"\x00\x01\x00\xff42[\"abcd\"]", &[Text("42[\"abcd\"]")], None);
    v3(b"\x00\x06\xffb4AAEC", &[Bytes(4, b"\0\x01\x02")], None);
    v3(b"\x01\x01\xff\x04", &[Bytes(4, b"")], None);
    v3(b"\x01\x01\xff\x02", &[Bytes(2, b"")], None);
    // P3-11
    v3(b"", &[], Some(Empty));
    v3(b"\x00", &[], Some(Length));
    v3(b"\x00\xfe\xff\x00", &[], Some(Length));
    v3(b"\x00\x0a\xff", &[], Some(Length));
    v3(&[b"\x00\x07".as_slice(), &[1; 50]].concat(), &[], Some(Length));
    v3(&[b"\x00".as_slice(), &[9; 400], b"\xff"].concat(), &[], Some(Length));
    v3(&[0xff; 300], &[], Some(Length));
    v3(&b"\x00\xff".repeat(1_000), &[], Some(Length));
    v3(&[0; 100_000], &[], Some(Length));
    v3(b"\x00\x00\xff", &[], Some(Empty));
    v3(b"\x01\x00\xff", &[], Some(Empty));
    // P3-12
    v3(b"\x01\x09\x09\xff\x04a", &[], Some(Truncated));
    v3(b"\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4", &[], Some(Truncated));
    v3(b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff4", &[], Some(Length));
    // P3-13
    v3(b"\x00\x03\xff4\xff\xfe", &[], Some(Utf8));
    v3(b"\x05\x01\xff4", &[], Some(Length));
    v3(b"\x01\x04\xff\x09abc", &[], Some(UnknownKind));
    v3(b"\x00\x01\xff2\x02\x01\xff2", &[Text("2")], Some(Length));
    // Text in a binary body and binary in a text body are not guessed.
    v3(b"7:42[\"a\"]", &[], Some(Length));
    check(V3, false, b"\x00\x07\xff42[\"a\"]", &[], Some(Length));
}

#[test]
fn a_megabyte_of_tiny_packets_is_decoded_in_one_walk() {
    // P4-09, P3-14 to P3-16, V04. Work that grows with the square would not end while anybody waits.
    const SIZE: usize = 1_000_000;
    for (revision, binary, unit) in [
        (V4, false, b"6\x1e".as_slice()),
        (V3, false, "2:4¼".as_bytes()),
        (V3, false, b"2:42"),
        (V3, false, b"1:2"),
        (V3, false, b"0:"),
        (V3, true, b"\x00\x01\xff2"),
        (V3, true, b"\x01\x01\xff\x04"),
    ] {
        let count = SIZE / unit.len();
        let mut body = unit.repeat(count);
        if revision == V4 {
            body.pop();
        }
        let (packets, error) = decode(PayloadCursor::new(revision, binary).max_packets(count), &body);
        assert_eq!(error, None);
        assert_eq!(packets.len(), if unit == b"0:" { 0 } else { count });
    }
    // As the advisory has it: the byte alone is no UTF-8.
    check(V3, false, &b"2:4\xbc".repeat(SIZE / 4), &[], Some(Utf8));
    // One giant number (V05).
    check(V3, false, &[b"4".as_slice(), &b"2".repeat(SIZE)].concat(), &[], Some(Length));
}

#[test]
fn by_default_a_body_of_a_million_bytes_may_be_all_separators() {
    const MOST: usize = 524_288;
    let body = "6\u{1e}".repeat(MOST);
    let (packets, error) = decode(PayloadCursor::new(V4, false), body.trim_end_matches('\u{1e}').as_bytes());
    assert_eq!((packets.len(), error), (MOST, None));
    assert!(body.len() > 1_000_000);
    let body = format!("{body}6");
    let (packets, error) = decode(PayloadCursor::new(V4, false), body.as_bytes());
    assert_eq!((packets.len(), error), (MOST, Some(TooManyPackets)));
    // What carries nothing counts too: it takes as long.
    for (revision, binary, body, max, packets) in [
        (V4, false, b"6\x1e6\x1e6".as_slice(), 2, 2),
        (V4, false, b"6", 0, 0),
        (V3, false, b"1:21:21:2", 2, 2),
        (V3, false, b"0:0:0:", 2, 0),
        (V3, true, b"\x00\x01\xff2\x01\x01\xff\x04\x00\x01\xff2", 2, 2),
    ] {
        let (got, error) = decode(PayloadCursor::new(revision, binary).max_packets(max), body);
        assert_eq!((got.len(), error), (packets, Some(TooManyPackets)));
        let (_, error) = decode(PayloadCursor::new(revision, binary).max_packets(max + 1), body);
        assert_eq!(error, None);
    }
}

fn text(data: &str) -> OutPacket {
    OutPacket::Message(Frame::text(data.into(), 0))
}

fn binary(data: &[u8]) -> OutPacket {
    OutPacket::Message(Frame::binary(data.into(), 0))
}

fn control(kind: PacketKind) -> OutPacket {
    OutPacket::control(kind, "")
}

#[test]
fn payloads_have_nodes_bytes() {
    let mixed = [text("2[\"é😀\"]"), control(PacketKind::Ping), binary(b"\0\x01\x02\x03"), text(""), binary(b"")];
    let v4_mixed = "42[\"é😀\"]\u{1e}2\u{1e}bAAECAw==\u{1e}4\u{1e}b";
    check(V4, true, &mixed, v4_mixed.as_bytes(), false);
    check(V4, false, &mixed, v4_mixed.as_bytes(), false);
    check(V3, false, &mixed, "9:42[\"é😀\"]1:210:b4AAECAw==1:42:b4".as_bytes(), false);
    check(
        V3,
        true,
        &mixed,
        b"\x00\x01\x02\xff42[\"\xc3\xa9\xf0\x9f\x98\x80\"]\x00\x01\xff2\x01\x05\xff\x04\0\x01\x02\x03\x00\x01\xff4\x01\x01\xff\x04",
        true,
    );
    // Without a binary message, a payload of revision 3 is text.
    check(V3, true, &mixed[..2], "9:42[\"é😀\"]1:2".as_bytes(), false);
    let open = OutPacket::control(PacketKind::Open, r#"{"sid":"a"}"#);
    check(V3, true, &[open.clone(), text("0")], br#"12:0{"sid":"a"}2:40"#, false);
    check(V4, true, &[open, text("0")], b"0{\"sid\":\"a\"}\x1e40", false);
    check(V4, true, &[control(PacketKind::Noop), control(PacketKind::Close)], b"6\x1e1", false);
    check(V3, true, &[control(PacketKind::Noop), control(PacketKind::Close)], b"1:61:1", false);
    check(V4, true, &[], b"", false);
    check(V3, true, &[], b"0:", false);

    #[track_caller]
    fn check(revision: Revision, peer_takes_binary: bool, packets: &[OutPacket], body: &[u8], binary: bool) {
        let payload = encode_payload(revision, peer_takes_binary, packets);
        assert_eq!(payload.body.escape_ascii().to_string(), body.escape_ascii().to_string(), "{revision:?}");
        assert_eq!(payload.binary, binary, "{revision:?}");
        // A queue counts with this.
        assert!(payload.body.len() <= packets.iter().map(OutPacket::encoded_len).sum::<usize>().max(2));
        // Any iterator will do.
        assert_eq!(
            encode_payload(revision, peer_takes_binary, &mut packets.iter() as &mut dyn Iterator<Item = _>),
            payload
        );
    }
}

#[test]
fn packets_on_a_websocket_have_nodes_bytes() {
    for revision in [V3, V4] {
        for takes_binary in [false, true] {
            check(revision, takes_binary, control(PacketKind::Ping), b"2", true);
            check(revision, takes_binary, OutPacket::control(PacketKind::Pong, "probe"), b"3probe", true);
            check(revision, takes_binary, text("2[\"é\"]"), "42[\"é\"]".as_bytes(), true);
        }
    }
    check(V4, true, binary(b"\0\x01\x02\x03"), b"\0\x01\x02\x03", false);
    check(V4, false, binary(b"\0\x01\x02\x03"), b"bAAECAw==", true);
    check(V3, true, binary(b"\0\x01\x02\x03"), b"\x04\0\x01\x02\x03", false);
    check(V3, false, binary(b"\0\x01\x02\x03"), b"b4AAECAw==", true);
    check(V4, true, binary(b""), b"", false);
    check(V3, true, binary(b""), b"\x04", false);

    #[track_caller]
    fn check(revision: Revision, peer_takes_binary: bool, packet: OutPacket, bytes: &[u8], text: bool) {
        let encoded = encode_websocket(revision, peer_takes_binary, &packet);
        assert_eq!((encoded.bytes.as_ref(), encoded.text), (bytes, text), "{revision:?} {packet:?}");
        assert!(encoded.bytes.len() <= packet.encoded_len());
    }
}

#[test]
fn packets_know_what_they_are() {
    let mut quiet = Frame::binary(b"x".to_vec(), 0);
    quiet.compress = false;
    for (packet, kind, is_binary, compress) in [
        (control(PacketKind::Noop), PacketKind::Noop, false, false),
        (text("x"), PacketKind::Message, false, true),
        (binary(b"x"), PacketKind::Message, true, true),
        (OutPacket::Message(quiet), PacketKind::Message, true, false),
    ] {
        assert_eq!((packet.kind(), packet.is_binary(), packet.wants_compression()), (kind, is_binary, compress));
    }
}
