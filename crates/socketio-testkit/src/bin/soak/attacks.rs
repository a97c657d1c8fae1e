//! One attack after the other, each at twice the limit it is against, while 200 good clients go on.
//!
//! `soak --attacks [ROW] [--unlimited] [--lenient]`, where a row is an id of the catalogue such as `R07`, or a part of a name. For each row
//! there is a new server in a process of its own, and:
//!
//! 1. The attack is made once while nobody is there, then five hundred good clients come at once and leave: the server has been
//!    at work, and its tables have the size of such an attack. What it holds then is what the row is compared with.
//! 2. The good clients come, and the attack is made, from a thread of its own, for some seconds. When it has ended they leave.
//! 3. Ten seconds after the last of them the server is looked at: memory within 5 %, and no session, socket, room, task, file
//!    descriptor or timer more than at its start.
//!
//! A row holds when no good client lost anything or waited for more than a second, the counters moved that the
//! documentation names, by what the attack did, and nothing stayed. `--unlimited` takes the limit away, to see rows fail.
//!
//! It measures, so it wants a machine of its own: a wait of a second says nothing about the server where others keep the
//! machine busy. With `--lenient` memory and waits are printed and not judged.

pub(crate) mod messages;
pub(crate) mod requests;
pub(crate) mod rows;
pub(crate) mod secure;
pub(crate) mod server;

use std::{any::Any, collections::BTreeMap, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Endpoint, RawClient};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

pub(crate) use rows::{ROWS, Row};

use crate::{
    good,
    process::{BOUND, KEEP_LITTLE, KEEP_NOTHING, Server, State},
    world::{Plan, World, read},
};

/// Good clients.
const GOOD: u64 = 200;
/// In which they all come; then the attack begins.
const COMING: Duration = Duration::from_millis(1_500);
/// Who waits longer has noticed something.
const MOST_WAIT: Duration = Duration::from_secs(1);
/// An attack that is over sooner is made again.
const LASTS: Duration = Duration::from_secs(4);
/// When the server has to be what it was, after the last client has left.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// How much of the memory that was held before may be held on top afterwards.
const MOST_MEMORY: f64 = 0.05;
/// What an attack and each of its clients may take before something hangs.
const ATTACK: Duration = Duration::from_secs(90);
const CLIENT: Duration = Duration::from_secs(40);

/// Where an attack goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    addr: SocketAddr,
    /// Clients come from `127.group.0.0/16`.
    group: u8,
    /// TLS, with the certificate.
    secure: Option<(SocketAddr, Vec<u8>)>,
}

impl Target {
    /// The server for one of many hostile clients, each with an address of its own.
    fn endpoint(&self, number: u64) -> Endpoint {
        let mut endpoint = Endpoint::new(self.addr);
        if cfg!(target_os = "linux") {
            endpoint.source = Some([127, self.group, (number / 200) as u8, (number % 200) as u8 + 1].into());
        }
        endpoint
    }

    /// So many hostile clients at the same time, each until it is done. `each` says whether the server did to it what it
    /// has to do.
    async fn swarm<F>(&self, done: &mut Done, what: &str, count: u64, each: impl Fn(Endpoint, u64) -> F)
    where
        F: Future<Output = io::Result<bool>> + Send + 'static,
    {
        let mut clients = JoinSet::new();
        for number in 0..count {
            let client = each(self.endpoint(number), number);
            clients.spawn(async move {
                match timeout(CLIENT, client).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "left alone")),
                }
            });
        }
        let (mut ended, mut odd) = (0, BTreeMap::<String, u64>::new());
        while let Some(outcome) = clients.join_next().await {
            match outcome {
                Ok(Ok(true)) => ended += 1,
                Ok(Ok(false)) => *odd.entry("not stopped".to_owned()).or_default() += 1,
                Ok(Err(error)) => *odd.entry(error.to_string()).or_default() += 1,
                Err(error) => *odd.entry(error.to_string()).or_default() += 1,
            }
        }
        done.what.push(format!("{count} {what}"));
        if ended < count {
            let odd: Vec<_> = odd.iter().take(3).map(|(what, times)| format!("{times} times {what}")).collect();
            done.wrong.push(format!("{what}: {ended} of {count} as it has to be, {}", odd.join(", ")));
        }
    }
}

