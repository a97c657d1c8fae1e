//! The benchmarks: `memory` counts what an idle connection costs, `micro` the instructions of single operations; everything
//! else goes to the runner in `bench/`.

use crate::Result;
use crate::process::Job;

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let (manifest, package, rest) = match args.split_first() {
        Some((first, rest)) if first == "memory" => ("bench/memory/Cargo.toml", "memory", rest),
        Some((first, rest)) if first == "micro" => ("bench/Cargo.toml", "micro", rest),
        _ => ("bench/Cargo.toml", "runner", args),
    };
    let mut cargo = vec!["run", "--release", "--locked", "--manifest-path", manifest, "-p", package, "--"];
    cargo.extend(rest.iter().map(String::as_str));
    Ok(Job::cargo(cargo).deadline(120).run()?.success)
}
