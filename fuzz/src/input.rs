//! Reading operations from bytes, and randomness that depends on nothing but its seed.

/// A small generator of random numbers (xorshift64*), the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        // Zero is the one state that never changes.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A generator whose numbers depend on these bytes.
    pub(crate) fn of(data: &[u8]) -> Self {
        Self::new(
            data.iter()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 16) as usize % end.max(1)
    }
}

/// `data` in pieces of random lengths, most of them short. The same data is always cut the same way.
pub(crate) fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut random = Random::of(data);
    let most = [3, 17, 200][random.below(3)];
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.below(most).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Bytes that are read as a list of operations.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// A small number: the value of a digit, of a letter behind the digits as in base 36, of any other byte itself.
    pub(crate) fn number(&mut self) -> usize {
        let byte = self.byte().unwrap_or(b'0');
        char::from(byte).to_digit(36).map_or(usize::from(byte), |digit| digit as usize)
    }

    /// As many bytes as a number in front of them says, or fewer at the end.
    pub(crate) fn counted(&mut self) -> &'a [u8] {
        let count = self.number();
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}
