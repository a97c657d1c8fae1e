//! From Rust's values to JSON text, with bytes as attachments.
//!
//! The same text as serde_json's compact form, which the tests hold it to; faster, because a string is looked through in
//! words and copied in pieces, and nothing is asked of a formatter in between.

use std::fmt::{self, Display, Write};

use serde::Serialize;
use serde::ser::{
    Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::scan::plain_len;
use crate::{Chunk, EncodeError, scratch};

/// Writes JSON to the end of `out`; bytes go to `attachments` and leave a placeholder behind.
pub(crate) struct JsonWriter<'a> {
    pub(crate) out: &'a mut scratch::Buffer,
    pub(crate) attachments: &'a mut Vec<Chunk>,
    /// The free space in front of each attachment.
    pub(crate) headroom: usize,
}

type Written = Result<(), EncodeError>;

impl JsonWriter<'_> {
    #[inline]
    fn push(&mut self, text: &str) -> Written {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    #[inline]
    fn string(&mut self, text: &str) -> Written {
        // The quotes, and the punctuation around.
        self.out.expect(text.len() + 16);
        self.out.push(b'"');
        escape(self.out, text);
        self.out.push(b'"');
        Ok(())
    }

    fn integer(&mut self, value: impl itoa::Integer) -> Written {
        self.push(itoa::Buffer::new().format(value))
    }

    /// A finite number as serde_json prints it, `null` for any other.
    fn float(&mut self, value: impl Serialize) -> Written {
        serde_json::to_writer(&mut **self.out, &value).map_err(|error| EncodeError::Serialize(error.to_string()))
    }

    fn bytes(&mut self, data: &[u8]) -> Written {
        self.push("{\"_placeholder\":true,\"num\":")?;
        self.integer(self.attachments.len())?;
        self.out.push(b'}');
        self.attachments.push(Chunk::copied(data, self.headroom, true));
        Ok(())
    }

    /// `{"variant":`, to be closed by one brace more.
    fn variant(&mut self, variant: &str) -> Written {
        self.out.push(b'{');
        self.string(variant)?;
        self.out.push(b':');
        Ok(())
    }

    /// Text in pieces, whoever formats it.
    fn display(&mut self, value: &(impl Display + ?Sized)) -> Written {
        struct Pieces<'a>(&'a mut Vec<u8>);

        impl Write for Pieces<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                escape(self.0, text);
                Ok(())
            }
        }

        self.out.push(b'"');
        write!(Pieces(self.out), "{value}").map_err(|error| EncodeError::Serialize(error.to_string()))?;
        self.out.push(b'"');
        Ok(())
    }
}

/// Appends the inside of a string literal.
#[inline]
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let plain = plain_len(bytes);
    if plain == bytes.len() {
        out.extend_from_slice(bytes);
    } else {
        escape_pieces(out, bytes, plain);
    }
}

#[inline(never)]
fn escape_pieces(out: &mut Vec<u8>, mut rest: &[u8], mut plain: usize) {
    while let Some((piece, more)) = rest.split_at_checked(plain) {
        out.extend_from_slice(piece);
        let Some((&special, more)) = more.split_first() else { return };
        let short = match special {
            b'"' | b'\\' => special,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            _ => 0,
        };
        if short == 0 {
            let low = match special & 15 {
                digit @ 0..=9 => b'0' + digit,
                letter => b'a' - 10 + letter,
            };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (special >> 4), low]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
        rest = more;
        plain = plain_len(rest);
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method(self, value: $type) -> Written {
            self.integer(value)
        })*
    };
}

