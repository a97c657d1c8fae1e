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
    on("f", async || {
        let shared = std::rc::Rc::new(1);
        std::future::ready(()).await;
        drop(shared);
    });
}
