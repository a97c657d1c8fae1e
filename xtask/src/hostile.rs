//! The catalogue of hostile input. `interop/hostile` does the work; this builds it, gives it a server and counts.

use std::time::Instant;

use crate::Result;
use crate::interop::{Peer, executable};
use crate::process::Job;
use crate::report::{Count, Report};

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let server = crate::take_option(&mut args, "--server")?;
    let filter = if args.is_empty() { String::new() } else { args.remove(0) };
    crate::nothing_left(&args)?;
    let begin = Instant::now();
    let peer = Peer::get(server.as_deref())?;
    let count = run(&peer, &filter)?;
    let mut report = Report::default();
    report.add("hostile input", count, begin.elapsed());
    report.print(begin.elapsed());
    Ok(count.failed == 0)
}

/// Runs the rows whose id contains the filter, and falsified ones that have to be noticed.
pub(crate) fn run(peer: &Peer, filter: &str) -> Result<Count> {
    let build = ["build", "--locked", "--manifest-path", "interop/hostile/Cargo.toml"];
    let program = executable(&build, "hostile")?;
    let target = match peer {
        Peer::Ours(_) => "ours",
        Peer::Node => "node",
    };
    let (server, arguments) = peer.command();
    let mut args = vec!["--target", target, "--self-check", "--memory", "--filter", filter, "--", server];
    args.extend(arguments.iter().map(String::as_str));
    let outcome = Job::new(&program).args(args).deadline(10).run()?;
    let count = outcome.lines.last().map(|line| crate::report::count(std::slice::from_ref(line))).unwrap_or_default();
    Ok(count.at_least_one_failure_unless(outcome.success && count.passed > 0))
}
