//! Recovery across servers: a namespace whose bus can replay shares a log of events, and sessions, with the other servers.
//!
//! Every server delivers what is in the log in its order, its own events too: [`Line`] has the rules, and what happens when the
//! broker is slow or away. Only the lock of the line is taken before the [book](crate::recovery); nothing of the application runs
//! under either. So a client that has an event with a place has everything before it, here and everywhere.
//!
//! A client that comes back is looked up by its secret where all servers keep their sessions: of several that ask, one gets it.
//! If it was here, the book knows what it missed. If not, the log is read, and meets what this server has delivered at one place:
//! [`Book::replayed`](crate::recovery::Book).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use socketio_adapter::cluster::{BusError, Health, Replay, Sessions, StoredSession};
use socketio_adapter::recovery::{Line, LineLimits, Mark, NotRecoverable, Pid, Place, Session};
use socketio_adapter::{BroadcastFlags, Selection};
use socketio_proto::{OwnedArgs, Spread};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::broadcast::{Delivery, Frames, frames};
use crate::cluster::{Part, message_of};
use crate::nsp::Nsp;
use crate::outgoing::Announcement;
use crate::recovery::{Former, Kept, NspRecovery, SessionEnd, ended};
use crate::{Broadcasted, EmitError, Socket};

/// How many clients of a namespace are looked up at the same time; others wait for their turn.
const AT_ONCE: usize = 64;
/// How long one may take. Whose session is not found by then is a new client.
const PATIENCE: Duration = Duration::from_secs(5);
/// The server that a client has left may be about to keep its session: it is looked for again after these times.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];
/// How often a server that is behind the client looks whether it has caught up.
const LOOK: Duration = Duration::from_millis(2);
/// How much longer than here a session stays with the broker: who finds it there when it expires here knows that nobody took it.
const GRACE: Duration = Duration::from_secs(5);

/// What a namespace keeps for the log that it shares.
pub(crate) struct Shared {
    /// Guards the order of delivery. Taken before the book.
    line: Mutex<Line<Parcel>>,
    /// A task keeps the time of the line.
    timing: AtomicBool,
    runtime: Option<Handle>,
    restoring: Semaphore,
}

/// What waits in the line.
enum Parcel {
    /// An event for whoever is selected then.
    Event { event: OwnedArgs, selection: Selection, flags: BroadcastFlags },
    /// A packet for one socket, encoded.
    Packet { socket: Socket, frames: Frames },
}

/// What was read from the log for a client that comes from another server.
pub(crate) struct Replayed {
    /// The events that were for it, encoded.
    pub(crate) events: Vec<(Place, Selection, Frames)>,
    /// Up to where that is everything.
    pub(crate) until: Place,
    /// The newest packet of the book before it was read. The book has all that came since.
    pub(crate) mark: u64,
}

/// A session that was found for a client. If it is dropped, the session goes back.
pub(crate) struct Found {
    nsp: Arc<Nsp>,
    pid: Pid,
    former: Option<Box<Former>>,
}

/// Looks for a session. Dropping it gives back what is found.
pub(crate) struct Restoring(oneshot::Receiver<Option<Found>>);

/// The log of a namespace, to be used.
pub(crate) struct SharedLog<'a> {
    nsp: &'a Arc<Nsp>,
    recovery: &'a NspRecovery,
    shared: &'a Shared,
    part: &'a Arc<Part>,
}

impl Shared {
    pub(crate) fn new(patience: Duration) -> Self {
        let limits = LineLimits { patience, ..LineLimits::default() };
        Self {
            line: Mutex::new(Line::new(limits, false)),
            timing: AtomicBool::new(false),
            runtime: Handle::try_current().ok(),
            restoring: Semaphore::new(AT_ONCE),
        }
    }
}

impl Nsp {
    /// The log that this namespace shares with those of other servers, if clients can be recovered from it.
    pub(crate) fn shared(self: &Arc<Self>) -> Option<SharedLog<'_>> {
        let recovery = self.recovery.as_deref()?;
        let shared = recovery.shared.as_ref()?;
        Some(SharedLog { nsp: self, recovery, shared, part: self.part.get()? })
    }
}

