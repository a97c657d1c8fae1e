//! What a row does and expects, one step per string.
//!
//! | step | meaning |
//! |---|---|
//! | `GET target \| Header: value \|\| body` | a request on a connection of its own (any method); its answer is *the answer* |
//! | `open name`, `use name`, `close`, `half-close` | connections by name; all following raw steps use the current one |
//! | `send bytes` | raw bytes on the current connection (a new one, if there is none) |
//! | `dribble bytes` | the same, one byte per segment |
//! | `respond` | reads an answer from the current connection |
//! | `closed`, `closed silently` | the connection ends; *silently*: not a byte before |
//! | `400`, `400,405`, `400-`, `400/3`, `U400 message` | the answer's status; one of several; with an empty body; with `{"code":3,…}`; a refused upgrade |
//! | `body text`, `body~ part`, `header Name: value`, `header~ Name: part`, `noheader Name` | more about the answer |
//! | `post body`, `poll text`, `polls packet`, `polls~ part` | of the polling session: a POST, a GET and its whole body, GETs until the packet came, or a part of a body |
//! | `ok` | the answer is 200 `ok` |
//! | `oks N` | N answers on the current connection, each `ok` |
//! | `slam target` | asks for an upgrade and drops the connection without reading |
//! | `upgrade`, `ws target \| Header: value` | a WebSocket connection (with the session's id), and it becomes the current one |
//! | `text …`, `bin …`, `frame first-byte-in-hex …` | one masked frame |
//! | `wants text`, `wants~ begin`, `wantsbin bytes`, `wantspong bytes`, `C1002` | the next frame; `C…`: a close frame of that code, then the end |
//! | `ends` | the current WebSocket connection ends without another message |
//! | `upgraded` | from here the session is the current WebSocket connection |
//! | `lives` | the session answers an event |
//! | `gone` | the session is over: unknown to the next request, or the WebSocket ends without a message |
//! | `PE` | parse error: `gone`, and a POST was refused with an empty 400 (the npm server says `ok` before it looks) |
//! | `FC` | refused by Socket.IO: `gone`, and a POST was answered `ok`, the next poll brings the close packet |
//! | `PE or FC` | either |
//! | `deaf N bytes`, `deaf-text N …` | writes the bytes, or a masked text frame, up to N times and reads nothing, until the server has enough |
//! | `until name N`, `none name` | the server's counter of this name comes to N, or is 0 (`GET /stats`) |
//! | `counts N`, `questions N`, `thief` | numbers in order; that many questions that time out; goes on with the session of the answer |
//! | `abort` | a poll whose connection is closed while it waits, and the session is unknown from then on |
//! | `again status step` | the request again and again, until the answer is this status |
//! | `rivals name name` | two requests that exclude each other, whichever came first: one is refused (400), one ends (200 `1`) |
//! | `close-echo code payload`, `too-big`, `wants-question`, `answer args`, `answer/chat args`, `refused-namespace`, `FC-after-connect` | what single rows need; see the code |
//!
//! Words in braces: `{poll}` and `{wsu}` are the session's targets, `{sid}` its id, `{host}` the server's address,
//! `{upgrade}` the lines of a proper upgrade request, `{repeat:N:text}}` a repetition.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::bytes::{parse, show};
use crate::good::{self, KEY};
use crate::rows::Case;
use crate::wire::{Frame, Response, Wire, masked};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Ours,
    Node,
}

type Outcome = Result<(), String>;

/// A server that notices the end of a connection at all has noticed it after this time.
const UNSEEN: std::time::Duration = std::time::Duration::from_secs(4);

/// Runs one row against a server. The ids of its sessions are added to `secrets`.
pub(crate) fn run(case: &Case, target: Target, address: SocketAddr, secrets: &mut Vec<String>) -> Outcome {
    let mut run = Run {
        target,
        address,
        session: Session::None,
        revision: 4,
        sid: String::new(),
        wires: BTreeMap::new(),
        current: String::new(),
        answer: None,
        answered_by: String::new(),
        jsonp: false,
        question: String::new(),
        sids: Vec::new(),
    };
    let mut outcome = run.begin(&case.session).map_err(|why| format!("{}: {why}", case.session));
    for step in &case.steps {
        outcome = outcome.and_then(|()| run.step(step).map_err(|why| format!("`{}`: {why}", shorten(step))));
    }
    secrets.append(&mut run.sids);
    outcome
}

