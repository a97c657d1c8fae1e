//! Which pages may talk to a server, by the `Origin` header, and which names a loopback server answers to.
//!
//! CORS does not protect a WebSocket: a browser opens one to any server, with cookies, and only tells where the page came
//! from. So the policy of [`Origins`] is checked on every request of every transport, also on those with a session id.
//! Clients that are no browsers send no `Origin` and are let in. [`cors`](crate::cors) is the other half: the response
//! headers that let a page of an allowed origin read what it gets.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::request::{BadRequest, Refusal};

/// The policy for the `Origin` header.
///
/// A pattern is an origin, `https://example.org` or `http://localhost:3000`; `https://*.example.org` is every host below
/// `example.org`, but not `example.org` itself; the port `*` is any port. Internationalised names are written in their
/// ASCII form, as browsers send them.
///
/// # Examples
/// ```
/// use engineio_proto::origin::Origins;
///
/// let origins = Origins::same_origin().allow("https://*.example.org");
/// assert!(origins.check(Some(b"https://app.example.org"), Some("api.test"), true, None).is_ok());
/// assert!(origins.check(Some(b"https://evil.test"), Some("api.test"), true, None).is_err());
/// ```
#[derive(Clone)]
pub struct Origins {
    base: Base,
    patterns: Vec<Pattern>,
    predicate: Option<Arc<Predicate>>,
    null: bool,
    required: bool,
    tls_elsewhere: bool,
    /// The first pattern that is none; it makes [`Origins::validate`] fail.
    invalid: Option<String>,
}

type Predicate = dyn Fn(&str) -> bool + Send + Sync;

/// What is allowed before any pattern is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Any,
    Same,
    Nothing,
}

impl Origins {
    /// Allows the server's own origin and what is listed with [`Origins::allow`]. This is the default.
    pub fn same_origin() -> Self {
        Self::on(Base::Same)
    }

    /// Allows what is listed with [`Origins::allow`], and not even the server's own origin.
    pub fn listed() -> Self {
        Self::on(Base::Nothing)
    }

    /// Allows every page in the world to use the cookies of its visitors here. Node does this by default.
    pub fn any() -> Self {
        Self::on(Base::Any)
    }

    fn on(base: Base) -> Self {
        let (patterns, invalid) = (Vec::new(), None);
        Self { base, patterns, predicate: None, null: false, required: false, tls_elsewhere: false, invalid }
    }

    /// Also allows the origins of this pattern. `null` is the same as [`Origins::allow_null`].
    ///
    /// A pattern that is none allows nothing and makes [`Origins::validate`] fail.
    #[must_use]
    pub fn allow(mut self, pattern: &str) -> Self {
        if pattern == "null" {
            return self.allow_null();
        }
        match Pattern::parse(pattern) {
            Some(pattern) => self.patterns.push(pattern),
            None => drop(self.invalid.get_or_insert_with(|| pattern.to_owned())),
        }
        self
    }

    /// Also allows the origins for which this returns `true`. It gets well-formed ASCII origins, as the client wrote them.
    #[must_use]
    pub fn allow_if(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(match self.predicate {
            None => Arc::new(predicate),
            Some(first) => Arc::new(move |origin: &str| first(origin) || predicate(origin)),
        });
        self
    }

    /// Also allows `Origin: null`, which sandboxed frames and pages opened from a file send. Any site can make such a frame.
    #[must_use]
    pub fn allow_null(mut self) -> Self {
        self.null = true;
        self
    }

    /// Refuses requests without an `Origin` header. Browsers leave it out on polls from the own origin.
    #[must_use]
    pub fn require_origin(mut self) -> Self {
        self.required = true;
        self
    }

    /// Takes an `https` page for the own origin although the request came without TLS, when host and port agree or both
    /// ports are the default ones: something in front of this server ends TLS and does not tell.
    #[must_use]
    pub fn allow_tls_elsewhere(mut self) -> Self {
        self.tls_elsewhere = true;
        self
    }

    /// Checks the configuration, once, before the policy is used.
    ///
    /// # Errors
    /// [`InvalidPattern`] with the first pattern that is none.
    pub fn validate(&self) -> Result<(), InvalidPattern> {
        self.invalid.clone().map_or(Ok(()), |pattern| Err(InvalidPattern(pattern)))
    }

    /// Whether every request is let in.
    pub fn is_any(&self) -> bool {
        self.base == Base::Any
    }

