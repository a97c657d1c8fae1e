//! Engine.IO over the network: long-polling, WebSocket and the upgrade between them as a tower service.

pub mod app;
mod handshake;
mod session;

pub use app::{Application, Connection};
pub use engineio_proto::{Frame, HEADROOM, Limits, Message, Revision, Transport, session::CloseReason};
pub use handshake::Handshake;
pub use session::{SendError, Session};
