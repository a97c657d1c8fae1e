//! Runs scenarios against all servers in turns and prints what each costs.
//!
//! `scenario` knows what a name such as `echo-16x8@1000` means and what ours must reach, `peer` starts servers, `table`
//! prints, `growth` says what is flat, `plot` draws. The figures are measured by the load generator; this program only starts, pins and compares.

mod growth;
mod peer;
mod plot;
mod scenario;
mod table;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::peer::{Broker, Server};
use crate::scenario::Scenario;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What one server did in one round of a scenario: the generator's line, or why there is none.
pub type Round = std::result::Result<Value, String>;

/// All rounds of one scenario, by server; every server has one entry per round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub scenario: String,
    pub rounds: BTreeMap<String, Vec<Round>>,
}

const USAGE: &str = "\
cargo run --release -p runner -- [SCENARIO ...] [OPTIONS]

  SCENARIO         a name from --list, or one made like them: echo-16x8@1000 is 16 bytes, 8 in flight, 1,000 connections;
                   `quick` stands for six of them; `growth` for the cost against connections, rooms, bytes, namespaces;
                   `workers` for three with one and with two workers of each server; `million` for what
                   docs/performance.md calculates with
  --peers A,B      only these servers (default: all); `ours/2` is `ours` with a second worker on the generator's core
  --rounds N       rounds of every scenario (default: 5)
  --seconds S      seconds of one measurement (default: 1)
  --summary        writes bench/SUMMARY.md, which is committed
  --no-build       takes the binaries as they are
  --server-core N  the core of the servers (default: 0); `0,1` gives a server two workers
  --load-core N    the core of the generator (default: 1)
  --realtime       servers and generator go before all other processes (needs root): right figures on a busy machine,
                   which hardly moves meanwhile; not for latencies, for the kernel lets others in for 50 ms a second
  --sleep          the generator sleeps when it has nothing to do; each server then pays for waking it
  --plot FILE      draws an older results/*.json again and exits
  --list           lists scenarios and peers";

struct Options {
    scenarios: Vec<Scenario>,
    peers: Vec<String>,
    /// Whether every server is measured with a second worker too.
    workers: bool,
    rounds: usize,
    seconds: f64,
    summary: bool,
    build: bool,
    server_core: String,
    load_core: String,
    /// Whether other processes must wait.
    realtime: bool,
    /// Whether the generator sleeps when it has nothing to do.
    sleep: bool,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("runner: {error}");
        std::process::exit(2);
    }
}

fn run() -> Result<()> {
    let Some(options) = parse(std::env::args().skip(1))? else { return Ok(()) };
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("one core is not enough: the generator would take the server's time".into());
    }
    if options.build {
        build()?;
        options.peers.iter().try_for_each(|peer| peer::install(peer::split(peer).0))?;
    }
    let mut outcomes = Vec::new();
    for scenario in &options.scenarios {
        let outcome = measure(scenario, &options)?;
        print!("{}", table::text(scenario, &outcome));
        outcomes.push(outcome);
        // After every scenario, so that a run that is stopped has left what it had.
        save(&outcomes, options.summary)?;
    }
    print!("{}{}", growth::text(&outcomes)?, table::workers(&outcomes));
    println!("\n{}", table::noise(&outcomes));
    println!("written to bench/results/latest.json and latest.html");
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        scenarios: Vec::new(),
        peers: Vec::new(),
        workers: false,
        rounds: 5,
        seconds: 1.0,
        summary: false,
        build: true,
        server_core: "0".to_owned(),
        load_core: "1".to_owned(),
        realtime: false,
        sleep: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds = value()?.parse::<usize>()?.clamp(1, 1000),
            "--seconds" => options.seconds = value()?.parse::<f64>()?.clamp(0.1, 600.0),
            "--server-core" => options.server_core = value()?,
            "--load-core" => options.load_core = value()?,
            "--summary" => options.summary = true,
            "--realtime" => options.realtime = true,
            "--sleep" => options.sleep = true,
            "--no-build" => options.build = false,
            "--plot" => {
                let outcomes: Vec<Outcome> = serde_json::from_str(&std::fs::read_to_string(value()?)?)?;
                save(&outcomes, false)?;
                print!("{}{}", growth::text(&outcomes)?, table::workers(&outcomes));
                return Ok(None);
            }
            "--list" => {
                println!("scenarios:");
                for name in scenario::ALL {
                    println!("  {name:<22} {}", Scenario::parse(name)?.says());
                }
                println!("peers: {}", peer::ALL.join(" "));
                return Ok(None);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            "growth" => push(&mut options.scenarios, scenario::GROWTH)?,
            "million" => push(&mut options.scenarios, scenario::MILLION)?,
            "workers" => {
                push(&mut options.scenarios, scenario::WORKERS)?;
                options.workers = true;
            }
            "quick" => push(&mut options.scenarios, scenario::QUICK)?,
            name if name.starts_with('-') => return Err(format!("unknown option {name}\n{USAGE}").into()),
            name => push(&mut options.scenarios, &[name])?,
        }
    }
    if options.scenarios.is_empty() {
        push(&mut options.scenarios, scenario::ALL)?;
    }
    if options.peers.is_empty() {
        options.peers = peer::ALL.iter().map(|&name| name.to_owned()).collect();
    }
    for peer in &options.peers {
        if peer::place(peer).is_none() {
            return Err(format!("no peer is called `{peer}`; there are {}", peer::ALL.join(" ")).into());
        }
    }
    if options.workers {
        options.peers.retain(|peer| !peer::split(peer).1 && peer::has_workers(peer));
        options.peers = options.peers.iter().flat_map(|peer| [peer.clone(), peer::doubled(peer)]).collect();
    }
    Ok(Some(options))
}

fn push(scenarios: &mut Vec<Scenario>, names: &[&str]) -> Result<()> {
    for name in names {
        let scenario = Scenario::parse(name)?;
        if !scenarios.contains(&scenario) {
            scenarios.push(scenario);
        }
    }
    Ok(())
}

/// The folder of the benchmark.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The folder of this program, where cargo puts the others too.
pub fn bin(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.parent().ok_or("this program lies nowhere")?.join(name))
}

fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The runner itself is running and up to date.
    command.args(["build", "--release", "--workspace", "--bins", "--exclude", "runner"]).current_dir(root());
    if !command.status()?.success() {
        return Err("the servers do not build".into());
    }
    Ok(())
}

fn measure(scenario: &Scenario, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome { scenario: scenario.name.clone(), rounds: BTreeMap::new() };
    let peers: Vec<&String> = options.peers.iter().filter(|peer| scenario.suits(peer)).collect();
    let broker =
        scenario.adapter().map(|_| Broker::start(pinned(&options.server_core, options.realtime))).transpose()?;
    let adapter = scenario.adapter().zip(broker.as_ref());
    let mut servers: BTreeMap<&String, Vec<Server>> = BTreeMap::new();
    for round in 0..options.rounds {
        // Another one begins every time, so that nobody always follows the same neighbour.
        for step in 0..peers.len() {
            let peer = peers[(round + step) % peers.len()];
            progress(&format!("{} {}/{} {peer}", scenario.name, round + 1, options.rounds));
            if scenario.is_memory() {
                servers.remove(peer);
            }
            let result = (|| -> Result<Value> {
                let running = match servers.entry(peer) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        let (name, two) = peer::split(peer);
                        let cores = match two {
                            true => format!("{},{}", options.server_core, options.load_core),
                            false => options.server_core.clone(),
                        };
                        let start = || Server::start(name, scenario.tls, adapter, pinned(&cores, options.realtime));
                        let mut running = vec![start()?];
                        if adapter.is_some() {
                            running.push(start()?);
                        }
                        entry.insert(running)
                    }
                };
                // A server that has just started learns and compiles as it goes.
                let warmup = if round == 0 || adapter.is_some() { 1.0 } else { 0.3 };
                load(scenario, running, broker.as_ref(), options, warmup)
            })();
            // Servers of one cluster hear each other, whoever's they are.
            if result.is_err() || scenario.is_memory() || adapter.is_some() {
                servers.remove(peer);
            }
            let result = result.map_err(|error| error.to_string());
            outcome.rounds.entry(peer.clone()).or_default().push(result);
        }
    }
    progress("");
    Ok(outcome)
}

/// The beginning of a command that runs on one core and ends with this program, however that ends.
fn pinned(core: &str, realtime: bool) -> Command {
    let mut words = vec!["setpriv", "--pdeathsig", "KILL", "taskset", "-c", core];
    if realtime {
        words.extend(["chrt", "--fifo", "1"]);
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// What is going on, where somebody is looking.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn load(
    scenario: &Scenario,
    servers: &[Server],
    broker: Option<&Broker>,
    options: &Options,
    warmup: f64,
) -> Result<Value> {
    let server = servers.first().ok_or("no server runs")?;
    let second = servers.get(1).map(|second| format!("{},{}", second.port, second.pid()));
    let seconds = options.seconds * scenario.stretch();
    let output = pinned(&options.load_core, options.realtime)
        .arg(bin("load")?)
        .args(scenario.load())
        .args(["--port", &server.port.to_string(), "--pid", &server.pid().to_string()])
        .args(["--warmup", &warmup.to_string(), "--seconds", &seconds.to_string()])
        .args(second.iter().flat_map(|second| ["--second", second]))
        .args(broker.iter().flat_map(|broker| ["--broker".to_owned(), broker.pid().to_string()]))
        .args(options.sleep.then_some("--sleep"))
        .output()
        .map_err(|error| format!("cannot run `setpriv` and `taskset` (package util-linux): {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn save(outcomes: &[Outcome], summary: bool) -> Result<()> {
    let folder = root().join("results");
    std::fs::create_dir_all(&folder)?;
    let json = serde_json::to_string_pretty(outcomes)?;
    let html = plot::html(outcomes)?;
    std::fs::write(folder.join("latest.json"), &json)?;
    std::fs::write(folder.join("latest.html"), html)?;
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    std::fs::write(folder.join(format!("day-{day}.json")), &json)?;
    if summary {
        std::fs::write(root().join("SUMMARY.md"), table::markdown(outcomes)?)?;
    }
    Ok(())
}
