//! What a server accepts: query, path, origin, host, CORS. The input is one fact per line: method (`GET+` asks for an
//! upgrade), path, query, `Origin`, `Host`, `Sec-Fetch-Site`, `Access-Control-Request-Headers`; a missing line is a header
//! that is not there.

use engineio_proto::{
    Revision, Transport,
    cors::{Cors, CorsRequest},
    origin::{Hosts, OriginRefusal, Origins},
    request::{Accepted, Method, Query, Refusal, Rejection, Request, Rules, ServerPath, SessionFacts, verify},
};

/// Requests and the policies about them.
pub fn eio_request(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let mut text = || lines.next().map(|line| String::from_utf8_lossy(line).into_owned());
    let (method, path, query) = (text(), text().unwrap_or_default(), text().unwrap_or_default());
    let origin = lines.next();
    let mut text = || lines.next().map(|line| String::from_utf8_lossy(line).into_owned());
    let (host, site) = (text(), text());
    let asked = lines.next();

    paths(&path);
    let parsed = queries(&query);
    let origins = origins(origin, host.as_deref(), site.as_deref());
    hosts(host.as_deref());
    let method = method.unwrap_or_default();
    let is_upgrade = method.ends_with('+');
    cors(CorsRequest { is_options: method == "OPTIONS", origin, request_headers: asked });
    let mut refused = Vec::new();
    for origin in origins {
        let method = Method::from_name(method.trim_end_matches('+'));
        for secure in [true, false] {
            requests(Request { method, is_upgrade, query: &parsed, origin, secure }, &mut refused);
        }
    }
    refused.iter().for_each(check_refusal);
}

fn paths(path: &str) {
    for (configured, bare) in [("/socket.io", "/socket.io"), ("engine.io//", "/engine.io"), ("/a/b/", "/a/b")] {
        let slashed = format!("{bare}/");
        assert_eq!(ServerPath::new(configured, true).matches(path), path == slashed);
        assert_eq!(ServerPath::new(configured, false).matches(path), path == bare || path == slashed);
    }
    for add_trailing_slash in [true, false] {
        let own = ServerPath::new(path, add_trailing_slash);
        assert!(own.matches(&own.canonical()), "{path:?}");
    }
}

fn queries(query: &str) -> Query<'_> {
    let parsed = Query::parse(query);
    // The last of several wins, and nothing before it counts.
    if let Some((_, last)) = query.rsplit_once('&') {
        let last = Query::parse(last);
        assert!(last.eio.is_none() || parsed.eio == last.eio);
        assert!(last.transport.is_none() || parsed.transport == last.transport);
        assert!(last.sid.is_none() || parsed.sid == last.sid);
    }
    assert_eq!(parsed.revision() == Revision::V4, parsed.eio.as_deref() == Some("4"));
    assert!(parsed.sid().is_none_or(|sid| !sid.is_empty()));
    assert!(parsed.jsonp().is_ok() || parsed.j.is_some());
    assert_ne!(parsed.transport(), Some(Transport::WebTransport));
    parsed
}

fn requests(request: Request<'_>, refused: &mut Vec<Refusal>) {
    let facts = |transport, upgrading, revision| SessionFacts { revision, transport, upgrading, secure: false };
    let sessions = [
        None,
        Some(facts(Transport::Polling, false, Revision::V4)),
        Some(SessionFacts { secure: true, ..facts(Transport::Polling, false, Revision::V4) }),
        Some(facts(Transport::Polling, false, Revision::V3)),
        Some(facts(Transport::Polling, true, Revision::V4)),
        Some(facts(Transport::WebSocket, false, Revision::V4)),
        Some(facts(Transport::WebTransport, false, Revision::V4)),
    ];
    let mut rules = [Rules::default(), Rules::default(), Rules::default()];
    rules[1].allow_eio3 = true;
    rules[2].allow_upgrades = false;
    for session in sessions {
        for rules in &rules {
            let verdict = verify(request, rules, |sid| {
                assert_eq!(Some(sid), request.query.sid());
                session
            });
            let query = request.query;
            match verdict {
                Ok(accepted) => {
                    assert!(request.origin.is_ok());
                    assert!(request.method != Method::Other);
                    let known = query.sid().and(session);
                    assert!(
                        request.secure || !known.is_some_and(|facts| facts.secure),
                        "in the clear what began in TLS"
                    );
                    match accepted {
                        Accepted::Handshake { revision, transport, .. } => {
                            assert!(query.sid().is_none() && request.method == Method::Get);
                            assert_eq!(request.is_upgrade, transport == Transport::WebSocket);
                            assert!(revision == Revision::V4 || rules.allow_eio3);
                            assert_eq!((revision, Some(transport)), (query.revision(), query.transport()));
                        }
                        Accepted::Poll | Accepted::Post => {
                            let known = known.expect("a session");
                            assert!(!request.is_upgrade && query.transport() == Some(Transport::Polling));
                            assert_eq!((known.transport, known.revision), (Transport::Polling, query.revision()));
                        }
                        Accepted::Upgrade => {
                            let known = known.expect("a session");
                            assert!(request.is_upgrade && request.method == Method::Get && rules.allow_upgrades);
                            assert_eq!((known.transport, known.upgrading), (Transport::Polling, false));
                            assert_eq!(known.revision, query.revision());
                        }
                    }
                }
                Err(Rejection::MethodNotAllowed) => assert!(query.sid().is_some() && request.method == Method::Other),
                Err(Rejection::Refused(refusal)) => {
                    if !refused.contains(&refusal) {
                        refused.push(refusal);
                    }
                }
            }
        }
    }
}

