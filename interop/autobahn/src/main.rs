//! Echoes WebSocket messages, as the Autobahn suite wants it, on nothing but the codec of `engineio-proto` and tokio.
//!
//! `autobahn-echo serve [--takeover] [--plain]` listens on a free port of 127.0.0.1, prints `listening on PORT`, and ends
//! when its standard input does. `autobahn-echo connect PORT [--takeover] [--plain]` runs the cases of a fuzzing server.
//! `--plain` leaves compression out, `--takeover` lets both sides keep their compression contexts.

use engineio_proto::ws::deflate::{Agreement, Deflater, Options};
use engineio_proto::ws::handshake::{RequestLine, check_request, client_key, verify_response};
use engineio_proto::ws::{Decoder, Event, Opcode, Role, WsError, encode_close, encode_control, encode_message};
use std::hash::{BuildHasher, Hasher, RandomState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Cases of group 9 send up to 16 MiB, and more than 1,024 fragments.
const MAX_MESSAGE: usize = 32 << 20;
const MAX_FRAGMENTS: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let options = Options {
        threshold: 0,
        server_no_context_takeover: !has("--takeover"),
        client_no_context_takeover: !has("--takeover"),
        ..Options::default()
    };
    let options = (!has("--plain")).then_some(options);
    match args.first().map(String::as_str) {
        Some("serve") => tokio::task::LocalSet::new().run_until(serve(options)).await,
        Some("connect") => connect_to(args.get(1).ok_or("which port?")?.parse()?, options).await,
        _ => Err("usage: autobahn-echo serve|connect PORT [--takeover] [--plain]".into()),
    }
}

async fn serve(options: Option<Options>) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let (end, mut ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = end.send(());
    });
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = &mut ended => return Ok(()),
        };
        let options = options.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = accept(stream, options).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn accept(mut stream: TcpStream, options: Option<Options>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (head, rest) = read_head(&mut stream).await?;
    let head = Head::parse(&head)?;
    let mut words = head.first.split(' ');
    let line = RequestLine {
        method: words.next().unwrap_or_default(),
        http_1_1: words.next_back() == Some("HTTP/1.1"),
        has_body: false,
    };
    let outcome = check_request(line, head.headers.as_slice()).and_then(|accepted| {
        let agreement = match &options {
            Some(options) => options.accept_offer(head.values("sec-websocket-extensions"))?,
            None => None,
        };
        Ok((accepted, agreement))
    });
    let (accepted, agreement) = match outcome {
        Ok(accepted) => accepted,
        Err(refusal) => {
            let response = format!(
                "HTTP/1.1 {} Bad Request\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                refusal.status,
                refusal.message.len(),
                refusal.message
            );
            stream.write_all(response.as_bytes()).await?;
            return Err(refusal.message.into());
        }
    };
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accepted.accept
    );
    if let Some(protocol) = accepted.protocols.first() {
        response += &format!("Sec-WebSocket-Protocol: {protocol}\r\n");
    }
    if let Some(agreement) = &agreement {
        response += &format!("Sec-WebSocket-Extensions: {}\r\n", agreement.header_value());
    }
    response += "\r\n";
    stream.write_all(response.as_bytes()).await?;
    echo(stream, rest, Role::Server, agreement, options).await.map(drop)
}

/// Runs every case of a fuzzing server, then has it write its report.
async fn connect_to(port: u16, options: Option<Options>) -> Result<()> {
    let count: u32 = case_count(port).await?.trim().parse()?;
    for case in 1..=count {
        if let Err(error) = connect(port, &format!("/runCase?case={case}&agent=codec"), options.clone()).await {
            eprintln!("case {case}: {error}");
        }
    }
    // The fuzzing server may drop this connection once its report is written. Whether it is, the runner sees.
    if let Err(error) = connect(port, "/updateReports?agent=codec", None).await {
        eprintln!("report: {error}");
    }
    println!("{count} cases");
    Ok(())
}

/// How many cases there are. The fuzzing server may reset the connection behind its answer, and then it is asked again.
async fn case_count(port: u16) -> Result<String> {
    let mut tries = 5;
    loop {
        tries -= 1;
        match connect(port, "/getCaseCount", None).await {
            Ok(count) => return count.ok_or_else(|| "no case count".into()),
            Err(error) if tries == 0 => return Err(error),
            Err(error) => eprintln!("case count: {error}"),
        }
    }
}

