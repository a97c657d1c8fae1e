//! State that the compiler checks: handlers of a context [`With`] a state may only take what that state holds.

use std::marker::PhantomData;

use crate::{HandlerContext, MissingState, StateMap};

/// A part of an application's state `S`, to be taken as [`State`](crate::State) of its own type.
///
/// A state is a part of itself.
///
/// ```
/// # use socketio_core::FromRef;
/// #[derive(Clone)]
/// struct Database;
///
/// struct App {
///     database: Database,
/// }
///
/// impl FromRef<App> for Database {
///     fn from_ref(app: &App) -> Self {
///         app.database.clone()
///     }
/// }
/// ```
pub trait FromRef<S> {
    /// The part.
    fn from_ref(state: &S) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

/// A context whose handlers may take `State<T>`.
///
/// You do not implement this; see [`DynamicState`] and [`FromRef`].
#[diagnostic::on_unimplemented(
    message = "handlers of this context cannot take `State<{T}>`",
    label = "`{T}` is not a part of the state",
    note = "a part of the state implements `FromRef` of the whole: `impl FromRef<App> for {T}`"
)]
pub trait HasState<T>: HandlerContext {
    /// The value; `None` where nobody has stored one.
    fn state(&self) -> Option<T>;

    /// Whether there will be one.
    ///
    /// # Errors
    /// What is missing.
    fn check(states: &StateMap) -> Result<(), MissingState>;
}

/// A context whose state is looked up by type: any `State<T>` may be asked for, and whether it is there is checked when a
/// server or client is built.
pub trait DynamicState: HandlerContext {}

impl<Cx: DynamicState, T: Clone + Send + Sync + 'static> HasState<T> for Cx {
    fn state(&self) -> Option<T> {
        self.states().get::<T>().cloned()
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        states.get::<T>().map(|_| ()).ok_or(MissingState::of::<T>())
    }
}

/// A context that can be handed to a handler of [`With`], and be taken back.
pub trait LendContext: HandlerContext + Sized {
    /// The same context; what there is once goes with it.
    fn lend(&mut self) -> Self;

    /// Takes back what there is once and was not used.
    fn take_back(&mut self, lent: Self);
}

/// The context `Cx` in an application whose state is an `S`: handlers may take an `S` as [`State`](crate::State), and all that
/// is [`FromRef`] of it.
#[derive(Debug)]
pub struct With<S, Cx> {
    context: Cx,
    state: PhantomData<fn() -> S>,
}

impl<S, Cx> With<S, Cx> {
    /// The context itself.
    pub fn context(&self) -> &Cx {
        &self.context
    }

    /// The context itself.
    pub fn context_mut(&mut self) -> &mut Cx {
        &mut self.context
    }

    /// Calls something that wants this context, in the place of one that wants `Cx`.
    pub fn lent<R>(context: &mut Cx, call: impl FnOnce(&mut Self) -> R) -> R
    where
        Cx: LendContext,
    {
        let mut with = Self { context: context.lend(), state: PhantomData };
        let result = call(&mut with);
        context.take_back(with.context);
        result
    }
}

impl<S, Cx: HandlerContext> HandlerContext for With<S, Cx> {
    type Sink = Cx::Sink;

    fn take_sink(&mut self) -> Option<Cx::Sink> {
        self.context.take_sink()
    }

    fn states(&self) -> &StateMap {
        self.context.states()
    }
}

impl<S: Send + Sync + 'static, Cx: HandlerContext, T: FromRef<S>> HasState<T> for With<S, Cx> {
    fn state(&self) -> Option<T> {
        self.states().get::<S>().map(T::from_ref)
    }

    fn check(states: &StateMap) -> Result<(), MissingState> {
        states.get::<S>().map(|_| ()).ok_or(MissingState::of::<S>())
    }
}
