//! Times as percentiles, and faults that are counted and of which the first few are kept.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Buckets per doubling: a figure is at most 3 % too high.
const PER_DOUBLING: usize = 32;
/// Times are counted in microseconds, up to some hours.
const DOUBLINGS: usize = 30;
const BUCKETS: usize = 2 * PER_DOUBLING + DOUBLINGS * PER_DOUBLING;

/// How long things took.
pub(crate) struct Times {
    buckets: Vec<AtomicU64>,
    longest: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), longest: AtomicU64::new(0) }
    }
}

impl Times {
    pub(crate) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    /// The time that `share` of a thousand did not exceed, in microseconds; 0 when there are none.
    pub(crate) fn per_mille(&self, share: u64) -> u64 {
        let wanted = (self.count() * share).div_ceil(1_000);
        let mut seen = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= wanted && seen > 0 {
                return upper(at).min(self.longest.load(Ordering::Relaxed));
            }
        }
        0
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        for (name, share) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)] {
            write!(f, "{name} {:.2} ms, ", ms(self.per_mille(share)))?;
        }
        write!(f, "longest {:.2} ms of {}", ms(self.longest.load(Ordering::Relaxed)), self.count())
    }
}

fn bucket(micros: u64) -> usize {
    let first = 2 * PER_DOUBLING as u64;
    if micros < first {
        return micros as usize;
    }
    let shift = micros.ilog2() - PER_DOUBLING.ilog2();
    let within = (micros >> shift) as usize - PER_DOUBLING;
    (shift as usize * PER_DOUBLING + PER_DOUBLING + within).min(BUCKETS - 1)
}

/// The largest time of a bucket.
fn upper(at: usize) -> u64 {
    if at < 2 * PER_DOUBLING {
        return at as u64;
    }
    let shift = at / PER_DOUBLING - 1;
    ((at % PER_DOUBLING + PER_DOUBLING + 1) as u64) << shift
}

/// What must not happen: how often it did, and the words of the first few.
#[derive(Default)]
pub(crate) struct Faults {
    count: AtomicU64,
    words: Mutex<Vec<String>>,
}

impl Faults {
    pub(crate) fn add(&self, what: String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() < 20 {
            println!("fault: {what}");
            words.push(what);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_time_and_is_narrow() {
        for micros in (0..1_000).chain((1_000..40_000_000).step_by(997)) {
            let upper = upper(bucket(micros));
            assert!(upper >= micros && upper <= micros + micros / 30 + 1, "{micros}: {upper}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let times = Times::default();
        assert_eq!(times.per_mille(990), 0);
        for micros in 1..=1_000 {
            times.record(Duration::from_micros(micros));
        }
        for (share, want) in [(500, 500), (990, 990), (1_000, 1_000)] {
            let got = times.per_mille(share);
            assert!((want..=want + want / 30 + 1).contains(&got), "{share}: {got}");
        }
    }
}
