//! One server of a mixed cluster, for `interop/cluster`: driven by lines of JSON on stdin, answering on stdout, as
//! `node.mjs` there is, whatever connects it with the others.

use std::time::Duration;

use serde_json::{Value as Json, json};
use socketio::{
    Bus, Bytes, Cookie, Data, EventName, Namespace, NamespaceHandle, Operators, RecoveryOptions, Socket, SocketIo,
    State, Value,
};
use socketio_adapter::cluster::Emitter;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

/// Serves until there are no more lines. The emitter is one for programs that are no servers.
pub(crate) async fn run(
    bus: impl Bus,
    emitter: Option<Emitter>,
    recovery: bool,
    name: String,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = Namespace::new("/")
        .state(name.clone())
        .on_connect(async |socket: Socket, State(name): State<String>| {
            if socket.recovered() {
                return;
            }
            socket.data().insert("server", name).expect("text");
            let rooms = socket.handshake().query("rooms").unwrap_or_default().into_owned();
            socket.join(rooms.split(',').filter(|room| !room.is_empty()).collect::<Vec<_>>());
        })
        .on("shout", async |socket: Socket, Data(text): Data<String>| {
            socket.broadcast().emit("shouted", text);
        })
        .on("echo", async |Data(value): Data<Value>| value)
        .on_server_event("tell", async |nsp: NamespaceHandle, State(name): State<String>, Data(text): Data<Value>| {
            nsp.broadcast().local().emit("told", (text, name));
        })
        .on_server_event("ask", async |State(name): State<String>, _: EventName, Data(text): Data<Value>| {
            json!({"from": name, "text": serde_json::Value::from(text)})
        });
    // For a balancer that learns the cookies of applications.
    let mut builder = SocketIo::builder().adapter(bus).cookie(Cookie::default()).namespace(root);
    if recovery {
        builder = builder.connection_state_recovery(RecoveryOptions::default());
    }
    let io = builder.build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"port": listener.local_addr()?.port()}));
    let serving = io.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Json = serde_json::from_str(&line)?;
        let io = io.clone();
        // Questions may take their time; what is only sent is sent in order.
        match command["op"].as_str() {
            Some("ask" | "fetch" | "askServers" | "remote" | "count" | "stats" | "forwarding" | "close") => {
                tokio::spawn(async move { answer(&command, question(&io, &command).await) });
            }
            Some("emitter") => match &emitter {
                Some(emitter) => answer(&command, outside(emitter, &command).await),
                None => answer(&command, Err("there is no emitter".to_owned())),
            },
            _ => answer(&command, order(&io, &command)),
        }
    }
    Ok(())
}

fn answer(command: &Json, result: Result<Json, String>) {
    match result {
        Ok(result) => println!("{}", json!({"id": command["id"], "result": result})),
        Err(error) => println!("{}", json!({"id": command["id"], "error": error})),
    }
}

/// Whom a command addresses.
fn group(io: &SocketIo, command: &Json) -> Operators {
    let mut group = io.broadcast().to(names(&command["to"])).except(names(&command["except"]));
    let flags = &command["flags"];
    if flags["volatile"] == true {
        group = group.volatile();
    }
    if flags["local"] == true {
        group = group.local();
    }
    if let Some(timeout) = flags["timeout"].as_u64() {
        group = group.timeout(Duration::from_millis(timeout));
    }
    group
}

