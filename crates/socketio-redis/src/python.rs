//! python-socketio's protocol, as its Redis managers speak it since 5.14: objects in JSON, all of them on one channel.
//!
//! That channel knows events with and without answers, one socket that joins or leaves a room or is disconnected, and the end
//! of a room. For everything else that servers of ours tell each other there are channels beside it, in Node's
//! `ClusterMessage`, which servers in Python do not hear. An event for clients is said once, on their channel; rooms and
//! disconnections are said on both, and ours take no notice of ours on the first.
//!
//! Older managers send pickled objects. Nothing here unpickles.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use socketio_adapter::cluster::wire::{self, EMITTER, Fields, FlagsOnWire, Foreign, Form, WireLimits};
use socketio_adapter::cluster::{BusError, Envelope, Message, RequestId, ServerId, Target};
use socketio_adapter::{BroadcastFlags, BroadcastOptions, RoomName, RoomNames, Selection};
use socketio_proto::{EncodeError, Map, OwnedArgs, Payload, Value, Violation, is_reserved_event};

use crate::{Decoded, Words};

/// What python-socketio calls an id: that of Engine.IO, which is as long as ours.
const ID_LENGTH: usize = 20;
/// The most single orders that one message may become.
const MOST_ORDERS: usize = 10_000;

/// A message as it is written. `flags` is ours: servers in Python pass over it.
#[derive(Serialize)]
struct Wire<'a> {
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<bool>,
    namespace: &'a str,
    /// `null` is everybody, and has to be there for an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<Names<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_sid: Option<Names<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<Option<(&'a str, &'a str, &'a str)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a [Value]>,
    host_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<FlagsOnWire>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Names<'a> {
    None,
    One(&'a str),
    Many(&'a [RoomName]),
}

impl<'a> Names<'a> {
    fn of(names: &'a [RoomName]) -> Self {
        match names {
            [] => Self::None,
            [one] => Self::One(one),
            many => Self::Many(many),
        }
    }
}

impl<'a> Wire<'a> {
    fn new(method: &'static str, namespace: &'a str, host_id: &'a str) -> Self {
        Self {
            method,
            event: None,
            data: None,
            binary: None,
            namespace,
            room: None,
            skip_sid: None,
            sid: None,
            callback: None,
            id: None,
            args: None,
            host_id,
            flags: None,
        }
    }

    fn write(&self) -> Result<Vec<u8>, BusError> {
        Ok(wire::write(self, Form::Json)?)
    }
}

/// A message as it travels.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// What is published where, in this order.
    pub(crate) parts: Vec<(String, Vec<u8>)>,
    /// What servers in Python cannot be told of it.
    pub(crate) untold: Option<&'static str>,
}

