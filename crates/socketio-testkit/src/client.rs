//! A raw Socket.IO client over one TCP stream or a few, which does one step at a time and can leave out any of them.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engineio_proto::{
    Revision,
    packet::{Data, Packet as EnginePacket, PacketKind},
    payload::PayloadCursor,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{Answer, Endpoint, Http, Kind, Message, Packet, WebSocket, event, unexpected};

/// What the server said when the session was opened.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// The session's id.
    pub sid: String,
    /// What the session may be upgraded to.
    pub upgrades: Vec<String>,
    /// How often pings come, in milliseconds.
    pub ping_interval: u64,
    /// How long an answer to a ping may take, in milliseconds.
    pub ping_timeout: u64,
    /// The most bytes of a message.
    pub max_payload: Option<u64>,
}

/// A poll that was answered with nothing but a noop.
#[derive(Debug, Clone, Copy)]
pub struct Empty {
    /// When the poll was sent, so before the server decided.
    pub asked: Instant,
    /// When the answer was read, so after the server decided.
    pub answered: Instant,
}

/// One session as its client sees it.
///
/// What is queued goes out when the client is driven: by [`next`](Self::next), [`flush`](Self::flush) or
/// [`drive`](Self::drive). All of them may be dropped half-way, so that a `select!` can choose between them and a timer.
#[derive(Debug)]
pub struct RawClient {
    endpoint: Endpoint,
    open: Open,
    link: Link,
    inbox: VecDeque<Message>,
    aside: VecDeque<Packet>,
    partial: Option<(Packet, usize)>,
    /// The session is over: the server said so, or the WebSocket ended.
    ended: bool,
    /// Answers the server's pings.
    pub pongs: bool,
    /// How long [`next`](Self::next) waits. Default: 60 s.
    pub patience: Duration,
    empty_polls: Vec<Empty>,
    polls: u64,
}

#[derive(Debug)]
enum Link {
    Polling(Polling),
    WebSocket(WebSocket),
}

#[derive(Debug)]
struct Polling {
    get: Http,
    /// Since when a GET is on its way.
    asked: Option<Instant>,
    post: Option<Http>,
    posting: bool,
    outgoing: Vec<Out>,
    paused: bool,
}

/// One packet on its way out.
#[derive(Debug, Clone)]
enum Out {
    /// Its text, kind included.
    Text(String),
    /// The data of a binary message.
    Binary(Vec<u8>),
}

impl RawClient {
    /// Opens a session on long-polling.
    ///
    /// # Errors
    /// When the connection breaks or the server refuses.
    pub async fn polling(endpoint: &Endpoint) -> io::Result<Self> {
        let mut get = Http::connect_from(endpoint.source, endpoint.addr, endpoint.receive_buffer).await?;
        let answer = get.get(&endpoint.target("polling", None)).await?;
        let mut packets = decode_payload(endpoint.revision, &answer)?;
        let open = match packets.pop_front() {
            Some((PacketKind::Open, Message::Text(json))) => parse_open(&json)?,
            other => return Err(unexpected(format!("no open packet but {other:?}"))),
        };
        let link = Link::Polling(Polling {
            get,
            asked: None,
            post: None,
            posting: false,
            outgoing: Vec::new(),
            paused: false,
        });
        let mut client = Self::new(endpoint, open, link);
        for (kind, data) in packets {
            client.take(kind, data);
        }
        Ok(client)
    }

    /// Opens a session on WebSocket.
    ///
    /// # Errors
    /// When the connection breaks or the server refuses.
    pub async fn websocket(endpoint: &Endpoint) -> io::Result<Self> {
        let mut socket = WebSocket::open(endpoint, None).await?;
        match socket.next().await? {
            Some(Message::Text(text)) if text.starts_with('0') => {
                Ok(Self::new(endpoint, parse_open(&text[1..])?, Link::WebSocket(socket)))
            }
            other => Err(unexpected(format!("no open packet but {other:?}"))),
        }
    }

    fn new(endpoint: &Endpoint, open: Open, link: Link) -> Self {
        Self {
            endpoint: endpoint.clone(),
            open,
            link,
            inbox: VecDeque::new(),
            aside: VecDeque::new(),
            partial: None,
            ended: false,
            pongs: true,
            patience: Duration::from_secs(60),
            empty_polls: Vec::new(),
            polls: 0,
        }
    }

