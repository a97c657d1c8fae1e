//! The tower service: decides what a request is, and answers it.
//!
//! Requests for another path go to the inner service untouched. Ours are verified by the pure rules of
//! `engineio_proto::request` and then handed to their session.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use engineio_proto::{
    Revision, Transport,
    cors::CorsRequest,
    gate::{Denied, Place},
    jsonp::{self, JsonpIndex},
    open::OpenPacket,
    origin::{self, OriginRefusal},
    packet::Malformed,
    request::{ALLOW, Accepted, BadRequest, Method, Query, Refusal, Rejection, Request as Facts, SessionFacts, verify},
    session::{CloseReason, Output, Overlap, Session as Machine, Ticket},
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, ALLOW as ALLOW_HEADER, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
        CONTENT_TYPE, COOKIE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE, TRANSFER_ENCODING, UPGRADE, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Application, EngineBody, Handshake, HookFuture, PeerCertificate, SecurityKind, Session,
    body::{BodyError, read_body},
    compress,
    driver::Driver,
    secure::{self, cookie_of, same_secret},
    security,
    server::Engine,
    session::{PollAnswer, PostResult, PostedBody, Shared, std_now},
    sid::Sid,
    upgrade,
};

/// The address of the TCP peer. The stand-alone listener puts it into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Says that the client used TLS. Our own TLS listener puts it into the extensions of each request; under another server that
/// does TLS, a middleware has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secure;

/// Answers Engine.IO requests in front of another service. Made by [`Server::layer`](crate::Server::layer).
pub struct EngineLayer<A: Application> {
    pub(crate) engine: Arc<Engine<A>>,
}

/// A tower service that answers Engine.IO requests. Made by [`Server::service`](crate::Server::service) and
/// [`EngineLayer`].
pub struct EngineService<S, A: Application> {
    pub(crate) engine: Arc<Engine<A>>,
    pub(crate) inner: S,
}

/// The inner service of a server that stands alone: answers 404 to everything.
#[derive(Debug, Clone, Copy)]
pub struct NotFound;

/// A request that was refused, for the hook of [`Builder::on_refused`](crate::Builder::on_refused). Node: the
/// `connection_error` event.
#[derive(Debug)]
#[non_exhaustive]
pub struct RefusedRequest<'a> {
    /// The status of the answer.
    pub status: u16,
    /// The number of the protocol, 0 to 5, where the refusal has one.
    pub code: Option<u8>,
    /// The message that belongs to the number, or to the status.
    pub message: &'a str,
    /// What exactly was wrong, in Node's words where Node has some. Not told to the client.
    pub context: Option<&'a str>,
    /// The limit that was reached, by its name in the options, where it was one.
    pub limit: Option<&'static str>,
    /// The address of the peer, where it is known.
    pub remote_addr: Option<SocketAddr>,
    /// The address of the client, seen through [trusted proxies](crate::Builder::trusted_proxies).
    pub client_ip: Option<IpAddr>,
}

impl<A: Application> Clone for EngineLayer<A> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

impl<S: Clone, A: Application> Clone for EngineService<S, A> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), inner: self.inner.clone() }
    }
}

impl<S, A: Application> Layer<S> for EngineLayer<A> {
    type Service = EngineService<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        EngineService { engine: self.engine.clone(), inner }
    }
}

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<http_body_util::Empty<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(http_body_util::Empty::new());
        *response.status_mut() = StatusCode::NOT_FOUND;
        std::future::ready(Ok(response))
    }
}

type OwnAnswer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

pin_project_lite::pin_project! {
    /// The answer of an [`EngineService`].
    pub struct ServiceFuture<F> {
        own: Option<OwnAnswer>,
        #[pin]
        inner: Option<F>,
    }
}

impl<F, B, E> Future for ServiceFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<EngineBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match (this.own, this.inner.as_pin_mut()) {
            (Some(own), _) => own.as_mut().poll(cx).map(|response| Ok(response.map(EngineBody::own))),
            (None, Some(inner)) => inner.poll(cx).map(|result| result.map(|response| response.map(EngineBody::inner))),
            (None, None) => Poll::Pending,
        }
    }
}

impl<S, A, ReqBody, ResBody> Service<Request<ReqBody>> for EngineService<S, A>
where
    A: Application,
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body + Send + 'static,
    ReqBody::Data: Send,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<EngineBody<ResBody>>;
    type Error = S::Error;
    type Future = ServiceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if self.engine.path.matches(request.uri().path()) {
            let (parts, body) = request.into_parts();
            ServiceFuture { own: Some(Box::pin(self.engine.clone().answer(parts, body))), inner: None }
        } else {
            ServiceFuture { own: None, inner: Some(self.inner.call(request)) }
        }
    }
}

