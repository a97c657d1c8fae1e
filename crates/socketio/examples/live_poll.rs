//! A live poll: everybody has one vote, may change it, and sees the result move; it is told at most ten times a second.
//!
//! `cargo run --example live_poll`, then `await socket.emitWithAck("vote", "tea")`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{Builder, Data, HandlerError, Namespace, RoomName, Socket, SocketIo, State};

#[derive(Default)]
struct Poll {
    votes: HashMap<RoomName, String>,
    /// A result will be told soon.
    due: bool,
}

type Shared = Arc<Mutex<Poll>>;

const CHOICES: [&str; 3] = ["tea", "coffee", "water"];

impl Poll {
    fn result(&self) -> BTreeMap<&str, usize> {
        let count = |choice: &str| self.votes.values().filter(|vote| *vote == choice).count();
        CHOICES.iter().map(|choice| (*choice, count(choice))).collect()
    }
}

async fn vote(socket: Socket, Data(choice): Data<String>, State(poll): State<Shared>) -> Result<(), HandlerError> {
    let io = socket.io();
    if !CHOICES.contains(&choice.as_str()) {
        return Err(HandlerError::new("no_such_choice", "choose one of these").details(CHOICES));
    }
    let mut now = poll.lock().unwrap();
    now.votes.insert(socket.id().clone(), choice);
    if !std::mem::replace(&mut now.due, true) {
        drop(now);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut now = poll.lock().unwrap();
            now.due = false;
            io.emit("result", now.result());
        });
    }
    Ok(())
}

pub(crate) fn app() -> Builder {
    let root = Namespace::new("/")
        .on_connect(async |socket: Socket, State(poll): State<Shared>| {
            socket.emit("result", poll.lock().unwrap().result());
        })
        .on("vote", vote);
    SocketIo::builder().state(Shared::default()).namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
