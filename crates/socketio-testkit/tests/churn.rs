//! Clients come and go, politely and not, and nothing of them stays.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use socketio_testkit::{Endpoint, RawClient, Rng, WebSocket, eventually, promises, serve, within};
use tokio::sync::Semaphore;

const CONNECTIONS: u64 = 2_000;
const AT_ONCE: usize = 100;
/// How many ways to go there are.
const ENDS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_and_go_leave_nothing_behind() {
    within(Duration::from_secs(150), async {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        println!("seed {seed}");
        let ledger = Arc::new(promises::Ledger::default());
        let builder = promises::builder(&ledger)
            .ping_interval(Duration::from_secs(4))
            .ping_timeout(Duration::from_secs(4))
            .upgrade_timeout(Duration::from_secs(4));
        let mut running = serve(builder).await.unwrap();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        // The one that serves and the one that accepts.
        let before = 2;
        assert!(eventually(Duration::from_secs(10), || tasks() == before).await, "{} tasks", tasks());
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut clients = tokio::task::JoinSet::new();
        for i in 0..CONNECTIONS {
            let (endpoint, permits) = (running.endpoint(), permits.clone());
            clients.spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                come_and_go(&endpoint, Rng::new(seed ^ i << 32), i).await
            });
        }
        let mut joined = 0;
        while let Some(sockets) = clients.join_next().await {
            joined += sockets.unwrap();
        }
        assert!(
            eventually(Duration::from_secs(60), || running.sessions() == 0).await,
            "{} sessions",
            running.sessions()
        );
        let gone = || promises::Ledger::read(&ledger.disconnected) == joined;
        assert!(eventually(Duration::from_secs(10), gone).await, "{ledger:?}, {joined} joined");
        assert_eq!(promises::Ledger::read(&ledger.connected), joined);
        for namespace in [running.io.of("/"), running.io.of("/chat")] {
            assert_eq!((namespace.len(), namespace.rooms()), (0, vec![]));
        }
        let stats = running.io.stats();
        assert_eq!(
            (stats.connections, stats.connections_open, stats.sockets, stats.sockets_open),
            (CONNECTIONS, 0, joined, 0)
        );
        let engine = running.io.engine_stats();
        assert_eq!((engine.sessions, engine.opened, engine.closed), (0, CONNECTIONS, CONNECTIONS));
        // Links that say goodbye have five seconds for it, and HTTP connections end with their clients.
        assert!(eventually(Duration::from_secs(40), || tasks() <= before).await, "{} tasks, {before} before", tasks());
        running.stop_accepting().await;
        assert!(eventually(Duration::from_secs(10), || tasks() == 0).await, "{} tasks", tasks());
    })
    .await;
}

/// Comes on either transport, does a little, goes in one of many ways. Returns how many sockets it had.
async fn come_and_go(endpoint: &Endpoint, mut rng: Rng, i: u64) -> u64 {
    let websocket = rng.one_in(2);
    let mut client = match websocket {
        true => RawClient::websocket(endpoint).await.unwrap(),
        false => RawClient::polling(endpoint).await.unwrap(),
    };
    let mut joined = 0;
    for namespace in ["/", "/chat"] {
        if !rng.one_in(4) {
            client.connect(namespace, None).await.unwrap();
            joined += 1;
            // Not waited for: what it is answered with has nobody to read it.
            client.queue_event(namespace, None, "burst", &[json!(rng.below(20))]);
            client.flush().await.unwrap();
        }
    }
    if !websocket && rng.one_in(3) {
        match rng.below(3) {
            0 => client.upgrade().await.unwrap(),
            1 => drop(client.probe().await.unwrap()),
            _ => WebSocket::open(endpoint, Some(client.sid())).await.unwrap().reset(),
        }
    }
    match i % ENDS {
        0 => client.goodbye().await.unwrap(),
        1 => client.cut(),
        2 => client.reset(),
        3 => {
            // With a poll on its way, if it polls.
            let _ = tokio::time::timeout(Duration::from_millis(2), client.drive()).await;
            client.reset();
        }
        4 => {
            let _ = tokio::time::timeout(Duration::from_millis(2), client.drive()).await;
            client.cut();
        }
        _ => match client.socket() {
            // It stops sending and reads on, until the server has let it go.
            Some(socket) => {
                socket.half_close().await.unwrap();
                client.rest().await.unwrap();
            }
            None => {
                client.queue_packet("1");
                client.rest().await.unwrap();
            }
        },
    }
    joined
}
