//! Compressed messages, by tables of bytes. Ids such as D01 name rows of the catalogue of hostile inputs.

use engineio_proto::ws::deflate::{Agreement, Deflater, Inflater, Options};
use engineio_proto::ws::{Decoder, Event, MAX_HEADER, Opcode, Role, encode_header};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

const MAX: usize = 1_000_000;

fn decoder(inflater: Inflater) -> Decoder {
    Decoder::new(Role::Client, MAX, 1_024).with_deflate(inflater)
}

/// What came out of one input: messages, then perhaps the code of an error.
fn feed(decoder: &mut Decoder, input: &[u8]) -> (Vec<Vec<u8>>, Option<u16>) {
    let mut scratch = input.to_vec();
    let mut consumed = 0;
    let mut messages = Vec::new();
    loop {
        match decoder.decode(&mut scratch, &mut consumed) {
            Ok(Some(Event::Text(text))) => messages.push(text.as_bytes().to_vec()),
            Ok(Some(Event::Binary(bytes) | Event::Ping(bytes) | Event::Pong(bytes))) => messages.push(bytes.to_vec()),
            Ok(Some(Event::Close(_))) => panic!("no close was sent"),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error.code)),
        }
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; MAX_HEADER];
    let len = encode_header(Opcode::Text, true, false, payload.len(), None, &mut header);
    header[0] = first;
    [&header[..len], payload].concat()
}

