//! The task of one session, whatever its transport: reads, dispatches, writes, keeps the time.
//!
//! A turn does everything that can be done now: it reads a buffer, gives the application each message in order, lets it
//! drive its handlers, drains the machine and writes what was collected in one go. Emits from other tasks land in the
//! machine's queue and wake this task once.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use engineio_proto::{
    Message,
    packet::{Data, Packet},
    payload::PayloadCursor,
    session::{CloseReason, Link, Output, Ticket},
    ws,
};
use tokio::{
    net::tcp::OwnedWriteHalf,
    time::{Instant, Sleep},
};

use crate::{
    Session,
    app::{Application, Connection},
    link::{SocketLink, with_scratch},
    security,
    server::Engine,
    session::{PollAnswer, PostResult},
};

/// Reads of one turn before other tasks get their chance.
const READS_PER_TURN: usize = 4;
/// Packets of one posted body before other tasks get their chance.
const PACKETS_PER_TURN: usize = 128;
/// Rounds of one turn before other tasks get their chance.
const ROUNDS_PER_TURN: usize = 8;
/// How long disconnect handlers may run after the end of a session.
const FAREWELL: Duration = Duration::from_secs(30);

pub(crate) struct Driver<A: Application> {
    engine: Arc<Engine<A>>,
    session: Session,
    connection: Option<A::Connection>,
    socket: Option<SocketLink>,
    candidate: Option<Box<SocketLink>>,
    /// WebSockets that are being closed: flushed, then read until the peer has closed too.
    leaving: Option<Box<Leaving>>,
    post: Option<Box<PostWork>>,
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    /// The alarm knows whom to wake.
    sleeping: bool,
    /// The session is over; the application finishes until then.
    over: Option<Instant>,
    /// The application knows that the session is over.
    announced: bool,
    /// The machine was told that the application takes no more.
    blocked: bool,
}

struct Leaving {
    link: SocketLink,
    until: Instant,
}

struct PostWork {
    ticket: Ticket,
    body: Bytes,
    cursor: PayloadCursor,
}

/// What a look at a WebSocket's input came to.
enum ReadEnd {
    /// Nothing more to read now.
    Idle,
    /// More may be there; the turn's budget is used up.
    Budget,
    /// The application takes no more for now.
    Blocked,
    /// The peer is gone.
    Gone,
    /// The peer broke the WebSocket protocol; a close frame is queued.
    Broken(CloseReason),
}

