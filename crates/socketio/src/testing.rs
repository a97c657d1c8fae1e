//! Tests of an application without a network: clients in memory, and time that passes when the test says so.
//!
//! ```
//! use std::time::Duration;
//!
//! use socketio::{Data, Namespace, Socket, testing};
//!
//! fn chat() -> Namespace {
//!     Namespace::new("/chat")
//!         .on_connect(async |socket: Socket| {
//!             socket.join("lobby");
//!         })
//!         .on("message", async |socket: Socket, Data(text): Data<String>| {
//!             socket.to("lobby").emit("message", (socket.id(), text));
//!         })
//! }
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // in a test: #[tokio::test(start_paused = true)]
//! async fn main() {
//!     let server = testing::serve(chat());
//!     let (ann, bob) = (server.connect("/chat").await, server.connect("/chat").await);
//!     ann.emit("message", "hi");
//!     let (from, text): (String, String) = bob.next("message").await.args();
//!     assert_eq!((from, text), (ann.id(), "hi".to_owned()));
//!
//!     bob.cut(); // the link breaks, and nobody says goodbye
//!     server.settle().await;
//!     assert_eq!(server.sockets("/chat"), 1);
//! }
//! ```
//!
//! The clients speak WebSocket over a pipe through the whole server: handshake, heartbeat and limits included. Under tokio's
//! paused clock a day takes no time, and everything that can happen has happened after [`TestServer::settle`].
//!
//! These are tools for tests: what goes wrong panics, and says what the client has got instead.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::ws::{self, Opcode, Role};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_core::{AckError, ConnectError, Event, OwnedArgs, decode_ack};
use socketio_proto::{AnyParser, Decoder, Encoded, Message, Packet, Revision, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::{Builder, Namespace, SocketIo};

/// How long a client waits for what should come, on the clock of the test.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the pipe holds in each direction, in bytes: a stalled client is felt soon.
const PIPE: usize = 64 << 10;

/// What a test can serve: a [`Namespace`], a [`Builder`] with options, or a [`SocketIo`] that exists.
pub trait IntoServer {
    /// The server.
    fn into_server(self) -> SocketIo;
}

impl IntoServer for SocketIo {
    fn into_server(self) -> SocketIo {
        self
    }
}

impl IntoServer for Builder {
    fn into_server(self) -> SocketIo {
        self.build().unwrap_or_else(|error| panic!("the server cannot be built: {error}"))
    }
}

impl IntoServer for Namespace {
    fn into_server(self) -> SocketIo {
        SocketIo::builder().namespace(self).into_server()
    }
}

/// Makes a server that clients reach in memory.
///
/// # Panics
/// When the server cannot be built.
pub fn serve(server: impl IntoServer) -> TestServer {
    TestServer { io: server.into_server() }
}

/// A server in a test.
#[derive(Debug, Clone)]
pub struct TestServer {
    io: SocketIo,
}

impl TestServer {
    /// The handle of the application.
    pub fn io(&self) -> &SocketIo {
        &self.io
    }

    /// Connects a client to a namespace, and lets the connect handlers do what they can do at once.
    ///
    /// # Panics
    /// When it is refused; [`client`](Self::client) has a way to see that.
    pub async fn connect(&self, namespace: &str) -> TestClient {
        match self.client().connect(namespace).await {
            Ok(client) => client,
            Err(refusal) => panic!("the client was refused at {namespace}: {refusal}"),
        }
    }

    /// A client that is yet to connect, to say how.
    pub fn client(&self) -> ClientBuilder {
        ClientBuilder {
            io: self.io.clone(),
            auth: None,
            query: String::new(),
            headers: vec![("host".to_owned(), "localhost".to_owned())],
        }
    }

    /// How many sockets a namespace has.
    pub fn sockets(&self, namespace: &str) -> usize {
        self.io.namespace(namespace).map_or(0, |namespace| namespace.len())
    }

    /// Lets everything happen that can happen without time passing. Needs a paused clock.
    pub async fn settle(&self) {
        settle().await;
    }

    /// Lets time pass: timers fire in their order, as if it were real time. Needs a paused clock to be quick.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.settle().await;
    }
}

