//! One server of a mixed cluster on Redis, for `interop/cluster`. `cluster_node classic|sharded|streams redis://… name`

mod node;

use socketio_redis::{RedisBus, RedisStreamsBus};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [adapter, url, name] = &args[..] else {
        return Err("cluster_node classic|sharded|streams redis://… name".into());
    };
    match &**adapter {
        "classic" => node::run(RedisBus::classic(url)?, name.clone()).await,
        "sharded" => node::run(RedisBus::sharded(url)?, name.clone()).await,
        "streams" => node::run(RedisStreamsBus::new(url)?, name.clone()).await,
        other => Err(format!("there is no adapter `{other}`").into()),
    }
}
