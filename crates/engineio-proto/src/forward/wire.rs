//! The bytes that servers send each other: a fixed head, then what the kind asks for. Lengths come before what they measure, and
//! nothing may be left over.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ServerTag, TAG_LEN};

/// The version of this format. Others are not understood.
pub const VERSION: u8 = 1;

/// The most headers of a request or an answer.
pub const MAX_HEADERS: usize = 128;

const MAGIC: [u8; 2] = *b"ef";

const HELLO: u8 = 1;
const HERE: u8 = 2;
const GOODBYE: u8 = 3;
const REQUEST: u8 = 4;
const ANSWER: u8 = 5;
const DATA: u8 = 6;
const ALLOW: u8 = 7;
const END: u8 = 8;
const RESET: u8 = 9;
/// Set where the owner of the session speaks.
const OWNER: u8 = 0x80;

const SECURE: u8 = 1;
const PEER: u8 = 2;
const CLIENT: u8 = 4;
const CERTIFICATE: u8 = 8;
const KNOWN_FLAGS: u8 = SECURE | PEER | CLIENT | CERTIFICATE;

/// What one server sends another, or all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A server is new, or back, and wants to hear who is there.
    Hello,
    /// A server is there.
    Here,
    /// A server leaves.
    Goodbye,
    /// The asker forwards a request.
    Request(u64, Request<'a>),
    /// The owner answers it.
    Answer(u64, Answer<'a>),
    /// Something about an exchange that is going on.
    Exchange {
        /// Who speaks.
        side: Side,
        /// The number of the exchange.
        id: u64,
        /// What.
        verb: Verb<'a>,
    },
}

/// Who speaks in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The server that got the request.
    Asker,
    /// The server that has the session.
    Owner,
}

/// What is said about an exchange. Places are those of [`Flow`](super::Flow).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    /// Bytes of a WebSocket.
    Data {
        /// Their place.
        place: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The other side may send up to this place.
    Allow(u64),
    /// No more bytes will come. Holds their end.
    End(u64),
    /// It is over: the client has gone, or something went wrong.
    Reset,
}

/// A request, as far as its session's server has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Its headers, names in lower case.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Whether the client used TLS.
    pub secure: bool,
    /// The address of the TCP peer.
    pub peer: Option<SocketAddr>,
    /// The address of the client, seen through trusted proxies.
    pub client: Option<IpAddr>,
    /// The certificate that the client has shown.
    pub certificate: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Its body.
    pub body: &'a [u8],
}

/// These bytes are no message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// They begin otherwise, or with another version.
    Version,
    /// A kind that does not exist.
    Kind,
    /// Too short, too long, or no text where text has to be.
    Malformed,
    /// More headers than [`MAX_HEADERS`], or a longer body than was allowed.
    TooLarge,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "another format, or another version of it",
            Self::Kind => "an unknown kind of message",
            Self::Malformed => "not as long as it says, or no text",
            Self::TooLarge => "too many headers, or too large a body",
        })
    }
}

impl std::error::Error for Foreign {}

/// Writes a message. Header names over 255 bytes and values over 65,535 are left out, with all headers beyond
/// [`MAX_HEADERS`].
pub fn encode(from: &ServerTag, message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let head = |out: &mut Vec<u8>, kind: u8| {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(from.as_str().as_bytes());
    };
    match message {
        Message::Hello => head(&mut out, HELLO),
        Message::Here => head(&mut out, HERE),
        Message::Goodbye => head(&mut out, GOODBYE),
        Message::Request(id, request) => {
            head(&mut out, REQUEST);
            out.extend_from_slice(&id.to_be_bytes());
            write_request(&mut out, request);
        }
        Message::Answer(id, answer) => {
            head(&mut out, ANSWER | OWNER);
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&answer.status.to_be_bytes());
            write_headers(&mut out, &answer.headers);
            out.extend_from_slice(answer.body);
        }
        Message::Exchange { side, id, verb } => {
            let by = if *side == Side::Owner { OWNER } else { 0 };
            let kind = match verb {
                Verb::Data { .. } => DATA,
                Verb::Allow(_) => ALLOW,
                Verb::End(_) => END,
                Verb::Reset => RESET,
            };
            head(&mut out, kind | by);
            out.extend_from_slice(&id.to_be_bytes());
            match verb {
                Verb::Data { place, bytes } => {
                    out.extend_from_slice(&place.to_be_bytes());
                    out.extend_from_slice(bytes);
                }
                Verb::Allow(place) | Verb::End(place) => out.extend_from_slice(&place.to_be_bytes()),
                Verb::Reset => {}
            }
        }
    }
    out
}

