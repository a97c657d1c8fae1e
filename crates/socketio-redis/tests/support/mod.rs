//! A redis-server of its own for each test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socketio_redis::{RedisBus, SubscriptionMode};
use socketio_testkit::contract::Broker;

pub(crate) mod many;

/// A redis-server on a free port, killed when dropped.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    /// In a cluster, where the nodes talk.
    pub(crate) bus: u16,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

impl Redis {
    /// Starts one.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| (Vec::new(), 0))
    }

    /// Starts one with further arguments, which may depend on the port; and the port that goes with it.
    pub(crate) fn start_with(more: impl Fn(u16) -> (Vec<String>, u16)) -> Self {
        // Somebody else may take the port in between: then another one is tried.
        for _ in 0..20 {
            let port = free_port();
            let (more, bus) = more(port);
            if let Some(redis) = Self::spawn(port, bus, &more) {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    /// Starts one on this port, if it is free.
    pub(crate) fn start_at(port: u16) -> Option<Self> {
        Self::spawn(port, 0, &[])
    }

    fn spawn(port: u16, bus: u16, more: &[String]) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--daemonize", "no", "--dir", "/tmp"])
            .args(more);
        Self::run(command, port, bus, "Ready to accept connections")
    }

    /// Starts a sentinel with a file that is made for its port.
    pub(crate) fn start_sentinel(file: impl Fn(u16) -> String) -> Self {
        for _ in 0..20 {
            let port = free_port();
            let mut command = Command::new("redis-server");
            command.arg(file(port)).arg("--sentinel");
            if let Some(sentinel) = Self::run(command, port, 0, "+monitor") {
                return sentinel;
            }
        }
        panic!("redis-server does not start as a sentinel");
    }

    fn run(mut command: Command, port: u16, bus: u16, ready: &str) -> Option<Self> {
        Some(Self { child: started(&mut command, ready)?, port, bus })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Sends a signal to it: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "a signal can be sent to a child");
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it and starts another one at its port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + Duration::from_secs(20);
        *self = loop {
            match Self::start_at(self.port) {
                Some(redis) => break redis,
                None => assert!(Instant::now() < until, "the port stays taken"),
            }
        };
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a program that says when it is ready; none when it ends before.
pub(crate) fn started(command: &mut Command, ready: &str) -> Option<Child> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (cargo xtask installs it)");
    let mut lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    if !lines.by_ref().map_while(Result::ok).any(|line| line.contains(ready)) {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    // It must not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some(child)
}

/// A broker of the contract with python-socketio's protocol.
pub(crate) struct PythonBroker(pub(crate) RedisBroker);

impl PythonBroker {
    pub(crate) fn start() -> Self {
        Self(RedisBroker::start(false, SubscriptionMode::Dynamic))
    }
}

impl Broker for PythonBroker {
    type Bus = RedisBus;

    fn bus(&self) -> RedisBus {
        RedisBus::python(&self.0.redis.url()).expect("a URL")
    }

    async fn junk(&self, namespace: &str, bytes: &[u8]) {
        for channel in ["socketio".to_owned(), format!("socketio-rust#{namespace}#")] {
            self.0.command(&[b"PUBLISH", channel.as_bytes(), bytes]).await;
        }
    }
}

/// A broker of the contract: which protocol, and how rooms are listened to.
pub(crate) struct RedisBroker {
    pub(crate) redis: Redis,
    pub(crate) sharded: bool,
    pub(crate) mode: SubscriptionMode,
    pub(crate) specific: bool,
}

impl RedisBroker {
    pub(crate) fn start(sharded: bool, mode: SubscriptionMode) -> Self {
        Self { redis: Redis::start(), sharded, mode, specific: false }
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(30)))
            .set_response_timeout(Some(Duration::from_secs(30)));
        let client = redis::Client::open(self.redis.url()).expect("a URL");
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("Redis is there")
    }

    pub(crate) async fn command(&self, words: &[&[u8]]) {
        let mut connection = self.connection().await;
        let mut command = redis::cmd(std::str::from_utf8(words[0]).expect("a word"));
        for word in &words[1..] {
            command.arg(*word);
        }
        command.exec_async(&mut connection).await.expect("Redis takes it");
    }
}

impl Broker for RedisBroker {
    type Bus = RedisBus;

    fn bus(&self) -> RedisBus {
        let url = self.redis.url();
        let bus = if self.sharded { RedisBus::sharded(&url) } else { RedisBus::classic(&url) };
        let bus = bus.expect("a URL").subscription_mode(self.mode);
        bus.publish_on_specific_response_channel(self.specific)
    }

    async fn junk(&self, namespace: &str, bytes: &[u8]) {
        let (word, channels) = match self.sharded {
            true => ("SPUBLISH", vec![format!("socket.io#{namespace}#")]),
            false => {
                ("PUBLISH", ["", "-request", "-response"].map(|kind| format!("socket.io{kind}#{namespace}#")).into())
            }
        };
        for channel in channels {
            self.command(&[word.as_bytes(), channel.as_bytes(), bytes]).await;
        }
    }
}
