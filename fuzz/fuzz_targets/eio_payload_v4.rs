//! See `socketio_fuzz::eio_payload_v4`.

#![cfg_attr(fuzzing, no_main)]

socketio_fuzz::fuzz!(socketio_fuzz::eio_payload_v4);
