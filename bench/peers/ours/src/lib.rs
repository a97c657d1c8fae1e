//! Our server with the events of the benchmark (`bench/README.md`), in the forms that users run it in.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use socketio::{Builder, Bytes, Data, Namespace, Socket, SocketIo, Tls};
use socketio_redis::{RedisBus, RedisStreamsBus};

/// What `obj` takes and gives back: about 512 bytes of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: Customer,
    lines: Vec<Line>,
    paid: bool,
    note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    name: String,
    email: String,
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    sku: String,
    title: String,
    quantity: u32,
    price: f64,
}

/// Runs the server that the command line asks for: `--port N`, `--form standalone|axum`, `--runtime tuned|default`, `--tls`,
/// `--adapter classic|sharded|streams --broker URL`.
///
/// # Errors
/// When the runtime cannot be started or the port not be bound.
pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1).map(String::as_str);
    let port = option("--port").unwrap_or("0").parse()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if option("--runtime") != Some("default") {
        // As `sio serve` does: more than 256 ready connections do not starve one another.
        runtime.global_queue_interval(1);
    }
    let tls = args.iter().any(|arg| arg == "--tls").then(certificate).transpose()?;
    let cluster = option("--adapter").zip(option("--broker"));
    runtime.build()?.block_on(serve(port, option("--form") == Some("axum"), tls, cluster))
}

fn join(io: Builder, adapter: &str, url: &str) -> Result<Builder, Box<dyn std::error::Error>> {
    Ok(match adapter {
        "classic" => io.adapter(RedisBus::classic(url)?),
        "sharded" => io.adapter(RedisBus::sharded(url)?),
        "streams" => io.adapter(RedisStreamsBus::new(url)?),
        other => return Err(format!("no adapter is called {other}").into()),
    })
}

/// A certificate of our own making, which the generator takes.
fn certificate() -> Result<Tls, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    Ok(Tls::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?)
}

async fn serve(
    port: u16,
    axum: bool,
    tls: Option<Tls>,
    cluster: Option<(&str, &str)>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut io = SocketIo::builder().namespace(events("/".to_owned()));
    if let Some((adapter, url)) = cluster {
        io = join(io, adapter, url)?;
    }
    for number in 0..32 {
        io = io.namespace(events(format!("/n{number}")));
    }
    let io = io.build()?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    println!("listening on {}", listener.local_addr()?.port());
    tokio::spawn(give_memory_back(io.clone()));
    if let Some(tls) = tls {
        io.engine().serve_tls(listener, engineio::NotFound, tls).await?;
    } else if axum {
        axum::serve(listener, axum::Router::new().layer(io.layer())).await?;
    } else {
        io.engine().serve(listener, engineio::NotFound).await?;
    }
    Ok(())
}

/// As `sio serve` does.
async fn give_memory_back(io: SocketIo) {
    let mut waves = socketio_heap::Waves::default();
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        if waves.has_left(io.engine().sessions()) {
            let _ = tokio::task::spawn_blocking(socketio_heap::give_back).await;
        }
    }
}

fn events(name: String) -> Namespace {
    Namespace::new(name)
        .on("echo", async |Data(text): Data<String>| text)
        .on("bin", async |Data(bytes): Data<Bytes>| bytes)
        .on("obj", async |Data(order): Data<Order>| order)
        .on("join", async |socket: Socket, Data(room): Data<String>| {
            socket.join(room);
        })
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(room);
        })
        .on("cast", async |socket: Socket, Data((count, size)): Data<(usize, usize)>| {
            let (everybody, text) = (socket.namespace(), "x".repeat(size));
            for index in 0..count {
                everybody.emit("tick", (index, &text));
            }
        })
        .on("say", async |socket: Socket, Data((room, count, size)): Data<(String, usize, usize)>| {
            let (members, text) = (socket.namespace().to(room), "x".repeat(size));
            for index in 0..count {
                members.emit("tick", (index, &text));
            }
        })
}
