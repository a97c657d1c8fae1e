//! Requests that reach the wrong server of a cluster, on paper: who owns a session, what servers tell each other, and how much.
//!
//! A session id of a server in a cluster ends with the server's [`ServerTag`], so whoever gets a request knows where it
//! belongs without asking anybody. [`Message`] is what such servers send each other, [`Members`] who is there, [`Flow`] how fast
//! the bytes of a WebSocket may come. All of it is plain data: no clock, no randomness, no I/O.
//!
//! One *exchange* is a request and its answer; if that is a WebSocket, the bytes of both directions belong to it, too. The
//! server that got the request is the *asker* and numbers the exchange, the *owner* is the one that has the session.

mod flow;
mod members;
mod wire;

pub use flow::{Flow, FlowError, MESSAGE_COST, WINDOW};
pub use members::{Heard, Members};
pub use wire::{Answer, Foreign, MAX_HEADERS, Message, Request, Side, VERSION, Verb, decode, encode};

use std::fmt;

/// How many characters a tag has.
pub const TAG_LEN: usize = 8;
/// How many characters of a session id are random.
pub const RANDOM_LEN: usize = 20;
/// How many characters a session id with a tag has.
pub const TAGGED_LEN: usize = RANDOM_LEN + TAG_LEN;

/// The name of a server at the end of its session ids: eight characters of base64url, drawn anew by each server that starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTag([u8; TAG_LEN]);

impl ServerTag {
    /// A tag from 48 random bits.
    pub fn random(bytes: [u8; 6]) -> Self {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let number = bytes.into_iter().fold(0_u64, |number, byte| number << 8 | u64::from(byte));
        Self(std::array::from_fn(|at| DIGITS[(number >> (6 * (TAG_LEN - 1 - at))) as usize & 63]))
    }

    /// The tag with this text, if it could be one.
    pub fn parse(text: &str) -> Option<Self> {
        let tag: [u8; TAG_LEN] = text.as_bytes().try_into().ok()?;
        tag.iter().all(|byte| is_digit(*byte)).then_some(Self(tag))
    }

    /// The tag of the server that has the session with this id, if the id could be one with a tag.
    pub fn of_sid(sid: &str) -> Option<Self> {
        let is_sid = sid.len() == TAGGED_LEN && sid.bytes().all(is_digit);
        is_sid.then(|| Self::parse(sid.get(RANDOM_LEN..)?)).flatten()
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ServerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_eight_characters_of_base64url() {
        assert_eq!(ServerTag::random([0; 6]).as_str(), "AAAAAAAA");
        assert_eq!(ServerTag::random([255; 6]).as_str(), "________");
        assert_eq!(ServerTag::random(*b"foobar").as_str(), "Zm9vYmFy");
    }

    #[test]
    fn the_owner_is_the_end_of_the_id() {
        check("aaaaaaaaaaaaaaaaaaaaZm9vYmFy", Some("Zm9vYmFy"));
        check("aaaaaaaaaaaaaaaaaaaa________", Some("________"));
        check("", None);
        check("Zm9vYmFy", None);
        check("aaaaaaaaaaaaaaaaaaaa", None);
        check("aaaaaaaaaaaaaaaaaaaaZm9vYmF", None);
        check("aaaaaaaaaaaaaaaaaaaaZm9vYmFyy", None);
        check("aaaaaaaaaaaaaaaaaaaaZm9vYmF=", None);
        check("aaaaaaaaaaaaaaaaaaa\0Zm9vYmFy", None);
        check("ääääääääääääää", None);

        #[track_caller]
        fn check(sid: &str, want: Option<&str>) {
            assert_eq!(ServerTag::of_sid(sid).as_ref().map(ServerTag::as_str), want, "{sid}");
        }
    }
}
