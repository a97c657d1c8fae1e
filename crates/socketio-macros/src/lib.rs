//! Derive macros for typed Socket.IO events.
