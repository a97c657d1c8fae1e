//! Our client against real servers: every server over every transport, every feature a test.
//!
//! A cell is one server over one transport. The program `interop_client` of the testkit runs it: it starts the server
//! itself, because it also kills and restarts one, and prints TAP.

use crate::Result;
use crate::interop::{Column, Test, executable, grid, read_tap, side_by_side, tell};
use crate::process::Job;
use crate::report::Count;

/// Name in the filter and the table, which server it is, and what else the program is told.
const SERVERS: &[(&str, Server, &[&str])] = &[
    ("2.5", Server::Sio2, &["--eio3"]),
    ("3.1", Server::Sio3, &[]),
    ("4.8", Server::Sio4, &[]),
    ("py5", Server::Python, &[]),
    ("oxide", Server::Socketioxide, &[]),
    ("ours", Server::Ours, &[]),
];
const WAYS: &[&str] = &["polling", "websocket", "upgrade", "first"];

/// The same with another parser or revision, over one transport each.
const OTHERS: &[(&str, Server, &str, &[&str])] = &[
    ("4.8-msgpack", Server::Sio4, "upgrade", &["--parser", "msgpack"]),
    ("py5-msgpack", Server::Python, "websocket", &["--parser", "msgpack"]),
    ("oxide-msgpack", Server::Socketioxide, "polling", &["--parser", "msgpack"]),
    ("ours-msgpack", Server::Ours, "upgrade", &["--parser", "msgpack"]),
    ("4.8-eio3", Server::Sio4, "upgrade", &["--eio3"]),
    ("ours-eio3", Server::Ours, "polling", &["--eio3"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Sio2,
    Sio3,
    Sio4,
    Python,
    Socketioxide,
    Ours,
}

struct Cell {
    label: &'static str,
    server: Server,
    way: &'static str,
    options: &'static [&'static str],
}

impl Cell {
    fn name(&self) -> String {
        format!("client-of-{}/{}", self.label, self.way)
    }
}

/// The programs of the cells: what is asked for is built or installed once.
struct Programs {
    client: String,
    ours: Option<String>,
    socketioxide: Option<String>,
    python: Option<String>,
}

/// Whether any cell has this in its name.
pub(crate) fn has(filter: &str) -> bool {
    CHAOS.contains(filter) || cells().iter().any(|cell| cell.name().contains(filter))
}

/// What the reference server can spoil (`--break`), and the feature that has to notice.
const SPOILED: &[(&str, &str)] = &[
    ("emit", "emit"),
    ("order", "order"),
    ("ack-client", "ack-client"),
    ("ack-server", "ack-server"),
    ("mixed-binary", "binary"),
    ("several-buffers", "several-buffers"),
    ("namespace", "ten-namespaces"),
    ("auth-accepted", "auth"),
    ("auth-refused", "auth"),
    ("reconnect", "kicked"),
    ("disconnect", "disconnect"),
    ("big-payload", "big-payload"),
    ("transport", "transport"),
];

/// Spoils features of the reference server and wants the tests to fail.
pub(crate) fn self_check(jobs: usize) -> Result<Count> {
    let cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.name() == "client-of-4.8/websocket").collect();
    let programs = Programs::get(&cells)?;
    let run = |(spoil, feature): &(&str, &str)| {
        let job =
            Job::new(&programs.client).args(["--peer", "sio4", "--transport", "websocket", "--only", feature, "--"]);
        let job = job.args(programs.server(Server::Sio4)?).args(["--break", spoil]);
        Ok(read_tap(&job.seconds(120).quiet().run()?))
    };
    let results = side_by_side(SPOILED, jobs, |(spoil, _)| format!("client, {spoil} spoiled"), run);
    let mut count = Count::default();
    for ((spoil, feature), tests) in SPOILED.iter().zip(results) {
        let noticed = tests.iter().any(|test| test.name == *feature && !test.passed);
        if !noticed {
            println!("FAIL client: nobody noticed that {spoil} is broken");
        }
        count += Count { passed: usize::from(noticed), failed: usize::from(!noticed), skipped: 0 };
    }
    Ok(count)
}

