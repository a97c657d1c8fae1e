//! Where Redis is: at one address, wherever sentinels say, or on the nodes of a Redis Cluster.
//!
//! An address is asked anew for every connection, so whoever connects again after a failover finds the new master.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisError, RedisResult, TlsCertificates, Value, cmd,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::AddressError;

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After how long without success another attempt is made beside the first one. What a network swallows, TCP repeats late.
const ATTEMPT: Duration = Duration::from_millis(250);
/// The most attempts at the same time.
const MOST_ATTEMPTS: usize = 8;
/// After how long without success the attempts have failed together.
const ATTEMPTS: Duration = Duration::from_secs(5);
/// How long somebody who knows where Redis is may take to say so.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The most nodes of a cluster that are remembered.
const MOST_NODES: usize = 1_000;

/// Where Redis is.
#[derive(Clone)]
pub(crate) struct Address {
    /// The one server; otherwise how to log in to any.
    info: ConnectionInfo,
    way: Way,
    certificates: TlsCertificates,
    /// In a cluster: what is wanted is on the node that has this slot, or on any.
    slot: Option<u16>,
}

#[derive(Clone)]
enum Way {
    Direct,
    /// Who knows where the master is, and its name.
    Sentinels(Vec<ConnectionInfo>, String),
    /// The nodes that were found last, the given ones behind them.
    Cluster(Arc<Mutex<Vec<ConnectionInfo>>>),
}

/// Which node of a cluster has which slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn single(url: &str) -> Result<Self, AddressError> {
        let certificates = TlsCertificates { client_tls: None, root_cert: None };
        Ok(Self { info: read(url)?, way: Way::Direct, certificates, slot: None })
    }

    /// A cluster of the one server and these.
    pub(crate) fn with_nodes(self, urls: &[&str]) -> Result<Self, AddressError> {
        let more = urls.iter().map(|url| read(url)).collect::<Result<Vec<_>, _>>()?;
        let nodes = std::iter::once(self.info.clone()).chain(more).collect();
        Ok(Self { way: Way::Cluster(Arc::new(Mutex::new(nodes))), ..self })
    }

    pub(crate) fn behind(self, urls: &[&str], service: &str) -> Result<Self, AddressError> {
        let sentinels = urls.iter().map(|url| plain(url)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { way: Way::Sentinels(sentinels, service.to_owned()), ..self })
    }

    /// Trusts these certificates instead of the system's.
    pub(crate) fn trusting(mut self, roots: Option<&[u8]>) -> Result<Self, AddressError> {
        self.certificates.root_cert = roots.map(<[u8]>::to_vec);
        self.certified()
    }

    /// Shows a certificate of its own.
    pub(crate) fn showing(mut self, chain: &[u8], key: &[u8]) -> Result<Self, AddressError> {
        let own = ClientTlsConfig { client_cert: chain.to_vec(), client_key: key.to_vec() };
        self.certificates.client_tls = Some(own);
        self.certified()
    }

    fn certified(mut self) -> Result<Self, AddressError> {
        self.info = with(&self.info, &self.certificates)?;
        match &mut self.way {
            Way::Direct => {}
            Way::Sentinels(nodes, _) => trust(nodes, &self.certificates)?,
            Way::Cluster(nodes) => trust(&mut nodes.lock(), &self.certificates)?,
        }
        Ok(self)
    }

    /// The same, for what belongs to one key.
    pub(crate) fn of_key(&self, key: &str) -> Self {
        self.of_slot(slot(key.as_bytes()))
    }

    pub(crate) fn of_slot(&self, slot: u16) -> Self {
        Self { slot: Some(slot), ..self.clone() }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster(_))
    }

    pub(crate) async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        match &self.way {
            Way::Direct => dial(&self.info, config).await,
            Way::Sentinels(sentinels, service) => {
                let mut error = nobody("no sentinel knows the master");
                for sentinel in sentinels {
                    match self.master(sentinel, service, config).await {
                        Ok(connection) => return Ok(connection),
                        Err(why) => error = why,
                    }
                }
                Err(error)
            }
            Way::Cluster(_) => {
                let slots = self.slots().await?;
                let wanted = |slots: &&Slots| self.slot.is_none_or(|slot| (slots.first..=slots.last).contains(&slot));
                let mut nodes: Vec<&Slots> = slots.iter().filter(wanted).collect();
                if self.slot.is_none() && !nodes.is_empty() {
                    // Any will do, so they share the load.
                    let first = rand::random_range(0..nodes.len());
                    nodes.rotate_left(first);
                }
                let mut error = nobody("no node has this slot");
                for node in nodes {
                    match dial(&self.at(&node.host, node.port), config).await {
                        Ok(connection) => return Ok(connection),
                        Err(why) => error = why,
                    }
                }
                Err(error)
            }
        }
    }

    /// The master that a sentinel names, if it is one: right after a failover some still name the old one.
    async fn master(
        &self,
        sentinel: &ConnectionInfo,
        service: &str,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let found: Option<(String, u16)> = ask(sentinel, &command).await?;
        let (host, port) = found.ok_or_else(|| nobody("the sentinel knows no master of this name"))?;
        let mut connection = dial(&self.at(&host, port), config).await?;
        let role: Value = within(ASK_TIMEOUT, cmd("ROLE").query_async(&mut connection)).await?;
        match &role {
            Value::Array(parts) if parts.first().and_then(text).as_deref() == Some("master") => Ok(connection),
            _ => Err(nobody("what the sentinel names is no master")),
        }
    }

    /// Which node has which slots, as the first node says that answers.
    pub(crate) async fn slots(&self) -> RedisResult<Vec<Slots>> {
        let Way::Cluster(known) = &self.way else { return Ok(Vec::new()) };
        let nodes = known.lock().clone();
        let mut error = nobody("no node of the cluster answers");
        for node in &nodes {
            let mut command = cmd("CLUSTER");
            command.arg("SLOTS");
            let reply: Value = match ask(node, &command).await {
                Ok(reply) => reply,
                Err(why) => {
                    error = why;
                    continue;
                }
            };
            let slots = read_slots(reply, host_of(node));
            if slots.is_empty() {
                error = nobody("a node that belongs to no cluster");
                continue;
            }
            let mut found: Vec<ConnectionInfo> = Vec::new();
            for info in slots.iter().map(|slots| self.at(&slots.host, slots.port)).chain(nodes.iter().cloned()) {
                if found.len() < MOST_NODES && !found.iter().any(|other| other.addr() == info.addr()) {
                    found.push(info);
                }
            }
            *known.lock() = found;
            return Ok(slots);
        }
        Err(error)
    }

    /// Another server, with the same user, password, database and certificates.
    pub(crate) fn at(&self, host: &str, port: u16) -> ConnectionInfo {
        let host = host.to_owned();
        self.info.clone().set_addr(match self.info.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        })
    }
}