impl<A: Application> Driver<A> {
    pub(crate) fn new(engine: Arc<Engine<A>>, session: Session, mut socket: Option<SocketLink>) -> Self {
        session.0.lock().direct = socket.as_mut().and_then(SocketLink::lend);
        let armed = Instant::now() + Duration::from_secs(86_400);
        engine.count_task(true);
        Self {
            engine,
            session,
            connection: None,
            socket,
            candidate: None,
            leaving: None,
            post: None,
            sleep: Box::pin(tokio::time::sleep_until(armed)),
            armed,
            sleeping: false,
            over: None,
            announced: false,
            blocked: false,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.is_none() && self.over.is_none() {
            self.session.0.lock().in_turn = true;
            self.connection = Some(self.engine.app.open(&self.session));
        }
        for _ in 0..ROUNDS_PER_TURN {
            let now = Instant::now();
            self.begin(cx, now);
            let mut more = self.read_all(cx, now);
            if self.over.is_none()
                && let Some(connection) = &mut self.connection
            {
                let was_ready = connection.ready();
                connection.poll(cx);
                // It takes messages again: what was kept for it is next.
                more |= !was_ready && connection.ready();
            }
            more |= self.pump(cx, now);
            if let Some(end) = self.farewell(cx, now) {
                return end;
            }
            let mut core = self.session.0.lock();
            let machine = core.machine.deadline();
            let quiet = !core.dirty && !core.output && !more;
            core.in_turn = !quiet;
            drop(core);
            let late = self.arm(cx, now, machine);
            if quiet && !late {
                return Poll::Pending;
            }
        }
        // Others first, then on.
        self.session.0.lock().in_turn = false;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes over what others have left for this task.
    fn begin(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut core = self.session.0.lock();
        core.in_turn = true;
        core.dirty = false;
        if core.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            core.task = Some(cx.waker().clone());
        }
        // From here on nobody else writes. What another task could not write goes first.
        if !core.rest.is_empty()
            && let Some(socket) = &mut self.socket
        {
            socket.queue_raw(std::mem::take(&mut core.rest));
        }
        core.machine.on_time(now.into_std());
        let revision = core.machine.revision();
        if let Some(requests) = &mut core.requests {
            if let Some(candidate) = requests.candidate.take() {
                self.candidate = Some(candidate);
            }
            if let Some(post) = requests.post.take() {
                let limit = self.engine.machine.limits.max_payload_packets;
                self.post = Some(Box::new(PostWork {
                    ticket: post.ticket,
                    body: post.body,
                    cursor: PayloadCursor::new(revision, post.binary).max_packets(limit),
                }));
            }
        }
    }

    /// Reads every link once. Returns whether more may be there.
    fn read_all(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut more = self.feed_post(cx, now);
        if self.socket.is_some() && self.over.is_none() {
            more |= self.read_socket(cx, now);
        }
        if self.candidate.is_some() {
            more |= self.read_candidate(cx, now);
        }
        more
    }

    fn read_socket(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Self { socket: Some(socket), connection: Some(connection), session, .. } = self else { return false };
        let std_now = now.into_std();
        if session.0.lock().machine.is_paused() {
            return false;
        }
        if !connection.ready() {
            session.0.lock().machine.set_blocked(std_now, true);
            self.blocked = true;
            return false;
        }
        if std::mem::take(&mut self.blocked) {
            // It got on, however soon it is behind again: a stall is counted from the last message that it took.
            session.0.lock().machine.set_blocked(std_now, false);
        }
        let revision = session.revision();
        let patience = self.engine.machine.limits.message_timeout;
        let counters = self.engine.counters();
        let mut too_fast = false;
        let end = with_scratch(|scratch| {
            read_frames(cx, now, socket, scratch, patience, |cx, event| {
                let (packet, len) = match event {
                    Some(Message::Text(text)) => (Some(Packet::decode_text(revision, text)), text.len()),
                    Some(Message::Binary(data)) => (Some(Packet::decode_binary(revision, data)), data.len()),
                    None => (None, 0),
                };
                let mut core = session.0.lock();
                let paused = core.machine.on_traffic(std_now, len);
                if core.machine.is_over() {
                    return Flow::Stop;
                }
                if paused {
                    counters.rate_delays.add();
                    too_fast |= core.machine.first_pause();
                }
                let Some(packet) = packet else { return if paused { Flow::Pause } else { Flow::Next } };
                match packet {
                    Ok(packet) => {
                        let data = core.machine.on_packet(std_now, packet);
                        drop(core);
                        match &data {
                            Some(Data::Text(text)) => connection.message(cx, Message::Text(text)),
                            Some(Data::Binary(data)) => connection.message(cx, Message::Binary(data)),
                            None => {}
                        }
                    }
                    Err(malformed) => {
                        core.machine.on_violation(CloseReason::ParseError(malformed.as_str()));
                        return Flow::Stop;
                    }
                }
                if connection.ready() && !paused { Flow::Next } else { Flow::Pause }
            })
        });
        if too_fast {
            self.engine.tell_of(session, Some(security::TOO_FAST));
        }
        // A message may also have been refused before it was read.
        self.blocked = !connection.ready();
        if matches!(end, ReadEnd::Idle) && !self.blocked {
            return false;
        }
        let mut core = session.0.lock();
        core.machine.set_blocked(std_now, self.blocked);
        match end {
            ReadEnd::Idle | ReadEnd::Blocked => false,
            ReadEnd::Budget => true,
            ReadEnd::Gone => {
                core.machine.on_socket_gone(CloseReason::TransportClose);
                let lent = core.direct.take();
                drop(core);
                // What the peer is owed (the answer to its close frame) goes out while the link leaves.
                self.let_go(lent, now);
                true
            }
            ReadEnd::Broken(reason) => {
                core.machine.on_violation(reason);
                true
            }
        }
    }

    fn read_candidate(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Self { candidate: Some(candidate), session, .. } = self else { return false };
        if !session.0.lock().machine.reads_candidate() {
            return false;
        }
        let revision = session.revision();
        let patience = self.engine.machine.limits.message_timeout;
        let end = with_scratch(|scratch| {
            read_frames(cx, now, candidate, scratch, patience, |_, event| {
                let packet = match event {
                    Some(Message::Text(text)) => Packet::decode_text(revision, text).ok(),
                    Some(Message::Binary(_)) => None,
                    None => return Flow::Next,
                };
                let mut core = session.0.lock();
                core.machine.on_candidate_packet(packet.as_ref());
                if core.machine.reads_candidate() { Flow::Next } else { Flow::Pause }
            })
        });
        match end {
            ReadEnd::Idle => false,
            ReadEnd::Budget | ReadEnd::Blocked => true,
            ReadEnd::Gone | ReadEnd::Broken(_) => {
                session.0.lock().machine.on_candidate_gone();
                if let ReadEnd::Broken(reason) = end {
                    self.engine.tell_of(session, security::of_close(reason));
                }
                self.engine.counters().upgrades_failed.add();
                if let Some(link) = self.candidate.take() {
                    self.leave(*link, now);
                }
                true
            }
        }
    }

    /// Gives the application what a POST brought, as far as it takes it.
    fn feed_post(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Self { post: Some(post), connection: Some(connection), session, .. } = self else { return false };
        let std_now = now.into_std();
        let mut budget = PACKETS_PER_TURN;
        let result = loop {
            if !connection.ready() && !session.is_closed() {
                session.0.lock().machine.set_blocked(std_now, true);
                self.blocked = true;
                return false;
            }
            if budget == 0 {
                return true;
            }
            budget -= 1;
            if session.0.lock().machine.is_paused() {
                return false;
            }
            let packet = post.cursor.next(&post.body);
            let mut core = session.0.lock();
            core.machine.set_blocked(std_now, false);
            match packet {
                None => {
                    core.machine.on_post_done(post.ticket);
                    break PostResult::Taken;
                }
                Some(Err(malformed)) => {
                    core.machine.on_post_failed(post.ticket, CloseReason::ParseError(malformed.as_str()));
                    break PostResult::Refused;
                }
                Some(Ok(packet)) => {
                    let len = match &packet.data {
                        Data::Text(text) => text.len(),
                        Data::Binary(data) => data.len(),
                    };
                    let too_fast = core.machine.on_traffic(std_now, len) && core.machine.is_open();
                    if too_fast {
                        self.engine.counters().rate_delays.add();
                    }
                    let tell = too_fast && core.machine.first_pause();
                    let data = core.machine.on_packet(std_now, packet);
                    let ended = core.machine.is_over().then(|| core.machine.close_reason()).flatten();
                    drop(core);
                    if tell {
                        self.engine.tell_of(session, Some(security::TOO_FAST));
                    }
                    match &data {
                        Some(Data::Text(text)) => connection.message(cx, Message::Text(text)),
                        Some(Data::Binary(data)) => connection.message(cx, Message::Binary(data)),
                        None => {}
                    }
                    match ended {
                        None => {}
                        // The client said goodbye; what it wrote after that is dropped.
                        Some(CloseReason::TransportClose | CloseReason::ForcedClose) => break PostResult::Taken,
                        Some(_) => break PostResult::Refused,
                    }
                }
            }
        };
        let ticket = post.ticket;
        self.post = None;
        let mut core = self.session.0.lock();
        core.machine.on_post_done(ticket);
        core.put_post_result(ticket, result);
        true
    }

    /// Does what the machine asks for and writes. Returns whether another round is needed.
    fn pump(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut again = false;
        loop {
            again |= self.drain_machine(now);
            let Some(socket) = &mut self.socket else {
                self.session.0.lock().in_flight = 0;
                break;
            };
            let had = socket.in_flight();
            let flushed = socket.poll_flush(cx);
            let mut core = self.session.0.lock();
            core.in_flight = socket.in_flight();
            core.socket_writable = socket.is_flushed();
            match flushed {
                Poll::Ready(Ok(())) => {
                    core.wake_drained();
                    if had == 0 || core.machine.queued_packets() == 0 {
                        break;
                    }
                }
                Poll::Ready(Err(_)) => {
                    core.machine.on_socket_gone(CloseReason::TransportClose);
                    socket.take_back(core.direct.take());
                    drop(core);
                    self.socket = None;
                    again = true;
                }
                Poll::Pending => {
                    let stalled =
                        socket.stalled.is_some_and(|since| since + self.engine.machine.limits.write_timeout <= now);
                    if stalled {
                        core.machine.on_violation(CloseReason::TransportError("write timeout"));
                        again = true;
                    }
                    break;
                }
            }
        }
        if let Some(candidate) = &mut self.candidate
            && let Poll::Ready(Err(_)) = candidate.poll_flush(cx)
        {
            self.candidate = None;
            self.session.0.lock().machine.on_candidate_gone();
            again = true;
        }
        again
    }

    fn drain_machine(&mut self, now: Instant) -> bool {
        let mut again = false;
        let (mut ended, mut refused) = (None, None);
        let shared = self.session.0.clone();
        let mut core = shared.lock();
        core.output = false;
        if core.holds_answers() {
            return false;
        }
        loop {
            let writable = self.socket.as_ref().is_none_or(SocketLink::has_room);
            let Some(output) = core.machine.poll(now.into_std(), writable) else { break };
            match output {
                Output::AnswerPoll { ticket, payload, compress } => {
                    core.put_answer(ticket, PollAnswer { payload, compress });
                }
                Output::Write(Link::Socket, packet) => {
                    if let Some(socket) = &mut self.socket {
                        socket.queue(packet);
                    }
                }
                Output::Write(Link::Candidate, packet) => {
                    if let Some(candidate) = &mut self.candidate {
                        candidate.queue(packet);
                    }
                }
                Output::Upgraded => {
                    self.engine.counters().upgrades.add();
                    // What came behind the upgrade packet is still in the link and is read in the next round.
                    self.socket = self.candidate.take().map(|link| *link);
                    core.direct = self.socket.as_mut().and_then(SocketLink::lend);
                    core.tidy();
                    again = true;
                }
                Output::RefuseCandidate(why) => {
                    refused = Some(why);
                    self.engine.counters().upgrades_failed.add();
                    if let Some(mut link) = self.candidate.take() {
                        link.close(None, "");
                        self.leave(*link, now);
                    }
                }
                Output::CloseLink(Link::Candidate) => {
                    self.engine.counters().upgrades_failed.add();
                    if let Some(mut link) = self.candidate.take() {
                        link.close(None, "");
                        self.leave(*link, now);
                    }
                }
                Output::CloseLink(Link::Socket) => {
                    if let Some(socket) = &mut self.socket {
                        socket.close(None, "");
                    }
                    self.let_go(core.direct.take(), now);
                }
                Output::Closed(reason) => ended = Some(reason),
            }
        }
        if let Some(why) = refused {
            drop(core);
            // Hooks may use the session.
            self.engine.tell_of(&self.session, Some(security::of_candidate(why)));
            core = shared.lock();
        }
        if let Some(reason) = ended {
            core.wake_requests();
            if let Some(post) = self.post.take() {
                core.put_post_result(post.ticket, PostResult::Taken);
            }
            drop(core);
            self.engine.remove(&self.session.0.sid);
            self.over = Some(now + FAREWELL);
            self.engine.closed(&self.session, reason);
            again = true;
        }
        again
    }

    /// Lets the socket go that carried the session, with the half that was lent.
    fn let_go(&mut self, lent: Option<OwnedWriteHalf>, now: Instant) {
        if let Some(mut socket) = self.socket.take() {
            socket.take_back(lent);
            self.leave(socket, now);
        }
    }

    fn leave(&mut self, link: SocketLink, now: Instant) {
        // A peer that stopped reading is not waited for.
        if link.stalled.is_none() {
            let until = now + self.engine.machine.limits.close_timeout;
            self.leaving = Some(Box::new(Leaving { link, until }));
        }
    }

    /// Finishes what outlives the session. `None` while it lives.
    fn farewell(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Poll<()>> {
        if let Some(leaving) = &mut self.leaving
            && (leaving.until <= now || leaving.poll_left(cx).is_ready())
        {
            self.leaving = None;
        }
        let until = self.over?;
        if let Some(connection) = &mut self.connection {
            let reason = self.session.0.lock().machine.close_reason().unwrap_or(CloseReason::ForcedClose);
            if !self.announced {
                self.announced = true;
                connection.close(cx, reason);
            }
            if connection.poll_closed(cx).is_ready() || until <= now {
                self.connection = None;
            }
        }
        (self.connection.is_none() && self.leaving.is_none()).then_some(Poll::Ready(()))
    }

    /// Sets the alarm for the next thing that is due. Returns whether it is due already.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant, machine: Option<std::time::Instant>) -> bool {
        let limits = &self.engine.machine.limits;
        let machine = machine.map(Instant::from_std);
        let application =
            if self.over.is_none() { self.connection.as_ref().and_then(Connection::deadline) } else { self.over };
        let socket = self.socket.as_ref().and_then(|link| {
            let stalled = link.stalled.map(|since| since + limits.write_timeout);
            let unfinished = link.unfinished.map(|since| since + limits.message_timeout);
            stalled.into_iter().chain(unfinished).min()
        });
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until);
        let Some(due) = [machine, application, socket, leaving].into_iter().flatten().min() else { return false };
        if due <= now {
            return true;
        }
        // An alarm that rings too early is cheaper than one that is moved with every packet.
        if due >= self.armed && self.armed > now && self.sleeping {
            return false;
        }
        self.sleeping = true;
        if due < self.armed || self.armed <= now {
            self.armed = due;
            self.sleep.as_mut().reset(due);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            self.armed = due;
            self.sleep.as_mut().reset(due);
            return self.sleep.as_mut().poll(cx).is_ready();
        }
        false
    }
}

