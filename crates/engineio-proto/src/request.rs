//! What a server accepts: the query, the rules in the order of Node's server, and what a refused client is told.
//!
//! [`verify`] is a pure function over plain facts. It answers before any byte of a WebSocket handshake is written, so an
//! unsupported revision is an HTTP error on every transport. The application's own hook (`allowRequest`) comes after it
//! and only for [`Accepted::Handshake`]; the policy of [`origin`](crate::origin) is one of its facts.

use std::{borrow::Cow, time::Duration};

use crate::{Revision, Transport, jsonp::JsonpIndex, origin::OriginRefusal, percent};

/// The query parameters of Engine.IO, percent-decoded. Of duplicates the last one counts; all others are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query<'a> {
    /// `EIO`: the revision, see [`Query::revision`].
    pub eio: Option<Cow<'a, str>>,
    /// `transport`: see [`Query::transport`].
    pub transport: Option<Cow<'a, str>>,
    /// `sid`: the session id; see [`Query::sid`] for the one that counts.
    pub sid: Option<Cow<'a, str>>,
    /// `t`: makes URLs differ so that nothing caches them; without a meaning.
    pub t: Option<Cow<'a, str>>,
    /// `b64`: see [`Query::b64`].
    pub b64: Option<Cow<'a, str>>,
    /// `j`: asks for JSONP and is the index of the callback.
    pub j: Option<Cow<'a, str>>,
    /// `hold`: how long a client of ours wants its polls held at most; 0 is short polling.
    pub hold: Option<Duration>,
}

impl<'a> Query<'a> {
    /// Takes a query string apart, without its question mark. Never fails: what is no parameter is ignored.
    pub fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match &*percent::decode_lossy(key) {
                "EIO" => &mut parsed.eio,
                "transport" => &mut parsed.transport,
                "sid" => &mut parsed.sid,
                "t" => &mut parsed.t,
                "b64" => &mut parsed.b64,
                "j" => &mut parsed.j,
                "hold" => {
                    parsed.hold = parse_hold(&percent::decode_lossy(value));
                    continue;
                }
                _ => continue,
            };
            *slot = Some(percent::decode_lossy(value));
        }
        parsed
    }

    /// The revision that the request speaks: 4 if `EIO` is exactly `4`, else 3. Clients of revision 3 may omit it.
    pub fn revision(&self) -> Revision {
        if self.eio.as_deref() == Some("4") { Revision::V4 } else { Revision::V3 }
    }

    /// The transport, if it is one that goes through a query: polling or WebSocket.
    pub fn transport(&self) -> Option<Transport> {
        match self.transport.as_deref()? {
            "polling" => Some(Transport::Polling),
            "websocket" => Some(Transport::WebSocket),
            _ => None,
        }
    }

    /// The session id; an empty one is none.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref().filter(|sid| !sid.is_empty())
    }

    /// Whether the client takes no binary messages: it asked with `b64`, or for JSONP.
    pub fn b64(&self) -> bool {
        self.b64.as_deref().is_some_and(|value| !value.is_empty()) || self.j.is_some()
    }

    /// The index of the JSONP callback, if the client asked for JSONP.
    ///
    /// # Errors
    /// [`BadRequest::InvalidJsonp`] when `j` is not 1 to 9 digits.
    pub fn jsonp(&self) -> Result<Option<JsonpIndex>, BadRequest> {
        self.j.as_deref().map(|j| JsonpIndex::parse(j).ok_or(BadRequest::InvalidJsonp)).transpose()
    }
}

fn parse_hold(value: &str) -> Option<Duration> {
    let digits = (1..=10).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok().map(Duration::from_millis)).flatten()
}

/// A set of transports. Node: `transports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports {
    polling: bool,
    websocket: bool,
    webtransport: bool,
}

impl Transports {
    /// These transports.
    pub fn new(transports: impl IntoIterator<Item = Transport>) -> Self {
        let mut set = Self { polling: false, websocket: false, webtransport: false };
        for transport in transports {
            match transport {
                Transport::Polling => set.polling = true,
                Transport::WebSocket => set.websocket = true,
                Transport::WebTransport => set.webtransport = true,
            }
        }
        set
    }

