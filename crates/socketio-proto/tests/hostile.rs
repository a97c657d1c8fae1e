//! What peers may send and what must not harm us, by the ids of the catalogue of hostile inputs: S packets, A acks,
//! B binary, M MessagePack. What depends on which namespaces are joined is in `connection.rs`.

use socketio_proto::{AnyParser, CloseKind, Decoder, Limits, Message, Packet, Value, Violation};

/// One packet as a line: kind, namespace, id, name and arguments as JSON (binary as numbers).
fn show(packet: &Packet<'_>) -> String {
    let json = |value: Value| serde_json::Value::from(value).to_string();
    let args = |args: &socketio_proto::Args<'_>| {
        let values = args.values().map(|values| json(Value::Array(values)));
        assert!(values.as_ref().is_ok_and(|text| text == "[]") == args.is_empty());
        values.unwrap_or_else(|error| error.to_string())
    };
    let number = |id: &Option<u64>| id.map_or("-".to_owned(), |id| id.to_string());
    let payload = |data: &Option<socketio_proto::Payload<'_>>| {
        data.as_ref().map_or("-".to_owned(), |data| json(data.value().expect("it is valid")))
    };
    match packet {
        Packet::Connect { namespace, data } => format!("connect {namespace} {}", payload(data)),
        Packet::Disconnect { namespace } => format!("disconnect {namespace}"),
        Packet::Event { namespace, id, args: list } => {
            format!("event {namespace} {} {:?} {}", number(id), list.name(), args(list))
        }
        Packet::Ack { namespace, id, args: list } => format!("ack {namespace} {} {}", number(id), args(list)),
        Packet::ConnectError { namespace, data } => format!("error {namespace} {}", payload(data)),
    }
}

fn json() -> Decoder {
    AnyParser::json().decoder(&Limits::default())
}

