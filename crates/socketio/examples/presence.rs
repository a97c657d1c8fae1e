//! Presence: who is here, by user and not by tab. A user goes when the last tab does.
//!
//! `cargo run --example presence`, then `io({ auth: { user: "ann" } })`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use socketio::{Auth, Builder, Extension, Namespace, Socket, SocketIo, State};

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// How many sockets each user has.
type Online = Arc<Mutex<BTreeMap<String, usize>>>;

async fn arrive(socket: Socket, Auth(Login { user }): Auth<Login>, State(online): State<Online>) {
    let users = {
        let mut online = online.lock().unwrap();
        *online.entry(user.clone()).or_default() += 1;
        online.clone()
    };
    if users[&user] == 1 {
        socket.broadcast().emit("came", &user);
    }
    socket.emit("online", (users.into_keys().collect::<Vec<_>>(),));
    socket.extensions().insert(user);
}

async fn go(socket: Socket, user: Extension<String>, State(online): State<Online>) {
    let mut online = online.lock().unwrap();
    let tabs = online.entry((*user.0).clone()).or_default();
    *tabs -= 1;
    if *tabs == 0 {
        online.remove(&*user.0);
        socket.broadcast().emit("gone", &*user.0);
    }
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/").on_connect(arrive).on_disconnect(go);
    SocketIo::builder().state(Online::default()).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
