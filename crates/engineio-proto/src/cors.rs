//! The response headers that let pages of other origins read what they get: the `cors` option of Node.
//!
//! CORS protects nothing by itself, and a WebSocket not at all: that is what [`origin`](crate::origin) is for. A server
//! that allows pages of other origins needs both, and [`Cors::policy`] gives the policy that fits.

use std::{fmt, time::Duration};

use crate::origin::{InvalidPattern, Origins};

/// Which origins may read responses, and how much of them.
///
/// # Examples
/// ```
/// use engineio_proto::cors::Cors;
///
/// let cors = Cors::allow("https://*.example.org").credentials(true);
/// assert!(cors.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Cors {
    origin: CorsOrigin,
    methods: Vec<String>,
    allowed_headers: Option<Vec<String>>,
    exposed_headers: Vec<String>,
    credentials: bool,
    max_age: Option<Duration>,
    preflight_continue: bool,
    options_success_status: u16,
}

/// Node: `origin`.
#[derive(Debug, Clone)]
enum CorsOrigin {
    /// `*`, which browsers do not accept for requests with cookies.
    Any,
    /// Whatever origin asks.
    Mirror,
    Listed(Origins),
}

impl Cors {
    /// Lets pages of every origin read responses to requests without cookies. Node: `origin: "*"`.
    pub fn any() -> Self {
        Self::new(CorsOrigin::Any)
    }

    /// Lets pages of every origin read responses, with [`Cors::credentials`] also those to requests with cookies.
    ///
    /// That gives every page in the world the rights of its visitors here. Node: `origin: true`.
    pub fn mirror_unchecked() -> Self {
        Self::new(CorsOrigin::Mirror)
    }

    /// Lets pages of these origins read responses. Node: `origin` with a list, a pattern or a function.
    ///
    /// Only what is listed counts, by pattern, predicate or [`Origins::allow_null`]; the own origin needs no CORS.
    pub fn listed(origins: Origins) -> Self {
        Self::new(CorsOrigin::Listed(origins))
    }

    /// Lets pages of this origin read responses. Node: `origin` with a string. See [`Origins::allow`] for patterns.
    pub fn allow(pattern: &str) -> Self {
        Self::listed(Origins::same_origin().allow(pattern))
    }

    fn new(origin: CorsOrigin) -> Self {
        Self {
            origin,
            methods: ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"].map(str::to_owned).to_vec(),
            allowed_headers: None,
            exposed_headers: Vec::new(),
            credentials: false,
            max_age: None,
            preflight_continue: false,
            options_success_status: 204,
        }
    }

    /// The methods that pages may use. Default: GET, HEAD, PUT, PATCH, POST, DELETE. Node: `methods`.
    #[must_use]
    pub fn methods<S: Into<String>>(mut self, methods: impl IntoIterator<Item = S>) -> Self {
        self.methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// The request headers that pages may set. Default: those that the browser asks for. Node: `allowedHeaders`.
    #[must_use]
    pub fn allowed_headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.allowed_headers = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The response headers that pages may read. Default: none beyond the usual. Node: `exposedHeaders`.
    #[must_use]
    pub fn exposed_headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.exposed_headers = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether pages may send cookies. Default: `false`. Node: `credentials`.
    #[must_use]
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// How long browsers may remember the answer to a preflight, in whole seconds. Default: as they like. Node: `maxAge`.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Hands preflights on instead of answering them. Default: `false`. Node: `preflightContinue`.
    #[must_use]
    pub fn preflight_continue(mut self, preflight_continue: bool) -> Self {
        self.preflight_continue = preflight_continue;
        self
    }

    /// The status of an answered preflight. Default: 204; some old devices need 200. Node: `optionsSuccessStatus`.
    #[must_use]
    pub fn options_success_status(mut self, status: u16) -> Self {
        self.options_success_status = status;
        self
    }

    /// Checks the configuration, once, before it is used.
    ///
    /// # Errors
    /// [`InvalidCors`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidCors> {
        match &self.origin {
            CorsOrigin::Any if self.credentials => return Err(InvalidCors::AnyWithCredentials),
            CorsOrigin::Any | CorsOrigin::Mirror => {}
            CorsOrigin::Listed(origins) => origins.validate()?,
        }
        let names = self.methods.iter().chain(self.allowed_headers.iter().flatten()).chain(&self.exposed_headers);
        if let Some(name) = { names }.find(|name| !is_token(name)) {
            return Err(InvalidCors::NotAName(name.clone()));
        }
        if !(200..300).contains(&self.options_success_status) {
            return Err(InvalidCors::Status(self.options_success_status));
        }
        Ok(())
    }

    /// The policy for the `Origin` header that lets in whom these headers let read.
    pub fn policy(&self) -> Origins {
        match &self.origin {
            CorsOrigin::Any | CorsOrigin::Mirror => Origins::any(),
            CorsOrigin::Listed(origins) => origins.clone(),
        }
    }

