//! Connection state recovery in memory: what clients may have missed, and who may come back.
//!
//! [`Recovery`] keeps the packets of one namespace in a bounded [`PacketLog`] and a [`Session`] for every client that has
//! gone. It is plain data without a clock or randomness; whoever shares it puts it behind one lock, and takes a packet's
//! number, queues the packet for its recipients and moves sockets between rooms under that lock. Then this holds: a client
//! that says "I have everything up to *n*" really has, and what it misses is what was addressed to it after *n*.
//!
//! How offsets look: [`Offsets`]. How rooms that change are remembered: [`Track`]. How servers that share a log keep one order:
//! [`Line`].

mod line;
mod log;
mod offset;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::Selection;

pub use line::{Line, LineLimits, Mark, Place};
pub use log::{LogLimits, PacketLog};
pub use offset::{Offset, OffsetKind, Offsets};
pub use session::{Session, Track};

/// The secret by which a client finds its session again. Node: `pid`.
pub type Pid = Arc<str>;

/// How much a [`Recovery`] keeps, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// For how long a client may be away. Default: 2 minutes. Node: `maxDisconnectionDuration`.
    pub away: Duration,
    /// The most clients that may be away. Beyond it the one goes that has been away longest. Default: 10,000.
    pub sessions: usize,
    /// The most bytes of all sessions together. Default: 16 MiB.
    pub session_bytes: usize,
    /// What is kept of the packets.
    pub log: LogLimits,
}

impl Default for RecoveryLimits {
    fn default() -> Self {
        let away = Duration::from_secs(120);
        Self { away, sessions: 10_000, session_bytes: 16 << 20, log: LogLimits::default() }
    }
}

/// Why a client does not get its session back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotRecoverable {
    /// There is no such session: it never was, has ended in a way that does not allow it, or was given up.
    #[error("there is no such session")]
    UnknownSession,
    /// The client was away for too long.
    #[error("the session has expired")]
    Expired,
    /// The offset was not made here.
    #[error("the offset is unknown")]
    UnknownOffset,
    /// Packets that the client may have missed are no longer kept.
    #[error("missed packets are no longer kept")]
    Trimmed,
    /// The client missed more than may be sent at once.
    #[error("too much was missed")]
    TooMuch,
    /// The client comes from another server, and where events of this server stand is not known at the moment.
    #[error("events have no place in the log of the cluster")]
    Unsettled,
}

/// What a client has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed<P> {
    /// The packets in their order.
    pub packets: Vec<P>,
    /// Their numbers.
    pub numbers: Vec<u64>,
}

/// Room for so many sessions is not worth giving back.
const LITTLE_ROOM: usize = 64;

/// Packets and sessions of one namespace. `P` is a packet, cheap to clone; `D` what the application knows of a socket.
pub struct Recovery<P, D> {
    limits: RecoveryLimits,
    offsets: Offsets,
    log: PacketLog<P>,
    sessions: HashMap<Pid, Stored<D>>,
    /// In the order in which they expire; the number tells apart what happened at the same moment.
    order: BTreeMap<(Instant, u64), Pid>,
    stored: u64,
    session_bytes: usize,
}

struct Stored<D> {
    session: Session<D>,
    key: (Instant, u64),
    bytes: usize,
}

impl<P, D> Recovery<P, D> {
    /// Nothing yet. `random` tells the offsets of this one from those of others.
    pub fn new(limits: RecoveryLimits, random: u64) -> Self {
        Self {
            offsets: Offsets::new(random),
            log: PacketLog::new(limits.log.clone()),
            limits,
            sessions: HashMap::new(),
            order: BTreeMap::new(),
            stored: 0,
            session_bytes: 0,
        }
    }

    /// Appends a packet of so many bytes and returns its number: [`next`](Self::next) before the call.
    pub fn push(&mut self, now: Instant, selection: Selection, packet: P, bytes: usize) -> u64 {
        self.log.push(now, selection, packet, bytes)
    }

    /// Keeps a session. Returns those that had to go for it, with their secrets.
    ///
    /// A session that comes back to the store, because its client went away before it was connected again, keeps the time
    /// at which it was disconnected.
    pub fn persist(&mut self, pid: Pid, session: Session<D>, data_bytes: usize) -> Vec<(Pid, Session<D>)> {
        let mut gone = Vec::new();
        if let Some(before) = self.remove(&pid) {
            gone.push((pid.clone(), before));
        }
        self.stored += 1;
        let key = (session.disconnected, self.stored);
        let bytes = session.bytes() + data_bytes;
        self.session_bytes += bytes;
        self.order.insert(key, pid.clone());
        self.sessions.insert(pid, Stored { session, key, bytes });
        while self.sessions.len() > self.limits.sessions || self.session_bytes > self.limits.session_bytes {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(session) = self.remove(&oldest) {
                gone.push((oldest, session));
            }
        }
        gone
    }

