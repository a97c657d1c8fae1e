//! Random schedules of cuts, returns, rooms and events against a model that keeps every list of every client: no event that
//! recovery promises is lost, doubled or out of order.
//!
//! `SIM_SEED=n` runs one schedule, `SIM_SEEDS=n` as many; `cargo xtask sim` does both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socketio_adapter::recovery::{LogLimits, NotRecoverable, Pid, Recovery, RecoveryLimits, Session, Track};
use socketio_adapter::{RoomName, RoomNames, Selection};

const STEPS: u64 = 120;
const CLIENTS: u64 = 4;
const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
const AWAY: Duration = Duration::from_secs(120);
/// The server notices dead links within this time.
const UNNOTICED: Duration = Duration::from_secs(45);
const KEPT: Duration = Duration::from_secs(165);

#[test]
fn no_event_is_lost_doubled_or_reordered_by_any_schedule() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds,
        (None, None) => 0..2_000,
    };
    let mut tally = Tally::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut tally = Tally::default();
            World::new(seed).run(&mut tally);
            tally
        });
        match run {
            Ok(one) => tally.add(&one),
            Err(_) => panic!("seed {seed}: cargo xtask sim recovery --seed {seed}"),
        }
    }
    println!("{count} schedules: {tally:?}");
    if count >= 2_000 {
        // The schedules were not all of one kind.
        let Tally { recovered, replaced, replayed, expired, trimmed, displaced, confused, stored } = tally;
        let least = [recovered / 8, replaced / 2, replayed / 8, expired, trimmed, displaced, confused, stored / 20];
        assert!(least.iter().all(|number| *number > count / 50), "{tally:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    stored: u64,
    recovered: u64,
    /// ... while the server had not noticed the end of the old link.
    replaced: u64,
    replayed: u64,
    expired: u64,
    trimmed: u64,
    displaced: u64,
    /// Returns of clients whose last event was a volatile one that ends in a string.
    confused: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.stored, other.stored),
            (&mut self.recovered, other.recovered),
            (&mut self.replaced, other.replaced),
            (&mut self.replayed, other.replayed),
            (&mut self.expired, other.expired),
            (&mut self.trimmed, other.trimmed),
            (&mut self.displaced, other.displaced),
            (&mut self.confused, other.confused),
        ];
        for (sum, number) in pairs {
            *sum += number;
        }
    }
}

/// What travels.
#[derive(Debug, Clone)]
enum Frame {
    Connect {
        pid: Pid,
        life: usize,
    },
    /// `last`: the last argument where it is a string.
    Event {
        index: u64,
        stored: bool,
        last: Option<String>,
    },
}

/// A client as socket.io-client behaves.
#[derive(Default)]
struct Client {
    pid: Option<Pid>,
    offset: Option<String>,
    /// Which of the server's lives of sockets it is connected to.
    life: Option<usize>,
    connected: bool,
    /// What it has got since that life began.
    got: Vec<u64>,
    newest: u64,
    /// The link, if the client has one: what is on its way.
    link: Option<VecDeque<Frame>>,
    /// The last event was volatile and ended in a string.
    confused: bool,
}

/// A socket of the server.
struct Socket {
    client: usize,
    pid: Pid,
    track: Track,
    rooms: BTreeSet<&'static str>,
    life: usize,
    /// The link is dead and the server has not noticed.
    dead: Option<Instant>,
}

/// What the model knows of one socket's life, over all its recoveries.
#[derive(Default)]
struct Life {
    /// Rooms, as they are or were when it was disconnected.
    rooms: BTreeSet<&'static str>,
    /// Events that it has to get.
    owed: Vec<u64>,
    over: bool,
}

