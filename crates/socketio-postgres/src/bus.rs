//! The bus and the emitter, as the application sees them; the connections are in [`session`](crate::session).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socketio_adapter::cluster::wire::WireLimits;
use socketio_adapter::cluster::{
    BoxFuture, Bus, BusError, Direct, Emitter, Envelope, Health, Inbox, Membership, Message, Published, Publisher,
    ServerId, Target,
};
use tokio::sync::{oneshot, watch};
use tokio_postgres::Config;

use crate::notice;
use crate::outbox::{Item, Outbox};
use crate::tls::Tls;
use crate::{InvalidOption, PostgresOptions, session};

/// How long [`Bus::close`] tries to write what waits.
const FLUSH: Duration = Duration::from_secs(1);

/// Connects a server with others over a PostgreSQL database.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketio_postgres::{PostgresBus, PostgresOptions};
///
/// let bus = PostgresBus::new("postgres://me:secret@db.internal/app", PostgresOptions::default())?;
/// let io = socketio::SocketIo::builder().adapter(bus).build()?;
/// # Ok(())
/// # }
/// ```
///
/// It needs two connections to the database. Dropping it ends both.
pub struct PostgresBus(Handle);

/// An emitter over a PostgreSQL database, from any program on a tokio runtime: compatible with
/// `@socket.io/postgres-emitter`, whose events a [`PostgresBus`] understands too.
///
/// It connects in the background and reconnects; what is emitted before waits in the buffer.
///
/// # Errors
/// When the address or an option makes no sense.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn emitter(url: &str, options: PostgresOptions) -> Result<Emitter, InvalidOption> {
    let shared = Shared::new(options.checked(url)?);
    tokio::spawn(session::run(Arc::clone(&shared), None));
    Ok(Emitter::new(PostgresPublisher(Handle(shared))))
}

/// What the application's side and the task share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) options: PostgresOptions,
    pub(crate) limits: WireLimits,
    pub(crate) outbox: Outbox,
    /// Which namespaces are heard, by their channels.
    pub(crate) wanted: Mutex<Wanted>,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) phase: watch::Sender<Phase>,
}

#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) channels: BTreeMap<String, Arc<str>>,
    pub(crate) generation: u64,
}

/// What the task has reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) health: Health,
    /// The database knows the channels of this generation.
    pub(crate) listened: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// What waits is written, then it ends.
    Closing,
    /// It ends at once.
    Closed,
}

impl Shared {
    fn new((config, tls, options): (Config, Tls, PostgresOptions)) -> Arc<Self> {
        Arc::new(Self {
            config,
            tls,
            limits: WireLimits::default(),
            outbox: Outbox::new(options.buffer_bytes),
            wanted: Mutex::default(),
            changed: watch::Sender::new(0),
            status: watch::Sender::new(Status { health: Health::Down, listened: 0 }),
            phase: watch::Sender::new(Phase::Running),
            options,
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<str>>)) {
        let generation = {
            let mut wanted = self.wanted.lock();
            change(&mut wanted.channels);
            wanted.generation += 1;
            wanted.generation
        };
        self.changed.send_replace(generation);
    }

    fn push(&self, envelope: &Envelope, done: Option<oneshot::Sender<Result<(), BusError>>>) -> Result<(), BusError> {
        if *self.phase.borrow() != Phase::Running {
            return Err(BusError::Closed);
        }
        let Some(channel) = notice::channel(&self.options.channel_prefix, &envelope.namespace) else {
            return Err(BusError::Broker("the name of the namespace is too long for a channel".to_owned()));
        };
        let body = notice::write(envelope, self.options.payload_threshold)?;
        self.outbox.push(Item { channel, body, done })
    }
}

/// Ends the task when it is dropped.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.phase.send_replace(Phase::Closed);
    }
}

