//! Incoming frames: from bytes in the caller's buffer to whole messages.

use super::deflate::Inflater;
use super::{
    Event, MAX_CONTROL_PAYLOAD, MAX_HEADER, Opcode, Role, WsError, is_valid_close_code, make_room, mask_in_place,
};

/// Turns the bytes of one connection into [`Event`]s.
///
/// The rhythm: read into a buffer, call [`decode`](Self::decode) until it returns `Ok(None)`, read again. A message that
/// came whole in one frame is lent from the caller's buffer; only a message that is cut (by the network or by the peer's
/// fragments) is collected here, and what was collected is given back on the call after the one that handed it out. Between
/// messages a decoder owns no buffer.
///
/// What is refused is refused as early as the bytes allow: a frame that is too big at its header, bad UTF-8 at its first
/// byte.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    max_fragments: u32,
    long_forms: u16,
    role: Role,
    /// How many bytes of `head` count: the beginning of a header that the last input ended in.
    head_len: u8,
    head: [u8; MAX_HEADER],
    stage: Stage,
    partial: Option<Box<Partial>>,
    inflater: Option<Box<Inflater>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Everything is as the fields say.
    Open,
    /// `partial` holds a message that was handed out: it goes with the next call.
    MessageLent,
    /// `partial` holds a control frame that was handed out.
    ControlLent,
    /// The peer closed, or we refused something: nothing counts any more.
    Over,
}

/// What is kept of a frame or message that is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    /// The message that is being collected, if one is: unmasked, inflated.
    message: Option<Message>,
    /// The frame whose payload is not all here.
    frame: Option<Frame>,
    control: Vec<u8>,
}

#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    fragments: u32,
    /// Payload bytes of all its frames so far, as their headers announced them.
    announced: usize,
    /// How far `bytes` is known to be UTF-8; what follows is the beginning of one character.
    checked: usize,
    bytes: Vec<u8>,
}

/// A frame's header; its payload may still be coming.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    rsv1: bool,
    mask: [u8; 4],
    /// How many bytes of payload were taken.
    taken: usize,
    len: usize,
}

/// Where a finished event lies.
enum Ready {
    /// In the input: a message that is one frame, or a control frame.
    Input(Opcode, usize, usize),
    /// In `partial.message`.
    Message,
    /// In `partial.control`.
    Control(Opcode),
}

impl Decoder {
    /// Makes a decoder for the given side.
    ///
    /// `max_message` is the most bytes of one message, before and after decompression (Node: `maxPayload`).
    /// `max_fragments` is the most frames of one message; empty ones count.
    pub fn new(role: Role, max_message: usize, max_fragments: usize) -> Self {
        Self {
            max_message,
            max_fragments: u32::try_from(max_fragments).unwrap_or(u32::MAX),
            long_forms: 0,
            role,
            head_len: 0,
            head: [0; MAX_HEADER],
            stage: Stage::Open,
            partial: None,
            inflater: None,
        }
    }

    /// Accepts compressed messages, as negotiated in the handshake.
    #[must_use]
    pub fn with_deflate(mut self, inflater: Inflater) -> Self {
        self.inflater = Some(Box::new(inflater));
        self
    }

