//! A crowd of clients in a process of their own. Prints what it saw as one line of JSON.
//!
//! `storm upgrade PORT SESSIONS FLOWING RATE SPREAD_MS SEED`: that many sessions open on polling; `FLOWING` of them send and
//! get `RATE` events a second; within `SPREAD_MS` every one upgrades, some of them slowly; then all is counted.
//!
//! `storm idle PORT SESSIONS`: that many sessions on WebSocket, each in `/`. Prints `ready`, ends with its standard input.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use socketio_testkit::{Endpoint, Kind, Message, Packet, RawClient, Rng, WebSocket};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior},
};

/// A poll is answered with a bare noop at most this often.
const NOOP_GAP: Duration = Duration::from_millis(100);
/// How many sessions are opened at the same time: the backlog of a listener is short.
const OPENING: usize = 100;
/// A run that takes longer has failed.
const BOUND: Duration = Duration::from_secs(100);

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    match (arguments.first().map(String::as_str), &numbers[..]) {
        (Some("upgrade"), &[port, sessions, flowing, rate, spread, seed]) => {
            let plan = Plan { sessions, flowing, rate, spread: Duration::from_millis(spread), seed };
            let upgrade = upgrade(endpoint(port), plan);
            tokio::time::timeout(BOUND, upgrade).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        (Some("idle"), &[port, sessions]) => idle(endpoint(port), sessions).await,
        _ => {
            Err(io::Error::other("storm upgrade PORT SESSIONS FLOWING RATE SPREAD_MS SEED | storm idle PORT SESSIONS"))
        }
    }
}

fn endpoint(port: u64) -> Endpoint {
    Endpoint::new(SocketAddr::from(([127, 0, 0, 1], port as u16)))
}

#[derive(Clone, Copy)]
struct Plan {
    sessions: u64,
    flowing: u64,
    rate: u64,
    spread: Duration,
    seed: u64,
}

/// What all sessions together came to.
#[derive(Default)]
struct Tally {
    upgraded: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Lost, doubled or reordered on the way to the client.
    faults_down: AtomicU64,
    /// The same on the way to the server, as the server counted.
    faults_up: AtomicU64,
    polls: AtomicU64,
    empty_polls: AtomicU64,
    /// Polls that were released by a bare noop sooner than allowed.
    too_soon: AtomicU64,
}

impl Tally {
    fn add(counter: &AtomicU64, what: u64) {
        counter.fetch_add(what, Ordering::Relaxed);
    }
}

