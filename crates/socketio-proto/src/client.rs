//! The client's side of a connection on paper: joining namespaces, recovery, and what a server may send.
//!
//! [`ClientConnection`] is one Manager's connection, or the lack of one: it survives reconnections. It is told that the
//! transport opened and closed, fed every packet, and answers with what that means ([`ClientDecision`]).
//! [`Backoff`] says how long to wait before the next attempt.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::value::{Map, Value};
use crate::{Args, Limits, OwnedArgs, Packet, Payload, Revision, Violation};

/// How long to wait between attempts to connect: the formula of the JavaScript client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay. Default: 1 s. Node: `reconnectionDelay`.
    pub delay: Duration,
    /// The longest delay. Default: 5 s. Node: `reconnectionDelayMax`.
    pub delay_max: Duration,
    /// How far a delay may deviate from its doubling, 0 to 1. Default: 0.5. Node: `randomizationFactor`.
    pub randomization_factor: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { delay: Duration::from_secs(1), delay_max: Duration::from_secs(5), randomization_factor: 0.5 }
    }
}

impl Backoff {
    /// The delay before the next attempt, when `attempts` have been made since the last success. `random` is in 0..1.
    ///
    /// One random number gives size and sign of the deviation, and the limit comes after it, as in JavaScript: with the
    /// defaults 500–1,500 ms, 1–3 s, 2–5 s, then nearly always 5 s. Whole milliseconds, and never none at all unless
    /// [`Backoff::delay_max`] is zero.
    pub fn duration(&self, attempts: u32, random: f64) -> Duration {
        let max = self.delay_max.as_millis().min(MAX_DELAY) as f64;
        // Beyond this the doubling is over any limit; JavaScript arrives at infinity, and from there at no delay at all.
        let doubled = self.delay.as_millis() as f64 * 2f64.powi(attempts.min(60) as i32);
        let random = random.clamp(0.0, 1.0);
        let deviation = (random * self.randomization_factor.clamp(0.0, 1.0) * doubled).floor();
        let later = (random * 10.0).floor() % 2.0 != 0.0;
        let ms = if later { doubled + deviation } else { doubled - deviation };
        Duration::from_millis(ms.clamp(1.0, max.max(1.0)).min(max) as u64)
    }
}

/// The namespaces of one client over one connection after the other.
#[derive(Debug)]
pub struct ClientConnection {
    revision: Revision,
    limits: Limits,
    open: bool,
    /// The session's id, of which a 2.x server makes those of the sockets.
    session: String,
    /// Ordered, so that the same story is told the same way.
    namespaces: BTreeMap<String, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    phase: Phase,
    id: String,
    /// The server's name for what can be recovered. Node: `pid`.
    session: Option<String>,
    /// The last event that the server has named.
    offset: Option<String>,
    recovered: bool,
    /// Events that came before the answer to CONNECT.
    held: Vec<(Option<u64>, OwnedArgs)>,
    held_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Not asked for, refused, or left.
    #[default]
    Idle,
    /// Wanted as soon as the transport is open.
    Waiting,
    /// CONNECT is on its way.
    Connecting {
        by: Instant,
    },
    Connected,
}

