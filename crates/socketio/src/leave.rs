//! A socket that has left: its last handlers.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::lane::{Lane, Panicked};
use crate::{DisconnectReason, Fault, Socket};

/// A socket that has left and whose handlers have not finished.
pub(crate) struct Leaver {
    socket: Socket,
    lane: Lane,
    /// Handlers that still ran when the disconnect handlers could wait no longer.
    stragglers: Lane,
    stage: Stage,
    why: (DisconnectReason, Option<&'static str>),
    wait_until: Instant,
    give_up: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Events that came before the end are handled.
    Finishing,
    /// The `disconnecting` handlers run; the rooms are still set.
    Disconnecting,
    /// The `disconnect` handlers run.
    Disconnect,
    /// What is left are handlers that began before.
    Stragglers,
}

impl Leaver {
    pub(crate) fn new(socket: Socket, lane: Lane, why: (DisconnectReason, Option<&'static str>), now: Instant) -> Self {
        let limits = &socket.0.nsp.env.limits;
        let after = |wait: Duration| now.checked_add(wait).unwrap_or(now);
        let (wait_until, give_up) = (after(limits.disconnect_wait), after(limits.handler_stall));
        Self { socket, lane, stragglers: Lane::default(), stage: Stage::Finishing, why, wait_until, give_up }
    }

    /// When [`poll`](Self::poll) has something to do without a wake-up.
    pub(crate) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Finishing => self.wait_until.min(self.give_up),
            Stage::Disconnecting | Stage::Disconnect | Stage::Stragglers => self.give_up,
        }
    }

    /// Goes on with the goodbye. Ready when nothing of the socket is left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        loop {
            // A handler that panics here ends its stage: the next one is still owed.
            let done = match self.lane.poll(cx, &self.socket) {
                Ok(done) => done.is_ready(),
                Err(Panicked { message }) => {
                    let session = Some(self.socket.conn());
                    self.socket.0.nsp.env.fault(|| Fault::HandlerPanicked { session, message: &message });
                    self.socket.0.nsp.env.counters.handler_panics.add();
                    self.lane = Lane::default();
                    true
                }
            };
            match self.stage {
                Stage::Finishing if done || now >= self.wait_until => {
                    self.stragglers = self.lane.detach();
                    self.lane.disconnecting(self.why);
                    self.stage = Stage::Disconnecting;
                }
                Stage::Disconnecting if done => {
                    self.socket.0.leave_all();
                    self.lane.disconnect(self.why);
                    self.stage = Stage::Disconnect;
                }
                Stage::Disconnect if done => self.stage = Stage::Stragglers,
                Stage::Stragglers => match self.stragglers.poll(cx, &self.socket) {
                    Ok(Poll::Pending) => break,
                    Ok(Poll::Ready(())) | Err(_) => {
                        self.release();
                        return Poll::Ready(());
                    }
                },
                Stage::Finishing | Stage::Disconnecting | Stage::Disconnect => {
                    if self.stragglers.poll(cx, &self.socket).is_err() {
                        self.stragglers = Lane::default();
                    }
                    break;
                }
            }
        }
        if now < self.give_up {
            return Poll::Pending;
        }
        self.socket.0.nsp.env.counters.handlers_abandoned.add();
        self.socket.0.nsp.env.fault(|| Fault::HandlerAbandoned { socket: &self.socket });
        tracing::warn!(namespace = %self.socket.0.nsp.name, "handlers of a socket that has left are given up");
        self.release();
        Poll::Ready(())
    }

    pub(crate) fn release(&self) {
        self.socket.0.release();
    }
}
