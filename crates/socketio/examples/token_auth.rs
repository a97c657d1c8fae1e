//! Authentication by a signed token in the `auth` payload, JWT-like: checked by middleware, and over when it expires.
//!
//! `cargo run --example token_auth`, then `io({ auth: { token: "ann.4102444800.<signature>" } })`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use socketio::{Auth, Builder, ConnectError, Extension, Namespace, Socket, SocketIo, State};

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

#[derive(Clone)]
pub(crate) struct Key(pub(crate) u64);

struct Claims {
    user: String,
    expires: Duration,
}

impl Key {
    /// Stands for a real signature, of the crate `jsonwebtoken` for example: this one is easily forged.
    pub(crate) fn sign(&self, claims: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (self.0, claims).hash(&mut hasher);
        format!("{claims}.{:x}", hasher.finish())
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let (claims, _) = token.rsplit_once('.').filter(|(claims, _)| self.sign(claims) == token)?;
        let (user, expires) = claims.split_once('.')?;
        Some(Claims { user: user.to_owned(), expires: Duration::from_secs(expires.parse().ok()?) })
    }
}

async fn check(socket: Socket, Auth(auth): Auth<Credentials>, State(key): State<Key>) -> Result<(), ConnectError> {
    let claims = key.verify(&auth.token).ok_or_else(|| ConnectError::new("bad token").code("bad_token"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = claims.expires.checked_sub(now).ok_or_else(|| ConnectError::new("token expired").code("expired"))?;
    socket.extensions().insert(claims);
    tokio::spawn(async move {
        tokio::time::sleep(left).await;
        socket.emit("expired", ());
        socket.disconnect(true);
    });
    Ok(())
}

pub(crate) fn app(key: Key) -> Builder {
    let root = Namespace::new("/").use_(check).on("whoami", async |claims: Extension<Claims>| claims.0.user.clone());
    SocketIo::builder().state(key).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app(Key(42)).listen("127.0.0.1:3000").await
}
