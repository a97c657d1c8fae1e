//! One text packet of the JSON parser. The input is the message.

use serde::de::IgnoredAny;
use socketio_proto::{AnyParser, Limits, Message, Packet, Revision, Value, Violation, is_reserved_event};

use crate::values::{all_same, decode, generous, owning_changes_nothing, same, send_again};

/// Text packets.
pub fn sio_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = Limits::default();
    let parser = AnyParser::json();
    let mut decoder = parser.decoder(&limits);
    let result = decoder.decode(Message::Text(text));
    let waiting = matches!(result, Ok(None));
    match &result {
        Ok(Some(packet)) => {
            assert_eq!(text.as_bytes()[0], b'0' + packet.kind().number());
            assert!(packet.namespace().starts_with('/'));
            check(text, packet);
            send_again(&parser, packet);
        }
        Ok(None) => assert!(text.starts_with(['5', '6'])),
        Err(violation) => {
            assert!(!violation.code().is_empty() && !violation.close_kind().reason().is_empty());
            assert!(!must_be_valid(text, limits.max_event_name), "{violation}");
        }
    }
    assert_eq!(decoder.is_reconstructing(), waiting);
    if waiting {
        assert!(matches!(decoder.decode(Message::Text("2[\"a\"]")), Err(Violation::TextWhileReconstructing)));
    }
}

fn check(text: &str, packet: &Packet<'_>) {
    match packet {
        Packet::Event { args, .. } | Packet::Ack { args, .. } => {
            let json = args.as_json().expect("no attachments");
            assert!(text.ends_with(json) || json == "[]");
            assert!(serde_json::from_str::<IgnoredAny>(json).is_ok(), "what is accepted is JSON");
            let list = serde_json::from_str::<Vec<serde_json::Value>>(json);
            let named = usize::from(matches!(packet, Packet::Event { .. }));
            match (list, args.values()) {
                (Ok(list), Ok(values)) => {
                    assert_eq!((list.len(), values.len()), (args.len() + named, args.len()));
                    let list: Vec<_> = list.into_iter().skip(named).map(Value::from).collect();
                    // Objects of serde_json are in another order.
                    let values = values.into_iter().map(|value| Value::from(serde_json::Value::from(value)));
                    assert!(all_same(&list, &values.collect::<Vec<_>>()));
                }
                (Err(_), Ok(values)) => panic!("{values:?} of what is no list"),
                (list, Err(error)) => {
                    assert!(list.is_err() || text.len() > 100_000, "{error}");
                    // A lone surrogate, or a number that one reader of numbers takes and the other does not.
                    assert!(json.contains("\\u") || json.contains(['e', 'E']) || text.len() > 300, "{error}");
                }
            }
            owning_changes_nothing(args);
        }
        Packet::Connect { namespace, data } => {
            let value = data.as_ref().map(|data| data.value());
            let value = match value {
                Some(Ok(value)) => Some(value),
                None => None,
                Some(Err(_)) => return,
            };
            assert!(value.as_ref().is_none_or(|value| value.as_map().is_some()));
            let encoded =
                AnyParser::json().encode_connect(Revision::V5, namespace, value.as_ref(), 0).expect("a packet");
            let Packet::Connect { namespace: to, data } = decode(&mut AnyParser::json().decoder(&generous()), &encoded)
            else {
                panic!("another kind of packet")
            };
            assert_eq!(to, *namespace);
            let again = data.map(|data| data.value().expect("it was a value before"));
            assert!(match (&again, &value) {
                (Some(again), Some(value)) => same(again, value),
                (again, value) => again.is_none() && value.is_none(),
            });
        }
        Packet::ConnectError { data, .. } => {
            if let Some(Ok(value)) = data.as_ref().map(|data| data.value()) {
                assert!(value.as_map().is_some() || value.as_str().is_some());
            }
        }
        Packet::Disconnect { namespace } => {
            let encoded = AnyParser::json().encode_disconnect(namespace, 0).expect("a packet");
            let again = decode(&mut AnyParser::json().decoder(&generous()), &encoded);
            assert!(matches!(again, Packet::Disconnect { namespace: to } if to == *namespace));
        }
    }
}

/// Whether this is beyond doubt an event of `/` that must be accepted.
fn must_be_valid(text: &str, max_event_name: usize) -> bool {
    let Some(json) = text.strip_prefix('2').filter(|json| json.starts_with('[')) else { return false };
    let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(json) else { return false };
    match list.first() {
        Some(serde_json::Value::String(name)) => {
            name.len() <= max_event_name && !is_reserved_event(name) && !deep(json)
        }
        _ => false,
    }
}

/// Whether brackets could nest deeper than is allowed.
fn deep(json: &str) -> bool {
    json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100
}
