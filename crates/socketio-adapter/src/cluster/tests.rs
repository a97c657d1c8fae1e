//! Machines on a virtual clock, beside each other and alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use socketio_proto::{OwnedArgs, Value};

use super::{
    ClusterOptions, Envelope, Machine, Membership, Message, News, Output, Question, RequestId, ServerId, SocketDetails,
    Target, Task,
};
use crate::{BroadcastOptions, Selection};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// One machine and a clock.
struct Alone {
    machine: Machine,
    now: Instant,
}

impl Alone {
    fn new(membership: Membership) -> Self {
        let mut machine = Machine::new("me".into(), membership, ClusterOptions::default());
        let now = Instant::now();
        machine.start(now);
        let mut alone = Self { machine, now };
        alone.said();
        alone
    }

    /// One that has been there for a while.
    fn settled(membership: Membership) -> Self {
        let mut alone = Self::new(membership);
        alone.pass(S);
        alone.said();
        alone
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.machine.on_time(self.now);
        }
        self.now = until;
    }

    fn hear(&mut self, sender: &str, message: Message) {
        let sender = (!sender.is_empty()).then(|| ServerId::from(sender));
        self.machine.received(self.now, Envelope { sender, namespace: "/".into(), message });
    }

    fn ask(&mut self, question: Question) -> RequestId {
        let number = self.machine.open_requests() as u64;
        self.machine.ask(self.now, number, question, 5 * S).expect("there is room")
    }

    /// What it wants done, in short words.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        while let Some(output) = self.machine.poll() {
            said.push(match output {
                Output::Publish(message, Target::Everybody) => match message.kind() {
                    Some(1) => "hello".to_owned(),
                    Some(2) => "heartbeat".to_owned(),
                    Some(13) => "goodbye".to_owned(),
                    kind => format!("publish {kind:?}"),
                },
                Output::Publish(message, target) => format!("publish {:?} {target:?}", message.kind()),
                Output::Do(task) => match task {
                    Task::Broadcast { event, reply, .. } => {
                        format!("broadcast {}{}", event.name(), if reply.is_some() { "?" } else { "" })
                    }
                    Task::Placed { number, place } => format!("{number} at {place}"),
                    Task::Join { .. } => "join".to_owned(),
                    Task::Leave { .. } => "leave".to_owned(),
                    Task::Disconnect { .. } => "disconnect".to_owned(),
                    Task::Fetch { .. } => "fetch".to_owned(),
                    Task::ListSockets { .. } => "sockets".to_owned(),
                    Task::ListRooms { .. } => "rooms".to_owned(),
                    Task::ServerEvent { event, reply } => {
                        format!("event {}{}", event.name(), if reply.is_some() { "?" } else { "" })
                    }
                },
                Output::Told(_, news) => match news {
                    News::Sockets(sockets) => format!("{} sockets", sockets.len()),
                    News::Answer(answer) => format!("answer {}", answer.as_i64().unwrap_or_default()),
                    News::Clients(count) => format!("{count} clients"),
                    News::ClientAnswer { answer, .. } => format!("client {}", answer.as_i64().unwrap_or_default()),
                    News::Complete { missing: 0 } => "complete".to_owned(),
                    News::Complete { missing } => format!("{missing} missing"),
                },
            });
        }
        said.join(", ")
    }
}

fn answer(request: &RequestId, answer: i64) -> Message {
    Message::ServerAnswer { request: request.clone(), answer: answer.into() }
}

fn count(request: &RequestId, clients: u64) -> Message {
    Message::ClientCount { request: request.clone(), clients }
}

fn client(request: &RequestId, answer: i64) -> Message {
    Message::ClientAnswer { request: request.clone(), answer: answer.into(), socket: None }
}

fn fetched(request: &RequestId, count: usize) -> Message {
    let socket = SocketDetails { id: "s".into(), handshake: Value::Null, rooms: Default::default(), data: Value::Null };
    Message::Fetched { request: request.clone(), sockets: vec![socket; count] }
}

fn event(name: &str) -> OwnedArgs {
    OwnedArgs::from_values(Some(name), Vec::new())
}

#[test]
fn a_server_says_hello_then_that_it_is_there_and_goodbye() {
    let now = Instant::now();
    let mut machine = Machine::new("me".into(), Membership::Heartbeat, ClusterOptions::default());
    machine.start(now);
    let mut alone = Alone { machine, now };
    assert_eq!(alone.said(), "hello");
    alone.pass(16 * S);
    assert_eq!(alone.said(), "heartbeat, heartbeat, heartbeat");
    alone.machine.close();
    assert_eq!(alone.said(), "goodbye");
    alone.pass(60 * S);
    assert_eq!((alone.said(), alone.machine.deadline()), (String::new(), None));
}

