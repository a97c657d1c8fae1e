//! The pages of the guide that need a broker: the examples in them are compiled as documentation tests, and nothing else sees
//! this module.

#[doc = include_str!("../../../docs/clusters.md")]
mod clusters {}

#[doc = include_str!("../../../docs/recovery.md")]
mod recovery {}
