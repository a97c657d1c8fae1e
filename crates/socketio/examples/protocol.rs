//! A chat whose protocol is a set of types: the server is checked against it, and it prints itself for other languages.
//!
//! `cargo run --example protocol --features describe -- typescript` (or `asyncapi`), without a word it serves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socketio::describe::{Binary, Protocol};
use socketio::{Bytes, Event, HandlerError, Namespace, Socket, SocketIo, events};

/// Says something in a room. The answer is the message as everybody sees it.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(name = "say", ack = Said)]
struct Say {
    room: String,
    text: String,
    #[serde(default)]
    mood: Mood,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mood {
    #[default]
    Plain,
    Loud,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Said {
    id: u32,
}

/// Moves the pointer.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "move")]
struct Move((f64, f64));

/// Uploads a file. The answer is its name and its size.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(name = "upload file", ack = (String, u32))]
struct Upload {
    name: String,
    #[schemars(with = "Binary")]
    data: Bytes,
}

/// Asks for nothing.
#[derive(Event)]
#[event(name = "leave")]
struct Leave;

/// Somebody said something.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(name = "heard")]
struct Heard {
    from: String,
    text: String,
    mood: Mood,
}

/// Asks the client for its nickname.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "who are you", ack = Option<String>)]
struct WhoAreYou;

events! {
    /// What clients send.
    enum FromClient { Say, Move, Upload, Leave }
}

events! {
    /// What the server sends.
    enum FromServer { Heard, WhoAreYou, Move }
}

fn protocol() -> Protocol {
    Protocol::new("Chat", "1.0.0")
        .description("A chat with rooms.")
        .namespace::<FromClient, FromServer>("/")
        .namespace::<FromClient, FromServer>("/admin")
}

fn chat() -> Namespace {
    Namespace::new("/")
        .on_event(async |socket: Socket, Say { room, text, mood }: Say| {
            if text.is_empty() {
                return Err(HandlerError::new("empty", "say something"));
            }
            socket.to(&room).emit_event(&Heard { from: socket.id().to_string(), text, mood });
            Ok(Said { id: 1 })
        })
        .on_event(async |socket: Socket, to: Move| {
            socket.broadcast().emit_event(&to);
        })
        .on_event(async |Upload { name, data }: Upload| (name, data.len() as u32))
        .on_event(async |socket: Socket, _: Leave| socket.disconnect(false))
        .on_connect(async |socket: Socket| {
            if let Ok(Some(name)) = socket.call(&WhoAreYou).await {
                socket.join(format!("name:{name}"));
            }
        })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("typescript") => print!("{}", protocol().typescript()),
        Some("asyncapi") => print!("{}", protocol().asyncapi()),
        _ => return SocketIo::builder().namespace(chat()).listen("127.0.0.1:3000").await,
    }
    Ok(())
}