/// DEFLATE without the four bytes of the flush, by the library alone.
fn deflated(data: &[u8], window_bits: u8) -> Vec<u8> {
    let mut context = Compress::new_with_window_bits(Compression::new(9), false, window_bits);
    let mut out = Vec::with_capacity(data.len() + 1_000);
    context.compress_vec(data, &mut out, FlushCompress::Sync).expect("it compresses");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// Bytes that compress badly.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn the_specifications_examples() {
    // RFC 7692 §7.2.3, in order.
    check(true, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", &["Hello"]);
    check(true, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", &["Hello"]);
    check(true, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", &["Hello", "Hello"]);
    check(false, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", &["Hello", "Hello"]);
    check(true, b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", &["Hello"]);
    check(true, b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", &["Hello"]); // D05
    check(true, b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", &["Hello"]);
    check(true, b"\xc1\x01\x00", &[""]);
    check(true, b"\xc1\x02\x02\x00", &[""]);
    // Uncompressed messages and control frames in between.
    check(
        true,
        b"\x81\x02hi\x41\x03\xf2\x48\xcd\x89\x01p\x80\x04\xc9\xc9\x07\x00\x81\x02ho",
        &["hi", "p", "Hello", "ho"],
    );

    #[track_caller]
    fn check(takeover: bool, wire: &[u8], want: &[&str]) {
        let want: Vec<Vec<u8>> = want.iter().map(|text| text.as_bytes().to_vec()).collect();
        assert_eq!(feed(&mut decoder(Inflater::new(15, takeover)), wire), (want.clone(), None), "{wire:02x?}");
        let mut drip = decoder(Inflater::new(15, takeover));
        let got: Vec<_> = wire.iter().flat_map(|byte| feed(&mut drip, &[*byte]).0).collect();
        assert_eq!(got, want, "byte by byte: {wire:02x?}");
    }
}

#[test]
fn d01_a_bomb_stops_at_the_limit() {
    let zeros = |len: usize| frame(0xc2, &deflated(&vec![0; len], 15));
    let mut small = decoder(Inflater::new(15, false));
    assert_eq!(feed(&mut small, &zeros(MAX)), (vec![vec![0; MAX]], None));
    assert_eq!(feed(&mut small, &zeros(MAX + 1)), (vec![], Some(1009)));
    let bomb = zeros(10 * MAX);
    assert!(bomb.len() < 11_000);
    // Also when it comes in pieces: it fails long before its end, and what was kept by then is bounded.
    let mut dripped = decoder(Inflater::new(15, false));
    let mut fed = 0;
    let mut most = 0;
    let error = bomb.chunks(100).find_map(|chunk| {
        fed += chunk.len();
        most = most.max(dripped.allocated());
        feed(&mut dripped, chunk).1
    });
    assert_eq!(error, Some(1009));
    assert!(fed < 1_300, "{fed}");
    assert!(most < MAX + (64 << 10), "{most}");
    assert_eq!(dripped.allocated(), 0);
}

#[test]
fn d02_garbage_is_invalid_data() {
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x07", b"\x00\x05\x00\xfa\xfe", b"\xf2\x48\xcd\xc9\xc9\x07\x00\x06"] {
        assert_eq!(feed(&mut decoder(Inflater::new(15, true)), &frame(0xc1, garbage)), (vec![], Some(1007)));
    }
    // A reference to what was never sent, and text that is none.
    let mut fresh = decoder(Inflater::new(15, false));
    assert_eq!(
        feed(&mut fresh, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00"),
        (vec![b"Hello".to_vec()], Some(1007))
    );
    for bad in [&b"ab\xff"[..], b"\xed\xa0\x80", b"\xe2\x98"] {
        let mut context = decoder(Inflater::new(15, false));
        assert_eq!(feed(&mut context, &frame(0xc1, &deflated(bad, 15))), (vec![], Some(1007)));
        let mut context = decoder(Inflater::new(15, false));
        assert_eq!(feed(&mut context, &frame(0xc2, &deflated(bad, 15))), (vec![bad.to_vec()], None));
    }
    // Bad text is noticed before the message ends.
    let long = [&b"\xff"[..], &noise(10_000)].concat();
    let wire = frame(0x41, &deflated(&long, 15));
    assert_eq!(feed(&mut decoder(Inflater::new(15, false)), &wire[..6_000]), (vec![], Some(1007)));
}

#[test]
fn d03_only_the_first_frame_of_a_message_is_marked() {
    for wire in [&b"\xc9\x00"[..], b"\xca\x00", b"\xc8\x00", b"\xc0\x00", b"\x01\x00\xc0\x00", b"\x41\x00\xc0\x00"] {
        assert_eq!(feed(&mut decoder(Inflater::new(15, true)), wire), (vec![], Some(1002)), "{wire:02x?}");
    }
}

#[test]
fn d04_a_compressed_message_without_payload_is_empty() {
    let mut decoder = decoder(Inflater::new(15, true));
    assert_eq!(feed(&mut decoder, b"\xc1\x00\xc2\x00\x41\x00\x80\x00"), (vec![vec![]; 3], None));
    assert_eq!(feed(&mut decoder, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"), (vec![b"Hello".to_vec()], None));
}

#[test]
fn d05_streams_that_end_early_are_read_on_a_few_times() {
    let ended = b"\xf3\x48\xcd\xc9\xc9\x07\x00"; // "Hello" in a block that says it is the last
    let times = |count: usize| frame(0xc1, &ended.repeat(count));
    assert_eq!(feed(&mut decoder(Inflater::new(15, true)), &times(3)), (vec![b"HelloHelloHello".to_vec()], None));
    assert_eq!(feed(&mut decoder(Inflater::new(15, true)), &times(16)), (vec![b"Hello".repeat(16)], None));
    assert_eq!(feed(&mut decoder(Inflater::new(15, true)), &times(17)), (vec![], Some(1008)));
    // What follows may refer to what came before the end.
    let back = [&ended[..], b"\xf2\x00\x11\x00\x00"].concat();
    assert_eq!(feed(&mut decoder(Inflater::new(15, true)), &frame(0xc1, &back)), (vec![b"HelloHello".to_vec()], None));
}

#[test]
fn contexts_go_with_the_message_unless_they_are_taken_over() {
    let agree = |no_takeover| Agreement {
        server_no_context_takeover: no_takeover,
        client_no_context_takeover: no_takeover,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    for (no_takeover, second) in [(true, &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..]), (false, b"\xf2\x00\x11\x00\x00")] {
        for role in [Role::Server, Role::Client] {
            let mut deflater = agree(no_takeover).deflater(role, &Options::default()).expect("a compressor");
            assert!(!deflater.is_holding_context());
            let mut out = b"in front".to_vec();
            assert!(deflater.compress(b"Hello", &mut out));
            assert_eq!(out, b"in front\xf2\x48\xcd\xc9\xc9\x07\x00");
            assert_eq!(deflater.is_holding_context(), !no_takeover);
            out.clear();
            assert!(deflater.compress(b"Hello", &mut out));
            assert_eq!(out, second);
            out.clear();
            assert!(deflater.compress(b"", &mut out));
            assert_eq!(out, b"\x00");
            deflater.release();
            out.clear();
            assert!(deflater.compress(b"Hello", &mut out));
            assert_eq!(out, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        }
    }
    assert!(agree(true).takes_shared_frames());
    assert!(!agree(false).takes_shared_frames());
    assert!(!Agreement { server_max_window_bits: 14, ..agree(true) }.takes_shared_frames());
    let mut shared = Deflater::shared(&Options::default());
    for _ in 0..3 {
        let mut out = Vec::new();
        assert!(shared.compress(b"Hello", &mut out));
        assert_eq!(out, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        assert!(shared.is_holding_context());
    }
    assert!(!shared.wants(1_023) && shared.wants(1_024));
}

#[test]
fn eight_bits_are_read_but_never_written() {
    let agreement = Agreement {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 8,
        client_max_window_bits: 8,
    };
    for role in [Role::Server, Role::Client] {
        assert!(agreement.deflater(role, &Options::default()).is_none());
    }
    let mut decoder = decoder(agreement.inflater(Role::Client));
    assert_eq!(feed(&mut decoder, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"), (vec![b"Hello".to_vec()], None));
}

#[test]
fn a_compressor_stays_inside_its_window() {
    // Repeats at every distance, so that a wider window would be used if it were there.
    let block = noise(40_000);
    let mut data = block.clone();
    for start in (0..39_000).step_by(97) {
        data.extend_from_slice(&block[start..start + 60]);
    }
    for bits in 9..=15 {
        for level in [1, 2, 6, 9] {
            let options = Options { level, ..Options::default() };
            let agreement = Agreement {
                server_no_context_takeover: false,
                client_no_context_takeover: true,
                server_max_window_bits: bits,
                client_max_window_bits: 15,
            };
            let mut deflater = agreement.deflater(Role::Server, &options).expect("a compressor");
            let mut reader = Decompress::new_with_window_bits(false, bits);
            for _ in 0..2 {
                let mut packed = Vec::new();
                assert!(deflater.compress(&data, &mut packed));
                packed.extend_from_slice(&[0, 0, 0xff, 0xff]);
                // A reader with exactly this window, which sees its own output only through the window.
                let mut unpacked = Vec::new();
                let mut input = &packed[..];
                loop {
                    let mut step = Vec::with_capacity(64);
                    let before = reader.total_in();
                    reader.decompress_vec(input, &mut step, FlushDecompress::Sync).expect("inside the window");
                    input = &input[(reader.total_in() - before) as usize..];
                    if step.is_empty() && input.is_empty() {
                        break;
                    }
                    unpacked.extend_from_slice(&step);
                }
                assert!(unpacked == data, "bits {bits} level {level}");
            }
        }
    }
}

#[test]
fn long_messages_survive_both_ways() {
    for bits in [9, 12, 15] {
        for takeover in [false, true] {
            let agreement = Agreement {
                server_no_context_takeover: !takeover,
                client_no_context_takeover: !takeover,
                server_max_window_bits: bits,
                client_max_window_bits: bits,
            };
            let mut deflater = agreement.deflater(Role::Server, &Options::default()).expect("a compressor");
            let mut decoder = decoder(agreement.inflater(Role::Client));
            for data in [noise(300_000), b"abcdefgh".repeat(50_000), vec![0; MAX], vec![], noise(1), noise(65_536)] {
                let mut packed = Vec::new();
                assert!(deflater.compress(&data, &mut packed));
                let wire = frame(0xc2, &packed);
                let mut got = Vec::new();
                for chunk in wire.chunks(8_192) {
                    let (messages, error) = feed(&mut decoder, chunk);
                    assert_eq!(error, None);
                    got.extend(messages);
                }
                assert!(got == [data], "bits {bits} takeover {takeover}");
                assert_eq!(decoder.allocated(), 0);
            }
        }
    }
}
