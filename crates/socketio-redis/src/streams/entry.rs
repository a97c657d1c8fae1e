//! Entries of a stream and sessions as bytes, as Node's adapter writes them. No I/O.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use redis::Value as Reply;
use serde::Serialize;
use socketio_adapter::RoomName;
use socketio_adapter::cluster::wire::{self, Fields, Foreign, Form, WireLimits};
use socketio_adapter::cluster::{Envelope, Message, ServerId, StoredSession};
use socketio_proto::{EncodeError, Value};

/// Node pads; others may not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an entry consists of: names and values.
pub(crate) type Columns = Vec<(&'static str, Vec<u8>)>;

/// Whether a message is an entry of the stream. All others are published, and forgotten.
pub(crate) fn is_kept(message: &Message) -> bool {
    matches!(
        message,
        Message::Broadcast { request: None, .. }
            | Message::Join { .. }
            | Message::Leave { .. }
            | Message::Disconnect { .. }
    )
}

/// The stream of a namespace, of so many. As Node computes it: the remainder of a negative hash is negative, and so is then the number in
/// the name.
pub(crate) fn stream_of<'a>(name: &'a str, streams: usize, namespace: &str) -> Cow<'a, str> {
    if streams == 1 {
        return Cow::Borrowed(name);
    }
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = namespace.encode_utf16().fold(0, step);
    let number = i64::try_from(streams).map_or(i64::from(hash), |streams| i64::from(hash) % streams);
    Cow::Owned(format!("{name}-{number}"))
}

/// Writes an entry.
pub(crate) fn write(envelope: &Envelope) -> Result<Columns, EncodeError> {
    let uid = envelope.sender.as_ref().map_or(wire::EMITTER, ServerId::as_str);
    let kind = envelope.message.kind().unwrap_or_default();
    let mut columns = vec![
        ("uid", uid.as_bytes().to_vec()),
        ("nsp", envelope.namespace.as_bytes().to_vec()),
        ("type", kind.to_string().into_bytes()),
    ];
    if let Some(data) = wire::data(envelope) {
        let data = match envelope.message.has_binary() {
            true => BASE64.encode(wire::write(&data, Form::Msgpack)?).into_bytes(),
            false => wire::write(&data, Form::Json)?,
        };
        columns.push(("data", data));
    }
    Ok(columns)
}

/// An entry as it came in: its id, and names and values in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) columns: Vec<Vec<u8>>,
}

impl Entry {
    /// A value as text of a bounded length.
    pub(crate) fn text(&self, name: &str, limits: &WireLimits) -> Option<&str> {
        self.bytes(name)
            .filter(|bytes| bytes.len() <= limits.name_bytes)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.columns.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| &pair[1][..])
    }

    /// Reads the message.
    pub(crate) fn read(&self, limits: &WireLimits) -> Result<Envelope, Foreign> {
        let sender = self.text("uid", limits).ok_or(Foreign::Field("uid"))?;
        let namespace = self.text("nsp", limits).ok_or(Foreign::Field("nsp"))?;
        let kind = self.text("type", limits).and_then(|kind| kind.parse().ok()).ok_or(Foreign::UnknownType)?;
        let data = match self.bytes("data") {
            Some(data) if data.len() / 4 * 3 > limits.message_bytes => return Err(Foreign::TooLarge(data.len())),
            Some(data) if data.first() == Some(&b'{') => Some(Cow::Borrowed(data)),
            Some(data) => Some(BASE64.decode(data).map_err(|_| Foreign::Malformed)?.into()),
            None => None,
        };
        let data = data.as_ref().map(|data| wire::checked(data, limits)).transpose()?;
        wire::decode_parts(kind, sender, namespace, data.as_ref(), limits)
    }
}

/// The entries of an answer to `XRANGE`, or of one stream in an answer to `XREAD`. What has another form is left out.
pub(crate) fn entries(reply: Reply) -> Vec<Entry> {
    let Reply::Array(list) = reply else { return Vec::new() };
    let entry = |reply| match reply {
        Reply::Array(parts) => match <[Reply; 2]>::try_from(parts) {
            Ok([id, Reply::Array(columns)]) => {
                let columns = columns.into_iter().filter_map(bytes).collect();
                Some(Entry { id: String::from_utf8(bytes(id)?).ok()?, columns })
            }
            _ => None,
        },
        _ => None,
    };
    list.into_iter().filter_map(entry).collect()
}

