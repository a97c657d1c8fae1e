//! How much per second: token buckets whose clock is a parameter.
//!
//! A [`Rate`] is a setting, a [`Bucket`] what is left of it for one client. The arithmetic is exact, so that a limit of ten
//! per second is ten, whatever the intervals in which they come. Who is measured is decided elsewhere: one connection in
//! [`session`](crate::session), one address in [`gate`](crate::gate).

use std::{
    fmt,
    time::{Duration, Instant},
};

/// So much in a time, and so much at once.
///
/// ```
/// use engineio_proto::rate::Rate;
///
/// let rate = Rate::per_second(10).burst(50);
/// assert_eq!(format!("{rate:?}"), "10/s burst 50");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    period: Duration,
    burst: u64,
}

impl Rate {
    /// So much per second, and as much at once. Zero allows nothing but the burst.
    pub const fn per_second(amount: u64) -> Self {
        Self { amount, period: Duration::from_secs(1), burst: amount }
    }

    /// So much per minute, and as much at once.
    pub const fn per_minute(amount: u64) -> Self {
        Self { amount, period: Duration::from_secs(60), burst: amount }
    }

    /// How much may come at once, after a time of silence.
    #[must_use]
    pub const fn burst(mut self, burst: u64) -> Self {
        self.burst = burst;
        self
    }

    /// One unit in the scale of a bucket.
    fn unit(self) -> i128 {
        self.period.as_nanos() as i128
    }

    fn full(self) -> i128 {
        i128::from(self.burst) * self.unit()
    }

    /// How long it takes to gain so much.
    fn time_for(self, missing: i128) -> Duration {
        if missing <= 0 {
            return Duration::ZERO;
        }
        if self.amount == 0 {
            return FOREVER;
        }
        let amount = i128::from(self.amount);
        let nanos = missing.saturating_add(amount - 1) / amount;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(FOREVER)
    }
}

/// The longest wait that is told: a clock can be asked for it without overflow.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.period == Duration::from_secs(60) { "min" } else { "s" };
        write!(f, "{}/{unit} burst {}", self.amount, self.burst)
    }
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// In units of the rate's period, so that no gain is rounded. Below zero after [`Bucket::spend`].
    level: i128,
    at: Instant,
}

impl Bucket {
    /// A bucket from which nothing has been taken.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { level: rate.full(), at: now }
    }

    /// Takes so much, if it is there.
    ///
    /// # Errors
    /// How long to wait until it will be. Nothing is taken then.
    pub fn take(&mut self, rate: Rate, now: Instant, amount: u64) -> Result<(), Duration> {
        self.refill(rate, now);
        let cost = i128::from(amount) * rate.unit();
        if self.level < cost {
            return Err(rate.time_for(cost - self.level));
        }
        self.level -= cost;
        Ok(())
    }

    /// Takes so much, although it may not be there: what has come has come. Returns how long it takes until the debt is paid.
    pub fn spend(&mut self, rate: Rate, now: Instant, amount: u64) -> Duration {
        self.refill(rate, now);
        self.level = self.level.saturating_sub(i128::from(amount) * rate.unit());
        rate.time_for(-self.level)
    }

    /// Whether nothing is missing, so that a new bucket would be the same.
    pub fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let mut later = *self;
        later.refill(rate, now);
        later.level >= rate.full()
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        // A clock that steps back gives nothing, and takes nothing.
        let Some(passed) = now.checked_duration_since(self.at) else { return };
        let gain = (passed.as_nanos() as i128).saturating_mul(i128::from(rate.amount));
        self.level = self.level.saturating_add(gain).min(rate.full());
        self.at = now;
    }
}

/// How much one connection may send. Off by default; `sio serve` has it on where other machines reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficLimits {
    /// Packets of Engine.IO, and control frames of WebSocket. Default: 2,000 per second, 10,000 at once.
    pub packets: Rate,
    /// Bytes of messages, after decompression. Default: 8 MiB per second, 16 MiB at once.
    pub bytes: Rate,
    /// What happens to a client that sends more. Default: [`OverRate::Delay`].
    pub over: OverRate,
}

