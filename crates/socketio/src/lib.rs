//! A Socket.IO server: namespaces, rooms, acknowledgements, binary, middleware.
//!
//! ```no_run
//! use socketio::{Data, Namespace, Socket, SocketIo};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let chat = Namespace::new("/chat")
//!         .on_connect(async |socket: Socket| {
//!             socket.join("lobby");
//!         })
//!         .on("message", async |socket: Socket, Data(text): Data<String>| {
//!             socket.to("lobby").emit("message", (socket.id(), text));
//!         })
//!         .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b); // what it returns is the ack
//!
//!     SocketIo::builder().namespace(chat).listen("127.0.0.1:3000").await
//! }
//! ```
//!
//! Where to look:
//! * [`SocketIo`] is the server, [`Builder`] its options, [`Limits`] its bounds.
//! * [`Namespace`] is where handlers are registered: async functions of extractors, see [`context`].
//! * [`Socket`] is a client in a namespace, [`Operators`] a group of them.
//!
//! Features, all off by default: `tls` adds `listen_tls`, `http2` WebSocket over HTTP/2 behind another server, `describe`
//! protocols that print themselves as TypeScript and AsyncAPI, `validate` the checked argument `Valid<T>`, `testing` clients in memory for tests of applications.
//!
//! How it works inside: `connection` is one client on its session's task, `lane` the order of one socket's handlers,
//! `leave` its end, `acks` what clients owe, `broadcast` from arguments to frames, `recovery` clients that come back, `reliable`
//! events that are repeated, `dynamic` namespaces that are made while the server runs, `event_middleware` what stands before
//! handlers, `cluster` many servers, `peers` events between them, `fault` all that goes wrong, `security` what is told of clients
//! that were refused.

mod acks;
mod broadcast;
mod builder;
mod burst;
mod cluster;
mod connection;
pub mod context;
mod data;
mod dynamic;
mod emit;
mod env;
mod event_middleware;
mod extensions;
mod fault;
#[cfg(doctest)]
mod guide;
mod handshake;
mod hub;
mod lane;
mod leave;
mod limits;
mod listeners;
mod middleware;
mod namespace;
mod nsp;
mod operators;
mod outgoing;
mod pairs;
mod peers;
mod policy;
mod rates;
mod reason;
mod recovery;
mod reliable;
mod remote;
mod room_events;
mod security;
mod shared;
mod socket;
mod stateful;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;

pub use acks::{AckFuture, AckStream, Answers};
pub use builder::{BuildError, Builder};
pub use cluster::Settling;
pub use connection::Connection;
pub use context::{
    Ack, AckSink, Auth, ClientIp, ConnectInfo, DisconnectDescription, Extension, Headers, MaybeExtension, Query,
    SocketContext, TransportName, TryAuth,
};
pub use data::SocketData;
pub use dynamic::{NameParams, ParentNamespace};
pub use emit::{Broadcasted, Drained, EmitError, Emitted, Joined, Turn};
pub use event_middleware::{EventMiddleware, EventMiddlewareContext, EventVerdict, EventVerdictFuture, Next};
pub use extensions::Extensions;
pub use fault::Fault;
pub use handshake::Handshake;
pub use hub::{App, SocketIo, SocketIoLayer, SocketIoService};
pub use limits::Limits;
pub use listeners::ListenerId;
pub use middleware::{Middleware, Verdict, VerdictFuture};
pub use namespace::Namespace;
pub use nsp::NamespaceHandle;
pub use operators::Operators;
pub use peers::{ServerAnswers, ServerEventContext, ServerSink};
pub use policy::{Action, Decision, Policy, Who};
pub use rates::{Excess, RateLimit};
pub use reason::DisconnectReason;
pub use recovery::{ExpiredSession, RecoveryOptions, SessionEnd};
pub use reliable::{Delivery, DeliveryError, ReliableEmitter};
pub use remote::{FetchedSockets, RemoteHandshake, RemoteSocket};
pub use socket::{Socket, SocketEmitter};
pub use stateful::StatefulNamespace;
pub use stats::Stats;

#[doc(no_inline)]
pub use bytes::Bytes;
pub use engineio::{
    AddressLimits, CloseReason, Cookie, Cors, DeflateOptions, EngineBody, ForwardedHeader, Hosts, Hsts, InvalidOption,
    InvalidProxy, NotFound, Origins, OverRate, PeerAddr, PeerCertificate, Rate, RefusedConnection, RefusedRequest,
    RequireTls, Revision, Secure, SecurityEvent, SecurityEvents, SecurityKind, SecurityLog, Session, SessionBinding,
    TrafficLimits, Transport, TrustedProxies,
};
#[cfg(feature = "tls")]
pub use engineio::{Tls, TlsError};
#[doc(no_inline)]
pub use socketio_adapter::cluster::{Bus, BusError, ClusterOptions, Health, Membership, MemoryBroker};
pub use socketio_adapter::recovery::NotRecoverable;
pub use socketio_adapter::{IntoRooms, JoinError, RoomEvent, RoomName, RoomNames};
#[doc(hidden)]
pub use socketio_core::__private;
#[doc(no_inline)]
pub use socketio_core::__private::EventOfServer as Event;
#[cfg(feature = "validate")]
pub use socketio_core::Valid;
#[cfg(feature = "describe")]
pub use socketio_core::describe;
#[doc(inline)]
pub use socketio_core::event::Event;
pub use socketio_core::{
    AckError, Args, ConnectError, Data, DataError, EventHandler, EventName, FromEvent, FromRef, Handler,
    HandlerContext, HandlerError, MissingState, OrError, OwnedArgs, Rejection, Reply, State, StateMap, TryData, Value,
    event, events,
};
pub use socketio_proto::{
    AnyParser, DynChunk, DynDecoder, DynPacket, EncodeError, Message, PacketKind, Parser, Spread, Violation,
};
