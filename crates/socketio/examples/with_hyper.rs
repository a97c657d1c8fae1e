//! Under hyper, without a framework: the service of Socket.IO in front of one of your own.
//!
//! `cargo run --example with_hyper`

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socketio::{Builder, Data, Namespace, PeerAddr, Socket, SocketIo};
use tokio::net::TcpListener;

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on("where", async |socket: Socket| socket.handshake().address().is_some())
        .on("echo", async |Data(text): Data<String>| text);
    SocketIo::builder().namespace(root)
}

async fn page(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!("there is nothing at {} but Socket.IO\n", request.uri().path())))
}

pub(crate) async fn serve(io: SocketIo, listener: TcpListener) -> std::io::Result<()> {
    let service = io.service_with(tower::service_fn(page));
    loop {
        let (stream, peer) = listener.accept().await?;
        let service = service.clone();
        // What the listener knows of the connection reaches handlers as an extension of its requests.
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            tower::Service::call(&mut service.clone(), request)
        });
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
            if let Err(error) = connection.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = app().build()?;
    Ok(serve(io, TcpListener::bind("127.0.0.1:3000").await?).await?)
}
