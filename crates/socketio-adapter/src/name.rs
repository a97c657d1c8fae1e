//! The name of a room, and what may stand where one or several names are expected.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::{SmallVec, smallvec};

/// The name of a room: a string that is cheap to clone.
///
/// Every socket is in the room that is named by its id, so an id is a room name too. How long a name may be is decided
/// where a socket joins ([`Limits::room_name_bytes`](crate::Limits::room_name_bytes)).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(Arc<str>);

/// A few room names.
pub type RoomNames = SmallVec<[RoomName; 2]>;

impl RoomName {
    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for RoomName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Sound because the derived `Hash`, `Eq` and `Ord` are those of the `str` inside.
impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for RoomName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for RoomName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for RoomName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// One or several room names: what `to`, `except`, `join` and `leave` take.
///
/// A string, a [`RoomName`], or an array, slice or `Vec` of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a room",
    label = "expected a room name or several",
    note = "a room name is a `&str`, a `String` or a `RoomName`",
    note = "several are an array, a slice or a `Vec` of these; anything else that iterates: `.collect::<Vec<_>>()`"
)]
pub trait IntoRooms {
    /// The names, in the order given.
    fn into_rooms(self) -> RoomNames;
}

/// One name: the conversion into [`RoomName`], and the value as a list of one.
macro_rules! one_name {
    ($($from:ty),*) => {$(
        impl From<$from> for RoomName {
            fn from(name: $from) -> Self {
                Self(name.into())
            }
        }

        impl IntoRooms for $from {
            fn into_rooms(self) -> RoomNames {
                smallvec![self.into()]
            }
        }
    )*};
}

one_name!(&str, String, Box<str>, Arc<str>, Cow<'_, str>);

impl From<&String> for RoomName {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<&&str> for RoomName {
    fn from(name: &&str) -> Self {
        (*name).into()
    }
}

impl From<&RoomName> for RoomName {
    fn from(name: &RoomName) -> Self {
        name.clone()
    }
}

impl From<RoomName> for Arc<str> {
    fn from(name: RoomName) -> Self {
        name.0
    }
}

impl IntoRooms for &String {
    fn into_rooms(self) -> RoomNames {
        smallvec![self.into()]
    }
}

impl IntoRooms for RoomName {
    fn into_rooms(self) -> RoomNames {
        smallvec![self]
    }
}

impl IntoRooms for &RoomName {
    fn into_rooms(self) -> RoomNames {
        smallvec![self.clone()]
    }
}

impl IntoRooms for RoomNames {
    fn into_rooms(self) -> RoomNames {
        self
    }
}

impl<T: Into<RoomName>, const N: usize> IntoRooms for [T; N] {
    fn into_rooms(self) -> RoomNames {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<RoomName>> IntoRooms for Vec<T> {
    fn into_rooms(self) -> RoomNames {
        self.into_iter().map(Into::into).collect()
    }
}

impl<'a, T> IntoRooms for &'a [T]
where
    &'a T: Into<RoomName>,
{
    fn into_rooms(self) -> RoomNames {
        self.iter().map(Into::into).collect()
    }
}

impl<'a, T, const N: usize> IntoRooms for &'a [T; N]
where
    &'a T: Into<RoomName>,
{
    fn into_rooms(self) -> RoomNames {
        self.as_slice().into_rooms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_can_be_named_in_many_ways() {
        check("a", &["a"]);
        check(String::from("a"), &["a"]);
        check(RoomName::from("a"), &["a"]);
        check(Arc::<str>::from("a"), &["a"]);
        check(["a", "b"], &["a", "b"]);
        check(vec![String::from("a"), String::from("b")], &["a", "b"]);
        check(["a", "b"].as_slice(), &["a", "b"]);
        check([String::from("a")].as_slice(), &["a"]);
        check([RoomName::from("a"), RoomName::from("b"), RoomName::from("c")].as_slice(), &["a", "b", "c"]);
        check(Vec::<String>::new(), &[]);

        let (string, name) = (String::from("a"), RoomName::from("a"));
        let array = [string.clone(), String::from("b")];
        check(&string, &["a"]);
        check(&name, &["a"]);
        check(&array, &["a", "b"]);

        #[track_caller]
        fn check(rooms: impl IntoRooms, want: &[&str]) {
            assert_eq!(rooms.into_rooms().as_slice(), want);
        }
    }

    #[test]
    fn a_name_is_a_string_on_the_wire() {
        let name = RoomName::from("lobby");
        assert_eq!(serde_json::to_string(&name).unwrap(), r#""lobby""#);
        assert_eq!(serde_json::from_str::<RoomName>(r#""l\u006fbby""#).unwrap(), name);
        assert_eq!(format!("{name} {name:?} {name:>7}"), r#"lobby "lobby"   lobby"#);
    }
}
