//! Imports point one way: which crate may use which.
//!
//! The table is the one of ARCHITECTURE.md. A crate without a row is an error, so a new crate begins with a decision.

use crate::Result;
use crate::process::Job;

/// A crate and the crates of this workspace that it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("engineio-proto", &[]),
    ("socketio-proto", &[]),
    ("socketio-macros", &[]),
    ("socketio-core", &["socketio-proto", "socketio-macros"]),
    ("socketio-adapter", &["socketio-proto"]),
    ("engineio", &["engineio-proto"]),
    ("socketio", &["engineio", "engineio-proto", "socketio-proto", "socketio-core", "socketio-adapter"]),
    ("socketio-client", &["engineio", "engineio-proto", "socketio-proto", "socketio-core"]),
    ("socketio-redis", &["socketio-adapter", "socketio-proto"]),
    ("socketio-postgres", &["socketio-adapter", "socketio-proto"]),
    ("socketio-auth", &["socketio", "socketio-core"]),
    ("socketio-heap", &[]),
    ("socketio-cli", EVERYTHING_BELOW_THE_CLI),
    (TESTKIT, EVERYTHING_BELOW_THE_CLI),
    ("xtask", &[]),
];

const EVERYTHING_BELOW_THE_CLI: &[&str] = &[
    "engineio-proto",
    "socketio-proto",
    "socketio-macros",
    "socketio-core",
    "socketio-adapter",
    "engineio",
    "socketio",
    "socketio-client",
    "socketio-redis",
    "socketio-postgres",
    "socketio-auth",
    "socketio-heap",
];

/// What connects servers over a broker.
const BACKENDS: &[&str] = &["socketio-redis", "socketio-postgres"];

/// Everybody's tests may use it, nobody's library.
const TESTKIT: &str = "socketio-testkit";

/// The first five crates: no runtime, no HTTP stack.
const PURE: &[&str] = &["engineio-proto", "socketio-proto", "socketio-macros", "socketio-core", "socketio-adapter"];

/// What a pure crate does not name, its tests included. A name stands for itself and for `name-…`.
const RUNTIMES: &[&str] = &[
    "tokio",
    "hyper",
    "http",
    "h2",
    "h3",
    "axum",
    "tower",
    "reqwest",
    "mio",
    "smol",
    "async-std",
    "async-io",
    "warp",
    "actix",
];

/// Clocks and randomness are parameters; tests of a pure crate may still roll dice.
const CLOCKS_AND_DICE: &[&str] = &["rand", "rand_core", "getrandom", "fastrand", "chrono", "time", "quanta", "uuid"];

/// WebSocket, QUIC and TLS are engineio's; tests may use one as a second opinion.
const TRANSPORTS: &[&str] = &[
    "tungstenite",
    "tokio-tungstenite",
    "tokio-websockets",
    "fastwebsockets",
    "soketto",
    "ratchet_rs",
    "yawc",
    "websocket",
    "async-tungstenite",
    "quinn",
    "quiche",
    "wtransport",
    "web-transport",
    "h3",
    "s2n",
    "rustls",
    "tokio-rustls",
    "native-tls",
    "tokio-native-tls",
    "openssl",
    "hyper-rustls",
    "hyper-tls",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Tests,
}

/// One line under `[dependencies]`, `[build-dependencies]` or `[dev-dependencies]`.
#[derive(Debug)]
pub(crate) struct Arrow {
    from: String,
    to: String,
    kind: Kind,
    /// The target lies in this workspace.
    ours: bool,
}

/// Reads the arrows of the workspace and returns what is wrong with them.
pub(crate) fn check() -> Result<Vec<String>> {
    let outcome = Job::cargo(["metadata", "--format-version", "1", "--no-deps"]).quiet().run()?;
    let json = outcome.lines.iter().find(|line| line.starts_with('{')).ok_or("cargo metadata printed no JSON")?;
    let metadata = cargo_metadata::MetadataCommand::parse(json)?;
    let mut crates = Vec::new();
    let mut arrows = Vec::new();
    for package in &metadata.packages {
        crates.push(package.name.to_string());
        for dependency in &package.dependencies {
            let kind = match dependency.kind {
                cargo_metadata::DependencyKind::Development => Kind::Tests,
                _ => Kind::Normal,
            };
            arrows.push(Arrow {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                kind,
                ours: dependency.path.is_some(),
            });
        }
    }
    Ok(wrong(&crates, &arrows))
}

