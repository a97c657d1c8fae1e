//! Bytes of the client's side: masked frames built ahead, server frames taken apart, HTTP answers read.

use std::ops::Range;

/// The masking key of every frame. Not zero, so that a server has to unmask; fixed, so that frames can be built ahead.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The key of every WebSocket opening and the accept value that belongs to it (RFC 6455 §1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The first ack id of a connection. Ids have seven digits, so that a frame's length never changes.
pub const FIRST_ID: u32 = 1_000_000;
const ID_DIGITS: usize = 7;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Appends a masked client frame.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// An event that asks for an ack, ready to send but for its id, and what the ack must look like.
#[derive(Debug, Clone)]
pub struct Call {
    /// The masked frames with an id of zeros.
    frames: Vec<u8>,
    /// Where the id's digits are, and which byte of the mask covers the first of them.
    at: usize,
    phase: usize,
    /// The packet as text, for polling.
    text: (Vec<u8>, Vec<u8>),
    answer: (Vec<u8>, Vec<u8>),
    /// The attachment that comes behind the ack.
    pub attachment: Option<Vec<u8>>,
}

impl Call {
    /// `event` with `args`, JSON without the brackets around all; the ack brings `answer`.
    pub fn new(event: &str, args: &str, answer: &str) -> Self {
        Self::build(b"42", event, args, b"43", answer, None)
    }

    /// The same in a namespace.
    pub fn within(namespace: &str, event: &str, args: &str, answer: &str) -> Self {
        let (head, ack) = (format!("42{namespace},"), format!("43{namespace},"));
        Self::build(head.as_bytes(), event, args, ack.as_bytes(), answer, None)
    }

    /// An event whose one argument is binary and comes back.
    pub fn binary(event: &str, bytes: Vec<u8>) -> Self {
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        Self::build(b"451-", event, placeholder, b"461-", placeholder, Some(bytes))
    }

    fn build(head: &[u8], event: &str, args: &str, ack: &[u8], answer: &str, attachment: Option<Vec<u8>>) -> Self {
        let tail = format!("[\"{event}\",{args}]").into_bytes();
        let text = [head, &[b'0'; ID_DIGITS], &tail].concat();
        let mut frames = Vec::new();
        frame(&mut frames, TEXT, &text);
        let at = frames.len() - text.len() + head.len();
        if let Some(bytes) = &attachment {
            frame(&mut frames, BINARY, bytes);
        }
        let answer = (ack.to_vec(), format!("[{answer}]").into_bytes());
        Self { frames, at, phase: head.len() % 4, text: (head.to_vec(), tail), answer, attachment }
    }

    /// Appends the frames with this id.
    pub fn stamp(&self, id: u32, out: &mut Vec<u8>) {
        let start = out.len() + self.at;
        out.extend_from_slice(&self.frames);
        let mut rest = id;
        for index in (0..ID_DIGITS).rev() {
            out[start + index] = (b'0' + (rest % 10) as u8) ^ MASK[(self.phase + index) % 4];
            rest /= 10;
        }
    }

    /// Appends the packet with this id as text.
    pub fn write_text(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text.0);
        out.extend_from_slice(id.to_string().as_bytes());
        out.extend_from_slice(&self.text.1);
    }

    /// The id of an ack of this call, if that is what the message is, byte for byte.
    pub fn ack_id(&self, message: &[u8]) -> Option<u32> {
        let rest = message.strip_prefix(&self.answer.0[..])?;
        let (digits, tail) = rest.split_at_checked(ID_DIGITS)?;
        // An ack of nothing may come as one null.
        if tail != self.answer.1 && (tail, &self.answer.1[..]) != (b"[null]", b"[]") {
            return None;
        }
        digits.iter().try_fold(0, |id, byte| byte.is_ascii_digit().then(|| id * 10 + u32::from(byte - b'0')))
    }
}

/// Opcode, payload and end of the first frame, when it is complete; an error when a server must not send it.
pub fn next_frame(input: &[u8]) -> Result<Option<(u8, Range<usize>)>, &'static str> {
    let [first, second, ..] = *input else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err("a frame that is masked, compressed or a fragment");
    }
    let (start, len) = match second {
        126 => match input.get(2..4) {
            Some(len) => (4, usize::from(u16::from_be_bytes([len[0], len[1]]))),
            None => return Ok(None),
        },
        127 => match input.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
            Some(len) => (10, u64::from_be_bytes(len) as usize),
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    let end = start + len;
    Ok((end <= input.len()).then_some((first & 0x0f, start..end)))
}

