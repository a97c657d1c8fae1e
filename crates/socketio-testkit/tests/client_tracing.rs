//! What our client logs belongs somewhere. In a program of its own: other tests would register the spans without a listener.

mod client_common;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use client_common::{BOUND, client, server};
use socketio_client::extract::Data;
use socketio_testkit::within;
use tokio::{net::TcpStream, sync::mpsc};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Spans by number: their names, fields and how often they are entered now; and what was logged inside of which.
#[derive(Default)]
struct Log {
    spans: Vec<(String, BTreeMap<String, String>)>,
    entered: Vec<u64>,
    events: Vec<(String, Vec<u64>)>,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Log>>);

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut log = self.0.lock().unwrap();
        log.spans.push((attributes.metadata().name().to_owned(), fields.0));
        Id::from_u64(log.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut log = self.0.lock().unwrap();
        let inside = log.entered.clone();
        log.events.push((fields.0.remove("message").unwrap_or_default(), inside));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut log = self.0.lock().unwrap();
        let last = log.entered.iter().rposition(|entered| *entered == span.into_u64()).expect("it was entered");
        log.entered.remove(last);
    }
}

/// The runtime has one thread, so the recorder of this thread hears everything.
#[tokio::test]
async fn attempts_and_handlers_have_spans() {
    let recorder = Recorder::default();
    let _default = tracing::subscriber::set_default(recorder.clone());
    let server = server().await;
    let port = server.addr.port();
    within(BOUND, async {
        let (sender, mut done) = mpsc::unbounded_channel();
        let tries = Arc::new(AtomicUsize::new(0));
        let socket = client(&server, "/chat")
            .connector(move |host, port| {
                let nth = tries.fetch_add(1, Ordering::SeqCst);
                async move {
                    tracing::info!("dialling");
                    match nth {
                        0 => Err(io::ErrorKind::ConnectionRefused.into()),
                        _ => TcpStream::connect((host.as_str(), port)).await,
                    }
                }
            })
            .on("echo", move |Data(text): Data<String>| {
                let sender = sender.clone();
                async move {
                    tokio::task::yield_now().await;
                    tracing::info!("handled");
                    sender.send(text).unwrap();
                }
            })
            .connect_lazy()
            .unwrap();
        socket.emit("echo", "hi");
        assert_eq!(done.recv().await.as_deref(), Some("hi"));
        socket.close().await;
    })
    .await;
    let log = recorder.0.lock().unwrap();
    let logged_in = |message: &str, nth: usize| {
        let (_, inside) = log.events.iter().filter(|(text, _)| text == message).nth(nth).expect("it was logged");
        let spans = inside.iter().map(|id| &log.spans[*id as usize - 1]);
        spans.filter(|(name, _)| name == "connect" || name == "socket").cloned().collect::<Vec<_>>()
    };
    let span = |name: &str, fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        (name.to_owned(), fields)
    };
    let server = format!("127.0.0.1:{port}");
    assert_eq!(logged_in("dialling", 0), [span("connect", &[("server", &server), ("attempt", "0")])]);
    assert_eq!(logged_in("dialling", 1), [span("connect", &[("server", &server), ("attempt", "1")])]);
    assert_eq!(logged_in("handled", 0), [span("socket", &[("namespace", "/chat")])]);
}
