//! A chat behind tokens, a policy by role, checked data and rates, with its security events on standard output.
//!
//! `cargo run -p socketio-auth --example secure_chat -- keys.json [port]`, where `keys.json` is the JWKS of whoever issues the
//! tokens; then `io({ auth: { token: "…" } })`. A fresh token is sent as `socket.emitWithAck("authenticate", token)`.

use garde::Validate;
use serde::{Deserialize, Serialize};
use socketio::{Excess, Namespace, Rate, RateLimit, Socket, SocketIo, Valid};
use socketio_auth::{AuthExt, Claims, Jwt, Keys, REAUTHENTICATE, Rules};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct User {
    sub: String,
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize, Validate)]
struct Say {
    #[garde(length(min = 1, max = 200))]
    text: String,
}

#[derive(Serialize)]
struct Said<'a> {
    from: &'a str,
    text: &'a str,
}

fn chat(keys: Keys) -> Namespace {
    let rules = Rules::new(|user: &User, role| user.roles.iter().any(|own| own == role))
        .everybody_connect()
        .everybody_event("whoami")
        .everybody_event(REAUTHENTICATE)
        .join("member", "lobby")
        .event("member", "say")
        .emit("member", "lobby");
    Namespace::new("/")
        .auth(Jwt::<User>::new(keys).audience("chat").leeway(std::time::Duration::ZERO))
        .policy(rules)
        .rate_limit(RateLimit::event("say", Rate::per_second(5)))
        .rate_limit(RateLimit::socket(Rate::per_second(100)).excess(Excess::Delay))
        .on_connect(async |socket: Socket| drop(socket.join("lobby")))
        .on("whoami", async |Claims(user): Claims<User>| user.sub.clone())
        .on("say", async |socket: Socket, Claims(user): Claims<User>, Valid(say): Valid<Say>| {
            socket.to("lobby").emit("said", Said { from: &user.sub, text: &say.text });
        })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let keys = Keys::jwks_file(arguments.next().ok_or("which file has the keys?")?)?;
    let port = arguments.next().map_or(Ok(3000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let io = SocketIo::builder().namespace(chat(keys)).on_security_event(|event| println!("{event}")).build()?;
    Ok(io.serve(listener).await?)
}
