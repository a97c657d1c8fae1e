//! One server process per profile of options.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// Options of the interop server by profile.
const PROFILES: &[(&str, &[&str])] = &[
    ("default", &[]),
    ("no-eio3", &["--no-eio3"]),
    ("small", &["--max-payload", "1000"]),
    ("msgpack", &["--parser", "msgpack"]),
    ("cors", &["--cors", "https://ok.example"]),
    ("gate", &["--gate"]),
    ("loopback", &["--loopback-hosts"]),
    ("cookie", &["--cookie", "io"]),
    ("polling-only", &["--transports", "polling"]),
    ("no-upgrades", &["--no-upgrades"]),
    // A connection that never asks for a namespace, a probe that goes no further, a pong that stays away.
    (
        "short",
        &["--ping-interval", "1000", "--ping-timeout", "800", "--upgrade-timeout", "1000", "--connect-timeout", "2000"],
    ),
    ("slow-ping", &["--upgrade-timeout", "1000", "--connect-timeout", "2000"]),
    ("deflate", &["--compress"]),
];

pub(crate) fn exists(profile: &str) -> bool {
    PROFILES.iter().any(|(name, _)| *name == profile)
}

/// The processes that run, by profile.
pub(crate) struct Servers {
    command: Vec<String>,
    /// Guards the table, and that a profile is started once.
    running: Mutex<BTreeMap<String, Server>>,
}

struct Server {
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    pub(crate) fn new(command: &[String]) -> Servers {
        Servers { command: command.to_vec(), running: Mutex::default() }
    }

    /// The address of the server with these options, started if it does not run.
    pub(crate) fn get(&self, profile: &str) -> Result<SocketAddr, String> {
        let mut running = self.running();
        if let Some(server) = running.get(profile) {
            return Ok(server.address);
        }
        let (_, options) =
            PROFILES.iter().find(|(name, _)| *name == profile).ok_or_else(|| format!("no profile `{profile}`"))?;
        let server = Server::start(&self.command, options)?;
        let address = server.address;
        running.insert(profile.to_owned(), server);
        Ok(address)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        self.running.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// What the server said, if it has ended.
    pub(crate) fn dead(&self, profile: &str) -> Option<String> {
        let mut running = self.running();
        let server = running.get_mut(profile)?;
        server.child.try_wait().ok().flatten()?;
        let said = server.said.lock().unwrap_or_else(|poison| poison.into_inner()).join("\n");
        running.remove(profile);
        Some(said)
    }

    pub(crate) fn end(&self) {
        let mut running = self.running();
        for server in running.values_mut() {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
        running.clear();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    fn start(command: &[String], options: &[&str]) -> Result<Server, String> {
        let (program, args) = command.split_first().ok_or("no program")?;
        let mut child = Command::new(program)
            .args(args)
            .args(options)
            .args(["--port", "0", "--exit-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(|poison| poison.into_inner());
                    if said.len() < 200 {
                        said.push(line);
                    }
                }
            });
        }
        let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let port = loop {
            match lines.next() {
                Some(Ok(line)) => {
                    if let Some(port) = line.strip_prefix("listening on ").and_then(|port| port.trim().parse().ok()) {
                        break port;
                    }
                }
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let said = said.lock().unwrap_or_else(|poison| poison.into_inner()).join("\n");
                    return Err(format!("{program} did not start: {said}"));
                }
            }
        };
        // Whatever it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Server { child, address: SocketAddr::from(([127, 0, 0, 1], port)), said })
    }
}
