//! What a Socket.IO server and client share with their users: events, handlers, arguments and replies.
//!
//! Nothing here does I/O or needs a runtime. A server or client supplies a context type `Cx` for each kind of event it
//! dispatches ([`HandlerContext`]); this crate supplies what users write against it:
//!
//! * [`Handler`]: async functions whose arguments are extractors ([`FromEvent`]) and whose return value is the
//!   acknowledgement; [`BoxedHandler`] is one behind a pointer, as it lies in a table.
//! * The extractors both sides have: [`Data`], [`TryData`], [`EventName`], [`State`], [`Ack`].
//! * [`Event`]: an event as a type, with its name, its arguments and its acknowledgement, and the derive for it.
//! * [`events!`] makes a set of events one type; with the feature `describe`, `describe::Protocol` prints such sets as
//!   TypeScript and AsyncAPI.
//! * The errors that travel: [`HandlerError`] and [`Rejection`] in an acknowledgement, [`ConnectError`] at the door,
//!   [`AckError`] for those who wait for an answer.

mod ack;
mod connect;
#[cfg(feature = "describe")]
pub mod describe;
mod error;
pub mod event;
mod extract;
mod future;
mod handler;
mod protocol;
mod state;
mod stateful;
#[cfg(feature = "validate")]
mod valid;

pub use ack::{Ack, AckError, NoReply, ReplySink, decode_ack};
pub use connect::ConnectError;
pub use error::{HandlerError, InternalError, OrError, Rejection, set_internal_error_hook};
#[doc(inline)]
pub use event::Event;
pub use extract::{Data, EventName, Extract, FromEvent, MissingState, TryData};
pub use future::HandlerFuture;
pub use handler::{BoxedHandler, EventHandler, Handler, HandlerContext, HandlerFn, Reply};
#[doc(no_inline)]
pub use socketio_macros::EventOfCore as Event;
pub use socketio_proto::{Args, DataError, OwnedArgs, Value};
pub use state::{State, StateMap};
pub use stateful::{DynamicState, FromRef, HasState, LendContext, With};
#[cfg(feature = "validate")]
pub use valid::Valid;

/// For crates that re-export all this: what the derive's output refers to, and the derives that refer to them.
///
/// Such a crate says `pub use socketio_core::{__private, event::Event, __private::EventOfServer as Event}`, so that its
/// users need not depend on this one.
#[doc(hidden)]
pub mod __private {
    pub use crate::event::{Event, Received};
    pub use crate::{FromEvent, HandlerContext, Rejection};
    pub use socketio_macros::{EventOfClient, EventOfServer};
    pub use socketio_proto::Args;
}
