//! The client's machines as lists of operations.
//!
//! `eio_client` is the session. The first four bytes are the revision (`3`, else 4), the transport (`w`, else polling),
//! whether there is no upgrade (`n`), and whether polls come in intervals (`i`). Then:
//!
//! | | |
//! |---|---|
//! | `g` + number + text | the GET is answered with so many bytes |
//! | `o` + number | it is answered with an open packet of the table |
//! | `m` + number, `t` + number + text | a packet of the table, so many bytes, come on the WebSocket that carries the session |
//! | `D` | the POST is answered |
//! | `X` | what carries the session is gone |
//! | `c`, `p` + number, `x` | the candidate stands; sends a packet of the table; is gone |
//! | `S` + number, `s` + number | so many small messages are sent at once; one of so many tens of bytes |
//! | `K` | the application closes the session |
//! | `T` + number, `U` + number, `J` | tens of milliseconds pass; seconds; the time to the deadline |
//!
//! In the end the server falls silent, and the session must come to its end by its own deadlines.
//!
//! `sio_client` is the connection of Socket.IO above it; a first byte `4` makes it one to a 2.x server. A name is a number:
//! 0 is `/`, others are names of their own.
//!
//! | | |
//! |---|---|
//! | `j` `l` `g` `h` + name | the namespace is wanted; left; given up; the events that came early are taken |
//! | `o`, `z` | the transport is open; closed |
//! | `c` + name + number | its CONNECT is sent, with auth of the table |
//! | `C` + name + number | the server's CONNECT, with data of the table |
//! | `E` + name + number | an event of the table |
//! | `A` `D` `X` + name | an answer; a DISCONNECT; a refusal |
//! | `p` + number + text | so many bytes, a packet or not |

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use engineio_proto::{
    Frame, HEADROOM, Transport,
    client::{Config, Output, SendError, Session},
    packet::{Data, Packet, PacketKind},
    payload::{EncodedPayload, OutPacket, PayloadCursor},
    session::{CloseReason, Link},
};
use socketio_proto::{AnyParser, ClientConnection, ClientDecision, Limits, Message, Revision, Value, Violation};

use crate::input::Input;

/// The client's session machine by operation list.
pub fn eio_client(data: &[u8]) {
    let mut input = Input::new(data);
    let mut head = |letter| input.byte() == Some(letter);
    let revision = if head(b'3') { engineio_proto::Revision::V3 } else { engineio_proto::Revision::V4 };
    let transport = if head(b'w') { Transport::WebSocket } else { Transport::Polling };
    let config = Config {
        revision,
        upgrade: !head(b'n'),
        poll_interval: head(b'i').then_some(Duration::from_millis(500)),
        send_queue_bytes: QUEUE_BYTES,
        send_queue_packets: QUEUE_PACKETS,
        ..Config::default()
    };
    let mut world = World::new(config, transport);
    world.settle();
    while let Some(operation) = input.byte() {
        world.operate(operation, &mut input);
        world.settle();
    }
    world.finish();
}

const QUEUE_BYTES: usize = 1_500;
const QUEUE_PACKETS: usize = 12;

/// Open packets of a server, good and bad.
const OPENS: &[&str] = &[
    r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100}"#,
    r#"0{"sid":"abc","upgrades":[],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#,
    r#"0{"sid":"abc","upgrades":["websocket","websocket"],"pingInterval":1,"pingTimeout":1}"#,
    r#"0{"sid":"abc","upgrades":["__proto__","webtransport"],"pingInterval":2147483648,"pingTimeout":2147483648}"#,
    r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":0}"#,
    r#"0{"sid":"","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#,
    "0{",
];
/// What comes on the carrier and on candidates.
const PACKETS: &[&str] =
    &["4hello", "2", "3", "3probe", "2probe", "5", "6", "1", "0{}", "4", "bAAEC", "3x", "b4AAEC", "7", ""];

struct World {
    now: Instant,
    session: Session,
    config: Config,
    get: bool,
    post: bool,
    candidate: Candidate,
    carrier: Carrier,
    max_payload: Option<u64>,
    opened: bool,
    closed: bool,
    /// Messages that were taken and not handed out yet, in order.
    queued: VecDeque<u32>,
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    None,
    Dialling,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Polling,
    Socket,
    Gone,
}

