//! The rooms against the simplest thing that could be right: sets of strings.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use socketio_adapter::{Limits, RoomEvent, RoomName, Rooms, Selection};

/// Who is in which room, as anybody would write it down.
#[derive(Debug, Clone, Default)]
struct Model {
    sockets: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    fn members(&self, room: &str) -> BTreeSet<String> {
        self.sockets.iter().filter(|(_, rooms)| rooms.contains(room)).map(|(id, _)| id.clone()).collect()
    }

    fn select(&self, selection: &Selection) -> BTreeSet<String> {
        let mut selected: BTreeSet<String> = match selection.rooms.is_empty() {
            true => self.sockets.keys().cloned().collect(),
            false => selection.rooms.iter().flat_map(|room| self.members(room)).collect(),
        };
        for room in &selection.except {
            for id in self.members(room) {
                selected.remove(&id);
            }
        }
        selected
    }

    fn join(&mut self, id: &str, room: &str, events: &mut Vec<String>) {
        let created = self.members(room).is_empty();
        let Some(rooms) = self.sockets.get_mut(id) else { return };
        if rooms.insert(room.to_owned()) {
            if created {
                events.push(format!("create {room}"));
            }
            events.push(format!("join {room} {id}"));
        }
    }

    fn leave(&mut self, id: &str, room: &str, events: &mut Vec<String>) {
        let Some(rooms) = self.sockets.get_mut(id) else { return };
        if rooms.remove(room) {
            events.push(format!("leave {room} {id}"));
            if self.members(room).is_empty() {
                events.push(format!("delete {room}"));
            }
        }
    }
}

fn told(events: &[RoomEvent]) -> Vec<String> {
    let tell = |event: &RoomEvent| match event {
        RoomEvent::Create(room) => format!("create {room}"),
        RoomEvent::Join { room, id } => format!("join {room} {id}"),
        RoomEvent::Leave { room, id } => format!("leave {room} {id}"),
        RoomEvent::Delete(room) => format!("delete {room}"),
    };
    events.iter().map(tell).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Add(usize),
    Remove(usize),
    Join(usize, Vec<String>),
    Leave(usize, Vec<String>),
}

/// `sockets` possible ids; room names are a few plain ones and the ids themselves.
fn op(sockets: usize) -> impl Strategy<Value = Op> {
    let room = room(sockets);
    prop_oneof![
        2 => (0..sockets).prop_map(Op::Add),
        1 => (0..sockets).prop_map(Op::Remove),
        4 => (0..sockets, prop::collection::vec(room.clone(), 0..4)).prop_map(|(id, rooms)| Op::Join(id, rooms)),
        2 => (0..sockets, prop::collection::vec(room, 0..4)).prop_map(|(id, rooms)| Op::Leave(id, rooms)),
    ]
}

fn room(sockets: usize) -> impl Strategy<Value = String> + Clone {
    prop_oneof![3 => (0..5usize).prop_map(|n| format!("room{n}")), 1 => (0..sockets).prop_map(|n| format!("id{n}"))]
}

fn selection(sockets: usize) -> impl Strategy<Value = Selection> {
    let rooms = || prop::collection::vec(room(sockets), 0..4);
    (rooms(), rooms()).prop_map(|(rooms, except)| Selection::everybody().to(rooms).except(except))
}

