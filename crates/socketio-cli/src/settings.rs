//! The settings of `sio serve`: flags over environment over file over defaults, resolved and checked once.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::adapter::Adapter;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};
use socketio::{AddressLimits, Hosts, Origins, Rate, Tls, TrafficLimits, Transport, TrustedProxies};

/// Why the program could not do what it was asked: what happened, to what, and what to try.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem(pub(crate) String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What flags and environment say.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with the same options
    #[arg(long, value_name = "FILE", env = "SIO_CONFIG")]
    config: Option<PathBuf>,
    /// Print events of the server's life to stdout, one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// The options that may stand on the command line, in the environment and in the file, by the same names.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Where to listen [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIO_LISTEN")]
    listen: Option<String>,
    /// The path of the server, for Socket.IO clients [default: /socket.io/]
    #[arg(long, env = "SIO_PATH")]
    path: Option<String>,
    /// A site whose pages may use the server, such as `https://example.org` or `https://*.example.org`; repeatable.
    /// `*` lets in every page in the world [default: only the server's own page]
    #[arg(long, value_name = "ORIGIN", env = "SIO_ORIGIN", value_delimiter = ',')]
    origin: Option<Vec<String>>,
    /// Serve Socket.IO 2.x clients (Engine.IO 3) too
    #[arg(long, env = "SIO_EIO3", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    eio3: Option<bool>,
    /// The transports that clients may use [default: polling,websocket]
    #[arg(long, env = "SIO_TRANSPORTS", value_delimiter = ',')]
    transports: Option<Vec<TransportName>>,
    /// How long after a pong the next ping is sent; a bare number is milliseconds [default: 25s]
    #[arg(long, value_name = "TIME", env = "SIO_PING_INTERVAL")]
    #[serde(alias = "ping-interval")]
    ping_interval: Option<Span>,
    /// How long a client may take to answer a ping [default: 20s]
    #[arg(long, value_name = "TIME", env = "SIO_PING_TIMEOUT")]
    #[serde(alias = "ping-timeout")]
    ping_timeout: Option<Span>,
    /// The largest message a client may send; a bare number is bytes [default: 1MB]
    #[arg(long, value_name = "SIZE", env = "SIO_MAX_PAYLOAD")]
    #[serde(alias = "max-payload")]
    max_payload: Option<Size>,
    /// The longest time a poll is held without anything to send; 0 is short polling [default: until the next ping]
    #[arg(long, value_name = "TIME", env = "SIO_HOLD_POLLS")]
    #[serde(alias = "hold-polls")]
    hold_polls: Option<Span>,
    /// Serve the official browser client out of an installed `socket.io-client` package
    #[arg(long, value_name = "DIR", env = "SIO_SERVE_CLIENT")]
    #[serde(alias = "serve-client")]
    serve_client: Option<PathBuf>,
    /// A certificate chain as a PEM file: serve over TLS. Changes are noticed within a minute, or at once on SIGHUP
    #[arg(long, value_name = "FILE", env = "SIO_TLS_CERT", requires = "tls_key")]
    #[serde(alias = "tls-cert")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, as a PEM file
    #[arg(long, value_name = "FILE", env = "SIO_TLS_KEY", requires = "tls_cert")]
    #[serde(alias = "tls-key")]
    tls_key: Option<PathBuf>,
    /// Also listen here without TLS, and redirect everybody to TLS: `0.0.0.0:80`
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIO_REDIRECT_FROM")]
    #[serde(alias = "redirect-from")]
    redirect_from: Option<String>,
    /// A name under which the server may be asked for, such as `example.org` or `*.example.org`; repeatable
    /// [default: names of this machine if only it can connect, else all]
    #[arg(long, value_name = "NAME", env = "SIO_HOST", value_delimiter = ',')]
    host: Option<Vec<String>>,
    /// A proxy whose word about clients counts: an address, a network such as `10.0.0.0/8`, `loopback` or `private`; repeatable
    #[arg(long, value_name = "PROXY", env = "SIO_TRUSTED_PROXY", value_delimiter = ',')]
    #[serde(alias = "trusted-proxy")]
    trusted_proxy: Option<Vec<String>>,
    /// Whether to limit what one address may have and what one client may send [default: where other machines can connect]
    #[arg(long, env = "SIO_RATE_LIMITS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(alias = "rate-limits")]
    rate_limits: Option<bool>,
    /// The most connections, and sessions, of one address at once [default: 256 where rates are limited]
    #[arg(long, value_name = "COUNT", env = "SIO_PER_ADDRESS")]
    #[serde(alias = "per-address")]
    per_address: Option<usize>,
    /// How many packets one client may send per second, five times as many at once [default: 2000 where rates are limited]
    #[arg(long, value_name = "COUNT", env = "SIO_PACKETS_PER_SECOND")]
    #[serde(alias = "packets-per-second")]
    packets_per_second: Option<u64>,
    /// How many bytes one client may send per second, twice as many at once [default: 8MiB where rates are limited]
    #[arg(long, value_name = "SIZE", env = "SIO_BYTES_PER_SECOND")]
    #[serde(alias = "bytes-per-second")]
    bytes_per_second: Option<Size>,
    /// How many events one client may send per second, four times as many at once; more wait [default: 200 where rates are limited]
    #[arg(long, value_name = "COUNT", env = "SIO_EVENTS_PER_SECOND")]
    #[serde(alias = "events-per-second")]
    events_per_second: Option<u64>,
    /// The most connections at once [default: 80 % of the files that the program may open]
    #[arg(long, value_name = "COUNT", env = "SIO_MAX_CONNECTIONS")]
    #[serde(alias = "max-connections")]
    max_connections: Option<usize>,
    /// What connects this server with others: `redis://…`, `redis-sharded://…`, `redis-streams://…`,
    /// `redis-python://…` or `postgres://…`; `rediss…` is over TLS, `redis+sentinel://…` and `redis-sharded+cluster://…` name
    /// several nodes
    #[arg(long, value_name = "URL", env = "SIO_ADAPTER", hide_env_values = true)]
    adapter: Option<String>,
    /// Listen on an address that other machines reach, and answer to any host name, although there is no TLS
    #[arg(long, env = "SIO_INSECURE", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    insecure: Option<bool>,
    /// What to log to stderr [default: warn]
    #[arg(long, value_name = "LEVEL", env = "SIO_LOG")]
    log: Option<Log>,
}

