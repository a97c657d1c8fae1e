//! A client that stops reading is let go: in time, with its disconnect handler, and with all that waited for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use socketio::Socket;
use socketio_testkit::{RawClient, Running, eventually, promises, serve, within};

const BOUND: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_millis(1_000);
const PING_TIMEOUT: Duration = Duration::from_millis(1_000);
/// What the server promises.
const RECLAIMED: Duration = Duration::from_secs(3);
/// What a busy machine may take on top before it is the server's fault.
const SLACK: Duration = Duration::from_secs(5);

async fn server(ledger: &Arc<promises::Ledger>) -> Running {
    serve(promises::builder(ledger).ping_interval(PING_INTERVAL).ping_timeout(PING_TIMEOUT)).await.unwrap()
}

/// Connects a client with a small window and gives back the server's end of it.
async fn connect(running: &Running, websocket: bool) -> (RawClient, Socket) {
    let mut endpoint = running.endpoint();
    endpoint.receive_buffer = Some(4096);
    let mut client = match websocket {
        true => RawClient::websocket(&endpoint).await.unwrap(),
        false => RawClient::polling(&endpoint).await.unwrap(),
    };
    let id = client.connect("/", None).await.unwrap();
    let socket = running.io.of("/").socket(&id).unwrap();
    (client, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_reclaimed_with_everything_that_waited_for_it() {
    within(BOUND, async {
        // Enough to fill the kernel's buffers and to wait in the queue, without going over its limit.
        for (websocket, parts) in [(true, 60), (false, 40)] {
            check(websocket, parts, &["ping timeout", "transport error"]).await;
        }
        // More than may wait: it is closed as a slow consumer at once.
        for websocket in [true, false] {
            check(websocket, 500, &["transport error"]).await;
        }
    })
    .await;

    async fn check(websocket: bool, parts: usize, reasons: &[&str]) {
        let ledger = Arc::new(promises::Ledger::default());
        let running = server(&ledger).await;
        let (client, socket) = connect(&running, websocket).await;
        let part = "x".repeat(64 << 10);
        for _ in 0..parts {
            socket.emit("part", &part);
        }
        let stopped = Instant::now();
        if parts < 100 {
            assert!(socket.conn().queued_bytes() > 64 << 10, "something has to wait: {}", socket.conn().queued_bytes());
        }
        let gone = || running.sessions() == 0 && promises::Ledger::read(&ledger.disconnected) == 1;
        assert!(eventually(RECLAIMED + SLACK, gone).await, "websocket {websocket}, {parts} parts: still here");
        println!("websocket {websocket}, {parts} parts: reclaimed after {:?}", stopped.elapsed());
        let reason = ledger.reasons.lock().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        assert!(reasons.contains(&reason.as_str()), "websocket {websocket}, {parts} parts: {reason}");
        assert!(
            eventually(SLACK, || socket.conn().queued_bytes() == 0).await,
            "{} bytes",
            socket.conn().queued_bytes()
        );
        assert!(!socket.connected());
        assert_eq!(running.io.of("/").len(), 0);
        assert_eq!(running.io.stats().sockets_open, 0);
        // It was here to the end and never read.
        client.cut();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_but_reads_gets_everything() {
    within(BOUND, async {
        let ledger = Arc::new(promises::Ledger::default());
        let running = server(&ledger).await;
        for websocket in [true, false] {
            let (mut client, socket) = connect(&running, websocket).await;
            let producer = tokio::spawn(async move {
                let part = "x".repeat(16 << 10);
                for i in 0..400_u64 {
                    // Waits while too much is queued: the producer keeps pace with the reader.
                    socket.emit("part", (i, &part)).await?;
                }
                Ok::<_, socketio::EmitError>(())
            });
            for i in 0..400 {
                let packet = client.next().await.unwrap();
                assert_eq!(packet.number(), Some(i));
                tokio::task::yield_now().await;
            }
            producer.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_server_does_not_wait_for_a_client_that_stopped_reading() {
    within(BOUND, async {
        let ledger = Arc::new(promises::Ledger::default());
        let running = server(&ledger).await;
        let mut stopped = Vec::new();
        for websocket in [true, false, true, false] {
            let (client, socket) = connect(&running, websocket).await;
            let part = "x".repeat(64 << 10);
            for _ in 0..40 {
                socket.emit("part", &part);
            }
            stopped.push(client);
        }
        running.io.close().await;
        assert_eq!(running.sessions(), 0);
        assert!(eventually(SLACK, || promises::Ledger::read(&ledger.disconnected) == 4).await);
        assert_eq!(running.io.of("/").len(), 0);
        drop(stopped);
    })
    .await;
}
