//! TLS for the stand-alone listener: rustls, with certificates that can be exchanged while it runs.
//!
//! The provider is ring: it builds with a C compiler alone, where aws-lc-rs wants cmake or NASM on some machines. Who needs
//! another one, client certificates or session tickets shared between machines makes a [`ServerConfig`] and
//! [`Tls::from_config`].
//!
//! A connection that idles holds its keys and one read buffer of 4 KiB, both inside rustls; what was written is freed once it
//! is on its way, so the size of records plays no part in it.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::Duration};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    guarded::Guarded,
    link::{Io, Taken},
};

/// The certificate, its key and what else TLS needs. Cloning it is cheap; clones share the certificate, so one that is kept
/// can [`reload`](Self::reload) what a running server uses.
///
/// TLS 1.2 and 1.3. Clients choose HTTP/2 or HTTP/1.1 by ALPN. Sessions are resumed with tickets that the server does not
/// have to remember; early data is not taken.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    http2: bool,
    watch: Option<Duration>,
}

struct Shared {
    config: Arc<ServerConfig>,
    /// Without ALPN for HTTP/2.
    http1_only: Arc<ServerConfig>,
    current: Option<Arc<Current>>,
    source: Option<Source>,
}

/// Where a certificate comes from, and what was read there last.
struct Source {
    certificate: PathBuf,
    key: PathBuf,
    last: Mutex<(Vec<u8>, Vec<u8>)>,
}

/// The certificate in use.
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{path}`: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        error: io::Error,
    },
    /// What should be PEM is not, or holds no certificate or no private key.
    #[error("{0}")]
    Pem(String),
    /// The key cannot be used, or does not belong to the certificate.
    #[error("the certificate cannot be used: {0}")]
    Certificate(rustls::Error),
    /// There is nothing to load anew: it was not made from files.
    #[error("this certificate did not come from files")]
    NoFiles,
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

impl Tls {
    /// A certificate chain and its private key in PEM files, as certificate authorities' programs write them.
    ///
    /// A listener looks every minute whether they have changed; see [`watch`](Self::watch).
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not fit together.
    pub fn from_pem_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let source = Source { certificate: certificate.into(), key: key.into(), last: Mutex::default() };
        let read = source.read()?;
        let key = parse(&read.0, &read.1)?;
        *source.last.lock() = read;
        Ok(Self::with(key, Some(source)).watch(Some(Duration::from_secs(60))))
    }

    /// A certificate chain and its private key as PEM text.
    ///
    /// # Errors
    /// When they are not PEM, or do not fit together.
    pub fn from_pem(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        Ok(Self::with(parse(certificate.as_ref(), key.as_ref())?, None))
    }

    /// A configuration of rustls of your own, used as it is but for ALPN, which [`http2`](Self::http2) decides.
    pub fn from_config(config: ServerConfig) -> Self {
        Self::from_parts(config, None, None)
    }

    /// Whether clients may choose HTTP/2, with WebSocket inside of it (RFC 8441). Default: `true`.
    #[must_use]
    pub fn http2(mut self, offer: bool) -> Self {
        self.http2 = offer;
        self
    }

    /// How often a listener looks whether the files have changed; `None` leaves that to [`reload`](Self::reload).
    /// Default: every minute.
    #[must_use]
    pub fn watch(mut self, every: Option<Duration>) -> Self {
        self.watch = every.filter(|every| !every.is_zero());
        self
    }

    /// Reads the files again and uses what they hold for connections from now on; those that exist are not touched. Returns
    /// whether anything has changed. Reads files, so it is meant for a blocking thread.
    ///
    /// # Errors
    /// When the new ones cannot be used. The old ones stay then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let source = self.shared.source.as_ref().ok_or(TlsError::NoFiles)?;
        let mut last = source.last.lock();
        let read = source.read()?;
        if *last == read {
            return Ok(false);
        }
        self.replace(&read.0, &read.1)?;
        *last = read;
        Ok(true)
    }

    /// Uses another certificate and key, as PEM text, for connections from now on.
    ///
    /// # Errors
    /// When they cannot be used, and for what was made by [`from_config`](Self::from_config). The old ones stay then.
    pub fn replace(&self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<(), TlsError> {
        let current = self.shared.current.as_ref().ok_or(TlsError::NoFiles)?;
        *current.0.write() = Arc::new(parse(certificate.as_ref(), key.as_ref())?);
        Ok(())
    }

    fn with(key: CertifiedKey, source: Option<Source>) -> Self {
        let current = Arc::new(Current(RwLock::new(Arc::new(key))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the ciphers of TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        match ring::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "sessions of TLS will not be resumed"),
        }
        Self::from_parts(config, Some(current), source)
    }

    fn from_parts(mut config: ServerConfig, current: Option<Arc<Current>>, source: Option<Source>) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1_only = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        let shared = Shared { config: Arc::new(config), http1_only, current, source };
        Self { shared: Arc::new(shared), http2: true, watch: None }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = if self.http2 { &self.shared.config } else { &self.shared.http1_only };
        TlsAcceptor::from(config.clone())
    }

    /// Looks at the files from time to time, for as long as it is polled.
    pub(crate) async fn keep_fresh(&self) {
        let Some(every) = self.watch.filter(|_| self.shared.source.is_some()) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(every).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => tracing::info!("the certificate has been exchanged"),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("http2", &self.http2).field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Source {
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| TlsError::File { path: path.clone(), error });
        Ok((read(&self.certificate)?, read(&self.key)?))
    }
}

fn parse(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| TlsError::Pem(format!("the certificate is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::Pem("there is no certificate in what should hold one".to_owned()));
    }
    // The text of an error about a key says nothing of the key itself.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::Pem(format!("the private key is not PEM: {error}")))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(TlsError::Certificate)
}

/// The stream under one of our connections over TLS, and what was read from it already.
pub(crate) fn unwrap(upgraded: Upgraded) -> Result<Taken, Upgraded> {
    let parts = upgraded.downcast::<TokioIo<Guarded<TlsStream<TcpStream>>>>()?;
    let (stream, line) = parts.io.into_inner().into_parts();
    Ok((Io::Other(Box::new(stream)), parts.read_buf.to_vec(), line))
}
