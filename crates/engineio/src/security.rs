//! What clients were refused, which rules they broke and which limits they reached: one stream for logs, metrics and tools
//! that block addresses.
//!
//! A [`SecurityLog`] is shared by all layers of a server, and each tells it what it alone knows: this crate about requests,
//! transports and sessions, the crates above it about namespaces, events and credentials. What has one cause is told once.
//!
//! To tell of something new: add a row to [`SecurityKind`] if no kind fits, and call [`SecurityLog::report`] where it happens,
//! with a reason that is a constant. A refused request whose answer is made deep inside is marked with [`mark`] and told where
//! the answer leaves. Nothing that is secret may get into an event: no token, no whole session id, no payload.

use std::{
    borrow::Cow,
    fmt,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use engineio_proto::{
    request::Refusal,
    session::{CloseReason, UPGRADE_TIMEOUT},
};
use http::{Response, StatusCode};
use parking_lot::RwLock;
use tokio::sync::broadcast;

use crate::Session;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// What an event is about. Each kind has a counter: [`SecurityLog::count`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum SecurityKind {
            $($(#[$doc])* $kind,)*
        }

        impl SecurityKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The kind in one word, for metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// A request was refused because it does not follow the protocol, or by `allow_request`.
    RequestRefused = "request_refused",
    /// A request came from a page of another site, or for another host.
    OriginRefused = "origin_refused",
    /// A client was refused a namespace: there is none, too many, time, or middleware said so.
    ConnectRefused = "connect_refused",
    /// An event was refused: its arguments did not fit, or middleware said so.
    EventRefused = "event_refused",
    /// Credentials were missing, wrong or out of date.
    AuthRefused = "auth_refused",
    /// Credentials that had been accepted have expired; the socket was disconnected.
    AuthExpired = "auth_expired",
    /// A client may not do what it asked for, or what was done in its name.
    PolicyDenied = "policy_denied",
    /// The data of an event did not pass validation.
    Invalid = "invalid",
    /// Something came too often.
    RateLimited = "rate_limited",
    /// A limit of size, count or time was reached.
    LimitReached = "limit_reached",
    /// A client left the protocol; its session was closed.
    Violation = "violation",
}

/// Something that a client was refused, a rule that it broke, or a limit that it reached.
///
/// `Display` is one line for a log, [`to_json`](Self::to_json) one for a program. What clients choose (names of namespaces,
/// events, rooms) is escaped there and cut to [`LONGEST_NAME`](Self::LONGEST_NAME) bytes. There is no secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityEvent {
    /// What it is about.
    pub kind: SecurityKind,
    /// What exactly: a word or a short phrase of the server's or application's own, `max_payload` for example.
    pub reason: Cow<'static, str>,
    /// When it happened.
    pub time: SystemTime,
    /// The address of the client, where it is known.
    pub address: Option<IpAddr>,
    /// The first characters of the session's id: enough to find it in a log, too few to use it.
    pub session: Option<Box<str>>,
    /// The namespace.
    pub namespace: Option<Box<str>>,
    /// What it was about beyond that: the name of an event or a room.
    pub subject: Option<Box<str>>,
}

impl SecurityEvent {
    /// How many bytes of a name are kept.
    pub const LONGEST_NAME: usize = 64;

    /// An event that happens now.
    pub fn new(kind: SecurityKind, reason: impl Into<Cow<'static, str>>) -> Self {
        let time = SystemTime::now();
        Self { kind, reason: reason.into(), time, address: None, session: None, namespace: None, subject: None }
    }

    /// Adds the address of the client. IPv4 in the clothes of IPv6 is IPv4.
    #[must_use]
    pub fn address(mut self, address: Option<IpAddr>) -> Self {
        self.address = address.map(|address| address.to_canonical());
        self
    }

