//! A way through a proxy: `CONNECT` of HTTP (RFC 9110, section 9.3.6) and SOCKS 5 (RFC 1928, with the passwords of RFC 1929).
//!
//! A [`Tunnel`] says what to send and how much may be read; once it is open, the stream belongs to whoever is behind it.
//!
//! ```text
//! send output() → is it open? → read at most wants() bytes → on_bytes() → send output() …
//! ```

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::percent;

/// The talk with a proxy before it lets us through.
#[derive(Debug)]
pub struct Tunnel {
    stage: Stage,
    out: Vec<u8>,
    heard: Vec<u8>,
    /// What SOCKS is told once it has chosen a method: user and password, and the request.
    login: Vec<u8>,
    request: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// HTTP: the head of the answer.
    Head,
    /// SOCKS: the method, whether the password is right, whether the connection stands.
    Method,
    Login,
    Reply,
    Open,
}

/// Why a proxy does not let us through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// It wants a user and a password, or others.
    #[error("the proxy does not accept the credentials")]
    Credentials,
    /// An HTTP proxy answers with this status.
    #[error("the proxy answers with status {0}")]
    Status(u16),
    /// A SOCKS proxy could not make the connection, or does not want to.
    #[error("the proxy answers: {0}")]
    Refused(&'static str),
    /// What answers is not such a proxy.
    #[error("the proxy breaks its protocol: {0}")]
    Malformed(&'static str),
    /// SOCKS has one byte for the length of a name, a user and a password.
    #[error("the {0} is empty or longer than 255 bytes")]
    Length(&'static str),
}

/// A user and a password.
pub type Credentials<'a> = Option<(&'a str, &'a str)>;

impl Tunnel {
    /// Through an HTTP proxy. `host` is a name or an address without brackets.
    pub fn http(host: &str, port: u16, credentials: Credentials<'_>) -> Self {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some((user, password)) = credentials {
            let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        Self::new(Stage::Head, request.into_bytes())
    }

    /// Through a SOCKS 5 proxy, which looks the name up itself if `host` is one.
    ///
    /// # Errors
    /// [`TunnelError::Length`].
    pub fn socks5(host: &str, port: u16, credentials: Credentials<'_>) -> Result<Self, TunnelError> {
        let greeting = if credentials.is_some() { vec![5, 2, 0, 2] } else { vec![5, 1, 0] };
        let mut tunnel = Self::new(Stage::Method, greeting);
        if let Some((user, password)) = credentials {
            tunnel.login.push(1);
            put(&mut tunnel.login, user, "user")?;
            put(&mut tunnel.login, password, "password")?;
        }
        tunnel.request = vec![5, 1, 0];
        match host.parse() {
            Ok(IpAddr::V4(address)) => {
                tunnel.request.push(1);
                tunnel.request.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                tunnel.request.push(4);
                tunnel.request.extend(address.octets());
            }
            Err(_) => {
                tunnel.request.push(3);
                put(&mut tunnel.request, host, "name")?;
            }
        }
        tunnel.request.extend(port.to_be_bytes());
        Ok(tunnel)
    }

    fn new(stage: Stage, out: Vec<u8>) -> Self {
        Self { stage, out, heard: Vec::new(), login: Vec::new(), request: Vec::new() }
    }

    /// What is to be sent now.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether the proxy has let us through.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// How many bytes may be read, so that nothing is taken from what comes through the tunnel.
    pub fn wants(&self) -> usize {
        let whole = match self.stage {
            Stage::Head => MAX_HEAD,
            Stage::Method | Stage::Login => 2,
            Stage::Reply => match self.heard.as_slice() {
                // A name of at least one byte is as long as an answer can be short.
                [_, _, _, kind, len, ..] => 6 + if *kind == 3 { 1 + usize::from(*len) } else { address_len(*kind) },
                _ => 5,
            },
            Stage::Open => 0,
        };
        whole.saturating_sub(self.heard.len())
    }

    /// Takes what the proxy has sent; no bytes at all mean that it has hung up.
    ///
    /// # Errors
    /// [`TunnelError`]: there is no way through.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), TunnelError> {
        if bytes.is_empty() {
            return Err(TunnelError::Malformed("it hung up"));
        }
        self.heard.extend_from_slice(bytes);
        if self.stage == Stage::Head {
            return self.on_head();
        }
        if self.stage == Stage::Reply
            && let [5, code, ..] = self.heard.as_slice()
            && *code != 0
        {
            return Err(TunnelError::Refused(refusal(*code)));
        }
        if self.wants() > 0 {
            return Ok(());
        }
        let heard = std::mem::take(&mut self.heard);
        match (self.stage, heard.as_slice()) {
            (Stage::Method, [5, 0]) => self.go_on(Stage::Reply),
            (Stage::Method, [5, 2]) if !self.login.is_empty() => {
                self.out = std::mem::take(&mut self.login);
                self.stage = Stage::Login;
            }
            (Stage::Method, [5, 2 | 0xff]) => return Err(TunnelError::Credentials),
            (Stage::Method, [5, _]) => return Err(TunnelError::Malformed("a method that was not offered")),
            // Proxies exist that give the version of SOCKS here, not that of the sub-negotiation.
            (Stage::Login, [_, 0]) => self.go_on(Stage::Reply),
            (Stage::Login, _) => return Err(TunnelError::Credentials),
            (Stage::Reply, [5, 0, _, 1 | 3 | 4, ..]) => self.stage = Stage::Open,
            (Stage::Reply, [5, ..]) => return Err(TunnelError::Malformed("an address of an unknown kind")),
            _ => return Err(TunnelError::Malformed("not SOCKS 5")),
        }
        Ok(())
    }

    fn go_on(&mut self, stage: Stage) {
        self.out = std::mem::take(&mut self.request);
        self.stage = stage;
    }

    fn on_head(&mut self) -> Result<(), TunnelError> {
        let Some(end) = memchr::memmem::find(&self.heard, b"\r\n\r\n") else {
            let head = b"HTTP/1.";
            let len = self.heard.len().min(head.len());
            return match self.heard.len() {
                _ if self.heard[..len] != head[..len] => Err(TunnelError::Malformed("not HTTP")),
                MAX_HEAD.. => Err(TunnelError::Malformed("a head without an end")),
                _ => Ok(()),
            };
        };
        let status = match self.heard.as_slice() {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', a @ b'1'..=b'9', b, c, b' ' | b'\r', ..]
                if b.is_ascii_digit() && c.is_ascii_digit() =>
            {
                [*a, *b, *c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(TunnelError::Malformed("not HTTP")),
        };
        match status {
            // Nothing can come through the tunnel before we have said something.
            200..=299 if self.heard.len() > end + 4 => Err(TunnelError::Malformed("bytes behind the head")),
            200..=299 => {
                self.heard = Vec::new();
                self.stage = Stage::Open;
                Ok(())
            }
            407 => Err(TunnelError::Credentials),
            other => Err(TunnelError::Status(other)),
        }
    }
}

/// The user and the password in `user:password@`, decoded.
pub fn credentials(userinfo: &str) -> (String, String) {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    // A plus sign is one in this part of a URL.
    let decoded = |text: &str| percent::decode_lossy(&text.replace('+', "%2B")).into_owned();
    (decoded(user), decoded(password))
}

fn put(out: &mut Vec<u8>, text: &str, what: &'static str) -> Result<(), TunnelError> {
    match u8::try_from(text.len()) {
        Ok(len @ 1..) => {
            out.push(len);
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(TunnelError::Length(what)),
    }
}

fn address_len(kind: u8) -> usize {
    if kind == 4 { 16 } else { 4 }
}

fn refusal(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "the connection took too long",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "unknown failure",
    }
}

/// The longest answer of an HTTP proxy, in bytes.
const MAX_HEAD: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a proxy's answers to a tunnel, in one piece each and byte by byte; returns all that was sent.
    #[track_caller]
    fn check(tunnel: impl Fn() -> Tunnel, answers: &[&[u8]], want: Result<&[u8], TunnelError>) {
        for piece in [usize::MAX, 1, 3] {
            let mut tunnel = tunnel();
            let mut sent = tunnel.output();
            let mut outcome = Ok(());
            let mut answers = answers.iter().flat_map(|answer| answer.iter().copied()).peekable();
            while outcome.is_ok() && !tunnel.is_open() {
                assert_ne!(tunnel.wants(), 0, "it waits for nothing");
                let bytes: Vec<u8> = answers.by_ref().take(piece.min(tunnel.wants())).collect();
                outcome = tunnel.on_bytes(&bytes);
                sent.extend(tunnel.output());
            }
            let got = outcome.map(|()| {
                assert_eq!((answers.count(), tunnel.wants()), (0, 0), "something is left");
                sent
            });
            assert_eq!(got.as_deref(), want.as_ref().map(|want| *want), "in pieces of {piece}");
        }
    }

    #[test]
    fn an_http_proxy_is_asked_with_connect() {
        let plain = || Tunnel::http("example.org", 443, None);
        let asked: &[u8] = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n";
        check(plain, &[b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"], Ok(asked));
        check(plain, &[b"HTTP/1.0 200\r\n\r\n"], Ok(asked));
        let login = || Tunnel::http("::1", 80, Some(("Aladdin", "open sesame")));
        check(
            login,
            &[b"HTTP/1.1 204 \r\n\r\n"],
            Ok(b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\
                Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"),
        );
        check(plain, &[b"HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\n"], Err(TunnelError::Credentials));
        check(plain, &[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], Err(TunnelError::Status(502)));
        check(plain, &[b"HTTP/1.1 101 Switching\r\n\r\n"], Err(TunnelError::Status(101)));
        check(plain, &[b"HTTP/2 200\r\n\r\n"], Err(TunnelError::Malformed("not HTTP")));
        check(plain, &[b"HTTP/1.1 2x0 \r\n\r\n"], Err(TunnelError::Malformed("not HTTP")));
        check(plain, &[b"\x05\x00"], Err(TunnelError::Malformed("not HTTP")));
        check(plain, &[b"HTTP/1.1 20"], Err(TunnelError::Malformed("it hung up")));
        check(plain, &[&[b"HTTP/1.1 200 ".as_slice(), &[b'x'; MAX_HEAD]].concat()], {
            Err(TunnelError::Malformed("a head without an end"))
        });
    }

    #[test]
    fn nothing_may_come_behind_the_head() {
        let mut tunnel = Tunnel::http("example.org", 80, None);
        let outcome = tunnel.on_bytes(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(outcome, Err(TunnelError::Malformed("bytes behind the head")));
    }

    #[test]
    fn a_socks_proxy_is_asked_with_a_name_or_an_address() {
        let name = || Tunnel::socks5("example.org", 443, None).expect("a short name");
        let asked: &[u8] = b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.org\x01\xbb";
        let v4: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38";
        check(name, &[b"\x05\x00", v4], Ok(asked));
        check(name, &[b"\x05\x00", b"\x05\x00\x00\x03\x02ab\x00\x01"], Ok(asked));
        check(name, &[b"\x05\x00", b"\x05\x00\x00\x03\x00\x00\x01"], Ok(asked));
        check(name, &[b"\x05\x00", b"\x05\x00\x00\x04", &[0; 18]], Ok(asked));
        check(name, &[b"\x05\x00", b"\x05\x05\x00\x01"], Err(TunnelError::Refused("connection refused")));
        check(name, &[b"\x05\x00", b"\x05\x63\x00\x01"], Err(TunnelError::Refused("unknown failure")));
        check(name, &[b"\x05\x00", b"\x05\x00\x00\x02", &[0; 6]], {
            Err(TunnelError::Malformed("an address of an unknown kind"))
        });
        check(name, &[b"\x05\x00", b"\x04\x00\x00\x01", &[0; 6]], Err(TunnelError::Malformed("not SOCKS 5")));
        check(name, &[b"\x05\xff"], Err(TunnelError::Credentials));
        check(name, &[b"\x05\x02"], Err(TunnelError::Credentials));
        check(name, &[b"\x05\x01"], Err(TunnelError::Malformed("a method that was not offered")));
        check(name, &[b"HTTP/1.1 400"], Err(TunnelError::Malformed("not SOCKS 5")));
        check(name, &[b"\x05"], Err(TunnelError::Malformed("it hung up")));
        let address = || Tunnel::socks5("10.1.2.3", 80, None).expect("an address");
        check(address, &[b"\x05\x00", v4], Ok(b"\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50"));
        let six = || Tunnel::socks5("::1", 80, None).expect("an address");
        let asked = b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
        check(six, &[b"\x05\x00", v4], Ok(asked));
    }

    #[test]
    fn a_socks_proxy_may_want_a_password() {
        let login = || Tunnel::socks5("h", 80, Some(("ann", "pw"))).expect("short words");
        let v4: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38";
        let asked: &[u8] = b"\x05\x02\x00\x02\x01\x03ann\x02pw\x05\x01\x00\x03\x01h\x00\x50";
        check(login, &[b"\x05\x02", b"\x01\x00", v4], Ok(asked));
        check(login, &[b"\x05\x00", v4], Ok(b"\x05\x02\x00\x02\x05\x01\x00\x03\x01h\x00\x50"));
        check(login, &[b"\x05\x02", b"\x01\x01"], Err(TunnelError::Credentials));
        let long = "x".repeat(256);
        for (host, user, password) in [(long.as_str(), "a", "b"), ("h", &long, "b"), ("h", "a", &long), ("h", "", "b")]
        {
            let tunnel = Tunnel::socks5(host, 80, Some((user, password)));
            assert!(matches!(tunnel, Err(TunnelError::Length(_))), "{tunnel:?}");
        }
    }

    proptest::proptest! {
        /// Whatever a proxy says, in whatever pieces: no panic, no more is read than the longest answer, and an open tunnel
        /// wants nothing.
        #[test]
        fn no_answer_is_read_beyond_its_end(
            kind in 0..3,
            start in proptest::sample::select(vec![&b""[..], b"\x05\x00\x05\x00\x00", b"\x05\x02\x01\x00", b"HTTP/1.1 200"]),
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            piece in 1..40_usize,
        ) {
            let mut tunnel = match kind {
                0 => Tunnel::http("example.org", 443, None),
                1 => Tunnel::socks5("example.org", 443, None).expect("a short name"),
                _ => Tunnel::socks5("::1", 443, Some(("ann", "pw"))).expect("short words"),
            };
            let answer = [start, &bytes].concat();
            let mut rest = answer.as_slice();
            while !tunnel.is_open() {
                drop(tunnel.output());
                assert!((1..=MAX_HEAD).contains(&tunnel.wants()));
                let (now, later) = rest.split_at(rest.len().min(piece).min(tunnel.wants()));
                rest = later;
                if tunnel.on_bytes(now).is_err() {
                    return Ok(());
                }
            }
            assert_eq!(tunnel.wants(), 0);
        }
    }

    #[test]
    fn credentials_of_a_url_are_decoded() {
        check("ann:p%40ss+w%C3%A9", ("ann", "p@ss+wé"));
        check("ann", ("ann", ""));
        check("ann:a:b", ("ann", "a:b"));

        #[track_caller]
        fn check(userinfo: &str, (user, password): (&str, &str)) {
            assert_eq!(credentials(userinfo), (user.to_owned(), password.to_owned()));
        }
    }
}
