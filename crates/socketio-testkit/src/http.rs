//! HTTP/1.1 by hand: one kept-alive connection, requests out, answers in.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::unexpected;

/// One HTTP connection. Every method may be dropped half-way and called again.
#[derive(Debug)]
pub struct Http {
    pub(crate) stream: TcpStream,
    pub(crate) input: BytesMut,
    out: BytesMut,
}

/// An answer with its body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers, as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(not UTF-8)")
    }
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// When the server does not accept.
    pub async fn connect(addr: SocketAddr, receive_buffer: Option<u32>) -> io::Result<Self> {
        Self::connect_from(None, addr, receive_buffer).await
    }

    /// Connects from an address of one's own, so that a server that counts by address sees somebody else.
    ///
    /// # Errors
    /// When the server does not accept, or the address is not ours.
    pub async fn connect_from(
        source: Option<Ipv4Addr>,
        addr: SocketAddr,
        receive_buffer: Option<u32>,
    ) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::new(), out: BytesMut::new() })
    }

    /// Queues bytes as they are.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Queues a GET.
    pub fn queue_get(&mut self, target: &str) {
        self.queue(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    }

    /// Queues a POST.
    pub fn queue_post(&mut self, target: &str, content_type: &str, body: &[u8]) {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.queue(head.as_bytes());
        self.queue(body);
    }

    /// Queues the handshake of a WebSocket.
    pub fn queue_upgrade(&mut self, target: &str, key: &str) {
        self.queue(
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            )
            .as_bytes(),
        );
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            self.stream.write_buf(&mut self.out).await?;
        }
        Ok(())
    }

    /// Writes what is queued and reads the next answer.
    ///
    /// # Errors
    /// When the connection is broken, or the answer is not one that our server gives.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.flush().await?;
        loop {
            if let Some(answer) = self.take_answer()? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a GET and reads its answer.
    ///
    /// # Errors
    /// As [`Http::answer`].
    pub async fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.queue_get(target);
        self.answer().await
    }

    /// Sends a POST and reads its answer.
    ///
    /// # Errors
    /// As [`Http::answer`].
    pub async fn post(&mut self, target: &str, body: &str) -> io::Result<Answer> {
        self.queue_post(target, "text/plain;charset=UTF-8", body.as_bytes());
        self.answer().await
    }

    /// Writes what is queued and reads whatever comes until the connection ends, well or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        // Who does not take the rest may have said why.
        let _ = self.flush().await;
        while self.stream.read_buf(&mut self.input).await.is_ok_and(|read| read > 0) {}
        self.input.split().to_vec()
    }

    /// Ends the connection with a RST instead of a FIN.
    pub fn reset(self) {
        // A stream that is gone already needs no reset.
        let _ = self.stream.set_zero_linger();
    }

    /// The next answer, if all of it is here.
    fn take_answer(&mut self) -> io::Result<Option<Answer>> {
        let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&self.input[..end]).map_err(|_| unexpected("a head that is not UTF-8"))?;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| unexpected(format!("not an HTTP answer: {head}")))?;
        if header(head, "transfer-encoding").is_some() {
            return Err(unexpected("a chunked answer"));
        }
        let length = match header(head, "content-length") {
            Some(length) => length.parse().map_err(|_| unexpected(format!("a bad length: {head}")))?,
            None => 0,
        };
        if self.input.len() < end + 4 + length {
            return Ok(None);
        }
        let head = self.input.split_to(end + 4);
        let head = String::from_utf8_lossy(&head).into_owned();
        let body = self.input.split_to(length).to_vec();
        Ok(Some(Answer { status, head, body }))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
