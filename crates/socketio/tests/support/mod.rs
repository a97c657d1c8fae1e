//! A server on a free port of this machine, and a client that is nothing but bytes.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use std::time::Duration;

use socketio::{Builder, SocketIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Nothing in these tests takes so long; what does is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub addr: SocketAddr,
    pub io: SocketIo,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn serve(builder: Builder) -> Server {
    let io = builder.build().expect("the options of a test are sound");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = io.clone();
    let task = tokio::spawn(async move {
        let _ = serving.serve(listener).await;
    });
    Server { addr, io, task }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Msg {
    Text(String),
    Binary(Vec<u8>),
    Closed,
}

/// A WebSocket client that answers pings and otherwise does what the test says.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    eio: u8,
    /// The engine's session id.
    pub sid: String,
}

impl Client {
    /// Opens an Engine.IO session over WebSocket and reads its open packet.
    pub async fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, 4, "").await
    }

    pub async fn open_with(addr: SocketAddr, eio: u8, query: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /socket.io/?EIO={eio}&transport=websocket{query} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut client = Self { stream, buffer: Vec::new(), eio, sid: String::new() };
        let Msg::Text(open) = client.raw().await else { panic!("no open packet") };
        client.sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        client
    }

    /// Opens a session and joins `/`. Returns the client and its socket id.
    pub async fn join(addr: SocketAddr) -> (Self, String) {
        Self::join_in(addr, "/", "").await
    }

    /// Opens a session and joins a namespace.
    pub async fn join_in(addr: SocketAddr, namespace: &str, auth: &str) -> (Self, String) {
        let mut client = Self::open(addr).await;
        let id = client.connect(namespace, auth).await;
        (client, id)
    }

    /// Joins a namespace on this session and returns the socket id.
    pub async fn connect(&mut self, namespace: &str, auth: &str) -> String {
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        self.send(&format!("0{prefix}{auth}")).await;
        let answer = self.text().await;
        let rest = answer.strip_prefix(&format!("0{prefix}{{\"sid\":\"")).unwrap_or_else(|| panic!("{answer}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Sends a Socket.IO packet as text.
    pub async fn send(&mut self, packet: &str) {
        self.frame(1, format!("4{packet}").as_bytes()).await;
    }

    /// Sends several Socket.IO packets in one write.
    pub async fn send_all(&mut self, packets: &[&str]) {
        let bytes: Vec<u8> =
            packets.iter().flat_map(|packet| frame_bytes(1, format!("4{packet}").as_bytes())).collect();
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub async fn send_binary(&mut self, data: &[u8]) {
        if self.eio == 3 {
            self.frame(2, &[&[4], data].concat()).await;
        } else {
            self.frame(2, data).await;
        }
    }

    /// Sends a text frame as it is.
    pub async fn send_raw(&mut self, text: &str) {
        self.frame(1, text.as_bytes()).await;
    }

    async fn frame(&mut self, opcode: u8, data: &[u8]) {
        self.stream.write_all(&frame_bytes(opcode, data)).await.unwrap();
    }

    /// The next Socket.IO packet, which must be text.
    #[track_caller]
    pub fn text(&mut self) -> impl Future<Output = String> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            match self.next().await {
                Msg::Text(text) => text,
                other => panic!("expected text, got {other:?} at {caller}"),
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, want: &str) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        let want = want.to_owned();
        async move {
            let got = self.next().await;
            assert_eq!(got, Msg::Text(want), "at {caller}");
        }
    }

    pub async fn expect_binary(&mut self, want: &[u8]) {
        assert_eq!(self.next().await, Msg::Binary(want.to_vec()));
    }

    pub async fn expect_closed(&mut self) {
        assert_eq!(self.next().await, Msg::Closed);
    }

    /// The next Socket.IO message: the engine's own packets are handled here.
    pub async fn next(&mut self) -> Msg {
        loop {
            match self.raw().await {
                Msg::Text(text) if text == "2" => self.frame(1, b"3").await,
                Msg::Text(text) if text == "3" || text == "6" => {}
                Msg::Text(text) => match text.strip_prefix('4') {
                    Some(packet) => return Msg::Text(packet.to_owned()),
                    None if text == "1" => return Msg::Closed,
                    None => panic!("unexpected engine packet {text}"),
                },
                Msg::Binary(data) if self.eio == 3 => return Msg::Binary(data[1..].to_vec()),
                other => return other,
            }
        }
    }

    async fn raw(&mut self) -> Msg {
        tokio::time::timeout(PATIENCE, self.raw_without_patience()).await.expect("the server sends nothing")
    }

    async fn raw_without_patience(&mut self) -> Msg {
        loop {
            if let Some((opcode, data, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return match opcode {
                    1 => Msg::Text(String::from_utf8(data).unwrap()),
                    2 => Msg::Binary(data),
                    _ => Msg::Closed,
                };
            }
            self.buffer.reserve(65_536);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Msg::Closed,
                Ok(_) => {}
            }
        }
    }

    /// Whether nothing arrives although the server has answered a later ack.
    pub async fn barrier(&mut self) {
        self.send("2999[\"barrier\"]").await;
        self.expect("3999[]").await;
    }

    /// Sends the barrier and lets it wait: a handler is in its way.
    pub async fn barrier_is_not_answered(&mut self) {
        self.send("2998[\"barrier\"]").await;
        let answer = tokio::time::timeout(Duration::from_millis(100), self.raw_without_patience()).await;
        assert!(answer.is_err(), "{answer:?}");
    }

    pub async fn close(mut self) {
        self.frame(8, &[]).await;
        let _ = self.stream.shutdown().await;
    }
}

fn frame_bytes(opcode: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match data.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(data);
    frame
}

fn parse(buffer: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let opcode = buffer.first()? & 15;
    let (len, start) = match *buffer.get(1)? {
        126 => (u16::from_be_bytes(buffer.get(2..4)?.try_into().unwrap()) as usize, 4),
        127 => (u64::from_be_bytes(buffer.get(2..10)?.try_into().unwrap()) as usize, 10),
        len => (usize::from(len), 2),
    };
    let data = buffer.get(start..start + len)?;
    Some((opcode, data.to_vec(), start + len))
}

/// Waits until `is_so`. For what the server does on its own time, such as disconnect handlers.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !is_so() {
            assert!(tokio::time::Instant::now() < until, "never: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One HTTP request on a connection of its own. Returns status and body.
pub async fn http(addr: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end))
}

/// A long-polling client that is nothing but requests.
pub struct Polling {
    addr: SocketAddr,
    target: String,
    pub sid: String,
}

impl Polling {
    pub async fn open(addr: SocketAddr, eio: u8) -> Self {
        let mut target = format!("/socket.io/?EIO={eio}&transport=polling");
        let (status, body) = http(addr, "GET", &target, "", b"").await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{body}");
        let sid = body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        target.push_str(&format!("&sid={sid}"));
        Self { addr, target, sid }
    }

    pub async fn get(&self) -> Vec<u8> {
        let (status, body) = http(self.addr, "GET", &self.target, "", b"").await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    pub async fn post(&self, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        http(self.addr, "POST", &self.target, headers, body).await
    }

    /// Posts text that must be taken.
    pub async fn send(&self, payload: &str) {
        assert_eq!(self.post("", payload.as_bytes()).await, (200, b"ok".to_vec()));
    }

    /// Polls until the payload has come, and must then begin with `want`.
    pub async fn text(&self) -> String {
        String::from_utf8(self.get().await).unwrap()
    }
}

/// The head of the answer to a GET.
pub async fn head(addr: SocketAddr, target: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split("\r\n\r\n").next().unwrap_or_default().to_owned()
}
