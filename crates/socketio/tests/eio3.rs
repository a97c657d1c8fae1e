//! Clients of Socket.IO 2.x, who speak Engine.IO 3.

mod support;

use socketio::{Auth, Bytes, ConnectError, Data, Namespace, Socket, SocketIo};
use support::{Client, serve};

#[derive(serde::Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
}

fn builder() -> socketio::Builder {
    let root = Namespace::new("/")
        .on("echo", async |socket: Socket, Data(data): Data<Bytes>| {
            socket.emit("echo", &data);
            data
        })
        .on("id", async |socket: Socket| socket.id().clone());
    let admin = Namespace::new("/admin")
        .use_(async |Auth(auth): Auth<Token>| match auth.token.as_str() {
            "secret key" => Ok(()),
            "data" => Err(ConnectError::new("no").data(7)),
            _ => Err(ConnectError::new("not authorized")),
        })
        .on("id", async |socket: Socket| socket.id().clone());
    SocketIo::builder().namespace(root).namespace(admin).allow_eio3(true)
}

#[tokio::test]
async fn the_root_namespace_is_joined_without_being_asked_for() {
    let server = serve(builder()).await;
    let mut client = Client::open_with(server.addr, 3, "").await;
    client.expect("0").await;
    client.send(r#"20["id"]"#).await;
    let sid = client.sid.clone();
    client.expect(&format!(r#"30["{sid}"]"#)).await;
    client.send("0/admin?token=secret%20key").await;
    client.expect("0/admin,").await;
    client.send(r#"2/admin,1["id"]"#).await;
    client.expect(&format!(r#"3/admin,1["/admin#{sid}"]"#)).await;
    // Leaving and coming back gives the same id, which must not be taken.
    for _ in 0..20 {
        client.send_all(&["1/admin", "0/admin?token=secret+key"]).await;
        client.expect("0/admin,").await;
    }
    assert_eq!(server.io.of("/admin").len(), 1);
}

#[tokio::test]
async fn refusals_carry_bare_data() {
    let server = serve(builder()).await;
    let mut client = Client::open_with(server.addr, 3, "").await;
    client.expect("0").await;
    client.send("0/admin?token=x,").await;
    client.expect(r#"4/admin,"not authorized""#).await;
    client.send("0/admin?token=data,").await;
    client.expect("4/admin,7").await;
    client.send("0/nope").await;
    client.expect(r#"4/nope,{"message":"Invalid namespace"}"#).await;
}

#[tokio::test]
async fn binary_arrives_in_both_directions() {
    let server = serve(builder()).await;
    let mut client = Client::open_with(server.addr, 3, "").await;
    client.expect("0").await;
    client.send(r#"51-5["echo",{"_placeholder":true,"num":0}]"#).await;
    client.send_binary(&[1, 2, 3]).await;
    client.expect(r#"51-["echo",{"_placeholder":true,"num":0}]"#).await;
    client.expect_binary(&[1, 2, 3]).await;
    client.expect(r#"61-5[{"_placeholder":true,"num":0}]"#).await;
    client.expect_binary(&[1, 2, 3]).await;
}

#[tokio::test]
async fn old_and_new_clients_get_the_same_broadcast() {
    let server = serve(builder()).await;
    let mut old = Client::open_with(server.addr, 3, "").await;
    old.expect("0").await;
    let (mut new, _) = Client::join(server.addr).await;
    assert_eq!(server.io.emit("x", (1, Bytes::from_static(b"b"))).recipients(), 2);
    for client in [&mut old, &mut new] {
        client.expect(r#"51-["x",1,{"_placeholder":true,"num":0}]"#).await;
        client.expect_binary(b"b").await;
    }
}
