//! The first event after connect always finds its handler: on either transport, however slow the connect handler is. And
//! what the server emits to a client that knows it is connected reaches it.
//!
//! `SOCKETIO_SOAK=1` makes it a hundred thousand connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use socketio::{Data, Namespace, Socket, SocketIo};
use socketio_testkit::{Endpoint, Http, Kind, RawClient, eventually, serve, within};
use tokio::sync::Semaphore;

/// How many connections are made at the same time.
const AT_ONCE: usize = 64;

/// How a client comes to its first event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Haste {
    /// It emits as soon as it knows that it is connected.
    AfterTheAnswer,
    /// It sends the event with the CONNECT, in one write or payload. That is against the rules: the connection may be
    /// closed for it, as Node does, but the event may not vanish on a connection that lives.
    WithTheRequest,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_after_connect_is_never_lost() {
    let soak = std::env::var_os("SOCKETIO_SOAK").is_some();
    let (connections, bound) = if soak { (100_000, 3_000) } else { (10_000, 200) };
    within(Duration::from_secs(bound), run(connections)).await;
}

async fn run(connections: u64) {
    let handled = Arc::new(AtomicU64::new(0));
    let first = |handled: Arc<AtomicU64>| {
        move |Data(i): Data<u64>| {
            handled.fetch_add(1, Ordering::SeqCst);
            async move { i }
        }
    };
    // One namespace has its handler from the start and connects at once; sockets of the other get theirs late, after the
    // connect handler has waited.
    let late = {
        let handled = handled.clone();
        move |socket: Socket| {
            let handled = handled.clone();
            async move {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_micros(100)).await;
                socket.on("first", first(handled));
            }
        }
    };
    let builder = SocketIo::builder()
        .namespace(Namespace::new("/").on("first", first(handled.clone())))
        .namespace(Namespace::new("/late").on_connect(late));
    let running = serve(builder).await.unwrap();
    let endpoint = Arc::new(running.endpoint());
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = tokio::task::JoinSet::new();
    let mut tally = Tally::default();
    for i in 0..connections {
        let permit = permits.clone().acquire_owned().await.unwrap();
        let endpoint = endpoint.clone();
        let haste = if i % 8 == 7 { Haste::WithTheRequest } else { Haste::AfterTheAnswer };
        let namespace = if i % 2 == 0 { "/" } else { "/late" };
        let websocket = i / 8 % 2 == 0;
        clients.spawn(async move {
            let _permit = permit;
            (haste, first_event(&endpoint, websocket, namespace, haste, i).await)
        });
        while let Some(ended) = clients.try_join_next() {
            tally.add(ended.unwrap());
        }
    }
    while let Some(ended) = clients.join_next().await {
        tally.add(ended.unwrap());
    }
    println!("{tally:?}");
    assert_eq!(tally.answered + tally.closed, connections);
    // What was not answered was not handled either, and nothing was handled twice.
    assert_eq!(handled.load(Ordering::SeqCst), tally.answered);
    assert!(eventually(Duration::from_secs(90), || running.sessions() == 0).await, "{} are left", running.sessions());
}

#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    closed: u64,
}

impl Tally {
    fn add(&mut self, (haste, answered): (Haste, bool)) {
        assert!(answered || haste == Haste::WithTheRequest, "lost");
        if answered {
            self.answered += 1;
        } else {
            self.closed += 1;
        }
    }
}

