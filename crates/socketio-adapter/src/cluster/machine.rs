//! One server's view of the cluster in one namespace: who else is there, and which questions are open.
//!
//! The rhythm: [`received`](Machine::received), [`ask`](Machine::ask) or [`on_time`](Machine::on_time), then
//! [`poll`](Machine::poll) to `None`, then wait until [`deadline`](Machine::deadline). The machine publishes nothing
//! itself, reads no clock and draws no number.
//!
//! A question ends when every server that was there when it was asked has answered or is gone, or when its time is up;
//! what has come until then is the result. Who said goodbye before it answered is not missing, who fell silent is. That holds
//! for both ways of knowing the others: by their heartbeats, each by its name, or by a number that the broker told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use socketio_proto::{OwnedArgs, Value};

use super::{Envelope, Membership, Message, RequestId, ServerId, SocketDetails, Target};
use crate::recovery::Place;
use crate::{BroadcastOptions, RoomName, RoomNames, Selection};

/// Times and bounds of a [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// How often a server says that it is there. Default: 5 s. Node: `heartbeatInterval`.
    pub heartbeat_interval: Duration,
    /// After how much silence a server counts as gone. Default: 10 s. Node: `heartbeatTimeout`.
    pub heartbeat_timeout: Duration,
    /// How long a new server waits for others to say that they are there, before it believes that it knows them all.
    /// Default: 500 ms. Node does not wait.
    pub settle: Duration,
    /// The most servers that are told apart. Default: 1,024. Further ones are not waited for.
    pub max_servers: usize,
    /// The most questions that may be open in one namespace. Default: 4,096.
    pub max_requests: usize,
    /// The most parts that the answer to one question may have: sockets, or answers of clients. Default: 1,000,000.
    pub max_parts: usize,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(10),
            settle: Duration::from_millis(500),
            max_servers: 1_024,
            max_requests: 4_096,
            max_parts: 1_000_000,
        }
    }
}

/// There are too many open questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} questions to other servers are open")]
pub struct TooManyRequests(pub usize);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// [`Message::Fetch`].
    Sockets,
    /// [`Message::ServerEvent`].
    Servers,
    /// [`Message::Broadcast`].
    Clients,
}

/// What a [`Machine`] wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// A message is to be published.
    Publish(Message, Target),
    /// Another server wants something done here.
    Do(Task),
    /// Something about an open question. The last thing that is said about it is [`News::Complete`].
    Told(RequestId, News),
}

/// What another server wants done here.
#[derive(Debug, Clone)]
pub enum Task {
    /// An event for sockets of this server.
    Broadcast {
        /// Name and arguments.
        event: OwnedArgs,
        /// Whom it is addressed to, and how it is sent.
        options: BroadcastOptions,
        /// Who wants the answers of the clients, if anybody does.
        reply: Option<ReplyTo>,
        /// Where it stands in the log of the cluster, if there is one.
        place: Option<Place>,
    },
    /// An event of this server stands there in the log of the cluster.
    Placed {
        /// Under which number it was published.
        number: u64,
        /// Where it stands.
        place: Place,
    },
    /// Sockets join rooms.
    Join {
        /// Which sockets.
        selection: Selection,
        /// Which rooms.
        rooms: RoomNames,
    },
    /// Sockets leave rooms.
    Leave {
        /// Which sockets.
        selection: Selection,
        /// Which rooms.
        rooms: RoomNames,
    },
    /// Sockets are disconnected.
    Disconnect {
        /// Which sockets.
        selection: Selection,
        /// Their whole connections are closed.
        close: bool,
    },
    /// Which sockets are there?
    Fetch {
        /// Which sockets.
        selection: Selection,
        /// Who asks.
        reply: ReplyTo,
    },
    /// The ids of which sockets are there? Asked by old servers.
    ListSockets {
        /// Which sockets.
        selection: Selection,
        /// Who asks.
        reply: ReplyTo,
    },
    /// Which rooms are there? Asked by old servers.
    ListRooms {
        /// Who asks.
        reply: ReplyTo,
    },
    /// An event for handlers of this server.
    ServerEvent {
        /// Name and arguments.
        event: OwnedArgs,
        /// Who wants an answer, if anybody does.
        reply: Option<ReplyTo>,
    },
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// Who has asked, where the protocol tells.
    pub server: Option<ServerId>,
    /// The question.
    pub request: RequestId,
}

