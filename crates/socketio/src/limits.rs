//! Every bound of a server in one flat struct: the engine's, the protocol's, the rooms' and the dispatcher's.

use std::time::Duration;

/// Declares the struct, its defaults, and the way back into the structs of the layers that keep each bound.
macro_rules! limits {
    (
        engine { $($(#[$edoc:meta])* $engine:ident: $etype:ty,)* }
        proto { $($(#[$pdoc:meta])* $proto:ident: $ptype:ty,)* }
        rooms { $($(#[$rdoc:meta])* $rooms:ident: $rtype:ty,)* }
        server { $($(#[$sdoc:meta])* $server:ident: $stype:ty = $sdefault:expr,)* }
    ) => {
        /// The bounds that protect a server from its clients. Every byte, count and deadline limit is on by default.
        ///
        /// ```
        /// let mut limits = socketio::Limits::default();
        /// limits.max_payload = 5_000_000;
        /// limits.rooms_per_socket = 100;
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[$edoc])* pub $engine: $etype,)*
            $($(#[$pdoc])* pub $proto: $ptype,)*
            $($(#[$rdoc])* pub $rooms: $rtype,)*
            $($(#[$sdoc])* pub $server: $stype,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                let engine = engineio::Limits::default();
                let proto = socketio_proto::Limits::default();
                let rooms = socketio_adapter::Limits::default();
                Self {
                    $($engine: engine.$engine,)*
                    $($proto: proto.$proto,)*
                    $($rooms: rooms.$rooms,)*
                    $($server: $sdefault,)*
                }
            }
        }

        impl Limits {
            pub(crate) fn engine(&self) -> engineio::Limits {
                let mut limits = engineio::Limits::default();
                $(limits.$engine = self.$engine.clone();)*
                limits
            }

            pub(crate) fn proto(&self) -> socketio_proto::Limits {
                let mut limits = socketio_proto::Limits::default();
                $(limits.$proto = self.$proto.clone();)*
                limits
            }

            pub(crate) fn rooms(&self) -> socketio_adapter::Limits {
                let mut limits = socketio_adapter::Limits::default();
                $(limits.$rooms = self.$rooms.clone();)*
                limits
            }
        }
    };
}

limits! {
    engine {
        /// The largest incoming message or polling body, in bytes. Announced to clients as `maxPayload`.
        ///
        /// Default: 1,000,000. Node: `maxHttpBufferSize`.
        max_payload: usize,
        /// The most fragments of one WebSocket message. Default: 1,024.
        max_fragments: usize,
        /// How long a fragmented WebSocket message may take to arrive. Default: 30 s.
        message_timeout: Duration,
        /// The most packets in one polling payload. Default: 524,288, so that `max_payload` bounds it.
        max_payload_packets: usize,
        /// How many bytes may wait for one client. Beyond it the client counts as a slow consumer. Default: 4 MiB.
        send_queue_bytes: usize,
        /// How many messages may wait for one client. Default: 8,192.
        send_queue_packets: usize,
        /// How long a write may make no progress at all. Default: 30 s.
        write_timeout: Duration,
        /// How long a polling session may exist before its client's first own request. Default: 20 s.
        first_activity_timeout: Duration,
        /// How long a new session may take from the first byte of a request to the end of its head. Default: 10 s.
        header_timeout: Duration,
        /// How long the body of a polling request may take. Default: 30 s.
        body_timeout: Duration,
        /// How long the handshake hook may take. Default: 10 s.
        hook_timeout: Duration,
        /// How long to wait for the client's half of a WebSocket closing handshake. Default: 5 s.
        close_timeout: Duration,
        /// How long a handler may stop a session from reading before the session is closed, and how long handlers may run
        /// on after their socket has left. Default: 30 s.
        handler_stall: Duration,
        /// The most bytes of a request head. Default: 16 KiB.
        max_header_bytes: usize,
        /// The most headers of a request. Default: 100.
        max_headers: usize,
        /// The most handshakes at once: of TLS at `listen_tls`, and of sessions whose hook is asked. Default: 1,024.
        max_handshakes: usize,
        /// The most polling sessions whose clients have not come back yet. Default: 10,000; the oldest gives way.
        max_pending_sessions: usize,
        /// The most sessions of one server. Default: 1,000,000.
        max_sessions: usize,
    }
    proto {
        /// The most binary attachments of one packet. Default: 10. Node: `maxAttachments` of the parser.
        max_attachments: usize,
        /// The most bytes of all attachments of one packet together. Default: 1,000,000.
        max_packet_bytes: usize,
        /// How long the attachments of a packet may take to arrive. Default: 30 s.
        attachment_timeout: Duration,
        /// The longest event name, in bytes. Default: 256.
        max_event_name: usize,
        /// The longest namespace name, in bytes. Default: 256.
        max_namespace_name: usize,
        /// The most namespaces that one connection may join or ask for at the same time. Default: 32.
        max_namespaces: usize,
        /// How long a connection may exist without having joined a namespace, and how long one join may take.
        ///
        /// Default: 45 s. Node: `connectTimeout`.
        connect_timeout: Duration,
        /// How long packets for a namespace that the server has just disconnected are ignored instead of closing the
        /// connection. Default: 20 s.
        disconnect_grace: Duration,
        /// The most acknowledgements that one socket may owe the server. Default: 8,192.
        max_pending_acks: usize,
    }
    rooms {
        /// How many rooms one socket may be in, the room of its own id not counted. Default: 1,024.
        rooms_per_socket: usize,
        /// How long the name of a room may be, in bytes. Default: 256.
        room_name_bytes: usize,
        /// How many rooms one namespace may have, the rooms of sockets' own ids not counted. Default: 1,000,000.
        rooms: usize,
    }
    server {
        /// How many events may wait while a handler of the same socket runs. A full mailbox pauses reading. Default: 256.
        mailbox_events: usize = 256,
        /// How many bytes of arguments may wait while a handler of the same socket runs. Default: 1 MiB.
        mailbox_bytes: usize = 1 << 20,
        /// How many namespaces patterns and predicates may bring about, all together. What is over it is refused with
        /// `Too many namespaces`. Default: 10,000.
        max_child_namespaces: usize = 10_000,
        /// How many events of [`retries`](crate::Socket::retries) may wait for one client's confirmation. Default: 256.
        reliable_events: usize = 256,
        /// How many bytes of such events may wait for one client's confirmation. Default: 1 MiB.
        reliable_bytes: usize = 1 << 20,
        /// How long the disconnect handlers wait for handlers of events that came before the disconnect. Default: 5 s.
        disconnect_wait: Duration = Duration::from_secs(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flat_limits_are_those_of_the_layers() {
        let mut limits = Limits::default();
        assert_eq!(limits.engine(), engineio::Limits::default());
        assert_eq!(limits.proto(), socketio_proto::Limits::default());
        assert_eq!(limits.rooms(), socketio_adapter::Limits::default());
        limits.max_payload = 7;
        limits.max_attachments = 8;
        limits.rooms_per_socket = 9;
        assert_eq!(
            (limits.engine().max_payload, limits.proto().max_attachments, limits.rooms().rooms_per_socket),
            (7, 8, 9)
        );
    }
}
