//! Errors that reach the other side in an acknowledgement, all in one shape:
//! `{"error": {"code", "message", "details"?}}`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use socketio_proto::{DataError, Value, to_value};

/// What went wrong in a handler, as the other side may know it.
///
/// Serialized it is `{"error": {"code", "message", "details"?}}`. Every error becomes one with `?`, but nothing of it is
/// sent: the code is then `internal`, the message says nothing, and the error itself goes to the hook that the server or
/// client has set ([`set_internal_error_hook`]), which logs it. What the peer is to know is said with [`new`](Self::new)
/// or [`OrError`].
///
/// ```
/// # use socketio_core::{HandlerError, OrError};
/// fn order(line: &str) -> Result<u32, HandlerError> {
///     let (name, count) = line.split_once(' ').or_error("bad_order", "an order is a name and a number")?;
///     if name != "tea" {
///         return Err(HandlerError::new("sold_out", format!("{name} is sold out")).details(["tea"]));
///     }
///     Ok(count.parse::<u32>()?) // an error here is logged and sent as "internal"
/// }
/// assert_eq!(order("tea").unwrap_err().code(), "bad_order");
/// assert_eq!(order("cake 2").unwrap_err().message(), "cake is sold out");
/// assert_eq!(order("tea two").unwrap_err().to_string(), "internal: internal error");
/// ```
#[derive(Clone, PartialEq)]
pub struct HandlerError {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    details: Option<Box<Value>>,
    reason: Option<&'static str>,
}

impl HandlerError {
    /// The code of errors whose cause is not sent.
    pub const INTERNAL: &'static str = "internal";

    /// The code of events that do not fit what the handler takes.
    pub const BAD_REQUEST: &'static str = "bad_request";

    /// An error with a code for programs and a message for people.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), message: message.into(), details: None, reason: None }
    }

    /// An error whose cause the peer is not told; `cause` goes to the hook.
    #[track_caller]
    pub fn internal(cause: impl Error) -> Self {
        report(&cause);
        Self::new(Self::INTERNAL, "internal error")
    }

    /// Adds what else programs may want to know. What cannot be serialized is left out and goes to the hook.
    #[must_use]
    #[track_caller]
    pub fn details<T: Serialize>(mut self, details: T) -> Self {
        match to_value(&details) {
            Ok(details) => self.details = Some(Box::new(details)),
            Err(error) => report(&error),
        }
        self
    }

    /// Adds what is wrong with single fields: `{"fields": {field: message, …}}` as details.
    #[must_use]
    pub fn fields<K: Into<String>, V: Into<String>>(self, fields: impl IntoIterator<Item = (K, V)>) -> Self {
        let fields: socketio_proto::Map =
            fields.into_iter().map(|(field, message)| (field.into(), Value::from(message.into()))).collect();
        self.details(Value::Map([("fields", Value::Map(fields))].into_iter().collect()))
    }

    /// Says why in a word for the operator's eyes: it is not sent. It becomes the reason of a server's security event, where
    /// the code would be that otherwise.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Why, for the operator, if it was said.
    pub fn reason_ref(&self) -> Option<&'static str> {
        self.reason
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details, if there are any.
    pub fn details_ref(&self) -> Option<&Value> {
        self.details.as_deref()
    }
}

// `HandlerError` itself is no `Error`: this conversion would then include that of itself.
impl<E: Error> From<E> for HandlerError {
    #[track_caller]
    fn from(cause: E) -> Self {
        Self::internal(cause)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("HandlerError");
        fields.field("code", &self.code).field("message", &self.message);
        if let Some(details) = &self.details {
            fields.field("details", details);
        }
        fields.finish()
    }
}

impl Serialize for HandlerError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Inner<'a>(&'a HandlerError);

        impl Serialize for Inner<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self(error) = self;
                let mut inner = serializer.serialize_struct("Error", 2 + usize::from(error.details.is_some()))?;
                inner.serialize_field("code", &error.code)?;
                inner.serialize_field("message", &error.message)?;
                match &error.details {
                    Some(details) => inner.serialize_field("details", details)?,
                    None => inner.skip_field("details")?,
                }
                inner.end()
            }
        }

        let mut outer = serializer.serialize_struct("HandlerError", 1)?;
        outer.serialize_field("error", &Inner(self))?;
        outer.end()
    }
}

/// Only the standard shape is one: an object with the key `error` alone, in it at least `code` and `message`, strings.
impl<'de> Deserialize<'de> for HandlerError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            error: Inner,
        }

        #[derive(serde::Deserialize)]
        struct Inner {
            code: String,
            message: String,
            #[serde(default)]
            details: Option<Value>,
        }

        let Outer { error } = Outer::deserialize(deserializer)?;
        let Inner { code, message, details } = error;
        Ok(Self { code: code.into(), message: message.into(), details: details.map(Box::new), reason: None })
    }
}

/// Why a handler was not called: the event does not fit one of its arguments.
///
/// Sent like a [`HandlerError`], by default with the code `bad_request`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection(HandlerError);

impl Rejection {
    /// A rejection with the code `bad_request`.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self(HandlerError::new(HandlerError::BAD_REQUEST, message))
    }

    /// A rejection for which the peer is not to blame; `cause` goes to the hook.
    #[track_caller]
    pub fn internal(cause: impl Error) -> Self {
        Self(HandlerError::internal(cause))
    }

    /// The error that is sent.
    pub fn error(&self) -> &HandlerError {
        &self.0
    }

    /// The error that is sent.
    pub fn into_error(self) -> HandlerError {
        self.0
    }
}

/// A rejection with a code and details of your own.
impl From<HandlerError> for Rejection {
    fn from(error: HandlerError) -> Self {
        Self(error)
    }
}

/// The message names the argument or field at fault; the data is the peer's own.
impl From<DataError> for Rejection {
    fn from(error: DataError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<Rejection> for HandlerError {
    fn from(rejection: Rejection) -> Self {
        rejection.0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Rejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Gives an absent value or an error a code and a message that the peer may see.
pub trait OrError<T> {
    /// What is there, or a [`HandlerError`] with this code and message. The error it replaces is dropped.
    ///
    /// # Errors
    /// When nothing is there.
    fn or_error(
        self,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Result<T, HandlerError>;
}

impl<T> OrError<T> for Option<T> {
    fn or_error(
        self,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Result<T, HandlerError> {
        self.ok_or_else(|| HandlerError::new(code, message))
    }
}

impl<T, E> OrError<T> for Result<T, E> {
    fn or_error(
        self,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Result<T, HandlerError> {
        self.map_err(|_| HandlerError::new(code, message))
    }
}

/// An error that is kept from the peer, on its way to the log.
pub struct InternalError<'a> {
    /// The error.
    pub cause: &'a (dyn Error + 'a),
    /// Where it became a [`HandlerError`]: the line with the `?`.
    pub location: &'static Location<'static>,
}

impl fmt::Debug for InternalError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.cause, self.location)
    }
}

/// Sets who is told of errors that are kept from the peer. Servers and clients set one that logs; the first one stays.
///
/// The hook is called where the error occurs, on the task of its handler. Returns whether this was the first.
pub fn set_internal_error_hook(hook: fn(InternalError<'_>)) -> bool {
    HOOK.set(hook).is_ok()
}

// Global, because `?` converts an error where no server or client is in sight.
static HOOK: OnceLock<fn(InternalError<'_>)> = OnceLock::new();

#[track_caller]
fn report(cause: &dyn Error) {
    if let Some(hook) = HOOK.get() {
        hook(InternalError { cause, location: Location::caller() });
    }
}
