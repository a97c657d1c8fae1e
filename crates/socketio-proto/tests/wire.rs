//! Pinned bytes: what the encoders write, to the byte.

use bytes::Bytes;
use serde::Serialize;
use serde_bytes::ByteBuf;
use socketio_proto::{AnyParser, EncodeError, Encoded, Map, Revision, Spread, Value, spreads};

const JSON: AnyParser = AnyParser::json();
const MSGPACK: AnyParser = AnyParser::msgpack();
const HEADROOM: usize = 11;

/// The packet and its attachments, each behind its headroom; only the packet of the JSON parser is text.
#[track_caller]
fn check(encoded: Result<Encoded, EncodeError>, wire: &[&[u8]]) {
    let encoded = encoded.expect("it encodes");
    let got: Vec<_> = encoded.iter().map(|chunk| chunk.data().escape_ascii().to_string()).collect();
    let want: Vec<_> = wire.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    assert_eq!(got, want);
    for (at, chunk) in encoded.iter().enumerate() {
        assert_eq!(chunk.start, HEADROOM);
        assert_eq!(chunk.bytes[..HEADROOM], [0; HEADROOM]);
        assert_eq!(chunk.binary, at > 0 || chunk.data()[0] & 0x80 != 0);
    }
}

#[track_caller]
fn event<T: Serialize + ?Sized>(data: &T, wire: &str) {
    check(JSON.encode_event("/", None, "e", data, None, HEADROOM), &[wire.as_bytes()]);
}

#[track_caller]
fn ack<T: Serialize + ?Sized>(data: &T, wire: &str) {
    check(JSON.encode_ack("/", 1, data, HEADROOM), &[wire.as_bytes()]);
}

