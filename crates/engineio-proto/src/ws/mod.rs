//! WebSocket on paper: RFC 6455 framing and handshake, RFC 7692 compression, for both roles and without I/O.
//!
//! The caller owns the buffers. It reads into a scratch buffer of its own, hands the bytes to a [`Decoder`], which unmasks
//! them in place and lends whole messages back, and writes frames whose headers come from [`encode_header`]. A decoder that
//! waits for the next message is a few dozen bytes and owns no buffer.
//!
//! Where to look: [`Decoder`] for what is accepted, [`encode_header`] and [`encode_control`] for what is sent,
//! [`handshake`] for the HTTP part, [`deflate`] for `permessage-deflate`.

mod decoder;
pub mod deflate;
mod encode;
pub mod handshake;
mod mask;
mod token;

pub use decoder::Decoder;
pub use encode::{ControlFrame, close_payload, encode_close, encode_control, encode_header, encode_message};
pub use mask::mask_in_place;

/// The most bytes of payload that a control frame may carry.
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The most bytes of a frame header.
pub const MAX_HEADER: usize = 14;

/// Which side of the connection we are: decides who masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames and sends unmasked ones.
    Server,
    /// Receives unmasked frames and sends masked ones.
    Client,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// A question that wants a [`Opcode::Pong`] with the same payload.
    Ping = 9,
    /// The answer to a ping, or an unasked sign of life.
    Pong = 10,
}

impl Opcode {
    /// Whether frames of this kind are control frames: short, never fragmented, allowed inside a fragmented message.
    pub const fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// Something whole that arrived, borrowed from the input or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; answer with a pong that carries the same bytes. Only the latest unanswered one needs an answer (§5.5.3).
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes, with a valid code and a reason, or without both. What follows on the wire is ignored.
    Close(Option<(u16, &'a str)>),
}

/// The peer left the protocol, or went over a limit: send a Close frame with this code and end the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (close code {code})")]
pub struct WsError {
    /// The code for our Close frame: 1002 protocol error, 1007 invalid data, 1008 policy, 1009 too big.
    pub code: u16,
    /// What was wrong, short enough for a Close frame.
    pub reason: &'static str,
}

impl WsError {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    const fn invalid_data(reason: &'static str) -> Self {
        Self { code: 1007, reason }
    }

    const fn policy(reason: &'static str) -> Self {
        Self { code: 1008, reason }
    }

    const fn too_big() -> Self {
        Self { code: 1009, reason: "message is too big" }
    }
}

/// Whether a Close frame may carry this code: 1000–1003, 1007–1014 and 3000–4999.
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Makes room for `more` bytes that are here, and for some of `expected` bytes that were only announced.
///
/// An announcement alone allocates little: 4 KiB at first, then up to as much as really arrived, 64 KiB at a time, and a
/// quarter of what arrived for messages so long that fixed steps would copy too often.
fn make_room(buffer: &mut Vec<u8>, more: usize, expected: usize) {
    let spare = buffer.capacity() - buffer.len();
    if spare < more {
        let arrived = buffer.len().saturating_add(more);
        let ahead = arrived.clamp(4 << 10, 64 << 10).max(arrived / 4);
        buffer.reserve_exact(more.saturating_add(expected.min(ahead)));
    }
}
