//! The simulated cluster of the testkit, in all families of protocols that there are: heartbeats, classic, sharded, streams.
//!
//! `SIM_SEED=n` plays one schedule, `SIM_SEEDS=n` as many; `cargo xtask sim cluster` does both.

use std::sync::Arc;

use socketio_adapter::cluster::wire::{self, Foreign, WireLimits};
use socketio_adapter::cluster::{Envelope, Health, Inbox, Membership, Message, ServerId, Target};
use socketio_testkit::cluster_world::{Dialect, Heartbeats, LogInfo, Parcel, Reader, schedules};

use crate::streams::{entry, reader};
use crate::{Words, classic, sharded};

#[test]
fn no_schedule_of_faults_delivers_wrongly_or_leaves_anything_behind() {
    let dialects: [&dyn Dialect; 6] = [
        &Heartbeats::default(),
        &PubSub { dialect: crate::Dialect::Classic, mode: crate::SubscriptionMode::Dynamic, specific: false },
        &PubSub { dialect: crate::Dialect::Sharded, mode: crate::SubscriptionMode::DynamicPrivate, specific: false },
        &Streams,
        &PubSub { dialect: crate::Dialect::Classic, mode: crate::SubscriptionMode::Static, specific: true },
        &PubSub { dialect: crate::Dialect::Sharded, mode: crate::SubscriptionMode::Dynamic, specific: false },
    ];
    let (count, tally) = schedules(&dialects, 2_000);
    println!("{count} schedules: {tally:?}");
    if count >= 2_000 {
        // The schedules were not all of one kind.
        let least = [
            tally.delivered / 100,
            tally.lost / 4,
            tally.doubled,
            tally.received / 4,
            tally.complete / 4,
            tally.partial / 2,
            tally.silent,
            tally.refused,
            tally.trimmed,
            tally.reread,
            tally.faults,
        ];
        assert!(least.iter().all(|number| *number > count / 20), "{tally:?}");
    }
}

/// Classic or sharded pub/sub.
struct PubSub {
    dialect: crate::Dialect,
    mode: crate::SubscriptionMode,
    specific: bool,
}

impl PubSub {
    fn words(&self, me: &ServerId) -> Words {
        Words {
            dialect: self.dialect,
            prefix: "socket.io".to_owned(),
            mode: self.mode,
            specific_responses: self.specific,
            limits: WireLimits::default(),
            id: me.clone(),
        }
    }
}

impl Dialect for PubSub {
    fn membership(&self) -> Membership {
        Membership::Counted
    }

    fn names_answers(&self) -> bool {
        self.dialect == crate::Dialect::Sharded
    }

    fn write(&self, me: Option<&ServerId>, envelope: &Envelope, to: &Target) -> Parcel {
        let words = self.words(me.unwrap_or(&ServerId::from("")));
        let written = match self.dialect {
            crate::Dialect::Classic => classic::encode(&words, envelope, to),
            crate::Dialect::Sharded => sharded::encode(&words, envelope, to),
            crate::Dialect::Python => unreachable!("it is not among them"),
        };
        let (channel, bytes) = written.expect("it can be written");
        Parcel { channel, parts: vec![bytes] }
    }

    fn hears(&self, me: &ServerId, channel: &str, has_room: &dyn Fn(&str) -> bool) -> bool {
        let words = self.words(me);
        let main = words.main_channel("/");
        let room = channel.strip_prefix(&*main).and_then(|rest| rest.strip_suffix('#'));
        // The pattern of static classic is that of all rooms.
        let pattern = self.dialect == crate::Dialect::Classic && self.mode == crate::SubscriptionMode::Static;
        let rooms = pattern && channel.starts_with(&*main);
        let own = |room: &str| room.starts_with("socket-");
        let joined = room.is_some_and(|room| has_room(room) && words.room_channel("/", room, own(room)).is_some());
        rooms || joined || words.channels("/").iter().any(|heard| heard.name == channel)
    }

    fn read(
        &self,
        me: &ServerId,
        parcel: &Parcel,
        has_room: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Envelope>, Foreign> {
        let (words, bytes) = (self.words(me), &parcel.parts[0]);
        match self.dialect {
            crate::Dialect::Classic => {
                let rooms = Rooms(has_room(room_of(&words, &parcel.channel).unwrap_or_default()));
                classic::decode(&words, &rooms, &Arc::from("/"), parcel.channel.as_bytes(), bytes)
            }
            crate::Dialect::Sharded => sharded::decode(&words, &Arc::from("/"), bytes),
            crate::Dialect::Python => unreachable!("it is not among them"),
        }
    }
}

fn room_of<'a>(words: &Words, channel: &'a str) -> Option<&'a str> {
    channel.strip_prefix(&*words.main_channel("/"))?.strip_suffix('#')
}

/// Whether the server has members of the one room that it is asked for.
struct Rooms(bool);

impl Inbox for Rooms {
    fn received(&self, _: Envelope, _: Option<Arc<str>>) {}
    fn foreign(&self, _: &Foreign) {}
    fn lost(&self, _: u64) {}
    fn health(&self, _: Health) {}
    fn has_room(&self, _: &str, _: &str) -> bool {
        self.0
    }
}

/// A log for broadcasts and moves, pub/sub for the rest.
struct Streams;

impl Dialect for Streams {
    fn membership(&self) -> Membership {
        Membership::Counted
    }

    fn names_answers(&self) -> bool {
        true
    }

    fn keeps(&self, message: &Message) -> bool {
        entry::is_kept(message)
    }

    fn write(&self, _: Option<&ServerId>, envelope: &Envelope, to: &Target) -> Parcel {
        if entry::is_kept(&envelope.message) {
            let columns = entry::write(envelope).expect("it can be written");
            let parts = columns.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value]).collect();
            return Parcel { channel: String::new(), parts };
        }
        let channel = match to {
            Target::Asker(Some(server)) => server.as_str().to_owned(),
            Target::Asker(None) | Target::Everybody => "*".to_owned(),
        };
        let bytes = wire::encode_as(envelope, wire::Form::Msgpack).expect("it can be written");
        Parcel { channel, parts: vec![bytes] }
    }

    fn hears(&self, me: &ServerId, channel: &str, _: &dyn Fn(&str) -> bool) -> bool {
        channel == "*" || channel == me.as_str()
    }

    fn read(&self, me: &ServerId, parcel: &Parcel, _: &dyn Fn(&str) -> bool) -> Result<Option<Envelope>, Foreign> {
        let limits = WireLimits::default();
        if !parcel.channel.is_empty() {
            return wire::decode(&parcel.parts[0], &limits).map(Some);
        }
        let entry = entry::Entry { id: String::new(), columns: parcel.parts.clone() };
        if entry.text("uid", &limits) == Some(me.as_str()) {
            return Ok(None);
        }
        entry.read(&limits).map(Some)
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::new(Cursor(reader::Cursor::default())))
    }
}

struct Cursor(reader::Cursor);

fn info(log: &LogInfo) -> reader::Info {
    reader::Info { last: log.last.clone(), added: Some(log.added), len: log.len }
}

impl Reader for Cursor {
    fn connected(&mut self, log: &LogInfo) -> u64 {
        self.0.resume(&info(log))
    }

    fn after(&self) -> String {
        self.0.after().to_owned()
    }

    fn took(&mut self, id: &str) -> bool {
        self.0.took(id)
    }

    fn is_overtaken(&self) -> bool {
        self.0.is_overtaken()
    }

    fn trimmed(&mut self, log: &LogInfo) -> u64 {
        self.0.trimmed(&info(log))
    }
}
