//! The classic protocol: broadcasts as MessagePack lists on channels of rooms, requests and responses on channels of
//! their own, most of them JSON. Responses do not name their sender.

use std::sync::Arc;

use serde::Serialize;
use socketio_adapter::cluster::wire::{
    self, EMITTER, Fields, Foreign, Form, OptionsOnWire, PacketOnWire, SocketOnWire,
};
use socketio_adapter::cluster::{BusError, Envelope, Inbox, Message, RequestId, ServerId, Target};
use socketio_adapter::{RoomName, Selection};

use crate::{Decoded, Words};

/// The numbers of requests and of some responses.
mod kind {
    pub(super) const SOCKETS: u8 = 0;
    pub(super) const ALL_ROOMS: u8 = 1;
    pub(super) const REMOTE_JOIN: u8 = 2;
    pub(super) const REMOTE_LEAVE: u8 = 3;
    pub(super) const REMOTE_DISCONNECT: u8 = 4;
    pub(super) const REMOTE_FETCH: u8 = 5;
    pub(super) const SERVER_SIDE_EMIT: u8 = 6;
    pub(super) const BROADCAST: u8 = 7;
    pub(super) const BROADCAST_CLIENT_COUNT: u8 = 8;
    pub(super) const BROADCAST_ACK: u8 = 9;
}

/// A request or response. Fields that are not given are not written.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Wire<'a, D: Serialize> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<OptionsOnWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<&'a [RoomName]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sockets: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<&'a str>,
}

type Plain<'a> = Wire<'a, ()>;

