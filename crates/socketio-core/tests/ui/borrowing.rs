use socketio_core::{Handler, HandlerContext, NoReply, StateMap};

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

fn main() {
    let text = String::from("text");
    // An async closure lends its future what it owns, so it is no `Fn`.
    on("a", async move || text.len());
}
