//! The server: its namespaces, and the handle through which the application reaches them.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use engineio::{EngineLayer, EngineService, NotFound, Server};
use hashbrown::HashMap;
use parking_lot::RwLock;
use socketio_core::StateMap;
use tokio::net::{TcpListener, ToSocketAddrs};

use crate::connection::Connection;
use crate::dynamic::Parent;
use crate::env::Env;
use crate::nsp::Nsp;
use crate::{BuildError, Builder, Health, Limits, Namespace, NamespaceHandle, Operators, ParentNamespace, Stats};

/// What connections and handles share.
pub(crate) struct Hub {
    pub(crate) env: Arc<Env>,
    /// Guards which names there are. Connections look theirs up when they join.
    pub(crate) names: RwLock<Names>,
    /// A server without namespaces of this name still has a `/` to address.
    root: Arc<Nsp>,
    /// What handlers of all namespaces may ask for.
    states: StateMap,
    /// Weak: the engine holds the hub.
    engine: OnceLock<Weak<Engine>>,
}

/// The names of a server.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) fixed: HashMap<Box<str>, Arc<Nsp>>,
    /// In the order in which they are asked.
    pub(crate) parents: Vec<Arc<Parent>>,
}

impl Names {
    /// Adds a namespace that was checked. `Ok(None)` for a dynamic one.
    pub(crate) fn add(&mut self, namespace: Namespace, env: &Arc<Env>) -> Result<Option<Arc<Nsp>>, BuildError> {
        let Namespace { name, table, states, on_error, rule } = namespace;
        if self.fixed.contains_key(&name) || self.parents.iter().any(|parent| parent.name == name) {
            return Err(BuildError::DuplicateNamespace(name.into()));
        }
        let (env, table) = (Arc::clone(env), Arc::new(table));
        if let Some(Ok(rule)) = rule {
            self.parents.push(Arc::new(Parent::new(name, rule, env, table, states, on_error)));
            return Ok(None);
        }
        let nsp = Arc::new(Nsp::new(name.clone(), env, table, states, on_error, None));
        nsp.join_cluster();
        self.fixed.insert(name, Arc::clone(&nsp));
        Ok(Some(nsp))
    }
}

/// The engine, held by the handles of the application.
struct Engine(Server<App>);

/// A Socket.IO server on top of the engine. A name for types: `EngineService<_, App>`.
pub struct App {
    pub(crate) hub: Arc<Hub>,
}

impl engineio::Application for App {
    type Connection = Connection;

    fn open(&self, session: &engineio::Session) -> Connection {
        Connection::open(Arc::clone(&self.hub), session)
    }
}

/// The tower layer of a server: see [`SocketIo::layer`].
pub type SocketIoLayer = EngineLayer<App>;

/// The tower service of a server around another service: see [`SocketIo::service`].
pub type SocketIoService<S = NotFound> = EngineService<S, App>;

/// A Socket.IO server: the handle of the application. Cloning it is cheap.
///
/// What it sends goes to the namespace `/`; [`of`](Self::of) addresses another. The server lives as long as a handle, a
/// service or a connection of it.
#[derive(Clone)]
pub struct SocketIo {
    pub(crate) hub: Arc<Hub>,
    engine: Option<Arc<Engine>>,
}

