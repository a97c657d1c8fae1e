//! The WebSocket decoder in both roles, and compression. The input is what the peer sends.

use engineio_proto::ws::{
    Decoder, Event, Opcode, Role, WsError,
    deflate::{Agreement, Deflater, Options},
    encode_close, encode_control, encode_message, is_valid_close_code,
};

use crate::input::{Random, pieces};

const MAX_MESSAGE: usize = 4_000;
const HUGE_MESSAGE: usize = 1 << 30;
const MAX_FRAGMENTS: usize = 6;

/// What a client sends to us: masked frames.
pub fn ws_server(data: &[u8]) {
    stream(Role::Server, data);
}

/// What a server sends to us: unmasked frames.
pub fn ws_client(data: &[u8]) {
    stream(Role::Client, data);
}

/// Compressed messages. The first byte is the window (three bits, from 8 bits on), whether it is kept between messages (8)
/// and whether the rest is two messages (16); the rest is what DEFLATE gave, or is to be given.
pub fn ws_deflate(data: &[u8]) {
    let Some((&flags, data)) = data.split_first() else { return };
    let bits = 8 + (flags & 7);
    let takeover = flags & 8 != 0;
    let agreement = Agreement {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    };
    let (first, second) = data.split_at(data.len() / 2);
    let messages = if flags & 16 == 0 { vec![data] } else { vec![first, second] };
    inflate(agreement, &messages);
    deflate(agreement, &messages);
}

/// Everything that was seen, in a form that outlives the buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Failed(u16),
}

impl Seen {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close(reason) => Self::Close(reason.map(|(code, text)| (code, text.to_owned()))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(_) | Self::Failed(_) => 0,
        }
    }
}

fn agreement() -> Agreement {
    Agreement {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 10,
        client_max_window_bits: 10,
    }
}

fn stream(role: Role, wire: &[u8]) {
    for deflate in [false, true] {
        let decoder = || {
            let decoder = Decoder::new(role, MAX_MESSAGE, MAX_FRAGMENTS);
            if deflate { decoder.with_deflate(agreement().inflater(role)) } else { decoder }
        };
        let whole = read(decoder(), MAX_MESSAGE, [wire]);
        assert_eq!(whole, read(decoder(), MAX_MESSAGE, pieces(wire)), "cuts change nothing");
        if wire.len() <= 1_000 {
            assert_eq!(whole, read(decoder(), MAX_MESSAGE, wire.chunks(1)), "cuts change nothing");
        }
        if !deflate {
            assert_eq!(whole, model(role, wire));
        }
        // Where almost any length may be announced, what arrived counts all the same.
        let decoder = Decoder::new(role, HUGE_MESSAGE, MAX_FRAGMENTS);
        read(decoder, HUGE_MESSAGE, pieces(wire));
        let mut again = Vec::new();
        for seen in &whole {
            write(role, seen, &mut again);
        }
        let sent: Vec<_> = whole.into_iter().filter(|seen| !matches!(seen, Seen::Failed(_))).collect();
        assert_eq!(sent, read(Decoder::new(role, MAX_MESSAGE, 1), MAX_MESSAGE, [&again[..]]), "what is sent is read");
    }
}

/// Reads a stream that comes in these pieces, looking after each step at what the decoder keeps.
fn read<'a>(mut decoder: Decoder, max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut arrived = 0;
    for piece in pieces {
        arrived += piece.len();
        let mut scratch = piece.to_vec();
        let mut consumed = 0;
        loop {
            let before = consumed;
            let over = matches!(seen.last(), Some(Seen::Close(_) | Seen::Failed(_)));
            match decoder.decode(&mut scratch, &mut consumed) {
                Ok(Some(event)) => {
                    let event = Seen::of(event);
                    assert!(event.len() <= max && !over);
                    seen.push(event);
                }
                Ok(None) => break,
                Err(WsError { code, reason }) => {
                    assert!(!over && !reason.is_empty() && is_valid_close_code(code));
                    seen.push(Seen::Failed(code));
                }
            }
            assert!(before <= consumed && consumed <= scratch.len());
            bounded(&decoder, max, arrived);
        }
        assert_eq!(consumed, scratch.len());
        bounded(&decoder, max, arrived);
        if !decoder.is_mid_message() {
            assert_eq!(decoder.allocated(), 0, "between messages there is no buffer");
        }
    }
    seen
}

