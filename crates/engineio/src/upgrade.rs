//! From an HTTP request to a WebSocket: the checks, the 101, and taking the stream back from the HTTP server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use engineio_proto::{
    Revision,
    request::Query,
    ws::{
        self, Role,
        deflate::{self, Agreement},
        handshake::{Accepted, HandshakeRefusal, Headers, RequestLine, check_connect, check_request},
    },
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
    request::Parts,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    Application, SecurityKind,
    door::Line,
    forward::Tunnelled,
    guarded::Guarded,
    link::{Io, SocketLink, Taken},
    security,
    server::Engine,
    service::{empty, has_body, names_upgrade, with_headers},
};

/// How long the HTTP server may take to hand over the stream after the 101.
pub(crate) const HAND_OVER: Duration = Duration::from_secs(10);

struct Table<'h>(&'h HeaderMap);

impl Headers for Table<'_> {
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// What a checked handshake goes on with.
pub(crate) struct Handshaken {
    /// What the 101 of HTTP/1.1 says; none on HTTP/2.
    accept: Option<String>,
    protocol: Option<String>,
    compression: Option<Agreement>,
}

/// Whether a request asks to leave HTTP: `Connection: upgrade` and an `Upgrade` header, whatever that names.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(CONNECTION).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    listed && names_upgrade(headers)
}

/// Whether a request asks for a WebSocket on a stream of HTTP/2: the extended CONNECT of RFC 8441.
pub(crate) fn is_connect(parts: &Parts) -> bool {
    #[cfg(feature = "http2")]
    {
        let protocol = parts.extensions.get::<hyper::ext::Protocol>();
        parts.method == http::Method::CONNECT && protocol.is_some_and(|name| name.as_str() == "websocket")
    }
    #[cfg(not(feature = "http2"))]
    {
        let _ = parts;
        false
    }
}

/// Checks the opening handshake of RFC 6455, or of RFC 8441 on HTTP/2.
pub(crate) fn check(parts: &Parts, compression: Option<&deflate::Options>) -> Result<Handshaken, HandshakeRefusal> {
    let table = Table(&parts.headers);
    let (accept, protocols) = if is_connect(parts) {
        (None, check_connect(&table)?)
    } else {
        let line = RequestLine {
            method: parts.method.as_str(),
            http_1_1: parts.version == Version::HTTP_11,
            has_body: has_body(&parts.headers),
        };
        let Accepted { accept, protocols } = check_request(line, &table)?;
        (Some(accept), protocols)
    };
    // Like Node's `ws`: some clients fail when none of the protocols they offer comes back.
    let protocol = protocols.first().map(|protocol| (*protocol).to_owned());
    let compression = match compression {
        Some(options) => options.accept_offer(table.values("sec-websocket-extensions"))?,
        None => None,
    };
    Ok(Handshaken { accept, protocol, compression })
}

/// Refuses a handshake, and closes the connection.
pub(crate) fn refuse(refusal: &HandshakeRefusal, mut headers: HeaderMap) -> Response<Bytes> {
    for (name, value) in refusal.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap_or(UPGRADE), HeaderValue::from_static(value));
    }
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = refuse_with(status, refusal.message, headers);
    security::mark(&mut response, SecurityKind::RequestRefused, "websocket_handshake");
    response
}

/// Refuses an upgrade request with a plain message, and closes the connection.
pub(crate) fn refuse_with(status: StatusCode, message: &str, headers: HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(message.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    with_headers(response, headers)
}

/// Answers 101, or 200 to a CONNECT, and calls `then` with the link once the stream is ours, or without one if it never comes.
pub(crate) fn accept<A: Application>(
    mut parts: Parts,
    handshaken: Handshaken,
    headers: HeaderMap,
    engine: Arc<Engine<A>>,
    then: impl FnOnce(Arc<Engine<A>>, Option<SocketLink>) + Send + 'static,
) -> Response<Bytes> {
    let http_1 = handshaken.accept.is_some();
    let status = if http_1 { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
    let mut response = with_headers(empty(status), headers);
    let out = response.headers_mut();
    if http_1 {
        out.insert(UPGRADE, HeaderValue::from_static("websocket"));
        out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let compression = handshaken.compression;
    for (name, value) in [
        (SEC_WEBSOCKET_ACCEPT, handshaken.accept),
        (SEC_WEBSOCKET_PROTOCOL, handshaken.protocol),
        (SEC_WEBSOCKET_EXTENSIONS, compression.map(|agreement| agreement.header_value())),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            out.insert(name, value);
        }
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let (revision, b64) = (query.revision(), query.b64());
    if let Some(stream) = parts.extensions.remove::<Tunnelled>().and_then(|tunnelled| tunnelled.take()) {
        let link = link(Io::Other(Box::new(stream)), Vec::new(), None, &engine, revision, b64, compression);
        then(engine, Some(link));
        return response;
    }
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        tracing::warn!("the HTTP server in front does not support upgrades");
        then(engine, None);
        return refuse_with(StatusCode::NOT_IMPLEMENTED, "Upgrades are not supported here", HeaderMap::new());
    };
    tokio::spawn(async move {
        let link = match tokio::time::timeout(HAND_OVER, upgrade).await {
            Ok(Ok(upgraded)) => Some(take(upgraded, &engine, revision, b64, compression)),
            Ok(Err(_)) | Err(_) => None,
        };
        then(engine, link);
    });
    response
}

/// Takes the stream out of the HTTP server's hands, so that none of its buffers stays alive.
fn take<A: Application>(
    upgraded: Upgraded,
    engine: &Engine<A>,
    revision: Revision,
    b64: bool,
    compression: Option<Agreement>,
) -> SocketLink {
    let (io, leftover, line) = unwrap(upgraded);
    link(io, leftover, line, engine, revision, b64, compression)
}

fn link<A: Application>(
    io: Io,
    leftover: Vec<u8>,
    line: Option<Arc<Line>>,
    engine: &Engine<A>,
    revision: Revision,
    b64: bool,
    compression: Option<Agreement>,
) -> SocketLink {
    let limits = engine.options.limits();
    let mut decoder = ws::Decoder::new(Role::Server, limits.max_payload, limits.max_fragments);
    let mut deflater = None;
    if let (Some(agreement), Some(options)) = (compression, &engine.options.per_message_deflate) {
        decoder = decoder.with_deflate(agreement.inflater(Role::Server));
        deflater = agreement.deflater(Role::Server, options);
    }
    SocketLink::new(io, leftover, decoder, deflater, revision, b64, line)
}

/// The stream itself where it is a plain TCP stream under one of the HTTP servers that we know, and what was read from it
/// already. The bytes are copied: they are a slice of the server's read buffer.
fn unwrap(upgraded: Upgraded) -> Taken {
    let upgraded = match upgraded.downcast::<TokioIo<Guarded<TcpStream>>>() {
        Ok(parts) => {
            let (stream, line) = parts.io.into_inner().into_parts();
            return (tcp(stream), parts.read_buf.to_vec(), line);
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return (tcp(parts.io.into_inner()), parts.read_buf.to_vec(), None),
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "tls")]
    let upgraded = match crate::tls::unwrap(upgraded) {
        Ok(taken) => return taken,
        Err(upgraded) => upgraded,
    };
    match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => (tcp(parts.io.into_inner()), parts.read_buf.to_vec(), None),
        Err(upgraded) => (Io::Other(Box::new(TokioIo::new(upgraded))), Vec::new(), None),
    }
}

fn tcp(stream: TcpStream) -> Io {
    // Without it, small frames wait for the acknowledgement of the ones before.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    Io::Tcp(read, Some(write))
}
