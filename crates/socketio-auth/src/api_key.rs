//! Keys that programs show instead of logging in.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{Authenticator, Credentials, Denied, Identity};

/// API keys, of which only the SHA-256 is kept. A key is random and long, so nothing slower is needed.
///
/// It is shown as the header `x-api-key` or as `apiKey` in the `auth` payload. How long the comparison takes says nothing about
/// the keys there are.
///
/// ```
/// use socketio::Namespace;
/// use socketio_auth::{ApiKeys, AuthExt};
///
/// struct Robot(&'static str);
///
/// let keys = ApiKeys::new()
///     .key("0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0", Robot("thermometer"))?;
/// let sensors = Namespace::new("/sensors").auth(keys);
/// # let _ = sensors;
/// # Ok::<(), socketio_auth::InvalidKey>(())
/// ```
pub struct ApiKeys<C> {
    keys: Vec<([u8; 32], Arc<C>)>,
    header: String,
    field: String,
}

impl<C> Default for ApiKeys<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> ApiKeys<C> {
    /// No keys: nobody gets in.
    pub fn new() -> Self {
        Self { keys: Vec::new(), header: "x-api-key".to_owned(), field: "apiKey".to_owned() }
    }

    /// Adds a key by its SHA-256 in hexadecimal digits; see [`hash`](Self::hash).
    ///
    /// # Errors
    /// When that is no SHA-256.
    pub fn key(mut self, sha256: &str, claims: C) -> Result<Self, crate::InvalidKey> {
        let digits: Option<Vec<u8>> =
            sha256.chars().map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let bytes: Option<Vec<u8>> =
            digits.map(|digits| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect());
        let hash = bytes.filter(|_| sha256.len() == 64).and_then(|bytes| bytes.try_into().ok());
        self.keys.push((hash.ok_or(crate::InvalidKey::Hash)?, Arc::new(claims)));
        Ok(self)
    }

    /// The header that carries a key. Default: `x-api-key`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = name.into();
        self
    }

    /// The SHA-256 of a key, in hexadecimal digits: what to keep instead of the key.
    pub fn hash(key: &str) -> String {
        digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<C: Send + Sync + 'static> ApiKeys<C> {
    fn find(&self, key: &str) -> Option<&Arc<C>> {
        let hash = digest(&SHA256, key.as_bytes());
        let (mut found, mut at) = (Choice::from(0), 0_u32);
        // All of them are looked at, whatever is found.
        for (index, (known, _)) in self.keys.iter().enumerate() {
            let same = known[..].ct_eq(hash.as_ref());
            at.conditional_assign(&(index as u32), same);
            found |= same;
        }
        bool::from(found).then(|| &self.keys[at as usize].1)
    }
}

impl<C: Send + Sync + 'static> Authenticator for ApiKeys<C> {
    type Claims = Arc<C>;

    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity<Arc<C>>, Denied> {
        let shown =
            credentials.header(&self.header).or_else(|| credentials.auth(&self.field)).ok_or(Denied::Missing)?;
        self.find(&shown).map(|claims| Identity::new(claims.clone())).ok_or(Denied::Unknown)
    }
}

impl<C> fmt::Debug for ApiKeys<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash_only() {
        let hash = ApiKeys::<()>::hash("secret");
        assert_eq!(hash, "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        let keys = ApiKeys::new()
            .key(&ApiKeys::<()>::hash("other"), 1)
            .and_then(|keys| keys.key(&hash, 2))
            .and_then(|keys| keys.key(&ApiKeys::<()>::hash("third"), 3))
            .unwrap();
        for (key, want) in [("other", Some(1)), ("secret", Some(2)), ("third", Some(3)), ("", None), (&hash, None)] {
            assert_eq!(keys.find(key).map(|claims| **claims), want, "{key}");
        }
        assert!(ApiKeys::new().key("secret", ()).is_err());
        assert!(ApiKeys::new().key(&"zz".repeat(32), ()).is_err());
        assert!(!format!("{keys:?}").contains("2bb8"));
    }
}
