//! Who is here and who is in which room: the local half of every adapter.

use std::collections::HashMap;
use std::fmt;

use smallvec::SmallVec;

use crate::dense::{Dense, Moved};
use crate::snapshot::Part;
use crate::{IntoRooms, RoomName, RoomNames, Selection, Snapshot};

/// How many rooms there may be, and how long their names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many rooms one socket may be in, the room of its own id not counted. Default: 1,024.
    pub rooms_per_socket: usize,
    /// How long the name of a room may be, in bytes. Default: 256.
    pub room_name_bytes: usize,
    /// How many rooms there may be, the rooms of sockets' own ids not counted. Default: 1,000,000.
    pub rooms: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rooms_per_socket: 1_024, room_name_bytes: 256, rooms: 1_000_000 }
    }
}

impl Limits {
    /// Adds rooms to those that a socket is to join later: all or none, each once.
    ///
    /// # Errors
    /// What [`Rooms::join`] would say of one socket's rooms. How many rooms there are is only known when it joins.
    pub fn plan(&self, planned: &mut RoomNames, rooms: RoomNames) -> Result<(), JoinError> {
        let had = planned.len();
        for room in rooms {
            let error = if planned.contains(&room) {
                continue;
            } else if room.len() > self.room_name_bytes {
                JoinError::NameTooLong { got: room.len(), limit: self.room_name_bytes }
            } else if planned.len() >= self.rooms_per_socket {
                JoinError::TooManyRooms { limit: self.rooms_per_socket }
            } else {
                planned.push(room);
                continue;
            };
            planned.truncate(had);
            return Err(error);
        }
        Ok(())
    }
}

/// Why a socket was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// A socket with this id is already here.
    #[error("a socket with the id {0:?} is already here")]
    Taken(RoomName),
}

/// Why a socket did not join. It is then in the rooms it was in before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No socket with this id is here (any more).
    #[error("no such socket")]
    UnknownSocket,
    /// The socket would be in more rooms than [`Limits::rooms_per_socket`].
    #[error("a socket may be in {limit} rooms")]
    TooManyRooms {
        /// The limit in force.
        limit: usize,
    },
    /// A name is longer than [`Limits::room_name_bytes`].
    #[error("a room name of {got} bytes is over the {limit}-byte limit")]
    NameTooLong {
        /// The length of the name, in bytes.
        got: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The policy of the namespace does not let the socket in.
    #[error("the policy does not allow it")]
    Denied,
    /// There would be more rooms than [`Limits::rooms`].
    #[error("all {limit} rooms of this server are in use")]
    Full {
        /// The limit in force.
        limit: usize,
    },
}

/// What a change did to the rooms, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomEvent {
    /// The room has its first member. Node: `create-room`.
    Create(RoomName),
    /// The socket `id` is now in `room`. Node: `join-room`.
    Join {
        /// The room joined.
        room: RoomName,
        /// Who joined.
        id: RoomName,
    },
    /// The socket `id` is no longer in `room`. Node: `leave-room`.
    Leave {
        /// The room left.
        room: RoomName,
        /// Who left.
        id: RoomName,
    },
    /// The room has lost its last member. Node: `delete-room`.
    Delete(RoomName),
}

/// The events of one change; a join or leave of one room fits without an allocation.
pub type RoomEvents = SmallVec<[RoomEvent; 2]>;

/// What [`Rooms::remove`] took out.
#[derive(Debug)]
pub struct Removed<M> {
    /// The handle that was added.
    pub member: M,
    /// The rooms it was in, its own id among them unless it had left that.
    pub rooms: RoomNames,
    /// What the removal did to these rooms.
    pub events: RoomEvents,
}

/// The sockets of one namespace on this server and the rooms they are in.
///
/// `M` is the handle of a socket: cheap to clone, and what a broadcast is sent through. Each socket is added under its id
/// and is then in the room of that name. Joining and leaving cost the same in a room of ten and of a million.
pub struct Rooms<M> {
    limits: Limits,
    /// Ids are ours and random: a fast hash will do.
    ids: hashbrown::HashMap<RoomName, u32>,
    /// Names may be chosen by clients: keyed SipHash.
    names: HashMap<RoomName, u32>,
    /// Sockets by slot.
    sockets: Vec<Option<Socket<M>>>,
    free_slots: Vec<u32>,
    /// Rooms by index. The first is everybody: it has no name and is never deleted.
    rooms: Vec<Room<M>>,
    free_rooms: Vec<u32>,
}

