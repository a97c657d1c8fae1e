//! The server: the application of the tests, and a namespace that makes trouble on request.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use socketio::{Data, Namespace, Socket, SocketIo};
use socketio_testkit::promises::{self, Ledger};
use tokio::io::{AsyncBufReadExt, BufReader};

type Kinds = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Prints `listening on PORT`, answers the lines `stats` and `trim`, and ends with its standard input.
///
/// `short` is for runs of less than a minute: what a hostile client runs into comes within seconds.
pub(crate) async fn run(short: bool) -> io::Result<()> {
    let ledger = Arc::new(Ledger::default());
    let kinds = Kinds::default();
    let counted = kinds.clone();
    let mut builder = promises::builder(&ledger).namespace(trouble()).on_fault(move |fault| {
        *counted.lock().unwrap_or_else(PoisonError::into_inner).entry(fault.kind()).or_default() += 1;
    });
    if short {
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
    println!("listening on {}", running.addr.port());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "stats" => println!("{}", stats(&running.io, &ledger, &kinds)),
            "trim" => {
                socketio_heap::give_back();
                println!("{}", stats(&running.io, &ledger, &kinds));
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

fn stats(io: &SocketIo, ledger: &Ledger, kinds: &Kinds) -> Value {
    let runtime = tokio::runtime::Handle::current().metrics();
    let members = |name: &str| io.namespace(name).map_or(0, |namespace| namespace.len());
    let rooms = |name: &str| io.namespace(name).map_or(0, |namespace| namespace.rooms().len());
    let namespaces = ["/", "/chat", "/trouble"];
    json!({
        "tasks": runtime.num_alive_tasks(),
        "parks": (0..runtime.num_workers()).map(|worker| runtime.worker_park_count(worker)).sum::<u64>(),
        "descriptors": descriptors(),
        "sessions": io.engine().sessions(),
        "pending": io.engine_stats().pending,
        "sockets": io.stats().sockets_open,
        "members": namespaces.iter().map(|name| members(name)).sum::<usize>(),
        "rooms": namespaces.iter().map(|name| rooms(name)).sum::<usize>(),
        "connected": Ledger::read(&ledger.connected),
        "disconnected": Ledger::read(&ledger.disconnected),
        "faults": Ledger::read(&ledger.faults),
        "resident_kib": promises::resident_kib(),
        "kinds": *kinds.lock().unwrap_or_else(PoisonError::into_inner),
        "reasons": *ledger.reasons.lock().unwrap_or_else(PoisonError::into_inner),
        "engine": format!("{:?}", io.engine_stats()),
    })
}

/// How many file descriptors are open, where the system tells it (Linux); else 0.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}
