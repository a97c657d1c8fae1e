//! As `raw-tokio`, with one read buffer and one write buffer per worker thread: an idle connection holds none. With `--tls`
//! the same over rustls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use peer_raw::{Answered, Cast, MAX_INPUT, answer, open, port, tick};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

type Everybody = Arc<Mutex<Vec<UnboundedSender<Bytes>>>>;

thread_local! {
    /// The worker's input and output.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::new((vec![0; 64 << 10], Vec::new()));
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let tls = std::env::args().any(|arg| arg == "--tls").then(acceptor).transpose()?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port()))).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let everybody = Everybody::default();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let everybody = everybody.clone();
            match tls.clone() {
                // Boxed, and gone before the connection is served: a handshake needs more room than what comes after it.
                Some(tls) => drop(tokio::spawn(async move {
                    if let Ok(stream) = Box::pin(tls.accept(stream)).await {
                        serve(stream, everybody).await;
                    }
                })),
                None => drop(tokio::spawn(serve(stream, everybody))),
            }
        }
    }
}

fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, everybody: Everybody) -> impl Future<Output = ()> {
    let (sender, receiver) = unbounded_channel();
    let mut connection =
        Connection { stream, rest: Vec::new(), unsent: Vec::new(), receiver, sender: Some(sender), everybody };
    poll_fn(move |cx| connection.poll(cx).map(drop))
}

/// TLS with a certificate of our own making, which the generator takes.
fn acceptor() -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let key = made.signing_key.serialize_der().try_into().map_err(io::Error::other)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Connection<S> {
    stream: S,
    /// Input that is no whole frame yet.
    rest: Vec<u8>,
    /// Output that the socket would not take.
    unsent: Vec<u8>,
    receiver: UnboundedReceiver<Bytes>,
    /// Until the WebSocket is open.
    sender: Option<UnboundedSender<Bytes>>,
    everybody: Everybody,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|(scratch, out)| {
            while !self.unsent.is_empty() {
                let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
                self.unsent.drain(..sent);
            }
            // TLS may hold what the socket would not take.
            if Pin::new(&mut self.stream).poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
            loop {
                out.clear();
                let mut taken = 0;
                while let Poll::Ready(Some(frame)) = self.receiver.poll_recv(cx) {
                    out.extend_from_slice(&frame);
                    taken += 1;
                }
                let mut buffer = ReadBuf::new(scratch);
                let read = match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => Some(buffer.filled().len()),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => None,
                };
                match read {
                    Some(0) => return Poll::Ready(Ok(())),
                    Some(read) if !self.take(&mut scratch[..read], out) => return Poll::Ready(Ok(())),
                    None if taken == 0 => return Poll::Pending,
                    _ => {}
                }
                let mut sent = 0;
                while sent < out.len() {
                    match Pin::new(&mut self.stream).poll_write(cx, &out[sent..])? {
                        Poll::Ready(written) => sent += written,
                        Poll::Pending => {
                            self.unsent.extend_from_slice(&out[sent..]);
                            return Poll::Pending;
                        }
                    }
                }
                if Pin::new(&mut self.stream).poll_flush(cx)?.is_pending() {
                    return Poll::Pending;
                }
            }
        })
    }

    /// Answers input; `false` when the connection is over.
    fn take(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> bool {
        let Some(answered) = (if self.rest.is_empty() {
            let answered = self.feed(input, out);
            if let Some(answered) = &answered {
                self.rest.extend_from_slice(&input[answered.consumed..]);
            }
            answered
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(input);
            let answered = self.feed(&mut rest, out);
            match &answered {
                Some(answered) if answered.consumed < rest.len() => {
                    rest.drain(..answered.consumed);
                    self.rest = rest;
                }
                _ => {}
            }
            answered
        }) else {
            return false;
        };
        if let Some(Cast { count, size }) = answered.cast {
            let mut everybody = self.everybody.lock().unwrap_or_else(PoisonError::into_inner);
            for index in 0..count {
                let mut frame = Vec::new();
                tick(&mut frame, index, size);
                let frame = Bytes::from(frame);
                everybody.retain(|sender| sender.send(frame.clone()).is_ok());
            }
        }
        !answered.close && self.rest.len() <= MAX_INPUT
    }

    fn feed(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Option<Answered> {
        let mut start = 0;
        if self.sender.is_some() {
            match open(input, out) {
                None => return Some(Answered::default()),
                Some(Err(())) => return None,
                Some(Ok(end)) => start = end,
            }
            let everybody = &self.everybody;
            everybody.lock().unwrap_or_else(PoisonError::into_inner).extend(self.sender.take());
        }
        let mut answered = answer(&mut input[start..], out);
        answered.consumed += start;
        Some(answered)
    }
}
