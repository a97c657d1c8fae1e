//! The connection machine as a list of operations. A first byte `4` makes it a connection of a 2.x client.
//!
//! * `c` `d` `e` `a` `x` + name: the client sends CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR for a namespace
//! * `q` + number + text: the client asks for a namespace of this name
//! * `y` `n` + number: the server accepts or refuses a slot, `k`: it disconnects one
//! * `+` + number: so many seconds pass, `j`: as many as are left to the deadline
//! * `w` `v`: the decoder waits for attachments, or no more
//! * `z`: the connection ends
//!
//! A name is a number: 0 is `/`, others are names of their own; a slot is a number too, counted from the latest.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use socketio_proto::{
    AnyParser, Connection, Decision, INVALID_NAMESPACE, Limits, Message, Packet, Revision, Slot, TOO_MANY_NAMESPACES,
    TimedOut, Violation,
};

use crate::input::Input;

const MAX_NAMESPACES: usize = 5;
const MAX_NAME: usize = 20;

/// The connection machine by operation list.
pub fn sio_connection(data: &[u8]) {
    let mut input = Input::new(data);
    let revision = if input.byte() == Some(b'4') { Revision::V4 } else { Revision::V5 };
    let mut world = World::new(revision);
    if let Some(decision) = world.machine.open(world.now) {
        assert_eq!(revision, Revision::V4);
        world.decided_on_connect("/".to_owned(), decision);
    }
    while let Some(operation) = input.byte() {
        match operation {
            b'c' | b'd' | b'e' | b'a' | b'x' => {
                let name = name(input.number());
                world.packet(operation, &name);
            }
            b'q' => {
                let name = String::from_utf8_lossy(input.counted()).into_owned();
                world.ask(&name);
            }
            b'y' | b'n' | b'k' => {
                let back = input.number();
                world.answer(operation, back);
            }
            b'+' => world.pass(Duration::from_secs(input.number() as u64)),
            b'j' => {
                if let Some(due) = world.machine.deadline() {
                    world.pass(due.saturating_duration_since(world.now));
                }
            }
            b'w' | b'v' => world.reconstructing(operation == b'w'),
            b'z' => {
                world.close();
                return;
            }
            _ => {}
        }
        world.check();
    }
    world.close();
}

/// What the machine should know, kept in another way.
struct World {
    now: Instant,
    limits: Limits,
    machine: Connection,
    /// In the order they were asked for.
    live: Vec<Live>,
    left: Vec<(String, Instant)>,
    /// Slots of the past, which must not mean anything any more.
    old: Vec<Slot>,
    connect_by: Option<Instant>,
    attachments_by: Option<Instant>,
}

struct Live {
    slot: Slot,
    name: String,
    answer_by: Instant,
    connected: bool,
}

fn name(number: usize) -> String {
    match number {
        0 => "/".to_owned(),
        1 => "/a".to_owned(),
        2 => "/a?token=%31&x".to_owned(),
        3 => format!("/{}", "l".repeat(30)),
        4 => "/a/".to_owned(),
        number => format!("/n{}", number % 16),
    }
}

impl World {
    fn new(revision: Revision) -> Self {
        let mut limits = Limits::default();
        limits.max_namespaces = MAX_NAMESPACES;
        limits.max_namespace_name = MAX_NAME;
        let now = Instant::now();
        let machine = Connection::new(revision, &limits, now);
        let connect_by = Some(now + limits.connect_timeout);
        let (live, left, old) = (Vec::new(), Vec::new(), Vec::new());
        Self { now, limits, machine, live, left, old, connect_by, attachments_by: None }
    }

    fn ask(&mut self, name: &str) {
        let packet = Packet::Connect { namespace: Cow::Owned(name.to_owned()), data: None };
        let decision = self.machine.on_packet(packet, self.now);
        self.decided_on_connect(name.to_owned(), decision);
    }

    fn decided_on_connect(&mut self, asked: String, decision: Decision<'_>) {
        let name = self.bare(&asked);
        let invalid = !name.starts_with('/') || name.len() > MAX_NAME || name.chars().any(char::is_control);
        match decision {
            Decision::Refuse { namespace, message } if invalid => {
                assert_eq!((&*namespace, message), (name.as_str(), INVALID_NAMESPACE));
            }
            Decision::Close(violation) if !invalid && self.find(&name).is_some() => {
                assert_eq!(violation, Violation::AlreadyConnected);
            }
            Decision::Refuse { namespace, message } if !invalid && self.live.len() == MAX_NAMESPACES => {
                assert_eq!((&*namespace, message), (name.as_str(), TOO_MANY_NAMESPACES));
            }
            Decision::ConnectRequest { slot, namespace, auth } => {
                assert!(!invalid && self.find(&name).is_none() && self.live.len() < MAX_NAMESPACES);
                assert_eq!(&*namespace, name);
                assert_eq!(auth.is_some(), name != asked, "a query is the only auth here");
                assert!(slot.index() < MAX_NAMESPACES);
                assert!(self.live.iter().all(|live| live.slot.index() != slot.index()), "a place for each");
                assert!(!self.old.contains(&slot), "no slot comes back");
                self.left.retain(|(left, _)| *left != name);
                self.live.push(Live {
                    slot,
                    name,
                    answer_by: self.now + self.limits.connect_timeout,
                    connected: false,
                });
            }
            other => panic!("{other:?} for {asked:?}"),
        }
    }