const EVERYBODY: u32 = 0;

struct Socket<M> {
    id: RoomName,
    member: M,
    own: OwnRoom,
    /// The rooms it is in and its position there, everybody first.
    places: SmallVec<[Place; 2]>,
}

/// How a socket is in the room of its own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnRoom {
    /// It is the only member, and no `Room` exists: the usual case costs nothing.
    Implied,
    /// Somebody else has joined too: there is a `Room` like any other.
    Listed,
    /// It has left.
    Left,
}

#[derive(Clone, Copy)]
struct Place {
    room: u32,
    position: u32,
}

struct Room<M> {
    name: Option<RoomName>,
    members: Dense<M>,
}

/// What a room name stands for at the moment.
enum Named {
    Room(u32),
    /// The room of an id whose socket is the only member.
    Own(u32),
    Nothing,
}

impl<M: Clone> Rooms<M> {
    /// Nobody and no rooms.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: hashbrown::HashMap::new(),
            names: HashMap::new(),
            sockets: Vec::new(),
            free_slots: Vec::new(),
            rooms: vec![Room { name: None, members: Dense::new() }],
            free_rooms: Vec::new(),
        }
    }

    /// Adds a socket; it is then in the room of its own id.
    ///
    /// # Errors
    /// [`AddError::Taken`] when the id is already here; nothing has changed then.
    pub fn add(&mut self, id: impl Into<RoomName>, member: M) -> Result<RoomEvents, AddError> {
        let id = id.into();
        if self.ids.contains_key(&id) {
            return Err(AddError::Taken(id));
        }
        // Somebody may have joined a room of this name before.
        let existing = self.names.get(&id).copied();
        let own = if existing.is_some() { OwnRoom::Listed } else { OwnRoom::Implied };
        let socket = Socket { id: id.clone(), member, own, places: SmallVec::new() };
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.sockets[slot as usize] = Some(socket);
                slot
            }
            None => {
                self.sockets.push(Some(socket));
                u32::try_from(self.sockets.len() - 1).expect("fewer than 2^32 sockets fit into memory")
            }
        };
        self.ids.insert(id.clone(), slot);
        self.insert(slot, EVERYBODY);
        let mut events = RoomEvents::new();
        match existing {
            Some(room) => self.insert(slot, room),
            None => events.push(RoomEvent::Create(id.clone())),
        }
        events.push(RoomEvent::Join { room: id.clone(), id });
        Ok(events)
    }

    /// Puts a socket into rooms. Rooms that it is already in are passed over.
    ///
    /// # Errors
    /// [`JoinError`] when one of the rooms cannot be joined; none of them has been joined then.
    pub fn join(&mut self, id: &str, rooms: impl IntoRooms) -> Result<RoomEvents, JoinError> {
        let slot = self.slot(id).ok_or(JoinError::UnknownSocket)?;
        let mut events = RoomEvents::new();
        for name in rooms.into_rooms() {
            if let Err(error) = self.join_one(slot, name, &mut events) {
                for event in events {
                    if let RoomEvent::Join { room, .. } = event {
                        self.leave_one(slot, &room, &mut RoomEvents::new());
                    }
                }
                return Err(error);
            }
        }
        Ok(events)
    }

    /// Takes a socket out of rooms. Rooms that it is not in are passed over, and so is an unknown socket.
    pub fn leave(&mut self, id: &str, rooms: impl IntoRooms) -> RoomEvents {
        let mut events = RoomEvents::new();
        if let Some(slot) = self.slot(id) {
            for name in rooms.into_rooms() {
                self.leave_one(slot, &name, &mut events);
            }
        }
        events
    }

    /// Takes a socket out of all its rooms and forgets it. `None` when it is not here.
    pub fn remove(&mut self, id: &str) -> Option<Removed<M>> {
        let slot = self.ids.remove(id)?;
        let (mut rooms, mut events) = (RoomNames::new(), RoomEvents::new());
        let socket = self.socket(slot);
        let id = socket.id.clone();
        if socket.own == OwnRoom::Implied {
            rooms.push(id.clone());
            events.push(RoomEvent::Leave { room: id.clone(), id: id.clone() });
            events.push(RoomEvent::Delete(id.clone()));
        }
        while let Some(last) = self.socket(slot).places.len().checked_sub(1) {
            if let Some(name) = self.take_out(slot, last, &id, &mut events) {
                rooms.push(name);
            }
        }
        let socket = self.sockets[slot as usize].take()?;
        self.free_slots.push(slot);
        self.shrink();
        Some(Removed { member: socket.member, rooms, events })
    }

    /// Whom `selection` means now, to be walked without the rooms. Cheap: one reference count per 256 members.
    pub fn snapshot(&self, selection: &Selection) -> Snapshot<M> {
        let mut snapshot = Snapshot {
            parts: SmallVec::new(),
            excluded: SmallVec::new(),
            excluded_slots: SmallVec::new(),
            slots: self.sockets.len() as u32,
        };
        if selection.rooms.is_empty() {
            snapshot.parts.push(Part::Room(self.room(EVERYBODY).chunks().clone()));
        }
        for (index, name) in selection.rooms.iter().enumerate() {
            // A room named twice would cost the fast path; a long list is told apart by member anyway.
            if index < 16 && selection.rooms[..index].contains(name) {
                continue;
            }
            match self.named(name) {
                Named::Room(room) => snapshot.parts.push(Part::Room(self.room(room).chunks().clone())),
                Named::Own(slot) => snapshot.parts.push(Part::One(slot, self.socket(slot).member.clone())),
                Named::Nothing => {}
            }
        }
        if !snapshot.parts.is_empty() {
            for name in &selection.except {
                match self.named(name) {
                    Named::Room(room) => snapshot.excluded.push(self.room(room).chunks().clone()),
                    Named::Own(slot) => snapshot.excluded_slots.push(slot),
                    Named::Nothing => {}
                }
            }
        }
        snapshot
    }
}

