//! No sticky sessions: three servers on one broker, and requests that reach any of them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engineio::ForwardOptions;
use engineio_proto::forward::{self, Side, Verb};
use socketio::{
    Builder, Bytes, ClusterOptions, Cors, Data, DisconnectReason, Health, Membership, MemoryBroker, Namespace,
    SessionBinding, Socket, SocketIo,
};
use socketio_adapter::cluster::wire::Foreign;
use socketio_adapter::cluster::{
    BoxFuture, Bus, BusError, Direct, Envelope, Inbox, MemoryBus, Published, ServerId, Target,
};
use socketio_testkit::{Answer, Endpoint, Http, Message, Running, WebSocket, eventually, serve, within};

const BOUND: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(60);
const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

fn echo() -> Namespace {
    Namespace::new("/")
        .on("echo", async |socket: Socket, Data(data): Data<Bytes>| {
            socket.emit("echo", data);
        })
        .on("text", async |Data(text): Data<String>| text)
        .on("leave", async |socket: Socket| socket.disconnect(true))
}

/// Servers on one broker that know each other.
struct Cluster {
    broker: MemoryBroker,
    servers: Vec<Running>,
    /// Cuts a server off: it is as good as killed.
    cut: Vec<Arc<AtomicBool>>,
}

impl Cluster {
    async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl Fn(Builder) -> Builder) -> Self {
        let broker = MemoryBroker::new(Membership::Heartbeat);
        let (mut servers, mut cut) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let switch = Arc::new(AtomicBool::new(false));
            let bus = Cuttable { bus: broker.bus(), cut: Arc::clone(&switch) };
            let builder = change(SocketIo::builder().namespace(echo())).adapter(bus);
            servers.push(serve(builder).await.expect("the options make sense"));
            cut.push(switch);
        }
        Self { broker, servers, cut }
    }

    fn endpoint(&self, no: usize) -> Endpoint {
        self.servers[no].endpoint()
    }

    async fn http(&self, no: usize) -> Http {
        Http::connect(self.servers[no].addr, None).await.expect("the server accepts")
    }

    /// Opens a polling session on a server.
    async fn open(&self, no: usize) -> String {
        sid_of(&self.http(no).await.get(&self.endpoint(no).target("polling", None)).await.expect("an answer"))
    }

    async fn get(&self, no: usize, sid: &str) -> Answer {
        self.http(no).await.get(&self.endpoint(no).target("polling", Some(sid))).await.expect("an answer")
    }

    async fn post(&self, no: usize, sid: &str, body: &str) -> Answer {
        self.http(no).await.post(&self.endpoint(no).target("polling", Some(sid)), body).await.expect("an answer")
    }

    /// A session on a server that has joined `/`, over requests to all of them.
    async fn join(&self, no: usize) -> String {
        let sid = self.open(no).await;
        let posted = self.post((no + 1) % 3, &sid, "40").await;
        assert_eq!((posted.status, posted.text()), (200, "ok"));
        let answer = self.get((no + 2) % 3, &sid).await;
        assert!(answer.text().starts_with("40{\"sid\":\""), "{answer:?}");
        sid
    }

    /// A poll on a server, once it has reached the session's one.
    async fn park(&self, no: usize, sid: &str) -> Http {
        let before = self.stats(no).forwarded;
        let mut http = self.http(no).await;
        http.queue_get(&self.endpoint(no).target("polling", Some(sid)));
        http.flush().await.expect("written");
        let forwarded = eventually(PATIENCE, || self.stats(no).forwarded > before).await;
        assert!(forwarded, "the poll was not forwarded");
        http
    }

    /// Moves a session to a WebSocket at a server.
    async fn upgrade(&self, no: usize, sid: &str) -> WebSocket {
        let mut socket = WebSocket::open(&self.endpoint(no), Some(sid)).await.expect("a WebSocket");
        socket.queue_text("2probe");
        assert_eq!(socket.next().await.expect("open"), Some(Message::Text("3probe".to_owned())));
        socket.queue_text("5");
        socket.flush().await.expect("written");
        socket
    }

    fn stats(&self, no: usize) -> engineio::Stats {
        self.servers[no].io.engine_stats()
    }

    fn sockets(&self, no: usize) -> usize {
        self.servers[no].io.local().sockets().len()
    }
}

