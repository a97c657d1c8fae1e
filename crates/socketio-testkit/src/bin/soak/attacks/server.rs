//! The server that is attacked: what its application does on request, and what it tells.

use std::{future::pending, io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engineio::{NotFound, Tls};
use serde_json::Value;
use socketio::{AckError, Builder, Data, Limits, Namespace, Rate, SecurityEvent, Socket, SocketIo};

use super::{Row, Words};
use crate::server::Tally;

/// How long the server takes to close at most.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// Whose client vanishes is gone after this and the same again.
const PING: Duration = Duration::from_secs(2);
/// What nobody reaches within a run.
const NEVER: Duration = Duration::from_secs(3_600);

/// Adds what a row needs: its limits or none, and `/attack`.
pub(crate) fn prepare(mut builder: Builder, row: &Row, words: Words, told: &Tally) -> Builder {
    let limited = !words.unlimited;
    let mut limits = Limits::default();
    (row.limits)(&mut limits);
    if !limited {
        unlimited(&mut limits);
    }
    let (heard, expired) = (told.clone(), told.clone());
    builder = builder
        .limits(limits)
        .ping_interval(PING)
        .ping_timeout(if words.lenient { 5 * PING } else { PING })
        .upgrade_timeout(if limited { Duration::from_secs(2) } else { NEVER })
        .ack_timeout(if limited { Duration::from_secs(3) } else { NEVER })
        .namespace(attacked(told.clone()))
        .namespace(
            Namespace::new("/away").on_session_expired(move |session| expired.add(format!("{:?}", session.why()), 1)),
        )
        .namespace(Namespace::pattern("/dynamic/{name}").on("nothing", async || {}))
        .on_security_event(move |event| {
            heard.add(format!("{}: {}", event.kind, event.reason), 1);
            if !is_one_line(event) {
                heard.add("bad lines", 1);
            }
        });
    (row.build)(builder, limited)
}

/// What goes to a log is one line of bounded length, whatever clients call things.
fn is_one_line(event: &SecurityEvent) -> bool {
    [event.to_string(), event.to_json()].iter().all(|line| line.len() < 1_024 && !line.chars().any(char::is_control))
}

/// Everything as far away as it goes.
fn unlimited(limits: &mut Limits) {
    const MANY: usize = 1 << 30;
    limits.max_payload = MANY;
    limits.max_fragments = MANY;
    limits.message_timeout = NEVER;
    limits.max_payload_packets = MANY;
    limits.send_queue_bytes = MANY;
    limits.send_queue_packets = MANY;
    limits.write_timeout = NEVER;
    limits.first_activity_timeout = NEVER;
    limits.header_timeout = NEVER;
    limits.body_timeout = NEVER;
    limits.hook_timeout = NEVER;
    limits.handler_stall = NEVER;
    limits.max_header_bytes = MANY;
    limits.max_headers = 10_000;
    limits.max_handshakes = MANY;
    limits.max_pending_sessions = MANY;
    limits.max_attachments = MANY;
    limits.max_packet_bytes = MANY;
    limits.attachment_timeout = NEVER;
    limits.max_event_name = MANY;
    limits.max_namespaces = MANY;
    limits.connect_timeout = NEVER;
    limits.max_pending_acks = MANY;
    limits.rooms_per_socket = MANY;
    limits.room_name_bytes = MANY;
    limits.rooms = MANY;
    limits.mailbox_events = MANY;
    limits.mailbox_bytes = MANY;
    limits.max_child_namespaces = MANY;
}

/// Rates that nobody reaches.
pub(crate) fn any_rate() -> Rate {
    Rate::per_second(1 << 30).burst(1 << 30)
}

/// `/attack`: `parts(n, size)` emits without waiting for the reader, `questions(n)` asks the client and waits for its answers,
/// `forever()` never ends, `join(from, n, len)` joins rooms with names of that length and answers how many.
fn attacked(told: Tally) -> Namespace {
    Namespace::new("/attack")
        .on("parts", async |socket: Socket, Data((n, size)): Data<(u64, usize)>| {
            let part = "x".repeat(size.min(1 << 20));
            for i in 0..n.min(100_000) {
                socket.emit("part", (i, &part));
            }
        })
        .on("questions", move |socket: Socket, Data(n): Data<u64>| {
            let told = told.clone();
            async move {
                let mut answers = Vec::new();
                for i in 0..n.min(100_000) {
                    answers.push(socket.emit_with_ack::<Value>("question", i));
                    // What waits for its reader has a limit of its own.
                    if i % 64 == 63 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                // Ends with the answers, their timeout or the client.
                tokio::spawn(async move {
                    for answer in answers {
                        match answer.await {
                            Err(AckError::NotSent(_)) => told.add("questions refused", 1),
                            Err(AckError::Timeout) => told.add("questions timed out", 1),
                            _ => told.add("questions answered otherwise", 1),
                        }
                    }
                });
            }
        })
        .on("forever", async || pending::<()>().await)
        .on("join", async |socket: Socket, Data((from, n, len)): Data<(u64, u64, usize)>| {
            let names = (from..from + n.min(100_000)).map(|room| format!("{room:0>len$}"));
            names.filter(|name| socket.join(name.as_str()).is_ok()).count()
        })
        .on("shout", async |io: SocketIo, Data((n, size)): Data<(u64, usize)>| {
            let part = "x".repeat(size.min(1 << 20));
            for i in 0..n.min(100_000) {
                io.of("/away").emit("part", (i, &part));
                tokio::task::yield_now().await;
            }
        })
}

/// Listens with TLS too. Returns what the first line says of it.
pub(crate) async fn listen_tls(io: &SocketIo) -> io::Result<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let tls = Tls::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).map_err(io::Error::other)?;
    let listener = engineio::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let io = io.clone();
    tokio::spawn(async move {
        // It never ends by itself.
        let _ = io.engine().serve_tls(listener, NotFound, tls).await;
    });
    Ok(format!(" {port} {}", STANDARD.encode(made.cert.der())))
}
