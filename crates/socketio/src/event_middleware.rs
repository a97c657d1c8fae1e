//! Middleware around the events of a socket: async functions that see an event before its handlers do.
//!
//! Without any, an event goes its way as if this file did not exist. With some, it is copied once, and everything from the
//! first middleware to the last handler is one future in the socket's lane.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use socketio_core::{
    DynamicState, Extract, FromEvent, HandlerContext, HandlerError, HandlerFn, HandlerFuture, LendContext,
    MissingState, Rejection, StateMap, With,
};
use socketio_proto::{Args, EncodeError, OwnedArgs};

use crate::context::{AckSink, SocketContext};
use crate::{Socket, lane};

/// An async function or closure of extractors that sees events before their handlers: it may refuse, change, time or log
/// them. Node: the argument of `socket.use`.
///
/// * `Ok(())` or `()` lets the event through, an error refuses it: the client is answered with the standard error, and the
///   `on_error` hook is told. Errors are [`HandlerError`]s or become one as with `?`.
/// * One that takes [`Next`] decides itself when the rest runs, and may change the event before.
/// * One that takes an [`Ack`](crate::Ack) may answer by itself.
///
/// A value with state of its own implements the trait for `A = ()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not middleware for events",
    label = "cannot decide about events",
    note = "middleware is an `async fn` or an `async |…| …` closure that returns `()` or `Result<(), HandlerError>`",
    note = "its arguments are extractors, such as `Socket`, `EventName` and `Next`, their types written out"
)]
pub trait EventMiddleware<A, Cx = EventMiddlewareContext>: Send + Sync + 'static {
    /// Extracts the arguments and calls the function.
    ///
    /// # Errors
    /// The first argument that does not fit; the event is refused.
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection>;

    /// Whether all state is there that the arguments ask for.
    ///
    /// # Errors
    /// The first that is missing.
    fn check(states: &StateMap) -> Result<(), MissingState>;
}

/// What called middleware does until it has decided.
///
/// # Cancel safety
/// Dropped when the handlers of the socket are given up: the middleware stops where it stands.
pub type EventVerdictFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'static>>;

/// What middleware for events may return: `()`, or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no verdict about an event",
    note = "middleware for events returns `()` or `Result<(), E>`, where `E` is a `HandlerError` or an error that becomes one"
)]
pub trait EventVerdict: Send {
    /// The same as a `Result`.
    ///
    /// # Errors
    /// Why the event is refused.
    fn verdict(self) -> Result<(), HandlerError>;
}

