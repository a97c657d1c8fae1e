//! Polls, POSTs, upgrades and aborts of one session in a random order: what was sent arrives exactly once and in order, and
//! what is aborted ends cleanly. `SEED=n` runs one schedule again, `SOCKETIO_SOAK=1` twenty thousand of them.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use socketio::{Data, Extension, Namespace, Socket, SocketIo};
use socketio_testkit::{
    Endpoint, Http, Message, Packet, RawClient, Rng, Running, WebSocket, event, eventually, serve, within,
};

/// How many schedules run at the same time.
const AT_ONCE: u64 = 4;
const STEPS: u64 = 60;
/// What has to come comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server got from one socket.
#[derive(Default)]
struct Log(Mutex<Vec<u64>>);

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_polls_posts_upgrades_and_aborts_delivers_exactly_once_and_in_order() {
    let soak = std::env::var_os("SOCKETIO_SOAK").is_some();
    let (schedules, bound) = if soak { (20_000, 2_000) } else { (400, 200) };
    within(Duration::from_secs(bound), async {
        let namespace = Namespace::new("/")
            .on_connect(async |socket: Socket| {
                socket.extensions().insert(Log::default());
            })
            .on("up", async |Extension(log): Extension<Log>, Data(i): Data<u64>| {
                // Some handlers wait, so that mailbox and reads get out of step.
                if i % 5 == 0 {
                    tokio::task::yield_now().await;
                }
                log.0.lock().unwrap().push(i);
            });
        let running = Arc::new(serve(SocketIo::builder().namespace(namespace)).await.unwrap());
        let single = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
        let seeds = single.map_or(1..1 + schedules, |seed| seed..seed + 1);
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|lane| {
                let (running, seeds) = (running.clone(), seeds.clone());
                tokio::spawn(async move {
                    let mut tally = Tally::default();
                    for seed in seeds.filter(|seed| seed % AT_ONCE == lane) {
                        if let Err(failure) = schedule(&running, seed, &mut tally).await {
                            panic!("seed {seed}: {failure}");
                        }
                    }
                    tally
                })
            })
            .collect();
        let mut total = Tally::default();
        for task in tasks {
            let Tally { upgraded, aborted, half_posts, candidates } = task.await.unwrap();
            total.upgraded += upgraded;
            total.aborted += aborted;
            total.half_posts += half_posts;
            total.candidates += candidates;
        }
        println!("{total:?}");
        if single.is_none() {
            // The schedules were not all of one kind.
            assert!(total.upgraded > schedules / 4 && total.aborted > schedules / 10, "{total:?}");
            assert!(total.half_posts > 10 && total.candidates > schedules, "{total:?}");
        }
        assert!(eventually(PATIENCE, || running.sessions() == 0).await, "{} sessions", running.sessions());
        assert_eq!(running.io.of("/").len(), 0);
    })
    .await;
}

#[derive(Debug, Default)]
struct Tally {
    upgraded: u64,
    aborted: u64,
    /// Upgrades while the body of a POST was half here.
    half_posts: u64,
    candidates: u64,
}

/// One client with all its requests in view.
struct Client {
    endpoint: Endpoint,
    target: String,
    sid: String,
    socket: Socket,
    get: Http,
    /// A GET is on its way.
    parked: bool,
    post: Http,
    /// A POST is on its way, with what is still missing of its body.
    posting: Option<Vec<u8>>,
    /// A WebSocket that does not carry the session, and how far it is.
    candidate: Option<(WebSocket, Stage)>,
    /// The one that does.
    websocket: Option<WebSocket>,
    /// How many `up` were sent, and how many of them the server has taken for sure.
    sent: u64,
    taken: u64,
    /// How many `down` the server has emitted, and how many came.
    emitted: u64,
    received: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Opened,
    Asked,
    Probed,
}

async fn schedule(running: &Running, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut steps = Vec::new();
    let run = run(running, &mut rng, &mut steps, tally);
    match tokio::time::timeout(PATIENCE * 2, run).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error}; steps: {steps:?}")),
        Err(_) => Err(format!("it hangs; steps: {steps:?}")),
    }
}

