//! What connects this server with others, by its address.

use socketio::Builder;
use socketio_postgres::{PostgresBus, PostgresOptions};
use socketio_redis::{RedisBus, RedisStreamsBus};

use crate::settings::Problem;

/// A bus of one of the brokers that `sio` knows.
#[derive(Debug)]
pub(crate) enum Adapter {
    Redis(RedisBus),
    Streams(RedisStreamsBus),
    Postgres(PostgresBus),
}

impl Adapter {
    /// The bus at an address. The address may hold a password, so no error repeats it.
    pub(crate) fn at(url: &str) -> Result<Self, Problem> {
        let problem = |error: &dyn std::fmt::Display| Problem(format!("the address of the adapter: {error}"));
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let redis = || format!("redis{}", &url[scheme.len()..]);
        match scheme {
            "redis" | "rediss" => RedisBus::classic(url).map(Self::Redis).map_err(|error| problem(&error)),
            "redis-sharded" => RedisBus::sharded(&redis()).map(Self::Redis).map_err(|error| problem(&error)),
            "redis-python" => RedisBus::python(&redis()).map(Self::Redis).map_err(|error| problem(&error)),
            "redis-streams" => RedisStreamsBus::new(&redis()).map(Self::Streams).map_err(|error| problem(&error)),
            "postgres" | "postgresql" => {
                let bus = PostgresBus::new(url, PostgresOptions::default());
                bus.map(Self::Postgres).map_err(|error| problem(&error))
            }
            _ => Err(problem(
                &"it begins with redis://, redis-sharded://, redis-streams://, redis-python:// or postgres://",
            )),
        }
    }

    /// Gives the bus to a server.
    pub(crate) fn connect(self, builder: Builder) -> Builder {
        match self {
            Self::Redis(bus) => builder.adapter(bus),
            Self::Streams(bus) => builder.adapter(bus),
            Self::Postgres(bus) => builder.adapter(bus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_scheme_says_which_adapter() {
        check("redis://127.0.0.1:6379/", "Redis");
        check("redis-sharded://127.0.0.1/", "Redis");
        check("redis-python://127.0.0.1/", "Redis");
        check("redis-streams://user:secret@localhost:1/", "Streams");
        check("postgres://me@localhost/app", "Postgres");
        check("postgresql:///app?host=/run/postgresql", "Postgres");
        for wrong in ["", "redis", "mongodb://localhost", "redis://", "postgres://me:secret@localhost:x/y"] {
            let Err(Problem(text)) = Adapter::at(wrong) else { panic!("{wrong}") };
            assert!(!text.contains("secret"), "{text}");
        }

        #[track_caller]
        fn check(url: &str, want: &str) {
            let adapter = format!("{:?}", Adapter::at(url).expect(url));
            assert!(adapter.starts_with(want) && !adapter.contains("secret"), "{adapter}");
        }
    }
}
