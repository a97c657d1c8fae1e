//! What an idle connection costs, as the operating system sees it. `bench/memory` counts the heap exactly.

use std::time::Duration;

use serde_json::Value;
use socketio_testkit::Child;

const BOUND: Duration = Duration::from_secs(60);
const CONNECTIONS: u64 = 2_000;
/// Far above the target of the bench, for a build without optimization and an allocator with habits; far below what a
/// connection costs that keeps its HTTP server's read buffer.
const MOST_KIB: f64 = 14.0;

#[test]
fn an_idle_websocket_connection_costs_little_memory() {
    let mut server = Child::start::<&str>(env!("CARGO_BIN_EXE_promise-server"), []).unwrap();
    let listening = server.line(BOUND).unwrap();
    let port = listening.strip_prefix("listening on ").unwrap();
    // The first clients pay for what all share.
    let warm = idle(port, 100);
    let before = stats(&mut server);
    let crowd = idle(port, CONNECTIONS);
    let full = stats(&mut server);
    assert_eq!(full["sockets"], 100 + CONNECTIONS);
    let resident = |stats: &Value| stats["resident_kib"].as_u64().unwrap();
    let each = (resident(&full) as f64 - resident(&before) as f64) / CONNECTIONS as f64;
    println!("{each:.1} KiB resident for each idle WebSocket connection with one namespace (unoptimized build)");
    if resident(&before) > 0 {
        assert!(each < MOST_KIB, "{each:.1} KiB");
    }
    drop((warm, crowd));
}

/// A crowd that has connected and does nothing.
fn idle(port: &str, connections: u64) -> Child {
    let mut crowd = Child::start(env!("CARGO_BIN_EXE_storm"), ["idle", port, &connections.to_string()]).unwrap();
    assert_eq!(crowd.line(BOUND).unwrap(), "ready");
    crowd
}

fn stats(server: &mut Child) -> Value {
    server.tell("stats").unwrap();
    serde_json::from_str(&server.line(BOUND).unwrap()).unwrap()
}
