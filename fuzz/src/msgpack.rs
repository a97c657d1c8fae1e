//! One packet of the MessagePack parser. The input is the message. What is valid travels once more through a parser from
//! outside the crate, made of the same bytes.

use std::sync::Arc;

use socketio_proto::{
    AnyParser, Decoder, DynChunk, DynDecoder, DynPacket, EncodeError, Limits, Message, Packet, PacketKind, Parser,
    Spread, Value, Violation,
};

use crate::values::{generous, owning_changes_nothing, send_again};

/// MessagePack packets.
pub fn sio_msgpack(data: &[u8]) {
    let limits = Limits::default();
    let parser = AnyParser::msgpack();
    let mut decoder = parser.decoder(&limits);
    let result = decoder.decode(Message::Binary(data));
    assert!(!decoder.is_reconstructing());
    let packet = match result {
        Ok(packet) => packet.expect("a message is a packet"),
        Err(violation) => return assert!(!violation.code().is_empty()),
    };
    match &packet {
        Packet::Event { args, .. } | Packet::Ack { args, .. } => {
            assert!(args.encoded_len() <= data.len() && args.len() <= data.len());
            owning_changes_nothing(args);
            send_again(&parser, &packet);
            // What came as MessagePack can be sent on as JSON.
            send_again(&AnyParser::json(), &rooted(packet.clone()));
            send_again(&AnyParser::custom(Arc::new(Foreign)), &packet);
        }
        Packet::Connect { data, .. } => {
            if let Some(Ok(value)) = data.as_ref().map(|data| data.value()) {
                assert!(value.as_map().is_some());
            }
        }
        Packet::ConnectError { data, .. } => {
            if let Some(Ok(value)) = data.as_ref().map(|data| data.value()) {
                assert!(value.as_map().is_some() || value.as_str().is_some());
            }
        }
        Packet::Disconnect { .. } => {}
    }
    // A packet says where it ends.
    let mut longer = data.to_vec();
    longer.push(0xc0);
    let result = parser.decoder(&limits).decode(Message::Binary(&longer)).err();
    assert_eq!(result, Some(Violation::TrailingBytes { count: 1 }));
    for len in (0..data.len()).rev().take(64) {
        assert!(parser.decoder(&limits).decode(Message::Binary(&data[..len])).is_err(), "cut at {len}");
    }
}

/// The packet in a namespace that JSON's header can hold.
fn rooted(packet: Packet<'_>) -> Packet<'_> {
    match packet {
        Packet::Event { id, args, .. } => Packet::Event { namespace: "/".into(), id, args },
        Packet::Ack { id, args, .. } => Packet::Ack { namespace: "/".into(), id, args },
        other => other,
    }
}

/// A parser as somebody else would write one.
struct Foreign;

#[derive(Debug)]
struct ForeignDecoder(Decoder);

impl Parser for Foreign {
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError> {
        let parser = AnyParser::msgpack();
        let list = packet.data.as_ref().and_then(Value::as_array).unwrap_or_default();
        let encoded = match (packet.kind, packet.id, list) {
            (PacketKind::Event, id, [Value::String(name), args @ ..]) => {
                parser.encode_event(&packet.namespace, id, name, &Spread(args), None, 1)?
            }
            (PacketKind::Ack, Some(id), args) => parser.encode_ack(&packet.namespace, id, &Spread(args), 1)?,
            _ => return Err(EncodeError::Serialize("only events and answers".to_owned())),
        };
        Ok(encoded.iter().map(|chunk| DynChunk::Binary(chunk.data().to_vec())).collect())
    }

    fn decoder(&self) -> Box<dyn DynDecoder> {
        Box::new(ForeignDecoder(AnyParser::msgpack().decoder(&generous())))
    }
}

impl DynDecoder for ForeignDecoder {
    fn add(&mut self, message: Message<'_>) -> Result<Option<DynPacket>, Violation> {
        let Some(packet) = self.0.decode(message)? else { return Ok(None) };
        let (kind, namespace) = (packet.kind(), packet.namespace().to_owned());
        let (Packet::Event { id, args, .. } | Packet::Ack { id, args, .. }) = packet else {
            return Err(Violation::Custom("only events and answers".to_owned()));
        };
        let mut list = args.values().map_err(|error| Violation::Custom(error.to_string()))?;
        if kind == PacketKind::Event {
            list.insert(0, args.name().into());
        }
        Ok(Some(DynPacket { kind, namespace, id, data: Some(Value::Array(list)) }))
    }
}
