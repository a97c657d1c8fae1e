//! The whole server in this process, with clients that are nothing but bytes on the loopback.
//!
//! Counted is everything outside of the kernel: the server from its read to its write, and the little that the clients and
//! the runtime do. Events come 64 in one read, so that their share of that is small.

use std::net::SocketAddr;
use std::time::Duration;

use engineio_proto::ws::{Opcode, encode_message};
use socketio::{Data, Namespace, Socket, SocketIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Case;
use crate::codec::{Order, order, text};

pub(crate) const CASES: &[Case] = &[
    Case::new("event-nothing", 100, |n| events("2[\"nothing\"]", "", n)).of(EVENTS),
    Case::new("event-echo-16", 100, |n| events(&ask(&text(16)), &answer(&text(16)), n)).of(EVENTS),
    Case::new("event-echo-1k", 50, |n| events(&ask(&text(1 << 10)), &answer(&text(1 << 10)), n)).of(EVENTS),
    Case::new("event-echo-64k", 5, |n| events(&ask(&text(64 << 10)), &answer(&text(64 << 10)), n)).of(EVENTS),
    Case::new("event-object", 50, |n| events(&object("21[\"object\","), &object("31["), n)).of(EVENTS),
    Case::new("emit-from-handler", 100, |n| events("2[\"emit\"]", "2[\"tick\",1]", n)).of(EVENTS),
    Case::new("broadcast-recipient", 10, broadcast).of(RECIPIENTS),
    Case::new("session-open", 50, open),
];

const EVENTS: u64 = 64;
const RECIPIENTS: u64 = 1_000;

fn ask(text: &str) -> String {
    format!("21[\"echo\",\"{text}\"]")
}

fn answer(text: &str) -> String {
    format!("31[\"{text}\"]")
}

fn object(before: &str) -> String {
    format!("{before}{}]", serde_json::to_string(&order()).expect("it can be encoded"))
}

fn run(test: impl AsyncFnOnce(SocketIo, SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is memory");
    runtime.block_on(async {
        let namespace = Namespace::new("/")
            .on("nothing", async || {})
            .on("echo", async |Data(text): Data<String>| text)
            .on("object", async |Data(order): Data<Order>| order)
            .on("emit", async |socket: Socket| {
                socket.emit("tick", 1);
            });
        let io = SocketIo::builder()
            .namespace(namespace)
            .ping_interval(Duration::from_secs(3_600))
            .build()
            .expect("the options are sound");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let addr = listener.local_addr().expect("it is bound");
        let serving = io.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        test(io, addr).await;
    });
}

fn masked(packet: &str, out: &mut Vec<u8>) {
    encode_message(Opcode::Text, false, format!("4{packet}").as_bytes(), Some([7, 1, 3, 9]), out);
}

/// Opens a session and joins the main namespace.
async fn connect(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.set_nodelay(true).expect("it is a socket");
    let mut request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: \
         Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    stream.write_all(&request).await.expect("it is open");
    request.clear();
    masked("0", &mut request);
    stream.write_all(&request).await.expect("it is open");
    // The response, the open packet, and the answer to CONNECT, which ends like nothing before it.
    let mut received = Vec::with_capacity(1 << 10);
    while !received.ends_with(b"\"}") || !received.windows(3).any(|three| three == b"40{") {
        assert_ne!(stream.read_buf(&mut received).await.expect("it is open"), 0);
    }
    stream
}

/// As many events as `EVENTS` in one write, and all their answers.
fn events(event: &str, answer: &str, n: u64) {
    run(async |_, addr| {
        let mut stream = connect(addr).await;
        let (mut wire, mut answers) = (Vec::new(), Vec::new());
        (0..EVENTS).for_each(|_| masked(event, &mut wire));
        if answer.is_empty() {
            // The last one tells that all were handled.
            masked("21[\"nothing\"]", &mut wire);
            encode_message(Opcode::Text, false, b"431[]", None, &mut answers);
        }
        for _ in 0..if answer.is_empty() { 0 } else { EVENTS } {
            encode_message(Opcode::Text, false, format!("4{answer}").as_bytes(), None, &mut answers);
        }
        let mut received = vec![0; answers.len()];
        let (mut reader, mut writer) = stream.split();
        for _ in 0..n {
            let write = async { writer.write_all(&wire).await.expect("it is open") };
            let read = async { reader.read_exact(&mut received).await.expect("it is open") };
            tokio::join!(write, read);
        }
        assert!(received == answers);
    });
}

fn broadcast(n: u64) {
    run(async |io, addr| {
        let mut clients = Vec::new();
        for _ in 0..RECIPIENTS {
            // Out of the runtime's sight: it need not be told what comes.
            clients.push(connect(addr).await.into_std().expect("it is a socket"));
        }
        let everybody = io.of("/");
        for _ in 0..n {
            everybody.emit("tick", (1, "hello"));
            // Until all of it is written.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        drop(clients);
    });
}

fn open(n: u64) {
    run(async |_, addr| {
        for _ in 0..n {
            drop(connect(addr).await);
        }
    });
}
