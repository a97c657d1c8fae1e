//! What an idle connection costs: heap bytes, counted by the allocator of the server's process.
//!
//! `cargo run --release [-- [--polling] [--namespaces N] [--connections N] [--limit BYTES] [--where]]`
//!
//! The server runs in this process, the clients in a child, which is this program once more, so that their memory does
//! not count. Each client connects (over WebSocket, or `--polling`), joins `/` (and more with `--namespaces`) and from then
//! on only answers pings. Fails when a connection costs more than `--limit` bytes (default: 6144 on WebSocket, none on
//! polling, where two HTTP connections with their buffers wait as well). With `--clients` it is the other way round: our
//! clients run in this process and the server in the child (10,000 connections, 12,288 bytes). `--where` says who asked for what is alive, with
//! fewer connections, slowly.

mod clients;
mod counting;

use std::{
    io,
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use counting::Snapshot;
use socketio::{Data, Namespace, Socket, SocketIo};
use socketio_testkit::{Endpoint, RawClient, Running};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::Semaphore,
};

const PING_INTERVAL: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy)]
struct Plan {
    polling: bool,
    namespaces: usize,
    connections: usize,
    limit: Option<i64>,
    origins: bool,
    clients: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> io::Result<()> {
    let mut plan =
        Plan { polling: false, namespaces: 1, connections: 2_000, limit: None, origins: false, clients: false };
    let (mut client, mut serve, mut many) = (None, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse::<usize>().ok()).ok_or("a number is missing");
        match option.as_str() {
            "--polling" => plan.polling = true,
            "--namespaces" => plan.namespaces = number().map_err(io::Error::other)?,
            "--connections" => many = Some(number().map_err(io::Error::other)?),
            "--limit" => plan.limit = Some(number().map_err(io::Error::other)? as i64),
            "--where" => plan.origins = true,
            "--clients" => plan.clients = true,
            "--serve" => serve = true,
            "--client-of" => client = Some(number().map_err(io::Error::other)? as u16),
            other => return Err(io::Error::other(format!("what is {other}?"))),
        }
    }
    plan.connections = many.unwrap_or(if plan.clients { 10_000 } else { plan.connections });
    match client {
        Some(port) => run_clients(port, plan).await,
        None if serve => clients::serve(plan).await,
        None if plan.clients => clients::run(plan).await,
        None => run_server(plan).await,
    }
}

fn name(index: usize) -> String {
    if index == 0 { "/".to_owned() } else { format!("/{index}") }
}

fn server(plan: Plan) -> socketio::Builder {
    let mut builder = SocketIo::builder().ping_interval(PING_INTERVAL);
    for index in 0..plan.namespaces {
        builder = builder.namespace(
            Namespace::new(name(index))
                .on_connect(async |socket: Socket| {
                    socket.join("everybody");
                })
                .on("echo", async |socket: Socket, Data(text): Data<String>| {
                    socket.emit("echo", text);
                })
                .on_disconnect(async || {}),
        );
    }
    builder
}

async fn run_server(plan: Plan) -> io::Result<()> {
    let builder = server(plan);
    let running = socketio_testkit::serve(builder).await?;
    let connections = if plan.origins { plan.connections.min(200) } else { plan.connections };

    // The first crowd pays for what all share: tables, thread-local buffers, the runtime's own.
    let mut crowd = start_clients(&running, plan, connections).await?;
    settle(&running, connections, Duration::from_millis(500)).await?;
    end_clients(&running, &mut crowd).await?;
    let [mut before, mut connected, mut idle, mut after] = [(); 4].map(|()| Snapshot::room());
    before.take();
    if plan.origins {
        counting::remember(true);
    }

    let mut crowd = start_clients(&running, plan, connections).await?;
    settle(&running, connections, Duration::from_millis(500)).await?;
    connected.take();
    settle(&running, connections, PING_INTERVAL + Duration::from_secs(1)).await?;
    idle.take();
    let origins = counting::origins();
    let resident = socketio_testkit::promises::resident_kib();
    end_clients(&running, &mut crowd).await?;
    after.take();

    let n = connections as i64;
    let per = |total: i64| total as f64 / n as f64;
    let transport = if plan.polling { "polling" } else { "WebSocket" };
    println!("{connections} idle connections over {transport}, each in {} namespace(s)", plan.namespaces);
    println!(
        "to connect:          {:8.0} bytes in {:6.1} blocks were asked for, per connection",
        per(connected.traffic_bytes - before.traffic_bytes),
        per(connected.traffic_blocks - before.traffic_blocks)
    );
    for (what, snapshot) in [("connected", &connected), ("after a heartbeat", &idle), ("left behind", &after)] {
        println!(
            "{:20} {:8.1} bytes in {:6.2} blocks, per connection",
            format!("{what}:"),
            per(snapshot.bytes - before.bytes),
            per(snapshot.blocks - before.blocks)
        );
    }
    println!("resident with all of them: {resident} KiB");
    println!("\nalive per connection, by size (those with at least one in twenty connections):");
    for (size, count) in idle.since(&before) {
        if count * 20 >= n || count * 20 <= -n {
            let size_text = if size == 0 { "longer".to_owned() } else { size.to_string() };
            println!("{size_text:>8} bytes x {:6.2} = {:8.1}", per(count), per(count * size as i64));
        }
    }
    println!("\nleft behind, in all:");
    for (size, count) in after.since(&before) {
        let size_text = if size == 0 { "longer".to_owned() } else { size.to_string() };
        println!("{size_text:>8} bytes x {count:>6}");
    }
    if plan.origins {
        // The memory of the memory has been counted too: no verdict.
        println!("\nwho asked for it:");
        print_origins(origins, connections);
        return Ok(());
    }
    let cost = (idle.bytes - before.bytes) / n;
    let limit = plan.limit.unwrap_or(if plan.polling { i64::MAX } else { 6 << 10 });
    println!("\n{cost} bytes of heap per idle connection");
    if cost > limit {
        return Err(io::Error::other(format!("an idle connection may cost {limit} bytes")));
    }
    Ok(())
}

