//! The session machine as a list of operations. The first four bytes are the revision (`3`, else 4), the transport (`w`,
//! else polling), whether the client takes base64 only (`b`), and how long the server holds a poll (`0` to `3`: as long as
//! it takes, not at all, 500 ms, 5 s). Then:
//!
//! | | |
//! |---|---|
//! | `G`, `g` + number | a GET; one that asks to be held for so many tens of milliseconds |
//! | `A`, `a` | the parked GET is aborted; one that was answered long ago is |
//! | `P`, `D`, `F`, `f` | a POST begins; is done; failed; one of long ago failed |
//! | `m` + number | a packet of the table comes on the carrier: in the POST, or on the WebSocket |
//! | `t` + number + text | so many bytes come on the carrier, a packet or not |
//! | `C`, `c` + number, `x` | a candidate asks; sends a packet of the table; is gone |
//! | `X` | the WebSocket that carries the session is gone |
//! | `T` + number, `U` + number | so many tens of milliseconds pass; so many seconds |
//! | `J` | time passes to the deadline |
//! | `S` + number | the application sends so many small messages at once |
//! | `s` + number | it sends one of so many tens of bytes |
//! | `B`, `b` | it takes no more messages; takes them again |
//! | `K`, `V` | it closes the session; the session breaks |
//! | `W`, `w` | the WebSocket can be written; cannot |
//! | `L`, `l` | what is to be done waits; no longer |
//! | `q` | another task asks for the answer to the poll |
//!
//! In the end everybody falls silent, and the session must come to its end by its own deadlines.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use engineio_proto::{
    Frame, HEADROOM, Limits, Revision, Transport,
    packet::{Data, Packet, PacketKind},
    payload::{EncodedPayload, OutPacket, PayloadCursor},
    session::{CloseReason, Config, Link, Output, SendError, Session, Ticket},
};

use crate::input::Input;

/// The session machine by operation list.
pub fn eio_session(data: &[u8]) {
    let mut input = Input::new(data);
    let mut head = || input.byte().unwrap_or(b'-');
    let revision = if head() == b'3' { Revision::V3 } else { Revision::V4 };
    let transport = if head() == b'w' { Transport::WebSocket } else { Transport::Polling };
    let b64 = head() == b'b';
    let hold = match head() {
        b'1' => Some(0),
        b'2' => Some(500),
        b'3' => Some(5_000),
        _ => None,
    };
    let mut world = World::new(revision, transport, b64, hold.map(Duration::from_millis));
    world.settle();
    while let Some(operation) = input.byte() {
        world.operate(operation, &mut input);
        world.settle();
    }
    world.finish();
}

const NOOP_GAP: Duration = Duration::from_millis(100);
const SEND_QUEUE_BYTES: usize = 1_500;
const SEND_QUEUE_PACKETS: usize = 12;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes on the carrier and on candidates.
const PACKETS: &[&str] =
    &["4hello", "2", "3", "2probe", "3probe", "5", "6", "1", "0{}", "4", "52", "bAAEC", "b4AAEC", "3x", "2prob", "7"];

/// The driver and everything around it, and what it expects of the machine.
struct World {
    now: Instant,
    session: Session,
    config: Arc<Config>,
    writable: bool,
    /// Outputs are left where they are.
    lazy: bool,
    parked: Option<Ticket>,
    post: Option<Ticket>,
    /// The last GET and POST that are over.
    old: Option<Ticket>,
    candidate: bool,
    carrier: Carrier,
    /// Messages that were taken and not handed out yet, in order.
    queued: VecDeque<u32>,
    next: u32,
    /// The largest batch that was taken, in bytes and messages: one may pass alone.
    largest: (usize, usize),
    last_noop: Option<Instant>,
    /// A noop was handed out within the gap; only the end of an upgrade excuses it.
    hasty: bool,
    /// The application takes no messages.
    blocked: bool,
    /// When the peer last showed in time that it is there, and whether a ping waits for its answer.
    alive: Instant,
    ping_out: bool,
    /// By when what is queued must have gone out, once the application has closed the session.
    closing: Option<Instant>,
    /// Something ended the session before what was queued could go out.
    broken: bool,
    closed: Option<CloseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Polling,
    Socket,
    /// The WebSocket is closed or gone.
    Gone,
}

