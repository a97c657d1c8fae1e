//! The options of a client, with Node's names and defaults.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use engineio_proto::{Revision, Transport, client, ws::deflate};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ConnectError, proxy::Proxy};
use crate::link::ReadWrite;

pub(super) type Stream = Box<dyn ReadWrite>;
type Dialling = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;
type Connector = Arc<dyn Fn(String, u16) -> Dialling + Send + Sync>;
type Change = Arc<dyn Fn(ClientOptions) -> ClientOptions + Send + Sync>;

/// The options of an Engine.IO client. Clones share what [`remember_upgrade`](Self::remember_upgrade) remembers.
#[derive(Clone)]
pub struct ClientOptions {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) secure: bool,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) add_trailing_slash: bool,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) transports: Vec<Transport>,
    pub(super) remember_upgrade: bool,
    pub(super) try_all_transports: bool,
    pub(super) with_credentials: bool,
    pub(super) timestamp_param: String,
    pub(super) timestamp_requests: Option<bool>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) protocols: Vec<String>,
    pub(super) per_message_deflate: Option<deflate::Options>,
    pub(super) max_inbound_payload: usize,
    pub(super) write_timeout: Duration,
    pub(super) session: client::Config,
    pub(super) connector: Option<Connector>,
    pub(super) proxy: Option<Proxy>,
    #[cfg(feature = "client-tls")]
    pub(super) tls: Option<super::tls::ClientTls>,
    pub(super) transport_options: Vec<(Transport, Change)>,
    pub(super) upgraded_before: Arc<AtomicBool>,
    pub(super) requests: Arc<AtomicU64>,
}

/// Why an address or an option is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClientOption {
    /// Not a URL with a host.
    #[error("`{0}` is not a URL such as `https://example.org`")]
    Url(String),
    /// The scheme is neither `http`, `https`, `ws` nor `wss`.
    #[error("`{0}` is not one of http, https, ws and wss")]
    Scheme(String),
    /// Not the name of a header, or not a value that one may have.
    #[error("`{0}` is not a header, or its value may not be sent")]
    Header(String),
    /// Not the URL of a proxy. It is not repeated here: it may hold a password.
    #[error("not the URL of a proxy, such as `http://proxy.example.org:3128` or `socks5h://127.0.0.1:1080`")]
    Proxy,
}

