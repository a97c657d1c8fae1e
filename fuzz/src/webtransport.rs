//! Packets on a WebTransport stream. The input is the stream.

use engineio_proto::webtransport::{Hello, StreamDecoder, StreamError, encode_header};

use crate::input::pieces;

/// WebTransport framing.
pub fn eio_webtransport(data: &[u8]) {
    for max_payload in [100_000, 130] {
        let whole = decode(max_payload, [data]);
        assert_eq!(whole, decode(max_payload, pieces(data)), "cuts change nothing");
        if data.len() <= 2_000 {
            assert_eq!(whole, decode(max_payload, data.chunks(1)), "cuts change nothing");
        }
        // Each length has one form only, so what was read is what would be written.
        let mut written = Vec::new();
        for (binary, bytes) in &whole.0 {
            assert!((1..=max_payload).contains(&bytes.len()));
            let (header, len) = encode_header(bytes.len(), *binary);
            written.extend_from_slice(&header[..len]);
            written.extend_from_slice(bytes);
        }
        assert!(data.starts_with(&written));
        if whole.1.is_none() {
            assert!(data.len() - written.len() < max_payload + 9, "an unfinished packet is all that may be left");
        }
    }
}

fn decode<'a>(
    max_payload: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<(bool, Vec<u8>)>, Option<StreamError>) {
    let mut decoder = StreamDecoder::new(max_payload);
    let mut packets = Vec::new();
    for mut input in pieces {
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(packet)) => {
                    if let Ok(decoded) = packet.decode() {
                        let _ = Hello::from_packet(&decoded);
                    }
                    packets.push((packet.binary, packet.bytes.into_owned()));
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut input), Err(error), "an error stays");
                    return (packets, Some(error));
                }
            }
        }
        assert!(input.is_empty());
    }
    (packets, None)
}
