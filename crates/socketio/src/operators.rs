//! Addressing many sockets: `io.to("room").except("muted").volatile().emit(…)`.

use std::sync::Arc;
use std::time::Duration;

use engineio::Fanout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use socketio_adapter::cluster::{Message, News, Target};
use socketio_adapter::{BroadcastFlags, IntoRooms, RoomNames, Selection};
use socketio_core::Event;

use crate::acks::AckStream;
use crate::broadcast::{Delivery, Frames};
use crate::cluster::REQUEST_TIMEOUT;
use crate::nsp::Nsp;
use crate::outgoing::Announcement;
use crate::{Action, Broadcasted, EmitError, FetchedSockets, Joined, RemoteSocket, Socket};

/// A group of sockets and the way to reach them.
///
/// Made by [`SocketIo`](crate::SocketIo), [`NamespaceHandle`](crate::NamespaceHandle) and [`Socket`]. Every method takes
/// the group and gives a narrower one back; nothing is looked up before the last call. Rooms given by several `to` are
/// united; a socket in several of them is reached once.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct Operators {
    namespaces: SmallVec<[Arc<Nsp>; 1]>,
    selection: Selection,
    flags: BroadcastFlags,
    /// In whose name, where somebody is to be asked.
    sender: Option<Socket>,
}

impl Operators {
    pub(crate) fn new(namespace: Arc<Nsp>) -> Self {
        Self::over(std::iter::once(namespace).collect())
    }

    pub(crate) fn over(namespaces: SmallVec<[Arc<Nsp>; 1]>) -> Self {
        Self { namespaces, selection: Selection::everybody(), flags: BroadcastFlags::default(), sender: None }
    }

    pub(crate) fn flagged(mut self, flags: BroadcastFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Sends in the name of a socket.
    pub(crate) fn in_the_name_of(mut self, socket: Socket) -> Self {
        self.sender = Some(socket);
        self
    }

    /// Whether the sender may send this, to every room of the group.
    fn allowed(&self, event: &str) -> Result<(), EmitError> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let rooms = &self.selection.rooms;
        let everybody = rooms.is_empty().then_some(None);
        for room in rooms.iter().map(Some).chain(everybody) {
            let action = Action::Emit { room: room.map(|room| &**room), event };
            if sender.forbids_and_tells(&action) {
                return Err(EmitError::Denied);
            }
            sender.may_send_to(room).map_err(|retry_after| EmitError::RateLimited { retry_after })?;
        }
        Ok(())
    }

    pub(crate) fn selecting(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Addresses the sockets in these rooms (too). Node: `to`.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        self.selection = self.selection.to(rooms);
        self
    }

    /// The same as [`to`](Self::to). Node: `in`.
    pub fn in_(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// Leaves out the sockets in these rooms. Node: `except`.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        self.selection = self.selection.except(rooms);
        self
    }

    /// Reaches sockets of this server only, not of the cluster. Node: `local`.
    pub fn local(mut self) -> Self {
        self.flags.local = true;
        self
    }