impl World {
    fn new(revision: Revision, transport: Transport, b64: bool, poll_hold: Option<Duration>) -> Self {
        let mut limits = Limits::default();
        limits.send_queue_bytes = SEND_QUEUE_BYTES;
        limits.send_queue_packets = SEND_QUEUE_PACKETS;
        limits.close_timeout = CLOSE_TIMEOUT;
        let config = Arc::new(Config { poll_hold, limits, ..Config::default() });
        let now = Instant::now();
        let open = OutPacket::control(PacketKind::Open, "{}");
        let session = Session::open(now, Arc::clone(&config), revision, transport, b64, open, None);
        let carrier = if transport == Transport::Polling { Carrier::Polling } else { Carrier::Socket };
        let mut world = Self {
            now,
            session,
            config,
            writable: true,
            lazy: false,
            parked: None,
            post: None,
            old: None,
            candidate: false,
            carrier,
            queued: VecDeque::new(),
            next: 0,
            largest: (0, 0),
            last_noop: None,
            hasty: false,
            blocked: false,
            alive: now,
            ping_out: false,
            closing: None,
            broken: false,
            closed: None,
        };
        if carrier == Carrier::Polling {
            // The handshake is the first GET.
            world.get(None);
        }
        world
    }

    fn operate(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation {
            b'G' => self.get(None),
            b'g' => self.get(Some(Duration::from_millis(10 * input.number() as u64))),
            b'A' => {
                if let Some(ticket) = self.parked.take() {
                    self.old = Some(ticket);
                    self.session.on_poll_gone(ticket);
                    self.broken = true;
                }
            }
            b'a' => {
                if let Some(ticket) = self.old {
                    self.session.on_poll_gone(ticket);
                    self.session.on_post_done(ticket);
                }
            }
            b'P' => self.post(),
            b'D' => {
                if let Some(ticket) = self.post.take() {
                    self.old = Some(ticket);
                    self.session.on_post_done(ticket);
                }
            }
            b'F' => {
                if let Some(ticket) = self.post.take() {
                    self.old = Some(ticket);
                    self.session.on_post_failed(ticket, CloseReason::ParseError("test"));
                    self.broken = true;
                }
            }
            b'f' => {
                if let Some(ticket) = self.old {
                    self.session.on_post_failed(ticket, CloseReason::ParseError("test"));
                }
            }
            b'm' => {
                let text = PACKETS[input.number() % PACKETS.len()];
                self.receive(text);
            }
            b't' => {
                let text = String::from_utf8_lossy(input.counted()).into_owned();
                self.receive(&text);
            }
            b'C' => self.ask_to_carry(),
            b'c' => {
                let text = PACKETS[input.number() % PACKETS.len()];
                if self.candidate && self.session.reads_candidate() {
                    let packet = Packet::decode_text(self.session.revision(), text).ok();
                    self.session.on_candidate_packet(packet.as_ref());
                }
            }
            b'x' if self.candidate => {
                self.candidate = false;
                self.session.on_candidate_gone();
            }
            b'X' if self.carrier == Carrier::Socket => {
                self.carrier = Carrier::Gone;
                self.session.on_socket_gone(CloseReason::TransportClose);
                self.broken = true;
            }
            b'T' => self.pass(Duration::from_millis(10 * input.number() as u64)),
            b'U' => self.pass(Duration::from_secs(input.number() as u64)),
            b'J' => {
                if let Some(due) = self.session.deadline() {
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
            b'S' => {
                let count = input.number() % 20;
                self.send(count, 0);
            }
            b's' => self.send(1, 10 * input.number()),
            b'B' | b'b' => {
                // What has ended has ended as it was then.
                if !self.session.is_over() {
                    self.blocked = operation == b'B';
                }
                self.session.set_blocked(self.now, operation == b'B');
            }
            b'K' => {
                if self.session.is_open() {
                    let polling = self.carrier == Carrier::Polling;
                    self.closing = Some(self.now + if polling { self.config.close_grace } else { CLOSE_TIMEOUT });
                }
                self.session.close(self.now, CloseReason::ForcedClose);
            }
            b'V' => {
                self.session.on_violation(CloseReason::TransportError("test"));
                self.broken = true;
            }
            b'W' => self.writable = true,
            b'w' => self.writable = false,
            b'L' => self.lazy = true,
            b'l' => self.lazy = false,
            b'q' => {
                if let Some(output) = self.session.answer_poll(self.now) {
                    assert!(matches!(output, Output::AnswerPoll { .. }));
                    self.act(output);
                }
            }
            _ => {}
        }
    }

    fn get(&mut self, hold: Option<Duration>) {
        let takes = self.carrier == Carrier::Polling && !self.session.is_over();
        match self.session.on_poll(self.now, hold) {
            Ok(ticket) => {
                assert!(takes && self.parked.is_none() && Some(ticket) != self.old && Some(ticket) != self.post);
                assert!(self.session.has_parked(ticket));
                self.parked = Some(ticket);
            }
            Err(_) => {
                assert!(!takes || self.parked.is_some(), "a GET was refused for nothing");
                if takes {
                    assert!(self.session.is_over(), "overlapping polls end the session");
                    self.broken = true;
                }
            }
        }
    }

    fn post(&mut self) {
        let takes = self.carrier == Carrier::Polling && !self.session.is_over();
        match self.session.on_post() {
            Ok(ticket) => {
                assert!(takes && self.post.is_none() && Some(ticket) != self.parked);
                assert!(!self.session.awaits_first_activity());
                self.post = Some(ticket);
            }
            Err(_) => {
                assert!(!takes || self.post.is_some(), "a POST was refused for nothing");
                if takes {
                    assert!(self.session.is_over(), "overlapping posts end the session");
                    self.broken = true;
                }
            }
        }
    }

    /// Something comes on the carrier: only within a POST while that is polling.
    fn receive(&mut self, text: &str) {
        match self.carrier {
            Carrier::Polling if self.post.is_some() => {}
            Carrier::Socket => {}
            Carrier::Polling | Carrier::Gone => return,
        }
        let was_open = self.session.is_open();
        let was_over = self.session.is_over();
        match Packet::decode_text(self.session.revision(), text) {
            Ok(packet) => {
                match (self.session.revision(), packet.kind) {
                    _ if was_over => {}
                    (Revision::V3, PacketKind::Ping) => self.alive = self.now,
                    (Revision::V4, PacketKind::Pong) if std::mem::take(&mut self.ping_out) => self.alive = self.now,
                    _ => {}
                }
                let data = self.session.on_packet(self.now, packet.clone());
                let wanted = (was_open && packet.kind == PacketKind::Message).then_some(packet.data);
                assert_eq!(data, wanted, "the application gets its messages while the session is open");
            }
            Err(error) => match self.post.take().filter(|_| self.carrier == Carrier::Polling) {
                Some(ticket) => {
                    self.old = Some(ticket);
                    self.session.on_post_failed(ticket, CloseReason::ParseError(error.as_str()));
                    assert!(self.session.is_over());
                }
                None => self.session.on_violation(CloseReason::ParseError(error.as_str())),
            },
        }
        if self.session.is_over() && !was_over {
            self.broken = true;
        }
    }

    fn ask_to_carry(&mut self) {
        let may = self.carrier == Carrier::Polling && !self.candidate && self.session.is_open();
        let accepted = self.session.on_candidate(self.now).is_ok();
        // One that asked to be closed and has not been closed yet may still be in the way.
        assert!(accepted == may || (may && self.lazy), "one candidate at a time, and only on polling");
        self.candidate |= accepted;
        if accepted {
            assert!(self.session.is_upgrading() && self.session.reads_candidate());
        }
    }

    fn send(&mut self, count: usize, padding: usize) {
        let numbers: Vec<_> = (0..count).map(|at| self.next + at as u32).collect();
        self.next += count as u32;
        let frames = numbers.iter().map(|number| frame(*number, padding));
        let was_open = self.session.is_open();
        let was_empty = self.session.queued_packets() == 0;
        let before = self.session.queued_bytes();
        let at_once = self.session.is_writable(self.writable);
        match self.session.send(frames) {
            Ok(()) => {
                assert!(was_open);
                self.queued.extend(numbers);
                if at_once && !self.lazy {
                    self.settle();
                    assert!(self.queued.is_empty(), "a writable session keeps nothing");
                }
                if was_empty {
                    let bytes = self.session.queued_bytes().saturating_sub(before);
                    self.largest = (self.largest.0.max(bytes), self.largest.1.max(count));
                }
            }
            Err(SendError::Closed) => assert!(!was_open),
            Err(SendError::Full) => {
                assert!(was_open && !was_empty && self.session.is_over());
                self.broken = true;
            }
        }
    }

    /// Time passes, with a stop at each deadline on the way unless the driver sleeps too long.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while !self.lazy {
            let Some(due) = self.session.deadline().filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.session.on_time(self.now);
            self.settle();
        }
        self.now = until;
        self.session.on_time(self.now);
    }

