//! 1,000 clients on two servers while their database is killed, restarted, stopped, or cut off without a word.
//!
//! Every run cuts a smaller crowd off; with `SOCKETIO_SOAK` set it is every fault, and the partition of a network namespace
//! where that can be made. `cargo xtask soak broker-faults` does so and prints the table.

use std::time::Duration;

use socketio_adapter::cluster::Emitter;
use socketio_postgres::{PostgresBus, PostgresOptions, emitter};
use socketio_testkit::broker_faults::{BUFFER, Fault, Faulty, Figures, PROMISE, survives};
use socketio_testkit::contract::Broker;
use socketio_testkit::{Network, Postgres, Proxy, Upstream, within};
use tokio::task::spawn_blocking;

const BOUND: Duration = Duration::from_secs(280);

struct Database {
    postgres: Postgres,
    proxy: Option<Proxy>,
}

impl Database {
    async fn start(fault: Fault) -> Self {
        let postgres = spawn_blocking(move || match fault {
            Fault::Namespace => Postgres::start_in(Network::new()?),
            _ => Postgres::start(),
        });
        let postgres = postgres.await.expect("it ran").expect("the database starts");
        let proxy = match fault {
            Fault::Partition => {
                let upstream = Upstream::Unix(postgres.dir().join(".s.PGSQL.5432"));
                Some(Proxy::start(upstream).await.expect("a free port"))
            }
            _ => None,
        };
        Self { postgres, proxy }
    }

    fn url(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("postgresql://postgres@{}/postgres", proxy.address()),
            None => self.postgres.url(),
        }
    }

    fn options() -> PostgresOptions {
        let mut options = PostgresOptions::default();
        options.buffer_bytes = BUFFER;
        if !soak() {
            options.answer_timeout = Duration::from_secs(3);
        }
        options
    }
}

fn soak() -> bool {
    std::env::var_os("SOCKETIO_SOAK").is_some()
}

impl Broker for Database {
    type Bus = PostgresBus;

    fn bus(&self) -> PostgresBus {
        PostgresBus::new(&self.url(), Self::options()).expect("the address makes sense")
    }

    async fn junk(&self, _: &str, _: &[u8]) {}
}

impl Faulty for Database {
    fn name(&self) -> String {
        "postgres".to_owned()
    }

    fn keeps(&self) -> bool {
        false
    }

    fn emitter(&self) -> Emitter {
        emitter(&self.url(), Self::options()).expect("the address makes sense")
    }

    async fn hurt(&mut self, fault: Fault) {
        tokio::task::block_in_place(|| match fault {
            Fault::Kill => self.postgres.kill().expect("killed"),
            Fault::Restart => {
                self.postgres.stop().expect("it ends");
                self.postgres.resume().expect("it starts");
            }
            Fault::Pause => self.postgres.signal("STOP").expect("stopped"),
            Fault::Partition => self.proxy.as_ref().expect("a proxy").partition(),
            Fault::Namespace => self.postgres.network().expect("a namespace").cut().expect("cut"),
        });
    }

    async fn heal(&mut self, fault: Fault) {
        tokio::task::block_in_place(|| match fault {
            Fault::Kill => self.postgres.resume().expect("it starts"),
            Fault::Restart => {}
            Fault::Pause => self.postgres.signal("CONT").expect("goes on"),
            Fault::Partition => self.proxy.as_ref().expect("a proxy").heal(),
            Fault::Namespace => self.postgres.network().expect("a namespace").mend().expect("mended"),
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_survives_every_fault_of_the_database() {
    let (mut faults, clients) = match soak() {
        true => (vec![Fault::Kill, Fault::Restart, Fault::Pause, Fault::Partition], 1_000),
        false => (vec![Fault::Partition], 100),
    };
    if soak() {
        match Network::new() {
            Ok(_) => faults.push(Fault::Namespace),
            Err(why) => println!("{why}"),
        }
    }
    for fault in faults {
        within(BOUND, async {
            let mut database = Database::start(fault).await;
            let figures = survives(&mut database, fault, clients).await;
            println!("\n{}\n{figures}", Figures::HEAD);
            assert!(!soak() || figures.resumed <= PROMISE, "{:?} until traffic went on", figures.resumed);
        })
        .await;
    }
}
