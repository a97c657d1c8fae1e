//! The server under the features, and clients of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use socketio::{AnyParser, Spread, Value};
use socketio_client::{AckError, Bytes, Client, ClientBuilder, SimpleClient, Socket, Transport};
use socketio_testkit::Child;
use tokio::net::TcpStream;

/// What the servers get as `--max-payload`.
pub(crate) const LIMIT: usize = 100_000;

/// Whose server it is: where they differ, the features say what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// npm socket.io 2.5, which speaks revision 3 of Engine.IO.
    Sio2,
    /// npm socket.io 3.1.
    Sio3,
    /// npm socket.io 4.8.
    Sio4,
    Python,
    Socketioxide,
    Ours,
}

/// How to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Polling,
    WebSocket,
    Upgrade,
    /// WebSocket, and polling where there is none.
    WebSocketFirst,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) peer: Peer,
    pub(crate) way: Way,
    pub(crate) eio3: bool,
    pub(crate) msgpack: bool,
    pub(crate) only: Option<String>,
    program: String,
    args: Vec<String>,
}

impl Plan {
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn std::error::Error>> {
        let (mut peer, mut way, mut eio3, mut msgpack, mut only) = (None, None, false, false, None);
        loop {
            let option = args.next().ok_or("`--` and the command of a server are missing")?;
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--peer" => {
                    peer = Some(match value()?.as_str() {
                        "sio2" => Peer::Sio2,
                        "sio3" => Peer::Sio3,
                        "sio4" => Peer::Sio4,
                        "python" => Peer::Python,
                        "socketioxide" => Peer::Socketioxide,
                        "ours" => Peer::Ours,
                        other => return Err(format!("there is no server `{other}`").into()),
                    });
                }
                "--transport" => {
                    way = Some(match value()?.as_str() {
                        "polling" => Way::Polling,
                        "websocket" => Way::WebSocket,
                        "upgrade" => Way::Upgrade,
                        "first" => Way::WebSocketFirst,
                        other => return Err(format!("there is no transport `{other}`").into()),
                    });
                }
                "--eio3" => eio3 = true,
                "--parser" => msgpack = value()? == "msgpack",
                "--only" => only = Some(value()?),
                "--" => break,
                other => return Err(format!("there is no option `{other}`").into()),
            }
        }
        Ok(Self {
            peer: peer.ok_or("--peer is missing")?,
            way: way.ok_or("--transport is missing")?,
            eio3,
            msgpack,
            only,
            program: args.next().ok_or("the command of a server is missing")?,
            args: args.collect(),
        })
    }
}

/// A server in a process of its own. It is killed when this is dropped.
pub(crate) struct Server {
    _child: Mutex<Child>,
    pub(crate) port: u16,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    server: Server,
}

impl World {
    pub(crate) async fn start(plan: Plan) -> std::io::Result<Self> {
        let server = serve(&plan, &[]).await?;
        Ok(Self { plan, server })
    }

    pub(crate) fn peer(&self) -> Peer {
        self.plan.peer
    }

    /// Whether the server says what it takes at most; the older ones do not.
    pub(crate) fn tells_limit(&self) -> bool {
        !matches!(self.peer(), Peer::Sio2 | Peer::Sio3)
    }

    /// The transport on which a connection ends up.
    pub(crate) fn end(&self) -> &'static str {
        if self.plan.way == Way::Polling { "polling" } else { "websocket" }
    }

    /// One more server.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn another(&self, options: &[&str]) -> Server {
        serve(&self.plan, options).await.expect("the server starts")
    }

    /// A client of the server that all features share.
    pub(crate) fn builder(&self, namespace: &str) -> ClientBuilder {
        self.of(&self.server, namespace)
    }

    pub(crate) fn of(&self, server: &Server, namespace: &str) -> ClientBuilder {
        self.prepare(Client::builder(&format!("http://127.0.0.1:{}{namespace}", server.port)))
    }

    /// A client of whichever server listens on that port when it dials.
    pub(crate) fn following(&self, port: &Arc<AtomicU16>, namespace: &str) -> ClientBuilder {
        let port = Arc::clone(port);
        let builder = self.prepare(Client::builder(&format!("http://127.0.0.1{namespace}")));
        builder.connector(move |host, _| {
            let port = port.load(Ordering::SeqCst);
            async move { TcpStream::connect((host.as_str(), port)).await }
        })
    }

    fn prepare(&self, builder: ClientBuilder) -> ClientBuilder {
        use Transport::{Polling, WebSocket};
        let parser = if self.plan.msgpack { AnyParser::msgpack() } else { AnyParser::json() };
        let builder = builder
            .reconnection_delay(Duration::from_millis(20))
            .reconnection_delay_max(Duration::from_millis(50))
            .eio3(self.plan.eio3)
            .parser(parser);
        match self.plan.way {
            Way::Polling => builder.transports([Polling]),
            Way::WebSocket => builder.transports([WebSocket]),
            Way::Upgrade => builder.transports([Polling, WebSocket]),
            Way::WebSocketFirst => builder.transports([WebSocket, Polling]).try_all_transports(true),
        }
    }

    /// A connected client.
    pub(crate) async fn connect(&self, namespace: &str) -> SimpleClient {
        connect(self.builder(namespace)).await
    }
}

