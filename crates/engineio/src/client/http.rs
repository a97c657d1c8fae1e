//! One HTTP/1.1 connection that is kept alive between the requests of polling.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{ClientOptions, ConnectError};

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection, and the future that moves its bytes; it is polled only while a request is on.
pub(super) struct HttpConn {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl HttpConn {
    async fn dial(options: &ClientOptions) -> Result<Self, ConnectError> {
        let stream = options.dial().await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await?;
        // What went wrong is told to the request.
        Ok(Self { sender, driver: Some(Box::pin(async move { drop(connection.await) })) })
    }

    /// Whether the connection can take a request. The server may have closed it meanwhile.
    async fn is_alive(&mut self) -> bool {
        self.drive(poll_fn(|_| Poll::Ready(()))).await;
        self.driver.is_some() && !self.sender.is_closed()
    }

    /// Runs a future, and the connection beside it.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        Self::beside(&mut self.driver, future).await
    }

    async fn beside<F: Future>(driver: &mut Option<Driver>, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(running) = driver
                && running.as_mut().poll(cx).is_ready()
            {
                *driver = None;
            }
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// Sends a request on the connection that is left from the last one, or on a new one, and reads the answer.
///
/// Gives the connection back if it can be used again.
pub(super) async fn exchange(
    options: &ClientOptions,
    kept: Option<HttpConn>,
    request: Request<Full<Bytes>>,
) -> (Option<HttpConn>, Result<Answer, ConnectError>) {
    let mut kept = kept;
    let alive = match &mut kept {
        Some(conn) => conn.is_alive().await,
        None => false,
    };
    let mut conn = match kept.filter(|_| alive) {
        Some(conn) => conn,
        None => match HttpConn::dial(options).await {
            Ok(conn) => conn,
            Err(error) => return (None, Err(error)),
        },
    };
    let mut request = request;
    let mut again = true;
    let response = loop {
        let HttpConn { sender, driver } = &mut conn;
        match HttpConn::beside(driver, sender.try_send_request(request)).await {
            Ok(response) => break response,
            Err(mut error) => match error.take_message() {
                // The server closed the connection before it saw anything of the request.
                Some(unsent) if std::mem::take(&mut again) => {
                    request = unsent;
                    conn = match HttpConn::dial(options).await {
                        Ok(conn) => conn,
                        Err(error) => return (None, Err(error)),
                    };
                }
                _ => return (None, Err(error.into_error().into())),
            },
        }
    };
    let (parts, body) = response.into_parts();
    let read = conn.drive(read(body, options.max_inbound_payload)).await;
    let body = match read {
        Ok(body) => body,
        Err(error) => return (None, Err(error)),
    };
    if parts.status != StatusCode::OK {
        return (None, Err(ConnectError::status(parts.status, &body)));
    }
    (conn.driver.is_some().then_some(conn), Ok(Answer { headers: parts.headers, body }))
}

/// Reads a body of at most `limit` bytes.
async fn read(body: hyper::body::Incoming, limit: usize) -> Result<Bytes, ConnectError> {
    let mut body = pin!(body);
    if body.size_hint().lower() > limit as u64 {
        return Err(ConnectError::TooLarge);
    }
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > limit {
                return Err(ConnectError::TooLarge);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// The most bytes of the head of an answer; the smallest that hyper can be given is 8 KiB.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// The most headers of an answer.
pub(super) const MAX_HEADERS: usize = 100;
