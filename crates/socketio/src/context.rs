//! What a handler is called with, and what it may take out of that: the extractors of the server.
//!
//! There are three contexts: [`EventContext`] for events, [`ConnectContext`] for middleware and connect handlers,
//! [`DisconnectContext`] for those who learn that a socket leaves. An extractor of your own implements
//! [`FromEvent`] for one of them, or for all through [`SocketContext`].

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use engineio::{HEADROOM, Revision, Transport};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_core::{
    DynamicState, FromEvent, HandlerContext, HandlerError, LendContext, NoReply, Rejection, ReplySink, StateMap, With,
};
use socketio_proto::Args;

use crate::broadcast::frames;
use crate::{DisconnectReason, Fault, NamespaceHandle, Socket, SocketIo};

/// A context that belongs to a socket: all three of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a context of the server's handlers",
    note = "an extractor for all kinds of handlers is generic: `impl<Cx: SocketContext> FromEvent<Cx> for …`"
)]
pub trait SocketContext: HandlerContext {
    /// The socket whose handler is called.
    fn socket(&self) -> &Socket;
}

/// What a handler of an event is called with.
#[derive(Debug)]
pub struct EventContext {
    pub(crate) socket: Socket,
    pub(crate) sink: Option<AckSink>,
}

/// What middleware and connect handlers are called with.
#[derive(Debug)]
pub struct ConnectContext {
    pub(crate) socket: Socket,
}

/// What disconnecting and disconnect handlers are called with.
#[derive(Debug)]
pub struct DisconnectContext {
    pub(crate) socket: Socket,
    pub(crate) reason: DisconnectReason,
    pub(crate) description: Option<&'static str>,
}

impl DynamicState for EventContext {}

impl LendContext for EventContext {
    fn lend(&mut self) -> Self {
        Self { socket: self.socket.clone(), sink: self.sink.take() }
    }

    fn take_back(&mut self, lent: Self) {
        self.sink = lent.sink;
    }
}

impl LendContext for ConnectContext {
    fn lend(&mut self) -> Self {
        Self { socket: self.socket.clone() }
    }

    fn take_back(&mut self, _: Self) {}
}

impl LendContext for DisconnectContext {
    fn lend(&mut self) -> Self {
        Self { socket: self.socket.clone(), reason: self.reason, description: self.description }
    }

    fn take_back(&mut self, _: Self) {}
}

impl<S, Cx: SocketContext> SocketContext for With<S, Cx> {
    fn socket(&self) -> &Socket {
        self.context().socket()
    }
}

impl HandlerContext for EventContext {
    type Sink = AckSink;

    fn take_sink(&mut self) -> Option<AckSink> {
        self.sink.take()
    }

    fn states(&self) -> &StateMap {
        &self.socket.0.nsp.states
    }
}

macro_rules! unanswered {
    ($($context:ty),*) => {$(
        impl DynamicState for $context {}

        impl HandlerContext for $context {
            type Sink = NoReply;

            fn take_sink(&mut self) -> Option<NoReply> {
                None
            }

            fn states(&self) -> &StateMap {
                &self.socket.0.nsp.states
            }
        }
    )*};
}

macro_rules! of_a_socket {
    ($($context:ty),*) => {$(
        impl SocketContext for $context {
            fn socket(&self) -> &Socket {
                &self.socket
            }
        }
    )*};
}

unanswered!(ConnectContext, DisconnectContext);
of_a_socket!(EventContext, ConnectContext, DisconnectContext);

/// Takes the acknowledgement of an event over: [`socketio_core::Ack`] of this server.
///
/// As the argument of a handler it is sent when the handler says so, later and from another task if need be; what the
/// handler returns is then not sent.
pub type Ack = socketio_core::Ack<AckSink>;

/// Where the reply to one event goes.
#[derive(Debug)]
pub struct AckSink {
    pub(crate) socket: Socket,
    pub(crate) id: u64,
}

impl ReplySink for AckSink {
    fn reply<T: Serialize + ?Sized>(self, value: &T) {
        self.socket.0.nsp.env.fault_in_answer(&self.socket, value);
        self.send(value);
    }
}

impl AckSink {
    pub(crate) fn send<T: Serialize + ?Sized>(self, value: &T) {
        let nsp = &self.socket.0.nsp;
        if !self.socket.connected() {
            return;
        }
        let encoded = nsp.env.parser.encode_ack(&nsp.name, self.id, value, HEADROOM).or_else(|error| {
            tracing::error!(namespace = %nsp.name, %error, "the reply of a handler could not be encoded");
            nsp.env.fault(|| Fault::NotEncodable { namespace: &nsp.name, event: "", error: &error });
            let internal = HandlerError::new(HandlerError::INTERNAL, "internal error");
            nsp.env.parser.encode_ack(&nsp.name, self.id, &internal, HEADROOM)
        });
        if let Ok(encoded) = encoded {
            self.socket.deliver(frames(encoded, true), false);
        }
    }
}

impl<Cx: SocketContext> FromEvent<Cx> for Socket {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.socket().clone())
    }
}

impl<Cx: SocketContext> FromEvent<Cx> for SocketIo {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.socket().io())
    }
}

