//! `sio serve`: the runtime, the listener, the server and its end.

use std::{
    io,
    io::{IsTerminal, Write},
    net::SocketAddr,
    time::Duration,
};

use engineio_proto::cors::Cors;
use serde_json::json;
use socketio::{Excess, Hsts, RateLimit, RequireTls, SocketIo, Tls};
use socketio_heap::Waves;
use tokio::{net::TcpListener, time::MissedTickBehavior};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    demo,
    settings::{Log, Problem, Settings},
    site::Site,
};

/// How long clients are given to hear of the end. Stock clients need one round trip.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether many clients have left.
const LOOK_FOR_WAVES: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
///
/// # Errors
/// When the server cannot be set up or the address cannot be bound.
pub(crate) fn run(settings: Settings) -> Result<(), Problem> {
    tracing_subscriber::fmt()
        .with_max_level(level(settings.log))
        .with_writer(io::stderr)
        // Files and other programs read no colours.
        .with_ansi(io::stderr().is_terminal())
        // That nobody reads the log any more is no reason to panic, which saying it there would be.
        .log_internal_errors(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Fairness: with more than 256 ready connections a worker's own queue overflows into the global one, which is
        // looked at seldom by default; some clients then wait ten times longer than others. Costs about 4 % of CPU.
        .global_queue_interval(1)
        .build()
        .map_err(|error| Problem(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Problem> {
    let mut site = Site::new(&settings.path, settings.hosts.clone(), settings.origins.clone());
    if let Some(directory) = &settings.serve_client {
        site = site.with_client(&settings.path, directory)?;
    }

    let listener = bind(settings.listen).await?;
    let redirecting = match settings.redirect_from {
        Some(from) => Some(bind(from).await?),
        None => None,
    };
    let address = listener.local_addr().map_err(|error| Problem(format!("cannot tell the address: {error}")))?;

    // Pages of other sites that are let in may also read what they get.
    let cors = match &settings.origins {
        origins if origins.is_any() => Some(Cors::any()),
        origins if settings.other_sites => Some(Cors::listed(origins.clone())),
        _ => None,
    };
    let mut builder = SocketIo::builder()
        .path(settings.path.trim_end_matches('/'))
        .origins(settings.origins)
        .hosts(settings.hosts)
        .trusted_proxies(settings.trusted_proxies)
        .max_connections(settings.max_connections)
        .limit_addresses(settings.addresses)
        .limit_traffic(settings.traffic)
        .require_tls(settings.redirect_from.map(|_| RequireTls::Redirect(Some(address.port()))))
        .hsts(settings.hsts.then(Hsts::default))
        .security_headers(true)
        .allow_eio3(settings.eio3)
        .transports(settings.transports)
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .max_payload(settings.max_payload)
        .poll_hold(settings.hold_polls);
    for namespace in demo::namespaces() {
        builder = builder.namespace(match settings.events {
            Some(rate) => namespace.rate_limit(RateLimit::socket(rate).excess(Excess::Delay)),
            None => namespace,
        });
    }
    if let Some(cors) = cors {
        builder = builder.engine(|engine| engine.cors(cors));
    }
    if let Some(adapter) = settings.adapter {
        builder = adapter.connect(builder);
    }
    let io = builder.build().map_err(|error| Problem(error.to_string()))?;

    let signals = Signals::new().and_then(|signals| Ok((signals, Hangup::new()?)));
    let (mut signals, mut hangup) = signals.map_err(|error| Problem(format!("cannot listen for signals: {error}")))?;
    let say = Voice { json: settings.json, scheme: if settings.tls.is_some() { "https" } else { "http" } };
    let tls = settings.tls.clone();
    let plain_site = site.clone();
    let serving = async {
        match settings.tls {
            Some(tls) => io.engine().serve_tls(listener, site, tls).await,
            None => io.engine().serve(listener, site).await,
        }
    };
    let from = redirecting.as_ref().and_then(|listener| listener.local_addr().ok()).map(|from| from.to_string());
    let leading_to_tls = async {
        match redirecting {
            Some(listener) => io.engine().serve(listener, plain_site).await,
            None => std::future::pending().await,
        }
    };
    say.listening(&address.to_string(), &settings.path, from.as_deref());
    let tidying = tokio::spawn(give_memory_back(io.clone()));
    tokio::select! {
        ended = serving => {
            ended.map_err(|error| Problem(format!("cannot listen on {address} any more: {error}")))?;
        }
        ended = leading_to_tls => {
            ended.map_err(|error| Problem(format!("cannot redirect to TLS any more: {error}")))?;
        }
        () = reload_on_hangup(&mut hangup, tls, say) => {}
        () = signals.next() => {}
    }
    tidying.abort();
    let sessions = io.engine().sessions();
    say.closing(sessions);
    tokio::select! {
        () = io.close_within(CLOSE_WITHIN) => {}
        // Who asks twice does not want to wait.
        () = signals.next() => {}
    }
    say.closed();
    Ok(())
}

/// Binds an address, or says what to try instead.
async fn bind(address: SocketAddr) -> Result<TcpListener, Problem> {
    engineio::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => " (another program listens there; try another port with --listen)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges; try --listen 127.0.0.1:3000)",
            _ => "",
        };
        Problem(format!("cannot listen on {error}{hint}"))
    })
}

/// Reads the certificate anew whenever a signal asks for it. Never ends.
async fn reload_on_hangup(hangup: &mut Hangup, tls: Option<Tls>, say: Voice) {
    loop {
        hangup.next().await;
        // Without a certificate there is nothing to read, and the signal ends nothing.
        let Some(tls) = tls.clone() else { continue };
        // Away from the workers: it reads files.
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(result) => say.reloaded(result.map_err(|error| error.to_string())),
            Err(error) => say.reloaded(Err(error.to_string())),
        }
    }
}

