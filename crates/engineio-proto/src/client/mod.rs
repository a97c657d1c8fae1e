//! The client's side of a session on paper: opening, polling, upgrade, heartbeat and close as transitions that a table can
//! test.
//!
//! A [`Session`] is fed what happened (`on_*`, [`Session::send`], [`Session::close`]), asked what to do ([`Session::poll`]
//! until `None`), and says when it must be woken ([`Session::deadline`]). The driver owns the links: one GET and one POST at
//! a time, the WebSocket that carries the session, and the candidate that is to.
//!
//! ```text
//! feed one thing → drain poll() to None → sleep until deadline() → feed …
//! ```
//!
//! The server's side is [`crate::session`].

#[cfg(test)]
mod tests;
pub mod tunnel;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    Frame, Revision, Transport,
    open::OpenPacket,
    packet::{Data, Packet, PacketKind, base64_len},
    payload::{EncodedPayload, OutPacket, encode_payload},
    session::{CloseReason, Link},
};

/// The options of one session.
#[derive(Debug, Clone)]
pub struct Config {
    /// The revision to speak. Default: [`Revision::V4`].
    pub revision: Revision,
    /// Whether a session on polling is upgraded to WebSocket when the server offers it. Default: true. Node: `upgrade`.
    pub upgrade: bool,
    /// Whether binary messages travel as base64. Default: false. Node: `forceBase64`.
    pub force_base64: bool,
    /// How long to wait after a poll that brought nothing: short polling, if the server answers polls at once. Default: none,
    /// but polls that bring nothing begin 100 ms apart, whatever the server does.
    pub poll_interval: Option<Duration>,
    /// How long the session may take to open. Default: 20 s. Node: the `timeout` of the manager.
    pub open_timeout: Duration,
    /// How long an upgrade may take, from dialling to the switch. Default: 10 s, as servers allow.
    pub upgrade_timeout: Duration,
    /// How long a POST may take. Default: 30 s.
    pub post_timeout: Duration,
    /// How long what is queued may take to leave after [`Session::close`]. Default: 5 s.
    pub close_timeout: Duration,
    /// How many bytes may wait to be sent. Default: 16 MiB.
    pub send_queue_bytes: usize,
    /// How many messages may wait to be sent. Default: 65,536.
    pub send_queue_packets: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            revision: Revision::V4,
            upgrade: true,
            force_base64: false,
            poll_interval: None,
            open_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            post_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            send_queue_bytes: 16 << 20,
            send_queue_packets: 65_536,
        }
    }
}

