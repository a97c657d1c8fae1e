//! A server with its tests beside it: clients in memory, and a clock that waits for nobody.
//!
//! `cargo test --example tested --features testing`

use std::time::Duration;

use socketio::{Builder, Data, Namespace, Socket, SocketIo};

/// A quiz: whoever does not answer within ten seconds is out.
pub(crate) fn app() -> Builder {
    let root = Namespace::new("/").on("start", async |socket: Socket, Data((a, b)): Data<(i32, i32)>| {
        tokio::spawn(async move {
            let answer = socket.timeout(Duration::from_secs(10)).emit_with_ack::<i32>("sum", (a, b)).await;
            match answer {
                Ok(sum) if sum == a + b => drop(socket.emit("right", ())),
                Ok(_) => drop(socket.emit("wrong", a + b)),
                Err(_) => socket.disconnect(false),
            }
        });
    });
    SocketIo::builder().namespace(root)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    app().listen("127.0.0.1:3000").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wrong_answer_is_corrected() {
        let server = socketio::testing::serve(app());
        let ann = server.connect("/").await;
        ann.emit("start", (2, 3));
        ann.next("sum").await.answer(6);
        assert_eq!(ann.next("wrong").await.args::<i32>(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no_answer() {
        let server = socketio::testing::serve(app());
        let ann = server.connect("/").await;
        ann.emit("start", (2, 3));
        server.advance(Duration::from_secs(9)).await;
        assert!(ann.connected());
        server.advance(Duration::from_secs(1)).await;
        assert!(!ann.connected());
    }
}
