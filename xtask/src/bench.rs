//! The benchmarks: `memory` counts what an idle connection costs, `client-idle` what an idle client does, `micro` the
//! instructions of single operations; everything else goes to the runner in `bench/`.

use crate::Result;
use crate::process::Job;

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let (manifest, package, rest) = match args.split_first() {
        Some((first, rest)) if first == "memory" => ("bench/memory/Cargo.toml", "memory", rest),
        Some((first, rest)) if first == "client-idle" => ("bench/memory/Cargo.toml", "memory", rest),
        Some((first, rest)) if first == "micro" => ("bench/Cargo.toml", "micro", rest),
        _ => ("bench/Cargo.toml", "runner", args),
    };
    let mut cargo = vec!["run", "--release", "--locked", "--manifest-path", manifest, "-p", package, "--"];
    if args.first().is_some_and(|first| first == "client-idle") {
        cargo.push("--clients");
    }
    cargo.extend(rest.iter().map(String::as_str));
    Ok(Job::cargo(cargo).deadline(120).run()?.success)
}
