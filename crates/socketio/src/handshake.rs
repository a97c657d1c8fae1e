//! What a client brought along: the request that opened its connection and its `auth` payload.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use engineio::TrustedProxies;
use serde::de::DeserializeOwned;
use socketio_proto::{DataError, Map, Payload, Value};

/// What a client brought along. Node: `socket.handshake`.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    request: &'a engineio::Handshake,
    auth: Option<&'a Payload<'static>>,
    proxies: &'a TrustedProxies,
}

impl<'a> Handshake<'a> {
    pub(crate) fn new(
        request: &'a engineio::Handshake,
        auth: Option<&'a Payload<'static>>,
        proxies: &'a TrustedProxies,
    ) -> Self {
        Self { request, auth, proxies }
    }

    /// The payload with which the client joined this namespace, as a `T`. No payload is an empty object. Node: `auth`.
    ///
    /// # Errors
    /// [`DataError`] when it does not fit.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        match self.auth {
            Some(auth) => auth.deserialize(),
            None => T::deserialize(&Value::Map(Map::new())),
        }
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.request.header(name)
    }

    /// All headers in the order in which they came, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.request.headers()
    }

    /// The query string of the request, without the question mark.
    pub fn query_string(&self) -> &'a str {
        self.request.query()
    }

    /// The parameters of the query, decoded.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.request.query().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
    }

    /// The parameter of this name, decoded; the last where it is given several times, as in Node's `query`.
    pub fn query(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_pairs().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// The address of the TCP peer, where the listener tells it. Node: `address`.
    pub fn address(&self) -> Option<SocketAddr> {
        self.request.remote_addr()
    }

    /// The address of the client: the TCP peer's, or what the server's [trusted proxies](crate::Builder::trusted_proxies) say.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.request.client_ip(self.proxies)
    }

    /// Whether the connection was opened over TLS.
    pub fn secure(&self) -> bool {
        self.request.secure()
    }

    /// The request target: path and query.
    pub fn url(&self) -> &'a str {
        self.request.url()
    }

    /// When the connection was opened. Node: `issued` and `time`.
    pub fn issued(&self) -> SystemTime {
        self.request.issued()
    }

    /// Whether the request carried an `Origin` header. Node: `xdomain`.
    pub fn xdomain(&self) -> bool {
        self.request.xdomain()
    }
}

/// Decodes `+` and `%xx` as forms do; what is no UTF-8 becomes replacement characters.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'+' || byte == b'%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let digits = (ahead.next().and_then(hex), ahead.next().and_then(hex));
                match digits {
                    (Some(high), Some(low)) => {
                        decoded.push(high << 4 | low);
                        bytes = ahead;
                    }
                    _ => decoded.push(b'%'),
                }
            }
            _ => decoded.push(byte),
        }
    }
    Cow::Owned(
        String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        check("plain", "plain");
        check("a+b%20c", "a b c");
        check("%E2%82%AC", "€");
        check("%e2%82", "\u{fffd}");
        check("100%", "100%");
        check("%zz%4", "%zz%4");

        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(decode(text), want);
        }
    }
}
