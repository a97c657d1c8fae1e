//! JSONP. The input is the body of a POST, and once more the payload of a response.

use engineio_proto::{Revision, jsonp, jsonp::JsonpIndex, packet::Malformed, payload::PayloadCursor};

/// Bodies and responses of JSONP polling.
pub fn eio_jsonp(data: &[u8]) {
    match jsonp::decode_body(data) {
        Ok(payload) => {
            assert!(data.starts_with(b"d=") && !data.contains(&b'&'));
            assert!(payload.len() <= data.len() && std::str::from_utf8(&payload).is_ok());
            for revision in [Revision::V3, Revision::V4] {
                let mut cursor = PayloadCursor::new(revision, false);
                while cursor.next(&payload).is_some() {}
            }
        }
        Err(error) => assert!(matches!(error, Malformed::Form | Malformed::Utf8)),
    }
    form(&String::from_utf8_lossy(data));
    response(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(index) = JsonpIndex::parse(text)
    {
        assert_eq!(text.trim_start_matches('0'), index.get().to_string().trim_start_matches('0'));
    }
}

/// What a page's form sends arrives as it was, but for a backslash at the end of a line: no client can say that.
fn form(payload: &str) {
    if payload.contains("\\\n") {
        return;
    }
    let escaped = payload.replace("\\n", "\\\n").replace('\n', "\\n");
    let mut body = b"d=".to_vec();
    for byte in escaped.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => body.push(byte),
            b' ' => body.push(b'+'),
            byte => body.extend(format!("%{byte:02x}").bytes()),
        }
    }
    assert_eq!(jsonp::decode_body(&body).as_deref(), Ok(payload.as_bytes()), "{}", body.escape_ascii());
}

/// The script is one call with one string, whatever the payload is.
fn response(payload: &[u8]) {
    let index = JsonpIndex::parse("7").expect("a digit");
    let script = jsonp::encode_response(index, payload);
    let literal = script.strip_prefix("/**/___eio[7](").and_then(|script| script.strip_suffix(");")).expect("one call");
    // JSON has no escape that JavaScript reads otherwise, and U+2028 is not left as it is.
    let text: String = serde_json::from_str(literal).expect("one string");
    assert_eq!(text, String::from_utf8_lossy(payload));
    assert!(!script.contains(['<', '\u{2028}', '\u{2029}']) && !script.chars().any(|character| character < ' '));
}
