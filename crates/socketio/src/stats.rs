//! Counters of what happened, cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters of a server.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What happened since the server was built. Counts only grow, unless their text says otherwise.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All counters, each read at its own moment.
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Engine.IO sessions that are open now.
    connections_open,
    /// Engine.IO sessions ever opened.
    connections,
    /// Sockets that are connected to a namespace now; one connection may have several.
    sockets_open,
    /// Sockets that ever connected to a namespace.
    sockets,
    /// CONNECT packets that were refused: unknown namespace, middleware, limits.
    connects_refused,
    /// Namespaces that were made while the server ran: from patterns and predicates, or added.
    namespaces_created,
    /// Clients that were refused because of `max_child_namespaces`.
    children_refused,
    /// Events received.
    events_in,
    /// Events that no handler was registered for.
    events_unhandled,
    /// Messages that are no packet of the parser in use; the connection is closed.
    undecodable,
    /// Packets that are out of order for their connection; the connection is closed.
    violations,
    /// Connections that joined no namespace within `connect_timeout`; they are closed.
    connect_timeouts,
    /// Handlers whose arguments could not be extracted.
    extraction_errors,
    /// Events that middleware refused.
    events_refused,
    /// Handlers that panicked; their connection is closed.
    handler_panics,
    /// Handlers that were given up because they still ran `handler_stall` after their socket had left.
    handlers_abandoned,
    /// Acknowledgements from clients that nobody waited for (any more).
    acks_unknown,
    /// Acknowledgements that clients did not send in time.
    acks_timed_out,
    /// Emits that were refused: socket gone or send queue full.
    emits_refused,
    /// Clients that lost their connection and got their socket back.
    recovered,
    /// Clients that came back to a session that could not go on; they were connected anew.
    not_recovered,
    /// Sessions of clients that were away and will not get their socket back.
    sessions_expired,
    /// Messages of other servers.
    cluster_in,
    /// Messages to other servers.
    cluster_out,
    /// Messages to other servers that were refused: the buffer for the broker was full, or they could not be encoded.
    cluster_refused,
    /// What was published to the cluster and is no message of it, or asks for too much. It is ignored.
    cluster_foreign,
    /// Messages between servers that are known to be lost.
    cluster_lost,
    /// How often the broker was gone.
    cluster_outages,
    /// Volatile emits that were dropped because a client could not take them at once.
    volatile_dropped,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(crate) fn sub(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
