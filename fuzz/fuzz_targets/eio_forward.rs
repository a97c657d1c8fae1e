//! See `socketio_fuzz::eio_forward`.

#![cfg_attr(fuzzing, no_main)]

socketio_fuzz::fuzz!(socketio_fuzz::eio_forward);
