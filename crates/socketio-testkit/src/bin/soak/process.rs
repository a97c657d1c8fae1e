//! The server as the others see it: a process that is asked about itself.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use socketio_testkit::Child;
use tokio::time::{Instant, sleep};

/// How long the server may take to answer us, and the crowd to leave.
pub(crate) const BOUND: Duration = Duration::from_secs(120);
/// Trimming leaves the end of every thread's arena alone, some megabytes each, unless glibc is told that little may be kept.
pub(crate) const KEEP_LITTLE: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "131072");
/// What each thread has freed and keeps for itself is out of reach for trimming, some hundred pages here and there. That is
/// more than the growth that is looked for.
pub(crate) const KEEP_NOTHING: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// The server's process.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    /// Where it speaks TLS, if it does, and its certificate in DER.
    pub(crate) tls: Option<(u16, Vec<u8>)>,
    short: bool,
}

impl Server {
    /// `short`: quiet moments are so, too. `variables` say what its allocator keeps.
    pub(crate) fn start(
        short: bool,
        arguments: &[&str],
        variables: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or_else(|| io::Error::other("where are we?"))?;
        let arguments = ["serve"].iter().chain(arguments);
        let mut child = Child::start_with(program, arguments, variables)?;
        let line = child.line(BOUND)?;
        let nonsense = || io::Error::other(format!("the server says {line}"));
        let mut words = line.strip_prefix("listening on ").ok_or_else(nonsense)?.split(' ');
        let port = words.next().and_then(|port| port.parse().ok()).ok_or_else(nonsense)?;
        let secure = words.next().and_then(|port| port.parse().ok());
        let certificate = words.next().and_then(|words| STANDARD.decode(words).ok());
        Ok(Self { child, port, tls: secure.zip(certificate), short })
    }

    pub(crate) fn ask(&mut self, what: &str) -> io::Result<State> {
        self.child.tell(what)?;
        let line = tokio::task::block_in_place(|| self.child.line(BOUND))?;
        Ok(State::new(serde_json::from_str(&line)?))
    }

    /// Asks, with how often the server wakes up while nobody is there.
    pub(crate) async fn quiet(&mut self, what: &str) -> io::Result<State> {
        let first = self.ask(what)?;
        sleep(Duration::from_secs(if self.short { 2 } else { 10 })).await;
        let mut state = self.ask("stats")?;
        state.wakes = state.number("parks") - first.number("parks");
        Ok(state)
    }

    /// Waits until everybody has left, and everything that belonged to them. Returns what the server is then, whatever
    /// that is.
    pub(crate) async fn settled(&mut self, fresh: &State) -> io::Result<State> {
        let until = Instant::now() + BOUND;
        while !self.ask("stats")?.leaks(fresh).is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(500)).await;
        }
        self.ask("trim")
    }

    /// The same, with how often the server wakes up then.
    pub(crate) async fn drained(&mut self, fresh: &State) -> io::Result<State> {
        self.settled(fresh).await?;
        self.quiet("trim").await
    }
}

/// What the server told about itself.
pub(crate) struct State {
    pub(crate) values: Value,
    pub(crate) resident: f64,
    /// How often its workers woke up in some quiet seconds.
    pub(crate) wakes: i64,
}

impl State {
    fn new(values: Value) -> Self {
        let resident = values["resident_kib"].as_f64().unwrap_or_default();
        Self { values, resident, wakes: 0 }
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.values[name].as_i64().unwrap_or(-1)
    }

    /// A counter of its own, the words of a security event or the reason of an end.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.values["counts"][name].as_u64().unwrap_or_default()
    }

    pub(crate) fn words(&self) -> String {
        format!(
            "{} sessions, {} tasks, {} descriptors, {:.0} KiB, {} wake-ups",
            self.number("sessions"),
            self.number("tasks"),
            self.number("descriptors"),
            self.resident,
            self.wakes
        )
    }

    pub(crate) fn counted(&self) -> String {
        format!("faults {}, reasons {}, {}", self.values["kinds"], self.values["reasons"], self.values["engine"])
    }

    /// What is more than it was.
    pub(crate) fn leaks(&self, fresh: &State) -> Vec<String> {
        let mut leaks = Vec::new();
        for name in ["sessions", "pending", "sockets", "namespaces", "members", "rooms", "tasks", "descriptors"] {
            if self.number(name) > fresh.number(name) {
                leaks.push(format!("{name}: {}, at the start {}", self.number(name), fresh.number(name)));
            }
        }
        if self.number("connected") != self.number("disconnected") {
            leaks.push(format!("{} connected, {} left", self.number("connected"), self.number("disconnected")));
        }
        // A timer that nobody stopped wakes a worker; every other one belongs to a task, and those are counted.
        if self.wakes > 2 * fresh.wakes + 20 {
            leaks.push(format!("it wakes up {} times while nobody is there, at the start {}", self.wakes, fresh.wakes));
        }
        leaks
    }

    /// What must not have happened.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.number("faults") > 0 {
            broken.push(format!("the server saw {} events lost or out of order", self.number("faults")));
        }
        for kind in ["handler_panicked", "not_encodable", "internal", "handler_abandoned"] {
            if let Some(count) = self.values["kinds"][kind].as_u64() {
                broken.push(format!("{kind}: {count}"));
            }
        }
        broken
    }
}
