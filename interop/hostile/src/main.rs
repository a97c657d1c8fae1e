//! Runs the catalogue of hostile input against a server and looks at every reaction.
//!
//! ```text
//! hostile --target ours|node [--self-check] [--memory] [--filter PART] -- PROGRAM [ARGS...]
//! ```
//!
//! The program is an interop server (`interop/EVENTS.md`); every profile of options gets its own process, started here
//! on a free port of 127.0.0.1. After every row a good client must still be served, over WebSocket and over polling, and our
//! servers must have told of exactly the security events that the row names, with nothing secret in them.
//! `--target node` runs only the rows on which the npm server reacts as we want to. `--self-check` falsifies one
//! expectation of every group and wants to see it noticed. `--memory` runs everything twice, and wants our servers to hold
//! no more after the second time than after the first: no session, no file, no memory.

mod bytes;
#[cfg(test)]
mod catalogue;
mod events;
mod good;
mod rows;
mod server;
mod steps;
mod wire;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rows::Case;
use server::Servers;
use steps::Target;

/// Rows at a time.
const WORKERS: usize = 6;
/// A row that takes longer is named: something waits for a deadline.
const SLOW: Duration = Duration::from_secs(3);

struct Options {
    target: Target,
    self_check: bool,
    memory: bool,
    filter: String,
    command: Vec<String>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { target: Target::Ours, self_check: false, memory: false, filter: String::new(), command: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--target" => {
                options.target = match args.next().as_deref() {
                    Some("ours") => Target::Ours,
                    Some("node") => Target::Node,
                    other => return Err(format!("there is no target {other:?}: ours or node")),
                }
            }
            "--filter" => options.filter = args.next().ok_or("`--filter` wants a part of a row's id")?,
            "--self-check" => options.self_check = true,
            "--memory" => options.memory = true,
            "--" => options.command = args.by_ref().collect(),
            other => return Err(format!("what is `{other}`?")),
        }
    }
    if options.command.is_empty() {
        return Err("the server's command is missing: `-- PROGRAM [ARGS...]`".to_owned());
    }
    Ok(options)
}

