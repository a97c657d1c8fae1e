//! One emit, many receivers: broadcasts, rooms, with sockets that come and go, with sockets that do not read.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::meter::Meter;
use crate::wire::{self, Call, FIRST_ID};
use crate::world::{Event, Flow, World};
use crate::{Options, Result, figures, process, sessions};

const TURN: Duration = Duration::from_millis(50);

/// The events of one cast, as they arrive.
struct Ticks {
    messages: Vec<Vec<u8>>,
    /// The index of the next event, by connection.
    next: Vec<u32>,
}

impl Ticks {
    fn new(options: &Options, connections: &[usize]) -> Self {
        let text = "x".repeat(options.size);
        let messages =
            (0..options.count).map(|index| format!("42[\"tick\",{index},\"{text}\"]").into_bytes()).collect();
        Self { messages, next: vec![0; connections.iter().max().map_or(0, |most| most + 1)] }
    }

    /// Whether the message is the next event for this connection, byte for byte.
    fn take(&mut self, index: usize, message: &[u8]) -> bool {
        let Some(next) = self.next.get_mut(index) else { return false };
        if self.messages.get(*next as usize).is_none_or(|want| want != message) {
            return false;
        }
        *next += 1;
        if *next as usize == self.messages.len() {
            *next = 0;
        }
        true
    }
}

fn unexpected(event: &Event<'_>) -> Box<dyn std::error::Error> {
    match event {
        Event::Text(text) => {
            format!("out of order or unexpected: {}", String::from_utf8_lossy(text.get(..120).unwrap_or(text))).into()
        }
        Event::Closed => "the server closed a session".into(),
        _ => "an unexpected event".into(),
    }
}

/// `count` events in one go to everybody, again as soon as everybody has them all. An operation is one delivery.
pub fn cast(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let connections = sessions::websockets(world, options.connections)?;
    let ask = format!("42[\"cast\",{},{}]", options.count, options.size);
    rounds(options, world, meter, &connections, None, &ask)
}

/// `count` events in one go, asked for by the only connection of one server, to all connections of another, again as soon as
/// they have them all. An operation is one delivery on the other server.
pub fn across(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let (second, _) = options.second.ok_or("two servers are needed, --second says where the other one is")?;
    let mut connections = sessions::websockets(world, 1)?;
    let asker = connections[0];
    world.port = second;
    connections.extend(sessions::websockets(world, options.connections)?);
    let ask = format!("42[\"cast\",{},{}]", options.count, options.size);
    // The asker is a receiver too, of what never leaves its server: it is waited for and not counted.
    rounds(options, world, meter, &connections, Some(asker), &ask)
}

/// `count` events in one go from the only connection of one server to a room that it is in alone, while another server has
/// connections in another room. An operation is one such event: what it costs the other server, it costs for nothing.
pub fn elsewhere(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let (second, _) = options.second.ok_or("two servers are needed, --second says where the other one is")?;
    let here = sessions::websockets(world, 1)?;
    join(world, &here, |_| vec!["here".to_owned()])?;
    world.port = second;
    let there = sessions::websockets(world, options.connections)?;
    join(world, &there, |_| vec!["there".to_owned()])?;
    let ask = format!("42[\"say\",\"here\",{},{}]", options.count, options.size);
    rounds(options, world, meter, &here, None, &ask)
}

/// Rounds of events to all of these, asked for by the first. What reaches `uncounted` is waited for only.
fn rounds(
    options: &Options,
    world: &mut World,
    meter: &mut Meter,
    connections: &[usize],
    uncounted: Option<usize>,
    ask: &str,
) -> Result<Map<String, Value>> {
    let mut ticks = Ticks::new(options, connections);
    let mut missing = 0;
    let mut began = Instant::now();
    let mut problem = None;
    meter.start();
    while problem.is_none() && meter.goes_on(world)? {
        if missing == 0 {
            missing = connections.len() * options.count;
            began = Instant::now();
            world.send(connections[0], |out| wire::frame(out, wire::TEXT, ask.as_bytes()));
        }
        let (mut taken, mut counted) = (0, 0);
        world.turn(TURN, |index, event, _, now| {
            match event {
                Event::Text(text) if ticks.take(index, text) => {
                    taken += 1;
                    if uncounted != Some(index) {
                        counted += 1;
                        // When the last receiver has the first event tells how long a cast takes to reach everybody.
                        if ticks.next[index] == 0 {
                            meter.latency(now.duration_since(began));
                        }
                    }
                }
                event => problem = Some(unexpected(&event)),
            }
            Flow::Keep
        })?;
        missing -= taken;
        meter.count(counted);
    }
    problem.map_or_else(|| Ok(Map::new()), Err)
}

