//! Medians, spreads and ratios, as a table for the terminal and for the committed summary.

use std::fmt::Write;

use serde_json::Value;

use crate::scenario::Scenario;
use crate::{Outcome, Result, growth, peer};

/// Median, least and most of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.retain(|figure| figure.is_finite());
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 { figures[half] } else { (figures[half - 1] + figures[half]) / 2.0 };
        Some(Self { median, least, most })
    }
}

/// A figure of one line of the generator; `a.b` looks into `a`.
fn figure(line: &Value, name: &str) -> Option<f64> {
    name.split('.').try_fold(line, |value, key| value.get(key))?.as_f64()
}

/// A figure of a peer over all rounds.
pub fn figures(outcome: &Outcome, peer: &str, name: &str) -> Option<Spread> {
    let rounds = outcome.rounds.get(peer)?;
    Spread::of(rounds.iter().filter_map(|round| figure(round.as_ref().ok()?, name)).collect())
}

/// A figure of a peer as a multiple of another's in the same round.
pub fn ratio(outcome: &Outcome, peer: &str, of: &str, name: &str) -> Option<Spread> {
    let (mine, theirs) = (outcome.rounds.get(peer)?, outcome.rounds.get(of)?);
    let both = mine.iter().zip(theirs);
    let value = |round: &crate::Round| figure(round.as_ref().ok()?, name);
    Spread::of(both.filter_map(|(mine, theirs)| Some(value(mine)? / value(theirs)?)).collect())
}

/// The peers of an outcome in the usual order.
pub fn peers(outcome: &Outcome) -> Vec<&str> {
    let mut peers: Vec<&str> = outcome.rounds.keys().map(String::as_str).collect();
    peers.retain(|peer| peer::place(peer).is_some());
    peers.sort_by_key(|peer| peer::place(peer));
    peers
}

/// The first error of a peer.
fn failure<'a>(outcome: &'a Outcome, peer: &str) -> Option<&'a str> {
    outcome.rounds.get(peer)?.iter().find_map(|round| round.as_ref().err()).map(String::as_str)
}

/// What the ratios of a scenario refer to.
pub fn base(scenario: &Scenario) -> &'static str {
    match scenario.target() {
        Some(target) => target.of,
        None if scenario.adapter().is_some() => "node",
        None if scenario.suits("raw-tokio") => "raw-tokio",
        None if scenario.tls => "raw-tokio-lean",
        None => "socketioxide",
    }
}

/// The head and the rows of a scenario's table.
fn rows(scenario: &Scenario, outcome: &Outcome) -> (Vec<String>, Vec<Vec<String>>) {
    if scenario.is_memory() {
        let head =
            ["server", "KiB each", "spread", "KiB left", "KiB again", "anonymous", "kernel KiB", "opening s/M", ""];
        let rows = peers(outcome).into_iter().map(|peer| {
            let one = |name| figures(outcome, peer, name);
            vec![
                peer.to_owned(),
                median(one("kib_each")),
                spread(one("kib_each")),
                median(one("left_kib_each")),
                median(one("again_kib_each")),
                format!("{} / {}", median(one("kib_each_anonymous")), median(one("left_kib_each_anonymous"))),
                median(one("kernel.kib_each")),
                median(one("opening_cpu_per_million")),
                note(scenario, outcome, peer),
            ]
        });
        return (head.map(str::to_owned).to_vec(), rows.collect());
    }
    let base = base(scenario);
    let times = format!("x {base}");
    let head = ["server", "cpu s/M", "spread", &times, "spread", "per second", "p50 us", "p99 us", "user", ""];
    let rows = peers(outcome).into_iter().map(|peer| {
        let one = |name| figures(outcome, peer, name);
        let times = ratio(outcome, peer, base, "cpu_per_million");
        vec![
            peer.to_owned(),
            median(one("cpu_per_million")),
            spread(one("cpu_per_million")),
            median(times),
            spread(times),
            whole(one("rate")),
            whole(one("latency_us.p50").filter(|spread| spread.most > 1.0)),
            whole(one("latency_us.p99").filter(|spread| spread.most > 1.0)),
            one("server_user_share").map(|share| format!("{:.0}%", share.median * 100.0)).unwrap_or_default(),
            note(scenario, outcome, peer),
        ]
    });
    (head.map(str::to_owned).to_vec(), rows.collect())
}

