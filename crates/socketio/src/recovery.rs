//! Connection state recovery: clients that lose their connection for a while get their socket back, and what it missed.
//!
//! The rules are in [`socketio_adapter::recovery`]; here they meet sockets. A namespace of a server with the option has one
//! [`NspRecovery`] with one lock, the *book*. Under it a packet gets its number, is stored and is queued for every
//! recipient; sockets move between rooms; and sockets come and go. So all recipients see packets in the order of their
//! offsets, and whoever has an offset has everything before it. The lock is short but for a broadcast, which holds it while
//! it queues; nothing is encoded under it and no code of the application runs. A server without the option has no book and
//! takes none of these paths.
//!
//! On a bus that can replay, what was sent to whom is in a log that all servers share, and so are sessions: [`crate::shared`].
//! Then an event carries its place in that log instead of an offset of the book, if it has one; the book still has all that was
//! delivered here, and who comes back to this server gets it from there.
//!
//! A socket's way: [`Tracked::claim`] when the client asks for the namespace, [`SocketInner::admission`] when it is let in,
//! [`SocketInner::advance`](crate::socket::SocketInner::advance) when nothing may reach it any more,
//! [`SocketInner::keep`] when its rooms are left.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use engineio::{CloseReason, Fanout};
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};
use socketio_adapter::cluster::StoredSession;
use socketio_adapter::recovery::{
    LineLimits, LogLimits, Missed, NotRecoverable, Offset, Pid, Place, Recovery, RecoveryLimits, Session, Track,
};
use socketio_adapter::{BroadcastFlags, RoomEvent, RoomEvents, RoomName, RoomNames, Selection};
use socketio_proto::{DataError, Encoded, Map, Payload, Revision, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broadcast::{Delivery, Frames, frames};
use crate::nsp::Nsp;
use crate::outgoing::Announcement;
use crate::reliable;
use crate::shared::{Replayed, Restoring, Shared};
use crate::socket::{Phase, SocketInner, random_id};
use crate::{Action, Broadcasted, DisconnectReason, EmitError, Emitted, Extensions, NamespaceHandle, Socket, lane};

/// How connections are recovered. Node: `connectionStateRecovery`.
///
/// All bounds hold for each namespace by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryOptions {
    /// For how long a client may be away. Default: 2 minutes. Node: `maxDisconnectionDuration`.
    pub max_disconnection_duration: Duration,
    /// Whether middleware is passed over for clients that come back. Default: `true`. Node: `skipMiddlewares`.
    ///
    /// It runs in any case for clients that come from another server: what it keeps in [`Socket::extensions`] stayed there.
    /// Whoever may be locked out within `max_disconnection_duration` wants `false`.
    pub skip_middlewares: bool,
    /// The most packets that are kept. Default: 100,000.
    pub max_packets: usize,
    /// The most bytes of packets that are kept. Default: 64 MiB.
    pub max_bytes: usize,
    /// The most clients that may be away. The one goes that has been away longest. Default: 10,000.
    pub max_sessions: usize,
    /// The most bytes of rooms and data of clients that are away. Default: 16 MiB.
    pub max_session_bytes: usize,
    /// Where servers share what clients have missed: how long an event may wait for its place there before it is delivered
    /// without. Default: 250 ms.
    pub log_timeout: Duration,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        let RecoveryLimits { away, sessions, session_bytes, log } = RecoveryLimits::default();
        Self {
            max_disconnection_duration: away,
            skip_middlewares: true,
            max_packets: log.packets,
            max_bytes: log.bytes,
            max_sessions: sessions,
            max_session_bytes: session_bytes,
            log_timeout: LineLimits::default().patience,
        }
    }
}

/// A client that was away and will not get its socket back: what [`on_session_expired`] is told.
///
/// [`on_session_expired`]: crate::Namespace::on_session_expired
pub struct ExpiredSession {
    namespace: NamespaceHandle,
    session: Session<Kept>,
    why: SessionEnd,
}

/// Why a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The client was away for longer than `max_disconnection_duration`.
    Expired,
    /// It made room for others: `max_sessions` or `max_session_bytes`.
    Displaced,
    /// The client came back, but not everything that it missed could be told; it was connected anew.
    NotRecoverable(NotRecoverable),
    /// The client came back and middleware or a connect handler refused it.
    Refused,
    /// The client came back, to another server of the cluster: its socket lives on there.
    Elsewhere,
}

impl ExpiredSession {
    /// The id of the socket.
    pub fn id(&self) -> &RoomName {
        &self.session.id
    }

    /// The namespace.
    pub fn namespace(&self) -> &NamespaceHandle {
        &self.namespace
    }

    /// The rooms it was in, that of its own id among them.
    pub fn rooms(&self) -> &[RoomName] {
        &self.session.rooms
    }

    /// What was kept in [`Socket::data`], as a `T`.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        Value::Map(self.session.data.data.clone()).deserialize_into()
    }

    /// What was kept in [`Socket::extensions`].
    pub fn extensions(&self) -> &Extensions {
        &self.session.data.extensions
    }

    /// Why it ended.
    pub fn why(&self) -> SessionEnd {
        self.why
    }
}

impl Former {
    /// What it was read from the log of the cluster.
    pub(crate) fn put(&mut self, replayed: Replayed) {
        self.replayed = Some(replayed);
    }

