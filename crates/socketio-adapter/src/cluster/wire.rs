//! Node's `ClusterMessage` as JSON and MessagePack: what sharded Redis, Redis streams and PostgreSQL carry.
//!
//! [`encode`] chooses the form as Node does: JSON, or MessagePack where binary data is inside. [`decode`] tells them apart
//! by the first byte. Keys come in any order, unknown ones are passed over, and whatever does not fit is a [`Foreign`]
//! message: ignored and counted, never more.
//!
//! The parts are public for protocols that put them into envelopes of their own: [`data`] and [`decode_parts`] for a stream
//! whose entries have the fields as columns, [`Options`](OptionsOnWire), [`read_options`] and [`Fields`] for another
//! arrangement of the same things.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use socketio_proto::{Args, EncodeError, OwnedArgs, Payload, Value, Violation, to_json, to_msgpack};

use super::{Envelope, Message, RequestId, ServerId, SocketDetails};
use crate::{BroadcastFlags, BroadcastOptions, RoomName, RoomNames, Selection};

/// The name under which programs that are no servers publish. Node: `EMITTER_UID`.
pub const EMITTER: &str = "emitter";

/// Bounds of what is taken from the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireLimits {
    /// The largest message, in bytes. Default: 16 MiB.
    pub message_bytes: usize,
    /// The most rooms that one message may name. Default: 10,000.
    pub rooms: usize,
    /// The longest name of a room, a server or a request, in bytes. Default: 256.
    pub name_bytes: usize,
    /// The longest name of an event, in bytes. Default: 256.
    pub event_name_bytes: usize,
    /// The most sockets in one answer. Default: 100,000.
    pub sockets: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self { message_bytes: 16 << 20, rooms: 10_000, name_bytes: 256, event_name_bytes: 256, sockets: 100_000 }
    }
}

/// Why a message of the bus was ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Foreign {
    /// Neither JSON nor MessagePack, or nested too deeply.
    #[error("malformed message")]
    Malformed,
    /// A pickled object. Reading one can run any code, so nobody here does.
    #[error("a pickled object, as python-socketio sends them before version 5.14")]
    Pickled,
    /// Larger than [`WireLimits::message_bytes`].
    #[error("a message of {0} bytes")]
    TooLarge(usize),
    /// A number that stands for no message.
    #[error("unknown message type")]
    UnknownType,
    /// A field is missing, of another type, or beyond its limit.
    #[error("the field {0:?} is missing or does not fit")]
    Field(&'static str),
    /// A broadcast of another kind of packet than an event, or an event no client may send.
    #[error("not an event: {0}")]
    Event(Violation),
}

/// Which form a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text.
    Json,
    /// MessagePack.
    Msgpack,
}

/// Writes a message: JSON, or MessagePack where binary data is inside.
///
/// # Errors
/// [`EncodeError`] when an argument cannot be written, or the message has no number here.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, EncodeError> {
    let form = if envelope.message.has_binary() { Form::Msgpack } else { Form::Json };
    encode_as(envelope, form)
}

