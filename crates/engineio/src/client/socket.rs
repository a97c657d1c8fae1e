//! One WebSocket of a client: dialling, and what is read and written on it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use engineio_proto::{
    Revision,
    payload::{OutPacket, encode_websocket},
    ws::{
        self, Role, WsError,
        deflate::{self, Deflater},
        handshake::{Headers, client_key, verify_response},
    },
};
use http::{
    HeaderMap, HeaderValue, Request,
    header::{
        CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    ClientOptions, ConnectError,
    http::{MAX_HEAD, MAX_HEADERS},
    options::Stream,
};

pub(super) struct Socket {
    stream: Stream,
    decoder: ws::Decoder,
    deflater: Option<Box<Deflater>>,
    /// Read with the answer to the handshake. Given up when it is used up, for it keeps a buffer of the HTTP client alive.
    leftover: Bytes,
    out: Vec<u8>,
    written: usize,
    close_sent: bool,
    /// Since when a write has made no progress.
    pub(super) stalled: Option<Instant>,
}

/// What was heard on a WebSocket.
pub(super) enum Heard<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// The peer said goodbye.
    Closed,
    /// The peer broke the rules.
    Broken(WsError),
}

struct Table<'h>(&'h HeaderMap);

impl Headers for Table<'_> {
    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

impl Socket {
    /// Connects, and shakes hands. Returns the headers of the answer as well.
    pub(super) async fn dial(
        options: &ClientOptions,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Self, HeaderMap), ConnectError> {
        let stream = options.dial().await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut connection = pin!(connection.with_upgrades());
        let key = client_key(rand::random());
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        if let Some(offer) = &options.per_message_deflate
            && let Ok(offer) = HeaderValue::from_str(&offer.offer())
        {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer);
        }
        if !options.protocols.is_empty()
            && let Ok(protocols) = HeaderValue::from_str(&options.protocols.join(", "))
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
        }
        let mut running = true;
        let mut sending = pin!(sender.send_request(request));
        let mut response = poll_fn(|cx| {
            if running {
                running = connection.as_mut().poll(cx).is_pending();
            }
            sending.as_mut().poll(cx)
        })
        .await?;
        let offered: Vec<&str> = options.protocols.iter().map(String::as_str).collect();
        let table = Table(response.headers());
        verify_response(response.status().as_u16(), &table, &key, &offered)?;
        let extensions = response.headers().get_all(SEC_WEBSOCKET_EXTENSIONS).iter().map(HeaderValue::as_bytes);
        let agreement = match &options.per_message_deflate {
            Some(offer) => offer.check_response(extensions)?,
            None => {
                deflate::refuse_any(extensions)?;
                None
            }
        };
        let headers = response.headers().clone();
        let mut upgrading = pin!(hyper::upgrade::on(&mut response));
        let upgraded = poll_fn(|cx| {
            if running {
                running = connection.as_mut().poll(cx).is_pending();
            }
            upgrading.as_mut().poll(cx)
        })
        .await?;
        let parts = upgraded.downcast::<TokioIo<Stream>>().map_err(|_| io::Error::other("a foreign stream"))?;
        let mut decoder = ws::Decoder::new(Role::Client, options.max_inbound_payload, MAX_FRAGMENTS);
        let mut deflater = None;
        if let (Some(agreement), Some(offer)) = (agreement, &options.per_message_deflate) {
            decoder = decoder.with_deflate(agreement.inflater(Role::Client));
            deflater = agreement.deflater(Role::Client, offer).map(Box::new);
        }
        let socket = Self {
            stream: parts.io.into_inner(),
            decoder,
            deflater,
            leftover: if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf },
            out: Vec::new(),
            written: 0,
            close_sent: false,
            stalled: None,
        };
        Ok((socket, headers))
    }

    /// Queues a packet.
    pub(super) fn queue(&mut self, packet: &OutPacket, revision: Revision, base64: bool) {
        if self.close_sent {
            return;
        }
        let encoded = encode_websocket(revision, !base64, packet);
        let opcode = if encoded.text { ws::Opcode::Text } else { ws::Opcode::Binary };
        self.push(opcode, &encoded.bytes, packet.wants_compression());
    }

    fn push(&mut self, opcode: ws::Opcode, payload: &[u8], compress: bool) {
        let mask = Some(rand::random());
        if let Some(deflater) = &mut self.deflater
            && compress
            && deflater.wants(payload.len())
        {
            let mut compressed = Vec::new();
            if deflater.compress(payload, &mut compressed) {
                return ws::encode_message(opcode, true, &compressed, mask, &mut self.out);
            }
        }
        ws::encode_message(opcode, false, payload, mask, &mut self.out);
    }

    /// Queues a close frame, once, and nothing after it.
    pub(super) fn close(&mut self, code: u16) {
        if !self.close_sent {
            self.out.extend_from_slice(&ws::encode_close(Some(code), "", Some(rand::random())));
            self.close_sent = true;
        }
    }

    /// How many bytes are not written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.write(cx);
        if flushed.is_pending() {
            self.stalled.get_or_insert_with(Instant::now);
        } else {
            self.stalled = None;
        }
        flushed
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.out.get(self.written..) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.stalled = None;
        }
        self.written = 0;
        if self.out.capacity() > KEPT_CAPACITY {
            self.out = Vec::new();
        }
        self.out.clear();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes our half of the stream.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads once, and hands out all that is whole.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        mut heard: impl FnMut(Heard<'_>),
    ) -> Poll<io::Result<()>> {
        let len = if self.leftover.is_empty() {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            buffer.filled().len()
        } else {
            let len = self.leftover.len().min(scratch.len());
            self.leftover.copy_to_slice(&mut scratch[..len]);
            if self.leftover.is_empty() {
                self.leftover = Bytes::new();
            }
            len
        };
        if len == 0 {
            heard(Heard::Closed);
            return Poll::Ready(Ok(()));
        }
        let input = &mut scratch[..len];
        let mut consumed = 0;
        loop {
            match self.decoder.decode(input, &mut consumed) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some(ws::Event::Text(text))) => heard(Heard::Text(text)),
                Ok(Some(ws::Event::Binary(bytes))) => heard(Heard::Binary(bytes)),
                Ok(Some(ws::Event::Pong(_))) => {}
                Ok(Some(ws::Event::Ping(payload))) => {
                    // While something waits to be written no pong is added: one is owed at most.
                    if self.out.is_empty() && !self.close_sent {
                        let pong = ws::encode_control(ws::Opcode::Pong, payload, Some(rand::random()));
                        self.out.extend_from_slice(&pong);
                    }
                }
                Ok(Some(ws::Event::Close(_))) => {
                    self.close(1000);
                    heard(Heard::Closed);
                }
                Err(error) => {
                    self.close(error.code);
                    heard(Heard::Broken(error));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

const MAX_FRAGMENTS: usize = 1_024;
/// A write buffer that grew beyond this is given back when it is empty.
const KEPT_CAPACITY: usize = 1 << 10;