    pub(crate) fn rooms(&self) -> &RoomNames {
        &self.session.rooms
    }

    /// Whether its client has an event of this place.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.offset.as_deref().and_then(Place::parse) == Some(place)
    }

    /// From where the log of the cluster has to be read for it.
    pub(crate) fn from(&self) -> Option<Place> {
        let place = self.offset.as_deref().and_then(Place::parse);
        match place {
            // Left over from before.
            Some(place) => Some(self.session.data.since.map_or(place, |since| since.max(place))),
            None if self.offset.is_none() => self.session.data.since,
            None => None,
        }
    }
}

impl fmt::Debug for ExpiredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiredSession").field("id", self.id()).field("why", &self.why).finish_non_exhaustive()
    }
}

pub(crate) type ExpiryHook = Arc<dyn Fn(&ExpiredSession) + Send + Sync>;

/// The options of a server and what follows from its others.
#[derive(Debug)]
pub(crate) struct RecoveryConfig {
    pub(crate) options: RecoveryOptions,
    /// How long a link may be dead before the server notices.
    pub(crate) silence: Duration,
}

/// What a namespace keeps for clients that come back.
pub(crate) struct NspRecovery {
    config: Arc<RecoveryConfig>,
    /// Guards the order of packets, the sessions, and whose socket is whose.
    book: Mutex<Book>,
    /// The task that lets sessions expire is running.
    sweeping: AtomicBool,
    /// Wakes it: somebody has gone away.
    gone: Arc<Notify>,
    /// What there is where servers share a log.
    pub(crate) shared: Option<Shared>,
}

/// What the lock guards.
pub(crate) struct Book {
    store: Recovery<Logged, Kept>,
    /// Sockets that are connected, or saying goodbye.
    live: HashMap<Pid, Socket>,
    /// Sessions that were taken out for clients that are being let in.
    returning: usize,
    /// Up to where the log of the cluster has been delivered here.
    position: Option<Place>,
    /// Something was delivered that may still turn up in that log.
    unsettled: bool,
}

/// A packet as the book keeps it.
#[derive(Clone)]
struct Logged {
    frames: Frames,
    /// The newest place in the log of the cluster that was delivered before it, or with it.
    reached: Option<Place>,
    /// That place is its own.
    exact: bool,
}

/// What the application knows of a socket, while it is away.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    data: Map,
    extensions: Extensions,
    /// Events that it has not confirmed.
    reliable: Option<reliable::Owned>,
    /// Up to where the log of the cluster was delivered when the client joined, on whichever server that was.
    since: Option<Place>,
    /// It was on another server then: the book does not know all that it got.
    elsewhere: bool,
}

/// What a socket knows of its recovery.
pub(crate) struct Tracked {
    pid: Pid,
    recovered: bool,
    /// It comes from another server.
    adopted: bool,
    state: Mutex<State>,
}

struct State {
    track: Track,
    /// The session that the client came back to, until it is connected.
    former: Option<Box<Former>>,
    /// The newest packet when nothing could reach the socket any more, and when that was.
    until: Option<(u64, std::time::Instant)>,
    /// The client may come back.
    keep: bool,
    /// See [`Kept`].
    since: Option<Place>,
    elsewhere: bool,
}

/// What is left of the socket that a client comes back to.
pub(crate) struct Former {
    session: Session<Kept>,
    offset: Option<String>,
    /// What was read from the log of the cluster, where the book does not have it.
    replayed: Option<Replayed>,
    /// It was on another server.
    adopted: bool,
}

/// What became of a client's wish to have its session back.
pub(crate) enum Claimed {
    /// It is known. `None`: nobody comes back here.
    Now(Option<Box<Tracked>>),
    /// Other servers share the sessions.
    Later(Restoring),
}

/// The book, opened to let a socket in.
pub(crate) struct Admission<'a> {
    pub(crate) book: MutexGuard<'a, Book>,
    missed: Vec<Frames>,
    rooms: Option<RoomNames>,
    reliable: Option<reliable::Owned>,
}

/// An event that is encoded but for its offset.
struct Draft {
    encoded: Encoded,
    /// Where in the first chunk the offset belongs. `None`: nobody but the parser knows.
    at: Option<usize>,
}

impl NspRecovery {
    pub(crate) fn new(config: &Arc<RecoveryConfig>, shared: Option<Shared>) -> Self {
        let RecoveryOptions { max_disconnection_duration: away, max_packets, max_bytes, .. } = config.options;
        let time = away.saturating_add(config.silence);
        let limits = RecoveryLimits {
            away,
            sessions: config.options.max_sessions,
            session_bytes: config.options.max_session_bytes,
            log: LogLimits { packets: max_packets, bytes: max_bytes, time },
        };
        let store = Recovery::new(limits, rand::rng().next_u64());
        let book = Mutex::new(Book { store, live: HashMap::new(), returning: 0, position: None, unsettled: false });
        Self { config: Arc::clone(config), book, sweeping: AtomicBool::new(false), gone: Arc::default(), shared }
    }

    /// Opens the book. Taken before every other lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Whether middleware is passed over for clients that come back.
    pub(crate) fn skips_middleware(&self) -> bool {
        self.config.options.skip_middlewares
    }

    /// How many clients are away.
    pub(crate) fn away(&self) -> usize {
        self.book.lock().store.sessions()
    }

