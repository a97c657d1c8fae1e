//! Bytes as rows write them: `\xNN`, `\r`, `\n`, `\t`, `\0`, `\\`, and `{repeat:N:text}}`; JSON's `\"` and
//! `\uNNNN` stay what they are.

/// Turns the notation into bytes. Braces that are no `{repeat:` stand for themselves, so JSON needs no escapes.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(inside) = rest.strip_prefix("{repeat:") {
            let (count, inside) = inside.split_once(':').ok_or("`{repeat:N:text}` lacks its second colon")?;
            let count: usize = count.parse().map_err(|_| format!("`{count}` is no count"))?;
            let end = inside.find("}}").ok_or("`{repeat:N:text}}` ends with two braces")?;
            let unit = parse(&inside[..end])?;
            for _ in 0..count {
                bytes.extend_from_slice(&unit);
            }
            rest = &inside[end + 2..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().ok_or("a backslash at the end")?;
        rest = &rest[escape.len_utf8()..];
        match escape {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            // JSON's own escapes go out as they are.
            '"' | 'u' => bytes.extend([b'\\', escape as u8]),
            'x' => {
                let digits = rest.get(..2).ok_or("`\\x` wants two digits")?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| format!("`\\x{digits}` is no byte"))?);
                rest = &rest[2..];
            }
            other => return Err(format!("`\\{other}` is no escape")),
        }
    }
    Ok(bytes)
}

/// Bytes for a person: text where it is text, and never too much of it.
pub(crate) fn show(bytes: &[u8]) -> String {
    let text: String = bytes.iter().take(300).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    if bytes.len() > 300 { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_of_rows() {
        check(r#"42["a"]"#, b"42[\"a\"]");
        check(r"\x1e\r\n\0\\", b"\x1e\r\n\0\\");
        check("{repeat:3:6\\x1e}}7", b"6\x1e6\x1e6\x1e7");
        check("é", "é".as_bytes());
        check("{\"a\":{}}", b"{\"a\":{}}");
        assert!(parse(r"\q").is_err() && parse(r"\x4").is_err() && parse("{repeat:x:y}}").is_err());

        #[track_caller]
        fn check(text: &str, want: &[u8]) {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }
}