impl Leaving {
    /// Flushes, then waits for the peer's end of the stream. A peer that has said all it had to say (RFC 6455 §7.1.1), or
    /// whose words count no more (§7.1.7), sees our end first.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.link.poll_flush(cx)).is_err() {
            return Poll::Ready(());
        }
        if self.link.heard_enough && ready!(self.link.poll_shut(cx)).is_err() {
            return Poll::Ready(());
        }
        with_scratch(|scratch| {
            for _ in 0..READS_PER_TURN {
                match self.link.poll_read(cx, scratch) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    // Read and thrown away: closing a stream with unread data would reset it, and the close frame with it.
                    Poll::Ready(Ok(_)) if self.link.heard_enough => {}
                    Poll::Ready(Ok(read)) => {
                        let mut at = 0;
                        loop {
                            match self.link.decoder.decode(&mut scratch[..read], &mut at) {
                                Ok(Some(ws::Event::Close(_))) | Err(_) => return Poll::Ready(()),
                                Ok(Some(_)) => {}
                                Ok(None) => break,
                            }
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            // A peer that goes on sending instead of closing is not listened to for ever.
            Poll::Ready(())
        })
    }
}

enum Flow {
    Next,
    /// No more for now; what is left in the buffer is kept.
    Pause,
    /// No more at all.
    Stop,
}

/// Reads and hands on messages until there is nothing more or `each` says so. A control frame is `None`.
fn read_frames(
    cx: &mut Context<'_>,
    now: Instant,
    link: &mut SocketLink,
    scratch: &mut [u8],
    patience: Duration,
    mut each: impl FnMut(&mut Context<'_>, Option<Message<'_>>) -> Flow,
) -> ReadEnd {
    if link.unfinished.is_some_and(|since| since + patience <= now) {
        link.close(Some(1008), "");
        return ReadEnd::Broken(CloseReason::TransportError("a message took too long"));
    }
    for _ in 0..READS_PER_TURN {
        let read = match link.poll_read(cx, scratch) {
            Poll::Pending => return ReadEnd::Idle,
            Poll::Ready(Ok(0) | Err(_)) => return ReadEnd::Gone,
            Poll::Ready(Ok(read)) => read,
        };
        let input = &mut scratch[..read];
        let mut at = 0;
        loop {
            let flow = match link.decoder.decode(input, &mut at) {
                Ok(None) => break,
                // A message is complete; what is incomplete after it began later.
                Ok(Some(ws::Event::Text(text))) => {
                    link.unfinished = None;
                    each(cx, Some(Message::Text(text)))
                }
                Ok(Some(ws::Event::Binary(data))) => {
                    link.unfinished = None;
                    each(cx, Some(Message::Binary(data)))
                }
                Ok(Some(ws::Event::Ping(data))) => {
                    let (data, len) = small_copy(data);
                    link.pong(&data[..len]);
                    each(cx, None)
                }
                Ok(Some(ws::Event::Pong(_))) => each(cx, None),
                Ok(Some(ws::Event::Close(code))) => {
                    let code = code.map(|(code, _)| code);
                    link.close(code, "");
                    link.heard_enough = true;
                    return ReadEnd::Gone;
                }
                Err(error) => {
                    link.close(Some(error.code), "");
                    link.heard_enough = true;
                    return ReadEnd::Broken(CloseReason::TransportError(error.reason));
                }
            };
            match flow {
                Flow::Next => {}
                Flow::Pause => {
                    link.keep(&input[at..]);
                    return ReadEnd::Blocked;
                }
                Flow::Stop => return ReadEnd::Idle,
            }
        }
        if link.decoder.is_mid_message() {
            link.unfinished.get_or_insert(now);
        } else {
            link.unfinished = None;
        }
    }
    ReadEnd::Budget
}

/// A control payload (at most 125 bytes), out of the read buffer.
fn small_copy(data: &[u8]) -> ([u8; 125], usize) {
    let mut copy = [0; 125];
    let len = data.len().min(copy.len());
    copy[..len].copy_from_slice(&data[..len]);
    (copy, len)
}

// Nothing in it is pinned in place: the alarm has a box of its own.
impl<A: Application> Unpin for Driver<A> {}

impl<A: Application> Future for Driver<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| this.turn(cx))) {
            Ok(result) => result,
            Err(_) => {
                // The application's state may be half changed: it gets no further calls.
                tracing::error!(session = ?this.session.0.sid, "the application panicked; its session is closed");
                this.connection = None;
                let mut core = this.session.0.lock();
                core.machine.on_violation(CloseReason::TransportError("internal error"));
                core.in_turn = false;
                core.wake_requests();
                drop(core);
                Poll::Ready(())
            }
        }
    }
}

impl<A: Application> Drop for Driver<A> {
    fn drop(&mut self) {
        // The one way out that every end goes through, a panic and a runtime that stops included.
        self.engine.remove(&self.session.0.sid);
        let mut core = self.session.0.lock();
        core.machine.on_violation(CloseReason::ForcedClose);
        core.task = None;
        core.task_gone = true;
        if let Some(socket) = &mut self.socket {
            socket.take_back(core.direct.take());
        }
        core.wake_requests();
        drop(core);
        self.engine.count_task(false);
    }
}
