//! The usual case: no `.boxed()`, no turbofish, no `.ok()` behind an emit, no `async move` block in a handler.
#![deny(warnings, unused_must_use, unused_results)]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use socketio::{
    Ack, Auth, ConnectError, Data, DisconnectReason, Event, EventName, HandlerError, Namespace, Next, Socket, SocketIo,
    State,
};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "say", ack = u32)]
struct Say {
    text: String,
}

#[derive(Clone)]
struct Db;

async fn named(socket: Socket, Data((a, b)): Data<(i64, i64)>, State(_): State<Db>) -> Result<i64, HandlerError> {
    let _ = socket.emit("working", ());
    let c: i64 = "7".parse()?;
    Ok(a + b + c)
}

#[tokio::test]
async fn handlers_and_emits_need_no_ceremony() {
    let limit = 3_usize;
    let namespace = Namespace::new("/")
        .state(Db)
        .use_(async |Auth(name): Auth<String>| if name.is_empty() { Err(ConnectError::new("no")) } else { Ok(()) })
        .use_event(async |EventName(_): EventName, next: Next| next.run().await)
        .on_connect(async |socket: Socket| {
            let _ = socket.join("lobby");
        })
        .on("sum", named)
        .on("nothing", async || ())
        .on("text", async |Data(text): Data<String>| text)
        .on("limited", move |Data(list): Data<Vec<u8>>| async move { list.len() < limit })
        .on("later", async |ack: Ack| ack.send(5))
        .on_event(async |socket: Socket, say: Say| {
            let _ = socket.to("lobby").emit_event(&say);
            7
        })
        .on_disconnect(async |_: Socket, reason: DisconnectReason| println!("{reason}"));
    let io = SocketIo::builder().namespace(namespace).build();
    assert!(io.is_ok());
    let _ = statements;
}

/// An emit is a statement.
async fn statements(io: SocketIo, socket: Socket) -> Result<(), Box<dyn std::error::Error>> {
    #![allow(unused_results)]
    io.emit("tick", 1);
    io.to("room").except("other").volatile().emit("tick", (1, "two"));
    socket.emit("tick", ());
    socket.join("room");
    socket.emit("tick", 1).await?;
    let sum: i64 = socket.timeout(Duration::from_secs(1)).emit_with_ack("sum", (2, 3)).await?;
    let id = socket.call(&Say { text: sum.to_string() }).await?;
    let _: u32 = id;
    Ok(())
}
