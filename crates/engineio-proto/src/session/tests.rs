//! The session's rules as stories on a virtual clock. What the machine asks for is written down as text.

use super::*;
use crate::HEADROOM;

/// A session, its clock, and what it asked for.
struct Story {
    now: Instant,
    start: Instant,
    session: Session,
}

fn config() -> Config {
    Config::default()
}

fn text(data: &str) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(data.as_bytes());
    Frame::text(buffer, HEADROOM)
}

impl Story {
    fn with(config: Config, revision: Revision, transport: Transport) -> Self {
        let now = Instant::now();
        let open = OutPacket::control(PacketKind::Open, "{}");
        let session = Session::open(now, Arc::new(config), revision, transport, false, open, None);
        let mut story = Self { now, start: now, session };
        if transport == Transport::Polling {
            story.get();
            assert_eq!(story.asks(), ["#1:0{}"].map(|text| if revision == Revision::V3 { "#1:3:0{}" } else { text }));
        } else {
            assert_eq!(story.asks(), ["ws:0{}"]);
        }
        story
    }

    fn polling() -> Self {
        Self::with(config(), Revision::V4, Transport::Polling)
    }

    fn socket() -> Self {
        Self::with(config(), Revision::V4, Transport::WebSocket)
    }

    /// A polling session whose candidate has probed successfully.
    fn probed() -> Self {
        let mut story = Self::polling();
        story.session.on_candidate(story.now).unwrap();
        story.candidate("2probe");
        assert_eq!(story.asks(), ["cand:3probe"]);
        story
    }

    fn get(&mut self) -> Ticket {
        self.session.on_poll(self.now, None).expect("the only GET")
    }

    fn candidate(&mut self, wire: &str) {
        let revision = self.session.revision();
        self.session.on_candidate_packet(Packet::decode_text(revision, wire).ok().as_ref());
    }

    /// Feeds one packet on the carrier; returns the message it held.
    fn feed(&mut self, wire: &str) -> Option<String> {
        let packet = Packet::decode_text(self.session.revision(), wire).expect("a packet");
        self.session.on_packet(self.now, packet).map(|data| data.as_text().unwrap_or("binary").to_owned())
    }

    fn send(&mut self, data: &str) {
        self.session.send([text(data)]).expect("the session is open");
    }

    /// Lets time pass, stopping at every deadline on the way, and collects what is asked for with its time in ms.
    fn pass(&mut self, millis: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(millis);
        let mut log = Vec::new();
        loop {
            for line in self.asks() {
                log.push(format!("{} {line}", (self.now - self.start).as_millis()));
            }
            match self.session.deadline() {
                Some(due) if due <= until => {
                    assert!(due >= self.now, "a deadline in the past was not consumed");
                    self.now = due;
                    self.session.on_time(self.now);
                }
                _ => break,
            }
        }
        self.now = until;
        log
    }

    fn asks(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        while let Some(output) = self.session.poll(self.now, true) {
            log.push(match output {
                Output::AnswerPoll { ticket, payload, .. } => {
                    format!("#{}:{}", ticket.0, String::from_utf8_lossy(&payload.body).replace('\x1e', "|"))
                }
                Output::Write(link, packet) => {
                    let name = if link == Link::Socket { "ws" } else { "cand" };
                    let encoded = crate::payload::encode_websocket(self.session.revision(), true, &packet);
                    format!("{name}:{}", String::from_utf8_lossy(&encoded.bytes))
                }
                Output::Upgraded => "upgraded".to_owned(),
                Output::CloseLink(Link::Socket) => "close ws".to_owned(),
                Output::CloseLink(Link::Candidate) => "close cand".to_owned(),
                Output::RefuseCandidate(why) => format!("close cand ({why})"),
                Output::Closed(reason) => {
                    let detail = reason.description().map(|text| format!(" ({text})")).unwrap_or_default();
                    format!("closed: {reason}{detail}")
                }
            });
            assert!(log.len() < 10_000, "the machine never comes to rest");
        }
        log
    }
}

const NONE: [&str; 0] = [];

// Heartbeat.

#[test]
fn the_server_pings_after_the_interval_and_gives_up_after_the_timeout() {
    let mut story = Story::socket();
    assert_eq!(story.pass(60_000), ["25000 ws:2", "45000 close ws", "45000 closed: ping timeout"]);
}

