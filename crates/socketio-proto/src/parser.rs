//! How packets become messages and back: the JSON parser, the MessagePack parser, or one from outside.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::args::event_name;
use crate::json::{self, JsonDecoder, number_text};
use crate::limits::MAX_ID;
use crate::msgpack::{self, MsgpackSink};
use crate::ser::{Sink, Values, write_ack, write_event};
use crate::value::{Value, to_value};
use crate::{
    Args, Chunk, EncodeError, Encoded, Limits, Message, Packet, PacketKind, Revision, Violation, is_reserved_event,
};

/// A parser, chosen at run time. Cheap to clone.
///
/// Both sides of a connection must use the same one. Every `encode_` method leaves `headroom` free bytes in front of each
/// message it makes. Arguments are one value: a tuple is several arguments, anything else one; bytes (anything that
/// serializes as bytes, like `bytes::Bytes`) travel as binary at any depth.
#[derive(Clone, Default)]
pub struct AnyParser {
    kind: Kind,
}

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Json,
    Msgpack,
    Custom(Arc<dyn Parser>),
}

impl AnyParser {
    /// The default parser: text with JSON, binary attachments behind it. Node: `socket.io-parser`.
    pub const fn json() -> Self {
        Self { kind: Kind::Json }
    }

    /// One MessagePack map per packet. Node: `socket.io-msgpack-parser`.
    pub const fn msgpack() -> Self {
        Self { kind: Kind::Msgpack }
    }

    /// A parser of your own.
    pub fn custom(parser: Arc<dyn Parser>) -> Self {
        Self { kind: Kind::Custom(parser) }
    }

    /// Whether this is the default parser.
    pub const fn is_json(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }

    /// Whether this is a parser of your own.
    pub const fn is_custom(&self) -> bool {
        matches!(self.kind, Kind::Custom(_))
    }

    /// A decoder for one connection.
    pub fn decoder(&self, limits: &Limits) -> Decoder {
        let kind = match &self.kind {
            Kind::Json => DecoderKind::Json(JsonDecoder::new(limits)),
            Kind::Msgpack => DecoderKind::Msgpack,
            Kind::Custom(parser) => DecoderKind::Custom(parser.decoder()),
        };
        Decoder { kind, max_event_name: limits.max_event_name }
    }

    /// Encodes an event. `extra_last_arg` is one more argument at the end: the offset of connection state recovery.
    ///
    /// # Errors
    /// [`EncodeError::ReservedEvent`] for a name that belongs to the library, [`EncodeError::Serialize`] when `data` cannot
    /// be serialized.
    pub fn encode_event<T: Serialize + ?Sized>(
        &self,
        namespace: &str,
        id: Option<u64>,
        event: &str,
        data: &T,
        extra_last_arg: Option<&str>,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        if is_reserved_event(event) {
            return Err(EncodeError::ReservedEvent(event.to_owned()));
        }
        self.encode_list(PacketKind::Event, namespace, id, headroom, EventArgs { event, data, extra_last_arg })
    }

    /// Encodes the answer to the event `id`. Of a `Result`, `Ok(v)` answers with the arguments of `v` and `Err(e)` with
    /// `{"error": {"code", "message", "details"?}}`: as it is when `e` serializes to an object with the key `error`, with
    /// the code `error` when it serializes to text, otherwise with what it serializes to as `details`.
    ///
    /// # Errors
    /// [`EncodeError::Serialize`] when `data` cannot be serialized.
    pub fn encode_ack<T: Serialize + ?Sized>(
        &self,
        namespace: &str,
        id: u64,
        data: &T,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        self.encode_list(PacketKind::Ack, namespace, Some(id), headroom, AckArgs { data })
    }

    /// Encodes a CONNECT: the server's `{"sid": …}` or the client's `auth`. [`Revision::V4`] knows no data here.
    ///
    /// # Errors
    /// [`EncodeError::Binary`] when the JSON parser meets binary data, [`EncodeError::Serialize`] when `data` cannot be
    /// serialized.
    pub fn encode_connect<T: Serialize + ?Sized>(
        &self,
        revision: Revision,
        namespace: &str,
        data: Option<&T>,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        let data = data.filter(|_| revision == Revision::V5);
        self.encode_one(PacketKind::Connect, namespace, data, headroom)
    }

