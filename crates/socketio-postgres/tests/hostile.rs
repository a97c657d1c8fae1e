//! Hostile neighbours of real servers on a real database: whatever they publish, nobody dies or is blocked, and good traffic goes on.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use socketio::testing::{self, TestServer};
use socketio::{Bus, Namespace, SocketIo};
use socketio_adapter::cluster::wire::Foreign;
use socketio_adapter::cluster::{Envelope, Health, Inbox};
use socketio_postgres::{PostgresBus, PostgresOptions};
use socketio_testkit::{Postgres, eventually, within};

const PATIENCE: Duration = Duration::from_secs(90);
const BOUND: Duration = Duration::from_secs(170);

fn bus(postgres: &Postgres) -> PostgresBus {
    PostgresBus::new(&postgres.url(), PostgresOptions::default()).expect("the address makes sense")
}

fn server(postgres: &Postgres) -> TestServer {
    let root = Namespace::new("/").on_server_event("here", async || true);
    testing::serve(SocketIo::builder().adapter(bus(postgres)).namespace(root).build().expect("it fits together"))
}

async fn knows(server: &TestServer, count: usize) {
    let until = Instant::now() + PATIENCE;
    while server.io().of("/").server_count().await != Ok(count) {
        assert!(Instant::now() < until, "the server knows {count} servers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Who is heard on the database, by a neighbour that only listens.
struct Names(Arc<Mutex<Vec<String>>>);

impl Inbox for Names {
    fn received(&self, envelope: Envelope, _: Option<Arc<str>>) {
        if let Some(sender) = envelope.sender {
            self.0.lock().unwrap().push(sender.as_str().to_owned());
        }
    }
    fn foreign(&self, _: &Foreign) {}
    fn lost(&self, _: u64) {}
    fn health(&self, _: Health) {}
    fn has_room(&self, _: &str, _: &str) -> bool {
        true
    }
}

/// What one server says reaches the clients of the other, in both directions.
async fn good_traffic(servers: &[TestServer; 2], clients: &[testing::TestClient; 2], word: &str) {
    for (no, server) in servers.iter().enumerate() {
        assert!(server.io().emit(word, no).is_ok());
        for client in clients {
            assert_eq!(client.next(word).await.args::<usize>(), no, "{word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_servers_stolen_names_and_intruders_stop_nobody() {
    within(BOUND, async {
        let postgres = Postgres::start().expect("the database starts");
        let servers = [server(&postgres), server(&postgres)];
        for server in &servers {
            knows(server, 2).await;
        }
        let clients = [servers[0].connect("/").await, servers[1].connect("/").await];
        good_traffic(&servers, &clients, "before").await;
        let publish = |text: &str| {
            postgres.sql(&format!("SELECT pg_notify('socket.io#/', '{text}')")).expect("it is published");
        };

        // C07: somebody speaks under the name of a server, that server hears itself and does nothing; the others obey, as they obey
        // whoever can publish.
        let names = Arc::new(Mutex::new(Vec::new()));
        let spy = bus(&postgres);
        spy.open("/");
        spy.start("spy".into(), Arc::new(Names(Arc::clone(&names))));
        let known = || {
            let names = names.lock().unwrap();
            names.iter().find(|name| *name != &names[0]).map(|other| [names[0].clone(), other.clone()])
        };
        assert!(eventually(PATIENCE, || known().is_some()).await, "both say that they are there");
        for stolen in known().expect("both are known") {
            publish(&format!(r#"{{"type":3,"uid":"{stolen}","nsp":"/","data":{{"packet":{{"type":2,"data":["stolen"],"nsp":"/"}},"opts":{{"rooms":[],"except":[],"flags":{{}}}}}}}}"#));
        }
        good_traffic(&servers, &clients, "after-stolen").await;
        for client in &clients {
            let stolen = client.waiting().iter().filter(|name| *name == "stolen").count();
            assert_eq!(stolen, 1, "it is heard under the name of the other server only");
        }

        // C05: answers that nobody has asked for, twice.
        let before = servers.each_ref().map(|server| server.io().stats().cluster_foreign);
        for _ in 0..2 {
            publish(r#"{"type":10,"uid":"x","nsp":"/","data":{"requestId":"nobody-asked","packet":true}}"#);
            publish(r#"{"type":8,"uid":"x","nsp":"/","data":{"requestId":"nobody-asked","sockets":[]}}"#);
        }
        // C13: what is no message, and a row that is not there.
        publish("{");
        publish(r#"{"uid":"x","type":3,"attachmentId":"4711"}"#);
        let counted = || (0..2).all(|no| servers[no].io().stats().cluster_foreign >= before[no] + 2);
        assert!(eventually(PATIENCE, counted).await, "both count what makes no sense");
        good_traffic(&servers, &clients, "after-junk").await;

        // C06: a hundred thousand servers that never were.
        postgres
            .sql(
                r#"SELECT count(pg_notify('socket.io#/', '{"type":2,"uid":"x' || n || '","nsp":"/"}'))
                   FROM generate_series(1, 100000) AS n"#,
            )
            .expect("it is published");
        good_traffic(&servers, &clients, "after-names").await;
        for server in &servers {
            let count = server.io().of("/").server_count().await.expect("it counts");
            assert!((2..=1 + 1_024).contains(&count), "{count} servers are told apart");
            // The question ends with its time, and has the answer of the server that is there.
            let namespace = server.io().of("/");
            let answers = namespace.server_side_emit_with_ack_within::<bool>(Duration::from_secs(2), "here", ());
            assert_eq!(answers.await.expect("it was sent").answers, [true]);
        }

        // C14: an intruder disconnects everybody. It is obeyed, as documented, and who comes again is served.
        publish(r#"{"type":6,"uid":"x","nsp":"/","data":{"opts":{"rooms":[],"except":[],"flags":{}},"close":true}}"#);
        for client in &clients {
            client.disconnected().await;
        }
        let clients = [servers[0].connect("/").await, servers[1].connect("/").await];
        good_traffic(&servers, &clients, "after-intruder").await;
    })
    .await;
}
