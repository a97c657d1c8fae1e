//! The one door to automation: `cargo xtask help` lists what it does.
//!
//! Every command is a module of the same name. What they share: [`process`] starts children that have a deadline and
//! can be ended as a group, [`install`] brings what a suite needs, [`report`] adds up counts. Nothing here is published.

mod arrows;
mod bench;
mod check;
mod cluster;
mod conformance;
mod fuzz;
mod hostile;
mod install;
mod interop;
mod interop_client;
mod process;
mod report;
mod sbom;
mod sim;
mod soak;
mod suites;
mod types;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  check                      formatting, clippy, docs, the arrows between crates, words that must not be committed
  fmt                        formats every workspace of the repository
  test [--no-check]          check, Rust tests, doc tests, interop, types, hostile input, browser, Autobahn, fuzz corpora
  interop [filter] [--server rust|node] [--jobs N]
                             real clients against our server (or against the Node server, to check the tests), and our
                             client against real servers; the filter is a part of `client/transport`, for example
                             `sio4/`, or of `client-of-server/transport`
  interop cluster            Node's servers, python-socketio's and ours on one broker, and ours behind load balancers
  interop --self-check       breaks every feature of the Node server once and wants its test to fail
  types                      what a protocol prints of itself, read by TypeScript's compiler and AsyncAPI's parser
  hostile [filter] [--server rust|node]
                             the catalogue of hostile input
  conformance [--full]       the Autobahn cases: the short set, or all of them
  fuzz [target] [--seconds N | --due | --replay]
                             runs the fuzz targets for a while (20 s each) or for what is still due by `fuzz/TIME.md`, or
                             replays their corpora and mutations of them
  sbom [--out FILE]          what the lock file holds, as CycloneDX JSON
  sim [model] [--seeds N] [--seed S]
                             random schedules against a model: cuts and returns, 100,000 of `recovery` (the machine) and
                             5,000 of `recovery-server`, and 100,000 of `cluster`, servers on a bad network; a failure
                             prints its seed, which `--seed` runs again
  soak [part] [--minutes N]  long runs in release, all or one: `crowd` (2,000 clients for 30 minutes, some hostile, some
                             slow), `client-chaos`, `broker-faults`, `first-event` (100,000 of them), `interleavings` (20,000 schedules)
  bench memory [--connections N] | bench client-idle [--connections N] | bench micro [filter] [--check | --write]
                             what an idle connection costs the server, and the client; the instructions of single
                             operations beside the committed ones
  bench [scenario] [--peers a,b]
                             ours beside other servers, see bench/README.md
";

/// What went wrong, in words for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let done = match command.as_str() {
        "check" => check::main(&rest),
        "fmt" => check::fmt(&rest),
        "test" => suites::main(&rest),
        "interop" => interop::main(&rest),
        "types" => types::main(&rest),
        "hostile" => hostile::main(&rest),
        "conformance" => conformance::main(&rest),
        "fuzz" => fuzz::main(&rest),
        "sbom" => sbom::main(&rest),
        "sim" => sim::main(&rest),
        "soak" => soak::main(&rest),
        "bench" => bench::main(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        other => Err(format!("there is no command `{other}`; `cargo xtask help` lists them").into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(2)
        }
    }
}

/// The top of the repository.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// The cargo that started us.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Takes `--name VALUE` out of the arguments and returns the value.
fn take_option(args: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    if at + 1 >= args.len() {
        return Err(format!("`{name}` wants a value").into());
    }
    args.remove(at);
    Ok(Some(args.remove(at)))
}

/// Takes `--name` out of the arguments and says whether it was there.
fn take_flag(args: &mut Vec<String>, name: &str) -> bool {
    let at = args.iter().position(|arg| arg == name);
    at.map(|at| args.remove(at)).is_some()
}

/// Complains about arguments that nobody took.
fn nothing_left(args: &[String]) -> Result<()> {
    match args.first() {
        Some(arg) => Err(format!("what is `{arg}`? `cargo xtask help` lists the arguments").into()),
        None => Ok(()),
    }
}
