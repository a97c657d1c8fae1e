//! The generator's end of TLS: sessions that take any certificate, each with a full handshake.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::Result;

/// What all sessions share.
#[derive(Debug, Clone)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Dialler {
    pub fn new() -> Result<Self> {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every connection is a new client.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name: ServerName::try_from("localhost")? })
    }

    pub fn dial(&self) -> io::Result<Session> {
        let session = ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
        Ok(Session(Box::new(session)))
    }
}

/// One session of TLS, which neither reads nor writes by itself.
#[derive(Debug)]
pub struct Session(Box<ClientConnection>);

impl Session {
    /// Takes what has arrived, and appends what it says to `plain`.
    pub fn read(&mut self, mut arrived: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !arrived.is_empty() {
            self.0.read_tls(&mut arrived)?;
            self.0.process_new_packets().map_err(io::Error::other)?;
            match self.0.reader().read_to_end(plain) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes as much of `plain` as TLS and the socket take, and takes it off.
    pub fn write(&mut self, plain: &mut Vec<u8>, socket: &mut impl Write) -> io::Result<()> {
        loop {
            let taken = self.0.writer().write(plain)?;
            plain.drain(..taken);
            while self.0.wants_write() {
                match self.0.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            // Nothing is taken while the handshake goes on and TLS has kept enough for afterwards.
            if plain.is_empty() || taken == 0 {
                return Ok(());
            }
        }
    }

    /// Whether something waits to be written that is no output of the connection: the handshake's own messages.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}

/// Believes everybody: the server made its certificate a moment ago, and nothing leaves the machine.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}