impl EventVerdict for () {
    fn verdict(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: Into<HandlerError> + Send> EventVerdict for Result<(), E> {
    fn verdict(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

impl<A, Cx, H> EventMiddleware<A, Cx> for H
where
    H: HandlerFn<A> + Send + Sync + 'static,
    A: Extract<Cx>,
    H::Output: Future<Output: EventVerdict> + Send + 'static,
{
    fn call(&self, cx: &mut Cx, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection> {
        let future = self.apply(A::extract(cx, args)?);
        Ok(Box::pin(async move { future.await.verdict() }))
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        A::check(states)
    }
}

/// What middleware for events is called with.
#[derive(Debug)]
pub struct EventMiddlewareContext {
    socket: Socket,
    ack: Arc<AckSlot>,
    next: Option<Next>,
}

impl EventMiddlewareContext {
    /// The rest of the way, for a middleware that is a value; `None` the second time. Left here, it runs afterwards.
    pub fn take_next(&mut self) -> Option<Next> {
        self.next.take()
    }
}

impl DynamicState for EventMiddlewareContext {}

impl LendContext for EventMiddlewareContext {
    fn lend(&mut self) -> Self {
        Self { socket: self.socket.clone(), ack: Arc::clone(&self.ack), next: self.next.take() }
    }

    fn take_back(&mut self, lent: Self) {
        self.next = lent.next;
    }
}

impl HandlerContext for EventMiddlewareContext {
    type Sink = AckSink;

    fn take_sink(&mut self) -> Option<AckSink> {
        self.ack.take(&self.socket)
    }

    fn states(&self) -> &StateMap {
        &self.socket.0.nsp.states
    }
}

impl SocketContext for EventMiddlewareContext {
    fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// The rest of an event's way: the middleware behind this one, then the handlers.
///
/// ```
/// use std::time::Instant;
///
/// use socketio::{EventName, HandlerError, Namespace, Next};
///
/// async fn timed(EventName(name): EventName, next: Next) -> Result<(), HandlerError> {
///     let start = Instant::now();
///     let result = next.run().await;
///     println!("{name}: {:?}, {}", start.elapsed(), if result.is_ok() { "handled" } else { "refused" });
///     result
/// }
///
/// let chat = Namespace::new("/chat").use_event(timed);
/// # let _ = chat;
/// ```
#[must_use = "an event whose `Next` is dropped reaches no handler"]
pub struct Next {
    args: Arc<OwnedArgs>,
    rest: Rest,
}

enum Rest {
    Way(Way),
    Call(Box<dyn FnOnce(OwnedArgs) -> EventVerdictFuture + Send>),
}

/// Where an event is on its way.
struct Way {
    socket: Socket,
    ack: Arc<AckSlot>,
    /// Middleware of the socket itself, behind that of the namespace.
    own: OwnMiddleware,
    index: usize,
}

/// The middleware of one socket.
pub(crate) type OwnMiddleware = Option<Arc<[BoxedEventMiddleware]>>;

impl Next {
    /// The rest of a way that is nothing but this function: to test a middleware alone.
    ///
    /// ```
    /// # use socketio::{HandlerError, Next, OwnedArgs};
    /// async fn loud(mut next: Next) -> Result<(), HandlerError> {
    ///     let text: String = next.event().deserialize()?;
    ///     next.set_args(text.to_uppercase())?;
    ///     next.run().await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let event = OwnedArgs::event("say", "hi").unwrap();
    /// let next = Next::from_fn(event, async |event: OwnedArgs| {
    ///     assert_eq!(event.deserialize::<String>().unwrap(), "HI");
    ///     Ok(())
    /// });
    /// assert!(loud(next).await.is_ok());
    /// # }
    /// ```
    pub fn from_fn<F, Fut>(event: OwnedArgs, rest: F) -> Self
    where
        F: FnOnce(OwnedArgs) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        Self { args: Arc::new(event), rest: Rest::Call(Box::new(move |event| Box::pin(rest(event)))) }
    }

    /// The event as it goes on: its name and arguments.
    pub fn event(&self) -> &OwnedArgs {
        &self.args
    }

    /// Replaces the arguments. A tuple is several, anything else one.
    ///
    /// # Errors
    /// When they cannot be serialized; the event is then as before.
    pub fn set_args(&mut self, args: impl Serialize) -> Result<(), EncodeError> {
        self.args = Arc::new(OwnedArgs::event(self.args.name(), &args)?);
        Ok(())
    }

    /// Replaces the whole event, its name too: other handlers are called then.
    pub fn set_event(&mut self, event: OwnedArgs) {
        self.args = Arc::new(event);
    }

    /// Runs the rest. It is ready when the last handler has finished.
    ///
    /// # Errors
    /// Why a middleware behind this one, or the first handler whose arguments did not fit, refused the event. The client is
    /// told what the first middleware of all returns.
    ///
    /// # Cancel safety
    /// Dropping the future stops what runs where it stands.
    pub fn run(self) -> EventVerdictFuture {
        let args = self.args;
        match self.rest {
            Rest::Way(way) => Box::pin(way.go(args)),
            Rest::Call(call) => call(Arc::unwrap_or_clone(args)),
        }
    }
}

impl FromEvent<EventMiddlewareContext> for Next {
    fn from_event(cx: &mut EventMiddlewareContext, _: &Args<'_>) -> Result<Self, Rejection> {
        #[derive(Debug, thiserror::Error)]
        #[error("a middleware takes `Next` twice")]
        struct Taken;

        cx.next.take().ok_or_else(|| Rejection::internal(Taken))
    }
}

impl<S> FromEvent<With<S, EventMiddlewareContext>> for Next {
    fn from_event(cx: &mut With<S, EventMiddlewareContext>, args: &Args<'_>) -> Result<Self, Rejection> {
        Self::from_event(cx.context_mut(), args)
    }
}

impl Way {
    async fn go(self, args: Arc<OwnedArgs>) -> Result<(), HandlerError> {
        let Self { socket, ack, own, index } = self;
        let shared = &socket.0.nsp.table.event_middleware;
        let middleware = shared
            .get(index)
            .or_else(|| own.as_deref()?.get(index - shared.len()))
            .map(|middleware| Arc::clone(&middleware.0));
        let Some(middleware) = middleware else { return lane::run_handlers(&socket, &args, &ack).await };
        let rest = Self { socket: socket.clone(), ack: Arc::clone(&ack), own, index: index + 1 };
        let next = Next { args: Arc::clone(&args), rest: Rest::Way(rest) };
        let mut context = EventMiddlewareContext { socket, ack, next: Some(next) };
        let called = middleware.call(&mut context, &args);
        drop(args);
        let next = context.next.take();
        drop(context);
        called.map_err(Rejection::into_error)?.await?;
        match next {
            Some(next) => next.run().await,
            None => Ok(()),
        }
    }
}

/// What an event goes through that has middleware; `None` where there is none.
pub(crate) fn wrap(socket: &Socket, id: &mut Option<u64>, args: &Args<'_>) -> Option<HandlerFuture> {
    let own = socket.0.own_middleware();
    if own.is_none() && socket.0.nsp.table.event_middleware.is_empty() {
        return None;
    }
    let socket = socket.clone();
    let args = Arc::new(args.to_owned());
    let ack = Arc::new(AckSlot::new(id.take()));
    Some(HandlerFuture::new(async move {
        let way = Way { socket: socket.clone(), ack: Arc::clone(&ack), own, index: 0 };
        if let Err(error) = way.go(Arc::clone(&args)).await {
            socket.0.nsp.env.counters.events_refused.add();
            socket.refuse(args.name(), &error.into(), ack.take(&socket));
        }
    }))
}

/// The acknowledgement of an event, until somebody answers.
#[derive(Debug)]
pub(crate) struct AckSlot(AtomicU64);

/// No id is as large: they end at 2^53 − 1.
const NOBODY: u64 = u64::MAX;

impl AckSlot {
    fn new(id: Option<u64>) -> Self {
        Self(AtomicU64::new(id.unwrap_or(NOBODY)))
    }

    pub(crate) fn take_id(&self) -> Option<u64> {
        let id = self.0.swap(NOBODY, Ordering::AcqRel);
        (id != NOBODY).then_some(id)
    }

    pub(crate) fn put_back(&self, id: u64) {
        self.0.store(id, Ordering::Release);
    }

    fn take(&self, socket: &Socket) -> Option<AckSink> {
        self.take_id().map(|id| AckSink { socket: socket.clone(), id })
    }
}

/// A middleware behind a pointer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BoxedEventMiddleware(Arc<dyn Erased>);

impl BoxedEventMiddleware {
    /// Of one that wants its context with a state.
    pub(crate) fn stateful<S: 'static, A: 'static>(
        middleware: impl EventMiddleware<A, With<S, EventMiddlewareContext>>,
    ) -> Self {
        Self(Arc::new(Stateful { middleware, arguments: PhantomData::<fn(A, S)> }))
    }

    pub(crate) fn new<A: 'static>(middleware: impl EventMiddleware<A>) -> Self {
        Self(Arc::new(Typed { middleware, arguments: PhantomData::<fn(A)> }))
    }

    pub(crate) fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        self.0.check(states)
    }
}

trait Erased: Send + Sync {
    fn call(&self, cx: &mut EventMiddlewareContext, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection>;
    fn check(&self, states: &StateMap) -> Result<(), MissingState>;
}

struct Stateful<M, A, S> {
    middleware: M,
    arguments: PhantomData<fn(A, S)>,
}

impl<A, S, M: EventMiddleware<A, With<S, EventMiddlewareContext>>> Erased for Stateful<M, A, S> {
    fn call(&self, cx: &mut EventMiddlewareContext, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection> {
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

impl<A, M: EventMiddleware<A>> Erased for Typed<M, A> {
    fn call(&self, cx: &mut EventMiddlewareContext, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection> {
        self.middleware.call(cx, args)
    }

    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        M::check(states)
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("event", &self.args.name()).finish_non_exhaustive()
    }
}
