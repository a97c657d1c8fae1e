//! Attacks of clients that have a session: what they send, and what they do not take.

use std::{io, time::Duration};

use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;
use socketio_testkit::{Endpoint, Http, RawClient};
use tokio::time::{sleep, timeout};

use super::{Done, Target};
use crate::hostile::{connect, frame, joined, placeholders};

/// What the server does to a session that it ends, as far as its client can tell: whether it is over in time.
async fn over(mut client: RawClient) -> io::Result<bool> {
    client.patience = Duration::from_secs(20);
    client.rest().await.map(|_| true)
}

/// Sends what is queued without reading, and waits until the server ends it. A server that ends it does not take the rest.
async fn sent_and_over(mut client: RawClient) -> io::Result<bool> {
    let _ = client.flush().await;
    over(client).await
}

/// No attack: good clients at once, so that the server has been at work.
pub(crate) async fn many(mut target: Target) -> io::Result<Done> {
    target.group = 2;
    let mut done = Done::default();
    let each = |endpoint: Endpoint, number: u64| async move {
        let mut client = match number % 2 {
            0 => RawClient::websocket(&endpoint).await?,
            _ => RawClient::polling(&endpoint).await?,
        };
        client.connect("/", None).await?;
        let answer = client.ask(1, "seq", &[json!(0)]).await?;
        client.goodbye().await?;
        Ok(answer == json!([0]))
    };
    target.swarm(&mut done, "good clients", 500, each).await;
    Ok(done)
}

/// R07.
pub(crate) async fn slow_consumers(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let bytes = |mut endpoint: Endpoint, number: u64| async move {
        endpoint.receive_buffer = Some(4_096);
        let mut client = match number % 2 {
            0 => RawClient::websocket(&endpoint).await?,
            _ => RawClient::polling(&endpoint).await?,
        };
        client.connect("/attack", None).await?;
        client.queue_event("/attack", None, "parts", &[json!(128), json!(64 << 10)]);
        // On polling it may hear of its end while it still waits for the answer.
        let _ = client.flush().await;
        sleep(Duration::from_secs(2)).await;
        over(client).await
    };
    target.swarm(&mut done, "clients that are sent 8 MiB and read nothing", 40, bytes).await;
    let packets = |endpoint: Endpoint, _| async move {
        let mut client = RawClient::polling(&endpoint).await?;
        client.connect("/attack", None).await?;
        let event = r#"42/attack,["parts",16384,1]"#;
        let mut http = connect(&endpoint).await?;
        http.post(&endpoint.target("polling", Some(client.sid())), event).await?;
        over(client).await
    };
    target.swarm(&mut done, "clients that are sent 16,384 messages and do not poll", 40, packets).await;
    done.moves =
        vec![("slow_consumers", 80), ("limit_reached: slow_consumer", 80), ("transport error (slow consumer)", 80)];
    Ok(done)
}

/// R08.
pub(crate) async fn ghosts(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let each = |mut endpoint: Endpoint, number: u64| async move {
        endpoint.receive_buffer = Some(4_096);
        let mut client = match number % 2 {
            0 => RawClient::websocket(&endpoint).await?,
            _ => RawClient::polling(&endpoint).await?,
        };
        client.connect("/attack", None).await?;
        // Less than may wait, more than the system takes.
        let event = r#"42/attack,["parts",60,65536]"#;
        let mut get = None;
        if client.is_websocket() {
            client.queue_packet(event);
            client.flush().await?;
        } else {
            let target = endpoint.target("polling", Some(client.sid()));
            connect(&endpoint).await?.post(&target, event).await?;
            let mut http = Http::connect_from(endpoint.source, endpoint.addr, endpoint.receive_buffer).await?;
            http.queue_get(&target);
            http.flush().await?;
            get = Some(http);
        }
        // Twice as long as a write may stand still, and what the timers are late.
        sleep(Duration::from_secs(6)).await;
        match get {
            // What the system had taken comes, and then the end.
            Some(mut http) => {
                http.rest().await;
                Ok(true)
            }
            None => over(client).await,
        }
    };
    target.swarm(&mut done, "clients that are sent 3.75 MiB and read nothing", 80, each).await;
    done.moves = vec![("stalled_writes", 80), ("limit_reached: write_timeout", 80)];
    Ok(done)
}

