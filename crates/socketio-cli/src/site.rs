//! What `sio serve` answers besides Socket.IO: its page, and the official browser client where it was asked for.
//!
//! [`Site::answer`] is a function of method, path and headers; [`Site`] is a tower service around it. Files are an exact
//! list, held in memory with their compressed forms: no name that a client sends ever reaches the file system.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    hash::{DefaultHasher, Hasher},
    io::Write,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use engineio_proto::origin::Hosts;
use flate2::{Compression, write};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderName, IF_NONE_MATCH, ORIGIN, REFERRER_POLICY, VARY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use http_body_util::Full;
use socketio::Origins;
use tower_service::Service;

use crate::settings::Problem;

/// The page may load what is served here and connect here; no inline script or style, nobody may frame it. Pictures that
/// were dropped into the chat are shown from memory (`blob:`).
const PAGE_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob:; object-src 'none'; \
                           base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Everything else needs nothing at all.
const FILE_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const PAGE: [(&str, &str, &[u8]); 5] = [
    ("/", HTML, include_bytes!("../assets/index.html")),
    ("/page.js", SCRIPT, include_bytes!("../assets/page.js")),
    ("/client.js", SCRIPT, include_bytes!("../assets/client.js")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("../assets/style.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
];

/// The files of the official client that are served, each with its source map; Node's list.
const BUNDLE: [&str; 4] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];
/// A file of the bundle has some 50 to 500 KiB.
const BUNDLE_FILE_LIMIT: u64 = 8 << 20;

/// Below this, compression is not worth its headers.
const COMPRESS_FROM: usize = 1024;

/// The files, and the rules by which they are given out. Cloning it is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: HashMap<String, File>,
    hosts: Hosts,
    origins: Origins,
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    policy: &'static str,
    cache: &'static str,
    etag: HeaderValue,
    plain: Bytes,
    gzip: Option<Bytes>,
    deflate: Option<Bytes>,
    /// Other sites that the server lets in may import it as a module.
    shared: bool,
}

impl Site {
    /// The page, for a Socket.IO server at `path`.
    pub(crate) fn new(path: &str, hosts: Hosts, origins: Origins) -> Self {
        let mut files: HashMap<String, File> = PAGE
            .iter()
            .map(|(name, kind, bytes)| ((*name).to_owned(), File::of_page(kind, Bytes::from_static(bytes))))
            .collect();
        let config = serde_json::json!({ "path": path, "version": env!("CARGO_PKG_VERSION") }).to_string();
        files.insert("/config.json".to_owned(), File::of_page("application/json", config.into()));
        Self(Arc::new(Inner { files, hosts, origins }))
    }