    /// Decides about one request.
    ///
    /// `origin` is the value of its `Origin` header (see [`single`]), `host` the authority that the client used: the `Host`
    /// header or `:authority`, as a trusted proxy passed it on. `secure` tells whether the client used TLS.
    /// `sec_fetch_site` is that header: a browser that leaves `Origin` out still tells there that another site is asking.
    ///
    /// # Errors
    /// [`OriginRefusal`] says what was wrong with the origin; it becomes a [`Refusal`].
    pub fn check(
        &self,
        origin: Option<&[u8]>,
        host: Option<&str>,
        secure: bool,
        sec_fetch_site: Option<&str>,
    ) -> Result<(), OriginRefusal> {
        let Some(origin) = origin else { return self.check_absent(sec_fetch_site) };
        if origin.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err(OriginRefusal::Invalid);
        }
        if self.base == Base::Any || self.lists(origin) {
            return Ok(());
        }
        if origin == b"null" {
            return Err(OriginRefusal::Null);
        }
        let origin = Origin::parse(origin).ok_or(OriginRefusal::Malformed)?;
        let own = self.base == Base::Same && host.is_some_and(|host| self.is_own(&origin, host, secure));
        if own { Ok(()) } else { Err(OriginRefusal::NotAllowed) }
    }

    /// Whether this origin is allowed by a pattern, a predicate or [`Origins::allow_null`], whatever the own origin is.
    pub fn lists(&self, origin: &[u8]) -> bool {
        if origin == b"null" {
            return self.null;
        }
        let Some(parsed) = Origin::parse(origin) else { return false };
        self.patterns.iter().any(|pattern| pattern.matches(&parsed))
            || self
                .predicate
                .as_ref()
                .is_some_and(|predicate| std::str::from_utf8(origin).is_ok_and(|origin| predicate(origin)))
    }

    fn check_absent(&self, sec_fetch_site: Option<&str>) -> Result<(), OriginRefusal> {
        if self.required {
            return Err(OriginRefusal::Missing);
        }
        // A script tag of another site asks without an origin. A neighbour on the same site may be one of the patterns.
        let foreign = match sec_fetch_site {
            Some("cross-site") => true,
            Some("same-site") => self.patterns.is_empty() && self.predicate.is_none(),
            _ => false,
        };
        if foreign && self.base != Base::Any { Err(OriginRefusal::CrossSite) } else { Ok(()) }
    }

    fn is_own(&self, origin: &Origin<'_>, host: &str, secure: bool) -> bool {
        let Some((host, port)) = split_authority(host) else { return false };
        let own = |scheme| Origin { scheme, host, port: port.or_else(|| default_port(scheme)) } == *origin;
        if secure { own("https") } else { own("http") || (self.tls_elsewhere && own("https")) }
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::same_origin()
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins")
            .field("base", &self.base)
            .field("patterns", &self.patterns)
            .field("predicate", &self.predicate.is_some())
            .field("null", &self.null)
            .field("required", &self.required)
            .field("tls_elsewhere", &self.tls_elsewhere)
            .finish_non_exhaustive()
    }
}

/// The value of the only `Origin` header of a request.
///
/// # Errors
/// [`OriginRefusal::Several`] when there is more than one.
pub fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, OriginRefusal> {
    let first = values.next();
    if values.next().is_some() { Err(OriginRefusal::Several) } else { Ok(first) }
}

/// Why a request was refused for where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OriginRefusal {
    /// There is no `Origin` header and the policy requires one.
    #[error("the request has no Origin header")]
    Missing,
    /// There is no `Origin` header, but the browser says that another site is asking.
    #[error("the request comes from another site")]
    CrossSite,
    /// There are several `Origin` headers.
    #[error("the request has several Origin headers")]
    Several,
    /// The header contains control characters.
    #[error("the Origin header contains control characters")]
    Invalid,
    /// The header is not an origin.
    #[error("the Origin header is not an origin")]
    Malformed,
    /// The origin is `null`.
    #[error("the origin is opaque")]
    Null,
    /// The origin is not on the list.
    #[error("the origin is not allowed")]
    NotAllowed,
}

impl From<OriginRefusal> for Refusal {
    fn from(refusal: OriginRefusal) -> Self {
        match refusal {
            OriginRefusal::Several | OriginRefusal::Invalid => Self::BadRequest(BadRequest::InvalidOrigin),
            OriginRefusal::Missing
            | OriginRefusal::CrossSite
            | OriginRefusal::Malformed
            | OriginRefusal::Null
            | OriginRefusal::NotAllowed => Self::Forbidden(Cow::Borrowed(Refusal::FORBIDDEN)),
        }
    }
}

/// A pattern given to [`Origins::allow`] that is none. Holds the pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin pattern such as `https://example.org` or `https://*.example.org`")]
pub struct InvalidPattern(pub String);

