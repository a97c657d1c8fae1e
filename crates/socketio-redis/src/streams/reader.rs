//! Reads one stream from where it is, entry by entry, across reconnections. An entry is read once, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value as Reply, cmd};
use socketio_adapter::recovery::Place;
use tokio::time::{sleep, timeout};

use super::entry;
use super::{Hub, Log, Stream};
use crate::address::Address;
use crate::writer::{PAUSES, connect, late};

/// How long Redis may let a read wait for the next entry.
const BLOCK: Duration = Duration::from_secs(2);
/// How much longer it may take to answer.
const GRACE: Duration = Duration::from_secs(2);

/// Before the first entry.
pub(super) const BEGINNING: &str = "0-0";

/// Whether no entry is missing, by what Redis says of a stream. Before version 7 it does not know.
pub(super) fn is_whole(reply: Reply) -> bool {
    parse(reply).is_some_and(|info| info.added.is_some_and(|added| added == info.len))
}

/// What has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    /// The last entry.
    id: String,
    /// How many entries were ever added before and with it; where Redis does not count them, nobody knows what was missed.
    number: Option<u64>,
}

/// What Redis says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) last: String,
    pub(crate) added: Option<u64>,
    pub(crate) len: u64,
}

/// Where a server is in the stream; nowhere before it was connected for the first time. It outlives connections.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    position: Option<Position>,
    /// Entries were trimmed away that may not have been read. How many shows when the end is reached.
    overtaken: bool,
    /// How many entries were taken since Redis was asked last.
    unchecked: u64,
}

impl Cursor {
    /// A connection was made. How many entries were missed on the way.
    pub(crate) fn resume(&mut self, found: &Info) -> u64 {
        self.check(found);
        let (position, lost) = resume(self.position.take(), found);
        self.position = Some(position);
        lost + self.at_the_end(found)
    }

    /// The id behind which to go on.
    pub(crate) fn after(&self) -> &str {
        self.position.as_ref().map_or("$", |position| &position.id)
    }

    /// Takes note of an entry; `false` when it came before.
    pub(crate) fn took(&mut self, id: &str) -> bool {
        let Some(position) = &mut self.position else { return false };
        if Place::parse(id) <= Place::parse(&position.id) {
            return false;
        }
        id.clone_into(&mut position.id);
        position.number = position.number.map(|number| number + 1);
        self.unchecked += 1;
        true
    }

    /// Whether trimming has overtaken the reader, and [`trimmed`](Self::trimmed) has to be asked until the end is reached.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// What is trimmed away before it was read is gone: how many entries that were, as far as is known.
    pub(crate) fn trimmed(&mut self, found: &Info) -> u64 {
        self.check(found);
        let Some(position) = &mut self.position else { return 0 };
        let lost = trimmed(position, found);
        position.number = position.number.map(|number| number + lost);
        lost + self.at_the_end(found)
    }

    /// What has been taken may have had a gap in front of it.
    fn check(&mut self, found: &Info) {
        let taken = std::mem::take(&mut self.unchecked);
        if let (Some(Position { number: Some(number), .. }), Some(added)) = (&self.position, found.added) {
            self.overtaken |= taken > 0 && added.saturating_sub(found.len) > number.saturating_sub(taken);
        }
    }

    /// Who has the last entry has all, but for those that are lost.
    fn at_the_end(&mut self, found: &Info) -> u64 {
        let Some(Position { id, number: Some(number) }) = &mut self.position else { return 0 };
        if !self.overtaken || *id != found.last {
            return 0;
        }
        self.overtaken = false;
        let lost = found.added.unwrap_or(*number).saturating_sub(*number);
        *number += lost;
        lost
    }
}

