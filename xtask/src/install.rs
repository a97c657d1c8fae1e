//! Brings what a suite needs, once: Debian packages, npm packages, virtual environments, the cargo tools.
//!
//! Every install leaves a stamp with what it was made from, so a second run finds the stamp and does nothing. What
//! cannot be installed is named, with the command that would help.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::Job;

/// Where downloads and environments live; git ignores it.
pub(crate) fn cache() -> PathBuf {
    crate::root().join("interop/.cache")
}

/// Installs the npm packages of a folder with a `package.json` and a `package-lock.json`.
pub(crate) fn npm(folder: &str) -> Result<()> {
    let dir = crate::root().join(folder);
    let mut wanted = std::fs::read_to_string(dir.join("package.json"))?;
    let locked = dir.join("package-lock.json").exists();
    if locked {
        wanted.push_str(&std::fs::read_to_string(dir.join("package-lock.json"))?);
    }
    let stamp = dir.join("node_modules/.stamp");
    if is_stamped(&stamp, &wanted) {
        return Ok(());
    }
    for program in ["node", "npm"] {
        debian(program, if program == "node" { "nodejs" } else { "npm" })?;
    }
    let verb = if locked { "ci" } else { "install" };
    let outcome = Job::new("npm").args([verb, "--no-audit", "--no-fund", "--loglevel=error"]).dir(&dir).run()?;
    if !outcome.success {
        return Err(format!("`npm {verb}` failed in {folder}; is the npm registry reachable?").into());
    }
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// Makes a virtual environment from a requirements file and returns its Python.
pub(crate) fn venv(name: &str, requirements: &str) -> Result<String> {
    let wanted = std::fs::read_to_string(crate::root().join(requirements))?;
    let dir = cache().join(name);
    let python = dir.join("bin/python").to_string_lossy().into_owned();
    let stamp = dir.join(".stamp");
    if is_stamped(&stamp, &wanted) && Path::new(&python).exists() {
        return Ok(python);
    }
    debian("python3", "python3")?;
    std::fs::create_dir_all(cache())?;
    let path = dir.to_string_lossy().into_owned();
    let make = || Job::new("python3").args(["-m", "venv", "--clear", &path]).run();
    if !make()?.success {
        apt(&["python3-venv"])?;
        if !make()?.success {
            return Err("`python3 -m venv` fails; on Debian it comes with the package python3-venv".into());
        }
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements];
    if !Job::new(&python).args(pip).run()?.success {
        return Err(format!("cannot install {requirements}; is PyPI reachable?").into());
    }
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// Makes sure that a program is there, from a Debian package if need be.
pub(crate) fn debian(program: &str, package: &str) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    apt(&[package])?;
    if on_path(program) { Ok(()) } else { Err(format!("the package {package} brought no `{program}`").into()) }
}

/// Makes sure that a file or folder is there, from a Debian package if need be.
pub(crate) fn debian_file(path: &str, package: &str) -> Result<()> {
    if Path::new(path).exists() {
        return Ok(());
    }
    apt(&[package])?;
    if Path::new(path).exists() { Ok(()) } else { Err(format!("the package {package} brought no {path}").into()) }
}

/// Installs a cargo tool into `target/tools` unless it is there or on the path, and returns how to call it.
pub(crate) fn cargo_tool(tool: &str, version: &str) -> Result<String> {
    if on_path(tool) {
        return Ok(tool.to_owned());
    }
    let tools = crate::root().join("target/tools");
    let program = tools.join("bin").join(tool);
    if !program.exists() {
        let root = tools.to_string_lossy().into_owned();
        let args = ["install", "--locked", "--root", &root, "--version", version, tool];
        if !Job::cargo(args).deadline(15).run()?.success {
            return Err(format!("cannot install {tool}; try `cargo install --locked {tool}`").into());
        }
    }
    Ok(program.to_string_lossy().into_owned())
}

pub(crate) fn on_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

fn apt(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    let help = format!("please install {wanted} (on Debian: apt-get install {wanted})");
    if !on_path("apt-get") || !is_root() {
        return Err(help.into());
    }
    let quiet = |args: &[&str]| {
        Job::new("apt-get").args(args.iter().copied()).env("DEBIAN_FRONTEND", "noninteractive").quiet().run()
    };
    println!("installing {wanted}");
    // Failing to refresh the lists is no reason to give up: they may be fresh.
    quiet(&["update", "-q"])?;
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(packages);
    let outcome = quiet(&args)?;
    if outcome.success { Ok(()) } else { Err(format!("{}\n{help}", outcome.lines.join("\n")).into()) }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn is_stamped(stamp: &Path, wanted: &str) -> bool {
    std::fs::read_to_string(stamp).is_ok_and(|found| found == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_only_for_what_it_was_made_from() {
        let stamp = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        assert!(!is_stamped(&stamp, "a"));
        std::fs::write(&stamp, "a").unwrap();
        assert!(is_stamped(&stamp, "a"));
        assert!(!is_stamped(&stamp, "b"));
        std::fs::remove_file(stamp).unwrap();
    }
}
