//! A server inside the test, and waiting with a bound.

use std::{io, net::SocketAddr, time::Duration};

use engineio::NotFound;
use socketio::SocketIo;
use tokio::task::JoinHandle;

use crate::Endpoint;

/// A server that listens on a free port of the loopback interface until this is dropped.
#[derive(Debug)]
pub struct Running {
    /// The application's handle.
    pub io: SocketIo,
    /// Where it listens.
    pub addr: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Runs a server inside the test.
///
/// # Errors
/// When the options make no sense or there is no free port.
pub async fn serve(builder: socketio::Builder) -> io::Result<Running> {
    let io = builder.build()?;
    let listener = engineio::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let engine = io.clone();
    let accepting = tokio::spawn(async move {
        // It never ends by itself.
        let _ = engine.engine().serve(listener, NotFound).await;
    });
    Ok(Running { io, addr, accepting })
}

impl Running {
    /// A current client of this server.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.addr)
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.io.engine().sessions()
    }

    /// Stops accepting. Sessions go on.
    pub async fn stop_accepting(&mut self) {
        self.accepting.abort();
        // It was cancelled, and that is all there is to know.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Waits until something is true, for at most `bound`. Returns whether it became so.
pub async fn eventually(bound: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = tokio::time::Instant::now() + bound;
    while !is_so() {
        if tokio::time::Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Runs a test with a bound, so that one that hangs fails instead.
///
/// # Panics
/// When the bound is reached.
pub async fn within<T>(bound: Duration, test: impl Future<Output = T>) -> T {
    match tokio::time::timeout(bound, test).await {
        Ok(result) => result,
        Err(_) => panic!("the test has not ended within {bound:?}"),
    }
}
