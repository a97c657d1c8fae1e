//! The benchmarks: `memory` counts what an idle connection costs, everything else goes to the runner in `bench/`.

use crate::Result;
use crate::process::Job;

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let (manifest, rest) = match args.split_first() {
        Some((first, rest)) if first == "memory" => ("bench/memory/Cargo.toml", rest),
        _ => ("bench/Cargo.toml", args),
    };
    let mut cargo = vec!["run", "--release", "--locked", "--manifest-path", manifest];
    if manifest == "bench/Cargo.toml" {
        cargo.extend(["-p", "runner"]);
    }
    cargo.push("--");
    cargo.extend(rest.iter().map(String::as_str));
    Ok(Job::cargo(cargo).deadline(120).run()?.success)
}
