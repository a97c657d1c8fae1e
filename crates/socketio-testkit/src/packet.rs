//! Socket.IO packets as text, written and read by hand.

use std::io;

use serde_json::Value;

use crate::unexpected;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A namespace was joined.
    Connect,
    /// A namespace was left.
    Disconnect,
    /// An event, with or without attachments.
    Event,
    /// An acknowledgement, with or without attachments.
    Ack,
    /// A namespace was refused.
    ConnectError,
}

/// One Socket.IO packet of the JSON parser.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// The namespace, `/` if none was named.
    pub namespace: String,
    /// The id of the acknowledgement.
    pub id: Option<u64>,
    /// The JSON, placeholders and all; null if there is none.
    pub data: Value,
    /// The attachments, in order.
    pub attachments: Vec<Vec<u8>>,
}

impl Packet {
    /// Reads a text. The second value is how many attachments follow.
    ///
    /// # Errors
    /// When these are not the bytes of a packet.
    pub fn parse(text: &str) -> io::Result<(Self, usize)> {
        let bad = || unexpected(format!("not a packet: {text}"));
        let mut rest = text.get(1..).ok_or_else(bad)?;
        let (kind, binary) = match text.as_bytes()[0] {
            b'0' => (Kind::Connect, false),
            b'1' => (Kind::Disconnect, false),
            b'2' => (Kind::Event, false),
            b'3' => (Kind::Ack, false),
            b'4' => (Kind::ConnectError, false),
            b'5' => (Kind::Event, true),
            b'6' => (Kind::Ack, true),
            _ => return Err(bad()),
        };
        let mut attachments = 0;
        if binary {
            let (count, tail) = rest.split_once('-').ok_or_else(bad)?;
            attachments = count.parse().map_err(|_| bad())?;
            rest = tail;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, rest) = rest.split_at(digits);
        let id = if id.is_empty() { None } else { Some(id.parse().map_err(|_| bad())?) };
        let data = if rest.is_empty() { Value::Null } else { serde_json::from_str(rest).map_err(|_| bad())? };
        Ok((Self { kind, namespace: namespace.to_owned(), id, data, attachments: Vec::new() }, attachments))
    }

    /// The name and the arguments, if this is an event.
    pub fn event(&self) -> Option<(&str, &[Value])> {
        if self.kind != Kind::Event {
            return None;
        }
        let (name, args) = self.data.as_array()?.split_first()?;
        Some((name.as_str()?, args))
    }

    /// The arguments, if this is an event of that name.
    pub fn args_of(&self, name: &str) -> Option<&[Value]> {
        self.event().filter(|(event, _)| *event == name).map(|(_, args)| args)
    }

    /// The first argument of an event, or the first value of an acknowledgement, as a number.
    pub fn number(&self) -> Option<u64> {
        match self.kind {
            Kind::Event => self.event()?.1.first()?.as_u64(),
            _ => self.data.get(0)?.as_u64(),
        }
    }
}

/// The text of an event without attachments, from the packet type on: `2/chat,7["name",…]`.
pub fn event(namespace: &str, id: Option<u64>, name: &str, args: &[Value]) -> String {
    let mut text = String::from("2");
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        text.push_str(&id.to_string());
    }
    text.push('[');
    text.push_str(&Value::from(name).to_string());
    for arg in args {
        text.push(',');
        text.push_str(&arg.to_string());
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_read_as_the_protocol_writes_them() {
        check("0", Kind::Connect, "/", None, Value::Null, 0);
        check(r#"0/chat,{"sid":"x"}"#, Kind::Connect, "/chat", None, json!({"sid": "x"}), 0);
        check("1/chat,", Kind::Disconnect, "/chat", None, Value::Null, 0);
        check(r#"2["a",1]"#, Kind::Event, "/", None, json!(["a", 1]), 0);
        check(r#"2/chat,12["a"]"#, Kind::Event, "/chat", Some(12), json!(["a"]), 0);
        check("312[]", Kind::Ack, "/", Some(12), json!([]), 0);
        check(r#"52-/chat,7["a"]"#, Kind::Event, "/chat", Some(7), json!(["a"]), 2);

        #[track_caller]
        fn check(text: &str, kind: Kind, namespace: &str, id: Option<u64>, data: Value, attachments: usize) {
            let (packet, follow) = Packet::parse(text).expect("a packet");
            let want = Packet { kind, namespace: namespace.to_owned(), id, data, attachments: Vec::new() };
            assert_eq!((packet, follow), (want, attachments), "{text}");
        }
    }

    #[test]
    fn events_are_written_as_the_protocol_reads_them() {
        assert_eq!(event("/", None, "a", &[]), r#"2["a"]"#);
        assert_eq!(
            event("/chat", Some(3), "a\"b", &[json!(1), json!({"x": null})]),
            r#"2/chat,3["a\"b",1,{"x":null}]"#
        );
    }
}
