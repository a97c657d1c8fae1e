//! What a session needs to know of its server's options.

use std::time::Duration;

use crate::{Limits, rate::TrafficLimits};

/// The options that every session of a server shares.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long after the last pong the next ping is due. Default: 25 s. Node: `pingInterval`.
    pub ping_interval: Duration,
    /// How long a peer may take to answer a ping. Default: 20 s. Node: `pingTimeout`.
    pub ping_timeout: Duration,
    /// How long an upgrade may take from the WebSocket handshake to the upgrade packet. Default: 10 s. Node: `upgradeTimeout`.
    pub upgrade_timeout: Duration,
    /// The longest time a poll is held when nothing is to be sent; `None` holds it until the next ping.
    ///
    /// Default: `None`. Clients that did not ask for short polling are held for at least a second, so a stock client
    /// does not spin.
    pub poll_hold: Option<Duration>,
    /// How long a polling session that was closed waits for the poll that tells the client. Default: 30 s, as Node.
    pub close_grace: Duration,
    /// How much a client may send. Default: no limit.
    pub traffic: Option<TrafficLimits>,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            poll_hold: None,
            close_grace: Duration::from_secs(30),
            traffic: None,
            limits: Limits::default(),
        }
    }
}
