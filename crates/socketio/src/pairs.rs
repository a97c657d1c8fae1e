//! Names with texts, such as a query string, as the types of the application.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use socketio_proto::DataError;

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads pairs as a `T`: a struct or map by name, a tuple or list in order, anything else the first value.
///
/// Texts become numbers and booleans where those are wanted. Of several values with one name the last counts, but for
/// fields that are lists.
pub(crate) fn from_pairs<'a, T: DeserializeOwned>(pairs: impl Iterator<Item = Pair<'a>>) -> Result<T, DataError> {
    T::deserialize(Pairs(pairs.collect())).map_err(|error| DataError::Invalid { message: error.to_string() })
}

struct Pairs<'a>(Vec<Pair<'a>>);

impl<'a> Pairs<'a> {
    /// The values by name, names in the order of their first value.
    fn grouped(self) -> Vec<(Cow<'a, str>, Texts<'a>)> {
        let mut at = HashMap::<Cow<'a, str>, usize>::new();
        let mut fields: Vec<(Cow<'a, str>, Texts<'a>)> = Vec::new();
        for (name, text) in self.0 {
            match at.get(&name).and_then(|at| fields.get_mut(*at)) {
                Some((_, texts)) => texts.0.push(text),
                None => {
                    at.insert(name.clone(), fields.len());
                    fields.push((name, Texts(vec![text])));
                }
            }
        }
        fields
    }

    fn first(self) -> Texts<'a> {
        Texts(self.0.into_iter().next().map(|(_, text)| text).into_iter().collect())
    }
}

macro_rules! of_the_first {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.first().$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Pairs<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let fields = self.grouped().into_iter().map(|(name, texts)| (name.into_owned(), texts));
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter().map(|(_, text)| Texts(vec![text]))))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.first().deserialize_enum(name, variants, visitor)
    }

    of_the_first! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf
    }

    forward_to_deserialize_any! { unit_struct map struct identifier ignored_any }
}

/// The texts of one name. The last is the value where one is wanted.
struct Texts<'a>(Vec<Cow<'a, str>>);

impl Texts<'_> {
    fn text(&self) -> Result<&str, Error> {
        self.0.last().map(|text| &**text).ok_or_else(|| Error::custom("a value is missing"))
    }

    fn parse<T: std::str::FromStr>(&self, what: &str) -> Result<T, Error> {
        let text = self.text()?;
        text.parse().map_err(|_| Error::custom(format_args!("`{text}` is not {what}")))
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $what:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse($what)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Texts<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text()? {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            text => Err(Error::custom(format_args!("`{text}` is neither true nor false"))),
        }
    }

    parsed! {
        deserialize_i8 visit_i8 "a whole number in range",
        deserialize_i16 visit_i16 "a whole number in range",
        deserialize_i32 visit_i32 "a whole number in range",
        deserialize_i64 visit_i64 "a whole number in range",
        deserialize_i128 visit_i128 "a whole number in range",
        deserialize_u8 visit_u8 "a whole number in range",
        deserialize_u16 visit_u16 "a whole number in range",
        deserialize_u32 visit_u32 "a whole number in range",
        deserialize_u64 visit_u64 "a whole number in range",
        deserialize_u128 visit_u128 "a whole number in range",
        deserialize_f32 visit_f32 "a number",
        deserialize_f64 visit_f64 "a number",
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter().map(|text| Texts(vec![text]))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'a> IntoDeserializer<'_, Error> for Texts<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Query {
        name: String,
        age: Option<u8>,
        #[serde(default)]
        tag: Vec<String>,
        kind: Kind,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Cat,
        Dog,
    }

    fn read<T: DeserializeOwned>(pairs: &[(&'static str, &'static str)]) -> Result<T, DataError> {
        from_pairs(pairs.iter().map(|(name, text)| (Cow::Borrowed(*name), Cow::Borrowed(*text))))
    }

    #[test]
    fn pairs_become_structs_maps_tuples_and_values() {
        let pairs = [("name", "x"), ("name", "Ann"), ("age", "7"), ("tag", "a"), ("tag", "b"), ("kind", "dog")];
        let want = Query { name: "Ann".into(), age: Some(7), tag: vec!["a".into(), "b".into()], kind: Kind::Dog };
        assert_eq!(read::<Query>(&pairs), Ok(want));
        let want = Query { name: "".into(), age: None, tag: vec![], kind: Kind::Cat };
        assert_eq!(read::<Query>(&[("name", ""), ("kind", "cat"), ("more", "")]), Ok(want));
        assert_eq!(read::<(u64, bool)>(&[("a", "1"), ("b", "true")]), Ok((1, true)));
        assert_eq!(read::<u64>(&[("a", "1"), ("b", "2")]), Ok(1));
        assert_eq!(read::<Option<String>>(&[]), Ok(None));
        assert_eq!(read::<BTreeMap<String, i8>>(&[("a", "-1")]), Ok(BTreeMap::from([("a".to_owned(), -1)])));
        assert_eq!(read::<()>(&[("a", "1")]), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() {
        check::<u64>(&[("a", "x")], "`x` is not a whole number in range");
        check::<u8>(&[("a", "256")], "`256` is not a whole number in range");
        check::<bool>(&[("a", "yes")], "`yes` is neither true nor false");
        check::<u8>(&[], "a value is missing");
        check::<Query>(&[("name", "x")], "missing field `kind`");

        #[track_caller]
        fn check<T: DeserializeOwned + std::fmt::Debug>(pairs: &[(&'static str, &'static str)], want: &str) {
            let error = read::<T>(pairs).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
