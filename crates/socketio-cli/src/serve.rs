//! `sio serve`: the runtime, the listener, the server and its end.

use std::{io, io::Write, time::Duration};

use engineio_proto::{cors::Cors, origin::Hosts};
use serde_json::json;
use socketio::SocketIo;
use socketio_heap::Waves;
use tokio::time::MissedTickBehavior;
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
    tracing_subscriber::fmt().with_max_level(level(settings.log)).with_writer(io::stderr).init();
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
    let hosts = if settings.loopback_hosts_only { Hosts::loopback() } else { Hosts::any() };
    let mut site = Site::new(&settings.path, hosts, settings.origins.clone());
    if let Some(directory) = &settings.serve_client {
        site = site.with_client(&settings.path, directory)?;
    }

    // Pages of other sites that are let in may also read what they get.
    let cors = match &settings.origins {
        origins if origins.is_any() => Some(Cors::any()),
        origins if settings.other_sites => Some(Cors::listed(origins.clone())),
        _ => None,
    };
    let mut builder = SocketIo::builder()
        .path(settings.path.trim_end_matches('/'))
        .origins(settings.origins)
        .loopback_hosts_only(settings.loopback_hosts_only)
        .allow_eio3(settings.eio3)
        .transports(settings.transports)
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .max_payload(settings.max_payload)
        .poll_hold(settings.hold_polls);
    for namespace in demo::namespaces() {
        builder = builder.namespace(namespace);
    }
    if let Some(cors) = cors {
        builder = builder.engine(|engine| engine.cors(cors));
    }
    let io = builder.build().map_err(|error| Problem(error.to_string()))?;

    let mut signals = Signals::new().map_err(|error| Problem(format!("cannot listen for signals: {error}")))?;
    let listener = engineio::bind(settings.listen).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => " (another program listens there; try another port with --listen)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges; try --listen 127.0.0.1:3000)",
            _ => "",
        };
        Problem(format!("cannot listen on {}: {error}{hint}", settings.listen))
    })?;
    let address = listener.local_addr().map_err(|error| Problem(format!("cannot tell the address: {error}")))?;

    let say = Voice { json: settings.json, scheme: if settings.tls.is_some() { "https" } else { "http" } };
    let serving = async {
        match settings.tls {
            Some(tls) => io.engine().serve_tls(listener, site, tls).await,
            None => io.engine().serve(listener, site).await,
        }
    };
    say.listening(&address.to_string(), &settings.path);
    let tidying = tokio::spawn(give_memory_back(io.clone()));
    tokio::select! {
        ended = serving => {
            ended.map_err(|error| Problem(format!("cannot listen on {address} any more: {error}")))?;
        }
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
    fn listening(self, address: &str, path: &str) {
        let url = format!("{}://{address}", self.scheme);
        self.say(
            &format!("listening on {url}"),
            json!({ "event": "listening", "url": url, "address": address, "path": path }),
        );
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