impl ReplyTo {
    /// The target of the answer.
    pub fn target(&self) -> Target {
        Target::Asker(self.server.clone())
    }
}

/// What is known of an open question.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Sockets of one server.
    Sockets(Vec<SocketDetails>),
    /// What a handler of one server has answered.
    Answer(Value),
    /// So many clients of one server were asked.
    Clients(u64),
    /// What a client has answered.
    ClientAnswer {
        /// The answer; one argument.
        answer: Value,
        /// Which socket gave it, where the protocol tells.
        socket: Option<RoomName>,
    },
    /// That was all.
    Complete {
        /// How many servers have not answered.
        missing: usize,
    },
}

/// What was ignored, and who came and went. Counts only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterCounts {
    /// Messages of this server that came back.
    pub own: u64,
    /// Answers to questions that are not open, or that the same server had answered already.
    pub unasked: u64,
    /// Servers beyond the limit.
    pub servers_refused: u64,
    /// Servers that said goodbye.
    pub servers_left: u64,
    /// Servers that fell silent.
    pub servers_lost: u64,
    /// Questions that ended before all had answered.
    pub requests_incomplete: u64,
}

/// One server's view of the cluster in one namespace. The module's text tells the rhythm.
#[derive(Debug)]
pub struct Machine {
    id: ServerId,
    membership: Membership,
    options: ClusterOptions,
    servers: BTreeMap<ServerId, Seen>,
    /// The same servers, those that were heard longest ago first.
    silence: BTreeSet<(Instant, ServerId)>,
    requests: BTreeMap<RequestId, Request>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    heartbeat_at: Option<Instant>,
    heartbeat_sent: Option<Instant>,
    settled_at: Option<Instant>,
    output: VecDeque<Output>,
    counts: ClusterCounts,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Instant,
    /// It has been heard more than once, some time apart: no name made up by somebody who wants to fill the table.
    known: bool,
}

#[derive(Debug)]
struct Request {
    question: Question,
    deadline: Instant,
    /// Asked while the others were not yet known: complete at that time at the earliest.
    not_before: Option<Instant>,
    expected: Expected,
    /// Those who have answered; once each.
    answered: BTreeSet<ServerId>,
    /// How many fell silent before they had answered.
    lost: usize,
    /// Clients that were asked and have not answered, by server. Answers may overtake the count.
    clients: BTreeMap<Option<ServerId>, i64>,
    parts: usize,
}

#[derive(Debug)]
enum Expected {
    /// The broker has been asked.
    Unknown {
        answers: usize,
    },
    Count {
        left: usize,
        /// Never answer themselves; their clients may.
        silent: usize,
    },
    Servers(BTreeSet<ServerId>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Left,
    Silent,
}

/// How soon after a heartbeat another one is sent, whoever asks for it.
const HEARTBEAT_PAUSE: Duration = Duration::from_millis(50);

impl Machine {
    /// A server that knows nobody yet.
    pub fn new(id: ServerId, membership: Membership, options: ClusterOptions) -> Self {
        Self {
            id,
            membership,
            options,
            servers: BTreeMap::new(),
            silence: BTreeSet::new(),
            requests: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            heartbeat_at: None,
            heartbeat_sent: None,
            settled_at: None,
            output: VecDeque::new(),
            counts: ClusterCounts::default(),
        }
    }

    /// Joins the cluster.
    pub fn start(&mut self, now: Instant) {
        if self.membership == Membership::Heartbeat {
            self.publish(Message::Hello);
            self.heartbeat_at = Some(now + self.options.heartbeat_interval);
            self.settled_at = Some(now + self.options.settle);
        }
    }

    /// The broker was away: asks again who is there, and forgets nobody until they have had time to answer.
    pub fn reconnected(&mut self, now: Instant) {
        self.silence.clear();
        for (server, seen) in &mut self.servers {
            seen.last = now;
            self.silence.insert((now, server.clone()));
        }
        self.start(now);
    }

    /// Leaves the cluster. Open questions end with what has come.
    pub fn close(&mut self) {
        if self.membership == Membership::Heartbeat {
            self.publish(Message::Goodbye);
        }
        self.heartbeat_at = None;
        let open: Vec<_> = self.requests.keys().cloned().collect();
        for request in open {
            self.complete(&request);
        }
    }

    /// Takes a message.
    pub fn received(&mut self, now: Instant, envelope: Envelope) {
        self.read(now, envelope, None);
    }

