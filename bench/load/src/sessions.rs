//! Opening many sessions before a scenario starts.

use std::time::{Duration, Instant};

use crate::world::{Event, Flow, World};
use crate::{Result, wire};

/// How many sessions are opened at a time. Below every server's backlog.
const AT_ONCE: usize = 200;

const DEADLINE: Duration = Duration::from_secs(120);
const TURN: Duration = Duration::from_millis(50);

/// Opens WebSocket sessions that are connected to the main namespace, and returns their connections.
pub fn websockets(world: &mut World, count: usize) -> Result<Vec<usize>> {
    open(world, count, |_, event, out| greet(event, out))
}

/// Opens WebSocket sessions that are connected to as many of the namespaces `/n0`, `/n1`, …, and returns their connections.
pub fn in_namespaces(world: &mut World, count: usize, namespaces: usize) -> Result<Vec<usize>> {
    let mut connected: Vec<usize> = Vec::new();
    open(world, count, |index, event, out| match event {
        Event::Text([b'0', ..]) => {
            for number in 0..namespaces {
                wire::frame(out, wire::TEXT, format!("40/n{number},").as_bytes());
            }
            Greeting::Going
        }
        Event::Text([b'4', b'0', ..]) => {
            connected.resize(connected.len().max(index + 1), 0);
            connected[index] += 1;
            if connected[index] == namespaces { Greeting::Ready } else { Greeting::Going }
        }
        Event::Text(_) | Event::Closed => Greeting::Lost,
        _ => Greeting::Going,
    })
}

fn open(
    world: &mut World,
    count: usize,
    mut greet: impl FnMut(usize, &Event<'_>, &mut Vec<u8>) -> Greeting,
) -> Result<Vec<usize>> {
    let mut opened = Vec::with_capacity(count);
    let (mut dialled, started) = (0, Instant::now());
    while opened.len() < count {
        while dialled < count && dialled - opened.len() < AT_ONCE {
            world.websocket(None)?;
            dialled += 1;
        }
        let mut lost = 0;
        world.turn(TURN, |index, event, out, _| match greet(index, &event, out) {
            Greeting::Ready => {
                opened.push(index);
                Flow::Keep
            }
            Greeting::Going => Flow::Keep,
            Greeting::Lost => {
                lost += 1;
                Flow::Close
            }
        })?;
        if lost > 0 || started.elapsed() > DEADLINE {
            return Err(format!("{} of {count} sessions opened, {lost} lost", opened.len()).into());
        }
    }
    Ok(opened)
}

/// How far the opening of a WebSocket session is.
pub enum Greeting {
    Going,
    Ready,
    Lost,
}

/// The client's part of the opening: connects to the main namespace when the handshake has come.
pub fn greet(event: &Event<'_>, out: &mut Vec<u8>) -> Greeting {
    match event {
        Event::Text([b'0', ..]) => {
            wire::frame(out, wire::TEXT, b"40");
            Greeting::Going
        }
        Event::Text([b'4', b'0', ..]) => Greeting::Ready,
        Event::Closed => Greeting::Lost,
        _ => Greeting::Going,
    }
}

/// A long-polling session: one connection for polls, one for posts.
#[derive(Debug)]
pub struct Polling {
    pub get: usize,
    pub post: usize,
    pub sid: String,
}

/// Opens long-polling sessions that are connected to the main namespace, each with a poll parked.
pub fn pollings(world: &mut World, count: usize) -> Result<Vec<Polling>> {
    #[derive(Default)]
    struct Opening {
        post: Option<usize>,
        sid: String,
        connected: bool,
        posted: bool,
    }
    let mut openings: Vec<Option<Opening>> = Vec::new();
    let mut ready: Vec<Polling> = Vec::with_capacity(count);
    // What each connection is for: (the session's poll connection, whether it is the one for posts).
    let mut owner: Vec<Option<(usize, bool)>> = Vec::new();
    let (mut dialled, started) = (0, Instant::now());
    fn set<T>(list: &mut Vec<Option<T>>, index: usize, value: T) {
        if list.len() <= index {
            list.resize_with(index + 1, || None);
        }
        list[index] = Some(value);
    }
    while ready.len() < count {
        while dialled < count && dialled - ready.len() < AT_ONCE {
            let get = world.http()?;
            let port = world.port;
            world.send(get, |out| wire::get(out, port, None));
            set(&mut openings, get, Opening::default());
            set(&mut owner, get, (get, false));
            dialled += 1;
        }
        let (mut answers, mut problem) = (Vec::new(), None);
        world.turn(TURN, |index, event, _, _| {
            match event {
                Event::Response(200, body) => answers.push((index, body.to_vec())),
                Event::Response(status, body) => {
                    problem = Some(format!("status {status}: {}", String::from_utf8_lossy(body)));
                }
                _ => problem = Some("a connection was closed".to_owned()),
            }
            Flow::Keep
        })?;
        if let Some(problem) = problem {
            return Err(problem.into());
        }
        for (index, body) in answers {
            let Some(Some((get, is_post))) = owner.get(index).copied() else { continue };
            let Some(Some(opening)) = openings.get_mut(get) else { continue };
            let port = world.port;
            if is_post {
                opening.posted = true;
            } else if opening.sid.is_empty() {
                opening.sid = wire::sid_of(&body).ok_or("a handshake without a session id")?;
                let post = world.http()?;
                opening.post = Some(post);
                set(&mut owner, post, (get, true));
                let sid = opening.sid.clone();
                world.send(post, |out| wire::post(out, port, &sid, b"40"));
                world.send(get, |out| wire::get(out, port, Some(&sid)));
            } else {
                let mut pinged = false;
                for packet in body.split(|byte| *byte == 0x1e) {
                    opening.connected |= packet.starts_with(b"40");
                    pinged |= packet == b"2";
                }
                // A server that pings at once gets its pong once the first post is answered; few do.
                if let (true, Some(post)) = (pinged, opening.post) {
                    let sid = opening.sid.clone();
                    world.send(post, |out| wire::post(out, port, &sid, b"3"));
                }
                let sid = opening.sid.clone();
                world.send(get, |out| wire::get(out, port, Some(&sid)));
            }
            if opening.connected && opening.posted {
                let Some(Opening { post: Some(post), sid, .. }) = openings[get].take() else { continue };
                ready.push(Polling { get, post, sid });
            }
        }
        if started.elapsed() > DEADLINE {
            return Err(format!("{} of {count} polling sessions opened", ready.len()).into());
        }
    }
    Ok(ready)
}

/// Keeps sessions alive for a while, answering pings.
pub fn rest(world: &mut World, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        world.turn(TURN, |_, event, _, _| if matches!(event, Event::Closed) { Flow::Close } else { Flow::Keep })?;
    }
    Ok(())
}
