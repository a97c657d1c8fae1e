//! Gives freed memory back to the operating system.
//!
//! When thousands of clients have left, everything that belonged to them is free, and yet the process stays as large as it
//! was: glibc returns the end of its heap only, and something small always lives near the end. Measured after 5,000 idle
//! WebSocket connections: 2.9 KiB for each of them remain, 0.2 KiB after one call of [`give_back`].
//!
//! The allocator is a program's choice, so this is for programs, not for libraries: `sio serve` uses it. It is of use on glibc's
//! allocator only.

/// Returns the free memory of glibc's allocator to the operating system. Returns whether there was any.
///
/// It takes about a millisecond per 10 MiB and holds the locks of the allocator meanwhile, so call it seldom. With another C
/// library it does nothing; with another allocator it finds nothing.
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        mod glibc {
            use std::ffi::c_int;

            // SAFETY: the declaration is the one of `malloc.h` (`int malloc_trim(size_t)`), and glibc is what this target links.
            // The function takes no pointer, touches free memory only and may be called from any thread at any time
            // (malloc_trim(3): MT-Safe), so it is safe to call.
            unsafe extern "C" {
                pub(super) safe fn malloc_trim(pad: usize) -> c_int;
            }
        }
        glibc::malloc_trim(0) != 0
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}

/// Tells when a wave of clients has left, from counts taken now and then.
#[derive(Debug, Default)]
pub struct Waves {
    most: usize,
}

impl Waves {
    /// Fewer that leave are not worth the call.
    const WORTH: usize = 500;

    /// Takes the next count. Returns whether at least half of the most clients since the last time, and 500, have left.
    pub fn has_left(&mut self, now: usize) -> bool {
        let left = self.most.saturating_sub(now);
        if left >= Self::WORTH && left >= self.most / 2 {
            self.most = now;
            return true;
        }
        self.most = self.most.max(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_half_of_the_clients_and_five_hundred() {
        check(&[(100, false), (0, false)]);
        check(&[(5_000, false), (3_000, false), (2_500, true), (2_400, false), (0, true), (0, false)]);
        check(&[(800, false), (301, false), (300, true), (900, false), (400, true)]);

        #[track_caller]
        fn check(counts: &[(usize, bool)]) {
            let mut waves = Waves::default();
            for (now, left) in counts {
                assert_eq!(waves.has_left(*now), *left, "at {now} of {counts:?}");
            }
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn freed_memory_leaves_the_process() {
        let blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 1_000]).collect();
        // Something lives at the end of the heap.
        let last = vec![1; 1_000];
        drop(blocks);
        let before = resident_kib();
        assert!(give_back());
        let given = before.saturating_sub(resident_kib());
        assert!(given > 10_000, "20,000 KiB were free, {given} KiB were given back");
        drop(last);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has this line");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number")
    }
}
