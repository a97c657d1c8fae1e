//! The `sio` program.
fn main() {}
