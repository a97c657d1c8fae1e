//! A shutdown that nobody notices: what is being handled is finished, clients are told, and nothing hangs for ever.
//!
//! `cargo run --example graceful_shutdown`, then press Ctrl-C.

use std::time::Duration;

use socketio::{Builder, Data, DisconnectReason, Namespace, Socket, SocketIo};

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on("work", async |Data(millis): Data<u64>| {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            "done"
        })
        .on_disconnect(async |socket: Socket, reason: DisconnectReason| {
            println!("{} left: {reason}", socket.id());
        });
    SocketIo::builder().namespace(root)
}

/// Tells everybody, lets events finish, and cuts off what is left after ten seconds.
pub(crate) async fn shut_down(io: &SocketIo) {
    io.all_namespaces().emit("maintenance", "back in a minute");
    io.close_within(Duration::from_secs(10)).await;
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let io = app().build()?;
    tokio::select! {
        ended = io.listen("127.0.0.1:3000") => return ended,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    // The listener is gone: nobody new comes in while the others leave.
    shut_down(&io).await;
    Ok(())
}
