//! What all clients of a run share: where the server is, what was measured, and when to leave.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use socketio_testkit::{Endpoint, Rng};
use tokio::sync::{Semaphore, watch};

use crate::{
    figures::{Faults, Times},
    hostile,
};

/// How many sessions are opened at the same time: the backlog of a listener is short.
const OPENING: usize = 100;

/// The plan of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Clients, all of them.
    pub(crate) connections: u64,
    /// For how long they are there.
    pub(crate) time: Duration,
    /// Every choice comes from it.
    pub(crate) seed: u64,
    /// Seconds instead of minutes: sessions are short too.
    pub(crate) short: bool,
    /// Nobody else disturbs.
    pub(crate) only: Option<Only>,
}

/// The only disturbers of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Only {
    /// Hostile clients of one kind, by its place among them.
    Hostile(usize),
    /// Slow readers.
    Slow,
}

impl Plan {
    /// 5 %.
    pub(crate) fn hostile(&self) -> u64 {
        self.connections / 20
    }

    /// 5 %.
    pub(crate) fn slow(&self) -> u64 {
        self.connections / 20
    }

    pub(crate) fn good(&self) -> u64 {
        self.connections - self.hostile() - self.slow()
    }
}

/// What all clients of one phase share.
pub(crate) struct World {
    pub(crate) plan: Plan,
    addr: SocketAddr,
    pub(crate) opening: Semaphore,
    ending: watch::Sender<bool>,
    /// From an event to its acknowledgement.
    pub(crate) answers: Times,
    /// From the first byte to the namespace.
    pub(crate) connects: Times,
    pub(crate) faults: Faults,
    /// Sessions of good clients that came to their end.
    pub(crate) sessions: AtomicU64,
    /// Events of the server that good clients got.
    pub(crate) received: AtomicU64,
    pub(crate) attacks: [Attacks; hostile::KINDS.len()],
    /// What slow readers read to its end, and how often the server let one go that did not read.
    pub(crate) slow: Attacks,
}

/// What came of what one kind of client did.
#[derive(Default)]
pub(crate) struct Attacks {
    pub(crate) made: AtomicU64,
    /// The server ended it.
    pub(crate) ended: AtomicU64,
}

impl World {
    pub(crate) fn new(plan: Plan, port: u16) -> Self {
        Self {
            plan,
            addr: (Ipv4Addr::LOCALHOST, port).into(),
            opening: Semaphore::new(OPENING),
            ending: watch::Sender::new(false),
            answers: Times::default(),
            connects: Times::default(),
            faults: Faults::default(),
            sessions: AtomicU64::new(0),
            received: AtomicU64::new(0),
            attacks: std::array::from_fn(|_| Attacks::default()),
            slow: Attacks::default(),
        }
    }

    /// The server, for client `number` of a group. On Linux each comes from an address of its own.
    pub(crate) fn endpoint(&self, group: u8, number: u64) -> Endpoint {
        let mut endpoint = Endpoint::new(self.addr);
        if cfg!(target_os = "linux") {
            endpoint.source = Some(Ipv4Addr::new(127, group, (number / 200) as u8, (number % 200) as u8 + 1));
        }
        endpoint
    }

    pub(crate) fn rng(&self, group: u8, number: u64) -> Rng {
        Rng::new(self.plan.seed ^ (u64::from(group) << 56) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Tells everybody to leave.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Comes back when everybody has to leave.
    pub(crate) async fn ending(&self) {
        // The sender lives as long as we do.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Sleeps, but not beyond the end.
    pub(crate) async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.ending() => {}
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, what: u64) {
    counter.fetch_add(what, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
