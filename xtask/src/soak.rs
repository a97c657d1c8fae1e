//! What takes longer than a test run may: the long forms of two tests, and parts that run for as many minutes as one likes.
//!
//! A part is a row in [`PARTS`]; `cargo xtask soak` runs all of them, one after the other.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report, count};

/// One thing to soak, by its name on the command line.
struct Part {
    name: &'static str,
    /// For how many minutes it runs when nobody says otherwise; `None`: it does a number of things and ends.
    minutes: Option<u64>,
    /// Adds rows to the report.
    run: fn(minutes: u64, report: &mut Report) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part { name: "crowd", minutes: Some(30), run: crowd },
    Part { name: "attacks", minutes: None, run: attacks },
    Part { name: "first-event", minutes: None, run: |_, report| long_form("first_event", report) },
    Part { name: "interleavings", minutes: None, run: |_, report| long_form("interleavings", report) },
    Part { name: "broker-faults", minutes: None, run: broker_faults },
    Part { name: "client-chaos", minutes: Some(10), run: client_chaos },
];

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let minutes: Option<u64> =
        crate::take_option(&mut args, "--minutes")?.map(|minutes| minutes.parse()).transpose()?;
    let wanted = (!args.is_empty()).then(|| args.remove(0));
    crate::nothing_left(&args)?;
    let parts = chosen(wanted.as_deref(), minutes)?;
    crate::report::alone(|report| {
        for part in parts {
            println!("\n===== soak: {}", part.name);
            (part.run)(minutes.or(part.minutes).unwrap_or_default(), report)?;
        }
        Ok(())
    })
}

/// The parts to run: all, or the one of that name. Minutes are for those that can use them.
fn chosen(wanted: Option<&str>, minutes: Option<u64>) -> Result<Vec<&'static Part>> {
    let mut parts = PARTS.iter().filter(|part| wanted.is_none_or(|wanted| wanted == part.name)).collect::<Vec<_>>();
    if let (true, Some(wanted)) = (parts.is_empty(), wanted) {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        return Err(format!("there is no part `{wanted}`: {}", names.join(", ")).into());
    }
    if minutes.is_some() {
        parts.retain(|part| part.minutes.is_some());
        if parts.is_empty() {
            return Err("this part does a number of things, whatever the minutes".into());
        }
    }
    if minutes == Some(0) {
        return Err("`--minutes` starts at 1".into());
    }
    Ok(parts)
}

/// Our client through a bad network, longer than the tests do it.
fn client_chaos(minutes: u64, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let count = crate::interop_client::chaos(60 * minutes)?;
    report.add("soak: client-chaos", count, begin.elapsed());
    Ok(())
}

/// 1,000 clients on two servers while their broker is killed, restarted, stopped and cut off; the rows of one table.
fn broker_faults(_: u64, report: &mut Report) -> Result<()> {
    let mut table: Vec<String> = Vec::new();
    for package in ["socketio-redis", "socketio-postgres"] {
        let args = [
            "test",
            "--release",
            "--locked",
            "-p",
            package,
            "--test",
            "broker_faults",
            "--",
            "--nocapture",
            "--test-threads=1",
        ];
        let outcome = Job::cargo(args).env("SOCKETIO_SOAK", "1").deadline(60).run()?;
        for row in outcome.lines.iter().filter(|line| line.starts_with("| ")) {
            if !table.contains(row) {
                table.push(row.clone());
            }
        }
        let name = format!("soak: broker-faults of {package}");
        report.add(&name, count(&outcome.lines).at_least_one_failure_unless(outcome.success), outcome.took);
    }
    println!("\n{}", table.join("\n"));
    Ok(())
}

/// 2,000 clients that come and go, some of them hostile and some slow, against a server in a process of its own.
fn crowd(minutes: u64, report: &mut Report) -> Result<()> {
    let seconds = (minutes * 60).to_string();
    let args = ["run", "--release", "--locked", "-p", "socketio-testkit", "--bin", "soak", "--", "--seconds", &seconds];
    // The build, and the phases before and between.
    let outcome = Job::cargo(args).deadline(minutes + minutes / 5 + 40).run()?;
    let count = Count { passed: usize::from(outcome.success), failed: usize::from(!outcome.success), skipped: 0 };
    report.add("soak: crowd", count, outcome.took);
    Ok(())
}

/// What one server is attacked with, one attack after the other at twice its limit, beside good clients; a row for each.
fn attacks(_: u64, report: &mut Report) -> Result<()> {
    let args = ["run", "--release", "--locked", "-p", "socketio-testkit", "--bin", "soak", "--", "--attacks"];
    let outcome = Job::cargo(args).deadline(60).run()?;
    // Each row is printed when it is done, and once more in the table at the end.
    let rows: BTreeSet<_> = outcome.lines.iter().filter(|line| line.starts_with("| R")).collect();
    let (held, failed): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.ends_with("| holds |"));
    let count = Count { passed: held.len(), failed: failed.len(), skipped: 0 };
    report.add("soak: attacks", count.at_least_one_failure_unless(outcome.success), outcome.took);
    Ok(())
}

/// A test of the testkit in its long form.
fn long_form(test: &str, report: &mut Report) -> Result<()> {
    let args = ["test", "--release", "--locked", "-p", "socketio-testkit", "--test", test, "--", "--nocapture"];
    let outcome = Job::cargo(args).env("SOCKETIO_SOAK", "1").deadline(60).run()?;
    let name = format!("soak: {test}");
    report.add(&name, count(&outcome.lines).at_least_one_failure_unless(outcome.success), outcome.took);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_name() {
        let all: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(names(None, None).unwrap(), all);
        assert_eq!(names(Some("first-event"), None).unwrap(), ["first-event"]);
        assert!(names(Some("nothing"), None).unwrap_err().contains("no part `nothing`: crowd, attacks, first-event"));
        assert_eq!(names(Some("crowd"), Some(5)).unwrap(), ["crowd"]);
        assert!(names(Some("first-event"), Some(5)).is_err());
        assert!(!names(None, Some(5)).unwrap().contains(&"first-event"));
        assert!(names(None, Some(0)).is_err());

        fn names(wanted: Option<&str>, minutes: Option<u64>) -> std::result::Result<Vec<&'static str>, String> {
            let chosen = chosen(wanted, minutes).map_err(|error| error.to_string())?;
            Ok(chosen.into_iter().map(|part| part.name).collect())
        }
    }
}
