//! See `socketio_fuzz::eio_open_packet`.

#![cfg_attr(fuzzing, no_main)]

socketio_fuzz::fuzz!(socketio_fuzz::eio_open_packet);
