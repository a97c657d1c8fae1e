//! What holds for all byte streams and all ways to cut them.

use engineio_proto::ws::deflate::{Agreement, Options};
use engineio_proto::ws::{Decoder, Event, MAX_HEADER, Opcode, Role, encode_header, mask_in_place};
use proptest::collection::vec;
use proptest::prelude::*;

/// An event or the end, in a form that outlives the buffers.
type Seen = String;

fn decode_all(decoder: &mut Decoder, chunks: &mut dyn Iterator<Item = &[u8]>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut scratch = chunk.to_vec();
        let mut consumed = 0;
        loop {
            match decoder.decode(&mut scratch, &mut consumed) {
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => seen.push(format!("{error:?}")),
            }
        }
        assert_eq!(consumed, scratch.len());
    }
    seen
}

/// Cuts `data` at the given places, taken modulo its length.
fn cut<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (data.len() + 1)).collect();
    at.extend([0, data.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
}

fn agreement() -> Agreement {
    Agreement {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 10,
        client_max_window_bits: 10,
    }
}

fn decoder(role: Role, deflate: bool) -> Decoder {
    let decoder = Decoder::new(role, 4_000, 5);
    if deflate { decoder.with_deflate(agreement().inflater(role)) } else { decoder }
}

fn opposite(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// A frame that is nearly right: everything about it may be wrong, mostly it is not.
fn rough_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0xc2, 0x41]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        vec(any::<u8>(), 0..200),
        "\\PC{0,60}".prop_map(String::into_bytes),
        Just(vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ];
    (first, payload, any::<[u8; 4]>(), any::<bool>(), 0..12_u8).prop_map(|(first, payload, mask, long, slip)| {
        let mut frame = vec![first];
        let masked = if slip == 0 { 0 } else { 0x80 };
        if long {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        } else if payload.len() < 126 {
            frame.push(masked | payload.len() as u8);
        } else {
            frame.push(masked | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        frame.extend(mask);
        let at = frame.len();
        frame.extend(payload);
        mask_in_place(&mut frame[at..], mask, 0);
        frame
    })
}

#[derive(Debug, Clone)]
struct Sent {
    text: bool,
    data: String,
    cuts: Vec<usize>,
    compress: bool,
    mask: [u8; 4],
    ping: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let data = prop_oneof!["\\PC{0,300}", "[ab]{0,900}", Just(String::new())];
    (any::<bool>(), data, vec(any::<usize>(), 0..4), any::<bool>(), any::<[u8; 4]>(), any::<bool>())
        .prop_map(|(text, data, cuts, compress, mask, ping)| Sent { text, data, cuts, compress, mask, ping })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived_and_cuts_change_nothing(
        role in role(), deflate: bool, data in vec(any::<u8>(), 0..400), cuts in vec(any::<usize>(), 0..20),
    ) {
        let whole = decode_all(&mut decoder(role, deflate), &mut [&data[..]].into_iter());
        let pieces = decode_all(&mut decoder(role, deflate), &mut cut(&data, &cuts).into_iter());
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn cuts_of_nearly_good_frames_change_nothing(
        deflate: bool, frames in vec(rough_frame(), 1..12), cuts in vec(any::<usize>(), 0..20),
    ) {
        let data = frames.concat();
        let whole = decode_all(&mut decoder(Role::Server, deflate), &mut [&data[..]].into_iter());
        let pieces = decode_all(&mut decoder(Role::Server, deflate), &mut cut(&data, &cuts).into_iter());
        let bytes = decode_all(&mut decoder(Role::Server, deflate), &mut data.chunks(1));
        prop_assert_eq!(&whole, &pieces);
        prop_assert_eq!(&whole, &bytes);
    }

    #[test]
    fn what_is_sent_arrives(
        role in role(), messages in vec(sent(), 0..8), cuts in vec(any::<usize>(), 0..20),
    ) {
        let sender = opposite(role);
        let mut deflater = agreement().deflater(sender, &Options::default()).expect("a compressor");
        let mut wire = Vec::new();
        let mut want = Vec::new();
        for message in &messages {
            let mut payload = message.data.clone().into_bytes();
            if message.compress {
                payload.clear();
                prop_assert!(deflater.compress(message.data.as_bytes(), &mut payload));
            }
            let fragments = cut(&payload, &message.cuts);
            for (i, fragment) in fragments.iter().enumerate() {
                let opcode = match (i, message.text) {
                    (0, true) => Opcode::Text,
                    (0, false) => Opcode::Binary,
                    _ => Opcode::Continuation,
                };
                let mask = (sender == Role::Client).then_some(message.mask);
                let mut header = [0; MAX_HEADER];
                let fin = i + 1 == fragments.len();
                let len = encode_header(opcode, fin, i == 0 && message.compress, fragment.len(), mask, &mut header);
                wire.extend_from_slice(&header[..len]);
                let at = wire.len();
                wire.extend_from_slice(fragment);
                mask_in_place(&mut wire[at..], mask.unwrap_or_default(), 0);
                if message.ping {
                    let ping = engineio_proto::ws::encode_control(Opcode::Ping, b"between", mask);
                    wire.extend_from_slice(&ping);
                    if !fin {
                        want.push(format!("{:?}", Event::Ping(b"between")));
                    }
                }
            }
            want.push(match message.text {
                true => format!("{:?}", Event::Text(&message.data)),
                false => format!("{:?}", Event::Binary(message.data.as_bytes())),
            });
            if message.ping {
                want.push(format!("{:?}", Event::Ping(b"between")));
            }
        }
        let mut decoder = decoder(role, true);
        prop_assert_eq!(decode_all(&mut decoder, &mut cut(&wire, &cuts).into_iter()), want);
        prop_assert_eq!(decoder.allocated(), 0);
        prop_assert!(!decoder.is_mid_message());
    }

    #[test]
    fn memory_follows_what_arrived(announced in 1_u64..1 << 40, arrived in 0_usize..200_000) {
        let mut wire = vec![0x82, 0x7f];
        wire.extend(announced.to_be_bytes());
        wire.resize(10 + arrived.min(announced as usize - 1), 7);
        let mut decoder = Decoder::new(Role::Client, usize::MAX, 5);
        for chunk in wire.chunks(1_000) {
            prop_assert!(decode_all(&mut decoder, &mut [chunk].into_iter()).is_empty());
        }
        prop_assert_eq!(decoder.buffered(), wire.len() - 10);
        let room = (64 << 10).max(arrived / 4) + 200;
        prop_assert!(decoder.allocated() <= arrived + room, "{} for {}", decoder.allocated(), arrived);
    }
}
