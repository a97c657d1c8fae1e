//! The client's programs in `crates/socketio-client/examples`: each at most sixty lines, each run against a real server.

mod client_common;

use std::{fmt::Display, time::Duration};

use client_common::{Wire, client};
use socketio::{Data, Namespace, Socket, SocketIo};
use socketio_client::{Bytes, Client, SimpleClient};
use socketio_testkit::{Running, eventually, serve, within};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    sync::mpsc,
};

#[allow(dead_code)]
#[path = "../../socketio-client/examples/bot.rs"]
mod bot;
#[allow(dead_code)]
#[path = "../../socketio-client/examples/chat.rs"]
mod chat;
#[allow(dead_code)]
#[path = "../../socketio/examples/file_upload.rs"]
mod file_upload;
#[allow(dead_code)]
#[path = "../../socketio-client/examples/upload.rs"]
mod upload;

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn every_program_is_short_and_run_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../socketio-client/examples");
    let own = include_str!("client_programs.rs");
    let mut found = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 60, "{name} has {lines} lines");
        assert!(own.contains(&format!("{name}::")), "nothing here runs {name}");
        found += 1;
    }
    assert_eq!(found, 3);
}

/// The server of `cargo run -p socketio --example chat`, as it stands in the README.
async fn chat_server() -> Running {
    let chat = Namespace::new("/chat")
        .on_connect(async |socket: Socket| {
            socket.join("lobby");
        })
        .on("message", async |socket: Socket, Data(text): Data<String>| {
            socket.to("lobby").emit("message", (socket.id(), text));
        });
    serve(SocketIo::builder().namespace(chat)).await.unwrap()
}

#[tokio::test]
async fn the_chat_prints_what_others_say_and_sends_what_is_typed() {
    within(BOUND, async {
        let server = chat_server().await;
        let url = format!("http://{}/chat", server.addr);
        let mut other = SimpleClient::connect(&url).await.unwrap();
        let (typed, input) = tokio::io::duplex(1_024);
        let (printed, mut lines) = mpsc::unbounded_channel();
        let program = tokio::spawn(async move {
            let print = move |line: &dyn Display| printed.send(line.to_string()).unwrap();
            chat::chat(&url, BufReader::new(input), print).await
        });
        let here = lines.recv().await.unwrap();
        let id = here.strip_prefix("* you are ").unwrap_or_else(|| panic!("{here}")).to_owned();
        let mut typed = typed;
        typed.write_all(b"hello\n").await.unwrap();
        assert_eq!(other.receive().await.unwrap().data::<(String, String)>().unwrap(), (id, "hello".to_owned()));
        other.emit("message", "hi").unwrap();
        assert_eq!(lines.recv().await.unwrap(), format!("{}: hi", other.socket().id().unwrap()));
        drop(typed); // the end of the input is the end of the program
        program.await.unwrap().unwrap();
        other.close().await;
        assert!(eventually(BOUND, || server.sessions() == 0).await);
    })
    .await;
}

#[tokio::test]
async fn the_bot_answers_in_the_chat() {
    within(BOUND, async {
        let server = chat_server().await;
        let (manager, socket) = bot::bot(&format!("http://{}", server.addr)).unwrap();
        socket.joined().await.unwrap();
        let mut client = SimpleClient::connect(&format!("http://{}/chat", server.addr)).await.unwrap();
        for (say, answer) in [
            ("!ping", "pong"),
            ("nothing to do with the bot", ""),
            ("!add 2 3 4", "9"),
            ("!add two", "I cannot add that: invalid digit found in string"),
            ("!echo good  morning", "good  morning"),
            ("!heard", "6 messages so far"),
        ] {
            client.emit("message", say).unwrap();
            if !answer.is_empty() {
                let (from, text): (String, String) = client.receive().await.unwrap().data().unwrap();
                assert_eq!((Some(from), text.as_str()), (socket.id(), answer), "{say}");
            }
        }
        socket.close().await;
        manager.close().await;
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_upload_survives_the_loss_of_its_connection() {
    within(BOUND, async {
        let server = serve(file_upload::app()).await.unwrap();
        let file: Bytes = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let (wire, mut steps, mut cuts) = (Wire::default(), Vec::new(), 0);
        let client = wire.through(client(&server, "/"));
        upload::upload(client, "picture", file.clone(), |done| {
            steps.push(done);
            // With half of it there, the cable is pulled once.
            if done > file.len() / 2 && cuts == 0 {
                cuts += 1;
                wire.cut();
            }
        })
        .await
        .unwrap();
        assert_eq!(cuts, 1);
        assert_eq!((steps[0], *steps.last().unwrap()), (0, file.len()), "{steps:?}");
        assert!(steps.is_sorted(), "{steps:?}");
        // Who asks again is told that all of it is there.
        let mut again = Vec::new();
        let client = Client::builder(&format!("http://{}", server.addr));
        upload::upload(client, "picture", file.clone(), |done| again.push(done)).await.unwrap();
        assert_eq!(again, [file.len()]);
    })
    .await;
}
