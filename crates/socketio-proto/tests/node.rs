//! What `socket.io-msgpack-parser` 3.0.2 writes, captured byte by byte, and what it reads as here.

use socketio_proto::{AnyParser, Limits, Message, Packet, Value};

#[track_caller]
fn check(wire: &[u8], want: &str) {
    let mut decoder = AnyParser::msgpack().decoder(&Limits::default());
    let packet = decoder.decode(Message::Binary(wire)).expect("Node's packets are legal").expect("a whole packet");
    let json = |value: Value| serde_json::Value::from(value).to_string();
    let shown = match &packet {
        Packet::Connect { namespace, data } => {
            let data = data.as_ref().map(|data| json(data.value().expect("it is valid")));
            format!("connect {namespace} {data:?}").replace("\\\"", "'")
        }
        Packet::Event { namespace, id, args } => {
            format!("{} {namespace} {id:?} {}", args.name(), json(Value::from(args.values().expect("it is valid"))))
        }
        Packet::Ack { namespace, id, args } => {
            format!("ack {namespace} {id:?} {}", json(Value::from(args.values().expect("it is valid"))))
        }
        Packet::Disconnect { namespace } => format!("disconnect {namespace}"),
        Packet::ConnectError { .. } => panic!("no capture of one"),
    };
    assert_eq!(shown, want, "{}", wire.escape_ascii());
}

#[test]
fn a_client_connects_and_leaves() {
    check(b"\x84\xa4type\x00\xa3nsp\xa1/\xa4data\xd4\x00\x00\xa7options\x81\xa8compress\xc3", "connect / None");
    check(
        b"\x84\xa4type\x00\xa3nsp\xa6/admin\xa4data\x81\xa5token\xa1x\xa7options\x81\xa8compress\xc3",
        r#"connect /admin Some("{'token':'x'}")"#,
    );
    check(b"\x83\xa4type\x01\xa3nsp\xa1/\xa7options\x81\xa8compress\xc3", "disconnect /");
}

#[test]
fn a_server_answers() {
    // `pid: undefined` without connection state recovery.
    check(
        b"\x83\xa4type\x00\xa4data\x82\xa3sid\xa3abc\xa3pid\xd4\x00\x00\xa3nsp\xa1/",
        r#"connect / Some("{'sid':'abc'}")"#,
    );
    check(b"\x84\xa4type\x03\xa4data\x90\xa2id\x00\xa3nsp\xa1/", "ack / Some(0) []");
}

#[test]
fn an_event_with_everything_javascript_has() {
    check(
        b"\x85\xa4type\x02\xa4data\x97\xa1e\x01\xff\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa2\xc3\xa9\xc0\xc3\xa7options\x81\xa8compress\xc3\xa2id\x07\xa3nsp\xa1/",
        r#"e / Some(7) [1,-1,1.5,"é",null,true]"#,
    );
    let arg = |value: &[u8], want: &str| {
        let wire = [&b"\x83\xa4type\x02\xa4data\x92\xa1e"[..], value, b"\xa3nsp\xa1/"].concat();
        check(&wire, &format!("e / None [{want}]"));
    };
    arg(b"\xd4\x00\x00", "null"); // undefined
    arg(b"\x82\xa1a\xd4\x00\x00\xa1b\x01", r#"{"b":1}"#); // { a: undefined, b: 1 }
    arg(b"\xd7\x00\x00\x00\x01o^f\xe8{", r#""2020-01-01T00:00:00.123Z""#); // new Date(1577836800123)
    arg(b"\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00", r#""1970-01-01T00:00:00.000Z""#); // new Date(NaN)
    arg(b"\xc4\x02\x01\x02", "[1,2]"); // Buffer
    arg(b"\xc7\x02\x00\x01\x02", "[1,2]"); // Uint8Array
    arg(b"\xc7\x08\x00\x00\x00\x00\x00\x00\x00\xf0?", "[0,0,0,0,0,0,240,63]"); // Float64Array
    arg(b"\xc7\x01\x00\x00", "[0]"); // an ArrayBuffer of one byte
    arg(b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff", "9007199254740991");
    arg(b"\xd3\xff\xe0\x00\x00\x00\x00\x00\x01", "-9007199254740991");
    arg(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"); // NaN, which JSON cannot print
}
