//! Handlers of every arity and with every kind of result, called as a dispatcher calls them, down to the bytes.

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use common::{Dispatch, Wire, call, states};
use serde::Serialize;
use socketio_core::{
    Ack, AckError, Args, BoxedHandler, Data, EventName, FromEvent, Handler, HandlerContext, HandlerError, OrError,
    OwnedArgs, Rejection, State, StateMap, TryData, Value, decode_ack, set_internal_error_hook,
};

/// An extractor of an application's own: the number of arguments.
struct Count(usize);

impl<Cx: HandlerContext> FromEvent<Cx> for Count {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        Ok(Self(args.len()))
    }
}

#[test]
fn a_handler_has_up_to_eight_arguments() {
    type S = State<u8>;
    assert_eq!(call((), async || 0), ["37[0]"]);
    assert_eq!(call((), async |_: S| 1), ["37[1]"]);
    assert_eq!(call((), async |_: S, _: S| 2), ["37[2]"]);
    assert_eq!(call((), async |_: S, _: S, _: S| 3), ["37[3]"]);
    assert_eq!(call((), async |_: S, _: S, _: S, _: S| 4), ["37[4]"]);
    assert_eq!(call((), async |_: S, _: S, _: S, _: S, _: S| 5), ["37[5]"]);
    assert_eq!(call((), async |_: S, _: S, _: S, _: S, _: S, _: S| 6), ["37[6]"]);
    assert_eq!(call((), async |_: S, _: S, _: S, _: S, _: S, _: S, _: S| 7), ["37[7]"]);
    assert_eq!(call((), async |_: S, _: S, _: S, _: S, _: S, _: S, _: S, a: S| a.0), ["37[40]"]);
}

