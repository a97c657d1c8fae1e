//! What a crowd of clients on two servers sees when the broker between them is killed, restarted, stopped, or cut off without a
//! word.
//!
//! Clients talk in groups of four, two on each server: each word goes to one client of the same server and to two of the other.
//! A program that is no server says words of its own, and notes which of them the broker has acknowledged.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socketio::testing::{self, TestClient, TestServer};
use socketio::{BusError, Data, EmitError, Health, Namespace, Socket, SocketIo, State};
use socketio_adapter::cluster::Emitter;
use tokio::task::JoinSet;

use crate::contract::Broker;
use crate::eventually;

/// How long anything may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long it is watched before, and while the broker is away.
const WATCH: Duration = Duration::from_secs(2);
/// Between two words of the clients of a server.
const PAUSE: Duration = Duration::from_millis(10);
/// How many bytes wait while the broker is away; to be set on the bus.
pub const BUFFER: usize = 256 << 10;
/// How soon traffic has to go on when the broker is back. Looked at where the machine has nothing else to do.
pub const PROMISE: Duration = Duration::from_secs(2);

/// What happens to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is killed, and started again later.
    Kill,
    /// It is told to end, and started again at once.
    Restart,
    /// It is stopped, and goes on later: connections are there, and nobody answers.
    Pause,
    /// The network swallows everything, without a word, through a [`Proxy`](crate::Proxy).
    Partition,
    /// The same, by the routes of a network namespace. Needs root.
    Namespace,
}

/// A broker that can be hurt.
pub trait Faulty: Broker {
    /// Its name in the table.
    fn name(&self) -> String;

    /// Whether what it has acknowledged reaches every server that runs.
    fn keeps(&self) -> bool;

    /// A program that is no server.
    fn emitter(&self) -> Emitter;

    /// The fault begins.
    fn hurt(&mut self, fault: Fault) -> impl Future<Output = ()> + Send;

    /// It is over, and the broker is there.
    fn heal(&mut self, fault: Fault) -> impl Future<Output = ()> + Send;
}

/// What was seen. As text it is a row of a table.
#[derive(Debug, Clone)]
pub struct Figures {
    broker: String,
    fault: Fault,
    /// The slowest word between clients of one server, before the fault, and from then on until traffic has resumed.
    pub local: (Duration, Duration),
    /// From the fault to the moment when both servers knew; none where it was over at once.
    pub noticed: Option<Duration>,
    /// From the return of the broker to the first words in both directions.
    pub resumed: Duration,
    words: (usize, usize),
    /// Emits that returned an error because the buffer was full.
    refused: usize,
    lost: u64,
    acknowledged: usize,
    unheard: usize,
}

impl Figures {
    /// The first row.
    pub const HEAD: &'static str = "| broker | fault | slowest local before | during | noticed after | resumed after | local words | words across \
                                    | refused emits | counted as lost | acknowledged | of these unheard |";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, fault, local, noticed, resumed, words, refused, lost, acknowledged, unheard } = self;
        let ms = |time: &Duration| format!("{} ms", time.as_millis());
        let finer = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let noticed = noticed.as_ref().map_or_else(|| "-".to_owned(), ms);
        write!(
            f,
            "| {broker} | {fault:?} | {} | {} | {noticed} | {} | {} | {} | {refused} | {lost} | {acknowledged} | {unheard} |",
            finer(&local.0),
            finer(&local.1),
            ms(resumed),
            words.0,
            words.1,
        )
    }
}

/// What all clients note together.
struct Meter {
    begin: Instant,
    /// The slowest local word, in microseconds, since it was taken last.
    slowest: AtomicU64,
    local: AtomicUsize,
    across: AtomicUsize,
    /// When the newest word that crossed was sent, by the server that sent it.
    crossed: [AtomicU64; 2],
    refused: AtomicUsize,
    stop: AtomicBool,
}

