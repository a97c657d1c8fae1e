//! A client without handlers, for scripts, tests and tools.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use socketio_core::AckError;

use crate::{Client, ClientBuilder, ConnectFailure, EmitError, Events, ReceivedEvent, Socket};

/// Connects, says something, asks something, and takes what comes.
///
/// ```no_run
/// # use socketio_client::SimpleClient;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = SimpleClient::connect("http://localhost:3000/chat").await?;
/// client.emit("message", "hello")?;
/// let sum: i64 = client.call("add", (2, 3)).await?;
/// let event = client.receive().await.expect("the socket is open");
/// println!("{}: {:?}; {sum}", event.name(), event.data::<String>());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SimpleClient {
    events: Events,
    timeout: Duration,
}

impl SimpleClient {
    /// Connects to the namespace that is the path of the URL.
    ///
    /// # Errors
    /// Why the first attempt failed.
    pub async fn connect(url: &str) -> Result<Self, ConnectFailure> {
        Self::from_builder(Client::builder(url)).await
    }

    /// Connects as the builder says. Events that its handlers take are not [received](Self::receive).
    ///
    /// # Errors
    /// Why the first attempt failed.
    pub async fn from_builder(builder: ClientBuilder) -> Result<Self, ConnectFailure> {
        Ok(Self { events: builder.connect().await?.events(), timeout: Duration::from_secs(60) })
    }

    /// How long [`call`](Self::call) waits for an answer. Default: 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn emit(&self, event: &str, data: impl Serialize) -> Result<(), EmitError> {
        self.socket().emit(event, data).result()
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answer. The event may still be delivered.
    pub async fn call<R: DeserializeOwned>(&self, event: &str, data: impl Serialize) -> Result<R, AckError> {
        self.socket().timeout(self.timeout).emit_with_ack(event, data).await
    }

    /// The next event, in the order they came; `None` when the client is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Option<ReceivedEvent> {
        self.events.next().await
    }

    /// The socket behind it.
    pub fn socket(&self) -> &Socket {
        self.events.socket()
    }

    /// Says goodbye and waits until the connection is closed.
    pub async fn close(self) {
        let socket = self.socket().clone();
        drop(self);
        socket.close().await;
    }
}
