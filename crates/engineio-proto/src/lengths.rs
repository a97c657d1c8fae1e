//! Requests that say twice how long they are.
//!
//! A request of HTTP/1.1 with both `Content-Length` and `Transfer-Encoding` is read differently by different servers, which
//! is how a request is smuggled past a proxy (RFC 9112 §6.1). A parser that drops one of the two in silence hides it, so the
//! bytes are watched on their way there: the heads are looked at, bodies are counted and skipped.

use memchr::memchr;

/// The longest name that matters, and its colon.
const NAME: usize = "transfer-encoding".len() + 1;

/// Watches the bytes that a client sends on one connection of HTTP/1.1.
///
/// It says where requests begin by the same rules as the parser behind it. Where that one is stricter the connection ends;
/// what is said here after that means nothing.
#[derive(Debug, Clone, Default)]
pub struct Lengths {
    at: At,
    /// The head has had a `Content-Length`, and it was this one.
    length: Option<u64>,
    /// The head has had a `Transfer-Encoding`.
    chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the line before the headers. `empty` as long as nothing but line ends came: they may stand before a request.
    Begin { empty: bool },
    /// In the name of a header, with what came of it.
    Name { name: [u8; NAME], len: u8 },
    /// In the digits of a length.
    Length,
    /// In the rest of a header's line.
    Value,
    /// In a body, with so many bytes left.
    Body(u64),
    /// In the line with the size of a chunk: the size so far, and whether more digits may come.
    Size { size: u64, digits: bool },
    /// In a chunk, its line end included.
    Chunk(u64),
    /// Behind the last chunk, in a line of the trailer: whether it is empty so far.
    Trailer { empty: bool },
}

impl At {
    const NAME: Self = Self::Name { name: [0; NAME], len: 0 };
}

impl Default for At {
    fn default() -> Self {
        Self::Begin { empty: true }
    }
}

