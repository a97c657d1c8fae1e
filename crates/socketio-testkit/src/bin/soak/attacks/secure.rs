//! Attacks over TLS.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use socketio_testkit::{Endpoint, Http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Done, Target};

/// How clients of TLS connect.
#[derive(Clone)]
struct Secure {
    connector: TlsConnector,
    target: Target,
}

impl Secure {
    fn new(target: &Target, alpn: &str) -> io::Result<Self> {
        let (addr, certificate) = target.secure.clone().ok_or_else(|| io::Error::other("the server has no TLS"))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate)).map_err(io::Error::other)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), target: Target { addr, ..target.clone() } })
    }

    fn endpoint(&self, number: u64) -> Endpoint {
        self.target.endpoint(number)
    }

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = endpoint.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(endpoint.addr).await?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

/// R06.
pub(crate) async fn handshakes(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let secure = Secure::new(&target, "http/1.1")?;
    let hostile = secure.clone();
    let half = move |_, number: u64| {
        let endpoint = hostile.endpoint(number % 64);
        async move {
            let mut http = Http::connect_from(endpoint.source, endpoint.addr, None).await?;
            // The beginning of a greeting of 512 bytes.
            http.queue(&[0x16, 3, 1, 2, 0, 1, 0]);
            http.rest().await;
            Ok(true)
        }
    };
    let mut others = Done::default();
    let good = async {
        sleep(Duration::from_secs(1)).await;
        let mut longest = Duration::ZERO;
        for number in 0..20 {
            let began = Instant::now();
            let mut stream = secure.connect(&secure.endpoint(1_000 + number)).await?;
            stream.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            if &answer != b"HTTP/1.1 200" {
                return Err(io::Error::other(format!("a good client of TLS got {}", answer.escape_ascii())));
            }
            longest = longest.max(began.elapsed());
            sleep(Duration::from_millis(80)).await;
        }
        Ok::<_, io::Error>(longest)
    };
    let ((), good) =
        tokio::join!(target.swarm(&mut others, "handshakes of 64 addresses that do not go on", 2_048, half), good);
    done.what = others.what;
    done.wrong = others.wrong;
    match good {
        Ok(longest) => done.longest = longest,
        Err(error) => done.wrong.push(error.to_string()),
    }
    done.what.push("20 good ones meanwhile".to_owned());
    done.moves = vec![
        ("tls_timeouts", 900),
        ("limit_reached: tls_timeout", 900),
        ("connections_refused", 1_000),
        ("limit_reached: max_handshakes", 1_000),
    ];
    done.most = vec![("handshakes", 1_024)];
    Ok(done)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A request for the first bytes of a session: GET or POST, https, `localhost`.
fn request(post: bool) -> Vec<u8> {
    let path = b"/socket.io/?EIO=4&transport=polling";
    let mut block = vec![if post { 0x83 } else { 0x82 }, 0x87, 0x01, 9];
    block.extend_from_slice(b"localhost");
    block.extend_from_slice(&[0x04, path.len() as u8]);
    block.extend_from_slice(path);
    block
}

/// Whether the server has ended the connection, or said that it will.
fn is_over(mut bytes: &[u8]) -> bool {
    while let [a, b, c, kind, ..] = *bytes {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == GOAWAY {
            return true;
        }
        match bytes.get(9 + length..) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    false
}

/// Sends all of it, and waits until the server ends the connection.
async fn ends(secure: &Secure, endpoint: &Endpoint, frames: &[Vec<u8>]) -> io::Result<bool> {
    let stream = secure.connect(endpoint).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut got = Vec::new();
    let reading = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            got.extend_from_slice(&buffer[..read]);
            if is_over(&got) {
                return;
            }
        }
    };
    let writing = async {
        for frame in frames {
            if writer.write_all(frame).await.is_err() {
                return;
            }
        }
        // The rest is up to the server.
        let _ = writer.flush().await;
    };
    let both = async { tokio::join!(reading, writing) };
    Ok(timeout(Duration::from_secs(20), both).await.is_ok())
}

/// R28.
pub(crate) async fn streams(target: Target) -> io::Result<Done> {
    let mut done = Done::default();
    let secure = Secure::new(&target, "h2")?;
    let begin = |settings: &[u8]| [PREFACE.to_vec(), frame(SETTINGS, 0, 0, settings)].concat();
    // Requests that are taken back at once.
    let mut resets = vec![begin(&[])];
    for stream in 0..5_000 {
        resets.push(frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &request(false)));
        resets.push(frame(RESET, 0, 2 * stream + 1, &8_u32.to_be_bytes()));
    }
    // A head that never ends.
    let mut heads = vec![begin(&[]), frame(HEADERS, END_STREAM, 1, &request(false))];
    for _ in 0..2_000 {
        let field = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat();
        heads.push(frame(CONTINUATION, 0, 1, &field.repeat(10)));
    }
    // An answer that no window is open for.
    let unread = vec![begin(&[0, 4, 0, 0, 0, 0]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &request(false))];
    for (what, frames) in [
        ("connections of HTTP/2 with 5,000 streams that are reset at once", resets),
        ("with heads in 2,000 continuations", heads),
        ("that take no answer", unread),
    ] {
        let (frames, secure) = (Arc::new(frames), secure.clone());
        let each = move |_, number: u64| {
            let (frames, secure) = (frames.clone(), secure.clone());
            async move { ends(&secure, &secure.endpoint(number), &frames).await }
        };
        target.swarm(&mut done, what, 20, each).await;
    }
    // Twice as many streams as there may be: requests whose bodies do not come. The connection lives, the rest is refused.
    let mut many = begin(&[]);
    for stream in 0..256 {
        many.extend(frame(HEADERS, END_HEADERS, 2 * stream + 1, &request(true)));
    }
    let many = Arc::new(many);
    let each = move |_, number: u64| {
        let (many, secure) = (many.clone(), secure.clone());
        async move {
            let mut stream = secure.connect(&secure.endpoint(number)).await?;
            stream.write_all(&many).await?;
            let mut got = Vec::new();
            let reading = async { while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {} };
            let _ = timeout(Duration::from_secs(2), reading).await;
            // Either each one over the limit was reset, or the connection has ended.
            Ok(is_over(&got) || resets_in(&got) >= 128)
        }
    };
    target.swarm(&mut done, "with 256 streams at once", 20, each).await;
    done.moves = vec![("stalled_writes", 20), ("limit_reached: write_timeout", 20)];
    Ok(done)
}

fn resets_in(mut bytes: &[u8]) -> usize {
    let mut resets = 0;
    while let [a, b, c, kind, ..] = *bytes {
        resets += usize::from(kind == RESET);
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    resets
}
