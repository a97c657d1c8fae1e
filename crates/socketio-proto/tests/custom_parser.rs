//! A parser from outside: every packet as one JSON text, `JSON.stringify(packet)`, as some Node servers use it.

use std::sync::Arc;

use socketio_proto::{
    AnyParser, DynChunk, DynDecoder, DynPacket, EncodeError, Limits, Message, Packet, PacketKind, Parser, Revision,
    Value, Violation,
};

struct Stringify;

#[derive(serde::Serialize, serde::Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: u64,
    nsp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

impl Parser for Stringify {
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError> {
        if packet.data.as_ref().is_some_and(Value::has_binary) {
            return Err(EncodeError::Binary);
        }
        let DynPacket { kind, namespace, id, data } = packet.clone();
        let wire = Wire { kind: kind.number().into(), nsp: namespace, data, id };
        let text = serde_json::to_string(&wire).map_err(|error| EncodeError::Serialize(error.to_string()))?;
        Ok(vec![DynChunk::Text(text)])
    }

    fn decoder(&self) -> Box<dyn DynDecoder> {
        Box::new(StringifyDecoder)
    }
}

#[derive(Debug)]
struct StringifyDecoder;

impl DynDecoder for StringifyDecoder {
    fn add(&mut self, message: Message<'_>) -> Result<Option<DynPacket>, Violation> {
        let Message::Text(text) = message else { return Err(Violation::UnexpectedBinary) };
        let wire: Wire = serde_json::from_str(text).map_err(|error| Violation::Custom(error.to_string()))?;
        let kind = PacketKind::from_number(wire.kind).ok_or(Violation::UnknownType)?;
        Ok(Some(DynPacket { kind, namespace: wire.nsp, id: wire.id, data: wire.data }))
    }
}

fn parser() -> AnyParser {
    AnyParser::custom(Arc::new(Stringify))
}

#[test]
fn it_encodes() {
    let parser = &parser();
    check(parser.encode_connect::<()>(Revision::V5, "/", None, 11), r#"{"type":0,"nsp":"/"}"#);
    check(parser.encode_disconnect("/a", 11), r#"{"type":1,"nsp":"/a"}"#);
    check(
        parser.encode_event("/", Some(3), "e", &(1, [2]), None, 11),
        r#"{"type":2,"nsp":"/","data":["e",1,[2]],"id":3}"#,
    );
    check(parser.encode_event("/", None, "e", &(), Some("o"), 11), r#"{"type":2,"nsp":"/","data":["e","o"]}"#);
    check(parser.encode_ack("/", 3, &Ok::<_, ()>((1, 2)), 11), r#"{"type":3,"nsp":"/","data":[1,2],"id":3}"#);
    check(
        parser.encode_connect_error(Revision::V5, "/", "no", Some(&1), 11),
        r#"{"type":4,"nsp":"/","data":{"message":"no","data":1}}"#,
    );
    let binary = parser.encode_event("/", None, "e", &bytes::Bytes::from_static(b"x"), None, 11);
    assert_eq!(binary, Err(EncodeError::Binary));

    #[track_caller]
    fn check(encoded: Result<socketio_proto::Encoded, EncodeError>, want: &str) {
        let encoded = encoded.expect("it encodes");
        assert_eq!(encoded.len(), 1);
        assert_eq!(std::str::from_utf8(encoded[0].data()), Ok(want));
        assert_eq!((encoded[0].start, encoded[0].binary), (11, false));
    }
}

#[test]
fn it_decodes_and_its_packets_are_checked() {
    fn decode(text: &str) -> Result<Packet<'_>, Violation> {
        let mut decoder = parser().decoder(&Limits::default());
        let packet = decoder.decode(Message::Text(text)).map(|packet| packet.expect("one text is one packet"));
        assert!(!decoder.is_reconstructing());
        packet
    }
    let Ok(Packet::Event { namespace, id, args }) = decode(r#"{"type":2,"nsp":"/a","data":["e",1,"x"],"id":3}"#) else {
        panic!("an event")
    };
    assert_eq!((&*namespace, id, args.name(), args.len()), ("/a", Some(3), "e", 2));
    assert_eq!(args.deserialize(), Ok((1, "x".to_owned())));
    let Ok(Packet::Ack { id: Some(3), args, .. }) = decode(r#"{"type":3,"nsp":"/","data":[1],"id":3}"#) else {
        panic!("an ack")
    };
    assert_eq!(args.deserialize(), Ok(1));
    let Ok(Packet::Connect { data: Some(auth), .. }) = decode(r#"{"type":0,"nsp":"/","data":{"token":"x"}}"#) else {
        panic!("a connect")
    };
    assert_eq!(
        auth.deserialize::<std::collections::BTreeMap<String, String>>().map(|auth| auth["token"].clone()),
        Ok("x".into())
    );
    assert!(matches!(decode(r#"{"type":0,"nsp":"/","data":null}"#), Ok(Packet::Connect { data: None, .. })));
    assert!(matches!(decode(r#"{"type":1,"nsp":"/"}"#), Ok(Packet::Disconnect { .. })));
    assert!(
        matches!(decode(r#"{"type":2,"nsp":"/","data":[7]}"#), Ok(Packet::Event { args, .. }) if args.name() == "7")
    );

    for (text, want) in [
        (r#"{"type":5,"nsp":"/","data":["e"]}"#, Violation::UnknownType),
        (r#"{"type":2,"nsp":"/"}"#, Violation::Payload),
        (r#"{"type":2,"nsp":"/","data":[]}"#, Violation::Payload),
        (r#"{"type":2,"nsp":"/","data":[null]}"#, Violation::EventName),
        (r#"{"type":2,"nsp":"/","data":["connect"]}"#, Violation::ReservedEvent),
        (r#"{"type":3,"nsp":"/","data":{}}"#, Violation::Payload),
        (r#"{"type":0,"nsp":"/","data":[]}"#, Violation::Payload),
        (r#"{"type":1,"nsp":"/","data":{}}"#, Violation::Payload),
        (r#"{"type":4,"nsp":"/","data":[]}"#, Violation::Payload),
        (r#"{"type":3,"nsp":"/","data":[],"id":9007199254740992}"#, Violation::AckId),
    ] {
        assert_eq!(decode(text).map(|packet| packet.kind()), Err(want), "{text}");
    }
    assert!(matches!(decode("nonsense"), Err(Violation::Custom(_))));
}