/// The hook has been told of the refusal that this answer is.
#[derive(Clone, Copy)]
struct Told;

/// The limit because of which this is the answer.
#[derive(Clone, Copy)]
struct Limit(&'static str);

/// The headers that every answer to one request gets.
struct Answering {
    headers: HeaderMap,
    jsonp: Option<JsonpIndex>,
    gzip: Option<compress::Encoding>,
}

impl<A: Application> Engine<A> {
    /// Answers a request, and tells the hook of those that are refused.
    pub(crate) async fn answer<B>(self: Arc<Self>, parts: Parts, body: B) -> Response<Bytes>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let secure = self.options.hsts.is_some() && self.is_secure(&parts);
        let mut response = self.clone().answer_told(parts, body).await;
        self.protect(response.headers_mut(), secure);
        response
    }

    async fn answer_told<B>(self: Arc<Self>, parts: Parts, body: B) -> Response<Bytes>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let security = self.options.security.clone();
        let hook = self.options.on_refused.clone();
        let (remote_addr, client_ip) = match hook.is_some() || security.is_heard() {
            true => (self.peer_of(&parts), self.client_ip(&parts)),
            false => (None, None),
        };
        let mut response = self.answer_untold(parts, body).await;
        let status = response.status();
        let limit = response.extensions_mut().remove::<Limit>().map(|limit| limit.0);
        if let Some((kind, reason)) = security::of_answer(&mut response, limit) {
            let address = client_ip.or(remote_addr.map(|address| address.ip()));
            security.report(kind, reason, |event| event.address(address));
        }
        let Some(hook) = hook else { return response };
        if response.extensions_mut().remove::<Told>().is_none()
            && (status.is_client_error() || status.is_server_error() || status == StatusCode::PERMANENT_REDIRECT)
        {
            hook(&RefusedRequest {
                status: status.as_u16(),
                code: None,
                message: status.canonical_reason().unwrap_or("refused"),
                context: std::str::from_utf8(response.body()).ok().filter(|text| !text.is_empty()),
                limit,
                remote_addr,
                client_ip,
            });
        }
        response
    }

    /// Tells of a request that the listener refuses by itself.
    pub(crate) fn tell_refused(&self, parts: &Parts, kind: SecurityKind, reason: &'static str) {
        self.counters().refused.add();
        self.options.security.report(kind, reason, |event| {
            event.address(self.client_ip(parts).or_else(|| Some(self.peer_of(parts)?.ip())))
        });
    }

    /// Whether the listener has anything to add to answers that are not ours.
    pub(crate) fn protects(&self) -> bool {
        self.options.security_headers || self.options.hsts.is_some() || self.options.require_tls.is_some()
    }

    /// Adds the headers that were asked for.
    pub(crate) fn protect(&self, headers: &mut HeaderMap, secure: bool) {
        if self.options.security_headers {
            secure::protect(headers);
        }
        if let Some(hsts) = self.options.hsts.as_ref().filter(|_| secure) {
            secure::keep_to_tls(headers, hsts);
        }
    }

    /// The answer to a request that should have come over TLS, if it has not.
    pub(crate) fn turn_to_tls(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let rule = self.options.require_tls?;
        if self.is_secure(parts) {
            return None;
        }
        self.counters().insecure_refused.add();
        let host = authority(parts);
        if !self.hosts.allows(host) {
            // Nobody is led to a name that is not ours.
            return Some(wrong_host());
        }
        let is_upgrade = upgrade::is_connect(parts) || upgrade::is_upgrade(&parts.headers);
        let mut response = secure::without_tls(rule, &parts.method, &parts.uri, host, is_upgrade);
        security::mark(&mut response, SecurityKind::RequestRefused, "tls_required");
        Some(response)
    }

    async fn answer_untold<B>(self: Arc<Self>, parts: Parts, body: B) -> Response<Bytes>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        if let Some(answer) = self.turn_to_tls(&parts) {
            return answer;
        }
        if !self.hosts.allows(authority(&parts)) {
            self.counters().origin_refused.add();
            return wrong_host();
        }
        let secure = self.is_secure(&parts);
        let origin = origin::single(parts.headers.get_all(ORIGIN).iter().map(HeaderValue::as_bytes));
        let allowed = origin.and_then(|origin| self.check_origin(&parts, origin, secure));
        let mut answering = Answering { headers: HeaderMap::new(), jsonp: None, gzip: None };
        if let Some(policy) = &self.options.cors {
            let response = policy.respond(CorsRequest {
                is_options: parts.method == http::Method::OPTIONS,
                // Who may not use the server may not read what it says either, whatever the headers for CORS allow.
                origin: allowed.ok().and(origin.ok()).flatten(),
                request_headers: parts.headers.get("access-control-request-headers").map(HeaderValue::as_bytes),
            });
            for (name, value) in response.headers {
                if let Ok(value) = HeaderValue::try_from(value) {
                    answering.headers.append(name, value);
                }
            }
            if let Some(status) = response.preflight {
                let mut response = empty(StatusCode::from_u16(status).unwrap_or(StatusCode::NO_CONTENT));
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                return with_headers(response, answering.headers);
            }
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let is_connect = upgrade::is_connect(&parts);
        let is_upgrade = is_connect || upgrade::is_upgrade(&parts.headers);
        let mut found = None;
        let mut elsewhere = None;
        let accepted = verify(
            Facts {
                // CONNECT with the protocol `websocket` is what GET with an upgrade is on HTTP/1.1.
                method: if is_connect { Method::Get } else { Method::from_name(parts.method.as_str()) },
                is_upgrade,
                query: &query,
                origin: allowed,
                secure,
            },
            &self.rules,
            |sid| {
                let Some(shared) = self.find(sid) else {
                    let forwarder = self.forwarder.as_ref().filter(|_| self.forwarded(&parts).is_none());
                    elsewhere = forwarder.and_then(|forwarder| forwarder.owner_of(sid)).zip(Sid::parse(sid));
                    return None;
                };
                if !self.is_bound(&shared.handshake, &parts) {
                    self.counters().binding_refused.add();
                    return None;
                }
                let core = shared.lock();
                // Its task has yet to take it off the table, but its client has been told of the end.
                if core.machine.is_over() {
                    return None;
                }
                let facts = SessionFacts {
                    revision: shared.revision,
                    transport: core.machine.transport(),
                    upgrading: core.machine.is_upgrading(),
                    secure: shared.handshake.secure(),
                };
                drop(core);
                found = Some(shared);
                Some(facts)
            },
        );
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(Rejection::MethodNotAllowed) => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW_HEADER, HeaderValue::from_static(ALLOW));
                return response;
            }
            Err(Rejection::Refused(Refusal::UnknownSid)) if let Some((owner, sid)) = elsewhere => {
                drop(query);
                // In a box of its own: other requests are not to carry its state.
                return Box::pin(self.forward(owner, sid, parts, body, answering.headers)).await;
            }
            Err(Rejection::Refused(refusal)) => {
                let mut response = self.refuse(&parts, is_upgrade, &refusal, answering.headers);
                if matches!(refusal, Refusal::Forbidden(_)) {
                    // The application has not been asked yet.
                    security::mark(&mut response, SecurityKind::OriginRefused, "origin");
                }
                return response;
            }
        };
        answering.gzip =
            self.options.http_compression.and_then(|_| compress::negotiate(text(&parts.headers, ACCEPT_ENCODING)));
        match (accepted, found) {
            (Accepted::Handshake { .. }, _) if self.forwarded(&parts).is_some() => {
                // Whoever lets a client in is whom it has reached.
                self.refuse(&parts, is_upgrade, &Refusal::UnknownSid, answering.headers)
            }
            (Accepted::Handshake { revision, transport, b64, jsonp }, _) => {
                answering.jsonp = jsonp;
                self.open(parts, secure, revision, transport, b64, answering).await
            }
            (Accepted::Poll, Some(shared)) => {
                answering.jsonp = query.jsonp().ok().flatten();
                let hold = query.hold;
                drop(query);
                self.header_hooks(&mut answering.headers, &shared.handshake, false);
                drop(parts);
                self.poll(&shared, hold, answering).await
            }
            (Accepted::Post, Some(shared)) => {
                answering.jsonp = query.jsonp().ok().flatten();
                drop(query);
                self.header_hooks(&mut answering.headers, &shared.handshake, false);
                self.post(&shared, parts, body, answering).await
            }
            (Accepted::Upgrade, Some(shared)) => self.upgrade(shared, parts, answering.headers),
            // `verify` speaks of a session only when the look-up has found one.
            (_, None) => self.refuse(&parts, is_upgrade, &Refusal::UnknownSid, answering.headers),
        }
    }

    fn check_origin(&self, parts: &Parts, origin: Option<&[u8]>, secure: bool) -> Result<(), OriginRefusal> {
        let result = self.origins.check(origin, authority(parts), secure, text(&parts.headers, "sec-fetch-site"));
        if result.is_err() {
            self.counters().origin_refused.add();
        }
        result
    }

    /// Whether the client used TLS: towards our own listener, or towards a trusted proxy that says so.
    pub(crate) fn is_secure(&self, parts: &Parts) -> bool {
        if let Some(forwarded) = self.forwarded(parts) {
            return forwarded.secure;
        }
        let proxies = &self.options.trusted_proxies;
        let name = proxies.header_in_use().proto_name();
        if parts.headers.contains_key(name)
            && let Some(peer) = self.peer_of(parts)
            && let Some(secure) = proxies.secure(peer.ip(), values(&parts.headers, name))
        {
            return secure;
        }
        parts.extensions.get::<Secure>().is_some()
    }

    /// The address of the client, seen through trusted proxies.
    pub(crate) fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        if let Some(forwarded) = self.forwarded(parts) {
            return forwarded.client;
        }
        let proxies = &self.options.trusted_proxies;
        let peer = self.peer_of(parts)?.ip();
        Some(proxies.client(peer, values(&parts.headers, proxies.header_in_use().name())))
    }

    /// Whom a handshake is counted for. A proxy that does not name its client is not taken for one.
    fn place_of(&self, parts: &Parts) -> Place {
        let proxies = &self.options.trusted_proxies;
        Place::of(self.client_ip(parts).filter(|address| !proxies.trusts(*address)))
    }

    /// Whether a request comes from where its session was opened, as far as that was asked for.
    fn is_bound(&self, handshake: &Handshake, parts: &Parts) -> bool {
        let Some(binding) = &self.options.binding else { return true };
        let opened_from = handshake.client_ip(&self.options.trusted_proxies);
        let address = || Place::of(opened_from) == Place::of(self.client_ip(parts));
        let certificate =
            || handshake.peer_certificate() == parts.extensions.get::<PeerCertificate>().map(|shown| &*shown.0);
        let cookie = |name: &str| {
            let opened_with = handshake.headers().filter(|(key, _)| *key == "cookie").map(|(_, value)| value);
            let comes_with = values(&parts.headers, COOKIE.as_str()).into_iter();
            same_secret(cookie_of(opened_with, name), cookie_of(comes_with, name))
        };
        (!binding.address || address())
            && (!binding.certificate || certificate())
            && binding.cookie.as_deref().is_none_or(cookie)
    }

    /// Asks a hook, for a while. Whatever it does costs this handshake and nothing else.
    async fn ask<T>(
        &self,
        hook: impl FnOnce() -> HookFuture<Result<(), T>>,
        refuse: impl FnOnce(T) -> Response<Bytes>,
        panicked: impl FnOnce() -> Response<Bytes>,
    ) -> Result<(), Response<Bytes>> {
        let asked = async {
            let mut future = catch_unwind(AssertUnwindSafe(hook)).map_err(drop)?;
            std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(poll) => poll.map(Ok),
                Err(_) => Poll::Ready(Err(())),
            })
            .await
        };
        match tokio::time::timeout(self.options.limits().hook_timeout, asked).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(refusal))) => Err(refuse(refusal)),
            Ok(Err(())) => {
                self.counters().hook_panics.add();
                tracing::error!("a handshake hook panicked; the handshake is refused");
                Err(panicked())
            }
            Err(_) => {
                self.counters().hook_timeouts.add();
                Err(self.unavailable("the handshake hook did not answer in time", "hook_timeout"))
            }
        }
    }

    /// Asks the hooks whether a session may be opened.
    async fn ask_hooks(
        &self,
        parts: &Parts,
        handshake: &Handshake,
        place: Place,
        is_upgrade: bool,
        headers: &HeaderMap,
    ) -> Result<(), Response<Bytes>> {
        if self.options.challenge.is_none() && self.options.allow_request.is_none() {
            return Ok(());
        }
        let _going_on = self.door.handshake(place).map_err(|denied| self.denied(denied))?;
        let panicked = || {
            let refusal = Refusal::BadRequest(BadRequest::MiddlewareFailure);
            self.refuse(parts, is_upgrade, &refusal, headers.clone())
        };
        if let Some(hook) = &self.options.challenge {
            let refuse = |mut response: Response<Bytes>| {
                self.counters().challenged.add();
                if !response.status().is_client_error() {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                let response = with_headers(response, headers.clone());
                if is_upgrade { close_after(response) } else { response }
            };
            self.ask(|| hook(handshake), refuse, panicked).await?;
        }
        if let Some(hook) = &self.options.allow_request {
            let refuse = |message| self.refuse(parts, is_upgrade, &Refusal::forbidden(message), headers.clone());
            self.ask(|| hook(handshake), refuse, panicked).await?;
        }
        Ok(())
    }

    /// Opens a session: on polling this is the answer with the open packet, on WebSocket the 101.
    async fn open(
        self: Arc<Self>,
        parts: Parts,
        secure: bool,
        revision: Revision,
        transport: Transport,
        b64: bool,
        mut answering: Answering,
    ) -> Response<Bytes> {
        let is_upgrade = transport == Transport::WebSocket;
        let accepted = if is_upgrade {
            match upgrade::check(&parts, self.options.per_message_deflate.as_ref()) {
                Ok(accepted) => Some(accepted),
                Err(refusal) => return upgrade::refuse(&refusal, answering.headers),
            }
        } else {
            None
        };
        let mut opening = match self.admit(self.place_of(&parts)) {
            Ok(opening) => opening,
            Err(denied) => return self.denied(denied),
        };
        let handshake = Handshake::new(&parts, self.peer_of(&parts), secure);
        let asked = self.ask_hooks(&parts, &handshake, opening.place, is_upgrade, &answering.headers);
        if let Err(response) = asked.await {
            return response;
        }
        if !opening.reserve() {
            return self.unavailable("no session can be opened now", "max_sessions");
        }
        self.header_hooks(&mut answering.headers, &handshake, true);
        let sid = Sid::random(self.forwarder.as_ref().map(|forwarder| forwarder.tag()));
        let open = OpenPacket {
            sid: sid.as_str().to_owned(),
            upgrades: self.rules.upgrades_from(transport),
            ping_interval: self.machine.ping_interval,
            ping_timeout: self.machine.ping_timeout,
            max_payload: Some(self.options.limits().max_payload as u64),
        };
        let machine = Machine::open(
            std_now(),
            self.machine.clone(),
            revision,
            transport,
            b64,
            open.packet(),
            self.options.initial_packet.clone(),
        );
        let shared = Shared::new(sid, handshake, opening.place, machine, self.options.limits().send_queue_bytes);
        if let Some(accepted) = accepted {
            return upgrade::accept(parts, accepted, answering.headers, self.clone(), move |engine, link| {
                let Some(link) = link else { return };
                opening.keep();
                engine.insert(&shared, false);
                tokio::spawn(Driver::new(engine, Session(shared), Some(link)));
            });
        }
        if let Some(cookie) = &self.options.cookie
            && let Ok(value) = HeaderValue::try_from(cookie.header(sid.as_str(), secure))
        {
            // Hooks may have set cookies of their own.
            answering.headers.append(SET_COOKIE, value);
        }
        opening.keep();
        self.insert(&shared, true);
        let answer = {
            let mut core = shared.lock();
            let now = std_now();
            let _ = core.machine.on_poll(now, None);
            core.machine.answer_poll(now)
        };
        tokio::spawn(Driver::new(self.clone(), Session(shared), None));
        match answer {
            Some(Output::AnswerPoll { payload, compress, .. }) => {
                self.payload_response(PollAnswer { payload, compress }, answering)
            }
            _ => empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    async fn poll(&self, shared: &Arc<Shared>, hold: Option<Duration>, answering: Answering) -> Response<Bytes> {
        let parked = {
            let mut core = shared.lock();
            let now = std_now();
            match core.machine.on_poll(now, hold) {
                Err(Overlap) => {
                    core.wake();
                    return with_headers(empty(StatusCode::BAD_REQUEST), answering.headers);
                }
                Ok(ticket) if core.holds_answers() => Ok(ticket),
                Ok(ticket) => match core.machine.answer_poll(now) {
                    Some(Output::AnswerPoll { payload, compress, .. }) => {
                        core.wake_drained();
                        // The answer may have been the last one of a session that is closing.
                        core.wake();
                        Err(PollAnswer { payload, compress })
                    }
                    _ => {
                        // The session's task keeps the time of a held poll.
                        if hold.is_some() || self.machine.poll_hold.is_some() || core.machine.is_upgrading() {
                            core.wake();
                        }
                        Ok(ticket)
                    }
                },
            }
        };
        let answer = match parked {
            Err(answer) => Some(answer),
            Ok(ticket) => ParkedPoll { shared: shared.clone(), ticket, done: false }.await,
        };
        match answer {
            Some(answer) => self.payload_response(answer, answering),
            None => with_headers(empty(StatusCode::BAD_REQUEST), answering.headers),
        }
    }

    async fn post<B: Body + 'static>(
        &self,
        shared: &Arc<Shared>,
        parts: Parts,
        body: B,
        answering: Answering,
    ) -> Response<Bytes> {
        let ticket = {
            let mut core = shared.lock();
            match core.machine.on_post() {
                Ok(ticket) => ticket,
                Err(Overlap) => {
                    core.wake();
                    return with_headers(empty(StatusCode::BAD_REQUEST), answering.headers);
                }
            }
        };
        let mut guard = PostGuard { shared, ticket, armed: true };
        if parts.headers.contains_key(CONTENT_ENCODING) {
            // Bodies are never inflated: a small body could become a large one.
            guard.done();
            return close_after(with_headers(empty(StatusCode::UNSUPPORTED_MEDIA_TYPE), answering.headers));
        }
        let limits = self.options.limits();
        let declared = text(&parts.headers, CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok());
        let body = if declared.is_some_and(|len| len > limits.max_payload as u64) {
            Err(BodyError::TooLarge)
        } else {
            let body = read_body(body, limits.max_payload, limits.body_timeout);
            unless_over(shared, ticket, body).await.unwrap_or(Err(BodyError::Broken))
        };
        let body = match body {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                self.counters().oversize.add();
                guard.done();
                let response = with_headers(empty(StatusCode::PAYLOAD_TOO_LARGE), answering.headers);
                return limited(close_after(response), "max_payload");
            }
            Err(BodyError::TooSlow) => {
                guard.failed(CloseReason::TransportError("the body came too slowly"));
                // It is told with the end of the session.
                return close_after(with_headers(empty(StatusCode::REQUEST_TIMEOUT), answering.headers));
            }
            Err(broken) => {
                guard.failed(CloseReason::TransportError(match broken {
                    BodyError::Malformed => "malformed body",
                    _ => "data request connection closed prematurely",
                }));
                return close_after(with_headers(empty(StatusCode::BAD_REQUEST), answering.headers));
            }
        };
        let binary =
            text(&parts.headers, CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/octet-stream"));
        if binary && shared.revision == Revision::V4 {
            guard.failed(CloseReason::TransportError("invalid content"));
            return with_headers(empty(StatusCode::BAD_REQUEST), answering.headers);
        }
        drop(parts);
        let body = match answering.jsonp {
            None => body,
            Some(_) => match jsonp::decode_body(&body) {
                Ok(body) => body.into(),
                Err(malformed) => {
                    guard.failed(CloseReason::ParseError(Malformed::as_str(malformed)));
                    return with_headers(empty(StatusCode::BAD_REQUEST), answering.headers);
                }
            },
        };
        guard.armed = false;
        {
            let mut core = shared.lock();
            let requests = core.requests();
            requests.awaited = Some(ticket);
            requests.post = Some(PostedBody { ticket, body, binary });
            core.wake();
        }
        match (PostedWait { shared: shared.clone(), ticket }).await {
            PostResult::Taken => {
                let mut response = Response::new(Bytes::from_static(b"ok"));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                with_headers(response, answering.headers)
            }
            PostResult::Refused => with_headers(empty(StatusCode::BAD_REQUEST), answering.headers),
        }
    }

    fn upgrade(self: Arc<Self>, shared: Arc<Shared>, parts: Parts, mut headers: HeaderMap) -> Response<Bytes> {
        let accepted = match upgrade::check(&parts, self.options.per_message_deflate.as_ref()) {
            Ok(accepted) => accepted,
            Err(refusal) => return upgrade::refuse(&refusal, headers),
        };
        {
            // The place is taken before anything waits; a second candidate meets it.
            let mut core = shared.lock();
            if core.machine.on_candidate(std_now()).is_err() {
                drop(core);
                return self.refuse(&parts, true, &Refusal::BadRequest(BadRequest::AlreadyUpgrading), headers);
            }
            core.wake();
        }
        self.header_hooks(&mut headers, &shared.handshake, false);
        upgrade::accept(parts, accepted, headers, self, move |_, link| {
            let mut core = shared.lock();
            match link {
                Some(link) if core.machine.is_upgrading() => core.requests().candidate = Some(Box::new(link)),
                Some(_) => {}
                None => core.machine.on_candidate_gone(),
            }
            core.wake();
        })
    }

    fn payload_response(&self, answer: PollAnswer, answering: Answering) -> Response<Bytes> {
        let Answering { headers, jsonp, gzip } = answering;
        let PollAnswer { payload, compress } = answer;
        let (body, kind) = match jsonp {
            Some(index) => (jsonp::encode_response(index, &payload.body).into_bytes(), jsonp::CONTENT_TYPE),
            None if payload.binary => (payload.body, "application/octet-stream"),
            None => (payload.body, "text/plain; charset=UTF-8"),
        };
        let squeeze =
            gzip.filter(|_| compress && self.options.http_compression.is_some_and(|least| body.len() >= least));
        let mut response = Response::new(Bytes::new());
        let out = response.headers_mut();
        out.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if jsonp.is_some() {
            out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        let body = match squeeze {
            Some(encoding) => {
                out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
                out.append(VARY, HeaderValue::from_static("Accept-Encoding"));
                compress::compress(encoding, &body)
            }
            None => body,
        };
        *response.body_mut() = body.into();
        with_headers(response, headers)
    }

    /// The answer to a request that breaks the rules. A refused upgrade closes its connection: what follows on it was not
    /// meant as HTTP.
    pub(crate) fn refuse(
        &self,
        parts: &Parts,
        is_upgrade: bool,
        refusal: &Refusal,
        headers: HeaderMap,
    ) -> Response<Bytes> {
        self.counters().refused.add();
        match refusal {
            Refusal::UnknownSid => self.counters().unknown_sids.add(),
            Refusal::BadRequest(BadRequest::Downgrade) => self.counters().insecure_refused.add(),
            _ => {}
        }
        tracing::debug!(code = refusal.code(), context = refusal.context(), "request refused");
        if let Some(hook) = &self.options.on_refused {
            let refused = RefusedRequest {
                status: refusal.status(),
                code: Some(refusal.code()),
                message: refusal.message(),
                context: refusal.context(),
                limit: None,
                remote_addr: self.peer_of(parts),
                client_ip: self.client_ip(parts),
            };
            hook(&refused);
        }
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = if is_upgrade {
            upgrade::refuse_with(status, refusal.message(), headers)
        } else {
            let mut response = Response::new(Bytes::from(refusal.json_body()));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            with_headers(response, headers)
        };
        if self.options.on_refused.is_some() {
            response.extensions_mut().insert(Told);
        }
        let (kind, reason) = security::of_refusal(refusal);
        security::mark(&mut response, kind, reason);
        response
    }

    /// Another server has told its own hook of the refusal that this may be.
    pub(crate) fn mark_told(&self, response: &mut Response<Bytes>) {
        if self.options.on_refused.is_some() {
            response.extensions_mut().insert(Told);
        }
    }

    pub(crate) fn unavailable(&self, why: &'static str, limit: &'static str) -> Response<Bytes> {
        self.counters().refused.add();
        later(StatusCode::SERVICE_UNAVAILABLE, why, limit, RETRY)
    }

    /// The answer to a handshake that found no place.
    fn denied(&self, denied: Denied) -> Response<Bytes> {
        self.counters().refused.add();
        if denied.own {
            self.counters().address_refused.add();
        }
        let (status, why) = if denied.own {
            (StatusCode::TOO_MANY_REQUESTS, "too many sessions from this address")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "too many handshakes")
        };
        later(status, why, denied.limit, denied.retry_after)
    }

    /// Takes a place among the sessions of an address, before anything waits.
    fn admit(self: &Arc<Self>, place: Place) -> Result<Opening<A>, Denied> {
        let place = self.door.open(place)?;
        Ok(Opening { engine: self.clone(), place, stage: Stage::Admitted })
    }

    fn header_hooks(&self, headers: &mut HeaderMap, handshake: &Handshake, first: bool) {
        if first && let Some(hook) = &self.options.initial_headers {
            hook(headers, handshake);
        }
        if let Some(hook) = &self.options.headers {
            hook(headers, handshake);
        }
    }

    pub(crate) fn peer_of(&self, parts: &Parts) -> Option<SocketAddr> {
        if let Some(forwarded) = self.forwarded(parts) {
            return forwarded.peer;
        }
        match &self.options.peer_addr {
            Some(hook) => hook(&parts.extensions),
            None => parts.extensions.get::<PeerAddr>().map(|peer| peer.0),
        }
    }
}

/// A session that is being opened. Dropping it gives its places back.
struct Opening<A: Application> {
    engine: Arc<Engine<A>>,
    place: Place,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has a place among the sessions of its address.
    Admitted,
    /// It has one among all sessions, too.
    Reserved,
    /// It exists, and gives them back when it ends.
    Kept,
}

impl<A: Application> Opening<A> {
    fn reserve(&mut self) -> bool {
        let reserved = self.engine.reserve();
        if reserved {
            self.stage = Stage::Reserved;
        }
        reserved
    }

    fn keep(&mut self) {
        self.stage = Stage::Kept;
    }
}

impl<A: Application> Drop for Opening<A> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Admitted => self.engine.door.close(self.place),
            Stage::Reserved => self.engine.release(self.place),
            Stage::Kept => {}
        }
    }
}

