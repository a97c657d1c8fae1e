//! What waits to be sent, counted in bytes and in packets.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    Frame,
    batch::{Batch, Size},
    payload::OutPacket,
};

/// Beyond this many entries an emptied queue gives its memory back.
const KEPT_CAPACITY: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Entry>,
    bytes: usize,
    messages: usize,
}

#[derive(Debug)]
enum Entry {
    Packet(OutPacket),
    /// The same for many queues, and what it counts for here: the last entry may hold more by now.
    Batch(Batch, Size),
}

/// What a WebSocket of the application's messages is given next.
#[derive(Debug)]
pub enum Block {
    /// One message.
    Message(Frame),
    /// Several whole frames of revision 4.
    Frames(Bytes),
}

impl Outbox {
    pub(super) fn push(&mut self, packet: OutPacket) {
        self.close_batch();
        self.bytes += packet.encoded_len();
        self.messages += 1;
        self.queue.push_back(Entry::Packet(packet));
    }

    pub(super) fn push_batch(&mut self, batch: Batch) {
        self.close_batch();
        let size = batch.size();
        self.bytes += size.bytes;
        self.messages += size.messages;
        self.queue.push_back(Entry::Batch(batch, size));
    }

    /// What comes now comes behind what the last batch holds by now.
    fn close_batch(&mut self) {
        if let Some(Entry::Batch(batch, counted)) = self.queue.back_mut() {
            batch.close();
            let size = batch.size();
            self.bytes += size.bytes - counted.bytes;
            self.messages += size.messages - counted.messages;
            *counted = size;
        }
    }

    pub(super) fn pop(&mut self) -> Option<OutPacket> {
        let packet = match self.queue.pop_front()? {
            Entry::Packet(packet) => packet,
            Entry::Batch(batch, counted) => {
                self.bytes -= counted.bytes;
                self.messages -= counted.messages;
                for frame in batch.closed().frames.iter().rev() {
                    let packet = OutPacket::Message(frame.clone());
                    self.bytes += packet.encoded_len();
                    self.messages += 1;
                    self.queue.push_front(Entry::Packet(packet));
                }
                return self.pop();
            }
        };
        self.bytes -= packet.encoded_len();
        self.messages -= 1;
        self.release();
        Some(packet)
    }

    /// What comes next, if it is of the application. `joined` tells whether the frames of a batch may be given as one.
    pub(super) fn pop_block(&mut self, joined: bool) -> Option<Block> {
        match self.queue.front()? {
            Entry::Packet(OutPacket::Control(..)) => None,
            Entry::Batch(batch, counted) if joined => {
                let block = Block::Frames(batch.closed().joined.clone());
                self.bytes -= counted.bytes;
                self.messages -= counted.messages;
                self.queue.pop_front();
                self.release();
                Some(block)
            }
            Entry::Packet(_) | Entry::Batch(..) => match self.pop()? {
                OutPacket::Message(frame) => Some(Block::Message(frame)),
                OutPacket::Control(..) => None,
            },
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<OutPacket> {
        self.bytes = 0;
        self.messages = 0;
        let mut packets = Vec::with_capacity(self.queue.len());
        for entry in std::mem::take(&mut self.queue) {
            match entry {
                Entry::Packet(packet) => packets.push(packet),
                Entry::Batch(batch, _) => packets.extend(batch.closed().frames.iter().cloned().map(OutPacket::Message)),
            }
        }
        packets
    }

    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.messages = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many packets wait.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn release(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
    }
}
