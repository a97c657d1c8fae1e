//! What waits for the database: in order, bounded in bytes.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use socketio_adapter::cluster::BusError;
use tokio::sync::{Notify, oneshot};

use crate::notice::Body;

/// The most notifications in one transaction.
const BATCH: usize = 128;
/// The most bytes of them.
const BATCH_BYTES: usize = 256 << 10;
/// What a message costs beside its bytes, roughly.
const OVERHEAD: usize = 128;

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) channel: String,
    pub(crate) body: Body,
    /// Who wants to know what became of it.
    pub(crate) done: Option<oneshot::Sender<Result<(), BusError>>>,
}

impl Item {
    fn bytes(&self) -> usize {
        self.channel.len() + self.body.len() + OVERHEAD
    }
}

#[derive(Debug)]
pub(crate) struct Outbox {
    limit: usize,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, queue: Mutex::default(), wake: Notify::new() }
    }

    /// Appends a message. One that is larger than the whole buffer never fits.
    pub(crate) fn push(&self, item: Item) -> Result<(), BusError> {
        let bytes = item.bytes();
        let mut queue = self.queue.lock();
        if queue.bytes + bytes > self.limit {
            return Err(BusError::Full { bytes: queue.bytes });
        }
        queue.bytes += bytes;
        queue.items.push_back(item);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().items.is_empty()
    }

    /// What is to be written next, in one transaction: notifications that all differ, or one message for the table.
    ///
    /// They have to differ because a transaction sends equal ones once.
    pub(crate) async fn next(&self) -> Vec<Item> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    fn take(&self) -> Vec<Item> {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let mut count = 0;
        {
            let mut seen = HashSet::new();
            for item in &queue.items {
                let Body::Plain(text) = &item.body else { break };
                bytes += item.bytes();
                if count == BATCH || (count > 0 && bytes > BATCH_BYTES) || !seen.insert((&item.channel, text)) {
                    break;
                }
                count += 1;
            }
        }
        let count = count.max(1).min(queue.items.len());
        let batch: Vec<_> = queue.items.drain(..count).collect();
        queue.bytes -= batch.iter().map(Item::bytes).sum::<usize>();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Item {
        Item { channel: "c".to_owned(), body: Body::Plain(text.to_owned()), done: None }
    }

    #[test]
    fn equal_notifications_never_share_a_transaction() {
        let outbox = Outbox::new(1 << 20);
        for text in ["a", "b", "a", "a"] {
            outbox.push(item(text)).unwrap();
        }
        let body = Body::Attached { payload: vec![1], head: String::new(), tail: "" };
        outbox.push(Item { channel: "c".to_owned(), body, done: None }).unwrap();
        outbox.push(item("c")).unwrap();
        let sizes: Vec<_> = std::iter::repeat_with(|| outbox.take().len()).take_while(|size| *size > 0).collect();
        assert_eq!(sizes, [2, 1, 1, 1, 1]);
        assert_eq!(outbox.queue.lock().bytes, 0);
    }

    #[test]
    fn the_buffer_is_bounded_and_transactions_are() {
        let outbox = Outbox::new(1_000);
        for n in 0..7 {
            outbox.push(item(&n.to_string())).unwrap();
        }
        assert!(matches!(outbox.push(item("7")), Err(BusError::Full { bytes: 910 })));
        assert_eq!(outbox.take().len(), 7);
        outbox.push(item("7")).unwrap();
        let outbox = Outbox::new(usize::MAX);
        for n in 0..300 {
            outbox.push(item(&n.to_string())).unwrap();
        }
        assert_eq!(outbox.take().len(), BATCH);
        let outbox = Outbox::new(usize::MAX);
        for n in 0..3 {
            outbox.push(item(&format!("{n}{}", "x".repeat(BATCH_BYTES / 2)))).unwrap();
        }
        assert_eq!([outbox.take().len(), outbox.take().len()], [1, 1]);
    }
}
