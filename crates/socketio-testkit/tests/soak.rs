//! Twenty seconds of what `cargo xtask soak crowd` does for half an hour, and one row of `cargo xtask soak attacks`. `SEED=n`
//! repeats the choices of a run.

use std::{io, time::Duration};

use socketio_testkit::Child;

/// 8, 8 and 20 s of crowd, and what it takes until the last hostile client is given up, twice.
const BOUND: Duration = Duration::from_secs(400);

#[test]
fn good_clients_do_not_notice_hostile_and_slow_ones_and_nothing_of_them_stays() {
    let seed = std::env::var("SEED").unwrap_or_else(|_| "1".to_owned());
    runs(&["--seconds", "20", "--connections", "200", "--seed", &seed]);
}

#[test]
fn an_attack_is_ended_and_counted_and_nothing_of_it_stays() {
    runs(&["--attacks", "R12", "--lenient"]);
}

#[track_caller]
fn runs(arguments: &[&str]) {
    let mut soak = Child::start(env!("CARGO_BIN_EXE_soak"), arguments).unwrap();
    loop {
        match soak.line(BOUND) {
            Ok(line) => println!("{line}"),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(soak.wait(BOUND).unwrap(), "see what it says above");
}