async fn upgrade(endpoint: Endpoint, plan: Plan) -> io::Result<()> {
    let tally = Arc::new(Tally::default());
    let opening = Arc::new(Semaphore::new(OPENING));
    // 0: sessions open; 1: they may upgrade; 2: all have, and flows come to their end.
    let (stage, _) = watch::channel(0);
    let opened = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..plan.sessions {
        let (endpoint, tally, opening) = (endpoint.clone(), tally.clone(), opening.clone());
        let (opened, stage) = (opened.clone(), stage.subscribe());
        tasks.spawn(async move {
            let client = {
                let _permit = opening.acquire().await.map_err(io::Error::other)?;
                let mut client = RawClient::polling(&endpoint).await?;
                client.connect("/", None).await?;
                client
            };
            opened.fetch_add(1, Ordering::SeqCst);
            one_session(client, number, plan, &tally, stage).await
        });
    }
    let mut errors = Vec::new();
    let began = Instant::now();
    let mut failed = 0;
    while opened.load(Ordering::SeqCst) < plan.sessions && tasks.len() as u64 == plan.sessions {
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(ended) = tasks.try_join_next() {
            note(ended, &mut errors, &mut failed);
        }
    }
    let open_ms = began.elapsed().as_millis() as u64;
    stage.send_replace(1);
    while tally.upgraded.load(Ordering::SeqCst) + failed < plan.sessions {
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(ended) = tasks.try_join_next() {
            note(ended, &mut errors, &mut failed);
        }
    }
    // Some more on the WebSockets alone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let flowed = began.elapsed();
    stage.send_replace(2);
    while let Some(ended) = tasks.join_next().await {
        note(ended, &mut errors, &mut failed);
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let report = json!({
        "sessions": plan.sessions,
        "upgraded": read(&tally.upgraded),
        "failed": failed,
        "errors": errors,
        "sent": read(&tally.sent),
        "received": read(&tally.received),
        "faults_up": read(&tally.faults_up),
        "faults_down": read(&tally.faults_down),
        "polls": read(&tally.polls),
        "empty_polls": read(&tally.empty_polls),
        "too_soon": read(&tally.too_soon),
        "open_ms": open_ms,
        "flow_ms": flowed.as_millis() as u64,
    });
    println!("{report}");
    Ok(())
}

fn note(ended: Result<io::Result<()>, tokio::task::JoinError>, errors: &mut Vec<String>, failed: &mut u64) {
    if let Err(error) = ended.map_err(io::Error::other).and_then(|result| result) {
        *failed += 1;
        if errors.len() < 5 {
            errors.push(error.to_string());
        }
    }
}

/// How far the upgrade of a session is.
enum Step {
    /// It waits for its moment.
    Waiting(Instant),
    /// The candidate has been asked whether it works; polls go on.
    Probing(WebSocket),
    /// It works, and the client takes its time; polls go on.
    Dawdling(WebSocket, Instant),
    /// No more polls; the last one has to come back.
    Pausing(WebSocket),
    Done,
}

/// What woke a session.
enum Woken {
    Tick,
    Driven,
    Probe(Option<Message>),
    Moment,
    Stage,
}

async fn one_session(
    mut client: RawClient,
    number: u64,
    plan: Plan,
    tally: &Tally,
    mut stage: watch::Receiver<u8>,
) -> io::Result<()> {
    let mut rng = Rng::new(plan.seed ^ number.wrapping_mul(0x9e37_79b9));
    let flowing = number < plan.flowing;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / plan.rate.clamp(1, 1_000) as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut expected, mut faults) = (0, 0, 0);
    if flowing {
        client.emit("flow", &[json!(plan.rate)]).await?;
    }
    let far = Instant::now() + Duration::from_secs(86_400);
    let mut step = Step::Waiting(far);
    let mut stopping = false;
    let counts = 'session: loop {
        while let Some(packet) = client.ready()? {
            if packet.kind == Kind::Ack {
                break 'session packet;
            }
            if packet.args_of("down").is_none() {
                return Err(io::Error::other(format!("unexpected: {packet:?}")));
            }
            let got = packet.number();
            faults += u64::from(got != Some(expected));
            expected = got.map_or(expected, |got| got + 1);
            Tally::add(&tally.received, 1);
        }
        if matches!(step, Step::Pausing(_)) && client.is_idle() {
            let Step::Pausing(candidate) = std::mem::replace(&mut step, Step::Done) else { continue };
            client.switch(candidate).await?;
            tally.upgraded.fetch_add(1, Ordering::SeqCst);
        }
        let moment = match step {
            Step::Waiting(at) | Step::Dawdling(_, at) => at,
            _ => far,
        };
        let probed = async {
            match &mut step {
                Step::Probing(candidate) => candidate.next().await,
                _ => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            _ = ticks.tick(), if flowing && !stopping => Woken::Tick,
            driven = client.drive() => { driven?; Woken::Driven }
            answer = probed => Woken::Probe(answer?),
            () = tokio::time::sleep_until(moment) => Woken::Moment,
            changed = stage.changed() => { changed.map_err(io::Error::other)?; Woken::Stage }
        };
        match woken {
            Woken::Tick => {
                client.queue_event("/", None, "up", &[json!(sent)]);
                sent += 1;
            }
            Woken::Driven => {}
            Woken::Probe(Some(Message::Text(text))) if text == "3probe" => {
                let Step::Probing(candidate) = std::mem::replace(&mut step, Step::Done) else { continue };
                // Every fourth client goes on polling for a while, so that its polls are released again and again.
                let dawdle = if rng.one_in(4) { rng.below(600) } else { 0 };
                step = Step::Dawdling(candidate, Instant::now() + Duration::from_millis(dawdle));
            }
            Woken::Probe(other) => return Err(io::Error::other(format!("no answer to the probe: {other:?}"))),
            Woken::Moment => match std::mem::replace(&mut step, Step::Done) {
                Step::Waiting(_) => {
                    let mut candidate = WebSocket::open(client.endpoint(), Some(client.sid())).await?;
                    candidate.queue_text("2probe");
                    step = Step::Probing(candidate);
                }
                Step::Dawdling(candidate, _) => {
                    client.pause();
                    step = Step::Pausing(candidate);
                }
                other => step = other,
            },
            Woken::Stage => {
                let now = *stage.borrow_and_update();
                if now == 1 {
                    let moment = rng.below(plan.spread.as_millis() as u64);
                    step = Step::Waiting(Instant::now() + Duration::from_millis(moment));
                } else {
                    // The last word: its answer tells what the server has counted.
                    stopping = true;
                    client.queue_event("/", Some(1), "stop", &[]);
                }
            }
        }
    };
    let count = |at: usize| packet_count(&counts, at);
    Tally::add(&tally.sent, sent);
    Tally::add(&tally.faults_up, count(2) + u64::from(count(1) != sent));
    Tally::add(&tally.faults_down, faults + u64::from(count(0) != expected));
    Tally::add(&tally.polls, client.polls());
    Tally::add(&tally.empty_polls, client.empty_polls().len() as u64);
    Tally::add(&tally.too_soon, client.too_soon(NOOP_GAP) as u64);
    if !client.is_websocket() {
        return Err(io::Error::other("it ended on polling"));
    }
    // Half of the crowd says goodbye, the other half is gone without a word.
    if number.is_multiple_of(2) { client.goodbye().await } else { Ok(()) }
}

fn packet_count(packet: &Packet, at: usize) -> u64 {
    packet.data.get(at).and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX)
}

async fn idle(endpoint: Endpoint, sessions: u64) -> io::Result<()> {
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..sessions {
        let (endpoint, opening) = (endpoint.clone(), opening.clone());
        tasks.spawn(async move {
            let _permit = opening.acquire().await.map_err(io::Error::other)?;
            let mut client = RawClient::websocket(&endpoint).await?;
            client.connect("/", None).await?;
            Ok::<_, io::Error>(client)
        });
    }
    let mut clients = Vec::new();
    while let Some(client) = tasks.join_next().await {
        clients.push(client.map_err(io::Error::other)??);
    }
    println!("ready");
    // Ends with the standard input, and with it all sessions.
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}
