//! The listener over TLS: both versions of HTTP, WebSocket on each, certificates that change, and deadlines.

mod common;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use common::{Client, Recorder, Seen, frame, masked, sid_of};
use engineio::{Builder, Carrier, ForwardOptions, Forwarding, Limits, NotFound, Server, ServerTag, Tls, TlsError};
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, StatusCode};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate for `localhost` and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

struct World {
    server: Server<Recorder>,
    seen: Arc<Seen>,
    addr: SocketAddr,
    certificates: RootCertStore,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    async fn new(limits: Limits) -> Self {
        let (certificate, key) = certificate();
        let tls = Tls::from_pem(&certificate, &key).expect("a good certificate");
        let mut world = Self::with(tls, limits).await;
        world.trust(&certificate);
        world
    }

    async fn with(tls: Tls, limits: Limits) -> Self {
        Self::build(tls, Server::<Recorder>::builder().limits(limits)).await
    }

    /// One of several servers that forward to each other.
    async fn linked(wire: &Arc<Wire>) -> Self {
        let (certificate, key) = certificate();
        let tls = Tls::from_pem(&certificate, &key).expect("a good certificate");
        let carrier = Arc::new(End(Arc::clone(wire)));
        let mut limits = Limits::default();
        limits.close_timeout = Duration::from_millis(100);
        let builder = Server::<Recorder>::builder().limits(limits).forward_over(carrier, ForwardOptions::default());
        let mut world = Self::build(tls, builder).await;
        world.trust(&certificate);
        let forwarding = world.server.forwarding().expect("it was asked for");
        wire.0.lock().expect("nobody panics").push(forwarding.clone());
        forwarding.start();
        forwarding.health(true);
        world
    }

    async fn build(tls: Tls, builder: Builder) -> Self {
        let seen = Arc::new(Seen::default());
        let server = builder.build(Recorder(seen.clone())).expect("good options");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let running = server.clone();
        let task = tokio::spawn(async move { running.serve_tls(listener, NotFound, tls).await });
        Self { server, seen, addr, certificates: RootCertStore::empty(), task }
    }

    fn trust(&mut self, certificate: &str) {
        use rustls::pki_types::pem::PemObject;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
        self.certificates.add(der).expect("a certificate");
    }

    async fn connect(&self, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(self.certificates.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.addr).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), stream).await
    }

    async fn http1(&self) -> Client<TlsStream<TcpStream>> {
        Client::new(self.connect(&["http/1.1"]).await.expect("a connection"))
    }

    /// A client of HTTP/2 that knows the server's settings.
    async fn http2(&self) -> SendRequest<Bytes> {
        let stream = self.connect(&["h2", "http/1.1"]).await.expect("a connection");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let (response, _) = client.clone().send_request(get("/nothing"), true).expect("a stream");
        assert_eq!(response.await.expect("an answer").status(), StatusCode::NOT_FOUND);
        client
    }
}

/// What connects the servers of a test.
#[derive(Default)]
struct Wire(Mutex<Vec<Forwarding<Recorder>>>);

struct End(Arc<Wire>);

impl Carrier for End {
    fn send(&self, to: Option<ServerTag>, bytes: Vec<u8>) -> bool {
        let ends = self.0.0.lock().expect("nobody panics").clone();
        for end in ends.iter().filter(|end| to.is_none() || end.tag() == to) {
            end.received(&bytes);
        }
        true
    }
}

fn get(target: &str) -> Request<()> {
    Request::get(format!("https://localhost{target}")).body(()).expect("a request")
}

fn connect(query: &str, version: &str, protocol: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("https://localhost/engine.io/?{query}").parse().expect("a target");
    *request.version_mut() = http::Version::HTTP_2;
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request.headers_mut().insert("sec-websocket-version", version.parse().expect("a value"));
    request.headers_mut().insert("origin", "https://localhost".parse().expect("a value"));
    request
}

async fn body(mut stream: RecvStream) -> String {
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        body.extend_from_slice(&chunk.expect("data"));
    }
    String::from_utf8(body).expect("UTF-8")
}

