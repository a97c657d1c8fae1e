//! Answers that clients owe: one socket's table of them, and what the application awaits.
//!
//! A waiter is always settled: by the answer, by the deadline, or when the socket leaves. The deadline belongs to the
//! future or stream that waits; dropping it takes the entries out again, so nothing is left behind.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use hashbrown::HashMap;
use serde::de::DeserializeOwned;
use socketio_adapter::RoomName;
use socketio_core::{AckError, decode_ack};
use socketio_proto::OwnedArgs;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use socketio_adapter::cluster::News;

use crate::cluster::Asked;
use crate::{EmitError, Socket};

/// What a client's answer is given to.
#[derive(Debug)]
pub(crate) enum Waiter {
    One(oneshot::Sender<Settled>),
    Many(mpsc::UnboundedSender<(RoomName, Settled)>),
}

/// How a wait ended: the arguments of the answer.
pub(crate) type Settled = Result<OwnedArgs, AckError>;

impl Waiter {
    /// Gives the outcome to whoever waits; nobody may be left.
    pub(crate) fn settle(self, socket: &RoomName, outcome: Settled) {
        match self {
            Self::One(sender) => drop(sender.send(outcome)),
            Self::Many(sender) => drop(sender.send((socket.clone(), outcome))),
        }
    }
}

/// The answers that one socket owes.
#[derive(Debug, Default)]
pub(crate) struct AckTable {
    waiters: HashMap<u64, Waiter>,
}

impl AckTable {
    pub(crate) fn insert(&mut self, id: u64, waiter: Waiter, limit: usize) -> Result<(), EmitError> {
        if self.waiters.len() >= limit {
            return Err(EmitError::TooManyAcks);
        }
        self.waiters.insert(id, waiter);
        Ok(())
    }

    pub(crate) fn take(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id);
        if self.waiters.is_empty() {
            self.waiters = HashMap::new();
        }
        waiter
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        std::mem::take(&mut self.waiters).into_values()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }
}

fn read<R: DeserializeOwned>(outcome: Settled) -> Result<R, AckError> {
    decode_ack(&outcome?)
}

fn not_sent(error: &EmitError) -> AckError {
    match error {
        EmitError::NotConnected => AckError::Disconnected,
        other => AckError::NotSent(other.to_string()),
    }
}

/// Waits for the answer of one client. Made by `emit_with_ack`.
///
/// The event is queued before this future is first polled, and the clock runs from then on.
///
/// # Cancel safety
/// Dropping the future forgets the answer. The event itself may still be delivered.
#[derive(Debug)]
pub struct AckFuture<R> {
    state: AckState,
    answer: PhantomData<fn() -> R>,
}

#[derive(Debug)]
enum AckState {
    Failed(EmitError),
    /// The socket is one of another server.
    Elsewhere(Box<AckStream<()>>),
    Waiting {
        socket: Socket,
        id: u64,
        answer: oneshot::Receiver<Settled>,
        sleep: Pin<Box<Sleep>>,
    },
    Done,
}

impl<R> AckFuture<R> {
    pub(crate) fn failed(error: EmitError) -> Self {
        Self { state: AckState::Failed(error), answer: PhantomData }
    }

    /// The answer of the only socket of a group.
    pub(crate) fn elsewhere(mut stream: AckStream<()>) -> Self {
        match stream.failed.take() {
            Some(error) => Self::failed(error),
            None => Self { state: AckState::Elsewhere(Box::new(stream)), answer: PhantomData },
        }
    }

    pub(crate) fn waiting(socket: Socket, id: u64, answer: oneshot::Receiver<Settled>, timeout: Duration) -> Self {
        let sleep = Box::pin(sleep_until(deadline(timeout)));
        Self { state: AckState::Waiting { socket, id, answer, sleep }, answer: PhantomData }
    }

    /// Whether the event was queued.
    pub fn is_ok(&self) -> bool {
        !matches!(self.state, AckState::Failed(_))
    }
}

