//! Our client through proxies that are written here, byte by byte: HTTP `CONNECT` and SOCKS 5, such as let it through and such
//! as do not.

mod client_common;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use client_common::{BOUND, each_way, over, server};
use socketio_client::{
    Client, ClientBuilder, ConnectFailure, Proxy, SimpleClient, Transport, TransportError, TunnelError,
};
use socketio_testkit::{eventually, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A name that nobody but the proxy can look up.
const HIDDEN: &str = "server.invalid";
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n";
const GRANTED: &[u8] = &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80];

/// What a proxy does when it is asked.
#[derive(Clone, Copy)]
enum Mood {
    LetsThrough,
    /// Reads on and says nothing.
    Silent,
    /// Gives this answer.
    Says(&'static [u8]),
    /// Lets everything through but WebSockets, whose requests it swallows.
    SwallowsWebSockets,
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Socks,
    /// The user is `ann`, the password `secret`.
    SocksWithPassword,
}

/// A proxy, and what it was asked for.
struct ProxyServer {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ProxyServer {
    async fn start(kind: Kind, server: SocketAddr, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { addr: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&proxy.asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    // Clients hang up as they like.
                    let _ = match kind {
                        Kind::Http => http(stream, server, mood, &asked).await,
                        Kind::Socks => socks(stream, server, mood, &asked, false).await,
                        Kind::SocksWithPassword => socks(stream, server, mood, &asked, true).await,
                    };
                });
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A client of the hidden server through this proxy.
    fn client(&self, scheme: &str, userinfo: &str) -> ClientBuilder {
        let proxy = Proxy::new(&format!("{scheme}://{userinfo}{}", self.addr)).unwrap();
        Client::builder(&format!("http://{HIDDEN}:4321/")).proxy(proxy)
    }
}

async fn http(mut stream: TcpStream, server: SocketAddr, mood: Mood, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
    match mood {
        Mood::LetsThrough | Mood::SwallowsWebSockets => {}
        Mood::Silent => return stay(stream).await,
        Mood::Says(answer) => {
            stream.write_all(answer).await?;
            return stay(stream).await;
        }
    }
    let mut server = TcpStream::connect(server).await?;
    stream.write_all(ESTABLISHED).await?;
    if matches!(mood, Mood::SwallowsWebSockets) {
        let mut request = vec![0; "GET /socket.io/?EIO=4&transport=w".len()];
        stream.read_exact(&mut request).await?;
        if request.ends_with(b"w") {
            asked.lock().unwrap().push("swallowed".to_owned());
            return stay(stream).await;
        }
        server.write_all(&request).await?;
    }
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

async fn socks(
    mut stream: TcpStream,
    server: SocketAddr,
    mood: Mood,
    asked: &Mutex<Vec<String>>,
    wants_password: bool,
) -> io::Result<()> {
    if matches!(mood, Mood::Silent) {
        return stay(stream).await;
    }
    assert_eq!(stream.read_u8().await?, 5);
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    let method = if wants_password { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    if wants_password {
        assert_eq!(stream.read_u8().await?, 1);
        let login = (word(&mut stream).await?, word(&mut stream).await?);
        if login != ("ann".to_owned(), "secret".to_owned()) {
            return stream.write_all(&[1, 1]).await;
        }
        stream.write_all(&[1, 0]).await?;
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => Ipv4Addr::from_bits(stream.read_u32().await?).to_string(),
        3 => word(&mut stream).await?,
        other => panic!("an address of kind {other}"),
    };
    let to = format!("{host}:{}", stream.read_u16().await?);
    asked.lock().unwrap().push(to);
    if let Mood::Says(answer) = mood {
        stream.write_all(answer).await?;
        return stay(stream).await;
    }
    let mut server = TcpStream::connect(server).await?;
    stream.write_all(GRANTED).await?;
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

async fn word(stream: &mut TcpStream) -> io::Result<String> {
    let mut word = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut word).await?;
    Ok(String::from_utf8(word).unwrap())
}

/// Until the client hangs up.
async fn stay(mut stream: TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// Connects, hears something, asks something.
async fn works(builder: ClientBuilder) {
    let mut client = SimpleClient::from_builder(builder).await.unwrap();
    assert_eq!(client.receive().await.unwrap().name(), "first");
    assert_eq!(client.call::<i64>("add", (2, 3)).await, Ok(5));
    client.close().await;
}

#[tokio::test]
async fn every_transport_goes_through_an_http_proxy() {
    let server = server().await;
    each_way(async |way| {
        let proxy = ProxyServer::start(Kind::Http, server.addr, Mood::LetsThrough).await;
        works(over(proxy.client("http", "ann:p%40ss@"), way)).await;
        let asked = proxy.asked();
        let want = "CONNECT server.invalid:4321 HTTP/1.1\r\nHost: server.invalid:4321\r\n\
            Proxy-Authorization: Basic YW5uOnBAc3M=\r\n\r\n";
        assert!(asked.iter().all(|request| request == want), "{asked:?}");
        // A WebSocket is one connection; polling has one for GETs and one for POSTs, an upgrade a third.
        let at_least = if way.0 == "websocket" { 1 } else { 2 };
        assert!(asked.len() >= at_least, "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn every_transport_goes_through_a_socks_proxy() {
    let server = server().await;
    each_way(async |way| {
        let proxy = ProxyServer::start(Kind::SocksWithPassword, server.addr, Mood::LetsThrough).await;
        works(over(proxy.client("socks5h", "ann:secret@"), way)).await;
        let asked = proxy.asked();
        assert!(!asked.is_empty() && asked.iter().all(|to| to == "server.invalid:4321"), "{asked:?}");
    })
    .await;
    within(BOUND, async {
        // A connection of the application's own making leads to the proxy.
        let proxy = ProxyServer::start(Kind::Socks, server.addr, Mood::LetsThrough).await;
        let to = proxy.addr;
        let builder = Client::builder(&format!("http://{HIDDEN}/")).connector(move |host, port| {
            assert_eq!((host.as_str(), port), ("proxy.invalid", 1080));
            TcpStream::connect(to)
        });
        works(builder.proxy(Proxy::new("socks5h://proxy.invalid").unwrap())).await;
        assert!(proxy.asked().iter().all(|to| to == "server.invalid:80") && !proxy.asked().is_empty());
        // This one is told an address.
        let proxy = ProxyServer::start(Kind::Socks, server.addr, Mood::LetsThrough).await;
        let url = format!("http://localhost:{}", server.addr.port());
        let builder = Client::builder(&url).transports([Transport::WebSocket]);
        works(builder.proxy(Proxy::new(&format!("socks5://{}", proxy.addr)).unwrap())).await;
        let asked = proxy.asked();
        assert!(["127.0.0.1", "::1"].iter().any(|ip| asked[0].starts_with(ip)), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_does_not_let_it_through_is_a_typed_error() {
    let server = server().await;
    let http = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    for transport in [Transport::Polling, Transport::WebSocket] {
        check(Kind::Http, "http", "", Mood::Says(http.as_bytes()), transport, TunnelError::Credentials).await;
        let forbidden = Mood::Says(b"HTTP/1.1 403 Forbidden\r\n\r\n<html>");
        check(Kind::Http, "http", "", forbidden, transport, TunnelError::Status(403)).await;
        let garbage = Mood::Says(b"\0\0\0\0\0\0\0\0");
        check(Kind::Http, "http", "", garbage, transport, TunnelError::Malformed("not HTTP")).await;
        // The server would speak for the proxy.
        let early = Mood::Says(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        check(Kind::Http, "http", "", early, transport, TunnelError::Malformed("bytes behind the head")).await;
        let refused = Mood::Says(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
        check(Kind::Socks, "socks5h", "", refused, transport, TunnelError::Refused("connection refused")).await;
        let (with_password, let_in) = (Kind::SocksWithPassword, Mood::LetsThrough);
        check(with_password, "socks5h", "", let_in, transport, TunnelError::Credentials).await;
        check(with_password, "socks5h", "ann:wrong@", let_in, transport, TunnelError::Credentials).await;
    }

    let nobody = Client::builder(&format!("http://{}", server.addr)).proxy(Proxy::new("http://127.0.0.1:1").unwrap());
    let failure = within(BOUND, nobody.connect()).await.unwrap_err();
    let ConnectFailure::Transport(error) = &failure else { panic!("{failure}") };
    assert!(matches!(**error, TransportError::Io(_)), "{failure}");

    async fn check(kind: Kind, scheme: &str, userinfo: &str, mood: Mood, transport: Transport, want: TunnelError) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let proxy = ProxyServer::start(kind, nowhere, mood).await;
        let builder = proxy.client(scheme, userinfo).transports([transport]).upgrade(false);
        let failure = within(BOUND, builder.connect()).await.unwrap_err();
        let ConnectFailure::Transport(error) = &failure else { panic!("{failure}") };
        let TransportError::Proxy(error) = &**error else { panic!("{failure}") };
        assert_eq!(*error, want);
    }
}

#[tokio::test]
async fn a_proxy_that_never_answers_costs_the_timeout() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for (kind, scheme) in [(Kind::Http, "http"), (Kind::Socks, "socks5h")] {
        for transport in [Transport::Polling, Transport::WebSocket] {
            let proxy = ProxyServer::start(kind, nowhere, Mood::Silent).await;
            let builder = proxy.client(scheme, "").transports([transport]).timeout(Duration::from_millis(200));
            let failure = within(BOUND, builder.connect()).await.unwrap_err();
            assert_eq!(failure.to_string(), "timeout");
        }
    }
}

#[tokio::test]
async fn polling_goes_on_while_the_proxy_keeps_the_websocket_waiting() {
    let server = server().await;
    within(BOUND, async {
        let proxy = ProxyServer::start(Kind::Http, server.addr, Mood::SwallowsWebSockets).await;
        let socket = proxy.client("http", "").connect().await.unwrap();
        assert!(eventually(BOUND, || proxy.asked().contains(&"swallowed".to_owned())).await);
        assert_eq!(socket.emit_with_ack::<i64>("add", (2, 3)).await, Ok(5));
        socket.close().await;
    })
    .await;
}
