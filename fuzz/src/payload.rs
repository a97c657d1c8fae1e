//! Polling payloads of both revisions. The input is the body.

use std::borrow::Cow;

use engineio_proto::{
    Frame, Limits, Revision,
    packet::{Data, Malformed, Packet, PacketKind},
    payload::{OutPacket, PayloadCursor, SEPARATOR, encode_payload, encode_websocket},
};

type Decoded<'a> = Vec<Result<Packet<'a>, Malformed>>;

/// Payloads of Engine.IO 4.
pub fn eio_payload_v4(body: &[u8]) {
    let got = decode(Revision::V4, false, usize::MAX, body);
    assert_eq!(got, separated(body));
    round_trip(Revision::V4, &got);
    if got.iter().all(Result::is_ok) && !body.split(|&byte| byte == SEPARATOR).any(|item| item.starts_with(b"b")) {
        assert_eq!(encode_payload(Revision::V4, true, &outgoing(&got)).body, body, "only base64 has two forms");
    }
    few_packets(Revision::V4, false, body, &got);
    assert_eq!(decode(Revision::V4, true, usize::MAX, body), [Err(Malformed::BinaryBody)]);
}

/// Text payloads of Engine.IO 3.
pub fn eio_payload_v3_text(body: &[u8]) {
    let got = decode(Revision::V3, false, usize::MAX, body);
    if let Ok(text) = std::str::from_utf8(body) {
        assert_eq!(got, counted(text));
    }
    round_trip(Revision::V3, &got);
    if !body.windows(2).any(|pair| pair == b"0:") {
        few_packets(Revision::V3, false, body, &got);
    }
}

/// Binary payloads of Engine.IO 3.
pub fn eio_payload_v3_binary(body: &[u8]) {
    let got = decode(Revision::V3, true, usize::MAX, body);
    assert_eq!(got, flagged(body));
    round_trip(Revision::V3, &got);
    few_packets(Revision::V3, true, body, &got);
}

fn decode(revision: Revision, binary: bool, most: usize, body: &[u8]) -> Decoded<'_> {
    let mut cursor = PayloadCursor::new(revision, binary).max_packets(most);
    let mut decoded = Vec::new();
    while let Some(result) = cursor.next(body) {
        decoded.push(result);
        assert!(decoded.len() <= body.len() + 1, "a packet takes a byte at least");
    }
    assert!(cursor.is_done() && cursor.next(body).is_none());
    assert!(decoded.iter().rev().skip(1).all(Result::is_ok), "nothing follows an error");
    decoded
}

