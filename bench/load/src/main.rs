//! The load generator: one scenario against a server on the loopback, one line of JSON.
//!
//! One thread on epoll, frames built ahead, every answer compared byte for byte. `wire` knows bytes, `world` connections,
//! `meter` what is counted, `process` what the kernel counts for the server; each scenario is a function of `echo`,
//! `storm`, `fan` or `idle`.

mod echo;
mod fan;
mod idle;
mod meter;
mod process;
mod sessions;
mod storm;
mod tls;
mod wire;
mod world;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::meter::Meter;
use crate::world::World;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    scenario: String,
    port: u16,
    pid: u32,
    /// The server that has the receivers, where there are two.
    second: Option<(u16, u32)>,
    /// The process between the servers.
    broker: Option<u32>,
    connections: usize,
    /// Emits of one connection that may wait for their ack, or dials at a time.
    window: usize,
    /// Bytes of a payload.
    size: usize,
    /// Events of one cast.
    count: usize,
    /// Rooms of ten; 0 for as many as there are tens of connections.
    rooms: usize,
    /// Namespaces that every connection is in; 0 for the main one.
    namespaces: usize,
    /// Emits per second of the open loop.
    rate: f64,
    warmup: Duration,
    seconds: Duration,
    /// Whether the generator sleeps when it has nothing to do.
    sleep: bool,
    tls: bool,
}

const USAGE: &str = "load SCENARIO --port N --pid N [--second PORT,PID] [--broker PID] [--connections N] [--window N] [--size N] [--count N] [--rooms N] [--namespaces N] \
                     [--rate N] [--warmup S] [--seconds S] [--sleep] [--tls]\n\
                     scenarios: echo obj bin open polling cast across elsewhere rooms churn slow connect upgrade \
                     idle-websocket idle-polling idle-http pings";

fn main() {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("load: {error}");
            std::process::exit(1);
        }
    }
}

fn run(options: &Options) -> Result<Value> {
    let tls = options.tls.then(tls::Dialler::new).transpose()?;
    let mut world = World::new(options.port, !options.sleep, tls)?;
    let mut meter = Meter::new(options);
    let extra = match options.scenario.as_str() {
        "echo" | "obj" | "bin" => echo::closed_loop(options, &mut world, &mut meter)?,
        "open" => echo::open_loop(options, &mut world, &mut meter)?,
        "polling" => echo::polling(options, &mut world, &mut meter)?,
        "across" => fan::across(options, &mut world, &mut meter)?,
        "elsewhere" => fan::elsewhere(options, &mut world, &mut meter)?,
        "cast" => fan::cast(options, &mut world, &mut meter)?,
        "rooms" => fan::rooms(options, &mut world, &mut meter)?,
        "churn" => fan::churn(options, &mut world, &mut meter)?,
        "slow" => fan::slow(options, &mut world, &mut meter)?,
        "connect" => storm::connect(options, &mut world, &mut meter)?,
        "upgrade" => storm::upgrade(options, &mut world, &mut meter)?,
        "idle-websocket" | "idle-polling" | "idle-http" => return idle::memory(options, &mut world),
        "pings" => return idle::pings(options, &mut world),
        other => return Err(format!("no scenario is called `{other}`\n{USAGE}").into()),
    };
    let mut line = meter.report();
    line.extend(extra);
    Ok(Value::Object(line))
}

/// Named figures of a scenario beside the common ones.
pub fn figures<const N: usize>(figures: [(&str, Value); N]) -> Map<String, Value> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Options {
    fn parse() -> Result<Self> {
        let mut args = std::env::args().skip(1);
        let mut options = Self {
            scenario: args.next().ok_or(USAGE)?,
            port: 0,
            pid: 0,
            second: None,
            broker: None,
            connections: 50,
            window: 1,
            size: 16,
            count: 1,
            rooms: 0,
            namespaces: 0,
            rate: 20_000.0,
            warmup: Duration::from_millis(300),
            seconds: Duration::from_secs(1),
            sleep: false,
            tls: false,
        };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--sleep" => {
                    options.sleep = true;
                    continue;
                }
                "--tls" => {
                    options.tls = true;
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            let problem = |error: &dyn std::fmt::Display| format!("{name} {value}: {error}");
            let number = || value.parse::<usize>().map_err(|error| problem(&error));
            let float = || value.parse::<f64>().map_err(|error| problem(&error));
            match name.as_str() {
                "--port" => options.port = u16::try_from(number()?)?,
                "--pid" => options.pid = u32::try_from(number()?)?,
                "--second" => {
                    let (port, pid) = value.split_once(',').ok_or_else(|| format!("{name} is PORT,PID"))?;
                    options.second = Some((port.parse()?, pid.parse()?));
                }
                "--broker" => options.broker = Some(u32::try_from(number()?)?),
                "--connections" => options.connections = number()?,
                "--window" => options.window = number()?,
                "--size" => options.size = number()?,
                "--count" => options.count = number()?,
                "--rooms" => options.rooms = number()?,
                "--namespaces" => options.namespaces = number()?,
                "--rate" => options.rate = float()?,
                "--warmup" => options.warmup = Duration::try_from_secs_f64(float()?)?,
                "--seconds" => options.seconds = Duration::try_from_secs_f64(float()?)?,
                _ => return Err(format!("unknown option {name}\n{USAGE}").into()),
            }
        }
        if options.port == 0 || options.pid == 0 {
            return Err(USAGE.into());
        }
        // A run that hangs is a failed run, not a run without end.
        if options.seconds > Duration::from_secs(600) {
            return Err("more than 600 seconds".into());
        }
        Ok(options)
    }

    /// Figures that repeat the options.
    fn echo(&self) -> Value {
        json!({
            "connections": self.connections, "window": self.window, "size": self.size, "count": self.count,
            "rooms": self.rooms, "namespaces": self.namespaces, "tls": self.tls, "seconds": self.seconds.as_secs_f64(),
        })
    }
}
