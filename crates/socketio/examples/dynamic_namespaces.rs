//! Dynamic namespaces: each project has one, made when the first client comes and gone with the last.
//!
//! `cargo run --example dynamic_namespaces`, then `io("/project/7")`.

use serde::Deserialize;
use socketio::{Builder, ConnectError, Data, NameParams, Namespace, NamespaceHandle, Socket, SocketIo};

#[derive(Deserialize)]
struct Project {
    id: u32,
}

pub(crate) fn app() -> Builder {
    let projects = Namespace::pattern("/project/{id}")
        .use_(async |NameParams(project): NameParams<Project>| match project.id {
            1..=100 => Ok(()),
            _ => Err(ConnectError::new("there is no such project").data(project.id)),
        })
        .on_connect(
            async |socket: Socket, project: NamespaceHandle, NameParams(Project { id }): NameParams<Project>| {
                socket.emit("welcome", (id, project.len()));
            },
        )
        .on("edit", async |socket: Socket, Data(text): Data<String>| {
            // Only sockets of this project: each namespace has rooms of its own.
            socket.broadcast().emit("edited", text);
        });
    SocketIo::builder().namespace(projects)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
