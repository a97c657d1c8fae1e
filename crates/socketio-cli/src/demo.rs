//! What the page talks to: a chat in two namespaces, and the root namespace that tells about the server.
//!
//! The events are described once, at the head of `assets/page.js`. Names of rooms that clients choose are kept apart from
//! the ids of sockets, which are rooms too, by the prefix `room:`: nobody can listen to what is meant for one socket.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use socketio::{
    ConnectError, Data, Extension, HandlerError, Namespace, NamespaceHandle, RoomName, Socket, State, TryAuth, Value,
};

const NAME_CHARS: usize = 32;
const ROOM_CHARS: usize = 32;
const TEXT_CHARS: usize = 2000;
const KEY_CHARS: usize = 64;
const FILE_NAME_CHARS: usize = 200;
const FILE_TYPE_CHARS: usize = 100;
const FILE_BYTES: usize = 512 << 10;
const ANSWER_CHARS: usize = 200;
const ROOMS_PER_SOCKET: usize = 16;
const POKE_TIMEOUT: Duration = Duration::from_secs(5);

const PASSWORD: &str = "sesame";
const PREFIX: &str = "room:";

/// The namespaces of the demo.
pub(crate) fn namespaces() -> [Namespace; 3] {
    let server = Server::new();
    [root(&server), chat("/lobby", None, &server), chat("/backstage", Some(PASSWORD), &server)]
}

/// This run of the program.
#[derive(Clone)]
struct Server {
    /// Changes with every start, so that a page can tell a restart from a lost connection.
    instance: Arc<str>,
    messages: Arc<AtomicU64>,
}

impl Server {
    fn new() -> Self {
        let random = RandomState::new().hash_one(SystemTime::now());
        Self { instance: format!("{:06x}", random & 0xff_ffff).into(), messages: Arc::default() }
    }

    fn message_id(&self) -> String {
        format!("{}-{}", self.instance, self.messages.fetch_add(1, Ordering::Relaxed))
    }
}

/// Milliseconds since 1970, as JavaScript counts.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn root(server: &Server) -> Namespace {
    #[derive(Serialize)]
    struct About<'a> {
        name: &'a str,
        instance: &'a str,
    }

    Namespace::new("/")
        .state(server.clone())
        .on_connect(async |socket: Socket, State(server): State<Server>| {
            socket
                .emit("server", About { name: concat!("sio ", env!("CARGO_PKG_VERSION")), instance: &server.instance });
            tell_count(&socket.namespace());
        })
        .on_disconnect(async |namespace: NamespaceHandle| tell_count(&namespace))
        .on("latency", async || now())
}

fn tell_count(namespace: &NamespaceHandle) {
    namespace.broadcast().emit("count", namespace.len());
}

/// Who somebody is, to the others.
#[derive(Clone, Serialize)]
struct Member {
    id: RoomName,
    name: String,
}

/// What a client brings along. Anything may stand here: it is looked at, not trusted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Credentials {
    name: Value,
    rooms: Value,
    password: Value,
}

fn chat(name: &'static str, password: Option<&'static str>, server: &Server) -> Namespace {
    Namespace::new(name)
        .state(server.clone())
        .use_(move |socket: Socket, TryAuth(auth): TryAuth<Credentials>| async move {
            admit(&socket, &auth.unwrap_or_default(), password)
        })
        .on_connect(welcome)
        .on_disconnecting(async |socket: Socket, Extension(me): Extension<Member>| {
            for room in rooms_of(&socket) {
                socket.to(inner(&room)).emit("left", InRoom { room: &room, member: &me });
            }
        })
        .on("join", join)
        .on("leave", leave)
        .on("say", say)
        .on("file", file)
        .on("typing", typing)
        .on("poke", poke)
        // The answer takes as long as the other one likes: it must not hold up what this socket says meanwhile.
        .concurrent_event("poke", 4)
}

/// Lets somebody with a name in, and remembers it.
fn admit(socket: &Socket, auth: &Credentials, password: Option<&str>) -> Result<(), ConnectError> {
    let Some(name) = auth.name.as_str().filter(|name| is_text(name, NAME_CHARS)) else {
        return Err(ConnectError::new("a name of 1 to 32 characters is required").code("invalid_name"));
    };
    if password.is_some() && auth.password.as_str() != password {
        return Err(ConnectError::new("wrong password").code("wrong_password"));
    }
    socket.extensions().insert(Member { id: socket.id().clone(), name: name.trim().to_owned() });
    Ok(())
}

