//! Bodies: what we answer with, and how a posted one is read.

use std::{
    any::Any,
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

pin_project_lite::pin_project! {
    /// The body of an answer: our own bytes, or what the service behind us answers.
    pub struct EngineBody<B> {
        own: Option<Bytes>,
        #[pin]
        inner: Option<B>,
    }
}

impl<B> EngineBody<B> {
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self { own: Some(bytes.into()), inner: None }
    }

    pub(crate) fn inner(body: B) -> Self {
        Self { own: None, inner: Some(body) }
    }
}

impl<B: Body<Data = Bytes>> Body for EngineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(this.own.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Some(body) => body.is_end_stream(),
            None => self.own.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(self.own.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    TooSlow,
    /// The connection was lost.
    Broken,
    /// It breaks the rules of HTTP, a chunk without a size for example.
    Malformed,
}

/// After this time a body must have come with at least [`LEAST_RATE`].
const RATE_GRACE: Duration = Duration::from_secs(5);
/// Bytes per second.
const LEAST_RATE: u64 = 1024;

/// Whether it was the body itself, by the word of hyper; other servers do not say.
fn is_malformed(error: &dyn Any) -> bool {
    let cause = error.downcast_ref::<hyper::Error>().and_then(Error::source);
    let kind = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

/// Reads a body of at most `limit` bytes within `timeout`, at no less than 1 KiB/s after the first 5 s.
pub(crate) async fn read_body<B>(body: B, limit: usize, timeout: Duration) -> Result<Bytes, BodyError>
where
    B: Body + 'static,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let start = Instant::now();
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut received = 0;
    loop {
        let due = start + timeout.min(RATE_GRACE + Duration::from_secs(received as u64 / LEAST_RATE));
        let frame = match tokio::time::timeout_at(due, body.frame()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(error))) if is_malformed(&error) => return Err(BodyError::Malformed),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(mut data) = frame.into_data() else { continue };
        let len = data.remaining();
        received += len;
        if received > limit {
            return Err(BodyError::TooLarge);
        }
        if received == len {
            first = data.copy_to_bytes(len);
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                rest.extend_from_slice(chunk);
                let len = chunk.len();
                data.advance(len);
            }
        }
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}
