//! What is remembered of the request that opened a session, in one compact allocation.

use std::{net::SocketAddr, time::SystemTime};

use http::request::Parts;

/// The request that opened a session.
///
/// Headers are copied into one small block: keeping `http::request::Parts` alive would pin the HTTP server's read buffer.
#[derive(Debug)]
pub struct Handshake {
    pub(crate) url: Box<str>,
    pub(crate) headers: Box<[(Box<str>, Box<[u8]>)]>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) secure: bool,
    pub(crate) issued: SystemTime,
}

impl Handshake {
    pub(crate) fn new(parts: &Parts, remote: Option<SocketAddr>, secure: bool) -> Self {
        let url = parts.uri.path_and_query().map_or("", |target| target.as_str()).into();
        let headers =
            parts.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect();
        Self { url, headers, remote, secure, issued: SystemTime::now() }
    }

    /// The request target as the client sent it: path and query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The query string, without the question mark.
    pub fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header with this name (any case), if it is visible ASCII or UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All headers in the order in which they came, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The address of the TCP peer, where the listener tells it.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Whether the session was opened over TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// When the request came.
    pub fn issued(&self) -> SystemTime {
        self.issued
    }

    /// Whether the request carried an `Origin` header. Node: `handshake.xdomain`.
    pub fn xdomain(&self) -> bool {
        self.header("origin").is_some()
    }
}
