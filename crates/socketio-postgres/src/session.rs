//! The task behind a bus or an emitter: connects, listens, writes, and connects again.
//!
//! There are two connections. One listens; it is read as fast as messages are handled, and waits for nothing else. The
//! other one writes and fetches rows of the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use socketio_adapter::cluster::wire::Foreign;
use socketio_adapter::cluster::{BusError, Health, Inbox, ServerId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Notification, Socket, Statement};

use crate::bus::{Phase, Shared};
use crate::notice::{self, Body, DirectNotice, Notice, quoted};
use crate::options::told;
use crate::outbox::Item;
use crate::tls::Encrypted;

/// The first pause before another attempt, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// After how long without success another attempt is made beside the first one: what a network swallowed, TCP repeats late.
const ATTEMPT: Duration = Duration::from_millis(750);
/// How often both connections are asked whether they are alive. A network that is gone without a word shows only by this.
const PING: Duration = Duration::from_secs(2);

const NOTIFY: &str = "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t (c, p)";

type Listening = Option<(ServerId, Arc<dyn Inbox>)>;

/// Runs until the bus is closed or dropped.
pub(crate) async fn run(shared: Arc<Shared>, listening: Listening) {
    let (mut pause, mut again) = (PAUSES.0, false);
    // Why it cannot be reached is said once for each outage: the address or the password may be mistyped.
    let mut said = false;
    let mut phase = shared.phase.subscribe();
    loop {
        let ended = tokio::select! {
            ended = session(&shared, &listening, again) => ended,
            _ = phase.wait_for(|phase| *phase == Phase::Closed) => Ok(()),
        };
        let was_up = shared.status.send_replace(down(&shared)).health == Health::Up;
        if let (true, Some((_, inbox))) = (was_up, &listening) {
            inbox.health(Health::Down);
        }
        match ended {
            Ok(()) => break,
            Err(error) if said && !was_up => tracing::debug!(%error, "no connection to the database"),
            Err(error) => {
                tracing::warn!(%error, "no connection to the database; clients of this server are served, and it is tried again");
                said = true;
            }
        }
        again |= was_up;
        pause = if was_up { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        tokio::select! {
            () = sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
            // What waits cannot be written any more.
            _ = phase.wait_for(|phase| *phase != Phase::Running) => break,
        }
    }
    shared.phase.send_replace(Phase::Closed);
}

fn down(shared: &Shared) -> crate::bus::Status {
    crate::bus::Status { health: Health::Down, listened: shared.status.borrow().listened }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{}", told(.0))]
    Database(#[from] Error),
    #[error("the database does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the connection has ended")]
    Gone,
}

impl Ended {
    /// The database has answered, and said no; the connection is as good as before.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Database(error) if error.as_db_error().is_some() && !error.is_closed())
    }
}

/// From a connection to its end, `again` after an outage. `Ok` when the bus is closed.
async fn session(shared: &Shared, listening: &Listening, again: bool) -> Result<(), Ended> {
    let (writer, connection) = connect(shared).await?;
    let _writing = Driver(tokio::spawn(async move {
        // Whoever waits for an answer hears of the error.
        drop(connection.await);
    }));
    make_table(shared, &writer).await?;
    let Some((me, inbox)) = listening else {
        shared.status.send_modify(|status| status.health = Health::Up);
        return tokio::select! {
            ended = write(shared, &writer, None, again) => ended,
            ended = tidy(shared, &writer, &writer) => ended,
        };
    };
    let (listener, connection) = connect(shared).await?;
    tokio::select! {
        ended = hear(shared, connection, &writer, me, &**inbox) => ended,
        ended = listen(shared, &listener, &**inbox) => ended,
        ended = write(shared, &writer, Some(&**inbox), again) => ended,
        ended = tidy(shared, &writer, &listener) => ended,
    }
}

/// The first connection that comes about.
async fn connect(shared: &Shared) -> Result<(Client, Connection<Socket, Encrypted<Socket>>), Ended> {
    let mut attempts = JoinSet::new();
    let connecting = async {
        loop {
            let (config, tls) = (shared.config.clone(), shared.tls.clone());
            attempts.spawn(async move { config.connect(tls).await });
            let next = sleep(ATTEMPT);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    Some(done) = attempts.join_next() => match done {
                        Ok(Ok(connected)) => return Ok(connected),
                        // Another one may do better.
                        _ if !attempts.is_empty() => {}
                        Ok(Err(error)) => return Err(error.into()),
                        Err(_) => return Err(Ended::Gone),
                    },
                    () = &mut next => break,
                }
            }
        }
    };
    timeout(shared.options.connect_timeout, connecting).await?
}