    /// Takes a session out. It can be had once.
    ///
    /// # Errors
    /// [`NotRecoverable::UnknownSession`]. One that has expired is left for [`expire`](Self::expire):
    /// [`NotRecoverable::Expired`].
    pub fn take(&mut self, pid: &str, now: Instant) -> Result<Session<D>, NotRecoverable> {
        let stored = self.sessions.get(pid).ok_or(NotRecoverable::UnknownSession)?;
        if self.has_expired(stored.key.0, now) {
            return Err(NotRecoverable::Expired);
        }
        self.remove(pid).ok_or(NotRecoverable::UnknownSession)
    }

    /// Whether there is a session with this secret, expired or not.
    pub fn has(&self, pid: &str) -> bool {
        self.sessions.contains_key(pid)
    }

    /// Takes out the sessions whose time has passed, `most` of them, and as many packets.
    pub fn expire(&mut self, now: Instant, most: usize) -> Vec<(Pid, Session<D>)> {
        self.log.expire(now, most);
        let mut gone = Vec::new();
        while gone.len() < most
            && let Some((key, _)) = self.order.first_key_value()
            && self.has_expired(key.0, now)
            && let Some((_, pid)) = self.order.pop_first()
        {
            if let Some(session) = self.remove(&pid) {
                gone.push((pid, session));
            }
        }
        gone
    }

    /// When the time of the first session has passed. For packets ask [`PacketLog::deadline`].
    pub fn session_deadline(&self) -> Option<Instant> {
        self.order.first_key_value().and_then(|(key, _)| key.0.checked_add(self.limits.away))
    }

    /// Forgets all packets: nobody is left who could have missed one.
    pub fn forget_packets(&mut self) {
        self.log.clear();
    }

    /// The offset that [`push`](Self::push) gives out next.
    pub fn next(&self) -> Offset {
        self.offsets.write(self.log.head() + 1)
    }

    /// The offset of the newest packet: whoever has this has everything so far.
    pub fn position(&self) -> Offset {
        self.offsets.write(self.log.head())
    }

    /// How offsets are written.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The newest number for which `is_before` holds, and its packet; it has to hold for all packets before that, too.
    pub fn newest_of(&self, is_before: impl FnMut(&P) -> bool) -> Option<(u64, &P)> {
        self.log.newest_of(is_before)
    }

    /// The packets from this number on, with their numbers and whom they were for. `None` when the first of them is no longer
    /// kept.
    pub fn from(&self, number: u64) -> Option<impl Iterator<Item = (u64, &Selection, &P)>> {
        let logged = self.log.from(number)?;
        Some(logged.map(|(number, logged)| (number, &logged.selection, &logged.packet)))
    }

    /// The packets.
    pub fn log(&self) -> &PacketLog<P> {
        &self.log
    }

    /// How many sessions are kept.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many bytes the sessions take.
    pub fn session_bytes(&self) -> usize {
        self.session_bytes
    }

    /// Takes out a session by its secret, expired or not.
    pub fn remove(&mut self, pid: &str) -> Option<Session<D>> {
        let stored = self.sessions.remove(pid)?;
        // What many who were away at once had made room for is given back when they are gone.
        let room = self.sessions.capacity();
        if room > LITTLE_ROOM && self.sessions.len() < room / 8 {
            self.sessions.shrink_to(2 * self.sessions.len());
        }
        self.order.remove(&stored.key);
        self.session_bytes -= stored.bytes;
        Some(stored.session)
    }

    fn has_expired(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) > self.limits.away
    }
}

