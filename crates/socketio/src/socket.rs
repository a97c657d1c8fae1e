//! A client in one namespace: the handle that handlers get, and the state behind it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use engineio::{HEADROOM, Session};
use parking_lot::Mutex;
use rand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use socketio_adapter::{BroadcastFlags, IntoRooms, JoinError, Removed, RoomEvents, RoomName, RoomNames, Rooms};
use socketio_core::{AckError, Event};
use socketio_proto::{Map, Payload};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::acks::{AckTable, Settled, Waiter};
use crate::broadcast::{Delivery, frames};
use crate::event_middleware::OwnMiddleware;
use crate::hub::Hub;
use crate::listeners::OwnListeners;
use crate::nsp::Nsp;
use crate::outgoing::{Announcement, OutgoingListener};
use crate::rates::Buckets;
use crate::recovery::{Admission, Book, Tracked};
use crate::reliable::{self, ReliableEmitter};
use crate::{
    AckFuture, Action, EmitError, Emitted, Extensions, Handshake, Joined, NamespaceHandle, Operators, SocketData,
    SocketIo,
};

/// A client that is connected to a namespace.
///
/// A cheap handle: clone it, keep it, send it to other tasks. It keeps no connection open; once the client has left, what
/// is emitted is refused.
#[derive(Clone)]
pub struct Socket(pub(crate) Arc<SocketInner>);

pub(crate) struct SocketInner {
    id: RoomName,
    pub(crate) nsp: Arc<Nsp>,
    pub(crate) client: Arc<Client>,
    auth: Option<Box<Payload<'static>>>,
    /// What its recovery needs, where the server has the option.
    pub(crate) tracked: Option<Box<Tracked>>,
    /// A [`Phase`].
    phase: AtomicU8,
    /// What was registered on this socket, a set of [`OWN_HANDLERS`] and others: spares the lock for all sockets without.
    own: AtomicU8,
    /// Guards the table of awaited answers; `None` until the first one.
    acks: Mutex<Option<Box<AckTable>>>,
    /// Guards what few sockets have; `None` until needed.
    rare: Mutex<Option<Box<Rare>>>,
    extensions: Extensions,
}

/// What few sockets have.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) own: OwnListeners,
    /// Rooms joined before the socket was connected, in middleware.
    early_rooms: RoomNames,
    data: Map,
    /// When its credentials expire.
    expires: Option<Instant>,
    /// Why the server takes it out.
    farewell: Option<&'static str>,
    /// How often its events have come.
    buckets: Option<Buckets>,
    /// Events that are sent until they are confirmed.
    pub(crate) reliable: Option<reliable::Owned>,
}

/// Where a socket is in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Middleware runs; the client has not been told yet.
    Connecting = 0,
    /// CONNECT has been queued.
    Connected = 1,
    /// The application took it out; its task has not noticed yet.
    Dismissed = 2,
    /// The disconnect handlers run or have run.
    Left = 3,
    /// Nothing of it is left in the server.
    Released = 4,
}

/// One connection as its sockets see it.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) hub: Arc<Hub>,
    /// What the session's task is asked to look at: a set of [`LOOK`] and [`CLOSE`].
    pub(crate) requests: AtomicU8,
}

/// Handlers were registered on a socket.
pub(crate) const OWN_HANDLERS: u8 = 1;
/// Somebody listens to what is sent to a socket.
pub(crate) const OWN_OUTGOING: u8 = 4;
/// Middleware for events was registered on a socket.
pub(crate) const OWN_MIDDLEWARE: u8 = 2;

/// The credentials of a socket expire some time.
pub(crate) const OWN_EXPIRY: u8 = 8;

/// A socket was dismissed.
pub(crate) const LOOK: u8 = 1;
/// The connection shall be closed, all namespaces first.
pub(crate) const CLOSE: u8 = 2;
/// Credentials expire at another time than was known.
pub(crate) const EXPIRY: u8 = 4;

impl Client {
    pub(crate) fn request(&self, what: u8) {
        self.requests.fetch_or(what, Ordering::AcqRel);
        self.session.wake();
    }
}

