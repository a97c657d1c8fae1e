//! TLS of the client: rustls with the platform's roots, or roots and certificates of your own.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use super::{ConnectError, options::Stream};

/// How a client speaks TLS. Cheap to clone; clones share their session tickets.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// The roots of the platform. The default for `https` and `wss`.
    ///
    /// # Errors
    /// When the platform has no roots.
    pub fn platform() -> io::Result<Self> {
        static PLATFORM: OnceLock<ClientTls> = OnceLock::new();
        if let Some(tls) = PLATFORM.get() {
            return Ok(tls.clone());
        }
        let mut roots = RootCertStore::empty();
        let loaded = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(loaded.certs);
        if roots.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the platform has no root certificates"));
        }
        let tls = Self::from_config(config(roots, None)?);
        Ok(PLATFORM.get_or_init(|| tls).clone())
    }

    /// These roots in PEM and no others. Node: `ca`.
    ///
    /// # Errors
    /// When it holds no certificate, or one that is none.
    pub fn with_roots(pem: &[u8]) -> io::Result<Self> {
        Ok(Self::from_config(config(parse_roots(pem)?, None)?))
    }

    /// These roots, and a certificate of the client with its key, all in PEM. Node: `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// When one of them is not what it should be.
    pub fn with_client_certificate(roots: &[u8], certificate: &[u8], key: &[u8]) -> io::Result<Self> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
        Ok(Self::from_config(config(parse_roots(roots)?, Some((chain, key)))?))
    }

    /// A configuration of your own. ALPN is set to `http/1.1`.
    pub fn from_config(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    pub(super) async fn connect(&self, host: &str, stream: Stream) -> Result<Stream, ConnectError> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn config(roots: RootCertStore, identity: Option<Identity>) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(io::Error::other),
    }
}

fn parse_roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no certificate in the PEM"));
    }
    Ok(roots)
}
