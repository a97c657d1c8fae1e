//! The client for programs without async: the same code, on a thread of its own.
//!
//! ```no_run
//! use socketio_client::blocking::Client;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = Client::builder("https://example.org/chat")
//!     .on("message", |_, (from, text): (String, String)| println!("{from}: {text}"))
//!     .on("are you there", |_, ()| "yes") // answers the server
//!     .connect()?;
//! let sum: i64 = socket.emit_with_ack("add", (2, 3))?;
//! socket.emit("sum", sum);
//! socket.close();
//! # Ok(())
//! # }
//! ```
//!
//! Each connection has a thread; handlers run on threads beside it, those of one socket one after the other, and may block
//! as long as they like, also in calls of this module.
//!
//! **Not inside of an async runtime**: what would block there returns an error instead, and [`Socket::close`] does not wait.
//! That holds wherever `tokio::runtime::Handle::try_current` finds a runtime, so also for its `spawn_blocking`; there the async
//! client and `Handle::block_on` are the way.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use socketio_core::{
    AckError, Data, Reply,
    event::{AckOf, Event as TypedEvent},
};

use crate::{
    ConnectFailure, DisconnectReason, EmitError, Emitted, IntoAuth, Manager, ReceivedEvent, TransportError,
    shared::Shared,
};

/// The way in: [`Client::builder`].
#[derive(Debug, Clone, Copy)]
pub struct Client;

impl Client {
    /// A client of the server at this URL; see [`crate::Client::builder`].
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder(crate::Client::builder(url))
    }
}

/// Builds a connection and its first socket.
#[derive(Debug)]
#[must_use = "nothing happens until `connect`"]
pub struct ClientBuilder(crate::ClientBuilder);

/// Builds a socket on a connection that exists.
#[derive(Debug)]
#[must_use = "nothing happens until `connect`"]
pub struct SocketBuilder {
    builder: crate::SocketBuilder,
    thread: Option<Arc<Thread>>,
}

/// The call would block, and this is a thread of an async runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blocking call inside of an async runtime")]
pub struct InsideRuntime;

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// None came in time.
    #[error("no event came in time")]
    Timeout,
    /// There will be none: the socket is closed.
    #[error("the socket is closed")]
    Closed,
    /// The call would block, and this is a thread of an async runtime.
    #[error("{0}")]
    InsideRuntime(#[from] InsideRuntime),
}

impl ClientBuilder {
    /// Sets options of the async builder: all of them are here.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use socketio_client::blocking::Client;
    /// Client::builder("https://example.org")
    ///     .options(|builder| builder.reconnection(false).ack_timeout(Duration::from_secs(5)))
    ///     .connect()?;
    /// # Ok::<(), socketio_client::ConnectFailure>(())
    /// ```
    pub fn options(self, change: impl FnOnce(crate::ClientBuilder) -> crate::ClientBuilder) -> Self {
        Self(change(self.0))
    }

    /// Connects, and waits for the answer of the namespace.
    ///
    /// # Errors
    /// Why the first attempt failed; it is not tried again. [`ConnectFailure::InsideRuntime`].
    pub fn connect(self) -> Result<Socket, ConnectFailure> {
        may_block().map_err(|InsideRuntime| ConnectFailure::InsideRuntime)?;
        self.start()?.connect()
    }

    /// Returns at once and connects in the background, trying again as long as it takes.
    ///
    /// # Errors
    /// When an option makes no sense, or there is no thread to be had.
    pub fn connect_lazy(self) -> Result<Socket, ConnectFailure> {
        self.start()?.connect_lazy()
    }

    fn start(self) -> Result<Starting, ConnectFailure> {
        let (sender, started) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(failed(error)))),
            };
            let shared = match runtime.block_on(async { self.0.split() }) {
                Ok((manager, socket)) => {
                    let shared = Arc::clone(manager.shared());
                    // Without a taker all handles are gone at once, and so is the connection.
                    drop(sender.send(Ok((manager, socket))));
                    shared
                }
                Err(failure) => return drop(sender.send(Err(failure))),
            };
            runtime.block_on(shared.joined());
            // A handler that still runs is not waited for again.
            runtime.shutdown_background();
        };
        let handle = thread::Builder::new().name("socketio-client".to_owned()).spawn(run).map_err(failed)?;
        // The thread ends with its last word or after it.
        let (manager, builder) = started.recv().unwrap_or(Err(ConnectFailure::GaveUp))?;
        let thread = Some(Arc::new(Thread(Mutex::new(Some(handle)))));
        Ok(Starting { builder: SocketBuilder { builder, thread }, _manager: manager })
    }
}

