//! With warp, whose filters are a tower service: Socket.IO's listener in front, everything else goes to the filters.
//!
//! `cargo run --example with_warp`

use socketio::{Builder, Data, Namespace, SocketIo};
use tokio::net::TcpListener;
use warp::Filter;

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/").on("echo", async |Data(text): Data<String>| text);
    SocketIo::builder().namespace(root)
}

pub(crate) async fn serve(io: SocketIo, listener: TcpListener) -> std::io::Result<()> {
    let count = io.clone();
    let sockets = warp::path!("sockets").map(move || format!("{} sockets\n", count.of("/").len()));
    let news = io.clone();
    let tell = warp::path!("news" / String).map(move |text: String| {
        let told = news.emit("news", text).recipients();
        format!("told {told}\n")
    });
    let filters = warp::service(warp::get().and(sockets).or(warp::post().and(tell)));
    // Deadlines and limits of the listener hold for the filters too.
    io.engine().serve(listener, filters).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = app().build()?;
    Ok(serve(io, TcpListener::bind("127.0.0.1:3000").await?).await?)
}