impl<P: Clone, D> Recovery<P, D> {
    /// What the client of this session has missed, given the offset that it sent.
    ///
    /// No offset means that it never got a packet with one, and so does a foreign one: it is left over from a connection
    /// before this session, since every packet that would have replaced it carries one of ours. The packets may have
    /// `packets` in number and `bytes` together.
    ///
    /// # Errors
    /// Why the session cannot go on. It is of no use then.
    pub fn missed<T>(
        &self,
        session: &Session<T>,
        offset: Option<&str>,
        packets: usize,
        bytes: usize,
    ) -> Result<Missed<P>, NotRecoverable> {
        let has = match offset.map(|offset| self.offsets.read(offset)) {
            None | Some(OffsetKind::Foreign) => session.start(),
            Some(OffsetKind::Ours(number)) if number <= self.log.head() => number.max(session.start()),
            Some(OffsetKind::Malformed) if !session.was_addressed() => session.start(),
            Some(OffsetKind::Ours(_) | OffsetKind::Malformed) => return Err(NotRecoverable::UnknownOffset),
        };
        let from = session.missing_from(has, self.log.first()).ok_or(NotRecoverable::Trimmed)?;
        let logged = self.log.from(from).ok_or(NotRecoverable::Trimmed)?;
        if !session.knows_rooms_at(from) {
            return Err(NotRecoverable::Trimmed);
        }
        let mut rooms = session.rooms_from(from);
        let mut missed = Missed { packets: Vec::new(), numbers: Vec::new() };
        let mut total = 0;
        for (number, logged) in logged {
            if !rooms.selected(number, &logged.selection) {
                continue;
            }
            total += logged.bytes;
            if missed.packets.len() == packets || total > bytes {
                return Err(NotRecoverable::TooMuch);
            }
            missed.packets.push(logged.packet.clone());
            missed.numbers.push(number);
        }
        Ok(missed)
    }
}

