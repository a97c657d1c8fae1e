//! What the names of scenarios mean, and what ours must reach in them.

use crate::Result;

/// Every scenario of a full run.
pub const ALL: &[&str] = &[
    "echo-16x8",
    "echo-16",
    "echo-16@1000",
    "echo-16x8@1000",
    "echo-1kx8",
    "echo-64kx2",
    "obj-x8",
    "obj",
    "bin-1kx8",
    "polling-16x8",
    "broadcast-1",
    "broadcast-50",
    "broadcast-20x1k@500",
    "broadcast-1@10000",
    "broadcast-50@10000",
    "rooms@10000",
    "churn",
    "slow",
    "open-20000",
    "connect",
    "upgrade",
    "idle@1000",
    "idle@5000",
    "idle@15000",
    "idle-polling@1000",
    "idle-polling@5000",
    "idle-polling@15000",
    "idle-http@5000",
];

/// One cost per number of connections.
pub const GROWTH: &[&str] = &[
    "echo-16@10",
    "echo-16@100",
    "echo-16@1000",
    "echo-16@5000",
    "echo-16@15000",
    "broadcast-1@10",
    "broadcast-1@100",
    "broadcast-1@1000",
    "broadcast-1@5000",
    "broadcast-1@15000",
    "rooms@100",
    "rooms@1000",
    "rooms@5000",
    "rooms@15000",
];

pub const QUICK: &[&str] = &["echo-16x8", "echo-16", "broadcast-1", "broadcast-50", "connect", "polling-16x8"];

/// A scenario: what the generator is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub kind: Kind,
    pub size: usize,
    pub window: usize,
    pub count: usize,
    pub connections: usize,
    pub rate: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Echo,
    Object,
    Binary,
    Polling,
    Broadcast,
    Rooms,
    Churn,
    Slow,
    Open,
    Connect,
    Upgrade,
    Idle,
    IdlePolling,
    IdleHttp,
}

/// What a target is a multiple of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub times: f64,
    pub of: &'static str,
}

impl Scenario {
    /// Reads a name: a kind, `-` and a number (bytes, or events of a broadcast, or emits per second), `x` and a number
    /// (emits in flight, or bytes of a broadcast), `@` and a number of connections.
    pub fn parse(name: &str) -> Result<Self> {
        let unknown = || format!("no scenario is called `{name}`");
        let (rest, connections) = match name.split_once('@') {
            Some((rest, connections)) => (rest, Some(number(connections).ok_or_else(unknown)?)),
            None => (name, None),
        };
        let (word, numbers) = match rest.rsplit_once('-') {
            Some((word, numbers)) if numbers.starts_with(|first: char| first.is_ascii_digit() || first == 'x') => {
                (word, numbers)
            }
            _ => (rest, ""),
        };
        let (first, second) = numbers.split_once('x').unwrap_or((numbers, ""));
        let one = |text: &str, default| {
            if text.is_empty() { Ok(default) } else { number(text).ok_or_else(unknown) }
        };
        let (kind, size, window, count, usual) = match word {
            "echo" => (Kind::Echo, one(first, 16)?, one(second, 1)?, 1, 50),
            "obj" => (Kind::Object, 512, one(second, 1)?, 1, 50),
            "bin" => (Kind::Binary, one(first, 1024)?, one(second, 1)?, 1, 50),
            "polling" => (Kind::Polling, one(first, 16)?, one(second, 1)?, 1, 50),
            "broadcast" => (Kind::Broadcast, one(second, 16)?, 1, one(first, 1)?, 1000),
            "rooms" => (Kind::Rooms, 16, 50, one(first, 1)?, 10_000),
            "churn" => (Kind::Churn, 16, 1, one(first, 1)?, 1000),
            "slow" => (Kind::Slow, one(second, 1024)?, 1, one(first, 20)?, 1000),
            "open" => (Kind::Open, 16, 1, 1, 50),
            "connect" => (Kind::Connect, 0, one(first, 50)?, 1, 0),
            "upgrade" => (Kind::Upgrade, 0, one(first, 50)?, 1, 0),
            "idle" => (Kind::Idle, 0, 1, 1, 1000),
            "idle-polling" => (Kind::IdlePolling, 0, 1, 1, 1000),
            "idle-http" => (Kind::IdleHttp, 0, 1, 1, 1000),
            _ => return Err(unknown().into()),
        };
        let rate = if kind == Kind::Open { one(first, 20_000)? } else { 0 };
        let connections = connections.unwrap_or(usual);
        // 20,000 files may be open, and the server has more than its sockets.
        if connections > 19_000 {
            return Err("more than 19,000 connections need more than one generator".into());
        }
        Ok(Self { name: name.to_owned(), kind, size, window, count, connections, rate })
    }