impl<'w, 'a> Serializer for &'w mut JsonWriter<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Members<'w, 'a>;
    type SerializeTuple = Members<'w, 'a>;
    type SerializeTupleStruct = Members<'w, 'a>;
    type SerializeTupleVariant = Members<'w, 'a>;
    type SerializeMap = Members<'w, 'a>;
    type SerializeStruct = Members<'w, 'a>;
    type SerializeStructVariant = Members<'w, 'a>;

    integers! {
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_i128: i128;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_u128: u128;
    }

    fn serialize_bool(self, value: bool) -> Written {
        self.push(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, value: f32) -> Written {
        self.float(value)
    }

    fn serialize_f64(self, value: f64) -> Written {
        self.float(value)
    }

    fn serialize_char(self, value: char) -> Written {
        self.string(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Written {
        self.string(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.bytes(value)
    }

    fn serialize_none(self) -> Written {
        self.push("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.push("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.push("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.string(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'w, 'a>, EncodeError> {
        Ok(Members::new(self, Form::List))
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'w, 'a>, EncodeError> {
        Ok(Members::new(self, Form::List))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'w, 'a>, EncodeError> {
        Ok(Members::new(self, Form::List))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w, 'a>, EncodeError> {
        self.variant(variant)?;
        Ok(Members::new(self, Form::ListOfVariant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'w, 'a>, EncodeError> {
        Ok(Members::new(self, Form::Object))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'w, 'a>, EncodeError> {
        let form = if TEXT_OF_SERDE_JSON.contains(&name) { Form::Text } else { Form::Object };
        Ok(Members::new(self, form))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'w, 'a>, EncodeError> {
        self.variant(variant)?;
        Ok(Members::new(self, Form::ObjectOfVariant))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Written {
        self.display(value)
    }
}

/// serde_json's own types that bring their JSON text along: a struct of this name with the text as its only field.
const TEXT_OF_SERDE_JSON: [&str; 2] = ["$serde_json::private::RawValue", "$serde_json::private::Number"];

/// What is being written, and with that how it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    List,
    ListOfVariant,
    Object,
    ObjectOfVariant,
    /// The text of a value of serde_json.
    Text,
}

/// The rest of a list or an object.
pub(crate) struct Members<'w, 'a> {
    writer: &'w mut JsonWriter<'a>,
    form: Form,
    is_first: bool,
}

impl<'w, 'a> Members<'w, 'a> {
    fn new(writer: &'w mut JsonWriter<'a>, form: Form) -> Self {
        match form {
            Form::List | Form::ListOfVariant => writer.out.push(b'['),
            Form::Object | Form::ObjectOfVariant => writer.out.push(b'{'),
            Form::Text => {}
        }
        Self { writer, form, is_first: true }
    }

    #[inline]
    fn comma(&mut self) {
        if !self.is_first {
            self.writer.out.push(b',');
        }
        self.is_first = false;
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.comma();
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Written {
        if self.form == Form::Text {
            return match serde_json::to_value(value) {
                Ok(serde_json::Value::String(text)) => self.writer.push(&text),
                _ => Err(EncodeError::Serialize("this is not the text of a value".to_owned())),
            };
        }
        self.comma();
        self.writer.string(key)?;
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    fn close(self) -> Written {
        match self.form {
            Form::List => self.writer.out.push(b']'),
            Form::Object => self.writer.out.push(b'}'),
            Form::ListOfVariant => self.writer.out.extend_from_slice(b"]}"),
            Form::ObjectOfVariant => self.writer.out.extend_from_slice(b"}}"),
            Form::Text => {}
        }
        Ok(())
    }
}

impl SerializeMap for Members<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.comma();
        key.serialize(KeyWriter(self.writer))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Written {
        self.close()
    }
}

macro_rules! members {
    ($($trait:ident: $method:ident($($key:ident)?) as $as:ident;)*) => {
        $(impl $trait for Members<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Written {
                self.$as($($key,)? value)
            }

            fn end(self) -> Written {
                self.close()
            }
        })*
    };
}

members! {
    SerializeSeq: serialize_element() as element;
    SerializeTuple: serialize_element() as element;
    SerializeTupleStruct: serialize_field() as element;
    SerializeTupleVariant: serialize_field() as element;
    SerializeStruct: serialize_field(key) as field;
    SerializeStructVariant: serialize_field(key) as field;
}

/// The key of an object, which is text whatever it was.
struct KeyWriter<'w, 'a>(&'w mut JsonWriter<'a>);

impl KeyWriter<'_, '_> {
    fn quoted(self, write: impl FnOnce(&mut JsonWriter<'_>) -> Written) -> Written {
        self.0.out.push(b'"');
        write(self.0)?;
        self.0.out.push(b'"');
        Ok(())
    }

    fn integer(self, value: impl itoa::Integer) -> Written {
        self.quoted(|writer| writer.integer(value))
    }
}

fn not_a_key<T>() -> Result<T, EncodeError> {
    Err(EncodeError::Serialize("key must be a string".to_owned()))
}

macro_rules! no_keys {
    ($($method:ident($($type:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $type),*) -> Result<$result, EncodeError> {
            not_a_key()
        })*
    };
}

impl Serializer for KeyWriter<'_, '_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Impossible<(), EncodeError>;
    type SerializeTuple = Impossible<(), EncodeError>;
    type SerializeTupleStruct = Impossible<(), EncodeError>;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    integers! {
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_i128: i128;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_u128: u128;
    }

    fn serialize_str(self, value: &str) -> Written {
        self.0.string(value)
    }

    fn serialize_char(self, value: char) -> Written {
        self.0.serialize_char(value)
    }

    fn serialize_bool(self, value: bool) -> Written {
        self.quoted(|writer| writer.serialize_bool(value))
    }

    fn serialize_f32(self, value: f32) -> Written {
        if !value.is_finite() {
            return Err(EncodeError::Serialize("float key must be finite (got NaN or +/-inf)".to_owned()));
        }
        self.quoted(|writer| writer.float(value))
    }

    fn serialize_f64(self, value: f64) -> Written {
        if !value.is_finite() {
            return Err(EncodeError::Serialize("float key must be finite (got NaN or +/-inf)".to_owned()));
        }
        self.quoted(|writer| writer.float(value))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.0.string(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Written {
        self.0.display(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        not_a_key()
    }

    no_keys! {
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Serialize)]
    struct Everything<'a> {
        unit: (),
        none: Option<u8>,
        some: Option<Option<&'a str>>,
        booleans: [bool; 2],
        small: (i8, u8, i16, u16, i32, u32),
        large: (i64, u64, i128, u128),
        floats: Vec<f64>,
        singles: Vec<f32>,
        character: char,
        newtype: Newtype<'a>,
        nothing: Nothing,
        pair: Pair,
        empty: Empty,
        kinds: Vec<Kind>,
        map: BTreeMap<&'a str, Vec<u8>>,
        displayed: Displayed<'a>,
        value: serde_json::Value,
        #[serde(rename = "a \"key\"\n")]
        renamed: u8,
        #[serde(flatten)]
        flat: BTreeMap<String, i32>,
    }

    #[derive(Serialize)]
    struct Newtype<'a>(&'a str);
    #[derive(Serialize)]
    struct Nothing;
    #[derive(Serialize)]
    struct Pair(u8, Newtype<'static>);
    #[derive(Serialize)]
    struct Empty {}
    #[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
    enum Kind {
        Plain,
        Newtype(u8),
        Tuple(u8, u8),
        Struct { field: u8 },
    }

    struct Displayed<'a>(&'a str);

    impl Serialize for Displayed<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("<{}|{:>5}>", self.0, 7))
        }
    }

    fn written<T: Serialize + ?Sized>(value: &T) -> Result<String, EncodeError> {
        let (mut out, mut attachments) = (scratch::Buffer::new(), Vec::new());
        value.serialize(&mut JsonWriter { out: &mut out, attachments: &mut attachments, headroom: 3 })?;
        assert!(attachments.is_empty());
        Ok(String::from_utf8(out.finish()).expect("it is text"))
    }

    #[track_caller]
    fn check<T: Serialize + ?Sized>(value: &T) {
        assert_eq!(written(value).ok(), serde_json::to_string(value).ok());
    }

    #[test]
    fn every_kind_of_value_is_written_as_serde_json_does() {
        for text in ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{80}é€😀\u{2028}"] {
            check(&Everything {
                unit: (),
                none: None,
                some: Some(Some(text)),
                booleans: [true, false],
                small: (i8::MIN, u8::MAX, i16::MIN, u16::MAX, i32::MIN, u32::MAX),
                large: (i64::MIN, u64::MAX, i128::MIN, u128::MAX),
                floats: vec![0.0, -0.0, 1.0, 0.1, 1e21, 1e-7, 123_456_789.125, f64::MAX, f64::NAN, f64::NEG_INFINITY],
                singles: vec![0.1, 3.0, f32::MIN_POSITIVE, f32::INFINITY],
                character: '\n',
                newtype: Newtype(text),
                nothing: Nothing,
                pair: Pair(1, Newtype("x")),
                empty: Empty {},
                kinds: vec![Kind::Plain, Kind::Newtype(1), Kind::Tuple(2, 3), Kind::Struct { field: 4 }],
                map: BTreeMap::from([(text, vec![]), ("b", vec![1, 2])]),
                displayed: Displayed(text),
                value: serde_json::json!({ text: [null, text, 1.5, { "deep": {} }] }),
                renamed: 1,
                flat: BTreeMap::from([("flat".to_owned(), 1), (text.to_owned(), 2)]),
            });
        }
        check::<[u8]>(&[]);
        check(&RawValue::from_string("{ \"as\" : \"it is\" }".to_owned()).expect("it is JSON"));
    }

    #[test]
    fn keys_are_text() {
        check(&BTreeMap::from([(1_u8, 1)]));
        check(&BTreeMap::from([(-1_i128, 1), (5, 2)]));
        check(&BTreeMap::from([(true, 1), (false, 2)]));
        check(&BTreeMap::from([('"', 1), ('é', 2)]));
        check(&BTreeMap::from([(Kind::Plain, 1)]));
        check(&BTreeMap::from([(Some("a"), 1)]));
        for key in [1.5_f64, 1e300, f64::NAN, f64::INFINITY] {
            check(&Single(key));
        }
        for key in [1.5_f32, f32::NAN] {
            check(&Single(key));
        }
        check(&Single(Newtype("n")));
        check(&Single(Displayed("\"")));
        // None of these is a key.
        check(&Single(None::<u8>));
        check(&Single(()));
        check(&Single(Nothing));
        check(&Single([1]));
        check(&Single((1, 2)));
        check(&Single(Pair(1, Newtype(""))));
        check(&Single(Empty {}));
        check(&Single(BTreeMap::from([(1, 1)])));
        check(&Single(Kind::Newtype(1)));
        check(&Single(Kind::Tuple(1, 2)));
        check(&Single(Kind::Struct { field: 1 }));

        struct Single<K>(K);

        impl<K: Serialize> Serialize for Single<K> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry(&self.0, &self.0)?;
                map.end()
            }
        }
    }

    #[test]
    fn a_special_byte_is_escaped_wherever_it_stands() {
        for len in (0..140).chain([287, 288, 289, 1_311, 1_312, 1_313, 5_000]) {
            let places = (0..len).filter(|place| len < 140 || place % 61 == 0 || place % 64 == 0 || place + 2 > len);
            for place in places {
                for special in ['"', '\\', '\n', '\u{0}', '\u{1f}', 'é', '😀'] {
                    let mut text = "x".repeat(len);
                    text.insert(place, special);
                    check(&text);
                    text.push(special);
                    check(&text);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_written_as_serde_json_does(pieces in prop::collection::vec(prop_oneof![
            ".{0,8}", "[a-z]{0,80}", prop::sample::select(vec!["\"", "\\", "\n", "\u{1}", "é", "😀"]).prop_map(str::to_owned),
        ], 0..40)) {
            let text = pieces.concat();
            prop_assert_eq!(written(&text).ok(), serde_json::to_string(&text).ok());
            prop_assert_eq!(written(&pieces).ok(), serde_json::to_string(&pieces).ok());
        }
    }
}
