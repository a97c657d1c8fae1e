//! All connections of the generator on one thread: reads, frames, writes. Scenarios see events and append bytes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::{tls, wire};

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    /// A WebSocket whose opening is not answered yet.
    Opening,
    WebSocket,
}

/// Something that arrived on a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The WebSocket is open.
    Opened,
    /// A text message. Engine.IO pings are answered already and not shown.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// An HTTP answer.
    Response(u16, &'a [u8]),
    /// The peer closed, or the connection broke. It is gone.
    Closed,
}

/// Whether a connection is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Keep,
    Close,
}

struct Connection {
    stream: TcpStream,
    kind: Kind,
    /// Input that is no whole message yet.
    rest: Vec<u8>,
    /// Output that is not written yet.
    out: Vec<u8>,
    tls: Option<tls::Session>,
}

pub struct World {
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    pub port: u16,
    /// Whether to wait for input without sleeping.
    spin: bool,
    /// How long nothing had arrived, in all.
    idle: Duration,
    /// Makes the connections speak TLS.
    tls: Option<tls::Dialler>,
    /// How many pings of Engine.IO were answered.
    pings: u64,
}

impl World {
    /// A world of no connections. With `spin` it never sleeps: on the loopback a send wakes the receiver on the sender's
    /// account, so a generator that sleeps makes the servers pay for waking it, and the more the less it has to do.
    pub fn new(port: u16, spin: bool, tls: Option<tls::Dialler>) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; 256 << 10],
            port,
            spin,
            idle: Duration::ZERO,
            tls,
            pings: 0,
        })
    }

    /// How long nothing had arrived, in all, to the last turn.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// How many pings of Engine.IO were answered over WebSocket so far.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// Opens a WebSocket, of a new session or of the one with this id.
    pub fn websocket(&mut self, sid: Option<&str>) -> io::Result<usize> {
        let index = self.connect(Kind::Opening)?;
        let port = self.port;
        self.send(index, |out| wire::upgrade(out, port, sid));
        Ok(index)
    }

    /// Opens a connection for HTTP requests.
    pub fn http(&mut self) -> io::Result<usize> {
        self.connect(Kind::Http)
    }

    fn connect(&mut self, kind: Kind) -> io::Result<usize> {
        // On the loopback a blocking connect returns as soon as the kernel has queued it for the server.
        let stream = std::net::TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)))?;
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        // Closing resets: no connection lingers in TIME_WAIT, and no run finds the ports of the one before taken.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let tls = self.tls.as_ref().map(tls::Dialler::dial).transpose()?;
        self.connections[index] = Some(Connection { stream, kind, rest: Vec::new(), out: Vec::new(), tls });
        Ok(index)
    }

    /// Appends to the output of a connection and writes what its socket takes.
    pub fn send(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            write(&mut connection.out);
            // A broken connection is seen by the next read.
            let _ = connection.flush();
        }
    }

    /// Stops looking at a connection, which stays open: a peer that does not read.
    pub fn ignore(&mut self, index: usize) -> io::Result<()> {
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            self.poll.registry().deregister(&mut connection.stream)?;
            socket2::SockRef::from(&connection.stream).set_recv_buffer_size(4 << 10)?;
        }
        Ok(())
    }

    /// Reads a connection to its end or until nothing is left, and says whether the peer had given it up.
    pub fn was_cut(&mut self, index: usize) -> bool {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return true };
        loop {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    pub fn close(&mut self, index: usize) {
        if self.connections.get_mut(index).and_then(Option::take).is_some() {
            self.free.push(index);
        }
    }

    pub fn close_all(&mut self) {
        (0..self.connections.len()).for_each(|index| self.close(index));
    }

    /// Waits for input and hands it to `on`, which may append to the connection's output; that is written once.
    pub fn turn(
        &mut self,
        wait: Duration,
        mut on: impl FnMut(usize, Event<'_>, &mut Vec<u8>, Instant) -> Flow,
    ) -> io::Result<()> {
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            let left = if self.spin { Duration::ZERO } else { wait };
            if let Err(error) = self.poll.poll(&mut self.events, Some(left)) {
                return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
            }
            if !self.events.is_empty() {
                break;
            }
            waited = began.elapsed();
            if waited >= wait {
                self.idle += waited;
                return Ok(());
            }
        }
        self.idle += waited;
        for event in &self.events {
            let index = event.token().0;
            let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { continue };
            let mut flow = Flow::Keep;
            if event.is_readable() {
                let mut on = |event: Event<'_>, out: &mut Vec<u8>, now: Instant| on(index, event, out, now);
                flow = connection.read(&mut self.scratch, &mut self.pings, &mut on);
            }
            if flow == Flow::Keep && connection.has_output() && connection.flush().is_err() {
                on(index, Event::Closed, &mut connection.out, Instant::now());
                flow = Flow::Close;
            }
            if flow == Flow::Close {
                self.connections[index] = None;
                self.free.push(index);
            }
        }
        Ok(())
    }
}