struct World {
    rng: Rng,
    now: Instant,
    recovery: Recovery<Frame, usize>,
    /// Nothing is forgotten for want of room.
    roomy: bool,
    clients: Vec<Client>,
    sockets: BTreeMap<Pid, Socket>,
    lives: Vec<Life>,
    /// By secret: which life, and when it was disconnected.
    away: BTreeMap<Pid, (usize, Instant)>,
    /// When each event was sent; the first has the number 1.
    events: Vec<Instant>,
    secrets: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let roomy = rng.below(3) > 0;
        let packets = if roomy { 100_000 } else { 1 + rng.below(30) as usize };
        let sessions = if roomy { 100 } else { 1 + rng.below(3) as usize };
        let log = LogLimits { packets, bytes: usize::MAX, time: KEPT };
        let limits = RecoveryLimits { away: AWAY, sessions, session_bytes: usize::MAX, log };
        let (random, now) = (rng.next(), Instant::now());
        Self {
            rng,
            now,
            recovery: Recovery::new(limits, random),
            roomy,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            sockets: BTreeMap::new(),
            lives: Vec::new(),
            away: BTreeMap::new(),
            events: vec![now],
            secrets: 0,
        }
    }

    fn run(mut self, tally: &mut Tally) {
        for client in 0..self.clients.len() {
            self.connect(client, tally);
        }
        for _ in 0..STEPS {
            let client = self.rng.below(CLIENTS) as usize;
            match self.rng.below(20) {
                0..=5 => self.emit(tally),
                6 => self.volatile(),
                7 => self.ask(client),
                8 | 9 => self.enter_or_leave(client),
                10..=13 => self.deliver(client, 1 + self.rng.clone().below(5)),
                14 | 15 => self.cut(client),
                16 => self.notice(client, tally),
                17 | 18 => self.connect(client, tally),
                _ => {
                    // Mostly moments, at times long enough for a session to expire.
                    let seconds = if self.rng.below(6) == 0 { 100 } else { self.rng.below(10) };
                    (0..seconds).for_each(|_| self.wait(tally));
                }
            }
        }
        // Everybody comes back, and then everybody has everything.
        for client in 0..self.clients.len() {
            if self.clients[client].link.is_none() {
                self.connect(client, tally);
            }
            self.deliver(client, u64::MAX);
            let Client { life, got, .. } = &self.clients[client];
            let life = &self.lives[life.expect("it is connected")];
            assert_eq!(*got, life.owed, "client {client} has everything");
        }
    }

    /// The client asks for the namespace, over a new link.
    fn connect(&mut self, client: usize, tally: &mut Tally) {
        if self.clients[client].link.is_some() {
            if self.rng.below(2) == 0 {
                return;
            }
            // The network changed: the client is on a new link before the server has noticed anything.
            self.cut(client);
        }
        let (pid, offset) = (self.clients[client].pid.clone(), self.clients[client].offset.clone());
        let confused = self.clients[client].confused;
        let mut link = VecDeque::new();
        match pid.ok_or(NotRecoverable::UnknownSession).and_then(|pid| self.come_back(pid, offset, tally)) {
            Ok((socket, missed)) => {
                tally.confused += u64::from(confused);
                tally.replayed += missed.len() as u64;
                link.push_back(Frame::Connect { pid: socket.pid.clone(), life: socket.life });
                link.extend(missed);
                self.sockets.insert(socket.pid.clone(), Socket { client, ..socket });
            }
            Err(_) => {
                self.secrets += 1;
                let pid: Pid = Arc::from(format!("secret {}", self.secrets));
                let life = self.lives.len();
                self.lives.push(Life::default());
                let track = Track::new(self.recovery.log().head());
                link.push_back(Frame::Connect { pid: pid.clone(), life });
                let socket = Socket { client, pid: pid.clone(), track, rooms: BTreeSet::new(), life, dead: None };
                self.sockets.insert(pid, socket);
            }
        }
        self.clients[client].link = Some(link);
    }

    fn come_back(
        &mut self,
        pid: Pid,
        offset: Option<String>,
        tally: &mut Tally,
    ) -> Result<(Socket, Vec<Frame>), NotRecoverable> {
        let replaced = self.sockets.contains_key(&pid);
        let session = match self.sockets.remove(&pid) {
            Some(live) => {
                assert!(live.dead.is_some(), "the client is on another link");
                let head = self.recovery.log().head();
                Ok(session(live, head, self.now))
            }
            None => self.recovery.take(&pid, self.now),
        };
        let away = self.away.remove(&pid);
        let since = away.map(|(_, since)| since);
        match &session {
            Ok(_) => assert!(since.is_none_or(|since| self.now - since <= AWAY), "it had expired"),
            // What was given up for want of room or time is not in the model's list either.
            Err(_) => assert!(away.is_none() || self.now - since.expect("it is away") > AWAY, "it is lost"),
        }
        let session = session?;
        let life = session.data;
        match self.recovery.missed(&session, offset.as_deref(), usize::MAX, usize::MAX) {
            Ok(missed) => {
                tally.recovered += 1;
                tally.replaced += u64::from(replaced);
                let (_, rooms, life, mut track) = session.into_track();
                let first = self.recovery.log().first();
                missed.numbers.iter().for_each(|number| track.addressed(*number, first));
                let known = &self.lives[life].rooms;
                assert_eq!(rooms.iter().map(|room| &**room).collect::<BTreeSet<_>>(), *known, "its rooms are there");
                let socket = Socket { client: 0, pid, track, rooms: known.clone(), life, dead: None };
                Ok((socket, missed.packets))
            }
            Err(error) => {
                assert_eq!(error, NotRecoverable::Trimmed);
                let owed = &self.lives[life].owed;
                let got =
                    self.clients.iter().find(|client| client.life == Some(life)).map_or(0, |client| client.got.len());
                let missing = owed.get(got).is_some_and(|index| self.now - self.events[*index as usize] > KEPT);
                assert!(!self.roomy || missing || owed.len() > 16, "nothing had to be given up");
                tally.trimmed += 1;
                self.lives[life].over = true;
                Err(error)
            }
        }
    }

    /// An event that is stored.
    fn emit(&mut self, tally: &mut Tally) {
        tally.stored += 1;
        let index = self.next_event();
        let (to, except) = (self.some_rooms(2), self.some_rooms(1));
        let selection = Selection::everybody()
            .to(to.iter().copied().collect::<Vec<_>>())
            .except(except.iter().copied().collect::<Vec<_>>());
        let selected = |rooms: &BTreeSet<&str>| (to.is_empty() || !to.is_disjoint(rooms)) && except.is_disjoint(rooms);
        let last = Some(self.recovery.next().as_str().to_owned());
        let frame = Frame::Event { index, stored: true, last };
        let number = self.recovery.push(self.now, selection, frame.clone(), 100);
        let first = self.recovery.log().first();
        for socket in self.sockets.values_mut().filter(|socket| selected(&socket.rooms)) {
            socket.track.addressed(number, first);
            if let Some(link) = self.clients[socket.client].link.as_mut().filter(|_| socket.dead.is_none()) {
                link.push_back(frame.clone());
            }
        }
        for life in self.lives.iter_mut().filter(|life| !life.over && selected(&life.rooms)) {
            life.owed.push(index);
        }
    }

    /// An event that nobody has to get, some of them ending in a string.
    fn volatile(&mut self) {
        let index = self.next_event();
        let last = (self.rng.below(2) == 0).then(|| self.recovery.position().as_str().to_owned());
        for socket in self.sockets.values().filter(|socket| socket.dead.is_none()) {
            let dropped = self.rng.below(3) == 0;
            if let Some(link) = self.clients[socket.client].link.as_mut().filter(|_| !dropped) {
                link.push_back(Frame::Event { index, stored: false, last: last.clone() });
            }
        }
    }

    /// An event that wants an answer: its last argument is a function.
    fn ask(&mut self, client: usize) {
        let index = self.next_event();
        let connected = self.sockets.values().any(|socket| socket.client == client && socket.dead.is_none());
        if let Some(link) = self.clients[client].link.as_mut().filter(|_| connected) {
            link.push_back(Frame::Event { index, stored: false, last: None });
        }
    }

    fn enter_or_leave(&mut self, client: usize) {
        let room = ROOMS[self.rng.below(ROOMS.len() as u64) as usize];
        let (head, first) = (self.recovery.log().head(), self.recovery.log().first());
        // Also of sockets whose link is dead: the server does not know.
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            let joined = socket.rooms.insert(room);
            if !joined {
                socket.rooms.remove(room);
            }
            socket.track.moved(head, first, room.into(), joined);
            self.lives[socket.life].rooms = socket.rooms.clone();
        }
    }

    fn deliver(&mut self, client: usize, most: u64) {
        let client = &mut self.clients[client];
        for _ in 0..most {
            let Some(frame) = client.link.as_mut().and_then(VecDeque::pop_front) else { return };
            match frame {
                Frame::Connect { pid, life } => {
                    client.connected = true;
                    let recovered = client.pid.as_ref() == Some(&pid);
                    client.pid = Some(pid);
                    if recovered {
                        assert_eq!(client.life, Some(life));
                    } else {
                        // The offset stays, as in the library.
                        client.life = Some(life);
                        client.got.clear();
                    }
                }
                Frame::Event { index, stored, last } => {
                    assert!(client.connected, "nothing comes before the answer");
                    assert!(index > client.newest, "event {index} after {}", client.newest);
                    client.newest = index;
                    client.confused = !stored && last.is_some();
                    if last.is_some() {
                        client.offset = last;
                    }
                    if stored {
                        client.got.push(index);
                        let owed = &self.lives[client.life.expect("it is connected")].owed;
                        assert!(owed.starts_with(&client.got), "got {:?} of {owed:?}", client.got);
                    }
                }
            }
        }
    }

    /// The link breaks: what is on its way is lost.
    fn cut(&mut self, client: usize) {
        self.clients[client].link = None;
        self.clients[client].connected = false;
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.dead.get_or_insert(self.now);
        }
    }

    /// The server notices that a link is dead.
    fn notice(&mut self, client: usize, tally: &mut Tally) {
        self.notice_those(|socket| socket.client == client && socket.dead.is_some(), tally);
    }

    fn notice_those(&mut self, who: impl Fn(&Socket) -> bool, tally: &mut Tally) {
        let gone: Vec<Pid> =
            self.sockets.values().filter(|socket| who(socket)).map(|socket| socket.pid.clone()).collect();
        for pid in gone {
            let Some(socket) = self.sockets.remove(&pid) else { continue };
            self.away.insert(pid.clone(), (socket.life, self.now));
            let session = session(socket, self.recovery.log().head(), self.now);
            for (pid, session) in self.recovery.persist(pid, session, 0) {
                tally.displaced += 1;
                assert!(!self.roomy, "nobody had to make room");
                self.away.remove(&pid);
                self.lives[session.data].over = true;
            }
        }
    }

    /// A second passes.
    fn wait(&mut self, tally: &mut Tally) {
        self.now += Duration::from_secs(1);
        let now = self.now;
        self.notice_those(|socket| socket.dead.is_some_and(|since| now - since >= UNNOTICED), tally);
        for (pid, session) in self.recovery.expire(self.now, usize::MAX) {
            tally.expired += 1;
            let (life, since) = self.away.remove(&pid).expect("the model knows it");
            assert!(life == session.data && self.now - since > AWAY);
            self.lives[life].over = true;
        }
        assert!(self.away.values().all(|(_, since)| self.now - *since <= AWAY), "expired and not told");
    }

    fn next_event(&mut self) -> u64 {
        self.events.push(self.now);
        self.events.len() as u64 - 1
    }

    fn some_rooms(&mut self, most: u64) -> BTreeSet<&'static str> {
        let count = self.rng.below(most + 1);
        (0..count).map(|_| ROOMS[self.rng.below(ROOMS.len() as u64) as usize]).collect()
    }
}

/// What the server keeps of a socket.
fn session(socket: Socket, head: u64, now: Instant) -> Session<usize> {
    let rooms: RoomNames = socket.rooms.iter().map(|room| RoomName::from(*room)).collect();
    Session::new("id".into(), rooms, socket.life, socket.track, head, now)
}

/// SplitMix64.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