/// One session, seen from the client.
#[derive(Debug)]
pub struct Session {
    config: Config,
    phase: Phase,
    carrier: Carrier,
    candidate: Option<Candidate>,
    /// When the next thing of the heartbeat is due; set when the session opens.
    heartbeat: Option<Beat>,
    ping_interval: Duration,
    ping_timeout: Duration,
    /// How long the server may be silent.
    peer_grace: Duration,
    max_payload: Option<u64>,
    outbox: VecDeque<OutPacket>,
    outbox_bytes: usize,
    /// A pong waits already; one answer is enough for many pings.
    pong_queued: bool,
    /// What is to be done before anything else.
    ready: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening {
        by: Instant,
    },
    Open,
    /// Closed by us: what is queued goes out first.
    Draining {
        by: Instant,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Polling {
        get: Get,
        /// A POST is out, and by when it must be answered.
        post: Option<Instant>,
        close_sent: bool,
    },
    Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Get {
    /// The next one may begin, not before this if it says so.
    Ready(Option<Instant>),
    Out {
        since: Instant,
        /// Nothing but noops has come so far.
        empty: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    stage: Stage,
    by: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialling,
    Probing,
    /// The probe was answered: polling stops, and when its last request is answered the WebSocket takes over.
    Pausing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    /// Revision 4: the server's next ping is due.
    PeerPingsBy(Instant),
    /// Revision 3: our turn.
    PingAt(Instant),
    /// Revision 3: our ping is out.
    PongBy(Instant),
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Send a GET: the first one opens the session, the others are polls. Never two at a time.
    Get,
    /// Send a POST. Never two at a time.
    Post(EncodedPayload),
    /// Send a packet on a WebSocket.
    Write(Link, OutPacket),
    /// The session is open.
    Opened(OpenPacket),
    /// The server has asked for a sign of life. The answer goes by itself.
    Pinged,
    /// Dial a WebSocket with the session's id: it is to take over.
    Dial,
    /// Let the candidate go; the session stays where it is.
    DropCandidate,
    /// The candidate carries the session from now on. There is no poll and no POST any more.
    Upgraded,
    /// Close the WebSocket in an orderly way.
    CloseSocket,
    /// The session is over: let go of everything. Comes once and last.
    Closed(CloseReason),
}

/// Why messages were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is not open, or over.
    #[error("the session is not open")]
    Closed,
    /// The queue is at its limit. The session goes on.
    #[error("the send queue is full")]
    Full,
    /// A message is larger than what the server takes (`maxPayload`). The session goes on.
    #[error("a message of {len} bytes is over the server's limit of {limit}")]
    TooLarge {
        /// How long the packet is on this transport.
        len: usize,
        /// What the server said.
        limit: u64,
    },
}

impl Session {
    /// Begins a session on long-polling or on WebSocket, whose connection then is [`Link::Socket`] once it stands.
    pub fn new(now: Instant, config: Config, transport: Transport) -> Self {
        let carrier = match transport {
            Transport::Polling => Carrier::Polling { get: Get::Ready(None), post: None, close_sent: false },
            Transport::WebSocket | Transport::WebTransport => Carrier::Socket,
        };
        Self {
            phase: Phase::Opening { by: now + config.open_timeout },
            config,
            carrier,
            candidate: None,
            heartbeat: None,
            ping_interval: Duration::ZERO,
            ping_timeout: Duration::ZERO,
            peer_grace: Duration::ZERO,
            max_payload: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            pong_queued: false,
            ready: VecDeque::new(),
        }
    }

    /// One packet came on the transport that carries the session. Gives back the application's data, if it is a message.
    pub fn on_packet<'a>(&mut self, now: Instant, packet: Packet<'a>) -> Option<Data<'a>> {
        if packet.kind != PacketKind::Noop
            && let Carrier::Polling { get: Get::Out { empty, .. }, .. } = &mut self.carrier
        {
            *empty = false;
        }
        match (self.phase, packet.kind) {
            (Phase::Ended, _) => {}
            (Phase::Opening { .. }, PacketKind::Open) => match packet.data.as_text().map(OpenPacket::decode) {
                Some(Ok(open)) => self.opened(now, open),
                _ => self.end(CloseReason::ParseError("invalid open packet")),
            },
            (Phase::Opening { .. }, PacketKind::Close) => self.end(CloseReason::TransportClose),
            (Phase::Opening { .. }, _) => self.end(CloseReason::ParseError("a packet before the open packet")),
            (_, PacketKind::Open) => self.end(CloseReason::ParseError("a second open packet")),
            (_, PacketKind::Close) => self.end(CloseReason::TransportClose),
            (Phase::Open, PacketKind::Message) => return Some(packet.data),
            (_, PacketKind::Ping) if self.config.revision == Revision::V4 => {
                if let Some(Beat::PeerPingsBy(due)) = &mut self.heartbeat {
                    *due = now + self.peer_grace;
                }
                if !self.pong_queued {
                    self.pong_queued = true;
                    self.ready.push_back(Output::Pinged);
                    self.push(OutPacket::control(PacketKind::Pong, ""));
                }
            }
            (_, PacketKind::Pong) => {
                if let Some(Beat::PongBy(_)) = self.heartbeat {
                    self.heartbeat = Some(Beat::PingAt(now + self.ping_interval));
                }
            }
            // A heartbeat in the wrong direction and what else means nothing to a client.
            (_, PacketKind::Message | PacketKind::Ping | PacketKind::Upgrade | PacketKind::Noop) => {}
        }
        None
    }

