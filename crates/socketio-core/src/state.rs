//! What an application stores once for all its handlers: a database pool, a configuration.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use socketio_proto::Args;

use crate::{FromEvent, HasState, MissingState, Rejection};

/// Values of any type, at most one of each. Filled while a server or client is built, only read afterwards.
///
/// Cloning copies references to the values.
#[derive(Clone, Default)]
pub struct StateMap {
    /// There are few: a search beats a hash.
    values: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
}

impl StateMap {
    /// An empty map; allocates nothing.
    pub const fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Stores `value`; the former one of the same type is replaced.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.retain(|(id, _)| *id != TypeId::of::<T>());
        self.values.push((TypeId::of::<T>(), Arc::new(value)));
    }

    /// The value of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let (_, value) = self.values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }

    /// Takes over from `other` what is missing here: a namespace's own state wins over the server's.
    pub fn extend_missing(&mut self, other: &Self) {
        for (id, value) in &other.values {
            if !self.values.iter().any(|(own, _)| own == id) {
                self.values.push((*id, Arc::clone(value)));
            }
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMap").field("len", &self.len()).finish()
    }
}

/// What the application has stored of this type, cloned: share what is large through an `Arc`.
///
/// Whether it is there is checked before the first event; see [`Handler::check`](crate::Handler::check).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<Cx: HasState<T>, T> FromEvent<Cx> for State<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        cx.state().map(Self).ok_or_else(|| Rejection::internal(MissingState::of::<T>()))
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        Cx::check(states)
    }
}

impl MissingState {
    pub(crate) fn of<T>() -> Self {
        Self { type_name: type_name::<T>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let mut states = StateMap::new();
        assert!(states.is_empty());
        states.insert(1u8);
        states.insert(2u8);
        states.insert("text");
        assert_eq!((states.get::<u8>(), states.get::<&str>(), states.get::<u16>()), (Some(&2), Some(&"text"), None));
        assert_eq!(states.len(), 2);
    }

    #[test]
    fn own_state_wins_over_what_is_taken_over() {
        let (mut own, mut other) = (StateMap::new(), StateMap::new());
        own.insert(1u8);
        other.insert(2u8);
        other.insert(3u16);
        own.extend_missing(&other);
        assert_eq!((own.get::<u8>(), own.get::<u16>()), (Some(&1), Some(&3)));
    }
}
