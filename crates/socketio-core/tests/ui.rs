//! What the compiler says to somebody who got a handler or an event wrong.

/// The words are pinned in `ui/*.stderr` as the compiler of `rust-version` prints them; others print them differently.
#[test]
fn wrong_handlers_and_events_are_refused_in_words_that_help() {
    let version = std::process::Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".")) {
        return eprintln!("left out: {version} is not the compiler whose words are pinned");
    }
    if cfg!(not(feature = "validate")) {
        return eprintln!("left out: the lists of extractors are pinned with the feature `validate`");
    }
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/*.rs");
}
