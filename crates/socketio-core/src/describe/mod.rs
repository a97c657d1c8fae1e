//! A protocol that can be read by others: as TypeScript interfaces and as an AsyncAPI document.
//!
//! The types are described by [`schemars`], which users depend on for its derive, the crate for JSON Schema that follows serde's attributes (`rename`, `default`,
//! `tag`, …); both documents are printed from those schemas, so there is one derive and one truth.

mod asyncapi;
mod typescript;

use std::any::type_name;
use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};
use socketio_proto::spreads;

use crate::Event;
use crate::event::{EventFor, EventsFor};

/// Where schemas of types are referred to.
const SCHEMAS: &str = "/components/schemas";
/// Deeper schemas are cut off. They come from our own types, but a program that prints must not overflow its stack.
const DEPTH: usize = 128;

/// The protocol of a server, to be printed for those who write its clients.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use schemars::JsonSchema;
/// use socketio_core::{Event, describe::Protocol, events};
///
/// /// Says something to everybody.
/// #[derive(Event, Serialize, Deserialize, JsonSchema)]
/// #[event(name = "say", ack = u32)]
/// struct Say {
///     text: String,
/// }
///
/// #[derive(Event, Serialize, Deserialize, JsonSchema)]
/// #[event(name = "heard")]
/// struct Heard(String);
///
/// events! { enum FromClient { Say } }
/// events! { enum FromServer { Heard } }
///
/// let chat = Protocol::new("Chat", "1.0.0").namespace::<FromClient, FromServer>("/");
/// let typescript = chat.typescript();
/// assert!(typescript.contains("say: (say: Say, answer: (answer: number | ErrorAnswer) => void) => void;"));
/// assert!(chat.asyncapi().contains(r#""asyncapi": "3.0.0""#));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a protocol does nothing until it is printed"]
pub struct Protocol {
    title: String,
    version: String,
    description: Option<String>,
    namespaces: Vec<Described>,
    types: BTreeMap<String, Value>,
}

/// One namespace of a protocol.
#[derive(Debug, Clone)]
struct Described {
    name: String,
    from_client: Vec<EventType>,
    from_server: Vec<EventType>,
}

/// One event, its types as JSON schemas.
#[derive(Debug, Clone)]
struct EventType {
    name: &'static str,
    doc: String,
    args: Vec<Value>,
    /// The arguments of the answer, if there is one.
    ack: Option<Vec<Value>>,
}

/// The description of binary data, for fields of other types: `#[schemars(with = "Binary")] picture: Bytes`.
///
/// [`bytes::Bytes`](https://docs.rs/bytes) is known by itself; a `Vec<u8>` is the list of numbers that it is on the wire,
/// unless serde is told otherwise (`serde_bytes`), of which schemars knows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Binary;

impl JsonSchema for Binary {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Binary".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "binary" })
    }
}

/// Collects the events of one direction.
#[derive(Debug)]
pub struct Visitor {
    /// What their sender makes, and what it is answered with: the same types may be read and written in different forms
    /// (`#[serde(default)]`, `rename(serialize = …)`).
    args: SchemaGenerator,
    acks: SchemaGenerator,
    events: Vec<EventType>,
}

impl Visitor {
    fn new(args: Contract, acks: Contract) -> Self {
        let generator = |contract| {
            let settings = SchemaSettings::draft07().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            settings.into_generator()
        };
        Self { args: generator(args), acks: generator(acks), events: Vec::new() }
    }
}

impl<E> EventFor<Visitor> for E
where
    E: Event,
    E::Args: JsonSchema,
    E::Ack: JsonSchema,
{
    fn visit(visitor: &mut Visitor) {
        let args = arguments::<E::Args>(&mut visitor.args);
        let answer = type_name::<E::Ack>();
        let ack = (answer != "()").then(|| arguments::<E::Ack>(&mut visitor.acks));
        visitor.events.push(EventType { name: E::NAME, doc: E::DOC.trim().to_owned(), args, ack });
    }
}