/// A GET that waits for packets. Dropping it tells the session that the client has gone.
struct ParkedPoll {
    shared: Arc<Shared>,
    ticket: Ticket,
    done: bool,
}

impl Future for ParkedPoll {
    type Output = Option<PollAnswer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.ticket;
        let shared = self.shared.clone();
        let mut core = shared.lock();
        let over = core.task_gone || (core.machine.is_over() && !core.machine.has_parked(ticket));
        let requests = core.requests();
        if let Some((_, answer)) = requests.answer.take_if(|(answered, _)| *answered == ticket) {
            self.done = true;
            core.tidy();
            return Poll::Ready(Some(answer));
        }
        if over {
            self.done = true;
            return Poll::Ready(None);
        }
        requests.poll_waker = Some((ticket, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for ParkedPoll {
    fn drop(&mut self) {
        if !self.done {
            let mut core = self.shared.lock();
            core.machine.on_poll_gone(self.ticket);
            core.wake();
        }
    }
}

/// A POST whose body is with the session's task. Until it has its answer, polls wait for theirs.
struct PostedWait {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Future for PostedWait {
    type Output = PostResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PostResult> {
        let mut core = self.shared.lock();
        let gone = core.task_gone;
        let requests = core.requests();
        if let Some((_, result)) = requests.post_result.take_if(|(ticket, _)| *ticket == self.ticket) {
            core.wake();
            core.tidy();
            return Poll::Ready(result);
        }
        if gone {
            return Poll::Ready(PostResult::Refused);
        }
        requests.post_waker = Some((self.ticket, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for PostedWait {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        let Some(requests) = core.requests.as_deref_mut() else { return };
        requests.awaited.take_if(|ticket| *ticket == self.ticket);
        // Its client has not waited for it.
        let untaken = requests.post_result.take_if(|(ticket, _)| *ticket == self.ticket).is_some();
        core.tidy();
        if untaken {
            core.wake();
        }
    }
}

/// Waits for something that nobody wants any more once the session is over: then it is `None`.
async fn unless_over<F: Future>(shared: &Shared, ticket: Ticket, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut waited = false;
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let mut core = shared.lock();
        if core.machine.is_over() || core.task_gone {
            return Poll::Ready(None);
        }
        waited = true;
        core.requests().post_waker = Some((ticket, cx.waker().clone()));
        Poll::Pending
    })
    .await;
    if waited {
        let mut core = shared.lock();
        core.requests().post_waker.take_if(|(waiting, _)| *waiting == ticket);
        core.tidy();
    }
    outcome
}

/// Tells the session when a POST is given up while its body is read.
struct PostGuard<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    armed: bool,
}

impl PostGuard<'_> {
    fn done(&mut self) {
        self.armed = false;
        let mut core = self.shared.lock();
        core.machine.on_post_done(self.ticket);
        core.wake();
    }

    fn failed(&mut self, reason: CloseReason) {
        self.armed = false;
        let mut core = self.shared.lock();
        core.machine.on_post_failed(self.ticket, reason);
        core.wake();
    }
}

impl Drop for PostGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.failed(CloseReason::TransportError("data request connection closed prematurely"));
        }
    }
}

