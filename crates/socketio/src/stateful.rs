//! A namespace whose state the compiler checks.

use std::fmt;
use std::marker::PhantomData;

use socketio_core::{BoxedHandler, EventHandler, Handler, With};

use crate::context::{ConnectContext, DisconnectContext, EventContext};
use crate::event_middleware::BoxedEventMiddleware;
use crate::middleware::BoxedMiddleware;
use crate::{Event, EventMiddleware, EventMiddlewareContext, Middleware, Namespace};

/// A namespace whose handlers take parts of one state `S`, and nothing else, as [`State<T>`](crate::State): the compiler sees
/// to it. Made by [`Namespace::stateful`]; [`with_state`](Self::with_state) makes it a [`Namespace`].
///
/// ```
/// use socketio::{Data, FromRef, Namespace, State};
///
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
///
/// let chat: Namespace = Namespace::stateful("/chat")
///     .on("save", async |State(database): State<Database>, Data(text): Data<String>| {
///         let _ = (database, text);
///     })
///     .with_state(App { database: Database });
/// # let _ = chat;
/// ```
///
/// A state that is not there does not compile:
///
/// ```compile_fail,E0277
/// # use socketio::{Namespace, State};
/// struct App;
///
/// let chat = Namespace::stateful::<App>("/chat").on("save", async |State(no): State<u64>| no).with_state(App);
/// ```
#[must_use = "a namespace does nothing until it is given to a server"]
pub struct StatefulNamespace<S> {
    inner: Namespace,
    state: PhantomData<fn(S)>,
}

/// The methods have the meaning that they have for [`Namespace`].
impl<S: Send + Sync + 'static> StatefulNamespace<S> {
    pub(crate) fn new(inner: Namespace) -> Self {
        Self { inner, state: PhantomData }
    }

    /// Gives the state.
    pub fn with_state(mut self, state: S) -> Namespace {
        self.inner.states.insert(state);
        self.inner
    }

    /// Changes what has no handler, or one that takes no state: `configure(|namespace| namespace.concurrent(4))`.
    pub fn configure(mut self, change: impl FnOnce(Namespace) -> Namespace) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// [`Namespace::use_`].
    pub fn use_<A: 'static>(mut self, middleware: impl Middleware<A, With<S, ConnectContext>>) -> Self {
        self.inner.table.middleware.push(BoxedMiddleware::stateful(middleware));
        self
    }

    /// [`Namespace::use_event`].
    pub fn use_event<A: 'static>(
        mut self,
        middleware: impl EventMiddleware<A, With<S, EventMiddlewareContext>>,
    ) -> Self {
        self.inner.table.event_middleware.push(BoxedEventMiddleware::stateful(middleware));
        self
    }

    /// [`Namespace::on_connect`].
    pub fn on_connect<A: 'static>(mut self, handler: impl Handler<With<S, ConnectContext>, A>) -> Self {
        self.inner.table.connect.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::on`].
    pub fn on<A: 'static>(mut self, event: &str, handler: impl Handler<With<S, EventContext>, A>) -> Self {
        self.inner.table.entry(event).handlers.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::on_event`].
    pub fn on_event<A: 'static, P, H: EventHandler<With<S, EventContext>, A, P>>(mut self, handler: H) -> Self {
        self.inner.table.entry(<H::Event as Event>::NAME).handlers.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::on_any`].
    pub fn on_any<A: 'static>(mut self, handler: impl Handler<With<S, EventContext>, A>) -> Self {
        self.inner.table.any.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::fallback`].
    pub fn fallback<A: 'static>(mut self, handler: impl Handler<With<S, EventContext>, A>) -> Self {
        self.inner.table.fallback.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::on_disconnecting`].
    pub fn on_disconnecting<A: 'static>(mut self, handler: impl Handler<With<S, DisconnectContext>, A>) -> Self {
        self.inner.table.disconnecting.push(BoxedHandler::stateful(handler));
        self
    }

    /// [`Namespace::on_disconnect`].
    pub fn on_disconnect<A: 'static>(mut self, handler: impl Handler<With<S, DisconnectContext>, A>) -> Self {
        self.inner.table.disconnect.push(BoxedHandler::stateful(handler));
        self
    }
}

impl<S> fmt::Debug for StatefulNamespace<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatefulNamespace").field(&self.inner).finish()
    }
}