/// Complains about a row that could not be run, without a server.
pub(crate) fn check(case: &Case) -> Outcome {
    if !crate::server::exists(&case.profile) {
        return Err(format!("no profile `{}`", case.profile));
    }
    let words: Vec<&str> = case.session.split('-').collect();
    if !matches!(words.first(), Some(&("" | "poll4" | "poll3" | "ws4" | "ws3" | "msg4" | "jsonp3"))) {
        return Err(format!("no session `{}`", case.session));
    }
    for step in &case.steps {
        let (verb, rest) = split(step);
        parse(rest).map_err(|why| format!("`{step}`: {why}"))?;
        if !is_status(verb) && !VERBS.contains(&verb) && !METHODS.contains(&verb) {
            return Err(format!("no step `{verb}`"));
        }
    }
    if case.steps.iter().all(|step| !is_expectation(step)) {
        return Err("it expects nothing".to_owned());
    }
    Ok(())
}

/// Turns an expectation into one that must not hold.
pub(crate) fn falsify(step: &str) -> Option<String> {
    let (verb, rest) = split(step);
    match verb {
        "ok" => Some("404".to_owned()),
        "lives" => Some("400".to_owned()),
        "gone" | "PE" | "FC" | "closed" => Some("lives".to_owned()),
        "wants" | "wantsbin" | "body" => Some(format!("{verb} {rest}x")),
        _ if verb.starts_with('C') && is_status(verb) => Some("C4999".to_owned()),
        _ if is_status(verb) => Some(if verb.contains("200") { "400".to_owned() } else { "200".to_owned() }),
        _ => None,
    }
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEAD"];

const VERBS: &[&str] = &[
    "open",
    "use",
    "close",
    "half-close",
    "send",
    "dribble",
    "respond",
    "closed",
    "body",
    "body~",
    "header",
    "header~",
    "noheader",
    "post",
    "poll",
    "polls",
    "polls~",
    "ok",
    "upgrade",
    "ws",
    "text",
    "bin",
    "frame",
    "wants",
    "wants~",
    "wantsbin",
    "wantspong",
    "lives",
    "gone",
    "PE",
    "FC",
    "repeat",
    "close-echo",
    "too-big",
    "wants-question",
    "answer",
    "answer/chat",
    "refused-namespace",
    "FC-after-connect",
    "ends",
    "upgraded",
    "slam",
    "oks",
    "deaf",
    "deaf-text",
    "until",
    "none",
    "counts",
    "abort",
    "again",
    "rivals",
    "questions",
    "thief",
];

fn is_expectation(step: &str) -> bool {
    let (verb, _) = split(step);
    is_status(verb)
        || matches!(
            verb,
            "closed"
                | "body"
                | "body~"
                | "poll"
                | "polls"
                | "polls~"
                | "ok"
                | "wants"
                | "wants~"
                | "wantsbin"
                | "wantspong"
                | "lives"
                | "gone"
                | "PE"
                | "FC"
                | "FC-after-connect"
                | "too-big"
                | "close-echo"
                | "oks"
                | "ends"
                | "until"
                | "counts"
                | "abort"
                | "again"
                | "rivals"
        )
}

/// Whether a step expects that something is refused, or that a session ends.
#[cfg(test)]
pub(crate) fn is_refusal(step: &str) -> bool {
    let (verb, _) = split(step);
    let digits: String = verb.trim_start_matches(['U', 'C']).chars().take_while(char::is_ascii_digit).collect();
    let status = if is_status(verb) { digits.parse::<u16>().unwrap_or_default() } else { 0 };
    let ends = ["gone", "PE", "FC", "FC-after-connect", "ends", "too-big", "refused-namespace", "rivals"];
    ends.contains(&verb) || (400..1_000).contains(&status) || (1_002..5_000).contains(&status)
}

/// `400`, `400-`, `400/3`, `U400`, `C1002`.
fn is_status(verb: &str) -> bool {
    let digits = verb.trim_start_matches(['U', 'C']);
    let digits = digits.split_once(',').map_or(digits, |(first, _)| first);
    let digits = digits.split_once('/').map_or(digits, |(status, _)| status).trim_end_matches('-');
    digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

enum Session {
    None,
    Polling,
    WebSocket,
    /// A WebSocket whose packets are MessagePack.
    Packed,
}

struct Run {
    target: Target,
    address: SocketAddr,
    session: Session,
    revision: u8,
    sid: String,
    wires: BTreeMap<String, Wire>,
    current: String,
    answer: Option<Response>,
    /// The connection that brought the answer.
    answered_by: String,
    /// The polling session speaks JSONP.
    jsonp: bool,
    /// The id of the acknowledgement that the server asked for.
    question: String,
    /// The ids of its sessions.
    sids: Vec<String>,
}

impl Run {
    /// `poll4`, `poll3`, `ws4`, `ws3`: connected to the main namespace; with `-open` only to the engine.
    fn begin(&mut self, session: &str) -> Outcome {
        let (kind, open) = match session.split_once('-') {
            Some((kind, "open")) => (kind, true),
            Some((_, other)) => return Err(format!("no session `-{other}`")),
            None => (session, false),
        };
        self.revision = if kind.ends_with('3') { 3 } else { 4 };
        let base = format!("/socket.io/?EIO={}&transport=", self.revision);
        match kind {
            "" => Ok(()),
            "poll4" | "poll3" => {
                self.session = Session::Polling;
                let answer = self.request("GET", &format!("{base}polling"))?;
                self.take_sid(&answer.body)?;
                if self.revision == 3 {
                    return if open { Ok(()) } else { self.polls("42[\"hello\"", true) };
                }
                if open {
                    return Ok(());
                }
                self.step("post 40")?;
                self.step("ok")?;
                self.polls("42[\"hello\"", true)
            }
            "jsonp3" => {
                self.session = Session::Polling;
                self.jsonp = true;
                let answer = self.request("GET", &format!("{base}polling&j=0"))?;
                let open = String::from_utf8_lossy(&answer.body).replace("\\\"", "\"");
                self.take_sid(open.as_bytes())
            }
            "ws4" | "ws3" => {
                self.session = Session::WebSocket;
                let wire = good::upgrade(self.address, &format!("{base}websocket"), "")?;
                self.wires.insert("session".to_owned(), wire);
                self.current = "session".to_owned();
                let text = self.text()?;
                self.take_sid(text.as_bytes())?;
                if self.revision == 4 {
                    if open {
                        return Ok(());
                    }
                    self.frame(0x81, b"40")?;
                }
                if !open {
                    self.step("wants~ 40")?;
                    self.step("wants~ 42[\"hello\"")?;
                }
                Ok(())
            }
            "msg4" => {
                self.session = Session::Packed;
                let wire = good::upgrade(self.address, &format!("{base}websocket"), "")?;
                self.wires.insert("session".to_owned(), wire);
                self.current = "session".to_owned();
                self.step("wants~ 0{")?;
                if open {
                    return Ok(());
                }
                self.frame(0x82, b"\x82\xa4type\x00\xa3nsp\xa1/")?;
                contains(&self.next(2)?, b"\xa3sid")?;
                contains(&self.next(2)?, b"\xa5hello")
            }
            other => Err(format!("no session `{other}`")),
        }
    }

    fn take_sid(&mut self, open: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(open);
        let sid =
            text.split_once("\"sid\":\"").and_then(|(_, rest)| rest.split_once('"')).map(|(sid, _)| sid.to_owned());
        self.sid = sid.ok_or_else(|| format!("no session id in {}", show(open)))?;
        self.sids.push(self.sid.clone());
        Ok(())
    }

    fn step(&mut self, step: &str) -> Outcome {
        let step = self.fill(step);
        let (verb, rest) = split(&step);
        if is_status(verb) {
            return self.status(verb, rest);
        }
        match verb {
            _ if METHODS.contains(&verb) => {
                self.answer = None;
                self.answer = Some(self.request(verb, rest)?);
                Ok(())
            }
            "repeat" => {
                let (count, inner) = rest.split_once(' ').ok_or("`repeat N step`")?;
                let count: usize = count.parse().map_err(|_| "no count")?;
                (0..count).try_for_each(|_| self.step(inner))
            }
            "open" => {
                self.wires.insert(rest.to_owned(), Wire::open(self.address)?);
                self.current = rest.to_owned();
                Ok(())
            }
            "use" => {
                self.current = rest.to_owned();
                self.wire().map(drop)
            }
            "close" => {
                self.wires.remove(&self.current);
                Ok(())
            }
            "half-close" => {
                self.wire()?.half_close();
                Ok(())
            }
            "send" => self.send(&parse(rest)?),
            "dribble" => parse(rest)?.chunks(1).try_for_each(|byte| self.send(byte)),
            "respond" => {
                self.answer = None;
                self.answer = Some(self.wire()?.response(false)?);
                self.answered_by = self.current.clone();
                Ok(())
            }
            "oks" => {
                let count: usize = rest.parse().map_err(|_| "no count")?;
                (0..count).try_for_each(|_| self.step("respond").and_then(|()| self.step("ok")))
            }
            "slam" => {
                let mut wire = Wire::open(self.address)?;
                wire.send(good::upgrade_request(self.address, rest, "").as_bytes())
            }
            "ends" => self.ends(),
            "deaf" | "deaf-text" => {
                let (count, text) = rest.split_once(' ').ok_or("`deaf N bytes`")?;
                let count: usize = count.parse().map_err(|_| "no count")?;
                let bytes = parse(text)?;
                let bytes = if verb == "deaf" { bytes } else { masked(0x81, &bytes) };
                self.wire()?.send_deaf(&bytes, count)
            }
            "until" | "none" => {
                let (name, least) =
                    if verb == "none" { (rest, "0") } else { rest.split_once(' ').ok_or("`until name N`")? };
                let least: u64 = least.parse().map_err(|_| "no number")?;
                let begin = std::time::Instant::now();
                loop {
                    let found = crate::server::count(self.address, name)?;
                    if (verb == "until" && found >= least) || found == least {
                        return Ok(());
                    }
                    if begin.elapsed() > crate::wire::PATIENCE {
                        return Err(format!("it is {found}"));
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            "again" => {
                let (status, inner) = rest.split_once(' ').ok_or("`again status step`")?;
                let begin = std::time::Instant::now();
                loop {
                    self.step(inner)?;
                    let expected = self.status(status, "");
                    if expected.is_ok() || begin.elapsed() > crate::wire::PATIENCE {
                        return expected;
                    }
                }
            }
            "abort" => {
                let begin = std::time::Instant::now();
                while begin.elapsed() < crate::wire::PATIENCE {
                    let mut wire = Wire::open(self.address)?;
                    wire.send(
                        format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.fill("{poll}"), self.address).as_bytes(),
                    )?;
                    // Whoever answers this has most likely begun with that, too.
                    self.step("GET /socket.io/?EIO=4&transport=polling")?;
                    self.step("200")?;
                    drop(wire);
                    // A request whose connection has ended when it is read is none: that one has to come again.
                    let closed = std::time::Instant::now();
                    while closed.elapsed() < UNSEEN {
                        self.step("post 6")?;
                        if self.status("400/1", "").is_ok() {
                            return Ok(());
                        }
                    }
                }
                Err("the session lives on".to_owned())
            }
            "rivals" => {
                let (one, other) = rest.split_once(' ').ok_or("`rivals name name`")?;
                let mut found = Vec::new();
                for name in [one, other] {
                    self.step(&format!("use {name}"))?;
                    self.step("respond")?;
                    let answer = self.last()?;
                    found.push((answer.status, String::from_utf8_lossy(&answer.body).into_owned()));
                }
                found.sort();
                match found == [(200, "1".to_owned()), (400, String::new())] {
                    true => Ok(()),
                    false => Err(format!("the answers are {found:?}")),
                }
            }
            "counts" => {
                let count: usize = rest.parse().map_err(|_| "no count")?;
                (0..count).try_for_each(|at| self.step(&format!("wants 42[\"number\",{at}]")))?;
                self.step(&format!("wants 42[\"number-end\",{count}]"))
            }
            "questions" => {
                let count: usize = rest.parse().map_err(|_| "no count")?;
                for at in 1..=count {
                    self.step(&format!("text 42{at}[\"ask-timeout\",1]"))?;
                    self.step("wants-question")?;
                    self.step(&format!("wants 43{at}[\"timeout\"]"))?;
                }
                Ok(())
            }
            "thief" => {
                let body = self.last()?.body.clone();
                self.take_sid(&body)
            }
            "close-echo" => {
                let (code, payload) = rest.split_once(' ').ok_or("`close-echo code payload`")?;
                self.frame(0x88, &parse(payload)?)?;
                self.closes_with(code.parse().map_err(|_| "no code")?)
            }
            "too-big" => {
                // Lengths beyond 2^63 break a rule of their own; which one is named first is open.
                match self.next(8)?.get(..2) {
                    Some([0x03, 0xf1 | 0xea]) => Ok(()),
                    code => Err(format!("close code {code:?}")),
                }
            }
            "wants-question" => {
                let text = self.text()?;
                let id = text.strip_prefix("42").and_then(|rest| rest.split_once('[')).map(|(id, _)| id);
                let id = id.filter(|id| !id.is_empty()).ok_or_else(|| format!("it is {text}"))?;
                self.question = id.to_owned();
                Ok(())
            }
            "answer" | "answer/chat" => {
                let namespace =
                    verb.strip_prefix("answer").filter(|name| !name.is_empty()).map(|name| format!("{name},"));
                let packet = format!("43{}{}{rest}", namespace.unwrap_or_default(), self.question);
                self.frame(0x81, packet.as_bytes())
            }
            "refused-namespace" => {
                let text = self.text()?;
                if text.starts_with("44") && text.ends_with("{\"message\":\"Invalid namespace\"}") {
                    Ok(())
                } else {
                    Err(format!("it is {}", show(text.as_bytes())))
                }
            }
            "FC-after-connect" => {
                // The first CONNECT may or may not be answered before the second one ends everything.
                self.step("ok")?;
                for _ in 0..3 {
                    self.step("GET {poll}")?;
                    let answer = self.last()?;
                    if answer.status == 400 {
                        return self.step("400/1");
                    }
                    if crate::wire::find(&answer.body, b"\x1e40{").is_some() {
                        return Err(format!("two sockets: {}", show(&answer.body)));
                    }
                }
                Err("the session lives on".to_owned())
            }
            "upgraded" => {
                let wire = self.wires.remove(&self.current).ok_or("no connection")?;
                self.wires.insert("session".to_owned(), wire);
                self.current = "session".to_owned();
                self.session = Session::WebSocket;
                Ok(())
            }
            "closed" => {
                let before = self.wire()?.rest()?;
                if rest == "silently" && !before.is_empty() {
                    Err(format!("it said {}", show(&before)))
                } else {
                    Ok(())
                }
            }
            "body" => same(&self.last()?.body, &parse(rest)?),
            "body~" => contains(&self.last()?.body, &parse(rest)?),
            "header" | "header~" => {
                let (name, value) = rest.split_once(": ").ok_or("`header Name: value`")?;
                let answer = self.last()?;
                match answer.header(name) {
                    Some(found) if found == value || (verb == "header~" && found.contains(value)) => Ok(()),
                    found => Err(format!("{name} is {found:?}")),
                }
            }
            "noheader" => match self.last()?.header(rest) {
                Some(found) => Err(format!("it is `{found}`")),
                None => Ok(()),
            },
            "ok" => {
                let answer = self.last()?;
                if (answer.status, answer.body.as_slice()) == (200, b"ok") { Ok(()) } else { Err(describe(answer)) }
            }
            "post" => {
                self.answer = None;
                let target = self.fill("{poll}");
                let kind = "Content-Type: text/plain;charset=UTF-8";
                self.answer = Some(self.request("POST", &format!("{target} | {kind} || {rest}"))?);
                Ok(())
            }
            "poll" => {
                let target = self.fill("{poll}");
                let answer = self.request("GET", &target)?;
                let outcome =
                    if answer.status == 200 { same(&answer.body, &parse(rest)?) } else { Err(describe(&answer)) };
                self.answer = Some(answer);
                outcome
            }
            "polls" => self.polls(rest, false),
            "polls~" => {
                for _ in 0..200 {
                    self.step("GET {poll}")?;
                    self.step("200")?;
                    if crate::wire::find(&self.last()?.body, &parse(rest)?).is_some() {
                        return Ok(());
                    }
                }
                Err("200 polls did not bring it".to_owned())
            }
            "upgrade" => {
                let target = self.fill("{wsu}");
                self.upgrade(&target)
            }
            "ws" => self.upgrade(rest),
            "text" => self.frame(0x81, &parse(rest)?),
            "bin" => self.frame(0x82, &parse(rest)?),
            "frame" => {
                let (first, payload) = rest.split_once(' ').unwrap_or((rest, ""));
                let first = u8::from_str_radix(first, 16).map_err(|_| format!("`{first}` is no byte"))?;
                self.frame(first, &parse(payload)?)
            }
            "wants" => same(self.text()?.as_bytes(), &parse(rest)?),
            "wants~" => {
                let (text, begin) = (self.text()?, parse(rest)?);
                if text.as_bytes().starts_with(&begin) {
                    Ok(())
                } else {
                    Err(format!("it is {}", show(text.as_bytes())))
                }
            }
            "wantsbin" => self.next(2).and_then(|payload| same(&payload, &parse(rest)?)),
            "wantspong" => self.next(10).and_then(|payload| same(&payload, &parse(rest)?)),
            "lives" => self.lives(),
            "gone" => self.gone(),
            "PE" if rest == "or FC" => self.refused(true, true),
            "PE" => self.refused(true, false),
            "FC" => self.refused(false, true),
            other => Err(format!("no step `{other}`")),
        }
    }

    fn fill(&self, text: &str) -> String {
        let base = format!("/socket.io/?EIO={}&transport=", self.revision);
        let jsonp = if self.jsonp { "&j=0" } else { "" };
        text.replace("{poll}", &format!("{base}polling&sid={}{jsonp}", self.sid))
            .replace("{wsu}", &format!("{base}websocket&sid={}", self.sid))
            .replace("{sid}", &self.sid)
            .replace("{host}", &self.address.to_string())
            .replace(
                "{upgrade}",
                &format!(
                    "Host: {}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: {KEY}\\r\\n",
                    self.address
                ),
            )
    }

    fn wire(&mut self) -> Result<&mut Wire, String> {
        if self.current.is_empty() {
            self.wires.insert("a".to_owned(), Wire::open(self.address)?);
            self.current = "a".to_owned();
        }
        self.wires.get_mut(&self.current).ok_or_else(|| format!("no connection `{}`", self.current))
    }

    fn send(&mut self, bytes: &[u8]) -> Outcome {
        self.wire()?.send(bytes)
    }

    fn frame(&mut self, first: u8, payload: &[u8]) -> Outcome {
        self.send(&masked(first, payload))
    }

    fn last(&self) -> Result<&Response, String> {
        self.answer.as_ref().ok_or_else(|| "there is no answer".to_owned())
    }

    /// `target | Header: value || body`, on a connection of its own.
    fn request(&mut self, method: &str, text: &str) -> Result<Response, String> {
        let (head, body) = match text.split_once(" || ") {
            Some((head, body)) => (head, Some(parse(body)?)),
            None => match text.strip_suffix(" ||") {
                Some(head) => (head, Some(Vec::new())),
                None => (text, None),
            },
        };
        let mut parts = head.split(" | ");
        let target = parse(parts.next().unwrap_or_default())?;
        let mut bytes = format!("{method} ").into_bytes();
        bytes.extend_from_slice(&target);
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        let headers: Vec<Vec<u8>> = parts.map(parse).collect::<Result<_, _>>()?;
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with(b"host:")) {
            bytes.extend_from_slice(format!("Host: {}\r\n", self.address).as_bytes());
        }
        for header in headers {
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body.unwrap_or_default());
        let mut wire = Wire::open(self.address)?;
        wire.send(&bytes)?;
        let answer = wire.response(method == "HEAD")?;
        self.wires.insert("request".to_owned(), wire);
        self.answered_by = "request".to_owned();
        Ok(answer)
    }

    fn status(&mut self, verb: &str, rest: &str) -> Outcome {
        if let Some(code) = verb.strip_prefix('C') {
            return self.closes_with(code.parse().map_err(|_| "no code")?);
        }
        if let Some(status) = verb.strip_prefix('U') {
            let answer = self.last()?.clone();
            if answer.status.to_string() != status {
                return Err(describe(&answer));
            }
            if !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                return Err(format!("Connection is {:?}", answer.header("connection")));
            }
            if !rest.is_empty() {
                same(&answer.body, &parse(rest)?)?;
            }
            // Where it came from has to end.
            let wire = self.wires.get_mut(&self.answered_by).ok_or("no connection")?;
            return wire
                .rest()
                .and_then(|more| if more.is_empty() { Ok(()) } else { Err(format!("then {}", show(&more))) });
        }
        let answer = self.last()?;
        let (status, code) = verb.split_once('/').unwrap_or((verb, ""));
        if !status.trim_end_matches('-').split(',').any(|status| answer.status.to_string() == status) {
            return Err(describe(answer));
        }
        if verb.ends_with('-') && !answer.body.is_empty() {
            return Err(describe(answer));
        }
        if code.is_empty() {
            return Ok(());
        }
        let message = match code {
            "0" => "Transport unknown",
            "1" => "Session ID unknown",
            "2" => "Bad handshake method",
            "3" => "Bad request",
            "4" => "Forbidden",
            "5" => "Unsupported protocol version",
            _ => return Err("no such code".to_owned()),
        };
        let message = if rest.is_empty() { message } else { rest };
        if !answer.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
            return Err(format!("Content-Type is {:?}", answer.header("content-type")));
        }
        same(&answer.body, format!("{{\"code\":{code},\"message\":\"{message}\"}}").as_bytes())
    }

    /// GETs until a packet is there (or begins so); everything is read, nothing may be an error.
    fn polls(&mut self, packet: &str, begin: bool) -> Outcome {
        let wanted = parse(packet)?;
        let target = self.fill("{poll}");
        for _ in 0..200 {
            let answer = self.request("GET", &target)?;
            if answer.status != 200 {
                return Err(describe(&answer));
            }
            for found in self.packets(&answer.body) {
                if found == wanted || (begin && found.starts_with(&wanted)) {
                    return Ok(());
                }
            }
        }
        Err("200 polls did not bring it".to_owned())
    }

    /// A payload's packets; a text payload of revision 3 has its lengths in UTF-16 units.
    fn packets(&self, body: &[u8]) -> Vec<Vec<u8>> {
        if self.revision == 4 {
            return body.split(|byte| *byte == 0x1e).map(<[u8]>::to_vec).collect();
        }
        let text = String::from_utf8_lossy(body);
        let mut packets = Vec::new();
        let mut rest = text.as_ref();
        while let Some((length, after)) = rest.split_once(':') {
            let Ok(length) = length.parse::<usize>() else { break };
            let mut units = 0;
            let end = after.char_indices().find(|(_, c)| {
                let done = units >= length;
                units += c.len_utf16();
                done
            });
            let end = end.map_or(after.len(), |(at, _)| at);
            packets.push(after.as_bytes().get(..end).unwrap_or_default().to_vec());
            rest = after.get(end..).unwrap_or_default();
        }
        packets
    }

    fn upgrade(&mut self, text: &str) -> Outcome {
        let mut parts = text.split(" | ");
        let target = parts.next().unwrap_or_default();
        let headers: String = parts.map(|header| format!("{header}\r\n")).collect();
        let wire = good::upgrade(self.address, target, &headers)?;
        self.wires.insert("upgrade".to_owned(), wire);
        self.current = "upgrade".to_owned();
        Ok(())
    }

    /// The next message frame; pings of Engine.IO are answered, a close or the end is an error.
    fn next(&mut self, opcode: u8) -> Result<Vec<u8>, String> {
        loop {
            match self.wire()?.frame()? {
                Some(Frame { opcode: 1, payload }) if payload == b"2" => self.frame(0x81, b"3")?,
                Some(frame) if frame.opcode == opcode => return Ok(frame.payload),
                Some(Frame { opcode: 10, .. }) => {}
                Some(frame) => return Err(format!("frame {} {}", frame.opcode, show(&frame.payload))),
                None => return Err("the connection ended".to_owned()),
            }
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.next(1).map(|payload| String::from_utf8_lossy(&payload).into_owned())
    }

    /// A close frame with this code, then the end of TCP.
    fn closes_with(&mut self, code: u16) -> Outcome {
        loop {
            match self.wire()?.frame()? {
                // What the server said before it saw the mistake.
                Some(Frame { opcode: 1, payload }) if payload == b"2" || payload.starts_with(b"0{") => {}
                Some(Frame { opcode: 8, payload }) if payload.starts_with(&code.to_be_bytes()) => break,
                Some(frame) => return Err(format!("frame {} {}", frame.opcode, show(&frame.payload))),
                None => return Err("the connection ended without a close frame".to_owned()),
            }
        }
        self.frame(0x88, &code.to_be_bytes())?;
        self.wire()?.rest().map(drop)
    }

    fn lives(&mut self) -> Outcome {
        let (event, answer) = ("427990[\"echo-ack\",\"alive\"]", "437990[\"alive\"]");
        match self.session {
            Session::Polling => {
                let payload = if self.revision == 3 { format!("{}:{event}", event.len()) } else { event.to_owned() };
                self.step(&format!("post {payload}"))?;
                self.step("ok")?;
                self.polls(answer, false)
            }
            Session::WebSocket => {
                self.step("use session")?;
                self.step(&format!("text {event}"))?;
                self.step(&format!("wants {answer}"))
            }
            Session::None => {
                self.step(&format!("text {event}"))?;
                self.step(&format!("wants {answer}"))
            }
            Session::Packed => {
                self.frame(0x82, b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x09\xa4data\x92\xa8echo-ack\xa5alive")?;
                contains(&self.next(2)?, b"\xa5alive")
            }
        }
    }

    fn gone(&mut self) -> Outcome {
        match self.session {
            Session::Polling => {
                self.step("GET {poll}")?;
                self.step("400/1")
            }
            _ => self.ends(),
        }
    }

    fn ends(&mut self) -> Outcome {
        loop {
            match self.wire()?.frame()? {
                None => return Ok(()),
                Some(Frame { opcode: 8, payload }) => {
                    let code: Vec<u8> = payload.iter().take(2).copied().collect();
                    self.frame(0x88, &code)?;
                }
                Some(Frame { opcode: 1, payload }) if payload == b"2" => {}
                Some(frame) => return Err(format!("frame {} {}", frame.opcode, show(&frame.payload))),
            }
        }
    }

    fn refused(&mut self, by_engine: bool, by_socketio: bool) -> Outcome {
        if !matches!(self.session, Session::Polling) {
            return self.gone();
        }
        let answer = self.last()?.clone();
        let accepted = (answer.status, answer.body.as_slice()) == (200, b"ok");
        let denied = answer.status == 400 && answer.body.is_empty();
        if by_socketio && accepted {
            let target = self.fill("{poll}");
            let poll = self.request("GET", &target)?;
            let unknown = poll.status == 400 && crate::wire::find(&poll.body, b"\"code\":1").is_some();
            let close = if self.revision == 3 { b"1:1".as_slice() } else { b"1" };
            let closed = poll.status == 200 && poll.body.ends_with(close);
            let expected = closed || (by_engine && unknown);
            if !expected {
                return Err(format!("the next poll: {}", describe(&poll)));
            }
            return self.gone();
        }
        match (by_engine, denied, accepted && self.target == Target::Node) {
            (true, true, _) | (true, _, true) => self.gone(),
            _ => Err(describe(&answer)),
        }
    }
}

fn describe(answer: &Response) -> String {
    format!("the answer is {} {}", answer.status, show(&answer.body))
}

fn same(found: &[u8], wanted: &[u8]) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("it is {}", show(found))) }
}

fn contains(found: &[u8], part: &[u8]) -> Outcome {
    if crate::wire::find(found, part).is_some() { Ok(()) } else { Err(format!("it is {}", show(found))) }
}

fn split(step: &str) -> (&str, &str) {
    step.split_once(' ').unwrap_or((step, ""))
}

fn shorten(step: &str) -> String {
    let short: String = step.chars().take(120).collect();
    if short.len() < step.len() { format!("{short}…") } else { short }
}
