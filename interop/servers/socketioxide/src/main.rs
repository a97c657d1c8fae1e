//! The interop server (EVENTS.md) on socketioxide and axum, with what the suite of our client needs.
//!
//! It has no way to close a connection beneath its sockets: `kick` disconnects the socket instead. A refusal has a message
//! and no data. Handlers are spawned, so one thread runs them: then they begin in the order of the events.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use socketio_proto::Value;
use socketioxide::extract::{AckSender, Data, SocketRef, State, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::DisconnectReason;
use socketioxide::{ParserConfig, SocketIo, TransportType};

/// All arguments of an event, however many.
#[derive(Debug)]
struct Args(Vec<Value>);

impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Args;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Args, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = seq.next_element()? {
                    all.push(value);
                }
                Ok(Args(all))
            }
        }
        deserializer.deserialize_tuple(1, All)
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for value in &self.0 {
            tuple.serialize_element(value)?;
        }
        tuple.end()
    }
}

#[derive(Default)]
struct World {
    reasons: Mutex<HashMap<String, String>>,
}

#[derive(Default)]
struct Own {
    sequence: Mutex<Vec<i64>>,
    later: Mutex<Vec<(i64, AckSender)>>,
    key: Mutex<Option<String>>,
    auth: Mutex<Value>,
}

#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut max_payload, mut stdin) = (0_u16, 1_000_000_u64, false);
    let (mut ping_interval, mut ping_timeout) = (25_000, 20_000);
    let (mut msgpack, mut polling_only) = (false, false);
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--port" => port = value()?.parse()?,
            "--max-payload" => max_payload = value()?.parse()?,
            "--ping-interval" => ping_interval = value()?.parse()?,
            "--ping-timeout" => ping_timeout = value()?.parse()?,
            "--parser" => msgpack = value()? == "msgpack",
            "--transports" => polling_only = value()? == "polling",
            "--exit-with-stdin" => stdin = true,
            other => return Err(format!("there is no option `{other}`").into()),
        }
    }
    let mut builder = SocketIo::builder()
        .max_payload(max_payload)
        .ws_max_message_size(max_payload as usize)
        .max_buffer_size(4096)
        .ping_interval(Duration::from_millis(ping_interval))
        .ping_timeout(Duration::from_millis(ping_timeout))
        .with_state(Arc::new(World::default()));
    if polling_only {
        builder = builder.transports([TransportType::Polling]);
    }
    if msgpack {
        builder = builder.with_parser(ParserConfig::msgpack());
    }
    let (layer, io) = builder.build_layer();
    io.ns("/", connected);
    io.ns("/chat", connected);
    io.ns("/admin", connected.with(authorize));
    for number in 0..10 {
        io.ns(format!("/n{number}"), connected);
    }
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let served = axum::serve(listener, axum::Router::new().layer(layer));
    if stdin {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    Ok(served.await?)
}

async fn authorize(TryData(auth): TryData<Value>) -> Result<(), Refused> {
    match auth.ok().as_ref().and_then(|auth| auth.get("token")).and_then(Value::as_str) {
        Some("secret") => Ok(()),
        Some("expired") => Err(Refused("token expired")),
        _ => Err(Refused("not authorized")),
    }
}