    /// Looks at `input[*consumed..]`, advances `consumed`, and returns the next event.
    ///
    /// The input is unmasked in place. `Ok(None)` means that all of it was used; bytes of an unfinished frame are kept
    /// inside. Call again with the same input and `consumed` after each event, and until `None`: that last call also frees
    /// what the previous event was lent from.
    ///
    /// # Errors
    /// The first violation ends decoding: later calls swallow their input and return `Ok(None)`, as they do after
    /// [`Event::Close`].
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8], consumed: &mut usize) -> Result<Option<Event<'a>>, WsError> {
        if self.stage != Stage::Open {
            self.take_back();
        }
        *consumed = (*consumed).min(input.len());
        let outcome = match self.advance(input, consumed) {
            Ok(None) => return Ok(None),
            Ok(Some(ready)) => {
                self.stage = match ready {
                    Ready::Input(Opcode::Close, ..) | Ready::Control(Opcode::Close) => Stage::Over,
                    Ready::Input(..) => Stage::Open,
                    Ready::Message => Stage::MessageLent,
                    Ready::Control(_) => Stage::ControlLent,
                };
                event(self.partial.as_deref(), input, ready)
            }
            Err(error) => {
                self.stage = Stage::Over;
                self.partial = None;
                self.inflater = None;
                return Err(error);
            }
        };
        if outcome.is_err() {
            self.stage = Stage::Over;
        }
        outcome.map(Some)
    }

    /// Whether a message or a header has begun and is not finished: the time for a deadline on it.
    ///
    /// It may be `true` after every read of a busy connection, each time for another message, so restart the deadline
    /// whenever a message is handed out. Control frames do not finish a message.
    pub fn is_mid_message(&self) -> bool {
        match self.stage {
            Stage::Over => false,
            Stage::MessageLent => self.head_len > 0,
            Stage::Open | Stage::ControlLent => {
                self.head_len > 0
                    || self.partial.as_ref().is_some_and(|partial| partial.message.is_some() || partial.frame.is_some())
            }
        }
    }

    /// How many bytes are kept inside: of an unfinished message, or of the one just handed out.
    pub fn buffered(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |partial| {
            partial.control.len() + partial.message.as_ref().map_or(0, |message| message.bytes.len())
        });
        partial + usize::from(self.head_len)
    }

    /// How many bytes of memory the kept bytes take, which is never much more than what arrived.
    pub fn allocated(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.bytes.capacity());
            size_of::<Partial>() + partial.control.capacity() + message
        })
    }

    /// How many frames had a length in a longer form than needed, which the protocol forbids and we tolerate. Saturates.
    pub fn long_forms(&self) -> u16 {
        self.long_forms
    }

    /// Frees what the last event was lent from.
    #[cold]
    fn take_back(&mut self) {
        match self.stage {
            Stage::Open => {}
            Stage::Over => self.partial = None,
            Stage::MessageLent => {
                self.partial = None;
                self.stage = Stage::Open;
            }
            Stage::ControlLent => {
                if let Some(partial) = &mut self.partial {
                    partial.control = Vec::new();
                    if partial.message.is_none() {
                        self.partial = None;
                    }
                }
                self.stage = Stage::Open;
            }
        }
    }

    fn advance(&mut self, input: &mut [u8], consumed: &mut usize) -> Result<Option<Ready>, WsError> {
        if self.stage == Stage::Over {
            *consumed = input.len();
            return Ok(None);
        }
        loop {
            let (frame, fresh) = match self.partial.as_mut().and_then(|partial| partial.frame.take()) {
                Some(frame) => (frame, false),
                None => match self.header(input, consumed)? {
                    Some(frame) => (frame, true),
                    None => return Ok(None),
                },
            };
            let here = input.len().saturating_sub(*consumed).min(frame.len - frame.taken);
            let start = *consumed;
            let end = start + here;
            *consumed = end;
            let payload = &mut input[start..end];
            if self.role == Role::Server {
                mask_in_place(payload, frame.mask, frame.taken);
            }
            let whole = fresh && here == frame.len;
            let done = frame.taken + here == frame.len;
            if frame.opcode.is_control() {
                if whole {
                    return Ok(Some(Ready::Input(frame.opcode, start, end)));
                }
                let partial = self.partial.get_or_insert_default();
                partial.control.reserve_exact(frame.len - frame.taken);
                partial.control.extend_from_slice(payload);
                if done {
                    return Ok(Some(Ready::Control(frame.opcode)));
                }
                partial.frame = Some(Frame { taken: frame.taken + here, ..frame });
                return Ok(None);
            }
            if whole && frame.fin && frame.opcode != Opcode::Continuation && !frame.rsv1 {
                return Ok(Some(Ready::Input(frame.opcode, start, end)));
            }
            if fresh {
                self.begin(&frame);
            }
            self.collect(&frame, payload)?;
            if !done {
                self.partial.get_or_insert_default().frame = Some(Frame { taken: frame.taken + here, ..frame });
                return Ok(None);
            }
            if frame.fin {
                self.finish()?;
                return Ok(Some(Ready::Message));
            }
        }
    }

    /// Reads the next header, or keeps what there is of it.
    fn header(&mut self, input: &[u8], consumed: &mut usize) -> Result<Option<Frame>, WsError> {
        let available = input.get(*consumed..).unwrap_or_default();
        if self.head_len == 0 {
            if available.is_empty() {
                return Ok(None);
            }
            if let Some((frame, len)) = self.parse(available)? {
                *consumed += len;
                return Ok(Some(frame));
            }
        }
        // At most 14 bytes, one at a time: a header that the network cut is rare.
        for byte in available {
            *consumed += 1;
            self.head[usize::from(self.head_len)] = *byte;
            self.head_len += 1;
            let head = self.head;
            if let Some((frame, _)) = self.parse(&head[..usize::from(self.head_len)])? {
                self.head_len = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Parses and judges a header; `None` while bytes of it are missing.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, WsError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let fin = first & 0x80 != 0;
        let rsv1 = first & 0x40 != 0;
        if first & 0x30 != 0 {
            return Err(WsError::protocol("RSV2 and RSV3 must be clear"));
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(WsError::protocol("invalid opcode"))?;
        let masked = second & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return Err(WsError::protocol(if masked { "MASK must be clear" } else { "MASK must be set" }));
        }
        let short = second & 0x7f;
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        if opcode.is_control() {
            if !fin {
                return Err(WsError::protocol("control frames must not be fragmented"));
            }
            if rsv1 {
                return Err(WsError::protocol("RSV1 must be clear"));
            }
            if usize::from(short) > MAX_CONTROL_PAYLOAD {
                return Err(WsError::protocol("control frames carry at most 125 bytes"));
            }
            if opcode == Opcode::Close && short == 1 {
                return Err(WsError::protocol("a close code has two bytes"));
            }
        } else {
            if (opcode == Opcode::Continuation) != message.is_some() {
                return Err(WsError::protocol(if message.is_some() {
                    "a message is still unfinished"
                } else {
                    "there is no message to continue"
                }));
            }
            if rsv1 && (opcode == Opcode::Continuation || self.inflater.is_none()) {
                return Err(WsError::protocol("RSV1 must be clear"));
            }
        }
        let (len, rest, long) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 125),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 65_535),
                None => return Ok(None),
            },
            _ => (u64::from(short), rest, 0),
        };
        let before = message.map_or(0, |message| message.announced);
        let len = usize::try_from(len).map_err(|_| WsError::too_big())?;
        if !opcode.is_control() {
            match before.checked_add(len) {
                Some(total) if total <= self.max_message => {}
                _ => return Err(WsError::too_big()),
            }
            let fragments = message.map_or(0, |message| message.fragments);
            if fragments >= self.max_fragments {
                return Err(WsError::policy("too many fragments"));
            }
        }
        let (mask, rest) = match (masked, rest.split_first_chunk::<4>()) {
            (false, _) => ([0; 4], rest),
            (true, Some((mask, rest))) => (*mask, rest),
            (true, None) => return Ok(None),
        };
        if len <= long && long > 0 {
            self.long_forms = self.long_forms.saturating_add(1);
        }
        let used = bytes.len() - rest.len();
        Ok(Some((Frame { opcode, fin, rsv1, mask, taken: 0, len }, used)))
    }

    /// Counts a data frame that is not a message by itself.
    fn begin(&mut self, frame: &Frame) {
        let message = self.partial.get_or_insert_default().message.get_or_insert_with(|| Message {
            text: frame.opcode == Opcode::Text,
            compressed: frame.rsv1,
            fragments: 0,
            announced: 0,
            checked: 0,
            bytes: Vec::new(),
        });
        message.fragments = message.fragments.saturating_add(1);
        message.announced = message.announced.saturating_add(frame.len);
    }

    /// Adds a piece of a data frame, unmasked, to the message.
    fn collect(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), WsError> {
        let Some(message) = self.partial.as_mut().and_then(|partial| partial.message.as_mut()) else { return Ok(()) };
        let outcome = match &mut self.inflater {
            Some(inflater) if message.compressed => inflater.push(payload, &mut message.bytes, self.max_message),
            _ => {
                make_room(&mut message.bytes, payload.len(), frame.len - frame.taken - payload.len());
                message.bytes.extend_from_slice(payload);
                Ok(())
            }
        };
        // Bad text that came before a failure counts first, however the bytes were cut.
        message.check_text()?;
        outcome
    }

    /// Ends the message that was collected.
    fn finish(&mut self) -> Result<(), WsError> {
        let Some(message) = self.partial.as_mut().and_then(|partial| partial.message.as_mut()) else { return Ok(()) };
        if let Some(inflater) = self.inflater.as_mut().filter(|_| message.compressed) {
            let outcome = inflater.finish(&mut message.bytes, self.max_message);
            message.check_text()?;
            outcome?;
        }
        if message.text && message.checked != message.bytes.len() {
            return Err(INVALID_UTF8);
        }
        Ok(())
    }
}