fn print_origins(origins: Vec<(usize, Vec<String>, usize)>, connections: usize) {
    let mut origins = origins;
    origins.retain(|(_, _, count)| count * 4 >= connections);
    origins.sort_by_key(|(size, _, count)| std::cmp::Reverse(size * count));
    for (size, frames, count) in origins {
        println!("{size:>8} bytes x {:5.2}", count as f64 / connections as f64);
        let ours =
            ["socketio", "engineio", "hyper", "tokio::net", "tokio::time", "tokio::runtime::task", "mio::", "http::"];
        let telling = frames.iter().filter(|frame| {
            ours.iter().any(|name| frame.contains(name))
                && !frame.contains("counting::")
                && !frame.contains("catch_unwind")
        });
        for frame in telling.take(7) {
            println!("             {frame}");
        }
    }
}

/// Starts the child with its clients and waits until all are connected.
async fn start_clients(running: &Running, plan: Plan, connections: usize) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--client-of", &running.addr.port().to_string()]);
    command.args(["--connections", &connections.to_string(), "--namespaces", &plan.namespaces.to_string()]);
    if plan.polling {
        command.arg("--polling");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(output) = child.stdout.take() {
        let line = BufReader::new(output).lines().next_line().await?;
        if line.as_deref() != Some("ready") {
            return Err(io::Error::other("the clients did not connect"));
        }
    }
    Ok(child)
}

/// Waits until all are here and for a while more, in which only heartbeats happen.
async fn settle(running: &Running, connections: usize, pause: Duration) -> io::Result<()> {
    tokio::time::sleep(pause).await;
    let sessions = running.sessions();
    if sessions != connections {
        return Err(io::Error::other(format!("{sessions} sessions of {connections}")));
    }
    Ok(())
}

/// Ends the child and waits until the server has noticed.
async fn end_clients(running: &Running, child: &mut Child) -> io::Result<()> {
    if let Some(mut input) = child.stdin.take() {
        input.shutdown().await?;
    }
    child.wait().await?;
    let until = Instant::now() + Duration::from_secs(60);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // One task accepts.
    while running.sessions() > 0 || tasks() > 1 {
        if Instant::now() > until {
            return Err(io::Error::other(format!("{} sessions and {} tasks stay", running.sessions(), tasks())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn run_clients(port: u16, plan: Plan) -> io::Result<()> {
    let endpoint = Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], port))));
    let opening = Arc::new(Semaphore::new(64));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..plan.connections {
        let (endpoint, opening) = (endpoint.clone(), opening.clone());
        tasks.spawn(async move {
            let _permit = opening.acquire().await.map_err(io::Error::other)?;
            let mut client = match plan.polling {
                true => RawClient::polling(&endpoint).await?,
                false => RawClient::websocket(&endpoint).await?,
            };
            for index in 0..plan.namespaces {
                client.connect(&name(index), None).await?;
            }
            Ok::<_, io::Error>(client)
        });
    }
    let mut clients = Vec::new();
    while let Some(client) = tasks.join_next().await {
        clients.push(client.map_err(io::Error::other)??);
    }
    println!("ready");
    for mut client in clients {
        tokio::spawn(async move {
            // Answers pings until the end.
            while client.drive().await.is_ok() {}
        });
    }
    // Ends with the standard input, and with it all connections.
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    std::process::exit(0);
}
