//! A chat server in twenty lines: `cargo run --example chat`, then connect with any Socket.IO client to
//! `http://127.0.0.1:3000/chat`.

use socketio::{Data, Namespace, Socket, SocketIo};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let chat = Namespace::new("/chat")
        .on_connect(async |socket: Socket| {
            socket.join("lobby");
        })
        .on("message", async |socket: Socket, Data(text): Data<String>| {
            socket.to("lobby").emit("message", (socket.id(), text));
        })
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b); // what it returns is the ack

    SocketIo::builder().namespace(chat).listen("127.0.0.1:3000").await
}
