//! What servers of a cluster tell each other: several servers in one process, and wires between them.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{
    AckError, BuildError, Data, EmitError, EncodeError, EventName, HandlerError, Membership, MemoryBroker, Namespace,
    NamespaceHandle, SocketIo, State,
};
use support::eventually;

/// Three servers on one broker.
async fn cluster(membership: Membership, namespace: impl Fn(u32) -> Namespace) -> Vec<SocketIo> {
    let broker = MemoryBroker::new(membership);
    let server = |no: u32| {
        let builder = SocketIo::builder().namespace(namespace(no)).namespace(Namespace::new("/other"));
        builder.adapter(broker.bus()).build().unwrap()
    };
    let servers: Vec<SocketIo> = (0..3).map(server).collect();
    for server in &servers {
        while server.of("/").server_count().await != Ok(3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    servers
}

#[tokio::test]
async fn an_event_for_other_servers_reaches_all_of_them_and_not_its_own() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let servers = cluster(Membership::Heartbeat, |no| {
        let heard = Arc::clone(&heard);
        Namespace::new("/").state(no).on_server_event(
            "hello",
            move |State(no): State<u32>,
                  namespace: NamespaceHandle,
                  EventName(name): EventName,
                  Data((a, b)): Data<(String, u8)>| {
                heard.lock().unwrap().push(format!("{no}{} {name} {a} {b}", namespace.name()));
                std::future::ready(())
            },
        )
    })
    .await;
    assert_eq!(servers[0].server_side_emit("hello", ("x", 1)), Ok(2));
    eventually("both have heard it", || heard.lock().unwrap().len() == 2).await;
    let mut lines = heard.lock().unwrap().clone();
    lines.sort();
    assert_eq!(lines, ["1/ hello x 1", "2/ hello x 1"]);
    // What nobody handles, what does not fit and what is for another namespace reaches no handler.
    assert_eq!(servers[0].server_side_emit("nobody", ()), Ok(2));
    assert_eq!(servers[0].server_side_emit("hello", "x"), Ok(2));
    assert_eq!(servers[0].of("/other").server_side_emit("hello", ("x", 1)), Ok(2));
    eventually("what does not fit is counted", || servers[1].stats().extraction_errors == 1).await;
    assert_eq!(heard.lock().unwrap().len(), 2);
    for name in ["connect", "connection", "new_namespace"] {
        let refused = EmitError::Encode(EncodeError::ReservedEvent(name.to_owned()));
        assert_eq!(servers[0].server_side_emit(name, ()), Err(refused));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_other_servers_are_collected_and_may_be_missing() {
    answers_are_collected(Membership::Heartbeat).await;
    answers_are_collected(Membership::Counted).await;
}

async fn answers_are_collected(membership: Membership) {
    let servers = cluster(membership, |no| {
        Namespace::new("/")
            .state(no)
            .on_server_event("load", async |State(no): State<u32>| no * 10)
            .on_server_event("late", async |State(no): State<u32>| {
                tokio::time::sleep(Duration::from_secs(u64::from(no) * 4)).await;
                no
            })
            .on_server_event("mixed", async |State(no): State<u32>| match no {
                1 => Ok([(1, "one")]),
                _ => Err(HandlerError::new("no", "no")),
            })
            .on_server_event("panic", async |State(no): State<u32>| {
                assert!(no == 1, "a test wants this");
                no
            })
    })
    .await;
    let ask = async |event| {
        let mut answers = servers[0].server_side_emit_with_ack::<u32>(event, ()).await.unwrap();
        answers.answers.sort_unstable();
        (answers.answers, answers.missing)
    };
    assert_eq!(ask("load").await, (vec![10, 20], 0));
    // One of them takes longer than five seconds.
    assert_eq!(ask("late").await, (vec![1], 1));
    assert_eq!(ask("panic").await, (vec![1], 1));
    assert_eq!(ask("nobody").await, (vec![], 2));
    let answers = servers[0].server_side_emit_with_ack::<Vec<(u8, String)>>("mixed", ()).await.unwrap();
    assert_eq!((answers.answers, answers.missing), (vec![vec![(1, "one".to_owned())]], 0));
    assert_eq!(answers.errors, [AckError::Refused(HandlerError::new("no", "no"))]);
    let root = servers[0].of("/");
    let all = root.server_side_emit_with_ack_within::<u32>(Duration::from_secs(60), "late", ()).await.unwrap();
    assert_eq!(all.answers, [1, 2]);
}

#[tokio::test]
async fn a_server_alone_has_nobody_to_tell() {
    let io = SocketIo::builder().namespace(Namespace::new("/")).build().unwrap();
    assert_eq!(io.server_side_emit("hello", ()), Ok(0));
    let answers = io.server_side_emit_with_ack::<u32>("hello", ()).await.unwrap();
    assert_eq!((answers.answers.len(), answers.missing), (0, 0));
}

#[test]
fn state_that_a_server_event_asks_for_is_missed_by_the_builder() {
    let namespace = Namespace::new("/").on_server_event("x", async |State(_): State<u32>| ());
    let error = SocketIo::builder().namespace(namespace).build().unwrap_err();
    assert!(matches!(error, BuildError::MissingState { .. }), "{error}");
}
