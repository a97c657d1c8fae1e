//! What is counted between the end of the warm-up and the end of the run.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::process::{self, Cpu};
use crate::world::World;
use crate::{Options, Result};

/// How long a run may pass without a single operation before it counts as hung.
const STALL: Duration = Duration::from_secs(15);

/// What the clocks say at one moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    server: Cpu,
    /// The server that has the receivers, where there are two, and what is between them.
    second: Cpu,
    broker: Cpu,
    load: Cpu,
    /// How long the generator had nothing to do.
    idle: Duration,
    /// All cores: busy, and taken away by the host.
    machine: (f64, f64),
}

impl Reading {
    fn now(options: &Options, world: &World) -> Self {
        let of = |pid: Option<u32>| pid.map(process::cpu).unwrap_or_default();
        Self {
            at: Instant::now(),
            server: process::cpu(options.pid),
            second: of(options.second.map(|(_, pid)| pid)),
            broker: of(options.broker),
            load: process::cpu(std::process::id()),
            idle: world.idle(),
            machine: process::machine(),
        }
    }
}

/// What lies between two readings.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: f64,
    /// All servers together.
    server: Cpu,
    second: Cpu,
    broker: Cpu,
    load: Cpu,
    idle: f64,
    others: f64,
    steal: f64,
}

pub struct Meter {
    options: Options,
    started: Instant,
    last_progress: (Instant, u64),
    /// Set after the warm-up.
    from: Option<Reading>,
    /// Set at the end.
    spent: Option<Spent>,
    operations: u64,
    warm_operations: u64,
    /// Acks that came behind the ack of a later emit of the same connection.
    out_of_order: u64,
    latency: Histogram<u64>,
}

impl Meter {
    pub fn new(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            options: options.clone(),
            started: now,
            last_progress: (now, 0),
            from: None,
            spent: None,
            operations: 0,
            warm_operations: 0,
            out_of_order: 0,
            latency: Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are in order"),
        }
    }

    /// Begins the warm-up.
    pub fn start(&mut self) {
        self.started = Instant::now();
        self.last_progress = (self.started, 0);
    }

    /// Whether the run goes on. Called once a turn.
    ///
    /// # Errors
    /// When nothing has happened for so long that nothing will.
    pub fn goes_on(&mut self, world: &World) -> Result<bool> {
        let now = Instant::now();
        let progress = self.operations + self.warm_operations;
        if progress != self.last_progress.1 {
            self.last_progress = (now, progress);
        } else if now.duration_since(self.last_progress.0) > STALL {
            return Err(format!("stalled after {progress} operations").into());
        }
        match self.from {
            None if now.duration_since(self.started) >= self.options.warmup => {
                self.from = Some(Reading::now(&self.options, world));
            }
            Some(from) if now.duration_since(from.at) >= self.options.seconds => {
                let end = Reading::now(&self.options, world);
                let (second, broker) = (end.second - from.second, end.broker - from.broker);
                let (server, load) = (end.server - from.server + second, end.load - from.load);
                self.spent = Some(Spent {
                    wall: end.at.duration_since(from.at).as_secs_f64(),
                    server,
                    second,
                    broker,
                    load,
                    idle: (end.idle - from.idle).as_secs_f64(),
                    others: end.machine.0 - from.machine.0 - server.total - broker.total - load.total,
                    steal: end.machine.1 - from.machine.1,
                });
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    pub fn count(&mut self, operations: u64) {
        if self.from.is_some() {
            self.operations += operations;
        } else {
            self.warm_operations += operations;
        }
    }

    pub fn count_out_of_order(&mut self) {
        self.out_of_order += u64::from(self.from.is_some());
    }

    pub fn latency(&mut self, latency: Duration) {
        if self.from.is_some() {
            self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
        }
    }

    /// The figures of the run.
    pub fn report(&self) -> Map<String, Value> {
        let Spent { wall, server, second, broker, load, idle, others, steal } = self.spent.unwrap_or_default();
        let (wall, operations) = (wall.max(1e-9), self.operations.max(1) as f64);
        // Whether it spins or sleeps, what it does is what it spends while there is something to do.
        let load_share = if self.options.sleep { load.total / wall } else { 1.0 - idle / wall };
        let micros = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let kernel_and_user = (server.user + server.system).max(1e-9);
        let mut figures = crate::figures([
            ("scenario", json!(self.options.scenario)),
            ("options", self.options.echo()),
            ("operations", json!(self.operations)),
            ("rate", json!(self.operations as f64 / wall)),
            ("cpu_per_million", json!(server.total / operations * 1e6)),
            ("server_cpu_share", json!(server.total / wall)),
            ("server_user_share", json!(server.user / kernel_and_user)),
            ("load_busy_share", json!(load_share)),
            ("load_cpu_per_million", json!(load_share * wall / operations * 1e6)),
            ("load_bound", json!(self.options.scenario != "open" && load_share > 0.9)),
            ("others_cpu_share", json!((others / wall).max(0.0))),
            ("steal_share", json!(steal / wall)),
            ("out_of_order", json!(self.out_of_order)),
            (
                "latency_us",
                json!({
                    "samples": self.latency.len(), "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99),
                    "p999": micros(0.999), "max": self.latency.max() as f64 / 1e3,
                }),
            ),
        ]);
        if self.options.second.is_some() {
            figures.extend(crate::figures([
                ("second_cpu_per_million", json!(second.total / operations * 1e6)),
                ("broker_cpu_per_million", json!(broker.total / operations * 1e6)),
            ]));
        }
        figures
    }
}
