//! Leaving a namespace: reasons, order, and that nothing stays behind.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socketio::{DisconnectDescription, DisconnectReason, Limits, Namespace, Socket, SocketIo, State};
use support::{Client, Msg, Server, eventually, serve};
use tokio::sync::{Notify, mpsc};

type Log = mpsc::UnboundedSender<String>;

fn logging(name: &str, log: Log) -> Namespace {
    Namespace::new(name)
        .state(log)
        .on("barrier", async || ())
        .on("bye", async |socket: Socket| socket.disconnect(false))
        .on("bye all", async |socket: Socket| socket.disconnect(true))
        .on("kick", async |socket: Socket| socket.conn().close(engineio::CloseReason::ForcedClose))
        .on_connect(async |socket: Socket| {
            socket.join("room");
        })
        .on_disconnecting(async |State(log): State<Log>, socket: Socket, reason: DisconnectReason| {
            let in_room = socket.is_in("room") && socket.is_in(socket.id());
            log.send(format!("disconnecting {reason} {in_room} {}", socket.connected())).unwrap();
        })
        .on_disconnect(async |State(log): State<Log>, socket: Socket, reason: DisconnectReason| {
            log.send(format!("disconnect {reason} {}", socket.rooms().len())).unwrap();
        })
}

async fn server(namespaces: &[&str]) -> (Server, mpsc::UnboundedReceiver<String>) {
    let (log, lines) = mpsc::unbounded_channel();
    let mut builder = SocketIo::builder();
    for name in namespaces {
        builder = builder.namespace(logging(name, log.clone()));
    }
    (serve(builder).await, lines)
}

async fn left(lines: &mut mpsc::UnboundedReceiver<String>, reason: &str) {
    assert_eq!(lines.recv().await.unwrap(), format!("disconnecting {reason} true false"));
    assert_eq!(lines.recv().await.unwrap(), format!("disconnect {reason} 0"));
}

