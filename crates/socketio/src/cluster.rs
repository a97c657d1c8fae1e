//! This server in a cluster: what it publishes, and what it does for the others.
//!
//! [`Cluster`] is the server's connection to the bus, [`Part`] what one namespace has to do with it: the machine of
//! `socketio-adapter` behind one lock, and whoever waits for answers. Local delivery is none of its business: it is over
//! before anything is published. One task per server looks after the machines' deadlines.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use engineio::{ForwardOptions, Forwarding, ServerTag};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use socketio_adapter::cluster::{
    Bus, BusError, ClusterOptions, Envelope, Health, Inbox, Machine, Message, News, Output, Published, Question,
    ReplyTo, RequestId, ServerId, SocketDetails, Target, Task, wire::Foreign,
};
use socketio_adapter::recovery::Place;
use socketio_adapter::{BroadcastFlags, BroadcastOptions, RoomEvent, Rooms, Selection};
use socketio_proto::{EncodeError, OwnedArgs, Spread, Value, is_reserved_event, to_value};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::env::Env;
use crate::hub::App;
use crate::nsp::Nsp;
use crate::{EmitError, NamespaceHandle, Operators, RemoteSocket, Socket, SocketIo};

/// How long other servers are waited for where nothing else was said. Node's default too.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How many questions of other servers are answered at the same time; further ones are refused.
const ANSWERING: usize = 4_096;

/// The longest wait for clients' answers that another server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A server's connection to the bus.
pub(crate) struct Cluster {
    bus: Arc<dyn Bus>,
    id: ServerId,
    options: ClusterOptions,
    /// Guards which namespaces take part. The bus is told of changes under it, so that it hears them in order.
    parts: RwLock<HashMap<Arc<str>, Weak<Part>>>,
    env: OnceLock<Weak<Env>>,
    io: OnceLock<Weak<crate::hub::Hub>>,
    /// Where requests go that other servers forward.
    forwarding: OnceLock<Forwarding<App>>,
    /// Guards what it was told of the broker last.
    forwarding_up: Mutex<bool>,
    /// Deadlines may have changed.
    changed: Notify,
    answering: Arc<Semaphore>,
}

/// What one namespace has to do with the cluster.
pub(crate) struct Part {
    cluster: Arc<Cluster>,
    name: Arc<str>,
    nsp: Weak<Nsp>,
    /// Guards the machine and who waits for answers. Nothing is published or delivered while it is held.
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    waiting: HashMap<RequestId, mpsc::UnboundedSender<News>>,
    /// Somebody does what the machine wants: whoever comes meanwhile leaves it to them, so the order is kept.
    draining: bool,
}

impl Cluster {
    /// Connects. To be called on a runtime.
    pub(crate) fn start(bus: Arc<dyn Bus>, options: ClusterOptions) -> Arc<Self> {
        let id = ServerId::random(rand::random());
        let cluster = Arc::new(Self {
            bus,
            id: id.clone(),
            options,
            parts: RwLock::default(),
            env: OnceLock::new(),
            io: OnceLock::new(),
            forwarding: OnceLock::new(),
            forwarding_up: Mutex::new(false),
            changed: Notify::new(),
            answering: Arc::new(Semaphore::new(ANSWERING)),
        });
        cluster.bus.start(id, Arc::new(Post(Arc::downgrade(&cluster))));
        tokio::spawn(keep_time(Arc::downgrade(&cluster)));
        cluster
    }

    pub(crate) fn serves(&self, env: &Arc<Env>) {
        // Called once, by the builder.
        let _ = self.env.set(Arc::downgrade(env));
    }

    pub(crate) fn runs(&self, hub: &Arc<crate::hub::Hub>) {
        let _ = self.io.set(Arc::downgrade(hub));
    }