fn bounded(decoder: &Decoder, max: usize, arrived: usize) {
    let (buffered, allocated) = (decoder.buffered(), decoder.allocated());
    // A message, a control frame inside it, the beginning of a header.
    assert!(buffered <= max + 125 + 14, "{buffered} bytes kept");
    assert!(allocated <= 2 * buffered + (8 << 10), "{allocated} bytes of memory for {buffered}, {arrived} arrived");
}

fn mask(role: Role) -> Option<[u8; 4]> {
    (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d])
}

/// Writes what the peer of `role` would have sent for the same to be seen.
fn write(role: Role, seen: &Seen, out: &mut Vec<u8>) {
    match seen {
        Seen::Text(text) => encode_message(Opcode::Text, false, text.as_bytes(), mask(role), out),
        Seen::Binary(bytes) => encode_message(Opcode::Binary, false, bytes, mask(role), out),
        Seen::Ping(bytes) => out.extend_from_slice(&encode_control(Opcode::Ping, bytes, mask(role))),
        Seen::Pong(bytes) => out.extend_from_slice(&encode_control(Opcode::Pong, bytes, mask(role))),
        Seen::Close(None) => out.extend_from_slice(&encode_close(None, "", mask(role))),
        Seen::Close(Some((code, reason))) => out.extend_from_slice(&encode_close(Some(*code), reason, mask(role))),
        Seen::Failed(_) => {}
    }
}

/// The rules of RFC 6455 once more, for a whole stream without compression, as plainly as they can be written.
fn model(role: Role, wire: &[u8]) -> Vec<Seen> {
    const PROTOCOL: Seen = Seen::Failed(1002);
    const DATA: Seen = Seen::Failed(1007);
    const POLICY: Seen = Seen::Failed(1008);
    const TOO_BIG: Seen = Seen::Failed(1009);

    let mut seen = Vec::new();
    // Text or not, what is there of the message, its frames, the bytes their headers announced.
    let mut message: Option<(bool, Vec<u8>, usize, usize)> = None;
    let mut rest = wire;
    let mut frame = || -> Result<Option<Seen>, Option<Seen>> {
        let [first, second, after @ ..] = rest else { return Err(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 15);
        if first & 0x70 != 0 || !matches!(opcode, 0..=2 | 8..=10) || (second & 0x80 != 0) != (role == Role::Server) {
            return Err(Some(PROTOCOL));
        }
        let short = second & 0x7f;
        if opcode >= 8 && (!fin || short > 125 || (opcode == 8 && short == 1)) {
            return Err(Some(PROTOCOL));
        }
        if opcode < 8 && (opcode == 0) != message.is_some() {
            return Err(Some(PROTOCOL));
        }
        let width = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (len, after) = after.split_at_checked(width).ok_or(None)?;
        let len = match width {
            0 => u64::from(short),
            _ => len.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        let (frames, announced) = message.as_ref().map_or((0, 0), |(_, _, frames, announced)| (*frames, *announced));
        if opcode < 8 {
            if len.checked_add(announced as u64).is_none_or(|total| total > MAX_MESSAGE as u64) {
                return Err(Some(TOO_BIG));
            }
            if frames >= MAX_FRAGMENTS {
                return Err(Some(POLICY));
            }
        }
        let (mask, after) = after.split_at_checked(if role == Role::Server { 4 } else { 0 }).ok_or(None)?;
        let len = len as usize;
        let payload = &after[..len.min(after.len())];
        let payload: Vec<u8> = if mask.is_empty() {
            payload.to_vec()
        } else {
            payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
        };
        let complete = payload.len() == len;
        rest = &after[payload.len()..];
        if opcode >= 8 {
            if !complete {
                return Err(None);
            }
            return match (opcode, payload.split_first_chunk::<2>()) {
                (9, _) => Ok(Some(Seen::Ping(payload))),
                (10, _) => Ok(Some(Seen::Pong(payload))),
                (_, None) => Ok(Some(Seen::Close(None))),
                (_, Some((code, reason))) => {
                    let code = u16::from_be_bytes(*code);
                    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                        return Err(Some(PROTOCOL));
                    }
                    let reason = String::from_utf8(reason.to_vec()).map_err(|_| Some(DATA))?;
                    Ok(Some(Seen::Close(Some((code, reason)))))
                }
            };
        }
        let (text, bytes, frames, announced) = message.get_or_insert((opcode == 1, Vec::new(), 0, 0));
        bytes.extend(payload);
        *frames += 1;
        *announced += len;
        let done = complete && fin;
        if *text {
            match std::str::from_utf8(bytes) {
                Err(error) if done || error.error_len().is_some() => return Err(Some(DATA)),
                _ => {}
            }
        }
        if !complete {
            return Err(None);
        }
        if !done {
            return Ok(None);
        }
        let (text, bytes, ..) = message.take().expect("inserted above");
        Ok(Some(if text { Seen::Text(String::from_utf8(bytes).expect("checked")) } else { Seen::Binary(bytes) }))
    };
    loop {
        match frame() {
            Ok(Some(close @ Seen::Close(_))) | Err(Some(close)) => {
                seen.push(close);
                return seen;
            }
            Ok(event) => seen.extend(event),
            Err(None) => return seen,
        }
    }
}

/// Reads `messages` as what DEFLATE gave.
fn inflate(agreement: Agreement, messages: &[&[u8]]) {
    for max in [100, 5_000] {
        let mut whole = Vec::new();
        let mut cut = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            let opcode = if at == 0 { Opcode::Binary } else { Opcode::Text };
            frame(opcode, true, true, message, &mut whole);
            let fragments = pieces(message);
            frame(opcode, fragments.is_empty(), true, fragments.first().copied().unwrap_or_default(), &mut cut);
            for (at, fragment) in fragments.iter().enumerate().skip(1) {
                frame(Opcode::Continuation, at + 1 == fragments.len(), false, fragment, &mut cut);
            }
            if fragments.len() == 1 {
                frame(Opcode::Continuation, true, false, &[], &mut cut);
            }
        }
        // The limit counts what arrives as well as what comes out of it; here only the latter is to matter.
        let decoder = || Decoder::new(Role::Client, max, 100_000).with_deflate(agreement.inflater(Role::Client));
        if messages.iter().any(|message| message.len() > max) {
            assert!(matches!(read(decoder(), max, [&whole[..]]).last(), Some(Seen::Failed(_))));
            continue;
        }
        let seen = read(decoder(), max, [&whole[..]]);
        assert!(seen.len() <= messages.len());
        if agreement.server_no_context_takeover && messages.len() == 2 {
            let mut alone = Vec::new();
            for (message, opcode) in messages.iter().zip([Opcode::Binary, Opcode::Text]) {
                let mut wire = Vec::new();
                frame(opcode, true, true, message, &mut wire);
                alone.extend(read(decoder(), max, [&wire[..]]));
                if let Some(Seen::Failed(_)) = alone.last() {
                    break;
                }
            }
            assert_eq!(seen, alone, "no message refers to another");
        }
        assert_eq!(seen, read(decoder(), max, pieces(&whole)), "cuts change nothing");
        assert_eq!(seen, read(decoder(), max, [&cut[..]]), "fragments change nothing");
        assert_eq!(seen, read(decoder(), max, pieces(&cut)), "nor do cuts in fragments");
    }
}

