//! The guide: the examples in them are compiled as documentation tests, and nothing else sees this module.

#[doc = include_str!("../../../docs/getting-started.md")]
mod getting_started {}

#[doc = include_str!("../../../docs/emitting.md")]
mod emitting {}

#[doc = include_str!("../../../docs/rooms-and-namespaces.md")]
mod rooms_and_namespaces {}

#[doc = include_str!("../../../docs/middleware-and-auth.md")]
mod middleware_and_auth {}

#[doc = include_str!("../../../docs/errors-and-limits.md")]
mod errors_and_limits {}

#[doc = include_str!("../../../docs/options.md")]
mod options {}

#[doc = include_str!("../../../docs/deployment.md")]
mod deployment {}

#[doc = include_str!("../../../docs/performance.md")]
mod performance {}

#[doc = include_str!("../../../docs/typed-events.md")]
mod typed_events {}

#[doc = include_str!("../../../docs/testing-your-server.md")]
mod testing_your_server {}

#[doc = include_str!("../../../docs/migrating-from-socketioxide.md")]
mod migrating_from_socketioxide {}

#[doc = include_str!("../../../docs/migrating-from-node.md")]
mod migrating_from_node {}

#[doc = include_str!("../../../docs/testing.md")]
mod testing {}
