//! Events as types: the name, the arguments and the acknowledgement in one place, for server and client alike.

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
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler: it is neither an extractor nor a typed event",
    label = "not an extractor and not an event",
    note = "what the event carries is taken with `Data<{Self}>`, what the application stored with `State<{Self}>`",
    note = "a typed event derives `Event` and `Deserialize`; your own extractor implements `FromEvent<Cx>`"
)]
pub trait Event: Sized {
    /// The name on the wire.
    const NAME: &'static str;

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
    note = "a typed event derives `Event` and `Deserialize`; `on(name, handler)` takes handlers without one"
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
