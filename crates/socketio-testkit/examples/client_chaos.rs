//! 200 clients and a server of another make with a bad network between them: what `cargo xtask interop` runs for a minute
//! and `cargo xtask soak client-chaos` for ten.
//!
//! `client_chaos --seconds N [--seed S] -- PROGRAM ARGUMENT…` starts the server (`interop/node/chaos.mjs` says what it
//! does) and a proxy that cuts, delays, stalls and half-closes connections. In waves, each of a third of the time, the
//! clients emit events with `retries`; then the network is healed, and all that was emitted has to be there: at least once,
//! in order. Prints TAP, and the figures of tasks and memory after each wave.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use socketio_client::{Client, SimpleClient, Transport, Value};
use socketio_testkit::{Child, Rng, promises::resident_kib, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const CLIENTS: u64 = 200;
const WAVES: u32 = 3;
const DELAY: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(2);
const FACTOR: f64 = 0.5;
/// All that was emitted arrives within this once the network is healed. Long, as all deadlines here: on a starved machine 200
/// clients that come back at once need their time.
const HEALING: Duration = Duration::from_secs(180);
/// How much more memory than after the first wave there may be after the last one.
const GROWTH_KIB: u64 = 8 << 10;

type Failed = Box<dyn std::error::Error>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, Failed> {
    let (mut seconds, mut seed) = (60_u64, 1_u64);
    let mut args = std::env::args().skip(1);
    let program = loop {
        match args.next().as_deref() {
            Some("--seconds") => seconds = args.next().ok_or("a number is missing")?.parse()?,
            Some("--seed") => seed = args.next().ok_or("a number is missing")?.parse()?,
            Some("--") => break args.next().ok_or("the command of a server is missing")?,
            other => return Err(format!("what is {other:?}?").into()),
        }
    };
    let attempts = Attempts::default();
    tracing::subscriber::set_global_default(attempts.clone())?;

    let mut child = Child::start(&program, args)?;
    let line = child.line(Duration::from_secs(30))?;
    let port: u16 = line.strip_prefix("listening on ").ok_or("no port")?.trim().parse()?;
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let network = Network::start(server, seed).await?;

    // The proxy, and nothing else.
    let idle_tasks = tasks();
    println!("# before: {idle_tasks} task(s), {} KiB resident", resident_kib());
    let mut residents = Vec::new();
    let mut left_tasks = Vec::new();
    let mut sent = Vec::new();
    let mut stuck = 0;
    for wave in 0..WAVES {
        let wave_sent = run_wave(&network, wave, Duration::from_secs(seconds) / WAVES).await;
        stuck += wave_sent.iter().filter(|(.., arrived)| !arrived).count();
        sent.extend(wave_sent);
        // The proxy's own tasks end with the connections that they serve.
        let until = Instant::now() + Duration::from_secs(60);
        while tasks() > idle_tasks && Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
        }
        left_tasks.push(tasks().saturating_sub(idle_tasks));
        residents.push(resident_kib());
        println!(
            "# wave {wave}: {} task(s) more than before, {} KiB resident, {} connections through the proxy so far, of which {} were hurt",
            left_tasks[wave as usize],
            residents[wave as usize],
            network.0.connections.load(Ordering::Relaxed),
            network.0.hurt.load(Ordering::Relaxed),
        );
    }

    let watcher = SimpleClient::connect(&format!("http://{server}")).await?;
    let tallies: Value = watcher.call("tallies", ()).await?;
    let seen: u64 = watcher.call("seen", ()).await?;
    watcher.close().await;
    let (mut arrived, mut repeated, mut gaps, mut short) = (0, 0, 0, Vec::new());
    for (name, count, _) in &sent {
        let tally = |at: usize| {
            let tally = tallies.get(name).and_then(|tally| tally.as_array()?.get(at)?.as_u64());
            tally.unwrap_or(0)
        };
        arrived += tally(0);
        repeated += tally(1);
        gaps += tally(2);
        if tally(0) != *count {
            short.push(format!("{name}: {} of {count}", tally(0)));
        }
    }
    let emitted: u64 = sent.iter().map(|(_, count, _)| count).sum();
    println!(
        "# {emitted} events of {} clients, {arrived} arrived, {repeated} of them again, over {seen} connections",
        sent.len()
    );
    let drawn = attempts.drawn();
    let outside: Vec<_> = drawn.iter().filter(|(attempt, delay)| !fits(*attempt, *delay)).collect();
    println!(
        "# {} pauses between attempts, at most {:?} after {} in a row",
        drawn.len(),
        drawn.iter().map(|(_, delay)| *delay).max().unwrap_or_default(),
        drawn.iter().map(|(attempt, _)| *attempt).max().unwrap_or(0)
    );

    let mut results = Results::default();
    results.tell(
        "every event arrives at least once",
        short.is_empty() && stuck == 0,
        &format!("{stuck} stuck; {short:?}"),
    );
    results.tell("every event arrives in order", gaps == 0, &format!("{gaps} gaps"));
    results.tell(
        "the network was bad",
        network.0.hurt.load(Ordering::Relaxed) > CLIENTS && seen > 2 * CLIENTS,
        "too few were hurt",
    );
    results.tell("pauses follow the formula", !drawn.is_empty() && outside.is_empty(), &format!("{outside:?}"));
    results.tell("no task is left", left_tasks.iter().all(|left| *left == 0), &format!("{left_tasks:?}"));
    let grown = residents.last().zip(residents.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
    results.tell("no memory is left", grown <= GROWTH_KIB, &format!("{residents:?}"));
    println!("1..{}", results.number);
    Ok(if results.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Default)]
struct Results {
    number: usize,
    failed: bool,
}

impl Results {
    fn tell(&mut self, name: &str, passed: bool, why: &str) {
        self.number += 1;
        self.failed |= !passed;
        println!("{}ok {} - {name}", if passed { "" } else { "not " }, self.number);
        if !passed {
            println!("# {why:.1000}");
        }
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// A crowd for a while. Returns for each client its name, how much it has emitted, and whether all of it was answered.
async fn run_wave(network: &Network, wave: u32, time: Duration) -> Vec<(String, u64, bool)> {
    network.0.healed.send_replace(false);
    network.0.heals.store(false, Ordering::Relaxed);
    let mut crowd = JoinSet::new();
    for number in 0..CLIENTS {
        let network = network.clone();
        crowd.spawn(async move {
            let name = format!("{wave}-{number}");
            let builder = Client::builder(&format!("http://{}", network.0.addr))
                .reconnection_delay(DELAY)
                .reconnection_delay_max(DELAY_MAX)
                .randomization_factor(FACTOR)
                .timeout(Duration::from_secs(20))
                .retries(u32::MAX)
                .ack_timeout(Duration::from_secs(10));
            let builder = match number % 3 {
                0 => builder.transports([Transport::Polling]),
                1 => builder.transports([Transport::WebSocket]),
                _ => builder,
            };
            let Ok(socket) = builder.connect_lazy() else { return (name, 0, false) };
            let mut healed = network.0.healed.subscribe();
            let until = Instant::now() + time;
            let mut count = 0;
            while Instant::now() < until {
                // What waits is bounded; who is full emits later.
                if socket.buffered().len() < 100 && socket.emit("tally", (&name, count)).is_ok() {
                    count += 1;
                }
                sleep(Duration::from_millis(40 + number % 20)).await;
            }
            let _ = healed.wait_for(|healed| *healed).await;
            let empty = tokio::time::timeout(HEALING, async {
                while !socket.buffered().is_empty() {
                    sleep(Duration::from_millis(20)).await;
                }
            });
            let arrived = empty.await.is_ok();
            if !arrived {
                let (kept, state) = (socket.buffered().len(), socket.state().borrow().clone());
                println!("# {name} is stuck with {kept} events, {state:?}");
            }
            socket.close().await;
            (name, count, arrived)
        });
    }
    sleep(time).await;
    network.heal();
    within(HEALING + Duration::from_secs(60), crowd.join_all()).await
}

/// A proxy that treats connections badly until it is healed.
#[derive(Clone)]
struct Network(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    server: SocketAddr,
    heals: AtomicBool,
    healed: watch::Sender<bool>,
    connections: AtomicU64,
    hurt: AtomicU64,
    rng: Mutex<Rng>,
}

/// What becomes of a connection after some time.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Nothing bad.
    Well,
    Cut,
    /// The server's half ends, or the client's.
    HalfClosed(bool),
    /// Nothing moves any more, and nobody is told.
    Stalled,
    /// The same in one direction.
    Deaf(bool),
}

impl Network {
    async fn start(server: SocketAddr, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let network = Self(Arc::new(Inner {
            addr: listener.local_addr()?,
            server,
            heals: AtomicBool::new(false),
            healed: watch::Sender::new(false),
            connections: AtomicU64::new(0),
            hurt: AtomicU64::new(0),
            rng: Mutex::new(Rng::new(seed)),
        }));
        let accepting = network.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let network = accepting.clone();
                tokio::spawn(async move { network.carry(client).await });
            }
        });
        Ok(network)
    }

    fn heal(&self) {
        self.0.heals.store(true, Ordering::Relaxed);
        self.0.healed.send_replace(true);
    }

    fn random(&self, end: u64) -> u64 {
        self.0.rng.lock().map_or(0, |mut rng| rng.below(end))
    }

    async fn carry(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.0.server).await else { return };
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        let fate = match self.random(10) {
            0..4 => Fate::Cut,
            4 => Fate::HalfClosed(true),
            5 => Fate::HalfClosed(false),
            6 => Fate::Stalled,
            7 => Fate::Deaf(true),
            8 => Fate::Deaf(false),
            _ => Fate::Well,
        };
        let fate = if self.0.heals.load(Ordering::Relaxed) { Fate::Well } else { fate };
        let slow = Duration::from_millis(if self.random(3) == 0 { self.random(150) } else { 0 });
        let after = Duration::from_millis(50 + self.random(4_000));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Dropping one closes its half and no more; the other goes on.
        let mut up = Some(Box::pin(pump(from_client, to_server, slow)));
        let mut down = Some(Box::pin(pump(from_server, to_client, slow)));
        let mut healed = self.0.healed.subscribe();
        let doom = async {
            // Healing saves who has not been hurt yet.
            tokio::select! {
                () = sleep(after) => fate,
                _ = healed.wait_for(|healed| *healed) => Fate::Well,
            }
        };
        let fate = tokio::select! {
            () = both(&mut up, &mut down) => return,
            fate = doom => fate,
        };
        match fate {
            Fate::Well => return both(&mut up, &mut down).await,
            Fate::Cut => {}
            Fate::HalfClosed(upwards) => {
                if upwards {
                    up = None
                } else {
                    down = None
                }
                let _ = tokio::time::timeout(Duration::from_secs(20), both(&mut up, &mut down)).await;
            }
            Fate::Deaf(upwards) => {
                // The other one is kept, and not looked at.
                let _deaf = if upwards { (up.take(), None) } else { (None, down.take()) };
                let _ = tokio::time::timeout(Duration::from_secs(20), both(&mut up, &mut down)).await;
            }
            // Longer than both sides need to notice.
            Fate::Stalled => sleep(Duration::from_secs(20)).await,
        }
        self.0.hurt.fetch_add(1, Ordering::Relaxed);
    }
}

