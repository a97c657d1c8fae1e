//! The buffer a packet is encoded in: the thread's own, so that what leaves is one block of exactly the right size.
//!
//! How long a packet becomes is known only at its end. Growing a buffer along the way asks for memory again and again and
//! leaves a part of it empty for as long as the packet waits to be sent; a copy of a few hundred bytes is cheaper. What is
//! long is not copied: it gets a buffer of its own as soon as that shows.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// A growing packet.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// The thread's buffer, to be given back.
    is_lent: bool,
}

/// What is longer is moved out rather than copied.
const COPIED: usize = 16 << 10;
/// A piece of this length gets a buffer that holds it. Its copy costs more than asking for memory.
const LONG: usize = 4 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    /// An empty one. While it is in use, others of the same thread have memory of their own.
    pub(crate) fn new() -> Self {
        // A thread that ends has no buffer any more.
        let mut bytes = SCRATCH.try_with(Cell::take).unwrap_or_default();
        bytes.clear();
        Self { bytes, is_lent: true }
    }

    /// Makes room for `more` bytes that are about to come.
    #[inline]
    pub(crate) fn expect(&mut self, more: usize) {
        if more < LONG || !self.is_lent {
            self.bytes.reserve(more);
        } else {
            self.expect_long(more);
        }
    }

    #[inline(never)]
    fn expect_long(&mut self, more: usize) {
        let mut own = Vec::with_capacity(self.bytes.len() + more + 32);
        own.extend_from_slice(&self.bytes);
        give_back(std::mem::replace(&mut self.bytes, own));
        self.is_lent = false;
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        if !self.is_lent || self.bytes.len() > COPIED {
            return self.bytes;
        }
        let exact = self.bytes.as_slice().to_vec();
        give_back(self.bytes);
        exact
    }
}

fn give_back(bytes: Vec<u8>) {
    if bytes.capacity() <= 2 * COPIED {
        let _ = SCRATCH.try_with(|scratch| scratch.set(bytes));
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}