/// Everything `sio serve` needs to know, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) path: String,
    pub(crate) origins: Origins,
    /// Some origin other than the server's own was named.
    pub(crate) other_sites: bool,
    pub(crate) eio3: bool,
    pub(crate) transports: Vec<Transport>,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) max_payload: usize,
    pub(crate) hold_polls: Option<Duration>,
    pub(crate) serve_client: Option<PathBuf>,
    /// With it, everything goes over TLS.
    pub(crate) tls: Option<Tls>,
    /// Where plain requests are redirected from.
    pub(crate) redirect_from: Option<SocketAddr>,
    /// Browsers are told to come over TLS only: not for names of this machine, where other programs listen on other ports.
    pub(crate) hsts: bool,
    /// The names that are answered to; by default only those of this machine where nobody else can connect, the shield
    /// against DNS rebinding.
    pub(crate) hosts: Hosts,
    pub(crate) trusted_proxies: TrustedProxies,
    /// What one address may have and do.
    pub(crate) addresses: Option<AddressLimits>,
    /// What one client may send.
    pub(crate) traffic: Option<TrafficLimits>,
    /// How many events.
    pub(crate) events: Option<Rate>,
    pub(crate) max_connections: usize,
    /// What connects this server with others.
    pub(crate) adapter: Option<Adapter>,
    pub(crate) json: bool,
    pub(crate) log: Log,
}

impl ServeArgs {
    /// Reads the file, if there is one, and checks everything.
    pub(crate) fn resolve(self) -> Result<Settings, Problem> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => Options::default(),
        };
        self.options.over(file).check(self.json)
    }
}

fn read_file(path: &Path) -> Result<Options, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem(format!("cannot read the configuration `{}`: {error}", path.display())))?;
    parse_file(&text).map_err(|error| Problem(format!("in the configuration `{}`: {error}", path.display())))
}

fn parse_file(text: &str) -> Result<Options, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

