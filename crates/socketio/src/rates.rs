//! How often events may come, and how often clients may have something sent to a room.
//!
//! The buckets are those of `engineio-proto`. Those of one socket lie with the socket and exist from its first event on;
//! those that sockets share lie with the namespace.

use std::fmt;
use std::time::{Duration, Instant};

use engineio::Rate;
use engineio_proto::rate::Bucket;
use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Serialize;
use socketio_adapter::RoomName;
use socketio_core::{HandlerError, HandlerFuture};

use crate::policy::forbidden;
use crate::security::RATE_LIMITED;
use crate::{Action, SecurityKind, Socket};

/// How often something may happen in a namespace, and what becomes of what is too often.
///
/// ```
/// use socketio::{Excess, Namespace, Rate, RateLimit};
///
/// let chat = Namespace::new("/chat")
///     .rate_limit(RateLimit::socket(Rate::per_second(50).burst(100)))
///     .rate_limit(RateLimit::event("say", Rate::per_second(5)))
///     .rate_limit(RateLimit::event("draw", Rate::per_second(60)).excess(Excess::Delay))
///     .rate_limit(RateLimit::namespace(Rate::per_second(10_000)))
///     .rate_limit(RateLimit::room(Rate::per_second(100)));
/// # let _ = chat;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    scope: Scope,
    rate: Rate,
    excess: Excess,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// Of each socket: all its events, or those of one name.
    Socket(Option<Box<str>>),
    /// Of all sockets together.
    Namespace(Option<Box<str>>),
    /// What sockets send to each room.
    Room,
}

/// What becomes of an event that is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Excess {
    /// It is dropped and answered with the error `rate_limited`, whose `details.retry_after_ms` says when to try again.
    #[default]
    Drop,
    /// It waits until its time has come, and with it all that its client sends behind it; when too much waits, the client is
    /// read no further. What is sent to a room does not wait: it is dropped.
    Delay,
    /// Its client is disconnected, described as `rate limit`.
    Disconnect,
}

impl RateLimit {
    /// All events of each socket together.
    pub fn socket(rate: Rate) -> Self {
        Self::of(Scope::Socket(None), rate)
    }

    /// The events of this name of each socket.
    pub fn event(name: impl Into<String>, rate: Rate) -> Self {
        Self::of(Scope::Socket(Some(name.into().into())), rate)
    }

    /// All events of all sockets of the namespace together.
    pub fn namespace(rate: Rate) -> Self {
        Self::of(Scope::Namespace(None), rate)
    }

    /// The events of this name of all sockets of the namespace together.
    pub fn namespace_event(name: impl Into<String>, rate: Rate) -> Self {
        Self::of(Scope::Namespace(Some(name.into().into())), rate)
    }

    /// What all sockets together send to one room, or to everybody, with [`Socket::to`](crate::Socket::to) and its like. The
    /// emit returns [`EmitError::RateLimited`](crate::EmitError::RateLimited). What the server sends itself is not counted.
    pub fn room(rate: Rate) -> Self {
        Self::of(Scope::Room, rate)
    }

    fn of(scope: Scope, rate: Rate) -> Self {
        Self { scope, rate, excess: Excess::default() }
    }

    /// What becomes of what is too often. Default: [`Excess::Drop`].
    #[must_use]
    pub fn excess(mut self, excess: Excess) -> Self {
        self.excess = excess;
        self
    }

    /// What it counts, in a word.
    fn word(&self) -> &'static str {
        match &self.scope {
            Scope::Socket(None) => "socket",
            Scope::Socket(Some(_)) => "event",
            Scope::Namespace(None) => "namespace",
            Scope::Namespace(Some(_)) => "namespace event",
            Scope::Room => "room",
        }
    }

    pub(crate) fn is_of_rooms(&self) -> bool {
        self.scope == Scope::Room
    }
}

/// The buckets of one socket, by the number of the limit.
pub(crate) type Buckets = Box<[Option<Bucket>]>;

/// The buckets that the sockets of a namespace share.
pub(crate) struct SharedBuckets {
    // Guards them; nothing else happens under it.
    buckets: Mutex<Shared>,
}

struct Shared {
    own: Buckets,
    /// By the number of the limit and the room.
    rooms: HashMap<(usize, RoomName), Bucket>,
}

/// At so many rooms those are forgotten that nothing was sent to for a while.
const ROOMS: usize = 4_096;

impl SharedBuckets {
    pub(crate) fn new(limits: &[RateLimit]) -> Option<Box<Self>> {
        let shared = || Shared { own: vec![None; limits.len()].into(), rooms: HashMap::new() };
        (!limits.is_empty()).then(|| Box::new(Self { buckets: Mutex::new(shared()) }))
    }
}