impl World {
    fn new(config: Config, transport: Transport) -> Self {
        let now = Instant::now();
        Self {
            now,
            session: Session::new(now, config.clone(), transport),
            config,
            get: false,
            post: false,
            candidate: Candidate::None,
            carrier: if transport == Transport::Polling { Carrier::Polling } else { Carrier::Socket },
            max_payload: None,
            opened: false,
            closed: false,
            queued: VecDeque::new(),
            next: 0,
        }
    }

    fn operate(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation {
            b'g' => {
                let body = input.counted().to_vec();
                self.polled(&body);
            }
            b'o' => {
                let open = OPENS[input.number() % OPENS.len()];
                match self.carrier {
                    Carrier::Polling => self.polled(open.as_bytes()),
                    Carrier::Socket => self.heard(open),
                    Carrier::Gone => {}
                }
            }
            b'm' => {
                let text = PACKETS[input.number() % PACKETS.len()];
                match self.carrier {
                    Carrier::Polling => self.polled(text.as_bytes()),
                    Carrier::Socket => self.heard(text),
                    Carrier::Gone => {}
                }
            }
            b't' => {
                let text = String::from_utf8_lossy(input.counted()).into_owned();
                if self.carrier == Carrier::Socket {
                    self.heard(&text);
                }
            }
            b'D' if self.post => {
                self.post = false;
                self.session.on_post_done();
            }
            b'X' if self.carrier != Carrier::Gone => {
                (self.carrier, self.get, self.post) = (Carrier::Gone, false, false);
                self.session.on_carrier_gone(CloseReason::TransportError("test"));
            }
            b'c' if self.candidate == Candidate::Dialling => {
                self.candidate = Candidate::Open;
                self.session.on_candidate_open();
            }
            b'p' => {
                let text = PACKETS[input.number() % PACKETS.len()];
                if self.candidate == Candidate::Open {
                    let packet = Packet::decode_text(self.session.revision(), text).ok();
                    self.session.on_candidate_packet(packet.as_ref());
                }
            }
            b'x' if self.candidate != Candidate::None => {
                self.candidate = Candidate::None;
                self.session.on_candidate_gone();
            }
            b'S' => self.send(input.number() % 20, 0),
            b's' => self.send(1, 10 * input.number()),
            b'K' => self.session.close(self.now),
            b'T' => self.pass(Duration::from_millis(10 * input.number() as u64)),
            b'U' => self.pass(Duration::from_secs(input.number() as u64)),
            b'J' => {
                if let Some(due) = self.session.deadline() {
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
            _ => {}
        }
    }

    /// The GET is answered.
    fn polled(&mut self, body: &[u8]) {
        if !self.get {
            return;
        }
        self.get = false;
        let mut cursor = PayloadCursor::new(self.session.revision(), false);
        while let Some(packet) = cursor.next(body) {
            match packet {
                Ok(packet) => self.packet(packet),
                Err(error) => self.session.on_malformed(error.as_str()),
            }
        }
        self.session.on_get_done(self.now);
    }

    /// Something comes on the WebSocket.
    fn heard(&mut self, text: &str) {
        match Packet::decode_text(self.session.revision(), text) {
            Ok(packet) => self.packet(packet),
            Err(error) => self.session.on_malformed(error.as_str()),
        }
    }

    fn packet(&mut self, packet: Packet<'_>) {
        let open = self.session.is_open();
        let data = self.session.on_packet(self.now, packet.clone());
        let wanted = (open && packet.kind == PacketKind::Message).then_some(packet.data);
        assert_eq!(data, wanted, "the application gets its messages while the session is open");
    }

    fn send(&mut self, count: usize, padding: usize) {
        let numbers: Vec<_> = (0..count).map(|at| self.next + at as u32).collect();
        self.next += count as u32;
        let frames: Vec<_> = numbers.iter().map(|number| frame(*number, padding)).collect();
        let (open, waiting) = (self.session.is_open(), !self.queued.is_empty());
        match self.session.send(frames) {
            Ok(()) => {
                assert!(open);
                self.queued.extend(numbers);
            }
            Err(SendError::Closed) => assert!(!open),
            Err(SendError::Full) => assert!(open && (waiting || self.session.queued_bytes() == 0)),
            Err(SendError::TooLarge { len, limit }) => {
                assert!(open && Some(limit) == self.max_payload && len as u64 > limit);
            }
        }
    }

    /// Time passes, with a stop at each deadline on the way.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // A poll in intervals is answered by nobody here, so there are few.
        for _ in 0..10_000 {
            let Some(due) = self.session.deadline().filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.session.on_time(self.now);
            self.settle();
        }
        self.now = until;
        self.session.on_time(self.now);
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while let Some(output) = self.session.poll(self.now) {
            self.act(output);
            steps += 1;
            assert!(steps < 1_000, "the machine never comes to rest");
        }
        let due = self.session.deadline();
        if self.closed {
            assert!(due.is_none() && !self.session.is_open());
            return;
        }
        let due = due.expect("a session that is not over has a deadline");
        if due <= self.now {
            self.session.on_time(self.now);
            while let Some(output) = self.session.poll(self.now) {
                self.act(output);
            }
            assert!(
                self.session.deadline().is_none_or(|due| due > self.now),
                "a deadline in the past was not consumed"
            );
        }
        if !self.session.is_open() || self.closed {
            return;
        }
        match self.carrier {
            Carrier::Socket => assert!(self.queued.is_empty() && self.session.queued_bytes() == 0, "all is handed out"),
            Carrier::Polling if !self.post && self.candidate == Candidate::None => {
                assert!(self.queued.is_empty(), "a free POST takes what there is");
            }
            Carrier::Polling | Carrier::Gone => {}
        }
        if self.queued.is_empty() {
            assert_eq!(self.session.queued_bytes(), 0);
        }
        assert!(self.queued.len() <= QUEUE_PACKETS.max(20));
    }

    fn act(&mut self, output: Output) {
        assert!(!self.closed, "nothing comes behind the end");
        match output {
            Output::Get => {
                assert!(!self.get && self.carrier == Carrier::Polling, "one GET at a time");
                self.get = true;
            }
            Output::Post(payload) => {
                assert!(!self.post && self.opened && self.carrier == Carrier::Polling, "one POST at a time");
                self.post = true;
                self.posted(&payload);
            }
            Output::Write(Link::Socket, packet) => {
                assert_eq!(self.carrier, Carrier::Socket);
                if let OutPacket::Message(frame) = &packet {
                    self.left(frame.data());
                }
            }
            Output::Write(Link::Candidate, packet) => {
                assert_eq!(self.candidate, Candidate::Open);
                assert_eq!(packet.kind(), PacketKind::Ping);
            }
            Output::Opened(open) => {
                assert!(!self.opened, "it opens once");
                self.opened = true;
                self.max_payload = open.max_payload;
            }
            Output::Pinged => assert!(self.opened && self.config.revision == engineio_proto::Revision::V4),
            Output::Dial => {
                assert!(self.opened && self.config.upgrade && self.carrier == Carrier::Polling);
                assert_eq!(self.candidate, Candidate::None);
                self.candidate = Candidate::Dialling;
            }
            Output::DropCandidate => {
                assert_ne!(self.candidate, Candidate::None);
                self.candidate = Candidate::None;
            }
            Output::Upgraded => {
                assert_eq!(self.candidate, Candidate::Open);
                assert!(self.carrier == Carrier::Polling && !self.get && !self.post, "polling has come to rest");
                (self.candidate, self.carrier) = (Candidate::None, Carrier::Socket);
            }
            Output::CloseSocket => assert_eq!(self.carrier, Carrier::Socket),
            Output::Closed(_) => {
                self.closed = true;
                (self.candidate, self.carrier, self.get, self.post) = (Candidate::None, Carrier::Gone, false, false);
                assert!(!self.session.is_open() && self.session.queued_bytes() == 0);
            }
        }
    }

    fn posted(&mut self, payload: &EncodedPayload) {
        let mut cursor = PayloadCursor::new(self.session.revision(), payload.binary);
        let mut count = 0;
        while let Some(packet) = cursor.next(&payload.body) {
            let packet = packet.expect("our own payloads are well-formed");
            count += 1;
            if packet.kind == PacketKind::Message {
                match packet.data {
                    Data::Text(text) => self.left(text.as_bytes()),
                    Data::Binary(bytes) => self.left(&bytes),
                }
            }
        }
        assert!(count > 0, "no POST without a packet");
        if count > 1
            && self.config.revision == engineio_proto::Revision::V4
            && let Some(limit) = self.max_payload
        {
            assert!(payload.body.len() as u64 <= limit, "more than the server takes, and not alone");
        }
    }

    /// A message has left.
    fn left(&mut self, data: &[u8]) {
        let digits =
            data.iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |n, byte| n * 10 + u32::from(byte - b'0'));
        assert_eq!(self.queued.pop_front(), Some(digits), "in order, once");
    }

