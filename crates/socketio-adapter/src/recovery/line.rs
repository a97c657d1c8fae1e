//! The line in which events wait for their place in the log of the cluster.
//!
//! Servers on a bus that can replay share one log. A client that has an event with the place *p* must have everything that
//! is for it up to *p*, on whichever server it was; so every server delivers in the order of the log, and an event of this
//! server is delivered when it has come back from there. Node's adapter delivers it when the broker has answered, which may be before
//! earlier events of others.
//!
//! Local traffic must not hang because the broker does. So an event waits for [`LineLimits::patience`]; then it, and all that
//! come after it, are delivered without a place ([`Mark::Here`]), until something comes back again. While an event that was
//! delivered so may still turn up in the log, no event has a place: a client that has it would get the other one twice.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Where an event stands in the log of a cluster: two numbers, `1526919030474-55`, as Redis writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64, u64);

impl Place {
    /// Reads a place. `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let (first, second) = text.split_once('-')?;
        Some(Self(number(first)?, number(second)?))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// What an event carries when it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its place: the client can go on from there on every server.
    Place(Place),
    /// No place: the client can go on from there on this server only.
    Here,
}

/// How long events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineLimits {
    /// For its place. Default: 250 ms.
    pub patience: Duration,
    /// How long after the broker is back an event may turn up that was written before it went away. Default: 10 s.
    pub memory: Duration,
}

impl Default for LineLimits {
    fn default() -> Self {
        Self { patience: Duration::from_millis(250), memory: Duration::from_secs(10) }
    }
}

/// Events of one namespace in the order in which they are delivered. The rhythm: something happens, then
/// [`poll`](Self::poll) to `None`.
#[derive(Debug)]
pub struct Line<T> {
    limits: LineLimits,
    waiting: VecDeque<Waiting<T>>,
    ready: VecDeque<(T, Mark)>,
    /// The broker answers: it is worth while to wait.
    prompt: bool,
    /// The newest event that was delivered before it had a place, and since when it may turn up.
    early: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct Waiting<T> {
    /// What waits for nothing but those before it has none.
    number: Option<u64>,
    since: Instant,
    item: T,
}

impl<T> Line<T> {
    /// Nobody waits. `up`: the broker is there.
    pub fn new(limits: LineLimits, up: bool) -> Self {
        Self { limits, waiting: VecDeque::new(), ready: VecDeque::new(), prompt: up, early: None }
    }

    /// The broker has come, or gone.
    pub fn health(&mut self, now: Instant, up: bool) {
        self.prompt = up;
        if let Some((_, since)) = &mut self.early {
            *since = now;
        }
        if !up {
            self.flush(now);
        }
    }

    /// An event of this server was published under this number. Numbers grow.
    pub fn published(&mut self, now: Instant, number: u64, item: T) {
        self.waiting.push_back(Waiting { number: Some(number), since: now, item });
        if !self.prompt {
            self.flush(now);
        }
    }

    /// The broker did not take an event of this server, which is delivered all the same.
    pub fn refused(&mut self, now: Instant, item: T) {
        self.waiting.push_back(Waiting { number: None, since: now, item });
        self.flush(now);
    }

    /// Something that has no place and must not overtake what waits.
    pub fn behind(&mut self, now: Instant, item: T) {
        self.waiting.push_back(Waiting { number: None, since: now, item });
        self.release();
    }

    /// What was published under this number has come back: everything before this place has been heard of.
    pub fn placed(&mut self, now: Instant, number: u64, place: Place) {
        self.prompt = true;
        if self.early.is_some_and(|(newest, _)| newest <= number) {
            self.early = None;
        }
        // What one server publishes keeps its order, so these were lost.
        while self.waiting.front().is_some_and(|front| front.number.is_none_or(|front| front < number)) {
            let Some(lost) = self.waiting.pop_front() else { break };
            self.ready.push_back((lost.item, Mark::Here));
        }
        if self.waiting.front().is_some_and(|front| front.number == Some(number))
            && let Some(front) = self.waiting.pop_front()
        {
            let mark = self.mark(now, place);
            self.ready.push_back((front.item, mark));
        }
        self.release();
    }

    /// An event of another server has this place.
    pub fn heard(&mut self, now: Instant, place: Place, item: T) {
        let mark = self.mark(now, place);
        self.ready.push_back((item, mark));
    }

