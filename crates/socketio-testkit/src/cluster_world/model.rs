//! What must be: sets of sockets and rooms, who has heard whom, and what of each question is still to come.
//!
//! Nothing here looks into a machine. It is told what happens, in its own words, and says what has to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use socketio_adapter::Selection;
use socketio_adapter::cluster::{ClusterOptions, Membership, Question};

/// A server, by its number; numbers are never used twice.
pub(super) type Host = usize;

/// What one server has to know.
pub(super) struct View {
    pub(super) membership: Membership,
    /// The rooms of its sockets. Each is in one of its own name.
    pub(super) sockets: BTreeMap<String, BTreeSet<String>>,
    /// When others were heard, by the clock of this server.
    pub(super) heard: BTreeMap<Host, Instant>,
    settled_at: Instant,
    /// Until when it has to say that it is there, because it was asked.
    pub(super) owes: Option<Instant>,
    pub(super) questions: BTreeMap<usize, Open>,
    options: ClusterOptions,
}

/// A question of this server.
pub(super) struct Open {
    pub(super) kind: Question,
    deadline: Instant,
    not_before: Option<Instant>,
    /// Who is to answer.
    named: BTreeSet<Host>,
    /// How many are, where they have no names; `None` when nobody has told.
    pub(super) counted: Option<usize>,
    answered: BTreeSet<Host>,
    /// Answers, where they have no names.
    answers: usize,
    /// Fell silent before they had answered.
    silent: usize,
    /// Clients that have to answer, by server where it is known.
    clients: BTreeMap<Option<Host>, i64>,
    /// What was handed to whoever asked: servers, and clients.
    pub(super) got: BTreeSet<String>,
}

impl View {
    pub(super) fn new(membership: Membership, options: ClusterOptions, now: Instant) -> Self {
        let settled_at = now + options.settle;
        Self {
            membership,
            sockets: BTreeMap::new(),
            heard: BTreeMap::new(),
            settled_at,
            owes: None,
            questions: BTreeMap::new(),
            options,
        }
    }

    /// Whom a selection means.
    pub(super) fn selected(&self, selection: &Selection) -> BTreeSet<String> {
        let is_in = |rooms: &BTreeSet<String>, room: &str| rooms.contains(room);
        let wanted = |rooms: &BTreeSet<String>| {
            (selection.rooms.is_empty() || selection.rooms.iter().any(|room| is_in(rooms, room)))
                && !selection.except.iter().any(|room| is_in(rooms, room))
        };
        self.sockets.iter().filter(|(_, rooms)| wanted(rooms)).map(|(id, _)| id.clone()).collect()
    }

    /// The connection was made again.
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.heard.values_mut().for_each(|last| *last = now);
        self.settled_at = now + self.options.settle;
    }

    /// Another server was heard.
    pub(super) fn hears(&mut self, host: Host, now: Instant, heartbeat: bool) {
        if self.membership == Membership::Counted {
            return;
        }
        let new = self.heard.insert(host, now).is_none();
        if new && heartbeat {
            for open in self.questions.values_mut().filter(|open| open.not_before.is_some()) {
                if !open.answered.contains(&host) {
                    open.named.insert(host);
                }
            }
        }
    }

    /// Another server has said goodbye.
    pub(super) fn leaves(&mut self, host: Host) {
        if self.membership == Membership::Heartbeat && self.heard.remove(&host).is_some() {
            for open in self.questions.values_mut() {
                open.named.remove(&host);
                open.clients.remove(&Some(host));
            }
        }
    }

    /// Time has passed: whoever was silent for too long is gone, and what was waited for has come or not.
    pub(super) fn time(&mut self, now: Instant) {
        let limit = self.options.heartbeat_timeout;
        let gone: Vec<Host> =
            self.heard.iter().filter(|(_, last)| now.duration_since(**last) > limit).map(|(host, _)| *host).collect();
        for host in gone {
            self.heard.remove(&host);
            for open in self.questions.values_mut() {
                open.silent += usize::from(open.named.remove(&host));
                open.clients.remove(&Some(host));
            }
        }
        for open in self.questions.values_mut() {
            open.not_before = open.not_before.filter(|at| *at > now);
        }
    }

    pub(super) fn asks(&mut self, number: usize, kind: Question, now: Instant, within: Duration) {
        let open = Open {
            kind,
            deadline: now + within,
            not_before: Some(self.settled_at).filter(|at| *at > now && self.membership == Membership::Heartbeat),
            named: self.heard.keys().copied().collect(),
            counted: None,
            answered: BTreeSet::new(),
            answers: 0,
            silent: 0,
            clients: BTreeMap::new(),
            got: BTreeSet::new(),
        };
        self.questions.insert(number, open);
    }
}

impl Open {
    /// A server answers. Whether that is news.
    pub(super) fn answer(&mut self, from: Option<Host>) -> bool {
        if let Some(host) = from {
            if !self.answered.insert(host) {
                return false;
            }
            self.named.remove(&host);
        }
        self.answers += 1;
        true
    }

    pub(super) fn clients(&mut self, from: Option<Host>, change: i64) {
        *self.clients.entry(from).or_default() += change;
    }

    /// How many servers have not answered.
    pub(super) fn missing(&self, membership: Membership) -> usize {
        match membership {
            Membership::Heartbeat => self.named.len() + self.silent,
            // When the broker did not tell, somebody may be missing.
            Membership::Counted => self.counted.map_or(1, |count| count.saturating_sub(1 + self.answers)),
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_complete(&self, membership: Membership, now: Instant) -> bool {
        let answered = match membership {
            Membership::Heartbeat => self.named.is_empty(),
            Membership::Counted => self.counted.is_some() && self.missing(membership) == 0,
        };
        let all =
            answered && self.clients.values().all(|left| *left <= 0) && self.not_before.is_none_or(|at| at <= now);
        all || self.deadline <= now
    }
}
