//! One WebSocket as the session's task holds it: the stream, the decoder, and what waits to be written.
//!
//! Reads borrow a scratch buffer that belongs to the worker thread; writes are collected and go out in one vectored call.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use engineio_proto::{
    Frame, Revision,
    packet::PacketKind,
    payload::{OutPacket, encode_websocket},
    ws::{self, deflate::Deflater},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use crate::door::Line;

/// How much one read takes at most. Large messages arrive in few reads; pages that no read reaches are never touched.
pub(crate) const SCRATCH: usize = 256 << 10;
/// With this much waiting in the process nothing more is taken from the session's queue, where it is counted.
const ROOM: usize = 128 << 10;
/// The slices of one vectored write.
const SLICES: usize = 64;
/// Frames that are this small on average are copied together: cheaper than a slice each.
const SMALL: usize = 2_048;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    /// Where small frames are put together for one write.
    static JOINED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with the read buffer of this worker thread.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    // Taken out of its place for the time of the call: a nested use gets a buffer of its own.
    let mut scratch = SPARE.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = f(&mut scratch);
    SPARE.set(Some(scratch));
    result
}

/// Any upgraded stream.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

pub(crate) enum Io {
    /// Taken back from the HTTP server. The half for writing may be lent to the session, where other tasks reach it.
    Tcp(OwnedReadHalf, Option<OwnedWriteHalf>),
    /// Whatever else the HTTP server upgraded: TLS, HTTP/2, memory.
    Other(Box<dyn ReadWrite>),
}

/// A stream taken back from the HTTP server, what was read from it already, and its place at the listener.
pub(crate) type Taken = (Io, Vec<u8>, Option<Arc<Line>>);

pub(crate) struct SocketLink {
    io: Io,
    pub(crate) decoder: ws::Decoder,
    deflater: Option<Box<Deflater>>,
    /// Read already, not looked at yet.
    leftover: Vec<u8>,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    revision: Revision,
    b64: bool,
    close_sent: bool,
    /// The stream took everything and has not passed it on yet.
    flushing: bool,
    /// The peer said goodbye or broke the rules: nothing that it sends now is looked at.
    pub(crate) heard_enough: bool,
    /// Our half of the stream is closed.
    shut: bool,
    /// Since when a write has made no progress.
    pub(crate) stalled: Option<Instant>,
    /// Since when a message is incomplete.
    pub(crate) unfinished: Option<Instant>,
    /// The connection's place at the listener, kept as long as the stream.
    _line: Option<Arc<Line>>,
}

impl SocketLink {
    pub(crate) fn new(
        io: Io,
        leftover: Vec<u8>,
        decoder: ws::Decoder,
        deflater: Option<Deflater>,
        revision: Revision,
        b64: bool,
        line: Option<Arc<Line>>,
    ) -> Self {
        Self {
            io,
            decoder,
            deflater: deflater.map(Box::new),
            leftover,
            out: VecDeque::new(),
            out_bytes: 0,
            revision,
            b64,
            close_sent: false,
            flushing: false,
            heard_enough: false,
            shut: false,
            stalled: None,
            unfinished: None,
            _line: line,
        }
    }

