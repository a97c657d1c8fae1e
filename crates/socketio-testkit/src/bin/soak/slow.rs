//! Slow readers: half of them get everything in the end, because the server keeps pace; the others do not read at all and
//! are let go.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::RawClient;
use tokio::time::timeout;

use crate::world::{World, add};

const GROUP: u8 = 2;
/// Half of what may wait, and a little more.
const PACED: (u64, usize) = (150, 16 << 10);
/// More than may wait. What the kernel takes may be just enough to get away with it.
const PARTS: (u64, usize) = (120, 64 << 10);

/// One slow reader, session after session, until everybody leaves.
pub(crate) async fn run(world: Arc<World>, number: u64) {
    let mut rng = world.rng(GROUP, number);
    while !world.is_ending() {
        world.pause(Duration::from_millis(1_000 + rng.below(3_000))).await;
        tokio::select! {
            read = session(&world, number) => {
                add(&world.slow.made, 1);
                match read {
                    Ok(true) => {}
                    Ok(false) => add(&world.slow.ended, 1),
                    Err(what) => world.faults.add(format!("slow reader {number}: {what}")),
                }
            }
            () = world.ending() => {}
        }
    }
}

/// Whether it got everything; if not, the server let it go.
async fn session(world: &World, number: u64) -> io::Result<bool> {
    let mut endpoint = world.endpoint(GROUP, number);
    let websocket = number % 4 < 2;
    let paced = number.is_multiple_of(2);
    // An answer to a poll that takes longer than a ping may is the end of any session, so that one who means to stay is
    // slow in asking.
    if websocket || !paced {
        endpoint.receive_buffer = Some(4_096);
    }
    let dawdle = Duration::from_millis(if websocket { 100 } else { 1_000 });
    let mut client = match websocket {
        true => RawClient::websocket(&endpoint).await?,
        false => RawClient::polling(&endpoint).await?,
    };
    client.connect("/trouble", None).await?;
    if paced {
        client.queue_event("/trouble", None, "paced", &[json!(PACED.0), json!(PACED.1)]);
        client.flush().await?;
        let mut got = 0;
        while got < PACED.0 {
            while let Some(packet) = client.ready()? {
                if packet.number() != Some(got) {
                    return Err(io::Error::other(format!("got {:?} in place of {got}", packet.number())));
                }
                got += 1;
            }
            timeout(client.patience, client.drive()).await??;
            tokio::time::sleep(dawdle).await;
        }
        client.goodbye().await?;
        return Ok(true);
    }
    client.queue_event("/trouble", None, "parts", &[json!(PARTS.0), json!(PARTS.1)]);
    if client.flush().await.is_err() {
        // On polling it may hear of its end while it still waits for the answer.
        return Ok(false);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // More was sent than may wait: either it is let go, or the rest comes.
    for _ in 0..PARTS.0 {
        match client.next().await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Err(_) => return Ok(false),
        }
    }
    client.goodbye().await?;
    Ok(true)
}
