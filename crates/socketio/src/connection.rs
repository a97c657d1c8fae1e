//! One client: what its session calls, and the sockets it has in namespaces.
//!
//! Everything here runs on the session's task. A packet is decoded where it was read, its socket found by slot, its
//! handlers polled; what is pending is driven by [`Connection::poll`]. Joining and leaving have one order each:
//!
//! * *join*: the slot is reserved; middleware runs; the arguments of the connect handlers are taken; the socket is added to
//!   its namespace and its own room; CONNECT is queued; the connect handlers run, and events wait behind them.
//! * *leave*: answers that were awaited are settled; events that came before are handled; `disconnecting`, then the rooms
//!   are left, then `disconnect`; [`SocketInner::release`](crate::socket::SocketInner::release) is the last step of every end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use engineio::{CloseReason, HEADROOM, Session};
use serde::Serialize;
use socketio_core::ConnectError;
use socketio_proto::{
    CloseKind, Connection as Machine, Decision, Decoder, JOIN_TIMEOUT, Message, Packet, Payload, Revision, Slot,
    TimedOut, Violation,
};
use tokio::time::{Instant, Sleep};

use crate::broadcast::frames;
use crate::context::ConnectContext;
use crate::dynamic::{Asking, Resolved};
use crate::hub::Hub;
use crate::lane::{self, Lane, Panicked, no_args};
use crate::leave::Leaver;
use crate::middleware::VerdictFuture;
use crate::nsp::Nsp;
use crate::policy::forbidden;
use crate::recovery::{Claimed, Tracked};
use crate::shared::Restoring;
use crate::socket::{CLOSE, Client, EXPIRY, LOOK, Phase, random_id};
use crate::{Action, DisconnectReason, Fault, SecurityKind, Socket};

/// One client. Public because the engine's types name it; everything happens through the engine.
pub struct Connection {
    decoder: Decoder,
    core: Core,
}

