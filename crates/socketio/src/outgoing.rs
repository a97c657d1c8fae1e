//! Listeners for what is sent: `on_any_outgoing` of a namespace and of a socket.
//!
//! They are asked for by one look at a list and a flag; only where somebody listens are arguments turned into values.

use std::cell::Cell;
use std::sync::Arc;

use serde::Serialize;
use smallvec::SmallVec;
use socketio_proto::OwnedArgs;

use crate::Socket;

/// Is told of events that were sent to a socket.
pub(crate) type OutgoingListener = Arc<dyn Fn(&Socket, &OwnedArgs) + Send + Sync>;

/// The values of one event, made for the first listener.
#[derive(Default)]
pub(crate) struct Announcement(Option<OwnedArgs>);

impl Announcement {
    /// Tells those who listen to this socket that an event was queued for it.
    pub(crate) fn of<T: Serialize + ?Sized>(&mut self, socket: &Socket, event: &str, args: &T) {
        if socket.is_overheard() {
            self.tell(socket, event, args);
        }
    }

    #[cold]
    fn tell<T: Serialize + ?Sized>(&mut self, socket: &Socket, event: &str, args: &T) {
        thread_local!(static TELLING: Cell<bool> = const { Cell::new(false) });

        /// Listening ends however the listener does.
        struct Told;
        impl Drop for Told {
            fn drop(&mut self) {
                TELLING.set(false);
            }
        }

        // What a listener sends itself would call it again.
        if TELLING.replace(true) {
            return;
        }
        let _told = Told;
        let event = match &self.0 {
            Some(event) => event,
            // It was encoded a moment ago, so it can be serialized.
            None => match OwnedArgs::event(event, args) {
                Ok(event) => self.0.insert(event),
                Err(_) => return,
            },
        };
        let own: SmallVec<[OutgoingListener; 2]> = socket.0.own_outgoing();
        for listener in socket.0.nsp.table.outgoing.iter().chain(&own) {
            listener(socket, event);
        }
    }
}
