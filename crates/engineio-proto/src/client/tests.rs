use super::*;
use crate::HEADROOM;
use crate::payload::PayloadCursor;

const OPEN: &str =
    r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100}"#;
const PLAIN: &str = r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100}"#;

/// A session, and a clock that only moves when told.
struct Story {
    session: Session,
    now: Instant,
}

impl Story {
    fn new(transport: Transport) -> Self {
        Self::with(Config::default(), transport)
    }

    fn with(config: Config, transport: Transport) -> Self {
        let now = Instant::now();
        Self { session: Session::new(now, config, transport), now }
    }

    /// What it asks for, each in a word.
    fn asks(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some(output) = self.session.poll(self.now) {
            asked.push(match output {
                Output::Get => "get".to_owned(),
                Output::Post(payload) => format!("post {}", String::from_utf8_lossy(&payload.body)),
                Output::Write(link, packet) => {
                    let at = if link == Link::Candidate { "candidate" } else { "socket" };
                    let payload = encode_payload(Revision::V4, true, [&packet]);
                    format!("{at} {}", String::from_utf8_lossy(&payload.body))
                }
                Output::Opened(open) => format!("opened {}", open.sid),
                Output::Pinged => "pinged".to_owned(),
                Output::Dial => "dial".to_owned(),
                Output::DropCandidate => "drop candidate".to_owned(),
                Output::Upgraded => "upgraded".to_owned(),
                Output::CloseSocket => "close socket".to_owned(),
                Output::Closed(reason) => match reason.description() {
                    Some(description) => format!("closed {reason} ({description})"),
                    None => format!("closed {reason}"),
                },
            });
        }
        asked
    }

    #[track_caller]
    fn asks_for(&mut self, want: &[&str]) -> &mut Self {
        assert_eq!(self.asks(), want);
        self
    }

    /// The poll is answered.
    fn polled(&mut self, body: &str) -> Vec<String> {
        let mut cursor = PayloadCursor::new(self.session.revision(), false);
        let mut messages = Vec::new();
        while let Some(packet) = cursor.next(body.as_bytes()) {
            match packet {
                Ok(packet) => messages.extend(self.session.on_packet(self.now, packet).map(shown)),
                Err(error) => self.session.on_malformed(error.as_str()),
            }
        }
        self.session.on_get_done(self.now);
        messages
    }

    /// A packet came on the WebSocket that carries the session.
    fn heard(&mut self, text: &str) -> Option<String> {
        let packet = Packet::decode_text(self.session.revision(), text).expect("the tests write packets");
        self.session.on_packet(self.now, packet).map(shown)
    }

    fn candidate_heard(&mut self, text: &str) -> &mut Self {
        let packet = Packet::decode_text(Revision::V4, text).ok();
        self.session.on_candidate_packet(packet.as_ref());
        self
    }

    fn sends(&mut self, text: &str) -> Result<(), SendError> {
        self.session.send([frame(text)])
    }

    /// Time passes, stopping at every deadline.
    fn wait(&mut self, seconds: u64) -> &mut Self {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.session.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.session.on_time(self.now);
        }
        self.now = until;
        self
    }

    fn on_polling(open: &str) -> Self {
        let mut story = Self::new(Transport::Polling);
        story.asks_for(&["get"]);
        story.polled(open);
        story
    }

    fn on_websocket() -> Self {
        let mut story = Self::new(Transport::WebSocket);
        story.asks_for(&[]);
        story.heard(PLAIN);
        story.asks_for(&["opened abc"]);
        story
    }
}

fn frame(text: &str) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(text.as_bytes());
    Frame::text(buffer, HEADROOM)
}

fn binary(bytes: &[u8]) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(bytes);
    Frame::binary(buffer, HEADROOM)
}

fn shown(data: Data<'_>) -> String {
    match data {
        Data::Text(text) => text.into_owned(),
        Data::Binary(bytes) => format!("{bytes:?}"),
    }
}

