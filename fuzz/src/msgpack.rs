//! One packet of the MessagePack parser. The input is the message.

use socketio_proto::{AnyParser, Limits, Message, Packet, Violation};

use crate::values::{owning_changes_nothing, send_again};

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
