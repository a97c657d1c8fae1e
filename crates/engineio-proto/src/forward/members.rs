//! Which servers there are to forward to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ServerTag;

/// The other servers, by their signs of life. Bounded: made-up names push nobody out that is known.
#[derive(Debug, Clone)]
pub struct Members {
    own: ServerTag,
    patience: Duration,
    most: usize,
    seen: BTreeMap<ServerTag, Instant>,
}

/// What a sign of life came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A server that was not known.
    New,
    /// One that was.
    Known,
    /// This server itself.
    Own,
    /// One too many.
    Refused,
}

impl Members {
    /// Nobody yet. Who is silent for longer than `patience` counts as gone; at most `most` are known.
    pub fn new(own: ServerTag, patience: Duration, most: usize) -> Self {
        Self { own, patience, most, seen: BTreeMap::new() }
    }

    /// A server has given a sign of life.
    pub fn hear(&mut self, now: Instant, tag: ServerTag) -> Heard {
        if tag == self.own {
            return Heard::Own;
        }
        if let Some(seen) = self.seen.get_mut(&tag) {
            *seen = now;
            return Heard::Known;
        }
        if self.seen.len() >= self.most {
            return Heard::Refused;
        }
        self.seen.insert(tag, now);
        Heard::New
    }

    /// A server has said goodbye. Returns whether it was known.
    pub fn leave(&mut self, tag: &ServerTag) -> bool {
        self.seen.remove(tag).is_some()
    }

    /// Whether a server is there, as far as is known.
    pub fn knows(&self, tag: &ServerTag) -> bool {
        self.seen.contains_key(tag)
    }

    /// How many others there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is nobody else.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Nobody could be heard until now: that was nobody's fault.
    pub fn excuse(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            *seen = now;
        }
    }

    /// Takes those out that have been silent for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<ServerTag> {
        let patience = self.patience;
        let gone: Vec<ServerTag> = self
            .seen
            .iter()
            .filter(|(_, seen)| now.saturating_duration_since(**seen) >= patience)
            .map(|(tag, _)| *tag)
            .collect();
        for tag in &gone {
            self.seen.remove(tag);
        }
        gone
    }

    /// When the next one will have been silent for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.seen.values().min().map(|seen| *seen + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u8) -> ServerTag {
        ServerTag::random([number; 6])
    }

    #[test]
    fn who_is_silent_is_gone_and_who_is_excused_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::new(tag(0), Duration::from_secs(10), 3);
        assert_eq!(members.hear(at(0), tag(0)), Heard::Own);
        assert!(members.is_empty() && members.deadline().is_none());
        assert_eq!(members.hear(at(0), tag(1)), Heard::New);
        assert_eq!(members.hear(at(4), tag(2)), Heard::New);
        assert_eq!(members.hear(at(6), tag(1)), Heard::Known);
        assert_eq!(members.deadline(), Some(at(14)));
        assert_eq!(members.expire(at(13)), []);
        assert_eq!(members.expire(at(14)), [tag(2)]);
        assert!(members.knows(&tag(1)) && !members.knows(&tag(2)));
        members.excuse(at(100));
        assert_eq!(members.expire(at(109)), []);
        assert_eq!(members.expire(at(110)), [tag(1)]);
    }

    #[test]
    fn made_up_names_push_nobody_out() {
        let now = Instant::now();
        let mut members = Members::new(tag(0), Duration::from_secs(10), 3);
        for number in 1..=3 {
            assert_eq!(members.hear(now, tag(number)), Heard::New);
        }
        assert_eq!(members.hear(now, tag(4)), Heard::Refused);
        assert_eq!(members.hear(now, tag(3)), Heard::Known);
        assert_eq!(members.len(), 3);
        assert!(members.leave(&tag(1)) && !members.leave(&tag(1)));
        assert_eq!(members.hear(now, tag(4)), Heard::New);
    }
}