    /// A message of this server has come back from the log of the cluster.
    pub fn placed(&mut self, number: u64, place: Place) {
        self.output.push_back(Output::Do(Task::Placed { number, place }));
    }

    /// Takes a message from the log of the cluster, where it has this place.
    pub fn read(&mut self, now: Instant, envelope: Envelope, place: Option<Place>) {
        let Envelope { sender, message, .. } = envelope;
        if sender.as_ref() == Some(&self.id) {
            self.counts.own += 1;
            return;
        }
        if self.membership == Membership::Heartbeat
            && let Some(sender) = &sender
            && !matches!(message, Message::Goodbye)
        {
            self.seen(now, sender, matches!(message, Message::Heartbeat));
        }
        let reply = |request| ReplyTo { server: sender.clone(), request };
        let task = match message {
            Message::Hello => return self.hello(now),
            Message::Heartbeat => return,
            Message::Goodbye => {
                if let Some(server) = sender
                    && self.servers.contains_key(&server)
                {
                    self.counts.servers_left += 1;
                    self.gone(now, &server, Gone::Left);
                }
                return;
            }
            Message::Fetched { request, sockets } => {
                let parts = sockets.len();
                return self.answer(now, Question::Sockets, &sender, request, parts, News::Sockets(sockets));
            }
            Message::ServerAnswer { request, answer } => {
                return self.answer(now, Question::Servers, &sender, request, 1, News::Answer(answer));
            }
            Message::ClientCount { request, clients } => return self.client_count(now, &sender, request, clients),
            Message::ClientAnswer { request, answer, socket } => {
                return self.client_answer(now, &sender, request, News::ClientAnswer { answer, socket });
            }
            Message::SocketIds { .. } | Message::RoomNames { .. } => {
                self.counts.unasked += 1;
                return;
            }
            Message::Broadcast { event, options, request } => {
                Task::Broadcast { event, options, reply: request.map(reply), place }
            }
            Message::Join { selection, rooms } => Task::Join { selection, rooms },
            Message::Leave { selection, rooms } => Task::Leave { selection, rooms },
            Message::Disconnect { selection, close } => Task::Disconnect { selection, close },
            Message::Fetch { selection, request } => Task::Fetch { selection, reply: reply(request) },
            Message::ListSockets { selection, request } => Task::ListSockets { selection, reply: reply(request) },
            Message::ListRooms { request } => Task::ListRooms { reply: reply(request) },
            Message::ServerEvent { event, request } => Task::ServerEvent { event, reply: request.map(reply) },
        };
        self.output.push_back(Output::Do(task));
    }

    /// Opens a question that is then published under the id it returns. With [`Membership::Counted`] it stays open until
    /// [`expect`](Self::expect) has told how many servers are to answer, or its time is up.
    ///
    /// # Errors
    /// When too many questions are open.
    pub fn ask(
        &mut self,
        now: Instant,
        random: u64,
        question: Question,
        within: Duration,
    ) -> Result<RequestId, TooManyRequests> {
        if self.requests.len() >= self.options.max_requests {
            return Err(TooManyRequests(self.requests.len()));
        }
        let id = RequestId::random(random);
        let deadline = now.checked_add(within).unwrap_or(now + Duration::from_secs(365 * 24 * 3_600));
        let expected = match self.membership {
            Membership::Heartbeat => Expected::Servers(self.servers.keys().cloned().collect()),
            Membership::Counted => Expected::Unknown { answers: 0 },
        };
        let request = Request {
            question,
            deadline,
            not_before: self.settled_at.filter(|at| *at > now),
            expected,
            answered: BTreeSet::new(),
            lost: 0,
            clients: BTreeMap::new(),
            parts: 0,
        };
        self.deadlines.insert((request.wake(), id.clone()));
        self.requests.insert(id.clone(), request);
        self.check(now, &id);
        Ok(id)
    }