impl<Cx: SocketContext> FromEvent<Cx> for NamespaceHandle {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.socket().namespace())
    }
}

/// The transport that carries the connection at the moment.
impl<Cx: SocketContext> FromEvent<Cx> for TransportName {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().conn().transport()))
    }
}

/// The transport that carries the connection at the moment, as the argument of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportName(pub Transport);

/// The payload with which the client joined the namespace, as a `T`. Node: `handshake.auth`.
///
/// A client that sends none has sent an empty object. What does not fit refuses the connection where the argument belongs
/// to middleware or a connect handler, and rejects the event elsewhere. [`TryAuth`] lets the handler see to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<T>(pub T);

impl<Cx: SocketContext, T: DeserializeOwned> FromEvent<Cx> for Auth<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().handshake().auth()?))
    }
}

/// Like [`Auth`], but what does not fit reaches the handler.
#[derive(Debug, Clone, PartialEq)]
pub struct TryAuth<T>(pub Result<T, Rejection>);

impl<Cx: SocketContext, T: DeserializeOwned> FromEvent<Cx> for TryAuth<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().handshake().auth().map_err(Rejection::from)))
    }
}

/// The query of the request that opened the connection, as a `T`. Node: `handshake.query`.
///
/// Texts become numbers and booleans where `T` wants those; of a parameter that is given several times the last counts, but
/// for fields that are lists. What does not fit is dealt with as for [`Auth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<Cx: SocketContext, T: DeserializeOwned> FromEvent<Cx> for Query<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(crate::pairs::from_pairs(cx.socket().handshake().query_pairs())?))
    }
}

/// The headers of the request that opened the connection. Node: `handshake.headers`.
///
/// For one of them [`Handshake::header`](crate::Handshake::header) is cheaper.
#[derive(Debug, Clone)]
pub struct Headers(pub HeaderMap);

impl<Cx: SocketContext> FromEvent<Cx> for Headers {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in cx.socket().handshake().headers() {
            // They came as headers, so they are some.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        Ok(Self(headers))
    }
}

/// The address of the client: the TCP peer's, or what the server's
/// [trusted proxies](crate::Builder::trusted_proxies) say. `None` where the HTTP server does not tell the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

impl<Cx: SocketContext> FromEvent<Cx> for ClientIp {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().handshake().client_ip()))
    }
}

/// How a client is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectInfo {
    /// The transport that carries the connection at the moment.
    pub transport: Transport,
    /// The revision of Engine.IO that the client speaks.
    pub revision: Revision,
    /// The address of the TCP peer, where the HTTP server tells it. Node: `handshake.address`.
    pub address: Option<SocketAddr>,
    /// The address of the client, as [`ClientIp`].
    pub client_ip: Option<IpAddr>,
    /// Whether the connection was opened over TLS.
    pub secure: bool,
    /// When the connection was opened.
    pub issued: SystemTime,
}

impl<Cx: SocketContext> FromEvent<Cx> for ConnectInfo {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        let (session, handshake) = (cx.socket().conn(), cx.socket().handshake());
        Ok(Self {
            transport: session.transport(),
            revision: session.revision(),
            address: handshake.address(),
            client_ip: handshake.client_ip(),
            secure: handshake.secure(),
            issued: handshake.issued(),
        })
    }
}

/// A value that was stored in [`Socket::extensions`], by middleware for example.
///
/// Without one the event is rejected as an internal error. [`MaybeExtension`] does not mind.
#[derive(Debug)]
pub struct Extension<T>(pub Arc<T>);

impl<T> Deref for Extension<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A handler wants an [`Extension`] that nobody has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a handler takes `Extension<{0}>`, but the socket has no value of this type")]
struct MissingExtension(&'static str);

impl<Cx: SocketContext, T: Send + Sync + 'static> FromEvent<Cx> for Extension<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        let value = cx.socket().extensions().get();
        value.map(Self).ok_or_else(|| Rejection::internal(MissingExtension(std::any::type_name::<T>())))
    }
}

/// Like [`Extension`], for a value that may be missing.
#[derive(Debug)]
pub struct MaybeExtension<T>(pub Option<Arc<T>>);

impl<Cx: SocketContext, T: Send + Sync + 'static> FromEvent<Cx> for MaybeExtension<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.socket().extensions().get()))
    }
}

/// Why the socket leaves, in handlers that learn of it.
impl FromEvent<DisconnectContext> for DisconnectReason {
    fn from_event(cx: &mut DisconnectContext, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.reason)
    }
}

impl<S> FromEvent<With<S, DisconnectContext>> for DisconnectReason {
    fn from_event(cx: &mut With<S, DisconnectContext>, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(cx.context().reason)
    }
}

impl<S> FromEvent<With<S, DisconnectContext>> for DisconnectDescription {
    fn from_event(cx: &mut With<S, DisconnectContext>, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.context().description))
    }
}

/// What there is to say beyond the [`DisconnectReason`], for logs. Node: the second argument of `disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisconnectDescription(pub Option<&'static str>);

impl FromEvent<DisconnectContext> for DisconnectDescription {
    fn from_event(cx: &mut DisconnectContext, _: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(cx.description))
    }
}
