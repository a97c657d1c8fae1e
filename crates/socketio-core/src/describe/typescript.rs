//! Schemas as TypeScript.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{DEPTH, Described, EventType, Protocol, referred};

/// The names that the file gives itself.
const OWN: [&str; 4] = ["Binary", "ErrorAnswer", "ClientToServerEvents", "ServerToClientEvents"];

pub(super) fn print(protocol: &Protocol) -> String {
    let (title, version) = (line(&protocol.title), line(&protocol.version));
    let mut out = format!("// {title} {version}: the events, for socket.io-client. Made by the server.\n");
    for text in protocol.description.iter().flat_map(|text| text.lines()) {
        let _ = writeln!(out, "// {text}");
    }
    out.push('\n');
    for namespace in &protocol.namespaces {
        let prefix = prefix(namespace);
        for (name, events, what) in [
            ("ClientToServerEvents", &namespace.from_client, "What a client sends in"),
            ("ServerToClientEvents", &namespace.from_server, "What the server sends in"),
        ] {
            comment(&mut out, &format!("{what} the namespace `{}`.", namespace.name), 0);
            let _ = writeln!(out, "export interface {prefix}{name} {{");
            for event in events {
                comment(&mut out, &event.doc, 2);
                let _ = writeln!(out, "  {}: {};", key(event.name), signature(event));
            }
            out.push_str("}\n\n");
        }
    }
    for (name, schema) in protocol.types() {
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            comment(&mut out, text, 0);
        }
        let name = type_name(name);
        match schema {
            Value::Object(map) if is_plain_object(map) => {
                let _ = writeln!(out, "export interface {name} {}\n", object(map, 0, 0));
            }
            _ => {
                let _ = writeln!(out, "export type {name} = {};\n", ty(schema, 0, 0));
            }
        }
    }
    out.push_str(
        "/** The answer to an event that could not be handled. */\nexport interface ErrorAnswer {\n  error: { code: string; \
         message: string; details?: unknown };\n}\n",
    );
    if out.contains("Binary") {
        out.push_str("\n/** Binary data. Browsers receive an `ArrayBuffer`, Node.js a `Buffer`. */\nexport type Binary = ArrayBuffer | Uint8Array;\n");
    }
    out
}

/// `(say: Say, answer: (answer: Said | ErrorAnswer) => void) => void`
fn signature(event: &EventType) -> String {
    let many = event.args.len() > 1;
    let mut parameters: Vec<String> = Vec::new();
    for (at, schema) in event.args.iter().enumerate() {
        let name = if many { format!("arg{}", at + 1) } else { parameter(schema) };
        parameters.push(format!("{name}: {}", ty(schema, 2, 0)));
    }
    match event.ack.as_deref() {
        None => {}
        Some([]) => parameters.push("answer: (answer?: ErrorAnswer) => void".to_owned()),
        Some([answer]) => parameters.push(format!("answer: (answer: {} | ErrorAnswer) => void", ty(answer, 2, 0))),
        Some(answers) => {
            let types: Vec<String> = answers.iter().map(|answer| ty(answer, 2, 0)).collect();
            parameters.push(format!("answer: (...answer: [{}] | [ErrorAnswer]) => void", types.join(", ")));
        }
    }
    format!("({}) => void", parameters.join(", "))
}

/// The name of the only argument: that of its type, in lower case.
fn parameter(schema: &Value) -> String {
    let of_type = schema.get("$ref").and_then(Value::as_str).and_then(referred);
    let mut chars = of_type.unwrap_or("arg").chars().filter(|char| char.is_ascii_alphanumeric());
    let first = chars.next().unwrap_or('a').to_ascii_lowercase();
    let name: String = std::iter::once(first).chain(chars).collect();
    if first.is_ascii_digit() || name == "answer" || RESERVED.contains(&name.as_str()) {
        format!("{name}_")
    } else {
        name
    }
}

/// Words that cannot name a parameter.
const RESERVED: [&str; 38] = [
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "import",
    "in",
    "instanceof",
    "new",
    "null",
    "return",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "let",
    "yield",
];

fn ty(schema: &Value, indent: usize, depth: usize) -> String {
    let map = match schema {
        Value::Bool(false) => return "never".to_owned(),
        Value::Object(map) if depth < DEPTH => map,
        _ => return "unknown".to_owned(),
    };
    if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(referred) {
        return type_name(name);
    }
    if let Some(value) = map.get("const") {
        return value.to_string();
    }
    if let Some(Value::Array(values)) = map.get("enum") {
        return union(values.iter().map(Value::to_string));
    }
    let mut parts = Vec::new();
    for word in ["oneOf", "anyOf"] {
        if let Some(Value::Array(ways)) = map.get(word) {
            parts.push(union(ways.iter().map(|way| ty(way, indent, depth + 1))));
        }
    }
    if let Some(Value::Array(all)) = map.get("allOf") {
        parts.extend(all.iter().map(|part| ty(part, indent, depth + 1)));
    }
    match map.get("type") {
        Some(Value::String(name)) => parts.push(named(name, map, indent, depth)),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            parts.push(union(names.map(|name| named(name, map, indent, depth))));
        }
        _ if map.contains_key("properties") => parts.push(object(map, indent, depth)),
        _ => {}
    }
    match parts.len() {
        0 => "unknown".to_owned(),
        1 => parts.remove(0),
        _ => parts.iter().map(|part| grouped(part)).collect::<Vec<_>>().join(" & "),
    }
}

