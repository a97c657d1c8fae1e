//! Whom a broadcast reaches, frozen at one moment.
//!
//! Taking a snapshot clones chunk references only. Members that several rooms select and members of excluded rooms are
//! told apart while walking, by slot, when the rooms are no longer locked.

use std::fmt;

use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::dense::Chunks;

/// The members a [`Selection`](crate::Selection) meant when it was taken. Later joins and leaves do not change it.
pub struct Snapshot<M> {
    pub(crate) parts: SmallVec<[Part<M>; 1]>,
    pub(crate) excluded: SmallVec<[Chunks<M>; 1]>,
    pub(crate) excluded_slots: SmallVec<[u32; 2]>,
    /// Every slot is below this.
    pub(crate) slots: u32,
}

/// The members of one selected room.
pub(crate) enum Part<M> {
    Room(Chunks<M>),
    /// A socket addressed by its id.
    One(u32, M),
}

impl<M> Snapshot<M> {
    /// Whether it reaches nobody.
    pub fn is_empty(&self) -> bool {
        if self.excluded.is_empty() && self.excluded_slots.is_empty() {
            return self.upper_bound() == 0;
        }
        self.iter().next().is_none()
    }

    /// How many members it reaches at most; exact for one room or everybody without exceptions.
    pub fn upper_bound(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// The members, each once.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        let mut walk = Walk::new(self);
        std::iter::from_fn(move || walk.step(&self.parts).map(|place| place.of(&self.parts)))
    }

    /// Walks the members at the caller's pace: the walk can be put aside and resumed.
    pub fn recipients(self) -> Recipients<M> {
        Recipients { walk: Walk::new(&self), parts: self.parts }
    }
}

impl<M: Clone> IntoIterator for Snapshot<M> {
    type Item = M;
    type IntoIter = Recipients<M>;

    fn into_iter(self) -> Recipients<M> {
        self.recipients()
    }
}

impl<M: fmt::Debug> fmt::Debug for Snapshot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A walk over a [`Snapshot`], member by member.
///
/// As an iterator it clones the handles; [`next_ref`](Self::next_ref) lends them.
pub struct Recipients<M> {
    parts: SmallVec<[Part<M>; 1]>,
    walk: Walk,
}

impl<M> Recipients<M> {
    /// The next member, or `None` when all have been seen.
    pub fn next_ref(&mut self) -> Option<&M> {
        self.walk.step(&self.parts).map(|place| place.of(&self.parts))
    }
}

impl<M: Clone> Iterator for Recipients<M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        self.next_ref().cloned()
    }
}

impl<M> fmt::Debug for Recipients<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipients").finish_non_exhaustive()
    }
}

impl<M> Part<M> {
    fn len(&self) -> usize {
        match self {
            Part::Room(chunks) => length(chunks),
            Part::One(..) => 1,
        }
    }
}

/// Where the walk stands, and whom it must not hand out.
struct Walk {
    place: Place,
    /// Members of excluded rooms and, when several rooms are walked, those already seen.
    hidden: Slots,
    /// There is somebody to hide.
    hides: bool,
    /// Several rooms may share members.
    several: bool,
}

#[derive(Clone, Copy)]
struct Place {
    part: usize,
    chunk: usize,
    index: usize,
}

impl Walk {
    fn new<M>(snapshot: &Snapshot<M>) -> Self {
        let several = snapshot.parts.len() > 1;
        let mut expected = snapshot.excluded_slots.len() + snapshot.excluded.iter().map(length).sum::<usize>();
        if several {
            expected += snapshot.upper_bound();
        }
        let mut hidden = Slots::for_about(expected, snapshot.slots);
        for slot in &snapshot.excluded_slots {
            hidden.insert(*slot);
        }
        for slot in snapshot.excluded.iter().flatten().flat_map(|chunk| &chunk.slots) {
            hidden.insert(*slot);
        }
        Self { place: Place { part: 0, chunk: 0, index: 0 }, hidden, hides: expected > 0, several }
    }

