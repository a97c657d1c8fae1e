//! A protocol printed for others: every form of type, pinned.
#![cfg(feature = "describe")]

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socketio_core::describe::{Binary, Protocol};
use socketio_core::{Event, events};

/// Says something in a room.
///
/// The answer is its number.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(name = "say", ack = Said)]
struct Say {
    /// Where it is said.
    room: String,
    text: Option<String>,
    #[serde(default)]
    level: Level,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    #[default]
    Plain,
    Loud,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Said {
    id: u64,
}

/// The pointer moved.
#[derive(Event, JsonSchema)]
#[event(name = "pointer moved")]
struct Moved((f64, f64));

#[derive(Event, JsonSchema)]
#[event(name = "upload", ack = (u32, bool))]
struct Upload((String, Bytes));

#[derive(Event, JsonSchema)]
#[event(name = "rename", ack = Result<String, String>)]
struct Rename(String);

#[derive(Event)]
#[event(name = "leave")]
struct Leave;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(name = "shape")]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Shape {
    Circle {
        radius: f32,
    },
    Picture {
        #[schemars(with = "Binary")]
        data: Bytes,
        tags: std::collections::BTreeMap<String, Vec<Level>>,
    },
}

events! { enum FromClient { Say, Moved, Upload, Rename, Leave } }
events! { enum FromServer { Shape } }

fn protocol() -> Protocol {
    Protocol::new("Board", "1.2.3").namespace::<FromClient, FromServer>("/board")
}

#[test]
fn every_form_of_event_and_type_has_its_typescript() {
    let text = protocol().typescript();
    let want = r#"// Board 1.2.3: the events, for socket.io-client. Made by the server.

/** What a client sends in the namespace `/board`. */
export interface BoardClientToServerEvents {
  /**
   * Says something in a room.
   *
   * The answer is its number.
   */
  say: (say: Say, answer: (answer: Said | ErrorAnswer) => void) => void;
  /** The pointer moved. */
  "pointer moved": (arg1: number, arg2: number) => void;
  upload: (arg1: string, arg2: Bytes, answer: (...answer: [number, boolean] | [ErrorAnswer]) => void) => void;
  rename: (arg: string, answer: (answer: string | ErrorAnswer) => void) => void;
  leave: () => void;
}

/** What the server sends in the namespace `/board`. */
export interface BoardServerToClientEvents {
  shape: (shape: Shape) => void;
}

export type Bytes = Binary;

export type Level = "plain" | "loud";

"#;
    assert!(text.starts_with(want), "{text}");
    for part in [
        "export interface Said {\n  id: number;\n}\n",
        "  /** Where it is said. */\n  room: string;\n  text?: string | null;\n",
        "kind: \"circle\";\n  radius: number;\n",
        "  data: Binary;\n",
        "  tags: { [key: string]: Level[] };\n",
        "export type Binary = ArrayBuffer | Uint8Array;\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn the_asyncapi_document_has_channels_messages_operations_and_replies() {
    let document: serde_json::Value = serde_json::from_str(&protocol().asyncapi()).unwrap();
    check(&document, "/asyncapi", r#""3.0.0""#);
    check(&document, "/info", r#"{"title":"Board","version":"1.2.3"}"#);
    check(&document, "/channels/board/address", r#""/board""#);
    check(
        &document,
        "/operations/board.receive.say/reply",
        r##"{"channel":{"$ref":"#/channels/board"},"messages":[{"$ref":"#/channels/board/messages/receive.say.answer"}]}"##,
    );
    check(&document, "/operations/board.send.shape/action", r#""send""#);
    check(
        &document,
        "/channels/board/messages/receive.say/payload",
        r##"{"items":[{"$ref":"#/components/schemas/Say"}],"maxItems":1,"minItems":1,"type":"array"}"##,
    );
    check(
        &document,
        "/channels/board/messages/receive.upload/payload/items/1",
        r##"{"$ref":"#/components/schemas/Bytes"}"##,
    );
    check(&document, "/components/schemas/Bytes", r#"{"format":"binary","type":"string"}"#);
    check(&document, "/components/schemas/Level/enum", r#"["plain","loud"]"#);

    #[track_caller]
    fn check(document: &serde_json::Value, path: &str, want: &str) {
        let found = document.pointer(path).map(|value| sorted(value).to_string());
        assert_eq!(found.as_deref(), Some(sorted(&serde_json::from_str(want).unwrap()).to_string().as_str()), "{path}");
    }

    fn sorted(value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => {
                let mut pairs: Vec<_> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().collect()
            }
            other => other.clone(),
        }
    }
}

#[test]
fn types_of_one_name_that_differ_are_kept_apart() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Point {
        #[serde(default)]
        x: u8,
    }
    #[derive(Event, JsonSchema)]
    #[event(name = "ask", ack = Point)]
    struct Ask(Point);
    events! { enum Set { Ask } }
    let text = Protocol::new("p", "1").namespace::<Set, Set>("/").typescript();
    assert!(text.contains("ask: (point: Point, answer: (answer: Point2 | ErrorAnswer) => void) => void;"), "{text}");
    assert!(text.contains("export interface Point {\n  x?: number;\n}"), "{text}");
    assert!(text.contains("export interface Point2 {\n  x: number;\n}"), "{text}");
}
