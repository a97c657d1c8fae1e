//! Rooms and broadcasts.

mod support;

use std::time::Duration;

use serde::{Serialize, Serializer};
use socketio::{AckError, Bytes, Data, Namespace, Socket, SocketIo};
use support::{Client, Server, serve};

async fn server() -> Server {
    let namespace = Namespace::new("/")
        .on("barrier", async || ())
        .on("join", async |socket: Socket, Data(rooms): Data<Vec<String>>| {
            socket.join(rooms);
        })
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(room);
        })
        .on("to", async |socket: Socket, Data((room, text)): Data<(String, String)>| {
            socket.to(room).emit("said", (socket.id(), text)).recipients()
        })
        .on("everybody else", async |socket: Socket| socket.broadcast().emit("said", ()).recipients())
        .on("except", async |socket: Socket, Data(room): Data<String>| {
            socket.except(room).emit("said", ()).recipients()
        });
    serve(SocketIo::builder().namespace(namespace).namespace(Namespace::new("/other"))).await
}

async fn join(server: &Server, rooms: &str) -> (Client, String) {
    let (mut client, id) = Client::join(server.addr).await;
    client.send(&format!(r#"20["join",{rooms}]"#)).await;
    client.expect("30[]").await;
    (client, id)
}

#[tokio::test]
async fn a_broadcast_reaches_each_member_once_and_not_the_sender() {
    let server = server().await;
    let (mut ann, ann_id) = join(&server, r#"["a","b"]"#).await;
    let (mut bob, _) = join(&server, r#"["a","b"]"#).await;
    let (mut cat, cat_id) = join(&server, r#"["c"]"#).await;

    ann.send(r#"21["to","a","hi"]"#).await;
    ann.expect("31[1]").await;
    bob.expect(&format!(r#"2["said","{ann_id}","hi"]"#)).await;
    ann.send(r#"22["everybody else"]"#).await;
    ann.expect("32[2]").await;
    bob.expect(r#"2["said"]"#).await;
    cat.expect(r#"2["said"]"#).await;
    ann.send(r#"23["except","b"]"#).await;
    ann.expect("33[1]").await;
    cat.expect(r#"2["said"]"#).await;

    assert_eq!(server.io.to(["a", "b"]).emit("x", (1, 2)).recipients(), 2);
    assert_eq!(server.io.to("a").to("c").except(&*ann_id).emit("y", ()).recipients(), 2);
    assert_eq!(server.io.to(&*cat_id).emit("z", [1, 2]).recipients(), 1);
    assert_eq!(server.io.to("nobody").emit("z", ()).recipients(), 0);
    ann.expect(r#"2["x",1,2]"#).await;
    bob.expect(r#"2["x",1,2]"#).await;
    bob.expect(r#"2["y"]"#).await;
    cat.expect(r#"2["y"]"#).await;
    cat.expect(r#"2["z",[1,2]]"#).await;
    for client in [&mut ann, &mut bob, &mut cat] {
        client.barrier().await;
    }
    bob.send(r#"24["leave","a"]"#).await;
    bob.expect("34[]").await;
    assert_eq!(server.io.of("/").room_size("a"), 1);
}

#[tokio::test]
async fn binary_broadcasts_arrive_whole() {
    let server = server().await;
    let (mut ann, _) = Client::join(server.addr).await;
    let (mut bob, _) = Client::join(server.addr).await;
    let io = server.io.clone();
    let blob = Bytes::from_static(&[1, 2, 3]);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (io, blob) = (io.clone(), blob.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    io.emit("blob", (&blob, "and", &blob)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for client in [&mut ann, &mut bob] {
        for _ in 0..200 {
            client.expect(r#"52-["blob",{"_placeholder":true,"num":0},"and",{"_placeholder":true,"num":1}]"#).await;
            client.expect_binary(&[1, 2, 3]).await;
            client.expect_binary(&[1, 2, 3]).await;
        }
    }
}

/// Counts how often it is encoded.
struct Counted<'a>(&'a std::cell::Cell<usize>);

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.set(self.0.get() + 1);
        serializer.serialize_unit()
    }
}

#[tokio::test]
async fn a_broadcast_is_encoded_once_and_for_an_empty_room_not_at_all() {
    let server = server().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(join(&server, r#"["room"]"#).await.0);
    }
    let count = std::cell::Cell::new(0);
    assert_eq!(server.io.to("room").emit("x", Counted(&count)).recipients(), 5);
    assert_eq!(count.get(), 1);
    assert_eq!(server.io.to("empty").emit("x", Counted(&count)).recipients(), 0);
    assert_eq!(server.io.of("/nowhere").emit("x", Counted(&count)).recipients(), 0);
    assert_eq!(count.get(), 1);
    for client in &mut clients {
        client.expect(r#"2["x",null]"#).await;
    }
}

#[tokio::test]
async fn groups_can_be_moved_and_disconnected() {
    let server = server().await;
    let (mut ann, ann_id) = join(&server, r#"["a"]"#).await;
    let (mut bob, bob_id) = join(&server, r#"["b"]"#).await;
    server.io.to("a").sockets_join(["x", "y"]);
    server.io.sockets_join("all");
    server.io.to("y").sockets_leave("y");
    let of = server.io.of("/");
    assert_eq!((of.room_size("x"), of.room_size("y"), of.room_size("all")), (1, 0, 2));
    let sockets = server.io.to("all").except("b").fetch_sockets().await;
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].id().as_str(), ann_id);
    let mut rooms: Vec<&str> = sockets[0].rooms().iter().map(|room| room.as_str()).collect();
    rooms.retain(|room| *room != ann_id);
    rooms.sort_unstable();
    assert_eq!(rooms, ["a", "all", "x"]);
    server.io.to("a").disconnect_sockets(false);
    ann.expect("1").await;
    assert!(of.socket(&ann_id).is_none() && of.socket(&bob_id).is_some());
    bob.barrier().await;
}

#[tokio::test]
async fn all_namespaces_are_reached_each_with_its_own_packet() {
    let server = server().await;
    let (mut client, _) = Client::join(server.addr).await;
    client.connect("/other", "").await;
    assert_eq!(server.io.all_namespaces().emit("maintenance", "soon").recipients(), 2);
    let mut packets = [client.text().await, client.text().await];
    packets.sort();
    assert_eq!(packets, [r#"2/other,["maintenance","soon"]"#, r#"2["maintenance","soon"]"#]);
}

#[tokio::test]
async fn answers_to_a_broadcast_come_one_by_one_and_partly() {
    let server = server().await;
    let (mut ann, ann_id) = join(&server, r#"["voters"]"#).await;
    let (mut bob, bob_id) = join(&server, r#"["voters"]"#).await;
    let (cat, cat_id) = join(&server, r#"["voters"]"#).await;
    let (mut dan, dan_id) = join(&server, r#"["voters"]"#).await;
    let mut votes = server.io.to("voters").timeout(Duration::from_millis(300)).emit_with_ack::<String>("vote", ());
    assert_eq!((votes.recipients(), votes.missing()), (4, 4));
    for client in [&mut ann, &mut bob, &mut dan] {
        client.expect(r#"20["vote"]"#).await;
    }
    bob.send(r#"30["yes"]"#).await;
    assert_eq!(votes.next().await.unwrap(), (bob_id.as_str().into(), Ok("yes".to_owned())));
    cat.close().await;
    assert_eq!(votes.next().await.unwrap(), (cat_id.as_str().into(), Err(AckError::Disconnected)));
    ann.send(r#"30[1]"#).await;
    let (id, vote) = votes.next().await.unwrap();
    assert_eq!(id.as_str(), ann_id);
    assert!(matches!(vote, Err(AckError::Decode(_))));
    assert_eq!(votes.missing(), 1);
    let rest = votes.all().await;
    assert!(rest.answers.is_empty());
    assert!(rest.missing.contains(&(dan_id.as_str().into(), AckError::Timeout)), "{rest:?}");
    dan.send(r#"30["late"]"#).await;
    dan.barrier().await;
    assert_eq!((server.io.stats().acks_timed_out, server.io.stats().acks_unknown), (1, 1));

    let all = server.io.to(&*bob_id).emit_with_ack::<(i64, i64)>("pair", 1);
    bob.expect(r#"21["pair",1]"#).await;
    bob.send("31[2,3]").await;
    let all = all.all().await;
    assert_eq!((all.answers, all.missing), (vec![(bob_id.as_str().into(), (2, 3))], vec![]));
    assert!(server.io.to("nobody").emit_with_ack::<()>("vote", ()).all().await.answers.is_empty());
}

#[tokio::test]
async fn a_volatile_event_is_dropped_where_it_cannot_be_taken_at_once() {
    let server = server().await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.volatile().emit("tick", 0).is_ok());
    client.expect(r#"2["tick",0]"#).await;
    // Nobody reads: the kernel's buffers fill up, and then volatile events go nowhere.
    let text = "x".repeat(100_000);
    let mut dropped = 0;
    for _ in 0..500 {
        if !socket.volatile().emit("tick", &text).is_ok() {
            dropped += 1;
        }
        tokio::task::yield_now().await;
    }
    assert!(dropped > 0);
    assert_eq!(server.io.stats().volatile_dropped, dropped);
    assert!(socket.emit("last", ()).is_ok());
    while client.text().await != r#"2["last"]"# {}
}

#[tokio::test]
async fn answers_to_broadcasts_that_never_came_leave_nothing() {
    let mut limits = socketio::Limits::default();
    limits.max_pending_acks = 1;
    let server = serve(SocketIo::builder().limits(limits).namespace(Namespace::new("/"))).await;
    let (mut client, id) = Client::join(server.addr).await;
    for _ in 0..20 {
        let votes = server.io.broadcast().timeout(Duration::from_millis(1)).emit_with_ack::<()>("vote", ()).all().await;
        assert_eq!(votes.missing.len(), 1);
        // Had the one before left anything, this one would not have been asked.
        assert!(client.text().await.ends_with(r#"["vote"]"#));
    }
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.emit_with_ack::<()>("alone", ()).is_ok());
}

#[tokio::test]
async fn rooms_that_middleware_joins_have_limits() {
    let mut limits = socketio::Limits::default();
    limits.rooms_per_socket = 2;
    limits.room_name_bytes = 4;
    let root = Namespace::new("/").use_(async |socket: Socket| {
        // All or none of a call, and each room once.
        let outcomes = [
            socket.join(["a", "a"]).is_ok(),
            socket.join("a long name").is_ok(),
            socket.join(["b", "c"]).is_ok(),
            socket.join(["b", "a"]).is_ok(),
            socket.join("c").is_ok(),
        ];
        if outcomes == [true, false, false, true, false] { Ok(()) } else { Err(format!("{outcomes:?}")) }
    });
    let server = serve(SocketIo::builder().limits(limits).namespace(root)).await;
    let (_client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let rooms: std::collections::BTreeSet<_> = socket.rooms().into_iter().filter(|room| **room != *id).collect();
    assert_eq!(rooms.iter().map(|room| room.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(server.io.security().count(socketio::SecurityKind::LimitReached), 3);
}

#[tokio::test]
async fn rooms_have_limits() {
    let mut limits = socketio::Limits::default();
    limits.rooms_per_socket = 2;
    limits.room_name_bytes = 4;
    let server = serve(SocketIo::builder().limits(limits).namespace(Namespace::new("/"))).await;
    let (client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    assert!(socket.join(["a", "b"]).is_ok());
    assert!(!socket.join("c").is_ok() && !socket.join("a long name").is_ok());
    assert_eq!(socket.rooms().len(), 3);
    assert!(socket.leave("a").is_ok() && socket.join("c").await.is_ok());
    client.close().await;
    support::eventually("it has left", || !socket.connected()).await;
    assert!(socket.join("d").is_ok());
    support::eventually("it is in no room", || socket.rooms().is_empty()).await;
}
