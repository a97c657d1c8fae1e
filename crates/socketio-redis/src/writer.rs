//! Commands whose answers matter, in order: entries of a stream, sessions, and what emitters publish.
//!
//! One task owns the connection and writes what waits in pipelines. A command that may or may not have reached Redis is not sent
//! again; whoever gave it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use socketio_adapter::cluster::BusError;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

pub(crate) use crate::address::late;
use crate::address::{self, Address, CONNECT_TIMEOUT, Complaint};
use crate::link::LinkOptions;

/// How much goes into one pipeline.
const BATCH_ITEMS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// What a command costs in the buffer besides its bytes.
const ITEM_BYTES: usize = 256;
/// Between attempts.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// A connection on which nothing happens is asked for a sign of life: the next command is not to be the one that finds out.
const IDLE: Duration = Duration::from_secs(1);
/// How long [`Writer::close`] waits for what is queued.
const FLUSH: Duration = Duration::from_secs(1);

type Answer = Result<Value, BusError>;
/// Told how many messages were lost.
pub(crate) type OnLost = Box<dyn Fn(u64) + Send + Sync>;

/// A connection that takes commands. Ends when it is dropped.
pub(crate) struct Writer(Arc<Shared>);

struct Shared {
    options: LinkOptions,
    queue: Mutex<Queue>,
    wake: Notify,
    closing: AtomicBool,
    closed: Notify,
    idle: watch::Sender<bool>,
    on_lost: OnLost,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

struct Item {
    command: Cmd,
    bytes: usize,
    done: oneshot::Sender<Answer>,
    /// It counts as a message when it is lost.
    message: bool,
}

impl Writer {
    /// Connects in the background, and waits [`regather`](LinkOptions::regather) after an outage. To be called on a runtime.
    pub(crate) fn start(address: Address, options: LinkOptions, on_lost: OnLost) -> Self {
        let shared = Arc::new(Shared {
            options,
            queue: Mutex::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            idle: watch::Sender::new(true),
            on_lost,
        });
        tokio::spawn(run(Arc::clone(&shared), address));
        Self(shared)
    }

    /// Queues a command of about so many bytes. Dropping the receiver takes nothing back.
    pub(crate) fn send(
        &self,
        command: Cmd,
        bytes: usize,
        message: bool,
    ) -> Result<oneshot::Receiver<Answer>, BusError> {
        let (done, answer) = oneshot::channel();
        let bytes = bytes + ITEM_BYTES;
        {
            let mut queue = self.0.queue.lock();
            if self.0.closing.load(Ordering::Acquire) {
                return Err(BusError::Closed);
            }
            if queue.bytes + bytes > self.0.options.buffer_bytes {
                return Err(BusError::Full { bytes: queue.bytes });
            }
            queue.bytes += bytes;
            queue.items.push_back(Item { command, bytes, done, message });
            self.0.idle.send_replace(false);
        }
        self.0.wake.notify_one();
        Ok(answer)
    }

    /// Writes what waits for a second at most, and ends.
    pub(crate) async fn close(&self) {
        let mut idle = self.0.idle.subscribe();
        // Either way it is over.
        drop(timeout(FLUSH, idle.wait_for(|idle| *idle)).await);
        self.0.close();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The answer to a command.
pub(crate) async fn answered(answer: oneshot::Receiver<Answer>) -> Answer {
    answer.await.unwrap_or(Err(BusError::Closed))
}

impl Shared {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
        self.closed.notify_one();
    }

    /// Waits for [`close`](Self::close).
    async fn closed(&self) {
        while !self.is_closing() {
            self.closed.notified().await;
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn batch(&self) -> Vec<Item> {
        let mut queue = self.queue.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(item) = queue.items.pop_front() else { break };
            bytes += item.bytes;
            batch.push(item);
        }
        if batch.is_empty() {
            self.idle.send_replace(true);
        }
        batch
    }

    fn finish(&self, batch: Vec<Item>, results: Result<Vec<RedisResult<Value>>, RedisError>) {
        self.queue.lock().bytes -= batch.iter().map(|item| item.bytes).sum::<usize>();
        let mut lost = 0;
        let mut tell = |item: Item, result: Result<Value, String>| {
            lost += u64::from(item.message && result.is_err());
            // Nobody may wait for it.
            drop(item.done.send(result.map_err(BusError::Broker)));
        };
        match results {
            Ok(results) => {
                let answers = results.into_iter().map(|result| result.map_err(|error| error.to_string()));
                // Redis answers every command.
                let missing = std::iter::repeat_with(|| Err("no answer".to_owned()));
                batch.into_iter().zip(answers.chain(missing)).for_each(|(item, answer)| tell(item, answer));
            }
            Err(error) => batch.into_iter().for_each(|item| tell(item, Err(error.to_string()))),
        }
        if lost > 0 {
            (self.on_lost)(lost);
        }
    }
}

/// A connection without deadlines of its own, and what hears of its end.
pub(crate) async fn connect(address: &Address) -> RedisResult<(MultiplexedConnection, Arc<Notify>)> {
    address::first(|| {
        let (address, broken) = (address.clone(), Arc::new(Notify::new()));
        let to = Arc::clone(&broken);
        let push = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if push.kind == PushKind::Disconnection {
                to.notify_one();
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_push_sender(push);
        async move { Ok((address.connect(&config).await?, broken)) }
    })
    .await
}

async fn run(shared: Arc<Shared>, address: Address) {
    let (mut pause, mut again) = (PAUSES.0, false);
    let mut complaint = Complaint::default();
    while !shared.is_closing() {
        let connected = tokio::select! {
            connected = connect(&address) => connected,
            () = shared.closed() => break,
        };
        match connected {
            Ok((connection, broken)) => {
                pause = PAUSES.0;
                complaint.over();
                if again {
                    tokio::select! {
                        () = sleep(shared.options.regather) => {}
                        () = broken.notified() => continue,
                        () = shared.closed() => break,
                    }
                }
                again = true;
                if let Err(error) = serve(&shared, connection, &broken).await {
                    tracing::debug!(%error, "the connection to Redis has to be made again");
                }
            }
            Err(error) => {
                complaint.about(&error);
                tokio::select! {
                    () = sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
                    () = shared.closed() => {}
                }
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    // Whoever waits hears that the bus is closed.
    let mut queue = shared.queue.lock();
    queue.items.clear();
    queue.bytes = 0;
}

async fn serve(shared: &Shared, mut connection: MultiplexedConnection, broken: &Notify) -> RedisResult<()> {
    loop {
        if shared.is_closing() {
            return Ok(());
        }
        let batch = shared.batch();
        if batch.is_empty() {
            tokio::select! {
                () = shared.wake.notified() => continue,
                () = broken.notified() => return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()),
                () = sleep(IDLE) => {}
            }
            let ping = redis::cmd("PING");
            timeout(shared.options.response_timeout, ping.exec_async(&mut connection)).await.map_err(|_| late())??;
            continue;
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        pipeline.ignore_errors();
        for item in &batch {
            pipeline.add_command(item.command.clone());
        }
        let answers = timeout(shared.options.response_timeout, pipeline.query_async(&mut connection)).await;
        let answers = answers.unwrap_or_else(|_| Err(late()));
        let failed = answers.as_ref().err().map(ToString::to_string);
        shared.finish(batch, answers);
        if let Some(error) = failed {
            return Err(std::io::Error::other(error).into());
        }
    }
}