    /// Adds the session: the beginning of its id, and the address of its peer unless there is one already.
    #[must_use]
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.short_id().into());
        if self.address.is_none() {
            return self.address(session.handshake().remote_addr().map(|address| address.ip()));
        }
        self
    }

    /// Adds the name of the namespace.
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespace = Some(cut(name).into());
        self
    }

    /// Adds the name of an event or a room.
    #[must_use]
    pub fn subject(mut self, name: &str) -> Self {
        self.subject = Some(cut(name).into());
        self
    }

    /// One line of JSON: `{"time":…,"kind":…,"reason":…,"address"?,"session"?,"namespace"?,"subject"?}`, the time in
    /// milliseconds since 1970.
    pub fn to_json(&self) -> String {
        let time = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut json = format!(r#"{{"time":{time},"kind":"{}","reason":"#, self.kind);
        quote(&mut json, &self.reason);
        let address = self.address.map(|address| address.to_string());
        let optional = [
            ("address", address.as_deref()),
            ("session", self.session.as_deref()),
            ("namespace", self.namespace.as_deref()),
            ("subject", self.subject.as_deref()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                json.push_str(&format!(r#","{name}":"#));
                quote(&mut json, value);
            }
        }
        json.push('}');
        json
    }
}

/// The beginning of a name that a client chose.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(SecurityEvent::LONGEST_NAME)]
}

fn quote(json: &mut String, text: &str) {
    json.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            char if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                json.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            char => json.push(char),
        }
    }
    json.push('"');
}

impl fmt::Display for SecurityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for SecurityEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " address={address}")?;
        }
        write!(f, " reason={:?}", self.reason)?;
        if let Some(session) = &self.session {
            write!(f, " session={session}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " namespace={namespace:?}")?;
        }
        if let Some(subject) = &self.subject {
            write!(f, " subject={subject:?}")?;
        }
        Ok(())
    }
}

/// Is told of security events.
type Hook = Arc<dyn Fn(&SecurityEvent) + Send + Sync>;

/// Where the layers of a server tell what happened, and where others hear of it. Cloning it is cheap.
///
/// It always counts. An event is only made where somebody listens.
#[derive(Clone, Default)]
pub struct SecurityLog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counts: [AtomicU64; SecurityKind::ALL.len()],
    heard: AtomicBool,
    // Guards the list. Never held while a hook runs.
    hooks: RwLock<Arc<[Hook]>>,
    /// Made for the first who subscribes.
    events: OnceLock<broadcast::Sender<SecurityEvent>>,
}

/// How many events wait for a listener that is slow.
const WAITING: usize = 1_024;

impl SecurityLog {
    /// A log that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of something that happens now. `fill` adds what is known about it; it is not called where nobody listens.
    pub fn report(
        &self,
        kind: SecurityKind,
        reason: impl Into<Cow<'static, str>>,
        fill: impl FnOnce(SecurityEvent) -> SecurityEvent,
    ) {
        self.0.counts[kind as usize].fetch_add(1, Relaxed);
        if self.0.heard.load(Relaxed) {
            self.tell(fill(SecurityEvent::new(kind, reason)));
        }
    }

    fn tell(&self, event: SecurityEvent) {
        let hooks = Arc::clone(&self.0.hooks.read());
        for hook in &*hooks {
            // A hook that panics costs nobody anything.
            if catch_unwind(AssertUnwindSafe(|| hook(&event))).is_err() {
                tracing::error!("a hook for security events panicked");
            }
        }
        if let Some(events) = self.0.events.get() {
            // Nobody listens at the moment.
            let _ = events.send(event);
        }
    }

    /// Calls `hook` for every event. It runs where the event happens, often on the task of a connection: be short.
    pub fn on_event(&self, hook: impl Fn(&SecurityEvent) + Send + Sync + 'static) {
        let mut hooks = self.0.hooks.write();
        *hooks = hooks.iter().cloned().chain([Arc::new(hook) as Hook]).collect();
        self.0.heard.store(true, Relaxed);
    }

    /// All events from now on, for a task of their own. Up to 1,024 wait for it; what it misses is counted.
    pub fn subscribe(&self) -> SecurityEvents {
        let receiver = self.0.events.get_or_init(|| broadcast::Sender::new(WAITING)).subscribe();
        self.0.heard.store(true, Relaxed);
        SecurityEvents { receiver, lost: 0 }
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.heard.load(Relaxed)
    }

