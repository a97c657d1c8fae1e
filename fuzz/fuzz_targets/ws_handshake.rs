//! See `socketio_fuzz::ws_handshake`.

#![cfg_attr(fuzzing, no_main)]

socketio_fuzz::fuzz!(socketio_fuzz::ws_handshake);
