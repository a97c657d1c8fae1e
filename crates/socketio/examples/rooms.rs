//! Rooms: clients join and leave groups of their own choice, and talk to a group.
//!
//! `cargo run --example rooms`, then `socket.emit("join", "cats", (count) => …)`.

use socketio::{Builder, Data, HandlerError, Namespace, NamespaceHandle, Socket, SocketIo};

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on("join", async |socket: Socket, nsp: NamespaceHandle, Data(room): Data<String>| {
            socket.join(&room).result()?;
            socket.to(&room).emit("joined", (&room, socket.id()));
            Ok::<_, HandlerError>(nsp.room_size(&room))
        })
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(&room);
            socket.to(&room).emit("left", (&room, socket.id()));
        })
        .on("say", async |socket: Socket, Data((room, text)): Data<(String, String)>| {
            if !socket.is_in(&room) {
                return Err(HandlerError::new("not_in_room", format!("join {room} first")));
            }
            socket.to(&room).emit("said", (&room, socket.id(), text));
            Ok(())
        })
        .on_disconnecting(async |socket: Socket| {
            // The rooms can still be read here.
            for room in socket.rooms().iter().filter(|room| *room != socket.id()) {
                socket.to(room).emit("left", (room, socket.id()));
            }
        });
    SocketIo::builder().namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
