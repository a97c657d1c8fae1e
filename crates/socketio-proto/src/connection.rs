//! The server's side of one client: which namespaces are joined, and what closes the whole connection.
//!
//! The machine decides, the caller acts. A namespace has a *slot* from the moment it is asked for, so a burst of CONNECTs
//! cannot join it twice while middleware still thinks about the first.
//!
//! The rhythm: [`Decoder::decode`](crate::Decoder::decode) each message, give the packet to [`Connection::on_packet`] and do
//! what it says; tell [`Connection::reconstructing`] afterwards; sleep until [`Connection::deadline`], then call
//! [`Connection::on_time`] until it returns `None`.
//!
//! One rule differs from Node on purpose. When the server disconnects a namespace, packets that the client sent before it
//! knew are still on their way. Node closes the whole connection on their arrival, the other namespaces with it; here they
//! are ignored for [`Limits::disconnect_grace`](crate::Limits::disconnect_grace). Everything else about the state is Node's.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::value::{Map, Value};
use crate::{Limits, Packet, Payload, Revision, Violation};

/// The refusal of a namespace that does not exist, in Node's words.
pub const INVALID_NAMESPACE: &str = "Invalid namespace";
/// The refusal of a namespace beyond [`Limits::max_namespaces`].
pub const TOO_MANY_NAMESPACES: &str = "Too many namespaces";
/// The refusal of a namespace whose middleware took longer than [`Limits::connect_timeout`].
pub const JOIN_TIMEOUT: &str = "Timeout";

/// The namespaces of one connection. See the head of this module for how to drive it.
#[derive(Debug)]
pub struct Connection {
    revision: Revision,
    max_namespaces: usize,
    max_namespace_name: usize,
    connect_timeout: Duration,
    attachment_timeout: Duration,
    disconnect_grace: Duration,
    /// A free place is reused, by another slot.
    slots: Vec<Place>,
    /// Counts the requests for namespaces, so that a slot of long ago is not mistaken for its successor.
    next_generation: u32,
    /// What the server has disconnected lately and until when that matters, the oldest first.
    leaving: Vec<(Box<str>, Option<Instant>)>,
    /// When the connection is closed because it has not joined a namespace; `None` once it has.
    connect_by: Option<Instant>,
    /// When the attachments of a packet must have arrived.
    attachments_by: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    Pending { namespace: Box<str>, answer_by: Option<Instant> },
    Connected { namespace: Box<str> },
}

impl State {
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Free => None,
            Self::Pending { namespace, .. } | Self::Connected { namespace } => Some(namespace),
        }
    }
}

/// The right to one namespace of a [`Connection`], from the request to the end. Its successor in the same place is another
/// slot, so what is said too late about this one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    index: usize,
    generation: u32,
}

impl Slot {
    /// The place, below [`Limits::max_namespaces`](crate::Limits::max_namespaces), for a table beside the connection. No
    /// other slot has the same place at the same time.
    pub const fn index(self) -> usize {
        self.index
    }
}

/// What to do about a packet.
#[derive(Debug)]
pub enum Decision<'a> {
    /// A client asks for a namespace and its slot is reserved. Answer with [`Connection::accept`] and a CONNECT packet, or
    /// [`Connection::refuse`] and a CONNECT_ERROR packet ([`INVALID_NAMESPACE`] if there is no such namespace).
    ConnectRequest {
        /// The reserved slot.
        slot: Slot,
        /// The namespace, without a 2.x client's query.
        namespace: Cow<'a, str>,
        /// The client's `auth`: an object. For [`Revision::V4`] made of the query behind the name, as in Node.
        auth: Option<Payload<'a>>,
    },
    /// Send a CONNECT_ERROR with this message; no slot is taken.
    Refuse {
        /// The namespace that was asked for, however long it is.
        namespace: Cow<'a, str>,
        /// [`INVALID_NAMESPACE`] or [`TOO_MANY_NAMESPACES`].
        message: &'static str,
    },
    /// Hand the packet, an EVENT or ACK, to the socket in this slot.
    Deliver {
        /// The namespace's slot, which is connected.
        slot: Slot,
        /// The packet.
        packet: Packet<'a>,
    },
    /// The client has left the namespace: its socket ends with `client namespace disconnect`, the slot is free again.
    Disconnect {
        /// The slot that was freed.
        slot: Slot,
    },
    /// Do nothing: the packet was on its way when the server disconnected its namespace.
    Ignore,
    /// Close the whole connection. Nothing is sent; [`Violation::close_kind`] is the reason for its sockets.
    Close(Violation),
}

/// What has run out of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimedOut {
    /// Close the whole connection, as for [`Decision::Close`].
    Close(Violation),
    /// A namespace was not accepted in time: cancel what decides about it and send a CONNECT_ERROR with [`JOIN_TIMEOUT`].
    /// The slot is free.
    Join {
        /// The slot that was freed.
        slot: Slot,
        /// The namespace.
        namespace: String,
    },
}

