//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1), in one pass.

use super::super::token::is_token_byte;
use std::borrow::Cow;

/// One element of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Parses a whole header value; `None` when it breaks the grammar. An empty list does, and so does an empty element.
pub(super) fn parse(value: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut cursor = Cursor { rest: value };
    let mut extensions = Vec::new();
    loop {
        let mut extension = Extension { name: cursor.padded_token()?, parameters: Vec::new() };
        while cursor.take(b';') {
            let name = cursor.padded_token()?;
            let value = if cursor.take(b'=') { Some(cursor.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if cursor.rest.is_empty() {
            return Some(extensions);
        }
        if !cursor.take(b',') {
            return None;
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// A token, with the spaces around it.
    fn padded_token(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        let token = self.token()?;
        self.skip_spaces();
        Some(token)
    }

    fn token(&mut self) -> Option<&'a str> {
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = self.rest.split_at_checked(len).filter(|_| len > 0)?;
        self.rest = rest;
        std::str::from_utf8(token).ok()
    }

    /// A token or a quoted string that is one when unquoted, with the spaces around it.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        self.skip_spaces();
        let value = if self.take(b'"') { Cow::Owned(self.quoted()?) } else { Cow::Borrowed(self.token()?) };
        self.skip_spaces();
        Some(value)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        loop {
            let (mut byte, mut rest) = self.rest.split_first()?;
            match byte {
                b'"' => {
                    self.rest = rest;
                    return Some(value).filter(|value| !value.is_empty());
                }
                b'\\' => (byte, rest) = rest.split_first()?,
                _ => {}
            }
            if !is_token_byte(*byte) {
                return None;
            }
            value.push(char::from(*byte));
            self.rest = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar() {
        check("foo", Some("foo"));
        check(" foo ; a ; b=1 ,\tbar;c=\"x\\y\" ", Some("foo;a;b=1, bar;c=xy"));
        check("a, a; a; a", Some("a, a;a;a"));
        for bad in [
            "",
            " ",
            ",",
            "a,",
            ",a",
            "a;",
            "a;;b",
            "a b",
            "a;b c",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"x",
            "a;b=\"\\",
            "a;b=\"x y\"",
            "a;b=\"x\"y",
            "a=b",
            "a;=b",
            "a;b=1=2",
            "é",
            "a\0",
            "\"a\"",
            "a;b=\"\\\"\"",
        ] {
            check(bad, None);
        }

        #[track_caller]
        fn check(value: &str, want: Option<&str>) {
            let show = |extension: &Extension<'_>| {
                let parameters = extension.parameters.iter().map(|(name, value)| match value {
                    Some(value) => format!(";{name}={value}"),
                    None => format!(";{name}"),
                });
                format!("{}{}", extension.name, parameters.collect::<String>())
            };
            let got = parse(value.as_bytes()).map(|list| list.iter().map(show).collect::<Vec<_>>().join(", "));
            assert_eq!(got.as_deref(), want, "{value:?}");
        }
    }
}
