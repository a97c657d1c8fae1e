//! The client's connection machine, told stories in the bytes of the default parser.

use std::time::{Duration, Instant};

use socketio_proto::{
    AnyParser, Backoff, ClientConnection, ClientDecision, Decoder, Limits, Message, Revision, Value, Violation,
    namespace_with_query,
};

struct Story {
    connection: ClientConnection,
    decoder: Decoder,
    now: Instant,
}

impl Story {
    fn new(revision: Revision) -> Self {
        let limits = Limits::default();
        let decoder = AnyParser::json().decoder(&limits);
        Self { connection: ClientConnection::new(revision, limits), decoder, now: Instant::now() }
    }

    /// `/` is wanted and its CONNECT on the way.
    fn connecting() -> Self {
        let mut story = Self::new(Revision::V5);
        story.connection.join("/");
        assert_eq!(story.connection.opened(), ["/"]);
        story.connect("/", "null");
        story
    }

    fn connected(answer: &str) -> Self {
        let mut story = Self::connecting();
        assert_eq!(story.hears(answer), "connected /");
        story
    }

    /// The CONNECT packet that is sent for this auth.
    fn connect(&mut self, namespace: &str, auth: &str) -> Option<String> {
        let auth: Value = serde_json::from_str(auth).unwrap();
        let data = self.connection.connecting(self.now, namespace, Some(auth).filter(|auth| !auth.is_null()))?;
        let encoded = AnyParser::json().encode_connect(Revision::V5, namespace, data.as_ref(), 0).unwrap();
        Some(String::from_utf8(encoded[0].data().to_vec()).unwrap())
    }

    fn hears(&mut self, text: &str) -> String {
        let packet = self.decoder.decode(Message::Text(text)).unwrap().unwrap();
        match self.connection.handle(packet) {
            Ok(ClientDecision::Connected { namespace }) => format!("connected {namespace}"),
            Ok(ClientDecision::Refused { namespace, error }) => {
                format!("refused {namespace} {:?}", error.map(|error| serde_json::to_string(&error.value().unwrap())))
            }
            Ok(ClientDecision::OldServer { namespace }) => format!("old server {namespace}"),
            Ok(ClientDecision::Event { namespace, id, args }) => format!("event {namespace} {id:?} {}", args.name()),
            Ok(ClientDecision::Ack { namespace, id, args }) => format!("ack {namespace} {id} {}", args.len()),
            Ok(ClientDecision::Disconnected { namespace }) => format!("disconnected {namespace}"),
            Ok(ClientDecision::Ignored) => "ignored".to_owned(),
            Err(violation) => format!("violation: {violation}"),
        }
    }
}

