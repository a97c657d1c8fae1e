//! Compression of outgoing messages.

use super::{LARGEST, Options};
use flate2::{Compress, Compression, FlushCompress};

/// Compresses messages: those of one connection, or those of everybody ([`Deflater::shared`]).
#[derive(Debug)]
pub struct Deflater {
    context: Option<Compress>,
    between: Between,
    window_bits: u8,
    level: u8,
    threshold: usize,
}

/// What becomes of the context between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// The next message may refer to it.
    Keep,
    /// Its memory is used again, its content is not.
    Reset,
    /// It is freed.
    Drop,
}

impl Deflater {
    /// Makes a compressor with a window of 9 to 15 bits that starts every message afresh, or refers back to earlier ones
    /// (`context_takeover`).
    pub(super) fn new(window_bits: u8, context_takeover: bool, options: &Options) -> Self {
        Self {
            context: None,
            between: if context_takeover { Between::Keep } else { Between::Drop },
            window_bits: window_bits.clamp(9, LARGEST),
            level: options.level.clamp(1, 9),
            threshold: options.threshold,
        }
    }

    /// Makes a compressor that serves many connections: all those whose agreement
    /// [takes shared frames](super::Agreement::takes_shared_frames). It keeps its memory (some 300 KB) between messages and
    /// nothing of their content, so have one per worker.
    pub fn shared(options: &Options) -> Self {
        Self { between: Between::Reset, ..Self::new(LARGEST, false, options) }
    }

    /// Whether a message of `len` bytes is long enough to be worth it.
    pub fn wants(&self, len: usize) -> bool {
        len >= self.threshold
    }

    /// Whether a context is held at the moment.
    pub fn is_holding_context(&self) -> bool {
        self.context.is_some()
    }

    /// Frees the context. Always allowed: the next message then refers to nothing.
    pub fn release(&mut self) {
        self.context = None;
    }

    /// Appends the compressed `message` to `out`: the payload of a frame with the RSV1 bit.
    ///
    /// Returns `false`, with `out` as it was, if that failed; send the message as it is then.
    #[must_use]
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        if message.is_empty() {
            // An empty block without its last four bytes. The library would write nothing after a flush.
            out.push(0);
            return true;
        }
        let start = out.len();
        let done = self.deflate(message, out).is_some();
        if !done {
            out.truncate(start);
        }
        match (&mut self.context, self.between) {
            (Some(_), Between::Keep) if done => {}
            (Some(context), Between::Reset) if done => context.reset(),
            _ => self.context = None,
        }
        done
    }

    fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let context = self.context.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(u32::from(self.level)), false, self.window_bits)
        });
        let mut input = message;
        out.reserve(message.len() / 2 + 64);
        loop {
            let before = (context.total_in(), out.len());
            context.compress_vec(input, out, FlushCompress::Sync).ok()?;
            input = input.get((context.total_in() - before.0) as usize..)?;
            // Everything is flushed once room is left over.
            if input.is_empty() && out.len() < out.capacity() {
                break;
            }
            if out.len() < out.capacity() && before == (context.total_in(), out.len()) {
                return None;
            }
            out.reserve(input.len() / 2 + 256);
        }
        // What every message ends with is not sent (§7.2.1).
        let len = out.strip_suffix(&[0x00, 0x00, 0xff, 0xff])?.len();
        out.truncate(len);
        Some(())
    }
}
