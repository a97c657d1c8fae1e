//! One module of events for both sides: what the server takes the client sends, and the other way round.

mod client_common;

use client_common::BOUND;
use socketio::{Namespace, SocketIo};
use socketio_client::{AckError, Client, SimpleClient};
use socketio_testkit::{serve, within};
use tokio::sync::mpsc;

/// What a crate of its own would hold, for a server and clients. It knows neither of them.
mod protocol {
    use bytes::Bytes;
    use serde::{Deserialize, Serialize};
    use socketio_core::{Event, events};

    /// Somebody orders something.
    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event(name = "order", ack = Receipt)]
    pub(crate) struct Order {
        pub(crate) dish: String,
        pub(crate) photo: Bytes,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Receipt {
        pub(crate) cents: u32,
    }

    /// The server asks back.
    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event(name = "agree", ack = bool)]
    pub(crate) struct Agree {
        pub(crate) cents: u32,
    }

    /// Two arguments.
    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event(name = "moved")]
    pub(crate) struct Moved(pub(crate) (i32, i32));

    /// No argument.
    #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event(name = "closing time")]
    pub(crate) struct ClosingTime;

    events! {
        /// What a client sends.
        pub(crate) enum FromClient { Order, Moved }
    }
}

use protocol::{Agree, ClosingTime, FromClient, Moved, Order, Receipt};

fn shop() -> Namespace {
    Namespace::new("/shop")
        .on_event(async |socket: socketio::Socket, order: Order| {
            let cents = u32::try_from(order.photo.len()).unwrap() + if order.dish == "soup" { 450 } else { 2_000 };
            let agreed = cents < 1_000 || socket.call(&Agree { cents }).await?;
            if agreed { Ok(Receipt { cents }) } else { Err(socketio::HandlerError::new("no", "too expensive")) }
        })
        .on_event(async |socket: socketio::Socket, moved: Moved| {
            socket.emit_event(&Moved((moved.0.1, moved.0.0)));
            socket.emit_event(&ClosingTime);
        })
}

#[tokio::test]
async fn a_module_of_events_is_shared_by_server_and_client() {
    let server = serve(SocketIo::builder().namespace(shop())).await.unwrap();
    let url = format!("http://{}/shop", server.addr);
    within(BOUND, async {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let closing = sender.clone();
        let socket = Client::builder(&url)
            .on_event(async |agree: Agree| agree.cents < 2_005)
            .on_event(move |moved: Moved| {
                let sender = sender.clone();
                async move { sender.send(format!("{moved:?}")).unwrap() }
            })
            .on_event(move |_: ClosingTime| {
                let closing = closing.clone();
                async move { closing.send("closing time".to_owned()).unwrap() }
            })
            .connect()
            .await
            .unwrap();
        let order = |dish: &str, photo: &'static [u8]| Order { dish: dish.to_owned(), photo: photo.into() };
        assert_eq!(socket.call(&order("soup", b"abc")).await, Ok(Receipt { cents: 453 }));
        assert_eq!(socket.call(&order("lobster", b"\x1e")).await, Ok(Receipt { cents: 2_001 }));
        let Err(AckError::Refused(error)) = socket.call(&order("lobster", b"123456")).await else { panic!() };
        assert_eq!((error.code(), error.message()), ("no", "too expensive"));
        assert!(socket.emit_event(&Moved((1, 2))).is_ok());
        assert_eq!(heard.recv().await.as_deref(), Some("Moved((2, 1))"));
        assert_eq!(heard.recv().await.as_deref(), Some("closing time"));

        // The same event as a set reads it, from a stream.
        let mut stream = SimpleClient::connect(&url).await.unwrap();
        stream.emit("moved", (3, 4)).unwrap();
        let event = stream.receive().await.unwrap();
        assert_eq!(event.typed::<Moved>().unwrap().unwrap(), Moved((4, 3)));
        assert!(event.typed::<ClosingTime>().is_none());
        assert_eq!(stream.receive().await.unwrap().typed::<ClosingTime>().unwrap().unwrap(), ClosingTime);
        assert!(matches!(FromClient::from(Moved((1, 2))), FromClient::Moved(Moved((1, 2)))));
    })
    .await;
}
