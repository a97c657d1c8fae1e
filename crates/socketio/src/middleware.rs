//! Who may connect: async functions that a client has to pass.

use std::marker::PhantomData;
use std::pin::Pin;

use socketio_core::{ConnectError, Extract, HandlerFn, MissingState, Rejection, StateMap, With};
use socketio_proto::Args;

use crate::context::ConnectContext;

/// What middleware decides: the client is let in, or why not.
pub type Verdict = Result<(), ConnectError>;

/// What called middleware does until it has decided.
///
/// # Cancel safety
/// Dropped when the client leaves or the time is up: the middleware stops where it stands.
pub type VerdictFuture = Pin<Box<dyn Future<Output = Verdict> + Send + 'static>>;

/// An async function or closure of extractors that lets a client in (`Ok(())`) or refuses it.
///
/// It returns a `Result<(), E>`, where `E` is a [`ConnectError`] or becomes one: a string, a
/// [`HandlerError`](crate::HandlerError).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not middleware",
    label = "cannot decide who may connect",
    note = "middleware is an `async fn` or an `async |…| …` closure that returns `Result<(), ConnectError>`",
    note = "its arguments are extractors, such as `Socket` and `Auth<T>`, their types written out"
)]
pub trait Middleware<A, Cx = ConnectContext>: Send + Sync + 'static {
    /// Extracts the arguments and calls the function.
    ///
    /// # Errors
    /// The first argument that does not fit; the client is refused.
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<VerdictFuture, Rejection>;

    /// Whether all state is there that the arguments ask for.
    ///
    /// # Errors
    /// The first that is missing.
    fn check(states: &StateMap) -> Result<(), MissingState>;
}

impl<A, Cx, E, H> Middleware<A, Cx> for H
where
    H: HandlerFn<A> + Send + Sync + 'static,
    A: Extract<Cx>,
    H::Output: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<ConnectError> + Send + 'static,
{
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<VerdictFuture, Rejection> {
        let future = self.apply(A::extract(cx, args)?);
        Ok(Box::pin(async move { future.await.map_err(Into::into) }))
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        A::check(states)
    }
}

pub(crate) struct BoxedMiddleware(Box<dyn Erased>);

impl BoxedMiddleware {
    /// Of one that wants its context with a state.
    pub(crate) fn stateful<S: 'static, A: 'static>(middleware: impl Middleware<A, With<S, ConnectContext>>) -> Self {
        Self(Box::new(Stateful { middleware, arguments: PhantomData::<fn(A, S)> }))
    }

    pub(crate) fn new<A: 'static>(middleware: impl Middleware<A>) -> Self {
        Self(Box::new(Typed { middleware, arguments: PhantomData::<fn(A)> }))
    }

    pub(crate) fn call(&self, cx: &mut ConnectContext, args: &Args<'_>) -> Result<VerdictFuture, Rejection> {
        self.0.call(cx, args)
    }

    pub(crate) fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        self.0.check(states)
    }
}

trait Erased: Send + Sync {
    fn call(&self, cx: &mut ConnectContext, args: &Args<'_>) -> Result<VerdictFuture, Rejection>;
    fn check(&self, states: &StateMap) -> Result<(), MissingState>;
}

struct Stateful<M, A, S> {
    middleware: M,
    arguments: PhantomData<fn(A, S)>,
}

impl<A, S, M: Middleware<A, With<S, ConnectContext>>> Erased for Stateful<M, A, S> {
    fn call(&self, cx: &mut ConnectContext, args: &Args<'_>) -> Result<VerdictFuture, Rejection> {
        With::lent(cx, |with| self.middleware.call(with, args))
    }

    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        M::check(states)
    }
}

struct Typed<M, A> {
    middleware: M,
    arguments: PhantomData<fn(A)>,
}

impl<A, M: Middleware<A>> Erased for Typed<M, A> {
    fn call(&self, cx: &mut ConnectContext, args: &Args<'_>) -> Result<VerdictFuture, Rejection> {
        self.middleware.call(cx, args)
    }

    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        M::check(states)
    }
}
