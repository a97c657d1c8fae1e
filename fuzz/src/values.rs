//! What the Socket.IO targets share: comparing values, and packets as they are sent again.

use socketio_proto::{AnyParser, Args, Decoder, Encoded, Limits, Message, Packet, Spread, Value};

/// Whether two values are the same. serde_json reads some numbers one step off the nearest, and NaN is not equal to itself.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= a.abs() * 1e-15,
        (Value::Array(a), Value::Array(b)) => all_same(a, b),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((ak, av), (bk, bv))| ak == bk && same(av, bv))
        }
        _ => a == b,
    }
}

/// Whether two lists are the same.
pub(crate) fn all_same(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// The value as JSON can carry it: floats are finite.
pub(crate) fn finite(value: Value) -> Value {
    match value {
        Value::Float(number) if !number.is_finite() => Value::Null,
        Value::Array(items) => items.into_iter().map(finite).collect(),
        Value::Map(map) => Value::Map(map.into_iter().map(|(key, value)| (key, finite(value))).collect()),
        other => other,
    }
}

/// Whether there is an object inside that the JSON parser would take for binary, if the packet has any. Nobody can send that.
pub(crate) fn looks_like_placeholder(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(looks_like_placeholder),
        Value::Map(map) => {
            map.get("_placeholder") == Some(&Value::Bool(true))
                || map.iter().any(|(_, value)| looks_like_placeholder(value))
        }
        _ => false,
    }
}

/// Decodes the messages of one packet.
pub(crate) fn decode<'a>(decoder: &mut Decoder, encoded: &'a Encoded) -> Packet<'a> {
    let mut packet = None;
    for (at, chunk) in encoded.iter().enumerate() {
        assert!(packet.is_none(), "complete before its last message");
        assert_eq!(decoder.is_reconstructing(), at > 0);
        packet = decoder.decode(message(chunk)).expect("our own packets are valid");
    }
    assert!(!decoder.is_reconstructing());
    packet.expect("complete with its last message")
}

pub(crate) fn message(chunk: &socketio_proto::Chunk) -> Message<'_> {
    if chunk.binary {
        Message::Binary(chunk.data())
    } else {
        Message::Text(std::str::from_utf8(chunk.data()).expect("text messages are UTF-8"))
    }
}

/// Limits under which everything that was decoded can be decoded again.
pub(crate) fn generous() -> Limits {
    let mut limits = Limits::default();
    limits.max_attachments = 9_999;
    limits.max_packet_bytes = usize::MAX;
    limits.max_event_name = usize::MAX;
    limits
}

/// Sends an event or answer again and expects to receive the same.
pub(crate) fn send_again(parser: &AnyParser, packet: &Packet<'_>) {
    let (Packet::Event { namespace, id, args } | Packet::Ack { namespace, id, args }) = packet else { return };
    let Ok(values) = args.values() else { return };
    assert_eq!(values.len(), args.len());
    let values: Vec<_> = values.into_iter().map(finite).collect();
    if values.iter().any(Value::has_binary) && values.iter().any(looks_like_placeholder) {
        return;
    }
    let encoded = match (packet, id) {
        (Packet::Event { .. }, _) => parser.encode_event(namespace, *id, args.name(), &Spread(&values), None, 3),
        (_, Some(id)) => parser.encode_ack(namespace, *id, &Spread(&values), 3),
        _ => return,
    };
    // More attachments than the wire can count are the sender's fault.
    let encoded = encoded.expect("what was received can be sent");
    if encoded.len() > 10_000 {
        return;
    }
    assert!(encoded.iter().all(|chunk| chunk.start == 3));
    let mut decoder = parser.decoder(&generous());
    let again = decode(&mut decoder, &encoded);
    assert_eq!((again.kind(), again.namespace()), (packet.kind(), packet.namespace()));
    let (Packet::Event { id: id_again, args: args_again, .. } | Packet::Ack { id: id_again, args: args_again, .. }) =
        &again
    else {
        panic!("another kind of packet")
    };
    assert_eq!((id_again, args_again.name(), args_again.len()), (id, args.name(), args.len()));
    let again = args_again.values().expect("they were values before");
    assert!(all_same(&again, &values), "sent {values:?}, received {again:?}");
}

/// Arguments that own their data are the same arguments.
pub(crate) fn owning_changes_nothing(args: &Args<'_>) {
    let owned = args.to_owned();
    let borrowed = owned.borrow();
    assert_eq!(
        (borrowed.name(), borrowed.len(), borrowed.encoded_len()),
        (args.name(), args.len(), args.encoded_len())
    );
    match (args.values(), borrowed.values()) {
        (Ok(one), Ok(other)) => assert!(all_same(&one, &other)),
        (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
    }
}
