//! A crate that re-exports the derive under the name of the trait: its users name neither this crate nor the macros'.

/// Stands for the crate `socketio`, which is what the derive's output refers to.
extern crate self as socketio;

#[doc(hidden)]
pub use socketio_core::__private;
pub use socketio_core::__private::EventOfServer as Event;
pub use socketio_core::event::Event;

mod user {
    use socketio::Event;

    #[derive(Event, serde::Deserialize)]
    #[event(name = "say", ack = u8)]
    pub(crate) struct Say {
        pub(crate) text: String,
    }
}

#[test]
fn a_derive_refers_to_the_crate_it_came_from() {
    use user::Say;
    assert_eq!(Say::NAME, "say");
    assert_eq!(Say::from_args(Say { text: "hi".to_owned() }).args().text, "hi");
}
