//! Attacks with connections and requests of HTTP.

use std::{io, time::Duration};

use serde_json::json;
use socketio_testkit::{Answer, Endpoint, Http, Message, RawClient, WebSocket};
use tokio::time::{Instant, sleep, timeout};

use super::{Done, Target, rows};
use crate::hostile::connect;

/// A byte now and then, for twice as long as it may take, then the rest. Returns the answer, if one comes.
async fn dribble(http: &mut Http, may_take: Duration, rest: &[u8]) -> io::Result<Answer> {
    let until = Instant::now() + 2 * may_take;
    while Instant::now() < until {
        tokio::select! {
            answer = http.answer() => return answer,
            () = sleep(Duration::from_millis(300)) => http.queue(b"a"),
        }
    }
    http.queue(rest);
    http.answer().await
}

/// Whether a request came to nothing: its connection has ended, or the answer says so.
fn refused(answer: io::Result<Answer>) -> bool {
    answer.map_or(true, |answer| answer.status >= 400)
}

/// R01.
pub(crate) async fn heads(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let slow = |endpoint: Endpoint, _| async move {
        let mut http = connect(&endpoint).await?;
        http.queue(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
        Ok(refused(dribble(&mut http, rows::HEADER, b"\r\n\r\n").await))
    };
    target.swarm(&mut done, "heads at three bytes a second", 400, slow).await;
    let large = |endpoint: Endpoint, number: u64| async move {
        let mut http = connect(&endpoint).await?;
        http.queue(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n");
        match number % 2 {
            0 => http.queue(format!("X-Large: {}\r\n\r\n", "x".repeat(32 << 10)).as_bytes()),
            _ => http.queue(format!("{}\r\n", "X-More: 1\r\n".repeat(200)).as_bytes()),
        }
        Ok(refused(http.answer().await))
    };
    target.swarm(&mut done, "heads of 32 KiB or 200 headers", 200, large).await;
    done.moves = vec![
        ("header_timeouts", 400),
        ("limit_reached: header_timeout", 400),
        ("large_heads", 200),
        ("limit_reached: max_header_bytes", 200),
    ];
    Ok(done)
}

/// R02.
pub(crate) async fn bodies(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let post = |endpoint: &Endpoint, client: &RawClient, length: usize| {
        let target = endpoint.target("polling", Some(client.sid()));
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    };
    let slow = move |endpoint: Endpoint, _| async move {
        let client = RawClient::polling(&endpoint).await?;
        let mut http = connect(&endpoint).await?;
        http.queue(post(&endpoint, &client, 900_000).as_bytes());
        let answer = dribble(&mut http, rows::BODY, b"").await?;
        Ok(answer.status == 408)
    };
    target.swarm(&mut done, "bodies at three bytes a second", 200, slow).await;
    let large = move |endpoint: Endpoint, _| async move {
        let client = RawClient::polling(&endpoint).await?;
        let mut http = connect(&endpoint).await?;
        http.queue(post(&endpoint, &client, 2_000_000).as_bytes());
        http.queue(&vec![b'x'; 500_000]);
        Ok(http.answer().await?.status == 413)
    };
    target.swarm(&mut done, "bodies of 2 MB", 100, large).await;
    done.moves = vec![
        ("slow_bodies", 200),
        ("limit_reached: body_timeout", 200),
        ("oversize", 100),
        ("limit_reached: max_payload", 100),
    ];
    Ok(done)
}

/// R03.
pub(crate) async fn half_open(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let each = |endpoint: Endpoint, number: u64| async move {
        let mut client = RawClient::polling(&endpoint).await?;
        client.connect("/", None).await?;
        let mut candidate = match number % 2 {
            0 => client.probe().await?,
            _ => WebSocket::open(&endpoint, Some(client.sid())).await?,
        };
        loop {
            tokio::select! {
                message = candidate.next() => match message {
                    Ok(Some(Message::Close(_)) | None) | Err(_) => break,
                    Ok(_) => {}
                },
                driven = client.drive() => driven?,
            }
        }
        // It goes on polling.
        let answer = client.ask(1, "seq", &[json!(0)]).await?;
        client.goodbye().await?;
        Ok(answer == json!([0]))
    };
    target.swarm(&mut done, "WebSockets of polling sessions that say nothing (half: no more)", 400, each).await;
    done.moves = vec![("upgrades_failed", 400), ("limit_reached: upgrade_timeout", 400)];
    Ok(done)
}

/// R04.
pub(crate) async fn never_back(target: Target) -> io::Result<Done> {
    const CONNECTIONS: u64 = 50;
    const EACH: u64 = 400;
    let mut done = Done::default();
    let open = |endpoint: Endpoint, _| async move {
        let mut http = connect(&endpoint).await?;
        for _ in 0..EACH {
            if http.get(&endpoint.target("polling", None)).await?.status != 200 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    target.swarm(&mut done, "connections that open 400 sessions each and never come back", CONNECTIONS, open).await;
    let silent = |endpoint: Endpoint, _| async move {
        let mut client = RawClient::websocket(&endpoint).await?;
        client.rest().await?;
        Ok(true)
    };
    target.swarm(&mut done, "WebSockets that join nothing", 200, silent).await;
    done.moves = vec![
        ("evicted+never_returned", CONNECTIONS * EACH),
        ("limit_reached: max_pending_sessions", CONNECTIONS * EACH / 4),
        ("limit_reached: first_activity_timeout", 1),
        ("connect_timeouts", 200),
        ("limit_reached: connect_timeout", 200),
    ];
    done.most = vec![("pending", 10_000)];
    Ok(done)
}

/// R05.
pub(crate) async fn flood(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    // One address, and nothing is said.
    let one = target.endpoint(0);
    let mut held = Vec::new();
    for _ in 0..512 {
        held.push(connect(&one).await?);
    }
    sleep(Duration::from_secs(1)).await;
    held.clear();
    done.what.push("512 connections of one address".to_owned());
    // Another one opens sessions.
    let other = target.endpoint(1);
    let mut refused = 0;
    for _ in 0..16 {
        let mut http = connect(&other).await?;
        // A refusal ends the connection.
        for _ in 0..32 {
            if http.get(&other.target("polling", None)).await?.status == 429 {
                refused += 1;
                http = connect(&other).await?;
            }
        }
    }
    done.what.push(format!("512 sessions of one address, {refused} answered 429"));
    // Eight want twice of what there is.
    for number in 0..8 * 200 {
        held.push(connect(&target.endpoint(2 + number % 8)).await?);
    }
    sleep(Duration::from_secs(2)).await;
    held.clear();
    done.what.push("1,600 connections of eight addresses".to_owned());
    done.moves = vec![
        ("connections_refused", 256 + 800),
        ("limit_reached: connections_per_address", 256),
        ("limit_reached: max_connections", 800),
        ("address_refused", 256),
        ("rate_limited: session_rate", 200),
    ];
    done.most = vec![("connections", rows::CONNECTIONS as u64)];
    Ok(done)
}

/// R06.
pub(crate) async fn hooks(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let each = |endpoint: Endpoint| async move {
        let mut http = connect(&endpoint).await?;
        Ok(http.get(&endpoint.target("polling", None)).await?.status >= 400)
    };
    let addresses = target.clone();
    let each = move |_, number: u64| each(addresses.endpoint(number % 64));
    target.swarm(&mut done, "handshakes of 64 addresses, whose hook does not answer", 2_048, each).await;
    done.moves = vec![("hook_timeouts", 900), ("limit_reached: max_handshakes", 1_000)];
    done.most = vec![("handshakes", 1_024)];
    Ok(done)
}

/// R15.
pub(crate) async fn tiny_packets(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let post = |endpoint: Endpoint, packets: usize| async move {
        let mut client = RawClient::polling(&endpoint).await?;
        client.connect("/", None).await?;
        let mut http = connect(&endpoint).await?;
        let body = vec!["6"; packets].join("\x1e");
        let answer = http.post(&endpoint.target("polling", Some(client.sid())), &body).await?;
        client.reset();
        Ok::<_, io::Error>(answer.status)
    };
    let many = move |endpoint, _| async move { Ok(post(endpoint, 2 * rows::PACKETS).await? == 400) };
    target.swarm(&mut done, "bodies of 500,000 packets", 20, many).await;
    let less = move |endpoint, _| async move { Ok(post(endpoint, rows::PACKETS).await? == 200) };
    target.swarm(&mut done, "bodies of 250,000, which are taken", 20, less).await;
    done.moves = vec![("parse_errors", 20), ("violation: too many packets in one payload", 20)];
    Ok(done)
}

/// R20.
pub(crate) async fn polls(target: Target) -> io::Result<Done> {
    const FOR: Duration = Duration::from_secs(5);
    let mut done = Done::default();
    let spinning = |endpoint: Endpoint, _| async move {
        let mut client = RawClient::polling(&endpoint).await?;
        client.connect("/", None).await?;
        let until = Instant::now() + FOR;
        while Instant::now() < until {
            // While a WebSocket is a candidate, polls are answered so that it can take over.
            // A second one is refused until the end of the first was noticed.
            let Ok(_candidate) = client.probe().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = timeout(Duration::from_millis(1_500), async { while client.drive().await.is_ok() {} }).await;
        }
        let gap = Duration::from_millis(100);
        let good = client.too_soon(gap) == 0 && client.empty_polls().len() > 10;
        client.reset();
        Ok(good)
    };
    target
        .swarm(&mut done, "clients whose every poll is empty, at most ten of them answered a second", 100, spinning)
        .await;
    let overlapping = |endpoint: Endpoint, _| async move {
        let client = RawClient::polling(&endpoint).await?;
        let target = endpoint.target("polling", Some(client.sid()));
        let mut first = connect(&endpoint).await?;
        first.queue_get(&target);
        first.flush().await?;
        let mut second = connect(&endpoint).await?;
        // The first may have come second.
        Ok(second.get(&target).await?.status == 400 || first.answer().await?.status == 400)
    };
    target.swarm(&mut done, "with two polls at once", 1_000, overlapping).await;
    done.moves = vec![("transport error (overlap from client)", 1_000), ("violation: overlap from client", 1_000)];
    Ok(done)
}

/// R25.
pub(crate) async fn log(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let requests = |endpoint: Endpoint, _| async move {
        let mut http = connect(&endpoint).await?;
        for _ in 0..400 {
            let sid = "%0a%1b%5b31m".repeat(50);
            if http.get(&endpoint.target("polling", Some(&sid))).await?.status != 400 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    target.swarm(&mut done, "connections with 400 refused requests each", 50, requests).await;
    let names = |endpoint: Endpoint, _| async move {
        let mut client = RawClient::websocket(&endpoint).await?;
        client.connect("/", None).await?;
        for number in 0..200 {
            let name = format!("/{number}\n\u{1b}[31m127.0.0.1 \u{2028}{}", "x".repeat(150));
            client.queue_connect(&name, None);
            client.flush().await?;
            client.next().await?;
        }
        client.goodbye().await?;
        Ok(true)
    };
    target
        .swarm(&mut done, "clients with 200 refused namespaces each, lines and colours in their names", 50, names)
        .await;
    done.moves = vec![("request_refused: unknown_sid", 20_000), ("connect_refused: invalid_namespace", 10_000)];
    done.most = vec![("bad lines", 0)];
    Ok(done)
}