    /// What the driver does after each event: everything that is to be done.
    fn settle(&mut self) {
        if !self.lazy {
            let mut steps = 0;
            while let Some(output) = self.session.poll(self.now, self.writable) {
                self.act(output);
                steps += 1;
                assert!(steps < 1_000, "the machine never comes to rest");
            }
            assert!(!self.hasty, "two noops within the gap");
            if self.session.is_over() {
                assert!(self.closed.is_some(), "what is over is announced at once");
            }
            let late = self.session.deadline().is_some_and(|due| due <= self.now);
            if late {
                // The clock of the driver has gone on without it; one look must be enough.
                self.session.on_time(self.now);
                while let Some(output) = self.session.poll(self.now, self.writable) {
                    self.act(output);
                }
                let due = self.session.deadline();
                assert!(due.is_none_or(|due| due > self.now), "a deadline in the past was not consumed");
            }
            if self.carrier == Carrier::Socket && self.writable {
                assert!(self.queued.is_empty() && self.session.queued_packets() == 0, "all of it is handed out");
            }
            if self.parked.is_some() {
                assert!(self.queued.is_empty(), "a parked GET takes what there is");
            }
        }
        self.check();
    }

    fn check(&self) {
        let (bytes, packets) = (self.session.queued_bytes(), self.session.queued_packets());
        if packets == 0 {
            assert_eq!(bytes, 0);
            assert!(self.queued.is_empty() || self.session.is_over());
        }
        // Control packets are few and small: the open packet, a ping, a pong.
        let messages = if self.session.is_over() { 0 } else { self.queued.len() };
        assert!((messages..=messages + 3).contains(&packets), "{packets} packets are queued, {messages} messages");
        assert!(bytes <= SEND_QUEUE_BYTES.max(self.largest.0) + 64, "{bytes} bytes are queued");
        assert!(messages <= SEND_QUEUE_PACKETS.max(self.largest.1), "{messages} messages are queued");
        assert_eq!(self.session.is_open(), self.session.close_reason().is_none());
        if self.closed.is_some() {
            assert_eq!(self.session.deadline(), None);
            assert_eq!((bytes, packets), (0, 0));
            assert!(self.session.is_over() && !self.session.is_writable(true));
        } else if !self.session.is_over() {
            assert!(self.session.deadline().is_some(), "no session lives for ever without being looked at");
            if let Some(ticket) = self.parked {
                assert!(self.session.has_parked(ticket), "a GET was forgotten");
            }
        }
        if self.carrier == Carrier::Polling {
            assert_eq!(self.session.transport(), Transport::Polling);
        }
    }