/// The authority that the client used.
pub(crate) fn authority(parts: &Parts) -> Option<&str> {
    match parts.version {
        Version::HTTP_2 | Version::HTTP_3 => parts.uri.authority().map(|authority| authority.as_str()),
        _ => text(&parts.headers, HOST),
    }
}

/// All values of a header.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// When to come again, where nothing is known about it.
const RETRY: Duration = Duration::from_secs(5);

/// An answer to somebody who may come again, on another connection.
fn later(status: StatusCode, why: &'static str, limit: &'static str, retry_after: Duration) -> Response<Bytes> {
    let mut response = plain(status, why);
    let seconds = (retry_after.as_millis() as u64).div_ceil(1_000).max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    limited(close_after(response), limit)
}

/// Says which limit made this the answer.
pub(crate) fn limited(mut response: Response<Bytes>, limit: &'static str) -> Response<Bytes> {
    response.extensions_mut().insert(Limit(limit));
    response
}

fn wrong_host() -> Response<Bytes> {
    plain(StatusCode::MISDIRECTED_REQUEST, "the Host header does not name this server")
}

/// The value of a header, if it is visible ASCII.
pub(crate) fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

pub(crate) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

fn plain(status: StatusCode, message: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(message.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

pub(crate) fn with_headers(mut response: Response<Bytes>, headers: HeaderMap) -> Response<Bytes> {
    if !headers.is_empty() {
        response.headers_mut().extend(headers);
    }
    response
}

pub(crate) fn close_after(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether a request announces a body.
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || text(headers, CONTENT_LENGTH).is_some_and(|len| len != "0")
}

/// Whether a request names an upgrade.
pub(crate) fn names_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}