async fn run(running: &Running, rng: &mut Rng, steps: &mut Vec<&'static str>, tally: &mut Tally) -> io::Result<()> {
    let mut client = Client::open(running).await?;
    for _ in 0..STEPS {
        let step = rng.below(if client.websocket.is_some() { 7 } else { 17 });
        let name = match (client.websocket.is_some(), step) {
            (_, 0) => {
                let count = 1 + rng.below(4);
                for _ in 0..count {
                    client.socket.emit("down", client.emitted);
                    client.emitted += 1;
                }
                "emit"
            }
            (_, 1) => {
                match rng.below(3) {
                    0 => tokio::task::yield_now().await,
                    _ => tokio::time::sleep(Duration::from_micros(rng.below(3_000))).await,
                }
                "pause"
            }
            (true, 2..=4) => {
                let events = client.events(rng);
                let socket = client.websocket.as_mut().expect("it is on WebSocket");
                events.iter().for_each(|event| socket.queue_text(&format!("4{event}")));
                socket.flush().await?;
                "send"
            }
            (true, 5) => {
                client.read_some().await?;
                "read"
            }
            (true, _) => {
                // Requests of a session that has moved on are refused and change nothing. Until the server has read the
                // upgrade packet they are still served.
                if rng.one_in(2) {
                    client.get.queue_get(&client.target);
                    client.parked = true;
                    client.read_poll(PATIENCE).await?;
                } else {
                    let late = client.post.post(&client.target, "6").await?;
                    check(matches!(late.status, 200 | 400), || format!("a late POST: {late:?}"))?;
                }
                "late request"
            }
            (false, 2 | 3) if !client.parked => {
                client.get.queue_get(&client.target);
                client.get.flush().await?;
                client.parked = true;
                "GET"
            }
            (false, 2..=5) if client.parked => {
                client.read_poll(Duration::from_millis(rng.below(4))).await?;
                "answer of a GET"
            }
            (false, 6 | 7) if client.posting.is_none() => {
                let body =
                    client.events(rng).iter().map(|event| format!("4{event}")).collect::<Vec<_>>().join("\u{1e}");
                client.post.queue_post(&client.target, "text/plain;charset=UTF-8", body.as_bytes());
                client.post.flush().await?;
                client.posting = Some(Vec::new());
                "POST"
            }
            (false, 8) if client.posting.is_none() => {
                let body =
                    client.events(rng).iter().map(|event| format!("4{event}")).collect::<Vec<_>>().join("\u{1e}");
                client.half_post(body.as_bytes(), rng).await?;
                "half a POST"
            }
            (false, 6..=9) if client.posting.is_some() => {
                client.finish_post().await?;
                "answer of a POST"
            }
            (false, 10 | 11) if client.candidate.is_none() => {
                client.candidate = Some((client.open_candidate().await?, Stage::Opened));
                tally.candidates += 1;
                "candidate"
            }
            (false, 10..=12) if client.candidate.is_some() => client.next_stage(rng, tally).await?,
            (false, 14) if client.candidate.is_some() && rng.one_in(2) => {
                let Some((mut candidate, _)) = client.candidate.take() else { continue };
                match rng.below(4) {
                    0 => drop(candidate),
                    1 => candidate.reset(),
                    2 => {
                        candidate.queue_close();
                        candidate.flush().await?;
                    }
                    _ => {
                        candidate.queue_text("nonsense");
                        candidate.flush().await?;
                    }
                }
                "candidate aborted"
            }
            (false, 15) if !client.parked => {
                client.get = Http::connect(client.endpoint.addr, None).await?;
                "GETs by another connection"
            }
            (false, 16) if rng.one_in(4) => {
                steps.push("abort");
                tally.aborted += 1;
                return client.abort(rng, steps).await;
            }
            _ => continue,
        };
        steps.push(name);
    }
    steps.push("end");
    client.finish().await
}

impl Client {
    async fn open(running: &Running) -> io::Result<Self> {
        let endpoint = running.endpoint();
        let mut client = RawClient::polling(&endpoint).await?;
        let id = client.connect("/", None).await?;
        let socket = running.io.of("/").socket(&id).ok_or_else(|| io::Error::other("no such socket"))?;
        let sid = client.sid().to_owned();
        // No poll is on its way, but the POST of the CONNECT packet may be.
        client.pause();
        while !client.is_idle() {
            client.drive().await?;
        }
        Ok(Self {
            target: endpoint.target("polling", Some(&sid)),
            sid,
            socket,
            get: Http::connect(endpoint.addr, None).await?,
            parked: false,
            post: Http::connect(endpoint.addr, None).await?,
            posting: None,
            candidate: None,
            websocket: None,
            sent: 0,
            taken: 0,
            emitted: 0,
            received: 0,
            endpoint,
        })
    }

    /// The next few events to be sent.
    fn events(&mut self, rng: &mut Rng) -> Vec<String> {
        let first = self.sent;
        self.sent += 1 + rng.below(4);
        (first..self.sent).map(|i| event("/", None, "up", &[json!(i)])).collect()
    }

