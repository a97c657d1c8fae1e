//! One connection of HTTP/2 at the stand-alone listener, with WebSockets on its streams (RFC 8441).

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::{Application, EngineService, Limits, guarded::Guarded, listen::handle};

/// The most streams of one connection: a browser has all its tabs on one.
const STREAMS: u32 = 128;
/// What a client may send ahead on one stream, and on all of them together, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits on one stream for a client that does not read, in bytes. The rest stays in the session's queue.
const SEND_BUFFER: usize = 64 << 10;
/// A connection without a new request for so long takes no more of them, and ends with its last stream.
const IDLE: Duration = Duration::from_secs(60);
/// How often, and how long, a peer is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(60);
const PROBE_ANSWER: Duration = Duration::from_secs(20);

pub(crate) async fn serve<A, S, B, Io>(stream: Io, peer: SocketAddr, service: EngineService<S, A>, limits: Limits)
where
    A: Application,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(AtomicU32::new(0));
    let counter = requests.clone();
    let header_timeout = limits.header_timeout;
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE_ANSWER)
        .serve_connection(
            TokioIo::new(Guarded::new(stream, limits.write_timeout)),
            hyper::service::service_fn(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                handle(request, Some(peer), true, &service)
            }),
        );
    let mut connection = std::pin::pin!(connection);
    let mut seen = 0;
    let mut pause = header_timeout;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "connection ended");
                }
                return;
            }
            () = tokio::time::sleep(pause) => {}
        }
        let count = requests.load(Ordering::Relaxed);
        if count == 0 {
            // Perhaps not even the preface has come, for which a graceful end would wait.
            return;
        }
        if count == seen {
            connection.as_mut().graceful_shutdown();
            pause = Duration::from_secs(24 * 60 * 60);
        } else {
            (seen, pause) = (count, IDLE);
        }
    }
}
