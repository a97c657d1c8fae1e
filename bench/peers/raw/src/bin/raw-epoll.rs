//! One thread on epoll, answers written straight to the socket, broadcasts framed once: the practical limit.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use peer_raw::{Cast, MAX_INPUT, answer, open, port, tick};

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// Input that is no whole frame yet.
    rest: Vec<u8>,
    /// Output that the socket would not take.
    unsent: Vec<u8>,
    open: bool,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port())))?;
    println!("listening on {}", listener.local_addr()?.port());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut scratch = vec![0; 256 << 10];
    let mut out = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let index = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(index), both)?;
                    connections[index] = Some(Connection { stream, rest: Vec::new(), unsent: Vec::new(), open: false });
                }
                continue;
            }
            let index = event.token().0;
            let Some(connection) = connections.get_mut(index).and_then(Option::as_mut) else { continue };
            let mut alive = true;
            if event.is_writable() && !connection.unsent.is_empty() {
                let unsent = std::mem::take(&mut connection.unsent);
                alive = send(connection, &unsent);
            }
            let mut cast = None;
            if alive && event.is_readable() {
                alive = readable(connection, &mut scratch, &mut out, &mut cast);
            }
            if !alive {
                connections[index] = None;
                free.push(index);
            }
            if let Some(Cast { count, size }) = cast {
                out.clear();
                (0..count).for_each(|index| tick(&mut out, index, size));
                for (index, slot) in connections.iter_mut().enumerate() {
                    if slot.as_mut().is_some_and(|connection| connection.open && !send(connection, &out)) {
                        *slot = None;
                        free.push(index);
                    }
                }
            }
        }
    }
}

/// Reads and answers until the socket has no more; `false` when the connection is over.
fn readable(connection: &mut Connection, scratch: &mut [u8], out: &mut Vec<u8>, cast: &mut Option<Cast>) -> bool {
    loop {
        let read = match connection.stream.read(scratch) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        out.clear();
        let alive = if connection.rest.is_empty() {
            match feed(&mut connection.open, &mut scratch[..read], out, cast) {
                Some(consumed) => {
                    connection.rest.extend_from_slice(&scratch[consumed..read]);
                    true
                }
                None => false,
            }
        } else {
            connection.rest.extend_from_slice(&scratch[..read]);
            match feed(&mut connection.open, &mut connection.rest, out, cast) {
                Some(consumed) if consumed == connection.rest.len() => {
                    connection.rest = Vec::new();
                    true
                }
                Some(consumed) => {
                    connection.rest.drain(..consumed);
                    connection.rest.len() <= MAX_INPUT
                }
                None => false,
            }
        };
        if !alive || (!out.is_empty() && !send(connection, out)) {
            return false;
        }
        // A short read has taken everything: epoll tells when there is more.
        if read < scratch.len() {
            return true;
        }
    }
}

/// How much of the input was consumed, or that the connection is over.
fn feed(is_open: &mut bool, input: &mut [u8], out: &mut Vec<u8>, cast: &mut Option<Cast>) -> Option<usize> {
    let mut start = 0;
    if !*is_open {
        match open(input, out) {
            None => return Some(0),
            Some(Err(())) => return None,
            Some(Ok(end)) => start = end,
        }
        *is_open = true;
    }
    let answered = answer(&mut input[start..], out);
    if answered.cast.is_some() {
        *cast = answered.cast;
    }
    (!answered.close).then_some(start + answered.consumed)
}

/// Writes, and keeps what the socket does not take; `false` when it is broken.
fn send(connection: &mut Connection, bytes: &[u8]) -> bool {
    if !connection.unsent.is_empty() {
        connection.unsent.extend_from_slice(bytes);
        return true;
    }
    let mut sent = 0;
    while sent < bytes.len() {
        match connection.stream.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    connection.unsent.extend_from_slice(&bytes[sent..]);
    true
}