/// A WebSocket on a stream of HTTP/2.
struct Socket {
    send: SendStream<Bytes>,
    receive: RecvStream,
    buffer: Vec<u8>,
}

impl Socket {
    async fn open(client: &SendRequest<Bytes>, query: &str) -> Self {
        let (response, send) = client.clone().send_request(connect(query, "13", "websocket"), false).expect("a stream");
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().keys().all(|name| !["upgrade", "connection"].contains(&name.as_str())));
        Self { send, receive: response.into_body(), buffer: Vec::new() }
    }

    /// The session that was begun by polling moves to a stream, and goes on there.
    async fn moved(client: &SendRequest<Bytes>, sid: &str) -> Self {
        let mut socket = Self::open(client, &format!("EIO=4&transport=websocket&sid={sid}")).await;
        socket.send("2probe");
        assert_eq!(socket.text().await.as_deref(), Some("3probe"));
        socket.send("5");
        socket.send("4echo:moved");
        assert_eq!(socket.text().await.as_deref(), Some("4moved"));
        socket
    }

    fn send(&mut self, text: &str) {
        self.send.send_data(masked(1, text.as_bytes()).into(), false).expect("a stream");
    }

    /// The next short text frame; `None` at the end of the stream.
    async fn text(&mut self) -> Option<String> {
        loop {
            if let [0x81, len, rest @ ..] = &self.buffer[..]
                && rest.len() >= usize::from(*len)
            {
                assert!(*len < 126, "a short frame");
                let len = usize::from(*len);
                let text = String::from_utf8(rest[..len].to_vec()).expect("UTF-8");
                self.buffer.drain(..2 + len);
                return Some(text);
            }
            let chunk = self.receive.data().await?.ok()?;
            let _ = self.receive.flow_control().release_capacity(chunk.len());
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

#[tokio::test]
async fn polling_websocket_and_the_upgrade_work_over_tls() {
    let world = World::new(Limits::default()).await;
    let mut client = world.http1().await;
    client
        .raw(
            b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nOrigin: https://localhost\r\n\r\n",
        )
        .await;
    let open = client.answer().await;
    assert_eq!(open.status, 200, "a page of this origin over TLS: {open:?}");
    let sid = sid_of(&open.body);

    let mut socket = world.http1().await;
    socket.upgrade(&format!("EIO=4&transport=websocket&sid={sid}")).await;
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    socket.send("5").await;
    socket.send("4echo:through tls").await;
    assert_eq!(socket.text().await, "4through tls");

    let big = "x".repeat(300_000);
    world.seen.session().send([frame(&big)]).expect("the session is open");
    assert_eq!(socket.text().await.len(), big.len() + 1, "more than TLS buffers, in one message");
    socket.send(&format!("4{big}")).await;
    socket.send("4echo:done").await;
    assert_eq!(socket.text().await, "4done");
    assert_eq!(world.seen.take_messages(), ["echo:through tls", &big, "echo:done"]);
}

#[tokio::test]
async fn a_page_without_tls_is_another_origin() {
    let world = World::new(Limits::default()).await;
    let mut client = world.http1().await;
    client
        .raw(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 403);
}

#[tokio::test]
async fn polling_works_over_http2() {
    let world = World::new(Limits::default()).await;
    let client = world.http2().await;
    let (response, _) =
        client.clone().send_request(get("/engine.io/?EIO=4&transport=polling"), true).expect("a stream");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let sid = sid_of(&body(response.into_body()).await);
    let target = format!("/engine.io/?EIO=4&transport=polling&sid={sid}");

    let (poll, _) = client.clone().send_request(get(&target), true).expect("a stream");
    let post = Request::post(format!("https://localhost{target}")).body(()).expect("a request");
    let (posted, mut send) = client.clone().send_request(post, false).expect("a stream");
    send.send_data(Bytes::from_static(b"4echo:one\x1e4echo:two"), true).expect("a stream");
    assert_eq!(body(posted.await.expect("an answer").into_body()).await, "ok");
    assert_eq!(body(poll.await.expect("an answer").into_body()).await, "4one\x1e4two");
}

#[tokio::test]
async fn websockets_share_one_connection_of_http2() {
    let mut limits = Limits::default();
    limits.close_timeout = Duration::from_millis(10);
    let world = World::new(limits).await;
    let client = world.http2().await;
    assert!(client.is_extended_connect_protocol_enabled());
    let mut sockets = Vec::new();
    for n in 0..10 {
        let mut socket = Socket::open(&client, "EIO=4&transport=websocket").await;
        assert!(socket.text().await.expect("an open packet").starts_with("0{"));
        socket.send(&format!("4echo:{n}"));
        sockets.push(socket);
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.text().await, Some(format!("4{n}")));
    }
    assert_eq!(world.server.sessions(), 10);
    let mut first = sockets.remove(0);
    first.send("1");
    assert_eq!(first.text().await, None, "a session that closes ends its stream");
    sockets[0].send("4echo:still here");
    assert_eq!(sockets[0].text().await.as_deref(), Some("4still here"));
    drop(sockets);
    drop(client);
    while world.server.sessions() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.seen.closed().len(), 10);
}

