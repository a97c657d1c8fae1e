//! The connections that a bus listens and publishes on: one, or one for each shard of a Redis Cluster.
//!
//! What is published with `PUBLISH` reaches every node of a cluster, so one connection to any node is enough; only who
//! counts listeners has to ask all of them. A channel of `SPUBLISH` lives on the node that has its slot. There is a link for each
//! node that has slots, bound to one of these: when that slot gets another master, the link finds it. When slots are moved
//! between nodes, the channels follow, and links come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd};
use socketio_adapter::cluster::{BusError, Health};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::address::{self, Address, Slots};
use crate::link::{Channel, Handler, Link, LinkOptions};

/// How often a cluster is asked who has which slots, and how often while they are on the move.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_SOON: Duration = Duration::from_millis(250);
/// For how many looks slots count as being on the move.
const LOOKS: u32 = 12;

/// All connections of a bus. They end when this is dropped.
pub(crate) enum Links {
    /// One connection. In a cluster, who counts asks the other nodes, too.
    One(Arc<Link>, Option<Box<Counting>>),
    /// One for each node that has slots.
    Shards(Arc<Shards>),
}

/// Asks all nodes of a cluster.
pub(crate) struct Counting {
    address: Address,
    known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    nodes: BTreeSet<(String, u16)>,
    asked: Option<Instant>,
    connections: HashMap<(String, u16), MultiplexedConnection>,
}

pub(crate) struct Shards {
    address: Address,
    options: LinkOptions,
    handler: Arc<dyn Handler>,
    table: Mutex<Table>,
    /// Guards the order of the news. Taken before the table.
    told: Mutex<Health>,
    changed: Arc<Notify>,
}

/// Links by the slot that each is bound to.
#[derive(Default)]
struct Table {
    links: BTreeMap<u16, Arc<Link>>,
    up: BTreeSet<u16>,
    /// First and last slot, and whose they are.
    ranges: Vec<(u16, u16, u16)>,
    /// What is to be heard, and on which link it is subscribed.
    wanted: HashMap<String, (Channel, Option<u16>)>,
}

impl Links {
    /// Connects in the background. `sharded` is for channels of shards.
    pub(crate) fn start(address: Address, options: LinkOptions, sharded: bool, handler: Arc<dyn Handler>) -> Self {
        if !address.is_cluster() {
            return Self::One(Link::start(address, options, handler), None);
        }
        if !sharded {
            let counting = Counting { address: address.clone(), known: tokio::sync::Mutex::default() };
            return Self::One(Link::start(address, options, handler), Some(Box::new(counting)));
        }
        let shards = Arc::new(Shards {
            address,
            options,
            handler,
            table: Mutex::default(),
            told: Mutex::new(Health::Down),
            changed: Arc::new(Notify::new()),
        });
        tokio::spawn(look(Arc::downgrade(&shards)));
        Self::Shards(shards)
    }

    /// Listens to these, in this order.
    pub(crate) fn subscribe(&self, channels: Vec<Channel>) {
        match self {
            Self::One(link, _) => link.subscribe(channels),
            Self::Shards(shards) => shards.table.lock().subscribe(channels),
        }
    }

    /// Listens to these no longer.
    pub(crate) fn unsubscribe(&self, names: &[String]) {
        match self {
            Self::One(link, _) => link.unsubscribe(names),
            Self::Shards(shards) => shards.table.lock().unsubscribe(names),
        }
    }

    /// Listens to nothing of a namespace: these, and the rooms that it has left.
    pub(crate) fn unsubscribe_namespace(&self, namespace: &str, channels: Vec<Channel>) {
        match self {
            Self::One(link, _) => link.unsubscribe_namespace(namespace, channels),
            Self::Shards(shards) => {
                let mut table = shards.table.lock();
                let of_it = |(name, (channel, _)): (&String, &(Channel, _))| {
                    (*channel.namespace == *namespace).then(|| name.clone())
                };
                let names: Vec<String> = table.wanted.iter().filter_map(of_it).collect();
                table.unsubscribe(&names);
            }
        }
    }

    pub(crate) fn publish(&self, sharded: bool, channel: String, bytes: Vec<u8>) -> Result<(), BusError> {
        match self {
            Self::One(link, _) => link.publish(sharded, channel, bytes),
            Self::Shards(shards) => shards.link_of(&channel)?.publish(sharded, channel, bytes),
        }
    }

