//! What handlers may take: of the request, of the connection, of the application.

mod support;

use std::sync::{Arc, Mutex};

use socketio::{
    Auth, ClientIp, ConnectInfo, Data, Extension, ForwardedHeader, Headers, Namespace, Query, Revision, Socket,
    SocketIo, State, Transport, TransportName, TrustedProxies,
};
use support::{Client, http, serve};

#[derive(serde::Deserialize)]
struct Room {
    room: u32,
    #[serde(default)]
    tag: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Token {
    token: String,
}

fn namespace() -> Namespace {
    Namespace::new("/")
        .state(7_u8)
        .use_(async |socket: Socket, Auth(auth): Auth<Token>| -> Result<(), &'static str> {
            socket.extensions().insert(auth.token);
            Ok(())
        })
        .on("query", async |Query(query): Query<Room>| (query.room, query.tag))
        .on("headers", async |Headers(headers): Headers| {
            headers.get_all("x-twice").iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        })
        .on("ip", async |ClientIp(ip): ClientIp| ip.unwrap().to_string())
        .on("info", async |info: ConnectInfo, TransportName(transport): TransportName| {
            assert_eq!((info.transport, info.revision, info.secure), (Transport::WebSocket, Revision::V4, false));
            assert!(
                transport == Transport::WebSocket && info.address.is_some_and(|address| address.ip().is_loopback())
            );
            assert!(info.issued <= std::time::SystemTime::now());
        })
        .on("all", async |State(state): State<u8>, token: Extension<String>, Data(data): Data<u8>| {
            (state, token.to_string(), data)
        })
}

#[tokio::test]
async fn handlers_take_query_headers_address_and_state() {
    let server = serve(SocketIo::builder().namespace(namespace())).await;
    let mut client = Client::open_with(server.addr, 4, "&room=0&room=5&tag=a&tag=b%20c").await;
    client.connect("/", r#"{"token":"t"}"#).await;
    for (event, answer) in [
        (r#"21["query"]"#, r#"31[5,["a","b c"]]"#),
        (r#"22["headers"]"#, "32[[]]"),
        (r#"23["ip"]"#, r#"33["127.0.0.1"]"#),
        (r#"24["info"]"#, "34[]"),
        (r#"25["all",3]"#, r#"35[7,"t",3]"#),
    ] {
        client.send(event).await;
        client.expect(answer).await;
    }
}

#[tokio::test]
async fn an_extractor_that_fails_answers_the_event_and_reaches_the_hook_or_refuses_the_client() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&seen);
    let builder = SocketIo::builder()
        .namespace(namespace())
        .namespace(Namespace::new("/strict").on_connect(async |Query(_): Query<Room>| ()))
        .on_error(move |_, event, error| hook.lock().unwrap().push(format!("{event}: {}", error.error().message())));
    let server = serve(builder).await;
    let mut client = Client::open_with(server.addr, 4, "&room=many").await;
    client.connect("/", r#"{"token":"t"}"#).await;
    client.send(r#"21["query"]"#).await;
    let message = "`many` is not a whole number in range";
    client.expect(&format!(r#"31[{{"error":{{"code":"bad_request","message":"{message}"}}}}]"#)).await;
    client.send(r#"2["query"]"#).await;
    client.send("0/strict,").await;
    client.expect(&format!(r#"4/strict,{{"message":"{message}","data":{{"code":"bad_request"}}}}"#)).await;
    assert_eq!(*seen.lock().unwrap(), [format!("query: {message}"), format!("query: {message}")]);
}

#[tokio::test]
async fn only_trusted_proxies_say_who_the_client_is() {
    let proxies = TrustedProxies::new(["loopback"]).unwrap();
    let standard = proxies.clone().header(ForwardedHeader::Forwarded);
    for (proxies, want) in [(None, "127.0.0.1"), (Some(proxies), "198.51.100.7"), (Some(standard), "2001:db8::9")] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&seen);
        let mut builder = SocketIo::builder().namespace(Namespace::new("/"));
        if let Some(proxies) = proxies.clone() {
            builder = builder.trusted_proxies(proxies);
        }
        // The hook of the handshake asks for itself.
        let builder = builder.allow_request(move |request| {
            let ip = request.client_ip(&proxies.clone().unwrap_or_default());
            hook.lock().unwrap().push(ip.unwrap().to_string());
            async { Ok(()) }
        });
        let server = serve(builder).await;
        let headers = "X-Forwarded-For: 1.1.1.1, 198.51.100.7\r\nForwarded: for=\"[2001:db8::9]\"\r\n";
        let target = "/socket.io/?EIO=4&transport=polling";
        let (status, body) = http(server.addr, "GET", target, headers, b"").await;
        assert_eq!(status, 200);
        assert_eq!(*seen.lock().unwrap(), [want]);
        let sid = String::from_utf8(body).unwrap();
        let sid = sid.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let (status, _) = http(server.addr, "POST", &format!("{target}&sid={sid}"), "", b"40").await;
        assert_eq!(status, 200);
        let (_, answer) = http(server.addr, "GET", &format!("{target}&sid={sid}"), "", b"").await;
        assert!(answer.starts_with(b"40{"), "{}", String::from_utf8_lossy(&answer));
        let sockets = server.io.fetch_sockets().await;
        let ips: Vec<String> =
            server.io.sockets().iter().map(|socket| socket.handshake().client_ip().unwrap().to_string()).collect();
        assert_eq!(ips, [want]);
        // Node's `address` is the peer's, whoever that is.
        assert_eq!(sockets[0].handshake().address, "127.0.0.1");
    }
}
