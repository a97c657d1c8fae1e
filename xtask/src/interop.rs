//! Real clients against our server: every client library over every transport, every feature a test.
//!
//! A *cell* is one client over one transport. It gets a server of its own (EVENTS.md says what that answers) and a
//! process of its own that prints TAP; the table puts the cells side by side.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::Result;
use crate::process::{Job, Outcome, Server};
use crate::report::{Count, Report};

/// Name in the filter and the table, the program's kind, arguments of the server.
const CLIENTS: &[(&str, Kind, &[&str])] = &[
    ("sio2", Kind::Node, &[]),
    ("sio3", Kind::Node, &[]),
    ("sio4", Kind::Node, &[]),
    ("msgpack", Kind::Node, &["--parser", "msgpack"]),
    ("py4", Kind::Python, &[]),
    ("py5", Kind::Python, &[]),
];
/// The same client against servers that let it recover its connection, for ten seconds: `too-late` knows that.
const RECOVERY: &[(&str, &[&str])] =
    &[("recovery", &["--recovery", "10000"]), ("recovery-msgpack", &["--recovery", "10000", "--parser", "msgpack"])];
const TRANSPORTS: &[&str] = &["polling", "websocket", "upgrade"];

/// The upgrade over TLS, with our server only: the reference has no TLS of its own.
const TLS: &str = "tls";

/// `beyond-limit` and `big-payload` of the suites know this number.
const MAX_PAYLOAD: &str = "100000";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Python,
    /// Connection state recovery with the official client, a suite of its own.
    Recovery,
    /// The byte-level fixtures of devices whose libraries cannot be installed here.
    Raw,
    /// Tokens and what hangs on them, with the official client and a server of its own.
    Auth,
}

#[derive(Clone)]
struct Cell {
    client: &'static str,
    transport: &'static str,
    kind: Kind,
    server: Vec<String>,
    /// Only this feature, if there is one.
    feature: Option<&'static str>,
}

impl Cell {
    fn name(&self) -> String {
        format!("{}/{}", self.client, self.transport)
    }
}

/// One test of one cell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) passed: bool,
    /// What it printed, if it failed.
    pub(crate) why: Vec<String>,
}

/// Which server the suites talk to.
pub(crate) enum Peer {
    /// The example of our server crate, already built.
    Ours(String),
    /// The reference: the npm package.
    Node,
}

impl Peer {
    /// Builds our server, or installs the reference.
    pub(crate) fn get(name: Option<&str>) -> Result<Peer> {
        match name {
            None | Some("rust") => Ok(Peer::Ours(build()?)),
            Some("node") => {
                crate::install::npm("interop/node")?;
                Ok(Peer::Node)
            }
            Some(other) => Err(format!("there is no server `{other}`: rust or node").into()),
        }
    }

    /// Program and first arguments.
    pub(crate) fn command(&self) -> (&str, Vec<String>) {
        match self {
            Peer::Ours(program) => (program, Vec::new()),
            Peer::Node => ("node", vec!["interop/node/server.mjs".to_owned()]),
        }
    }
}

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let server = crate::take_option(&mut args, "--server")?;
    let self_check = crate::take_flag(&mut args, "--self-check");
    let jobs = crate::take_option(&mut args, "--jobs")?.map_or(Ok(2), |jobs| jobs.parse())?;
    let filter = if args.is_empty() { String::new() } else { args.remove(0) };
    crate::nothing_left(&args)?;
    let begin = Instant::now();
    let (suite, count) = if filter == "cluster" {
        ("interop: clusters", crate::cluster::run()?)
    } else if self_check {
        let mut count = self_check_run(jobs)?;
        count += crate::interop_client::self_check(jobs)?;
        ("interop: self-check", count)
    } else if server.is_none() && crate::interop_client::has(&filter) {
        // Most filters mean one of the two.
        let mut count = crate::interop_client::run(&filter, jobs)?;
        if cells().iter().any(|cell| cell.name().contains(&filter)) {
            count += run(&Peer::get(None)?, &filter, jobs)?;
        }
        ("interop", count)
    } else {
        ("interop", run(&Peer::get(server.as_deref())?, &filter, jobs)?)
    };
    let mut report = Report::default();
    report.add(suite, count, begin.elapsed());
    report.print(begin.elapsed());
    Ok(count.failed == 0)
}

