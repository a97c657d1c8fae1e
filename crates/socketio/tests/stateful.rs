//! State that the compiler checks.

mod support;

use std::sync::{Arc, Mutex};

use socketio::{
    Ack, Auth, Data, DisconnectReason, Event, EventName, FromRef, HandlerError, NameParams, Namespace, Next, Socket,
    SocketIo, State,
};
use support::{Client, eventually, serve};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

#[derive(Clone)]
struct Config {
    secret: &'static str,
}

/// The state of an application. It need not be `Clone` itself.
struct App {
    log: Log,
    config: Config,
}

impl FromRef<App> for Log {
    fn from_ref(app: &App) -> Self {
        app.log.clone()
    }
}

impl FromRef<App> for Config {
    fn from_ref(app: &App) -> Self {
        app.config.clone()
    }
}

#[derive(serde::Deserialize)]
struct Login {
    secret: String,
}

#[derive(Event, serde::Serialize, serde::Deserialize)]
#[event(name = "add", ack = i64)]
struct Add(i64, i64);

impl Log {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

#[tokio::test]
async fn handlers_take_parts_of_one_state() {
    let log = Log::default();
    let namespace: Namespace = Namespace::pattern("/{room}")
        .into_stateful()
        .use_(async |State(config): State<Config>, Auth(login): Auth<Login>| match login.secret == config.secret {
            true => Ok(()),
            false => Err("wrong secret"),
        })
        .use_event(async |State(log): State<Log>, EventName(name): EventName, next: Next| {
            log.write(format!("{name}?"));
            next.run().await
        })
        .on_connect(async |socket: Socket, State(log): State<Log>, NameParams(room): NameParams<String>| {
            log.write(format!("connect {room}"));
            socket.emit("welcome", ());
        })
        .on("say", async |State(log): State<Log>, Data(text): Data<String>| {
            log.write(&*text);
            text.len()
        })
        .on("later", async |State(config): State<Config>, ack: Ack| ack.send(config.secret))
        .on("number", async |Data(number): Data<u8>| number)
        .on_event(async |add: Add, State(log): State<Log>| -> Result<i64, HandlerError> {
            log.write("add");
            Ok(add.0 + add.1)
        })
        .on_any(async |State(log): State<Log>| log.write("any"))
        .fallback(async |EventName(name): EventName| name)
        .on_disconnecting(async |socket: Socket, State(log): State<Log>| log.write(format!("{}", socket.rooms().len())))
        .on_disconnect(async |State(log): State<Log>, reason: DisconnectReason| log.write(reason.as_str()))
        .configure(|namespace| namespace.concurrent_event("later", 2))
        .with_state(App { log: log.clone(), config: Config { secret: "s" } });
    let server = serve(SocketIo::builder().namespace(namespace)).await;
    let mut client = Client::open(server.addr).await;
    client.send(r#"0/a,{"secret":"x"}"#).await;
    client.expect(r#"4/a,{"message":"wrong secret"}"#).await;
    client.connect("/a", r#"{"secret":"s"}"#).await;
    client.expect(r#"2/a,["welcome"]"#).await;
    for (event, answer) in [
        (r#"2/a,1["say","hi"]"#, "3/a,1[2]"),
        (r#"2/a,2["later"]"#, r#"3/a,2["s"]"#),
        (r#"2/a,3["add",[2,3]]"#, "3/a,3[5]"),
        (r#"2/a,4["nobody"]"#, r#"3/a,4["nobody"]"#),
    ] {
        client.send(event).await;
        client.expect(answer).await;
    }
    client.send(r#"2/a,5["number",-1]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"3/a,5[{"error":{"code":"bad_request""#), "{answer}");
    client.send("1/a,").await;
    let want = "connect a|say?|any|hi|later?|any|add?|any|add|nobody?|any|number?|any|1|client namespace disconnect";
    eventually("all is written", || log.0.lock().unwrap().len() == want.split('|').count()).await;
    assert_eq!(log.0.lock().unwrap().join("|"), want);
}

#[test]
fn a_stateful_namespace_is_complete_with_its_state() {
    let namespace = Namespace::stateful("/").on("x", async |State(number): State<u64>| number).with_state(7_u64);
    assert!(SocketIo::builder().namespace(namespace).build().is_ok());
}