/// What a packet means.
#[derive(Debug)]
pub enum ClientDecision<'a> {
    /// The namespace is joined; [`ClientConnection::id`] and [`ClientConnection::recovered`] tell more, and
    /// [`ClientConnection::take_held`] gives the events that came too early.
    Connected {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// The server refuses the namespace. It is left alone until it is asked for again.
    Refused {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// What the server says; `None` when it says nothing.
        error: Option<Payload<'a>>,
    },
    /// The server speaks the protocol of Socket.IO 2.x, and we do not. As a refusal.
    OldServer {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// An event.
    Event {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The id under which the server awaits an answer.
        id: Option<u64>,
        /// The event.
        args: Args<'a>,
    },
    /// The answer to an event of ours.
    Ack {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// The id of the event.
        id: u64,
        /// The answer.
        args: Args<'a>,
    },
    /// The server has put us out of the namespace.
    Disconnected {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// Nothing: it was for a namespace that we are not in, or has been kept for later.
    Ignored,
}

impl ClientConnection {
    /// Nothing is open and no namespace wanted. [`Limits::connect_timeout`] is how long a server may take to answer a
    /// CONNECT.
    pub fn new(revision: Revision, limits: Limits) -> Self {
        Self { revision, limits, open: false, session: String::new(), namespaces: BTreeMap::new() }
    }

    /// A namespace is wanted. Returns whether its CONNECT is to be sent now: the transport is open.
    pub fn join(&mut self, namespace: &str) -> bool {
        let entry = self.namespaces.entry(namespace.to_owned()).or_default();
        if entry.phase == Phase::Idle {
            entry.phase = Phase::Waiting;
        }
        self.open && entry.phase == Phase::Waiting
    }

    /// A namespace is not wanted any more, and what could be recovered of it is forgotten. Returns whether a DISCONNECT is
    /// to be sent.
    pub fn leave(&mut self, namespace: &str) -> bool {
        let Some(entry) = self.namespaces.get_mut(namespace) else { return false };
        let left = self.open && matches!(entry.phase, Phase::Connected | Phase::Connecting { .. });
        *entry = Namespace::default();
        left
    }

    /// The id of the session that the transport has just opened.
    pub fn set_session(&mut self, id: &str) {
        if self.revision == Revision::V4 {
            id.clone_into(&mut self.session);
        }
    }

    /// The transport is open. Returns the namespaces whose CONNECT is to be sent.
    pub fn opened(&mut self) -> Vec<String> {
        self.open = true;
        let waiting = self.namespaces.iter().filter(|(_, entry)| entry.phase == Phase::Waiting);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// The transport is closed. Returns the namespaces that were connected; all that were wanted still are.
    pub fn closed(&mut self) -> Vec<String> {
        self.open = false;
        let mut lost = Vec::new();
        for (name, entry) in &mut self.namespaces {
            match entry.phase {
                Phase::Connected => lost.push(name.clone()),
                Phase::Connecting { .. } => {}
                Phase::Waiting | Phase::Idle => continue,
            }
            entry.phase = Phase::Waiting;
            entry.id.clear();
            entry.held = Vec::new();
            entry.held_bytes = 0;
        }
        lost
    }

    /// The CONNECT of a namespace is about to be sent. Returns its data: `auth` with what the server needs for a recovery,
    /// where the application's own fields win, as in JavaScript. `None` when no CONNECT is to be sent (2.x servers join `/`
    /// by themselves, and a namespace that is not wanted any more). For a 2.x server the data goes into the namespace's
    /// query: [`namespace_with_query`].
    pub fn connecting(&mut self, now: Instant, namespace: &str, auth: Option<Value>) -> Option<Option<Value>> {
        let by = now + self.limits.connect_timeout;
        let entry = self.namespaces.get_mut(namespace).filter(|entry| self.open && entry.phase == Phase::Waiting)?;
        entry.phase = Phase::Connecting { by };
        if self.revision == Revision::V4 {
            return (namespace != "/").then_some(auth);
        }
        let Some(session) = &entry.session else { return Some(auth) };
        let mut data = Map::new();
        data.insert("pid", session.as_str());
        if let Some(offset) = &entry.offset {
            data.insert("offset", offset.as_str());
        }
        if let Some(Value::Map(auth)) = auth {
            for (key, value) in auth.iter() {
                data.insert(key, value.clone());
            }
        }
        Some(Some(Value::Map(data)))
    }

    /// The auth of a namespace could not be had: it is left alone until it is asked for again.
    pub fn give_up(&mut self, namespace: &str) {
        if let Some(entry) = self.namespaces.get_mut(namespace) {
            entry.phase = Phase::Idle;
        }
    }

    /// A packet came.
    ///
    /// # Errors
    /// The [`Violation`] that ends the connection.
    pub fn handle<'a>(&mut self, packet: Packet<'a>) -> Result<ClientDecision<'a>, Violation> {
        match packet {
            Packet::Connect { namespace, data } => self.on_connect(namespace, data),
            Packet::ConnectError { namespace, data } => {
                let Some(entry) = self.connecting_entry(&namespace) else { return Ok(ClientDecision::Ignored) };
                entry.phase = Phase::Idle;
                Ok(ClientDecision::Refused { namespace, error: data })
            }
            Packet::Disconnect { namespace } => {
                let Some(entry) = self.namespaces.get_mut(&*namespace) else { return Ok(ClientDecision::Ignored) };
                if !matches!(entry.phase, Phase::Connected | Phase::Connecting { .. }) {
                    return Ok(ClientDecision::Ignored);
                }
                *entry = Namespace::default();
                Ok(ClientDecision::Disconnected { namespace })
            }
            Packet::Event { namespace, id, args } => {
                let Some(entry) = self.namespaces.get_mut(&*namespace) else { return Ok(ClientDecision::Ignored) };
                match entry.phase {
                    Phase::Connected => {
                        entry.note_offset(id, &args);
                        Ok(ClientDecision::Event { namespace, id, args })
                    }
                    Phase::Connecting { .. } => {
                        entry.held_bytes += args.encoded_len();
                        if entry.held.len() >= MAX_HELD || entry.held_bytes > MAX_HELD_BYTES {
                            return Err(Violation::NotConnected);
                        }
                        entry.held.push((id, args.into_owned()));
                        Ok(ClientDecision::Ignored)
                    }
                    Phase::Idle | Phase::Waiting => Ok(ClientDecision::Ignored),
                }
            }
            Packet::Ack { namespace, id, args } => {
                let connected = self.namespaces.get(&*namespace).is_some_and(|entry| entry.phase == Phase::Connected);
                match id {
                    Some(id) if connected => Ok(ClientDecision::Ack { namespace, id, args }),
                    _ => Ok(ClientDecision::Ignored),
                }
            }
        }
    }

    fn on_connect<'a>(
        &mut self,
        namespace: Cow<'a, str>,
        data: Option<Payload<'a>>,
    ) -> Result<ClientDecision<'a>, Violation> {
        let v4 = self.revision == Revision::V4;
        // A 2.x server joins us to `/` before we have asked.
        let early = v4 && namespace == "/";
        let Some(entry) = self.namespaces.get_mut(&*namespace) else { return Ok(ClientDecision::Ignored) };
        match entry.phase {
            Phase::Connecting { .. } => {}
            Phase::Waiting if early => {}
            Phase::Connected => return Err(Violation::AlreadyConnected),
            Phase::Idle | Phase::Waiting => return Ok(ClientDecision::Ignored),
        }
        if v4 {
            entry.phase = Phase::Connected;
            entry.id = if early { self.session.clone() } else { format!("{namespace}#{}", self.session) };
            return Ok(ClientDecision::Connected { namespace });
        }
        #[derive(serde::Deserialize)]
        struct Joined {
            sid: String,
            pid: Option<String>,
        }
        let Some(data) = data else {
            entry.phase = Phase::Idle;
            return Ok(ClientDecision::OldServer { namespace });
        };
        let Joined { sid, pid } = data.deserialize().map_err(|_| Violation::Payload)?;
        if sid.is_empty() || sid.len() > MAX_ID_LEN || pid.as_ref().is_some_and(|pid| pid.len() > MAX_ID_LEN) {
            return Err(Violation::Payload);
        }
        entry.recovered = pid.is_some() && pid == entry.session;
        if !entry.recovered {
            entry.offset = None;
        }
        entry.session = pid;
        entry.id = sid;
        entry.phase = Phase::Connected;
        Ok(ClientDecision::Connected { namespace })
    }

    /// The events that came before the answer to CONNECT, in order.
    pub fn take_held(&mut self, namespace: &str) -> Vec<(Option<u64>, OwnedArgs)> {
        let Some(entry) = self.namespaces.get_mut(namespace) else { return Vec::new() };
        entry.held_bytes = 0;
        let held = std::mem::take(&mut entry.held);
        for (id, args) in &held {
            entry.note_offset(*id, args);
        }
        held
    }

    /// By when the server must have answered the oldest CONNECT.
    pub fn deadline(&self) -> Option<Instant> {
        self.namespaces
            .values()
            .filter_map(|entry| match entry.phase {
                Phase::Connecting { by } => Some(by),
                _ => None,
            })
            .min()
    }

    /// Whether the namespace is joined.
    pub fn is_connected(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|entry| entry.phase == Phase::Connected)
    }

    /// Whether the namespace is joined or will be. Node: `active`.
    pub fn is_active(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|entry| entry.phase != Phase::Idle)
    }

    /// Whether any namespace is.
    pub fn is_any_active(&self) -> bool {
        self.namespaces.values().any(|entry| entry.phase != Phase::Idle)
    }

    /// The id of our socket in the namespace, while it is joined. With a 2.x server it follows from the session's.
    pub fn id(&self, namespace: &str) -> Option<&str> {
        self.namespaces.get(namespace).filter(|entry| entry.phase == Phase::Connected).map(|entry| entry.id.as_str())
    }

    /// Whether the last connection took up where the one before had ended. Node: `recovered`.
    pub fn recovered(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|entry| entry.recovered)
    }

    fn connecting_entry(&mut self, namespace: &str) -> Option<&mut Namespace> {
        self.namespaces.get_mut(namespace).filter(|entry| matches!(entry.phase, Phase::Connecting { .. }))
    }
}

