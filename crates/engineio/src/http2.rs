//! One connection of HTTP/2 at the stand-alone listener, with WebSockets on its streams (RFC 8441).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tower_service::Service;

use crate::{
    Application, EngineService, Limits,
    door::Line,
    guarded::Guarded,
    listen::{Came, handle},
};

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
/// Streams that a client resets before we have looked at them, and that we reset because of what it does: more of either
/// end the connection.
const RESETS: usize = 20;
/// An answer may take [`Limits::write_timeout`], and a second for so many bytes: a peer that opens no window on one stream is
/// not waited for.
const LEAST_RATE: u64 = 16 << 10;
/// An answer is handed to HTTP/2 in pieces of so many bytes, so that what no window is open for stays with us.
const PIECE: usize = 16 << 10;

pub(crate) async fn serve<A, S, B, Io>(
    stream: Io,
    came: Came,
    line: Arc<Line>,
    service: EngineService<S, A>,
    limits: Limits,
) where
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
    let answers = Arc::new(Answers::default());
    let (watched, patience) = (answers.clone(), limits.write_timeout);
    let (door, peer) = (line.door.clone(), Some(line.peer));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE_ANSWER)
        .serve_connection(
            TokioIo::new(Guarded::new(stream, limits.write_timeout, Some(line)).http2()),
            hyper::service::service_fn(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                let answer = handle(request, &came, &service);
                let watched = watched.clone();
                async move {
                    let response = answer.await?;
                    Ok::<_, Infallible>(response.map(|body| watched.watch(body, patience)))
                }
            }),
        );
    let mut connection = std::pin::pin!(connection);
    let mut seen = 0;
    let mut idle = Some(Instant::now() + header_timeout);
    loop {
        let look = Instant::now() + patience;
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "connection ended");
                }
                return;
            }
            () = tokio::time::sleep_until(idle.map_or(look, |idle| idle.min(look))) => {}
        }
        let now = Instant::now();
        if answers.are_late(now) {
            return door.turn_away(&door.counters.stalled_writes, "write_timeout", peer);
        }
        if idle.is_none_or(|idle| idle > now) {
            continue;
        }
        let count = requests.load(Ordering::Relaxed);
        if count == 0 {
            // Perhaps not even the preface has come, for which a graceful end would wait.
            return door.turn_away(&door.counters.header_timeouts, "header_timeout", peer);
        }
        if count == seen {
            connection.as_mut().graceful_shutdown();
            idle = None;
        } else {
            seen = count;
            idle = Some(now + IDLE);
        }
    }
}

/// By when each answer that is on its way has to have left.
#[derive(Default)]
struct Answers(Mutex<(u64, BTreeMap<u64, Instant>)>);

impl Answers {
    /// Watches an answer whose length is known. The others belong to the service behind us.
    fn watch<B: Body<Data = Bytes>>(self: &Arc<Self>, body: B, patience: Duration) -> Watched<B> {
        let Some(len) = body.size_hint().exact().filter(|len| *len > 0) else {
            return Watched { body, rest: Bytes::new(), answer: None };
        };
        let due = Instant::now() + patience + Duration::from_secs(len / LEAST_RATE);
        let mut answers = self.0.lock();
        answers.0 += 1;
        let id = answers.0;
        answers.1.insert(id, due);
        drop(answers);
        Watched { body, rest: Bytes::new(), answer: Some(Answer { id, answers: self.clone() }) }
    }

    fn are_late(&self, now: Instant) -> bool {
        self.0.lock().1.values().any(|due| *due <= now)
    }
}

struct Answer {
    id: u64,
    answers: Arc<Answers>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answers.0.lock().1.remove(&self.id);
    }
}

pin_project_lite::pin_project! {
    /// A body that is dropped, and with it its deadline, when the client has opened windows for all of it.
    struct Watched<B> {
        #[pin]
        body: B,
        rest: Bytes,
        answer: Option<Answer>,
    }
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if this.rest.is_empty() {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        // The last byte goes by itself: it is asked for when there is a window for it, behind one for all the others.
        let last = usize::from(this.rest.len() > 1 && this.body.is_end_stream());
        let piece = this.rest.split_to((this.rest.len() - last).min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