impl Socket {
    pub(crate) fn new(
        id: RoomName,
        nsp: Arc<Nsp>,
        client: Arc<Client>,
        auth: Option<Box<Payload<'static>>>,
        tracked: Option<Box<Tracked>>,
    ) -> Self {
        let (id, extensions, data) = tracked
            .as_ref()
            .and_then(|tracked| tracked.former())
            .unwrap_or_else(|| (id, Default::default(), Map::new()));
        let rare = (!data.is_empty()).then(|| Box::new(Rare { data, ..Rare::default() }));
        Self(Arc::new(SocketInner {
            id,
            nsp,
            client,
            auth,
            tracked,
            phase: AtomicU8::new(Phase::Connecting as u8),
            own: AtomicU8::new(0),
            acks: Mutex::new(None),
            rare: Mutex::new(rare),
            extensions,
        }))
    }

    /// The id of this socket: 20 characters that name it to other clients and to [`to`](Self::to).
    ///
    /// It is also the name of a room of its own. It says nothing about the session id of the transport, which is secret;
    /// only for clients of Engine.IO 3, who compute it themselves, it is that id (`/`) or `<namespace>#<that id>`.
    pub fn id(&self) -> &RoomName {
        &self.0.id
    }

    /// Whether the client is connected to the namespace: after CONNECT was queued, before it left.
    pub fn connected(&self) -> bool {
        self.0.phase() == Phase::Connected
    }

    /// Whether the client was here before and came back: this socket has the id, the rooms and the data of then, and what
    /// was sent meanwhile follows. Node: `recovered`.
    pub fn recovered(&self) -> bool {
        self.0.tracked.as_ref().is_some_and(|tracked| tracked.recovered())
    }

    /// The namespace this socket belongs to. Node: `nsp`.
    pub fn namespace(&self) -> NamespaceHandle {
        NamespaceHandle::new(Arc::clone(&self.0.nsp))
    }

    /// The server this socket belongs to.
    pub fn io(&self) -> SocketIo {
        SocketIo::from_hub(Arc::clone(&self.0.client.hub))
    }

