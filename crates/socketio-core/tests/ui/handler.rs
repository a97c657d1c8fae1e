use serde::{Deserialize, Serialize};
use socketio_core::{Data, Event, EventHandler, Handler, HandlerContext, NoReply, StateMap};

struct Cx(StateMap);

impl HandlerContext for Cx {
    type Sink = NoReply;

    fn take_sink(&mut self) -> Option<NoReply> {
        None
    }

    fn states(&self) -> &StateMap {
        &self.0
    }
}

fn on<A>(_: &str, _: impl Handler<Cx, A>) {}

fn on_event<A, P>(_: impl EventHandler<Cx, A, P>) {}

#[derive(Event, Deserialize)]
#[event(name = "say", ack = u64)]
struct Say {
    text: String,
}

/// Only sent: not `Deserialize`.
#[derive(Event, Serialize)]
#[event(name = "heard")]
struct Heard {
    text: String,
}

struct Opaque;

fn not_async(Data(text): Data<String>) -> String {
    text
}

fn main() {
    // The second argument is no extractor.
    on("a", async |_: Data<u8>, text: String| text);
    // The data cannot be deserialized.
    on("b", async |_: Data<Opaque>| {});
    // The reply cannot be serialized.
    on("c", async || Opaque);
    // Not async.
    on("d", not_async);
    // Nine arguments.
    type D = Data<u8>;
    on("e", async |_: D, _: D, _: D, _: D, _: D, _: D, _: D, _: D, _: D| {});
    // A typed event with another answer.
    on_event(async |say: Say| say.text);
    // An event that is only sent.
    on_event(async |_: Heard| {});
    // No typed event.
    on_event(async |_: Data<u8>| {});
}
