//! Emits that ask for an ack: as many out as the window allows, or at a fixed rate, over WebSocket or long-polling.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::meter::Meter;
use crate::wire::{self, Call, FIRST_ID};
use crate::world::{Event, Flow, World};
use crate::{Options, Result, figures, sessions};

const TURN: Duration = Duration::from_millis(50);

/// The emits of one connection that wait for their ack, in the order of their ids.
#[derive(Debug)]
struct Out {
    waiting: VecDeque<(u32, Instant)>,
    next_id: u32,
    /// One above the highest id that was acknowledged.
    seen: u32,
    /// The id of the ack whose attachment is still to come.
    attachment_of: Option<u32>,
}

impl Default for Out {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next_id: FIRST_ID, seen: 0, attachment_of: None }
    }
}

impl Out {
    fn emit(&mut self, at: Instant) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back((id, at));
        id
    }

    /// Takes an ack off; when its emit was due.
    fn acknowledge(&mut self, id: u32, meter: &mut Meter) -> Result<Instant> {
        let position = self.waiting.iter().position(|(waiting, _)| *waiting == id);
        let Some((_, at)) = position.and_then(|position| self.waiting.remove(position)) else {
            return Err(format!("an ack of {id}, which was not out").into());
        };
        if id < self.seen {
            meter.count_out_of_order();
        }
        self.seen = self.seen.max(id + 1);
        Ok(at)
    }

    /// What a message means: the emit that it finishes.
    fn finished(&mut self, event: &Event<'_>, call: &Call, meter: &mut Meter) -> Result<Option<Instant>> {
        match event {
            Event::Text(text) => {
                let Some(id) = call.ack_id(text) else {
                    return Err(format!("unexpected message {}", shown(text)).into());
                };
                if call.attachment.is_some() {
                    self.attachment_of = Some(id);
                    return Ok(None);
                }
                self.acknowledge(id, meter).map(Some)
            }
            Event::Binary(bytes) => match (self.attachment_of.take(), &call.attachment) {
                (Some(id), Some(want)) if bytes == want => self.acknowledge(id, meter).map(Some),
                _ => Err("an unexpected attachment".into()),
            },
            Event::Closed => Err("the server closed a session".into()),
            _ => Ok(None),
        }
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..200).unwrap_or(text)).into_owned()
}

/// The events that a connection emits in turn: one, or one for each of its namespaces.
fn calls(options: &Options) -> Vec<Call> {
    if options.namespaces == 0 {
        return vec![call(options)];
    }
    let text = format!("\"{}\"", text(options.size));
    (0..options.namespaces).map(|number| Call::within(&format!("/n{number}"), "echo", &text, &text)).collect()
}

fn text(size: usize) -> String {
    (0..size).map(|index| char::from(b'a' + (index % 26) as u8)).collect()
}

/// The event that a scenario emits.
fn call(options: &Options) -> Call {
    match options.scenario.as_str() {
        "obj" => {
            let order = order();
            Call::new("obj", &order, &order)
        }
        "bin" => Call::binary("bin", (0..options.size).map(|index| (index * 7 + 3) as u8).collect()),
        _ => {
            let text = format!("\"{}\"", text(options.size));
            Call::new("echo", &text, &text)
        }
    }
}

/// 512 bytes of objects, in the order of the fields of the servers' structs.
fn order() -> String {
    let mut lines = String::new();
    for (index, title) in ["Espresso cups, set of six", "Milk jug \\\"Barista\\\"", "Hand grinder"].iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        lines += &format!(
            r#"{comma}{{"sku":"KX-40{index}1","title":"{title}","quantity":{},"price":{}.5}}"#,
            index + 1,
            12 + index * 7
        );
    }
    format!(
        r#"{{"id":8123456,"customer":{{"name":"Ada Lovelace","email":"ada@example.org","tags":["early","bulk","eu"]}},"lines":[{lines}],"paid":true,"note":"Please ring twice; the courier left the last parcel with the neighbours. Invoice by mail to the accounting department as always, and thank you for the quick delivery."}}"#
    )
}