impl Lengths {
    /// A connection on which nothing has come.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes: where among them the second of the two headers is, at the colon behind its name.
    ///
    /// Whoever hears of one ends the connection; the bytes behind it are not looked at.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            match &mut self.at {
                At::Begin { empty } => match byte {
                    b'\n' if *empty => rest = tail,
                    b'\r' => rest = tail,
                    _ => {
                        *empty = false;
                        rest = self.after_line(rest, At::NAME);
                    }
                },
                At::Name { name, len } => {
                    rest = tail;
                    let had = usize::from(*len);
                    match byte {
                        // An empty line is the end of the head; one without a colon is for the parser to refuse.
                        b'\n' if had == 0 => self.at = self.body(),
                        b'\n' => self.at = At::NAME,
                        b'\r' if had == 0 => {}
                        b':' => {
                            let which = name.get(..had).unwrap_or_default();
                            let length = which.eq_ignore_ascii_case(b"content-length");
                            let chunked = which.eq_ignore_ascii_case(b"transfer-encoding");
                            if (length && self.chunked) || (chunked && self.length.is_some()) {
                                return Some(bytes.len() - rest.len() - 1);
                            }
                            self.chunked |= chunked;
                            self.at = if length { At::Length } else { At::Value };
                            if length {
                                self.length = Some(0);
                            }
                        }
                        // Nothing that begins so, or is as long, is one of the two.
                        _ if had == 0 && !matches!(byte | 0x20, b'c' | b't') => self.at = At::Value,
                        _ if had + 1 == NAME => self.at = At::Value,
                        _ => {
                            if let Some(slot) = name.get_mut(had) {
                                *slot = byte;
                            }
                            *len += 1;
                        }
                    }
                }
                At::Length => {
                    rest = tail;
                    match byte {
                        b'\n' => self.at = At::NAME,
                        b'0'..=b'9' => {
                            let so_far = self.length.unwrap_or_default();
                            self.length = Some(so_far.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
                        }
                        _ => {}
                    }
                }
                At::Value => rest = self.after_line(rest, At::NAME),
                At::Body(left) => {
                    let left = *left;
                    rest = self.skip(left, rest, At::Body, At::default());
                }
                At::Size { size, digits } => {
                    rest = tail;
                    match (byte, char::from(byte).to_digit(16)) {
                        (b'\n', _) if *size == 0 => self.at = At::Trailer { empty: true },
                        (b'\n', _) => self.at = At::Chunk((*size).saturating_add(2)),
                        (_, Some(digit)) if *digits => {
                            *size = size.saturating_mul(16).saturating_add(u64::from(digit));
                        }
                        _ => *digits = false,
                    }
                }
                At::Chunk(left) => {
                    let left = *left;
                    rest = self.skip(left, rest, At::Chunk, At::Size { size: 0, digits: true });
                }
                At::Trailer { empty } => match byte {
                    b'\n' if *empty => {
                        rest = tail;
                        self.at = At::default();
                    }
                    b'\r' => rest = tail,
                    _ => {
                        *empty = false;
                        rest = self.after_line(rest, At::Trailer { empty: true });
                    }
                },
            }
        }
        None
    }

    /// What is behind the end of this line, and `then` once it is there.
    fn after_line<'a>(&mut self, rest: &'a [u8], then: At) -> &'a [u8] {
        match memchr(b'\n', rest) {
            Some(end) => {
                self.at = then;
                rest.get(end + 1..).unwrap_or_default()
            }
            None => &[],
        }
    }

    /// What is behind the next `left` bytes, and `then` once they have come.
    fn skip<'a>(&mut self, left: u64, rest: &'a [u8], same: fn(u64) -> At, then: At) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - here as u64;
        self.at = if left == 0 { then } else { same(left) };
        rest.get(here..).unwrap_or_default()
    }

    /// What follows the head that has ended.
    fn body(&mut self) -> At {
        let (length, chunked) = (self.length.take(), std::mem::take(&mut self.chunked));
        match length {
            _ if chunked => At::Size { size: 0, digits: true },
            None | Some(0) => At::default(),
            Some(length) => At::Body(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_lengths_is_found_at_its_colon() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\r\n\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let both = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding";
        let other = "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\nX: y\r\ncontent-LENGTH";

        check(both, Some(both.len()));
        check(other, Some(other.len()));
        check(&both.replace("\r\n", "\n"), Some(both.len() - 2));
        // Behind requests of all kinds.
        let before = [
            get.to_owned(),
            format!("\r\n\r\n\n{get}"),
            post.to_owned(),
            post.replace("5\r\n\r\nab\r\n\n", "0\r\n\r\n"),
            post.replace("5\r\n", "5\r\nContent-Length: 5\r\n"),
            format!("{chunked}0\r\n\r\n"),
            format!("{chunked}3\r\nabc\r\nA;x=\"0\"\r\n0123456789\r\n000\r\n\r\n"),
            format!("{chunked}1c\r\nA: b\r\nContent-Length: 1\r\n\r\n..\r\n0\r\nX: y\r\nContent-Length: 1\r\n\r\n"),
        ];
        for first in &before {
            check(first, None);
            check(&format!("{first}{both}"), Some(first.len() + both.len()));
            for second in &before {
                check(&format!("{first}{second}{other}"), Some(first.len() + second.len() + other.len()));
            }
        }
        // Names that only look like it, and what is no name.
        for harmless in [
            both.replace("Content-Length", "X-Content-Length"),
            both.replace("Content-Length", "Content-Lengt"),
            both.replace("Content-Length: 4", "X: Content-Length: 4"),
            both.replace("Transfer-Encoding", "Transfer-Encodings"),
            both.replace("Transfer-Encoding", "Transfer-Encoding-Of-A-Name-That-Is-Too-Long"),
            format!("{post}GET /?Content-Length: 3\r\nTransfer-Encoding"),
        ] {
            check(&harmless, None);
        }

        /// The same in one piece and in pieces of every size; `colon` is where it is among all of them.
        #[track_caller]
        fn check(bytes: &str, colon: Option<usize>) {
            let bytes = format!("{bytes}: x\r\n");
            for size in (1..=bytes.len()).rev() {
                let (mut lengths, mut before) = (Lengths::new(), 0);
                let mut found = None;
                for piece in bytes.as_bytes().chunks(size) {
                    if let Some(at) = lengths.find(piece) {
                        found = Some(before + at);
                        break;
                    }
                    before += piece.len();
                }
                assert_eq!(found, colon, "in pieces of {size}: {bytes}");
            }
        }
    }

    #[test]
    fn lengths_without_end_skip_everything() {
        let digits = "9".repeat(40);
        for body in
            [format!("Content-Length: {digits}\r\n\r\n"), format!("Transfer-Encoding: chunked\r\n\r\n{digits}\r\n")]
        {
            let mut lengths = Lengths::new();
            assert_eq!(lengths.find(format!("POST / HTTP/1.1\r\n{body}").as_bytes()), None);
            for _ in 0..100 {
                assert_eq!(lengths.find(b"\r\n\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"), None);
            }
        }
    }
}