impl Options {
    /// What is said here, and where nothing is said what `file` says.
    fn over(self, file: Self) -> Self {
        Self {
            listen: self.listen.or(file.listen),
            path: self.path.or(file.path),
            origin: self.origin.or(file.origin),
            eio3: self.eio3.or(file.eio3),
            transports: self.transports.or(file.transports),
            ping_interval: self.ping_interval.or(file.ping_interval),
            ping_timeout: self.ping_timeout.or(file.ping_timeout),
            max_payload: self.max_payload.or(file.max_payload),
            hold_polls: self.hold_polls.or(file.hold_polls),
            serve_client: self.serve_client.or(file.serve_client),
            // A pair stays together: a flag does not borrow the key of the file's certificate.
            tls_key: if self.tls_cert.is_some() { self.tls_key } else { file.tls_key },
            tls_cert: self.tls_cert.or(file.tls_cert),
            redirect_from: self.redirect_from.or(file.redirect_from),
            host: self.host.or(file.host),
            trusted_proxy: self.trusted_proxy.or(file.trusted_proxy),
            rate_limits: self.rate_limits.or(file.rate_limits),
            per_address: self.per_address.or(file.per_address),
            packets_per_second: self.packets_per_second.or(file.packets_per_second),
            bytes_per_second: self.bytes_per_second.or(file.bytes_per_second),
            events_per_second: self.events_per_second.or(file.events_per_second),
            max_connections: self.max_connections.or(file.max_connections),
            adapter: self.adapter.or(file.adapter),
            insecure: self.insecure.or(file.insecure),
            log: self.log.or(file.log),
        }
    }

    fn check(self, json: bool) -> Result<Settings, Problem> {
        let insecure = self.insecure.unwrap_or(false);
        let (listen, local) = address(self.listen.as_deref().unwrap_or("127.0.0.1:3000"))?;
        let tls = match (self.tls_cert, self.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(Tls::from_pem_files(certificate, key).map_err(|error| Problem(error.to_string()))?)
            }
            _ => {
                return Err(Problem("a certificate and its key belong together: give tls_cert and tls_key".to_owned()));
            }
        };
        if !local && !insecure && tls.is_none() {
            return Err(Problem(format!(
                "will not listen on {listen} without TLS, where everybody on the way can read and change what is sent \
                 (give --tls-cert and --tls-key, listen on 127.0.0.1 behind a proxy that does TLS, or say --insecure)"
            )));
        }
        let redirect_from = match &self.redirect_from {
            Some(_) if tls.is_none() => {
                return Err(Problem(
                    "redirect_from leads to TLS, and there is no certificate: give tls_cert".to_owned(),
                ));
            }
            Some(text) => Some(address(text)?.0),
            None => None,
        };
        let hosts = match self.host {
            Some(names) => Hosts::listed(names),
            None if local && !insecure => Hosts::loopback(),
            None => Hosts::any(),
        };
        hosts.validate().map_err(|error| Problem(error.to_string()))?;
        let trusted_proxies = TrustedProxies::new(self.trusted_proxy.unwrap_or_default())
            .map_err(|error| Problem(format!("trusted_proxy: {error}")))?;
        let max_connections = match self.max_connections {
            Some(0) => return Err(Problem("max_connections must be more than zero".to_owned())),
            Some(most) => most,
            None => open_files().map_or(1_000_000, connections_for),
        };
        for (name, zero) in [
            ("per_address", self.per_address == Some(0)),
            ("packets_per_second", self.packets_per_second == Some(0)),
            ("events_per_second", self.events_per_second == Some(0)),
        ] {
            if zero {
                return Err(Problem(format!("{name} must be more than zero, or nobody can do anything")));
            }
        }
        // What is asked for by its number is on in any case.
        let limited = self.rate_limits.unwrap_or(!local);
        let addresses = (limited || self.per_address.is_some()).then(|| {
            let mut addresses = AddressLimits::default();
            if let Some(most) = self.per_address {
                (addresses.connections_per_address, addresses.sessions_per_address) = (most, most);
            }
            addresses
        });
        let traffic = (limited || self.packets_per_second.is_some() || self.bytes_per_second.is_some()).then(|| {
            let mut traffic = TrafficLimits::default();
            if let Some(packets) = self.packets_per_second {
                traffic.packets = Rate::per_second(packets).burst(packets.saturating_mul(5));
            }
            if let Some(Size(bytes)) = self.bytes_per_second {
                let bytes = bytes as u64;
                traffic.bytes = Rate::per_second(bytes).burst(bytes.saturating_mul(2));
            }
            traffic
        });
        let events = self.events_per_second.or(limited.then_some(200));
        let events = events.map(|events| Rate::per_second(events).burst(events.saturating_mul(4)));
        let mut origins = Origins::same_origin();
        let others = self.origin.unwrap_or_default();
        for origin in &others {
            origins = if origin == "*" { Origins::any() } else { origins.allow(origin) };
        }
        origins.validate().map_err(|error| Problem(error.to_string()))?;
        let mut transports: Vec<Transport> = Vec::new();
        for TransportName(transport) in self.transports.unwrap_or_else(|| TransportName::ALL.to_vec()) {
            if !transports.contains(&transport) {
                transports.push(transport);
            }
        }
        if transports.is_empty() {
            return Err(Problem("no transport is left: name polling, websocket or both".to_owned()));
        }
        let span = |name: &str, given: Option<Span>, default: u64| match given {
            None => Ok(Duration::from_secs(default)),
            Some(Span(time)) if time.is_zero() => {
                Err(Problem(format!("{name} must be longer than zero, or everybody is disconnected at once")))
            }
            Some(Span(time)) => Ok(time),
        };
        Ok(Settings {
            listen,
            path: path(self.path.as_deref().unwrap_or("/socket.io/"))?,
            origins,
            other_sites: !others.is_empty(),
            eio3: self.eio3.unwrap_or(false),
            transports,
            ping_interval: span("ping_interval", self.ping_interval, 25)?,
            ping_timeout: span("ping_timeout", self.ping_timeout, 20)?,
            max_payload: self.max_payload.map_or(1_000_000, |Size(bytes)| bytes),
            hold_polls: self.hold_polls.map(|Span(time)| time),
            serve_client: self.serve_client,
            tls,
            redirect_from,
            hsts: !local,
            hosts,
            trusted_proxies,
            addresses,
            traffic,
            events,
            max_connections,
            adapter: self.adapter.as_deref().map(Adapter::at).transpose()?,
            json,
            log: self.log.unwrap_or(Log::Warn),
        })
    }
}

