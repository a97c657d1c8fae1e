//! The attacks: one row for each, with the limits of the server that it is against.
//!
//! Limits are the defaults where an attack reaches twice of them in some seconds. Deadlines are shorter.

use std::{future::pending, time::Duration};

use socketio::{AddressLimits, Builder, DeflateOptions, Limits, OverRate, RecoveryOptions, TrafficLimits};

use super::{Attack, Target, messages, requests, secure, server};

/// One attack.
pub(crate) struct Row {
    /// Of the catalogue of hostile input.
    pub(crate) id: &'static str,
    name: &'static str,
    /// The server speaks TLS, too.
    pub(crate) tls: bool,
    /// The server is closed while the attack goes on.
    pub(crate) closes: bool,
    /// For how long the server keeps what is left of clients, by design.
    pub(crate) stays: Duration,
    /// How the limits differ from the defaults.
    pub(crate) limits: fn(&mut Limits),
    /// What else is set; whether there are to be limits.
    pub(crate) build: fn(Builder, bool) -> Builder,
    pub(crate) attack: fn(Target) -> Attack,
    /// What happens by design though it must not elsewhere, by the beginning of the words.
    pub(crate) fine: &'static [&'static str],
}

impl Row {
    /// Id and name.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.id, self.name)
    }
}

/// What a row is without saying more.
const PLAIN: Row = Row {
    id: "",
    name: "",
    tls: false,
    closes: false,
    stays: Duration::ZERO,
    limits: |_| {},
    build: |builder, _| builder,
    attack: |_| Box::pin(async { Ok(super::Done::default()) }),
    fine: &[],
};

