//! Instructions per operation: `cargo xtask bench micro [filter…] [--check] [--write]`.
//!
//! Each case runs under valgrind twice, with `n` and with `2n` operations; the difference is what `n` operations cost, so
//! whatever happens before and after drops out. valgrind counts the instructions of the process and nothing of the kernel:
//! the numbers do not depend on what else the machine does. `baseline.json` has those of the last commit that wrote them.
//!
//! `micro --case NAME --times N` runs one case without valgrind: for `perf` and for `valgrind --tool=callgrind`.

mod codec;
mod engine;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One thing to be measured: `run(n)` does it `n` times.
struct Case {
    name: &'static str,
    times: u64,
    /// Operations in one time: recipients of a broadcast, events of a read.
    operations: u64,
    run: fn(u64),
}

/// By how much a case may be above the baseline with `--check`.
const TOLERANCE: f64 = 1.10;
/// And by how many instructions beside: how the compiler cuts a small function changes with the code around it.
const SLACK: u64 = 100;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Outcome<bool> {
    let cases: Vec<Case> = [codec::CASES, engine::CASES, server::CASES].into_iter().flatten().map(Case::copy).collect();
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    if let Some(name) = value("--case") {
        let case = cases.iter().find(|case| case.name == name).ok_or("there is no such case")?;
        (case.run)(value("--times").map_or(Ok(case.times), |times| times.parse())?);
        return Ok(true);
    }
    let (options, filters): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with("--"));
    if let Some(unknown) = options.iter().find(|option| !["--check", "--write", "--list"].contains(&option.as_str())) {
        return Err(format!("what is {unknown}?").into());
    }
    let asked = |option: &str| options.iter().any(|given| *given == option);
    if asked("--list") {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(true);
    }

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut baseline: BTreeMap<String, u64> = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(_) => BTreeMap::new(),
    };
    let mut slower = Vec::new();
    println!("{:<34} {:>12} {:>12} {:>8}", "instructions per operation", "now", "baseline", "ratio");
    for case in &cases {
        if !filters.is_empty() && !filters.iter().any(|filter| case.name.contains(filter.as_str())) {
            continue;
        }
        let now = measure(case)?;
        match baseline.get(case.name) {
            Some(&before) => {
                let ratio = now as f64 / before.max(1) as f64;
                println!("{:<34} {now:>12} {before:>12} {ratio:>8.3}", case.name);
                if now.saturating_sub(SLACK) as f64 > before as f64 * TOLERANCE {
                    slower.push(case.name);
                }
            }
            None => println!("{:<34} {now:>12} {:>12}", case.name, "-"),
        }
        if asked("--write") {
            baseline.insert(case.name.to_owned(), now);
        }
    }
    if asked("--write") {
        baseline.retain(|name, _| cases.iter().any(|case| case.name == name));
        std::fs::write(&path, serde_json::to_string_pretty(&baseline)? + "\n")?;
    }
    if asked("--check") && !slower.is_empty() {
        println!("more than {:.0} % above the baseline: {}", (TOLERANCE - 1.0) * 100.0, slower.join(", "));
        return Ok(false);
    }
    Ok(true)
}

fn measure(case: &Case) -> Outcome<u64> {
    let once = instructions(case.name, case.times)?;
    let twice = instructions(case.name, case.times * 2)?;
    Ok(twice.saturating_sub(once) / (case.times * case.operations))
}

/// The instructions of a whole run.
fn instructions(name: &str, times: u64) -> Outcome<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        // Else a copy counts as an instruction per byte.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1000000000")
        .arg(std::env::current_exe()?)
        .args(["--case", name, "--times", &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); it is a package of most distributions"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let total = report.lines().find_map(|line| line.split_once("I   refs:")).map(|(_, number)| number.replace(',', ""));
    match total {
        Some(total) if output.status.success() => Ok(total.trim().parse()?),
        _ => Err(format!("{name} failed under valgrind:\n{report}").into()),
    }
}

impl Case {
    const fn new(name: &'static str, times: u64, run: fn(u64)) -> Self {
        Self { name, times, operations: 1, run }
    }

    const fn of(mut self, operations: u64) -> Self {
        self.operations = operations;
        self
    }

    fn copy(&self) -> Self {
        Self { ..*self }
    }
}
