//! Events for a cluster from a program that is no server: what is said, not how it travels.
//!
//! A backend implements [`Publisher`]; [`Emitter`] is what an application holds. Node: `@socket.io/redis-emitter` and its
//! kin.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use socketio_proto::{EncodeError, OwnedArgs, is_reserved_event};

use super::{BoxFuture, BusError, Envelope, Message};
use crate::{BroadcastFlags, BroadcastOptions, IntoRooms, Selection};

/// Carries messages of a program that is no server to a broker.
pub trait Publisher: Send + Sync + fmt::Debug + 'static {
    /// Hands a message over. The future resolves when the broker has it. Messages leave in the order of these calls,
    /// whether their futures are polled or not.
    fn publish(&self, envelope: Envelope) -> BoxFuture<'static, Result<(), BusError>>;
}

/// Emits to the clients of a cluster, from a program that is no server.
///
/// Every method that narrows or changes returns a new emitter, so one can be kept per namespace or room. Cheap to clone. What it cannot do is to
/// ask: there is nobody to whom an answer could be sent.
#[derive(Clone)]
pub struct Emitter {
    publisher: Arc<dyn Publisher>,
    namespace: Arc<str>,
    options: BroadcastOptions,
}

impl Emitter {
    /// An emitter for everybody in the namespace `/`.
    pub fn new(publisher: impl Publisher) -> Self {
        Self { publisher: Arc::new(publisher), namespace: "/".into(), options: BroadcastOptions::default() }
    }

    /// Everybody in another namespace; the `/` in front may be left out.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        let namespace = format!("{slash}{namespace}").into();
        Self { publisher: Arc::clone(&self.publisher), namespace, options: BroadcastOptions::default() }
    }

    /// The members of these rooms, together with those named before. Node: `to`, `in`.
    #[must_use]
    pub fn to(&self, rooms: impl IntoRooms) -> Self {
        self.selecting(|selection| selection.to(rooms))
    }

    /// The same as [`to`](Self::to).
    #[must_use]
    pub fn in_(&self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// All but the members of these rooms.
    #[must_use]
    pub fn except(&self, rooms: impl IntoRooms) -> Self {
        self.selecting(|selection| selection.except(rooms))
    }

    /// Events may be dropped for clients that cannot take them at once.
    #[must_use]
    pub fn volatile(&self) -> Self {
        let mut emitter = self.clone();
        emitter.options.flags.volatile = true;
        emitter
    }

    /// Whether events may be compressed where the transport can. Default: `true`.
    #[must_use]
    pub fn compress(&self, compress: bool) -> Self {
        let mut emitter = self.clone();
        emitter.options.flags.compress = compress;
        emitter
    }

    /// Emits an event: a tuple is several arguments, `()` none.
    ///
    /// # Errors
    /// When it cannot be encoded, or the broker does not take it.
    ///
    /// # Cancel safety
    /// The event is on its way as soon as this is called; dropping the future does not take it back.
    pub fn emit<T: Serialize>(&self, event: &str, args: T) -> BoxFuture<'static, Result<(), BusError>> {
        match encoded(event, &args) {
            Ok(event) => self.publish(Message::Broadcast { event, options: self.options.clone(), request: None }),
            Err(error) => Box::pin(async move { Err(error.into()) }),
        }
    }

    /// The selected sockets join rooms. Node: `socketsJoin`.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn sockets_join(&self, rooms: impl IntoRooms) -> BoxFuture<'static, Result<(), BusError>> {
        self.publish(Message::Join { selection: self.options.selection.clone(), rooms: rooms.into_rooms() })
    }

    /// The selected sockets leave rooms. Node: `socketsLeave`.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn sockets_leave(&self, rooms: impl IntoRooms) -> BoxFuture<'static, Result<(), BusError>> {
        self.publish(Message::Leave { selection: self.options.selection.clone(), rooms: rooms.into_rooms() })
    }

    /// The selected sockets are disconnected; with `close` their whole connections. Node: `disconnectSockets`.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn disconnect_sockets(&self, close: bool) -> BoxFuture<'static, Result<(), BusError>> {
        self.publish(Message::Disconnect { selection: self.options.selection.clone(), close })
    }

    /// An event for the handlers of all servers. Node: `serverSideEmit`.
    ///
    /// # Errors
    /// When it cannot be encoded, or the broker does not take it.
    pub fn server_side_emit<T: Serialize>(&self, event: &str, args: T) -> BoxFuture<'static, Result<(), BusError>> {
        match encoded(event, &args) {
            Ok(event) => self.publish(Message::ServerEvent { event, request: None }),
            Err(error) => Box::pin(async move { Err(error.into()) }),
        }
    }

    fn selecting(&self, change: impl FnOnce(Selection) -> Selection) -> Self {
        let mut emitter = self.clone();
        emitter.options.selection = change(emitter.options.selection);
        emitter
    }

    fn publish(&self, message: Message) -> BoxFuture<'static, Result<(), BusError>> {
        self.publisher.publish(Envelope { sender: None, namespace: Arc::clone(&self.namespace), message })
    }
}

