//! The life of one client on paper: heartbeat, polling, upgrade and close as transitions that a table can test.
//!
//! A [`Session`] is a plain struct. It is fed what happened (`on_*`, [`Session::send`], [`Session::close`]), asked what to
//! do ([`Session::poll`] until `None`), and says when it must be woken ([`Session::deadline`]). It knows *links*, the
//! physical ways to move bytes: a parked GET, a POST, the WebSocket that carries the session and the candidate that wants
//! to. It owns the outgoing queue, so packets keep their order across an upgrade.
//!
//! ```text
//! feed one thing → drain poll() to None → sleep until deadline() → feed …
//! ```
//!
//! This is the server's side; the protocol's sections that rule here are "Heartbeat", "Upgrade" and "HTTP long-polling" of
//! the Engine.IO protocol document, with Node's `Socket` and `Polling` classes where the document is silent.

mod config;
mod heartbeat;
mod outbox;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use config::Config;
use heartbeat::{Beat, Heartbeat};
pub use outbox::Block;
use outbox::Outbox;

use crate::{
    Batch, Frame, Revision, Transport,
    packet::{Data, Packet, PacketKind},
    payload::{EncodedPayload, OutPacket, encode_payload},
    rate::{Meter, OverRate},
};

/// A poll is released with a noop at most this often while an upgrade is on. Node: 100 ms.
const NOOP_GAP: Duration = Duration::from_millis(100);
/// The shortest time that an empty poll of a client which did not ask for short polling is held.
const STOCK_HOLD: Duration = Duration::from_secs(1);
/// A client that sends too much is not read for so long at least: shorter pauses cost more than what they keep away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// A client that probes again and again is up to something.
const MAX_PROBES: u8 = 3;

/// Why a session ended, in Node's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer did not answer (or did not send) a ping in time.
    PingTimeout,
    /// The transport was closed by the peer.
    TransportClose,
    /// The transport failed or the peer broke its rules; the text says which one.
    TransportError(&'static str),
    /// The peer sent what is not a packet.
    ParseError(&'static str),
    /// This side closed the session.
    ForcedClose,
}

impl CloseReason {
    /// The reason as Node spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError(_) => "transport error",
            Self::ParseError(_) => "parse error",
            Self::ForcedClose => "forced close",
        }
    }

    /// What happened in more detail, where there is more to say.
    pub const fn description(self) -> Option<&'static str> {
        match self {
            Self::TransportError(text) | Self::ParseError(text) => Some(text),
            Self::PingTimeout | Self::TransportClose | Self::ForcedClose => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One client's session on the server.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    revision: Revision,
    /// The peer asked for base64 instead of binary (`b64`).
    b64: bool,
    phase: Phase,
    carrier: Carrier,
    heartbeat: Heartbeat,
    outbox: Outbox,
    candidate: Option<Box<Candidate>>,
    /// Since when the application takes no more messages.
    blocked: Option<Instant>,
    /// An Engine.IO 3 pong is queued already; one answer is enough for many pings.
    pong_queued: bool,
    /// An Engine.IO 4 ping has not left yet, so nothing that comes can be its answer.
    ping_queued: bool,
    /// What the client has sent, where that is limited.
    traffic: Option<Box<Traffic>>,
}

#[derive(Debug)]
struct Traffic {
    meter: Meter,
    /// It is not read until then.
    paused: Option<Instant>,
    /// [`Session::first_pause`] has told of it.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Closed by us: what is queued goes out first.
    Draining {
        reason: CloseReason,
        give_up: Instant,
    },
    /// Over. Links are let go one by one, then the end is announced.
    Ending(CloseReason),
    Ended(CloseReason),
}

#[derive(Debug)]
enum Carrier {
    Polling(Polling),
    Socket { close_sent: bool },
}

#[derive(Debug, Default)]
struct Polling {
    parked: Option<Parked>,
    post: Option<Ticket>,
    tickets: u32,
    /// When the last poll was released with nothing but a noop.
    last_noop: Option<Instant>,
    /// By when the client must come back after the handshake; `None` once it has.
    first_activity: Option<Instant>,
    /// The session was closed by us while no GET was parked.
    closed_unparked: bool,
}