async fn connected(socket: SocketRef, TryData(auth): TryData<Value>) {
    let auth = auth.unwrap_or(Value::Null);
    let quiet = auth.get("quiet").and_then(Value::as_bool).unwrap_or(false);
    let own = Arc::new(Own { auth: Mutex::new(auth), ..Own::default() });
    socket.extensions.insert(Arc::clone(&own));
    if !quiet {
        let _ = socket.emit("hello", &socket.id);
    }
    socket.on_disconnect(async |socket: SocketRef, reason: DisconnectReason, State(world): State<Arc<World>>| {
        if let Some(key) = own_of(&socket).key.lock().unwrap().take() {
            world.reasons.lock().unwrap().insert(key, reason.to_string());
        }
    });
    socket.on("echo", async |socket: SocketRef, Data(args): Data<Args>| {
        let _ = socket.emit("echo", &args);
    });
    socket.on("echo-ack", async |Data(args): Data<Args>, ack: AckSender| {
        let _ = ack.send(&args);
    });
    socket.on("kinds", async |Data(Args(args)): Data<Args>, ack: AckSender| {
        let _ = ack.send(&args.iter().map(kind).collect::<Vec<_>>());
    });
    socket.on("measure", async |Data(value): Data<Value>, ack: AckSender| {
        let bytes = value.as_str().map(str::as_bytes).or(value.as_bytes().map(|bytes| &**bytes)).unwrap_or_default();
        let _ = ack.send(&(kind(&value), bytes.len(), fnv(bytes)));
    });
    socket.on("give", async |socket: SocketRef, Data((kind, n)): Data<(String, usize)>| {
        let bytes = (0..n).map(|i| 7 * i + 3);
        let gift = if kind == "binary" {
            Value::Binary(bytes.map(|byte| (byte % 256) as u8).collect::<Vec<_>>().into())
        } else {
            Value::String(bytes.map(|byte| char::from(b'a' + (byte % 26) as u8)).collect())
        };
        let _ = socket.emit("gift", &gift);
    });
    socket.on("ask", async |socket: SocketRef, Data(args): Data<Args>, ack: AckSender| {
        let asked = socket.timeout(Duration::from_secs(5)).emit_with_ack::<_, Args>("question", &args);
        let Ok(asked) = asked else { return };
        let _ = match asked.await {
            Ok(answer) => ack.send(&answer),
            Err(_) => ack.send("timeout"),
        };
    });
    socket.on("count", async |socket: SocketRef, Data(n): Data<u64>| {
        for i in 0..n {
            while socket.emit("number", &i).is_err() && socket.connected() {
                // Its buffer holds so many packets and no more.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let _ = socket.emit("number-end", &n);
    });
    socket.on("seq", async |socket: SocketRef, Data(i): Data<i64>| {
        own_of(&socket).sequence.lock().unwrap().push(i);
    });
    socket.on("seq-report", async |socket: SocketRef, ack: AckSender| {
        let numbers = std::mem::take(&mut *own_of(&socket).sequence.lock().unwrap());
        let expected = std::iter::once(0).chain(numbers.iter().map(|number| number + 1));
        let inversions = numbers.iter().zip(expected).filter(|(number, expected)| *number != expected).count();
        let _ = ack.send(&(numbers.len(), inversions));
    });
    socket.on("later", async |socket: SocketRef, Data((i, n)): Data<(i64, usize)>, ack: AckSender| {
        let own = own_of(&socket);
        let mut later = own.later.lock().unwrap();
        later.push((i, ack));
        if later.len() == n {
            for (i, ack) in later.drain(..).rev() {
                let _ = ack.send(&i);
            }
        }
    });
    socket.on("join", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
        socket.join(room);
        let _ = ack.send(&rooms(&socket));
    });
    socket.on("leave", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
        socket.leave(room);
        let _ = ack.send(&rooms(&socket));
    });
    socket.on("members", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
        let _ = ack.send(&socket.within(room).sockets().len());
    });
    socket.on("send-to", async |io: SocketIo, socket: SocketRef, Data(Args(args)): Data<Args>| {
        send_to(io, socket, args).await
    });
    socket.on("volatile", async |socket: SocketRef, Data(n): Data<u64>| {
        for i in 0..n {
            let _ = socket.volatile().emit("volatile", &i);
        }
        while socket.emit("volatile-end", &n).is_err() && socket.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for event in ["kick", "bye"] {
        socket.on(event, async |socket: SocketRef| {
            let _ = socket.disconnect();
        });
    }
    socket.on("remember", async |socket: SocketRef, Data(key): Data<String>, ack: AckSender| {
        *own_of(&socket).key.lock().unwrap() = Some(key);
        let _ = ack.send(&());
    });
    socket.on("reason-of", async |State(world): State<Arc<World>>, Data(key): Data<String>, ack: AckSender| {
        let reason = world.reasons.lock().unwrap().get(&key).cloned();
        let _ = ack.send(&reason);
    });
    socket.on("whoami", async |socket: SocketRef, ack: AckSender| {
        let query = socket.req_parts().uri.query().unwrap_or_default();
        let who = query.split('&').find_map(|pair| pair.strip_prefix("who="));
        // As much of the encoding as the suite uses.
        let who = who.map(|who| who.replace("%20", " ").replace("%26", "&"));
        let transport = match socket.transport_type() {
            TransportType::Polling => "polling",
            TransportType::Websocket => "websocket",
        };
        let fields = [
            ("id", Value::from(socket.id.to_string())),
            ("namespace", Value::from(socket.ns())),
            ("auth", own_of(&socket).auth.lock().unwrap().clone()),
            ("who", who.map_or(Value::Null, Value::from)),
            ("transport", Value::from(transport)),
            ("revision", Value::from(4)),
        ];
        let _ = ack.send(&Value::Map(fields.into_iter().collect()));
    });
}

async fn send_to(io: SocketIo, socket: SocketRef, mut args: Vec<Value>) {
    #[derive(Deserialize)]
    struct Target {
        from: String,
        to: Vec<String>,
    }
    let rest = Args(args.split_off(2));
    let (Ok(target), Some(event)) = (args[0].deserialize_into::<Target>(), args[1].as_str()) else { return };
    let to = if target.from == "socket" {
        socket.broadcast()
    } else {
        let Some(namespace) = io.of(socket.ns()) else { return };
        namespace
    };
    let to = if target.to.is_empty() { to } else { to.to(target.to) };
    let _ = to.emit(event, &rest).await;
}

fn own_of(socket: &SocketRef) -> Arc<Own> {
    socket.extensions.get::<Arc<Own>>().unwrap_or_default()
}

fn rooms(socket: &SocketRef) -> Vec<String> {
    let own = socket.id.to_string();
    let mut rooms: Vec<_> =
        socket.rooms().into_iter().map(|room| room.to_string()).filter(|room| *room != own).collect();
    rooms.sort();
    rooms
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Binary(_) => "binary",
        Value::Array(_) => "array",
        Value::Map(_) => "object",
    }
}

/// FNV-1a, 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
