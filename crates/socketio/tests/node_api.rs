//! Everything that a Node server offers is in `docs/node-api.md`, with what it is called here and a test that exists.
//!
//! The names below were written down from Node's documentation and sources (Socket.IO 4.8), independently of that page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Sections of the page, and the names that each must have.
const CHECKLIST: &[(&str, &str)] = &[
    (
        "Options of the engine",
        "path addTrailingSlash pingInterval pingTimeout upgradeTimeout maxHttpBufferSize allowRequest transports \
         allowUpgrades perMessageDeflate httpCompression cors cookie initialPacket allowEIO3 maxBackpressure",
    ),
    (
        "Options of the server",
        "adapter parser connectTimeout connectionStateRecovery maxDisconnectionDuration skipMiddlewares \
         cleanupEmptyChildNamespaces",
    ),
    (
        "Server",
        "new|Server listen attach of(name) of(regex) of(function) sockets engine use emit send write to in except compress \
         volatile local timeout fetchSockets socketsJoin socketsLeave disconnectSockets allSockets serverSideEmit \
         serverSideEmitWithAck close connection connect new_namespace",
    ),
    ("Namespace and ParentNamespace", "name sockets adapter server use emit fetchSockets connection"),
    (
        "BroadcastOperator and RemoteSocket",
        "to in except compress volatile local timeout emit emitWithAck fetchSockets socketsJoin socketsLeave \
         disconnectSockets id handshake rooms data join leave disconnect",
    ),
    (
        "Socket",
        "id handshake request data rooms connected disconnected recovered nsp client conn emit emitWithAck timeout send \
         write volatile broadcast local to in except compress join leave disconnect use onAny prependAny offAny \
         listenersAny onAnyOutgoing prependAnyOutgoing offAnyOutgoing listenersAnyOutgoing on once off eventNames \
         removeAllListeners disconnecting error",
    ),
    (
        "Reasons",
        "transport|error transport|close forced|close ping|timeout parse|error server|shutting|down forced|server|close \
         client|namespace|disconnect server|namespace|disconnect",
    ),
    (
        "Adapter",
        "create-room join-room leave-room delete-room rooms sids socketRooms serverCount serverSideEmit persistSession \
         restoreSession",
    ),
    (
        "Engine",
        "connection connection_error initial_headers headers clientsCount handleRequest handleUpgrade attach use drain close",
    ),
    (
        "Not there",
        "serveClient attachApp bind onconnection wsEngine destroyUpgrade destroyUpgradeTimeout listenerCount \
         EventEmitter webtransport onWebTransportSession generateId packet packetCreate heartbeat flush upgrading upgrade",
    ),
];

#[test]
fn every_row_of_nodes_api_has_a_test_that_exists() {
    let page = fs::read_to_string(root().join("docs/node-api.md")).expect("the page is there");
    let sections = sections(&page);
    let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, CHECKLIST.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "the sections of docs/node-api.md");
    let sources = sources();

    let mut report = String::from("\nNode's API, row by row (docs/node-api.md)\n");
    let (mut all_rows, mut all_tests) = (0, BTreeSet::new());
    for ((section, rows), (_, checklist)) in sections.iter().zip(CHECKLIST) {
        let listed: BTreeSet<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
        let wanted: BTreeSet<String> = checklist.split_whitespace().map(|name| name.replace('|', " ")).collect();
        assert_eq!(listed, wanted, "the names under {section} in docs/node-api.md and those of Node");
        if section == "Not there" {
            for row in rows {
                assert!(row[1].len() > 10, "{}: nobody says why it is not there", row[0]);
            }
            let _ = writeln!(report, "  {:<36} {:>3} rows, with the reason", section, rows.len());
            continue;
        }
        let mut tests = BTreeSet::new();
        for row in rows {
            let proofs = code(&row[2]);
            assert!(!proofs.is_empty(), "{section}: nothing proves {}", row[0]);
            for proof in proofs {
                let path = row[2].split(&format!("`{proof}`](../")).nth(1).and_then(|rest| rest.split(')').next());
                let path = path.unwrap_or_else(|| panic!("{section}: `{proof}` is no link to its file"));
                let source = sources.get(Path::new(path)).unwrap_or_else(|| panic!("there is no {path}"));
                assert!(is_test(source, &proof), "{section}, {}: {path} has no test `{proof}`", row[0]);
                tests.insert(proof);
            }
            let _ = writeln!(report, "    {:<100} {}", row[0].replace('`', ""), code(&row[2]).join(", "));
        }
        let _ = writeln!(report, "  {:<36} {:>3} rows, {} tests", section, rows.len(), tests.len());
        all_rows += rows.len();
        all_tests.extend(tests);
    }
    let _ =
        writeln!(report, "  {all_rows} rows of Node's API are proved by {} tests, none is without", all_tests.len());
    assert!(all_rows > 80 && all_tests.len() > 50, "{report}");
    // Past the harness, which keeps what a passing test prints.
    let _ = std::io::stdout().write_all(report.as_bytes());
}

/// Whether a function of this name stands right below a test attribute.
fn is_test(source: &str, name: &str) -> bool {
    let Some(at) = source.find(&format!("fn {name}(")) else { return false };
    let before = source[..at].rsplit("\n\n").next().unwrap_or_default();
    before.contains("#[test]") || before.contains("#[tokio::test")
}

/// The tables of the page by heading, without their heads.
fn sections(page: &str) -> Vec<(String, Vec<Vec<String>>)> {
    let parts = page.split("\n## ").skip(1);
    parts
        .map(|part| {
            let (heading, rest) = part.split_once('\n').unwrap_or((part, ""));
            let lines = rest.lines().filter_map(|line| line.strip_prefix('|'));
            let rows = lines.skip(2).map(cells).collect();
            (heading.to_owned(), rows)
        })
        .collect()
}

/// The cells of a row; `\|` separates none.
fn cells(line: &str) -> Vec<String> {
    line.replace("\\|", "\u{1}").split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All Rust files of the crates, by their path in the repository.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut open = vec![root().join("crates")];
    let mut found = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