    /// Delivers all that wait, now.
    pub fn flush(&mut self, now: Instant) {
        let newest = self.waiting.iter().rev().find_map(|waiting| waiting.number);
        if let Some(newest) = newest {
            self.early = Some((newest, now));
        }
        self.ready.extend(self.waiting.drain(..).map(|waiting| (waiting.item, Mark::Here)));
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.prompt = false;
            self.flush(now);
        }
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|front| front.since + self.limits.patience)
    }

    /// What is to be delivered next.
    pub fn poll(&mut self) -> Option<(T, Mark)> {
        self.ready.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty()
    }

    /// Whether everything that was delivered has its place, as far as is known.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.early.is_none_or(|(_, since)| now.saturating_duration_since(since) > self.limits.memory && self.prompt)
    }

    fn mark(&mut self, now: Instant, place: Place) -> Mark {
        if !self.is_settled(now) {
            return Mark::Here;
        }
        self.early = None;
        Mark::Place(place)
    }

    /// What waited only for what is gone.
    fn release(&mut self) {
        while self.waiting.front().is_some_and(|front| front.number.is_none()) {
            let Some(front) = self.waiting.pop_front() else { break };
            self.ready.push_back((front.item, Mark::Here));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with a clock of its own.
    struct World {
        line: Line<&'static str>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { line: Line::new(LineLimits::default(), true), now: Instant::now() }
        }

        fn pass(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
            self.line.on_time(self.now);
        }

        /// What is delivered: `name@place`, or the name alone.
        #[track_caller]
        fn is(&mut self, want: &str) {
            let mut got = Vec::new();
            while let Some((item, mark)) = self.line.poll() {
                got.push(match mark {
                    Mark::Place(Place(_, place)) => format!("{item}@{place}"),
                    Mark::Here => item.to_owned(),
                });
            }
            assert_eq!(got.join(" "), want);
        }
    }

    fn place(number: u64) -> Place {
        Place(0, number)
    }

    #[test]
    fn events_are_delivered_in_the_order_of_the_log() {
        let mut world = World::new();
        world.line.published(world.now, 1, "a");
        world.line.published(world.now, 2, "b");
        world.is("");
        // Somebody else was faster.
        world.line.heard(world.now, place(1), "x");
        world.line.placed(world.now, 1, place(2));
        world.line.heard(world.now, place(3), "y");
        world.line.placed(world.now, 2, place(4));
        world.is("x@1 a@2 y@3 b@4");
        assert!(world.line.is_empty() && world.line.deadline().is_none() && world.line.is_settled(world.now));
    }

    #[test]
    fn an_event_waits_for_a_moment_and_those_behind_it_not_at_all() {
        let mut world = World::new();
        world.line.published(world.now, 1, "a");
        world.pass(200);
        world.line.published(world.now, 2, "b");
        world.is("");
        world.pass(50);
        world.is("a b");
        world.line.published(world.now, 3, "c");
        world.is("c");
        // The broker lives: the next one waits again. Those before may still turn up.
        world.line.placed(world.now, 1, place(1));
        world.line.published(world.now, 4, "d");
        world.line.heard(world.now, place(2), "x");
        world.is("x");
        assert!(!world.line.is_settled(world.now));
        world.line.placed(world.now, 2, place(3));
        world.line.placed(world.now, 3, place(4));
        world.line.heard(world.now, place(5), "y");
        world.line.placed(world.now, 4, place(6));
        world.is("y@5 d@6");
    }

    #[test]
    fn nothing_waits_for_a_broker_that_is_away() {
        let mut world = World::new();
        world.line.published(world.now, 1, "a");
        world.line.health(world.now, false);
        world.line.published(world.now, 2, "b");
        world.line.refused(world.now, "c");
        world.is("a b c");
        world.pass(60_000);
        world.line.health(world.now, true);
        world.line.heard(world.now, place(1), "x");
        world.line.published(world.now, 3, "d");
        world.is("x");
        // 1 was written and 2 was not: whoever comes later is the proof.
        world.line.placed(world.now, 1, place(2));
        world.line.placed(world.now, 3, place(3));
        world.is("d@3");
    }

    #[test]
    fn what_never_comes_back_is_forgotten_after_a_while() {
        let mut world = World::new();
        world.line.published(world.now, 1, "a");
        world.line.health(world.now, false);
        world.pass(60_000);
        assert!(!world.line.is_settled(world.now), "it is still away");
        world.line.health(world.now, true);
        world.pass(9_000);
        world.line.heard(world.now, place(1), "x");
        world.pass(2_000);
        world.line.heard(world.now, place(2), "y");
        world.is("a x y@2");
    }

    #[test]
    fn what_was_lost_is_delivered_in_its_turn() {
        let mut world = World::new();
        world.line.published(world.now, 1, "lost");
        world.line.published(world.now, 2, "b");
        world.line.placed(world.now, 2, place(1));
        world.is("lost b@1");
        // Something else came back, a move of sockets between rooms.
        world.line.placed(world.now, 3, place(2));
        world.is("");
    }

    #[test]
    fn what_has_no_place_keeps_its_turn() {
        let mut world = World::new();
        world.line.behind(world.now, "at once");
        world.is("at once");
        world.line.published(world.now, 1, "a");
        world.line.behind(world.now, "question");
        world.line.published(world.now, 2, "b");
        world.line.heard(world.now, place(1), "x");
        world.is("x@1");
        world.line.placed(world.now, 1, place(2));
        world.is("a@2 question");
        world.line.behind(world.now, "late");
        world.pass(250);
        world.is("b late");
        // A full buffer: nothing waits for what does.
        world.line.placed(world.now, 2, place(3));
        world.line.published(world.now, 3, "c");
        world.line.refused(world.now, "d");
        world.is("c d");
        assert!(!world.line.is_settled(world.now));
    }

    #[test]
    fn places_are_numbers_and_other_text_is_none() {
        assert!(Place::parse("10-0") > Place::parse("9-5") && Place::parse("9-10") > Place::parse("9-9"));
        assert_eq!(
            Place::parse("1526919030474-55").map(|place| place.to_string()).as_deref(),
            Some("1526919030474-55")
        );
        for text in
            ["", "1", "-", "1-", "-1", "+1-0", "1-0-0", "a-0", "$", "99999999999999999999-0", "1-000000000000000000001"]
        {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
