//! Schemas as an AsyncAPI 3 document.

use serde_json::{Map, Value, json};

use super::{EventType, Protocol, SCHEMAS};

pub(super) fn print(protocol: &Protocol) -> String {
    let mut info = json!({ "title": protocol.title, "version": protocol.version });
    if let Some(text) = &protocol.description {
        info["description"] = text.as_str().into();
    }
    let mut channels = Map::new();
    let mut operations = Map::new();
    for namespace in &protocol.namespaces {
        let channel = channel_key(&namespace.name);
        let mut messages = Map::new();
        for (events, action) in [(&namespace.from_client, "receive"), (&namespace.from_server, "send")] {
            for event in events {
                let key = format!("{action}.{}", word(event.name));
                let at = format!("#/channels/{channel}");
                let mut operation = json!({
                    "action": action,
                    "channel": { "$ref": at },
                    "messages": [{ "$ref": format!("{at}/messages/{key}") }],
                });
                if !event.doc.is_empty() {
                    operation["summary"] = event.doc.as_str().into();
                }
                if let Some(ack) = &event.ack {
                    let answer = format!("{key}.answer");
                    operation["reply"] = json!({
                        "channel": { "$ref": at },
                        "messages": [{ "$ref": format!("{at}/messages/{answer}") }],
                    });
                    messages.insert(answer, reply(event, ack));
                }
                messages.insert(key.clone(), message(event));
                operations.insert(format!("{channel}.{key}"), operation);
            }
        }
        channels.insert(
            channel,
            json!({ "address": namespace.name, "title": format!("The namespace {}", namespace.name), "messages": messages }),
        );
    }
    let mut schemas: Map<String, Value> =
        protocol.types().into_iter().map(|(name, schema)| (name.to_owned(), schema.clone())).collect();
    schemas.insert(
        "ErrorAnswer".to_owned(),
        json!({
            "type": "object",
            "description": "The answer to an event that could not be handled.",
            "properties": { "error": {
                "type": "object",
                "properties": { "code": { "type": "string" }, "message": { "type": "string" }, "details": {} },
                "required": ["code", "message"],
            } },
            "required": ["error"],
        }),
    );
    let document = json!({
        "asyncapi": "3.0.0",
        "info": info,
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "schemas": schemas },
    });
    format!("{document:#}\n")
}

fn message(event: &EventType) -> Value {
    let mut message = json!({ "name": event.name, "title": event.name, "payload": list(&event.args) });
    if !event.doc.is_empty() {
        message["description"] = event.doc.as_str().into();
    }
    message
}

fn reply(event: &EventType, ack: &[Value]) -> Value {
    let error = list(&[json!({ "$ref": format!("#{SCHEMAS}/ErrorAnswer") })]);
    json!({
        "name": format!("{} (answer)", event.name),
        "title": format!("The answer to {}", event.name),
        "payload": { "oneOf": [list(ack), error] },
    })
}

/// The arguments of a packet: a list of known length.
fn list(args: &[Value]) -> Value {
    if args.is_empty() {
        return json!({ "type": "array", "maxItems": 0 });
    }
    json!({ "type": "array", "items": args, "minItems": args.len(), "maxItems": args.len() })
}

fn channel_key(namespace: &str) -> String {
    let name = word(namespace.trim_matches('/'));
    if name.is_empty() { "root".to_owned() } else { name }
}

/// What AsyncAPI takes as a key.
fn word(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '_' }).collect()
}