    /// The session's id.
    pub fn sid(&self) -> &str {
        &self.open.sid
    }

    /// What the server said when the session was opened.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// Where this client has connected.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the session is on WebSocket.
    pub fn is_websocket(&self) -> bool {
        matches!(self.link, Link::WebSocket(_))
    }

    /// The polls that were answered with nothing but a noop.
    pub fn empty_polls(&self) -> &[Empty] {
        &self.empty_polls
    }

    /// How many of these came sooner after an earlier one than `gap` allows. Never counts one too many.
    ///
    /// The server decided on a noop after its poll was sent and before the answer was read. So between the sending of one
    /// poll and the answer of the `n`-th after it lie at least `n` gaps, however late this process learns of things.
    pub fn too_soon(&self, gap: Duration) -> usize {
        let sooner = |(at, first): (usize, &Empty)| {
            let later = self.empty_polls[at + 1..].iter().zip(1_u32..);
            later.filter(|(later, gaps)| later.answered - first.asked < gap * *gaps).count()
        };
        self.empty_polls.iter().enumerate().map(sooner).sum()
    }

    /// How many GETs were sent after the one that opened the session.
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Joins a namespace and returns the socket's id; clients of Engine.IO 3 are told none and get an empty one.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn connect(&mut self, namespace: &str, auth: Option<&Value>) -> io::Result<String> {
        // `/` is joined by connecting in revision 3.
        if self.endpoint.revision == Revision::V4 || namespace != "/" {
            self.queue_connect(namespace, auth);
        }
        self.connected(namespace).await
    }

    /// Queues the packet that asks for a namespace.
    pub fn queue_connect(&mut self, namespace: &str, auth: Option<&Value>) {
        let mut text = String::from("40");
        if namespace != "/" {
            text.push_str(namespace);
            text.push(',');
        }
        if let Some(auth) = auth {
            text.push_str(&auth.to_string());
        }
        self.queue_packet(&text);
    }

    /// Waits for the answer to [`queue_connect`](Self::queue_connect) and returns the socket's id.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn connected(&mut self, namespace: &str) -> io::Result<String> {
        let packet = self
            .wait_for(|packet| {
                packet.namespace == namespace && matches!(packet.kind, Kind::Connect | Kind::ConnectError)
            })
            .await?;
        if packet.kind == Kind::ConnectError {
            return Err(unexpected(format!("refused: {}", packet.data)));
        }
        Ok(packet.data["sid"].as_str().unwrap_or_default().to_owned())
    }

    /// Queues an event to `/` and sends it.
    ///
    /// # Errors
    /// When the session ends.
    pub async fn emit(&mut self, name: &str, args: &[Value]) -> io::Result<()> {
        self.queue_event("/", None, name, args);
        self.flush().await
    }

    /// Sends an event to `/` and waits for its acknowledgement, which it returns.
    ///
    /// # Errors
    /// When the session ends.
    pub async fn ask(&mut self, id: u64, name: &str, args: &[Value]) -> io::Result<Value> {
        self.queue_event("/", Some(id), name, args);
        Ok(self.wait_for(|packet| packet.kind == Kind::Ack && packet.id == Some(id)).await?.data)
    }

    /// Queues an event.
    pub fn queue_event(&mut self, namespace: &str, id: Option<u64>, name: &str, args: &[Value]) {
        self.queue_packet(&format!("4{}", event(namespace, id, name, args)));
    }

    /// Queues an Engine.IO packet, its kind included, such as `2` or `42["a"]`.
    pub fn queue_packet(&mut self, packet: &str) {
        match &mut self.link {
            Link::Polling(polling) => polling.outgoing.push(Out::Text(packet.to_owned())),
            Link::WebSocket(socket) => socket.queue_text(packet),
        }
    }

    /// Queues a binary message.
    pub fn queue_binary(&mut self, data: &[u8]) {
        match &mut self.link {
            Link::Polling(polling) => polling.outgoing.push(Out::Binary(data.to_vec())),
            Link::WebSocket(socket) => send_binary(socket, self.endpoint.revision, data),
        }
    }

    /// Sends what is queued; on polling until the server has taken it.
    ///
    /// # Errors
    /// When the session ends.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            match &mut self.link {
                Link::WebSocket(socket) => return socket.flush().await,
                Link::Polling(polling) if !polling.posting && (polling.outgoing.is_empty() || polling.paused) => {
                    return Ok(());
                }
                Link::Polling(_) => self.drive().await?,
            }
        }
    }

    /// The next packet of any namespace. What was set aside while waiting for something else comes first.
    ///
    /// # Errors
    /// When the session ends, and when nothing has come for as long as this client is patient.
    pub async fn next(&mut self) -> io::Result<Packet> {
        if let Some(packet) = self.aside.pop_front() {
            return Ok(packet);
        }
        let patience = self.patience;
        tokio::time::timeout(patience, self.next_packet())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nothing came"))?
    }

    /// Waits for a packet and sets aside what comes before it.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn wait_for(&mut self, wanted: impl Fn(&Packet) -> bool) -> io::Result<Packet> {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return Ok(self.aside.remove(at).expect("the position was just found"));
        }
        let patience = self.patience;
        let wait = async {
            loop {
                let packet = self.next_packet().await?;
                if wanted(&packet) {
                    return Ok(packet);
                }
                self.aside.push_back(packet);
            }
        };
        tokio::time::timeout(patience, wait)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not come"))?
    }

    /// Reads until the session is over; returns what still came. On polling the end may also be a refused request.
    ///
    /// # Errors
    /// When it does not end for as long as this client is patient.
    pub async fn rest(&mut self) -> io::Result<Vec<Packet>> {
        let mut rest = Vec::new();
        loop {
            match self.next().await {
                Ok(packet) => rest.push(packet),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => return Ok(rest),
            }
        }
    }

    /// A packet that is here already.
    ///
    /// # Errors
    /// When the server sent what is no packet.
    pub fn ready(&mut self) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.aside.pop_front() {
            return Ok(Some(packet));
        }
        self.take_packet()
    }

    async fn next_packet(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.take_packet()? {
                return Ok(packet);
            }
            self.drive().await?;
        }
    }

    fn take_packet(&mut self) -> io::Result<Option<Packet>> {
        while let Some(message) = self.inbox.pop_front() {
            if let Some(packet) = self.assemble(message)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    fn assemble(&mut self, message: Message) -> io::Result<Option<Packet>> {
        let (mut packet, missing) = match (message, self.partial.take()) {
            (Message::Text(text), None) => Packet::parse(&text)?,
            (Message::Binary(data), Some((mut packet, missing))) => {
                packet.attachments.push(data);
                (packet, missing - 1)
            }
            (message, partial) => return Err(unexpected(format!("{message:?} in place of what {partial:?} needs"))),
        };
        if missing > 0 {
            packet.attachments.reserve(missing);
            self.partial = Some((packet, missing));
            return Ok(None);
        }
        Ok(Some(packet))
    }

    /// Makes some progress: sends what is queued, keeps a poll open, takes one answer or message. Waits until there is any.
    ///
    /// # Errors
    /// When the session ends: [`io::ErrorKind::ConnectionAborted`] when the server said so in the protocol's words.
    pub async fn drive(&mut self) -> io::Result<()> {
        if self.ended {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server closed the session"));
        }
        match &mut self.link {
            Link::WebSocket(socket) => {
                let (kind, data) = match socket.next().await? {
                    Some(Message::Text(text)) => {
                        let packet = EnginePacket::decode_text(self.endpoint.revision, &text).map_err(malformed)?;
                        owned(packet)
                    }
                    Some(Message::Binary(data)) => {
                        let packet = EnginePacket::decode_binary(self.endpoint.revision, &data).map_err(malformed)?;
                        owned(packet)
                    }
                    Some(Message::Close(_)) | None => {
                        self.ended = true;
                        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the WebSocket was closed"));
                    }
                };
                self.take(kind, data);
                Ok(())
            }
            Link::Polling(_) => self.drive_polling().await,
        }
    }

    async fn drive_polling(&mut self) -> io::Result<()> {
        let Self { link: Link::Polling(polling), endpoint, open, .. } = self else { return Ok(()) };
        if !polling.paused {
            let target = endpoint.target("polling", Some(&open.sid));
            if !polling.posting && !polling.outgoing.is_empty() {
                if polling.post.is_none() {
                    polling.post = Some(Http::connect_from(endpoint.source, endpoint.addr, None).await?);
                }
                let (content_type, body) = encode_payload(endpoint, &polling.outgoing);
                polling.outgoing.clear();
                polling.posting = true;
                if let Some(post) = &mut polling.post {
                    post.queue_post(&target, content_type, &body);
                }
            }
            if polling.asked.is_none() {
                polling.get.queue_get(&target);
                polling.asked = Some(Instant::now());
                self.polls += 1;
            }
        }
        let asked = polling.asked;
        let Polling { get, post, posting, .. } = polling;
        let polled = async {
            match asked {
                Some(asked) => Ok::<_, io::Error>((asked, get.answer().await?)),
                None => pending().await,
            }
        };
        let posted = async {
            match post {
                Some(post) if *posting => post.answer().await,
                _ => pending().await,
            }
        };
        tokio::select! {
            polled = polled => {
                let (asked, answer) = polled?;
                polling.asked = None;
                let packets = decode_payload(endpoint.revision, &answer)?;
                if packets.iter().all(|(kind, _)| *kind == PacketKind::Noop) {
                    self.empty_polls.push(Empty { asked, answered: Instant::now() });
                }
                for (kind, data) in packets {
                    self.take(kind, data);
                }
            }
            posted = posted => {
                let answer = posted?;
                polling.posting = false;
                if answer.status != 200 {
                    return Err(unexpected(format!("a POST was answered with {} {}", answer.status, answer.text())));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: PacketKind, data: Message) {
        match kind {
            PacketKind::Message => self.inbox.push_back(data),
            PacketKind::Ping if self.pongs => self.queue_packet("3"),
            PacketKind::Close => self.ended = true,
            _ => {}
        }
    }

    /// Moves the session to WebSocket, as a well-behaved client does it.
    ///
    /// # Errors
    /// When the session ends or the upgrade is refused.
    pub async fn upgrade(&mut self) -> io::Result<()> {
        let candidate = self.probe().await?;
        self.pause();
        while !self.is_idle() {
            self.drive().await?;
        }
        self.switch(candidate).await
    }

    /// The first step of an upgrade: a WebSocket that has been probed. Polls go on meanwhile.
    ///
    /// # Errors
    /// When the session ends or the server does not answer the probe.
    pub async fn probe(&mut self) -> io::Result<WebSocket> {
        let mut candidate = WebSocket::open(&self.endpoint, Some(&self.open.sid)).await?;
        candidate.queue_text("2probe");
        loop {
            tokio::select! {
                answer = candidate.next() => match answer? {
                    Some(Message::Text(text)) if text == "3probe" => return Ok(candidate),
                    other => return Err(unexpected(format!("no answer to the probe but {other:?}"))),
                },
                driven = self.drive() => driven?,
            }
        }
    }

    /// The second step of an upgrade: no further poll or POST is begun. What is queued waits for the WebSocket.
    pub fn pause(&mut self) {
        if let Link::Polling(polling) = &mut self.link {
            polling.paused = true;
        }
    }

    /// Polls again after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        if let Link::Polling(polling) = &mut self.link {
            polling.paused = false;
        }
    }

    /// Whether no request is on its way.
    pub fn is_idle(&self) -> bool {
        match &self.link {
            Link::Polling(polling) => polling.asked.is_none() && !polling.posting,
            Link::WebSocket(_) => true,
        }
    }

    /// The last step of an upgrade: from now on the candidate carries the session, with what was queued first.
    ///
    /// # Errors
    /// When the candidate's connection is broken.
    pub async fn switch(&mut self, mut candidate: WebSocket) -> io::Result<()> {
        candidate.queue_text("5");
        let link = std::mem::replace(&mut self.link, Link::WebSocket(candidate));
        if let (Link::Polling(polling), Link::WebSocket(socket)) = (link, &mut self.link) {
            for out in polling.outgoing {
                match out {
                    Out::Text(text) => socket.queue_text(&text),
                    Out::Binary(data) => send_binary(socket, self.endpoint.revision, &data),
                }
            }
        }
        self.flush().await
    }

    /// Queues bytes on the WebSocket as they are: the way to misbehave. Does nothing on polling.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        if let Link::WebSocket(socket) = &mut self.link {
            socket.queue_raw(bytes);
        }
    }

    /// The WebSocket, if the session is on one.
    pub fn socket(&mut self) -> Option<&mut WebSocket> {
        match &mut self.link {
            Link::WebSocket(socket) => Some(socket),
            Link::Polling(_) => None,
        }
    }

    /// Ends the session in the protocol's words: a close frame, or the packet `1`.
    ///
    /// # Errors
    /// When the session has ended already.
    pub async fn goodbye(&mut self) -> io::Result<()> {
        match &mut self.link {
            Link::WebSocket(socket) => socket.queue_close(),
            Link::Polling(polling) => {
                polling.outgoing.push(Out::Text("1".to_owned()));
                // The session may end while a poll is on its way, and that poll with an error.
                let _ = self.flush().await;
                return Ok(());
            }
        }
        self.flush().await
    }

    /// Drops the TCP streams: what a client does that is killed while it has read everything.
    pub fn cut(self) {}

    /// Ends the TCP streams with a RST: what a client does whose machine has gone down and come back.
    pub fn reset(self) {
        match self.link {
            Link::WebSocket(socket) => socket.reset(),
            Link::Polling(Polling { get, post, .. }) => {
                get.reset();
                if let Some(post) = post {
                    post.reset();
                }
            }
        }
    }
}

