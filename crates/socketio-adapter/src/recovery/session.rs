//! What is kept of a socket whose client may come back, and since when it was in which room.

use std::collections::VecDeque;
use std::time::Instant;

use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::{RoomName, RoomNames, Selection};

/// Follows one connected socket: what a [`Session`] of it will need.
///
/// Packets that were addressed to the socket before its link broke may have been lost on the way, and rooms may have
/// changed since. So changes are noted with the number of the last packet before them.
#[derive(Debug, Clone)]
pub struct Track {
    /// The newest packet when the client joined. It never had an earlier one.
    start: u64,
    /// Between which packets some were addressed to it, in order: the first and the last of each run.
    ///
    /// A packet that is no longer kept matters only if it was this client's. So gaps are remembered, the large ones for
    /// longest.
    addressed: SmallVec<[(u64, u64); 2]>,
    changes: VecDeque<Change>,
    /// For earlier packets the rooms are not known any more.
    known_from: u64,
}

/// The socket was in `room` for packets after `after`, or was not any more.
#[derive(Debug, Clone)]
struct Change {
    after: u64,
    room: RoomName,
    joined: bool,
}

/// A socket that was connected and whose client may come back.
#[derive(Debug, Clone)]
pub struct Session<D> {
    /// The id of the socket. It keeps it.
    pub id: RoomName,
    /// The rooms it was in, its own among them unless it had left that.
    pub rooms: RoomNames,
    /// What the application knows of it.
    pub data: D,
    /// When it was disconnected.
    pub disconnected: Instant,
    track: Track,
    /// The newest packet when nothing could reach it any more.
    until: u64,
}

/// How many changes of rooms are noted between two packets that may be missed. Beyond it, recovery is refused to
/// clients that would need to know.
const CHANGES: usize = 256;
/// How many runs of addressed packets are told apart.
const RUNS: usize = 16;

impl Track {
    /// A client joins for the first time; `head` is the newest packet.
    pub fn new(head: u64) -> Self {
        Self { start: head, addressed: SmallVec::new(), changes: VecDeque::new(), known_from: 0 }
    }

    /// A packet was addressed to the socket, whether it could be queued or not. `first` is the oldest packet that is kept.
    /// Numbers grow from call to call; others are passed over.
    pub fn addressed(&mut self, number: u64, first: u64) {
        let runs = &mut self.addressed;
        match runs.last_mut() {
            Some((_, last)) if number <= *last => return,
            Some((_, last)) if number == *last + 1 => *last = number,
            _ => runs.push((number, number)),
        }
        // Of what is gone only the end counts.
        let gone = runs.iter().take_while(|(_, last)| *last < first).count();
        if gone > 1 {
            let begin = runs[0].0;
            runs.drain(..gone - 1);
            runs[0].0 = begin;
        }
        if runs.len() > RUNS {
            let gap = |at: &usize| runs[at + 1].0 - runs[*at].1;
            let smallest = (0..runs.len() - 1).min_by_key(gap).expect("there are several");
            let (_, last) = runs.remove(smallest + 1);
            runs[smallest].1 = last;
        }
    }

    /// The newest packet that was addressed to it.
    fn newest(&self) -> u64 {
        self.addressed.last().map_or(0, |(_, last)| *last)
    }

    /// The socket joined (`true`) or left a room. `head` is the newest packet, `first` the oldest that is kept.
    pub fn moved(&mut self, head: u64, first: u64, room: RoomName, joined: bool) {
        while self.changes.front().is_some_and(|change| change.after < first) {
            self.changes.pop_front();
        }
        if head < first {
            // No packet is kept that was sent before.
            return;
        }
        let mut same = self.changes.iter().enumerate().rev().take_while(|(_, change)| change.after == head);
        if let Some((at, _)) = same.find(|(_, change)| change.room == room && change.joined != joined) {
            // In and out again without a packet in between.
            self.changes.remove(at);
            return;
        }
        if self.changes.len() == CHANGES
            && let Some(oldest) = self.changes.pop_front()
        {
            self.known_from = oldest.after + 1;
        }
        self.changes.push_back(Change { after: head, room, joined });
    }
}

impl<D> Session<D> {
    /// What is left of a socket in these rooms. `until` is the newest packet when nothing could reach it any more.
    pub fn new(id: RoomName, rooms: RoomNames, data: D, track: Track, until: u64, disconnected: Instant) -> Self {
        Self { id, rooms, data, disconnected, track, until }
    }

    /// The session goes on with a new socket.
    pub fn into_track(self) -> (RoomName, RoomNames, D, Track) {
        (self.id, self.rooms, self.data, self.track)
    }

    /// Takes these rooms away from it, for the past as well: what was sent to them it has not missed.
    pub fn forget_rooms(&mut self, rooms: &[RoomName]) {
        self.rooms.retain(|room| !rooms.contains(room));
        self.track.changes.retain(|change| !rooms.contains(&change.room));
    }

    /// How many bytes it takes, those of the data not counted.
    pub(crate) fn bytes(&self) -> usize {
        let rooms: usize = self.rooms.iter().map(|room| room.len() + 32).sum();
        let changes: usize = self.track.changes.iter().map(|change| change.room.len() + 48).sum();
        256 + rooms + changes
    }

    /// The newest packet that the client cannot have missed before it joined.
    pub fn start(&self) -> u64 {
        self.track.start
    }

    /// Whether any packet was ever addressed to it.
    pub(crate) fn was_addressed(&self) -> bool {
        self.track.newest() > self.track.start
    }