struct Core {
    client: Arc<Client>,
    machine: Machine,
    /// By slot of the machine.
    members: Vec<Option<Member>>,
    /// Joins about which the application has been asked whether there is such a namespace.
    asking: Vec<Asked>,
    /// Joins for which a session is looked for.
    restoring: Vec<Awaited>,
    /// Sockets whose handlers have not finished saying goodbye.
    leavers: Vec<Leaver>,
    /// A packet waits for attachments.
    reconstructing: bool,
    /// Some member's middleware has not decided.
    joining: bool,
    /// The connection is being closed: what still comes is not looked at.
    over: bool,
    /// Why, if it was not the engine that ended it.
    why: Option<(DisconnectReason, Option<&'static str>)>,
    /// Events since the counters were last brought up to date.
    events: u64,
    /// The time of this turn, asked for once.
    now: Option<Instant>,
    /// When the first credentials of a member expire.
    expires: Option<Instant>,
    /// After the end of the session nobody else keeps the time.
    sleep: Option<Pin<Box<Sleep>>>,
}

struct Member {
    slot: Slot,
    socket: Socket,
    lane: Lane,
    /// The middleware that has not decided; `None` once connected.
    join: Option<Box<Join>>,
}

struct Asked {
    slot: Slot,
    namespace: Box<str>,
    auth: Option<Payload<'static>>,
    asking: Asking,
}

struct Awaited {
    slot: Slot,
    nsp: Arc<Nsp>,
    auth: Option<Payload<'static>>,
    restoring: Restoring,
}

#[derive(Default)]
struct Join {
    next: usize,
    running: Option<VerdictFuture>,
}

impl Connection {
    pub(crate) fn open(hub: Arc<Hub>, session: &Session) -> Self {
        let env = &hub.env;
        env.counters.connections.add();
        env.counters.connections_open.add();
        let revision = match session.revision() {
            engineio::Revision::V3 => Revision::V4,
            engineio::Revision::V4 => Revision::V5,
        };
        let now = Instant::now();
        let machine = Machine::new(revision, &env.proto_limits, now.into_std());
        let decoder = env.parser.decoder(&env.proto_limits);
        let client = Arc::new(Client { session: session.clone(), hub, requests: AtomicU8::new(0) });
        let mut core = Core {
            client,
            machine,
            members: Vec::new(),
            asking: Vec::new(),
            restoring: Vec::new(),
            leavers: Vec::new(),
            reconstructing: false,
            joining: false,
            over: false,
            why: None,
            events: 0,
            now: Some(now),
            expires: None,
            sleep: None,
        };
        if let Some(decision) = core.machine.open(now.into_std()) {
            core.decide(decision);
        }
        Self { decoder, core }
    }
}

impl engineio::Connection for Connection {
    fn message(&mut self, cx: &mut Context<'_>, message: engineio::Message<'_>) {
        let Self { decoder, core } = self;
        if core.client.requests.load(Ordering::Acquire) != 0 {
            core.look();
        }
        if core.over {
            return;
        }
        let message = match message {
            engineio::Message::Text(text) => Message::Text(text),
            engineio::Message::Binary(data) => Message::Binary(data),
        };
        let decoded = decoder.decode(message);
        let reconstructing = decoder.is_reconstructing();
        if reconstructing != core.reconstructing {
            core.reconstructing = reconstructing;
            let now = core.now();
            core.machine.reconstructing(reconstructing, now.into_std());
        }
        match decoded {
            Ok(None) => {}
            Ok(Some(packet)) => core.packet(cx, packet),
            Err(violation) => {
                core.env().counters.undecodable.add();
                core.violation(&violation);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        let core = &mut self.core;
        if core.events > 0 {
            core.env().counters.events_in.add_many(core.events);
            core.events = 0;
        }
        core.expire();
        if core.client.requests.load(Ordering::Acquire) != 0 {
            core.look();
        }
        if core.joining {
            core.drive_joins(cx);
        }
        core.drive_lanes(cx);
        core.drive_leavers(cx);
        core.check_time();
        core.now = None;
    }

    fn ready(&self) -> bool {
        let limits = &self.core.env().limits;
        let members = self.core.members.iter().flatten();
        self.core.over
            || members.into_iter().all(|member| member.lane.has_room(limits.mailbox_events, limits.mailbox_bytes))
    }

    fn deadline(&self) -> Option<Instant> {
        let machine = self.core.machine.deadline().map(Instant::from_std);
        let expires = self.core.expires.filter(|_| !self.core.over);
        self.core.leavers.iter().map(Leaver::deadline).chain(machine).chain(expires).min()
    }

    fn close(&mut self, _: &mut Context<'_>, reason: CloseReason) {
        let core = &mut self.core;
        core.over = true;
        core.now = None;
        let closing = core.env().closing.load(Ordering::SeqCst);
        let why = match core.why {
            Some(why) => why,
            None if closing => (DisconnectReason::ServerShuttingDown, None),
            None => {
                let (reason, description) = (DisconnectReason::from(reason), reason.description());
                if !matches!(reason, DisconnectReason::TransportClose | DisconnectReason::ForcedClose) {
                    let session = &core.client.session;
                    core.env().fault(|| Fault::ConnectionFailed { session, reason, description });
                }
                (reason, description)
            }
        };
        core.machine.close();
        core.leave_all(why);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let core = &mut self.core;
        core.now = None;
        let done = core.poll_leavers_after_the_end(cx);
        core.now = None;
        done
    }
}

impl Core {
    fn env(&self) -> &crate::env::Env {
        &self.client.hub.env
    }

    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn packet(&mut self, cx: &mut Context<'_>, packet: Packet<'_>) {
        let now = self.now().into_std();
        match self.machine.on_packet(packet, now) {
            Decision::Deliver { slot, packet: Packet::Event { id, args, .. } } => {
                let Some(Some(member)) = self.members.get_mut(slot.index()) else { return };
                self.events += 1;
                tracing::trace!(namespace = %member.socket.0.nsp.name, event = args.name(), id, "event");
                // Dismissed a moment ago, its task is about to be told.
                if member.socket.connected()
                    && let Err(panicked) = member.lane.event(cx, &member.socket, id, &args)
                {
                    self.panicked(panicked);
                }
            }
            Decision::Deliver { slot, packet: Packet::Ack { id, args, .. } } => {
                let Some(Some(member)) = self.members.get(slot.index()) else { return };
                let known = id.is_some_and(|id| member.socket.0.answer(id, Ok(args.into_owned())));
                if !known {
                    self.env().counters.acks_unknown.add();
                }
            }
            // The machine delivers events and answers only.
            Decision::Deliver { .. } => {}
            decision => self.decide(decision),
        }
    }

    /// Does what the machine says about packets that change it.
    fn decide(&mut self, decision: Decision<'_>) {
        match decision {
            Decision::ConnectRequest { slot, namespace, auth } => self.ask(slot, &namespace, auth),
            Decision::Refuse { namespace, message } => {
                self.env().counters.connects_refused.add();
                self.env().report_turned_away(&self.client.session, &namespace, message, "max_namespaces");
                self.send_own_refusal(&namespace, message);
            }
            Decision::Disconnect { slot } => {
                if let Some(member) = self.members.get_mut(slot.index()).and_then(Option::take) {
                    self.leave(member, (DisconnectReason::ClientNamespaceDisconnect, None));
                }
            }
            Decision::Close(violation) => {
                self.env().counters.violations.add();
                self.violation(&violation);
            }
            Decision::Deliver { .. } | Decision::Ignore => {}
        }
    }

    /// Reserves a place for a socket. What decides about it runs in `poll`, so that packets behind a CONNECT in the same
    /// read find it pending, as they do in Node.
    fn ask(&mut self, slot: Slot, namespace: &str, auth: Option<Payload<'_>>) {
        let hub = Arc::clone(&self.client.hub);
        match lane::guard(|| hub.resolve(namespace, auth.as_ref())) {
            Ok(Resolved::Here(nsp)) => self.reserve(slot, &nsp, auth.map(Payload::into_owned)),
            Ok(Resolved::Nowhere(message)) => self.turn_away(slot, namespace, message),
            Ok(Resolved::Asked(asking)) => {
                let auth = auth.map(Payload::into_owned);
                self.asking.push(Asked { slot, namespace: namespace.into(), auth, asking });
                self.joining = true;
            }
            Err(panicked) => self.panicked(panicked),
        }
    }

    /// A client has asked for a namespace that is not there for it.
    fn turn_away(&mut self, slot: Slot, namespace: &str, message: &str) {
        self.env().counters.connects_refused.add();
        self.env().report_turned_away(&self.client.session, namespace, message, "max_child_namespaces");
        if self.machine.refuse(slot) {
            self.send_own_refusal(namespace, message);
        }
    }

    /// The namespace is known: who the client was decides next.
    fn reserve(&mut self, slot: Slot, nsp: &Arc<Nsp>, auth: Option<Payload<'static>>) {
        match Tracked::claim(nsp, self.machine.revision(), auth.as_ref()) {
            Claimed::Now(tracked) => self.seat(slot, nsp, auth, tracked),
            Claimed::Later(restoring) => {
                self.restoring.push(Awaited { slot, nsp: Arc::clone(nsp), auth, restoring });
                self.joining = true;
            }
        }
    }

    /// Middleware decides next.
    fn seat(&mut self, slot: Slot, nsp: &Arc<Nsp>, auth: Option<Payload<'static>>, tracked: Option<Box<Tracked>>) {
        let namespace = &*nsp.name;
        let id = match self.machine.revision() {
            Revision::V5 => random_id(),
            Revision::V4 if namespace == "/" => self.client.session.sid().into(),
            Revision::V4 => format!("{namespace}#{}", self.client.session.sid()).into(),
        };
        let auth = auth.map(Box::new);
        let socket = Socket::new(id, Arc::clone(nsp), Arc::clone(&self.client), auth, tracked);
        let member = Member { slot, socket, lane: Lane::default(), join: Some(Box::default()) };
        if self.members.len() <= slot.index() {
            self.members.reserve_exact(slot.index() + 1 - self.members.len());
            self.members.resize_with(slot.index() + 1, || None);
        }
        if let Some(place) = self.members.get_mut(slot.index()) {
            *place = Some(member);
            self.joining = true;
        }
    }

    fn drive_joins(&mut self, cx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(asked) = self.asking.get_mut(index) {
            let answer = match lane::poll(&mut asked.asking, cx) {
                Ok(Poll::Ready(answer)) => answer,
                Ok(Poll::Pending) => {
                    index += 1;
                    continue;
                }
                Err(panicked) => {
                    drop(self.asking.remove(index));
                    return self.panicked(panicked);
                }
            };
            let Asked { slot, namespace, auth, .. } = self.asking.remove(index);
            match answer {
                Ok(nsp) => self.reserve(slot, &nsp, auth),
                Err(message) => self.turn_away(slot, &namespace, message),
            }
        }
        let mut index = 0;
        while let Some(awaited) = self.restoring.get_mut(index) {
            let Poll::Ready(found) = awaited.restoring.poll(cx) else {
                index += 1;
                continue;
            };
            let Awaited { slot, nsp, auth, .. } = self.restoring.remove(index);
            let tracked = found.map_or_else(Tracked::anew, |(pid, former)| Tracked::of(pid, former));
            self.seat(slot, &nsp, auth, Some(tracked));
        }
        self.joining = !self.asking.is_empty() || !self.restoring.is_empty();
        for index in 0..self.members.len() {
            let Some(Some(member)) = self.members.get_mut(index) else { continue };
            match member.poll_join(cx) {
                Ok(Poll::Pending) => self.joining = true,
                Ok(Poll::Ready(Ok(()))) => {}
                Ok(Poll::Ready(Err(refusal))) => self.refuse(index, &refusal),
                Err(panicked) => return self.panicked(panicked),
            }
            if let Some(Some(member)) = self.members.get_mut(index)
                && member.join.as_ref().is_some_and(|join| join.running.is_none())
            {
                self.accept(index);
            }
        }
    }

    /// Middleware has let the socket in.
    fn accept(&mut self, index: usize) {
        let Some(Some(member)) = self.members.get_mut(index) else { return };
        match lane::guard(|| member.socket.forbids(&Action::Connect)) {
            Ok(None) => {}
            Ok(Some(reason)) => return self.refuse(index, &forbidden(reason).into()),
            Err(panicked) => return self.panicked(panicked),
        }
        if let Err(panicked) = lane::guard(|| member.socket.0.ask_about_rooms()) {
            return self.panicked(panicked);
        }
        let futures = match member.socket.connect_handlers() {
            Ok(Ok(futures)) => futures,
            Ok(Err(rejection)) => return self.refuse(index, &rejection.into_error().into()),
            Err(panicked) => return self.panicked(panicked),
        };
        let socket = &member.socket.clone();
        let inner = &socket.0;
        let Ok(mut admission) = inner.admission() else {
            // It was promised its former socket, and what it missed is gone. It comes again, to a new one.
            drop(self.members.get_mut(index).and_then(Option::take));
            inner.release();
            return self.end((DisconnectReason::TransportClose, None), CloseReason::TransportClose);
        };
        if !self.machine.accept(member.slot) {
            return;
        }
        member.join = None;
        let counters = &inner.nsp.env.counters;
        counters.sockets.add();
        counters.sockets_open.add();
        let namesake = inner.enter(admission.as_mut());
        #[derive(Serialize)]
        struct Connected<'a> {
            sid: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            pid: Option<&'a str>,
        }
        let data = Connected { sid: socket.id(), pid: inner.tracked.as_ref().map(|tracked| tracked.pid()) };
        let missed = admission.as_mut().map(|admission| admission.admit(socket)).unwrap_or_default();
        let parser = &inner.nsp.env.parser;
        match parser.encode_connect(self.machine.revision(), &inner.nsp.name, Some(&data), HEADROOM) {
            // A client that has its answer is connected for everybody, and nothing reaches it before. What it missed comes
            // behind the answer: clients keep what comes before it, also when the connection breaks right then, and would
            // have it twice.
            Ok(encoded) => {
                let all = frames(encoded, true).into_iter().chain(missed.into_iter().flatten());
                // Who is gone already learns nothing.
                let _ = self.client.session.send_then(all, || inner.connected());
            }
            Err(error) => {
                tracing::error!(%error, "a CONNECT packet could not be encoded");
                inner.connected();
            }
        }
        let unconfirmed = admission.as_mut().and_then(|admission| admission.reliable());
        drop(admission);
        drop(namesake);
        if let Some(unconfirmed) = unconfirmed {
            inner.put_reliable(socket, unconfirmed);
        }
        if let Some(at) = inner.expires() {
            self.expires = Some(self.expires.map_or(at, |other| other.min(at)));
        }
        // Another task may have asked for a room at the last moment.
        inner.join_early();
        tracing::info!(namespace = %inner.nsp.name, socket = inner.short_id(), "connected");
        member.lane.connect(futures);
    }

    fn refuse(&mut self, index: usize, refusal: &ConnectError) {
        let Some(member) = self.members.get_mut(index).and_then(Option::take) else { return };
        self.env().counters.connects_refused.add();
        member.socket.0.refused();
        member.socket.report_refusal(refusal);
        let name = &member.socket.0.nsp.name;
        tracing::debug!(namespace = %name, message = refusal.message(), "refused");
        if self.machine.refuse(member.slot) {
            self.send_refusal(name, refusal.message(), refusal.data_ref());
        }
        member.socket.0.release();
    }

    /// A refusal that is not the application's: an object with a message in both revisions, as in Node.
    fn send_own_refusal(&self, namespace: &str, message: &str) {
        #[derive(Serialize)]
        struct Refusal<'a> {
            message: &'a str,
        }
        match self.machine.revision() {
            Revision::V4 => self.send_refusal(namespace, message, Some(&Refusal { message })),
            Revision::V5 => self.send_refusal::<()>(namespace, message, None),
        }
    }