    /// Sends an event to one socket.
    pub(crate) fn emit(&self, socket: &Socket, flags: &BroadcastFlags, event: &str, args: &impl Serialize) -> Emitted {
        let nsp = &socket.0.nsp;
        if let Some(log) = nsp.shared().filter(|_| !flags.volatile) {
            return match log.emit(event, args, &Selection::everybody().to(socket.id()), flags) {
                // It reaches this client all the same, and nobody else is concerned.
                Ok(()) | Err(EmitError::Cluster(_)) => Emitted::queued(socket.conn().clone()),
                Err(error) => Emitted::refused(error),
            };
        }
        let draft = match self.draft(nsp, flags.volatile, event, args) {
            Ok(draft) => draft,
            Err(error) => return Emitted::refused(error),
        };
        let delivery = match draft {
            Err(plain) => socket.deliver(frames(plain, flags.compress), flags.volatile),
            Ok(draft) => {
                let mut book = self.book.lock();
                if !socket.connected() {
                    return Emitted::refused(EmitError::NotConnected);
                }
                let frames = match draft.finish(nsp, &book.offset(flags.volatile), flags.compress, event, args) {
                    Ok(frames) => frames,
                    Err(error) => return Emitted::refused(error),
                };
                if !flags.volatile {
                    let number = book.push(Selection::everybody().to(socket.id()), &frames, false);
                    socket.0.addressed(number);
                }
                socket.deliver(frames, flags.volatile)
            }
        };
        match delivery {
            Delivery::Queued => {
                Announcement::default().of(socket, event, args);
                Emitted::queued(socket.conn().clone())
            }
            Delivery::Dropped => Emitted::refused(EmitError::Dropped),
            Delivery::Refused(error) => Emitted::refused(error.into()),
        }
    }

    /// Sends an event to many sockets.
    pub(crate) fn broadcast(
        &self,
        nsp: &Nsp,
        selection: &Selection,
        flags: &BroadcastFlags,
        event: &str,
        args: &impl Serialize,
        outcome: &mut Broadcasted,
    ) -> Result<(), EmitError> {
        let mut overheard = Vec::new();
        self.deliver(nsp, selection, flags, None, (event, args), outcome, &mut overheard)?;
        // Whoever listens is code of the application.
        let mut announcement = Announcement::default();
        for socket in &overheard {
            announcement.of(socket, event, args);
        }
        Ok(())
    }

    /// [`broadcast`](Self::broadcast), without telling those who listen: `overheard` are the sockets in question. An event with
    /// a place in the log of the cluster carries that.
    #[allow(clippy::too_many_arguments, reason = "two callers")]
    pub(crate) fn deliver<T: Serialize>(
        &self,
        nsp: &Nsp,
        selection: &Selection,
        flags: &BroadcastFlags,
        place: Option<Place>,
        (event, args): (&str, &T),
        outcome: &mut Broadcasted,
        overheard: &mut Vec<Socket>,
    ) -> Result<(), EmitError> {
        {
            let mut book = self.book.lock();
            let nobody_away = book.store.sessions() == 0 && book.returning == 0;
            if (nobody_away || flags.volatile) && nsp.rooms.lock().snapshot(selection).is_empty() {
                book.position = book.position.max(place);
                return Ok(());
            }
        }
        let (book, frames, number) = if let Some(place) = place {
            let offset = place.to_string();
            let encoded = nsp.env.encode(&nsp.name, None, event, args, Some(&offset));
            let mut book = self.book.lock();
            book.position = book.position.max(Some(place));
            let frames = frames(encoded?, flags.compress);
            let number = book.push(selection.clone(), &frames, true);
            (Some(book), frames, Some(number))
        } else {
            match self.draft(nsp, flags.volatile, event, args)? {
                Err(plain) => (None, frames(plain, flags.compress), None),
                Ok(draft) => {
                    let mut book = self.book.lock();
                    let frames = draft.finish(nsp, &book.offset(flags.volatile), flags.compress, event, args)?;
                    let number = (!flags.volatile).then(|| book.push(selection.clone(), &frames, false));
                    (Some(book), frames, number)
                }
            }
        };
        let mut recipients = nsp.rooms.lock().snapshot(selection).recipients();
        let mut fanout = Fanout::new();
        while let Some(socket) = recipients.next_ref() {
            if !socket.connected() {
                continue;
            }
            if let Some(number) = number {
                socket.0.addressed(number);
            }
            match socket.deliver_in(&mut fanout, &frames, flags.volatile) {
                Delivery::Queued => {
                    outcome.recipients += 1;
                    if socket.is_overheard() {
                        overheard.push(socket.clone());
                    }
                }
                Delivery::Dropped | Delivery::Refused(_) => outcome.refused += 1,
            }
        }
        drop(book);
        drop(fanout);
        Ok(())
    }

    /// What stands up to here in the log of the cluster is not delivered here.
    pub(crate) fn begins_at(&self, place: Place) {
        self.book.lock().position.get_or_insert(place);
    }

    /// Up to where the log of the cluster has been delivered here.
    pub(crate) fn position(&self) -> Option<Place> {
        self.book.lock().position
    }

    /// For how long a client may be away.
    pub(crate) fn away_for(&self) -> Duration {
        self.config.options.max_disconnection_duration
    }

