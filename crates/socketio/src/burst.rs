//! Broadcasts to the same sockets, one right after the other: a game's tick, a page of history.
//!
//! The first one queues a [`Batch`] for every recipient; those that follow are added to it, whoever many the recipients are.
//! That holds as long as nothing comes between: no recipient is sent anything else or is written to (the batch closes
//! itself then), and nobody joins, leaves or begins to listen (the namespace's generation changes then).

use std::sync::atomic::{AtomicU64, Ordering};

use engineio::{Batch, Fanout, WeakBatch};
use parking_lot::Mutex;
use socketio_adapter::Selection;

use crate::Socket;
use crate::broadcast::{Delivery, Frames};

/// Fewer recipients get what they are sent one by one.
const FEWEST: usize = 4;

/// The last broadcast of a namespace, if others may follow it.
#[derive(Default)]
pub(crate) struct Bursts {
    last: Mutex<Option<Burst>>,
    generation: AtomicU64,
}

struct Burst {
    selection: Selection,
    generation: u64,
    batch: WeakBatch,
    recipients: usize,
}

/// A broadcast that others may follow, while it is sent.
pub(crate) struct Opening {
    generation: u64,
    batch: Option<Batch>,
}

impl Bursts {
    /// Whom a broadcast reaches has changed, or who listens to it: what follows starts anew.
    pub(crate) fn interrupt(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a broadcast to this selection may follow the last one.
    pub(crate) fn may_follow(&self, selection: &Selection) -> bool {
        let last = self.last.lock();
        last.as_ref().is_some_and(|burst| self.goes_on(burst, selection))
    }

    /// Adds to the last broadcast. Returns how many it reaches; `None` when it has to be sent by itself.
    pub(crate) fn follow(&self, selection: &Selection, frames: &Frames) -> Option<usize> {
        let mut last = self.last.lock();
        let burst = last.as_ref().filter(|burst| self.goes_on(burst, selection))?;
        if burst.batch.upgrade().is_some_and(|batch| batch.extend(frames)) {
            return Some(burst.recipients);
        }
        *last = None;
        None
    }

    fn goes_on(&self, burst: &Burst, selection: &Selection) -> bool {
        burst.generation == self.generation.load(Ordering::Acquire) && burst.selection == *selection
    }

    /// Starts a broadcast. To be called before the recipients are looked up.
    pub(crate) fn open(&self) -> Opening {
        Opening { generation: self.generation.load(Ordering::Acquire), batch: None }
    }

    /// Lets others follow a broadcast that all its recipients have got.
    pub(crate) fn publish(&self, opening: Opening, selection: &Selection, recipients: usize) {
        if let Some(batch) = opening.batch {
            let (generation, batch) = (opening.generation, batch.downgrade());
            *self.last.lock() = Some(Burst { selection: selection.clone(), generation, batch, recipients });
        }
    }
}

impl Opening {
    /// Makes the batch, if there are enough to share it.
    pub(crate) fn start(&mut self, most: usize, frames: &Frames) {
        if most >= FEWEST {
            self.batch = Some(Batch::new(frames.iter().cloned()));
        }
    }

    /// Others are not to follow.
    pub(crate) fn ends_here(&mut self) {
        self.generation = u64::MAX;
    }
}

impl Socket {
    /// Queues a broadcast for this socket.
    pub(crate) fn deliver_burst(&self, fanout: &mut Fanout, opening: &Opening, frames: &Frames) -> Delivery {
        let session = &self.0.client.session;
        self.queued_or_refused(match &opening.batch {
            Some(batch) => fanout.send_batch(session, batch),
            None => fanout.send(session, frames.iter().cloned()),
        })
    }
}
