//! The chapter of the guide that needs this crate: its examples are compiled as documentation tests.

#[doc = include_str!("../../../docs/security.md")]
mod security {}
