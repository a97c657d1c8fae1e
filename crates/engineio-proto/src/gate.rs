//! Who may come in: how many connections and sessions one address may have, and how fast it may open them.
//!
//! An address is an IPv4 address or the first 64 bits of an IPv6 one, because a single machine has all of the other 64. The
//! table of addresses is bounded; when it is full of addresses that are in use, new ones share one place.
//!
//! What many share is divided fairly: an address may never hold more of it than what is still free. So one that floods gets
//! half of what there is, two get a third each, and a newcomer always finds room.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::Bound,
    time::{Duration, Instant},
};

use crate::rate::{Bucket, Rate};

/// What one address may do. Off by default; `sio serve` has it on where other machines reach it.
///
/// Behind a proxy these are useless, or harmful, until the proxy is named: all clients have its address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressLimits {
    /// TCP connections of the stand-alone listener that are open at once. Default: 256.
    pub connections_per_address: usize,
    /// TCP connections of the stand-alone listener. Default: 200 per second, 400 at once.
    pub connection_rate: Rate,
    /// Sessions that are open at once. Default: 256.
    pub sessions_per_address: usize,
    /// Sessions that may be opened. Default: 50 per second, 200 at once.
    pub session_rate: Rate,
    /// How many addresses are told apart. Default: 100,000.
    pub addresses: usize,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections_per_address: 256,
            connection_rate: Rate::per_second(200).burst(400),
            sessions_per_address: 256,
            session_rate: Rate::per_second(50).burst(200),
            addresses: 100_000,
        }
    }
}

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    /// An address that nobody counts: a trusted proxy's, or none at all.
    Uncounted,
    /// The addresses that found the table full.
    Others,
    V4([u8; 4]),
    /// The first 64 bits.
    V6([u8; 8]),
}

impl Place {
    /// The place of an address; `None` is counted in total only.
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(match address.map(|address| address.to_canonical()) {
            None => Key::Uncounted,
            Some(IpAddr::V4(address)) => Key::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Key::V6([a, b, c, d, e, f, g, h])
            }
        })
    }
}

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The limit that was reached, by its name in the options.
    pub limit: &'static str,
    /// When it may be tried again.
    pub retry_after: Duration,
    /// Whether it was the own doing of this address, rather than that of everybody.
    pub own: bool,
}

/// When there is room again is anybody's guess.
const SOON: Duration = Duration::from_secs(5);

/// Counts who is in.
#[derive(Debug)]
pub struct Gate {
    max_connections: usize,
    max_handshakes: usize,
    limits: Option<AddressLimits>,
    connections: usize,
    handshakes: usize,
    table: BTreeMap<Key, Entry>,
    /// Where the last look for addresses that can be forgotten ended.
    swept: Key,
}

#[derive(Debug)]
struct Entry {
    connections: usize,
    sessions: usize,
    handshakes: usize,
    connecting: Bucket,
    opening: Bucket,
}

/// How many entries are looked at for one that comes.
const SWEEP: usize = 8;

impl Gate {
    /// A gate for so many connections and so many handshakes at once. Without limits for addresses, these are all it counts.
    pub fn new(max_connections: usize, max_handshakes: usize, limits: Option<AddressLimits>) -> Self {
        Self {
            max_connections,
            max_handshakes,
            limits,
            connections: 0,
            handshakes: 0,
            table: BTreeMap::new(),
            swept: Key::Uncounted,
        }
    }

    /// A connection was accepted. What it returns goes back to [`Gate::disconnect`].
    ///
    /// # Errors
    /// [`Denied`] when it is to be closed at once.
    pub fn connect(&mut self, now: Instant, place: Place) -> Result<Place, Denied> {
        let free = self.max_connections.saturating_sub(self.connections);
        if free == 0 {
            return Err(Denied { limit: "max_connections", retry_after: SOON, own: false });
        }
        let key = match self.entry(now, place) {
            None => Key::Uncounted,
            Some((key, entry, limits)) => {
                if entry.connections >= limits.connections_per_address {
                    return Err(Denied { limit: "connections_per_address", retry_after: SOON, own: true });
                }
                if entry.connections >= free {
                    return Err(Denied { limit: "max_connections", retry_after: SOON, own: true });
                }
                let taken = entry.connecting.take(limits.connection_rate, now, 1);
                taken.map_err(|retry_after| Denied { limit: "connection_rate", retry_after, own: true })?;
                entry.connections += 1;
                key
            }
        };
        self.connections += 1;
        Ok(Place(key))
    }

    /// A connection has ended, or its WebSocket has.
    pub fn disconnect(&mut self, now: Instant, place: Place) {
        self.connections = self.connections.saturating_sub(1);
        self.leave(now, place, |entry| &mut entry.connections);
    }

