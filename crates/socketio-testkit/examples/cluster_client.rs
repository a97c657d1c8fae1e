//! A client of a mixed cluster, for `interop/cluster`: prints what it hears as lines of JSON and answers questions.
//! `cluster_client http://… name rooms`

use std::time::Duration;

use serde_json::{Value as Json, json};
use socketio_client::{Bytes, Client, Transport, Value};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, rooms] = &args[..] else { return Err("cluster_client http://… name rooms".into()) };
    let socket = Client::builder(url)
        .transports([Transport::WebSocket])
        .query("as", name)
        .query("rooms", rooms)
        .reconnection_delay(Duration::from_millis(50))
        .reconnection_delay_max(Duration::from_millis(200))
        .on_connect(async |socket: socketio_client::Socket| {
            println!("{}", json!({"connected": socket.id(), "recovered": socket.recovered()}));
        })
        .on_disconnect(async |_: socketio_client::Socket, reason: socketio_client::DisconnectReason| {
            println!("{}", json!({"disconnected": reason.to_string()}));
        })
        .connect_lazy()?;
    let mut events = socket.events();
    let mut input = tokio::io::stdin();
    loop {
        let mut nothing = [0; 64];
        tokio::select! {
            event = events.next() => {
                let Some(mut event) = event else { return Ok(()) };
                match event.name() {
                    _ if !event.wants_answer() => {
                        let mut line = vec![Json::from(event.name())];
                        line.extend(event.args().values()?.into_iter().map(written));
                        println!("{}", json!({"event": line}));
                    }
                    "who" => event.answer(name),
                    "bytes" => event.answer(Bytes::from_static(&[1, 2, 3])),
                    _ => {}
                }
            }
            read = input.read(&mut nothing) => {
                if read? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Binary values are written as `{"$": "<hex>"}`.
fn written(value: Value) -> Json {
    match value {
        Value::Binary(bytes) => json!({"$": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
        Value::Array(values) => values.into_iter().map(written).collect(),
        Value::Map(fields) => fields.into_iter().map(|(name, value)| (name, written(value))).collect(),
        other => other.into(),
    }
}
