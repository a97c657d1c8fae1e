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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_a_script_with_one_call() {
        // J01
        check(b"", r#"/**/___eio[0]("");"#);
        check(b"40", r#"/**/___eio[0]("40");"#);
        check(b"42[\"a\"]\x1e42[\"b\\n\"]", r#"/**/___eio[0]("42[\"a\"]\u001e42[\"b\\n\"]");"#);
        check("4é😀".as_bytes(), r#"/**/___eio[0]("4é😀");"#);
        check("4\u{2028}\u{2029}".as_bytes(), r#"/**/___eio[0]("4\u2028\u2029");"#);
        check(b"4</script><!--", r#"/**/___eio[0]("4\u003c/script>\u003c!--");"#);
        check(b"4\n\r\t\0\x7f\x08", r#"/**/___eio[0]("4\n\r\t\u0000\u007f\u0008");"#);
        check(b"4\xff", "/**/___eio[0](\"4\u{fffd}\");");

        #[track_caller]
        fn check(payload: &[u8], want: &str) {
            let index = JsonpIndex::parse("0").expect("an index");
            assert_eq!(encode_response(index, payload), want);
            // What is between the parentheses is JSON, and says the same.
            let json = want.split_once('(').and_then(|(_, rest)| rest.strip_suffix(");")).expect("a call");
            let text: String = serde_json::from_str(json).expect("a string");
            assert_eq!(text, String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn the_index_is_in_the_response() {
        let index = JsonpIndex::parse("123456789").expect("an index");
        assert_eq!(encode_response(index, b"6"), r#"/**/___eio[123456789]("6");"#);
    }

    #[test]
    fn an_index_has_one_to_nine_digits() {
        // J01
        for j in ["", "-1", "+1", "alert(1)//", "1234567890", "1.0", " 1", "٣"] {
            assert_eq!(JsonpIndex::parse(j), None, "{j:?}");
        }
        for (j, index) in [("0", 0), ("007", 7), ("999999999", 999_999_999)] {
            assert_eq!(JsonpIndex::parse(j).map(JsonpIndex::get), Some(index));
        }
    }

    #[test]
    fn a_body_is_a_form_with_the_field_d() {
        check(b"d=", Ok(b""));
        check(b"d=42%5B%22a%22%5D", Ok(b"42[\"a\"]"));
        check(b"d=42[\"a+b\"]=x", Ok(b"42[\"a b\"]=x")); // J03
        check(b"d=4%C3%A9%26", Ok("4é&".as_bytes()));
        // Newlines: what clients send for a newline, for a backslash and an n, for two backslashes and an n.
        check(b"d=4%5Cn", Ok(b"4\n"));
        check(b"d=4%5C%5Cn", Ok(b"4\\n"));
        check(b"d=4%5C%5C%5Cn", Ok(b"4\\\\n"));
        check(b"d=4%5C%5C%5C%5Cn%5Cn%5Cx%5C", Ok(b"4\\\\\\n\n\\x\\"));
        // J02
        for body in
            [b"".as_slice(), b"d", b"x=4", b"D=4", b"d=4&d=4", b"x=1&d=4", b"d=4&x=1", b"d=4&", b"%64=4", b" d=4"]
        {
            check(body, Err(Malformed::Form));
        }
        check(&[b"a=1&".repeat(1_001).as_slice(), b"d=4"].concat(), Err(Malformed::Form));
        // J03
        check(b"d=%zz", Err(Malformed::Form));
        check(b"d=4%", Err(Malformed::Form));
        check(b"d=4%ff", Err(Malformed::Utf8));
        check(b"d=4\xff", Err(Malformed::Utf8));

        #[track_caller]
        fn check(body: &[u8], want: Result<&[u8], Malformed>) {
            assert_eq!(decode_body(body), want.map(<[u8]>::to_vec), "body: {:?}", String::from_utf8_lossy(body));
        }
    }
}
