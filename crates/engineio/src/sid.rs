//! Session ids: 15 bytes from a generator seeded by the operating system, 20 base64url characters.
//!
//! Node's adapters test for a length of 20. The id is a bearer token for the polling transport, so `Debug` shows only its
//! first characters.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;

/// A session id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sid([u8; 20]);

impl Sid {
    /// Draws a new id: 120 bits of a CSPRNG that reseeds itself from the operating system.
    pub(crate) fn random() -> Self {
        let mut random = [0; 15];
        rand::rng().fill_bytes(&mut random);
        let mut sid = [0; 20];
        let written = URL_SAFE_NO_PAD.encode_slice(random, &mut sid);
        debug_assert_eq!(written, Ok(20));
        Self(sid)
    }

    /// The id that a client sent, if it could be one of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// A number to spread sessions over shards by: any byte of a random id will do.
    pub(crate) fn shard(&self) -> usize {
        usize::from(self.0[19]) ^ (usize::from(self.0[18]) << 3)
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.as_str()[..6])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_twenty_url_characters_and_never_the_same() {
        let ids: HashSet<String> = (0..100_000).map(|_| Sid::random().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.len() == 20 && Sid::parse(id).is_some()));
    }

    #[test]
    fn only_the_beginning_of_an_id_is_shown() {
        let sid = Sid::random();
        let shown = format!("{sid:?}");
        assert!(shown.len() < 12 && sid.as_str().starts_with(&shown[..6]), "{shown}");
    }

    #[test]
    fn foreign_ids_are_not_looked_up() {
        for text in ["", "zzz", "__proto__", "aaaaaaaaaaaaaaaaaaa\0", "aaaaaaaaaaaaaaaaaaaaa", "ääääääääää"] {
            assert!(Sid::parse(text).is_none(), "{text:?}");
        }
    }
}