/// A limit changes nothing about the packets before it.
fn few_packets(revision: Revision, binary: bool, body: &[u8], all: &[Result<Packet<'_>, Malformed>]) {
    for most in [1, all.len(), Limits::DEFAULT_MAX_PAYLOAD_PACKETS] {
        let few = decode(revision, binary, most, body);
        if few == all {
            continue;
        }
        let (last, before) = few.split_last().expect("it differs, so there is something");
        assert_eq!(*last, Err(Malformed::TooManyPackets));
        assert_eq!(before, &all[..most]);
    }
}

/// What was understood can be sent, and is understood as the same.
fn round_trip(revision: Revision, packets: &[Result<Packet<'_>, Malformed>]) {
    let (packets, outgoing): (Vec<_>, Vec<_>) =
        packets.iter().flatten().filter_map(|packet| Some((packet.clone(), out_packet(packet)?))).unzip();
    if outgoing.is_empty() {
        return;
    }
    let room: usize = outgoing.iter().map(OutPacket::encoded_len).sum();
    for takes_binary in [true, false] {
        let encoded = encode_payload(revision, takes_binary, &outgoing);
        assert!(encoded.body.len() <= room, "{} bytes were announced, {} written", room, encoded.body.len());
        assert!(!encoded.binary || (revision == Revision::V3 && takes_binary));
        let again: Result<Vec<_>, _> =
            decode(revision, encoded.binary, usize::MAX, &encoded.body).into_iter().collect();
        assert_eq!(again.as_ref(), Ok(&packets));
    }
    for (packet, out) in packets.iter().zip(&outgoing).take(20) {
        for takes_binary in [true, false] {
            let sent = encode_websocket(revision, takes_binary, out);
            let again = match std::str::from_utf8(&sent.bytes) {
                Ok(text) if sent.text => Packet::decode_text(revision, text),
                _ => Packet::decode_binary(revision, &sent.bytes),
            };
            assert_eq!(again.as_ref(), Ok(packet));
            assert!(takes_binary || sent.text);
        }
    }
}

fn outgoing(packets: &[Result<Packet<'_>, Malformed>]) -> Vec<OutPacket> {
    packets.iter().flatten().filter_map(out_packet).collect()
}

/// `None` for what nobody sends: control packets with binary data.
fn out_packet(packet: &Packet<'_>) -> Option<OutPacket> {
    Some(match (packet.kind, &packet.data) {
        (PacketKind::Message, Data::Text(text)) => OutPacket::Message(Frame::text(text.as_bytes().to_vec(), 0)),
        (PacketKind::Message, Data::Binary(bytes)) => OutPacket::Message(Frame::binary(bytes.to_vec(), 0)),
        (kind, Data::Text(text)) => OutPacket::control(kind, text.clone().into_owned()),
        (_, Data::Binary(_)) => return None,
    })
}

/// Revision 4 once more, as plainly as it can be written.
fn separated(body: &[u8]) -> Decoded<'_> {
    let items = body.split(|&byte| byte == SEPARATOR);
    to_first_error(items.map(|item| {
        let text = std::str::from_utf8(item).map_err(|_| Malformed::Utf8)?;
        Packet::decode_text(Revision::V4, text)
    }))
}

/// Revision 3 as text once more, counting characters.
fn counted(text: &str) -> Decoded<'_> {
    let mut rest = text;
    let packets = std::iter::from_fn(|| {
        loop {
            if rest.is_empty() {
                return None;
            }
            let mut one = || {
                let end = rest.bytes().take(11).position(|byte| byte == b':').ok_or(Malformed::Length)?;
                let digits = &rest[..end];
                let zero = digits.len() > 1 && digits.starts_with('0');
                if digits.is_empty() || zero || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Malformed::Length);
                }
                let units: usize = digits.parse().map_err(|_| Malformed::Length)?;
                let after = &rest[end + 1..];
                let mut counted = 0;
                let mut len = 0;
                for character in after.chars().take_while(|_| units > 0) {
                    if counted >= units {
                        break;
                    }
                    counted += character.len_utf16();
                    len += character.len_utf8();
                }
                if counted != units {
                    return Err(Malformed::Truncated);
                }
                rest = &after[len..];
                Ok(&after[..len])
            };
            return match one() {
                Ok("") => continue,
                Ok(item) => Some(Packet::decode_text(Revision::V3, item)),
                Err(error) => Some(Err(error)),
            };
        }
    });
    if text.is_empty() {
        return vec![Err(Malformed::Empty)];
    }
    to_first_error(packets)
}

/// Revision 3 as bytes once more.
fn flagged(body: &[u8]) -> Decoded<'_> {
    let mut rest = body;
    let packets = std::iter::from_fn(|| {
        let (&flag, after) = rest.split_first()?;
        let mut one = || {
            if flag > 1 {
                return Err(Malformed::Length);
            }
            let end = after.iter().take(11).position(|&byte| byte == 0xff).ok_or(Malformed::Length)?;
            let digits = &after[..end];
            if digits.is_empty() || (end > 1 && digits[0] == 0) || digits.iter().any(|&digit| digit > 9) {
                return Err(Malformed::Length);
            }
            let len = digits.iter().fold(0, |len, &digit| len * 10 + usize::from(digit));
            let (item, end) = after[end + 1..].split_at_checked(len).ok_or(Malformed::Truncated)?;
            rest = end;
            if flag == 1 {
                return Packet::decode_binary(Revision::V3, item);
            }
            Packet::decode_text(Revision::V3, std::str::from_utf8(item).map_err(|_| Malformed::Utf8)?)
        };
        Some(one())
    });
    if body.is_empty() {
        return vec![Err(Malformed::Empty)];
    }
    to_first_error(packets)
}

fn to_first_error<'a>(packets: impl Iterator<Item = Result<Packet<'a>, Malformed>>) -> Decoded<'a> {
    let mut decoded = Vec::new();
    for packet in packets {
        let failed = packet.is_err();
        decoded.push(packet.map(|Packet { kind, data }| {
            let data = match data {
                Data::Text(text) => Data::Text(Cow::Owned(text.into_owned())),
                data => data,
            };
            Packet { kind, data }
        }));
        if failed {
            break;
        }
    }
    decoded
}