    /// Encodes the refusal of a namespace: `{"message", "data"?}`, or for [`Revision::V4`] the bare data, else the bare
    /// message.
    ///
    /// # Errors
    /// As [`AnyParser::encode_connect`].
    pub fn encode_connect_error<T: Serialize + ?Sized>(
        &self,
        revision: Revision,
        namespace: &str,
        message: &str,
        data: Option<&T>,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        #[derive(Serialize)]
        struct Refusal<'a, T: ?Sized> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a T>,
        }
        match (revision, data) {
            (Revision::V5, data) => {
                self.encode_one(PacketKind::ConnectError, namespace, Some(&Refusal { message, data }), headroom)
            }
            (Revision::V4, Some(data)) => self.encode_one(PacketKind::ConnectError, namespace, Some(data), headroom),
            (Revision::V4, None) => self.encode_one(PacketKind::ConnectError, namespace, Some(message), headroom),
        }
    }

    /// Encodes a DISCONNECT.
    ///
    /// # Errors
    /// Only a parser of your own can fail here.
    pub fn encode_disconnect(&self, namespace: &str, headroom: usize) -> Result<Encoded, EncodeError> {
        self.encode_one::<()>(PacketKind::Disconnect, namespace, None, headroom)
    }

    fn encode_list(
        &self,
        kind: PacketKind,
        namespace: &str,
        id: Option<u64>,
        headroom: usize,
        args: impl WriteArgs,
    ) -> Result<Encoded, EncodeError> {
        match &self.kind {
            Kind::Json => json::encode_list(kind, namespace, id, headroom, |sink| args.write(sink)),
            Kind::Msgpack => {
                let write = |sink: &mut MsgpackSink<'_>| args.write(sink);
                msgpack::encode_packet(kind, namespace, id, headroom, Some(write))
            }
            Kind::Custom(parser) => {
                let mut values = Values::default();
                args.write(&mut values)?;
                let data = Some(Value::Array(values.0));
                encode_dyn(&**parser, &DynPacket { kind, namespace: namespace.to_owned(), id, data }, headroom)
            }
        }
    }

    fn encode_one<T: Serialize + ?Sized>(
        &self,
        kind: PacketKind,
        namespace: &str,
        data: Option<&T>,
        headroom: usize,
    ) -> Result<Encoded, EncodeError> {
        match &self.kind {
            Kind::Json => json::encode_one(kind, namespace, data, headroom),
            Kind::Msgpack => {
                let write = data.map(|data| |sink: &mut MsgpackSink<'_>| sink.push(data));
                msgpack::encode_packet(kind, namespace, None, headroom, write)
            }
            Kind::Custom(parser) => {
                let data = data.map(to_value).transpose()?;
                encode_dyn(&**parser, &DynPacket { kind, namespace: namespace.to_owned(), id: None, data }, headroom)
            }
        }
    }
}

impl fmt::Debug for AnyParser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            Kind::Json => "AnyParser(json)",
            Kind::Msgpack => "AnyParser(msgpack)",
            Kind::Custom(_) => "AnyParser(custom)",
        })
    }
}

/// Writes arguments to any sink; a closure cannot be generic.
trait WriteArgs {
    fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError>;
}

struct EventArgs<'a, T: ?Sized> {
    event: &'a str,
    data: &'a T,
    extra_last_arg: Option<&'a str>,
}

impl<T: Serialize + ?Sized> WriteArgs for EventArgs<'_, T> {
    fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_event(sink, self.event, self.data, self.extra_last_arg)
    }
}

struct AckArgs<'a, T: ?Sized> {
    data: &'a T,
}

impl<T: Serialize + ?Sized> WriteArgs for AckArgs<'_, T> {
    fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_ack(sink, self.data)
    }
}

/// Turns the messages of one connection into packets.
#[derive(Debug)]
pub struct Decoder {
    kind: DecoderKind,
    max_event_name: usize,
}

#[derive(Debug)]
enum DecoderKind {
    Json(JsonDecoder),
    Msgpack,
    Custom(Box<dyn DynDecoder>),
}

impl Decoder {
    /// Takes the next message. `None` means that attachments of the packet are still to come.
    ///
    /// # Errors
    /// A [`Violation`], after which the connection is over and the decoder not to be used again.
    pub fn decode<'a>(&mut self, message: Message<'a>) -> Result<Option<Packet<'a>>, Violation> {
        match &mut self.kind {
            DecoderKind::Json(decoder) => decoder.decode(message),
            DecoderKind::Msgpack => msgpack::decode(message, self.max_event_name).map(Some),
            DecoderKind::Custom(decoder) => {
                let packet = decoder.add(message)?;
                packet.map(|packet| packet.into_packet(self.max_event_name)).transpose()
            }
        }
    }

    /// Whether a packet is incomplete. Tell it [`Connection::reconstructing`](crate::Connection::reconstructing) after
    /// each message, so that the packet has a deadline.
    pub fn is_reconstructing(&self) -> bool {
        match &self.kind {
            DecoderKind::Json(decoder) => decoder.is_reconstructing(),
            DecoderKind::Msgpack => false,
            DecoderKind::Custom(decoder) => decoder.is_reconstructing(),
        }
    }
}