impl<P, D> fmt::Debug for Recovery<P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("log", &self.log)
            .field("sessions", &self.sessions.len())
            .field("session_bytes", &self.session_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomName;

    const ALL: usize = usize::MAX;

    fn recovery() -> Recovery<&'static str, ()> {
        let log = LogLimits { packets: 10, ..LogLimits::default() };
        Recovery::new(RecoveryLimits { sessions: 3, log, ..RecoveryLimits::default() }, 1)
    }

    fn session(rooms: &[&str], track: Track, until: u64, at: Instant) -> Session<()> {
        let rooms = rooms.iter().map(|room| RoomName::from(*room)).collect();
        Session::new("me".into(), rooms, (), track, until, at)
    }

    fn push(recovery: &mut Recovery<&'static str, ()>, now: Instant, to: &[&str], packet: &'static str) -> Offset {
        let offset = recovery.next();
        recovery.push(now, Selection::everybody().to(to), packet, 10);
        assert_eq!(recovery.position(), offset);
        offset
    }

    #[test]
    fn missed_packets_come_in_order_and_only_those_of_the_session() {
        let now = Instant::now();
        let mut recovery = recovery();
        let mut track = Track::new(0);
        let one = push(&mut recovery, now, &["me"], "one");
        let two = push(&mut recovery, now, &[], "two");
        track.addressed(2, 1);
        push(&mut recovery, now, &["other"], "not mine");
        let session = session(&["me", "room"], track, 3, now);
        push(&mut recovery, now, &["room", "other"], "three");
        recovery.push(now, Selection::everybody().except("room"), "excluded", 10);
        push(&mut recovery, now, &["me"], "four");
        let last = recovery.position();

        let check = |offset: Option<&str>, want: Result<&[&str], NotRecoverable>| {
            let got = recovery.missed(&session, offset, ALL, ALL).map(|missed| missed.packets);
            assert_eq!(got.as_deref().map_err(|error| *error), want, "{offset:?}");
        };
        check(Some(two.as_str()), Ok(&["three", "four"]));
        // The link broke before the second came.
        check(Some(one.as_str()), Ok(&["two", "three", "four"]));
        // It never got anything, or has something from before.
        check(None, Ok(&["one", "two", "three", "four"]));
        check(Some(Offsets::new(2).write(2).as_str()), Ok(&["one", "two", "three", "four"]));
        check(Some(last.as_str()), Ok(&[]));
        check(Some("connected"), Err(NotRecoverable::UnknownOffset));
        check(Some(recovery.next().as_str()), Err(NotRecoverable::UnknownOffset));
        let missed = |packets, bytes| recovery.missed(&session, None, packets, bytes).map(|missed| missed.numbers);
        assert_eq!(missed(4, ALL), Ok(vec![1, 2, 4, 6]));
        assert_eq!(missed(3, ALL), Err(NotRecoverable::TooMuch));
        assert_eq!(missed(4, 100), Err(NotRecoverable::TooMuch));
    }

    #[test]
    fn an_old_offset_is_good_while_nothing_was_addressed_to_the_client_since() {
        let now = Instant::now();
        let mut recovery = recovery();
        let mut track = Track::new(0);
        let mine = push(&mut recovery, now, &["me"], "mine");
        track.addressed(1, 1);
        for _ in 0..100 {
            push(&mut recovery, now, &["others"], "theirs");
        }
        let until = recovery.log().head();
        let quiet = session(&["me"], track.clone(), until, now);
        push(&mut recovery, now, &["me"], "missed");
        let missed = recovery.missed(&quiet, Some(mine.as_str()), ALL, ALL).map(|missed| missed.packets);
        assert_eq!(missed, Ok(vec!["missed"]));
        // Not so when something was on its way that is gone now.
        track.addressed(50, 1);
        let lossy = session(&["me"], track, until, now);
        assert_eq!(recovery.missed(&lossy, Some(mine.as_str()), ALL, ALL), Err(NotRecoverable::Trimmed));
        // And a client that was away while everything passed by has missed who knows what.
        for _ in 0..100 {
            push(&mut recovery, now, &["others"], "theirs");
        }
        assert_eq!(recovery.missed(&quiet, Some(mine.as_str()), ALL, ALL), Err(NotRecoverable::Trimmed));
    }

    #[test]
    fn a_session_is_had_once_and_in_time() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let mut recovery = recovery();
        let track = Track::new(0);
        assert!(recovery.persist("a".into(), session(&["me"], track.clone(), 0, begin), 0).is_empty());
        assert!(recovery.persist("b".into(), session(&["me"], track.clone(), 0, begin + 60 * second), 0).is_empty());
        assert_eq!(recovery.take("nobody", begin).err(), Some(NotRecoverable::UnknownSession));
        assert_eq!(recovery.session_deadline(), Some(begin + 120 * second));
        assert_eq!(recovery.take("a", begin + 121 * second).err(), Some(NotRecoverable::Expired));
        assert!(recovery.take("b", begin + 121 * second).is_ok());
        assert_eq!(recovery.take("b", begin + 121 * second).err(), Some(NotRecoverable::UnknownSession));
        let gone = recovery.expire(begin + 121 * second, 10);
        assert_eq!(gone.iter().map(|(pid, _)| &**pid).collect::<Vec<_>>(), ["a"]);
        assert_eq!((recovery.sessions(), recovery.session_bytes(), recovery.session_deadline()), (0, 0, None));
    }

    #[test]
    fn many_who_were_away_at_once_leave_no_room_behind() {
        let now = Instant::now();
        let mut recovery = recovery();
        recovery.limits.sessions = 10_000;
        for number in 0..10_000 {
            recovery.persist(number.to_string().as_str().into(), session(&[], Track::new(0), 0, now), 0);
        }
        assert!(recovery.sessions.capacity() >= 10_000);
        let later = now + recovery.limits.away + Duration::from_secs(1);
        while !recovery.expire(later, 100).is_empty() {
            assert!(recovery.sessions.capacity() <= (16 * recovery.sessions()).max(2 * LITTLE_ROOM));
        }
        assert_eq!((recovery.sessions(), recovery.order.len()), (0, 0));
        assert!(recovery.sessions.capacity() <= 2 * LITTLE_ROOM);
    }

    #[test]
    fn the_longest_away_make_room() {
        let begin = Instant::now();
        let mut recovery = recovery();
        let mut gone = Vec::new();
        for (index, pid) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            let at = begin + Duration::from_secs(10 - index as u64);
            gone.extend(recovery.persist(pid.into(), session(&["me"], Track::new(0), 0, at), 0));
        }
        // The later ones have been away for longer.
        assert_eq!(gone.iter().map(|(pid, _)| &**pid).collect::<Vec<_>>(), ["d", "e"]);
        let mut tight = Recovery::<(), ()>::new(RecoveryLimits { session_bytes: 1_000, ..Default::default() }, 1);
        for index in 0..10_000 {
            let session = session(&["me"], Track::new(0), 0, begin);
            tight.persist(index.to_string().into(), session, 100);
            assert!(tight.session_bytes() <= 1_000 && tight.sessions() <= 3);
        }
        // A session that is larger than all the room there is does not stay, and nothing else does.
        let large = tight.persist("large".into(), session(&["me"], Track::new(0), 0, begin), 10_000);
        assert_eq!((large.len(), tight.sessions(), tight.session_bytes()), (3, 0, 0));
    }
}
