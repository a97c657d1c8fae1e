//! Everything that goes wrong on a server, in one place: what the hook of [`Builder::on_fault`](crate::Builder::on_fault)
//! sees. Nothing is made for it where there is no hook.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Weak};

use engineio::{RefusedRequest, Session};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::IgnoredAny;
use socketio_core::{AckError, HandlerError, InternalError, decode_ack};
use socketio_proto::{EncodeError, OwnedArgs, Violation};

use crate::env::Env;
use crate::{DisconnectReason, Socket, lane};

/// Something that went wrong. What a client was told of it, it was told already.
///
/// [`kind`](Self::kind) is a word for metrics, `Display` a line for a log: it holds no address and no session id, but what
/// clients and the application have written may be part of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault<'a> {
    /// A request was refused before there was a session: protocol, origin, `allow_request`. Node: `connection_error`.
    RequestRefused(&'a RefusedRequest<'a>),
    /// A client was refused a namespace: there is none, middleware, limits, time.
    ConnectRefused {
        /// The client's connection.
        session: &'a Session,
        /// What it asked for.
        namespace: &'a str,
        /// What it was told.
        message: &'a str,
    },
    /// An event was refused by middleware, or because an argument of a handler did not fit.
    EventRefused {
        /// The sender.
        socket: &'a Socket,
        /// The name of the event.
        event: &'a str,
        /// What the sender was told, if it had asked for an answer.
        error: &'a HandlerError,
    },
    /// A handler has answered with an error.
    ErrorAnswered {
        /// Who was answered.
        socket: &'a Socket,
        /// What it was told.
        error: &'a HandlerError,
    },
    /// A client left the protocol of Socket.IO; its connection is closed.
    Violation {
        /// The client's connection.
        session: &'a Session,
        /// What it did.
        violation: &'a Violation,
    },
    /// A connection ended by a fault of the transport, or because the client was too slow or silent.
    ConnectionFailed {
        /// The client's connection.
        session: &'a Session,
        /// What its sockets are told.
        reason: DisconnectReason,
        /// What there is to say beyond that.
        description: Option<&'a str>,
    },
    /// Code of the application panicked; the connection it belonged to is closed.
    HandlerPanicked {
        /// The client's connection; `None` for hooks and for events of other servers.
        session: Option<&'a Session>,
        /// What the panic says.
        message: &'a str,
    },
    /// Handlers of a socket that has left were given up after `handler_stall`.
    HandlerAbandoned {
        /// The socket.
        socket: &'a Socket,
    },
    /// An event or a reply of the application could not be encoded, so it was not sent.
    NotEncodable {
        /// The namespace it was for.
        namespace: &'a str,
        /// The name of the event; empty for a reply.
        event: &'a str,
        /// Why.
        error: &'a EncodeError,
    },
    /// A handler failed with an error that its client must not see; it was told `internal`. Where `?` turns an error into a
    /// [`HandlerError`] no server is in sight, so every server of the process hears of it.
    Internal {
        /// The error.
        cause: &'a (dyn Error + 'a),
        /// The line with the `?`.
        location: &'static Location<'static>,
    },
}

impl Fault<'_> {
    /// One word for what went wrong.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RequestRefused(_) => "request_refused",
            Self::ConnectRefused { .. } => "connect_refused",
            Self::EventRefused { .. } => "event_refused",
            Self::ErrorAnswered { .. } => "error_answered",
            Self::Violation { .. } => "violation",
            Self::ConnectionFailed { .. } => "connection_failed",
            Self::HandlerPanicked { .. } => "handler_panicked",
            Self::HandlerAbandoned { .. } => "handler_abandoned",
            Self::NotEncodable { .. } => "not_encodable",
            Self::Internal { .. } => "internal",
        }
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestRefused(refused) => match refused.context {
                Some(context) => write!(f, "a request was refused: {} ({context})", refused.message),
                None => write!(f, "a request was refused: {}", refused.message),
            },
            Self::ConnectRefused { namespace, message, .. } => {
                write!(f, "a client was refused the namespace {namespace:?}: {message}")
            }
            Self::EventRefused { event, error, .. } => write!(f, "the event {event:?} was refused: {error}"),
            Self::ErrorAnswered { error, .. } => write!(f, "a handler answered with an error: {error}"),
            Self::Violation { violation, .. } => write!(f, "a client left the protocol: {violation}"),
            Self::ConnectionFailed { reason, description, .. } => match description {
                Some(description) => write!(f, "a connection failed: {reason}, {description}"),
                None => write!(f, "a connection failed: {reason}"),
            },
            Self::HandlerPanicked { message, .. } => write!(f, "a handler panicked: {message}"),
            Self::HandlerAbandoned { .. } => f.write_str("handlers of a socket that has left were given up"),
            Self::NotEncodable { event, error, .. } => write!(f, "the event {event:?} could not be encoded: {error}"),
            Self::Internal { cause, location } => write!(f, "a handler failed: {cause} at {location}"),
        }
    }
}

/// Is told of everything that goes wrong.
pub(crate) type FaultHook = Arc<dyn Fn(&Fault<'_>) + Send + Sync>;

impl Env {
    /// Tells the hook, if there is one.
    pub(crate) fn fault<'a>(&self, fault: impl FnOnce() -> Fault<'a>) {
        if let Some(hook) = &self.on_fault {
            tell(hook, &fault());
        }
    }

    /// Code of the application panicked that belongs to no connection.
    pub(crate) fn hook_panicked(&self, panicked: &lane::Panicked) {
        self.counters.handler_panics.add();
        self.fault(|| Fault::HandlerPanicked { session: None, message: &panicked.message });
    }

    /// Tells the hook of an answer that is an error, if there is a hook and it is one.
    pub(crate) fn fault_in_answer<T: Serialize + ?Sized>(&self, socket: &Socket, answer: &T) {
        if self.on_fault.is_some()
            && let Ok(args) = OwnedArgs::ack(answer)
            && let Err(AckError::Refused(error)) = decode_ack::<IgnoredAny>(&args)
        {
            self.fault(|| Fault::ErrorAnswered { socket, error: &error });
        }
    }
}

/// A hook that panics costs nobody anything.
pub(crate) fn tell(hook: &FaultHook, fault: &Fault<'_>) {
    drop(lane::guard(|| hook(fault)));
}

type WeakHook = Weak<dyn Fn(&Fault<'_>) + Send + Sync>;

// The hooks of all servers of the process, for errors that know no server.
static HOOKS: Mutex<Vec<WeakHook>> = Mutex::new(Vec::new());

/// From now on this hook hears of errors that know no server.
pub(crate) fn register(hook: &FaultHook) {
    let mut hooks = HOOKS.lock();
    hooks.retain(|hook| hook.strong_count() > 0);
    hooks.push(Arc::downgrade(hook));
}

/// Logs an error that is kept from the client, and tells every hook of the process.
pub(crate) fn internal(error: InternalError<'_>) {
    tracing::error!(cause = %error.cause, location = %error.location, "a handler failed; the client is told `internal`");
    let hooks: Vec<FaultHook> = HOOKS.lock().iter().filter_map(Weak::upgrade).collect();
    for hook in hooks {
        tell(&hook, &Fault::Internal { cause: error.cause, location: error.location });
    }
}
