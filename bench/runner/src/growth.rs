//! How a cost grows: scenarios that differ in one dimension only, beside one another, and whether that is flat.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::scenario::{Dimension, Scenario};
use crate::table::{self, short};
use crate::{Outcome, Result};

/// How much more the dearest point may cost than the cheapest for the whole to be called flat. A system call that serves
/// one message on a quiet server and several on a busy one makes a third of that by itself.
const FLAT: f64 = 1.5;

/// What the growth of all servers is compared with: what the kernel and the caches make of it is in there too.
const BASE: &str = "raw-tokio";

/// Scenarios that differ in one dimension only, three or more of them, in its order.
pub struct Family<'a> {
    pub dimension: Dimension,
    pub name: String,
    pub points: Vec<(usize, &'a Outcome)>,
    /// The figure's name in the generator's line, and its unit.
    pub figure: (&'static str, &'static str),
}

pub fn families(outcomes: &[Outcome]) -> Result<Vec<Family<'_>>> {
    let mut families: BTreeMap<(Dimension, String), Family<'_>> = BTreeMap::new();
    for outcome in outcomes {
        let scenario = Scenario::parse(&outcome.scenario)?;
        for (dimension, name, at) in scenario.families() {
            let family = families.entry((dimension, name.clone())).or_insert_with(|| Family {
                dimension,
                name,
                points: Vec::new(),
                figure: scenario.figure(),
            });
            if family.points.iter().all(|(other, _)| *other != at) {
                family.points.push((at, outcome));
            }
        }
    }
    let mut families: Vec<Family<'_>> = families.into_values().filter(|family| family.points.len() >= 3).collect();
    families.iter_mut().for_each(|family| family.points.sort_by_key(|(at, _)| *at));
    Ok(families)
}

impl Family<'_> {
    /// The servers that were there at every point.
    pub fn peers(&self) -> Vec<&str> {
        let mut peers = table::peers(self.points[0].1);
        peers.retain(|peer| self.points.iter().all(|(_, outcome)| outcome.rounds.contains_key(*peer)));
        peers
    }

    /// What an operation costs a server at each point, as far as it has done it.
    pub fn costs(&self, peer: &str) -> Vec<(usize, f64)> {
        let cost = |outcome| Some(table::figures(outcome, peer, self.figure.0)?.median);
        self.points.iter().filter_map(|(at, outcome)| Some((*at, cost(outcome)?))).collect()
    }

    /// What should not grow: the cost itself, or, against bytes, that of a further KiB from 4 KiB on.
    fn level(&self, costs: &[(usize, f64)]) -> Vec<f64> {
        match self.dimension {
            Dimension::Bytes => costs
                .windows(2)
                .filter(|two| two[0].0 >= 4096)
                .map(|two| (two[1].1 - two[0].1) / ((two[1].0 - two[0].0) as f64 / 1024.0))
                .collect(),
            _ => costs.iter().map(|(_, cost)| *cost).collect(),
        }
    }
}

/// The largest as a multiple of the smallest, where all are above zero.
fn steepness(level: &[f64]) -> Option<f64> {
    let least = level.iter().copied().reduce(f64::min)?;
    let most = level.iter().copied().reduce(f64::max)?;
    (level.len() > 1 && least > 0.0).then(|| most / least)
}

/// All families as tables: a row for each server, a column for each point.
pub fn text(outcomes: &[Outcome]) -> Result<String> {
    let mut text = String::new();
    for family in families(outcomes)? {
        let base = family.costs(BASE);
        let _ = write!(text, "\n{} by {}: {}", family.name, family.dimension.name(), family.figure.1);
        if family.dimension == Dimension::Bytes {
            text.push_str("; flat or not is the cost of a further KiB");
        }
        let _ = write!(text, "\n  {:<16}", "server");
        for (at, _) in &family.points {
            let _ = write!(text, " {at:>9}");
        }
        let _ = writeln!(text, "   largest / smallest");
        for peer in family.peers() {
            let costs = family.costs(peer);
            let _ = write!(text, "  {peer:<16}");
            for (at, _) in &family.points {
                let cost = costs.iter().find(|(point, _)| point == at);
                let _ = write!(text, " {:>9}", cost.map_or_else(|| "-".to_owned(), |(_, cost)| short(*cost)));
            }
            if let Some(steepness) = steepness(&family.level(&costs)) {
                let verdict = if steepness <= FLAT { "flat" } else { "NOT FLAT" };
                let _ = write!(text, "   {steepness:.2} {verdict}");
            }
            let beside: Vec<f64> = costs
                .iter()
                .filter_map(|(at, cost)| Some(cost / base.iter().find(|(point, _)| point == at)?.1))
                .collect();
            if let (Some(steepness), true) = (steepness(&beside), peer != BASE && beside.len() == costs.len()) {
                let _ = write!(text, "; as a multiple of {BASE}: {steepness:.2}");
            }
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcomes(points: &[(&str, f64, f64)]) -> Vec<Outcome> {
        let round = |cost: f64| vec![Ok(json!({ "cpu_per_million": cost }))];
        points
            .iter()
            .map(|(name, base, ours)| Outcome {
                scenario: (*name).to_owned(),
                rounds: [(BASE.to_owned(), round(*base)), ("ours".to_owned(), round(*ours))].into_iter().collect(),
            })
            .collect()
    }

    #[test]
    fn a_cost_that_grows_with_the_connections_is_not_flat() {
        let outcomes = outcomes(&[("echo-16@1000", 4.0, 8.0), ("echo-16@10", 5.0, 5.0), ("echo-16@100", 4.0, 4.0)]);
        let text = text(&outcomes).expect("the names are good");
        let line = |peer: &str| text.lines().find(|line| line.trim_start().starts_with(peer)).unwrap_or("").to_owned();
        assert!(text.contains("echo-16 by connections"), "{text}");
        assert!(line("raw-tokio").ends_with("1.25 flat"), "{text}");
        assert!(line("ours").ends_with("2.00 NOT FLAT; as a multiple of raw-tokio: 2.00"), "{text}");
        assert!(line("server").find("10").is_some_and(|ten| ten < line("server").find("1000").unwrap_or(0)), "{text}");
    }

    #[test]
    fn against_bytes_a_further_kib_is_what_should_not_grow() {
        let points = [
            ("echo-16@50", 1.0, 1.0),
            ("echo-4k@50", 5.0, 5.0),
            ("echo-16k@50", 17.0, 17.0),
            ("echo-64k@50", 65.0, 161.0),
        ];
        let outcomes = outcomes(&points);
        let families = families(&outcomes).expect("the names are good");
        assert_eq!(families.len(), 1);
        let level = |peer| families[0].level(&families[0].costs(peer));
        assert_eq!(level(BASE), [1.0, 1.0]);
        assert_eq!(level("ours"), [1.0, 3.0]);
    }

    #[test]
    fn two_points_are_no_family() {
        assert_eq!(text(&outcomes(&[("echo-16@10", 1.0, 1.0), ("echo-16@100", 1.0, 1.0)])).expect("good names"), "");
    }
}
