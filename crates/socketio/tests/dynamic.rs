//! Namespaces that are made while the server runs: from patterns, expressions and predicates, or added.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketio::{
    Auth, BuildError, ConnectError, Data, Limits, NameParams, Namespace, NamespaceHandle, Socket, SocketIo, State,
};
use support::{Client, eventually, serve};
use tokio::sync::Notify;

#[derive(serde::Deserialize)]
struct Login {
    tenant: String,
}

#[tokio::test]
async fn clients_of_a_pattern_meet_in_namespaces_of_their_own() {
    let project = Namespace::pattern("/project/{id}")
        .state("state")
        .use_(async |NameParams(id): NameParams<u64>| if id < 100 { Ok(()) } else { Err("no such project") })
        .on_connect(async |socket: Socket, NameParams(id): NameParams<u64>| {
            socket.join("room");
            socket.emit("welcome", (socket.namespace().name().to_owned(), id));
        })
        .on("say", async |socket: Socket, Data(text): Data<String>, State(state): State<&'static str>| {
            socket.to("room").emit("said", text);
            state
        });
    let server = serve(SocketIo::builder().namespace(project)).await;
    let (mut ann, _) = Client::join_in(server.addr, "/project/1", "").await;
    let (mut bob, _) = Client::join_in(server.addr, "/project/1", "").await;
    let (mut cat, _) = Client::join_in(server.addr, "/project/2", "").await;
    for client in [&mut ann, &mut bob] {
        client.expect(r#"2/project/1,["welcome","/project/1",1]"#).await;
    }
    cat.expect(r#"2/project/2,["welcome","/project/2",2]"#).await;
    ann.send(r#"2/project/1,1["say","hi"]"#).await;
    ann.expect(r#"3/project/1,1["state"]"#).await;
    bob.expect(r#"2/project/1,["said","hi"]"#).await;
    // Cat has heard nothing: what comes next is this.
    server.io.of("/project/2").emit("last", ());
    cat.expect(r#"2/project/2,["last"]"#).await;
    for (name, answer) in [
        ("/project/", r#"{"message":"Invalid namespace"}"#),
        ("/project/1/2", r#"{"message":"Invalid namespace"}"#),
        ("/project/100", r#"{"message":"no such project"}"#),
    ] {
        cat.send(&format!("0{name},")).await;
        cat.expect(&format!("4{name},{answer}")).await;
    }
    // A name that does not fit the type of its part.
    cat.send("0/project/x,").await;
    let refusal = cat.text().await;
    assert!(refusal.starts_with(r#"4/project/x,{"message":"#) && refusal.contains("bad_request"), "{refusal}");
}

#[tokio::test]
async fn a_broadcast_to_the_parent_reaches_all_children() {
    let namespaces = Namespace::regex(r"/dynamic-(?P<no>\d+)").on_connect(async |socket: Socket| {
        socket.join("room");
    });
    let server = serve(SocketIo::builder().namespace(namespaces).namespace(Namespace::new("/"))).await;
    let parent = server.io.of_pattern(r"/dynamic-(?P<no>\d+)").unwrap();
    assert_eq!(parent.emit("early", ()).recipients(), 0);
    let (mut ann, ann_id) = Client::join_in(server.addr, "/dynamic-1", "").await;
    let (mut bob, _) = Client::join_in(server.addr, "/dynamic-22", "").await;
    let (mut cat, _) = Client::join(server.addr).await;
    eventually("both have joined", || parent.in_("room").sockets().len() == 2).await;
    assert_eq!(parent.to("room").emit("news", 1).recipients(), 2);
    assert_eq!(parent.except(&*ann_id).emit("more", 2).recipients(), 1);
    assert_eq!((parent.children().len(), parent.fetch_sockets().await.len()), (2, 2));
    ann.expect(r#"2/dynamic-1,["news",1]"#).await;
    bob.expect(r#"2/dynamic-22,["news",1]"#).await;
    bob.expect(r#"2/dynamic-22,["more",2]"#).await;
    // The whole name has to match.
    for name in ["/dynamic-", "/x/dynamic-1", "/dynamic-1x"] {
        cat.send(&format!("0{name},")).await;
        cat.expect(&format!(r#"4{name},{{"message":"Invalid namespace"}}"#)).await;
    }
    assert_eq!(server.io.all_namespaces().emit("all", ()).recipients(), 3);
}

#[tokio::test]
async fn a_predicate_is_asked_about_every_client() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let tenants = Namespace::when("tenants", move |name: String, login: Login| {
        log.lock().unwrap().push(name.clone());
        async move {
            tokio::task::yield_now().await;
            name == format!("/{}", login.tenant)
        }
    })
    .on_connect(async |socket: Socket, Auth(login): Auth<Login>| {
        socket.emit("hello", login.tenant);
    });
    let last = Namespace::pattern("/public/{room}").on("who", async |NameParams((room,)): NameParams<(String,)>| room);
    let server = serve(SocketIo::builder().namespace(tenants).namespace(last).namespace(Namespace::new("/"))).await;
    let (mut ann, _) = Client::join_in(server.addr, "/acme", r#"{"tenant":"acme"}"#).await;
    ann.expect(r#"2/acme,["hello","acme"]"#).await;
    let mut bob = Client::open(server.addr).await;
    // The namespace exists, and is not for everybody.
    for auth in [r#"{"tenant":"other"}"#, r#"{"tenant":5}"#, ""] {
        bob.send(&format!("0/acme,{auth}")).await;
        bob.expect(r#"4/acme,{"message":"Invalid namespace"}"#).await;
    }
    bob.connect("/acme", r#"{"tenant":"acme"}"#).await;
    bob.expect(r#"2/acme,["hello","acme"]"#).await;
    // What the predicate does not allow is left to those behind it; names of the server are not its business.
    bob.connect("/public/a", "").await;
    bob.send(r#"2/public/a,1["who"]"#).await;
    bob.expect(r#"3/public/a,1["a"]"#).await;
    bob.connect("/", "").await;
    // Where the `auth` does not fit it is not asked.
    assert_eq!(*asked.lock().unwrap(), ["/acme", "/acme", "/acme"]);
    assert_eq!(server.io.of_pattern("tenants").unwrap().children().len(), 1);
}

#[tokio::test]
async fn a_predicate_that_never_answers_is_given_up_and_one_that_panics_costs_its_connection() {
    let (gate, dropped) = (Arc::new(Notify::new()), Arc::new(()));
    let held = Arc::clone(&dropped);
    let never = Namespace::when("never", move |name: String, _: socketio::Value| {
        assert!(name != "/panic", "a test wants this");
        let (gate, held) = (Arc::clone(&gate), Arc::clone(&held));
        async move {
            gate.notified().await;
            drop(held);
            true
        }
    });
    let builder = SocketIo::builder().namespace(never).namespace(Namespace::new("/"));
    let server = serve(builder.connect_timeout(Duration::from_millis(100))).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send("0/never,").await;
    client.expect(r#"4/never,{"message":"Timeout"}"#).await;
    assert_eq!(Arc::strong_count(&dropped), 2);
    client.send("0/never,").await;
    eventually("it is asked again", || Arc::strong_count(&dropped) == 3).await;
    client.close().await;
    eventually("what was asked is forgotten", || Arc::strong_count(&dropped) == 2).await;
    let (mut client, _) = Client::join(server.addr).await;
    client.send("0/panic,").await;
    client.expect_closed().await;
    assert_eq!(server.io.stats().handler_panics, 1);
}

#[tokio::test]
async fn an_empty_child_is_gone_unless_it_is_to_be_kept() {
    for cleanup in [true, false] {
        let made = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&made);
        let namespace = Namespace::pattern("/{name}").use_(async |socket: Socket| match socket.namespace().name() {
            "/closed" => Err(ConnectError::new("closed")),
            _ => Ok(()),
        });
        let builder = SocketIo::builder()
            .namespace(namespace)
            .cleanup_empty_child_namespaces(cleanup)
            .on_new_namespace(move |namespace: &NamespaceHandle| log.lock().unwrap().push(namespace.name().to_owned()));
        let server = serve(builder).await;
        let parent = server.io.of_pattern("/{name}").unwrap();
        let (mut client, _) = Client::join_in(server.addr, "/a", "").await;
        client.connect("/b", "").await;
        client.send("0/closed,").await;
        client.expect(r#"4/closed,{"message":"closed"}"#).await;
        // A middleware that refuses the only client leaves nothing behind.
        eventually("the refused one is gone", || parent.child("/closed").is_none() == cleanup).await;
        client.send("1/a,").await;
        eventually("the empty one is gone", || parent.child("/a").is_none() == cleanup).await;
        assert!(parent.child("/b").is_some() && server.io.namespace("/b").is_some());
        // A handle keeps its namespace, so what it sends later finds the client that came later.
        let handle = server.io.of("/a");
        client.connect("/a", "").await;
        eventually("the client is in", || handle.len() == 1).await;
        assert_eq!(handle.emit("again", ()).recipients(), 1);
        client.expect(r#"2/a,["again"]"#).await;
        drop(handle);
        client.close().await;
        eventually("all have left", || server.io.stats().sockets_open == 0).await;
        eventually("all are gone", || parent.children().len() == if cleanup { 0 } else { 3 }).await;
        let want: &[&str] = if cleanup { &["/a", "/b", "/closed", "/a"] } else { &["/a", "/b", "/closed"] };
        assert_eq!(*made.lock().unwrap(), want, "{cleanup}");
        assert_eq!(server.io.stats().namespaces_created, want.len() as u64);
    }
}

#[tokio::test]
async fn there_are_only_so_many_children() {
    let mut limits = Limits::default();
    limits.max_child_namespaces = 2;
    let builder = SocketIo::builder().namespace(Namespace::pattern("/{name}")).limits(limits);
    let server = serve(builder).await;
    let mut events = server.io.security_events();
    let mut client = Client::open(server.addr).await;
    client.connect("/a", "").await;
    client.connect("/b", "").await;
    client.send("0/c,").await;
    client.expect(r#"4/c,{"message":"Too many namespaces"}"#).await;
    assert_eq!(events.try_next().unwrap().reason, "max_child_namespaces");
    let (mut other, _) = Client::join_in(server.addr, "/b", "").await;
    assert_eq!(server.io.stats().children_refused, 1);
    client.send("1/a,").await;
    eventually("there is room again", || server.io.of_pattern("/{name}").unwrap().children().len() == 1).await;
    other.connect("/c", "").await;
}

#[tokio::test]
async fn a_namespace_can_be_added_while_the_server_runs() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&made);
    let builder = SocketIo::builder().state(7_u32).namespace(Namespace::new("/"));
    let builder = builder.on_new_namespace(move |namespace| log.lock().unwrap().push(namespace.name().to_owned()));
    let server = serve(builder).await;
    let mut client = Client::open(server.addr).await;
    client.send("0/late,").await;
    client.expect(r#"4/late,{"message":"Invalid namespace"}"#).await;
    server.io.add(Namespace::new("late").on("state", async |State(state): State<u32>| state)).unwrap();
    server.io.add(Namespace::pattern("/later/{n}")).unwrap();
    client.connect("/late", "").await;
    client.send(r#"2/late,1["state"]"#).await;
    client.expect("3/late,1[7]").await;
    client.connect("/later/1", "").await;
    assert_eq!(*made.lock().unwrap(), ["/late", "/later/1"]);
    let mut names: Vec<String> = server.io.namespaces().iter().map(|namespace| namespace.name().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["/", "/late", "/later/1"]);

    let taken = server.io.add(Namespace::new("/late"));
    assert_eq!(taken, Err(BuildError::DuplicateNamespace("/late".to_owned())));
    let stateless = server.io.add(Namespace::new("/x").on("x", async |State(_): State<String>| ()));
    assert!(matches!(stateless, Err(BuildError::MissingState { .. })), "{stateless:?}");
}

#[test]
fn a_pattern_that_cannot_be_read_is_an_error_of_the_builder() {
    for namespace in [Namespace::pattern("/{"), Namespace::regex("(")] {
        let error = SocketIo::builder().namespace(namespace).build().unwrap_err();
        assert!(matches!(error, BuildError::InvalidPattern { .. }), "{error}");
    }
}
