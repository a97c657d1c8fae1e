//! Ack bookkeeping as a list of operations:
//!
//! * `r` + number: await an answer for so many seconds, `n`: without a deadline
//! * `t` + number: an answer to this id arrives
//! * `+` + number: so many seconds pass
//! * `e` + number: what is overdue is taken, but at most so many
//! * `d`: the socket is gone

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use socketio_proto::Acks;

use crate::input::Input;

const CAP: usize = 12;

/// Acks by operation list.
pub fn sio_acks(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::now();
    let mut acks = Acks::new(CAP);
    let mut waiting: BTreeMap<u64, Option<Instant>> = BTreeMap::new();
    let mut next = 0;
    while let Some(operation) = input.byte() {
        match operation {
            b'r' | b'n' => {
                let seconds = if operation == b'r' { Some(input.number() as u64) } else { None };
                let deadline = seconds.map(|seconds| now + Duration::from_secs(seconds));
                match acks.register(next, deadline) {
                    Ok(id) => {
                        assert_eq!(id, next, "ids count up and none is used twice");
                        assert!(waiting.len() < CAP);
                        waiting.insert(id, deadline);
                        next += 1;
                    }
                    Err(full) => assert_eq!((full.cap, full.value, waiting.len()), (CAP, next, CAP)),
                }
            }
            b't' => {
                let id = input.number() as u64;
                assert_eq!(acks.take(id), waiting.remove(&id).map(|_| id));
            }
            b'+' => now += Duration::from_secs(input.number() as u64),
            b'e' => {
                let expired: Vec<_> = acks.expire(now).take(input.number()).collect();
                let mut last = None;
                for (id, value) in expired {
                    assert_eq!(id, value);
                    let deadline = waiting.remove(&id).expect("awaited").expect("with a deadline");
                    assert!(deadline <= now && last <= Some(deadline), "the earliest first");
                    assert!(waiting.values().flatten().all(|other| *other >= deadline));
                    last = Some(deadline);
                }
            }
            b'd' => {
                let rest: Vec<_> = acks.drain().collect();
                assert_eq!(rest, std::mem::take(&mut waiting).into_keys().map(|id| (id, id)).collect::<Vec<_>>());
            }
            _ => {}
        }
        assert_eq!((acks.len(), acks.is_empty()), (waiting.len(), waiting.is_empty()));
        assert_eq!(acks.next_deadline(), waiting.values().flatten().min().copied());
    }
    // Nothing is left behind, however it went.
    now += Duration::from_secs(1_000);
    assert_eq!(acks.expire(now).count(), waiting.values().flatten().count());
    assert_eq!(acks.next_deadline(), None);
}
