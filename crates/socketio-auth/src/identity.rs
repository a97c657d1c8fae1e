//! Who a client is: what its credentials say, and until when.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use socketio::{Args, FromEvent, HandlerError, Rejection, Socket, SocketContext, Who};

use crate::Denied;

/// What credentials say about a client, and until when they say it.
///
/// It is kept among the socket's extensions: a policy finds it with [`Identity::of`].
pub struct Identity<C> {
    claims: Arc<C>,
    expires: Option<SystemTime>,
    subject: Option<String>,
}

impl<C: Send + Sync + 'static> Identity<C> {
    /// An identity that does not expire.
    pub fn new(claims: C) -> Self {
        Self { claims: Arc::new(claims), expires: None, subject: None }
    }

    /// Until when it holds; the socket is disconnected then.
    #[must_use]
    pub fn expires(mut self, at: Option<SystemTime>) -> Self {
        self.expires = at;
        self
    }

    /// Who it is about. A client that authenticates anew must stay who it is.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<Option<String>>) -> Self {
        self.subject = subject.into();
        self
    }

    /// What the credentials say.
    pub fn claims(&self) -> &Arc<C> {
        &self.claims
    }

    /// Until when it holds; `None` for ever.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Who it is about, if the credentials say so.
    pub fn subject_ref(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The claims of whoever a policy is asked about; `None` where nobody has logged in.
    pub fn of(who: &Who<'_>) -> Option<Arc<C>> {
        who.get::<Self>().map(|identity| identity.claims.clone())
    }

    /// Makes this the identity of a socket, from now until it expires, in place of the one it has.
    pub fn assign(self, socket: &Socket) {
        let expires = self.expires;
        socket.extensions().insert(self);
        expire(socket, expires);
    }
}

/// Disconnects the socket when its identity expires.
pub(crate) fn expire(socket: &Socket, at: Option<SystemTime>) {
    let left = at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    // Later than the clock can say is never.
    socket.expires_at(left.and_then(|left| tokio::time::Instant::now().checked_add(left)));
}

impl<C> fmt::Debug for Identity<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Claims are nobody's business but the application's.
        f.debug_struct("Identity").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What is known of the client, as the argument of a handler; of the moment at which the handler is called.
///
/// Without an identity of this type the event is refused as `unauthorized`. [`MaybeClaims`] does not mind.
#[derive(Debug)]
pub struct Claims<C>(pub Arc<C>);

impl<Cx: SocketContext, C: Send + Sync + 'static> FromEvent<Cx> for Claims<C> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        let identity = cx.socket().extensions().get::<Identity<C>>();
        identity.map(|identity| Self(identity.claims.clone())).ok_or_else(|| HandlerError::from(Denied::Missing).into())
    }
}

/// Like [`Claims`], for clients that may not have logged in.
#[derive(Debug)]
pub struct MaybeClaims<C>(pub Option<Arc<C>>);

impl<Cx: SocketContext, C: Send + Sync + 'static> FromEvent<Cx> for MaybeClaims<C> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().extensions().get::<Identity<C>>().map(|identity| identity.claims.clone())))
    }
}
