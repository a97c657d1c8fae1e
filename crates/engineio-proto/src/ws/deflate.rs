//! `permessage-deflate` (RFC 7692): compression of single messages, and its negotiation.
//!
//! Contexts are made when a message needs one. Without context takeover they go as soon as the message is done, so an idle
//! connection holds none.

mod inflate;

pub use inflate::Inflater;
