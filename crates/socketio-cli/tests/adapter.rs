//! Two programs with one broker: what a client of one says reaches the client of the other.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socketio_client::blocking::{Client, Socket};
use socketio_testkit::Postgres;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with the test.
struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the program is installed (cargo xtask installs redis-server)");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (found, wanted) = mpsc::channel();
        // Read to the end, also when nobody wants to know, so that it does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(|line| drop(found.send(line))));
        Self { child, lines: wanted }
    }

    /// The next line, until the program ends or says nothing for a long time.
    fn line(&self) -> Option<String> {
        self.lines.recv_timeout(PATIENCE).ok()
    }

    /// `sio serve` on a free port, and where.
    fn sio(adapter: &str) -> (Self, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sio"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIO_")) {
            command.env_remove(name);
        }
        let sio = Self::start(command.args(["serve", "--listen", "127.0.0.1:0", "--json", "--adapter", adapter]));
        let listening: Value = serde_json::from_str(&sio.line().expect("it listens")).unwrap();
        let url = listening["url"].as_str().unwrap().to_owned();
        (sio, url)
    }

    /// Redis, and its port.
    fn redis() -> (Self, u16) {
        // Somebody else may take the port in between: then another one is tried.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]);
            let redis = Self::start(&mut command);
            while let Some(line) = redis.line() {
                if line.contains("Ready to accept connections") {
                    return (redis, port);
                }
            }
        }
        panic!("redis-server does not start");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn join(url: &str, name: &str) -> Socket {
    Client::builder(&format!("{url}/lobby")).auth(json!({"name": name, "rooms": ["hall"]})).connect().unwrap()
}

/// What is said on one server is heard on the other, in both directions.
#[track_caller]
fn check(adapter: &str) {
    let servers = [Program::sio(adapter), Program::sio(adapter)];
    let sockets = [join(&servers[0].1, "ann"), join(&servers[1].1, "bob")];
    let mut events = [sockets[0].events(), sockets[1].events()];
    for from in 0..2 {
        let text = format!("from {from} over {adapter}");
        let until = Instant::now() + PATIENCE;
        'heard: loop {
            assert!(Instant::now() < until, "{text:?} is not heard");
            // The other server, or the room on it, may not be known yet.
            let said = json!({"room": "hall", "text": text, "key": "k"});
            let answer: Value = sockets[from].emit_with_ack_within(PATIENCE, "say", said).unwrap();
            assert!(answer["id"].is_string(), "{answer}");
            while let Ok(event) = events[1 - from].receive_within(Duration::from_millis(200)) {
                if event.name() == "said" && event.data::<Value>().unwrap()["text"] == text {
                    break 'heard;
                }
            }
        }
    }
}

#[test]
fn programs_share_redis_in_every_protocol() {
    let (_redis, port) = Program::redis();
    for kind in ["redis", "redis-sharded", "redis-streams", "redis-python"] {
        check(&format!("{kind}://127.0.0.1:{port}/"));
    }
}

#[test]
fn programs_share_postgresql() {
    let postgres = Postgres::start().unwrap();
    check(&postgres.url());
}
