//! The bus against a real database: what arrives, what hostile neighbours send, and what happens when the database goes.

use std::sync::Arc;
use std::time::Duration;

use socketio_adapter::BroadcastOptions;
use socketio_adapter::cluster::wire::Foreign;
use socketio_adapter::cluster::{
    Bus, BusError, Envelope, Health, Inbox, Message, RequestId, ServerId, SocketDetails, Target,
};
use socketio_postgres::{PostgresBus, PostgresOptions, emitter};
use socketio_proto::{OwnedArgs, Value};
use socketio_testkit::{Postgres, within};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

const PATIENCE: Duration = Duration::from_secs(120);

/// What an inbox got.
#[allow(clippy::large_enum_variant)] // A handful per test.
#[derive(Debug)]
enum Got {
    Message(Envelope),
    /// Why is read in what a failing test prints.
    Foreign(#[allow(dead_code)] Foreign),
    Lost(u64),
    Health(Health),
}

struct Letters(UnboundedSender<Got>);

impl Letters {
    fn put(&self, got: Got) {
        // The test may be over.
        drop(self.0.send(got));
    }
}

impl Inbox for Letters {
    fn received(&self, envelope: Envelope, _: Option<Arc<str>>) {
        self.put(Got::Message(envelope));
    }

    fn foreign(&self, why: &Foreign) {
        self.put(Got::Foreign(why.clone()));
    }

    fn lost(&self, messages: u64) {
        self.put(Got::Lost(messages));
    }

    fn health(&self, health: Health) {
        self.put(Got::Health(health));
    }

    fn has_room(&self, _: &str, _: &str) -> bool {
        true
    }
}

struct Node {
    bus: PostgresBus,
    id: ServerId,
    got: Mutex<UnboundedReceiver<Got>>,
}

impl Node {
    async fn new(postgres: &Postgres, id: &str, options: PostgresOptions) -> Self {
        let node = Self::silent(&postgres.url(), id, options);
        node.until(|got| matches!(got, Got::Health(Health::Up)).then_some(())).await;
        node.bus.settled().await;
        node
    }

    fn silent(url: &str, id: &str, options: PostgresOptions) -> Self {
        let bus = PostgresBus::new(url, options).expect("the options make sense");
        let (sender, got) = mpsc::unbounded_channel();
        bus.open("/");
        bus.open("/n");
        bus.start(id.into(), Arc::new(Letters(sender)));
        Self { bus, id: id.into(), got: Mutex::new(got) }
    }

