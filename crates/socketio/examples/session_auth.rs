//! Authentication by the cookie of a session that the web application has opened, and logging out everywhere.
//!
//! `cargo run --example session_auth`; browsers send the cookie `session=…` by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use socketio::{Builder, ConnectError, Extension, Headers, Namespace, Socket, SocketIo, State};

/// The sessions of the web application: id to user.
pub(crate) type Sessions = Arc<Mutex<HashMap<String, String>>>;

struct User {
    name: String,
    session: String,
}

/// The value of a cookie.
fn cookie(Headers(headers): &Headers, name: &str) -> Option<String> {
    let all = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

async fn authenticate(socket: Socket, headers: Headers, State(sessions): State<Sessions>) -> Result<(), ConnectError> {
    let session = cookie(&headers, "session").ok_or("log in first")?;
    let name = sessions.lock().unwrap().get(&session).cloned();
    let name = name.ok_or_else(|| ConnectError::new("log in again").code("expired"))?;
    socket.join(format!("session:{session}"));
    socket.extensions().insert(User { name, session });
    Ok(())
}

pub(crate) fn app(sessions: Sessions) -> Builder {
    let root = Namespace::new("/")
        .use_(authenticate)
        .on("whoami", async |user: Extension<User>| user.0.name.clone())
        .on("logout", async |io: SocketIo, user: Extension<User>, State(sessions): State<Sessions>| {
            sessions.lock().unwrap().remove(&user.0.session);
            // All tabs of this session, whatever namespace they are in.
            io.all_namespaces().to(format!("session:{}", user.0.session)).disconnect_sockets(true);
        });
    SocketIo::builder().state(sessions).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = Sessions::default();
    sessions.lock().unwrap().insert("secret-of-ann".to_owned(), "ann".to_owned());
    app(sessions).listen("127.0.0.1:3000").await
}
