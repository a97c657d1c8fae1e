//! Properties of the packet, payload and stream codecs: what is encoded comes back, arbitrary bytes do no harm, and the
//! resumable decoders agree with the obvious ones. A failure prints the input that shows it and the seed.

use engineio_proto::{
    Frame, Revision,
    jsonp::{self, JsonpIndex},
    open::OpenPacket,
    packet::{Data, Malformed, Packet, PacketKind},
    payload::{OutPacket, PayloadCursor, encode_payload, encode_websocket},
    request::Query,
    webtransport::{StreamDecoder, encode_header},
};
use proptest::{collection::vec, prelude::*};

/// A packet that owns its data.
type Owned = (PacketKind, Data<'static>);

fn owned(packet: &Packet<'_>) -> Owned {
    let data = match &packet.data {
        Data::Text(text) => Data::Text(text.to_string().into()),
        Data::Binary(bytes) => Data::Binary(bytes.to_vec().into()),
    };
    (packet.kind, data)
}

fn decode_all(revision: Revision, binary: bool, body: &[u8]) -> (Vec<Owned>, Option<Malformed>) {
    let mut cursor = PayloadCursor::new(revision, binary);
    let mut packets = Vec::new();
    while let Some(packet) = cursor.next(body) {
        match packet {
            Ok(packet) => packets.push(owned(&packet)),
            Err(error) => return (packets, Some(error)),
        }
    }
    (packets, None)
}

/// Revision 4 the obvious way.
fn naive_separated(body: &[u8]) -> (Vec<Owned>, bool) {
    let mut packets = Vec::new();
    for item in body.split(|byte| *byte == 0x1e) {
        let Ok(text) = std::str::from_utf8(item) else { return (packets, false) };
        let Ok(packet) = Packet::decode_text(Revision::V4, text) else { return (packets, false) };
        packets.push(owned(&packet));
    }
    (packets, true)
}

/// Revision 3 the way a program with UTF-16 strings does it. Only for bodies that are UTF-8 as a whole.
fn naive_counted(body: &str) -> (Vec<Owned>, bool) {
    let units: Vec<u16> = body.encode_utf16().collect();
    let mut rest = units.as_slice();
    let mut packets = Vec::new();
    if rest.is_empty() {
        return (packets, false);
    }
    while !rest.is_empty() {
        let Some(colon) = rest.iter().position(|unit| *unit == u16::from(b':')) else { return (packets, false) };
        let digits = String::from_utf16_lossy(&rest[..colon]);
        let Ok(len) = digits.parse::<u64>() else { return (packets, false) };
        if len.to_string() != digits || digits.len() > 10 {
            return (packets, false);
        }
        let len = len as usize;
        rest = &rest[colon + 1..];
        if len > rest.len() {
            return (packets, false);
        }
        if len > 0 {
            let Ok(text) = String::from_utf16(&rest[..len]) else { return (packets, false) };
            let Ok(packet) = Packet::decode_text(Revision::V3, &text) else { return (packets, false) };
            packets.push(owned(&packet));
        }
        rest = &rest[len..];
    }
    (packets, true)
}

/// A message without the separator of revision 4, which no text over polling may contain.
fn message() -> impl Strategy<Value = OutPacket> {
    prop_oneof![
        "[^\u{1e}]{0,20}".prop_map(|text| OutPacket::Message(Frame::text(text.into(), 0))),
        vec(any::<u8>(), 0..40).prop_map(|bytes| OutPacket::Message(Frame::binary(bytes, 0))),
        Just(OutPacket::control(PacketKind::Pong, "probe")),
        Just(OutPacket::control(PacketKind::Noop, "")),
    ]
}

fn sent(packet: &OutPacket) -> Owned {
    match packet {
        OutPacket::Control(kind, data) => (*kind, Data::Text(data.clone())),
        OutPacket::Message(frame) if frame.is_binary() => {
            (PacketKind::Message, Data::Binary(frame.data().to_vec().into()))
        }
        OutPacket::Message(frame) => {
            let text = String::from_utf8(frame.data().to_vec()).expect("made of a string");
            (PacketKind::Message, Data::Text(text.into()))
        }
    }
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![Just(Revision::V3), Just(Revision::V4)]
}

/// Bytes that look enough like payloads to get past the first check.
fn payload_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"\x1e".to_vec()),
        Just(b"0:".to_vec()),
        Just(b"1:2".to_vec()),
        Just(b"2:4".to_vec()),
        Just(b"b4AAEC".to_vec()),
        Just(b"\x00\x01\xff".to_vec()),
        Just(b"\x01\x02\xff\x04".to_vec()),
        Just("4é".as_bytes().to_vec()),
        Just("4😀".as_bytes().to_vec()),
        "[0-9:b]{0,3}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..4),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn a_payload_comes_back(revision in revision(), takes_binary: bool, packets in vec(message(), 1..10)) {
        let payload = encode_payload(revision, takes_binary, &packets);
        let want: Vec<Owned> = packets.iter().map(sent).collect();
        prop_assert_eq!(decode_all(revision, payload.binary, &payload.body), (want, None));
        prop_assert!(payload.body.len() <= packets.iter().map(OutPacket::encoded_len).sum());
    }

    #[test]
    fn a_packet_on_a_websocket_comes_back(revision in revision(), takes_binary: bool, packet in message()) {
        let encoded = encode_websocket(revision, takes_binary, &packet);
        let decoded = if encoded.text {
            Packet::decode_text(revision, std::str::from_utf8(&encoded.bytes).expect("text is UTF-8"))
        } else {
            Packet::decode_binary(revision, &encoded.bytes)
        };
        prop_assert_eq!(decoded.as_ref().map(owned), Ok(sent(&packet)));
    }

    #[test]
    fn the_cursor_splits_as_anybody_would(body in payload_like()) {
        let (packets, error) = decode_all(Revision::V4, false, &body);
        prop_assert_eq!((packets, error.is_none()), naive_separated(&body));
        if let Ok(text) = std::str::from_utf8(&body) {
            let (packets, error) = decode_all(Revision::V3, false, &body);
            prop_assert_eq!((packets, error.is_none()), naive_counted(text));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(body in vec(any::<u8>(), 0..200), revision in revision(), binary: bool) {
        let _ = decode_all(revision, binary, &body);
        let _ = Packet::decode_binary(revision, &body);
        let _ = jsonp::decode_body(&body);
        let text = String::from_utf8_lossy(&body);
        let _ = Packet::decode_text(revision, &text);
        let _ = OpenPacket::decode(&text);
        let _ = Query::parse(&text);
    }

    #[test]
    fn payload_like_bytes_do_no_harm(body in payload_like(), revision in revision(), binary: bool) {
        let _ = decode_all(revision, binary, &body);
    }

    #[test]
    fn a_jsonp_response_says_what_was_sent(payload in "\\PC{0,40}|[\\x00-\\x7f\u{2028}\u{2029}]{0,40}") {
        let script = jsonp::encode_response(JsonpIndex::parse("7").expect("an index"), payload.as_bytes());
        let string = script.strip_prefix("/**/___eio[7](").and_then(|rest| rest.strip_suffix(");")).expect("a call");
        let breaks = script.contains(['\n', '\r', '<', '\u{2028}', '\u{2029}']);
        prop_assert!(!breaks);
        prop_assert_eq!(serde_json::from_str::<String>(string).expect("a JSON string"), payload);
    }

    #[test]
    fn a_jsonp_body_comes_back(payload in "[\\\\n\n4é&=+% ]{0,30}") {
        // What the browser client does. A newline behind a backslash is lost in it; JSON has no such thing.
        let payload = payload.replace("\\\n", "x");
        let escaped = payload.replace("\\n", "\\\n").replace('\n', "\\n");
        let form: String = escaped.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(jsonp::decode_body(format!("d={form}").as_bytes()), Ok(payload.into_bytes()));
    }

    #[test]
    fn a_stream_comes_back_in_any_pieces(
        packets in vec((vec(any::<u8>(), 1..300), any::<bool>()), 0..6),
        cuts in vec(1usize..50, 1..20),
    ) {
        let mut wire = Vec::new();
        for (bytes, binary) in &packets {
            let (header, len) = encode_header(bytes.len(), *binary);
            wire.extend_from_slice(&header[..len]);
            wire.extend_from_slice(bytes);
        }
        let mut decoder = StreamDecoder::new(300);
        let mut got = Vec::new();
        let mut rest = wire.as_slice();
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(cuts.next().expect("endless").min(rest.len()));
            rest = after;
            while let Some(packet) = decoder.decode(&mut piece).expect("valid") {
                got.push((packet.bytes.into_owned(), packet.binary));
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(got, packets);
    }

    #[test]
    fn an_arbitrary_stream_does_no_harm(wire in vec(any::<u8>(), 0..300)) {
        let mut decoder = StreamDecoder::new(100);
        let mut input = wire.as_slice();
        while let Ok(Some(packet)) = decoder.decode(&mut input) {
            prop_assert!((1..=100).contains(&packet.bytes.len()));
            let _ = packet.decode();
        }
    }
}
