//! Pinned bytes: what the encoders write, to the byte.

use bytes::Bytes;
use serde::Serialize;
use socketio_proto::{AnyParser, EncodeError, Encoded, Spread, Value};

const JSON: AnyParser = AnyParser::json();
const MSGPACK: AnyParser = AnyParser::msgpack();

#[track_caller]
fn check(encoded: Result<Encoded, EncodeError>, wire: &[&[u8]]) {
    let encoded = encoded.expect("it encodes");
    let got: Vec<_> = encoded.iter().map(|chunk| chunk.data().escape_ascii().to_string()).collect();
    let want: Vec<_> = wire.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    assert_eq!(got, want);
    for (at, chunk) in encoded.iter().enumerate() {
        assert_eq!(chunk.start, HEADROOM);
        assert_eq!(chunk.bytes[..HEADROOM], [0; HEADROOM]);
        assert_eq!(chunk.binary, at > 0 || chunk.data()[0] & 0x80 != 0, "only JSON headers are text");
    }
}

const HEADROOM: usize = 11;

fn blob(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[derive(Serialize)]
struct Point {
    x: i32,
    label: &'static str,
}

#[test]
fn json_events() {
    check(JSON.encode_event("/", None, "foo", &(), None, HEADROOM), &[b"2[\"foo\"]"]);
    check(JSON.encode_event("/", Some(12), "foo", &(), None, HEADROOM), &[b"212[\"foo\"]"]);
    check(JSON.encode_event("/admin", None, "bar", &(), None, HEADROOM), &[b"2/admin,[\"bar\"]"]);
    check(JSON.encode_event("/admin", Some(0), "bar", &1, None, HEADROOM), &[b"2/admin,0[\"bar\",1]"]);
    check(JSON.encode_event("/", None, "a\"b\n", &"é", None, HEADROOM), &["2[\"a\\\"b\\n\",\"é\"]".as_bytes()]);
    check(JSON.encode_event("/", None, "e", &(1, "two", [3, 4]), None, HEADROOM), &[br#"2["e",1,"two",[3,4]]"#]);
    check(JSON.encode_event("/", None, "e", &&&mut (1, 2), None, HEADROOM), &[br#"2["e",1,2]"#]);
    check(JSON.encode_event("/", None, "e", &[1, 2], None, HEADROOM), &[br#"2["e",[1,2]]"#]);
    check(JSON.encode_event("/", None, "e", &[(1, 2)], None, HEADROOM), &[br#"2["e",[[1,2]]]"#]);
    check(JSON.encode_event("/", None, "e", &[0u8; 0], None, HEADROOM), &[br#"2["e",[]]"#]);
    check(JSON.encode_event("/", None, "e", &Some((1, 2)), None, HEADROOM), &[br#"2["e",[1,2]]"#]);
    check(JSON.encode_event("/", None, "e", &None::<i32>, None, HEADROOM), &[br#"2["e",null]"#]);
    check(JSON.encode_event("/", None, "e", &serde_json::Value::Null, None, HEADROOM), &[br#"2["e",null]"#]);
    check(JSON.encode_event("/", None, "e", &((),), None, HEADROOM), &[br#"2["e",null]"#]);
    check(JSON.encode_event("/", None, "e", "text", None, HEADROOM), &[br#"2["e","text"]"#]);
    check(
        JSON.encode_event("/", None, "e", &Point { x: 1, label: "p" }, None, HEADROOM),
        &[br#"2["e",{"x":1,"label":"p"}]"#],
    );
    check(
        JSON.encode_event("/", None, "e", &(f64::NAN, f64::INFINITY, 1.5, u64::MAX, i64::MIN), None, HEADROOM),
        &[br#"2["e",null,null,1.5,18446744073709551615,-9223372036854775808]"#],
    );
    check(JSON.encode_event("/", None, "e", &(), Some("off"), HEADROOM), &[br#"2["e","off"]"#]);
    check(JSON.encode_event("/", None, "e", &(1, 2), Some("off"), HEADROOM), &[br#"2["e",1,2,"off"]"#]);
    check(JSON.encode_event("/", None, "e", &"x", Some("off"), HEADROOM), &[br#"2["e","x","off"]"#]);
    let values = [Value::from(1), Value::Null];
    check(JSON.encode_event("/", None, "e", &Spread(&values), Some("off"), HEADROOM), &[br#"2["e",1,null,"off"]"#]);
    check(JSON.encode_event("/", None, "e", &Spread::<i32>(&[]), None, HEADROOM), &[br#"2["e"]"#]);
}