/// What travels for a `T`: a tuple is several arguments, and of a `Result` the value, since errors have a form of their own.
fn arguments<T: JsonSchema>(generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut schema = generator.subschema_for::<T>();
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    let schema = Value::from(schema);
    if spreads::<T>() {
        return match schema.get("items") {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
    }
    if type_name::<T>().starts_with("core::result::Result<") {
        let definition = schema.get("$ref").and_then(Value::as_str).and_then(referred);
        let definition = definition.and_then(|name| generator.definitions().get(name)).unwrap_or(&schema);
        let ways = definition.get("oneOf").and_then(Value::as_array);
        let value = ways.and_then(|ways| ways.iter().find_map(|way| way.pointer("/properties/Ok")));
        if let Some(value) = value {
            let nothing = value.get("type").and_then(Value::as_str) == Some("null");
            return if nothing { Vec::new() } else { vec![value.clone()] };
        }
    }
    vec![schema]
}

impl Protocol {
    /// A protocol without events.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            version: version.into(),
            description: None,
            namespaces: Vec::new(),
            types: BTreeMap::new(),
        }
    }

    /// Says what the protocol is for.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds a namespace: what clients send in it, and what the server sends.
    pub fn namespace<C: EventsFor<Visitor>, S: EventsFor<Visitor>>(mut self, name: impl Into<String>) -> Self {
        let from_client = self.add::<C>(Contract::Deserialize, Contract::Serialize);
        let from_server = self.add::<S>(Contract::Serialize, Contract::Deserialize);
        self.namespaces.push(Described { name: name.into(), from_client, from_server });
        self
    }

    /// The protocol as TypeScript: `ClientToServerEvents` and `ServerToClientEvents` as `socket.io-client` takes them, and
    /// an interface for each type. Namespaces other than `/` put their names in front: `ChatClientToServerEvents`.
    ///
    /// ```ts
    /// const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
    /// ```
    ///
    /// An event with an answer takes a callback. Every answer may be the standard error instead, which is in its type:
    /// `"error" in answer` tells them apart.
    #[must_use]
    pub fn typescript(&self) -> String {
        typescript::print(self)
    }

    /// The protocol as an AsyncAPI 3 document in JSON, from the server's side: a namespace is a channel, an event a message
    /// and an operation, an answer its reply. A payload is the list of the event's arguments.
    #[must_use]
    pub fn asyncapi(&self) -> String {
        asyncapi::print(self)
    }

    fn add<Set: EventsFor<Visitor>>(&mut self, args: Contract, acks: Contract) -> Vec<EventType> {
        let mut visitor = Visitor::new(args, acks);
        Set::visit(&mut visitor);
        let mut events = visitor.events;
        for (generator, of_acks) in [(&mut visitor.args, false), (&mut visitor.acks, true)] {
            let renamed = self.take(generator.take_definitions(true));
            for event in &mut events {
                let schemas = if of_acks { event.ack.as_mut() } else { Some(&mut event.args) };
                schemas.into_iter().flatten().for_each(|schema| rename(schema, &renamed, 0));
            }
        }
        events
    }

    /// The types that events refer to, directly or through others.
    fn types(&self) -> BTreeMap<&str, &Value> {
        let mut open: Vec<&Value> = Vec::new();
        for namespace in &self.namespaces {
            for event in namespace.from_client.iter().chain(&namespace.from_server) {
                open.extend(event.args.iter().chain(event.ack.iter().flatten()));
            }
        }
        let mut used = BTreeMap::new();
        while let Some(schema) = open.pop() {
            match schema {
                Value::Object(map) => {
                    if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(referred)
                        && let Some((name, schema)) = self.types.get_key_value(name)
                        && used.insert(name.as_str(), schema).is_none()
                    {
                        open.push(schema);
                    }
                    open.extend(map.values());
                }
                Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        used
    }

    /// Takes definitions over. A type whose name is taken by a different one gets a number; what refers to it is told.
    fn take(&mut self, mut found: Map<String, Value>) -> BTreeMap<String, String> {
        let mut renamed = BTreeMap::new();
        // To schemars `Bytes` are a list of numbers or a string; here they are an attachment.
        if let Some(bytes) =
            found.get_mut("Bytes").filter(|bytes| bytes.pointer("/items/format") == Some(&"uint8".into()))
        {
            *bytes = serde_json::json!({ "type": "string", "format": "binary" });
        }
        for (name, schema) in &found {
            if self.types.get(name).is_some_and(|taken| taken != schema) {
                let mut number = 2;
                while self.types.get(&format!("{name}{number}")).is_some_and(|taken| taken != schema) {
                    number += 1;
                }
                renamed.insert(name.clone(), format!("{name}{number}"));
            }
        }
        for schema in found.values_mut() {
            rename(schema, &renamed, 0);
        }
        for (name, schema) in found {
            self.types.insert(renamed.get(&name).cloned().unwrap_or(name), schema);
        }
        renamed
    }
}

/// Gives the types that a schema refers to their new names.
fn rename(schema: &mut Value, renamed: &BTreeMap<String, String>, depth: usize) {
    if renamed.is_empty() || depth > DEPTH {
        return;
    }
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(path) if key == "$ref" => {
                        if let Some(new) = referred(path).and_then(|name| renamed.get(name)) {
                            *path = format!("#{SCHEMAS}/{new}");
                        }
                    }
                    _ => rename(value, renamed, depth + 1),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| rename(item, renamed, depth + 1)),
        _ => {}
    }
}

/// The name of the type that a `$ref` names.
fn referred(path: &str) -> Option<&str> {
    path.strip_prefix('#')?.strip_prefix(SCHEMAS)?.strip_prefix('/')
}
