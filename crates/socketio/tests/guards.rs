//! What stands between a client and its handlers: rates, the policy, validation, and credentials that expire.
#![cfg(all(feature = "testing", feature = "validate"))]
#![allow(clippy::type_complexity)] // what handlers have seen

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use garde::Validate;
use serde::Deserialize;
use socketio::testing::{self, TestClient};
use socketio::{
    Action, Builder, Data, Decision, DisconnectDescription, DisconnectReason, EmitError, Excess, Extensions, Namespace,
    Policy, Rate, RateLimit, SecurityEvent, SecurityKind as Kind, Socket, SocketIo, Valid, Who,
};
use tokio::time::Instant;

/// What an event was answered: the value, or the code of the error and its details.
async fn ask(client: &TestClient, event: &str, data: impl serde::Serialize) -> String {
    let answer: Result<serde_json::Value, _> = client.emit_with_ack(event, data).await;
    match answer {
        Ok(value) => value.to_string(),
        Err(socketio::AckError::Refused(error)) => {
            let details = error.details_ref().map(|details| format!(" {}", serde_json::to_string(details).unwrap()));
            format!("{}{}", error.code(), details.unwrap_or_default())
        }
        Err(other) => panic!("{event}: {other}"),
    }
}

/// The security events of a server, as text.
fn listen(builder: Builder) -> (Builder, Arc<Mutex<Vec<SecurityEvent>>>) {
    let heard: Arc<Mutex<Vec<SecurityEvent>>> = Arc::default();
    let sink = heard.clone();
    (builder.on_security_event(move |event| sink.lock().unwrap().push(event.clone())), heard)
}

