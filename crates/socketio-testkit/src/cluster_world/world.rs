//! What happens: servers around machines, a network, a clock, and the comparison after each step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socketio_adapter::cluster::{
    ClusterOptions, Envelope, Machine, Membership, Message, News, Output, Question, ReplyTo, RequestId, ServerId,
    SocketDetails, Target, Task,
};
use socketio_adapter::{BroadcastFlags, BroadcastOptions, RoomName, RoomNames, Rooms, Selection};
use socketio_proto::{OwnedArgs, Value};

use super::model::{Host, View};
use super::{Dialect, LogInfo, Parcel, Reader};
use crate::Rng;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const NAMESPACE: &str = "/";
const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
/// How long things go wrong.
const CHAOS: Duration = Duration::from_secs(30);
/// The longest delay meanwhile, and afterwards.
const DELAYS: (u64, u64) = (1_500, 20);
/// How many servers there may be at once, and ever.
const HOSTS: (usize, usize) = (5, 9);
/// How many messages wait for a broker that is away.
const BUFFER: usize = 6;
/// How many entries are read at once.
const READ_COUNT: usize = 4;
/// How soon a server that is asked who is there says so.
const HEARTBEAT_SOON: Duration = Duration::from_millis(51);
/// The longest question.
const LONGEST: Duration = Duration::from_secs(6);

/// What happened in a schedule, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were handed to a server.
    pub delivered: u64,
    /// Messages that the network lost.
    pub lost: u64,
    /// Messages that came twice.
    pub doubled: u64,
    /// Broadcasts that reached a socket of another server.
    pub received: u64,
    /// Questions that were answered in full.
    pub complete: u64,
    /// Questions that ended with a part.
    pub partial: u64,
    /// Servers that others took for dead.
    pub silent: u64,
    /// Emits that did not fit into the buffer.
    pub refused: u64,
    /// Entries of the log that were trimmed away before a server read them.
    pub trimmed: u64,
    /// Entries of the log that came again.
    pub reread: u64,
    /// Starts, deaths, goodbyes, cuts, freezes and jumps of clocks.
    pub faults: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.delivered, other.delivered),
            (&mut self.lost, other.lost),
            (&mut self.doubled, other.doubled),
            (&mut self.received, other.received),
            (&mut self.complete, other.complete),
            (&mut self.partial, other.partial),
            (&mut self.silent, other.silent),
            (&mut self.refused, other.refused),
            (&mut self.trimmed, other.trimmed),
            (&mut self.reread, other.reread),
            (&mut self.faults, other.faults),
        ];
        for (sum, number) in pairs {
            *sum += number;
        }
    }
}

/// What a message means, beside its bytes. The network does not read it.
#[derive(Debug, Clone)]
enum Meaning {
    Hello,
    Heartbeat,
    Goodbye,
    Op(usize),
    Fetched { question: usize, sockets: BTreeMap<String, BTreeSet<String>> },
    Counted { question: usize, clients: usize },
    Client { question: usize, socket: String },
    Server { question: usize, host: Host },
}

