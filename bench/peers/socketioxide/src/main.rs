//! socketioxide on axum with the events of the benchmark, on the default runtime as its documentation sets it up.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::layer::SocketIoLayer;
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: Customer,
    lines: Vec<Line>,
    paid: bool,
    note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    name: String,
    email: String,
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    sku: String,
    title: String,
    quantity: u32,
    price: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip_while(|arg| arg != "--port").skip(1);
    let port: u16 = args.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let mut broker = std::env::args().skip_while(|arg| arg != "--broker").skip(1);
    if let Some(url) = broker.next() {
        let client = redis::Client::open(format!("{url}?protocol=resp3"))?;
        let adapter = RedisAdapterCtr::new_with_redis(&client).await?;
        let (layer, io) = SocketIo::builder().with_adapter::<RedisAdapter<_>>(adapter).build_layer();
        io.ns("/", connected).await?;
        serve(port, layer).await
    } else {
        let (layer, io) = SocketIo::new_layer();
        io.ns("/", connected);
        for number in 0..32 {
            io.ns(format!("/n{number}"), connected);
        }
        serve(port, layer).await
    }
}

async fn serve<A: Adapter>(port: u16, layer: SocketIoLayer<A>) -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    println!("listening on {}", listener.local_addr()?.port());
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

async fn connected<A: Adapter>(socket: SocketRef<A>) {
    socket.on("echo", async |Data(text): Data<String>, ack: AckSender<A>| {
        let _ = ack.send(&text);
    });
    socket.on("bin", async |Data(bytes): Data<Bytes>, ack: AckSender<A>| {
        let _ = ack.send(&bytes);
    });
    socket.on("obj", async |Data(order): Data<Order>, ack: AckSender<A>| {
        let _ = ack.send(&order);
    });
    socket.on("join", async |socket: SocketRef<A>, Data(room): Data<String>, ack: AckSender<A>| {
        socket.join(room);
        let _ = ack.send(&());
    });
    socket.on("leave", async |socket: SocketRef<A>, Data(room): Data<String>, ack: AckSender<A>| {
        socket.leave(room);
        let _ = ack.send(&());
    });
    socket.on("cast", async |io: SocketIo<A>, Data((count, size)): Data<(usize, usize)>| {
        let text = "x".repeat(size);
        for index in 0..count {
            let _ = io.emit("tick", &(index, &text)).await;
        }
    });
    socket.on("say", async |io: SocketIo<A>, Data((room, count, size)): Data<(String, usize, usize)>| {
        let text = "x".repeat(size);
        for index in 0..count {
            let _ = io.to(room.clone()).emit("tick", &(index, &text)).await;
        }
    });
}
