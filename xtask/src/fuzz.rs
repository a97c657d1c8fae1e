//! The fuzz targets: cargo-fuzz on the stable compiler, and the replay of their corpora by plain tests.

use std::time::{Duration, Instant};

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report};

/// The version that the targets were written with.
const CARGO_FUZZ: &str = "0.13.2";

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let seconds = crate::take_option(&mut args, "--seconds")?.map_or(Ok(20), |seconds| seconds.parse::<u64>())?;
    let replay_only = crate::take_flag(&mut args, "--replay");
    let wanted = if args.is_empty() { None } else { Some(args.remove(0)) };
    crate::nothing_left(&args)?;
    let begin = Instant::now();
    let mut report = Report::default();
    if replay_only {
        replay(&mut report)?;
    } else {
        let targets = targets()?;
        if let Some(wanted) = &wanted
            && !targets.contains(wanted)
        {
            return Err(format!("there is no target `{wanted}`; there are {}", targets.join(", ")).into());
        }
        let program = crate::install::cargo_tool("cargo-fuzz", CARGO_FUZZ)?;
        for target in targets.iter().filter(|target| wanted.as_ref().is_none_or(|wanted| wanted == *target)) {
            let success = run(&program, target, seconds)?;
            let count = Count { passed: usize::from(success), failed: usize::from(!success), skipped: 0 };
            report.add(&format!("fuzz: {target}"), count, Duration::from_secs(seconds));
        }
    }
    report.print(begin.elapsed());
    Ok(report.total().failed == 0)
}

/// Replays the committed corpora, and what was found before, as ordinary tests.
pub(crate) fn replay(report: &mut Report) -> Result<()> {
    if !crate::root().join("fuzz/Cargo.toml").exists() {
        report.left_out("fuzz: corpora", "there is no fuzz/Cargo.toml");
        return Ok(());
    }
    let args = ["test", "--manifest-path", "fuzz/Cargo.toml", "--no-fail-fast"];
    let outcome = Job::cargo(args).deadline(20).run()?;
    let count = crate::report::count(&outcome.lines);
    report.add("fuzz: corpora", count.at_least_one_failure_unless(outcome.success && count.passed > 0), outcome.took);
    Ok(())
}

/// One target for some seconds. What breaks it stays in `fuzz/artifacts`.
fn run(program: &str, target: &str, seconds: u64) -> Result<bool> {
    let time = format!("-max_total_time={seconds}");
    // Names the subcommand like cargo would. Sanitizers are the compiler's own; only the flag is not stable.
    let args = ["fuzz", "run", target, "--", &time, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
    let job = Job::new(program).args(args).env("RUSTC_BOOTSTRAP", "1");
    // The first target builds everything with the sanitizer.
    Ok(job.seconds(seconds + 1500).run()?.success)
}

/// The files of `fuzz/fuzz_targets`, by name.
fn targets() -> Result<Vec<String>> {
    let dir = crate::root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.path().file_name()?.to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
