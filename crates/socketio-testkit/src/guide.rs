//! The README and the pages of the guide that speak of the client, or of client and server: their examples are compiled as
//! documentation tests, and nothing else sees this module.

#[doc = include_str!("../../../README.md")]
mod readme {}

#[doc = include_str!("../../../docs/client.md")]
mod client {}

#[doc = include_str!("../../../docs/client-reconnection.md")]
mod client_reconnection {}

#[doc = include_str!("../../../docs/migrating-from-rust_socketio.md")]
mod migrating_from_rust_socketio {}
