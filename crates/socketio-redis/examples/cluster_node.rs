//! One server of a mixed cluster on Redis, for `interop/cluster`, or an emitter beside it.
//! `cluster_node classic|sharded|streams|recovery|several-streams|python|python-emitter redis://… name`

mod node;

use serde_json::{Value as Json, json};
use socketio::{Data, Namespace, RecoveryOptions, Socket, SocketIo};
use socketio_redis::{RedisBus, RedisStreamsBus, emitter, streams_emitter};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

const USAGE: &str =
    "cluster_node classic|sharded|streams|recovery|several-streams|python|python-emitter redis://… name";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [adapter, url, name] = &args[..] else { return Err(USAGE.into()) };
    match &**adapter {
        "classic" => node::run(RedisBus::classic(url)?, Some(emitter(url)?), false, name.clone()).await,
        "sharded" => node::run(RedisBus::sharded(url)?, None, false, name.clone()).await,
        "streams" => node::run(RedisStreamsBus::new(url)?, Some(streams_emitter(url)?), false, name.clone()).await,
        // Streams, with clients that come back to any server.
        "recovery" => node::run(RedisStreamsBus::new(url)?, Some(streams_emitter(url)?), true, name.clone()).await,
        "several-streams" => several_streams(url).await,
        "python" => node::run(RedisBus::python(url)?, None, false, name.clone()).await,
        "python-emitter" => emit(url).await,
        other => Err(format!("there is no adapter `{other}`").into()),
    }
}

/// Several namespaces on four streams, with clients that come back; until stdin ends.
async fn several_streams(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bus = RedisStreamsBus::new(url)?.stream_count(4);
    let mut builder = SocketIo::builder().adapter(bus).connection_state_recovery(RecoveryOptions::default());
    for name in ["/", "/a", "/b", "/my-namespace"] {
        builder =
            builder.namespace(Namespace::new(name).on("say", async |socket: Socket, Data(text): Data<String>| {
                socket.broadcast().emit("said", text);
            }));
    }
    let io = builder.build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"port": listener.local_addr()?.port()}));
    let serving = io.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    while BufReader::new(tokio::io::stdin()).lines().next_line().await?.is_some() {}
    Ok(())
}

/// Emits what lines on stdin say.
async fn emit(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let io = socketio_redis::python_emitter(url)?;
    println!("{}", json!({"port": 0}));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Json = serde_json::from_str(&line)?;
        let to = io.to(node::names(&command["to"])).except(node::names(&command["except"]));
        let rooms = node::names(&command["rooms"]);
        let sent = match command["op"].as_str().unwrap_or_default() {
            "emit" => {
                let (name, args) = node::event(&command);
                to.emit(&name, socketio::Spread(&args)).await
            }
            "join" => to.sockets_join(rooms).await,
            "leave" => to.sockets_leave(rooms).await,
            _ => to.disconnect_sockets(false).await,
        };
        let error = sent.err().map(|error| error.to_string());
        match error {
            None => println!("{}", json!({"id": command["id"], "result": null})),
            Some(error) => println!("{}", json!({"id": command["id"], "error": error})),
        }
    }
    Ok(())
}