    /// Resolves when Redis has answered everything before, or is away.
    pub(crate) async fn settled(&self) {
        match self {
            Self::One(link, _) => link.settled().await,
            Self::Shards(shards) => {
                for link in shards.all() {
                    link.settled().await;
                }
            }
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self {
            Self::One(link, _) => link.health(),
            Self::Shards(shards) => shards.table.lock().health(),
        }
    }

    /// How many listen to each of these channels.
    pub(crate) async fn listeners<const N: usize>(&self, channels: [String; N]) -> Result<[usize; N], BusError> {
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg(&channels);
        let answers: Vec<Vec<(String, usize)>> = match self {
            Self::One(link, None) => vec![link.query(command).await?],
            Self::One(_, Some(counting)) => counting.ask(&command).await?,
            Self::Shards(shards) => vec![shards.link_of(&channels[0])?.query(command).await?],
        };
        let count = |no: usize| answers.iter().filter_map(|answer| answer.get(no)).map(|(_, count)| count).sum();
        Ok(std::array::from_fn(count))
    }

    /// How many listen to a channel of a shard.
    pub(crate) async fn shard_listeners(&self, channel: &str) -> Result<usize, BusError> {
        let mut command = redis::cmd("PUBSUB");
        command.arg("SHARDNUMSUB").arg(channel);
        let link = match self {
            Self::One(link, _) => Arc::clone(link),
            Self::Shards(shards) => shards.link_of(channel)?,
        };
        let (_, count): (String, usize) = link.query(command).await?;
        Ok(count)
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::One(link, _) => link.close().await,
            Self::Shards(shards) => {
                for link in shards.all() {
                    link.close().await;
                }
            }
        }
    }
}

impl Counting {
    /// What each node answers.
    async fn ask(&self, command: &Cmd) -> Result<Vec<Vec<(String, usize)>>, BusError> {
        let broker = |error: redis::RedisError| BusError::Broker(error.to_string());
        let mut known = self.known.lock().await;
        if known.asked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let slots = self.address.slots().await.map_err(broker)?;
            known.nodes = slots.into_iter().map(|slots| (slots.host, slots.port)).collect();
            known.asked = Some(Instant::now());
            let Known { nodes, connections, .. } = &mut *known;
            connections.retain(|node, _| nodes.contains(node));
        }
        let mut answers = Vec::new();
        for node in known.nodes.clone() {
            let connection = match known.connections.get(&node) {
                Some(connection) => Ok(connection.clone()),
                None => address::dial(&self.address.at(&node.0, node.1), &AsyncConnectionConfig::new()).await,
            };
            let answer = match connection {
                Ok(mut connection) => {
                    let answer = command.query_async(&mut connection).await;
                    known.connections.insert(node.clone(), connection);
                    answer
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    // There may be another master by now.
                    known.connections.remove(&node);
                    known.asked = None;
                    return Err(broker(error));
                }
            }
        }
        Ok(answers)
    }
}

/// Looks who has which slots, until the bus is gone.
async fn look(shards: Weak<Shards>) {
    let mut soon = 0_u32;
    loop {
        let (address, changed) = match shards.upgrade() {
            Some(shards) => (shards.address.clone(), Arc::clone(&shards.changed)),
            None => return,
        };
        let found = address.slots().await;
        let Some(strong) = shards.upgrade() else { return };
        let pause = match found {
            Ok(slots) => {
                strong.arrange(&slots);
                if soon > 0 { LOOK_SOON } else { LOOK_EVERY }
            }
            Err(error) => {
                tracing::debug!(%error, "the cluster does not say who has which slots");
                LOOK_SOON
            }
        };
        drop(strong);
        soon = soon.saturating_sub(1);
        tokio::select! {
            () = sleep(pause) => {}
            () = changed.notified() => {
                soon = LOOKS;
                // What has just moved is not known everywhere yet, and many links may notice at once.
                sleep(LOOK_SOON / 5).await;
            }
        }
    }
}

impl Shards {
    fn all(&self) -> Vec<Arc<Link>> {
        self.table.lock().links.values().cloned().collect()
    }