#[test]
fn where_the_broker_counts_nobody_says_anything() {
    let mut alone = Alone::settled(Membership::Counted);
    alone.pass(60 * S);
    alone.hear("a", Message::Hello);
    alone.machine.close();
    assert_eq!((alone.said().as_str(), alone.machine.servers()), ("", None));
}

#[test]
fn a_server_is_there_as_long_as_it_is_heard() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    alone.hear("b", Message::Broadcast { event: event("e"), options: BroadcastOptions::default(), request: None });
    alone.hear("", Message::Broadcast { event: event("e"), options: BroadcastOptions::default(), request: None });
    assert_eq!(alone.machine.servers(), Some(3));
    alone.pass(9 * S);
    alone.hear("a", Message::Heartbeat);
    alone.pass(2 * S);
    assert_eq!((alone.machine.servers(), alone.machine.counts().servers_lost), (Some(2), 1));
    alone.hear("a", Message::Goodbye);
    alone.hear("a", Message::Goodbye);
    assert_eq!((alone.machine.servers(), alone.machine.counts().servers_left), (Some(1), 1));
}

#[test]
fn hellos_are_answered_and_many_of_them_together() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Hello);
    assert_eq!(alone.said(), "heartbeat");
    for _ in 0..1_000 {
        alone.hear("b", Message::Hello);
    }
    assert_eq!(alone.said(), "");
    alone.pass(100 * MS);
    assert_eq!(alone.said(), "heartbeat");
    alone.pass(S);
    assert_eq!(alone.said(), "");
}

#[test]
fn own_messages_are_ignored_wherever_they_come_from() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("me", Message::Hello);
    alone.hear("me", Message::Broadcast { event: event("e"), options: BroadcastOptions::default(), request: None });
    assert_eq!((alone.said().as_str(), alone.machine.servers(), alone.machine.counts().own), ("", Some(1), 2));
}

#[test]
fn a_table_full_of_made_up_names_keeps_those_that_are_known() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    alone.pass(5 * S);
    alone.hear("a", Message::Heartbeat);
    let question = alone.ask(Question::Servers);
    for number in 0..100_000 {
        alone.hear(&format!("x{number}"), Message::Heartbeat);
    }
    assert_eq!(alone.machine.servers(), Some(1 + 1_024));
    assert!(alone.machine.counts().servers_refused > 98_000);
    alone.said();
    alone.hear("a", answer(&question, 1));
    assert_eq!(alone.said(), "answer 1, complete");
}

#[test]
fn a_question_is_complete_when_everybody_has_answered() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    alone.hear("b", Message::Heartbeat);
    let question = alone.ask(Question::Sockets);
    alone.hear("a", fetched(&question, 2));
    alone.hear("a", fetched(&question, 2));
    assert_eq!((alone.said().as_str(), alone.machine.counts().unasked), ("2 sockets", 1));
    alone.hear("b", fetched(&question, 0));
    assert_eq!(alone.said(), "0 sockets, complete");
    alone.hear("b", fetched(&question, 5));
    assert_eq!((alone.said().as_str(), alone.machine.open_requests()), ("", 0));
}

#[test]
fn a_question_to_nobody_is_complete_at_once() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.ask(Question::Servers);
    assert_eq!(alone.said(), "complete");
}

#[test]
fn a_new_server_waits_until_it_knows_the_others() {
    let mut alone = Alone::new(Membership::Heartbeat);
    let question = alone.ask(Question::Servers);
    assert_eq!(alone.said(), "");
    alone.hear("a", Message::Heartbeat);
    alone.hear("a", answer(&question, 1));
    assert_eq!(alone.said(), "answer 1");
    alone.hear("b", Message::Heartbeat);
    alone.pass(600 * MS);
    assert_eq!(alone.said(), "");
    alone.hear("b", answer(&question, 2));
    assert_eq!(alone.said(), "answer 2, complete");
    // And not for ever.
    let mut lonely = Alone::new(Membership::Heartbeat);
    lonely.ask(Question::Servers);
    lonely.pass(500 * MS);
    assert_eq!(lonely.said(), "complete");
}

#[test]
fn who_leaves_is_not_waited_for_and_who_hangs_until_the_deadline() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    for server in ["a", "b", "c"] {
        alone.hear(server, Message::Heartbeat);
    }
    let question = alone.ask(Question::Servers);
    alone.hear("a", answer(&question, 1));
    alone.hear("b", Message::Goodbye);
    assert_eq!(alone.said(), "answer 1");
    alone.pass(5 * S);
    assert!(alone.said().contains("1 missing"));
    assert_eq!(alone.machine.counts().requests_incomplete, 1);
    alone.hear("c", answer(&question, 3));
    assert_eq!((alone.said().as_str(), alone.machine.counts().unasked), ("", 1));
}

