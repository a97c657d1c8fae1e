//! The catalogue: one TOML file per group, `rows/*.toml`.
//!
//! A row has an `id` of the catalogue, `steps`, and if need be a `profile` (options of the server), a `session` (what is
//! there before the first step) and `each` (the row runs once per item, which stands for `{it}`). `js = "other"` says
//! that the npm server reacts differently on purpose or by fault; all other rows are run against it too.
//!
//! `events` are the security events that our server tells of it, each as `kind reason`, in any order: these and no others.
//! Behind the number of an item, `3: kind reason`, they are those of this item instead of the row's. `* kind reason` is
//! any number of them. A row that is refused and has no events says in `quiet` why not.

use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    steps: Vec<String>,
    #[serde(default)]
    session: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    each: Vec<String>,
    #[serde(default)]
    js: String,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    quiet: String,
    /// For the reader.
    #[serde(default)]
    #[allow(dead_code)]
    note: String,
}

/// One run of one row.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) group: String,
    pub(crate) id: String,
    /// Which item of `each`, from 1; 0 if there is none.
    pub(crate) item: usize,
    pub(crate) session: String,
    pub(crate) profile: String,
    pub(crate) steps: Vec<String>,
    /// The npm server reacts as we do.
    pub(crate) same: bool,
    /// What our server tells of it.
    pub(crate) events: Vec<String>,
    /// Why it tells nothing, though something is refused.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) quiet: String,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        match self.item {
            0 => self.id.clone(),
            item => format!("{}#{item}", self.id),
        }
    }
}

/// Reads all groups, in the order of their file names.
pub(crate) fn load() -> Result<Vec<Case>, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rows");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let group = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        cases.extend(parse(&group, &text).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(cases)
}

fn parse(group: &str, text: &str) -> Result<Vec<Case>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for row in file.row {
        if !matches!(row.js.as_str(), "" | "other") {
            return Err(format!("{}: js = {:?}", row.id, row.js));
        }
        let case = |item: usize, it: &str| Case {
            group: group.to_owned(),
            id: row.id.clone(),
            item,
            session: row.session.clone(),
            profile: if row.profile.is_empty() { "default".to_owned() } else { row.profile.clone() },
            steps: row.steps.iter().map(|step| step.replace("{it}", it)).collect(),
            same: row.js.is_empty(),
            events: events_of(&row.events, item),
            quiet: row.quiet.clone(),
        };
        if row.each.is_empty() {
            cases.push(case(0, ""));
        }
        cases.extend(row.each.iter().enumerate().map(|(at, it)| case(at + 1, it)));
    }
    Ok(cases)
}

/// The events of an item: its own, or else those without a number. `3:` alone says that it has none.
fn events_of(events: &[String], item: usize) -> Vec<String> {
    let numbered = |event: &String| {
        let (number, what) = event.split_once(':')?;
        Some((number.parse::<usize>().ok()?, what.trim().to_owned()))
    };
    let own: Vec<String> =
        events.iter().filter_map(numbered).filter(|(at, _)| *at == item).map(|(_, what)| what).collect();
    match own.is_empty() {
        true => events.iter().filter(|event| numbered(event).is_none()).cloned().collect(),
        false => own.into_iter().filter(|what| !what.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_catalogue_can_be_read_and_run() {
        let cases = load().unwrap();
        assert!(cases.len() > 200, "{}", cases.len());
        for case in &cases {
            crate::steps::check(case).unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        }
    }

    #[test]
    fn a_row_runs_once_per_item() {
        let cases = parse("H", "[[row]]\nid = 'H1'\neach = ['a', 'b']\nsteps = ['GET /{it}', '404']").unwrap();
        assert_eq!(cases.iter().map(Case::name).collect::<Vec<_>>(), ["H1#1", "H1#2"]);
        assert_eq!(cases[1].steps[0], "GET /b");
    }

    #[test]
    fn what_is_refused_is_told_of_or_says_why_not() {
        let wrong: Vec<String> = load()
            .unwrap()
            .into_iter()
            .filter(|case| {
                let refused = case.steps.iter().any(|step| crate::steps::is_refusal(step));
                let quiet = case.events.is_empty() && case.quiet.len() < 10;
                (refused && quiet) || (!case.events.is_empty() && !case.quiet.is_empty())
            })
            .map(|case| case.name())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn an_item_has_its_own_events_or_those_of_the_row() {
        let events = ["a b", "2: c d", "3:"].map(str::to_owned);
        assert_eq!(events_of(&events, 1), ["a b"]);
        assert_eq!(events_of(&events, 2), ["c d"]);
        assert_eq!(events_of(&events, 3), [""; 0]);
    }
}