#[test]
fn functions_and_closures_of_every_form_are_handlers() {
    async fn none() -> &'static str {
        "none"
    }
    async fn two(Data(a): Data<i64>, name: EventName) -> String {
        format!("{a} {name}")
    }
    fn boxed(Data(a): Data<i64>) -> std::pin::Pin<Box<dyn Future<Output = i64> + Send>> {
        Box::pin(async move { a })
    }
    assert_eq!(call((), none), [r#"37["none"]"#]);
    assert_eq!(call(5, two), [r#"37["5 event"]"#]);
    assert_eq!(call(5, boxed), ["37[5]"]);
    assert_eq!(call(5, |Data(a): Data<i64>| async move { a + 1 }), ["37[6]"]);
    let database = Arc::new(AtomicUsize::new(1));
    let handler = move |Data(a): Data<usize>| {
        let database = database.clone();
        async move { database.fetch_add(a, Ordering::Relaxed) }
    };
    assert_eq!(call(5, handler), ["37[1]"]);
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(call(5, async || CALLS.fetch_add(1, Ordering::Relaxed)), ["37[0]"]);
}

#[test]
fn what_a_handler_returns_is_the_acknowledgement() {
    #[derive(Serialize)]
    struct Reply {
        id: u8,
    }
    #[derive(Serialize)]
    struct OwnError {
        field: &'static str,
    }
    assert_eq!(call((), async || {}), ["37[]"]);
    assert_eq!(call((), async || Reply { id: 1 }), [r#"37[{"id":1}]"#]);
    assert_eq!(call((), async || (1, "two")), [r#"37[1,"two"]"#]);
    assert_eq!(call((), async || [1, 2]), ["37[[1,2]]"]);
    assert_eq!(call((), async || vec![1, 2]), ["37[[1,2]]"]);
    assert_eq!(call((), async || None::<u8>), ["37[null]"]);
    assert_eq!(call((), async || Bytes::from_static(b"ab")), [r#"61-7[{"_placeholder":true,"num":0}]"#, "[97, 98]"]);
    assert_eq!(call((), async || Ok::<_, HandlerError>(())), ["37[]"]);
    assert_eq!(call((), async || Ok::<_, HandlerError>((1, 2))), ["37[1,2]"]);
    assert_eq!(call((), async || Ok::<_, String>(Reply { id: 2 })), [r#"37[{"id":2}]"#]);
    assert_eq!(
        call((), async || Err::<(), _>(HandlerError::new("full", "no seat left").details(Reply { id: 3 }))),
        [r#"37[{"error":{"code":"full","message":"no seat left","details":{"id":3}}}]"#]
    );
    assert_eq!(
        call((), async || Err::<u8, _>(String::from("no"))),
        [r#"37[{"error":{"code":"error","message":"no"}}]"#]
    );
    assert_eq!(call((), async || Err::<u8, _>("no")), [r#"37[{"error":{"code":"error","message":"no"}}]"#]);
    assert_eq!(
        call((), async || Err::<u8, _>(OwnError { field: "name" })),
        [r#"37[{"error":{"code":"error","message":"error","details":{"field":"name"}}}]"#]
    );
}

#[test]
fn data_takes_all_arguments_or_the_first() {
    assert_eq!(call((2, 3), async |Data((a, b)): Data<(i64, i64)>| a + b), ["37[5]"]);
    assert_eq!(call((2, 3), async |Data(a): Data<i64>| a), ["37[2]"]);
    assert_eq!(call(2, async |Data((a, b)): Data<(i64, Option<i64>)>| (a, b)), ["37[2,null]"]);
    assert_eq!(call([2, 3], async |Data(list): Data<Vec<u8>>| list.len()), ["37[2]"]);
    assert_eq!(call((2, 3), async |Data(()): Data<()>| "nothing"), [r#"37["nothing"]"#]);
    assert_eq!(call((2, "b"), async |args: OwnedArgs| args.values().unwrap()), [r#"37[[2,"b"]]"#]);
    assert_eq!(call((2, "b"), async |Count(count): Count, Data(a): Data<u8>| (count, a)), ["37[2,2]"]);
}

#[test]
fn what_does_not_fit_is_a_bad_request_and_the_handler_is_not_called() {
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let handler = move |Data((_, _)): Data<(u8, u8)>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    assert_eq!(call(1, handler), [r#"37[{"error":{"code":"bad_request","message":"argument 1 is missing"}}]"#]);
    assert_eq!(ran.load(Ordering::Relaxed), 0);

    let sent = call("x", async |Data(_): Data<u8>| {});
    assert!(sent[0].starts_with(r#"37[{"error":{"code":"bad_request","message":"invalid type: string "#), "{sent:?}");

    struct Refused;
    impl<Cx: HandlerContext> FromEvent<Cx> for Refused {
        fn from_event(_: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
            Err(HandlerError::new("forbidden", "not you").fields([("name", "taken")]).into())
        }
    }
    assert_eq!(
        call("x", async |_: Refused| {}),
        [r#"37[{"error":{"code":"forbidden","message":"not you","details":{"fields":{"name":"taken"}}}}]"#]
    );
}

#[test]
fn try_data_lets_the_handler_decide() {
    async fn lenient(TryData(data): TryData<(u8, u8)>) -> String {
        data.map_or_else(|rejection| rejection.error().code().to_owned(), |(a, b)| format!("{a} {b}"))
    }
    async fn strict(TryData(data): TryData<(u8, u8)>) -> Result<u8, HandlerError> {
        let (a, b) = data?;
        Ok(a + b)
    }
    assert_eq!(call((1, 2), lenient), [r#"37["1 2"]"#]);
    assert_eq!(call(1, lenient), [r#"37["bad_request"]"#]);
    assert_eq!(call((1, 2), strict), ["37[3]"]);
    assert_eq!(call(1, strict), [r#"37[{"error":{"code":"bad_request","message":"argument 1 is missing"}}]"#]);
}

#[test]
fn nothing_is_sent_when_no_acknowledgement_is_awaited() {
    let (log, wire) = (Arc::new(Mutex::new(Vec::new())), Wire::default());
    let handler = {
        let log = Arc::clone(&log);
        BoxedHandler::new(move |Data(a): Data<u8>, ack: Ack<Wire>| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push((a, ack.is_awaited()));
                ack.send("never mind");
                1
            }
        })
    };
    for sink in [None, Some(wire.clone())] {
        let mut cx = Dispatch { sink, states: StateMap::new() };
        let mut future = handler.call(&mut cx, &OwnedArgs::event("event", &5).unwrap()).unwrap();
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    assert_eq!(*log.lock().unwrap(), [(5, false), (5, true)]);
    assert_eq!(wire.take(), [r#"37["never mind"]"#]);
}

#[test]
fn an_ack_argument_takes_the_acknowledgement_over() {
    assert_eq!(call((), async |ack: Ack<Wire>| ack.send(("a", 1))), [r#"37["a",1]"#]);
    assert_eq!(
        call((), async |ack: Ack<Wire>| {
            ack.send(Err::<(), _>("late"));
            "not sent"
        }),
        [r#"37[{"error":{"code":"error","message":"late"}}]"#]
    );
    assert_eq!(call((), async |_: Ack<Wire>| "not sent"), [""; 0]);
    // The sink is gone when the second one is extracted.
    assert_eq!(
        call((), async |first: Ack<Wire>, second: Ack<Wire>| {
            second.send(2);
            first.send(1);
        }),
        ["37[1]"]
    );
}

#[test]
fn a_handler_answers_when_it_returns_something_or_takes_the_acknowledgement() {
    fn check<A: 'static>(handler: impl Handler<Dispatch, A>, want: bool) {
        assert_eq!(BoxedHandler::new(handler).answers(), want);
    }
    check(async || {}, false);
    check(async |Data(_): Data<u8>| {}, false);
    check(async |_: Ack<Wire>| {}, true);
    check(async || 1, true);
    check(async || Ok::<_, HandlerError>(()), true);
}

#[test]
fn the_reply_follows_when_a_waiting_handler_has_finished() {
    let wire = Wire::default();
    let handler = BoxedHandler::new(async || {
        let mut first = true;
        std::future::poll_fn(move |_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
        "done"
    });
    let call = |wire: &Wire| {
        let mut cx = Dispatch { sink: Some(wire.clone()), states: StateMap::new() };
        handler.call(&mut cx, &OwnedArgs::event("event", &()).unwrap()).unwrap()
    };
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut future, mut dropped) = (call(&wire), call(&wire));
    assert!(Pin::new(&mut future).poll(cx).is_pending() && Pin::new(&mut dropped).poll(cx).is_pending());
    drop(dropped);
    assert_eq!(wire.take(), [""; 0]);
    assert!(Pin::new(&mut future).poll(cx).is_ready());
    assert_eq!(wire.take(), [r#"37["done"]"#]);
}

#[test]
fn state_is_given_by_type_and_missing_state_is_known_before_the_first_event() {
    assert_eq!(call((), async |n: State<u8>, State(s): State<String>| (*n + 2, s)), [r#"37[42,"a string"]"#]);
    let handler = BoxedHandler::<Dispatch>::new(async |_: State<u8>, _: State<u16>| {});
    let error = handler.check(&states()).unwrap_err();
    assert_eq!(error.to_string(), "a handler takes `State<u16>`, but no state of this type was given");
    let mut complete = states();
    complete.insert(1u16);
    assert_eq!(handler.check(&complete), Ok(()));
    assert_eq!(call((), async |_: State<u16>| {}), [r#"37[{"error":{"code":"internal","message":"internal error"}}]"#]);
}

#[test]
fn the_cause_of_an_internal_error_goes_to_the_hook_and_not_to_the_peer() {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    assert!(set_internal_error_hook(|error| TOLD.lock().unwrap().push(format!("{error:?}"))));
    assert!(!set_internal_error_hook(|_| unreachable!("the first hook stays")));
    let line = line!() + 2;
    async fn parse(Data(text): Data<String>) -> Result<u8, HandlerError> {
        Ok(text.parse::<u8>()?)
    }
    assert_eq!(call("12", parse), ["37[12]"]);
    assert_eq!(call("secret", parse), [r#"37[{"error":{"code":"internal","message":"internal error"}}]"#]);
    let told = TOLD.lock().unwrap().clone();
    let told: Vec<_> = told.iter().filter(|told| told.contains("InvalidDigit")).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with(&format!("tests/handlers.rs:{line}:12")), "{told:?}");
}

#[test]
fn an_absent_value_gets_a_code_and_a_message() {
    async fn find(Data(n): Data<usize>) -> Result<&'static str, HandlerError> {
        let name = ["ann", "5"].get(n).or_error("unknown", "nobody is there")?;
        name.parse::<u8>().or_error("no_number", format!("{name} is no number"))?;
        Ok(name)
    }
    assert_eq!(call(1, find), [r#"37["5"]"#]);
    assert_eq!(call(2, find), [r#"37[{"error":{"code":"unknown","message":"nobody is there"}}]"#]);
    assert_eq!(call(0, find), [r#"37[{"error":{"code":"no_number","message":"ann is no number"}}]"#]);
}

#[test]
fn an_answer_is_read_as_the_type_or_as_the_standard_error() {
    assert_eq!(read::<i64>(5), Ok(5));
    assert_eq!(read::<(i64, String)>((5, "x")), Ok((5, "x".to_owned())));
    assert_eq!(read::<()>(()), Ok(()));
    let error = HandlerError::new("full", "no seat left").details([1]);
    assert_eq!(read::<()>(&error), Err(AckError::Refused(error.clone())));
    assert_eq!(read::<Value>(&error), Err(AckError::Refused(error.clone())));
    assert_eq!(read::<()>(&error).unwrap_err().to_string(), "the peer answered with an error: full: no seat left");
    // Not the standard shape: no code, more keys, more arguments.
    for json in [r#"{"error":{"message":"m"}}"#, r#"{"error":{"code":"c","message":"m"},"more":1}"#, r#"{"error":"e"}"#]
    {
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(read::<Value>(&value), Ok(value));
    }
    assert_eq!(read::<(Value, u8)>((&error, 1)).unwrap().1, 1);
    assert!(matches!(read::<i64>("x"), Err(AckError::Decode(_))));
    assert!(matches!(read::<i64>(()), Err(AckError::Decode(_))));

    fn read<T: serde::de::DeserializeOwned>(answer: impl Serialize) -> Result<T, AckError> {
        decode_ack(&OwnedArgs::ack(&answer).unwrap())
    }
}