/// R09.
pub(crate) async fn handlers(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let many = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        client.queue_event("/attack", None, "forever", &[]);
        for number in 0..512 {
            client.queue_event("/attack", None, "nothing", &[json!(number)]);
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "clients with 512 events behind one that never ends", 50, many).await;
    let large = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        client.queue_event("/attack", None, "forever", &[]);
        for _ in 0..32 {
            client.queue_event("/attack", None, "nothing", &[json!("x".repeat(64 << 10))]);
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "with 2 MiB behind it", 50, large).await;
    done.moves = vec![("handler_stalls", 100), ("transport error (handler stall)", 100), ("handlers_abandoned", 100)];
    Ok(done)
}

/// R10.
pub(crate) async fn answers(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let asked = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        client.queue_event("/attack", None, "questions", &[json!(16_384)]);
        // It reads them all, and longer than it may take to answer.
        let reading = async {
            while client.drive().await.is_ok() {
                while client.ready()?.is_some() {}
            }
            Ok::<_, io::Error>(())
        };
        let ended = timeout(Duration::from_secs(6), reading).await.is_ok();
        client.goodbye().await?;
        Ok(!ended)
    };
    target.swarm(&mut done, "clients that are asked 16,384 times and do not answer", 10, asked).await;
    let unasked = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        for number in 0..5_000 {
            client.queue_packet(&format!("43/attack,{}[1]", 1_000_000 + number));
        }
        client.flush().await?;
        client.queue_event("/attack", Some(1), "join", &[json!(0), json!(1), json!(1)]);
        client.next().await?;
        client.goodbye().await?;
        Ok(true)
    };
    target.swarm(&mut done, "clients with 5,000 answers to nothing", 10, unasked).await;
    done.moves = vec![
        ("acks_timed_out", 10 * 8_192),
        ("questions timed out", 10 * 8_192),
        ("questions refused", 10 * 8_192),
        ("acks_unknown", 50_000),
    ];
    Ok(done)
}

/// R11.
pub(crate) async fn rooms(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let join = |endpoint: Endpoint, from: u64, rooms: u64, len: usize| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        client.queue_event("/attack", Some(1), "join", &[json!(from), json!(rooms), json!(len)]);
        let got = client.next().await?.number();
        // They stay in for a while.
        sleep(Duration::from_secs(2)).await;
        client.goodbye().await?;
        Ok::<_, io::Error>(got.unwrap_or_default())
    };
    let shared = move |endpoint, _| async move { Ok(join(endpoint, 0, 2_048, 8).await? == 1_024) };
    target.swarm(&mut done, "clients that join 2,048 rooms", 20, shared).await;
    let long = move |endpoint, _| async move { Ok(join(endpoint, 0, 100, 512).await? == 0) };
    target.swarm(&mut done, "clients that join 100 rooms with names of 512 bytes", 20, long).await;
    // The first eleven find room.
    let own =
        move |endpoint, number| async move { Ok(join(endpoint, 1_000_000 * (number + 1), 1_000, 8).await? <= 1_000) };
    target.swarm(&mut done, "clients that join 1,000 rooms of their own", 20, own).await;
    let namespaces = |number: u64, endpoint: Endpoint, names: u64| async move {
        let mut client = RawClient::websocket(&endpoint).await?;
        for name in 0..names {
            client.queue_connect(&format!("/dynamic/{number}-{name}"), None);
        }
        for _ in 0..names {
            client.next().await?;
        }
        sleep(Duration::from_secs(1)).await;
        client.goodbye().await?;
        Ok(true)
    };
    let many = move |endpoint, number| namespaces(number, endpoint, 64);
    target.swarm(&mut done, "clients that join 64 namespaces", 20, many).await;
    // Those of the others may not all be gone.
    sleep(Duration::from_secs(1)).await;
    let few = move |endpoint, number| namespaces(100 + number, endpoint, 32);
    target.swarm(&mut done, "clients that join 32 namespaces of their own", 63, few).await;
    done.moves = vec![
        ("limit_reached: rooms_per_socket", 20 * 1_024),
        ("limit_reached: room_name_bytes", 20 * 100),
        ("limit_reached: rooms", 10_000),
        ("limit_reached: max_namespaces", 20 * 32),
        ("children_refused", 63 * 32 - 1_000),
        ("limit_reached: max_child_namespaces", 63 * 32 - 1_000),
    ];
    // And those that clients do not make: good clients have a room of their own.
    done.most = vec![("rooms", 10_000 + 1_000), ("namespaces", 1_000 + 10)];
    Ok(done)
}

