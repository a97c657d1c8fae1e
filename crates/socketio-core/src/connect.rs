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
}

impl ConnectError {
    /// A refusal with a message for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
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

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The data, if there is any.
    pub fn get_data(&self) -> Option<&Value> {
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
        if let Some(details) = error.get_details() {
            data.insert("details", details.clone());
        }
        Self { message: error.message().to_owned(), data: Some(Box::new(Value::Map(data))) }
    }
}