/// What a reader must know beside the figures.
fn note(scenario: &Scenario, outcome: &Outcome, peer: &str) -> String {
    let mut notes = Vec::new();
    // The targets are for one worker.
    let is_ours = peer.starts_with("ours") && !peer::split(peer).1;
    if let (Some(target), true) = (scenario.target(), is_ours)
        && let Some(times) = ratio(outcome, peer, target.of, "cpu_per_million")
    {
        let verdict = if times.median <= target.times { "reached" } else { "MISSED" };
        notes.push(format!("target {} {verdict}", target.times));
    }
    for bound in scenario.bounds().iter().filter(|_| is_ours) {
        let value = match bound.of {
            Some(of) => ratio(outcome, peer, of, bound.figure),
            None => figures(outcome, peer, bound.figure),
        };
        if let Some(value) = value {
            let verdict = if value.median <= bound.most { "reached" } else { "MISSED" };
            let of = bound.of.map(|of| format!(" x {of}")).unwrap_or_default();
            notes.push(format!("{} {:.2}{of}, target {} {verdict}", bound.says, value.median, bound.most));
        }
    }
    let sum = |name| -> f64 {
        let rounds = outcome.rounds.get(peer).into_iter().flatten();
        rounds.filter_map(|round| figure(round.as_ref().ok()?, name)).sum()
    };
    let (late, operations) = (sum("out_of_order"), sum("operations"));
    if late > 0.0 {
        notes.push(format!("{:.0}% of acks out of order", late / operations.max(1.0) * 100.0));
    }
    let rounds = outcome.rounds.get(peer).into_iter().flatten();
    if rounds.filter_map(|round| round.as_ref().ok()?.get("load_bound")?.as_bool()).any(|bound| bound) {
        notes.push("the generator was the bottleneck".to_owned());
    }
    if let (Some(second), Some(broker)) =
        (figures(outcome, peer, "second_cpu_per_million"), figures(outcome, peer, "broker_cpu_per_million"))
    {
        notes.push(format!("receiving server {}, Redis {}", short(second.median), short(broker.median)));
    }
    if let (Some(cut), Some(slow)) = (figures(outcome, peer, "slow_cut"), figures(outcome, peer, "slow")) {
        let growth = figures(outcome, peer, "memory_growth_kib").map_or(0.0, |growth| growth.most);
        notes.push(format!("{:.0} of {:.0} slow ones cut, memory +{growth:.0} KiB", cut.median, slow.median));
    }
    notes.extend(failure(outcome, peer).map(|error| error.chars().take(100).collect()));
    notes.join("; ")
}

fn median(spread: Option<Spread>) -> String {
    spread.map(|spread| short(spread.median)).unwrap_or_else(|| "-".to_owned())
}

fn spread(spread: Option<Spread>) -> String {
    spread.map(|spread| format!("{}..{}", short(spread.least), short(spread.most))).unwrap_or_default()
}

fn whole(spread: Option<Spread>) -> String {
    spread.map(|spread| format!("{:.0}", spread.median)).unwrap_or_default()
}