/// The entries of an answer to `XREAD` for one stream.
pub(crate) fn read_entries(reply: Reply) -> Vec<Entry> {
    match reply {
        Reply::Map(mut streams) => streams.pop().map(|(_, list)| entries(list)).unwrap_or_default(),
        // The older protocol.
        Reply::Array(mut streams) => match streams.pop() {
            Some(Reply::Array(mut stream)) => stream.pop().map(entries).unwrap_or_default(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

pub(crate) fn bytes(reply: Reply) -> Option<Vec<u8>> {
    match reply {
        Reply::BulkString(bytes) => Some(bytes),
        Reply::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// Writes a session.
pub(crate) fn write_session(namespace: &str, session: &StoredSession) -> Result<String, EncodeError> {
    #[derive(Serialize)]
    struct Wire<'a> {
        sid: &'a str,
        pid: &'a str,
        rooms: &'a [RoomName],
        data: &'a Value,
        // What Node does not know, it passes over.
        nsp: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
    }
    let StoredSession { id, pid, rooms, data, since, by } = session;
    let (since, by) = (since.as_deref(), by.as_ref().map(ServerId::as_str));
    let whole = Wire { sid: id, pid, rooms, data, nsp: namespace, since, by };
    Ok(BASE64.encode(wire::write(&whole, Form::Msgpack)?))
}

/// Reads a session, if it is one of this namespace. Node does not say of which one it is.
pub(crate) fn read_session(namespace: &str, text: &[u8], limits: &WireLimits) -> Result<StoredSession, Foreign> {
    let bytes = BASE64.decode(text).map_err(|_| Foreign::Malformed)?;
    let whole = wire::checked(&bytes, limits)?;
    let fields = Fields::of(&whole)?;
    if fields.get("nsp").is_some() && fields.text("nsp", limits)? != namespace {
        return Err(Foreign::Field("nsp"));
    }
    Ok(StoredSession {
        id: fields.text("sid", limits)?.into(),
        pid: fields.text("pid", limits)?.into(),
        rooms: fields.rooms("rooms", limits)?,
        data: fields.value("data")?,
        since: fields.text("since", limits).ok().map(Into::into),
        by: fields.text("by", limits).ok().map(|by| ServerId::from(&*by)),
    })
}

#[cfg(test)]
mod tests {
    use socketio_adapter::BroadcastOptions;
    use socketio_proto::OwnedArgs;

    use super::*;

    fn limits() -> WireLimits {
        WireLimits::default()
    }

    fn broadcast(values: Vec<Value>) -> Envelope {
        let event = OwnedArgs::from_values(Some("e"), values);
        let message = Message::Broadcast { event, options: BroadcastOptions::default(), request: None };
        Envelope { sender: Some("a1".into()), namespace: "/n".into(), message }
    }

    fn entry(columns: &[(&str, &[u8])]) -> Entry {
        let columns = columns.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]).collect();
        Entry { id: "1-0".to_owned(), columns }
    }

    fn text(columns: &Columns) -> Vec<(&str, &str)> {
        columns.iter().map(|(name, value)| (*name, std::str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn entries_are_written_as_node_writes_them() {
        let json = r#"{"packet":{"type":2,"data":["e",1],"nsp":"/n"},"opts":{"rooms":[],"except":[],"flags":{}}}"#;
        let columns = write(&broadcast(vec![1.into()])).unwrap();
        assert_eq!(text(&columns), [("uid", "a1"), ("nsp", "/n"), ("type", "3"), ("data", json)]);
        let binary = write(&broadcast(vec![Value::Binary(vec![1, 2].into())])).unwrap();
        // What Node's encoder makes of the same object.
        let want = "gqZwYWNrZXSDpHR5cGUCpGRhdGGSoWXEAgECo25zcKIvbqRvcHRzg6Vyb29tc5CmZXhjZXB0kKVmbGFnc4A=";
        assert_eq!(text(&binary)[3], ("data", want));
        for columns in [columns, binary] {
            let columns: Vec<_> = columns.iter().map(|(name, value)| (*name, &value[..])).collect();
            let read = entry(&columns).read(&limits()).unwrap();
            assert_eq!(write(&read).unwrap().iter().map(|(_, value)| &value[..]).collect::<Vec<_>>().len(), 4);
        }
    }

    #[test]
    fn entries_of_others_are_read_with_care() {
        check(&[], Foreign::Field("uid"));
        check(&[("uid", b"x")], Foreign::Field("nsp"));
        check(&[("uid", b"x"), ("nsp", b"/")], Foreign::UnknownType);
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"x")], Foreign::UnknownType);
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"99")], Foreign::UnknownType);
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"3")], Foreign::Field("data"));
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"3"), ("data", b"{")], Foreign::Malformed);
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"3"), ("data", b"%%%")], Foreign::Malformed);
        check(&[("uid", b"x"), ("nsp", b"/"), ("type", b"3"), ("data", b"kcA=")], Foreign::Malformed);
        check(&[("uid", &[b'x'; 300]), ("nsp", b"/")], Foreign::Field("uid"));
        check(&[("uid", b"\xff"), ("nsp", b"/")], Foreign::Field("uid"));
        let odd = Entry { id: "1-0".to_owned(), columns: vec![b"uid".to_vec()] };
        assert_eq!(odd.read(&limits()).unwrap_err(), Foreign::Field("uid"));

        #[track_caller]
        fn check(columns: &[(&str, &[u8])], want: Foreign) {
            assert_eq!(entry(columns).read(&limits()).unwrap_err(), want);
        }
    }

    #[test]
    fn a_namespace_has_the_stream_that_node_computes() {
        // `computeStreamName` of `@socket.io/redis-streams-adapter` 0.3.1.
        check("/", [0, 1, 2, 3, 5]);
        check("/a", [0, 0, 0, 2, 0]);
        check("/b", [0, 1, 1, 3, 1]);
        check("/chat", [0, 1, 1, 3, 4]);
        check("/admin", [0, 0, 1, 0, 4]);
        check("/my-namespace", [0, -1, 0, -3, -6]);
        check("/room-1", [0, 0, 0, 2, 3]);
        check("/\u{e4}", [0, 1, 2, 1, 5]);
        check("/\u{1f600}", [0, 0, 0, 2, 5]);

        #[track_caller]
        fn check(namespace: &str, want: [i32; 5]) {
            assert_eq!(stream_of("s", 1, namespace), "s");
            for (streams, want) in [1, 2, 3, 4, 7].into_iter().zip(want).skip(1) {
                assert_eq!(stream_of("s", streams, namespace), format!("s-{want}"), "{namespace} of {streams}");
            }
        }
    }

    #[test]
    fn a_session_is_what_node_keeps() {
        let data = Value::Map([("n", Value::from(1))].into_iter().collect());
        let rooms = ["s", "r"].into_iter().map(RoomName::from).collect();
        let session = StoredSession { id: "s".into(), pid: "p".into(), rooms, data, since: None, by: None };
        // What Node keeps, and the namespace.
        let text = write_session("/", &session).unwrap();
        assert_eq!(text, "haNzaWShc6NwaWShcKVyb29tc5Khc6FypGRhdGGBoW4Bo25zcKEv");
        for node in ["hKNzaWShc6NwaWShcKVyb29tc5Khc6FypGRhdGGBoW4B", &text] {
            assert_eq!(read_session("/", node.as_bytes(), &limits()).unwrap(), session);
        }
        assert!(read_session("/other", text.as_bytes(), &limits()).is_err());
        let since = StoredSession { since: Some("1-0".into()), by: Some("a1".into()), ..session };
        let text = write_session("/n", &since).unwrap();
        assert_eq!(read_session("/n", text.as_bytes(), &limits()).unwrap(), since);
        for junk in [&b""[..], b"%", b"wA==", b"gA=="] {
            assert!(read_session("/", junk, &limits()).is_err());
        }
    }
}