#[test]
fn who_falls_silent_is_not_waited_for_and_is_missing() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    for server in ["a", "b"] {
        alone.hear(server, Message::Heartbeat);
    }
    alone.pass(8 * S);
    let question = alone.ask(Question::Servers);
    alone.said();
    alone.hear("a", answer(&question, 1));
    alone.pass(2 * S + 2 * MS);
    assert_eq!(alone.said(), "answer 1, heartbeat, 1 missing");
    assert_eq!((alone.machine.servers(), alone.machine.counts().requests_incomplete), (Some(2), 1));
}

#[test]
fn a_count_says_how_many_are_to_answer_even_without_names() {
    let mut alone = Alone::settled(Membership::Counted);
    let question = alone.ask(Question::Servers);
    alone.hear("", answer(&question, 1));
    assert_eq!(alone.said(), "answer 1");
    alone.machine.expect(alone.now, &question, 3, 0);
    assert_eq!(alone.said(), "");
    alone.hear("", answer(&question, 2));
    assert_eq!(alone.said(), "answer 2, complete");
    // Alone.
    let question = alone.ask(Question::Sockets);
    alone.machine.expect(alone.now, &question, 1, 0);
    assert_eq!(alone.said(), "complete");
    // The broker never told.
    let question = alone.ask(Question::Sockets);
    alone.hear("b", fetched(&question, 1));
    alone.pass(5 * S);
    assert_eq!(alone.said(), "1 sockets, 1 missing");
    // Somebody is missing.
    let question = alone.ask(Question::Sockets);
    alone.machine.expect(alone.now, &question, 4, 0);
    alone.hear("b", fetched(&question, 1));
    alone.pass(5 * S);
    assert_eq!(alone.said(), "1 sockets, 2 missing");
}

#[test]
fn silent_servers_are_missing_at_once_and_their_clients_have_time() {
    let mut alone = Alone::settled(Membership::Counted);
    let question = alone.ask(Question::Sockets);
    alone.machine.expect(alone.now, &question, 5, 3);
    alone.hear("b", fetched(&question, 1));
    assert_eq!(alone.said(), "1 sockets, 3 missing");
    let question = alone.ask(Question::Servers);
    alone.machine.expect(alone.now, &question, 2, 1);
    assert_eq!(alone.said(), "1 missing");
    let question = alone.ask(Question::Clients);
    alone.machine.expect(alone.now, &question, 2, 1);
    alone.hear("", Message::ClientAnswer { request: question.clone(), answer: 1.into(), socket: None });
    assert!(!alone.said().contains("missing"));
    alone.pass(5 * S);
    assert_eq!(alone.said(), "1 missing");
}

#[test]
fn answers_of_clients_are_complete_when_all_of_all_servers_have_come() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    alone.hear("b", Message::Heartbeat);
    let question = alone.ask(Question::Clients);
    alone.hear("a", count(&question, 2));
    alone.hear("a", client(&question, 1));
    alone.hear("b", client(&question, 2));
    alone.hear("b", count(&question, 1));
    assert_eq!(alone.said(), "2 clients, client 1, client 2, 1 clients");
    alone.hear("a", count(&question, 9));
    alone.hear("a", client(&question, 3));
    assert_eq!((alone.said().as_str(), alone.machine.counts().unasked), ("client 3, complete", 1));
    // The clients of a server that leaves will not answer.
    let question = alone.ask(Question::Clients);
    alone.hear("a", count(&question, 2));
    alone.hear("b", count(&question, 0));
    alone.hear("a", Message::Goodbye);
    assert_eq!(alone.said(), "2 clients, 0 clients, complete");
}

#[test]
fn answers_that_nobody_asked_for_are_counted() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    let question = alone.ask(Question::Servers);
    alone.hear("a", fetched(&question, 1));
    alone.hear("a", count(&question, 1));
    alone.hear("a", client(&question, 1));
    alone.hear("a", count(&question, u64::MAX));
    alone.hear("a", answer(&RequestId::from("other"), 1));
    alone.hear("a", Message::RoomNames { request: question.clone(), rooms: Vec::new() });
    assert_eq!((alone.said().as_str(), alone.machine.counts().unasked), ("", 6));
    alone.machine.forget(&question);
    alone.hear("a", answer(&question, 1));
    assert_eq!((alone.said().as_str(), alone.machine.open_requests()), ("", 0));
}