impl fmt::Debug for SharedBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedBuckets")
    }
}

/// Takes one from a bucket. With `Delay` it is taken on credit.
fn take(bucket: &mut Option<Bucket>, limit: &RateLimit, now: Instant) -> Result<(), Duration> {
    let bucket = bucket.get_or_insert_with(|| Bucket::full(limit.rate, now));
    if limit.excess == Excess::Delay && !limit.is_of_rooms() {
        let wait = bucket.spend(limit.rate, now, 1);
        return if wait.is_zero() { Ok(()) } else { Err(wait) };
    }
    bucket.take(limit.rate, now, 1)
}

/// What becomes of an event before its middleware and handlers see it.
pub(crate) enum Admission {
    Pass,
    /// Its time has not come.
    Wait(HandlerFuture),
    Refused(HandlerError),
    /// Its client has to go.
    Gone,
}

/// The error of what came too often.
fn too_often(limit: &RateLimit, wait: Duration) -> HandlerError {
    #[derive(Serialize)]
    struct Details {
        retry_after_ms: u64,
    }
    let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    HandlerError::new(RATE_LIMITED, "too often").reason(limit.word()).details(Details { retry_after_ms })
}

impl Socket {
    /// Asks limits of rate, then the policy, whether an event may go on.
    pub(crate) fn admits(&self, event: &str) -> Admission {
        let table = &self.0.nsp.table;
        let mut wait = Duration::ZERO;
        if !table.rates.is_empty() {
            let now = tokio::time::Instant::now().into_std();
            for (number, limit) in table.rates.iter().enumerate() {
                let Err(left) = self.count(number, limit, event, now) else { continue };
                match limit.excess {
                    Excess::Drop => return Admission::Refused(too_often(limit, left)),
                    Excess::Delay => {
                        self.report(SecurityKind::RateLimited, limit.word(), event);
                        wait = wait.max(left);
                    }
                    Excess::Disconnect => {
                        self.report(SecurityKind::RateLimited, limit.word(), event);
                        self.disconnect_because(true, "rate limit");
                        return Admission::Gone;
                    }
                }
            }
        }
        if let Some(reason) = self.forbids(&Action::Event { name: event }) {
            return Admission::Refused(forbidden(reason));
        }
        if wait.is_zero() { Admission::Pass } else { Admission::Wait(HandlerFuture::new(tokio::time::sleep(wait))) }
    }

    fn count(&self, number: usize, limit: &RateLimit, event: &str, now: Instant) -> Result<(), Duration> {
        let applies = |name: &Option<Box<str>>| name.as_deref().is_none_or(|name| name == event);
        match &limit.scope {
            Scope::Socket(name) if applies(name) => {
                self.0.with_buckets(|buckets| buckets.get_mut(number).map_or(Ok(()), |bucket| take(bucket, limit, now)))
            }
            Scope::Namespace(name) if applies(name) => match &self.0.nsp.rates {
                Some(shared) => {
                    let mut shared = shared.buckets.lock();
                    shared.own.get_mut(number).map_or(Ok(()), |bucket| take(bucket, limit, now))
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether something may be sent to this room, or to everybody, in the name of this socket.
    pub(crate) fn may_send_to(&self, room: Option<&RoomName>) -> Result<(), Duration> {
        let nsp = &self.0.nsp;
        let Some(shared) = &nsp.rates else { return Ok(()) };
        let everybody = RoomName::from("");
        let room = room.unwrap_or(&everybody);
        let now = tokio::time::Instant::now().into_std();
        for (number, limit) in nsp.table.rates.iter().enumerate().filter(|(_, limit)| limit.is_of_rooms()) {
            let taken = {
                let mut shared = shared.buckets.lock();
                let rooms = &mut shared.rooms;
                // Only where it would have to grow, so that it costs little however many there are.
                if rooms.len() >= ROOMS && rooms.len() == rooms.capacity() {
                    rooms.retain(|(of, _), bucket| {
                        nsp.table.rates.get(*of).is_some_and(|limit| !bucket.is_full(limit.rate, now))
                    });
                }
                let bucket = rooms.entry((number, room.clone())).or_insert_with(|| Bucket::full(limit.rate, now));
                bucket.take(limit.rate, now, 1)
            };
            if let Err(wait) = taken {
                self.report(SecurityKind::RateLimited, limit.word(), room);
                if limit.excess == Excess::Disconnect {
                    self.disconnect_because(true, "rate limit");
                }
                return Err(wait);
            }
        }
        Ok(())
    }
}
