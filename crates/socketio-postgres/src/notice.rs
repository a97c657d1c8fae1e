//! Notifications as bytes: names of channels, what fits into one, and what goes through the table. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socketio_adapter::cluster::wire::{self, Fields, Foreign, Form, WireLimits};
use socketio_adapter::cluster::{Envelope, ServerId};
use socketio_proto::EncodeError;

/// The longest name of a channel, in bytes. PostgreSQL: `NAMEDATALEN` less one.
const CHANNEL_BYTES: usize = 63;

/// The channel of a namespace; `None` when the database has no such name.
pub(crate) fn channel(prefix: &str, namespace: &str) -> Option<String> {
    let name = format!("{prefix}#{namespace}");
    (name.len() <= CHANNEL_BYTES && !name.contains('\0')).then_some(name)
}

/// The channel of what is sent straight to the server at an address, or to all.
pub(crate) fn direct_channel(prefix: &str, address: Option<&str>) -> Option<String> {
    let name = format!("{prefix}-direct#{}", address.unwrap_or_default());
    (name.len() <= CHANNEL_BYTES && !name.contains('\0')).then_some(name)
}

/// Bytes without a meaning here: as base64 if that has at most `threshold` bytes.
pub(crate) fn write_direct(bytes: Vec<u8>, threshold: usize) -> Body {
    if bytes.len().div_ceil(3) * 4 < threshold {
        return Body::Plain(format!("={}", STANDARD.encode(bytes)));
    }
    Body::Attached { payload: bytes, head: "#".to_owned(), tail: "" }
}

/// What was sent straight to a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DirectNotice {
    Whole(Vec<u8>),
    Row(i64),
}

pub(crate) fn read_direct(text: &str) -> Option<DirectNotice> {
    match text.split_at_checked(1)? {
        ("=", text) => STANDARD.decode(text).ok().map(DirectNotice::Whole),
        ("#", id) => id.parse().ok().map(DirectNotice::Row),
        _ => None,
    }
}

/// A name as SQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is the notification.
    Plain(String),
    /// It is a row of the table. The notification is `head`, the row's id, `tail`.
    Attached { payload: Vec<u8>, head: String, tail: &'static str },
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Attached { payload, head, tail } => payload.len() + head.len() + tail.len(),
        }
    }
}

