//! What a Socket.IO server and client share with their users: events, handlers, arguments and replies.
