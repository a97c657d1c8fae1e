//! What clients may do: one object that is asked before they join a namespace, are put into a room, send an event, or have
//! something sent in their name.

use std::fmt;
use std::sync::Arc;

use socketio_core::HandlerError;

use crate::security::FORBIDDEN;
use crate::{Extensions, SecurityKind, Socket};

/// Decides what clients may do. Where there is one, whatever it does not allow is forbidden.
///
/// It is asked at four places: before a client that middleware has let in joins the namespace; before [`Socket::join`] puts it
/// into a room; before an event of it is looked at; before something is sent with [`Socket::to`] and its like. What the server
/// itself does, through [`SocketIo`](crate::SocketIo) or [`NamespaceHandle`](crate::NamespaceHandle), it is not asked about. Of
/// a client that comes back by recovery it is asked whether it may join its namespace, and each of its rooms but its own: what it
/// denies is left out.
///
/// It needs no server, so it is tested as the function it is. A closure is one, too:
///
/// ```
/// use socketio::{Action, Decision, Extensions, Namespace, Policy, Who};
///
/// struct Admin;
///
/// let policy = |who: &Who<'_>, action: &Action<'_>| match action {
///     Action::Connect => true,
///     Action::Join { room } => room.starts_with("public:"),
///     Action::Event { name } => *name == "say" || who.get::<Admin>().is_some(),
///     _ => false,
/// };
///
/// let nobody = Extensions::default();
/// let shutdown = Action::Event { name: "shutdown" };
/// assert_ne!(policy.decide(&Who::new("/chat", "some id", &nobody), &shutdown), Decision::Allow);
///
/// let chat = Namespace::new("/chat").policy(policy);
/// # let _ = chat;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy",
    note = "a policy is a closure `|who: &Who<'_>, action: &Action<'_>| …` that returns `bool` or `Decision`, or implements `Policy`"
)]
pub trait Policy: Send + Sync + 'static {
    /// Decides. It runs on the client's task: be short; what has to be fetched belongs into the client's extensions.
    fn decide(&self, who: &Who<'_>, action: &Action<'_>) -> Decision;
}

impl<F, D> Policy for F
where
    F: Fn(&Who<'_>, &Action<'_>) -> D + Send + Sync + 'static,
    D: Into<Decision>,
{
    fn decide(&self, who: &Who<'_>, action: &Action<'_>) -> Decision {
        self(who, action).into()
    }
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not, and why, in a word for the operator. The client learns only that it may not.
    Deny(&'static str),
}

impl From<bool> for Decision {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny("policy") }
    }
}

/// What a client is about to do, or is about to be done in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Join the namespace.
    Connect,
    /// Be put into a room.
    Join {
        /// The name of the room.
        room: &'a str,
    },
    /// Send an event to the server.
    Event {
        /// The name of the event.
        name: &'a str,
    },
    /// Have an event sent to others.
    Emit {
        /// The name of the room; `None` for everybody in the namespace. Each room is asked about alone.
        room: Option<&'a str>,
        /// The name of the event.
        event: &'a str,
    },
}

impl Action<'_> {
    /// The name that it is about.
    fn subject(&self) -> &str {
        match self {
            Self::Connect => "",
            Self::Join { room } | Self::Emit { room: Some(room), .. } => room,
            Self::Event { name } => name,
            Self::Emit { room: None, event } => event,
        }
    }
}

/// Whom a policy is asked about.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    namespace: &'a str,
    id: &'a str,
    extensions: &'a Extensions,
}

impl<'a> Who<'a> {
    /// A client of which this is known: for tests of a policy.
    pub fn new(namespace: &'a str, id: &'a str, extensions: &'a Extensions) -> Self {
        Self { namespace, id, extensions }
    }

    /// The namespace.
    pub fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// The id of the socket.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// What the application has stored about the client: the value of this type among [`Socket::extensions`].
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.extensions.get()
    }
}

impl fmt::Debug for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Who").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What refused events and clients are told.
pub(crate) fn forbidden(reason: &'static str) -> HandlerError {
    HandlerError::new(FORBIDDEN, "not allowed").reason(reason)
}

impl Socket {
    /// Why this socket may not do that; `None` if it may, or if there is no policy. A refusal by an answer tells of itself.
    pub(crate) fn forbids(&self, action: &Action<'_>) -> Option<&'static str> {
        let policy = self.0.nsp.table.policy.as_ref()?;
        let who = Who::new(&self.0.nsp.name, self.id(), self.extensions());
        match policy.decide(&who, action) {
            Decision::Allow => None,
            Decision::Deny(reason) => Some(reason),
        }
    }

    /// [`forbids`](Self::forbids), told of: for what the client did not ask for itself.
    pub(crate) fn forbids_and_tells(&self, action: &Action<'_>) -> bool {
        let reason = self.forbids(action);
        if let Some(reason) = reason {
            self.report(SecurityKind::PolicyDenied, reason, action.subject());
        }
        reason.is_some()
    }
}
