//! One HTML page without scripts: bars for every scenario, lines where scenarios differ in one dimension only.

use std::fmt::Write;

use crate::growth::{self, Family};
use crate::scenario::Scenario;
use crate::{Outcome, Result, peer, table};

const WIDTH: f64 = 640.0;
const ROW: f64 = 22.0;
const LEFT: f64 = 130.0;

pub fn html(outcomes: &[Outcome]) -> Result<String> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>Server CPU per operation</title>\
         <style>body{font:14px system-ui;margin:2em auto;max-width:720px}text{font:12px system-ui}h2{font-size:16px}\
         .ours{fill:#2563a8}.raw{fill:#9aa3ad}.peer{fill:#d9822b}line{stroke:#222}polyline{fill:none;stroke-width:2}</style>\
         <h1>Server CPU per operation</h1><p>Medians; the thin line is the spread over the rounds.",
    );
    let _ = write!(page, "<p>{}", table::noise(outcomes));
    for outcome in outcomes {
        let scenario = Scenario::parse(&outcome.scenario)?;
        bars(&mut page, &scenario, outcome);
    }
    for family in growth::families(outcomes)? {
        lines(&mut page, &family);
    }
    Ok(page)
}

fn class(peer: &str) -> &'static str {
    match peer.split('-').next() {
        Some("ours") => "ours",
        Some("raw") => "raw",
        _ => "peer",
    }
}

fn bars(page: &mut String, scenario: &Scenario, outcome: &Outcome) {
    let (name, unit) = scenario.figure();
    let rows: Vec<_> = table::peers(outcome)
        .into_iter()
        .filter_map(|peer| Some((peer, table::figures(outcome, peer, name)?)))
        .collect();
    // The baselines and we decide the scale; a bar that is far longer is cut and says so by its number.
    let most = rows.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - LEFT - 80.0;
    let _ = write!(
        page,
        "<h2>{}</h2><p>{}; {unit}<svg width={WIDTH} height={}>",
        scenario.name,
        scenario.says(),
        ROW * rows.len() as f64 + 6.0
    );
    for (index, (peer, spread)) in rows.iter().enumerate() {
        let (y, scale) = (ROW * index as f64 + 3.0, room / most);
        let end = LEFT + spread.median * scale;
        let middle = y + ROW / 2.0 - 2.0;
        let _ = write!(
            page,
            "<text x={x} y={text} text-anchor=end>{peer}</text><rect class={class} x={LEFT} y={y} width={width:.1} height={height} />\
             <line x1={low:.1} x2={high:.1} y1={middle} y2={middle} /><text x={after:.1} y={text}>{median:.2}</text>",
            x = LEFT - 6.0,
            text = y + 13.0,
            class = class(peer),
            width = (spread.median * scale).max(1.0),
            height = ROW - 5.0,
            low = LEFT + spread.least * scale,
            high = LEFT + spread.most * scale,
            after = end.max(LEFT + spread.most * scale) + 6.0,
            median = spread.median,
        );
    }
    page.push_str("</svg>");
}

fn lines(page: &mut String, family: &Family<'_>) {
    const HEIGHT: f64 = 240.0;
    const COLOURS: [&str; 10] =
        ["#9aa3ad", "#6b7280", "#374151", "#2563a8", "#7c3aed", "#60a5fa", "#0f766e", "#d9822b", "#15803d", "#b91c1c"];
    let series: Vec<(&str, Vec<(f64, f64)>)> = family
        .peers()
        .into_iter()
        .map(|peer| (peer, family.costs(peer).into_iter().map(|(at, cost)| ((at as f64).log10(), cost)).collect()))
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points);
    let most = all().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let (from, to) = all().fold((f64::MAX, f64::MIN), |(from, to), point| (from.min(point.0), to.max(point.0)));
    let x = |value: f64| 50.0 + (value - from) / (to - from).max(1e-9) * (WIDTH - 200.0);
    let y = |value: f64| HEIGHT - 30.0 - value / most * (HEIGHT - 50.0);
    let _ = write!(
        page,
        "<h2>{} by {by}</h2><p>{}, against {by}<svg width={WIDTH} height={HEIGHT}>\
         <line x1=50 x2={right} y1={bottom} y2={bottom} /><text x=4 y=24>{most:.1}</text><text x=4 y={bottom}>0</text>",
        family.name,
        family.figure.1,
        by = family.dimension.name(),
        right = WIDTH - 150.0,
        bottom = HEIGHT - 30.0
    );
    for (point, _) in &family.points {
        let at = x((*point as f64).log10());
        let _ = write!(page, "<text x={at:.0} y={} text-anchor=middle>{point}</text>", HEIGHT - 12.0);
    }
    for (index, (peer, points)) in series.iter().enumerate() {
        let colour = COLOURS[peer::place(peer).map_or(0, |(place, _)| place) % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = write!(
            page,
            "<polyline stroke='{colour}' points='{}' /><text x={} y={} style='fill:{colour}'>{peer}</text>",
            path.join(" "),
            WIDTH - 140.0,
            20.0 + 18.0 * index as f64
        );
    }
    page.push_str("</svg>");
}
