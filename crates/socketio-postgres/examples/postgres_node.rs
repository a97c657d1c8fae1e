//! One server of a mixed cluster on PostgreSQL, for `interop/cluster`. `postgres_node postgres postgres://… name`

#[path = "../../socketio-redis/examples/node/mod.rs"]
mod node;

use socketio_postgres::{PostgresBus, PostgresOptions, emitter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [_, url, name] = &args[..] else { return Err("postgres_node postgres postgres://… name".into()) };
    let emitter = emitter(url, PostgresOptions::default())?;
    node::run(PostgresBus::new(url, PostgresOptions::default())?, Some(emitter), false, name.clone()).await
}
