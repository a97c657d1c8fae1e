//! What all namespaces and connections of one server share: configuration that is fixed once built, and the counters.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engineio::{SecurityLog, TrustedProxies};
use socketio_core::Rejection;
use socketio_proto::AnyParser;

use crate::cluster::Cluster;
use crate::dynamic::ChildCount;
use crate::fault::FaultHook;
use crate::recovery::RecoveryConfig;
use crate::stats::Counters;
use crate::{Limits, NamespaceHandle, Socket};

/// The parts of a server that do not depend on its namespaces.
pub(crate) struct Env {
    pub(crate) parser: AnyParser,
    pub(crate) limits: Limits,
    pub(crate) proto_limits: socketio_proto::Limits,
    pub(crate) ack_timeout: Duration,
    pub(crate) counters: Counters,
    pub(crate) trusted_proxies: TrustedProxies,
    /// The other servers, if there may be any.
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) cleanup_empty_child_namespaces: bool,
    pub(crate) children: ChildCount,
    pub(crate) on_new_namespace: Option<NamespaceHook>,
    pub(crate) on_error: Option<ErrorHook>,
    /// Clients that lose their connection may come back.
    pub(crate) recovery: Option<Arc<RecoveryConfig>>,
    pub(crate) on_fault: Option<FaultHook>,
    pub(crate) security: SecurityLog,
    /// The server is being closed: sessions end with `server shutting down`.
    pub(crate) closing: AtomicBool,
}

/// What is told of new namespaces.
pub(crate) type NamespaceHook = Arc<dyn Fn(&NamespaceHandle) + Send + Sync>;

/// What is told about handlers that could not be called.
pub(crate) type ErrorHook = Arc<dyn Fn(&Socket, &str, &Rejection) + Send + Sync>;