/// Joins rooms with every connection, `names` says which; waits for the acks.
fn join(world: &mut World, connections: &[usize], names: impl Fn(usize) -> Vec<String>) -> Result<()> {
    let mut waiting = 0;
    for (number, &index) in connections.iter().enumerate() {
        let names = names(number);
        waiting += names.len();
        world.send(index, |out| {
            for (id, name) in (FIRST_ID..).zip(&names) {
                wire::frame(out, wire::TEXT, format!("42{id}[\"join\",\"{name}\"]").as_bytes());
            }
        });
    }
    let (started, mut problem) = (Instant::now(), None);
    while waiting > 0 {
        world.turn(TURN, |_, event, _, _| {
            match event {
                Event::Text(text) if text.starts_with(b"43100") => waiting -= 1,
                event => problem = Some(unexpected(&event)),
            }
            Flow::Keep
        })?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if started.elapsed() > Duration::from_secs(30) {
            return Err(format!("{waiting} joins were not acknowledged").into());
        }
    }
    Ok(())
}

/// Rooms of ten sockets; a member of each of `window` rooms says something to its room, again as soon as all ten have it.
///
/// With more rooms than tens of sockets, each ten is in several rooms, one of which is busy at a time.
pub fn rooms(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    const MEMBERS: usize = 10;
    let connections = sessions::websockets(world, options.connections)?;
    let tens = connections.len() / MEMBERS;
    if tens == 0 {
        return Err("rooms of ten need ten connections".into());
    }
    let rooms = if options.rooms == 0 { tens } else { options.rooms };
    join(world, &connections, |number| match number / MEMBERS {
        ten if ten < tens => (ten..rooms).step_by(tens).map(|room| format!("r{room}")).collect(),
        _ => Vec::new(),
    })?;
    let mut ticks = Ticks::new(options, &connections);
    let mut ten_of = vec![0; ticks.next.len()];
    connections.iter().enumerate().for_each(|(number, &index)| ten_of[index] = number / MEMBERS);
    let say = |world: &mut World, room: usize| {
        let text = format!("42[\"say\",\"r{room}\",{},{}]", options.count, options.size);
        world.send(connections[room % tens * MEMBERS], |out| wire::frame(out, wire::TEXT, text.as_bytes()));
    };
    let mut missing = vec![0; tens];
    let mut busy = vec![0; tens];
    let (mut problem, mut done) = (None, Vec::new());
    meter.start();
    let most = options.window.min(rooms.min(tens));
    for number in 0..most {
        let room = number * rooms.min(tens) / most;
        (missing[room], busy[room]) = (MEMBERS * options.count, room);
        say(world, room);
    }
    while problem.is_none() && meter.goes_on(world)? {
        world.turn(TURN, |index, event, _, _| {
            match event {
                Event::Text(text) if ticks.take(index, text) => {
                    meter.count(1);
                    let ten = ten_of[index];
                    missing[ten] -= 1;
                    if missing[ten] == 0 {
                        done.push(busy[ten]);
                    }
                }
                event => problem = Some(unexpected(&event)),
            }
            Flow::Keep
        })?;
        // The next room in the row takes over, so that all rooms get their turn.
        for room in done.drain(..) {
            let mut next = (room + 1) % rooms;
            while missing[next % tens] > 0 {
                next = (next + 1) % rooms;
            }
            (missing[next % tens], busy[next % tens]) = (MEMBERS * options.count, next);
            say(world, next);
        }
    }
    problem.map_or_else(|| Ok(Map::new()), Err)
}

