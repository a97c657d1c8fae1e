//! A dispatcher of one event at a time, and what it has sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use socketio_core::{BoxedHandler, DynamicState, Handler, HandlerContext, OwnedArgs, ReplySink, StateMap};
use socketio_proto::AnyParser;

/// What was sent as the acknowledgement, as it goes over the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Vec<String>>>);

impl Wire {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl ReplySink for Wire {
    fn reply<T: Serialize + ?Sized>(self, value: &T) {
        let packet = AnyParser::json().encode_ack("/", 7, value, 0).unwrap();
        let chunks = packet.iter().map(|chunk| match chunk.binary {
            false => String::from_utf8(chunk.data().to_vec()).unwrap(),
            true => format!("{:?}", chunk.data()),
        });
        self.0.lock().unwrap().extend(chunks);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    pub(crate) sink: Option<Wire>,
    pub(crate) states: StateMap,
}

impl DynamicState for Dispatch {}

impl HandlerContext for Dispatch {
    type Sink = Wire;

    fn take_sink(&mut self) -> Option<Wire> {
        self.sink.take()
    }

    fn states(&self) -> &StateMap {
        &self.states
    }
}

/// Calls `handler` with an event that carries `data` and asks for an acknowledgement; returns what was sent, a rejection
/// as the dispatchers send it.
pub(crate) fn call<A: 'static>(data: impl Serialize, handler: impl Handler<Dispatch, A>) -> Vec<String> {
    call_named("event", data, handler)
}

/// [`call`] with an event of this name.
#[allow(dead_code)]
pub(crate) fn call_named<A: 'static>(
    name: &str,
    data: impl Serialize,
    handler: impl Handler<Dispatch, A>,
) -> Vec<String> {
    let handler = BoxedHandler::new(handler);
    let wire = Wire::default();
    let mut cx = Dispatch { sink: Some(wire.clone()), states: states() };
    let args = OwnedArgs::event(name, &data).unwrap();
    match handler.call(&mut cx, &args) {
        Ok(mut future) => {
            let polled = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Ready(()), "test handlers finish at once");
        }
        Err(rejection) => cx.take_sink().expect("a rejection leaves the sink").reply(&rejection),
    }
    wire.take()
}

pub(crate) fn states() -> StateMap {
    let mut states = StateMap::new();
    states.insert(40u8);
    states.insert(String::from("a string"));
    states
}