/// How a client will connect. Made by [`TestServer::client`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct ClientBuilder {
    io: SocketIo,
    auth: Option<Value>,
    query: String,
    headers: Vec<(String, String)>,
}

impl ClientBuilder {
    /// The `auth` payload.
    ///
    /// # Panics
    /// When it cannot be serialized.
    pub fn auth(mut self, auth: impl Serialize) -> Self {
        self.auth = Some(socketio_proto::to_value(&auth).unwrap_or_else(|error| panic!("auth: {error}")));
        self
    }

    /// Adds `name=value` to the query of the request; both are put there as they are.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push_str(&format!("&{name}={value}"));
        self
    }

    /// Adds a header to the request, or changes it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects to a namespace, and lets the connect handlers do what they can do at once.
    ///
    /// # Errors
    /// What the server's middleware says. A request that is refused over HTTP is an error whose message begins with the
    /// status.
    ///
    /// # Panics
    /// When nothing comes for a minute.
    pub async fn connect(self, namespace: &str) -> Result<TestClient, ConnectError> {
        let link = self.open().await.map_err(ConnectError::new)?;
        let joined = join(link, namespace, self.auth.as_ref()).await;
        settle().await;
        joined
    }

    /// Opens a WebSocket and reads the open packet.
    async fn open(&self) -> Result<Arc<Link>, String> {
        let (mut near, far) = tokio::io::duplex(PIPE);
        let engine = self.io.engine().clone();
        tokio::spawn(async move { engine.serve_stream(far, None).await });
        let path = self.io.engine().path();
        let mut request = format!("GET {path}?EIO=4&transport=websocket{} HTTP/1.1\r\n", self.query);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let gone = |_| "the server closed the connection".to_owned();
        near.write_all(request.as_bytes()).await.map_err(gone)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.map_err(gone)?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") {
            let mut body = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, near.read_to_end(&mut body)).await;
            let status = head.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let env = &self.io.hub.env;
        let mut limits = env.proto_limits.clone();
        limits.max_packet_bytes = usize::MAX;
        limits.max_attachments = usize::MAX;
        Ok(Link::start(near, env.parser.clone(), env.parser.decoder(&limits)))
    }
}

/// A client of a namespace, in memory. Dropping the last one of a connection cuts the link.
pub struct TestClient {
    link: Arc<Link>,
    namespace: String,
}

/// An event that a client has got.
pub struct Received {
    link: Arc<Link>,
    namespace: String,
    id: Option<u64>,
    args: OwnedArgs,
}

/// A message of Engine.IO as the server sent it, heartbeats left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A packet of Socket.IO as text, such as `2["hi"]`.
    Text(String),
    /// An attachment, or a packet of a binary parser.
    Binary(Bytes),
}

impl TestClient {
    /// The socket's id.
    pub fn id(&self) -> String {
        self.link.state.lock().space(&self.namespace).id.clone().unwrap_or_default()
    }

    /// Joins another namespace on the same connection.
    ///
    /// # Errors
    /// What the server's middleware says.
    ///
    /// # Panics
    /// When nothing comes for a minute.
    pub async fn also(&self, namespace: &str, auth: impl Serialize) -> Result<TestClient, ConnectError> {
        let auth = socketio_proto::to_value(&auth).unwrap_or_else(|error| panic!("auth: {error}"));
        let auth = Some(&auth).filter(|auth| **auth != Value::Null);
        join(self.link.clone(), namespace, auth).await
    }

    /// Sends an event: a tuple is several arguments, anything else one.
    ///
    /// # Panics
    /// When it cannot be encoded.
    pub fn emit(&self, event: &str, args: impl Serialize) {
        self.link.send(self.link.parser.encode_event(&self.namespace, None, event, &args, None, 0));
    }

