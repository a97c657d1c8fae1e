//! JSONP polling, for browsers without CORS: responses are scripts, request bodies are forms.
//!
//! The payload inside is the one of [`payload`](crate::payload) in text form, so a JSONP client counts as one that takes
//! no binary.

use crate::{packet::Malformed, percent};

/// The content type of a JSONP response. It goes with `X-Content-Type-Options: nosniff`.
pub const CONTENT_TYPE: &str = "text/javascript; charset=UTF-8";

/// Which callback of the page a response calls: `___eio[index]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JsonpIndex(u32);

impl JsonpIndex {
    /// The value of the query parameter `j`: 1 to 9 ASCII digits.
    pub fn parse(j: &str) -> Option<Self> {
        let digits = (1..=9).contains(&j.len()) && j.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| j.parse().ok().map(Self)).flatten()
    }

    /// The index as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Wraps a text payload into a script: `/**/___eio[0]("…");`.
///
/// The comment keeps the response from being taken for another kind of file, and nothing in the string can end a string,
/// a line or a `<script>` element. Bytes that are not UTF-8 become U+FFFD.
pub fn encode_response(index: JsonpIndex, payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let mut script = String::with_capacity(text.len() + text.len() / 8 + 32);
    script.push_str("/**/___eio[");
    script.push_str(itoa::Buffer::new().format(index.0));
    script.push_str("](\"");
    for character in text.chars() {
        match character {
            '"' => script.push_str("\\\""),
            '\\' => script.push_str("\\\\"),
            '\n' => script.push_str("\\n"),
            '\r' => script.push_str("\\r"),
            '\t' => script.push_str("\\t"),
            '\0'..='\x1f' | '<' | '\x7f' | '\u{2028}' | '\u{2029}' => push_escape(u32::from(character), &mut script),
            _ => script.push(character),
        }
    }
    script.push_str("\");");
    script
}

/// Appends `\uXXXX`.
fn push_escape(code: u32, out: &mut String) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.push(char::from_digit(code >> shift & 0xf, 16).unwrap_or('0'));
    }
}

/// Takes the payload out of the body of a JSONP POST: the only field of a form, `d`.
///
/// Browsers turn every newline of a form into CR LF, so clients send a newline as `\n` and what looked like `\n` before
/// as `\\n`; both are turned back.
///
/// # Errors
/// [`Malformed::Form`] when the body is not such a form, [`Malformed::Utf8`] when the field is not UTF-8.
pub fn decode_body(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let value = body.strip_prefix(b"d=").ok_or(Malformed::Form)?;
    if memchr::memchr(b'&', value).is_some() {
        return Err(Malformed::Form);
    }
    let value = percent::decode_strict(value).ok_or(Malformed::Form)?;
    if simdutf8::basic::from_utf8(&value).is_err() {
        return Err(Malformed::Utf8);
    }
    Ok(unescape_newlines(value))
}

fn unescape_newlines(text: Vec<u8>) -> Vec<u8> {
    if memchr::memchr(b'\\', &text).is_none() {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match rest {
            [b'\\', b'\\', b'n', after @ ..] => {
                out.extend_from_slice(b"\\n");
                after
            }
            [b'\\', b'n', after @ ..] => {
                out.push(b'\n');
                after
            }
            _ => {
                out.push(byte);
                after
            }
        };
    }
    out
}
