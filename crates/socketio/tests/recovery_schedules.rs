//! Random schedules against the server itself, in memory and under paused time: links that are cut or die unnoticed, events
//! to rooms, volatile events, questions, rooms that change, clients that come back in time and too late. Nothing that
//! recovery promises is lost, doubled or out of order.
//!
//! The machine alone runs many more schedules (`socketio-adapter/tests/recovery_model.rs`). `SIM_SEED=n` runs one schedule,
//! `SIM_SEEDS=n` as many; `cargo xtask sim` does both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use socketio::{Namespace, NotRecoverable, RecoveryOptions, SessionEnd, Socket, SocketIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

const STEPS: u64 = 50;
const CLIENTS: u64 = 3;
const ROOMS: [&str; 3] = ["a", "b", "c"];
/// Packets are kept for the time away and the time to notice a dead link.
const KEPT: Duration = Duration::from_secs(165);

#[test]
fn the_server_loses_doubles_and_reorders_nothing_in_any_schedule() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds,
        (None, None) => 0..200,
    };
    let count = seeds.end - seeds.start;
    let mut tally = Tally::default();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async { World::new(seed).run(&mut tally).await });
        }));
        assert!(run.is_ok(), "seed {seed}: cargo xtask sim recovery-server --seed {seed}");
    }
    println!("{count} schedules: {tally:?}");
    if count >= 200 {
        let Tally { recovered, replaced, refused, events, volatile, sure } = tally;
        let least = [recovered / 4, replaced, refused * 4, events / 10, volatile, sure];
        assert!(least.iter().all(|number| *number > count / 20), "{tally:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    recovered: u64,
    /// ... while the server had not noticed the end of the old link.
    replaced: u64,
    /// Came back too late.
    refused: u64,
    /// Stored events that arrived.
    events: u64,
    /// Volatile events that arrived.
    volatile: u64,
    /// Events that were sent until they were confirmed.
    sure: u64,
}

/// A client as socket.io-client behaves, over a WebSocket of its own.
#[derive(Default)]
struct Client {
    pid: Option<String>,
    offset: Option<String>,
    id: Option<String>,
    life: usize,
    got: Vec<u64>,
    /// Events that are sent until they are confirmed, without repetitions.
    sure: Vec<u64>,
    newest: u64,
    link: Option<Link>,
}

struct Link {
    stream: DuplexStream,
    buffer: Vec<u8>,
    connected: bool,
}

/// What the model knows of a socket, over all its recoveries.
#[derive(Default)]
struct Life {
    id: String,
    rooms: BTreeSet<&'static str>,
    owed: Vec<u64>,
    sure: Vec<u64>,
}

struct World {
    rng: Rng,
    io: SocketIo,
    clients: Vec<Client>,
    lives: Vec<Life>,
    /// Links whose clients are gone, and which look alive to the server.
    dead: Vec<Link>,
    sent: Vec<Instant>,
    ended: Arc<Mutex<BTreeMap<String, SessionEnd>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let ended = Arc::new(Mutex::new(BTreeMap::new()));
        let noted = Arc::clone(&ended);
        let namespace = Namespace::new("/")
            .on_connect(async |socket: Socket| {
                // Data survives with the socket.
                let times = socket.data().get::<u64>("times").unwrap_or(0);
                assert_eq!(times > 0, socket.recovered());
                socket.data().insert("times", times + 1).expect("a number");
            })
            .on_session_expired(move |session| {
                noted.lock().unwrap().insert(session.id().to_string(), session.why());
            });
        let io = SocketIo::builder()
            .connection_state_recovery(RecoveryOptions::default())
            .namespace(namespace)
            .build()
            .expect("sound options");
        Self {
            rng: Rng(seed),
            io,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            lives: Vec::new(),
            dead: Vec::new(),
            sent: vec![Instant::now()],
            ended,
        }
    }

    async fn run(&mut self, tally: &mut Tally) {
        for client in 0..self.clients.len() {
            self.connect(client, tally).await;
        }
        for _ in 0..STEPS {
            let client = self.rng.below(CLIENTS) as usize;
            match self.rng.below(20) {
                0..=6 => self.emit(),
                7 => self.volatile(),
                8 if self.rng.below(2) == 0 => self.ask(client),
                8 => self.make_sure(client),
                9 | 10 => self.enter_or_leave(client),
                11..=13 => self.deliver(client, tally).await,
                14 => self.cut(client, false).await,
                15 => self.cut(client, true).await,
                16..=18 => self.connect(client, tally).await,
                _ => {
                    let seconds = if self.rng.below(8) == 0 { 130 } else { self.rng.below(20) };
                    self.wait(Duration::from_secs(seconds)).await;
                }
            }
        }
        for client in 0..self.clients.len() {
            self.connect(client, tally).await;
            for _ in 0..STEPS {
                self.deliver(client, tally).await;
            }
            let Client { life, got, sure, .. } = &self.clients[client];
            assert_eq!(*got, self.lives[*life].owed, "client {client} has everything");
            assert_eq!(*sure, self.lives[*life].sure, "client {client} has confirmed everything");
        }
        self.io.close_within(Duration::from_secs(1)).await;
    }

    async fn connect(&mut self, client: usize, tally: &mut Tally) {
        if let Some(link) = &self.clients[client].link {
            if link.connected && self.rng.below(3) > 0 {
                return;
            }
            // The network changed, and the server does not know.
            self.cut(client, true).await;
        }
        let mut link = Link::open(&self.io).await;
        let Client { pid, offset, .. } = &self.clients[client];
        let mut auth = serde_json::Map::new();
        pid.iter().for_each(|pid| drop(auth.insert("pid".into(), json!(pid))));
        offset.iter().for_each(|offset| drop(auth.insert("offset".into(), json!(offset))));
        let auth = if auth.is_empty() { String::new() } else { Value::Object(auth).to_string() };
        let alive = |world: &Self| {
            let id = world.clients[client].id.as_deref();
            id.and_then(|id| world.io.of("/").socket(id))
        };
        let replaced = alive(self).is_some();
        link.send(&format!("40{auth}")).await;
        tally.replaced += u64::from(replaced);
        let known = self.io.of("/").len();
        let stats = self.io.stats();
        // Until the server has answered; whether the answer arrives is another matter.
        while self.io.stats().sockets == stats.sockets {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let after = self.io.stats();
        let recovered = after.recovered > stats.recovered;
        tally.recovered += u64::from(recovered);
        if recovered {
            let socket = alive(self).expect("it is here again");
            let life = &self.lives[self.clients[client].life];
            let rooms = socket.rooms();
            let rooms: BTreeSet<&str> = rooms.iter().map(|room| &**room).filter(|room| *room != life.id).collect();
            assert_eq!(rooms, life.rooms, "its rooms are there");
        } else {
            if let Some(id) = &self.clients[client].id {
                tally.refused += 1;
                let ended = self.ended.lock().unwrap().get(id).copied();
                let Client { life, got, .. } = &self.clients[client];
                let missing = self.lives[*life].owed.get(got.len()).copied();
                let age = missing.map(|index| self.sent[index as usize].elapsed());
                match ended {
                    Some(SessionEnd::Expired) => {}
                    Some(SessionEnd::NotRecoverable(NotRecoverable::Trimmed)) => {
                        assert!(age.is_some_and(|age| age > KEPT), "{age:?} {missing:?}");
                    }
                    other => panic!("client {client} was not recovered: {other:?} {age:?} {known}"),
                }
            }
            // The model learns who that is when the client does; the server's list knows already.
            self.lives.push(Life::default());
            let life = self.lives.len() - 1;
            let ids: BTreeSet<String> = self.lives.iter().map(|life| life.id.clone()).collect();
            let new = self.io.of("/").broadcast().sockets();
            let new = new.iter().find(|socket| !ids.contains(socket.id().as_str())).expect("somebody is new");
            self.lives[life].id = new.id().to_string();
        }
        self.clients[client].link = Some(link);
    }

    fn emit(&mut self) {
        let (to, except) = (self.some_rooms(2), self.some_rooms(1));
        let index = self.next_event();
        let list = |rooms: &BTreeSet<&'static str>| rooms.iter().copied().collect::<Vec<_>>();
        let operators = self.io.to(list(&to)).except(list(&except));
        assert!(match index % 3 {
            0 => operators.emit("event", (index, "text")).is_ok(),
            _ => operators.emit("event", index).is_ok(),
        });
        let selected = |rooms: &BTreeSet<&str>| (to.is_empty() || !to.is_disjoint(rooms)) && except.is_disjoint(rooms);
        for life in self.lives.iter_mut().filter(|life| selected(&life.rooms)) {
            life.owed.push(index);
        }
    }

    fn volatile(&mut self) {
        let index = self.next_event();
        let everybody = self.io.volatile();
        match index % 2 {
            0 => everybody.emit("volatile", index),
            _ => everybody.emit("volatile", (index, "connected")),
        };
    }

    fn ask(&mut self, client: usize) {
        let index = self.next_event();
        let socket = self.clients[client].id.as_deref().and_then(|id| self.io.of("/").socket(id));
        if let Some(socket) = socket {
            drop(socket.emit_with_ack::<()>("question", (index, "text")));
        }
    }

    fn make_sure(&mut self, client: usize) {
        let index = self.next_event();
        let Client { id, life, .. } = &self.clients[client];
        let Some(socket) = id.as_deref().and_then(|id| self.io.of("/").socket(id)) else { return };
        if socket.retries(1_000).timeout(Duration::from_secs(20)).emit("sure", index).is_ok() {
            self.lives[*life].sure.push(index);
        }
    }

    fn enter_or_leave(&mut self, client: usize) {
        let room = ROOMS[self.rng.below(ROOMS.len() as u64) as usize];
        let Client { id, life, .. } = &self.clients[client];
        // Also those whose link is dead: the server does not know.
        let Some(socket) = id.as_deref().and_then(|id| self.io.of("/").socket(id)) else { return };
        let rooms = &mut self.lives[*life].rooms;
        if rooms.insert(room) {
            socket.join(room);
        } else {
            rooms.remove(room);
            socket.leave(room);
        }
    }

    /// The client reads what there is.
    async fn deliver(&mut self, client: usize, tally: &mut Tally) {
        let Client { link, .. } = &mut self.clients[client];
        let Some(mut open) = link.take() else { return };
        loop {
            let Some(text) = open.read().await else { break };
            match text.split_at_checked(2) {
                Some(("40", answer)) => {
                    open.connected = true;
                    let answer: Value = serde_json::from_str(answer).expect("JSON");
                    let text = |name: &str| answer[name].as_str().expect("a string").to_owned();
                    let client = &mut self.clients[client];
                    let recovered = client.pid.as_ref() == Some(&text("pid"));
                    client.pid = Some(text("pid"));
                    if recovered {
                        assert_eq!(client.id, Some(text("sid")));
                    } else {
                        client.id = Some(text("sid"));
                        client.life =
                            self.lives.iter().position(|life| life.id == text("sid")).expect("the model knows it");
                        client.got.clear();
                        client.sure.clear();
                    }
                }
                Some(("42", _)) => {
                    assert!(open.connected, "nothing comes before the answer");
                    let event = &text[text.find('[').expect("an event")..];
                    let asks = !text.starts_with("42[");
                    let event: Vec<Value> = serde_json::from_str(event).expect("JSON");
                    let index = event[1].as_u64().expect("a number");
                    let client = &mut self.clients[client];
                    if event[0] == "sure" {
                        // Repetitions are told by their id, which is the index here.
                        if !client.sure.contains(&index) {
                            client.sure.push(index);
                            tally.sure += 1;
                        }
                        let sure = &self.lives[client.life].sure;
                        assert!(sure.starts_with(&client.sure), "got {:?} of {sure:?}", client.sure);
                        let answer = &text[2..text.find('[').expect("an event")];
                        open.send(&format!("43{answer}[]")).await;
                        continue;
                    }
                    assert!(index > client.newest, "event {index} after {}: {text}", client.newest);
                    client.newest = index;
                    // As the library does, the function that answers being the last argument of a question.
                    if let (Some(last), false) = (event.last().and_then(Value::as_str), asks) {
                        client.offset = Some(last.to_owned());
                    }
                    match event[0].as_str() {
                        Some("event") => {
                            client.got.push(index);
                            tally.events += 1;
                            let owed = &self.lives[client.life].owed;
                            assert!(owed.starts_with(&client.got), "got {:?} of {owed:?}", client.got);
                        }
                        Some("volatile") => tally.volatile += 1,
                        _ => {}
                    }
                }
                _ if text == "2" => open.send("3").await,
                _ => panic!("unexpected: {text}"),
            }
        }
        self.clients[client].link = Some(open);
    }

    /// The link breaks; what is on its way is lost. The server notices at once, or believes that it goes on.
    async fn cut(&mut self, client: usize, unnoticed: bool) {
        let Some(link) = self.clients[client].link.take() else { return };
        if unnoticed {
            self.dead.push(link);
        } else {
            drop(link);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        // Links that are alive answer pings.
        while Instant::now() < until {
            for client in 0..self.clients.len() {
                if let Some(link) = &mut self.clients[client].link {
                    link.answer_pings().await;
                }
            }
            tokio::time::sleep(Duration::from_secs(5).min(until - Instant::now())).await;
        }
    }

    fn next_event(&mut self) -> u64 {
        self.sent.push(Instant::now());
        self.sent.len() as u64 - 1
    }

    fn some_rooms(&mut self, most: u64) -> BTreeSet<&'static str> {
        let count = self.rng.below(most + 1);
        (0..count).map(|_| ROOMS[self.rng.below(ROOMS.len() as u64) as usize]).collect()
    }
}

impl Link {
    async fn open(io: &SocketIo) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let service = TowerToHyperService::new(io.service());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .half_close(false)
                .serve_connection(TokioIo::new(far), service);
            let _ = connection.with_upgrades().await;
        });
        let mut link = Self { stream: near, buffer: Vec::new(), connected: false };
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        link.stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(link.stream.read_u8().await.expect("the server answers"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let open = link.read().await.expect("an open packet");
        assert!(open.starts_with("0{"), "{open}");
        link
    }

    async fn send(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | text.len().min(126) as u8];
        if text.len() >= 126 {
            frame.extend((text.len() as u16).to_be_bytes());
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(text.as_bytes());
        // To a server that is gone it makes no difference.
        let _ = self.stream.write_all(&frame).await;
    }

    /// The next message, or `None` when nothing is on its way.
    async fn read(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.parse() {
                return Some(text);
            }
            let reading = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(Duration::from_millis(2), reading).await {
                Ok(Ok(count)) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Answers pings and leaves everything else where it is.
    async fn answer_pings(&mut self) {
        let mut kept = Vec::new();
        let mut pings = 0;
        while let Some(text) = self.read().await {
            if text == "2" { pings += 1 } else { kept.push(text) }
        }
        for _ in 0..pings {
            self.send("3").await;
        }
        let mut buffer = Vec::new();
        for text in kept {
            buffer.extend([0x81, 126]);
            buffer.extend((text.len() as u16).to_be_bytes());
            buffer.extend(text.bytes());
        }
        buffer.append(&mut self.buffer);
        self.buffer = buffer;
    }

    fn parse(&mut self) -> Option<String> {
        let (len, start) = match *self.buffer.get(1)? {
            126 => (usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?)), 4),
            len => (usize::from(len), 2),
        };
        assert_eq!(self.buffer[0], 0x81, "only text is sent");
        let text = String::from_utf8(self.buffer.get(start..start + len)?.to_vec()).expect("UTF-8");
        self.buffer.drain(..start + len);
        Some(text)
    }
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