/// The address to bind, and whether only this machine can reach it.
fn address(text: &str) -> Result<(SocketAddr, bool), Problem> {
    let addresses: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| Problem(format!("`{text}` is not an address to listen on: {error} (try 127.0.0.1:3000)")))?
        .collect();
    let Some(first) = addresses.first() else {
        return Err(Problem(format!("`{text}` has no address to listen on (try 127.0.0.1:3000)")));
    };
    Ok((*first, addresses.iter().all(|address| address.ip().is_loopback())))
}

/// How many files this program may have open, where the system tells it in a file.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many connections so many files are enough for: four of five, and 32 are kept for everything else.
fn connections_for(files: usize) -> usize {
    (files / 5 * 4).min(files.saturating_sub(32)).max(1)
}

/// The path with one slash at each end.
fn path(text: &str) -> Result<String, Problem> {
    let inner = text.trim_matches('/');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !text.starts_with('/') || inner.is_empty() || !inner.bytes().all(allowed) || inner.contains("//") {
        return Err(Problem(format!(
            "`{text}` is not a path for Socket.IO: it begins with a slash and has letters, digits and `-._~` \
             (try /socket.io/)"
        )));
    }
    Ok(format!("/{inner}/"))
}

/// `polling` or `websocket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TransportName(Transport);

impl TransportName {
    const ALL: [Self; 2] = [Self(Transport::Polling), Self(Transport::WebSocket)];
}

impl FromStr for TransportName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "polling" => Ok(Self(Transport::Polling)),
            "websocket" => Ok(Self(Transport::WebSocket)),
            _ => Err(format!("`{text}` is not a transport: polling or websocket")),
        }
    }
}

/// A length of time: `25s`, `500ms`, `2m`, or a bare number of milliseconds as in Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let per_unit = match unit {
            "" | "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => 0,
        };
        let millis =
            number.parse::<u64>().ok().filter(|_| per_unit > 0).and_then(|number| number.checked_mul(per_unit));
        // A day is longer than any of these options makes sense.
        match millis {
            Some(millis) if millis <= 86_400_000 => Ok(Self(Duration::from_millis(millis))),
            _ => Err(format!("`{text}` is not a time such as 25s, 500ms or 2m (up to 24h)")),
        }
    }
}

