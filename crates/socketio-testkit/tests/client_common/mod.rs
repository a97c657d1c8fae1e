//! A server for the tests of our client, and a wire that can be cut.

#![allow(dead_code, unreachable_pub)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use socketio::{
    Ack, Auth, CloseReason, ConnectError, Data, HandlerError, Namespace, OwnedArgs, RecoveryOptions, Socket, SocketIo,
    Spread, State, Value,
};
use socketio_client::{Client, ClientBuilder, Transport};
use socketio_testkit::{Running, serve, within};
use tokio::{net::TcpStream, sync::watch, task::AbortHandle};

pub const BOUND: Duration = Duration::from_secs(30);

/// The ways a client can get there.
pub const WAYS: [(&str, &[Transport], bool); 3] = [
    ("polling", &[Transport::Polling], false),
    ("websocket", &[Transport::WebSocket], false),
    ("upgrade", &[Transport::Polling, Transport::WebSocket], true),
];

#[derive(serde::Deserialize)]
struct Token {
    token: String,
}

/// Events that the tests use; `/admin` wants a token, the others nothing.
pub fn builder() -> socketio::Builder {
    let builder = SocketIo::builder()
        .namespace(events(Namespace::new("/")))
        .namespace(events(Namespace::new("/chat")))
        .namespace(events(Namespace::pattern("/room-{n}")))
        .namespace(events(Namespace::new("/admin")).use_(async |Auth(auth): Auth<Token>| match auth.token.as_str() {
            "secret" => Ok(()),
            _ => Err(ConnectError::new("not authorized").data(json!({"code": 4001}))),
        }));
    builder.allow_eio3(true).namespace(later())
}

/// The answers to `later` come in the reverse of the order of the 64 questions.
fn later() -> Namespace {
    Namespace::new("/later").state(Arc::new(watch::Sender::new(64_i64))).concurrent_event("later", 64).on(
        "later",
        async |Data(n): Data<i64>, State(turn): State<Arc<watch::Sender<i64>>>| {
            let _ = turn.subscribe().wait_for(|turn| *turn == n + 1).await;
            turn.send_replace(if n == 0 { 64 } else { n });
            n * 2
        },
    )
}

fn events(namespace: Namespace) -> Namespace {
    namespace
        .on_connect(async |socket: Socket| {
            socket.emit("first", "hello");
        })
        .on("echo", async |socket: Socket, args: OwnedArgs| {
            let values = args.values().unwrap();
            socket.emit("echo", Spread(&values));
        })
        .on("give back", async |args: OwnedArgs, ack: Ack| ack.send(Spread(&args.values().unwrap())))
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on("fail", async || -> Result<(), HandlerError> { Err(HandlerError::new("no", "not today")) })
        .on("silence", async |ack: Ack| std::mem::forget(ack))
        .on("ask me", async |socket: Socket, Data(question): Data<Value>| {
            let answer: Result<Value, _> =
                socket.timeout(Duration::from_secs(10)).emit_with_ack("question", question).await;
            answer.map_err(|error| error.to_string())
        })
        .on("emit", async |socket: Socket, args: OwnedArgs| {
            let mut values = args.values().unwrap();
            let name = values.remove(0).as_str().unwrap().to_owned();
            socket.emit(&name, Spread(&values));
        })
        .on("put me out", async |socket: Socket| socket.disconnect(false))
        .on("hang up", async |socket: Socket| socket.conn().close(CloseReason::ForcedClose))
}

pub async fn server() -> Running {
    serve(builder()).await.expect("there is a free port")
}

pub async fn recovering_server() -> Running {
    let builder = builder().connection_state_recovery(RecoveryOptions::default());
    serve(builder).await.expect("there is a free port")
}

pub fn client(server: &Running, namespace: &str) -> ClientBuilder {
    Client::builder(&format!("http://{}{namespace}", server.addr))
        .reconnection_delay(Duration::from_millis(10))
        .reconnection_delay_max(Duration::from_millis(50))
}

pub fn over(builder: ClientBuilder, way: (&str, &[Transport], bool)) -> ClientBuilder {
    builder.transports(way.1.iter().copied()).upgrade(way.2)
}

/// Runs a test over every transport, each with a bound.
pub async fn each_way(test: impl AsyncFn((&'static str, &'static [Transport], bool))) {
    for way in WAYS {
        println!("over {}", way.0);
        within(BOUND, test(way)).await;
    }
}

/// Connections that can be cut, as when a cable is pulled.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Vec<AbortHandle>>>);

impl Wire {
    pub fn through(&self, builder: ClientBuilder) -> ClientBuilder {
        let wire = self.clone();
        builder.connector(move |host, port| {
            let wire = wire.clone();
            async move {
                let mut tcp = TcpStream::connect((host.as_str(), port)).await?;
                let (ours, mut theirs) = tokio::io::duplex(64 << 10);
                let running =
                    tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut theirs, &mut tcp).await) });
                wire.0.lock().unwrap().push(running.abort_handle());
                Ok(ours)
            }
        })
    }

    pub fn cut(&self) {
        for running in self.0.lock().unwrap().drain(..) {
            running.abort();
        }
    }
}

pub fn bytes(data: &'static [u8]) -> Bytes {
    Bytes::from_static(data)
}