fn sid_of(answer: &Answer) -> String {
    let sid = answer.text().split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
    sid.unwrap_or_else(|| panic!("no session: {answer:?}")).to_owned()
}

#[tokio::test]
async fn polls_and_posts_reach_their_session_from_any_server() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let sid = cluster.join(0).await;
        assert_eq!(sid.len(), 28);
        let event = "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]";
        assert_eq!(cluster.post(2, &sid, &format!("{event}\u{1e}bAQID")).await.status, 200);
        let answer = cluster.get(1, &sid).await;
        assert_eq!(answer.text(), format!("{event}\u{1e}bAQID"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(cluster.stats(0).answered_for_others, 4);
        assert_eq!([cluster.stats(1).forwarded, cluster.stats(2).forwarded], [2, 2]);
        // What breaks the rules is refused as if it had come to the right server, and the session goes on.
        let mut http = cluster.http(1).await;
        http.queue(
            format!("PUT {} HTTP/1.1\r\nHost: x\r\n\r\n", cluster.endpoint(1).target("polling", Some(&sid))).as_bytes(),
        );
        let answer = http.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
        let mut http = cluster.http(1).await;
        http.queue_get(&cluster.endpoint(1).target("websocket", Some(&sid)));
        assert_eq!(http.answer().await.unwrap().text(), r#"{"code":3,"message":"Bad request"}"#);
        let jsonp = format!("{}&j=7", cluster.endpoint(2).target("polling", Some(&sid)));
        assert!(cluster.servers[0].io.local().emit("news", "x").is_ok());
        let answer = cluster.http(2).await.get(&jsonp).await.unwrap();
        assert_eq!(answer.text(), r#"/**/___eio[7]("42[\"news\",\"x\"]");"#);
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=UTF-8"));
    })
    .await;
}

#[tokio::test]
async fn a_websocket_goes_through_the_server_that_it_has_reached() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let sid = cluster.join(0).await;
        let mut socket = cluster.upgrade(1, &sid).await;
        assert!(eventually(PATIENCE, || cluster.stats(0).upgrades == 1).await, "the session did not move");
        // Larger than any window, in both directions at once.
        let data: Vec<u8> = (0..900_000_u32).map(|at| (at * 31) as u8).collect();
        for round in 0..4_u8 {
            socket.queue_text(r#"451-["echo",{"_placeholder":true,"num":0}]"#);
            socket.queue_binary(&[&[round][..], &data].concat());
        }
        for round in 0..4_u8 {
            let text = socket.next().await.unwrap();
            assert_eq!(text, Some(Message::Text(r#"451-["echo",{"_placeholder":true,"num":0}]"#.to_owned())));
            assert!(socket.next().await.unwrap() == Some(Message::Binary([&[round][..], &data].concat())), "{round}");
        }
        for number in 0..2_000 {
            socket.queue_text(&format!(r#"42{number}["text","ä{number}"]"#));
        }
        for number in 0..2_000 {
            let want = format!(r#"43{number}["ä{number}"]"#);
            assert_eq!(socket.next().await.unwrap(), Some(Message::Text(want)));
        }
        // The server says goodbye, and both ends of the tunnel close.
        socket.queue_text(r#"42["leave"]"#);
        let mut last = Vec::new();
        while let Some(message) = socket.next().await.unwrap() {
            if matches!(message, Message::Close(_)) {
                socket.queue_close();
            }
            last.push(message);
        }
        assert!(matches!(last.last(), Some(Message::Close(_))), "{last:?}");
        assert_eq!(cluster.stats(1).tunnels, 1);
        assert!(eventually(PATIENCE, || cluster.sockets(0) == 0).await);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_gone_at_once() {
    within(BOUND, async {
        let reasons = Arc::new(std::sync::Mutex::new(Vec::new()));
        let cluster = Cluster::with(|builder| {
            let reasons = Arc::clone(&reasons);
            builder.namespace(Namespace::new("/watched").on_disconnect(move |reason: DisconnectReason| {
                reasons.lock().unwrap().push(reason.to_string());
                std::future::ready(())
            }))
        })
        .await;
        // While it polls.
        let sid = cluster.open(0).await;
        cluster.post(1, &sid, "40/watched,").await;
        cluster.get(1, &sid).await;
        let poll = cluster.park(2, &sid).await;
        drop(poll);
        assert!(eventually(PATIENCE, || !reasons.lock().unwrap().is_empty()).await, "the poll goes on");
        assert_eq!(cluster.get(2, &sid).await.text(), UNKNOWN);
        // On a WebSocket: closed, ended, and torn.
        for end in 0..3 {
            let sid = cluster.open(0).await;
            cluster.post(1, &sid, "40/watched,").await;
            cluster.get(1, &sid).await;
            let mut socket = cluster.upgrade(1, &sid).await;
            assert!(eventually(PATIENCE, || cluster.stats(0).upgrades == end + 1).await);
            match end {
                0 => {
                    socket.queue_close();
                    socket.flush().await.unwrap();
                }
                1 => drop(socket),
                _ => socket.reset(),
            }
            let count = end as usize + 2;
            assert!(eventually(PATIENCE, || reasons.lock().unwrap().len() == count).await, "the socket goes on: {end}");
        }
        let reasons = reasons.lock().unwrap().clone();
        assert_eq!(reasons, ["transport error", "transport close", "transport close", "transport close"]);
    })
    .await;
}

#[tokio::test]
async fn an_id_of_nobody_is_unknown_and_bothers_nobody() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let own = cluster.open(0).await;
        let foreign = cluster.open(1).await;
        let ids = [
            format!("aaaaaaaaaaaaaaaaaaaa{}", &own[20..]),
            "aaaaaaaaaaaaaaaaaaaaZm9vYmFy".to_owned(),
            "aaaaaaaaaaaaaaaaaaaa".to_owned(),
            own[20..].to_owned(),
            foreign[..20].to_owned(),
            format!("{own}{own}"),
        ];
        for sid in &ids {
            assert_eq!(cluster.get(0, sid).await.text(), UNKNOWN, "{sid}");
            assert_eq!(cluster.post(0, sid, "40").await.text(), UNKNOWN, "{sid}");
            let refused = WebSocket::try_open(&cluster.endpoint(0), Some(sid)).await.unwrap();
            assert_eq!(refused.expect_err("a stolen session").text(), "Session ID unknown", "{sid}");
        }
        assert_eq!((cluster.stats(0).forwarded, cluster.stats(0).unknown_sids), (0, ids.len() as u64 * 3));
        // One that its server does not know.
        let sid = format!("aaaaaaaaaaaaaaaaaaaa{}", &foreign[20..]);
        let answer = cluster.get(0, &sid).await;
        assert_eq!((answer.status, answer.text()), (400, UNKNOWN));
        assert_eq!(cluster.stats(1).unknown_sids, 1);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_dies_takes_its_sessions_and_no_request_waits_for_it() {
    within(BOUND, async {
        let mut options = ClusterOptions::default();
        options.heartbeat_interval = Duration::from_millis(200);
        options.heartbeat_timeout = Duration::from_secs(4);
        let cluster = Cluster::with(|builder| builder.cluster_options(options.clone())).await;
        let (polling, upgraded) = (cluster.join(0).await, cluster.join(0).await);
        let other = cluster.join(2).await;
        let mut socket = cluster.upgrade(1, &upgraded).await;
        let mut poll = cluster.park(1, &polling).await;
        cluster.cut[0].store(true, Ordering::SeqCst);
        let (answer, end) = tokio::join!(poll.answer(), async { while let Ok(Some(_)) = socket.next().await {} });
        let (answer, ()) = (answer.unwrap(), end);
        assert_eq!((answer.status, answer.text()), (400, UNKNOWN));
        // It is known now: nobody waits any more.
        assert_eq!(cluster.get(1, &polling).await.text(), UNKNOWN);
        assert!(cluster.stats(1).forwards_failed >= 1);
        // The others are not concerned.
        assert!(cluster.servers[2].io.local().emit("news", 1).is_ok());
        assert_eq!(cluster.get(1, &other).await.text(), r#"42["news",1]"#);
        // It has noticed, too: who was tunnelled has gone.
        assert!(eventually(PATIENCE, || cluster.sockets(0) == 0).await, "{}", cluster.sockets(0));
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closes_says_so() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let (polling, upgraded) = (cluster.join(0).await, cluster.join(0).await);
        let mut socket = cluster.upgrade(1, &upgraded).await;
        assert!(eventually(PATIENCE, || cluster.stats(0).upgrades == 1).await);
        let mut poll = cluster.park(2, &polling).await;
        let closing = cluster.servers[0].io.clone();
        let closing = tokio::spawn(async move { closing.close().await });
        let answer = poll.answer().await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "1"));
        let mut last = None;
        while let Some(message) = socket.next().await.unwrap() {
            if matches!(message, Message::Close(_)) {
                socket.queue_close();
            }
            last = Some(message);
        }
        assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
        closing.await.unwrap();
        // Unknown at once, without a question.
        let before = cluster.stats(1).forwarded;
        assert_eq!(cluster.get(1, &polling).await.text(), UNKNOWN);
        assert_eq!(cluster.stats(1).forwarded, before);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closes_lets_the_clients_of_others_go() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let (polling, upgraded) = (cluster.join(0).await, cluster.join(0).await);
        let mut socket = cluster.upgrade(1, &upgraded).await;
        let mut poll = cluster.park(1, &polling).await;
        let closing = cluster.servers[1].io.clone();
        let closing = tokio::spawn(async move { closing.close().await });
        assert_eq!(poll.answer().await.unwrap().status, 503);
        while let Ok(Some(_)) = socket.next().await {}
        closing.await.unwrap();
        assert!(eventually(PATIENCE, || cluster.sockets(0) == 0).await);
    })
    .await;
}

#[tokio::test]
async fn without_the_broker_only_sessions_of_other_servers_suffer() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let (polling, upgraded, local) = (cluster.join(0).await, cluster.join(0).await, cluster.join(1).await);
        let mut socket = cluster.upgrade(1, &upgraded).await;
        let mut poll = cluster.park(1, &polling).await;
        cluster.broker.set_down(true);
        assert_eq!(poll.answer().await.unwrap().status, 503);
        while let Ok(Some(_)) = socket.next().await {}
        let answer = cluster.get(1, &polling).await;
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        // Who has reached the right server notices nothing.
        cluster.post(1, &local, r#"420["text","hi"]"#).await;
        assert_eq!(cluster.get(1, &local).await.text(), r#"430["hi"]"#);
        assert!(eventually(PATIENCE, || cluster.sockets(0) == 0).await);
        cluster.broker.set_down(false);
        assert_eq!(cluster.servers[1].io.adapter_health(), Some(Health::Up));
        let sid = cluster.join(0).await;
        let mut socket = cluster.upgrade(2, &sid).await;
        socket.queue_text(r#"420["text","again"]"#);
        assert_eq!(socket.next().await.unwrap(), Some(Message::Text(r#"430["again"]"#.to_owned())));
    })
    .await;
}

#[tokio::test]
async fn bodies_are_measured_where_they_arrive() {
    within(BOUND, async {
        let cluster = Cluster::with(|builder| builder.max_payload(10_000)).await;
        let sid = cluster.join(0).await;
        let answer = cluster.post(1, &sid, &format!("42[\"text\",\"{}\"]", "x".repeat(20_000))).await;
        assert_eq!(answer.status, 413);
        let mut http = cluster.http(1).await;
        http.queue(
            format!(
                "POST {} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
                cluster.endpoint(1).target("polling", Some(&sid))
            )
            .as_bytes(),
        );
        assert_eq!(http.answer().await.unwrap().status, 415);
        // The session goes on.
        let text = "x".repeat(9_900);
        assert_eq!(cluster.post(2, &sid, &format!("420[\"text\",\"{text}\"]")).await.status, 200);
        assert_eq!(cluster.get(1, &sid).await.text(), format!("430[\"{text}\"]"));
        assert_eq!((cluster.stats(1).oversize, cluster.stats(0).oversize), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn answers_are_compressed_and_shared_with_pages_as_always() {
    within(BOUND, async {
        let cluster = Cluster::with(|builder| builder.cors(Cors::allow("https://page.example"))).await;
        let sid = cluster.join(0).await;
        assert!(cluster.servers[0].io.local().emit("news", "x".repeat(5_000)).is_ok());
        let ask = async |no: usize, origin: &str| {
            let mut http = cluster.http(no).await;
            let target = cluster.endpoint(no).target("polling", Some(&sid));
            http.queue(
                format!(
                    "GET {target} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nSec-Fetch-Site: cross-site\r\n\
                     Accept-Encoding: gzip\r\n\r\n"
                )
                .as_bytes(),
            );
            http.answer().await.unwrap()
        };
        let refused = ask(1, "https://evil.example").await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None));
        // It was refused where it came to.
        assert_eq!(cluster.stats(0).refused, 0);
        let answer = ask(1, "https://page.example").await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")), "{answer:?}");
        assert!(answer.body.len() < 500);
        let allowed = answer.head.to_lowercase().matches("access-control-allow-origin: https://page.example").count();
        assert_eq!(allowed, 1, "{}", answer.head);
    })
    .await;
}

#[tokio::test]
async fn what_a_session_is_bound_to_holds_through_every_server() {
    within(BOUND, async {
        let binding = SessionBinding::new().address().cookie("login");
        let cluster = Cluster::with(|builder| builder.session_binding(binding.clone())).await;
        let ask = async |no: usize, address: u8, cookie: &str, sid: Option<&str>| {
            let source = Some(Ipv4Addr::new(127, 0, 0, address));
            let mut http = Http::connect_from(source, cluster.servers[no].addr, None).await.unwrap();
            let target = cluster.endpoint(no).target("polling", sid);
            http.queue(format!("GET {target} HTTP/1.1\r\nHost: x\r\nCookie: a=b; {cookie}\r\n\r\n").as_bytes());
            http.answer().await.unwrap()
        };
        let sid = sid_of(&ask(0, 2, "login=me", None).await);
        for (address, cookie) in [(3, "login=me"), (2, "login=you"), (2, "")] {
            assert_eq!(ask(1, address, cookie, Some(&sid)).await.text(), UNKNOWN, "{address} {cookie}");
        }
        assert_eq!(cluster.stats(0).binding_refused, 3);
        let session = async {
            let source = Some(Ipv4Addr::new(127, 0, 0, 2));
            let mut http = Http::connect_from(source, cluster.servers[2].addr, None).await.unwrap();
            let target = cluster.endpoint(2).target("polling", Some(&sid));
            http.queue(
                format!("POST {target} HTTP/1.1\r\nHost: x\r\nCookie: login=me\r\nContent-Length: 2\r\n\r\n40")
                    .as_bytes(),
            );
            http.answer().await.unwrap()
        };
        assert_eq!(session.await.text(), "ok");
        assert!(ask(1, 2, "login=me", Some(&sid)).await.text().starts_with("40{"));
    })
    .await;
}

#[tokio::test]
async fn what_others_send_is_bounded_and_junk_is_counted() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let sid = cluster.join(0).await;
        let tag = forward::ServerTag::random(*b"nobody");
        let forged = |message: &forward::Message<'_>| cluster.broker.send(forward::encode(&tag, message));
        for junk in [&b""[..], b"ef", b"ef\x01\x04", b"ef\x02\x02Zm9vYmFy", b"\xc1\xff", b"{\"uid\":1}"] {
            cluster.broker.send(junk.to_vec());
        }
        assert_eq!(cluster.stats(0).forward_foreign, 6);
        let request = |target, method| forward::Request {
            method,
            target,
            headers: vec![("host", b"x")],
            secure: true,
            peer: None,
            client: None,
            certificate: None,
            body: b"1",
        };
        // No session is opened for another server, and none is found without its id.
        for (id, target, method) in [
            (1, "/socket.io/?EIO=4&transport=polling", "GET"),
            (2, "/socket.io/?EIO=4&transport=polling&sid=aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "POST"),
            (3, "x y", "GET"),
            (4, "/socket.io/?EIO=4&transport=websocket", "GET"),
            (5, "", "\u{1}"),
        ] {
            forged(&forward::Message::Request(id, request(target, method)));
        }
        // Numbers that nobody has, with everything that can be said.
        for side in [Side::Asker, Side::Owner] {
            for id in 0..50 {
                let data = Verb::Data { place: 0, bytes: b"\x81\x85" };
                for verb in [data, Verb::Allow(u64::MAX), Verb::End(u64::MAX), Verb::Reset] {
                    forged(&forward::Message::Exchange { side, id, verb });
                }
                let answer = forward::Answer { status: 101, headers: vec![], body: b"x" };
                forged(&forward::Message::Answer(id, answer));
            }
        }
        forged(&forward::Message::Hello);
        forged(&forward::Message::Goodbye);
        let opened = cluster.servers.iter().map(|server| server.io.engine_stats().opened).sum::<u64>();
        assert_eq!(opened, 1);
        // All goes on.
        assert_eq!(cluster.post(1, &sid, r#"420["text","hi"]"#).await.status, 200);
        assert_eq!(cluster.get(2, &sid).await.text(), r#"430["hi"]"#);
    })
    .await;
}

#[tokio::test]
async fn a_session_has_few_requests_on_their_way() {
    within(BOUND, async {
        let cluster = Cluster::start().await;
        let sid = cluster.open(0).await;
        // The server of the session does not answer, and nobody knows yet.
        cluster.cut[0].store(true, Ordering::SeqCst);
        let mut parked = Vec::new();
        for _ in 0..ForwardOptions::default().max_exchanges_per_session {
            parked.push(cluster.park(1, &sid).await);
        }
        let answer = cluster.get(1, &sid).await;
        assert_eq!((answer.status, answer.text()), (503, "too many requests for other servers"));
        // Another server counts for itself, and who gives up makes room.
        let _other = cluster.park(2, &sid).await;
        parked.pop();
        assert!(eventually(PATIENCE, || cluster.stats(1).forwards_failed == 1).await);
        let before = cluster.stats(1).forwarded;
        let mut http = cluster.http(1).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while cluster.stats(1).forwarded == before && tokio::time::Instant::now() < deadline {
            http = cluster.http(1).await;
            http.queue_get(&cluster.endpoint(1).target("polling", Some(&sid)));
            http.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(http);
        assert_eq!(cluster.stats(1).forwarded, before + 1);
    })
    .await;
}

#[tokio::test]
async fn old_clients_reach_their_session_from_any_server_too() {
    within(BOUND, async {
        let cluster = Cluster::with(|builder| builder.allow_eio3(true)).await;
        let endpoint = |no: usize| cluster.endpoint(no).eio3().b64();
        let open = cluster.http(0).await.get(&endpoint(0).target("polling", None)).await.unwrap();
        let sid = sid_of(&open);
        let target = |no: usize| endpoint(no).target("polling", Some(&sid));
        let mut seen = cluster.http(1).await.get(&target(1)).await.unwrap().text().to_owned();
        while !seen.contains("40") {
            seen.push_str(cluster.http(1).await.get(&target(1)).await.unwrap().text());
        }
        let posted = cluster.http(2).await.post(&target(2), r#"19:420["text","hello"]"#).await.unwrap();
        assert_eq!(posted.text(), "ok");
        assert_eq!(cluster.http(1).await.get(&target(1)).await.unwrap().text(), r#"12:430["hello"]"#);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_told_once() {
    within(BOUND, async {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let cluster = Cluster::with(|builder| {
            let told = Arc::clone(&told);
            builder.on_refused(move |refused| {
                told.lock().unwrap().push((refused.status, refused.code, refused.client_ip.map(|ip| ip.to_string())));
            })
        })
        .await;
        let sid = cluster.open(0).await;
        let unknown = format!("aaaaaaaaaaaaaaaaaaaa{}", &sid[20..]);
        let mut http =
            Http::connect_from(Some(Ipv4Addr::new(127, 0, 0, 9)), cluster.servers[1].addr, None).await.unwrap();
        let answer = http.get(&cluster.endpoint(1).target("polling", Some(&unknown))).await.unwrap();
        assert_eq!(answer.text(), UNKNOWN);
        // By the server of the session, which knows the client's address.
        assert_eq!(*told.lock().unwrap(), [(400, Some(1), Some("127.0.0.9".to_owned()))]);
    })
    .await;
}

#[tokio::test]
async fn forwarding_can_be_turned_off() {
    within(BOUND, async {
        let cluster = Cluster::with(|builder| builder.forward_requests(false)).await;
        let sid = cluster.open(0).await;
        assert_eq!(sid.len(), 20);
        assert_eq!(cluster.get(1, &sid).await.text(), UNKNOWN);
        assert_eq!(cluster.post(0, &sid, "40").await.status, 200);
    })
    .await;
}

/// A bus that can be cut: nothing goes out and nothing comes in, without a word.
#[derive(Debug)]
struct Cuttable {
    bus: MemoryBus,
    cut: Arc<AtomicBool>,
}

impl Cuttable {
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

impl Bus for Cuttable {
    fn membership(&self) -> Membership {
        self.bus.membership()
    }

    fn start(&self, id: ServerId, inbox: Arc<dyn Inbox>) {
        self.bus.start(id, Arc::new(CutInbox { inbox, cut: Arc::clone(&self.cut) }));
    }

    fn open(&self, namespace: &str) {
        self.bus.open(namespace);
    }

    fn shut(&self, namespace: &str) {
        self.bus.shut(namespace);
    }

    fn publish(&self, envelope: Envelope, to: Target) -> Result<Published, BusError> {
        if self.is_cut() { Ok(Published::Queued) } else { self.bus.publish(envelope, to) }
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }

    fn health(&self) -> Health {
        self.bus.health()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.bus.close()
    }
}

impl Direct for Cuttable {
    fn listen(&self, address: &str) {
        Direct::listen(&self.bus, address);
    }

    fn send(&self, to: Option<&str>, bytes: Vec<u8>) -> Result<(), BusError> {
        if self.is_cut() { Ok(()) } else { Direct::send(&self.bus, to, bytes) }
    }
}

struct CutInbox {
    inbox: Arc<dyn Inbox>,
    cut: Arc<AtomicBool>,
}

impl CutInbox {
    fn unless_cut(&self, f: impl FnOnce(&dyn Inbox)) {
        if !self.cut.load(Ordering::SeqCst) {
            f(&*self.inbox);
        }
    }
}

impl Inbox for CutInbox {
    fn received(&self, envelope: Envelope, offset: Option<Arc<str>>) {
        self.unless_cut(|inbox| inbox.received(envelope, offset));
    }

    fn direct(&self, bytes: &[u8]) {
        self.unless_cut(|inbox| inbox.direct(bytes));
    }

    fn foreign(&self, why: &Foreign) {
        self.unless_cut(|inbox| inbox.foreign(why));
    }

    fn lost(&self, messages: u64) {
        self.inbox.lost(messages);
    }

    fn health(&self, health: Health) {
        self.inbox.health(health);
    }

    fn has_room(&self, namespace: &str, room: &str) -> bool {
        self.inbox.has_room(namespace, room)
    }
}
