//! How one `Serialize` value becomes the arguments of a packet, whatever the parser.
//!
//! A tuple at the top spreads into several arguments; everything else is one. The answer to an event may be a `Result`,
//! whose `Err` becomes the standard error shape.

use std::any::type_name;
use std::cell::Cell;

use serde::Serialize;
use serde::ser::{Impossible, SerializeTuple, SerializeTupleStruct, Serializer};

use crate::EncodeError;
use crate::value::{Map, Value, to_value};

/// Whether values of this type are several arguments rather than one: tuples, `()` and references to them.
///
/// serde shows `[T; N]` as a tuple too, so the question is put to the type's name, which begins with `(` for tuples only.
pub fn spreads<T: ?Sized>() -> bool {
    let name = without_references(type_name::<T>());
    name.starts_with('(') && !name.starts_with("(dyn ")
}

/// Values that spread into several arguments, like a tuple whose length is known only at run time.
///
/// ```
/// # use socketio_proto::{AnyParser, Spread, Value};
/// let arguments = vec![Value::from(1), Value::from("two")];
/// let packet = AnyParser::json().encode_event("/", None, "hi", &Spread(&arguments), None, 0).unwrap();
/// assert_eq!(packet[0].data(), br#"2["hi",1,"two"]"#);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a, T = Value>(pub &'a [T]);

impl<T: Serialize> Serialize for Spread<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple_struct(SPREAD, self.0.len())?;
        for value in self.0 {
            tuple.serialize_field(value)?;
        }
        tuple.end()
    }
}

/// Where arguments go: `begin` once with their number, then `push` for each.
pub(crate) trait Sink {
    fn begin(&mut self, count: usize) -> Result<(), EncodeError>;
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError>;
}

/// Writes the arguments of an event: its name, the spread `value`, and `extra` at the end.
pub(crate) fn write_event<S: Sink, T: Serialize + ?Sized>(
    sink: &mut S,
    event: &str,
    value: &T,
    extra: Option<&str>,
) -> Result<(), EncodeError> {
    let around = Around { first: Some(event), extra };
    if spreads::<T>() || without_references(type_name::<T>()).starts_with(concat!(module_path!(), "::Spread<")) {
        around.probe(sink, value, false)
    } else {
        around.one(sink, value)
    }
}

/// Writes the arguments of an answer. `Ok(v)` is the arguments of `v`, `Err(e)` the error shape of `e`.
pub(crate) fn write_ack<S: Sink, T: Serialize + ?Sized>(sink: &mut S, value: &T) -> Result<(), EncodeError> {
    Around { first: None, extra: None }.probe(sink, value, true)
}

/// The arguments of an event or answer as dynamic values, the event's name among them.
#[derive(Default)]
pub(crate) struct Values(pub(crate) Vec<Value>);

impl Sink for Values {
    fn begin(&mut self, count: usize) -> Result<(), EncodeError> {
        self.0.reserve(count);
        Ok(())
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.0.push(to_value(value)?);
        Ok(())
    }
}

const SPREAD: &str = "$socketio_proto::Spread";

fn without_references(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix('&') {
        name = rest.strip_prefix("mut ").unwrap_or(rest);
    }
    name
}

/// What stands before and behind the caller's arguments.
#[derive(Clone, Copy)]
struct Around<'a> {
    first: Option<&'a str>,
    extra: Option<&'a str>,
}

impl Around<'_> {
    fn begin<S: Sink>(&self, sink: &mut S, count: usize) -> Result<(), EncodeError> {
        sink.begin(count + usize::from(self.first.is_some()) + usize::from(self.extra.is_some()))?;
        self.first.map_or(Ok(()), |first| sink.push(first))
    }

    fn end<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        self.extra.map_or(Ok(()), |extra| sink.push(extra))
    }

    fn one<S: Sink, T: Serialize + ?Sized>(&self, sink: &mut S, value: &T) -> Result<(), EncodeError> {
        self.begin(sink, 1)?;
        sink.push(value)?;
        self.end(sink)
    }

    /// Looks at how `value` begins to serialize itself; what is neither a tuple nor a result starts over as one argument.
    fn probe<S: Sink, T: Serialize + ?Sized>(self, sink: &mut S, value: &T, reply: bool) -> Result<(), EncodeError> {
        let plain = Cell::new(false);
        let probe = Probe { sink, around: self, spread: spreads::<T>(), reply, plain: &plain };
        match value.serialize(probe) {
            Ok(()) => Ok(()),
            Err(_) if plain.get() => self.one(sink, value),
            Err(error) => Err(error),
        }
    }
}