impl<M> Rooms<M> {
    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many sockets are here.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The socket of this id.
    pub fn get(&self, id: &str) -> Option<&M> {
        self.slot(id).map(|slot| &self.socket(slot).member)
    }

    /// All sockets, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&RoomName, &M)> {
        self.sockets.iter().flatten().map(|socket| (&socket.id, &socket.member))
    }

    /// The rooms a socket is in, its own id among them; none for an unknown socket.
    pub fn rooms_of(&self, id: &str) -> RoomNames {
        let Some(slot) = self.slot(id) else { return RoomNames::new() };
        let socket = self.socket(slot);
        let own = (socket.own == OwnRoom::Implied).then(|| socket.id.clone());
        let listed = socket.places.iter().filter_map(|place| self.rooms[place.room as usize].name.clone());
        own.into_iter().chain(listed).collect()
    }

    /// Whether the socket is in the room.
    pub fn is_in(&self, id: &str, room: &str) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        match self.named(room) {
            Named::Room(room) => self.place(slot, room).is_some(),
            Named::Own(owner) => owner == slot,
            Named::Nothing => false,
        }
    }

    /// The members of a room with their ids, in no particular order; none for an unknown room.
    pub fn members(&self, room: &str) -> impl Iterator<Item = (&RoomName, &M)> {
        let (listed, own) = match self.named(room) {
            Named::Room(room) => (Some(self.room(room)), None),
            Named::Own(slot) => (None, Some(slot)),
            Named::Nothing => (None, None),
        };
        let listed = listed.into_iter().flat_map(|members| members.iter().map(|(slot, _)| slot));
        own.into_iter().chain(listed).map(|slot| (&self.socket(slot).id, &self.socket(slot).member))
    }

    /// How many members a room has; 0 for an unknown room.
    pub fn size(&self, room: &str) -> usize {
        match self.named(room) {
            Named::Room(room) => self.room(room).len(),
            Named::Own(_) => 1,
            Named::Nothing => 0,
        }
    }

    /// All rooms with the number of their members, the rooms of sockets' own ids among them, in no particular order.
    pub fn rooms(&self) -> impl Iterator<Item = (&RoomName, usize)> {
        let own = self.sockets.iter().flatten().filter(|socket| socket.own == OwnRoom::Implied);
        let listed = self.rooms.iter().filter_map(|room| Some((room.name.as_ref()?, room.members.len())));
        own.map(|socket| (&socket.id, 1)).chain(listed)
    }

    /// How many rooms count towards [`Limits::rooms`].
    pub fn room_count(&self) -> usize {
        self.names.len()
    }

    fn slot(&self, id: &str) -> Option<u32> {
        self.ids.get(id).copied()
    }

    fn named(&self, name: &str) -> Named {
        if let Some(room) = self.names.get(name) {
            return Named::Room(*room);
        }
        match self.slot(name) {
            Some(slot) if self.socket(slot).own == OwnRoom::Implied => Named::Own(slot),
            _ => Named::Nothing,
        }
    }

    fn socket(&self, slot: u32) -> &Socket<M> {
        self.sockets[slot as usize].as_ref().expect("slots are handed out for living sockets only")
    }

    fn socket_mut(&mut self, slot: u32) -> &mut Socket<M> {
        self.sockets[slot as usize].as_mut().expect("slots are handed out for living sockets only")
    }

    fn room(&self, room: u32) -> &Dense<M> {
        &self.rooms[room as usize].members
    }

    /// Where in the socket's list of places `room` stands.
    fn place(&self, slot: u32, room: u32) -> Option<usize> {
        self.socket(slot).places.iter().position(|place| place.room == room)
    }
}