    pub(crate) fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Requests that belong to other servers reach them over the bus, if it can do that.
    pub(crate) fn carries(&self, engine: engineio::Builder) -> engineio::Builder {
        if self.bus.direct().is_none() {
            return engine;
        }
        let mut options = ForwardOptions::default();
        options.heartbeat_interval = self.options.heartbeat_interval;
        options.heartbeat_timeout = self.options.heartbeat_timeout;
        engine.forward_over(Arc::new(Lines(Arc::clone(&self.bus))), options)
    }

    /// Requests of other servers are answered from now on.
    pub(crate) fn forwards(&self, forwarding: Forwarding<App>) {
        let (Some(tag), Some(direct)) = (forwarding.tag(), self.bus.direct()) else { return };
        forwarding.start();
        if self.forwarding.set(forwarding).is_ok() {
            direct.listen(tag.as_str());
            self.tell_forwarding();
        }
    }

    /// Tells the forwarding whether the broker is there, when that has changed.
    fn tell_forwarding(&self) {
        let Some(forwarding) = self.forwarding.get() else { return };
        let mut told = self.forwarding_up.lock();
        let up = self.bus.health() == Health::Up;
        if std::mem::replace(&mut *told, up) != up {
            forwarding.health(up);
        }
    }

    /// A namespace takes part from now on.
    pub(crate) fn attach(self: &Arc<Self>, nsp: &Arc<Nsp>) {
        let name: Arc<str> = (&*nsp.name).into();
        let machine = Machine::new(self.id.clone(), self.bus.membership(), self.options.clone());
        let state = Mutex::new(State { machine, waiting: HashMap::new(), draining: false });
        let part =
            Arc::new(Part { cluster: Arc::clone(self), name: Arc::clone(&name), nsp: Arc::downgrade(nsp), state });
        if nsp.part.set(Arc::clone(&part)).is_err() {
            return;
        }
        {
            let mut parts = self.parts.write();
            parts.insert(Arc::clone(&name), Arc::downgrade(&part));
            self.bus.open(&name);
        }
        part.turn(|state, now| state.machine.start(now));
        if let Some(log) = nsp.shared() {
            log.health(self.bus.health());
        }
        // The others may have answered before the broker knew that we listen.
        if self.bus.health() == Health::Up
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (settled, part) = (self.bus.settled(), Arc::downgrade(&part));
            runtime.spawn(async move {
                settled.await;
                if let Some(part) = part.upgrade() {
                    part.turn(|state, now| state.machine.reconnected(now));
                }
            });
        }
    }

    /// Says goodbye and disconnects.
    pub(crate) async fn close(&self) {
        for part in self.all() {
            part.turn(|state, _| state.machine.close());
        }
        self.bus.close().await;
    }

    fn all(&self) -> Vec<Arc<Part>> {
        self.parts.read().values().filter_map(Weak::upgrade).collect()
    }

    fn part(&self, namespace: &str) -> Option<Arc<Part>> {
        self.parts.read().get(namespace).and_then(Weak::upgrade)
    }

    fn count(&self, count: impl FnOnce(&crate::stats::Counters)) {
        if let Some(env) = self.env.get().and_then(Weak::upgrade) {
            count(&env.counters);
        }
    }
}

/// What requests that have reached the wrong server take.
struct Lines(Arc<dyn Bus>);

impl engineio::Carrier for Lines {
    fn send(&self, to: Option<ServerTag>, bytes: Vec<u8>) -> bool {
        let to = to.as_ref().map(ServerTag::as_str);
        self.0.direct().is_some_and(|direct| direct.send(to, bytes).is_ok())
    }
}

/// The server's letter box. Weak, because the bus holds it and the server the bus.
struct Post(Weak<Cluster>);

impl Inbox for Post {
    fn received(&self, envelope: Envelope, offset: Option<Arc<str>>) {
        let Some(cluster) = self.0.upgrade() else { return };
        cluster.count(|counters| counters.cluster_in.add());
        // Namespaces that others have and we do not are nothing unusual.
        if let Some(part) = cluster.part(&envelope.namespace) {
            let place = offset.and_then(|offset| Place::parse(&offset));
            part.turn(|state, now| state.machine.read(now, envelope, place));
        }
    }