impl Namespace {
    /// The last argument of an event is its offset, if it is a string. Events that want an answer have none.
    fn note_offset(&mut self, id: Option<u64>, args: &Args<'_>) {
        if self.session.is_none() || id.is_some() || args.is_empty() {
            return;
        }
        let offset = match args.as_json() {
            Some(json) => last_string(json),
            None => match args.values().ok().and_then(|mut values| values.pop()) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            },
        };
        if let Some(offset) = offset.filter(|offset| offset.len() <= MAX_ID_LEN) {
            self.offset = Some(offset);
        }
    }
}

/// The last element of a JSON list, if it is a string. `json` is a list that has been checked.
fn last_string(json: &str) -> Option<String> {
    let inner = json.trim_end().strip_suffix(']')?.trim_end();
    let body = inner.strip_suffix('"')?;
    // The quote that opens it is the last one that no odd number of backslashes stands before.
    let mut end = body.len();
    loop {
        let at = body.get(..end)?.rfind('"')?;
        let before = body.get(..at)?;
        let backslashes = before.len() - before.trim_end_matches('\\').len();
        if backslashes.is_multiple_of(2) {
            return serde_json::from_str(inner.get(at..)?).ok();
        }
        end = at;
    }
}

/// The name of a namespace in the CONNECT to a 2.x server, which takes the application's auth as a query:
/// `/admin?token=secret`. What is neither text, number nor boolean goes as JSON.
pub fn namespace_with_query(namespace: &str, auth: Option<&Value>) -> String {
    let mut name = namespace.to_owned();
    for (key, value) in auth.and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        name.push(if name.len() == namespace.len() { '?' } else { '&' });
        push_encoded(&mut name, key);
        name.push('=');
        match value {
            Value::String(text) => push_encoded(&mut name, text),
            Value::Null => {}
            other => push_encoded(&mut name, &serde_json::to_string(other).unwrap_or_default()),
        }
    }
    name
}

/// As `encodeURIComponent` does.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
}

/// 24.8 days, what a JavaScript timer can count.
const MAX_DELAY: u128 = i32::MAX as u128;
/// The longest id, session or offset that a server may give us.
const MAX_ID_LEN: usize = 256;
/// How much may come before the answer to CONNECT.
const MAX_HELD: usize = 8_192;
const MAX_HELD_BYTES: usize = 4 << 20;
