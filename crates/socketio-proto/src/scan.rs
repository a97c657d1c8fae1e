//! Looking for the few bytes that matter in a JSON string, as fast as safe code can.
//!
//! Eight bytes at a time for short strings, as wide as the machine allows for long ones. All bytes looked for are ASCII, so
//! what they cut apart is text on both sides.

/// How far a quote, a backslash or a control character is: what ends a plain piece of a string, whether it is read or
/// written. The length when there is none.
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    // Most keys and many values end within two words.
    let Some((one, rest)) = bytes.split_first_chunk() else { return short_plain_len(bytes) };
    let found = special(*one);
    if found != 0 {
        return first(found);
    }
    let Some((two, rest)) = rest.split_first_chunk() else { return 8 + short_plain_len(rest) };
    let found = special(*two);
    if found != 0 {
        return 8 + first(found);
    }
    16 + more_plain_len(rest)
}

#[inline(never)]
fn more_plain_len(bytes: &[u8]) -> usize {
    match bytes.split_at_checked(32) {
        Some((beginning, rest)) => {
            let plain = plain_len_by_words(beginning);
            if plain < beginning.len() { plain } else { plain + long_plain_len(rest) }
        }
        None => plain_len_by_words(bytes),
    }
}

#[inline]
fn plain_len_by_words(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, more)) = rest.split_first_chunk() {
        let found = special(*word);
        if found != 0 {
            return bytes.len() - rest.len() + first(found);
        }
        rest = more;
    }
    bytes.len() - rest.len() + short_plain_len(rest)
}

/// The same for less than eight bytes.
#[inline]
fn short_plain_len(bytes: &[u8]) -> usize {
    // Two halves that may overlap, or three bytes that may be the same: only whether one is special counts.
    let word = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(&[a, b, c, d]), Some(&[e, f, g, h]), _) => [a, b, c, d, e, f, g, h],
        (_, _, [first, .., last]) => {
            let middle = bytes.get(1).unwrap_or(first);
            [*first, *middle, *last, b'x', b'x', b'x', b'x', b'x']
        }
        (_, _, [only]) => return usize::from(!is_special(*only)),
        _ => return 0,
    };
    if special(word) == 0 { bytes.len() } else { bytes.iter().take_while(|byte| !is_special(**byte)).count() }
}

const NARROW: usize = 64;
/// Long enough to make the calls cheap, short enough to throw little away when something is found in it.
const WIDE: usize = 1 << 10;

#[inline(never)]
fn long_plain_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for _ in 0..4 {
        let Some((block, more)) = rest.split_first_chunk::<NARROW>() else { break };
        // Without a branch inside, so that the compiler makes it wide.
        if block.iter().fold(false, |found, &byte| found | is_special(byte)) {
            return bytes.len() - rest.len() + plain_len_by_words(block);
        }
        rest = more;
    }
    while !rest.is_empty() {
        let (block, more) = rest.split_at_checked(WIDE).unwrap_or((rest, &[]));
        let end = memchr::memchr2(b'"', b'\\', block);
        let clean = block.get(..end.unwrap_or(block.len())).unwrap_or_default();
        let is_clean = clean.iter().fold(u8::MAX, |least, &byte| least.min(byte)) >= b' ';
        if end.is_some() || !is_clean {
            let plain = if is_clean { clean.len() } else { plain_len_by_words(clean) };
            return bytes.len() - rest.len() + plain;
        }
        rest = more;
    }
    bytes.len()
}

fn is_special(byte: u8) -> bool {
    // Turning this bit changes quote and space into each other's neighbourhood: what was below the space still is, and the
    // quote is the space now.
    byte ^ 2 <= b' ' || byte == b'\\'
}

/// Has the highest bit of the first special byte set, and none below it; bits above may be wrong.
#[inline]
fn special(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(word);
    // [`is_special`] for eight. A subtraction reaches the highest bit where the byte was smaller, or too large to begin with.
    let quote_or_control = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & (ONES << 7)
}

/// The first byte of a word whose highest bit is set.
#[inline]
fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        // Over all borders: of words, of the narrow blocks, of the wide ones.
        let lengths = (0..160).chain([250, 303, 304, 305, 350, 1_327, 1_328, 1_329, 1_400, 2_400]);
        for len in lengths {
            for fill in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                let mut bytes = vec![fill; len];
                check(&bytes);
                let places = (0..len).filter(|place| len < 160 || place % 37 == 0 || place % 64 < 2 || place + 3 > len);
                for place in places {
                    for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                        bytes[place] = special;
                        check(&bytes);
                        bytes[len - 1] = b'\\';
                        check(&bytes);
                        bytes[place] = fill;
                        bytes[len - 1] = fill;
                    }
                }
            }
        }

        #[track_caller]
        fn check(bytes: &[u8]) {
            let special = bytes.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            assert_eq!(plain_len(bytes), special.unwrap_or(bytes.len()), "{bytes:?}");
        }
    }

    #[test]
    fn every_pair_of_bytes_is_judged_by_its_first_special_one() {
        for pair in 0..=u16::MAX {
            let [one, two] = pair.to_le_bytes();
            let mut bytes = [b'x'; 16];
            bytes[3] = one;
            bytes[4] = two;
            let special = bytes.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(16);
            assert_eq!(plain_len(&bytes), special, "{bytes:?}");
        }
    }
}