#[test]
fn a_namespace_is_joined_and_left() {
    let mut story = Story::new(Revision::V5);
    assert!(!story.connection.join("/admin"));
    assert_eq!(story.connection.opened(), ["/admin"]);
    assert_eq!(story.connect("/admin", r#"{"token":"t"}"#).as_deref(), Some(r#"0/admin,{"token":"t"}"#));
    assert_eq!(story.connect("/admin", "null"), None, "once per connection");
    assert_eq!(story.connection.deadline(), Some(story.now + Duration::from_secs(45)));
    assert_eq!(story.hears(r#"0/admin,{"sid":"abc"}"#), "connected /admin");
    assert_eq!(story.connection.deadline(), None);
    assert_eq!(story.connection.id("/admin"), Some("abc"));
    assert_eq!(story.hears(r#"2/admin,7["ask"]"#), "event /admin Some(7) ask");
    assert_eq!(story.hears(r#"3/admin,3["a",1]"#), "ack /admin 3 2");
    assert!(story.connection.leave("/admin"));
    assert_eq!(story.hears(r#"2/admin,["late"]"#), "ignored");
    assert!(!story.connection.is_any_active());
    assert!(story.connection.join("/admin"), "the transport is open");
}

#[test]
fn packets_for_other_namespaces_are_ignored() {
    let mut story = Story::connected(r#"0{"sid":"a"}"#);
    for packet in [r#"0/x,{"sid":"a"}"#, r#"2/x,["e"]"#, "3/x,0[]", "1/x,", r#"4/x,{"message":"no"}"#] {
        assert_eq!(story.hears(packet), "ignored", "{packet}");
    }
    assert_eq!(story.hears("1"), "disconnected /");
    assert_eq!(story.hears("1"), "ignored");
    assert!(!story.connection.is_active("/"), "the server's word counts: there is no way back by itself");
}

#[test]
fn answers_to_connect() {
    check(r#"0{"sid":"a","extra":1}"#, "connected /");
    check("0", "old server /"); // L09
    check(r#"0{"sid":{}}"#, "violation: invalid payload"); // L10
    check("0{}", "violation: invalid payload");
    check(r#"0{"sid":""}"#, "violation: invalid payload");
    check(&format!(r#"0{{"sid":"{}"}}"#, "a".repeat(257)), "violation: invalid payload"); // L21
    check(&format!(r#"0{{"sid":"a","pid":"{}"}}"#, "a".repeat(257)), "violation: invalid payload");
    check("4", "refused / None"); // L11
    check(r#"4{"message":"no"}"#, r#"refused / Some(Ok("{\"message\":\"no\"}"))"#);
    check("30[]", "ignored");

    #[track_caller]
    fn check(answer: &str, want: &str) {
        assert_eq!(Story::connecting().hears(answer), want, "answer: {answer}");
    }
}

#[test]
fn a_refused_namespace_is_left_alone() {
    let mut story = Story::connecting();
    story.hears(r#"4{"message":"no"}"#);
    assert!(!story.connection.is_active("/"));
    assert_eq!(story.connection.closed(), [] as [String; 0]);
    assert_eq!(story.connection.opened(), [] as [String; 0]);
    assert!(story.connection.join("/"));
    assert_eq!(story.connect("/", "null").as_deref(), Some("0"));
}

#[test]
fn a_second_answer_ends_the_connection() {
    let mut story = Story::connected(r#"0{"sid":"a"}"#);
    assert_eq!(story.hears(r#"0{"sid":"b"}"#), format!("violation: {}", Violation::AlreadyConnected));
}

#[test]
fn a_reconnection_asks_for_recovery() {
    let mut story = Story::connected(r#"0{"sid":"a","pid":"p"}"#);
    assert!(!story.connection.recovered("/"));
    story.hears(r#"2["e",1,"o1"]"#);
    story.hears(r#"2["e",1]"#);
    story.hears(r#"25["ask","no offset: it wants an answer"]"#);
    story.hears(r#"2["no-arguments"]"#);
    assert_eq!(story.connection.closed(), ["/"]);
    assert_eq!(story.connection.id("/"), None);
    assert_eq!(story.connection.opened(), ["/"]);
    let want = r#"0{"pid":"p","offset":"o1","token":"t"}"#;
    assert_eq!(story.connect("/", r#"{"token":"t"}"#).as_deref(), Some(want));
    // Node sends what was missed before its answer.
    assert_eq!(story.hears(r#"2["missed","o2"]"#), "ignored");
    assert_eq!(story.hears(r#"0{"sid":"a","pid":"p"}"#), "connected /");
    assert!(story.connection.recovered("/"));
    let held: Vec<_> = story.connection.take_held("/").iter().map(|(id, args)| (*id, args.name().to_owned())).collect();
    assert_eq!(held, [(None, "missed".to_owned())]);
    story.connection.closed();
    story.connection.opened();
    assert_eq!(story.connect("/", "null").as_deref(), Some(r#"0{"pid":"p","offset":"o2"}"#));
    // The server has forgotten us.
    assert_eq!(story.hears(r#"0{"sid":"b","pid":"q"}"#), "connected /");
    assert!(!story.connection.recovered("/"));
    story.connection.closed();
    story.connection.opened();
    assert_eq!(story.connect("/", "null").as_deref(), Some(r#"0{"pid":"q"}"#));
}

#[test]
fn the_offset_is_the_last_argument_if_it_is_a_string() {
    check(r#"2["e","x"]"#, Some("x"));
    check(r#"2["e",{"a":"b"},"a\\"]"#, Some("a\\"));
    check(r#"2["e","a\"b\\\"c"]"#, Some("a\"b\\\"c"));
    check(r#"2["e", "x" ] "#, Some("x"));
    check(r#"2["e","é"]"#, Some("é"));
    check(r#"2["e",""]"#, Some(""));
    check(r#"2["e"]"#, None);
    check(r#"2["e",{"a":"b"}]"#, None);
    check(r#"2["e",["b"]]"#, None);
    check(r#"2["e",1]"#, None);
    check(&format!(r#"2["e","{}"]"#, "x".repeat(257)), None); // L21

    #[track_caller]
    fn check(event: &str, want: Option<&str>) {
        let mut story = Story::connected(r#"0{"sid":"a","pid":"p"}"#);
        story.hears(event);
        story.connection.closed();
        story.connection.opened();
        let data = story.connection.connecting(story.now, "/", None).unwrap().unwrap();
        let Value::Map(data) = data else { panic!("not an object") };
        assert_eq!(data.get("offset").and_then(Value::as_str), want, "event: {event}");
    }
}

#[test]
fn what_comes_too_early_is_kept_within_bounds() {
    let mut story = Story::connecting();
    for _ in 0..8_192 {
        assert_eq!(story.hears(r#"2["early"]"#), "ignored");
    }
    assert_eq!(story.hears(r#"2["early"]"#), format!("violation: {}", Violation::NotConnected));
    let mut story = Story::connecting();
    let big = format!(r#"2["early","{}"]"#, "x".repeat(1 << 20));
    for _ in 0..3 {
        assert_eq!(story.hears(&big), "ignored");
    }
    assert_eq!(story.hears(&big), format!("violation: {}", Violation::NotConnected));
}

#[test]
fn old_servers_join_the_main_namespace_by_themselves() {
    let mut story = Story::new(Revision::V4);
    story.connection.join("/");
    story.connection.join("/admin");
    assert_eq!(story.connection.opened(), ["/", "/admin"]);
    story.connection.set_session("abc");
    assert_eq!(story.connect("/", r#"{"a":1}"#), None);
    // What they know of auth is the query of the namespace, and of ids that of the session.
    assert!(story.connect("/admin", r#"{"a":1}"#).is_some());
    assert_eq!(story.hears("0"), "connected /");
    assert_eq!(story.hears("0/admin,"), "connected /admin");
    assert_eq!(story.connection.id("/"), Some("abc"));
    assert_eq!(story.connection.id("/admin"), Some("/admin#abc"));
    // It may be faster than we are.
    let mut story = Story::new(Revision::V4);
    story.connection.join("/");
    story.connection.opened();
    assert_eq!(story.hears("0"), "connected /");
}

#[test]
fn auth_becomes_the_query_of_a_namespace() {
    check("null", "/admin");
    check("{}", "/admin");
    check(r#"{"token":"secret"}"#, "/admin?token=secret");
    check(
        r#"{"a b":"é&=","n":5,"t":true,"z":null,"l":[1,"x"]}"#,
        "/admin?a%20b=%C3%A9%26%3D&n=5&t=true&z=&l=%5B1%2C%22x%22%5D",
    );

    #[track_caller]
    fn check(auth: &str, want: &str) {
        let auth: Value = serde_json::from_str(auth).unwrap();
        assert_eq!(namespace_with_query("/admin", Some(&auth)), want);
    }
}

#[test]
fn back_off_is_that_of_the_javascript_client() {
    let node = Backoff::default();
    // What `duration()` of socket.io-client 4.8.4 returns when `Math.random` returns this.
    check(node, 0, 0.0, 1_000);
    check(node, 0, 0.09, 955);
    check(node, 0, 0.19, 1_095);
    check(node, 0, 0.89, 555);
    check(node, 0, 0.999, 1_499);
    check(node, 1, 0.5, 2_500);
    check(node, 1, 0.4, 1_600);
    check(node, 2, 0.89, 2_220);
    check(node, 2, 0.999, 5_000);
    check(node, 3, 0.5, 5_000);
    check(node, 3, 0.89, 4_440);
    check(node, 4, 0.89, 5_000);
    check(node, 5_000, 0.5, 5_000);
    check(node, u32::MAX, 0.0, 5_000);
    let plain = Backoff { randomization_factor: 0.0, delay_max: Duration::from_secs(60), ..node };
    for (attempts, want) in [(0, 1_000), (1, 2_000), (2, 4_000), (3, 8_000), (5, 32_000), (6, 60_000), (7, 60_000)] {
        check(plain, attempts, 0.7, want);
    }
    // L18: never at once.
    check(Backoff { randomization_factor: 1.0, ..node }, 0, 0.8999, 101);
    check(Backoff { delay: Duration::from_millis(1), randomization_factor: 1.0, ..node }, 0, 0.9999, 1);
    check(Backoff { delay: Duration::ZERO, ..node }, 9, 0.5, 1);
    check(Backoff { delay_max: Duration::ZERO, ..node }, 9, 0.5, 0);

    #[track_caller]
    fn check(backoff: Backoff, attempts: u32, random: f64, want: u64) {
        assert_eq!(backoff.duration(attempts, random).as_millis() as u64, want, "attempt {attempts}, random {random}");
    }
}
