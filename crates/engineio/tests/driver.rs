//! The driver on in-memory streams under a paused clock: timers, back-pressure, links that break.

mod common;

use std::{sync::atomic::Ordering, task::Poll, time::Duration};

use common::{World, frame, sid_of};
use engineio::{CloseReason, SecurityKind};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_websocket_carries_messages_both_ways_and_is_pinged() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 16).await;
    client.send("4echo:one").await;
    client.send("4echo:two").await;
    assert_eq!((client.text().await, client.text().await), ("4one".to_owned(), "4two".to_owned()));
    let start = Instant::now();
    assert_eq!(client.text().await, "2");
    assert_eq!(start.elapsed().as_secs(), 25);
    client.send("3").await;
    assert_eq!(client.text().await, "2");
    // No pong: the session ends, and the client is told by a close frame.
    assert_eq!(client.frame().await, Some((8, Vec::new())));
    assert_eq!(start.elapsed().as_secs(), 70);
    sleep(SECOND).await;
    assert_eq!(world.seen.closed(), ["ping timeout"]);
    assert_eq!(world.server.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn polling_carries_messages_both_ways() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut poster = world.connect(1 << 16);
    let posted = poster.post(&query, "4echo:a\x1e4echo:b\x1ebAQID").await;
    assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
    assert_eq!(world.seen.take_messages(), ["echo:a", "echo:b", "[1, 2, 3]"]);
    let polled = world.connect(1 << 16).get(&query).await;
    assert_eq!(polled.body, "4a\x1e4b");
    assert!(polled.head.contains("text/plain; charset=UTF-8") && polled.head.contains("no-store"), "{}", polled.head);
}

