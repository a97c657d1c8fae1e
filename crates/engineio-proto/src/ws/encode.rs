//! Frames on their way out: headers for data frames, whole control frames.

use super::{MAX_CONTROL_PAYLOAD, MAX_HEADER, Opcode, is_valid_close_code, mask_in_place};

/// Writes the header of one frame into `out` and returns how many bytes it takes (2 to 14).
///
/// `len` is the length of the payload; a client passes the `mask` it applies to that payload, a server passes `None`.
/// `rsv1` marks the first frame of a compressed message. The length takes its shortest form.
pub fn encode_header(
    opcode: Opcode,
    fin: bool,
    rsv1: bool,
    len: usize,
    mask: Option<[u8; 4]>,
    out: &mut [u8; MAX_HEADER],
) -> usize {
    let mask_bit = u8::from(mask.is_some()) << 7;
    out[0] = u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode as u8;
    let mut at = if len < 126 {
        out[1] = mask_bit | len as u8;
        2
    } else if let Ok(short) = u16::try_from(len) {
        out[1] = mask_bit | 126;
        out[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        out[1] = mask_bit | 127;
        out[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        10
    };
    if let Some(mask) = mask {
        out[at..at + 4].copy_from_slice(&mask);
        at += 4;
    }
    at
}

/// Appends a whole, final frame to `out`: header and payload, masked when there is a mask.
pub fn encode_message(opcode: Opcode, rsv1: bool, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut header = [0; MAX_HEADER];
    let len = encode_header(opcode, true, rsv1, payload.len(), mask, &mut header);
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        mask_in_place(&mut out[at..], mask, 0);
    }
}

/// A whole control frame; derefs to its bytes.
#[derive(Debug, Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; MAX_CONTROL_PAYLOAD + 6],
    len: u8,
}

impl std::ops::Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Builds a ping, pong or close frame. A payload over 125 bytes is cut there.
pub fn encode_control(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> ControlFrame {
    let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
    let mut header = [0; MAX_HEADER];
    let at = encode_header(opcode, true, false, payload.len(), mask, &mut header);
    let mut bytes = [0; MAX_CONTROL_PAYLOAD + 6];
    let end = at + payload.len();
    bytes[..at].copy_from_slice(&header[..at]);
    bytes[at..end].copy_from_slice(payload);
    if let Some(mask) = mask {
        mask_in_place(&mut bytes[at..end], mask, 0);
    }
    ControlFrame { bytes, len: end as u8 }
}

/// Builds a Close frame; see [`close_payload`] for what happens to the code and the reason.
pub fn encode_close(code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) -> ControlFrame {
    let mut payload = [0; MAX_CONTROL_PAYLOAD];
    let len = close_payload(code, reason, &mut payload);
    encode_control(Opcode::Close, &payload[..len], mask)
}

/// Writes the payload of a Close frame into `out` and returns its length.
///
/// No code, or one that may not be sent (1005, 1006, 1015, …), gives an empty payload. The reason is cut at the last
/// character that ends within 123 bytes.
pub fn close_payload(code: Option<u16>, reason: &str, out: &mut [u8; MAX_CONTROL_PAYLOAD]) -> usize {
    let Some(code) = code.filter(|code| is_valid_close_code(*code)) else { return 0 };
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    let end = 2 + reason.len();
    out[..2].copy_from_slice(&code.to_be_bytes());
    out[2..end].copy_from_slice(reason.as_bytes());
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_the_shortest_form() {
        const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);
        check(Opcode::Text, true, false, 0, None, &[0x81, 0]);
        check(Opcode::Text, false, false, 3, None, &[0x01, 3]);
        check(Opcode::Continuation, true, false, 2, None, &[0x80, 2]);
        check(Opcode::Text, true, true, 7, None, &[0xc1, 7]);
        check(Opcode::Binary, true, false, 125, MASK, &[0x82, 0xfd, 1, 2, 3, 4]);
        check(Opcode::Binary, true, false, 126, None, &[0x82, 0x7e, 0, 126]);
        check(Opcode::Binary, true, false, 256, None, &[0x82, 0x7e, 1, 0]);
        check(Opcode::Binary, true, false, 65_535, MASK, &[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4]);
        check(Opcode::Binary, true, false, 65_536, None, &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        check(Opcode::Text, true, false, 65_536, MASK, &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]);

        #[track_caller]
        fn check(opcode: Opcode, fin: bool, rsv1: bool, len: usize, mask: Option<[u8; 4]>, want: &[u8]) {
            let mut out = [0; MAX_HEADER];
            let got = encode_header(opcode, fin, rsv1, len, mask, &mut out);
            assert_eq!(&out[..got], want);
        }
    }

    #[test]
    fn the_specifications_control_frames() {
        assert_eq!(*encode_control(Opcode::Ping, b"Hello", None), *b"\x89\x05Hello");
        let pong = encode_control(Opcode::Pong, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(*pong, [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(encode_control(Opcode::Pong, &[7; 126], Some([0; 4])).len(), 131);
    }

    #[test]
    fn close_frames_carry_only_what_may_be_sent() {
        check(None, "ignored", b"\x88\x00");
        check(Some(1000), "", b"\x88\x02\x03\xe8");
        check(Some(1002), "no", b"\x88\x04\x03\xeano");
        check(Some(1005), "no", b"\x88\x00");
        check(Some(1006), "", b"\x88\x00");
        check(Some(1015), "", b"\x88\x00");
        check(Some(2999), "", b"\x88\x00");
        let long = "é".repeat(80);
        let frame = encode_close(Some(4999), &long, None);
        assert_eq!(&frame[..4], b"\x88\x7c\x13\x87");
        assert_eq!(&frame[4..], &long.as_bytes()[..122]);

        #[track_caller]
        fn check(code: Option<u16>, reason: &str, want: &[u8]) {
            assert_eq!(*encode_close(code, reason, None), *want);
        }
    }
}