#[test]
fn the_interval_counts_from_the_pong() {
    let mut story = Story::socket();
    assert_eq!(story.pass(30_000), ["25000 ws:2"]);
    story.feed("3");
    assert_eq!(story.pass(30_000), ["55000 ws:2"]);
}

#[test]
fn other_packets_do_not_move_the_heartbeat() {
    let mut story = Story::socket();
    let mut log = Vec::new();
    for _ in 0..50 {
        assert_eq!(story.feed("4x").as_deref(), Some("x"));
        log.extend(story.pass(1_000));
        if !log.iter().any(|line| line.ends_with("ping timeout")) {
            continue;
        }
        break;
    }
    assert_eq!(log, ["25000 ws:2", "45000 close ws", "45000 closed: ping timeout"]);
}

#[test]
fn a_thousand_unasked_pongs_change_nothing() {
    let mut story = Story::socket();
    story.pass(10_000);
    for _ in 0..1_000 {
        assert_eq!(story.feed("3"), None);
    }
    assert_eq!(story.pass(20_000), ["25000 ws:2"]);
}

#[test]
fn nothing_answers_a_ping_that_has_not_left() {
    let mut story = Story::polling();
    story.session.on_post().unwrap();
    for _ in 0..100 {
        story.pass(1_000);
        story.feed("3");
        assert!(story.session.queued_packets() <= 1, "a client that never asks for them collects pings");
    }
    assert_eq!(story.session.close_reason(), Some(CloseReason::PingTimeout));

    let mut story = Story::polling();
    story.get();
    assert_eq!(story.pass(26_000), ["25000 #2:2"]);
    story.feed("3");
    assert_eq!(story.pass(25_000), NONE, "the next one waits for a GET");
    story.get();
    assert_eq!(story.asks(), ["#3:2"]);
}

#[test]
fn a_v3_client_pings_and_is_given_up_without() {
    let mut story = Story::with(config(), Revision::V3, Transport::WebSocket);
    story.pass(20_000);
    story.feed("2");
    assert_eq!(story.asks(), ["ws:3"]);
    assert_eq!(story.pass(60_000), ["65000 close ws", "65000 closed: ping timeout"]);
}

#[test]
fn many_v3_pings_of_one_payload_get_one_pong() {
    let mut story = Story::with(config(), Revision::V3, Transport::Polling);
    for _ in 0..3_000 {
        story.feed("2");
    }
    story.get();
    assert_eq!(story.asks(), ["#2:1:3"]);
    story.feed("2");
    story.get();
    assert_eq!(story.asks(), ["#3:1:3"], "the next payload gets its own");
}

#[test]
fn a_ping_in_the_wrong_direction_ends_the_session() {
    for (revision, wire) in [(Revision::V4, "2"), (Revision::V4, "2probe"), (Revision::V3, "3")] {
        let mut story = Story::with(config(), revision, Transport::WebSocket);
        story.feed(wire);
        assert_eq!(story.asks(), ["close ws", "closed: transport error (invalid heartbeat direction)"], "{wire}");
    }
}

#[test]
fn while_the_application_takes_nothing_the_peer_cannot_be_late() {
    let mut story = Story::socket();
    assert_eq!(story.pass(25_000), ["25000 ws:2"]);
    story.session.set_blocked(story.now, true);
    assert_eq!(story.pass(25_000), NONE);
    story.session.set_blocked(story.now, false);
    assert_eq!(story.pass(19_000), NONE, "the pong may still be in the socket's buffer");
    assert_eq!(story.pass(2_000), ["70000 close ws", "70000 closed: ping timeout"]);
}

#[test]
fn a_handler_that_stalls_the_session_is_not_waited_for_for_ever() {
    let mut story = Story::socket();
    story.session.set_blocked(story.now, true);
    assert_eq!(story.pass(60_000), ["25000 ws:2", "30000 close ws", "30000 closed: transport error (handler stall)"]);
}

// Polling.

#[test]
fn a_poll_waits_until_there_is_something() {
    let mut story = Story::polling();
    story.get();
    assert_eq!(story.pass(24_000), NONE);
    story.send("a");
    story.send("b");
    assert_eq!(story.asks(), ["#2:4a|4b"]);
    story.send("c");
    assert_eq!(story.asks(), NONE, "nobody asks");
    story.get();
    assert_eq!(story.asks(), ["#3:4c"]);
}

