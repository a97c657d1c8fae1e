//! A stream on which a write that makes no progress ends the connection.
//!
//! hyper has deadlines for reading a request but none for a peer that does not read its answer. And of two lengths of a
//! request it drops one in silence: the bytes are looked at on their way to it.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use engineio_proto::lengths::Lengths;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::door::Line;

/// How a connection of HTTP/2 begins (RFC 9113 §3.4), where nobody has agreed on HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

pub(crate) struct Guarded<S> {
    stream: S,
    timeout: Duration,
    /// The connection at the listener, if this is one.
    line: Option<Arc<Line>>,
    /// Nothing was read yet.
    is_new: bool,
    /// Finds requests with two lengths; `None` where requests are no text.
    lengths: Option<Lengths>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S, timeout: Duration, line: Option<Arc<Line>>) -> Self {
        Self { stream, timeout, line, is_new: true, lengths: Some(Lengths::new()), stalled: None }
    }

    /// For a connection on which HTTP/2 has been agreed on.
    #[cfg(feature = "tls")]
    pub(crate) fn http2(mut self) -> Self {
        self.is_new = false;
        self.lengths = None;
        self
    }

    /// The stream, and the connection that it is.
    pub(crate) fn into_parts(self) -> (S, Option<Arc<Line>>) {
        (self.stream, self.line)
    }

    /// Looks at what has come. HTTP/2 that nobody has agreed on gets the answer to an unknown version, where hyper would
    /// close the connection without a word. The second length of a request becomes no header at all, which hyper refuses
    /// with 400 and the end of the connection.
    fn look_at(&mut self, read: &mut [u8]) {
        if let Some(lengths) = &mut self.lengths
            && let Some(colon) = lengths.find(read)
        {
            self.lengths = None;
            if let Some(colon) = read.get_mut(colon) {
                *colon = 0;
            }
        }
        let Some(line) = self.line.as_ref().filter(|_| !read.is_empty()) else { return };
        line.set_heard(true);
        if std::mem::take(&mut self.is_new) && read.starts_with(PREFACE) {
            line.set_http2();
            if let Some(version) = read.get_mut(PREFACE.len() - 3) {
                *version = b'9';
            }
        }
    }

    /// An answer is on its way: what comes next is another request.
    fn answered(&self) {
        if let Some(line) = &self.line {
            line.set_heard(false);
        }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => {
                if let Some(line) = &self.line {
                    line.stalled();
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let had = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(read) = buffer.filled_mut().get_mut(had..) {
            self.look_at(read);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, data);
        self.answered();
        self.check(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.answered();
        self.check(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.check(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
