//! A chat in the terminal: what you type goes to everybody, what the others say is printed.
//!
//! `cargo run -p socketio --example chat` in one terminal, `cargo run -p socketio-client --example chat` in others.

use std::fmt::Display;

use socketio_client::{Client, ConnectFailure, DisconnectReason, Socket, extract::Data};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

/// Sends each line of `input`, and hands what there is to read to `print`, until the input ends.
pub(crate) async fn chat<P>(url: &str, input: impl AsyncBufRead + Unpin, print: P) -> Result<(), ConnectFailure>
where
    P: Fn(&dyn Display) + Clone + Send + Sync + 'static,
{
    let (said, here, gone) = (print.clone(), print.clone(), print.clone());
    let socket = Client::builder(url)
        .on("message", move |Data((from, text)): Data<(String, String)>| {
            said(&format_args!("{from}: {text}"));
            std::future::ready(())
        })
        .on_connect(move |socket: Socket| {
            here(&format_args!("* you are {}", socket.id().unwrap_or_default()));
            std::future::ready(())
        })
        .on_disconnect(move |_: Socket, reason: DisconnectReason| {
            gone(&format_args!("* {reason}"));
            std::future::ready(())
        })
        .connect()
        .await?;
    let mut lines = input.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // While there is no connection, lines wait in a buffer, which has a bound.
        if let Some(error) = socket.emit("message", line).error() {
            print(&format_args!("* not sent: {error}"));
        }
    }
    socket.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), ConnectFailure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000/chat".to_owned());
    chat(&url, BufReader::new(tokio::io::stdin()), |line: &dyn Display| println!("{line}")).await
}
