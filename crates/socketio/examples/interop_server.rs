//! The server that the interoperability suites talk to; `interop/EVENTS.md` says what it answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use socketio::{
    Ack, AckError, AnyParser, Auth, Builder, Bytes, ConnectError, Cookie, Cors, Data, DeflateOptions, DisconnectReason,
    Limits, Namespace, OverRate, OwnedArgs, Rate, RecoveryOptions, RoomName, SecurityEvent, SessionBinding, Socket,
    SocketIo, Spread, State, TrafficLimits, Transport, TrustedProxies, Value,
};

/// Reasons of disconnections under the keys that clients gave.
type Reasons = Arc<Mutex<HashMap<String, String>>>;

/// The key under which a socket wants to be remembered.
struct Key(String);

/// The numbers of `seq`.
#[derive(Default)]
struct Sequence(Mutex<Vec<i64>>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let reasons = Reasons::default();
    let mut builder = options
        .builder()
        .state(reasons)
        .namespace(events(Namespace::new("/")))
        .namespace(events(Namespace::new("/chat")))
        .namespace(events(Namespace::new("/admin").use_(authorize)));
    for number in 0..10 {
        builder = builder.namespace(events(Namespace::new(format!("/n{number}"))));
    }
    let events = Events::default();
    let heard = events.clone();
    let io = builder.on_security_event(move |event| heard.add(event)).build()?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port))).await?;
    let port = listener.local_addr()?.port();
    let serve = async {
        match &options.tls {
            #[cfg(feature = "tls")]
            Some(file) => {
                let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                    .map_err(std::io::Error::other)?;
                std::fs::write(file, made.cert.pem())?;
                let tls = socketio::Tls::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
                println!("listening on {port}");
                io.serve_tls(listener, tls).await
            }
            #[cfg(not(feature = "tls"))]
            Some(_) => Err(std::io::Error::other("built without the feature `tls`")),
            None => {
                println!("listening on {port}");
                io.engine().serve(listener, stats(io.clone(), events)).await
            }
        }
    };
    if options.exit_with_stdin {
        let end = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        tokio::select! {
            served = serve => served?,
            _ = end => {}
        }
    } else {
        serve.await?;
    }
    Ok(())
}

/// The questions of `later`.
#[derive(Default)]
struct Later(Mutex<Vec<(i64, Ack)>>);

/// The security events of each address (`nobody`: without one), one line each.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Events {
    fn add(&self, event: &SecurityEvent) {
        let address = event.address.map_or("nobody".to_owned(), |address| address.to_string());
        let mut all = self.0.lock().unwrap();
        let of_address = all.entry(address).or_default();
        if of_address.len() < 2_000 {
            of_address.push(event.to_json());
        }
    }

    fn take(&self, address: &str) -> String {
        self.0.lock().unwrap().remove(address).unwrap_or_default().join("\n")
    }
}

/// `/stats`: what happened, as a flat object of numbers. `DELETE /security/ADDRESS`: the security events of a client since
/// they were asked for last.
fn stats(io: SocketIo, events: Events) -> axum::Router {
    let answer = async move || {
        let counts: serde_json::Map<String, serde_json::Value> =
            io.engine_stats().each().map(|(name, count)| (name.to_owned(), count.into())).collect();
        serde_json::Value::Object(counts).to_string()
    };
    let told = async move |axum::extract::Path(address): axum::extract::Path<String>| events.take(&address);
    axum::Router::new()
        .route("/stats", axum::routing::get(answer))
        .route("/security/{address}", axum::routing::delete(told))
}

/// What a client may ask for when it connects.
#[derive(Deserialize)]
struct Manners {
    #[serde(default)]
    quiet: bool,
}

#[derive(Deserialize)]
struct Login {
    token: Option<String>,
}

async fn authorize(Auth(login): Auth<Login>) -> Result<(), ConnectError> {
    match login.token.as_deref() {
        Some("secret") => Ok(()),
        Some("expired") => {
            Err(ConnectError::new("token expired").data(json!({ "code": 4001, "hint": "log in again" })))
        }
        _ => Err(ConnectError::new("not authorized")),
    }
}

