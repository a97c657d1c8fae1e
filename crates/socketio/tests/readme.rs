//! The repository's documents are true: the README's server answers, the option tables are those of the code, and every test
//! and file that they name exists. Their examples are compiled as documentation tests (`src/guide.rs`).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use socketio::{
    AddressLimits, Cookie, Data, DeflateOptions, HandlerError, Limits, Namespace, RecoveryOptions, Socket, SocketIo,
    TrafficLimits,
};
use socketio_proto::{INVALID_NAMESPACE, JOIN_TIMEOUT, TOO_MANY_NAMESPACES};
use support::{Client, serve};

/// The lines of the README's server.
#[rustfmt::skip]
fn chat() -> Namespace {
    let chat = Namespace::new("/chat")
        .on_connect(async |socket: Socket| {
            socket.join("lobby");
        })
        .on("message", async |socket: Socket, Data(text): Data<String>| {
            socket.to("lobby").emit("message", (socket.id(), text));
        })
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b); // what it returns is the ack
    chat
}

#[tokio::test]
async fn the_server_of_the_readme_answers() {
    let server = serve(SocketIo::builder().namespace(chat())).await;
    let (mut ann, id) = Client::join_in(server.addr, "/chat", "").await;
    let (mut bob, _) = Client::join_in(server.addr, "/chat", "").await;
    bob.send(r#"2/chat,1["add",2,3]"#).await;
    bob.expect("3/chat,1[5]").await;
    ann.send(r#"2/chat,["message","hello"]"#).await;
    bob.expect(&format!(r#"2/chat,["message","{id}","hello"]"#)).await;
}

#[test]
fn the_server_that_is_tested_is_the_readmes_and_the_examples() {
    let own = read("crates/socketio/tests/readme.rs");
    let from = own.find("    let chat = ").expect("the lines are above");
    let until = own.find("    chat\n}").expect("the lines are above");
    let lines = &own[from..until];
    assert_eq!(lines.lines().count(), 8, "{lines}");
    let readme = read("README.md");
    let example = read("crates/socketio/examples/chat.rs");
    for (name, text) in [("README.md", &readme), ("examples/chat.rs", &example)] {
        assert!(text.contains(lines), "{name} has another server");
    }
    let program = &example[example.find("use socketio").expect("a program imports the crate")..];
    assert!(readme.contains(program.trim_end()), "README.md and examples/chat.rs differ");
}

#[test]
fn every_option_is_on_its_page() {
    let page = read("docs/options.md");
    let methods = |source: &str, section: &str| {
        let source = read(source);
        let from = source.find("\nimpl ").expect("a builder has an impl");
        let names = source[from..].lines().filter_map(|line| line.strip_prefix("    pub fn ").map(name_of));
        let names: BTreeSet<&str> =
            names.filter(|name| !["new", "name", "build", "listen", "listen_tls", "as_str"].contains(name)).collect();
        let listed: BTreeSet<String> = rows(&page, section).into_iter().flat_map(|row| code(&row[0])).collect();
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!(listed, names, "{section} of docs/options.md and its methods");
    };
    methods("crates/socketio/src/builder.rs", "The server");
    methods("crates/socketio/src/namespace.rs", "The namespace");

    fn name_of(line: &str) -> &str {
        line.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).next().unwrap_or_default()
    }
}

#[test]
fn every_limit_is_on_its_page_with_its_default() {
    let page = read("docs/options.md");
    check(&page, "Limits", &format!("{:#?}", Limits::default()));
    let rates = format!("{:#?}\n{:#?}", AddressLimits::default(), TrafficLimits::default());
    check(&page, "Rates", &rates);
    check(&page, "Recovery", &format!("{:#?}", RecoveryOptions::default()));
    check(&page, "Cookie and compression", &format!("{:#?}\n{:#?}", Cookie::default(), DeflateOptions::default()));

    #[track_caller]
    fn check(page: &str, section: &str, debug: &str) {
        let field = |line: &str| {
            let (name, value) = line.strip_prefix("    ")?.strip_suffix(',')?.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        let defaults: BTreeMap<String, String> = debug.lines().filter_map(field).collect();
        assert!(!defaults.is_empty(), "{debug}");
        let listed = rows(page, section).into_iter().map(|row| (code(&row[0]).concat(), value(&row[1]))).collect();
        assert_eq!(defaults, listed, "{section} of docs/options.md and the defaults of the code");
    }

    /// `4 MiB` as the code says it.
    fn value(cell: &str) -> String {
        let plain = cell.replace(['`', ','], "");
        match plain.split_once(' ') {
            Some((number, "s")) => format!("{number}s"),
            Some((number, "KiB")) => (number.parse::<u64>().unwrap() << 10).to_string(),
            Some((number, "MiB")) => (number.parse::<u64>().unwrap() << 20).to_string(),
            _ if plain == "none" => "None".to_owned(),
            _ if cell.contains('`') && !["true", "false"].contains(&plain.as_str()) => format!("{plain:?}"),
            _ => plain,
        }
    }
}

#[test]
fn every_reason_and_code_is_explained() {
    let page = read("docs/errors-and-limits.md");
    let reasons = strings_of("crates/socketio/src/reason.rs", "pub const fn as_str");
    let codes = strings_of("crates/socketio-proto/src/error.rs", "pub const fn code(");
    assert_eq!((reasons.len(), codes.len() > 15), (9, true), "{reasons:?} {codes:?}");
    for word in reasons.iter().chain(&codes) {
        assert!(page.contains(&format!("`{word}`")), "docs/errors-and-limits.md does not explain `{word}`");
    }
    // What clients are told at the door, codes of answers, kinds of faults.
    let mut told = strings_of("crates/engineio-proto/src/request.rs", "pub fn message(");
    told.extend(strings_of("crates/socketio/src/fault.rs", "pub const fn kind("));
    told.extend([INVALID_NAMESPACE, TOO_MANY_NAMESPACES, JOIN_TIMEOUT].map(str::to_owned));
    told.extend([HandlerError::INTERNAL, HandlerError::BAD_REQUEST, "error"].map(str::to_owned));
    assert_eq!(told.len(), 5 + 10 + 3 + 3, "{told:?}");
    for word in &told {
        assert!(page.contains(&format!("`{word}`")), "docs/errors-and-limits.md does not explain `{word}`");
    }
    let mut descriptions = BTreeSet::new();
    for file in files(&["crates/engineio-proto/src/session", "crates/engineio/src"], "rs") {
        for rest in fs::read_to_string(&file).unwrap().split("TransportError(\"").skip(1) {
            descriptions.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    // What the session machine's own tests invent, and what a panic of the layer below says.
    for word in
        descriptions.iter().filter(|word| !["internal error", "x", "write error", "gone"].contains(&word.as_str()))
    {
        assert!(page.contains(&format!("`{word}`")), "docs/errors-and-limits.md does not explain `{word}`");
    }

    /// The strings of a `match` in the function that begins so.
    fn strings_of(file: &str, function: &str) -> Vec<String> {
        let text = read(file);
        let body = text.split_once(function).expect("the function is there").1;
        let body = body.split("\n    }\n").next().unwrap_or_default();
        body.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    }
}

#[test]
fn the_book_has_every_page_and_builds() {
    let summary = read("docs/SUMMARY.md");
    let listed: Vec<&str> = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let mut pages: Vec<String> = files(&["docs"], "md")
        .iter()
        .filter_map(|page| page.file_name()?.to_str().map(str::to_owned))
        .filter(|name| name != "SUMMARY.md")
        .collect();
    pages.sort();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, pages, "docs/SUMMARY.md lists every page once");
    let guide = read("docs/README.md");
    let in_order: Vec<&str> = guide.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let in_order: Vec<&str> = in_order.into_iter().filter(|link| link.ends_with(".md")).collect();
    assert_eq!(in_order, listed[1..], "docs/README.md and docs/SUMMARY.md have the same order");

    // As `cargo doc` is not needed to test a crate, mdBook is not needed to test the guide; where it is there, it is used.
    let target = std::env::temp_dir().join(format!("book-{}", std::process::id()));
    let book =
        std::process::Command::new("mdbook").arg("build").arg("-d").arg(&target).arg(root().join("docs")).output();
    match book {
        Err(_) => println!("mdbook is not installed: the book was not built"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
            for page in &listed[1..] {
                assert!(target.join(page.replace(".md", ".html")).exists(), "{page}");
            }
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let found = text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
                assert!(found, "{}: {link} has no such heading", document.display());
            }
            links += 1;
        }
    }
    assert!(links > 50, "only {links} links were found");

    /// The anchor of a heading.
    fn slug(heading: &str) -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars()
            .filter(|char| char.is_alphanumeric() || " -".contains(*char))
            .map(|char| if char == ' ' { '-' } else { char })
            .collect()
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let mut named = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (before, after) in text.match_indices("`](").map(|(at, mark)| (&text[..at], &text[at + mark.len()..])) {
            let name = before.rsplit('`').next().unwrap();
            let path = after.split(')').next().unwrap();
            if !["tests/", "interop/", "src/"].iter().any(|part| path.contains(part)) || name.contains(['.', '/']) {
                continue;
            }
            let target = fs::read_to_string(document.parent().unwrap().join(path)).unwrap();
            let forms = [format!("fn {name}("), format!("test(\"{name}\""), format!("feature(\"{name}\"")];
            let found = forms.iter().any(|form| target.contains(form));
            assert!(found, "{}: {path} has no test `{name}`", document.display());
            named += 1;
        }
    }
    assert!(named > 40, "only {named} tests are named");

    // The table of differences names rows of the catalogue, and tests.
    let rows_of_catalogue: String =
        files(&["interop/hostile/rows"], "toml").into_iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let tests: String = files(&["crates"], "rs").into_iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for row in rows(&read("ARCHITECTURE.md"), "Where we differ from Node") {
        match code(&row[0]).as_slice() {
            [] => {
                for id in row[0].split(", ") {
                    let id = format!("id = \"{id}\"");
                    assert!(rows_of_catalogue.contains(&id), "ARCHITECTURE.md: the catalogue has no row with {id}");
                }
            }
            names => {
                for name in names {
                    assert!(tests.contains(&format!("fn {name}(")), "ARCHITECTURE.md: there is no test `{name}`");
                }
            }
        }
    }
}

#[test]
fn every_command_of_xtask_is_listed() {
    let source = read("xtask/src/main.rs");
    let help = source.split("const HELP: &str = ").nth(1).and_then(|rest| rest.split("\";").next()).unwrap();
    let words = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   ")));
    let words: Vec<&str> = words.collect();
    assert!(words.len() > 5, "{help}");
    let page = read("CONTRIBUTING.md");
    for word in words {
        assert!(page.contains(&format!("`cargo xtask {word}")), "CONTRIBUTING.md does not list `cargo xtask {word}`");
    }
}

/// The rows of the tables under a heading, without their heads.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let from = page.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is no heading {heading}"));
    let section = page[from + 1..].split("\n## ").next().unwrap_or_default();
    let mut rows = Vec::new();
    let mut head = true;
    for line in section.lines() {
        match line.strip_prefix('|') {
            None => head = true,
            Some(line) if line.starts_with("---") => head = false,
            Some(line) if !head => rows.push(line.split('|').map(|cell| cell.trim().to_owned()).collect()),
            Some(_) => {}
        }
    }
    assert!(!rows.is_empty(), "there is no table under {heading}");
    rows
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn documents() -> Vec<PathBuf> {
    let names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    names.iter().map(|name| root().join(name)).chain(files(&["docs"], "md")).collect()
}

/// All files with this ending in some folders, and below.
fn files(folders: &[&str], ending: &str) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