    /// The request that opened the connection, and the payload with which the client joined the namespace.
    pub fn handshake(&self) -> Handshake<'_> {
        let request = self.0.client.session.handshake();
        Handshake::new(request, self.0.auth.as_deref(), &self.0.nsp.env.trusted_proxies)
    }

    /// The request that opened the connection. Node: `request`.
    pub fn request(&self) -> &engineio::Handshake {
        self.0.client.session.handshake()
    }

    /// The connection below this socket, shared by its namespaces. Node: `conn`.
    ///
    /// Its `sid` is a secret of the client.
    pub fn conn(&self) -> &Session {
        &self.0.client.session
    }

    /// What the application keeps with this socket for every server to see, by name. Node: `data`.
    ///
    /// ```
    /// # fn example(socket: &socketio::Socket) {
    /// let _ = socket.data().insert("name", "Ann");
    /// assert_eq!(socket.data().get::<String>("name").as_deref(), Some("Ann"));
    /// # }
    /// ```
    pub fn data(&self) -> SocketData<'_> {
        SocketData(self)
    }

    /// Values of the application that belong to this socket, by type; they stay on this server. Node: `data`.
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// Sends an event to this client.
    ///
    /// A tuple is several arguments, anything else one; `bytes::Bytes` anywhere inside becomes an attachment. What is
    /// returned may be dropped, asked or awaited: see [`Emitted`].
    pub fn emit(&self, event: &str, args: impl Serialize) -> Emitted {
        self.emit_with(BroadcastFlags::default(), event, &args)
    }

    /// Sends the event `message`. Node: `send`, `write`.
    pub fn send(&self, args: impl Serialize) -> Emitted {
        self.emit("message", args)
    }

    /// Sends a typed event to this client.
    pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) -> Emitted {
        self.emit(E::NAME, event.args())
    }

    /// Sends an event to this client and awaits the answer, for `ack_timeout` of the server.
    ///
    /// The event is queued at once, awaited or not. `R` is the type of the answer: a tuple for several arguments.
    ///
    /// # Errors
    /// What the future resolves to: [`AckError`].
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckFuture<R> {
        self.emit_with_ack_in(BroadcastFlags::default(), event, &args)
    }

    /// Sends a typed event to this client and awaits its typed answer.
    pub fn call<E: Event<Args: Serialize, Ack: DeserializeOwned>>(&self, event: &E) -> AckFuture<E::Ack> {
        self.emit_with_ack(E::NAME, event.args())
    }

    /// How long [`emit_with_ack`](SocketEmitter::emit_with_ack) waits. Node: `timeout`.
    pub fn timeout(&self, timeout: Duration) -> SocketEmitter {
        self.emitter().timeout(timeout)
    }

    /// Sends events at least once: each until the client has confirmed it, again after a timeout, `retries` times; see
    /// [`ReliableEmitter::emit`]. Node: `retries` of the client.
    pub fn retries(&self, retries: usize) -> ReliableEmitter {
        ReliableEmitter::new(self.clone(), retries)
    }

    /// Drops the event if the client cannot take it at once. Node: `volatile`.
    pub fn volatile(&self) -> SocketEmitter {
        self.emitter().volatile()
    }

    /// Whether transports may compress the event. Node: `compress`.
    pub fn compress(&self, compress: bool) -> SocketEmitter {
        self.emitter().compress(compress)
    }

    /// Addresses the other sockets in these rooms. Node: `to`.
    pub fn to(&self, rooms: impl IntoRooms) -> Operators {
        self.broadcast().to(rooms)
    }

    /// The same as [`to`](Self::to). Node: `in`.
    pub fn in_(&self, rooms: impl IntoRooms) -> Operators {
        self.broadcast().to(rooms)
    }

    /// Addresses all other sockets of the namespace but those in these rooms. Node: `except`.
    pub fn except(&self, rooms: impl IntoRooms) -> Operators {
        self.broadcast().except(rooms)
    }

    /// Addresses all other sockets of the namespace. Node: `broadcast`.
    pub fn broadcast(&self) -> Operators {
        self.emitter().broadcast()
    }

    /// Addresses all other sockets of the namespace on this server. Node: `local`.
    pub fn local(&self) -> Operators {
        self.broadcast().local()
    }

    /// Joins rooms, at once on this server. Node: `join`.
    ///
    /// In middleware the rooms are remembered and joined when the socket is connected; too many, or names that are too long,
    /// are an error there, too. A socket that has left joins
    /// nothing.
    pub fn join(&self, rooms: impl IntoRooms) -> Joined {
        let rooms = rooms.into_rooms();
        if self.0.nsp.table.policy.is_some() && rooms.iter().any(|room| self.forbids_and_tells(&Action::Join { room }))
        {
            return Joined::new(Err(JoinError::Denied), None);
        }
        self.join_unasked(rooms)
    }

    /// [`join`](Self::join) by the server: the policy is not asked.
    pub(crate) fn join_unasked(&self, rooms: RoomNames) -> Joined {
        let mut rare = self.0.rare.lock();
        match self.0.phase() {
            Phase::Connecting => {
                let limits = self.0.nsp.env.limits.rooms();
                let planned = limits.plan(&mut rare.get_or_insert_default().early_rooms, rooms);
                drop(rare);
                if let Err(error) = &planned {
                    self.report_rooms(error);
                }
                Joined::new(planned, Some(&self.0.nsp))
            }
            Phase::Connected => {
                drop(rare);
                let joined = self.0.join_now(rooms);
                if let Err(error) = &joined {
                    self.report_rooms(error);
                }
                Joined::new(joined, Some(&self.0.nsp))
            }
            Phase::Dismissed | Phase::Left | Phase::Released => Joined::new(Ok(()), Some(&self.0.nsp)),
        }
    }

    /// Leaves rooms, at once on this server. Node: `leave`.
    pub fn leave(&self, rooms: impl IntoRooms) -> Joined {
        let rooms = rooms.into_rooms();
        let mut rare = self.0.rare.lock();
        if self.0.phase() == Phase::Connecting {
            if let Some(rare) = rare.as_deref_mut() {
                rare.early_rooms.retain(|room| !rooms.contains(room));
            }
        } else {
            drop(rare);
            self.0.leave_now(rooms);
        }
        Joined::new(Ok(()), Some(&self.0.nsp))
    }

    /// The rooms this socket is in, that of its own id among them; none after it has left. Node: `rooms`.
    ///
    /// In a `disconnecting` handler they are still set.
    pub fn rooms(&self) -> RoomNames {
        self.0.nsp.rooms.lock().rooms_of(&self.0.id)
    }

    /// Whether this socket is in the room.
    pub fn is_in(&self, room: &str) -> bool {
        self.0.nsp.rooms.lock().is_in(&self.0.id, room)
    }

    /// [`disconnect`](Self::disconnect), and says why: disconnect handlers and logs have it as
    /// [`DisconnectDescription`](crate::DisconnectDescription), the client does not.
    pub fn disconnect_because(&self, close: bool, description: &'static str) {
        if self.connected() {
            self.0.rare.lock().get_or_insert_default().farewell = Some(description);
        }
        self.disconnect(close);
    }

    /// Takes the socket out of its namespace when its credentials expire, described as `token expired`; `None` takes that back.
    /// A later call replaces an earlier one. The timer is the connection's own.
    pub fn expires_at(&self, at: Option<Instant>) {
        {
            let mut rare = self.0.rare.lock();
            if self.0.phase() >= Phase::Released {
                return;
            }
            rare.get_or_insert_default().expires = at;
        }
        self.0.own.fetch_or(OWN_EXPIRY, Ordering::Release);
        self.0.client.request(EXPIRY);
    }

    /// Takes the socket out of its namespace and tells the client. With `close`, all namespaces and the connection.
    ///
    /// From this call on the socket is not [`connected`](Self::connected). Its disconnect handlers run on the
    /// connection's own task, soon. Node: `disconnect`.
    pub fn disconnect(&self, close: bool) {
        // What was sent before comes before.
        if let Some(log) = self.0.nsp.shared().filter(|_| self.connected()) {
            log.flush();
        }
        if self.0.dismiss() {
            let env = &self.0.nsp.env;
            match env.parser.encode_disconnect(&self.0.nsp.name, HEADROOM) {
                Ok(encoded) => drop(self.deliver(frames(encoded, true), false)),
                Err(error) => tracing::error!(%error, "a DISCONNECT packet could not be encoded"),
            }
            if !close {
                self.0.client.request(LOOK);
            }
        }
        if close {
            self.0.client.request(LOOK | CLOSE);
        }
    }

    /// Whether anybody listens to what is sent to this socket.
    pub(crate) fn is_overheard(&self) -> bool {
        self.0.own.load(Ordering::Acquire) & OWN_OUTGOING != 0 || !self.0.nsp.table.outgoing.is_empty()
    }

    pub(crate) fn emitter(&self) -> SocketEmitter {
        SocketEmitter { socket: self.clone(), flags: BroadcastFlags::default() }
    }

    fn emit_with(&self, flags: BroadcastFlags, event: &str, args: &impl Serialize) -> Emitted {
        if !self.connected() {
            self.0.nsp.env.counters.emits_refused.add();
            return Emitted::refused(EmitError::NotConnected);
        }
        if let Some(recovery) = &self.0.nsp.recovery {
            return recovery.emit(self, &flags, event, args);
        }
        let frames = match self.0.nsp.env.encode_event(&self.0.nsp.name, None, event, args, flags.compress) {
            Ok(frames) => frames,
            Err(error) => return Emitted::refused(error),
        };
        match self.deliver(frames, flags.volatile) {
            Delivery::Queued => {
                Announcement::default().of(self, event, args);
                Emitted::queued(self.0.client.session.clone())
            }
            Delivery::Dropped => Emitted::refused(EmitError::Dropped),
            Delivery::Refused(error) => Emitted::refused(error.into()),
        }
    }

    fn emit_with_ack_in<R: DeserializeOwned>(
        &self,
        flags: BroadcastFlags,
        event: &str,
        args: &impl Serialize,
    ) -> AckFuture<R> {
        let env = &self.0.nsp.env;
        if !self.connected() {
            env.counters.emits_refused.add();
            return AckFuture::failed(EmitError::NotConnected);
        }
        let id = self.0.nsp.next_ack_id();
        let frames = match env.encode_event(&self.0.nsp.name, Some(id), event, args, flags.compress) {
            Ok(frames) => frames,
            Err(error) => return AckFuture::failed(error),
        };
        let (sender, answer) = oneshot::channel();
        if let Err(error) = self.0.await_ack(id, Waiter::One(sender)) {
            return AckFuture::failed(error);
        }
        let delivery = match self.0.nsp.shared() {
            Some(log) => log.send(self, frames, flags.volatile),
            None => self.deliver(frames, flags.volatile),
        };
        let refused = match delivery {
            Delivery::Queued => {
                Announcement::default().of(self, event, args);
                let timeout = flags.timeout.unwrap_or(env.ack_timeout);
                return AckFuture::waiting(self.clone(), id, answer, timeout);
            }
            Delivery::Dropped => EmitError::Dropped,
            Delivery::Refused(error) => error.into(),
        };
        self.0.forget_ack(id);
        AckFuture::failed(refused)
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("namespace", &self.0.nsp.name)
            .field("phase", &self.0.phase())
            .finish_non_exhaustive()
    }
}

