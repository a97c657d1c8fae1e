//! `check` does what a reviewer would ask a machine to do first; `fmt` puts the formatting right.

use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::process::Job;
use crate::report::{Count, Report};

/// The workspaces beside the main one. They have lock files of their own, so that peers never enter ours.
pub(crate) const BESIDE: &[&str] =
    &["interop/hostile", "interop/autobahn", "interop/servers/socketioxide", "fuzz", "bench"];

/// Of these, the ones that clippy reads too; the peers of the benches would take longer than everything else.
const LINTED: &[&str] = &["interop/hostile", "interop/autobahn", "interop/servers/socketioxide", "fuzz"];

pub(crate) fn main(args: &[String]) -> Result<bool> {
    crate::nothing_left(args)?;
    crate::report::alone(run)
}

/// Formats every workspace.
pub(crate) fn fmt(args: &[String]) -> Result<bool> {
    crate::nothing_left(args)?;
    let mut success = Job::cargo(["fmt", "--all"]).run()?.success;
    for manifest in beside() {
        success &= Job::cargo(["fmt", "--all", "--manifest-path", &manifest]).run()?.success;
    }
    Ok(success)
}

/// Runs every check, even after one failed, and adds a row for each.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let mut row = |name: &str, begin: Instant, success: bool| {
        let count = Count { passed: usize::from(success), failed: usize::from(!success), skipped: 0 };
        report.add(&format!("check: {name}"), count, begin.elapsed());
    };

    for (name, wrong) in
        [("arrows", crate::arrows::check as fn() -> Result<Vec<String>>), ("words", crate::words::check)]
    {
        let begin = Instant::now();
        let wrong = wrong()?;
        for sentence in &wrong {
            println!("{name}: {sentence}");
        }
        row(name, begin, wrong.is_empty());
    }

    let begin = Instant::now();
    let mut success = Job::cargo(["fmt", "--all", "--check"]).run()?.success;
    for manifest in beside() {
        success &= Job::cargo(["fmt", "--all", "--check", "--manifest-path", &manifest]).run()?.success;
    }
    row("formatting", begin, success);

    let begin = Instant::now();
    let clippy = ["clippy", "--workspace", "--all-features", "--all-targets", "--locked", "--", "-D", "warnings"];
    let mut success = Job::cargo(clippy).deadline(20).run()?.success;
    for manifest in beside().iter().filter(|manifest| LINTED.iter().any(|dir| manifest.starts_with(dir))) {
        let clippy = ["clippy", "--all-targets", "--manifest-path", manifest, "--", "-D", "warnings"];
        success &= Job::cargo(clippy).deadline(10).run()?.success;
    }
    row("clippy", begin, success);

    let begin = Instant::now();
    let docs = Job::cargo(["doc", "--workspace", "--all-features", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    row("docs", begin, docs.deadline(15).run()?.success);

    let begin = Instant::now();
    if Job::cargo(["deny", "--version"]).quiet().run()?.success {
        let deny = ["deny", "check", "bans", "licenses", "sources"];
        row("licences and sources", begin, Job::cargo(deny).run()?.success);
        let begin = Instant::now();
        // Only where the database can be had: a check that passes because it saw nothing would be worse than none.
        if Job::cargo(["deny", "fetch", "db"]).quiet().deadline(2).run()?.success {
            row("advisories", begin, Job::cargo(["deny", "check", "advisories"]).run()?.success);
        } else {
            report.left_out("check: advisories", "their database cannot be reached");
        }
    } else {
        report
            .left_out("check: licences and sources", "cargo-deny is not installed (cargo install --locked cargo-deny)");
    }
    Ok(())
}

/// Manifests of the workspaces beside the main one that exist.
pub(crate) fn beside() -> Vec<String> {
    BESIDE
        .iter()
        .map(|dir| format!("{dir}/Cargo.toml"))
        .filter(|manifest| Path::new(&crate::root().join(manifest)).exists())
        .collect()
}