impl ClientOptions {
    /// The options for a server at this URL: `http`, `https`, `ws` or `wss`. Its query is sent with every request; its
    /// path is not looked at (see [`path`](Self::path)).
    ///
    /// # Errors
    /// [`InvalidClientOption`] when it is no such URL.
    pub fn new(url: &str) -> Result<Self, InvalidClientOption> {
        let invalid = || InvalidClientOption::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(other) => return Err(InvalidClientOption::Scheme(other.to_owned())),
            None => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid());
        }
        let default_port = if secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        let shown = authority.host();
        let authority = if port == default_port { shown.to_owned() } else { format!("{shown}:{port}") };
        let query = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        // Already encoded by whoever wrote the URL.
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Ok(Self {
            host,
            port,
            secure,
            authority,
            path: "/engine.io".to_owned(),
            add_trailing_slash: true,
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            headers: HeaderMap::new(),
            transports: vec![Transport::Polling, Transport::WebSocket],
            remember_upgrade: false,
            try_all_transports: false,
            with_credentials: false,
            timestamp_param: "t".to_owned(),
            timestamp_requests: None,
            request_timeout: None,
            protocols: Vec::new(),
            per_message_deflate: Some(deflate::Options::default()),
            max_inbound_payload: 16 << 20,
            write_timeout: Duration::from_secs(30),
            session: client::Config::default(),
            connector: None,
            proxy: None,
            #[cfg(feature = "client-tls")]
            tls: None,
            transport_options: Vec::new(),
            upgraded_before: Arc::default(),
            requests: Arc::new(AtomicU64::new(rand::random::<u32>().into())),
        })
    }

    /// Host and port of the server as the `Host` header has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of the server. Default: `/engine.io`. Node: `path`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Whether the path ends in a slash. Default: true. Node: `addTrailingSlash`.
    #[must_use]
    pub fn add_trailing_slash(mut self, add: bool) -> Self {
        self.add_trailing_slash = add;
        self
    }

    /// Adds a parameter to the query of every request; it is encoded as it must be. Node: `query`.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((encode(name), encode(value)));
        self
    }

    /// Adds a header to every request, also to that of a WebSocket. Node: `extraHeaders`.
    ///
    /// # Errors
    /// [`InvalidClientOption::Header`] when name or value cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidClientOption> {
        let invalid = || InvalidClientOption::Header(name.to_owned());
        let name: HeaderName = name.parse().map_err(|_| invalid())?;
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// Replaces the headers that are added to every request. Node: `extraHeaders`.
    pub fn set_headers(&mut self, headers: HeaderMap) {
        self.headers = headers;
    }

    /// The transports to use, the first one first. Default: polling, then WebSocket. Node: `transports`.
    #[must_use]
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// Whether a session that begins on polling moves to WebSocket. Default: true. Node: `upgrade`.
    #[must_use]
    pub fn upgrade(mut self, upgrade: bool) -> Self {
        self.session.upgrade = upgrade;
        self
    }

    /// Whether to begin on WebSocket when the last session got there. Default: false. Node: `rememberUpgrade`.
    #[must_use]
    pub fn remember_upgrade(mut self, remember: bool) -> Self {
        self.remember_upgrade = remember;
        self
    }

    /// Whether to try the next transport when one fails to open. Default: false. Node: `tryAllTransports`.
    #[must_use]
    pub fn try_all_transports(mut self, try_all: bool) -> Self {
        self.try_all_transports = try_all;
        self
    }

    /// Whether cookies that the server sets are sent back, over polling and WebSocket alike. They are forgotten with the
    /// session. Default: false. Node: `withCredentials`.
    #[must_use]
    pub fn with_credentials(mut self, with: bool) -> Self {
        self.with_credentials = with;
        self
    }

    /// The parameter that keeps caches from answering. Default: `t`. Node: `timestampParam`.
    #[must_use]
    pub fn timestamp_param(mut self, name: impl Into<String>) -> Self {
        self.timestamp_param = name.into();
        self
    }

    /// Whether requests carry that parameter. Default: those of polling do. Node: `timestampRequests`.
    #[must_use]
    pub fn timestamp_requests(mut self, stamp: bool) -> Self {
        self.timestamp_requests = Some(stamp);
        self
    }

    /// Whether binary messages travel as base64, also over WebSocket. Default: false. Node: `forceBase64`.
    #[must_use]
    pub fn force_base64(mut self, force: bool) -> Self {
        self.session.force_base64 = force;
        self
    }

    /// Short polling: how long to wait after a poll that brought nothing, at least 100 ms, instead of leaving a request open.
    /// Servers of this repository are asked to answer at once (`hold=0`); others hold the poll as they like. Default: `None`,
    /// long-polling.
    #[must_use]
    pub fn poll_interval(mut self, interval: Option<Duration>) -> Self {
        self.session.poll_interval = interval.map(bounded);
        self
    }

    /// How long one request of polling may take; it must be longer than the server's `pingInterval`. Default: `None`.
    /// Node: `requestTimeout`.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = timeout.map(bounded);
        self
    }

    /// How long opening may take altogether. Default: 20 s. Node: `timeout`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.session.open_timeout = bounded(timeout);
        self
    }

    /// The WebSocket subprotocols to offer. Default: none. Node: `protocols`.
    #[must_use]
    pub fn protocols<S: Into<String>>(mut self, protocols: impl IntoIterator<Item = S>) -> Self {
        self.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Compression of WebSocket messages; `None` offers none. Default: messages from 1,024 bytes. Node: `perMessageDeflate`.
    #[must_use]
    pub fn per_message_deflate(mut self, options: Option<deflate::Options>) -> Self {
        self.per_message_deflate = options;
        self
    }

    /// The largest WebSocket message and the largest answer to a poll that are taken, in bytes. Default: 16 MiB. Node:
    /// `maxPayload` of `ws`.
    #[must_use]
    pub fn max_inbound_payload(mut self, bytes: usize) -> Self {
        self.max_inbound_payload = bytes;
        self
    }

    /// How many bytes and messages may wait to be sent. Default: 16 MiB and 65,536.
    #[must_use]
    pub fn send_queue(mut self, bytes: usize, messages: usize) -> Self {
        self.session.send_queue_bytes = bytes;
        self.session.send_queue_packets = messages;
        self
    }

    /// The revision of the protocol: [`Revision::V3`] for servers of Socket.IO 2.x. Default: [`Revision::V4`].
    #[must_use]
    pub fn revision(mut self, revision: Revision) -> Self {
        self.session.revision = revision;
        self
    }

    /// How to make a connection to a host and a port: through a proxy, over a socket file, in memory. TLS comes on top of
    /// it. Default: TCP. Node: `agent`.
    #[must_use]
    pub fn connector<F, Fut, S>(mut self, connect: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connector = Some(Arc::new(move |host, port| {
            let dialling = connect(host, port);
            Box::pin(async move { Ok(Box::new(dialling.await?) as Stream) })
        }));
        self
    }

    /// The proxy to go through, with polling and WebSocket alike; a [`connector`](Self::connector) then connects to the proxy.
    /// Default: none; variables of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) are not read.
    /// Node: `agent`.
    #[must_use]
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// The TLS of `https` and `wss`. Default: the roots of the platform, no client certificate.
    #[cfg(feature = "client-tls")]
    #[must_use]
    pub fn tls(mut self, tls: super::tls::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Other options for one transport: path, query, headers, proxy, connector, TLS, time stamps, whatever a request is made
    /// of. What belongs to the session is not looked at. Node: `transportOptions`.
    ///
    /// ```
    /// # use engineio::{Transport, client::ClientOptions};
    /// let options = ClientOptions::new("https://example.org")?
    ///     .transport_options(Transport::WebSocket, |options| options.path("/live").query("via", "websocket"));
    /// # Ok::<(), engineio::client::InvalidClientOption>(())
    /// ```
    #[must_use]
    pub fn transport_options(
        mut self,
        transport: Transport,
        change: impl Fn(Self) -> Self + Send + Sync + 'static,
    ) -> Self {
        self.transport_options.push((transport, Arc::new(change)));
        self
    }

    /// The options for the requests of a transport.
    pub(super) fn of(self: &Arc<Self>, transport: Transport) -> Arc<Self> {
        let changes = self.transport_options.iter().filter(|(of, _)| *of == transport);
        changes.fold(Arc::clone(self), |options, (_, change)| Arc::new(change(Self::clone(&options))))
    }

    /// The transports to try, in order.
    pub(super) fn attempts(&self) -> Vec<Transport> {
        let mut transports = self.transports.clone();
        let usable = |transport: &Transport| *transport != Transport::WebTransport;
        transports.retain(usable);
        let remembered = self.remember_upgrade && self.upgraded_before.load(Ordering::Relaxed);
        if remembered && let Some(at) = transports.iter().position(|transport| *transport == Transport::WebSocket) {
            transports.swap(0, at);
        }
        if !self.try_all_transports {
            transports.truncate(1);
        }
        transports
    }

    /// What the session machine is told: without WebSocket among the transports there is nothing to upgrade to.
    pub(super) fn session(&self) -> client::Config {
        let upgrade = self.session.upgrade && self.transports.contains(&Transport::WebSocket);
        client::Config { upgrade, ..self.session.clone() }
    }

    /// The path and query of a request.
    pub(super) fn target(&self, transport: Transport, sid: Option<&str>) -> String {
        let mut target = self.path.trim_end_matches('/').to_owned();
        if !target.starts_with('/') {
            target.insert(0, '/');
        }
        if self.add_trailing_slash && !target.ends_with('/') {
            target.push('/');
        }
        target.push('?');
        for (name, value) in &self.query {
            target.push_str(name);
            target.push('=');
            target.push_str(value);
            target.push('&');
        }
        let revision = if self.session.revision == Revision::V3 { '3' } else { '4' };
        target.extend(["EIO=", revision.encode_utf8(&mut [0; 4]), "&transport=", transport.name()]);
        if self.timestamp_requests.unwrap_or(transport == Transport::Polling) {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            target.extend(["&", &self.timestamp_param, "=", &base36(number)]);
        }
        if self.session.force_base64 {
            target.push_str("&b64=1");
        }
        if self.session.poll_interval.is_some() && transport == Transport::Polling {
            target.push_str("&hold=0");
        }
        if let Some(sid) = sid {
            target.extend(["&sid=", sid]);
        }
        target
    }

    /// A connection to the server, through the proxy if there is one, TLS included.
    pub(super) async fn dial(&self) -> Result<Stream, ConnectError> {
        let stream = match &self.proxy {
            None => self.connect(&self.host, self.port).await?,
            Some(proxy) => {
                let (host, port) = proxy.address();
                let mut stream = self.connect(host, port).await?;
                if proxy.is_secure() {
                    stream = self.secure(host, stream).await?;
                }
                proxy.pass(&mut stream, &self.host, self.port).await?;
                stream
            }
        };
        if self.secure { self.secure(&self.host, stream).await } else { Ok(stream) }
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        if let Some(connect) = &self.connector {
            return connect(host.to_owned(), port).await;
        }
        // The error of the system does not say where there is nobody.
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{host}:{port}: {error}"));
        let tcp = tokio::net::TcpStream::connect((host, port)).await.map_err(told)?;
        tcp.set_nodelay(true)?;
        Ok(Box::new(tcp))
    }

    #[cfg(feature = "client-tls")]
    async fn secure(&self, host: &str, stream: Stream) -> Result<Stream, ConnectError> {
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => super::tls::ClientTls::platform()?,
        };
        tls.connect(host, stream).await
    }

    #[cfg(not(feature = "client-tls"))]
    async fn secure(&self, _: &str, _: Stream) -> Result<Stream, ConnectError> {
        Err(ConnectError::NoTls)
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Queries and headers may hold secrets.
        f.debug_struct("ClientOptions")
            .field("authority", &self.authority)
            .field("path", &self.path)
            .field("add_trailing_slash", &self.add_trailing_slash)
            .field("transports", &self.transports)
            .field("upgrade", &self.session.upgrade)
            .field("remember_upgrade", &self.remember_upgrade)
            .field("try_all_transports", &self.try_all_transports)
            .field("with_credentials", &self.with_credentials)
            .field("timestamp_param", &self.timestamp_param)
            .field("timestamp_requests", &self.timestamp_requests)
            .field("force_base64", &self.session.force_base64)
            .field("poll_interval", &self.session.poll_interval)
            .field("request_timeout", &self.request_timeout)
            .field("timeout", &self.session.open_timeout)
            .field("protocols", &self.protocols)
            .field("per_message_deflate", &self.per_message_deflate)
            .field("max_inbound_payload", &self.max_inbound_payload)
            .field("send_queue", &(self.session.send_queue_bytes, self.session.send_queue_packets))
            .field("revision", &self.session.revision)
            .field("connector", &self.connector.as_ref().map(|_| ..))
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// No deadline is so far away that no clock reaches it.
fn bounded(time: Duration) -> Duration {
    time.min(Duration::from_secs(10 * 365 * 24 * 3600))
}

/// As `encodeURIComponent` does.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            digits.reverse();
            return digits.into_iter().map(char::from).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_how() {
        check("http://example.org", Some(("example.org", 80, false, "example.org")));
        check("https://example.org/chat", Some(("example.org", 443, true, "example.org")));
        check("ws://127.0.0.1:3000", Some(("127.0.0.1", 3000, false, "127.0.0.1:3000")));
        check("wss://[::1]:8443", Some(("::1", 8443, true, "[::1]:8443")));
        check("http://user:secret@example.org:80", Some(("example.org", 80, false, "example.org")));
        for url in ["", "example.org", "/chat", "ftp://example.org", "http://", "http://a b"] {
            check(url, None);
        }

        #[track_caller]
        fn check(url: &str, want: Option<(&str, u16, bool, &str)>) {
            let got = ClientOptions::new(url).ok();
            let got = got.as_ref().map(|o| (o.host.as_str(), o.port, o.secure, o.authority.as_str()));
            assert_eq!(got, want, "url: {url}");
        }
    }

    #[test]
    fn targets_are_those_of_node() {
        let options = ClientOptions::new("http://h?a=1&b").unwrap().query("c d", "é&").timestamp_requests(false);
        let target = options.target(Transport::Polling, None);
        assert_eq!(target, "/engine.io/?a=1&b=&c%20d=%C3%A9%26&EIO=4&transport=polling");
        let options = ClientOptions::new("http://h").unwrap().path("/x/").add_trailing_slash(false).force_base64(true);
        let options = options.revision(Revision::V3);
        assert_eq!(options.target(Transport::WebSocket, Some("s")), "/x?EIO=3&transport=websocket&b64=1&sid=s");
        let stamped = options.target(Transport::Polling, None);
        assert!(stamped.starts_with("/x?EIO=3&transport=polling&t="), "{stamped}");
        assert_ne!(stamped, options.target(Transport::Polling, None));
    }

    #[test]
    fn a_client_of_one_transport_stays_on_it() {
        use Transport::{Polling, WebSocket};
        let options = ClientOptions::new("http://h").unwrap();
        assert!(options.session().upgrade);
        assert!(!options.clone().transports([Polling]).session().upgrade);
        assert!(options.clone().transports([WebSocket, Polling]).session().upgrade);
        assert!(!options.upgrade(false).session().upgrade);
    }

    #[test]
    fn transports_are_tried_in_order() {
        use Transport::{Polling, WebSocket, WebTransport};
        let options = ClientOptions::new("http://h").unwrap();
        assert_eq!(options.attempts(), [Polling]);
        let options = options.transports([WebTransport, Polling, WebSocket]).try_all_transports(true);
        assert_eq!(options.attempts(), [Polling, WebSocket]);
        let options = options.remember_upgrade(true);
        assert_eq!(options.attempts(), [Polling, WebSocket]);
        options.clone().upgraded_before.store(true, Ordering::Relaxed);
        assert_eq!(options.attempts(), [WebSocket, Polling]);
        assert_eq!(options.transports([Polling]).attempts(), [Polling]);
    }
}