#[test]
fn polling_has_one_get_and_one_post_at_a_time() {
    let mut story = Story::on_polling(PLAIN);
    story.asks_for(&["opened abc", "get"]);
    story.sends("a").unwrap();
    story.asks_for(&["post 4a"]);
    story.sends("b").unwrap();
    story.sends("c").unwrap();
    story.asks_for(&[]);
    story.session.on_post_done();
    story.asks_for(&["post 4b\u{1e}4c"]);
    assert_eq!(story.polled("4x\u{1e}bAQI="), ["x", "[1, 2]"]);
    story.asks_for(&["get"]);
}

#[test]
fn a_post_is_cut_where_the_server_takes_no_more() {
    let mut story = Story::on_polling(PLAIN);
    story.asks();
    // Two packets of 50 bytes and a separator are 101.
    let fifty = "x".repeat(49);
    story.session.send([frame(&fifty), frame(&fifty), binary(&[0; 36]), frame("y")]).unwrap();
    story.asks_for(&[&format!("post 4{fifty}")]);
    story.session.on_post_done();
    // 50 and 1 + 49 fit exactly: b and 48 characters are 49.
    story.asks_for(&[&format!("post 4{fifty}\u{1e}b{}", "A".repeat(48))]);
    story.session.on_post_done();
    story.asks_for(&["post 4y"]);
}

#[test]
fn what_the_server_never_takes_is_refused_whole() {
    let mut story = Story::on_polling(PLAIN);
    story.asks();
    assert_eq!(story.sends(&"x".repeat(99)), Ok(()));
    assert_eq!(story.sends(&"x".repeat(100)), Err(SendError::TooLarge { len: 101, limit: 100 }));
    let pair = [frame("small"), binary(&[0; 76])];
    assert_eq!(story.session.send(pair), Err(SendError::TooLarge { len: 105, limit: 100 }));
    story.asks_for(&[&format!("post 4{}", "x".repeat(99))]);
    // On WebSocket bytes travel as they are.
    assert_eq!(Story::on_websocket().session.send([binary(&[0; 76])]), Ok(()));
}

#[test]
fn the_queue_has_a_limit_and_the_session_survives_it() {
    let config = Config { send_queue_packets: 2, ..Config::default() };
    let mut story = Story::with(config, Transport::WebSocket);
    assert_eq!(story.sends("early"), Err(SendError::Closed));
    story.heard(PLAIN);
    assert_eq!([story.sends("a"), story.sends("b"), story.sends("c")], [Ok(()), Ok(()), Err(SendError::Full)]);
    story.asks_for(&["opened abc", "socket 4a", "socket 4b"]);
    assert_eq!(story.session.queued_bytes(), 0);
    assert_eq!(story.sends("c"), Ok(()));
}

#[test]
fn an_upgrade_keeps_the_order_and_stops_the_polls() {
    let mut story = Story::on_polling(OPEN);
    story.asks_for(&["opened abc", "dial", "get"]);
    story.session.on_candidate_open();
    story.asks_for(&["candidate 2probe"]);
    story.sends("before").unwrap();
    story.asks_for(&["post 4before"]);
    story.candidate_heard("3probe");
    // Both requests have to come back first; nothing new begins.
    story.sends("during").unwrap();
    story.asks_for(&[]);
    story.session.on_post_done();
    story.asks_for(&[]);
    assert_eq!(story.polled("4last\u{1e}6"), ["last"]);
    story.asks_for(&["upgraded", "socket 5", "socket 4during"]);
    assert_eq!(story.session.transport(), Transport::WebSocket);
    assert_eq!(story.heard("4hi").as_deref(), Some("hi"));
    story.asks_for(&[]);
}