#[test]
fn a_second_poll_closes_the_session() {
    let mut story = Story::polling();
    story.get();
    assert_eq!(story.session.on_poll(story.now, None), Err(Overlap));
    assert_eq!(story.asks(), ["#2:1", "closed: transport error (overlap from client)"]);
}

#[test]
fn a_second_post_closes_the_session() {
    let mut story = Story::polling();
    story.session.on_post().unwrap();
    assert_eq!(story.session.on_post(), Err(Overlap));
    assert_eq!(story.asks(), ["closed: transport error (data request overlap from client)"]);
}

#[test]
fn one_get_and_one_post_may_be_on_at_a_time() {
    let mut story = Story::polling();
    story.get();
    let post = story.session.on_post().unwrap();
    assert_eq!(story.feed("4hi").as_deref(), Some("hi"));
    story.session.on_post_done(post);
    let next = story.session.on_post().unwrap();
    story.session.on_post_done(next);
    assert_eq!(story.asks(), NONE);
}

#[test]
fn an_aborted_poll_closes_the_session_but_an_answered_one_does_not() {
    let mut story = Story::polling();
    let ticket = story.get();
    story.send("a");
    assert_eq!(story.asks(), ["#2:4a"]);
    story.session.on_poll_gone(ticket);
    let ticket = story.get();
    assert_eq!(story.asks(), NONE);
    story.session.on_poll_gone(ticket);
    assert_eq!(story.asks(), ["closed: transport error (poll connection closed prematurely)"]);
}

#[test]
fn an_aborted_post_closes_the_session() {
    let mut story = Story::polling();
    let post = story.session.on_post().unwrap();
    story.session.on_post_failed(post, CloseReason::TransportError("data request connection closed prematurely"));
    assert_eq!(story.asks(), ["closed: transport error (data request connection closed prematurely)"]);
}

#[test]
fn a_client_that_never_comes_back_is_given_up_early() {
    let mut story = Story::polling();
    assert_eq!(story.pass(60_000), ["20000 closed: transport error (no request after the handshake)"]);
}

#[test]
fn the_close_packet_ends_the_session() {
    let mut story = Story::polling();
    story.get();
    story.feed("1");
    assert_eq!(story.feed("4late"), None, "what follows is dropped");
    assert_eq!(story.asks(), ["#2:1", "closed: transport close"]);
    let mut story = Story::socket();
    story.feed("1");
    assert_eq!(story.asks(), ["close ws", "closed: transport close"]);
}

#[test]
fn stray_packets_are_ignored() {
    let mut story = Story::socket();
    for wire in ["0{}", "5", "6", "6abc"] {
        assert_eq!(story.feed(wire), None);
    }
    assert_eq!(story.asks(), NONE);
}

// Short polling.

#[test]
fn a_client_that_asks_for_short_polls_gets_them_without_spinning() {
    let mut story = Story::polling();
    let hold = Some(Duration::ZERO);
    story.session.on_poll(story.now, hold).unwrap();
    assert_eq!(story.asks(), ["#2:6"]);
    story.session.on_poll(story.now, hold).unwrap();
    assert_eq!(story.pass(500), ["100 #3:6"]);
    story.send("a");
    story.session.on_poll(story.now, hold).unwrap();
    assert_eq!(story.asks(), ["#4:4a"]);
    story.session.on_poll(story.now, Some(Duration::from_millis(300))).unwrap();
    assert_eq!(story.pass(500), ["800 #5:6"]);
}

#[test]
fn a_server_of_short_polls_does_not_make_stock_clients_spin() {
    let mut story =
        Story::with(Config { poll_hold: Some(Duration::ZERO), ..config() }, Revision::V4, Transport::Polling);
    story.get();
    assert_eq!(story.pass(5_000), ["1000 #2:6"]);
    story.session.on_poll(story.now, Some(Duration::from_secs(10))).unwrap();
    assert_eq!(story.asks(), ["#3:6"], "the server's limit is the shorter one");
}

// Upgrade.

#[test]
fn an_upgrade_moves_what_waits_to_the_websocket_in_order() {
    let mut story = Story::probed();
    story.send("a");
    story.send("b");
    assert_eq!(story.asks(), NONE, "no poll is parked");
    story.candidate("5");
    assert_eq!(story.asks(), ["upgraded", "ws:4a", "ws:4b"]);
    assert_eq!(story.session.transport(), Transport::WebSocket);
}

