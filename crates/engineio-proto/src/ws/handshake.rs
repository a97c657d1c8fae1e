//! The opening handshake (RFC 6455 §4) as pure checks over a request's or a response's headers.
//!
//! Nothing here knows an HTTP library: implement [`Headers`] for the header table at hand. Compression is negotiated with
//! [`super::deflate`], because a server that has it switched off must not even look at the offer.

use super::token::{list, token, trim};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A table of headers. Names are asked for in lower case.
pub trait Headers {
    /// All values of the header `name`, in the order they came.
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]>;
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(key, _)| key.as_ref().eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const L: usize> Headers for [(N, V); L] {
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.as_slice().values(name)
    }
}

impl<H: Headers + ?Sized> Headers for &H {
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        (**self).values(name)
    }
}

/// What the checks need to know of a request besides its headers.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// Whether the request is HTTP/1.1.
    pub http_1_1: bool,
    /// Whether a body comes with the request: a `Content-Length` other than 0, or a `Transfer-Encoding`.
    pub has_body: bool,
}

/// A request that may become a WebSocket. Answer 101 with `Upgrade: websocket`, `Connection: Upgrade`,
/// `Sec-WebSocket-Accept` and, if one was chosen, `Sec-WebSocket-Protocol`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The subprotocols on offer, the client's favourite first. Node echoes the first unless the application chooses.
    pub protocols: Vec<&'a str>,
}

/// Why a request does not become a WebSocket: what to answer before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HandshakeRefusal {
    /// The status code.
    pub status: u16,
    /// The body, as `text/html`.
    pub message: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
}

impl HandshakeRefusal {
    pub(super) const fn new(message: &'static str) -> Self {
        Self { status: 400, message, headers: &[] }
    }
}

/// Decides whether a request is a proper opening handshake.
///
/// # Errors
/// The first rule that the request breaks, with the words that Node uses. After a refusal the connection must be closed:
/// what follows on it was not meant as HTTP.
pub fn check_request<'a, H: Headers + ?Sized>(
    line: RequestLine<'_>,
    headers: &'a H,
) -> Result<Accepted<'a>, HandshakeRefusal> {
    if line.method != "GET" {
        return Err(HandshakeRefusal::new("Invalid HTTP method"));
    }
    if !line.http_1_1 {
        return Err(HandshakeRefusal::new("Invalid HTTP version"));
    }
    if line.has_body {
        return Err(HandshakeRefusal::new("A WebSocket handshake has no body"));
    }
    if !only(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(HandshakeRefusal::new("Invalid Upgrade header"));
    }
    if !lists_upgrade(headers) {
        return Err(HandshakeRefusal::new("Invalid Connection header"));
    }
    let key = only(headers, "sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or(HandshakeRefusal::new("Missing or invalid Sec-WebSocket-Key header"))?;
    check_version(headers)?;
    Ok(Accepted { accept: accept_key(key), protocols: offered(headers)? })
}

/// Decides whether an extended CONNECT of HTTP/2 (RFC 8441) for the protocol `websocket` is a proper opening handshake, and
/// returns the subprotocols on offer. There is no key, and nothing to say in `Upgrade` and `Connection`. Answer 200.
///
/// # Errors
/// The first rule that the request breaks.
pub fn check_connect<H: Headers + ?Sized>(headers: &H) -> Result<Vec<&str>, HandshakeRefusal> {
    check_version(headers)?;
    offered(headers)
}

fn check_version<H: Headers + ?Sized>(headers: &H) -> Result<(), HandshakeRefusal> {
    const VERSION: HandshakeRefusal = HandshakeRefusal {
        status: 400,
        message: "Missing or invalid Sec-WebSocket-Version header",
        headers: &[("Sec-WebSocket-Version", "13")],
    };
    if only(headers, "sec-websocket-version") == Some(b"13") { Ok(()) } else { Err(VERSION) }
}

fn offered<H: Headers + ?Sized>(headers: &H) -> Result<Vec<&str>, HandshakeRefusal> {
    protocols(headers).ok_or(HandshakeRefusal::new("Invalid Sec-WebSocket-Protocol header"))
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha1.digest().bytes())
}

/// The value of `Sec-WebSocket-Key` for 16 random bytes.
pub fn client_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Why a client does not take a response for the end of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The status is not 101; any other is an ordinary HTTP answer.
    #[error("Unexpected server response: {0}")]
    Status(u16),
    /// `Upgrade` is not `websocket`.
    #[error("Invalid Upgrade header")]
    Upgrade,
    /// `Connection` does not list `Upgrade`.
    #[error("Invalid Connection header")]
    Connection,
    /// `Sec-WebSocket-Accept` is not the answer to our key: whoever answered did not read it.
    #[error("Invalid Sec-WebSocket-Accept header")]
    Accept,
    /// A subprotocol was chosen that was not offered, or several were.
    #[error("Server sent an invalid subprotocol")]
    Protocol,
    /// Subprotocols were offered and none was chosen.
    #[error("Server sent no subprotocol")]
    NoProtocol,
    /// An extension was chosen that was not offered, or with parameters that do not answer the offer.
    #[error("Invalid Sec-WebSocket-Extensions header")]
    Extensions,
}

/// Decides whether a response completes the handshake that was begun with `key` and `offered` subprotocols, and returns the
/// chosen one.
///
/// Extensions are not looked at: with compression on offer ask [`super::deflate::Options::check_response`], without it
/// [`super::deflate::refuse_any`].
///
/// # Errors
/// The first rule that the response breaks.
pub fn verify_response<'a, H: Headers + ?Sized>(
    status: u16,
    headers: &'a H,
    key: &str,
    offered: &[&str],
) -> Result<Option<&'a str>, ResponseError> {
    if status != 101 {
        return Err(ResponseError::Status(status));
    }
    if !only(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(ResponseError::Upgrade);
    }
    if !lists_upgrade(headers) {
        return Err(ResponseError::Connection);
    }
    if only(headers, "sec-websocket-accept") != Some(accept_key(key.as_bytes()).as_bytes()) {
        return Err(ResponseError::Accept);
    }
    if headers.values("sec-websocket-protocol").next().is_none() {
        return if offered.is_empty() { Ok(None) } else { Err(ResponseError::NoProtocol) };
    }
    let chosen = only(headers, "sec-websocket-protocol").and_then(token).ok_or(ResponseError::Protocol)?;
    if offered.contains(&chosen) { Ok(Some(chosen)) } else { Err(ResponseError::Protocol) }
}

/// The value of a header that came exactly once, trimmed.
fn only<'a, H: Headers + ?Sized>(headers: &'a H, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.values(name);
    let value = values.next()?;
    values.next().is_none().then(|| trim(value))
}

fn lists_upgrade<H: Headers + ?Sized>(headers: &H) -> bool {
    headers.values("connection").flat_map(list).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether this looks like 16 bytes in base64. Like everybody, we do not insist on clear bits behind the last byte.
fn is_key(key: &[u8]) -> bool {
    let body = key.strip_suffix(b"==");
    body.is_some_and(|body| {
        body.len() == 22 && body.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

/// The subprotocols on offer; `None` when the list is malformed or names one twice.
fn protocols<H: Headers + ?Sized>(headers: &H) -> Option<Vec<&str>> {
    let mut protocols = Vec::new();
    for item in headers.values("sec-websocket-protocol").flat_map(list) {
        protocols.push(token(item)?);
    }
    let mut sorted = protocols.clone();
    sorted.sort_unstable();
    sorted.is_sorted_by(|a, b| a < b).then_some(protocols)
}
