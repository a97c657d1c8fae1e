//! Counts of tests, read from what the runners print, and the summary at the end.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use crate::Result;

/// What a suite did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Count {
    /// A suite that broke before it could count counts as one failure, never as none.
    pub(crate) fn at_least_one_failure_unless(mut self, success: bool) -> Count {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

/// A command that is one suite, or a few: runs it, prints the summary, and tells whether nothing failed.
pub(crate) fn alone(run: impl FnOnce(&mut Report) -> Result<()>) -> Result<bool> {
    let begin = Instant::now();
    let mut report = Report::default();
    run(&mut report)?;
    report.print(begin.elapsed());
    Ok(report.total().failed == 0)
}

/// Adds up every summary line of cargo test, cargo nextest, and the plain line `N passed, N failed`.
///
/// nextest shows what a failed test printed, the summary of its own process included: where nextest has spoken, only its
/// line counts.
pub(crate) fn count(lines: &[String]) -> Count {
    let mut total = Count::default();
    let lines: Vec<String> = lines.iter().map(|line| without_colour(line).trim().to_owned()).collect();
    let nextest = lines.iter().any(|line| line.starts_with("Summary ["));
    for line in &lines {
        if line.starts_with("Summary [") || (!nextest && (line.starts_with("test result: ") || is_plain(line))) {
            total += Count {
                passed: number_before(line, "passed"),
                failed: number_before(line, "failed") + number_before(line, "timed out"),
                skipped: number_before(line, "ignored") + number_before(line, "skipped"),
            };
        }
    }
    total
}

/// `N passed, N failed` with an optional `, N skipped` and nothing else.
fn is_plain(line: &str) -> bool {
    let mut parts = line.split(", ");
    let number = |part: Option<&str>, word: &str| {
        part.and_then(|part| part.strip_suffix(word)).is_some_and(|n| n.trim_end().parse::<usize>().is_ok())
    };
    number(parts.next(), " passed")
        && number(parts.next(), " failed")
        && parts.next().is_none_or(|part| number(Some(part), " skipped"))
        && parts.next().is_none()
}

fn number_before(line: &str, word: &str) -> usize {
    line.split([',', ';', '.', ':'])
        // `6 passed (1 slow)`: what stands in parentheses belongs to the number before it.
        .map(|part| part.split_once(" (").map_or(part, |(part, _)| part))
        .filter_map(|part| part.trim().strip_suffix(word))
        .filter_map(|part| part.trim().rsplit(' ').next()?.parse::<usize>().ok())
        .next()
        .unwrap_or(0)
}

/// Terminal colours stand between the words that we look for.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The suites of one run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(String, Count, Duration, Option<String>)>,
}

impl Report {
    pub(crate) fn add(&mut self, suite: &str, count: Count, took: Duration) {
        self.rows.push((suite.to_owned(), count, took, None));
    }

    /// A suite that did not run, and why.
    pub(crate) fn left_out(&mut self, suite: &str, why: &str) {
        self.rows.push((suite.to_owned(), Count::default(), Duration::ZERO, Some(why.to_owned())));
    }

    pub(crate) fn total(&self) -> Count {
        let mut total = Count::default();
        for (_, count, _, _) in &self.rows {
            total += *count;
        }
        total
    }

    /// Prints the table and, as the very last line, the plain total.
    pub(crate) fn print(&self, took: Duration) {
        println!("\n{:<28} {:>7} {:>7} {:>7} {:>9}", "suite", "passed", "failed", "skipped", "seconds");
        for (suite, count, took, why) in &self.rows {
            match why {
                Some(why) => println!("{suite:<28} not run: {why}"),
                None => println!(
                    "{suite:<28} {:>7} {:>7} {:>7} {:>9.1}",
                    count.passed,
                    count.failed,
                    count.skipped,
                    took.as_secs_f64()
                ),
            }
        }
        let total = self.total();
        println!(
            "     Summary [{:>8.3}s] {} tests run: {} passed, {} failed, {} skipped",
            took.as_secs_f64(),
            total.passed + total.failed,
            total.passed,
            total.failed,
            total.skipped
        );
        println!("{} passed, {} failed", total.passed, total.failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_every_runner_are_counted() {
        check(
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.5s",
            12,
            0,
            3,
        );
        check("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 1, 2, 0);
        check("     Summary [   0.005s] 7 tests run: 6 passed (1 slow), 1 failed, 2 skipped", 6, 1, 2);
        check("     Summary [   0.005s] 7 tests run: 6 passed, 1 failed, 2 skipped", 6, 1, 2);
        check("     Summary [   9.005s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped", 1, 2, 0);
        check(
            "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m5\u{1b}[0m tests run: \u{1b}[1m5\u{1b}[0m passed, 0 skipped",
            5,
            0,
            0,
        );
        check("14 passed, 1 failed", 14, 1, 0);
        check("14 passed, 1 failed, 2 skipped", 14, 1, 2);
        check("the other runner said 14 passed, 1 failed", 0, 0, 0);
        check("# 14 passed", 0, 0, 0);

        #[track_caller]
        fn check(line: &str, passed: usize, failed: usize, skipped: usize) {
            assert_eq!(count(&[line.to_owned()]), Count { passed, failed, skipped }, "line: {line:?}");
        }
    }

    #[test]
    fn a_failed_test_is_counted_once() {
        let lines = [
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "     Summary [ 1.0s] 2 tests run: 1 passed, 1 failed, 0 skipped",
        ];
        assert_eq!(count(&lines.map(str::to_owned)), Count { passed: 1, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_suite_that_breaks_silently_counts_as_failed() {
        assert_eq!(Count::default().at_least_one_failure_unless(false).failed, 1);
        assert_eq!(Count::default().at_least_one_failure_unless(true).failed, 0);
    }
}