/// A number of bytes: `1000000`, `1MB`, `512KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let per_unit = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            _ => 0,
        };
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(per_unit));
        match bytes {
            Some(bytes) if (1..=1 << 30).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(format!("`{text}` is not a size such as 1000000, 1MB or 512KiB (1 byte to 1 GiB)")),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim_start())
}

/// Lets a file say a number where the command line has only text.
macro_rules! from_text_or_number {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Raw {
                    Number(u64),
                    Text(String),
                }
                let text = match Raw::deserialize(deserializer)? {
                    Raw::Number(number) => number.to_string(),
                    Raw::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

from_text_or_number!(Span, Size, TransportName);

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Log {
    /// Nothing
    Off,
    /// What an operator should look at now
    Error,
    /// What an operator should look at tomorrow
    Warn,
    /// Connections and changes
    Info,
    /// What took the less usual path
    Debug,
    /// Every packet
    Trace,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn flags(line: &str) -> Options {
        Line::try_parse_from(format!("sio {line}").split_whitespace()).unwrap().args.options
    }

    fn settle(line: &str, file: &str) -> Result<Settings, String> {
        flags(line).over(parse_file(file)?).check(false).map_err(|problem| problem.0)
    }

    #[test]
    fn without_a_word_it_is_safe_and_local() {
        let settings = settle("", "").unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(settings.path, "/socket.io/");
        assert_eq!(settings.transports, [Transport::Polling, Transport::WebSocket]);
        assert_eq!((settings.ping_interval, settings.ping_timeout), (Duration::from_secs(25), Duration::from_secs(20)));
        assert_eq!((settings.max_payload, settings.hold_polls, settings.eio3), (1_000_000, None, false));
        assert!(settings.hosts == Hosts::loopback() && !settings.origins.is_any() && settings.serve_client.is_none());
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = r#"
            listen = "127.0.0.1:4000"
            path = "/io"
            eio3 = true
            transports = ["websocket"]
            ping_interval = "10s"
            ping-timeout = 5000
            max_payload = "2MiB"
            hold_polls = 0
            origin = ["https://example.org"]
            log = "debug"
        "#;
        let settings = settle("", file).unwrap();
        assert_eq!(settings.listen.port(), 4000);
        assert_eq!(settings.path, "/io/");
        assert!(settings.eio3 && settings.origins.lists(b"https://example.org"));
        assert_eq!(settings.transports, [Transport::WebSocket]);
        assert_eq!((settings.ping_interval, settings.ping_timeout), (Duration::from_secs(10), Duration::from_secs(5)));
        assert_eq!((settings.max_payload, settings.hold_polls), (2 << 20, Some(Duration::ZERO)));
        assert_eq!(settings.log, Log::Debug);

        let line = "--listen 127.0.0.1:5000 --eio3=false --transports websocket,polling,websocket --ping-interval 7s \
                    --max-payload 5KiB --hold-polls 1s --origin https://a.org --origin https://b.org --log off";
        let settings = settle(line, file).unwrap();
        assert_eq!(settings.listen.port(), 5000);
        assert!(
            !settings.eio3
                && settings.origins.lists(b"https://b.org")
                && !settings.origins.lists(b"https://example.org")
        );
        assert_eq!(settings.transports, [Transport::WebSocket, Transport::Polling]);
        assert_eq!((settings.ping_interval, settings.ping_timeout), (Duration::from_secs(7), Duration::from_secs(5)));
        assert_eq!((settings.max_payload, settings.hold_polls), (5 << 10, Some(Duration::from_secs(1))));
        assert_eq!(settings.log, Log::Off);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_way_out() {
        check("", "listen_on = 1", "unknown field `listen_on`");
        check("", "[limits]\nx = 1", "unknown field `limits`");
        check("", "ping_interval = \"soon\"", "`soon` is not a time such as 25s");
        check("", "ping_interval = -1", "ping_interval");
        check("", "transports = [\"carrier-pigeon\"]", "`carrier-pigeon` is not a transport");
        check("", "transports = []", "no transport is left");
        check("", "eio3 = \"yes\"", "expected a boolean");
        check("", "max_payload = 0", "`0` is not a size");
        check("--listen 0.0.0.0:3000", "", "will not listen on 0.0.0.0:3000 without TLS");
        check("--listen [::]:3000", "", "say --insecure");
        check("--listen nonsense", "", "`nonsense` is not an address to listen on");
        check("--ping-interval 0", "", "ping_interval must be longer than zero");
        check("--ping-timeout 0s", "", "ping_timeout must be longer than zero");
        check("--origin nonsense", "", "`nonsense` is not an origin pattern");
        check("--host example.org:80", "", "`example.org:80` is not a host name");
        check("--trusted-proxy nonsense", "", "trusted_proxy: `nonsense` is no address");
        check("--redirect-from 127.0.0.1:80", "", "there is no certificate");
        check("--max-connections 0", "", "more than zero");
        for bad in ["socket.io", "/", "//", "/a//b/", "/a?b", "/a#b", "/a b", "/ü"] {
            let problem = path(bad).unwrap_err().0;
            assert!(problem.contains("(try /socket.io/)"), "{problem}");
        }

        #[track_caller]
        fn check(line: &str, file: &str, want: &str) {
            let problem = settle(line, file).unwrap_err();
            assert!(problem.contains(want), "{problem}");
        }
    }

    #[test]
    fn an_address_of_other_machines_needs_the_word_insecure() {
        let settings = settle("--listen 0.0.0.0:3000 --insecure", "").unwrap();
        assert!(settings.hosts.is_any() && settings.addresses.is_some());
        assert!(settle("--listen [::1]:3000", "").unwrap().hosts == Hosts::loopback());
        assert!(settle("--listen localhost:3000", "").unwrap().hosts == Hosts::loopback());
        assert!(settle("--origin *", "").unwrap().origins.is_any());
    }

    #[test]
    fn limits_are_on_where_other_machines_can_connect() {
        let open = "--listen 0.0.0.0:3000 --insecure";
        let on = |line: &str| {
            let settings = settle(line, "").unwrap();
            (settings.addresses.is_some(), settings.traffic.is_some(), settings.events.is_some())
        };
        assert_eq!((on(""), on("--rate-limits")), ((false, false, false), (true, true, true)));
        assert_eq!((on(open), on(&format!("{open} --rate-limits=false"))), ((true, true, true), (false, false, false)));
        // One that is asked for by its number is on, and no other.
        assert_eq!(on("--per-address 3"), (true, false, false));
        assert_eq!(
            (on("--packets-per-second 3"), on("--bytes-per-second 3kB")),
            ((false, true, false), (false, true, false))
        );
        assert_eq!(on("--events-per-second 3"), (false, false, true));
        let settings = settle(open, "per_address = 3\nevents-per-second = 5\nbytes_per_second = \"1kB\"").unwrap();
        let addresses = settings.addresses.unwrap();
        assert_eq!((addresses.connections_per_address, addresses.sessions_per_address), (3, 3));
        assert_eq!(settings.events, Some(Rate::per_second(5).burst(20)));
        let traffic = settings.traffic.unwrap();
        assert_eq!(
            (traffic.packets, traffic.bytes),
            (TrafficLimits::default().packets, Rate::per_second(1_000).burst(2_000))
        );
        for zero in ["per-address", "packets-per-second", "events-per-second"] {
            assert!(settle(&format!("--{zero} 0"), "").unwrap_err().contains("more than zero"), "{zero}");
        }
        let settings = settle(open, "host = [\"example.org\"]\ntrusted_proxy = [\"10.0.0.0/8\"]").unwrap();
        assert!(settings.hosts.allows(Some("example.org")) && !settings.hosts.allows(Some("localhost")));
        assert!(settings.trusted_proxies.trusts("10.1.2.3".parse().unwrap()));
        assert_eq!([1, 33, 100, 1_024, 1_000_000].map(connections_for), [1, 1, 68, 816, 800_000]);
        assert_eq!(settle("--max-connections 7", "").unwrap().max_connections, 7);
    }

    #[test]
    fn times_and_sizes_are_read() {
        for (text, millis) in
            [("0", 0), ("250", 250), ("250ms", 250), ("25s", 25_000), ("2 m", 120_000), ("24h", 86_400_000)]
        {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1d", "25h", "99999999999999999999", "18446744073709551615s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for (text, bytes) in
            [("1", 1), ("10B", 10), ("1kB", 1000), ("1 KiB", 1024), ("3MB", 3_000_000), ("1024MiB", 1 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0", "MB", "-1", "1GB", "1025MiB", "99999999999999999999MiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
