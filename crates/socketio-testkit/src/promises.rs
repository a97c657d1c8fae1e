//! A small application whose every event checks something, for tests in the same process and for `promise-server`.
//!
//! Both namespaces, `/` and `/chat`, answer:
//!
//! | event | what happens |
//! |---|---|
//! | `up(i) -> ` | the next of a sequence that starts at 0; whatever is lost, doubled or out of order is a fault |
//! | `flow(n)` | from now on `n` events `down(i)` a second, `i` counting from 0, until `stop` |
//! | `stop() -> sent, got, faults` | how many `down` were sent and `up` came, and the faults among these |
//! | `seq(i) -> i` | as `up`, in a handler that does not wait |
//! | `seq-wait(i) -> i` | the same sequence, in a handler that waits now and then; the next must not start before its end |
//! | `burst(n)` | `number(0)` … `number(n - 1)`, all in one handler |
//! | `echo(x)` | `echo(x)` back |
//! | `to(id, x)` | `told(x)` to the room of that name |

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use socketio::{Builder, Data, DisconnectReason, Extension, Namespace, Socket, SocketIo, State, Value};
use tokio::time::MissedTickBehavior;

/// What happened on all sockets.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Sockets that have connected.
    pub connected: AtomicU64,
    /// Disconnect handlers that have run.
    pub disconnected: AtomicU64,
    /// `first` events.
    pub first: AtomicU64,
    /// Events of a sequence that came.
    pub got: AtomicU64,
    /// Events of a sequence that were lost, doubled or out of order.
    pub faults: AtomicU64,
    /// Why sockets left, in Node's words, and how often.
    pub reasons: Mutex<BTreeMap<String, u64>>,
}

impl Ledger {
    /// The value of one of the counters.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }
}

/// The sequences of one socket.
#[derive(Debug, Default)]
struct Flow {
    next: AtomicU64,
    faults: AtomicU64,
    down: Mutex<Down>,
}

/// What went down. One lock for counting and emitting, so that `stop` sees either both or neither.
#[derive(Debug, Default)]
struct Down {
    sent: u64,
    stopped: bool,
}

impl Flow {
    /// Whether `i` is what has to come now.
    fn check(&self, ledger: &Ledger, i: u64) {
        ledger.got.fetch_add(1, Ordering::SeqCst);
        if self.next.load(Ordering::SeqCst) != i {
            self.faults.fetch_add(1, Ordering::SeqCst);
            ledger.faults.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn done(&self, i: u64) {
        self.next.store(i + 1, Ordering::SeqCst);
    }
}

/// The application, to be given further options.
pub fn builder(ledger: &Arc<Ledger>) -> Builder {
    SocketIo::builder()
        .state(Arc::clone(ledger))
        .namespace(with_promises(Namespace::new("/")))
        .namespace(with_promises(Namespace::new("/chat")))
}

/// Adds the events to a namespace. The server has to have a state of type `Arc<Ledger>`.
pub fn with_promises(namespace: Namespace) -> Namespace {
    type Book = State<Arc<Ledger>>;
    namespace
        .on_connect(async |socket: Socket, State(ledger): Book| {
            socket.extensions().insert(Flow::default());
            ledger.connected.fetch_add(1, Ordering::SeqCst);
        })
        .on_disconnect(async |reason: DisconnectReason, State(ledger): Book| {
            if let Ok(mut reasons) = ledger.reasons.lock() {
                *reasons.entry(reason.to_string()).or_default() += 1;
            }
            ledger.disconnected.fetch_add(1, Ordering::SeqCst);
        })
        .on("up", async |Extension(flow): Extension<Flow>, State(ledger): Book, Data(i): Data<u64>| {
            flow.check(&ledger, i);
            flow.done(i);
        })
        .on("seq", async |Extension(flow): Extension<Flow>, State(ledger): Book, Data(i): Data<u64>| {
            flow.check(&ledger, i);
            flow.done(i);
            i
        })
        .on("seq-wait", async |Extension(flow): Extension<Flow>, State(ledger): Book, Data(i): Data<u64>| {
            flow.check(&ledger, i);
            for _ in 0..i % 3 {
                tokio::task::yield_now().await;
            }
            flow.done(i);
            i
        })
        .on("flow", async |socket: Socket, Extension(flow): Extension<Flow>, Data(per_second): Data<u64>| {
            tokio::spawn(send_down(socket, flow, per_second));
        })
        .on("stop", async |Extension(flow): Extension<Flow>| {
            let sent = {
                let mut down = flow.down.lock().unwrap_or_else(PoisonError::into_inner);
                down.stopped = true;
                down.sent
            };
            (sent, Ledger::read(&flow.next), Ledger::read(&flow.faults))
        })
        .on("burst", async |socket: Socket, Data(n): Data<u64>| {
            for i in 0..n {
                socket.emit("number", i);
            }
        })
        .on("first", async |State(ledger): Book, Data(i): Data<u64>| {
            ledger.first.fetch_add(1, Ordering::SeqCst);
            i
        })
        .on("echo", async |socket: Socket, Data(value): Data<Value>| {
            socket.emit("echo", value);
        })
        .on("to", async |io: SocketIo, Data((id, value)): Data<(String, Value)>| {
            io.to(id).emit("told", value);
        })
}

/// Emits `down` at a steady rate until it is stopped or the socket has left.
async fn send_down(socket: Socket, flow: Arc<Flow>, per_second: u64) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.clamp(1, 1_000) as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let mut down = flow.down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.stopped || !socket.connected() {
            return;
        }
        // One that is counted and then refused would show as lost, and rightly.
        socket.emit("down", down.sent);
        down.sent += 1;
    }
}

/// What is left in a server, as one line of JSON.
pub fn stats(io: &SocketIo, ledger: &Ledger) -> String {
    let members = |name: &str| io.namespace(name).map_or(0, |namespace| namespace.len());
    let rooms = |name: &str| io.namespace(name).map_or(0, |namespace| namespace.rooms().len());
    json!({
        "sessions": io.engine().sessions(),
        "sockets": io.stats().sockets_open,
        "members": members("/") + members("/chat"),
        "rooms": rooms("/") + rooms("/chat"),
        "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "connected": Ledger::read(&ledger.connected),
        "disconnected": Ledger::read(&ledger.disconnected),
        "got": Ledger::read(&ledger.got),
        "faults": Ledger::read(&ledger.faults),
        "resident_kib": resident_kib(),
    })
    .to_string()
}

/// How much memory this process holds, where the system tells it (Linux); else 0.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
