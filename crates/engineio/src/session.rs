//! The handle of one session: what the application holds, clones and sends through. (being written)

use std::{sync::Arc, task::{Context, Poll}};

use engineio_proto::{Frame, Revision, Transport, session::CloseReason};

use crate::Handshake;

/// A handle to one session. Cloning it is cheap; it keeps no connection open by itself.
#[derive(Clone, Debug)]
pub struct Session(Arc<()>);

/// Why messages were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session has ended or is ending.
    #[error("the session is closed")]
    Closed,
    /// The client reads too slowly: its queue is over `send_queue_bytes` or `send_queue_packets`.
    #[error("the send queue is full")]
    Full,
}

impl Session {
    /// The session id. It is a bearer token for the polling transport: never show it to other clients or logs.
    pub fn sid(&self) -> &str { todo!() }
    /// The protocol revision of this session.
    pub fn revision(&self) -> Revision { todo!() }
    /// The transport that carries the session now.
    pub fn transport(&self) -> Transport { todo!() }
    /// The request that opened the session.
    pub fn handshake(&self) -> &Handshake { todo!() }
    /// Queues messages, all or none, in order and with nothing in between. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Closed`] after the end; [`SendError::Full`] when the queue is over its limit: the session is then
    /// being closed as a slow consumer.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) -> Result<(), SendError> { let _ = frames; todo!() }
    /// Queues messages only if the transport could take them now. Returns whether it did. Node: `volatile`.
    pub fn send_volatile(&self, frames: impl IntoIterator<Item = Frame>) -> bool { let _ = frames; todo!() }
    /// How many bytes wait to be written.
    pub fn queued_bytes(&self) -> usize { todo!() }
    /// Ready when the queue is below half of its limit, or the session has ended.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> { let _ = cx; todo!() }
    /// Ends the session: what is queued is still written, then the transport is closed. `ForcedClose` is Node's reason.
    pub fn close(&self, reason: CloseReason) { let _ = reason; todo!() }
    /// Ends the session at once and drops what is queued.
    pub fn abort(&self, reason: CloseReason) { let _ = reason; todo!() }
    /// Whether the session has ended or is ending.
    pub fn is_closed(&self) -> bool { todo!() }
    /// Makes the session's task call `Connection::poll` soon.
    pub fn wake(&self) { todo!() }
}
