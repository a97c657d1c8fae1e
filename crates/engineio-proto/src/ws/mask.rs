//! Masking (RFC 6455 §5.3): XOR with four repeating bytes, the one step that touches every byte of a client's frames.

/// XORs `data` with `mask`, where `data` begins `offset` bytes into the payload. Doing it twice gives the data back.
pub fn mask_in_place(data: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset & 3);
    // Blocks of 32 bytes without a bound inside: the compiler turns them into vector instructions.
    let mut wide = [0; 32];
    for (i, byte) in wide.iter_mut().enumerate() {
        *byte = mask[i & 3];
    }
    let (blocks, rest) = data.as_chunks_mut::<32>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(&wide) {
            *byte ^= key;
        }
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(&mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_example() {
        let mut data = *b"Hello";
        mask_in_place(&mut data, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(data, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn every_length_and_offset_agrees_with_the_definition() {
        let mask = [0x11, 0x82, 0xf3, 0x64];
        for len in 0..130 {
            for offset in 0..9 {
                let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let want: Vec<u8> = data.iter().enumerate().map(|(i, b)| b ^ mask[(i + offset) % 4]).collect();
                let mut got = data;
                mask_in_place(&mut got, mask, offset);
                assert_eq!(got, want, "len {len} offset {offset}");
            }
        }
    }
}
