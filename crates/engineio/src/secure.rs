//! What keeps a server to TLS and its answers out of other pages: redirects, HSTS, headers, and what a session is bound to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use engineio_proto::origin::host_of;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

/// What becomes of requests that came without TLS. Given to [`Builder::require_tls`](crate::Builder::require_tls).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireTls {
    /// They get status 403.
    Reject,
    /// They get status 308 and the same address with `https`, on this port (`None`: 443, the usual one). An upgrade to
    /// WebSocket gets 403, because browsers follow no redirect there.
    Redirect(Option<u16>),
}

/// Tells browsers to come over TLS only, from now on: the header `Strict-Transport-Security` (RFC 6797). It is sent over TLS
/// only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hsts {
    /// For how long. Default: one year.
    pub max_age: Duration,
    /// Whether the same holds for all hosts below this one. Default: `false`.
    pub include_subdomains: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(365 * 24 * 60 * 60), include_subdomains: false }
    }
}

impl Hsts {
    pub(crate) fn header(&self) -> HeaderValue {
        let subdomains = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let text = format!("max-age={}{subdomains}", self.max_age.as_secs());
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("max-age=31536000"))
    }
}

/// What a session is bound to besides its id: a request that names the session and comes from elsewhere is told that there is
/// no such session. Given to [`Builder::session_binding`](crate::Builder::session_binding).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionBinding {
    pub(crate) address: bool,
    pub(crate) certificate: bool,
    pub(crate) cookie: Option<String>,
}

impl SessionBinding {
    /// Bound to nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bound to the client's address: the IPv4 address, the first 64 bits of the IPv6 one, seen through trusted proxies.
    ///
    /// Clients that wander from one network to another lose their session, and connect anew.
    #[must_use]
    pub fn address(mut self) -> Self {
        self.address = true;
        self
    }

    /// Bound to the value of a cookie that the application has set before, a login session's for example. One that was not
    /// there at the handshake must not be there later either.
    #[must_use]
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.cookie = Some(name.into());
        self
    }

    /// Bound to the certificate that the client has shown, or to none. For servers that ask for one; see
    /// [`Handshake::peer_certificate`](crate::Handshake::peer_certificate).
    #[must_use]
    pub fn certificate(mut self) -> Self {
        self.certificate = true;
        self
    }
}

/// The certificate that a client has shown, as DER. The TLS listener puts it into the extensions of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Arc<[u8]>);

/// The answer to a request that came without TLS although TLS is required.
pub(crate) fn without_tls(
    rule: RequireTls,
    method: &Method,
    uri: &Uri,
    authority: Option<&str>,
    is_upgrade: bool,
) -> Response<Bytes> {
    let target = match rule {
        RequireTls::Redirect(port) if !is_upgrade && method != Method::CONNECT => authority
            .and_then(host_of)
            .map(|host| {
                let port = port.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                format!("https://{host}{port}{path}")
            })
            .and_then(|target| HeaderValue::try_from(target).ok()),
        _ => None,
    };
    let mut response = Response::new(Bytes::from_static(b"this server is used over TLS only"));
    *response.status_mut() = if target.is_some() { StatusCode::PERMANENT_REDIRECT } else { StatusCode::FORBIDDEN };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(target) = target {
        headers.insert(LOCATION, target);
    }
    response
}

/// Headers that keep an answer from being anything but what it is. Those that are there already stay.
pub(crate) fn protect(headers: &mut HeaderMap) {
    const FIXED: [(HeaderName, &str); 4] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in FIXED {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

pub(crate) fn keep_to_tls(headers: &mut HeaderMap, hsts: &Hsts) {
    headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.header());
}

/// The value of a cookie in the `Cookie` headers of a request.
pub(crate) fn cookie_of<'a>(values: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    values
        .flat_map(|value| value.split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Compares secrets in a time that tells nothing of where they differ.
pub(crate) fn same_secret(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) if one.len() == other.len() => {
            one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_goes_to_the_same_place_over_tls() {
        use RequireTls::*;
        check(Redirect(None), "/a?b=c", Some("example.org"), false, Some("https://example.org/a?b=c"));
        check(Redirect(None), "/", Some("example.org:80"), false, Some("https://example.org/"));
        check(Redirect(Some(443)), "/", Some("example.org"), false, Some("https://example.org/"));
        check(Redirect(Some(8443)), "/x", Some("[::1]:3000"), false, Some("https://[::1]:8443/x"));
        check(Redirect(None), "/a", Some("example.org"), true, None);
        check(Redirect(None), "/a", None, false, None);
        check(Redirect(None), "/a", Some("evil.io/x?"), false, None);
        check(Redirect(None), "/a", Some("user@evil.io"), false, None);
        check(Reject, "/a", Some("example.org"), false, None);

        #[track_caller]
        fn check(rule: RequireTls, uri: &str, authority: Option<&str>, is_upgrade: bool, want: Option<&str>) {
            let answer = without_tls(rule, &Method::GET, &uri.parse().unwrap(), authority, is_upgrade);
            assert_eq!(answer.headers().get(LOCATION).map(|value| value.to_str().unwrap()), want);
            assert_eq!(answer.status().as_u16(), if want.is_some() { 308 } else { 403 });
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_names() {
        let value = |header: &'static str, name| cookie_of([header.as_bytes()].into_iter(), name);
        assert_eq!(value("a=1; session=x=y ; b=2", "session"), Some(&b"x=y"[..]));
        assert_eq!(value("mysession=1; session2=2", "session"), None);
        assert_eq!(value("session=", "session"), Some(&b""[..]));
        assert_eq!(cookie_of([&b"a=1"[..], b"b=2"].into_iter(), "b"), Some(&b"2"[..]));
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same_secret(None, None) && same_secret(Some(b"ab"), Some(b"ab")));
        for (one, other) in [(None, Some(&b""[..])), (Some(&b"ab"[..]), Some(&b"aB"[..])), (Some(b"a"), Some(b"ab"))] {
            assert!(!same_secret(one, other) && !same_secret(other, one));
        }
    }

    #[test]
    fn hsts_says_how_long_and_for_whom() {
        assert_eq!(Hsts::default().header(), "max-age=31536000");
        let hsts = Hsts { max_age: Duration::from_secs(60), include_subdomains: true };
        assert_eq!(hsts.header(), "max-age=60; includeSubDomains");
    }
}
