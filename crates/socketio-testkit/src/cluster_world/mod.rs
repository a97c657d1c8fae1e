//! A cluster in one thread: machines of `socketio-adapter` on a virtual clock and a bad network, against a model that says
//! what has to come of it.
//!
//! [`run`] plays one schedule. For half a minute servers start, leave, die, freeze and have clocks that jump; the network
//! loses, delays and doubles, the broker cuts servers off; meanwhile they do everything that a cluster can. Then all is mended, and
//! after the promised time everybody has to know everybody, everything has to arrive, and nothing may be left in memory.
//! Every message is written and read in the words of a [`Dialect`] on each hop. The model applies what was *meant* to sets of its own,
//! and compares after each step.
//!
//! `model` is what must be, `world` what happens.

mod model;
mod world;

use socketio_adapter::cluster::wire::{self, Foreign, WireLimits};
use socketio_adapter::cluster::{Envelope, Membership, Message, ServerId, Target};

pub use world::Tally;

/// How messages of a family of protocols look, and who hears them.
pub trait Dialect: Sync {
    /// How servers know each other.
    fn membership(&self) -> Membership;

    /// Whether answers say whose they are.
    fn names_answers(&self) -> bool;

    /// Whether a message is an entry of a log, which every server reads, and not published.
    fn keeps(&self, message: &Message) -> bool {
        let _ = message;
        false
    }

    /// Writes a message. `me` is the server, nothing for a program that is none.
    fn write(&self, me: Option<&ServerId>, envelope: &Envelope, to: &Target) -> Parcel;

    /// Whether a server hears a channel; `has_room` says whether it has members of a room.
    fn hears(&self, me: &ServerId, channel: &str, has_room: &dyn Fn(&str) -> bool) -> bool;

    /// Reads a message: `None` when it does not concern the server.
    ///
    /// # Errors
    /// When it makes no sense.
    fn read(
        &self,
        me: &ServerId,
        parcel: &Parcel,
        has_room: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Envelope>, Foreign>;

    /// What reads the log of a server, where there is one.
    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }
}

/// A message as bytes.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Where it is published; empty for an entry of the log.
    pub channel: String,
    /// The message; for an entry names and values in turn.
    pub parts: Vec<Vec<u8>>,
}

/// What a broker says of a log.
#[derive(Debug, Clone)]
pub struct LogInfo {
    /// The id of the last entry.
    pub last: String,
    /// How many entries there ever were.
    pub added: u64,
    /// How many there are.
    pub len: u64,
}

/// Where a server is in the log.
pub trait Reader {
    /// A connection was made. How many entries are gone that were not read.
    fn connected(&mut self, log: &LogInfo) -> u64;
    /// The id behind which to go on.
    fn after(&self) -> String;
    /// An entry has been read. `false` when it was read before.
    fn took(&mut self, id: &str) -> bool;
    /// Whether [`trimmed`](Self::trimmed) has to be asked, also when few entries came.
    fn is_overtaken(&self) -> bool;
    /// As many entries came as may come at once. How many are gone that were not read.
    fn trimmed(&mut self, log: &LogInfo) -> u64;
}

/// Node's `ClusterMessage` between servers that know each other by heartbeats: PostgreSQL, and any adapter on
/// `ClusterAdapterWithHeartbeat`.
#[derive(Debug, Default)]
pub struct Heartbeats(WireLimits);

impl Dialect for Heartbeats {
    fn membership(&self) -> Membership {
        Membership::Heartbeat
    }

    fn names_answers(&self) -> bool {
        true
    }

    fn write(&self, _: Option<&ServerId>, envelope: &Envelope, to: &Target) -> Parcel {
        let channel = match to {
            Target::Asker(Some(server)) => server.as_str().to_owned(),
            Target::Asker(None) | Target::Everybody => "*".to_owned(),
        };
        Parcel { channel, parts: vec![wire::encode(envelope).expect("it can be written")] }
    }

    fn hears(&self, me: &ServerId, channel: &str, _: &dyn Fn(&str) -> bool) -> bool {
        channel == "*" || channel == me.as_str()
    }

    fn read(&self, _: &ServerId, parcel: &Parcel, _: &dyn Fn(&str) -> bool) -> Result<Option<Envelope>, Foreign> {
        wire::decode(&parcel.parts[0], &self.0).map(Some)
    }
}

/// Plays the schedule of this seed.
///
/// # Panics
/// When something happens that must not, or does not happen that must.
pub fn run(dialect: &dyn Dialect, seed: u64) -> Tally {
    world::World::new(dialect, seed).run()
}

/// Plays schedules, each in one of the dialects: that of the seed `SIM_SEED`, as many as `SIM_SEEDS` says, or `usual`.
/// Returns how many, and what happened in them.
///
/// # Panics
/// When one of them fails; the seed is printed, with how to play it again.
pub fn schedules(dialects: &[&dyn Dialect], usual: u64) -> (u64, Tally) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds,
        (None, None) => 0..usual,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4) as u64;
    let part = |thread: u64| {
        let mut tally = Tally::default();
        for seed in seeds.clone().skip(thread as usize).step_by(threads as usize) {
            let dialect = dialects[(seed % dialects.len() as u64) as usize];
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(dialect, seed))) {
                Ok(one) => tally.add(&one),
                Err(_) => panic!("seed {seed}: cargo xtask sim cluster --seed {seed}"),
            }
        }
        tally
    };
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        for part in parts {
            match part.join() {
                Ok(tally) => all.add(&tally),
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        }
    });
    (seeds.end - seeds.start, all)
}