/// The opening of a WebSocket, of a new session or of the one with this id.
pub fn upgrade(out: &mut Vec<u8>, port: u16, sid: Option<&str>) {
    let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
    out.extend_from_slice(
        format!(
            "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// A poll, or the request that opens a polling session.
pub fn get(out: &mut Vec<u8>, port: u16, sid: Option<&str>) {
    let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
    out.extend_from_slice(
        format!(
            "GET /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// A request that Socket.IO does not answer.
pub fn get_elsewhere(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(
        format!("GET /elsewhere HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n").as_bytes(),
    );
}

/// A POST of packets.
pub fn post(out: &mut Vec<u8>, port: u16, sid: &str, body: &[u8]) {
    let len = body.len();
    out.extend_from_slice(
        format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len}\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(body);
}

/// The end of the head of an accepted WebSocket opening, when it has arrived.
pub fn accepted(input: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = head_end(input) else { return Ok(None) };
    let head = String::from_utf8_lossy(&input[..end]);
    if head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT) {
        Ok(Some(end))
    } else {
        Err(format!("the opening was answered with {head}"))
    }
}

/// Status, body and end of the first HTTP answer, when it is complete.
pub fn response(input: &[u8]) -> Result<Option<(u16, Vec<u8>, usize)>, String> {
    let Some(start) = head_end(input) else { return Ok(None) };
    let head = std::str::from_utf8(&input[..start]).map_err(|error| error.to_string())?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| format!("no status line: {head}"))?;
    let (mut length, mut chunked) = (0, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| "no content length".to_owned())?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    if !chunked {
        let end = start + length;
        return Ok((end <= input.len()).then(|| (status, input[start..end].to_vec(), end)));
    }
    let (mut body, mut at) = (Vec::new(), start);
    loop {
        let Some(line) = input[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&input[at..at + line]).unwrap_or("").split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("no chunk size: {size}"))?;
        let from = at + line + 2;
        let Some(data) = input.get(from..from + size + 2) else { return Ok(None) };
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((status, body, at)));
        }
        body.extend_from_slice(&data[..size]);
    }
}

fn head_end(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The session id in an Engine.IO handshake.
pub fn sid_of(open: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(open).ok()?;
    let (_, rest) = text.split_once("\"sid\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmasked(frames: &[u8]) -> Vec<u8> {
        let len = usize::from(frames[1] & 0x7f);
        frames[6..6 + len].iter().zip(frames[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }

    #[test]
    fn a_call_is_stamped_with_its_id() {
        let call = Call::new("echo", "\"hi\"", "\"hi\"");
        let mut out = b"before".to_vec();
        call.stamp(1_234_567, &mut out);
        assert_eq!(unmasked(&out[6..]), b"421234567[\"echo\",\"hi\"]");
        assert_eq!(call.ack_id(b"431234567[\"hi\"]"), Some(1_234_567));
        for wrong in ["431234567[\"ho\"]", "43123456[\"hi\"]", "43123456x[\"hi\"]", "421234567[\"hi\"]"] {
            assert_eq!(call.ack_id(wrong.as_bytes()), None, "{wrong}");
        }
        let call = Call::within("/n7", "echo", "\"hi\"", "\"hi\"");
        let mut out = Vec::new();
        call.stamp(1_234_567, &mut out);
        assert_eq!(unmasked(&out), b"42/n7,1234567[\"echo\",\"hi\"]");
        assert_eq!(call.ack_id(b"43/n7,1234567[\"hi\"]"), Some(1_234_567));
        assert_eq!(call.ack_id(b"431234567[\"hi\"]"), None);
        let call = Call::binary("bin", vec![1, 2]);
        let mut out = Vec::new();
        call.stamp(7_654_321, &mut out);
        assert_eq!(unmasked(&out), br#"451-7654321["bin",{"_placeholder":true,"num":0}]"#);
    }

    #[test]
    fn answers_are_read_whole_with_a_length_or_in_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP";
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nHTTP";
        check(plain, b"ok");
        check(chunked, b"abcd");

        #[track_caller]
        fn check(input: &[u8], body: &[u8]) {
            assert_eq!(response(input), Ok(Some((200, body.to_vec(), input.len() - 4))));
            (0..input.len() - 4).for_each(|cut| assert_eq!(response(&input[..cut]), Ok(None), "cut at {cut}"));
        }
    }

    #[test]
    fn frames_are_complete_or_not_there_yet() {
        assert_eq!(next_frame(b"\x81\x02hi!"), Ok(Some((TEXT, 2..4))));
        assert_eq!(next_frame(b"\x81\x02h"), Ok(None));
        let mut long = vec![0x82, 126, 0, 200];
        long.resize(204, 0);
        assert_eq!(next_frame(&long), Ok(Some((BINARY, 4..204))));
        assert!(next_frame(b"\x81\x82hi").is_err());
        assert!(next_frame(b"\x01\x02hi").is_err());
    }
}
