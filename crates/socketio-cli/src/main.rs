//! The `sio` program. A thin caller of the libraries: arguments become settings, settings become a running server.
//!
//! `settings` resolves flags, environment and file into one struct; `serve` runs the server; `site` answers what is not
//! Socket.IO (the page, the official client); `demo` is what the page talks to.

mod adapter;
mod demo;
mod serve;
mod settings;
mod site;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Socket.IO on the command line.
#[derive(Debug, Parser)]
#[command(name = "sio", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves Socket.IO, and a page on which two browser tabs chat.
    #[command(long_about = "Serves Socket.IO, and a page on which two browser tabs chat through namespaces, rooms, \
        acknowledgements and dropped files.\n\nEvery option may also stand in the environment (SIO_LISTEN, SIO_PATH, …) \
        or in a TOML file (`listen = \"127.0.0.1:3000\"`, dashes become underscores). A flag wins over the environment, \
        and that over the file.")]
    Serve(Box<settings::ServeArgs>),
}

/// Exit codes: 0 did it, 2 could not (1 is kept for commands that ask something: the answer is no).
fn main() -> ExitCode {
    let Program { command } = Program::parse();
    let done = match command {
        Command::Serve(args) => args.resolve().and_then(serve::run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("sio: {problem}");
            ExitCode::from(2)
        }
    }
}
