//! The program as a user meets it: started, asked over HTTP, stopped by a signal.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    /// Starts `sio serve --json` on a free port, with further arguments.
    fn start(args: &[&str]) -> Self {
        let mut child = sio()
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, lines, address: String::new() };
        let listening = server.line();
        assert_eq!(listening["event"], "listening");
        server.address = listening["address"].as_str().unwrap().to_owned();
        assert_eq!(listening["url"], format!("http://{}", server.address));
        server
    }

    /// Starts this program with further arguments, on a free port; and what it logs.
    fn with_log(mut program: Command, args: &[&str]) -> (Self, BufReader<ChildStderr>) {
        let mut child = program
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, lines, address: String::new() };
        server.address = server.line()["address"].as_str().unwrap().to_owned();
        (server, log)
    }

    /// The next event that the program tells.
    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// One request on a connection of its own; the answer's head and body.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = request.replace('\n', "\r\n").replace("ADDRESS", &self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    #[cfg(unix)]
    fn signal(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let (closing, closed) = (self.line(), self.line());
        assert_eq!((&closing["event"], &closed["event"]), (&"closing".into(), &"closed".into()));
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without the options that the environment of the tests may hold.
fn sio() -> Command {
    sio_by(&[env!("CARGO_BIN_EXE_sio")])
}

/// The program, started by these words.
fn sio_by(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIO_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn page_and_socket_io_share_one_port() {
    let server = Server::start(&[]);
    let (head, body) = server.ask("GET / HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(
        head.contains("content-security-policy: default-src 'self'") && head.contains("x-frame-options: deny"),
        "{head}"
    );
    assert!(body.contains("<title>Socket.IO playground</title>"));

    let (head, body) =
        server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(body.starts_with("0{\"sid\":\"") && body.contains("\"maxPayload\":1000000"), "{body}");

    let (head, body) = server.ask("GET /missing HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(
        head.starts_with("http/1.1 404 not found\r\n") && head.contains("x-content-type-options: nosniff"),
        "{head}"
    );
    assert_eq!(body, "not found");
    let (head, body) = server.ask("HEAD /client.js HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n") && !head.contains("content-length: 0"), "{head}");
    assert_eq!(body, "");
}

#[test]
fn a_foreign_name_gets_neither_page_nor_session() {
    let server = Server::start(&[]);
    for path in ["/", "/config.json", "/socket.io/?EIO=4&transport=polling"] {
        let (head, _) = server.ask(&format!("GET {path} HTTP/1.1\nHost: evil.test\nConnection: close\n\n"));
        assert!(head.starts_with("http/1.1 421 "), "{path}: {head}");
    }
    let foreign = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nOrigin: https://evil.test\nConnection: close\n\n";
    let (head, _) = server.ask(foreign);
    assert!(head.starts_with("http/1.1 403 "), "{head}");
}

#[test]
fn everything_that_is_sent_has_the_security_headers() {
    let server = Server::start(&[]);
    for request in [
        "GET / HTTP/1.1\nHost: ADDRESS",
        "GET /nothing HTTP/1.1\nHost: ADDRESS",
        "POST / HTTP/1.1\nHost: ADDRESS",
        "GET / HTTP/1.1\nHost: evil.test",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS",
        "GET /socket.io/?EIO=4&transport=polling&j=0 HTTP/1.1\nHost: ADDRESS",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nOrigin: https://evil.test",
        "GET /socket.io/ HTTP/1.1\nHost: ADDRESS",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: evil.test",
        "GET / HTTP/1.1\nHost: ADDRESS\nHost: ADDRESS",
    ] {
        let (head, _) = server.ask(&format!("{request}\nConnection: close\n\n"));
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src '",
        ] {
            assert_eq!(head.matches(header).count(), 1, "{request}: {header}: {head}");
        }
        assert!(!head.contains("strict-transport-security"), "{request}: {head}");
    }
}

