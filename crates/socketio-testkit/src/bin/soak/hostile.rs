//! Hostile clients of ten kinds. Each does its worst again and again, for as long as the server lets it.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Endpoint, Http, RawClient, Rng, WebSocket};
use tokio::time::{sleep, timeout};

use crate::world::{Only, World, add};

const GROUP: u8 = 66;
/// An attack that the server only endures ends after this time.
const ATTACK: Duration = Duration::from_secs(90);

/// What a hostile client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Garbage,
    Oversize,
    NeverPolling,
    SlowHeaders,
    SlowBody,
    EndlessAttachments,
    PingFlood,
    NeverAnswering,
    AbortedUpgrades,
    AckFlood,
}

/// All of them, with their names and whether the server has to end what they do.
pub(crate) const KINDS: [(Kind, &str, bool); 10] = [
    (Kind::Garbage, "garbage frames", true),
    (Kind::Oversize, "oversize", true),
    (Kind::NeverPolling, "never polling", false),
    (Kind::SlowHeaders, "slow headers", true),
    (Kind::SlowBody, "slow body", true),
    (Kind::EndlessAttachments, "endless attachments", true),
    (Kind::PingFlood, "ping flood", false),
    (Kind::NeverAnswering, "never answering pings", true),
    (Kind::AbortedUpgrades, "aborted upgrades", false),
    (Kind::AckFlood, "ack flood", false),
];

/// One hostile client, attack after attack, until everybody leaves.
pub(crate) async fn run(world: Arc<World>, number: u64) {
    let at = match world.plan.only {
        Some(Only::Hostile(at)) => at,
        _ => number as usize % KINDS.len(),
    };
    let mut rng = world.rng(GROUP, number);
    let endpoint = world.endpoint(GROUP, number);
    // A short run is one of a build without optimization: a flood for it is less.
    let flood = if world.plan.short { 50 } else { 500 };
    while !world.is_ending() {
        world.pause(Duration::from_millis(100 + rng.below(900))).await;
        tokio::select! {
            ended = timeout(ATTACK, attack(KINDS[at].0, &endpoint, &mut rng, flood)) => {
                add(&world.attacks[at].made, 1);
                // An error is a connection that broke under the attack.
                if matches!(ended, Ok(Ok(true) | Err(_))) {
                    add(&world.attacks[at].ended, 1);
                }
            }
            () = world.ending() => {}
        }
    }
}

