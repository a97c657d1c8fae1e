//! The client over TLS: whom it trusts.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Recorder, Seen, frame};
use engineio::{
    NotFound, Server, SessionBinding, Tls, Transport,
    client::{Client, ClientEvent, ClientOptions, ClientTls, ConnectError, Proxy},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server whose certificate is for this name, and the certificate as PEM.
async fn serve(name: &str) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = Tls::from_pem(&certificate, &key).expect("a good certificate");
    (serve_with(tls).await, certificate)
}

async fn serve_with(tls: Tls) -> u16 {
    let server = Server::<Recorder>::builder().build(Recorder(Arc::new(Seen::default()))).expect("good options");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { server.serve_tls(listener, NotFound, tls).await });
    port
}

fn options(port: u16, transports: &[Transport]) -> ClientOptions {
    let options = ClientOptions::new(&format!("https://localhost:{port}")).expect("a URL");
    options
        .transports(transports.iter().copied())
        .connector(|_, port| tokio::net::TcpStream::connect(("127.0.0.1", port)))
}

#[tokio::test]
async fn a_certificate_that_is_trusted_carries_every_transport() {
    let (port, certificate) = serve("localhost").await;
    let tls = ClientTls::with_roots(certificate.as_bytes()).expect("a certificate");
    works(options(port, &[]).tls(tls)).await;
}

/// Over each transport an echo comes back.
async fn works(options: ClientOptions) {
    for transports in [&[Transport::Polling][..], &[Transport::WebSocket], &[Transport::Polling, Transport::WebSocket]]
    {
        let options = options.clone().transports(transports.iter().copied()).upgrade(transports.len() > 1);
        let test = async {
            let (mut client, _) = Client::connect(&options).await.expect("it connects");
            client.send([frame("echo:hi")]).expect("it is open");
            loop {
                match client.next().await {
                    ClientEvent::Text(text) => break assert_eq!(text, "hi"),
                    ClientEvent::Closed(reason, error) => panic!("{reason} {error:?}"),
                    _ => {}
                }
            }
            client.close();
            while !matches!(client.next().await, ClientEvent::Closed(..)) {}
        };
        timeout(Duration::from_secs(20), test).await.expect("in time");
    }
}

/// L20
#[tokio::test]
async fn nobody_else_is_trusted() {
    let (port, certificate) = serve("localhost").await;
    // Self-signed, for the platform.
    check(options(port, &[Transport::Polling])).await;
    check(options(port, &[Transport::WebSocket])).await;
    // Another name.
    let (port, _) = serve("example.org").await;
    let tls = ClientTls::with_roots(certificate.as_bytes()).expect("a certificate");
    check(options(port, &[Transport::Polling]).tls(tls)).await;
    let (port, certificate) = serve("example.org").await;
    let tls = ClientTls::with_roots(certificate.as_bytes()).expect("a certificate");
    check(options(port, &[Transport::WebSocket]).tls(tls)).await;

    async fn check(options: ClientOptions) {
        let outcome = timeout(Duration::from_secs(20), Client::connect(&options)).await.expect("in time");
        assert!(matches!(outcome, Err(ConnectError::Io(_))), "{outcome:?}");
    }
}

/// Somebody who signs certificates, as PEM with their keys.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn signed_by(authority: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a certificate");
    roots
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_the_clients() {
    let (ours, others) = (authority(), authority());
    let (certificate, key) = signed_by(&ours, "localhost");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&ours.pem())), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
        .expect("a good certificate");
    let port = serve_with(Tls::from_config(config)).await;
    let root = ours.pem();
    let with = |(certificate, key): (String, String)| {
        ClientTls::with_client_certificate(root.as_bytes(), certificate.as_bytes(), key.as_bytes())
    };
    works(options(port, &[]).tls(with(signed_by(&ours, "ann")).expect("a certificate"))).await;
    for transport in [Transport::Polling, Transport::WebSocket] {
        let without = ClientTls::with_roots(root.as_bytes()).expect("a certificate");
        let stranger = with(signed_by(&others, "ann")).expect("a certificate");
        for tls in [without, stranger] {
            let options = options(port, &[transport]).tls(tls);
            let outcome = timeout(Duration::from_secs(20), Client::connect(&options)).await.expect("in time");
            assert!(matches!(outcome, Err(ConnectError::Io(_) | ConnectError::Http(_))), "{outcome:?}");
        }
    }
    let (certificate, _) = signed_by(&ours, "ann");
    let (_, another) = signed_by(&ours, "ann");
    assert!(with((certificate, another)).is_err(), "the key of another certificate");
}

