//! Events that are sent until the client has confirmed them.

mod support;

use std::time::Duration;

use socketio::{Bytes, DeliveryError, EmitError, Limits, Namespace, RecoveryOptions, SocketIo};
use support::{Client, eventually, serve};

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(60);

fn namespace() -> Namespace {
    Namespace::new("/").on("barrier", async || {})
}

/// The id of the acknowledgement and of the event.
fn ids(event: &str) -> (String, String) {
    let answer = event[1..].split('[').next().unwrap().to_owned();
    (answer, event.rsplit('"').nth(1).unwrap().to_owned())
}

#[tokio::test]
async fn an_event_is_repeated_until_it_is_confirmed_and_the_next_waits() {
    let server = serve(SocketIo::builder().namespace(namespace())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let first = socket.retries(5).timeout(SOON).emit("news", ("one", 1));
    let second = socket.retries(5).timeout(LATE).emit("news", "two");
    let one = client.text().await;
    assert_eq!(one, format!(r#"20["news","one",1,"{id}-1"]"#));
    // Not confirmed: it comes again, the same to the byte.
    client.expect(&one).await;
    client.expect(&one).await;
    client.send("30[]").await;
    let two = loop {
        let event = client.text().await;
        if event != one {
            break event;
        }
    };
    assert_eq!(two, format!(r#"21["news","two","{id}-2"]"#));
    assert_eq!(first.await, Ok(()));
    client.send("31[\"whatever\"]").await;
    assert_eq!(second.await, Ok(()));
    client.barrier().await;
}

#[tokio::test]
async fn who_never_confirms_is_given_up_and_the_next_event_comes() {
    let server = serve(SocketIo::builder().namespace(namespace())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let first = socket.retries(2).timeout(SOON).emit("news", Bytes::from_static(b"x"));
    let second = socket.retries(0).timeout(LATE).emit("more", ());
    for _ in 0..3 {
        client.expect(&format!(r#"51-0["news",{{"_placeholder":true,"num":0}},"{id}-1"]"#)).await;
        client.expect_binary(b"x").await;
    }
    client.expect(&format!(r#"21["more","{id}-2"]"#)).await;
    assert_eq!(first.await, Err(DeliveryError::TimedOut));
    drop(client);
    assert_eq!(second.await, Err(DeliveryError::Disconnected));
    assert_eq!(socket.retries(1).emit("late", ()).await, Err(DeliveryError::NotSent(EmitError::NotConnected)));
}

#[tokio::test]
async fn the_queue_is_bounded_in_events_and_bytes() {
    let mut limits = Limits::default();
    limits.reliable_events = 3;
    limits.reliable_bytes = 1_000;
    let server = serve(SocketIo::builder().limits(limits).namespace(namespace())).await;
    let (_client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let emitter = socket.retries(1).timeout(LATE);
    assert_eq!(emitter.emit("big", "x".repeat(1_000)).error(), Some(&DeliveryError::QueueFull));
    for _ in 0..3 {
        assert!(emitter.emit("small", 1).is_ok());
    }
    assert_eq!(emitter.emit("small", 1).error(), Some(&DeliveryError::QueueFull));
    assert!(matches!(emitter.emit("connect", 1).error(), Some(DeliveryError::NotSent(EmitError::Encode(_)))));
    // Where there is no runtime nothing could be repeated.
    let emitter = emitter.clone();
    let outside = std::thread::spawn(move || emitter.emit("small", 1)).join().unwrap();
    assert_eq!(outside.error(), Some(&DeliveryError::NoRuntime));
}

#[tokio::test]
async fn with_recovery_the_queue_waits_for_the_client() {
    let options = RecoveryOptions::default();
    let server = serve(SocketIo::builder().connection_state_recovery(options).namespace(namespace())).await;
    let mut client = Client::open(server.addr).await;
    client.send("0").await;
    let answer = client.text().await;
    let field =
        |name: &str| answer.split(&format!("\"{name}\":\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (id, pid) = (field("sid"), field("pid"));
    let socket = server.io.of("/").socket(&id).unwrap();
    let first = socket.retries(1).timeout(LATE).emit("sure", 1);
    let second = socket.retries(1).timeout(LATE).emit("sure", 2);
    let (_, one) = ids(&client.text().await);
    drop(client);
    eventually("it is away", || server.io.of("/").away() == 1).await;
    server.io.emit("plain", ());
    let mut client = Client::open(server.addr).await;
    client.send(&format!(r#"0{{"pid":"{pid}"}}"#)).await;
    client.expect(&answer).await;
    assert!(client.text().await.starts_with(r#"2["plain","#));
    // A repetition that the disconnection caused does not count.
    for (number, delivery) in [(1, first), (2, second)] {
        let event = client.text().await;
        let (confirm, event_id) = ids(&event);
        assert!(event.contains(&format!(r#"["sure",{number},"{id}-{number}"]"#)), "{event}");
        assert!(number == 2 || event_id == one);
        client.send(&format!("3{confirm}[]")).await;
        assert_eq!(delivery.await, Ok(()));
    }
    client.barrier().await;
}

#[tokio::test]
async fn a_client_that_does_not_come_back_in_time_has_not_confirmed() {
    let mut options = RecoveryOptions::default();
    options.max_disconnection_duration = SOON;
    let server = serve(SocketIo::builder().connection_state_recovery(options).namespace(namespace())).await;
    let (client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let delivery = socket.retries(1_000).timeout(LATE).emit("sure", ());
    drop(client);
    assert_eq!(delivery.await, Err(DeliveryError::Disconnected));
}