    /// Reads what is there into `scratch`. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.leftover.is_empty() {
            let len = self.leftover.len().min(scratch.len());
            scratch[..len].copy_from_slice(&self.leftover[..len]);
            if len == self.leftover.len() {
                self.leftover = Vec::new();
            } else {
                self.leftover.drain(..len);
            }
            return Poll::Ready(Ok(len));
        }
        let mut buffer = ReadBuf::new(scratch);
        ready!(match &mut self.io {
            Io::Tcp(stream, _) => Pin::new(stream).poll_read(cx, &mut buffer),
            Io::Other(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Keeps what was read and cannot be looked at now.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            let mut kept = rest.to_vec();
            kept.append(&mut self.leftover);
            self.leftover = kept;
        }
    }

    /// Whether another packet may be given to [`SocketLink::queue`].
    pub(crate) fn has_room(&self) -> bool {
        self.out_bytes < ROOM && !self.close_sent
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.out_bytes == 0 && !self.flushing
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.out_bytes
    }

    /// Queues a packet of the session.
    pub(crate) fn queue(&mut self, packet: OutPacket) {
        if let Some(deflater) = &mut self.deflater
            && let Some(frame) = compressed_frame(deflater, &packet, self.revision, self.b64)
        {
            return self.push(frame);
        }
        let frame = match packet {
            OutPacket::Message(frame) => message_frame(frame, self.revision, self.b64),
            control @ OutPacket::Control(..) => websocket_frame(&control, self.revision, self.b64),
        };
        self.push(frame);
    }

    /// Queues a control frame of the WebSocket itself.
    fn queue_control(&mut self, frame: &[u8]) {
        if !self.close_sent {
            self.push(Bytes::copy_from_slice(frame));
        }
    }

    /// Answers a ping. While an answer waits, the next ping replaces nothing and adds nothing: one pong is owed at most.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        if self.is_flushed() {
            self.queue_control(&ws::encode_control(ws::Opcode::Pong, payload, None));
        }
    }

    /// Sends a close frame, once, and nothing after it.
    pub(crate) fn close(&mut self, code: Option<u16>, reason: &str) {
        if !self.close_sent {
            self.queue_control(&ws::encode_close(code, reason, None));
            self.close_sent = true;
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
    }

    /// Writes what is queued. Pending when the socket takes no more.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_bytes > 0 {
            let written = match self.poll_write(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            };
            self.stalled = None;
            self.advance(written);
        }
        if self.out.capacity() > 8 {
            self.out = VecDeque::new();
        }
        match &mut self.io {
            Io::Tcp(..) => Poll::Ready(Ok(())),
            // A stream of TLS or HTTP/2 has a buffer of its own, which counts as unwritten.
            Io::Other(stream) => {
                let flushed = Pin::new(stream).poll_flush(cx);
                self.flushing = flushed.is_pending();
                if self.flushing {
                    self.stalled.get_or_insert_with(Instant::now);
                } else {
                    self.stalled = None;
                }
                flushed
            }
        }
    }

    /// Closes our half of the stream, so that the peer sees its end and closes the other one.
    pub(crate) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(match &mut self.io {
                Io::Tcp(_, Some(stream)) => Pin::new(stream).poll_shutdown(cx),
                Io::Tcp(_, None) => Poll::Ready(Ok(())),
                Io::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            })?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { io, out, .. } = self;
        out.make_contiguous();
        let (frames, _) = out.as_slices();
        match io {
            // Through the half for reading: the other one may be lent.
            Io::Tcp(stream, _) => loop {
                match try_write(stream.as_ref(), frames) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(stream.as_ref().poll_write_ready(cx))?;
                    }
                    result => return Poll::Ready(result),
                }
            },
            Io::Other(stream) => gathered(frames, |gathered| match gathered {
                Gathered::One(bytes) => Pin::new(stream).poll_write(cx, bytes),
                Gathered::Slices(slices) => Pin::new(stream).poll_write_vectored(cx, slices),
            }),
        }
    }

    /// Lends the half for writing, so that other tasks can write: not where each frame is compressed on this link's own
    /// account.
    pub(crate) fn lend(&mut self) -> Option<OwnedWriteHalf> {
        match &mut self.io {
            Io::Tcp(_, half) if self.deflater.is_none() => half.take(),
            _ => None,
        }
    }

    /// Takes the half for writing back.
    pub(crate) fn take_back(&mut self, lent: Option<OwnedWriteHalf>) {
        if let (Io::Tcp(_, half @ None), Some(lent)) = (&mut self.io, lent) {
            *half = Some(lent);
        }
    }

    /// What another task could not write goes out first.
    pub(crate) fn queue_raw(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        for frame in frames {
            self.push(frame);
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.out_bytes = self.out_bytes.saturating_sub(written);
        while let Some(front) = self.out.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.out.pop_front();
        }
    }
}

