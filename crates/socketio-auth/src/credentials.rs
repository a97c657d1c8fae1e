//! Where credentials are found: the `auth` payload of a client, and the request that opened its connection.

use std::fmt;

use socketio::{Socket, Value};

/// What a client shows to say who it is. No part of it appears in `Debug`.
pub struct Credentials(From);

enum From {
    /// A client that joins: its `auth` payload and its request.
    Joining(Socket),
    /// A client that authenticates anew: what it sent for that. Its request is an old one, and does not count.
    Fresh(Value),
    /// Of a test.
    Given { auth: Value, headers: Vec<(String, String)> },
}

impl Credentials {
    /// Those of a client that joins a namespace.
    pub fn of(socket: &Socket) -> Self {
        Self(From::Joining(socket.clone()))
    }

    /// Those that a connected client sends to authenticate anew: an object as `auth` is one, or a text, which is a `token`.
    pub fn fresh(payload: Value) -> Self {
        Self(From::Fresh(match payload {
            Value::String(token) => Value::Map([("token", Value::String(token))].into_iter().collect()),
            payload => payload,
        }))
    }

    /// Made up, to test an authenticator without a server.
    pub fn given(auth: Value) -> Self {
        Self(From::Given { auth, headers: Vec::new() })
    }

    /// Adds a header to those that are [given](Self::given).
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let From::Given { headers, .. } = &mut self.0 {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// A text in the `auth` payload.
    pub fn auth(&self, field: &str) -> Option<String> {
        let of = |value: &Value| match value {
            Value::Map(map) => map.get(field).and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        match &self.0 {
            From::Joining(socket) => socket.handshake().auth::<Value>().ok().as_ref().and_then(of),
            From::Fresh(auth) | From::Given { auth, .. } => of(auth),
        }
    }

    /// A header of the request that opened the connection.
    pub fn header(&self, name: &str) -> Option<String> {
        match &self.0 {
            From::Joining(socket) => socket.handshake().header(name).map(str::to_owned),
            From::Fresh(_) => None,
            From::Given { headers, .. } => {
                headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            }
        }
    }

    /// The token of an `Authorization: Bearer` header.
    pub fn bearer(&self) -> Option<String> {
        let header = self.header("authorization")?;
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    }

    /// A cookie of the request that opened the connection. `None` also where two of this name differ: one of them was
    /// planted.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let lines: Vec<String> = match &self.0 {
            From::Joining(socket) => {
                let cookies = socket.handshake().headers().filter(|(key, _)| *key == "cookie");
                cookies.filter_map(|(_, value)| Some(std::str::from_utf8(value).ok()?.to_owned())).collect()
            }
            From::Fresh(_) => Vec::new(),
            From::Given { .. } => self.header("cookie").into_iter().collect(),
        };
        let pairs = lines.iter().flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'));
        let first = values.next()?;
        values.all(|value| value == first).then(|| first.to_owned())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_counts_unless_two_contradict_each_other() {
        check("id=a", Some("a"));
        check("other=1; id=\"a\"; x", Some("a"));
        check("id=a; id=a", Some("a"));
        check("id=a; id=b", None);
        check("xid=a; id2=b", None);

        #[track_caller]
        fn check(header: &str, want: Option<&str>) {
            let credentials = Credentials::given(Value::Null).with_header("Cookie", header);
            assert_eq!(credentials.cookie("id").as_deref(), want, "{header}");
        }
    }

    #[test]
    fn fresh_credentials_are_what_was_sent_and_nothing_of_the_old_request() {
        let fresh = Credentials::fresh("abc".into());
        assert_eq!((fresh.auth("token").as_deref(), fresh.bearer(), fresh.cookie("id")), (Some("abc"), None, None));
        let given = Credentials::given(Value::Null).with_header("authorization", "bearer  abc ");
        assert_eq!(given.bearer().as_deref(), Some("abc"));
        assert_eq!(Credentials::given(5.into()).auth("token"), None);
    }
}
