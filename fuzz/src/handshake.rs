//! The WebSocket handshake and the negotiation of compression. The input is a head: a line with the method and perhaps
//! `1.0` or `body`, then headers.

use engineio_proto::ws::{
    deflate::{Options, refuse_any},
    handshake::{RequestLine, ResponseError, accept_key, check_request, verify_response},
};

type Header<'a> = (String, &'a [u8]);

/// Requests and responses that may become a WebSocket.
pub fn ws_handshake(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers: Vec<Header<'_>> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let value = line.get(colon + 1..).unwrap_or_default();
            Some((String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), value))
        })
        .collect();
    request(&first, &headers);
    response(&headers);
    extensions(&headers);
}

/// The values of a header.
fn values<'a>(headers: &[Header<'a>], name: &str) -> Vec<&'a [u8]> {
    headers.iter().filter(|(key, _)| key == name).map(|(_, value)| *value).collect()
}

/// The only value of a header, in lower case.
fn only(headers: &[Header<'_>], name: &str) -> Option<String> {
    match values(headers, name)[..] {
        [value] => Some(String::from_utf8_lossy(value).trim_matches([' ', '\t']).to_ascii_lowercase()),
        _ => None,
    }
}

fn says_upgrade(headers: &[Header<'_>]) -> bool {
    let connection = values(headers, "connection").join(&b',');
    let connection = String::from_utf8_lossy(&connection).to_ascii_lowercase();
    only(headers, "upgrade").as_deref() == Some("websocket")
        && connection.split(',').any(|option| option.trim_matches([' ', '\t']) == "upgrade")
}

fn request(first: &str, headers: &[Header<'_>]) {
    let method = first.split(' ').next().unwrap_or_default();
    let line = RequestLine { method, http_1_1: !first.contains("1.0"), has_body: first.contains("body") };
    match check_request(line, headers) {
        Ok(accepted) => {
            assert!(method == "GET" && line.http_1_1 && !line.has_body && says_upgrade(headers));
            assert_eq!(only(headers, "sec-websocket-version").as_deref(), Some("13"));
            let [key] = values(headers, "sec-websocket-key")[..] else { panic!("one key") };
            let key = String::from_utf8_lossy(key);
            let key = key.trim_matches([' ', '\t']);
            assert!(key.len() == 24 && key.ends_with("=="));
            assert_eq!((accepted.accept.as_str(), accepted.accept.len()), (accept_key(key.as_bytes()).as_str(), 28));
            for (at, protocol) in accepted.protocols.iter().enumerate() {
                assert!(!protocol.is_empty() && protocol.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
                assert!(!accepted.protocols[..at].contains(protocol));
            }
            // A server's answer to it, the first subprotocol chosen.
            let chosen = accepted.protocols.first().copied();
            let mut answer: Vec<(&str, &str)> =
                vec![("connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", &accepted.accept)];
            answer.extend(chosen.map(|protocol| ("Sec-WebSocket-Protocol", protocol)));
            assert_eq!(verify_response(101, answer.as_slice(), key, &accepted.protocols), Ok(chosen));
            assert_eq!(
                verify_response(200, answer.as_slice(), key, &accepted.protocols),
                Err(ResponseError::Status(200))
            );
        }
        Err(refusal) => {
            assert_eq!(refusal.status, 400);
            assert!(!refusal.message.is_empty() && refusal.to_string() == refusal.message);
        }
    }
}

fn response(headers: &[Header<'_>]) {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const OFFERED: [&str; 2] = ["chat", "superchat"];
    for offered in [&OFFERED[..], &[]] {
        if let Ok(chosen) = verify_response(101, headers, KEY, offered) {
            assert!(says_upgrade(headers));
            assert_eq!(only(headers, "sec-websocket-accept").as_deref(), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
            assert!(chosen.map_or(offered.is_empty(), |chosen| offered.contains(&chosen)));
        }
    }
}

/// Servers and clients with several wishes: what one agrees to suits the other.
fn extensions(headers: &[Header<'_>]) {
    let offers = values(headers, "sec-websocket-extensions");
    assert_eq!(refuse_any(offers.iter().copied()).is_ok(), offers.is_empty());
    let wishes = [
        Options::default(),
        Options {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 11,
            client_max_window_bits: 12,
            ..Options::default()
        },
    ];
    for server in &wishes {
        let Ok(Some(agreed)) = server.accept_offer(offers.iter().copied()) else { continue };
        assert!((9..=15).contains(&agreed.server_max_window_bits) && (8..=15).contains(&agreed.client_max_window_bits));
        assert!(agreed.server_max_window_bits <= server.server_max_window_bits);
        assert!(agreed.client_max_window_bits <= server.client_max_window_bits);
        assert!(agreed.server_no_context_takeover >= server.server_no_context_takeover);
        let wanted = String::from_utf8_lossy(&offers.join(&b',')).into_owned();
        assert!(wanted.contains("permessage-deflate"));
        let value = agreed.header_value();
        let generous =
            Options { server_no_context_takeover: false, client_no_context_takeover: false, ..Options::default() };
        assert_eq!(generous.check_response([value.as_bytes()]), Ok(Some(agreed)), "{value}");
    }
    for client in &wishes {
        let offer = client.offer();
        for server in &wishes {
            let agreed = server.accept_offer([offer.as_bytes()]).expect("well-formed").expect("acceptable");
            assert_eq!(client.check_response([agreed.header_value().as_bytes()]), Ok(Some(agreed)), "{offer}");
        }
        if let Ok(Some(agreed)) = client.check_response(offers.iter().copied()) {
            assert!((8..=15).contains(&agreed.server_max_window_bits) && agreed.client_max_window_bits >= 8);
            assert!(agreed.client_max_window_bits <= client.client_max_window_bits);
            assert!(agreed.client_no_context_takeover >= client.client_no_context_takeover);
        }
    }
}