    /// Adds the official client out of the npm package in `directory`, under the server's `path`.
    ///
    /// # Errors
    /// When there is no such package.
    pub(crate) fn with_client(self, path: &str, directory: &Path) -> Result<Self, Problem> {
        let problem = |what: String| {
            Problem(format!(
                "cannot serve the client from `{}`: {what} (it has to be an installed socket.io-client package, such as \
                 node_modules/socket.io-client)",
                directory.display()
            ))
        };
        let manifest = std::fs::read_to_string(directory.join("package.json"))
            .map_err(|error| problem(format!("package.json: {error}")))?;
        let manifest: serde_json::Value =
            serde_json::from_str(&manifest).map_err(|error| problem(format!("package.json: {error}")))?;
        let version = manifest.get("version").and_then(|version| version.as_str()).unwrap_or_default();
        let etag = HeaderValue::from_str(&format!("\"{version}\""))
            .ok()
            .filter(|_| !version.is_empty() && !version.contains('"'))
            .ok_or_else(|| problem("package.json names no version".to_owned()))?;

        let Self(inner) = self;
        let mut inner = Arc::try_unwrap(inner).map_err(|_| problem("the site is in use".to_owned()))?;
        let mut found = false;
        for name in BUNDLE {
            for (name, kind) in [
                (name.to_owned(), "application/javascript; charset=utf-8"),
                (format!("{name}.map"), "application/json; charset=utf-8"),
            ] {
                let file = directory.join("dist").join(&name);
                let Ok(metadata) = std::fs::metadata(&file) else { continue };
                if !metadata.is_file() || metadata.len() > BUNDLE_FILE_LIMIT {
                    return Err(problem(format!("dist/{name} is not a file of a size to serve")));
                }
                let bytes = std::fs::read(&file).map_err(|error| problem(format!("dist/{name}: {error}")))?;
                found = true;
                inner.files.insert(format!("{path}{name}"), File::of_bundle(kind, etag.clone(), bytes.into()));
            }
        }
        if !found {
            return Err(problem("it has no dist/socket.io.js".to_owned()));
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Answers one request.
    pub(crate) fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Bytes> {
        let Inner { files, hosts, origins } = &*self.0;
        // A header that is no text names no host that we are.
        let host = headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
        if !hosts.allows(host) {
            return refusal(StatusCode::MISDIRECTED_REQUEST, "the Host header does not name this server");
        }
        let Some(file) = files.get(path) else { return refusal(StatusCode::NOT_FOUND, "not found") };
        if method != Method::GET && method != Method::HEAD {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }

        let mut response = secured(file.policy);
        let out = response.headers_mut();
        out.insert(ETAG, file.etag.clone());
        out.insert(CACHE_CONTROL, HeaderValue::from_static(file.cache));
        if file.gzip.is_some() {
            out.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if file.shared {
            out.append(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) =
                headers.get(ORIGIN).filter(|origin| origins.is_any() || origins.lists(origin.as_bytes()))
            {
                out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
        if is_known(headers, &file.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        out.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
        let (encoding, body) = file.body(headers);
        if let Some(encoding) = encoding {
            out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        out.insert(CONTENT_LENGTH, body.len().into());
        if method == Method::GET {
            *response.body_mut() = body;
        }
        response
    }
}

impl<B> Service<Request<B>> for Site {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path(), request.headers()).map(Full::new)))
    }
}

impl File {
    fn of_page(kind: &'static str, plain: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&plain);
        // Weak, because the compressed forms have the same one. Hexadecimal digits are always a header value.
        let etag = HeaderValue::from_str(&format!("W/\"{:016x}\"", hasher.finish()))
            .unwrap_or_else(|_| HeaderValue::from_static("W/\"0\""));
        let policy = if kind == HTML { PAGE_POLICY } else { FILE_POLICY };
        Self { policy, cache: "no-cache", shared: false, ..Self::of_bundle(kind, etag, plain) }
    }

    fn of_bundle(kind: &'static str, etag: HeaderValue, plain: Bytes) -> Self {
        let (mut gzip, mut deflate) = (None, None);
        if plain.len() >= COMPRESS_FROM {
            gzip = compressed(write::GzEncoder::new(Vec::new(), Compression::best()), &plain, write::GzEncoder::finish);
            deflate = compressed(
                write::ZlibEncoder::new(Vec::new(), Compression::best()),
                &plain,
                write::ZlibEncoder::finish,
            );
        }
        Self { kind, policy: FILE_POLICY, cache: "public, max-age=0", etag, plain, gzip, deflate, shared: true }
    }

    /// The smallest form that the client takes, and its `Content-Encoding`.
    fn body(&self, headers: &HeaderMap) -> (Option<&'static str>, Bytes) {
        for (encoding, body) in [("gzip", &self.gzip), ("deflate", &self.deflate)] {
            if let Some(body) = body
                && accepts(headers, encoding)
            {
                return (Some(encoding), body.clone());
            }
        }
        (None, self.plain.clone())
    }
}

fn compressed<W: Write>(
    mut encoder: W,
    plain: &[u8],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> Option<Bytes> {
    encoder.write_all(plain).ok()?;
    finish(encoder).ok().filter(|bytes| bytes.len() < plain.len()).map(Bytes::from)
}

/// Whether `Accept-Encoding` names this encoding without refusing it (`;q=0`).
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = parts.any(|part| {
            part.split_once('=').is_some_and(|(key, weight)| {
                key.trim().eq_ignore_ascii_case("q") && weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
            })
        });
        named && !refused
    })
}

/// Whether `If-None-Match` names this tag, or any: the comparison is the weak one.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(etag) = etag.to_str().map(bare) else { return false };
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || bare(tag) == etag)
}

