//! Messages that go to the same recipients, one right after the other.
//!
//! A server that sends fifty events to a thousand clients in one go would queue fifty thousand messages. With a [`Batch`] each
//! client's queue holds one entry, which grows while it is open: it is closed for good as soon as any of its recipients is
//! sent something else, or has been handed what is in it. So nobody's order changes, and everything that is in a closed
//! batch goes out in one piece, put together once.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::Frame;

/// What one batch may hold: queues count its entry as it was when it was queued, so it must not grow far beyond that.
const MOST_BYTES: usize = 64 << 10;
const MOST_MESSAGES: usize = 256;

/// Messages for many queues. Cloning it copies a reference.
#[derive(Clone)]
pub struct Batch(Arc<Inner>);

/// A [`Batch`] that is somebody else's to keep.
#[derive(Clone)]
pub struct WeakBatch(Weak<Inner>);

impl WeakBatch {
    /// The batch, if it still waits in some queue.
    pub fn upgrade(&self) -> Option<Batch> {
        self.0.upgrade().map(Batch)
    }
}

impl fmt::Debug for WeakBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakBatch")
    }
}

struct Inner {
    open: Mutex<Open>,
    closed: OnceLock<Closed>,
}

#[derive(Default)]
struct Open {
    frames: SmallVec<[Frame; 1]>,
    /// Stays when the frames have moved on.
    size: Size,
    closed: bool,
}

/// How much there is in a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// What was in a batch when it was closed.
pub(crate) struct Closed {
    pub(crate) frames: SmallVec<[Frame; 1]>,
    /// The frames as a WebSocket of revision 4 carries them.
    pub(crate) joined: Bytes,
}

impl Batch {
    /// A batch that is open and holds these messages.
    pub fn new(frames: impl IntoIterator<Item = Frame>) -> Self {
        let frames: SmallVec<[Frame; 1]> = frames.into_iter().collect();
        let size = Size { bytes: frames.iter().map(Frame::queued_len).sum(), messages: frames.len() };
        Self(Arc::new(Inner { open: Mutex::new(Open { frames, size, closed: false }), closed: OnceLock::new() }))
    }

    /// Adds messages for all its recipients. Returns whether it did: a closed batch and a full one take no more.
    pub fn extend(&self, frames: &[Frame]) -> bool {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = open.size.bytes + frames.iter().map(Frame::queued_len).sum::<usize>();
        let messages = open.size.messages + frames.len();
        if open.closed || bytes > MOST_BYTES || messages > MOST_MESSAGES {
            return false;
        }
        open.size = Size { bytes, messages };
        open.frames.extend(frames.iter().cloned());
        true
    }

    /// A reference that does not keep it.
    pub fn downgrade(&self) -> WeakBatch {
        WeakBatch(Arc::downgrade(&self.0))
    }

    /// How much it holds now.
    pub(crate) fn size(&self) -> Size {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Lets nothing in any more.
    pub(crate) fn close(&self) {
        if self.0.closed.get().is_none() {
            self.0.open.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        }
    }

    /// What is in it, for good.
    pub(crate) fn closed(&self) -> &Closed {
        self.0.closed.get_or_init(|| {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.closed = true;
            let frames = std::mem::take(&mut open.frames);
            let joined = match frames.as_slice() {
                [only] => only.websocket().clone(),
                several => {
                    let mut joined = Vec::with_capacity(open.size.bytes);
                    several.iter().for_each(|frame| joined.extend_from_slice(frame.websocket()));
                    joined.into()
                }
            };
            Closed { frames, joined }
        })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("size", &self.size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HEADROOM;

    fn frame(text: &str) -> Frame {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(text.as_bytes());
        Frame::text(buffer, HEADROOM)
    }

    #[test]
    fn a_batch_grows_until_it_is_closed() {
        let batch = Batch::new([frame("a")]);
        assert!(batch.extend(&[frame("b"), frame("c")]));
        assert_eq!(batch.closed().joined, b"\x81\x024a\x81\x024b\x81\x024c".as_slice());
        assert!(!batch.extend(&[frame("d")]));
        assert_eq!(batch.closed().frames.len(), 3);
    }

    #[test]
    fn a_closed_batch_stays_as_it_was() {
        let batch = Batch::new([frame("a")]);
        batch.close();
        assert!(!batch.extend(&[frame("b")]));
        assert_eq!(batch.closed().joined, b"\x81\x024a".as_slice());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_in_messages() {
        let batch = Batch::new([frame("a")]);
        assert!(!batch.extend(&[frame(&"x".repeat(MOST_BYTES))]));
        assert!(batch.extend(&vec![frame("b"); MOST_MESSAGES - 1]));
        assert!(!batch.extend(&[frame("c")]));
    }
}
