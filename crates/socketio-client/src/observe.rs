//! What a Manager tells: its events, for whoever wants to watch the connection itself.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use engineio::{CloseReason, Transport};
use futures_core::Stream;
use parking_lot::Mutex;

use crate::ConnectFailure;

/// What happens to the connection of a [`Manager`](crate::Manager). In brackets the names of Node's events.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ManagerEvent {
    /// The connection is open; namespaces are joined next. (`open`)
    Open(Transport),
    /// The session goes on over WebSocket. (`upgrade`, of the engine)
    Upgrade,
    /// The server has asked for a sign of life. (`ping`)
    Ping,
    /// The connection is gone. (`close`)
    Close(CloseReason),
    /// An attempt to connect has failed, the first one or another. (`error`)
    Error(ConnectFailure),
    /// A further attempt begins; they are counted from 1. (`reconnect_attempt`)
    ReconnectAttempt(u32),
    /// The attempt with this number has succeeded. (`reconnect`)
    Reconnect(u32),
    /// A further attempt has failed. (`reconnect_error`)
    ReconnectError(ConnectFailure),
    /// All attempts are used up. (`reconnect_failed`)
    ReconnectFailed,
}

/// The events of a connection, from [`Manager::events`](crate::Manager::events). Each stream gets all of them from then on;
/// it ends with the connection's last handle, which it is not.
#[derive(Debug)]
pub struct ManagerEvents(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<ManagerEvent>,
    ended: bool,
    reader: Option<Waker>,
}

/// Those who watch.
#[derive(Debug, Default)]
pub(crate) struct Observers(Mutex<Watching>);

#[derive(Debug, Default)]
struct Watching {
    queues: Vec<Weak<Mutex<Queue>>>,
    ended: bool,
}

impl Observers {
    pub(crate) fn subscribe(&self) -> ManagerEvents {
        let mut watching = self.0.lock();
        let queue = Arc::new(Mutex::new(Queue { ended: watching.ended, ..Queue::default() }));
        watching.queues.retain(|queue| queue.strong_count() > 0);
        watching.queues.push(Arc::downgrade(&queue));
        ManagerEvents(queue)
    }

    pub(crate) fn tell(&self, event: &ManagerEvent) {
        self.each(|queue| {
            // Who does not read loses the oldest.
            if queue.events.len() >= MAX_EVENTS {
                queue.events.pop_front();
            }
            queue.events.push_back(event.clone());
        });
    }

    pub(crate) fn end(&self) {
        self.0.lock().ended = true;
        self.each(|queue| queue.ended = true);
    }

    fn each(&self, change: impl Fn(&mut Queue)) {
        let mut readers = Vec::new();
        self.0.lock().queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut queue = queue.lock();
            change(&mut queue);
            readers.extend(queue.reader.take());
            true
        });
        readers.into_iter().for_each(Waker::wake);
    }
}

impl ManagerEvents {
    /// The next event; `None` when there will be none. Of a stream that is not read the 1,024 newest are kept.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<ManagerEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for ManagerEvents {
    type Item = ManagerEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ManagerEvent>> {
        let mut queue = self.0.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

const MAX_EVENTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_keeps_the_newest_and_who_has_gone_nothing() {
        let observers = Observers::default();
        let events = observers.subscribe();
        drop(observers.subscribe());
        for n in 0..3_000 {
            observers.tell(&ManagerEvent::ReconnectAttempt(n));
        }
        assert_eq!(observers.0.lock().queues.len(), 1);
        let queue = events.0.lock();
        assert_eq!(queue.events.len(), MAX_EVENTS);
        assert!(matches!(queue.events.back(), Some(ManagerEvent::ReconnectAttempt(2_999))));
    }

    #[test]
    fn the_end_is_told_to_those_who_come_late_as_well() {
        let observers = Observers::default();
        let mut early = observers.subscribe();
        observers.tell(&ManagerEvent::Ping);
        observers.end();
        let mut late = observers.subscribe();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut early).poll_next(&mut cx), Poll::Ready(Some(ManagerEvent::Ping))));
        assert!(matches!(Pin::new(&mut early).poll_next(&mut cx), Poll::Ready(None)));
        assert!(matches!(Pin::new(&mut late).poll_next(&mut cx), Poll::Ready(None)));
    }
}
