use socketio_core::Event;

#[derive(Event)]
struct NoName;

#[derive(Event)]
#[event(ack = u8)]
struct NoNameEither;

#[derive(Event)]
#[event(name = "")]
struct EmptyName;

#[derive(Event)]
#[event(name = "disconnect")]
struct Reserved;

#[derive(Event)]
#[event(name = 5)]
struct NoString;

#[derive(Event)]
#[event(nmae = "a")]
struct Misspelt;

#[derive(Event)]
#[event(name = "a", name = "b")]
struct Twice;

#[derive(Event)]
#[event = "a"]
struct NoList;

#[derive(Event)]
#[event(name = "a")]
union Union {
    a: u8,
    b: u8,
}

fn main() {}
