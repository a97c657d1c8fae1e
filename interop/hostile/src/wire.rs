//! Raw TCP with just enough HTTP and WebSocket to read what comes back.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// Where the connections of this thread come from. A server's events tell by it whose they are.
    static SOURCE: Cell<Ipv4Addr> = const { Cell::new(Ipv4Addr::LOCALHOST) };
}

/// Lets the connections of this thread come from an address of this machine.
pub(crate) fn come_from(source: Ipv4Addr) {
    SOURCE.set(source);
}

/// Where the connections of this thread come from.
pub(crate) fn source() -> Ipv4Addr {
    SOURCE.get()
}

/// Whether this machine has more loopback addresses than one: Linux does.
pub(crate) fn can_come_from(source: Ipv4Addr) -> bool {
    std::net::TcpListener::bind((source, 0)).is_ok()
}

/// One TCP connection and the bytes that came and were not yet looked at.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Wire {
    pub(crate) fn open(address: SocketAddr) -> Result<Wire, String> {
        let connected = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((SOURCE.get(), 0)).into())?;
            socket.connect_timeout(&address.into(), PATIENCE)?;
            Ok(TcpStream::from(socket))
        };
        let stream = connected().map_err(|error: std::io::Error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Wire { stream, buffer: Vec::new(), ended: false })
    }

    /// Writes while reading: a peer that answers before it has read everything must not block us.
    ///
    /// A peer that closes while we write is no error of this call: what it sent before is looked at next.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let begin = Instant::now();
        self.stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let mut sent = 0;
        while sent < bytes.len() && !self.ended {
            let rest = bytes.get(sent..).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => {
                    break;
                }
            }
            self.read_ready();
            if begin.elapsed() > PATIENCE {
                return Err(format!("the peer took only {sent} of {} bytes", bytes.len()));
            }
        }
        self.stream.set_nonblocking(false).map_err(|error| error.to_string())
    }

    /// Writes the same bytes again and again and reads nothing, until the peer takes no more. Then it is read again.
    pub(crate) fn send_deaf(&mut self, bytes: &[u8], count: usize) -> Result<(), String> {
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        for _ in 0..count {
            // The peer has hung up, or will when we go on like this: what comes next looks at that.
            if self.stream.write_all(bytes).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn read_ready(&mut self) {
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.ended = true,
            }
            return;
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until `take` finds something and says how many bytes it used; `None` when the connection ended first.
    fn until<T>(&mut self, what: &str, take: impl Fn(&[u8], bool) -> Option<(T, usize)>) -> Result<Option<T>, String> {
        let begin = Instant::now();
        loop {
            if let Some((value, used)) = take(&self.buffer, self.ended) {
                self.buffer.drain(..used.min(self.buffer.len()));
                return Ok(Some(value));
            }
            if self.ended {
                return Ok(None);
            }
            let left = PATIENCE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
            let Some(left) = left else {
                return Err(format!("no {what} within {PATIENCE:?}; there is: {}", crate::bytes::show(&self.buffer)));
            };
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.ended = true,
            }
        }
    }

    /// The next HTTP response; `bodiless` for the answer to a HEAD request.
    pub(crate) fn response(&mut self, bodiless: bool) -> Result<Response, String> {
        let found = self.until("HTTP response", |buffer, ended| parse_response(buffer, ended, bodiless))?;
        found.ok_or_else(|| {
            format!("the connection ended without a response; there is: {}", crate::bytes::show(&self.buffer))
        })
    }

    /// The next WebSocket frame, or `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, String> {
        match self.until("frame", |buffer, _| parse_frame(buffer))? {
            Some(Ok(frame)) => Ok(Some(frame)),
            Some(Err(why)) => Err(why),
            None if self.buffer.is_empty() => Ok(None),
            None => Err(format!("the connection ended inside a frame: {}", crate::bytes::show(&self.buffer))),
        }
    }

    /// Waits for the end of the connection and returns what came before it.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, String> {
        self.until("end of the connection", |_, ended| ended.then_some(((), 0)))?;
        Ok(std::mem::take(&mut self.buffer))
    }
}

fn parse_response(buffer: &[u8], ended: bool, bodiless: bool) -> Option<(Response, usize)> {
    let end = find(buffer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(buffer.get(..end)?).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let mut from = end + 4;
    if bodiless || matches!(status, 100..=199 | 204 | 304) {
        return Some((response, from));
    }
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = from + find(buffer.get(from..)?, b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(buffer.get(from..line)?).ok()?.trim(), 16).ok()?;
            response.body.extend_from_slice(buffer.get(line + 2..line + 2 + size)?);
            buffer.get(line + 2 + size..line + 4 + size)?;
            from = line + 4 + size;
            if size == 0 {
                return Some((response, from));
            }
        }
    }
    match response.header("content-length").and_then(|value| value.parse::<usize>().ok()) {
        Some(length) => {
            response.body = buffer.get(from..from + length)?.to_vec();
            Some((response, from + length))
        }
        // Without a length the body ends with the connection.
        None if ended => {
            response.body = buffer.get(from..)?.to_vec();
            Some((response, buffer.len()))
        }
        None => None,
    }
}

fn parse_frame(buffer: &[u8]) -> Option<(Result<Frame, String>, usize)> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Some((Err(format!("no frame of a server: {}", crate::bytes::show(buffer))), 0));
    }
    let (length, from): (usize, usize) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let payload = buffer.get(from..from.checked_add(length)?)?.to_vec();
    Some((Ok(Frame { opcode: first & 0x0f, payload }), from + length))
}

/// A client's frame. `first` is the whole first byte: FIN, the reserved bits and the opcode.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65535 => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub(crate) fn find(buffer: &[u8], needle: &[u8]) -> Option<usize> {
    buffer.windows(needle.len()).position(|window| window == needle)
}
