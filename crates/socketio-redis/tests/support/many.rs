//! Several redis-servers that belong together: a cluster, or a master with a replica and a sentinel.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, cmd};

use super::{Redis, free_port};

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is gone with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sio-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("it can be written");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks one server.
pub(crate) async fn ask<T: FromRedisValue>(url: &str, words: &[&str]) -> redis::RedisResult<T> {
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(20)))
        .set_response_timeout(Some(Duration::from_secs(20)));
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await
}

/// Waits until a server says this somewhere in its answer.
pub(crate) async fn says(url: &str, words: &[&str], want: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask::<String>(url, words).await;
        if answer.as_ref().is_ok_and(|answer| answer.contains(want)) {
            return;
        }
        assert!(Instant::now() < until, "{words:?}: {answer:?} has no {want:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three masters, and a replica of the one that has a certain slot.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
    pub(crate) replica: Option<Redis>,
    _folder: Folder,
}

/// The last slots of the three.
const LAST: [u16; 3] = [5_460, 10_922, 16_383];

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let nodes: Vec<Redis> = (0..3).map(|no| node(&folder, no)).collect();
        let mut first = 0;
        for (no, (node, last)) in nodes.iter().zip(LAST).enumerate() {
            let (epoch, range) = ((no + 1).to_string(), [first.to_string(), last.to_string()]);
            ask::<()>(&node.url(), &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.expect("a new node");
            ask::<()>(&node.url(), &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await.expect("a new node");
            first = last + 1;
        }
        let cluster = Self { nodes, replica: None, _folder: folder };
        for node in &cluster.nodes[1..] {
            cluster.meet(node).await;
        }
        for node in &cluster.nodes {
            says(&node.url(), &["CLUSTER", "INFO"], "cluster_known_nodes:3").await;
            says(&node.url(), &["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        cluster
    }

    async fn meet(&self, node: &Redis) {
        let (port, bus) = (node.port.to_string(), node.bus.to_string());
        let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
        ask::<()>(&self.nodes[0].url(), &meet).await.expect("they can meet");
    }

    /// The master of the slot of this key or channel.
    pub(crate) async fn master(&self, key: &str) -> usize {
        let slot: u16 = ask(&self.nodes[0].url(), &["CLUSTER", "KEYSLOT", key]).await.expect("a key");
        LAST.iter().position(|last| slot <= *last).expect("there is no other")
    }

    /// Gives a master a replica that has all that it has.
    pub(crate) async fn replicate(&mut self, master: usize) {
        let replica = node(&self._folder, 9);
        self.meet(&replica).await;
        says(&replica.url(), &["CLUSTER", "INFO"], "cluster_known_nodes:4").await;
        let id: String = ask(&self.nodes[master].url(), &["CLUSTER", "MYID"]).await.expect("a node");
        let until = Instant::now() + PATIENCE;
        // It has to have heard of its master first.
        while ask::<()>(&replica.url(), &["CLUSTER", "REPLICATE", &id]).await.is_err() {
            assert!(Instant::now() < until, "it does not become a replica");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        says(&replica.url(), &["INFO", "replication"], "master_link_status:up").await;
        for node in &self.nodes {
            says(&node.url(), &["CLUSTER", "NODES"], "slave").await;
        }
        self.replica = Some(replica);
    }

    /// Moves the slot of this channel to the next master.
    pub(crate) async fn migrate(&self, channel: &str) {
        let slot: u16 = ask(&self.nodes[0].url(), &["CLUSTER", "KEYSLOT", channel]).await.expect("a key");
        let from = self.master(channel).await;
        let to = (from + 1) % 3;
        let mut ids = Vec::new();
        for node in &self.nodes {
            ids.push(ask::<String>(&node.url(), &["CLUSTER", "MYID"]).await.expect("a node"));
        }
        let set = |what: &'static str, id: String| {
            ["CLUSTER".to_owned(), "SETSLOT".to_owned(), slot.to_string(), what.to_owned(), id]
        };
        let steps = [
            (to, set("IMPORTING", ids[from].clone())),
            (from, set("MIGRATING", ids[to].clone())),
            (to, set("NODE", ids[to].clone())),
            (from, set("NODE", ids[to].clone())),
        ];
        for (node, words) in steps {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            ask::<()>(&self.nodes[node].url(), &words).await.expect("the slot has no keys");
        }
    }

    /// The addresses of all masters.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}

fn node(folder: &Folder, no: usize) -> Redis {
    let (dir, file) = (folder.0.to_string_lossy().into_owned(), format!("nodes-{no}.conf"));
    Redis::start_with(|_| {
        let bus = free_port();
        let words = [
            "--dir",
            &dir,
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            &file,
            "--cluster-node-timeout",
            "1500",
            "--cluster-replica-validity-factor",
            "0",
            "--repl-diskless-sync-delay",
            "0",
            "--cluster-port",
            &bus.to_string(),
        ];
        (words.map(str::to_owned).into(), bus)
    })
}

/// A master, its replica, and a sentinel that looks after them under the name `chat`.
pub(crate) struct Guarded {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    pub(crate) sentinel: Redis,
    _folder: Folder,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let dir = folder.0.to_string_lossy().into_owned();
        let fast = |more: Vec<String>| {
            let dir = dir.clone();
            move |_| {
                let mut words = vec!["--dir".to_owned(), dir.clone(), "--repl-diskless-sync-delay".into(), "0".into()];
                words.extend(more.clone());
                (words, 0)
            }
        };
        let master = Redis::start_with(fast(Vec::new()));
        let of = vec!["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.port.to_string()];
        let replica = Redis::start_with(fast(of));
        says(&replica.url(), &["INFO", "replication"], "master_link_status:up").await;
        let port = master.port;
        let sentinel = Redis::start_sentinel(|own| {
            folder.file(
                "sentinel.conf",
                &format!(
                    "port {own}\nbind 127.0.0.1\ndir {dir}\nsentinel monitor chat 127.0.0.1 {port} 1\n\
                     sentinel down-after-milliseconds chat 500\nsentinel failover-timeout chat 3000\n"
                ),
            )
        });
        says(&sentinel.url(), &["INFO", "sentinel"], "slaves=1").await;
        Self { master, replica, sentinel, _folder: folder }
    }
}