/// R12.
pub(crate) async fn attachments(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let many = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_packet(&placeholders(20));
        sent_and_over(client).await
    };
    target.swarm(&mut done, "packets with 20 attachments", 50, many).await;
    let large = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_packet(&placeholders(10));
        for _ in 0..10 {
            client.queue_binary(&vec![7; 200_000]);
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "with 2 MB of attachments", 50, large).await;
    let missing = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_packet(&placeholders(10));
        for _ in 0..9 {
            client.queue_binary(&vec![7; 100_000]);
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "whose last attachment never comes", 50, missing).await;
    done.moves = vec![
        ("undecodable", 100),
        ("parse_errors", 50),
        ("limit_reached: too_many_attachments", 50),
        ("limit_reached: attachments_too_large", 50),
        ("limit_reached: attachment_timeout", 50),
    ];
    Ok(done)
}

/// R13.
pub(crate) async fn flood(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let packets = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        for number in 0..20_000 {
            client.queue_event("/", None, "up", &[json!(number)]);
        }
        // All of it was taken in the end, and in order.
        let answer = client.ask(1, "stop", &[]).await?;
        client.goodbye().await?;
        Ok(answer == json!([0, 20_000, 0]))
    };
    target.swarm(&mut done, "clients with 20,000 events at once", 10, packets).await;
    let bytes = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        for _ in 0..40 {
            client.queue_event("/", None, "nothing", &[json!("x".repeat(900_000))]);
        }
        let answer = client.ask(1, "stop", &[]).await?;
        client.goodbye().await?;
        Ok(answer == json!([0, 0, 0]))
    };
    target.swarm(&mut done, "with 36 MB at once", 4, bytes).await;
    done.moves = vec![("rate_delays", 14), ("rate_limited: traffic", 14)];
    Ok(done)
}

/// R13, where floods are not waited for.
pub(crate) async fn flood_disconnected(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let packets = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        for number in 0..20_000 {
            client.queue_event("/", None, "up", &[json!(number)]);
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "clients with 20,000 events at once", 50, packets).await;
    done.moves = vec![("rate_closed", 50), ("rate_limited: traffic", 50), ("transport error (rate limit)", 50)];
    Ok(done)
}

