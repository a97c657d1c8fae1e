//! A crowd in which some are hostile and some are slow, and a server that nobody else may notice them on.
//!
//! `soak [--seconds N] [--connections N] [--seed N] [--only KIND]` starts a server in a process of its own (`soak serve`), is the crowd
//! itself, and ends with code 1 if something is not as it should be. It goes like this:
//!
//! 1. The good clients alone: how long answers take when nobody disturbs.
//! 2. The good clients again, with 5 % hostile ones of ten kinds and 5 % slow readers, for a tenth of the time. All leave;
//!    what the server holds then is the baseline: its tables have the size of such a crowd.
//! 3. The same for the whole time. All leave; the server has to be what it was.
//!
//! `soak --attacks [ROW] [--unlimited]` is the other program in here: one attack after the other, see [`attacks`].
//!
//! `--only` leaves out all disturbers but one hostile kind, by a part of its name, or `slow`: the way to find out who it was.
//!
//! A good client that loses an event, gets one twice or out of order, is not answered within 20 s or loses its connection is
//! a fault. How long answers take is printed and not judged: it depends on the machine.

mod attacks;
mod figures;
mod good;
mod hostile;
mod process;
mod server;
mod slow;
mod world;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    figures::Times,
    process::{BOUND, KEEP_LITTLE, Server},
    world::{Only, Plan, World, read},
};

