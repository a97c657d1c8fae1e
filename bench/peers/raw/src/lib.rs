//! What the raw baselines share: the WebSocket opening, frames, and answers made by copying bytes. No JSON is parsed.
//!
//! The baselines are no servers for anybody: they trust their peer, the load generator of this benchmark.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest request head or frame that is taken.
pub const MAX_INPUT: usize = 1 << 20;

/// The Socket.IO answer to a connection to the main namespace.
const CONNECTED: &[u8] = br#"40{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#;

/// The Engine.IO handshake.
const OPEN: &[u8] =
    br#"0{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// A `cast` that a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// How many events go to everybody.
    pub count: usize,
    /// The length of the string that each carries.
    pub size: usize,
}

/// What became of a piece of input.
#[derive(Debug, Default)]
pub struct Answered {
    /// How many bytes of the input are done with.
    pub consumed: usize,
    /// Whether the peer wants to close or sent something that no frame is.
    pub close: bool,
    /// The last `cast` that was asked for.
    pub cast: Option<Cast>,
}

/// Answers a request head with the opening of a WebSocket and the Engine.IO handshake behind it.
///
/// `None` while the head is incomplete, `Some(Err)` when it is no opening.
pub fn open(head: &[u8], out: &mut Vec<u8>) -> Option<Result<usize, ()>> {
    let end = head.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(head.get(..end)?);
    let key = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let Some(key) = key else { return Some(Err(())) };
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key.as_bytes());
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(sha.digest().bytes());
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    frame(out, 1, OPEN);
    Some(Ok(end))
}

/// Appends a server frame.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    match len {
        0..126 => out.push(len as u8),
        126..65_536 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The frame of the `index`th event of a cast.
pub fn tick(out: &mut Vec<u8>, index: usize, size: usize) {
    let mut text = format!("42[\"tick\",{index},\"").into_bytes();
    text.resize(text.len() + size, b'x');
    text.extend_from_slice(b"\"]");
    frame(out, 1, &text);
}

/// Answers every complete frame at the front of `input`, which is unmasked in place; answers are appended to `out`.
pub fn answer(input: &mut [u8], out: &mut Vec<u8>) -> Answered {
    let mut answered = Answered::default();
    while let Some(rest) = input.get_mut(answered.consumed..) {
        let Some((opcode, start, end)) = measure(rest) else { break };
        let Some(mask) = rest.get(start - 4..start).and_then(|mask| <[u8; 4]>::try_from(mask).ok()) else { break };
        let Some(payload) = rest.get_mut(start..end) else { break };
        unmask(payload, mask);
        answered.consumed += end;
        match opcode {
            1 => text(payload, out, &mut answered),
            2 => frame(out, 2, payload),
            9 => frame(out, 10, payload),
            10 => {}
            _ => {
                answered.close = true;
                break;
            }
        }
    }
    answered
}

/// Opcode, start and end of the payload of a masked frame, if its header is complete.
fn measure(input: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = input.first()? & 0x0f;
    let (len, start) = match input.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 8),
        127 => (usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?, 14),
        len => (usize::from(len), 6),
    };
    Some((opcode, start, start.checked_add(len)?))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn text(payload: &[u8], out: &mut Vec<u8>, answered: &mut Answered) {
    let (packet, rest) = match payload {
        [b'4', b'0', ..] => return frame(out, 1, CONNECTED),
        [b'4', b'2', rest @ ..] => (&b"43"[..], rest),
        [b'4', b'5', b'1', b'-', rest @ ..] => (&b"461-"[..], rest),
        _ => return,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, args) = rest.split_at(digits);
    let Some(comma) = args.iter().position(|byte| *byte == b',') else { return };
    let Some(tail) = args.get(comma + 1..) else { return };
    if args.starts_with(b"[\"cast\"") {
        answered.cast = cast(tail);
        return;
    }
    header(out, 1, packet.len() + id.len() + 1 + tail.len());
    out.extend_from_slice(packet);
    out.extend_from_slice(id);
    out.push(b'[');
    out.extend_from_slice(tail);
}

fn cast(args: &[u8]) -> Option<Cast> {
    let text = std::str::from_utf8(args).ok()?;
    let (count, size) = text.trim_end_matches(']').split_once(',')?;
    Some(Cast { count: count.trim().parse().ok()?, size: size.trim().parse().ok()? })
}

/// The port from `--port N`; 0, the default, lets the system choose.
pub fn port() -> u16 {
    let mut args = std::env::args().skip_while(|arg| arg != "--port").skip(1);
    args.next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_arguments_under_the_ack_id() {
        check(1, br#"42107["echo","hi"]"#, b"\x81\x0b43107[\"hi\"]");
        check(1, br#"451-7["bin",{"_placeholder":true,"num":0}]"#, b"\x81\x24461-7[{\"_placeholder\":true,\"num\":0}]");
        check(2, b"\x01\x02", b"\x82\x02\x01\x02");
        check(1, b"3", b"");

        #[track_caller]
        fn check(opcode: u8, payload: &[u8], want: &[u8]) {
            let mut input = vec![0x80 | opcode, 0x80 | payload.len() as u8, 1, 2, 3, 4];
            let mut masked = payload.to_vec();
            unmask(&mut masked, [1, 2, 3, 4]);
            input.extend(masked);
            let mut out = Vec::new();
            let answered = answer(&mut input, &mut out);
            assert_eq!((answered.consumed, answered.close), (input.len(), false));
            assert_eq!(out, want);
        }
    }

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let mut out = Vec::new();
        assert_eq!(
            open(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", &mut out),
            Some(Ok(63))
        );
        assert!(String::from_utf8_lossy(&out).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
