//! The server of [`socketio_testkit::promises`] as a process of its own.
//!
//! `promise-server [--ping-interval MS] [--ping-timeout MS] [--upgrade-timeout MS]` prints `listening on PORT`, answers
//! each line `stats` on standard input with a line of JSON, and ends with its standard input.

use std::{sync::Arc, time::Duration};

use socketio_testkit::promises;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let ledger = Arc::new(promises::Ledger::default());
    let mut builder = promises::builder(&ledger);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok()).map(Duration::from_millis);
        builder = match (option.as_str(), value) {
            ("--ping-interval", Some(value)) => builder.ping_interval(value),
            ("--ping-timeout", Some(value)) => builder.ping_timeout(value),
            ("--upgrade-timeout", Some(value)) => builder.upgrade_timeout(value),
            _ => return Err(std::io::Error::other(format!("what is {option}?"))),
        };
    }
    // A crowd that opens its sessions together comes back late on a slow machine.
    let mut limits = socketio::Limits::default();
    limits.first_activity_timeout = Duration::from_secs(120);
    let running = socketio_testkit::serve(builder.limits(limits)).await?;
    println!("listening on {}", running.addr.port());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if line == "stats" {
            println!("{}", promises::stats(&running.io, &ledger));
        }
    }
    Ok(())
}