fn write_request(out: &mut Vec<u8>, request: &Request<'_>) {
    let Request { method, target, headers, secure, peer, client, certificate, body } = request;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        flag(*secure, SECURE)
            | flag(peer.is_some(), PEER)
            | flag(client.is_some(), CLIENT)
            | flag(certificate.is_some(), CERTIFICATE),
    );
    if let Some(peer) = peer {
        write_address(out, peer.ip());
        out.extend_from_slice(&peer.port().to_be_bytes());
    }
    if let Some(client) = client {
        write_address(out, *client);
    }
    if let Some(certificate) = certificate {
        write_long(out, certificate);
    }
    write_short(out, method.as_bytes());
    write_long(out, target.as_bytes());
    write_headers(out, headers);
    out.extend_from_slice(body);
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
}

/// What is longer than its length can say is cut: nothing that comes past the limits of a request head is.
fn write_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn write_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn write_headers(out: &mut Vec<u8>, headers: &[(&str, &[u8])]) {
    let fits = |(name, value): &&(&str, &[u8])| u8::try_from(name.len()).is_ok() && u16::try_from(value.len()).is_ok();
    let fitting = || headers.iter().filter(fits).take(MAX_HEADERS);
    out.push(fitting().count() as u8);
    for (name, value) in fitting() {
        write_short(out, name.as_bytes());
        write_long(out, value);
    }
}

/// Reads a message: who sent it, and what it says. Bodies have at most `max_body` bytes.
///
/// # Errors
/// [`Foreign`] says why these bytes are none.
pub fn decode(bytes: &[u8], max_body: usize) -> Result<(ServerTag, Message<'_>), Foreign> {
    let mut input = Input(bytes);
    if bytes.get(..3) != Some(&[MAGIC[0], MAGIC[1], VERSION]) {
        return Err(Foreign::Version);
    }
    input.take(3)?;
    let kind = input.byte()?;
    let from = input.text(TAG_LEN).and_then(|tag| ServerTag::parse(tag).ok_or(Foreign::Malformed))?;
    let message = match kind {
        HELLO => Message::Hello,
        HERE => Message::Here,
        GOODBYE => Message::Goodbye,
        REQUEST => Message::Request(input.number()?, read_request(&mut input, max_body)?),
        _ if kind == ANSWER | OWNER => {
            let id = input.number()?;
            let status = input.short()?;
            if !(100..=599).contains(&status) {
                return Err(Foreign::Malformed);
            }
            let headers = read_headers(&mut input)?;
            Message::Answer(id, Answer { status, headers, body: input.body(max_body)? })
        }
        _ => {
            let side = if kind & OWNER == 0 { Side::Asker } else { Side::Owner };
            let kind = kind & !OWNER;
            if !(DATA..=RESET).contains(&kind) {
                return Err(Foreign::Kind);
            }
            let id = input.number()?;
            let verb = match kind {
                DATA => Verb::Data { place: input.number()?, bytes: input.body(max_body)? },
                ALLOW => Verb::Allow(input.number()?),
                END => Verb::End(input.number()?),
                _ => Verb::Reset,
            };
            Message::Exchange { side, id, verb }
        }
    };
    if input.0.is_empty() { Ok((from, message)) } else { Err(Foreign::Malformed) }
}

