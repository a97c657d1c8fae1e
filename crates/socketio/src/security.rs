//! What this layer tells the security log: refused clients and events, violations and limits of Socket.IO.
//!
//! Requests and transports are told of by the engine. A refusal is told once, where its answer is made: its kind follows from
//! its code, so middleware, extractors and handlers of the application take part by using the same codes.

use std::borrow::Cow;

use engineio::{SecurityEvent, SecurityEvents, SecurityKind, SecurityLog, Session};
use socketio_core::{ConnectError, HandlerError};

use crate::env::Env;
use crate::{JoinError, Socket, SocketIo};

/// The code of refusals for want of good credentials.
pub(crate) const UNAUTHORIZED: &str = "unauthorized";
/// The code of what a client may not do.
pub(crate) const FORBIDDEN: &str = "forbidden";
/// The code of what came too often.
pub(crate) const RATE_LIMITED: &str = "rate_limited";
/// The code of data that did not pass validation.
pub(crate) const INVALID: &str = "invalid";

/// The kind of a refusal with this code.
fn kind_of(code: &str) -> Option<SecurityKind> {
    Some(match code {
        UNAUTHORIZED => SecurityKind::AuthRefused,
        FORBIDDEN => SecurityKind::PolicyDenied,
        RATE_LIMITED => SecurityKind::RateLimited,
        INVALID => SecurityKind::Invalid,
        _ => return None,
    })
}

impl SocketIo {
    /// The security log of this server: counts of what clients were refused, which rules they broke and which limits they
    /// reached, and the way to tell it of more.
    ///
    /// ```
    /// use socketio::{SecurityKind, SocketIo};
    ///
    /// # fn example(io: &SocketIo) {
    /// for (kind, count) in io.security().counts() {
    ///     println!("security_events_total{{kind=\"{kind}\"}} {count}");
    /// }
    /// # }
    /// ```
    pub fn security(&self) -> &SecurityLog {
        &self.hub.env.security
    }

    /// All security events from now on, for a task of their own. Up to 1,024 wait for it; how many it missed it can ask.
    ///
    /// ```
    /// # async fn example(io: socketio::SocketIo) {
    /// let mut events = io.security_events();
    /// tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         println!("{event}"); // or `event.to_json()`
    ///     }
    /// });
    /// # }
    /// ```
    pub fn security_events(&self) -> SecurityEvents {
        self.hub.env.security.subscribe()
    }
}

impl Socket {
    /// Tells the security log of something about this socket, with the client's address, session and namespace. `reason`
    /// is a word, never a secret; `subject` the name of an event or room, or empty.
    pub fn report(&self, kind: SecurityKind, reason: impl Into<Cow<'static, str>>, subject: &str) {
        self.0.nsp.env.security.report(kind, reason, |event| {
            let event = event.address(self.handshake().client_ip()).session(self.conn());
            let event = event.namespace(&self.0.nsp.name);
            if subject.is_empty() { event } else { event.subject(subject) }
        });
    }

    /// An event of this socket was refused.
    pub(crate) fn report_refused(&self, event: &str, error: &HandlerError) {
        // The fault is the server's, not the client's.
        if error.code() == HandlerError::INTERNAL {
            return;
        }
        let kind = kind_of(error.code()).unwrap_or(SecurityKind::EventRefused);
        match error.reason_ref() {
            Some(reason) => self.report(kind, reason, event),
            None => self.report(kind, error.code().to_owned(), event),
        }
    }

    /// This socket was refused its namespace.
    pub(crate) fn report_refusal(&self, refusal: &ConnectError) {
        let code = refusal.code_ref();
        if code == Some(HandlerError::INTERNAL) {
            return;
        }
        let kind = code.and_then(kind_of).unwrap_or(SecurityKind::ConnectRefused);
        match (refusal.reason_ref(), code) {
            (Some(reason), _) => self.report(kind, reason, ""),
            (None, Some(code)) => self.report(kind, code.to_owned(), ""),
            (None, None) => self.report(kind, "middleware", ""),
        }
    }

    /// A limit of rooms kept this socket out.
    pub(crate) fn report_rooms(&self, error: &JoinError) {
        let limit = match error {
            JoinError::TooManyRooms { .. } => "rooms_per_socket",
            JoinError::NameTooLong { .. } => "room_name_bytes",
            JoinError::Full { .. } => "rooms",
            _ => return,
        };
        self.report(SecurityKind::LimitReached, limit, "");
    }
}

impl Env {
    /// A client was refused a namespace that it does not have a socket in. `too_many` is the limit it has reached if it was
    /// told that there are too many: its own, or that of the server.
    pub(crate) fn report_turned_away(&self, session: &Session, namespace: &str, message: &str, too_many: &'static str) {
        let (kind, reason) = match message {
            socketio_proto::INVALID_NAMESPACE => (SecurityKind::ConnectRefused, "invalid_namespace"),
            socketio_proto::TOO_MANY_NAMESPACES => (SecurityKind::LimitReached, too_many),
            socketio_proto::JOIN_TIMEOUT => (SecurityKind::LimitReached, "connect_timeout"),
            _ => (SecurityKind::ConnectRefused, "refused"),
        };
        self.security.report(kind, reason, |event| self.about(event, session).namespace(namespace));
    }

    /// A client left the protocol.
    pub(crate) fn report_violation(&self, session: &Session, code: &'static str) {
        let kind = match code {
            "connect_timeout" | "attachment_timeout" | "too_many_attachments" | "attachments_too_large" => {
                SecurityKind::LimitReached
            }
            _ => SecurityKind::Violation,
        };
        self.security.report(kind, code, |event| self.about(event, session));
    }

    fn about(&self, event: SecurityEvent, session: &Session) -> SecurityEvent {
        event.address(session.handshake().client_ip(&self.trusted_proxies)).session(session)
    }
}
