//! The door: who is let in, who was turned away, and what became of each TCP connection.
//!
//! The rules are those of [`engineio_proto::gate`]; this file has the lock, the clock and the guards that give places back.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use engineio_proto::gate::{Denied, Gate, Place};
use parking_lot::Mutex;

use crate::{
    SecurityLog, security,
    session::std_now,
    stats::{Counter, Counters},
};

pub(crate) type ConnectionHook = Arc<dyn Fn(&RefusedConnection) + Send + Sync>;

/// A connection that ended before there was a request on it, for the hook of
/// [`Builder::on_connection_refused`](crate::Builder::on_connection_refused).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedConnection {
    /// Why: the name of the limit that was reached, such as `connections_per_address`, `connection_rate`, `header_timeout`,
    /// `max_header_bytes` (or `max_headers`) or `write_timeout`, or one of `tls_failed`, `tls_timeout`, `bad_head` and `http2_preface`.
    pub reason: &'static str,
    /// The address of the TCP peer.
    pub remote_addr: Option<SocketAddr>,
}

/// Shared by the listener, its connections and the service.
pub(crate) struct Door {
    /// Guards a table of counts; nothing waits and nobody is called under it.
    gate: Mutex<Gate>,
    pub(crate) counters: Counters,
    hook: Option<ConnectionHook>,
    security: SecurityLog,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Door {
    pub(crate) fn new(gate: Gate, hook: Option<ConnectionHook>, security: SecurityLog) -> Arc<Self> {
        Arc::new(Self { gate: Mutex::new(gate), counters: Counters::default(), hook, security })
    }

    /// Takes the place of a connection. `address` is whom to count, if anybody.
    pub(crate) fn connect(self: &Arc<Self>, peer: SocketAddr, address: Option<IpAddr>) -> Option<Arc<Line>> {
        let place = self.gate.lock().connect(std_now(), Place::of(address));
        match place {
            Ok(place) => Some(Arc::new(Line {
                door: self.clone(),
                place,
                peer,
                heard: AtomicBool::new(false),
                is_http2: AtomicBool::new(false),
            })),
            Err(denied) => {
                self.turn_away(&self.counters.connections_refused, denied.limit, Some(peer));
                None
            }
        }
    }

    pub(crate) fn handshake(self: &Arc<Self>, place: Place) -> Result<Handshaking, Denied> {
        let place = self.gate.lock().begin_handshake(std_now(), place)?;
        Ok(Handshaking { door: self.clone(), place })
    }

    pub(crate) fn open(&self, place: Place) -> Result<Place, Denied> {
        self.gate.lock().open(std_now(), place)
    }

    pub(crate) fn close(&self, place: Place) {
        self.gate.lock().close(std_now(), place);
    }

    /// Connections, handshakes and addresses, as they are now.
    pub(crate) fn now(&self) -> (usize, usize, usize) {
        let gate = self.gate.lock();
        (gate.connections(), gate.handshakes(), gate.addresses())
    }

    /// Counts the end of a connection that came to nothing, and tells the hook.
    pub(crate) fn turn_away(&self, counter: &Counter, reason: &'static str, remote_addr: Option<SocketAddr>) {
        counter.add();
        tracing::debug!(reason, "connection refused");
        let address = remote_addr.map(|address| address.ip());
        self.security.report(security::of_connection(reason), reason, |event| event.address(address));
        if let Some(hook) = &self.hook {
            hook(&RefusedConnection { reason, remote_addr });
        }
    }
}

/// One TCP connection of the listener, from when it was accepted until its last byte.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) door: Arc<Door>,
    pub(crate) place: Place,
    pub(crate) peer: SocketAddr,
    /// Something came since the last answer: a request has begun.
    heard: AtomicBool,
    is_http2: AtomicBool,
}

impl Line {
    pub(crate) fn set_heard(&self, heard: bool) {
        self.heard.store(heard, Relaxed);
    }

    pub(crate) fn set_http2(&self) {
        self.is_http2.store(true, Relaxed);
    }

    /// Counts what went wrong with a connection of HTTP/1.1.
    pub(crate) fn ended(&self, error: &hyper::Error) {
        let counters = &self.door.counters;
        let (counter, reason) = if self.is_http2.load(Relaxed) {
            (&counters.http2_prefaces, "http2_preface")
        } else if error.is_timeout() {
            if !self.heard.load(Relaxed) {
                // It was kept for another request, and none has come.
                return;
            }
            (&counters.header_timeouts, "header_timeout")
        } else if error.is_parse_too_large() {
            (&counters.large_heads, "max_header_bytes")
        } else if error.is_parse() {
            (&counters.bad_heads, "bad_head")
        } else {
            return;
        };
        self.door.turn_away(counter, reason, Some(self.peer));
    }

    /// The peer does not read.
    pub(crate) fn stalled(&self) {
        self.door.turn_away(&self.door.counters.stalled_writes, "write_timeout", Some(self.peer));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.door.gate.lock().disconnect(std_now(), self.place);
    }
}

/// A handshake that is going on.
#[derive(Debug)]
pub(crate) struct Handshaking {
    door: Arc<Door>,
    place: Place,
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.door.gate.lock().end_handshake(std_now(), self.place);
    }
}
