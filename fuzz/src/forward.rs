//! What servers of a cluster send each other.

use engineio_proto::forward::{Flow, Message, Verb, WINDOW, decode, encode};

/// The longest body that is taken.
const MOST: usize = 1_024;

/// Messages of somebody who can publish: what is understood has one form only, and no order of them goes over the window.
pub fn eio_forward(data: &[u8]) {
    let mut flow = Flow::default();
    let mut received = 0;
    // As lines, and as a whole.
    for piece in data.split(|byte| *byte == b'\n') {
        one(piece, &mut flow, &mut received);
    }
    one(data, &mut flow, &mut received);
}

fn one(bytes: &[u8], flow: &mut Flow, received: &mut u64) {
    let Ok((from, message)) = decode(bytes, MOST) else { return };
    assert_eq!(encode(&from, &message), bytes);
    match message {
        Message::Request(_, request) => assert!(request.body.len() <= MOST && request.headers.len() <= 128),
        Message::Answer(_, answer) => assert!(answer.body.len() <= MOST && (100..600).contains(&answer.status)),
        Message::Exchange { verb: Verb::Data { place, bytes }, .. } => {
            if flow.receive(place, bytes.len()).is_ok() {
                *received += bytes.len() as u64;
                // Nothing is passed on, so this is all that may ever come.
                assert!(*received <= WINDOW);
            }
        }
        Message::Exchange { verb: Verb::Allow(upto), .. } => {
            if flow.allow(upto).is_ok() {
                let room = flow.room().min(64);
                if room > 0 {
                    flow.send(room);
                }
            }
            assert!(flow.room() as u64 <= WINDOW);
        }
        Message::Exchange { verb: Verb::End(place), .. } => {
            assert!(flow.receive_end(place).is_err() || place <= *received * 65 + WINDOW);
        }
        Message::Exchange { verb: Verb::Reset, .. } | Message::Hello | Message::Here | Message::Goodbye => {}
    }
}
