//! A Socket.IO server: namespaces, rooms, acknowledgements, binary, middleware.