    /// The server says nothing any more.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            let Some(due) = self.session.deadline() else { break };
            self.now = self.now.max(due);
            self.session.on_time(self.now);
            self.settle();
        }
        assert!(self.closed, "a session with a silent server ends");
    }
}

fn frame(number: u32, padding: usize) -> Frame {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(number.to_string().as_bytes());
    buffer.resize(buffer.len() + padding, b'.');
    if number.is_multiple_of(2) { Frame::text(buffer, HEADROOM) } else { Frame::binary(buffer, HEADROOM) }
}

/// The connection of Socket.IO by operation list.
pub fn sio_client(data: &[u8]) {
    let mut input = Input::new(data);
    let revision = if input.byte() == Some(b'4') { Revision::V4 } else { Revision::V5 };
    let mut world = Namespaces::new(revision);
    while let Some(operation) = input.byte() {
        if world.operate(operation, &mut input).is_err() {
            // What breaks the rules ends the connection, and another one is made.
            world.close();
        }
        world.check();
    }
}

const AUTHS: &[&str] = &["null", "{}", r#"{"token":"t"}"#, r#"{"pid":"mine","offset":1}"#];
const ANSWERS: &[&str] = &[
    "",
    r#"{"sid":"a"}"#,
    r#"{"sid":"b","pid":"p"}"#,
    r#"{"sid":"c","pid":"q"}"#,
    r#"{"sid":""}"#,
    r#"{"sid":{}}"#,
    "[]",
];
/// Id, arguments, and the offset that they carry.
const EVENTS: &[(&str, &str, Option<&str>)] = &[
    ("", r#"["e"]"#, Some("e")),
    ("", r#"["e",1]"#, None),
    ("", r#"["e","off-1"]"#, Some("off-1")),
    ("", r#"["e",{"a":"b"},"o\"2"]"#, Some("o\"2")),
    ("7", r#"["e","no"]"#, None),
];

/// What the machine should know, kept in another way.
struct Namespaces {
    now: Instant,
    revision: Revision,
    machine: ClientConnection,
    open: bool,
    known: BTreeMap<String, Known>,
}

#[derive(Default)]
struct Known {
    phase: Phase,
    session: Option<String>,
    offset: Option<String>,
    held: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Idle,
    Waiting,
    Connecting(Instant),
    Connected,
}

impl Namespaces {
    fn new(revision: Revision) -> Self {
        let mut machine = ClientConnection::new(revision, Limits::default());
        machine.set_session("session");
        Self { now: Instant::now(), revision, machine, open: false, known: BTreeMap::new() }
    }

    fn operate(&mut self, operation: u8, input: &mut Input<'_>) -> Result<(), Violation> {
        match operation {
            b'o' => {
                self.open = true;
                let waiting: Vec<_> = self.in_phase(|phase| phase == Phase::Waiting);
                assert_eq!(self.machine.opened(), waiting);
            }
            b'z' => self.close(),
            b'+' => self.now += Duration::from_secs(input.number() as u64),
            b'p' => {
                let text = String::from_utf8_lossy(input.counted()).into_owned();
                self.raw(&text)?;
            }
            b'j' | b'l' | b'g' | b'h' | b'c' | b'C' | b'E' | b'A' | b'D' | b'X' => {
                let name = name(input.number());
                self.namespace(operation, &name, input)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn namespace(&mut self, operation: u8, name: &str, input: &mut Input<'_>) -> Result<(), Violation> {
        let wire = if name == "/" { String::new() } else { format!("{name},") };
        match operation {
            b'j' => {
                let now = self.machine.join(name);
                let known = self.known.entry(name.to_owned()).or_default();
                if known.phase == Phase::Idle {
                    known.phase = Phase::Waiting;
                }
                assert_eq!(now, self.open && known.phase == Phase::Waiting);
            }
            b'l' => {
                let left = self.machine.leave(name);
                let known = self.known.get_mut(name).map(std::mem::take).unwrap_or_default();
                let was = matches!(known.phase, Phase::Connected | Phase::Connecting(_));
                assert_eq!(left, self.open && was);
            }
            b'g' => {
                self.machine.give_up(name);
                if let Some(known) = self.known.get_mut(name) {
                    known.phase = Phase::Idle;
                }
            }
            b'h' => {
                let held = self.machine.take_held(name);
                let known = self.known.get_mut(name).map(|known| std::mem::take(&mut known.held)).unwrap_or_default();
                assert_eq!(held.len(), known.len());
                for at in known {
                    self.offset(name, at);
                }
            }
            b'c' => {
                let auth: Value = serde_json::from_str(AUTHS[input.number() % AUTHS.len()]).expect("JSON");
                self.connect(name, Some(auth).filter(|auth| !auth.is_null()));
            }
            b'C' => {
                let data = ANSWERS[input.number() % ANSWERS.len()];
                self.joined(name, &format!("0{wire}{data}"), data)?;
            }
            b'E' => {
                let at = input.number() % EVENTS.len();
                self.event(name, &wire, at)?;
            }
            b'A' => {
                let connected = self.phase(name) == Phase::Connected;
                let heard = self.hear(&format!("3{wire}5[1]"))?;
                assert_eq!(heard, if connected { "ack" } else { "ignored" });
            }
            b'D' => {
                let was = matches!(self.phase(name), Phase::Connected | Phase::Connecting(_));
                let heard = self.hear(&format!("1{wire}"))?;
                assert_eq!(heard, if was { "disconnected" } else { "ignored" });
                if was {
                    self.known.insert(name.to_owned(), Known::default());
                }
            }
            _ => {
                let was = matches!(self.phase(name), Phase::Connecting(_));
                let heard = self.hear(&format!("4{wire}{{\"message\":\"no\"}}"))?;
                assert_eq!(heard, if was { "refused" } else { "ignored" });
                if let Some(known) = self.known.get_mut(name).filter(|_| was) {
                    known.phase = Phase::Idle;
                }
            }
        }
        Ok(())
    }

    /// A CONNECT is sent.
    fn connect(&mut self, name: &str, auth: Option<Value>) {
        let data = self.machine.connecting(self.now, name, auth.clone());
        if !self.open || self.phase(name) != Phase::Waiting {
            assert!(data.is_none());
            return;
        }
        let known = self.known.get_mut(name).expect("it is wanted");
        known.phase = Phase::Connecting(self.now + Limits::default().connect_timeout);
        if self.revision == Revision::V4 {
            assert_eq!(data, (name != "/").then_some(auth));
            return;
        }
        let data = data.expect("a CONNECT");
        let own = auth.as_ref().and_then(|auth| auth.get("pid"));
        let pid = data.as_ref().and_then(|data| data.get("pid")).and_then(Value::as_str);
        assert_eq!(pid, own.and_then(Value::as_str).or(known.session.as_deref()), "the application's own wins");
        let offset = data.as_ref().and_then(|data| data.get("offset")).and_then(Value::as_str);
        if own.is_none() {
            assert_eq!(offset, known.offset.as_deref().filter(|_| known.session.is_some()));
        }
    }

    /// The server's CONNECT.
    fn joined(&mut self, name: &str, packet: &str, data: &str) -> Result<(), Violation> {
        let v4 = self.revision == Revision::V4;
        let phase = self.phase(name);
        let heard = self.hear(packet);
        match phase {
            Phase::Connecting(_) => {}
            Phase::Waiting if v4 && name == "/" => {}
            Phase::Connected => {
                assert!(heard.is_err(), "one CONNECT and no more");
                return heard.map(drop);
            }
            Phase::Idle | Phase::Waiting => {
                // What no parser takes is refused before it gets here.
                assert!(heard.as_ref().map_or(true, |heard| heard == "ignored"));
                return heard.map(drop);
            }
        }
        let heard = heard?;
        let known = self.known.get_mut(name).expect("it is wanted");
        if v4 {
            assert_eq!(heard, "connected");
            known.phase = Phase::Connected;
            let id = if name == "/" { "session".to_owned() } else { format!("{name}#session") };
            assert_eq!(self.machine.id(name), Some(&*id));
            return Ok(());
        }
        if data.is_empty() {
            assert_eq!(heard, "old server");
            known.phase = Phase::Idle;
            return Ok(());
        }
        assert_eq!(heard, "connected");
        let data: Value = serde_json::from_str(data).expect("JSON");
        let sid = data.get("sid").and_then(Value::as_str).expect("only with an id");
        assert!(!sid.is_empty());
        let pid = data.get("pid").and_then(Value::as_str).map(str::to_owned);
        let recovered = pid.is_some() && pid == known.session;
        assert_eq!(self.machine.recovered(name), recovered);
        if !recovered {
            known.offset = None;
        }
        (known.session, known.phase) = (pid, Phase::Connected);
        assert_eq!(self.machine.id(name), Some(sid));
        Ok(())
    }

    fn event(&mut self, name: &str, wire: &str, at: usize) -> Result<(), Violation> {
        let (id, args, _) = EVENTS[at];
        let phase = self.phase(name);
        let heard = self.hear(&format!("2{wire}{id}{args}"));
        match phase {
            Phase::Connected => {
                assert_eq!(heard?, "event");
                self.offset(name, at);
            }
            Phase::Connecting(_) => {
                // Too much of it is a violation.
                assert_eq!(heard?, "ignored");
                self.known.get_mut(name).expect("it is wanted").held.push(at);
            }
            Phase::Idle | Phase::Waiting => assert_eq!(heard?, "ignored"),
        }
        Ok(())
    }

    fn offset(&mut self, name: &str, at: usize) {
        let Some(known) = self.known.get_mut(name) else { return };
        let (_, args, offset) = EVENTS[at];
        // An event that is its name and nothing else carries none.
        if known.session.is_some() && args.contains(',') && offset.is_some() {
            known.offset = offset.map(str::to_owned);
        }
    }

    /// Any text. What it did is not followed, so everything starts anew.
    fn raw(&mut self, text: &str) -> Result<(), Violation> {
        let heard = self.hear(text).map(drop);
        *self = Self { now: self.now, ..Self::new(self.revision) };
        heard
    }

    fn hear(&mut self, text: &str) -> Result<String, Violation> {
        let mut decoder = AnyParser::json().decoder(&Limits::default());
        let Some(packet) = decoder.decode(Message::Text(text))? else { return Ok("ignored".to_owned()) };
        let word = match self.machine.handle(packet)? {
            ClientDecision::Connected { .. } => "connected",
            ClientDecision::Refused { .. } => "refused",
            ClientDecision::OldServer { .. } => "old server",
            ClientDecision::Event { .. } => "event",
            ClientDecision::Ack { .. } => "ack",
            ClientDecision::Disconnected { .. } => "disconnected",
            ClientDecision::Ignored => "ignored",
        };
        Ok(word.to_owned())
    }

    fn close(&mut self) {
        let lost = self.in_phase(|phase| phase == Phase::Connected);
        assert_eq!(self.machine.closed(), lost);
        self.open = false;
        for known in self.known.values_mut() {
            if matches!(known.phase, Phase::Connected | Phase::Connecting(_)) {
                known.phase = Phase::Waiting;
                known.held.clear();
            }
        }
    }

    fn phase(&self, name: &str) -> Phase {
        self.known.get(name).map(|known| known.phase).unwrap_or_default()
    }

    fn in_phase(&self, wanted: impl Fn(Phase) -> bool) -> Vec<String> {
        self.known.iter().filter(|(_, known)| wanted(known.phase)).map(|(name, _)| name.clone()).collect()
    }

    fn check(&self) {
        for (name, known) in &self.known {
            assert_eq!(self.machine.is_connected(name), known.phase == Phase::Connected, "{name}");
            assert_eq!(self.machine.is_active(name), known.phase != Phase::Idle, "{name}");
            assert_eq!(self.machine.id(name).is_some(), known.phase == Phase::Connected, "{name}");
        }
        assert_eq!(self.machine.is_any_active(), self.known.values().any(|known| known.phase != Phase::Idle));
        let due = self.known.values().filter_map(|known| match known.phase {
            Phase::Connecting(by) => Some(by),
            _ => None,
        });
        assert_eq!(self.machine.deadline(), due.min());
    }
}

fn name(number: usize) -> String {
    if number == 0 { "/".to_owned() } else { format!("/{number}") }
}
