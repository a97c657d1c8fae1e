//! The long forms of what the tests do in seconds: a hundred thousand first events, twenty thousand random schedules.

use crate::Result;
use crate::process::Job;
use crate::report::{Report, count};

pub(crate) fn main(args: &[String]) -> Result<bool> {
    crate::nothing_left(args)?;
    crate::report::alone(run)
}

fn run(report: &mut Report) -> Result<()> {
    let tests = ["--test", "first_event", "--test", "interleavings"];
    let args = ["test", "--release", "--locked", "-p", "socketio-testkit"].into_iter().chain(tests);
    let outcome = Job::cargo(args.chain(["--", "--nocapture"])).env("SOCKETIO_SOAK", "1").deadline(60).run()?;
    report.add("soak", count(&outcome.lines).at_least_one_failure_unless(outcome.success), outcome.took);
    Ok(())
}
