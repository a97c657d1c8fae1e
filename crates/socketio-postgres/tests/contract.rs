//! The contract of every adapter, over a real database.

use socketio_postgres::{PostgresBus, PostgresOptions};
use socketio_testkit::Postgres;
use socketio_testkit::contract::Broker;
use tokio::task::spawn_blocking;

struct Database(std::sync::Arc<Postgres>);

impl Broker for Database {
    type Bus = PostgresBus;

    fn bus(&self) -> PostgresBus {
        PostgresBus::new(&self.0.url(), PostgresOptions::default()).expect("the address makes sense")
    }

    /// As a notification, or as a row that one points to.
    async fn junk(&self, namespace: &str, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() < 8_000);
        let sql = match text {
            Some(text) => format!("SELECT pg_notify('socket.io#{namespace}', '{}')", text.replace('\'', "''")),
            None => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!(
                    "WITH row AS (INSERT INTO socket_io_attachments (payload) VALUES ('\\x{hex}') RETURNING id) \
                     SELECT pg_notify('socket.io#{namespace}', \
                     '{{\"uid\":\"x\",\"type\":3,\"attachmentId\":\"' || row.id || '\"}}') FROM row"
                )
            }
        };
        let postgres = std::sync::Arc::clone(&self.0);
        spawn_blocking(move || postgres.sql(&sql)).await.expect("it ran").expect("the database takes it");
    }
}

async fn broker() -> Database {
    let started = spawn_blocking(Postgres::start).await.expect("it ran");
    Database(std::sync::Arc::new(started.expect("the database starts")))
}

socketio_testkit::adapter_contract!(broker);