    /// What came is no packet.
    pub fn on_malformed(&mut self, what: &'static str) {
        self.end(CloseReason::ParseError(what));
    }

    /// The GET was answered, and all its packets have been fed.
    pub fn on_get_done(&mut self, now: Instant) {
        if let Carrier::Polling { get, .. } = &mut self.carrier {
            let next = match (*get, self.config.poll_interval) {
                (Get::Out { empty: true, .. }, Some(interval)) => Some(now + interval.max(EMPTY_POLL_GAP)),
                // A server that does not hold polls, or releases them for a probe, does not make us spin.
                (Get::Out { empty: true, since }, None) => Some(since + EMPTY_POLL_GAP),
                _ => None,
            };
            *get = Get::Ready(next);
            if let Phase::Opening { .. } = self.phase {
                self.end(CloseReason::ParseError("no open packet"));
            }
        }
    }

    /// The POST was answered.
    pub fn on_post_done(&mut self) {
        if let Carrier::Polling { post, close_sent, .. } = &mut self.carrier {
            *post = None;
            if *close_sent && self.outbox.is_empty() {
                self.end(CloseReason::ForcedClose);
            }
        }
    }

    /// A link that the session needs has failed, or was closed by the peer. The driver has let go of it already.
    pub fn on_carrier_gone(&mut self, reason: CloseReason) {
        let forced = matches!(self.phase, Phase::Draining { .. });
        self.end(if forced { CloseReason::ForcedClose } else { reason });
    }

    /// The candidate's connection stands.
    pub fn on_candidate_open(&mut self) {
        if let Some(candidate @ Candidate { stage: Stage::Dialling, .. }) = &mut self.candidate {
            candidate.stage = Stage::Probing;
            self.ready.push_back(Output::Write(Link::Candidate, OutPacket::control(PacketKind::Ping, "probe")));
        }
    }

    /// The candidate's peer sent a packet (`None`: something that is none). Nothing it does can hurt the polling session.
    pub fn on_candidate_packet(&mut self, packet: Option<&Packet<'_>>) {
        let Some(candidate) = &mut self.candidate else { return };
        match (candidate.stage, packet) {
            (Stage::Probing, Some(Packet { kind: PacketKind::Pong, data })) if data.as_text() == Some("probe") => {
                candidate.stage = Stage::Pausing;
            }
            _ => self.drop_candidate(),
        }
    }

    /// The candidate's connection is gone, or never came to be. The driver has let go of it already.
    pub fn on_candidate_gone(&mut self) {
        self.candidate = None;
    }