    /// Whether the set holds this transport.
    pub const fn contains(self, transport: Transport) -> bool {
        match transport {
            Transport::Polling => self.polling,
            Transport::WebSocket => self.websocket,
            Transport::WebTransport => self.webtransport,
        }
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        !(self.polling || self.websocket || self.webtransport)
    }

    /// What an open packet offers: the transports to upgrade to from this one. Only polling is upgraded.
    pub fn upgrades_from(self, transport: Transport) -> Vec<Transport> {
        let candidates = [Transport::WebSocket, Transport::WebTransport];
        match transport {
            Transport::Polling => candidates.into_iter().filter(|transport| self.contains(*transport)).collect(),
            Transport::WebSocket | Transport::WebTransport => Vec::new(),
        }
    }
}

impl Default for Transports {
    /// Polling and WebSocket.
    fn default() -> Self {
        Self { polling: true, websocket: true, webtransport: false }
    }
}

/// What a server allows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// The transports that may be used. Default: polling and WebSocket. Node: `transports`.
    pub transports: Transports,
    /// Whether clients of revision 3 (Socket.IO 2.x) are served. Default: `false`. Node: `allowEIO3`.
    pub allow_eio3: bool,
    /// Whether a polling session may go over to another transport. Default: `true`. Node: `allowUpgrades`.
    pub allow_upgrades: bool,
}

impl Rules {
    /// What an open packet offers to a session that starts on this transport.
    pub fn upgrades_from(&self, transport: Transport) -> Vec<Transport> {
        if self.allow_upgrades { self.transports.upgrades_from(transport) } else { Vec::new() }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { transports: Transports::default(), allow_eio3: false, allow_upgrades: true }
    }
}

/// The method of a request, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// Any other one.
    Other,
}

impl Method {
    /// The method with this name. Names of methods are case-sensitive.
    pub fn from_name(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// The facts of one request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Whether it asks for an upgrade to WebSocket, by `Connection: upgrade` and `Upgrade`.
    pub is_upgrade: bool,
    /// Its query.
    pub query: &'a Query<'a>,
    /// What [`Origins::check`](crate::origin::Origins::check) said about it.
    pub origin: Result<(), OriginRefusal>,
    /// Whether the client used TLS for it.
    pub secure: bool,
}

/// What [`verify`] must know of the session that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionFacts {
    /// The revision that the session speaks.
    pub revision: Revision,
    /// The transport that carries the session now.
    pub transport: Transport,
    /// Whether a candidate for an upgrade is already connected.
    pub upgrading: bool,
    /// Whether it was opened over TLS.
    pub secure: bool,
}

/// What to do with a request that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Open a session, if the application's hook agrees.
    Handshake {
        /// The revision that the session will speak.
        revision: Revision,
        /// The transport that it starts on. With WebSocket, the handshake of RFC 6455 is still to be verified.
        transport: Transport,
        /// Whether the client takes binary messages as base64 text only.
        b64: bool,
        /// Whether responses are JSONP, and for which callback. It holds for the whole session.
        jsonp: Option<JsonpIndex>,
    },
    /// Hand the request to the session as its poll.
    Poll,
    /// Hand the body of the request to the session.
    Post,
    /// Open a WebSocket and let it probe to carry the session. The handshake of RFC 6455 is still to be verified.
    Upgrade,
}

/// What to answer to a request that breaks the rules. The session it names lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// An error of the protocol.
    Refused(Refusal),
    /// Status 405 with `Allow: GET, POST` and an empty body.
    MethodNotAllowed,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BadRequest> for Rejection {
    fn from(cause: BadRequest) -> Self {
        Self::Refused(Refusal::BadRequest(cause))
    }
}

/// The methods of the `Allow` header of a [`Rejection::MethodNotAllowed`].
pub const ALLOW: &str = "GET, POST";

