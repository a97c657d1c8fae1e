//! Offsets as they travel: a prefix that tells whose they are, and a number.

use std::fmt;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PREFIX: usize = 6;
const DIGITS: usize = 8;

/// An offset: 14 characters that say up to which packet a client has everything.
///
/// All offsets have the same length, so that one can be written into a packet that was encoded with a
/// [`placeholder`](Offsets::placeholder).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offset([u8; Self::LEN]);

/// Writes and reads the offsets of one log.
#[derive(Debug, Clone)]
pub struct Offsets {
    prefix: [u8; PREFIX],
}

/// What a text stands for that a client gave as its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetKind {
    /// A number of this log.
    Ours(u64),
    /// An offset of another log: another server, another namespace, or this one before it was restarted.
    Foreign,
    /// No offset.
    Malformed,
}

impl Offset {
    /// How many bytes every offset has.
    pub const LEN: usize = PREFIX + DIGITS;

    /// The offset as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl Offsets {
    /// Offsets that begin with 36 bits of `random`.
    pub fn new(random: u64) -> Self {
        let mut prefix = [0; PREFIX];
        write(random, &mut prefix);
        Self { prefix }
    }

    /// The offset of a number. Numbers from 2^48 on begin again, after nine years of a million packets a second.
    pub fn write(&self, number: u64) -> Offset {
        let mut text = [0; Offset::LEN];
        let (prefix, digits) = text.split_at_mut(PREFIX);
        prefix.copy_from_slice(&self.prefix);
        write(number, digits);
        Offset(text)
    }

    /// What is no offset and as long as one.
    pub fn placeholder(&self) -> Offset {
        let mut text = [b'.'; Offset::LEN];
        text[..PREFIX].copy_from_slice(&self.prefix);
        Offset(text)
    }

    /// Whether a text is an offset of this log.
    pub fn knows(&self, text: &str) -> bool {
        matches!(self.read(text), OffsetKind::Ours(_))
    }

    /// Reads what a client sent.
    pub fn read(&self, text: &str) -> OffsetKind {
        let Ok(bytes) = <&[u8; Offset::LEN]>::try_from(text.as_bytes()) else { return OffsetKind::Malformed };
        let (prefix, digits) = bytes.split_at(PREFIX);
        match (read(prefix), read(digits)) {
            (Some(_), Some(number)) if prefix == self.prefix => OffsetKind::Ours(number),
            (Some(_), Some(_)) => OffsetKind::Foreign,
            _ => OffsetKind::Malformed,
        }
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The low bits of `number`, six to a character, the highest first.
fn write(number: u64, text: &mut [u8]) {
    for (place, character) in text.iter_mut().rev().enumerate() {
        *character = ALPHABET[(number >> (6 * place) & 63) as usize];
    }
}

fn read(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, character| {
        let digit = ALPHABET.iter().position(|letter| letter == character)?;
        Some(number << 6 | digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_prefix_and_a_number() {
        let offsets = Offsets::new(0x0123_4567_89ab);
        for number in [0, 1, 63, 64, 4_095, 4_096, u64::from(u32::MAX), (1 << 48) - 1] {
            let offset = offsets.write(number);
            assert_eq!(offset.as_str().len(), Offset::LEN);
            assert_eq!(offsets.read(offset.as_str()), OffsetKind::Ours(number));
            assert_eq!(Offsets::new(7).read(offset.as_str()), OffsetKind::Foreign);
        }
        assert_eq!(offsets.write(0).as_str(), "NFZ4mrAAAAAAAA");
        assert_eq!(offsets.write(1).as_str(), "NFZ4mrAAAAAAAB");
        assert_eq!(offsets.write(64).as_str(), "NFZ4mrAAAAAABA");
        assert_eq!(offsets.placeholder().as_str(), "NFZ4mr........");
    }

    #[test]
    fn what_is_no_offset_is_told_apart() {
        let offsets = Offsets::new(1);
        for text in
            ["", "0-0", "+", "$", "connected", "AAAAABAAAAAAAA=", "AAAAAB........", "AAAAABAAAAAA\u{e4}", "MzUPkW0"]
        {
            assert_eq!(offsets.read(text), OffsetKind::Malformed, "{text}");
        }
        assert_eq!(offsets.read(&"A".repeat(1 << 20)), OffsetKind::Malformed);
        assert_eq!(offsets.read(offsets.placeholder().as_str()), OffsetKind::Malformed);
    }
}