/// Runs the cells whose name contains the filter, prints the table, and counts the tests.
pub(crate) fn run(peer: &Peer, filter: &str, jobs: usize) -> Result<Count> {
    let ours = matches!(peer, Peer::Ours(_));
    let only_ours = |cell: &Cell| cell.transport == TLS || cell.kind == Kind::Auth;
    let wanted = |cell: &Cell| cell.name().contains(filter) && (ours || !only_ours(cell));
    let cells: Vec<Cell> = cells().into_iter().filter(wanted).collect();
    if cells.is_empty() {
        return Err(format!("no client and transport match `{filter}`").into());
    }
    let results = run_cells(peer, &cells, jobs)?;

    let columns: Vec<(&Cell, &[Test])> = cells.iter().zip(results.iter().map(Vec::as_slice)).collect();
    print!("{}", table(&columns));
    Ok(tell(columns.iter().map(|(cell, tests)| (cell.name(), *tests))))
}

/// Prints what failed, and why, and counts the tests.
pub(crate) fn tell<'a>(cells: impl Iterator<Item = (String, &'a [Test])>) -> Count {
    let mut count = Count::default();
    for (cell, tests) in cells {
        for test in tests {
            count += Count { passed: usize::from(test.passed), failed: usize::from(!test.passed), skipped: 0 };
            if !test.passed {
                println!("\nFAIL {cell} {}", test.name);
                test.why.iter().for_each(|line| println!("    {line}"));
            }
        }
    }
    count
}

/// Runs cells, some at a time, and returns their tests in the order of the cells.
fn run_cells(peer: &Peer, cells: &[Cell], jobs: usize) -> Result<Vec<Vec<Test>>> {
    crate::install::npm("interop/node")?;
    let mut programs = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.kind == Kind::Python) {
        if !programs.contains_key(cell.client) {
            let requirements = format!("interop/python/{}.txt", cell.client);
            programs.insert(cell.client, crate::install::venv(cell.client, &requirements)?);
        }
    }

    if cells.iter().any(|cell| cell.kind == Kind::Auth) {
        let server = ["build", "-p", "socketio-auth", "--example", "secure_chat"];
        programs.insert("auth", executable(&server, "secure_chat")?);
    }
    let run = |cell: &Cell| run_cell(peer, cell, programs.get(cell.client).map(String::as_str));
    Ok(side_by_side(cells, jobs, Cell::name, run))
}

/// Runs cells, some at a time. One that cannot run has failed.
pub(crate) fn side_by_side<C: Sync>(
    cells: &[C],
    jobs: usize,
    name: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Result<Vec<Test>> + Sync,
) -> Vec<Vec<Test>> {
    let results: Mutex<BTreeMap<usize, Vec<Test>>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(at) else { break };
                    let begin = Instant::now();
                    let tests = run(cell).unwrap_or_else(|error| vec![broken(vec![error.to_string()])]);
                    let failed = tests.iter().filter(|test| !test.passed).count();
                    let passed = tests.len() - failed;
                    println!("{:<18} {passed} passed, {failed} failed in {:.1?}", name(cell), begin.elapsed());
                    results.lock().unwrap_or_else(|poison| poison.into_inner()).insert(at, tests);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(|poison| poison.into_inner());
    results.into_values().collect()
}

/// What the reference server can spoil (`--break`), each the name of the test that has to notice.
const FEATURES: &[&str] = &[
    "emit",
    "order",
    "ack-client",
    "ack-server",
    "mixed-binary",
    "several-buffers",
    "namespace",
    "auth-accepted",
    "auth-refused",
    "rooms",
    "volatile",
    "reconnect",
    "disconnect",
    "big-payload",
    "beyond-limit",
    "transport",
];

