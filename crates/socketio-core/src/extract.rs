//! Where the arguments of handlers come from.

use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use socketio_proto::{Args, OwnedArgs};

use crate::{HandlerContext, Rejection, StateMap};

/// What can be an argument of a handler for the context `Cx`. Derived events ([`Event`](macro@crate::Event)) are.
///
/// ```
/// # use socketio_core::{Args, FromEvent, HandlerContext, Rejection};
/// /// The tenant, the first argument of every event of this application.
/// struct Tenant(u32);
///
/// impl<Cx: HandlerContext> FromEvent<Cx> for Tenant {
///     fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
///         args.deserialize().map(Tenant).map_err(Rejection::from)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of this handler",
    label = "not an extractor",
    note = "what the event carries is taken with `Data<…>`, what the application stored with `State<…>`",
    note = "a typed event has `#[derive(Event, Deserialize)]`; your own extractor implements `FromEvent<Cx>`"
)]
pub trait FromEvent<Cx>: Sized {
    /// The name of the event, when this argument is a typed one.
    const EVENT: Option<&'static str> = None;

    /// Whether this argument takes the acknowledgement over, so that what the handler returns is not sent.
    const TAKES_ACK: bool = false;

    /// Takes the argument out of an event.
    ///
    /// # Errors
    /// The rejection is sent to whoever awaits an acknowledgement; the handler is not called.
    fn from_event(cx: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection>;

    /// Whether the application has stored what this argument will ask for; asked once, before any event.
    ///
    /// # Errors
    /// What is missing.
    fn check(_: &StateMap) -> Result<(), MissingState> {
        Ok(())
    }
}

/// A handler asks for state that nobody has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a handler takes `State<{type_name}>`, but no state of this type was given")]
pub struct MissingState {
    /// The type, as the compiler calls it.
    pub type_name: &'static str,
}

/// The arguments of a handler together: a tuple of extractors.
///
/// You do not implement this; see [`FromEvent`].
pub trait Extract<Cx>: Sized {
    /// The name of the typed event among them, the first if there are several.
    const EVENT: Option<&'static str>;

    /// Whether one of them takes the acknowledgement over.
    const TAKES_ACK: bool;

    /// Takes them out of an event, from left to right.
    ///
    /// # Errors
    /// The first rejection.
    fn extract(cx: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection>;

    /// [`FromEvent::check`] for all of them.
    ///
    /// # Errors
    /// The first state that is missing.
    fn check(states: &StateMap) -> Result<(), MissingState>;
}

macro_rules! extract {
    ($($A:ident),*) => {
        impl<Cx, $($A: FromEvent<Cx>),*> Extract<Cx> for ($($A,)*) {
            const EVENT: Option<&'static str> = first(&[$($A::EVENT),*]);
            const TAKES_ACK: bool = false $(|| $A::TAKES_ACK)*;

            #[allow(unused_variables)]
            fn extract(cx: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
                Ok(($($A::from_event(cx, args)?,)*))
            }

            #[allow(unused_variables)]
            fn check(states: &StateMap) -> Result<(), MissingState> {
                $($A::check(states)?;)*
                Ok(())
            }
        }
    };
}

extract!();
extract!(A1);
extract!(A1, A2);
extract!(A1, A2, A3);
extract!(A1, A2, A3, A4);
extract!(A1, A2, A3, A4, A5);
extract!(A1, A2, A3, A4, A5, A6);
extract!(A1, A2, A3, A4, A5, A6, A7);
extract!(A1, A2, A3, A4, A5, A6, A7, A8);

const fn first(names: &[Option<&'static str>]) -> Option<&'static str> {
    let mut index = 0;
    while index < names.len() {
        if names[index].is_some() {
            return names[index];
        }
        index += 1;
    }
    None
}

/// What the event carries: all its arguments if `T` is a tuple, else the first.
///
/// Superfluous arguments are ignored. A missing one is `None` where `T` is an `Option`; otherwise, and when one does not
/// fit its type, the event is rejected with the code `bad_request` and the handler is not called. [`TryData`] lets the
/// handler see to that itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<T>(pub T);

impl<Cx: HandlerContext, T: DeserializeOwned> FromEvent<Cx> for Data<T> {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(args.deserialize()?))
    }
}

/// Like [`Data`], but what does not fit reaches the handler as a rejection; with `?` it becomes that error after all.
#[derive(Debug, Clone, PartialEq)]
pub struct TryData<T>(pub Result<T, Rejection>);

impl<Cx: HandlerContext, T: DeserializeOwned> FromEvent<Cx> for TryData<T> {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(args.deserialize().map_err(Rejection::from)))
    }
}

/// The name of the event, for handlers of more than one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(pub String);

impl Deref for EventName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<Cx: HandlerContext> FromEvent<Cx> for EventName {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(args.name().to_owned()))
    }
}

/// The arguments as they came, undecoded: for handlers of events whose form is not known.
impl<Cx: HandlerContext> FromEvent<Cx> for OwnedArgs {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(args.to_owned())
    }
}
