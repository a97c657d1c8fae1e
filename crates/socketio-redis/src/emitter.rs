//! Events for a cluster from a program that is no server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use socketio_adapter::cluster::{BoxFuture, BusError, Emitter, Envelope, Publisher, Target};

use crate::address::Address;
use crate::link::LinkOptions;
use crate::streams::Writers;
use crate::writer::answered;
use crate::{AddressError, Dialect, RedisBus, RedisStreamsBus, Words, classic, python, sharded, streams};

/// An emitter for servers with the classic protocol, compatible with `@socket.io/redis-emitter` 5. It connects in the background
/// and reconnects; what is emitted meanwhile waits, up to 16 MiB. For other options see [`RedisBus::emitter`].
///
/// # Errors
/// When the URL cannot be read.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn emitter(url: &str) -> Result<Emitter, AddressError> {
    Ok(RedisBus::classic(url)?.emitter())
}

/// An emitter for servers with the streams protocol. Otherwise as [`emitter`]; for other options see
/// [`RedisStreamsBus::emitter`].
///
/// # Errors
/// When the URL cannot be read.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn streams_emitter(url: &str) -> Result<Emitter, AddressError> {
    Ok(RedisStreamsBus::new(url)?.emitter())
}

/// An emitter for servers in Python and those with [`RedisBus::python`]: what a write-only manager is there. Otherwise as
/// [`emitter`].
///
/// It does not know whether there are servers in Python. What they cannot be told is [`BusError::Partly`] in any case; servers
/// in Rust have been told.
///
/// # Errors
/// When the URL cannot be read.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn python_emitter(url: &str) -> Result<Emitter, AddressError> {
    Ok(RedisBus::python(url)?.emitter())
}

/// What is to be written for a message.
pub(crate) enum Wording {
    /// Messages on channels.
    Channels(Words),
    /// An entry of the stream of the namespace.
    Stream(streams::Stream),
}

/// An emitter with the options of a bus.
pub(crate) fn start(address: Address, options: LinkOptions, wording: Wording) -> Emitter {
    let spread = matches!(&wording, Wording::Stream(stream) if stream.is_spread());
    let regather = match &wording {
        Wording::Channels(_) => options.regather,
        // A stream keeps what is written while nobody reads.
        Wording::Stream(_) => Duration::ZERO,
    };
    let options = LinkOptions { regather, ..options };
    Emitter::new(RedisPublisher { writers: Writers::start(address, options, spread, Arc::new(|_| {})), wording })
}

struct RedisPublisher {
    writers: Writers,
    wording: Wording,
}

/// Commands with their sizes, and what cannot be said.
type Commands = (Vec<(Cmd, usize)>, Option<&'static str>);

impl Wording {
    fn commands(&self, envelope: &Envelope) -> Result<Commands, BusError> {
        let to = Target::Everybody;
        let words = match self {
            // Events for servers too: every server reads the stream.
            Self::Stream(stream) => {
                let name = stream.of(&envelope.namespace);
                return Ok((vec![streams::add(&name, stream.most, envelope)?], None));
            }
            Self::Channels(words) => words,
        };
        let (word, parts, untold) = match words.dialect {
            Dialect::Classic => ("PUBLISH", vec![classic::encode(words, envelope, &to)?], None),
            Dialect::Sharded => ("SPUBLISH", vec![sharded::encode(words, envelope, &to)?], None),
            Dialect::Python => {
                let sent = python::encode(words, envelope, &to)?;
                ("PUBLISH", sent.parts, sent.untold)
            }
        };
        let publish = |(channel, bytes): (String, Vec<u8>)| {
            let (mut command, len) = (cmd(word), bytes.len());
            command.arg(channel).arg(bytes);
            (command, len)
        };
        Ok((parts.into_iter().map(publish).collect(), untold))
    }
}

impl Publisher for RedisPublisher {
    fn publish(&self, envelope: Envelope) -> BoxFuture<'static, Result<(), BusError>> {
        let sent = self.wording.commands(&envelope).and_then(|(commands, untold)| {
            let writer = match &self.wording {
                Wording::Stream(stream) => self.writers.of(&stream.of(&envelope.namespace)),
                Wording::Channels(_) => Arc::clone(&self.writers.main),
            };
            let send = |(command, bytes)| writer.send(command, bytes, true);
            Ok((commands.into_iter().map(send).collect::<Result<Vec<_>, _>>()?, untold))
        });
        Box::pin(async move {
            let (answers, untold) = sent?;
            for answer in answers {
                answered(answer).await?;
            }
            untold.map_or(Ok(()), |why| Err(BusError::Partly(why)))
        })
    }
}

impl fmt::Debug for RedisPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.wording {
            Wording::Channels(words) => format!("{:?} {}", words.dialect, words.prefix),
            Wording::Stream(stream) => format!("{stream:?}"),
        };
        f.debug_struct("RedisPublisher").field("wording", &what).finish_non_exhaustive()
    }
}
