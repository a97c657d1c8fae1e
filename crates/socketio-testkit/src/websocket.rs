//! The client's end of a WebSocket, frame by frame.

use std::{collections::VecDeque, io};

use bytes::BytesMut;
use engineio_proto::ws::{self, Decoder, Event, Opcode, Role, handshake};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Answer, Endpoint, Http, unexpected};

/// What a WebSocket brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// The client's end of a WebSocket. Every method may be dropped half-way and called again.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    events: VecDeque<Message>,
    out: BytesMut,
    mask: u32,
    ended: bool,
}

impl WebSocket {
    /// Opens a WebSocket, for a new session or, with its id, as a candidate for one that polls.
    ///
    /// # Errors
    /// When the connection breaks or the server refuses.
    pub async fn open(endpoint: &Endpoint, sid: Option<&str>) -> io::Result<Self> {
        Self::try_open(endpoint, sid)
            .await?
            .map_err(|answer| unexpected(format!("the WebSocket was refused: {} {}", answer.status, answer.text())))
    }

    /// The same, with the server's refusal as an answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn try_open(endpoint: &Endpoint, sid: Option<&str>) -> io::Result<Result<Self, Answer>> {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut http = Http::connect_from(endpoint.source, endpoint.addr, endpoint.receive_buffer).await?;
        http.queue_upgrade(&endpoint.target("websocket", sid), KEY);
        let answer = http.answer().await?;
        if answer.status != 101 {
            return Ok(Err(answer));
        }
        let headers: Vec<_> = answer.head.lines().filter_map(|line| line.split_once(": ")).collect();
        handshake::verify_response(answer.status, &headers[..], KEY, &[])
            .map_err(|error| unexpected(error.to_string()))?;
        let Http { stream, input, .. } = http;
        let decoder = Decoder::new(Role::Client, 64 << 20, 1024);
        let mut socket = Self {
            stream,
            decoder,
            input,
            events: VecDeque::new(),
            out: BytesMut::new(),
            mask: 0x1234_5678,
            ended: false,
        };
        socket.decode()?;
        Ok(Ok(socket))
    }

    /// Queues a text message.
    pub fn queue_text(&mut self, text: &str) {
        self.queue_frame(Opcode::Text, text.as_bytes());
    }

    /// Queues a binary message.
    pub fn queue_binary(&mut self, data: &[u8]) {
        self.queue_frame(Opcode::Binary, data);
    }

    /// Queues a close frame without a code.
    pub fn queue_close(&mut self) {
        self.queue_frame(Opcode::Close, &[]);
    }

    /// Queues bytes as they are: the way to misbehave.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
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

    /// Writes what is queued and waits for the next message. `None` is the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken, or the server breaks the protocol.
    pub async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let (mut reader, mut writer) = self.stream.split();
            let read = if self.out.is_empty() {
                reader.read_buf(&mut self.input).await?
            } else {
                tokio::select! {
                    read = reader.read_buf(&mut self.input) => read?,
                    written = writer.write_buf(&mut self.out) => { written?; continue }
                }
            };
            if read == 0 {
                self.ended = true;
            }
            self.decode()?;
        }
    }

    /// Ends the sending half of the TCP stream and goes on reading.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }

    /// Ends the connection with a RST instead of a FIN.
    pub fn reset(self) {
        // A stream that is gone already needs no reset.
        let _ = self.stream.set_zero_linger();
    }

    /// How many bytes wait to be written.
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    fn queue_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        // Masks have to differ, not to be secret: nothing between a test and its server is fooled by them.
        self.mask = self.mask.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        let mut frame = Vec::with_capacity(payload.len() + ws::MAX_HEADER);
        ws::encode_message(opcode, false, payload, Some(self.mask.to_be_bytes()), &mut frame);
        self.out.extend_from_slice(&frame);
    }

    fn decode(&mut self) -> io::Result<()> {
        let mut at = 0;
        let mut pongs = Vec::new();
        loop {
            match self.decoder.decode(&mut self.input, &mut at) {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => self.events.push_back(Message::Text(text.to_owned())),
                Ok(Some(Event::Binary(data))) => self.events.push_back(Message::Binary(data.to_owned())),
                Ok(Some(Event::Ping(data))) => pongs.push(data.to_owned()),
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(code))) => self.events.push_back(Message::Close(code.map(|(code, _)| code))),
                Err(error) => return Err(unexpected(format!("the server broke the WebSocket protocol: {error}"))),
            }
        }
        self.input.clear();
        for pong in pongs {
            self.queue_frame(Opcode::Pong, &pong);
        }
        Ok(())
    }
}
