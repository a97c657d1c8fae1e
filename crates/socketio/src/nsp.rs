//! A namespace that runs: its handlers, its sockets, its rooms.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_adapter::{IntoRooms, RoomName, Rooms};
use socketio_core::{Event, StateMap};

use crate::burst::Bursts;
use crate::cluster::Part;
use crate::dynamic::Child;
use crate::env::{Env, ErrorHook};
use crate::namespace::Table;
use crate::rates::SharedBuckets;
use crate::recovery::NspRecovery;
use crate::room_events::RoomNews;
use crate::shared::Shared;
use crate::{AckStream, Broadcasted, Joined, Operators, RemoteSocket, Socket};

pub(crate) struct Nsp {
    pub(crate) name: Box<str>,
    pub(crate) env: Arc<Env>,
    pub(crate) table: Arc<Table>,
    pub(crate) states: StateMap,
    pub(crate) on_error: Option<ErrorHook>,
    /// What it knows of its parent, if it came from a pattern.
    pub(crate) child: Option<Box<Child>>,
    /// Who wants to know what happens to rooms.
    pub(crate) room_news: Option<Box<RoomNews>>,
    /// Guards who is here and in which room. Nothing is sent while it is held.
    pub(crate) rooms: Mutex<Rooms<Socket>>,
    /// Rates that its sockets share.
    pub(crate) rates: Option<Box<SharedBuckets>>,
    /// Broadcasts that follow one another.
    pub(crate) bursts: Bursts,
    /// What clients that come back will need, if the server has the option.
    pub(crate) recovery: Option<Box<NspRecovery>>,
    /// The other servers, if the server has an adapter.
    pub(crate) part: OnceLock<Arc<Part>>,
    /// Ids of events that are to be answered. One sequence for all sockets, so that a broadcast is encoded once.
    acks: AtomicU64,
}

impl Nsp {
    pub(crate) fn new(
        name: Box<str>,
        env: Arc<Env>,
        table: Arc<Table>,
        states: StateMap,
        on_error: Option<ErrorHook>,
        child: Option<Box<Child>>,
    ) -> Self {
        let room_news = table.room_hook.clone().map(|hook| Box::new(RoomNews::new(hook)));
        let rooms = Mutex::new(Rooms::new(env.limits.rooms()));
        let shares = env.cluster.as_ref().is_some_and(|cluster| cluster.bus().sessions().is_some());
        let recovery = env.recovery.as_ref();
        let recovery = recovery
            .map(|config| Box::new(NspRecovery::new(config, shares.then(|| Shared::new(config.options.log_timeout)))));
        let rates = SharedBuckets::new(&table.rates);
        Self {
            name,
            env,
            table,
            states,
            on_error,
            child,
            room_news,
            rates,
            rooms,
            bursts: Bursts::default(),
            recovery,
            part: OnceLock::new(),
            acks: AtomicU64::new(0),
        }
    }

    /// Makes itself known to the other servers, if the server has an adapter.
    pub(crate) fn join_cluster(self: &Arc<Self>) {
        if let Some(cluster) = &self.env.cluster {
            cluster.attach(self);
        }
    }