#[test]
fn there_is_an_end_to_open_questions() {
    let mut alone = Alone::settled(Membership::Counted);
    for number in 0..4_096 {
        alone.machine.ask(alone.now, number, Question::Servers, 5 * S).expect("there is room");
    }
    assert!(alone.machine.ask(alone.now, 9_999, Question::Servers, 5 * S).is_err());
    alone.machine.close();
    assert_eq!(alone.said().matches("1 missing").count(), 4_096);
    assert_eq!((alone.machine.open_requests(), alone.machine.deadline()), (0, None));
}

#[test]
fn what_others_want_done_is_handed_on() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    let r = || RequestId::from("q");
    let all = Selection::everybody;
    let options = BroadcastOptions::default;
    alone.hear("a", Message::Broadcast { event: event("e"), options: options(), request: None });
    alone.hear("a", Message::Broadcast { event: event("f"), options: options(), request: Some(r()) });
    alone.hear("a", Message::Join { selection: all(), rooms: Default::default() });
    alone.hear("a", Message::Leave { selection: all(), rooms: Default::default() });
    alone.hear("", Message::Disconnect { selection: all(), close: true });
    alone.hear("a", Message::Fetch { selection: all(), request: r() });
    alone.hear("a", Message::ListSockets { selection: all(), request: r() });
    alone.hear("a", Message::ListRooms { request: r() });
    alone.hear("a", Message::ServerEvent { event: event("g"), request: None });
    alone.hear("a", Message::ServerEvent { event: event("h"), request: Some(r()) });
    let want = "broadcast e, broadcast f?, join, leave, disconnect, fetch, sockets, rooms, event g, event h?";
    assert_eq!(alone.said(), want);
}

#[test]
fn after_the_broker_was_away_everybody_gets_time_to_say_that_they_are_there() {
    let mut alone = Alone::settled(Membership::Heartbeat);
    alone.hear("a", Message::Heartbeat);
    alone.pass(9 * S);
    alone.said();
    alone.machine.reconnected(alone.now);
    assert_eq!(alone.said(), "hello");
    alone.pass(9 * S);
    assert_eq!(alone.machine.servers(), Some(2));
    alone.pass(2 * S);
    assert_eq!(alone.machine.servers(), Some(1));
}

/// Servers on a wire without loss find each other, whatever the order in which they start and stop.
#[test]
fn servers_that_start_at_any_time_know_each_other() {
    for late in [0, 1, 3, 7, 12] {
        let start = Instant::now();
        let mut machines = BTreeMap::new();
        for step in 0..400_u32 {
            let now = start + 100 * MS * step;
            for (name, at) in [("a", 0), ("b", late), ("c", 2 * late)] {
                if step == at * 10 {
                    let mut machine = Machine::new(name.into(), Membership::Heartbeat, ClusterOptions::default());
                    machine.start(now);
                    machines.insert(name, machine);
                }
            }
            loop {
                let mut wire = Vec::new();
                for (name, machine) in &mut machines {
                    machine.on_time(now);
                    while let Some(output) = machine.poll() {
                        if let Output::Publish(message, _) = output {
                            wire.push((*name, message));
                        }
                    }
                }
                if wire.is_empty() {
                    break;
                }
                for (sender, message) in wire {
                    for machine in machines.values_mut() {
                        let envelope =
                            Envelope { sender: Some(sender.into()), namespace: "/".into(), message: message.clone() };
                        machine.received(now, envelope);
                    }
                }
            }
        }
        let servers: Vec<_> = machines.values().map(Machine::servers).collect();
        assert_eq!(servers, [Some(3); 3], "{late} s apart");
        assert!(machines.values().all(|machine| machine.counts().servers_lost == 0));
    }
}

#[test]
fn what_comes_from_the_log_keeps_its_place_and_its_order() {
    let id = ServerId::from("me");
    let mut machine = Machine::new(id.clone(), Membership::Counted, ClusterOptions::default());
    let place = |text: &str| crate::recovery::Place::parse(text);
    let event = |sender: &ServerId| Envelope {
        sender: Some(sender.clone()),
        namespace: "/".into(),
        message: Message::Broadcast {
            event: OwnedArgs::from_values(Some("e"), Vec::new()),
            options: BroadcastOptions::default(),
            request: None,
        },
    };
    machine.read(Instant::now(), event(&"other".into()), place("1-0"));
    machine.placed(7, place("2-0").unwrap());
    machine.read(Instant::now(), event(&id), place("3-0"));
    assert!(matches!(machine.poll(), Some(Output::Do(Task::Broadcast { place: at, .. })) if at == place("1-0")));
    assert!(
        matches!(machine.poll(), Some(Output::Do(Task::Placed { number: 7, place: at })) if Some(at) == place("2-0"))
    );
    assert!(machine.poll().is_none());
}