fn is_text(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most
}

fn is_room(name: &str) -> bool {
    is_text(name, ROOM_CHARS) && name.chars().all(|char| char.is_alphanumeric() || "-_".contains(char))
}

fn invalid(what: &str) -> HandlerError {
    HandlerError::new("invalid", format!("{what} is not valid"))
}

fn not_in_room() -> HandlerError {
    HandlerError::new("not_in_room", "you are not in this room")
}

/// The server's name of a room that clients know as `room`.
fn inner(room: &str) -> String {
    format!("{PREFIX}{room}")
}

fn is_in(socket: &Socket, room: &str) -> bool {
    is_room(room) && socket.is_in(&inner(room))
}

/// The rooms of a socket by the names that clients know.
fn rooms_of(socket: &Socket) -> BTreeSet<String> {
    socket.rooms().iter().filter_map(|room| room.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

fn members(socket: &Socket, room: &str) -> Vec<Member> {
    let sockets = socket.namespace().to(inner(room)).sockets();
    sockets.iter().filter_map(|socket| socket.extensions().get::<Member>()).map(|member| (*member).clone()).collect()
}

#[derive(Serialize)]
struct InRoom<'a> {
    room: &'a str,
    member: &'a Member,
}

#[derive(Serialize)]
struct Room {
    room: String,
    members: Vec<Member>,
}

fn enter(socket: &Socket, me: &Member, room: &str) {
    if !socket.is_in(&inner(room)) {
        socket.join(inner(room));
        socket.to(inner(room)).emit("joined", InRoom { room, member: me });
    }
}

async fn welcome(socket: Socket, Extension(me): Extension<Member>, TryAuth(auth): TryAuth<Credentials>) {
    #[derive(Serialize)]
    struct Welcome<'a> {
        me: &'a Member,
        rooms: Vec<Room>,
    }

    let wanted = auth.unwrap_or_default().rooms;
    let names = wanted.as_array().unwrap_or_default().iter().filter_map(Value::as_str).filter(|name| is_room(name));
    for room in names.take(ROOMS_PER_SOCKET) {
        enter(&socket, &me, room);
    }
    let rooms = rooms_of(&socket).into_iter().map(|room| Room { members: members(&socket, &room), room }).collect();
    socket.emit("welcome", Welcome { me: &me, rooms });
}

async fn join(
    socket: Socket,
    Extension(me): Extension<Member>,
    Data(room): Data<String>,
) -> Result<Room, HandlerError> {
    if !is_room(&room) {
        return Err(invalid("the name of the room"));
    }
    let rooms = rooms_of(&socket);
    if rooms.len() >= ROOMS_PER_SOCKET && !rooms.contains(&room) {
        return Err(HandlerError::new("too_many_rooms", format!("at most {ROOMS_PER_SOCKET} rooms")));
    }
    enter(&socket, &me, &room);
    Ok(Room { members: members(&socket, &room), room })
}

async fn leave(
    socket: Socket,
    Extension(me): Extension<Member>,
    Data(room): Data<String>,
) -> Result<Left, HandlerError> {
    if !is_in(&socket, &room) {
        return Err(not_in_room());
    }
    socket.leave(inner(&room));
    socket.to(inner(&room)).emit("left", InRoom { room: &room, member: &me });
    Ok(Left { room })
}

#[derive(Serialize)]
struct Left {
    room: String,
}

#[derive(Deserialize)]
struct Say {
    room: String,
    text: String,
    key: String,
}

#[derive(Serialize)]
struct Said {
    id: String,
    at: u64,
}

async fn say(
    socket: Socket,
    State(server): State<Server>,
    Extension(me): Extension<Member>,
    Data(Say { room, text, key }): Data<Say>,
) -> Result<Said, HandlerError> {
    #[derive(Serialize)]
    struct Heard<'a> {
        id: &'a str,
        room: &'a str,
        from: &'a Member,
        text: &'a str,
        key: &'a str,
        at: u64,
    }

    if !is_text(&text, TEXT_CHARS) || !is_text(&key, KEY_CHARS) {
        return Err(invalid("the message"));
    }
    if !is_in(&socket, &room) {
        return Err(not_in_room());
    }
    let (id, at) = (server.message_id(), now());
    socket.to(inner(&room)).emit("said", Heard { id: &id, room: &room, from: &me, text: &text, key: &key, at });
    Ok(Said { id, at })
}

