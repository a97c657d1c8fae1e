//! Private messages: each user has a room, whatever the number of tabs, and finds what came meanwhile.
//!
//! `cargo run --example private_messaging`, then `io({ auth: { user: "ann" } })`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use socketio::{Auth, Builder, ConnectError, Data, Extension, Namespace, Socket, SocketIo, State};

#[derive(Deserialize)]
struct Login {
    user: String,
}

struct User(String);

#[derive(Clone, Serialize)]
struct Message {
    from: String,
    to: String,
    text: String,
}

/// What each user was sent.
type Inbox = Arc<Mutex<HashMap<String, Vec<Message>>>>;

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .use_(async |socket: Socket, Auth(login): Auth<Login>| {
            if login.user.is_empty() {
                return Err(ConnectError::new("a user has a name").code("no_name"));
            }
            socket.join(format!("user:{}", login.user));
            socket.extensions().insert(User(login.user));
            Ok(())
        })
        .on_connect(async |socket: Socket, user: Extension<User>, State(inbox): State<Inbox>| {
            let messages = inbox.lock().unwrap().get(&user.0.0).cloned().unwrap_or_default();
            socket.emit("messages", (messages,));
        })
        .on("private message", async |socket: Socket, user: Extension<User>, inbox: State<Inbox>, data: Data<_>| {
            let (to, text): (String, String) = data.0;
            let message = Message { from: user.0.0.clone(), to: to.clone(), text };
            inbox.0.lock().unwrap().entry(to.clone()).or_default().push(message.clone());
            // To the other tabs of the sender too, but not to the one that sent it.
            socket.to([format!("user:{to}"), format!("user:{}", message.from)]).emit("private message", &message);
        });
    SocketIo::builder().state(Inbox::default()).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