/// The channels and bytes of a message.
pub(crate) fn encode(words: &Words, envelope: &Envelope, to: &Target) -> Result<Sent, BusError> {
    let Envelope { sender, namespace, message } = envelope;
    let host = sender.as_ref().map_or(EMITTER, ServerId::as_str);
    let ours = || -> Result<(String, Vec<u8>), BusError> {
        let main = words.main_channel(namespace);
        let channel = match to {
            Target::Asker(Some(server)) => format!("{main}{}#", server.as_str()),
            Target::Asker(None) | Target::Everybody => main,
        };
        Ok((channel, wire::encode(envelope)?))
    };
    let theirs = |message: &Wire<'_>| -> Result<(String, Vec<u8>), BusError> {
        Ok((words.python_channel().to_owned(), message.write()?))
    };
    let orders = |method, selection: &Selection, rooms: &[&str]| -> Result<Sent, BusError> {
        let mut sent = Sent { parts: vec![ours()?], untold: None };
        let one_by_one = selection.except.is_empty()
            && !selection.rooms.is_empty()
            && selection.rooms.iter().all(|id| is_id(id))
            && selection.rooms.len() * rooms.len().max(1) <= MOST_ORDERS;
        if !one_by_one {
            sent.untold = Some("they know sockets by their ids only, one at a time");
            return Ok(sent);
        }
        for id in &selection.rooms {
            let order = || Wire { sid: Some((&**id).into()), ..about(method, namespace, host) };
            if rooms.is_empty() {
                sent.parts.push(theirs(&order())?);
            }
            for room in rooms {
                sent.parts.push(theirs(&Wire { room: Some(Names::One(room)), ..order() })?);
            }
        }
        Ok(sent)
    };
    let names = |rooms: &'_ RoomNames| rooms.iter().map(|room| room.to_string()).collect::<Vec<_>>();
    Ok(match message {
        Message::Broadcast { event, options, request } => {
            let Selection { rooms, except } = &options.selection;
            if !except.iter().all(|id| is_id(id)) {
                // Their servers would send it to the members of a room that is to be left out.
                return Ok(Sent { parts: vec![ours()?], untold: Some("they can leave out sockets, but no rooms") });
            }
            let values = event.values().map_err(|error| EncodeError::Serialize(error.to_string()))?;
            let (data, binary) = stripped(values);
            let to = rooms.first().map_or("", |room| &**room);
            let callback = request.as_ref().map(|request| (to, &**namespace, request.as_str()));
            let flags = FlagsOnWire::new(&options.flags);
            let emit = Wire {
                event: Some(event.name()),
                data: Some(data),
                binary: Some(binary),
                room: Some(Names::of(rooms)),
                skip_sid: Some(Names::of(except)),
                callback: Some(callback),
                flags: Some(flags),
                ..Wire::new("emit", namespace, host)
            };
            Sent { parts: vec![theirs(&emit)?], untold: None }
        }
        Message::Join { selection, rooms } => {
            let rooms = names(rooms);
            orders("enter_room", selection, &rooms.iter().map(String::as_str).collect::<Vec<_>>())?
        }
        Message::Leave { selection, rooms } => match (&*selection.rooms, &**rooms) {
            ([whose], [room]) if whose == room && selection.except.is_empty() && !is_id(room) => {
                let close = Wire { room: Some(Names::One(room)), ..about("close_room", namespace, host) };
                Sent { parts: vec![ours()?, theirs(&close)?], untold: None }
            }
            _ => {
                let rooms = names(rooms);
                orders("leave_room", selection, &rooms.iter().map(String::as_str).collect::<Vec<_>>())?
            }
        },
        Message::Disconnect { selection, .. } => orders("disconnect", selection, &[])?,
        Message::ClientCount { request, .. } if asked_by_python(request) => Sent::default(),
        Message::ClientAnswer { request, answer, .. } if asked_by_python(request) => {
            let Target::Asker(Some(server)) = to else { return Ok(Sent::default()) };
            if answer.has_binary() {
                return Err(EncodeError::Serialize("python-socketio takes no binary answers".to_owned()).into());
            }
            let whole = Payload::from_json(request.as_str());
            let parts = whole.as_ref().ok().and_then(|whole| whole.value().ok());
            let Some([sid, id]) = parts.as_ref().and_then(Value::as_array) else { return Ok(Sent::default()) };
            let callback = Wire {
                sid: Some(sid.clone()),
                id: Some(id.clone()),
                args: Some(answer.as_array().unwrap_or_default()),
                ..Wire::new("callback", namespace, server.as_str())
            };
            Sent { parts: vec![theirs(&callback)?], untold: None }
        }
        // The broker counts: nobody says hello.
        Message::Hello | Message::Heartbeat | Message::Goodbye => return Err(BusError::Closed),
        // Nobody asks for these any more.
        Message::ListSockets { .. }
        | Message::SocketIds { .. }
        | Message::ListRooms { .. }
        | Message::RoomNames { .. } => Sent::default(),
        Message::Fetch { .. }
        | Message::Fetched { .. }
        | Message::ServerEvent { .. }
        | Message::ServerAnswer { .. }
        | Message::ClientCount { .. }
        | Message::ClientAnswer { .. } => Sent { parts: vec![ours()?], untold: None },
    })
}

/// A message of ours that is not an event: ours hear it on another channel.
fn about<'a>(method: &'static str, namespace: &'a str, host: &'a str) -> Wire<'a> {
    Wire { flags: Some(FlagsOnWire::new(&BroadcastFlags::default())), ..Wire::new(method, namespace, host) }
}

/// Whether it can be the id of a socket.
fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Their ids of questions are put into ours as a list, and ours never look like one.
pub(crate) fn asked_by_python(request: &RequestId) -> bool {
    request.as_str().starts_with('[')
}

