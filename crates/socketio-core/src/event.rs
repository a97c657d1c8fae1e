//! Events as types: the name, the arguments and the acknowledgement in one place, for server and client alike.

use serde::de::DeserializeOwned;
use socketio_proto::Args;

use crate::Rejection;
#[doc(hidden)]
pub use crate::protocol::distinct;
pub use crate::protocol::{EventFor, EventSet, EventsFor, In};

/// An event with its name, its arguments and its acknowledgement.
///
/// Usually derived:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use socketio_core::Event;
///
/// /// Sent by a client that wants to say something.
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "say", ack = Said)]
/// struct Say {
///     room: String,
///     text: String,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Said {
///     id: u64,
/// }
///
/// assert_eq!(Say::NAME, "say");
/// ```
///
/// How the derive fills in [`Args`](Self::Args):
/// * a struct with fields, and an enum, is one argument: itself;
/// * a struct with one unnamed field is that field: `struct Moved((i32, i32))` has two arguments, because a tuple spreads;
/// * a struct without fields has no arguments.
///
/// What is sent needs `Args: Serialize`, what is received `Args: Deserialize`.
///
/// A derived event whose `Args` implement `Deserialize` is an argument of handlers
/// ([`FromEvent`](crate::FromEvent)); one that is written by hand is taken with `Data<E::Args>` or implements that too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a typed event",
    label = "not a typed event",
    note = "a typed event has `#[derive(Event)]` and `#[event(name = \"…\")]`"
)]
pub trait Event: Sized {
    /// The name on the wire.
    const NAME: &'static str;

    /// What it is for. The derive takes the doc comment of the type.
    const DOC: &'static str = "";

    /// What travels: a tuple is several arguments, anything else one.
    type Args;

    /// What the other side answers; `()` when nothing is expected.
    type Ack;

    /// The arguments of this event.
    fn args(&self) -> &Self::Args;

    /// The event with these arguments.
    fn from_args(args: Self::Args) -> Self;
}

/// What the handler of an event with the acknowledgement `Ack` may return: `Ack`, or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "this handler returns `{Self}`, but the event is answered with `{Ack}`",
    label = "expected `{Ack}` or `Result<{Ack}, _>`",
    note = "`#[event(ack = …)]` says with what an event is answered; without it that is `()`"
)]
pub trait AckOf<Ack> {}

impl<Ack> AckOf<Ack> for Ack {}

impl<Ack, E> AckOf<Ack> for Result<Ack, E> {}

/// Finds the one [`Event`] among the arguments of a handler; `Position` is inferred.
#[diagnostic::on_unimplemented(
    message = "exactly one argument of this handler must be a typed event",
    label = "which event this handler is for must be clear from its arguments",
    note = "a typed event has `#[derive(Event, Deserialize)]`; handlers without one are registered with a name"
)]
pub trait FindEvent<Position> {
    /// The event.
    type Event: Event;
}

/// The positions of [`FindEvent`].
#[derive(Debug)]
pub struct At<const INDEX: usize>;

/// The position behind `$before`, in tuples of every length up to eight.
macro_rules! find_event {
    ($index:literal [$($before:ident)*] [$($after:ident)*]) => {
        impl<Found: Event, $($before,)* $($after,)*> FindEvent<At<$index>> for ($($before,)* Found, $($after,)*) {
            type Event = Found;
        }
        find_event!(@shorter $index [$($before)*] [$($after)*]);
    };
    (@shorter $index:literal $before:tt []) => {};
    (@shorter $index:literal $before:tt [$last:ident $($after:ident)*]) => {
        find_event!($index $before [$($after)*]);
    };
}

find_event!(0 [] [A1 A2 A3 A4 A5 A6 A7]);
find_event!(1 [B1] [A1 A2 A3 A4 A5 A6]);
find_event!(2 [B1 B2] [A1 A2 A3 A4 A5]);
find_event!(3 [B1 B2 B3] [A1 A2 A3 A4]);
find_event!(4 [B1 B2 B3 B4] [A1 A2 A3]);
find_event!(5 [B1 B2 B3 B4 B5] [A1 A2]);
find_event!(6 [B1 B2 B3 B4 B5 B6] [A1]);
find_event!(7 [B1 B2 B3 B4 B5 B6 B7] []);

/// A type that can be read from the arguments of an event. The context makes the bound one that is checked where an event
/// is received: an event that is only sent need not implement `Deserialize`.
#[doc(hidden)]
pub trait Received<Cx>: Sized {
    /// Reads it.
    fn read(args: &Args<'_>) -> Result<Self, Rejection>;
}

impl<Cx, T: DeserializeOwned> Received<Cx> for T {
    fn read(args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(args.deserialize()?)
    }
}
