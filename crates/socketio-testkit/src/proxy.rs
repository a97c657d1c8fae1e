//! A TCP proxy in front of a broker, which can be a network that has gone silent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Where a [`Proxy`] leads.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A port of this machine.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A proxy on a free port of this machine. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    /// Odd while nothing gets through.
    epoch: Arc<watch::Sender<u64>>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts one.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let epoch = Arc::new(watch::Sender::new(0));
        let epochs = Arc::clone(&epoch);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream.clone(), epochs.subscribe()));
            }
        });
        Ok(Self { address, epoch, accepting: accepting.abort_handle() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through, and nobody is told: what is written vanishes, connections stay open, new ones are taken
    /// and stay silent. Those of that time are silent for ever, as when a router has forgotten them.
    pub fn partition(&self) {
        self.epoch.send_modify(|epoch| *epoch |= 1);
    }

    /// New connections get through again.
    pub fn heal(&self) {
        self.epoch.send_modify(|epoch| *epoch += *epoch & 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn serve(client: TcpStream, upstream: Upstream, epochs: watch::Receiver<u64>) {
    let epoch = *epochs.borrow();
    if epoch % 2 == 1 {
        return swallow(client).await;
    }
    match upstream {
        Upstream::Tcp(address) => match TcpStream::connect(address).await {
            Ok(server) => pump(client, server, epochs, epoch).await,
            Err(_) => drop(client),
        },
        Upstream::Unix(path) => match UnixStream::connect(path).await {
            Ok(server) => pump(client, server, epochs, epoch).await,
            Err(_) => drop(client),
        },
    }
}

/// Copies both ways until one side ends, or nothing gets through any more.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: TcpStream,
    mut server: S,
    mut epochs: watch::Receiver<u64>,
    epoch: u64,
) {
    // An answer that waits for the next packet would look slow.
    drop(client.set_nodelay(true));
    let cut = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
        _ = epochs.wait_for(|now| *now != epoch) => true,
    };
    if cut {
        // Neither side hears of it.
        tokio::join!(swallow(client), swallow(server));
    } else {
        drop(client.shutdown().await);
    }
}

async fn swallow(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}
