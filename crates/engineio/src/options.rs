//! The options of a server, with Node's names and defaults.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use engineio_proto::{
    Frame, Limits, Transport,
    cors::{Cors, InvalidCors},
    gate::AddressLimits,
    origin::{Hosts, Origins},
    proxies::TrustedProxies,
    session,
    ws::deflate,
};
use http::{Extensions, HeaderMap, Response};

use crate::{
    Carrier, ForwardOptions, Handshake, Hsts, RefusedRequest, RequireTls, SecurityLog, SessionBinding,
    door::ConnectionHook,
};

/// The future of an asynchronous hook.
pub type HookFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type AllowRequest = Arc<dyn Fn(&Handshake) -> HookFuture<Result<(), String>> + Send + Sync>;
type Challenge = Arc<dyn Fn(&Handshake) -> HookFuture<Result<(), Response<Bytes>>> + Send + Sync>;
type HeadersHook = Arc<dyn Fn(&mut HeaderMap, &Handshake) + Send + Sync>;
type RefusalHook = Arc<dyn Fn(&RefusedRequest<'_>) + Send + Sync>;
type PeerHook = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

/// The options of an Engine.IO server. Build one with [`Options::default`] and the methods of the
/// [`Builder`](crate::Builder).
#[derive(Clone)]
pub struct Options {
    pub(crate) path: String,
    pub(crate) add_trailing_slash: bool,
    pub(crate) transports: Vec<Transport>,
    pub(crate) allow_upgrades: bool,
    pub(crate) allow_eio3: bool,
    pub(crate) max_connections: usize,
    pub(crate) tcp_timeout: Option<Duration>,
    pub(crate) session: session::Config,
    pub(crate) origins: Option<Origins>,
    pub(crate) hosts: Option<Hosts>,
    pub(crate) loopback_hosts_only: bool,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) require_tls: Option<RequireTls>,
    pub(crate) hsts: Option<Hsts>,
    pub(crate) security_headers: bool,
    pub(crate) binding: Option<SessionBinding>,
    pub(crate) addresses: Option<AddressLimits>,
    pub(crate) cors: Option<Cors>,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) per_message_deflate: Option<deflate::Options>,
    pub(crate) http_compression: Option<usize>,
    pub(crate) initial_packet: Option<Frame>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) allow_request: Option<AllowRequest>,
    pub(crate) initial_headers: Option<HeadersHook>,
    pub(crate) headers: Option<HeadersHook>,
    pub(crate) on_refused: Option<RefusalHook>,
    pub(crate) on_connection_refused: Option<ConnectionHook>,
    pub(crate) peer_addr: Option<PeerHook>,
    pub(crate) security: SecurityLog,
    pub(crate) forward: Option<(Arc<dyn Carrier>, ForwardOptions)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/engine.io".to_owned(),
            add_trailing_slash: true,
            transports: vec![Transport::Polling, Transport::WebSocket],
            allow_upgrades: true,
            allow_eio3: false,
            max_connections: 1_000_000,
            tcp_timeout: Some(Duration::from_secs(60)),
            session: session::Config::default(),
            origins: None,
            hosts: None,
            loopback_hosts_only: false,
            trusted_proxies: TrustedProxies::default(),
            require_tls: None,
            hsts: None,
            security_headers: false,
            binding: None,
            addresses: None,
            cors: None,
            cookie: None,
            per_message_deflate: None,
            http_compression: Some(1024),
            initial_packet: None,
            challenge: None,
            allow_request: None,
            initial_headers: None,
            headers: None,
            on_refused: None,
            on_connection_refused: None,
            peer_addr: None,
            security: SecurityLog::new(),
            forward: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("transports", &self.transports)
            .field("allow_eio3", &self.allow_eio3)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// The cookie that carries the session id for load balancers with sticky sessions. Node: `cookie`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cookie {
    /// The cookie's name. Default: `io`.
    pub name: String,
    /// The `Path` attribute. Default: `/`.
    pub path: String,
    /// The `Domain` attribute. Default: none.
    pub domain: Option<String>,
    /// Whether scripts cannot read it. Default: `true`.
    pub http_only: bool,
    /// The `SameSite` attribute: `Lax`, `Strict` or `None`. Default: `Lax`.
    pub same_site: String,
    /// Whether it goes over TLS only. Default: `false`; it is set by itself on sessions opened over TLS.
    pub secure: bool,
    /// The `Max-Age` attribute. Default: none, the cookie lasts as long as the browser runs.
    pub max_age: Option<Duration>,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "io".to_owned(),
            path: "/".to_owned(),
            domain: None,
            http_only: true,
            same_site: "Lax".to_owned(),
            secure: false,
            max_age: None,
        }
    }
}

