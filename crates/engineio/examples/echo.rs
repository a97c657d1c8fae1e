//! An Engine.IO server that sends every message back.
//!
//! `cargo run --example echo -p engineio -- 127.0.0.1:3001 [eio3]`

use std::task::{Context, Poll};

use engineio::{Application, CloseReason, Connection, Frame, HEADROOM, Message, Server, Session};

struct Echo;

struct EchoConnection(Session);

impl Application for Echo {
    type Connection = EchoConnection;

    fn open(&self, session: &Session) -> EchoConnection {
        EchoConnection(session.clone())
    }
}

impl Connection for EchoConnection {
    fn message(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        let (data, binary) = match message {
            Message::Text(text) => (text.as_bytes(), false),
            Message::Binary(data) => (data, true),
        };
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(data);
        let frame = if binary { Frame::binary(buffer, HEADROOM) } else { Frame::text(buffer, HEADROOM) };
        // A session that has ended meanwhile needs no answer.
        let _ = self.0.send([frame]);
    }

    fn poll(&mut self, _: &mut Context<'_>) {}

    fn close(&mut self, _: &mut Context<'_>, reason: CloseReason) {
        println!("closed: {reason} {}", reason.description().unwrap_or_default());
    }

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3001".to_owned());
    let eio3 = arguments.next().is_some_and(|argument| argument == "eio3");
    let server = Server::<Echo>::builder().allow_eio3(eio3).build(Echo)?;
    println!("listening on {address}");
    server.listen(address).await?;
    Ok(())
}
