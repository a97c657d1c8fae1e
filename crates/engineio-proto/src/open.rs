//! The open packet: what a server tells a client at the start of a session.

use std::{borrow::Cow, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Transport, packet::PacketKind, payload::OutPacket};

/// The most characters of a session id that a client accepts.
pub const MAX_SID_LEN: usize = 128;

/// What an open packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPacket {
    /// The session id.
    pub sid: String,
    /// The transports that the session may be upgraded to.
    pub upgrades: Vec<Transport>,
    /// How often pings are sent. Sent in whole milliseconds.
    pub ping_interval: Duration,
    /// How long a ping may stay without its answer. Sent in whole milliseconds.
    pub ping_timeout: Duration,
    /// The largest message or polling body that the server accepts, in bytes; `None` when it does not tell.
    pub max_payload: Option<u64>,
}

impl OpenPacket {
    /// The packet as text, kind included: `0{"sid":…,"upgrades":[…],"pingInterval":…,"pingTimeout":…,"maxPayload":…}`.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(128);
        text.push_str(PacketKind::Open.text());
        self.push_json(&mut text);
        text
    }

    /// The packet for [`encode_payload`](crate::payload::encode_payload).
    pub fn packet(&self) -> OutPacket {
        let mut json = String::with_capacity(128);
        self.push_json(&mut json);
        OutPacket::Control(PacketKind::Open, Cow::Owned(json))
    }

    /// Decodes the data of an open packet, without the kind, as a client must: the server may be hostile.
    ///
    /// Unknown fields and unknown upgrades are ignored, a missing list of upgrades is an empty one. `maxPayload` may be
    /// absent, and 0 means the same.
    ///
    /// # Errors
    /// [`InvalidOpen`] names the field that is missing or out of range.
    pub fn decode(json: &str) -> Result<Self, InvalidOpen> {
        // serde would take an array for a struct.
        if !json.trim_start().starts_with('{') {
            return Err(InvalidOpen::NotAnObject);
        }
        let raw: Raw<'_> = serde_json::from_str(json).map_err(|_| InvalidOpen::NotAnObject)?;
        let sid = match raw.sid.map(|value| serde_json::from_str::<Cow<'_, str>>(value.get())) {
            Some(Ok(sid)) if is_sid(&sid) => sid.into_owned(),
            _ => return Err(InvalidOpen::Sid),
        };
        let upgrades = match raw.upgrades.map(|value| serde_json::from_str::<Upgrades>(value.get())) {
            None => Vec::new(),
            Some(Ok(Upgrades(upgrades))) => upgrades,
            Some(Err(_)) => return Err(InvalidOpen::Upgrades),
        };
        Ok(Self {
            sid,
            upgrades,
            ping_interval: millis(raw.ping_interval).ok_or(InvalidOpen::PingInterval)?,
            ping_timeout: millis(raw.ping_timeout).ok_or(InvalidOpen::PingTimeout)?,
            max_payload: max_payload(raw.max_payload)?,
        })
    }

    fn push_json(&self, out: &mut String) {
        let mut number = itoa::Buffer::new();
        out.push_str(r#"{"sid":"#);
        // An id of ours needs no escaping; that of an application might.
        out.push_str(&serde_json::Value::from(self.sid.as_str()).to_string());
        out.push_str(r#","upgrades":["#);
        for (at, upgrade) in self.upgrades.iter().enumerate() {
            out.push_str(if at > 0 { ",\"" } else { "\"" });
            out.push_str(upgrade.name());
            out.push('"');
        }
        out.push_str(r#"],"pingInterval":"#);
        out.push_str(number.format(self.ping_interval.as_millis()));
        out.push_str(r#","pingTimeout":"#);
        out.push_str(number.format(self.ping_timeout.as_millis()));
        if let Some(max_payload) = self.max_payload {
            out.push_str(r#","maxPayload":"#);
            out.push_str(number.format(max_payload));
        }
        out.push('}');
    }
}

/// Whether this is a session id as every server makes them: 1 to 128 of `A-Z a-z 0-9 _ -`.
pub fn is_sid(sid: &str) -> bool {
    (1..=MAX_SID_LEN).contains(&sid.len())
        && sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Why an open packet was refused by a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOpen {
    /// The data is not a JSON object, or names a field twice.
    #[error("the open packet is not a JSON object")]
    NotAnObject,
    /// No `sid`, or not 1 to 128 characters of `A-Z a-z 0-9 _ -`.
    #[error("the open packet has no valid `sid`")]
    Sid,
    /// `upgrades` is not a list.
    #[error("`upgrades` of the open packet is not a list")]
    Upgrades,
    /// No `pingInterval`, or not from 1 to 2^31 ms.
    #[error("the open packet has no valid `pingInterval`")]
    PingInterval,
    /// No `pingTimeout`, or not from 1 to 2^31 ms.
    #[error("the open packet has no valid `pingTimeout`")]
    PingTimeout,
    /// `maxPayload` is neither a number nor null.
    #[error("`maxPayload` of the open packet is not a number")]
    MaxPayload,
}

/// The fields, each still unparsed, so that an error can name the one it is in.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    sid: Option<&'a RawValue>,
    // An explicit null is an error here, unlike a missing list, so it must not become `None`.
    #[serde(borrow, default, deserialize_with = "present")]
    upgrades: Option<&'a RawValue>,
    #[serde(borrow, rename = "pingInterval")]
    ping_interval: Option<&'a RawValue>,
    #[serde(borrow, rename = "pingTimeout")]
    ping_timeout: Option<&'a RawValue>,
    #[serde(borrow, rename = "maxPayload")]
    max_payload: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The upgrades that we know, each once, in the order of the list.
struct Upgrades(Vec<Transport>);

impl<'de> Deserialize<'de> for Upgrades {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl<'de> Visitor<'de> for Known {
            type Value = Upgrades;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of transports")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Upgrades, A::Error> {
                let mut known = Vec::new();
                while let Some(entry) = list.next_element::<&RawValue>()? {
                    let transport = match entry.get() {
                        r#""websocket""# => Transport::WebSocket,
                        r#""webtransport""# => Transport::WebTransport,
                        _ => continue,
                    };
                    if !known.contains(&transport) {
                        known.push(transport);
                    }
                }
                Ok(Upgrades(known))
            }
        }

        deserializer.deserialize_seq(Known)
    }
}

/// 1 to 2^31 milliseconds. Some servers write whole numbers as `25000.0`.
fn millis(value: Option<&RawValue>) -> Option<Duration> {
    let value: f64 = serde_json::from_str(value?.get()).ok()?;
    (1.0..=2_147_483_648.0).contains(&value).then(|| Duration::from_millis(value as u64))
}

/// Nothing and 0 mean that the server does not tell. Numbers beyond what we count in are clamped.
fn max_payload(value: Option<&RawValue>) -> Result<Option<u64>, InvalidOpen> {
    let Some(value) = value else { return Ok(None) };
    let value: Option<f64> = serde_json::from_str(value.get()).map_err(|_| InvalidOpen::MaxPayload)?;
    // A cast from float to integer saturates.
    Ok(value.filter(|bytes| *bytes >= 1.0).map(|bytes| bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(upgrades: &[Transport], max_payload: Option<u64>) -> OpenPacket {
        OpenPacket {
            sid: "lv_VI97HAXpY6yYWAAAC".to_owned(),
            upgrades: upgrades.to_vec(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload,
        }
    }

    #[test]
    fn the_open_packet_has_these_bytes() {
        check(
            open(&[Transport::WebSocket], Some(1_000_000)),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        );
        check(
            open(&[Transport::WebSocket, Transport::WebTransport], None),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket","webtransport"],"pingInterval":25000,"pingTimeout":20000}"#,
        );
        check(
            OpenPacket { sid: "\"\n".to_owned(), ..open(&[], Some(0)) },
            r#"0{"sid":"\"\n","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":0}"#,
        );

        #[track_caller]
        fn check(open: OpenPacket, want: &str) {
            assert_eq!(open.encode(), want);
            let OutPacket::Control(PacketKind::Open, json) = open.packet() else { panic!("not an open packet") };
            assert_eq!(format!("0{json}"), want);
        }
    }

    #[test]
    fn clients_read_what_servers_write() {
        let base = open(&[], None);
        check(
            r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
            &open(&[Transport::WebSocket], Some(1_000_000)),
        );
        // Old servers: no maxPayload. Others: other order, spaces, floats, more fields, no upgrades.
        check(r#" { "pingTimeout": 20000.0, "x": [{}], "pingInterval": 25000, "sid": "lv_VI97HAXpY6yYWAAAC" }"#, &base);
        // L06
        check_max_payload("0", None);
        check_max_payload("-1", None);
        check_max_payload("null", None);
        check_max_payload("1", Some(1));
        check_max_payload("1e18", Some(1_000_000_000_000_000_000));
        check_max_payload("1e300", Some(u64::MAX));
        // L07
        check(
            r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["__proto__","websocket",5,null,"polling",["websocket"],"websocket"],"pingInterval":25000,"pingTimeout":20000}"#,
            &open(&[Transport::WebSocket], None),
        );
        // L05, the ends of the range
        let edges = r#"{"sid":"a","pingInterval":1,"pingTimeout":2147483648}"#;
        let decoded = OpenPacket::decode(edges).expect("in range");
        assert_eq!(
            (decoded.ping_interval, decoded.ping_timeout),
            (Duration::from_millis(1), Duration::from_millis(1 << 31))
        );

        #[track_caller]
        fn check(json: &str, want: &OpenPacket) {
            assert_eq!(OpenPacket::decode(json).as_ref(), Ok(want), "json: {json}");
        }

        #[track_caller]
        fn check_max_payload(value: &str, want: Option<u64>) {
            let json = format!(r#"{{"sid":"a","pingInterval":1,"pingTimeout":1,"maxPayload":{value}}}"#);
            assert_eq!(OpenPacket::decode(&json).map(|open| open.max_payload), Ok(want), "json: {json}");
        }
    }

    #[test]
    fn clients_refuse_what_a_hostile_server_writes() {
        use InvalidOpen::*;
        // L03
        for json in ["", "{", "null", "[]", r#"["a",[],1,1,1]"#, "0", "<html>", r#"{"sid":"a"}x"#] {
            check(json, NotAnObject);
        }
        check(r#"{"sid":"a","sid":"b","pingInterval":1,"pingTimeout":1}"#, NotAnObject);
        check(&"[".repeat(100_000), NotAnObject);
        check(&format!(r#"{{"x":{}"#, "[".repeat(100_000)), NotAnObject);
        check(r#"{"sid":"a","upgrades":null,"pingInterval":1,"pingTimeout":1}"#, Upgrades);
        check(r#"{"sid":"a","upgrades":{"0":"websocket"},"pingInterval":1,"pingTimeout":1}"#, Upgrades);
        // L04
        let long = format!("\"{}\"", "a".repeat(129));
        let megabyte = format!("\"{}\"", "a".repeat(1 << 20));
        for sid in ["{}", "null", "5", "\"\"", r#""a\r\nb""#, "\"a b\"", "\"é\"", "\"a/b\"", &long, &megabyte] {
            check(&format!(r#"{{"sid":{sid},"pingInterval":1,"pingTimeout":1}}"#), Sid);
        }
        check("{}", Sid);
        // L05
        for value in ["0", "-1", "1e12", "0.5", "null", "\"25000\"", "2147483649", "{}", "1e999"] {
            check(&format!(r#"{{"sid":"a","pingInterval":{value},"pingTimeout":1}}"#), PingInterval);
            check(&format!(r#"{{"sid":"a","pingInterval":1,"pingTimeout":{value}}}"#), PingTimeout);
        }
        check(r#"{"sid":"a","pingTimeout":1}"#, PingInterval);
        check(r#"{"sid":"a","pingInterval":1,"pingTimeout":1,"maxPayload":"1"}"#, MaxPayload);

        #[track_caller]
        fn check(json: &str, want: InvalidOpen) {
            let shown: String = json.chars().take(80).collect();
            assert_eq!(OpenPacket::decode(json), Err(want), "json: {shown}");
        }
    }

    #[test]
    fn a_sid_of_128_characters_is_the_longest() {
        assert!(is_sid(&"a".repeat(128)));
        assert!(!is_sid(&"a".repeat(129)));
        assert!(!is_sid(""));
        assert!(is_sid("azAZ09_-"));
    }
}