    /// How many events of a kind there were.
    pub fn count(&self, kind: SecurityKind) -> u64 {
        self.0.counts[kind as usize].load(Relaxed)
    }

    /// How many events of each kind there were.
    pub fn counts(&self) -> impl Iterator<Item = (SecurityKind, u64)> + '_ {
        SecurityKind::ALL.iter().map(|kind| (*kind, self.count(*kind)))
    }
}

impl fmt::Debug for SecurityLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counts().filter(|(_, count)| *count > 0)).finish()
    }
}

/// Security events as they come. Made by [`SecurityLog::subscribe`].
#[derive(Debug)]
pub struct SecurityEvents {
    receiver: broadcast::Receiver<SecurityEvent>,
    lost: u64,
}

impl SecurityEvents {
    /// The next event; `None` when the server and all its connections are gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<SecurityEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(lost)) => self.lost += lost,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<SecurityEvent> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(lost)) => self.lost += lost,
                Err(_) => return None,
            }
        }
    }

    /// How many events came and went because this listener was too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Why a request is answered with a refusal; taken off the answer before it leaves.
#[derive(Clone)]
struct Mark(SecurityKind, &'static str);

/// Says for what an answer will be told as a security event.
pub(crate) fn mark(response: &mut Response<Bytes>, kind: SecurityKind, reason: &'static str) {
    response.extensions_mut().insert(Mark(kind, reason));
}

/// What is to be told of an answer: its mark, or what its status says. Answers to requests whose session ends are told with
/// the session.
pub(crate) fn of_answer(
    response: &mut Response<Bytes>,
    limit: Option<&'static str>,
) -> Option<(SecurityKind, &'static str)> {
    if let Some(Mark(kind, reason)) = response.extensions_mut().remove() {
        return Some((kind, reason));
    }
    if let Some(limit) = limit {
        return Some((of_limit(limit), limit));
    }
    Some(match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => (SecurityKind::RequestRefused, "method"),
        StatusCode::PAYLOAD_TOO_LARGE => (SecurityKind::LimitReached, "max_payload"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (SecurityKind::RequestRefused, "compressed_body"),
        StatusCode::MISDIRECTED_REQUEST => (SecurityKind::OriginRefused, "host"),
        StatusCode::SERVICE_UNAVAILABLE => (SecurityKind::LimitReached, "unavailable"),
        _ => return None,
    })
}

/// Whether a limit is one of rates.
fn of_limit(name: &str) -> SecurityKind {
    if name.contains("rate") { SecurityKind::RateLimited } else { SecurityKind::LimitReached }
}

/// What is to be told of a connection that ended before there was a request on it.
pub(crate) fn of_connection(reason: &'static str) -> SecurityKind {
    match reason {
        "tls_failed" | "bad_head" | "http2_preface" => SecurityKind::Violation,
        limit => of_limit(limit),
    }
}

/// What is to be told of a refusal with a number of the protocol.
pub(crate) fn of_refusal(refusal: &Refusal) -> (SecurityKind, &'static str) {
    let reason = match refusal {
        Refusal::UnknownTransport => "unknown_transport",
        Refusal::UnknownSid => "unknown_sid",
        Refusal::BadHandshakeMethod => "bad_handshake_method",
        Refusal::BadRequest(cause) => cause.name(),
        Refusal::Forbidden(_) => "allow_request",
        Refusal::UnsupportedProtocolVersion => "unsupported_protocol_version",
    };
    (SecurityKind::RequestRefused, reason)
}

/// What is to be told of a client that sends faster than it may, and is only read more slowly.
pub(crate) const TOO_FAST: (SecurityKind, &str) = (SecurityKind::RateLimited, "traffic");

/// What is to be told of a WebSocket that came to carry a session and was let go.
pub(crate) fn of_candidate(why: &'static str) -> (SecurityKind, &'static str) {
    match why {
        UPGRADE_TIMEOUT => (SecurityKind::LimitReached, "upgrade_timeout"),
        why => (SecurityKind::Violation, why),
    }
}

/// What is to be told of the end of a session that the application did not bring about; nothing of the ordinary ends.
pub(crate) fn of_close(reason: CloseReason) -> Option<(SecurityKind, &'static str)> {
    let what = match reason {
        CloseReason::ParseError(code) => return Some((SecurityKind::Violation, code)),
        CloseReason::TransportError(what) => what,
        _ => return None,
    };
    let limit = match what {
        "rate limit" => return Some(TOO_FAST),
        "slow consumer" => "slow_consumer",
        "write timeout" => "write_timeout",
        "a message took too long" => "message_timeout",
        "the body came too slowly" => "body_timeout",
        "message is too big" => "max_payload",
        "too many fragments" => "max_fragments",
        "no request after the handshake" => "first_activity_timeout",
        "too many sessions without a second request" => "max_pending_sessions",
        // The client went away, or the fault is the server's own.
        "poll connection closed prematurely"
        | "data request connection closed prematurely"
        | "internal error"
        | "handler stall"
        | "a handler panicked"
        | "write error" => return None,
        violation => return Some((SecurityKind::Violation, violation)),
    };
    Some((SecurityKind::LimitReached, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> SecurityEvent {
        let time = UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        SecurityEvent { time, ..SecurityEvent::new(SecurityKind::RateLimited, "event") }
    }

    #[test]
    fn an_event_is_one_line_whatever_a_client_calls_things() {
        check(event(), "rate_limited reason=\"event\"", r#"{"time":1500,"kind":"rate_limited","reason":"event"}"#);
        let hostile = event()
            .address("::ffff:192.0.2.1".parse().ok())
            .namespace("/a\n127.0.0.1 \"accepted\"")
            .subject("\u{2028}\u{1b}[31mé");
        check(
            hostile,
            "rate_limited address=192.0.2.1 reason=\"event\" namespace=\"/a\\n127.0.0.1 \\\"accepted\\\"\" \
             subject=\"\\u{2028}\\u{1b}[31mé\"",
            "{\"time\":1500,\"kind\":\"rate_limited\",\"reason\":\"event\",\"address\":\"192.0.2.1\",\
             \"namespace\":\"/a\\u000a127.0.0.1 \\\"accepted\\\"\",\"subject\":\"\\u2028\\u001b[31mé\"}",
        );
        // A long name is cut between characters.
        let long = event().subject(&"é".repeat(100)[..199 / 2 * 2]);
        assert_eq!(long.subject.as_deref(), Some(&*"é".repeat(32)));

        #[track_caller]
        fn check(event: SecurityEvent, line: &str, json: &str) {
            assert_eq!(event.to_string(), line);
            assert_eq!(event.to_json(), json);
        }
    }

    #[test]
    fn every_kind_has_a_word_and_a_counter_of_its_own() {
        let log = SecurityLog::new();
        for (times, kind) in SecurityKind::ALL.iter().enumerate() {
            for _ in 0..=times {
                log.report(*kind, "", |_| panic!("nobody listens"));
            }
        }
        let counts: Vec<u64> = log.counts().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=SecurityKind::ALL.len() as u64).collect::<Vec<_>>());
        let words: std::collections::BTreeSet<_> = SecurityKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), SecurityKind::ALL.len());
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest_and_knows_how_many() {
        let log = SecurityLog::new();
        let mut events = log.subscribe();
        for number in 0..WAITING + 10 {
            log.report(SecurityKind::Violation, number.to_string(), |event| event);
        }
        assert_eq!(events.next().await.unwrap().reason, "10");
        assert_eq!((events.lost(), log.count(SecurityKind::Violation)), (10, WAITING as u64 + 10));
        while events.try_next().is_some() {}
        drop(log);
        assert_eq!(events.next().await, None);
    }

    #[test]
    fn a_hook_that_panics_takes_nothing_from_the_others() {
        let log = SecurityLog::new();
        log.on_event(|_| panic!("a hook of a test"));
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        log.on_event(move |event| {
            assert_eq!(event.kind, SecurityKind::Invalid);
            count.fetch_add(1, Relaxed);
        });
        log.report(SecurityKind::Invalid, "x", |event| event);
        assert_eq!(heard.load(Relaxed), 1);
    }
}