type Pump<F> = Option<std::pin::Pin<Box<F>>>;

/// Runs what there is of two pumps to the end. Cancel safe: what has ended is gone.
async fn both<A: Future<Output = ()>, B: Future<Output = ()>>(up: &mut Pump<A>, down: &mut Pump<B>) {
    std::future::poll_fn(|cx| {
        if up.as_mut().is_some_and(|pump| pump.as_mut().poll(cx).is_ready()) {
            *up = None;
        }
        if down.as_mut().is_some_and(|pump| pump.as_mut().poll(cx).is_ready()) {
            *down = None;
        }
        if up.is_none() && down.is_none() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Copies one direction, each piece late, and hands its end on.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, slow: Duration) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if !slow.is_zero() {
            sleep(slow).await;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// The pauses between attempts, as the client's traces tell them.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<(u32, Duration)>>>);

impl Attempts {
    fn drawn(&self) -> Vec<(u32, Duration)> {
        self.0.lock().map(|drawn| drawn.clone()).unwrap_or_default()
    }
}

/// Whether a pause is one that the formula can draw before this attempt.
fn fits(attempt: u32, delay: Duration) -> bool {
    let doubled = DELAY.as_secs_f64() * 2_f64.powi(attempt.saturating_sub(1).min(60) as i32);
    let max = DELAY_MAX.as_secs_f64();
    // Whole milliseconds.
    let (low, high) = ((doubled * (1.0 - FACTOR)).min(max) - 0.001, (doubled * (1.0 + FACTOR)).min(max) + 0.001);
    (low..=high).contains(&delay.as_secs_f64())
}

impl Subscriber for Attempts {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "socketio_client::task"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut pause = Pause::default();
        event.record(&mut pause);
        if let (Some(attempt), Some(delay)) = (pause.attempt, pause.delay)
            && let Ok(mut drawn) = self.0.lock()
        {
            drawn.push((attempt, delay));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Pause {
    attempt: Option<u32>,
    delay: Option<Duration>,
}

impl Visit for Pause {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "attempt" {
            self.attempt = value.try_into().ok();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "delay" {
            // `350ms`, or `1.2s`.
            let text = format!("{value:?}");
            let ms = text.strip_suffix("ms").and_then(|ms| ms.parse::<f64>().ok());
            let s = text.strip_suffix('s').and_then(|s| s.parse::<f64>().ok());
            self.delay = ms.map(|ms| ms / 1000.0).or(s).map(Duration::from_secs_f64);
        }
    }
}
