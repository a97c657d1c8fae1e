//! See `socketio_fuzz::sio_client`.

#![cfg_attr(fuzzing, no_main)]

socketio_fuzz::fuzz!(socketio_fuzz::sio_client);
