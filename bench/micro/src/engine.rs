//! Engine.IO: packets, payloads, WebSocket frames, compression.

use std::hint::black_box;

use engineio_proto::packet::Packet;
use engineio_proto::payload::{OutPacket, PayloadCursor, encode_payload, encode_websocket};
use engineio_proto::ws::deflate::Options;
use engineio_proto::ws::{Decoder, Event, Opcode, Role, encode_message};
use engineio_proto::{Frame, HEADROOM, Revision};

use crate::Case;
use crate::codec::text;

pub(crate) const CASES: &[Case] = &[
    Case::new("packet-decode", 20_000, packet_decode),
    Case::new("packet-encode-v4", 20_000, |n| packet_encode(Revision::V4, false, n)),
    Case::new("packet-encode-v3-binary", 20_000, |n| packet_encode(Revision::V3, true, n)),
    Case::new("payload-decode-v4", 5_000, |n| payload_decode(Revision::V4, n)).of(8),
    Case::new("payload-decode-v3", 5_000, |n| payload_decode(Revision::V3, n)).of(8),
    Case::new("payload-encode-v4", 5_000, |n| payload_encode(Revision::V4, n)).of(8),
    Case::new("payload-encode-v3", 5_000, |n| payload_encode(Revision::V3, n)).of(8),
    Case::new("ws-decode-16", 5_000, |n| ws_decode(16, 8, n)).of(8),
    Case::new("ws-decode-1k", 2_000, |n| ws_decode(1 << 10, 8, n)).of(8),
    Case::new("ws-decode-64k", 200, |n| ws_decode(64 << 10, 1, n)),
    Case::new("ws-decode-64k-in-pieces", 200, ws_decode_in_pieces),
    Case::new("ws-frame-16", 20_000, |n| ws_frame(16, n)),
    Case::new("deflate-1k", 100, deflate),
    Case::new("inflate-1k", 200, inflate),
];

fn frame(len: usize) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(text(len).as_bytes());
    Frame::text(buffer, HEADROOM)
}

fn packet_decode(n: u64) {
    for _ in 0..n {
        black_box(Packet::decode_text(Revision::V4, black_box("42[\"echo\",\"hello\"]"))).expect("it is a packet");
    }
}

fn packet_encode(revision: Revision, binary: bool, n: u64) {
    let buffer = [&[0; HEADROOM][..], b"hello, hello"].concat();
    let frame = if binary { Frame::binary(buffer, HEADROOM) } else { Frame::text(buffer, HEADROOM) };
    let packet = OutPacket::Message(frame);
    for _ in 0..n {
        black_box(encode_websocket(revision, true, black_box(&packet)));
    }
}

fn packets() -> Vec<OutPacket> {
    vec![OutPacket::Message(frame(60)); 8]
}

fn payload_decode(revision: Revision, n: u64) {
    let body = encode_payload(revision, true, &packets());
    for _ in 0..n {
        let mut cursor = PayloadCursor::new(revision, body.binary);
        while let Some(packet) = cursor.next(black_box(&body.body)) {
            black_box(packet).expect("it is a packet");
        }
    }
}

fn payload_encode(revision: Revision, n: u64) {
    let packets = packets();
    for _ in 0..n {
        black_box(encode_payload(revision, true, black_box(&packets)));
    }
}

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Frames as clients send them. Decoding unmasks in place, so the buffer is filled anew each time; that copy counts too.
fn ws_decode(len: usize, frames: usize, n: u64) {
    let mut wire = Vec::new();
    (0..frames).for_each(|_| encode_message(Opcode::Text, false, text(len).as_bytes(), Some(MASK), &mut wire));
    let mut decoder = Decoder::new(Role::Server, 1 << 20, 1_024);
    let mut buffer = wire.clone();
    for _ in 0..n {
        buffer.copy_from_slice(&wire);
        let mut consumed = 0;
        while let Some(event) = decoder.decode(&mut buffer, &mut consumed).expect("it is legal") {
            black_box(event);
        }
    }
}

/// As it comes from a socket: 16 KiB at a time.
fn ws_decode_in_pieces(n: u64) {
    let mut wire = Vec::new();
    encode_message(Opcode::Text, false, text(64 << 10).as_bytes(), Some(MASK), &mut wire);
    let mut decoder = Decoder::new(Role::Server, 1 << 20, 1_024);
    let mut buffer = wire.clone();
    for _ in 0..n {
        buffer.copy_from_slice(&wire);
        for piece in buffer.chunks_mut(16 << 10) {
            let mut consumed = 0;
            while let Some(event) = decoder.decode(piece, &mut consumed).expect("it is legal") {
                black_box(event);
            }
        }
    }
}

fn ws_frame(len: usize, n: u64) {
    let data = text(len);
    for _ in 0..n {
        let mut buffer = Vec::with_capacity(HEADROOM + len);
        buffer.resize(HEADROOM, 0);
        buffer.extend_from_slice(black_box(data.as_bytes()));
        black_box(Frame::text(buffer, HEADROOM));
    }
}

fn message() -> String {
    let order = crate::codec::order();
    serde_json::to_string(&[&order, &order, &order]).expect("it can be encoded").chars().take(1 << 10).collect()
}

fn deflate(n: u64) {
    let mut deflater = engineio_proto::ws::deflate::Deflater::shared(&Options::default());
    let (message, mut out) = (message(), Vec::with_capacity(1 << 10));
    for _ in 0..n {
        out.clear();
        assert!(deflater.compress(black_box(message.as_bytes()), &mut out));
    }
}

fn inflate(n: u64) {
    let agreement = Options::default().accept_offer([&b"permessage-deflate"[..]]).expect("it is grammatical");
    let agreement = agreement.expect("it is acceptable");
    let mut deflater = engineio_proto::ws::deflate::Deflater::shared(&Options::default());
    let (mut out, mut wire) = (Vec::new(), Vec::new());
    assert!(deflater.compress(message().as_bytes(), &mut out));
    encode_message(Opcode::Text, true, &out, Some(MASK), &mut wire);
    let mut decoder = Decoder::new(Role::Server, 1 << 20, 1_024).with_deflate(agreement.inflater(Role::Server));
    let mut buffer = wire.clone();
    for _ in 0..n {
        buffer.copy_from_slice(&wire);
        let mut consumed = 0;
        while let Some(event) = decoder.decode(&mut buffer, &mut consumed).expect("it is legal") {
            assert!(matches!(event, Event::Text(text) if text.len() == 1 << 10));
        }
    }
}
