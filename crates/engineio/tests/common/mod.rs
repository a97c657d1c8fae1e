//! A server on in-memory streams under a paused clock, and a raw client that speaks HTTP and WebSocket by hand.
#![allow(unreachable_pub, dead_code)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use engineio::{Application, Builder, CloseReason, Connection, Frame, HEADROOM, Message, Server, Session};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// What the application saw, and the handles to push with.
#[derive(Default)]
pub struct Seen {
    pub messages: Mutex<Vec<String>>,
    pub closed: Mutex<Vec<String>>,
    pub sessions: Mutex<Vec<Session>>,
    /// While set, the application takes no messages.
    pub busy: AtomicBool,
    pub waker: Mutex<Option<Waker>>,
}

impl Seen {
    pub fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.messages.lock().unwrap())
    }

    pub fn session(&self) -> Session {
        self.sessions.lock().unwrap().last().expect("a session").clone()
    }

    pub fn closed(&self) -> Vec<String> {
        self.closed.lock().unwrap().clone()
    }

    pub fn free(&self) {
        self.busy.store(false, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

/// Records everything; answers `echo:x` with `x`, takes nothing more after `busy`, and panics at `panic`.
pub struct Recorder(pub Arc<Seen>);

pub struct Recording {
    session: Session,
    seen: Arc<Seen>,
}

impl Application for Recorder {
    type Connection = Recording;

    fn open(&self, session: &Session) -> Recording {
        self.0.sessions.lock().unwrap().push(session.clone());
        Recording { session: session.clone(), seen: self.0.clone() }
    }
}

impl Connection for Recording {
    fn message(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        let text = match message {
            Message::Text(text) => text.to_owned(),
            Message::Binary(data) => format!("{data:?}"),
        };
        if let Some(echo) = text.strip_prefix("echo:") {
            let _ = self.session.send([frame(echo)]);
        }
        if text == "busy" {
            self.seen.busy.store(true, Ordering::SeqCst);
        }
        assert!(text != "panic", "the application was asked to panic");
        self.seen.messages.lock().unwrap().push(text);
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        *self.seen.waker.lock().unwrap() = Some(cx.waker().clone());
    }

    fn ready(&self) -> bool {
        !self.seen.busy.load(Ordering::SeqCst)
    }

    fn close(&mut self, _: &mut Context<'_>, reason: CloseReason) {
        let detail = reason.description().map(|text| format!(" ({text})")).unwrap_or_default();
        self.seen.closed.lock().unwrap().push(format!("{reason}{detail}"));
    }

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

pub fn frame(text: &str) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(text.as_bytes());
    Frame::text(buffer, HEADROOM)
}

pub struct World {
    pub server: Server<Recorder>,
    pub seen: Arc<Seen>,
}

impl World {
    pub fn new(build: impl FnOnce(Builder) -> Builder) -> Self {
        let seen = Arc::new(Seen::default());
        let server = build(Server::<Recorder>::builder()).build(Recorder(seen.clone())).expect("good options");
        Self { server, seen }
    }

    /// Opens a connection whose pipe holds `capacity` bytes each way.
    pub fn connect(&self, capacity: usize) -> Client {
        let (near, far) = tokio::io::duplex(capacity);
        let service = TowerToHyperService::new(self.server.service());
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .half_close(false)
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades()
                .await;
        });
        Client::new(near)
    }

    /// Opens a polling session and gives back its id.
    pub async fn open(&self) -> String {
        let answer = self.connect(1 << 16).get("EIO=4&transport=polling").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        sid_of(&answer.body)
    }

    /// Opens a WebSocket session.
    pub async fn open_socket(&self, capacity: usize) -> Client {
        let mut client = self.connect(capacity);
        client.upgrade("EIO=4&transport=websocket").await;
        let open = client.text().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }
}

pub fn sid_of(open: &str) -> String {
    open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid").to_owned()
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub struct Client<S = DuplexStream> {
    pub stream: S,
    pub buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn get(&mut self, query: &str) -> Answer {
        self.send_get(query).await;
        self.answer().await
    }

    pub async fn send_get(&mut self, query: &str) {
        self.raw(format!("GET /engine.io/?{query} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
    }

    pub async fn post(&mut self, query: &str, body: &str) -> Answer {
        let head = format!("POST /engine.io/?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        self.raw(head.as_bytes()).await;
        self.raw(body.as_bytes()).await;
        self.answer().await
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// Reads one answer with a Content-Length, or without a body.
    pub async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("ASCII");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            assert!(self.fill().await, "the connection ended within a body");
        }
        let body = String::from_utf8(self.buffer.drain(..length).collect()).expect("UTF-8");
        Answer { status, head, body }
    }

    pub async fn upgrade(&mut self, query: &str) {
        let answer = self.try_upgrade(query).await;
        assert_eq!(answer.status, 101, "{answer:?}");
    }

    pub async fn try_upgrade(&mut self, query: &str) -> Answer {
        self.raw(
            format!(
                "GET /engine.io/?{query} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
        self.answer().await
    }

    /// Sends a masked text frame.
    pub async fn send(&mut self, text: &str) {
        self.raw(&masked(1, text.as_bytes())).await;
    }

    /// The next frame: its opcode and payload; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if self.buffer.len() >= 2 {
                let (header, length) = match self.buffer[1] {
                    126 if self.buffer.len() >= 4 => {
                        (4, usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])))
                    }
                    127 if self.buffer.len() >= 10 => {
                        (10, u64::from_be_bytes(self.buffer[2..10].try_into().unwrap()) as usize)
                    }
                    short if short < 126 => (2, usize::from(short)),
                    _ => (usize::MAX, 0),
                };
                if header < usize::MAX && self.buffer.len() >= header + length {
                    let opcode = self.buffer[0] & 0x0f;
                    let payload = self.buffer.drain(..header + length).skip(header).collect();
                    return Some((opcode, payload));
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next text frame.
    pub async fn text(&mut self) -> String {
        let (opcode, payload) = self.frame().await.expect("a frame");
        assert_eq!(opcode, 1, "{payload:?}");
        String::from_utf8(payload).expect("UTF-8")
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