impl<M: Clone> Rooms<M> {
    fn join_one(&mut self, slot: u32, name: RoomName, events: &mut RoomEvents) -> Result<(), JoinError> {
        let named = self.named(&name);
        match named {
            Named::Room(room) if self.place(slot, room).is_some() => return Ok(()),
            Named::Own(owner) if owner == slot => return Ok(()),
            _ => {}
        }
        let id = self.socket(slot).id.clone();
        if name == id {
            // It comes back to its own room: no limit counts that.
            match named {
                Named::Room(room) => {
                    self.socket_mut(slot).own = OwnRoom::Listed;
                    self.insert(slot, room);
                }
                Named::Own(_) | Named::Nothing => {
                    self.socket_mut(slot).own = OwnRoom::Implied;
                    events.push(RoomEvent::Create(id.clone()));
                }
            }
            events.push(RoomEvent::Join { room: name, id });
            return Ok(());
        }
        let limits = &self.limits;
        if name.len() > limits.room_name_bytes {
            return Err(JoinError::NameTooLong { got: name.len(), limit: limits.room_name_bytes });
        }
        if self.counted_rooms(slot) >= limits.rooms_per_socket {
            return Err(JoinError::TooManyRooms { limit: limits.rooms_per_socket });
        }
        let room = match named {
            Named::Room(room) => room,
            Named::Own(_) | Named::Nothing if self.names.len() >= limits.rooms => {
                return Err(JoinError::Full { limit: limits.rooms });
            }
            Named::Own(owner) => {
                let room = self.create(name.clone());
                self.socket_mut(owner).own = OwnRoom::Listed;
                self.insert(owner, room);
                room
            }
            Named::Nothing => {
                events.push(RoomEvent::Create(name.clone()));
                self.create(name.clone())
            }
        };
        self.insert(slot, room);
        events.push(RoomEvent::Join { room: name, id });
        Ok(())
    }

    fn leave_one(&mut self, slot: u32, name: &RoomName, events: &mut RoomEvents) {
        match self.named(name) {
            Named::Room(room) => {
                if let Some(place) = self.place(slot, room) {
                    let id = self.socket(slot).id.clone();
                    self.take_out(slot, place, &id, events);
                }
            }
            Named::Own(owner) if owner == slot => {
                let socket = self.socket_mut(slot);
                socket.own = OwnRoom::Left;
                events.push(RoomEvent::Leave { room: name.clone(), id: socket.id.clone() });
                events.push(RoomEvent::Delete(name.clone()));
            }
            Named::Own(_) | Named::Nothing => {}
        }
    }

    /// How many rooms of this socket count towards the limit: neither everybody nor its own.
    fn counted_rooms(&self, slot: u32) -> usize {
        let socket = self.socket(slot);
        socket.places.len() - 1 - usize::from(socket.own == OwnRoom::Listed)
    }

    fn create(&mut self, name: RoomName) -> u32 {
        let room = Room { name: Some(name.clone()), members: Dense::new() };
        let index = match self.free_rooms.pop() {
            Some(index) => {
                self.rooms[index as usize] = room;
                index
            }
            None => {
                self.rooms.push(room);
                u32::try_from(self.rooms.len() - 1).expect("fewer than 2^32 rooms fit into memory")
            }
        };
        self.names.insert(name, index);
        index
    }

    fn insert(&mut self, slot: u32, room: u32) {
        let socket = self.sockets[slot as usize].as_mut().expect("slots are handed out for living sockets only");
        let members = &mut self.rooms[room as usize].members;
        let position = members.push(slot, socket.member.clone(), socket.places.len() as u32);
        socket.places.push(Place { room, position });
    }

