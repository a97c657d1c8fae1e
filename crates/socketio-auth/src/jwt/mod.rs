//! JSON Web Tokens (RFC 7519): who may have signed them, for whom, until when.
//!
//! Algorithms are pinned: a key has one, and a token that names another is refused, `none` among them. So a public key is never
//! taken for a secret. The module `keys` has the keys, this file the rules about claims.

mod keys;
mod spki;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use keys::{Algorithm, InvalidKey, Keys};

use crate::{Authenticator, Credentials, Denied, Identity};

/// Authentication by JSON Web Token.
///
/// A client shows it as `token` in its `auth` payload, or in an `Authorization: Bearer` header. It has to be signed by one of the
/// [`Keys`], with that key's algorithm; to hold now, give or take the leeway; and to fit `C`, the type of the claims. A token
/// with an audience is accepted by a server of that [`audience`](Self::audience) only.
///
/// ```
/// use socketio_auth::{Algorithm, Jwt, Keys};
///
/// #[derive(serde::Deserialize)]
/// struct User {
///     sub: String,
///     roles: Vec<String>,
/// }
///
/// let keys = Keys::hmac(Algorithm::HS256, b"at least 32 bytes that nobody can guess")?;
/// let jwt = Jwt::<User>::new(keys).issuer("https://login.example").audience("chat");
/// # let _ = jwt;
/// # Ok::<(), socketio_auth::InvalidKey>(())
/// ```
pub struct Jwt<C> {
    keys: Keys,
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    without_expiry: bool,
    typ: Option<String>,
    cookie: Option<String>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    claims: PhantomData<fn() -> C>,
}

/// Longer tokens are not looked at.
const LONGEST: usize = 8 << 10;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood; we understand none.
    crit: Option<serde_json::Value>,
}

/// The claims that this file is about.
#[derive(Deserialize)]
struct Registered {
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    sub: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl<C: DeserializeOwned + Send + Sync + 'static> Jwt<C> {
    /// Tokens that one of these keys has signed.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            without_expiry: false,
            typ: None,
            cookie: None,
            clock: Arc::new(SystemTime::now),
            claims: PhantomData,
        }
    }

    /// Tokens of this issuer (`iss`), or another that is given. Default: whoever has the key.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Tokens for this audience (`aud`), or another that is given. Default: tokens without one.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// How far clocks may differ. Default: 30 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Tokens of this type (`typ`), `at+jwt` for example, in any case. Default: any.
    #[must_use]
    pub fn typ(mut self, typ: impl Into<String>) -> Self {
        self.typ = Some(typ.into());
        self
    }

    /// Looks for the token in this cookie, too.
    #[must_use]
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.cookie = Some(name.into());
        self
    }

    /// Accepts tokens that never expire. Default: a token without `exp` is refused.
    #[must_use]
    pub fn allow_without_expiry(mut self) -> Self {
        self.without_expiry = true;
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Looks at a token by itself, without reading keys anew.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Identity<C>, Denied> {
        if token.len() > LONGEST {
            return Err(Denied::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Denied::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Denied::Malformed)?;
        if claims.contains('.') {
            return Err(Denied::Malformed);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Denied::Malformed)?;
        if header.crit.is_some() {
            return Err(Denied::Malformed);
        }
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        self.keys.verify(&header.alg, header.kid.as_deref(), signed.as_bytes(), &signature)?;
        // From here on its issuer has said so.
        if let Some(typ) = &self.typ
            && !header.typ.is_some_and(|it| it.eq_ignore_ascii_case(typ))
        {
            return Err(Denied::Claims);
        }
        let registered: Registered = serde_json::from_slice(&claims).map_err(|_| Denied::Malformed)?;
        let expires = self.check(&registered, (self.clock)())?;
        let claims: C = serde_json::from_slice(&claims).map_err(|_| Denied::Claims)?;
        Ok(Identity::new(claims).expires(expires).subject(registered.sub))
    }

    /// Until when the token holds; `None` for ever.
    fn check(&self, claims: &Registered, now: SystemTime) -> Result<Option<SystemTime>, Denied> {
        if !self.issuers.is_empty() && !claims.iss.as_ref().is_some_and(|issuer| self.issuers.contains(issuer)) {
            return Err(Denied::Issuer);
        }
        let audience = match &claims.aud {
            None => &[][..],
            Some(OneOrMany::One(one)) => std::slice::from_ref(one),
            Some(OneOrMany::Many(many)) => many,
        };
        let is_ours = audience.iter().any(|audience| self.audiences.contains(audience));
        if !is_ours && (claims.aud.is_some() || !self.audiences.is_empty()) {
            return Err(Denied::Audience);
        }
        if let Some(from) = claims.nbf {
            let from = moment(from).ok_or(Denied::NotYetValid)?;
            if from > now.checked_add(self.leeway).unwrap_or(now) {
                return Err(Denied::NotYetValid);
            }
        }
        let Some(until) = claims.exp else {
            return if self.without_expiry { Ok(None) } else { Err(Denied::Claims) };
        };
        // What no clock can show is never.
        let Some(until) = moment(until).and_then(|until| until.checked_add(self.leeway)) else {
            return if until > 0.0 { Ok(None) } else { Err(Denied::Expired) };
        };
        if until <= now { Err(Denied::Expired) } else { Ok(Some(until)) }
    }
}

/// A time in seconds since 1970, fractions included.
fn moment(seconds: f64) -> Option<SystemTime> {
    Duration::try_from_secs_f64(seconds).ok().and_then(|since| UNIX_EPOCH.checked_add(since))
}

impl<C: DeserializeOwned + Send + Sync + 'static> Authenticator for Jwt<C> {
    type Claims = C;

    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity<C>, Denied> {
        let from_cookie = || credentials.cookie(self.cookie.as_deref()?);
        let token = credentials.auth("token").or_else(|| credentials.bearer()).or_else(from_cookie);
        let token = token.filter(|token| !token.is_empty()).ok_or(Denied::Missing)?;
        self.keys.look_at_file(false).await;
        match self.verify(&token) {
            // It may be signed by a key that is new.
            Err(Denied::UnknownKey) if self.keys.look_at_file(true).await => self.verify(&token),
            decided => decided,
        }
    }
}

impl<C> fmt::Debug for Jwt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("keys", &self.keys)
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
