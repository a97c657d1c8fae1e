//! TLS to the database, with the cryptography that everything here has. The certificate and its name are always checked.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::options::{ClientCertificate, InvalidOption};

/// Makes connections that are encrypted, or none where there is nothing to encrypt with.
#[derive(Clone)]
pub(crate) struct Tls(Option<TlsConnector>);

impl Tls {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Trusts these certificates, or else those that the system trusts, and shows one of its own if there is one.
    pub(crate) fn trusting(roots: Option<&[u8]>, own: Option<&ClientCertificate>) -> Result<Self, InvalidOption> {
        let invalid = |error: &dyn std::fmt::Display| InvalidOption(format!("the certificates: {error}"));
        let mut store = RootCertStore::empty();
        match roots {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| invalid(&error))?;
                    store.add(certificate).map_err(|error| invalid(&error))?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if store.is_empty() {
            return Err(invalid(&"there are none to trust"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| invalid(&error))?.with_root_certificates(store);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(ClientCertificate { chain, key }) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| invalid(&error))?;
                let chain = chain.map_err(|error| invalid(&error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| invalid(&error))?
            }
        };
        // As libpq does since 17: what serves several protocols on one port wants to know.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Some(TlsConnector::from(Arc::new(config)))))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Connect;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, InvalidDnsNameError> {
        let Some(with) = &self.0 else { return Ok(Connect(None)) };
        Ok(Connect(Some((with.clone(), ServerName::try_from(domain.to_owned())?))))
    }
}

/// One connection to be made.
pub(crate) struct Connect(Option<(TlsConnector, ServerName<'static>)>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connect {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let (with, name) = self.0.ok_or_else(|| io::Error::other("there is no TLS without `sslmode=require`"))?;
            with.connect(name, stream).await.map(Encrypted)
        })
    }
}

/// An encrypted connection.
pub(crate) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let shown = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        shown
            .and_then(|certificate| end_point(certificate))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// `tls-server-end-point` of RFC 5929: the hash of the certificate by the function of its signature, or by SHA-256 where that is
/// weaker. `None` where the signature names no function of its own (EdDSA, PSS): the password is then proved without.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // SEQUENCE { what is signed, SEQUENCE { the algorithm, … }, the signature }
    let (certificate_body, _) = element(certificate)?;
    let (_, behind) = element(certificate_body)?;
    let (algorithm, _) = element(behind)?;
    let (algorithm, _) = element(algorithm)?;
    let function =
        match algorithm {
            // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
            [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x04 | 0x05 | 0x0B]
            | [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01]
            | [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02] => &digest::SHA256,
            [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0C]
            | [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03] => &digest::SHA384,
            [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0D]
            | [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04] => &digest::SHA512,
            _ => return None,
        };
    Some(digest::digest(function, certificate).as_ref().to_vec())
}

/// The content of the first element of DER, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_that_of_the_signature() {
        /// A certificate whose signature is made with this algorithm.
        fn signed_with(algorithm: &[u8]) -> Vec<u8> {
            let long = [[0x30, 0x82, 1, 0].as_slice(), &[0; 256]].concat();
            let name = [&[6, algorithm.len() as u8], algorithm].concat();
            let name = [&[0x30, name.len() as u8 + 2], name.as_slice(), &[5, 0]].concat();
            let body = [long.as_slice(), &name, &[3, 1, 0]].concat();
            [[0x30, 0x82, (body.len() >> 8) as u8, body.len() as u8].as_slice(), &body].concat()
        }
        #[track_caller]
        fn check(algorithm: &[u8], want: Option<&'static digest::Algorithm>) {
            let certificate = signed_with(algorithm);
            let want = want.map(|function| digest::digest(function, &certificate).as_ref().to_vec());
            assert_eq!(end_point(&certificate), want, "{algorithm:02x?}");
            for length in 0..certificate.len() - 4 {
                assert_eq!(end_point(&certificate[..length]), None, "{length}");
            }
        }
        let rsa = |last| [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, last];
        let ecdsa = |last| [0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, last];
        check(&rsa(0x05), Some(&digest::SHA256));
        check(&rsa(0x0B), Some(&digest::SHA256));
        check(&rsa(0x0C), Some(&digest::SHA384));
        check(&rsa(0x0D), Some(&digest::SHA512));
        check(&ecdsa(2), Some(&digest::SHA256));
        check(&ecdsa(3), Some(&digest::SHA384));
        check(&ecdsa(4), Some(&digest::SHA512));
        // PSS has the function among its parameters, Ed25519 inside.
        check(&rsa(0x0A), None);
        check(&[0x2B, 0x65, 0x70], None);
        assert_eq!(end_point(&[0x30, 0x84, 1, 0, 0, 0, 0]), None);
    }
}
