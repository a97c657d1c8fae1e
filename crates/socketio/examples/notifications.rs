//! Notifications: the rest of the application tells users something, and learns which of them have seen it.
//!
//! `cargo run --example notifications`, then `io({ auth: { user: "ann" } })` and `socket.on("note", (text, seen) => seen(true))`.

use std::time::Duration;

use serde::Deserialize;
use socketio::{Auth, Builder, Namespace, Socket, SocketIo};

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// What became of a notification.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) seen: usize,
    pub(crate) closed: usize,
    pub(crate) no_answer: usize,
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/").on_connect(async |socket: Socket, Auth(login): Auth<Login>| {
        socket.join(format!("user:{}", login.user));
    });
    SocketIo::builder().namespace(root)
}

/// Tells all tabs of a user, and waits at most five seconds for each to answer.
pub(crate) async fn notify(io: &SocketIo, user: &str, text: &str) -> Outcome {
    let mut answers = io.to(format!("user:{user}")).timeout(Duration::from_secs(5)).emit_with_ack::<bool>("note", text);
    let mut outcome = Outcome::default();
    // As they come; who has left meanwhile, or answers with anything but a bool, is an error here.
    while let Some((_, answer)) = answers.next().await {
        match answer {
            Ok(true) => outcome.seen += 1,
            Ok(false) => outcome.closed += 1,
            Err(_) => outcome.no_answer += 1,
        }
    }
    outcome.no_answer += answers.missing();
    outcome
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let io = app().build()?;
    let sender = io.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            println!("{:?}", notify(&sender, "ann", "ten seconds have passed").await);
        }
    });
    io.listen("127.0.0.1:3000").await
}