struct Probe<'a, S> {
    sink: &'a mut S,
    around: Around<'a>,
    spread: bool,
    reply: bool,
    plain: &'a Cell<bool>,
}

impl<'a, S: Sink> Probe<'a, S> {
    fn plain<R>(self) -> Result<R, EncodeError> {
        self.plain.set(true);
        Err(EncodeError::Serialize(String::new()))
    }

    fn spread(self, len: usize) -> Result<SpreadTuple<'a, S>, EncodeError> {
        self.around.begin(self.sink, len)?;
        Ok(SpreadTuple { sink: self.sink, around: self.around })
    }
}

struct SpreadTuple<'a, S> {
    sink: &'a mut S,
    around: Around<'a>,
}

impl<S: Sink> SerializeTuple for SpreadTuple<'_, S> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.sink.push(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.around.end(self.sink)
    }
}

impl<S: Sink> SerializeTupleStruct for SpreadTuple<'_, S> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.sink.push(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.around.end(self.sink)
    }
}

macro_rules! plain {
    ($($method:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $($arg: $type),*) -> Result<$result, EncodeError> {
            $(let _ = $arg;)*
            self.plain()
        })*
    };
}

impl<'a, S: Sink> Serializer for Probe<'a, S> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Impossible<(), EncodeError>;
    type SerializeTuple = SpreadTuple<'a, S>;
    type SerializeTupleStruct = SpreadTuple<'a, S>;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    fn serialize_unit(self) -> Result<(), EncodeError> {
        if !self.spread {
            return self.plain();
        }
        self.around.begin(self.sink, 0)?;
        self.around.end(self.sink)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, EncodeError> {
        if self.spread { self.spread(len) } else { self.plain() }
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTuple, EncodeError> {
        if name == SPREAD { self.spread(len) } else { self.plain() }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        match (self.reply, name, index, variant) {
            (true, "Result", 0, "Ok") => self.around.probe(self.sink, value, false),
            (true, "Result", 1, "Err") => self.around.one(self.sink, &error_shape(to_value(value)?)),
            _ => self.plain(),
        }
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), EncodeError> {
        self.plain()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), EncodeError> {
        self.plain()
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> Result<(), EncodeError> {
        self.plain()
    }

    // Some types choose their form by this; the probe must see the form that is written later, and all parsers write the
    // readable one.
    fn is_human_readable(&self) -> bool {
        true
    }

    plain! {
        serialize_bool(v: bool) -> ();
        serialize_i8(v: i8) -> ();
        serialize_i16(v: i16) -> ();
        serialize_i32(v: i32) -> ();
        serialize_i64(v: i64) -> ();
        serialize_i128(v: i128) -> ();
        serialize_u8(v: u8) -> ();
        serialize_u16(v: u16) -> ();
        serialize_u32(v: u32) -> ();
        serialize_u64(v: u64) -> ();
        serialize_u128(v: u128) -> ();
        serialize_f32(v: f32) -> ();
        serialize_f64(v: f64) -> ();
        serialize_char(v: char) -> ();
        serialize_str(v: &str) -> ();
        serialize_bytes(v: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(len: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeStructVariant;
    }
}

/// The shape in which every error reaches the other side: `{"error": {"code", "message", "details"?}}`.
fn error_shape(error: Value) -> Value {
    let (message, details) = match error {
        Value::Map(map) if map.get("error").is_some() => return Value::Map(map),
        Value::String(message) => (message, None),
        Value::Null => ("error".to_owned(), None),
        other => ("error".to_owned(), Some(other)),
    };
    let mut inner = Map::new();
    inner.push("code", "error");
    inner.push("message", message);
    if let Some(details) = details {
        inner.push("details", details);
    }
    let mut outer = Map::new();
    outer.push("error", inner);
    Value::Map(outer)
}
