//! `cargo xtask test`: every suite, one after the other, and one total at the end.
//!
//! A suite that cannot run counts as failed: a total that leaves something out would be a lie.

use std::time::{Duration, Instant};

use crate::Result;
use crate::interop::{Peer, executable};
use crate::process::Job;
use crate::report::{Count, Report, count};

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let skip_check = crate::take_flag(&mut args, "--no-check");
    crate::nothing_left(&args)?;
    let begin = Instant::now();
    let mut report = Report::default();

    if !skip_check {
        attempt(&mut report, "check", crate::check::run);
    }
    attempt(&mut report, "rust", rust);
    attempt(&mut report, "fuzz: corpora", crate::fuzz::replay);
    attempt(&mut report, "conformance", |report| crate::conformance::run(report, false));
    attempt(&mut report, "interop", interop);
    attempt(&mut report, "types", crate::types::run);
    attempt(&mut report, "browser", browser);

    report.print(begin.elapsed());
    Ok(report.total().failed == 0)
}

/// Runs a suite; one that could not even start is a failure with a reason.
fn attempt(report: &mut Report, suite: &str, run: impl FnOnce(&mut Report) -> Result<()>) {
    println!("\n===== {suite}");
    if let Err(error) = run(report) {
        println!("{suite}: {error}");
        report.add(&format!("{suite}: did not run"), Count { failed: 1, ..Count::default() }, Duration::ZERO);
    }
}

/// Unit and integration tests, doc tests, and the tests of the workspaces beside.
fn rust(report: &mut Report) -> Result<()> {
    // Brokers that tests start themselves. Debian keeps the database's own program away from the path.
    crate::install::debian_file("/usr/lib/postgresql", "postgresql")?;
    crate::install::debian("redis-server", "redis-server")?;
    let nextest = Job::cargo(["nextest", "--version"]).quiet().run()?.success;
    let tests = if nextest {
        vec![
            "nextest",
            "run",
            "--config-file",
            "xtask/nextest.toml",
            "--workspace",
            "--all-features",
            "--locked",
            "--no-fail-fast",
        ]
    } else {
        // Doc tests have a row of their own.
        vec![
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]
    };
    let doc = vec!["test", "--workspace", "--all-features", "--locked", "--doc", "--no-fail-fast"];
    let hostile = vec!["test", "--locked", "--manifest-path", "interop/hostile/Cargo.toml"];
    for (suite, args) in [("rust: tests", tests), ("rust: doc tests", doc), ("rust: hostile runner", hostile)] {
        let outcome = Job::cargo(args).deadline(25).run()?;
        report.add(suite, count(&outcome.lines).at_least_one_failure_unless(outcome.success), outcome.took);
    }
    Ok(())
}

/// Real clients and hostile input against the interop server.
fn interop(report: &mut Report) -> Result<()> {
    let peer = Peer::get(None)?;
    let begin = Instant::now();
    let clients = crate::interop::run(&peer, "", 2)?;
    report.add("interop: real clients", clients, begin.elapsed());
    let begin = Instant::now();
    let client = crate::interop_client::run("", 2)?;
    report.add("interop: our client", client, begin.elapsed());
    let begin = Instant::now();
    let clusters = crate::cluster::run()?;
    report.add("interop: clusters", clusters, begin.elapsed());
    let begin = Instant::now();
    let hostile = crate::hostile::run(&peer, "")?;
    report.add("interop: hostile input", hostile, begin.elapsed());
    Ok(())
}

/// Our browser client and the page of `sio serve`, in headless Chromium.
fn browser(report: &mut Report) -> Result<()> {
    crate::install::npm("interop/browser")?;
    crate::install::debian("chromium", "chromium")?;
    let program = executable(&["build", "-p", "socketio-cli", "--bin", "sio", "--locked"], "sio")?;
    let dir = crate::root().join("interop/browser");
    let mut files: Vec<String> = std::fs::read_dir(&dir)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.mjs"))
        .collect();
    files.sort();
    let args = ["--test", "--test-force-exit", "--test-concurrency=1", "--test-reporter=spec"];
    let args = args.into_iter().chain(files.iter().map(String::as_str));
    let outcome = Job::new("node").args(args).dir(&dir).env("SIO_BIN", &program).deadline(10).run()?;
    let count = node_count(&outcome.lines);
    report.add("browser", count.at_least_one_failure_unless(outcome.success && count.passed > 0), outcome.took);
    Ok(())
}

/// The closing lines of node's runner: `ℹ pass 12`, `ℹ fail 0`, …
fn node_count(lines: &[String]) -> Count {
    let number = |word: &str| {
        let found = lines.iter().rev().find_map(|line| line.trim_start_matches(['ℹ', '#', ' ']).strip_prefix(word));
        found.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
    };
    Count {
        passed: number("pass "),
        failed: number("fail ") + number("cancelled "),
        skipped: number("skipped ") + number("todo "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_node_are_read() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let spec = "✔ a (3ms)\nℹ tests 5\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0";
        assert_eq!(node_count(&lines(spec)), Count { passed: 3, failed: 1, skipped: 1 });
        assert_eq!(node_count(&lines("# pass 16\n# fail 0")), Count { passed: 16, failed: 0, skipped: 0 });
        assert_eq!(node_count(&lines("pass the salt")), Count::default());
    }

    #[test]
    fn a_suite_that_cannot_start_is_a_failure() {
        let mut report = Report::default();
        attempt(&mut report, "nothing", |_| Err("no such program".into()));
        assert_eq!(report.total().failed, 1);
    }
}
