//! The client: one session with a server over long-polling, WebSocket, or the one after the other.
//!
//! A [`Client`] has no task of its own: whoever owns it awaits [`Client::next`] and everything happens in there, so nothing
//! outlives it. The rules of the protocol are [`engineio_proto::client`]'s.

mod cookies;
mod http;
mod options;
mod proxy;
mod socket;
#[cfg(feature = "client-tls")]
mod tls;

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use ::http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST},
};
use bytes::Bytes;
use engineio_proto::{
    Frame, Transport,
    client::{Output, Session},
    packet::{Data, Packet},
    payload::{EncodedPayload, PayloadCursor},
    session::{CloseReason, Link},
    ws::handshake::ResponseError,
};
use http_body_util::Full;
use tokio::time::{Instant, Sleep};

pub use engineio_proto::{
    client::{SendError as ClientSendError, tunnel::TunnelError},
    open::OpenPacket,
};
pub use options::{ClientOptions, InvalidClientOption};
pub use proxy::Proxy;
#[cfg(feature = "client-tls")]
pub use tls::ClientTls;

use self::{
    cookies::Jar,
    http::{Answer, HttpConn, exchange},
    socket::{Heard, Socket},
};
use crate::link::with_scratch;

/// Why there is no session, or no longer one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What answered does not speak HTTP as it should, or the connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The server answered with another status than 200. Redirections are not followed.
    #[error("unexpected server response: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The status code.
        status: u16,
        /// What the server says, in at most 256 characters. An Engine.IO server says `{"code":…,"message":…}`.
        message: String,
    },
    /// The answer is not that of a WebSocket.
    #[error("{0}")]
    WebSocket(#[from] ResponseError),
    /// An answer over [`ClientOptions::max_inbound_payload`].
    #[error("the answer is too large")]
    TooLarge,
    /// The session ended before it was open.
    #[error("{}", .0.description().unwrap_or(.0.as_str()))]
    Closed(CloseReason),
    /// A request took longer than [`ClientOptions::request_timeout`].
    #[error("a request took too long")]
    RequestTimeout,
    /// The proxy does not let us through.
    #[error("{0}")]
    Proxy(#[from] TunnelError),
    /// No transport is left that this client can speak. Node: `No transports available`.
    #[error("no transports available")]
    NoTransport,
    /// `https` or `wss` without the feature for it.
    #[error("this program was built without TLS")]
    NoTls,
}

impl ConnectError {
    fn status(status: StatusCode, body: &[u8]) -> Self {
        let message = String::from_utf8_lossy(body.get(..1024).unwrap_or(body));
        let message = message.chars().filter(|c| !c.is_control()).take(256).collect();
        Self::Status { status: status.as_u16(), message }
    }
}

/// What happens on a session.
#[derive(Debug)]
pub enum ClientEvent {
    /// The session is open. Comes once and first.
    Opened(OpenPacket),
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// The server has asked for a sign of life. The answer goes by itself.
    Pinged,
    /// The session goes on over WebSocket.
    Upgraded,
    /// The session is over, and perhaps what broke it. Comes once and last.
    Closed(CloseReason, Option<ConnectError>),
}

/// One session with a server. Dropping it breaks the connections off; [`Client::close`] says goodbye.
pub struct Client {
    options: Arc<ClientOptions>,
    /// The same for the requests of each transport.
    polling: Arc<ClientOptions>,
    websocket: Arc<ClientOptions>,
    machine: Session,
    get: Slot,
    post: Slot,
    dialling: Option<Dialling>,
    candidate: Option<Socket>,
    socket: Option<Socket>,
    sid: Option<String>,
    jar: Jar,
    /// The answer to a poll, as far as it has not been looked at.
    polled: Option<(Bytes, PayloadCursor)>,
    events: VecDeque<ClientEvent>,
    error: Option<ConnectError>,
    ending: Option<Ending>,
    timer: Option<Pin<Box<Sleep>>>,
}

type Exchange = Pin<Box<dyn Future<Output = (Option<HttpConn>, Result<Answer, ConnectError>)> + Send>>;
type Dialling = Pin<Box<dyn Future<Output = Result<(Socket, ::http::HeaderMap), ConnectError>> + Send>>;

/// A connection for one kind of request.
enum Slot {
    Free(Option<HttpConn>),
    Busy(Exchange),
}

/// The session is over; a last frame may still have to be written.
enum Ending {
    Flushing { reason: CloseReason, by: Instant },
    Done,
}

impl Client {
    /// Opens a session. With [`ClientOptions::try_all_transports`] the transports are tried one after the other.
    ///
    /// # Errors
    /// Why the last transport that was tried did not get there.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the attempt off.
    pub async fn connect(options: &ClientOptions) -> Result<(Self, OpenPacket), ConnectError> {
        let mut last = ConnectError::NoTransport;
        for transport in options.attempts() {
            let mut client = Self::begin(Arc::new(options.clone()), transport);
            last = match client.next().await {
                ClientEvent::Opened(open) => return Ok((client, open)),
                ClientEvent::Closed(reason, error) => error.unwrap_or(ConnectError::Closed(reason)),
                // The machine lets nothing else come before.
                _ => ConnectError::Closed(CloseReason::ParseError("no open packet")),
            };
            options.upgraded_before.store(false, Ordering::Relaxed);
        }
        Err(last)
    }

    fn begin(options: Arc<ClientOptions>, transport: Transport) -> Self {
        let machine = Session::new(Instant::now().into_std(), options.session(), transport);
        let mut client = Self {
            polling: options.of(Transport::Polling),
            websocket: options.of(Transport::WebSocket),
            options,
            machine,
            get: Slot::Free(None),
            post: Slot::Free(None),
            dialling: None,
            candidate: None,
            socket: None,
            sid: None,
            jar: Jar::default(),
            polled: None,
            events: VecDeque::new(),
            error: None,
            ending: None,
            timer: None,
        };
        if transport == Transport::WebSocket {
            client.dial(None);
        }
        client
    }

    /// Waits for the next event, and does all the work of the session meanwhile.
    ///
    /// After [`ClientEvent::Closed`] it waits for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> ClientEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Client::next`] for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ClientEvent> {
        loop {
            self.obey();
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Some(event) = self.finish(cx) {
                return event;
            }
            if self.look_at_polled() || self.progress(cx) {
                continue;
            }
            if !self.is_late(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Queues messages, all of them or none. They leave while [`Client::next`] is awaited.
    ///
    /// # Errors
    /// [`ClientSendError`]; the session goes on as it was.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame, IntoIter: Clone>) -> Result<(), ClientSendError> {
        self.machine.send(frames)
    }

    /// Closes the session; what is queued leaves first. [`ClientEvent::Closed`] tells when it is done.
    pub fn close(&mut self) {
        self.machine.close(Instant::now().into_std());
    }

    /// The transport that carries the session.
    pub fn transport(&self) -> Transport {
        self.machine.transport()
    }

    /// How many bytes wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.machine.queued_bytes() + self.socket.as_ref().map_or(0, Socket::unwritten)
    }

    /// Does what the machine asks for.
    fn obey(&mut self) {
        let now = Instant::now();
        loop {
            // What waits in the process is little; the rest stays in the queue, where it is counted.
            if self.socket.as_ref().is_some_and(|socket| socket.unwritten() > ROOM) && self.machine.is_open() {
                return;
            }
            let Some(output) = self.machine.poll(now.into_std()) else { return };
            match output {
                Output::Get => {
                    let request = self.request(Method::GET, Transport::Polling, None);
                    self.get.start(&self.polling, request);
                }
                Output::Post(payload) => {
                    let request = self.request(Method::POST, Transport::Polling, Some(payload));
                    self.post.start(&self.polling, request);
                }
                Output::Write(link, packet) => {
                    let (revision, base64) = (self.machine.revision(), self.options.session.force_base64);
                    let socket = match link {
                        Link::Socket => &mut self.socket,
                        Link::Candidate => &mut self.candidate,
                    };
                    if let Some(socket) = socket {
                        socket.queue(&packet, revision, base64);
                    }
                }
                Output::Opened(open) => {
                    self.sid = Some(open.sid.clone());
                    if self.transport() == Transport::WebSocket {
                        self.options.upgraded_before.store(true, Ordering::Relaxed);
                    }
                    // Messages that came with it have been heard already.
                    self.events.push_front(ClientEvent::Opened(open));
                }
                Output::Pinged => self.events.push_back(ClientEvent::Pinged),
                Output::Dial => {
                    let sid = self.sid.clone();
                    self.dial(sid.as_deref());
                }
                Output::DropCandidate => {
                    self.dialling = None;
                    self.candidate = None;
                }
                Output::Upgraded => {
                    self.socket = self.candidate.take();
                    (self.get, self.post) = (Slot::Free(None), Slot::Free(None));
                    self.options.upgraded_before.store(true, Ordering::Relaxed);
                    self.events.push_back(ClientEvent::Upgraded);
                }
                Output::CloseSocket => {
                    if let Some(socket) = &mut self.socket {
                        socket.close(1000);
                    }
                }
                Output::Closed(reason) => {
                    (self.get, self.post) = (Slot::Free(None), Slot::Free(None));
                    (self.dialling, self.candidate, self.polled) = (None, None, None);
                    self.ending = Some(Ending::Flushing { reason, by: now + FAREWELL });
                }
            }
        }
    }

    /// Moves bytes. Returns whether anything came of it.
    fn progress(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if self.polled.is_none()
            && let Some(outcome) = self.get.poll(cx)
        {
            moved = true;
            match outcome {
                Ok(answer) => {
                    self.keep_cookies(&answer.headers);
                    let kind = answer.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
                    let binary = kind.is_some_and(|kind| kind.starts_with(b"application/octet-stream"));
                    self.polled = Some((answer.body, PayloadCursor::new(self.machine.revision(), binary)));
                }
                Err(error) => self.carrier_failed(error, "xhr poll error"),
            }
        }
        if let Some(outcome) = self.post.poll(cx) {
            moved = true;
            match outcome {
                Ok(answer) => {
                    self.keep_cookies(&answer.headers);
                    self.machine.on_post_done();
                }
                Err(error) => self.carrier_failed(error, "xhr post error"),
            }
        }
        if let Some(dialling) = &mut self.dialling
            && let Poll::Ready(outcome) = dialling.as_mut().poll(cx)
        {
            moved = true;
            self.dialling = None;
            self.dialled(outcome);
        }
        moved | self.drive_candidate(cx) | self.drive_socket(cx)
    }

    fn dialled(&mut self, outcome: Result<(Socket, ::http::HeaderMap), ConnectError>) {
        let candidate = self.machine.transport() == Transport::Polling;
        match outcome {
            Ok((socket, headers)) => {
                self.keep_cookies(&headers);
                if candidate {
                    self.candidate = Some(socket);
                    self.machine.on_candidate_open();
                } else {
                    self.socket = Some(socket);
                }
            }
            Err(error) if candidate => {
                tracing::debug!(%error, "the upgrade to WebSocket failed; polling goes on");
                self.machine.on_candidate_gone();
            }
            Err(error) => self.carrier_failed(error, "websocket error"),
        }
    }

    fn drive_candidate(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(candidate) = &mut self.candidate else { return false };
        let revision = self.machine.revision();
        let machine = &mut self.machine;
        let mut gone = !matches!(candidate.poll_flush(cx), Poll::Pending | Poll::Ready(Ok(())));
        let read = with_scratch(|scratch| {
            candidate.poll_read(cx, scratch, |heard| match heard {
                Heard::Text(text) => {
                    machine.on_candidate_packet(Packet::decode_text(revision, text).ok().as_ref());
                }
                Heard::Binary(_) => machine.on_candidate_packet(None),
                Heard::Closed | Heard::Broken(_) => gone = true,
            })
        });
        gone |= matches!(read, Poll::Ready(Err(_)));
        if gone {
            self.candidate = None;
            self.machine.on_candidate_gone();
        }
        read.is_ready()
    }

    fn drive_socket(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        let unwritten = socket.unwritten();
        let flushed = socket.poll_flush(cx);
        let room_made = unwritten > ROOM && socket.unwritten() <= ROOM;
        let now = Instant::now().into_std();
        let (machine, events, error) = (&mut self.machine, &mut self.events, &mut self.error);
        let revision = machine.revision();
        let mut gone = None;
        let read = with_scratch(|scratch| {
            socket.poll_read(cx, scratch, |heard| {
                let packet = match heard {
                    Heard::Text(text) => Packet::decode_text(revision, text),
                    Heard::Binary(bytes) => Packet::decode_binary(revision, bytes),
                    Heard::Closed => return gone = Some(CloseReason::TransportClose),
                    Heard::Broken(broken) => {
                        *error = Some(io::Error::new(io::ErrorKind::InvalidData, broken).into());
                        return gone = Some(CloseReason::TransportError(broken.reason));
                    }
                };
                match packet {
                    Ok(packet) => events.extend(machine.on_packet(now, packet).map(message)),
                    Err(malformed) => machine.on_malformed(malformed.as_str()),
                }
            })
        });
        let was_read = read.is_ready();
        for result in [flushed, read] {
            if let Poll::Ready(Err(broken)) = result {
                // A connection that breaks without a goodbye is closed, as in Node.
                self.error.get_or_insert(broken.into());
                gone.get_or_insert(CloseReason::TransportClose);
            }
        }
        if let Some(reason) = gone {
            self.machine.on_carrier_gone(reason);
        }
        room_made || was_read
    }

    /// Hands the next packets of a poll to the machine, up to the first message.
    fn look_at_polled(&mut self) -> bool {
        let Some((body, cursor)) = &mut self.polled else { return false };
        let now = Instant::now().into_std();
        while let Some(packet) = cursor.next(body) {
            match packet {
                Ok(packet) => {
                    if let Some(data) = self.machine.on_packet(now, packet) {
                        self.events.push_back(message(data));
                        return true;
                    }
                }
                Err(malformed) => self.machine.on_malformed(malformed.as_str()),
            }
        }
        self.polled = None;
        self.machine.on_get_done(now);
        true
    }

    fn carrier_failed(&mut self, error: ConnectError, what: &'static str) {
        self.error.get_or_insert(error);
        self.machine.on_carrier_gone(CloseReason::TransportError(what));
    }

    /// After the end: writes the last frame, then tells.
    fn finish(&mut self, cx: &mut Context<'_>) -> Option<Poll<ClientEvent>> {
        let (reason, by) = match self.ending.as_ref()? {
            Ending::Done => return Some(Poll::Pending),
            Ending::Flushing { reason, by } => (*reason, *by),
        };
        if let Some(socket) = &mut self.socket {
            let flushed = socket.poll_flush(cx).is_ready() && socket.poll_shutdown(cx).is_ready();
            if !flushed && !self.is_past(cx, by) {
                return Some(Poll::Pending);
            }
        }
        self.socket = None;
        self.timer = None;
        self.ending = Some(Ending::Done);
        Some(Poll::Ready(ClientEvent::Closed(reason, self.error.take())))
    }

    /// Sets the alarm. Returns whether it has gone off, and tells the machine then.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let machine = self.machine.deadline().map(Instant::from_std);
        let stalled = self.socket.as_ref().and_then(|socket| socket.stalled);
        let stalled = stalled.map(|since| since + self.options.write_timeout);
        let Some(due) = machine.into_iter().chain(stalled).min() else { return false };
        if !self.is_past(cx, due) {
            return false;
        }
        let now = Instant::now();
        if stalled.is_some_and(|due| due <= now) {
            self.machine.on_carrier_gone(CloseReason::TransportError("write timeout"));
        }
        self.machine.on_time(now.into_std());
        true
    }

    fn is_past(&mut self, cx: &mut Context<'_>, due: Instant) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn dial(&mut self, sid: Option<&str>) {
        self.sid = sid.map(str::to_owned);
        let request = self.request(Method::GET, Transport::WebSocket, None);
        let options = Arc::clone(&self.websocket);
        self.dialling = Some(Box::pin(async move { Socket::dial(&options, request).await }));
    }

    fn request(&self, method: Method, transport: Transport, payload: Option<EncodedPayload>) -> Request<Full<Bytes>> {
        let options = if transport == Transport::Polling { &self.polling } else { &self.websocket };
        let binary = payload.as_ref().is_some_and(|payload| payload.binary);
        let body = payload.map(|payload| Bytes::from(payload.body));
        let posts = body.is_some();
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = method;
        // The parts of a target are encoded when they are given; what cannot be one is answered by the server's 404.
        *request.uri_mut() = options.target(transport, self.sid.as_deref()).parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.extend(options.headers.clone());
        if let Ok(host) = HeaderValue::from_str(&options.authority) {
            headers.entry(HOST).or_insert(host);
        }
        if transport == Transport::Polling {
            headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        }
        if posts {
            let kind = if binary { "application/octet-stream" } else { "text/plain;charset=UTF-8" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(cookies) = self.jar.header(headers.get(COOKIE)) {
            headers.insert(COOKIE, cookies);
        }
        request
    }

    fn keep_cookies(&mut self, headers: &::http::HeaderMap) {
        if self.options.with_credentials {
            self.jar.store(headers);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("transport", &self.transport()).finish_non_exhaustive()
    }
}

impl Slot {
    fn start(&mut self, options: &Arc<ClientOptions>, request: Request<Full<Bytes>>) {
        let kept = match self {
            Self::Free(kept) => kept.take(),
            Self::Busy(_) => None,
        };
        let options = Arc::clone(options);
        *self = Self::Busy(Box::pin(async move {
            match options.request_timeout {
                None => exchange(&options, kept, request).await,
                Some(timeout) => tokio::time::timeout(timeout, exchange(&options, kept, request))
                    .await
                    .unwrap_or((None, Err(ConnectError::RequestTimeout))),
            }
        }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Result<Answer, ConnectError>> {
        let Self::Busy(exchange) = self else { return None };
        let Poll::Ready((kept, outcome)) = exchange.as_mut().poll(cx) else { return None };
        *self = Self::Free(kept);
        Some(outcome)
    }
}

fn message(data: Data<'_>) -> ClientEvent {
    match data {
        Data::Text(text) => ClientEvent::Text(text.into_owned()),
        Data::Binary(bytes) => ClientEvent::Binary(bytes.into_owned().into()),
    }
}

/// With this much unwritten nothing more is taken from the session's queue.
const ROOM: usize = 128 << 10;
/// How long the last frame may take.
const FAREWELL: Duration = Duration::from_secs(5);
