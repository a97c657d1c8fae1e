//! An authenticator in front of a namespace: who comes in, who stays, who is told what.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use socketio::{ConnectError, Data, HandlerError, Namespace, Rate, RateLimit, Socket, Value};

use crate::identity::expire;
use crate::{Credentials, Identity};

/// The event with which a connected client shows fresh credentials, before its old ones expire.
pub const REAUTHENTICATE: &str = "authenticate";

/// A way to find out who a client is.
pub trait Authenticator: Send + Sync + 'static {
    /// What is known of a client that is let in.
    type Claims: Send + Sync + 'static;

    /// Looks at what a client shows.
    ///
    /// # Errors
    /// Why that is not enough. The client is not told; the operator is, as the reason of a security event.
    ///
    /// # Cancel safety
    /// Dropped when the client leaves or the time is up.
    fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<Identity<Self::Claims>, Denied>> + Send;
}

/// Why credentials were not accepted. A client learns only that they were not.
///
/// With `?` it becomes a [`HandlerError`] or a [`ConnectError`] in these words: it is no [`Error`](std::error::Error), whose
/// text would be kept from the client as `internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// There were none.
    Missing,
    /// They are not what they should look like.
    Malformed,
    /// A token is signed with an algorithm that is not that of its key.
    Algorithm,
    /// No key has the token's `kid`.
    UnknownKey,
    /// A signature is wrong.
    Signature,
    /// They were good once.
    Expired,
    /// They will be good.
    NotYetValid,
    /// Somebody else has issued them.
    Issuer,
    /// They are meant for somebody else.
    Audience,
    /// They are of another type, or lack a claim.
    Claims,
    /// There is no such session, key or user.
    Unknown,
    /// A client that authenticates anew says that it is somebody else.
    Subject,
    /// They cannot be checked at the moment. The client is told to try again.
    Unavailable,
    /// A reason of the application, in a word for the operator.
    Other(&'static str),
}

impl Denied {
    /// The reason in a word, for the operator.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no credentials",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Unknown => "unknown",
            Self::Subject => "another subject",
            Self::Unavailable => "unavailable",
            Self::Other(reason) => reason,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The same for every reason, so that trying teaches nothing.
impl From<Denied> for HandlerError {
    fn from(denied: Denied) -> Self {
        let (code, message) = match denied {
            Denied::Unavailable => ("unavailable", "try again later"),
            _ => ("unauthorized", "not authorized"),
        };
        Self::new(code, message).reason(denied.as_str())
    }
}

impl From<Denied> for ConnectError {
    fn from(denied: Denied) -> Self {
        HandlerError::from(denied).into()
    }
}

/// Puts authentication in front of a namespace.
pub trait AuthExt {
    /// Lets only those in whom `authenticator` knows, and only as long as their credentials hold.
    ///
    /// Who is refused gets `connect_error` with the message `not authorized` and `data.code` `unauthorized`. When the
    /// credentials expire the socket is disconnected from the namespace, described as `token expired`. A client that sends
    /// fresh ones before, as the event [`REAUTHENTICATE`] with a token or an object, is answered `{ok: true}` or the standard
    /// error, and goes on with the new claims; ten times a minute at most. It must stay who it is.
    ///
    /// Call it before what needs to know who a client is: middleware, then policies.
    #[must_use]
    fn auth<A: Authenticator>(self, authenticator: A) -> Self;
}

impl AuthExt for Namespace {
    fn auth<A: Authenticator>(self, authenticator: A) -> Self {
        let authenticator = Arc::new(authenticator);
        let again = authenticator.clone();
        self.use_(move |socket: Socket| admit(authenticator.clone(), socket))
            // One that came back without middleware has its identity from before.
            .on_connect(async |socket: Socket| {
                if let Some(identity) = socket.extensions().get::<Identity<A::Claims>>() {
                    expire(&socket, identity.expires_at());
                }
            })
            .rate_limit(RateLimit::event(REAUTHENTICATE, Rate::per_minute(10)))
            .on(REAUTHENTICATE, move |socket: Socket, Data(payload): Data<Value>| renew(again.clone(), socket, payload))
    }
}

async fn admit<A: Authenticator>(authenticator: Arc<A>, socket: Socket) -> Result<(), ConnectError> {
    authenticator.authenticate(&Credentials::of(&socket)).await?.assign(&socket);
    Ok(())
}

#[derive(Serialize)]
struct Renewed {
    ok: bool,
}

async fn renew<A: Authenticator>(
    authenticator: Arc<A>,
    socket: Socket,
    payload: Value,
) -> Result<Renewed, HandlerError> {
    let renewed = authenticator.authenticate(&Credentials::fresh(payload)).await.and_then(|identity| {
        let former = socket.extensions().get::<Identity<A::Claims>>();
        let subject = former.as_ref().and_then(|former| former.subject_ref());
        match subject.is_none() || subject == identity.subject_ref() {
            true => Ok(identity),
            false => Err(Denied::Subject),
        }
    });
    match renewed {
        Ok(identity) => {
            identity.assign(&socket);
            Ok(Renewed { ok: true })
        }
        Err(denied) => {
            socket.report(socketio::SecurityKind::AuthRefused, denied.as_str(), REAUTHENTICATE);
            Err(denied.into())
        }
    }
}