/// The channel of a message, and the message.
pub(crate) fn encode(words: &Words, envelope: &Envelope, to: &Target) -> Result<(String, Vec<u8>), BusError> {
    let Envelope { sender, namespace, message } = envelope;
    let uid = sender.as_ref().map_or(EMITTER, ServerId::as_str);
    let form = if message.has_binary() { Form::Msgpack } else { Form::Json };
    let request = |r#type| Plain { uid: Some(uid), r#type: Some(r#type), ..Plain::default() };
    let bytes = match message {
        Message::Broadcast { event, options, request: None } => {
            let packet = PacketOnWire { r#type: 2, data: event, nsp: namespace };
            let main = words.main_channel(namespace);
            let channel = match message.only_room() {
                Some(room) => format!("{main}{room}#"),
                None => main,
            };
            return Ok((channel, wire::write(&(uid, packet, OptionsOnWire::new(options)), Form::Msgpack)?));
        }
        Message::Broadcast { event, options, request: Some(id) } => {
            let packet = PacketOnWire { r#type: 2, data: event, nsp: namespace };
            let broadcast = Wire {
                uid: Some(uid),
                request_id: Some(id.as_str()),
                r#type: Some(kind::BROADCAST),
                packet: Some(packet),
                opts: Some(OptionsOnWire::new(options)),
                rooms: None,
                close: None,
                data: None,
                sockets: None,
                client_count: None,
                socket: None,
            };
            wire::write(&broadcast, Form::Msgpack)?
        }
        Message::Join { selection, rooms } => wire::write(&moving(request(kind::REMOTE_JOIN), selection, rooms), form)?,
        Message::Leave { selection, rooms } => {
            wire::write(&moving(request(kind::REMOTE_LEAVE), selection, rooms), form)?
        }
        Message::Disconnect { selection, close } => {
            let opts = Some(OptionsOnWire::selecting(selection));
            wire::write(&Plain { opts, close: Some(*close), ..request(kind::REMOTE_DISCONNECT) }, form)?
        }
        Message::Fetch { selection, request: id } => {
            let opts = Some(OptionsOnWire::selecting(selection));
            wire::write(&Plain { opts, request_id: Some(id.as_str()), ..request(kind::REMOTE_FETCH) }, form)?
        }
        Message::ServerEvent { event, request: id } => {
            let id = id.as_ref().map(RequestId::as_str);
            let event = Wire { data: Some(event), ..about(Some(uid), Some(kind::SERVER_SIDE_EMIT), id) };
            wire::write(&event, form)?
        }
        Message::Fetched { request: id, sockets } => {
            let sockets: Vec<_> = sockets.iter().map(SocketOnWire::new).collect();
            let response = Wire { sockets: Some(sockets), ..about(None, None, Some(id.as_str())) };
            return Ok((response_channel(words, namespace, to), wire::write(&response, form)?));
        }
        Message::SocketIds { request: id, sockets } => {
            let response = Wire { sockets: Some(sockets), ..about(None, None, Some(id.as_str())) };
            return Ok((response_channel(words, namespace, to), wire::write(&response, form)?));
        }
        Message::RoomNames { request: id, rooms } => {
            let response = Plain { rooms: Some(rooms), request_id: Some(id.as_str()), ..Plain::default() };
            return Ok((response_channel(words, namespace, to), wire::write(&response, form)?));
        }
        Message::ServerAnswer { request: id, answer } => {
            let about = about(None, Some(kind::SERVER_SIDE_EMIT), Some(id.as_str()));
            // Node sends these to everybody whatever the option says.
            return Ok((words.response_channel(namespace), wire::write(&Wire { data: Some(answer), ..about }, form)?));
        }
        Message::ClientCount { request: id, clients } => {
            let kind = Some(kind::BROADCAST_CLIENT_COUNT);
            let response = Plain { client_count: Some(*clients), ..about(None, kind, Some(id.as_str())) };
            return Ok((response_channel(words, namespace, to), wire::write(&response, form)?));
        }
        Message::ClientAnswer { request: id, answer, socket } => {
            let about = about(None, Some(kind::BROADCAST_ACK), Some(id.as_str()));
            let response = Wire { packet: Some(answer), socket: socket.as_deref(), ..about };
            return Ok((response_channel(words, namespace, to), wire::write(&response, Form::Msgpack)?));
        }
        Message::ListSockets { selection, request: id } => {
            let rooms = Some(&*selection.rooms);
            wire::write(&Plain { rooms, request_id: Some(id.as_str()), ..request(kind::SOCKETS) }, form)?
        }
        Message::ListRooms { request: id } => {
            wire::write(&Plain { request_id: Some(id.as_str()), ..request(kind::ALL_ROOMS) }, form)?
        }
        // The broker counts: nobody says hello.
        Message::Hello | Message::Heartbeat | Message::Goodbye => return Err(BusError::Closed),
    };
    Ok((words.request_channel(namespace), bytes))
}

fn about<'a, D: Serialize>(uid: Option<&'a str>, r#type: Option<u8>, request_id: Option<&'a str>) -> Wire<'a, D> {
    Wire {
        uid,
        r#type,
        request_id,
        opts: None,
        rooms: None,
        close: None,
        packet: None,
        data: None,
        sockets: None,
        client_count: None,
        socket: None,
    }
}

fn moving<'a>(request: Plain<'a>, selection: &'a Selection, rooms: &'a [RoomName]) -> Plain<'a> {
    Plain { opts: Some(OptionsOnWire::selecting(selection)), rooms: Some(rooms), ..request }
}

fn response_channel(words: &Words, namespace: &str, to: &Target) -> String {
    let shared = words.response_channel(namespace);
    match to {
        Target::Asker(Some(server)) if words.specific_responses => format!("{shared}{}#", server.as_str()),
        Target::Asker(_) | Target::Everybody => shared,
    }
}

pub(crate) fn decode(words: &Words, inbox: &dyn Inbox, namespace: &Arc<str>, channel: &[u8], bytes: &[u8]) -> Decoded {
    let channel = std::str::from_utf8(channel).map_err(|_| Foreign::Malformed)?;
    if let Some(room) = channel.strip_prefix(&words.main_channel(namespace)) {
        // Only somebody who has members of the room has to look further.
        return match room.strip_suffix('#') {
            None if !room.is_empty() => Err(Foreign::Field("channel")),
            Some(room) if !inbox.has_room(namespace, room) => Ok(None),
            _ => broadcast(words, namespace, bytes),
        };
    }
    let (sender, message) = match channel.strip_prefix(&words.response_channel(namespace)) {
        Some(_) => (None, response(words, bytes)?),
        None => request(words, bytes)?,
    };
    Ok(message.map(|message| Envelope { sender, namespace: Arc::clone(namespace), message }))
}