#[derive(Deserialize)]
struct File {
    room: String,
    name: String,
    r#type: String,
    key: String,
}

#[derive(Serialize)]
struct Shared {
    id: String,
    at: u64,
    size: usize,
}

async fn file(
    socket: Socket,
    State(server): State<Server>,
    Extension(me): Extension<Member>,
    Data((File { room, name, r#type, key }, bytes)): Data<(File, Value)>,
) -> Result<Shared, HandlerError> {
    #[derive(Serialize)]
    struct Arrived<'a> {
        id: &'a str,
        room: &'a str,
        from: &'a Member,
        name: &'a str,
        r#type: &'a str,
        size: usize,
        key: &'a str,
        at: u64,
    }

    let named =
        is_text(&name, FILE_NAME_CHARS) && is_text(&key, KEY_CHARS) && r#type.chars().count() <= FILE_TYPE_CHARS;
    let Some(bytes) = bytes.as_bytes().filter(|_| named) else {
        return Err(invalid("the file"));
    };
    if bytes.len() > FILE_BYTES {
        return Err(HandlerError::new("too_large", format!("a file has at most {FILE_BYTES} bytes")));
    }
    if !is_in(&socket, &room) {
        return Err(not_in_room());
    }
    let (id, at, size) = (server.message_id(), now(), bytes.len());
    let about = Arrived { id: &id, room: &room, from: &me, name: &name, r#type: &r#type, size, key: &key, at };
    socket.to(inner(&room)).emit("file", (about, bytes));
    Ok(Shared { id, at, size })
}

async fn typing(socket: Socket, Extension(me): Extension<Member>, Data(room): Data<String>) {
    #[derive(Serialize)]
    struct Typing<'a> {
        room: &'a str,
        from: &'a Member,
    }

    if is_in(&socket, &room) {
        socket.to(inner(&room)).volatile().emit("typing", Typing { room: &room, from: &me });
    }
}

#[derive(Serialize)]
struct Answer {
    answer: String,
}

async fn poke(
    socket: Socket,
    Extension(me): Extension<Member>,
    Data(id): Data<String>,
) -> Result<Answer, HandlerError> {
    #[derive(Serialize)]
    struct Poked<'a> {
        from: &'a Member,
    }

    let target = socket.namespace().socket(&id);
    let rooms = rooms_of(&socket);
    let Some(target) = target.filter(|target| rooms.iter().any(|room| is_in(target, room))) else {
        return Err(HandlerError::new("gone", "nobody of that id is here"));
    };
    let answer = target.timeout(POKE_TIMEOUT).emit_with_ack::<Value>("poked", Poked { from: &me }).await;
    let answer = answer.map_err(|_| HandlerError::new("no_answer", "there was no answer in time"))?;
    let answer = answer.as_str().filter(|answer| is_text(answer, ANSWER_CHARS)).unwrap_or("…");
    Ok(Answer { answer: answer.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_names_that_are_no_trap() {
        for (name, good) in [
            ("general", true),
            ("a-b_c9", true),
            ("größe", true),
            ("日本", true),
            (&"x".repeat(32), true),
            ("", false),
            (&"x".repeat(33), false),
            ("two words", false),
            ("room:x", false),
            ("a/b", false),
            ("\u{202e}x", false),
            ("a\n", false),
        ] {
            assert_eq!(is_room(name), good, "{name:?}");
        }
    }

    #[test]
    fn texts_are_counted_in_characters() {
        for (text, good) in [("a", true), ("äöüß", true), ("äöüßé", false), ("", false), (" \t\n", false)] {
            assert_eq!(is_text(text, 4), good, "{text:?}");
        }
    }

    #[test]
    fn messages_have_ids_of_their_own() {
        let server = Server::new();
        assert_ne!(server.message_id(), server.message_id());
        assert_eq!(server.instance.len(), 6);
    }
}