impl Connection {
    /// A new connection. For [`Revision::V4`] call [`Connection::open`] next.
    pub fn new(revision: Revision, limits: &Limits, now: Instant) -> Self {
        Self {
            revision,
            max_namespaces: limits.max_namespaces,
            max_namespace_name: limits.max_namespace_name,
            connect_timeout: limits.connect_timeout,
            attachment_timeout: limits.attachment_timeout,
            disconnect_grace: limits.disconnect_grace,
            slots: Vec::new(),
            next_generation: 0,
            leaving: Vec::new(),
            connect_by: now.checked_add(limits.connect_timeout),
            attachments_by: None,
        }
    }

    /// The request that a 2.x client makes by connecting: `/`, without `auth`. `None` for [`Revision::V5`], whose clients
    /// ask themselves.
    pub fn open(&mut self, now: Instant) -> Option<Decision<'static>> {
        match self.revision {
            Revision::V4 => Some(self.connect(Cow::Borrowed("/"), None, now)),
            Revision::V5 => None,
        }
    }

    /// Decides what a packet of the client means.
    pub fn on_packet<'a>(&mut self, packet: Packet<'a>, now: Instant) -> Decision<'a> {
        if let Packet::Connect { namespace, data } = packet {
            let (namespace, auth) = match self.revision {
                Revision::V4 => split_query(namespace),
                Revision::V5 => (namespace, data),
            };
            return self.connect(namespace, auth, now);
        }
        if let Packet::ConnectError { .. } = packet {
            return Decision::Close(Violation::WrongDirection);
        }
        let namespace = match self.revision {
            Revision::V4 => without_query(packet.namespace()),
            Revision::V5 => packet.namespace(),
        };
        match self.find(namespace) {
            Some((slot, State::Connected { .. })) => match packet {
                Packet::Disconnect { .. } => {
                    self.free(slot);
                    Decision::Disconnect { slot }
                }
                packet => Decision::Deliver { slot, packet },
            },
            Some((_, State::Pending { .. } | State::Free)) => Decision::Close(Violation::NotConnected),
            None if self.is_leaving(namespace, now) => Decision::Ignore,
            None => Decision::Close(Violation::NotConnected),
        }
    }

    fn connect<'a>(&mut self, namespace: Cow<'a, str>, auth: Option<Payload<'a>>, now: Instant) -> Decision<'a> {
        if !is_valid_namespace(&namespace, self.max_namespace_name) {
            return Decision::Refuse { namespace, message: INVALID_NAMESPACE };
        }
        if self.find(&namespace).is_some() {
            return Decision::Close(Violation::AlreadyConnected);
        }
        let free = self.slots.iter().position(|place| matches!(place.state, State::Free));
        let index = free.unwrap_or(self.slots.len());
        if index >= self.max_namespaces {
            return Decision::Refuse { namespace, message: TOO_MANY_NAMESPACES };
        }
        // The client knows of the disconnection when it asks again, and what it sends from now on is meant.
        self.leaving.retain(|(left, _)| **left != *namespace);
        let answer_by = now.checked_add(self.connect_timeout);
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let place = Place { generation, state: State::Pending { namespace: namespace.as_ref().into(), answer_by } };
        match self.slots.get_mut(index) {
            Some(free) => *free = place,
            None => self.slots.push(place),
        }
        Decision::ConnectRequest { slot: Slot { index, generation }, namespace, auth }
    }

    /// The namespace is joined. Returns `false` when it is no longer asked for (the join took too long, the connection is
    /// closed): then there is no socket and nothing to send.
    pub fn accept(&mut self, slot: Slot) -> bool {
        let Some(place) = self.slots.get_mut(slot.index).filter(|place| place.generation == slot.generation) else {
            return false;
        };
        let State::Pending { namespace, .. } = &mut place.state else { return false };
        place.state = State::Connected { namespace: std::mem::take(namespace) };
        self.connect_by = None;
        true
    }

    /// The namespace is refused. Returns `false`, as [`Connection::accept`], when nothing is to be sent.
    pub fn refuse(&mut self, slot: Slot) -> bool {
        let pending = matches!(self.state(slot), Some(State::Pending { .. }));
        if pending {
            self.free(slot);
        }
        pending
    }

    /// The server disconnects one namespace: send a DISCONNECT packet; its socket ends with `server namespace disconnect`.
    /// Packets of the client that are on their way are ignored for a while. Returns `false` when it was not connected.
    pub fn disconnect(&mut self, slot: Slot, now: Instant) -> bool {
        if !matches!(self.state(slot), Some(State::Connected { .. })) {
            return false;
        }
        if let Some(State::Connected { namespace }) = self.free(slot) {
            self.leaving.retain(|(_, until)| !due(*until, now));
            if self.leaving.len() >= self.max_namespaces {
                self.leaving.remove(0);
            }
            self.leaving.push((namespace, now.checked_add(self.disconnect_grace)));
        }
        true
    }

    /// The connection ends, whoever wants it, and is not fed any more. Returns the slots that were connected, in order; requests that were pending
    /// are forgotten.
    ///
    /// When the server ends it in order (`disconnect(true)`, a shutdown), send each of these namespaces a DISCONNECT packet
    /// before closing the session below, and give the sockets the reason `server namespace disconnect`, as Node does. When
    /// a violation or the transport ended it nothing is sent.
    pub fn close(&mut self) -> Vec<(Slot, String)> {
        self.connect_by = None;
        self.attachments_by = None;
        self.leaving.clear();
        let connected = std::mem::take(&mut self.slots).into_iter().enumerate();
        connected
            .filter_map(|(index, Place { generation, state })| match state {
                State::Connected { namespace } => Some((Slot { index, generation }, namespace.into())),
                State::Pending { .. } | State::Free => None,
            })
            .collect()
    }

    /// Says after each message whether the decoder waits for attachments; the first time starts the deadline.
    pub fn reconstructing(&mut self, waiting: bool, now: Instant) {
        if !waiting {
            self.attachments_by = None;
        } else if self.attachments_by.is_none() {
            self.attachments_by = now.checked_add(self.attachment_timeout);
        }
    }

    /// Says what has run out of time; call again until `None`.
    pub fn on_time(&mut self, now: Instant) -> Option<TimedOut> {
        if due(self.connect_by, now) {
            self.connect_by = None;
            return Some(TimedOut::Close(Violation::ConnectTimeout));
        }
        if due(self.attachments_by, now) {
            self.attachments_by = None;
            return Some(TimedOut::Close(Violation::AttachmentTimeout));
        }
        let (slot, _) = self.places().find(|(_, state)| match state {
            State::Pending { answer_by, .. } => due(*answer_by, now),
            State::Connected { .. } | State::Free => false,
        })?;
        let namespace = self.free(slot)?.namespace()?.to_owned();
        Some(TimedOut::Join { slot, namespace })
    }

    /// When [`Connection::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let pending = self.places().filter_map(|(_, state)| match state {
            State::Pending { answer_by, .. } => *answer_by,
            State::Connected { .. } | State::Free => None,
        });
        pending.chain(self.connect_by).chain(self.attachments_by).min()
    }

    /// The protocol that the client speaks.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The namespace in this slot, joined or asked for.
    pub fn namespace(&self, slot: Slot) -> Option<&str> {
        self.state(slot)?.namespace()
    }

    /// The slot of a namespace that is joined.
    pub fn connected(&self, namespace: &str) -> Option<Slot> {
        match self.find(namespace)? {
            (slot, State::Connected { .. }) => Some(slot),
            _ => None,
        }
    }

    /// How many namespaces are joined.
    pub fn connected_count(&self) -> usize {
        self.places().filter(|(_, state)| matches!(state, State::Connected { .. })).count()
    }

    fn places(&self) -> impl Iterator<Item = (Slot, &State)> {
        let places = self.slots.iter().enumerate();
        places.map(|(index, place)| (Slot { index, generation: place.generation }, &place.state))
    }

    fn find(&self, namespace: &str) -> Option<(Slot, &State)> {
        self.places().find(|(_, state)| state.namespace() == Some(namespace))
    }

    fn state(&self, slot: Slot) -> Option<&State> {
        let place = self.slots.get(slot.index)?;
        (place.generation == slot.generation).then_some(&place.state)
    }

    fn free(&mut self, slot: Slot) -> Option<State> {
        let place = self.slots.get_mut(slot.index)?;
        Some(std::mem::replace(&mut place.state, State::Free))
    }

    fn is_leaving(&self, namespace: &str, now: Instant) -> bool {
        self.leaving.iter().any(|(left, until)| **left == *namespace && !due(*until, now))
    }
}