/// Ends the task of a connection with its session.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the table where that is possible. Servers that start together may do so at the same time, and one of them fails.
async fn make_table(shared: &Shared, writer: &Client) -> Result<(), Ended> {
    let table = &shared.options.table;
    let sql = format!(
        "SET client_min_messages = error; \
         CREATE TABLE IF NOT EXISTS {table} (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)"
    );
    for last in [false, false, true] {
        match answer(shared, writer.batch_execute(&sql)).await {
            Err(error) if error.is_refusal() => {
                if last {
                    tracing::warn!(%error, table, "the table cannot be made; it has to be there for large messages");
                }
            }
            done => return done,
        }
    }
    Ok(())
}

async fn answer<T>(shared: &Shared, future: impl Future<Output = Result<T, Error>>) -> Result<T, Ended> {
    Ok(timeout(shared.options.answer_timeout, future).await??)
}

/// Takes notifications, one after the other.
async fn hear<S, T>(
    shared: &Shared,
    mut connection: Connection<S, T>,
    writer: &Client,
    me: &ServerId,
    inbox: &dyn Inbox,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                take(shared, &notification, writer, me, inbox).await?;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Ended::Gone),
        }
    }
}

async fn take(
    shared: &Shared,
    notification: &Notification,
    writer: &Client,
    me: &ServerId,
    inbox: &dyn Inbox,
) -> Result<(), Ended> {
    let Some(namespace) = shared.wanted.lock().channels.get(notification.channel()).cloned() else { return Ok(()) };
    if namespace.is_empty() {
        return take_direct(shared, notification, writer, inbox).await;
    }
    let read = |bytes: &[u8]| notice::read(bytes, &namespace, me, &shared.limits);
    match read(notification.payload().as_bytes()) {
        Ok(Notice::Own) => {}
        Ok(Notice::Whole(envelope)) => inbox.received(*envelope, None),
        Err(why) => inbox.foreign(&why),
        Ok(Notice::Row(id)) => match row(shared, writer, id).await {
            Ok(Some(payload)) => match read(&payload) {
                Ok(Notice::Whole(envelope)) => inbox.received(*envelope, None),
                Ok(Notice::Own) => {}
                // A row that points to a row.
                Ok(Notice::Row(_)) => inbox.foreign(&Foreign::Field("attachmentId")),
                Err(why) => inbox.foreign(&why),
            },
            Ok(None) => inbox.foreign(&Foreign::Field("attachmentId")),
            Err(error) => unread(inbox, error)?,
        },
    }
    Ok(())
}

async fn take_direct(
    shared: &Shared,
    notification: &Notification,
    writer: &Client,
    inbox: &dyn Inbox,
) -> Result<(), Ended> {
    match notice::read_direct(notification.payload()) {
        Some(DirectNotice::Whole(bytes)) => inbox.direct(&bytes),
        Some(DirectNotice::Row(id)) => match row(shared, writer, id).await {
            Ok(Some(bytes)) => inbox.direct(&bytes),
            Ok(None) => inbox.foreign(&Foreign::Field("attachmentId")),
            Err(error) => unread(inbox, error)?,
        },
        None => inbox.foreign(&Foreign::Malformed),
    }
    Ok(())
}

/// A row that cannot be read is a message that is lost.
fn unread(inbox: &dyn Inbox, error: Ended) -> Result<(), Ended> {
    inbox.lost(1);
    if !error.is_refusal() {
        return Err(error);
    }
    tracing::debug!(%error, "a row of the table cannot be read");
    Ok(())
}

/// A row; `None` when it is not there, or too large.
async fn row(shared: &Shared, writer: &Client, id: i64) -> Result<Option<Vec<u8>>, Ended> {
    let sql = format!("SELECT payload FROM {} WHERE id = $1 AND length(payload) <= $2", shared.options.table);
    let most = i32::try_from(shared.limits.message_bytes).unwrap_or(i32::MAX);
    let found = answer(shared, writer.query_opt(&sql, &[&id, &most])).await?;
    found.map(|row| row.try_get(0)).transpose().map_err(Ended::from)
}

