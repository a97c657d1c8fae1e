//! The good client: what must still work after every row.

use std::net::SocketAddr;

use crate::bytes::show;
use crate::wire::{Wire, masked};

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Connects over WebSocket and over polling, and has something echoed.
pub(crate) fn client(address: SocketAddr, profile: &str) -> Result<(), String> {
    if profile != "polling-only" {
        websocket(address, profile)?;
    }
    polling(address)
}

fn websocket(address: SocketAddr, profile: &str) -> Result<(), String> {
    let mut wire = upgrade(address, "/socket.io/?EIO=4&transport=websocket", "")?;
    expect_text(&mut wire, "0{")?;
    if profile == "msgpack" {
        // {"type":0,"nsp":"/"} and back, then the event "echo-ack" with an id.
        wire.send(&masked(0x82, b"\x82\xa4type\x00\xa3nsp\xa1/"))?;
        expect_binary(&mut wire, b"\xa3sid")?;
        expect_binary(&mut wire, b"\xa5hello")?;
        wire.send(&masked(0x82, b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x09\xa4data\x92\xa8echo-ack\xa4good"))?;
        return expect_binary(&mut wire, b"\xa4good");
    }
    wire.send(&masked(0x81, b"40"))?;
    expect_text(&mut wire, "40{\"sid\":\"")?;
    expect_text(&mut wire, "42[\"hello\",")?;
    wire.send(&masked(0x81, b"429[\"echo-ack\",\"good\"]"))?;
    expect_text(&mut wire, "439[\"good\"]")
}

fn polling(address: SocketAddr) -> Result<(), String> {
    let mut wire = Wire::open(address)?;
    wire.send(format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let response = wire.response(false)?;
    match response.body.starts_with(b"0{\"sid\":\"") {
        true => Ok(()),
        false => Err(format!("{} {}", response.status, show(&response.body))),
    }
}

/// Opens a WebSocket connection and checks the server's answer.
pub(crate) fn upgrade(address: SocketAddr, target: &str, headers: &str) -> Result<Wire, String> {
    let mut wire = Wire::open(address)?;
    wire.send(upgrade_request(address, target, headers).as_bytes())?;
    let response = wire.response(false)?;
    if response.status != 101 || response.header("sec-websocket-accept") != Some(ACCEPT) {
        return Err(format!("{target}: {} {}", response.status, show(&response.body)));
    }
    Ok(wire)
}

/// The bytes of a proper upgrade request; `headers` are whole lines.
pub(crate) fn upgrade_request(address: SocketAddr, target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

fn expect_text(wire: &mut Wire, begin: &str) -> Result<(), String> {
    loop {
        let frame = wire.frame()?.ok_or_else(|| format!("the connection ended instead of `{begin}`"))?;
        match frame.opcode {
            // The server may ping in between.
            1 if frame.payload == b"2" && begin != "2" => wire.send(&masked(0x81, b"3"))?,
            1 if frame.payload.starts_with(begin.as_bytes()) => return Ok(()),
            _ => return Err(format!("{frame:?} instead of `{begin}`")),
        }
    }
}

fn expect_binary(wire: &mut Wire, part: &[u8]) -> Result<(), String> {
    loop {
        let frame = wire.frame()?.ok_or_else(|| format!("the connection ended instead of {}", show(part)))?;
        match frame.opcode {
            1 if frame.payload == b"2" => wire.send(&masked(0x81, b"3"))?,
            2 if crate::wire::find(&frame.payload, part).is_some() => return Ok(()),
            _ => return Err(format!("{} instead of {}", show(&frame.payload), show(part))),
        }
    }
}