pub(crate) fn names(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// Name and arguments; binary ones are written as `{"$": "<hex>"}`.
pub(crate) fn event(command: &Json) -> (String, Vec<Value>) {
    let list = command["event"].as_array().cloned().unwrap_or_default();
    let name = list.first().and_then(Json::as_str).unwrap_or_default().to_owned();
    (name, list.into_iter().skip(1).map(revive).collect())
}

fn revive(value: Json) -> Value {
    match value {
        Json::Object(map) => match map.get("$").and_then(Json::as_str) {
            Some(hex) => {
                let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default();
                Value::Binary(Bytes::from((0..hex.len()).step_by(2).map(digit).collect::<Vec<_>>()))
            }
            None => Value::Map(map.into_iter().map(|(key, value)| (key, revive(value))).collect()),
        },
        Json::Array(items) => Value::Array(items.into_iter().map(revive).collect()),
        other => other.into(),
    }
}

/// What is only sent.
fn order(io: &SocketIo, command: &Json) -> Result<Json, String> {
    let group = group(io, command);
    let sent = match command["op"].as_str().unwrap_or_default() {
        "emit" => {
            let (name, args) = event(command);
            group.emit(&name, socketio::Spread(&args)).error().map(ToString::to_string)
        }
        "join" => group.sockets_join(names(&command["rooms"])).error().map(ToString::to_string),
        "leave" => group.sockets_leave(names(&command["rooms"])).error().map(ToString::to_string),
        "disconnect" => {
            group.disconnect_sockets(command["close"] == true);
            None
        }
        "tell" => io.server_side_emit("tell", &command["text"]).err().map(|error| error.to_string()),
        other => Some(format!("there is no operation `{other}`")),
    };
    sent.map_or(Ok(Json::Null), Err)
}

/// What a program that is no server says.
async fn outside(emitter: &Emitter, command: &Json) -> Result<Json, String> {
    let emitter = emitter.to(names(&command["to"])).except(names(&command["except"]));
    let rooms = names(&command["rooms"]);
    let said = match command["what"].as_str().unwrap_or_default() {
        "emit" => {
            let (name, args) = event(command);
            emitter.emit(&name, socketio::Spread(&args))
        }
        "join" => emitter.sockets_join(rooms),
        "leave" => emitter.sockets_leave(rooms),
        "disconnect" => emitter.disconnect_sockets(command["close"] == true),
        "tell" => emitter.server_side_emit("tell", &command["text"]),
        other => return Err(format!("there is no operation `{other}`")),
    };
    said.await.map(|()| Json::Null).map_err(|error| error.to_string())
}

/// What is answered by others.
async fn question(io: &SocketIo, command: &Json) -> Result<Json, String> {
    let group = group(io, command);
    match command["op"].as_str().unwrap_or_default() {
        "stats" => {
            let stats = io.stats();
            Ok(json!({"refused": stats.cluster_refused, "foreign": stats.cluster_foreign}))
        }
        "close" => {
            io.close().await;
            Ok(Json::Null)
        }
        "count" => Ok(json!(io.of("/").server_count().await.map_err(|error| error.to_string())?)),
        "forwarding" => {
            let stats = io.engine_stats();
            let [servers, requests, tunnels] = [stats.forward_servers as u64, stats.forwarded, stats.tunnels];
            Ok(json!({"servers": servers, "requests": requests, "tunnels": tunnels}))
        }
        "ask" => {
            let (name, args) = event(command);
            if let Some(count) = command["count"].as_u64() {
                // Where nobody knows how many there are to come.
                let mut answers = group.emit_with_ack::<Value>(&name, socketio::Spread(&args));
                let mut got = Vec::new();
                while (got.len() as u64) < count {
                    let (_, answer) = answers.next().await.ok_or("there are too few answers")?;
                    got.push(Json::from(answer.map_err(|error| error.to_string())?));
                }
                return Ok(got.into());
            }
            let all = group.emit_with_ack::<Value>(&name, socketio::Spread(&args)).all().await;
            if !all.missing.is_empty() {
                return Err(format!("missing: {:?}", all.missing));
            }
            Ok(all.answers.into_iter().map(|(_, answer)| Json::from(answer)).collect())
        }
        "fetch" => {
            let fetched = group.fetch().await;
            if command["partial"] == true {
                let ids: Vec<_> = fetched.sockets.iter().map(|socket| socket.id().to_string()).collect();
                return Ok(json!({"ids": ids, "missing": fetched.missing}));
            }
            if fetched.missing > 0 {
                return Err(format!("{} servers are missing", fetched.missing));
            }
            let seen = |socket: &socketio::RemoteSocket| {
                let mut rooms: Vec<_> = socket.rooms().iter().map(ToString::to_string).collect();
                rooms.sort();
                let server = socket.data().get("server").and_then(Value::as_str).map(str::to_owned);
                json!({"id": socket.id(), "rooms": rooms, "server": server, "as": socket.handshake().query.get("as")})
            };
            Ok(fetched.sockets.iter().map(seen).collect())
        }
        "askServers" => {
            let answers = io.server_side_emit_with_ack::<Json>("ask", &command["text"]).await;
            let answers = answers.map_err(|error| error.to_string())?;
            if command["partial"] == true {
                return Ok(json!({"answers": answers.answers, "missing": answers.missing}));
            }
            if answers.missing > 0 {
                return Err(format!("{} servers are missing", answers.missing));
            }
            Ok(answers.answers.into())
        }
        "remote" => {
            let sockets = group.fetch_sockets().await;
            let socket = sockets.first().ok_or("nobody is there")?;
            let (name, args) = event(command);
            socket.emit(&name, socketio::Spread(&args)).result().map_err(|error| error.to_string())?;
            if let Some(room) = command["join"].as_str() {
                socket.join(room).result().map_err(|error| error.to_string())?;
            }
            Ok(Json::Null)
        }
        other => Err(format!("there is no operation `{other}`")),
    }
}
