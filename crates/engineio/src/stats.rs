//! Counters of what happened, cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters of a server.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What happened since the server was built. Counts only grow, but for those that say "now".
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            /// Sessions that exist now.
            pub sessions: usize,
            /// Polling sessions whose clients have not come back yet, now; some of them may have ended meanwhile.
            pub pending: usize,
            /// TCP connections of the stand-alone listener that are open now, WebSockets included.
            pub connections: usize,
            /// Handshakes, of TLS and of sessions whose hook is asked, that are going on now.
            pub handshakes: usize,
            /// Addresses that are told apart now, with [`Builder::limit_addresses`](crate::Builder::limit_addresses).
            pub addresses: usize,
            /// Other servers of the cluster that requests can be forwarded to, now.
            pub forward_servers: usize,
            /// Requests and WebSockets that other servers answer and carry for this one, now.
            pub forwarding: usize,
            /// Requests and WebSockets that this server answers and carries for others, now.
            pub answering: usize,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All counters, each read at its own moment. What exists now is filled in by the caller.
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Relaxed),)* ..Stats::default() }
            }
        }

        impl Stats {
            /// All counts by their names, for metrics.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let now = [
                    ("sessions", self.sessions as u64),
                    ("pending", self.pending as u64),
                    ("connections", self.connections as u64),
                    ("handshakes", self.handshakes as u64),
                    ("addresses", self.addresses as u64),
                    ("forward_servers", self.forward_servers as u64),
                    ("forwarding", self.forwarding as u64),
                    ("answering", self.answering as u64),
                ];
                now.into_iter().chain([$((stringify!($name), self.$name),)*])
            }
        }
    };
}

counters! {
    /// Sessions opened.
    opened,
    /// Sessions closed, whatever the reason.
    closed,
    /// Sessions closed because the peer did not answer pings.
    ping_timeouts,
    /// Sessions closed because the peer sent what is not a packet.
    parse_errors,
    /// Sessions closed because the transport failed or its rules were broken.
    transport_errors,
    /// Sessions closed because the client read too slowly; also counted as transport errors.
    slow_consumers,
    /// Sessions closed because a client sent faster than it may; also counted as transport errors.
    rate_closed,
    /// Sessions closed because a handler took no more for too long; also counted as transport errors.
    handler_stalls,
    /// Polling sessions closed because their clients never came back; also counted as transport errors.
    never_returned,
    /// How often a client was not read for a while because it had sent faster than it may.
    rate_delays,
    /// Requests refused with an Engine.IO error.
    refused,
    /// Requests refused because of their `Origin` or `Host`; also counted as refused.
    origin_refused,
    /// Requests with a session id that is nobody's; also counted as refused. Many of them on several servers mean that
    /// stickiness is broken.
    unknown_sids,
    /// Requests with a session id from somewhere else than where the session was opened; also counted as unknown.
    binding_refused,
    /// Requests without TLS that were refused or redirected, those included that named a session opened over TLS.
    insecure_refused,
    /// Handshakes refused because of what their address has or does.
    address_refused,
    /// Handshakes answered by the challenge hook.
    challenged,
    /// Handshakes whose hook did not answer in time.
    hook_timeouts,
    /// Handshakes whose hook panicked.
    hook_panics,
    /// Bodies over `max_payload`.
    oversize,
    /// Bodies that came too slowly.
    slow_bodies,
    /// Polling sessions given up early because too many clients never came back.
    evicted,
    /// WebSockets that came to carry a polling session.
    upgrades,
    /// WebSockets that wanted to and failed, or took too long.
    upgrades_failed,
    /// Requests for sessions of other servers that were passed on to them.
    forwarded,
    /// Requests for sessions of other servers that got no answer from there: out of reach, gone, or too many at once.
    forwards_failed,
    /// WebSockets of other servers' sessions that were carried through this server.
    tunnels,
    /// Requests for sessions of this server that other servers have passed on.
    answered_for_others,
    /// What came between servers and makes no sense, or is too much. It is ignored.
    forward_foreign,
    /// Connections of the stand-alone listener that were closed at once because of a limit.
    connections_refused,
    /// Connections whose request head did not come in time.
    header_timeouts,
    /// Connections that did not speak HTTP, or gave a request two lengths.
    bad_heads,
    /// Connections whose request head was too large, or had too many headers.
    large_heads,
    /// Connections that spoke HTTP/2 where only HTTP/1.1 is spoken.
    http2_prefaces,
    /// Connections whose peer did not read what was written, WebSockets included.
    stalled_writes,
    /// Connections whose handshake of TLS failed.
    tls_failed,
    /// Connections whose handshake of TLS did not come to an end in time.
    tls_timeouts,
    /// Connections that could not be accepted, for want of file descriptors for example.
    accept_errors,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}
