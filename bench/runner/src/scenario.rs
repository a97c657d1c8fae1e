//! What the names of scenarios mean, and what ours must reach in them.

use crate::{Result, peer};

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
    "cluster-50",
    "cluster-1",
    "cluster-sharded-50",
    "cluster-streams-50",
    "elsewhere-50",
    "elsewhere-sharded-50",
    "connect",
    "upgrade",
    "idle@1000",
    "idle@5000",
    "idle@15000",
    "idle-polling@1000",
    "idle-polling@5000",
    "idle-polling@15000",
    "idle-http@5000",
    "idle-tls@1000",
    "idle-tls@5000",
    "idle-tls@15000",
];

/// The cost of an operation against connections, rooms, bytes, and namespaces of a connection.
pub const GROWTH: &[&str] = &[
    "echo-16@10",
    "echo-16@50",
    "echo-16@200",
    "echo-16@1000",
    "echo-16@5000",
    "echo-16@15000",
    "broadcast-1@10",
    "broadcast-1@50",
    "broadcast-1@200",
    "broadcast-1@1000",
    "broadcast-1@5000",
    "broadcast-1@15000",
    "rooms-1x10@1000",
    "rooms-1x100@1000",
    "rooms-1x1000@1000",
    "rooms-1x10000@1000",
    "echo-256@50",
    "echo-4k@50",
    "echo-16k@50",
    "echo-64k@50",
    "echo-256k@50",
    "namespaces-1",
    "namespaces-2",
    "namespaces-8",
    "namespaces-32",
];

/// What the sum for a machine with a million connections is made of (docs/performance.md).
pub const MILLION: &[&str] = &[
    "idle@1000",
    "idle@5000",
    "idle@15000",
    "idle-tls@1000",
    "idle-tls@5000",
    "idle-tls@15000",
    "pings@5000",
    "connect",
    "connect-tls",
    "echo-16@5000",
    "broadcast-1@5000",
];

/// What a second worker costs.
pub const WORKERS: &[&str] = &["echo-16x8", "broadcast-50", "rooms@10000"];

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
    /// Rooms of ten, when there are not as many as tens of connections.
    pub rooms: usize,
    /// Namespaces of each connection, when it is not in the main one alone.
    pub namespaces: usize,
    pub tls: bool,
}

/// What the cost of an operation is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Connections,
    Rooms,
    Bytes,
    Namespaces,
}

impl Dimension {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rooms => "rooms",
            Self::Bytes => "bytes",
            Self::Namespaces => "namespaces of a connection",
        }
    }
}