/// `window` emits of every connection out at any time. With namespaces, which come in turn, only one.
pub fn closed_loop(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let calls = calls(options);
    let call = |id: u32| &calls[(id - FIRST_ID) as usize % calls.len()];
    let (connections, window) = match options.namespaces {
        0 => (sessions::websockets(world, options.connections)?, options.window),
        namespaces => (sessions::in_namespaces(world, options.connections, namespaces)?, 1),
    };
    let mut outs: Vec<Out> = Vec::new();
    outs.resize_with(connections.iter().max().map_or(0, |most| most + 1), Out::default);
    meter.start();
    for &index in &connections {
        let (state, now) = (&mut outs[index], Instant::now());
        world.send(index, |out| {
            for _ in 0..window {
                let id = state.emit(now);
                call(id).stamp(id, out);
            }
        });
    }
    let mut problem = None;
    while problem.is_none() && meter.goes_on(world)? {
        world.turn(TURN, |index, event, out, now| {
            let state = &mut outs[index];
            let oldest = state.waiting.front().map_or(FIRST_ID, |(id, _)| *id);
            match state.finished(&event, call(oldest), meter) {
                Ok(Some(emitted)) => {
                    meter.count(1);
                    meter.latency(now.duration_since(emitted));
                    let id = state.emit(now);
                    call(id).stamp(id, out);
                }
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
            Flow::Keep
        })?;
    }
    problem.map_or_else(|| Ok(Map::new()), Err)
}

/// A fixed number of emits a second, whatever the server does. Latency counts from when an emit was due, so that a server
/// that stops for a while is charged for all that came late because of it.
pub fn open_loop(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let call = call(options);
    let connections = sessions::websockets(world, options.connections)?;
    let mut outs: Vec<Out> = Vec::new();
    outs.resize_with(connections.iter().max().map_or(0, |most| most + 1), Out::default);
    meter.start();
    let (started, interval) = (Instant::now(), 1.0 / options.rate);
    let (mut emitted, mut latest, mut problem) = (0_u64, Duration::ZERO, None);
    while problem.is_none() && meter.goes_on(world)? {
        let now = Instant::now();
        loop {
            let due = started + Duration::from_secs_f64(emitted as f64 * interval);
            if due > now {
                break;
            }
            latest = latest.max(now - due);
            let index = connections[emitted as usize % connections.len()];
            let state = &mut outs[index];
            if state.waiting.len() > 100_000 {
                return Err("the server does not keep up with the rate".into());
            }
            world.send(index, |out| call.stamp(state.emit(due), out));
            emitted += 1;
        }
        world.turn(Duration::ZERO, |index, event, _, now| {
            match outs[index].finished(&event, &call, meter) {
                Ok(Some(due)) => {
                    meter.count(1);
                    meter.latency(now.saturating_duration_since(due));
                }
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
            Flow::Keep
        })?;
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(figures([("latest_emit_us", json!(latest.as_micros() as u64))])),
    }
}

/// `window` emits of every long-polling session out: each poll's acks are answered with as many emits in one post.
pub fn polling(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let call = call(options);
    let opened = sessions::pollings(world, options.connections)?;
    struct Session {
        out: Out,
        sid: String,
        posting: bool,
        /// Emits that may go with the next post, and pongs.
        credit: usize,
        pongs: usize,
    }
    let most = opened.iter().map(|session| session.get.max(session.post)).max().map_or(0, |most| most + 1);
    let mut owner = vec![(0, false, 0); most];
    let mut all = Vec::with_capacity(opened.len());
    for (number, session) in opened.into_iter().enumerate() {
        owner[session.get] = (number, false, session.post);
        owner[session.post] = (number, true, session.post);
        let out = Out::default();
        all.push((session.post, Session { out, sid: session.sid, posting: false, credit: options.window, pongs: 0 }));
    }
    meter.start();
    let port = world.port;
    let mut body = Vec::new();
    let mut post = |session: &mut Session, out: &mut Vec<u8>, now: Instant| {
        body.clear();
        for index in 0..session.credit + session.pongs {
            if index > 0 {
                body.push(0x1e);
            }
            if index < session.credit {
                call.write_text(session.out.emit(now), &mut body);
            } else {
                body.push(b'3');
            }
        }
        (session.credit, session.pongs, session.posting) = (0, 0, true);
        wire::post(out, port, &session.sid, &body);
    };
    for (index, session) in &mut all {
        world.send(*index, |out| post(session, out, Instant::now()));
    }
    let (mut problem, mut to_post) = (None, Vec::new());
    while problem.is_none() && meter.goes_on(world)? {
        world.turn(TURN, |index, event, out, now| {
            let (number, is_post, _) = owner[index];
            let session = &mut all[number].1;
            match event {
                Event::Response(200, _) if is_post => {
                    session.posting = false;
                    if session.credit + session.pongs > 0 {
                        post(session, out, now);
                    }
                }
                Event::Response(200, packets) => {
                    for packet in packets.split(|byte| *byte == 0x1e) {
                        match packet {
                            b"2" => session.pongs += 1,
                            b"6" => {}
                            _ => match session.out.finished(&Event::Text(packet), &call, meter) {
                                Ok(Some(emitted)) => {
                                    meter.count(1);
                                    meter.latency(now.duration_since(emitted));
                                    session.credit += 1;
                                }
                                Ok(None) => {}
                                Err(error) => problem = Some(error),
                            },
                        }
                    }
                    wire::get(out, port, Some(&session.sid));
                    to_post.push(number);
                }
                Event::Response(status, body) => problem = Some(format!("status {status}: {}", shown(body)).into()),
                _ => problem = Some("the server closed a connection".into()),
            }
            Flow::Keep
        })?;
        for number in to_post.drain(..) {
            let (index, session) = &mut all[number];
            if !session.posting && session.credit + session.pongs > 0 {
                world.send(*index, |out| post(session, out, Instant::now()));
            }
        }
    }
    problem.map_or_else(|| Ok(Map::new()), Err)
}
