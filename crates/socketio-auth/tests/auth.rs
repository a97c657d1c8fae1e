//! Authentication in front of a namespace of a running server: who comes in, who stays, who is told what.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};
use socketio::testing::{self, TestClient, TestServer};
use socketio::{AckError, ConnectError, Namespace, SecurityKind as Kind, SocketIo};
use socketio_auth::{
    Algorithm, ApiKeys, AuthExt, Claims, Credentials, Denied, Hook, Identity, Jwt, Keys, MaybeClaims, Or,
    REAUTHENTICATE, Rules, SessionCookie, SessionStore,
};

const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests only";

#[derive(Debug, Deserialize)]
struct User {
    sub: String,
    #[serde(default)]
    roles: Vec<String>,
}

/// A token that holds for so many seconds from now.
fn token(subject: &str, roles: &[&str], seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "HS256"}));
    let signed = format!("{header}.{}", part(json!({"sub": subject, "roles": roles, "exp": now + seconds})));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn jwt() -> Jwt<User> {
    Jwt::new(Keys::hmac(Algorithm::HS256, SECRET).unwrap()).leeway(Duration::ZERO)
}

fn server(namespace: Namespace) -> (TestServer, Arc<Mutex<Vec<String>>>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = heard.clone();
    let builder = SocketIo::builder()
        .namespace(namespace)
        .on_security_event(move |event| sink.lock().unwrap().push(format!("{}: {}", event.kind, event.reason)));
    (testing::serve(builder), heard)
}

async fn join(server: &TestServer, auth: Value) -> Result<TestClient, ConnectError> {
    server.client().auth(auth).connect("/").await
}

