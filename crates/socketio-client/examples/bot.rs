//! A bot in the chat: answers what begins with `!`, counts what it hears, and reads its token again at every attempt to connect.
//!
//! `cargo run -p socketio --example chat`, then `cargo run -p socketio-client --example bot`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use socketio_client::{
    Client, ConnectFailure, Manager, Socket,
    extract::{Data, State},
};

/// How many messages the bot has heard.
type Heard = Arc<AtomicUsize>;

async fn message(socket: Socket, Data((_, text)): Data<(String, String)>, State(heard): State<Heard>) {
    let heard = heard.fetch_add(1, Ordering::Relaxed) + 1;
    let answer = match text.trim().split_once(' ').unwrap_or((text.trim(), "")) {
        ("!ping", _) => "pong".to_owned(),
        ("!heard", _) => format!("{heard} messages so far"),
        ("!echo", rest) => rest.to_owned(),
        ("!add", rest) => match rest.split_whitespace().map(str::parse::<i64>).collect::<Result<Vec<_>, _>>() {
            Ok(numbers) => numbers.iter().fold(0_i64, |sum, n| sum.saturating_add(*n)).to_string(),
            Err(error) => format!("I cannot add that: {error}"),
        },
        _ => return,
    };
    socket.emit("message", answer);
}

/// Connects, and goes on connecting until the handle is dropped.
pub(crate) fn bot(url: &str) -> Result<(Manager, Socket), ConnectFailure> {
    let manager = Client::builder(url).manager()?;
    let socket = manager
        .socket("/chat")
        .state(Heard::default())
        // A token that expires is renewed outside; the next attempt takes the new one.
        .auth(async || json!({ "token": std::env::var("BOT_TOKEN").unwrap_or_default() }))
        .on("message", message)
        .on_connect_error(async |_: Socket, failure: ConnectFailure| eprintln!("{failure}"))
        .connect_lazy()?;
    Ok((manager, socket))
}

#[tokio::main]
async fn main() -> Result<(), ConnectFailure> {
    let (_manager, socket) = bot("http://127.0.0.1:3000")?;
    socket.closed().await; // refused, or disconnected by the server: everything else is tried again
    Ok(())
}