fn plain(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = url.into_connection_info().map_err(|error| AddressError(error.to_string()))?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may do so at the same moment.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Ok(info)
}

fn read(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = plain(url)?;
    // Pushes beside answers: one connection subscribes and publishes, in one order.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings))
}

fn with(info: &ConnectionInfo, certificates: &TlsCertificates) -> Result<ConnectionInfo, AddressError> {
    let client = Client::build_with_tls(info.clone(), certificates.clone());
    let client = client.map_err(|error| AddressError(error.to_string()))?;
    Ok(client.get_connection_info().clone())
}

fn trust(nodes: &mut [ConnectionInfo], certificates: &TlsCertificates) -> Result<(), AddressError> {
    for node in nodes {
        // A sentinel may be reached without TLS, although the master is not.
        if matches!(node.addr(), ConnectionAddr::TcpTls { .. }) {
            *node = with(node, certificates)?;
        }
    }
    Ok(())
}

/// One question to a server that nothing else is wanted from.
pub(crate) async fn ask<T: redis::FromRedisValue>(info: &ConnectionInfo, command: &redis::Cmd) -> RedisResult<T> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ASK_TIMEOUT));
    let mut connection = dial(info, &config).await?;
    within(ASK_TIMEOUT, command.query_async(&mut connection)).await
}

pub(crate) async fn dial(info: &ConnectionInfo, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(info.clone())?;
    within(CONNECT_TIMEOUT, client.get_multiplexed_async_connection_with_config(config)).await
}