    /// Whether everything that was delivered has its place in the log of the cluster.
    pub(crate) fn settled(&self, settled: bool) {
        self.book.lock().unsettled = !settled;
    }

    /// Encodes an event with room for an offset, or (`Err`) a volatile one that needs none.
    ///
    /// Clients take the last string of an event for an offset, be it an argument or the name. So a volatile event that ends
    /// in one carries an offset too, that of the newest packet: it changes nothing.
    fn draft(
        &self,
        nsp: &Nsp,
        volatile: bool,
        event: &str,
        args: &impl Serialize,
    ) -> Result<Result<Draft, Encoded>, EmitError> {
        let env = &nsp.env;
        if volatile {
            let plain = env.encode(&nsp.name, None, event, args, None)?;
            let ends_otherwise = |chunk: &[u8]| chunk.last() == Some(&b']') && !chunk.ends_with(b"\"]");
            if env.parser.is_json() && plain.first().is_some_and(|chunk| ends_otherwise(&chunk.bytes)) {
                return Ok(Err(plain));
            }
        }
        let placeholder = self.book.lock().store.offsets().placeholder();
        let encoded = env.encode(&nsp.name, None, event, args, Some(placeholder.as_str()))?;
        let at = match env.parser.is_custom() {
            // Where it puts the offset, and whether something else depends on it, is not known.
            true => None,
            false => encoded.first().and_then(|chunk| find_last(&chunk.bytes, placeholder.as_str().as_bytes())),
        };
        Ok(Ok(Draft { encoded, at }))
    }
}

impl Draft {
    fn finish(
        self,
        nsp: &Nsp,
        offset: &Offset,
        compress: bool,
        event: &str,
        args: &impl Serialize,
    ) -> Result<Frames, EmitError> {
        let Self { mut encoded, at } = self;
        let place = at.and_then(|at| encoded.first_mut()?.bytes.get_mut(at..at + Offset::LEN));
        match place {
            Some(place) => place.copy_from_slice(offset.as_str().as_bytes()),
            None => encoded = nsp.env.encode(&nsp.name, None, event, args, Some(offset.as_str()))?,
        }
        Ok(frames(encoded, compress))
    }
}

impl Book {
    /// The offset of an event that is sent now.
    fn offset(&self, volatile: bool) -> Offset {
        if volatile { self.store.position() } else { self.store.next() }
    }

    /// Stores a packet. Returns its number and that of the oldest that is kept.
    fn push(&mut self, selection: Selection, frames: &Frames, exact: bool) -> (u64, u64) {
        let bytes = frames.iter().map(engineio::Frame::queued_len).sum();
        let logged = Logged { frames: frames.clone(), reached: self.position, exact };
        let number = self.store.push(Instant::now().into_std(), selection, logged, bytes);
        (number, self.store.log().first())
    }

    /// The number of the packet with this place in the log of the cluster.
    fn number_of(&self, place: Place) -> Option<u64> {
        let before = self.store.newest_of(|logged| logged.reached < Some(place));
        let from = before.map_or(self.store.log().first(), |(number, _)| number + 1);
        let mut packets = self.store.from(from)?.take_while(|(_, _, logged)| logged.reached == Some(place));
        packets.find(|(_, _, logged)| logged.exact).map(|(number, _, _)| number)
    }

    /// What a client from another server has missed: what was read from the log of the cluster as far as this server has
    /// delivered it, and what it delivered meanwhile. What comes later reaches the socket anyway.
    fn replayed(
        &self,
        session: &Session<Kept>,
        replayed: &Replayed,
        nsp: &Nsp,
        bytes: usize,
    ) -> Result<Vec<Frames>, NotRecoverable> {
        if self.unsettled {
            return Err(NotRecoverable::Unsettled);
        }
        let rooms = &session.rooms;
        let read = replayed.events.iter();
        let read = read.filter(|(place, to, _)| Some(*place) <= self.position && to.selects(rooms));
        let newer = self.between(replayed.mark, replayed.until, rooms)?;
        let missed: Vec<Frames> = read.map(|(_, _, frames)| frames).chain(newer).cloned().collect();
        let (packets, total) = missed
            .iter()
            .flatten()
            .fold((0, 0), |(packets, bytes), frame| (packets + 1, bytes + engineio::Frame::queued_len(frame)));
        match packets > nsp.env.limits.send_queue_packets / 2 || total > bytes {
            true => Err(NotRecoverable::TooMuch),
            false => Ok(missed),
        }
    }

    /// What came after `until`, and is not there any more when this returns an error. Everything since the packet `mark` is kept.
    fn between(
        &self,
        mark: u64,
        until: Place,
        rooms: &[RoomName],
    ) -> Result<impl Iterator<Item = &Frames>, NotRecoverable> {
        let packets = self.store.from(mark + 1).ok_or(NotRecoverable::Trimmed)?;
        let newer = packets.filter(move |(_, selection, logged)| {
            logged.exact && logged.reached > Some(until) && selection.selects(rooms)
        });
        Ok(newer.map(|(_, _, logged)| &logged.frames))
    }
}

