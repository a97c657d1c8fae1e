//! The server: the application of the tests, and a namespace that makes trouble on request.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use socketio::{Data, Fault, Namespace, Socket, SocketIo};
use socketio_testkit::promises::{self, Ledger};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::attacks::{self, Row, Words};

/// What happened, in words, and how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    pub(crate) fn add(&self, what: impl Into<String>, times: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += times;
    }

    fn read(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server is for.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// A crowd.
    Crowd,
    /// A crowd of less than a minute: what a hostile client runs into comes within seconds.
    Short,
    /// One attack.
    Attack(&'static Row, Words),
}

impl Form {
    /// What stands behind `serve`.
    pub(crate) fn read(arguments: &[String]) -> io::Result<Self> {
        Ok(match arguments.first().map(String::as_str) {
            None => Self::Crowd,
            Some("--short") => Self::Short,
            Some(name) => Self::Attack(attacks::row(name)?, Words::read(&arguments[1..]).0),
        })
    }
}

/// Prints `listening on PORT`, answers the lines `stats`, `trim` and `close`, and ends with its standard input.
///
/// Where it speaks TLS too, the first line goes on with a port and the certificate in base64.
pub(crate) async fn run(form: Form) -> io::Result<()> {
    let ledger = Arc::new(Ledger::default());
    let (kinds, told) = (Tally::default(), Tally::default());
    let (counted, ends) = (kinds.clone(), told.clone());
    let mut builder = promises::builder(&ledger).namespace(trouble()).on_fault(move |fault| {
        counted.add(fault.kind(), 1);
        if let Fault::ConnectionFailed { reason, description: Some(description), .. } = fault {
            ends.add(format!("{reason} ({description})"), 1);
        }
    });
    if let Form::Attack(row, words) = form {
        builder = attacks::server::prepare(builder, row, words, &told);
    }
    if let Form::Short = form {
        let mut limits = socketio::Limits::default();
        limits.header_timeout = Duration::from_secs(4);
        limits.body_timeout = Duration::from_secs(6);
        limits.message_timeout = Duration::from_secs(6);
        limits.first_activity_timeout = Duration::from_secs(10);
        builder = builder
            .ping_interval(Duration::from_secs(3))
            .ping_timeout(Duration::from_secs(10))
            .upgrade_timeout(Duration::from_secs(10))
            .ack_timeout(Duration::from_secs(5))
            .limits(limits);
    }
    let running = socketio_testkit::serve(builder).await?;
    let secure = match form {
        Form::Attack(row, _) if row.tls => attacks::server::listen_tls(&running.io).await?,
        _ => String::new(),
    };
    println!("listening on {}{secure}", running.addr.port());
    let stats = || stats(&running.io, &ledger, &kinds, &told);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "stats" => println!("{}", stats()),
            "trim" => {
                socketio_heap::give_back();
                println!("{}", stats());
            }
            "close" => {
                running.io.close_within(attacks::server::DRAIN).await;
                println!("{}", stats());
            }
            _ => return Err(io::Error::other(format!("what is {line}?"))),
        }
    }
    Ok(())
}

/// `/trouble`: `parts(n, size)` emits without waiting for the reader, `paced(n, size)` keeps pace with it, `questions(n)`
/// asks the client and waits for its answers.
fn trouble() -> Namespace {
    /// More is not asked for.
    const MOST: u64 = 1_000;
    Namespace::new("/trouble")
        .on("parts", async |socket: Socket, Data((n, size)): Data<(u64, usize)>| {
            let part = "x".repeat(size.min(1 << 20));
            for i in 0..n.min(MOST) {
                socket.emit("part", (i, &part));
            }
        })
        .on("paced", async |socket: Socket, Data((n, size)): Data<(u64, usize)>| {
            tokio::spawn(async move {
                let part = "x".repeat(size.min(1 << 20));
                for i in 0..n.min(MOST) {
                    if socket.emit("part", (i, &part)).await.is_err() {
                        return;
                    }
                }
            });
        })
        .on("questions", async |socket: Socket, Data(n): Data<u64>| {
            for i in 0..n.min(MOST) {
                let answer = socket.emit_with_ack::<Value>("question", i);
                // Ends with the answer, its timeout or the client.
                tokio::spawn(async move { drop(answer.await) });
            }
        })
}

fn stats(io: &SocketIo, ledger: &Ledger, kinds: &Tally, told: &Tally) -> Value {
    let runtime = tokio::runtime::Handle::current().metrics();
    let namespaces = io.namespaces();
    let server = io.stats();
    let mut counts = told.read();
    counts.extend(io.engine_stats().each().map(|(name, count)| (name.to_owned(), count)));
    counts.extend(
        [
            ("undecodable", server.undecodable),
            ("violations", server.violations),
            ("connect_timeouts", server.connect_timeouts),
            ("connects_refused", server.connects_refused),
            ("children_refused", server.children_refused),
            ("extraction_errors", server.extraction_errors),
            ("handlers_abandoned", server.handlers_abandoned),
            ("acks_unknown", server.acks_unknown),
            ("acks_timed_out", server.acks_timed_out),
            ("sessions_expired", server.sessions_expired),
        ]
        .map(|(name, count)| (name.to_owned(), count)),
    );
    json!({
        "tasks": runtime.num_alive_tasks(),
        "parks": (0..runtime.num_workers()).map(|worker| runtime.worker_park_count(worker)).sum::<u64>(),
        "descriptors": descriptors(),
        "sessions": io.engine().sessions(),
        "pending": io.engine_stats().pending,
        "sockets": server.sockets_open,
        "namespaces": namespaces.len(),
        "members": namespaces.iter().map(|namespace| namespace.len()).sum::<usize>(),
        "rooms": namespaces.iter().map(|namespace| namespace.rooms().len()).sum::<usize>(),
        "connected": Ledger::read(&ledger.connected),
        "disconnected": Ledger::read(&ledger.disconnected),
        "faults": Ledger::read(&ledger.faults),
        "resident_kib": promises::resident_kib(),
        "kinds": kinds.read(),
        "counts": counts,
        "reasons": *ledger.reasons.lock().unwrap_or_else(PoisonError::into_inner),
        "engine": format!("{:?}", io.engine_stats()),
    })
}

/// How many file descriptors are open, where the system tells it (Linux); else 0.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}
