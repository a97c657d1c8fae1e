//! The stand-alone server: hyper's HTTP/1.1 with a deadline on everything.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tower_service::Service;

use crate::{Application, EngineBody, EngineService, Limits, NotFound, PeerAddr, Server, guarded::Guarded};

/// The pause after an `accept` that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl<A: Application> Server<A> {
    /// Serves on an address until the future is dropped. Everything but Engine.IO is answered with 404.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; sessions that exist go on.
    pub async fn listen(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(TcpListener::bind(addr).await?, NotFound).await
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
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if open.fetch_add(1, Ordering::Relaxed) >= self.options().max_connections {
                open.fetch_sub(1, Ordering::Relaxed);
                drop(stream);
                continue;
            }
            let service = service.clone();
            let open = open.clone();
            let limits = self.options().limits().clone();
            tokio::spawn(async move {
                serve_connection(stream, peer, service, &limits).await;
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

async fn serve_connection<A, S, B>(stream: TcpStream, peer: SocketAddr, service: EngineService<S, A>, limits: &Limits)
where
    A: Application,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let refused = refuse_ambiguous(&request);
        request.extensions_mut().insert(PeerAddr(peer));
        let mut service = service.clone();
        async move {
            match refused {
                Some(status) => {
                    let mut response = Response::new(EngineBody::own(Bytes::new()));
                    *response.status_mut() = status;
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    Ok::<_, Infallible>(response)
                }
                None => service.call(request).await,
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes.max(8 << 10))
        .max_headers(limits.max_headers)
        .half_close(false)
        .serve_connection(TokioIo::new(Guarded::new(stream, limits.write_timeout)), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::trace!(%error, "connection ended");
    }
}

/// Requests that two servers in a row could read differently, and that hyper lets pass (RFC 9112 §6.1, §3.2).
fn refuse_ambiguous<B>(request: &Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    let both = headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING);
    let hosts = headers.get_all(HOST).iter().count();
    let no_host = request.version() == Version::HTTP_11 && hosts == 0;
    if both || no_host || hosts > 1 {
        return Some(StatusCode::BAD_REQUEST);
    }
    // An absolute target names its authority itself; it must be the one of the Host header.
    let target = request.uri().authority()?;
    let host = headers.get(HOST)?.to_str().ok()?;
    (!target.as_str().eq_ignore_ascii_case(host)).then_some(StatusCode::MISDIRECTED_REQUEST)
}

/// Whether an error of `accept` concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