/// Reads until it is aborted.
pub(super) async fn run(hub: Arc<Hub>, log: Arc<Log>, address: Address, stream: Stream) {
    let mut cursor = Cursor::default();
    let mut pause = PAUSES.0;
    // Down until this one is read, too. Said here, because whoever opens a namespace holds locks that hearing of it needs.
    hub.changed();
    loop {
        let Err(error) = session(&hub, &log, &address, &stream, &mut cursor, &mut pause).await;
        hub.reading(&log, false);
        tracing::debug!(%error, "the stream cannot be read");
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn session(
    hub: &Hub,
    log: &Arc<Log>,
    address: &Address,
    stream: &Stream,
    cursor: &mut Cursor,
    pause: &mut Duration,
) -> RedisResult<std::convert::Infallible> {
    let (mut connection, _) = connect(address).await?;
    let found = info(&mut connection, &log.name).await?;
    let lost = cursor.resume(&found);
    log.read_up_to(cursor.after());
    if lost > 0 {
        hub.inbox.lost(lost);
    }
    hub.reading(log, true);
    *pause = PAUSES.0;
    loop {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(stream.count).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&log.name).arg(cursor.after());
        let reply: Reply = within(BLOCK + GRACE, read.query_async(&mut connection)).await?;
        let entries = entry::read_entries(reply);
        // A reader that keeps up never gets so many, or all that are kept.
        let behind = entries.len() >= stream.count.min(stream.most);
        for entry in &entries {
            if cursor.took(&entry.id) {
                hub.entry(log, entry);
            }
        }
        if behind || cursor.is_overtaken() {
            let found = info(&mut connection, &log.name).await?;
            let lost = cursor.trimmed(&found);
            if lost > 0 {
                hub.inbox.lost(lost);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Where to go on, and how many entries were missed on the way.
fn resume(before: Option<Position>, found: &Info) -> (Position, u64) {
    let Some(mut position) = before else { return (Position { id: found.last.clone(), number: found.added }, 0) };
    if Place::parse(&found.last) < Place::parse(&position.id) {
        // The stream has been made anew, or Redis has forgotten its end. What comes now is behind what it has.
        return (Position { id: found.last.clone(), number: found.added }, 0);
    }
    let lost = trimmed(&position, found);
    position.number = position.number.map(|number| number + lost);
    (position, lost)
}

/// How many entries behind the position are there no more.
fn trimmed(position: &Position, found: &Info) -> u64 {
    match (position.number, found.added) {
        (Some(number), Some(added)) => added.saturating_sub(found.len).saturating_sub(number),
        _ => 0,
    }
}

/// Asks for the end of the stream. One that is not there yet is empty.
async fn info(connection: &mut MultiplexedConnection, stream: &str) -> RedisResult<Info> {
    let mut command = cmd("XINFO");
    command.arg("STREAM").arg(stream);
    match within(GRACE, command.query_async::<Reply>(connection)).await {
        Ok(reply) => parse(reply)
            .ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "not what Redis says of a stream"))),
        Err(error) if error.detail().is_some_and(|detail| detail.contains("no such key")) => {
            Ok(Info { last: BEGINNING.to_owned(), added: Some(0), len: 0 })
        }
        Err(error) => Err(error),
    }
}

fn parse(reply: Reply) -> Option<Info> {
    let pairs: Vec<(Reply, Reply)> = match reply {
        Reply::Map(pairs) => pairs,
        // The older protocol.
        Reply::Array(list) => {
            let mut list = list.into_iter();
            std::iter::from_fn(|| Some((list.next()?, list.next()?))).collect()
        }
        _ => return None,
    };
    let mut info = Info { last: String::new(), added: None, len: 0 };
    for (name, value) in pairs {
        let number = |value: &Reply| match value {
            Reply::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        match &entry::bytes(name)?[..] {
            b"length" => info.len = number(&value)?,
            b"entries-added" => info.added = number(&value),
            b"last-generated-id" => info.last = String::from_utf8(entry::bytes(value)?).ok()?,
            _ => {}
        }
    }
    Place::parse(&info.last).map(|_| info)
}

async fn within<T>(time: Duration, future: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(time, future).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trimmed_away_in_front_of_a_reader_is_counted_when_it_has_the_rest() {
        let info = |last: &str, added, len| Info { last: last.to_owned(), added: Some(added), len };
        let mut cursor = Cursor::default();
        assert_eq!(cursor.resume(&info("20-0", 20, 5)), 0);
        // Of 21 to 29 three are kept, of which two are read at once.
        assert!(cursor.took("27-0") && cursor.took("28-0") && !cursor.took("27-0"));
        assert_eq!(cursor.trimmed(&info("29-0", 29, 3)), 4);
        assert!(cursor.is_overtaken() && cursor.took("29-0"));
        assert_eq!(cursor.trimmed(&info("29-0", 29, 3)), 2);
        assert_eq!((cursor.is_overtaken(), cursor.after()), (false, "29-0"));
        // Trimming behind the reader loses nothing.
        assert!(cursor.took("30-0") && cursor.took("31-0"));
        assert_eq!((cursor.trimmed(&info("31-0", 31, 2)), cursor.is_overtaken()), (0, false));
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_counts_what_it_missed() {
        let at = |id: &str, number| Position { id: id.to_owned(), number };
        let info = |last: &str, added, len| Info { last: last.to_owned(), added, len };
        // The first time.
        check(None, info("9-0", Some(20), 5), at("9-0", Some(20)), 0);
        // Nothing happened, something happened, something was trimmed that was read, and that was not.
        check(Some(at("9-0", Some(20))), info("9-0", Some(20), 5), at("9-0", Some(20)), 0);
        check(Some(at("9-0", Some(20))), info("12-0", Some(23), 5), at("9-0", Some(20)), 0);
        check(Some(at("9-0", Some(20))), info("12-0", Some(23), 3), at("9-0", Some(20)), 0);
        check(Some(at("9-0", Some(20))), info("12-0", Some(23), 1), at("9-0", Some(22)), 2);
        // Redis before 7 does not count.
        check(Some(at("9-0", None)), info("12-0", None, 1), at("9-0", None), 0);
        // The stream is another one.
        check(Some(at("9-0", Some(20))), info("0-0", Some(0), 0), at("0-0", Some(0)), 0);

        #[track_caller]
        fn check(before: Option<Position>, found: Info, want: Position, lost: u64) {
            assert_eq!(resume(before, &found), (want, lost));
        }
    }
}
