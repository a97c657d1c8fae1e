//! The packets that somebody may have missed: a ring with a bound in number, bytes and time.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::Selection;

/// How much a [`PacketLog`] keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLimits {
    /// The most packets. Default: 100,000.
    pub packets: usize,
    /// The most bytes of all packets together, with what is noted about each. Default: 64 MiB.
    pub bytes: usize,
    /// For how long a packet is kept. Default: 165 s, which is two minutes and the time to notice a dead link.
    pub time: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { packets: 100_000, bytes: 64 << 20, time: Duration::from_secs(165) }
    }
}

/// Numbered packets, the oldest first. The first ever has the number 1; a number is found without a search.
pub struct PacketLog<P> {
    limits: LogLimits,
    /// The number of the oldest packet that is kept; one more than the newest when there is none.
    first: u64,
    packets: VecDeque<Logged<P>>,
    bytes: usize,
}

/// A packet, whom it was addressed to, and when.
pub(crate) struct Logged<P> {
    pub(crate) packet: P,
    pub(crate) selection: Selection,
    pub(crate) bytes: usize,
    at: Instant,
}

/// What a packet costs beside its bytes, roughly.
const OVERHEAD: usize = 160;
/// How many packets whose time has passed one new packet takes out: more than it adds, and not all at once.
const PER_PUSH: usize = 8;

impl<P> PacketLog<P> {
    /// An empty log.
    pub fn new(limits: LogLimits) -> Self {
        Self { limits, first: 1, packets: VecDeque::new(), bytes: 0 }
    }

    /// Appends a packet of so many bytes and returns its number. Older ones go if there are too many.
    pub fn push(&mut self, now: Instant, selection: Selection, packet: P, bytes: usize) -> u64 {
        let bytes = bytes + OVERHEAD;
        self.packets.push_back(Logged { packet, selection, bytes, at: now });
        self.bytes += bytes;
        while self.packets.len() > self.limits.packets || self.bytes > self.limits.bytes {
            self.pop();
        }
        self.expire(now, PER_PUSH);
        self.head()
    }

    /// Takes packets out whose time has passed, `most` of them. Returns whether there are more.
    pub fn expire(&mut self, now: Instant, most: usize) -> bool {
        for _ in 0..most {
            if !self.oldest_is_due(now) {
                return false;
            }
            self.pop();
        }
        self.oldest_is_due(now)
    }

    /// Forgets all packets. Their numbers are not used again.
    pub fn clear(&mut self) {
        self.first = self.head() + 1;
        self.packets = VecDeque::new();
        self.bytes = 0;
    }

    /// The number of the newest packet, 0 before the first.
    pub fn head(&self) -> u64 {
        self.first + self.packets.len() as u64 - 1
    }

    /// The number of the oldest packet that is kept; one more than [`head`](Self::head) when there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many packets are kept.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest packet's time has passed.
    pub fn deadline(&self) -> Option<Instant> {
        self.packets.front().and_then(|oldest| oldest.at.checked_add(self.limits.time))
    }

    /// The packets from this number on, each with its number. None when the first of them is no longer kept.
    pub(crate) fn from(&self, number: u64) -> Option<impl Iterator<Item = (u64, &Logged<P>)>> {
        let skip = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let packets = self.packets.range(skip.min(self.packets.len())..);
        Some((number..).zip(packets))
    }

    /// The newest packet for which `is_before` holds, as it does for all before it.
    pub(crate) fn newest_of(&self, mut is_before: impl FnMut(&P) -> bool) -> Option<(u64, &P)> {
        let at = self.packets.partition_point(|logged| is_before(&logged.packet)).checked_sub(1)?;
        Some((self.first + at as u64, &self.packets.get(at)?.packet))
    }

    fn oldest_is_due(&self, now: Instant) -> bool {
        self.packets.front().is_some_and(|oldest| now.saturating_duration_since(oldest.at) > self.limits.time)
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.packets.pop_front() {
            self.bytes -= oldest.bytes;
            self.first += 1;
        }
    }
}

impl<P> fmt::Debug for PacketLog<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketLog")
            .field("first", &self.first)
            .field("len", &self.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(packets: usize, bytes: usize, seconds: u64) -> PacketLog<u64> {
        PacketLog::new(LogLimits { packets, bytes, time: Duration::from_secs(seconds) })
    }

    fn push(log: &mut PacketLog<u64>, now: Instant, bytes: usize) -> u64 {
        let packet = log.head() + 1;
        let number = log.push(now, Selection::everybody(), packet, bytes);
        assert_eq!(number, packet);
        number
    }

    fn kept(log: &PacketLog<u64>, from: u64) -> Option<Vec<u64>> {
        let packets = log.from(from)?;
        Some(packets.map(|(number, logged)| (assert_eq!(number, logged.packet), number).1).collect())
    }

    #[test]
    fn a_number_finds_its_packet_until_it_is_gone() {
        let now = Instant::now();
        let mut log = log(3, usize::MAX, 60);
        assert_eq!((log.head(), log.first(), kept(&log, 1)), (0, 1, Some(vec![])));
        for _ in 0..5 {
            push(&mut log, now, 1);
        }
        assert_eq!((log.head(), log.first(), log.len()), (5, 3, 3));
        assert_eq!(kept(&log, 2), None);
        assert_eq!(kept(&log, 3), Some(vec![3, 4, 5]));
        assert_eq!(kept(&log, 5), Some(vec![5]));
        assert_eq!(kept(&log, 6), Some(vec![]));
        log.clear();
        assert_eq!((log.head(), kept(&log, 5), kept(&log, 6)), (5, None, Some(vec![])));
        assert_eq!(push(&mut log, now, 1), 6);
    }

    #[test]
    fn a_packet_is_found_by_what_grows() {
        let now = Instant::now();
        let mut log = log(3, usize::MAX, 60);
        assert_eq!(log.newest_of(|_| true), None);
        for _ in 0..5 {
            push(&mut log, now, 1);
        }
        for (most, want) in [(2, None), (3, Some(3)), (4, Some(4)), (9, Some(5))] {
            assert_eq!(log.newest_of(|packet| *packet <= most).map(|(number, _)| number), want, "{most}");
        }
    }

    #[test]
    fn bytes_are_bounded() {
        let now = Instant::now();
        let mut log = log(100, 10 * (OVERHEAD + 100), 60);
        for _ in 0..50 {
            push(&mut log, now, 100);
        }
        assert_eq!((log.len(), log.bytes()), (10, 10 * (OVERHEAD + 100)));
        // One that does not fit at all leaves nothing.
        push(&mut log, now, 1 << 20);
        assert_eq!((log.len(), log.bytes(), log.head()), (0, 0, 51));
    }

    #[test]
    fn time_is_bounded_a_few_packets_at_a_time() {
        let begin = Instant::now();
        let mut log = log(1_000, usize::MAX, 10);
        for _ in 0..100 {
            push(&mut log, begin, 1);
        }
        let later = begin + Duration::from_secs(11);
        assert_eq!(log.deadline(), Some(begin + Duration::from_secs(10)));
        push(&mut log, later, 1);
        assert_eq!(log.len(), 101 - PER_PUSH);
        assert!(log.expire(later, 50));
        assert!(!log.expire(later, 50));
        assert_eq!((log.len(), log.first()), (1, 101));
    }
}
