//! Good clients: they come on either transport, ask and are told things all the time, check every answer, and go.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Kind, RawClient, Rng};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::world::{World, add};

const GROUP: u8 = 1;
/// Whoever waits longer than this has noticed something.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions, and between two events of the server.
const PERIOD: Duration = Duration::from_secs(1);
/// The id of the last question; the others count from 0.
const LAST: u64 = 1 << 40;

/// One good client, session after session, until everybody leaves.
pub(crate) async fn run(world: Arc<World>, number: u64) {
    let mut rng = world.rng(GROUP, number);
    // They do not come all at once.
    let spread = (world.plan.time / 4).min(Duration::from_secs(10));
    world.pause(Duration::from_millis(rng.below(spread.as_millis() as u64))).await;
    while !world.is_ending() {
        match session(&world, number, &mut rng).await {
            Ok(()) => add(&world.sessions, 1),
            Err(what) => world.faults.add(format!("good client {number}: {what}")),
        }
        world.pause(Duration::from_millis(rng.below(500))).await;
    }
}

async fn session(world: &World, number: u64, rng: &mut Rng) -> Result<(), String> {
    let endpoint = world.endpoint(GROUP, number);
    // Half begin on WebSocket, a quarter upgrades, a quarter polls.
    let (websocket, upgrades) = (number.is_multiple_of(2), number % 4 == 1);
    let mut client = {
        let _permit = world.opening.acquire().await.map_err(|error| error.to_string())?;
        let began = Instant::now();
        let connect = async {
            let mut client = match websocket {
                true => RawClient::websocket(&endpoint).await?,
                false => RawClient::polling(&endpoint).await?,
            };
            client.connect("/", None).await?;
            Ok(client)
        };
        let client = patiently("connect", connect).await?;
        world.connects.record(began.elapsed());
        client
    };
    let life = if world.plan.short { 2_000 + rng.below(5_000) } else { 5_000 + rng.below(35_000) };
    let leave = Instant::now() + Duration::from_millis(life);
    let mut upgrade = upgrades.then(|| Instant::now() + Duration::from_millis(rng.below(2_000)));
    let mut ticks = interval_at(Instant::now() + Duration::from_millis(rng.below(1_000)), PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    client.queue_event("/", None, "flow", &[json!(1)]);

    let mut asked: VecDeque<(u64, Instant)> = VecDeque::new();
    let (mut next, mut told) = (0, 0);
    let mut stopped: Option<Instant> = None;
    let counts = 'session: loop {
        while let Some(packet) = client.ready().map_err(words)? {
            match packet.kind {
                Kind::Ack if packet.id == Some(LAST) => break 'session packet.data,
                Kind::Ack => match asked.pop_front() {
                    Some((id, at)) if packet.id == Some(id) && packet.number() == Some(id) => {
                        world.answers.record(at.elapsed());
                    }
                    other => return Err(format!("answered with {packet:?} in place of {other:?}")),
                },
                _ if packet.args_of("down").is_some() && packet.number() == Some(told) => told += 1,
                _ => return Err(format!("told {packet:?}, in place of {told}")),
            }
        }
        let now = Instant::now();
        if stopped.is_none() && (now >= leave || world.is_ending()) {
            // The last word: its answer tells what the server has counted.
            client.queue_event("/", Some(LAST), "stop", &[]);
            stopped = Some(now);
        }
        if asked.is_empty() && stopped.is_none() && upgrade.is_some_and(|at| at <= now) {
            upgrade = None;
            patiently("upgrade", client.upgrade()).await?;
            continue;
        }
        let oldest = asked.front().map(|(_, at)| *at).or(stopped);
        if let Some(at) = oldest.filter(|at| now >= *at + PATIENCE) {
            return Err(format!("not answered for {:?}", at.elapsed()));
        }
        let alarm = [oldest.map(|at| at + PATIENCE), stopped.is_none().then_some(leave), upgrade];
        let alarm = alarm.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(now + PATIENCE);
        tokio::select! {
            _ = ticks.tick(), if stopped.is_none() => {
                client.queue_event("/", Some(next), "seq", &[json!(next)]);
                asked.push_back((next, Instant::now()));
                next += 1;
            }
            driven = client.drive() => driven.map_err(words)?,
            () = sleep_until(alarm) => {}
            () = world.ending(), if stopped.is_none() => {}
        }
    };
    add(&world.received, told);
    let want = json!([told, next, 0]);
    if counts != want || !asked.is_empty() {
        return Err(format!(
            "the server counts {counts} (sent, got, faults), the client {want}, {} asked",
            asked.len()
        ));
    }
    match rng.below(3) {
        0 => patiently("goodbye", client.goodbye()).await?,
        1 => client.cut(),
        _ => client.reset(),
    }
    Ok(())
}

async fn patiently<T>(what: &str, does: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, does).await {
        Ok(done) => done.map_err(|error| format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: nothing for {PATIENCE:?}")),
    }
}

fn words(error: io::Error) -> String {
    error.to_string()
}