/// Whether the server ended it.
async fn attack(kind: Kind, endpoint: &Endpoint, rng: &mut Rng, flood: u64) -> io::Result<bool> {
    match kind {
        Kind::Garbage => garbage(endpoint, rng).await,
        Kind::Oversize => oversize(endpoint, rng).await,
        Kind::NeverPolling => {
            // Sessions that nobody will ever ask for, three quarters of them with a namespace.
            for _ in 0..10 {
                let mut client = RawClient::polling(endpoint).await?;
                if !rng.one_in(4) {
                    client.queue_connect("/", None);
                    let _ = timeout(Duration::from_secs(1), client.flush()).await;
                }
                client.reset();
            }
            Ok(false)
        }
        Kind::SlowHeaders => {
            let mut http = connect(endpoint).await?;
            http.queue(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
            dribble(&mut http).await
        }
        Kind::SlowBody => {
            let client = RawClient::polling(endpoint).await?;
            let mut http = connect(endpoint).await?;
            let target = endpoint.target("polling", Some(client.sid()));
            http.queue(
                format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n").as_bytes(),
            );
            dribble(&mut http).await
        }
        Kind::EndlessAttachments => attachments(endpoint, rng).await,
        Kind::PingFlood => {
            let mut client = joined(endpoint, "/").await?;
            for round in 0..50_u8 {
                for _ in 0..flood {
                    client.queue_raw(&frame(0x89, &[round; 100]));
                }
                // A ping of Engine.IO, in the wrong direction.
                client.queue_packet("2");
                if !pressed(&mut client).await? {
                    break;
                }
            }
            Ok(false)
        }
        Kind::NeverAnswering => {
            let mut client = match rng.one_in(2) {
                true => joined(endpoint, "/").await?,
                false => {
                    let mut client = RawClient::polling(endpoint).await?;
                    client.connect("/", None).await?;
                    client
                }
            };
            client.pongs = false;
            client.rest().await?;
            Ok(true)
        }
        Kind::AbortedUpgrades => aborted_upgrade(endpoint, rng).await,
        Kind::AckFlood => {
            let mut client = joined(endpoint, "/trouble").await?;
            // Questions that are never answered, and answers that nobody has asked for.
            client.queue_event("/trouble", None, "questions", &[json!(200)]);
            for _ in 0..20 {
                for _ in 0..flood {
                    client.queue_packet(&format!("43/trouble,{}[1]", 1_000_000 + rng.below(1 << 50)));
                }
                client.queue_event("/trouble", Some(rng.below(1 << 50)), "nobody handles this", &[]);
                if !pressed(&mut client).await? {
                    break;
                }
            }
            client.reset();
            Ok(false)
        }
    }
}

async fn garbage(endpoint: &Endpoint, rng: &mut Rng) -> io::Result<bool> {
    let noise: Vec<u8> = (0..1 + rng.below(2_000)).map(|_| rng.next_u64() as u8).collect();
    let choice = rng.below(7);
    if choice == 0 {
        // Not even HTTP.
        let mut http = connect(endpoint).await?;
        http.queue(&noise);
        http.queue(b"\r\n\r\n");
        return Ok(http.answer().await.is_ok_and(|answer| answer.status >= 400));
    }
    if choice == 1 {
        let mut client = RawClient::polling(endpoint).await?;
        client.connect("/", None).await?;
        let mut http = connect(endpoint).await?;
        http.queue_post(&endpoint.target("polling", Some(client.sid())), "text/plain", &noise);
        return Ok(http.answer().await?.status >= 400);
    }
    let mut client = joined(endpoint, "/").await?;
    let bytes = match choice {
        2 => noise,
        // Text that is not UTF-8, in the middle of a character.
        3 => frame(0x81, b"42[\"\xe2\x82\"]"),
        // A reserved opcode.
        4 => frame(0x83, b"42[\"a\"]"),
        // Not a packet of Engine.IO, and one of Socket.IO that is no JSON.
        5 => frame(0x81, "9ä€😀".as_bytes()),
        _ => frame(0x81, "42[\"😀\",{\"a\":".as_bytes()),
    };
    client.queue_raw(&bytes);
    // Whatever random bytes mean, what comes behind them is no frame.
    client.queue_raw(&[0xff; 64]);
    client.flush().await?;
    client.rest().await?;
    Ok(true)
}

async fn oversize(endpoint: &Endpoint, rng: &mut Rng) -> io::Result<bool> {
    match rng.below(4) {
        0 => {
            let client = RawClient::polling(endpoint).await?;
            let mut http = connect(endpoint).await?;
            let target = endpoint.target("polling", Some(client.sid()));
            http.queue(
                format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n").as_bytes(),
            );
            http.queue(&vec![b'x'; 200_000]);
            Ok(http.answer().await?.status == 413)
        }
        1 => {
            // The header of a terabyte.
            let mut client = joined(endpoint, "/").await?;
            client.queue_raw(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
            client.flush().await?;
            client.rest().await?;
            Ok(true)
        }
        2 => {
            let mut client = joined(endpoint, "/").await?;
            client.queue_event("/", None, "echo", &[json!("x".repeat(1_000_001))]);
            client.flush().await?;
            client.rest().await?;
            Ok(true)
        }
        _ => {
            // Fragments without end.
            let mut client = joined(endpoint, "/").await?;
            client.queue_raw(&frame(0x01, b"42[\""));
            loop {
                for _ in 0..20 {
                    client.queue_raw(&frame(0x00, &[b'x'; 10_000]));
                }
                if !pressed(&mut client).await? {
                    return Ok(true);
                }
            }
        }
    }
}

async fn attachments(endpoint: &Endpoint, rng: &mut Rng) -> io::Result<bool> {
    let mut client = joined(endpoint, "/").await?;
    match rng.below(3) {
        0 => client.queue_packet(r#"4599999999-["echo",{"_placeholder":true,"num":0}]"#),
        1 => {
            // Each would do, all together do not.
            client.queue_packet(&placeholders(10));
            for _ in 0..10 {
                client.queue_binary(&vec![7; 300_000]);
            }
        }
        _ => {
            // The last one never comes.
            client.queue_packet(&placeholders(10));
            for _ in 0..9 {
                client.queue_binary(&[7; 1_000]);
            }
        }
    }
    client.flush().await?;
    client.patience = ATTACK;
    client.rest().await?;
    Ok(true)
}

pub(crate) fn placeholders(count: usize) -> String {
    let each: Vec<String> = (0..count).map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
    format!(r#"45{count}-["echo",{}]"#, each.join(","))
}

async fn aborted_upgrade(endpoint: &Endpoint, rng: &mut Rng) -> io::Result<bool> {
    let mut client = RawClient::polling(endpoint).await?;
    client.connect("/", None).await?;
    let target = endpoint.target("websocket", Some(client.sid()));
    match rng.below(5) {
        0 => WebSocket::open(endpoint, Some(client.sid())).await?.reset(),
        1 => client.probe().await?.reset(),
        2 => {
            // The last step without the first.
            let mut candidate = WebSocket::open(endpoint, Some(client.sid())).await?;
            candidate.queue_text("5");
            candidate.flush().await?;
            while candidate.next().await?.is_some() {}
        }
        3 => {
            // It never says a word.
            let _silent = WebSocket::open(endpoint, Some(client.sid())).await?;
            sleep(Duration::from_secs(3)).await;
        }
        _ => {
            // Gone before the answer.
            let mut http = connect(endpoint).await?;
            http.queue_upgrade(&target, "dGhlIHNhbXBsZSBub25jZQ==");
            http.flush().await?;
            http.reset();
        }
    }
    client.reset();
    Ok(false)
}

pub(crate) async fn joined(endpoint: &Endpoint, namespace: &str) -> io::Result<RawClient> {
    let mut client = RawClient::websocket(endpoint).await?;
    client.connect(namespace, None).await?;
    Ok(client)
}

pub(crate) async fn connect(endpoint: &Endpoint) -> io::Result<Http> {
    Http::connect_from(endpoint.source, endpoint.addr, None).await
}

/// Sends a byte now and then until the server ends it.
async fn dribble(http: &mut Http) -> io::Result<bool> {
    loop {
        tokio::select! {
            answer = http.answer() => return answer.map(|answer| answer.status >= 400),
            () = sleep(Duration::from_millis(300)) => http.queue(b"a"),
        }
    }
}

/// Sends what is queued, reading nothing. Returns whether the server took it in reasonable time.
pub(crate) async fn pressed(client: &mut RawClient) -> io::Result<bool> {
    match timeout(Duration::from_secs(5), client.flush()).await {
        Ok(sent) => sent.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// One frame with a mask of zeroes.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