/// One connection of the client; returns the last text that came.
async fn connect(port: u16, target: &str, options: Option<Options>) -> Result<Option<String>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&random().to_ne_bytes());
    nonce[8..].copy_from_slice(&random().to_ne_bytes());
    let key = client_key(nonce);
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    );
    if let Some(options) = &options {
        request += &format!("Sec-WebSocket-Extensions: {}\r\n", options.offer());
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await?;
    let (head, rest) = read_head(&mut stream).await?;
    let head = Head::parse(&head)?;
    let status = head.first.split(' ').nth(1).unwrap_or_default().parse()?;
    verify_response(status, head.headers.as_slice(), &key, &[])?;
    let agreement = match &options {
        Some(options) => options.check_response(head.values("sec-websocket-extensions"))?,
        None => None,
    };
    echo(stream, rest, Role::Client, agreement, options).await
}

/// Sends back what comes until either side closes. Returns the last text.
async fn echo(
    mut stream: TcpStream,
    rest: Vec<u8>,
    role: Role,
    agreement: Option<Agreement>,
    options: Option<Options>,
) -> Result<Option<String>> {
    let mut decoder = Decoder::new(role, MAX_MESSAGE, MAX_FRAGMENTS);
    let mut deflater = None;
    if let (Some(agreement), Some(options)) = (agreement, &options) {
        decoder = decoder.with_deflate(agreement.inflater(role));
        deflater = agreement.deflater(role, options);
    }
    let mask = || (role == Role::Client).then(|| (random() as u32).to_ne_bytes());
    let mut input = vec![0; 64 << 10];
    let mut len = rest.len();
    input[..len].copy_from_slice(&rest);
    let mut output = Vec::new();
    let mut last = None;
    let mut over = false;
    loop {
        let mut consumed = 0;
        while !over {
            match decoder.decode(&mut input[..len], &mut consumed) {
                Ok(Some(Event::Text(text))) => {
                    if role == Role::Client && options.is_none() {
                        last = Some(text.to_owned());
                    }
                    send(Opcode::Text, text.as_bytes(), mask(), &mut deflater, &mut output);
                }
                Ok(Some(Event::Binary(data))) => send(Opcode::Binary, data, mask(), &mut deflater, &mut output),
                Ok(Some(Event::Ping(data))) => {
                    output.extend_from_slice(&encode_control(Opcode::Pong, data, mask()));
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(close))) => {
                    output.extend_from_slice(&encode_close(close.map(|(code, _)| code), "", mask()));
                    over = true;
                }
                Ok(None) => break,
                Err(WsError { code, reason }) => {
                    output.extend_from_slice(&encode_close(Some(code), reason, mask()));
                    over = true;
                }
            }
            if output.len() > 1 << 20 {
                stream.write_all(&output).await?;
                output.clear();
            }
        }
        stream.write_all(&output).await?;
        output.clear();
        if over && role == Role::Server {
            return Ok(last);
        }
        len = stream.read(&mut input).await?;
        if len == 0 {
            return Ok(last);
        }
    }
}

fn send(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, deflater: &mut Option<Deflater>, output: &mut Vec<u8>) {
    let mut packed = Vec::new();
    if let Some(deflater) = deflater.as_mut().filter(|deflater| deflater.wants(payload.len()))
        && deflater.compress(payload, &mut packed)
    {
        encode_message(opcode, true, &packed, mask, output);
    } else {
        encode_message(opcode, false, payload, mask, output);
    }
}

/// The head of a request or response, and what of the body came with it.
async fn read_head(stream: &mut TcpStream) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    while head.len() < 16 << 10 {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("closed inside the head".into());
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            return Ok((head, rest));
        }
    }
    Err("the head is too long".into())
}

struct Head<'a> {
    first: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut lines = std::str::from_utf8(bytes)?.lines();
        let first = lines.next().unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(':')).collect();
        Ok(Self { first, headers })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
}

/// Different every time, which is all that a test's masks need.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