/// R14.
pub(crate) async fn bombs(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    // A hundred megabytes in a hundred kilobytes.
    let mut bomb = Vec::with_capacity(1 << 20);
    let mut context = Compress::new(Compression::new(9), false);
    let zeroes = vec![b'x'; 1_000_000];
    for turn in 0..100 {
        let flush = if turn < 99 { FlushCompress::None } else { FlushCompress::Sync };
        context.compress_vec(&zeroes, &mut bomb, flush)?;
    }
    bomb.truncate(bomb.len() - 4);
    let mut message = vec![0xc1, 0x80 | 127];
    message.extend_from_slice(&(bomb.len() as u64).to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&bomb);
    let message: std::sync::Arc<[u8]> = message.into();
    let sent = message.clone();
    let each = move |endpoint: Endpoint, _| {
        let message = sent.clone();
        async move {
            let mut http = connect(&endpoint).await?;
            http.queue(
                format!(
                    "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
                    endpoint.target("websocket", None)
                )
                .as_bytes(),
            );
            if http.answer().await?.header("sec-websocket-extensions").is_none() {
                return Ok(false);
            }
            http.queue(&message);
            // The close frame says 1009.
            Ok(http.rest().await.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == [0x03, 0xf1]))
        }
    };
    let what = format!("messages of {} bytes that inflate to 100 MB", message.len());
    target.swarm(&mut done, &what, 50, each).await;
    let body = |endpoint: Endpoint, _| async move {
        let client = RawClient::polling(&endpoint).await?;
        let mut http = connect(&endpoint).await?;
        let target = endpoint.target("polling", Some(client.sid()));
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"
        );
        http.queue(head.as_bytes());
        http.queue(&[0x1f; 20]);
        let status = http.answer().await?.status;
        client.reset();
        Ok(status == 415)
    };
    target.swarm(&mut done, "compressed bodies", 50, body).await;
    done.moves =
        vec![("transport_errors", 50), ("limit_reached: max_payload", 50), ("request_refused: compressed_body", 50)];
    Ok(done)
}

/// R16.
pub(crate) async fn depth(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let each = |endpoint: Endpoint, number: u64| async move {
        let mut client = joined(&endpoint, "/").await?;
        match number % 3 {
            0 => client.queue_packet(&format!("42[\"nothing\",{}{}]", "[".repeat(254), "]".repeat(254))),
            1 => client.queue_packet(&format!("42[\"{}\"]", "x".repeat(512))),
            _ => client.queue_packet(&format!("42{}[\"nothing\"]", 1_u64 << 54)),
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "packets that nest 254 deep, with names of 512 bytes, with ids of 2^54", 150, each).await;
    let wide = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        // Twice what a value of any form may consist of, three times.
        let wide = format!("[{}1]", "1,".repeat(200_000));
        for id in 1..=3 {
            client.queue_packet(&format!("42{id}[\"echo\",{wide}]"));
            let answer = client.next().await?;
            if answer.id != Some(id) || answer.data[0]["error"].is_null() {
                return Ok(false);
            }
        }
        client.goodbye().await?;
        Ok(true)
    };
    target.swarm(&mut done, "clients with lists of 200,001 numbers, answered with errors", 20, wide).await;
    done.moves = vec![
        ("undecodable", 150),
        ("violation: malformed", 50),
        ("violation: event_name", 50),
        ("violation: ack_id", 50),
        ("extraction_errors", 60),
    ];
    Ok(done)
}

/// R17.
pub(crate) async fn pings(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let ping = |endpoint: Endpoint, number: u64| async move {
        let mut client = joined(&endpoint, "/").await?;
        let first = if number.is_multiple_of(2) { 0x89 } else { 0x8a };
        for _ in 0..20_000 {
            client.queue_raw(&frame(first, &[7; 100]));
        }
        // Nothing is read while they go out.
        client.flush().await?;
        let answer = client.ask(1, "seq", &[json!(0)]).await?;
        client.goodbye().await?;
        Ok(answer == json!([0]))
    };
    target.swarm(&mut done, "clients with 20,000 pings or pongs at once", 20, ping).await;
    let backwards = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_packet("2");
        sent_and_over(client).await
    };
    target.swarm(&mut done, "with pings of Engine.IO", 50, backwards).await;
    done.moves =
        vec![("rate_delays", 20), ("rate_limited: traffic", 20), ("violation: invalid heartbeat direction", 50)];
    Ok(done)
}