    /// The broker says that so many servers take part, this one among them, and that so many of these are
    /// [silent](super::Bus::silent_servers).
    pub fn expect(&mut self, now: Instant, request: &RequestId, servers: usize, silent: usize) {
        if let Some(open) = self.requests.get_mut(request)
            && let Expected::Unknown { answers } = open.expected
        {
            let left = servers.saturating_sub(1).saturating_sub(silent).saturating_sub(answers);
            open.expected = Expected::Count { left, silent };
            self.check(now, request);
        }
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, request: &RequestId) {
        if let Some(open) = self.requests.remove(request) {
            self.deadlines.remove(&(open.wake(), request.clone()));
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Instant) {
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            self.heartbeat_sent = Some(now);
            self.heartbeat_at = Some(now + self.options.heartbeat_interval);
            self.publish(Message::Heartbeat);
        }
        let limit = self.options.heartbeat_timeout;
        let silent = |(last, _): &&(Instant, ServerId)| now.saturating_duration_since(*last) > limit;
        while let Some((_, server)) = self.silence.first().filter(silent).cloned() {
            self.counts.servers_lost += 1;
            self.gone(now, &server, Gone::Silent);
        }
        while let Some((at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now).cloned() {
            self.deadlines.remove(&(at, id.clone()));
            let Some(open) = self.requests.get_mut(&id) else { continue };
            if open.deadline <= now {
                self.complete(&id);
                continue;
            }
            open.not_before = None;
            self.deadlines.insert((open.wake(), id.clone()));
            self.check(now, &id);
        }
    }

    /// When to call [`on_time`](Self::on_time) at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        // A moment later, because silence has to be longer than the limit.
        let limit = self.options.heartbeat_timeout + Duration::from_millis(1);
        let silence = self.silence.first().map(|(last, _)| *last + limit);
        [first, silence, self.heartbeat_at].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// How many servers there are, this one among them; `None` where only the broker knows.
    pub fn servers(&self) -> Option<usize> {
        (self.membership == Membership::Heartbeat).then(|| 1 + self.servers.len())
    }

    /// How many questions are open.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// What was ignored, and who came and went.
    pub fn counts(&self) -> ClusterCounts {
        self.counts
    }

    fn publish(&mut self, message: Message) {
        self.output.push_back(Output::Publish(message, Target::Everybody));
    }

    /// A new server wants to know who is there. Many that come at once are answered together.
    fn hello(&mut self, now: Instant) {
        if self.heartbeat_at.is_none() {
            return;
        }
        let at = self.heartbeat_sent.map_or(now, |sent| now.max(sent + HEARTBEAT_PAUSE));
        self.heartbeat_at = self.heartbeat_at.map(|planned| planned.min(at));
        if at <= now {
            self.heartbeat_sent = Some(now);
            self.heartbeat_at = Some(now + self.options.heartbeat_interval);
            self.publish(Message::Heartbeat);
        }
    }

    fn seen(&mut self, now: Instant, server: &ServerId, heartbeat: bool) {
        if let Some(seen) = self.servers.get_mut(server) {
            if seen.last < now {
                self.silence.remove(&(seen.last, server.clone()));
                self.silence.insert((now, server.clone()));
            }
            seen.known |= now.saturating_duration_since(seen.last) >= self.options.heartbeat_interval / 2;
            seen.last = now;
            return;
        }
        if self.servers.len() >= self.options.max_servers {
            // Whoever was heard once only and longest ago makes room.
            let once = |(_, server): &&(Instant, ServerId)| self.servers.get(server).is_some_and(|seen| !seen.known);
            let oldest = self.silence.iter().find(once).map(|(_, server)| server.clone());
            self.counts.servers_refused += 1;
            let Some(oldest) = oldest else { return };
            self.gone(now, &oldest, Gone::Left);
        }
        self.servers.insert(server.clone(), Seen { last: now, known: false });
        self.silence.insert((now, server.clone()));
        if heartbeat {
            // It answers our hello, so it was there when these questions were asked.
            for request in self.requests.values_mut() {
                if let (Some(_), Expected::Servers(missing)) = (request.not_before, &mut request.expected)
                    && !request.answered.contains(server)
                {
                    missing.insert(server.clone());
                }
            }
        }
    }

    /// A server is there no more: nothing is to be expected of it.
    fn gone(&mut self, now: Instant, server: &ServerId, how: Gone) {
        if let Some(seen) = self.servers.remove(server) {
            self.silence.remove(&(seen.last, server.clone()));
        }
        let mut open = Vec::new();
        for (id, request) in &mut self.requests {
            let mut concerned = request.clients.remove(&Some(server.clone())).is_some();
            if let Expected::Servers(missing) = &mut request.expected {
                let unanswered = missing.remove(server);
                concerned |= unanswered;
                // Its sockets may still be there.
                request.lost += usize::from(unanswered && how == Gone::Silent);
            }
            if concerned {
                open.push(id.clone());
            }
        }
        for id in open {
            self.check(now, &id);
        }
    }

    /// A server answers once and completely.
    fn answer(
        &mut self,
        now: Instant,
        question: Question,
        sender: &Option<ServerId>,
        request: RequestId,
        parts: usize,
        news: News,
    ) {
        let max_parts = self.options.max_parts;
        let fits = |open: &&mut Request| open.question == question && open.parts + parts <= max_parts;
        let Some(open) = self.requests.get_mut(&request).filter(fits) else {
            self.counts.unasked += 1;
            return;
        };
        if !open.answered_by(sender, self.options.max_servers) {
            self.counts.unasked += 1;
            return;
        }
        open.parts += parts;
        self.output.push_back(Output::Told(request.clone(), news));
        self.check(now, &request);
    }

    fn client_count(&mut self, now: Instant, sender: &Option<ServerId>, request: RequestId, clients: u64) {
        let count = i64::try_from(clients).ok().filter(|count| *count <= self.options.max_parts as i64);
        let (Some(open), Some(count)) =
            (self.requests.get_mut(&request).filter(|open| open.question == Question::Clients), count)
        else {
            self.counts.unasked += 1;
            return;
        };
        if !open.answered_by(sender, self.options.max_servers) {
            self.counts.unasked += 1;
            return;
        }
        *open.clients.entry(sender.clone()).or_default() += count;
        self.output.push_back(Output::Told(request.clone(), News::Clients(clients)));
        self.check(now, &request);
    }

    fn client_answer(&mut self, now: Instant, sender: &Option<ServerId>, request: RequestId, news: News) {
        let max = (self.options.max_parts, self.options.max_servers);
        let fits = |open: &&mut Request| {
            open.question == Question::Clients
                && open.parts < max.0
                && (open.clients.len() < max.1 || open.clients.contains_key(sender))
        };
        let Some(open) = self.requests.get_mut(&request).filter(fits) else {
            self.counts.unasked += 1;
            return;
        };
        open.parts += 1;
        *open.clients.entry(sender.clone()).or_default() -= 1;
        self.output.push_back(Output::Told(request.clone(), news));
        self.check(now, &request);
    }

    /// Completes a question when nothing is missing.
    fn check(&mut self, now: Instant, request: &RequestId) {
        let Some(open) = self.requests.get(request) else { return };
        let settled = open.not_before.is_none_or(|at| at <= now);
        let clients = open.clients.values().all(|outstanding| *outstanding <= 0);
        if settled && clients && open.nothing_comes() {
            self.complete(request);
        }
    }

    fn complete(&mut self, request: &RequestId) {
        let Some(open) = self.requests.remove(request) else { return };
        self.deadlines.remove(&(open.wake(), request.clone()));
        // A server that counted its clients has answered; that some of them have not shows in the numbers.
        let missing = open.missing().unwrap_or(1) + open.lost;
        if missing > 0 || open.clients.values().any(|outstanding| *outstanding > 0) {
            self.counts.requests_incomplete += 1;
        }
        self.output.push_back(Output::Told(request.clone(), News::Complete { missing }));
    }
}

impl Request {
    /// When to look at it again.
    fn wake(&self) -> Instant {
        self.not_before.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// How many servers have not answered; `None` when it is not known how many are to.
    fn missing(&self) -> Option<usize> {
        match &self.expected {
            Expected::Unknown { .. } => None,
            Expected::Count { left, silent } => Some(left + silent),
            Expected::Servers(missing) => Some(missing.len()),
        }
    }

    /// Whether all servers have answered that ever do.
    fn nothing_comes(&self) -> bool {
        match &self.expected {
            Expected::Unknown { .. } => false,
            Expected::Count { left, silent } => *left == 0 && (*silent == 0 || self.question != Question::Clients),
            Expected::Servers(missing) => missing.is_empty(),
        }
    }

    /// Takes note of an answer. `false` when the server had answered already, or nobody is left who could.
    fn answered_by(&mut self, sender: &Option<ServerId>, max_servers: usize) -> bool {
        if let Some(sender) = sender
            && (self.answered.len() >= 2 * max_servers || !self.answered.insert(sender.clone()))
        {
            return false;
        }
        match &mut self.expected {
            Expected::Unknown { answers } if *answers < max_servers => *answers += 1,
            Expected::Unknown { .. } => return false,
            Expected::Count { left, .. } => *left = left.saturating_sub(1),
            Expected::Servers(missing) => {
                if let Some(sender) = sender {
                    missing.remove(sender);
                }
            }
        }
        true
    }
}