fn blob(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[derive(Serialize)]
struct Point {
    x: i32,
    label: &'static str,
}

#[derive(Serialize)]
struct Pair(i32, i32);

#[derive(Serialize)]
struct Wrapper((i32, i32));

#[test]
fn the_examples_of_the_specification() {
    let json = &JSON;
    let sid = Map::from_iter([("sid", "oSO0")]);
    check(json.encode_connect::<()>(Revision::V5, "/", None, HEADROOM), &[b"0"]);
    check(json.encode_connect(Revision::V5, "/admin", Some(&sid), HEADROOM), &[br#"0/admin,{"sid":"oSO0"}"#]);
    check(
        json.encode_connect_error::<()>(Revision::V5, "/", "Not authorized", None, HEADROOM),
        &[br#"4{"message":"Not authorized"}"#],
    );
    check(json.encode_event("/", None, "foo", &(), None, HEADROOM), &[br#"2["foo"]"#]);
    check(json.encode_event("/", Some(12), "foo", &(), None, HEADROOM), &[br#"212["foo"]"#]);
    check(json.encode_event("/admin", None, "bar", &(), None, HEADROOM), &[br#"2/admin,["bar"]"#]);
    check(json.encode_ack("/admin", 13, "bar", HEADROOM), &[br#"3/admin,13["bar"]"#]);
    check(
        json.encode_event("/", None, "baz", &blob(b"\x01\x02\x03\x04"), None, HEADROOM),
        &[br#"51-["baz",{"_placeholder":true,"num":0}]"#, b"\x01\x02\x03\x04"],
    );
    check(
        json.encode_ack("/", 15, &("bar", blob(b"\xff")), HEADROOM),
        &[br#"61-15["bar",{"_placeholder":true,"num":0}]"#, b"\xff"],
    );
    check(json.encode_disconnect("/admin", HEADROOM), &[b"1/admin,"]);
    check(json.encode_disconnect("/", HEADROOM), &[b"1"]);
}

#[test]
fn a_tuple_spreads_and_nothing_else_does() {
    event(&(), r#"2["e"]"#);
    event(&(1, "two", [3, 4]), r#"2["e",1,"two",[3,4]]"#);
    event(&&&mut (1, 2), r#"2["e",1,2]"#);
    event(&((1, 2), 3), r#"2["e",[1,2],3]"#);
    event(&((),), r#"2["e",null]"#);
    event(&[1, 2], r#"2["e",[1,2]]"#);
    event(&[1, 2][..], r#"2["e",[1,2]]"#);
    event(&[(1, 2)], r#"2["e",[[1,2]]]"#);
    event(&[0_u8; 0], r#"2["e",[]]"#);
    event(&vec![1, 2], r#"2["e",[1,2]]"#);
    event(&Some((1, 2)), r#"2["e",[1,2]]"#);
    event(&Box::new((1, 2)), r#"2["e",[1,2]]"#);
    event(&Pair(1, 2), r#"2["e",[1,2]]"#);
    event(&Wrapper((1, 2)), r#"2["e",[1,2]]"#);
    event(&None::<i32>, r#"2["e",null]"#);
    event(&serde_json::Value::Null, r#"2["e",null]"#);
    event(&Value::Null, r#"2["e",null]"#);
    event("text", r#"2["e","text"]"#);
    event(&Point { x: 1, label: "p" }, r#"2["e",{"x":1,"label":"p"}]"#);
    event(&Ok::<_, ()>(1), r#"2["e",{"Ok":1}]"#);
    event(&Spread(&[1, 2]), r#"2["e",1,2]"#);
    event(&&Spread::<i32>(&[]), r#"2["e"]"#);

    assert!(spreads::<()>() && spreads::<(u8,)>() && spreads::<&&mut (u8, u8)>());
    assert!(!spreads::<[u8; 2]>() && !spreads::<Option<(u8, u8)>>() && !spreads::<&(dyn std::fmt::Debug + Send)>());
}

#[test]
fn the_extra_argument_comes_last() {
    let extra = |data: &dyn Fn() -> Result<Encoded, EncodeError>, wire: &str| check(data(), &[wire.as_bytes()]);
    extra(&|| JSON.encode_event("/", None, "e", &(), Some("o"), HEADROOM), r#"2["e","o"]"#);
    extra(&|| JSON.encode_event("/", None, "e", &(1, 2), Some("o"), HEADROOM), r#"2["e",1,2,"o"]"#);
    extra(&|| JSON.encode_event("/", None, "e", &"x", Some("o"), HEADROOM), r#"2["e","x","o"]"#);
    extra(&|| JSON.encode_event("/", None, "e", &Spread(&[1]), Some("o"), HEADROOM), r#"2["e",1,"o"]"#);
    check(
        MSGPACK.encode_event("/", None, "e", &(1, 2), Some("o"), HEADROOM),
        &[b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x94\xa1e\x01\x02\xa1o"],
    );
    check(
        MSGPACK.encode_event("/", None, "e", &1, Some("o"), HEADROOM),
        &[b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1e\x01\xa1o"],
    );
}

#[test]
fn text_and_numbers_are_javascripts() {
    check(
        JSON.encode_event("/", None, "a\"b\n", "é\u{2028}", None, HEADROOM),
        &["2[\"a\\\"b\\n\",\"é\u{2028}\"]".as_bytes()],
    );
    event(&(f64::NAN, f64::INFINITY, 1.5, 1.0), r#"2["e",null,null,1.5,1.0]"#);
    event(&(u64::MAX, i64::MIN), r#"2["e",18446744073709551615,-9223372036854775808]"#);
}

#[test]
fn bytes_become_attachments_at_any_depth() {
    #[derive(Serialize)]
    struct File {
        name: &'static str,
        data: Bytes,
    }
    #[derive(Serialize)]
    enum Shape {
        Raw(Bytes),
    }
    check(
        JSON.encode_event(
            "/a",
            Some(7),
            "up",
            &(vec![Some(File { name: "n", data: blob(b"1") })], Shape::Raw(blob(b"")), ByteBuf::from(vec![3])),
            None,
            HEADROOM,
        ),
        &[
            br#"53-/a,7["up",[{"name":"n","data":{"_placeholder":true,"num":0}}],{"Raw":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":2}]"#,
            b"1",
            b"",
            b"\x03",
        ],
    );
    let twelve = vec![blob(b"x"); 12];
    let encoded = JSON.encode_event("/", None, "e", &twelve, None, HEADROOM).expect("it encodes");
    assert_eq!(encoded.len(), 13);
    assert!(encoded[0].data().starts_with(br#"512-["e",[{"_placeholder":true,"num":0},"#));
    check(
        MSGPACK.encode_event("/", None, "e", &vec![blob(b"\x01\x02")], None, HEADROOM),
        &[b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e\x91\xc4\x02\x01\x02"],
    );
}

#[test]
fn an_answer_is_arguments_or_an_error() {
    ack(&(), "31[]");
    ack(&(1, 2), "31[1,2]");
    ack(&"x", r#"31["x"]"#);
    ack(&None::<i32>, "31[null]");
    ack(&Value::Null, "31[null]");
    ack(&Ok::<_, String>(()), "31[]");
    ack(&Ok::<_, String>((1, 2)), "31[1,2]");
    ack(&&Ok::<_, String>([1, 2]), "31[[1,2]]");
    ack(&Ok::<_, String>(Point { x: 1, label: "p" }), r#"31[{"x":1,"label":"p"}]"#);
    ack(&Err::<(), _>("no"), r#"31[{"error":{"code":"error","message":"no"}}]"#);
    ack(&Err::<(), _>(()), r#"31[{"error":{"code":"error","message":"error"}}]"#);
    ack(&Err::<(), _>(5), r#"31[{"error":{"code":"error","message":"error","details":5}}]"#);
    ack(
        &Err::<(), _>(serde_json::json!({"error": {"code": "denied", "message": "no"}})),
        r#"31[{"error":{"code":"denied","message":"no"}}]"#,
    );
    ack(
        &Err::<(), _>(Point { x: 1, label: "p" }),
        r#"31[{"error":{"code":"error","message":"error","details":{"x":1,"label":"p"}}}]"#,
    );
    check(
        MSGPACK.encode_ack("/", 1, &Err::<(), _>("no"), HEADROOM),
        &[b"\x84\xa4type\x03\xa3nsp\xa1/\xa4data\x91\x81\xa5error\x82\xa4code\xa5error\xa7message\xa2no\xa2id\x01"],
    );
}

#[test]
fn an_older_client_is_refused_with_bare_data() {
    let refuse = |revision, data: Option<&i32>| JSON.encode_connect_error(revision, "/a", "no", data, HEADROOM);
    check(refuse(Revision::V4, None), &[br#"4/a,"no""#]);
    check(refuse(Revision::V4, Some(&5)), &[b"4/a,5"]);
    check(refuse(Revision::V5, None), &[br#"4/a,{"message":"no"}"#]);
    check(refuse(Revision::V5, Some(&5)), &[br#"4/a,{"message":"no","data":5}"#]);
    let connect = |revision| JSON.encode_connect(revision, "/a", Some(&Map::from_iter([("sid", "x")])), HEADROOM);
    check(connect(Revision::V4), &[b"0/a,"]);
    check(connect(Revision::V5), &[br#"0/a,{"sid":"x"}"#]);
}

#[test]
fn messagepack_leaves_absent_keys_out() {
    let sid = Map::from_iter([("sid", "a")]);
    check(MSGPACK.encode_connect::<()>(Revision::V5, "/", None, HEADROOM), &[b"\x82\xa4type\x00\xa3nsp\xa1/"]);
    check(
        MSGPACK.encode_connect(Revision::V5, "/", Some(&sid), HEADROOM),
        &[b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xa1a"],
    );
    check(MSGPACK.encode_disconnect("/b", HEADROOM), &[b"\x82\xa4type\x01\xa3nsp\xa2/b"]);
    check(
        MSGPACK.encode_event("/", Some(300), "e", &(), None, HEADROOM),
        &[b"\x84\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id\xcd\x01\x2c"],
    );
    check(
        MSGPACK.encode_connect_error::<()>(Revision::V5, "/", "no", None, HEADROOM),
        &[b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x81\xa7message\xa2no"],
    );
    check(
        MSGPACK.encode_event("/", None, "e", &Point { x: -1, label: "p" }, None, HEADROOM),
        &[b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e\x82\xa1x\xff\xa5label\xa1p"],
    );
}

#[test]
fn what_cannot_be_sent_is_refused() {
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let refused = EncodeError::ReservedEvent(name.to_owned());
        assert_eq!(JSON.encode_event("/", None, name, &(), None, 0), Err(refused.clone()));
        assert_eq!(MSGPACK.encode_event("/", None, name, &(), None, 0), Err(refused));
    }
    let auth = Map::from_iter([("key", blob(b"1"))]);
    assert_eq!(JSON.encode_connect(Revision::V5, "/", Some(&auth), 0), Err(EncodeError::Binary));
    let bad_key = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(JSON.encode_event("/", None, "e", &bad_key, None, 0), Err(EncodeError::Serialize(_))));
    assert!(matches!(JSON.encode_ack("/", 1, &Err::<(), _>(bad_key), 0), Err(EncodeError::Serialize(_))));
}