/// What an attack did, and what has to come of it.
#[derive(Default)]
pub(crate) struct Done {
    what: Vec<String>,
    /// Counters, several added up with `+` between them, and by how much they must have moved at least.
    moves: Vec<(&'static str, u64)>,
    /// What exists now and how much of it there may be at any time.
    most: Vec<(&'static str, u64)>,
    wrong: Vec<String>,
    /// What stays connected until the server was closed.
    held: Vec<Box<dyn Any + Send>>,
    /// The longest wait of good clients that the attack had itself.
    longest: Duration,
    /// The most that the server had meanwhile.
    peaks: Peaks,
}

/// An attack under way, on the thread that makes it.
pub(crate) type Attack = Pin<Box<dyn Future<Output = io::Result<Done>>>>;

/// The row of that id, or whose name has this in it.
pub(crate) fn row(name: &str) -> io::Result<&'static Row> {
    let found =
        ROWS.iter().find(|row| row.title() == name).or_else(|| ROWS.iter().find(|row| row.title().contains(name)));
    found.ok_or_else(|| io::Error::other(format!("there is no row `{name}`")))
}

/// What is said of a run, and the name of a row if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words {
    /// The limits are taken away.
    pub(crate) unlimited: bool,
    /// Memory and waits are not judged.
    pub(crate) lenient: bool,
}

impl Words {
    pub(crate) fn read(arguments: &[String]) -> (Self, Option<&str>) {
        let (mut words, mut name) = (Self::default(), None);
        for argument in arguments {
            match argument.as_str() {
                "--unlimited" => words.unlimited = true,
                "--lenient" => words.lenient = true,
                other => name = Some(other),
            }
        }
        (words, name)
    }

    fn arguments(self) -> impl Iterator<Item = &'static str> {
        [(self.unlimited, "--unlimited"), (self.lenient, "--lenient")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, it)| it)
    }
}

/// What stands behind `--attacks`. Returns what was wrong.
pub(crate) async fn run(arguments: &[String]) -> io::Result<Vec<String>> {
    let (words, wanted) = Words::read(arguments);
    let rows: Vec<_> = ROWS.iter().filter(|row| wanted.is_none_or(|name| row.title().contains(name))).collect();
    if rows.is_empty() {
        return Err(io::Error::other(format!("there is no row `{}`", wanted.unwrap_or_default())));
    }
    let mut wrong = Vec::new();
    let mut table = vec![
        "| row | done | counted | good clients: answers, lost, longest wait | memory in KiB: before, most, after | descriptors | tasks | sessions | |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for row in rows {
        println!("\n{}", row.title());
        let (line, faults) = one(row, words).await?;
        println!("{line}");
        for what in &faults {
            println!("  {what}");
        }
        table.push(line);
        wrong.extend(faults.into_iter().map(|what| format!("{}: {what}", row.title())));
    }
    println!("\n{}", table.join("\n"));
    Ok(wrong)
}