fn events(namespace: Namespace) -> Namespace {
    namespace
        .on_connect(async |socket: Socket| {
            socket.extensions().insert(Sequence::default());
            socket.extensions().insert(Later::default());
            if !socket.handshake().auth::<Manners>().is_ok_and(|manners| manners.quiet) {
                socket.emit("hello", socket.id());
            }
        })
        .on_disconnect(async |socket: Socket, reason: DisconnectReason, State(reasons): State<Reasons>| {
            if let Some(key) = socket.extensions().get::<Key>() {
                reasons.lock().unwrap().insert(key.0.clone(), reason.to_string());
            }
        })
        .on("echo", async |socket: Socket, args: OwnedArgs| {
            socket.emit("echo", Spread(&args.values().unwrap_or_default()));
        })
        .on("echo-ack", async |args: OwnedArgs, ack: Ack| ack.send(Spread(&args.values().unwrap_or_default())))
        .on("kinds", async |args: OwnedArgs| args.values().unwrap_or_default().iter().map(kind).collect::<Vec<_>>())
        .on("measure", async |Data(value): Data<Value>| {
            let bytes =
                value.as_str().map(str::as_bytes).or(value.as_bytes().map(|bytes| &**bytes)).unwrap_or_default();
            (kind(&value), bytes.len(), fnv(bytes))
        })
        .on("give", async |socket: Socket, Data((kind, n)): Data<(String, usize)>| {
            let bytes = (0..n).map(|i| 7 * i + 3);
            if kind == "binary" {
                socket.emit("gift", Bytes::from_iter(bytes.map(|byte| (byte % 256) as u8)));
            } else {
                socket.emit("gift", bytes.map(|byte| char::from(b'a' + (byte % 26) as u8)).collect::<String>());
            }
        })
        .concurrent_event("ask", 16)
        .on("ask", async |socket: Socket, args: OwnedArgs, ack: Ack| {
            let question = args.values().unwrap_or_default();
            let asked = socket.timeout(Duration::from_secs(5)).emit_with_ack::<()>("question", Spread(&question));
            match asked.args().await {
                Ok(answer) => ack.send(Spread(&answer.values().unwrap_or_default())),
                Err(_) => ack.send("timeout"),
            }
        })
        .concurrent_event("ask-timeout", 16)
        .on("ask-timeout", async |socket: Socket, Data(ms): Data<u64>| {
            match socket.timeout(Duration::from_millis(ms)).emit_with_ack::<()>("silence", ()).await {
                Err(AckError::Timeout) => "timeout",
                _ => "answered",
            }
        })
        .on("count", async |socket: Socket, Data(n): Data<u64>| {
            for i in 0..n {
                socket.emit("number", i);
            }
            socket.emit("number-end", n);
        })
        .on("seq", async |sequence: socketio::Extension<Sequence>, Data(i): Data<i64>| {
            sequence.0.0.lock().unwrap().push(i);
        })
        .on("seq-report", async |sequence: socketio::Extension<Sequence>| {
            let numbers = std::mem::take(&mut *sequence.0.0.lock().unwrap());
            let expected = std::iter::once(0).chain(numbers.iter().map(|number| number + 1));
            (numbers.len(), numbers.iter().zip(expected).filter(|(number, expected)| *number != expected).count())
        })
        .on("later", async |later: socketio::Extension<Later>, Data((i, n)): Data<(i64, usize)>, ack: Ack| {
            let mut waiting = later.0.0.lock().unwrap();
            waiting.push((i, ack));
            if waiting.len() == n {
                for (i, ack) in waiting.drain(..).rev() {
                    ack.send(i);
                }
            }
        })
        .on("join", async |socket: Socket, Data(room): Data<String>| {
            socket.join(room);
            rooms(&socket)
        })
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(room);
            rooms(&socket)
        })
        .on("rooms", async |socket: Socket| (rooms(&socket), socket.is_in(socket.id())))
        .on("members", async |socket: Socket, Data(room): Data<String>| socket.namespace().room_size(&room))
        .on("send-to", send_to)
        .concurrent_event("vote", 16)
        .on("vote", async |socket: Socket, Data((room, ms)): Data<(String, u64)>| {
            let within = Duration::from_millis(ms);
            let votes = socket.namespace().to(room).timeout(within).emit_with_ack::<String>("vote", ()).all().await;
            let mut answers: Vec<_> = votes.answers.into_iter().map(|(_, answer)| answer).collect();
            answers.sort();
            (if votes.missing.is_empty() { "complete" } else { "timeout" }, answers)
        })
        .on("volatile", async |socket: Socket, Data(n): Data<u64>| {
            for i in 0..n {
                socket.volatile().emit("volatile", i);
            }
            socket.emit("volatile-end", n);
        })
        .on("volatile-text", async |socket: Socket, Data(text): Data<String>| {
            socket.volatile().emit("status", text);
        })
        .on("sure", async |socket: Socket, Data((value, retries, ms)): Data<(Value, usize, u64)>| {
            drop(socket.retries(retries).timeout(Duration::from_millis(ms)).emit("sure", value));
        })
        .on("keep", async |socket: Socket, Data(value): Data<Value>| drop(socket.data().insert("kept", value)))
        .on("kept", async |socket: Socket| (socket.data().get::<Value>("kept"), socket.recovered()))
        .on("kick", async |socket: Socket| socket.conn().close(socketio::CloseReason::ForcedClose))
        .on("bye", async |socket: Socket, Data(close): Data<bool>| socket.disconnect(close))
        .on("remember", async |socket: Socket, Data(key): Data<String>| {
            socket.extensions().insert(Key(key));
        })
        .on("reason-of", async |State(reasons): State<Reasons>, Data(key): Data<String>| {
            reasons.lock().unwrap().get(&key).cloned()
        })
        .on("whoami", async |socket: Socket, Auth(auth): Auth<Value>| {
            let handshake = socket.handshake();
            let fields = [
                ("id", Value::from(socket.id().as_str())),
                ("namespace", Value::from(socket.namespace().name())),
                ("auth", auth),
                ("who", handshake.query("who").map_or(Value::Null, |who| Value::from(&*who))),
                ("transport", Value::from(socket.conn().transport().name())),
                ("revision", Value::from(if socket.conn().revision() == socketio::Revision::V3 { 3 } else { 4 })),
            ];
            Value::Map(fields.into_iter().collect())
        })
}