    fn packet(&mut self, operation: u8, name: &str) {
        let wire = match operation {
            b'c' => return self.ask(name),
            b'd' => format!("1{name},"),
            b'e' => format!("2{name},[\"e\",1]"),
            b'a' => format!("3{name},7[]"),
            _ => format!("4{name},{{}}"),
        };
        let mut decoder = AnyParser::json().decoder(&self.limits);
        let packet = decoder.decode(Message::Text(&wire)).expect("well-formed").expect("complete");
        let decision = self.machine.on_packet(packet, self.now);
        let name = self.bare(name);
        let found = self.find(&name).map(|at| (at, self.live[at].slot, self.live[at].connected));
        match decision {
            Decision::Close(Violation::WrongDirection) => assert_eq!(operation, b'x'),
            Decision::Deliver { slot, packet } => {
                assert!(matches!(operation, b'e' | b'a'));
                assert!(matches!(packet, Packet::Event { .. }) == (operation == b'e'));
                assert_eq!(found.map(|(_, slot, connected)| (slot, connected)), Some((slot, true)));
            }
            Decision::Disconnect { slot } => {
                let (at, own, connected) = found.expect("a namespace");
                assert!(operation == b'd' && own == slot && connected);
                self.end(at);
            }
            Decision::Ignore => assert!(operation != b'x' && found.is_none() && self.is_left(&name), "{name}"),
            Decision::Close(Violation::NotConnected) => {
                assert!(operation != b'x' && found.is_none_or(|(_, _, connected)| !connected));
                assert!(found.is_some() || !self.is_left(&name));
            }
            other => panic!("{other:?} for {wire:?}"),
        }
    }

    /// The server decides about a slot; those of the past change nothing.
    fn answer(&mut self, operation: u8, back: usize) {
        let count = self.live.len();
        let (slot, at) = match count.checked_sub(back + 1) {
            Some(at) => (self.live[at].slot, Some(at)),
            None => match self.old.iter().rev().nth(back - count) {
                Some(slot) => (*slot, None),
                None => return,
            },
        };
        let connected = at.map(|at| self.live[at].connected);
        let (done, wanted) = match operation {
            b'y' => (self.machine.accept(slot), Some(false)),
            b'n' => (self.machine.refuse(slot), Some(false)),
            _ => (self.machine.disconnect(slot, self.now), Some(true)),
        };
        assert_eq!(done, connected == wanted);
        let Some(at) = at.filter(|_| done) else { return };
        match operation {
            b'y' => {
                self.live[at].connected = true;
                self.connect_by = None;
            }
            b'n' => drop(self.end(at)),
            _ => {
                let name = self.end(at);
                let now = self.now;
                self.left.retain(|(_, until)| *until > now);
                if self.left.len() == MAX_NAMESPACES {
                    self.left.remove(0);
                }
                self.left.push((name, now + self.limits.disconnect_grace));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while let Some(late) = self.machine.on_time(self.now) {
            match late {
                TimedOut::Close(Violation::ConnectTimeout) => {
                    assert!(self.connect_by.take().is_some_and(|by| by <= self.now));
                }
                TimedOut::Close(violation) => {
                    assert_eq!(violation, Violation::AttachmentTimeout);
                    assert!(self.attachments_by.take().is_some_and(|by| by <= self.now));
                }
                TimedOut::Join { slot, namespace } => {
                    let at = self.live.iter().position(|live| live.slot == slot).expect("a live slot");
                    assert!(self.live[at].name == namespace && !self.live[at].connected);
                    assert!(self.live[at].answer_by <= self.now);
                    self.end(at);
                }
            }
        }
        assert!(self.machine.deadline().is_none_or(|due| due > self.now), "what is late was consumed");
    }

    fn reconstructing(&mut self, waiting: bool) {
        self.machine.reconstructing(waiting, self.now);
        let by = self.attachments_by.unwrap_or(self.now + self.limits.attachment_timeout);
        self.attachments_by = waiting.then_some(by);
    }

    fn check(&self) {
        let pending = self.live.iter().filter(|live| !live.connected).map(|live| live.answer_by);
        assert_eq!(self.machine.deadline(), pending.chain(self.connect_by).chain(self.attachments_by).min());
        assert_eq!(self.machine.connected_count(), self.live.iter().filter(|live| live.connected).count());
        for live in &self.live {
            assert_eq!(self.machine.namespace(live.slot), Some(live.name.as_str()));
            assert_eq!(self.machine.connected(&live.name), live.connected.then_some(live.slot));
        }
        for slot in self.old.iter().rev().take(8) {
            assert_eq!(self.machine.namespace(*slot), None);
        }
    }

    fn close(&mut self) {
        let closed = self.machine.close();
        assert!(closed.iter().map(|(slot, _)| slot.index()).is_sorted());
        assert_eq!(closed.len(), self.live.iter().filter(|live| live.connected).count());
        for live in &self.live {
            assert_eq!(closed.contains(&(live.slot, live.name.clone())), live.connected);
            assert!(!self.machine.accept(live.slot) && !self.machine.refuse(live.slot));
        }
        assert_eq!(self.machine.deadline(), None);
        assert_eq!(self.machine.on_time(self.now + Duration::from_secs(1_000)), None);
        assert_eq!(self.machine.connected_count(), 0);
    }

    fn end(&mut self, at: usize) -> String {
        let live = self.live.remove(at);
        self.old.push(live.slot);
        live.name
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.live.iter().position(|live| live.name == name)
    }

    fn is_left(&self, name: &str) -> bool {
        self.left.iter().any(|(left, until)| left == name && *until > self.now)
    }

    /// Without the query that a 2.x client puts behind a name.
    fn bare(&self, name: &str) -> String {
        let end = name.find('?').filter(|_| self.machine.revision() == Revision::V4);
        name[..end.unwrap_or(name.len())].to_owned()
    }
}