    async fn until<R>(&self, mut wanted: impl FnMut(&Got) -> Option<R>) -> R {
        let mut got = self.got.lock().await;
        let search = async {
            loop {
                let next = got.recv().await.expect("the bus runs");
                if let Some(found) = wanted(&next) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it arrives")
    }

    fn publish(&self, namespace: &str, message: Message) -> Result<(), BusError> {
        let envelope = Envelope { sender: Some(self.id.clone()), namespace: namespace.into(), message };
        self.bus.publish(envelope, Target::Everybody).map(drop)
    }

    fn say(&self, event: &str, values: Vec<Value>) -> Result<(), BusError> {
        self.publish("/", broadcast(event, values))
    }

    /// The values of the next event of this name; others are passed over.
    async fn hears(&self, event: &str) -> Vec<Value> {
        self.until(|got| match got {
            Got::Message(Envelope { message: Message::Broadcast { event: said, .. }, .. }) if said.name() == event => {
                Some(said.values().expect("values"))
            }
            _ => None,
        })
        .await
    }
}

fn broadcast(event: &str, values: Vec<Value>) -> Message {
    let event = OwnedArgs::from_values(Some(event), values);
    Message::Broadcast { event, options: BroadcastOptions::default(), request: None }
}

fn options() -> PostgresOptions {
    PostgresOptions::default()
}

fn postgres() -> Postgres {
    Postgres::start().expect("the database starts")
}

/// Text so that a notification has about so many bytes.
fn text(bytes: usize) -> Value {
    "x".repeat(bytes).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_size_arrive_once_and_in_order() {
    let postgres = postgres();
    let (a, b) = (Node::new(&postgres, "a", options()).await, Node::new(&postgres, "b", options()).await);
    let sizes = [1, 10, 7_800, 7_850, 7_900, 7_950, 8_000, 9_000, 100_000, 3_000_000];
    for (n, size) in sizes.into_iter().enumerate() {
        a.say("size", vec![(n as i64).into(), text(size)]).expect("it fits");
        a.say("binary", vec![Value::Binary(vec![n as u8; size].into())]).expect("it fits");
        a.say("same", vec![]).expect("it fits");
    }
    a.say("end", vec![]).expect("it fits");
    let mut heard = Vec::new();
    loop {
        let (name, values) = b
            .until(|got| match got {
                Got::Message(Envelope { message: Message::Broadcast { event, .. }, sender, .. }) => {
                    assert_eq!(sender.as_ref().map(ServerId::as_str), Some("a"));
                    Some((event.name().to_owned(), event.values().expect("values")))
                }
                Got::Foreign(_) | Got::Lost(_) => panic!("{got:?}"),
                _ => None,
            })
            .await;
        if name == "end" {
            break;
        }
        heard.push((name, values));
    }
    assert_eq!(heard.len(), 3 * sizes.len());
    for (n, (parts, size)) in heard.chunks(3).zip(sizes).enumerate() {
        assert_eq!(parts[0], ("size".to_owned(), vec![(n as i64).into(), text(size)]));
        assert_eq!(parts[1], ("binary".to_owned(), vec![Value::Binary(vec![n as u8; size].into())]));
        assert_eq!(parts[2], ("same".to_owned(), vec![]));
    }
    // Nothing of its own came back to the sender.
    b.say("back", vec![]).expect("it fits");
    a.until(|got| match got {
        Got::Message(Envelope { message: Message::Broadcast { event, .. }, .. }) => {
            assert_eq!(event.name(), "back");
            Some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_messages_of_which_many_are_equal_all_arrive() {
    let postgres = postgres();
    let (a, b) = (Node::new(&postgres, "a", options()).await, Node::new(&postgres, "b", options()).await);
    for n in 0..2_000 {
        a.say("tick", vec![(n / 100).into()]).expect("it fits");
    }
    for n in 0..2_000_i64 {
        assert_eq!(b.hears("tick").await, [Value::from(n / 100)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_come_and_go_and_long_names_stay_here() {
    let postgres = postgres();
    let (a, b) = (Node::new(&postgres, "a", options()).await, Node::new(&postgres, "b", options()).await);
    let odd = "/\"; DROP TABLE socket_io_attachments; --\u{e4}";
    for node in [&a, &b] {
        node.bus.open(odd);
        node.bus.open(&format!("/{}", "long".repeat(20)));
        node.bus.settled().await;
    }
    a.publish(odd, broadcast("odd", vec![text(9_000)])).expect("it fits");
    assert_eq!(b.hears("odd").await, [text(9_000)]);
    let long = a.publish(&format!("/{}", "long".repeat(20)), Message::Hello);
    assert!(matches!(long, Err(BusError::Broker(_))), "{long:?}");
    b.bus.shut(odd);
    b.bus.settled().await;
    a.publish(odd, broadcast("odd", vec![])).expect("it fits");
    a.say("end", vec![]).expect("it fits");
    b.until(|got| match got {
        Got::Message(envelope) => {
            assert_eq!(&*envelope.namespace, "/");
            Some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_neighbours_kill_and_block_nobody() {
    let postgres = postgres();
    let (a, b) = (Node::new(&postgres, "a", options()).await, Node::new(&postgres, "b", options()).await);
    postgres
        .sql(
            "INSERT INTO socket_io_attachments (id, payload) VALUES (1001, 'x'), (1002, NULL), (1003, '\\x81'), \
              (1004, convert_to('{\"uid\":\"x\",\"type\":3,\"attachmentId\":\"1004\"}', 'UTF8'))",
        )
        .expect("rows");
    let deep = format!("{}{}", "[".repeat(3_900), "]".repeat(3_900));
    let junk = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        &deep,
        r#"{"uid":"x","type":99,"nsp":"/"}"#,
        r#"{"uid":"x","type":3,"nsp":"/"}"#,
        r#"{"uid":"x","type":3,"nsp":"/other"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"77"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"x; DROP TABLE socket_io_attachments"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"1001"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"1002"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"1003"}"#,
        r#"{"uid":"x","type":3,"attachmentId":"1004"}"#,
        r#"{"uid":"x","type":3,"attachmentId":{"a":[]}}"#,
        r#"{"uid":"x","type":9,"data":{"packet":["connect"]},"nsp":"/"}"#,
        "\u{80}\u{4}",
    ];
    for text in junk {
        postgres.sql(&format!("SELECT pg_notify('socket.io#/', '{text}')")).expect("published");
    }
    let mut foreign = 0;
    b.until(|got| {
        foreign += usize::from(matches!(got, Got::Foreign(_)));
        assert!(!matches!(got, Got::Message(_) | Got::Health(_) | Got::Lost(_)), "{got:?}");
        (foreign == junk.len()).then_some(())
    })
    .await;
    a.say("end", vec![]).expect("it fits");
    assert!(b.hears("end").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_is_lost_alone() {
    let postgres = postgres();
    let (a, b) = (Node::new(&postgres, "a", options()).await, Node::new(&postgres, "b", options()).await);
    postgres.sql("ALTER TABLE socket_io_attachments RENAME TO away").expect("renamed");
    a.say("large", vec![text(9_000)]).expect("it fits");
    a.say("small", vec![]).expect("it fits");
    assert!(b.hears("small").await.is_empty());
    a.until(|got| matches!(got, Got::Lost(1)).then_some(())).await;
    postgres.sql("ALTER TABLE away RENAME TO socket_io_attachments").expect("renamed");
    a.say("large", vec![text(9_000)]).expect("it fits");
    assert_eq!(b.hears("large").await, [text(9_000)]);
    assert_eq!((a.bus.health(), b.bus.health()), (Health::Up, Health::Up));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_and_young_ones_stay() {
    let postgres = postgres();
    let mut often = options();
    often.cleanup_interval = Duration::from_secs(1);
    let a = Node::new(&postgres, "a", options()).await;
    a.say("large", vec![text(9_000)]).expect("it fits");
    within(PATIENCE, async {
        while postgres.sql("SELECT count(*) FROM socket_io_attachments").expect("a count") != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let _b = Node::new(&postgres, "b", often).await;
    within(PATIENCE, async {
        while postgres.sql("SELECT count(*) FROM socket_io_attachments").expect("a count") != "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_killed_is_found_again() {
    let mut postgres = postgres();
    let mut patient = options();
    patient.regather = Duration::from_secs(5);
    let (a, b) = (Node::new(&postgres, "a", patient.clone()).await, Node::new(&postgres, "b", patient).await);
    for round in 0..2_i64 {
        postgres.kill().expect("killed");
        for node in [&a, &b] {
            node.until(|got| matches!(got, Got::Health(Health::Down)).then_some(())).await;
        }
        // It waits; a heartbeat does not.
        a.say("kept", vec![round.into()]).expect("it fits");
        a.publish("/", Message::Heartbeat).expect("passed over");
        // Who is away settles at once.
        b.bus.settled().await;
        postgres.resume().expect("it starts");
        let back = std::time::Instant::now();
        for node in [&a, &b] {
            node.until(|got| matches!(got, Got::Health(Health::Up)).then_some(())).await;
        }
        println!("round {round}: both servers were connected {:?} after the database was back", back.elapsed());
        a.say("after", vec![round.into()]).expect("it fits");
        // B listens again before A writes.
        assert_eq!(b.hears("kept").await, [round.into()]);
        assert_eq!(b.hears("after").await, [round.into()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_given_up_and_found_again() {
    let postgres = postgres();
    let mut short = options();
    short.answer_timeout = Duration::from_secs(2);
    short.connect_timeout = Duration::from_secs(2);
    let (a, b) = (Node::new(&postgres, "a", short.clone()).await, Node::new(&postgres, "b", short).await);
    postgres.signal("STOP").expect("stopped");
    a.say("hanging", vec![]).expect("it fits");
    for node in [&a, &b] {
        node.until(|got| matches!(got, Got::Health(Health::Down)).then_some(())).await;
    }
    postgres.signal("CONT").expect("goes on");
    let back = std::time::Instant::now();
    for node in [&a, &b] {
        node.until(|got| matches!(got, Got::Health(Health::Up)).then_some(())).await;
    }
    println!("both servers were connected {:?} after the database went on", back.elapsed());
    a.say("after", vec![]).expect("it fits");
    assert!(b.hears("after").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_for_a_database_that_is_away_is_bounded_and_flushed_at_the_end() {
    let mut postgres = postgres();
    let mut small = options();
    small.buffer_bytes = 100_000;
    let (a, b) = (Node::new(&postgres, "a", small).await, Node::new(&postgres, "b", options()).await);
    postgres.kill().expect("killed");
    a.until(|got| matches!(got, Got::Health(Health::Down)).then_some(())).await;
    let mut kept = 0_i64;
    let full = loop {
        match a.say("kept", vec![kept.into(), text(1_000)]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, BusError::Full { bytes } if bytes > 90_000), "{full:?}");
    assert!(kept > 70);
    postgres.resume().expect("it starts");
    for node in [&a, &b] {
        node.until(|got| matches!(got, Got::Health(Health::Up)).then_some(())).await;
    }
    for n in 0..30_i64 {
        // There is room again as soon as the first have been written.
        let said = async {
            while let Err(full) = a.say("last", vec![n.into()]) {
                assert!(matches!(full, BusError::Full { .. }), "{full:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(PATIENCE, said).await;
    }
    a.bus.close().await;
    assert_eq!(a.say("late", vec![]), Err(BusError::Closed));
    for n in 0..30_i64 {
        assert_eq!(b.hears("last").await, [n.into()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emitter_speaks_to_all_servers_and_knows_when_it_was_heard() {
    let mut postgres = postgres();
    let node = Node::new(&postgres, "a", options()).await;
    let io = emitter(&postgres.url(), options()).expect("the address makes sense");
    io.to("room").emit("small", (1, "x")).await.expect("it was taken");
    assert_eq!(node.hears("small").await, [1.into(), "x".into()]);
    io.of("n").emit("large", "y".repeat(9_000)).await.expect("it was taken");
    assert_eq!(node.hears("large").await, ["y".repeat(9_000).into()]);
    io.server_side_emit("tick", 1).await.expect("it was taken");
    node.until(|got| match got {
        Got::Message(Envelope { message: Message::ServerEvent { event, .. }, sender: None, .. }) => {
            assert_eq!(event.name(), "tick");
            Some(())
        }
        _ => None,
    })
    .await;
    postgres.kill().expect("killed");
    node.until(|got| matches!(got, Got::Health(Health::Down)).then_some(())).await;
    let waiting = io.emit("later", ());
    postgres.resume().expect("it starts");
    // Either it was still written on the old connection, and is lost, or it is taken by the new one.
    if let Err(error) = within(PATIENCE, waiting).await {
        assert!(matches!(error, BusError::Broker(_)), "{error:?}");
    }
    within(PATIENCE, async { while io.emit("again", ()).await.is_err() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_make_the_table_at_the_same_time_and_an_answer_travels() {
    let postgres = postgres();
    let nodes = ["a", "b", "c", "d"].map(|id| Node::silent(&postgres.url(), id, options()));
    for node in &nodes {
        node.until(|got| matches!(got, Got::Health(Health::Up)).then_some(())).await;
    }
    let socket = SocketDetails {
        id: "s".into(),
        handshake: Value::Null,
        rooms: ["s"].into_iter().map(Into::into).collect(),
        data: Value::Binary(vec![7; 20_000].into()),
    };
    let answer = Message::Fetched { request: RequestId::from("q"), sockets: vec![socket.clone()] };
    nodes[0].publish("/n", answer).expect("it fits");
    for node in &nodes[1..] {
        node.until(|got| match got {
            Got::Message(Envelope { message: Message::Fetched { sockets, .. }, namespace, .. }) => {
                assert_eq!((sockets.as_slice(), &**namespace), (std::slice::from_ref(&socket), "/n"));
                Some(())
            }
            _ => None,
        })
        .await;
    }
}

#[test]
fn addresses_and_options_are_checked() {
    assert!(PostgresBus::new("nonsense", options()).is_err());
    let table = |name: &str| {
        let mut options = options();
        options.table = name.to_owned();
        PostgresBus::new("postgres://localhost/x", options).is_ok()
    };
    assert!(table("my_schema.attachments"));
    assert!(!table("x; DROP TABLE y") && !table(""));
}
