//! A network namespace: another machine for a program, on a cable that can be cut.

use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::unexpected;

/// A network namespace with a cable to it, where the system lets one be made: Linux, as root. Gone when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    host: Ipv4Addr,
    ip: Ipv4Addr,
}

impl Network {
    /// Makes one.
    ///
    /// # Errors
    /// When this is not Linux, not root, or there is no `ip` (Debian: `iproute2`).
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = std::process::id().wrapping_mul(8).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed) % 8);
        let (name, cable) = (format!("sio-{id}"), format!("sio{}", id % 100_000));
        let [third, fourth] = [(id >> 6) as u8, ((id & 63) << 2) as u8];
        let (host, ip) = (Ipv4Addr::new(10, 199, third, fourth + 1), Ipv4Addr::new(10, 199, third, fourth + 2));
        ip_tool(&format!("netns add {name}"))?;
        let network = Self { name: name.clone(), host, ip };
        let inside = format!("{cable}i");
        ip_tool(&format!("link add {cable} type veth peer name {inside} netns {name}"))?;
        ip_tool(&format!("addr add {host}/30 dev {cable}"))?;
        ip_tool(&format!("link set {cable} up"))?;
        ip_tool(&format!("-n {name} addr add {ip}/30 dev {inside}"))?;
        ip_tool(&format!("-n {name} link set {inside} up"))?;
        Ok(network)
    }

    /// The address at the other end of the cable, where programs in there can listen.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The address at this end, from which they are reached.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// A program in there: its process is that of the program.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// What is sent from there vanishes, without a word to anybody.
    ///
    /// # Errors
    /// When it is cut already.
    pub fn cut(&self) -> io::Result<()> {
        ip_tool(&format!("-n {} route add blackhole {}/32", self.name, self.host))
    }

    /// It arrives again.
    ///
    /// # Errors
    /// When it is not cut.
    pub fn mend(&self) -> io::Result<()> {
        ip_tool(&format!("-n {} route del blackhole {}/32", self.name, self.host))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(ip_tool(&format!("netns del {}", self.name)));
    }
}

fn ip_tool(line: &str) -> io::Result<()> {
    let status = Command::new("ip").args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(unexpected(format!("`ip {line}` ended with {status}"))),
        Err(error) => Err(unexpected(format!("`ip {line}`: {error}"))),
    }
}