/// A certificate and its key in files, and a way to make them others.
struct Certificate {
    directory: std::path::PathBuf,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("sio-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let certificate = Self { directory };
        certificate.renew();
        certificate
    }

    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().unwrap().to_owned()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[cfg(unix)]
#[test]
fn a_hangup_takes_the_new_certificate_and_keeps_the_old_one_when_it_is_bad() {
    let files = Certificate::new("hangup");
    let mut child = sio()
        .args(["serve", "--listen", "127.0.0.1:0", "--json"])
        .args(["--tls-cert", &files.path("cert.pem"), "--tls-key", &files.path("key.pem")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines, address: String::new() };
    let listening = server.line();
    assert!(listening["url"].as_str().unwrap().starts_with("https://"), "{listening}");
    let hang_up = |server: &mut Server| {
        let sent = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        server.line()
    };
    files.renew();
    assert_eq!(hang_up(&mut server), serde_json::json!({ "event": "reloaded", "changed": true }));
    assert_eq!(hang_up(&mut server), serde_json::json!({ "event": "reloaded", "changed": false }));
    // A key that belongs to another certificate.
    let key = std::fs::read(files.path("key.pem")).unwrap();
    files.renew();
    std::fs::write(files.path("key.pem"), key).unwrap();
    let failed = hang_up(&mut server);
    assert_eq!(failed["event"], "reload_failed");
    assert!(failed["error"].as_str().unwrap().contains("certificate"), "{failed}");
    assert_eq!(server.child.try_wait().unwrap(), None);
}

#[test]
fn plain_requests_are_redirected_to_tls() {
    let files = Certificate::new("redirect");
    let mut child = sio()
        .args(["serve", "--listen", "127.0.0.1:0", "--redirect-from", "127.0.0.1:0", "--json"])
        .args(["--tls-cert", &files.path("cert.pem"), "--tls-key", &files.path("key.pem")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines, address: String::new() };
    let listening = server.line();
    let port = listening["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    server.address = listening["redirect_from"].as_str().unwrap().to_owned();
    for path in ["/", "/socket.io/?eio=4&transport=polling"] {
        let (head, _) = server.ask(&format!("GET {path} HTTP/1.1\nHost: localhost:80\nConnection: close\n\n"));
        assert!(head.starts_with("http/1.1 308 "), "{head}");
        assert!(head.contains(&format!("\r\nlocation: https://localhost:{port}{path}\r\n")), "{head}");
    }
    let (head, _) = server.ask("GET / HTTP/1.1\nHost: evil.test\nConnection: close\n\n");
    assert!(head.starts_with("http/1.1 421 "), "{head}");
}

#[cfg(unix)]
#[test]
fn not_even_the_most_talkative_log_has_a_whole_session_id() {
    let (mut server, mut stderr) = Server::with_log(sio(), &["--log", "trace"]);
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).unwrap();
        log
    });
    let (_, open) =
        server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    let sid = open.split('"').nth(3).unwrap().to_owned();
    assert_eq!(sid.len(), 20, "{open}");
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    // A namespace is joined, an upgrade is refused, a transport does not fit, and then comes what is no packet.
    for request in [
        format!("POST {target} HTTP/1.1\nHost: ADDRESS\nConnection: close\nContent-Length: 2\n\n40"),
        format!("GET {target} HTTP/1.1\nHost: ADDRESS\nConnection: Upgrade\nUpgrade: websocket\n\n"),
        format!("GET {} HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n", target.replace("polling", "websocket")),
        format!("POST {target} HTTP/1.1\nHost: ADDRESS\nConnection: close\nContent-Length: 1\n\n7"),
        format!("GET {target} HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n"),
    ] {
        server.ask(&request);
    }
    // It ends in peace, so everything that there is to say has been said.
    assert_eq!(server.signal("-TERM").code(), Some(0));
    let log = log.join().unwrap();
    assert!(log.contains("session closed"), "{log}");
    assert!(!log.contains(&sid), "{log}");
}

#[test]
fn a_broker_that_was_never_there_is_told_of_and_clients_are_served() {
    for adapter in ["redis://127.0.0.1:1/", "redis-streams://127.0.0.1:1/", "postgres://127.0.0.1:1/"] {
        let (server, log) = Server::with_log(sio(), &["--adapter", adapter]);
        let told = log.lines().find_map(|line| line.ok().filter(|line| line.contains("it is tried again"))).unwrap();
        assert!(told.contains("WARN") && told.contains("refused") && !told.contains('\u{1b}'), "{told}");
        let (head, _) =
            server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    }
}

#[cfg(unix)]
#[test]
fn r26_a_process_without_file_descriptors_serves_who_is_there_and_goes_on_afterwards() {
    // The shell lowers its own limit and becomes the program.
    let limited = sio_by(&["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sio")]);
    let (server, log) = Server::with_log(limited, &["--max-connections", "100"]);
    let mut good = BufReader::new(TcpStream::connect(&server.address).unwrap());
    good.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut shakes_hands = || {
        let request = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        good.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            assert!(good.read_line(&mut line).unwrap() > 0, "{head}");
            head.push_str(&line.to_ascii_lowercase());
        }
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        good.read_exact(&mut body).unwrap();
        body.starts_with(b"0{\"sid\":")
    };
    assert!(shakes_hands());
    // The system takes them for the program, which cannot.
    let crowd: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    // From then on nobody reads what it logs, and that costs nobody anything either.
    assert!(log.lines().any(|line| line.unwrap().contains("cannot accept connections")));
    assert!(shakes_hands());
    drop(crowd);
    let (head, _) = server.ask("GET / HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(shakes_hands());
}

