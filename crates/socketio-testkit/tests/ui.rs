//! What the compiler says to somebody who got a handler, an event or middleware wrong, at the server or the client. It is here
//! and not beside the server because a case is compiled with everything that its crate's tests need, and these need little.

/// The words are pinned in `ui/*.stderr` as the compiler of `rust-version` prints them.
#[test]
fn what_does_not_fit_is_refused_in_words_that_help() {
    let version = std::process::Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".")) {
        return eprintln!("left out: {version} is not the compiler whose words are pinned");
    }
    let tests = trybuild::TestCases::new();
    for case in ["handlers", "events", "middleware", "client"] {
        tests.compile_fail(format!("tests/ui/{case}.rs"));
    }
}
