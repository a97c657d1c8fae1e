//! `docs/client-options.md` is true: every option of the builder stands on it with its default, and every test that it names
//! exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use socketio::{Namespace, SocketIo};
use socketio_client::{Client, ClientBuilder, extract::Data};
use socketio_testkit::{serve, within};
use tokio::sync::mpsc;

/// All options of Node's factory, Manager, Socket and engine that have a place on the page.
const NODE: &str = "path addTrailingSlash query extraHeaders transports upgrade rememberUpgrade tryAllTransports \
    withCredentials timestampParam timestampRequests forceBase64 requestTimeout protocols transportOptions \
    perMessageDeflate maxPayload agent ca cert key ciphers pfx passphrase rejectUnauthorized localAddress family origin \
    timeout reconnection reconnectionAttempts reconnectionDelay reconnectionDelayMax randomizationFactor parser auth \
    retries ackTimeout autoConnect forceNew multiplex closeOnBeforeunload autoUnref useNativeTimers";

#[test]
fn every_option_of_node_and_of_the_builder_is_on_its_page() {
    let rows = rows("Options");
    let named = |column: usize| rows.iter().flat_map(|row| code(&row[column])).collect::<Vec<_>>();
    let node: BTreeSet<String> = NODE.split_whitespace().map(str::to_owned).collect();
    let listed: BTreeSet<String> = named(0).into_iter().collect();
    assert_eq!(listed, node, "Node's options");

    let source = read("crates/socketio-client/src/builder.rs");
    // The builder's own methods up to the next type, and those that the macro gives it.
    let own = between(&source, "\nimpl ClientBuilder {", "\n}\n", "    pub fn ");
    let shared = between(&source, "\nmacro_rules! socket_methods {", "\n}\n", "            pub fn ");
    let handlers =
        ["on", "once", "on_event", "on_connect", "on_disconnect", "on_connect_error", "on_any", "on_any_outgoing"];
    let methods: BTreeSet<String> =
        own.into_iter().chain(shared).filter(|name| !handlers.contains(&name.as_str())).collect();
    assert!(methods.len() > 30, "{methods:?}");
    let missing: Vec<&String> = methods.iter().filter(|method| !named(1).contains(method)).collect();
    assert!(missing.is_empty(), "{missing:?} are not on the page");

    fn between(source: &str, from: &str, until: &str, function: &str) -> Vec<String> {
        let body = source.split_once(from).expect("it is there").1.split(until).next().unwrap_or_default();
        let names = body.lines().filter_map(|line| line.strip_prefix(function));
        names.map(|line| line.split(['(', '<']).next().unwrap_or_default().to_owned()).collect()
    }
}

#[test]
fn every_default_on_the_page_is_the_builders() {
    let debug = format!("{:#?}", Client::builder("http://example.org"));
    let fields: BTreeMap<&str, &str> =
        debug.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(": ")).collect();
    let mut checked = 0;
    for row in rows("Options") {
        for name in code(&row[1]) {
            let Some(value) = fields.get(name.as_str()) else { continue };
            let value = if *value == "[]" { "None" } else { value };
            assert_eq!(value, shown(&row[2]), "the default of `{name}` in {debug}");
            checked += 1;
        }
    }
    assert!(checked >= 22, "only {checked} defaults were compared");
    // What is shown in several lines, and what is shown as text.
    for (method, want) in [
        ("transports", "transports: [\n            Polling,\n            WebSocket,\n        ]"),
        ("protocols", "protocols: []"),
        ("buffer", "buffer: (\n            8192,\n            4194304,\n        )"),
        ("mailbox", "mailbox: (\n            65536,\n            33554432,\n        )"),
        ("per_message_deflate", "threshold: 1024"),
        ("parser", "AnyParser(json)"),
        ("namespace", "namespace: \"/\""),
    ] {
        let plain: String = debug.split_whitespace().collect();
        let want: String = want.split_whitespace().collect();
        assert!(plain.contains(&want), "{method}: {want} in {debug}");
    }

    /// A cell as `{:#?}` shows the value.
    fn shown(cell: &str) -> String {
        let plain = cell.replace(['`', ','], "");
        match plain.split_once(' ') {
            Some((number, "s")) => format!("{number}s"),
            Some((number, "MiB")) => (number.parse::<u64>().unwrap() << 20).to_string(),
            _ if plain == "none" => "None".to_owned(),
            _ if plain == "JSON" => "AnyParser(json)".to_owned(),
            _ if cell.contains('`') && !["true", "false"].contains(&plain.as_str()) => format!("{plain:?}"),
            _ => plain,
        }
    }
}

/// That a builder is shown changes nothing, and shows nothing that is secret.
#[test]
fn options_that_are_set_are_shown_and_secrets_are_not() {
    check(|builder| builder.reconnection_attempts(3), "reconnection_attempts: Some(3)");
    check(|builder| builder.ack_timeout(Duration::MAX), "ack_timeout: Some(315360000s)");
    check(|builder| builder.eio3(true), "eio3: true");
    check(|builder| builder.auth([("token", "hidden")]), "auth: Some(..)");
    check(|builder| builder.query("token", "hidden").header("Authorization", "hidden"), "timeout: 20s");

    #[track_caller]
    fn check(change: impl FnOnce(ClientBuilder) -> ClientBuilder, want: &str) {
        let shown = format!("{:?}", change(Client::builder("http://ann:hidden@example.org/?key=hidden")));
        assert!(shown.contains(want), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}

#[test]
fn every_row_of_nodes_api_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    for section in ["Manager", "Socket"] {
        for row in rows(section) {
            let proofs: Vec<&str> = row[2].split("[`").skip(1).collect();
            assert!(!proofs.is_empty(), "{section}: nothing proves {}", row[0]);
            for proof in proofs {
                let (name, rest) = proof.split_once("`](../").expect("a link");
                let path = rest.split(')').next().unwrap_or_default();
                let source = read(path);
                let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{path} has no `{name}`"));
                let before = source[..at].rsplit("\n\n").next().unwrap_or_default();
                assert!(before.contains("#[test]") || before.contains("#[tokio::test"), "{path}: {name} is no test");
                tests.insert(name.to_owned());
            }
        }
    }
    assert!(tests.len() >= 20, "{tests:?}");
}

/// Its lines against a server of its own.
#[tokio::test]
async fn the_client_of_the_readme_connects() {
    let chat = Namespace::new("/chat")
        .on("message", async |socket: socketio::Socket, Data(text): Data<String>| {
            let answer: Result<String, _> = socket.emit_with_ack("are you there", ()).await;
            socket.emit("message", (answer.unwrap_or_default(), text));
        })
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
    let server = serve(SocketIo::builder().namespace(chat)).await.unwrap();
    within(Duration::from_secs(30), async {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let socket = Client::builder(&format!("http://{}/chat", server.addr))
            .on("message", move |Data((from, text)): Data<(String, String)>| {
                sender.send(format!("{from}: {text}")).unwrap();
                async {}
            })
            .on("are you there", async || "yes")
            .connect()
            .await
            .unwrap();
        socket.emit("message", "hello");
        let sum: i64 = socket.emit_with_ack("add", (2, 3)).await.unwrap();
        assert_eq!(sum, 5);
        assert_eq!(heard.recv().await.as_deref(), Some("yes: hello"));
    })
    .await;
}

/// The rows of the table under a heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = read("docs/client-options.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).expect("the heading is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix('|'));
    let rows: Vec<Vec<String>> =
        lines.skip(2).map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "{heading} has no table");
    rows
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