fn secured(policy: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Bytes> {
    let mut response = secured(FILE_POLICY);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Bytes::from_static(why.as_bytes());
    response
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    fn site() -> Site {
        Site::new("/socket.io/", Hosts::loopback(), Origins::same_origin().allow("https://a.org"))
    }

    fn ask(site: &Site, method: &str, path: &str, headers: &[(&'static str, &str)]) -> Response<Bytes> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        site.answer(&method.parse().unwrap(), path, &headers)
    }

    #[track_caller]
    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn every_answer_has_the_security_headers() {
        for (method, path) in
            [("GET", "/"), ("GET", "/client.js"), ("GET", "/nothing"), ("POST", "/"), ("HEAD", "/icon.svg")]
        {
            let response = ask(&site(), method, path, &[]);
            assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header(&response, "x-frame-options"), "DENY", "{path}");
            assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{path}");
            assert!(header(&response, "content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        }
        assert_eq!(
            header(&ask(&site(), "GET", "/", &[]), "content-security-policy"),
            "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob:; object-src 'none'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'"
        );
        assert_eq!(
            header(&ask(&site(), "GET", "/page.js", &[]), "content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'"
        );
    }

    #[test]
    fn the_page_keeps_its_own_policy() {
        for (name, kind, bytes) in PAGE {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(!text.contains("eval("), "{name}");
            if kind != HTML {
                continue;
            }
            let lower = text.to_ascii_lowercase();
            assert!(!lower.contains("style=") && !lower.contains("<style") && !lower.contains("javascript:"), "{name}");
            assert!(
                !lower.contains(" on") || !["onclick=", "onload=", "onsubmit="].iter().any(|word| lower.contains(word))
            );
            for script in lower.split("<script").skip(1) {
                assert!(script.contains(" src=\"") && script.contains("></script>"), "{name}");
            }
        }
    }

    #[test]
    fn only_names_on_the_list_are_found() {
        for (path, status) in [
            ("/", 200),
            ("/page.js", 200),
            ("/client.js", 200),
            ("/style.css", 200),
            ("/icon.svg", 200),
            ("/config.json", 200),
            ("", 404),
            ("//", 404),
            ("/index.html", 404),
            ("/Page.js", 404),
            ("/page.js/", 404),
            ("/./page.js", 404),
            ("/../Cargo.toml", 404),
            ("/assets/../page.js", 404),
            ("/%70age.js", 404),
            ("/..%2fpage.js", 404),
            ("/\\..\\page.js", 404),
            ("/page.js%00", 404),
            ("/socket.io/socket.io.js", 404),
        ] {
            assert_eq!(ask(&site(), "GET", path, &[]).status(), status, "{path}");
        }
    }

    #[test]
    fn only_get_and_head_are_answered() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let response = ask(&site(), method, "/", &[]);
            assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "GET, HEAD"), "{method}");
        }
        let (get, head) = (ask(&site(), "GET", "/", &[]), ask(&site(), "HEAD", "/", &[]));
        assert_eq!(get.headers(), head.headers());
        assert_eq!(header(&get, "content-length"), get.body().len().to_string());
        assert!(head.body().is_empty() && !get.body().is_empty());
    }

    #[test]
    fn a_foreign_host_is_misdirected() {
        for (host, status) in [
            ("localhost:3000", 200),
            ("127.0.0.1:3000", 200),
            ("[::1]:3000", 200),
            ("a.localhost", 200),
            ("evil.test", 421),
            ("evil.test:3000", 421),
            ("localhost.evil.test", 421),
            ("", 421),
        ] {
            assert_eq!(ask(&site(), "GET", "/", &[("host", host)]).status(), status, "{host}");
        }
        let anywhere = Site::new("/socket.io/", Hosts::any(), Origins::same_origin());
        assert_eq!(ask(&anywhere, "GET", "/", &[("host", "example.org")]).status(), 200);
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let site = site();
        let etag = header(&ask(&site, "GET", "/client.js", &[]), "etag").to_owned();
        assert!(etag.starts_with("W/\"") && etag.len() == 20, "{etag}");
        assert_ne!(etag, header(&ask(&site, "GET", "/page.js", &[]), "etag"));
        for (known, status) in [
            (etag.as_str(), 304),
            (&etag[2..], 304),
            ("*", 304),
            (&format!("\"x\", {etag}"), 304),
            ("\"x\"", 200),
            ("", 200),
        ] {
            let response = ask(&site, "GET", "/client.js", &[("if-none-match", known)]);
            assert_eq!(response.status(), status, "{known}");
            assert_eq!(response.body().is_empty(), status == 304);
            assert_eq!(header(&response, "etag"), etag);
        }
    }

    #[test]
    fn compressed_forms_are_sent_to_those_who_take_them() {
        let plain = Bytes::from_static(include_bytes!("../assets/client.js"));
        for (accepted, encoding) in [
            ("gzip, deflate, br", "gzip"),
            ("deflate", "deflate"),
            ("br", ""),
            ("", ""),
            ("identity", ""),
            ("GZIP", "gzip"),
            ("gzip;q=0, deflate;q=0.5", "deflate"),
            ("gzip; q=0.0", ""),
            ("xgzip", ""),
            ("gzip;q=1", "gzip"),
        ] {
            let response = ask(&site(), "GET", "/client.js", &[("accept-encoding", accepted)]);
            assert_eq!(header(&response, "content-encoding"), encoding, "{accepted}");
            assert_eq!(header(&response, "vary"), "Accept-Encoding");
            assert_eq!(header(&response, "content-length"), response.body().len().to_string());
            let mut got = Vec::new();
            match encoding {
                "gzip" => flate2::read::GzDecoder::new(&response.body()[..]).read_to_end(&mut got).unwrap(),
                "deflate" => flate2::read::ZlibDecoder::new(&response.body()[..]).read_to_end(&mut got).unwrap(),
                _ => response.body().as_ref().read_to_end(&mut got).unwrap(),
            };
            assert!(got == plain, "{accepted}");
        }
        assert_eq!(header(&ask(&site(), "GET", "/icon.svg", &[("accept-encoding", "gzip")]), "content-encoding"), "");
    }

    #[test]
    fn the_page_learns_where_the_server_is() {
        let response = ask(&site(), "GET", "/config.json", &[]);
        let config: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(config["path"], "/socket.io/");
        assert_eq!(header(&response, "content-type"), "application/json");
    }

    #[test]
    fn the_official_client_is_served_as_node_serves_it() {
        let directory = std::env::temp_dir().join(format!("sio-bundle-{}", std::process::id()));
        fs::create_dir_all(directory.join("dist")).unwrap();
        let text = "console.log('hello');".repeat(200);
        fs::write(directory.join("package.json"), r#"{"name":"socket.io-client","version":"4.8.4"}"#).unwrap();
        for name in ["socket.io.js", "socket.io.js.map", "socket.io.esm.min.js", "other.js"] {
            fs::write(directory.join("dist").join(name), &text).unwrap();
        }
        let site = site().with_client("/io/", &directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();

        let response = ask(&site, "GET", "/io/socket.io.js", &[]);
        assert_eq!(header(&response, "content-type"), "application/javascript; charset=utf-8");
        assert_eq!(header(&response, "cache-control"), "public, max-age=0");
        assert_eq!(header(&response, "etag"), "\"4.8.4\"");
        assert_eq!(response.body(), &text);
        assert_eq!(
            header(&ask(&site, "GET", "/io/socket.io.js.map", &[]), "content-type"),
            "application/json; charset=utf-8"
        );
        for tag in ["\"4.8.4\"", "W/\"4.8.4\""] {
            assert_eq!(ask(&site, "GET", "/io/socket.io.js", &[("if-none-match", tag)]).status(), 304, "{tag}");
        }
        for missing in [
            "/io/socket.io.min.js",
            "/io/other.js",
            "/io/package.json",
            "/io/../package.json",
            "/socket.io/socket.io.js",
        ] {
            assert_eq!(ask(&site, "GET", missing, &[]).status(), 404, "{missing}");
        }
        let gzipped = ask(&site, "GET", "/io/socket.io.esm.min.js", &[("accept-encoding", "gzip")]);
        assert_eq!(header(&gzipped, "content-encoding"), "gzip");
        for (origin, allowed) in [("https://a.org", "https://a.org"), ("https://b.org", "")] {
            let response = ask(&site, "GET", "/io/socket.io.esm.min.js", &[("origin", origin)]);
            assert_eq!(header(&response, "access-control-allow-origin"), allowed);
            assert!(response.headers().get_all("vary").iter().any(|vary| vary == "Origin"));
        }
        assert_eq!(header(&ask(&site, "GET", "/", &[("origin", "https://a.org")]), "access-control-allow-origin"), "");
    }

    #[test]
    fn a_folder_without_the_client_is_a_problem_with_a_way_out() {
        let problem = site().with_client("/io/", Path::new("/nowhere")).unwrap_err().0;
        assert!(problem.starts_with("cannot serve the client from `/nowhere`: package.json:"), "{problem}");
        assert!(problem.ends_with("such as node_modules/socket.io-client)"), "{problem}");
    }
}
