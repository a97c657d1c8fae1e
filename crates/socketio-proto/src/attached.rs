//! The attachments of a packet and the places in its JSON that point to them, found once when the last attachment has
//! arrived. [`read`](crate::read) gives them to types that ask for bytes.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::Violation;
use crate::read::{Cursor, unescape};

/// The attachments of a packet and the places that point to them.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) bytes: SmallVec<[Bytes; 1]>,
    /// In the order of the text.
    pub(crate) placeholders: Placeholders,
}

pub(crate) type Placeholders = SmallVec<[Placeholder; 1]>;

/// An object `{"_placeholder":true,"num":i}` at `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placeholder {
    start: usize,
    pub(crate) end: usize,
    num: usize,
}

/// Finds the placeholders in `text`, which [`check`](crate::json::check) has accepted.
///
/// As in JavaScript, every object whose last `_placeholder` is `true` is one, whatever else it holds.
pub(crate) fn find_placeholders(text: &str, attachments: usize) -> Result<Placeholders, Violation> {
    let mut found = Placeholders::new();
    if attachments == 1 && only_placeholder(text, &mut found) {
        return Ok(found);
    }
    Cursor::new(text).walk(attachments, &mut found)?;
    Ok(found)
}

/// The usual packet has one attachment, and its placeholder is written as every client writes it. Nothing else can be one when
/// the word comes once and there are no escapes that could spell it.
fn only_placeholder(text: &str, found: &mut Placeholders) -> bool {
    const WHOLE: &[u8] = br#"{"_placeholder":true,"num":0}"#;
    let bytes = text.as_bytes();
    let Some(word) = memchr::memmem::find(bytes, b"_placeholder") else { return false };
    let start = word.saturating_sub(2);
    let end = start + WHOLE.len();
    let alone = bytes.get(start..end) == Some(WHOLE)
        && memchr::memmem::find(bytes.get(end..).unwrap_or_default(), b"_placeholder").is_none()
        && memchr::memchr(b'\\', bytes).is_none();
    if alone {
        found.push(Placeholder { start, end, num: 0 });
    }
    alone
}

impl Attached {
    /// The placeholder that begins at `start`, and the attachment it stands for.
    pub(crate) fn find(&self, start: usize) -> Option<(Placeholder, &[u8])> {
        let at = self.placeholders.binary_search_by_key(&start, |placeholder| placeholder.start).ok()?;
        let placeholder = *self.placeholders.get(at)?;
        self.bytes.get(placeholder.num).map(|bytes| (placeholder, bytes.as_ref()))
    }
}

impl Cursor<'_> {
    fn walk(&mut self, attachments: usize, found: &mut Placeholders) -> Result<(), Violation> {
        match self.peek() {
            b'[' => {
                self.at += 1;
                if self.take(b']') {
                    return Ok(());
                }
                loop {
                    self.walk(attachments, found)?;
                    if !self.take(b',') {
                        break;
                    }
                }
                self.take(b']');
                Ok(())
            }
            b'{' => {
                let (start, before) = (self.at, found.len());
                let (mut marked, mut num) = (false, None);
                self.at += 1;
                if self.take(b'}') {
                    return Ok(());
                }
                loop {
                    let key = unescape(self.raw_string().0);
                    self.take(b':');
                    let value = self.peek();
                    match key.as_deref() {
                        Some("_placeholder") => marked = value == b't',
                        Some("num") => num = self.text.get(self.at..).and_then(index),
                        _ => {}
                    }
                    self.walk(attachments, found)?;
                    if !self.take(b',') {
                        break;
                    }
                }
                self.take(b'}');
                if marked {
                    let num = num.filter(|num| *num < attachments).ok_or(Violation::IllegalPlaceholder)?;
                    found.truncate(before);
                    found.push(Placeholder { start, end: self.at, num });
                }
                Ok(())
            }
            _ => {
                self.skip();
                Ok(())
            }
        }
    }
}

/// The number at the beginning of `text` if it is a small integer, written `1` or `1.0`.
fn index(text: &str) -> Option<usize> {
    let number = Cursor::new(text).scalar();
    if let Ok(integer) = number.parse() {
        return Some(integer);
    }
    let float: f64 = number.parse().ok()?;
    (float.fract() == 0.0 && (0.0..1e6).contains(&float)).then_some(float as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_the_order_of_the_text() {
        let text = r#"["e",{"_placeholder":true,"num":1}, {"a":{"num":0,"_placeholder":true},"b":[]}]"#;
        let found = find_placeholders(text, 2).expect("they are legal");
        let shown: Vec<_> = found.iter().map(|found| (&text[found.start..found.end], found.num)).collect();
        assert_eq!(shown, [(r#"{"_placeholder":true,"num":1}"#, 1), (r#"{"num":0,"_placeholder":true}"#, 0)]);
        // What is inside a placeholder goes away with it.
        let text = r#"[{"x":{"_placeholder":true,"num":0},"_placeholder":true,"num":1}]"#;
        let outer = Placeholder { start: 1, end: text.len() - 1, num: 1 };
        assert_eq!(find_placeholders(text, 2), Ok(Placeholders::from_slice(&[outer])));
    }

    #[test]
    fn a_single_placeholder_is_found_the_short_way_as_the_long_way() {
        for text in [
            r#"["e",{"_placeholder":true,"num":0}]"#,
            r#"["e",{"a":[1,{"_placeholder":true,"num":0},"x"]}]"#,
            r#"["_placeholder",{"_placeholder":true,"num":0}]"#,
            r#"["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
            r#"["e",{"_placeholder":true,"num":0},{"\u005fplaceholder":true,"num":0}]"#,
            r#"["e",{"x":{"_placeholder":true,"num":0}}, "\""]"#,
            r#"["{\"_placeholder\":true,\"num\":0}"]"#,
            r#"["e",{ "_placeholder":true,"num":0}]"#,
            r#"["e",{"num":0,"_placeholder":true}]"#,
            r#"["e",{"_placeholder":false,"num":0}]"#,
            r#"["e"]"#,
        ] {
            let mut long = Placeholders::new();
            Cursor::new(text).walk(1, &mut long).expect("they are legal");
            assert_eq!(find_placeholders(text, 1), Ok(long), "{text}");
        }
    }
}
