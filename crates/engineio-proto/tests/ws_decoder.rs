//! The WebSocket decoder, by tables of bytes. Ids such as W21 name rows of the catalogue of hostile inputs.

use engineio_proto::ws::{Decoder, Event, Opcode, Role, WsError, encode_message};

const MAX: usize = 1_000_000;
const FRAGMENTS: usize = 1_024;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event that outlives the buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Error(u16),
}
use Seen::{Binary, Close, Error, Ping, Pong, Text};

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Text(text.to_owned()),
            Event::Binary(bytes) => Binary(bytes.to_owned()),
            Event::Ping(bytes) => Ping(bytes.to_owned()),
            Event::Pong(bytes) => Pong(bytes.to_owned()),
            Event::Close(close) => Close(close.map(|(code, reason)| (code, reason.to_owned()))),
        }
    }
}

/// Feeds one input and returns what came out of it.
fn feed(decoder: &mut Decoder, input: &[u8]) -> Vec<Seen> {
    let mut scratch = input.to_vec();
    let mut consumed = 0;
    let mut seen = Vec::new();
    loop {
        match decoder.decode(&mut scratch, &mut consumed) {
            Ok(Some(event)) => seen.push(event.into()),
            Ok(None) => {
                assert_eq!(consumed, input.len(), "everything is used up");
                return seen;
            }
            Err(WsError { code, .. }) => seen.push(Error(code)),
        }
    }
}

/// A frame, masked for a server; `first` is the first byte with its bits.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_message(Opcode::Text, false, payload, Some(MASK), &mut out);
    out[0] = first;
    out
}

fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
    list.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
}

fn text(text: &str) -> Seen {
    Text(text.to_owned())
}

#[track_caller]
fn check(list: &[(u8, &[u8])], want: &[Seen]) {
    check_bytes(Role::Server, &frames(list), want);
}

/// The same events whether the bytes come at once or one at a time.
#[track_caller]
fn check_bytes(role: Role, wire: &[u8], want: &[Seen]) {
    let mut decoder = Decoder::new(role, MAX, FRAGMENTS);
    assert_eq!(feed(&mut decoder, wire), want, "at once: {wire:02x?}");
    let mut decoder = Decoder::new(role, MAX, FRAGMENTS);
    let drip: Vec<Seen> = wire.iter().flat_map(|byte| feed(&mut decoder, &[*byte])).collect();
    assert_eq!(drip, want, "byte by byte: {wire:02x?}");
}

