use serde::{Deserialize, Serialize};
use socketio_client::{Client, Event, Socket};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "say", ack = u32)]
struct Say {
    text: String,
}

#[derive(Serialize)]
struct Plain;

struct Opaque;

async fn emits(socket: Socket) {
    socket.emit_event(&Plain);
    socket.emit_event(&Say { text: 5 });
    let _: String = socket.call(&Say { text: String::new() }).await.unwrap();
    socket.emit("opaque", Opaque);
}

fn main() {
    let _ = Client::builder("http://localhost").on_event(async |say: Say| say.text);
    let _ = Client::builder("http://localhost").on("text", async |_: Socket, text: String| text);
}