/// Spoils every feature of the reference server once and wants its test to fail, in both languages.
fn self_check_run(jobs: usize) -> Result<Count> {
    let peer = Peer::get(Some("node"))?;
    let mut spoiled = Vec::new();
    for cell in cells().into_iter().filter(|cell| matches!(cell.name().as_str(), "sio4/upgrade" | "py5/websocket")) {
        for feature in FEATURES {
            let server = vec!["--break".to_owned(), (*feature).to_owned()];
            spoiled.push(Cell { server, feature: Some(feature), ..cell.clone() });
        }
    }
    let mut count = Count::default();
    for (cell, tests) in spoiled.iter().zip(run_cells(&peer, &spoiled, jobs)?) {
        let feature = cell.feature.unwrap_or_default();
        let noticed = tests.iter().any(|test| test.name == feature && !test.passed);
        if !noticed {
            println!("FAIL {}: nobody noticed that {feature} is broken", cell.name());
        }
        count += Count { passed: usize::from(noticed), failed: usize::from(!noticed), skipped: 0 };
    }
    Ok(count)
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (client, kind, server) in CLIENTS {
        for transport in TRANSPORTS {
            let server = server.iter().map(|arg| (*arg).to_owned()).collect();
            cells.push(Cell { client, transport, kind: *kind, server, feature: None });
        }
    }
    for (client, arguments) in RECOVERY {
        for transport in TRANSPORTS {
            let server = arguments.iter().map(|arg| (*arg).to_owned()).collect();
            cells.push(Cell { client, transport, kind: Kind::Recovery, server, feature: None });
        }
    }
    for transport in TRANSPORTS {
        cells.push(Cell { client: "auth", transport, kind: Kind::Auth, server: Vec::new(), feature: None });
    }
    let tls = vec!["--tls".to_owned(), certificate()];
    cells.push(Cell { client: "sio4", transport: TLS, kind: Kind::Node, server: tls, feature: None });
    cells.push(Cell { client: "raw", transport: "fixtures", kind: Kind::Raw, server: Vec::new(), feature: None });
    cells
}

/// The file into which our server writes the certificate of its own making.
fn certificate() -> String {
    std::env::temp_dir().join(format!("interop-{}.pem", std::process::id())).display().to_string()
}

fn run_cell(peer: &Peer, cell: &Cell, python: Option<&str>) -> Result<Vec<Test>> {
    let (program, mut args) = peer.command();
    args.extend(cell.server.iter().cloned());
    args.extend(["--max-payload".to_owned(), MAX_PAYLOAD.to_owned()]);
    let mut server = Server::start(program, &args)?;
    let (scheme, transport) = if cell.transport == TLS { ("https", "upgrade") } else { ("http", cell.transport) };
    let url = format!("{scheme}://127.0.0.1:{}", server.port);
    let job = match cell.kind {
        Kind::Node => {
            let only = cell.feature.map(|feature| format!("--test-name-pattern=^{feature}$"));
            let args = ["--test-force-exit", "--test-reporter=tap"].into_iter().chain(only.as_deref());
            Job::new("node").args(args.chain(["interop/node/suite.mjs"]))
        }
        Kind::Recovery => {
            Job::new("node").args(["--test-force-exit", "--test-reporter=tap", "interop/node/recovery.mjs"])
        }
        Kind::Raw => Job::new("node").args(["--test-force-exit", "--test-reporter=tap", "interop/node/raw.mjs"]),
        Kind::Auth => Job::new("node")
            .args(["--test-force-exit", "--test-reporter=tap", "interop/node/auth.mjs"])
            .env("PROGRAM", python.ok_or("no server")?),
        Kind::Python => Job::new(python.ok_or("no Python")?)
            .args(["interop/python/suite.py", &url, cell.transport].into_iter().chain(cell.feature)),
    };
    let peer_is = match peer {
        Peer::Ours(_) => "ours",
        Peer::Node => "node",
    };
    let job = job.env("CLIENT", cell.client).env("TRANSPORT", transport).env("URL", &url).env("PEER", peer_is);
    // Node knows no other certificate authority: a client that does not check would pass everywhere.
    let job = if cell.transport == TLS { job.env("NODE_EXTRA_CA_CERTS", &certificate()) } else { job };
    // The environment of an outer test runner would change what the inner one prints.
    let outcome = job.env("NODE_TEST_CONTEXT", "").seconds(240).quiet().run()?;
    let mut tests = read_tap(&outcome);
    if !server.alive() {
        let mut why = vec!["the server is gone; it said:".to_owned()];
        why.extend(server.said());
        tests.push(broken(why));
    }
    Ok(tests)
}