/// Writes a message in this form. Binary data in JSON becomes lists of numbers.
///
/// # Errors
/// As [`encode`].
pub fn encode_as(envelope: &Envelope, form: Form) -> Result<Vec<u8>, EncodeError> {
    #[derive(Serialize)]
    struct Whole<'a> {
        r#type: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Data<'a>>,
        uid: &'a str,
        nsp: &'a str,
    }
    let kind = kind(&envelope.message)?;
    let data = data(envelope);
    let uid = envelope.sender.as_ref().map_or(EMITTER, ServerId::as_str);
    write(&Whole { r#type: kind, data, uid, nsp: &envelope.namespace }, form)
}

/// Writes a value in this form.
///
/// # Errors
/// As [`encode`].
pub fn write<T: Serialize + ?Sized>(value: &T, form: Form) -> Result<Vec<u8>, EncodeError> {
    match form {
        Form::Json => to_json(value).map(String::into_bytes),
        Form::Msgpack => to_msgpack(value),
    }
}

fn kind(message: &Message) -> Result<u8, EncodeError> {
    message.kind().ok_or_else(|| EncodeError::Serialize("not a message of this protocol".to_owned()))
}

/// Reads a message.
///
/// # Errors
/// Why it is to be ignored.
pub fn decode(bytes: &[u8], limits: &WireLimits) -> Result<Envelope, Foreign> {
    let whole = checked(bytes, limits)?;
    let fields = Fields::of(&whole)?;
    let kind = fields.get("type").and_then(|kind| kind.deserialize().ok()).ok_or(Foreign::UnknownType)?;
    let sender = fields.text("uid", limits)?;
    let namespace = fields.text("nsp", limits)?;
    decode_parts(kind, &sender, &namespace, fields.get("data"), limits)
}

/// Checks bytes of either form as a whole; JSON begins with `{`.
///
/// # Errors
/// Why it is to be ignored.
pub fn checked<'a>(bytes: &'a [u8], limits: &WireLimits) -> Result<Payload<'a>, Foreign> {
    if bytes.len() > limits.message_bytes {
        return Err(Foreign::TooLarge(bytes.len()));
    }
    let whole = if bytes.first() == Some(&b'{') {
        Payload::from_json(std::str::from_utf8(bytes).map_err(|_| Foreign::Malformed)?)
    } else {
        Payload::from_msgpack(bytes)
    };
    whole.map_err(|_| Foreign::Malformed)
}

/// Reads a message whose fields came apart: `kind` is Node's number, `data` what goes with it.
///
/// # Errors
/// Why it is to be ignored.
pub fn decode_parts(
    kind: u8,
    sender: &str,
    namespace: &str,
    data: Option<&Payload<'_>>,
    limits: &WireLimits,
) -> Result<Envelope, Foreign> {
    let sender = (sender != EMITTER).then(|| ServerId::from(sender));
    Ok(Envelope { sender, namespace: Arc::from(namespace), message: message(kind, data, limits)? })
}

fn message(kind: u8, data: Option<&Payload<'_>>, limits: &WireLimits) -> Result<Message, Foreign> {
    match kind {
        1 => return Ok(Message::Hello),
        2 => return Ok(Message::Heartbeat),
        13 => return Ok(Message::Goodbye),
        3..=12 => {}
        _ => return Err(Foreign::UnknownType),
    }
    let fields = Fields::of(data.ok_or(Foreign::Field("data"))?)?;
    Ok(match kind {
        3 => Message::Broadcast {
            event: read_packet(fields.need("packet")?, limits)?,
            options: read_options(fields.need("opts")?, limits)?,
            request: fields.optional_request(limits)?,
        },
        4 => Message::Join {
            selection: read_options(fields.need("opts")?, limits)?.selection,
            rooms: fields.rooms("rooms", limits)?,
        },
        5 => Message::Leave {
            selection: read_options(fields.need("opts")?, limits)?.selection,
            rooms: fields.rooms("rooms", limits)?,
        },
        6 => Message::Disconnect {
            selection: read_options(fields.need("opts")?, limits)?.selection,
            close: fields.flag("close"),
        },
        7 => Message::Fetch {
            selection: read_options(fields.need("opts")?, limits)?.selection,
            request: fields.request(limits)?,
        },
        8 => Message::Fetched { request: fields.request(limits)?, sockets: read_sockets(&fields, limits)? },
        9 => Message::ServerEvent {
            event: read_event(fields.need("packet")?, limits)?,
            request: fields.optional_request(limits)?,
        },
        10 => Message::ServerAnswer { request: fields.request(limits)?, answer: fields.value("packet")? },
        11 => Message::ClientCount {
            request: fields.request(limits)?,
            clients: fields.need("clientCount")?.deserialize().map_err(|_| Foreign::Field("clientCount"))?,
        },
        _ => Message::ClientAnswer {
            request: fields.request(limits)?,
            answer: fields.value("packet")?,
            socket: fields.optional_text("socket", limits)?.map(RoomName::from),
        },
    })
}

/// The fields of an object that is not decoded.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Payload<'a>)>);

