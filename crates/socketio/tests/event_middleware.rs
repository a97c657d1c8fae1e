//! Middleware: around events, and values of it that are used more than once.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::context::ConnectContext;
use socketio::{
    Ack, Args, BuildError, ConnectError, Data, EventMiddleware, EventMiddlewareContext, EventName, EventVerdictFuture,
    HandlerError, Middleware, MissingState, Namespace, Next, OwnedArgs, Rejection, Socket, SocketIo, State, StateMap,
    VerdictFuture,
};
use support::{Client, eventually, serve};

type Log = Arc<Mutex<Vec<String>>>;

fn root() -> Namespace {
    Namespace::new("/").on("barrier", async || ())
}

fn io(namespace: Namespace) -> socketio::Builder {
    SocketIo::builder().namespace(namespace)
}

fn write(log: &Log, line: impl Into<String>) {
    log.lock().unwrap().push(line.into());
}

/// Says when the event comes and when the rest has run.
async fn trace(State(log): State<Log>, EventName(name): EventName, next: Next) -> Result<(), HandlerError> {
    write(&log, format!("{name}?"));
    let result = next.run().await;
    write(&log, format!("{name}{}", if result.is_ok() { "." } else { "!" }));
    result
}

async fn only_admins(socket: Socket, EventName(name): EventName) -> Result<(), HandlerError> {
    if name.starts_with("admin") && !socket.is_in("admins") {
        return Err(HandlerError::new("forbidden", "only for admins").details([name]));
    }
    Ok(())
}