impl Default for TrafficLimits {
    fn default() -> Self {
        Self {
            packets: Rate::per_second(2_000).burst(10_000),
            bytes: Rate::per_second(8 << 20).burst(16 << 20),
            over: OverRate::Delay,
        }
    }
}

/// What happens to a client that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OverRate {
    /// It is read no faster than it may send: TCP does the rest, nothing is lost. Its ping deadline stands still meanwhile.
    #[default]
    Delay,
    /// Its session ends with `transport error`, described as `rate limit`.
    Disconnect,
}

/// What one connection has sent.
#[derive(Debug)]
pub(crate) struct Meter {
    packets: Bucket,
    bytes: Bucket,
}

impl Meter {
    pub(crate) fn new(limits: &TrafficLimits, now: Instant) -> Self {
        Self { packets: Bucket::full(limits.packets, now), bytes: Bucket::full(limits.bytes, now) }
    }

    /// One packet of so many bytes has come. Returns how long nothing more should.
    pub(crate) fn count(&mut self, limits: &TrafficLimits, now: Instant, bytes: usize) -> Duration {
        let packets = self.packets.spend(limits.packets, now, 1);
        packets.max(self.bytes.spend(limits.bytes, now, bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_and_then_the_rate_exactly() {
        let start = Instant::now();
        let rate = Rate::per_second(3).burst(5);
        let mut bucket = Bucket::full(rate, start);
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, start, 1), Ok(()));
        }
        // A third of a second, rounded up to the nanosecond.
        assert_eq!(bucket.take(rate, start, 1), Err(Duration::from_nanos(333_333_334)));
        // Asked every millisecond for ten seconds, three per second come through: thirty, not one more or less.
        let passed = (1..=10_000).filter(|ms| bucket.take(rate, after(start, *ms), 1).is_ok()).count();
        assert_eq!(passed, 30);
        assert!(!bucket.is_full(rate, after(start, 10_000)));
        assert!(bucket.is_full(rate, after(start, 12_000)));
        assert_eq!(bucket.take(rate, after(start, 60_000), 6), Err(Duration::from_nanos(333_333_334)));
        assert_eq!(bucket.take(rate, after(start, 60_000), 5), Ok(()));
    }

    #[test]
    fn a_debt_is_paid_before_anything_else() {
        let start = Instant::now();
        let rate = Rate::per_second(100);
        let mut bucket = Bucket::full(rate, start);
        assert_eq!(bucket.spend(rate, start, 100), Duration::ZERO);
        assert_eq!(bucket.spend(rate, start, 50), Duration::from_millis(500));
        assert_eq!(bucket.spend(rate, after(start, 250), 0), Duration::from_millis(250));
        assert_eq!(bucket.take(rate, after(start, 500), 1), Err(Duration::from_millis(10)));
        assert_eq!(bucket.take(rate, after(start, 510), 1), Ok(()));
    }

    #[test]
    fn extremes_neither_overflow_nor_wait_for_ever() {
        let start = Instant::now();
        let never = Rate::per_second(0);
        let mut bucket = Bucket::full(never, start);
        assert_eq!(bucket.take(never, start, 1), Err(FOREVER));
        assert_eq!(bucket.spend(never, start, u64::MAX), FOREVER);
        let all = Rate::per_minute(u64::MAX);
        let mut bucket = Bucket::full(all, start);
        assert_eq!(bucket.take(all, start, u64::MAX), Ok(()));
        for _ in 0..10 {
            let _ = bucket.spend(all, start + FOREVER, u64::MAX);
        }
        // A clock that steps back.
        let mut bucket = Bucket::full(Rate::per_second(1), after(start, 5_000));
        assert_eq!(bucket.take(Rate::per_second(1), start, 1), Ok(()));
        assert_eq!(bucket.take(Rate::per_second(1), start, 1), Err(Duration::from_secs(1)));
    }
}
