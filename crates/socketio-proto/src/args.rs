//! Arguments that stay encoded until somebody says which type they want.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::attached::{Attached, find_placeholders};
use crate::msgpack::MsgpackReader;
use crate::read::{JsonReader, Long};
use crate::ser::{Values, write_ack, write_event};
use crate::value::Value;
use crate::{DataError, EncodeError, Violation, de};

/// The arguments of an event or an answer, checked but not decoded.
///
/// They borrow from the message; [`Args::to_owned`] makes a copy that may travel to another task.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    name: Option<Name<'a>>,
    len: usize,
    repr: Repr<'a>,
}

/// Arguments that own their data. [`Args::borrow`] leads back.
pub type OwnedArgs = Args<'static>;

/// A single value that is not decoded yet: the client's `auth`, the reason of a refusal.
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    repr: Repr<'a>,
}

pub(crate) type Name<'a> = Cow<'a, str>;

/// The encoded form. For an event it is the whole list, the name in front.
#[derive(Debug, Clone)]
pub(crate) enum Repr<'a> {
    Json { text: Cow<'a, str>, long: Long, attached: Option<Arc<Attached>> },
    Msgpack(Cow<'a, [u8]>),
    Values(Cow<'a, [Value]>),
}

impl<'a> Args<'a> {
    pub(crate) fn new(name: Option<Name<'a>>, len: usize, repr: Repr<'a>) -> Self {
        Self { name, len, repr }
    }

    pub(crate) fn repr(&self) -> &Repr<'a> {
        &self.repr
    }

    /// Whether a name stands in front: an event, not an answer.
    pub(crate) fn is_event(&self) -> bool {
        self.name.is_some()
    }

    /// Gives the arguments the attachments that their placeholders point to.
    pub(crate) fn attach(&mut self, bytes: SmallVec<[Bytes; 1]>) -> Result<(), Violation> {
        if let Repr::Json { text, attached, .. } = &mut self.repr {
            let placeholders = find_placeholders(text, bytes.len())?;
            *attached = Some(Arc::new(Attached { bytes, placeholders }));
        }
        Ok(())
    }

    /// The name of the event; empty for an answer.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// How many arguments there are. The event's name is not one of them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the arguments as a `T`: a tuple takes all of them, anything else the first.
    ///
    /// Superfluous arguments are ignored. A missing one is `None` where an `Option` is wanted.
    ///
    /// # Errors
    /// [`DataError::Missing`] when there are too few arguments, [`DataError::Invalid`] when one is of another type.
    pub fn deserialize<'s, T: Deserialize<'s>>(&'s self) -> Result<T, DataError> {
        let named = self.name.is_some();
        match &self.repr {
            Repr::Json { text, long, attached } => {
                let read = |visitor: de::Arguments<'_, T>| {
                    JsonReader::new(text, *long, attached.as_deref()).deserialize_seq(visitor)
                };
                match de::arguments(named, read) {
                    // Once more for the sake of the message, which then has line and column.
                    Err(DataError::Invalid { .. }) if attached.is_none() => {
                        let mut reader = serde_json::Deserializer::from_slice(checked_again(text));
                        de::arguments(named, |visitor| reader.deserialize_seq(visitor))
                    }
                    read => read,
                }
            }
            Repr::Msgpack(data) => de::arguments(named, |visitor| MsgpackReader::new(data).deserialize_seq(visitor)),
            Repr::Values(values) => {
                de::arguments(named, |visitor| serde::de::Visitor::visit_seq(visitor, de::Items(values.iter())))
            }
        }
    }

    /// All arguments as dynamic values, without the event's name.
    ///
    /// # Errors
    /// [`DataError::Invalid`] when there are more than [`MAX_VALUE_NODES`](crate::MAX_VALUE_NODES) values or a string
    /// has no Rust form.
    pub fn values(&self) -> Result<Vec<Value>, DataError> {
        let whole = match &self.repr {
            Repr::Json { text, long, attached } => {
                read(Value::deserialize(&mut JsonReader::new(text, *long, attached.as_deref())))
            }
            Repr::Msgpack(data) => read(Value::deserialize(&mut MsgpackReader::new(data))),
            Repr::Values(values) => Ok(Value::Array(values.to_vec())),
        }?;
        match whole {
            Value::Array(mut values) => {
                if self.name.is_some() && !values.is_empty() {
                    values.remove(0);
                }
                Ok(values)
            }
            _ => Err(DataError::Invalid { message: "expected a list of arguments".to_owned() }),
        }
    }

    /// The JSON text of the whole list, the event's name in front, if it arrived as JSON without attachments.
    pub fn as_json(&self) -> Option<&str> {
        match &self.repr {
            Repr::Json { text, attached: None, .. } => Some(text),
            _ => None,
        }
    }

    /// How many bytes the encoded arguments take, attachments included. For queues that count bytes.
    pub fn encoded_len(&self) -> usize {
        match &self.repr {
            Repr::Json { text, attached, .. } => {
                text.len() + attached.iter().flat_map(|attached| &attached.bytes).map(Bytes::len).sum::<usize>()
            }
            Repr::Msgpack(data) => data.len(),
            Repr::Values(values) => values.len() * size_of::<Value>(),
        }
    }

    /// A copy that owns its data. Attachments are shared, not copied.
    #[allow(clippy::should_implement_trait)]
    pub fn to_owned(&self) -> OwnedArgs {
        self.clone().into_owned()
    }

    /// The same arguments, owning their data.
    pub fn into_owned(self) -> OwnedArgs {
        let name = self.name.map(|name| Cow::Owned(name.into_owned()));
        Args { name, len: self.len, repr: self.repr.into_owned() }
    }

    /// The same arguments, borrowed from these.
    #[allow(clippy::should_implement_trait)]
    pub fn borrow(&self) -> Args<'_> {
        Args { name: self.name.as_deref().map(Cow::Borrowed), len: self.len, repr: self.repr.borrow() }
    }
}

