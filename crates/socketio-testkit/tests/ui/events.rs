use serde::{Deserialize, Serialize};
use socketio::event::In;
use socketio::{Data, Event, Namespace, Socket, events};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "say", ack = u32)]
struct Say {
    text: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "say")]
struct Again;

#[derive(Serialize)]
struct Plain;

events! { enum Twice { Say, Again } }

events! { enum FromClient { Say } }

fn send<E: In<FromClient>>(_: E) {}

async fn emits(socket: Socket) {
    socket.emit_event(&Plain);
    let _: String = socket.call(&Say { text: String::new() }).await.unwrap();
}

fn main() {
    Namespace::new("/").on_event(async |say: Say| say.text);
    Namespace::new("/").on_event(async |_: Data<String>| {});
    send(Again);
}
