//! Which proxy to go through, and going through it. What is said on the way is `engineio_proto::client::tunnel`'s.

use std::{fmt, net::IpAddr};

use engineio_proto::client::tunnel::{Credentials, Tunnel, credentials};
use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ConnectError, InvalidClientOption, options::Stream};

/// A proxy: HTTP with `CONNECT`, or SOCKS 5.
///
/// Requests of polling and WebSockets both go through a tunnel, also to servers without TLS, so an HTTP proxy must allow
/// `CONNECT` to the server's port.
///
/// ```
/// # use engineio::client::{InvalidClientOption, Proxy};
/// let proxy = Proxy::new("http://proxy.example.org:3128")?.credentials("ann", "secret");
/// let tor = Proxy::new("socks5h://127.0.0.1:9050")?;
/// # Ok::<(), InvalidClientOption>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    /// TLS to the proxy.
    Https,
    /// The server's name is looked up here.
    Socks5,
    /// The server's name is looked up by the proxy.
    Socks5h,
}

impl Proxy {
    /// A proxy by its URL, which may hold `user:password@`:
    ///
    /// * `http://` (port 80 if none is given), `https://` (443): HTTP, the latter over TLS with the same options as the server's;
    /// * `socks5h://` (1080): SOCKS 5, which looks up the name of the server itself;
    /// * `socks5://` (1080): SOCKS 5 that is told the server's address, looked up here.
    ///
    /// # Errors
    /// [`InvalidClientOption::Proxy`] when it is no such URL.
    pub fn new(url: &str) -> Result<Self, InvalidClientOption> {
        let uri: Uri = url.parse().map_err(|_| InvalidClientOption::Proxy)?;
        let (kind, default_port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("https") => (Kind::Https, 443),
            Some("socks5") => (Kind::Socks5, 1080),
            Some("socks5h") => (Kind::Socks5h, 1080),
            _ => return Err(InvalidClientOption::Proxy),
        };
        let authority = uri.authority().ok_or(InvalidClientOption::Proxy)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(InvalidClientOption::Proxy);
        }
        Ok(Self {
            kind,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            credentials: authority.as_str().rsplit_once('@').map(|(userinfo, _)| credentials(userinfo)),
        })
    }

    /// The user and the password that the proxy wants.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub(super) fn is_secure(&self) -> bool {
        self.kind == Kind::Https
    }

    /// Asks the proxy on this stream for a connection. Has no deadline of its own: opening, an upgrade and a request have.
    pub(super) async fn pass(&self, stream: &mut Stream, host: &str, port: u16) -> Result<(), ConnectError> {
        let credentials: Credentials<'_> = self.credentials.as_ref().map(|(user, password)| (&**user, &**password));
        let mut tunnel = match self.kind {
            Kind::Http | Kind::Https => Tunnel::http(host, port, credentials),
            Kind::Socks5h => Tunnel::socks5(host, port, credentials)?,
            Kind::Socks5 => Tunnel::socks5(&look_up(host, port).await?.to_string(), port, credentials)?,
        };
        let mut buffer = [0; 1024];
        loop {
            let output = tunnel.output();
            if !output.is_empty() {
                stream.write_all(&output).await?;
                stream.flush().await?;
            }
            if tunnel.is_open() {
                return Ok(());
            }
            let wants = tunnel.wants().min(buffer.len());
            let read = stream.read(&mut buffer[..wants]).await?;
            tunnel.on_bytes(&buffer[..read])?;
        }
    }
}

async fn look_up(host: &str, port: u16) -> Result<IpAddr, ConnectError> {
    let found = tokio::net::lookup_host((host, port)).await?.next();
    let found = found.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"))?;
    Ok(found.ip())
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_which_proxy() {
        check("http://proxy", Some((Kind::Http, "proxy", 80, None)));
        check("http://ann:p%40ss@proxy:3128/", Some((Kind::Http, "proxy", 3128, Some(("ann", "p@ss")))));
        check("https://proxy.example.org", Some((Kind::Https, "proxy.example.org", 443, None)));
        check("socks5://127.0.0.1", Some((Kind::Socks5, "127.0.0.1", 1080, None)));
        check("socks5h://ann@[::1]:9050", Some((Kind::Socks5h, "::1", 9050, Some(("ann", "")))));
        for url in ["", "proxy:3128", "socks4://h", "socks://h", "http://", "http://h/path", "http://h?q", "ftp://h"] {
            check(url, None);
        }

        #[track_caller]
        fn check(url: &str, want: Option<(Kind, &str, u16, Credentials<'_>)>) {
            let got = Proxy::new(url).ok();
            let got = got.as_ref().map(|proxy| {
                let credentials = proxy.credentials.as_ref().map(|(user, password)| (&**user, &**password));
                (proxy.kind, proxy.host.as_str(), proxy.port, credentials)
            });
            assert_eq!(got, want, "url: {url}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let proxy = Proxy::new("http://ann:secret@proxy:3128").expect("a proxy");
        assert!(!format!("{proxy:?}").contains("secret"), "{proxy:?}");
        let error = Proxy::new("http://ann:secret@proxy:3128/path").expect_err("a path");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}