/// What a p50 or p99 must stay below, or memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The figure's name for people, and in the generator's line.
    pub says: &'static str,
    pub figure: &'static str,
    pub most: f64,
    /// The server that it is a multiple of.
    pub of: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Echo,
    Object,
    Binary,
    Polling,
    Broadcast,
    Rooms,
    /// A broadcast on one server to clients of another.
    Cluster(&'static str),
    /// Events to a room of one server that another server has nobody in.
    Elsewhere(&'static str),
    Churn,
    Slow,
    Open,
    Connect,
    Upgrade,
    Namespaces,
    Pings,
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
    /// Reads a name: a kind, `-tls` where it goes over TLS, `-` and a number (bytes, events of a broadcast, emits per second,
    /// namespaces), `x` and a number (emits in flight, bytes of a broadcast, rooms), `@` and a number of connections.
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
        let (word, tls) = word.strip_suffix("-tls").map_or((word, false), |word| (word, true));
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
            // The same number busy, however many there are.
            "rooms" if !second.is_empty() => (Kind::Rooms, 16, 10, one(first, 1)?, 1000),
            "rooms" => (Kind::Rooms, 16, 50, one(first, 1)?, 10_000),
            "cluster" => (Kind::Cluster("classic"), one(second, 16)?, 1, one(first, 1)?, 50),
            "cluster-sharded" => (Kind::Cluster("sharded"), one(second, 16)?, 1, one(first, 1)?, 50),
            "cluster-streams" => (Kind::Cluster("streams"), one(second, 16)?, 1, one(first, 1)?, 50),
            "elsewhere" => (Kind::Elsewhere("classic"), one(second, 16)?, 1, one(first, 1)?, 50),
            "elsewhere-sharded" => (Kind::Elsewhere("sharded"), one(second, 16)?, 1, one(first, 1)?, 50),
            "namespaces" => (Kind::Namespaces, 16, 1, 1, 50),
            "pings" => (Kind::Pings, 0, 1, 1, 5000),
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
        let rooms = if kind == Kind::Rooms { one(second, 0)? } else { 0 };
        let namespaces = if kind == Kind::Namespaces { one(first, 1)? } else { 0 };
        if namespaces > 32 || (kind == Kind::Namespaces && namespaces == 0) {
            return Err("the servers have 32 namespaces".into());
        }
        let connections = connections.unwrap_or(usual);
        // 20,000 files may be open, and the server has more than its sockets.
        if connections > 19_000 {
            return Err("more than 19,000 connections need more than one generator".into());
        }
        Ok(Self { name: name.to_owned(), kind, size, window, count, connections, rate, rooms, namespaces, tls })
    }

    /// The generator's arguments.
    pub fn load(&self) -> Vec<String> {
        let word = match self.kind {
            Kind::Echo | Kind::Namespaces => "echo",
            Kind::Object => "obj",
            Kind::Binary => "bin",
            Kind::Polling => "polling",
            Kind::Broadcast => "cast",
            Kind::Cluster(_) => "across",
            Kind::Elsewhere(_) => "elsewhere",
            Kind::Rooms => "rooms",
            Kind::Churn => "churn",
            Kind::Slow => "slow",
            Kind::Open => "open",
            Kind::Connect => "connect",
            Kind::Upgrade => "upgrade",
            Kind::Pings => "pings",
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
            ("--rooms", self.rooms),
            ("--namespaces", self.namespaces),
        ] {
            args.extend([name.to_owned(), value.to_string()]);
        }
        args.extend(self.tls.then(|| "--tls".to_owned()));
        args
    }

    /// One line for people.
    pub fn says(&self) -> String {
        let Self { size, window, count, connections, rate, rooms, namespaces, .. } = self;
        let text = match self.kind {
            Kind::Echo => format!("echo of {size} bytes, {connections} connections x {window} in flight"),
            Kind::Object => {
                format!("512 bytes of objects into a typed struct and back, {connections} connections x {window}")
            }
            Kind::Binary => format!("echo of {size} binary bytes, {connections} connections x {window} in flight"),
            Kind::Polling => format!("long-polling echo of {size} bytes, {connections} sessions x {window} in flight"),
            Kind::Broadcast => format!("{count} at a time of {size} bytes to {connections}; per delivery"),
            Kind::Cluster(adapter) => format!(
                "{count} at a time of {size} bytes from one server over Redis ({adapter}) to {connections} clients of another; per delivery, both servers together"
            ),
            Kind::Elsewhere(adapter) => format!(
                "{count} at a time of {size} bytes on Redis ({adapter}) to a room of one server; per event, both servers together, of which the other has nobody in the room"
            ),
            Kind::Rooms if *rooms > 0 => {
                format!("{rooms} rooms of 10, {connections} connections, {window} rooms busy; per delivery")
            }
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
            Kind::Namespaces => {
                format!(
                    "echo of {size} bytes in {namespaces} namespaces in turn, {connections} connections x 1 in flight"
                )
            }
            Kind::Pings => format!("heartbeats of {connections} connections that do nothing; per ping and pong"),
            Kind::Idle => format!("memory of {connections} idle WebSocket connections"),
            Kind::IdlePolling => format!("memory of {connections} long-polling sessions with a poll parked"),
            Kind::IdleHttp => format!("memory of {connections} kept-alive HTTP connections without a session"),
        };
        if self.tls { format!("over TLS: {text}") } else { text }
    }

    /// The families of scenarios that this one is a point of: all that differ only in one dimension, and where it stands.
    pub fn families(&self) -> Vec<(Dimension, String, usize)> {
        let Self { kind, size, window, connections, rooms, .. } = self;
        let word = self.name.split(['-', '@']).next().unwrap_or_default();
        let before_x = self.name.split(['x', '@']).next().unwrap_or_default();
        let without_connections = self.name.split('@').next().unwrap_or_default();
        let mut families = Vec::new();
        match kind {
            Kind::Namespaces => {
                families.push((Dimension::Namespaces, format!("{word}@{connections}"), self.namespaces))
            }
            Kind::Rooms if *rooms > 0 => families.push((Dimension::Rooms, format!("{before_x}@{connections}"), *rooms)),
            _ if *connections > 0 => {
                families.push((Dimension::Connections, without_connections.to_owned(), *connections));
            }
            _ => {}
        }
        if matches!(kind, Kind::Echo | Kind::Binary) {
            let tls = if self.tls { "-tls" } else { "" };
            families.push((Dimension::Bytes, format!("{word}{tls} x{window}@{connections}"), *size));
        }
        families
    }

    /// The protocol between two servers, where two are needed.
    pub fn adapter(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Cluster(adapter) | Kind::Elsewhere(adapter) => Some(adapter),
            _ => None,
        }
    }

    pub fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Idle | Kind::IdlePolling | Kind::IdleHttp)
    }

    /// What a server is measured by: the figure's name in the generator's line, and its unit.
    pub fn figure(&self) -> (&'static str, &'static str) {
        if self.is_memory() { ("kib_each", "KiB each") } else { ("cpu_per_million", "CPU seconds per million") }
    }

    /// Whether a peer speaks what the scenario needs: the baselines know no polling and no rooms.
    pub fn suits(&self, peer: &str) -> bool {
        if self.tls && !peer::has_tls(peer::split(peer).0) {
            return false;
        }
        if let Some(adapter) = self.adapter() {
            return peer::has_adapter(peer, adapter);
        }
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
            // Every connection is pinged every 25 seconds.
            Kind::Pings => 26.0,
            Kind::Slow => 3.0,
            Kind::Open | Kind::Upgrade => 2.0,
            _ if self.connections >= 10_000 => 2.0,
            _ => 1.0,
        }
    }

    /// What else must stay below something.
    pub fn bounds(&self) -> &'static [Bound] {
        const FAIR: &[Bound] = &[Bound { says: "p99", figure: "latency_us.p99", most: 1.5, of: Some("raw-epoll") }];
        const OPEN: &[Bound] = &[
            Bound { says: "p50", figure: "latency_us.p50", most: 1.15, of: Some("raw-tokio") },
            Bound { says: "p99", figure: "latency_us.p99", most: 1.3, of: Some("raw-tokio") },
        ];
        const IDLE: &[Bound] = &[
            Bound { says: "KiB", figure: "kib_each", most: 4.0, of: None },
            Bound { says: "KiB left", figure: "left_kib_each", most: 0.5, of: None },
        ];
        match self.name.as_str() {
            "echo-16@1000" => FAIR,
            "open-20000" => OPEN,
            _ if self.kind == Kind::Idle && !self.tls => IDLE,
            _ => &[],
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
            // One at a time is a wake-up and a write for each, which cost everybody the same.
            "cluster-50" | "cluster-sharded-50" | "cluster-streams-50" => Some(Target { times: 0.2, of: "node" }),
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
        check("idle-tls@5000", (Kind::Idle, 0, 1, 1, 5000));
        check("connect-tls-20", (Kind::Connect, 0, 20, 1, 0));
        check("cluster-streams-50@10", (Kind::Cluster("streams"), 16, 1, 50, 10));
        check("elsewhere-sharded-50", (Kind::Elsewhere("sharded"), 16, 1, 50, 50));
        check("rooms-2x10000@1000", (Kind::Rooms, 16, 10, 2, 1000));
        check("namespaces-8", (Kind::Namespaces, 16, 1, 1, 50));
        for wrong in ["", "echo-", "echo-16x8@", "echoes", "echo-16x8@1m", "idle@20000", "namespaces-33", "-tls"] {
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
        for name in [ALL, GROWTH, QUICK, MILLION, WORKERS].concat() {
            assert!(Scenario::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_name_says_what_goes_over_tls_and_who_speaks_it() {
        let scenario = Scenario::parse("idle-tls@5000").expect("it is listed");
        assert!(scenario.load().contains(&"--tls".to_owned()));
        assert!(scenario.suits("ours") && scenario.suits("raw-tokio-lean"));
        assert!(!scenario.suits("node") && !scenario.suits("raw-tokio"));
        let plain = Scenario::parse("idle@5000").expect("it is listed");
        assert!(!plain.load().contains(&"--tls".to_owned()));
        assert!(plain.suits("node") && plain.suits("raw-tokio"));
    }

    #[test]
    fn growth_has_a_family_for_every_dimension() {
        let mut families = std::collections::BTreeMap::<_, Vec<usize>>::new();
        for name in GROWTH {
            for (dimension, family, at) in Scenario::parse(name).expect(name).families() {
                families.entry((dimension, family)).or_default().push(at);
            }
        }
        families.retain(|_, points| points.len() >= 3);
        let of = |dimension, family: &str| families.get(&(dimension, family.to_owned())).map(Vec::as_slice);
        assert_eq!(of(Dimension::Connections, "echo-16"), Some(&[10, 50, 200, 1000, 5000, 15_000][..]));
        assert_eq!(of(Dimension::Connections, "broadcast-1"), Some(&[10, 50, 200, 1000, 5000, 15_000][..]));
        assert_eq!(of(Dimension::Rooms, "rooms-1@1000"), Some(&[10, 100, 1000, 10_000][..]));
        assert_eq!(of(Dimension::Bytes, "echo x1@50"), Some(&[16, 256, 4096, 16_384, 65_536, 262_144][..]));
        assert_eq!(of(Dimension::Namespaces, "namespaces@50"), Some(&[1, 2, 8, 32][..]));
        assert_eq!(families.len(), 5);
    }
}