/// The tests of a run; one that did not come to its end has failed as a whole.
pub(crate) fn read_tap(outcome: &Outcome) -> Vec<Test> {
    let mut tests = parse_tap(&outcome.lines);
    let complete = outcome.lines.iter().any(|line| line.starts_with("1.."));
    if tests.is_empty() || !complete || outcome.timed_out {
        let from = outcome.lines.len().saturating_sub(40);
        tests.push(broken(outcome.lines[from..].to_vec()));
    }
    tests
}

pub(crate) fn broken(why: Vec<String>) -> Test {
    Test { name: "(the whole run)".to_owned(), passed: false, why }
}

/// Top-level lines of TAP; what stands indented or as a comment below a failure is its explanation.
pub(crate) fn parse_tap(lines: &[String]) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for line in lines {
        let (passed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => {
                if let Some(test) = tests.last_mut().filter(|test| !test.passed)
                    && !line.starts_with("# Subtest")
                    && test.why.len() < 40
                {
                    test.why.push(line.trim_end().to_owned());
                }
                continue;
            }
        };
        if rest.contains(" # SKIP") {
            continue;
        }
        let name = rest.split_once(" - ").map_or(rest, |(_, name)| name);
        tests.push(Test { name: name.trim().to_owned(), passed, why: Vec::new() });
    }
    tests
}

/// One column of a table: a group that has several, its own name, and its tests.
pub(crate) struct Column<'a> {
    pub(crate) group: &'a str,
    pub(crate) name: &'a str,
    pub(crate) tests: &'a [Test],
}

/// Features down, columns across.
pub(crate) fn grid(columns: &[Column<'_>]) -> String {
    let mut features: Vec<&str> = Vec::new();
    for test in columns.iter().flat_map(|column| column.tests) {
        if !features.contains(&test.name.as_str()) {
            features.push(&test.name);
        }
    }
    // A group of one column makes that as wide as its own name.
    let width = |column: &Column<'_>| {
        let alone = columns.iter().filter(|other| other.group == column.group).count() == 1;
        if alone { 5.max(column.group.len() + 1) } else { 5 }
    };
    let mut text = String::new();
    let mut line = format!("\n{:<18}", "");
    let mut last = "";
    for column in columns {
        let group = if column.group == last { "" } else { column.group };
        line.push_str(&format!("{group:<0$}", width(column)));
        last = column.group;
    }
    text.push_str(line.trim_end());
    line = format!("\n{:<18}", "feature");
    for column in columns {
        line.push_str(&format!("{:<1$}", column.name.get(..4).unwrap_or(column.name), width(column)));
    }
    text.push_str(line.trim_end());
    for feature in features {
        line = format!("\n{feature:<18}");
        for column in columns {
            let cell = match column.tests.iter().find(|test| test.name == feature) {
                None => "-",
                Some(test) if test.passed => "ok",
                Some(_) => "FAIL",
            };
            line.push_str(&format!("{cell:<0$}", width(column)));
        }
        text.push_str(line.trim_end());
    }
    text.push('\n');
    text
}