impl OwnedArgs {
    /// Makes the arguments of an event from a value of your own, as if they had been received: for events that come from
    /// elsewhere than a connection, and for tests.
    ///
    /// # Errors
    /// [`EncodeError::Serialize`] when `value` cannot be serialized.
    pub fn event<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Self, EncodeError> {
        let mut sink = Values::default();
        write_event(&mut sink, name, value, None)?;
        Ok(Self::from_list(Some(name.to_owned()), sink.0))
    }

    /// Makes the arguments of an answer; see [`Args::event`].
    ///
    /// # Errors
    /// [`EncodeError::Serialize`] when `value` cannot be serialized.
    pub fn ack<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut sink = Values::default();
        write_ack(&mut sink, value)?;
        Ok(Self::from_list(None, sink.0))
    }

    /// Makes the arguments of an event (with a name) or an answer from dynamic values.
    pub fn from_values(name: Option<&str>, values: Vec<Value>) -> Self {
        let mut list = Vec::with_capacity(values.len() + 1);
        list.extend(name.map(Value::from));
        list.extend(values);
        Self::from_list(name.map(str::to_owned), list)
    }

    /// `list` begins with the name when there is one.
    pub(crate) fn from_list(name: Option<String>, list: Vec<Value>) -> Self {
        let len = list.len() - usize::from(name.is_some());
        Args { name: name.map(Cow::Owned), len, repr: Repr::Values(Cow::Owned(list)) }
    }
}

impl<'a> Payload<'a> {
    pub(crate) fn new(repr: Repr<'a>) -> Self {
        Self { repr }
    }

    pub(crate) fn repr(&self) -> &Repr<'a> {
        &self.repr
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// [`DataError::Invalid`] when it is of another type.
    pub fn deserialize<'s, T: Deserialize<'s>>(&'s self) -> Result<T, DataError> {
        match &self.repr {
            Repr::Json { text, attached: None, .. } => read(serde_json::from_slice(checked_again(text))),
            Repr::Json { text, long, attached } => {
                read(T::deserialize(&mut JsonReader::new(text, *long, attached.as_deref())))
            }
            Repr::Msgpack(data) => read(T::deserialize(&mut MsgpackReader::new(data))),
            Repr::Values(values) => T::deserialize(values.first().unwrap_or(&Value::Null)),
        }
    }

    /// The value without a type.
    ///
    /// # Errors
    /// As [`Args::values`].
    pub fn value(&self) -> Result<Value, DataError> {
        self.deserialize()
    }

    /// The same value, owning its data.
    pub fn into_owned(self) -> Payload<'static> {
        Payload { repr: self.repr.into_owned() }
    }
}

impl From<Value> for Payload<'static> {
    fn from(value: Value) -> Self {
        Self::new(Repr::Values(Cow::Owned(vec![value])))
    }
}

impl Repr<'_> {
    fn into_owned(self) -> Repr<'static> {
        match self {
            Self::Json { text, long, attached } => Repr::Json { text: Cow::Owned(text.into_owned()), long, attached },
            Self::Msgpack(data) => Repr::Msgpack(Cow::Owned(data.into_owned())),
            Self::Values(values) => Repr::Values(Cow::Owned(values.into_owned())),
        }
    }

    fn borrow(&self) -> Repr<'_> {
        match self {
            Self::Json { text, long, attached } => {
                Repr::Json { text: Cow::Borrowed(text), long: *long, attached: attached.clone() }
            }
            Self::Msgpack(data) => Repr::Msgpack(Cow::Borrowed(data)),
            Self::Values(values) => Repr::Values(Cow::Borrowed(values)),
        }
    }
}

/// serde_json is given bytes: of text it believes that it begins with whole characters wherever it looks, and looks into the
/// middle of one where a type wants a truth value as the key of an object.
fn checked_again(text: &str) -> &[u8] {
    text.as_bytes()
}

fn read<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, DataError> {
    result.map_err(|error| DataError::Invalid { message: error.to_string() })
}

/// Whether an event of this name belongs to the library: it may be neither sent nor received.
pub fn is_reserved_event(name: &str) -> bool {
    matches!(name, "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener")
}

/// Checks the name of a received event.
pub(crate) fn event_name(name: Name<'_>, max: usize) -> Result<Name<'_>, Violation> {
    if name.len() > max {
        Err(Violation::EventName)
    } else if is_reserved_event(&name) {
        Err(Violation::ReservedEvent)
    } else {
        Ok(name)
    }
}