impl SocketBuilder {
    /// Sets options of the async builder: all of them are here.
    pub fn options(mut self, change: impl FnOnce(crate::SocketBuilder) -> crate::SocketBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Joins the namespace, and waits for its answer.
    ///
    /// # Errors
    /// Why the first attempt failed; it is not tried again. [`ConnectFailure::InsideRuntime`].
    pub fn connect(self) -> Result<Socket, ConnectFailure> {
        may_block().map_err(|InsideRuntime| ConnectFailure::InsideRuntime)?;
        Ok(Socket { inner: wait(self.builder.connect())?, thread: self.thread })
    }

    /// Returns at once and joins in the background.
    ///
    /// # Errors
    /// As [`crate::SocketBuilder::connect_lazy`].
    pub fn connect_lazy(self) -> Result<Socket, ConnectFailure> {
        Ok(Socket { inner: self.builder.connect_lazy()?, thread: self.thread })
    }
}

/// The same for the builder of a connection and for that of a socket.
macro_rules! handlers {
    ($builder:ident) => {
        impl $builder {
            /// Adds a handler: it gets the socket and the arguments (all of them as a tuple, else the first), and what it
            /// returns answers the server. It may block.
            pub fn on<T, R>(self, event: &str, handler: impl Fn(&Socket, T) -> R + Send + Sync + 'static) -> Self
            where
                T: DeserializeOwned + Send + 'static,
                R: Reply + Send + 'static,
            {
                let handler = Arc::new(handler);
                let call = move |socket: crate::Socket, Data(args): Data<T>| {
                    let handler = Arc::clone(&handler);
                    aside(move || handler(&Socket::lent(socket), args))
                };
                self.options(|builder| builder.on(event, call))
            }

            /// Adds a handler of a typed event.
            pub fn on_event<E, R>(self, handler: impl Fn(&Socket, E) -> R + Send + Sync + 'static) -> Self
            where
                E: TypedEvent<Args: DeserializeOwned + Send + 'static>,
                R: Reply + AckOf<E::Ack> + Send + 'static,
            {
                self.on(E::NAME, move |socket, args| handler(socket, E::from_args(args)))
            }

            /// Calls this whenever the namespace is joined. Node: the event `connect`.
            pub fn on_connect(self, handler: impl Fn(&Socket) + Send + Sync + 'static) -> Self {
                let handler = Arc::new(handler);
                let call = move |socket| {
                    let handler = Arc::clone(&handler);
                    aside(move || handler(&Socket::lent(socket)))
                };
                self.options(|builder| builder.on_connect(call))
            }

            /// Calls this whenever the namespace is left. Node: the event `disconnect`.
            pub fn on_disconnect(self, handler: impl Fn(&Socket, DisconnectReason) + Send + Sync + 'static) -> Self {
                let handler = Arc::new(handler);
                let call = move |socket, reason| {
                    let handler = Arc::clone(&handler);
                    aside(move || handler(&Socket::lent(socket), reason))
                };
                self.options(|builder| builder.on_disconnect(call))
            }

            /// Calls this whenever an attempt fails. Node: the event `connect_error`.
            pub fn on_connect_error(self, handler: impl Fn(&Socket, ConnectFailure) + Send + Sync + 'static) -> Self {
                let handler = Arc::new(handler);
                let call = move |socket, failure| {
                    let handler = Arc::clone(&handler);
                    aside(move || handler(&Socket::lent(socket), failure))
                };
                self.options(|builder| builder.on_connect_error(call))
            }

            /// What the server is told when the namespace is joined. Node: `auth`.
            pub fn auth<M>(self, auth: impl IntoAuth<M>) -> Self {
                self.options(|builder| builder.auth(auth))
            }

            /// Asks for it at every attempt. The function may block, at most for the builder's `timeout`.
            pub fn auth_with<T, E>(self, ask: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Self
            where
                T: Serialize + Send + 'static,
                E: fmt::Display + Send + 'static,
            {
                let ask = Arc::new(ask);
                let call = move || {
                    let ask = Arc::clone(&ask);
                    async move { aside(move || ask().map_err(|error| error.to_string())).await }
                };
                self.auth(call)
            }
        }
    };
}

handlers!(ClientBuilder);
handlers!(SocketBuilder);

/// One namespace of a connection. Cheap to clone; dropping the last handle leaves it. Before a program ends [`Socket::close`]
/// waits until what was sent has left.
#[derive(Clone)]
pub struct Socket {
    inner: crate::Socket,
    /// `None` for a handle that was given to a handler.
    thread: Option<Arc<Thread>>,
}

impl Socket {
    fn lent(inner: crate::Socket) -> Self {
        Self { inner, thread: None }
    }

    /// The same socket for async code, and for what blocks nobody: ids, states, the offline buffer.
    pub fn as_async(&self) -> &crate::Socket {
        &self.inner
    }

    /// Sends an event; see [`crate::Socket::emit`].
    pub fn emit<T: Serialize>(&self, event: &str, data: T) -> Emitted {
        self.inner.emit(event, data)
    }

    /// Sends a typed event.
    pub fn emit_event<E: TypedEvent<Args: Serialize>>(&self, event: &E) -> Emitted {
        self.inner.emit_event(event)
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Errors
    /// As [`crate::Socket::emit_with_ack`]; [`AckError::NotSent`] inside of an async runtime.
    pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, data: impl Serialize) -> Result<R, AckError> {
        ask(self.inner.emit_with_ack(event, data))
    }

    /// The same, for at most so long.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub fn emit_with_ack_within<R: DeserializeOwned>(
        &self,
        timeout: Duration,
        event: &str,
        data: impl Serialize,
    ) -> Result<R, AckError> {
        ask(self.inner.timeout(timeout).emit_with_ack(event, data))
    }

    /// Sends a typed event and waits for its answer.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub fn call<E>(&self, event: &E) -> Result<E::Ack, AckError>
    where
        E: TypedEvent<Args: Serialize, Ack: DeserializeOwned>,
    {
        ask(self.inner.call(event))
    }

    /// The id that the server has given this socket, while it is connected.
    pub fn id(&self) -> Option<String> {
        self.inner.id()
    }

    /// Whether the namespace is joined.
    pub fn connected(&self) -> bool {
        self.inner.connected()
    }

    /// The events that no handler takes; see [`crate::Socket::events`].
    pub fn events(&self) -> Events {
        Events { inner: self.inner.events(), thread: self.thread.clone() }
    }

    /// Another namespace on the same connection.
    pub fn namespace(&self, namespace: &str) -> SocketBuilder {
        SocketBuilder { builder: self.inner.namespace(namespace), thread: self.thread.clone() }
    }

    /// Asks for the namespace again, after a refusal or a disconnection.
    pub fn connect(&self) {
        self.inner.connect();
    }

    /// Waits until the namespace is joined, however long that takes.
    ///
    /// # Errors
    /// Why it will not be joined without [`Socket::connect`]; [`ConnectFailure::InsideRuntime`].
    pub fn joined(&self) -> Result<(), ConnectFailure> {
        may_block().map_err(|InsideRuntime| ConnectFailure::InsideRuntime)?;
        wait(self.inner.joined())
    }

    /// Leaves the namespace.
    pub fn disconnect(&self) {
        self.inner.disconnect();
    }

    /// Waits until the socket is disconnected and will not connect again by itself.
    ///
    /// # Errors
    /// Inside of an async runtime.
    pub fn closed(&self) -> Result<(), InsideRuntime> {
        may_block()?;
        wait(self.inner.closed());
        Ok(())
    }

    /// Leaves the namespace for good. If it was the last one of its connection, waits until that is closed and its thread has
    /// ended, at most some seconds; a handler does not wait.
    pub fn close(self) {
        let shared = Arc::clone(&self.inner.inner.shared);
        let closing = self.inner.close();
        if may_block().is_err() || IN_HANDLER.get() {
            // One step is enough to leave.
            let _ = pin!(closing).poll(&mut Context::from_waker(Waker::noop()));
            return;
        }
        wait(closing);
        if let Some(thread) = self.thread {
            thread.join(&shared);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The events of a socket that no handler takes. As an iterator it waits for the next one and ends with the socket (inside of an
/// async runtime: at once).
#[derive(Debug)]
pub struct Events {
    inner: crate::Events,
    thread: Option<Arc<Thread>>,
}

impl Events {
    /// Waits for the next event, however long that takes.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`], [`ReceiveError::InsideRuntime`].
    pub fn receive(&mut self) -> Result<ReceivedEvent, ReceiveError> {
        self.receive_until(None)
    }

    /// Waits for the next event, for at most so long.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive_within(&mut self, timeout: Duration) -> Result<ReceivedEvent, ReceiveError> {
        self.receive_until(Instant::now().checked_add(timeout))
    }

    fn receive_until(&mut self, until: Option<Instant>) -> Result<ReceivedEvent, ReceiveError> {
        may_block()?;
        wait_until(self.inner.next(), until).ok_or(ReceiveError::Timeout)?.ok_or(ReceiveError::Closed)
    }

    /// The socket.
    pub fn socket(&self) -> Socket {
        Socket { inner: self.inner.socket().clone(), thread: self.thread.clone() }
    }
}

impl Iterator for Events {
    type Item = ReceivedEvent;

    fn next(&mut self) -> Option<ReceivedEvent> {
        self.receive().ok()
    }
}

/// A client without handlers, for scripts, tests and tools.
///
/// ```no_run
/// # use socketio_client::blocking::SimpleClient;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = SimpleClient::connect("http://localhost:3000/chat")?;
/// client.emit("message", "hello")?;
/// let sum: i64 = client.call("add", (2, 3))?;
/// let event = client.receive()?;
/// println!("{}: {:?}; {sum}", event.name(), event.data::<String>());
/// client.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SimpleClient {
    events: Events,
    timeout: Duration,
}

impl SimpleClient {
    /// Connects to the namespace that is the path of the URL.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect(url: &str) -> Result<Self, ConnectFailure> {
        Self::from_builder(Client::builder(url))
    }

    /// Connects as the builder says. Events that its handlers take are not [received](Self::receive).
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn from_builder(builder: ClientBuilder) -> Result<Self, ConnectFailure> {
        Ok(Self { events: builder.connect()?.events(), timeout: Duration::from_secs(60) })
    }

    /// How long [`call`](Self::call) waits for an answer. Default: 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn emit(&self, event: &str, data: impl Serialize) -> Result<(), EmitError> {
        self.events.inner.socket().emit(event, data).result()
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    pub fn call<R: DeserializeOwned>(&self, event: &str, data: impl Serialize) -> Result<R, AckError> {
        ask(self.events.inner.socket().timeout(self.timeout).emit_with_ack(event, data))
    }

    /// Waits for the next event, in the order they came.
    ///
    /// # Errors
    /// As [`Events::receive`].
    pub fn receive(&mut self) -> Result<ReceivedEvent, ReceiveError> {
        self.events.receive()
    }

    /// The same, for at most so long.
    ///
    /// # Errors
    /// As [`Events::receive_within`].
    pub fn receive_within(&mut self, timeout: Duration) -> Result<ReceivedEvent, ReceiveError> {
        self.events.receive_within(timeout)
    }

    /// The socket behind it.
    pub fn socket(&self) -> Socket {
        self.events.socket()
    }

    /// Says goodbye and waits until the connection is closed; see [`Socket::close`].
    pub fn close(self) {
        let socket = self.socket();
        drop(self);
        socket.close();
    }
}

/// The first socket, and the handle that keeps the connection until it exists.
struct Starting {
    builder: SocketBuilder,
    _manager: Manager,
}

impl Starting {
    fn connect(self) -> Result<Socket, ConnectFailure> {
        self.builder.connect()
    }

    fn connect_lazy(self) -> Result<Socket, ConnectFailure> {
        self.builder.connect_lazy()
    }
}

/// The thread of a connection.
struct Thread(Mutex<Option<JoinHandle<()>>>);

impl Thread {
    /// Waits for the thread, if its task has ended.
    fn join(&self, shared: &Shared) {
        if *shared.done.borrow()
            && let Some(handle) = self.0.lock().take()
        {
            // What panicked there was reported there.
            drop(handle.join());
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

thread_local! {
    /// This thread runs handlers: it may block although a runtime is about.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
}

fn may_block() -> Result<(), InsideRuntime> {
    let inside = tokio::runtime::Handle::try_current().is_ok() && !IN_HANDLER.get();
    if inside { Err(InsideRuntime) } else { Ok(()) }
}

/// Runs code of the application where it may block.
async fn aside<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> R {
    let running = tokio::task::spawn_blocking(move || {
        IN_HANDLER.set(true);
        call()
    });
    match running.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is going.
        Err(Err(_)) => std::future::pending().await,
    }
}

fn ask<R>(asked: impl Future<Output = Result<R, AckError>>) -> Result<R, AckError> {
    may_block().map_err(|error| AckError::NotSent(error.to_string()))?;
    wait(asked)
}

/// Runs a future on this thread. What it waits for happens on the connection's.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = wait_until(future.as_mut(), None) {
            return output;
        }
    }
}

/// The same until some time.
fn wait_until<F: Future>(future: F, until: Option<Instant>) -> Option<F::Output> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

fn failed(error: std::io::Error) -> ConnectFailure {
    ConnectFailure::Transport(Arc::new(TransportError::Io(error)))
}