/// Puts places where binary data was, which comes behind as base64; and whether there was any.
fn stripped(values: Vec<Value>) -> (Vec<Value>, bool) {
    if !values.iter().any(Value::has_binary) {
        return (values, false);
    }
    let mut attachments = Vec::new();
    let list = values.into_iter().map(|value| strip(value, &mut attachments)).collect();
    let mut data = vec![Value::Array(list)];
    data.extend(attachments.iter().map(|bytes| Value::String(STANDARD.encode(bytes))));
    (data, true)
}

fn strip(value: Value, attachments: &mut Vec<Bytes>) -> Value {
    match value {
        Value::Binary(bytes) => {
            attachments.push(bytes);
            let place = [("_placeholder", Value::Bool(true)), ("num", Value::from(attachments.len() as u64 - 1))];
            Value::Map(place.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| strip(item, attachments)).collect()),
        Value::Map(map) => {
            Value::Map(map.into_iter().map(|(key, value)| (key, strip(value, attachments))).collect::<Map>())
        }
        other => other,
    }
}

/// Puts binary data back into its places, each piece into one at most: otherwise a small message could become a huge one.
///
/// The value has been checked: it is not nested deeply.
fn fill(value: Value, attachments: &mut [Option<Bytes>]) -> Option<Value> {
    Some(match value {
        Value::Map(map) if map.get("_placeholder").is_some() && map.get("num").is_some() => {
            let at = map.get("num").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok())?;
            Value::Binary(attachments.get_mut(at)?.take()?)
        }
        Value::Map(map) => {
            let entries = map.into_iter().map(|(key, value)| Some((key, fill(value, attachments)?)));
            Value::Map(entries.collect::<Option<Vec<_>>>()?.into_iter().collect())
        }
        Value::Array(items) => {
            let items = items.into_iter().map(|item| fill(item, attachments)).collect::<Option<Vec<_>>>();
            Value::Array(items?)
        }
        other => other,
    })
}

/// Reads what came on their channel.
pub(crate) fn decode(words: &Words, bytes: &[u8]) -> Decoded {
    let limits = &words.limits;
    if bytes.len() > limits.message_bytes {
        return Err(Foreign::TooLarge(bytes.len()));
    }
    if bytes.first() == Some(&0x80) {
        return Err(Foreign::Pickled);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Foreign::Malformed)?;
    let whole = Payload::from_json(text).map_err(|_| Foreign::Malformed)?;
    let fields = Fields::of(&whole)?;
    let method = fields.text("method", limits).map_err(|_| Foreign::UnknownType)?;
    let host = fields.optional_text("host_id", limits)?;
    let is_own = host.as_deref() == Some(words.id.as_str());
    // An answer names whoever has asked; everything else names its sender.
    if is_own != (method == "callback") {
        return Ok(None);
    }
    let ours = fields.get("flags").is_some();
    let namespace = || fields.text("namespace", limits);
    let sid = || fields.text("sid", limits).map(|sid| Selection::everybody().to(sid));
    let room = || names(&fields, "room", limits)?.filter(|names| names.len() == 1).ok_or(Foreign::Field("room"));
    let message = match &*method {
        "emit" => emit(&fields, host.is_some(), ours, limits)?,
        "callback" => Message::ClientAnswer {
            request: fields.text("id", limits).map(|id| RequestId::from(&*id)).map_err(|_| Foreign::Field("id"))?,
            answer: match fields.need("args")?.value().map_err(|_| Foreign::Field("args"))? {
                Value::Array(mut args) if args.len() < 2 => args.pop().unwrap_or_default(),
                Value::Array(args) => Value::Array(args),
                _ => return Err(Foreign::Field("args")),
            },
            socket: None,
        },
        "enter_room" | "leave_room" | "close_room" | "disconnect" if ours => return Ok(None),
        "enter_room" => Message::Join { selection: sid()?, rooms: room()? },
        "leave_room" => Message::Leave { selection: sid()?, rooms: room()? },
        "close_room" => {
            let rooms = room()?;
            Message::Leave { selection: Selection { rooms: rooms.clone(), ..Selection::default() }, rooms }
        }
        "disconnect" => Message::Disconnect { selection: sid()?, close: false },
        _ => return Err(Foreign::UnknownType),
    };
    let sender = host.filter(|host| host != EMITTER && !is_own).map(|host| ServerId::from(&*host));
    Ok(Some(Envelope { sender, namespace: Arc::from(namespace()?), message }))
}