    /// A handshake begins, of TLS or of Engine.IO. What it returns goes back to [`Gate::end_handshake`].
    ///
    /// # Errors
    /// [`Denied`] when there are too many of them.
    pub fn begin_handshake(&mut self, now: Instant, place: Place) -> Result<Place, Denied> {
        let free = self.max_handshakes.saturating_sub(self.handshakes);
        let denied = |own| Denied { limit: "max_handshakes", retry_after: SOON, own };
        if free == 0 {
            return Err(denied(false));
        }
        let key = match self.entry(now, place) {
            None => Key::Uncounted,
            Some((_, entry, _)) if entry.handshakes >= free => return Err(denied(true)),
            Some((key, entry, _)) => {
                entry.handshakes += 1;
                key
            }
        };
        self.handshakes += 1;
        Ok(Place(key))
    }

    /// A handshake is over, whatever came of it.
    pub fn end_handshake(&mut self, now: Instant, place: Place) {
        self.handshakes = self.handshakes.saturating_sub(1);
        self.leave(now, place, |entry| &mut entry.handshakes);
    }

    /// A session is to be opened. What it returns goes back to [`Gate::close`].
    ///
    /// # Errors
    /// [`Denied`] when this address has too many, or opens them too fast.
    pub fn open(&mut self, now: Instant, place: Place) -> Result<Place, Denied> {
        let Some((key, entry, limits)) = self.entry(now, place) else { return Ok(Place(Key::Uncounted)) };
        if entry.sessions >= limits.sessions_per_address {
            return Err(Denied { limit: "sessions_per_address", retry_after: SOON, own: true });
        }
        let taken = entry.opening.take(limits.session_rate, now, 1);
        taken.map_err(|retry_after| Denied { limit: "session_rate", retry_after, own: true })?;
        entry.sessions += 1;
        Ok(Place(key))
    }