#[test]
fn a_failed_probe_leaves_the_polling_session_untouched() {
    check(|story| _ = story.candidate_heard("3prob"), &["drop candidate"]);
    check(|story| _ = story.candidate_heard("nonsense"), &["drop candidate"]);
    check(|story| story.session.on_candidate_gone(), &[]);
    check(|story| _ = story.wait(10), &["drop candidate"]);
    // The last poll is never released: polling goes on after the time of the upgrade.
    check(|story| _ = story.candidate_heard("3probe").wait(10), &["drop candidate"]);

    #[track_caller]
    fn check(fails: impl FnOnce(&mut Story), want: &[&str]) {
        let mut story = Story::on_polling(OPEN);
        story.asks();
        story.session.on_candidate_open();
        story.asks_for(&["candidate 2probe"]);
        fails(&mut story);
        story.asks_for(want);
        story.sends("on").unwrap();
        story.asks_for(&["post 4on"]);
        assert_eq!(story.polled("4still"), ["still"]);
        story.asks_for(&["get"]);
        story.candidate_heard("3probe");
        story.asks_for(&[]);
    }
}

#[test]
fn an_upgrade_needs_the_servers_offer_and_ours() {
    let mut story = Story::with(Config { upgrade: false, ..Config::default() }, Transport::Polling);
    story.asks();
    story.polled(OPEN);
    story.asks_for(&["opened abc", "get"]);
    Story::on_polling(PLAIN).asks_for(&["opened abc", "get"]);
    let mut story = Story::new(Transport::WebSocket);
    story.heard(OPEN);
    story.asks_for(&["opened abc"]);
}

#[test]
fn the_server_pings_in_revision_4() {
    let mut story = Story::on_websocket();
    story.wait(40);
    story.heard("2");
    story.heard("2");
    // A flood is answered once.
    story.asks_for(&["pinged", "socket 3"]);
    story.wait(44).asks_for(&[]);
    story.heard("2");
    story.asks_for(&["pinged", "socket 3"]);
    // Messages are no sign of life, as in Node.
    story.heard("4x");
    story.wait(45).asks_for(&["closed ping timeout"]);
    story.wait(100).asks_for(&[]);
}

#[test]
fn the_client_pings_in_revision_3() {
    let config = Config { revision: Revision::V3, ..Config::default() };
    let mut story = Story::with(config, Transport::WebSocket);
    story.heard(PLAIN);
    story.asks_for(&["opened abc"]);
    story.wait(25).asks_for(&["socket 2"]);
    story.wait(19);
    story.heard("3");
    story.wait(25).asks_for(&["socket 2"]);
    story.wait(20).asks_for(&["closed ping timeout"]);
}

#[test]
fn a_session_that_does_not_open_ends() {
    check("", "closed parse error (empty packet)");
    check("<html>", "closed parse error (unknown packet kind)");
    check("40", "closed parse error (a packet before the open packet)"); // L02
    check("6", "closed parse error (a packet before the open packet)");
    check("0", "closed parse error (invalid open packet)"); // L03
    check("0{", "closed parse error (invalid open packet)");
    check("0null", "closed parse error (invalid open packet)");
    check(&format!("{PLAIN}\u{1e}{PLAIN}"), "closed parse error (a second open packet)"); // L08
    check("1", "closed transport close");

    #[track_caller]
    fn check(body: &str, want: &str) {
        let mut story = Story::on_polling(body);
        let asked = story.asks();
        assert_eq!(asked.last().map(String::as_str), Some(want), "body: {body}");
        assert_eq!(story.session.deadline(), None);
    }

    // L19: nobody answers at all.
    Story::new(Transport::WebSocket).wait(20).asks_for(&["closed transport error (timeout)"]);
}

#[test]
fn closing_sends_what_is_queued() {
    let mut story = Story::on_websocket();
    story.sends("bye").unwrap();
    story.session.close(story.now);
    assert_eq!(story.sends("late"), Err(SendError::Closed));
    story.asks_for(&["socket 4bye", "close socket", "closed forced close"]);

    let mut story = Story::on_polling(PLAIN);
    story.asks();
    story.sends("bye").unwrap();
    story.asks_for(&["post 4bye"]);
    story.session.close(story.now);
    story.asks_for(&[]);
    story.session.on_post_done();
    story.asks_for(&["post 1"]);
    story.session.on_post_done();
    story.asks_for(&["closed forced close"]);
}

