//! Async functions as event handlers: what they are called with, what becomes of what they return.
//!
//! The bounds are cut so that the compiler can name the part that does not fit: [`HandlerFn`] only says "is a function of
//! these arguments", [`Extract`] says of each argument whether it can be had from an event, and [`Reply`] whether the
//! result can be sent. [`Handler`] has a single implementation over the three.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use serde::Serialize;
use socketio_proto::Args;

use crate::ack::ReplySink;
use crate::event::{AckOf, Event, FindEvent};
use crate::extract::{Extract, MissingState};
use crate::future::HandlerFuture;
use crate::{LendContext, Rejection, StateMap, With};

/// What a server or client knows while it dispatches one event.
///
/// Each dispatcher has its own type; what it offers beyond this trait reaches handlers through extractors of its own
/// ([`FromEvent`](crate::FromEvent) for that type). The arguments of the event are not part of it: they are borrowed from
/// the read buffer and passed beside it.
pub trait HandlerContext: Send {
    /// Where the reply goes.
    type Sink: ReplySink;

    /// Takes what the reply is sent through. `None` when nobody waits for one, or when it was taken before.
    fn take_sink(&mut self) -> Option<Self::Sink>;

    /// What the application has stored for its handlers.
    fn states(&self) -> &StateMap;
}

/// A function of the arguments `A`, which is a tuple. Implemented for functions and closures of up to eight arguments.
///
/// You do not implement this; see [`Handler`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not callable as a handler",
    note = "a handler is an `async fn` or an `async |…| …` closure of at most eight arguments",
    note = "the types of a closure's arguments have to be written: `async |Data(text): Data<String>| …`",
    note = "a closure must not borrow what it captures: take it as `State<T>`, \
            or write `move |…| {{ let db = db.clone(); async move {{ … }} }}`"
)]
pub trait HandlerFn<A> {
    /// What a call returns: a future.
    type Output;

    /// Calls it.
    fn apply(&self, arguments: A) -> Self::Output;
}

/// What a handler may return: anything that serializes, and with that a `Result` of two such things.
///
/// `()` is an empty acknowledgement, a tuple several arguments, anything else one. `Ok(value)` is sent as `value`,
/// `Err(error)` in the standard shape `{"error": {"code", "message", "details"?}}`: a [`HandlerError`](crate::HandlerError)
/// as it is, a string as a message with the code `error`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the reply of a handler",
    label = "cannot be sent as an acknowledgement",
    note = "a handler returns `()`, something that implements `serde::Serialize`, or a `Result` of these",
    note = "`Result<T, HandlerError>` takes every error with `?`; `HandlerError::new(code, message)` says what the peer may know",
    note = "it must also be `Send` and must not borrow from the arguments"
)]
pub trait Reply: Serialize + Send + 'static {}

impl<T: Serialize + Send + 'static> Reply for T {}

/// An event handler for the context `Cx`: an async function or closure whose arguments `A` are extractors.
///
/// ```
/// # use socketio_core::{Data, EventName, Handler, HandlerContext, HandlerError};
/// # fn on<Cx: HandlerContext, A>(event: &str, handler: impl Handler<Cx, A>) {}
/// # fn examples<Cx: HandlerContext>() {
/// on::<Cx, _>("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
/// on::<Cx, _>("greet", greet);
/// async fn greet(EventName(_): EventName, Data(name): Data<String>) -> Result<String, HandlerError> {
///     if name.is_empty() {
///         return Err(HandlerError::new("nobody", "there is nobody to greet"));
///     }
///     Ok(format!("hello {name}"))
/// }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not callable as a handler",
    note = "a handler is an `async fn` or an `async |…| …` closure of at most eight arguments",
    note = "the types of a closure's arguments have to be written: `async |Data(text): Data<String>| …`",
    note = "a closure must not borrow what it captures: take it as `State<T>`, \
            or write `move |…| {{ let db = db.clone(); async move {{ … }} }}`"
)]
pub trait Handler<Cx, A>: Send + Sync + 'static {
    /// The name of the typed event among the arguments.
    const EVENT: Option<&'static str>;

    /// Whether it returns something (`()` is nothing) or takes the acknowledgement into its own hands.
    ///
    /// Of several handlers of one event the first that answers sends the reply.
    fn answers() -> bool;

    /// Extracts the arguments and calls the function. Its reply is sent as soon as it has finished.
    ///
    /// Nothing of the function's body has run when this returns.
    ///
    /// # Errors
    /// The rejection of the first argument that the event does not fit; the sink is then still in `cx`.
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection>;

    /// Whether all state is there that the arguments ask for.
    ///
    /// # Errors
    /// The first that is missing.
    fn check(states: &StateMap) -> Result<(), MissingState>;
}

