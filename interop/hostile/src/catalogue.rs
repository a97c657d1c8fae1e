//! `catalogue.toml` is true: every id has a row, a test or a reason, and what it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    groups: BTreeMap<String, String>,
    elsewhere: BTreeMap<String, String>,
    published: Vec<Published>,
    dependencies: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    ids: Vec<String>,
    what: String,
    shown: Vec<String>,
}

fn load() -> Catalogue {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("the file is there")).expect("TOML")
}

/// The ids of a row: `W45-W47` are three, `U03-second` is one.
fn ids_of(row: &str, groups: &BTreeMap<String, String>) -> Vec<String> {
    // The longest group first: `CR1` is of CR, and `P3-01` of P3.
    let mut names: Vec<&String> = groups.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let Some((group, rest)) = names.iter().find_map(|name| {
        let rest = row.strip_prefix(name.as_str())?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some((name.as_str(), rest))
    }) else {
        return Vec::new();
    };
    let (first, rest) = number(rest);
    let range = rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(group));
    let range = range.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let last = range.map_or(first.clone(), |rest| number(rest).0);
    span(&first, &last).into_iter().map(|number| format!("{group}{number}")).collect()
}

fn number(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.to_owned(), rest)
}

fn span(first: &str, last: &str) -> Vec<String> {
    let (from, to): (u32, u32) = (first.parse().expect("digits"), last.parse().expect("digits"));
    (from..=to).map(|at| format!("{at:0width$}", width = first.len())).collect()
}

fn all(groups: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (group, spans) in groups {
        for part in spans.split(' ') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ids.extend(span(first, last).into_iter().map(|number| format!("{group}{number}")));
        }
    }
    ids
}

/// Complains about an entry that names nothing.
fn check(entry: &str, rows: &BTreeSet<String>) -> Result<(), String> {
    let (kind, rest) = entry.split_once(' ').unwrap_or((entry, ""));
    match kind {
        "row" if rows.contains(rest) => Ok(()),
        "row" => Err(format!("there is no row {rest}")),
        "because" if rest.len() > 20 => Ok(()),
        "test" => {
            let (file, name) = rest.split_once(' ').ok_or("`test FILE NAME`")?;
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
            let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
            if text.contains(&format!("fn {name}(")) { Ok(()) } else { Err(format!("{file} has no test `{name}`")) }
        }
        _ => Err(format!("`{entry}` says nothing")),
    }
}

fn rows() -> BTreeSet<String> {
    crate::rows::load().expect("the rows can be read").into_iter().map(|case| case.id).collect()
}

#[test]
fn every_id_has_a_row_a_test_or_a_reason() {
    let Catalogue { groups, elsewhere, .. } = load();
    let (ids, rows) = (all(&groups), rows());
    assert!(ids.len() > 250, "{}", ids.len());
    let covered: BTreeSet<String> = rows.iter().flat_map(|row| ids_of(row, &groups)).collect();
    let missing: Vec<_> = ids.iter().filter(|id| !covered.contains(*id) && !elsewhere.contains_key(*id)).collect();
    assert!(missing.is_empty(), "nothing shows {missing:?}");
    let unknown: Vec<_> = elsewhere.keys().filter(|id| !ids.contains(*id)).collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
    let wrong: Vec<_> = elsewhere.iter().filter_map(|(id, entry)| Some((id, check(entry, &rows).err()?))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_published_vulnerability_has_what_shows_that_it_is_not_ours() {
    let Catalogue { published, .. } = load();
    let rows = rows();
    let mut seen = BTreeSet::new();
    for Published { ids, what, shown } in &published {
        assert!(!ids.is_empty() && !shown.is_empty() && what.len() > 20, "{ids:?}");
        for id in ids {
            // What has no number has a name.
            let known = ["CVE-", "GHSA-", "RUSTSEC-", "PYSEC-"].iter().any(|kind| id.starts_with(kind));
            assert!((known || id.contains(' ')) && seen.insert(id.clone()), "{id}");
        }
        for entry in shown {
            check(entry, &rows).unwrap_or_else(|error| panic!("{ids:?}: {error}"));
        }
    }
    assert!(seen.len() > 60, "{}", seen.len());
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

fn version(text: &str) -> Vec<u64> {
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|part| part.parse().expect("a number")).collect()
}

/// The locked crates that are older than the first good version, as text.
fn too_old(lock: &str, floors: &BTreeMap<String, String>) -> Vec<String> {
    let lock: Lock = toml::from_str(lock).expect("a lock file");
    let old = lock
        .package
        .iter()
        .filter(|locked| floors.get(&locked.name).is_some_and(|floor| version(&locked.version) < version(floor)));
    old.map(|locked| format!("{} {}", locked.name, locked.version)).collect()
}

#[test]
fn no_dependency_is_older_than_the_fix_of_what_was_published_about_it() {
    let floors = load().dependencies;
    for file in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let lock = std::fs::read_to_string(path).expect("the lock file");
        assert_eq!(too_old(&lock, &floors), [""; 0], "{file}");
    }
    let old = "[[package]]\nname = \"bytes\"\nversion = \"1.9.0\"\n[[package]]\nname = \"h2\"\nversion = \"0.4.16\"\n";
    assert_eq!(too_old(old, &floors), ["bytes 1.9.0"]);
}

#[test]
fn rows_name_one_id_or_several() {
    let groups = load().groups;
    let ids = |row| ids_of(row, &groups);
    assert_eq!(ids("W45-W47"), ["W45", "W46", "W47"]);
    assert_eq!(ids("U03-second"), ["U03"]);
    assert_eq!(ids("P4-02-before"), ["P4-02"]);
    assert_eq!(ids("CR1"), ["CR1"]);
    assert_eq!(ids("S24-v4"), ["S24"]);
    assert_eq!(ids("X1"), [""; 0]);
}
