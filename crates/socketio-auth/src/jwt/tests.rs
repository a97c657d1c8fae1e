//! Tokens that another implementation has made, and tokens that nobody should accept.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac;
use serde_json::{Value, json};
use socketio::Value as Payload;

use super::*;

#[derive(Debug, Deserialize)]
struct User {
    sub: String,
    roles: Vec<String>,
}

const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests only";
const NOW: u64 = 2_000_000_000;

fn fixtures() -> Value {
    serde_json::from_str(include_str!("../../tests/data/tokens.json")).unwrap()
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of these parts, signed with a secret.
fn sign(header: &Value, claims: &Value, algorithm: hmac::Algorithm, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn jwt() -> Jwt<User> {
    Jwt::new(Keys::hmac(Algorithm::HS256, SECRET).unwrap())
        .issuer("https://login.example")
        .audience("chat")
        .clock(|| UNIX_EPOCH + Duration::from_secs(NOW))
}

fn good() -> Value {
    json!({"sub": "ann", "roles": [], "iss": "https://login.example", "aud": "chat", "exp": NOW + 60})
}

#[test]
fn tokens_of_another_implementation_are_accepted_by_jwks_and_by_pem() {
    let fixtures = fixtures();
    let all = Keys::jwks(&fixtures["jwks"].to_string()).unwrap();
    let clock = || UNIX_EPOCH + Duration::from_secs(NOW);
    let tokens = fixtures["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 12);
    for (name, token) in tokens {
        let algorithm = Algorithm::named_for_test(name);
        let mut keys = vec![all.clone()];
        if let Some(pem) = fixtures["pems"][name].as_str() {
            keys.push(Keys::pem(algorithm, pem).unwrap());
        }
        for keys in keys {
            let jwt = Jwt::<User>::new(keys).issuer("https://login.example").audience("chat").clock(clock);
            let identity = jwt.verify(token.as_str().unwrap()).unwrap_or_else(|denied| panic!("{name}: {denied}"));
            assert_eq!(
                (identity.claims().sub.as_str(), &identity.claims().roles[..]),
                ("ann", &["admin".to_owned()][..])
            );
            // One bit more or less, anywhere in what is signed or in the signature, and it is nobody's.
            let token = token.as_str().unwrap();
            for at in [token.find('.').unwrap() + 5, token.len() - 5] {
                let mut bytes = token.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).unwrap();
                assert!(matches!(jwt.verify(&changed), Err(Denied::Signature)), "{name} {at}");
            }
        }
    }
}

#[test]
fn thirty_bad_tokens_are_refused_each_for_its_reason_and_clients_learn_none_of_them() {
    let hs = json!({"alg": "HS256", "typ": "JWT"});
    let hs256 = |claims: &Value| sign(&hs, claims, hmac::HMAC_SHA256, SECRET);
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        hs256(&claims)
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        hs256(&claims)
    };
    let header = |header: Value| sign(&header, &good(), hmac::HMAC_SHA256, SECRET);
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({"alg": alg})), encode(&good()));
    let token = hs256(&good());
    let parts: Vec<&str> = token.split('.').collect();
    let rows = [
        (String::new(), Denied::Malformed),
        ("abc".to_owned(), Denied::Malformed),
        ("..".to_owned(), Denied::Malformed),
        (format!("{token}.x"), Denied::Malformed),
        (format!("{token}="), Denied::Malformed),
        (format!("{} ", token), Denied::Malformed),
        (format!("{}.{}", parts[0], parts[1]), Denied::Malformed),
        ("x".repeat(LONGEST + 1), Denied::Malformed),
        (unsigned("none"), Denied::Algorithm),
        (unsigned("None"), Denied::Algorithm),
        (unsigned("NONE"), Denied::Algorithm),
        (unsigned(""), Denied::Algorithm),
        (unsigned("HS256"), Denied::Signature),
        (header(json!({"alg": "hs256"})), Denied::Algorithm),
        (header(json!({"alg": "HS512"})), Denied::Algorithm),
        (header(json!({"alg": "RS256"})), Denied::Algorithm),
        (header(json!({"alg": ["HS256"]})), Denied::Malformed),
        (header(json!({"typ": "JWT"})), Denied::Malformed),
        (header(json!({"alg": "HS256", "crit": ["b64"], "b64": false})), Denied::Malformed),
        (sign(&hs, &good(), hmac::HMAC_SHA256, b"another secret of more than 32 bytes"), Denied::Signature),
        (sign(&hs, &good(), hmac::HMAC_SHA512, SECRET), Denied::Signature),
        (with("exp", json!(NOW - 31)), Denied::Expired),
        (with("exp", json!(NOW - 30)), Denied::Expired),
        (with("exp", json!(-1)), Denied::Expired),
        (with("exp", json!("2000000060")), Denied::Malformed),
        (without("exp"), Denied::Claims),
        (with("nbf", json!(NOW + 31)), Denied::NotYetValid),
        (with("nbf", json!(-5)), Denied::NotYetValid),
        (with("iss", json!("https://evil.example")), Denied::Issuer),
        (without("iss"), Denied::Issuer),
        (with("aud", json!("mail")), Denied::Audience),
        (with("aud", json!([])), Denied::Audience),
        (without("aud"), Denied::Audience),
        (with("roles", json!("admin")), Denied::Claims),
        (without("sub"), Denied::Claims),
        (sign(&hs, &json!([1]), hmac::HMAC_SHA256, SECRET), Denied::Malformed),
    ];
    let refusal = socketio::ConnectError::from(Denied::Missing);
    for (token, why) in &rows {
        assert_eq!(jwt().verify(token).map(|_| ()), Err(*why), "{token}");
        let told = socketio::ConnectError::from(*why);
        assert_eq!((told.message(), told.data_ref()), (refusal.message(), refusal.data_ref()));
        assert_eq!(told.reason_ref(), Some(why.as_str()));
    }
    assert!(rows.len() > 30);
    for good in [
        token,
        with("aud", json!(["mail", "chat"])),
        with("exp", json!(NOW - 29)),
        with("exp", json!(NOW as f64 + 0.5)),
        with("exp", json!(1e300)),
        with("nbf", json!(NOW + 30)),
        header(json!({"alg": "HS256", "jku": "https://evil.example", "kid": "any"})),
    ] {
        assert!(jwt().verify(&good).is_ok(), "{good}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let fixtures = fixtures();
    let pem = fixtures["pems"]["RS256"].as_str().unwrap();
    let jwt = Jwt::<User>::new(Keys::pem(Algorithm::RS256, pem).unwrap());
    let forged = sign(&json!({"alg": "HS256"}), &good(), hmac::HMAC_SHA256, pem.as_bytes());
    assert_eq!(jwt.verify(&forged).map(|_| ()), Err(Denied::Algorithm));
    // And a key is for its own algorithm only, also where the mathematics would allow another.
    let token = fixtures["tokens"]["RS256"].as_str().unwrap();
    let other = Jwt::<User>::new(Keys::pem(Algorithm::PS256, pem).unwrap());
    assert_eq!(other.verify(token).map(|_| ()), Err(Denied::Algorithm));
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let fixtures = fixtures();
    let pem = |name: &str| fixtures["pems"][name].as_str().unwrap();
    assert!(matches!(Keys::hmac(Algorithm::HS256, b"short"), Err(InvalidKey::ShortSecret { least: 32, .. })));
    assert!(matches!(Keys::hmac(Algorithm::RS256, SECRET), Err(InvalidKey::NoKey(_))));
    assert!(matches!(Keys::pem(Algorithm::ES384, pem("ES256")), Err(InvalidKey::NoKey(_))));
    assert!(matches!(Keys::pem(Algorithm::RS256, pem("EdDSA")), Err(InvalidKey::NoKey(_))));
    assert!(matches!(Keys::pem(Algorithm::HS256, pem("RS256")), Err(InvalidKey::NoKey(_))));
    for jwks in [
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": "c2hvcnQ", "alg": "HS256"}]}),
        json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]}),
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": "none"}]}),
        json!({"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB", "use": "enc"}]}),
        json!({"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB", "alg": "HS256"}]}),
        json!({"keys": [5, "x", {}]}),
    ] {
        assert!(matches!(Keys::jwks(&jwks.to_string()), Err(InvalidKey::Empty)), "{jwks}");
    }
    assert!(matches!(Keys::jwks("[]"), Err(InvalidKey::Jwks(_))));
    assert!(!format!("{:?}", jwt()).contains("secret"));
}