impl SocketInner {
    /// Enough of the id to find it in a log. The ids of 2.x clients are those of their sessions, which are secret.
    pub(crate) fn short_id(&self) -> &str {
        let start = self.id.rfind('#').map_or(0, |at| at + 1);
        self.id.get(start..start + 6).unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::Connected,
            2 => Phase::Dismissed,
            3 => Phase::Left,
            _ => Phase::Released,
        }
    }

    pub(crate) fn id(&self) -> &RoomName {
        &self.id
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Adds the socket to its namespace, and with that to the room of its own id; one that came back also to its former
    /// rooms. Returns who had its place, to be dropped when nothing is locked; room events are then still to be told.
    pub(crate) fn enter(self: &Arc<Self>, mut admission: Option<&mut Admission<'_>>) -> Option<Removed<Socket>> {
        let former = admission.as_deref_mut().and_then(Admission::rooms);
        let namesake = self.nsp.change_rooms_untold(|rooms| {
            let member = || Socket(Arc::clone(self));
            let (namesake, mut events) = match rooms.add(self.id.clone(), member()) {
                Ok(events) => (None, events),
                // A client that comes back while its former self still says goodbye has the same id.
                Err(_) => {
                    let namesake = rooms.remove(&self.id);
                    let mut events = namesake.as_ref().map(|former| former.events.clone()).unwrap_or_default();
                    events.extend(rooms.add(self.id.clone(), member()).into_iter().flatten());
                    (namesake, events)
                }
            };
            if let Some(former) = former {
                let left_own = !former.contains(&self.id);
                let others: RoomNames = former.into_iter().filter(|room| *room != self.id).collect();
                match rooms.join(&self.id, others) {
                    Ok(joined) => events.extend(joined),
                    Err(error) => {
                        tracing::warn!(namespace = %self.nsp.name, %error, "the rooms of a client that came back are full");
                    }
                }
                if left_own {
                    events.extend(rooms.leave(&self.id, self.id.clone()));
                }
            }
            (namesake, events)
        });
        self.join_early_in(admission.as_ref().map(|admission| &*admission.book));
        namesake
    }

    fn join_now(&self, rooms: RoomNames) -> Result<(), JoinError> {
        let result = self.join_in(self.order().as_deref(), rooms);
        self.nsp.tell_room_events();
        result
    }

    fn join_in(&self, book: Option<&Book>, rooms: RoomNames) -> Result<(), JoinError> {
        self.move_in(book, |all| match all.join(&self.id, rooms) {
            Ok(events) => (Ok(()), events),
            Err(error) => (Err(error), RoomEvents::new()),
        })
    }

    fn leave_now(&self, rooms: RoomNames) {
        self.move_in(self.order().as_deref(), |all| {
            // One that has come back meanwhile has the same id.
            let mine = all.get(&self.id).is_some_and(|socket| std::ptr::eq(&*socket.0, self));
            ((), if mine { all.leave(&self.id, rooms) } else { RoomEvents::new() })
        });
        self.nsp.tell_room_events();
    }

    /// Changes rooms of this socket, and notes when that was.
    fn move_in<R>(&self, book: Option<&Book>, change: impl FnOnce(&mut Rooms<Socket>) -> (R, RoomEvents)) -> R {
        self.nsp.change_rooms_untold(|all| {
            let (result, events) = change(all);
            if let Some(book) = book {
                self.moved(book, &events);
            }
            (result, events)
        })
    }

    /// Joins the rooms that were asked for while the socket was connecting.
    pub(crate) fn join_early(&self) {
        if self.rare.lock().as_deref().is_some_and(|rare| !rare.early_rooms.is_empty()) {
            self.join_early_in(self.order().as_deref());
        }
        self.nsp.tell_room_events();
    }

    fn join_early_in(&self, book: Option<&Book>) {
        let early =
            self.rare.lock().as_deref_mut().map(|rare| std::mem::take(&mut rare.early_rooms)).unwrap_or_default();
        if !early.is_empty()
            && let Err(error) = self.join_in(book, early)
        {
            tracing::warn!(namespace = %self.nsp.name, %error, "rooms that middleware joined are full");
        }
    }

    /// CONNECT has been queued: from now on broadcasts reach the socket. Called under the session's lock.
    pub(crate) fn connected(&self) {
        self.phase.store(Phase::Connected as u8, Ordering::Release);
        self.nsp.bursts.interrupt();
    }

    /// The application takes the socket out. `false` when it was not connected.
    pub(crate) fn dismiss(&self) -> bool {
        let _acks = self.acks.lock();
        let (from, to) = (Phase::Connected as u8, Phase::Dismissed as u8);
        self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The socket has left: nothing more is queued for it, and whoever awaits an answer of it is told.
    pub(crate) fn left(&self) {
        self.advance(Phase::Left);
    }

    /// Takes everything out that outlives the connection. The one way out: every end of a socket comes here, last. `false`
    /// when it was called before.
    pub(crate) fn release(&self) -> bool {
        let before = self.advance(Phase::Released);
        if before == Phase::Released {
            return false;
        }
        if before == Phase::Connecting {
            self.give_back();
        } else {
            self.leave_all();
            self.nsp.env.counters.sockets_open.sub();
        }
        let rare = self.rare.lock().take();
        self.own.store(0, Ordering::Release);
        drop(rare);
        true
    }

    /// Takes the socket out of all rooms and out of its namespace. If its client may come back, that is noted first.
    pub(crate) fn leave_all(&self) {
        self.keep();
        let removed = self.nsp.change_rooms(|rooms| {
            // One that has come back meanwhile has the same id.
            let mine = rooms.get(&self.id).is_some_and(|socket| std::ptr::eq(&*socket.0, self));
            let mut removed = mine.then(|| rooms.remove(&self.id)).flatten();
            let events = removed.as_mut().map(|removed| std::mem::take(&mut removed.events)).unwrap_or_default();
            (removed, events)
        });
        drop(removed);
    }

    /// Moves on to a later phase and returns the one before. Nobody awaits an answer of a socket that has left.
    fn advance(&self, to: Phase) -> Phase {
        let book = self.order();
        // Under the lock of the answers: whoever adds one afterwards sees the phase.
        let mut acks = self.acks.lock();
        let before = self.phase();
        if before < to {
            self.phase.store(to as u8, Ordering::Release);
        }
        if let Some(book) = book {
            self.unreachable(&book);
        }
        let table = acks.take();
        drop(acks);
        for waiter in table.into_iter().flat_map(|mut table| table.take_all()) {
            waiter.settle(&self.id, Err(AckError::Disconnected));
        }
        before
    }

    pub(crate) fn await_ack(&self, id: u64, waiter: Waiter) -> Result<(), EmitError> {
        let mut acks = self.acks.lock();
        if self.phase() != Phase::Connected {
            return Err(EmitError::NotConnected);
        }
        acks.get_or_insert_default().insert(id, waiter, self.nsp.env.limits.max_pending_acks)
    }

    /// Nobody waits for this answer any more. Returns whether somebody did.
    pub(crate) fn forget_ack(&self, id: u64) -> bool {
        self.take_ack(id).is_some()
    }

    /// Gives an answer to whoever waits for it.
    pub(crate) fn answer(&self, id: u64, answer: Settled) -> bool {
        let waiter = self.take_ack(id);
        let known = waiter.is_some();
        if let Some(waiter) = waiter {
            waiter.settle(&self.id, answer);
        }
        known
    }

    fn take_ack(&self, id: u64) -> Option<Waiter> {
        let mut acks = self.acks.lock();
        let table = acks.as_deref_mut()?;
        let waiter = table.take(id);
        if table.len() == 0 {
            *acks = None;
        }
        waiter
    }

    /// When the credentials of the socket expire.
    pub(crate) fn expires(&self) -> Option<Instant> {
        if self.own.load(Ordering::Acquire) & OWN_EXPIRY == 0 {
            return None;
        }
        self.rare.lock().as_deref().and_then(|rare| rare.expires)
    }

    /// Why the server took the socket out, if it said so.
    pub(crate) fn farewell(&self) -> Option<&'static str> {
        self.rare.lock().as_deref().and_then(|rare| rare.farewell)
    }

    /// How often the events of this socket have come, under the lock.
    pub(crate) fn with_buckets<R>(&self, count: impl FnOnce(&mut Buckets) -> R) -> R {
        let mut rare = self.rare.lock();
        let limits = self.nsp.table.rates.len();
        count(rare.get_or_insert_default().buckets.get_or_insert_with(|| vec![None; limits].into()))
    }

    /// Looks at the data of the socket, if there is any, under the lock.
    pub(crate) fn look_at_data<R>(&self, look: impl FnOnce(&Map) -> R) -> Option<R> {
        self.rare.lock().as_deref().map(|rare| look(&rare.data))
    }

    /// Changes the data of the socket, under the lock. `None` once it has left.
    pub(crate) fn data_mut<R>(&self, change: impl FnOnce(&mut Map) -> R) -> Option<R> {
        let mut rare = self.rare.lock();
        (self.phase() < Phase::Released).then(|| change(&mut rare.get_or_insert_default().data))
    }

    /// The queue of events that are sent until they are confirmed. `None` when the socket is not connected.
    pub(crate) fn reliable_queue(&self, socket: &Socket) -> Option<Arc<reliable::Reliable>> {
        let mut rare = self.rare.lock();
        let connected = self.phase() == Phase::Connected;
        connected
            .then(|| rare.get_or_insert_default().reliable.get_or_insert_with(|| reliable::Owned::new(socket)).queue())
    }

    /// Takes that queue out, for whoever comes after this socket.
    pub(crate) fn take_reliable(&self) -> Option<reliable::Owned> {
        let queue = self.rare.lock().as_deref_mut()?.reliable.take()?;
        queue.attach(None);
        Some(queue)
    }

    /// Goes on with the queue of a former socket.
    pub(crate) fn put_reliable(&self, socket: &Socket, queue: reliable::Owned) {
        queue.attach(Some(socket));
        let before = self.rare.lock().get_or_insert_default().reliable.replace(queue);
        drop(before);
    }

    /// The handlers that were registered on this socket, if there are any, under the lock.
    pub(crate) fn own<R>(&self, look: impl FnOnce(&mut OwnListeners) -> R) -> Option<R> {
        self.own_if(OWN_HANDLERS, look)
    }

    /// What was registered on this socket, if `what` was, under the lock.
    pub(crate) fn own_if<R>(&self, what: u8, look: impl FnOnce(&mut OwnListeners) -> R) -> Option<R> {
        if self.own.load(Ordering::Acquire) & what == 0 {
            return None;
        }
        self.rare.lock().as_deref_mut().map(|rare| look(&mut rare.own))
    }

    /// The middleware that was registered on this socket, if there is any.
    pub(crate) fn own_middleware(&self) -> OwnMiddleware {
        if self.own.load(Ordering::Acquire) & OWN_MIDDLEWARE == 0 {
            return None;
        }
        self.rare.lock().as_deref().and_then(|rare| rare.own.middleware.clone())
    }

    /// The listeners of this socket alone to what is sent to it.
    pub(crate) fn own_outgoing(&self) -> SmallVec<[OutgoingListener; 2]> {
        if self.own.load(Ordering::Acquire) & OWN_OUTGOING == 0 {
            return SmallVec::new();
        }
        let rare = self.rare.lock();
        rare.as_deref().map(|rare| rare.own.outgoing().cloned().collect()).unwrap_or_default()
    }

    /// Registers something on this socket, under the lock. `None` once it has left.
    pub(crate) fn own_mut<R>(&self, what: u8, change: impl FnOnce(&mut OwnListeners) -> R) -> Option<R> {
        let mut rare = self.rare.lock();
        if self.phase() >= Phase::Released {
            return None;
        }
        self.own.fetch_or(what, Ordering::Release);
        Some(change(&mut rare.get_or_insert_default().own))
    }
}

