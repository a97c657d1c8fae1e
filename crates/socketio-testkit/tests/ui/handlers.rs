use socketio::{Data, Namespace, Socket};

struct Opaque;

fn not_async(_: Socket) -> u8 {
    1
}

fn main() {
    Namespace::new("/").on("a", async |_: Socket, text: String| text);
    Namespace::new("/").on("b", async |Data(_): Data<Opaque>| {});
    Namespace::new("/").on("c", async || Opaque);
    Namespace::new("/").on("d", not_async);
    Namespace::new("/").on_connect(async |_: Data<String>| {});
    Namespace::new("/").on("e", async || std::rc::Rc::new(1));
}
