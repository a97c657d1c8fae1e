//! Typed events: what the derive makes of each form, and events as arguments of handlers.

mod common;

use std::collections::BTreeMap;

use common::{Dispatch, Wire, call};
use serde::{Deserialize, Serialize};
use socketio_core::event::EventSet;
use socketio_core::{Ack, Event, EventHandler, Handler, HandlerError, OwnedArgs, State, TryData, events};

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(name = "say", ack = Said)]
struct Say {
    room: String,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    id: u64,
}

#[derive(Debug, PartialEq, Event)]
#[event(name = "move")]
struct Move((i32, i32));

#[derive(Debug, PartialEq, Event)]
#[event(name = "rename", ack = Result<u8, String>)]
struct Rename(String);

#[derive(Debug, PartialEq, Event)]
#[event(name = "are you there", ack = (u8, String))]
struct AreYouThere;

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(name = "pair")]
struct Pair(u8, u8);

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(name = "shape")]
#[serde(rename_all = "lowercase")]
enum Shape {
    Circle { radius: u8 },
    Nothing,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(name = "of", crate = socketio_core)]
struct Of<T: Ord, const N: usize>
where
    T: Clone,
{
    items: BTreeMap<T, u8>,
}

#[derive(Debug, PartialEq, Event)]
#[event(name = "empty")]
struct Empty {}

#[test]
fn an_event_travels_as_the_derive_says() {
    check(Say { room: "a".into(), text: "b".into() }, "say", r#"["say",{"room":"a","text":"b"}]"#);
    check(Move((1, 2)), "move", r#"["move",1,2]"#);
    check(Rename("x".into()), "rename", r#"["rename","x"]"#);
    check(AreYouThere, "are you there", r#"["are you there"]"#);
    check(Empty {}, "empty", r#"["empty"]"#);
    check(Pair(1, 2), "pair", r#"["pair",[1,2]]"#);
    check(Shape::Circle { radius: 1 }, "shape", r#"["shape",{"circle":{"radius":1}}]"#);
    check(Shape::Nothing, "shape", r#"["shape","nothing"]"#);
    check(Of::<String, 1> { items: [("k".to_owned(), 1)].into() }, "of", r#"["of",{"items":{"k":1}}]"#);

    #[track_caller]
    fn check<E>(event: E, name: &str, wire: &str)
    where
        E: Event<Args: Serialize + serde::de::DeserializeOwned> + PartialEq + std::fmt::Debug,
    {
        assert_eq!(E::NAME, name);
        let args = OwnedArgs::event(E::NAME, event.args()).unwrap();
        let mut list = vec![socketio_core::Value::from(args.name())];
        list.extend(args.values().unwrap());
        assert_eq!(serde_json::to_string(&list).unwrap(), wire);
        assert_eq!(E::from_args(args.deserialize().unwrap()), event);
    }
}

#[test]
fn an_event_without_an_answer_is_answered_with_nothing() {
    let _: <Move as Event>::Ack = ();
}

/// What a namespace's `on_event` does: the event's name comes from the handler.
fn on_event<A: 'static, P, H: EventHandler<Dispatch, A, P>>(data: impl Serialize, handler: H) -> Vec<String> {
    assert_eq!(H::EVENT, Some(H::Event::NAME));
    let mut sent = call(data, handler);
    sent.insert(0, H::Event::NAME.to_owned());
    sent
}

#[test]
fn a_typed_event_is_an_argument_at_any_place() {
    let say = || Say { room: "a".into(), text: "b".into() };
    type S = State<u8>;
    assert_eq!(on_event(say(), async |say: Say| Said { id: say.text.len() as u64 }), ["say", r#"37[{"id":1}]"#]);
    assert_eq!(
        on_event(say(), async |_: S, say: Say, _: S| Ok::<_, HandlerError>(Said { id: say.room.len() as u64 })),
        ["say", r#"37[{"id":1}]"#]
    );
    assert_eq!(
        on_event(say(), async |_: S, _: S, _: S, _: S, _: S, _: S, _: S, _: Say| Said { id: 3 }),
        ["say", r#"37[{"id":3}]"#]
    );
    assert_eq!(on_event((3, 4), async |Move((x, y)): Move| assert_eq!((x, y), (3, 4))), ["move", "37[]"]);
    assert_eq!(on_event((), async |_: AreYouThere| (1, "yes".to_owned())), ["are you there", r#"37[1,"yes"]"#]);
    assert_eq!(on_event("x", async |Rename(name): Rename| Ok::<u8, String>(name.len() as u8)), ["rename", "37[1]"]);

    async fn named(_: S, Say { room, text }: Say) -> Result<Said, HandlerError> {
        Err(HandlerError::new(room, text))
    }
    assert_eq!(on_event(say(), named), ["say", r#"37[{"error":{"code":"a","message":"b"}}]"#]);
}

#[test]
fn a_typed_event_that_does_not_fit_is_a_bad_request() {
    #[derive(Serialize)]
    struct Half {
        room: &'static str,
    }
    let sent = on_event(Half { room: "a" }, async |_: Say| Said { id: 1 });
    assert!(sent[1].starts_with(r#"37[{"error":{"code":"bad_request","message":"missing field `text`"#), "{sent:?}");
}

#[test]
fn only_a_typed_event_gives_a_handler_a_name() {
    fn name<A, H: Handler<Dispatch, A>>(_: H) -> Option<&'static str> {
        H::EVENT
    }
    assert_eq!(name(async |_: State<u8>, _: Move| {}), Some("move"));
    assert_eq!(name(async |_: TryData<Say>, _: Ack<Wire>| {}), None);
}

events! {
    /// What a client may send.
    #[derive(Debug, PartialEq)]
    enum FromClient { Say, Move, Rename, AreYouThere }
}

#[test]
fn a_set_knows_its_events_and_is_an_argument_of_handlers() {
    assert_eq!(FromClient::NAMES, ["say", "move", "rename", "are you there"]);
    assert_eq!(FromClient::from(Move((1, 2))).name(), "move");

    let handler = async |event: FromClient| match event {
        FromClient::Move(Move((x, _))) => x,
        FromClient::AreYouThere(AreYouThere) => -1,
        other => panic!("{other:?}"),
    };
    assert_eq!(common::call_named("move", (5, 6), handler), ["37[5]"]);
    assert_eq!(common::call_named("are you there", (), handler), ["37[-1]"]);
    let refused = common::call_named("nonsense", (), handler);
    assert!(refused[0].contains(r#""code":"bad_request""#), "{refused:?}");
}

#[test]
fn an_event_carries_its_doc_comment() {
    /// Says hello.
    ///
    /// To everybody.
    #[derive(Event)]
    #[event(name = "hello")]
    struct Hello;

    assert_eq!(Hello::DOC, "Says hello.\n\nTo everybody.");
    assert_eq!(Say::DOC, "");
}