impl PostgresBus {
    /// A bus over the database at `url`: `postgres://user:password@host:port/database`, or the `key=value` form of libpq.
    /// Nothing is connected yet; the server does that.
    ///
    /// # Errors
    /// When the address or an option makes no sense.
    pub fn new(url: &str, options: PostgresOptions) -> Result<Self, InvalidOption> {
        Ok(Self(Handle(Shared::new(options.checked(url)?))))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl Bus for PostgresBus {
    fn membership(&self) -> Membership {
        Membership::Heartbeat
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        tokio::spawn(session::run(Arc::clone(self.shared()), Some((id, inbox))));
    }

    fn open(&self, namespace: &str) {
        match notice::channel(&self.shared().options.channel_prefix, namespace) {
            Some(channel) => self.shared().change(|channels| {
                channels.insert(channel, namespace.into());
            }),
            None => tracing::warn!(namespace, "the name is too long for a channel; it stays on this server"),
        }
    }

    fn shut(&self, namespace: &str) {
        if let Some(channel) = notice::channel(&self.shared().options.channel_prefix, namespace) {
            self.shared().change(|channels| {
                channels.remove(&channel);
            });
        }
    }

    fn publish(&self, envelope: Envelope, _: Target) -> Result<Published, BusError> {
        let presence = matches!(envelope.message, Message::Hello | Message::Heartbeat);
        // Who is back says so then. Old heartbeats only fill the buffer.
        if !(presence && self.health() == Health::Down) {
            self.shared().push(&envelope, None)?;
        }
        Ok(Published::Queued)
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        let generation = self.shared().wanted.lock().generation;
        let mut status = self.shared().status.subscribe();
        Box::pin(async move {
            let there = |status: &Status| status.health == Health::Down || status.listened >= generation;
            // An error means that the bus is gone.
            drop(status.wait_for(there).await);
        })
    }

    fn health(&self) -> Health {
        self.shared().status.borrow().health
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(self.shared());
        Box::pin(async move {
            shared.phase.send_if_modified(|phase| {
                let running = *phase == Phase::Running;
                *phase = if running { Phase::Closing } else { *phase };
                running
            });
            let mut phase = shared.phase.subscribe();
            // Either way it is over.
            drop(tokio::time::timeout(FLUSH, phase.wait_for(|phase| *phase == Phase::Closed)).await);
            shared.phase.send_replace(Phase::Closed);
        })
    }
}

impl Direct for PostgresBus {
    fn listen(&self, address: &str) {
        let prefix = &self.shared().options.channel_prefix;
        for address in [Some(address), None] {
            match notice::direct_channel(prefix, address) {
                // About no namespace.
                Some(channel) => self.shared().change(|channels| {
                    channels.insert(channel, "".into());
                }),
                None => tracing::warn!(prefix, "too long a prefix: requests are not forwarded to this server"),
            }
        }
    }

    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError> {
        let shared = self.shared();
        if *shared.phase.borrow() != Phase::Running {
            return Err(BusError::Closed);
        }
        let Some(channel) = notice::direct_channel(&shared.options.channel_prefix, to) else {
            return Err(BusError::Broker("the prefix is too long for a channel".to_owned()));
        };
        let body = notice::write_direct(bytes, shared.options.payload_threshold);
        shared.outbox.push(Item { channel, body, done: None })
    }
}

impl fmt::Debug for PostgresBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBus").field("health", &self.health()).finish_non_exhaustive()
    }
}

struct PostgresPublisher(Handle);

impl Publisher for PostgresPublisher {
    fn publish(&self, envelope: Envelope) -> BoxFuture<'static, Result<(), BusError>> {
        let (done, result) = oneshot::channel();
        let queued = self.0.0.push(&envelope, Some(done));
        Box::pin(async move {
            queued?;
            result.await.unwrap_or(Err(BusError::Closed))
        })
    }
}

impl fmt::Debug for PostgresPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresPublisher").finish_non_exhaustive()
    }
}