impl<'a> Fields<'a> {
    /// Takes an object apart.
    ///
    /// # Errors
    /// When it is none, or has more than 64 fields.
    pub fn of(payload: &'a Payload<'_>) -> Result<Self, Foreign> {
        payload.entries(64).map(Self).map_err(|_| Foreign::Malformed)
    }

    /// A field; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&Payload<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// A field that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn need(&self, name: &'static str) -> Result<&Payload<'a>, Foreign> {
        self.get(name).ok_or(Foreign::Field(name))
    }

    /// Any value; absent is `null`.
    ///
    /// # Errors
    /// When it consists of too many values or has no Rust form.
    pub fn value(&self, name: &'static str) -> Result<Value, Foreign> {
        self.get(name).map_or(Ok(Value::Null), |value| value.value().map_err(|_| Foreign::Field(name)))
    }

    /// A field that JavaScript takes for true.
    pub fn flag(&self, name: &str) -> bool {
        match self.get(name).map(Payload::value) {
            Some(Ok(Value::Bool(flag))) => flag,
            Some(Ok(value)) => value.as_f64().is_none_or(|number| number != 0.0) && value.as_str() != Some(""),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Text of a bounded length.
    ///
    /// # Errors
    /// When it is missing, of another type or too long.
    pub fn text(&self, name: &'static str, limits: &WireLimits) -> Result<String, Foreign> {
        self.optional_text(name, limits)?.ok_or(Foreign::Field(name))
    }

    /// Text of a bounded length, or nothing.
    ///
    /// # Errors
    /// When it is of another type or too long.
    pub fn optional_text(&self, name: &'static str, limits: &WireLimits) -> Result<Option<String>, Foreign> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.deserialize::<String>() {
            Ok(text) if text.len() <= limits.name_bytes => Ok(Some(text)),
            _ => Err(Foreign::Field(name)),
        }
    }

    /// The `requestId`.
    ///
    /// # Errors
    /// When it is missing, of another type or too long.
    pub fn request(&self, limits: &WireLimits) -> Result<RequestId, Foreign> {
        self.text("requestId", limits).map(|id| RequestId::from(&*id))
    }

    /// The `requestId`, or nothing.
    ///
    /// # Errors
    /// When it is of another type or too long.
    pub fn optional_request(&self, limits: &WireLimits) -> Result<Option<RequestId>, Foreign> {
        Ok(self.optional_text("requestId", limits)?.map(|id| RequestId::from(&*id)))
    }

    /// Names of rooms. Numbers, which Node allows, are taken for their text.
    ///
    /// # Errors
    /// When the list is missing, too long, or has something else in it.
    pub fn rooms(&self, name: &'static str, limits: &WireLimits) -> Result<RoomNames, Foreign> {
        let items = self.need(name)?.items(limits.rooms).map_err(|_| Foreign::Field(name))?;
        items.iter().map(|item| room(item, limits).ok_or(Foreign::Field(name))).collect()
    }

    fn optional_rooms(&self, name: &'static str, limits: &WireLimits) -> Result<RoomNames, Foreign> {
        if self.get(name).is_none() { Ok(RoomNames::new()) } else { self.rooms(name, limits) }
    }
}