/// Subscribes to what is wanted, and says when the bus is up.
async fn listen(shared: &Shared, listener: &Client, inbox: &dyn Inbox) -> Result<(), Ended> {
    let mut changed = shared.changed.subscribe();
    let mut heard: BTreeMap<String, Arc<str>> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        let (wanted, generation) = {
            let wanted = shared.wanted.lock();
            (wanted.channels.clone(), wanted.generation)
        };
        let new = wanted.keys().filter(|channel| !heard.contains_key(*channel));
        let old = heard.keys().filter(|channel| !wanted.contains_key(*channel));
        let commands = new.map(|channel| format!("LISTEN {};", quoted(channel)));
        let commands: Vec<_> = commands.chain(old.map(|channel| format!("UNLISTEN {};", quoted(channel)))).collect();
        match answer(shared, listener.batch_execute(&commands.concat())).await {
            Err(error) if error.is_refusal() => {
                // A database of another encoding does not know every name.
                for command in commands {
                    match answer(shared, listener.batch_execute(&command)).await {
                        Err(error) if error.is_refusal() => tracing::warn!(%error, command, "the database refuses"),
                        done => done?,
                    }
                }
            }
            done => done?,
        }
        heard = wanted;
        let mut was = Health::Up;
        shared.status.send_modify(|status| {
            was = std::mem::replace(&mut status.health, Health::Up);
            status.listened = generation;
        });
        if was == Health::Down {
            inbox.health(Health::Up);
        }
        // The sender lives in `shared`.
        drop(changed.changed().await);
    }
}

/// Writes what waits. `Ok` when the bus is closed and all is written.
async fn write(shared: &Shared, writer: &Client, inbox: Option<&dyn Inbox>, again: bool) -> Result<(), Ended> {
    let notify = answer(shared, writer.prepare(NOTIFY)).await?;
    let mut phase = shared.phase.subscribe();
    if again {
        tokio::select! {
            () = sleep(shared.options.regather) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
        }
    }
    loop {
        let batch = tokio::select! {
            biased;
            batch = shared.outbox.next() => batch,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => {
                if shared.outbox.is_empty() {
                    return Ok(());
                }
                continue;
            }
        };
        let result = send(shared, writer, &notify, &batch).await;
        match result {
            Err(error) if error.is_refusal() && batch.len() > 1 => {
                // One of them is the reason; the others are not to suffer.
                for item in batch {
                    let result = send(shared, writer, &notify, std::slice::from_ref(&item)).await;
                    settle(vec![item], result, inbox)?;
                }
            }
            result => settle(batch, result, inbox)?,
        }
    }
}

/// What may or may not have reached the database is not sent again: at most once.
fn settle(batch: Vec<Item>, result: Result<(), Ended>, inbox: Option<&dyn Inbox>) -> Result<(), Ended> {
    if let (Err(_), Some(inbox)) = (&result, inbox) {
        inbox.lost(batch.len() as u64);
    }
    for done in batch.into_iter().filter_map(|item| item.done) {
        // Whoever emitted may not care.
        drop(done.send(match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(BusError::Broker(error.to_string())),
        }));
    }
    match result {
        Err(error) if error.is_refusal() => {
            tracing::warn!(%error, "the database refuses a message");
            Ok(())
        }
        result => result,
    }
}

async fn send(shared: &Shared, writer: &Client, notify: &Statement, batch: &[Item]) -> Result<(), Ended> {
    if let [Item { channel, body: Body::Attached { payload, head, tail }, .. }] = batch {
        // In one statement, so that nobody hears of a row that is not there yet.
        let sql = format!(
            "WITH row AS (INSERT INTO {} (payload) VALUES ($1) RETURNING id) \
             SELECT pg_notify($2, $3::text || row.id::text || $4::text) FROM row",
            shared.options.table
        );
        answer(shared, writer.execute(&sql, &[payload, channel, head, tail])).await?;
        return Ok(());
    }
    let plain = |item: &'_ Item| match &item.body {
        Body::Plain(text) => Some((item.channel.clone(), text.clone())),
        Body::Attached { .. } => None,
    };
    let (channels, texts): (Vec<_>, Vec<_>) = batch.iter().filter_map(plain).unzip();
    answer(shared, writer.execute(notify, &[&channels, &texts])).await?;
    Ok(())
}

/// Deletes old rows, and finds out about connections that died without a word.
async fn tidy(shared: &Shared, writer: &Client, other: &Client) -> Result<(), Ended> {
    let every = shared.options.cleanup_interval;
    let old = format!(
        "DELETE FROM {} WHERE created_at < now() - interval '{} milliseconds'",
        shared.options.table,
        every.as_millis()
    );
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clean = interval(every);
    clean.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ping.tick() => {
                answer(shared, other.batch_execute("")).await?;
                answer(shared, writer.batch_execute("")).await?;
            }
            _ = clean.tick() => match answer(shared, writer.batch_execute(&old)).await {
                Err(error) if error.is_refusal() => tracing::warn!(%error, "old rows cannot be deleted"),
                done => done?,
            },
        }
    }
}