    fn send_refusal<T: Serialize>(&self, namespace: &str, message: &str, data: Option<&T>) {
        self.env().fault(|| Fault::ConnectRefused { session: &self.client.session, namespace, message });
        let parser = &self.env().parser;
        match parser.encode_connect_error(self.machine.revision(), namespace, message, data, HEADROOM) {
            // A client that is gone learns nothing, and one that reads too slowly is being closed.
            Ok(encoded) => drop(self.client.session.send(frames(encoded, true))),
            Err(error) => tracing::error!(%error, "a CONNECT_ERROR packet could not be encoded"),
        }
    }

    /// Looks for what the application has asked of this connection.
    fn look(&mut self) {
        let requests = self.client.requests.swap(0, Ordering::AcqRel);
        if requests & EXPIRY != 0 {
            self.expires = self.next_expiry();
        }
        if requests & CLOSE != 0 && !self.over {
            for member in self.members.iter().flatten() {
                member.socket.disconnect(false);
            }
            self.client.requests.store(0, Ordering::Release);
        }
        if requests & (LOOK | CLOSE) != 0 {
            for index in 0..self.members.len() {
                let dismissed =
                    |member: &mut Member| member.join.is_none() && member.socket.0.phase() == Phase::Dismissed;
                let Some(place) = self.members.get_mut(index) else { continue };
                let Some(mut member) = place.take_if(dismissed) else { continue };
                let now = self.now().into_std();
                self.machine.disconnect(member.slot, now);
                member.lane.clear_events();
                let why = (DisconnectReason::ServerNamespaceDisconnect, member.socket.0.farewell());
                self.leave(member, why);
            }
        }
        if requests & CLOSE != 0 && !self.over {
            self.over = true;
            self.client.session.close(CloseReason::ForcedClose);
        }
    }