/// R18.
pub(crate) async fn fragments(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let many = |endpoint: Endpoint, number: u64| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_raw(&frame(0x01, b"42[\""));
        for _ in 0..2_048 {
            client.queue_raw(&frame(0x00, if number.is_multiple_of(2) { b"" } else { b"x" }));
        }
        sent_and_over(client).await
    };
    target.swarm(&mut done, "messages of 2,048 fragments", 100, many).await;
    let slow = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/").await?;
        client.queue_raw(&frame(0x01, b"42[\""));
        // Twice as long as it may take.
        for _ in 0..13 {
            client.queue_raw(&frame(0x00, &[b'x'; 1_000]));
            if client.flush().await.is_err() {
                break;
            }
            sleep(Duration::from_millis(300)).await;
        }
        over(client).await
    };
    target.swarm(&mut done, "messages that do not end", 100, slow).await;
    done.moves =
        vec![("transport_errors", 200), ("limit_reached: max_fragments", 100), ("limit_reached: message_timeout", 100)];
    Ok(done)
}

/// R21.
pub(crate) async fn recovery(target: Target) -> io::Result<Done> {
    const CLIENTS: u64 = 50;
    const EACH: u64 = 400;
    let mut done = Done::default();
    let vanish = |endpoint: Endpoint, _| async move {
        for _ in 0..EACH {
            joined(&endpoint, "/away").await?.reset();
        }
        Ok(true)
    };
    target.swarm(&mut done, "addresses with 400 clients each that vanish to be recovered", CLIENTS, vanish).await;
    let shout = |endpoint: Endpoint, _| async move {
        let mut client = joined(&endpoint, "/attack").await?;
        client.queue_event("/attack", Some(1), "shout", &[json!(2_048), json!(64 << 10)]);
        let answered = client.next().await?.id == Some(1);
        client.goodbye().await?;
        Ok(answered)
    };
    target.swarm(&mut done, "client that has 128 MiB told to them", 1, shout).await;
    done.moves = vec![("sessions_expired", CLIENTS * EACH), ("Displaced", CLIENTS * EACH / 10)];
    Ok(done)
}

/// R27.
pub(crate) async fn stayers(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    for number in 0..200 {
        let mut endpoint = target.endpoint(number);
        endpoint.receive_buffer = Some(4_096);
        match number % 4 {
            // It reads nothing, and something waits for it.
            0 | 1 => {
                let mut client = match number % 4 {
                    0 => RawClient::websocket(&endpoint).await?,
                    _ => RawClient::polling(&endpoint).await?,
                };
                client.connect("/attack", None).await?;
                let event = r#"42/attack,["parts",30,65536]"#;
                if client.is_websocket() {
                    client.queue_packet(event);
                    client.flush().await?;
                } else {
                    let mut http = connect(&endpoint).await?;
                    http.post(&endpoint.target("polling", Some(client.sid())), event).await?;
                    http.queue_get(&endpoint.target("polling", Some(client.sid())));
                    http.flush().await?;
                    done.held.push(Box::new(http));
                }
                done.held.push(Box::new(client));
            }
            // It never answers the close frame, and its last event never ends.
            2 => {
                let mut client = joined(&endpoint, "/attack").await?;
                client.queue_event("/attack", None, "forever", &[]);
                client.flush().await?;
                done.held.push(Box::new(client));
            }
            // Half a request.
            _ => {
                let client = RawClient::polling(&endpoint).await?;
                let mut http = connect(&endpoint).await?;
                let target = endpoint.target("polling", Some(client.sid()));
                http.queue(
                    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\nx").as_bytes(),
                );
                http.flush().await?;
                done.held.push(Box::new((client, http)));
            }
        }
    }
    done.what.push(
        "200 clients that read nothing, do not end their requests or events, or do not answer the close frame"
            .to_owned(),
    );
    Ok(done)
}
