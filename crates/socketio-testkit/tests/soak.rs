//! Twenty seconds of what `cargo xtask soak crowd` does for half an hour. `SEED=n` repeats the choices of a run.

use std::{io, time::Duration};

use socketio_testkit::Child;

/// 8, 8 and 20 s of crowd, and what it takes until the last hostile client is given up, twice.
const BOUND: Duration = Duration::from_secs(400);

#[test]
fn good_clients_do_not_notice_hostile_and_slow_ones_and_nothing_of_them_stays() {
    let seed = std::env::var("SEED").unwrap_or_else(|_| "1".to_owned());
    let arguments = ["--seconds", "20", "--connections", "200", "--seed", &seed];
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