#[derive(Deserialize)]
struct Target {
    from: String,
    to: Vec<RoomName>,
    except: Vec<RoomName>,
    #[serde(default)]
    local: bool,
}

async fn send_to(socket: Socket, Data((target, event)): Data<(Target, String)>, args: OwnedArgs) {
    let mut to = if target.from == "socket" { socket.broadcast() } else { socket.namespace().broadcast() };
    to = to.to(target.to).except(target.except);
    if target.local {
        to = to.local();
    }
    let values = args.values().unwrap_or_default();
    to.emit(&event, Spread(values.get(2..).unwrap_or_default()));
}

fn rooms(socket: &Socket) -> Vec<RoomName> {
    let mut rooms: Vec<_> = socket.rooms().into_iter().filter(|room| room != socket.id()).collect();
    rooms.sort();
    rooms
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Binary(_) => "binary",
        Value::Array(_) => "array",
        Value::Map(_) => "object",
    }
}

/// FNV-1a, 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The command line.
#[derive(Clone)]
struct Options {
    port: u16,
    exit_with_stdin: bool,
    /// Serve over TLS, with a new certificate that is written to this file.
    tls: Option<String>,
    recovery: Option<Duration>,
    parser: AnyParser,
    path: String,
    ping_interval: Duration,
    ping_timeout: Duration,
    upgrade_timeout: Duration,
    connect_timeout: Duration,
    max_payload: usize,
    eio3: bool,
    transports: Vec<Transport>,
    upgrades: bool,
    cors: Option<String>,
    cookie: Option<String>,
    gate: bool,
    loopback_hosts: bool,
    compress: bool,
    limits: Limits,
    bind_address: bool,
    trusted_proxies: TrustedProxies,
    /// Packets per second of one client.
    packets: Option<u64>,
    over: OverRate,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn std::error::Error>> {
        let mut options = Self {
            port: 0,
            exit_with_stdin: false,
            tls: None,
            recovery: None,
            parser: AnyParser::json(),
            path: "/socket.io".to_owned(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            max_payload: 1_000_000,
            eio3: true,
            transports: vec![Transport::Polling, Transport::WebSocket],
            upgrades: true,
            cors: None,
            cookie: None,
            gate: false,
            loopback_hosts: false,
            compress: false,
            limits: Limits::default(),
            bind_address: false,
            trusted_proxies: TrustedProxies::default(),
            packets: None,
            over: OverRate::Delay,
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            let ms = |text: String| text.parse().map(Duration::from_millis);
            match option.as_str() {
                "--port" => options.port = value()?.parse()?,
                "--recovery" => options.recovery = Some(ms(value()?)?),
                "--tls" => options.tls = Some(value()?),
                "--exit-with-stdin" => options.exit_with_stdin = true,
                "--parser" => {
                    options.parser = match value()?.as_str() {
                        "json" => AnyParser::json(),
                        "msgpack" => AnyParser::msgpack(),
                        other => return Err(format!("there is no parser `{other}`").into()),
                    }
                }
                "--path" => options.path = value()?,
                "--ping-interval" => options.ping_interval = ms(value()?)?,
                "--ping-timeout" => options.ping_timeout = ms(value()?)?,
                "--upgrade-timeout" => options.upgrade_timeout = ms(value()?)?,
                "--connect-timeout" => options.connect_timeout = ms(value()?)?,
                "--max-payload" => options.max_payload = value()?.parse()?,
                "--no-eio3" => options.eio3 = false,
                "--transports" => {
                    let all = [Transport::Polling, Transport::WebSocket];
                    let names = value()?;
                    options.transports =
                        all.into_iter().filter(|one| names.split(',').any(|name| name == one.name())).collect();
                }
                "--no-upgrades" => options.upgrades = false,
                "--cors" => options.cors = Some(value()?),
                "--cookie" => options.cookie = Some(value()?),
                "--gate" => options.gate = true,
                "--loopback-hosts" => options.loopback_hosts = true,
                "--compress" => options.compress = true,
                "--hook-timeout" => options.limits.hook_timeout = ms(value()?)?,
                "--impatient" => {
                    let time = ms(value()?)?;
                    options.limits.first_activity_timeout = time;
                    options.limits.message_timeout = time;
                    options.limits.attachment_timeout = time;
                    options.limits.write_timeout = time;
                }
                "--bind-address" => options.bind_address = true,
                "--trusted-proxy" => options.trusted_proxies = TrustedProxies::new([value()?])?,
                "--packets" => options.packets = Some(value()?.parse()?),
                "--over-disconnect" => options.over = OverRate::Disconnect,
                other => return Err(format!("there is no option `{other}`").into()),
            }
        }
        Ok(options)
    }

    fn builder(&self) -> Builder {
        let options = self.clone();
        let mut builder = SocketIo::builder()
            .limits(options.limits)
            .trusted_proxies(options.trusted_proxies)
            .parser(options.parser)
            .path(options.path)
            .ping_interval(options.ping_interval)
            .ping_timeout(options.ping_timeout)
            .upgrade_timeout(options.upgrade_timeout)
            .connect_timeout(options.connect_timeout)
            .max_payload(options.max_payload)
            .allow_eio3(options.eio3)
            .transports(options.transports)
            .allow_upgrades(options.upgrades)
            .loopback_hosts_only(options.loopback_hosts);
        if let Some(origin) = &options.cors {
            builder = builder.cors(Cors::allow(origin).credentials(true));
        }
        if let Some(name) = options.cookie {
            let mut cookie = Cookie::default();
            cookie.name = name;
            builder = builder.cookie(cookie);
        }
        if options.gate {
            builder = builder.allow_request(|request| {
                let gate = request.query().split('&').find_map(|pair| pair.strip_prefix("gate=")).map(str::to_owned);
                async move {
                    match gate.as_deref() {
                        Some("closed") => Err("no way".to_owned()),
                        Some("hang") => std::future::pending().await,
                        Some("panic") => panic!("the gate was asked to panic"),
                        _ => Ok(()),
                    }
                }
            });
        }
        if options.bind_address {
            builder = builder.session_binding(SessionBinding::new().address());
        }
        if let Some(packets) = options.packets {
            let mut traffic = TrafficLimits::default();
            traffic.packets = Rate::per_second(packets).burst(packets / 5);
            traffic.over = options.over;
            builder = builder.limit_traffic(traffic);
        }
        if let Some(time) = options.recovery {
            let mut recovery = RecoveryOptions::default();
            recovery.max_disconnection_duration = time;
            builder = builder.connection_state_recovery(recovery);
        }
        if options.compress {
            builder = builder.per_message_deflate(DeflateOptions::default());
        }
        builder
    }
}
