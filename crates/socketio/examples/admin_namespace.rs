//! Namespaces: one for everybody, one for admins on the same connection, who see and steer the other.
//!
//! `cargo run --example admin_namespace`, then `io("/admin", { auth: { password: "let me in" } })`.

use serde::Deserialize;
use socketio::{Auth, Builder, ConnectError, Data, HandlerError, Namespace, OrError, Socket, SocketIo};

#[derive(Deserialize)]
struct Login {
    password: String,
}

fn everybody() -> Namespace {
    Namespace::new("/")
        .on_connect(async |io: SocketIo, socket: Socket| {
            io.of("/admin").emit("came", socket.id());
        })
        .on_disconnect(async |io: SocketIo, socket: Socket| {
            io.of("/admin").emit("went", socket.id());
        })
}

fn admin() -> Namespace {
    Namespace::new("/admin")
        .use_(async |Auth(login): Auth<Login>| match login.password.as_str() {
            "let me in" => Ok(()),
            _ => Err(ConnectError::new("admins only").code("forbidden")),
        })
        .on("list", async |io: SocketIo| {
            let sockets = io.of("/").sockets();
            sockets.iter().map(|socket| socket.id().clone()).collect::<Vec<_>>()
        })
        .on("announce", async |io: SocketIo, Data(text): Data<String>| {
            io.of("/").emit("announcement", text).recipients()
        })
        .on("kick", async |io: SocketIo, Data(id): Data<String>| {
            let socket = io.of("/").socket(&id).or_error("gone", "there is no such socket")?;
            socket.disconnect(true);
            Ok::<_, HandlerError>(())
        })
}

pub(crate) fn app() -> Builder {
    SocketIo::builder().namespace(everybody()).namespace(admin())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