fn encoded<T: Serialize>(event: &str, args: &T) -> Result<OwnedArgs, EncodeError> {
    if is_reserved_event(event) {
        return Err(EncodeError::ReservedEvent(event.to_owned()));
    }
    OwnedArgs::event(event, args)
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, options: BroadcastOptions { selection, flags: BroadcastFlags { volatile, .. } }, .. } =
            self;
        f.debug_struct("Emitter")
            .field("namespace", namespace)
            .field("selection", selection)
            .field("volatile", volatile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use super::super::wire;
    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl Publisher for Paper {
        fn publish(&self, envelope: Envelope) -> BoxFuture<'static, Result<(), BusError>> {
            let text = String::from_utf8(wire::encode(&envelope).expect("encodes")).expect("text");
            self.0.lock().unwrap().push(text);
            Box::pin(async { Ok(()) })
        }
    }

    #[test]
    fn an_emitter_says_what_nodes_emitters_say() {
        let paper = Paper::default();
        let io = Emitter::new(paper.clone());
        let room = io.to("a").except(["b", "c"]);
        check(
            room.volatile().compress(false).emit("hi", (1, "x")),
            r#"{"type":3,"data":{"packet":{"type":2,"data":["hi",1,"x"],"nsp":"/"},"opts":{"rooms":["a"],"except":["b","c"],"flags":{"volatile":true,"compress":false}}},"uid":"emitter","nsp":"/"}"#,
        );
        check(
            room.of("n").emit("hi", ()),
            r#"{"type":3,"data":{"packet":{"type":2,"data":["hi"],"nsp":"/n"},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter","nsp":"/n"}"#,
        );
        check(
            io.in_("a").sockets_join(["x"]),
            r#"{"type":4,"data":{"opts":{"rooms":["a"],"except":[],"flags":{}},"rooms":["x"]},"uid":"emitter","nsp":"/"}"#,
        );
        check(
            io.sockets_leave("x"),
            r#"{"type":5,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["x"]},"uid":"emitter","nsp":"/"}"#,
        );
        check(
            io.of("/n").disconnect_sockets(true),
            r#"{"type":6,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"close":true},"uid":"emitter","nsp":"/n"}"#,
        );
        check(io.server_side_emit("tick", 3), r#"{"type":9,"data":{"packet":["tick",3]},"uid":"emitter","nsp":"/"}"#);
        let said = paper.0.lock().unwrap().clone();
        assert_eq!(said.len(), WANT.with(|want| want.borrow().len()));
        WANT.with(|want| assert_eq!(said, *want.borrow()));

        let reserved = now(io.emit("disconnect", ()));
        assert!(matches!(reserved, Err(BusError::Encode(EncodeError::ReservedEvent(_)))), "{reserved:?}");

        thread_local! {
            static WANT: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        #[track_caller]
        fn check(done: BoxFuture<'static, Result<(), BusError>>, want: &'static str) {
            assert_eq!(now(done), Ok(()));
            WANT.with(|all| all.borrow_mut().push(want));
        }
        #[track_caller]
        fn now<T>(mut future: BoxFuture<'static, T>) -> T {
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => value,
                Poll::Pending => panic!("it waits"),
            }
        }
    }
}