impl Tracked {
    /// A client asks for a namespace. If it has a session there, it gets it; a live socket with the same secret gives it
    /// up.
    pub(crate) fn claim(nsp: &Arc<Nsp>, revision: Revision, auth: Option<&Payload<'_>>) -> Claimed {
        let Some(recovery) = nsp.recovery.as_ref().filter(|_| revision == Revision::V5) else {
            return Claimed::Now(None);
        };
        let claim = auth.and_then(|auth| auth.deserialize::<Claim>().ok()).unwrap_or_default();
        let Some(pid) = claim.pid else { return Claimed::Now(Some(Self::anew())) };
        if let Some(log) = nsp.shared() {
            return Claimed::Later(log.restore(pid, claim.offset));
        }
        let former = recovery.come_back(nsp, &pid, claim.offset);
        Claimed::Now(Some(former.map_or_else(Self::anew, |(pid, former)| Self::of(pid, Box::new(former)))))
    }

    /// A client that was never here.
    pub(crate) fn anew() -> Box<Self> {
        Self::with(Pid::from(random_id()), None)
    }

    /// A client that comes back.
    pub(crate) fn of(pid: Pid, former: Box<Former>) -> Box<Self> {
        Self::with(pid, Some(former))
    }

    fn with(pid: Pid, former: Option<Box<Former>>) -> Box<Self> {
        let kept = former.as_ref().map(|former| &former.session.data);
        let (since, elsewhere) = kept.map_or((None, false), |kept| (kept.since, kept.elsewhere));
        let adopted = former.as_ref().is_some_and(|former| former.adopted);
        let recovered = former.is_some();
        let state = State { track: Track::new(0), former, until: None, keep: false, since, elsewhere };
        Box::new(Self { pid, recovered, adopted, state: Mutex::new(state) })
    }

    /// Whether it came from another server, so that nobody knows its extensions here.
    pub(crate) fn is_adopted(&self) -> bool {
        self.adopted
    }

    pub(crate) fn pid(&self) -> &str {
        &self.pid
    }

    pub(crate) fn recovered(&self) -> bool {
        self.recovered
    }

    /// Who the socket was and what the application knows of it.
    pub(crate) fn former(&self) -> Option<(RoomName, Extensions, Map)> {
        let state = self.state.lock();
        let session = &state.former.as_ref()?.session;
        Some((session.id.clone(), session.data.extensions.share(), session.data.data.clone()))
    }
}

/// What a client that comes back says in its CONNECT packet.
#[derive(Default, serde::Deserialize)]
struct Claim {
    #[serde(default, deserialize_with = "text")]
    pid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    offset: Option<String>,
}

/// A short string; anything else is as good as nothing.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().filter(|text| text.len() <= 64).map(str::to_owned))
}

impl NspRecovery {
    fn come_back(&self, nsp: &Arc<Nsp>, pid: &str, offset: Option<String>) -> Option<(Pid, Former)> {
        let session = match self.take_over(nsp, pid) {
            Some(session) => session,
            None => self.book.lock().store.take(pid, Instant::now().into_std()),
        };
        let error = match session {
            Ok(session) => match self.hold(session, offset, nsp, false) {
                (former, _, None) => return Some((pid.into(), former)),
                (former, _, Some(error)) => {
                    self.give_up(nsp, former, error);
                    return None;
                }
            },
            Err(error) => error,
        };
        self.not_recovered(nsp, error);
        None
    }

    /// If a live socket has this secret it gives up its session. Its connection is cut off.
    pub(crate) fn take_over(&self, nsp: &Nsp, pid: &str) -> Option<Result<Session<Kept>, NotRecoverable>> {
        let live = self.book.lock().live.get(pid).cloned()?;
        // The network changed before this server noticed. Whatever is on its way to the old connection is lost.
        if live.0.phase() < Phase::Dismissed {
            self.keep_later(&live, true);
            live.0.left();
        }
        live.conn().abort(CloseReason::TransportClose);
        debug_assert!(std::ptr::eq(&*live.0.nsp, nsp), "a book has sockets of its namespace");
        let mut book = self.book.lock();
        let live = book.live.get(pid).cloned()?;
        let session = live.0.freeze(&mut book).ok_or(NotRecoverable::UnknownSession);
        drop(book);
        Some(session)
    }

    /// Takes out a session that waits here.
    pub(crate) fn take(&self, pid: &str) -> Result<Session<Kept>, NotRecoverable> {
        self.book.lock().store.take(pid, Instant::now().into_std())
    }

    /// Whether a session waits here.
    pub(crate) fn has(&self, pid: &str) -> bool {
        self.book.lock().store.has(pid)
    }

    /// Holds a session for a client that is being let in: from now on the book keeps all packets. Returns the number of the newest
    /// one before. An error says what the book does not know.
    pub(crate) fn hold(
        &self,
        session: Session<Kept>,
        offset: Option<String>,
        nsp: &Nsp,
        adopted: bool,
    ) -> (Former, u64, Option<NotRecoverable>) {
        let mut book = self.book.lock();
        book.returning += 1;
        let mark = book.store.log().head();
        let bytes = nsp.env.limits.send_queue_bytes / 2;
        let error = match adopted {
            true => Some(NotRecoverable::UnknownOffset),
            false => self.missed(&book, &session, offset.as_deref(), nsp, bytes).err(),
        };
        (Former { session, offset, replayed: None, adopted }, mark, error)
    }