/// The names under which a server may be asked for: a shield against DNS rebinding.
///
/// A page whose name an attacker points at 127.0.0.1 is of the same origin as a server there, so only the `Host` header
/// gives it away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts {
    /// `None`: any name.
    names: Option<Vec<String>>,
}

impl Hosts {
    /// Answers to every name. This is the default, for servers that are meant to be reached.
    pub fn any() -> Self {
        Self { names: None }
    }

    /// Answers to the names of this machine: `localhost`, what ends in `.localhost`, 127.0.0.0/8 and `[::1]`.
    pub fn loopback() -> Self {
        Self { names: Some(Vec::new()) }
    }

    /// Also answers to this name, which has no port.
    #[must_use]
    pub fn allow(mut self, name: impl Into<String>) -> Self {
        if let Some(names) = &mut self.names {
            names.push(name.into());
        }
        self
    }

    /// Whether a request with this `Host` header (or `:authority`) may be answered; otherwise it gets status 421.
    ///
    /// A request without one comes from no browser and is let in.
    pub fn allows(&self, host: Option<&str>) -> bool {
        let (Some(names), Some(host)) = (&self.names, host) else { return true };
        let Some((host, _)) = split_authority(host) else { return false };
        is_loopback(host) || names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Whether this host, without a port, is a name of the machine itself.
fn is_loopback(host: &str) -> bool {
    let localhost = host.len().checked_sub("localhost".len()).and_then(|at| host.split_at_checked(at)).is_some_and(
        |(before, last)| last.eq_ignore_ascii_case("localhost") && (before.is_empty() || before.ends_with('.')),
    );
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    localhost
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.is_loopback()))
}

/// An origin taken apart: `scheme://host[:port]`, ASCII.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The port, the scheme's default one when none is written.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(origin: &'a [u8]) -> Option<Self> {
        let origin = std::str::from_utf8(origin).ok()?;
        let (scheme, authority) = split_scheme(origin)?;
        // `file://` has no host.
        let (host, port) = if authority.is_empty() && default_port(scheme).is_none() {
            ("", None)
        } else {
            split_authority(authority)?
        };
        Some(Self { scheme, host, port: port.or_else(|| default_port(scheme)) })
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    scheme: String,
    /// The host; for a wildcard the part behind the star, which begins with a dot.
    host: String,
    wildcard: bool,
    port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    Is(Option<u16>),
}

impl Pattern {
    fn parse(pattern: &str) -> Option<Self> {
        let (scheme, authority) = split_scheme(pattern)?;
        let (authority, any_port) = match authority.strip_suffix(":*") {
            Some(authority) => (authority, true),
            None => (authority, false),
        };
        let (authority, wildcard) = match authority.strip_prefix("*.") {
            Some(authority) => (authority, true),
            None => (authority, false),
        };
        let (host, port) = if authority.is_empty() && !wildcard && !any_port && default_port(scheme).is_none() {
            ("", None)
        } else {
            split_authority(authority)?
        };
        let ip = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        if (any_port && port.is_some()) || (wildcard && ip) {
            return None;
        }
        let port = if any_port { Port::Any } else { Port::Is(port.or_else(|| default_port(scheme))) };
        let host = if wildcard { format!(".{host}") } else { host.to_owned() };
        Some(Self { scheme: scheme.to_owned(), host, wildcard, port })
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        let host = if self.wildcard {
            // At least one character before the dot: `.x.com` is no host below `x.com`.
            let below = origin.host.len().checked_sub(self.host.len()).filter(|before| *before > 0);
            below.and_then(|at| origin.host.split_at_checked(at)).map(|(_, end)| end)
        } else {
            Some(origin.host)
        };
        self.scheme.eq_ignore_ascii_case(origin.scheme)
            && host.is_some_and(|host| self.host.eq_ignore_ascii_case(host))
            && match self.port {
                Port::Any => true,
                Port::Is(port) => port == origin.port,
            }
    }
}

/// `scheme://rest`, with a scheme as RFC 3986 spells it.
fn split_scheme(origin: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = origin.split_once("://")?;
    let valid = scheme.bytes().enumerate().all(|(at, byte)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => true,
        b'0'..=b'9' | b'+' | b'-' | b'.' => at > 0,
        _ => false,
    });
    (valid && !scheme.is_empty()).then_some((scheme, rest))
}

/// `host[:port]` with nothing before or behind, ASCII. The brackets of an IPv6 address stay.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        let (host, rest) = authority.split_at_checked(end + 1)?;
        let inner = host.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let valid = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if host.is_empty() || !valid {
            return None;
        }
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(port) if port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") {
        Some(80)
    } else {
        None
    }
}