    /// A session has ended.
    pub fn close(&mut self, now: Instant, place: Place) {
        self.leave(now, place, |entry| &mut entry.sessions);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many handshakes are going on.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// How many addresses are remembered.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    /// The entry of an address, a new one if need be; `None` if it is not counted.
    fn entry(&mut self, now: Instant, place: Place) -> Option<(Key, &mut Entry, &AddressLimits)> {
        let most = self.limits.as_ref()?.addresses;
        if place.0 == Key::Uncounted {
            return None;
        }
        let mut key = place.0;
        if !self.table.contains_key(&key) {
            self.sweep(now);
            if self.table.len() >= most {
                key = Key::Others;
            }
        }
        let limits = self.limits.as_ref()?;
        let entry = self.table.entry(key).or_insert_with(|| Entry {
            connections: 0,
            sessions: 0,
            handshakes: 0,
            connecting: Bucket::full(limits.connection_rate, now),
            opening: Bucket::full(limits.session_rate, now),
        });
        Some((key, entry, limits))
    }

    fn leave(&mut self, now: Instant, place: Place, count: impl FnOnce(&mut Entry) -> &mut usize) {
        let Some(limits) = &self.limits else { return };
        let Some(entry) = self.table.get_mut(&place.0) else { return };
        let count = count(entry);
        *count = count.saturating_sub(1);
        if entry.can_be_forgotten(limits, now) {
            self.table.remove(&place.0);
        }
    }

    /// Looks at some entries and forgets those that say nothing any more. For every address that comes, several are looked
    /// at, so the table does not grow with addresses that have left.
    fn sweep(&mut self, now: Instant) {
        let Some(limits) = &self.limits else { return };
        let mut gone = Vec::new();
        let mut looked = 0;
        for (key, entry) in self.table.range((Bound::Excluded(self.swept), Bound::Unbounded)).take(SWEEP) {
            looked += 1;
            self.swept = *key;
            if entry.can_be_forgotten(limits, now) {
                gone.push(*key);
            }
        }
        if looked < SWEEP {
            self.swept = Key::Uncounted;
        }
        for key in gone {
            self.table.remove(&key);
        }
    }
}

impl Entry {
    fn can_be_forgotten(&self, limits: &AddressLimits, now: Instant) -> bool {
        self.connections == 0
            && self.sessions == 0
            && self.handshakes == 0
            && self.connecting.is_full(limits.connection_rate, now)
            && self.opening.is_full(limits.session_rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> Place {
        Place::of(Some(address.parse().unwrap()))
    }

    fn limits() -> AddressLimits {
        AddressLimits {
            connections_per_address: 3,
            connection_rate: Rate::per_second(2).burst(10),
            sessions_per_address: 2,
            session_rate: Rate::per_second(1).burst(4),
            addresses: 4,
        }
    }

    #[track_caller]
    fn denied(result: Result<Place, Denied>, limit: &str, own: bool) {
        let denied = result.expect_err("it is denied");
        assert_eq!((denied.limit, denied.own), (limit, own));
        assert!(denied.retry_after > Duration::ZERO);
    }

    #[test]
    fn an_ipv6_address_is_its_first_64_bits() {
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff::"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("192.0.2.1"), place("::ffff:192.0.2.1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
    }

    #[test]
    fn an_address_has_so_many_connections_and_opens_them_so_fast() {
        let now = Instant::now();
        let mut gate = Gate::new(1_000, 1_000, Some(limits()));
        let (one, two) = (place("192.0.2.1"), place("192.0.2.2"));
        for _ in 0..3 {
            gate.connect(now, one).unwrap();
        }
        denied(gate.connect(now, one), "connections_per_address", true);
        gate.connect(now, two).unwrap();
        gate.disconnect(now, one);
        gate.connect(now, one).unwrap();
        // It comes and goes: six more at once, then two per second.
        for _ in 0..6 {
            gate.disconnect(now, one);
            gate.connect(now, one).unwrap();
        }
        gate.disconnect(now, one);
        denied(gate.connect(now, one), "connection_rate", true);
        assert_eq!(gate.connect(now, one).unwrap_err().retry_after, Duration::from_millis(500));
        gate.connect(now + Duration::from_millis(500), one).unwrap();
        assert_eq!(gate.connections(), 4);
    }

    #[test]
    fn an_address_has_so_many_sessions_and_opens_them_so_fast() {
        let now = Instant::now();
        let mut gate = Gate::new(1_000, 1_000, Some(limits()));
        let one = place("2001:db8::1");
        let kept = gate.open(now, one).unwrap();
        gate.open(now, place("2001:db8::2")).unwrap();
        denied(gate.open(now, one), "sessions_per_address", true);
        gate.close(now, kept);
        gate.open(now, one).unwrap();
        gate.close(now, one);
        gate.open(now, one).unwrap();
        gate.close(now, one);
        denied(gate.open(now, one), "session_rate", true);
        gate.open(now + Duration::from_secs(1), one).unwrap();
    }

    #[test]
    fn one_address_never_holds_more_than_what_is_free() {
        let now = Instant::now();
        let mut limits = limits();
        (limits.connections_per_address, limits.connection_rate) = (1_000, Rate::per_second(1_000));
        let mut gate = Gate::new(100, 12, Some(limits));
        let took =
            |gate: &mut Gate, address: &str| (0..200).take_while(|_| gate.connect(now, place(address)).is_ok()).count();
        assert_eq!(took(&mut gate, "192.0.2.1"), 50);
        assert_eq!(took(&mut gate, "192.0.2.2"), 25);
        assert_eq!(took(&mut gate, "192.0.2.3"), 13);
        denied(gate.connect(now, place("192.0.2.1")), "max_connections", true);
        // Handshakes the same way.
        let mut began =
            |address: &str| (0..20).take_while(|_| gate.begin_handshake(now, place(address)).is_ok()).count();
        assert_eq!((began("192.0.2.1"), began("192.0.2.2"), began("192.0.2.3")), (6, 3, 2));
    }

    #[test]
    fn without_limits_for_addresses_only_the_totals_count() {
        let now = Instant::now();
        let mut gate = Gate::new(3, 2, None);
        let one = place("192.0.2.1");
        for _ in 0..3 {
            gate.connect(now, one).unwrap();
        }
        denied(gate.connect(now, one), "max_connections", false);
        gate.begin_handshake(now, one).unwrap();
        gate.begin_handshake(now, one).unwrap();
        denied(gate.begin_handshake(now, one), "max_handshakes", false);
        assert_eq!((gate.addresses(), gate.handshakes()), (0, 2));
        // A proxy's connections are everybody's.
        let mut gate = Gate::new(100, 2, Some(limits()));
        for _ in 0..50 {
            gate.connect(now, Place::of(None)).unwrap();
        }
        assert_eq!(gate.addresses(), 0);
    }

    #[test]
    fn the_table_forgets_who_has_left_and_is_never_larger_than_it_may_be() {
        let now = Instant::now();
        let mut gate = Gate::new(1_000_000, 10, Some(limits()));
        // Flooded by addresses that come once each: they are forgotten as soon as their rates have recovered.
        for at in 0..10_000_u32 {
            let place = Place::of(Some(IpAddr::from(at.to_be_bytes())));
            let later = now + Duration::from_secs(u64::from(at));
            let place = gate.connect(later, place).unwrap();
            gate.disconnect(later, place);
            assert!(gate.addresses() <= 5, "{}", gate.addresses());
        }
        // Held by addresses that stay: new ones share a place, and have what one address has.
        let mut gate = Gate::new(1_000_000, 10, Some(limits()));
        for last in 1..=4 {
            gate.connect(now, place(&format!("192.0.2.{last}"))).unwrap();
        }
        let shared = [5, 6, 7].map(|last| gate.connect(now, place(&format!("192.0.2.{last}"))).unwrap());
        denied(gate.connect(now, place("192.0.2.8")), "connections_per_address", true);
        assert_eq!(gate.addresses(), 5);
        gate.disconnect(now, shared[0]);
        gate.connect(now, place("192.0.2.8")).unwrap();
        // The old ones have their own places still.
        gate.connect(now, place("192.0.2.1")).unwrap();
    }
}