    pub(crate) fn next_ack_id(&self) -> u64 {
        self.acks.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Nsp {
    fn drop(&mut self) {
        if let Some(part) = self.part.get() {
            part.leave();
        }
        if let Some(child) = &self.child {
            child.gone(&self.name, &self.env);
        }
    }
}

/// A namespace of a running server: whom it reaches and who is in it. Cheap to clone.
#[derive(Clone)]
pub struct NamespaceHandle(Arc<Nsp>);

impl NamespaceHandle {
    pub(crate) fn new(nsp: Arc<Nsp>) -> Self {
        Self(nsp)
    }

    pub(crate) fn nsp(&self) -> &Arc<Nsp> {
        &self.0
    }

    /// The name, `/chat` for example.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The socket of this id on this server.
    pub fn socket(&self, id: &str) -> Option<Socket> {
        self.0.rooms.lock().get(id).filter(|socket| socket.connected()).cloned()
    }

    /// How many sockets of this server are in the namespace.
    pub fn len(&self) -> usize {
        self.0.rooms.lock().len()
    }

    /// How many clients have lost their connection and may come back; 0 without
    /// [`connection_state_recovery`](crate::Builder::connection_state_recovery).
    pub fn away(&self) -> usize {
        self.0.recovery.as_ref().map_or(0, |recovery| recovery.away())
    }

    /// Whether no socket of this server is in the namespace.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rooms of this server with the number of their members, those of sockets' own ids among them.
    pub fn rooms(&self) -> Vec<(RoomName, usize)> {
        self.0.rooms.lock().rooms().map(|(name, size)| (name.clone(), size)).collect()
    }

    /// How many sockets of this server are in the room.
    pub fn room_size(&self, room: &str) -> usize {
        self.0.rooms.lock().size(room)
    }

    /// Everybody in the namespace, to be narrowed down.
    pub fn broadcast(&self) -> Operators {
        Operators::new(Arc::clone(&self.0))
    }
}

/// The first step of addressing a group, on anything that stands for one.
macro_rules! starts_operators {
    ($($type:ty: $what:literal;)*) => {$(
        #[doc = concat!("Addressing ", $what, ": the first step of what [`Operators`] offers.")]
        impl $type {
            /// Addresses the sockets in these rooms. Node: `to`.
            pub fn to(&self, rooms: impl IntoRooms) -> Operators {
                self.broadcast().to(rooms)
            }

            /// The same as [`to`](Self::to). Node: `in`.
            pub fn in_(&self, rooms: impl IntoRooms) -> Operators {
                self.broadcast().to(rooms)
            }

            /// Leaves out the sockets in these rooms. Node: `except`.
            pub fn except(&self, rooms: impl IntoRooms) -> Operators {
                self.broadcast().except(rooms)
            }

            /// Reaches sockets of this server only. Node: `local`.
            pub fn local(&self) -> Operators {
                self.broadcast().local()
            }

            /// Drops the event for a client that cannot take it at once. Node: `volatile`.
            pub fn volatile(&self) -> Operators {
                self.broadcast().volatile()
            }

            /// Whether transports may compress the event. Node: `compress`.
            pub fn compress(&self, compress: bool) -> Operators {
                self.broadcast().compress(compress)
            }

            /// How long `emit_with_ack` waits. Node: `timeout`.
            pub fn timeout(&self, timeout: std::time::Duration) -> Operators {
                self.broadcast().timeout(timeout)
            }

            /// Sends an event to everybody; see [`Operators::emit`].
            pub fn emit(&self, event: &str, args: impl Serialize) -> Broadcasted {
                self.broadcast().emit(event, args)
            }

            /// Sends the event `message` to everybody. Node: `send`, `write`.
            pub fn send(&self, args: impl Serialize) -> Broadcasted {
                self.broadcast().send(args)
            }

            /// Sends a typed event to everybody.
            pub fn emit_event<E: Event<Args: Serialize>>(&self, event: &E) -> Broadcasted {
                self.broadcast().emit_event(event)
            }

            /// Sends an event to everybody and collects the answers; see [`Operators::emit_with_ack`].
            pub fn emit_with_ack<R: DeserializeOwned>(&self, event: &str, args: impl Serialize) -> AckStream<R> {
                self.broadcast().emit_with_ack(event, args)
            }

            /// All sockets on this server, at this moment.
            pub fn sockets(&self) -> Vec<Socket> {
                self.broadcast().sockets()
            }

            /// All sockets as the cluster sees them. Node: `fetchSockets`.
            ///
            /// # Cancel safety
            /// Dropping the future changes nothing.
            pub async fn fetch_sockets(&self) -> Vec<RemoteSocket> {
                self.broadcast().fetch_sockets().await
            }

            /// Puts all sockets into rooms. Node: `socketsJoin`.
            pub fn sockets_join(&self, rooms: impl IntoRooms) -> Joined {
                self.broadcast().sockets_join(rooms)
            }

            /// Takes all sockets out of rooms. Node: `socketsLeave`.
            pub fn sockets_leave(&self, rooms: impl IntoRooms) -> Joined {
                self.broadcast().sockets_leave(rooms)
            }

            /// Disconnects all sockets; with `close` their whole connections. Node: `disconnectSockets`.
            pub fn disconnect_sockets(&self, close: bool) {
                self.broadcast().disconnect_sockets(close);
            }
        }
    )*};
}

pub(crate) use starts_operators;

starts_operators! {
    NamespaceHandle: "everybody in a namespace";
    crate::SocketIo: "everybody in the namespace `/`";
}

impl fmt::Debug for Nsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nsp").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for NamespaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceHandle").field("name", &self.0.name).finish_non_exhaustive()
    }
}