/// An option that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    /// A cookie attribute holds characters that would end it or start another.
    #[error("the cookie's {0} holds characters that a cookie cannot hold")]
    Cookie(&'static str),
    /// The path does not start with a slash, or holds a query.
    #[error("the path must start with `/` and hold neither `?` nor `#`")]
    Path,
    /// No transport is left.
    #[error("at least one of polling and websocket must be allowed")]
    NoTransport,
    /// An origin pattern that is none.
    #[error("`{0}` is not an origin pattern such as `https://example.org` or `https://*.example.org`")]
    Origin(String),
    /// A name of the server that no client could ask for.
    #[error("`{0}` is not a host name such as `example.org` or `*.example.org`")]
    Host(String),
    /// The CORS options contradict each other.
    #[error("cors: {0}")]
    Cors(InvalidCors),
    /// A time that would disconnect everybody.
    #[error("{0} must be longer than zero")]
    Zero(&'static str),
}

/// Whether this can be the name of a cookie.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Cookie {
    pub(crate) fn check(&self) -> Result<(), InvalidOption> {
        let is_value = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b';');
        if !is_token(&self.name) {
            return Err(InvalidOption::Cookie("name"));
        }
        if !is_value(&self.path) {
            return Err(InvalidOption::Cookie("path"));
        }
        if !self.domain.as_deref().is_none_or(is_value) {
            return Err(InvalidOption::Cookie("domain"));
        }
        if !["Lax", "Strict", "None"].contains(&self.same_site.as_str()) {
            return Err(InvalidOption::Cookie("same_site"));
        }
        Ok(())
    }

    /// The value of the `Set-Cookie` header.
    pub(crate) fn header(&self, sid: &str, secure: bool) -> String {
        let mut text = format!("{}={sid}; Path={}", self.name, self.path);
        if let Some(domain) = &self.domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        if let Some(age) = self.max_age {
            text.push_str(&format!("; Max-Age={}", age.as_secs()));
        }
        if self.http_only {
            text.push_str("; HttpOnly");
        }
        if self.secure || secure {
            text.push_str("; Secure");
        }
        text.push_str("; SameSite=");
        text.push_str(&self.same_site);
        text
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), InvalidOption> {
        if !self.path.starts_with('/') || self.path.contains(['?', '#']) {
            return Err(InvalidOption::Path);
        }
        if !self.transports.iter().any(|transport| *transport != Transport::WebTransport) {
            return Err(InvalidOption::NoTransport);
        }
        let session = &self.session;
        for (name, value) in [
            ("ping_interval", session.ping_interval),
            ("ping_timeout", session.ping_timeout),
            ("upgrade_timeout", session.upgrade_timeout),
        ]
        .into_iter()
        .chain(self.forward.iter().flat_map(|(_, options)| {
            [("heartbeat_interval", options.heartbeat_interval), ("heartbeat_timeout", options.heartbeat_timeout)]
        })) {
            if value.is_zero() {
                return Err(InvalidOption::Zero(name));
            }
        }
        self.origin_policy().validate().map_err(|error| InvalidOption::Origin(error.0))?;
        self.host_policy().validate().map_err(|error| InvalidOption::Host(error.0))?;
        let bound = self.binding.as_ref().and_then(|binding| binding.cookie.as_deref());
        if !bound.is_none_or(is_token) {
            return Err(InvalidOption::Cookie("name (of the session's binding)"));
        }
        if let Some(cors) = &self.cors {
            cors.validate().map_err(InvalidOption::Cors)?;
        }
        self.cookie.as_ref().map_or(Ok(()), Cookie::check)
    }

    /// Who may use the server: what was asked for, else whom CORS lets read, else the same origin.
    pub(crate) fn origin_policy(&self) -> Origins {
        match (&self.origins, &self.cors) {
            (Some(origins), _) => origins.clone(),
            (None, Some(cors)) => cors.policy(),
            (None, None) => Origins::same_origin(),
        }
    }

    /// The names under which the server answers.
    pub(crate) fn host_policy(&self) -> Hosts {
        match &self.hosts {
            Some(hosts) => hosts.clone(),
            None if self.loopback_hosts_only => Hosts::loopback(),
            None => Hosts::any(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.session.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_the_attributes_of_nodes_default() {
        assert_eq!(Cookie::default().header("SID", false), "io=SID; Path=/; HttpOnly; SameSite=Lax");
        let cookie =
            Cookie { domain: Some("x.com".into()), max_age: Some(Duration::from_secs(60)), ..Cookie::default() };
        assert_eq!(cookie.header("S", true), "io=S; Path=/; Domain=x.com; Max-Age=60; HttpOnly; Secure; SameSite=Lax");
    }

    #[test]
    fn a_cookie_cannot_smuggle_attributes_or_headers() {
        let cookie = Cookie::default();
        for (cookie, what) in [
            (Cookie { name: "a=b; Path=/".into(), ..cookie.clone() }, "name"),
            (Cookie { name: String::new(), ..cookie.clone() }, "name"),
            (Cookie { path: "/; Secure".into(), ..cookie.clone() }, "path"),
            (Cookie { path: "/\r\nX: 1".into(), ..cookie.clone() }, "path"),
            (Cookie { domain: Some("x;y".into()), ..cookie.clone() }, "domain"),
            (Cookie { same_site: "Lax; x".into(), ..cookie.clone() }, "same_site"),
        ] {
            assert_eq!(cookie.check(), Err(InvalidOption::Cookie(what)));
        }
        assert_eq!(cookie.check(), Ok(()));
    }
}
