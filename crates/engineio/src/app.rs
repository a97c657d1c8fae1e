//! What a protocol on top of Engine.IO implements: `socketio` is the one this workspace ships.
//!
//! A session has one task. That task reads, calls [`Connection::message`] for each message in order, then
//! [`Connection::poll`] once, and writes everything that was sent meanwhile in one go. No message costs a spawn, a channel
//! or a wake-up.

use std::task::{Context, Poll};

use engineio_proto::{Message, session::CloseReason};
use tokio::time::Instant;

use crate::Session;

/// Opens a [`Connection`] for every session. Shared by all sessions of a server.
pub trait Application: Send + Sync + 'static {
    /// The state of one session.
    type Connection: Connection;

    /// Called once per session on the session's task, before any message is read. The open packet is already queued.
    fn open(&self, session: &Session) -> Self::Connection;
}

/// One session as the application sees it. All calls come from the session's task, one at a time.
pub trait Connection: Send + 'static {
    /// Takes one message. Messages come in the order in which the peer sent them, only while [`Connection::ready`].
    ///
    /// The message borrows the read buffer: copy what must outlive the call. The waker of `cx` wakes the session's task,
    /// so a future may be polled with it right here. To end the session, call [`Session::close`].
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>);

    /// Drives what is pending: handlers, timers. Called after the messages of a read, when the task was woken
    /// (by a waker from `cx` or by [`Session::wake`]) and at [`Connection::deadline`].
    fn poll(&mut self, cx: &mut Context<'_>);

    /// Whether another message may be taken. While `false` the transport is not read (backpressure) and the ping deadline
    /// stands still; after `Limits::handler_stall` the session is closed.
    fn ready(&self) -> bool {
        true
    }

    /// When [`Connection::poll`] wants to be called next without a wake-up.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The session has ended. Called exactly once, whatever the cause.
    fn close(&mut self, cx: &mut Context<'_>, reason: CloseReason);

    /// Finishes what still runs after [`Connection::close`], such as disconnect handlers. The session's memory is
    /// released when this is ready.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