fn check_refusal(refusal: &Refusal) {
    assert!(refusal.code() <= 5);
    assert_eq!(refusal.status(), if refusal.code() == 4 { 403 } else { 400 });
    let body: serde_json::Value = serde_json::from_str(&refusal.json_body()).expect("JSON");
    assert_eq!(body["code"], refusal.code());
    assert_eq!(body["message"], refusal.message());
}

/// What several policies say; only what is sure to be allowed may be.
fn origins(origin: Option<&[u8]>, host: Option<&str>, site: Option<&str>) -> Vec<Result<(), OriginRefusal>> {
    let below = Origins::listed().allow("https://*.x.com");
    let exact = Origins::listed().allow("http://y.com:8080").allow("https://*.z.com:*");
    let same = Origins::same_origin();
    let any = Origins::any();
    let mut verdicts = Vec::new();
    for secure in [true, false] {
        let verdict = |policy: &Origins| policy.check(origin, host, secure, site);
        for verdict in [&below, &exact, &same, &any].map(verdict) {
            if !verdicts.contains(&verdict) {
                verdicts.push(verdict);
            }
        }
        let Some(origin) = origin else { continue };
        if origin.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            assert_eq!(verdict(&any), Err(OriginRefusal::Invalid));
            assert!([&below, &exact, &same].iter().all(|policy| verdict(policy).is_err()));
            continue;
        }
        assert_eq!(verdict(&any), Ok(()));
        let text = String::from_utf8_lossy(origin).to_ascii_lowercase();
        let Some((scheme, authority)) = text.split_once("://") else {
            assert!([&below, &exact, &same].iter().all(|policy| verdict(policy).is_err()));
            continue;
        };
        let name = authority.split(':').next().unwrap_or_default();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if verdict(&below).is_ok() {
            assert!(scheme == "https" && plain && name.ends_with(".x.com") && name.len() > 6, "{text}");
            assert_eq!(port(scheme, authority), Some(443));
        }
        if verdict(&exact).is_ok() {
            let y = text.starts_with("http://y.com:") && port(scheme, authority) == Some(8080);
            let z = scheme == "https" && plain && name.ends_with(".z.com") && name.len() > 6;
            assert!(y || z, "{text}");
        }
        if verdict(&same).is_ok() {
            let host = host.expect("without a host nothing is the own origin").to_ascii_lowercase();
            assert_eq!(scheme, if secure { "https" } else { "http" });
            assert_eq!(without_port(authority), without_port(&host));
            assert_eq!(port(scheme, authority), port(scheme, &host));
        }
        if origin == b"null" {
            assert_eq!(verdict(&same), Err(OriginRefusal::Null));
        }
    }
    verdicts
}

fn without_port(authority: &str) -> &str {
    let end = authority.rfind(']').unwrap_or(0);
    authority.get(end..).and_then(|rest| rest.find(':')).map_or(authority, |colon| &authority[..end + colon])
}

fn port(scheme: &str, authority: &str) -> Option<u16> {
    let rest = authority.get(without_port(authority).len()..).unwrap_or_default();
    match rest.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None => Some(if scheme == "https" { 443 } else { 80 }),
    }
}

fn hosts(host: Option<&str>) {
    assert!(Hosts::any().allows(host));
    let Some(host) = host else {
        assert!(Hosts::loopback().allows(None));
        return;
    };
    if Hosts::loopback().allow("dev.test").allows(Some(host)) {
        let name = without_port(host).to_ascii_lowercase();
        let local = name == "localhost" || name.ends_with(".localhost") || name == "dev.test";
        let v4 = name.strip_prefix("127.").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        let v6 = name.strip_prefix("[").and_then(|name| name.strip_suffix("]")).is_some_and(|name| {
            name.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.octets() == 1_u128.to_be_bytes())
        });
        assert!(local || v4 || v6, "{host:?}");
    }
}

fn cors(request: CorsRequest<'_>) {
    let listed = Cors::allow("https://*.x.com").credentials(true).exposed_headers(["x-a"]);
    for (cors, star) in [(Cors::any(), true), (Cors::mirror_unchecked().credentials(true), false), (listed, false)] {
        assert_eq!(cors.validate(), Ok(()));
        let response = cors.respond(request);
        assert_eq!(response.preflight, request.is_options.then_some(204));
        for (name, value) in &response.headers {
            assert!(!value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
        }
        let of =
            |wanted: &str| response.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        match of("access-control-allow-origin") {
            Some("*") => assert!(star || request.origin == Some(b"*")),
            Some(allowed) => {
                assert_eq!(request.origin, Some(allowed.as_bytes()), "one's own origin or nothing");
                assert!(cors.policy().check(request.origin, None, false, None).is_ok());
            }
            None => {
                assert!(!star && of("access-control-allow-credentials").is_none());
                assert!(of("access-control-allow-methods").is_none());
            }
        }
        assert!(star || of("vary").is_some_and(|vary| vary.contains("Origin")));
    }
}