/// Returns the memory of many clients that have left to the operating system.
async fn give_memory_back(io: SocketIo) {
    let mut waves = Waves::default();
    let mut often = tokio::time::interval(LOOK_FOR_WAVES);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        often.tick().await;
        if waves.has_left(io.engine().sessions()) {
            // Away from the workers: it takes some milliseconds.
            let _ = tokio::task::spawn_blocking(socketio_heap::give_back).await;
        }
    }
}

/// Words for people go to stderr; with `--json`, events for programs to stdout.
#[derive(Debug, Clone, Copy)]
struct Voice {
    json: bool,
    scheme: &'static str,
}

impl Voice {
    fn listening(self, address: &str, path: &str, redirects: Option<&str>) {
        let url = format!("{}://{address}", self.scheme);
        let also = redirects.map(|from| format!(", redirecting http://{from} to it")).unwrap_or_default();
        self.say(
            &format!("listening on {url}{also}"),
            json!({ "event": "listening", "url": url, "address": address, "path": path, "redirect_from": redirects }),
        );
    }

    fn reloaded(self, result: Result<bool, String>) {
        match result {
            Ok(changed) => {
                let words = if changed { "the certificate has been exchanged" } else { "the certificate is the same" };
                self.say(words, json!({ "event": "reloaded", "changed": changed }));
            }
            Err(error) => self.say(
                &format!("the new certificate cannot be used, the old one stays: {error}"),
                json!({ "event": "reload_failed", "error": error }),
            ),
        }
    }

    fn closing(self, sessions: usize) {
        let words = match sessions {
            1 => "closing 1 session".to_owned(),
            _ => format!("closing {sessions} sessions"),
        };
        self.say(&words, json!({ "event": "closing", "sessions": sessions }));
    }

    fn closed(self) {
        self.say("closed", json!({ "event": "closed" }));
    }

    fn say(self, words: &str, event: serde_json::Value) {
        // Nobody may be reading any more; the server goes on.
        let _ = if self.json {
            let mut out = io::stdout().lock();
            writeln!(out, "{event}").and_then(|()| out.flush())
        } else {
            writeln!(io::stderr(), "{words}")
        };
    }
}

fn level(log: Log) -> LevelFilter {
    match log {
        Log::Off => LevelFilter::OFF,
        Log::Error => LevelFilter::ERROR,
        Log::Warn => LevelFilter::WARN,
        Log::Info => LevelFilter::INFO,
        Log::Debug => LevelFilter::DEBUG,
        Log::Trace => LevelFilter::TRACE,
    }
}

/// The signal that asks the program to read its certificate again.
struct Hangup {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        self.hangup.recv().await;
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// The signals that ask the program to end.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
