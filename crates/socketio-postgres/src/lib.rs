//! Socket.IO servers that share a PostgreSQL database, Node's among them: `LISTEN`, `NOTIFY`, and a table for what does
//! not fit into a notification.
//!
//! [`PostgresBus`] connects a server with others (`Builder::adapter` of `socketio`); [`emitter`] lets any program speak to
//! their clients. Both speak as `@socket.io/postgres-adapter` 0.5 does, so servers in Rust and in JavaScript can serve one
//! application together.
//!
//! # What is promised
//! * At most once: what is published while a server has no connection to the database does not reach it. Nothing is
//!   doubled, and what one server publishes in one namespace arrives in that order.
//! * Local clients never wait for the database. While it is away, messages to other servers wait in a buffer of
//!   [`buffer_bytes`](PostgresOptions::buffer_bytes); one that does not fit any more is an error where it was emitted.
//! * A lost connection is made again with back-off, half a second to a second apart at most.
//!
//! # The table
//! `socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)`. It is made when it
//! is missing and the user may make one. Rows older than 30 s are deleted every 30 s.
//!
//! # Limits
//! * A channel's name has at most 63 bytes, `socket.io#` among them, so a namespace has at most 53. Longer ones stay on
//!   their server, and publishing to others is an error.
//! * Sessions are not shared over this bus, as in Node: connection state recovery brings clients back on the server that they left.
//!
//! # TLS
//! `sslmode=require` in the address encrypts connections and checks the certificate and its name, as `verify-full` does, which is
//! understood as well: by what the system trusts, or by [`root_certificates`](PostgresOptions::root_certificates). Passwords are
//! bound to the certificate where the database offers it (SCRAM), and always with `channel_binding=require`. Without `sslmode`, or
//! with `disable`, nothing is encrypted. Other modes are an error: they encrypt without a full check, or perhaps not at all.
//!
//! ```no_run
//! use socketio_postgres::{ClientCertificate, PostgresBus, PostgresOptions};
//!
//! # fn bus() -> Result<PostgresBus, Box<dyn std::error::Error>> {
//! let mut options = PostgresOptions::default();
//! options.root_certificates = Some(std::fs::read("ca.pem")?);
//! options.client_certificate = Some(ClientCertificate::new(&std::fs::read("me.pem")?, &std::fs::read("me.key")?));
//! let bus = PostgresBus::new("postgres://me@db.internal/chat?sslmode=verify-full", options)?;
//! # Ok(bus) }
//! ```

mod bus;
mod notice;
mod options;
mod outbox;
mod session;
mod tls;

pub use bus::{PostgresBus, emitter};
pub use options::{ClientCertificate, InvalidOption, PostgresOptions};