fn read_request<'a>(input: &mut Input<'a>, max_body: usize) -> Result<Request<'a>, Foreign> {
    let flags = input.byte()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Foreign::Malformed);
    }
    let has = |flag: u8| flags & flag != 0;
    let peer = match has(PEER) {
        true => Some(SocketAddr::new(input.address()?, input.short()?)),
        false => None,
    };
    let client = has(CLIENT).then(|| input.address()).transpose()?;
    let certificate = has(CERTIFICATE).then(|| input.long()).transpose()?;
    let method = input.byte().and_then(|len| input.text(usize::from(len)))?;
    let target = input.short().and_then(|len| input.text(usize::from(len)))?;
    let headers = read_headers(input)?;
    let body = input.body(max_body)?;
    Ok(Request { method, target, headers, secure: has(SECURE), peer, client, certificate, body })
}

fn read_headers<'a>(input: &mut Input<'a>) -> Result<Vec<(&'a str, &'a [u8])>, Foreign> {
    let count = usize::from(input.byte()?);
    if count > MAX_HEADERS {
        return Err(Foreign::TooLarge);
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = input.byte().and_then(|len| input.text(usize::from(len)))?;
        headers.push((name, input.long()?));
    }
    Ok(headers)
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Foreign> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Foreign::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Foreign> {
        self.take(N)?.try_into().map_err(|_| Foreign::Malformed)
    }

    fn byte(&mut self) -> Result<u8, Foreign> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Foreign> {
        self.array().map(u16::from_be_bytes)
    }

    fn number(&mut self) -> Result<u64, Foreign> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, Foreign> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Foreign::Malformed)
    }

    fn long(&mut self) -> Result<&'a [u8], Foreign> {
        let len = self.short()?;
        self.take(usize::from(len))
    }

    fn address(&mut self) -> Result<IpAddr, Foreign> {
        match self.byte()? {
            4 => self.array::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            6 => self.array::<16>().map(|octets| Ipv6Addr::from(octets).into()),
            _ => Err(Foreign::Malformed),
        }
    }

    /// All that is left.
    fn body(&mut self, most: usize) -> Result<&'a [u8], Foreign> {
        if self.0.len() > most {
            return Err(Foreign::TooLarge);
        }
        Ok(std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> ServerTag {
        ServerTag::random(*b"foobar")
    }

    fn request() -> Request<'static> {
        Request {
            method: "POST",
            target: "/socket.io/?EIO=4&transport=polling&sid=x",
            headers: vec![("host", b"here"), ("cookie", b"a=\xff"), ("x-empty", b"")],
            secure: true,
            peer: Some(SocketAddr::from(([127, 0, 0, 1], 4711))),
            client: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
            certificate: Some(b"der"),
            body: b"4hello",
        }
    }

    fn messages() -> Vec<Message<'static>> {
        let exchange = |side, verb| Message::Exchange { side, id: u64::MAX, verb };
        let bare = Request { secure: false, peer: None, client: None, certificate: None, body: b"", ..request() };
        vec![
            Message::Hello,
            Message::Here,
            Message::Goodbye,
            Message::Request(7, request()),
            Message::Request(0, bare),
            Message::Answer(7, Answer { status: 200, headers: vec![("content-type", b"text/plain")], body: b"2" }),
            Message::Answer(7, Answer { status: 101, headers: vec![], body: b"" }),
            exchange(Side::Asker, Verb::Data { place: 9, bytes: b"\x81\0" }),
            exchange(Side::Owner, Verb::Data { place: 0, bytes: b"x" }),
            exchange(Side::Asker, Verb::Allow(u64::MAX)),
            exchange(Side::Owner, Verb::End(3)),
            exchange(Side::Asker, Verb::Reset),
            exchange(Side::Owner, Verb::Reset),
        ]
    }

    #[test]
    fn what_is_written_can_be_read() {
        for message in messages() {
            let bytes = encode(&from(), &message);
            assert_eq!(decode(&bytes, 64), Ok((from(), message)));
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let verb = Verb::Data { place: 2, bytes: b"hi" };
        let data = encode(&from(), &Message::Exchange { side: Side::Owner, id: 1, verb });
        assert_eq!(data, b"ef\x01\x86Zm9vYmFy\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02hi");
        assert_eq!(encode(&from(), &Message::Here), b"ef\x01\x02Zm9vYmFy");
    }

    #[test]
    fn no_prefix_and_no_changed_byte_does_harm() {
        for message in messages() {
            let bytes = encode(&from(), &message);
            for len in 0..bytes.len() {
                // Bodies may end anywhere; nothing else may.
                let is_prefix = |got: Result<(ServerTag, Message<'_>), Foreign>| match got {
                    Ok((_, Message::Request(..) | Message::Answer(..))) => true,
                    Ok((_, Message::Exchange { verb: Verb::Data { .. }, .. })) => true,
                    Ok(_) => false,
                    Err(_) => true,
                };
                assert!(is_prefix(decode(&bytes[..len], 64)), "{message:?} {len}");
            }
            for at in 0..bytes.len() {
                for byte in 0..=255 {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    // What it says may change; it must not panic.
                    let _ = decode(&changed, 64);
                }
            }
        }
    }

    #[test]
    fn what_is_foreign_is_named() {
        let here = encode(&from(), &Message::Here);
        check(b"", Foreign::Version);
        check(b"e", Foreign::Version);
        check(b"ef\x02\x02Zm9vYmFy", Foreign::Version);
        check(b"{\"uid\":\"x\"}", Foreign::Version);
        check(b"ef\x01", Foreign::Malformed);
        check(b"ef\x01\x02Zm9vYmF", Foreign::Malformed);
        check(b"ef\x01\x02Zm9vYmF\xff", Foreign::Malformed);
        check(b"ef\x01\x02Zm9vYmF ", Foreign::Malformed);
        check(&[&here[..], b"x"].concat(), Foreign::Malformed);
        check(b"ef\x01\0Zm9vYmFy", Foreign::Kind);
        check(b"ef\x01\x0aZm9vYmFy", Foreign::Kind);
        // The asker answers nothing, the owner asks nothing.
        check(b"ef\x01\x05Zm9vYmFy\0\0\0\0\0\0\0\x01\0\xc8\0", Foreign::Kind);
        check(b"ef\x01\x84Zm9vYmFy\0\0\0\0\0\0\0\x01\0\x03GET\0\x01/\0", Foreign::Kind);
        check(b"ef\x01\x85Zm9vYmFy\0\0\0\0\0\0\0\x01\0\x63\0", Foreign::Malformed);
        check(b"ef\x01\x85Zm9vYmFy\0\0\0\0\0\0\0\x01\x02\x58\0", Foreign::Malformed);
        check(b"ef\x01\x85Zm9vYmFy\0\0\0\0\0\0\0\x01\0\xc8\xff", Foreign::TooLarge);
        check(b"ef\x01\x04Zm9vYmFy\0\0\0\0\0\0\0\x01\x10\x03GET\0\x01/\0", Foreign::Malformed);
        check(b"ef\x01\x04Zm9vYmFy\0\0\0\0\0\0\0\x01\x04\x05\0\0\0\0", Foreign::Malformed);
        let large = Request { body: &[b'x'; 65], ..request() };
        check(&encode(&from(), &Message::Request(1, large)), Foreign::TooLarge);

        #[track_caller]
        fn check(bytes: &[u8], want: Foreign) {
            assert_eq!(decode(bytes, 64), Err(want), "{bytes:x?}");
        }
    }

    #[test]
    fn headers_that_do_not_fit_are_left_out() {
        let long = "n".repeat(256);
        let value = vec![b'v'; 65_536];
        let mut headers: Vec<(&str, &[u8])> = vec![(&long, b"1"), ("a", &value), ("b", b"2")];
        headers.extend(std::iter::repeat_n(("c", &b"3"[..]), 200));
        let bytes = encode(&from(), &Message::Answer(1, Answer { status: 200, headers, body: b"body" }));
        let Ok((_, Message::Answer(1, answer))) = decode(&bytes, 64) else { panic!("an answer") };
        assert_eq!(
            (answer.headers.len(), answer.headers[0], answer.body),
            (MAX_HEADERS, ("b", &b"2"[..]), &b"body"[..])
        );
    }
}