#[tokio::test]
async fn every_end_has_its_reason_and_its_handlers_run_once() {
    let (server, mut lines) = server(&["/"]).await;

    let (mut client, _) = Client::join(server.addr).await;
    client.send("1").await;
    left(&mut lines, "client namespace disconnect").await;
    client.connect("/", "").await;

    client.send(r#"2["bye"]"#).await;
    client.expect("1").await;
    left(&mut lines, "server namespace disconnect").await;
    client.connect("/", "").await;

    client.send(r#"2["kick"]"#).await;
    client.expect_closed().await;
    left(&mut lines, "forced close").await;

    let (client, _) = Client::join(server.addr).await;
    client.close().await;
    left(&mut lines, "transport close").await;

    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    socket.disconnect(true);
    assert!(!socket.connected());
    client.expect("1").await;
    client.expect_closed().await;
    left(&mut lines, "server namespace disconnect").await;

    eventually("nothing is left", || server.io.stats().sockets_open == 0).await;
    eventually("no connection is left", || server.io.stats().connections_open == 0).await;
    assert_eq!(server.io.of("/").len(), 0);
    assert_eq!(server.io.of("/").rooms(), []);
    assert!(lines.try_recv().is_err());
}

#[tokio::test]
async fn closing_the_connection_says_goodbye_to_every_namespace() {
    let (server, mut lines) = server(&["/", "/a"]).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.connect("/a", "").await;
    client.send(r#"2["bye all"]"#).await;
    let mut packets = vec![client.text().await, client.text().await];
    packets.sort();
    assert_eq!(packets, ["1", "1/a,"]);
    client.expect_closed().await;
    for _ in 0..4 {
        let line = lines.recv().await.unwrap();
        assert!(line.contains("server namespace disconnect"), "{line}");
    }
}

#[tokio::test]
async fn leaving_one_namespace_leaves_the_others_alone() {
    let (server, mut lines) = server(&["/", "/a"]).await;
    let (mut client, _) = Client::join(server.addr).await;
    let id = client.connect("/a", "").await;
    server.io.of("/a").socket(&id).unwrap().disconnect(false);
    // Sent before the client knows: ignored, where Node would close the whole connection.
    client.send(r#"2/a,["late"]"#).await;
    client.expect("1/a,").await;
    left(&mut lines, "server namespace disconnect").await;
    client.barrier().await;
    let again = client.connect("/a", "").await;
    assert_ne!(id, again);
}

#[tokio::test]
async fn closing_the_server_tells_every_socket() {
    let (server, mut lines) = server(&["/"]).await;
    let (mut client, _) = Client::join(server.addr).await;
    let closed = async {
        client.expect_closed().await;
        drop(client);
    };
    tokio::join!(server.io.close(), closed);
    left(&mut lines, "server shutting down").await;
    assert_eq!(server.io.engine().sessions(), 0);
}

#[tokio::test]
async fn events_that_came_before_the_goodbye_are_handled_before_it() {
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let namespace = logging("/", log).on("work", async |State(log): State<Log>| {
        tokio::task::yield_now().await;
        log.send("work".into()).unwrap();
    });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_all(&[r#"2["work"]"#, r#"2["work"]"#, r#"2["work"]"#, "1"]).await;
    for _ in 0..3 {
        assert_eq!(lines.recv().await.unwrap(), "work");
    }
    left(&mut lines, "client namespace disconnect").await;
    client.connect("/", "").await;
    client.send_all(&[r#"2["work"]"#, r#"2["work"]"#, r#"2["work"]"#]).await;
    client.close().await;
    for _ in 0..3 {
        assert_eq!(lines.recv().await.unwrap(), "work");
    }
    left(&mut lines, "transport close").await;
}

#[tokio::test]
async fn events_that_wait_when_the_server_disconnects_are_dropped() {
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let gate = Arc::new(Notify::new());
    let namespace = logging("/", log)
        .state(Arc::clone(&gate))
        .on("bye then wait", async |socket: Socket, State(gate): State<Arc<Notify>>| {
            gate.notified().await;
            socket.disconnect(false);
        })
        .on("work", async |State(log): State<Log>| {
            log.send("work".into()).unwrap();
        });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_all(&[r#"2["bye then wait"]"#, r#"2["work"]"#]).await;
    eventually("both have been read", || server.io.stats().events_in == 2).await;
    gate.notify_one();
    client.expect("1").await;
    left(&mut lines, "server namespace disconnect").await;
}

#[tokio::test]
async fn a_handler_that_never_ends_keeps_no_disconnect_handler_waiting() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let dropped = Arc::new(AtomicBool::new(false));
    let namespace =
        logging("/", log).state(Arc::clone(&dropped)).on("hang", async |State(dropped): State<Arc<AtomicBool>>| {
            let _guard = Dropped(dropped);
            std::future::pending::<()>().await
        });
    let mut limits = Limits::default();
    limits.disconnect_wait = Duration::from_millis(20);
    limits.handler_stall = Duration::from_millis(300);
    let server = serve(SocketIo::builder().limits(limits).namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"2["hang"]"#).await;
    client.barrier_is_not_answered().await;
    client.close().await;
    left(&mut lines, "transport close").await;
    assert!(!dropped.load(Ordering::SeqCst), "it goes on beside the disconnect handlers");
    eventually("it is given up", || dropped.load(Ordering::SeqCst)).await;
    eventually("nothing is left", || server.io.stats().sockets_open == 0).await;
    assert_eq!(server.io.stats().handlers_abandoned, 1);
}

#[tokio::test]
async fn a_disconnect_handler_that_panics_leaves_nothing_behind() {
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let namespace = Namespace::new("/")
        .state(log)
        .on_disconnecting(async || -> () { panic!("on purpose") })
        .on_disconnect(async |State(log): State<Log>, DisconnectDescription(_): DisconnectDescription| {
            log.send("still called".into()).unwrap();
        });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let (client, _) = Client::join(server.addr).await;
    client.close().await;
    assert_eq!(lines.recv().await.unwrap(), "still called");
    eventually("nothing is left", || server.io.stats().connections_open == 0).await;
    assert_eq!(server.io.of("/").len(), 0);
}

#[tokio::test]
async fn a_handler_whose_client_waits_for_nobody_is_stopped_by_the_stall_limit() {
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let namespace = logging("/", log).on("hang", async || std::future::pending::<()>().await);
    let mut limits = Limits::default();
    limits.mailbox_events = 1;
    limits.disconnect_wait = Duration::from_millis(10);
    limits.handler_stall = Duration::from_millis(100);
    let server = serve(SocketIo::builder().limits(limits).namespace(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send_all(&[r#"2["hang"]"#, r#"2["hang"]"#, r#"2["hang"]"#]).await;
    while client.next().await != Msg::Closed {}
    let line = lines.recv().await.unwrap();
    assert!(line.starts_with("disconnecting transport error"), "{line}");
}

#[tokio::test]
async fn a_thousand_clients_come_and_go_without_a_trace() {
    let (server, mut lines) = server(&["/"]).await;
    for round in 0..10 {
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(Client::join(server.addr).await.0);
        }
        assert_eq!(server.io.of("/").room_size("room"), 100);
        if round % 2 == 0 {
            drop(clients);
        } else {
            server.io.disconnect_sockets(true);
            for mut client in clients {
                client.expect("1").await;
                client.expect_closed().await;
            }
        }
        for _ in 0..200 {
            lines.recv().await.unwrap();
        }
        eventually("all are gone", || server.io.stats().connections_open == 0).await;
        assert_eq!((server.io.of("/").len(), server.io.of("/").rooms().len()), (0, 0));
    }
    assert_eq!(server.io.stats().sockets_open, 0);
}