#[derive(Debug)]
struct Parked {
    ticket: Ticket,
    /// When an empty poll is released; `None` holds it until something is to be sent.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Candidate {
    stage: Stage,
    deadline: Instant,
    probes: u8,
    /// Probe answers that have not been handed out yet.
    answers: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    AwaitingProbe,
    Probed,
    /// The upgrade packet came while a POST was still being read; that POST is delivered first.
    Finishing,
    /// For this reason.
    Failed(&'static str),
}

/// Why a candidate is given up that asks for nothing.
pub const UPGRADE_TIMEOUT: &str = "upgrade timeout";

/// Tells one GET or POST of a session from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u32);

/// Which WebSocket something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The one that carries the session.
    Socket,
    /// The one that wants to, while an upgrade is on.
    Candidate,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Answer the parked GET.
    AnswerPoll {
        /// Which one.
        ticket: Ticket,
        /// What it gets.
        payload: EncodedPayload,
        /// Whether any packet in it wants to be compressed.
        compress: bool,
    },
    /// Send a packet on a WebSocket.
    Write(Link, OutPacket),
    /// The candidate carries the session from now on.
    Upgraded,
    /// Close a WebSocket in an orderly way.
    CloseLink(Link),
    /// Close the candidate likewise: what it sent is no upgrade, or it took too long ([`UPGRADE_TIMEOUT`]).
    RefuseCandidate(&'static str),
    /// The session is over. Comes once and last.
    Closed(CloseReason),
}

/// A second request of a kind of which a session may have only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap;

/// An upgrade that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeRefused;

/// Why messages were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The session is over or ending.
    Closed,
    /// The queue is over its limit; the session ends as a slow consumer.
    Full,
}

impl Session {
    /// Opens a session that starts on long-polling or on WebSocket. The open packet is queued first.
    pub fn open(
        now: Instant,
        config: Arc<Config>,
        revision: Revision,
        transport: Transport,
        b64: bool,
        open_packet: OutPacket,
        initial: Option<Frame>,
    ) -> Self {
        let carrier = match transport {
            Transport::Polling => Carrier::Polling(Polling {
                first_activity: Some(now + config.limits.first_activity_timeout),
                ..Polling::default()
            }),
            Transport::WebSocket | Transport::WebTransport => Carrier::Socket { close_sent: false },
        };
        let heartbeat = Heartbeat::new(now, revision, config.ping_interval, config.ping_timeout);
        let traffic =
            config.traffic.as_ref().map(|limits| Traffic { meter: Meter::new(limits, now), paused: None, told: false });
        let mut session = Self {
            config,
            revision,
            b64,
            phase: Phase::Open,
            carrier,
            heartbeat,
            outbox: Outbox::default(),
            candidate: None,
            blocked: None,
            pong_queued: false,
            ping_queued: false,
            traffic: traffic.map(Box::new),
        };
        session.outbox.push(open_packet);
        if let Some(frame) = initial {
            session.outbox.push(OutPacket::Message(frame));
        }
        session
    }

    /// A GET asks for packets. `hold` is how long the client asked its poll to be held at most.
    ///
    /// # Errors
    /// [`Overlap`] when another GET is parked: this one is to be answered with 400, and the session ends.
    pub fn on_poll(&mut self, now: Instant, hold: Option<Duration>) -> Result<Ticket, Overlap> {
        let server_hold = self.config.poll_hold;
        if self.is_over() {
            return Err(Overlap);
        }
        let Carrier::Polling(polling) = &mut self.carrier else { return Err(Overlap) };
        let first = polling.tickets == 0;
        if polling.parked.is_some() {
            self.end(CloseReason::TransportError("overlap from client"));
            return Err(Overlap);
        }
        if !first {
            polling.first_activity = None;
        }
        let until = match (hold, server_hold) {
            (Some(asked), None) => Some(now + asked),
            (Some(asked), Some(most)) => Some(now + asked.min(most)),
            (None, Some(most)) => Some(now + most.max(STOCK_HOLD)),
            (None, None) => None,
        };
        // An empty answer is never given twice within the gap, whatever the client asked for.
        let until = match (until, polling.last_noop) {
            (Some(until), Some(last)) => Some(until.max(last + NOOP_GAP)),
            (until, _) => until,
        };
        let ticket = polling.ticket();
        polling.parked = Some(Parked { ticket, until });
        Ok(ticket)
    }