    /// Queues messages, all of them or none.
    ///
    /// # Errors
    /// [`SendError`]; the session goes on as it was.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame, IntoIter: Clone>) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        let frames = frames.into_iter();
        let (mut bytes, mut packets) = (self.outbox_bytes, self.outbox.len());
        for frame in frames.clone() {
            self.fits(&frame)?;
            bytes = bytes.saturating_add(frame.queued_len());
            packets += 1;
        }
        // One event that is larger than the queue still goes when nothing waits.
        let full = bytes > self.config.send_queue_bytes || packets > self.config.send_queue_packets;
        if full && !self.outbox.is_empty() {
            return Err(SendError::Full);
        }
        for frame in frames {
            self.push(OutPacket::Message(frame));
        }
        Ok(())
    }

    /// Closes the session; what is queued leaves first.
    pub fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Draining { by: now + self.config.close_timeout };
                // A switch that has begun is finished: the server may have let go of polling already.
                if self.candidate.is_some_and(|candidate| candidate.stage != Stage::Pausing) {
                    self.drop_candidate();
                }
            }
            Phase::Opening { .. } => self.end(CloseReason::ForcedClose),
            Phase::Draining { .. } | Phase::Ended => {}
        }
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { by } if by <= now => return self.end(CloseReason::TransportError("timeout")),
            Phase::Draining { by } if by <= now => return self.end(CloseReason::ForcedClose),
            _ => {}
        }
        if self.candidate.is_some_and(|candidate| candidate.by <= now) {
            self.drop_candidate();
        }
        if let Carrier::Polling { post: Some(by), .. } = self.carrier
            && by <= now
        {
            return self.end(CloseReason::TransportError("post timeout"));
        }
        if let Carrier::Polling { get: Get::Ready(next), .. } = &mut self.carrier {
            *next = next.filter(|next| *next > now);
        }
        match self.heartbeat {
            Some(Beat::PeerPingsBy(due) | Beat::PongBy(due)) if due <= now => self.end(CloseReason::PingTimeout),
            Some(Beat::PingAt(due)) if due <= now => {
                self.heartbeat = Some(Beat::PongBy(now + self.ping_timeout));
                self.push(OutPacket::control(PacketKind::Ping, ""));
            }
            _ => {}
        }
    }

    /// When [`Session::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Opening { by } | Phase::Draining { by } => Some(by),
            Phase::Open => None,
            Phase::Ended => return None,
        };
        let beat = self.heartbeat.map(|(Beat::PeerPingsBy(due) | Beat::PingAt(due) | Beat::PongBy(due))| due);
        let (get, post) = match self.carrier {
            Carrier::Polling { get: Get::Ready(next), post, .. } if self.may_poll() => (next, post),
            Carrier::Polling { post, .. } => (None, post),
            Carrier::Socket => (None, None),
        };
        [phase, beat, get, post, self.candidate.map(|candidate| candidate.by)].into_iter().flatten().min()
    }

    /// What to do next; `None` until something happens.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        if self.phase == Phase::Ended {
            return None;
        }
        let draining = matches!(self.phase, Phase::Draining { .. });
        let may_poll = self.may_poll();
        match &mut self.carrier {
            Carrier::Polling { get, post, .. } => {
                if self.candidate.is_some_and(|candidate| candidate.stage == Stage::Pausing) {
                    if matches!(get, Get::Out { .. }) || post.is_some() {
                        return None;
                    }
                    self.candidate = None;
                    self.carrier = Carrier::Socket;
                    self.outbox.push_front(OutPacket::control(PacketKind::Upgrade, ""));
                    return Some(Output::Upgraded);
                }
                if may_poll
                    && let Get::Ready(next) = *get
                    && next.is_none_or(|next| next <= now)
                {
                    *get = Get::Out { since: now, empty: true };
                    return Some(Output::Get);
                }
                if post.is_none() && !matches!(self.phase, Phase::Opening { .. }) {
                    return self.post(now, draining).map(Output::Post);
                }
                None
            }
            Carrier::Socket => match self.pop() {
                Some(packet) => Some(Output::Write(Link::Socket, packet)),
                None if draining => {
                    self.end(CloseReason::ForcedClose);
                    Some(Output::CloseSocket)
                }
                None => None,
            },
        }
    }

    /// The transport that carries the session.
    pub fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Polling { .. } => Transport::Polling,
            Carrier::Socket => Transport::WebSocket,
        }
    }

    /// The revision that is spoken.
    pub fn revision(&self) -> Revision {
        self.config.revision
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// How many bytes wait to be handed out.
    pub fn queued_bytes(&self) -> usize {
        self.outbox_bytes
    }

    fn opened(&mut self, now: Instant, open: OpenPacket) {
        self.phase = Phase::Open;
        self.ping_interval = open.ping_interval;
        self.ping_timeout = open.ping_timeout;
        self.peer_grace = open.ping_interval.saturating_add(open.ping_timeout);
        self.heartbeat = Some(match self.config.revision {
            Revision::V4 => Beat::PeerPingsBy(now + self.peer_grace),
            Revision::V3 => Beat::PingAt(now + self.ping_interval),
        });
        self.max_payload = open.max_payload;
        let offered = open.upgrades.contains(&Transport::WebSocket);
        let polling = matches!(self.carrier, Carrier::Polling { .. });
        self.ready.push_back(Output::Opened(open));
        if polling && offered && self.config.upgrade {
            self.candidate = Some(Candidate { stage: Stage::Dialling, by: now + self.config.upgrade_timeout });
            self.ready.push_back(Output::Dial);
        }
    }

    /// Whether another GET is wanted at all: the last one of a session that closes or moves on has been sent.
    fn may_poll(&self) -> bool {
        let moving_on = self.candidate.is_some_and(|candidate| candidate.stage == Stage::Pausing);
        matches!(self.phase, Phase::Opening { .. } | Phase::Open) && !moving_on
    }

    fn drop_candidate(&mut self) {
        if self.candidate.take().is_some() {
            self.ready.push_back(Output::DropCandidate);
        }
    }

    fn push(&mut self, packet: OutPacket) {
        self.outbox_bytes += queued_len(&packet);
        self.outbox.push_back(packet);
    }

    fn pop(&mut self) -> Option<OutPacket> {
        let packet = self.outbox.pop_front()?;
        self.outbox_bytes = self.outbox_bytes.saturating_sub(queued_len(&packet));
        if packet.kind() == PacketKind::Pong {
            self.pong_queued = false;
        }
        if self.outbox.is_empty() && self.outbox.capacity() > KEPT_CAPACITY {
            self.outbox = VecDeque::new();
        }
        Some(packet)
    }

    /// As many packets as the server takes in one body, at least one.
    fn post(&mut self, now: Instant, draining: bool) -> Option<EncodedPayload> {
        if self.outbox.is_empty() {
            let Carrier::Polling { close_sent, .. } = &mut self.carrier else { return None };
            if !draining || std::mem::replace(close_sent, true) {
                return None;
            }
            self.push(OutPacket::control(PacketKind::Close, ""));
        }
        let limit = self.max_payload.unwrap_or(u64::MAX);
        let mut packets = Vec::new();
        let mut len = 0u64;
        while let Some(next) = self.outbox.front() {
            len = len.saturating_add(self.payload_len(next) as u64 + u64::from(!packets.is_empty()));
            if !packets.is_empty() && len > limit {
                break;
            }
            packets.extend(self.pop());
        }
        let by = now + self.config.post_timeout;
        if let Carrier::Polling { post, .. } = &mut self.carrier {
            *post = Some(by);
        }
        Some(encode_payload(self.config.revision, !self.config.force_base64, &packets))
    }

    /// How long a packet is in a polling payload.
    fn payload_len(&self, packet: &OutPacket) -> usize {
        match (self.config.revision, packet) {
            (Revision::V3, _) => packet.encoded_len(),
            (Revision::V4, OutPacket::Control(_, data)) => 1 + data.len(),
            (Revision::V4, OutPacket::Message(frame)) if frame.is_binary() => 1 + base64_len(frame.data().len()),
            (Revision::V4, OutPacket::Message(frame)) => frame.packet().len(),
        }
    }

    fn fits(&self, frame: &Frame) -> Result<(), SendError> {
        let Some(limit) = self.max_payload else { return Ok(()) };
        let len = match self.carrier {
            Carrier::Polling { .. } if frame.is_binary() => 1 + base64_len(frame.data().len()),
            _ => frame.packet().len(),
        };
        if len as u64 > limit { Err(SendError::TooLarge { len, limit }) } else { Ok(()) }
    }

    /// Everything leads here. Comes to nothing the second time.
    fn end(&mut self, reason: CloseReason) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.candidate = None;
            self.heartbeat = None;
            self.outbox = VecDeque::new();
            self.outbox_bytes = 0;
            self.ready.push_back(Output::Closed(reason));
        }
    }
}

fn queued_len(packet: &OutPacket) -> usize {
    match packet {
        OutPacket::Control(..) => 0,
        OutPacket::Message(frame) => frame.queued_len(),
    }
}

/// The least time between the beginnings of polls that bring nothing.
const EMPTY_POLL_GAP: Duration = Duration::from_millis(100);
/// An outbox that was larger than this gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 16;