impl<R> AckFuture<R> {
    /// Awaits the answer without reading it: for answers whose form is not known.
    ///
    /// # Errors
    /// As the future itself, but for what concerns `R`.
    ///
    /// # Cancel safety
    /// As the future itself.
    pub async fn args(mut self) -> Result<OwnedArgs, AckError> {
        std::future::poll_fn(|cx| self.poll_settled(cx)).await
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Settled> {
        let outcome = match &mut self.state {
            AckState::Failed(error) => Err(not_sent(error)),
            AckState::Elsewhere(stream) => match ready!(stream.poll_answer(cx)) {
                Some((_, outcome)) => outcome,
                None if stream.timed_out || stream.missing() > 0 || stream.missing_servers() > 0 => {
                    Err(AckError::Timeout)
                }
                None => Err(AckError::Disconnected),
            },
            AckState::Waiting { socket, id, answer, sleep } => match Pin::new(answer).poll(cx) {
                Poll::Ready(outcome) => outcome.unwrap_or(Err(AckError::Disconnected)),
                Poll::Pending => {
                    ready!(sleep.as_mut().poll(cx));
                    socket.0.forget_ack(*id);
                    socket.0.nsp.env.counters.acks_timed_out.add();
                    Err(AckError::Timeout)
                }
            },
            AckState::Done => panic!("a future is not polled after it was ready"),
        };
        self.state = AckState::Done;
        Poll::Ready(outcome)
    }
}

impl<R: DeserializeOwned> Future for AckFuture<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_settled(cx).map(read)
    }
}

impl<R> Drop for AckFuture<R> {
    fn drop(&mut self) {
        if let AckState::Waiting { socket, id, .. } = &self.state {
            socket.0.forget_ack(*id);
        }
    }
}

/// Collects the answers of many clients as they come. Made by `emit_with_ack` on a group.
///
/// It ends when every client that got the event has answered or left, or when time is up. Use it as a [`Stream`], through
/// [`next`](Self::next), or wait for all with [`all`](Self::all).
///
/// # Cancel safety
/// Dropping it forgets the answers that have not come. The events themselves may still be delivered.
#[derive(Debug)]
pub struct AckStream<R> {
    sender: Option<mpsc::UnboundedSender<(RoomName, Settled)>>,
    answers: mpsc::UnboundedReceiver<(RoomName, Settled)>,
    /// Clients that could not be asked: handed out first.
    refused: VecDeque<(RoomName, AckError)>,
    /// Who has been asked and under which id. Kept whole: answers are looked up only when something is missing.
    asked: Vec<(Socket, u64)>,
    outstanding: usize,
    /// What was asked of other servers.
    elsewhere: Vec<Asked>,
    sleep: Pin<Box<Sleep>>,
    failed: Option<EmitError>,
    timed_out: bool,
    answer: PhantomData<fn() -> R>,
}

/// All answers of a group: what [`AckStream::all`] resolves to.
#[derive(Debug)]
pub struct Answers<R> {
    /// The answers, in the order in which they came.
    pub answers: Vec<(RoomName, R)>,
    /// The clients without a (usable) answer, and why.
    pub missing: Vec<(RoomName, AckError)>,
}