    /// Decides about one request, refused upgrades and errors included: a page must be able to read those too.
    ///
    /// An origin that is not allowed gets no permission and no list of what would be; a preflight still succeeds, and the
    /// browser concludes that the permission is missing.
    pub fn respond(&self, request: CorsRequest<'_>) -> CorsResponse {
        let mut response = CorsResponse { headers: Vec::new(), preflight: None };
        if request.is_options && !self.preflight_continue {
            response.preflight = Some(self.options_success_status);
        }
        let mut vary = Vec::new();
        let allowed = match &self.origin {
            CorsOrigin::Any => Some("*"),
            CorsOrigin::Mirror => request.origin.and_then(visible),
            CorsOrigin::Listed(origins) => request.origin.filter(|origin| origins.lists(origin)).and_then(visible),
        };
        if !matches!(self.origin, CorsOrigin::Any) {
            vary.push("Origin");
        }
        // What is reflected depends on what was asked, whatever the answer is.
        if request.is_options && self.allowed_headers.is_none() {
            vary.push("Access-Control-Request-Headers");
        }
        if let Some(origin) = allowed {
            self.push_permissions(request, origin, &mut response.headers);
        }
        if !vary.is_empty() {
            response.headers.push(("vary", vary.join(", ")));
        }
        response
    }

    fn push_permissions(&self, request: CorsRequest<'_>, origin: &str, headers: &mut Vec<(&'static str, String)>) {
        headers.push(("access-control-allow-origin", origin.to_owned()));
        if self.credentials && origin != "*" {
            headers.push(("access-control-allow-credentials", "true".to_owned()));
        }
        if request.is_options {
            headers.push(("access-control-allow-methods", self.methods.join(",")));
            let names = match &self.allowed_headers {
                Some(names) => Some(names.join(",")),
                None => request.request_headers.and_then(visible).map(str::to_owned),
            };
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                headers.push(("access-control-allow-headers", names));
            }
            if let Some(max_age) = self.max_age {
                headers.push(("access-control-max-age", max_age.as_secs().to_string()));
            }
        }
        if !self.exposed_headers.is_empty() {
            headers.push(("access-control-expose-headers", self.exposed_headers.join(",")));
        }
    }
}

/// The facts of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct CorsRequest<'a> {
    /// Whether the method is `OPTIONS`.
    pub is_options: bool,
    /// The value of `Origin`.
    pub origin: Option<&'a [u8]>,
    /// The value of `Access-Control-Request-Headers`.
    pub request_headers: Option<&'a [u8]>,
}

