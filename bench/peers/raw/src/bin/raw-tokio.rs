//! A task per connection, a read buffer per connection, one write per read, broadcasts over a channel.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use peer_raw::{Cast, MAX_INPUT, answer, open, port, tick};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Everybody = Arc<Mutex<Vec<UnboundedSender<Bytes>>>>;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port()))).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let everybody = Everybody::default();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, everybody.clone()));
        }
    }
}

async fn serve(mut stream: TcpStream, everybody: Everybody) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A whole burst of the pipelined scenarios fits; what no read reaches is never touched.
    let mut input = vec![0; 32 << 10];
    let mut filled = 0;
    let mut out = Vec::new();
    // The opening.
    loop {
        let read = stream.read(&mut input[filled..]).await?;
        filled += read;
        match open(&input[..filled], &mut out) {
            None if read > 0 && filled < input.len() => {}
            None | Some(Err(())) => return Ok(()),
            Some(Ok(end)) => {
                input.copy_within(end..filled, 0);
                filled -= end;
                break;
            }
        }
    }
    stream.write_all(&out).await?;
    let (sender, mut receiver) = unbounded_channel();
    lock(&everybody).push(sender);
    loop {
        out.clear();
        tokio::select! {
            biased;
            read = stream.read(&mut input[filled..]) => {
                let read = read?;
                filled += read;
                let answered = answer(&mut input[..filled], &mut out);
                if read == 0 || answered.close {
                    return Ok(());
                }
                input.copy_within(answered.consumed..filled, 0);
                filled -= answered.consumed;
                if filled == input.len() {
                    if filled > MAX_INPUT {
                        return Ok(());
                    }
                    input.resize(filled * 4, 0);
                }
                if let Some(what) = answered.cast {
                    cast(&everybody, what);
                }
            }
            frame = receiver.recv() => gather(frame, &mut receiver, &mut out),
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
        }
    }
}

fn gather(first: Option<Bytes>, receiver: &mut UnboundedReceiver<Bytes>, out: &mut Vec<u8>) {
    let mut next = first;
    while let Some(frame) = next {
        out.extend_from_slice(&frame);
        next = receiver.try_recv().ok();
    }
}

fn cast(everybody: &Everybody, what: Cast) {
    let mut everybody = lock(everybody);
    for index in 0..what.count {
        let mut frame = Vec::new();
        tick(&mut frame, index, what.size);
        let frame = Bytes::from(frame);
        everybody.retain(|sender| sender.send(frame.clone()).is_ok());
    }
}

fn lock(everybody: &Everybody) -> std::sync::MutexGuard<'_, Vec<UnboundedSender<Bytes>>> {
    everybody.lock().unwrap_or_else(PoisonError::into_inner)
}
