//! How often the server asks for memory, exactly: an allocation costs more than what surrounds it in a hot path.
//!
//! The server has one thread, whose allocations are counted; the clients are bytes on another. What one operation costs is
//! the difference between many and twice as many, after some to warm up. Operations go one at a time, so that the
//! network cannot put them together differently from run to run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socketio::{Data, Namespace, Socket, SocketIo};

const TIMES: u64 = 64;

fn namespace() -> Namespace {
    Namespace::new("/")
        .on("nothing", async || {})
        .on("number", async |Data(_): Data<u64>| {})
        .on("typed", async |Data((_, _)): Data<(u8, [f64; 2])>| {})
        .on("text", async |Data(_): Data<String>| {})
        .on("add", async |Data((a, b)): Data<(u64, u64)>| a + b)
        .on("emit", async |socket: Socket| {
            socket.emit("tick", 1);
        })
        .on("repeat", async |socket: Socket, Data(len): Data<usize>| {
            socket.emit("tick", "x".repeat(len));
        })
        .on("join", async |socket: Socket| {
            socket.join("room");
        })
        .on("cast", async |socket: Socket| {
            socket.namespace().to("room").emit("tick", 1);
        })
}

/// A client that knows its answers by their length.
struct Client(TcpStream);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("it is a socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it is a socket");
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: \
             Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it is open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it answers");
            head.push(byte[0]);
        }
        let mut client = Self(stream);
        client.frame();
        client.send("40");
        client.frame();
        client
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(&masked(text)).expect("it is open");
    }

    /// Takes one frame. Allocates, which is nobody's business here.
    fn frame(&mut self) -> Vec<u8> {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).expect("a frame comes");
        let mut len = u64::from(header[1]);
        if len == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).expect("a frame comes");
            len = u64::from(u16::from_be_bytes(long));
        }
        let mut data = vec![0; len as usize];
        self.0.read_exact(&mut data).expect("a frame comes");
        data
    }
}

fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0, 0, 0, 0]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// What the server allocates for one `operation`, which is given the clients, all in the room.
fn cost(count: usize, operation: impl Fn(&mut [Client]) + Send + 'static) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is memory");
    let io = SocketIo::builder()
        .namespace(namespace())
        .ping_interval(Duration::from_secs(600))
        .build()
        .expect("the options are sound");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("there is a port");
    let addr = listener.local_addr().expect("it is bound");
    runtime.spawn(async move { io.serve(listener).await });
    let (go, orders) = std::sync::mpsc::channel::<(u64, tokio::sync::oneshot::Sender<()>)>();
    let clients = std::thread::spawn(move || {
        let mut clients = None;
        for (times, done) in orders {
            let clients = clients.get_or_insert_with(|| {
                let mut clients: Vec<_> = (0..count).map(|_| Client::connect(addr)).collect();
                for client in &mut clients {
                    client.send("421[\"join\"]");
                    client.frame();
                }
                clients
            });
            (0..times).for_each(|_| operation(clients));
            let _ = done.send(());
        }
    });
    let run = |times| {
        let (done, finished) = tokio::sync::oneshot::channel();
        go.send((times, done)).expect("the clients live");
        let counted = allocation_counter::measure(|| {
            runtime.block_on(finished).expect("the clients did not fail");
        });
        counted.count_total
    };
    run(TIMES);
    let (once, twice) = (run(TIMES), run(2 * TIMES));
    drop(go);
    clients.join().expect("the clients did not fail");
    (twice as f64 - once as f64) / TIMES as f64
}

/// What an event costs that is not answered: sent together with another whose answer tells that both were handled.
fn event(args: &str) -> f64 {
    let frames = |args: &str| [masked(&format!("42[{args}]")), masked("421[\"nothing\"]")].concat();
    let (with, without) = (frames(args), masked("421[\"nothing\"]"));
    let ask = |bytes: Vec<u8>| {
        cost(1, move |clients| {
            clients[0].0.write_all(&bytes).expect("it is open");
            assert_eq!(clients[0].frame(), b"431[]");
        })
    };
    ask(with) - ask(without)
}

/// What an event costs that is answered with `answers`.
fn answered(args: &str, answers: &[&str]) -> f64 {
    let bytes = masked(&format!("421[{args}]"));
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.as_bytes().to_vec()).collect();
    cost(1, move |clients| {
        clients[0].0.write_all(&bytes).expect("it is open");
        for answer in &answers {
            assert!(clients[0].frame() == *answer);
        }
    })
}

fn broadcast(recipients: usize) -> f64 {
    let bytes = masked("421[\"cast\"]");
    cost(recipients, move |clients| {
        clients[0].0.write_all(&bytes).expect("it is open");
        let answer = clients[0].frame();
        assert_eq!(answer, b"42[\"tick\",1]");
        clients.iter_mut().skip(1).for_each(|client| assert_eq!(client.frame(), b"42[\"tick\",1]"));
        assert_eq!(clients[0].frame(), b"431[]");
    })
}

#[test]
fn an_event_costs_what_its_handler_takes_and_nothing_else() {
    check("\"nothing\"", 0.0);
    check("\"nothing\",\"which nobody wants\",[1,{\"a\":\"\\n\"}]", 0.0);
    check("\"nobody listens\"", 0.0);
    check("\"number\",12", 0.0);
    check("\"typed\",12,[1,2.5]", 0.0);
    // The string.
    check("\"text\",\"hello\"", 1.0);
    check("\"text\",\"a \\\"longer\\\" one\"", 1.0);

    #[track_caller]
    fn check(args: &str, want: f64) {
        assert_eq!(event(args), want, "{args}");
    }
}

#[test]
fn a_packet_costs_one_block() {
    let answer = answered("\"nothing\"", &["431[]"]);
    assert_eq!(answer, 1.0);
    assert_eq!(answered("\"add\",1,2", &["431[3]"]), 1.0);
    assert_eq!(answered("\"emit\"", &["42[\"tick\",1]", "431[]"]) - answer, 1.0);
    for len in [100, 1_000, 4_000] {
        assert_eq!(repeat(len) - answer, 1.0, "{len}");
    }
    // Room for punctuation that did not come makes a second one: the count of owners.
    for len in [5_000, 50_000] {
        assert_eq!(repeat(len) - answer, 2.0, "{len}");
    }

    fn repeat(len: usize) -> f64 {
        let tick = format!("42[\"tick\",\"{}\"]", "x".repeat(len));
        // The handler makes a string of its own.
        answered(&format!("\"repeat\",{len}"), &[&tick, "431[]"]) - 1.0
    }
}

#[test]
fn a_recipient_of_a_broadcast_costs_nothing() {
    // The list of those whose sockets are written grows by doubling.
    assert_eq!(broadcast(36), broadcast(60));
    let two = broadcast(2);
    assert!(two <= 6.0, "{two}, of which one is the answer");
}