/// Decides about one request, in the order of Node's server.
///
/// `lookup` finds the session with an id. It is called at most once, with what the client sent: any string.
///
/// # Errors
/// [`Rejection`] says what to answer.
pub fn verify(
    request: Request<'_>,
    rules: &Rules,
    lookup: impl FnOnce(&str) -> Option<SessionFacts>,
) -> Result<Accepted, Rejection> {
    let query = request.query;
    let transport = query.transport().filter(|transport| rules.transports.contains(*transport));
    let transport = transport.ok_or(Refusal::UnknownTransport)?;
    request.origin.map_err(Refusal::from)?;
    let Some(sid) = query.sid() else { return verify_handshake(request, rules, transport) };
    let session = lookup(sid).ok_or(Refusal::UnknownSid)?;
    if session.secure && !request.secure {
        // Its id has just been shown to everybody on the way. What was begun over TLS goes on over TLS.
        return Err(BadRequest::Downgrade.into());
    }
    if !request.is_upgrade && transport != session.transport {
        return Err(BadRequest::TransportMismatch.into());
    }
    if query.revision() != session.revision {
        return Err(BadRequest::ProtocolMismatch.into());
    }
    match (transport, request.is_upgrade) {
        (Transport::Polling, false) => {
            let accepted = match request.method {
                Method::Get => Accepted::Poll,
                Method::Post => Accepted::Post,
                Method::Other => return Err(Rejection::MethodNotAllowed),
            };
            // A callback that nobody can call is refused before it costs the session a payload.
            query.jsonp()?;
            Ok(accepted)
        }
        // An upgrade of HTTP goes to WebSocket and nowhere else, and nothing else goes there.
        (Transport::Polling, true) | (Transport::WebSocket | Transport::WebTransport, false) => {
            Err(BadRequest::TransportHandshake.into())
        }
        (Transport::WebSocket | Transport::WebTransport, true) => {
            if request.method != Method::Get {
                Err(Refusal::BadHandshakeMethod.into())
            } else if session.transport != Transport::Polling {
                // Were it accepted, whoever learns the id could take the session over.
                Err(BadRequest::AlreadyUpgraded.into())
            } else if session.upgrading {
                Err(BadRequest::AlreadyUpgrading.into())
            } else if !rules.allow_upgrades {
                Err(BadRequest::UpgradesDisabled.into())
            } else {
                Ok(Accepted::Upgrade)
            }
        }
    }
}

fn verify_handshake(request: Request<'_>, rules: &Rules, transport: Transport) -> Result<Accepted, Rejection> {
    let query = request.query;
    if request.method != Method::Get {
        return Err(Refusal::BadHandshakeMethod.into());
    }
    if (transport == Transport::WebSocket) != request.is_upgrade {
        return Err(BadRequest::TransportHandshake.into());
    }
    let revision = query.revision();
    if revision == Revision::V3 && !rules.allow_eio3 {
        return Err(Refusal::UnsupportedProtocolVersion.into());
    }
    let jsonp = if transport == Transport::Polling { query.jsonp()? } else { None };
    Ok(Accepted::Handshake { revision, transport, b64: query.b64(), jsonp })
}

/// Why a request was refused: an error with a number of the Engine.IO protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub enum Refusal {
    /// 0: the transport is missing, unknown or not allowed.
    UnknownTransport,
    /// 1: no session has this id.
    UnknownSid,
    /// 2: a session is opened with `GET`.
    BadHandshakeMethod,
    /// 3: the request does not fit, for one of many reasons.
    BadRequest(BadRequest),
    /// 4: the server or the application does not want this client. Holds what the client is told.
    Forbidden(Cow<'static, str>),
    /// 5: the revision of the protocol is not served.
    UnsupportedProtocolVersion,
}

impl Refusal {
    /// The message of [`Refusal::Forbidden`] when the application has none of its own.
    pub const FORBIDDEN: &'static str = "Forbidden";

    /// A refusal by the application, with what the client is told: never an internal error.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(message.into())
    }

    /// The number of the protocol.
    pub const fn code(&self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSid => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest(_) => 3,
            Self::Forbidden(_) => 4,
            Self::UnsupportedProtocolVersion => 5,
        }
    }

    /// The HTTP status: 403 for [`Refusal::Forbidden`], else 400.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) => 403,
            Self::UnknownTransport
            | Self::UnknownSid
            | Self::BadHandshakeMethod
            | Self::BadRequest(_)
            | Self::UnsupportedProtocolVersion => 400,
        }
    }

    /// What the client is told. It is the whole body of a refused upgrade.
    pub fn message(&self) -> &str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSid => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest(_) => "Bad request",
            Self::Forbidden(message) => message,
            Self::UnsupportedProtocolVersion => "Unsupported protocol version",
        }
    }

    /// The body of a refused poll: `{"code":…,"message":"…"}`, of type `application/json`.
    pub fn json_body(&self) -> String {
        format!(r#"{{"code":{},"message":{}}}"#, self.code(), serde_json::Value::from(self.message()))
    }

    /// The reason in more detail, for events and logs and never for the client. Node: `context.name`.
    pub const fn context(&self) -> Option<&'static str> {
        match self {
            Self::BadRequest(cause) => Some(cause.name()),
            Self::UnknownTransport
            | Self::UnknownSid
            | Self::BadHandshakeMethod
            | Self::Forbidden(_)
            | Self::UnsupportedProtocolVersion => None,
        }
    }
}

