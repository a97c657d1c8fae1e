//! Peers and tools for the tests of the Socket.IO workspace.