    /// A parked GET was aborted by the client. Does nothing when it has been answered meanwhile.
    pub fn on_poll_gone(&mut self, ticket: Ticket) {
        if let Carrier::Polling(polling) = &mut self.carrier
            && polling.parked.as_ref().is_some_and(|parked| parked.ticket == ticket)
        {
            polling.parked = None;
            self.end(CloseReason::TransportError("poll connection closed prematurely"));
        }
    }

    /// A POST begins.
    ///
    /// # Errors
    /// [`Overlap`] when another POST is not finished: this one is to be answered with 400, and the session ends.
    pub fn on_post(&mut self) -> Result<Ticket, Overlap> {
        if self.is_over() {
            return Err(Overlap);
        }
        let Carrier::Polling(polling) = &mut self.carrier else { return Err(Overlap) };
        if polling.post.is_some() {
            self.end(CloseReason::TransportError("data request overlap from client"));
            return Err(Overlap);
        }
        polling.first_activity = None;
        let ticket = polling.ticket();
        polling.post = Some(ticket);
        Ok(ticket)
    }

    /// A POST is over: all its packets have been fed, or its body could not be taken and the session lives on.
    pub fn on_post_done(&mut self, ticket: Ticket) {
        if let Carrier::Polling(polling) = &mut self.carrier
            && polling.post == Some(ticket)
        {
            polling.post = None;
        }
    }

    /// A POST ended badly and takes the session with it.
    pub fn on_post_failed(&mut self, ticket: Ticket, reason: CloseReason) {
        if let Carrier::Polling(polling) = &mut self.carrier
            && polling.post == Some(ticket)
        {
            polling.post = None;
            self.end(reason);
        }
    }

    /// A WebSocket with this session's id asks to carry it. Call before the 101 is sent.
    ///
    /// # Errors
    /// [`UpgradeRefused`] when one is on already, or the session is not on polling: a session that started on WebSocket
    /// never accepts a second one.
    pub fn on_candidate(&mut self, now: Instant) -> Result<(), UpgradeRefused> {
        match &mut self.carrier {
            Carrier::Polling(polling) if self.candidate.is_none() && self.phase == Phase::Open => {
                polling.first_activity = None;
                self.candidate = Some(Box::new(Candidate {
                    stage: Stage::AwaitingProbe,
                    deadline: now + self.config.upgrade_timeout,
                    probes: 0,
                    answers: 0,
                }));
                Ok(())
            }
            _ => Err(UpgradeRefused),
        }
    }

    /// The candidate sent a packet (`None`: something that is none). Nothing it does can hurt the polling session.
    pub fn on_candidate_packet(&mut self, packet: Option<&Packet<'_>>) {
        let Some(candidate) = &mut self.candidate else { return };
        match (candidate.stage, packet) {
            (Stage::AwaitingProbe | Stage::Probed, Some(Packet { kind: PacketKind::Ping, data: Data::Text(text) }))
                if text == "probe" && candidate.probes < MAX_PROBES =>
            {
                candidate.probes += 1;
                candidate.answers += 1;
                candidate.stage = Stage::Probed;
            }
            // Some clients append data to the upgrade packet (`52`).
            (Stage::Probed, Some(Packet { kind: PacketKind::Upgrade, .. })) => candidate.stage = Stage::Finishing,
            (_, Some(Packet { kind: PacketKind::Ping, data: Data::Text(text) })) if text == "probe" => {
                candidate.stage = Stage::Failed("too many probes");
            }
            _ => candidate.stage = Stage::Failed("no packet of an upgrade"),
        }
    }

    /// The candidate's connection is gone. The driver has let go of it already.
    pub fn on_candidate_gone(&mut self) {
        self.candidate = None;
    }