/// Broadcasts to a room of most connections while the others join and leave it without a pause. An operation is a
/// delivery to a connection that stays, or an acknowledged join or leave.
pub fn churn(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let connections = sessions::websockets(world, options.connections)?;
    let movers = connections.len() / 10;
    let (moving, staying) = connections.split_at(movers);
    join(world, staying, |_| vec!["all".to_owned()])?;
    let mut ticks = Ticks::new(options, &connections);
    let calls = [Call::new("join", "\"all\"", ""), Call::new("leave", "\"all\"", "")];
    let mut is_moving = vec![false; ticks.next.len()];
    moving.iter().for_each(|&index| is_moving[index] = true);
    let mut moves = vec![0_u32; ticks.next.len()];
    let ask = format!("42[\"say\",\"all\",{},{}]", options.count, options.size);
    let (mut missing, mut problem) = (0_usize, None);
    let (mut deliveries, mut acks, mut to_movers) = (0_u64, 0_u64, 0_u64);
    meter.start();
    for &index in moving {
        world.send(index, |out| calls[0].stamp(FIRST_ID, out));
    }
    while problem.is_none() && meter.goes_on(world)? {
        if missing == 0 {
            missing = staying.len() * options.count;
            world.send(staying[0], |out| wire::frame(out, wire::TEXT, ask.as_bytes()));
        }
        let mut taken = 0;
        world.turn(TURN, |index, event, out, _| {
            match event {
                // Whether a mover is in the room when a broadcast goes out is chance: what reaches it is only counted.
                Event::Text(text) if is_moving[index] && text.starts_with(b"42[\"tick\"") => to_movers += 1,
                Event::Text(text) if is_moving[index] => {
                    let done = moves[index];
                    if calls[(done % 2) as usize].ack_id(text) == Some(FIRST_ID + done) {
                        acks += 1;
                        meter.count(1);
                        moves[index] = done + 1;
                        calls[((done + 1) % 2) as usize].stamp(FIRST_ID + done + 1, out);
                    } else {
                        problem = Some(unexpected(&event));
                    }
                }
                Event::Text(text) if ticks.take(index, text) => {
                    taken += 1;
                    meter.count(1);
                }
                event => problem = Some(unexpected(&event)),
            }
            Flow::Keep
        })?;
        deliveries += taken as u64;
        missing -= taken;
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(figures([
            ("deliveries", json!(deliveries)),
            ("moves", json!(acks)),
            ("deliveries_to_movers", json!(to_movers)),
        ])),
    }
}

/// Broadcasts while one connection in fifty does not read. An operation is a delivery to one that does.
pub fn slow(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let connections = sessions::websockets(world, options.connections)?;
    let (slow, quick) = connections.split_at((connections.len() / 50).max(1));
    for &index in slow {
        world.ignore(index)?;
    }
    let ask = format!("42[\"cast\",{},{}]", options.count, options.size);
    let mut ticks = Ticks::new(options, &connections);
    let (mut missing, mut problem, mut casts) = (0, None, 0_u64);
    let before = process::memory(options.pid).0;
    meter.start();
    let mut began = Instant::now();
    while problem.is_none() && meter.goes_on(world)? {
        if missing == 0 {
            (missing, began, casts) = (quick.len() * options.count, Instant::now(), casts + 1);
            world.send(quick[0], |out| wire::frame(out, wire::TEXT, ask.as_bytes()));
        }
        let mut taken = 0;
        world.turn(TURN, |index, event, _, now| {
            match event {
                Event::Text(text) if ticks.take(index, text) => {
                    taken += 1;
                    if ticks.next[index] == 0 {
                        meter.latency(now.duration_since(began));
                    }
                }
                event => problem = Some(unexpected(&event)),
            }
            Flow::Keep
        })?;
        missing -= taken;
        meter.count(taken as u64);
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    let after = process::memory(options.pid).0;
    let cut = slow.iter().filter(|&&index| world.was_cut(index)).count();
    Ok(figures([
        ("slow", json!(slow.len())),
        ("slow_cut", json!(cut)),
        ("offered_kib_each", json!(casts * (options.count * options.size) as u64 / 1024)),
        ("memory_growth_kib", json!(after - before)),
    ]))
}
