//! Sessions that open and go: over WebSocket at once, or by long-polling and then upgraded.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::meter::Meter;
use crate::sessions::{Greeting, greet};
use crate::wire::{self, Call, FIRST_ID};
use crate::world::{Event, Flow, World};
use crate::{Options, Result};

const TURN: Duration = Duration::from_millis(50);

/// Opens WebSocket sessions, `window` at a time, and closes each as soon as it is connected to the main namespace.
pub fn connect(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let mut dialled: Vec<Instant> = Vec::new();
    let (mut open, mut lost) = (0, 0);
    meter.start();
    while meter.goes_on(world)? {
        while open < options.window {
            let now = Instant::now();
            let index = world.websocket(None)?;
            if dialled.len() <= index {
                dialled.resize(index + 1, now);
            }
            dialled[index] = now;
            open += 1;
        }
        world.turn(TURN, |index, event, out, now| match greet(&event, out) {
            Greeting::Going => Flow::Keep,
            Greeting::Ready => {
                meter.count(1);
                meter.latency(now.duration_since(dialled[index]));
                open -= 1;
                Flow::Close
            }
            Greeting::Lost => {
                lost += 1;
                open -= 1;
                Flow::Close
            }
        })?;
        if lost > 0 {
            return Err("the server closed a session that was opening".into());
        }
    }
    Ok(Map::new())
}

/// One session that opens by long-polling and moves to WebSocket, as the JavaScript client does it.
struct Climb {
    started: Instant,
    sid: String,
    get: usize,
    post: Option<usize>,
    websocket: Option<usize>,
    polling: bool,
    posting: bool,
    probed: bool,
    upgraded: bool,
}

/// Opens sessions by long-polling, `window` at a time, upgrades each, emits once over the WebSocket and closes.
pub fn upgrade(options: &Options, world: &mut World, meter: &mut Meter) -> Result<Map<String, Value>> {
    let call = Call::new("echo", "\"upgraded\"", "\"upgraded\"");
    let port = world.port;
    let mut climbs: Vec<Option<Climb>> = Vec::new();
    climbs.resize_with(options.window, || None);
    let mut arrived: Vec<(usize, Option<Got>)> = Vec::new();
    enum Got {
        Response(u16, Vec<u8>),
        Opened,
        Text(Vec<u8>),
    }
    meter.start();
    // The climb that a connection belongs to.
    let mut by_connection: Vec<usize> = Vec::new();
    while meter.goes_on(world)? {
        for (number, slot) in climbs.iter_mut().enumerate() {
            if slot.is_none() {
                let (started, get) = (Instant::now(), world.http()?);
                remember(&mut by_connection, get, number);
                world.send(get, |out| wire::get(out, port, None));
                *slot = Some(Climb {
                    started,
                    sid: String::new(),
                    get,
                    post: None,
                    websocket: None,
                    polling: true,
                    posting: false,
                    probed: false,
                    upgraded: false,
                });
            }
        }
        world.turn(TURN, |index, event, _, _| {
            arrived.push((
                index,
                match event {
                    Event::Response(status, body) => Some(Got::Response(status, body.to_vec())),
                    Event::Opened => Some(Got::Opened),
                    Event::Text(text) => Some(Got::Text(text.to_vec())),
                    Event::Binary(_) => None,
                    Event::Closed => None,
                },
            ));
            Flow::Keep
        })?;
        for (index, got) in arrived.drain(..) {
            let number = by_connection.get(index).copied().unwrap_or(usize::MAX);
            let Some(Some(climb)) = climbs.get_mut(number) else { continue };
            match got {
                None if climb.upgraded && Some(index) != climb.websocket => continue,
                None => return Err("the server closed a connection of a session that was being upgraded".into()),
                Some(Got::Response(status, body)) if status != 200 => {
                    return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)).into());
                }
                Some(Got::Response(_, body)) if climb.sid.is_empty() => {
                    climb.sid = wire::sid_of(&body).ok_or("a handshake without a session id")?;
                    let (post, websocket) = (world.http()?, world.websocket(Some(&climb.sid))?);
                    remember(&mut by_connection, post, number);
                    remember(&mut by_connection, websocket, number);
                    (climb.post, climb.websocket, climb.posting) = (Some(post), Some(websocket), true);
                    world.send(post, |out| wire::post(out, port, &climb.sid, b"40"));
                    world.send(climb.get, |out| wire::get(out, port, Some(&climb.sid)));
                }
                Some(Got::Response(..)) if Some(index) == climb.post => climb.posting = false,
                Some(Got::Response(..)) => {
                    climb.polling = false;
                    if !climb.probed {
                        climb.polling = true;
                        world.send(climb.get, |out| wire::get(out, port, Some(&climb.sid)));
                    }
                }
                Some(Got::Opened) => world.send(index, |out| wire::frame(out, wire::TEXT, b"2probe")),
                Some(Got::Text(text)) if text == b"3probe" => climb.probed = true,
                Some(Got::Text(text)) if call.ack_id(&text) == Some(FIRST_ID) => {
                    meter.count(1);
                    meter.latency(climb.started.elapsed());
                    for index in [Some(climb.get), climb.post, climb.websocket].into_iter().flatten() {
                        by_connection[index] = usize::MAX;
                        world.close(index);
                    }
                    climbs[number] = None;
                    continue;
                }
                Some(Got::Text(_)) => {}
            }
            if climb.probed && !climb.polling && !climb.posting && !climb.upgraded {
                climb.upgraded = true;
                let websocket = climb.websocket.ok_or("a probe without a WebSocket")?;
                world.send(websocket, |out| {
                    wire::frame(out, wire::TEXT, b"5");
                    call.stamp(FIRST_ID, out);
                });
            }
        }
    }
    Ok(Map::new())
}

fn remember(list: &mut Vec<usize>, index: usize, number: usize) {
    if list.len() <= index {
        list.resize(index + 1, usize::MAX);
    }
    list[index] = number;
}