    /// Begins a POST and waits until the server has begun to read it, which `100 Continue` tells.
    async fn half_post(&mut self, body: &[u8], rng: &mut Rng) -> io::Result<()> {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain;charset=UTF-8\r\nExpect: 100-continue\r\n\
             Content-Length: {}\r\n\r\n",
            self.target,
            body.len()
        );
        self.post.queue(head.as_bytes());
        let answer = self.post.answer().await?;
        check(answer.status == 100, || format!("no permission to go on: {answer:?}"))?;
        let half = rng.below(body.len() as u64) as usize;
        self.post.queue(&body[..half]);
        self.post.flush().await?;
        self.posting = Some(body[half..].to_vec());
        Ok(())
    }

    async fn finish_post(&mut self) -> io::Result<()> {
        if let Some(rest) = self.posting.take() {
            self.post.queue(&rest);
            let answer = self.post.answer().await?;
            check((answer.status, answer.text()) == (200, "ok"), || format!("the answer of a POST: {answer:?}"))?;
            self.taken = self.taken.max(self.sent_by_polling());
        }
        Ok(())
    }

    /// What a POST that has been answered is known to have brought: everything, as long as the WebSocket sends nothing.
    fn sent_by_polling(&self) -> u64 {
        if self.websocket.is_some() { self.taken } else { self.sent }
    }

    async fn open_candidate(&self) -> io::Result<WebSocket> {
        loop {
            match WebSocket::try_open(&self.endpoint, Some(&self.sid)).await? {
                Ok(candidate) => return Ok(candidate),
                // The server has not noticed yet that the one before is gone.
                Err(refused) => check(refused.status == 400, || format!("a candidate: {refused:?}"))?,
            }
        }
    }

    async fn next_stage(&mut self, rng: &mut Rng, tally: &mut Tally) -> io::Result<&'static str> {
        let Some((mut candidate, stage)) = self.candidate.take() else { return Ok("nothing") };
        let (stage, name) = match stage {
            Stage::Opened => {
                candidate.queue_text("2probe");
                candidate.flush().await?;
                (Stage::Asked, "probe")
            }
            Stage::Asked => {
                let answer = candidate.next().await?;
                let probed = answer == Some(Message::Text("3probe".to_owned()));
                check(probed, || format!("the answer to a probe: {answer:?}"))?;
                (Stage::Probed, "probe answered")
            }
            Stage::Probed => {
                // A POST whose answer has not come may or may not have been seen by the server, unless it said so.
                if self.posting.as_ref().is_some_and(Vec::is_empty) {
                    self.finish_post().await?;
                }
                candidate.queue_text("5");
                if rng.one_in(2) {
                    // In the same write, right behind the upgrade.
                    self.events(rng).iter().for_each(|event| candidate.queue_text(&format!("4{event}")));
                }
                candidate.flush().await?;
                self.websocket = Some(candidate);
                tally.upgraded += 1;
                if self.posting.is_some() {
                    tally.half_posts += 1;
                    if rng.one_in(2) {
                        tokio::time::sleep(Duration::from_millis(rng.below(3))).await;
                    }
                    self.finish_post().await?;
                }
                if self.parked {
                    // What it brings was sent before the switch.
                    self.read_poll(PATIENCE).await?;
                    check(!self.parked, || "the last poll is not answered".to_owned())?;
                }
                return Ok("upgrade");
            }
        };
        self.candidate = Some((candidate, stage));
        Ok(name)
    }

    /// Waits a while for the answer of the GET that is on its way.
    async fn read_poll(&mut self, patience: Duration) -> io::Result<()> {
        if let Ok(answer) = tokio::time::timeout(patience, self.get.answer()).await {
            let answer = answer?;
            self.parked = false;
            if self.websocket.is_some() && answer.status == 400 {
                return Ok(());
            }
            check(answer.status == 200, || format!("the answer of a GET: {answer:?}"))?;
            for packet in answer.text().split('\u{1e}') {
                self.take(packet)?;
            }
        }
        Ok(())
    }

    /// Takes what the WebSocket has brought.
    async fn read_some(&mut self) -> io::Result<()> {
        while let Some(socket) = &mut self.websocket {
            match tokio::time::timeout(Duration::from_millis(1), socket.next()).await {
                Err(_) => break,
                Ok(message) => match message? {
                    Some(Message::Text(text)) => self.take(&text)?,
                    other => return Err(io::Error::other(format!("on the WebSocket: {other:?}"))),
                },
            }
        }
        Ok(())
    }

    /// Takes one Engine.IO packet.
    fn take(&mut self, packet: &str) -> io::Result<()> {
        match packet.split_at_checked(1) {
            Some(("4", text)) => {
                let (packet, _) = Packet::parse(text)?;
                let want = self.received;
                check(packet.args_of("down") == Some(&[Value::from(want)][..]), || {
                    format!("{packet:?} in place of number {want}")
                })?;
                self.received += 1;
                Ok(())
            }
            Some(("6", "")) => Ok(()),
            _ => Err(io::Error::other(format!("unexpected packet {packet:?}"))),
        }
    }

    /// Everything that was sent arrives, on both sides, and nothing more.
    async fn finish(mut self) -> io::Result<()> {
        self.finish_post().await?;
        self.candidate = None;
        while self.received < self.emitted {
            if self.websocket.is_some() {
                self.read_some().await?;
                continue;
            }
            if !self.parked {
                self.get.queue_get(&self.target);
                self.parked = true;
            }
            self.read_poll(PATIENCE).await?;
        }
        let all = || self.log().len() as u64 >= self.sent;
        check(eventually(PATIENCE, all).await, || format!("{} events of {}", self.log().len(), self.sent))?;
        self.check_log(self.sent)?;
        // The last words: nothing came twice, and nothing comes behind them.
        let sent = self.sent;
        let leftover = match self.websocket.take() {
            Some(mut socket) => {
                socket.queue_close();
                let mut leftover = Vec::new();
                while let Some(message) = socket.next().await? {
                    leftover.push(message);
                }
                leftover.retain(|message| !matches!(message, Message::Close(_)));
                format!("{leftover:?}")
            }
            None => {
                if !self.parked {
                    self.get.queue_get(&self.target);
                    self.get.flush().await?;
                }
                let answer = self.post.post(&self.target, "1").await?;
                check(answer.status == 200, || format!("the answer to a goodbye: {answer:?}"))?;
                let last = self.get.answer().await?;
                // The GET may come too late, or be released by the candidate that was given up.
                let is_empty = last.status == 400 || matches!(last.text(), "1" | "6");
                if is_empty { "[]".to_owned() } else { last.text().to_owned() }
            }
        };
        check(leftover == "[]", || format!("behind the last: {leftover}"))?;
        check(eventually(PATIENCE, || !self.socket.connected()).await, || "the session does not end".to_owned())?;
        self.check_log(sent)
    }

    /// Does something that ends the session, and looks at what is left.
    async fn abort(mut self, rng: &mut Rng, steps: &mut Vec<&'static str>) -> io::Result<()> {
        if !self.parked {
            self.get.queue_get(&self.target);
            self.get.flush().await?;
        }
        match rng.below(4) {
            0 => {
                steps.push("a second GET");
                let mut second = Http::connect(self.endpoint.addr, None).await?;
                second.queue_get(&self.target);
                second.flush().await?;
            }
            1 => {
                steps.push("RST within a POST");
                if self.posting.is_none() {
                    let body =
                        self.events(rng).iter().map(|event| format!("4{event}")).collect::<Vec<_>>().join("\u{1e}");
                    self.half_post(body.as_bytes(), rng).await?;
                }
                let post = Http::connect(self.endpoint.addr, None).await?;
                std::mem::replace(&mut self.post, post).reset();
            }
            2 => {
                steps.push("RST while a GET waits");
                let get = Http::connect(self.endpoint.addr, None).await?;
                std::mem::replace(&mut self.get, get).reset();
            }
            _ => {
                steps.push("FIN while a GET waits");
                self.get = Http::connect(self.endpoint.addr, None).await?;
            }
        }
        // The server may have answered what was aborted before it knew. In the end it finds a poll gone that waits.
        while self.socket.connected() {
            let mut get = Http::connect(self.endpoint.addr, None).await?;
            get.queue_get(&self.target);
            let _ = tokio::time::timeout(Duration::from_millis(5), get.answer()).await;
        }
        // What was answered with `ok` has been handled or will be.
        let taken = || self.log().len() as u64 >= self.taken;
        check(eventually(PATIENCE, taken).await, || format!("{} events of {}", self.log().len(), self.taken))?;
        let got = self.log().len() as u64;
        check(got <= self.sent, || format!("{got} events of {}", self.sent))?;
        self.check_log(got)
    }

    fn log(&self) -> Vec<u64> {
        let log = self.socket.extensions().get::<Log>();
        log.map(|log| log.0.lock().unwrap().clone()).unwrap_or_default()
    }

    /// The server has got the first `count` events, each once and in order.
    fn check_log(&self, count: u64) -> io::Result<()> {
        let log = self.log();
        check(log.iter().copied().eq(0..count), || format!("the server got {log:?} and not 0..{count}"))
    }
}

fn check(is_so: bool, otherwise: impl FnOnce() -> String) -> io::Result<()> {
    if is_so { Ok(()) } else { Err(io::Error::other(otherwise())) }
}