    /// When the first credentials expire of a socket that is connected.
    fn next_expiry(&self) -> Option<Instant> {
        let connected = self.members.iter().flatten().filter(|member| member.socket.connected());
        connected.filter_map(|member| member.socket.0.expires()).min()
    }

    /// Takes out whose credentials have expired.
    fn expire(&mut self) {
        let Some(expires) = self.expires else { return };
        let now = self.now();
        if now < expires || self.over {
            return;
        }
        for member in self.members.iter().flatten() {
            if member.socket.connected() && member.socket.0.expires().is_some_and(|at| at <= now) {
                member.socket.report(SecurityKind::AuthExpired, "token expired", "");
                member.socket.disconnect_because(false, "token expired");
            }
        }
        self.expires = self.next_expiry();
    }

    fn drive_lanes(&mut self, cx: &mut Context<'_>) {
        for member in self.members.iter_mut().flatten() {
            if !member.lane.is_idle()
                && let Err(panicked) = member.lane.poll(cx, &member.socket)
            {
                return self.panicked(panicked);
            }
        }
    }

    fn drive_leavers(&mut self, cx: &mut Context<'_>) {
        if self.leavers.is_empty() {
            return;
        }
        let now = self.now();
        self.leavers.retain_mut(|leaver| leaver.poll(cx, now).is_pending());
        if self.leavers.is_empty() {
            self.leavers = Vec::new();
        }
    }