impl SocketIo {
    /// Starts to build a server.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(
        env: Arc<Env>,
        names: Names,
        states: StateMap,
        engine: engineio::Builder,
    ) -> Result<Self, engineio::InvalidOption> {
        let nobody = || {
            let nsp = Nsp::new("/".into(), Arc::clone(&env), Arc::default(), StateMap::new(), None, None);
            let nsp = Arc::new(nsp);
            // Who has no `/` here may still address that of others.
            nsp.join_cluster();
            nsp
        };
        let root = names.fixed.get("/").cloned().unwrap_or_else(nobody);
        let cluster = env.cluster.clone();
        let hub = Arc::new(Hub { env, names: RwLock::new(names), states, root, engine: OnceLock::new() });
        if let Some(cluster) = cluster {
            cluster.runs(&hub);
        }
        let engine = Arc::new(Engine(engine.build(App { hub: Arc::clone(&hub) })?));
        if let (Some(cluster), Some(forwarding)) = (&hub.env.cluster, engine.0.forwarding()) {
            cluster.forwards(forwarding);
        }
        // Nobody else has seen the hub yet, so this is the first and only value.
        let _ = hub.engine.set(Arc::downgrade(&engine));
        Ok(Self { hub, engine: Some(engine) })
    }

    pub(crate) fn from_hub(hub: Arc<Hub>) -> Self {
        let engine = hub.engine.get().and_then(Weak::upgrade);
        Self { hub, engine }
    }

    /// The namespace of this name, to address it.
    ///
    /// One that fits a [pattern](Namespace::pattern) is made if need be. A namespace that the server does not know reaches
    /// nobody, and a warning says so; [`namespace`](Self::namespace) tells whether it exists. Node: `of`.
    pub fn of(&self, name: &str) -> NamespaceHandle {
        let nsp = self.hub.find(name).unwrap_or_else(|| {
            tracing::warn!(name, "a namespace is addressed that the server does not know");
            self.hub.detached(name)
        });
        NamespaceHandle::new(nsp)
    }

    /// The namespace of this name, if it exists.
    pub fn namespace(&self, name: &str) -> Option<NamespaceHandle> {
        let names = self.hub.names.read();
        let fixed = names.fixed.get(name).cloned();
        let nsp = fixed.or_else(|| names.parents.iter().find_map(|parent| parent.existing(name)));
        nsp.map(NamespaceHandle::new)
    }

    /// The dynamic namespace that was built with this pattern, regular expression or name, to address all its children.
    ///
    /// Node: what `of(regex)` and `of(function)` return.
    pub fn of_pattern(&self, pattern: &str) -> Option<ParentNamespace> {
        let names = self.hub.names.read();
        names.parents.iter().find(|parent| *parent.name == *pattern).cloned().map(ParentNamespace::new)
    }

    /// Adds a namespace while the server runs. Clients may join it at once. Node: `of`, called late.
    ///
    /// # Errors
    /// As [`Builder::build`]: a name that is taken or cannot be one, state that is missing.
    pub fn add(&self, mut namespace: Namespace) -> Result<(), BuildError> {
        namespace.finish(&self.hub.states, &self.hub.env.limits)?;
        let added = self.hub.names.write().add(namespace, &self.hub.env)?;
        if let Some(nsp) = added {
            self.hub.env.announce(&nsp);
        }
        Ok(())
    }

    /// The names of all namespaces that exist, in no particular order.
    pub fn namespaces(&self) -> Vec<NamespaceHandle> {
        self.hub.all().into_iter().map(NamespaceHandle::new).collect()
    }

    pub(crate) fn root(&self) -> NamespaceHandle {
        NamespaceHandle::new(Arc::clone(&self.hub.root))
    }

    /// Everybody in the namespace `/`, to be narrowed down.
    pub fn broadcast(&self) -> Operators {
        Operators::new(Arc::clone(&self.hub.root))
    }

    /// Everybody in all namespaces, to be narrowed down.
    pub fn all_namespaces(&self) -> Operators {
        Operators::over(self.hub.all().into())
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.hub.env.limits
    }

    /// What happened since the server was built.
    pub fn stats(&self) -> Stats {
        self.hub.env.counters.read()
    }

    /// Whether the broker of the [`adapter`](Builder::adapter) is there; `None` without one. Clients of this server are
    /// served either way.
    pub fn adapter_health(&self) -> Option<Health> {
        self.hub.env.cluster.as_ref().map(|cluster| cluster.bus().health())
    }

    /// What happened on the transports since the server was built.
    pub fn engine_stats(&self) -> engineio::Stats {
        self.engine.as_ref().map(|engine| engine.0.stats()).unwrap_or_default()
    }

    /// A tower layer that answers Socket.IO requests in front of another service, an axum router for example.
    ///
    /// # Panics
    /// In a handler, when the application has dropped all its handles.
    pub fn layer(&self) -> SocketIoLayer {
        self.engine().layer()
    }

    /// A tower service that answers Socket.IO requests, and everything else with 404.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    pub fn service(&self) -> SocketIoService {
        self.engine().service()
    }

    /// A tower service that answers Socket.IO requests and passes everything else on.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    pub fn service_with<S>(&self, inner: S) -> SocketIoService<S> {
        self.engine().service_with(inner)
    }

    /// Serves on an address until the future is dropped. Everything but Socket.IO is answered with 404.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    pub async fn listen(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        self.engine().listen(addr).await
    }

    /// Serves on an address over TLS until the future is dropped: HTTP/1.1 and HTTP/2, WebSocket on both. Everything but
    /// Socket.IO is answered with 404.
    ///
    /// Keep a clone of `tls` to exchange the certificate while the server runs; one from files is looked at every minute.
    ///
    /// # Errors
    /// When the address cannot be bound.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    #[cfg(feature = "tls")]
    pub async fn listen_tls(&self, addr: impl ToSocketAddrs, tls: crate::Tls) -> io::Result<()> {
        self.engine().listen_tls(addr, tls).await
    }

    /// Serves a listener over TLS, as [`listen_tls`](Self::listen_tls) does.
    ///
    /// # Errors
    /// When the listener itself fails.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    #[cfg(feature = "tls")]
    pub async fn serve_tls(&self, listener: TcpListener, tls: crate::Tls) -> io::Result<()> {
        self.engine().serve_tls(listener, NotFound, tls).await
    }

    /// Serves a listener until the future is dropped. Everything but Socket.IO is answered with 404; with
    /// [`engine`](Self::engine) it can go to another service.
    ///
    /// # Errors
    /// When the listener itself fails.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections that exist go on.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.engine().serve(listener, NotFound).await
    }

    /// The engine below, for what this handle does not wrap.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    pub fn engine(&self) -> &Server<App> {
        &self.engine.as_ref().expect("a handle of the application keeps the engine").0
    }

    /// Closes the server: new connections are refused, every socket ends with `server shutting down`, what is queued is
    /// still written, and what is left after 30 seconds is cut off. Node: `close`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server closing.
    pub async fn close(&self) {
        self.close_within(Duration::from_secs(30)).await;
    }

    /// [`close`](Self::close) with a deadline of your own.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server closing; what does not end by itself is not cut off then.
    pub async fn close_within(&self, deadline: Duration) {
        tracing::info!(connections = self.hub.env.counters.connections_open.value(), "the server is closing");
        self.hub.env.closing.store(true, Ordering::SeqCst);
        self.hub.all().iter().filter_map(|namespace| namespace.shared()).for_each(|log| log.flush());
        match &self.engine {
            Some(engine) => engine.0.close(deadline).await,
            None => {
                for socket in self.all_namespaces().sockets() {
                    socket.conn().close(engineio::CloseReason::ForcedClose);
                }
            }
        }
        if let Some(cluster) = &self.hub.env.cluster {
            cluster.close().await;
        }
    }
}

impl Hub {
    /// A namespace that nobody can connect to.
    fn detached(&self, name: &str) -> Arc<Nsp> {
        Arc::new(Nsp::new(name.into(), Arc::clone(&self.env), Arc::default(), StateMap::new(), None, None))
    }

    /// All namespaces that exist.
    fn all(&self) -> Vec<Arc<Nsp>> {
        let names = self.names.read();
        let children = names.parents.iter().flat_map(|parent| parent.all());
        names.fixed.values().cloned().chain(children).collect()
    }
}

impl fmt::Debug for SocketIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketIo").field("namespaces", &self.hub.names.read().fixed.keys()).finish_non_exhaustive()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("App")
    }
}