    /// Drops the event for a client that cannot take it at once. Node: `volatile`.
    pub fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// Whether transports may compress the event. Default: `true`. Node: `compress`.
    pub fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// How long [`emit_with_ack`](Self::emit_with_ack) waits. Default: the server's `ack_timeout`. Node: `timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Sends an event to every socket of the group.
    ///
    /// A tuple is several arguments, anything else one. The event is encoded once for all, and not at all for an empty
    /// group. With an [`adapter`](crate::Builder::adapter) it goes to the other servers too, after the sockets of this one have it.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Broadcasted {
        let mut outcome = Broadcasted { result: self.allowed(event), recipients: 0, refused: 0 };
        if outcome.result.is_err() {
            return outcome;
        }
        for namespace in &self.namespaces {
            if let Some(log) = namespace.shared().filter(|_| !self.flags.local && !self.flags.volatile) {
                outcome.recipients +=
                    Self::new(Arc::clone(namespace)).selecting(self.selection.clone()).sockets().len();
                if let Err(error) = log.emit(event, &args, &self.selection, &self.flags) {
                    outcome.result = Err(error);
                }
                continue;
            }
            if let Err(error) = self.emit_in(namespace, event, &args, &mut outcome) {
                outcome.result = Err(error);
                break;
            }
            if let Some(part) = namespace.part.get()
                && !self.flags.local
                && let Err(error) = part.broadcast(event, &args, &self.selection, &self.flags)
            {
                outcome.result = Err(error);
            }
        }
        outcome
    }

    /// Sends the event `message` to every socket of the group. Node: `send`, `write`.
    pub fn send(&self, args: impl Serialize) -> Broadcasted {
        self.emit("message", args)
    }

    /// Sends a typed event to every socket of the group.
    pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) -> Broadcasted {
        self.emit(E::NAME, event.args())
    }

    /// Sends an event to every socket of the group and collects their answers.
    ///
    /// The event is queued at once. `R` is the type of one answer: a tuple for several arguments.
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckStream<R> {
        let timeout = self.flags.timeout.or_else(|| self.namespaces.first().map(|nsp| nsp.env.ack_timeout));
        let mut stream = AckStream::new(timeout.unwrap_or_default());
        let cluster_wait = timeout.unwrap_or_default();
        if let Err(error) = self.allowed(event) {
            stream.fail(error);
            return stream;
        }
        for namespace in &self.namespaces {
            let id = namespace.next_ack_id();
            let mut frames = None;
            let mut announcement = Announcement::default();
            let mut fanout = Fanout::new();
            let mut recipients = namespace.rooms.lock().snapshot(&self.selection).recipients();
            while let Some(socket) = recipients.next_ref() {
                if !socket.connected() {
                    continue;
                }
                let encoded = match &frames {
                    Some(frames) => frames,
                    None => match self.encode(namespace, Some(id), event, &args) {
                        Ok(encoded) => frames.insert(encoded),
                        Err(error) => {
                            stream.fail(error);
                            return stream;
                        }
                    },
                };
                if let Err(error) = socket.0.await_ack(id, stream.waiter()) {
                    stream.not_asked(socket, error);
                    continue;
                }
                let delivery = match namespace.shared() {
                    Some(log) => log.send(socket, encoded.clone(), self.flags.volatile),
                    None => socket.deliver_in(&mut fanout, encoded, self.flags.volatile),
                };
                let error = match delivery {
                    Delivery::Queued => {
                        stream.asked(id, socket);
                        announcement.of(socket, event, &args);
                        continue;
                    }
                    Delivery::Dropped => EmitError::Dropped,
                    Delivery::Refused(error) => error.into(),
                };
                // An answer from the table means that the socket left meanwhile and the stream was told.
                if socket.0.forget_ack(id) {
                    stream.not_asked(socket, error);
                } else {
                    stream.asked(id, socket);
                }
            }
            drop(fanout);
            if let Some(part) = namespace.part.get()
                && !self.flags.local
            {
                match part.broadcast_with_ack(event, &args, &self.selection, &self.flags, cluster_wait) {
                    Ok(asked) => stream.asked_elsewhere(asked),
                    Err(error) => stream.fail(error),
                }
            }
        }
        stream.sealed()
    }

    /// The sockets of the group on this server, at this moment.
    pub fn sockets(&self) -> Vec<Socket> {
        let mut sockets = Vec::new();
        for namespace in &self.namespaces {
            let members = namespace.rooms.lock().snapshot(&self.selection).recipients();
            sockets.extend(members.filter(Socket::connected));
        }
        sockets
    }

    /// The sockets of the group as the cluster sees them, with their handshakes, rooms and data; without an adapter those of this server.
    ///
    /// Other servers are waited for during [`timeout`](Self::timeout), 5 s if none was set. Who has not answered then is missing:
    /// [`fetch`](Self::fetch) tells how many. Node: `fetchSockets`, which rejects in that case.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn fetch_sockets(&self) -> Vec<RemoteSocket> {
        self.fetch().await.sockets
    }

    /// [`fetch_sockets`](Self::fetch_sockets) with the number of servers that have not answered.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn fetch(&self) -> FetchedSockets {
        let timeout = self.flags.timeout.unwrap_or(REQUEST_TIMEOUT);
        let mut asked = Vec::new();
        let mut fetched = FetchedSockets { sockets: Vec::new(), missing: 0 };
        for namespace in &self.namespaces {
            let local = Self::new(Arc::clone(namespace)).selecting(self.selection.clone());
            fetched.sockets.extend(local.sockets().into_iter().map(RemoteSocket::local));
            if let Some(part) = namespace.part.get()
                && !self.flags.local
            {
                match part.fetch(&self.selection, timeout) {
                    Ok(asking) => asked.push((Arc::clone(namespace), asking)),
                    Err(_) => fetched.missing += 1,
                }
            }
        }
        for (namespace, mut asked) in asked {
            while let Some(news) = asked.next().await {
                if let News::Sockets(sockets) = news {
                    let remote = |socket| RemoteSocket::elsewhere(Arc::clone(&namespace), socket);
                    fetched.sockets.extend(sockets.into_iter().map(remote));
                }
            }
            fetched.missing += asked.missing_servers;
        }
        fetched
    }

    /// Puts all sockets of the group into rooms. Node: `socketsJoin`.
    pub fn sockets_join(&self, rooms: impl IntoRooms) -> Joined {
        let rooms: RoomNames = rooms.into_rooms();
        let mut result = Ok(());
        for socket in self.sockets() {
            if let Err(error) = socket.join_unasked(rooms.clone()).result() {
                result = Err(error);
            }
        }
        self.tell(|selection| Message::Join { selection, rooms: rooms.clone() });
        Joined::new(result, self.namespaces.first().map(|namespace| &**namespace))
    }

    /// Takes all sockets of the group out of rooms. Node: `socketsLeave`.
    pub fn sockets_leave(&self, rooms: impl IntoRooms) -> Joined {
        let rooms: RoomNames = rooms.into_rooms();
        for socket in self.sockets() {
            socket.leave(rooms.clone());
        }
        self.tell(|selection| Message::Leave { selection, rooms: rooms.clone() });
        Joined::new(Ok(()), self.namespaces.first().map(|namespace| &**namespace))
    }

    /// Disconnects all sockets of the group; with `close` their whole connections. Node: `disconnectSockets`.
    pub fn disconnect_sockets(&self, close: bool) {
        for socket in self.sockets() {
            socket.disconnect(close);
        }
        self.tell(|selection| Message::Disconnect { selection, close });
    }

    /// Tells the other servers. A message that is not sent is counted.
    fn tell(&self, message: impl Fn(Selection) -> Message) {
        if self.flags.local {
            return;
        }
        for part in self.namespaces.iter().filter_map(|namespace| namespace.part.get()) {
            drop(part.publish(message(self.selection.clone()), Target::Everybody));
        }
    }

    fn emit_in(
        &self,
        namespace: &Arc<Nsp>,
        event: &str,
        args: &impl Serialize,
        outcome: &mut Broadcasted,
    ) -> Result<(), EmitError> {
        if let Some(recovery) = &namespace.recovery {
            return recovery.broadcast(namespace, &self.selection, &self.flags, event, args, outcome);
        }
        let bursts = &namespace.bursts;
        let mut frames: Option<Frames> = None;
        if !self.flags.volatile && bursts.may_follow(&self.selection) {
            let encoded = frames.insert(self.encode(namespace, None, event, args)?);
            if let Some(recipients) = bursts.follow(&self.selection, encoded) {
                outcome.recipients += recipients;
                return Ok(());
            }
        }
        let mut opening = bursts.open();
        let snapshot = namespace.rooms.lock().snapshot(&self.selection);
        let most = snapshot.upper_bound();
        let mut recipients = snapshot.recipients();
        let mut announcement = Announcement::default();
        let mut fanout = Fanout::new();
        let (before, mut started) = (outcome.recipients, self.flags.volatile);
        while let Some(socket) = recipients.next_ref() {
            if !socket.connected() {
                continue;
            }
            let encoded = match &frames {
                Some(frames) => frames,
                None => frames.insert(self.encode(namespace, None, event, args)?),
            };
            if !started {
                started = true;
                opening.start(most, encoded);
            }
            let delivery = match self.flags.volatile {
                true => socket.deliver_in(&mut fanout, encoded, true),
                false => socket.deliver_burst(&mut fanout, &opening, encoded),
            };
            match delivery {
                Delivery::Queued => {
                    outcome.recipients += 1;
                    if socket.is_overheard() {
                        opening.ends_here();
                        announcement.of(socket, event, args);
                    }
                }
                Delivery::Dropped | Delivery::Refused(_) => outcome.refused += 1,
            }
        }
        bursts.publish(opening, &self.selection, outcome.recipients - before);
        Ok(())
    }

    fn encode(
        &self,
        namespace: &Nsp,
        id: Option<u64>,
        event: &str,
        args: &impl Serialize,
    ) -> Result<Frames, EmitError> {
        namespace.env.encode_event(&namespace.name, id, event, args, self.flags.compress)
    }
}