    fn check_time(&mut self) {
        let Some(deadline) = self.machine.deadline() else { return };
        let now = self.now().into_std();
        if deadline > now || self.over {
            return;
        }
        while let Some(late) = self.machine.on_time(now) {
            match late {
                TimedOut::Close(violation) => {
                    if violation == Violation::ConnectTimeout {
                        self.env().counters.connect_timeouts.add();
                    }
                    self.violation(&violation);
                    return;
                }
                TimedOut::Join { slot, namespace } => {
                    if let Some(member) = self.members.get_mut(slot.index()).and_then(Option::take) {
                        member.socket.0.release();
                    }
                    self.asking.retain(|asked| asked.slot != slot);
                    self.restoring.retain(|awaited| awaited.slot != slot);
                    self.env().counters.connects_refused.add();
                    self.env().report_turned_away(&self.client.session, &namespace, JOIN_TIMEOUT, "max_namespaces");
                    self.send_own_refusal(&namespace, JOIN_TIMEOUT);
                }
            }
        }
    }

    /// The client broke the rules: the whole connection goes.
    fn violation(&mut self, violation: &Violation) {
        let reason = match violation.close_kind() {
            CloseKind::Forced => DisconnectReason::ForcedClose,
            CloseKind::ForcedServer => DisconnectReason::ForcedServerClose,
            CloseKind::ParseError => DisconnectReason::ParseError,
        };
        tracing::debug!(%violation, "the connection is closed");
        self.env().fault(|| Fault::Violation { session: &self.client.session, violation });
        self.env().report_violation(&self.client.session, violation.code());
        let close = match violation.close_kind() {
            CloseKind::Forced | CloseKind::ForcedServer => CloseReason::ForcedClose,
            CloseKind::ParseError => CloseReason::ParseError(violation.code()),
        };
        self.end((reason, Some(violation.code())), close);
    }

