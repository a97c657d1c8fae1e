//! Many sessions that are sent something at once: written together, without waking their tasks.
//!
//! A wake-up, a turn and a sleep per recipient cost about as much as the rest of a broadcast above the kernel. So what a
//! [`Fanout`] sends is only queued; a few tasks, one for many sessions, write it soon after: everything that has been queued
//! for a session by then goes out in one write.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use engineio_proto::{Batch, Frame, session as machine};
use parking_lot::MutexGuard;
use tokio::runtime::Handle;

use crate::{
    Session,
    session::{Core, SendError, Shared},
};

/// How many sessions one task writes for.
const CHUNK: usize = 256;
/// Writes before other tasks get their chance: a fraction of a millisecond.
const WRITES_PER_TURN: usize = 32;

/// Sends to many sessions, one after the other. What was queued is written when it is dropped, or earlier; never from within
/// [`Fanout::send`].
///
/// Outside of a tokio runtime, and for a session that cannot be written to by others (long-polling, TLS, per-message
/// compression), it is the same as [`Session::send`].
#[derive(Default)]
pub struct Fanout {
    due: Vec<Arc<Shared>>,
}

impl Fanout {
    /// An empty one. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// [`Session::send`].
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send(&mut self, session: &Session, frames: impl IntoIterator<Item = Frame>) -> Result<(), SendError> {
        let mut core = session.0.lock();
        let result = core.machine.send(frames);
        self.queued(session, core, result)
    }

    fn queued(
        &mut self,
        session: &Session,
        mut core: MutexGuard<'_, Core>,
        result: Result<(), machine::SendError>,
    ) -> Result<(), SendError> {
        match result {
            Ok(()) => {
                self.write_later(session, core);
                Ok(())
            }
            Err(machine::SendError::Closed) => Err(SendError::Closed),
            Err(machine::SendError::Full) => {
                core.wake_to_write();
                Err(SendError::Full)
            }
        }
    }

    /// Queues what goes to many sessions and may be added to until the first of them is written to; see [`Batch`].
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_batch(&mut self, session: &Session, batch: &Batch) -> Result<(), SendError> {
        let mut core = session.0.lock();
        let result = core.machine.send_batch(batch.clone());
        self.queued(session, core, result)
    }

    /// [`Session::send_volatile`].
    pub fn send_volatile(&mut self, session: &Session, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut core = session.0.lock();
        let queued = core.queue_volatile(frames);
        if queued {
            self.write_later(session, core);
        }
        queued
    }

    fn write_later(&mut self, session: &Session, mut core: MutexGuard<'_, Core>) {
        if !core.defers_writing() {
            return;
        }
        drop(core);
        if self.due.len() == CHUNK {
            self.hand_over();
        }
        self.due.push(session.0.clone());
    }

    fn hand_over(&mut self) {
        let due = std::mem::take(&mut self.due);
        match Handle::try_current() {
            Ok(runtime) if due.len() > 1 => drop(runtime.spawn(Writing { due: due.into_iter() })),
            _ => {
                for session in due {
                    let mut core = session.lock();
                    core.output = false;
                    core.wake_to_write();
                }
            }
        }
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        if !self.due.is_empty() {
            self.hand_over();
        }
    }
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").field("due", &self.due.len()).finish()
    }
}

/// The task that writes for many sessions.
struct Writing {
    due: std::vec::IntoIter<Arc<Shared>>,
}

impl Future for Writing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..WRITES_PER_TURN {
            let Some(session) = self.due.next() else { return Poll::Ready(()) };
            session.lock().write_queued();
        }
        if self.due.len() == 0 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
