use socketio::{Namespace, Socket};

fn main() {
    Namespace::new("/").use_(async |_: Socket| 5);
    Namespace::new("/").use_(async |_: String| Ok::<(), String>(()));
    Namespace::new("/").use_event(async |_: Socket| "no");
}
