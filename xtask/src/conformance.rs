//! The Autobahn cases against our WebSocket codec, both roles. `interop/autobahn` does the work.

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report};

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let full = crate::take_flag(&mut args, "--full");
    crate::nothing_left(&args)?;
    crate::report::alone(|report| run(report, full))
}

/// Adds a row for the server and one for the client.
pub(crate) fn run(report: &mut Report, full: bool) -> Result<()> {
    crate::install::debian("python3", "python3")?;
    // The first run may have to make an environment and to build the echo program.
    let minutes = if full { 35 } else { 12 };
    for (suite, role) in [("conformance: server", None), ("conformance: client", Some("--client"))] {
        let args = ["interop/autobahn/run.py"].into_iter().chain(role).chain(full.then_some("--full"));
        let outcome = Job::new("python3").args(args).deadline(minutes).run()?;
        let count = outcome.lines.iter().rev().find_map(|line| cases(line)).unwrap_or_default();
        report.add(suite, count.at_least_one_failure_unless(outcome.success && count.passed > 0), outcome.took);
    }
    Ok(())
}

/// Reads `301 cases, 0 bad`.
fn cases(line: &str) -> Option<Count> {
    let (all, bad) = line.strip_suffix(" bad")?.split_once(" cases, ")?;
    let (all, failed): (usize, usize) = (all.parse().ok()?, bad.parse().ok()?);
    Some(Count { passed: all.checked_sub(failed)?, failed, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_suite_is_read() {
        check("301 cases, 0 bad", Some((301, 0)));
        check("247 cases, 3 bad", Some((244, 3)));
        check("1 cases, 2 bad", None);
        check("group 7: 37 OK", None);

        #[track_caller]
        fn check(line: &str, want: Option<(usize, usize)>) {
            assert_eq!(cases(line).map(|count| (count.passed, count.failed)), want, "{line}");
        }
    }
}
