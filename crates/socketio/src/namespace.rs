//! A namespace as a value: its handlers, built in its own module and given to a server.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use socketio_core::{BoxedHandler, Event, EventHandler, Handler, MissingState, Rejection, StateMap};
use socketio_proto::{OwnedArgs, is_valid_namespace};

use crate::context::{ConnectContext, DisconnectContext, EventContext};
use crate::dynamic::Rule;
use crate::env::ErrorHook;
use crate::event_middleware::{BoxedEventMiddleware, EventMiddleware};
use crate::middleware::{BoxedMiddleware, Middleware};
use crate::outgoing::OutgoingListener;
use crate::peers::ServerEventContext;
use crate::recovery::{ExpiredSession, ExpiryHook};
use crate::room_events::RoomHook;
use crate::{BuildError, Limits, NamespaceHandle, Policy, RateLimit, RoomEvent, Socket, StatefulNamespace};

/// A namespace: what is done with the sockets that connect to it.
///
/// Handlers are registered once, as routes are, and shared by all sockets. A handler is an async function whose arguments
/// are extractors and whose return value is the acknowledgement.
///
/// ```
/// use socketio::{Data, Namespace, Socket};
///
/// let chat = Namespace::new("/chat")
///     .on_connect(async |socket: Socket| {
///         socket.join("lobby");
///     })
///     .on("message", async |socket: Socket, Data(text): Data<String>| {
///         socket.to("lobby").emit("message", (socket.id(), text));
///     })
///     .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
/// # let _ = chat;
/// ```
#[must_use = "a namespace does nothing until it is given to a server"]
pub struct Namespace {
    pub(crate) name: Box<str>,
    pub(crate) table: Table,
    pub(crate) states: StateMap,
    pub(crate) on_error: Option<ErrorHook>,
    /// Which names it stands for, if not only its own.
    pub(crate) rule: Option<Result<Rule, String>>,
}

/// The handlers of a namespace, as the dispatcher looks them up.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) middleware: Vec<BoxedMiddleware>,
    pub(crate) event_middleware: Vec<BoxedEventMiddleware>,
    pub(crate) connect: Vec<BoxedHandler<ConnectContext>>,
    pub(crate) any: Vec<BoxedHandler<EventContext>>,
    pub(crate) entries: Vec<Entry>,
    names: HashMap<Box<str>, usize>,
    pub(crate) fallback: Vec<BoxedHandler<EventContext>>,
    pub(crate) outgoing: Vec<OutgoingListener>,
    pub(crate) room_hook: Option<RoomHook>,
    pub(crate) server_events: HashMap<Box<str>, Vec<BoxedHandler<ServerEventContext>>>,
    pub(crate) disconnecting: Vec<BoxedHandler<DisconnectContext>>,
    pub(crate) disconnect: Vec<BoxedHandler<DisconnectContext>>,
    /// How many events of one socket may be handled at once; `None` keeps them in order.
    pub(crate) concurrent: Option<usize>,
    pub(crate) on_session_expired: Option<ExpiryHook>,
    pub(crate) rates: Vec<RateLimit>,
    pub(crate) policy: Option<Box<dyn Policy>>,
    /// Some event has a number of its own.
    pub(crate) mixed: bool,
}

/// What belongs to the name of one event.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) handlers: SmallVec<[BoxedHandler<EventContext>; 1]>,
    pub(crate) concurrent: Option<usize>,
}

impl Namespace {
    /// A namespace of this name without handlers. Everybody may connect to it.
    ///
    /// A leading `/` is added where it is missing, as in Node.
    pub fn new(name: impl Into<String>) -> Self {
        let mut name = name.into();
        if !name.starts_with('/') {
            name.insert(0, '/');
        }
        Self { name: name.into(), table: Table::default(), states: StateMap::new(), on_error: None, rule: None }
    }