#[test]
fn packets_still_go_out_by_polling_during_the_probe() {
    let mut story = Story::probed();
    story.get();
    assert_eq!(story.asks(), ["#2:6"], "the poll is released at once");
    story.send("a");
    story.get();
    assert_eq!(story.asks(), ["#3:4a"]);
}

#[test]
fn the_noop_repeats_but_never_more_often_than_every_100_ms() {
    let mut story = Story::probed();
    let mut noops = 0;
    for _ in 0..1_000 {
        // A client that polls again the moment it is answered, every millisecond if it could.
        if story.session.is_writable(true) {
            panic!("a poll stays parked: only one is");
        }
        story.get();
        let log = story.pass(1);
        if log.is_empty() {
            let log = story.pass(99);
            assert_eq!(log.len(), 1, "{log:?}");
        }
        noops += 1;
        if (story.now - story.start).as_millis() > 5_000 {
            break;
        }
    }
    assert!((49..=53).contains(&noops), "{noops} in 5 s");
}

#[test]
fn an_upgrade_packet_without_a_probe_closes_only_the_candidate() {
    for wire in ["5", "4hello", "2", "2prob", "3probe", "1", "6", "42[\"a\"]", "7", "", "é"] {
        let mut story = Story::polling();
        story.session.on_candidate(story.now).unwrap();
        story.candidate(wire);
        assert_eq!(story.asks(), ["close cand (no packet of an upgrade)"], "{wire}");
        story.get();
        story.send("alive");
        assert_eq!(story.asks(), ["#2:4alive"], "{wire}");
    }
}

#[test]
fn an_upgrade_packet_with_data_is_one() {
    let mut story = Story::probed();
    story.candidate("52");
    assert_eq!(story.asks(), ["upgraded"]);
}

#[test]
fn too_many_probes_close_the_candidate() {
    let mut story = Story::probed();
    story.candidate("2probe");
    story.candidate("2probe");
    assert_eq!(story.asks(), ["cand:3probe", "cand:3probe"]);
    story.candidate("2probe");
    assert_eq!(story.asks(), ["close cand (too many probes)"]);
    story.get();
    assert_eq!(story.asks(), NONE);
}

#[test]
fn a_silent_candidate_is_given_up_and_polling_goes_on() {
    let mut story = Story::polling();
    story.session.on_candidate(story.now).unwrap();
    story.get();
    assert_eq!(story.pass(11_000), ["10000 close cand (upgrade timeout)"]);
    story.send("alive");
    assert_eq!(story.asks(), ["#2:4alive"]);
}

#[test]
fn a_candidate_that_breaks_off_leaves_polling_alone() {
    let mut story = Story::probed();
    story.session.on_candidate_gone();
    story.get();
    assert_eq!(story.pass(1_000), NONE, "no noop without an upgrade");
    story.send("alive");
    assert_eq!(story.asks(), ["#2:4alive"]);
}

#[test]
fn a_second_candidate_is_refused() {
    let mut story = Story::probed();
    assert_eq!(story.session.on_candidate(story.now), Err(UpgradeRefused));
    story.candidate("5");
    story.asks();
    assert_eq!(story.session.on_candidate(story.now), Err(UpgradeRefused));
    assert_eq!(Story::socket().session.on_candidate(Instant::now()), Err(UpgradeRefused));
}

#[test]
fn a_post_that_began_before_the_upgrade_packet_is_delivered_first() {
    let mut story = Story::probed();
    let post = story.session.on_post().unwrap();
    story.candidate("5");
    assert_eq!(story.asks(), NONE);
    assert!(!story.session.reads_candidate(), "what comes behind the upgrade packet waits");
    assert_eq!(story.feed("4from the post").as_deref(), Some("from the post"));
    story.session.on_post_done(post);
    assert_eq!(story.asks(), ["upgraded"]);
}

#[test]
fn a_poll_that_is_still_parked_at_the_upgrade_is_released() {
    let mut story = Story::probed();
    story.get();
    assert_eq!(story.asks(), ["#2:6"]);
    story.get();
    story.candidate("5");
    assert_eq!(story.asks(), ["#3:6", "upgraded"]);
}

