//! How often a parser asks for memory, exactly.

use allocation_counter::measure;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use socketio_proto::{AnyParser, Limits, Message, Packet};

#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: i32,
    inside: Option<bool>,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Plain,
    Weighted { by: [u8; 3] },
}

#[test]
fn an_event_is_read_without_asking_for_memory() {
    check(&());
    check(&(1_u8, -2_i64, 2.5, "x".len(), Some(true), [1_u16, 2], 'é'));
    check(&Point { x: 0.1, y: -3, inside: None, kind: Kind::Plain });
    check(&[Point { x: 1e300, y: 3, inside: Some(true), kind: Kind::Weighted { by: [1, 2, 3] } }]);

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned>(value: &T) {
        for (parser, is_text) in [(AnyParser::json(), true), (AnyParser::msgpack(), false)] {
            let packet = parser.encode_event("/chat", Some(17), "move", value, None, 0).expect("it can be encoded");
            let data = packet[0].data();
            let message = if is_text {
                Message::Text(std::str::from_utf8(data).expect("it is text"))
            } else {
                Message::Binary(data)
            };
            let mut decoder = parser.decoder(&Limits::default());
            let counted = measure(|| {
                let Ok(Some(Packet::Event { args, .. })) = decoder.decode(message) else { panic!("it is an event") };
                args.deserialize::<T>().expect("it fits");
            });
            assert_eq!(counted.count_total, 0, "{parser:?}");
        }
    }
}

#[test]
fn a_packet_is_one_block_of_its_size() {
    let objects: Vec<_> = (0..40).map(|y| Point { x: 0.5, y, inside: Some(false), kind: Kind::Plain }).collect();
    for len in [0, 1, 100, 1_000, 4_000] {
        check(&"x".repeat(len), 0);
        check(&"\"".repeat(len / 3), 0);
    }
    // What is long gets its own block at once, with a little room to spare.
    check(&"x".repeat(5_000), 64);
    check(&"x".repeat(1_000_000), 64);
    check(&objects, 0);
    check(&objects.iter().map(|point| vec![point]).collect::<Vec<_>>(), 0);

    #[track_caller]
    fn check<T: Serialize>(value: &T, to_spare: usize) {
        let parser = AnyParser::json();
        let encode = || parser.encode_event("/chat", None, "move", value, None, 11).expect("it can be encoded");
        // The thread's own buffer grows once.
        drop(encode());
        let counted = measure(|| drop(encode()));
        assert_eq!(counted.count_total, 1);
        let bytes = &encode()[0].bytes;
        assert!(bytes.capacity() - bytes.len() <= to_spare, "{} of {}", bytes.len(), bytes.capacity());
    }
}