    fn placed(&self, namespace: &str, number: u64, offset: &str) {
        if let Some(part) = self.0.upgrade().and_then(|cluster| cluster.part(namespace))
            && let Some(place) = Place::parse(offset)
        {
            part.turn(|state, _| state.machine.placed(number, place));
        }
    }

    fn direct(&self, bytes: &[u8]) {
        if let Some(cluster) = self.0.upgrade()
            && let Some(forwarding) = cluster.forwarding.get()
        {
            forwarding.received(bytes);
        }
    }

    fn foreign(&self, why: &Foreign) {
        if let Some(cluster) = self.0.upgrade() {
            tracing::debug!(error = %why, "something on the bus is no message of the cluster");
            cluster.count(|counters| counters.cluster_foreign.add());
        }
    }

    fn lost(&self, messages: u64) {
        if let Some(cluster) = self.0.upgrade() {
            tracing::warn!(messages, "messages between servers were lost");
            cluster.count(|counters| counters.cluster_lost.add_many(messages));
        }
    }

    fn health(&self, health: Health) {
        let Some(cluster) = self.0.upgrade() else { return };
        cluster.tell_forwarding();
        for nsp in cluster.all().iter().filter_map(|part| part.nsp.upgrade()) {
            if let Some(log) = nsp.shared() {
                log.health(health);
            }
        }
        match health {
            Health::Up => {
                tracing::info!("the broker is connected");
                for part in cluster.all() {
                    part.turn(|state, now| state.machine.reconnected(now));
                }
            }
            Health::Down => {
                tracing::warn!("the broker is gone; clients of this server are still served");
                cluster.count(|counters| counters.cluster_outages.add());
            }
        }
    }

    fn has_room(&self, namespace: &str, room: &str) -> bool {
        let part = self.0.upgrade().and_then(|cluster| cluster.part(namespace));
        part.and_then(|part| part.nsp.upgrade()).is_some_and(|nsp| nsp.rooms.lock().size(room) > 0)
    }
}

