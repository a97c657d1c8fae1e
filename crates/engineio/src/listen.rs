//! The stand-alone server: hyper with a deadline on everything, HTTP/1.1 over TCP, HTTP/1.1 and HTTP/2 over TLS.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, HOST},
    request::Parts,
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs},
};
use tower_service::Service;

use crate::{
    Application, EngineBody, EngineService, Limits, NotFound, PeerAddr, PeerCertificate, Secure, SecurityKind, Server,
    door::Line, guarded::Guarded, server::Engine, service::empty,
};
#[cfg(feature = "tls")]
use crate::{Tls, http2};

/// The pause after an `accept` that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may wait to be accepted. The system clamps it (Linux: `net.core.somaxconn`, 4,096 by default).
const BACKLOG: u32 = 4_096;

/// Binds a listener with room for many clients that come at once, after a restart for example: 4,096 connections may wait to
/// be accepted, where tokio's own `TcpListener::bind` asks for fewer. `SO_REUSEADDR` is set but on Windows.
///
/// # Errors
/// When the address cannot be resolved or bound; that of the last one tried, which it names.
pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the address resolves to nothing");
    for addr in tokio::net::lookup_host(addr).await? {
        let bound = (|| {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if cfg!(not(windows)) {
                socket.set_reuseaddr(true)?;
            }
            socket.bind(addr)?;
            socket.listen(BACKLOG)
        })();
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = io::Error::new(error.kind(), format!("{addr}: {error}")),
        }
    }
    Err(failed)
}

impl<A: Application> Server<A> {
    /// Serves on an address until the future is dropped. Everything but Engine.IO is answered with 404.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; sessions that exist go on.
    pub async fn listen(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(bind(addr).await?, NotFound).await
    }

