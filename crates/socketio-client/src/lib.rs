//! A Socket.IO client: any number of namespaces over one connection, which is made again when it breaks.
//!
//! ```no_run
//! use socketio_client::{Client, extract::Data};
//!
//! type Auth = std::collections::BTreeMap<&'static str, &'static str>;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = Client::builder("http://127.0.0.1:3000/chat")
//!     .on("message", async |Data((from, text)): Data<(String, String)>| println!("{from}: {text}"))
//!     .on("are you there", async || "yes") // answers the server
//!     .connect()
//!     .await?;
//! socket.emit("message", "hello");
//! let sum: i64 = socket.emit_with_ack("add", (2, 3)).await?; // 5
//!
//! // The same connection; the token is asked for whenever the namespace is joined.
//! let admin = socket.namespace("/admin").auth(async || [("token", "secret")].into_iter().collect::<Auth>()).connect().await?;
//! admin.emit("sum", sum);
//! socket.closed().await;
//! # Ok(())
//! # }
//! ```
//!
//! Each connection has one task. It moves the bytes, answers heartbeats and polls the handlers: those of one socket one
//! after the other, those of different sockets side by side. A handler that waits stops nothing but its own socket's events.
//!
//! Where to look: [`ClientBuilder`] for the options, [`Socket`] for what can be done, [`Events`] for a stream instead of
//! handlers, [`SimpleClient`] for scripts, [`blocking`] for programs without async.

mod acks;
pub mod blocking;
mod builder;
mod error;
mod events;
mod handlers;
mod observe;
mod shared;
mod simple;
mod socket;
mod task;

pub use builder::{Client, ClientBuilder, IntoAuth, Manager, SocketBuilder};
pub use error::{ConnectFailure, DisconnectReason, EmitError};
pub use events::{Events, ReceivedEvent};
pub use handlers::{Ack, AckSink, EventContext};
pub use observe::{ManagerEvent, ManagerEvents};
pub use simple::SimpleClient;
pub use socket::{BufferedEvent, Emitted, Emitter, Socket, State};

/// The arguments that handlers may have.
pub mod extract {
    pub use crate::{Ack, Socket};
    pub use socketio_core::{Data, EventName, FromEvent, State, TryData};
}

#[doc(no_inline)]
pub use bytes::Bytes;
#[cfg(feature = "tls")]
pub use engineio::client::ClientTls;
pub use engineio::client::{ClientOptions, ConnectError as TransportError, InvalidClientOption, Proxy, TunnelError};
pub use engineio::{CloseReason, DeflateOptions, Transport};
#[doc(hidden)]
pub use socketio_core::__private;
#[doc(no_inline)]
pub use socketio_core::__private::EventOfClient as Event;
#[doc(inline)]
pub use socketio_core::event::Event;
pub use socketio_core::{
    AckError, Args, ConnectError, DataError, EventHandler, FromEvent, Handler, HandlerContext, HandlerError, OwnedArgs,
    Rejection, Reply, Value, event, events,
};
pub use socketio_proto::{
    AnyParser, DynChunk, DynDecoder, DynPacket, EncodeError, Message, PacketKind, Parser, Spread, Violation,
};

/// The examples of the guide's page are compiled as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/client-options.md")]
mod guide {}
