//! A broker inside the process: for tests, and for several servers in one program.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wire::{self, WireLimits};
use super::{BoxFuture, Bus, BusError, Direct, Envelope, Health, Inbox, Membership, Published, ServerId, Target};

/// A broker that servers of the same process share. Cheap to clone.
///
/// Messages are written and read as on a network. They are delivered on the thread that publishes, one after the other.
#[derive(Clone)]
pub struct MemoryBroker(Arc<Broker>);

struct Broker {
    membership: Membership,
    limits: WireLimits,
    /// Guards who is connected and what is on its way. Nobody is called while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    servers: Vec<Server>,
    next: u64,
    queue: VecDeque<Parcel>,
    delivering: bool,
    down: bool,
}

struct Server {
    number: u64,
    id: ServerId,
    inbox: Arc<dyn Inbox>,
    namespaces: BTreeSet<String>,
    address: Option<String>,
}

enum Parcel {
    Message { to: Option<ServerId>, namespace: Arc<str>, bytes: Vec<u8> },
    Direct { to: Option<String>, bytes: Vec<u8> },
}

impl MemoryBroker {
    /// A broker whose servers know each other this way.
    pub fn new(membership: Membership) -> Self {
        Self(Arc::new(Broker { membership, limits: WireLimits::default(), state: Mutex::default() }))
    }

    /// A bus for one more server.
    pub fn bus(&self) -> MemoryBus {
        let mut state = self.0.state();
        state.next += 1;
        MemoryBus { broker: Arc::clone(&self.0), number: state.next }
    }

    /// Takes the broker down or brings it back: what is published meanwhile is lost.
    pub fn set_down(&self, down: bool) {
        let inboxes: Vec<_> = {
            let mut state = self.0.state();
            state.down = down;
            state.servers.iter().map(|server| Arc::clone(&server.inbox)).collect()
        };
        for inbox in inboxes {
            inbox.health(if down { Health::Down } else { Health::Up });
        }
    }

    /// Publishes bytes of somebody who is no server.
    pub fn publish(&self, namespace: &str, bytes: Vec<u8>) {
        self.0.deliver(Parcel::Message { to: None, namespace: namespace.into(), bytes });
    }

    /// Sends bytes of somebody who is no server straight to all servers.
    pub fn send(&self, bytes: Vec<u8>) {
        self.0.deliver(Parcel::Direct { to: None, bytes });
    }
}

impl Broker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever finds nobody delivering does it until the queue is empty, so messages are never delivered inside each other.
    fn deliver(&self, parcel: Parcel) {
        let mut state = self.state();
        if state.down {
            return;
        }
        state.queue.push_back(parcel);
        if state.delivering {
            return;
        }
        state.delivering = true;
        while let Some(parcel) = state.queue.pop_front() {
            let hears = |server: &&Server| match &parcel {
                Parcel::Message { to, namespace, .. } => {
                    server.namespaces.contains(&**namespace) && to.as_ref().is_none_or(|to| *to == server.id)
                }
                Parcel::Direct { to, .. } => {
                    server.address.as_ref().is_some_and(|address| to.as_ref().is_none_or(|to| to == address))
                }
            };
            let inboxes: Vec<_> = state.servers.iter().filter(hears).map(|server| Arc::clone(&server.inbox)).collect();
            drop(state);
            for inbox in inboxes {
                match &parcel {
                    Parcel::Message { bytes, .. } => match wire::decode(bytes, &self.limits) {
                        Ok(envelope) => inbox.received(envelope, None),
                        Err(why) => inbox.foreign(&why),
                    },
                    Parcel::Direct { bytes, .. } => inbox.direct(bytes),
                }
            }
            state = self.state();
        }
        state.delivering = false;
    }
}

/// One server's connection to a [`MemoryBroker`].
pub struct MemoryBus {
    broker: Arc<Broker>,
    number: u64,
}

impl MemoryBus {
    fn server(&self, change: impl FnOnce(&mut Server)) {
        let mut state = self.broker.state();
        if let Some(server) = state.servers.iter_mut().find(|server| server.number == self.number) {
            change(server);
        }
    }
}

impl Bus for MemoryBus {
    fn membership(&self) -> Membership {
        self.broker.membership
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        let (inbox_of_server, namespaces) = (Arc::clone(&inbox), BTreeSet::new());
        let server = Server { number: self.number, id, inbox: inbox_of_server, namespaces, address: None };
        self.broker.state().servers.push(server);
        inbox.health(self.health());
    }

    fn open(&self, namespace: &str) {
        self.server(|server| {
            server.namespaces.insert(namespace.to_owned());
        });
    }

    fn shut(&self, namespace: &str) {
        self.server(|server| {
            server.namespaces.remove(namespace);
        });
    }

    fn publish(&self, envelope: Envelope, to: Target) -> Result<Published, BusError> {
        let bytes = wire::encode(&envelope)?;
        let to = match to {
            Target::Asker(to) => to,
            Target::Everybody => None,
        };
        self.broker.deliver(Parcel::Message { to, namespace: envelope.namespace, bytes });
        Ok(Published::Queued)
    }

    fn server_count(&self, namespace: &str) -> BoxFuture<'static, Result<usize, BusError>> {
        let state = self.broker.state();
        let count = state.servers.iter().filter(|server| server.namespaces.contains(namespace)).count();
        let down = state.down;
        Box::pin(async move { if down { Err(BusError::Broker("the broker is down".to_owned())) } else { Ok(count) } })
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }

    fn health(&self) -> Health {
        if self.broker.state().down { Health::Down } else { Health::Up }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.broker.state().servers.retain(|server| server.number != self.number);
        Box::pin(async {})
    }
}

impl Direct for MemoryBus {
    fn listen(&self, address: &str) {
        self.server(|server| server.address = Some(address.to_owned()));
    }

    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError> {
        self.broker.deliver(Parcel::Direct { to: to.map(str::to_owned), bytes });
        Ok(())
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("servers", &self.0.state().servers.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").field("number", &self.number).finish_non_exhaustive()
    }
}