    /// Sends a typed event.
    ///
    /// # Panics
    /// When it cannot be encoded.
    pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) {
        self.emit(E::NAME, event.args());
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Errors
    /// [`AckError::Refused`] when the answer is the standard error, [`AckError::Decode`] when it does not fit `R`,
    /// [`AckError::Timeout`] after a minute, [`AckError::Disconnected`] when the client is.
    ///
    /// # Panics
    /// When the event cannot be encoded.
    pub async fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> Result<R, AckError> {
        let id = {
            let mut state = self.link.state.lock();
            state.next_id += 1;
            state.next_id
        };
        self.link.send(self.link.parser.encode_event(&self.namespace, Some(id), event, &args, None, 0));
        let answer = self.link.wait(|state| {
            let space = state.space(&self.namespace);
            match space.answers.remove(&id) {
                Some(answer) => Some(Ok(answer)),
                None if space.id.is_none() => Some(Err(AckError::Disconnected)),
                None => None,
            }
        });
        match answer.await {
            None => Err(AckError::Timeout),
            Some(answer) => decode_ack(&answer?.borrow()),
        }
    }

    /// Sends a typed event and waits for its answer.
    ///
    /// # Errors
    /// As [`emit_with_ack`](Self::emit_with_ack).
    ///
    /// # Panics
    /// When the event cannot be encoded.
    pub async fn call<E>(&self, event: &E) -> Result<E::Ack, AckError>
    where
        E: Event<Args: Serialize, Ack: DeserializeOwned>,
    {
        self.emit_with_ack(E::NAME, event.args()).await
    }

    /// The next event of this name that no call has taken yet; others stay for later.
    ///
    /// # Panics
    /// When none comes for a minute, or the client is disconnected before.
    pub async fn next(&self, event: &str) -> Received {
        let found = self.link.wait(|state| {
            let space = state.space(&self.namespace);
            if let Some(at) = space.events.iter().position(|(_, args)| args.name() == event) {
                return space.events.remove(at).map(Some);
            }
            space.id.is_none().then_some(None)
        });
        match found.await {
            Some(Some((id, args))) => Received { link: self.link.clone(), namespace: self.namespace.clone(), id, args },
            Some(None) => panic!("disconnected while waiting for `{event}`; {}", self.story()),
            None => panic!("no event `{event}`; {}", self.story()),
        }
    }

    /// The next typed event of this type.
    ///
    /// # Panics
    /// As [`next`](Self::next), and when the arguments do not fit.
    pub async fn next_event<E: Event<Args: DeserializeOwned>>(&self) -> E {
        E::from_args(self.next(E::NAME).await.args())
    }

    /// The names of the events that have come and that no call has taken.
    pub fn waiting(&self) -> Vec<String> {
        let mut state = self.link.state.lock();
        state.space(&self.namespace).events.iter().map(|(_, args)| args.name().to_owned()).collect()
    }

    /// Everything that the server has sent on this connection, in all namespaces, byte by byte.
    pub fn sent(&self) -> Vec<Sent> {
        self.link.state.lock().sent.clone()
    }

    /// Whether the client is in its namespace.
    pub fn connected(&self) -> bool {
        self.link.state.lock().space(&self.namespace).id.is_some()
    }

    /// Waits until the client is not in its namespace any more: the server, or [`disconnect`](Self::disconnect), took it out,
    /// or the connection has ended.
    ///
    /// # Panics
    /// When that does not happen within a minute.
    pub async fn disconnected(&self) {
        let gone = self.link.wait(|state| state.space(&self.namespace).id.is_none().then_some(()));
        assert!(gone.await.is_some(), "still connected; {}", self.story());
    }

    /// Leaves the namespace, as `socket.disconnect()` does in a browser.
    pub fn disconnect(&self) {
        self.link.send(self.link.parser.encode_disconnect(&self.namespace, 0));
        self.link.state.lock().space(&self.namespace).id = None;
        self.link.changed.notify_waiters();
    }

    /// Breaks the link: both directions at once, without a word.
    pub fn cut(&self) {
        self.link.cut();
    }

    /// Stops reading. What the server sends stays in its queue, and its heartbeat finds nobody.
    pub fn stall(&self) {
        let _ = self.link.stalled.send(true);
    }

    /// Reads on.
    pub fn resume(&self) {
        let _ = self.link.stalled.send(false);
    }

    /// Sends a packet of Socket.IO as it is, right or wrong: `2/chat,["message","hi"]`.
    pub fn send_packet(&self, packet: &str) {
        self.link.frame(Opcode::Text, format!("4{packet}").as_bytes());
    }

    /// Sends a binary message as it is, such as an attachment.
    pub fn send_binary(&self, data: &[u8]) {
        self.link.frame(Opcode::Binary, data);
    }

    fn story(&self) -> String {
        format!("not taken: {:?}; the server sent {:?}", self.waiting(), self.sent())
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("namespace", &self.namespace).field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Received {
    /// The name.
    pub fn name(&self) -> &str {
        self.args.name()
    }

    /// The arguments: all of them if `T` is a tuple, else the first.
    ///
    /// # Panics
    /// When they do not fit.
    #[track_caller]
    pub fn args<T: DeserializeOwned>(&self) -> T {
        match self.args.borrow().deserialize() {
            Ok(args) => args,
            Err(error) => panic!("the arguments of `{}` are {:?}: {error}", self.name(), self.args.values()),
        }
    }

    /// Whether the server waits for an answer.
    pub fn is_question(&self) -> bool {
        self.id.is_some()
    }

    /// Answers: a tuple is several arguments, `Err(e)` the standard error.
    ///
    /// # Panics
    /// When the server does not wait for an answer, or it cannot be encoded.
    #[track_caller]
    pub fn answer(&self, answer: impl Serialize) {
        let Some(id) = self.id else { panic!("nobody waits for an answer to `{}`", self.name()) };
        self.link.send(self.link.parser.encode_ack(&self.namespace, id, &answer, 0));
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("name", &self.name()).field("args", &self.args.values()).finish()
    }
}

/// One connection, shared by the clients of its namespaces.
struct Link {
    parser: AnyParser,
    state: Mutex<State>,
    changed: Notify,
    out: mpsc::UnboundedSender<Vec<u8>>,
    stalled: watch::Sender<bool>,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct State {
    spaces: BTreeMap<String, Space>,
    sent: Vec<Sent>,
    next_id: u64,
}

/// What has come in one namespace.
#[derive(Default)]
struct Space {
    id: Option<String>,
    refused: Option<ConnectError>,
    events: VecDeque<(Option<u64>, OwnedArgs)>,
    answers: BTreeMap<u64, OwnedArgs>,
}

impl State {
    fn space(&mut self, namespace: &str) -> &mut Space {
        if !self.spaces.contains_key(namespace) {
            self.spaces.insert(namespace.to_owned(), Space::default());
        }
        self.spaces.get_mut(namespace).expect("it was put there")
    }
}

/// The paused clock moves when nobody has anything to do, and not before.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn join(link: Arc<Link>, namespace: &str, auth: Option<&Value>) -> Result<TestClient, ConnectError> {
    link.send(link.parser.encode_connect(Revision::V5, namespace, auth, 0));
    let answer = link.wait(|state| {
        let space = state.space(namespace);
        match space.refused.take() {
            Some(refusal) => Some(Err(refusal)),
            None => space.id.is_some().then_some(Ok(())),
        }
    });
    match answer.await {
        Some(answer) => answer.map(|()| TestClient { link, namespace: namespace.to_owned() }),
        None => panic!("no answer to a CONNECT for {namespace}; the server sent {:?}", link.state.lock().sent),
    }
}

impl Link {
    fn start(stream: DuplexStream, parser: AnyParser, decoder: Decoder) -> Arc<Self> {
        let (read, write) = tokio::io::split(stream);
        let (out, to_write) = mpsc::unbounded_channel();
        let (stalled, is_stalled) = watch::channel(false);
        let link = Arc::new(Self {
            parser,
            state: Mutex::default(),
            changed: Notify::new(),
            out,
            stalled,
            tasks: Mutex::default(),
        });
        // Weak: the link ends with its last client.
        let reading = tokio::spawn(read_all(Arc::downgrade(&link), read, decoder, is_stalled));
        let writing = tokio::spawn(write_all(write, to_write));
        link.tasks.lock().extend([reading.abort_handle(), writing.abort_handle()]);
        link
    }

    fn cut(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.ended();
    }

    fn ended(&self) {
        for space in self.state.lock().spaces.values_mut() {
            space.id = None;
            space.refused = Some(ConnectError::new("the connection has ended"));
        }
        self.changed.notify_waiters();
    }

    fn frame(&self, opcode: Opcode, data: &[u8]) {
        let mut frame = Vec::new();
        ws::encode_message(opcode, false, data, Some([1, 2, 3, 4]), &mut frame);
        // After the end nobody takes it, as on a broken link.
        let _ = self.out.send(frame);
    }

    #[track_caller]
    fn send(&self, packet: Result<Encoded, socketio_proto::EncodeError>) {
        let packet = packet.unwrap_or_else(|error| panic!("cannot be encoded: {error}"));
        for chunk in &packet {
            match chunk.binary {
                false => self.frame(Opcode::Text, &[b"4", chunk.data()].concat()),
                true => self.frame(Opcode::Binary, chunk.data()),
            }
        }
    }

    /// Waits until `look` finds something; `None` after [`PATIENCE`].
    async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let looking = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&mut self.state.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.ok()
    }

    /// Takes a message of Engine.IO. `false` ends the connection.
    fn take(&self, decoder: &mut Decoder, message: ws::Event<'_>) -> bool {
        let message = match message {
            ws::Event::Text("2") => {
                self.frame(Opcode::Text, b"3");
                return true;
            }
            ws::Event::Text(text) => match text.strip_prefix('4') {
                Some(packet) => Message::Text(packet),
                // Open, noop; or the server says goodbye.
                None => return !text.starts_with('1'),
            },
            ws::Event::Binary(data) => Message::Binary(data),
            ws::Event::Close(_) => return false,
            ws::Event::Ping(_) | ws::Event::Pong(_) => return true,
        };
        let mut state = self.state.lock();
        state.sent.push(match message {
            Message::Text(text) => Sent::Text(text.to_owned()),
            Message::Binary(data) => Sent::Binary(Bytes::copy_from_slice(data)),
        });
        match decoder.decode(message) {
            Ok(None) => {}
            Ok(Some(packet)) => {
                let namespace = packet.namespace().to_owned();
                let space = state.space(&namespace);
                match packet {
                    Packet::Connect { data, .. } => {
                        let id = data.and_then(|data| data.value().ok());
                        let id = id.as_ref().and_then(|data| data.get("sid")).and_then(Value::as_str);
                        space.id = Some(id.unwrap_or_default().to_owned());
                    }
                    Packet::ConnectError { data, .. } => {
                        let data = data.and_then(|data| data.value().ok()).unwrap_or(Value::Null);
                        space.refused = Some(ConnectError::from_payload(data));
                    }
                    Packet::Disconnect { .. } => space.id = None,
                    Packet::Event { id, args, .. } => space.events.push_back((id, args.to_owned())),
                    Packet::Ack { id, args, .. } => {
                        if let Some(id) = id {
                            space.answers.insert(id, args.to_owned());
                        }
                    }
                }
            }
            Err(violation) => {
                drop(state);
                panic!("the server sent what is no packet: {violation}");
            }
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

async fn read_all(
    link: std::sync::Weak<Link>,
    mut stream: ReadHalf<DuplexStream>,
    mut decoder: Decoder,
    mut stalled: watch::Receiver<bool>,
) {
    let mut frames = ws::Decoder::new(Role::Client, usize::MAX, usize::MAX);
    let mut buffer = vec![0; 16 << 10];
    loop {
        // The sender lives in the link; when that is gone, so is this task.
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read.unwrap_or(0),
            _ = stalled.changed() => continue,
        };
        let Some(link) = link.upgrade() else { return };
        if read == 0 {
            return link.ended();
        }
        let (input, mut at) = (&mut buffer[..read], 0);
        loop {
            match frames.decode(input, &mut at) {
                Ok(Some(event)) => {
                    if !link.take(&mut decoder, event) {
                        return link.cut();
                    }
                }
                Ok(None) => break,
                Err(error) => panic!("the server sent what is no WebSocket frame: {error}"),
            }
        }
    }
}

async fn write_all(mut stream: WriteHalf<DuplexStream>, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}
