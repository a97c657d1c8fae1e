//! The sessions of the crate `tower-sessions`.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use tower_sessions_core::SessionStore as Store;
use tower_sessions_core::session::Id;

use crate::{Identity, SessionStore};

/// The sessions that [`tower-sessions`](https://docs.rs/tower-sessions) keeps for a web application: with
/// [`SessionCookie`](crate::SessionCookie), whoever has logged in there is let in here.
///
/// What the application has put into the session under `key` are the claims. A client without a session, or whose session has
/// nothing under that key (nobody has logged in), is refused; so is one whose value is no `C`, with a word in the log. A socket
/// is disconnected when its session expires by what the store said when it connected. An application that prolongs sessions
/// lets clients connect again: their cookie is still good. One that ends a session early, at a logout, disconnects the user's
/// sockets itself.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use socketio::Namespace;
/// use socketio_auth::{AuthExt, Claims, SessionCookie, TowerSessions};
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
///
/// #[derive(Serialize, Deserialize)]
/// struct User {
///     name: String,
/// }
///
/// let store = MemoryStore::default();
/// // In front of the web application, which does `session.insert("user", &user)`.
/// let layer = SessionManagerLayer::new(store.clone()).with_name("id");
/// let chat = Namespace::new("/chat")
///     .auth(SessionCookie::new("id", TowerSessions::<_, User>::new(store, "user")))
///     .on("whoami", async |Claims(user): Claims<User>| user.name.clone());
/// # let _ = (layer, chat);
/// ```
///
/// Cookies that it signs (`with_signed`) are those of [`Signing::CookieCrate`](crate::Signing::CookieCrate).
pub struct TowerSessions<S, C> {
    store: S,
    key: String,
    claims: PhantomData<fn() -> C>,
}

impl<S: Store, C> TowerSessions<S, C> {
    /// The claims are what `store` has under `key`.
    pub fn new(store: S, key: impl Into<String>) -> Self {
        Self { store, key: key.into(), claims: PhantomData }
    }
}

impl<S: Store, C: DeserializeOwned + Send + Sync + 'static> SessionStore for TowerSessions<S, C> {
    type Claims = C;

    async fn load(&self, id: &str) -> Result<Option<Identity<C>>, Box<dyn Error + Send + Sync>> {
        // What is no id never gets to the store.
        let Ok(id) = id.parse::<Id>() else { return Ok(None) };
        let Some(record) = self.store.load(&id).await? else { return Ok(None) };
        let Some(value) = record.data.get(&self.key) else { return Ok(None) };
        match C::deserialize(value) {
            Ok(claims) => Ok(Some(Identity::new(claims).expires(Some(SystemTime::from(record.expiry_date))))),
            Err(error) => {
                // Its text could have the value in it.
                tracing::warn!(key = self.key, category = ?error.classify(), "what is in a session is not of the type of the claims");
                Ok(None)
            }
        }
    }
}

impl<S, C> fmt::Debug for TowerSessions<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessions").field("key", &self.key).finish_non_exhaustive()
    }
}
