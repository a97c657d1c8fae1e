//! The refusal of a connection to a namespace.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use socketio_proto::{Value, to_value};

/// Why a connection to a namespace is refused: what a middleware returns, and what the client is told.
///
/// On the wire it is the payload of CONNECT_ERROR: `{"message", "data"?}`. Node: `new Error(message)` with `data`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectError {
    message: String,
    data: Option<Box<Value>>,
    reason: Option<&'static str>,
}

impl ConnectError {
    /// A refusal with a message for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None, reason: None }
    }

    /// Adds what programs may want to know. What cannot be serialized is left out.
    #[must_use]
    pub fn data<T: Serialize>(mut self, data: T) -> Self {
        self.data = to_value(&data).ok().map(Box::new);
        self
    }

    /// Adds a code for programs: `{"code": code}` as data.
    #[must_use]
    pub fn code(self, code: &str) -> Self {
        self.data(Value::Map([("code", Value::from(code))].into_iter().collect()))
    }

    /// Says why in a word for the operator's eyes: it is not sent. It becomes the reason of a server's security event.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Why, for the operator, if it was said.
    pub fn reason_ref(&self) -> Option<&'static str> {
        self.reason
    }

    /// The code for programs, if the data has one.
    pub fn code_ref(&self) -> Option<&str> {
        match self.data.as_deref() {
            Some(Value::Map(data)) => data.get("code").and_then(Value::as_str),
            _ => None,
        }
    }

    /// The refusal that a client was told: the payload of CONNECT_ERROR as it came.
    ///
    /// Servers for 2.x clients send bare data instead of an object with a message; a bare string is the message.
    pub fn from_payload(payload: Value) -> Self {
        match payload {
            Value::String(message) => Self::new(message),
            Value::Map(mut map) => {
                if let Some(message) = map.get("message").and_then(Value::as_str).map(str::to_owned) {
                    return Self { message, data: map.remove("data").map(Box::new), reason: None };
                }
                Self { message: String::new(), data: Some(Box::new(Value::Map(map))), reason: None }
            }
            Value::Null => Self::new(""),
            data => Self { message: String::new(), data: Some(Box::new(data)), reason: None },
        }
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The data, if there is any.
    pub fn data_ref(&self) -> Option<&Value> {
        self.data.as_deref()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConnectError {}

impl From<&str> for ConnectError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for ConnectError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Code and details become the data.
impl From<crate::HandlerError> for ConnectError {
    fn from(error: crate::HandlerError) -> Self {
        let mut data = socketio_proto::Map::new();
        data.insert("code", error.code());
        if let Some(details) = error.details_ref() {
            data.insert("details", details.clone());
        }
        let reason = error.reason_ref();
        Self { message: error.message().to_owned(), data: Some(Box::new(Value::Map(data))), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HandlerError;

    #[test]
    fn a_refusal_has_a_message_and_perhaps_data() {
        check("no".into(), "no", "null");
        check(ConnectError::new("no").data((1, "a")), "no", r#"[1,"a"]"#);
        check(ConnectError::new("no").code("expired"), "no", r#"{"code":"expired"}"#);
        check(HandlerError::new("full", "no seat").into(), "no seat", r#"{"code":"full"}"#);
        check(HandlerError::new("full", "no seat").details(5).into(), "no seat", r#"{"code":"full","details":5}"#);
    }

    #[test]
    fn a_client_reads_every_form_of_refusal() {
        check(read(r#"{"message":"no"}"#), "no", "null");
        check(read(r#"{"message":"no","data":{"a":1}}"#), "no", r#"{"a":1}"#);
        check(read(r#""no""#), "no", "null");
        check(read("null"), "", "null");
        check(read("[1]"), "", "[1]");
        check(read(r#"{"message":5}"#), "", r#"{"message":5}"#);

        fn read(json: &str) -> ConnectError {
            ConnectError::from_payload(serde_json::from_str(json).unwrap())
        }
    }

    #[track_caller]
    fn check(error: ConnectError, message: &str, data: &str) {
        assert_eq!(error.message(), message);
        assert_eq!(error.to_string(), message);
        assert_eq!(serde_json::to_string(&error.data_ref()).unwrap(), data);
    }
}