/// What is compressed is what comes out, whatever the window is.
fn deflate(agreement: Agreement, messages: &[&[u8]]) {
    let mut random = Random::of(messages.concat().as_slice());
    let options = Options { level: 1 + random.below(9) as u8, ..Options::default() };
    let own = agreement.deflater(Role::Server, &options);
    let shared = agreement.takes_shared_frames().then(|| Deflater::shared(&options));
    assert_eq!(own.is_none(), agreement.server_max_window_bits == 8);
    for mut deflater in own.into_iter().chain(shared) {
        let mut wire = Vec::new();
        let mut want = Vec::new();
        for _ in 0..2 {
            for message in messages {
                let mut compressed = Vec::new();
                assert!(deflater.compress(message, &mut compressed));
                frame(Opcode::Binary, true, true, &compressed, &mut wire);
                want.push(Seen::Binary(message.to_vec()));
            }
        }
        let decoder = Decoder::new(Role::Client, 1 << 20, 10).with_deflate(agreement.inflater(Role::Client));
        assert_eq!(read(decoder, 1 << 20, [&wire[..]]), want);
    }
}

/// Appends an unmasked frame.
fn frame(opcode: Opcode, fin: bool, rsv1: bool, payload: &[u8], out: &mut Vec<u8>) {
    let mut header = [0; engineio_proto::ws::MAX_HEADER];
    let len = engineio_proto::ws::encode_header(opcode, fin, rsv1, payload.len(), None, &mut header);
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}
