//! What must hold whatever bytes arrive: one function for each decoder and each machine, with its invariants asserted.
//!
//! A target takes any bytes and panics when an invariant is broken. `fuzz_targets/` hands them to libFuzzer
//! (`RUSTC_BOOTSTRAP=1 cargo fuzz run NAME` from the folder above), `tests/replay.rs` runs the committed corpora and fresh
//! mutations of them with plain `cargo test`, and a binary that is built without a fuzzer runs the files it is given:
//! `cargo run --bin NAME FILE…`.
//!
//! Inputs are the bytes of the wire where that is possible, so a seed reads like the message it is. The machines take a
//! list of operations, one letter each with its operands behind; what each letter means stands in the target's module.
//! What a fuzzer finds joins the corpus, as small as it can be made.

#![forbid(unsafe_code)]

mod acks;
mod client;
mod connection;
mod forward;
mod handshake;
mod input;
mod json;
mod jsonp;
mod msgpack;
mod open;
mod payload;
mod request;
mod sequence;
mod session;
mod tunnel;
mod types;
mod values;
mod webtransport;
mod ws;

pub use acks::sio_acks;
pub use client::{eio_client, sio_client};
pub use connection::sio_connection;
pub use forward::eio_forward;
pub use handshake::ws_handshake;
pub use input::Random;
pub use json::sio_json;
pub use jsonp::eio_jsonp;
pub use msgpack::sio_msgpack;
pub use open::eio_open_packet;
pub use payload::{eio_payload_v3_binary, eio_payload_v3_text, eio_payload_v4};
pub use request::eio_request;
pub use sequence::sio_sequence;
pub use session::eio_session;
pub use tunnel::eio_tunnel;
pub use types::sio_types;
pub use webtransport::eio_webtransport;
pub use ws::{ws_client, ws_deflate, ws_server};

/// A fuzz target under the name of its binary and of its corpus.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Panics when an invariant is broken.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name }),*];
    };
}

targets! {
    eio_tunnel eio_forward
    eio_payload_v4 eio_payload_v3_text eio_payload_v3_binary eio_jsonp eio_webtransport eio_open_packet eio_request
    eio_session ws_server ws_client ws_deflate ws_handshake sio_json sio_sequence sio_msgpack sio_types sio_connection
    sio_acks eio_client sio_client
}

/// The body of a file in `fuzz_targets/`: a libFuzzer entry, or without a fuzzer a `main` that runs files.
#[macro_export]
macro_rules! fuzz {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $target(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::run_files($target)
        }
    };
}

/// Runs the files that the command line names.
///
/// # Errors
/// A file cannot be read.
///
/// # Panics
/// When an invariant is broken.
pub fn run_files(run: fn(&[u8])) -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        run(&std::fs::read(file)?);
    }
    Ok(())
}
