//! Which answers are awaited, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The acknowledgements that one socket owes us, each with a `T` to be woken by it.
///
/// Ids count from 0 as in Node. A map belongs to one socket, so a client cannot answer for another. However many answers
/// came late or never, nothing is left of them.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use socketio_proto::Acks;
/// let now = Instant::now();
/// let mut acks = Acks::new(8_192);
/// let id = acks.register("first", Some(now + Duration::from_secs(5))).unwrap();
/// assert_eq!(acks.take(id), Some("first"));
/// assert_eq!(acks.take(id), None);
/// ```
#[derive(Debug)]
pub struct Acks<T> {
    next_id: u64,
    cap: usize,
    waiting: BTreeMap<u64, Waiting<T>>,
    /// Those of `waiting` that have a deadline, the nearest first.
    deadlines: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Waiting<T> {
    deadline: Option<Instant>,
    value: T,
}

/// An ack was refused because too many are awaited already. Hands the value back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cap} acknowledgements are awaited already")]
pub struct TooManyAcks<T> {
    /// The most that may be awaited, [`Limits::max_pending_acks`](crate::Limits::max_pending_acks).
    pub cap: usize,
    /// What was to be registered.
    pub value: T,
}

impl<T> Acks<T> {
    /// Awaits at most `cap` answers at a time. Takes no memory until the first one.
    pub const fn new(cap: usize) -> Self {
        Self { next_id: 0, cap, waiting: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Awaits an answer and returns the id to send; without a deadline it is awaited until [`Acks::drain`].
    ///
    /// # Errors
    /// [`TooManyAcks`] with the value when the cap is reached.
    pub fn register(&mut self, value: T, deadline: Option<Instant>) -> Result<u64, TooManyAcks<T>> {
        if self.waiting.len() >= self.cap {
            return Err(TooManyAcks { cap: self.cap, value });
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(id, Waiting { deadline, value });
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        Ok(id)
    }

    /// Takes what awaits this answer. `None` for an id that was never given out, or was answered or given up before.
    pub fn take(&mut self, id: u64) -> Option<T> {
        let Waiting { deadline, value } = self.waiting.remove(&id)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(value)
    }

    /// Takes everything whose deadline is `now` or earlier, the earliest first. What is not taken from the iterator stays.
    pub fn expire(&mut self, now: Instant) -> impl Iterator<Item = (u64, T)> {
        std::iter::from_fn(move || {
            let &(deadline, id) = self.deadlines.first()?;
            if deadline > now {
                return None;
            }
            self.deadlines.pop_first();
            self.waiting.remove(&id).map(|waiting| (id, waiting.value))
        })
    }

    /// When [`Acks::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes everything, in the order of registration: the socket is gone.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting).into_iter().map(|(id, waiting)| (id, waiting.value))
    }

    /// How many answers are awaited.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no answer is awaited.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