/// Whether a deadline has come; one that lies beyond what the clock can count never does.
fn due(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

/// Whether a namespace may have this name: it begins with `/`, has at most `max` bytes and no control characters.
pub fn is_valid_namespace(name: &str, max: usize) -> bool {
    name.starts_with('/') && name.len() <= max && !name.chars().any(char::is_control)
}

fn without_query(namespace: &str) -> &str {
    namespace.split_once('?').map_or(namespace, |(name, _)| name)
}

/// Splits what a 2.x client sends, `/admin?token=1`, into the name and the query as an object.
fn split_query<'a>(namespace: Cow<'a, str>) -> (Cow<'a, str>, Option<Payload<'a>>) {
    let Some((name, query)) = namespace.split_once('?') else { return (namespace, None) };
    let entries: Map = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key), percent_decode(value))
        })
        .collect();
    (Cow::Owned(name.to_owned()), Some(Value::Map(entries).into()))
}

/// Decodes `%41` and `+` of a query. What is no escape stays as it is, what is no text becomes U+FFFD.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = rest.clone();
                let hex = |digit: Option<u8>| char::from(digit.unwrap_or(b'x')).to_digit(16);
                match (hex(ahead.next()), hex(ahead.next())) {
                    (Some(high), Some(low)) => {
                        rest = ahead;
                        (high * 16 + low) as u8
                    }
                    _ => b'%',
                }
            }
            other => other,
        };
        bytes.push(decoded);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
