//! Memory of connections that do nothing, and what remains when they have left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Event, Flow, World};
use crate::{Options, Result, process, sessions, wire};

/// How many connections come and go before memory is first looked at: code and tables that every server needs.
const FIRST: usize = 100;
const SETTLE: Duration = Duration::from_secs(1);
/// How long the server may take to give memory back.
const AFTERWARDS: Duration = Duration::from_secs(4);

pub fn memory(options: &Options, world: &mut World) -> Result<Value> {
    open(options, world, FIRST)?;
    sessions::rest(world, SETTLE)?;
    world.close_all();
    std::thread::sleep(SETTLE);
    let (empty, empty_anonymous) = process::memory(options.pid);
    let cpu = process::cpu(options.pid);
    open(options, world, options.connections)?;
    let opening = process::cpu(options.pid) - cpu;
    sessions::rest(world, SETTLE)?;
    let (full, full_anonymous) = process::memory(options.pid);
    let (cpu, from) = (process::cpu(options.pid), Instant::now());
    sessions::rest(world, SETTLE)?;
    let idle = (process::cpu(options.pid) - cpu).total / from.elapsed().as_secs_f64();
    world.close_all();
    std::thread::sleep(AFTERWARDS);
    let (left, left_anonymous) = process::memory(options.pid);
    let each = |kib: f64| kib / options.connections as f64;
    Ok(json!({
        "scenario": options.scenario,
        "options": options.echo(),
        "empty_kib": empty,
        "kib_each": each(full - empty),
        "kib_each_anonymous": each(full_anonymous - empty_anonymous),
        "left_kib_each": each(left - empty),
        "left_kib_each_anonymous": each(left_anonymous - empty_anonymous),
        "opening_cpu_per_million": opening.total / options.connections as f64 * 1e6,
        "idle_cpu_share": idle,
    }))
}

fn open(options: &Options, world: &mut World, count: usize) -> Result<()> {
    match options.scenario.as_str() {
        "idle-websocket" => drop(sessions::websockets(world, count)?),
        "idle-polling" => {
            for session in sessions::pollings(world, count)? {
                world.close(session.post);
            }
        }
        _ => requests(world, count)?,
    }
    Ok(())
}

/// Connections that have had one request answered and stay open for the next: what HTTP itself costs.
fn requests(world: &mut World, count: usize) -> Result<()> {
    let (mut asked, mut answered, started) = (0, 0, Instant::now());
    while answered < count {
        while asked < count && asked - answered < 200 {
            let (index, port) = (world.http()?, world.port);
            world.send(index, |out| wire::get_elsewhere(out, port));
            asked += 1;
        }
        let mut lost = false;
        world.turn(Duration::from_millis(50), |_, event, _, _| {
            match event {
                Event::Response(..) => answered += 1,
                _ => lost = true,
            }
            Flow::Keep
        })?;
        if lost || started.elapsed() > Duration::from_secs(60) {
            return Err(format!("{answered} of {count} requests were answered").into());
        }
    }
    Ok(())
}
