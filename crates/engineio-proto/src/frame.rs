//! An outgoing message, built once and shared by every recipient.
//!
//! A server's WebSocket frames are unmasked, so the bytes of a message are the same for everybody. A [`Frame`] holds them
//! in one buffer: the WebSocket header, the Engine.IO packet type, the data. A WebSocket writes the whole buffer; a poll
//! takes the part behind the header. Cloning a frame copies no data.

use bytes::{Buf, Bytes};

/// The bytes to leave free in front of the data of a buffer that becomes a [`Frame`]: the longest unmasked WebSocket
/// header (10) and the packet type (1).
pub const HEADROOM: usize = 11;

/// An outgoing message with its WebSocket header in front.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Bytes,
    /// Where the Engine.IO packet begins: the type of a text message, the data of a binary one.
    packet_at: u8,
    binary: bool,
    /// Whether a transport may compress this message.
    pub compress: bool,
}

impl Frame {
    /// Makes a text message of `buffer[headroom..]`, which must be UTF-8.
    ///
    /// `headroom` bytes at the start are free space; with at least [`HEADROOM`] of them nothing is copied.
    pub fn text(buffer: Vec<u8>, headroom: usize) -> Self {
        Self::build(buffer, headroom, false)
    }

    /// Makes a binary message of `buffer[headroom..]`; see [`Frame::text`].
    pub fn binary(buffer: Vec<u8>, headroom: usize) -> Self {
        Self::build(buffer, headroom, true)
    }

    fn build(buffer: Vec<u8>, headroom: usize, binary: bool) -> Self {
        if headroom < HEADROOM {
            let data = buffer.get(headroom..).unwrap_or_default();
            let mut moved = Vec::with_capacity(HEADROOM + data.len());
            moved.resize(HEADROOM, 0);
            moved.extend_from_slice(data);
            return Self::build(moved, HEADROOM, binary);
        }
        let mut buffer = buffer;
        let kind_len = usize::from(!binary);
        let packet_at = headroom - kind_len;
        let len = buffer.len() - packet_at;
        if !binary {
            buffer[packet_at] = b'4';
        }
        let (header, header_len) = server_header(if binary { 2 } else { 1 }, len);
        let start = packet_at - header_len;
        buffer[start..packet_at].copy_from_slice(&header[..header_len]);
        let mut bytes = Bytes::from(buffer);
        bytes.advance(start);
        Self { bytes, packet_at: header_len as u8, binary, compress: true }
    }

    /// Whether this is a binary message.
    pub fn is_binary(&self) -> bool {
        self.binary
    }

    /// The message as one unmasked WebSocket frame of Engine.IO 4.
    ///
    /// A binary message to an Engine.IO 3 peer needs a type byte in front and does not use this.
    pub fn websocket(&self) -> &Bytes {
        &self.bytes
    }

    /// [`Frame::websocket`] of a frame that is not needed any more.
    pub fn into_websocket(self) -> Bytes {
        self.bytes
    }

    /// The packet as text transports carry it: type and data of a text message, the bare data of a binary one.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[usize::from(self.packet_at)..]
    }

    /// The packet of [`Frame::packet`] as a shared slice.
    pub fn packet_bytes(&self) -> Bytes {
        self.bytes.slice(usize::from(self.packet_at)..)
    }

    /// The application's data, without the packet type.
    pub fn data(&self) -> &[u8] {
        &self.bytes[usize::from(self.packet_at) + usize::from(!self.binary)..]
    }

    /// How many bytes this message counts for in a queue.
    pub fn queued_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The header of a final, unmasked frame with this opcode and length: the bytes and how many of them count.
fn server_header(opcode: u8, len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | opcode;
    if len < 126 {
        header[1] = len as u8;
        (header, 2)
    } else if let Ok(short) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&short.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_frame_has_header_type_and_data() {
        check(b"", 0, false, b"\x81\x014", b"4");
        check(b"2[\"a\"]", 0, false, b"\x81\x0742[\"a\"]", b"42[\"a\"]");
        check(b"..hi", 2, false, b"\x81\x034hi", b"4hi");
        check(&[b"............".as_slice(), b"hi"].concat(), 12, false, b"\x81\x034hi", b"4hi");
        check(b"...........\x00\x01", 11, true, b"\x82\x02\x00\x01", b"\x00\x01");

        #[track_caller]
        fn check(buffer: &[u8], headroom: usize, binary: bool, wire: &[u8], packet: &[u8]) {
            let frame = Frame::build(buffer.to_vec(), headroom, binary);
            assert_eq!(frame.websocket(), wire);
            assert_eq!(frame.packet(), packet);
            assert_eq!(frame.data(), &buffer[headroom..]);
        }
    }

    #[test]
    fn lengths_take_the_shortest_header() {
        for (len, header) in [(124, &[0x81, 125][..]), (125, &[0x81, 126, 0, 126]), (65_534, &[0x81, 126, 0xff, 0xff])]
        {
            let mut buffer = vec![0; HEADROOM];
            buffer.resize(HEADROOM + len, b'x');
            let frame = Frame::text(buffer, HEADROOM);
            assert_eq!(&frame.websocket()[..header.len()], header);
            assert_eq!(frame.websocket().len(), header.len() + 1 + len);
        }
        let frame = Frame::text(vec![b'x'; HEADROOM + 65_535], HEADROOM);
        assert_eq!(&frame.websocket()[..10], &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