impl Connection {
    fn read(
        &mut self,
        scratch: &mut [u8],
        pings: &mut u64,
        on: &mut impl FnMut(Event<'_>, &mut Vec<u8>, Instant) -> Flow,
    ) -> Flow {
        loop {
            let read = match self.stream.read(scratch) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Keep,
                Ok(_) | Err(_) => {
                    on(Event::Closed, &mut self.out, Instant::now());
                    return Flow::Close;
                }
            };
            let now = Instant::now();
            let (consumed, flow) = if let Some(tls) = &mut self.tls {
                if let Err(error) = tls.read(&scratch[..read], &mut self.rest) {
                    broken(&error.to_string());
                }
                take(&mut self.kind, &mut self.out, &self.rest, now, pings, on)
            } else if self.rest.is_empty() {
                let (consumed, flow) = take(&mut self.kind, &mut self.out, &scratch[..read], now, pings, on);
                self.rest.extend_from_slice(&scratch[consumed..read]);
                (0, flow)
            } else {
                self.rest.extend_from_slice(&scratch[..read]);
                take(&mut self.kind, &mut self.out, &self.rest, now, pings, on)
            };
            if flow == Flow::Close {
                return Flow::Close;
            }
            self.rest.drain(..consumed);
            if self.rest.is_empty() && self.rest.capacity() > 0 && self.rest.capacity() < 1024 {
                self.rest = Vec::new();
            }
            // A short read has taken everything: epoll tells when there is more.
            if read < scratch.len() {
                return Flow::Keep;
            }
        }
    }

    fn has_output(&self) -> bool {
        !self.out.is_empty() || self.tls.as_ref().is_some_and(tls::Session::wants_write)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.write(&mut self.out, &mut self.stream);
        }
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }
}

/// Hands out all whole messages of the input; how much that was, and whether the connection goes on.
fn take(
    kind: &mut Kind,
    out: &mut Vec<u8>,
    input: &[u8],
    now: Instant,
    pings: &mut u64,
    on: &mut impl FnMut(Event<'_>, &mut Vec<u8>, Instant) -> Flow,
) -> (usize, Flow) {
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let flow = match *kind {
            Kind::Http => match wire::response(rest) {
                Ok(None) => return (at, Flow::Keep),
                Ok(Some((status, body, end))) => {
                    at += end;
                    on(Event::Response(status, &body), out, now)
                }
                Err(problem) => broken(&problem),
            },
            Kind::Opening => match wire::accepted(rest) {
                Ok(None) => return (at, Flow::Keep),
                Ok(Some(end)) => {
                    at += end;
                    *kind = Kind::WebSocket;
                    on(Event::Opened, out, now)
                }
                Err(problem) => broken(&problem),
            },
            Kind::WebSocket => match wire::next_frame(rest) {
                Ok(None) => return (at, Flow::Keep),
                Ok(Some((opcode, payload))) => {
                    at += payload.end;
                    let payload = &rest[payload];
                    match (opcode, payload) {
                        (wire::TEXT, b"2") => {
                            *pings += 1;
                            wire::frame(out, wire::TEXT, b"3");
                            Flow::Keep
                        }
                        (wire::TEXT, text) => on(Event::Text(text), out, now),
                        (wire::BINARY, bytes) => on(Event::Binary(bytes), out, now),
                        (wire::PING, data) => {
                            wire::frame(out, wire::PONG, data);
                            Flow::Keep
                        }
                        (wire::PONG, _) => Flow::Keep,
                        (wire::CLOSE, _) => {
                            on(Event::Closed, out, now);
                            Flow::Close
                        }
                        _ => broken("an unknown frame"),
                    }
                }
                Err(problem) => broken(problem),
            },
        };
        if flow == Flow::Close {
            return (at, Flow::Close);
        }
    }
}

/// A server that breaks the protocol is not measured.
fn broken(problem: &str) -> ! {
    eprintln!("the server broke the protocol: {problem}");
    std::process::exit(1);
}