    /// What another server kept, as a session of this one.
    pub(crate) fn adopt(&self, stored: StoredSession) -> Session<Kept> {
        let data = match stored.data {
            Value::Map(data) => data,
            _ => Map::new(),
        };
        let since = stored.since.as_deref().and_then(Place::parse);
        let kept = Kept { data, since, elsewhere: true, ..Kept::default() };
        let (head, now) = (self.book.lock().store.log().head(), Instant::now().into_std());
        Session::new(stored.id, stored.rooms, kept, Track::new(head), head, now)
    }

    /// A session that was [held](Self::hold) goes back to where it was.
    pub(crate) fn give_back(&self, nsp: &Arc<Nsp>, pid: &Pid, former: Former) {
        let session = former.session;
        if let Some(log) = nsp.shared() {
            log.persist(session.data.stored(&session, pid));
        }
        let bytes = session.data.bytes();
        let mut book = self.book.lock();
        book.returning = book.returning.saturating_sub(1);
        let gone = book.store.persist(Arc::clone(pid), session, bytes);
        drop(book);
        ended(nsp, gone.into_iter().map(|(_, session)| session), SessionEnd::Displaced);
    }

    /// A session that was [held](Self::hold) cannot go on.
    pub(crate) fn give_up(&self, nsp: &Arc<Nsp>, former: Former, error: NotRecoverable) {
        {
            let mut book = self.book.lock();
            book.returning = book.returning.saturating_sub(1);
        }
        self.not_recovered(nsp, error);
        ended(nsp, [former.session], SessionEnd::NotRecoverable(error));
    }

    pub(crate) fn not_recovered(&self, nsp: &Nsp, error: NotRecoverable) {
        nsp.env.counters.not_recovered.add();
        tracing::debug!(namespace = %nsp.name, %error, "a client that came back is connected anew");
    }

    /// What a client has missed, if that is not more than so many bytes and half of the packets that its queue takes.
    fn missed(
        &self,
        book: &Book,
        session: &Session<Kept>,
        offset: Option<&str>,
        nsp: &Nsp,
        bytes: usize,
    ) -> Result<Missed<Logged>, NotRecoverable> {
        let packets = nsp.env.limits.send_queue_packets / 2;
        let number = match offset.and_then(Place::parse) {
            // Before the client was here, the book does not have everything that was for it.
            Some(place) => match book.number_of(place).filter(|number| *number >= session.start()) {
                Some(number) => Some(book.store.offsets().write(number)),
                None => return Err(NotRecoverable::UnknownOffset),
            },
            None if session.data.elsewhere && offset.is_none_or(|offset| !book.store.offsets().knows(offset)) => {
                return Err(NotRecoverable::UnknownOffset);
            }
            None => None,
        };
        let offset = number.as_ref().map(Offset::as_str).or(offset);
        let missed = book.store.missed(session, offset, packets, bytes)?;
        match missed.packets.iter().map(|logged| logged.frames.len()).sum::<usize>() > packets {
            true => Err(NotRecoverable::TooMuch),
            false => Ok(missed),
        }
    }

    /// The client of this socket may come back, or not.
    fn keep_later(&self, socket: &Socket, keep: bool) {
        if let Some(tracked) = &socket.0.tracked {
            tracked.state.lock().keep = keep;
        }
    }

    /// The socket is leaving for this reason.
    pub(crate) fn leaving(&self, socket: &Socket, reason: DisconnectReason) {
        let Some(tracked) = &socket.0.tracked else { return };
        let mut book = self.book.lock();
        if reason.is_recoverable() {
            tracked.state.lock().keep = true;
        } else if book.live.get(&tracked.pid).is_some_and(|live| live == socket) {
            let live = book.live.remove(&tracked.pid);
            drop(book);
            drop(live);
        }
    }

    /// Starts the task that lets sessions and packets expire, if it does not run.
    fn sweep(&self, nsp: &Arc<Nsp>) {
        if !self.sweeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(nsp)));
        }
    }
}

/// How often packets are looked at at most: there may be one for every millisecond.
const PAUSE: Duration = Duration::from_secs(1);
/// How often when there is nothing that could expire. Whoever goes away wakes the task.
const IDLE: Duration = Duration::from_secs(60);
/// Timers are rounded.
const PRECISION: Duration = Duration::from_millis(2);
/// How much is taken out under one lock.
const AT_ONCE: usize = 256;

/// Lets sessions and packets of a namespace expire. Ends with the namespace, or when nobody can come back; a session keeps
/// its namespace.
async fn sweep(weak: Weak<Nsp>) {
    loop {
        let Some(nsp) = weak.upgrade() else { return };
        let Some((until, away)) = sweep_once(&nsp) else { return };
        let Some(gone) = nsp.recovery.as_ref().map(|recovery| Arc::clone(&recovery.gone)) else { return };
        let kept = away.then(|| Arc::clone(&nsp));
        drop(nsp);
        let _ = tokio::time::timeout_at(until, gone.notified()).await;
        drop(kept);
    }
}

