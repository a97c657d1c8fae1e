//! TLS to a real database: who is trusted, who is shown a certificate, and what is refused.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384,
};
use socketio::testing::{self, TestServer};
use socketio::{Health, Namespace, SocketIo};
use socketio_postgres::{ClientCertificate, PostgresBus, PostgresOptions, emitter};
use socketio_testkit::{DatabaseTls, Postgres, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(60);

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Signs with SHA-384, so that nobody comes through who always takes SHA-256.
fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// A certificate of this host or of this user, and its key.
fn certificate(issuer: &Issuer, host: Option<&str>, user: &str) -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let names: Vec<_> = host.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).expect("a name");
    params.distinguished_name.push(DnType::CommonName, user);
    (params.signed_by(&key, issuer).expect("a certificate").pem(), key.serialize_pem())
}

fn trusting(root: &str) -> PostgresOptions {
    let mut options = PostgresOptions::default();
    options.root_certificates = Some(root.as_bytes().to_vec());
    options
}

fn showing(root: &str, (chain, key): &(String, String)) -> PostgresOptions {
    let mut options = trusting(root);
    options.client_certificate = Some(ClientCertificate::new(chain.as_bytes(), key.as_bytes()));
    options
}

fn server(url: &str, options: PostgresOptions) -> TestServer {
    let bus = PostgresBus::new(url, options).expect("the address makes sense");
    let io = SocketIo::builder().adapter(bus).namespace(Namespace::new("/")).build();
    testing::serve(io.expect("it fits together"))
}

/// A way to the database that counts who goes it.
async fn counted(target: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut database = TcpStream::connect(("127.0.0.1", target)).await?;
                copy_bidirectional(&mut client, &mut database).await
            });
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_behind_tls_is_trusted_for_its_certificate_and_trusts_for_ours() {
    within(Duration::from_secs(170), async {
        let mut postgres = Postgres::start().expect("the database starts");
        postgres
            .sql("CREATE ROLE bound SUPERUSER LOGIN PASSWORD 'secret'; CREATE ROLE shown SUPERUSER LOGIN")
            .expect("they are made");
        let (ours, theirs) = (authority(), authority());
        let (certificate_, key) = certificate(&ours, Some("database.test"), "");
        let port = postgres
            .resume_with_tls(&DatabaseTls {
                certificate: &certificate_,
                key: &key,
                authority: &ours.pem(),
                rules: "hostssl all postgres all trust\nhostssl all bound all scram-sha-256\nhostssl all shown all cert",
            })
            .expect("it starts again");
        let (root, other) = (ours.pem(), theirs.pem());
        let [shown, stranger, somebody] =
            [(&ours, "shown"), (&theirs, "shown"), (&ours, "other")].map(|(issuer, user)| certificate(issuer, None, user));
        let url = |user: &str, host: &str, port: u16, mode: &str| {
            format!("postgres://{user}@{host}:{port}/postgres?hostaddr=127.0.0.1&sslmode={mode}")
        };

        let bound = url("bound:secret", "database.test", port, "require&channel_binding=require");
        let servers = [
            server(&bound, trusting(&root)),
            server(&url("shown", "database.test", port, "verify-full"), showing(&root, &shown)),
        ];
        for server in &servers {
            assert!(eventually(PATIENCE, || server.io().adapter_health() == Some(Health::Up)).await);
        }
        let count = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
            WHERE ssl AND usename IN ('bound', 'shown')";
        assert_eq!(postgres.sql(count).expect("it is counted"), "4");
        let client = servers[1].connect("/").await;
        let heard = |text: &str| client.waiting().iter().any(|name| name == text);
        let told = || {
            servers[0].io().emit("hi", ());
            heard("hi")
        };
        assert!(eventually(PATIENCE, told).await);
        // More than a record of TLS, through the table.
        let emitter = emitter(&bound, trusting(&root)).expect("the address makes sense");
        emitter.emit("large", "x".repeat(100_000)).await.expect("the database takes it");
        assert!(eventually(PATIENCE, || heard("large")).await);

        let refused = [
            ("another authority", "postgres", "database.test", "require", trusting(&other)),
            ("another name", "postgres", "other.test", "require", trusting(&root)),
            ("a number for a name", "postgres", "127.0.0.1", "verify-full", trusting(&root)),
            ("nothing is encrypted", "postgres", "database.test", "disable", PostgresOptions::default()),
            ("a wrong password", "bound:x", "database.test", "require&channel_binding=require", trusting(&root)),
            ("no certificate", "shown", "database.test", "require", trusting(&root)),
            ("a certificate of a stranger", "shown", "database.test", "require", showing(&root, &stranger)),
            ("a certificate of somebody else", "shown", "database.test", "require", showing(&root, &somebody)),
        ];
        let mut waiting = Vec::new();
        for (why, user, host, mode, options) in refused {
            let (way, count) = counted(port).await;
            waiting.push((why, count, server(&url(user, host, way, mode), options)));
        }
        for (why, count, server) in &waiting {
            // One that gets in makes two connections and no third.
            assert!(eventually(PATIENCE, || count.load(Ordering::Relaxed) > 2).await, "{why}");
            assert_eq!(server.io().adapter_health(), Some(Health::Down), "{why}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_database_that_says_it_has_no_tls_hears_nothing_more() {
    within(Duration::from_secs(60), async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let url = format!("postgres://me:secret@localhost:{port}/x?hostaddr=127.0.0.1&sslmode=require");
        let _server = server(&url, trusting(&authority().pem()));
        let talk = async {
            for _ in 0..2 {
                let (mut client, _) = listener.accept().await?;
                let mut question = [0; 8];
                client.read_exact(&mut question).await?;
                assert_eq!(question, [0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F], "may it be encrypted?");
                client.write_all(b"N").await?;
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await?;
                assert!(rest.is_empty(), "{rest:?}");
            }
            io::Result::Ok(())
        };
        talk.await.expect("it asks and goes");
    })
    .await;
}