/// One row: its line of the table, and what was wrong.
async fn one(row: &'static Row, words: Words) -> io::Result<(String, Vec<String>)> {
    let title = row.title();
    let mut arguments = vec![title.as_str()];
    for word in words.arguments() {
        arguments.push(word);
    }
    let mut server = Server::start(true, &arguments, [KEEP_LITTLE, KEEP_NOTHING])?;
    let fresh = server.quiet("stats").await?;
    let mut wrong = Vec::new();
    if !words.lenient {
        let first = launch(row.attack, &server, Duration::ZERO)?.await.map_err(io::Error::other)?;
        wrong.extend(first.wrong.into_iter().map(|what| format!("at first: {what}")));
    }
    let many = launch(|target| Box::pin(messages::many(target)), &server, Duration::ZERO)?;
    wrong.extend(many.await.map_err(io::Error::other)?.wrong);
    sleep(row.stays).await;
    let before = server.settled(&fresh).await?;

    let (world, mut done) = round(row, &mut server).await?;
    let ended = Instant::now();
    if row.closes {
        let closed = close(&mut server, &mut done).await?;
        wrong.extend(closed);
    }
    done.held.clear();
    let after = if words.lenient {
        server.drained(&fresh).await?
    } else {
        // Quiet is two seconds long.
        sleep_until(ended + AFTERWARDS - Duration::from_secs(2)).await;
        server.quiet("trim").await?
    };

    let mut counted = Vec::new();
    for (names, least) in &done.moves {
        let sum = |state: &State| names.split('+').map(|name| state.count(name)).sum::<u64>();
        let (was, is) = (sum(&before), sum(&after));
        counted.push(format!("`{names}` {was} → {is}"));
        if is < was + least {
            wrong.push(format!("{names} went from {was} to {is}, and has to grow by {least}"));
        }
    }
    for (name, most) in &done.most {
        let peak = done.peaks.counts.get(name).copied().unwrap_or_else(|| after.count(name));
        counted.push(format!("`{name}` at most {peak}"));
        if peak > *most {
            wrong.push(format!("{name} was {peak}, and may be {most}"));
        }
    }
    let longest = world.answers.longest().max(world.connects.longest()).max(done.longest);
    if longest > MOST_WAIT && !words.lenient {
        wrong.push(format!("a good client waited for {longest:?}"));
    }
    let growth = after.resident / before.resident.max(1.0) - 1.0;
    if growth > MOST_MEMORY && !words.lenient {
        wrong.push(format!("memory has grown by {:.1} %", 100.0 * growth));
    }
    wrong.extend(after.leaks(&fresh));
    wrong.extend(after.broken().into_iter().filter(|what| !row.fine.iter().any(|fine| what.starts_with(fine))));
    wrong.append(&mut done.wrong);
    if !wrong.is_empty() {
        println!("what it counted: {} {}", after.values["counts"], after.counted());
    }
    let line = format!(
        "| {title} | {} | {} | {}, {}, {:.0} ms | {:.0}, {:.0}, {:.0} ({:+.1} %) | {}, {}, {} | {}, {}, {} | {}, {}, {} | {} |",
        done.what.join("; "),
        counted.join(", "),
        world.answers.count(),
        world.faults.count(),
        longest.as_secs_f64() * 1_000.0,
        before.resident,
        done.peaks.resident.max(after.resident),
        after.resident,
        100.0 * growth,
        fresh.number("descriptors"),
        done.peaks.numbers.get("descriptors").copied().unwrap_or_default(),
        after.number("descriptors"),
        fresh.number("tasks"),
        done.peaks.numbers.get("tasks").copied().unwrap_or_default(),
        after.number("tasks"),
        fresh.number("sessions"),
        done.peaks.numbers.get("sessions").copied().unwrap_or_default(),
        after.number("sessions"),
        if wrong.is_empty() { "holds" } else { "**fails**" },
    );
    server.child.close_input();
    if !server.child.wait(BOUND)? {
        wrong.push("the server did not end well".to_owned());
    }
    Ok((line, wrong))
}

/// The good clients come, the attack is made, they leave.
async fn round(row: &'static Row, server: &mut Server) -> io::Result<(Arc<World>, Done)> {
    let (world, clients) = crowd(server.port);
    sleep(COMING).await;
    let mut peaks = Peaks::default();
    let lasts = if row.closes { Duration::ZERO } else { LASTS };
    let mut attacking = launch(row.attack, server, lasts)?;
    let mut done = loop {
        tokio::select! {
            done = &mut attacking => break done.map_err(io::Error::other)?,
            () = sleep(Duration::from_millis(300)) => peaks.look(&server.ask("stats")?),
        }
    };
    peaks.look(&server.ask("stats")?);
    let (world, lost) = leave(world, clients).await;
    done.wrong.extend(lost);
    done.peaks = peaks;
    Ok((world, done))
}

/// The good clients, who stay until they are told to leave.
fn crowd(port: u16) -> (Arc<World>, JoinSet<()>) {
    let plan = Plan { connections: GOOD, time: 4 * COMING, seed: 1, short: true, only: None };
    let world = Arc::new(World::new(plan, port));
    let mut clients = JoinSet::new();
    for number in 0..GOOD {
        clients.spawn(good::run(world.clone(), number));
    }
    (world, clients)
}

/// Tells them to leave. Returns what was wrong with them.
async fn leave(world: Arc<World>, mut clients: JoinSet<()>) -> (Arc<World>, Vec<String>) {
    world.end();
    let mut wrong = Vec::new();
    if timeout(BOUND, async { while clients.join_next().await.is_some() {} }).await.is_err() {
        wrong.push(format!("{} good clients have not left", clients.len()));
    }
    if world.faults.count() > 0 {
        wrong.push(format!("{} good clients lost something, among them:", world.faults.count()));
        wrong.extend(world.faults.words());
    }
    if read(&world.sessions) < GOOD {
        wrong.push(format!("only {} sessions of {GOOD} good clients", read(&world.sessions)));
    }
    (world, wrong)
}

