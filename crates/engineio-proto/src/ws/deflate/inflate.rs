//! Decompression of incoming messages, piece by piece as they arrive, and never beyond the limit.

use super::super::{WsError, make_room};
use flate2::{Decompress, FlushDecompress, Status};

/// Decompresses the messages of one connection.
#[derive(Debug)]
pub struct Inflater {
    /// Lives from the first byte of a message to its end, and longer if the sender may refer to earlier messages.
    context: Option<Decompress>,
    takeover: bool,
    /// Whether the current message had any payload.
    begun: bool,
    /// How often the current message ended its DEFLATE stream and began another.
    restarts: u8,
    window_bits: u8,
}

impl Inflater {
    /// Makes a decompressor for a sender with the given window (8 to 15 bits), which either starts every message afresh or
    /// may refer back to earlier ones (`context_takeover`).
    pub fn new(window_bits: u8, context_takeover: bool) -> Self {
        // The library's smallest window is 9 bits; a wider window than the sender's reads the same.
        Self {
            context: None,
            takeover: context_takeover,
            begun: false,
            restarts: 0,
            window_bits: window_bits.clamp(9, 15),
        }
    }

    /// Whether a context is held at the moment.
    pub fn is_holding_context(&self) -> bool {
        self.context.is_some()
    }

    /// Decompresses the next piece of a message and appends what it gives to `out`, which holds the message so far.
    ///
    /// # Errors
    /// 1009 as soon as `out` is longer than `max`, 1007 for bytes that are not DEFLATE. `out` holds what was good before it.
    pub(in super::super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), WsError> {
        if input.is_empty() {
            return Ok(());
        }
        self.begun = true;
        let mut input = input;
        let context = self.context.get_or_insert_with(|| Decompress::new_with_window_bits(false, self.window_bits));
        loop {
            if out.len() == out.capacity() {
                // A good guess at first, 64 KiB at most; then as much as there is already.
                make_room(out, 1, input.len().saturating_mul(3).clamp(256, STEP).max(out.len()).min(max));
            }
            let (before_in, before_out) = (context.total_in(), context.total_out());
            let outcome = context.decompress_vec(input, out, FlushDecompress::Sync);
            let used = (context.total_in() - before_in) as usize;
            input = input.get(used..).unwrap_or_default();
            if out.len() > max {
                out.truncate(max);
                return Err(WsError::too_big());
            }
            let status = outcome.map_err(|_| CORRUPT)?;
            if status == Status::StreamEnd {
                // A block said it was the last one. The sender may go on with a new stream (§7.2.3.4); it has no good reason
                // to do so often, and each time costs a reset.
                self.restarts += 1;
                if self.restarts > MAX_RESTARTS {
                    return Err(WsError::policy("too many DEFLATE streams in one message"));
                }
                *context = Decompress::new_with_window_bits(false, self.window_bits);
                let window = out.len().min(1 << self.window_bits);
                context.set_dictionary(&out[out.len() - window..]).map_err(|_| CORRUPT)?;
                if input.is_empty() {
                    return Ok(());
                }
            } else if input.is_empty() && out.len() < out.capacity() {
                return Ok(());
            } else if used == 0 && context.total_out() == before_out && out.len() < out.capacity() {
                return Err(CORRUPT);
            }
        }
    }

    /// Ends a message: supplies the four bytes that the sender left out, and lets go of what is not needed any more.
    pub(in super::super) fn finish(&mut self, out: &mut Vec<u8>, max: usize) -> Result<(), WsError> {
        // Without any payload the four bytes would be the middle of a block that never began.
        if self.begun {
            self.push(&[0x00, 0x00, 0xff, 0xff], out, max)?;
        }
        self.begun = false;
        self.restarts = 0;
        if !self.takeover {
            self.context = None;
        }
        Ok(())
    }
}

/// The most output that is made room for at once.
const STEP: usize = 64 << 10;

/// How many DEFLATE streams one message may consist of, beyond the first.
const MAX_RESTARTS: u8 = 16;

const CORRUPT: WsError = WsError::invalid_data("invalid compressed data");