#[test]
fn the_specifications_examples() {
    // RFC 6455 §5.7.
    check_bytes(Role::Client, b"\x81\x05Hello", &[text("Hello")]);
    check_bytes(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[text("Hello")]);
    check_bytes(Role::Client, b"\x01\x03Hel\x80\x02lo", &[text("Hello")]);
    check_bytes(Role::Client, b"\x89\x05Hello", &[Ping(b"Hello".to_vec())]);
    check_bytes(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[Pong(b"Hello".to_vec())]);
    let data: Vec<u8> = (0..=255).collect();
    check_bytes(Role::Client, &[b"\x82\x7e\x01\x00", &*data].concat(), &[Binary(data)]);
    let data = vec![0x2a; 65_536];
    check_bytes(Role::Client, &[b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", &*data].concat(), &[Binary(data)]);
}

#[test]
fn whole_frames_in_one_input() {
    check(&[(0x81, b"")], &[text("")]);
    check(&[(0x82, b"")], &[Binary(vec![])]);
    check(
        &[(0x81, b"a"), (0x82, b"b"), (0x8a, b""), (0x81, "ü".as_bytes())],
        &[text("a"), Binary(b"b".to_vec()), Pong(vec![]), text("ü")],
    );
}

#[test]
fn w21_reserved_bits_and_opcodes_and_masks_are_refused() {
    for first in [0xc1, 0xa1, 0x91, 0xe1, 0xf1, 0xc0, 0xc9] {
        check(&[(first, b"x")], &[Error(1002)]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&[(0x80 | opcode, b"")], &[Error(1002)]);
    }
    check_bytes(Role::Server, b"\x81\x05Hello", &[Error(1002)]);
    check_bytes(Role::Client, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[Error(1002)]);
}

#[test]
fn w22_control_frames_are_short_and_whole() {
    let long = [b'x'; 126];
    check(&[(0x89, &long[..125])], &[Ping(long[..125].to_vec())]);
    check(&[(0x89, &long)], &[Error(1002)]);
    check(&[(0x8a, &long)], &[Error(1002)]);
    check(&[(0x88, &long)], &[Error(1002)]);
    check(&[(0x09, b"a")], &[Error(1002)]);
    check(&[(0x0a, b"a")], &[Error(1002)]);
    check(&[(0x08, b"")], &[Error(1002)]);
}

#[test]
fn w23_fragments_come_in_order() {
    check(&[(0x80, b"a")], &[Error(1002)]);
    check(&[(0x00, b"a")], &[Error(1002)]);
    check(&[(0x01, b"a"), (0x81, b"b")], &[Error(1002)]);
    check(&[(0x01, b"a"), (0x02, b"b")], &[Error(1002)]);
    check(&[(0x81, b"a"), (0x80, b"b")], &[text("a"), Error(1002)]);
}

#[test]
fn w24_control_frames_come_between_fragments() {
    check(
        &[(0x01, b"a"), (0x89, b"p"), (0x00, b""), (0x8a, b""), (0x80, b"b"), (0x89, b"q")],
        &[Ping(b"p".to_vec()), Pong(vec![]), text("ab"), Ping(b"q".to_vec())],
    );
    let snow = "a☃😀".as_bytes();
    for cut in 0..=snow.len() {
        check(&[(0x01, &snow[..cut]), (0x89, b""), (0x80, &snow[cut..])], &[Ping(vec![]), text("a☃😀")]);
    }
    check(&[(0x02, b"\xff"), (0x00, b"\xfe"), (0x80, b"\xfd")], &[Binary(b"\xff\xfe\xfd".to_vec())]);
}

#[test]
fn w25_invalid_text_is_refused() {
    for bad in [
        &b"\xff"[..],
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"ok\x80",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"unfinished \xe2\x98",
    ] {
        check(&[(0x81, bad)], &[Error(1007)]);
        check(&[(0x01, bad), (0x80, b"!")], &[Error(1007)]);
        check(&[(0x01, b"fine"), (0x80, bad)], &[Error(1007)]);
        check(&[(0x01, bad), (0x80, b"")], &[Error(1007)]);
        check(&[(0x82, bad)], &[Binary(bad.to_vec())]);
    }
}

#[test]
fn w25_text_fails_at_the_first_bad_byte() {
    // The frame announces more than ever comes.
    let mut wire = frame(0x81, b"ab\xf4\x90 and much more text that is not sent");
    wire.truncate(6 + 3);
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    assert_eq!(feed(&mut decoder, &wire), []);
    let next = frame(0x81, b"ab\xf4\x90")[9];
    assert_eq!(feed(&mut decoder, &[next]), [Error(1007)]);
    // In a fragment, the message not being final.
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    assert_eq!(feed(&mut decoder, &frame(0x01, b"ab\xed")), []);
    assert_eq!(feed(&mut decoder, &frame(0x00, b"\xa0")), [Error(1007)]);
    assert_eq!(feed(&mut decoder, &frame(0x81, b"later")), []);
}

#[test]
fn w26_close_codes() {
    check(&[(0x88, b"")], &[Close(None)]);
    check(&[(0x88, b"\x03")], &[Error(1002)]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16] {
        let payload = [&code.to_be_bytes()[..], "bye ü".as_bytes()].concat();
        check(&[(0x88, &payload)], &[Close(Some((code, "bye ü".to_owned())))]);
        check(&[(0x88, &payload[..2])], &[Close(Some((code, String::new())))]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        check(&[(0x88, &code.to_be_bytes())], &[Error(1002)]);
    }
    check(&[(0x88, b"\x03\xe8\xff")], &[Error(1007)]);
    check(&[(0x88, b"\x03\xe8\xe2\x98")], &[Error(1007)]);
    let longest = [&b"\x03\xe8"[..], &[b'r'; 123]].concat();
    check(&[(0x88, &longest)], &[Close(Some((1000, "r".repeat(123))))]);
}

#[test]
fn w27_nothing_counts_after_a_close() {
    check(&[(0x88, b""), (0x81, b"late"), (0x88, b"\x03\xe8"), (0xf3, b"")], &[Close(None)]);
    check(&[(0xf1, b""), (0x81, b"late")], &[Error(1002)]);
    check(&[(0x01, b"half"), (0x88, b"\x03\xe9"), (0x80, b"late")], &[Close(Some((1001, String::new())))]);
}

#[test]
fn w28_long_forms_of_lengths_are_tolerated_and_counted() {
    let wire = b"\x81\x7e\x00\x05Hello\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01!\x81\x02ok";
    check_bytes(Role::Client, wire, &[text("Hello"), Binary(b"!".to_vec()), text("ok")]);
    let mut decoder = Decoder::new(Role::Client, MAX, FRAGMENTS);
    feed(&mut decoder, wire);
    assert_eq!(decoder.long_forms(), 2);
    feed(&mut decoder, &[b"\x82\x7e\x00\x7e", &[0; 126][..]].concat());
    feed(&mut decoder, &[b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", &[0; 65_536][..]].concat());
    assert_eq!(decoder.long_forms(), 2, "126 and 65536 need theirs");
    feed(&mut decoder, &[b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", &[0; 65_535][..]].concat());
    feed(&mut decoder, &[b"\x82\x7e\x00\x7d", &[0; 125][..]].concat());
    assert_eq!(decoder.long_forms(), 4);
    // A control frame has no long form at all.
    check_bytes(Role::Client, b"\x89\x7e\x00\x05Hello", &[Error(1002)]);
}

#[test]
fn w45_too_much_is_refused_at_the_header() {
    let header = |first: u8, len: u64| [&[first, 0xff][..], &len.to_be_bytes()].concat();
    let max = MAX as u64;
    for len in [max + 1, 70_000_000, 1 << 53, 1 << 63, (1 << 63) - 1, u64::MAX] {
        check_bytes(Role::Server, &header(0x82, len), &[Error(1009)]);
        check_bytes(Role::Server, &header(0x01, len), &[Error(1009)]);
        let sum = [frame(0x02, b"x"), header(0x00, len)].concat();
        check_bytes(Role::Server, &sum, &[Error(1009)]);
    }
    // Exactly the limit is fine, in one frame or in two.
    let data = vec![7; MAX];
    check(&[(0x82, &data)], &[Binary(data.clone())]);
    check(&[(0x02, &data[1..]), (0x80, &data[..1])], &[Binary(data.clone())]);
    check_bytes(Role::Server, &[frame(0x02, &data[1..]), header(0x80, 2)].concat(), &[Error(1009)]);
}

#[test]
fn v46_the_sum_of_fragments_does_not_overflow() {
    let header = |first: u8, len: u64| [&[first, 0x7f][..], &len.to_be_bytes()].concat();
    let most = (1 << 63) - 1;
    let mut decoder = Decoder::new(Role::Client, usize::MAX, FRAGMENTS);
    assert_eq!(feed(&mut decoder, &header(0x02, most)), []);
    assert!(decoder.is_mid_message() && decoder.allocated() < 1_000, "no limit, still no allocation");
    for (first, second) in [(1, u64::MAX), (2, u64::MAX - 1), (1, most * 2 + 1)] {
        let mut decoder = Decoder::new(Role::Client, usize::MAX, FRAGMENTS);
        assert_eq!(feed(&mut decoder, &[&[0x02, first][..], &vec![0; first.into()]].concat()), []);
        assert_eq!(feed(&mut decoder, &header(0x00, second)), [Error(1009)]);
    }
}

#[test]
fn w47_an_announcement_allocates_nothing() {
    for sent in [0, 1, 1000, 100_000] {
        let mut wire = [&[0x82, 0xff][..], &70_000_000_u64.to_be_bytes(), &MASK].concat();
        wire.resize(wire.len() + sent, 0);
        let mut decoder = Decoder::new(Role::Server, 100_000_000, FRAGMENTS);
        assert_eq!(feed(&mut decoder, &wire), []);
        assert_eq!(decoder.buffered(), sent);
        assert!(decoder.allocated() < sent + (64 << 10) + 200, "{}", decoder.allocated());
        assert!(decoder.is_mid_message());
    }
}

#[test]
fn w50_fragments_are_counted_even_when_empty() {
    for payload in [&b""[..], b"x"] {
        let mut wire = frame(0x02, payload);
        for _ in 1..FRAGMENTS {
            wire.extend(frame(0x00, payload));
        }
        let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
        assert_eq!(feed(&mut decoder, &wire), []);
        assert!(decoder.is_mid_message());
        assert_eq!(feed(&mut decoder, &frame(0x89, b"")), [Ping(vec![])], "control frames do not count");
        assert_eq!(feed(&mut decoder, &frame(0x00, payload)), [Error(1008)]);
    }
    // The last allowed one ends the message.
    let mut decoder = Decoder::new(Role::Server, MAX, 2);
    assert_eq!(
        feed(&mut decoder, &frames(&[(0x01, b"a"), (0x80, b"b"), (0x01, b"c"), (0x80, b"d")])),
        [text("ab"), text("cd")]
    );
    assert_eq!(feed(&mut decoder, &frames(&[(0x01, b"a"), (0x00, b"b"), (0x80, b"c")])), [Error(1008)]);
}

#[test]
fn w52_a_long_frame_in_single_bytes() {
    let data: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
    let wire = frame(0x82, &data);
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    let seen: Vec<Seen> = wire.iter().flat_map(|byte| feed(&mut decoder, &[*byte])).collect();
    assert_eq!(seen, [Binary(data)]);
}

#[test]
fn a_message_in_one_piece_is_lent_from_the_input() {
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    let mut input = frame(0x81, b"borrowed");
    let range = input.as_ptr_range();
    let mut consumed = 0;
    let Ok(Some(Event::Text(text))) = decoder.decode(&mut input, &mut consumed) else { panic!("a text") };
    assert_eq!(text, "borrowed");
    assert!(range.contains(&text.as_ptr()));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn v37_a_collected_message_is_given_back() {
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    assert!(size_of::<Decoder>() <= 100, "{}", size_of::<Decoder>());
    let wire = frames(&[(0x81, &[b'x'; 5000]), (0x89, b"ping")]);
    let (first, second) = wire.split_at(3000);
    assert_eq!(feed(&mut decoder, first), []);
    assert!(decoder.is_mid_message());
    assert_eq!(decoder.buffered(), 3000 - 8);
    // The ping is cut as well.
    let (second, third) = second.split_at(second.len() - 2);
    assert_eq!(feed(&mut decoder, second), [Text("x".repeat(5000))]);
    assert_eq!(decoder.buffered(), 2);
    assert_eq!(feed(&mut decoder, third), [Ping(b"ping".to_vec())]);
    assert_eq!(decoder.buffered(), 0);
    assert!(!decoder.is_mid_message());
    assert_eq!(decoder.allocated(), 0);
}

#[test]
fn it_knows_whether_a_message_is_under_way() {
    let mut decoder = Decoder::new(Role::Server, MAX, FRAGMENTS);
    assert!(!decoder.is_mid_message());
    for (input, mid) in [
        (&frame(0x81, b"whole")[..], false),
        (&[0x81], true),
        (&[0x80, 0, 0, 0], true),
        (&[0], false),
        (&frame(0x01, b"a"), true),
        (&frame(0x89, b""), true),
        (&frame(0x80, b"b"), false),
        (&frame(0x88, b"")[..3], true),
        (&frame(0x88, b"")[3..], false),
    ] {
        feed(&mut decoder, input);
        assert_eq!(decoder.is_mid_message(), mid, "after {input:02x?}");
    }
}