/// A parser from outside this crate: one encoding of packets as messages.
pub trait Parser: Send + Sync + 'static {
    /// Encodes a packet into one or more messages.
    ///
    /// # Errors
    /// What keeps the packet from being encoded, usually [`EncodeError::Serialize`].
    fn encode(&self, packet: &DynPacket) -> Result<Vec<DynChunk>, EncodeError>;

    /// Makes a decoder for one connection.
    fn decoder(&self) -> Box<dyn DynDecoder>;
}

/// The decoding half of a [`Parser`], one per connection.
pub trait DynDecoder: Send + fmt::Debug {
    /// Takes the next message of the peer and returns the packet that it completes.
    ///
    /// The caller checks the packet: data that suits its kind, names of events, ids. What remains for the implementation is
    /// not to panic, to bound what it keeps, and not to recurse without a limit: the messages come from the network.
    ///
    /// # Errors
    /// [`Violation::Custom`], or another one that fits; the connection is closed.
    fn add(&mut self, message: Message<'_>) -> Result<Option<DynPacket>, Violation>;

    /// Whether a packet is incomplete. A parser with one message per packet keeps the default, `false`.
    fn is_reconstructing(&self) -> bool {
        false
    }
}

/// A message of a [`Parser`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DynChunk {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// A packet in its dynamic form.
#[derive(Debug, Clone, PartialEq)]
pub struct DynPacket {
    /// What kind of packet it is; [`PacketKind::number`] is JavaScript's `type`.
    pub kind: PacketKind,
    /// The namespace. JavaScript: `nsp`.
    pub namespace: String,
    /// The ack id of an event or answer.
    pub id: Option<u64>,
    /// The payload. For an event the list of its name and arguments, for an answer the list of its arguments.
    pub data: Option<Value>,
}

impl DynPacket {
    /// Checks the packet as the built-in parsers do.
    fn into_packet(self, max_event_name: usize) -> Result<Packet<'static>, Violation> {
        let Self { kind, namespace, id, data } = self;
        if id.is_some_and(|id| id > MAX_ID) {
            return Err(Violation::AckId);
        }
        let namespace = namespace.into();
        match (kind, data.filter(|data| !data.is_null())) {
            (PacketKind::Connect, None) => Ok(Packet::Connect { namespace, data: None }),
            (PacketKind::Connect, Some(data @ Value::Map(_))) => {
                Ok(Packet::Connect { namespace, data: Some(data.into()) })
            }
            (PacketKind::ConnectError, None) => Ok(Packet::ConnectError { namespace, data: None }),
            (PacketKind::ConnectError, Some(data @ (Value::Map(_) | Value::String(_)))) => {
                Ok(Packet::ConnectError { namespace, data: Some(data.into()) })
            }
            (PacketKind::Disconnect, None) => Ok(Packet::Disconnect { namespace }),
            (PacketKind::Event, Some(Value::Array(list))) => {
                let name = match list.first() {
                    Some(Value::String(name)) => name.clone(),
                    Some(Value::Int(number)) => number.to_string(),
                    Some(Value::UInt(number)) => number.to_string(),
                    Some(Value::Float(number)) if number.is_finite() => number_text(*number),
                    Some(_) => return Err(Violation::EventName),
                    None => return Err(Violation::Payload),
                };
                let name = event_name(name.into(), max_event_name)?.into_owned();
                Ok(Packet::Event { namespace, id, args: Args::from_list(Some(name), list) })
            }
            (PacketKind::Ack, Some(Value::Array(list))) => {
                Ok(Packet::Ack { namespace, id, args: Args::from_list(None, list) })
            }
            _ => Err(Violation::Payload),
        }
    }
}

fn encode_dyn(parser: &dyn Parser, packet: &DynPacket, headroom: usize) -> Result<Encoded, EncodeError> {
    let chunks = parser.encode(packet)?;
    let copied = chunks.into_iter().map(|chunk| match chunk {
        DynChunk::Text(text) => Chunk::copied(text.as_bytes(), headroom, false),
        DynChunk::Binary(data) => Chunk::copied(&data, headroom, true),
    });
    Ok(copied.collect())
}
