//! Events for a cluster from a program that is no server.

use std::fmt;

use redis::cmd;
use socketio_adapter::cluster::wire::WireLimits;
use socketio_adapter::cluster::{BoxFuture, BusError, Emitter, Envelope, Publisher, ServerId, Target};

use crate::link::{Address, LinkOptions};
use crate::writer::{Writer, answered};
use crate::{AddressError, Dialect, SubscriptionMode, Words, classic, streams};

/// An emitter for servers with the classic protocol, compatible with `@socket.io/redis-emitter` 5. It connects in the background
/// and reconnects; what is emitted meanwhile waits, up to 16 MiB.
///
/// # Errors
/// When the URL cannot be read.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn emitter(url: &str) -> Result<Emitter, AddressError> {
    start(url, Protocol::Classic)
}

/// An emitter for servers with the streams protocol. Otherwise as [`emitter`].
///
/// # Errors
/// When the URL cannot be read.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn streams_emitter(url: &str) -> Result<Emitter, AddressError> {
    start(url, Protocol::Streams)
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Classic,
    Streams,
}

/// Names of channels and of the stream are the defaults.
const NAME: &str = "socket.io";
const ENTRIES: usize = 10_000;

fn start(url: &str, protocol: Protocol) -> Result<Emitter, AddressError> {
    let words = Words {
        dialect: Dialect::Classic,
        prefix: NAME.to_owned(),
        mode: SubscriptionMode::Dynamic,
        specific_responses: false,
        limits: WireLimits::default(),
        id: ServerId::from(socketio_adapter::cluster::wire::EMITTER),
    };
    let writer = Writer::start(Address::single(url)?, LinkOptions::default(), Box::new(|_| {}));
    Ok(Emitter::new(RedisPublisher { writer, words, protocol }))
}

struct RedisPublisher {
    writer: Writer,
    words: Words,
    protocol: Protocol,
}

impl Publisher for RedisPublisher {
    fn publish(&self, envelope: Envelope) -> BoxFuture<'static, Result<(), BusError>> {
        let command = match self.protocol {
            Protocol::Classic => classic::encode(&self.words, &envelope, &Target::Everybody).map(|(channel, bytes)| {
                let (mut command, len) = (cmd("PUBLISH"), bytes.len());
                command.arg(channel).arg(bytes);
                (command, len)
            }),
            // Events for servers too: every server reads the stream.
            Protocol::Streams => streams::add(NAME, ENTRIES, &envelope),
        };
        let sent = command.and_then(|(command, bytes)| self.writer.send(command, bytes, true));
        Box::pin(async move { answered(sent?).await.map(drop) })
    }
}

impl fmt::Debug for RedisPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPublisher").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
