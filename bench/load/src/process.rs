//! What the kernel has counted for a process: CPU time and memory.

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

/// CPU seconds that all cores have spent so far: busy, and taken away by the host.
pub fn machine() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let of = |index: usize| fields.get(index).copied().unwrap_or(0.0) / TICKS;
    // user, nice, system, idle, iowait, irq, softirq, steal
    (of(0) + of(1) + of(2) + of(5) + of(6), of(7))
}