fn broadcast(words: &Words, namespace: &Arc<str>, bytes: &[u8]) -> Decoded {
    // Our own come back: `[id, …]`, where the id takes a header of two bytes.
    let id = words.id.as_str().as_bytes();
    if bytes.first() == Some(&0x93) && bytes.get(3..).is_some_and(|rest| rest.starts_with(id)) {
        return Ok(None);
    }
    let whole = wire::checked(bytes, &words.limits)?;
    let items = whole.items(8).map_err(|_| Foreign::Malformed)?;
    let [uid, packet, rest @ ..] = &items[..] else { return Err(Foreign::Malformed) };
    let uid: String = uid.deserialize().map_err(|_| Foreign::Field("uid"))?;
    if uid.len() > words.limits.name_bytes {
        return Err(Foreign::Field("uid"));
    }
    let fields = Fields::of(packet)?;
    let about = fields.optional_text("nsp", &words.limits)?;
    if about.as_deref().unwrap_or("/") != &**namespace {
        return Ok(None);
    }
    let event = wire::read_packet(packet, &words.limits)?;
    let options = wire::read_options(rest.first().ok_or(Foreign::Field("opts"))?, &words.limits)?;
    let sender = (uid != EMITTER).then(|| ServerId::from(&*uid));
    let message = Message::Broadcast { event, options, request: None };
    Ok(Some(Envelope { sender, namespace: Arc::clone(namespace), message }))
}

fn request(words: &Words, bytes: &[u8]) -> Result<(Option<ServerId>, Option<Message>), Foreign> {
    let limits = &words.limits;
    let whole = wire::checked(bytes, limits)?;
    let fields = Fields::of(&whole)?;
    let sender = fields.optional_text("uid", limits)?.filter(|uid| uid != EMITTER);
    let sender = sender.map(|uid| ServerId::from(&*uid));
    if sender.as_ref() == Some(&words.id) {
        return Ok((sender, None));
    }
    let r#type: u8 = fields.get("type").and_then(|kind| kind.deserialize().ok()).ok_or(Foreign::UnknownType)?;
    let options = || wire::read_options(fields.need("opts")?, limits);
    // Old servers name one socket and one room instead.
    let selection = || match fields.get("opts") {
        Some(_) => options().map(|options| options.selection),
        None => Ok(Selection::everybody().to(fields.text("sid", limits)?)),
    };
    let rooms = || match fields.get("opts") {
        Some(_) => fields.rooms("rooms", limits),
        None => Ok(std::iter::once(RoomName::from(fields.text("room", limits)?)).collect()),
    };
    let message = match r#type {
        kind::SOCKETS => Message::ListSockets {
            selection: Selection { rooms: fields.rooms("rooms", limits)?, ..Selection::default() },
            request: fields.request(limits)?,
        },
        kind::ALL_ROOMS => Message::ListRooms { request: fields.request(limits)? },
        kind::REMOTE_JOIN => Message::Join { selection: selection()?, rooms: rooms()? },
        kind::REMOTE_LEAVE => Message::Leave { selection: selection()?, rooms: rooms()? },
        kind::REMOTE_DISCONNECT => Message::Disconnect { selection: selection()?, close: fields.flag("close") },
        kind::REMOTE_FETCH => Message::Fetch { selection: options()?.selection, request: fields.request(limits)? },
        kind::SERVER_SIDE_EMIT => Message::ServerEvent {
            event: wire::read_event(fields.need("data")?, limits)?,
            request: fields.optional_request(limits)?,
        },
        kind::BROADCAST => Message::Broadcast {
            event: wire::read_packet(fields.need("packet")?, limits)?,
            options: options()?,
            request: Some(fields.request(limits)?),
        },
        _ => return Err(Foreign::UnknownType),
    };
    Ok((sender, Some(message)))
}

