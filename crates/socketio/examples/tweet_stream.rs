//! A stream of short messages: clients subscribe to words, and a slow client misses some instead of delaying others.
//!
//! `cargo run --example tweet_stream`, then `socket.emit("track", "rust")`.

use std::time::Duration;

use serde::Serialize;
use socketio::{Builder, Data, HandlerError, Namespace, Socket, SocketIo};

#[derive(Serialize)]
struct Tweet<'a> {
    author: &'a str,
    text: &'a str,
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on("track", async |socket: Socket, Data(word): Data<String>| {
            if word.len() > 32 || !word.chars().all(char::is_alphanumeric) {
                return Err(HandlerError::new("bad_word", "one word of at most 32 letters"));
            }
            socket.join(format!("word:{}", word.to_lowercase())).result()?;
            Ok(())
        })
        .on("untrack", async |socket: Socket, Data(word): Data<String>| {
            socket.leave(format!("word:{}", word.to_lowercase()));
        });
    SocketIo::builder().namespace(root)
}

/// Sends a message to everybody who tracks one of its words; who tracks several gets it once.
pub(crate) fn publish(io: &SocketIo, author: &str, text: &str) -> usize {
    let words = text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
    let rooms: Vec<String> = words.map(|word| format!("word:{}", word.to_lowercase())).collect();
    if rooms.is_empty() {
        return 0;
    }
    io.to(rooms).volatile().emit("tweet", Tweet { author, text }).recipients()
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let io = app().build()?;
    let stream = io.clone();
    tokio::spawn(async move {
        for text in ["Rust is out", "No rust on my bike", "Hello world"].iter().cycle() {
            publish(&stream, "ann", text);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    io.listen("127.0.0.1:3000").await
}