#[test]
fn polls_beside_a_post_that_holds_the_upgrade_up_get_messages_and_no_flood_of_noops() {
    let mut story = Story::probed();
    let post = story.session.on_post().unwrap();
    story.candidate("5");
    story.get();
    assert_eq!(story.asks(), ["#3:6"]);
    story.get();
    assert_eq!(story.asks(), NONE);
    assert_eq!(story.pass(150), ["100 #4:6"]);
    story.send("a");
    story.get();
    assert_eq!(story.asks(), ["#5:4a"]);
    story.session.on_post_done(post);
    assert_eq!(story.asks(), ["upgraded"]);
}

#[test]
fn an_outstanding_ping_survives_the_upgrade_with_its_timer() {
    let mut story = Story::polling();
    story.get();
    assert_eq!(story.pass(25_000), ["25000 #2:2"]);
    story.session.on_candidate(story.now).unwrap();
    story.candidate("2probe");
    story.candidate("5");
    assert_eq!(story.asks(), ["cand:3probe", "upgraded"]);
    assert_eq!(story.pass(30_000), ["45000 close ws", "45000 closed: ping timeout"]);
}

#[test]
fn a_session_that_ends_takes_its_candidate_along() {
    let mut story = Story::probed();
    story.feed("1");
    assert_eq!(story.asks(), ["close cand", "closed: transport close"]);
}

// Close.

#[test]
fn closing_a_websocket_sends_what_is_queued_first() {
    let mut story = Story::socket();
    story.send("bye");
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.session.send([text("late")]), Err(SendError::Closed));
    assert_eq!(story.asks(), ["ws:4bye", "close ws", "closed: forced close"]);
}

#[test]
fn closing_polling_answers_a_parked_poll_with_the_close_packet() {
    let mut story = Story::polling();
    story.get();
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.asks(), ["#2:1", "closed: forced close"]);
}

#[test]
fn closing_polling_without_a_poll_is_remembered_for_the_next() {
    let mut story = Story::polling();
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.asks(), NONE);
    story.get();
    assert_eq!(story.asks(), ["#2:6|1", "closed: forced close"]);

    let mut story = Story::polling();
    story.send("bye");
    story.session.close(story.now, CloseReason::ForcedClose);
    story.get();
    assert_eq!(story.asks(), ["#2:4bye"]);
    story.get();
    assert_eq!(story.asks(), ["#3:6|1", "closed: forced close"]);
}

#[test]
fn a_close_that_nobody_fetches_ends_by_itself() {
    let mut story = Story::polling();
    story.get();
    story.send("x");
    story.asks();
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.pass(60_000), ["30000 closed: forced close"]);
}

#[test]
fn a_close_that_is_given_up_late_queues_no_ping_that_was_due_as_well() {
    let mut story = Story::polling();
    story.session.close(story.now, CloseReason::ForcedClose);
    story.now += Duration::from_secs(60);
    story.session.on_time(story.now);
    assert_eq!((story.session.queued_bytes(), story.session.queued_packets()), (0, 0));
    assert_eq!(story.asks(), ["closed: forced close"]);
}

#[test]
fn a_close_during_an_upgrade_finishes_the_swap_first() {
    let mut story = Story::probed();
    story.send("bye");
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.asks(), NONE);
    story.candidate("5");
    assert_eq!(story.asks(), ["upgraded", "ws:4bye", "close ws", "closed: forced close"]);
}

#[test]
fn a_websocket_that_goes_is_a_transport_close() {
    let mut story = Story::socket();
    story.session.on_socket_gone(CloseReason::TransportClose);
    assert_eq!(story.asks(), ["closed: transport close"]);
}

#[test]
fn nothing_happens_after_the_end() {
    let mut story = Story::socket();
    story.feed("1");
    story.asks();
    assert_eq!(story.session.deadline(), None);
    assert_eq!(story.feed("4x"), None);
    story.session.close(story.now, CloseReason::ForcedClose);
    assert_eq!(story.asks(), NONE);
    assert_eq!(story.session.on_poll(story.now, None), Err(Overlap));
    assert_eq!(story.session.on_post(), Err(Overlap));
    assert_eq!(story.session.close_reason(), Some(CloseReason::TransportClose));
}

// Queue.