#[test]
fn closing_has_a_deadline() {
    let mut story = Story::on_polling(PLAIN);
    story.asks();
    story.session.close(story.now);
    story.asks_for(&["post 1"]);
    story.wait(5).asks_for(&["closed forced close"]);
}

#[test]
fn closing_while_an_upgrade_is_on() {
    let mut story = Story::on_polling(OPEN);
    story.asks();
    story.session.close(story.now);
    story.asks_for(&["drop candidate", "post 1"]);

    let mut story = Story::on_polling(OPEN);
    story.asks();
    story.session.on_candidate_open();
    story.candidate_heard("3probe").asks_for(&["candidate 2probe"]);
    story.session.close(story.now);
    story.polled("6");
    story.asks_for(&["upgraded", "socket 5", "close socket", "closed forced close"]);
}

#[test]
fn links_that_break_end_the_session() {
    let mut story = Story::on_polling(PLAIN);
    story.asks();
    story.session.on_carrier_gone(CloseReason::TransportError("poll error"));
    story.asks_for(&["closed transport error (poll error)"]);
    let mut story = Story::on_websocket();
    story.session.on_carrier_gone(CloseReason::TransportClose);
    story.session.on_carrier_gone(CloseReason::TransportError("again"));
    story.asks_for(&["closed transport close"]);
    assert_eq!(story.heard("4late"), None);
    // A POST that is never answered.
    let mut story = Story::on_polling(PLAIN);
    story.asks();
    story.sends("x").unwrap();
    story.asks_for(&["post 4x"]);
    story.wait(30).asks_for(&["closed transport error (post timeout)"]);
}

#[test]
fn polls_that_bring_nothing_do_not_follow_at_once() {
    let mut story = Story::on_polling(PLAIN);
    story.asks_for(&["opened abc", "get"]);
    story.polled("6");
    story.asks_for(&[]);
    let due = story.session.deadline().unwrap();
    assert_eq!(due - story.now, Duration::from_millis(100));
    story.now = due;
    story.asks_for(&["get"]);
    // What was held for long, or brings something, is followed at once.
    story.wait(1).polled("6");
    story.asks_for(&["get"]);
    story.polled("6\u{1e}4x");
    story.asks_for(&["get"]);
    story.polled("2");
    story.asks_for(&["pinged", "get", "post 3"]);
}

#[test]
fn short_polling_waits_between_polls_that_bring_nothing() {
    let config = Config { poll_interval: Some(Duration::from_secs(2)), ..Config::default() };
    let mut story = Story::with(config.clone(), Transport::Polling);
    story.asks_for(&["get"]);
    story.polled(OPEN);
    story.asks_for(&["opened abc", "dial", "get"]);
    story.polled("6");
    story.wait(1).asks_for(&[]);
    story.sends("at once").unwrap();
    story.asks_for(&["post 4at once"]);
    story.wait(1).asks_for(&["get"]);
    story.polled("4x");
    story.asks_for(&["get"]);
    // An upgrade does not wait for the next poll, and there is none behind it.
    story.session.on_post_done();
    story.polled("6");
    story.session.on_candidate_open();
    story.candidate_heard("3probe").asks_for(&["candidate 2probe", "upgraded", "socket 5"]);
    assert_ne!(story.session.deadline(), None);
    story.wait(10).asks_for(&[]);

    // Closing does not wait for it either, and leaves no alarm behind.
    let mut story = Story::with(config, Transport::Polling);
    story.asks_for(&["get"]);
    story.polled(PLAIN);
    story.asks();
    story.polled("6");
    story.session.close(story.now);
    story.asks_for(&["post 1"]);
    story.wait(3).asks_for(&[]);
}