/// Looks after the deadlines of all namespaces, until the server is gone.
async fn keep_time(cluster: Weak<Cluster>) {
    loop {
        let next = {
            let Some(cluster) = cluster.upgrade() else { return };
            let now = now();
            let mut next = now + Duration::from_secs(1);
            for part in cluster.all() {
                part.turn(|state, now| state.machine.on_time(now));
                if let Some(at) = part.state.lock().machine.deadline() {
                    next = next.min(at);
                }
            }
            // Many namespaces with many deadlines do not keep a thread to themselves.
            next.max(now + Duration::from_millis(2))
        };
        let Some(strong) = cluster.upgrade() else { return };
        let sleep = tokio::time::sleep_until(next.into());
        // The wait must not keep the server alive, so it looks up once a second.
        tokio::select! {
            () = sleep => {}
            () = strong.changed.notified() => {}
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Part {
    /// One turn of the machine: something happens, then all that it wants is done.
    fn turn<R>(self: &Arc<Self>, happens: impl FnOnce(&mut State, Instant) -> R) -> R {
        let mut state = self.state.lock();
        let result = happens(&mut state, now());
        if state.draining {
            return result;
        }
        state.draining = true;
        while let Some(output) = state.machine.poll() {
            match output {
                Output::Told(request, news) => {
                    let complete = matches!(news, News::Complete { .. });
                    if let Some(waiting) = state.waiting.get(&request) {
                        // Whoever asked may have given up.
                        drop(waiting.send(news));
                    }
                    if complete {
                        state.waiting.remove(&request);
                    }
                }
                Output::Publish(message, to) => {
                    drop(state);
                    // Counted; there is nobody to tell.
                    drop(self.publish(message, to));
                    state = self.state.lock();
                }
                Output::Do(task) => {
                    drop(state);
                    self.do_task(task);
                    state = self.state.lock();
                }
            }
        }
        state.draining = false;
        result
    }

    /// Publishes something for everybody. Returns the number under which it comes back, where it does.
    pub(crate) fn publish_numbered(&self, message: Message) -> Result<Option<u64>, BusError> {
        Ok(match self.publish(message, Target::Everybody)? {
            Published::At { number, .. } => Some(number),
            Published::Queued => None,
        })
    }

    pub(crate) fn publish(&self, message: Message, to: Target) -> Result<Published, BusError> {
        let envelope = Envelope { sender: Some(self.cluster.id.clone()), namespace: Arc::clone(&self.name), message };
        match self.cluster.bus.publish(envelope, to) {
            Ok(published) => {
                self.cluster.count(|counters| counters.cluster_out.add());
                Ok(published)
            }
            Err(error) => {
                self.cluster.count(|counters| counters.cluster_refused.add());
                if let BusError::Partly(why) = error {
                    tracing::warn!(namespace = &*self.name, why, "servers of another kind cannot be told");
                } else {
                    tracing::debug!(namespace = &*self.name, %error, "a message to other servers was not sent");
                }
                Err(error)
            }
        }
    }

    /// Sends an event to the other servers' sockets.
    pub(crate) fn broadcast<T: Serialize>(
        &self,
        event: &str,
        args: &T,
        selection: &Selection,
        flags: &BroadcastFlags,
    ) -> Result<(), EmitError> {
        let message = broadcast(event, args, selection, flags, None)?;
        self.publish(message, Target::Everybody)?;
        Ok(())
    }

    /// Sends an event to the other servers' sockets and wants their answers.
    pub(crate) fn broadcast_with_ack<T: Serialize>(
        self: &Arc<Self>,
        event: &str,
        args: &T,
        selection: &Selection,
        flags: &BroadcastFlags,
        timeout: Duration,
    ) -> Result<Asked, EmitError> {
        let flags = BroadcastFlags { timeout: Some(timeout), ..flags.clone() };
        let mut message = broadcast(event, args, selection, &flags, None)?;
        let asked = self.open(Question::Clients, timeout)?;
        if let Message::Broadcast { request, .. } = &mut message {
            *request = Some(asked.request.clone());
        }
        self.publish(message, Target::Everybody)?;
        Ok(asked.counted())
    }

    /// Asks the other servers for their sockets.
    pub(crate) fn fetch(self: &Arc<Self>, selection: &Selection, timeout: Duration) -> Result<Asked, EmitError> {
        let asked = self.open(Question::Sockets, timeout)?;
        let message = Message::Fetch { selection: selection.clone(), request: asked.request.clone() };
        self.publish(message, Target::Everybody)?;
        Ok(asked.counted())
    }

    /// Asks the handlers of the other servers.
    pub(crate) fn ask_servers(self: &Arc<Self>, event: OwnedArgs, timeout: Duration) -> Result<Asked, EmitError> {
        let asked = self.open(Question::Servers, timeout)?;
        let message = Message::ServerEvent { event, request: Some(asked.request.clone()) };
        self.publish(message, Target::Everybody)?;
        Ok(asked.counted())
    }

    /// How many other servers are known; `None` where only the broker knows.
    pub(crate) fn others(&self) -> Option<usize> {
        self.state.lock().machine.servers().map(|servers| servers - 1)
    }

    /// How many servers there are, this one among them.
    pub(crate) async fn servers(&self) -> Result<usize, BusError> {
        let known = self.others();
        match known {
            Some(others) => Ok(others + 1),
            None => self.cluster.bus.server_count(&self.name).await,
        }
    }

    pub(crate) fn bus(&self) -> &Arc<dyn Bus> {
        &self.cluster.bus
    }

    /// The name of this server.
    pub(crate) fn server(&self) -> &ServerId {
        &self.cluster.id
    }

    /// A room has its first member or has lost its last. Called under the lock of the rooms.
    pub(crate) fn room_event(&self, rooms: &Rooms<Socket>, event: &RoomEvent) {
        let bus = &self.cluster.bus;
        match event {
            RoomEvent::Create(room) => bus.room_opened(&self.name, room, rooms.get(room).is_some()),
            RoomEvent::Delete(room) => bus.room_closed(&self.name, room, room.len() == ID_LENGTH),
            RoomEvent::Join { .. } | RoomEvent::Leave { .. } => {}
        }
    }

    /// The namespace is gone.
    pub(crate) fn leave(self: &Arc<Self>) {
        let mut parts = self.cluster.parts.write();
        // Somebody may have made a new one of the same name meanwhile.
        if parts.get(&self.name).is_some_and(|part| std::ptr::eq(part.as_ptr(), Arc::as_ptr(self))) {
            parts.remove(&self.name);
            self.cluster.bus.shut(&self.name);
            drop(parts);
            self.turn(|state, _| state.machine.close());
        }
    }

    fn open(self: &Arc<Self>, question: Question, timeout: Duration) -> Result<Asked, EmitError> {
        let (sender, news) = mpsc::unbounded_channel();
        let opened = self.turn(|state, now| {
            let request = state.machine.ask(now, rand::random(), question, timeout)?;
            state.waiting.insert(request.clone(), sender);
            Ok(request)
        });
        self.cluster.changed.notify_one();
        let request = opened.map_err(|error: socketio_adapter::cluster::TooManyRequests| {
            EmitError::Cluster(BusError::Broker(error.to_string()))
        })?;
        Ok(Asked { part: Arc::clone(self), request, news, clients: 0, answered: 0, missing_servers: 0, done: false })
    }

    fn do_task(self: &Arc<Self>, task: Task) {
        let Some(nsp) = self.nsp.upgrade() else { return };
        let local = |selection: Selection| Operators::new(Arc::clone(&nsp)).selecting(selection).local();
        match task {
            Task::Broadcast { event, options, reply: None, place } => match (nsp.shared(), place) {
                (Some(log), Some(place)) if !options.flags.volatile => {
                    log.heard(place, event, options.selection, options.flags);
                }
                _ => deliver(&nsp, &event, options),
            },
            Task::Broadcast { event, options, reply: Some(reply), .. } => {
                self.ask_clients(&nsp, &event, options, reply);
            }
            Task::Placed { number, place } => {
                if let Some(log) = nsp.shared() {
                    log.placed(number, place);
                }
            }
            Task::Join { selection, rooms } => {
                if let Err(error) = local(selection).sockets_join(rooms).result() {
                    tracing::warn!(namespace = &*self.name, %error, "sockets did not join as another server wanted");
                }
            }
            Task::Leave { selection, rooms } => drop(local(selection).sockets_leave(rooms)),
            Task::Disconnect { selection, close } => local(selection).disconnect_sockets(close),
            Task::Fetch { selection, reply } => {
                let sockets = local(selection).sockets().into_iter().map(|socket| details(&socket)).collect();
                self.reply(&reply, Message::Fetched { request: reply.request.clone(), sockets });
            }
            Task::ListSockets { selection, reply } => {
                let sockets = local(selection).sockets().iter().map(|socket| socket.id().clone()).collect();
                self.reply(&reply, Message::SocketIds { request: reply.request.clone(), sockets });
            }
            Task::ListRooms { reply } => {
                let rooms = nsp.rooms.lock().rooms().map(|(name, _)| name.clone()).collect();
                self.reply(&reply, Message::RoomNames { request: reply.request.clone(), rooms });
            }
            Task::ServerEvent { event, reply } => self.handle(nsp, event, reply),
        }
    }

    fn reply(&self, reply: &ReplyTo, message: Message) {
        // Counted; whoever asked will notice that an answer is missing.
        drop(self.publish(message, reply.target()));
    }

    /// Asks the sockets of this server for another one and passes on what they answer, as it comes.
    fn ask_clients(self: &Arc<Self>, nsp: &Arc<Nsp>, event: &OwnedArgs, options: BroadcastOptions, reply: ReplyTo) {
        let Ok(permit) = Arc::clone(&self.cluster.answering).try_acquire_owned() else {
            return self.cluster.count(|counters| counters.cluster_foreign.add());
        };
        let BroadcastOptions { selection, flags } = options;
        let timeout = flags.timeout.unwrap_or(nsp.env.ack_timeout).min(LONGEST_WAIT);
        let operators = Operators::new(Arc::clone(nsp)).selecting(selection).flagged(flags).local().timeout(timeout);
        let Ok(values) = event.values() else { return };
        let mut answers = operators.emit_with_ack::<()>(event.name(), Spread(&values));
        let clients = answers.recipients() as u64;
        self.reply(&reply, Message::ClientCount { request: reply.request.clone(), clients });
        if clients == 0 {
            return;
        }
        let part = Arc::clone(self);
        let whole = self.cluster.bus.whole_answers(&reply.request);
        tokio::spawn(async move {
            while let Some((socket, answer)) = answers.next_settled().await {
                let Ok(answer) = answer else { continue };
                let message = Message::ClientAnswer {
                    request: reply.request.clone(),
                    answer: if whole { answer.values().unwrap_or_default().into() } else { one_value(&answer) },
                    socket: Some(socket),
                };
                part.reply(&reply, message);
            }
            drop(permit);
        });
    }

    /// Calls the handlers of an event of another server: in order up to their first wait.
    fn handle(self: &Arc<Self>, nsp: Arc<Nsp>, event: OwnedArgs, reply: Option<ReplyTo>) {
        let Some(hub) = self.cluster.io.get().and_then(Weak::upgrade) else { return };
        let Ok(permit) = Arc::clone(&self.cluster.answering).try_acquire_owned() else {
            return self.cluster.count(|counters| counters.cluster_foreign.add());
        };
        let part = Arc::clone(self);
        let mut handling = Box::pin(async move {
            let io = SocketIo::from_hub(hub);
            let answer = io.take_server_event(NamespaceHandle::new(nsp), event).await;
            if let (Some(answer), Some(reply)) = (answer, reply) {
                let message = Message::ServerAnswer { request: reply.request.clone(), answer: one_value(&answer) };
                part.reply(&reply, message);
            }
            drop(permit);
        });
        if handling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(handling);
        }
    }
}

/// Where an id of ours is as long as everybody's.
const ID_LENGTH: usize = 20;

/// Node sends one argument of an answer. Several become a list.
fn one_value(answer: &OwnedArgs) -> Value {
    let mut values = answer.values().unwrap_or_default();
    if values.len() > 1 { Value::Array(values) } else { values.pop().unwrap_or_default() }
}

fn broadcast<T: Serialize>(
    event: &str,
    args: &T,
    selection: &Selection,
    flags: &BroadcastFlags,
    request: Option<RequestId>,
) -> Result<Message, EmitError> {
    if is_reserved_event(event) {
        return Err(EncodeError::ReservedEvent(event.to_owned()).into());
    }
    let event = OwnedArgs::event(event, args)?;
    let options = BroadcastOptions { selection: selection.clone(), flags: flags.clone() };
    Ok(Message::Broadcast { event, options, request })
}

/// An event, and the message that has it.
pub(crate) fn message_of<T: Serialize>(
    event: &str,
    args: &T,
    selection: &Selection,
    flags: &BroadcastFlags,
) -> Result<(OwnedArgs, Message), EmitError> {
    let message = broadcast(event, args, selection, flags, None)?;
    match &message {
        Message::Broadcast { event, .. } => Ok((event.clone(), message)),
        _ => unreachable!("it is a broadcast"),
    }
}

/// An event of another server for sockets of this one.
fn deliver(nsp: &Arc<Nsp>, event: &OwnedArgs, options: BroadcastOptions) {
    let BroadcastOptions { selection, flags } = options;
    if nsp.recovery.is_none() && nsp.rooms.lock().snapshot(&selection).upper_bound() == 0 {
        return;
    }
    let Ok(values) = event.values() else {
        return nsp.env.counters.cluster_foreign.add();
    };
    let operators = Operators::new(Arc::clone(nsp)).selecting(selection).flagged(flags).local();
    // What could not be encoded has been counted.
    drop(operators.emit(event.name(), Spread(&values)));
}

/// A socket of this server as others see it.
fn details(socket: &Socket) -> SocketDetails {
    let socket = RemoteSocket::local(socket.clone());
    SocketDetails {
        id: socket.id().clone(),
        handshake: to_value(&socket.handshake()).unwrap_or_default(),
        rooms: socket.rooms().into(),
        data: socket.data().clone(),
    }
}

/// A question to the other servers. Dropping it forgets the answers.
pub(crate) struct Asked {
    part: Arc<Part>,
    request: RequestId,
    news: mpsc::UnboundedReceiver<News>,
    /// How many clients of other servers were asked, as far as is known, and how many have answered.
    pub(crate) clients: u64,
    pub(crate) answered: u64,
    pub(crate) missing_servers: usize,
    pub(crate) done: bool,
}

impl Asked {
    /// Asks the broker how many are to answer, if only it knows.
    fn counted(self) -> Self {
        if self.part.others().is_none() {
            let (part, request) = (Arc::downgrade(&self.part), self.request.clone());
            let count = self.part.cluster.bus.server_count(&self.part.name);
            tokio::spawn(async move {
                // Without a number the question ends with its time.
                if let (Ok(servers), Some(part)) = (count.await, part.upgrade()) {
                    let silent = part.cluster.bus.silent_servers();
                    part.turn(|state, now| state.machine.expect(now, &request, servers, silent));
                }
            });
        }
        self
    }

    /// The next thing that is known. `None` when that was all.
    pub(crate) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Option<News>> {
        if self.done {
            return Poll::Ready(None);
        }
        match ready!(self.news.poll_recv(cx)) {
            Some(News::Complete { missing }) => {
                self.missing_servers = missing;
                self.done = true;
                Poll::Ready(None)
            }
            Some(news) => {
                match &news {
                    News::Clients(clients) => self.clients = self.clients.saturating_add(*clients),
                    News::ClientAnswer { .. } => self.answered += 1,
                    _ => {}
                }
                Poll::Ready(Some(news))
            }
            None => {
                self.done = true;
                Poll::Ready(None)
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<News> {
        std::future::poll_fn(|cx| self.poll_news(cx)).await
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.part.state.lock();
            state.machine.forget(&self.request);
            state.waiting.remove(&self.request);
        }
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).field("done", &self.done).finish_non_exhaustive()
    }
}

/// Waits until the broker knows of the rooms that were joined or left before. Made by awaiting [`Joined`](crate::Joined).
pub struct Settling<E> {
    result: Option<Result<(), E>>,
    bus: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<E> Settling<E> {
    pub(crate) fn new(result: Result<(), E>, bus: Option<Arc<dyn Bus>>) -> Self {
        Self { result: Some(result), bus: bus.map(|bus| bus.settled()) }
    }
}

impl<E: Unpin> Future for Settling<E> {
    type Output = Result<(), E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(settled) = &mut self.bus {
            ready!(settled.as_mut().poll(cx));
            self.bus = None;
        }
        Poll::Ready(self.result.take().expect("a future is not polled after it was ready"))
    }
}

impl<E> std::fmt::Debug for Settling<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settling").finish_non_exhaustive()
    }
}