    fn act(&mut self, output: Output) {
        assert!(self.closed.is_none(), "{output:?} after the end");
        match output {
            Output::AnswerPoll { ticket, payload, .. } => {
                assert_eq!(self.carrier, Carrier::Polling);
                assert_eq!(self.parked.take(), Some(ticket), "one answer for each GET");
                self.old = Some(ticket);
                self.read(&payload);
                return;
            }
            Output::Write(Link::Socket, packet) => {
                assert!(self.carrier == Carrier::Socket && self.writable);
                match packet {
                    OutPacket::Message(frame) => self.hand_out(frame.data()),
                    OutPacket::Control(kind, _) => {
                        self.ping_out |= kind == PacketKind::Ping;
                        assert!(matches!(kind, PacketKind::Open | PacketKind::Ping | PacketKind::Pong), "{kind:?}");
                    }
                }
            }
            Output::Write(Link::Candidate, packet) => {
                assert!(self.candidate);
                assert!(matches!(packet, OutPacket::Control(PacketKind::Pong, data) if data == "probe"));
            }
            Output::Upgraded => {
                assert!(self.candidate && self.carrier == Carrier::Polling);
                assert!(self.parked.is_none() && self.post.is_none(), "requests under way come first");
                self.candidate = false;
                self.carrier = Carrier::Socket;
                assert_eq!(self.session.transport(), Transport::WebSocket);
                self.hasty = false;
            }
            Output::CloseLink(Link::Candidate) | Output::RefuseCandidate(_) => {
                assert!(std::mem::take(&mut self.candidate));
            }
            Output::CloseLink(Link::Socket) => {
                assert_eq!(self.carrier, Carrier::Socket);
                self.carrier = Carrier::Gone;
            }
            Output::Closed(reason) => {
                assert_eq!(self.session.close_reason(), Some(reason));
                assert!(self.parked.is_none(), "the last GET has its answer");
                assert!(!self.candidate && self.carrier != Carrier::Socket, "no link is left over");
                let by_deadline = self.deadline_passed(reason);
                assert!(self.broken || by_deadline || self.closing.is_some(), "{reason:?} for no reason");
                if !self.broken && !by_deadline {
                    assert!(self.queued.is_empty(), "closing waits for what is queued");
                }
                self.queued.clear();
                self.closed = Some(reason);
            }
        }
        assert!(!self.hasty, "two noops within the gap");
    }