fn parse_open(json: &str) -> io::Result<Open> {
    serde_json::from_str(json).map_err(|error| unexpected(format!("bad open packet {json}: {error}")))
}

fn malformed(error: engineio_proto::packet::Malformed) -> io::Error {
    unexpected(format!("the server sent what is no packet: {error}"))
}

fn owned(packet: EnginePacket<'_>) -> (PacketKind, Message) {
    let data = match packet.data {
        Data::Text(text) => Message::Text(text.into_owned()),
        Data::Binary(data) => Message::Binary(data.into_owned()),
    };
    (packet.kind, data)
}

fn decode_payload(revision: Revision, answer: &Answer) -> io::Result<VecDeque<(PacketKind, Message)>> {
    if answer.status != 200 {
        return Err(unexpected(format!("a GET was answered with {} {}", answer.status, answer.text())));
    }
    let binary = answer.header("content-type") == Some("application/octet-stream");
    let mut cursor = PayloadCursor::new(revision, binary);
    let mut packets = VecDeque::new();
    while let Some(packet) = cursor.next(&answer.body) {
        packets.push_back(owned(packet.map_err(malformed)?));
    }
    Ok(packets)
}

fn encode_payload(endpoint: &Endpoint, packets: &[Out]) -> (&'static str, Vec<u8>) {
    const TEXT: &str = "text/plain;charset=UTF-8";
    let mut body = Vec::new();
    match endpoint.revision {
        Revision::V4 => {
            for (at, packet) in packets.iter().enumerate() {
                if at > 0 {
                    body.push(0x1e);
                }
                match packet {
                    Out::Text(text) => body.extend_from_slice(text.as_bytes()),
                    Out::Binary(data) => body.extend_from_slice(format!("b{}", STANDARD.encode(data)).as_bytes()),
                }
            }
            (TEXT, body)
        }
        Revision::V3 if endpoint.b64 || packets.iter().all(|packet| matches!(packet, Out::Text(_))) => {
            for packet in packets {
                let text = match packet {
                    Out::Text(text) => text.clone(),
                    Out::Binary(data) => format!("b4{}", STANDARD.encode(data)),
                };
                body.extend_from_slice(format!("{}:{text}", text.encode_utf16().count()).as_bytes());
            }
            (TEXT, body)
        }
        Revision::V3 => {
            for packet in packets {
                let (flag, kind, data) = match packet {
                    Out::Text(text) => (0, &[][..], text.as_bytes()),
                    Out::Binary(data) => (1, &[4][..], data.as_slice()),
                };
                body.push(flag);
                body.extend((kind.len() + data.len()).to_string().bytes().map(|digit| digit - b'0'));
                body.push(0xff);
                body.extend_from_slice(kind);
                body.extend_from_slice(data);
            }
            ("application/octet-stream", body)
        }
    }
}

fn send_binary(socket: &mut WebSocket, revision: Revision, data: &[u8]) {
    match revision {
        Revision::V4 => socket.queue_binary(data),
        Revision::V3 => socket.queue_binary(&[&[4], data].concat()),
    }
}
