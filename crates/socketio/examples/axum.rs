//! Socket.IO beside the routes of an axum application: `cargo run --example axum`.
//!
//! The layer answers what is meant for Socket.IO and passes everything else on. Shared state reaches handlers as `State`,
//! and the application emits from its routes through the `SocketIo` handle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use socketio::{Builder, Data, HandlerError, Namespace, Socket, SocketIo, State};

/// What all handlers share.
type Hits = Arc<AtomicU64>;

pub(crate) fn app() -> Builder {
    SocketIo::builder()
        .namespace(root())
        .state(Hits::default())
        .peer_addr(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
}

pub(crate) fn router(io: &SocketIo) -> Router {
    let news = io.clone();
    Router::new()
        .route("/", get(async || "Socket.IO is at /socket.io/"))
        .route(
            "/news",
            post(async move |body: String| format!("{} readers\n", news.to("readers").emit("news", body).recipients())),
        )
        .layer(io.layer())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = router(&app().build()?).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}

fn root() -> Namespace {
    Namespace::new("/")
        .on_connect(async |socket: Socket| {
            socket.join("readers");
        })
        .on("hit", async |State(hits): State<Hits>| hits.fetch_add(1, Ordering::Relaxed) + 1)
        .on("divide", divide)
}

async fn divide(Data((a, b)): Data<(i64, i64)>) -> Result<i64, HandlerError> {
    a.checked_div(b).ok_or_else(|| HandlerError::new("division", format!("{a} / {b} has no result")))
}