/// The first connection of several attempts; an error when none is left, or when the network swallows them for [`ATTEMPTS`].
pub(crate) async fn first<T, F>(mut attempt: impl FnMut() -> F) -> RedisResult<T>
where
    T: Send + 'static,
    F: Future<Output = RedisResult<T>> + Send + 'static,
{
    let connecting = async {
        let mut attempts = JoinSet::new();
        loop {
            if attempts.len() < MOST_ATTEMPTS {
                attempts.spawn(attempt());
            }
            let next = sleep(ATTEMPT);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    Some(done) = attempts.join_next() => match done.unwrap_or_else(|_| Err(late())) {
                        Err(error) if attempts.is_empty() => return Err(error),
                        // Another one may do better.
                        Err(_) => {}
                        done => return done,
                    },
                    () = &mut next => break,
                }
            }
        }
    };
    within(ATTEMPTS, connecting).await
}

/// Says why Redis cannot be reached, once for each outage: whoever runs the server may have mistyped its address or password.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    said: bool,
}

impl Complaint {
    pub(crate) fn about(&mut self, error: &RedisError) {
        if std::mem::replace(&mut self.said, true) {
            tracing::debug!(%error, "Redis is not there");
        } else {
            tracing::warn!(%error, "Redis is not there; clients of this server are served, and it is tried again");
        }
    }

    /// It is there.
    pub(crate) fn over(&mut self) {
        self.said = false;
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(time, future).await.unwrap_or_else(|_| Err(late()))
}

pub(crate) fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn nobody(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, why))
}

fn host_of(info: &ConnectionInfo) -> &str {
    match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => "localhost",
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// What `CLUSTER SLOTS` answers: `[first, last, [host, port, …], …]` of each range. A node that knows no address of its own
/// leaves it out.
fn read_slots(reply: Value, asked: &str) -> Vec<Slots> {
    let Value::Array(ranges) = reply else { return Vec::new() };
    let range = |range: &Value| {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
        let [host, Value::Int(port), ..] = &master[..] else { return None };
        let host = text(host).filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.to_owned());
        let slots = Slots {
            first: u16::try_from(*first).ok()?,
            last: u16::try_from(*last).ok()?,
            host,
            port: u16::try_from(*port).ok()?,
        };
        (slots.first <= slots.last && slots.last < SLOTS).then_some(slots)
    };
    ranges.iter().take(usize::from(SLOTS)).filter_map(range).collect()
}

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot of a key or of a channel of a shard: the CRC16 of what is between the first braces, or of all.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
        rest.get(..close)
    });
    let mut crc = 0_u16;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold a password.
        f.write_str("Address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_redis_computes() {
        // `redis-cli cluster keyslot …`
        for (key, want) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("socket.io#/#", slot(b"socket.io#/#")),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("{}foo", slot(b"{}foo")),
        ] {
            assert_eq!(slot(key.as_bytes()), want, "{key}");
        }
        assert_ne!(slot(b"{}foo"), slot(b"foo"));
        assert_eq!(slot(b"sio:session:{socket.io}:x"), slot(b"socket.io"));
    }

    #[test]
    fn what_a_node_says_of_slots_is_read_as_far_as_it_makes_sense() {
        let int = Value::Int;
        let list = |items: &[Value]| Value::Array(items.to_vec());
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let reply = list(&[
            list(&[int(0), int(99), list(&[host("10.0.0.1"), int(7_000), host("id")]), list(&[host("x"), int(1)])]),
            list(&[int(100), int(16_383), list(&[Value::Nil, int(7_001)])]),
            list(&[int(5), int(4), list(&[host("a"), int(1)])]),
            list(&[int(0), int(16_384), list(&[host("a"), int(1)])]),
            list(&[int(0), int(1), list(&[host("a"), int(70_000)])]),
            list(&[int(-1), int(1), list(&[host("a"), int(1)])]),
            list(&[int(0)]),
            Value::Nil,
        ]);
        let slots = |first, last, host: &str, port| Slots { first, last, host: host.to_owned(), port };
        let want = [slots(0, 99, "10.0.0.1", 7_000), slots(100, 16_383, "asked", 7_001)];
        assert_eq!(read_slots(reply, "asked"), want);
        assert!(read_slots(Value::Nil, "asked").is_empty());
    }
}