/// Writes a message: as text when it has no binary data and at most `threshold` bytes.
pub(crate) fn write(envelope: &Envelope, threshold: usize) -> Result<Body, EncodeError> {
    if !envelope.message.has_binary() {
        let text = wire::encode_as(envelope, Form::Json)?;
        // JSON escapes NUL, which the database would not take.
        if let Ok(text) = String::from_utf8(text)
            && text.len() <= threshold
        {
            return Ok(Body::Plain(text));
        }
    }
    let payload = wire::encode_as(envelope, Form::Msgpack)?;
    let uid = envelope.sender.as_ref().map_or(wire::EMITTER, ServerId::as_str);
    let uid = String::from_utf8_lossy(&wire::write(uid, Form::Json)?).into_owned();
    let kind = envelope.message.kind().unwrap_or_default();
    let head = format!(r#"{{"uid":{uid},"type":{kind},"attachmentId":""#);
    Ok(Body::Attached { payload, head, tail: r#""}"# })
}

/// A notification that came in.
#[derive(Debug)]
pub(crate) enum Notice {
    /// One of this server.
    Own,
    /// A message.
    Whole(Box<Envelope>),
    /// The message is this row of the table.
    Row(i64),
}

/// Reads a notification or the payload of a row. `namespace` is that of the channel; an old emitter of Node's says none.
pub(crate) fn read(bytes: &[u8], namespace: &str, me: &ServerId, limits: &WireLimits) -> Result<Notice, Foreign> {
    let whole = wire::checked(bytes, limits)?;
    let fields = Fields::of(&whole)?;
    let sender = fields.text("uid", limits)?;
    if sender == me.as_str() {
        return Ok(Notice::Own);
    }
    if let Some(id) = fields.get("attachmentId") {
        let number = id.deserialize::<i64>().ok();
        let text = || id.deserialize::<String>().ok()?.parse().ok();
        return number.or_else(text).map(Notice::Row).ok_or(Foreign::Field("attachmentId"));
    }
    let kind = fields.get("type").and_then(|kind| kind.deserialize().ok()).ok_or(Foreign::UnknownType)?;
    if fields.optional_text("nsp", limits)?.is_some_and(|said| said != namespace) {
        return Err(Foreign::Field("nsp"));
    }
    wire::decode_parts(kind, &sender, namespace, fields.get("data"), limits)
        .map(|envelope| Notice::Whole(Box::new(envelope)))
}

#[cfg(test)]
mod tests {
    use socketio_adapter::BroadcastOptions;
    use socketio_adapter::cluster::Message;
    use socketio_proto::OwnedArgs;

    use super::*;

    fn broadcast(text: &str) -> Envelope {
        let event = OwnedArgs::event("e", text).expect("encodes");
        let message = Message::Broadcast { event, options: BroadcastOptions::default(), request: None };
        Envelope { sender: Some("a\"1".into()), namespace: "/n".into(), message }
    }

    fn read_as(bytes: &[u8]) -> Result<Notice, Foreign> {
        read(bytes, "/n", &"me".into(), &WireLimits::default())
    }

    #[test]
    fn names_of_channels_have_a_length_and_are_quoted() {
        check("/", Some("socket.io#/"));
        check(&"n".repeat(53), Some(&format!("socket.io#{}", "n".repeat(53))));
        check(&"n".repeat(54), None);
        check(&"\u{e4}".repeat(27), None);
        check("/a\0b", None);
        assert_eq!(quoted("a\"; DROP TABLE x; --\""), "\"a\"\"; DROP TABLE x; --\"\"\"");

        #[track_caller]
        fn check(namespace: &str, want: Option<&str>) {
            assert_eq!(channel("socket.io", namespace).as_deref(), want);
        }
    }

    #[test]
    fn a_message_is_the_notification_up_to_the_threshold() {
        let Ok(Body::Plain(text)) = write(&broadcast("x"), 7_999) else { panic!("it is short") };
        let len = text.len();
        assert!(matches!(write(&broadcast("x"), len), Ok(Body::Plain(_))));
        let Ok(Body::Attached { payload, head, tail }) = write(&broadcast("x"), len - 1) else { panic!("too long") };
        assert_eq!(format!("{head}7{tail}"), r#"{"uid":"a\"1","type":3,"attachmentId":"7"}"#);
        let Ok(Notice::Whole(envelope)) = read_as(&payload) else { panic!("a message") };
        assert_eq!(wire::encode(&envelope).unwrap(), text.as_bytes());
        let Ok(Notice::Whole(envelope)) = read_as(text.as_bytes()) else { panic!("a message") };
        assert_eq!(wire::encode(&envelope).unwrap(), text.as_bytes());
        // NUL is no text for the database.
        let Ok(Body::Plain(text)) = write(&broadcast("\0"), 7_999) else { panic!("it is short") };
        assert!(!text.contains('\0'));
    }

    #[test]
    fn binary_data_goes_through_the_table() {
        let mut envelope = broadcast("x");
        let bytes = socketio_proto::Value::Binary(vec![1, 2].into());
        let event = OwnedArgs::from_values(Some("e"), vec![bytes]);
        envelope.message = Message::Broadcast { event, options: BroadcastOptions::default(), request: None };
        assert!(matches!(write(&envelope, 7_999), Ok(Body::Attached { .. })));
    }

    #[test]
    fn notifications_of_others_are_read_with_care() {
        assert!(matches!(read_as(br#"{"uid":"me","type":99}"#), Ok(Notice::Own)));
        assert!(matches!(read_as(br#"{"uid":"a","type":3,"attachmentId":"12"}"#), Ok(Notice::Row(12))));
        assert!(matches!(read_as(br#"{"uid":"a","type":3,"attachmentId":12}"#), Ok(Notice::Row(12))));
        // As Node's emitter writes it: no namespace.
        let emitter = br#"{"type":3,"data":{"packet":{"type":2,"data":["e"],"nsp":"/n"},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter"}"#;
        let Ok(Notice::Whole(envelope)) = read_as(emitter) else { panic!("a message") };
        assert_eq!((envelope.sender, &*envelope.namespace), (None, "/n"));
        check(b"", Foreign::Malformed);
        check(b"{", Foreign::Malformed);
        check(b"\xc1", Foreign::Malformed);
        check(br#"{"uid":"a","type":3,"attachmentId":"x"}"#, Foreign::Field("attachmentId"));
        check(br#"{"uid":"a","type":3,"attachmentId":{}}"#, Foreign::Field("attachmentId"));
        check(br#"{"uid":"a","type":3,"attachmentId":"99999999999999999999"}"#, Foreign::Field("attachmentId"));
        check(br#"{"type":2,"nsp":"/n"}"#, Foreign::Field("uid"));
        check(br#"{"uid":"a","type":2,"nsp":"/other"}"#, Foreign::Field("nsp"));
        check(br#"{"uid":"a","nsp":"/n"}"#, Foreign::UnknownType);
        check(br#"{"uid":"a","type":3,"nsp":"/n"}"#, Foreign::Field("data"));

        #[track_caller]
        fn check(bytes: &[u8], want: Foreign) {
            assert_eq!(read_as(bytes).expect_err("it is no message"), want);
        }
    }
}
