//! What the kernel has counted for a process: CPU time and memory; and what it keeps for sockets itself.

use std::collections::BTreeMap;
use std::fs;

/// CPU time of a process so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// All its threads together, in seconds, to the scheduler's nanosecond.
    pub total: f64,
    /// Its own code, in seconds, in ticks of 10 ms.
    pub user: f64,
    /// The kernel's code on its behalf, in seconds, in ticks of 10 ms.
    pub system: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { total: self.total - before.total, user: self.user - before.user, system: self.system - before.system }
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { total: self.total + other.total, user: self.user + other.user, system: self.system + other.system }
    }
}

/// Ticks per second of `/proc/PID/stat`, the same on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// CPU time of a process, from `schedstat` of its threads; where that is not to be had, from `stat`.
pub fn cpu(pid: u32) -> Cpu {
    let (user, system) = ticks(pid).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos: f64 = threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        })
        .sum();
    Cpu { total: if nanos > 0.0 { nanos / 1e9 } else { user + system }, user, system }
}

fn ticks(pid: u32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? / TICKS, next()? / TICKS))
}

/// Resident memory of a process in KiB: all of it, and what belongs to no file.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (field("VmRSS:").unwrap_or(0.0), field("RssAnon:").unwrap_or(0.0))
}

/// What the kernel keeps for all sockets of this machine, in no process's memory.
#[derive(Debug, Default)]
pub struct Kernel {
    /// TCP sockets that are open, those of both ends.
    pub sockets: f64,
    /// KiB of buffers with data in them.
    pub buffers: f64,
    /// Objects and KiB of the caches that a socket has a part in. Empty where only root may look.
    pub caches: BTreeMap<&'static str, (f64, f64)>,
}

/// The kernel's caches that an open socket in an epoll set has an object of.
const CACHES: [&str; 8] =
    ["TCP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "eventpoll_pwq", "ep_head", "tcp_bind2_bucket"];

const PAGE_KIB: f64 = 4.0;

pub fn kernel() -> Kernel {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    kernel_of(&text("/proc/net/sockstat"), &text("/proc/slabinfo"))
}

fn kernel_of(sockstat: &str, slabinfo: &str) -> Kernel {
    let tcp: Vec<&str> =
        sockstat.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap_or("").split_whitespace().collect();
    let of = |name: &str| -> f64 {
        let pair = tcp.chunks_exact(2).find(|pair| pair[0] == name);
        pair.and_then(|pair| pair[1].parse().ok()).unwrap_or(0.0)
    };
    let caches = slabinfo.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = CACHES.into_iter().find(|name| words.first() == Some(name))?;
        let number = |index: usize| words.get(index)?.parse::<f64>().ok();
        // name, active objects, objects, object size, objects per slab, pages per slab, …, `slabdata`, active slabs, slabs
        Some((name, (number(1)?, number(14)? * number(5)? * PAGE_KIB)))
    });
    Kernel { sockets: of("inuse"), buffers: of("mem") * PAGE_KIB, caches: caches.collect() }
}

/// CPU seconds that all cores have spent so far: busy, and taken away by the host.
pub fn machine() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let of = |index: usize| fields.get(index).copied().unwrap_or(0.0) / TICKS;
    // user, nice, system, idle, iowait, irq, softirq, steal
    (of(0) + of(1) + of(2) + of(5) + of(6), of(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_keeps_is_read_from_its_tables() {
        let sockstat = "sockets: used 21\nTCP: inuse 7 orphan 0 tw 382 alloc 9 mem 3\nUDP: inuse 1 mem 2\n";
        let slabinfo = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables ...\n\
            TCPv6  26  26 2496 13 8 : tunables 0 0 0 : slabdata 2 2 0\n\
            TCP    65 117 2368 13 8 : tunables 0 0 0 : slabdata 9 9 0\n";
        let kernel = kernel_of(sockstat, slabinfo);
        assert_eq!((kernel.sockets, kernel.buffers), (7.0, 12.0));
        assert_eq!(kernel.caches, BTreeMap::from([("TCP", (65.0, 288.0))]));
        assert_eq!(kernel_of("", "").sockets, 0.0);
    }
}