pub(crate) async fn connect(builder: ClientBuilder) -> SimpleClient {
    match SimpleClient::from_builder(builder).await {
        Ok(client) => client,
        Err(failure) => panic!("no connection: {failure}"),
    }
}

async fn serve(plan: &Plan, options: &[&str]) -> std::io::Result<Server> {
    let mut args = plan.args.clone();
    args.extend(["--max-payload".to_owned(), LIMIT.to_string(), "--exit-with-stdin".to_owned()]);
    if plan.msgpack {
        args.extend(["--parser".to_owned(), "msgpack".to_owned()]);
    }
    args.extend(options.iter().map(|option| (*option).to_owned()));
    let program = plan.program.clone();
    let starting = tokio::task::spawn_blocking(move || {
        let mut child = Child::start(&program, args)?;
        loop {
            let line = child.line(Duration::from_secs(30))?;
            if let Some(port) = line.strip_prefix("listening on ").and_then(|port| port.trim().parse().ok()) {
                return Ok(Server { _child: Mutex::new(child), port });
            }
        }
    });
    starting.await.map_err(std::io::Error::other)?
}

/// The arguments of an answer, as many as the features use.
type Answer = (One, One, One, One, One, One, One, One, One, One, One);
type One = Option<Value>;

/// What the server acknowledges, all of it; what is null at the end counts as absent.
pub(crate) async fn ask(socket: &Socket, event: &str, args: impl Serialize) -> Result<Vec<Value>, AckError> {
    let (a, b, c, d, e, f, g, h, i, j, k): Answer =
        socket.timeout(Duration::from_secs(30)).emit_with_ack(event, args).await?;
    let mut answer: Vec<_> = [a, b, c, d, e, f, g, h, i, j, k].map(Option::unwrap_or_default).into();
    while answer.pop_if(|last| last.is_null()).is_some() {}
    Ok(answer)
}

/// The same from a client that is connected.
pub(crate) async fn call(client: &SimpleClient, event: &str, args: impl Serialize) -> Vec<Value> {
    match ask(client.socket(), event, args).await {
        Ok(answer) => answer,
        Err(error) => panic!("no answer to {event}: {error}"),
    }
}

/// The arguments of the next event of this name; others are passed over.
pub(crate) async fn next(client: &mut SimpleClient, name: &str) -> Vec<Value> {
    loop {
        let event = client.receive().await.expect("the client is open");
        if event.name() == name {
            return event.args().values().expect("arguments");
        }
    }
}

/// The arguments of all events of this name up to the next one of the other.
pub(crate) async fn up_to(client: &mut SimpleClient, name: &str, end: &str) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let event = client.receive().await.expect("the client is open");
        if event.name() == end {
            return all;
        }
        if event.name() == name {
            all.push(event.args().values().expect("arguments"));
        }
    }
}

/// A list of arguments.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$(socketio::Value::from($value)),*] };
}
pub(crate) use args;

pub(crate) fn spread(args: &[Value]) -> Spread<'_> {
    Spread(args)
}

pub(crate) fn binary(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Binary(Bytes::from(bytes.into()))
}

pub(crate) fn every_byte() -> Vec<u8> {
    (0..=255).collect()
}

/// Byte i is (7i + 3) mod 256.
pub(crate) fn gift(n: usize) -> Vec<u8> {
    (0..n).map(|i| ((7 * i + 3) % 256) as u8).collect()
}

/// Letter i is `a` + (7i + 3) mod 26.
pub(crate) fn text_gift(n: usize) -> String {
    (0..n).map(|i| char::from(b'a' + ((7 * i + 3) % 26) as u8)).collect()
}

/// FNV-1a, 32 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