#[test]
fn options_reach_the_server() {
    let server = Server::start(&[
        "--path",
        "/io",
        "--ping-interval",
        "7s",
        "--ping-timeout",
        "3000",
        "--max-payload",
        "5000",
        "--transports",
        "polling",
        "--eio3",
        "--origin",
        "https://a.org",
    ]);
    let (_, body) = server.ask("GET /config.json HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(body.contains("\"path\":\"/io/\""), "{body}");
    let (head, body) = server
        .ask("GET /io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nOrigin: https://a.org\nConnection: close\n\n");
    assert!(body.contains("\"upgrades\":[],\"pingInterval\":7000,\"pingTimeout\":3000,\"maxPayload\":5000}"), "{body}");
    assert!(head.contains("access-control-allow-origin: https://a.org"), "{head}");
    let (_, body) = server.ask("GET /io/?EIO=3&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert!(body.contains(":0{\"sid\":\""), "{body}");
    let (_, body) =
        server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    assert_eq!(body, "not found");
}

#[test]
fn short_polling_answers_at_once() {
    let server = Server::start(&["--hold-polls", "0"]);
    let get = |query: &str| {
        server.ask(&format!(
            "GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n"
        ))
    };
    let (_, open) = get("&hold=0");
    let sid = open.split('"').nth(3).unwrap().to_owned();
    // Nothing is to be sent: a server that held this poll would answer with the ping 25 seconds later, after the timeout.
    let (head, body) = get(&format!("&hold=0&sid={sid}"));
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert_eq!(body, "6");
}

#[cfg(unix)]
#[test]
fn both_signals_end_it_in_peace() {
    for signal in ["-INT", "-TERM"] {
        let mut server = Server::start(&[]);
        // A client that waits in a poll is told.
        let (_, open) =
            server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
        let sid = open.split('"').nth(3).unwrap().to_owned();
        let mut poll = TcpStream::connect(&server.address).unwrap();
        poll.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A request that is answered at once stands before the poll in the same segment: with its answer here, the
        // server has read the poll too. Without it the signal might find a connection that nobody has accepted yet.
        let request = format!(
            "GET /nowhere HTTP/1.1\r\nHost: {0}\r\n\r\n\
             GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n",
            server.address
        );
        poll.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 12];
        poll.read_exact(&mut first).unwrap();
        assert_eq!(first, *b"HTTP/1.1 404");
        assert_eq!(server.signal(signal).code(), Some(0), "{signal}");
        let mut answer = String::new();
        poll.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("HTTP/1.1 200 OK"), "{signal}: {answer}");
        assert!(TcpStream::connect(&server.address).is_err(), "{signal}");
    }
}

#[test]
fn what_cannot_be_done_is_said_with_a_way_out() {
    let server = Server::start(&[]);
    check(&["--listen", &server.address], &["cannot listen on 127.0.0.1:", "try another port with --listen"]);
    check(&["--tls-cert", "cert.pem"], &["--tls-key"]);
    check(&["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], &["cannot read `/nowhere.pem`"]);
    check(&["--listen", "0.0.0.0:0"], &["will not listen on 0.0.0.0:0 without TLS", "--insecure"]);
    check(&["--config", "/nowhere.toml"], &["cannot read the configuration `/nowhere.toml`"]);
    check(
        &["--serve-client", "/nowhere"],
        &["cannot serve the client from `/nowhere`", "node_modules/socket.io-client"],
    );
    check(&["--ping-interval", "soon"], &["`soon` is not a time such as 25s"]);
    check(&["--no-such-flag"], &["--no-such-flag"]);

    let file = std::env::temp_dir().join(format!("sio-{}.toml", std::process::id()));
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nlimitz = 5\n").unwrap();
    check(&["--config", file.to_str().unwrap()], &["in the configuration", "unknown field `limitz`", "line 2"]);
    std::fs::remove_file(&file).unwrap();

    #[track_caller]
    fn check(args: &[&str], want: &[&str]) {
        let output = sio().arg("serve").args(args).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(output.stdout.is_empty(), "words go to stderr");
        for want in want {
            assert!(words.contains(want), "{words}");
        }
    }
}

#[test]
fn the_environment_is_between_flags_and_file() {
    let file = std::env::temp_dir().join(format!("sio-env-{}.toml", std::process::id()));
    std::fs::write(&file, "ping_interval = 1111\nping_timeout = 2222\nmax_payload = 3333\n").unwrap();
    let mut child = sio()
        .args(["serve", "--listen", "127.0.0.1:0", "--json", "--max-payload", "5555"])
        .env("SIO_CONFIG", &file)
        .env("SIO_PING_TIMEOUT", "4444")
        .env("SIO_MAX_PAYLOAD", "6666")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines, address: String::new() };
    server.address = server.line()["address"].as_str().unwrap().to_owned();
    let (_, body) =
        server.ask("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: ADDRESS\nConnection: close\n\n");
    std::fs::remove_file(&file).unwrap();
    assert!(body.contains("\"pingInterval\":1111,\"pingTimeout\":4444,\"maxPayload\":5555}"), "{body}");
}