fn emit(fields: &Fields<'_>, answerable: bool, ours: bool, limits: &WireLimits) -> Result<Message, Foreign> {
    let name: String = fields.need("event")?.deserialize().map_err(|_| Foreign::Event(Violation::EventName))?;
    if name.len() > limits.event_name_bytes {
        return Err(Foreign::Event(Violation::EventName));
    }
    if is_reserved_event(&name) {
        return Err(Foreign::Event(Violation::ReservedEvent));
    }
    let mut values = match fields.get("data") {
        None => Vec::new(),
        Some(data) => match data.value().map_err(|_| Foreign::Field("data"))? {
            Value::Array(values) => values,
            // Between 5.14.0 and 5.15.0 a single argument stands there alone.
            value => vec![value],
        },
    };
    if fields.flag("binary") {
        let mut parts = values.into_iter();
        let list = parts.next().ok_or(Foreign::Field("data"))?;
        let attachments = parts.map(|part| STANDARD.decode(part.as_str()?).ok().map(|bytes| Some(Bytes::from(bytes))));
        let mut attachments = attachments.collect::<Option<Vec<_>>>().ok_or(Foreign::Field("data"))?;
        values = match fill(list, &mut attachments).ok_or(Foreign::Field("data"))? {
            Value::Array(values) => values,
            value => vec![value],
        };
    }
    // Python has no event without data: its `None` alone stands for no arguments.
    if !ours && matches!(&*values, [Value::Null]) {
        values.clear();
    }
    let selection = Selection {
        rooms: names(fields, "room", limits)?.unwrap_or_default(),
        except: names(fields, "skip_sid", limits)?.unwrap_or_default(),
    };
    let mut flags = BroadcastFlags::default();
    if let Some(given) = fields.get("flags") {
        let given = Fields::of(given)?;
        flags.volatile = given.flag("volatile");
        flags.compress = given.get("compress").is_none() || given.flag("compress");
        flags.timeout = given.get("timeout").and_then(|timeout| timeout.deserialize().ok()).map(Duration::from_millis);
    }
    let request = match fields.get("callback").filter(|_| answerable) {
        Some(callback) => asked(callback, ours, limits)?,
        None => None,
    };
    let event = OwnedArgs::from_values(Some(&name), values);
    Ok(Message::Broadcast { event, options: BroadcastOptions { selection, flags }, request })
}

/// Under which id the answers are wanted: `[room, namespace, id]`.
fn asked(callback: &Payload<'_>, ours: bool, limits: &WireLimits) -> Result<Option<RequestId>, Foreign> {
    let parts = callback.items(3).map_err(|_| Foreign::Field("callback"))?;
    let [room, _, id] = &parts[..] else { return Ok(None) };
    let text = if ours {
        id.deserialize::<String>().ok().filter(|id| !id.starts_with('['))
    } else {
        let [room, id] = [room, id].map(|part| part.value().ok());
        room.zip(id).and_then(|(room, id)| socketio_proto::to_json(&[room, id]).ok())
    };
    let text = text.filter(|text| text.len() <= limits.name_bytes).ok_or(Foreign::Field("callback"))?;
    Ok(Some(RequestId::from(&*text)))
}

