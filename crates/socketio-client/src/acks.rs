//! Which answers a socket awaits. Ids count from 0, each is given once.

use std::collections::{BTreeMap, BTreeSet};

use socketio_core::AckError;
use socketio_proto::OwnedArgs;
use tokio::{sync::oneshot, time::Instant};

pub(crate) type Answer = oneshot::Sender<Result<OwnedArgs, AckError>>;

#[derive(Default)]
pub(crate) struct Acks {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    deadlines: BTreeSet<(Instant, u64)>,
}

struct Waiting {
    answer: Option<Answer>,
    deadline: Option<Instant>,
    /// The event has not left yet, or will be sent again: it outlives a connection.
    kept: bool,
}

impl Acks {
    /// `None` when too many are awaited.
    pub(crate) fn register(&mut self, answer: Option<Answer>, deadline: Option<Instant>, kept: bool) -> Option<u64> {
        if self.waiting.len() >= MAX_ACKS {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, Waiting { answer, deadline, kept });
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        Some(id)
    }

    /// The event is on its way: its answer is lost with the connection.
    pub(crate) fn sent(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.kept = false;
        }
    }

    /// Whether the answer is still awaited, and by somebody.
    pub(crate) fn is_awaited(&self, id: u64) -> bool {
        self.waiting.get(&id).is_some_and(|waiting| waiting.answer.as_ref().is_none_or(|answer| !answer.is_closed()))
    }

    pub(crate) fn finish(&mut self, id: u64, result: Result<OwnedArgs, AckError>) -> bool {
        let Some(waiting) = self.waiting.remove(&id) else { return false };
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(answer) = waiting.answer {
            // Whoever asked may not want to know any more.
            let _ = answer.send(result);
        }
        true
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Gives up what is due; returns the ids.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.finish(id, Err(AckError::Timeout));
            expired.push(id);
        }
        expired
    }

    /// The connection is lost (`all`: for good).
    pub(crate) fn lost(&mut self, all: bool) {
        let lost: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| all || !waiting.kept).map(|(id, _)| *id).collect();
        for id in lost {
            self.finish(id, Err(AckError::Disconnected));
        }
    }
}

const MAX_ACKS: usize = 65_536;