fn apply(rooms: &mut Rooms<String>, model: &mut Model, op: Op) {
    let mut want = Vec::new();
    match op {
        Op::Add(id) => {
            let id = format!("id{id}");
            let got = rooms.add(id.as_str(), id.clone());
            if model.sockets.contains_key(&id) {
                assert!(got.is_err());
                return;
            }
            model.sockets.insert(id.clone(), BTreeSet::new());
            model.join(&id, &id, &mut want);
            assert_eq!(told(&got.unwrap()), want);
        }
        Op::Remove(id) => {
            let id = format!("id{id}");
            let got = rooms.remove(&id);
            assert_eq!(got.is_some(), model.sockets.contains_key(&id));
            let Some(got) = got else { return };
            let was_in = model.sockets[&id].clone();
            for room in &was_in {
                model.leave(&id, room, &mut want);
            }
            model.sockets.remove(&id);
            assert_eq!(got.member, id);
            assert_eq!(sorted(got.rooms.iter().map(RoomName::to_string)), sorted(was_in));
            // In which order the rooms are left is not promised; that a room is deleted right after it was left is.
            let events = told(&got.events);
            for pair in events.windows(2) {
                if let Some(room) = pair[1].strip_prefix("delete ") {
                    assert_eq!(pair[0], format!("leave {room} {id}"));
                }
            }
            assert_eq!(sorted(events), sorted(want));
        }
        Op::Join(id, names) => {
            let id = format!("id{id}");
            let got = rooms.join(&id, names.clone());
            assert_eq!(got.is_ok(), model.sockets.contains_key(&id));
            for name in &names {
                model.join(&id, name, &mut want);
            }
            assert_eq!(told(&got.unwrap_or_default()), want);
        }
        Op::Leave(id, names) => {
            let id = format!("id{id}");
            let got = rooms.leave(&id, names.clone());
            for name in &names {
                model.leave(&id, name, &mut want);
            }
            assert_eq!(told(&got), want);
        }
    }
}

fn sorted(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}

/// Everything the rooms tell about themselves is what the model knows.
fn compare(rooms: &Rooms<String>, model: &Model) {
    assert_eq!(rooms.len(), model.sockets.len());
    assert_eq!(sorted(rooms.iter().map(|(id, _)| id.to_string())), model.sockets.keys().cloned().collect::<Vec<_>>());
    for (id, joined) in &model.sockets {
        assert_eq!(rooms.get(id), Some(id));
        assert_eq!(sorted(rooms.rooms_of(id).iter().map(RoomName::to_string)), sorted(joined.clone()));
    }
    let names: BTreeSet<&String> = model.sockets.values().flatten().collect();
    assert_eq!(rooms.rooms().map(|(name, _)| name.to_string()).collect::<BTreeSet<_>>().len(), names.len());
    for (name, size) in rooms.rooms() {
        let want = model.members(name);
        assert_eq!((size, rooms.size(name)), (want.len(), want.len()), "{name}");
        assert_eq!(sorted(rooms.members(name).map(|(id, _)| id.to_string())), want.iter().cloned().collect::<Vec<_>>());
        assert_eq!(sorted(rooms.members(name).map(|(_, member)| member.clone())), Vec::from_iter(want.clone()));
        for id in model.sockets.keys() {
            assert_eq!(rooms.is_in(id, name), want.contains(id));
        }
    }
}

