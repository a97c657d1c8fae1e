//! Engine.IO over the network: long-polling, WebSocket and the upgrade between them as a tower service.
//!
//! A [`Server`] owns sessions; what happens on them is up to an [`Application`]. The rules of the protocol live in
//! `engineio-proto`; this crate moves bytes, keeps the time and spawns one task per session.
//!
//! Features, all off by default: `tls` for [`Server`]'s `listen_tls`, `http2` for WebSocket over HTTP/2 behind another server,
//! `client` for the client half, `client-tls` for `https` and `wss` there.
//!
//! Where to look: [`app`] for what an application implements, `service` for how a request is answered, `driver` for
//! the life of a session, `door` for who is let in, `link` for how a WebSocket is read and written, `fanout` for how many are written at once,
//! `forward` for requests that belong to another server of a cluster.

pub mod app;
mod body;
#[cfg(feature = "client")]
pub mod client;
mod compress;
mod door;
mod driver;
mod fanout;
mod forward;
mod guarded;
mod handshake;
#[cfg(feature = "tls")]
mod http2;
mod link;
mod listen;
mod options;
mod secure;
mod security;
mod server;
mod service;
mod session;
mod sid;
mod stats;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

pub use app::{Application, Connection};
pub use body::EngineBody;
pub use door::RefusedConnection;
pub use engineio_proto::{
    Batch, Frame, HEADROOM, Limits, Message, Revision, Transport, WeakBatch,
    cors::Cors,
    gate::AddressLimits,
    origin::{Hosts, Origins},
    proxies::{ForwardedHeader, InvalidProxy, TrustedProxies},
    rate::{OverRate, Rate, TrafficLimits},
    session::CloseReason,
    ws::deflate::Options as DeflateOptions,
};
pub use fanout::Fanout;
pub use forward::{Carrier, ForwardOptions, Forwarding, ServerTag};
pub use handshake::Handshake;
pub use listen::bind;
pub use options::{Cookie, HookFuture, InvalidOption, Options};
pub use secure::{Hsts, PeerCertificate, RequireTls, SessionBinding};
pub use security::{SecurityEvent, SecurityEvents, SecurityKind, SecurityLog};
pub use server::{Builder, Server};
pub use service::{EngineLayer, EngineService, NotFound, PeerAddr, RefusedRequest, Secure, ServiceFuture};
pub use session::{SendError, Session};
pub use stats::Stats;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
