//! Our client without async.

mod client_common;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use client_common::{WAYS, server};
use serde_json::json;
use socketio_client::{
    AckError, ConnectFailure, ReceivedEvent,
    blocking::{Client, ClientBuilder, InsideRuntime, ReceiveError, SimpleClient, Socket},
};
use socketio_testkit::Running;
use tokio::runtime::Runtime;

const BOUND: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(20);

/// A server with a runtime of its own: this thread has none.
struct World {
    server: Running,
    _runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        Self { server: runtime.block_on(server()), _runtime: runtime }
    }

    fn client(&self, namespace: &str) -> ClientBuilder {
        Client::builder(&format!("http://{}{namespace}", self.server.addr)).options(|builder| {
            builder.reconnection_delay(Duration::from_millis(10)).reconnection_delay_max(Duration::from_millis(50))
        })
    }

    /// Waits until nobody is connected.
    fn is_left(&self) {
        for _ in 0..6_000 {
            if self.server.sessions() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} sessions are left", self.server.sessions());
    }
}

#[test]
fn a_script_connects_asks_and_receives_over_every_transport() {
    let world = World::new();
    for (name, transports, upgrade) in WAYS {
        println!("over {name}");
        let builder =
            world.client("/chat").options(|builder| builder.transports(transports.iter().copied()).upgrade(upgrade));
        let mut client = SimpleClient::from_builder(builder).unwrap();
        assert_eq!(client.receive().unwrap().data::<String>().unwrap(), "hello");
        assert_eq!(client.call::<i64>("add", (2, 3)), Ok(5));
        client.emit("echo", (1, "two")).unwrap();
        let echo = client.receive_within(BOUND).unwrap();
        assert_eq!((echo.name(), echo.data::<(i32, String)>().unwrap().1.as_str()), ("echo", "two"));
        assert_eq!(client.receive_within(MOMENT).unwrap_err(), ReceiveError::Timeout);
        let socket = client.socket();
        assert!(socket.connected() && socket.id().is_some());
        client.close();
        world.is_left();
        drop(socket);
    }
}

#[test]
fn handlers_block_and_answer_and_ask_and_close() {
    let world = World::new();
    let (sender, told) = mpsc::channel();
    let (joins, leaves) = (sender.clone(), sender.clone());
    let other = Arc::new(OnceLock::<Socket>::new());
    let asked = Arc::clone(&other);
    let socket = world
        .client("/")
        .on("question", move |_, n: i64| {
            // A blocking call in a handler. The server handles the events of one socket in order, so it is asked on another.
            let sum: i64 = asked.get().unwrap().emit_with_ack("add", (n, 1)).unwrap();
            sum * 2
        })
        .on("panic", |_, ()| -> () { panic!("a handler of the test panics") })
        .on("bye", move |socket: &Socket, ()| {
            socket.disconnect();
            sender.send("bye".to_owned()).unwrap();
        })
        .on_connect(move |socket| joins.send(format!("connect {}", socket.connected())).unwrap())
        .on_disconnect(move |_, reason| leaves.send(reason.to_string()).unwrap())
        .connect()
        .unwrap();
    assert_eq!(told.recv_timeout(BOUND).unwrap(), "connect true");
    other.set(socket.namespace("/chat").connect().unwrap()).unwrap();
    assert_eq!(socket.emit_with_ack::<i64>("ask me", 20), Ok(42));
    socket.emit("emit", "panic");
    assert_eq!(socket.emit_with_ack::<i64>("ask me", 20), Ok(42), "the client lives on");
    socket.emit("emit", "bye");
    let ends = [told.recv_timeout(BOUND).unwrap(), told.recv_timeout(BOUND).unwrap()];
    assert_eq!(ends, ["bye", "io client disconnect"]);
    socket.closed().unwrap();
    socket.connect();
    socket.joined().unwrap();
    assert_eq!(told.recv_timeout(BOUND).unwrap(), "connect true");
    assert_eq!(world.server.sessions(), 1, "one connection for all of it");
    // The handler holds one, too.
    other.get().unwrap().clone().close();
    socket.close();
    world.is_left();
}

#[test]
fn failures_have_their_types() {
    let world = World::new();
    let refused = world.client("/admin").auth(json!({"token": "wrong"})).connect();
    assert!(matches!(refused, Err(ConnectFailure::Refused(_))), "{refused:?}");
    // A function that may block is asked at every attempt.
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let auth = move || match counter.fetch_add(1, Ordering::SeqCst) {
        0 => Err("not yet"),
        1 => Ok(json!({"token": "wrong"})),
        _ => Ok(json!({"token": "secret"})),
    };
    let socket = world.client("/admin").auth_with(auth).connect_lazy().unwrap();
    assert!(matches!(socket.joined(), Err(ConnectFailure::Refused(_))));
    socket.connect();
    socket.joined().unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let late = socket.emit_with_ack_within::<()>(MOMENT, "silence", ());
    assert_eq!(late, Err(AckError::Timeout));
    let mut events = socket.events();
    socket.close();
    let rest: Vec<ReceivedEvent> = events.by_ref().collect();
    assert!(rest.len() <= 1, "{rest:?}");
    assert_eq!(events.receive().unwrap_err(), ReceiveError::Closed);
    let nobody = SimpleClient::connect("http://127.0.0.1:1");
    assert!(matches!(nobody, Err(ConnectFailure::Transport(_))), "{nobody:?}");
    assert!(matches!(SimpleClient::connect("nonsense"), Err(ConnectFailure::Option(_))));
}

#[test]
fn inside_of_a_runtime_it_says_so_instead_of_blocking() {
    let world = World::new();
    let mut client = SimpleClient::from_builder(world.client("/later")).unwrap();
    let (builder, lazy) = (world.client("/"), world.client("/"));
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        assert!(matches!(builder.connect(), Err(ConnectFailure::InsideRuntime)));
        assert!(matches!(client.call::<()>("later", 1), Err(AckError::NotSent(_))));
        assert_eq!(client.receive().unwrap_err(), ReceiveError::InsideRuntime(InsideRuntime));
        // What does not block works.
        let socket = lazy.connect_lazy().unwrap();
        assert!(matches!(socket.joined(), Err(ConnectFailure::InsideRuntime)));
        assert_eq!(socket.closed(), Err(InsideRuntime));
        socket.as_async().joined().await.unwrap();
        assert!(socket.emit("echo", 1).is_ok());
        socket.close();
    });
    client.close();
    world.is_left();
}
