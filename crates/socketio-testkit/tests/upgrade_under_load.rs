//! Thousands of sessions move to WebSocket while events flow both ways: client and server in processes of their own.

use std::time::{Duration, Instant};

use serde_json::Value;
use socketio_testkit::Child;

const BOUND: Duration = Duration::from_secs(120);

#[test]
fn two_thousand_sessions_upgrade_under_load_and_nothing_is_lost_doubled_or_reordered() {
    let (sessions, flowing, rate, spread_ms) = (2_000, 50, 100, 6_000);
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    println!("seed {seed}");
    let mut server = Child::start(env!("CARGO_BIN_EXE_promise-server"), ["--upgrade-timeout", "60000"]).unwrap();
    let listening = server.line(BOUND).unwrap();
    let port = listening.strip_prefix("listening on ").unwrap();
    let numbers = [sessions, flowing, rate, spread_ms, seed].map(|number| number.to_string());
    let arguments = ["upgrade", port].into_iter().chain(numbers.iter().map(String::as_str));
    let mut storm = Child::start(env!("CARGO_BIN_EXE_storm"), arguments).unwrap();
    let report: Value = serde_json::from_str(&storm.line(BOUND).unwrap()).unwrap();
    println!("{report}");
    assert!(storm.wait(BOUND).unwrap());

    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("failed"), 0, "{}", report["errors"]);
    assert_eq!(count("upgraded"), sessions);
    assert_eq!(count("faults_up"), 0);
    assert_eq!(count("faults_down"), 0);
    assert_eq!(count("too_soon"), 0);
    // Without these the rest would prove nothing.
    assert!(count("sent") > flowing * rate, "events flowed to the server");
    assert!(count("received") > flowing * rate, "events flowed to the clients");
    assert!(count("empty_polls") > 0, "polls were released by noops");

    // The crowd is gone, half of it without a word: nothing is left of it.
    let until = Instant::now() + BOUND;
    let left = loop {
        server.tell("stats").unwrap();
        let stats: Value = serde_json::from_str(&server.line(BOUND).unwrap()).unwrap();
        if stats["sessions"] == 0 && stats["sockets"] == 0 || Instant::now() > until {
            break stats;
        }
        std::thread::yield_now();
    };
    println!("{left}");
    assert_eq!(
        (&left["sessions"], &left["sockets"], &left["members"], &left["rooms"]),
        (&0.into(), &0.into(), &0.into(), &0.into())
    );
    assert_eq!(left["connected"], left["disconnected"]);
    assert_eq!(left["faults"], 0);
}