/// The messages decode to this packet, with the last of them and not before.
#[track_caller]
fn ok(messages: &[Message<'_>], want: &str) {
    let mut decoder = json();
    let (last, before) = messages.split_last().expect("a message");
    for message in before {
        assert!(decoder.decode(*message).expect("the beginning of a packet").is_none());
        assert!(decoder.is_reconstructing());
    }
    let packet = decoder.decode(*last).expect("a packet").expect("a whole packet");
    assert_eq!(show(&packet), want);
    // V12: whatever it was, the decoder is ready for the next packet.
    assert!(!decoder.is_reconstructing());
    assert!(matches!(decoder.decode(Message::Text("2[\"next\"]")), Ok(Some(Packet::Event { .. }))));
}

/// The last message is refused as undecodable: the connection is closed by force.
#[track_caller]
fn refused(messages: &[Message<'_>], want: Violation) {
    let mut decoder = json();
    let (last, before) = messages.split_last().expect("a message");
    for message in before {
        assert!(decoder.decode(*message).expect("the beginning of a packet").is_none());
    }
    let got = decoder.decode(*last).map(|packet| packet.as_ref().map(show)).expect_err("a violation");
    assert_eq!(got, want);
    assert_eq!(got.close_kind(), CloseKind::Forced);
}

#[track_caller]
fn text(packet: &str, want: &str) {
    ok(&[Message::Text(packet)], want);
}

#[track_caller]
fn no(packet: &str, want: Violation) {
    refused(&[Message::Text(packet)], want);
}

const BIN: Message<'static> = Message::Binary(&[1, 2]);

#[test]
fn s01_to_s06_connect_and_disconnect() {
    text("0", "connect / -");
    text("0/", "connect / -");
    text("0{}", "connect / {}");
    text("01", "connect / -");
    text("0/,{\"a\":1}", r#"connect / {"a":1}"#);
    text("0/admin", "connect /admin -");
    text("0/admin,", "connect /admin -");
    text("0/admin,{\"token\":\"x\"}", r#"connect /admin {"token":"x"}"#);
    text("1", "disconnect /");
    text("1/nope", "disconnect /nope");
    text("1/nope,", "disconnect /nope");
    for s02 in ["0[]", "0\"a\"", "1{}", "1[]", "1/a,{}"] {
        no(s02, Violation::Payload);
    }
    for s02 in ["0null", "0{\"token\":1", "0 {}", "0foo,", "0  ", "0{}{}", "0{}x"] {
        no(s02, Violation::Malformed);
    }
}

#[test]
fn s10_to_s20_events_and_their_names() {
    no("2", Violation::Payload);
    no("2/admin,", Violation::Payload);
    no("2[]", Violation::Payload);
    no("2{}", Violation::Payload);
    no("2\"a\"", Violation::Payload);
    for s11 in
        ["2[\"a\"", "2[\"a\"]junk", "2[\"a\"]]", "2\0[\"a\"]", "2[\"a\0b\"]", "2[\"a\",]", "2[,\"a\"]", "2[\"\\x\"]"]
    {
        no(s11, Violation::Malformed);
    }
    text("2[\"a\"]  ", r#"event / - "a" []"#);
    text("2[ \"a\" , 1 ]\r\n", r#"event / - "a" [1]"#);
    for s13 in ["2[null]", "2[true]", "2[{\"toString\":\"x\"}]", "2[{}]", "2[[\"a\"]]", "2[{\"toString\":\"foo\"}]"] {
        no(s13, Violation::EventName);
    }
    text("2[1]", r#"event / - "1" []"#);
    text("2[1,2]", r#"event / - "1" [2]"#);
    text("2[-1]", r#"event / - "-1" []"#);
    text("2[1.0]", r#"event / - "1" []"#);
    text("2[1.5e1]", r#"event / - "15" []"#);
    text("2[-0]", r#"event / - "0" []"#);
    for s15 in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        no(&format!("2[\"{s15}\"]"), Violation::ReservedEvent);
        no(&format!("2[\"\\u{:04x}{}\"]", s15.as_bytes()[0], &s15[1..]), Violation::ReservedEvent);
    }
    for s20 in ["error", "message", "__proto__", "constructor", ""] {
        text(&format!("2[\"{s20}\"]"), &format!("event / - {s20:?} []"));
    }
    text(r#"2["a\"b\n\u00e9\ud83d\ude00\/",1]"#, r#"event / - "a\"b\né😀/" [1]"#);
    no(r#"2["\ud800"]"#, Violation::EventName);
    no(r#"2["\ud800\u0041"]"#, Violation::EventName);
    text(&format!("2[\"{}\"]", "n".repeat(256)), &format!("event / - {:?} []", "n".repeat(256)));
    text(&format!("2[\"{}\"]", "\\u006e".repeat(256)), &format!("event / - {:?} []", "n".repeat(256)));
    no(&format!("2[\"{}\"]", "n".repeat(257)), Violation::EventName);
    no(&format!("2[\"{}\"]", "n".repeat(900_000)), Violation::EventName);
    no(&format!("2[{}]", "1".repeat(300)), Violation::EventName);
}

#[test]
fn s21_to_s24_other_kinds_and_namespaces() {
    text("4", "error / -");
    text("4{\"message\":\"x\"}", r#"error / {"message":"x"}"#);
    text("4\"x\"", r#"error / "x""#);
    no("4[]", Violation::Payload);
    no("4null", Violation::Malformed);
    for s22 in ["7", "8[\"a\"]", "a", "é", "😀", "", " 2[\"a\"]", "-", "\0"] {
        no(s22, Violation::UnknownType);
    }
    no("é[\"a\"]", Violation::UnknownType);
    text("2/nope,[\"a\"]", r#"event /nope - "a" []"#);
    no("2/nope[\"a\"]", Violation::Payload);
    text("3/nope[\"a\"]", r#"ack /nope["a"] - []"#);
    for s24 in ["/?x=1", "/a\u{1}b", "//", "/%zz", "/\\x", "/é", "/ "] {
        text(&format!("2{s24},[\"a\"]"), &format!("event {s24} - \"a\" []"));
    }
    let long = format!("/{}", "n".repeat(1_000_000));
    text(&format!("0{long},"), &format!("connect {long} -"));
}

#[test]
fn s30_to_s33_big_and_deep() {
    let deep = |levels: usize| format!("2[\"a\",{}{}]", "[".repeat(levels - 1), "]".repeat(levels - 1));
    text(&deep(127), &format!("event / - \"a\" [{}{}]", "[".repeat(126), "]".repeat(126)));
    let objects = |levels: usize| format!("2[\"a\",{}1{}]", "{\"k\":".repeat(levels - 1), "}".repeat(levels - 1));
    text(&objects(127), &format!("event / - \"a\" [{}1{}]", "{\"k\":".repeat(126), "}".repeat(126)));
    for levels in [128, 129, 10_000, 400_000] {
        no(&deep(levels), Violation::Malformed);
        no(&objects(levels), Violation::Malformed);
        no(&format!("2{}", "[".repeat(levels)), Violation::Malformed);
        no(&format!("0{}", "{\"a\":".repeat(levels)), Violation::Malformed);
    }
    no(&format!("2{}", "2".repeat(1_000_000)), Violation::AckId);
    no(&format!("2{}[\"a\"]", "0".repeat(17)), Violation::AckId);
    no("2[\"a\",1e400]", Violation::Malformed);
    no("2[\"a\",-1e400]", Violation::Malformed);
    no(&format!("2[\"a\",{}]", "9".repeat(400)), Violation::Malformed);
    text("2[\"a\",1e308,1e-400,-0]", r#"event / - "a" [1e+308,0.0,-0.0]"#);
    text("2[\"a\",123456789012345678901234567890]", r#"event / - "a" [1.2345678901234568e+29]"#);
    text("2[\"a\",{\"k\":1,\"l\":2,\"k\":3}]", r#"event / - "a" [{"k":3,"l":2}]"#);
    let key = "k".repeat(100_000);
    text(&format!("2[\"a\",{{\"{key}\":1}}]"), &format!("event / - \"a\" [{{\"{key}\":1}}]"));
    // A dynamic value has a budget, a typed one does not.
    for list in ["0,".repeat(500_000) + "0", "{},".repeat(100_000) + "{}"] {
        let packet = format!("2[\"a\",[{list}]]");
        let mut decoder = json();
        let Ok(Some(Packet::Event { args, .. })) = decoder.decode(Message::Text(&packet)) else { panic!("an event") };
        assert!(args.values().is_err());
        assert!(args.deserialize::<Value>().is_err());
        assert!(args.deserialize::<Vec<serde::de::IgnoredAny>>().is_ok_and(|items| items.len() > 100_000));
    }
}

#[test]
fn a01_to_a07_acks() {
    text("3", "ack / - []");
    text("30", "ack / 0 []");
    text("30[]", "ack / 0 []");
    text("31[\"x\"]", r#"ack / 1 ["x"]"#);
    text("31[\"connect\",null]", r#"ack / 1 ["connect",null]"#);
    text("3[1]", "ack / - [1]");
    text("3/a,12[]", "ack /a 12 []");
    no("30{}", Violation::Payload);
    no("30\"x\"", Violation::Payload);
    no("2 [\"e\"]", Violation::Malformed);
    no("299999999999999999999[\"e\"]", Violation::AckId);
    no("29007199254740992[\"e\"]", Violation::AckId);
    text("29007199254740991[\"e\"]", r#"event / 9007199254740991 "e" []"#);
    for a07 in ["2-1[\"e\"]", "21.5[\"e\"]", "20x1[\"e\"]", "2+1[\"e\"]", "2１[\"e\"]"] {
        no(a07, Violation::Malformed);
    }
}

const ONE: &str = r#"{"_placeholder":true,"num":0}"#;

#[test]
fn b01_to_b07_attachments_and_placeholders() {
    no("50-[\"a\"]", Violation::AttachmentCount);
    no("5-[\"a\"]", Violation::AttachmentCount);
    no("50-", Violation::AttachmentCount);
    no("500-[\"a\"]", Violation::AttachmentCount);
    let one = |placeholder: &str| format!("51-[\"a\",{placeholder}]");
    for b04 in ["1", "-1", "\"splice\"", "null", "[0]", "1e30", "0.5"] {
        let header = one(&format!("{{\"_placeholder\":true,\"num\":{b04}}}"));
        refused(&[Message::Text(&header), BIN], Violation::IllegalPlaceholder);
    }
    refused(&[Message::Text(&one("{\"_placeholder\":true}")), BIN], Violation::IllegalPlaceholder);
    refused(&[Message::Text(&one("[{\"x\":{\"_placeholder\":true,\"num\":7}}]")), BIN], Violation::IllegalPlaceholder);
    refused(
        &[Message::Text(&format!("61-1[{}]", "{\"num\":3,\"_placeholder\":true}")), BIN],
        Violation::IllegalPlaceholder,
    );
    let good = [
        ONE,
        r#"{"num":0,"_placeholder":true}"#,
        r#"{ "num" : 0.0 , "_placeholder" : true }"#,
        r#"{"\u005fplaceholder":true,"n\u0075m":0}"#,
        r#"{"_placeholder":false,"num":9,"num":0,"_placeholder":true}"#,
        r#"{"a":[{}],"_placeholder":true,"num":0,"z":"}"}"#,
    ];
    for placeholder in good {
        ok(&[Message::Text(&one(placeholder)), BIN], r#"event / - "a" [[1,2]]"#);
    }
    ok(&[Message::Text("51-[\"a\"]"), BIN], r#"event / - "a" []"#);
    ok(
        &[Message::Text(&one("{\"_placeholder\":false,\"num\":9}")), BIN],
        r#"event / - "a" [{"_placeholder":false,"num":9}]"#,
    );
    ok(&[Message::Text(&one(&format!("[{ONE},{ONE}]"))), BIN], r#"event / - "a" [[[1,2],[1,2]]]"#);
    ok(&[Message::Text(&format!("61-/a,3[{{\"k\":{ONE}}}]")), BIN], r#"ack /a 3 [{"k":[1,2]}]"#);
    ok(&[Message::Text(&one(ONE)), Message::Binary(&[])], r#"event / - "a" [[]]"#);
    no(&format!("51-[{ONE}]"), Violation::EventName);
    no(&format!("51-{ONE}"), Violation::Payload);
    no(&format!("61-1{ONE}"), Violation::Payload);
    no("51-", Violation::Payload);
}

#[test]
fn b08_a_placeholder_without_attachments_is_an_object() {
    text(&format!("2[\"a\",{ONE}]"), r#"event / - "a" [{"_placeholder":true,"num":0}]"#);
}

#[test]
fn b09_to_b11_how_many_and_how_large() {
    no("511-[\"b\"]", Violation::TooManyAttachments { limit: 10 });
    no("59999-[\"b\"]", Violation::TooManyAttachments { limit: 10 });
    no("51000000000-[\"b\"]", Violation::TooManyAttachments { limit: 9_999 });
    no("510000-[\"b\"]", Violation::TooManyAttachments { limit: 9_999 });
    no(&format!("5{}", "1".repeat(1_000_000)), Violation::TooManyAttachments { limit: 9_999 });
    for b10 in ["51.0-[]", "51e0-[]", "50x1-[]", "5 1-[]", "5-1-[]", "51[]", "51", "5", "6", "5[\"a\"]"] {
        no(b10, Violation::AttachmentCount);
    }
    let ten = [[Message::Text("510-[\"a\"]")].as_slice(), &[BIN; 10]].concat();
    ok(&ten, r#"event / - "a" []"#);

    let large = vec![0; 500_001];
    refused(
        &[Message::Text("52-[\"a\"]"), Message::Binary(&large), Message::Binary(&large)],
        Violation::AttachmentsTooLarge { limit: 1_000_000 },
    );
    let half = vec![0; 500_000];
    ok(&[Message::Text("52-[\"a\"]"), Message::Binary(&half), Message::Binary(&half)], r#"event / - "a" []"#);

    let mut limits = Limits::default();
    (limits.max_attachments, limits.max_packet_bytes) = (11, 3);
    let mut decoder = AnyParser::json().decoder(&limits);
    assert!(decoder.decode(Message::Text("511-[\"b\"]")).is_ok());
    assert!(decoder.decode(BIN).is_ok());
    assert_eq!(decoder.decode(BIN).map(|_| ()), Err(Violation::AttachmentsTooLarge { limit: 3 }));
}

#[test]
fn b12_to_b16_what_comes_between() {
    let header = format!("51-[\"a\",{ONE}]");
    for b12 in ["2[\"a\"]", "0", "1", "", &header, "7"] {
        refused(&[Message::Text(&header), Message::Text(b12)], Violation::TextWhileReconstructing);
    }
    refused(&[BIN], Violation::UnexpectedBinary);
    let mut decoder = json();
    assert!(decoder.decode(Message::Text(&header)).is_ok());
    assert!(decoder.decode(BIN).is_ok_and(|packet| packet.is_some()));
    assert_eq!(decoder.decode(BIN).map(|_| ()), Err(Violation::UnexpectedBinary));
}

/// A MessagePack map of these entries, each already encoded.
fn packet(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x80 | entries.len() as u8];
    for (key, value) in entries {
        bytes.push(0xa0 | key.len() as u8);
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

#[track_caller]
fn pack(bytes: &[u8], want: Result<&str, Violation>) {
    let mut decoder = AnyParser::msgpack().decoder(&Limits::default());
    let got = decoder.decode(Message::Binary(bytes)).map(|packet| show(&packet.expect("one message is one packet")));
    assert_eq!(got.as_deref().map_err(Clone::clone), want, "{}", bytes.escape_ascii());
    assert!(!decoder.is_reconstructing());
    if let Err(violation) = got {
        assert_eq!(violation.close_kind(), CloseKind::Forced);
    }
}

const EVENT: (&str, &[u8]) = ("type", b"\x02");
const ROOT: (&str, &[u8]) = ("nsp", b"\xa1/");
const DATA: (&str, &[u8]) = ("data", b"\x92\xa1a\x01");

#[test]
fn m01_to_m03_what_is_no_packet() {
    let mut decoder = AnyParser::msgpack().decoder(&Limits::default());
    assert_eq!(decoder.decode(Message::Text("2[\"a\"]")).map(|_| ()), Err(Violation::UnexpectedText));
    pack(b"", Err(Violation::Malformed));
    pack(b"\xc0", Err(Violation::UnknownType));
    pack(b"\x01", Err(Violation::UnknownType));
    pack(b"\x91\x01", Err(Violation::UnknownType));
    pack(b"\x80", Err(Violation::UnknownType));
    let whole = packet(&[EVENT, ROOT, DATA]);
    pack(&whole, Ok(r#"event / - "a" [1]"#));
    for len in 1..whole.len() {
        pack(&whole[..len], Err(Violation::Malformed));
    }
    pack(&[&whole[..], b"\xc0"].concat(), Err(Violation::TrailingBytes { count: 1 }));
    pack(&[&whole[..], b"abc"].concat(), Err(Violation::TrailingBytes { count: 3 }));
    pack(b"\xc1", Err(Violation::Malformed));
    pack(&packet(&[EVENT, ROOT, ("data", b"\x92\xa1a\xc1")]), Err(Violation::Malformed));
}

#[test]
fn m04_to_m09_fields() {
    let with =
        |kind: &[u8], namespace: &[u8], data: &[u8]| packet(&[("type", kind), ("nsp", namespace), ("data", data)]);
    for m04 in [&b"\x07"[..], b"\xa12", b"\xc0", b"\xff", b"\xcb\x40\x00\x00\x00\x00\x00\x00\x00", b"\xd4\x00\x00"] {
        pack(&with(m04, b"\xa1/", b"\x91\xa1a"), Err(Violation::UnknownType));
    }
    pack(&packet(&[ROOT, DATA]), Err(Violation::UnknownType));
    for m04 in [&b"\x01"[..], b"\xc0", b"\xc4\x01/", b"\x90"] {
        pack(&with(b"\x02", m04, b"\x91\xa1a"), Err(Violation::Payload));
    }
    pack(&packet(&[EVENT, DATA]), Err(Violation::Payload));
    for (kind, data) in
        [(2, &b"\x80"[..]), (2, b"\xc0"), (2, b"\x01"), (3, b"\x80"), (3, b"\xc0"), (0, b"\x90"), (0, b"\x01")]
    {
        pack(&with(&[kind], b"\xa1/", data), Err(Violation::Payload));
    }
    pack(&with(b"\x01", b"\xa1/", b"\x80"), Err(Violation::Payload));
    pack(&with(b"\x04", b"\xa1/", b"\x90"), Err(Violation::Payload));
    pack(&packet(&[EVENT, ROOT]), Err(Violation::Payload));
    pack(&packet(&[("type", b"\x03"), ROOT]), Err(Violation::Payload));
    let id = |id: &[u8]| packet(&[EVENT, ROOT, DATA, ("id", id)]);
    for bad in [
        &b"\xa11"[..],
        b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00",
        b"\xff",
        b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00",
        b"\xd0\x80",
        b"\x90",
    ] {
        pack(&id(bad), Err(Violation::AckId));
    }
    pack(&id(b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff"), Ok(r#"event / 9007199254740991 "a" [1]"#));
    pack(&id(b"\xd0\x05"), Ok(r#"event / 5 "a" [1]"#));
    pack(&id(b"\xc0"), Ok(r#"event / - "a" [1]"#));
    pack(&id(b"\xd4\x00\x00"), Ok(r#"event / - "a" [1]"#));

    let named = |name: &[u8]| with(b"\x02", b"\xa1/", &[b"\x91", name].concat());
    pack(&with(b"\x02", b"\xa1/", b"\x90"), Err(Violation::Payload));
    pack(&named(b"\xa7connect"), Err(Violation::ReservedEvent));
    pack(&named(b"\x05"), Ok(r#"event / - "5" []"#));
    pack(&named(b"\xff"), Ok(r#"event / - "-1" []"#));
    pack(&named(b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"), Ok(r#"event / - "1.5" []"#));
    for bad in [&b"\xc0"[..], b"\xc3", b"\x80", b"\x91\xa1a", b"\xc4\x01a", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"] {
        pack(&named(bad), Err(Violation::EventName));
    }
    pack(&named(&[&[0xda, 1, 1][..], &[b'n'; 257]].concat()), Err(Violation::EventName));
    pack(&named(b"\xa5error"), Ok(r#"event / - "error" []"#));

    pack(&packet(&[("__proto__", b"\x81\xa1x\x01"), EVENT, ROOT, DATA]), Ok(r#"event / - "a" [1]"#));
    for m08 in [5, 6] {
        pack(&packet(&[("type", &[m08]), ROOT, DATA, ("attachments", b"\x01")]), Err(Violation::UnknownType));
    }
    pack(&packet(&[("type", b"\x07"), EVENT, DATA, ROOT, ("nsp", b"\xa2/b")]), Ok(r#"event /b - "a" [1]"#));
    pack(&packet(&[("options", b"\x81\xa8compress\xc3"), DATA, ROOT, EVENT]), Ok(r#"event / - "a" [1]"#));
    // Keys that are no text are nobody's; one that is a list is nothing that an encoder makes.
    pack(b"\x84\x05\x05\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1a", Ok(r#"event / - "a" []"#));
    pack(b"\x84\x90\x05\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1a", Err(Violation::Malformed));

    pack(&packet(&[("type", b"\x00"), ROOT]), Ok("connect / -"));
    pack(&with(b"\x00", b"\xa1/", b"\xd4\x00\x00"), Ok("connect / -"));
    pack(&with(b"\x00", b"\xa1/", b"\x82\xa3sid\xa1x\xa3pid\xd4\x00\x00"), Ok(r#"connect / {"sid":"x"}"#));
    pack(&with(b"\x01", b"\xa1/", b"\xc0"), Ok("disconnect /"));
    pack(&packet(&[("type", b"\x01"), ROOT]), Ok("disconnect /"));
    pack(&with(b"\x03", b"\xa1/", b"\x90"), Ok("ack / - []"));
    pack(&with(b"\x04", b"\xa1/", b"\xa1x"), Ok(r#"error / "x""#));
    pack(&with(b"\x04", b"\xa1/", b"\x81\xa7message\xa1x"), Ok(r#"error / {"message":"x"}"#));
}

#[test]
fn m10_to_m13_claims_larger_than_the_data() {
    for claim in [
        &b"\xdb\xff\xff\xff\xff"[..],
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x00",
        b"\xd9\xff",
        b"\xda\xff\xff",
        b"\xc4\xff",
        b"\xc5\xff\xff",
        b"\xc7\xff\x00",
        b"\xc8\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xde\xff\xff",
    ] {
        pack(&[claim, b"ab"].concat(), Err(Violation::Malformed));
        pack(&packet(&[EVENT, ROOT, ("data", &[b"\x92\xa1a", claim, b"ab"].concat())]), Err(Violation::Malformed));
        pack(&packet(&[EVENT, ROOT, ("other", &[claim, b"ab"].concat())]), Err(Violation::Malformed));
    }
}

#[test]
fn m14_depth() {
    let deep = |levels: usize| {
        // The packet's map and the list of arguments are two levels.
        let nest = [&b"\x92\xa1a"[..], &vec![0x91; levels - 2], b"\x01"].concat();
        packet(&[EVENT, ROOT, ("data", &nest)])
    };
    let shown = format!("event / - \"a\" [{}1{}]", "[".repeat(125), "]".repeat(125));
    pack(&deep(127), Ok(&shown));
    for levels in [128, 129, 1_000, 90_000, 900_000] {
        pack(&deep(levels), Err(Violation::Malformed));
        pack(&vec![0x91; levels], Err(Violation::UnknownType));
        pack(&vec![0x81; levels], Err(Violation::Malformed));
        pack(&packet(&[("x", &vec![0x91; levels])]), Err(Violation::Malformed));
    }
}

#[test]
fn m15_extensions() {
    let arg = |value: &[u8]| packet(&[EVENT, ROOT, ("data", &[b"\x92\xa1a", value].concat())]);
    let shown = |value: &str| format!("event / - \"a\" [{value}]");
    let check = |value: &[u8], want: &str| pack(&arg(value), Ok(&shown(want)));
    check(b"\xd4\x00\x00", "null");
    check(b"\x82\xa1a\xd4\x00\x00\xa1b\x01", r#"{"b":1}"#);
    check(b"\x91\xd4\x00\x00", "[null]");
    // ArrayBuffers, also of one and of eight bytes, and extensions that nobody knows.
    check(b"\xc7\x02\x00\x01\x02", "[1,2]");
    check(b"\xc7\x01\x00\x00", "[0]");
    check(b"\xc7\x08\x00\x00\x00\x00\x00\x00\x00\x00\x05", "[0,0,0,0,0,0,0,5]");
    check(b"\xc8\x00\x01\x00\x07", "[7]");
    check(b"\xc9\x00\x00\x00\x01\x00\x07", "[7]");
    check(b"\xc7\x00\x00", "[]");
    check(b"\xd4\x00\x05", "[5]");
    check(b"\xd5\x00\x01\x02", "[1,2]");
    check(b"\xd6\x09\x01\x02\x03\x04", "[1,2,3,4]");
    check(b"\xd7\x09\x01\x02\x03\x04\x05\x06\x07\x08", "[1,2,3,4,5,6,7,8]");
    check(&[&b"\xd8\x00"[..], &[1; 16]].concat(), "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]");
    // Dates: 1,577,836,800,123 ms, then the same second as timestamps of 32, 64 and 96 bits.
    check(b"\xd7\x00\x00\x00\x01\x6f\x5e\x66\xe8\x7b", r#""2020-01-01T00:00:00.123Z""#);
    check(b"\xd6\xff\x5e\x0b\xe1\x00", r#""2020-01-01T00:00:00.000Z""#);
    check(b"\xd7\xff\x1d\x53\x53\x00\x5e\x0b\xe1\x00", r#""2020-01-01T00:00:00.123Z""#);
    check(b"\xc7\x0c\xff\x07\x54\xd4\xc0\x00\x00\x00\x00\x5e\x0b\xe1\x00", r#""2020-01-01T00:00:00.123Z""#);
    check(b"\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null");
    check(b"\xc7\x0c\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "null");
    check(b"\xc7\x03\xff\x01\x02\x03", "[1,2,3]");
}

#[test]
fn m16_text_is_utf8() {
    pack(&packet(&[EVENT, ROOT, ("data", b"\x91\xa2\xff\xfe")]), Err(Violation::Malformed));
    pack(&packet(&[EVENT, ("nsp", b"\xa2/\xff"), DATA]), Err(Violation::Malformed));
    pack(&packet(&[EVENT, ROOT, ("data", b"\x92\xa1a\xa1\x80")]), Err(Violation::Malformed));
    pack(b"\x81\xa1\xff\x01", Err(Violation::Malformed));
}

#[test]
fn m17_every_prefix_and_every_changed_byte_is_survived() {
    let whole = packet(&[
        ("type", b"\x02"),
        ("options", b"\x81\xa8compress\xc3"),
        ("data", b"\x96\xa1a\x82\xa1x\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1y\xd4\x00\x00\xc4\x02\x01\x02\xd7\x00\x00\x00\x01\x6f\x5e\x66\xe8\x7b\xcd\x01\x02\xd9\x01z"),
        ("nsp", b"\xa2/b"),
        ("id", b"\x07"),
    ]);
    let mut decoded = 0;
    for at in 0..whole.len() {
        assert!(AnyParser::msgpack().decoder(&Limits::default()).decode(Message::Binary(&whole[..at])).is_err());
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = byte;
            if let Ok(Some(packet)) = AnyParser::msgpack().decoder(&Limits::default()).decode(Message::Binary(&changed))
            {
                show(&packet);
                decoded += 1;
            }
        }
    }
    assert!(decoded > whole.len(), "most changes of a value leave a packet");
}

#[test]
fn violations_have_stable_codes() {
    let codes = [
        Violation::UnknownType,
        Violation::UnexpectedText,
        Violation::UnexpectedBinary,
        Violation::TextWhileReconstructing,
        Violation::AttachmentCount,
        Violation::TooManyAttachments { limit: 1 },
        Violation::AttachmentsTooLarge { limit: 1 },
        Violation::IllegalPlaceholder,
        Violation::AttachmentTimeout,
        Violation::AckId,
        Violation::Malformed,
        Violation::Payload,
        Violation::EventName,
        Violation::ReservedEvent,
        Violation::TrailingBytes { count: 2 },
        Violation::Custom("x".to_owned()),
        Violation::NotConnected,
        Violation::AlreadyConnected,
        Violation::WrongDirection,
        Violation::ConnectTimeout,
    ]
    .map(|violation| violation.code());
    assert_eq!(
        codes.join(" "),
        "unknown_type unexpected_text unexpected_binary text_while_reconstructing attachment_count too_many_attachments \
         attachments_too_large illegal_placeholder attachment_timeout ack_id malformed payload event_name reserved_event \
         trailing_bytes custom_parser not_connected already_connected wrong_direction connect_timeout"
    );
    assert_eq!(Violation::TrailingBytes { count: 2 }.to_string(), "2 trailing bytes");
    assert_eq!(CloseKind::Forced.reason(), "forced close");
    assert_eq!(CloseKind::ForcedServer.reason(), "forced server close");
    assert_eq!(CloseKind::ParseError.reason(), "parse error");
}
