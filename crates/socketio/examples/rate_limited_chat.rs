//! A chat with a limit: middleware around events refuses whoever says more than five things in ten seconds.
//!
//! `cargo run --example rate_limited_chat`, then `await socket.emitWithAck("say", "hi")`.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use socketio::{Builder, Data, Event, EventName, HandlerError, MaybeExtension, Namespace, Socket, SocketIo};
use tokio::time::Instant;

#[derive(Event, serde::Serialize)]
#[event(name = "said")]
struct Said<'a> {
    from: &'a str,
    text: &'a str,
}

/// When a socket said its last things.
#[derive(Default)]
struct Recent(Mutex<VecDeque<Instant>>);

const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(10);

async fn limit(socket: Socket, EventName(name): EventName, recent: MaybeExtension<Recent>) -> Result<(), HandlerError> {
    let Some(recent) = recent.0.filter(|_| name == "say") else { return Ok(()) };
    let (mut times, now) = (recent.0.lock().unwrap(), Instant::now());
    while times.front().is_some_and(|time| now - *time >= WITHIN) {
        times.pop_front();
    }
    if times.len() >= MOST {
        let wait = WITHIN - (now - times[0]);
        socket.emit("slow down", wait.as_millis() as u64);
        return Err(HandlerError::new("rate_limited", "too fast").details(wait.as_millis() as u64));
    }
    times.push_back(now);
    Ok(())
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .use_event(limit)
        .on_connect(async |socket: Socket| {
            socket.extensions().insert(Recent::default());
        })
        .on("say", async |socket: Socket, Data(text): Data<String>| {
            socket.broadcast().emit_event(&Said { from: socket.id(), text: &text });
        });
    SocketIo::builder().namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