/// Returns when to look again and whether somebody is away, or `None` when there is nothing left to look at.
fn sweep_once(nsp: &Arc<Nsp>) -> Option<(Instant, bool)> {
    let recovery = nsp.recovery.as_ref()?;
    let now = Instant::now();
    let mut book = recovery.book.lock();
    let gone = book.store.expire(now.into_std(), AT_ONCE);
    let away = book.store.sessions() > 0 || book.returning > 0;
    let idle = !away && book.live.is_empty();
    if idle {
        book.store.forget_packets();
        recovery.sweeping.store(false, Ordering::Release);
    }
    let session = book.store.session_deadline().map(|at| Instant::from_std(at) + PRECISION);
    let packet = book.store.log().deadline().map(|at| Instant::from_std(at).max(now) + PAUSE);
    drop(book);
    let until = if gone.len() == AT_ONCE { now } else { session.into_iter().chain(packet).min().unwrap_or(now + IDLE) };
    match nsp.shared() {
        Some(log) => log.expired(gone),
        None => ended(nsp, gone.into_iter().map(|(_, session)| session), SessionEnd::Expired),
    }
    (!idle).then_some((until, away))
}

/// Tells the application about sessions that are over. Called without any lock.
pub(crate) fn ended(nsp: &Arc<Nsp>, sessions: impl IntoIterator<Item = Session<Kept>>, why: SessionEnd) {
    for session in sessions {
        nsp.env.counters.sessions_expired.add();
        if let Some(hook) = &nsp.table.on_session_expired {
            let namespace = NamespaceHandle::new(Arc::clone(nsp));
            // A panic is logged there; nobody else suffers.
            let _ = lane::guard(|| hook(&ExpiredSession { namespace, session, why }));
        }
    }
}

impl SocketInner {
    /// Opens the book of the namespace, if it has one and this socket is in it.
    pub(crate) fn order(&self) -> Option<MutexGuard<'_, Book>> {
        self.tracked.as_ref()?;
        self.nsp.recovery.as_ref().map(|recovery| recovery.lock())
    }

    /// A packet was addressed to this socket.
    pub(crate) fn addressed(&self, (number, first): (u64, u64)) {
        if let Some(tracked) = &self.tracked {
            tracked.state.lock().track.addressed(number, first);
        }
    }

    /// Rooms have changed.
    pub(crate) fn moved(&self, book: &Book, events: &RoomEvents) {
        let Some(tracked) = &self.tracked else { return };
        let (head, first) = (book.store.log().head(), book.store.log().first());
        let mut state = tracked.state.lock();
        for event in events {
            match event {
                RoomEvent::Join { room, .. } => state.track.moved(head, first, room.clone(), true),
                RoomEvent::Leave { room, .. } => state.track.moved(head, first, room.clone(), false),
                RoomEvent::Create(_) | RoomEvent::Delete(_) => {}
            }
        }
    }

    /// From now on nothing is queued for this socket. Called once, with the book, before anybody can see it.
    pub(crate) fn unreachable(&self, book: &Book) {
        if let Some(tracked) = &self.tracked {
            let now = Instant::now().into_std();
            tracked.state.lock().until.get_or_insert_with(|| (book.store.log().head(), now));
        }
    }

    /// Opens the book to let this socket in. `Ok(None)` where there is none.
    ///
    /// # Errors
    /// When what the client missed is no longer there. Then it must not believe that it was recovered.
    pub(crate) fn admission(self: &Arc<Self>) -> Result<Option<Admission<'_>>, NotRecoverable> {
        let (Some(recovery), Some(tracked)) = (&self.nsp.recovery, &self.tracked) else { return Ok(None) };
        let mut book = recovery.lock();
        let mut state = tracked.state.lock();
        let Some(former) = state.former.take() else {
            state.track = Track::new(book.store.log().head());
            state.since = book.position;
            return Ok(Some(Admission { book, missed: Vec::new(), rooms: None, reliable: None }));
        };
        // Other namespaces of the connection may have come back just now. Over the limit of its queue it would be closed,
        // and again when it comes again.
        let (limit, queued) = (self.nsp.env.limits.send_queue_bytes, self.client.session.queued_bytes());
        let bytes = (limit - limit / 4).saturating_sub(queued);
        let Former { session, offset, replayed, adopted } = *former;
        let missed = match &replayed {
            None => recovery
                .missed(&book, &session, offset.as_deref(), &self.nsp, bytes)
                .map(|missed| (missed.packets.into_iter().map(|logged| logged.frames).collect(), missed.numbers)),
            Some(replayed) => book.replayed(&session, replayed, &self.nsp, bytes).map(|missed| (missed, Vec::new())),
        };
        let (missed, numbers) = match missed {
            Ok(missed) => missed,
            Err(error) => {
                drop((state, book));
                recovery.give_up(&self.nsp, Former { session, offset, replayed, adopted }, error);
                return Err(error);
            }
        };
        book.returning = book.returning.saturating_sub(1);
        let (_, rooms, kept, track) = session.into_track();
        state.track = match &replayed {
            None => track,
            // What came since then the book has.
            Some(replayed) => Track::new(replayed.mark),
        };
        state.elsewhere |= replayed.is_some();
        let first = book.store.log().first();
        numbers.iter().for_each(|number| state.track.addressed(*number, first));
        self.nsp.env.counters.recovered.add();
        Ok(Some(Admission { book, missed, rooms: Some(rooms), reliable: kept.reliable }))
    }

    /// Asks the policy about the rooms of a client that came back: it may have changed its mind. What was sent to a room that is
    /// denied now is not told, either.
    pub(crate) fn ask_about_rooms(self: &Arc<Self>) {
        let Some(tracked) = self.tracked.as_ref().filter(|_| self.nsp.table.policy.is_some()) else { return };
        let rooms = tracked.state.lock().former.as_ref().map(|former| former.session.rooms.clone()).unwrap_or_default();
        let socket = Socket(Arc::clone(self));
        let denied: Vec<RoomName> = rooms
            .into_iter()
            .filter(|room| room != self.id() && socket.forbids_and_tells(&Action::Join { room }))
            .collect();
        if let Some(former) = tracked.state.lock().former.as_mut().filter(|_| !denied.is_empty()) {
            former.session.forget_rooms(&denied);
        }
    }

    /// The client that came back was refused: its session is over.
    pub(crate) fn refused(&self) {
        if let Some(session) = self.former_session() {
            ended(&self.nsp, [session], SessionEnd::Refused);
        }
    }

    /// The client that came back went away again before it was let in: its session waits on.
    pub(crate) fn give_back(&self) {
        if let (Some(recovery), Some(tracked)) = (&self.nsp.recovery, &self.tracked) {
            let former = tracked.state.lock().former.take();
            if let Some(former) = former {
                recovery.give_back(&self.nsp, &tracked.pid, *former);
            }
        }
    }

    fn former_session(&self) -> Option<Session<Kept>> {
        let mut book = self.order()?;
        let former = self.tracked.as_ref()?.state.lock().former.take()?;
        book.returning = book.returning.saturating_sub(1);
        Some(former.session)
    }

    /// The rooms are about to be left: whoever may come back is kept.
    pub(crate) fn keep(&self) {
        let (Some(recovery), Some(tracked)) = (&self.nsp.recovery, &self.tracked) else { return };
        let mut book = recovery.lock();
        if !book.live.get(&tracked.pid).is_some_and(|live| std::ptr::eq(&*live.0, self)) {
            return;
        }
        let gone = match self.freeze(&mut book) {
            Some(session) => {
                let bytes = session.data.bytes();
                recovery.gone.notify_one();
                // In the order in which clients come and go.
                if let Some(log) = self.nsp.shared() {
                    log.persist(session.data.stored(&session, &tracked.pid));
                }
                book.store.persist(Arc::clone(&tracked.pid), session, bytes)
            }
            None => Vec::new(),
        };
        drop(book);
        ended(&self.nsp, gone.into_iter().map(|(_, session)| session), SessionEnd::Displaced);
    }

    /// Takes out of the book what is left of this socket; `None` when its client may not come back.
    fn freeze(&self, book: &mut Book) -> Option<Session<Kept>> {
        let tracked = self.tracked.as_ref()?;
        // The caller holds a handle: this is not the last one.
        book.live.remove(&tracked.pid)?;
        let state = tracked.state.lock();
        let (until, at) = state.until.filter(|_| state.keep)?;
        let rooms = self.nsp.rooms.lock().rooms_of(self.id());
        let extensions = self.extensions().share();
        let data = self.look_at_data(Map::clone).unwrap_or_default();
        Some(Session::new(
            self.id().clone(),
            rooms,
            Kept { data, extensions, reliable: self.take_reliable(), since: state.since, elsewhere: state.elsewhere },
            state.track.clone(),
            until,
            at,
        ))
    }
}

