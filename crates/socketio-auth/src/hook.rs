//! A function of your own, and one way after the other.

use std::fmt;
use std::marker::PhantomData;

use crate::{Authenticator, Credentials, Denied, Identity};

/// An async function that finds out who a client is: it asks a service, or a table of users.
///
/// ```
/// use socketio::Namespace;
/// use socketio_auth::{AuthExt, Credentials, Denied, Hook, Identity};
///
/// struct User {
///     name: String,
/// }
///
/// async fn log_in(name: Option<String>, password: Option<String>) -> Result<Identity<User>, Denied> {
///     let name = name.ok_or(Denied::Missing)?;
///     if password.as_deref() != Some("open sesame") {
///         return Err(Denied::Other("wrong password"));
///     }
///     Ok(Identity::new(User { name }))
/// }
///
/// let chat = Namespace::new("/chat").auth(Hook::new(|shown: &Credentials| log_in(shown.auth("name"), shown.auth("password"))));
/// # let _ = chat;
/// ```
pub struct Hook<F, C> {
    hook: F,
    claims: PhantomData<fn() -> C>,
}

impl<F, C> Hook<F, C> {
    /// Asks this function.
    pub fn new<Fut>(hook: F) -> Self
    where
        F: Fn(&Credentials) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Identity<C>, Denied>> + Send + 'static,
        C: Send + Sync + 'static,
    {
        Self { hook, claims: PhantomData }
    }
}

impl<F, Fut, C> Authenticator for Hook<F, C>
where
    F: Fn(&Credentials) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Identity<C>, Denied>> + Send + 'static,
    C: Send + Sync + 'static,
{
    type Claims = C;

    fn authenticate(&self, credentials: &Credentials) -> impl Future<Output = Result<Identity<C>, Denied>> + Send {
        (self.hook)(credentials)
    }
}

impl<F, C> fmt::Debug for Hook<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Two ways: the second is tried where nothing was shown for the first. What is shown and wrong is refused.
#[derive(Debug)]
pub struct Or<A, B>(pub A, pub B);

impl<A: Authenticator, B: Authenticator<Claims = A::Claims>> Authenticator for Or<A, B> {
    type Claims = A::Claims;

    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity<A::Claims>, Denied> {
        match self.0.authenticate(credentials).await {
            Err(Denied::Missing) => self.1.authenticate(credentials).await,
            decided => decided,
        }
    }
}