/// What CORS adds to a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsResponse {
    /// Headers for the response, names in lower case. Values are visible ASCII. `vary` may have to be merged with one that
    /// is already there.
    pub headers: Vec<(&'static str, String)>,
    /// The status to answer a preflight with, right away, with these headers, `Content-Length: 0` and nothing else. `None`:
    /// the request goes on.
    pub preflight: Option<u16>,
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCors {
    /// Browsers refuse `*` together with credentials.
    #[error("cookies cannot be allowed for any origin: list the origins")]
    AnyWithCredentials,
    /// A method or header is not one.
    #[error("`{0}` is not the name of a method or header")]
    NotAName(String),
    /// The status of a preflight is not a success.
    #[error("{0} is not the status of a success")]
    Status(u16),
    /// An origin is none.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

/// A header value as text, if it can be sent back.
fn visible(value: &[u8]) -> Option<&str> {
    let valid = !value.is_empty() && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| valid)
}

/// Whether this is a token of HTTP (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl fmt::Display for CorsResponse {
    /// The headers, one per line, as they look on the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Option<&[u8]> = Some(b"https://ok.example");
    const EVIL: Option<&[u8]> = Some(b"https://evil.example");

    #[track_caller]
    fn check(cors: &Cors, is_options: bool, origin: Option<&[u8]>, want: &[&str]) {
        let response = cors.respond(CorsRequest { is_options, origin, request_headers: Some(b"x-a, x-b") });
        let lines = response.to_string();
        assert_eq!(lines.lines().collect::<Vec<_>>(), want, "{cors:?}");
        assert_eq!(response.preflight, is_options.then_some(204));
    }

    #[test]
    fn every_origin_gets_a_star() {
        let cors = Cors::any();
        for origin in [OK, EVIL, Some(b"null".as_slice()), None] {
            check(&cors, false, origin, &["access-control-allow-origin: *"]);
        }
        check(
            &cors,
            true,
            OK,
            &[
                "access-control-allow-origin: *",
                "access-control-allow-methods: GET,HEAD,PUT,PATCH,POST,DELETE",
                "access-control-allow-headers: x-a, x-b",
                "vary: Access-Control-Request-Headers",
            ],
        );
    }

    #[test]
    fn a_listed_origin_is_reflected_and_another_learns_nothing() {
        let cors = Cors::allow("https://ok.example").credentials(true).exposed_headers(["x-c", "x-d"]);
        check(
            &cors,
            false,
            OK,
            &[
                "access-control-allow-origin: https://ok.example",
                "access-control-allow-credentials: true",
                "access-control-expose-headers: x-c,x-d",
                "vary: Origin",
            ],
        );
        check(
            &cors,
            true,
            OK,
            &[
                "access-control-allow-origin: https://ok.example",
                "access-control-allow-credentials: true",
                "access-control-allow-methods: GET,HEAD,PUT,PATCH,POST,DELETE",
                "access-control-allow-headers: x-a, x-b",
                "access-control-expose-headers: x-c,x-d",
                "vary: Origin, Access-Control-Request-Headers",
            ],
        );
        // H42
        for origin in [EVIL, None, Some(b"null".as_slice()), Some(b"https://ok.example.evil".as_slice())] {
            check(&cors, false, origin, &["vary: Origin"]);
            check(&cors, true, origin, &["vary: Origin, Access-Control-Request-Headers"]);
        }
    }

    #[test]
    fn options_are_sent_as_configured() {
        let cors = Cors::allow("https://ok.example")
            .methods(["GET", "POST"])
            .allowed_headers(["x-token"])
            .max_age(Duration::from_millis(600_500));
        check(
            &cors,
            true,
            OK,
            &[
                "access-control-allow-origin: https://ok.example",
                "access-control-allow-methods: GET,POST",
                "access-control-allow-headers: x-token",
                "access-control-max-age: 600",
                "vary: Origin",
            ],
        );
        let preflight = CorsRequest { is_options: true, origin: OK, request_headers: None };
        assert_eq!(cors.clone().options_success_status(200).respond(preflight).preflight, Some(200));
        let response = cors.preflight_continue(true).respond(preflight);
        assert_eq!((response.preflight, response.headers.len()), (None, 5));
    }

    #[test]
    fn patterns_and_functions_work_as_in_the_policy() {
        let cors = Cors::listed(Origins::same_origin().allow("https://*.x.com").allow_null());
        check(
            &cors,
            false,
            Some(b"https://a.x.com"),
            &["access-control-allow-origin: https://a.x.com", "vary: Origin"],
        );
        check(&cors, false, Some(b"null"), &["access-control-allow-origin: null", "vary: Origin"]);
        check(&cors, false, Some(b"https://x.com"), &["vary: Origin"]);
        let cors = Cors::listed(Origins::listed().allow_if(|origin| origin.ends_with(".example")));
        check(&cors, false, EVIL, &["access-control-allow-origin: https://evil.example", "vary: Origin"]);
        let cors = Cors::mirror_unchecked().credentials(true);
        check(
            &cors,
            false,
            EVIL,
            &[
                "access-control-allow-origin: https://evil.example",
                "access-control-allow-credentials: true",
                "vary: Origin",
            ],
        );
        check(&cors, false, None, &["vary: Origin"]);
    }

    #[test]
    fn nothing_invisible_is_sent_back() {
        // H44
        for value in [b"https://a\r\nx: y".as_slice(), b"https://\xfc", b"a\0b", b""] {
            let request = CorsRequest { is_options: true, origin: Some(value), request_headers: Some(value) };
            let response = Cors::mirror_unchecked().respond(request);
            assert_eq!(response.to_string(), "vary: Origin, Access-Control-Request-Headers\n");
            let request = CorsRequest { origin: OK, ..request };
            assert!(!Cors::mirror_unchecked().respond(request).to_string().contains("allow-headers"));
        }
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        check(Cors::any(), None);
        check(Cors::any().credentials(true), Some(InvalidCors::AnyWithCredentials));
        check(Cors::mirror_unchecked().credentials(true), None);
        check(Cors::any().methods(["GET\r\n"]), Some(InvalidCors::NotAName("GET\r\n".to_owned())));
        check(Cors::any().allowed_headers(["a b"]), Some(InvalidCors::NotAName("a b".to_owned())));
        check(Cors::any().exposed_headers([""]), Some(InvalidCors::NotAName(String::new())));
        check(Cors::any().options_success_status(302), Some(InvalidCors::Status(302)));
        check(Cors::allow("x.com"), Some(InvalidCors::Pattern(InvalidPattern("x.com".to_owned()))));

        #[track_caller]
        fn check(cors: Cors, want: Option<InvalidCors>) {
            assert_eq!(cors.validate().err(), want);
        }
    }

    #[test]
    fn who_may_read_may_also_come_in() {
        let policy = Cors::allow("https://ok.example").policy();
        assert_eq!(policy.check(OK, Some("api.example"), true, None), Ok(()));
        assert!(policy.check(EVIL, Some("api.example"), true, None).is_err());
        assert_eq!(policy.check(Some(b"https://api.example"), Some("api.example"), true, None), Ok(()));
        assert!(Cors::any().policy().is_any());
        assert!(Cors::mirror_unchecked().policy().is_any());
    }
}
