//! The client over TLS: whom it trusts.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Recorder, Seen, frame};
use engineio::{
    NotFound, Server, Tls, Transport,
    client::{Client, ClientEvent, ClientOptions, ClientTls, ConnectError},
};
use tokio::{net::TcpListener, time::timeout};

/// A server whose certificate is for this name, and the certificate as PEM.
async fn serve(name: &str) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = Tls::from_pem(&certificate, &key).expect("a good certificate");
    let server = Server::<Recorder>::builder().build(Recorder(Arc::new(Seen::default()))).expect("good options");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { server.serve_tls(listener, NotFound, tls).await });
    (port, certificate)
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
    for transports in [&[Transport::Polling][..], &[Transport::WebSocket], &[Transport::Polling, Transport::WebSocket]]
    {
        let options = options(port, transports).upgrade(transports.len() > 1).tls(tls.clone());
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
