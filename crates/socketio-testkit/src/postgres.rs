//! A PostgreSQL server for a test: in a temporary folder, on a socket of its own, gone with the test.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{Network, unexpected};

/// How long it may take to start or to stop, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server that listens on a socket in a temporary folder. It is killed and its folder removed when this is
/// dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    dir: PathBuf,
    user: Option<(u32, u32)>,
    server: Option<Child>,
    /// Where it listens to TLS, beside its socket.
    tls: Option<u16>,
    /// Where it runs, and listens beside its socket.
    network: Option<Network>,
}

/// How a database listens to TLS, in PEM.
#[derive(Debug)]
pub struct DatabaseTls<'a> {
    /// What it shows.
    pub certificate: &'a str,
    /// The key of its certificate.
    pub key: &'a str,
    /// Whose certificates it takes from clients.
    pub authority: &'a str,
    /// Who may come over TLS and how: lines of `pg_hba.conf`.
    pub rules: &'a str,
}

impl Postgres {
    /// Makes a database and starts its server.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_on(None)
    }

    /// Makes a database and starts its server on another machine, so to say: it listens to the address of that network too,
    /// and takes everybody who comes over the cable.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start_in(network: Network) -> io::Result<Self> {
        Self::start_on(Some(network))
    }

    fn start_on(network: Option<Network>) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sio-pg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        let mut postgres = Self { programs: programs()?, dir, user: user()?, server: None, tls: None, network };
        if let Some((user, group)) = postgres.user {
            std::os::unix::fs::chown(&postgres.dir, Some(user), Some(group))?;
        }
        let data = postgres.dir.join("data");
        let made = postgres
            .command("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(data)
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err(unexpected("initdb failed"));
        }
        if let Some(network) = &postgres.network {
            let rules = format!("local all all trust\nhost all all {}/32 trust\n", network.host());
            std::fs::write(postgres.dir.join("data/pg_hba.conf"), rules)?;
        }
        postgres.resume()?;
        Ok(postgres)
    }

    /// Starts the server again, so that it listens to a port of 127.0.0.1 as well, which is returned.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume_with_tls(&mut self, tls: &DatabaseTls<'_>) -> io::Result<u16> {
        let rules = format!("local all all trust\n{}\n", tls.rules);
        let files = [
            ("server.crt", tls.certificate),
            ("server.key", tls.key),
            ("root.crt", tls.authority),
            ("pg_hba.conf", &rules),
        ];
        for (name, content) in files {
            let path = self.dir.join("data").join(name);
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            if let Some((user, group)) = self.user {
                std::os::unix::fs::chown(&path, Some(user), Some(group))?;
            }
        }
        self.kill()?;
        for _ in 0..10 {
            // Somebody else may take the port in between: then another one is tried.
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            self.tls = Some(port);
            match self.resume() {
                Err(_) => self.kill()?,
                Ok(()) => return Ok(port),
            }
        }
        Err(unexpected("the database does not start with TLS"))
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        if let Some(network) = &self.network {
            return format!("postgresql://postgres@{}/postgres", network.ip());
        }
        format!("postgresql:///postgres?host={}&user=postgres", self.dir.display())
    }

    /// The folder of its socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it runs, if not here.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The process, for signals.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Starts the server again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume(&mut self) -> io::Result<()> {
        let mut command = self.command_in(self.network.as_ref(), "postgres");
        let server = command
            .arg("-D")
            .arg(self.dir.join("data"))
            .arg("-k")
            .arg(&self.dir)
            .args(["-c", "fsync=off", "-c", "max_connections=60"])
            .args(["-c", "log_min_messages=fatal", "-c", "shared_buffers=16MB"])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        let listen = self.network.as_ref().map_or_else(String::new, |network| network.ip().to_string());
        let server = match self.tls {
            None => server.args(["-c", &format!("listen_addresses={listen}")]),
            Some(port) => server.args(["-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()]).args([
                "-c",
                "ssl=on",
                "-c",
                "ssl_ca_file=root.crt",
            ]),
        };
        let server = server.spawn()?;
        self.server = Some(server);
        let until = Instant::now() + PATIENCE;
        loop {
            if self.sql("SELECT 1").is_ok() {
                return Ok(());
            }
            let ended = self.server.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > until {
                return Err(unexpected("the database does not start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let children = children_of(server.id());
        server.kill()?;
        server.wait()?;
        // Its children notice that it is gone, and a new one does not start while they live.
        let until = Instant::now() + PATIENCE;
        while children.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Tells the server to end, which does not wait for clients, and waits for it.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut server) = self.server.take() {
            Command::new("kill").arg("-INT").arg(server.id().to_string()).status()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Sends the server and its children a signal: `STOP` or `CONT`.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let mut pids = children_of(pid);
        pids.push(pid);
        let pids = pids.iter().map(u32::to_string);
        // A child may have ended meanwhile.
        Command::new("kill").arg(format!("-{signal}")).args(pids).stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// Runs SQL and returns what it prints.
    ///
    /// # Errors
    /// When the server is not there, or refuses.
    pub fn sql(&self, sql: &str) -> io::Result<String> {
        let mut client = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(&self.dir)
            .args(["-p", &self.tls.unwrap_or(5432).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = client.stdin.take() {
            // One that has ended already says why.
            drop(input.write_all(sql.as_bytes()));
        }
        let output = client.wait_with_output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(unexpected(String::from_utf8_lossy(&output.stderr)))
        }
    }

    fn command(&self, program: &str) -> Command {
        self.command_in(None, program)
    }

    fn command_in(&self, network: Option<&Network>, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match (network, self.user) {
            (None, user) => {
                let mut command = Command::new(program);
                if let Some((user, group)) = user {
                    command.uid(user).gid(group);
                }
                command
            }
            // Only root enters a network; the program is not to be root there.
            (Some(network), user) => {
                let mut command = network.command("setpriv");
                if let Some((user, group)) = user {
                    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
                }
                command.arg(program);
                command
            }
        };
        command.current_dir(&self.dir).stdin(Stdio::null()).env_remove("PGDATA");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A stopped one would not end.
        drop(self.signal("CONT"));
        drop(self.kill());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Debian keeps the programs away from the path.
fn programs() -> io::Result<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        found.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    found.sort();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&paths));
    let all = |dir: &&PathBuf| ["initdb", "postgres", "psql"].iter().all(|program| dir.join(program).is_file());
    let missing = || unexpected("PostgreSQL is not installed; on Debian: apt-get install postgresql");
    found.iter().find(all).cloned().ok_or_else(missing)
}

/// PostgreSQL refuses to run as root.
fn user() -> io::Result<Option<(u32, u32)>> {
    let me = std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me))?;
    if me != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        let fields: Vec<_> = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).collect();
        let found = fields.iter().find(|fields| fields.first() == Some(&name))?;
        Some((found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).map(Some).ok_or_else(|| unexpected("no user to run PostgreSQL as"))
}

fn children_of(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