    /// Serves a listener; what is not Engine.IO goes to `fallback`, any tower service over hyper's bodies.
    ///
    /// # Errors
    /// Never returns `Ok`; an error of the listener itself ends it. Failing connections do not.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    pub async fn serve<S, B>(&self, listener: TcpListener, fallback: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let service = self.service_with(fallback);
        self.accept(listener, move |stream, line, limits| {
            let service = service.clone();
            let came = Came { peer: Some(line.peer), ..Came::default() };
            async move { serve_http1(stream, came, Some(line), service, &limits).await }
        })
        .await
    }

    /// Serves one connection that was accepted elsewhere, a Unix socket or a pipe in memory, until it ends or has become a
    /// session's WebSocket. `peer` is what [`Handshake::remote_addr`](crate::Handshake::remote_addr) tells.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, unless it has become a WebSocket.
    pub async fn serve_stream<Io>(&self, stream: Io, peer: Option<SocketAddr>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let came = Came { peer, ..Came::default() };
        serve_http1(stream, came, None, self.service(), self.options().limits()).await;
    }

    /// Serves on an address over TLS, with HTTP/1.1 and HTTP/2, until the future is dropped. Everything but Engine.IO is
    /// answered with 404.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    #[cfg(feature = "tls")]
    pub async fn listen_tls(&self, addr: impl ToSocketAddrs, tls: Tls) -> io::Result<()> {
        self.serve_tls(bind(addr).await?, NotFound, tls).await
    }

    /// Serves a listener over TLS; what is not Engine.IO goes to `fallback`. Requests carry [`Secure`] in their extensions.
    ///
    /// A handshake may take as long as a request head: `Limits::header_timeout`.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    /// As [`serve`](Self::serve).
    #[cfg(feature = "tls")]
    pub async fn serve_tls<S, B>(&self, listener: TcpListener, fallback: S, tls: Tls) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let service = self.service_with(fallback);
        let acceptor = tls.acceptor();
        let accepting = self.accept(listener, move |stream, line, limits| {
            let service = service.clone();
            // Its place is taken before anything is computed, and given back when it is over.
            let going_on = line.door.handshake(line.place);
            // Boxed, and gone before the connection is served: a handshake needs more room than what comes after it.
            let handshake = Box::pin(tokio::time::timeout(limits.header_timeout, acceptor.accept(stream)));
            async move {
                let (door, peer) = (line.door.clone(), Some(line.peer));
                let going_on = match going_on {
                    Ok(going_on) => going_on,
                    Err(denied) => return door.turn_away(&door.counters.connections_refused, denied.limit, peer),
                };
                let stream = match handshake.await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(_)) => return door.turn_away(&door.counters.tls_failed, "tls_failed", peer),
                    Err(_) => return door.turn_away(&door.counters.tls_timeouts, "tls_timeout", peer),
                };
                drop(going_on);
                let session = stream.get_ref().1;
                let certificate = session.peer_certificates().and_then(|chain| chain.first());
                let certificate = certificate.map(|shown| PeerCertificate(shown.as_ref().into()));
                let came = Came { peer, secure: true, certificate };
                if session.alpn_protocol() == Some(b"h2") {
                    Box::pin(http2::serve(stream, came, line, service, limits)).await;
                } else {
                    serve_http1(stream, came, Some(line), service, &limits).await;
                }
            }
        });
        tokio::select! {
            ended = accepting => ended,
            () = tls.keep_fresh() => Ok(()),
        }
    }

    /// Accepts connections for ever, and lets `serve` have each on a task of its own.
    ///
    /// On a task itself: the future that a program's main thread waits for runs on that thread, so each connection would wake
    /// a thread that has nothing else to do.
    async fn accept<F>(
        &self,
        listener: TcpListener,
        serve: impl FnMut(TcpStream, Arc<Line>, Limits) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let server = self.clone();
        if let Some(timeout) = self.options().tcp_timeout
            && let Err(error) = give_up_after(&listener, timeout)
        {
            tracing::warn!(%error, "the system does not take the timeout of TCP");
        }
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(async move { server.accept_each(&listener, serve).await });
        match accepting.join_next().await {
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => Ok(()),
        }
    }

    async fn accept_each<F>(
        &self,
        listener: &TcpListener,
        mut serve: impl FnMut(TcpStream, Arc<Line>, Limits) -> F + Send,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let door = &self.engine.door;
        let proxies = &self.options().trusted_proxies;
        let mut failures = 0_u32;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    door.counters.accept_errors.add();
                    // Once a second is often enough to be read.
                    if failures.is_multiple_of(20) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    failures = failures.wrapping_add(1);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failures = 0;
            // The connections of a proxy are those of many.
            let address = Some(peer.ip()).filter(|address| !proxies.trusts(*address));
            let Some(line) = door.connect(peer, address) else { continue };
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, line, self.options().limits().clone()));
        }
    }
}

/// Has the system give up connections of this listener whose peers' machines no longer answer.
fn give_up_after(listener: &TcpListener, timeout: Duration) -> io::Result<()> {
    let timeout = timeout.max(Duration::from_secs(1));
    let socket = SockRef::from(listener);
    let probes = TcpKeepalive::new().with_time((timeout / 2).max(Duration::from_secs(1)));
    #[cfg(not(target_os = "openbsd"))]
    let probes = probes.with_interval((timeout / 4).max(Duration::from_secs(1)));
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeout))?;
    Ok(())
}

/// How the requests of a connection came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Came {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) secure: bool,
    pub(crate) certificate: Option<PeerCertificate>,
}

async fn serve_http1<A, S, B, Io>(
    stream: Io,
    came: Came,
    line: Option<Arc<Line>>,
    service: EngineService<S, A>,
    limits: &Limits,
) where
    A: Application,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes.max(8 << 10))
        .max_headers(limits.max_headers)
        .half_close(false)
        .serve_connection(
            TokioIo::new(Guarded::new(stream, limits.write_timeout, line.clone())),
            hyper::service::service_fn(move |request| handle(request, &came, &service)),
        )
        .with_upgrades();
    // The stream alone holds the place, so that it is free when the stream is.
    let watcher = line.as_ref().map(Arc::downgrade);
    drop(line);
    let mut connection = std::pin::pin!(connection);
    if let Err(error) = connection.as_mut().await {
        tracing::trace!(%error, "connection ended");
        if let Some(line) = watcher.and_then(|line| line.upgrade()) {
            line.ended(&error);
        }
    }
}

