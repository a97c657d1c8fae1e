//! Sets of events: everything that one side may send, as one type.

use crate::Event;

/// A set of events, made by [`events!`](crate::events).
pub trait EventSet: Sized {
    /// The names of its events, in the order in which they were listed.
    const NAMES: &'static [&'static str];

    /// The name of this event.
    fn name(&self) -> &'static str;
}

/// Says that an event belongs to a set.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event of `{Set}`",
    label = "not in the set",
    note = "the events of a set are listed in its `events! {{ enum … }}`"
)]
pub trait In<Set: EventSet>: Event + Into<Set> {}

/// A set whose events a visitor `V` can take one after the other.
pub trait EventsFor<V>: EventSet {
    /// Shows all events to the visitor, in the order in which they were listed.
    fn visit(visitor: &mut V);
}

/// An event that a visitor `V` can take.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be described",
    label = "its arguments or its answer have no description",
    note = "what an event carries and is answered with needs `#[derive(JsonSchema)]`"
)]
pub trait EventFor<V>: Event {
    /// Shows this event to the visitor.
    fn visit(visitor: &mut V);
}

/// Whether no name comes twice. For [`events!`](crate::events).
#[doc(hidden)]
pub const fn distinct(names: &[&str]) -> bool {
    let mut at = 0;
    while at < names.len() {
        let mut other = at + 1;
        while other < names.len() {
            if same(names[at].as_bytes(), names[other].as_bytes()) {
                return false;
            }
            other += 1;
        }
        at += 1;
    }
    true
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A set of events: an enum with one variant for each, of the same name.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use socketio_core::{Event, event::EventSet, events};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "say")]
/// struct Say {
///     text: String,
/// }
///
/// #[derive(Event)]
/// #[event(name = "typing")]
/// struct Typing;
///
/// events! {
///     /// What clients of the chat send.
///     enum FromClient { Say, Typing }
/// }
///
/// assert_eq!(FromClient::NAMES, ["say", "typing"]);
/// assert_eq!(FromClient::from(Typing).name(), "typing");
/// ```
///
/// The enum is an argument of handlers of many events, such as `on_any`, if all its events are; an event that is not one of
/// the set is rejected there. Two events of one name do not compile. With the feature `describe` a set for each direction
/// is what a protocol is described from: see `Protocol`.
#[macro_export]
macro_rules! events {
    ($(#[$meta:meta])* $visible:vis enum $set:ident { $($(#[$inner:meta])* $event:ident),+ $(,)? }) => {
        $(#[$meta])*
        $visible enum $set {
            $(
                $(#[$inner])*
                #[doc = concat!("[`", stringify!($event), "`].")]
                $event($event),
            )+
        }

        impl $crate::event::EventSet for $set {
            const NAMES: &'static [&'static str] = &[$(<$event as $crate::event::Event>::NAME),+];

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$event(_) => <$event as $crate::event::Event>::NAME,)+
                }
            }
        }

        const _: () = assert!(
            $crate::event::distinct(<$set as $crate::event::EventSet>::NAMES),
            "two events of this set have the same name",
        );

        $(
            impl $crate::event::In<$set> for $event {}

            impl ::core::convert::From<$event> for $set {
                fn from(event: $event) -> Self {
                    Self::$event(event)
                }
            }
        )+

        impl<V> $crate::event::EventsFor<V> for $set
        where
            $($event: $crate::event::EventFor<V>,)+
        {
            fn visit(visitor: &mut V) {
                $(<$event as $crate::event::EventFor<V>>::visit(visitor);)+
            }
        }

        impl<Cx> $crate::FromEvent<Cx> for $set
        where
            $($event: $crate::FromEvent<Cx>,)+
        {
            fn from_event(
                cx: &mut Cx,
                args: &$crate::Args<'_>,
            ) -> ::core::result::Result<Self, $crate::Rejection> {
                $(
                    if args.name() == <$event as $crate::event::Event>::NAME {
                        return <$event as $crate::FromEvent<Cx>>::from_event(cx, args).map(Self::$event);
                    }
                )+
                ::core::result::Result::Err($crate::Rejection::bad_request("the protocol has no event of this name"))
            }
        }
    };
}