/// Features down, clients across, three transports each. Cells with rows of their own are listed below it.
fn table(columns: &[(&Cell, &[Test])]) -> String {
    let mut text = String::new();
    let (matrix, lists): (Vec<_>, Vec<_>) =
        columns.iter().partition(|(cell, _)| matches!(cell.kind, Kind::Node | Kind::Python));
    if !matrix.is_empty() {
        let columns: Vec<_> =
            matrix.iter().map(|(cell, tests)| Column { group: cell.client, name: cell.transport, tests }).collect();
        text.push_str(&grid(&columns));
    }
    for (cell, tests) in lists {
        text.push_str(&format!("\n{}\n", cell.name()));
        for test in tests.iter() {
            text.push_str(&format!("  {:<4} {}\n", if test.passed { "ok" } else { "FAIL" }, test.name));
        }
    }
    text
}

/// Builds the interop server of our crates and returns the path of the program.
pub(crate) fn build() -> Result<String> {
    if !crate::root().join("crates/socketio/examples/interop_server.rs").exists() {
        return Err("crates/socketio/examples/interop_server.rs is missing".into());
    }
    executable(&["build", "-p", "socketio", "--features", "tls", "--example", "interop_server"], "interop_server")
}

/// Runs `cargo build …` and returns the program of that name that it made.
pub(crate) fn executable(args: &[&str], name: &str) -> Result<String> {
    println!("\n$ cargo {}", args.join(" "));
    let json = ["--message-format", "json-render-diagnostics"];
    let outcome = Job::cargo(args.iter().copied().chain(json)).deadline(20).quiet().run()?;
    let mut found = None;
    for line in &outcome.lines {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(message) if message["target"]["name"] == name => {
                found = message["executable"].as_str().map(str::to_owned).or(found);
            }
            Ok(message) if message.is_object() => {}
            _ => println!("{line}"),
        }
    }
    match found {
        Some(program) if outcome.success => Ok(program),
        _ => Err(format!("`cargo {}` failed", args.join(" ")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn tap_of_both_languages_is_read() {
        let tests = parse_tap(&lines(
            "TAP version 13\n# Subtest: emit\nok 1 - emit\n  ---\n  duration_ms: 3\n  ...\n# Subtest: order\nnot ok 2 - order\n  ---\n  error: 'x'\n  ...\n1..2",
        ));
        assert_eq!(tests.len(), 2);
        assert_eq!((tests[0].name.as_str(), tests[0].passed, tests[0].why.len()), ("emit", true, 0));
        assert_eq!((tests[1].name.as_str(), tests[1].passed), ("order", false));
        assert!(tests[1].why.iter().any(|line| line.contains("error: 'x'")));
        assert_eq!(parse_tap(&lines("ok 1 - emit # SKIP not asked for\n1..1")), []);
        let tests = parse_tap(&lines("ok 1 - emit\nnot ok 2 - rooms\n# AssertionError: b\n1..2"));
        assert_eq!(tests[1].why.first().map(String::as_str), Some("# AssertionError: b"));
    }

    #[test]
    fn the_table_names_every_cell() {
        let cell = |transport| Cell { client: "sio4", transport, kind: Kind::Node, server: Vec::new(), feature: None };
        let (polling, websocket) = (cell("polling"), cell("websocket"));
        let ok = |name: &str| Test { name: name.into(), passed: true, why: vec![] };
        let fail = |name: &str| Test { name: name.into(), passed: false, why: vec![] };
        let text = table(&[(&polling, &[ok("emit"), fail("order")][..]), (&websocket, &[ok("emit")][..])]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["sio4"]);
        assert_eq!(rows[2], ["feature", "poll", "webs"]);
        assert_eq!(rows[3], ["emit", "ok", "ok"]);
        assert_eq!(rows[4], ["order", "FAIL", "-"]);
    }
}