fn jwks_of(kid: &str, secret: &[u8]) -> String {
    json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret), "kid": kid, "alg": "HS256"}]}).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_file_of_keys_is_read_again_when_it_has_changed() {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("keys-{}-{number}.json", std::process::id()));
    let (old, new) = ([1; 32], [2; 32]);
    // Files are as old as they are said to be: a clock of seconds must not hide a change.
    let write = |kid: &str, secret: &[u8], age: u64| {
        std::fs::write(&path, jwks_of(kid, secret)).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(age)).unwrap();
    };
    write("old", &old, 1_000);
    let jwt = Jwt::<User>::new(Keys::jwks_file(&path).unwrap())
        .audience("chat")
        .clock(|| UNIX_EPOCH + Duration::from_secs(NOW));
    let token = |kid: &str, secret: &[u8]| {
        let token = sign(&json!({"alg": "HS256", "kid": kid}), &good(), hmac::HMAC_SHA256, secret);
        Credentials::given(Payload::Map([("token", Payload::from(token.as_str()))].into_iter().collect()))
    };
    assert!(jwt.authenticate(&token("old", &old)).await.is_ok());
    write("new", &new, 2_000);
    // Too soon: strangers do not decide how often a file is read.
    assert_eq!(jwt.authenticate(&token("new", &new)).await.map(|_| ()), Err(Denied::UnknownKey));
    tokio::time::advance(AT_MOST).await;
    assert!(jwt.authenticate(&token("new", &new)).await.is_ok());
    assert_eq!(jwt.authenticate(&token("old", &old)).await.map(|_| ()), Err(Denied::UnknownKey));
    // A broken file changes nothing.
    std::fs::write(&path, "{").unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(jwt.authenticate(&token("new", &new)).await.is_ok());
    std::fs::remove_file(&path).unwrap();
}

const AT_MOST: Duration = Duration::from_secs(6);

impl Algorithm {
    fn named_for_test(name: &str) -> Self {
        match name {
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "EdDSA" => Self::EdDSA,
            other => panic!("{other}"),
        }
    }
}