fn drain(heard: &Mutex<Vec<SecurityEvent>>) -> Vec<(Kind, String, Option<String>)> {
    let events = std::mem::take(&mut *heard.lock().unwrap());
    events.into_iter().map(|event| (event.kind, event.reason.into_owned(), event.subject.map(String::from))).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_too_often_is_answered_with_when_to_try_again() {
    let root = Namespace::new("/")
        .rate_limit(RateLimit::event("say", Rate::per_second(2)))
        .rate_limit(RateLimit::socket(Rate::per_second(10)))
        .on("say", async |Data(number): Data<u32>| number)
        .on("other", async |Data(number): Data<u32>| number);
    let (builder, heard) = listen(SocketIo::builder().namespace(root));
    let server = testing::serve(builder);
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    assert_eq!((ask(&ann, "say", 1).await, ask(&ann, "say", 2).await), ("1".into(), "2".into()));
    assert_eq!(ask(&ann, "say", 3).await, r#"rate_limited {"retry_after_ms":501}"#);
    // Nobody else pays, and no other event.
    assert_eq!((ask(&bob, "say", 4).await, ask(&ann, "other", 5).await), ("4".into(), "5".into()));
    assert_eq!(drain(&heard), [(Kind::RateLimited, "event".into(), Some("say".into()))]);
    server.advance(Duration::from_millis(501)).await;
    assert_eq!(ask(&ann, "say", 6).await, "6");
    // The limit of the socket counts them all.
    let mut passed = 0;
    for number in 0..20 {
        passed += u32::from(!ask(&ann, "other", number).await.starts_with("rate_limited"));
    }
    assert!((5..=10).contains(&passed), "{passed}");
    assert_eq!(server.io().security().count(Kind::RateLimited), 1 + 20 - u64::from(passed));
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_comes_in_order_and_nothing_is_lost() {
    let seen: Arc<Mutex<Vec<(u32, Duration)>>> = Arc::default();
    let (sink, start) = (seen.clone(), Instant::now());
    let root = Namespace::new("/")
        .rate_limit(RateLimit::event("draw", Rate::per_second(10).burst(1)).excess(Excess::Delay))
        .on("draw", move |Data(number): Data<u32>| {
            sink.lock().unwrap().push((number, start.elapsed()));
            async move { number }
        });
    let server = testing::serve(SocketIo::builder().namespace(root));
    let ann = server.connect("/").await;
    for number in 0..5 {
        ann.emit("draw", number);
    }
    assert_eq!(ask(&ann, "draw", 5).await, "5");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    // Not one tenth of a second earlier than its rate allows.
    assert!(seen[5].1 - seen[0].1 >= Duration::from_millis(500), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_stop_is_disconnected_where_the_limit_says_so() {
    let gone: Arc<Mutex<Option<(DisconnectReason, Option<&'static str>)>>> = Arc::default();
    let sink = gone.clone();
    let root = Namespace::new("/")
        .rate_limit(RateLimit::namespace_event("flood", Rate::per_second(3)).excess(Excess::Disconnect))
        .on("flood", async || ())
        .on_disconnect(move |reason: DisconnectReason, why: DisconnectDescription| {
            *sink.lock().unwrap() = Some((reason, why.0));
            async {}
        });
    let (builder, heard) = listen(SocketIo::builder().namespace(root));
    let server = testing::serve(builder);
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    // All sockets together.
    for _ in 0..2 {
        ann.emit("flood", ());
        bob.emit("flood", ());
    }
    while server.sockets("/") > 1 {
        server.advance(Duration::from_millis(1)).await;
    }
    assert_eq!(*gone.lock().unwrap(), Some((DisconnectReason::ServerNamespaceDisconnect, Some("rate limit"))));
    assert_eq!(drain(&heard), [(Kind::RateLimited, "namespace event".into(), Some("flood".into()))]);
}

#[tokio::test(start_paused = true)]
async fn a_room_gets_so_much_from_sockets_and_anything_from_the_server() {
    let root = Namespace::new("/").rate_limit(RateLimit::room(Rate::per_second(2))).on(
        "to",
        async |socket: Socket, Data(room): Data<String>| match socket.to(&*room).emit("x", ()).error() {
            Some(EmitError::RateLimited { retry_after }) => format!("in {} ms", retry_after.as_millis()),
            error => format!("{error:?}"),
        },
    );
    let server = testing::serve(SocketIo::builder().namespace(root));
    let (ann, bob) = (server.connect("/").await, server.connect("/").await);
    for client in [&ann, &bob] {
        assert_eq!(ask(client, "to", "a").await, "\"None\"");
    }
    assert_eq!(ask(&ann, "to", "a").await, "\"in 500 ms\"");
    assert_eq!(ask(&ann, "to", "b").await, "\"None\"");
    for _ in 0..10 {
        assert!(server.io().to("a").emit("x", ()).is_ok());
    }
}

struct Admin;

/// Admins may do everything, others little; about the rest nothing is said.
fn rules(who: &Who<'_>, action: &Action<'_>) -> Decision {
    match action {
        _ if who.get::<Admin>().is_some() => Decision::Allow,
        Action::Connect => (who.namespace() != "/admin").into(),
        Action::Join { room } => room.starts_with("public:").into(),
        Action::Event { name: "ask" } => Decision::Allow,
        Action::Event { name: "secret" } => Decision::Deny("admins only"),
        Action::Emit { room: Some(room), .. } => room.starts_with("public:").into(),
        _ => Decision::Deny("no rule"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_policy_decides_about_namespaces_rooms_events_and_emits() {
    let build = |name: &str| {
        Namespace::new(name)
            .use_(async |socket: Socket| {
                if socket.handshake().auth::<serde_json::Value>().is_ok_and(|auth| auth["admin"] == true) {
                    socket.extensions().insert(Admin);
                }
                Ok::<(), socketio::ConnectError>(())
            })
            .policy(rules)
            .on("ask", async |socket: Socket, Data((what, room)): Data<(String, String)>| match &*what {
                "join" => socket.join(&*room).is_ok(),
                "emit" => socket.to(&*room).emit("x", ()).is_ok(),
                _ => socket.broadcast().emit("x", ()).is_ok(),
            })
            .on("secret", async || 1)
            .on("unknown", async || 1)
    };
    let (builder, heard) = listen(SocketIo::builder().namespace(build("/")).namespace(build("/admin")));
    let server = testing::serve(builder);
    let ann = server.connect("/").await;
    let root = server.client().auth(serde_json::json!({"admin": true})).connect("/admin").await.unwrap();
    let refused = server.client().connect("/admin").await.unwrap_err();
    assert_eq!((refused.message(), refused.code_ref()), ("not allowed", Some("forbidden")));
    assert_eq!(drain(&heard), [(Kind::PolicyDenied, "policy".into(), None)]);
    for (what, room, allowed, reason) in [
        ("join", "public:1", true, ""),
        ("join", "staff", false, "policy"),
        ("emit", "public:1", true, ""),
        ("emit", "staff", false, "policy"),
        ("everybody", "", false, "no rule"),
    ] {
        assert_eq!(ask(&ann, "ask", (what, room)).await, allowed.to_string(), "{what} {room}");
        let told: Vec<String> = drain(&heard).into_iter().map(|(_, reason, _)| reason).collect();
        assert_eq!(told.concat(), reason, "{what} {room}");
        assert_eq!(ask(&root, "ask", (what, room)).await, "true", "{what} {room}");
    }
    assert_eq!((ask(&ann, "secret", ()).await, ask(&root, "secret", ()).await), ("forbidden".into(), "1".into()));
    assert_eq!(drain(&heard), [(Kind::PolicyDenied, "admins only".into(), Some("secret".into()))]);
    assert_eq!(ask(&ann, "unknown", ()).await, "forbidden");
    // The server itself may.
    assert!(server.io().sockets_join("staff").is_ok());
    assert_eq!(server.io().root_size("staff"), 1);
}

/// The size of a room, as the server sees it.
trait RootSize {
    fn root_size(&self, room: &str) -> usize;
}

impl RootSize for SocketIo {
    fn root_size(&self, room: &str) -> usize {
        self.of("/").room_size(room)
    }
}

#[test]
fn a_policy_is_tested_without_a_server() {
    let (nobody, admin) = (Extensions::default(), Extensions::default());
    admin.insert(Admin);
    let event = Action::Event { name: "secret" };
    assert_eq!(rules.decide(&Who::new("/", "id", &nobody), &event), Decision::Deny("admins only"));
    assert_eq!(rules.decide(&Who::new("/", "id", &admin), &event), Decision::Allow);
    let closure = |_: &Who<'_>, action: &Action<'_>| matches!(action, Action::Connect);
    assert_eq!(closure.decide(&Who::new("/", "id", &nobody), &event), Decision::Deny("policy"));
}

#[derive(Deserialize, Validate)]
struct Order {
    #[garde(length(min = 1, max = 5))]
    item: String,
    #[garde(range(min = 1, max = 9))]
    count: u32,
    #[serde(default)]
    #[garde(dive)]
    notes: Vec<Note>,
}

#[derive(Deserialize, Validate)]
struct Note {
    #[garde(length(max = 3))]
    text: String,
}

#[tokio::test(start_paused = true)]
async fn invalid_data_is_answered_field_by_field_and_the_handler_is_not_called() {
    let root = Namespace::new("/").on("order", async |Valid(order): Valid<Order>| {
        format!("{} {} {}", order.count, order.item, order.notes.iter().map(|note| &*note.text).collect::<String>())
    });
    let (builder, heard) = listen(SocketIo::builder().namespace(root));
    let server = testing::serve(builder);
    let ann = server.connect("/").await;
    assert_eq!(ask(&ann, "order", serde_json::json!({"item": "tea", "count": 2})).await, "\"2 tea \"");
    let bad = serde_json::json!({"item": "", "count": 10, "notes": [{"text": "ok"}, {"text": "too long"}]});
    let answer = ask(&ann, "order", bad).await;
    let details: serde_json::Value = serde_json::from_str(answer.strip_prefix("invalid ").expect(&answer)).unwrap();
    let fields = details["fields"].as_object().unwrap();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["count", "item", "notes[1].text"], "{answer}");
    assert_eq!(fields["count"], "greater than 9");
    assert_eq!(drain(&heard), [(Kind::Invalid, "invalid".into(), Some("order".into()))]);
    // What does not even have the form is refused as everywhere.
    assert_eq!(ask(&ann, "order", 5).await, "bad_request");
    // However much is wrong, the answer is short.
    let notes = vec![serde_json::json!({"text": "too long"}); 5_000];
    let answer = ask(&ann, "order", serde_json::json!({"item": "a", "count": 1, "notes": notes})).await;
    assert_eq!(answer.matches("notes[").count(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_credentials_expire_is_disconnected_at_that_moment_and_not_before() {
    let gone: Arc<Mutex<Vec<(DisconnectReason, Option<&'static str>, Duration)>>> = Arc::default();
    let (sink, start) = (gone.clone(), Instant::now());
    let root = Namespace::new("/")
        .use_(async |socket: Socket| {
            socket.expires_at(Some(Instant::now() + Duration::from_secs(10)));
            Ok::<(), socketio::ConnectError>(())
        })
        .on("for", async |socket: Socket, Data(seconds): Data<Option<u64>>| {
            socket.expires_at(seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)));
            "done"
        })
        .on_disconnect(move |reason: DisconnectReason, why: DisconnectDescription| {
            sink.lock().unwrap().push((reason, why.0, start.elapsed()));
            async {}
        });
    let (builder, heard) = listen(SocketIo::builder().namespace(root));
    let server = testing::serve(builder);
    let (ann, bob, eve) = (server.connect("/").await, server.connect("/").await, server.connect("/").await);
    ask(&bob, "for", Some(3_600)).await;
    ask(&eve, "for", None::<u64>).await;
    server.advance(Duration::from_secs(9)).await;
    assert_eq!(server.sockets("/"), 3);
    server.advance(Duration::from_secs(2)).await;
    assert_eq!((server.sockets("/"), ann.connected()), (2, false));
    let (reason, why, after) = gone.lock().unwrap()[0];
    assert_eq!((reason, why), (DisconnectReason::ServerNamespaceDisconnect, Some("token expired")));
    assert!(after >= Duration::from_secs(10) && after < Duration::from_secs(12), "{after:?}");
    assert_eq!(drain(&heard), [(Kind::AuthExpired, "token expired".into(), None)]);
    // A time in the past is now.
    ask(&bob, "for", Some(0)).await;
    server.advance(Duration::from_secs(1)).await;
    assert_eq!(server.sockets("/"), 1);
    assert_eq!(ask(&eve, "for", None::<u64>).await, "\"done\"");
}

/// A policy may change its mind while a client is away.
#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_again_about_the_rooms_of_a_client_that_comes_back() {
    let open = Arc::new(AtomicBool::new(true));
    let is_open = open.clone();
    let root = Namespace::new("/").policy(move |_: &Who<'_>, action: &Action<'_>| match action {
        Action::Join { room } => *room != "vault" || is_open.load(Ordering::SeqCst),
        _ => true,
    });
    let recovery = socketio::RecoveryOptions::default();
    let (builder, heard) = listen(SocketIo::builder().connection_state_recovery(recovery).namespace(root));
    let server = testing::serve(builder);
    let ann = server.connect("/").await;
    let id = ann.id();
    let secret = |client: &TestClient| match &client.sent()[0] {
        testing::Sent::Text(text) => text.split("\"pid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned(),
        testing::Sent::Binary(_) => panic!("CONNECT is text"),
    };
    let pid = secret(&ann);
    let socket = server.io().of("/").socket(&id).unwrap();
    assert!(socket.join(["vault", "lobby"]).is_ok());
    ann.cut();
    server.settle().await;
    server.io().to("vault").emit("gold", 1);
    server.io().to("lobby").emit("news", 2);
    server.io().to(["vault", "lobby"]).emit("both", 3);
    open.store(false, Ordering::SeqCst);
    let back = server.client().auth(serde_json::json!({"pid": pid})).connect("/").await.unwrap();
    server.settle().await;
    assert_eq!((back.id(), back.waiting()), (id.clone(), vec!["news".to_owned(), "both".to_owned()]));
    let socket = server.io().of("/").socket(&id).unwrap();
    assert!(socket.recovered() && socket.is_in("lobby") && !socket.is_in("vault"));
    assert_eq!(drain(&heard), [(Kind::PolicyDenied, "policy".into(), Some("vault".into()))]);
}
