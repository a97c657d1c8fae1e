//! Medians, spreads and ratios, as a table for the terminal and for the committed summary.

use std::fmt::Write;

use serde_json::Value;

use crate::scenario::Scenario;
use crate::{Outcome, Result, peer};

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
pub fn peers(outcome: &Outcome) -> impl Iterator<Item = &'static str> {
    peer::ALL.iter().copied().filter(|peer| outcome.rounds.contains_key(*peer))
}

/// The first error of a peer.
fn failure<'a>(outcome: &'a Outcome, peer: &str) -> Option<&'a str> {
    outcome.rounds.get(peer)?.iter().find_map(|round| round.as_ref().err()).map(String::as_str)
}

/// What the ratios of a scenario refer to.
pub fn base(scenario: &Scenario) -> &'static str {
    match scenario.target() {
        Some(target) => target.of,
        None if scenario.suits("raw-tokio") => "raw-tokio",
        None => "socketioxide",
    }
}

/// The head and the rows of a scenario's table.
fn rows(scenario: &Scenario, outcome: &Outcome) -> (Vec<String>, Vec<Vec<String>>) {
    if scenario.is_memory() {
        let head = ["server", "KiB each", "spread", "KiB left", "anonymous", "opening s/M", ""];
        let rows = peers(outcome).map(|peer| {
            let one = |name| figures(outcome, peer, name);
            vec![
                peer.to_owned(),
                median(one("kib_each")),
                spread(one("kib_each")),
                median(one("left_kib_each")),
                format!("{} / {}", median(one("kib_each_anonymous")), median(one("left_kib_each_anonymous"))),
                median(one("opening_cpu_per_million")),
                failure(outcome, peer).unwrap_or("").to_owned(),
            ]
        });
        return (head.map(str::to_owned).to_vec(), rows.collect());
    }
    let base = base(scenario);
    let times = format!("x {base}");
    let head = ["server", "cpu s/M", "spread", &times, "spread", "per second", "p50 us", "p99 us", "user", ""];
    let rows = peers(outcome).map(|peer| {
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
    if let (Some(target), true) = (scenario.target(), peer.starts_with("ours"))
        && let Some(times) = ratio(outcome, peer, target.of, "cpu_per_million")
    {
        let verdict = if times.median <= target.times { "reached" } else { "MISSED" };
        notes.push(format!("target {} {verdict}", target.times));
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

fn short(figure: f64) -> String {
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
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of(vec![]), None);
    }
}
