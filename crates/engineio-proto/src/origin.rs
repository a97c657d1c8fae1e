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
    /// Whether the names of this machine are among them.
    loopback: bool,
}

impl Hosts {
    /// Answers to every name. This is the default, for servers that are meant to be reached.
    pub fn any() -> Self {
        Self { names: None, loopback: true }
    }

    /// Answers to the names of this machine: `localhost`, what ends in `.localhost`, 127.0.0.0/8 and `[::1]`.
    pub fn loopback() -> Self {
        Self { names: Some(Vec::new()), loopback: true }
    }

    /// Answers to these names, which have no port: `example.org`, `*.example.org` for every name below it, `192.0.2.1`,
    /// `[2001:db8::1]`. [`Hosts::loopback`] with [`Hosts::allow`] adds the names of this machine.
    pub fn listed<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: Some(names.into_iter().map(Into::into).collect()), loopback: false }
    }

    /// Whether every name is answered to.
    pub fn is_any(&self) -> bool {
        self.names.is_none()
    }

    /// Checks the names, once, before they are used.
    ///
    /// # Errors
    /// The first name that no client could ask for: one with a port, a path or letters that are not ASCII.
    pub fn validate(&self) -> Result<(), InvalidHost> {
        let wrong = |name: &&String| {
            let host = name.strip_prefix("*.").unwrap_or(name);
            !matches!(split_authority(host), Some((host, None)) if !host.starts_with('.'))
        };
        let wrong = self.names.iter().flatten().find(wrong);
        wrong.map_or(Ok(()), |name| Err(InvalidHost(name.clone())))
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
        (self.loopback && is_loopback(host))
            || names.iter().any(|name| match name.strip_prefix('*') {
                Some(end) => {
                    let below = host.len().checked_sub(end.len()).filter(|before| *before > 0);
                    let host = below.and_then(|at| host.split_at_checked(at)).map(|(_, end)| end);
                    host.is_some_and(|host| host.eq_ignore_ascii_case(end))
                }
                None => name.eq_ignore_ascii_case(host),
            })
    }
}

/// A name given to [`Hosts`] that is none. Holds the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name such as `example.org` or `*.example.org`")]
pub struct InvalidHost(pub String);