    /// The generator's arguments.
    pub fn load(&self) -> Vec<String> {
        let word = match self.kind {
            Kind::Echo => "echo",
            Kind::Object => "obj",
            Kind::Binary => "bin",
            Kind::Polling => "polling",
            Kind::Broadcast => "cast",
            Kind::Rooms => "rooms",
            Kind::Churn => "churn",
            Kind::Slow => "slow",
            Kind::Open => "open",
            Kind::Connect => "connect",
            Kind::Upgrade => "upgrade",
            Kind::Idle => "idle-websocket",
            Kind::IdlePolling => "idle-polling",
            Kind::IdleHttp => "idle-http",
        };
        let mut args = vec![word.to_owned()];
        for (name, value) in [
            ("--connections", self.connections),
            ("--window", self.window),
            ("--size", self.size),
            ("--count", self.count),
            ("--rate", self.rate),
        ] {
            args.extend([name.to_owned(), value.to_string()]);
        }
        args
    }

    /// One line for people.
    pub fn says(&self) -> String {
        let Self { size, window, count, connections, rate, .. } = self;
        match self.kind {
            Kind::Echo => format!("echo of {size} bytes, {connections} connections x {window} in flight"),
            Kind::Object => {
                format!("512 bytes of objects into a typed struct and back, {connections} connections x {window}")
            }
            Kind::Binary => format!("echo of {size} binary bytes, {connections} connections x {window} in flight"),
            Kind::Polling => format!("long-polling echo of {size} bytes, {connections} sessions x {window} in flight"),
            Kind::Broadcast => format!("{count} at a time of {size} bytes to {connections}; per delivery"),
            Kind::Rooms => format!("rooms of 10 of {connections}, {window} rooms busy; per delivery"),
            Kind::Churn => {
                format!("broadcast to 900 of {connections} while the others join and leave; per delivery or move")
            }
            Kind::Slow => {
                format!("{count} x {size} bytes to {connections}, one in 50 of which does not read; per delivery")
            }
            Kind::Open => format!("open loop, {rate} emits of 16 bytes a second over {connections} connections"),
            Kind::Connect => format!("connect and go, {window} at a time; per connection"),
            Kind::Upgrade => format!("connect by polling, upgrade, echo, go, {window} at a time; per connection"),
            Kind::Idle => format!("memory of {connections} idle WebSocket connections"),
            Kind::IdlePolling => format!("memory of {connections} long-polling sessions with a poll parked"),
            Kind::IdleHttp => format!("memory of {connections} kept-alive HTTP connections without a session"),
        }
    }

    pub fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Idle | Kind::IdlePolling | Kind::IdleHttp)
    }

    /// Whether a peer speaks what the scenario needs: the baselines know no polling and no rooms.
    pub fn suits(&self, peer: &str) -> bool {
        !peer.starts_with("raw-")
            || matches!(
                self.kind,
                Kind::Echo
                    | Kind::Object
                    | Kind::Binary
                    | Kind::Broadcast
                    | Kind::Slow
                    | Kind::Open
                    | Kind::Connect
                    | Kind::Idle
            )
    }

    /// How much longer than others the scenario runs: few operations, or a queue that must fill.
    pub fn stretch(&self) -> f64 {
        match self.kind {
            Kind::Slow => 3.0,
            Kind::Open | Kind::Upgrade => 2.0,
            _ if self.connections >= 10_000 => 2.0,
            _ => 1.0,
        }
    }

    /// What a server's CPU time per operation must stay below.
    pub fn target(&self) -> Option<Target> {
        let tokio = |times| Some(Target { times, of: "raw-tokio" });
        let oxide = |times| Some(Target { times, of: "socketioxide" });
        match self.name.as_str() {
            "echo-16x8" => tokio(1.65),
            "echo-16" => tokio(1.12),
            "obj-x8" => tokio(3.6),
            "echo-1kx8" => tokio(1.9),
            "echo-64kx2" => tokio(1.5),
            "bin-1kx8" => tokio(1.6),
            "broadcast-1" => tokio(0.75),
            "broadcast-50" => tokio(0.76),
            "connect" => tokio(1.16),
            "upgrade" => oxide(0.65),
            "polling-16x8" => oxide(0.68),
            _ => None,
        }
    }
}

/// A number that may end in `k` for times 1,024.
fn number(text: &str) -> Option<usize> {
    match text.strip_suffix('k') {
        Some(text) => text.parse::<usize>().ok()?.checked_mul(1024),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_measured() {
        check("echo-64kx2", (Kind::Echo, 65_536, 2, 1, 50));
        check("echo-16x8@1000", (Kind::Echo, 16, 8, 1, 1000));
        check("obj-x8", (Kind::Object, 512, 8, 1, 50));
        check("broadcast-20x1k@500", (Kind::Broadcast, 1024, 1, 20, 500));
        check("idle-polling@5000", (Kind::IdlePolling, 0, 1, 1, 5000));
        for wrong in ["", "echo-", "echo-16x8@", "echoes", "echo-16x8@1m", "idle@20000"] {
            assert!(Scenario::parse(wrong).is_err(), "{wrong}");
        }

        #[track_caller]
        fn check(name: &str, want: (Kind, usize, usize, usize, usize)) {
            let got = Scenario::parse(name).expect(name);
            assert_eq!((got.kind, got.size, got.window, got.count, got.connections), want, "{name}");
        }
    }

    #[test]
    fn every_listed_scenario_exists() {
        for name in [ALL, GROWTH, QUICK].concat() {
            assert!(Scenario::parse(name).is_ok(), "{name}");
        }
    }
}
