//! Who has logged in to a web application of axum and `tower-sessions` is let in by the cookie that it has set.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;
use socketio::testing::{self, TestServer};
use socketio::{Namespace, SocketIo};
use socketio_auth::{AuthExt, Claims, SessionCookie, Signing, TowerSessions};
use tower::ServiceExt;
use tower_sessions::cookie::Key;
use tower_sessions::cookie::time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    name: String,
}

/// An application at which one logs in, and one that begins a session without.
fn application() -> axum::Router {
    let log_in = async |session: Session| session.insert("user", User { name: "ann".to_owned() }).await.unwrap();
    let visit = async |session: Session| session.insert("visits", 1).await.unwrap();
    axum::Router::new().route("/login", post(log_in)).route("/visit", post(visit))
}

/// What the application's answer lets a browser send from then on.
async fn cookie(application: axum::Router, path: &str) -> String {
    let request = Request::post(path).body(Body::empty()).unwrap();
    let answer = application.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

fn server(cookie: SessionCookie<TowerSessions<MemoryStore, User>>) -> TestServer {
    let namespace = Namespace::new("/").auth(cookie).on("whoami", async |Claims(user): Claims<User>| user.name.clone());
    testing::serve(SocketIo::builder().namespace(namespace))
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_web_application_lets_in_until_it_expires() {
    let store = MemoryStore::default();
    let expiry = Expiry::OnInactivity(tower_sessions::cookie::time::Duration::seconds(60));
    let layer = SessionManagerLayer::new(store.clone()).with_name("id").with_expiry(expiry);
    let application = application().layer(layer);
    let server = server(SessionCookie::new("id", TowerSessions::new(store.clone(), "user")));

    let logged_in = cookie(application.clone(), "/login").await;
    let with = |cookie: &str| server.client().header("Cookie", cookie).connect("/");
    let ann = with(&logged_in).await.unwrap();
    assert_eq!(ann.emit_with_ack::<serde_json::Value>("whoami", ()).await.unwrap(), json!("ann"));

    let visitor = cookie(application.clone(), "/visit").await;
    let unknown = format!("id={}", Id::default());
    for refused in [visitor.as_str(), &unknown, "id=", "id=../..", "id=AAAA", "other=1"] {
        assert_eq!(with(refused).await.unwrap_err().code_ref(), Some("unauthorized"), "{refused}");
    }
    // The store forgets it: who is here stays, nobody comes in with it any more.
    let id: Id = logged_in.strip_prefix("id=").unwrap().parse().unwrap();
    store.delete(&id).await.unwrap();
    assert_eq!(with(&logged_in).await.unwrap_err().code_ref(), Some("unauthorized"));
    assert!(ann.connected());
    server.advance(Duration::from_secs(61)).await;
    assert!(!ann.connected());
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_is_signed_is_one_only_with_its_signature() {
    let store = MemoryStore::default();
    let key = Key::generate();
    let layer = SessionManagerLayer::new(store.clone()).with_name("id").with_signed(key.clone());
    let server = server(
        SessionCookie::new("id", TowerSessions::new(store, "user"))
            .signing(Signing::CookieCrate(key.signing().to_vec())),
    );
    let signed = cookie(application().layer(layer), "/login").await;
    let ann = server.client().header("Cookie", &signed).connect("/").await.unwrap();
    assert_eq!(ann.emit_with_ack::<serde_json::Value>("whoami", ()).await.unwrap(), json!("ann"));
    let bare = format!("id={}", &signed[signed.len() - 22..]);
    for forged in [bare.as_str(), &signed.replace("id=", "id=A")] {
        let refused = server.client().header("Cookie", forged).connect("/").await.unwrap_err();
        assert_eq!(refused.code_ref(), Some("unauthorized"), "{forged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_holds_something_else_or_is_over_is_none() {
    let store = MemoryStore::default();
    let server = server(SessionCookie::new("id", TowerSessions::new(store.clone(), "user")));
    let now = OffsetDateTime::from(SystemTime::now());
    for (value, seconds, lets_in) in [
        (json!({"name": "ann"}), 60, true),
        (json!({"name": 5}), 60, false),
        (json!("ann"), 60, false),
        (json!({"name": "ann"}), -60, false),
    ] {
        let expiry_date = now + tower_sessions::cookie::time::Duration::seconds(seconds);
        let data = [("user".to_owned(), value.clone())].into_iter().collect();
        let mut record = Record { id: Id::default(), data, expiry_date };
        store.create(&mut record).await.unwrap();
        let came = server.client().header("Cookie", &format!("id={}", record.id)).connect("/").await;
        assert_eq!(came.is_ok(), lets_in, "{value}, {seconds}");
    }
}