fn response(words: &Words, bytes: &[u8]) -> Result<Option<Message>, Foreign> {
    let limits = &words.limits;
    let whole = wire::checked(bytes, limits)?;
    let fields = Fields::of(&whole)?;
    let request = fields.request(limits)?;
    let r#type: Option<u8> = fields.get("type").and_then(|kind| kind.deserialize().ok());
    Ok(Some(match r#type {
        Some(kind::SERVER_SIDE_EMIT) => Message::ServerAnswer { request, answer: fields.value("data")? },
        Some(kind::BROADCAST_CLIENT_COUNT) => {
            let count = fields.need("clientCount")?.deserialize().map_err(|_| Foreign::Field("clientCount"))?;
            Message::ClientCount { request, clients: count }
        }
        Some(kind::BROADCAST_ACK) => Message::ClientAnswer {
            request,
            answer: fields.value("packet")?,
            socket: fields.optional_text("socket", limits)?.map(RoomName::from),
        },
        _ if fields.get("sockets").is_some() => {
            match wire::read_sockets(&fields, limits) {
                Ok(sockets) => Message::Fetched { request, sockets },
                // The ids alone: an answer to a question that we never ask.
                Err(why) => return fields.rooms("sockets", limits).map(|_| None).map_err(|_| why),
            }
        }
        // Old servers say that they have done what they were asked for, or list their rooms: nobody here has asked.
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use socketio_adapter::BroadcastOptions;
    use socketio_adapter::cluster::Health;
    use socketio_adapter::cluster::wire::WireLimits;

    use super::*;
    use crate::{Dialect, SubscriptionMode};

    fn words() -> Words {
        Words {
            dialect: Dialect::Classic,
            prefix: "socket.io".to_owned(),
            mode: SubscriptionMode::Dynamic,
            specific_responses: false,
            limits: WireLimits::default(),
            id: ServerId::from("me"),
        }
    }

    /// A server that has members of the room `r`.
    struct Here;

    impl Inbox for Here {
        fn received(&self, _: Envelope, _: Option<Arc<str>>) {}
        fn foreign(&self, _: &Foreign) {}
        fn lost(&self, _: u64) {}
        fn health(&self, _: Health) {}
        fn has_room(&self, _: &str, room: &str) -> bool {
            room == "r"
        }
    }

    fn decoded(channel: &str, bytes: &[u8]) -> Decoded {
        decode(&words(), &Here, &Arc::from("/"), channel.as_bytes(), bytes)
    }

    #[test]
    fn requests_of_node_are_understood() {
        check(r#"{"uid":"a","type":2,"opts":{"rooms":["x"],"except":[]},"rooms":["j"]}"#, "Join");
        check(r#"{"requestId":"1","type":2,"sid":"s","room":"j"}"#, "Join");
        check(r#"{"type":3,"opts":{"rooms":[],"except":["y"]},"rooms":["j"]}"#, "Leave");
        check(r#"{"type":4,"opts":{"rooms":[],"except":[]},"close":true}"#, "Disconnect");
        check(r#"{"requestId":"1","type":4,"sid":"s","close":false}"#, "Disconnect");
        check(r#"{"uid":"a","requestId":"1","type":5,"opts":{"rooms":[],"except":[]}}"#, "Fetch");
        check(r#"{"uid":"a","type":6,"data":["hi",1]}"#, "ServerEvent");
        check(r#"{"uid":"a","type":6,"requestId":"1","data":["hi"]}"#, "ServerEvent");
        check(r#"{"requestId":"1","type":0,"rooms":["x"]}"#, "ListSockets");
        check(r#"{"uid":"a","requestId":"1","type":1}"#, "ListRooms");
        check(
            r#"{"uid":"a","requestId":"1","type":7,"packet":{"type":2,"data":["q"]},"opts":{"rooms":[],"except":[],"flags":{"timeout":1000}}}"#,
            "Broadcast",
        );

        #[track_caller]
        fn check(wire: &str, want: &str) {
            let envelope = decoded("socket.io-request#/#", wire.as_bytes()).expect("it makes sense").expect("for us");
            assert!(format!("{:?}", envelope.message).starts_with(want), "{wire}: {envelope:?}");
        }
    }

    #[test]
    fn what_kills_others_is_foreign() {
        for (channel, wire) in [
            ("socket.io#/#", &b"\x81"[..]),
            ("socket.io#/#", b"\xc0"),
            ("socket.io#/#", b"\x92\xa1x\x81\xa3nsp\xa1/"),
            ("socket.io#/#", b"\x93\x01\x80\x80"),
            ("socket.io#/#r#", b"\x93\xa1a\x83\xa4type\x02\xa4data\x91\xa1e\xa3nsp\xa1/\xc0"),
            ("socket.io#/#r", b"\x90"),
            ("socket.io-request#/#", b"\xc0"),
            ("socket.io-request#/#", b"{"),
            ("socket.io-request#/#", br#"{"type":5,"requestId":"1"}"#),
            ("socket.io-request#/#", br#"{"type":7,"requestId":"1"}"#),
            ("socket.io-request#/#", br#"{"type":6,"requestId":"1"}"#),
            ("socket.io-request#/#", br#"{"type":6,"data":"x"}"#),
            ("socket.io-request#/#", br#"{"type":77}"#),
            ("socket.io-response#/#", b"\xc0"),
            ("socket.io-response#/#", br#"{"type":8,"requestId":"1","clientCount":"x"}"#),
            ("socket.io-response#/#", br#"{"requestId":"1","sockets":[{}]}"#),
            ("socket.io-response#/#", br#"{"requestId":{}}"#),
        ] {
            assert!(decoded(channel, wire).is_err(), "{channel} {wire:x?}");
        }
    }

    #[test]
    fn what_is_for_others_is_not_even_read() {
        assert_eq!(decoded("socket.io#/#nobody#", b"\xc1").map(|envelope| envelope.is_none()), Ok(true));
        let own = encode(
            &words(),
            &Envelope {
                sender: Some("me".into()),
                namespace: "/".into(),
                message: Message::Join { selection: Selection::everybody(), rooms: Default::default() },
            },
            &Target::Everybody,
        );
        let (channel, own) = own.expect("encodes");
        assert_eq!(channel, "socket.io-request#/#");
        assert!(matches!(decoded(&channel, &own), Ok(None)));
    }

    #[test]
    fn a_broadcast_is_the_list_that_node_expects() {
        let event = wire::checked(b"\x92\xa2hi\x01", &WireLimits::default()).expect("a list");
        let event = wire::read_event(&event, &WireLimits::default()).expect("an event");
        let options = BroadcastOptions { selection: Selection::everybody().to("r"), ..Default::default() };
        let message = Message::Broadcast { event, options, request: None };
        let envelope = Envelope { sender: Some("me".into()), namespace: "/".into(), message };
        let (channel, bytes) = encode(&words(), &envelope, &Target::Everybody).expect("encodes");
        assert_eq!(channel, "socket.io#/#r#");
        let want = b"\x93\xa2me\x83\xa4type\x02\xa4data\x92\xa2hi\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa1r\xa6except\x90\xa5flags\x80";
        assert_eq!(bytes, want);
        let emitter = Envelope { sender: None, ..envelope };
        let (channel, bytes) = encode(&words(), &emitter, &Target::Everybody).expect("encodes");
        let back = decoded(&channel, &bytes).expect("it makes sense").expect("for us");
        assert_eq!((back.sender, &*back.namespace), (None, "/"));
    }
}