    fn link_of(&self, channel: &str) -> Result<Arc<Link>, BusError> {
        let table = self.table.lock();
        let link = table.whose(channel).and_then(|slot| table.links.get(&slot));
        link.cloned().ok_or_else(|| BusError::Broker("no node of the cluster has the channel".to_owned()))
    }

    /// Gives every node that has slots a link, and every channel its link.
    fn arrange(self: &Arc<Self>, slots: &[Slots]) {
        let mut owners: BTreeMap<(&str, u16), Vec<(u16, u16)>> = BTreeMap::new();
        for Slots { first, last, host, port } in slots {
            owners.entry((host, *port)).or_default().push((*first, *last));
        }
        let gone = {
            let mut table = self.table.lock();
            let Table { links, up, ranges, .. } = &mut *table;
            ranges.clear();
            let mut used = BTreeSet::new();
            for own in owners.values() {
                let bound =
                    links.keys().copied().find(|slot| own.iter().any(|(first, last)| (first..=last).contains(&slot)));
                let Some(bound) = bound.or_else(|| own.first().map(|(first, _)| *first)) else { continue };
                used.insert(bound);
                ranges.extend(own.iter().map(|(first, last)| (*first, *last, bound)));
                links.entry(bound).or_insert_with(|| {
                    let handler =
                        Shard { shards: Arc::downgrade(self), slot: bound, handler: Arc::clone(&self.handler) };
                    Link::start(self.address.of_slot(bound), self.options.clone(), Arc::new(handler))
                });
            }
            let unused: Vec<u16> = links.keys().copied().filter(|slot| !used.contains(slot)).collect();
            up.retain(|slot| used.contains(slot));
            let gone: Vec<_> = unused.iter().filter_map(|slot| links.remove(slot)).collect();
            table.follow();
            gone
        };
        // Their tasks end; nobody needs them any more.
        drop(gone);
        self.tell();
    }

    fn tell(&self) {
        let mut told = self.told.lock();
        let now = self.table.lock().health();
        if *told != now {
            *told = now;
            self.handler.health(now);
        }
    }
}

impl Table {
    /// The link of the slot that a channel has.
    fn whose(&self, channel: &str) -> Option<u16> {
        let slot = address::slot(channel.as_bytes());
        self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, bound)| *bound)
    }

    fn health(&self) -> Health {
        let all = !self.links.is_empty() && self.links.keys().all(|slot| self.up.contains(slot));
        if all { Health::Up } else { Health::Down }
    }

    fn subscribe(&mut self, channels: Vec<Channel>) {
        for channel in channels {
            let whose = self.whose(&channel.name);
            self.wanted.insert(channel.name.clone(), (channel.clone(), whose));
            if let Some(link) = whose.and_then(|slot| self.links.get(&slot)) {
                link.subscribe(vec![channel]);
            }
        }
    }

    fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if let Some((_, Some(slot))) = self.wanted.remove(name)
                && let Some(link) = self.links.get(&slot)
            {
                link.unsubscribe(std::slice::from_ref(name));
            }
        }
    }

    /// Channels go where their slots are now.
    fn follow(&mut self) {
        let moved: Vec<Channel> = self
            .wanted
            .iter()
            .filter(|(name, (_, on))| self.whose(name) != *on)
            .map(|(_, (channel, _))| channel.clone())
            .collect();
        for channel in &moved {
            self.unsubscribe(std::slice::from_ref(&channel.name));
        }
        self.subscribe(moved);
    }
}

/// What one link hears goes on to the bus.
struct Shard {
    shards: Weak<Shards>,
    slot: u16,
    handler: Arc<dyn Handler>,
}

impl Handler for Shard {
    fn message(&self, namespace: &Arc<str>, channel: &[u8], bytes: &[u8]) {
        self.handler.message(namespace, channel, bytes);
    }

    fn health(&self, health: Health) {
        let Some(shards) = self.shards.upgrade() else { return };
        {
            let mut table = shards.table.lock();
            match health {
                Health::Up if table.links.contains_key(&self.slot) => table.up.insert(self.slot),
                _ => table.up.remove(&self.slot),
            };
        }
        shards.changed.notify_one();
        shards.tell();
    }

    fn lost(&self, messages: u64) {
        self.handler.lost(messages);
    }

    fn moved(&self) {
        if let Some(shards) = self.shards.upgrade() {
            shards.changed.notify_one();
        }
    }
}
