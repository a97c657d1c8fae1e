//! What waits to be sent, counted in bytes and in packets.

use std::collections::VecDeque;

use crate::{Frame, payload::OutPacket};

/// Beyond this many entries an emptied queue gives its memory back.
const KEPT_CAPACITY: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<OutPacket>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, packet: OutPacket) {
        self.bytes += packet.encoded_len();
        self.queue.push_back(packet);
    }

    pub(super) fn pop(&mut self) -> Option<OutPacket> {
        let packet = self.queue.pop_front()?;
        self.bytes -= packet.encoded_len();
        self.release();
        Some(packet)
    }

    /// The next packet, if it is a message.
    pub(super) fn pop_message(&mut self) -> Option<Frame> {
        if !matches!(self.queue.front()?, OutPacket::Message(_)) {
            return None;
        }
        match self.pop()? {
            OutPacket::Message(frame) => Some(frame),
            OutPacket::Control(..) => None,
        }
    }

    pub(super) fn take_all(&mut self) -> VecDeque<OutPacket> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
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
