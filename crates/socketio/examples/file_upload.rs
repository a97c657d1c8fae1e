//! Uploads in chunks: each is acknowledged, so the client knows how far it is and may go on after a break.
//!
//! `cargo run --example file_upload`, then `socket.emit("begin", { name, size }, (id, from) => …)` and
//! `from = await socket.emitWithAck("chunk", id, from, buffer)` until it is the size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use socketio::{Builder, Bytes, Data, HandlerError, Namespace, OrError, Socket, SocketIo, State};

#[derive(Deserialize)]
struct Begin {
    name: String,
    size: usize,
}

/// What has come of each file so far. A real server writes to a disk, and forgets what nobody goes on with.
type Files = Arc<Mutex<HashMap<String, (usize, Vec<u8>)>>>;

const LARGEST: usize = 10 << 20;

async fn begin(Data(begin): Data<Begin>, State(files): State<Files>) -> Result<(String, usize), HandlerError> {
    if begin.size > LARGEST {
        return Err(HandlerError::new("too_large", "10 MiB at most").details(LARGEST));
    }
    let id = format!("{}:{}", begin.size, begin.name);
    let mut files = files.lock().unwrap();
    let (_, data) = files.entry(id.clone()).or_insert_with(|| (begin.size, Vec::new()));
    Ok((id, data.len()))
}

type Chunk = (String, usize, Bytes);

async fn chunk(socket: Socket, chunk: Data<Chunk>, State(files): State<Files>) -> Result<usize, HandlerError> {
    let (id, from, bytes) = chunk.0;
    let mut files = files.lock().unwrap();
    let (size, data) = files.get_mut(&id).or_error("unknown_file", "begin first")?;
    if from != data.len() || bytes.len() > *size - data.len() {
        return Err(HandlerError::new("wrong_place", "go on where the answer says").details(data.len()));
    }
    data.extend_from_slice(&bytes);
    if data.len() == *size {
        socket.emit("stored", (&id, *size));
    }
    Ok(data.len())
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/").on("begin", begin).on("chunk", chunk);
    SocketIo::builder().max_payload(1 << 20).state(Files::default()).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