#[test]
fn a_slow_consumer_is_closed_at_the_byte_limit() {
    let mut config = config();
    config.limits.send_queue_bytes = 1_000;
    let mut story = Story::with(config, Revision::V4, Transport::Polling);
    let big = "x".repeat(2_000);
    assert_eq!(story.session.send([text(&big)]), Ok(()), "alone, even a large message may pass");
    assert_eq!(story.session.send([text("y")]), Err(SendError::Full));
    assert_eq!(story.asks(), ["closed: transport error (slow consumer)"]);
    assert_eq!(story.session.queued_bytes(), 0);
}

#[test]
fn a_slow_consumer_is_closed_at_the_packet_limit() {
    let mut story = Story::polling();
    for _ in 0..8_192 {
        story.send("x");
    }
    assert_eq!(story.session.send([text("x")]), Err(SendError::Full));
    assert_eq!(story.asks(), ["closed: transport error (slow consumer)"]);
}

#[test]
fn nothing_is_handed_out_for_a_websocket_that_takes_nothing() {
    let mut story = Story::socket();
    story.send("a");
    assert!(story.session.poll(story.now, false).is_none());
    assert!(story.session.queued_bytes() > 0);
    assert_eq!(story.asks(), ["ws:4a"]);
    assert_eq!(story.session.queued_bytes(), 0);
}

#[test]
fn volatile_asks_whether_a_message_would_go_out_at_once() {
    let mut story = Story::polling();
    assert!(!story.session.is_writable(true));
    story.get();
    assert!(story.session.is_writable(false), "a poll is parked, whatever the socket");
    story.send("a");
    assert!(!story.session.is_writable(true));
    let mut story = Story::socket();
    assert!(story.session.is_writable(true) && !story.session.is_writable(false));
    story.send("a");
    assert!(!story.session.is_writable(true));
}

fn limited(over: OverRate) -> Config {
    let limits = crate::rate::TrafficLimits {
        packets: crate::rate::Rate::per_second(10).burst(2),
        bytes: crate::rate::Rate::per_second(1_000),
        over,
    };
    Config { traffic: Some(limits), ..config() }
}

#[test]
fn a_client_that_sends_more_than_it_may_is_read_more_slowly() {
    let mut story = Story::with(limited(OverRate::Delay), Revision::V4, Transport::WebSocket);
    assert!(!story.session.on_traffic(story.now, 5));
    assert!(!story.session.on_traffic(story.now, 5));
    // The third is one too many: ten per second are one in 100 ms.
    assert!(story.session.on_traffic(story.now, 5) && story.session.is_paused());
    assert_eq!(story.session.deadline(), Some(story.now + Duration::from_millis(100)));
    assert_eq!(story.pass(99), [""; 0]);
    assert!(story.session.is_paused());
    assert_eq!(story.pass(1), [""; 0]);
    assert!(!story.session.is_paused() && story.session.is_open());
    // A large message is a debt, too, although it is one packet.
    story.pass(1_000);
    assert!(story.session.on_traffic(story.now, 3_000));
    assert_eq!(story.session.deadline(), Some(story.now + Duration::from_secs(2)));
}

#[test]
fn a_client_that_is_not_read_is_not_blamed_for_its_silence() {
    let mut config = limited(OverRate::Delay);
    config.traffic.as_mut().unwrap().bytes = crate::rate::Rate::per_second(10);
    let mut story = Story::with(config, Revision::V4, Transport::WebSocket);
    assert_eq!(story.pass(25_000), ["25000 ws:2"]);
    // Its pong is behind something for which it pays 100 seconds.
    assert!(story.session.on_traffic(story.now, 1_010));
    assert_eq!(story.pass(99_000), [""; 0]);
    assert!(story.session.is_open());
    // From then on it has its usual time.
    assert_eq!(story.pass(20_900), [""; 0]);
    assert!(story.session.is_open());
    story.pass(200);
    assert_eq!(story.session.close_reason(), Some(CloseReason::PingTimeout));
}

#[test]
fn a_client_that_sends_more_than_it_may_is_disconnected_where_that_is_asked_for() {
    let mut story = Story::with(limited(OverRate::Disconnect), Revision::V4, Transport::WebSocket);
    assert!(!story.session.on_traffic(story.now, 5) && !story.session.on_traffic(story.now, 5));
    assert!(story.session.on_traffic(story.now, 5));
    assert_eq!(story.session.close_reason(), Some(CloseReason::TransportError("rate limit")));
    assert!(!story.session.is_paused());
}