#[tokio::test]
async fn middleware_sees_refuses_and_times_events() {
    let log = Log::default();
    let refused = Log::default();
    let hook = Arc::clone(&refused);
    let namespace = root()
        .state(Arc::clone(&log))
        .use_event(trace)
        .use_event(only_admins)
        .on("say", async |State(log): State<Log>, Data(text): Data<String>| {
            tokio::task::yield_now().await;
            write(&log, text.clone());
            text
        })
        .on("admin:stop", async || "stopped")
        .on_error(move |_, event, error| write(&hook, format!("{event} {}", error.error().code())));
    let server = serve(io(namespace)).await;
    let (mut client, id) = Client::join(server.addr).await;
    client.send(r#"21["say","hi"]"#).await;
    client.expect(r#"31["hi"]"#).await;
    client.send(r#"22["admin:stop"]"#).await;
    let error = r#"{"error":{"code":"forbidden","message":"only for admins","details":["admin:stop"]}}"#;
    client.expect(&format!("32[{error}]")).await;
    client.send(r#"2["admin:stop"]"#).await;
    client.send(r#"23["say",5]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"33[{"error":{"code":"bad_request""#), "{answer}");
    client.send(r#"24["nobody"]"#).await;
    server.io.of("/").socket(&id).unwrap().join("admins");
    client.send(r#"25["admin:stop"]"#).await;
    client.expect(r#"35["stopped"]"#).await;
    client.barrier().await;
    let want = "say? hi say. admin:stop? admin:stop! admin:stop? admin:stop! say? say! nobody? nobody. admin:stop? \
                admin:stop. barrier? barrier.";
    // The client has its answer before the last line is written.
    eventually("all is written", || log.lock().unwrap().len() == want.split(' ').count()).await;
    assert_eq!(log.lock().unwrap().join(" "), want);
    assert_eq!(*refused.lock().unwrap(), ["admin:stop forbidden", "admin:stop forbidden", "say bad_request"]);
    let stats = server.io.stats();
    assert_eq!((stats.events_refused, stats.extraction_errors, stats.events_unhandled), (3, 1, 1));
}

#[tokio::test]
async fn middleware_changes_events_and_answers_them() {
    let namespace = root()
        .use_event(async |mut next: Next| -> Result<(), HandlerError> {
            if next.event().name() == "shout" {
                let text: String = next.event().deserialize()?;
                next.set_args((text.to_uppercase(), 2))?;
            }
            next.run().await
        })
        .use_event(async |EventName(name): EventName, ack: Ack, next: Next| {
            if name == "cached" {
                ack.send("from the cache");
                return Ok(());
            }
            // Whoever takes the acknowledgement answers: what the handler returns is not sent.
            ack.send("too early");
            next.run().await
        })
        .on("shout", async |socket: Socket, Data(both): Data<(String, u8)>| {
            socket.emit("shouted", &both);
            both
        });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["cached"]"#).await;
    client.expect(r#"31["from the cache"]"#).await;
    client.send(r#"22["shout","hi"]"#).await;
    client.expect(r#"32["too early"]"#).await;
    client.expect(r#"2["shouted","HI",2]"#).await;

    let namespace = root()
        .use_event(async |mut next: Next| -> Result<(), HandlerError> {
            if next.event().name() == "old name" {
                let more: (u32, String) = next.event().deserialize()?;
                next.set_event(OwnedArgs::event("new name", &(more.1, more.0 + 1))?);
            }
            next.run().await
        })
        .on("old name", async || "not this")
        .on("new name", async |EventName(name): EventName, Data((text, n)): Data<(String, u32)>| (name, text, n));
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["old name",41,"x"]"#).await;
    client.expect(r#"31["new name","x",42]"#).await;
    // Without an acknowledgement id there is nothing to answer.
    client.send(r#"2["old name",41,"x"]"#).await;
    client.send(r#"2["old name"]"#).await;
    client.barrier().await;
}

#[tokio::test]
async fn middleware_of_a_socket_runs_behind_that_of_its_namespace() {
    let log = Log::default();
    let namespace = root()
        .state(Arc::clone(&log))
        .use_event(async |State(log): State<Log>| write(&log, "namespace"))
        .on_connect(async |socket: Socket, Data(()): Data<()>| {
            socket.use_event(async |State(log): State<Log>, EventName(name): EventName| {
                write(&log, format!("socket {name}"));
                if name == "no" { Err(HandlerError::new("no", "no")) } else { Ok(()) }
            });
            socket.on("own", async || "own");
        })
        .on_any(async |State(log): State<Log>| write(&log, "any"));
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send(r#"21["no"]"#).await;
    client.expect(r#"31[{"error":{"code":"no","message":"no"}}]"#).await;
    client.send(r#"22["own"]"#).await;
    client.expect(r#"32["own"]"#).await;
    // What was refused reaches no handler, those for every event included.
    assert_eq!(log.lock().unwrap().join(" "), "namespace socket no namespace socket own any");
}

#[tokio::test]
async fn events_with_waiting_middleware_stay_in_order() {
    const EVENTS: usize = 500;
    let seen = Arc::new(Mutex::new(Vec::<usize>::new()));
    let namespace = root()
        .state(Arc::clone(&seen))
        .use_event(async |next: Next| {
            if next.event().deserialize::<Option<usize>>().unwrap_or_default().is_some_and(|n| n % 3 == 0) {
                tokio::task::yield_now().await;
            }
            next.run().await
        })
        .on("n", async |State(seen): State<Arc<Mutex<Vec<usize>>>>, Data(n): Data<usize>| {
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            seen.lock().unwrap().push(n);
        });
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    let packets: Vec<String> = (0..EVENTS).map(|n| format!(r#"2["n",{n}]"#)).collect();
    client.send_all(&packets.iter().map(String::as_str).collect::<Vec<_>>()).await;
    client.barrier().await;
    assert_eq!(*seen.lock().unwrap(), (0..EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn middleware_that_panics_ends_its_connection_and_nothing_else() {
    let namespace = root().use_event(async |EventName(name): EventName| assert!(name != "panic", "a test wants this"));
    let server = serve(io(namespace)).await;
    let (mut client, _) = Client::join(server.addr).await;
    let (mut other, _) = Client::join(server.addr).await;
    client.send(r#"2["panic"]"#).await;
    client.expect_closed().await;
    other.barrier().await;
    assert_eq!(server.io.stats().handler_panics, 1);
}

/// So many events of a socket per window, each name by itself: a value with state, used by two namespaces.
#[derive(Clone, Default)]
struct RateLimit {
    left: Arc<Mutex<HashMap<String, usize>>>,
    refused: Arc<AtomicUsize>,
}

impl EventMiddleware<()> for RateLimit {
    fn call(&self, cx: &mut EventMiddlewareContext, args: &Args<'_>) -> Result<EventVerdictFuture, Rejection> {
        let mut left = self.left.lock().unwrap();
        let left = left.entry(args.name().to_owned()).or_insert(2);
        if *left == 0 {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(HandlerError::new("rate_limited", "too many events").into());
        }
        *left -= 1;
        let next = cx.take_next().expect("nobody has taken it before");
        Ok(next.run())
    }

    fn check(_: &StateMap) -> Result<(), MissingState> {
        Ok(())
    }
}

/// So many clients: a value with state for two doors.
#[derive(Clone)]
struct Seats(Arc<AtomicUsize>);

impl Middleware<()> for Seats {
    fn call(&self, _: &mut ConnectContext, _: &Args<'_>) -> Result<VerdictFuture, Rejection> {
        let free = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).is_ok();
        Ok(Box::pin(async move { if free { Ok(()) } else { Err(ConnectError::new("no seat")) } }))
    }

    fn check(_: &StateMap) -> Result<(), MissingState> {
        Ok(())
    }
}

#[tokio::test]
async fn middleware_is_a_value_that_several_namespaces_share() {
    let (limit, seats) = (RateLimit::default(), Seats(Arc::new(AtomicUsize::new(2))));
    let namespace = |name| {
        Namespace::new(name).use_(seats.clone()).use_event(limit.clone()).on("hit", async || "hit").on("x", async || 1)
    };
    let server = serve(SocketIo::builder().namespace(namespace("/a")).namespace(namespace("/b"))).await;
    let mut client = Client::open(server.addr).await;
    client.connect("/a", "").await;
    client.connect("/b", "").await;
    let mut late = Client::open(server.addr).await;
    late.send("0/b,").await;
    late.expect(r#"4/b,{"message":"no seat"}"#).await;
    for (event, answer) in [
        (r#"2/a,1["hit"]"#, r#"3/a,1["hit"]"#),
        (r#"2/b,2["hit"]"#, r#"3/b,2["hit"]"#),
        (r#"2/a,3["hit"]"#, r#"3/a,3[{"error":{"code":"rate_limited","message":"too many events"}}]"#),
        (r#"2/a,4["x"]"#, "3/a,4[1]"),
    ] {
        client.send(event).await;
        client.expect(answer).await;
    }
    assert_eq!(limit.refused.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn middleware_is_tested_without_a_server() {
    let log = Log::default();
    let event = OwnedArgs::event("say", &("hi", 1)).unwrap();
    let inner = Arc::clone(&log);
    let next = Next::from_fn(event, async move |event: OwnedArgs| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        write(&inner, event.deserialize::<String>().unwrap());
        Err(HandlerError::new("no", "no"))
    });
    let result = trace(State(Arc::clone(&log)), EventName("say".into()), next).await;
    assert_eq!(result.unwrap_err().code(), "no");
    assert_eq!(log.lock().unwrap().join(" "), "say? hi say!");
}

#[test]
fn state_that_middleware_asks_for_is_missed_by_the_builder() {
    let error = io(Namespace::new("/").use_event(trace)).build().unwrap_err();
    assert!(matches!(error, BuildError::MissingState { .. }), "{error}");
}
