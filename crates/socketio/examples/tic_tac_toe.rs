//! Tic-tac-toe: whoever comes is paired with whoever waits, a game is a room, and its rules are the server's.
//!
//! `cargo run --example tic_tac_toe`, then `socket.on("start", (mark) => …)` and `socket.emit("play", 4)`.

use std::sync::{Arc, Mutex};

use socketio::{Builder, Data, Extension, HandlerError, Namespace, Socket, SocketIo, State};

#[derive(Default)]
struct Game {
    cells: [Option<char>; 9],
    moves: usize,
}

struct Seat(Arc<Mutex<Game>>, char, String);

/// The player who waits for another one.
type Waiting = Arc<Mutex<Option<Socket>>>;

const LINES: [[usize; 3]; 8] = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

async fn pair(socket: Socket, State(waiting): State<Waiting>) {
    let mut waiting = waiting.lock().unwrap();
    let Some(other) = waiting.take().filter(Socket::connected) else { return *waiting = Some(socket) };
    let (game, room) = (Arc::<Mutex<Game>>::default(), format!("game:{}", other.id()));
    for (player, mark) in [(other, 'X'), (socket, 'O')] {
        player.join(&room);
        player.extensions().insert(Seat(game.clone(), mark, room.clone()));
        player.emit("start", mark);
    }
}

async fn play(io: SocketIo, seat: Extension<Seat>, Data(cell): Data<usize>) -> Result<(), HandlerError> {
    let Seat(game, mark, room) = &*seat.0;
    let mut game = game.lock().unwrap();
    let turn = if game.moves % 2 == 0 { 'X' } else { 'O' };
    if *mark != turn || game.moves >= 9 || !matches!(game.cells.get(cell), Some(None)) {
        return Err(HandlerError::new("illegal", "not your turn, or not a free cell"));
    }
    game.cells[cell] = Some(*mark);
    game.moves += 1;
    io.to(room).emit("played", (mark, cell));
    if LINES.iter().any(|line| line.iter().all(|cell| game.cells[*cell] == Some(*mark))) {
        game.moves = 9;
        io.to(room).emit("over", mark);
    } else if game.moves == 9 {
        io.to(room).emit("over", "nobody");
    }
    Ok(())
}

pub(crate) fn app() -> Builder {
    SocketIo::builder().state(Waiting::default()).namespace(Namespace::new("/").on_connect(pair).on("play", play))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
