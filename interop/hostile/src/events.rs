//! What our server has told of a row: exactly the security events that the row names, and nothing secret in them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rows::Case;
use crate::wire::PATIENCE;

/// So much of a session's id may be told.
const SHORT: usize = 6;

pub(crate) fn check(case: &Case, address: SocketAddr, secrets: &[String]) -> Result<(), String> {
    let wanted = Wanted::of(&case.events);
    let begin = Instant::now();
    let mut told = Vec::new();
    loop {
        for of in addresses(case) {
            told.extend(crate::server::events(address, &of)?);
        }
        // The last of them may be on its way.
        if told.len() >= wanted.least() || begin.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let names: Vec<String> = told.iter().map(|event| name(event)).collect();
    if !wanted.are(&names) {
        return Err(format!("events: {names:?} instead of {:?}", case.events));
    }
    for event in &told {
        discreet(event, secrets)?;
    }
    Ok(())
}

/// Who the row says it is: its own address, and those that it makes up for a proxy that is trusted.
fn addresses(case: &Case) -> BTreeSet<String> {
    let made_up = case.steps.iter().flat_map(|step| step.split("X-Forwarded-For: ").skip(1));
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut all: BTreeSet<String> =
        made_up.map(|text| text[..end(text)].to_owned()).filter(|text| !text.is_empty()).collect();
    all.insert(crate::wire::source().to_string());
    all
}

/// `kind reason` of an event.
fn name(event: &str) -> String {
    let field = |name: &str| {
        let (_, after) = event.split_once(&format!("\"{name}\":\""))?;
        after.split_once('"').map(|(value, _)| value)
    };
    format!("{} {}", field("kind").unwrap_or("?"), field("reason").unwrap_or("?"))
}

/// No id of a session as a whole, none that is longer than its beginning, and one line.
fn discreet(event: &str, secrets: &[String]) -> Result<(), String> {
    if let Some(secret) = secrets.iter().find(|secret| event.contains(&secret[..secret.len().min(SHORT + 1)])) {
        return Err(format!("the session {secret} is in {event}"));
    }
    match event.chars().any(char::is_control) || event.len() > 400 {
        true => Err(format!("no event for a log: {event:?}")),
        false => Ok(()),
    }
}

/// The events of a row; those that may come any number of times apart.
struct Wanted<'a> {
    once: Vec<&'a str>,
    any: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(events: &'a [String]) -> Self {
        let (any, once): (Vec<&str>, Vec<&str>) =
            events.iter().map(String::as_str).partition(|event| event.starts_with("* "));
        let mut once: Vec<&str> = once.into_iter().flat_map(repeated).collect();
        once.sort_unstable();
        Wanted { once, any: any.into_iter().map(|event| &event[2..]).collect() }
    }

    fn least(&self) -> usize {
        self.once.len()
    }

    fn are(&self, told: &[String]) -> bool {
        let mut rest: Vec<&str> = told.iter().map(String::as_str).filter(|event| !self.any.contains(event)).collect();
        rest.sort_unstable();
        rest == self.once
    }
}

/// `3 kind reason` is three of them.
fn repeated(event: &str) -> impl Iterator<Item = &str> {
    let (count, what) = event.split_once(' ').unwrap_or((event, ""));
    let (count, what) = count.parse().map_or((1, event), |count| (count, what));
    std::iter::repeat_n(what, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_those_of_the_row_and_no_others() {
        check(&[], &[], true);
        check(&[], &["a b"], false);
        check(&["a b"], &[], false);
        check(&["a b", "c d"], &["c d", "a b"], true);
        check(&["a b"], &["a b", "a b"], false);
        check(&["2 a b"], &["a b", "a b"], true);
        check(&["* a b", "c d"], &["a b", "c d", "a b"], true);
        check(&["* a b"], &[], true);

        #[track_caller]
        fn check(wanted: &[&str], told: &[&str], good: bool) {
            let (wanted, told): (Vec<_>, Vec<_>) = (
                wanted.iter().map(|event| (*event).to_owned()).collect(),
                told.iter().map(|event| (*event).to_owned()).collect(),
            );
            assert_eq!(Wanted::of(&wanted).are(&told), good, "{wanted:?} {told:?}");
        }
    }

    #[test]
    fn an_event_shows_no_more_of_an_id_than_its_beginning() {
        let event =
            |session: &str| format!(r#"{{"time":1,"kind":"violation","reason":"parse","session":"{session}"}}"#);
        let secrets = ["abcdefghijklmnopqrst".to_owned()];
        assert_eq!(name(&event("abcdef")), "violation parse");
        assert_eq!(discreet(&event("abcdef"), &secrets), Ok(()));
        assert!(discreet(&event("abcdefg"), &secrets).is_err());
        assert!(discreet("a\nb", &secrets).is_err());
    }
}