/// Runs the cells whose name contains the filter, prints the table, and counts the tests.
pub(crate) fn run(filter: &str, jobs: usize) -> Result<Count> {
    let cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.name().contains(filter)).collect();
    let results = if cells.is_empty() {
        Vec::new()
    } else {
        let programs = Programs::get(&cells)?;
        // They mostly wait.
        side_by_side(&cells, jobs + 1, Cell::name, |cell| run_cell(&programs, cell))
    };
    let (full, others): (Vec<_>, Vec<_>) =
        cells.iter().zip(&results).partition(|(cell, _)| SERVERS.iter().any(|(label, ..)| *label == cell.label));
    for part in [full, others] {
        let columns: Vec<_> =
            part.iter().map(|(cell, tests)| Column { group: cell.label, name: cell.way, tests }).collect();
        if !columns.is_empty() {
            print!("{}", grid(&columns));
        }
    }
    let mut count = tell(cells.iter().map(Cell::name).zip(results.iter().map(Vec::as_slice)));
    if CHAOS.contains(filter) {
        count += chaos(60)?;
    }
    Ok(count)
}

/// The name of the run through a bad network, beside those of the cells.
const CHAOS: &str = "client-of-4.8/chaos";

/// 200 clients of the npm server through a network that cuts, delays, stalls and half-closes their connections.
pub(crate) fn chaos(seconds: u64) -> Result<Count> {
    crate::install::npm("interop/node")?;
    let build = ["build", "--locked", "-p", "socketio-testkit", "--example", "client_chaos"];
    let program = executable(&build, "client_chaos")?;
    let time = seconds.to_string();
    let job = Job::new(&program).args(["--seconds", &time, "--", "node", "interop/node/chaos.mjs"]);
    // Each of its three waves may take some minutes to heal.
    let outcome = job.seconds(seconds + 900).quiet().run()?;
    for line in outcome.lines.iter().filter(|line| line.starts_with('#')) {
        println!("{line}");
    }
    let tests = read_tap(&outcome);
    for test in &tests {
        println!("  {:<4} {}", if test.passed { "ok" } else { "FAIL" }, test.name);
    }
    Ok(tell([(CHAOS.to_owned(), &*tests)].into_iter()))
}

fn cells() -> Vec<Cell> {
    let all = SERVERS
        .iter()
        .flat_map(|(label, server, options)| WAYS.iter().map(|way| Cell { label, server: *server, way, options }));
    let others = OTHERS.iter().map(|(label, server, way, options)| Cell { label, server: *server, way, options });
    all.chain(others).collect()
}

impl Programs {
    fn get(cells: &[Cell]) -> Result<Self> {
        let wants = |server| cells.iter().any(|cell| cell.server == server);
        if wants(Server::Sio2) || wants(Server::Sio3) {
            crate::install::npm("interop/servers")?;
        }
        if wants(Server::Sio4) {
            crate::install::npm("interop/node")?;
        }
        let python = wants(Server::Python).then(|| crate::install::venv("py5", "interop/python/py5.txt"));
        let ours = wants(Server::Ours).then(crate::interop::build);
        let manifest = "interop/servers/socketioxide/Cargo.toml";
        let build = ["build", "--locked", "--manifest-path", manifest];
        let socketioxide = wants(Server::Socketioxide).then(|| executable(&build, "interop-socketioxide"));
        let build = ["build", "--locked", "-p", "socketio-testkit", "--example", "interop_client"];
        Ok(Self {
            client: executable(&build, "interop_client")?,
            ours: ours.transpose()?,
            socketioxide: socketioxide.transpose()?,
            python: python.transpose()?,
        })
    }

    /// The command of a server.
    fn server(&self, server: Server) -> Result<Vec<&str>> {
        Ok(match server {
            Server::Sio2 => vec!["node", "interop/servers/old.mjs", "--library", "sio2"],
            Server::Sio3 => vec!["node", "interop/servers/old.mjs", "--library", "sio3"],
            Server::Sio4 => vec!["node", "interop/node/server.mjs"],
            Server::Python => vec![self.python.as_deref().ok_or("no Python")?, "interop/servers/python.py"],
            Server::Socketioxide => vec![self.socketioxide.as_deref().ok_or("not built")?],
            Server::Ours => vec![self.ours.as_deref().ok_or("not built")?],
        })
    }
}

fn run_cell(programs: &Programs, cell: &Cell) -> Result<Vec<Test>> {
    let peer = match cell.server {
        Server::Sio2 => "sio2",
        Server::Sio3 => "sio3",
        Server::Sio4 => "sio4",
        Server::Python => "python",
        Server::Socketioxide => "socketioxide",
        Server::Ours => "ours",
    };
    let job = Job::new(&programs.client).args(["--peer", peer, "--transport", cell.way]);
    let job = job.args(cell.options.iter().copied()).args(["--"]).args(programs.server(cell.server)?);
    Ok(read_tap(&job.seconds(240).quiet().run()?))
}
