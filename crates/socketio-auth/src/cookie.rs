//! The session of a web application, by its cookie.

use std::error::Error;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hmac;

use crate::{Authenticator, Credentials, Denied, Identity};

/// Where sessions are kept: a table, Redis, the store of a web framework.
pub trait SessionStore: Send + Sync + 'static {
    /// What is known of whoever has a session.
    type Claims: Send + Sync + 'static;

    /// The session of this id, if there is one that has not expired.
    ///
    /// # Errors
    /// When the store cannot say; the client is told to try again.
    ///
    /// # Cancel safety
    /// Dropped when the client leaves or the time is up.
    fn load(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<Identity<Self::Claims>>, Box<dyn Error + Send + Sync>>> + Send;
}

/// How a cookie proves that the web application has set it.
#[non_exhaustive]
pub enum Signing {
    /// Not at all: its value is an id that cannot be guessed.
    Opaque,
    /// `s:<id>.<HMAC-SHA-256>`, as Express's `cookie-session` and `express-session` write it.
    Express(Vec<u8>),
    /// `<HMAC-SHA-256><id>`, as Rust's `cookie` crate writes signed cookies: the signing half (32 bytes) of its key.
    CookieCrate(Vec<u8>),
}

/// Authentication by the session cookie of a web application. The cookie is that of the request that opened the connection, so
/// the origin policy has to keep other sites' pages out; by default it does.
///
/// ```
/// use std::error::Error;
///
/// use socketio::Namespace;
/// use socketio_auth::{AuthExt, Identity, SessionCookie, SessionStore, Signing};
///
/// struct Table;
///
/// struct User(String);
///
/// impl SessionStore for Table {
///     type Claims = User;
///
///     async fn load(&self, id: &str) -> Result<Option<Identity<User>>, Box<dyn Error + Send + Sync>> {
///         Ok((id == "a long random id").then(|| Identity::new(User("ann".to_owned()))))
///     }
/// }
///
/// let cookie = SessionCookie::new("connect.sid", Table).signing(Signing::Express(b"the application's secret".to_vec()));
/// let chat = Namespace::new("/chat").auth(cookie);
/// # let _ = chat;
/// ```
pub struct SessionCookie<S> {
    name: String,
    store: S,
    signing: Signing,
}

impl<S: SessionStore> SessionCookie<S> {
    /// The cookie of this name is the id of a session in `store`.
    pub fn new(name: impl Into<String>, store: S) -> Self {
        Self { name: name.into(), store, signing: Signing::Opaque }
    }

    /// How the cookie is signed. Default: [`Signing::Opaque`].
    #[must_use]
    pub fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }
}

impl Signing {
    /// The id in a cookie's value, if its signature is good. The comparison takes the same time wherever it differs.
    fn open(&self, value: &str) -> Result<String, Denied> {
        let (secret, id, tag) = match self {
            Self::Opaque => return Ok(value.to_owned()),
            Self::Express(secret) => {
                let (id, tag) =
                    value.strip_prefix("s:").and_then(|rest| rest.rsplit_once('.')).ok_or(Denied::Malformed)?;
                (secret, id, STANDARD_NO_PAD.decode(tag.trim_end_matches('=')))
            }
            Self::CookieCrate(secret) => {
                let (tag, id) = value.split_at_checked(44).ok_or(Denied::Malformed)?;
                (secret, id, STANDARD.decode(tag))
            }
        };
        let tag = tag.map_err(|_| Denied::Malformed)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, id.as_bytes(), &tag).map_err(|_| Denied::Signature)?;
        Ok(id.to_owned())
    }
}

/// No id of a session is as long.
const LONGEST: usize = 1_024;

impl<S: SessionStore> Authenticator for SessionCookie<S> {
    type Claims = S::Claims;

    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity<S::Claims>, Denied> {
        let value = credentials.cookie(&self.name).ok_or(Denied::Missing)?;
        if value.len() > LONGEST {
            return Err(Denied::Malformed);
        }
        let id = self.signing.open(&decode(&value))?;
        match self.store.load(&id).await {
            Ok(Some(identity)) if identity.expires_at().is_some_and(|at| at <= std::time::SystemTime::now()) => {
                Err(Denied::Expired)
            }
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => Err(Denied::Unknown),
            Err(error) => {
                tracing::warn!(%error, "the store of sessions did not answer");
                Err(Denied::Unavailable)
            }
        }
    }
}

/// Undoes the percent-encoding that frameworks put around a cookie's value.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        rest = tail;
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opaque => "Opaque",
            Self::Express(_) => "Express",
            Self::CookieCrate(_) => "CookieCrate",
        })
    }
}

impl<S> fmt::Debug for SessionCookie<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCookie")
            .field("name", &self.name)
            .field("signing", &self.signing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_checked_in_both_forms() {
        // Of npm's cookie-signature 1.2: sign("hello", "tobiiscool").
        let express = Signing::Express(b"tobiiscool".to_vec());
        let signed = "s:hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI";
        assert_eq!(express.open(signed).as_deref(), Ok("hello"));
        assert_eq!(
            express.open(&decode("s%3Ahello.DGDUkGlIkCzPz%2BC0B064FNgHdEjox7ch8tOBGslZ5QI")).as_deref(),
            Ok("hello")
        );
        for (value, why) in [
            ("s:hello.", Denied::Signature),
            ("s:hellp.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI", Denied::Signature),
            ("s:hello.EGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI", Denied::Signature),
            ("hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI", Denied::Malformed),
            ("s:hello", Denied::Malformed),
            ("s:hello.!", Denied::Malformed),
        ] {
            assert_eq!(express.open(value), Err(why), "{value}");
        }
        let secret = vec![7; 32];
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"id");
        let value = format!("{}id", STANDARD.encode(tag));
        let signing = Signing::CookieCrate(secret);
        assert_eq!(signing.open(&value).as_deref(), Ok("id"));
        assert_eq!(signing.open(&format!("{value}x")), Err(Denied::Signature));
        assert_eq!(signing.open("short"), Err(Denied::Malformed));
    }

    #[test]
    fn an_encoded_value_is_decoded_and_nothing_breaks_it() {
        for (value, want) in [("a%20b", "a b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%ff", ""), ("é%41", "éA")]
        {
            assert_eq!(decode(value), want);
        }
    }
}