async fn ask(client: &TestClient, event: &str, data: impl serde::Serialize) -> Result<Value, String> {
    match client.emit_with_ack(event, data).await {
        Ok(value) => Ok(value),
        Err(AckError::Refused(error)) => Err(serde_json::to_string(&error).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

const UNAUTHORIZED: &str = r#"{"error":{"code":"unauthorized","message":"not authorized"}}"#;

fn whoami() -> Namespace {
    Namespace::new("/")
        .auth(jwt())
        .on("whoami", async |Claims(user): Claims<User>| (user.sub.clone(), user.roles.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_token_lets_in_and_whatever_is_wrong_is_refused_in_the_same_words() {
    let (server, heard) = server(whoami());
    let ann = join(&server, json!({"token": token("ann", &["admin"], 60)})).await.unwrap();
    assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    let bearer = format!("Bearer {}", token("bob", &[], 60));
    assert!(server.client().header("Authorization", &bearer).connect("/").await.is_ok());
    let expired = token("ann", &[], -1);
    let forged = format!("{}A", &token("ann", &[], 60)[..token("ann", &[], 60).len() - 3]);
    for (auth, reason) in [
        (json!({}), "no credentials"),
        (json!({"token": ""}), "no credentials"),
        (json!({"token": 5}), "no credentials"),
        (json!({"token": "x"}), "malformed"),
        (json!({"token": expired}), "expired"),
        (json!({"token": forged}), "malformed"),
    ] {
        let refused = join(&server, auth.clone()).await.unwrap_err();
        assert_eq!((refused.message(), refused.code_ref()), ("not authorized", Some("unauthorized")), "{auth}");
        let told: Vec<String> = std::mem::take(&mut *heard.lock().unwrap());
        let right = told == [format!("auth_refused: {reason}")]
            || (reason == "malformed" && told == ["auth_refused: signature"]);
        assert!(right, "{auth}: {told:?}");
        assert!(!told.concat().contains("eyJ"));
    }
    assert_eq!(server.io().security().count(Kind::AuthRefused), 6);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_disconnects_and_a_fresh_one_in_time_does_not() {
    let (server, heard) = server(whoami());
    let ann = join(&server, json!({"token": token("ann", &[], 60)})).await.unwrap();
    let bob = join(&server, json!({"token": token("bob", &[], 60)})).await.unwrap();
    server.advance(Duration::from_secs(50)).await;
    // The token is new, so it is good for an hour of the clock that tests cannot move.
    assert_eq!(ask(&ann, REAUTHENTICATE, token("ann", &["admin"], 3_600)).await, Ok(json!({"ok": true})));
    assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    server.advance(Duration::from_secs(20)).await;
    assert_eq!((ann.connected(), bob.connected(), server.sockets("/")), (true, false, 1));
    assert_eq!(*heard.lock().unwrap(), ["auth_expired: token expired"]);
    server.advance(Duration::from_secs(3_700)).await;
    assert_eq!(server.sockets("/"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_authenticates_anew_stays_who_it_is_and_has_ten_tries_a_minute() {
    let (server, heard) = server(whoami());
    let ann = join(&server, json!({"token": token("ann", &[], 600)})).await.unwrap();
    for (fresh, reason) in [
        (json!("x"), "malformed"),
        (json!({}), "no credentials"),
        (json!(null), "no credentials"),
        (json!(token("ann", &[], -1)), "expired"),
        (json!(token("bob", &["admin"], 60)), "another subject"),
    ] {
        assert_eq!(ask(&ann, REAUTHENTICATE, &fresh).await, Err(UNAUTHORIZED.to_owned()), "{fresh}");
        assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [format!("auth_refused: {reason}")], "{fresh}");
        assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    }
    let good = json!({"token": token("ann", &[], 600)});
    for _ in 0..5 {
        assert_eq!(ask(&ann, REAUTHENTICATE, &good).await, Ok(json!({"ok": true})));
    }
    assert!(ask(&ann, REAUTHENTICATE, &good).await.unwrap_err().contains("rate_limited"));
    // What was good stays good.
    assert!(ann.connected());
}

#[tokio::test(start_paused = true)]
async fn claims_are_those_of_the_moment_and_rules_see_them() {
    let rules = Rules::new(|user: &User, role| user.roles.iter().any(|own| own == role))
        .everybody_connect()
        .everybody_event(REAUTHENTICATE)
        .event("admin", "*");
    let namespace = whoami().policy(rules);
    let (server, _) = server(namespace);
    let ann = join(&server, json!({"token": token("ann", &[], 600)})).await.unwrap();
    let forbidden = r#"{"error":{"code":"forbidden","message":"not allowed"}}"#;
    assert_eq!(ask(&ann, "whoami", ()).await, Err(forbidden.to_owned()));
    assert!(ask(&ann, REAUTHENTICATE, token("ann", &["admin"], 600)).await.is_ok());
    assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    assert!(ask(&ann, REAUTHENTICATE, token("ann", &[], 600)).await.is_ok());
    assert_eq!(ask(&ann, "whoami", ()).await, Err(forbidden.to_owned()));
}

struct Table(AtomicUsize);

impl SessionStore for Table {
    type Claims = User;

    async fn load(&self, id: &str) -> Result<Option<Identity<User>>, Box<dyn Error + Send + Sync>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let identity = |seconds| {
            let user = User { sub: "cookie".to_owned(), roles: Vec::new() };
            Identity::new(user).expires(SystemTime::now().checked_add(Duration::from_secs(seconds)))
        };
        match id {
            "good" => Ok(Some(identity(60))),
            "old" => Ok(Some(identity(0))),
            "broken" => Err("the table is gone".into()),
            _ => Ok(None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_cookie_or_a_token_and_what_is_wrong_does_not_fall_through() {
    let either = Or(SessionCookie::new("sid", Table(AtomicUsize::new(0))), jwt());
    let namespace = Namespace::new("/").auth(either).on("whoami", async |Claims(user): Claims<User>| user.sub.clone());
    let (server, heard) = server(namespace);
    let good = json!({"token": token("ann", &[], 60)});
    let ann = join(&server, good.clone()).await.unwrap();
    assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    let with = |cookie: &str| server.client().header("Cookie", cookie).auth(good.clone()).connect("/");
    let user = with("a=b; sid=good").await.unwrap();
    assert_eq!(ask(&user, "whoami", ()).await, Ok(json!("cookie")));
    for (cookie, reason, code) in [
        ("sid=unknown", "unknown", "unauthorized"),
        ("sid=old", "expired", "unauthorized"),
        ("sid=broken", "unavailable", "unavailable"),
    ] {
        assert_eq!(with(cookie).await.unwrap_err().code_ref(), Some(code), "{cookie}");
        let told = std::mem::take(&mut *heard.lock().unwrap());
        let kind = if code == "unavailable" { "connect_refused" } else { "auth_refused" };
        assert_eq!(told, [format!("{kind}: {reason}")], "{cookie}");
    }
    // The session ends while its client is here.
    server.advance(Duration::from_secs(61)).await;
    assert!(!user.connected());
}

#[tokio::test(start_paused = true)]
async fn api_keys_and_functions_let_in_too() {
    let keys = ApiKeys::new().key(&ApiKeys::<User>::hash("the key of a thermometer"), "thermometer").unwrap();
    let namespace = Namespace::new("/").auth(keys).on("whoami", async |Claims(name): Claims<Arc<&'static str>>| **name);
    let (served, _) = server(namespace);
    let robot = join(&served, json!({"apiKey": "the key of a thermometer"})).await.unwrap();
    assert_eq!(ask(&robot, "whoami", ()).await, Ok(json!("thermometer")));
    assert!(served.client().header("x-api-key", "the key of a thermometer").connect("/").await.is_ok());
    assert!(served.client().header("x-api-key", "another").connect("/").await.is_err());

    async fn ask_service(name: Option<String>) -> Result<Identity<String>, Denied> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        name.filter(|name| name == "ann").map(Identity::new).ok_or(Denied::Other("nobody we know"))
    }
    let hook = Hook::new(|shown: &Credentials| ask_service(shown.auth("name")));
    let namespace = Namespace::new("/")
        .auth(hook)
        .on("whoami", async |Claims(name): Claims<String>| name.to_string())
        .on("other", async |_: Claims<User>| 1)
        .on("maybe", async |user: MaybeClaims<User>| user.0.is_some());
    let (served, heard) = server(namespace);
    let ann = join(&served, json!({"name": "ann"})).await.unwrap();
    assert_eq!(ask(&ann, "whoami", ()).await, Ok(json!("ann")));
    // Claims of another type are none.
    assert_eq!(ask(&ann, "other", ()).await, Err(UNAUTHORIZED.to_owned()));
    assert_eq!(ask(&ann, "maybe", ()).await, Ok(json!(false)));
    assert!(join(&served, json!({"name": "eve"})).await.is_err());
    assert_eq!(heard.lock().unwrap().last().map(String::as_str), Some("auth_refused: nobody we know"));
}
