//! Messages of one connection with the JSON parser: headers, attachments and what does not belong there. The input is
//! messages with the record separator between them; one that begins with `b` is binary.

use socketio_proto::{AnyParser, Limits, Message, Packet, Value, Violation};

use crate::values::{owning_changes_nothing, send_again};

const MAX_ATTACHMENTS: usize = 4;
const MAX_BYTES: usize = 200;

/// Packets with attachments.
pub fn sio_sequence(data: &[u8]) {
    let mut limits = Limits::default();
    limits.max_attachments = MAX_ATTACHMENTS;
    limits.max_packet_bytes = MAX_BYTES;
    let parser = AnyParser::json();
    let mut decoder = parser.decoder(&limits);
    // The attachments of the packet that is incomplete, and how many it has.
    let mut pending: Option<(usize, Vec<Vec<u8>>)> = None;
    for message in messages(data) {
        let result = decoder.decode(message);
        let failed = result.is_err();
        match (message, &mut pending, result) {
            (Message::Binary(_), None, result) => assert_eq!(result.err(), Some(Violation::UnexpectedBinary)),
            (Message::Text(_), Some(_), result) => assert_eq!(result.err(), Some(Violation::TextWhileReconstructing)),
            (Message::Binary(bytes), Some((count, attachments)), result) => {
                attachments.push(bytes.to_vec());
                let total: usize = attachments.iter().map(Vec::len).sum();
                match result {
                    Err(Violation::AttachmentsTooLarge { limit }) => {
                        assert_eq!(limit, MAX_BYTES);
                        assert!(total > MAX_BYTES);
                    }
                    Err(violation) => {
                        assert_eq!(violation, Violation::IllegalPlaceholder);
                        assert_eq!(attachments.len(), *count);
                    }
                    Ok(packet) => {
                        assert!(total <= MAX_BYTES, "no more than the limit is kept");
                        assert_eq!(packet.is_some(), attachments.len() == *count);
                        if let Some(packet) = packet {
                            complete(&parser, &packet, attachments);
                            pending = None;
                        }
                    }
                }
            }
            (Message::Text(text), None, Ok(None)) => {
                let digits: String = text[1..].chars().take_while(char::is_ascii_digit).collect();
                let count = digits.parse().expect("the number of attachments");
                assert!((1..=MAX_ATTACHMENTS).contains(&count));
                pending = Some((count, Vec::new()));
            }
            (Message::Text(_), None, Ok(Some(packet))) => {
                if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &packet {
                    assert!(args.as_json().is_some());
                    assert!(
                        args.values().is_ok_and(|values| !values.iter().any(Value::has_binary))
                            || args.values().is_err()
                    );
                }
            }
            (Message::Text(_), None, Err(_)) => {}
        }
        if failed {
            assert!(!decoder.is_reconstructing(), "nothing is kept of a connection that is over");
            return;
        }
        assert_eq!(decoder.is_reconstructing(), pending.is_some());
    }
}

/// The messages of an input.
pub(crate) fn messages(data: &[u8]) -> impl Iterator<Item = Message<'_>> {
    data.split(|&byte| byte == 0x1e).filter_map(|message| match message.strip_prefix(b"b") {
        Some(bytes) => Some(Message::Binary(bytes)),
        None => std::str::from_utf8(message).ok().map(Message::Text),
    })
}

fn complete(parser: &AnyParser, packet: &Packet<'_>, attachments: &[Vec<u8>]) {
    let (Packet::Event { args, .. } | Packet::Ack { args, .. }) = packet else {
        panic!("attachments of another packet")
    };
    assert!(args.as_json().is_none());
    assert!(args.encoded_len() >= attachments.iter().map(Vec::len).sum());
    owning_changes_nothing(args);
    if let Ok(values) = args.values() {
        values.iter().for_each(|value| check_binary(value, attachments));
    }
    send_again(parser, packet);
}

/// Every binary value is one of the attachments.
fn check_binary(value: &Value, attachments: &[Vec<u8>]) {
    match value {
        Value::Binary(bytes) => assert!(attachments.iter().any(|attachment| attachment[..] == bytes[..])),
        Value::Array(items) => items.iter().for_each(|item| check_binary(item, attachments)),
        Value::Map(map) => map.iter().for_each(|(_, value)| check_binary(value, attachments)),
        _ => {}
    }
}
