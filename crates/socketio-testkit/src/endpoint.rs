//! Where a client connects and how it introduces itself.

use std::net::{Ipv4Addr, SocketAddr};

use engineio_proto::Revision;

/// Where a client connects and how it introduces itself.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The server.
    pub addr: SocketAddr,
    /// The path, with the slash at its end. Default: `/socket.io/`.
    pub path: String,
    /// The protocol revision. Default: 4.
    pub revision: Revision,
    /// Whether the client takes binary data only as base64.
    pub b64: bool,
    /// What else stands in the query, such as `&who=me`.
    pub query: String,
    /// The size of the kernel's receive buffer in bytes, for clients that stop reading.
    pub receive_buffer: Option<u32>,
    /// Where the client comes from. On Linux every address of `127.0.0.0/8` is ours.
    pub source: Option<Ipv4Addr>,
}

impl Endpoint {
    /// A current client of this server.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            path: "/socket.io/".to_owned(),
            revision: Revision::V4,
            b64: false,
            query: String::new(),
            receive_buffer: None,
            source: None,
        }
    }

    /// The same as a Socket.IO 2.x client.
    #[must_use]
    pub fn eio3(mut self) -> Self {
        self.revision = Revision::V3;
        self
    }

    /// The same as a client that takes no binary data.
    #[must_use]
    pub fn b64(mut self) -> Self {
        self.b64 = true;
        self
    }

    /// The request target for a transport, with the session's id if there is one.
    pub fn target(&self, transport: &str, sid: Option<&str>) -> String {
        let revision = if self.revision == Revision::V3 { 3 } else { 4 };
        let mut target = format!("{}?EIO={revision}&transport={transport}{}", self.path, self.query);
        if self.b64 {
            target.push_str("&b64=1");
        }
        if let Some(sid) = sid {
            target.push_str("&sid=");
            target.push_str(sid);
        }
        target
    }
}
