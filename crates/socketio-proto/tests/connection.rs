//! The connection machine and the book of acks: state, deadlines, who is told what.

use std::time::{Duration, Instant};

use socketio_proto::{
    Acks, AnyParser, CloseKind, Connection, Decision, Decoder, Limits, Message, Revision, Slot, TimedOut, Violation,
    is_valid_namespace,
};

/// A connection with its decoder and a clock of its own.
struct Client {
    connection: Connection,
    decoder: Decoder,
    now: Instant,
    slots: Vec<Slot>,
}

impl Client {
    fn new(revision: Revision) -> Self {
        Self::with(revision, &Limits::default())
    }

    fn with(revision: Revision, limits: &Limits) -> Self {
        let now = Instant::now();
        let connection = Connection::new(revision, limits, now);
        Self { connection, decoder: AnyParser::json().decoder(limits), now, slots: Vec::new() }
    }

    /// A 4.x client that has joined `/`.
    fn connected() -> Self {
        let mut client = Self::new(Revision::V5);
        let slot = client.ask("0");
        assert!(client.connection.accept(slot));
        client
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// What happens to a message, in words.
    fn send(&mut self, text: &str) -> String {
        let packet = self.decoder.decode(Message::Text(text)).expect("it decodes").expect("it is whole");
        let decision = self.connection.on_packet(packet, self.now);
        words(decision, &mut self.slots)
    }

    #[track_caller]
    fn check(&mut self, text: &str, want: &str) {
        assert_eq!(self.send(text), want, "{text}");
    }

    #[track_caller]
    fn ask(&mut self, text: &str) -> Slot {
        let answer = self.send(text);
        assert!(answer.starts_with("asks"), "{text}: {answer}");
        *self.slots.last().expect("a slot was reserved")
    }

    fn timed_out(&mut self) -> Option<TimedOut> {
        self.connection.on_time(self.now)
    }

    fn due_in(&self) -> Option<u64> {
        self.connection.deadline().map(|deadline| deadline.duration_since(self.now).as_secs())
    }
}

fn words(decision: Decision<'_>, slots: &mut Vec<Slot>) -> String {
    match decision {
        Decision::ConnectRequest { slot, namespace, auth } => {
            slots.push(slot);
            let auth = auth.map(|auth| serde_json::Value::from(auth.value().expect("it is valid")).to_string());
            format!("asks {namespace} {}", auth.unwrap_or_default()).trim_end().to_owned()
        }
        Decision::Refuse { namespace, message } => format!("refused {namespace} {message}"),
        Decision::Deliver { slot, packet } => format!("{:?} in {}", packet.kind(), slot.index()),
        Decision::Disconnect { slot } => format!("left {}", slot.index()),
        Decision::Ignore => "ignored".to_owned(),
        Decision::Close(violation) => format!("{}: {}", violation.close_kind().reason(), violation.code()),
    }
}

#[test]
fn s01_a_second_connect_closes() {
    for again in ["0", "0/", "0{}", "01", "0/,{\"a\":1}"] {
        Client::connected().check(again, "forced server close: already_connected");
    }
}

#[test]
fn s03_a_burst_of_connects_reserves_one_slot() {
    let mut client = Client::new(Revision::V5);
    client.check("0", "asks /");
    client.check("0", "forced server close: already_connected");
}

#[test]
fn s04_packets_before_the_namespace_is_joined_close() {
    for early in ["2[\"early\"]", "30[]", "3", "1", "2/nope,[\"a\"]"] {
        Client::new(Revision::V5).check(early, "forced server close: not_connected");
        let mut pending = Client::new(Revision::V5);
        pending.check("0", "asks /");
        pending.check(early, "forced server close: not_connected");
    }
}

#[test]
fn s05_a_refused_namespace_leaves_the_connection() {
    let mut client = Client::connected();
    let slot = client.ask("0/nope,");
    assert!(client.connection.refuse(slot));
    assert!(!client.connection.refuse(slot) && !client.connection.accept(slot));
    client.check("2[\"a\"]", "Event in 0");
    client.check("0/nope", "asks /nope");
    assert!(client.connection.refuse(*client.slots.last().unwrap()));
    client.check("2/nope,[\"a\"]", "forced server close: not_connected");
}

#[test]
fn s06_a_client_leaves_a_namespace() {
    let mut client = Client::connected();
    let slot = client.ask("0/b,{\"token\":\"x\"}");
    assert!(client.connection.accept(slot));
    assert_eq!(client.connection.connected_count(), 2);
    client.check("1", "left 0");
    client.check("2/b,[\"a\"]", "Event in 1");
    assert_eq!(client.connection.connected("/"), None);
    assert_eq!(client.connection.connected("/b"), Some(slot));
    assert_eq!(client.connection.namespace(slot), Some("/b"));
    client.check("0", "asks /");
    client.check("1/nope", "forced server close: not_connected");
    let mut client = Client::connected();
    client.check("1", "left 0");
    client.check("2[\"late\"]", "forced server close: not_connected");
}

#[test]
fn s21_what_only_servers_send_closes() {
    for packet in ["4", "4{\"message\":\"x\"}", "4\"x\"", "4/nope,"] {
        Client::connected().check(packet, "forced server close: wrong_direction");
    }
}

#[test]
fn s23_unknown_namespaces_close() {
    let mut client = Client::connected();
    client.check("2/nope,[\"a\"]", "forced server close: not_connected");
    let mut client = Client::connected();
    client.check("3/nope,1[\"a\"]", "forced server close: not_connected");
}

#[test]
fn s24_names_of_namespaces() {
    let mut client = Client::connected();
    let long = format!("/{}", "n".repeat(256));
    client.check(&format!("0{long},"), &format!("refused {long} Invalid namespace"));
    client.check("0/a\u{1}b,", "refused /a\u{1}b Invalid namespace");
    client.check("0/a\u{7f}", "refused /a\u{7f} Invalid namespace");
    for (slot, legal) in ["/?x=1", "//", "/%zz", "/\\x", "/é", &long[..256]].into_iter().enumerate() {
        client.check(&format!("0{legal}"), &format!("asks {legal}"));
        assert_eq!(client.slots.last().unwrap().index(), slot + 1);
    }
    // Only the JSON parser guarantees the slash.
    assert!(!is_valid_namespace("", 256) && !is_valid_namespace("foo", 256) && is_valid_namespace("/", 256));
}

#[test]
fn n02_the_number_of_namespaces_is_limited() {
    let mut client = Client::connected();
    for n in 1..32 {
        client.check(&format!("0/{n}"), &format!("asks /{n}"));
    }
    for n in 32..40 {
        client.check(&format!("0/{n}"), &format!("refused /{n} Too many namespaces"));
    }
    let free = client.slots[1];
    assert!(client.connection.refuse(free));
    let slot = client.ask("0/new");
    assert_eq!(slot.index(), 1);
    // What is said too late about the place's former owner is not about the new one.
    assert_ne!(slot, free);
    assert!(!client.connection.accept(free) && !client.connection.refuse(free));
    assert!(client.connection.accept(slot));
    assert!(!client.connection.disconnect(free, client.now));
    assert_eq!(client.connection.namespace(free), None);
}

#[test]
fn packets_in_flight_when_the_server_disconnects_are_ignored_for_a_while() {
    let mut client = Client::connected();
    let slot = client.ask("0/b");
    assert!(client.connection.accept(slot));
    assert!(client.connection.disconnect(slot, client.now));
    assert!(!client.connection.disconnect(slot, client.now));
    for late in ["2/b,[\"late\"]", "3/b,1[]", "1/b"] {
        client.check(late, "ignored");
    }
    client.check("2[\"a\"]", "Event in 0");
    client.wait(19);
    client.check("2/b,[\"late\"]", "ignored");
    client.wait(1);
    client.check("2/b,[\"late\"]", "forced server close: not_connected");

    // A new CONNECT says that the client knows.
    let mut client = Client::connected();
    assert!(client.connection.disconnect(client.slots[0], client.now));
    let slot = client.ask("0");
    client.check("2[\"early\"]", "forced server close: not_connected");
    assert!(client.connection.refuse(slot));
    client.check("2[\"early\"]", "forced server close: not_connected");

    // However often the server disconnects, only so many names are remembered.
    let mut client = Client::connected();
    for n in 0..33 {
        let slot = client.ask(&format!("0/{n}"));
        assert!(client.connection.accept(slot) && client.connection.disconnect(slot, client.now));
    }
    client.check("2/32,[\"late\"]", "ignored");
    client.check("2/1,[\"late\"]", "ignored");
    client.check("2/0,[\"late\"]", "forced server close: not_connected");
}

#[test]
fn a_connection_without_namespace_times_out() {
    let close = Some(TimedOut::Close(Violation::ConnectTimeout));
    let mut client = Client::new(Revision::V5);
    assert_eq!(client.due_in(), Some(45));
    client.wait(44);
    assert_eq!(client.timed_out(), None);
    client.check("0", "asks /");
    client.wait(1);
    // Middleware that still thinks is no namespace joined.
    assert_eq!(client.timed_out(), close);
    assert_eq!(Violation::ConnectTimeout.close_kind(), CloseKind::ForcedServer);

    let mut client = Client::connected();
    assert_eq!(client.due_in(), None);
    client.check("1", "left 0");
    client.wait(1_000);
    assert_eq!(client.timed_out(), None);
}

#[test]
fn n04_a_join_times_out_alone() {
    let mut client = Client::connected();
    client.wait(5);
    let slot = client.ask("0/slow");
    let other = client.ask("0/other");
    assert!(client.connection.accept(other));
    assert_eq!(client.due_in(), Some(45));
    client.wait(45);
    assert_eq!(client.timed_out(), Some(TimedOut::Join { slot, namespace: "/slow".to_owned() }));
    assert_eq!(client.timed_out(), None);
    assert_eq!(client.due_in(), None);
    assert!(!client.connection.accept(slot));
    client.check("2[\"a\"]", "Event in 0");
    client.check("0/slow", "asks /slow");
}

#[test]
fn b14_attachments_have_a_deadline() {
    let mut client = Client::connected();
    let header = client.decoder.decode(Message::Text("52-[\"a\"]")).expect("a header");
    assert!(header.is_none());
    client.connection.reconstructing(client.decoder.is_reconstructing(), client.now);
    client.wait(29);
    assert!(client.decoder.decode(Message::Binary(b"1")).expect("an attachment").is_none());
    client.connection.reconstructing(client.decoder.is_reconstructing(), client.now);
    assert_eq!(client.timed_out(), None);
    assert_eq!(client.due_in(), Some(1));
    client.wait(1);
    assert_eq!(client.timed_out(), Some(TimedOut::Close(Violation::AttachmentTimeout)));
    assert_eq!(Violation::AttachmentTimeout.close_kind(), CloseKind::ParseError);

    client.connection.reconstructing(true, client.now);
    assert!(client.decoder.decode(Message::Binary(b"2")).expect("an attachment").is_some());
    client.connection.reconstructing(client.decoder.is_reconstructing(), client.now);
    assert_eq!(client.due_in(), None);
}

#[test]
fn an_older_client_is_in_the_main_namespace_without_asking() {
    let mut client = Client::new(Revision::V4);
    let decision = client.connection.open(client.now).expect("a request");
    assert_eq!(words(decision, &mut client.slots), "asks /");
    assert!(client.connection.accept(client.slots[0]));
    client.check("0", "forced server close: already_connected");

    let mut client = Client::new(Revision::V4);
    client.check(
        "0/admin?token=1&a=%20b+c&a=%C3%A9&x&=2&&%zz=%4,",
        r#"asks /admin {"":"2","%zz":"%4","a":"é","token":"1","x":""}"#,
    );
    assert!(client.connection.accept(client.slots[0]));
    client.check("2/admin,[\"a\"]", "Event in 0");
    client.check("2/admin?token=1,[\"a\"]", "Event in 0");
    client.check("0/admin?token=2,", "forced server close: already_connected");
    let mut client = Client::new(Revision::V4);
    client.check("0/b?", "asks /b {}");
    client.check("0/c,", "asks /c");
}

#[test]
fn a_closed_connection_names_its_sockets() {
    let mut client = Client::connected();
    let pending = client.ask("0/pending");
    let left = client.ask("0/left");
    let last = client.ask("0/last");
    assert!(client.connection.accept(last) && client.connection.accept(left));
    client.check("1/left", "left 2");
    let gone = client.connection.close();
    assert_eq!(gone, [(client.slots[0], "/".to_owned()), (last, "/last".to_owned())]);
    assert!(!client.connection.accept(pending));
    assert_eq!(client.connection.close(), []);
    assert_eq!(client.due_in(), None);
}

#[test]
fn a_limit_beyond_the_clock_never_comes() {
    let mut limits = Limits::default();
    limits.connect_timeout = Duration::MAX;
    limits.disconnect_grace = Duration::MAX;
    limits.attachment_timeout = Duration::MAX;
    let mut client = Client::with(Revision::V5, &limits);
    client.connection.reconstructing(true, client.now);
    let slot = client.ask("0");
    assert_eq!(client.due_in(), None);
    assert_eq!(client.timed_out(), None);
    assert!(client.connection.accept(slot) && client.connection.disconnect(slot, client.now));
    client.wait(1_000_000);
    client.check("2[\"late\"]", "ignored");
}

#[test]
fn acks_are_taken_once() {
    let now = Instant::now();
    let mut acks = Acks::new(3);
    assert_eq!(acks.register('a', Some(now)), Ok(0));
    assert_eq!(acks.register('b', None), Ok(1));
    assert_eq!(acks.register('c', Some(now)), Ok(2));
    let refused = acks.register('d', None).expect_err("the cap");
    assert_eq!((refused.cap, refused.value), (3, 'd'));
    assert_eq!(acks.take(1), Some('b'));
    assert_eq!(acks.take(1), None);
    assert_eq!(acks.take(7), None);
    assert_eq!(acks.register('d', None), Ok(3));
    assert_eq!(acks.len(), 3);
    assert_eq!(acks.drain().collect::<Vec<_>>(), [(0, 'a'), (2, 'c'), (3, 'd')]);
    assert!(acks.is_empty());
    assert_eq!((acks.next_deadline(), acks.take(0)), (None, None));
    assert_eq!(acks.register('e', None), Ok(4));
}

#[test]
fn acks_expire_in_the_order_of_their_deadlines() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut acks = Acks::new(10);
    for seconds in [5, 1, 3, 1] {
        acks.register(seconds, Some(at(seconds))).expect("room");
    }
    acks.register(0, None).expect("room");
    assert_eq!(acks.next_deadline(), Some(at(1)));
    assert_eq!(acks.expire(start).count(), 0);
    assert_eq!(acks.expire(at(3)).collect::<Vec<_>>(), [(1, 1), (3, 1), (2, 3)]);
    assert_eq!(acks.next_deadline(), Some(at(5)));
    // An answer that came too late answers nothing, one that came in time does not expire.
    assert_eq!(acks.take(1), None);
    assert_eq!(acks.take(0), Some(5));
    assert_eq!(acks.next_deadline(), None);
    assert_eq!(acks.expire(at(1_000)).count(), 0);
    assert_eq!(acks.len(), 1);
}

#[test]
fn a10_a_million_late_answers_leave_nothing() {
    let start = Instant::now();
    let mut acks = Acks::new(8_192);
    for n in 0..1_000_000_u64 {
        let now = start + Duration::from_millis(n);
        acks.register((), Some(now + Duration::from_millis(10))).expect("room");
        acks.expire(now).for_each(drop);
        assert!(acks.len() <= 10);
    }
    acks.expire(start + Duration::from_secs(2_000)).for_each(drop);
    assert!(acks.is_empty() && acks.next_deadline().is_none());
}
