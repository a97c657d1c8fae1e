//! The fuzz targets: cargo-fuzz on the stable compiler, and the replay of their corpora by plain tests.
//!
//! How long each target has run so far stands in `fuzz/TIME.md`, which every run adds to.

use std::time::{Duration, Instant};

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report};

/// The version that the targets were written with.
const CARGO_FUZZ: &str = "0.13.2";
/// Where the cumulative times stand.
const LEDGER: &str = "fuzz/TIME.md";
/// What a target has to have run, in seconds, unless its row says more.
const GOAL: u64 = 300;

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let seconds = crate::take_option(&mut args, "--seconds")?.map_or(Ok(20), |seconds| seconds.parse::<u64>())?;
    let replay_only = crate::take_flag(&mut args, "--replay");
    let due = crate::take_flag(&mut args, "--due");
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
        let path = crate::root().join(LEDGER);
        for target in targets.iter().filter(|target| wanted.as_ref().is_none_or(|wanted| wanted == *target)) {
            let seconds = match due {
                true => Ledger::read(&path)?.due(target),
                false => seconds,
            };
            if seconds == 0 {
                continue;
            }
            let ran = run(&program, target, seconds)?;
            let count = Count { passed: usize::from(ran.success), failed: usize::from(!ran.success), skipped: 0 };
            report.add(&format!("fuzz: {target}"), count, Duration::from_secs(seconds));
            let mut ledger = Ledger::read(&path)?;
            ledger.add(target, ran.seconds, ran.executions);
            std::fs::write(&path, ledger.to_string())?;
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

/// What a run came to.
struct Ran {
    success: bool,
    seconds: u64,
    executions: u64,
}

/// One target for some seconds. What breaks it stays in `fuzz/artifacts`.
fn run(program: &str, target: &str, seconds: u64) -> Result<Ran> {
    let time = format!("-max_total_time={seconds}");
    let dictionary = crate::root().join(format!("fuzz/dicts/{target}.dict"));
    let dictionary = dictionary.exists().then(|| format!("-dict={}", dictionary.display()));
    // Names the subcommand like cargo would. Sanitizers are the compiler's own; only the flag is not stable.
    let args = ["fuzz", "run", target, "--", &time, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
    let job = Job::new(program).args(args.into_iter().chain(dictionary.as_deref())).env("RUSTC_BOOTSTRAP", "1");
    // The first target builds everything with the sanitizer.
    let outcome = job.seconds(seconds + 1500).run()?;
    let (executions, seconds) = outcome.lines.iter().rev().find_map(|line| done(line)).unwrap_or_default();
    Ok(Ran { success: outcome.success, seconds, executions })
}

/// Reads `Done 1247761 runs in 301 second(s)`.
fn done(line: &str) -> Option<(u64, u64)> {
    let (executions, seconds) = line.strip_prefix("Done ")?.strip_suffix(" second(s)")?.split_once(" runs in ")?;
    Some((executions.parse().ok()?, seconds.parse().ok()?))
}

/// `fuzz/TIME.md`: words, and a table with a row for each target.
#[derive(Debug, PartialEq)]
struct Ledger {
    /// Everything above the first row.
    head: String,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq)]
struct Row {
    target: String,
    goal: u64,
    seconds: u64,
    executions: u64,
}

impl Ledger {
    fn read(path: &std::path::Path) -> Result<Ledger> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ledger::parse(&text)
    }

    fn parse(text: &str) -> Result<Ledger> {
        let mut ledger = Ledger { head: String::new(), rows: Vec::new() };
        let mut in_table = false;
        for line in text.lines() {
            if in_table {
                ledger.rows.push(Row::parse(line).ok_or_else(|| format!("{LEDGER}: what is `{line}`?"))?);
            } else {
                ledger.head.push_str(line);
                ledger.head.push('\n');
                in_table = line.starts_with("|---");
            }
        }
        Ok(ledger)
    }

    /// How many seconds a target still has to run.
    fn due(&self, target: &str) -> u64 {
        let row = self.rows.iter().find(|row| row.target == target);
        row.map_or(GOAL, |row| row.goal.saturating_sub(row.seconds))
    }

    fn add(&mut self, target: &str, seconds: u64, executions: u64) {
        if !self.rows.iter().any(|row| row.target == target) {
            self.rows.push(Row { target: target.to_owned(), goal: GOAL, seconds: 0, executions: 0 });
        }
        for row in self.rows.iter_mut().filter(|row| row.target == target) {
            row.seconds += seconds;
            row.executions += executions;
        }
    }
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [target, goal, seconds, executions] = cells[..] else { return None };
        let number = |cell: &str| cell.parse().ok();
        Some(Row {
            target: target.strip_prefix('`')?.strip_suffix('`')?.to_owned(),
            goal: number(goal)?,
            seconds: number(seconds)?,
            executions: number(executions)?,
        })
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.head)?;
        for Row { target, goal, seconds, executions } in &self.rows {
            writeln!(f, "| `{target}` | {goal} | {seconds} | {executions} |")?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_the_fuzzer_is_read() {
        assert_eq!(done("Done 1247761 runs in 301 second(s)"), Some((1_247_761, 301)));
        assert_eq!(done("Done reading"), None);
    }

    #[test]
    fn times_add_up_and_tell_what_is_due() {
        let text = "Words.\n\n| target | goal |\n|---|---|\n| `a` | 1800 | 302 | 5 |\n";
        let mut ledger = Ledger::parse(text).unwrap();
        assert_eq!(ledger.to_string(), text);
        assert_eq!((ledger.due("a"), ledger.due("b")), (1_498, GOAL));
        ledger.add("a", 1_500, 10);
        ledger.add("b", 20, 7);
        assert_eq!((ledger.due("a"), ledger.due("b")), (0, GOAL - 20));
        assert!(ledger.to_string().ends_with("|---|---|\n| `a` | 1800 | 1802 | 15 |\n| `b` | 300 | 20 | 7 |\n"));
        assert!(Ledger::parse("|---|\nnot a row").is_err());
    }

    #[test]
    fn every_target_stands_in_the_ledger() {
        let ledger = Ledger::read(&crate::root().join(LEDGER)).unwrap();
        let mut rows: Vec<_> = ledger.rows.iter().map(|row| row.target.clone()).collect();
        rows.sort();
        assert_eq!(rows, targets().unwrap());
    }
}