/// One name or several; `None` where there is none. An empty list is not everybody.
fn names(fields: &Fields<'_>, field: &'static str, limits: &WireLimits) -> Result<Option<RoomNames>, Foreign> {
    let Some(given) = fields.get(field) else { return Ok(None) };
    let values = match given.value().map_err(|_| Foreign::Field(field))? {
        Value::Array(values) => values,
        value => vec![value],
    };
    let name = |value: Value| match value {
        Value::String(name) if name.len() <= limits.name_bytes => Some(RoomName::from(name)),
        Value::Int(number) => Some(number.to_string().into()),
        // `skip_sid=[None]`
        _ => None,
    };
    if values.is_empty() && field == "skip_sid" {
        return Ok(None);
    }
    if values.is_empty() || values.len() > limits.rooms {
        return Err(Foreign::Field(field));
    }
    values.into_iter().map(|value| name(value).ok_or(Foreign::Field(field))).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, SubscriptionMode};

    /// An id of a socket, and another one.
    const SID: &str = "aaaaaaaaaaaaaaaaaa_1";
    const OTHER: &str = "aaaaaaaaaaaaaaaaaa-2";

    fn words() -> Words {
        Words {
            dialect: Dialect::Python,
            prefix: "socketio".to_owned(),
            mode: SubscriptionMode::Dynamic,
            specific_responses: false,
            limits: WireLimits::default(),
            id: ServerId::from("me"),
        }
    }

    fn sent(sender: Option<&str>, message: Message, to: &Target) -> Result<Sent, BusError> {
        let envelope = Envelope { sender: sender.map(ServerId::from), namespace: "/".into(), message };
        encode(&words(), &envelope, to)
    }

    /// What is written, a line per message with its channel in front.
    fn text(sent: &Sent) -> String {
        let line = |(channel, bytes): &(String, Vec<u8>)| format!("{channel} {}", String::from_utf8_lossy(bytes));
        sent.parts.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn options(rooms: &[&str], except: &[&str]) -> BroadcastOptions {
        let selection = Selection::everybody().to(rooms.to_vec()).except(except.to_vec());
        BroadcastOptions { selection, ..BroadcastOptions::default() }
    }

    fn event(values: Vec<Value>) -> OwnedArgs {
        OwnedArgs::from_values(Some("hi"), values)
    }

    #[test]
    fn events_are_written_as_their_managers_write_them() {
        let request = || Some(RequestId::from("00ff"));
        check(
            vec![1.into(), "x".into()],
            options(&[], &[]),
            None,
            r#""data":[1,"x"],"binary":false,"namespace":"/","room":null,"skip_sid":null,"callback":null,"host_id":"me","flags":{}"#,
        );
        check(
            vec![],
            options(&["r"], &[SID]),
            None,
            r#""data":[],"binary":false,"namespace":"/","room":"r","skip_sid":"aaaaaaaaaaaaaaaaaa_1","callback":null,"host_id":"me","flags":{}"#,
        );
        check(
            vec![Value::Array(vec![Bytes::from_static(b"\x01\xff").into(), 2.into()]), Bytes::new().into()],
            options(&["r", "s"], &[SID, OTHER]),
            request(),
            r#""data":[[[{"_placeholder":true,"num":0},2],{"_placeholder":true,"num":1}],"Af8=",""],"binary":true,"namespace":"/","room":["r","s"],"skip_sid":["aaaaaaaaaaaaaaaaaa_1","aaaaaaaaaaaaaaaaaa-2"],"callback":["r","/","00ff"],"host_id":"me","flags":{}"#,
        );
        let mut flagged = options(&[], &[]);
        flagged.flags =
            BroadcastFlags { volatile: true, compress: false, timeout: Some(Duration::from_secs(2)), ..flagged.flags };
        check(
            vec![Value::Null],
            flagged,
            None,
            r#""data":[null],"binary":false,"namespace":"/","room":null,"skip_sid":null,"callback":null,"host_id":"me","flags":{"volatile":true,"compress":false,"timeout":2000}"#,
        );

        /// What is written is read as the same.
        #[track_caller]
        fn check(values: Vec<Value>, options: BroadcastOptions, request: Option<RequestId>, want: &str) {
            let message = Message::Broadcast { event: event(values.clone()), options: options.clone(), request };
            let Message::Broadcast { request, .. } = &message else { unreachable!() };
            let request = request.clone();
            let sent = sent(Some("me"), message, &Target::Everybody).expect("encodes");
            assert_eq!(text(&sent), format!(r#"socketio {{"method":"emit","event":"hi",{want}}}"#));
            assert_eq!(sent.untold, None);
            let back = decode(&Words { id: "you".into(), ..words() }, &sent.parts[0].1);
            let back = back.expect("it makes sense").expect("for others");
            assert_eq!(back.sender, Some("me".into()));
            let Message::Broadcast { event, options: got, request: asked } = back.message else { panic!("an event") };
            assert_eq!((event.values().expect("values"), got, asked), (values, options, request));
            assert!(matches!(decode(&words(), &sent.parts[0].1), Ok(None)), "our own");
        }
    }

    #[test]
    fn orders_go_to_single_sockets_and_to_ours_as_they_are() {
        let to = |rooms: &[&str], except: &[&str]| options(rooms, except).selection;
        let rooms = |names: &[&str]| names.iter().map(|name| RoomName::from(*name)).collect::<RoomNames>();
        let ours = |kind: u8, whose: &str, more: &str| {
            format!(
                r#"socketio-rust#/# {{"type":{kind},"data":{{"opts":{{"rooms":[{whose}],"except":[],"flags":{{}}}},{more}}},"uid":"me","nsp":"/"}}"#
            )
        };
        let theirs = |method: &str, more: &str| {
            format!(
                "\nsocketio {{\"method\":\"{method}\",\"namespace\":\"/\",{more},\"host_id\":\"me\",\"flags\":{{}}}}"
            )
        };
        let whose = format!("\"{SID}\"");
        check(
            Message::Join { selection: to(&[SID], &[]), rooms: rooms(&["a", "b"]) },
            ours(4, &whose, r#""rooms":["a","b"]"#)
                + &theirs("enter_room", &format!(r#""room":"a","sid":"{SID}""#))
                + &theirs("enter_room", &format!(r#""room":"b","sid":"{SID}""#)),
            true,
        );
        check(
            Message::Leave { selection: to(&[SID], &[]), rooms: rooms(&["a"]) },
            ours(5, &whose, r#""rooms":["a"]"#) + &theirs("leave_room", &format!(r#""room":"a","sid":"{SID}""#)),
            true,
        );
        check(
            Message::Disconnect { selection: to(&[SID], &[]), close: true },
            ours(6, &whose, r#""close":true"#) + &theirs("disconnect", &format!(r#""sid":"{SID}""#)),
            true,
        );
        check(
            Message::Leave { selection: to(&["a"], &[]), rooms: rooms(&["a"]) },
            ours(5, "\"a\"", r#""rooms":["a"]"#) + &theirs("close_room", r#""room":"a""#),
            true,
        );
        check(
            Message::Join { selection: to(&["a"], &[]), rooms: rooms(&["b"]) },
            ours(4, "\"a\"", r#""rooms":["b"]"#),
            false,
        );
        check(Message::Disconnect { selection: to(&[], &[]), close: false }, ours(6, "", r#""close":false"#), false);
        let message = Message::Broadcast { event: event(vec![]), options: options(&[], &["room"]), request: None };
        let left_out = sent(Some("me"), message, &Target::Everybody).expect("encodes");
        assert!(left_out.parts.iter().all(|(channel, _)| channel == "socketio-rust#/#") && left_out.untold.is_some());

        #[track_caller]
        fn check(message: Message, want: String, told: bool) {
            let sent = sent(Some("me"), message, &Target::Everybody).expect("encodes");
            assert_eq!(text(&sent), want);
            assert_eq!(sent.untold.is_none(), told);
            // Other servers of ours hear it where only ours do.
            for (channel, bytes) in &sent.parts {
                if channel == "socketio" {
                    assert!(matches!(decode(&Words { id: "you".into(), ..words() }, bytes), Ok(None)), "{want}");
                }
            }
        }
    }

    #[test]
    fn what_their_managers_write_is_understood() {
        let emit = |more: &str| format!(r#"{{"method":"emit","event":"e","namespace":"/n","host_id":"h",{more}}}"#);
        let plain = r#""binary":false,"room":null,"skip_sid":null,"callback":null"#;
        check(&emit(&format!(r#""data":[1,"x"],{plain}"#)), "e[1,\"x\"] to [] but []");
        check(&emit(&format!(r#""data":[null],{plain}"#)), "e[] to [] but []");
        check(&emit(&format!(r#""data":[[1,2]],{plain}"#)), "e[[1,2]] to [] but []");
        check(&emit(&format!(r#""data":{{"old":1}},{plain}"#)), "e[{\"old\":1}] to [] but []");
        check(&emit(r#""data":[],"room":["a",7],"skip_sid":["b"]"#), "e[] to [\"a\", \"7\"] but [\"b\"]");
        check(
            &emit(r#""data":[],"room":"a","skip_sid":"b","callback":["a","/n",3]"#),
            "e[] to [\"a\"] but [\"b\"] asks [\"a\",3]",
        );
        check(&emit(r#""data":[],"room":"a","callback":["a","/n"]"#), "e[] to [\"a\"] but []");
        check(
            &emit(
                r#""binary":true,"data":[[{"k":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}],"AA==","Af8="]"#,
            ),
            "e[{\"k\":[1,255]},[0]] to [] but []",
        );
        check(r#"{"method":"disconnect","sid":"s","namespace":"/n","host_id":"h"}"#, "disconnect [\"s\"]");
        check(r#"{"method":"enter_room","sid":"s","room":"r","namespace":"/n","host_id":"h"}"#, "join [\"s\"] [\"r\"]");
        check(r#"{"method":"leave_room","sid":"s","room":5,"namespace":"/n","host_id":"h"}"#, "leave [\"s\"] [\"5\"]");
        check(r#"{"method":"close_room","room":"r","namespace":"/n","host_id":"h"}"#, "leave [\"r\"] [\"r\"]");
        let callback = |more: &str| {
            format!(r#"{{"method":"callback","sid":"r","namespace":"/n","id":"00ff","host_id":"me","args":{more}}}"#)
        };
        check(&callback("[]"), "00ff answers null");
        check(&callback("[[1]]"), "00ff answers [1]");
        check(&callback("[1,2]"), "00ff answers [1,2]");
        for others in [
            r#"{"method":"callback","host_id":"h","sid":"r","namespace":"/n","id":1,"args":[]}"#,
            r#"{"method":"emit","host_id":"me","event":"e","data":[],"namespace":"/n"}"#,
        ] {
            assert!(matches!(decode(&words(), others.as_bytes()), Ok(None)), "{others}");
        }

        #[track_caller]
        fn check(wire: &str, want: &str) {
            let envelope = decode(&words(), wire.as_bytes()).expect(wire).expect(wire);
            assert_eq!(&*envelope.namespace, "/n");
            let got = match envelope.message {
                Message::Broadcast { event, options: BroadcastOptions { selection, .. }, request } => {
                    let args = socketio_proto::to_json(&event.values().expect("values")).expect("JSON");
                    let asks = request.map(|request| format!(" asks {}", request.as_str())).unwrap_or_default();
                    let Selection { rooms, except } = selection;
                    format!("{}{args} to {rooms:?} but {except:?}{asks}", event.name())
                }
                Message::Join { selection, rooms } => format!("join {:?} {rooms:?}", selection.rooms),
                Message::Leave { selection, rooms } => format!("leave {:?} {rooms:?}", selection.rooms),
                Message::Disconnect { selection, close: false } => format!("disconnect {:?}", selection.rooms),
                Message::ClientAnswer { request, answer, socket: None } => {
                    format!("{} answers {}", request.as_str(), socketio_proto::to_json(&answer).expect("JSON"))
                }
                other => format!("{other:?}"),
            };
            assert_eq!(got, want, "{wire}");
        }
    }

    #[test]
    fn their_questions_are_answered_in_their_words() {
        let asked = r#"{"method":"emit","event":"e","data":[],"namespace":"/","room":"a\"b","host_id":"h","callback":["a\"b","/",7]}"#;
        let envelope = decode(&words(), asked.as_bytes()).expect("it makes sense").expect("for us");
        let Message::Broadcast { request: Some(request), .. } = envelope.message else { panic!("a question") };
        let to = Target::Asker(envelope.sender);
        let answer = |answer: Vec<Value>| {
            sent(
                Some("me"),
                Message::ClientAnswer { request: request.clone(), answer: answer.into(), socket: None },
                &to,
            )
        };
        let callback = answer(vec![1.into(), Value::Null]).expect("encodes");
        assert_eq!(
            text(&callback),
            r#"socketio {"method":"callback","namespace":"/","sid":"a\"b","id":7,"args":[1,null],"host_id":"h"}"#
        );
        let count = sent(Some("me"), Message::ClientCount { request: request.clone(), clients: 3 }, &to);
        assert!(count.expect("nothing to do").parts.is_empty());
        assert!(matches!(answer(vec![Bytes::new().into()]), Err(BusError::Encode(_))));
    }

    #[test]
    fn what_makes_no_sense_is_foreign() {
        check(b"", Foreign::Malformed);
        check(b"{", Foreign::Malformed);
        check(b"[]", Foreign::Malformed);
        check(b"{}", Foreign::UnknownType);
        check(b"\xff", Foreign::Malformed);
        check(
            b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x06method\x94\x8c\x04emit\x94s.",
            Foreign::Pickled,
        );
        check(br#"{"method":"explode","namespace":"/"}"#, Foreign::UnknownType);
        check(br#"{"method":7,"namespace":"/"}"#, Foreign::UnknownType);
        check(br#"{"method":"emit","event":"e","data":[]}"#, Foreign::Field("namespace"));
        check(br#"{"method":"emit","data":[],"namespace":"/"}"#, Foreign::Field("event"));
        check(
            br#"{"method":"emit","event":"connect","data":[],"namespace":"/"}"#,
            Foreign::Event(Violation::ReservedEvent),
        );
        check(br#"{"method":"emit","event":{},"data":[],"namespace":"/"}"#, Foreign::Event(Violation::EventName));
        check(br#"{"method":"emit","event":"e","data":[],"namespace":"/","room":[]}"#, Foreign::Field("room"));
        check(br#"{"method":"emit","event":"e","data":[],"namespace":"/","room":{"a":1}}"#, Foreign::Field("room"));
        check(br#"{"method":"emit","event":"e","data":[],"namespace":"/","room":[null]}"#, Foreign::Field("room"));
        check(
            br#"{"method":"emit","event":"e","data":[],"namespace":"/","skip_sid":[[]]}"#,
            Foreign::Field("skip_sid"),
        );
        check(br#"{"method":"emit","event":"e","data":[],"binary":true,"namespace":"/"}"#, Foreign::Field("data"));
        let binary =
            |data: &str| format!(r#"{{"method":"emit","event":"e","binary":true,"data":{data},"namespace":"/"}}"#);
        let place = r#"{"_placeholder":true,"num":0}"#;
        for data in [
            format!("[[{place},{place}],\"AA==\"]"),
            format!("[[{place}]]"),
            format!("[[{place}],\"not base64\"]"),
            format!("[[{place}],7]"),
            r#"[[{"_placeholder":true,"num":-1}],"AA=="]"#.to_owned(),
            r#"[[{"_placeholder":true,"num":1e99}],"AA=="]"#.to_owned(),
        ] {
            check(binary(&data).as_bytes(), Foreign::Field("data"));
        }
        let long = "x".repeat(300);
        let callback = format!(
            r#"{{"method":"emit","event":"e","data":[],"namespace":"/","host_id":"h","callback":["{long}","/",1]}}"#
        );
        check(callback.as_bytes(), Foreign::Field("callback"));
        check(
            br#"{"method":"emit","event":"e","data":[],"namespace":"/","host_id":"h","flags":{},"callback":["","/","[]"]}"#,
            Foreign::Field("callback"),
        );
        check(br#"{"method":"enter_room","sid":"s","namespace":"/"}"#, Foreign::Field("room"));
        check(br#"{"method":"enter_room","room":"r","namespace":"/"}"#, Foreign::Field("sid"));
        check(br#"{"method":"disconnect","sid":null,"namespace":"/"}"#, Foreign::Field("sid"));
        check(br#"{"method":"close_room","namespace":"/"}"#, Foreign::Field("room"));
        check(br#"{"method":"callback","host_id":"me","id":1,"args":[],"namespace":"/"}"#, Foreign::Field("id"));
        check(br#"{"method":"callback","host_id":"me","id":"1","args":{},"namespace":"/"}"#, Foreign::Field("args"));
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        check(&deep, Foreign::Malformed);
        let small = Words {
            limits: {
                let mut limits = WireLimits::default();
                limits.message_bytes = 3;
                limits
            },
            ..words()
        };
        assert_eq!(decode(&small, b"1234").unwrap_err(), Foreign::TooLarge(4));

        #[track_caller]
        fn check(bytes: &[u8], want: Foreign) {
            assert_eq!(
                decode(&words(), bytes).unwrap_err(),
                want,
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            );
        }
    }
}
