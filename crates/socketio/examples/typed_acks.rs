//! Typed events and answers: names, arguments and acknowledgements are types, in both directions.
//!
//! `cargo run --example typed_acks`, then `await socket.emitWithAck("order", { dish: "soup", count: 2 })`.

use serde::{Deserialize, Serialize};
use socketio::{Builder, Event, HandlerError, Namespace, Socket, SocketIo};

/// A client orders something.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "order", ack = Receipt)]
pub(crate) struct Order {
    pub(crate) dish: String,
    pub(crate) count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) cents: u32,
}

/// The server asks whether a client agrees to a price.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "agree", ack = bool)]
pub(crate) struct Agree {
    pub(crate) cents: u32,
}

async fn order(socket: Socket, Order { dish, count }: Order) -> Result<Receipt, HandlerError> {
    let price = match dish.as_str() {
        "soup" => 450,
        "bread" => 120,
        _ => return Err(HandlerError::new("unknown_dish", format!("we have no {dish}"))),
    };
    let cents = price * count;
    // Whoever does not answer, or answers with anything but a bool, has not agreed: `?` makes that the answer.
    if cents > 1000 && !socket.call(&Agree { cents }).await? {
        return Err(HandlerError::new("too_expensive", "as you wish"));
    }
    Ok(Receipt { cents })
}

pub(crate) fn app() -> Builder {
    // A handler that waits for its own client must let that client's other events pass.
    SocketIo::builder().namespace(Namespace::new("/").on_event(order).concurrent(4))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}
