//! Percent-decoding of query strings and form bodies (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

/// Decodes a component as the URL standard does: `+` is a space, a `%` without two hex digits stays, invalid UTF-8
/// becomes U+FFFD.
pub(crate) fn decode_lossy(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    decode(text.as_bytes(), |byte| out.push(byte.unwrap_or(b'%')));
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Decodes a component and refuses a `%` without two hex digits.
pub(crate) fn decode_strict(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut valid = true;
    decode(bytes, |byte| match byte {
        Some(byte) => out.push(byte),
        None => valid = false,
    });
    valid.then_some(out)
}

/// Hands out each decoded byte, `None` for a `%` that escapes nothing.
fn decode(bytes: &[u8], mut push: impl FnMut(Option<u8>)) {
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        push(match byte {
            b'+' => Some(b' '),
            b'%' => {
                let escaped = match rest.as_slice() {
                    [high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
                    _ => None,
                };
                if escaped.is_some() {
                    rest.nth(1);
                }
                escaped
            }
            _ => Some(byte),
        });
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_decode_as_in_browsers() {
        check("", "", true);
        check("plain", "plain", true);
        check("a+b", "a b", true);
        check("%41%6a%6A", "Ajj", true);
        check("%C3%A9+%F0%9F%98%80", "é 😀", true);
        check("%00", "\0", true);
        check("é", "é", true);
        check("%zz", "%zz", false);
        check("%4", "%4", false);
        check("%", "%", false);
        check("%%41", "%A", false);
        check("%+1", "% 1", false);
        check("%é", "%é", false);

        #[track_caller]
        fn check(text: &str, want: &str, valid: bool) {
            assert_eq!(decode_lossy(text), want, "text: {text:?}");
            assert_eq!(decode_strict(text.as_bytes()).as_deref(), valid.then_some(want.as_bytes()), "text: {text:?}");
        }
    }

    #[test]
    fn what_is_not_utf8_becomes_a_replacement_character() {
        assert_eq!(decode_lossy("a%ffb"), "a\u{fffd}b");
        assert_eq!(decode_strict(b"a%ffb"), Some(b"a\xffb".to_vec()));
    }
}
