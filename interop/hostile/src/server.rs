//! One server process per profile of options.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Options of the interop server by profile.
const PROFILES: &[(&str, &[&str])] = &[
    ("default", &[]),
    ("no-eio3", &["--no-eio3"]),
    ("small", &["--max-payload", "1000"]),
    ("msgpack", &["--parser", "msgpack"]),
    ("cors", &["--cors", "https://ok.example"]),
    ("gate", &["--gate", "--hook-timeout", "500"]),
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
    ("wildcard", &["--cors", "https://*.x.com"]),
    ("idn", &["--cors", "https://xn--mller-kva.de"]),
    // Half a second is all that anything may take.
    ("impatient", &["--impatient", "500"]),
    ("alone", &["--impatient", "500"]),
    ("bound", &["--bind-address", "--trusted-proxy", "loopback"]),
    ("bound-direct", &["--bind-address", "--trusted-proxy", "10.0.0.0/8"]),
    ("rates", &["--packets", "500"]),
    ("rates-strict", &["--packets", "500", "--over-disconnect"]),
    ("recovery", &["--recovery", "120000"]),
];

/// A client that has gone without a word is noticed by its pings: 45 seconds with Node's defaults.
const SETTLED: Duration = Duration::from_secs(120);

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    pub(crate) resident_kib: u64,
    pub(crate) files: usize,
}

/// What the system says of a process; `None` where it does not say it in files.
fn footprint(pid: u32) -> Option<Footprint> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Footprint { resident_kib, files })
}

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

    /// Waits until nobody is left on any server: the sessions of the rows have timed out, their connections are closed.
    pub(crate) fn settle(&self) -> Result<(), String> {
        let addresses: Vec<_> = self.running().iter().map(|(name, server)| (name.clone(), server.address)).collect();
        let begin = Instant::now();
        for (profile, address) in addresses {
            // The connection that asks is one of them.
            while count(address, "sessions")? > 0 || count(address, "connections")? > 1 {
                if begin.elapsed() > SETTLED {
                    return Err(format!("{profile}: {} sessions are left", count(address, "sessions")?));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Events that are nobody's, by profile: each has to say who it was.
    pub(crate) fn events_of_nobody(&self) -> Result<Vec<(String, Vec<String>)>, String> {
        let addresses: Vec<_> = self.running().iter().map(|(name, server)| (name.clone(), server.address)).collect();
        addresses.into_iter().map(|(profile, address)| Ok((profile, events(address, "nobody")?))).collect()
    }

    /// What each server holds, by profile.
    pub(crate) fn footprints(&self) -> BTreeMap<String, Footprint> {
        let running = self.running();
        running.iter().filter_map(|(name, server)| Some((name.clone(), footprint(server.child.id())?))).collect()
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

/// The security events that our server has told of an address since it was asked last, one line of JSON each.
pub(crate) fn events(address: SocketAddr, of: &str) -> Result<Vec<String>, String> {
    let mut wire = crate::wire::Wire::open(address)?;
    wire.send(format!("DELETE /security/{of} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let answer = wire.response(false)?;
    match answer.status {
        200 => Ok(String::from_utf8_lossy(&answer.body).lines().map(str::to_owned).collect()),
        status => Err(format!("/security/{of}: {status}")),
    }
}

/// One of the numbers that our server tells of itself.
pub(crate) fn count(address: SocketAddr, name: &str) -> Result<u64, String> {
    let mut wire = crate::wire::Wire::open(address)?;
    wire.send(format!("GET /stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let body = wire.response(false)?.body;
    let text = String::from_utf8_lossy(&body).into_owned();
    let after = text.split_once(&format!("\"{name}\":")).map(|(_, after)| after);
    let digits = after.map(|after| after.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| format!("no `{name}` in {text}"))
}
