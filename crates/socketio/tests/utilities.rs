//! What the application does with sockets from outside: looking at them, moving them, keeping data with them.

mod support;

use std::sync::{Arc, Mutex};

use socketio::{Auth, Data, Namespace, RoomEvent, Socket, SocketIo, Value};
use support::{Client, eventually, serve};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct User {
    name: String,
    visits: u32,
}

#[tokio::test]
async fn fetched_sockets_show_handshake_rooms_and_data() {
    let namespace = Namespace::new("/").on_connect(async |socket: Socket, Auth(user): Auth<User>| {
        socket.data().insert("user", &user).unwrap();
        socket.join("room");
    });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let mut client = Client::open_with(server.addr, 4, "&tab=1&tab=2").await;
    let id = client.connect("/", r#"{"name":"Ann","visits":3}"#).await;
    eventually("the connect handler has run", || server.io.of("/").room_size("room") == 1).await;
    let sockets = server.io.in_("room").fetch_sockets().await;
    assert_eq!(sockets.len(), 1);
    let socket = &sockets[0];
    assert_eq!(socket.id().as_str(), id);
    let mut rooms: Vec<&str> = socket.rooms().iter().map(|room| room.as_str()).collect();
    rooms.sort_unstable();
    let mut want = [id.as_str(), "room"];
    want.sort_unstable();
    assert_eq!(rooms, want);
    assert_eq!(socket.data(), &Value::Map([("user", user())].into_iter().collect()));
    let handshake = socket.handshake();
    assert_eq!(handshake.query.get("tab").map(String::as_str), Some("2"));
    assert_eq!(handshake.headers.get("upgrade").map(String::as_str), Some("websocket"));
    assert_eq!(handshake.auth, user());
    assert_eq!(handshake.address, "127.0.0.1");
    assert!(handshake.url.starts_with("/socket.io/?EIO=4") && handshake.issued > 1_600_000_000_000);
    // What was fetched is of its moment.
    socket.as_local().unwrap().data().remove("user");
    assert!(socket.data().get("user").is_some());
    socket.emit("hello", 1);
    client.expect(r#"2["hello",1]"#).await;
    let answer = socket.emit_with_ack::<u32>("question", ());
    client.expect(r#"20["question"]"#).await;
    client.send("30[7]").await;
    assert_eq!(answer.await, Ok(7));

    fn user() -> Value {
        Value::Map([("name", Value::from("Ann")), ("visits", Value::from(3))].into_iter().collect())
    }
}

#[tokio::test]
async fn data_of_a_socket_is_read_by_field_and_as_a_whole() {
    let namespace = Namespace::new("/").on("barrier", async || ());
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let data = socket.data();
    assert_eq!(data.value(), Value::Map(Default::default()));
    assert_eq!(data.get::<u32>("visits"), None);
    data.replace(User { name: "Ann".into(), visits: 1 }).unwrap();
    data.insert("visits", 2).unwrap();
    assert_eq!((data.get::<u32>("visits"), data.get::<String>("visits")), (Some(2), None));
    assert_eq!(data.read::<User>().unwrap(), User { name: "Ann".into(), visits: 2 });
    assert!(data.replace(5).is_err() && data.insert("name", std::collections::HashMap::from([((1, 2), 3)])).is_err());
    assert_eq!(data.get::<String>("name").as_deref(), Some("Ann"));
    assert!(data.remove("name") && !data.remove("name"));
    client.close().await;
    eventually("the socket is gone", || server.io.stats().sockets_open == 0).await;
    data.insert("late", 1).unwrap();
    assert_eq!(data.value(), Value::Map(Default::default()));
}

#[tokio::test]
async fn send_is_the_event_message() {
    let namespace = Namespace::new("/").on("message", async |socket: Socket, Data(text): Data<String>| {
        socket.send((text, 1));
        socket.io().send("all");
        socket.compress(false).send("flagged");
    });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"2["message","hi"]"#).await;
    client.expect(r#"2["message","hi",1]"#).await;
    client.expect(r#"2["message","all"]"#).await;
    client.expect(r#"2["message","flagged"]"#).await;
}

#[tokio::test]
async fn what_happens_to_rooms_is_told_in_order() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let namespace = Namespace::new("/")
        .on("barrier", async || ())
        .on("join", async |socket: Socket, Data(rooms): Data<Vec<String>>| {
            socket.join(rooms);
        })
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(room);
        })
        .on_room_event(move |namespace, event| {
            assert_eq!(namespace.name(), "/");
            let line = match event {
                RoomEvent::Create(room) => format!("+{room}"),
                RoomEvent::Join { room, id } => {
                    // A hook may change rooms itself: that is told afterwards.
                    if room.as_str() == "first" {
                        namespace.in_(id).sockets_join("second");
                    }
                    format!("{id}>{room}")
                }
                RoomEvent::Leave { room, id } => format!("{id}<{room}"),
                RoomEvent::Delete(room) => format!("-{room}"),
            };
            hook.lock().unwrap().push(line);
        });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut ann, a) = Client::join(server.addr).await;
    ann.send(r#"20["join",["first","third"]]"#).await;
    ann.expect("30[]").await;
    ann.send(r#"20["join",["first"]]"#).await;
    ann.expect("30[]").await;
    let (mut bob, b) = Client::join(server.addr).await;
    bob.send(r#"20["join",["third"]]"#).await;
    bob.expect("30[]").await;
    ann.send(r#"20["leave","third"]"#).await;
    ann.expect("30[]").await;
    let want = [
        format!("+{a} {a}>{a} +first {a}>first +third {a}>third +second {a}>second"),
        format!("+{b} {b}>{b} {b}>third {a}<third"),
    ];
    assert_eq!(told.lock().unwrap().join(" "), want.join(" "));
    told.lock().unwrap().clear();
    bob.close().await;
    eventually("bob has left", || server.io.stats().sockets_open == 1).await;
    let mut lines = told.lock().unwrap().clone();
    lines.sort();
    let mut want = [format!("{b}<{b}"), format!("-{b}"), format!("{b}<third"), "-third".to_owned()];
    want.sort();
    assert_eq!(lines, want);
}

#[tokio::test]
async fn flags_of_a_group_do_what_they_say() {
    let namespace = Namespace::new("/")
        .on("barrier", async || ())
        .on("others", async |socket: Socket| socket.local().emit("from a socket", ()).recipients());
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut ann, a) = Client::join(server.addr).await;
    let (mut bob, b) = Client::join(server.addr).await;
    // Flags and rooms make new groups; those they were made from stay as they were.
    let all = server.io.local();
    let one = all.clone().to(&*a).compress(false);
    assert_eq!((all.emit("all", ()).recipients(), one.emit("one", ()).recipients()), (2, 1));
    assert_eq!(server.io.compress(false).except(&*a).emit("but one", ()).recipients(), 1);
    let nobody_waits = server.io.timeout(std::time::Duration::ZERO).emit_with_ack::<()>("late", ()).all().await;
    assert_eq!((nobody_waits.answers.len(), nobody_waits.missing.len()), (0, 2));
    for event in [r#"2["all"]"#, r#"2["one"]"#, r#"20["late"]"#] {
        ann.expect(event).await;
    }
    for event in [r#"2["all"]"#, r#"2["but one"]"#, r#"20["late"]"#] {
        bob.expect(event).await;
    }
    ann.barrier().await;
    bob.barrier().await;
    // Nothing is on its way to them, so a volatile event is taken.
    let sent = server.io.volatile().to([&*a, &*b]).emit("now", ());
    assert_eq!(sent.recipients() + sent.refused(), 2);
    for client in [&mut ann, &mut bob] {
        if server.io.stats().volatile_dropped == 0 {
            client.expect(r#"2["now"]"#).await;
        }
    }
    ann.send(r#"21["others"]"#).await;
    ann.expect("31[1]").await;
    bob.expect(r#"2["from a socket"]"#).await;
}

#[tokio::test]
async fn a_fetched_socket_is_spoken_to_moved_and_disconnected() {
    let server = serve(SocketIo::builder().namespace(Namespace::new("/").on("barrier", async || ()))).await;
    let (mut client, _) = Client::join(server.addr).await;
    let sockets = server.io.fetch_sockets().await;
    let socket = &sockets[0];
    socket.emit("hello", ("a", 1));
    client.expect(r#"2["hello","a",1]"#).await;
    let answer = socket.timeout(std::time::Duration::from_secs(20)).emit_with_ack::<(u8, u8)>("pair", ());
    client.expect(r#"20["pair"]"#).await;
    client.send("30[1,2]").await;
    assert_eq!(answer.await, Ok((1, 2)));
    assert!(socket.join(["x", "y"]).is_ok());
    socket.leave("x");
    let root = server.io.of("/");
    assert_eq!((root.room_size("x"), root.room_size("y"), socket.rooms().len()), (0, 1, 1));
    socket.disconnect(false);
    client.expect("1").await;
    client.connect("/", "").await;
    server.io.fetch_sockets().await[0].disconnect(true);
    client.expect("1").await;
    client.expect_closed().await;
}