/// What becomes of a POST whose packets are with the session already.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Post {
    Answered,
    /// Given up by its client before the session's task looked at it, or after.
    GoneBefore,
    GoneAfter,
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_until_the_post_that_led_to_its_answer_has_its_own() {
    for fate in [Post::Answered, Post::GoneBefore, Post::GoneAfter] {
        let world = World::new(|builder| builder);
        let sid = world.open().await;
        let query = format!("EIO=4&transport=polling&sid={sid}");
        let mut poller = world.connect(1 << 16);
        poller.send_get(&query).await;
        sleep(SECOND).await;
        let request = http::Request::post(format!("/engine.io/?{query}")).header("host", "h");
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from_static(b"4echo:a"))).unwrap();
        let mut post = Box::pin(tower_service::Service::call(&mut world.server.service(), request));
        assert!(poll_once(&mut post).await.is_pending(), "the body is with the session's task");
        match fate {
            Post::GoneBefore => drop(post),
            Post::Answered | Post::GoneAfter => {
                let early = timeout(SECOND, poller.answer()).await;
                assert!(early.is_err(), "{early:?}");
                assert_eq!(world.seen.take_messages(), ["echo:a"]);
                if fate == Post::Answered {
                    assert_eq!(post.await.unwrap().status(), 200);
                } else {
                    drop(post);
                }
            }
        }
        let answer = timeout(SECOND, poller.answer()).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("no answer: {fate:?}")).body, "4a");
    }
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn a_burst_from_outside_the_task_comes_out_in_order_in_one_poll() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let mut poller = world.connect(1 << 16);
    poller.send_get(&format!("EIO=4&transport=polling&sid={sid}")).await;
    sleep(SECOND).await;
    let session = world.seen.session();
    for n in 0..500 {
        session.send([frame(&n.to_string())]).unwrap();
    }
    let body = poller.answer().await.body;
    let numbers: Vec<String> = body.split('\x1e').map(|packet| packet[1..].to_owned()).collect();
    assert_eq!(numbers, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_reclaimed_with_its_memory() {
    let world = World::new(|builder| builder);
    let client = world.open_socket(4 << 10).await;
    let session = world.seen.session();
    let big = "x".repeat(100_000);
    for _ in 0..30 {
        session.send([frame(&big)]).unwrap();
    }
    // 25 s to the ping, 20 s for the pong that cannot come, and the promised second.
    sleep(46 * SECOND).await;
    assert_eq!(world.server.sessions(), 0);
    assert_eq!(world.seen.closed().len(), 1);
    assert_eq!(session.queued_bytes(), 0, "what was queued is gone");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_too_slowly_is_closed_at_the_limit() {
    let world = World::new(|builder| builder);
    let _client = world.open_socket(4 << 10).await;
    let session = world.seen.session();
    let big = "x".repeat(1_000_000);
    let mut sent = 0;
    while session.send([frame(&big)]).is_ok() {
        sent += 1;
        sleep(Duration::from_millis(1)).await;
        assert!(sent < 20, "the queue has no end");
    }
    assert!(sent >= 4, "4 MiB fit");
    sleep(SECOND).await;
    assert_eq!(world.seen.closed(), ["transport error (slow consumer)"]);
    assert_eq!(world.server.stats().slow_consumers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_application_stops_the_reading_and_loses_nothing() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 20).await;
    client.send("4first").await;
    sleep(SECOND).await;
    world.seen.busy.store(true, Ordering::SeqCst);
    for n in 0..100 {
        client.send(&format!("4{n}")).await;
    }
    sleep(20 * SECOND).await;
    assert_eq!(world.seen.take_messages(), ["first"], "nothing is read while the application is busy");
    world.seen.free();
    sleep(SECOND).await;
    assert_eq!(world.seen.take_messages(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.seen.closed(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_busy_in_the_middle_of_a_post_gets_the_rest_later() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    world.seen.busy.store(true, Ordering::SeqCst);
    let mut poster = world.connect(1 << 16);
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let post = poster.post(&query, "4a\x1e4b");
    tokio::pin!(post);
    assert!(timeout(5 * SECOND, &mut post).await.is_err(), "the POST is answered when its packets are taken");
    world.seen.free();
    assert_eq!(post.await.status, 200);
    assert_eq!(world.seen.take_messages(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_comes_back_ends_the_session() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 16).await;
    world.seen.busy.store(true, Ordering::SeqCst);
    client.send("4x").await;
    sleep(31 * SECOND).await;
    assert_eq!(world.seen.closed(), ["transport error (handler stall)"]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_always_behind_but_gets_on_is_not_stalled() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 20).await;
    for _ in 0..100 {
        client.send("4busy").await;
    }
    for second in 1..60 {
        sleep(SECOND / 2).await;
        assert_eq!(world.seen.take_messages(), ["busy"], "one message at a time, in second {second}");
        sleep(SECOND / 2).await;
        if second % 20 == 0 {
            client.send("3").await;
        }
        world.seen.free();
    }
    assert_eq!(world.seen.closed(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_panics_costs_its_session_and_nothing_else() {
    let world = World::new(|builder| builder);
    let mut victim = world.open_socket(1 << 16).await;
    let mut other = world.open_socket(1 << 16).await;
    victim.send("4panic").await;
    assert_eq!(victim.frame().await, None);
    assert_eq!(world.server.sessions(), 1);
    other.send("4echo:alive").await;
    assert_eq!(other.text().await, "4alive");
}

#[tokio::test(start_paused = true)]
async fn a_poll_of_a_session_whose_application_panicked_is_answered() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut poller = world.connect(1 << 16);
    poller.send_get(&query).await;
    let post = world.connect(1 << 16).post(&query, "4panic").await;
    assert_eq!(post.status, 400);
    assert_eq!(poller.answer().await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_poll_ends_the_session() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut poller = world.connect(1 << 16);
    poller.send_get(&query).await;
    sleep(SECOND).await;
    drop(poller);
    sleep(SECOND).await;
    assert_eq!(world.seen.closed(), ["transport error (poll connection closed prematurely)"]);
    let answer = world.connect(1 << 16).get(&query).await;
    assert_eq!(answer.body, r#"{"code":1,"message":"Session ID unknown"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_second_poll_ends_the_session_and_answers_the_first() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut first = world.connect(1 << 16);
    first.send_get(&query).await;
    sleep(SECOND).await;
    let second = world.connect(1 << 16).get(&query).await;
    assert_eq!((second.status, second.body.as_str()), (400, ""));
    let first = first.answer().await;
    assert_eq!((first.status, first.body.as_str()), (200, "1"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_is_given_up() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let mut poster = world.connect(1 << 16);
    let head = format!(
        "POST /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    );
    poster.raw(head.as_bytes()).await;
    let start = Instant::now();
    poster.raw(b"4").await;
    assert_eq!(poster.answer().await.status, 408);
    assert_eq!(start.elapsed().as_secs(), 5, "one byte in five seconds is below 1 KiB/s");
    sleep(SECOND).await;
    assert_eq!(world.seen.closed(), ["transport error (the body came too slowly)"]);
    assert_eq!(world.server.security().count(SecurityKind::LimitReached), 1, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_refused_unread_and_the_session_lives() {
    let world = World::new(|builder| builder.max_payload(100));
    let sid = world.open().await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut poster = world.connect(1 << 16);
    poster.raw(format!("POST /engine.io/?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n").as_bytes()).await;
    let answer = poster.answer().await;
    assert_eq!(answer.status, 413);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    let exact = format!("4{}", "x".repeat(99));
    assert_eq!(world.connect(1 << 16).post(&query, &exact).await.status, 200);
    assert_eq!(world.server.stats().oversize, 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_closes_the_websocket_with_1009() {
    let world = World::new(|builder| builder.max_payload(100));
    let mut client = world.open_socket(1 << 16).await;
    client.send(&format!("4{}", "x".repeat(100))).await;
    let (opcode, payload) = client.frame().await.unwrap();
    assert_eq!((opcode, payload), (8, 1009u16.to_be_bytes().to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_never_answers_has_a_deadline() {
    let world = World::new(|builder| builder.allow_request(|_| std::future::pending()));
    let start = Instant::now();
    let answer = world.connect(1 << 16).get("EIO=4&transport=polling").await;
    assert_eq!(answer.status, 503);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_refused_handshake_says_what_the_application_says() {
    let world = World::new(|builder| builder.allow_request(|_| async { Err("no way".to_owned()) }));
    let answer = world.connect(1 << 16).get("EIO=4&transport=polling").await;
    assert_eq!((answer.status, answer.body.as_str()), (403, r#"{"code":4,"message":"no way"}"#));
    let answer = world.connect(1 << 16).try_upgrade("EIO=4&transport=websocket").await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "no way"));
    assert_eq!(world.server.stats().refused, 2);
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_clients_never_return_give_way_to_new_ones() {
    let world = World::new(|builder| {
        let mut limits = engineio::Limits::default();
        limits.max_pending_sessions = 10;
        builder.limits(limits)
    });
    let mut sids = Vec::new();
    for _ in 0..30 {
        sids.push(world.open().await);
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.server.sessions(), 10);
    assert_eq!(world.server.stats().evicted, 20);
    let query = format!("EIO=4&transport=polling&sid={}", sids[29]);
    assert_eq!(world.connect(1 << 16).post(&query, "4newest").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn closing_the_server_delivers_what_is_queued_and_refuses_new_sessions() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 16).await;
    world.seen.session().send([frame("bye")]).unwrap();
    world.server.close(5 * SECOND).await;
    assert_eq!(client.text().await, "4bye");
    assert_eq!(client.frame().await, Some((8, Vec::new())));
    assert_eq!(world.connect(1 << 16).get("EIO=4&transport=polling").await.status, 503);
    assert_eq!(world.server.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_close_frame_is_echoed() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 16).await;
    client.raw(&common::masked(8, &1000u16.to_be_bytes())).await;
    assert_eq!(client.frame().await, Some((8, 1000u16.to_be_bytes().to_vec())));
    sleep(SECOND).await;
    assert_eq!(world.seen.closed(), ["transport close"]);
    world.seen.session().close(CloseReason::ForcedClose);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_pings_of_a_peer_that_does_not_read_owe_one_pong() {
    let world = World::new(|builder| builder);
    let mut client = world.open_socket(1 << 10).await;
    let pings = common::masked(9, b"x").repeat(10_000);
    let _ = timeout(SECOND, client.raw(&pings)).await;
    let mut pongs = 0;
    while let Ok(Some((10, _))) = timeout(Duration::from_millis(100), client.frame()).await {
        pongs += 1;
    }
    assert!((1..=400).contains(&pongs), "{pongs} pongs");
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_one_segment_with_the_upgrade_request_is_not_lost() {
    let world = World::new(|builder| builder);
    let mut client = world.connect(1 << 16);
    let mut bytes = b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(common::masked(1, b"4echo:early"));
    client.raw(&bytes).await;
    assert_eq!(client.answer().await.status, 101);
    assert!(client.text().await.starts_with("0{"));
    assert_eq!(client.text().await, "4early");
}

#[tokio::test(start_paused = true)]
async fn packets_behind_the_upgrade_packet_are_not_lost() {
    let world = World::new(|builder| builder);
    let sid = world.open().await;
    let mut client = world.connect(1 << 16);
    client.upgrade(&format!("EIO=4&transport=websocket&sid={sid}")).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    let mut bytes = common::masked(1, b"5");
    bytes.extend(common::masked(1, b"4echo:right behind"));
    client.raw(&bytes).await;
    assert_eq!(client.text().await, "4right behind");
}

#[tokio::test(start_paused = true)]
async fn an_aborted_upgrade_leaves_the_polling_session_alone() {
    for how in ["before the probe", "after the probe", "garbage"] {
        let world = World::new(|builder| builder);
        let sid = world.open().await;
        let query = format!("EIO=4&transport=polling&sid={sid}");
        let mut candidate = world.connect(1 << 16);
        candidate.upgrade(&format!("EIO=4&transport=websocket&sid={sid}")).await;
        match how {
            "before the probe" => {}
            "after the probe" => {
                candidate.send("2probe").await;
                assert_eq!(candidate.text().await, "3probe");
            }
            _ => candidate.raw(b"\xff\xff\xff\xff").await,
        }
        drop(candidate);
        sleep(SECOND).await;
        let mut poller = world.connect(1 << 16);
        poller.send_get(&query).await;
        sleep(15 * SECOND).await;
        assert_eq!(world.connect(1 << 16).post(&query, "4echo:alive").await.status, 200, "{how}");
        assert_eq!(poller.answer().await.body, "4alive", "{how}");
        assert_eq!(world.seen.closed(), [] as [String; 0], "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stolen_id_gives_no_second_websocket() {
    let world = World::new(|builder| builder);
    let mut client = world.connect(1 << 16);
    client.upgrade("EIO=4&transport=websocket").await;
    let sid = sid_of(&client.text().await);
    let refused = world.connect(1 << 16).try_upgrade(&format!("EIO=4&transport=websocket&sid={sid}")).await;
    assert_eq!((refused.status, refused.body.as_str()), (400, "Bad request"));
    client.send("4echo:mine").await;
    assert_eq!(client.text().await, "4mine");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_ends_is_given_up_but_a_busy_link_is_not() {
    let world = World::new(|builder| builder.ping_interval(100 * SECOND));
    let mut client = world.open_socket(1 << 16).await;
    // Always in the middle of a message, never for long.
    let message = common::masked(1, b"4echo:x");
    client.raw(&message[..3]).await;
    for _ in 0..20 {
        sleep(SECOND).await;
        client.raw(&[&message[3..], &message[..3]].concat()).await;
        assert_eq!(client.text().await, "4x");
    }
    let start = Instant::now();
    assert_eq!(client.frame().await, Some((8, 1008u16.to_be_bytes().to_vec())));
    assert_eq!(start.elapsed().as_secs(), 30);
}