/// A snapshot reaches whom the model selects, each once, by every way to walk it.
fn reach(rooms: &Rooms<String>, model: &Model, selection: &Selection) {
    let want: Vec<String> = model.select(selection).into_iter().collect();
    let snapshot = rooms.snapshot(selection);
    assert_eq!(snapshot.is_empty(), want.is_empty(), "{selection:?}");
    assert!(snapshot.upper_bound() >= want.len());
    assert_eq!(sorted(snapshot.iter().cloned()), want, "{selection:?}");
    assert_eq!(sorted(snapshot), want, "{selection:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_few_sockets_do_what_sets_do(
        ops in prop::collection::vec(op(5), 1..60),
        selections in prop::collection::vec(selection(5), 1..10),
    ) {
        let (mut rooms, mut model) = (Rooms::default(), Model::default());
        for op in ops {
            apply(&mut rooms, &mut model, op);
            compare(&rooms, &model);
        }
        for selection in &selections {
            reach(&rooms, &model, selection);
        }
    }

    #[test]
    fn a_snapshot_does_not_see_what_happens_later(
        before in prop::collection::vec(op(5), 1..30),
        after in prop::collection::vec(op(5), 1..30),
        selection in selection(5),
    ) {
        let (mut rooms, mut model) = (Rooms::default(), Model::default());
        for op in before {
            apply(&mut rooms, &mut model, op);
        }
        let want: Vec<String> = model.select(&selection).into_iter().collect();
        let snapshot = rooms.snapshot(&selection);
        for op in after {
            apply(&mut rooms, &mut model, op);
        }
        prop_assert_eq!(sorted(snapshot), want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Enough sockets that rooms span several chunks and every form of the set of seen members is used.
    #[test]
    fn many_sockets_do_what_sets_do(
        ops in prop::collection::vec(op(900), 1..400),
        selections in prop::collection::vec(selection(900), 1..10),
    ) {
        let (mut rooms, mut model) = (Rooms::default(), Model::default());
        let mut nothing = Vec::new();
        for n in 0..900 {
            let id = format!("id{n}");
            rooms.add(id.as_str(), id.clone()).unwrap();
            model.sockets.insert(id.clone(), BTreeSet::from([id.clone()]));
            let names: Vec<String> = (0..5).filter(|room| n % (room + 1) == 0).map(|room| format!("room{room}")).collect();
            rooms.join(&id, names.clone()).unwrap();
            for name in names {
                model.sockets.get_mut(&id).unwrap().insert(name);
            }
        }
        let held = rooms.snapshot(&Selection::everybody().to("room0"));
        for op in ops {
            // The model counts members for its events; here only the outcome is compared.
            match op {
                Op::Add(_) | Op::Remove(_) => apply(&mut rooms, &mut model, op),
                Op::Join(id, names) => {
                    let _ = rooms.join(&format!("id{id}"), names.clone());
                    names.iter().for_each(|name| model.join(&format!("id{id}"), name, &mut nothing));
                }
                Op::Leave(id, names) => {
                    let _ = rooms.leave(&format!("id{id}"), names.clone());
                    names.iter().for_each(|name| model.leave(&format!("id{id}"), name, &mut nothing));
                }
            }
        }
        for selection in &selections {
            reach(&rooms, &model, selection);
        }
        for room in 0..5 {
            let name = format!("room{room}");
            prop_assert_eq!(rooms.size(&name), model.members(&name).len());
        }
        prop_assert_eq!(held.iter().count(), 900);
    }
}

#[test]
fn a_snapshot_taken_before_a_leave_is_unaffected() {
    let mut rooms = Rooms::default();
    for id in 0..600 {
        rooms.add(id.to_string(), id).unwrap();
        rooms.join(&id.to_string(), "lobby").unwrap();
    }
    let snapshot = rooms.snapshot(&Selection::everybody().to("lobby").except("7"));
    for id in 0..600 {
        rooms.leave(&id.to_string(), "lobby");
        rooms.remove(&id.to_string()).unwrap();
    }
    assert_eq!((rooms.size("lobby"), rooms.len(), rooms.room_count()), (0, 0, 0));
    let mut reached: Vec<i32> = snapshot.into_iter().collect();
    reached.sort_unstable();
    assert_eq!(reached, (0..600).filter(|id| *id != 7).collect::<Vec<_>>());
}

#[test]
fn a_room_named_twice_is_walked_once() {
    let mut rooms = Rooms::default();
    for id in ["ann", "bob"] {
        rooms.add(id, id).unwrap();
        rooms.join(id, "lobby").unwrap();
    }
    let snapshot = rooms.snapshot(&Selection::everybody().to(["lobby", "lobby"]).to("lobby"));
    assert_eq!((snapshot.upper_bound(), snapshot.iter().count()), (2, 2));
}

#[test]
fn a_walk_can_be_put_aside_and_resumed() {
    let mut rooms = Rooms::default();
    for id in 0..300 {
        rooms.add(id.to_string(), id).unwrap();
        rooms.join(&id.to_string(), ["a", "b"]).unwrap();
    }
    let mut walk = rooms.snapshot(&Selection::everybody().to(["a", "b", "0"])).recipients();
    let mut reached = Vec::new();
    while let Some(first) = walk.next_ref().copied() {
        reached.push(first);
        reached.extend(walk.by_ref().take(99));
    }
    assert_eq!(walk.next_ref(), None);
    reached.sort_unstable();
    assert_eq!(reached, (0..300).collect::<Vec<_>>());
}

#[test]
fn everybody_on_a_large_server_is_not_asked_for_a_small_selection() {
    // Some hundred members among very many sockets: the set of seen members is hashed.
    let mut rooms = Rooms::default();
    for id in 0..100_000 {
        rooms.add(id.to_string(), id).unwrap();
    }
    for id in (0..100_000).step_by(1_000) {
        rooms.join(&id.to_string(), ["a", "b"]).unwrap();
    }
    rooms.leave("1000", "a");
    rooms.join("1000", "c").unwrap();
    assert_eq!(rooms.snapshot(&Selection::everybody().to(["a", "b"])).iter().count(), 100);
    assert_eq!(rooms.snapshot(&Selection::everybody().to("b").except("a")).into_iter().collect::<Vec<_>>(), [1_000]);
    assert_eq!(rooms.snapshot(&Selection::everybody().except(["a", "5"])).iter().count(), 100_000 - 99 - 1);
}

#[test]
fn limits_are_typed_errors_and_a_refused_join_joins_nothing() {
    let mut limits = Limits::default();
    assert_eq!((limits.rooms_per_socket, limits.room_name_bytes, limits.rooms), (1_024, 256, 1_000_000));
    (limits.rooms_per_socket, limits.room_name_bytes, limits.rooms) = (3, 4, 5);
    let mut rooms = Rooms::new(limits);
    for id in ["ann", "bob", "an id over four bytes"] {
        rooms.add(id, ()).unwrap();
    }
    check(&mut rooms, "eve", &["a"], "no such socket", &[]);
    check(&mut rooms, "ann", &["a", "12345"], "a room name of 5 bytes is over the 4-byte limit", &["ann"]);
    check(&mut rooms, "ann", &["a", "b", "c", "d"], "a socket may be in 3 rooms", &["ann"]);
    check(&mut rooms, "ann", &["a", "1234", "a", "", "ann"], "", &["ann", "a", "1234", ""]);
    check(&mut rooms, "ann", &["d"], "a socket may be in 3 rooms", &["ann", "a", "1234", ""]);
    check(&mut rooms, "bob", &["a", "d", "e"], "", &["bob", "a", "d", "e"]);
    rooms.leave("bob", "a");
    check(&mut rooms, "bob", &["f"], "all 5 rooms of this server are in use", &["bob", "d", "e"]);
    check(&mut rooms, "bob", &["ann"], "all 5 rooms of this server are in use", &["bob", "d", "e"]);
    check(&mut rooms, "bob", &["a"], "", &["bob", "d", "e", "a"]);
    assert_eq!(rooms.room_count(), 5);

    #[track_caller]
    fn check(rooms: &mut Rooms<()>, id: &str, names: &[&str], want: &str, then: &[&str]) {
        let got = rooms.join(id, names).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(got, want);
        assert_eq!(
            sorted(rooms.rooms_of(id).iter().map(RoomName::to_string)),
            sorted(then.iter().map(|r| r.to_string()))
        );
    }
}

#[test]
fn the_room_of_an_own_id_does_not_count_when_somebody_else_joins_it() {
    let mut limits = Limits::default();
    limits.rooms_per_socket = 1;
    let mut rooms = Rooms::new(limits);
    rooms.add("ann", ()).unwrap();
    rooms.add("bob", ()).unwrap();
    rooms.join("bob", "ann").unwrap();
    rooms.join("ann", "lobby").unwrap();
    assert_eq!(rooms.size("ann"), 2);
    assert!(rooms.join("ann", "more").is_err() && rooms.join("bob", "more").is_err());
}

#[test]
fn a_second_socket_of_the_same_id_is_refused() {
    let mut rooms = Rooms::default();
    rooms.add("ann", 1).unwrap();
    assert_eq!(rooms.add("ann", 2).unwrap_err().to_string(), r#"a socket with the id "ann" is already here"#);
    assert_eq!((rooms.get("ann"), rooms.len()), (Some(&1), 1));
}