/// The host of an authority, `host[:port]`, with the brackets of an IPv6 address; `None` if it is none.
pub fn host_of(authority: &str) -> Option<&str> {
    split_authority(authority).map(|(host, _)| host)
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Option<&str> = Some("app.x.com");

    #[track_caller]
    fn check(origins: &Origins, origin: &str, want: Result<(), OriginRefusal>) {
        assert_eq!(origins.check(Some(origin.as_bytes()), HOST, true, None), want, "origin: {origin:?}");
    }

    #[test]
    fn by_default_only_the_own_origin_is_allowed() {
        use OriginRefusal::*;
        let same = Origins::default();
        check(&same, "https://app.x.com", Ok(()));
        check(&same, "https://app.x.com:443", Ok(())); // O10
        check(&same, "HTTPS://APP.X.COM", Ok(())); // O11
        check(&same, "https://evil", Err(NotAllowed)); // O01
        check(&same, "https://x.com", Err(NotAllowed));
        check(&same, "https://app.x.com.evil.io", Err(NotAllowed));
        check(&same, "https://app.x.com:8443", Err(NotAllowed)); // O10
        check(&same, "http://app.x.com", Err(NotAllowed));
        check(&same, "http://app.x.com:443", Err(NotAllowed));
        check(&same, "wss://app.x.com", Err(NotAllowed));
        check(&same, "file://", Err(NotAllowed));
        check(&same, "null", Err(Null)); // O02
        for origin in [
            "",
            "app.x.com",
            "https:app.x.com",
            "https://",
            "://app.x.com",
            "1https://app.x.com",
            "https://app.x.com/",
            "https://evil.io/.x.com", // O09
            "https://app.x.com:",
            "https://app.x.com:+443",
            "https://app.x.com:443443",
            "https://app.x.com:70000",
            "https://user@app.x.com",
            "https://app.x.com?",
            "https://app.x.com https://evil",
            "https://app.x.com, https://app.x.com",
            " https://app.x.com",
            "https://app\\.x.com",
            "https://[::1",
            "https://[::1]x",
            "https://[app.x.com]",
        ] {
            check(&same, origin, Err(Malformed));
        }
        // H11, O14: names are compared in ASCII, so anything else is no origin.
        check(&same, "http://ü", Err(Malformed));
        assert_eq!(same.check(Some(b"http://\xfc"), HOST, true, None), Err(Malformed));
        // H10, should the HTTP parser let it through
        for origin in [b"http://a\x7fb".as_slice(), b"\x01", b"https://app.x.com\r\n", b"a\0"] {
            assert_eq!(same.check(Some(origin), HOST, true, None), Err(Invalid));
            assert_eq!(Origins::any().check(Some(origin), HOST, true, None), Err(Invalid));
        }
    }

    #[test]
    fn the_own_origin_is_scheme_host_and_port_of_the_request() {
        let table = [
            ("http://app.x.com", "app.x.com", false, true),
            ("http://app.x.com", "app.x.com:80", false, true),
            ("http://app.x.com:80", "app.x.com", false, true),
            ("http://app.x.com:3000", "app.x.com:3000", false, true),
            ("http://app.x.com:3000", "APP.x.com:3000", false, true),
            ("http://app.x.com:3001", "app.x.com:3000", false, false),
            ("http://app.x.com", "app.x.com:3000", false, false),
            ("https://app.x.com", "app.x.com", false, false),
            ("https://app.x.com:80", "app.x.com", false, false),
            ("http://app.x.com", "app.x.com", true, false),
            ("https://app.x.com", "app.x.com:443", true, true),
            ("http://[::1]:3000", "[::1]:3000", false, true),
            ("http://127.0.0.1:3000", "127.0.0.1:3000", false, true),
            ("http://localhost:3000", "127.0.0.1:3000", false, false),
            ("https://xn--mller-kva.de", "xn--mller-kva.de", true, true), // O14
            ("https://app.x.com", "app.x.com/", true, false),
            ("https://app.x.com", "", true, false),
            ("https://app.x.com", "müller.de", true, false),
        ];
        for (origin, host, secure, want) in table {
            let got = Origins::same_origin().check(Some(origin.as_bytes()), Some(host), secure, None);
            assert_eq!(got.is_ok(), want, "{origin} at {host}, secure: {secure}");
        }
        let got = Origins::same_origin().check(Some(b"https://app.x.com"), None, true, None);
        assert_eq!(got, Err(OriginRefusal::NotAllowed));
        let got = Origins::listed().check(Some(b"https://app.x.com"), HOST, true, None);
        assert_eq!(got, Err(OriginRefusal::NotAllowed));
    }

    #[test]
    fn tls_may_end_elsewhere_when_that_is_allowed() {
        let origins = Origins::same_origin().allow_tls_elsewhere();
        for (origin, host, secure, want) in [
            ("https://app.x.com", "app.x.com", false, true),
            ("http://app.x.com", "app.x.com", false, true),
            ("https://app.x.com:8443", "app.x.com:8443", false, true),
            ("https://app.x.com:8443", "app.x.com", false, false),
            ("https://app.x.com", "app.x.com:3000", false, false),
            ("http://app.x.com", "app.x.com", true, false),
            ("https://evil.io", "app.x.com", false, false),
        ] {
            let got = origins.check(Some(origin.as_bytes()), Some(host), secure, None);
            assert_eq!(got.is_ok(), want, "{origin} at {host}, secure: {secure}");
        }
    }

    #[test]
    fn patterns_match_whole_hosts() {
        use OriginRefusal::*;
        let list = Origins::listed().allow("https://*.x.com").allow("http://localhost:*").allow("capacitor://app");
        assert_eq!(list.validate(), Ok(()));
        check(&list, "https://a.x.com", Ok(())); // O05
        check(&list, "https://a.b.x.com", Ok(()));
        check(&list, "https://A.X.com:443", Ok(())); // O10, O11
        check(&list, "https://x.com", Err(NotAllowed)); // O06
        check(&list, "https://badx.com", Err(NotAllowed)); // O07
        check(&list, "https://a.x.com.evil.io", Err(NotAllowed)); // O08
        check(&list, "https://evil.io/.x.com", Err(Malformed)); // O09
        check(&list, "https://.x.com", Err(NotAllowed));
        check(&list, "http://a.x.com", Err(NotAllowed));
        check(&list, "https://a.x.com:8443", Err(NotAllowed));
        check(&list, "http://localhost", Ok(()));
        check(&list, "http://localhost:5173", Ok(()));
        check(&list, "http://localhost.evil.io", Err(NotAllowed));
        check(&list, "https://localhost", Err(NotAllowed));
        check(&list, "capacitor://app", Ok(()));
        check(&list, "capacitor://app:80", Err(NotAllowed));
        check(&list, "null", Err(Null));

        let list = Origins::listed().allow("https://x.com:443").allow("http://y.com").allow("file://");
        check(&list, "https://x.com", Ok(())); // O10
        check(&list, "http://y.com:80", Ok(()));
        check(&list, "file://", Ok(()));
        check(&list, "https://y.com", Err(NotAllowed));
    }

    #[test]
    fn a_pattern_that_is_none_allows_nothing_and_is_reported() {
        for pattern in [
            "",
            "x.com",
            "*",
            "*.x.com",
            "https://",
            "https://*",
            "https://*.",
            "https://*x.com",
            "https://a.*.com",
            "https://x.com/",
            "https://x.com:*:*",
            "https://x.com:80:*",
            "https://*.127.0.0.1",
            "https://*.[::1]",
            "https://müller.de",
            "NULL",
        ] {
            let origins = Origins::listed().allow("https://ok").allow(pattern).allow("also wrong");
            assert_eq!(origins.validate(), Err(InvalidPattern(pattern.to_owned())), "{pattern}");
            check(&origins, "https://ok", Ok(()));
            check(&origins, "https://evil", Err(OriginRefusal::NotAllowed));
        }
    }

    #[test]
    fn any_means_any() {
        let any = Origins::any();
        assert!(any.is_any() && !Origins::same_origin().is_any());
        for origin in ["https://evil", "null", "http://ü", "", "garbage"] {
            check(&any, origin, Ok(()));
        }
        assert_eq!(any.check(None, None, false, Some("cross-site")), Ok(()));
    }

    #[test]
    fn null_must_be_listed() {
        // O02
        check(&Origins::same_origin().allow_null(), "null", Ok(()));
        check(&Origins::same_origin().allow("null"), "null", Ok(()));
        check(&Origins::same_origin().allow("null"), "NULL", Err(OriginRefusal::Malformed));
        check(&Origins::same_origin().allow_if(|_| true), "null", Err(OriginRefusal::Null));
    }

    #[test]
    fn predicates_see_well_formed_origins() {
        let origins =
            Origins::listed().allow_if(|origin| origin.ends_with(".a")).allow_if(|origin| origin.contains("b"));
        check(&origins, "https://x.a", Ok(()));
        check(&origins, "https://b.y", Ok(()));
        check(&origins, "https://c", Err(OriginRefusal::NotAllowed));
        check(&origins, "b", Err(OriginRefusal::Malformed));
    }

    #[test]
    fn requests_without_an_origin_come_from_no_foreign_page() {
        use OriginRefusal::*;
        let same = Origins::same_origin();
        let list = Origins::same_origin().allow("https://*.x.com");
        let required = Origins::same_origin().require_origin();
        check(&same, None, Ok(())); // O03
        check(&same, Some("same-origin"), Ok(()));
        check(&same, Some("none"), Ok(()));
        check(&same, Some("cross-site"), Err(CrossSite)); // O15
        check(&same, Some("same-site"), Err(CrossSite));
        check(&list, Some("same-site"), Ok(()));
        check(&list, Some("cross-site"), Err(CrossSite));
        check(&required, None, Err(Missing));
        check(&required, Some("same-origin"), Err(Missing));

        #[track_caller]
        fn check(origins: &Origins, sec_fetch_site: Option<&str>, want: Result<(), OriginRefusal>) {
            assert_eq!(origins.check(None, HOST, true, sec_fetch_site), want, "{origins:?} {sec_fetch_site:?}");
        }
    }

    #[test]
    fn two_origins_are_one_too_many() {
        // O04
        assert_eq!(single([].into_iter()), Ok(None));
        assert_eq!(single([b"a".as_slice()].into_iter()), Ok(Some(b"a".as_slice())));
        assert_eq!(single([b"a".as_slice(), b"a"].into_iter()), Err(OriginRefusal::Several));
    }

    #[test]
    fn refusals_are_forbidden_or_bad_requests() {
        use OriginRefusal::*;
        for (refusal, code, status) in [
            (Missing, 4, 403),
            (CrossSite, 4, 403),
            (Malformed, 4, 403),
            (Null, 4, 403),
            (NotAllowed, 4, 403),
            (Several, 3, 400),
            (Invalid, 3, 400),
        ] {
            let refusal = Refusal::from(refusal);
            assert_eq!((refusal.code(), refusal.status()), (code, status));
        }
    }

    #[test]
    fn a_loopback_server_answers_to_its_own_names() {
        // O13
        let hosts = Hosts::loopback().allow("dev.test");
        for (host, want) in [
            ("localhost", true),
            ("LOCALHOST:3000", true),
            ("app.localhost:3000", true),
            ("127.0.0.1", true),
            ("127.1.2.3:80", true),
            ("[::1]:3000", true),
            ("dev.test:3000", true),
            ("attacker.test", false),
            ("attacker.test:3000", false),
            ("localhost.attacker.test", false),
            ("evillocalhost", false),
            ("127.0.0.1.attacker.test", false),
            ("128.0.0.1", false),
            ("0.0.0.0", false),
            ("[::2]", false),
            ("[::ffff:127.0.0.1]", false),
            ("localhost@attacker.test", false),
            ("", false),
            ("localhost:x", false),
        ] {
            assert_eq!(hosts.allows(Some(host)), want, "host: {host:?}");
            assert!(Hosts::any().allows(Some(host)));
        }
        assert!(hosts.allows(None));
        assert!(!Hosts::loopback().allows(Some("dev.test")));
    }

    #[test]
    fn a_server_answers_to_the_names_it_was_given_and_to_no_other() {
        let hosts = Hosts::listed(["example.org", "*.example.net", "192.0.2.1", "[2001:db8::1]"]);
        assert_eq!(hosts.validate(), Ok(()));
        for (host, want) in [
            ("example.org", true),
            ("EXAMPLE.org:8443", true),
            ("a.example.net", true),
            ("a.b.example.net:1", true),
            ("192.0.2.1", true),
            ("[2001:db8::1]:443", true),
            ("example.net", false),
            (".example.net", false),
            ("badexample.net", false),
            ("example.org.evil.io", false),
            ("evil.io", false),
            ("localhost", false),
            ("127.0.0.1", false),
            ("", false),
            ("example.org/", false),
        ] {
            assert_eq!(hosts.allows(Some(host)), want, "{host}");
        }
        assert!(hosts.allows(None));
        assert!(Hosts::loopback().allow("example.org").allows(Some("localhost")));
        for wrong in ["", "*", "*.", "*.*", "example.org:80", "https://example.org", "a b", "müller.de", "*..org"] {
            assert_eq!(Hosts::listed(["ok", wrong]).validate(), Err(InvalidHost(wrong.to_owned())), "{wrong}");
        }
    }
}