impl<Cx, A, H> Handler<Cx, A> for H
where
    Cx: HandlerContext,
    H: HandlerFn<A> + Send + Sync + 'static,
    A: Extract<Cx>,
    H::Output: Future<Output: Reply> + Send + 'static,
{
    const EVENT: Option<&'static str> = A::EVENT;

    fn answers() -> bool {
        A::TAKES_ACK || TypeId::of::<<H::Output as Future>::Output>() != TypeId::of::<()>()
    }

    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection> {
        let arguments = A::extract(cx, args)?;
        let future = self.apply(arguments);
        // After the extraction: an `Ack` argument has the sink by now.
        let sink = cx.take_sink();
        Ok(HandlerFuture::new(Replying { future, sink }))
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        A::check(states)
    }
}

pin_project! {
    /// Sends what a handler returns. Not an `async` block, which would take the handler's room twice.
    struct Replying<F, S> {
        #[pin]
        future: F,
        sink: Option<S>,
    }
}

impl<F: Future<Output: Reply>, S: ReplySink> Future for Replying<F, S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let reply = ready!(this.future.poll(cx));
        if let Some(sink) = this.sink.take() {
            sink.reply(&reply);
        }
        Poll::Ready(())
    }
}

/// A handler of a typed event: exactly one of the arguments is an [`Event`], and what it returns is that event's
/// acknowledgement or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of a typed event",
    label = "not a handler of a typed event",
    note = "a handler is an `async fn` or an `async |…| …` closure of at most eight arguments, one of them a typed event"
)]
pub trait EventHandler<Cx, A, Position>: Handler<Cx, A> {
    /// The event.
    type Event: Event;
}

impl<Cx, A, Position, H> EventHandler<Cx, A, Position> for H
where
    H: Handler<Cx, A> + HandlerFn<A>,
    A: FindEvent<Position>,
    H::Output: Future<Output: AckOf<<A::Event as Event>::Ack>>,
{
    type Event = A::Event;
}

/// A handler behind a pointer, as it lies in a table. Cheap to clone.
pub struct BoxedHandler<Cx>(Arc<dyn Erased<Cx>>);

impl<Cx> BoxedHandler<Cx> {
    /// Puts a handler behind a pointer.
    pub fn new<A: 'static>(handler: impl Handler<Cx, A>) -> Self
    where
        Cx: 'static,
    {
        Self(Arc::new(Typed { handler, arguments: PhantomData::<fn(A)> }))
    }

    /// Puts a handler that wants its context [`With`] a state behind a pointer.
    pub fn stateful<S: 'static, A: 'static>(handler: impl Handler<With<S, Cx>, A>) -> Self
    where
        Cx: LendContext + 'static,
    {
        Self(Arc::new(Stateful { handler, arguments: PhantomData::<fn(A, S)> }))
    }

    /// [`Handler::call`].
    ///
    /// # Errors
    /// The rejection of the first argument that the event does not fit; the sink is then still in `cx`.
    pub fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection> {
        self.0.call(cx, args)
    }

    /// [`Handler::answers`].
    pub fn answers(&self) -> bool {
        self.0.answers()
    }

    /// [`Handler::check`].
    ///
    /// # Errors
    /// The first state that is missing.
    pub fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        self.0.check(states)
    }
}

impl<Cx> Clone for BoxedHandler<Cx> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Cx> fmt::Debug for BoxedHandler<Cx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedHandler")
    }
}

trait Erased<Cx>: Send + Sync {
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection>;
    fn answers(&self) -> bool;
    fn check(&self, states: &StateMap) -> Result<(), MissingState>;
}

struct Typed<H, A> {
    handler: H,
    arguments: PhantomData<fn(A)>,
}

impl<Cx, A, H: Handler<Cx, A>> Erased<Cx> for Typed<H, A> {
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection> {
        self.handler.call(cx, args)
    }

    fn answers(&self) -> bool {
        H::answers()
    }

    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        H::check(states)
    }
}

struct Stateful<H, A, S> {
    handler: H,
    arguments: PhantomData<fn(A, S)>,
}

impl<Cx: LendContext, A, S, H: Handler<With<S, Cx>, A>> Erased<Cx> for Stateful<H, A, S> {
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<HandlerFuture, Rejection> {
        With::lent(cx, |with| self.handler.call(with, args))
    }

    fn answers(&self) -> bool {
        H::answers()
    }

    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        H::check(states)
    }
}

macro_rules! handler_fn {
    ($($A:ident),*) => {
        impl<F, Output, $($A),*> HandlerFn<($($A,)*)> for F
        where
            F: Fn($($A),*) -> Output,
        {
            type Output = Output;

            #[allow(non_snake_case)]
            fn apply(&self, ($($A,)*): ($($A,)*)) -> Output {
                self($($A),*)
            }
        }
    };
}

handler_fn!();
handler_fn!(A1);
handler_fn!(A1, A2);
handler_fn!(A1, A2, A3);
handler_fn!(A1, A2, A3, A4);
handler_fn!(A1, A2, A3, A4, A5);
handler_fn!(A1, A2, A3, A4, A5, A6);
handler_fn!(A1, A2, A3, A4, A5, A6, A7);
handler_fn!(A1, A2, A3, A4, A5, A6, A7, A8);