/// The rules, one sentence for every arrow that breaks one.
fn wrong(crates: &[String], arrows: &[Arrow]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in crates {
        if !ROOMS.iter().any(|(room, _)| room == name) {
            wrong.push(format!("{name} has no row in the table of arrows (xtask/src/arrows.rs)"));
        }
    }
    for Arrow { from, to, kind, ours } in arrows {
        let tests = *kind == Kind::Tests;
        if *ours {
            let allowed =
                ROOMS.iter().find(|(room, _)| room == from).is_some_and(|(_, to_)| to_.contains(&to.as_str()));
            // A backend is tested under the server that it is for.
            let under_test = tests && to == "socketio" && BACKENDS.contains(&from.as_str());
            if to == TESTKIT && !tests {
                wrong.push(format!("{from} uses {TESTKIT} outside of its tests"));
            } else if to != TESTKIT && !allowed && !under_test {
                wrong.push(format!("{from} must not use {to}"));
            }
            continue;
        }
        if PURE.contains(&from.as_str()) && (named(to, RUNTIMES) || (!tests && named(to, CLOCKS_AND_DICE))) {
            wrong.push(format!("{from} is pure and must not name {to}"));
        }
        // TLS to a broker is made by its driver; a backend says with which cryptography, and whom it trusts. The testkit attacks
        // the listener over TLS with clients that engineio would never make.
        let of_tls = matches!(to.as_str(), "rustls" | "tokio-rustls" | "rustls-native-certs");
        let elsewhere = of_tls && (BACKENDS.contains(&from.as_str()) || from == TESTKIT);
        if from != "engineio" && !tests && named(to, TRANSPORTS) && !elsewhere {
            wrong.push(format!("{from} must not name {to}: WebSocket, QUIC and TLS crates belong to engineio"));
        }
        if from != "socketio-cli" && (to == "clap" || to.starts_with("clap_")) {
            wrong.push(format!("{from} must not name {to}: the command line belongs to socketio-cli"));
        }
    }
    wrong
}

fn named(name: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| name.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_fail() {
        // Arrows inside the house.
        check("engineio", Kind::Normal, "engineio-proto", true, None);
        check("engineio", Kind::Normal, "socketio-proto", true, Some("engineio must not use socketio-proto"));
        check("engineio-proto", Kind::Normal, "engineio", true, Some("engineio-proto must not use engineio"));
        check("engineio-proto", Kind::Tests, "engineio", true, Some("engineio-proto must not use engineio"));
        check(
            "socketio-proto",
            Kind::Normal,
            "engineio-proto",
            true,
            Some("socketio-proto must not use engineio-proto"),
        );
        check("socketio", Kind::Tests, "socketio-testkit", true, None);
        check("socketio-redis", Kind::Tests, "socketio", true, None);
        check("socketio-redis", Kind::Normal, "socketio", true, Some("socketio-redis must not use socketio"));
        check(
            "socketio",
            Kind::Normal,
            "socketio-testkit",
            true,
            Some("socketio uses socketio-testkit outside of its tests"),
        );
        check(
            "socketio-cli",
            Kind::Normal,
            "socketio-testkit",
            true,
            Some("socketio-cli uses socketio-testkit outside of its tests"),
        );
        check("socketio-redis", Kind::Normal, "socketio", true, Some("socketio-redis must not use socketio"));
        // Crates of others.
        check("socketio-core", Kind::Normal, "serde", false, None);
        check(
            "socketio-core",
            Kind::Normal,
            "tokio-util",
            false,
            Some("socketio-core is pure and must not name tokio-util"),
        );
        check(
            "socketio-adapter",
            Kind::Tests,
            "tokio",
            false,
            Some("socketio-adapter is pure and must not name tokio"),
        );
        check("engineio-proto", Kind::Normal, "http", false, Some("engineio-proto is pure and must not name http"));
        check("engineio-proto", Kind::Normal, "httparse", false, None);
        check("engineio-proto", Kind::Normal, "rand", false, Some("engineio-proto is pure and must not name rand"));
        check("engineio-proto", Kind::Tests, "rand", false, None);
        check("engineio", Kind::Normal, "rustls", false, None);
        check("socketio-postgres", Kind::Normal, "rustls-native-certs", false, None);
        check("socketio-testkit", Kind::Normal, "rustls", false, None);
        let only_engineio = "socketio must not name rustls: WebSocket, QUIC and TLS crates belong to engineio";
        check("socketio", Kind::Normal, "rustls", false, Some(only_engineio));
        let only_cli = "socketio must not name clap: the command line belongs to socketio-cli";
        check("socketio", Kind::Normal, "clap", false, Some(only_cli));
        check("socketio-cli", Kind::Normal, "clap", false, None);

        #[track_caller]
        fn check(from: &str, kind: Kind, to: &str, ours: bool, want: Option<&str>) {
            let arrow = Arrow { from: from.into(), to: to.into(), kind, ours };
            let got = wrong(&[from.to_owned()], &[arrow]);
            assert_eq!(got, want.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{from} -> {to} ({kind:?})");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_an_error() {
        assert_eq!(wrong(&["socketio-extra".to_owned()], &[]).len(), 1);
    }
}