    fn step<M>(&mut self, parts: &[Part<M>]) -> Option<Place> {
        loop {
            let slot = match parts.get(self.place.part)? {
                Part::One(slot, _) if self.place.index == 0 => Some(*slot),
                Part::One(..) => None,
                Part::Room(chunks) => {
                    let next = chunks.get(self.place.chunk).map(|chunk| chunk.slots.get(self.place.index).copied());
                    match next {
                        Some(Some(slot)) => Some(slot),
                        Some(None) => {
                            self.place.chunk += 1;
                            self.place.index = 0;
                            continue;
                        }
                        None => None,
                    }
                }
            };
            let Some(slot) = slot else {
                self.place = Place { part: self.place.part + 1, chunk: 0, index: 0 };
                continue;
            };
            let place = self.place;
            self.place.index += 1;
            let fresh = match (self.several, self.hides) {
                (true, _) => self.hidden.insert(slot),
                (false, true) => !self.hidden.contains(slot),
                (false, false) => true,
            };
            if fresh {
                return Some(place);
            }
        }
    }
}

impl Place {
    fn of<M>(self, parts: &[Part<M>]) -> &M {
        match &parts[self.part] {
            Part::Room(chunks) => &chunks[self.chunk].members[self.index],
            Part::One(_, member) => member,
        }
    }
}

/// A set of slots, in the form that suits how many there will be.
enum Slots {
    /// The usual exception is the sender alone: a compare per recipient.
    Few(SmallVec<[u32; FEW]>),
    /// Many of all: a bit each.
    Bits(Vec<u64>),
    /// Some of very many: clearing a bit per slot would cost more than the walk.
    Hashed(HashSet<u32>),
}

const FEW: usize = 8;

impl Slots {
    fn for_about(expected: usize, slots: u32) -> Self {
        let words = slots as usize / 64 + 1;
        if expected <= FEW {
            Self::Few(SmallVec::new())
        } else if words <= expected * 4 {
            Self::Bits(vec![0; words])
        } else {
            Self::Hashed(HashSet::with_capacity(expected))
        }
    }

    fn contains(&self, slot: u32) -> bool {
        match self {
            Self::Few(few) => few.contains(&slot),
            Self::Bits(words) => words[slot as usize / 64] & (1 << (slot % 64)) != 0,
            Self::Hashed(set) => set.contains(&slot),
        }
    }

    /// Adds `slot` and tells whether it was missing.
    fn insert(&mut self, slot: u32) -> bool {
        match self {
            Self::Few(few) => {
                let fresh = !few.contains(&slot);
                if fresh {
                    few.push(slot);
                }
                fresh
            }
            Self::Bits(words) => {
                let (word, bit) = (&mut words[slot as usize / 64], 1 << (slot % 64));
                let fresh = *word & bit == 0;
                *word |= bit;
                fresh
            }
            Self::Hashed(set) => set.insert(slot),
        }
    }
}

fn length<M>(chunks: &Chunks<M>) -> usize {
    chunks.iter().map(|chunk| chunk.slots.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_slots_is_the_same_set_in_every_form() {
        check(3, 1_000_000, "few");
        check(1_000, 1_000, "bits");
        check(1_000, 1_000_000, "hashed");

        #[track_caller]
        fn check(expected: usize, slots: u32, form: &str) {
            let mut set = Slots::for_about(expected, slots);
            let got = match set {
                Slots::Few(_) => "few",
                Slots::Bits(_) => "bits",
                Slots::Hashed(_) => "hashed",
            };
            assert_eq!(got, form);
            for slot in [0, slots - 1, 64, 63] {
                assert!(!set.contains(slot));
                assert!(set.insert(slot));
                assert!(!set.insert(slot));
                assert!(set.contains(slot));
            }
            assert!(!set.contains(1) && !set.contains(65));
        }
    }
}