const S2: Duration = Duration::from_secs(2);
const S3: Duration = Duration::from_secs(3);
/// How long a server waits for a request that has begun.
pub(super) const HEADER: Duration = S3;
pub(super) const BODY: Duration = S3;
/// Small enough to be reached by a few.
pub(super) const CONNECTIONS: usize = 800;
pub(super) const ROOMS: usize = 10_000;
pub(super) const CHILDREN: usize = 1_000;
pub(super) const PACKETS: usize = 250_000;

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "R01",
        name: "slow and large heads",
        limits: |limits| limits.header_timeout = HEADER,
        attack: |target| Box::pin(requests::heads(target)),
        ..PLAIN
    },
    Row {
        id: "R02",
        name: "slow and large bodies",
        limits: |limits| limits.body_timeout = BODY,
        attack: |target| Box::pin(requests::bodies(target)),
        ..PLAIN
    },
    Row { id: "R03", name: "half-open upgrades", attack: |target| Box::pin(requests::half_open(target)), ..PLAIN },
    Row {
        id: "R04",
        name: "sessions that never poll, or join nothing",
        limits: |limits| {
            limits.first_activity_timeout = S2;
            limits.connect_timeout = S3;
        },
        attack: |target| Box::pin(requests::never_back(target)),
        ..PLAIN
    },
    Row {
        id: "R05",
        name: "connections and sessions of a few addresses",
        limits: |limits| limits.first_activity_timeout = S3,
        build: |builder, limited| match limited {
            true => builder.limit_addresses(AddressLimits::default()).max_connections(CONNECTIONS),
            false => builder,
        },
        attack: |target| Box::pin(requests::flood(target)),
        ..PLAIN
    },
    Row {
        id: "R06",
        name: "handshakes of TLS",
        tls: true,
        limits: |limits| limits.header_timeout = S3,
        build: addresses,
        attack: |target| Box::pin(secure::handshakes(target)),
        ..PLAIN
    },
    Row {
        id: "R06",
        name: "handshakes whose hook does not answer",
        limits: |limits| limits.hook_timeout = S3,
        build: |builder, limited| {
            addresses(builder, limited).allow_request(|handshake| {
                let address = handshake.remote_addr().map(|address| address.ip());
                let hostile = address.is_some_and(|address| address.to_string().starts_with("127.66."));
                async move { if hostile { pending().await } else { Ok(()) } }
            })
        },
        attack: |target| Box::pin(requests::hooks(target)),
        ..PLAIN
    },
    Row { id: "R07", name: "slow consumers", attack: |target| Box::pin(messages::slow_consumers(target)), ..PLAIN },
    Row {
        id: "R08",
        name: "peers that read nothing",
        limits: |limits| limits.write_timeout = S2,
        attack: |target| Box::pin(messages::ghosts(target)),
        ..PLAIN
    },
    Row {
        id: "R09",
        name: "handlers that never finish",
        limits: |limits| {
            limits.handler_stall = S2;
            limits.disconnect_wait = Duration::from_secs(1);
        },
        attack: |target| Box::pin(messages::handlers(target)),
        fine: &["handler_abandoned"],
        ..PLAIN
    },
    Row { id: "R10", name: "answers that never come", attack: |target| Box::pin(messages::answers(target)), ..PLAIN },
    Row {
        id: "R11",
        name: "rooms and namespaces",
        limits: |limits| {
            limits.rooms = ROOMS;
            limits.max_child_namespaces = CHILDREN;
        },
        attack: |target| Box::pin(messages::rooms(target)),
        ..PLAIN
    },
    Row {
        id: "R12",
        name: "attachments",
        limits: |limits| limits.attachment_timeout = S2,
        attack: |target| Box::pin(messages::attachments(target)),
        ..PLAIN
    },
    Row {
        id: "R13",
        name: "floods of messages, read more slowly",
        build: |builder, limited| builder.limit_traffic(traffic(limited, OverRate::Delay)),
        attack: |target| Box::pin(messages::flood(target)),
        ..PLAIN
    },
    Row {
        id: "R13",
        name: "floods of messages, disconnected",
        build: |builder, limited| builder.limit_traffic(traffic(limited, OverRate::Disconnect)),
        attack: |target| Box::pin(messages::flood_disconnected(target)),
        ..PLAIN
    },
    Row {
        id: "R14",
        name: "compression bombs",
        build: |builder, _| builder.per_message_deflate(DeflateOptions::default()),
        attack: |target| Box::pin(messages::bombs(target)),
        ..PLAIN
    },
    Row {
        id: "R15",
        name: "tiny packets in one body",
        limits: |limits| limits.max_payload_packets = PACKETS,
        attack: |target| Box::pin(requests::tiny_packets(target)),
        ..PLAIN
    },
    Row { id: "R16", name: "depth and width", attack: |target| Box::pin(messages::depth(target)), ..PLAIN },
    Row {
        id: "R17",
        name: "floods of pings and pongs",
        build: |builder, limited| builder.limit_traffic(traffic(limited, OverRate::Delay)),
        attack: |target| Box::pin(messages::pings(target)),
        ..PLAIN
    },
    Row {
        id: "R18",
        name: "fragments",
        limits: |limits| limits.message_timeout = S2,
        attack: |target| Box::pin(messages::fragments(target)),
        ..PLAIN
    },
    Row { id: "R20", name: "polls that churn", attack: |target| Box::pin(requests::polls(target)), ..PLAIN },
    Row {
        id: "R21",
        name: "clients to be recovered",
        stays: Duration::from_secs(6),
        build: |builder, _| {
            let mut options = RecoveryOptions::default();
            options.max_disconnection_duration = Duration::from_secs(4);
            builder.connection_state_recovery(options)
        },
        attack: |target| Box::pin(messages::recovery(target)),
        ..PLAIN
    },
    Row { id: "R25", name: "refusals that fill a log", attack: |target| Box::pin(requests::log(target)), ..PLAIN },
    Row {
        id: "R27",
        name: "clients that never leave",
        closes: true,
        limits: |limits| {
            limits.handler_stall = S2;
            limits.disconnect_wait = Duration::from_secs(1);
        },
        fine: &["handler_abandoned"],
        attack: |target| Box::pin(messages::stayers(target)),
        ..PLAIN
    },
    Row {
        id: "R28",
        name: "streams of HTTP/2",
        tls: true,
        limits: |limits| limits.write_timeout = S2,
        attack: |target| Box::pin(secure::streams(target)),
        ..PLAIN
    },
];

/// What is no attack on one server, and where it is shown.
#[cfg_attr(not(test), expect(dead_code, reason = "a test compares it with the catalogue"))]
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("R19", "it is measured, not limited: `cargo xtask bench memory`"),
    ("R22", "of a cluster: the tests of `socketio-adapter` and its simulation"),
    ("R23", "of a broker: `cargo xtask soak broker-faults`"),
    ("R24", "a choice of hash functions, nothing that could be counted"),
    ("R26", "a process without file descriptors: the test `r26_…` in `crates/socketio-cli/tests/serve.rs`"),
];

fn addresses(builder: Builder, limited: bool) -> Builder {
    if limited { builder.limit_addresses(AddressLimits::default()) } else { builder }
}

fn traffic(limited: bool, over: OverRate) -> TrafficLimits {
    let mut traffic = TrafficLimits::default();
    traffic.over = over;
    if !limited {
        traffic.packets = server::any_rate();
        traffic.bytes = server::any_rate();
    }
    traffic
}