    fn panicked(&mut self, Panicked { message }: Panicked) {
        self.env().fault(|| Fault::HandlerPanicked { session: Some(&self.client.session), message: &message });
        self.env().counters.handler_panics.add();
        // What state the handler left behind nobody knows: no further event meets it.
        for member in self.members.iter_mut().flatten() {
            member.lane.clear_events();
        }
        let what = "a handler panicked";
        self.end((DisconnectReason::TransportError, Some(what)), CloseReason::TransportError(what));
    }

    /// Ends the session; the engine calls `close` next.
    fn end(&mut self, why: (DisconnectReason, Option<&'static str>), close: CloseReason) {
        if !self.over {
            self.over = true;
            self.why = Some(why);
            self.client.session.close(close);
        }
    }

    fn leave_all(&mut self, why: (DisconnectReason, Option<&'static str>)) {
        self.asking.clear();
        self.restoring.clear();
        for member in std::mem::take(&mut self.members).into_iter().flatten() {
            self.leave(member, why);
        }
    }

    fn leave(&mut self, member: Member, why: (DisconnectReason, Option<&'static str>)) {
        let Member { socket, lane, join, .. } = member;
        if join.is_some() {
            // The client has gone before middleware decided: it never was here.
            drop(join);
            socket.0.release();
            return;
        }
        socket.0.left();
        if let Some(recovery) = &socket.0.nsp.recovery {
            recovery.leaving(&socket, why.0);
        }
        let (namespace, id) = (&socket.0.nsp.name, socket.0.short_id());
        tracing::info!(%namespace, socket = id, reason = %why.0, description = why.1, "disconnected");
        let now = self.now();
        self.leavers.push(Leaver::new(socket, lane, why, now));
    }

    /// Drives the goodbyes when the session no longer keeps the time.
    fn poll_leavers_after_the_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.drive_leavers(cx);
            let Some(deadline) = self.leavers.iter().map(Leaver::deadline).min() else { return Poll::Ready(()) };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.now = None;
        }
    }
}

impl Member {
    /// Runs middleware, one after the other. Ready when it has decided, or when there is nothing to decide.
    fn poll_join(&mut self, cx: &mut Context<'_>) -> Result<Poll<Result<(), ConnectError>>, Panicked> {
        let Some(join) = &mut self.join else { return Ok(Poll::Ready(Ok(()))) };
        let recovery = self.socket.0.nsp.recovery.as_ref();
        let stayed_here = self.socket.0.tracked.as_ref().is_some_and(|tracked| !tracked.is_adopted());
        if self.socket.recovered() && stayed_here && recovery.is_some_and(|recovery| recovery.skips_middleware()) {
            return Ok(Poll::Ready(Ok(())));
        }
        let table = &self.socket.0.nsp.table;
        loop {
            if let Some(running) = &mut join.running {
                match lane::poll(running, cx)? {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(verdict) => {
                        join.running = None;
                        if verdict.is_err() {
                            return Ok(Poll::Ready(verdict));
                        }
                    }
                }
            }
            let Some(middleware) = table.middleware.get(join.next) else { return Ok(Poll::Ready(Ok(()))) };
            join.next += 1;
            let socket = &self.socket;
            let called = lane::guard(|| middleware.call(&mut ConnectContext { socket: socket.clone() }, no_args()))?;
            match called {
                Ok(future) => join.running = Some(future),
                Err(rejection) => return Ok(Poll::Ready(Err(rejection.into_error().into()))),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task may end at any point: a runtime that stops, a deadline of the engine.
        let core = &mut self.core;
        for member in core.members.iter().flatten() {
            member.socket.0.release();
        }
        for leaver in &core.leavers {
            leaver.release();
        }
        core.env().counters.connections_open.sub();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("machine", &self.core.machine).finish_non_exhaustive()
    }
}