#[tokio::test]
async fn a_polling_session_moves_to_a_stream_of_http2() {
    let world = World::new(Limits::default()).await;
    let client = world.http2().await;
    let (response, _) =
        client.clone().send_request(get("/engine.io/?EIO=4&transport=polling"), true).expect("a stream");
    let sid = sid_of(&body(response.await.expect("an answer").into_body()).await);
    Socket::moved(&client, &sid).await;
}

#[tokio::test]
async fn streams_of_http2_reach_a_session_on_another_server() {
    let wire = Arc::new(Wire::default());
    let (owner, other) = (World::linked(&wire).await, World::linked(&wire).await);
    let ask = async |world: &World, request: Request<()>, text: Option<&str>| {
        let mut client = world.http2().await;
        let (response, mut stream) = client.send_request(request, text.is_none()).expect("a stream");
        if let Some(text) = text {
            stream.send_data(Bytes::copy_from_slice(text.as_bytes()), true).expect("it is open");
        }
        let response = response.await.expect("an answer");
        let status = response.status().as_u16();
        (status, body(response.into_body()).await)
    };
    let target = "/engine.io/?EIO=4&transport=polling";
    let sid = sid_of(&ask(&owner, get(target), None).await.1);
    let target = format!("{target}&sid={sid}");
    let post = Request::post(format!("https://localhost{target}")).body(()).expect("a request");
    assert_eq!(ask(&other, post, Some("4echo:hi")).await, (200, "ok".to_owned()));
    assert_eq!(ask(&other, get(&target), None).await, (200, "4hi".to_owned()));
    // It was begun over TLS, and the other server says that it goes on so.
    let client = other.http2().await;
    let mut socket = Socket::moved(&client, &sid).await;
    assert_eq!(other.server.stats().tunnels, 1);
    socket.send("1");
    assert_eq!(socket.text().await, None, "a session that closes ends its stream");
    while owner.server.sessions() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connect_that_is_no_handshake_is_refused() {
    let world = World::new(Limits::default()).await;
    let client = world.http2().await;
    let ws = "EIO=4&transport=websocket";
    check(&client, connect(ws, "8", "websocket"), 400, "Missing or invalid Sec-WebSocket-Version header").await;
    check(&client, connect(ws, "13", "connect-udp"), 400, r#"{"code":2,"message":"Bad handshake method"}"#).await;
    let mut foreign = connect(ws, "13", "websocket");
    foreign.headers_mut().insert("origin", "https://evil.test".parse().expect("a value"));
    check(&client, foreign, 403, "").await;
    check(&client, connect("EIO=4&transport=websocket&sid=nobody", "13", "websocket"), 400, "").await;
    assert_eq!(world.server.sessions(), 0);

    #[track_caller]
    fn check<'a>(
        client: &SendRequest<Bytes>,
        request: Request<()>,
        status: u16,
        text: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let (response, _) = client.clone().send_request(request, false).expect("a stream");
        async move {
            let response = response.await.expect("an answer");
            assert_eq!(response.status().as_u16(), status);
            let body = body(response.into_body()).await;
            assert!(body.contains(text), "{body}");
        }
    }
}

#[tokio::test]
async fn without_http2_there_is_none_to_choose() {
    let (certificate, key) = certificate();
    let tls = Tls::from_pem(&certificate, &key).expect("a good certificate").http2(false);
    let mut world = World::with(tls, Limits::default()).await;
    world.trust(&certificate);
    let stream = world.connect(&["h2", "http/1.1"]).await.expect("a connection");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let directory = std::env::temp_dir().join(format!("engineio-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (certificate_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    let (old, new) = (certificate(), certificate());
    let write = |pair: &(String, String)| {
        std::fs::write(&certificate_file, &pair.0).and_then(|()| std::fs::write(&key_file, &pair.1)).expect("files");
    };
    write(&old);
    let tls = Tls::from_pem_files(&certificate_file, &key_file).expect("good files").watch(None);
    let mut world = World::with(tls.clone(), Limits::default()).await;
    world.trust(&old.0);
    let mut first = world.http1().await;
    first.upgrade("EIO=4&transport=websocket").await;

    assert!(!tls.reload().expect("the files are good"), "nothing has changed");
    std::fs::write(&key_file, "nonsense").expect("a file");
    assert!(matches!(tls.reload(), Err(TlsError::Pem(_))));
    std::fs::write(&key_file, &new.1).expect("a file");
    assert!(matches!(tls.reload(), Err(TlsError::Certificate(_))), "the key of another certificate");
    assert!(world.connect(&[]).await.is_ok(), "a bad pair leaves the old one in place");

    write(&new);
    assert!(tls.reload().expect("the files are good"));
    assert!(world.connect(&[]).await.is_err(), "the old certificate is gone");
    world.trust(&new.0);
    assert!(world.connect(&[]).await.is_ok());
    assert!(first.text().await.starts_with("0{"));
    first.send("4echo:still here").await;
    assert_eq!(first.text().await, "4still here", "old connections are not touched");

    write(&old);
    let watched = Tls::from_pem_files(&certificate_file, &key_file).expect("good files");
    let watched = watched.watch(Some(Duration::from_millis(1)));
    let mut world = World::with(watched, Limits::default()).await;
    world.trust(&new.0);
    write(&new);
    while world.connect(&[]).await.is_err() {
        tokio::task::yield_now().await;
    }
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let mut limits = Limits::default();
    limits.header_timeout = Duration::from_millis(50);
    let world = World::new(limits).await;
    // Nothing, half a record, and after a handshake nothing.
    let mut silent = TcpStream::connect(world.addr).await.expect("a connection");
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    let mut half = TcpStream::connect(world.addr).await.expect("a connection");
    tokio::io::AsyncWriteExt::write_all(&mut half, b"\x16\x03\x01\x02\x00\x01").await.expect("the server reads");
    assert_eq!(half.read(&mut [0; 16]).await.unwrap_or(0), 0);
    for alpn in ["http/1.1", "h2"] {
        let mut idle = world.connect(&[alpn]).await.expect("a connection");
        let mut all = Vec::new();
        let _ = idle.read_to_end(&mut all).await;
    }
}

#[test]
fn what_is_no_certificate_is_refused_in_words() {
    let (good, key) = certificate();
    let (_, other) = certificate();
    check(Tls::from_pem("", &key), "there is no certificate in what should hold one");
    check(Tls::from_pem(&good, ""), "the private key is not PEM: ");
    check(Tls::from_pem(&good, &good), "the private key is not PEM: ");
    check(Tls::from_pem(&good, &other), "the certificate cannot be used: ");
    check(Tls::from_pem_files("/nowhere/cert.pem", "/nowhere/key.pem"), "cannot read `/nowhere/cert.pem`: ");
    check(Tls::from_pem(&good, &key).and_then(|tls| tls.reload().map(|_| tls)), "did not come from files");

    #[track_caller]
    fn check(made: Result<Tls, TlsError>, words: &str) {
        let error = made.expect_err("it cannot be used").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn what_came_over_tls_says_so_and_failed_handshakes_are_counted() {
    let mut world = World::new(Limits::default()).await;
    // A client that does not trust the certificate, and one that speaks no TLS.
    let trusted = std::mem::replace(&mut world.certificates, RootCertStore::empty());
    assert!(world.connect(&["http/1.1"]).await.is_err());
    world.certificates = trusted;
    let mut plain = Client::new(TcpStream::connect(world.addr).await.expect("a connection"));
    plain.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = plain.stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // TLS 1.1 gets a fatal alert.
    let mut old = Client::new(TcpStream::connect(world.addr).await.expect("a connection"));
    let mut hello = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x02".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\x00\x00\x04\xc0\x13\x00\x2f\x01\x00");
    old.raw(&hello).await;
    let mut answer = Vec::new();
    let _ = old.stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"\x15\x03\x03\x00\x02\x02") && answer.len() == 7, "{answer:?}");
    wait_for(&world, |stats| stats.tls_failed == 3 && stats.connections == 0).await;

    let mut client = world.http1().await;
    let open = client.get("EIO=4&transport=polling").await;
    let sid = sid_of(&open.body);
    assert!(world.seen.session().handshake().secure());
    assert_eq!(world.seen.session().handshake().peer_certificate(), None);
    // No downgrade: the same server without TLS knows the session and refuses to go on with it.
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = world.server.clone();
    tokio::spawn(async move { server.serve_stream(far, None).await });
    let refused = Client::new(near).get(&format!("EIO=4&transport=polling&sid={sid}")).await;
    assert_eq!((refused.status, refused.body.as_str()), (400, r#"{"code":3,"message":"Bad request"}"#));
}

async fn wait_for(world: &World, is: impl Fn(&engineio::Stats) -> bool) {
    let waiting = async {
        while !is(&world.server.stats()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(done.is_ok(), "{:?}", world.server.stats());
}

#[test]
fn every_cipher_is_forward_secret_and_authenticated() {
    for suite in &rustls::crypto::ring::default_provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        let forward_secret = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
        let authenticated = name.contains("_GCM_") || name.contains("POLY1305");
        assert!(forward_secret && authenticated, "{name}");
    }
}

#[tokio::test]
async fn handshakes_of_tls_are_limited_in_number() {
    let mut limits = Limits::default();
    limits.max_handshakes = 1;
    let world = World::new(limits).await;
    // One that says nothing keeps the only place; the next one is closed at once.
    let silent = TcpStream::connect(world.addr).await.expect("a connection");
    wait_for(&world, |stats| stats.handshakes == 1).await;
    assert!(world.connect(&["http/1.1"]).await.is_err());
    assert_eq!(world.server.stats().connections_refused, 1);
    drop(silent);
    wait_for(&world, |stats| stats.handshakes == 0).await;
    assert_eq!(world.http1().await.get("EIO=4&transport=polling").await.status, 200);
}

#[tokio::test]
async fn a_stream_of_http2_whose_client_takes_no_answer_ends_the_connection() {
    let mut limits = Limits::default();
    limits.write_timeout = Duration::from_millis(300);
    let world = World::new(limits).await;
    let stream = world.connect(&["h2"]).await.expect("a connection");
    // A window of one byte per stream: the rest of every answer waits.
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(1).handshake::<_, Bytes>(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("a connection");
    let (response, _) = client.send_request(get("/engine.io/?EIO=4&transport=polling"), true).expect("a stream");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    assert!(ended.is_ok(), "the connection goes on");
    wait_for(&world, |stats| stats.stalled_writes == 1 && stats.connections == 0).await;
    drop(response);
}

#[tokio::test]
async fn o12_a_connect_from_a_foreign_page_is_refused() {
    let world = World::new(Limits::default()).await;
    let mut client = world.http2().await;
    let mut request = connect("EIO=4&transport=websocket", "13", "websocket");
    request.headers_mut().insert("origin", "https://evil.example".parse().expect("a value"));
    let (response, _) = client.send_request(request, false).expect("a stream");
    assert_eq!(response.await.expect("an answer").status(), StatusCode::FORBIDDEN);
    assert_eq!((world.server.sessions(), world.server.stats().origin_refused), (0, 1));
}