#[tokio::test]
async fn a_session_that_is_bound_to_a_certificate_is_unknown_to_those_who_show_another() {
    let ours = authority();
    let (certificate, key) = signed_by(&ours, "localhost");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&ours.pem())), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().expect("a verifier"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
        .expect("a good certificate");
    let bound = SessionBinding::new().certificate();
    let builder = Server::<Recorder>::builder().session_binding(bound).poll_hold(Some(Duration::ZERO));
    let server = builder.build(Recorder(Arc::new(Seen::default()))).expect("good options");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve_tls(listener, NotFound, Tls::from_config(config)).await });

    let (ann, eve) = (signed_by(&ours, "ann"), signed_by(&ours, "eve"));
    let root = roots(&ours.pem());
    let ask = async |shown: Option<&(String, String)>, query: &str| {
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the defaults")
            .with_root_certificates(root.clone());
        let config = match shown {
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
                )
                .expect("a good certificate"),
            None => config.with_no_client_auth(),
        };
        let name = "localhost".try_into().expect("a name");
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("it is trusted");
        let head = format!(
            "GET /engine.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        // Not everybody says goodbye.
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("in time");
        String::from_utf8_lossy(&answer).into_owned()
    };
    for (opened_by, others) in [(Some(&ann), [Some(&eve), None]), (None, [Some(&ann), Some(&eve)])] {
        let open = ask(opened_by, "").await;
        let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect(&open);
        let with_sid = format!("&sid={sid}");
        for other in others {
            let refused = ask(other, &with_sid).await;
            assert!(refused.ends_with(r#"{"code":1,"message":"Session ID unknown"}"#), "{refused}");
        }
        let welcome = ask(opened_by, &with_sid).await;
        assert!(welcome.starts_with("HTTP/1.1 200 "), "{welcome}");
    }
    assert_eq!(server.stats().binding_refused, 4);
}

/// The platform's roots are read once, and from where the environment says; so a process of its own is the client.
#[tokio::test]
async fn the_roots_of_the_platform_are_trusted_by_default() {
    const PORT: &str = "PORT_OF_THE_TEST";
    if let Ok(port) = std::env::var(PORT) {
        return works(options(port.parse().expect("a port"), &[])).await;
    }
    let (port, certificate) = serve("localhost").await;
    let path = std::env::temp_dir().join(format!("roots-{}-{port}.pem", std::process::id()));
    std::fs::write(&path, certificate).expect("a file");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "the_roots_of_the_platform_are_trusted_by_default"]);
    child.env(PORT, port.to_string()).env("SSL_CERT_FILE", &path).env_remove("SSL_CERT_DIR").kill_on_drop(true);
    let output = timeout(Duration::from_secs(60), child.output()).await.expect("in time").expect("it runs");
    std::fs::remove_file(&path).expect("it was there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// An HTTP proxy to a port of this machine, behind TLS if there is a certificate; counts what went through.
async fn proxy(to: u16, tls: Option<ServerConfig>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counter) = (acceptor.clone(), Arc::clone(&counter));
            tokio::spawn(async move {
                // Clients hang up as they like.
                let _ = match acceptor {
                    None => pass(stream, to, &counter).await,
                    Some(acceptor) => pass(acceptor.accept(stream).await?, to, &counter).await,
                };
                std::io::Result::Ok(())
            });
        }
    });
    (port, count)
}

async fn pass(mut stream: impl AsyncRead + AsyncWrite + Unpin, to: u16, count: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(head.starts_with(b"CONNECT localhost:"), "{}", String::from_utf8_lossy(&head));
    count.fetch_add(1, Ordering::SeqCst);
    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn tls_goes_through_a_proxy_and_a_proxy_may_want_tls_itself() {
    let ours = authority();
    let (certificate, key) = signed_by(&ours, "localhost");
    let port = serve_with(Tls::from_pem(&certificate, &key).expect("a good certificate")).await;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
        .expect("a good certificate");
    for (scheme, config) in [("http", None), ("https", Some(config))] {
        let (proxy, count) = proxy(port, config).await;
        let proxy = Proxy::new(&format!("{scheme}://localhost:{proxy}")).expect("a proxy");
        let tls = ClientTls::with_roots(ours.pem().as_bytes()).expect("a certificate");
        works(options(port, &[]).tls(tls).proxy(Some(proxy.clone()))).await;
        assert!(count.load(Ordering::SeqCst) >= 3, "every connection goes through it");
        if scheme == "https" {
            // Whom it does not trust it tells nothing.
            let options = options(port, &[Transport::Polling]).proxy(Some(proxy));
            let outcome = timeout(Duration::from_secs(20), Client::connect(&options)).await.expect("in time");
            assert!(matches!(outcome, Err(ConnectError::Io(_))), "{outcome:?}");
        }
    }
}