/// What somebody wants done, by its number.
#[derive(Debug, Clone)]
struct Op {
    from: Option<Host>,
    what: What,
    /// Which servers it was carried out on, others than `from`.
    reached: BTreeSet<Host>,
    /// Which sockets got it.
    sockets: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum What {
    Broadcast(BroadcastOptions),
    Join(Selection, &'static str),
    Leave(Selection, &'static str),
    Disconnect(Selection),
    ServerEvent,
    /// The number of the question.
    Ask(usize),
}

struct Asked {
    host: Host,
    kind: Question,
    op: usize,
    options: BroadcastOptions,
    request: Option<RequestId>,
    /// The end was told, with so many missing.
    ended: Option<usize>,
    /// Everybody will answer, and nothing is in the way.
    calm: bool,
    got: BTreeSet<String>,
}

struct Letter {
    from: Option<Host>,
    meaning: Meaning,
    parcel: Parcel,
    entry: Option<u64>,
}

#[derive(Clone)]
enum Event {
    /// `links` are the connections over which it travels: when one of them was cut meanwhile, it is lost.
    Arrive {
        to: Host,
        letter: Rc<Letter>,
        links: (u64, u64),
    },
    Append {
        letter: Rc<Letter>,
    },
    Read {
        host: Host,
        link: u64,
    },
    Timer {
        host: Host,
    },
    Later {
        host: Host,
        what: Later,
    },
    Counted {
        host: Host,
        question: usize,
        link: u64,
    },
    Operation,
    Fault,
    Notice {
        host: Host,
        link: u64,
    },
    Heal {
        host: Host,
        link: u64,
    },
    Thaw {
        host: Host,
    },
    Mended,
    Settled,
    End,
}

/// What a server does some time after it was asked.
#[derive(Clone)]
enum Later {
    Client { reply: ReplyTo, question: usize, socket: String },
    Server { reply: ReplyTo, question: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    Frozen,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// It is cut, and nobody has noticed.
    Dead,
    Down,
}

struct Server {
    id: ServerId,
    state: State,
    machine: Machine,
    rooms: Rooms<String>,
    view: View,
    /// How far its clock is ahead.
    skew: Duration,
    link: Link,
    /// Counts connections.
    links: u64,
    buffer: VecDeque<(Rc<Letter>, bool)>,
    /// What came while it was frozen.
    backlog: VecDeque<Event>,
    timer: Option<Duration>,
    reader: Option<Box<dyn Reader>>,
    /// Which entries of the log have to be read by it: those behind this number.
    reads_from: u64,
    read: BTreeSet<u64>,
    told_lost: u64,
    requests: BTreeMap<RequestId, usize>,
    /// How often it has asked who is there.
    hellos: usize,
    /// Of each socket, the newest event by sender and rooms.
    newest: BTreeMap<(String, Option<Host>, String), usize>,
}

struct Entry {
    number: u64,
    letter: Rc<Letter>,
}

pub(super) struct World<'a> {
    dialect: &'a dyn Dialect,
    rng: Rng,
    base: Instant,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    servers: Vec<Server>,
    ops: Vec<Op>,
    asked: Vec<Asked>,
    /// Until when the path between two servers is taken, so that nothing overtakes.
    paths: BTreeMap<(Host, Host), Duration>,
    log: VecDeque<Entry>,
    added: u64,
    keeps: usize,
    /// How many entries at once make a reader look whether it is behind.
    full: usize,
    /// Entries go before everybody has read them.
    trims: bool,
    /// How many of a thousand messages are lost, and come twice.
    loss: u64,
    double: u64,
    mended: bool,
    /// How often an alarm rang.
    turns: usize,
    sockets: usize,
    tally: Tally,
}

/// A program that is no server, on paths of the network.
const PROGRAM: Host = usize::MAX;
/// The broker.
const BROKER: Host = usize::MAX - 1;

impl<'a> World<'a> {
    pub(super) fn new(dialect: &'a dyn Dialect, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let loss = [0, 0, 30, 150][rng.below(4) as usize];
        let double = [0, 50, 200][rng.below(3) as usize];
        let keeps = if rng.one_in(3) { 1 + rng.below(8) as usize } else { 1_000_000 };
        Self {
            dialect,
            rng,
            base: Instant::now(),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            servers: Vec::new(),
            ops: Vec::new(),
            asked: Vec::new(),
            paths: BTreeMap::new(),
            log: VecDeque::new(),
            added: 0,
            keeps,
            full: READ_COUNT.min(keeps),
            trims: keeps < 1_000,
            loss,
            double,
            mended: false,
            turns: 0,
            sockets: 0,
            tally: Tally::default(),
        }
    }

    pub(super) fn run(mut self) -> Tally {
        for _ in 0..2 + self.rng.below(3) {
            self.start();
        }
        let operations = 15 + self.rng.below(25);
        for _ in 0..operations {
            let at = self.within(CHAOS + S);
            self.at(at, Event::Operation);
        }
        for _ in 0..self.rng.below(9) {
            let at = self.within(CHAOS - S);
            self.at(at, Event::Fault);
        }
        self.at(CHAOS, Event::Mended);
        let timeout = ClusterOptions::default().heartbeat_timeout;
        // The last message of a server that died may have been on its way until now, and the timer is due behind it.
        let known = CHAOS + timeout + Duration::from_millis(DELAYS.0 + 10);
        self.at(known, Event::Settled);
        self.at(known + LONGEST + 4 * S, Event::End);
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if matches!(event, Event::End) {
                self.end();
                return self.tally;
            }
            self.happen(event);
        }
        unreachable!("the end is in the queue");
    }

    fn within(&mut self, time: Duration) -> Duration {
        Duration::from_millis(self.rng.below(time.as_millis() as u64))
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    /// What the clock of a server says.
    fn clock(&self, host: Host) -> Instant {
        self.base + self.now + self.servers[host].skew
    }

    fn alive(&self) -> Vec<Host> {
        (0..self.servers.len()).filter(|host| self.servers[*host].state == State::Alive).collect()
    }

    fn pick(&mut self) -> Option<Host> {
        let alive = self.alive();
        let host = self.rng.below(alive.len() as u64) as usize;
        alive.get(host).copied()
    }

    fn happen(&mut self, event: Event) {
        let host = match &event {
            Event::Arrive { to: host, .. }
            | Event::Timer { host }
            | Event::Later { host, .. }
            | Event::Counted { host, .. }
            | Event::Read { host, .. }
            | Event::Notice { host, .. }
            | Event::Heal { host, .. } => Some(*host),
            _ => None,
        };
        if let Some(host) = host {
            match self.servers[host].state {
                State::Alive => {}
                State::Gone => return,
                State::Frozen => return self.servers[host].backlog.push_back(event),
            }
        }
        match event {
            Event::Arrive { to, letter, links } => self.arrive(to, &letter, links),
            Event::Append { letter } => self.append(letter),
            Event::Read { host, link } => self.read(host, link),
            Event::Timer { host } => {
                if self.servers[host].timer == Some(self.now) {
                    self.servers[host].timer = None;
                    self.turns += 1;
                    assert!(self.turns < 100_000, "a machine wants to be called again and again");
                    self.time(host);
                }
            }
            Event::Later { host, what } => self.later(host, what),
            Event::Counted { host, question, link } => self.counted(host, question, link),
            Event::Operation => self.operation(),
            Event::Fault => self.fault(),
            Event::Notice { host, link } => {
                let server = &mut self.servers[host];
                if server.link == Link::Dead && server.links == link {
                    server.link = Link::Down;
                }
            }
            Event::Heal { host, link } => self.heal(host, link),
            Event::Thaw { host } => self.thaw(host),
            Event::Mended => self.mend(),
            Event::Settled => self.settled(),
            Event::End => {}
        }
    }

    // ---- servers -------------------------------------------------------------------------------------------------

    fn start(&mut self) {
        let host = self.servers.len();
        let id = ServerId::random([host as u8 + 1; 16]);
        let membership = self.dialect.membership();
        let options = ClusterOptions::default();
        let now = self.base + self.now;
        let mut reader = self.dialect.reader();
        let info = self.log_info();
        if let Some(reader) = &mut reader {
            assert_eq!(reader.connected(&info), 0, "a new server has missed nothing");
        }
        self.servers.push(Server {
            machine: Machine::new(id.clone(), membership, options.clone()),
            id,
            state: State::Alive,
            rooms: Rooms::default(),
            view: View::new(membership, options, now),
            skew: Duration::ZERO,
            link: Link::Up,
            links: 0,
            buffer: VecDeque::new(),
            backlog: VecDeque::new(),
            timer: None,
            reader,
            reads_from: self.added,
            read: BTreeSet::new(),
            told_lost: 0,
            requests: BTreeMap::new(),
            hellos: 0,
            newest: BTreeMap::new(),
        });
        for _ in 0..self.rng.below(4) {
            self.connect(host);
        }
        self.servers[host].machine.start(now);
        self.drain(host, None);
        if self.servers[host].reader.is_some() {
            self.after(MS, Event::Read { host, link: 0 });
        }
    }

    /// A client comes.
    fn connect(&mut self, host: Host) {
        self.sockets += 1;
        // As long as ids are: Node tells the rooms of ids by that.
        let id = format!("socket-{host}-{:0>11}", self.sockets);
        let room = self.room();
        let server = &mut self.servers[host];
        server.rooms.add(&*id, id.clone()).expect("the id is new");
        server.rooms.join(&id, room).expect("there is room");
        server.view.sockets.insert(id.clone(), [id, room.to_owned()].into());
    }

    fn time(&mut self, host: Host) {
        let now = self.clock(host);
        self.servers[host].machine.on_time(now);
        self.servers[host].view.time(now);
        self.drain(host, None);
        // What is due has been told.
        let view = &self.servers[host].view;
        assert!(view.owes.is_none_or(|at| at > now), "server {host} does not say that it is there");
        for (number, open) in &view.questions {
            assert!(!open.is_complete(view.membership, now), "question {number} is complete and was not told");
        }
    }

    /// Sets the alarm that the machine wants.
    fn wind(&mut self, host: Host) {
        let server = &self.servers[host];
        let Some(deadline) = server.machine.deadline() else { return };
        let at = deadline.saturating_duration_since(self.base + server.skew).max(self.now);
        if server.timer != Some(at) {
            self.servers[host].timer = Some(at);
            self.at(at, Event::Timer { host });
        }
    }

    /// Does what the machine wants; `letter` is what it has just been given.
    fn drain(&mut self, host: Host, letter: Option<&Letter>) {
        let mut told = Vec::new();
        let mut tasks = 0;
        while let Some(output) = self.servers[host].machine.poll() {
            match output {
                Output::Publish(message, to) => {
                    let meaning = match message {
                        Message::Hello => {
                            self.servers[host].hellos += 1;
                            Meaning::Hello
                        }
                        Message::Heartbeat => {
                            self.servers[host].view.owes = None;
                            Meaning::Heartbeat
                        }
                        Message::Goodbye => Meaning::Goodbye,
                        _ => panic!("a machine publishes only that it is there: {message:?}"),
                    };
                    self.publish(Some(host), message, to, meaning);
                }
                Output::Do(task) => {
                    tasks += 1;
                    let Some(Letter { from, meaning: Meaning::Op(op), .. }) = letter else {
                        panic!("nobody wanted this: {task:?}")
                    };
                    assert_ne!(*from, Some(host), "its own message: {task:?}");
                    self.perform(host, *op, task);
                }
                Output::Told(request, news) => told.push((request, news)),
            }
        }
        // An operation of another server is carried out once; nothing else is.
        let wanted = letter.is_some_and(|letter| matches!(letter.meaning, Meaning::Op(_)) && letter.from != Some(host));
        assert_eq!(tasks, usize::from(wanted), "tasks of {:?}", letter.map(|letter| &letter.meaning));
        for (request, news) in told {
            self.told(host, letter, &request, news);
        }
        self.wind(host);
    }

    // ---- the network ---------------------------------------------------------------------------------------------

    /// Publishes. `false` when there is no room for it.
    fn publish(&mut self, from: Option<Host>, message: Message, to: Target, meaning: Meaning) -> bool {
        let me = from.map(|host| self.servers[host].id.clone());
        let kept = self.dialect.keeps(&message);
        let presence = matches!(message, Message::Hello | Message::Heartbeat | Message::Goodbye);
        if presence && self.dialect.membership() == Membership::Counted {
            return true;
        }
        let envelope = Envelope { sender: me.clone(), namespace: NAMESPACE.into(), message };
        let parcel = self.dialect.write(me.as_ref(), &envelope, &to);
        let letter = Rc::new(Letter { from, meaning, parcel, entry: None });
        let Some(host) = from else {
            self.send(PROGRAM, letter, kept);
            return true;
        };
        match self.servers[host].link {
            Link::Up => self.send(host, letter, kept),
            Link::Dead => {
                self.tally.lost += 1;
                // Perhaps it was still taken, and only the answer is lost.
                if kept && self.rng.one_in(2) {
                    self.send(host, letter, kept);
                }
            }
            Link::Down if presence => {}
            Link::Down if self.servers[host].buffer.len() >= BUFFER => {
                self.tally.refused += 1;
                return false;
            }
            Link::Down => self.servers[host].buffer.push_back((letter, kept)),
        }
        true
    }

    fn send(&mut self, from: Host, letter: Rc<Letter>, kept: bool) {
        if kept {
            let at = self.path(from, BROKER);
            return self.at(at, Event::Append { letter });
        }
        let origin = self.servers.get(from).map_or(0, |server| server.links);
        for to in 0..self.servers.len() {
            if self.servers[to].state == State::Gone || self.servers[to].link != Link::Up {
                continue;
            }
            if !self.mended && self.rng.below(1_000) < self.loss {
                self.tally.lost += 1;
                continue;
            }
            let at = self.path(from, to);
            let links = (origin, self.servers[to].links);
            self.at(at, Event::Arrive { to, letter: Rc::clone(&letter), links });
            let repeatable = match letter.meaning {
                Meaning::Hello | Meaning::Heartbeat | Meaning::Goodbye => true,
                Meaning::Fetched { .. } | Meaning::Counted { .. } | Meaning::Server { .. } => {
                    self.dialect.names_answers()
                }
                Meaning::Op(_) | Meaning::Client { .. } => false,
            };
            if repeatable && !self.mended && self.rng.below(1_000) < self.double {
                self.tally.doubled += 1;
                let at = self.path(from, to);
                self.at(at, Event::Arrive { to, letter: Rc::clone(&letter), links });
            }
        }
    }

    /// When the next message arrives: later than the last one.
    fn path(&mut self, from: Host, to: Host) -> Duration {
        let most = if self.mended || self.rng.below(4) > 0 { DELAYS.1 } else { DELAYS.0 };
        let at = self.now + Duration::from_micros(200 + self.rng.below(most * 1_000));
        let last = self.paths.entry((from, to)).or_default();
        *last = at.max(*last + Duration::from_nanos(1));
        *last
    }

    fn arrive(&mut self, to: Host, letter: &Letter, links: (u64, u64)) {
        // What was on a connection when it broke is lost, of what was sent a part.
        let sent = letter.from.is_none_or(|from| self.servers[from].links == links.0) || self.rng.one_in(2);
        if self.servers[to].links != links.1 || !sent {
            self.tally.lost += 1;
            return;
        }
        self.hand_over(to, letter);
    }

    /// A message reaches a server.
    fn hand_over(&mut self, to: Host, letter: &Letter) {
        let server = &self.servers[to];
        let has_room = |room: &str| server.rooms.size(room) > 0;
        if letter.entry.is_none() && !self.dialect.hears(&server.id, &letter.parcel.channel, &has_room) {
            return self.unheard(to, letter);
        }
        let read = self.dialect.read(&server.id, &letter.parcel, &has_room).expect("what servers write can be read");
        let Some(envelope) = read else { return self.unheard(to, letter) };
        assert_eq!(&*envelope.namespace, NAMESPACE);
        self.tally.delivered += 1;
        let now = self.clock(to);
        let named = envelope.sender.is_some();
        self.observe(to, letter, named, now);
        self.servers[to].machine.received(now, envelope);
        self.drain(to, Some(letter));
        self.compare(to);
    }

    /// What a server does not hear must not concern it.
    fn unheard(&self, to: Host, letter: &Letter) {
        if letter.from == Some(to) {
            return;
        }
        match &letter.meaning {
            Meaning::Op(op) => match &self.ops[*op].what {
                What::Broadcast(options) => {
                    let meant = self.servers[to].view.selected(&options.selection);
                    assert!(meant.is_empty(), "server {to} does not hear what is for {meant:?}");
                }
                what => panic!("server {to} does not hear {what:?}"),
            },
            Meaning::Fetched { question, .. }
            | Meaning::Counted { question, .. }
            | Meaning::Client { question, .. }
            | Meaning::Server { question, .. } => {
                assert_ne!(self.asked[*question].host, to, "server {to} does not hear an answer");
            }
            Meaning::Hello | Meaning::Heartbeat | Meaning::Goodbye => panic!("server {to} hears nobody"),
        }
    }

    /// The model hears what the machine hears.
    fn observe(&mut self, to: Host, letter: &Letter, named: bool, now: Instant) {
        let Some(from) = letter.from.filter(|from| *from != to) else { return };
        let view = &mut self.servers[to].view;
        match letter.meaning {
            Meaning::Goodbye => view.leaves(from),
            Meaning::Hello => {
                view.hears(from, now, false);
                let soon = now + HEARTBEAT_SOON;
                view.owes = Some(view.owes.map_or(soon, |at| at.min(soon)));
            }
            _ if named => view.hears(from, now, matches!(letter.meaning, Meaning::Heartbeat)),
            _ => {}
        }
    }

    // ---- the log -------------------------------------------------------------------------------------------------

    fn log_info(&self) -> LogInfo {
        LogInfo { last: id_of(self.added), added: self.added, len: self.log.len() as u64 }
    }

    fn append(&mut self, letter: Rc<Letter>) {
        self.added += 1;
        let letter = Letter {
            from: letter.from,
            meaning: letter.meaning.clone(),
            parcel: letter.parcel.clone(),
            entry: Some(self.added),
        };
        self.log.push_back(Entry { number: self.added, letter: Rc::new(letter) });
        while self.log.len() > self.keeps {
            self.log.pop_front();
        }
    }

    /// A server asks for what is new in the log.
    fn read(&mut self, host: Host, link: u64) {
        if self.servers[host].links != link || self.servers[host].link != Link::Up {
            return;
        }
        let Some(mut reader) = self.servers[host].reader.take() else { return };
        let after = number_of(&reader.after());
        let batch: Vec<(u64, Rc<Letter>)> = self
            .log
            .iter()
            .filter(|entry| entry.number > after)
            .take(READ_COUNT)
            .map(|entry| (entry.number, Rc::clone(&entry.letter)))
            .collect();
        let full = batch.len() >= self.full;
        // The connection may break in the middle of it, and an entry may come again.
        let most = if !self.mended && self.rng.one_in(8) { self.rng.below(4) as usize } else { READ_COUNT };
        let broken = most < batch.len();
        for (number, letter) in batch.into_iter().take(most) {
            let twice = !self.mended && self.rng.one_in(10);
            for _ in 0..1 + u8::from(twice) {
                if !reader.took(&id_of(number)) {
                    self.tally.reread += 1;
                    continue;
                }
                assert!(self.servers[host].read.insert(number), "server {host} reads entry {number} again");
                self.hand_over(host, &letter);
            }
        }
        let lost = match broken {
            true => reader.connected(&self.log_info()),
            false if full || reader.is_overtaken() => reader.trimmed(&self.log_info()),
            false => 0,
        };
        self.servers[host].told_lost += lost;
        self.servers[host].reader = Some(reader);
        let pause = if self.mended { 20 } else { 1 + self.rng.below(800) };
        self.after(Duration::from_millis(pause), Event::Read { host, link });
    }

    // ---- operations ----------------------------------------------------------------------------------------------

    fn room(&mut self) -> &'static str {
        ROOMS[self.rng.below(ROOMS.len() as u64) as usize]
    }

    fn selection(&mut self) -> Selection {
        let mut selection = Selection::everybody();
        for _ in 0..self.rng.below(3) {
            let to = self.name();
            selection = selection.to(to);
        }
        for _ in 0..self.rng.below(5).saturating_sub(2) {
            let except = self.name();
            selection = selection.except(except);
        }
        selection
    }

    /// A room, or at times the id of a socket.
    fn name(&mut self) -> String {
        if self.rng.one_in(5) {
            let all: Vec<&String> = self.servers.iter().flat_map(|server| server.view.sockets.keys()).collect();
            if !all.is_empty() {
                return all[self.rng.below(all.len() as u64) as usize].clone();
            }
        }
        self.room().to_owned()
    }

    fn flags(&mut self) -> BroadcastFlags {
        BroadcastFlags {
            volatile: self.rng.one_in(4),
            compress: !self.rng.one_in(4),
            local: self.rng.one_in(8),
            ..BroadcastFlags::default()
        }
    }

    fn operation(&mut self) {
        let Some(host) = self.pick() else { return };
        let selection = self.selection();
        match self.rng.below(16) {
            0..=5 => {
                // One, or many at once.
                for _ in 0..if self.rng.one_in(6) { 9 } else { 1 } {
                    let flags = self.flags();
                    self.broadcast(Some(host), BroadcastOptions { selection: selection.clone(), flags });
                }
            }
            6 => {
                self.broadcast(None, BroadcastOptions { selection, flags: BroadcastFlags::default() });
            }
            7 => {
                let room = self.room();
                self.change(host, What::Join(selection, room));
            }
            8 => {
                let room = self.room();
                self.change(host, What::Leave(selection, room));
            }
            9 if self.rng.one_in(3) => self.change(host, What::Disconnect(selection)),
            9 | 10 => self.connect(host),
            11 => self.change(host, What::ServerEvent),
            12 => self.ask(host, Question::Sockets, selection, false),
            13 => self.ask(host, Question::Servers, selection, false),
            14 => self.ask(host, Question::Clients, selection, false),
            _ => self.forget(host),
        }
    }

    fn op(&mut self, from: Option<Host>, what: What) -> usize {
        self.ops.push(Op { from, what, reached: BTreeSet::new(), sockets: BTreeSet::new() });
        self.ops.len() - 1
    }

    /// What the event of an operation is; with binary data at times, which changes the form.
    fn event(op: usize) -> OwnedArgs {
        let mut values = vec![Value::from(op as i64)];
        match op % 4 {
            0 => values.push(Value::Binary(vec![op as u8, 0xff].into())),
            1 => values.push("text".into()),
            _ => {}
        }
        OwnedArgs::from_values(Some("event"), values)
    }

    fn broadcast(&mut self, from: Option<Host>, options: BroadcastOptions) {
        let op = self.op(from, What::Broadcast(options.clone()));
        if let Some(host) = from {
            self.deliver(host, op, &options);
        }
        if !options.flags.local {
            let message = Message::Broadcast { event: Self::event(op), options, request: None };
            self.publish(from, message, Target::Everybody, Meaning::Op(op));
        }
    }

    fn change(&mut self, host: Host, what: What) {
        let op = self.op(Some(host), what.clone());
        let message = match what {
            What::Join(selection, room) => {
                self.apply(host, op);
                Message::Join { selection, rooms: one(room) }
            }
            What::Leave(selection, room) => {
                self.apply(host, op);
                Message::Leave { selection, rooms: one(room) }
            }
            What::Disconnect(selection) => {
                self.apply(host, op);
                Message::Disconnect { selection, close: false }
            }
            What::ServerEvent => Message::ServerEvent { event: Self::event(op), request: None },
            What::Broadcast(_) | What::Ask(_) => unreachable!("these have functions of their own"),
        };
        self.publish(Some(host), message, Target::Everybody, Meaning::Op(op));
        self.compare(host);
    }

    fn ask(&mut self, host: Host, kind: Question, selection: Selection, calm: bool) {
        let number = self.asked.len();
        let op = self.op(Some(host), What::Ask(number));
        let within = if calm { LONGEST } else { Duration::from_millis(200 + self.rng.below(5_800)) };
        let flags = BroadcastFlags { timeout: Some(within), ..BroadcastFlags::default() };
        let options = BroadcastOptions { selection, flags };
        let now = self.clock(host);
        let random = self.rng.next_u64();
        let asked = Asked { host, kind, op, options, request: None, ended: None, calm, got: BTreeSet::new() };
        self.asked.push(asked);
        let request = self.servers[host].machine.ask(now, random, kind, within).expect("there is room");
        self.servers[host].view.asks(number, kind, now, within);
        self.servers[host].requests.insert(request.clone(), number);
        self.asked[number].request = Some(request.clone());
        self.drain(host, None);
        let Asked { options, .. } = &self.asked[number];
        let options = options.clone();
        let message = match kind {
            Question::Sockets => Message::Fetch { selection: options.selection.clone(), request },
            Question::Servers => Message::ServerEvent { event: Self::event(op), request: Some(request) },
            Question::Clients => {
                Message::Broadcast { event: Self::event(op), options: options.clone(), request: Some(request) }
            }
        };
        if kind == Question::Clients {
            self.deliver(host, op, &options);
        }
        if !self.publish(Some(host), message, Target::Everybody, Meaning::Op(op)) {
            // Whoever asks is told, and waits for nothing.
            return self.forget_question(number);
        }
        if self.dialect.membership() == Membership::Counted {
            let (time, link) = (self.within(30 * MS), self.servers[host].links);
            self.after(time, Event::Counted { host, question: number, link });
        }
        if !calm && self.rng.one_in(12) {
            self.forget_question(number);
        }
    }

    /// The broker says how many servers listen.
    fn counted(&mut self, host: Host, question: usize, link: u64) {
        // Without a connection nobody tells.
        if self.servers[host].links != link || self.servers[host].link != Link::Up {
            return;
        }
        let (now, Some(request)) = (self.clock(host), self.asked[question].request.clone()) else { return };
        // It notices later than they do that servers are gone.
        let linger = !self.mended && self.rng.one_in(2);
        let there = |server: &&Server| server.state != State::Gone && (server.link == Link::Up || linger);
        let count = self.servers.iter().filter(there).count();
        if let Some(open) = self.servers[host].view.questions.get_mut(&question) {
            open.counted = Some(count);
        }
        self.servers[host].machine.expect(now, &request, count, 0);
        self.drain(host, None);
    }

    fn forget(&mut self, host: Host) {
        let open: Vec<usize> = self.servers[host].view.questions.keys().copied().collect();
        if !open.is_empty() {
            let number = open[self.rng.below(open.len() as u64) as usize];
            self.forget_question(number);
        }
    }

    fn forget_question(&mut self, number: usize) {
        let host = self.asked[number].host;
        if self.servers[host].view.questions.remove(&number).is_none() {
            return;
        }
        if let Some(request) = self.asked[number].request.clone() {
            self.servers[host].machine.forget(&request);
            self.servers[host].requests.remove(&request);
        }
        self.asked[number].calm = false;
    }

    // ---- what servers do -----------------------------------------------------------------------------------------

    /// The machine wants something done that another server wants.
    fn perform(&mut self, host: Host, op: usize, task: Task) {
        assert!(self.ops[op].reached.insert(host), "operation {op} is done twice on server {host}");
        let what = self.ops[op].what.clone();
        match (task, what) {
            (Task::Broadcast { event, options, reply: None, .. }, What::Broadcast(sent)) => {
                check_event(op, &event);
                check_options(&sent, &options);
                self.tally.received += u64::from(self.deliver(host, op, &options) > 0);
            }
            (Task::Broadcast { event, options, reply: Some(reply), .. }, What::Ask(question)) => {
                check_event(op, &event);
                check_options(&self.asked[question].options, &options);
                self.ask_clients(host, op, question, &options, reply);
            }
            (Task::Join { selection, rooms }, What::Join(_, room)) => {
                self.join(host, &selection, &rooms);
                assert_eq!(rooms.as_slice(), [room]);
                self.model(host, op);
            }
            (Task::Leave { selection, rooms }, What::Leave(_, room)) => {
                assert_eq!(rooms.as_slice(), [room]);
                self.leave(host, &selection, &rooms);
                self.model(host, op);
            }
            (Task::Disconnect { selection, close: false }, What::Disconnect(_)) => {
                self.disconnect(host, &selection);
                self.model(host, op);
            }
            (Task::ServerEvent { event, reply: None }, What::ServerEvent) => check_event(op, &event),
            (Task::ServerEvent { event, reply: Some(reply) }, What::Ask(question)) => {
                check_event(op, &event);
                assert_eq!(self.asked[question].kind, Question::Servers);
                // Some never answer.
                if self.asked[question].calm || !self.rng.one_in(6) {
                    let time = self.within(S);
                    self.after(time, Event::Later { host, what: Later::Server { reply, question } });
                }
            }
            (Task::Fetch { selection, reply }, What::Ask(question)) => {
                let found = self.found(host, &selection);
                let model = {
                    let view = &self.servers[host].view;
                    let meant = view.selected(&self.asked[question].options.selection);
                    meant.into_iter().map(|id| (id.clone(), view.sockets[&id].clone())).collect::<BTreeMap<_, _>>()
                };
                let details = |(id, rooms): (&String, &BTreeSet<String>)| SocketDetails {
                    id: RoomName::from(&**id),
                    handshake: Value::Null,
                    rooms: rooms.iter().map(|room| RoomName::from(&**room)).collect(),
                    data: Value::from(host as i64),
                };
                let sockets = found.iter().map(details).collect();
                let message = Message::Fetched { request: reply.request.clone(), sockets };
                self.publish(Some(host), message, reply.target(), Meaning::Fetched { question, sockets: model });
            }
            (task, what) => panic!("{task:?} instead of {what:?}"),
        }
    }

    /// Sends an event to the sockets of a server. How many they are.
    fn deliver(&mut self, host: Host, op: usize, options: &BroadcastOptions) -> usize {
        let server = &mut self.servers[host];
        let got: Vec<String> = server.rooms.snapshot(&options.selection).iter().cloned().collect();
        let sent = match &self.ops[op].what {
            What::Broadcast(sent) => sent,
            What::Ask(question) => &self.asked[*question].options,
            what => panic!("{what:?} is no broadcast"),
        };
        let meant = server.view.selected(&sent.selection);
        assert_eq!(got.iter().cloned().collect::<BTreeSet<_>>(), meant, "operation {op} on server {host}: {sent:?}");
        let plain = matches!(self.ops[op].what, What::Broadcast(_));
        let rooms = format!("{:?}", sent.selection.rooms);
        for socket in &got {
            assert!(self.ops[op].sockets.insert(socket.clone()), "{socket} gets event {op} twice");
            let from = self.ops[op].from;
            if plain && let Some(before) = server.newest.insert((socket.clone(), from, rooms.clone()), op) {
                assert!(before < op, "{socket} gets event {op} of {from:?} behind {before}");
            }
        }
        got.len()
    }

    fn ask_clients(&mut self, host: Host, op: usize, question: usize, options: &BroadcastOptions, reply: ReplyTo) {
        self.deliver(host, op, options);
        let meant = self.servers[host].view.selected(&options.selection);
        let message = Message::ClientCount { request: reply.request.clone(), clients: meant.len() as u64 };
        let meaning = Meaning::Counted { question, clients: meant.len() };
        self.publish(Some(host), message, reply.target(), meaning);
        let calm = self.asked[question].calm;
        for socket in meant {
            if calm || !self.rng.one_in(5) {
                let time = self.within(S);
                let what = Later::Client { reply: reply.clone(), question, socket };
                self.after(time, Event::Later { host, what });
            }
        }
    }

    fn later(&mut self, host: Host, what: Later) {
        let (reply, message, meaning) = match what {
            Later::Client { reply, question, socket } => {
                let message = Message::ClientAnswer {
                    request: reply.request.clone(),
                    answer: Value::from(&*socket),
                    socket: self.rng.one_in(2).then(|| RoomName::from(&*socket)),
                };
                (reply, message, Meaning::Client { question, socket })
            }
            Later::Server { reply, question } => {
                let message =
                    Message::ServerAnswer { request: reply.request.clone(), answer: Value::from(host as i64) };
                (reply, message, Meaning::Server { question, host })
            }
        };
        self.publish(Some(host), message, reply.target(), meaning);
    }

    fn found(&self, host: Host, selection: &Selection) -> BTreeMap<String, BTreeSet<String>> {
        let rooms = &self.servers[host].rooms;
        let of = |id: &String| rooms.rooms_of(id).iter().map(|room| room.to_string()).collect();
        rooms.snapshot(selection).iter().map(|id| (id.clone(), of(id))).collect()
    }

    /// An operation on this server's own sockets.
    fn apply(&mut self, host: Host, op: usize) {
        match self.ops[op].what.clone() {
            What::Join(selection, room) => self.join(host, &selection, &one(room)),
            What::Leave(selection, room) => self.leave(host, &selection, &one(room)),
            What::Disconnect(selection) => self.disconnect(host, &selection),
            What::Broadcast(_) | What::ServerEvent | What::Ask(_) => {}
        }
        self.model(host, op);
    }

    fn members(&self, host: Host, selection: &Selection) -> Vec<String> {
        self.servers[host].rooms.snapshot(selection).iter().cloned().collect()
    }

    fn join(&mut self, host: Host, selection: &Selection, rooms: &RoomNames) {
        for id in self.members(host, selection) {
            self.servers[host].rooms.join(&id, rooms.clone()).expect("there is room");
        }
    }

    fn leave(&mut self, host: Host, selection: &Selection, rooms: &RoomNames) {
        for id in self.members(host, selection) {
            self.servers[host].rooms.leave(&id, rooms.clone());
        }
    }

    fn disconnect(&mut self, host: Host, selection: &Selection) {
        for id in self.members(host, selection) {
            self.servers[host].rooms.remove(&id).expect("it is there");
        }
    }

    /// What an operation means for the sockets of a server.
    fn model(&mut self, host: Host, op: usize) {
        let what = self.ops[op].what.clone();
        let view = &mut self.servers[host].view;
        let (What::Join(selection, _) | What::Leave(selection, _) | What::Disconnect(selection)) = &what else {
            return;
        };
        for id in view.selected(selection) {
            let rooms = view.sockets.get_mut(&id).expect("it was found");
            match what {
                What::Join(_, room) => drop(rooms.insert(room.to_owned())),
                What::Leave(_, room) => drop(rooms.remove(room)),
                _ => drop(view.sockets.remove(&id)),
            }
        }
    }

    /// Somebody who has asked is told something.
    fn told(&mut self, host: Host, letter: Option<&Letter>, request: &RequestId, news: News) {
        let now = self.clock(host);
        let number = *self.servers[host].requests.get(request).expect("told of a question that is not open");
        let named = self.dialect.names_answers();
        let view = &mut self.servers[host].view;
        let membership = view.membership;
        let open = view.questions.get_mut(&number).expect("told of a question that has ended");
        if let News::Complete { missing } = news {
            // A machine that closes ends them all.
            let closed = self.servers[host].state == State::Gone;
            let view = &self.servers[host].view;
            let open = &view.questions[&number];
            assert!(closed || open.is_complete(membership, now), "question {number} ends too early");
            assert_eq!(missing, open.missing(membership), "missing servers of question {number}");
            let open = self.servers[host].view.questions.remove(&number).expect("it is open");
            self.servers[host].requests.remove(request);
            *(if missing == 0 { &mut self.tally.complete } else { &mut self.tally.partial }) += 1;
            let asked = &mut self.asked[number];
            asked.got = open.got;
            assert!(asked.ended.replace(missing).is_none(), "question {number} ends twice");
            return;
        }
        let letter = letter.expect("an answer comes in a message");
        let from = letter.from.filter(|_| named);
        let (question, fits, got) = match (&news, &letter.meaning) {
            (News::Sockets(sockets), Meaning::Fetched { question, sockets: meant }) => {
                let named = |rooms: &RoomNames| rooms.iter().map(|room| room.to_string()).collect::<BTreeSet<_>>();
                let told: BTreeMap<_, _> =
                    sockets.iter().map(|socket| (socket.id.to_string(), named(&socket.rooms))).collect();
                assert!(told == *meant && told.len() == sockets.len(), "{told:?} instead of {meant:?}");
                assert!(open.answer(from), "question {number}: an answer came twice");
                (*question, open.kind == Question::Sockets, meant.keys().cloned().collect::<Vec<_>>())
            }
            (News::Answer(answer), Meaning::Server { question, host }) => {
                assert_eq!(answer.as_i64(), Some(*host as i64));
                assert!(open.answer(from), "question {number}: an answer came twice");
                (*question, open.kind == Question::Servers, vec![format!("server {host}")])
            }
            (News::Clients(count), Meaning::Counted { question, clients }) => {
                assert_eq!(*count, *clients as u64);
                assert!(open.answer(from), "question {number}: a count came twice");
                open.clients(from, *clients as i64);
                (*question, open.kind == Question::Clients, Vec::new())
            }
            (News::ClientAnswer { answer, socket }, Meaning::Client { question, socket: meant }) => {
                assert_eq!(answer.as_str(), Some(&**meant));
                assert!(socket.as_deref().is_none_or(|socket| socket == meant));
                open.clients(from, -1);
                (*question, open.kind == Question::Clients, vec![meant.clone()])
            }
            (news, meaning) => panic!("question {number} was told {news:?} of {meaning:?}"),
        };
        assert!(question == number && fits, "an answer to question {question} went to {number}");
        for one in got {
            assert!(open.got.insert(one.clone()), "question {number} got {one} twice");
        }
    }

    /// Machine and model are of one opinion.
    fn compare(&mut self, host: Host) {
        let server = &self.servers[host];
        if let Some(servers) = server.machine.servers() {
            assert_eq!(servers, 1 + server.view.heard.len(), "how many servers {host} knows");
        }
        assert_eq!(server.machine.open_requests(), server.view.questions.len(), "open questions of server {host}");
        assert_eq!(server.rooms.len(), server.view.sockets.len());
        for (id, rooms) in &server.view.sockets {
            let real: BTreeSet<String> = server.rooms.rooms_of(id).iter().map(|room| room.to_string()).collect();
            assert_eq!(real, *rooms, "rooms of {id}");
        }
    }

    // ---- faults --------------------------------------------------------------------------------------------------

    fn fault(&mut self) {
        self.tally.faults += 1;
        let there = self.servers.iter().filter(|server| server.state != State::Gone).count();
        let Some(host) = self.pick() else { return };
        match self.rng.below(8) {
            0 if there > 1 => self.die(host),
            1 if there > 1 => self.leave_cluster(host),
            0..=2 => {
                if there < HOSTS.0 && self.servers.len() < HOSTS.1 {
                    self.start();
                }
            }
            3 | 4 => self.cut(host),
            5 => {
                // The broker is away: for everybody.
                for host in self.alive() {
                    self.cut(host);
                }
            }
            6 => {
                self.servers[host].state = State::Frozen;
                let time = Duration::from_millis(100 + self.rng.below(14_000));
                self.after(time, Event::Thaw { host });
            }
            _ => {
                let jump = Duration::from_millis(self.rng.below(15_000));
                self.servers[host].skew += jump;
                // It notices at once.
                self.servers[host].timer = None;
                self.time(host);
            }
        }
    }

    fn die(&mut self, host: Host) {
        self.servers[host].state = State::Gone;
        self.servers[host].links += 1;
        // Whoever asked is gone, too.
        self.servers[host].view.questions.clear();
        for asked in self.asked.iter_mut().filter(|asked| asked.host == host) {
            asked.calm = false;
        }
    }

    fn leave_cluster(&mut self, host: Host) {
        self.servers[host].machine.close();
        // Its goodbye is on its way.
        let mut goodbye = Vec::new();
        let mut told = Vec::new();
        while let Some(output) = self.servers[host].machine.poll() {
            match output {
                Output::Publish(Message::Goodbye, to) => goodbye.push(to),
                Output::Told(request, news) => told.push((request, news)),
                output => panic!("{output:?} at the end"),
            }
        }
        for to in goodbye {
            self.publish(Some(host), Message::Goodbye, to, Meaning::Goodbye);
        }
        self.servers[host].state = State::Gone;
        for (request, news) in told {
            self.told(host, None, &request, news);
        }
        assert!(self.servers[host].view.questions.is_empty(), "every question has ended");
        assert_eq!(self.servers[host].machine.open_requests(), 0);
    }

    fn cut(&mut self, host: Host) {
        let server = &mut self.servers[host];
        if server.link != Link::Up {
            return;
        }
        server.link = Link::Dead;
        server.links += 1;
        let link = server.links;
        let noticed = self.within(3 * S);
        self.after(noticed, Event::Notice { host, link });
        let healed = noticed + MS + self.within(13 * S);
        self.after(healed, Event::Heal { host, link });
    }

    /// The connection is made again, and what waited is written.
    fn heal(&mut self, host: Host, link: u64) {
        if self.servers[host].links != link || self.servers[host].link == Link::Up {
            return;
        }
        self.servers[host].link = Link::Up;
        let now = self.clock(host);
        for (letter, kept) in std::mem::take(&mut self.servers[host].buffer) {
            self.send(host, letter, kept);
        }
        if let Some(mut reader) = self.servers[host].reader.take() {
            let lost = reader.connected(&self.log_info());
            self.servers[host].told_lost += lost;
            self.servers[host].reader = Some(reader);
            self.after(MS, Event::Read { host, link });
        }
        let hellos = self.servers[host].hellos;
        self.servers[host].machine.reconnected(now);
        self.servers[host].view.reconnected(now);
        self.drain(host, None);
        let asks = self.servers[host].hellos > hellos;
        assert_eq!(asks, self.dialect.membership() == Membership::Heartbeat, "server {host} asks who is there");
        self.compare(host);
    }

    fn thaw(&mut self, host: Host) {
        if self.servers[host].state != State::Frozen {
            return;
        }
        self.servers[host].state = State::Alive;
        self.servers[host].timer = None;
        let backlog = std::mem::take(&mut self.servers[host].backlog);
        let first = self.rng.one_in(2);
        if first {
            self.time(host);
        }
        for event in backlog {
            self.happen(event);
        }
        self.time(host);
    }

    // ---- the end -------------------------------------------------------------------------------------------------

    /// From now on nothing goes wrong.
    fn mend(&mut self) {
        self.mended = true;
        self.keeps = usize::MAX;
        for host in 0..self.servers.len() {
            self.thaw(host);
            let link = self.servers[host].links;
            if self.servers[host].state == State::Alive {
                self.heal(host, link);
            }
        }
    }

    /// The promised time is over: everybody knows everybody, and everything works.
    fn settled(&mut self) {
        let alive = self.alive();
        for host in alive.clone() {
            let server = &self.servers[host];
            let others: BTreeSet<Host> = alive.iter().copied().filter(|other| *other != host).collect();
            if let Some(count) = server.machine.servers() {
                let known: BTreeSet<Host> = server.view.heard.keys().copied().collect();
                assert_eq!(known, others, "whom server {host} knows");
                assert_eq!(count, alive.len(), "how many servers {host} knows");
            }
            self.tally.silent += server.machine.counts().servers_lost;
        }
        for host in alive {
            let all = BroadcastOptions::default();
            self.broadcast(Some(host), all);
            for kind in [Question::Sockets, Question::Servers, Question::Clients] {
                self.ask(host, kind, Selection::everybody(), true);
            }
        }
    }

    fn end(&mut self) {
        let alive = self.alive();
        let sockets: BTreeSet<String> =
            alive.iter().flat_map(|host| self.servers[*host].view.sockets.keys().cloned()).collect();
        // The last operations reached everybody.
        let calm: Vec<usize> = (0..self.asked.len()).filter(|number| self.asked[*number].calm).collect();
        assert_eq!(calm.len(), 3 * alive.len());
        let first = calm.first().map_or(0, |number| self.asked[*number].op - 1);
        for op in &self.ops[first..] {
            let from = op.from.expect("a server");
            let others: BTreeSet<Host> = alive.iter().copied().filter(|host| *host != from).collect();
            assert_eq!(op.reached, others, "{:?} of {from} reached everybody", op.what);
            if let What::Broadcast(_) = op.what {
                assert_eq!(op.sockets, sockets, "everybody got it");
            }
        }
        for number in calm {
            let Asked { host, kind, ended, got, .. } = &self.asked[number];
            assert_eq!(*ended, Some(0), "question {number} is answered by everybody");
            let elsewhere = |socket: &&String| !self.servers[*host].view.sockets.contains_key(&***socket);
            let want: BTreeSet<String> = match kind {
                Question::Sockets | Question::Clients => sockets.iter().filter(elsewhere).cloned().collect(),
                Question::Servers => {
                    alive.iter().filter(|other| *other != host).map(|host| format!("server {host}")).collect()
                }
            };
            assert_eq!(*got, want, "what question {number} got");
        }
        for host in alive {
            self.compare(host);
            let now = self.clock(host);
            let server = &mut self.servers[host];
            assert_eq!(server.machine.open_requests(), 0, "questions are left on server {host}");
            assert!(server.view.questions.is_empty() && server.requests.is_empty());
            // No deadline is left but those of heartbeats.
            match (server.view.membership, server.machine.deadline()) {
                (Membership::Counted, deadline) => assert_eq!(deadline, None),
                // One may be due at this very moment.
                (Membership::Heartbeat, deadline) => assert!(deadline.is_some_and(|at| at >= now)),
            }
            if server.reader.is_some() {
                // Every entry was read once, but for those that were trimmed away, which are counted.
                let owed = server.reads_from + 1..=self.added;
                let missing = owed.filter(|number| !server.read.contains(number)).count() as u64;
                assert_eq!(server.told_lost, missing, "entries that server {host} has not read");
                assert!(missing == 0 || self.trims, "nothing was trimmed away");
                self.tally.trimmed += missing;
            }
        }
    }
}

fn one(room: &str) -> RoomNames {
    std::iter::once(RoomName::from(room)).collect()
}

fn id_of(number: u64) -> String {
    format!("{number}-0")
}

fn number_of(id: &str) -> u64 {
    id.split_once('-').and_then(|(number, _)| number.parse().ok()).expect("an id of the log")
}

fn check_event(op: usize, event: &OwnedArgs) {
    assert_eq!((event.name(), event.values().expect("values")), ("event", World::event(op).values().expect("values")));
}

/// The options are those that were sent; `local` never travels.
fn check_options(sent: &BroadcastOptions, got: &BroadcastOptions) {
    assert!(!sent.flags.local, "a local event travels");
    assert_eq!(sent, got);
}
