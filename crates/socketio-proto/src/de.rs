//! What the deserializers of all parsers share: arguments from a list, keys of objects, bytes as a list.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::slice::Iter;

use serde::Deserialize;
use serde::de::value::SeqDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use crate::value::Value;
use crate::{DataError, spreads};

/// Reads a `T` from the list of arguments that `read` visits; `named` says whether the list begins with an event's name.
///
/// A tuple takes all arguments, anything else the first. Superfluous arguments are ignored; a missing one is `None` where
/// an `Option` is wanted and an error elsewhere.
pub(crate) fn arguments<'de, T, E>(
    named: bool,
    read: impl FnOnce(Arguments<'_, T>) -> Result<T, E>,
) -> Result<T, DataError>
where
    T: Deserialize<'de>,
    E: Display,
{
    let missing = Cell::new(None);
    read(Arguments { named, missing: &missing, target: PhantomData }).map_err(|error| match missing.get() {
        Some(index) => DataError::Missing { index },
        None => DataError::Invalid { message: error.to_string() },
    })
}

pub(crate) struct Arguments<'a, T> {
    named: bool,
    missing: &'a Cell<Option<usize>>,
    target: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Arguments<'_, T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        if self.named {
            seq.next_element::<IgnoredAny>()?;
        }
        let mut list = ArgumentList { seq, index: 0, missing: self.missing };
        let value = if spreads::<T>() {
            T::deserialize(AllArguments(&mut list))?
        } else {
            let first = list.next_element()?;
            first.ok_or_else(|| de::Error::custom("a missing argument"))?
        };
        // serde_json insists on having seen the end of the list.
        while list.seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(value)
    }
}

/// A list that never ends: behind the last argument come absent ones.
struct ArgumentList<'a, A> {
    seq: A,
    index: usize,
    missing: &'a Cell<Option<usize>>,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ArgumentList<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let index = self.index;
        self.index += 1;
        let mut seed = Some(seed);
        if let Some(value) = self.seq.next_element_seed(Lend(&mut seed))? {
            return Ok(Some(value));
        }
        match seed {
            Some(seed) => seed.deserialize(Absent { index, missing: self.missing, error: PhantomData }).map(Some),
            None => Ok(None),
        }
    }
}

/// Hands a seed over only when there is something to deserialize.
struct Lend<'a, S>(&'a mut Option<S>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Lend<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let seed = self.0.take().ok_or_else(|| de::Error::custom("an element was read twice"))?;
        seed.deserialize(deserializer)
    }
}

/// The whole list as the elements of a tuple.
struct AllArguments<'a, A>(&'a mut A);

impl<'de, A: SeqAccess<'de>> Deserializer<'de> for AllArguments<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_seq(self.0)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// An argument that is not there: `None` for an `Option`, an error with its place for everything else.
struct Absent<'a, E> {
    index: usize,
    missing: &'a Cell<Option<usize>>,
    error: PhantomData<E>,
}

impl<'de, E: de::Error> Deserializer<'de> for Absent<'_, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        self.missing.set(Some(self.index));
        Err(E::custom("a missing argument"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Bytes for those who ask for a list of numbers (`Vec<u8>` without `serde_bytes`).
pub(crate) fn visit_byte_list<'de, V: Visitor<'de>>(bytes: &[u8], visitor: V) -> Result<V::Value, DataError> {
    let mut list = SeqDeserializer::<_, DataError>::new(bytes.iter().copied());
    let value = visitor.visit_seq(&mut list)?;
    list.end()?;
    Ok(value)
}

/// What a visitor left behind is an error: a type that wants two elements does not fit a list of three.
pub(crate) fn used_up<T>(value: T, nothing_left: bool) -> Result<T, DataError> {
    if nothing_left { Ok(value) } else { Err(de::Error::custom("too many elements")) }
}

/// The items of a dynamic list.
pub(crate) struct Items<'de>(pub(crate) Iter<'de, Value>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DataError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        self.0.next().map(|value| seed.deserialize(value)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of a dynamic object.
pub(crate) struct Entries<'de> {
    pub(crate) entries: Iter<'de, (String, Value)>,
    pub(crate) value: Option<&'de Value>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DataError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DataError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Key::new(Cow::Borrowed(key.as_str()))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DataError> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// An enum's variant with content: `{"name": value}`.
pub(crate) struct Variant<'de, D> {
    pub(crate) name: Cow<'de, str>,
    pub(crate) value: D,
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Variant<'de, D> {
    type Error = D::Error;
    type Variant = VariantContent<D>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), D::Error> {
        Ok((seed.deserialize(Key::new(self.name))?, VariantContent(self.value)))
    }
}

pub(crate) struct VariantContent<D>(D);

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for VariantContent<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        <()>::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, D::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct("", fields, visitor)
    }
}

/// The key of an object: text on the wire, a number or a boolean when the type wants one.
pub(crate) struct Key<'de, E> {
    text: Cow<'de, str>,
    error: PhantomData<E>,
}

impl<'de, E> Key<'de, E> {
    pub(crate) fn new(text: Cow<'de, str>) -> Self {
        Self { text, error: PhantomData }
    }
}

/// What is a number to Rust and not to JSON: `+1`, `.5`, `1.`, `inf`. Neither of its ends is then a digit of JSON's.
fn is_foreign(text: &str) -> bool {
    let ends = (text.bytes().next(), text.bytes().next_back());
    !matches!(ends, (Some(b'-' | b'0'..=b'9'), Some(b'0'..=b'9'))) && !matches!(text, "true" | "false")
}

macro_rules! parsed {
    ($($method:ident: $visit:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
            match self.text.parse() {
                Ok(value) if !is_foreign(&self.text) => visitor.$visit(value),
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de, E: de::Error> Deserializer<'de> for Key<'de, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.text {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    parsed! {
        deserialize_bool: visit_bool;
        deserialize_i8: visit_i8;
        deserialize_i16: visit_i16;
        deserialize_i32: visit_i32;
        deserialize_i64: visit_i64;
        deserialize_i128: visit_i128;
        deserialize_u8: visit_u8;
        deserialize_u16: visit_u16;
        deserialize_u32: visit_u32;
        deserialize_u64: visit_u64;
        deserialize_u128: visit_u128;
        deserialize_f32: visit_f32;
        deserialize_f64: visit_f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        let text: de::value::CowStrDeserializer<'_, E> = self.text.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
