//! Memory of connections that do nothing, in the server and in the kernel, what remains when they have left, and what their
//! heartbeats cost.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::process::Kernel;
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
    let (cpu, kernel) = (process::cpu(options.pid), process::kernel());
    open(options, world, options.connections)?;
    let opening = process::cpu(options.pid) - cpu;
    sessions::rest(world, SETTLE)?;
    let (full, full_anonymous) = process::memory(options.pid);
    let kernel = grown(&kernel, &process::kernel());
    let (cpu, from) = (process::cpu(options.pid), Instant::now());
    sessions::rest(world, SETTLE)?;
    let idle = (process::cpu(options.pid) - cpu).total / from.elapsed().as_secs_f64();
    world.close_all();
    std::thread::sleep(AFTERWARDS);
    let (left, left_anonymous) = process::memory(options.pid);
    // Whether what was left is used again.
    open(options, world, options.connections)?;
    sessions::rest(world, SETTLE)?;
    let again = process::memory(options.pid).0;
    let each = |kib: f64| kib / options.connections as f64;
    Ok(json!({
        "scenario": options.scenario,
        "options": options.echo(),
        "empty_kib": empty,
        "kib_each": each(full - empty),
        "kib_each_anonymous": each(full_anonymous - empty_anonymous),
        "left_kib_each": each(left - empty),
        "again_kib_each": each(again - empty),
        "left_kib_each_anonymous": each(left_anonymous - empty_anonymous),
        "opening_cpu_per_million": opening.total / options.connections as f64 * 1e6,
        "idle_cpu_share": idle,
        "kernel": kernel,
    }))
}

/// What the kernel holds for one socket more. The connections have both their ends here; a server pays for one.
fn grown(before: &Kernel, after: &Kernel) -> Value {
    let sockets = after.sockets - before.sockets;
    if sockets < 1.0 {
        return Value::Null;
    }
    let buffers = (after.buffers - before.buffers) / sockets;
    let mut caches = Map::new();
    let mut kib_each = buffers;
    for (name, (objects, kib)) in &after.caches {
        let (had_objects, had_kib) = before.caches.get(name).copied().unwrap_or_default();
        // Other processes use most of these caches too. What did not grow with the sockets is theirs.
        let objects = (objects - had_objects) / sockets;
        if objects > 0.1 {
            kib_each += (kib - had_kib) / sockets;
            caches.insert((*name).to_owned(), json!({ "objects": objects, "kib": (kib - had_kib) / sockets }));
        }
    }
    json!({ "sockets": sockets, "kib_each": kib_each, "buffers_kib_each": buffers, "caches": caches })
}

/// What a heartbeat costs: sessions that do nothing but answer pings. An operation is one ping and its pong.
pub fn pings(options: &Options, world: &mut World) -> Result<Value> {
    drop(sessions::websockets(world, options.connections)?);
    sessions::rest(world, SETTLE)?;
    let (cpu, pings, from) = (process::cpu(options.pid), world.pings(), Instant::now());
    sessions::rest(world, options.seconds)?;
    let spent = process::cpu(options.pid) - cpu;
    let pings = world.pings() - pings;
    if pings == 0 {
        return Err(format!("no ping came in {} s", options.seconds.as_secs()).into());
    }
    Ok(json!({
        "scenario": options.scenario,
        "options": options.echo(),
        "operations": pings,
        "rate": pings as f64 / from.elapsed().as_secs_f64(),
        "cpu_per_million": spent.total / pings as f64 * 1e6,
        "server_user_share": spent.user / (spent.user + spent.system).max(1e-9),
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
