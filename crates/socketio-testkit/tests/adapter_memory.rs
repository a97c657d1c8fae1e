//! The contract of every adapter, for the broker inside the process: once with heartbeats, once with a broker that counts.

use socketio::{Membership, MemoryBroker};
use socketio_testkit::contract::Broker;

struct Memory(MemoryBroker);

impl Broker for Memory {
    type Bus = socketio_adapter::cluster::MemoryBus;

    fn bus(&self) -> Self::Bus {
        self.0.bus()
    }

    async fn junk(&self, namespace: &str, bytes: &[u8]) {
        self.0.publish(namespace, bytes.to_vec());
    }
}

mod heartbeat {
    async fn broker() -> super::Memory {
        super::Memory(super::MemoryBroker::new(super::Membership::Heartbeat))
    }

    socketio_testkit::adapter_contract!(broker);
}

mod counted {
    async fn broker() -> super::Memory {
        super::Memory(super::MemoryBroker::new(super::Membership::Counted))
    }

    socketio_testkit::adapter_contract!(broker);
}
