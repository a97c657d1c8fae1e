//! What a protocol prints of itself, in the hands of those it is for: TypeScript's compiler with `socket.io-client`, and
//! AsyncAPI's own parser.

use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report};

pub(crate) fn main(args: &[String]) -> Result<bool> {
    crate::nothing_left(args)?;
    crate::report::alone(run)
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    crate::install::npm("interop/types")?;
    let build = ["build", "-p", "socketio", "--features", "describe", "--example", "protocol"];
    let program = crate::interop::executable(&build, "protocol")?;
    let dir = crate::root().join("interop/types");
    let print = |what: &str, file: &str| -> Result<()> {
        let printed = std::process::Command::new(&program).arg(what).output()?;
        if !printed.status.success() {
            return Err(format!("the example `protocol` does not print {what}").into());
        }
        Ok(std::fs::write(dir.join(file), printed.stdout)?)
    };
    print("typescript", "protocol.d.ts")?;
    print("asyncapi", "asyncapi.json")?;

    let mut count = Count::default();
    let mut row = |name: &str, passed: bool, said: &[String]| {
        println!("{:<4} {name}", if passed { "ok" } else { "FAIL" });
        if !passed {
            said.iter().for_each(|line| println!("    {line}"));
        }
        count += Count { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 };
    };

    let (compiles, said) = tsc(&dir, &["-p", "."])?;
    row("a program that keeps to the protocol compiles, and each line that does not is refused", compiles, &said);
    let strict = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "wrong.ts"];
    let (compiles, said) = tsc(&dir, &strict)?;
    let refused = said.iter().any(|line| line.starts_with("wrong.ts("));
    let only_there = said.iter().filter(|line| line.contains("error TS")).all(|line| line.starts_with("wrong.ts("));
    row("a program that does not keep to it is refused", !compiles && refused && only_there, &said);

    let outcome = Job::new("node").args(["asyncapi.mjs", "asyncapi.json"]).dir(&dir).seconds(120).quiet().run()?;
    let mut tests = 0;
    for line in &outcome.lines {
        let passed = line.starts_with("ok ");
        if passed || line.starts_with("not ok ") {
            tests += 1;
            row(line.split_once(" - ").map_or(line.as_str(), |(_, name)| name), passed, &outcome.lines);
        }
    }
    if tests != 3 {
        row("AsyncAPI's parser", false, &outcome.lines);
    }
    report.add("types", count, begin.elapsed());
    Ok(())
}

/// Runs TypeScript's compiler; whether it was content, and what it said.
fn tsc(dir: &Path, args: &[&str]) -> Result<(bool, Vec<String>)> {
    let args = ["node_modules/typescript/bin/tsc"].iter().chain(args).copied();
    let outcome = Job::new("node").args(args).dir(dir).seconds(120).quiet().run()?;
    Ok((outcome.success, outcome.lines))
}
