//! Session ids: 15 bytes from a generator seeded by the operating system, 20 base64url characters. In a cluster, the tag of
//! the server that has the session follows.
//!
//! The id is a bearer token for the polling transport, so `Debug` shows only its first characters.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use engineio_proto::forward::{RANDOM_LEN, ServerTag, TAGGED_LEN};
use rand::Rng;

/// A session id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sid {
    text: [u8; TAGGED_LEN],
    len: u8,
}

impl Sid {
    /// Draws a new id: 120 bits of a CSPRNG that reseeds itself from the operating system, and the tag of the server.
    pub(crate) fn random(tag: Option<ServerTag>) -> Self {
        let mut random = [0; 15];
        rand::rng().fill_bytes(&mut random);
        let mut text = [0; TAGGED_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(random, &mut text[..RANDOM_LEN]);
        debug_assert_eq!(written, Ok(RANDOM_LEN));
        if let Some(tag) = tag {
            text[RANDOM_LEN..].copy_from_slice(tag.as_str().as_bytes());
        }
        Self { text, len: if tag.is_some() { TAGGED_LEN } else { RANDOM_LEN } as u8 }
    }

    /// The id that a client sent, if it could be one of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_sid = matches!(bytes.len(), RANDOM_LEN | TAGGED_LEN)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_sid.then(|| {
            let mut text = [0; TAGGED_LEN];
            text[..bytes.len()].copy_from_slice(bytes);
            Self { text, len: bytes.len() as u8 }
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }

    /// A number to spread sessions over shards by: any byte of the random part will do.
    pub(crate) fn shard(&self) -> usize {
        usize::from(self.text[RANDOM_LEN - 1]) ^ (usize::from(self.text[RANDOM_LEN - 2]) << 3)
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
        let ids: HashSet<String> = (0..100_000).map(|_| Sid::random(None).as_str().to_owned()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.len() == 20 && Sid::parse(id).is_some()));
    }

    #[test]
    fn only_the_beginning_of_an_id_is_shown() {
        let sid = Sid::random(None);
        let shown = format!("{sid:?}");
        assert!(shown.len() < 12 && sid.as_str().starts_with(&shown[..6]), "{shown}");
    }

    #[test]
    fn in_a_cluster_the_server_is_the_end_of_the_id() {
        let tag = ServerTag::random(*b"server");
        let (sid, other) = (Sid::random(Some(tag)), Sid::random(Some(tag)));
        assert_eq!(ServerTag::of_sid(sid.as_str()), Some(tag));
        assert_eq!(Sid::parse(sid.as_str()), Some(sid));
        assert_eq!(Sid::parse(&sid.as_str()[..20]).map(|bare| bare == sid), Some(false));
        // What is shown in logs tells sessions apart, not servers.
        assert_ne!(format!("{sid:?}"), format!("{other:?}"));
    }

    #[test]
    fn foreign_ids_are_not_looked_up() {
        for text in
            ["", "zzz", "__proto__", "aaaaaaaaaaaaaaaaaaa\0", "aaaaaaaaaaaaaaaaaaaaa", "ääääääääää", "ääääääääääääää"]
        {
            assert!(Sid::parse(text).is_none(), "{text:?}");
        }
    }
}