    /// Takes the socket out of the room at `index` of its places and returns the room's name. Deletes an empty room.
    fn take_out(&mut self, slot: u32, index: usize, id: &RoomName, events: &mut RoomEvents) -> Option<RoomName> {
        let socket = self.socket_mut(slot);
        let Place { room, position } = socket.places.swap_remove(index);
        // Whatever now stands at `index` has to be found there.
        if let Some(moved) = socket.places.get(index).copied() {
            self.rooms[moved.room as usize].members.set_back(moved.position, index as u32);
        }
        if let Some(Moved { slot, back }) = self.rooms[room as usize].members.swap_remove(position) {
            self.socket_mut(slot).places[back as usize].position = position;
        }
        let name = self.rooms[room as usize].name.clone()?;
        if name == *id {
            self.socket_mut(slot).own = OwnRoom::Left;
        }
        events.push(RoomEvent::Leave { room: name.clone(), id: id.clone() });
        if self.rooms[room as usize].members.len() == 0 {
            self.rooms[room as usize] = Room { name: None, members: Dense::new() };
            self.names.remove(&name);
            self.free_rooms.push(room);
            self.shrink();
            events.push(RoomEvent::Delete(name.clone()));
        }
        Some(name)
    }
}

/// Whether a table holds so much less than it could that it is worth making a smaller one.
pub(crate) fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > 64 && len < capacity / 8
}

impl<M> Rooms<M> {
    /// Gives memory back when most have left. What it costs has been paid by those who left.
    fn shrink(&mut self) {
        if is_roomy(self.ids.len(), self.ids.capacity()) {
            self.ids.shrink_to(self.ids.len() * 2);
        }
        if is_roomy(self.names.len(), self.names.capacity()) {
            self.names.shrink_to(self.names.len() * 2);
        }
        // The living keep their places, so these lists wait for the last one.
        if self.free_slots.len() == self.sockets.len() && is_roomy(0, self.sockets.capacity()) {
            (self.sockets, self.free_slots) = (Vec::new(), Vec::new());
        }
        if self.names.is_empty() && is_roomy(0, self.rooms.capacity()) {
            self.rooms.truncate(1);
            self.rooms.shrink_to_fit();
            self.free_rooms = Vec::new();
        }
    }
}

impl<M: Clone> Default for Rooms<M> {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl<M> fmt::Debug for Rooms<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms")
            .field("sockets", &self.ids.len())
            .field("rooms", &self.names.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_leaves_no_trace() {
        let mut rooms = Rooms::default();
        for round in 0..1_000 {
            for id in ["ann", "bob"] {
                rooms.add(format!("{id} {round}"), ()).unwrap();
                rooms
                    .join(&format!("{id} {round}"), [format!("a {round}"), format!("b {round}"), "c".to_owned()])
                    .unwrap();
            }
            rooms.leave(&format!("ann {round}"), format!("a {round}"));
            for id in ["bob", "ann"] {
                rooms.remove(&format!("{id} {round}")).unwrap();
            }
        }
        assert_eq!((rooms.ids.len(), rooms.names.len()), (0, 0));
        assert_eq!((rooms.sockets.len(), rooms.free_slots.len()), (2, 2));
        assert_eq!((rooms.rooms.len(), rooms.free_rooms.len()), (4, 3));
        assert_eq!(rooms.room(EVERYBODY).len(), 0);
    }

    #[test]
    fn when_a_crowd_has_left_its_memory_is_free() {
        let mut rooms = Rooms::default();
        let id = |number: u32| format!("socket {number}");
        for number in 0..10_000 {
            rooms.add(id(number), ()).unwrap();
            rooms.join(&id(number), [format!("room {number}"), "all".to_owned()]).unwrap();
        }
        for number in 10..10_000 {
            rooms.remove(&id(number)).unwrap();
        }
        // Ten are left, and find themselves.
        assert!(
            rooms.ids.capacity() < 200 && rooms.names.capacity() < 200,
            "{} {}",
            rooms.ids.capacity(),
            rooms.names.capacity()
        );
        assert!((0..10).all(|number| rooms.is_in(&id(number), &format!("room {number}"))));
        assert_eq!((rooms.size("all"), rooms.len()), (10, 10));
        for number in 0..10 {
            rooms.remove(&id(number)).unwrap();
        }
        assert_eq!((rooms.sockets.capacity(), rooms.free_slots.capacity()), (0, 0));
        assert_eq!((rooms.rooms.len(), rooms.rooms.capacity(), rooms.free_rooms.capacity()), (1, 1, 0));
        assert!(rooms.room(EVERYBODY).capacity() < 200);
        rooms.add("next", ()).unwrap();
        assert!(rooms.is_in("next", "next"));
    }
}