impl<R> AckStream<R> {
    pub(crate) fn new(timeout: Duration) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self {
            sender: Some(sender),
            answers,
            refused: VecDeque::new(),
            asked: Vec::new(),
            outstanding: 0,
            elsewhere: Vec::new(),
            sleep: Box::pin(sleep_until(deadline(timeout))),
            failed: None,
            timed_out: false,
            answer: PhantomData,
        }
    }

    pub(crate) fn waiter(&self) -> Waiter {
        Waiter::Many(self.sender.clone().expect("kept until the stream is sealed"))
    }

    pub(crate) fn asked(&mut self, id: u64, socket: &Socket) {
        self.asked.push((socket.clone(), id));
        self.outstanding += 1;
    }

    pub(crate) fn not_asked(&mut self, socket: &Socket, error: EmitError) {
        self.refused.push_back((socket.id().clone(), not_sent(&error)));
    }

    pub(crate) fn asked_elsewhere(&mut self, asked: Asked) {
        self.elsewhere.push(asked);
    }

    pub(crate) fn fail(&mut self, error: EmitError) {
        self.failed = Some(error);
    }

    /// Nobody is asked any more.
    pub(crate) fn sealed(mut self) -> Self {
        self.sender = None;
        self
    }

    /// How many clients were asked; those of other servers count as soon as their server has told.
    pub fn recipients(&self) -> usize {
        self.asked.len() + self.elsewhere.iter().map(|asked| asked.clients as usize).sum::<usize>()
    }

    /// How many of them have not answered yet.
    pub fn missing(&self) -> usize {
        self.outstanding + self.outstanding_elsewhere()
    }

    /// How many other servers have not told how many clients they have asked, when the stream has ended.
    pub fn missing_servers(&self) -> usize {
        self.elsewhere.iter().map(|asked| if asked.done { asked.missing_servers } else { 1 }).sum()
    }

    fn outstanding_elsewhere(&self) -> usize {
        self.elsewhere.iter().map(|asked| asked.clients.saturating_sub(asked.answered) as usize).sum()
    }

    /// Why nothing was sent, if the event could not be encoded (the stream is then empty), or why the other servers were
    /// not asked.
    pub fn error(&self) -> Option<&EmitError> {
        self.failed.as_ref()
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<(RoomName, Settled)>> {
        if let Some((id, error)) = self.refused.pop_front() {
            return Poll::Ready(Some((id, Err(error))));
        }
        if self.timed_out {
            return Poll::Ready(None);
        }
        if self.outstanding > 0
            && let Poll::Ready(answer) = self.answers.poll_recv(cx)
        {
            self.outstanding = if answer.is_some() { self.outstanding - 1 } else { 0 };
            if answer.is_some() || self.elsewhere.is_empty() {
                return Poll::Ready(answer);
            }
        }
        if let Poll::Ready(answer) = self.poll_elsewhere(cx) {
            match answer {
                Some(answer) => return Poll::Ready(Some(answer)),
                None if self.outstanding == 0 => return Poll::Ready(None),
                None => {}
            }
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.timed_out = true;
        self.forget();
        Poll::Ready(None)
    }

    /// Answers of clients of other servers. Which client it was only servers of ours tell.
    fn poll_elsewhere(&mut self, cx: &mut Context<'_>) -> Poll<Option<(RoomName, Settled)>> {
        let mut pending = false;
        for asked in &mut self.elsewhere {
            loop {
                match asked.poll_news(cx) {
                    Poll::Ready(Some(News::ClientAnswer { answer, socket })) => {
                        let id = socket.unwrap_or_else(|| RoomName::from(""));
                        return Poll::Ready(Some((id, Ok(OwnedArgs::from_values(None, vec![answer])))));
                    }
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        pending = true;
                        break;
                    }
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(None) }
    }

    /// The next answer without reading it.
    pub(crate) async fn next_settled(&mut self) -> Option<(RoomName, Settled)> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// Takes what has not been answered out of the sockets' tables. Entries that are gone already cost a look-up.
    fn forget(&mut self) {
        for (socket, id) in &self.asked {
            if socket.0.forget_ack(*id) && self.timed_out {
                socket.0.nsp.env.counters.acks_timed_out.add();
            }
        }
    }
}

impl<R: DeserializeOwned> AckStream<R> {
    /// The next answer with the id of the socket that gave it; `None` when all are in or time is up. The id is empty for a
    /// socket of a Node server of the cluster: its protocol does not tell.
    ///
    /// # Cancel safety
    /// Dropping the future loses no answer.
    pub async fn next(&mut self) -> Option<(RoomName, Result<R, AckError>)> {
        let (id, outcome) = std::future::poll_fn(|cx| self.poll_answer(cx)).await?;
        Some((id, read(outcome)))
    }

    /// Waits until all clients have answered or time is up. Node: `emitWithAck`, which rejects when one is missing; here
    /// the partial result is the result.
    ///
    /// # Cancel safety
    /// Dropping the future forgets all answers.
    pub async fn all(mut self) -> Answers<R> {
        let mut all = Answers { answers: Vec::with_capacity(self.outstanding), missing: Vec::new() };
        while let Some((id, answer)) = self.next().await {
            match answer {
                Ok(answer) => all.answers.push((id, answer)),
                Err(error) => all.missing.push((id, error)),
            }
        }
        if self.outstanding > 0 {
            let told = all.answers.iter().map(|(id, _)| id).chain(all.missing.iter().map(|(id, _)| id));
            let told: hashbrown::HashSet<RoomName> = told.cloned().collect();
            let late = self.asked.iter().map(|(socket, _)| socket.id()).filter(|id| !told.contains(*id));
            all.missing.extend(late.map(|id| (id.clone(), AckError::Timeout)));
        }
        // Which ones they are is not known.
        let late = std::iter::repeat_with(|| (RoomName::from(""), AckError::Timeout));
        all.missing.extend(late.take(self.outstanding_elsewhere()));
        all
    }
}

impl<R: DeserializeOwned> Stream for AckStream<R> {
    type Item = (RoomName, Result<R, AckError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.poll_answer(cx));
        Poll::Ready(answer.map(|(id, outcome)| (id, read(outcome))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.refused.len(), Some(self.refused.len() + self.outstanding))
    }
}

impl<R> Drop for AckStream<R> {
    fn drop(&mut self) {
        if self.outstanding > 0 && !self.timed_out {
            self.forget();
        }
    }
}

/// A timeout too long to be a point in time is a year.
fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3_600))
}