fn run(options: &Options) -> Result<bool, String> {
    let cases: Vec<Case> = rows::load()?
        .into_iter()
        .filter(|case| case.name().contains(&options.filter))
        .filter(|case| options.target == Target::Ours || case.same)
        .collect();
    for case in &cases {
        steps::check(case).map_err(|error| format!("{}: {error}", case.name()))?;
    }
    if cases.is_empty() {
        return Err(format!("no row matches `{}`", options.filter));
    }
    let servers = Servers::new(&options.command);
    let (mut passed, mut failed) = (0, 0);
    let mut groups: Vec<(String, usize, usize)> = Vec::new();

    let mut count = |group: &str, name: &str, outcome: Result<(), String>| {
        if groups.last().is_none_or(|(last, _, _)| last != group) {
            groups.push((group.to_owned(), 0, 0));
        }
        let Some((_, good, bad)) = groups.last_mut() else { return };
        match outcome {
            Ok(()) => {
                passed += 1;
                *good += 1;
            }
            Err(why) => {
                failed += 1;
                *bad += 1;
                println!("FAIL {name}: {why}");
            }
        }
    };

    let mut all: Vec<(Case, Expect)> = cases.iter().map(|case| (case.clone(), Expect::Pass)).collect();
    if options.self_check {
        all.extend(falsified(&cases, options.target).into_iter().map(|case| (case, Expect::Fail)));
    }
    for ((case, expect), outcome) in all.iter().zip(at_once(&servers, options.target, &all)) {
        match expect {
            Expect::Pass => count(&case.group, &case.name(), outcome),
            Expect::Fail => {
                let noticed = match outcome {
                    Ok(()) => {
                        Err(format!("the falsified expectation in {:?} {:?} was not noticed", case.steps, case.events))
                    }
                    Err(_) => Ok(()),
                };
                count("self-check", &format!("{}, falsified", case.name()), noticed);
            }
        }
    }
    if options.target == Target::Ours {
        for (profile, events) in servers.events_of_nobody()? {
            let outcome = if events.is_empty() { Ok(()) } else { Err(format!("nobody's events: {events:?}")) };
            count("events", &format!("events of {profile}"), outcome);
        }
    }
    if options.memory && options.target == Target::Ours {
        for (profile, outcome) in again(&servers, &all)? {
            count("memory", &format!("memory of {profile}"), outcome);
        }
    }
    servers.end();
    for (group, good, bad) in &groups {
        println!("{group:<12} {good:>4} passed, {bad:>3} failed");
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Pass,
    Fail,
}

/// A server may have grown by so much: a twentieth, and what the pools of its threads vary by.
const SLACK_KIB: u64 = 8 << 10;

type Outcome = Result<(), String>;

/// Connections that asked for counters and are being closed.
const STRAYS: usize = 2;

/// Runs everything once more and compares what each server holds then with what it held before.
fn again(servers: &Servers, all: &[(Case, Expect)]) -> Result<Vec<(String, Outcome)>, String> {
    servers.settle()?;
    let before = servers.footprints();
    at_once(servers, Target::Ours, all);
    servers.settle()?;
    let after = servers.footprints();
    let compare = |(profile, before): (&String, &server::Footprint)| {
        let outcome = match after.get(profile) {
            None => Err("the server has ended".to_owned()),
            Some(after) => {
                let most = before.resident_kib + before.resident_kib / 20 + SLACK_KIB;
                println!("{profile:<14} {:>7} KiB, then {:>7} KiB", before.resident_kib, after.resident_kib);
                match after.resident_kib <= most && after.files <= before.files + STRAYS {
                    true => Ok(()),
                    false => Err(format!("{before:?} before, {after:?} after")),
                }
            }
        };
        (profile.clone(), outcome)
    };
    Ok(before.iter().map(compare).collect())
}

/// Runs the rows, some at a time: they have connections of their own, and most of them wait.
fn at_once(servers: &Servers, target: Target, cases: &[(Case, Expect)]) -> Vec<Result<(), String>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Err("did not run".to_owned()); cases.len()]);
    // An event is that of a row by the address. Where there is only one, there can be only one row at a time.
    let many = wire::can_come_from(source(0));
    std::thread::scope(|scope| {
        for _ in 0..if many { WORKERS } else { 1 } {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((case, _)) = cases.get(at) else { break };
                    if many {
                        wire::come_from(source(at));
                    }
                    let begin = Instant::now();
                    let outcome = attempt(servers, target, case);
                    if begin.elapsed() > SLOW {
                        println!("slow {}: {:.1?}", case.name(), begin.elapsed());
                    }
                    let mut outcomes = outcomes.lock().unwrap_or_else(|poison| poison.into_inner());
                    if let Some(slot) = outcomes.get_mut(at) {
                        *slot = outcome;
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(|poison| poison.into_inner())
}

/// Where the connections of a row come from.
fn source(row: usize) -> Ipv4Addr {
    let [.., high, low] = row.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// One row, and a good client behind it. A server that died is started anew for the next row.
fn attempt(servers: &Servers, target: Target, case: &Case) -> Result<(), String> {
    let address = servers.get(&case.profile)?;
    let mut secrets = Vec::new();
    let outcome = steps::run(case, target, address, &mut secrets);
    let after = good::client(address, &case.profile).map_err(|why| format!("a good client afterwards: {why}"));
    if let Some(said) = servers.dead(&case.profile) {
        return Err(format!("the server ended; it said: {said}"));
    }
    let told = match target {
        Target::Ours => events::check(case, address, &secrets),
        Target::Node => Ok(()),
    };
    outcome.and(after).and(told)
}

/// For every group a row with one expectation turned into its opposite, and one with an event fewer.
fn falsified(cases: &[Case], target: Target) -> Vec<Case> {
    let mut found: Vec<Case> = Vec::new();
    let (mut groups, mut quieter) = (Vec::new(), Vec::new());
    for case in cases {
        if let Some((_, events)) =
            case.events.split_last().filter(|_| target == Target::Ours && !quieter.contains(&case.group))
        {
            quieter.push(case.group.clone());
            found.push(Case { events: events.to_vec(), ..case.clone() });
        }
        if groups.contains(&case.group) {
            continue;
        }
        let falsified = case.steps.iter().enumerate().rev().find_map(|(at, step)| {
            let mut steps = case.steps.clone();
            steps.truncate(at);
            steps.push(steps::falsify(step)?);
            Some(Case { steps, ..case.clone() })
        });
        groups.extend(falsified.is_some().then(|| case.group.clone()));
        found.extend(falsified);
    }
    found
}