/// Emits to one socket with flags: `socket.volatile().emit(…)`.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct SocketEmitter {
    socket: Socket,
    flags: BroadcastFlags,
}

impl SocketEmitter {
    /// How long [`emit_with_ack`](Self::emit_with_ack) waits. Default: the server's `ack_timeout`. Node: `timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Drops the event if the client cannot take it at once. Node: `volatile`.
    pub fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// Whether transports may compress the event. Default: `true`. Node: `compress`.
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// Addresses the other sockets in these rooms. Node: `to`.
    pub fn to(self, rooms: impl IntoRooms) -> Operators {
        self.broadcast().to(rooms)
    }

    /// Addresses all other sockets of the namespace but those in these rooms. Node: `except`.
    pub fn except(self, rooms: impl IntoRooms) -> Operators {
        self.broadcast().except(rooms)
    }

    /// Addresses all other sockets of the namespace. Node: `broadcast`.
    pub fn broadcast(self) -> Operators {
        let nsp = &self.socket.0.nsp;
        let operators = Operators::new(Arc::clone(nsp)).flagged(self.flags).except(self.socket.id());
        if nsp.table.guards_emits() { operators.in_the_name_of(self.socket) } else { operators }
    }

    /// Sends an event to the socket; see [`Socket::emit`].
    pub fn emit(&self, event: &str, args: impl Serialize) -> Emitted {
        self.socket.emit_with(self.flags.clone(), event, &args)
    }