/// A type by JSON Schema's name for it.
fn named(name: &str, map: &Map<String, Value>, indent: usize, depth: usize) -> String {
    match name {
        "string" if map.get("format").and_then(Value::as_str) == Some("binary") => "Binary".to_owned(),
        "string" => "string".to_owned(),
        "number" | "integer" => "number".to_owned(),
        "boolean" => "boolean".to_owned(),
        "null" => "null".to_owned(),
        "array" => array(map, indent, depth),
        "object" => object(map, indent, depth),
        _ => "unknown".to_owned(),
    }
}

fn array(map: &Map<String, Value>, indent: usize, depth: usize) -> String {
    match map.get("items") {
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| ty(item, indent, depth + 1)).collect();
            format!("[{}]", items.join(", "))
        }
        Some(item) => format!("{}[]", grouped(&ty(item, indent, depth + 1))),
        None => "unknown[]".to_owned(),
    }
}

fn object(map: &Map<String, Value>, indent: usize, depth: usize) -> String {
    let required: Vec<&str> = match map.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let no_fields = Map::new();
    let fields = map.get("properties").and_then(Value::as_object).unwrap_or(&no_fields);
    let others = map.get("additionalProperties").filter(|others| **others != Value::Bool(false));
    let record = others.map(|others| format!("{{ [key: string]: {} }}", ty(others, indent, depth + 1)));
    if fields.is_empty() {
        return record.unwrap_or_else(|| "{ [key: string]: never }".to_owned());
    }
    let mut out = "{\n".to_owned();
    for (name, schema) in fields {
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            comment(&mut out, text, indent + 2);
        }
        let optional = if required.contains(&name.as_str()) { "" } else { "?" };
        let ty = ty(schema, indent + 2, depth + 1);
        let _ = writeln!(out, "{:indent$}  {}{optional}: {ty};", "", key(name));
    }
    let _ = write!(out, "{:indent$}}}", "");
    match record {
        Some(record) => format!("{out} & {record}"),
        None => out,
    }
}

/// Whether `interface` can say it.
fn is_plain_object(map: &Map<String, Value>) -> bool {
    let alone = ["oneOf", "anyOf", "allOf", "enum", "const", "$ref"].iter().all(|word| !map.contains_key(*word));
    let closed = map.get("additionalProperties").is_none_or(|others| *others == Value::Bool(false));
    let fields = map.get("properties").and_then(Value::as_object).is_some_and(|fields| !fields.is_empty());
    alone && closed && fields && map.get("type").and_then(Value::as_str) == Some("object")
}

fn union(ways: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for way in ways {
        if !distinct.contains(&way) {
            distinct.push(way);
        }
    }
    if distinct.is_empty() { "never".to_owned() } else { distinct.join(" | ") }
}

fn grouped(ty: &str) -> String {
    if ty.contains(" | ") || ty.contains(" & ") { format!("({ty})") } else { ty.to_owned() }
}

fn key(name: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '$';
    let is_name = name.chars().all(plain) && name.starts_with(|char: char| !char.is_ascii_digit());
    if is_name { name.to_owned() } else { Value::from(name).to_string() }
}

fn type_name(name: &str) -> String {
    let name: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    if OWN.contains(&name.as_str()) || name.starts_with(|char: char| char.is_ascii_digit()) {
        format!("{name}_")
    } else {
        name
    }
}

/// `/chat/rooms` is `ChatRooms`, `/` nothing.
fn prefix(namespace: &Described) -> String {
    let words = namespace.name.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in words {
        let mut chars = word.chars();
        name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        name.extend(chars);
    }
    if name.starts_with(|char: char| char.is_ascii_digit()) { format!("N{name}") } else { name }
}

fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn comment(out: &mut String, text: &str, indent: usize) {
    let text = text.trim().replace("*/", "* /");
    if text.is_empty() {
        return;
    }
    if !text.contains('\n') {
        let _ = writeln!(out, "{:indent$}/** {text} */", "");
        return;
    }
    let _ = writeln!(out, "{:indent$}/**", "");
    for line in text.lines() {
        let _ = writeln!(out, "{}", format!("{:indent$} * {}", "", line.trim()).trim_end());
    }
    let _ = writeln!(out, "{:indent$} */", "");
}