    /// The first packet that a client may have missed which has everything up to `has`. `first` is the oldest that is kept;
    /// `None` when it may have missed one before that.
    pub(crate) fn missing_from(&self, has: u64, first: u64) -> Option<u64> {
        // It has whatever reached its socket. What came later is what came after the end.
        let from = if has >= self.track.newest() { has.max(self.until) + 1 } else { has + 1 };
        if from >= first {
            return Some(from);
        }
        let overlaps = |(begin, last): &(u64, u64)| *last > has && *begin < first;
        (first <= self.until + 1 && !self.track.addressed.iter().any(overlaps)).then_some(first)
    }

    /// Whether it is known in which rooms the socket was at this packet.
    pub(crate) fn knows_rooms_at(&self, number: u64) -> bool {
        number >= self.track.known_from
    }

    /// The rooms as they were at this packet and later.
    pub(crate) fn rooms_from(&self, number: u64) -> RoomsInTime<'_> {
        let mut rooms: HashSet<RoomName> = self.rooms.iter().cloned().collect();
        let changes = &self.track.changes;
        let next = changes.partition_point(|change| change.after < number);
        for change in changes.range(next..).rev() {
            apply(&mut rooms, &change.room, !change.joined);
        }
        RoomsInTime { rooms, changes, next }
    }
}

/// The rooms of a session, packet by packet.
pub(crate) struct RoomsInTime<'a> {
    rooms: HashSet<RoomName>,
    changes: &'a VecDeque<Change>,
    next: usize,
}

impl RoomsInTime<'_> {
    /// Whether this packet was addressed to the session. Numbers must grow from call to call.
    pub(crate) fn selected(&mut self, number: u64, selection: &Selection) -> bool {
        while let Some(change) = self.changes.get(self.next).filter(|change| change.after < number) {
            apply(&mut self.rooms, &change.room, change.joined);
            self.next += 1;
        }
        let included = selection.rooms.is_empty() || selection.rooms.iter().any(|room| self.rooms.contains(room));
        included && !selection.except.iter().any(|room| self.rooms.contains(room))
    }
}

fn apply(rooms: &mut HashSet<RoomName>, room: &RoomName, joined: bool) {
    if joined {
        rooms.insert(room.clone());
    } else {
        rooms.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_those_of_the_time_of_the_packet() {
        let mut track = Track::new(0);
        track.moved(2, 1, "b".into(), true);
        track.moved(4, 1, "a".into(), false);
        track.moved(4, 1, "c".into(), true);
        let rooms = ["me", "b", "c"].into_iter().map(RoomName::from).collect();
        let session = Session::new("me".into(), rooms, (), track, 5, Instant::now());
        let seen = |room: &str, from: u64| -> Vec<u64> {
            let mut rooms = session.rooms_from(from);
            let to = Selection::everybody().to(room);
            (from..=6).filter(|number| rooms.selected(*number, &to)).collect()
        };
        assert_eq!(seen("a", 1), [1, 2, 3, 4]);
        assert_eq!(seen("b", 1), [3, 4, 5, 6]);
        assert_eq!(seen("c", 1), [5, 6]);
        assert_eq!(seen("me", 1), [1, 2, 3, 4, 5, 6]);
        assert_eq!(seen("b", 4), [4, 5, 6]);
        assert_eq!(seen("c", 6), [6]);
    }

    #[test]
    fn rooms_that_were_taken_away_are_gone_for_the_past_too() {
        let mut track = Track::new(0);
        track.moved(2, 1, "a".into(), true);
        track.moved(3, 1, "b".into(), false);
        let rooms = ["me", "a"].into_iter().map(RoomName::from).collect();
        let mut session = Session::new("me".into(), rooms, (), track, 5, Instant::now());
        session.forget_rooms(&["a".into(), "b".into()]);
        assert_eq!(&*session.rooms, [RoomName::from("me")]);
        for room in ["a", "b"] {
            let mut rooms = session.rooms_from(1);
            assert!(!(1..=6).any(|number| rooms.selected(number, &Selection::everybody().to(room))), "{room}");
        }
    }

    #[test]
    fn gaps_are_remembered_and_the_large_ones_for_longest() {
        let mut track = Track::new(0);
        for number in [1, 2, 3, 1_000] {
            track.addressed(number, 1);
        }
        assert_eq!(track.addressed.as_slice(), [(1, 3), (1_000, 1_000)]);
        // Now and then, for a long time.
        for number in (1_002..3_000).step_by(3) {
            track.addressed(number, 1);
        }
        assert_eq!((track.addressed.len(), track.addressed[0]), (RUNS, (1, 3)));
        let session = |track: Track| Session::new("me".into(), RoomNames::new(), (), track, 3_000, Instant::now());
        let quiet = session(track.clone());
        assert_eq!(quiet.missing_from(3, 900), Some(900));
        assert_eq!(quiet.missing_from(3, 1_000), Some(1_000));
        assert_eq!(quiet.missing_from(3, 1_001), None);
        assert_eq!(quiet.missing_from(2, 900), None);
        assert_eq!(quiet.missing_from(3_000, 3_002), None);
        // What is no longer kept takes no room.
        track.addressed(3_001, 2_999);
        assert!(track.addressed.len() <= 3, "{:?}", track.addressed);
    }

    #[test]
    fn moving_to_and_fro_is_bounded_and_noted_once() {
        let mut track = Track::new(0);
        track.moved(0, 1, "a".into(), true);
        assert!(track.changes.is_empty(), "no packet was sent before");
        for _ in 0..10_000 {
            track.moved(1, 1, "a".into(), true);
            track.moved(1, 1, "a".into(), false);
        }
        assert!(track.changes.is_empty());
        for number in 1..10_000 {
            track.moved(number, 1, "a".into(), number % 2 == 0);
        }
        assert_eq!((track.changes.len(), track.known_from), (CHANGES, 10_000 - CHANGES as u64));
        track.moved(10_000, 9_990, "b".into(), true);
        assert_eq!(track.changes.len(), 11);
    }
}
