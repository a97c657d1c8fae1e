//! The contract of every adapter, over a Redis stream.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use socketio_redis::RedisStreamsBus;
use socketio_testkit::contract::Broker;
use support::{Redis, RedisBroker};

struct Streams(RedisBroker);

impl Broker for Streams {
    type Bus = RedisStreamsBus;

    fn bus(&self) -> RedisStreamsBus {
        RedisStreamsBus::new(&self.0.redis.url()).expect("a URL")
    }

    /// As an entry, and as a message.
    async fn junk(&self, namespace: &str, bytes: &[u8]) {
        let nsp = namespace.as_bytes();
        self.0.command(&[b"XADD", b"socket.io", b"*", b"uid", b"x", b"nsp", nsp, b"type", b"3", b"data", bytes]).await;
        self.0.command(&[b"PUBLISH", format!("socket.io#{namespace}#").as_bytes(), bytes]).await;
    }
}

async fn broker() -> Streams {
    let mode = socketio_redis::SubscriptionMode::Static;
    Streams(RedisBroker { redis: Redis::start(), sharded: false, mode, specific: false })
}

socketio_testkit::adapter_contract!(broker);