    /// A namespace whose handlers take parts of one state, which the compiler checks; see [`StatefulNamespace`].
    ///
    /// With [`state`](Self::state) it is checked when the server is built.
    pub fn stateful<S: Send + Sync + 'static>(name: impl Into<String>) -> StatefulNamespace<S> {
        StatefulNamespace::new(Self::new(name))
    }

    /// Makes any namespace one whose further handlers take parts of one state, a [pattern](Self::pattern) for example.
    pub fn into_stateful<S: Send + Sync + 'static>(self) -> StatefulNamespace<S> {
        StatefulNamespace::new(self)
    }

    /// All namespaces whose names fit a pattern, such as `/project/{id}`: a *dynamic* namespace.
    ///
    /// `{id}` is a part of the name without a slash, `{*path}` everything up to its end; handlers take them as
    /// [`NameParams`](crate::NameParams). Each namespace is made when the first client asks for it, with the handlers,
    /// middleware and state of this one, and has rooms of its own. A pattern that makes no sense is an error of `build`.
    ///
    /// Names that the server was built with come first, then dynamic namespaces in the order in which they were given.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        let mut namespace = Self::new(pattern);
        namespace.rule = Some(Rule::pattern(&namespace.name));
        namespace
    }

    /// All namespaces whose whole names match a regular expression of the crate `regex`. Node: `of(/^…$/)`, where a
    /// part of the name is enough unless the expression says `^` and `$`.
    ///
    /// Otherwise as [`pattern`](Self::pattern); named groups are the parts.
    pub fn regex(regex: impl Into<String>) -> Self {
        let regex = regex.into();
        let rule = Rule::regex(&regex);
        Self { name: regex.into(), rule: Some(rule), ..Self::new("") }
    }

    /// All namespaces that an async predicate allows: it is given the name that a client asks for, and its `auth` payload.
    ///
    /// It is asked about every client, as its `auth` is its own; Node asks about the first one of each name. A payload that
    /// does not fit the type of the predicate's argument is not allowed. It has `connect_timeout` together with the
    /// middleware. `name` stands for all of them in [`SocketIo::of_pattern`](crate::SocketIo::of_pattern). Node:
    /// `of((name, auth, next) => …)`.
    ///
    /// ```
    /// use socketio::Namespace;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Login {
    ///     tenant: String,
    /// }
    ///
    /// let tenants = Namespace::when("tenants", async |name: String, login: Login| name == format!("/{}", login.tenant));
    /// # let _ = tenants;
    /// ```
    pub fn when<T, F, Fut>(name: impl Into<String>, predicate: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(String, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self { name: name.into().into(), rule: Some(Ok(Rule::predicate(predicate))), ..Self::new("") }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a value for the handlers of this namespace, who take it as [`State<T>`](crate::State). It wins over a value of
    /// the same type that the whole server has.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Adds middleware: it runs, in order, for each client that asks for this namespace, and may refuse it.
    ///
    /// Until all have agreed the socket is not connected; what it joins is kept for then. Node: `use`.
    ///
    /// ```
    /// use socketio::{Auth, ConnectError, Namespace, Socket};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Token {
    ///     token: String,
    /// }
    ///
    /// let admin = Namespace::new("/admin").use_(async |socket: Socket, Auth(auth): Auth<Token>| {
    ///     if auth.token != "secret" {
    ///         return Err(ConnectError::new("not authorized"));
    ///     }
    ///     socket.join("admins");
    ///     Ok(())
    /// });
    /// # let _ = admin;
    /// ```
    pub fn use_<A: 'static>(mut self, middleware: impl Middleware<A>) -> Self {
        self.table.middleware.push(BoxedMiddleware::new(middleware));
        self
    }

    /// Adds middleware around the events of all sockets: it runs, in order, before the handlers of each event. Node:
    /// `socket.use`.
    ///
    /// It takes what handlers take, and [`Next`](crate::Next) if something is to happen behind the handlers too. An error
    /// refuses the event: see [`EventMiddleware`].
    ///
    /// ```
    /// use socketio::{EventName, HandlerError, Namespace, Socket};
    ///
    /// let chat = Namespace::new("/chat").use_event(async |socket: Socket, EventName(name): EventName| {
    ///     if name.starts_with("admin:") && !socket.is_in("admins") {
    ///         return Err(HandlerError::new("forbidden", "only for admins"));
    ///     }
    ///     Ok(())
    /// });
    /// # let _ = chat;
    /// ```
    pub fn use_event<A: 'static>(mut self, middleware: impl EventMiddleware<A>) -> Self {
        self.table.event_middleware.push(BoxedEventMiddleware::new(middleware));
        self
    }

    /// Adds a limit to how often events come, or how often sockets send to a room. An event is counted by each limit, in order,
    /// before middleware sees it.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.table.rates.push(limit);
        self
    }

    /// Asks `policy` what clients may do: join the namespace and rooms, send events, have something sent in their name. What
    /// it does not allow is forbidden. A second one takes the place of the first.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.table.policy = Some(Box::new(policy));
        self
    }

    /// Calls `handler` for each socket that has connected, before any of its events. Node: `on("connection")`.
    ///
    /// What the client sends waits until it has finished; answers to what it asks the client do not. Where an argument of
    /// it does not fit, [`Auth`](crate::Auth) for example, the client is refused before it was connected.
    pub fn on_connect<A: 'static>(mut self, handler: impl Handler<ConnectContext, A>) -> Self {
        self.table.connect.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for every event of this name. Node: `on`.
    ///
    /// What it returns is the acknowledgement, if the client asked for one: `()` an empty one, a tuple several values, `Err`
    /// the standard error shape. Several handlers of one event run in the order of registration; the first that returns
    /// something answers. Events of one socket are handled one after the other.
    pub fn on<A: 'static>(mut self, event: &str, handler: impl Handler<EventContext, A>) -> Self {
        self.table.entry(event).handlers.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for every event of the typed event among its arguments.
    pub fn on_event<A: 'static, P, H: EventHandler<EventContext, A, P>>(mut self, handler: H) -> Self {
        self.table.entry(<H::Event as Event>::NAME).handlers.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for every event, before those that are registered by name. Node: `onAny`.
    pub fn on_any<A: 'static>(mut self, handler: impl Handler<EventContext, A>) -> Self {
        self.table.any.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `listener` for every event that was queued for a socket of this namespace, by an emit or a broadcast; not for
    /// acknowledgements, and not for what the listener itself sends. Node: `onAnyOutgoing`.
    ///
    /// It runs where the event is sent, once for each recipient: be short.
    pub fn on_any_outgoing(mut self, listener: impl Fn(&Socket, &OwnedArgs) + Send + Sync + 'static) -> Self {
        self.table.outgoing.push(Arc::new(listener));
        self
    }

    /// Tells `hook` what happens to the rooms of this namespace on this server: rooms are created and deleted, sockets join
    /// and leave. The room of a socket's own id is a room too. Node: the adapter's events `create-room`, `join-room`,
    /// `leave-room` and `delete-room`.
    ///
    /// It is told in the order in which it happened, soon after it happened, by whoever made it happen: be short.
    ///
    /// ```
    /// use socketio::{Namespace, RoomEvent};
    ///
    /// let chat = Namespace::new("/chat").on_room_event(|namespace, event| match event {
    ///     RoomEvent::Create(room) => println!("{room} is new in {}", namespace.name()),
    ///     RoomEvent::Join { room, id } => println!("{id} has joined {room}"),
    ///     RoomEvent::Leave { room, id } => println!("{id} has left {room}"),
    ///     RoomEvent::Delete(room) => println!("{room} is empty"),
    /// });
    /// # let _ = chat;
    /// ```
    pub fn on_room_event(mut self, hook: impl Fn(&NamespaceHandle, &RoomEvent) + Send + Sync + 'static) -> Self {
        self.table.room_hook = Some(Arc::new(hook));
        self
    }

    /// Calls `handler` for every event of this name that another server of the cluster sends with
    /// [`server_side_emit`](NamespaceHandle::server_side_emit). Node: `on` of the server or namespace.
    ///
    /// What it returns is the answer. Its arguments are `Data<T>`, `State<T>`, `EventName`, `OwnedArgs`,
    /// [`NamespaceHandle`] and [`SocketIo`](crate::SocketIo); there is no socket.
    pub fn on_server_event<A: 'static>(mut self, event: &str, handler: impl Handler<ServerEventContext, A>) -> Self {
        self.table.server_events.entry(event.into()).or_default().push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for every event that no handler is registered for. Without one such events are counted, and not
    /// acknowledged.
    pub fn fallback<A: 'static>(mut self, handler: impl Handler<EventContext, A>) -> Self {
        self.table.fallback.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for each socket that is about to leave, its rooms still set. Node: `disconnecting`.
    pub fn on_disconnecting<A: 'static>(mut self, handler: impl Handler<DisconnectContext, A>) -> Self {
        self.table.disconnecting.push(BoxedHandler::new(handler));
        self
    }

    /// Calls `handler` for each socket that has left. Node: `disconnect`.
    ///
    /// Every socket whose connect handlers were called gets this call, whatever ended it.
    pub fn on_disconnect<A: 'static>(mut self, handler: impl Handler<DisconnectContext, A>) -> Self {
        self.table.disconnect.push(BoxedHandler::new(handler));
        self
    }

    /// Lets up to `most` events of one socket be handled at once, in no order. Default: one after the other.
    ///
    /// # Panics
    /// When `most` is 0.
    pub fn concurrent(mut self, most: usize) -> Self {
        assert!(most > 0, "at least one event must be handled at a time");
        self.table.concurrent = (most > 1).then_some(most);
        self
    }

    /// Lets up to `most` events of this name and one socket be handled at once, beside all other events.
    ///
    /// # Panics
    /// When `most` is 0.
    pub fn concurrent_event(mut self, event: &str, most: usize) -> Self {
        assert!(most > 0, "at least one event must be handled at a time");
        self.table.entry(event).concurrent = Some(most);
        self.table.mixed = true;
        self
    }

    /// Is told of every event whose handler could not be called because an argument did not fit: the socket, the name of
    /// the event and the error, which is also what the client is answered. Runs on the connection's task: be short.
    pub fn on_error(mut self, hook: impl Fn(&Socket, &str, &Rejection) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Is told of every client that had lost its connection and will not get its socket back, where
    /// [`connection_state_recovery`](crate::Builder::connection_state_recovery) is on: the place to give up what was kept
    /// for it. Runs on a task of the server: be short.
    pub fn on_session_expired(mut self, hook: impl Fn(&ExpiredSession) + Send + Sync + 'static) -> Self {
        self.table.on_session_expired = Some(Arc::new(hook));
        self
    }

    /// Checks everything that can be checked, and takes over the state that the whole server has.
    pub(crate) fn finish(&mut self, states: &StateMap, limits: &Limits) -> Result<(), BuildError> {
        let name = || String::from(&*self.name);
        match &self.rule {
            Some(Err(message)) => return Err(BuildError::InvalidPattern { pattern: name(), message: message.clone() }),
            None if !is_valid_namespace(&self.name, limits.max_namespace_name) => {
                return Err(BuildError::InvalidNamespace(name()));
            }
            Some(Ok(_)) | None => {}
        }
        self.states.extend_missing(states);
        self.check(&self.states).map_err(|missing| BuildError::MissingState { namespace: name(), missing })
    }

    /// Whether all state is there that handlers ask for.
    fn check(&self, states: &StateMap) -> Result<(), MissingState> {
        let server_events = self.table.server_events.values().flatten();
        server_events.into_iter().try_for_each(|handler| handler.check(states))?;
        let Table { middleware, event_middleware, connect, any, entries, fallback, disconnecting, disconnect, .. } =
            &self.table;
        middleware.iter().try_for_each(|middleware| middleware.check(states))?;
        event_middleware.iter().try_for_each(|middleware| middleware.check(states))?;
        connect.iter().try_for_each(|handler| handler.check(states))?;
        let named = entries.iter().flat_map(|entry| &entry.handlers);
        any.iter().chain(named).chain(fallback).try_for_each(|handler| handler.check(states))?;
        disconnecting.iter().chain(disconnect).try_for_each(|handler| handler.check(states))
    }
}

impl Table {
    /// Whether events have to be let through by something that is no middleware.
    pub(crate) fn is_guarded(&self) -> bool {
        self.policy.is_some() || !self.rates.is_empty()
    }

    /// Whether what sockets send to others has to be let through.
    pub(crate) fn guards_emits(&self) -> bool {
        self.policy.is_some() || self.rates.iter().any(RateLimit::is_of_rooms)
    }

    /// The entry of this event.
    pub(crate) fn find(&self, event: &str) -> Option<usize> {
        self.names.get(event).copied()
    }

    pub(crate) fn entry(&mut self, event: &str) -> &mut Entry {
        let Self { names, entries, .. } = self;
        let index = *names.entry(event.into()).or_insert_with(|| {
            entries.push(Entry::default());
            entries.len() - 1
        });
        &mut entries[index]
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("events", &self.table.names.keys())
            .finish_non_exhaustive()
    }
}
