//! Many broadcasts in a row, and what comes between them: every client sees what it was sent, in that order.

mod support;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socketio::{Limits, Namespace, Socket, SocketIo};
use support::{Client, Polling, serve};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_between_broadcasts_the_order_of_each_client_is_kept() {
    for seed in 0..24 {
        check(seed).await;
    }
}

/// What a client was sent, by the number of the event.
#[derive(Default)]
struct Expected {
    id: String,
    rooms: Vec<&'static str>,
    events: Vec<u32>,
}

async fn check(seed: u64) {
    const ROOMS: [&str; 3] = ["red", "green", "blue"];
    let mut rng = SmallRng::seed_from_u64(seed);
    let namespace = Namespace::new("/").on("barrier", async |_: Socket| ());
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let mut clients = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..rng.random_range(3..9) {
        let (client, id) = Client::join(server.addr).await;
        clients.push(client);
        expected.push(Expected { id, ..Expected::default() });
    }
    let root = server.io.of("/");
    let socket = |of: &Expected| root.socket(&of.id).expect("all are connected");
    for number in 0..rng.random_range(100..400) {
        let one = rng.random_range(0..expected.len());
        let room = ROOMS[rng.random_range(0..ROOMS.len())];
        match rng.random_range(0..20) {
            0 => {
                let _ = socket(&expected[one]).join(room);
                if !expected[one].rooms.contains(&room) {
                    expected[one].rooms.push(room);
                }
            }
            1 => {
                let _ = socket(&expected[one]).leave(room);
                expected[one].rooms.retain(|joined| *joined != room);
            }
            2 => {
                let _ = socket(&expected[one]).emit("n", number);
                expected[one].events.push(number);
            }
            3..6 => {
                let reached = server.io.to(room).emit("n", number).recipients();
                let members: Vec<_> = expected.iter_mut().filter(|client| client.rooms.contains(&room)).collect();
                assert_eq!(reached, members.len(), "seed {seed}, event {number}");
                members.into_iter().for_each(|client| client.events.push(number));
            }
            6..8 => {
                let _ = socket(&expected[one]).broadcast().emit("n", number);
                let others = expected.iter_mut().enumerate().filter(|(index, _)| *index != one);
                others.for_each(|(_, client)| client.events.push(number));
            }
            8 => tokio::task::yield_now().await,
            _ => {
                let reached = server.io.emit("n", number).recipients();
                assert_eq!(reached, expected.len(), "seed {seed}, event {number}");
                expected.iter_mut().for_each(|client| client.events.push(number));
            }
        }
    }
    for (client, expected) in clients.iter_mut().zip(&expected) {
        for number in &expected.events {
            let text = client.text().await;
            assert_eq!(text, format!(r#"2["n",{number}]"#), "seed {seed}");
        }
        client.barrier().await;
    }
}

#[tokio::test]
async fn a_burst_reaches_clients_of_every_kind() {
    let server = serve(SocketIo::builder().allow_eio3(true).namespace(Namespace::new("/"))).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::join(server.addr).await.0);
    }
    let mut old = Client::open_with(server.addr, 3, "").await;
    assert_eq!(old.text().await, "0");
    let polling = Polling::open(server.addr, 4).await;
    polling.send("40").await;
    assert!(polling.text().await.starts_with("40{"));
    for number in 0..50 {
        assert_eq!(server.io.emit("n", number).recipients(), 6);
        assert_eq!(server.io.emit("b", socketio::Bytes::from_static(&[1, 2])).recipients(), 6);
    }
    for client in clients.iter_mut().chain([&mut old]) {
        for number in 0..50 {
            client.expect(&format!(r#"2["n",{number}]"#)).await;
            client.expect(r#"51-["b",{"_placeholder":true,"num":0}]"#).await;
            client.next().await;
        }
    }
    let mut polled = String::new();
    while !polled.contains(r#"["n",49]"#) {
        polled += &polling.text().await;
        polled.push('\x1e');
    }
    let numbers: Vec<_> = polled.split('\x1e').filter(|packet| packet.starts_with(r#"42["n""#)).collect();
    assert_eq!(numbers.len(), 50);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_at_its_limit_by_bursts_too() {
    let mut limits = Limits::default();
    limits.send_queue_bytes = 100_000;
    let server = serve(SocketIo::builder().limits(limits).namespace(Namespace::new("/"))).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(Client::join(server.addr).await.0);
    }
    // Nothing is read or written meanwhile: this task does not yield.
    let mut reached = Vec::new();
    for number in 0..200 {
        reached.push(server.io.emit("x", (number, "x".repeat(4_000))).recipients());
    }
    assert_eq!(reached[0], 6);
    assert_eq!(reached[199], 0, "the queue of every client is over its limit");
}
