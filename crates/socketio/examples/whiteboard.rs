//! A shared whiteboard: lines are kept and reach everybody, pointers are shown while there is room on the wire.
//!
//! `cargo run --example whiteboard`, then `socket.emit("draw", { from: [0, 0], to: [1, 1], color: "red" })`.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use socketio::{Builder, Event, Namespace, Socket, SocketIo, State};

#[derive(Clone, Event, Serialize, Deserialize)]
#[event(name = "draw")]
struct Line {
    from: (f32, f32),
    to: (f32, f32),
    color: String,
}

/// Two arguments: a tuple spreads.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "pointer")]
struct Pointer((f32, f32));

#[derive(Event)]
#[event(name = "clear")]
struct Clear;

type Board = Arc<Mutex<Vec<Line>>>;

/// Older lines are forgotten.
const LINES: usize = 10_000;

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on_connect(async |socket: Socket, State(board): State<Board>| {
            let lines = board.lock().unwrap().clone();
            socket.emit("board", (lines,));
        })
        .on_event(async |socket: Socket, line: Line, State(board): State<Board>| {
            socket.broadcast().emit_event(&line);
            let mut lines = board.lock().unwrap();
            lines.push(line);
            let old = lines.len().saturating_sub(LINES);
            lines.drain(..old);
        })
        .on_event(async |socket: Socket, Pointer((x, y)): Pointer| {
            socket.broadcast().volatile().emit("pointer", (socket.id(), x, y));
        })
        .on_event(async |io: SocketIo, _: Clear, State(board): State<Board>| {
            board.lock().unwrap().clear();
            io.emit("board", ([(); 0],));
        });
    SocketIo::builder().state(Board::default()).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
