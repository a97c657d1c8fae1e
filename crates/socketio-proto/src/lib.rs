//! Socket.IO on paper: packets, the JSON and MessagePack parsers and the connection machine, without I/O.