    /// Whether time alone can have ended the session with this reason.
    fn deadline_passed(&self, reason: CloseReason) -> bool {
        match reason {
            CloseReason::PingTimeout => {
                let patience = self.config.ping_interval + self.config.ping_timeout;
                assert!(!self.blocked, "a peer that is not read cannot be late");
                assert!(self.now >= self.alive + patience, "the peer still has time");
                true
            }
            CloseReason::TransportError(text) => {
                matches!(text, "handler stall" | "no request after the handshake")
            }
            CloseReason::ForcedClose => self.closing.is_some_and(|by| by <= self.now),
            _ => false,
        }
    }

    fn read(&mut self, payload: &EncodedPayload) {
        let mut cursor = PayloadCursor::new(self.session.revision(), payload.binary);
        assert!(!payload.binary || !self.session.base64_only());
        let mut kinds = Vec::new();
        while let Some(packet) = cursor.next(&payload.body) {
            let packet = packet.expect("our own payloads are valid");
            if let (PacketKind::Message, Data::Text(text)) = (packet.kind, &packet.data) {
                self.hand_out(text.as_bytes());
            } else if let (PacketKind::Message, Data::Binary(bytes)) = (packet.kind, &packet.data) {
                self.hand_out(bytes);
            }
            self.ping_out |= packet.kind == PacketKind::Ping;
            kinds.push(packet.kind);
        }
        assert!(!kinds.is_empty(), "an empty answer is no payload");
        let closes = kinds.iter().position(|kind| *kind == PacketKind::Close);
        assert!(closes.is_none_or(|at| at + 1 == kinds.len()), "the last packet is the last packet");
        if closes.is_some() {
            assert!(self.session.is_over());
        }
        if kinds == [PacketKind::Noop] {
            self.hasty = self.last_noop.is_some_and(|last| self.now < last + NOOP_GAP);
            self.last_noop = Some(self.now);
        }
    }

    /// A message leaves: it is the oldest that has not left yet.
    fn hand_out(&mut self, data: &[u8]) {
        let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&data[..digits]).ok().and_then(|digits| digits.parse().ok());
        assert_eq!(number, self.queued.pop_front(), "every message once and in order");
    }

    /// Everybody falls silent.
    fn finish(&mut self) {
        self.lazy = false;
        self.writable = true;
        self.settle();
        if self.session.is_open() && self.carrier == Carrier::Polling && self.parked.is_none() {
            self.get(Some(Duration::ZERO));
            self.settle();
            assert!(self.queued.is_empty(), "a GET takes what there is");
        }
        for _ in 0..100 {
            if self.closed.is_some() {
                break;
            }
            self.blocked = false;
            self.session.set_blocked(self.now, false);
            let due = self.session.deadline().expect("a deadline");
            self.now = self.now.max(due);
            self.session.on_time(self.now);
            self.settle();
        }
        assert!(self.closed.is_some(), "nobody answers and the session lives on");
        // Whatever comes too late changes nothing.
        assert!(self.session.on_poll(self.now, None).is_err() && self.session.on_post().is_err());
        assert!(self.session.on_candidate(self.now).is_err() && !self.session.is_upgrading());
        assert_eq!(self.session.send([frame(0, 0)]), Err(SendError::Closed));
        self.session.close(self.now, CloseReason::ForcedClose);
        self.session.on_violation(CloseReason::TransportClose);
        self.session.on_candidate_packet(None);
        self.session.on_candidate_gone();
        self.session.on_socket_gone(CloseReason::TransportClose);
        let message = Packet::decode_text(self.session.revision(), "4late").expect("a packet");
        assert_eq!(self.session.on_packet(self.now, message), None);
        self.now += Duration::from_secs(100);
        self.session.on_time(self.now);
        assert!(self.session.answer_poll(self.now).is_none());
        assert!(self.session.poll(self.now, true).is_none());
        assert_eq!(self.session.close_reason(), self.closed);
        self.check();
    }
}

/// A message that can be told from others, binary if its number is odd.
fn frame(number: u32, padding: usize) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(number.to_string().as_bytes());
    buffer.resize(buffer.len() + padding, b'.');
    if number.is_multiple_of(2) { Frame::text(buffer, HEADROOM) } else { Frame::binary(buffer, HEADROOM) }
}