fn room(item: &Payload<'_>, limits: &WireLimits) -> Option<RoomName> {
    match item.value().ok()? {
        Value::String(name) if name.len() <= limits.name_bytes => Some(name.into()),
        Value::Int(number) => Some(number.to_string().into()),
        Value::Float(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Reads the list of an event: the name in front.
///
/// # Errors
/// When it is none.
pub fn read_event(list: &Payload<'_>, limits: &WireLimits) -> Result<OwnedArgs, Foreign> {
    list.event(limits.event_name_bytes).map(Args::into_owned).map_err(Foreign::Event)
}

/// Reads a `packet`: an object with `type` 2 and the list of the event as `data`.
///
/// # Errors
/// When it is none.
pub fn read_packet(packet: &Payload<'_>, limits: &WireLimits) -> Result<OwnedArgs, Foreign> {
    let fields = Fields::of(packet)?;
    match fields.need("type")?.deserialize::<u8>() {
        // Old emitters say 5 when binary data is inside.
        Ok(2 | 5) => read_event(fields.need("data")?, limits),
        _ => Err(Foreign::Event(Violation::UnknownType)),
    }
}

/// Reads `opts`: `rooms`, `except` and `flags`, each of which may be absent.
///
/// # Errors
/// When one of them is something else.
pub fn read_options(opts: &Payload<'_>, limits: &WireLimits) -> Result<BroadcastOptions, Foreign> {
    let fields = Fields::of(opts)?;
    let rooms = fields.optional_rooms("rooms", limits)?;
    let except = fields.optional_rooms("except", limits)?;
    let mut flags = BroadcastFlags::default();
    if let Some(given) = fields.get("flags") {
        let given = Fields::of(given)?;
        flags.volatile = given.flag("volatile");
        flags.compress = given.get("compress").is_none() || given.flag("compress");
        let millis = given.get("timeout").and_then(|timeout| timeout.deserialize::<f64>().ok());
        flags.timeout = millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1_000.0).ok());
    }
    Ok(BroadcastOptions { selection: Selection { rooms, except }, flags })
}

/// Reads the field `sockets` of an answer.
///
/// # Errors
/// When it is missing, too long, or a socket in it has no id.
pub fn read_sockets(fields: &Fields<'_>, limits: &WireLimits) -> Result<Vec<SocketDetails>, Foreign> {
    let items = fields.need("sockets")?.items(limits.sockets).map_err(|_| Foreign::Field("sockets"))?;
    items
        .iter()
        .map(|item| {
            let socket = Fields::of(item)?;
            Ok(SocketDetails {
                id: socket.text("id", limits)?.into(),
                handshake: socket.value("handshake")?,
                rooms: socket.optional_rooms("rooms", limits)?,
                data: socket.value("data")?,
            })
        })
        .collect()
}

/// What goes with a message, as it is written. Made by [`data`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    /// 3
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    Broadcast {
        packet: PacketOnWire<'a>,
        opts: OptionsOnWire<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
    },
    /// 4, 5
    #[doc(hidden)]
    Rooms { opts: OptionsOnWire<'a>, rooms: &'a [RoomName] },
    /// 6
    #[doc(hidden)]
    Disconnect { opts: OptionsOnWire<'a>, close: bool },
    /// 7
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    Fetch { opts: OptionsOnWire<'a>, request_id: &'a str },
    /// 8
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    Fetched { request_id: &'a str, sockets: Vec<SocketOnWire<'a>> },
    /// 9
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    ServerEvent {
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
        packet: &'a OwnedArgs,
    },
    /// 10, 12
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    Answer {
        request_id: &'a str,
        packet: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        socket: Option<&'a str>,
    },
    /// 11
    #[doc(hidden)]
    #[serde(rename_all = "camelCase")]
    Count { request_id: &'a str, client_count: u64 },
}

/// The `data` of a message; `None` for messages without.
pub fn data(envelope: &Envelope) -> Option<Data<'_>> {
    Some(match &envelope.message {
        Message::Broadcast { event, options, request } => Data::Broadcast {
            packet: PacketOnWire { r#type: 2, data: event, nsp: &envelope.namespace },
            opts: OptionsOnWire::new(options),
            request_id: request.as_ref().map(RequestId::as_str),
        },
        Message::Join { selection, rooms } | Message::Leave { selection, rooms } => {
            Data::Rooms { opts: OptionsOnWire::selecting(selection), rooms }
        }
        Message::Disconnect { selection, close } => {
            Data::Disconnect { opts: OptionsOnWire::selecting(selection), close: *close }
        }
        Message::Fetch { selection, request } => {
            Data::Fetch { opts: OptionsOnWire::selecting(selection), request_id: request.as_str() }
        }
        Message::Fetched { request, sockets } => {
            Data::Fetched { request_id: request.as_str(), sockets: sockets.iter().map(SocketOnWire::new).collect() }
        }
        Message::ServerEvent { event, request } => {
            Data::ServerEvent { request_id: request.as_ref().map(RequestId::as_str), packet: event }
        }
        Message::ServerAnswer { request, answer } => {
            Data::Answer { request_id: request.as_str(), packet: answer, socket: None }
        }
        Message::ClientCount { request, clients } => {
            Data::Count { request_id: request.as_str(), client_count: *clients }
        }
        Message::ClientAnswer { request, answer, socket } => {
            Data::Answer { request_id: request.as_str(), packet: answer, socket: socket.as_deref() }
        }
        _ => return None,
    })
}

/// A `packet` as it is written.
#[derive(Debug, Serialize)]
pub struct PacketOnWire<'a> {
    /// 2: an event.
    pub r#type: u8,
    /// Name and arguments.
    pub data: &'a OwnedArgs,
    /// The namespace.
    pub nsp: &'a str,
}

/// `opts` as they are written.
#[derive(Debug, Serialize)]
pub struct OptionsOnWire<'a> {
    rooms: &'a [RoomName],
    except: &'a [RoomName],
    flags: FlagsOnWire,
}