impl Message {
    /// Checks the text that has not been checked yet; the beginning of a character at the end may wait for its rest.
    fn check_text(&mut self) -> Result<(), WsError> {
        if self.text {
            let fresh = self.bytes.get(self.checked..).unwrap_or_default();
            match simdutf8::compat::from_utf8(fresh) {
                Ok(_) => self.checked = self.bytes.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(INVALID_UTF8),
            }
        }
        Ok(())
    }
}

const INVALID_UTF8: WsError = WsError::invalid_data("invalid UTF-8");

/// Lends what is ready, after the checks that need it whole.
fn event<'a>(partial: Option<&'a Partial>, input: &'a [u8], ready: Ready) -> Result<Event<'a>, WsError> {
    let (opcode, bytes) = match ready {
        Ready::Input(opcode, start, end) => (opcode, input.get(start..end).unwrap_or_default()),
        Ready::Message => match partial.and_then(|partial| partial.message.as_ref()) {
            Some(message) if message.text => (Opcode::Text, &*message.bytes),
            Some(message) => (Opcode::Binary, &*message.bytes),
            None => (Opcode::Binary, Default::default()),
        },
        Ready::Control(opcode) => (opcode, partial.map_or(Default::default(), |partial| &*partial.control)),
    };
    Ok(match opcode {
        Opcode::Text => Event::Text(simdutf8::basic::from_utf8(bytes).map_err(|_| INVALID_UTF8)?),
        Opcode::Binary | Opcode::Continuation => Event::Binary(bytes),
        Opcode::Ping => Event::Ping(bytes),
        Opcode::Pong => Event::Pong(bytes),
        Opcode::Close => Event::Close(match bytes.split_first_chunk::<2>() {
            None => None,
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                if !is_valid_close_code(code) {
                    return Err(WsError::protocol("invalid close code"));
                }
                Some((code, simdutf8::basic::from_utf8(reason).map_err(|_| INVALID_UTF8)?))
            }
        }),
    })
}
