//! The few pieces of HTTP's header grammar (RFC 9110 §5.6) that the handshake needs, each in one pass over the bytes.

/// Whether `byte` may be part of a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Takes spaces and tabs off both ends.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The items of a comma-separated list, trimmed; empty items are shown as empty.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// The bytes as a token, if they are one.
pub(super) fn token(value: &[u8]) -> Option<&str> {
    if value.is_empty() || !value.iter().copied().all(is_token_byte) {
        return None;
    }
    std::str::from_utf8(value).ok()
}