    /// Sends the event `message`. Node: `send`.
    pub fn send(&self, args: impl Serialize) -> Emitted {
        self.emit("message", args)
    }

    /// Sends a typed event to the socket.
    pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) -> Emitted {
        self.emit(E::NAME, event.args())
    }

    /// Sends an event to the socket and awaits the answer; see [`Socket::emit_with_ack`].
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckFuture<R> {
        self.socket.emit_with_ack_in(self.flags.clone(), event, &args)
    }

    /// Sends a typed event to the socket and awaits its typed answer.
    pub fn call<E: Event<Args: Serialize, Ack: DeserializeOwned>>(&self, event: &E) -> AckFuture<E::Ack> {
        self.emit_with_ack(E::NAME, event.args())
    }
}

/// Draws a socket id: 15 random bytes of a generator that is seeded by the operating system, as 20 base64url characters.
///
/// Node's adapters tell sockets from rooms by that length.
pub(crate) fn random_id() -> RoomName {
    let mut bytes = [0_u8; 15];
    rand::rng().fill_bytes(&mut bytes);
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = [0_u8; 20];
    for (three, four) in bytes.chunks_exact(3).zip(text.chunks_exact_mut(4)) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for (at, character) in four.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    std::str::from_utf8(&text).expect("the alphabet is ASCII").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_20_characters_and_never_the_same() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 20));
        assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))));
    }
}
