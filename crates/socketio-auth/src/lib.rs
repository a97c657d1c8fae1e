//! Authentication for the Socket.IO server, as ready middleware: JSON Web Tokens, session cookies, API keys, or a function of
//! your own; and policies by role.
//!
//! ```no_run
//! use socketio::{Namespace, SocketIo};
//! use socketio_auth::{AuthExt, Claims, Jwt, Keys};
//!
//! #[derive(serde::Deserialize)]
//! struct User {
//!     sub: String,
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = Keys::jwks_file("/etc/chat/keys.json")?;
//! let chat = Namespace::new("/chat")
//!     .auth(Jwt::<User>::new(keys).issuer("https://login.example").audience("chat"))
//!     .on("whoami", async |Claims(user): Claims<User>| user.sub.clone());
//! SocketIo::builder().namespace(chat).listen("127.0.0.1:3000").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Whatever the method, it is the same to everybody: an [`Authenticator`] makes an [`Identity`] of [`Credentials`], or says
//! why not ([`Denied`]). [`AuthExt::auth`] puts it in front of a namespace: who is refused is told `not authorized` and
//! nothing else; whose credentials expire is disconnected at that moment; who sends fresh ones in time, as the event
//! [`REAUTHENTICATE`], stays. Handlers take what is known of a client as [`Claims`].
//!
//! [`Rules`] decides by role what a client may do; it is a [`socketio::Policy`].

mod api_key;
mod cookie;
mod credentials;
mod guard;
#[cfg(doctest)]
mod guide;
mod hook;
mod identity;
pub mod jwt;
mod rules;
#[cfg(feature = "tower-sessions")]
mod tower_sessions;

pub use api_key::ApiKeys;
pub use cookie::{SessionCookie, SessionStore, Signing};
pub use credentials::Credentials;
pub use guard::{AuthExt, Authenticator, Denied, REAUTHENTICATE};
pub use hook::{Hook, Or};
pub use identity::{Claims, Identity, MaybeClaims};
#[doc(inline)]
pub use jwt::{Algorithm, InvalidKey, Jwt, Keys};
pub use rules::Rules;
#[cfg(feature = "tower-sessions")]
pub use tower_sessions::TowerSessions;
