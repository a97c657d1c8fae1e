//! The opening handshake, by tables of headers. Ids such as W01 name rows of the catalogue of hostile inputs.

use engineio_proto::ws::deflate::{Agreement, Options, refuse_any};
use engineio_proto::ws::handshake::{
    RequestLine, ResponseError, accept_key, check_request, client_key, verify_response,
};

type Table = Vec<(&'static str, String)>;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const LINE: RequestLine<'static> = RequestLine { method: "GET", http_1_1: true, has_body: false };

fn good() -> Table {
    vec![
        ("Host", "example.com".into()),
        ("Upgrade", "websocket".into()),
        ("Connection", "Upgrade".into()),
        ("Sec-WebSocket-Key", KEY.into()),
        ("Sec-WebSocket-Version", "13".into()),
    ]
}

/// The good request with one header replaced by these values.
fn with(name: &'static str, values: &[&str]) -> Table {
    let mut table = good();
    table.retain(|(key, _)| *key != name);
    table.extend(values.iter().map(|value| (name, (*value).to_owned())));
    table
}

#[track_caller]
fn refused(table: &Table, message: &str) {
    let refusal = check_request(LINE, table.as_slice()).expect_err("a refusal");
    assert_eq!((refusal.status, refusal.message), (400, message), "{table:?}");
}

#[track_caller]
fn accepted(table: &Table, protocols: &[&str]) {
    let accepted = check_request(LINE, table.as_slice()).expect("a handshake");
    assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(accepted.protocols, protocols, "{table:?}");
}

#[test]
fn the_specifications_example() {
    assert_eq!(accept_key(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(client_key(*b"the sample nonce"), KEY);
    accepted(&good(), &[]);
}

#[test]
fn w01_keys() {
    let message = "Missing or invalid Sec-WebSocket-Key header";
    for values in [
        &[][..],
        &["short"],
        &["!!!!!!!!!!!!!!!!!!!!!!!!"],
        &[""],
        &["dGhlIHNhbXBsZSBub25jZQ="],
        &["dGhlIHNhbXBsZSBub25jZQ"],
        &["dGhlIHNhbXBsZSBub25jZQ==="],
        &["dGhlIHNhbXBsZSBub25jZSE="],
        &["dGhlIHNhbXBsZSBub25jZSEh"],
        &["dGhlIHNhbXBsZSBub25j-_=="],
        &[KEY, KEY],
    ] {
        refused(&with("Sec-WebSocket-Key", values), message);
    }
    accepted(&with("Sec-WebSocket-Key", &[" dGhlIHNhbXBsZSBub25jZQ==\t"]), &[]);
}

#[test]
fn w02_versions() {
    for values in [&[][..], &["12"], &["8"], &["1337"], &["013"], &["13, 8"], &["13", "13"], &[""]] {
        let table = with("Sec-WebSocket-Version", values);
        refused(&table, "Missing or invalid Sec-WebSocket-Version header");
        let refusal = check_request(LINE, table.as_slice()).expect_err("a refusal");
        assert_eq!(refusal.headers, [("Sec-WebSocket-Version", "13")]);
    }
}

#[test]
fn w04_w05_w06_upgrade_and_connection() {
    for values in [&[][..], &["foo"], &["websocket, x"], &["websockets"], &[""], &["websocket", "websocket"]] {
        refused(&with("Upgrade", values), "Invalid Upgrade header");
    }
    for value in ["WebSocket", " websocket "] {
        accepted(&with("Upgrade", &[value]), &[]);
    }
    for values in [&[][..], &["close"], &["keep-alive"], &["Upgraded"], &["not upgrade"], &[""]] {
        refused(&with("Connection", values), "Invalid Connection header");
    }
    for values in [&["keep-alive, Upgrade"][..], &["upgrade"], &["keep-alive", "UPGRADE"], &[",upgrade ,"]] {
        accepted(&with("Connection", values), &[]);
    }
}

#[test]
fn w08_w33_subprotocols() {
    let spaces = format!("b{}x", " ".repeat(8_000));
    let many = (0..4_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    for value in [&*spaces, ",,", "a,a", "a,,b", ",a", "a,", "", "a b", "a;b", "é", "a\"b\"", &format!("{many},77")] {
        refused(&with("Sec-WebSocket-Protocol", &[value]), "Invalid Sec-WebSocket-Protocol header");
    }
    refused(&with("Sec-WebSocket-Protocol", &["a", "b, a"]), "Invalid Sec-WebSocket-Protocol header");
    accepted(&with("Sec-WebSocket-Protocol", &["zebra"]), &["zebra"]);
    accepted(&with("Sec-WebSocket-Protocol", &[" b ,\ta,B", "c"]), &["b", "a", "B", "c"]);
    accepted(&with("Sec-WebSocket-Protocol", &[&many]), &many.split(',').collect::<Vec<_>>());
}

#[test]
fn w10_extensions_are_nobodys_business_without_compression() {
    for value in ["constructor", "permessage-deflate; a=\";", ",", ""] {
        accepted(&with("Sec-WebSocket-Extensions", &[value]), &[]);
    }
}

#[test]
fn w11_only_a_bodyless_get_of_http_1_1() {
    for (line, message) in [
        (RequestLine { method: "POST", ..LINE }, "Invalid HTTP method"),
        (RequestLine { method: "get", ..LINE }, "Invalid HTTP method"),
        (RequestLine { http_1_1: false, ..LINE }, "Invalid HTTP version"),
        (RequestLine { has_body: true, ..LINE }, "A WebSocket handshake has no body"),
    ] {
        let refusal = check_request(line, good().as_slice()).expect_err("a refusal");
        assert_eq!((refusal.status, refusal.message), (400, message));
    }
}

#[test]
fn a_client_checks_the_response() {
    let good = || -> Table {
        vec![
            ("Upgrade", "websocket".into()),
            ("Connection", "upgrade".into()),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into()),
        ]
    };
    let with = |name, value: &str| {
        let mut table = good();
        table.retain(|(key, _)| *key != name);
        table.push((name, value.into()));
        table
    };
    check(101, good(), &[], Ok(None));
    check(200, good(), &[], Err(ResponseError::Status(200)));
    check(101, with("Upgrade", "h2c"), &[], Err(ResponseError::Upgrade));
    check(101, with("Connection", "close"), &[], Err(ResponseError::Connection));
    check(101, with("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="), &[], Err(ResponseError::Accept));
    check(101, with("Sec-WebSocket-Accept", "S3PPLMBITXAQ9KYGZZHZRBK+XOO="), &[], Err(ResponseError::Accept));
    check(101, good()[..2].to_vec(), &[], Err(ResponseError::Accept));
    check(101, good(), &["chat"], Err(ResponseError::NoProtocol));
    check(101, with("Sec-WebSocket-Protocol", "chat"), &["x", "chat"], Ok(Some("chat")));
    check(101, with("Sec-WebSocket-Protocol", "chat"), &[], Err(ResponseError::Protocol));
    check(101, with("Sec-WebSocket-Protocol", "Chat"), &["chat"], Err(ResponseError::Protocol));
    check(101, with("Sec-WebSocket-Protocol", "chat, x"), &["x", "chat"], Err(ResponseError::Protocol));

    #[track_caller]
    fn check(status: u16, table: Table, offered: &[&str], want: Result<Option<&str>, ResponseError>) {
        assert_eq!(verify_response(status, table.as_slice(), KEY, offered), want, "{table:?}");
    }
}

const PLAIN: Options = Options {
    threshold: 1_024,
    level: 6,
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

#[test]
fn d06_d07_a_server_answers_offers() {
    check(&["permessage-deflate"], "permessage-deflate");
    check(&["permessage-deflate; client_max_window_bits"], "permessage-deflate");
    check(&["permessage-deflate;client_max_window_bits=15"], "permessage-deflate");
    check(&["permessage-deflate; client_max_window_bits=8"], "permessage-deflate; client_max_window_bits=8");
    check(
        &["permessage-deflate; server_max_window_bits=10; client_max_window_bits = \"11\""],
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11",
    );
    check(
        &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    );
    // What cannot be honoured is passed over; the first offer that can be wins.
    for declined in [
        "constructor",
        "__proto__; constructor",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflate; foo",
        "permessage-deflate; foo=1",
        "permessage-deflate; constructor",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=-9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    ] {
        check(&[declined], "declined");
        let both = format!("{declined}, permessage-deflate; server_max_window_bits=9, permessage-deflate");
        check(&[&both], "permessage-deflate; server_max_window_bits=9");
        check(&[declined, "permessage-deflate"], "permessage-deflate");
    }
    // What is no list of extensions at all is refused, wherever it comes.
    for bad in [",", "permessage-deflate;", "permessage-deflate,", "", "permessage-deflate; a=\";", "a b"] {
        check(&[bad], "refused");
        check(&["permessage-deflate", bad], "refused");
    }

    #[track_caller]
    fn check(values: &[&str], want: &str) {
        let got = match PLAIN.accept_offer(values.iter().map(|value| value.as_bytes())) {
            Ok(Some(agreement)) => agreement.header_value(),
            Ok(None) => "declined".to_owned(),
            Err(refusal) => {
                assert_eq!(refusal.status, 400);
                assert_eq!(refusal.message, "Invalid or unacceptable Sec-WebSocket-Extensions header");
                "refused".to_owned()
            }
        };
        assert_eq!(got, want, "{values:?}");
    }
}

#[test]
fn a_servers_own_wishes_are_part_of_the_answer() {
    let defaults = Options::default();
    check(&defaults, "", "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    let narrow = Options { server_max_window_bits: 11, client_max_window_bits: 10, ..PLAIN };
    check(&narrow, "", "declined");
    check(
        &narrow,
        "; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10",
    );
    check(
        &narrow,
        "; server_max_window_bits=12; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=11; client_max_window_bits=9",
    );

    #[track_caller]
    fn check(options: &Options, offer: &str, want: &str) {
        let offer = format!("permessage-deflate{offer}");
        let answer = options.accept_offer([offer.as_bytes()]).expect("good grammar");
        assert_eq!(answer.map_or("declined".to_owned(), |answer| answer.header_value()), want);
    }
}

#[test]
fn a_client_offers_and_checks_the_answer() {
    assert_eq!(PLAIN.offer(), "permessage-deflate; client_max_window_bits");
    assert_eq!(
        Options { server_max_window_bits: 12, client_max_window_bits: 11, ..Options::default() }.offer(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; \
         client_max_window_bits=11"
    );
    let plain = Agreement {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    check(&PLAIN, &[], Ok(None));
    check(&PLAIN, &["permessage-deflate"], Ok(Some(plain)));
    check(
        &PLAIN,
        &["permessage-deflate; server_max_window_bits=8; client_max_window_bits=8; server_no_context_takeover"],
        Ok(Some(Agreement {
            server_no_context_takeover: true,
            server_max_window_bits: 8,
            client_max_window_bits: 8,
            ..plain
        })),
    );
    let narrow = Options { server_max_window_bits: 10, client_max_window_bits: 10, ..Options::default() };
    check(
        &narrow,
        &["permessage-deflate"],
        Ok(Some(Agreement { client_no_context_takeover: true, client_max_window_bits: 10, ..plain })),
    );
    check(&narrow, &["permessage-deflate; server_max_window_bits=11"], Err(ResponseError::Extensions));
    for bad in [
        "",
        "foo",
        "permessage-deflate; foo",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover=1",
    ] {
        check(&PLAIN, &[bad], Err(ResponseError::Extensions));
    }
    assert_eq!(refuse_any([]), Ok(()));
    assert_eq!(refuse_any([&b"permessage-deflate"[..]]), Err(ResponseError::Extensions));

    #[track_caller]
    fn check(options: &Options, values: &[&str], want: Result<Option<Agreement>, ResponseError>) {
        assert_eq!(options.check_response(values.iter().map(|value| value.as_bytes())), want, "{values:?}");
    }
}