/// Refuses what is ambiguous, and has the rest answered.
pub(crate) fn handle<A, S, B>(
    mut request: Request<Incoming>,
    came: &Came,
    service: &EngineService<S, A>,
) -> impl Future<Output = Result<Response<EngineBody<B>>, Infallible>> + Send + use<A, S, B>
where
    A: Application,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    let refused = refuse_ambiguous(&request);
    let extensions = request.extensions_mut();
    if let Some(peer) = came.peer {
        extensions.insert(PeerAddr(peer));
    }
    if came.secure {
        extensions.insert(Secure);
    }
    if let Some(certificate) = &came.certificate {
        extensions.insert(certificate.clone());
    }
    let mut service = service.clone();
    async move {
        let own = |mut response: Response<Bytes>| {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response.map(EngineBody::own)
        };
        let engine = service.engine.clone();
        if !engine.protects() {
            return match refused {
                Some(refused) => Ok(own(refused.answer(&engine, &request.into_parts().0))),
                None => service.call(request).await,
            };
        }
        let (parts, body) = request.into_parts();
        let secure = engine.is_secure(&parts);
        let mut response = match refused {
            Some(refused) => own(refused.answer(&engine, &parts)),
            // What is ours is turned to TLS in the service, which tells the hook.
            None => match (!engine.path.matches(parts.uri.path())).then(|| engine.turn_to_tls(&parts)).flatten() {
                Some(response) => own(response),
                None => service.call(Request::from_parts(parts, body)).await?,
            },
        };
        engine.protect(response.headers_mut(), secure);
        Ok(response)
    }
}

/// Requests that two servers in a row could read differently, and that hyper lets pass (RFC 9112 §3.2). Those with two
/// lengths do not come so far: see [`Guarded`].
fn refuse_ambiguous<B>(request: &Request<B>) -> Option<Ambiguous> {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    let no_host = request.version() == Version::HTTP_11 && hosts == 0;
    if no_host || hosts > 1 {
        return Some(Ambiguous::Host);
    }
    // An absolute target names its authority itself; it must be the one of the Host header.
    let target = request.uri().authority()?;
    let host = headers.get(HOST)?.to_str().ok()?;
    (!target.as_str().eq_ignore_ascii_case(host)).then_some(Ambiguous::Target)
}

/// What could be read differently.
#[derive(Debug, Clone, Copy)]
enum Ambiguous {
    /// There is no `Host`, or more than one.
    Host,
    /// The target names another host.
    Target,
}

impl Ambiguous {
    fn answer<A: Application>(self, engine: &Engine<A>, parts: &Parts) -> Response<Bytes> {
        let (status, kind, reason) = match self {
            Self::Host => (StatusCode::BAD_REQUEST, SecurityKind::RequestRefused, "host_header"),
            Self::Target => (StatusCode::MISDIRECTED_REQUEST, SecurityKind::OriginRefused, "host"),
        };
        engine.tell_refused(parts, kind, reason);
        empty(status)
    }
}

/// Whether an error of `accept` concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_timeouts_of_its_listener() {
        for (timeout, want) in [(60_000, (60_000, 30, 15)), (200, (1_000, 1, 1))] {
            let listener = bind("127.0.0.1:0").await.unwrap();
            give_up_after(&listener, Duration::from_millis(timeout)).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let socket = SockRef::from(&accepted);
            assert!(socket.keepalive().unwrap());
            let user = socket.tcp_user_timeout().unwrap().unwrap_or_default().as_millis();
            let (idle, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            assert_eq!((user, idle.as_secs(), interval.as_secs()), want);
        }
    }
}