/// The reasons for [`Refusal::BadRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.name())]
#[non_exhaustive]
pub enum BadRequest {
    /// A middleware failed.
    MiddlewareFailure,
    /// The `Origin` header has control characters, or there are several.
    InvalidOrigin,
    /// The session is on another transport and this is no upgrade.
    TransportMismatch,
    /// The session speaks another revision.
    ProtocolMismatch,
    /// A WebSocket without an upgrade request, or an upgrade request for polling.
    TransportHandshake,
    /// No session id could be made.
    IdGeneration,
    /// The callback index of JSONP is not 1 to 9 digits.
    InvalidJsonp,
    /// The session is already on a WebSocket.
    AlreadyUpgraded,
    /// Another WebSocket is already probing for the session.
    AlreadyUpgrading,
    /// The server does not allow upgrades.
    UpgradesDisabled,
    /// The session was opened over TLS and this request came without.
    Downgrade,
}

impl BadRequest {
    /// The name in events, as Node spells it where Node has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MiddlewareFailure => "MIDDLEWARE_FAILURE",
            Self::InvalidOrigin => "INVALID_ORIGIN",
            Self::TransportMismatch => "TRANSPORT_MISMATCH",
            Self::ProtocolMismatch => "PROTOCOL_MISMATCH",
            Self::TransportHandshake => "TRANSPORT_HANDSHAKE_ERROR",
            Self::IdGeneration => "ID_GENERATION_ERROR",
            Self::InvalidJsonp => "INVALID_JSONP",
            Self::AlreadyUpgraded => "ALREADY_UPGRADED",
            Self::AlreadyUpgrading => "ALREADY_UPGRADING",
            Self::UpgradesDisabled => "UPGRADES_DISABLED",
            Self::Downgrade => "TRANSPORT_DOWNGRADE",
        }
    }
}

/// The path that a server answers on, compared exactly. Node: `path` and `addTrailingSlash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPath {
    /// With a slash in front and none at the end.
    path: String,
    add_trailing_slash: bool,
}

impl ServerPath {
    /// The path `path`, with or without slashes at its ends: a request must end in a slash if `add_trailing_slash`,
    /// otherwise it may.
    pub fn new(path: &str, add_trailing_slash: bool) -> Self {
        Self { path: format!("/{}", path.trim_matches('/')), add_trailing_slash }
    }

    /// Whether a request with this path, not percent-decoded and without its query, is for this server.
    pub fn matches(&self, path: &str) -> bool {
        let root = self.path == "/";
        let rest = if root { Some(path) } else { path.strip_prefix(self.path.as_str()) };
        match rest {
            Some("/") => true,
            Some("") => !self.add_trailing_slash,
            _ => false,
        }
    }

