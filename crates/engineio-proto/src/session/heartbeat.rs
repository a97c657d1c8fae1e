//! Decides when to ping and when to give the peer up. Reads no clock of its own.
//!
//! Engine.IO 4: the server pings `ping_interval` after the last pong and waits `ping_timeout` for the answer. Engine.IO 3:
//! the client pings, the server gives up `ping_interval + ping_timeout` after the last ping. No other packet moves a
//! timer (Node since engine.io 6.6).

use std::time::{Duration, Instant};

use crate::Revision;

#[derive(Debug)]
pub(super) struct Heartbeat {
    step: Step,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Engine.IO 4: nothing is outstanding.
    PingAt(Instant),
    /// Engine.IO 4: a ping is out.
    PongBy(Instant),
    /// Engine.IO 3: the client's turn.
    PeerPingsBy(Instant),
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Lost,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, revision: Revision, every: Duration, grace: Duration) -> Self {
        let step = match revision {
            Revision::V4 => Step::PingAt(now + every),
            Revision::V3 => Step::PeerPingsBy(now + every + grace),
        };
        Self { step }
    }

    pub(super) fn on_time(&mut self, now: Instant, grace: Duration) -> Option<Beat> {
        match self.step {
            Step::PingAt(due) if due <= now => {
                self.step = Step::PongBy(now + grace);
                Some(Beat::Ping)
            }
            Step::PongBy(due) | Step::PeerPingsBy(due) if due <= now => Some(Beat::Lost),
            _ => None,
        }
    }

    /// A pong came. One that nobody asked for moves nothing.
    pub(super) fn on_pong(&mut self, now: Instant, every: Duration) {
        if let Step::PongBy(_) = self.step {
            self.step = Step::PingAt(now + every);
        }
    }

    /// An Engine.IO 3 client has pinged.
    pub(super) fn on_ping(&mut self, now: Instant, every: Duration, grace: Duration) {
        if let Step::PeerPingsBy(_) = self.step {
            self.step = Step::PeerPingsBy(now + every + grace);
        }
    }

    /// Reading has been stopped by us for a while, so the peer gets its full time again.
    pub(super) fn on_unblocked(&mut self, now: Instant, grace: Duration) {
        match &mut self.step {
            Step::PongBy(due) | Step::PeerPingsBy(due) => *due = (*due).max(now + grace),
            Step::PingAt(_) => {}
        }
    }

    /// When something is due. While reading is stopped by us, the peer cannot be late.
    pub(super) fn deadline(&self, blocked: bool) -> Option<Instant> {
        match self.step {
            Step::PingAt(due) => Some(due),
            Step::PongBy(due) | Step::PeerPingsBy(due) => (!blocked).then_some(due),
        }
    }
}