impl<'a> OptionsOnWire<'a> {
    /// Options of a broadcast.
    pub fn new(options: &'a BroadcastOptions) -> Self {
        let BroadcastOptions { selection, flags } = options;
        Self { rooms: &selection.rooms, except: &selection.except, flags: FlagsOnWire::new(flags) }
    }

    /// Options that only say which sockets are meant.
    pub fn selecting(selection: &'a Selection) -> Self {
        let flags = FlagsOnWire::new(&BroadcastFlags::default());
        Self { rooms: &selection.rooms, except: &selection.except, flags }
    }
}

/// Flags of a broadcast as they are written. Only what differs from the default, as in Node: `{}` most of the time.
#[derive(Debug)]
pub struct FlagsOnWire(BroadcastFlags);

impl FlagsOnWire {
    /// Those flags.
    pub fn new(flags: &BroadcastFlags) -> Self {
        Self(flags.clone())
    }
}

impl Serialize for FlagsOnWire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Given {
            #[serde(skip_serializing_if = "Option::is_none")]
            volatile: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            compress: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            timeout: Option<u64>,
        }
        let BroadcastFlags { volatile, compress, timeout, .. } = &self.0;
        let timeout = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        Given { volatile: volatile.then_some(true), compress: (!compress).then_some(false), timeout }
            .serialize(serializer)
    }
}

/// A socket as it is written.
#[derive(Debug, Serialize)]
pub struct SocketOnWire<'a> {
    id: &'a str,
    handshake: &'a Value,
    rooms: &'a [RoomName],
    data: &'a Value,
}

impl<'a> SocketOnWire<'a> {
    /// The socket as it is written.
    pub fn new(socket: &'a SocketDetails) -> Self {
        Self { id: &socket.id, handshake: &socket.handshake, rooms: &socket.rooms, data: &socket.data }
    }
}

#[cfg(test)]
mod tests {
    use socketio_proto::Map;

    use super::*;

    fn envelope(message: Message) -> Envelope {
        Envelope { sender: Some("a1".into()), namespace: "/".into(), message }
    }

    fn event(list: &[Value]) -> OwnedArgs {
        Payload::from(Value::Array(list.to_vec())).event(256).expect("an event").into_owned()
    }