/// Has the attack made by a thread of its own, so that the good clients measure the server and not how busy this program is;
/// again and again, for so long.
fn launch(attack: fn(Target) -> Attack, server: &Server, lasts: Duration) -> io::Result<oneshot::Receiver<Done>> {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let secure = server.tls.as_ref().map(|(port, certificate)| (local(*port), certificate.clone()));
    let target = Target { addr: local(server.port), group: 66, secure };
    let (sender, receiver) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let again = async move || {
        let until = Instant::now() + lasts;
        let mut done = attack(target.clone()).await?;
        let once: Vec<u64> = done.moves.iter().map(|(_, least)| *least).collect();
        let mut times = 1;
        while Instant::now() < until {
            let more = attack(target.clone()).await?;
            done.moves.iter_mut().zip(&once).for_each(|((_, least), once)| *least += once);
            done.wrong.extend(more.wrong);
            done.longest = done.longest.max(more.longest);
            times += 1;
        }
        if times > 1 {
            done.what.push(format!("all of it {times} times"));
        }
        Ok::<_, io::Error>(done)
    };
    std::thread::Builder::new().name("attack".to_owned()).spawn(move || {
        let done = runtime.block_on(async { timeout(ATTACK, again()).await });
        let done = done.unwrap_or_else(|_| Err(io::Error::other("it does not end")));
        let done = done.unwrap_or_else(|error| Done {
            wrong: vec![format!("the attack came to nothing: {error}")],
            ..Done::default()
        });
        // Nobody waits if the program is at its end.
        let _ = sender.send(done);
        // What is held stays open without it.
    })?;
    Ok(receiver)
}

/// Good clients that are there when the server closes.
async fn witnesses(server: &Server) -> io::Result<JoinSet<io::Result<Instant>>> {
    let mut witnesses = JoinSet::new();
    for number in 0..20 {
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], server.port).into());
        endpoint.query = format!("&who={number}");
        let mut client = match number % 2 {
            0 => RawClient::websocket(&endpoint).await?,
            _ => RawClient::polling(&endpoint).await?,
        };
        client.connect("/", None).await?;
        client.ask(1, "seq", &[json!(0)]).await?;
        witnesses.spawn(async move {
            client.rest().await?;
            Ok(Instant::now())
        });
    }
    Ok(witnesses)
}

/// Closes the server while hostile clients hold on to it. Returns what was wrong.
async fn close(server: &mut Server, done: &mut Done) -> io::Result<Vec<String>> {
    let mut witnesses = witnesses(server).await?;
    let mut wrong = Vec::new();
    let began = Instant::now();
    server.ask("close")?;
    let took = began.elapsed();
    done.what.push(format!("closed after {:.1} s, at most {:?}", took.as_secs_f64(), server::DRAIN));
    if took > server::DRAIN + MOST_WAIT {
        wrong.push(format!("closing took {took:?}"));
    }
    while let Some(told) = witnesses.join_next().await {
        match told {
            Ok(Ok(at)) => done.longest = done.longest.max(at.saturating_duration_since(began)),
            Ok(Err(error)) => wrong.push(format!("a good client was not told of the end: {error}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    Ok(wrong)
}

/// The most that was seen.
#[derive(Default)]
struct Peaks {
    resident: f64,
    numbers: BTreeMap<&'static str, i64>,
    counts: BTreeMap<&'static str, u64>,
}

impl Peaks {
    fn look(&mut self, state: &State) {
        self.resident = self.resident.max(state.resident);
        for name in ["descriptors", "tasks", "sessions"] {
            let peak = self.numbers.entry(name).or_default();
            *peak = (*peak).max(state.number(name));
        }
        for name in ["pending", "connections", "handshakes", "sessions", "rooms", "namespaces"] {
            let now = match name {
                "rooms" | "namespaces" => state.number(name).unsigned_abs(),
                _ => state.count(name),
            };
            let peak = self.counts.entry(name).or_default();
            *peak = (*peak).max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_of_the_catalogue_is_an_attack_or_has_a_reason() {
        let catalogue = include_str!("../../../../../interop/hostile/catalogue.toml");
        let range = catalogue.lines().find_map(|line| line.strip_prefix("R = \"01-")).expect("the group");
        let last: u32 = range[..2].parse().expect("its last number");
        let ids: BTreeSet<String> = (1..=last).map(|number| format!("R{number:02}")).collect();
        let attacks: BTreeSet<String> = ROWS.iter().map(|row| row.id.to_owned()).collect();
        let elsewhere: BTreeSet<String> = rows::ELSEWHERE.iter().map(|(id, _)| (*id).to_owned()).collect();
        assert!(attacks.is_disjoint(&elsewhere), "{attacks:?} and {elsewhere:?}");
        assert_eq!(attacks.union(&elsewhere).cloned().collect::<BTreeSet<_>>(), ids);
        let titles: BTreeSet<String> = ROWS.iter().map(Row::title).collect();
        assert_eq!(titles.len(), ROWS.len(), "a name for each");
        for title in titles {
            assert_eq!(row(&title).expect("a row").title(), title);
        }
    }
}