/// Connects, emits, and says whether the event was answered; if not, the connection was closed.
async fn first_event(endpoint: &Endpoint, websocket: bool, namespace: &str, haste: Haste, i: u64) -> bool {
    let mut client = match websocket {
        true => RawClient::websocket(endpoint).await.unwrap(),
        false => RawClient::polling(endpoint).await.unwrap(),
    };
    client.queue_connect(namespace, None);
    if haste == Haste::AfterTheAnswer {
        client.connected(namespace).await.unwrap();
    }
    client.queue_event(namespace, Some(i), "first", &[json!(i)]);
    let answer = client.wait_for(|packet| packet.kind == Kind::Ack).await;
    let answered = match answer {
        Ok(answer) => {
            assert_eq!((answer.id, answer.data), (Some(i), json!([i])));
            true
        }
        Err(error) => {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::TimedOut,
                "{haste:?} to {namespace}: neither answered nor closed"
            );
            assert_eq!(haste, Haste::WithTheRequest, "{namespace}, websocket {websocket}: {error}");
            false
        }
    };
    if answered && !websocket {
        client.goodbye().await.unwrap();
    }
    // A RST leaves no port behind that cannot be used for a minute.
    client.reset();
    answered
}

#[tokio::test]
async fn an_event_that_comes_while_the_connect_handler_waits_finds_what_that_registers_then() {
    within(Duration::from_secs(30), async {
        let gate = Arc::new(Semaphore::new(0));
        let late = {
            let gate = gate.clone();
            move |socket: Socket| {
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    socket.on("first", async |Data(i): Data<u64>| i);
                }
            }
        };
        let running = serve(SocketIo::builder().namespace(Namespace::new("/").on_connect(late))).await.unwrap();
        let endpoint = running.endpoint();
        for (mut client, i) in
            [(RawClient::websocket(&endpoint).await.unwrap(), 1), (RawClient::polling(&endpoint).await.unwrap(), 2)]
        {
            client.patience = Duration::from_secs(5);
            client.connect("/", None).await.unwrap();
            client.queue_event("/", Some(i), "first", &[json!(i)]);
            client.flush().await.unwrap();
            assert!(eventually(Duration::from_secs(5), || running.io.stats().events_in == i).await);
            gate.add_permits(1);
            let answer = client.wait_for(|packet| packet.kind == Kind::Ack).await;
            assert_eq!(answer.expect("the event was lost").data, json!([i]));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_it_is_connected_can_be_emitted_to() {
    within(Duration::from_secs(60), async {
        let (sockets, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let namespace = Namespace::new("/").use_(move |socket: Socket| {
            // To join it takes a moment: others use the table of rooms.
            socket.join("early");
            sockets.send(socket).unwrap();
            async { Ok::<_, socketio::ConnectError>(()) }
        });
        let running = Arc::new(serve(SocketIo::builder().namespace(namespace)).await.unwrap());
        let endpoint = running.endpoint();
        let mut crowd = Vec::new();
        for number in 0..8 {
            let mut client = RawClient::websocket(&endpoint).await.unwrap();
            client.connect("/", None).await.unwrap();
            let rooms: Vec<_> = (0..1_000).map(|i| format!("room {number} {i}")).collect();
            asked.recv().await.unwrap().join(rooms).await.unwrap();
            crowd.push(client);
        }
        // Somebody uses the table of rooms all the time, until the test has ended in whatever way.
        let ended = Arc::new(());
        let lister = {
            let (running, ended) = (running.clone(), Arc::downgrade(&ended));
            std::thread::spawn(move || {
                while ended.strong_count() > 0 {
                    std::hint::black_box(running.io.of("/").rooms());
                }
            })
        };
        for i in 0..200 {
            let client = RawClient::polling(&endpoint).await.unwrap();
            let target = endpoint.target("polling", Some(client.sid()));
            let mut http = Http::connect(endpoint.addr, None).await.unwrap();
            // The poll comes right behind, while the server still connects the socket.
            assert_eq!(http.post(&target, "40").await.unwrap().text(), "ok");
            let connected = http.get(&target).await.unwrap();
            assert!(connected.text().starts_with("40{"), "{connected:?}");
            let socket = asked.recv().await.unwrap();
            let emitted = socket.emit("told", i);
            assert!(emitted.is_ok(), "to client {i}: {emitted:?}");
            assert!(socket.is_in("early"));
            assert_eq!(http.get(&target).await.unwrap().text(), format!(r#"42["told",{i}]"#));
        }
        drop(ended);
        lister.join().unwrap();
    })
    .await;
}