impl Meter {
    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A word: who says it, the how manieth it is, when, and on which server.
type Word = (usize, u64, u64, usize);

/// Goes through one fault with so many clients.
///
/// # Panics
/// When a client notices more of it than it may.
pub async fn survives<B: Faulty>(broker: &mut B, fault: Fault, clients: usize) -> Figures {
    let groups = (clients / 4).max(1);
    let meter = Arc::new(Meter {
        begin: Instant::now(),
        slowest: AtomicU64::new(0),
        local: AtomicUsize::new(0),
        across: AtomicUsize::new(0),
        crossed: [const { AtomicU64::new(0) }; 2],
        refused: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let servers = [0, 1].map(|_| testing::serve(server(broker, &meter)));
    knows(&servers).await;
    let mut crowd: Vec<Vec<Arc<TestClient>>> = vec![Vec::new(), Vec::new()];
    for (no, server) in servers.iter().enumerate() {
        for index in 0..2 * groups {
            let client = server.connect("/").await;
            let socket = server.io().of("/").socket(&client.id()).expect("it is connected");
            let mut rooms = vec![group(index / 2)];
            // Two on each server listen to the program.
            rooms.extend((index < 2).then(|| "program".to_owned()));
            drop(socket.join(rooms));
            crowd[no].push(Arc::new(client));
        }
        // The broker knows of all the rooms.
        server.io().of("/").sockets_join("everybody").await.expect("there is room");
    }
    let mut tasks = JoinSet::new();
    let mut heard = Vec::new();
    for (no, clients) in crowd.iter().enumerate() {
        for (index, client) in clients.iter().enumerate() {
            tasks.spawn(listen(Arc::clone(client), Arc::clone(&meter), no));
            if index < 2 {
                let numbers = Arc::new(std::sync::Mutex::new(Vec::new()));
                tasks.spawn(note(Arc::clone(client), Arc::clone(&numbers)));
                heard.push(numbers);
            }
        }
        tasks.spawn(talk(clients.clone(), Arc::clone(&meter), no));
    }
    let acknowledging = tokio::spawn(program(broker.emitter(), Arc::clone(&meter)));
    crosses(&meter, 0).await;
    tokio::time::sleep(WATCH).await;
    let before = Duration::from_micros(meter.slowest.swap(0, Ordering::AcqRel));

    let outages = |no: usize| servers[no].io().stats().cluster_outages;
    let known = [outages(0), outages(1)];
    let begin = Instant::now();
    broker.hurt(fault).await;
    let (mut noticed, mut refused) = (None, 0);
    if fault != Fault::Restart {
        assert!(eventually(PATIENCE, || (0..2).all(|no| outages(no) > known[no])).await, "{fault:?} is noticed");
        noticed = Some(begin.elapsed());
        let local = meter.local.load(Ordering::Acquire);
        tokio::time::sleep(WATCH).await;
        assert!(meter.local.load(Ordering::Acquire) > local, "clients of one server still hear each other");
        // What is asked meanwhile ends, with what is known here.
        let found = servers[0].io().broadcast().timeout(Duration::from_secs(1)).fetch().await;
        assert_eq!(found.sockets.len(), 2 * groups);
        assert!(found.missing >= 1, "the other server is missing");
        // What exceeds the buffer is an error of the emit.
        let (fill, pieces) = ("x".repeat(BUFFER / 8), 20);
        for piece in 0..pieces {
            let full = servers[1].io().to("nobody").emit("fill", &fill).error().cloned();
            match full {
                Some(EmitError::Cluster(BusError::Full { bytes })) if bytes <= BUFFER => refused += 1,
                None if piece < 8 => {}
                other => panic!("{other:?} about piece {piece} of {pieces}"),
            }
        }
    }
    broker.heal(fault).await;
    let (back, since) = (Instant::now(), meter.now());
    crosses(&meter, since).await;
    let resumed = back.elapsed();
    let during = Duration::from_micros(meter.slowest.load(Ordering::Acquire));

    // Everything works, and everybody is still there.
    meter.stop.store(true, Ordering::Release);
    let acknowledged = tokio::time::timeout(PATIENCE, acknowledging).await.expect("it ends").expect("it runs");
    knows(&servers).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let found = servers[1].io().broadcast().fetch().await;
        if (found.sockets.len(), found.missing) == (4 * groups, 0) {
            break;
        }
        assert!(Instant::now() < until, "{} sockets found, {} servers missing", found.sockets.len(), found.missing);
    }
    assert!(crowd.iter().flatten().all(|client| client.connected()), "nobody was disconnected");
    let emitter = broker.emitter();
    let ends = || async { emitter.to("program").emit("end", ()).await.is_ok() };
    let until = Instant::now() + PATIENCE;
    while !ends().await {
        assert!(Instant::now() < until, "the program can speak again");
    }
    for client in crowd.iter().flat_map(|clients| &clients[..2]) {
        client.next("end").await;
    }
    let mut unheard = BTreeSet::new();
    for numbers in heard {
        let numbers = numbers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        assert!(numbers.is_sorted_by(|one, next| one < next), "the words of the program come once, and in order");
        let numbers: BTreeSet<u64> = numbers.into_iter().collect();
        unheard.extend(acknowledged.iter().filter(|number| !numbers.contains(number)).copied());
    }
    assert!(!broker.keeps() || unheard.is_empty(), "{unheard:?} were acknowledged and not heard");
    tasks.abort_all();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    Figures {
        broker: broker.name(),
        fault,
        local: (before, during),
        noticed,
        resumed,
        words: (meter.local.load(Ordering::Acquire), meter.across.load(Ordering::Acquire)),
        refused: refused + meter.refused.load(Ordering::Acquire),
        lost: servers.iter().map(|server| server.io().stats().cluster_lost).sum(),
        acknowledged: acknowledged.len(),
        unheard: unheard.len(),
    }
}

fn group(index: usize) -> String {
    format!("group-{index}")
}

fn server(broker: &impl Broker, meter: &Arc<Meter>) -> SocketIo {
    let root = Namespace::new("/").state(Arc::clone(meter)).on(
        "say",
        async |socket: Socket, Data(word): Data<Word>, State(meter): State<Arc<Meter>>| {
            let group = group(word.0 / 2 % 1_000_000);
            if socket.to(group).emit("said", word).error().is_some() {
                meter.refused.fetch_add(1, Ordering::AcqRel);
            }
        },
    );
    SocketIo::builder().adapter(broker.bus()).namespace(root).build().expect("it fits together")
}

async fn knows(servers: &[TestServer; 2]) {
    for server in servers {
        let until = Instant::now() + PATIENCE;
        while server.io().of("/").server_count().await != Ok(2) || server.io().adapter_health() != Some(Health::Up) {
            assert!(Instant::now() < until, "the servers find each other");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Words that were said after this moment have crossed in both directions.
async fn crosses(meter: &Meter, since: u64) {
    let both = || meter.crossed.iter().all(|newest| newest.load(Ordering::Acquire) > since);
    assert!(eventually(PATIENCE, both).await, "words cross between the servers");
}

/// The clients of a server say something, one after the other.
async fn talk(clients: Vec<Arc<TestClient>>, meter: Arc<Meter>, server: usize) {
    for (round, turn) in (0_u64..).flat_map(|round| (0..clients.len()).map(move |turn| (round, turn))) {
        if meter.stop.load(Ordering::Acquire) {
            return;
        }
        // The first digit tells whose it is: clients of both servers have the same numbers.
        let who = turn + server * 2_000_000;
        clients[turn].emit("say", (who, round, meter.now(), server));
        tokio::time::sleep(PAUSE).await;
    }
}

/// A client listens: each speaker's words come in order, and once.
async fn listen(client: Arc<TestClient>, meter: Arc<Meter>, server: usize) {
    let mut newest = std::collections::BTreeMap::new();
    loop {
        let (who, number, sent, from): Word = client.next("said").await.args();
        let before = newest.insert(who, number);
        assert!(before.is_none_or(|before| before < number), "word {number} of {who} behind {before:?}");
        if from == server {
            meter.local.fetch_add(1, Ordering::AcqRel);
            meter.slowest.fetch_max(meter.now().saturating_sub(sent), Ordering::AcqRel);
        } else {
            meter.across.fetch_add(1, Ordering::AcqRel);
            meter.crossed[from].fetch_max(sent, Ordering::AcqRel);
        }
    }
}

/// Notes what the program says.
async fn note(client: Arc<TestClient>, numbers: Arc<std::sync::Mutex<Vec<u64>>>) {
    loop {
        let number = client.next("number").await.args();
        numbers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(number);
    }
}

/// A program that is no server counts, and returns which numbers the broker has acknowledged.
async fn program(emitter: Emitter, meter: Arc<Meter>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if meter.stop.load(Ordering::Acquire) {
            break;
        }
        if emitter.to("program").emit("number", number).await.is_ok() {
            acknowledged.push(number);
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}
