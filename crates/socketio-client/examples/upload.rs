//! Uploads a file in chunks and shows how far it is. A connection that breaks costs the chunk that was on its way.
//!
//! `cargo run -p socketio --example file_upload`, then `cargo run -p socketio-client --example upload -- FILE`.

use std::{error::Error, time::Duration};

use serde_json::json;
use socketio_client::{AckError, Bytes, Client, ClientBuilder};

const CHUNK: usize = 64 << 10;

/// Returns when the server has the whole file. `progress` is told how many bytes are there.
pub(crate) async fn upload(
    client: ClientBuilder,
    name: &str,
    file: Bytes,
    mut progress: impl FnMut(usize),
) -> Result<(), Box<dyn Error>> {
    let socket = client.ack_timeout(Duration::from_secs(10)).connect().await?;
    // The server says how much it has: nothing, or what an earlier attempt has brought.
    let begin = json!({ "name": name, "size": file.len() });
    let (id, mut done): (String, usize) = socket.emit_with_ack("begin", &begin).await?;
    progress(done);
    while done < file.len() {
        let chunk = file.slice(done..file.len().min(done + CHUNK));
        done = match socket.emit_with_ack("chunk", (&id, done, chunk)).await {
            Ok(done) => done,
            // Whether the chunk has arrived nobody knows; the server does, when it is there again.
            Err(AckError::Disconnected | AckError::Timeout) => {
                socket.joined().await?;
                let (_, done): (String, usize) = socket.emit_with_ack("begin", &begin).await?;
                done
            }
            Err(error) => return Err(error.into()),
        };
        progress(done);
    }
    socket.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let file = Bytes::from(tokio::fs::read(&path).await?);
    let size = file.len().max(1);
    let client = Client::builder("http://127.0.0.1:3000");
    upload(client, &path, file, |done| println!("{:3} %", done * 100 / size)).await
}
