//! Who is let in, what a session is bound to, what a client may send, and what answers carry.

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use common::{Answer, Client, Recorder, Seen, World, masked, sid_of};
use engineio::{
    AddressLimits, Cors, Hosts, Hsts, Limits, Origins, OverRate, Rate, RequireTls, Server, SessionBinding,
    TrafficLimits, TrustedProxies,
};
use http::{Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
};

const OPEN: &str = "EIO=4&transport=polling";
/// Longer than anything here takes, for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection in memory from this address.
fn connect_from(world: &World, peer: &str) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = world.server.clone();
    let peer: SocketAddr = format!("{peer}:40000").parse().unwrap();
    tokio::spawn(async move { server.serve_stream(far, Some(peer)).await });
    Client::new(near)
}

/// One GET with further header lines.
async fn ask(world: &World, peer: &str, query: &str, headers: &str) -> Answer {
    let mut client = connect_from(world, peer);
    client.raw(format!("GET /engine.io/?{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes()).await;
    client.answer().await
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn proxies() -> TrustedProxies {
    TrustedProxies::new(["10.0.0.0/8"]).unwrap()
}

/// A POST of nothing to a session, which answers at once.
async fn post(world: &World, peer: &str, sid: &str, headers: &str) -> Answer {
    let mut client = connect_from(world, peer);
    let request =
        format!("POST /engine.io/?{OPEN}&sid={sid} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n{headers}\r\n6");
    client.raw(request.as_bytes()).await;
    client.answer().await
}

#[tokio::test(start_paused = true)]
async fn u17_a_session_that_is_bound_is_unknown_elsewhere() {
    // By address, directly and through a proxy.
    let world = World::new(|builder| {
        builder.trusted_proxies(proxies()).session_binding(SessionBinding::new().address().cookie("login"))
    });
    let opened = ask(&world, "192.0.2.1", OPEN, "Cookie: a=b; login=secret\r\n").await;
    let sid = sid_of(&opened.body);
    for (peer, headers, status) in [
        ("192.0.2.1", "Cookie: login=secret\r\n", 200),
        ("10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\nCookie: login=secret\r\n", 200),
        ("192.0.2.2", "Cookie: login=secret\r\n", 400),
        // H43: what somebody who is no proxy says does not count.
        ("192.0.2.2", "X-Forwarded-For: 192.0.2.1\r\nCookie: login=secret\r\n", 400),
        ("10.0.0.1", "X-Forwarded-For: 192.0.2.2\r\nCookie: login=secret\r\n", 400),
        ("192.0.2.1", "Cookie: login=secrex\r\n", 400),
        ("192.0.2.1", "", 400),
    ] {
        let answer = post(&world, peer, &sid, headers).await;
        assert_eq!(answer.status, status, "{peer} {headers}: {answer:?}");
        if status == 400 {
            assert_eq!(answer.body, r#"{"code":1,"message":"Session ID unknown"}"#);
        }
    }
    let stats = world.server.stats();
    assert_eq!((stats.binding_refused, stats.unknown_sids, stats.sessions), (5, 5, 1));

    // An IPv6 network of a machine is one address.
    let world = World::new(|builder| builder.session_binding(SessionBinding::new().address()));
    let sid = sid_of(&ask(&world, "[2001:db8::1]", OPEN, "").await.body);
    assert_eq!(post(&world, "[2001:db8::ffff]", &sid, "").await.status, 200);
    assert_eq!(post(&world, "[2001:db8:0:1::1]", &sid, "").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn without_tls_requests_are_refused_or_redirected_where_it_is_required() {
    let reject = World::new(|builder| builder.require_tls(RequireTls::Reject).trusted_proxies(proxies()));
    let answer = ask(&reject, "192.0.2.1", OPEN, "").await;
    assert_eq!((answer.status, header(&answer, "location")), (403, None));
    // H43: the word of a client, and that of an absolute target.
    assert_eq!(ask(&reject, "192.0.2.1", OPEN, "X-Forwarded-Proto: https\r\n").await.status, 403);
    let mut client = connect_from(&reject, "192.0.2.1");
    client.raw(b"GET https://h/engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 403);
    assert_eq!(ask(&reject, "10.0.0.1", OPEN, "X-Forwarded-Proto: http\r\n").await.status, 403);
    assert_eq!(ask(&reject, "10.0.0.1", OPEN, "").await.status, 403);
    assert_eq!(ask(&reject, "10.0.0.1", OPEN, "X-Forwarded-Proto: https\r\n").await.status, 200);
    assert_eq!(reject.server.stats().insecure_refused, 5);
    // What is served behind the engine, too.
    let mut client = connect_from(&reject, "192.0.2.1");
    client.raw(b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 403);

    let redirect = World::new(|builder| {
        builder.require_tls(RequireTls::Redirect(Some(8443))).hosts(Hosts::listed(["h", "example.org"]))
    });
    let answer = ask(&redirect, "192.0.2.1", OPEN, "").await;
    let target = "https://h:8443/engine.io/?EIO=4&transport=polling";
    assert_eq!((answer.status, header(&answer, "location")), (308, Some(target)));
    assert_eq!(header(&answer, "strict-transport-security"), None);
    let mut client = connect_from(&redirect, "192.0.2.1");
    client.raw(b"GET /page?a=b HTTP/1.1\r\nHost: example.org:3000\r\n\r\n").await;
    assert_eq!(header(&client.answer().await, "location"), Some("https://example.org:8443/page?a=b"));
    // Nobody is led to a name that is not ours, and no WebSocket is redirected.
    let mut client = connect_from(&redirect, "192.0.2.1");
    client.raw(b"GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 421);
    let answer = connect_from(&redirect, "192.0.2.1").try_upgrade("EIO=4&transport=websocket").await;
    assert_eq!((answer.status, header(&answer, "location")), (403, None));
}

#[tokio::test(start_paused = true)]
async fn a_session_opened_over_tls_never_goes_on_without() {
    let world = World::new(|builder| builder.trusted_proxies(proxies()).cookie(engineio::Cookie::default()));
    let opened = ask(&world, "10.0.0.1", OPEN, "X-Forwarded-Proto: https\r\nOrigin: https://h\r\n").await;
    let sid = sid_of(&opened.body);
    assert!(header(&opened, "set-cookie").is_some_and(|cookie| cookie.contains("; Secure")), "{opened:?}");
    for (peer, headers) in
        [("192.0.2.1", ""), ("192.0.2.1", "X-Forwarded-Proto: https\r\n"), ("10.0.0.1", "X-Forwarded-Proto: http\r\n")]
    {
        let answer = post(&world, peer, &sid, headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, r#"{"code":3,"message":"Bad request"}"#));
    }
    let query = format!("EIO=4&transport=websocket&sid={sid}");
    assert_eq!(connect_from(&world, "192.0.2.1").try_upgrade(&query).await.status, 400);
    assert_eq!(post(&world, "10.0.0.2", &sid, "X-Forwarded-Proto: https\r\n").await.status, 200);
    assert_eq!(world.server.stats().insecure_refused, 4);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_that_ends_tls_the_page_is_of_the_own_origin() {
    let world = World::new(|builder| builder.trusted_proxies(proxies()));
    let page = "Origin: https://h\r\n";
    assert_eq!(ask(&world, "10.0.0.1", OPEN, &format!("{page}X-Forwarded-Proto: https\r\n")).await.status, 200);
    assert_eq!(ask(&world, "10.0.0.1", OPEN, page).await.status, 403);
    assert_eq!(ask(&world, "192.0.2.1", OPEN, &format!("{page}X-Forwarded-Proto: https\r\n")).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_the_server_may_not_read_its_answers_either() {
    // The headers would let this origin read; the policy does not let it in.
    let world = World::new(|builder| {
        builder
            .cors(Cors::allow("https://*.x.com").credentials(true))
            .origins(Origins::listed().allow("https://a.x.com"))
    });
    let good = ask(&world, "192.0.2.1", OPEN, "Origin: https://a.x.com\r\n").await;
    assert_eq!((good.status, header(&good, "access-control-allow-origin")), (200, Some("https://a.x.com")));
    let bad = ask(&world, "192.0.2.1", OPEN, "Origin: https://b.x.com\r\n").await;
    assert_eq!((bad.status, header(&bad, "access-control-allow-origin")), (403, None));
    let mut client = connect_from(&world, "192.0.2.1");
    let preflight = "Host: h\r\nOrigin: https://b.x.com\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    client.raw(format!("OPTIONS /engine.io/?{OPEN} HTTP/1.1\r\n{preflight}").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (204, None));
    // Cookies for everybody are no option at all.
    let built = Server::<Recorder>::builder().cors(Cors::any().credentials(true)).build(Recorder(Arc::default()));
    assert!(built.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_answered_before_there_is_a_session() {
    let world = World::new(|builder| {
        builder
            .challenge(|handshake| {
                let solved = handshake.header("cookie") == Some("solved=yes");
                async move {
                    if solved {
                        return Ok(());
                    }
                    let mut question = Response::new(Bytes::from_static(b"what is six times seven?"));
                    *question.status_mut() = StatusCode::UNAUTHORIZED;
                    Err(question)
                }
            })
            .allow_request(|_| async { Ok(()) })
    });
    let answer = ask(&world, "192.0.2.1", OPEN, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (401, "what is six times seven?"));
    let answer = connect_from(&world, "192.0.2.1").try_upgrade("EIO=4&transport=websocket").await;
    assert_eq!((answer.status, header(&answer, "connection")), (401, Some("close")));
    assert_eq!((world.server.sessions(), world.server.stats().challenged), (0, 2));
    assert_eq!(ask(&world, "192.0.2.1", OPEN, "Cookie: solved=yes\r\n").await.status, 200);
    // An answer that is no refusal is one.
    let world = World::new(|builder| builder.challenge(|_| async { Err(Response::new(Bytes::new())) }));
    assert_eq!(ask(&world, "192.0.2.1", OPEN, "").await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn e09_and_e10_hooks_that_hang_or_panic_cost_their_handshake_only() {
    let mut limits = Limits::default();
    limits.max_handshakes = 2;
    let world = World::new(|builder| {
        builder.limits(limits).allow_request(|handshake| {
            let query = handshake.query().to_owned();
            async move {
                assert!(!query.contains("panic"), "the hook was asked to panic");
                if query.contains("hang") {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        })
    });
    let answer = ask(&world, "192.0.2.1", &format!("{OPEN}&x=panic"), "").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, r#"{"code":3,"message":"Bad request"}"#));
    // Two may hang; whoever comes then is told to come later, and so are they when their time is over.
    let query = format!("{OPEN}&x=hang");
    let mut hanging = [connect_from(&world, "192.0.2.1"), connect_from(&world, "192.0.2.2")];
    for client in &mut hanging {
        client.send_get(&query).await;
    }
    while world.server.stats().handshakes < 2 {
        tokio::task::yield_now().await;
    }
    let busy = ask(&world, "192.0.2.3", OPEN, "").await;
    assert_eq!((busy.status, header(&busy, "retry-after")), (503, Some("5")));
    for client in &mut hanging {
        let answer = client.answer().await;
        assert_eq!((answer.status, header(&answer, "retry-after")), (503, Some("5")));
    }
    assert_eq!(ask(&world, "192.0.2.3", OPEN, "").await.status, 200);
    let stats = world.server.stats();
    assert_eq!((stats.hook_panics, stats.hook_timeouts, stats.handshakes, stats.sessions), (1, 2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_sessions_and_gets_them_back() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let told = refused.clone();
    let mut limits = AddressLimits::default();
    limits.sessions_per_address = 2;
    limits.session_rate = Rate::per_second(1).burst(4);
    let world = World::new(|builder| {
        builder.limit_addresses(limits).trusted_proxies(proxies()).on_refused(move |refused| {
            told.lock().unwrap().push((refused.status, refused.limit, refused.client_ip.map(|ip| ip.to_string())));
        })
    });
    let forwarded = "X-Forwarded-For: 192.0.2.1\r\n";
    let first = sid_of(&ask(&world, "192.0.2.1", OPEN, "").await.body);
    assert_eq!(ask(&world, "10.0.0.1", OPEN, forwarded).await.status, 200);
    let third = ask(&world, "192.0.2.1", OPEN, "").await;
    assert_eq!((third.status, header(&third, "retry-after")), (429, Some("5")));
    assert_eq!(header(&third, "connection"), Some("close"));
    // Somebody else is not concerned.
    assert_eq!(ask(&world, "192.0.2.2", OPEN, "").await.status, 200);
    // One goes, and one may come; it was the fourth, and the fifth is too fast.
    let mut client = connect_from(&world, "192.0.2.1");
    client.post(&format!("{OPEN}&sid={first}"), "1").await;
    while world.server.sessions() > 2 {
        tokio::task::yield_now().await;
    }
    let mut socket = connect_from(&world, "192.0.2.1");
    socket.upgrade("EIO=4&transport=websocket").await;
    drop(socket);
    while world.server.sessions() > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..2 {
        let open = ask(&world, "192.0.2.1", OPEN, "").await;
        if open.status == 200 {
            let sid = sid_of(&open.body);
            connect_from(&world, "192.0.2.1").post(&format!("{OPEN}&sid={sid}"), "1").await;
            while world.server.sessions() > 2 {
                tokio::task::yield_now().await;
            }
        }
    }
    let fast = ask(&world, "192.0.2.1", OPEN, "").await;
    assert_eq!((fast.status, header(&fast, "retry-after")), (429, Some("1")), "{fast:?}");
    let refused = refused.lock().unwrap();
    assert_eq!(refused[0], (429, Some("sessions_per_address"), Some("192.0.2.1".to_owned())));
    assert_eq!(refused.last().unwrap().1, Some("session_rate"));
    assert_eq!(world.server.stats().address_refused, refused.len() as u64);
}

fn slowly(over: OverRate) -> TrafficLimits {
    let mut limits = TrafficLimits::default();
    limits.packets = Rate::per_second(10).burst(5);
    limits.over = over;
    limits
}

#[tokio::test(start_paused = true)]
async fn w55_a_client_that_sends_too_fast_is_read_more_slowly_and_loses_nothing() {
    let world = World::new(|builder| builder.limit_traffic(slowly(OverRate::Delay)));
    let start = tokio::time::Instant::now();
    let mut client = world.open_socket(1 << 16).await;
    for number in 0..45 {
        client.send(&format!("4{number}")).await;
    }
    client.send("4echo:done").await;
    assert_eq!(client.text().await, "4done");
    let messages = world.seen.take_messages();
    assert_eq!(messages[..45], (0..45).map(|number| number.to_string()).collect::<Vec<_>>());
    // 46 packets, 5 of them at once, the others at 10 per second.
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(world.server.stats().rate_delays > 0 && world.server.sessions() == 1);

    // The same over polling: a payload is answered when it has been taken.
    let sid = world.open().await;
    let body = vec!["4x"; 25].join("\x1e");
    let start = tokio::time::Instant::now();
    assert_eq!(world.connect(1 << 16).post(&format!("{OPEN}&sid={sid}"), &body).await.status, 200);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(world.seen.take_messages().len(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_fast_is_disconnected_where_that_is_asked_for() {
    let world = World::new(|builder| builder.limit_traffic(slowly(OverRate::Disconnect)));
    // Pings of the WebSocket count, too.
    let mut client = world.open_socket(1 << 16).await;
    for _ in 0..6 {
        client.raw(&masked(9, b"")).await;
    }
    while client.frame().await.is_some() {}
    let sid = world.open().await;
    let body = vec!["4x"; 25].join("\x1e");
    let answer = world.connect(1 << 16).post(&format!("{OPEN}&sid={sid}"), &body).await;
    assert_eq!(answer.status, 400);
    while world.seen.closed().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.seen.closed(), ["transport error (rate limit)"; 2]);
    assert_eq!(world.server.stats().rate_closed, 2);
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_the_security_headers_where_they_are_asked_for() {
    let world = World::new(|builder| {
        builder.security_headers(true).hsts(Hsts::default()).trusted_proxies(proxies()).headers(|headers, _| {
            headers.insert("referrer-policy", "origin".parse().unwrap());
        })
    });
    let sid = sid_of(&ask(&world, "192.0.2.1", OPEN, "").await.body);
    for (what, answer) in [
        ("an open packet", ask(&world, "192.0.2.1", OPEN, "").await),
        ("a post", post(&world, "192.0.2.1", &sid, "").await),
        ("a refusal", ask(&world, "192.0.2.1", "EIO=4", "").await),
        ("a foreign page", ask(&world, "192.0.2.1", OPEN, "Origin: https://evil.example\r\n").await),
        ("ambiguity", ask(&world, "192.0.2.1", OPEN, "Host: h\r\n").await),
        ("a WebSocket", connect_from(&world, "192.0.2.1").try_upgrade("EIO=4&transport=websocket").await),
        ("nothing", {
            let mut client = connect_from(&world, "192.0.2.1");
            client.raw(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n").await;
            client.answer().await
        }),
    ] {
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"), "{what}: {answer:?}");
        assert_eq!(header(&answer, "x-frame-options"), Some("DENY"), "{what}");
        let policy = header(&answer, "content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{what}");
        let own = matches!(what, "an open packet" | "a post" | "a WebSocket");
        assert_eq!(header(&answer, "referrer-policy"), Some(if own { "origin" } else { "no-referrer" }), "{what}");
        assert_eq!(header(&answer, "strict-transport-security"), None, "{what}");
    }
    let secure = ask(&world, "10.0.0.1", OPEN, "X-Forwarded-Proto: https\r\n").await;
    assert_eq!(header(&secure, "strict-transport-security"), Some("max-age=31536000"));
    let plain = World::new(|builder| builder);
    let answer = ask(&plain, "192.0.2.1", OPEN, "").await;
    assert_eq!((header(&answer, "x-frame-options"), header(&answer, "x-content-type-options")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_server_answers_to_the_names_that_it_was_given() {
    let world = World::new(|builder| builder.hosts(Hosts::listed(["h", "*.example.org"])));
    assert_eq!(ask(&world, "192.0.2.1", OPEN, "").await.status, 200);
    for (host, status) in [("a.example.org", 200), ("example.org", 421), ("localhost", 421), ("h.evil.io", 421)] {
        let mut client = connect_from(&world, "192.0.2.1");
        client.raw(format!("GET /engine.io/?{OPEN} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.status, status, "{host}");
    }
    let built = Server::<Recorder>::builder().hosts(Hosts::listed(["a:80"])).build(Recorder(Arc::default()));
    assert_eq!(
        built.err().map(|error| error.to_string()).as_deref(),
        Some("`a:80` is not a host name such as `example.org` or `*.example.org`")
    );
}

/// A server with a listener of its own, and what its connections came to.
struct Listening {
    server: Server<Recorder>,
    addr: SocketAddr,
    refused: Arc<Mutex<Vec<&'static str>>>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listening(build: impl FnOnce(engineio::Builder) -> engineio::Builder) -> Listening {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let told = refused.clone();
    let builder = Server::<Recorder>::builder().on_connection_refused(move |refused| {
        assert!(refused.remote_addr.is_some());
        told.lock().unwrap().push(refused.reason);
    });
    let server = build(builder).build(Recorder(Arc::new(Seen::default()))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let running = server.clone();
    let task = tokio::spawn(async move { running.serve(listener, engineio::NotFound).await });
    Listening { server, addr, refused, task }
}

impl Listening {
    async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.addr).await.unwrap())
    }

    /// Waits until this many connections are open.
    async fn until_open(&self, count: usize) {
        let waiting = async {
            while self.server.stats().connections != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{:?}", self.server.stats()));
    }

    fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn connections_of_one_address_are_counted_until_their_last_byte() {
    let mut limits = AddressLimits::default();
    limits.connections_per_address = 2;
    let world = listening(|builder| builder.limit_addresses(limits)).await;
    let mut idle = world.connect().await;
    idle.raw(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 404);
    // A WebSocket is a connection still, although HTTP has let it go.
    let mut socket = world.connect().await;
    socket.upgrade("EIO=4&transport=websocket").await;
    socket.text().await;
    world.until_open(2).await;
    let mut third = world.connect().await;
    // It may be gone before this is written.
    let _ = third.stream.write_all(b"GET /x HTTP/1.1\r\n").await;
    let read = tokio::time::timeout(PATIENCE, third.stream.read(&mut [0; 16])).await.unwrap();
    assert!(!read.is_ok_and(|read| read > 0), "it got an answer");
    assert_eq!((world.refused(), world.server.stats().connections_refused), (vec!["connections_per_address"], 1));
    drop(socket);
    world.until_open(1).await;
    let mut next = world.connect().await;
    next.raw(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(next.answer().await.status, 404);
    drop((idle, next));
    world.until_open(0).await;
    assert_eq!(world.server.stats().sessions, 0);
}

#[tokio::test]
async fn h29_http2_on_a_port_for_http1_is_told_so() {
    let world = listening(|builder| builder).await;
    let mut client = world.connect().await;
    client.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.stream.read_to_string(&mut answer)).await.unwrap().ok();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    world.until_open(0).await;
    assert_eq!((world.refused(), world.server.stats().http2_prefaces), (vec!["http2_preface"], 1));
}

#[tokio::test]
async fn connections_that_say_nothing_useful_are_counted_by_what_they_did() {
    let mut limits = Limits::default();
    limits.header_timeout = Duration::from_millis(300);
    let world = listening(|builder| builder.limits(limits)).await;
    // Kept for another request that does not come: nobody's fault.
    let mut idle = world.connect().await;
    idle.raw(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 404);
    assert_eq!(tokio::time::timeout(PATIENCE, idle.stream.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0);
    world.until_open(0).await;
    assert_eq!(world.refused(), [""; 0]);
    // R01: half a head; and something that is none.
    let mut slow = world.connect().await;
    slow.raw(b"GET /x HTTP/1.1\r\nHost:").await;
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, slow.stream.read_to_end(&mut rest)).await.unwrap().ok();
    let mut garbage = world.connect().await;
    garbage.raw(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    tokio::time::timeout(PATIENCE, garbage.stream.read_to_end(&mut rest)).await.unwrap().ok();
    world.until_open(0).await;
    assert_eq!(world.refused(), ["header_timeout", "bad_head"]);
    let stats = world.server.stats();
    assert_eq!((stats.header_timeouts, stats.bad_heads), (1, 1));
}

#[tokio::test]
async fn h19_a_request_of_two_lengths_ends_the_connection_and_is_counted() {
    let world = listening(|builder| builder).await;
    let mut client = world.connect().await;
    client
        .raw(
            b"GET /x HTTP/1.1\r\nHost: h\r\n\r\nPOST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\
              Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /internal HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .await;
    assert_eq!((client.answer().await.status, client.answer().await.status), (404, 400));
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(client.buffer.is_empty() && rest.is_empty(), "{rest:?}");
    world.until_open(0).await;
    assert_eq!((world.refused(), world.server.stats().bad_heads), (vec!["bad_head"], 1));
}

#[tokio::test]
async fn e12_a_client_that_does_not_read_its_answers_is_let_go() {
    let mut limits = Limits::default();
    limits.write_timeout = Duration::from_millis(300);
    let world = listening(|builder| builder.limits(limits)).await;
    let client = world.connect().await;
    let (reads, mut writes) = client.stream.into_split();
    let flood = tokio::spawn(async move {
        let requests = "GET /engine.io/?EIO=4 HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1_000);
        // Until the server has let go.
        while writes.write_all(requests.as_bytes()).await.is_ok() {}
    });
    tokio::time::timeout(PATIENCE, flood).await.expect("the server lets go").unwrap();
    world.until_open(0).await;
    assert_eq!((world.refused(), world.server.stats().stalled_writes), (vec!["write_timeout"], 1));
    drop(reads);
}
