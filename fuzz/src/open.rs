//! The open packet, as a client reads it. The input is its data.

use std::time::Duration;

use engineio_proto::{
    Transport,
    open::{OpenPacket, is_sid},
};
use serde::de::IgnoredAny;

/// Open packets of a server that may be hostile.
pub fn eio_open_packet(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(open) = OpenPacket::decode(text) else { return };
    assert!(serde_json::from_str::<IgnoredAny>(text).is_ok() && text.trim_start().starts_with('{'));
    assert!(is_sid(&open.sid) && open.sid.len() <= 128);
    let allowed = Duration::from_millis(1)..=Duration::from_millis(1 << 31);
    assert!(allowed.contains(&open.ping_interval) && allowed.contains(&open.ping_timeout));
    assert_ne!(open.max_payload, Some(0));
    assert!(open.upgrades.len() <= 2 && !open.upgrades.contains(&Transport::Polling));
    assert!(open.upgrades.first() != open.upgrades.get(1) || open.upgrades.is_empty());
    let wire = open.encode();
    assert_eq!(OpenPacket::decode(wire.strip_prefix('0').expect("the kind")), Ok(open));
}
