//! The talk with a proxy. The first byte says which: `h` and `H` HTTP without and with a password, `s` and `S` the same with SOCKS,
//! else SOCKS with an address. Then what the proxy says.

use engineio_proto::client::tunnel::{Tunnel, TunnelError};

use crate::input::pieces;

/// Whatever a proxy says is read up to the end of its answer and no further, in whatever pieces it comes.
pub fn eio_tunnel(data: &[u8]) {
    let (kind, answer) = data.split_first().map_or((b'h', data), |(kind, answer)| (*kind, answer));
    let begin = || match kind {
        b'h' => Tunnel::http("example.org", 443, None),
        b'H' => Tunnel::http("::1", 80, Some(("ann", "secret"))),
        b's' => Tunnel::socks5("example.org", 443, None).expect("a short name"),
        b'S' => Tunnel::socks5("example.org", 443, Some(("ann", "secret"))).expect("short words"),
        _ => Tunnel::socks5("::1", 80, None).expect("an address"),
    };
    let in_pieces = talk(begin(), pieces(answer).into_iter());
    let in_bytes = talk(begin(), answer.chunks(1));
    // Only who reads more than the head of an answer sees that there is more.
    if in_pieces.0 != Err(TunnelError::Malformed("bytes behind the head")) {
        assert_eq!(in_pieces, in_bytes);
    }
}

/// Returns the outcome, what was sent, and for an open tunnel how much was read.
fn talk<'a>(
    mut tunnel: Tunnel,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Result<(), TunnelError>, Vec<u8>, Option<usize>) {
    let (mut sent, mut read) = (tunnel.output(), 0);
    assert!(!sent.is_empty(), "the client speaks first");
    for mut piece in pieces {
        while !piece.is_empty() {
            if tunnel.is_open() {
                assert_eq!(tunnel.wants(), 0);
                return (Ok(()), sent, Some(read));
            }
            let wants = tunnel.wants();
            assert!((1..=8 << 10).contains(&wants), "it wants {wants} bytes");
            let (now, later) = piece.split_at(piece.len().min(wants));
            piece = later;
            read += now.len();
            if let Err(error) = tunnel.on_bytes(now) {
                return (Err(error), sent, None);
            }
            sent.extend(tunnel.output());
            assert!(sent.len() < 1_000, "what is said is short");
        }
    }
    if tunnel.is_open() {
        return (Ok(()), sent, Some(read));
    }
    let hung_up = tunnel.on_bytes(&[]);
    assert_eq!(hung_up, Err(TunnelError::Malformed("it hung up")));
    (hung_up, sent, None)
}
