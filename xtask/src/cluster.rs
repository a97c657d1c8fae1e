//! Mixed clusters: Node servers with their official adapters, and python-socketio's, beside ours, on brokers that the suite
//! starts; and ours behind real load balancers.
//!
//! A test is one operation in one direction through one adapter, `classic broadcast node>rust`; the table puts them side
//! by side. A cell without a test counts as failed: nothing is left out. Below it stand emitters of both makes, and clients that
//! come back to another server.

use crate::Result;
use crate::interop::{Test, broken, executable, parse_tap};
use crate::process::Job;
use crate::report::Count;

/// From which kind of server to which, by who takes part.
const DIRECTIONS: [[&str; 4]; 2] = [
    ["node>node", "node>rust", "rust>node", "rust>rust"],
    ["python>python", "python>rust", "rust>python", "rust>rust"],
];

/// Runs the suite of each kind of broker and prints the table.
pub(crate) fn run() -> Result<Count> {
    crate::install::npm("interop/cluster")?;
    crate::install::debian("redis-server", "redis-server")?;
    crate::install::debian_file("/usr/lib/postgresql", "postgresql")?;
    crate::install::debian_file("/usr/sbin/nginx", "nginx-light")?;
    crate::install::debian_file("/usr/sbin/haproxy", "haproxy")?;
    let postgres = executable(&["build", "-p", "socketio-postgres", "--example", "postgres_node"], "postgres_node")?;
    let node = executable(&["build", "-p", "socketio-redis", "--example", "cluster_node"], "cluster_node")?;
    let client = executable(&["build", "-p", "socketio-testkit", "--example", "cluster_client"], "cluster_client")?;
    let python = crate::install::venv("py5", "interop/python/py5.txt")?;
    let mut tests = Vec::new();
    let mut holes = 0;
    for (suite, directions) in [
        ("suite.mjs", Some(DIRECTIONS[0])),
        ("python.mjs", Some(DIRECTIONS[1])),
        ("streams.mjs", None),
        ("balancers.mjs", None),
    ] {
        let args = ["--test-force-exit", "--test-reporter=tap", suite];
        let job = Job::new("node").args(args).dir(&crate::root().join("interop/cluster")).env("CLUSTER_NODE", &node);
        let job = job
            .env("CLUSTER_CLIENT", &client)
            .env("POSTGRES_NODE", &postgres)
            .env("PYTHON", &python)
            .env("NODE_TEST_CONTEXT", "");
        let outcome = job.seconds(600).quiet().run()?;
        let mut found = parse_tap(&outcome.lines);
        if found.is_empty() || outcome.timed_out || !outcome.lines.iter().any(|line| line.starts_with("1..")) {
            let from = outcome.lines.len().saturating_sub(40);
            found.push(broken(outcome.lines[from..].to_vec()));
        }
        match directions {
            Some(directions) => {
                let (text, empty) = table(&found, directions);
                print!("{text}");
                for test in found.iter().filter(|test| !test.name.split(' ').any(|word| directions.contains(&word))) {
                    println!("{:<6}{}", if test.passed { "ok" } else { "FAIL" }, test.name);
                }
                holes += empty;
            }
            None => {
                for test in &found {
                    println!("{} {}", if test.passed { "ok  " } else { "FAIL" }, test.name);
                }
            }
        }
        tests.append(&mut found);
    }
    for test in tests.iter().filter(|test| !test.passed) {
        println!("\nFAIL {}", test.name);
        for line in &test.why {
            println!("    {line}");
        }
    }
    let passed = tests.iter().filter(|test| test.passed).count();
    Ok(Count { passed, failed: tests.len() - passed + holes, skipped: 0 })
}

/// Operations down, adapters and directions across, and how many cells are empty.
fn table(tests: &[Test], directions: [&str; 4]) -> (String, usize) {
    let (mut adapters, mut operations): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for test in tests {
        if let [adapter, operation, direction] = test.name.split(' ').collect::<Vec<_>>()[..]
            && directions.contains(&direction)
        {
            if !adapters.contains(&adapter) {
                adapters.push(adapter);
            }
            if !operations.contains(&operation) {
                operations.push(operation);
            }
        }
    }
    let mut text = format!("\n{:<18}", "");
    for adapter in &adapters {
        text.push_str(&format!("{adapter:<56}"));
    }
    text.push_str(&format!("\n{:<18}", "operation"));
    for direction in adapters.iter().flat_map(|_| directions) {
        text.push_str(&format!("{direction:<14}"));
    }
    let mut holes = 0;
    for operation in operations {
        text.push_str(&format!("\n{operation:<18}"));
        for (adapter, direction) in
            adapters.iter().flat_map(|adapter| directions.into_iter().map(move |to| (adapter, to)))
        {
            let name = format!("{adapter} {operation} {direction}");
            let cell = match tests.iter().find(|test| test.name == name) {
                Some(test) if test.passed => "ok",
                Some(_) => "FAIL",
                None => {
                    holes += 1;
                    "missing"
                }
            };
            text.push_str(&format!("{cell:<14}"));
        }
    }
    text.push('\n');
    (text, holes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_without_a_test_is_a_failure() {
        let lines = ["ok 1 - classic ack node>rust", "ok 2 - classic ack rust>node", "ok 3 - classic ack rust>rust"];
        let tests = parse_tap(&lines.map(str::to_owned));
        let (text, holes) = table(&tests, DIRECTIONS[0]);
        assert_eq!(holes, 1);
        assert!(text.contains("missing"), "{text}");
    }
}
