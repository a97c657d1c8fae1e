//! Listeners that come and go: for every event, and for what is sent.

mod support;

use std::sync::{Arc, Mutex};

use socketio::{Data, EventName, Namespace, OwnedArgs, Socket, SocketIo};
use support::{Client, serve};

type Log = Arc<Mutex<Vec<String>>>;

fn root() -> Namespace {
    Namespace::new("/").on("barrier", async || ())
}

fn io(namespace: Namespace) -> socketio::Builder {
    SocketIo::builder().namespace(namespace)
}

fn log_as(log: &Log, who: &'static str) -> impl Fn(&Socket, &OwnedArgs) + Send + Sync + 'static {
    let log = Arc::clone(log);
    move |_, event| log.lock().unwrap().push(format!("{who} {} {:?}", event.name(), event.values().unwrap()))
}

fn lines(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

#[tokio::test]
async fn everything_that_is_sent_is_overheard_and_acknowledgements_are_not() {
    let log = Log::default();
    let namespace = root().on("echo", async |Data(text): Data<String>| text);
    let server = serve(io(namespace)).await;
    let (mut ann, ann_id) = Client::join(server.addr).await;
    let (mut bob, _) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&ann_id).unwrap();
    let second = socket.on_any_outgoing(log_as(&log, "second"));
    let first = socket.prepend_any_outgoing(log_as(&log, "first"));
    assert_eq!(socket.listeners_any_outgoing(), [first, second]);

    socket.emit("one", (1, "a"));
    assert_eq!(lines(&log), [r#"first one [Int(1), String("a")]"#, r#"second one [Int(1), String("a")]"#]);
    assert!(socket.remove(first) && !socket.remove(first));
    server.io.emit("all", [1]);
    assert_eq!(lines(&log), ["second all [Array([Int(1)])]"]);
    drop(socket.emit_with_ack::<()>("ask", ()));
    drop(server.io.emit_with_ack::<()>("ask all", ()));
    assert_eq!(lines(&log), ["second ask []", "second ask all []"]);
    // What others get is not overheard, nor what was refused.
    server.io.except(&*ann_id).emit("others", ());
    socket.emit("disconnect", ());
    assert_eq!(lines(&log), [] as [&str; 0]);
    socket.off_any_outgoing();
    assert!(socket.listeners_any_outgoing().is_empty());
    socket.emit("last", ());
    assert_eq!(lines(&log), [] as [&str; 0]);

    for event in [r#"2["one",1,"a"]"#, r#"2["all",[1]]"#] {
        ann.expect(event).await;
    }
    for event in ["ask", "ask all"] {
        let got = ann.text().await;
        assert!(got.ends_with(&format!(r#"["{event}"]"#)), "{got}");
    }
    ann.expect(r#"2["last"]"#).await;
    ann.send(r#"21["echo","hi"]"#).await;
    ann.expect(r#"31["hi"]"#).await;
    bob.expect(r#"2["all",[1]]"#).await;
    assert_eq!(lines(&log), [] as [&str; 0]);
}

#[tokio::test]
async fn a_namespace_overhears_all_its_sockets_and_a_listener_does_not_overhear_itself() {
    let log = Log::default();
    let hook = Arc::clone(&log);
    let namespace = root().on_any_outgoing(move |socket, event| {
        hook.lock().unwrap().push(format!("{} {}", socket.id(), event.name()));
        socket.emit("echo", event.name().to_owned());
    });
    let server = serve(io(namespace)).await;
    let (mut ann, ann_id) = Client::join(server.addr).await;
    let (mut bob, bob_id) = Client::join(server.addr).await;
    server.io.emit("news", ());
    let mut got = lines(&log);
    got.sort();
    let mut want = [format!("{ann_id} news"), format!("{bob_id} news")];
    want.sort();
    assert_eq!(got, want);
    for client in [&mut ann, &mut bob] {
        client.expect(r#"2["news"]"#).await;
        client.expect(r#"2["echo","news"]"#).await;
        client.barrier().await;
    }
}

#[tokio::test]
async fn handlers_for_every_event_are_put_in_front_listed_and_taken_off() {
    let log = Log::default();
    let server = serve(io(root())).await;
    let (mut client, id) = Client::join(server.addr).await;
    let socket = server.io.of("/").socket(&id).unwrap();
    let hear = |who: &'static str| {
        let log = Arc::clone(&log);
        move |EventName(name): EventName| {
            log.lock().unwrap().push(format!("{who} {name}"));
            std::future::ready(())
        }
    };
    let second = socket.on_any(hear("second"));
    let first = socket.prepend_any(hear("first"));
    socket.on("b", hear("b"));
    socket.once("a", hear("a"));
    socket.on("a", hear("a again"));
    assert_eq!(socket.listeners_any(), [first, second]);
    assert_eq!(socket.event_names(), ["a", "b"]);
    client.send(r#"2["a"]"#).await;
    client.barrier().await;
    let barrier = ["first barrier", "second barrier"];
    assert_eq!(lines(&log), ["first a", "second a", "a a", "a again a", barrier[0], barrier[1]]);
    socket.remove(first);
    client.barrier().await;
    assert_eq!(lines(&log), ["second barrier"]);
    socket.off_any();
    client.send(r#"2["a"]"#).await;
    client.barrier().await;
    assert_eq!(lines(&log), ["a again a"]);
    socket.on_any(hear("third"));
    socket.remove_all_listeners();
    client.send(r#"2["b"]"#).await;
    client.barrier().await;
    assert_eq!(lines(&log), [] as [&str; 0]);
    assert!(socket.event_names().is_empty() && socket.listeners_any().is_empty());
}