pub fn short(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// A table for the terminal.
pub fn text(scenario: &Scenario, outcome: &Outcome) -> String {
    let (head, rows) = rows(scenario, outcome);
    let mut text = format!("\n{}: {}\n", scenario.name, scenario.says());
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in [&head].into_iter().chain(&rows) {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 || column == row.len() - 1 {
                write!(line, " {cell:<width$} ")
            } else {
                write!(line, " {cell:>width$} ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What a second worker makes of the cost of an operation, where servers ran with one and with two.
pub fn workers(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        for peer in peers(outcome) {
            let two = peer::doubled(peer);
            let Some(times) = ratio(outcome, &two, peer, "cpu_per_million") else { continue };
            if text.is_empty() {
                text.push_str("\ntwo workers beside one: CPU seconds per million\n");
                let _ = writeln!(
                    text,
                    "  {:<16} {:<16} {:>8} {:>8} {:>9}   spread",
                    "scenario", "server", "one", "two", "two / one"
                );
            }
            let cost = |name: &str| median(figures(outcome, name, "cpu_per_million"));
            let _ = writeln!(
                text,
                "  {:<16} {peer:<16} {:>8} {:>8} {:>9}   {}",
                outcome.scenario,
                cost(peer),
                cost(&two),
                short(times.median),
                spread(Some(times))
            );
        }
    }
    text
}

/// How much of the machine others used meanwhile.
pub fn noise(outcomes: &[Outcome]) -> String {
    let all = |name: &str| {
        let rounds = outcomes.iter().flat_map(|outcome| outcome.rounds.values().flatten());
        Spread::of(rounds.filter_map(|round| figure(round.as_ref().ok()?, name)).collect())
    };
    let (Some(others), Some(steal)) = (all("others_cpu_share"), all("steal_share")) else { return String::new() };
    format!(
        "noise: other processes took {:.2} of a core at the median ({:.2} to {:.2}), the host {:.2} (at most {:.2})",
        others.median, others.least, others.most, steal.median, steal.most
    )
}

/// The tables as Markdown.
pub fn markdown(outcomes: &[Outcome]) -> Result<String> {
    let rounds = outcomes.iter().flat_map(|outcome| outcome.rounds.values()).map(Vec::len).max().unwrap_or(0);
    let mut text = format!(
        "# Figures\n\nWritten by `cargo run --release -p runner -- --summary`; what they mean is in [README.md](README.md). \
         {rounds} interleaved rounds, medians, least and most.\n\n{}\n",
        noise(outcomes)
    );
    for (title, more) in [("Growth", growth::text(outcomes)?), ("Workers", workers(outcomes))] {
        if !more.is_empty() {
            let _ = write!(text, "\n## {title}\n\n```text\n{}\n```\n", more.trim());
        }
    }
    for outcome in outcomes {
        let scenario = Scenario::parse(&outcome.scenario)?;
        let (head, rows) = rows(&scenario, outcome);
        let _ = write!(text, "\n## {}\n\n{}\n\n", scenario.name, scenario.says());
        let _ = writeln!(text, "| {} |", head.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(head.len()));
        for row in rows {
            let _ = writeln!(text, "| {} |", row.join(" | ").replace('\n', " "));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let rounds = |figures: [f64; 3]| figures.map(|figure| Ok(json!({ "cpu_per_million": figure }))).to_vec();
        let outcome = Outcome {
            scenario: "echo-16x8".into(),
            rounds: [("ours".to_owned(), rounds([2.0, 6.0, 3.0])), ("raw-tokio".to_owned(), rounds([1.0, 2.0, 3.0]))]
                .into_iter()
                .collect(),
        };
        let ratio = ratio(&outcome, "ours", "raw-tokio", "cpu_per_million");
        assert_eq!(ratio, Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        let scenario = Scenario::parse("echo-16x8").expect("it is listed");
        assert!(text(&scenario, &outcome).contains("target 1.65 MISSED"));
    }

    #[test]
    fn a_second_worker_is_compared_round_by_round() {
        let rounds = |figures: [f64; 3]| figures.map(|figure| Ok(json!({ "cpu_per_million": figure }))).to_vec();
        let mut outcome = Outcome {
            scenario: "echo-16x8".into(),
            rounds: [("ours/2".to_owned(), rounds([2.0, 6.0, 3.0])), ("ours".to_owned(), rounds([1.0, 2.0, 3.0]))]
                .into_iter()
                .collect(),
        };
        let text = workers(std::slice::from_ref(&outcome));
        let line: Vec<&str> = text.lines().last().unwrap_or_default().split_whitespace().collect();
        assert_eq!(line, ["echo-16x8", "ours", "2.00", "3.00", "2.00", "1.00..3.00"]);
        assert_eq!(peers(&outcome), ["ours", "ours/2"]);
        outcome.rounds.remove("ours/2");
        assert_eq!(workers(&[outcome]), "");
    }

    #[test]
    fn a_missed_bound_is_said() {
        let rounds = |kib: f64| vec![Ok(json!({ "kib_each": kib, "left_kib_each": 0.2 }))];
        let outcome = Outcome {
            scenario: "idle@5000".into(),
            rounds: [("ours".to_owned(), rounds(4.5)), ("node".to_owned(), rounds(30.0))].into_iter().collect(),
        };
        let text = text(&Scenario::parse("idle@5000").expect("it is listed"), &outcome);
        assert!(text.contains("KiB 4.50, target 4 MISSED; KiB left 0.20, target 0.5 reached"), "{text}");
        assert_eq!(text.matches("target").count(), 2, "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of(vec![]), None);
    }
}