/// How much of the memory that was held before may be held on top afterwards.
const MOST_MEMORY: f64 = 0.05;
/// In a short run the figures are small and a page more or less is noise; what leaks with every session or attack is
/// seen in the long one.
const SHORT_SLACK_KIB: f64 = 8_192.0;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("serve") => match server::Form::read(&arguments[1..]) {
            Ok(form) => server::run(form).await.map(|()| Vec::new()),
            Err(error) => Err(error),
        },
        Some("--attacks") => attacks::run(&arguments[1..]).await,
        _ => match plan(&arguments) {
            Ok(plan) => soak(plan).await,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            println!("\nwrong:");
            for what in wrong {
                println!("  {what}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}

fn plan(arguments: &[String]) -> io::Result<Plan> {
    let mut plan = Plan { connections: 2_000, time: Duration::from_secs(1_800), seed: 1, short: false, only: None };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let value = arguments.next().map_or("", String::as_str);
        if option == "--only" {
            plan.only = Some(only(value)?);
            continue;
        }
        match (option.as_str(), value.parse::<u64>().ok()) {
            ("--seconds", Some(seconds)) => plan.time = Duration::from_secs(seconds),
            ("--connections", Some(connections)) => plan.connections = connections,
            ("--seed", Some(seed)) => plan.seed = seed,
            _ => return Err(io::Error::other("soak [--seconds N] [--connections N] [--seed N] [--only KIND]")),
        }
    }
    plan.short = plan.time < Duration::from_secs(60);
    Ok(plan)
}

fn only(name: &str) -> io::Result<Only> {
    if name == "slow" {
        return Ok(Only::Slow);
    }
    let at = hostile::KINDS.iter().position(|(_, kind, _)| kind.contains(name));
    at.map(Only::Hostile).ok_or_else(|| io::Error::other(format!("there is no kind `{name}`")))
}

async fn soak(plan: Plan) -> io::Result<Vec<String>> {
    let mut server = Server::start(plan.short, if plan.short { &["--short"] } else { &[] }, [KEEP_LITTLE])?;
    let fresh = server.quiet("stats").await?;
    println!("the server at its start: {}", fresh.words());

    let tenth = Plan { time: (plan.time / 10).clamp(Duration::from_secs(8), Duration::from_secs(120)), ..plan };
    let (calm, mut wrong) = crowd(World::new(tenth, server.port), &mut server, false).await?;
    let (warm, more) = crowd(World::new(Plan { seed: !plan.seed, ..tenth }, server.port), &mut server, true).await?;
    wrong.extend(more);
    let before = server.drained(&fresh).await?;
    println!("the server after that: {}", before.words());

    let (stormy, more) = crowd(World::new(plan, server.port), &mut server, true).await?;
    wrong.extend(more);
    let after = server.drained(&fresh).await?;
    println!("the server after that: {}", after.words());
    println!("what it counted: {}", after.counted());

    println!();
    for (name, calm, stormy) in
        [("answers", &calm.answers, &stormy.answers), ("connects", &calm.connects, &stormy.connects)]
    {
        println!("{name}, good clients alone:   {calm}");
        println!("{name}, with the others there: {stormy}");
        println!("{name}, times as long: {}", ratios(calm, stormy));
    }
    let growth = after.resident / before.resident.max(1.0) - 1.0;
    println!(
        "resident memory: {:.0} KiB before, {:.0} KiB after ({:+.1} %)",
        before.resident,
        after.resident,
        100.0 * growth
    );
    let slack = if plan.short { SHORT_SLACK_KIB } else { 0.0 };
    if after.resident > before.resident * (1.0 + MOST_MEMORY) + slack {
        wrong.push(format!("memory has grown by {:.1} %", 100.0 * growth));
    }
    wrong.extend(after.leaks(&fresh));
    wrong.extend(after.broken());
    if plan.only.is_none() {
        wrong.extend(unfelt(&stormy));
    }
    let worlds = [&calm, &warm, &stormy];
    let sum = |count: fn(&World) -> u64| worlds.iter().map(|world| count(world)).sum::<u64>();
    println!(
        "{} good sessions, {} answers and {} events checked: {} faults",
        sum(|world| read(&world.sessions)),
        sum(|world| world.answers.count()),
        sum(|world| read(&world.received)),
        sum(|world| world.faults.count())
    );
    server.child.close_input();
    if !server.child.wait(BOUND)? {
        wrong.push("the server did not end well".to_owned());
    }
    Ok(wrong)
}

/// Lets a crowd in, waits, and lets it out. Returns what it saw, and what was wrong.
async fn crowd(world: World, server: &mut Server, everybody: bool) -> io::Result<(Arc<World>, Vec<String>)> {
    let world = Arc::new(world);
    let plan = world.plan;
    let mut clients = JoinSet::new();
    for number in 0..plan.good() {
        clients.spawn(good::run(world.clone(), number));
    }
    if everybody {
        let (hostile, slow) = match plan.only {
            None => (plan.hostile(), plan.slow()),
            Some(Only::Hostile(_)) => (plan.hostile(), 0),
            Some(Only::Slow) => (0, plan.slow()),
        };
        for number in 0..hostile {
            clients.spawn(hostile::run(world.clone(), number));
        }
        for number in 0..slow {
            clients.spawn(slow::run(world.clone(), number));
        }
    }
    println!("\n{} clients for {} s, seed {}", clients.len(), plan.time.as_secs(), plan.seed);
    let until = Instant::now() + plan.time;
    let mut look = Instant::now() + Duration::from_secs(if plan.short { 5 } else { 60 });
    while Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
        if Instant::now() >= look {
            look += Duration::from_secs(if plan.short { 5 } else { 60 });
            println!(
                "{} s left: {} sessions, answers {}, {} faults; server: {}",
                until.saturating_duration_since(Instant::now()).as_secs(),
                read(&world.sessions),
                world.answers,
                world.faults.count(),
                server.ask("stats")?.words()
            );
        }
    }
    // On a machine that is busy with other things an attack may take its time; everyone has to have happened.
    let bound = Instant::now() + BOUND;
    while everybody && plan.only.is_none() && !unfelt(&world).is_empty() && Instant::now() < bound {
        sleep(Duration::from_millis(200)).await;
    }
    world.end();
    let mut wrong = Vec::new();
    let bound = Instant::now() + BOUND;
    while !clients.is_empty() {
        match tokio::time::timeout_at(bound, clients.join_next()).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => wrong.push(error.to_string()),
            Ok(None) => break,
            Err(_) => {
                wrong.push(format!("{} clients have not left", clients.len()));
                break;
            }
        }
    }
    clients.shutdown().await;
    if everybody {
        for ((_, name, _), attacks) in hostile::KINDS.iter().zip(&world.attacks) {
            println!("{name}: {} attacks, {} ended by the server", read(&attacks.made), read(&attacks.ended));
        }
        println!("slow readers: {} sessions, {} let go", read(&world.slow.made), read(&world.slow.ended));
    }
    if world.faults.count() > 0 {
        wrong.push(format!("{} faults, among them:", world.faults.count()));
        wrong.extend(world.faults.words());
    }
    if read(&world.sessions) < plan.good() {
        wrong.push(format!("only {} sessions of {} good clients", read(&world.sessions), plan.good()));
    }
    Ok((world, wrong))
}

/// Attacks that did not happen or that the server did not end, though it has to.
fn unfelt(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((_, name, has_to_end), attacks) in hostile::KINDS.iter().zip(&world.attacks) {
        if read(&attacks.made) == 0 {
            wrong.push(format!("{name}: no attack came to its end"));
        } else if *has_to_end && read(&attacks.ended) == 0 {
            wrong.push(format!("{name}: the server ended none of {}", read(&attacks.made)));
        }
    }
    if read(&world.slow.ended) == 0 || read(&world.slow.ended) == read(&world.slow.made) {
        wrong.push(format!("slow readers: {} of {} were let go", read(&world.slow.ended), read(&world.slow.made)));
    }
    wrong
}

fn ratios(calm: &Times, stormy: &Times) -> String {
    let ratio = |share| stormy.per_mille(share) as f64 / calm.per_mille(share).max(1) as f64;
    format!("p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}", ratio(500), ratio(900), ratio(990), ratio(999))
}