    fn object(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| (*key, value.clone())).collect::<Map>())
    }

    #[test]
    fn messages_are_written_as_node_writes_them() {
        let to = |rooms: &[&str]| Selection::everybody().to(rooms.to_vec()).except("x");
        let options = |volatile| BroadcastOptions {
            selection: to(&["r"]),
            flags: BroadcastFlags { volatile, compress: !volatile, ..BroadcastFlags::default() },
        };
        let hi = event(&["hi".into(), 1.into()]);
        let r = || RequestId::from("q");
        check(Message::Hello, r#"{"type":1,"uid":"a1","nsp":"/"}"#);
        check(Message::Heartbeat, r#"{"type":2,"uid":"a1","nsp":"/"}"#);
        check(
            Message::Broadcast { event: hi.clone(), options: options(false), request: None },
            r#"{"type":3,"data":{"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":["r"],"except":["x"],"flags":{}}},"uid":"a1","nsp":"/"}"#,
        );
        let mut timed = options(true);
        timed.flags.timeout = Some(Duration::from_millis(1_500));
        check(
            Message::Broadcast { event: hi.clone(), options: timed, request: Some(r()) },
            r#"{"type":3,"data":{"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":["r"],"except":["x"],"flags":{"volatile":true,"compress":false,"timeout":1500}},"requestId":"q"},"uid":"a1","nsp":"/"}"#,
        );
        let rooms = || ["j", "k"].into_iter().map(RoomName::from).collect::<RoomNames>();
        check(
            Message::Join { selection: to(&[]), rooms: rooms() },
            r#"{"type":4,"data":{"opts":{"rooms":[],"except":["x"],"flags":{}},"rooms":["j","k"]},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::Leave { selection: to(&["r", "s"]), rooms: rooms() },
            r#"{"type":5,"data":{"opts":{"rooms":["r","s"],"except":["x"],"flags":{}},"rooms":["j","k"]},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::Disconnect { selection: to(&["r"]), close: true },
            r#"{"type":6,"data":{"opts":{"rooms":["r"],"except":["x"],"flags":{}},"close":true},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::Fetch { selection: to(&["r"]), request: r() },
            r#"{"type":7,"data":{"opts":{"rooms":["r"],"except":["x"],"flags":{}},"requestId":"q"},"uid":"a1","nsp":"/"}"#,
        );
        let details = SocketDetails {
            id: "s".into(),
            handshake: object(&[("url", "/".into())]),
            rooms: rooms(),
            data: object(&[("n", 1.into())]),
        };
        check(
            Message::Fetched { request: r(), sockets: vec![details] },
            r#"{"type":8,"data":{"requestId":"q","sockets":[{"id":"s","handshake":{"url":"/"},"rooms":["j","k"],"data":{"n":1}}]},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::ServerEvent { event: hi.clone(), request: None },
            r#"{"type":9,"data":{"packet":["hi",1]},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::ServerEvent { event: hi, request: Some(r()) },
            r#"{"type":9,"data":{"requestId":"q","packet":["hi",1]},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::ServerAnswer { request: r(), answer: "yes".into() },
            r#"{"type":10,"data":{"requestId":"q","packet":"yes"},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::ClientCount { request: r(), clients: 3 },
            r#"{"type":11,"data":{"requestId":"q","clientCount":3},"uid":"a1","nsp":"/"}"#,
        );
        check(
            Message::ClientAnswer { request: r(), answer: Value::Null, socket: None },
            r#"{"type":12,"data":{"requestId":"q","packet":null},"uid":"a1","nsp":"/"}"#,
        );
        check(Message::Goodbye, r#"{"type":13,"uid":"a1","nsp":"/"}"#);

        #[track_caller]
        fn check(message: Message, want: &str) {
            let envelope = envelope(message);
            let json = encode(&envelope).expect("encodes");
            assert_eq!(String::from_utf8(json.clone()).expect("text"), want);
            let packed = encode_as(&envelope, Form::Msgpack).expect("encodes");
            for form in [json, packed] {
                let back = decode(&form, &WireLimits::default()).expect("decodes");
                assert_eq!(String::from_utf8(encode(&back).expect("encodes")).expect("text"), want);
            }
        }
    }

    #[test]
    fn binary_data_makes_it_messagepack() {
        let bytes = Value::Binary(bytes::Bytes::from_static(b"\x01\x02"));
        let message = Message::ServerAnswer { request: RequestId::from("q"), answer: bytes };
        // What Node's encoder makes of the same object.
        let want = b"\x84\xa4type\x0a\xa4data\x82\xa9requestId\xa1q\xa6packet\xc4\x02\x01\x02\xa3uid\xa2a1\xa3nsp\xa1/";
        assert_eq!(encode(&envelope(message)).expect("encodes"), want);
    }

    #[test]
    fn what_does_not_fit_is_foreign() {
        check("", Foreign::Malformed);
        check("{", Foreign::Malformed);
        check("[]", Foreign::Malformed);
        check("{}", Foreign::UnknownType);
        check(r#"{"type":99,"uid":"a","nsp":"/"}"#, Foreign::UnknownType);
        check(r#"{"type":"3","uid":"a","nsp":"/"}"#, Foreign::UnknownType);
        check(r#"{"type":2,"nsp":"/"}"#, Foreign::Field("uid"));
        check(r#"{"type":2,"uid":1,"nsp":"/"}"#, Foreign::Field("uid"));
        check(r#"{"type":2,"uid":"a"}"#, Foreign::Field("nsp"));
        check(r#"{"type":3,"uid":"a","nsp":"/"}"#, Foreign::Field("data"));
        check(r#"{"type":3,"data":null,"uid":"a","nsp":"/"}"#, Foreign::Field("data"));
        check(r#"{"type":3,"data":[],"uid":"a","nsp":"/"}"#, Foreign::Malformed);
        check(r#"{"type":3,"data":{},"uid":"a","nsp":"/"}"#, Foreign::Field("packet"));
        check(r#"{"type":3,"data":{"packet":{"type":2,"data":["a"]}},"uid":"a","nsp":"/"}"#, Foreign::Field("opts"));
        let packet =
            |packet: &str| format!(r#"{{"type":3,"data":{{"packet":{packet},"opts":{{}}}},"uid":"a","nsp":"/"}}"#);
        check(&packet(r#"{"type":2}"#), Foreign::Field("data"));
        check(&packet(r#"{"type":0,"data":{}}"#), Foreign::Event(Violation::UnknownType));
        check(&packet(r#"{"type":2,"data":{}}"#), Foreign::Event(Violation::Payload));
        check(&packet(r#"{"type":2,"data":["disconnect"]}"#), Foreign::Event(Violation::ReservedEvent));
        check(r#"{"type":4,"data":{"opts":{"rooms":"r"},"rooms":[]},"uid":"a","nsp":"/"}"#, Foreign::Field("rooms"));
        check(r#"{"type":4,"data":{"opts":{},"rooms":[{}]},"uid":"a","nsp":"/"}"#, Foreign::Field("rooms"));
        check(r#"{"type":7,"data":{"opts":{}},"uid":"a","nsp":"/"}"#, Foreign::Field("requestId"));
        check(r#"{"type":8,"data":{"requestId":"q"},"uid":"a","nsp":"/"}"#, Foreign::Field("sockets"));
        check(r#"{"type":8,"data":{"requestId":"q","sockets":[{}]},"uid":"a","nsp":"/"}"#, Foreign::Field("id"));
        check(
            r#"{"type":11,"data":{"requestId":"q","clientCount":-1},"uid":"a","nsp":"/"}"#,
            Foreign::Field("clientCount"),
        );
        for bytes in [&b"\xc0"[..], b"\x81", b"\xc1", b"\x91\xc0", b"\xff\xfe"] {
            assert!(decode(bytes, &WireLimits::default()).is_err(), "{bytes:x?}");
        }
        let small = WireLimits { message_bytes: 10, ..WireLimits::default() };
        assert_eq!(decode(b"12345678901", &small).unwrap_err(), Foreign::TooLarge(11));

        #[track_caller]
        fn check(wire: &str, want: Foreign) {
            assert_eq!(decode(wire.as_bytes(), &WireLimits::default()).unwrap_err(), want, "{wire}");
        }
    }

    #[test]
    fn what_node_allows_is_understood() {
        let wire = br#"{"uid":"emitter","nsp":"/n","data":{"opts":{"rooms":[7,"r",1.5],"flags":{"volatile":1,"timeout":250}},"packet":{"data":["e"],"type":2}},"type":3,"more":{}}"#;
        let Envelope { sender, namespace, message } = decode(wire, &WireLimits::default()).expect("decodes");
        assert_eq!((sender, &*namespace), (None, "/n"));
        let Message::Broadcast { options, event, request: None } = message else { panic!("{message:?}") };
        assert_eq!(options.selection.rooms.as_slice(), ["7", "r", "1.5"]);
        assert!(options.selection.except.is_empty() && options.flags.volatile && options.flags.compress);
        assert_eq!(options.flags.timeout, Some(Duration::from_millis(250)));
        assert_eq!((event.name(), event.len()), ("e", 0));
    }
}
