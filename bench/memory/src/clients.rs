//! What an idle client socket costs: many of ours in this process, their server in a child.

use std::{
    io,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use socketio_client::{Client, Socket, Transport, extract::Data};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::Semaphore,
};

use crate::{PING_INTERVAL, Plan, counting, counting::Snapshot, name, print_origins};

/// The server's side: prints its port and ends with its standard input.
pub(crate) async fn serve(plan: Plan) -> io::Result<()> {
    let running = socketio_testkit::serve(crate::server(plan)).await?;
    println!("{}", running.addr.port());
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    std::process::exit(0);
}

pub(crate) async fn run(plan: Plan) -> io::Result<()> {
    let mut plan = plan;
    let files = open_files()?;
    if plan.connections + 200 > files {
        raise_open_files(plan.connections + 200)?;
        plan.connections = files.saturating_sub(200);
        println!("only {files} files may be open: {} connections", plan.connections);
    }
    if plan.origins {
        plan.connections = plan.connections.min(200);
    }
    let (_child, port) = start_server(plan).await?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The first crowd pays for what all share.
    let crowd = connect(plan, port, plan.connections.min(200)).await?;
    disconnect(crowd).await;
    let [mut before, mut connected, mut idle, mut after] = [(); 4].map(|()| Snapshot::room());
    let resident = socketio_testkit::promises::resident_kib();
    before.take();
    let tasks_before = tasks();
    if plan.origins {
        counting::remember(true);
    }
    let crowd = connect(plan, port, plan.connections).await?;
    connected.take();
    // Each hears a ping and answers it.
    tokio::time::sleep(PING_INTERVAL + Duration::from_secs(2)).await;
    let lost = crowd.iter().flatten().filter(|socket| !socket.connected()).count();
    if lost > 0 {
        return Err(io::Error::other(format!("{lost} sockets are not connected any more")));
    }
    idle.take();
    let resident_idle = socketio_testkit::promises::resident_kib();
    let tasks_idle = tasks();
    let origins = counting::origins();
    disconnect(crowd).await;
    let until = Instant::now() + Duration::from_secs(30);
    while tasks() > tasks_before && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    after.take();

    let n = plan.connections as i64;
    let per = |total: i64| total as f64 / n as f64;
    let transport = if plan.polling { "polling" } else { "WebSocket" };
    println!("{n} idle clients over {transport}, each in {} namespace(s)", plan.namespaces);
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
    println!("tasks: {tasks_before} before, {tasks_idle} with all of them, {} after", tasks());
    let grown = resident_idle.saturating_sub(resident);
    println!("resident: {resident_idle} KiB, {} bytes per connection", grown * 1024 / plan.connections.max(1) as u64);
    println!("\nalive per connection, by size (those with at least one in twenty connections):");
    for (size, count) in idle.since(&before) {
        if count * 20 >= n || count * 20 <= -n {
            let size_text = if size == 0 { "longer".to_owned() } else { size.to_string() };
            println!("{size_text:>8} bytes x {:6.2} = {:8.1}", per(count), per(count * size as i64));
        }
    }
    if plan.origins {
        println!("\nwho asked for it:");
        print_origins(origins, plan.connections);
        return Ok(());
    }
    let cost = (idle.bytes - before.bytes) / n;
    let limit = plan.limit.unwrap_or(if plan.polling { i64::MAX } else { 12 << 10 });
    println!("\n{cost} bytes of heap per idle client");
    if cost > limit {
        return Err(io::Error::other(format!("an idle client may cost {limit} bytes")));
    }
    Ok(())
}

async fn start_server(plan: Plan) -> io::Result<(Child, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", "--namespaces", &plan.namespaces.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    let line = BufReader::new(output).lines().next_line().await?;
    let port = line.and_then(|line| line.trim().parse().ok()).ok_or_else(|| io::Error::other("no port"))?;
    Ok((child, port))
}

/// So many clients, each with a handler, in all namespaces.
async fn connect(plan: Plan, port: u16, connections: usize) -> io::Result<Vec<Vec<Socket>>> {
    let opening = Arc::new(Semaphore::new(64));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let opening = Arc::clone(&opening);
        tasks.spawn(async move {
            let _permit = opening.acquire().await.map_err(io::Error::other)?;
            let transport = if plan.polling { Transport::Polling } else { Transport::WebSocket };
            let builder = Client::builder(&format!("http://127.0.0.1:{port}")).transports([transport]);
            let first = builder
                .on("echo", async |socket: Socket, Data(text): Data<String>| drop(socket.emit("heard", text)))
                .connect()
                .await
                .map_err(io::Error::other)?;
            let mut sockets = vec![first];
            for index in 1..plan.namespaces {
                sockets.push(sockets[0].namespace(&name(index)).connect().await.map_err(io::Error::other)?);
            }
            Ok::<_, io::Error>(sockets)
        });
    }
    let mut crowd = Vec::with_capacity(connections);
    while let Some(sockets) = tasks.join_next().await {
        crowd.push(sockets.map_err(io::Error::other)??);
    }
    Ok(crowd)
}

async fn disconnect(crowd: Vec<Vec<Socket>>) {
    for sockets in crowd {
        for socket in sockets {
            socket.close().await;
        }
    }
}

/// How many files this process may open.
fn open_files() -> io::Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).ok_or_else(|| io::Error::other("no limit"))?;
    Ok(soft.parse().unwrap_or(usize::MAX))
}

/// Starts this program again under the highest limit that is allowed, if that is enough.
fn raise_open_files(wanted: usize) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    if std::env::var_os("RAISED").is_some() {
        return Ok(());
    }
    let script = format!(
        "[ $(ulimit -Hn) = unlimited ] || [ $(ulimit -Hn) -ge {wanted} ] && ulimit -n {wanted}; exec \"$0\" \"$@\""
    );
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env("RAISED", "1");
    Err(command.exec())
}
