//! Engine.IO over the network: long-polling, WebSocket and the upgrade between them as a tower service.
//!
//! A [`Server`] owns sessions; what happens on them is up to an [`Application`]. The rules of the protocol live in
//! `engineio-proto`; this crate moves bytes, keeps the time and spawns one task per session.
//!
//! Features, all off by default: `tls` for [`Server`]'s `listen_tls`, `http2` for WebSocket over HTTP/2 behind another server,
//! `client` for the client half, `client-tls` for `https` and `wss` there.
//!
//! Where to look: [`app`] for what an application implements, `service` for how a request is answered, `driver` for
//! the life of a session, `link` for how a WebSocket is read and written, `fanout` for how many are written at once.

pub mod app;
mod body;
#[cfg(feature = "client")]
pub mod client;
mod compress;
mod driver;
mod fanout;
mod guarded;
mod handshake;
#[cfg(feature = "tls")]
mod http2;
mod link;
mod listen;
mod options;
mod server;
mod service;
mod session;
mod sid;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

pub use app::{Application, Connection};
pub use body::EngineBody;
pub use engineio_proto::{
    Batch, Frame, HEADROOM, Limits, Message, Revision, Transport, WeakBatch,
    cors::Cors,
    origin::Origins,
    proxies::{ForwardedHeader, InvalidProxy, TrustedProxies},
    session::CloseReason,
    ws::deflate::Options as DeflateOptions,
};
pub use fanout::Fanout;
pub use handshake::Handshake;
pub use listen::bind;
pub use options::{Cookie, HookFuture, InvalidOption, Options};
pub use server::{Builder, Server, Stats};
pub use service::{EngineLayer, EngineService, NotFound, PeerAddr, RefusedRequest, Secure, ServiceFuture};
pub use session::{SendError, Session};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
