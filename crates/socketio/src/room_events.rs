//! Telling the application what happens to rooms, in the order in which it happened.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use socketio_adapter::{RoomEvent, RoomEvents, Rooms};

use crate::nsp::Nsp;
use crate::{NamespaceHandle, Socket, lane};

/// Is told what happens to rooms.
pub(crate) type RoomHook = Arc<dyn Fn(&NamespaceHandle, &RoomEvent) + Send + Sync>;

/// What a namespace has not told yet.
pub(crate) struct RoomNews {
    hook: RoomHook,
    // Guards the events that nobody has been told of.
    untold: Mutex<Untold>,
}

#[derive(Default)]
struct Untold {
    events: VecDeque<RoomEvent>,
    /// Some task is telling: it will come to what is added.
    telling: bool,
}

impl RoomNews {
    pub(crate) fn new(hook: RoomHook) -> Self {
        Self { hook, untold: Mutex::default() }
    }

    /// Tells everything there is to tell. Whoever comes while another tells goes away at once, so a hook may join rooms.
    fn tell(&self, nsp: &Arc<Nsp>) {
        let handle = NamespaceHandle::new(Arc::clone(nsp));
        let mut mine = false;
        loop {
            let event = {
                let mut untold = self.untold.lock();
                if untold.telling && !mine {
                    return;
                }
                mine = true;
                let event = untold.events.pop_front();
                untold.telling = event.is_some();
                event
            };
            let Some(event) = event else { return };
            if let Err(panicked) = lane::guard(|| (self.hook)(&handle, &event)) {
                nsp.env.hook_panicked(&panicked);
            }
        }
    }
}

impl Nsp {
    /// Changes who is in which room, under the lock, and tells the application afterwards.
    pub(crate) fn change_rooms<R>(self: &Arc<Self>, change: impl FnOnce(&mut Rooms<Socket>) -> (R, RoomEvents)) -> R {
        let result = self.change_rooms_untold(change);
        self.tell_room_events();
        result
    }

    /// [`change_rooms`](Self::change_rooms) by somebody who holds another lock: what happened is to be told later.
    pub(crate) fn change_rooms_untold<R>(&self, change: impl FnOnce(&mut Rooms<Socket>) -> (R, RoomEvents)) -> R {
        let mut rooms = self.rooms.lock();
        let (result, events) = change(&mut rooms);
        self.bursts.interrupt();
        if let Some(part) = self.part.get() {
            for event in &events {
                part.room_event(&rooms, event);
            }
        }
        if let Some(news) = self.room_news.as_deref().filter(|_| !events.is_empty()) {
            // Still under the lock: the order of the events is that of the changes.
            news.untold.lock().events.extend(events);
        }
        result
    }

    /// Tells the application what happened to rooms. Called without any lock.
    pub(crate) fn tell_room_events(self: &Arc<Self>) {
        if let Some(news) = &self.room_news {
            news.tell(self);
        }
    }
}
