//! Connection state recovery: a client that comes back within two minutes has its socket, rooms and missed events again.
//!
//! `cargo run --example recovery`, then look at `socket.recovered` in the browser after its network was gone.

use std::time::Duration;

use socketio::{Builder, Data, Namespace, RecoveryOptions, Socket, SocketIo};

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on_connect(async |socket: Socket| {
            if socket.recovered() {
                println!("{} is back, in {} rooms", socket.id(), socket.rooms().iter().count());
            } else {
                socket.join("readers");
            }
        })
        .on("write", async |socket: Socket, Data(text): Data<String>| {
            socket.to("readers").emit("news", text);
        });
    let mut recovery = RecoveryOptions::default();
    recovery.max_disconnection_duration = Duration::from_secs(120);
    SocketIo::builder().connection_state_recovery(recovery).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
