//! What is remembered of the request that opened a session, in one compact allocation.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use engineio_proto::proxies::TrustedProxies;
use http::request::Parts;

use crate::PeerCertificate;

/// The request that opened a session.
///
/// The target and the headers are copied into one small block: keeping `http::request::Parts` alive would pin the HTTP
/// server's read buffer, and a table of headers costs an allocation for each.
#[derive(Debug)]
pub struct Handshake {
    /// The target, then for each header the length of its name (1 byte) and of its value (2 bytes), name and value.
    block: Box<[u8]>,
    url_len: u32,
    remote: Option<SocketAddr>,
    secure: bool,
    certificate: Option<Arc<[u8]>>,
    issued: SystemTime,
}

impl Handshake {
    pub(crate) fn new(parts: &Parts, remote: Option<SocketAddr>, secure: bool) -> Self {
        let url = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let len = parts.headers.iter().map(|(name, value)| 3 + name.as_str().len() + value.len()).sum::<usize>();
        let mut block = Vec::with_capacity(url.len() + len);
        block.extend_from_slice(url.as_bytes());
        for (name, value) in &parts.headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            // What is longer than its length field does not come past the limits of a request head.
            let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u16::try_from(value.len())) else {
                continue;
            };
            block.push(name_len);
            block.extend_from_slice(&value_len.to_be_bytes());
            block.extend_from_slice(name);
            block.extend_from_slice(value);
        }
        Self {
            url_len: url.len() as u32,
            block: block.into(),
            remote,
            secure,
            certificate: parts.extensions.get::<PeerCertificate>().map(|certificate| certificate.0.clone()),
            issued: SystemTime::now(),
        }
    }

    /// The request target as the client sent it: path and query.
    pub fn url(&self) -> &str {
        self.block.get(..self.url_len as usize).and_then(|url| std::str::from_utf8(url).ok()).unwrap_or_default()
    }

    /// The query string, without the question mark.
    pub fn query(&self) -> &str {
        self.url().split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header with this name (any case), if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All headers in the order in which they came, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.block.get(self.url_len as usize..).unwrap_or_default();
        std::iter::from_fn(move || {
            let [name_len, high, low, tail @ ..] = rest else { return None };
            let (name, tail) = tail.split_at_checked(usize::from(*name_len))?;
            let (value, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
            rest = tail;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// The address of the TCP peer, where the listener tells it.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The address of the client, where these proxies stand in front of the server: the TCP peer's, or what a proxy says.
    pub fn client_ip(&self, proxies: &TrustedProxies) -> Option<IpAddr> {
        let name = proxies.header_in_use().name();
        let values: Vec<&[u8]> = self.headers().filter(|(key, _)| *key == name).map(|(_, value)| value).collect();
        Some(proxies.client(self.remote?.ip(), values))
    }

    /// Whether the session was opened over TLS: by our own listener, or by a trusted proxy that says so.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// The certificate that the client has shown, as DER, where our TLS listener was configured to ask for one.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// When the request came.
    pub fn issued(&self) -> SystemTime {
        self.issued
    }

    /// Whether the request carried an `Origin` header. Node: `handshake.xdomain`.
    pub fn xdomain(&self) -> bool {
        self.headers().any(|(name, _)| name == "origin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_the_request_can_be_read_again() {
        let request = http::Request::get("/engine.io/?EIO=4&x=1")
            .header("Host", "example.org")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
            .header("X-Latin", &b"\xfc"[..])
            .header("X-Empty", "")
            .body(())
            .unwrap();
        let handshake = Handshake::new(&request.into_parts().0, None, true);
        assert_eq!(handshake.url(), "/engine.io/?EIO=4&x=1");
        assert_eq!(handshake.query(), "EIO=4&x=1");
        assert_eq!(handshake.header("HOST"), Some("example.org"));
        assert_eq!(handshake.header("x-latin"), None);
        assert_eq!(handshake.header("x-empty"), Some(""));
        let twice: Vec<_> =
            handshake.headers().filter(|(name, _)| *name == "x-twice").map(|(_, value)| value).collect();
        assert_eq!(twice, [b"one", b"two"]);
        assert!(handshake.secure() && !handshake.xdomain());
    }
}
