//! The one door to automation.
fn main() {}