impl Drop for SocketLink {
    fn drop(&mut self) {
        // Both halves go at once; there is no need to shut one of them down first.
        if let Io::Tcp(_, half) = &mut self.io
            && let Some(half) = half.take()
        {
            half.forget();
        }
    }
}

/// Writes the first of these frames in one call, without waiting.
pub(crate) fn try_write(stream: &TcpStream, frames: &[Bytes]) -> io::Result<usize> {
    gathered(frames, |gathered| match gathered {
        Gathered::One(bytes) => stream.try_write(bytes),
        Gathered::Slices(slices) => stream.try_write_vectored(slices),
    })
}

enum Gathered<'a> {
    One(&'a [u8]),
    Slices(&'a [IoSlice<'a>]),
}

/// Many frames for one write: one as it is, small ones copied together, large ones as slices.
fn gathered<R>(frames: &[Bytes], write: impl FnOnce(Gathered<'_>) -> R) -> R {
    if let [only] = frames {
        return write(Gathered::One(only));
    }
    let frames = &frames[..frames.len().min(SLICES)];
    let total: usize = frames.iter().map(Bytes::len).sum();
    if total <= frames.len() * SMALL {
        let mut joined = JOINED.take();
        joined.clear();
        joined.reserve(total);
        for frame in frames {
            joined.extend_from_slice(frame);
        }
        let result = write(Gathered::One(&joined));
        JOINED.set(joined);
        return result;
    }
    let mut slices = [IoSlice::new(&[]); SLICES];
    for (slice, frame) in slices.iter_mut().zip(frames) {
        *slice = IoSlice::new(frame);
    }
    write(Gathered::Slices(&slices[..frames.len()]))
}

/// A message of the session as one whole unmasked WebSocket frame.
pub(crate) fn message_frame(frame: Frame, revision: Revision, b64: bool) -> Bytes {
    if !frame.is_binary() || (revision == Revision::V4 && !b64) {
        return frame.into_websocket();
    }
    websocket_frame(&OutPacket::Message(frame), revision, b64)
}

/// A packet as one whole unmasked WebSocket frame.
fn websocket_frame(packet: &OutPacket, revision: Revision, b64: bool) -> Bytes {
    match packet {
        OutPacket::Control(PacketKind::Ping, data) if data.is_empty() => return Bytes::from_static(b"\x81\x012"),
        OutPacket::Control(PacketKind::Pong, data) if data.is_empty() => return Bytes::from_static(b"\x81\x013"),
        _ => {}
    }
    let encoded = encode_websocket(revision, !b64, packet);
    let opcode = if encoded.text { ws::Opcode::Text } else { ws::Opcode::Binary };
    let mut frame = Vec::with_capacity(ws::MAX_HEADER + encoded.bytes.len());
    ws::encode_message(opcode, false, &encoded.bytes, None, &mut frame);
    Bytes::from(frame)
}

/// A message as a compressed frame, if it wants to be one and is long enough.
fn compressed_frame(deflater: &mut Deflater, packet: &OutPacket, revision: Revision, b64: bool) -> Option<Bytes> {
    if !packet.wants_compression() || !deflater.wants(packet.encoded_len()) {
        return None;
    }
    let encoded = encode_websocket(revision, !b64, packet);
    let mut payload = Vec::new();
    if !deflater.compress(&encoded.bytes, &mut payload) {
        return None;
    }
    let opcode = if encoded.text { ws::Opcode::Text } else { ws::Opcode::Binary };
    let mut frame = Vec::with_capacity(ws::MAX_HEADER + payload.len());
    ws::encode_message(opcode, true, &payload, None, &mut frame);
    Some(Bytes::from(frame))
}
