//! The members of one room as a dense list that can be shared while it changes.
//!
//! The list is cut into chunks behind reference counts. A snapshot clones the counts; a later change copies only the
//! chunk it touches, and only while a snapshot still holds that chunk.

use std::sync::Arc;

use crate::rooms::is_roomy;

/// How many members share a chunk.
///
/// A broadcast clones one count per chunk, a change during a broadcast copies at most two chunks. At 256 a room of
/// 10,000 is 40 clones to snapshot, and a copy is 256 increments.
const CHUNK: usize = 256;

/// A part of a room: the handles and, beside them, the slots that tell members apart.
#[derive(Debug, Clone)]
pub(crate) struct Chunk<M> {
    pub(crate) slots: Vec<u32>,
    pub(crate) members: Vec<M>,
}

/// All chunks of a room. Only the last one may be less than full; none is empty.
pub(crate) type Chunks<M> = Vec<Arc<Chunk<M>>>;

/// The members of one room in no particular order, addressed by position.
#[derive(Debug)]
pub(crate) struct Dense<M> {
    chunks: Chunks<M>,
    /// For the member at each position: where in its own list of rooms this room stands.
    back: Vec<u32>,
}

/// Who took the position of a removed member.
pub(crate) struct Moved {
    pub(crate) slot: u32,
    pub(crate) back: u32,
}

impl<M: Clone> Dense<M> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), back: Vec::new() }
    }

    /// Appends a member and returns its position.
    pub(crate) fn push(&mut self, slot: u32, member: M, back: u32) -> u32 {
        let position = self.back.len();
        if position.is_multiple_of(CHUNK) {
            // Most rooms hold very few: the first allocation is exact, growth follows by doubling.
            self.chunks.push(Arc::new(Chunk { slots: Vec::with_capacity(1), members: Vec::with_capacity(1) }));
        }
        let chunk = Arc::make_mut(&mut self.chunks[position / CHUNK]);
        chunk.slots.push(slot);
        chunk.members.push(member);
        self.back.push(back);
        position as u32
    }

    /// Removes the member at `position`; the last member takes its place, if there is another.
    pub(crate) fn swap_remove(&mut self, position: u32) -> Option<Moved> {
        let position = position as usize;
        let last_chunk = self.chunks.last_mut().map(Arc::make_mut).expect("a room with a member has a chunk");
        let slot = last_chunk.slots.pop().expect("no chunk is empty");
        let member = last_chunk.members.pop().expect("no chunk is empty");
        if last_chunk.slots.is_empty() {
            self.chunks.pop();
        }
        let back = self.back.pop().expect("as long as the chunks together");
        if is_roomy(self.back.len(), self.back.capacity()) {
            self.back.shrink_to(self.back.len() * 2);
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        if position == self.back.len() {
            return None;
        }
        let chunk = Arc::make_mut(&mut self.chunks[position / CHUNK]);
        chunk.slots[position % CHUNK] = slot;
        chunk.members[position % CHUNK] = member;
        self.back[position] = back;
        Some(Moved { slot, back })
    }

    /// Notes that the member at `position` now has this room at `back` in its own list.
    pub(crate) fn set_back(&mut self, position: u32, back: u32) {
        self.back[position as usize] = back;
    }
}

impl<M> Dense<M> {
    pub(crate) fn len(&self) -> usize {
        self.back.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.back.capacity()
    }

    pub(crate) fn chunks(&self) -> &Chunks<M> {
        &self.chunks
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &M)> {
        self.chunks.iter().flat_map(|chunk| chunk.slots.iter().copied().zip(&chunk.members))
    }
}
