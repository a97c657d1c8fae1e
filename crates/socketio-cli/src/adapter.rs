//! What connects this server with others, by its address.

use socketio::Builder;
use socketio_postgres::{PostgresBus, PostgresOptions};
use socketio_redis::{AddressError, RedisBus, RedisStreamsBus};

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
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if let "postgres" | "postgresql" = scheme {
            let bus = PostgresBus::new(url, PostgresOptions::default());
            return bus.map(Self::Postgres).map_err(|error| Problem(format!("the adapter: {error}")));
        }
        let unknown = || {
            let kinds = "redis://, redis-sharded://, redis-streams://, redis-python:// (rediss for TLS) or postgres://";
            problem(&format_args!("it has to begin with {kinds}"))
        };
        let (name, way) = scheme.split_once('+').map_or((scheme, None), |(name, way)| (name, Some(way)));
        let (name, kind) = name.split_once('-').unwrap_or((name, "classic"));
        if !matches!(name, "redis" | "rediss") {
            return Err(unknown());
        }
        let Nodes { login, hosts, path } = Nodes::of(rest);
        let (first, others, service) = match way {
            None => (format!("{name}://{rest}"), Vec::new(), ""),
            Some("cluster") => {
                let mut nodes = hosts.iter().map(|host| format!("{name}://{login}{host}/"));
                (nodes.next().unwrap_or_default(), nodes.collect(), "")
            }
            Some("sentinel") => {
                let (database, service) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err(problem(
                        &"behind the sentinels comes the database and the name of the master: /0/name",
                    ));
                }
                let sentinels = hosts.iter().map(|host| format!("{name}://{host}/")).collect();
                // Which host this is does not matter: the sentinels know.
                (format!("{name}://{login}localhost/{database}"), sentinels, service)
            }
            Some(_) => return Err(problem(&"`+cluster` or `+sentinel` may stand behind the name")),
        };
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let bus = |bus: Result<RedisBus, AddressError>| match way {
            None => bus,
            Some("cluster") => bus.and_then(|bus| bus.cluster(&others)),
            Some(_) => bus.and_then(|bus| bus.sentinels(&others, service)),
        };
        let made = match kind {
            "classic" => bus(RedisBus::classic(&first)).map(Self::Redis),
            "sharded" => bus(RedisBus::sharded(&first)).map(Self::Redis),
            "python" => bus(RedisBus::python(&first)).map(Self::Redis),
            "streams" => {
                let bus = RedisStreamsBus::new(&first);
                let bus = match way {
                    None => bus,
                    Some("cluster") => bus.and_then(|bus| bus.cluster(&others)),
                    Some(_) => bus.and_then(|bus| bus.sentinels(&others, service)),
                };
                bus.map(Self::Streams)
            }
            _ => return Err(unknown()),
        };
        made.map_err(|error| problem(&error))
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

/// An address of several servers: `user:password@one:1,two:2/path`.
struct Nodes<'a> {
    /// With its `@`.
    login: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
}

impl<'a> Nodes<'a> {
    fn of(rest: &'a str) -> Self {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self { login, hosts: hosts.split(',').collect(), path }
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
        check("rediss://127.0.0.1/", "Redis");
        check("rediss-streams://127.0.0.1/", "Streams");
        check("redis-sharded+cluster://me:secret@a:7000,b:7001", "Redis");
        check("redis-streams+cluster://a:7000,b:7001,c:7002/", "Streams");
        check("redis+sentinel://:secret@a:26379,b:26379/0/chat", "Redis");
        check("rediss-streams+sentinel://a:26379/1/chat", "Streams");
        check("postgres://me@localhost/app", "Postgres");
        check("postgresql:///app?host=/run/postgresql", "Postgres");
        for wrong in [
            "",
            "redis",
            "mongodb://localhost",
            "redis://",
            "postgres://me:secret@localhost:x/y",
            "postgres://me:secret@localhost/x?sslmode=prefer",
            "redis-x://a",
            "redis+x://me:secret@a",
            "redis+sentinel://me:secret@a:1/0",
            "redis+cluster://me:secret@a:1,b:x",
        ] {
            let Err(Problem(text)) = Adapter::at(wrong) else { panic!("{wrong}") };
            assert!(!text.contains("secret"), "{text}");
        }
        let Err(Problem(text)) = Adapter::at("mongodb://localhost") else { panic!("there is no such adapter") };
        assert!(text.contains("has to begin with redis://"), "{text}");

        #[track_caller]
        fn check(url: &str, want: &str) {
            let adapter = format!("{:?}", Adapter::at(url).expect(url));
            assert!(adapter.starts_with(want) && !adapter.contains("secret"), "{adapter}");
        }
    }
}
