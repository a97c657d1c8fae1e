//! Our client against a real server of another make, one feature a test: what `cargo xtask interop` runs for each server
//! over each transport.
//!
//! `interop_client --peer NAME --transport WAY [--eio3] [--parser msgpack] [--only FEATURE] -- PROGRAM ARGUMENT…` starts the
//! server itself (`interop/EVENTS.md` says what that answers), runs the features, prints TAP, and ends the server. Nobody
//! waits for time to pass, but `heartbeat`: that something did not arrive is shown by a later message that did.

mod features;
mod world;

use std::{
    cell::RefCell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::sync::Semaphore;
use world::{Plan, World};

/// Longer than any feature takes on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
/// So many features are tried at a time.
const AT_ONCE: usize = 4;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::from_args(std::env::args().skip(1))?;
    std::panic::set_hook(Box::new(|panic| LAST.with_borrow_mut(|last| *last = panic.to_string())));
    let world = Arc::new(World::start(plan).await?);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = Vec::new();
    for (name, feature) in features::all(&world) {
        if world.plan.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let (world, permits) = (Arc::clone(&world), Arc::clone(&permits));
        running.push((
            name,
            tokio::spawn(async move {
                let _permit = permits.acquire().await;
                let ended = tokio::time::timeout(BOUND, caught(feature(world))).await;
                ended.unwrap_or_else(|_| Err(format!("not done within {BOUND:?}")))
            }),
        ));
    }
    let (mut number, mut failed) = (0, 0);
    for (name, outcome) in running {
        number += 1;
        match outcome.await? {
            Ok(()) => println!("ok {number} - {name}"),
            Err(why) => {
                failed += 1;
                println!("not ok {number} - {name}");
                why.lines().for_each(|line| println!("# {line:.300}"));
            }
        }
    }
    println!("1..{number}");
    drop(world);
    // Clients of a failed feature may still be about.
    std::process::exit(i32::from(failed > 0));
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a feature, and says what it panicked with.
async fn caught(feature: impl Future<Output = ()>) -> Result<(), String> {
    let mut feature = pin!(feature);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| feature.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(LAST.with_borrow_mut(std::mem::take))),
    })
    .await
}