    /// Whether the candidate is to be read: not once it has asked to take over.
    pub fn reads_candidate(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| matches!(candidate.stage, Stage::AwaitingProbe | Stage::Probed))
    }

    /// One packet came on the transport that carries the session. Gives back the application's data, if it is a message.
    pub fn on_packet<'a>(&mut self, now: Instant, packet: Packet<'a>) -> Option<Data<'a>> {
        if !matches!(self.phase, Phase::Open | Phase::Draining { .. }) {
            return None;
        }
        match (packet.kind, self.revision) {
            (PacketKind::Message, _) => return (self.phase == Phase::Open).then_some(packet.data),
            (PacketKind::Pong, Revision::V4) => {
                if !self.ping_queued {
                    self.heartbeat.on_pong(now, self.config.ping_interval);
                }
            }
            (PacketKind::Ping, Revision::V3) => {
                self.heartbeat.on_ping(now, self.config.ping_interval, self.config.ping_timeout);
                if !self.pong_queued {
                    self.pong_queued = true;
                    let data = match packet.data {
                        Data::Text(text) if text == "probe" => "probe".to_owned(),
                        _ => String::new(),
                    };
                    self.outbox.push(OutPacket::control(PacketKind::Pong, data));
                }
            }
            (PacketKind::Ping, Revision::V4) | (PacketKind::Pong, Revision::V3) => {
                self.end(CloseReason::TransportError("invalid heartbeat direction"));
            }
            (PacketKind::Close, _) => self.end(CloseReason::TransportClose),
            (PacketKind::Open | PacketKind::Upgrade | PacketKind::Noop, _) => {}
        }
        None
    }

    /// The WebSocket that carried the session is gone. The driver has let go of it already.
    pub fn on_socket_gone(&mut self, reason: CloseReason) {
        if let Carrier::Socket { close_sent } = &mut self.carrier {
            *close_sent = true;
            // Closed by us: the peer only followed.
            let reason = match self.phase {
                Phase::Draining { reason, .. } => reason,
                _ => reason,
            };
            self.end(reason);
        }
    }

    /// The peer broke a rule, or something failed: the session ends now, and what is queued is dropped.
    pub fn on_violation(&mut self, reason: CloseReason) {
        self.end(reason);
    }

    /// Something of so many bytes came: a packet, or a control frame of a WebSocket. Returns whether the client is to be read
    /// no further for now: it has sent more than it may, and [`Session::deadline`] tells when it may go on.
    pub fn on_traffic(&mut self, now: Instant, bytes: usize) -> bool {
        let (Some(traffic), Some(limits)) = (&mut self.traffic, &self.config.traffic) else { return false };
        let wait = traffic.meter.count(limits, now, bytes);
        if wait.is_zero() {
            return false;
        }
        match limits.over {
            OverRate::Delay => traffic.paused = Some(now + wait.max(SHORTEST_PAUSE)),
            OverRate::Disconnect => self.end(CloseReason::TransportError("rate limit")),
        }
        true
    }

    /// Whether the client has been too fast and this was not asked since: once in the life of a session.
    pub fn first_pause(&mut self) -> bool {
        let traffic = self.traffic.as_mut().filter(|traffic| traffic.paused.is_some());
        traffic.is_some_and(|traffic| !std::mem::replace(&mut traffic.told, true))
    }

    /// Whether the client is not to be read now, because it has sent more than it may.
    pub fn is_paused(&self) -> bool {
        self.traffic.as_ref().is_some_and(|traffic| traffic.paused.is_some())
    }

    /// The application takes messages again (`false`) or no more (`true`). The peer's ping deadline stands still while it
    /// is not read.
    pub fn set_blocked(&mut self, now: Instant, blocked: bool) {
        match (blocked, self.blocked) {
            (true, None) => self.blocked = Some(now),
            (false, Some(_)) => {
                self.blocked = None;
                self.heartbeat.on_unblocked(now, self.config.ping_timeout);
            }
            _ => {}
        }
    }

    /// Time has passed. Call at [`Session::deadline`], or whenever it is convenient.
    pub fn on_time(&mut self, now: Instant) {
        match self.phase {
            Phase::Draining { reason, give_up } if give_up <= now => return self.end(reason),
            Phase::Open | Phase::Draining { .. } => {}
            Phase::Ending(_) | Phase::Ended(_) => return,
        }
        if let Some(traffic) = &mut self.traffic
            && traffic.paused.is_some_and(|until| until <= now)
        {
            traffic.paused = None;
            self.heartbeat.on_unblocked(now, self.config.ping_timeout);
        }
        if self.blocked.is_some_and(|since| since + self.config.limits.handler_stall <= now) {
            return self.end(CloseReason::TransportError("handler stall"));
        }
        if let Carrier::Polling(Polling { first_activity: Some(by), .. }) = self.carrier
            && by <= now
        {
            return self.end(CloseReason::TransportError("no request after the handshake"));
        }
        if self.heartbeat.deadline(self.is_unread()).is_some_and(|due| due <= now) {
            match self.heartbeat.on_time(now, self.config.ping_timeout) {
                Some(Beat::Ping) => {
                    self.ping_queued = true;
                    self.outbox.push(OutPacket::control(PacketKind::Ping, String::new()));
                }
                Some(Beat::Lost) => return self.end(CloseReason::PingTimeout),
                None => {}
            }
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.deadline <= now
        {
            candidate.stage = Stage::Failed(UPGRADE_TIMEOUT);
        }
    }

    /// Queues messages, all or none, in order and with nothing in between.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the session is over; [`SendError::Full`] when the queue is over its limit, and then the
    /// session ends as a slow consumer. A message that is larger than the limit may pass alone.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        let had = self.outbox.len();
        for frame in frames {
            self.outbox.push(OutPacket::Message(frame));
        }
        self.check_queue(had)
    }

    /// Queues what goes to many sessions and may grow behind this one's back; see [`Batch`].
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_batch(&mut self, batch: Batch) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        let had = self.outbox.len();
        self.outbox.push_batch(batch);
        self.check_queue(had)
    }

    fn check_queue(&mut self, had: usize) -> Result<(), SendError> {
        let limits = &self.config.limits;
        if had > 0 && (self.outbox.bytes() > limits.send_queue_bytes || self.outbox.len() > limits.send_queue_packets) {
            self.end(CloseReason::TransportError("slow consumer"));
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Closes the session: what is queued goes out first.
    pub fn close(&mut self, now: Instant, reason: CloseReason) {
        if self.phase == Phase::Open {
            let grace = match &mut self.carrier {
                Carrier::Polling(polling) => {
                    polling.closed_unparked = polling.parked.is_none();
                    self.config.close_grace
                }
                Carrier::Socket { .. } => self.config.limits.close_timeout,
            };
            self.phase = Phase::Draining { reason, give_up: now + grace };
        }
    }

    /// What is to be done next; `None` when there is nothing now. With `writable` false nothing is handed out for the
    /// WebSocket that carries the session: the rest stays queued and counted.
    pub fn poll(&mut self, now: Instant, writable: bool) -> Option<Output> {
        if let Phase::Ending(reason) = self.phase {
            return Some(self.poll_ending(reason));
        }
        if let Phase::Ended(_) = self.phase {
            return None;
        }
        if let Some(output) = self.poll_candidate() {
            return Some(output);
        }
        match self.carrier {
            Carrier::Polling(_) => self.answer_poll(now),
            Carrier::Socket { .. } if !writable => None,
            Carrier::Socket { .. } => {
                if let Some(packet) = self.outbox.pop() {
                    match packet.kind() {
                        PacketKind::Pong => self.pong_queued = false,
                        PacketKind::Ping => self.ping_queued = false,
                        _ => {}
                    }
                    return Some(Output::Write(Link::Socket, packet));
                }
                if let Phase::Draining { reason, .. } = self.phase {
                    self.end(reason);
                    return self.poll(now, writable);
                }
                None
            }
        }
    }

    /// What the WebSocket that carries the session is given next, if that comes from the application.
    ///
    /// The part of [`Session::poll`] that a task other than the session's own may take: `None` when nothing is queued, when a
    /// packet of the protocol is next, and whenever something is going on (an upgrade, a close).
    pub fn next_block(&mut self) -> Option<Block> {
        if self.phase != Phase::Open || self.candidate.is_some() || !matches!(self.carrier, Carrier::Socket { .. }) {
            return None;
        }
        self.outbox.pop_block(self.revision == Revision::V4 && !self.b64)
    }

    /// The answer to the parked GET, if there is one and it is due. The part of [`Session::poll`] that any task may ask for.
    pub fn answer_poll(&mut self, now: Instant) -> Option<Output> {
        let draining = match self.phase {
            Phase::Open => None,
            Phase::Draining { reason, .. } => Some(reason),
            Phase::Ending(_) | Phase::Ended(_) => return self.answer_poll_ending(),
        };
        let upgrading = self.pumps_noops();
        let Carrier::Polling(polling) = &mut self.carrier else { return None };
        let parked = polling.parked.as_ref()?;
        let ticket = parked.ticket;
        if let Some(reason) = draining
            && self.outbox.is_empty()
        {
            // Node's bytes: a parked poll gets `1`, a later one a noop and `1`.
            let packets: &[OutPacket] =
                if polling.closed_unparked { &[noop_packet(), close_packet()] } else { &[close_packet()] };
            polling.parked = None;
            let output = self.release(ticket, packets, false);
            self.end(reason);
            return Some(output);
        }
        if !self.outbox.is_empty() {
            polling.parked = None;
            // What is queued goes out by itself: clients look at a close before the messages in front of it.
            polling.closed_unparked |= draining.is_some();
            self.pong_queued = false;
            self.ping_queued = false;
            let packets = self.outbox.take_all();
            let compress = packets.iter().any(OutPacket::wants_compression);
            return Some(self.release(ticket, &packets, compress));
        }
        let noop_due = polling.last_noop.is_none_or(|last| last + NOOP_GAP <= now);
        if (upgrading && noop_due) || parked.until.is_some_and(|until| until <= now) {
            polling.parked = None;
            polling.last_noop = Some(now);
            return Some(self.release(ticket, &[noop_packet()], false));
        }
        None
    }

    /// When [`Session::on_time`] and [`Session::poll`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let give_up = match self.phase {
            Phase::Open => None,
            Phase::Draining { give_up, .. } => Some(give_up),
            Phase::Ending(_) | Phase::Ended(_) => return None,
        };
        let stall = self.blocked.map(|since| since + self.config.limits.handler_stall);
        let candidate = self.candidate.as_ref().map(|candidate| candidate.deadline);
        let (first_activity, hold) = match &self.carrier {
            Carrier::Polling(polling) => (polling.first_activity, self.release_at(polling)),
            Carrier::Socket { .. } => (None, None),
        };
        let heartbeat = self.heartbeat.deadline(self.is_unread());
        let pause = self.traffic.as_ref().and_then(|traffic| traffic.paused);
        [give_up, stall, candidate, first_activity, hold, heartbeat, pause].into_iter().flatten().min()
    }

    /// The transport that carries the session.
    pub fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Polling(_) => Transport::Polling,
            Carrier::Socket { .. } => Transport::WebSocket,
        }
    }

    /// The revision of this session.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the peer takes binary data only as base64.
    pub fn base64_only(&self) -> bool {
        self.b64
    }

    /// Whether this GET is still parked.
    pub fn has_parked(&self, ticket: Ticket) -> bool {
        matches!(&self.carrier, Carrier::Polling(Polling { parked: Some(parked), .. }) if parked.ticket == ticket)
    }

    /// Whether the client has sent nothing since the handshake.
    pub fn awaits_first_activity(&self) -> bool {
        matches!(&self.carrier, Carrier::Polling(Polling { first_activity: Some(_), .. }))
    }

    /// Whether an upgrade is on.
    pub fn is_upgrading(&self) -> bool {
        self.candidate.is_some()
    }

    /// How many bytes wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// How many packets wait to be sent.
    pub fn queued_packets(&self) -> usize {
        self.outbox.len()
    }

    /// Whether a message would go out at once: what Node's `volatile` asks. `socket_writable` is what the driver knows of
    /// its WebSocket.
    pub fn is_writable(&self, socket_writable: bool) -> bool {
        self.phase == Phase::Open
            && self.outbox.is_empty()
            && match &self.carrier {
                Carrier::Polling(polling) => polling.parked.is_some(),
                Carrier::Socket { .. } => socket_writable,
            }
    }

    /// Whether the session takes messages from the application.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Why the session is ending or has ended.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Open => None,
            Phase::Draining { reason, .. } | Phase::Ending(reason) | Phase::Ended(reason) => Some(reason),
        }
    }

    /// Whether nothing may be fed any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ending(_) | Phase::Ended(_))
    }

    /// Whether nobody listens to the client now, so that it cannot be blamed for silence.
    fn is_unread(&self) -> bool {
        self.blocked.is_some() || self.is_paused()
    }

    fn end(&mut self, reason: CloseReason) {
        if !self.is_over() {
            self.phase = Phase::Ending(reason);
            self.outbox.clear();
        }
    }

    fn poll_ending(&mut self, reason: CloseReason) -> Output {
        if let Some(answer) = self.answer_poll_ending() {
            return answer;
        }
        if self.candidate.take().is_some() {
            return Output::CloseLink(Link::Candidate);
        }
        if let Carrier::Socket { close_sent } = &mut self.carrier
            && !*close_sent
        {
            *close_sent = true;
            return Output::CloseLink(Link::Socket);
        }
        self.phase = Phase::Ended(reason);
        Output::Closed(reason)
    }

    fn answer_poll_ending(&mut self) -> Option<Output> {
        let Carrier::Polling(polling) = &mut self.carrier else { return None };
        let ticket = polling.parked.take()?.ticket;
        Some(self.release(ticket, &[close_packet()], false))
    }

    fn poll_candidate(&mut self) -> Option<Output> {
        let candidate = self.candidate.as_mut()?;
        if candidate.answers > 0 {
            candidate.answers -= 1;
            return Some(Output::Write(Link::Candidate, OutPacket::control(PacketKind::Pong, "probe".to_owned())));
        }
        match candidate.stage {
            Stage::Failed(why) => {
                self.candidate = None;
                Some(Output::RefuseCandidate(why))
            }
            Stage::Finishing => {
                let Carrier::Polling(polling) = &mut self.carrier else { return None };
                // Until that POST is over, polls are answered as before.
                if polling.post.is_some() {
                    return None;
                }
                if let Some(parked) = polling.parked.take() {
                    return Some(self.release(parked.ticket, &[noop_packet()], false));
                }
                self.candidate = None;
                self.carrier = Carrier::Socket { close_sent: false };
                Some(Output::Upgraded)
            }
            Stage::AwaitingProbe | Stage::Probed => None,
        }
    }

    fn release(&self, ticket: Ticket, packets: &[OutPacket], compress: bool) -> Output {
        let payload = encode_payload(self.revision, !self.b64, packets.iter());
        Output::AnswerPoll { ticket, payload, compress }
    }

    /// Whether an upgrade is so far that polls are released for it: the client waits for its last one to return.
    fn pumps_noops(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| matches!(candidate.stage, Stage::Probed | Stage::Finishing))
    }

    /// When the parked GET is released although nothing is to be sent.
    fn release_at(&self, polling: &Polling) -> Option<Instant> {
        let parked = polling.parked.as_ref()?;
        let noop = match polling.last_noop {
            Some(last) if self.pumps_noops() => Some(last + NOOP_GAP),
            _ => None,
        };
        [parked.until, noop].into_iter().flatten().min()
    }
}

impl Polling {
    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket(self.tickets)
    }
}

fn noop_packet() -> OutPacket {
    OutPacket::control(PacketKind::Noop, String::new())
}

fn close_packet() -> OutPacket {
    OutPacket::control(PacketKind::Close, String::new())
}