    /// The path as clients use it.
    pub fn canonical(&self) -> String {
        let slash = self.add_trailing_slash && self.path != "/";
        format!("{}{}", self.path, if slash { "/" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origins;

    const GET: (Method, bool) = (Method::Get, false);
    const POST: (Method, bool) = (Method::Post, false);
    const WS: (Method, bool) = (Method::Get, true);

    const POLLING: SessionFacts =
        SessionFacts { revision: Revision::V4, transport: Transport::Polling, upgrading: false, secure: false };
    const POLLING_V3: SessionFacts = SessionFacts { revision: Revision::V3, ..POLLING };
    const UPGRADING: SessionFacts = SessionFacts { upgrading: true, ..POLLING };
    const ON_WEBSOCKET: SessionFacts = SessionFacts { transport: Transport::WebSocket, ..POLLING };
    const SECURE: SessionFacts = SessionFacts { secure: true, ..POLLING };

    /// Sessions by id: `p`, `p3`, `u`, `w` and `s`.
    fn lookup(sid: &str) -> Option<SessionFacts> {
        match sid {
            "p" => Some(POLLING),
            "p3" => Some(POLLING_V3),
            "u" => Some(UPGRADING),
            "w" => Some(ON_WEBSOCKET),
            "s" => Some(SECURE),
            _ => None,
        }
    }

    fn with_rules(
        (method, is_upgrade): (Method, bool),
        query: &str,
        rules: &Rules,
        origin: Result<(), OriginRefusal>,
    ) -> Result<Accepted, Rejection> {
        verify(Request { method, is_upgrade, query: &Query::parse(query), origin, secure: false }, rules, lookup)
    }

    #[track_caller]
    fn check(request: (Method, bool), query: &str, want: Result<Accepted, Rejection>) {
        assert_eq!(with_rules(request, query, &Rules::default(), Ok(())), want, "{request:?} {query}");
    }

    #[track_caller]
    fn refused(request: (Method, bool), query: &str, want: impl Into<Rejection>) {
        check(request, query, Err(want.into()));
    }

    fn handshake(revision: Revision, transport: Transport) -> Result<Accepted, Rejection> {
        Ok(Accepted::Handshake { revision, transport, b64: false, jsonp: None })
    }

    #[test]
    fn what_was_begun_over_tls_goes_on_over_tls() {
        let poll = "EIO=4&transport=polling&sid=s";
        refused(GET, poll, BadRequest::Downgrade);
        refused(POST, poll, BadRequest::Downgrade);
        refused(WS, "EIO=4&transport=websocket&sid=s", BadRequest::Downgrade);
        for (sid, want) in [("s", Accepted::Poll), ("p", Accepted::Poll)] {
            // One that began without may go on with it: a proxy learned to do TLS.
            let query = Query::parse(if sid == "s" { poll } else { "EIO=4&transport=polling&sid=p" });
            let request =
                Request { method: Method::Get, is_upgrade: false, query: &query, origin: Ok(()), secure: true };
            assert_eq!(verify(request, &Rules::default(), lookup), Ok(want), "{sid}");
        }
    }

    #[test]
    fn a_handshake_needs_a_known_transport() {
        // H01 to H06, W07
        for query in [
            "",
            "EIO=4",
            "EIO=4&transport=",
            "EIO=4&transport=foo",
            "EIO=4&transport=constructor",
            "EIO=4&transport=__proto__",
            "EIO=4&transport=webtransport",
            "EIO=4&transport=Polling",
            "EIO=4&transport=polling%00",
            "EIO=4&Transport=polling",
        ] {
            refused(GET, query, Refusal::UnknownTransport);
            refused(WS, query, Refusal::UnknownTransport);
        }
        check(GET, "EIO=4&transport=polling", handshake(Revision::V4, Transport::Polling));
        check(WS, "EIO=4&transport=websocket", handshake(Revision::V4, Transport::WebSocket));
    }

    #[test]
    fn a_transport_that_is_not_allowed_is_unknown() {
        let rules = Rules { transports: Transports::new([Transport::WebSocket]), ..Rules::default() };
        let got = with_rules(GET, "EIO=4&transport=polling&sid=p", &rules, Ok(()));
        assert_eq!(got, Err(Refusal::UnknownTransport.into()));
        let got = with_rules(WS, "EIO=4&transport=websocket", &rules, Ok(()));
        assert_eq!(got, handshake(Revision::V4, Transport::WebSocket));
        // H06: WebTransport never comes as a query, even where it is allowed.
        let rules = Rules { transports: Transports::new([Transport::WebTransport]), ..Rules::default() };
        let got = with_rules(GET, "EIO=4&transport=webtransport", &rules, Ok(()));
        assert_eq!(got, Err(Refusal::UnknownTransport.into()));
    }

    #[test]
    fn a_handshake_is_a_get() {
        // H07
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEAD", "get", ""] {
            let request = (Method::from_name(method), false);
            refused(request, "EIO=4&transport=polling", Refusal::BadHandshakeMethod);
            // The method is looked at before the revision, and after the transport.
            refused(request, "transport=polling", Refusal::BadHandshakeMethod);
            refused(request, "EIO=4", Refusal::UnknownTransport);
        }
        // W11
        refused((Method::Post, true), "EIO=4&transport=websocket", Refusal::BadHandshakeMethod);
        refused((Method::Post, true), "EIO=4&transport=websocket&sid=p", Refusal::BadHandshakeMethod);
    }

    #[test]
    fn other_methods_on_a_session_are_not_allowed() {
        // H08
        for method in ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"] {
            let request = (Method::from_name(method), false);
            refused(request, "EIO=4&transport=polling&sid=p", Rejection::MethodNotAllowed);
            refused(request, "EIO=4&transport=polling&sid=zzz", Refusal::UnknownSid);
        }
    }

    #[test]
    fn a_websocket_needs_an_upgrade_and_polling_has_none() {
        // H09
        refused(GET, "EIO=4&transport=websocket", BadRequest::TransportHandshake);
        refused(GET, "EIO=4&transport=websocket&sid=p", BadRequest::TransportMismatch);
        refused(GET, "EIO=4&transport=websocket&sid=w", BadRequest::TransportHandshake);
        refused(POST, "EIO=4&transport=websocket&sid=w", BadRequest::TransportHandshake);
        // E08
        refused(WS, "EIO=4&transport=polling", BadRequest::TransportHandshake);
        refused(WS, "EIO=4&transport=polling&sid=p", BadRequest::TransportHandshake);
        refused(WS, "EIO=4&transport=polling&sid=w", BadRequest::TransportHandshake);
    }

    #[test]
    fn the_revision_is_four_or_it_is_three() {
        // E01, E02
        for eio in ["", "EIO=&", "EIO=3&", "EIO=5&", "EIO=04&", "EIO=abc&", "EIO=4.0&", "EIO=+4&", "EIO=4%20&"] {
            for (request, transport) in [(GET, Transport::Polling), (WS, Transport::WebSocket)] {
                let query = format!("{eio}transport={}", transport.name());
                refused(request, &query, Refusal::UnsupportedProtocolVersion);
                let rules = Rules { allow_eio3: true, ..Rules::default() };
                assert_eq!(with_rules(request, &query, &rules, Ok(())), handshake(Revision::V3, transport), "{query}");
            }
        }
    }

    #[test]
    fn the_revision_belongs_to_the_session() {
        // E05, and U10, U11 for each kind of request
        let rules = Rules { allow_eio3: true, ..Rules::default() };
        for (request, transport, accepted) in
            [(GET, "polling", Accepted::Poll), (POST, "polling", Accepted::Post), (WS, "websocket", Accepted::Upgrade)]
        {
            for (eio, sid, fits) in [
                ("EIO=4&", "p", true),
                ("EIO=3&", "p", false),
                ("", "p", false),
                ("EIO=3&", "p3", true),
                ("", "p3", true),
                ("EIO=4&", "p3", false),
            ] {
                let query = format!("{eio}transport={transport}&sid={sid}");
                let want = if fits { Ok(accepted.clone()) } else { Err(BadRequest::ProtocolMismatch.into()) };
                assert_eq!(with_rules(request, &query, &rules, Ok(())), want, "{query}");
            }
        }
    }

    #[test]
    fn a_sid_must_be_known() {
        // E03
        check(GET, "EIO=4&transport=polling&sid=", handshake(Revision::V4, Transport::Polling));
        check(GET, "EIO=4&transport=polling&sid", handshake(Revision::V4, Transport::Polling));
        // E04, H39, H40
        let long = "a".repeat(8 << 10);
        for sid in ["zzz", "__proto__", "%00", "p%00", "%ff", "P", "p+", &long] {
            refused(GET, &format!("EIO=4&transport=polling&sid={sid}"), Refusal::UnknownSid);
            refused(POST, &format!("EIO=4&transport=polling&sid={sid}"), Refusal::UnknownSid);
            refused(WS, &format!("EIO=4&transport=websocket&sid={sid}"), Refusal::UnknownSid);
        }
    }

    #[test]
    fn an_upgraded_session_takes_no_polls_and_no_second_websocket() {
        // U03
        refused(GET, "EIO=4&transport=polling&sid=w", BadRequest::TransportMismatch);
        refused(POST, "EIO=4&transport=polling&sid=w", BadRequest::TransportMismatch);
        refused(WS, "EIO=4&transport=websocket&sid=w", BadRequest::AlreadyUpgraded);
        // U04
        refused(WS, "EIO=4&transport=websocket&sid=u", BadRequest::AlreadyUpgrading);
        check(GET, "EIO=4&transport=polling&sid=u", Ok(Accepted::Poll));
        check(POST, "EIO=4&transport=polling&sid=u", Ok(Accepted::Post));

        let rules = Rules { allow_upgrades: false, ..Rules::default() };
        let got = with_rules(WS, "EIO=4&transport=websocket&sid=p", &rules, Ok(()));
        assert_eq!(got, Err(BadRequest::UpgradesDisabled.into()));
    }

    #[test]
    fn the_origin_counts_on_every_request() {
        // O01, H36: after the transport, before anything about a session can be learnt.
        let evil = Origins::same_origin().check(Some(b"https://evil"), Some("here"), true, None);
        let forbidden = Err(Refusal::forbidden("Forbidden").into());
        for (request, query) in [
            (GET, "EIO=4&transport=polling"),
            (GET, "EIO=4&transport=polling&sid=p"),
            (GET, "EIO=4&transport=polling&sid=zzz"),
            (POST, "EIO=4&transport=polling&sid=p"),
            (WS, "EIO=4&transport=websocket"),
            (WS, "EIO=4&transport=websocket&sid=p"),
        ] {
            assert_eq!(with_rules(request, query, &Rules::default(), evil), forbidden, "{query}");
        }
        let got = with_rules(GET, "EIO=4", &Rules::default(), evil);
        assert_eq!(got, Err(Refusal::UnknownTransport.into()));
    }

    #[test]
    fn jsonp_is_asked_for_with_digits() {
        // J01
        for j in ["alert(1)//", "-1", "", "1234567890", "1e3", "%D9%A1", "+1"] {
            refused(GET, &format!("EIO=4&transport=polling&j={j}"), BadRequest::InvalidJsonp);
            refused(GET, &format!("EIO=4&transport=polling&sid=p&j={j}"), BadRequest::InvalidJsonp);
            refused(POST, &format!("EIO=4&transport=polling&sid=p&j={j}"), BadRequest::InvalidJsonp);
            refused(GET, &format!("EIO=4&transport=polling&sid=zzz&j={j}"), Refusal::UnknownSid);
            check(WS, &format!("EIO=4&transport=websocket&sid=p&j={j}"), Ok(Accepted::Upgrade));
        }
        for (j, index) in [("0", 0), ("7", 7), ("999999999", 999_999_999)] {
            let jsonp = JsonpIndex::parse(j);
            assert_eq!(jsonp.map(JsonpIndex::get), Some(index));
            check(
                GET,
                &format!("EIO=4&transport=polling&j={j}"),
                Ok(Accepted::Handshake { revision: Revision::V4, transport: Transport::Polling, b64: true, jsonp }),
            );
        }
    }

    #[test]
    fn queries_are_read_as_browsers_read_them() {
        // H38: the last duplicate wins.
        refused(GET, "EIO=4&EIO=3&transport=polling", Refusal::UnsupportedProtocolVersion);
        check(GET, "EIO=3&EIO=4&transport=polling", handshake(Revision::V4, Transport::Polling));
        check(GET, "EIO=4&transport=polling&sid=zzz&sid=p", Ok(Accepted::Poll));
        // H39: keys and values are decoded.
        check(GET, "EI%4f=%34&transport=polli%6eg&sid=%70", Ok(Accepted::Poll));
        check(WS, "EIO=4&transport=web%73ocket", handshake(Revision::V4, Transport::WebSocket));
        check(
            GET,
            "&&=&x&?&%&transport=polling&a=b=c&EIO=4&user=J%C3%BCrgen",
            handshake(Revision::V4, Transport::Polling),
        );

        let query = Query::parse("b64=1&t=abc&j=3&hold=0&sid=a%2Bb+c&x=y&EIO=4=4");
        assert_eq!(query.b64.as_deref(), Some("1"));
        assert_eq!(query.t.as_deref(), Some("abc"));
        assert_eq!(query.j.as_deref(), Some("3"));
        assert_eq!(query.hold, Some(Duration::ZERO));
        assert_eq!(query.sid(), Some("a+b c"));
        assert_eq!(query.eio.as_deref(), Some("4=4"));
        assert_eq!(Query::parse(""), Query::default());
        assert!(!Query::parse("b64=").b64());
        assert!(Query::parse("b64=0").b64());
        assert!(Query::parse("j=0").b64());
    }

    #[test]
    fn hold_is_a_number_of_milliseconds() {
        for (value, want) in [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("9999999999", Some(9_999_999_999)),
            ("99999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("abc", None),
        ] {
            let query = format!("hold={value}");
            assert_eq!(Query::parse(&query).hold, want.map(Duration::from_millis), "{query}");
        }
    }

    #[test]
    fn refusals_have_nodes_bytes() {
        check(Refusal::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#);
        check(Refusal::UnknownSid, 400, r#"{"code":1,"message":"Session ID unknown"}"#);
        check(Refusal::BadHandshakeMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#);
        check(Refusal::BadRequest(BadRequest::InvalidOrigin), 400, r#"{"code":3,"message":"Bad request"}"#);
        check(Refusal::forbidden(Refusal::FORBIDDEN), 403, r#"{"code":4,"message":"Forbidden"}"#);
        // E06
        check(Refusal::forbidden("no way"), 403, r#"{"code":4,"message":"no way"}"#);
        check(Refusal::forbidden("a\"\r\n".to_owned()), 403, r#"{"code":4,"message":"a\"\r\n"}"#);
        check(Refusal::UnsupportedProtocolVersion, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#);

        #[track_caller]
        fn check(refusal: Refusal, status: u16, body: &str) {
            assert_eq!((refusal.status(), refusal.json_body().as_str()), (status, body));
            assert_eq!(refusal.to_string(), refusal.message());
        }
    }

    #[test]
    fn bad_requests_say_why_in_events() {
        use BadRequest::*;
        for (cause, name) in [
            (MiddlewareFailure, "MIDDLEWARE_FAILURE"), // E10
            (InvalidOrigin, "INVALID_ORIGIN"),
            (TransportMismatch, "TRANSPORT_MISMATCH"),
            (ProtocolMismatch, "PROTOCOL_MISMATCH"),
            (TransportHandshake, "TRANSPORT_HANDSHAKE_ERROR"),
            (IdGeneration, "ID_GENERATION_ERROR"), // E07
        ] {
            assert_eq!(Refusal::BadRequest(cause).context(), Some(name));
            assert_eq!(cause.to_string(), name);
        }
        assert_eq!(Refusal::UnknownSid.context(), None);
    }

    #[test]
    fn the_path_is_compared_exactly() {
        let with_slash = ServerPath::new("/socket.io", true);
        let without = ServerPath::new("/socket.io/", false);
        for (path, want_with, want_without) in [
            ("/socket.io/", true, true),
            ("/socket.io", false, true),    // H15
            ("//socket.io/", false, false), // H14
            ("/socket.io//", false, false),
            // H16
            ("/socket.io/foo", false, false),
            ("/socket.io/%2e%2e/", false, false),
            ("/socket.io/../", false, false),
            ("/socket.iofoo", false, false),
            ("/socket.iofoo/", false, false),
            ("/Socket.io/", false, false),
            ("/socket%2eio/", false, false),
            ("/", false, false),
            ("", false, false),
        ] {
            assert_eq!(with_slash.matches(path), want_with, "{path}");
            assert_eq!(without.matches(path), want_without, "{path}");
        }
        assert_eq!(with_slash.canonical(), "/socket.io/");
        assert_eq!(without.canonical(), "/socket.io");
        assert_eq!(ServerPath::new("a/b", true).canonical(), "/a/b/");
        let root = ServerPath::new("/", true);
        assert!(root.matches("/") && !root.matches("/x") && !root.matches("//"));
        assert_eq!(root.canonical(), "/");
    }

    #[test]
    fn only_polling_offers_upgrades() {
        let all = Transports::new([Transport::Polling, Transport::WebTransport, Transport::WebSocket]);
        check(all, Transport::Polling, true, &[Transport::WebSocket, Transport::WebTransport]);
        check(all, Transport::Polling, false, &[]);
        check(all, Transport::WebSocket, true, &[]);
        check(Transports::default(), Transport::Polling, true, &[Transport::WebSocket]);
        check(Transports::new([Transport::Polling]), Transport::Polling, true, &[]);
        assert!(Transports::new([]).is_empty());
        assert!(!all.is_empty());

        #[track_caller]
        fn check(transports: Transports, from: Transport, allow_upgrades: bool, want: &[Transport]) {
            let rules = Rules { transports, allow_upgrades, ..Rules::default() };
            assert_eq!(rules.upgrades_from(from), want);
        }
    }
}