impl Admission<'_> {
    /// The rooms of a client that came back.
    pub(crate) fn rooms(&mut self) -> Option<RoomNames> {
        self.rooms.take()
    }

    /// What its client has not confirmed, to be attached once the socket is connected.
    pub(crate) fn reliable(&mut self) -> Option<reliable::Owned> {
        self.reliable.take()
    }

    /// The socket is let in: its client can come back from now on. Returns what it has missed, to be sent behind CONNECT.
    pub(crate) fn admit(&mut self, socket: &Socket) -> Vec<Frames> {
        if let (Some(recovery), Some(tracked)) = (&socket.0.nsp.recovery, &socket.0.tracked) {
            self.book.live.insert(Arc::clone(&tracked.pid), socket.clone());
            recovery.sweep(&socket.0.nsp);
        }
        std::mem::take(&mut self.missed)
    }
}

impl Kept {
    /// The session as servers keep it for each other.
    fn stored(&self, session: &Session<Self>, pid: &Pid) -> StoredSession {
        StoredSession {
            id: session.id.clone(),
            pid: Arc::clone(pid),
            rooms: session.rooms.clone(),
            data: Value::Map(self.data.clone()),
            since: self.since.map(|place| place.to_string().into()),
            by: None,
        }
    }

    /// How many bytes it takes, roughly. What the extensions hold is not known.
    fn bytes(&self) -> usize {
        let data: usize = self.data.iter().map(|(name, value)| name.len() + 64 + value_bytes(value, 0)).sum();
        data + self.reliable.as_ref().map_or(0, |queue| queue.bytes())
    }
}

fn value_bytes(value: &Value, depth: usize) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::Array(_) | Value::Map(_) if depth > 128 => 0,
        Value::Array(values) => values.iter().map(|value| 32 + value_bytes(value, depth + 1)).sum(),
        Value::Map(fields) => fields.iter().map(|(name, value)| name.len() + 64 + value_bytes(value, depth + 1)).sum(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => 0,
    }
}

/// Where the last occurrence begins. Offsets stand near the end.
fn find_last(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).rposition(|window| window == needle)
}