impl SharedLog<'_> {
    /// Sends an event to sockets of all servers, those of this one among them.
    ///
    /// # Errors
    /// When it cannot be encoded; [`EmitError::Cluster`] when only the sockets of this server have got it.
    pub(crate) fn emit<T: Serialize>(
        &self,
        event: &str,
        args: &T,
        selection: &Selection,
        flags: &BroadcastFlags,
    ) -> Result<(), EmitError> {
        let (event, message) = message_of(event, args, selection, flags)?;
        let parcel = Parcel::Event { event, selection: selection.clone(), flags: flags.clone() };
        let mut told = Ok(());
        self.turn(|line, now| match self.part.publish_numbered(message) {
            Ok(Some(number)) if self.shared.runtime.is_some() => line.published(now, number, parcel),
            Ok(_) => line.refused(now, parcel),
            Err(error) => {
                told = Err(error.into());
                line.refused(now, parcel);
            }
        });
        told
    }

    /// Sends a packet that has no place, behind what waits. What became of it is known only when nothing does.
    pub(crate) fn send(&self, socket: &Socket, frames: Frames, volatile: bool) -> Delivery {
        let mut delivery = Delivery::Queued;
        self.turn(|line, now| match line.is_empty() {
            true => delivery = socket.deliver(frames, volatile),
            false => line.behind(now, Parcel::Packet { socket: socket.clone(), frames }),
        });
        delivery
    }

    /// An event of another server stands there.
    pub(crate) fn heard(&self, place: Place, event: OwnedArgs, selection: Selection, flags: BroadcastFlags) {
        self.turn(|line, now| line.heard(now, place, Parcel::Event { event, selection, flags }));
    }

    /// An event of this server stands there.
    pub(crate) fn placed(&self, number: u64, place: Place) {
        self.turn(|line, now| line.placed(now, number, place));
    }

    /// Delivers what waits, now.
    pub(crate) fn flush(&self) {
        self.turn(|line, now| line.flush(now));
    }

    /// The broker has come or gone.
    pub(crate) fn health(&self, health: Health) {
        if let Some(position) = self.read().filter(|_| health == Health::Up) {
            self.recovery.begins_at(position);
        }
        self.turn(|line, now| line.health(now, health == Health::Up));
    }

    /// Something happens to the line; then all that is ready is delivered.
    fn turn(&self, happens: impl FnOnce(&mut Line<Parcel>, std::time::Instant)) {
        let mut told = Vec::new();
        let deadline = {
            let mut line = self.shared.line.lock();
            let now = Instant::now().into_std();
            happens(&mut line, now);
            while let Some((parcel, mark)) = line.poll() {
                self.deliver(parcel, mark, &mut told);
            }
            self.recovery.settled(line.is_settled(now));
            line.deadline()
        };
        if let Some(deadline) = deadline {
            self.keep_time(deadline.into());
        }
        // Whoever listens is code of the application.
        for (sockets, event) in told {
            let Ok(values) = event.values() else { continue };
            let mut announcement = Announcement::default();
            for socket in &sockets {
                announcement.of(socket, event.name(), &Spread(&values));
            }
        }
    }

    fn deliver(&self, parcel: Parcel, mark: Mark, told: &mut Vec<(Vec<Socket>, OwnedArgs)>) {
        match parcel {
            // Who is gone or too slow learns of it otherwise.
            Parcel::Packet { socket, frames } => drop(socket.deliver(frames, false)),
            Parcel::Event { event, selection, flags } => {
                let place = match mark {
                    Mark::Place(place) => Some(place),
                    Mark::Here => None,
                };
                let Ok(values) = event.values() else { return self.nsp.env.counters.cluster_foreign.add() };
                let (mut overheard, mut outcome) = (Vec::new(), Broadcasted::nobody());
                let what = (event.name(), &Spread(&values));
                // What could not be encoded has been counted.
                drop(self.recovery.deliver(self.nsp, &selection, &flags, place, what, &mut outcome, &mut overheard));
                drop(values);
                if !overheard.is_empty() {
                    told.push((overheard, event));
                }
            }
        }
    }

    /// Sees to it that nobody waits in the line for longer than they shall.
    fn keep_time(&self, deadline: Instant) {
        if let Some(runtime) = &self.shared.runtime
            && !self.shared.timing.swap(true, Ordering::AcqRel)
        {
            runtime.spawn(keep_time(Arc::downgrade(self.nsp), deadline));
        }
    }

    fn sessions(&self) -> Option<&dyn Sessions> {
        self.part.bus().sessions()
    }

    /// Up to where this server has read the log.
    fn read(&self) -> Option<Place> {
        Place::parse(&self.sessions()?.position(&self.nsp.name)?)
    }

    /// Waits until this server has delivered what stands up to this place, where an event of this namespace stands (`exact`), or any.
    async fn has_delivered(&self, place: Place, exact: bool, late: Instant) -> bool {
        loop {
            if self.recovery.position() >= Some(place) || (!exact && self.read() >= Some(place)) {
                return true;
            }
            if Instant::now() >= late {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    fn is_up(&self) -> bool {
        self.part.bus().health() == Health::Up
    }

    /// Keeps a session where all servers find it.
    pub(crate) fn persist(&self, mut session: StoredSession) {
        session.by = Some(self.part.server().clone());
        if let Some(sessions) = self.sessions() {
            sessions.persist(&self.nsp.name, session, self.recovery.away_for().saturating_add(GRACE));
        }
    }

    /// Sessions have expired here. Those that are still there nobody has taken.
    pub(crate) fn expired(&self, gone: Vec<(Pid, Session<Kept>)>) {
        for (pid, session) in gone {
            let (nsp, taken) = (Arc::clone(self.nsp), self.take(&pid));
            let tell = async move {
                let why = match timeout(PATIENCE, taken).await {
                    Ok(Ok(None)) => SessionEnd::Elsewhere,
                    _ => SessionEnd::Expired,
                };
                ended(&nsp, [session], why);
            };
            match &self.shared.runtime {
                Some(runtime) => drop(runtime.spawn(tell)),
                None => drop(tell),
            }
        }
    }

    fn take(&self, pid: &str) -> impl Future<Output = Result<Option<StoredSession>, BusError>> + Send + use<> {
        let taken = self.sessions().map(|sessions| sessions.take(&self.nsp.name, pid));
        async move {
            match taken {
                Some(taken) => taken.await,
                None => Ok(None),
            }
        }
    }

    fn replay(
        &self,
        from: Place,
        former: &Former,
    ) -> impl Future<Output = Result<Option<Replay>, BusError>> + Send + use<> {
        let sessions = self.sessions();
        let replay = sessions.map(|sessions| sessions.replay(&self.nsp.name, &from.to_string(), former.rooms()));
        async move {
            match replay {
                Some(replay) => replay.await,
                None => Ok(None),
            }
        }
    }

    /// Looks for the session of a client that comes back.
    pub(crate) fn restore(&self, pid: String, offset: Option<String>) -> Restoring {
        let (found, restoring) = oneshot::channel();
        let nsp = Arc::clone(self.nsp);
        let search = async move {
            let late = Instant::now() + PATIENCE;
            // The client may have gone: then what was found is dropped, and goes back.
            drop(found.send(restore(&nsp, pid.into(), offset, late).await));
        };
        match &self.shared.runtime {
            Some(runtime) => drop(runtime.spawn(search)),
            None => drop(search),
        }
        Restoring(restoring)
    }
}

async fn keep_time(weak: Weak<Nsp>, mut deadline: Instant) {
    loop {
        sleep_until(deadline).await;
        let Some(nsp) = weak.upgrade() else { return };
        let Some(log) = nsp.shared() else { return };
        let mut next = None;
        log.turn(|line, now| {
            line.on_time(now);
            next = line.deadline();
            if next.is_none() {
                // Under the lock: whoever comes next starts a new one.
                log.shared.timing.store(false, Ordering::Release);
            }
        });
        match next {
            Some(next) => deadline = next.into(),
            None => return,
        }
    }
}

async fn restore(nsp: &Arc<Nsp>, pid: Pid, offset: Option<String>, late: Instant) -> Option<Found> {
    let log = nsp.shared()?;
    let recovery = log.recovery;
    let Ok(Ok(_permit)) = tokio::time::timeout_at(late, log.shared.restoring.acquire()).await else {
        recovery.not_recovered(nsp, NotRecoverable::Unsettled);
        return None;
    };
    let session = match recovery.take_over(nsp, &pid) {
        Some(session) => session.map(|session| (session, false)),
        None => find(&log, &pid, offset.as_deref(), late).await,
    };
    let (session, adopted) = match session {
        Ok(session) => session,
        Err(error) => {
            recovery.not_recovered(nsp, error);
            return None;
        }
    };
    let found = |former| Found { nsp: Arc::clone(nsp), pid: Arc::clone(&pid), former: Some(Box::new(former)) };
    let (mut found, mark, error) = match recovery.hold(session, offset, nsp, adopted) {
        (former, _, None) => return Some(found(former)),
        (former, mark, Some(error)) => (found(former), mark, error),
    };
    // From here on it goes back if this ends.
    let former = found.former.as_mut()?;
    // What the client has had this server must not deliver to it any more.
    let from = match former.from() {
        Some(from) if log.is_up() && log.has_delivered(from, former.has(from), late).await => Some(from),
        _ => None,
    };
    let error = match (error, from) {
        (NotRecoverable::UnknownOffset | NotRecoverable::Trimmed, Some(from)) => {
            match tokio::time::timeout_at(late, log.replay(from, former)).await {
                Ok(Ok(Some(replay))) => match encoded(nsp, replay, mark) {
                    Some(replayed) => {
                        former.put(replayed);
                        return Some(found);
                    }
                    None => NotRecoverable::TooMuch,
                },
                Ok(Ok(None)) => NotRecoverable::Trimmed,
                Ok(Err(_)) | Err(_) => NotRecoverable::Unsettled,
            }
        }
        (error, _) => error,
    };
    if let Some(former) = found.former.take() {
        recovery.give_up(nsp, *former, error);
    }
    None
}

/// Finds a session that waits somewhere, and says whether that was on another server. One that waits here waits with the broker, too: whoever takes it there has it.
async fn find(
    log: &SharedLog<'_>,
    pid: &str,
    offset: Option<&str>,
    late: Instant,
) -> Result<(Session<Kept>, bool), NotRecoverable> {
    let mut again = AGAIN.into_iter();
    let stored = loop {
        let stored = match log.is_up() {
            true => tokio::time::timeout_at(late, log.take(pid)).await.unwrap_or(Err(BusError::Closed)),
            false => {
                // It is done when the broker is back, if it can still be told.
                drop(log.take(pid));
                Err(BusError::Closed)
            }
        };
        let may_be_elsewhere = offset.is_some_and(|offset| Place::parse(offset).is_some());
        match again.next() {
            Some(pause) if stored == Ok(None) && may_be_elsewhere && !log.recovery.has(pid) => sleep(pause).await,
            _ => break stored,
        }
    };
    let own = |stored: &StoredSession| stored.by.as_ref() == Some(log.part.server());
    match (log.recovery.take(pid), stored) {
        // The client has been on another server since, and may be there still.
        (Ok(session), Ok(stored)) if !stored.as_ref().is_some_and(own) => {
            ended(log.nsp, [session], SessionEnd::Elsewhere);
            let stored = stored.ok_or(NotRecoverable::UnknownSession)?;
            Ok((log.recovery.adopt(stored), true))
        }
        (Ok(session), _) => Ok((session, false)),
        (Err(error), Ok(Some(stored))) if error == NotRecoverable::UnknownSession || !own(&stored) => {
            Ok((log.recovery.adopt(stored), true))
        }
        (Err(error), _) => Err(error),
    }
}

/// Encodes what was missed, if it is not more than a client may get at once.
fn encoded(nsp: &Nsp, replay: Replay, mark: u64) -> Option<Replayed> {
    let (mut events, mut bytes) = (Vec::with_capacity(replay.missed.len()), 0);
    for missed in replay.missed {
        let (Some(place), Ok(values)) = (Place::parse(&missed.offset), missed.event.values()) else { continue };
        let offset = Some(&*missed.offset);
        let Ok(encoded) = nsp.env.encode(&nsp.name, None, missed.event.name(), &Spread(&values), offset) else {
            continue;
        };
        let frames = frames(encoded, missed.options.flags.compress);
        bytes += frames.iter().map(engineio::Frame::queued_len).sum::<usize>();
        if bytes > nsp.env.limits.send_queue_bytes / 2 {
            return None;
        }
        events.push((place, missed.options.selection, frames));
    }
    Some(Replayed { events, until: Place::parse(&replay.until)?, mark })
}

impl Found {
    /// The session, for a socket that gives it back itself.
    pub(crate) fn take(mut self) -> Option<(Pid, Box<Former>)> {
        Some((Arc::clone(&self.pid), self.former.take()?))
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        if let (Some(former), Some(recovery)) = (self.former.take(), &self.nsp.recovery) {
            recovery.give_back(&self.nsp, &self.pid, *former);
        }
    }
}

impl Restoring {
    /// What was found.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Pid, Box<Former>)>> {
        Pin::new(&mut self.0).poll(cx).map(|found| found.ok().flatten().and_then(Found::take))
    }
}
